"""The likeliest block that a grammar allows, all of its tokens chosen together.

A diffusion model's law of a block is a product over places.  Dynamic programming over the automaton's
states finds the tokens whose product is largest among those that leave a canvas that can be completed:

    W[i, q] = max over q' of W[i - 1, q'] + max over tokens t with q' -t-> q of log p_i(t),

over all places of the canvas; open places outside the block count nothing, whichever token they get.
What a schedule then commits is part of a completion, so nothing is ever refused.

Meant for regular languages, whose automata have few states.  Any other grammar works as long as its
states within one canvas stay below ``Limits.max_search_states``.

Source: Suresh et al. 2025, "DINGO: Constrained Inference for Diffusion LLMs", algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int64
from constrain.automaton import TokenAutomaton
from constrain.room import begun_again
from grammars.errors import LimitExceeded, UnknownStateError
from samplers.diffusion.draft import Logits

_DOING: Final = "choosing the likeliest block"


@dataclass(frozen=True)
class _Edges:
    """Tokens after a state, in groups that lead to one state.

    Attributes:
        tokens: int64[n], group by group.
        firsts: int64[g], where each group begins.
        group: int64[n], of each token.
        targets: the state of each group.
    """

    tokens: Int64
    firsts: Int64
    group: Int64
    targets: list[int]

    def best(self, logits: npt.NDArray[np.float64]) -> tuple[Int64, npt.NDArray[np.float64]]:
        """The best token of each group and its logit."""
        values = logits[self.tokens]
        top = np.maximum.reduceat(values, self.firsts)
        winners = np.flatnonzero(values == top[self.group])
        _, at = np.unique(self.group[winners], return_index=True)
        return self.tokens[winners[at]], top


@dataclass
class _Way:
    """The best way to a state.

    Attributes:
        score: log-probability of the block's tokens so far.
        before: the state before the last place.
        token: at the last place.
    """

    score: float
    before: int
    token: int


class Dingo:
    """See the module.

    Args:
        automaton: of the grammar.
        mask: the mask token.
        eos_padding: whether a suffix of the canvas may be EOS.
    """

    def __init__(self, automaton: TokenAutomaton, mask: int, eos_padding: bool) -> None:
        self._automaton = automaton
        self._mask = mask
        self._eos_padding = eos_padding
        self._room = automaton.limits.max_search_states
        self._known: dict[int, _Edges | None] = {}

    def __call__(self, ids: Sequence[int], places: Sequence[int], logits: Logits) -> dict[int, int]:
        """The best tokens.

        Args:
            ids: of the whole canvas, the mask token where it is open.
            places: open ones of the block.
            logits: float32[len(places), V]; only differences within a place count.

        Raises:
            LimitExceeded: if there are too many states.
            ValueError: if the canvas has no completion.
        """
        return begun_again(self._automaton, lambda: self._solved(ids, places, logits))

    def _solved(self, ids: Sequence[int], places: Sequence[int], logits: Logits) -> dict[int, int]:
        """The best tokens, by one pass over the canvas."""
        try:
            return self._passed(ids, places, logits)
        except (LimitExceeded, UnknownStateError):
            self._known.clear()  # edges lead to states that were, or will be, forgotten
            raise

    def _passed(self, ids: Sequence[int], places: Sequence[int], logits: Logits) -> dict[int, int]:
        row = {place: i for i, place in enumerate(places)}
        wide = logits.astype(np.float64)
        wide = wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)
        layers: list[dict[int, _Way]] = [{self._automaton.start: _Way(0.0, -1, -1)}]
        for i, token in enumerate(ids):
            own = wide[row[i]] if i in row else None
            layers.append(self._step(layers[-1], token, own))
        ends = {q: way for q, way in layers[-1].items() if self._automaton.is_accepting(q)}
        if not ends:
            raise ValueError("no text of this grammar fits this canvas")
        at = max(ends, key=lambda q: ends[q].score)
        found: dict[int, int] = {}
        for i in range(len(ids), 0, -1):
            way = layers[i][at]
            if i - 1 in row:
                found[i - 1] = way.token
            at = way.before
        return found

    def _step(
        self, layer: dict[int, _Way], token: int, logits: npt.NDArray[np.float64] | None
    ) -> dict[int, _Way]:
        """All states after one more place, each with the best way to it."""
        out: dict[int, _Way] = {}
        for state, way in layer.items():
            if token != self._mask:
                self._offer(out, self._after(state, token), _Way(way.score, state, token))
                continue
            edges = self._edges(state)
            if edges is None:
                continue
            if logits is None:
                tokens, scores = edges.tokens[edges.firsts], np.zeros(len(edges.firsts))
            else:
                tokens, scores = edges.best(logits)
            for target, chosen, score in zip(
                edges.targets, tokens.tolist(), scores.tolist(), strict=True
            ):
                if score > -np.inf:
                    self._offer(out, target, _Way(way.score + score, state, chosen))
        return out

    def _offer(self, out: dict[int, _Way], state: int, way: _Way) -> None:
        if state == self._automaton.DEAD:
            return
        known = out.get(state)
        if known is None or way.score > known.score:
            out[state] = way
        if len(out) > self._room:
            raise LimitExceeded("max_search_states", self._room, _DOING)

    def _after(self, state: int, token: int) -> int:
        if token in self._automaton.vocabulary.eos_token_ids and not self._eos_padding:
            return self._automaton.DEAD
        return self._automaton.advance(state, token)

    def _edges(self, state: int) -> _Edges | None:
        if state not in self._known:
            if len(self._known) > self._room:
                self._known.clear()
            self._known[state] = self._find_edges(state)
        return self._known[state]

    def _find_edges(self, state: int) -> _Edges | None:
        tokens = self._automaton.allowed_tokens(state)
        if not self._eos_padding:
            tokens = np.setdiff1d(tokens, self._automaton.vocabulary.eos_token_ids)
        if not len(tokens):
            return None
        after = np.array([self._automaton.advance(state, t) for t in tokens.tolist()])
        order = np.argsort(after, kind="stable")
        tokens, after = tokens[order], after[order]
        firsts = np.flatnonzero(np.r_[True, after[1:] != after[:-1]])
        group = np.cumsum(np.r_[False, after[1:] != after[:-1]])
        return _Edges(tokens, firsts, group, after[firsts].tolist())
