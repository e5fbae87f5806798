"""What is sampled from: the model's next-token law times weights of the prefix.

A target is an automaton whose states never change, so that every node of a draft tree has its own
and going back costs nothing.  With h the prefix and w its weights, tokens are drawn from

    p~(x | h)  proportional to  p(x | h) w(h, x).

For a grammar w is 0 or 1; for grammar-aligned sampling and guidance it is any weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int64
from constrain.automaton import TokenAutomaton
from constrain.engine.pool import NO_STATE
from constrain.room import with_room
from grammars.errors import LimitExceeded, UnknownStateError

Floats: TypeAlias = npt.NDArray[np.float64]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Weighting:
    """Weights of the tokens after a prefix.

    Attributes:
        ids: the tokens with a weight above zero, ascending; ``None`` for all.
        log_weights: float64, one for each of ``ids`` (or for each column of the logits); ``None``
            for weights of one.
    """

    ids: Int64 | None = None
    log_weights: Floats | None = None


class Target(Protocol):
    """What is sampled from, as an automaton over tokens."""

    automaton: TokenAutomaton | None
    """The grammar, for drafters that read it; its state must then be ``grammar_state(state)``."""

    def start(self) -> Any:
        """The state of the empty text."""

    def advance(self, state: Any, token: int) -> Any:
        """The state after a token; ``None`` if it is not allowed."""

    def is_finished(self, state: Any) -> bool:
        """Whether the text ended with the last token."""

    def weighting(self, state: Any, tokens_left: int) -> Weighting:
        """Weights of what may come next, if that and all later tokens are at most so many."""

    def grammar_state(self, state: Any) -> int:
        """The automaton's state."""


_ENDED: Final = -1


class FreeText:
    """The model as it is: any token, until an EOS.

    Args:
        eos_token_ids: the tokens that end a text.
    """

    automaton: TokenAutomaton | None = None

    def __init__(self, eos_token_ids: tuple[int, ...]) -> None:
        self._eos = frozenset(eos_token_ids)

    def start(self) -> int:
        """0: states only tell whether the text ended."""
        return 0

    def advance(self, state: int, token: int) -> int | None:
        """Any token may follow, but for the end."""
        if state == _ENDED:
            return None
        return _ENDED if token in self._eos else 0

    def is_finished(self, state: int) -> bool:
        """Whether an EOS came."""
        return state == _ENDED

    def weighting(self, state: int, tokens_left: int) -> Weighting:
        """All tokens, weight one."""
        return Weighting()

    def grammar_state(self, state: int) -> int:
        """There is no grammar."""
        raise TypeError("free text has no grammar")


class Constrained:
    """The model within a grammar, complete within the budget: states are the automaton's own.

    Each remembers by which token it was first reached, so that states that were forgotten as there was no
    room for them (``Limits.max_states``) are found again.

    Args:
        automaton: the grammar's.
        budget: whether ``tokens_left`` bounds the text; else it may be cut off.
    """

    def __init__(self, automaton: TokenAutomaton, *, budget: bool = True) -> None:
        self.automaton: TokenAutomaton | None = automaton
        self._automaton = automaton
        self._budget = budget
        self._lists: dict[int, tuple[Any, Int64]] = {}
        self._ways: dict[
            int, tuple[int, int]
        ] = {}  # the state before and the token, when first reached
        self._now: dict[int, int] = {}  # states that were found again

    def start(self) -> int:
        """The automaton's start."""
        return self._automaton.start

    def advance(self, state: int, token: int) -> int | None:
        """The automaton's next state."""
        try:
            after = self._automaton.advance(state, token)
        except (LimitExceeded, UnknownStateError):
            after = self._asked(state, lambda known: self._automaton.advance(known, token))
        if after == self._automaton.DEAD or state == self._automaton.FINISHED:
            return None
        if after not in self._ways:
            self._ways[after] = state, token
        return after

    def _asked(self, state: int, ask: Callable[[int], _T]) -> _T:
        """What the automaton says of a state, see :func:`constrain.room.with_room`."""
        now = self._now.get(state, state)
        out, self._now[state] = with_room(self._automaton, now, lambda: self._way(state), ask)
        return out

    def _way(self, state: int) -> list[int]:
        """The tokens by which a state was reached.

        Raises:
            UnknownStateError: if it was not reached here.
        """
        tokens: list[int] = []
        while state != self._automaton.start:
            if state not in self._ways or len(tokens) > len(self._ways):
                raise UnknownStateError(NO_STATE)
            state, token = self._ways[state]
            tokens.append(token)
        return tokens[::-1]

    def is_finished(self, state: int) -> bool:
        """Whether EOS was taken."""
        return state == self._automaton.FINISHED

    def weighting(self, state: int, tokens_left: int) -> Weighting:
        """Weight one for what the mask allows."""
        left = tokens_left if self._budget else None
        try:
            row = self._automaton.mask(state, left)
        except (LimitExceeded, UnknownStateError):
            row = self._asked(state, lambda known: self._automaton.mask(known, left))
        known = self._lists.get(state)
        if known is not None and known[0] is row:
            return Weighting(known[1])
        ids = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))
        if len(self._lists) >= _KEPT:
            self._lists.pop(next(iter(self._lists)))
        self._lists[state] = (row, ids)
        return Weighting(ids)

    def grammar_state(self, state: int) -> int:
        """The state itself, or what it is now if it was forgotten."""
        try:
            self._automaton.is_accepting(state)
        except UnknownStateError:
            self._asked(state, self._automaton.is_accepting)
            return self._now[state]
        return state


_KEPT: Final = 256
"""Lists of allowed tokens kept for states met again."""
