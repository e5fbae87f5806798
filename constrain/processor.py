"""A grammar as a ``LogitsProcessor`` for ``generate``."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from transformers import LogitsProcessor

from constrain.automaton import TokenAutomaton, fill_masks
from constrain.bitmask import allocate_bitmask, apply_bitmask_
from grammars.errors import BudgetError

_Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass
class _Row:
    """One row of the batch as it was at the last call.

    Attributes:
        ids: all its tokens, prompt included.
        states: the automaton's state after 0, 1, ... tokens behind the prompt.
    """

    ids: _Ids
    states: list[int]


class GrammarLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Allows only tokens that lead to a text of the grammar.

    What counts as constrained text is what ``generate`` adds; prompt tokens are not part of it.
    The same object may be used for any number of calls, one after the other.  It serves batches
    (left padding included), ``num_beams``, ``num_return_sequences``, assisted decoding and prompt
    lookup: at every call each row is compared, token by token, with the rows of the call before.  A
    row that goes on from one of them by at most one token, or goes back, is a continuation;
    otherwise all rows are new prompts.  Only if a new prompt happens to be the old one plus text
    just generated would that be taken for a continuation: call :meth:`reset` between the two.

    Where nothing is allowed but the end, EOS is forced; a row never loses its last finite logit.

    Args:
        automaton: one for all rows, or one for each prompt in the batch (rows of the same prompt,
            beams for example, lie side by side and share it).
        max_new_tokens: the budget, EOS included; give ``generate`` the same number.  Every text is
            then complete within it.  Without it a text may be cut off by ``generate``'s limit, which
            a processor cannot see; a warning says so once.

    Raises:
        BudgetError: at the first call, if the shortest text does not fit the budget.

    Attributes:
        mask_seconds: time spent on masks since it was made.
    """

    def __init__(
        self,
        automaton: TokenAutomaton | Sequence[TokenAutomaton],
        *,
        max_new_tokens: int | None = None,
    ) -> None:
        many = [automaton] if isinstance(automaton, TokenAutomaton) else list(automaton)
        if not many:
            raise ValueError("at least one automaton is needed")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}: must be at least 1")
        self.automata: Final = tuple(many)
        self.max_new_tokens: Final = max_new_tokens
        self.mask_seconds = 0.0
        self._rows: list[_Row] = []
        self._prompt_length = 0
        self._warned = False

    def reset(self) -> None:
        """Forgets the last call: the next one begins with new prompts."""
        self._rows = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Masks the scores.

        Args:
            input_ids: int64[rows, length], prompts and what was generated so far.
            scores: floating[rows, V'], V' at least the largest token id that has bytes.

        Returns:
            A copy of ``scores``, minus infinity where a token is not allowed.
        """
        began = time.perf_counter()
        ids = input_ids.detach().to("cpu", torch.int64).numpy()
        automata = self._automata_for(len(ids))
        self._check_width(automata, scores.shape[-1])
        rows = self._continued(ids, automata)
        if rows is None:
            rows = self._begin(ids, automata)
        self._rows = rows
        bitmask = self._bitmask(rows, automata, ids.shape[1] - self._prompt_length)
        out = _masked(scores, bitmask)
        self.mask_seconds += time.perf_counter() - began
        return out

    # -- where the rows are --------------------------------------------------------------------

    def _automata_for(self, rows: int) -> list[TokenAutomaton]:
        each, rest = divmod(rows, len(self.automata))
        if rest or not each:
            raise ValueError(
                f"{rows} rows cannot be shared out among {len(self.automata)} automata; give one "
                "for all rows, or one for each prompt of the batch"
            )
        return [a for a in self.automata for _ in range(each)]

    def _begin(self, ids: _Ids, automata: list[TokenAutomaton]) -> list[_Row]:
        """All rows are prompts."""
        self._prompt_length = ids.shape[1]
        self._check_budget()
        return [_Row(row, [a.start]) for row, a in zip(ids, automata, strict=True)]

    def _check_budget(self) -> None:
        if self.max_new_tokens is None:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    "GrammarLogitsProcessor has no max_new_tokens and cannot see generate's own "
                    "limit, so that texts may be cut off; pass the same max_new_tokens to both",
                    stacklevel=4,
                )
            return
        for automaton in self.automata:
            check_budget(automaton, self.max_new_tokens)

    def _continued(self, ids: _Ids, automata: list[TokenAutomaton]) -> list[_Row] | None:
        """The rows as continuations of those of the last call; ``None`` if one is not."""
        if len(ids) != len(self._rows) or ids.shape[1] < self._prompt_length:
            return None
        out: list[_Row] = []
        for i, row in enumerate(ids):
            found = self._ancestor(i, row, automata)
            if found is None:
                return None
            before, kept = found
            states = before.states[: kept - self._prompt_length + 1]
            if kept < len(row):
                states.append(_next(automata[i], states[-1], int(row[kept])))
            out.append(_Row(row, states))
        return out

    def _ancestor(
        self, i: int, row: _Ids, automata: list[TokenAutomaton]
    ) -> tuple[_Row, int] | None:
        """A former row of which this one keeps all but at most its last token, and how much."""
        candidates = [self._rows[i]]
        candidates += [r for j, r in enumerate(self._rows) if j != i and automata[j] is automata[i]]
        for before in candidates:
            kept = _common_prefix(before.ids, row)
            if kept >= max(len(row) - 1, self._prompt_length):
                return before, kept
        return None

    # -- masks ---------------------------------------------------------------------------------

    def _bitmask(
        self, rows: list[_Row], automata: list[TokenAutomaton], generated: int
    ) -> torch.Tensor:
        widest = max(a.vocabulary.size for a in automata)
        bitmask = allocate_bitmask(len(rows), widest)
        left = None if self.max_new_tokens is None else self.max_new_tokens - generated
        table = bitmask.numpy()
        words = {-(-a.vocabulary.size // 32) for a in automata}
        pairs = [(a, row.states[-1]) for a, row in zip(automata, rows, strict=True)]
        if len(words) == 1:
            fill_masks(pairs, table, left)
        else:
            for (automaton, state), line in zip(pairs, table, strict=True):
                automaton.fill_mask(state, line[: -(-automaton.vocabulary.size // 32)], left)
        for (automaton, state), line in zip(pairs, table, strict=True):
            if line.any():
                continue
            if state != automaton.DEAD and (left is None or left > 0):
                raise RuntimeError(
                    "no token is allowed though the text is not complete; this is a defect of "
                    "gramma, please report it with the grammar and the tokenizer"
                )
            # a token beside the grammar was put here, or generate goes on beyond the budget
            automaton.fill_mask(automaton.FINISHED, line[: -(-automaton.vocabulary.size // 32)])
        return bitmask

    @staticmethod
    def _check_width(automata: list[TokenAutomaton], width: int) -> None:
        for automaton in dict.fromkeys(automata):
            size = automaton.vocabulary.size
            if width < size and (
                any(automaton.vocabulary.texts[width:])
                or max(automaton.vocabulary.eos_token_ids) >= width
            ):
                raise ValueError(
                    f"the logits have {width:,} columns, but the vocabulary has tokens up to id "
                    f"{size - 1:,}; is it the tokenizer of this model?"
                )


def check_budget(automaton: TokenAutomaton, max_new_tokens: int) -> None:
    """Raises ``BudgetError`` if the shortest text and its EOS need more tokens."""
    needed = automaton.min_tokens_to_accept(automaton.start) + 1
    if needed > max_new_tokens:
        raise BudgetError(
            f"the shortest text of this grammar needs {needed} tokens, EOS included, but "
            f"max_new_tokens is {max_new_tokens}; raise it to at least {needed}",
            needed=needed,
            available=max_new_tokens,
        )


def _next(automaton: TokenAutomaton, state: int, token: int) -> int:
    """Behind the end, whatever pads the row changes nothing."""
    return state if state == automaton.FINISHED else automaton.advance(state, token)


def _common_prefix(a: _Ids, b: _Ids) -> int:
    length = min(len(a), len(b))
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if len(differs) else length


def _masked(scores: torch.Tensor, bitmask: torch.Tensor) -> torch.Tensor:
    out = apply_bitmask_(scores.clone(), bitmask)
    lost = ~torch.isfinite(out).any(dim=-1)
    if bool(lost.any()):
        # another processor ruled out all that the grammar allows: leave the choice open among it
        out[lost] = apply_bitmask_(torch.zeros_like(out[lost]), bitmask.to(out.device)[lost])
    return out
