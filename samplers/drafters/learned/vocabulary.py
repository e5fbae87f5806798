"""A model's output embedding with a shortened vocabulary, and guesses ranked within the grammar.

The output embedding of a small model costs more than a draft's own layer: 49,152 rows of 576 numbers
beside 3.5 million weights.  Nearly all that a model says is said with few of its tokens, so drafts are
made of those, and of what the grammar allows where that is not much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from samplers.drafters.base import Context
from samplers.drafters.learned.products import Matrix
from samplers.drafters.recursive import may_go_on
from samplers.speculative.target import Weighting

_FEW: Final = 256
"""With so few tokens allowed their own rows of the embedding are read, wherever they are."""

Guesses: TypeAlias = list[tuple[int, float]]
"""Tokens with their probabilities, likeliest first."""


def frequent(texts: Iterable[tuple[Sequence[int], int]], size: int, columns: int) -> list[int]:
    """The most frequent tokens of answers, ascending.

    Args:
        texts: token ids, each with the number of those given, which are not counted.
        size: how many; where fewer occur the lowest ids fill up, which byte pair encoding gave to what
            it met most.
        columns: V.
    """
    counts = Counter(token for tokens, given in texts for token in tokens[given:])
    chosen = {token for token, _ in counts.most_common(size)}
    for token in range(columns):
        if len(chosen) >= min(size, columns):
            break
        chosen.add(token)
    return sorted(chosen)


class Output:
    """A model's output embedding, all of its rows or some.

    Args:
        model: whose embedding is used; it is never trained.
        ids: int64[K], the rows that drafts are made of, ascending; ``None`` for all.

    Raises:
        ValueError: if the model has no output embedding, or an id is none of its tokens.
    """

    def __init__(self, model: Any, ids: torch.Tensor | None = None) -> None:
        embedding = model.get_output_embeddings()
        if embedding is None:
            raise ValueError(f"{type(model).__name__} has no output embedding")
        self._all = embedding.weight.detach()
        self._bias = None if embedding.bias is None else embedding.bias.detach().float()
        self.ids = ids
        columns = len(self._all)
        if ids is not None and len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < columns:
            raise ValueError(f"vocabulary: ids must be from 0 to {columns - 1:,}")
        self.rows = self._all if ids is None else self._all[ids.to(self._all.device)]
        self._matrix = Matrix(self.rows)
        self._some = self._bias if self._bias is None or ids is None else self._bias[ids]
        self._at = np.arange(columns)
        if ids is not None:
            self._at = np.full(columns, -1)
            self._at[ids.cpu().numpy()] = np.arange(len(ids))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def numbers(self) -> Any:
        """int64[V], the column of each token among those of :meth:`logits`; -1 where it has none."""
        return self._at

    def logits(self, y: torch.Tensor) -> torch.Tensor:
        """Logits float32[n, K], from states floating[n, H], by weights in the model's own dtype."""
        found = self._matrix(y)
        return found if self._some is None else found + self._some

    def token(self, column: int) -> int:
        """The token of a column of :meth:`logits`."""
        return column if self.ids is None else int(self.ids[column])

    def ranked(
        self, context: Context, nodes: Sequence[int], y: torch.Tensor, count: int
    ) -> list[Guesses]:
        """The likeliest tokens after some nodes, among what the target allows there.

        Args:
            context: where the row is.
            nodes: of ``context.tree``, or ``ROOT``.
            y: float32[n, H], a state for each of them.
            count: guesses for each, at most.
        """
        heat = context.sampling.temperature or 1.0
        logits = self.logits(y) / heat
        if not bool((logits < torch.inf).all()):  # nor where one is NaN: such weights draft nothing
            return [[] for _ in nodes]
        best, at = (part.cpu() for part in logits.topk(min(count, logits.shape[-1])))
        shares = (best - logits.logsumexp(-1, keepdim=True).cpu()).exp().tolist()
        made: list[Guesses] = []
        for i, node in enumerate(nodes):
            if not may_go_on(context, node):
                made.append([])
                continue
            left = context.tokens_left - context.tree.depth(node)
            weighting = context.target.weighting(context.tree.state(node), left)
            if weighting.ids is None and weighting.log_weights is None:
                tokens = [self.token(column) for column in at[i].tolist()]
                made.append(list(zip(tokens, shares[i], strict=True)))
            else:
                made.append(self._within(weighting, logits[i], y[i], count, heat))
        return made

    def _within(
        self, weighting: Weighting, logits: torch.Tensor, y: torch.Tensor, count: int, heat: float
    ) -> Guesses:
        """The likeliest of the tokens that have a weight."""
        allowed = np.arange(len(self._at)) if weighting.ids is None else weighting.ids
        logs = weighting.log_weights
        if len(allowed) <= _FEW:
            rows = self._all[torch.from_numpy(allowed).to(self._all.device)].float()
            found = rows @ y
            if self._bias is not None:
                found = found + self._bias[torch.from_numpy(allowed).to(found.device)]
            scores = found.cpu().double().numpy() / heat
        else:
            columns = self._at[allowed]
            known = columns >= 0
            allowed, columns = allowed[known], columns[known]
            logs = None if logs is None else logs[known]
            scores = logits.cpu().double().numpy()[columns]
        if not len(allowed):
            return []
        if logs is not None:
            scores = scores + logs
        weights = np.exp(scores - scores.max())
        total = float(weights.sum())
        if len(weights) > count:
            few = np.argpartition(-weights, count - 1)[:count]
        else:
            few = np.arange(len(weights))
        order = few[np.argsort(-weights[few], kind="stable")].tolist()
        return [(int(allowed[j]), float(weights[j]) / total) for j in order if weights[j] > 0]
