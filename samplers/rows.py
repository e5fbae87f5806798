"""Next-token logits of several texts that share a prompt, within the backend's bounds on memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from samplers.backend import SpeculativeBackend, no_room
from samplers.speculative.common import common_length
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.tree import ROOT, Tree

Text: TypeAlias = tuple[int, ...]


def rows_within(backend: SpeculativeBackend, wanted: int, prefix: int, behind: int) -> int:
    """How many rows the backend's ``max_rows`` and ``max_kv_bytes`` allow, at least one.

    Args:
        backend: whose bounds they are.
        wanted: rows that would be used.
        prefix: tokens that all rows begin with, which count once where rows share them.
        behind: tokens of each row after them.

    Raises:
        BudgetError: if ``max_kv_bytes`` has no room for one row.
    """
    rows = backend.rows_within(wanted, prefix, behind)
    if not rows:
        tokens = prefix + behind
        needed = tokens * backend.bytes_per_token
        raise no_room(needed, backend.max_kv_bytes or 0, tokens)
    return rows


class Rows:
    """A cache of some rows that answers for any number of texts.

    A text is scored in the row that holds most of it already; equal texts are scored once.  Where
    there are more texts than rows, rows go back and read again what they no longer hold.

    Args:
        backend: the model.
        ids: the prompt.
        budget: new tokens of a text, at most.
        wanted: rows that would be used; fewer are where the backend's bounds say so.

    Raises:
        BudgetError: if ``max_kv_bytes`` has no room for one row.
    """

    def __init__(
        self, backend: SpeculativeBackend, ids: Sequence[int], budget: int, wanted: int
    ) -> None:
        capacity = len(ids) + budget
        self._backend = backend
        self._first = ids[-1]
        self._before = len(ids) - 1
        self.limit = rows_within(backend, wanted, self._before, 1 + budget)
        self.scorer: TreeScorer = backend.read(list(ids[:-1]), capacity, self.limit)
        self._held: list[Text] = [()]

    @property
    def nbytes(self) -> int:
        """Memory of keys and values, in bytes."""
        return self.scorer.cache.nbytes

    def logits(self, texts: Sequence[Text]) -> dict[Text, Any]:
        """Logits [V'] after each text (new tokens, without the prompt)."""
        distinct = list(dict.fromkeys(texts))
        out: dict[Text, Any] = {}
        for begin in range(0, len(distinct), self.limit):
            out |= self._score(distinct[begin : begin + self.limit])
        return out

    def _score(self, texts: Sequence[Text]) -> dict[Text, Any]:
        wanted = [(self._first, *text) for text in texts]
        sources, kept = [], []
        for tokens in wanted:
            shared = [common_length(held, tokens[:-1]) for held in self._held]
            sources.append(max(range(len(shared)), key=shared.__getitem__))
            kept.append(shared[sources[-1]])
        # rows are padded to the longest rest: going back equally far keeps them within the capacity
        keep = min(kept)
        if sources != list(range(len(self._held))):
            self.scorer.select(sources)
        for row in range(len(wanted)):
            self.scorer.rollback(row, self._before + keep)
        scores = self.scorer.score([Request(list(t[keep:]), Tree(None)) for t in wanted])
        self._backend.forwards += 1
        self.scorer.commit([[] for _ in wanted])
        self._held = wanted
        return {text: scores.at(row, ROOT) for row, text in enumerate(texts)}
