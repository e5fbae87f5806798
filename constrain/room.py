"""Room for states: what is forgotten where an automaton has ``max_states`` of them, and found again.

A text is its tokens; the integer that an automaton gave for it is a way to ask sooner.  Whoever keeps both
loses nothing where states are forgotten: the text is walked again from ``start``.  So holders of texts ask
through :func:`with_room`, which forgets all states but the one that is asked for where there is no room for
more, and finds that one again where another holder has done so.  Searches from the start, which need many
states at a time and keep none, are made again as a whole (:func:`begun_again`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from constrain.automaton import TokenAutomaton
from grammars.errors import LimitExceeded, UnknownStateError

_PATIENCE: Final = 64
"""Calls of a step that is stopped for its work, lacks room, or whose state others have forgotten."""
_T = TypeVar("_T")


def with_room(
    automaton: TokenAutomaton,
    state: int,
    way: Callable[[], Sequence[int]],
    ask: Callable[[int], _T],
) -> tuple[_T, int]:
    """What an automaton says of a state, whatever was forgotten; and the state's integer now.

    States of others are forgotten where there is no room; they ask in this way, too, or are refused.

    Args:
        automaton: whose state it is.
        state: the state behind some tokens, or what was their state before it was forgotten.
        way: gives these tokens, from the automaton's start.
        ask: asks something of a state; it may be called several times.

    Raises:
        LimitExceeded: where neither more work nor room helps.
        UnknownStateError: if others forget states faster than they are found.
    """
    for left in reversed(range(_PATIENCE)):
        try:
            return ask(state), state
        except UnknownStateError:
            if not left:
                raise
            state = found(automaton, way())
        except LimitExceeded as error:
            if not left or not make_room(automaton, state, error):
                raise
    raise AssertionError("the last call returns or raises")


def found(automaton: TokenAutomaton, tokens: Sequence[int]) -> int:
    """The state behind some tokens, from the start, with room made for it.

    Raises:
        LimitExceeded, UnknownStateError: as :func:`with_room`.
    """
    for left in reversed(range(_PATIENCE)):
        try:
            state = automaton.start
            for token in tokens:
                state = _step(automaton, state, token)
            return state
        except UnknownStateError:  # another holder has made room meanwhile
            if not left:
                raise
    raise AssertionError("the last walk returns or raises")


def _step(automaton: TokenAutomaton, state: int, token: int) -> int:
    for left in reversed(range(_PATIENCE)):
        try:
            return automaton.advance(state, token)
        except LimitExceeded as error:
            if not left or not make_room(automaton, state, error):
                raise
    raise AssertionError("the last step returns or raises")


def begun_again(automaton: TokenAutomaton, search: Callable[[], _T]) -> _T:
    """Result of a search from the start, made again where it lacked room or others forgot its states.

    Args:
        automaton: whose states the search asks for.
        search: begins at ``automaton.start`` and keeps no state of an earlier call.

    Raises:
        LimitExceeded: if the search alone needs more than ``max_states``, or for another limit.
        UnknownStateError: if others forget states faster than they are found.
    """
    has_room = False
    for left in reversed(range(_PATIENCE)):
        try:
            return search()
        except UnknownStateError:
            if not left:
                raise
        except LimitExceeded as error:
            if has_room or error.limit != "max_states":
                raise
            has_room = True
            automaton.trim(())
    raise AssertionError("the last search returns or raises")


def make_room(automaton: TokenAutomaton, state: int, error: LimitExceeded) -> bool:
    """Whether asking once more may help against a limit; where it was lack of room, after making some.

    Args:
        automaton: that raised it.
        state: what it was asked for, the one state that is kept.
        error: what it raised.
    """
    if error.limit == "max_states":
        with suppress(
            UnknownStateError
        ):  # another holder has made room, and finds that state again
            automaton.trim({state})
        return True
    return error.limit == "max_mask_work"  # a step goes on from where it stopped
