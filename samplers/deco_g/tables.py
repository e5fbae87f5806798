"""How likely a format is still met: backward tables over automaton x hidden states.

With k tokens left (EOS included), s a state of the format and z the hidden state that emits the next
token::

    B[0, s, z] = 0,   B[k, END, z] = 1
    B[k, s, z] = sum over edges e: s -> s' of (sum over v in e of emission[z, v]) T[k-1, s', z]
    T[k, s, z] = sum over z' of transition[z, z'] B[k, s, z']

so that B is the probability of a whole text, EOS included, within the k tokens, given z and s.  T is
what is kept: after a token was weighed the hidden state has moved on.  Every row is divided by its
largest entry, whose logarithm is kept beside it; forced texts of any length do not underflow.

**Least lengths.**  Where EOS may not come before the m-th of n tokens, it may not come with more than
n - m + 1 left.  Levels up to there are the same for all n and m; above them the same recursion goes
on without EOS edges, for this n and m alone.

Cost: of one level |E| H multiplications for the edges and S H^2 for the hidden states; S H numbers.

Sources: Zhang et al. 2024, "Adaptable Logical Control for Large Language Models" (Ctrl-G), section 3;
Deng, Kung and Peng 2025, "Decoupling Task-Solving and Output Formatting in LLM Generation" (Deco-G).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags
from samplers.deco_g import _kernels
from samplers.deco_g.format import FormatAutomaton
from samplers.deco_g.hmm import HMM
from samplers.progress import bar

Reals: TypeAlias = npt.NDArray[np.floating[Any]]
Doubles: TypeAlias = npt.NDArray[np.float64]

_WIDTH: Final = 16
"""Hidden states whose emissions are transposed at once: one line of the cache for each token."""
_KEPT: Final = 4
"""Pairs of budget and least length whose own levels are kept."""
_SLOW: Final = 2_000_000_000
"""Multiplications from which on a bar is worth its lines."""


@dataclass(frozen=True, eq=False)
class Level:
    """T[k] and what is possible with k tokens left.

    Attributes:
        values: [S + 1, H], T[k] divided by exp(logs); row S is the end of the text.
        logs: float64[S + 1], ``-inf`` where the hidden Markov model gives a text no chance.
        alive: bool[S + 2], whether tokens can finish the text at all, whatever the model says; the
            last entry, of ``NOWHERE``, is False.
    """

    values: Reals
    logs: Doubles
    alive: Flags

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.values.nbytes + self.logs.nbytes + self.alive.nbytes


@dataclass(frozen=True, eq=False)
class Horizon:
    """The levels for one budget and least length.

    Attributes:
        budget: the most tokens of a text, EOS included.
        last_end: the most tokens left, EOS included, with which EOS may come.
        levels: of 0 .. budget tokens left.
    """

    budget: int
    last_end: int
    levels: list[Level]


class Tables:
    """Levels, made when they are first asked for.

    Args:
        format: the automaton.
        hmm: on any device; tables are numpy arrays of its precision.
        progress: whether a bar is shown where it takes long.

    Attributes:
        emission: [H, V], C-contiguous.
        transition: [H, H].
        end_sum: [H], emissions of EOS.
    """

    def __init__(self, format: FormatAutomaton, hmm: HMM, *, progress: bool = False) -> None:
        self.format: Final = format
        self._progress = progress
        self.emission: Final = _array(hmm.emission)
        self.transition: Final = _array(hmm.transition)
        ends = [t for t in format.automaton.vocabulary.eos_token_ids if t < hmm.vocabulary_size]
        self.end_sum: Final = self.emission[:, ends].sum(1)
        self._sums = self._letter_sums()
        self._levels = [self._first()]
        self._own: OrderedDict[tuple[int, int], list[Level]] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Memory of tables and sums, in bytes; the hidden Markov model's own is not counted."""
        own = [level for levels in self._own.values() for level in levels]
        return self._sums.nbytes + sum(level.nbytes for level in [*self._levels, *own])

    def within(self, budget: int, min_tokens: int = 1) -> Horizon:
        """The levels for texts of ``min_tokens`` to ``budget`` tokens, EOS included."""
        last_end = budget - min_tokens + 1
        missing = last_end + 1 - len(self._levels)
        own = self._own.get((budget, min_tokens), [])
        steps = max(0, missing) + (min_tokens - 1 - len(own))
        with bar(self._progress and self._is_slow(steps), "tables", steps) as advance:
            while len(self._levels) <= last_end:
                self._levels.append(self._next(self._levels[-1], ends=True))
                advance(1)
            levels = self._levels[: last_end + 1]
            own = list(own)
            while len(own) < min_tokens - 1:
                own.append(self._next(own[-1] if own else levels[-1], ends=False))
                advance(1)
        if own:
            self._own[budget, min_tokens] = own
            self._own.move_to_end((budget, min_tokens))
            if len(self._own) > _KEPT:
                self._own.popitem(last=False)
        return Horizon(budget, last_end, [*levels, *own])

    def completion(self, horizon: Horizon, state: int, left: int) -> tuple[Reals, float]:
        """B[left, state] divided by a scale, [H], and the scale's logarithm (``-inf`` if all is zero).

        Args:
            horizon: of :meth:`within`.
            state: of the format.
            left: tokens left, EOS included.
        """
        if state == self.format.states:
            return np.ones_like(self.end_sum), 0.0
        if left <= 0:
            return np.zeros_like(self.end_sum), -np.inf
        before = horizon.levels[left - 1]
        edges = slice(self.format.offsets[state], self.format.offsets[state + 1])
        targets = self.format.edge_target[edges]
        out = np.zeros((1, len(self.end_sum)), self.emission.dtype)
        logs = np.zeros(1)
        _kernels.backward(
            np.array([0, len(targets)]), self.format.edge_letter[edges], targets, self._sums,
            before.values, before.logs, self._ends([state], left <= horizon.last_end),
            self.end_sum, out, logs,
        )  # fmt: skip
        return out[0], float(logs[0])

    # -- levels --------------------------------------------------------------------------------

    def _is_slow(self, steps: int) -> bool:
        width = len(self.end_sum)
        each = len(self.format.edge_target) * width + self.format.states * width**2
        return steps * each > _SLOW

    def _ends(self, states: Any, allowed: bool) -> Flags:
        ends = self.format.accepting[states]
        return ends if allowed else np.zeros_like(ends)

    def _letter_sums(self) -> Reals:
        tokens, offsets = self.format.letters.flat()
        width = len(self.emission)
        out = np.empty((len(offsets) - 1, width), self.emission.dtype)
        for begin in range(0, width, _WIDTH):
            rows = np.ascontiguousarray(self.emission[begin : begin + _WIDTH].T)
            found = np.empty((len(out), rows.shape[1]))
            _kernels.sum_letters(rows, tokens, offsets, found)
            out[:, begin : begin + _WIDTH] = found
        return out

    def _first(self) -> Level:
        """With nothing left only what has ended is complete."""
        states = self.format.states
        values = np.zeros((states + 1, len(self.end_sum)), self.emission.dtype)
        values[states] = 1
        logs = np.full(states + 1, -np.inf)
        logs[states] = 0.0
        alive = np.zeros(states + 2, np.bool_)
        alive[states] = True
        return Level(values, logs, alive)

    def _next(self, before: Level, *, ends: bool) -> Level:
        """One token more."""
        f = self.format
        found = self._first()
        may_end = self._ends(slice(None), ends)
        _kernels.backward(
            f.offsets, f.edge_letter, f.edge_target, self._sums, before.values, before.logs,
            may_end, self.end_sum, found.values[:-1], found.logs[:-1],
        )  # fmt: skip
        rows = np.flatnonzero(np.isfinite(found.logs[:-1]))
        if len(rows):
            moved = found.values[rows] @ self.transition.T
            top = moved.max(1, keepdims=True)
            found.values[rows] = np.divide(moved, top, out=np.zeros_like(moved), where=top > 0)
            with np.errstate(divide="ignore"):
                found.logs[rows] += np.log(top[:, 0].astype(np.float64))
        found.alive[:-2] = self._alive(before.alive, may_end)
        return Level(found.values, found.logs, found.alive)

    def _alive(self, before: Flags, may_end: Flags) -> Flags:
        """bool[S], where an edge leads on, or EOS may come."""
        counts = np.concatenate(([0], np.cumsum(before[self.format.edge_target])))
        offsets = self.format.offsets
        alive: Flags = may_end | (counts[offsets[1:]] > counts[offsets[:-1]])
        return alive


def _array(tensor: Any) -> Reals:
    made: Reals = np.ascontiguousarray(tensor.detach().cpu().numpy())
    return made
