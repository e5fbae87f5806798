"""Sets of keys: texts that match some patterns and do not match others.

Which combinations of patterns some key has is decided without an automaton for each of them: a text
is looked for in the automata of all the patterns at once, the nearest first, and a set keeps the text
that was found, which often tells what a further pattern does to it.  So patterns that exclude each
other cost what they are long, however many there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from string import ascii_lowercase
from typing import Final, TypeAlias

from grammars.compiling.automata import EMPTY, Dfa, of_words
from grammars.frontends.json_schema.strings import ANY_TEXT, automaton, few_words
from grammars.frozen import quickly_made, replace
from grammars.ir import Expr, Literal, Not, alt, both, text
from grammars.limits import Limits

_State: TypeAlias = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]
"""States of the automata that a text has to be in, and of those it must not be in: (which, state)."""

_AT_ONCE: Final = 2
"""Automata that are read at once at the cost of one state of an automaton that is made."""
_LOOKED_AT: Final = 256
"""States looked at to find out whether a set is infinite."""


@quickly_made
@dataclass(frozen=True, slots=True)
class KeyTest:
    """Something that is asked of keys.

    Attributes:
        sign: the pattern, or the demands on keys.
        holds: the keys of which it holds.
        fails: the keys of which it may hold, in some dialect of patterns; others surely fail.
    """

    sign: object
    holds: Expr
    fails: Expr


@quickly_made
@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys of which some tests hold and others do not.

    Attributes:
        names: keys that are not among them.
        inside: tests that hold.
        outside: tests that fail, without those that fail anyway where the others hold.
        example: a key among them, as UTF-8.
    """

    names: tuple[str, ...]
    inside: tuple[KeyTest, ...] = ()
    outside: tuple[KeyTest, ...] = ()
    example: bytes = b""

    @property
    def expr(self) -> Expr:
        """The keys as an expression over code points."""
        parts: list[Expr] = [test.holds for test in self.inside] or [ANY_TEXT]
        names = alt(*map(text, self.names))
        others = alt(*(test.fails for test in self.outside))
        return both(*parts, *(Not(x) for x in (names, others) if x != _NO_TEXT))


_NO_TEXT: Final = alt()


class KeySets:
    """Tells keys apart.

    Args:
        limits: bounds of the automata of single patterns.
        counted: told how many states of automata were looked at.
    """

    def __init__(self, limits: Limits, counted: Callable[[int], None]) -> None:
        self._limits = limits
        self._counted = counted
        self._together: dict[tuple[Expr, Expr], bool] = {}

    def everything(self, names: tuple[str, ...]) -> KeySet:
        """All keys but some: there always are some."""
        beginnings = {name[:1] for name in names}
        free = next((c for c in ascii_lowercase if c not in beginnings), None)
        key = free or next("x" * n for n in count() if "x" * n not in names)
        return KeySet(names, example=key.encode())

    def split(self, keys: KeySet, test: KeyTest) -> tuple[KeySet | None, KeySet | None]:
        """The keys of which a test holds, and those of which it does not; each if there are any."""
        if not self._overlap(keys.inside, test):
            return None, keys
        holds = _accepts(self._keys(test.holds).dfa, keys.example)
        inside = (*keys.inside, test)
        apart = tuple(t for t in keys.outside if self._overlap(inside, t))
        within = keys.example if holds else self._example(inside, apart, keys.names)
        if within is None:
            return None, self._without(keys, test, keys.example)
        rest = (*keys.outside, test)
        without = self._example(keys.inside, rest, keys.names) if holds else keys.example
        held = KeySet(self._among(inside, keys.names), inside, apart, within)
        return held, None if without is None else self._without(keys, test, without)

    def few(self, keys: KeySet) -> tuple[str, ...]:
        """All keys of a set that has few; none otherwise."""
        if self._is_plainly_infinite(keys):
            return ()
        return few_words(keys.expr, self._limits) or ()

    def _among(self, inside: tuple[KeyTest, ...], names: tuple[str, ...]) -> tuple[str, ...]:
        """The names that pass tests."""
        parts = [self._keys(test.holds) for test in inside]
        return tuple(n for n in names if all(_has(part.dfa, n) for part in parts))

    def _without(self, keys: KeySet, test: KeyTest, example: bytes) -> KeySet:
        if keys.inside and not self._overlap(keys.inside, test):
            return replace(keys, example=example)
        return replace(keys, outside=(*keys.outside, test), example=example)

    def _overlap(self, inside: Sequence[KeyTest], test: KeyTest) -> bool:
        """``False`` only if no text that passes tests may pass another one."""
        return all(self._may_go_together(held, test) for held in inside)

    def _may_go_together(self, held: KeyTest, test: KeyTest) -> bool:
        if _exclude_each_other(held.sign, test.sign):
            return False
        key = (held.holds, test.fails)
        known = self._together.get(key)
        if known is None:
            a, b = self._keys(held.holds), self._keys(test.fails)
            known = bool(a.first & b.first) and self._found(_Joint([a.dfa, b.dfa], [])) is not None
            self._together[key] = known
        return known

    def _count(self, state: _State) -> None:
        self._counted(1 + (len(state[0]) + len(state[1])) // _AT_ONCE)

    def _keys(self, expr: Expr) -> _Keys:
        return _keys_of(expr, self._limits)

    def _joint(
        self, inside: Sequence[KeyTest], outside: Sequence[KeyTest], names: tuple[str, ...]
    ) -> _Joint | None:
        """The automata that a key is looked for in; ``None`` if there plainly is none."""
        parts = [self._keys(test.holds) for test in inside] or [self._keys(ANY_TEXT)]
        first = -1
        for part in parts:
            first &= part.first
        if not first:
            return None
        against = [self._keys(test.holds) for test in outside]
        relevant = [x.dfa for x in against if x.first & first]
        return _Joint([part.dfa for part in parts], [*relevant, _dfa_of(names)])

    def _example(
        self, inside: Sequence[KeyTest], outside: Sequence[KeyTest], names: tuple[str, ...]
    ) -> bytes | None:
        joint = self._joint(inside, outside, names)
        return None if joint is None else self._found(joint)

    def _found(self, joint: _Joint) -> bytes | None:
        """A text that is in all automata that it has to be in, and in no other."""
        order = count()
        heap = [(joint.missed(joint.start), next(order), joint.start, b"")]
        seen = {joint.start}
        while heap:
            missed, _, state, word = heappop(heap)
            self._count(state)
            if not missed:
                return word
            for mask, following in joint.steps(state):
                if following not in seen:
                    seen.add(following)
                    byte = (mask & -mask).bit_length() - 1
                    entry = joint.missed(following), next(order), following, word + bytes([byte])
                    heappush(heap, entry)
        return None

    def _is_plainly_infinite(self, keys: KeySet) -> bool:
        """Whether a loop on the way to some key was found near the start."""
        joint = self._joint(keys.inside, keys.outside, keys.names)
        if joint is None:
            return False
        order = list(dict.fromkeys(reversed([*joint.path(keys.example)])))  # the key's end first
        number = {state: i for i, state in enumerate(order)}
        before: list[list[int]] = [[] for _ in order]
        for at, state in enumerate(order):  # grows while we iterate
            if at & (at - 1) == 0 < at or len(order) > _LOOKED_AT:  # now and then
                if _has_loop([not joint.missed(state) for state in order], before):
                    return True
                if len(order) > _LOOKED_AT:
                    return False
            self._count(state)
            for _, following in joint.steps(state):
                if following not in number:
                    number[following] = len(order)
                    order.append(following)
                    before.append([])
                before[number[following]].append(at)
        return _has_loop([not joint.missed(state) for state in order], before)


class _Joint:
    """Several automata read at once.

    Args:
        inside: what a text has to be in.
        outside: what it must not be in.
    """

    def __init__(self, inside: Sequence[Dfa], outside: Sequence[Dfa]) -> None:
        self._inside = inside
        self._outside = outside
        self.start: _State = (
            tuple(dfa.start for dfa in inside),
            tuple((i, dfa.start) for i, dfa in enumerate(outside)),
        )

    def missed(self, state: _State) -> int:
        """How many automata say that the text read so far is none."""
        wanted, unwanted = state
        missed = sum(not dfa.accept[q] for dfa, q in zip(self._inside, wanted, strict=True))
        return missed + sum(self._outside[i].accept[q] for i, q in unwanted)

    def path(self, word: bytes) -> Iterator[_State]:
        """The states on the way of a text that is not refused at once."""
        state = self.start
        yield state
        for byte in word:
            state = next(t for mask, t in self.steps(state) if mask >> byte & 1)
            yield state

    def steps(self, state: _State) -> Iterator[tuple[int, _State]]:
        """Bytes (as a set) and the state behind them."""
        wanted, unwanted = state
        parts: list[tuple[int, tuple[int, ...]]] = [(-1, ())]
        for dfa, q in zip(self._inside, wanted, strict=True):
            row = dfa.edges[q]
            parts = [(m & x, (*to, t)) for m, to in parts for x, t, _ in row if m & x]
        others = [(i, self._outside[i].edges[q]) for i, q in unwanted]
        for mask, targets in parts:
            split: list[tuple[int, tuple[tuple[int, int], ...]]] = [(mask, ())]
            for i, row in others:
                met = [(x & mask, t) for x, t, _ in row if x & mask]
                if not met:
                    continue
                refined = []
                for m, to in split:
                    for x, t in met:
                        if m & x:
                            refined.append((m & x, (*to, (i, t))))
                            m &= ~x
                    if m:
                        refined.append((m, to))
                split = refined
            for m, to in split:
                yield m, (targets, to)


def _exclude_each_other(a: object, b: object) -> bool:
    """Whether it is plain that no key has both patterns: they begin with different words."""
    if not isinstance(a, str) or not isinstance(b, str):
        return False
    one, other = _beginning(a), _beginning(b)
    return not one.startswith(other) and not other.startswith(one)


@lru_cache(1_024)
def _beginning(pattern: str) -> str:
    """The word that a key with a pattern begins with."""
    found = _PLAIN_BEGINNING.match(pattern)
    return "" if found is None or "|" in pattern else found[1]


_PLAIN_BEGINNING: Final = re.compile(r"\^([A-Za-z0-9_/:@-]*)(?![A-Za-z0-9_/:@?*{-])")


def _has_loop(accepts: list[bool], before: list[list[int]]) -> bool:
    """Whether states from which an accepting one is reached form a loop."""
    alive = [i for i, ends in enumerate(accepts) if ends]
    known = set(alive)
    for state in alive:  # grows while we iterate
        fresh = [p for p in before[state] if p not in known]
        known.update(fresh)
        alive += fresh
    waiting = {q: sum(p in known for p in before[q]) for q in known}
    nexts: dict[int, list[int]] = {q: [] for q in known}
    for q in known:
        for p in before[q]:
            if p in known:
                nexts[p].append(q)
    free = [q for q, n in waiting.items() if not n]
    for q in free:  # grows while we iterate
        for t in nexts[q]:
            waiting[t] -= 1
            if not waiting[t]:
                free.append(t)
    return len(free) < len(known)


def _accepts(dfa: Dfa, word: bytes) -> bool:
    state = dfa.start
    for byte in word:
        bit = 1 << byte
        following = next((t for mask, t, _ in dfa.edges[state] if mask & bit), None)
        if following is None:
            return False
        state = following
    return dfa.accept[state]


def _has(dfa: Dfa, name: str) -> bool:
    try:
        return _accepts(dfa, name.encode())
    except UnicodeEncodeError:  # a lone surrogate matches no pattern
        return False


@quickly_made
@dataclass(frozen=True, slots=True)
class _Keys:
    """The automaton of some keys, and the bytes that they begin with (256: the empty key)."""

    dfa: Dfa
    first: int


@lru_cache(1_024)
def _keys_of(expr: Expr, limits: Limits) -> _Keys:
    dfa = automaton(expr, limits)
    first = dfa.accept[dfa.start] << 256
    for mask, _, _ in dfa.edges[dfa.start]:
        first |= mask
    return _Keys(dfa, first)


@lru_cache(1_024)
def _dfa_of(names: tuple[str, ...]) -> Dfa:
    found = (text(name) for name in names)
    return of_words([x.data for x in found if isinstance(x, Literal)]) if names else EMPTY
