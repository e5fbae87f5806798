"""What lark's lexer reads, as automata: lexemes, and what they forbid in the text behind them.

lark joins its terminals into one alternation and takes what ``re`` matches first, so whether a
terminal reads ``w`` depends on what follows ``w``: an earlier way to match could have gone on.  The
match is followed here as an ordered list of *threads* (as in Pike's regular expression machine),
over classes of code points.  Where a thread ends the lexeme, the threads before it are the ones
that would have been preferred: none of them may come to a match in the text that follows.  That set
of threads, with the set of characters that may come next, is an :class:`Obligation`.  Obligations
are finitely many, and several of them at once are their union.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

from grammars import ir
from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends import _re_api
from grammars.frontends._re_api import constants as _constants
from grammars.frontends.lark.minimization import (
    equivalence_classes,
    language,
    minimal_automaton,
    trimmed,
)
from grammars.ir import EPSILON, MAX_CODE_POINT, NOTHING, Expr, Ranges, alt, repeat, seq
from grammars.work import spend

Mask: TypeAlias = int
"""A set of character classes; the bit behind the last class stands for the end of the text."""


# -- patterns ----------------------------------------------------------------------------------


class UnsupportedError(Exception):
    """A construct of a pattern that cannot be followed; the text says which."""


@dataclass(frozen=True, slots=True)
class PChar:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class PSeq:
    items: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class PAlt:
    items: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class PRepeat:
    item: Pattern
    min: int
    max: int | None
    greedy: bool


@dataclass(frozen=True, slots=True)
class PPrevious:
    """The character before is of the set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class PNext:
    """The character behind is of the set (or, with ``end``, the text ends)."""

    ranges: Ranges
    end: bool


@dataclass(frozen=True, slots=True)
class PNot:
    """The pattern does not match here."""

    item: Pattern


Pattern: TypeAlias = PChar | PSeq | PAlt | PRepeat | PPrevious | PNext | PNot

_NEWLINE: Final[Ranges] = ((10, 10),)
_ANY: Final[Ranges] = ((0, MAX_CODE_POINT),)
_ONE_CHAR: Final = {
    _constants.LITERAL,
    _constants.NOT_LITERAL,
    _constants.IN,
    _constants.ANY,
    _constants.CATEGORY,
}


@lru_cache(maxsize=1)
def _every_character() -> str:
    return "".join(map(chr, range(MAX_CODE_POINT + 1)))


@lru_cache(maxsize=4096)
def _one_char_ranges(node: str, flags: int, build: Callable[[], Any]) -> Ranges:
    found = _re_api.run_of(build(), flags).finditer(_every_character())
    return tuple((m.start(), m.end() - 1) for m in found)


class _Node:
    """Makes one operation of a parsed pattern a key of a cache."""

    def __init__(self, op: Any, value: Any) -> None:
        self.key = repr((op, value))
        self.node = (op, value)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Node) and other.key == self.key

    def __call__(self) -> Any:
        return self.node


def _set_of(op: Any, value: Any, flags: int) -> Ranges:
    """The characters one operation takes: asked of ``re`` itself, so that it cannot differ."""
    if op is _constants.LITERAL and not flags & re.IGNORECASE:
        return ((value, value),)
    if op is _constants.ANY:
        return _ANY if flags & re.DOTALL else ir.invert_ranges(_NEWLINE)
    node = _Node(op, value)
    kept = flags & (re.IGNORECASE | re.ASCII | re.UNICODE)
    return _one_char_ranges(node.key, kept, node)


def parse_pattern(pattern: str) -> Pattern:
    """Reads a pattern as ``re`` does.

    Raises:
        UnsupportedError: for a construct that is not followed here.
        PatternError: where ``re`` refuses the pattern.
    """
    parsed = _re_api.parse(f"(?:{pattern})")
    return _sequence(list(parsed), parsed.state.flags)


def _sequence(nodes: Sequence[Any], flags: int) -> Pattern:
    items = tuple(_convert(op, value, flags) for op, value in nodes)
    return items[0] if len(items) == 1 else PSeq(items)


def _convert(op: Any, value: Any, flags: int) -> Pattern:
    c = _constants
    if op in _ONE_CHAR:
        return PChar(_set_of(op, value, flags))
    if op is c.BRANCH:
        return PAlt(tuple(_sequence(list(branch), flags) for branch in value[1]))
    if op is c.SUBPATTERN:
        _, add, drop, body = value
        if add & (re.ASCII | re.UNICODE | re.LOCALE):
            flags &= ~(re.ASCII | re.UNICODE | re.LOCALE)
        return _sequence(list(body), (flags | add) & ~drop)
    if op in (c.MAX_REPEAT, c.MIN_REPEAT):
        low, high, body = value
        item = _sequence(list(body), flags)
        return PRepeat(item, low, None if high is c.MAXREPEAT else int(high), op is c.MAX_REPEAT)
    if op is c.AT:
        return _anchor(value, flags)
    if op in (c.ASSERT, c.ASSERT_NOT):
        direction, body = value
        if direction < 0:
            return _behind(list(body), flags, op is c.ASSERT_NOT)
        inner = _sequence(list(body), flags)
        return PNot(inner) if op is c.ASSERT_NOT else _ahead(inner)
    names = {
        c.GROUPREF: "a backreference",
        c.GROUPREF_EXISTS: "a conditional group",
        c.ATOMIC_GROUP: "an atomic group",
        c.POSSESSIVE_REPEAT: "a possessive repetition",
    }
    raise UnsupportedError(names.get(op, str(op).lower()))


def _anchor(where: Any, flags: int) -> Pattern:
    c = _constants
    if where in (c.AT_BEGINNING, c.AT_BEGINNING_STRING):
        lines = where is c.AT_BEGINNING and flags & re.MULTILINE
        return PPrevious(_NEWLINE if lines else ())
    if where is c.AT_END_STRING:
        return PNext((), end=True)
    if where is c.AT_END:
        if flags & re.MULTILINE:
            return PNext(_NEWLINE, end=True)
        more = PSeq((PChar(_NEWLINE), PChar(_ANY)))
        return PNot(PAlt((PChar(ir.invert_ranges(_NEWLINE)), more)))
    if where in (c.AT_BOUNDARY, c.AT_NON_BOUNDARY):
        word = _set_of(c.IN, [(c.CATEGORY, c.CATEGORY_WORD)], flags)
        other = ir.invert_ranges(word)
        if where is c.AT_NON_BOUNDARY:
            sides = ((word, word, False), (other, other, True))
        else:
            sides = ((word, other, True), (other, word, False))
        return PAlt(tuple(PSeq((PPrevious(p), PNext(n, end))) for p, n, end in sides))
    raise UnsupportedError(str(where).lower())


def _behind(nodes: Sequence[Any], flags: int, negated: bool) -> Pattern:
    inner = _single(_sequence(nodes, flags))
    if inner is None:
        raise UnsupportedError("a look-behind at more than one character")
    return PPrevious(ir.invert_ranges(inner) if negated else inner)


def _single(pattern: Pattern) -> Ranges | None:
    if isinstance(pattern, PChar):
        return pattern.ranges
    if isinstance(pattern, PAlt):
        parts = [_single(item) for item in pattern.items]
        if None in parts:
            return None
        return ir.normalize_ranges(pair for part in parts for pair in part or ())
    return None


def _ahead(pattern: Pattern) -> Pattern:
    match pattern:
        case PChar(ranges):
            return PNext(ranges, end=False)
        case PAlt(items):
            return PAlt(tuple(map(_ahead, items)))
        case PSeq(items) if all(isinstance(x, PNext | PPrevious | PNot) for x in items[:-1]):
            return PSeq((*items[:-1], _ahead(items[-1]))) if items else pattern
        case PNext() | PPrevious() | PNot():
            return pattern
    raise UnsupportedError("a look-ahead at more than one character")


def character_sets(pattern: Pattern) -> set[Ranges]:
    """Every set of characters the pattern distinguishes."""
    match pattern:
        case PChar(ranges) | PPrevious(ranges) | PNext(ranges):
            return {ranges}
        case PSeq(items) | PAlt(items):
            return set().union(*map(character_sets, items))
        case PRepeat(item) | PNot(item):
            return character_sets(item)
    raise TypeError(pattern)


class Alphabet:
    """Classes of code points that no pattern tells apart."""

    def __init__(self, sets: Iterable[Ranges]) -> None:
        events: list[tuple[int, int]] = [(0, 0), (MAX_CODE_POINT + 1, 0)]
        known = list(dict.fromkeys(sets))
        for i, ranges in enumerate(known):
            for lo, hi in ranges:
                events += ((lo, 1 << i), (hi + 1, 1 << i))
        events.sort()
        by_signature: dict[int, list[tuple[int, int]]] = {}
        at = signature = 0
        for place, bit in events:
            if place > at:
                by_signature.setdefault(signature, []).append((at, place - 1))
                at = place
            signature ^= bit
        self.classes: list[Ranges] = [ir.normalize_ranges(x) for x in by_signature.values()]
        self.end: Mask = 1 << len(self.classes)
        self.all: Mask = 2 * self.end - 1
        self._masks: dict[Ranges, Mask] = {}
        for i, ranges in enumerate(known):
            signatures = enumerate(by_signature)
            self._masks[ranges] = sum(1 << c for c, s in signatures if s >> i & 1)

    def mask(self, ranges: Ranges) -> Mask:
        """The classes that make up a set given to the constructor."""
        return self._masks[ranges]

    def members(self, mask: Mask) -> list[int]:
        """The classes of a mask, the end of the text left out."""
        mask &= ~self.end
        out = []
        while mask:
            low = mask & -mask
            out.append(low.bit_length() - 1)
            mask ^= low
        return out

    def expr(self, mask: Mask) -> Expr:
        """One character of these classes."""
        return ir.chars(pair for c in self.members(mask) for pair in self.classes[c])


# -- threads -----------------------------------------------------------------------------------

Thread: TypeAlias = tuple[int, Mask, frozenset["tuple[int, Mask]"]]
"""A place in a pattern: its character node, what it may take next, and, as nodes with masks, the
patterns of negative look-aheads that must not come to a match."""

Match: TypeAlias = tuple[int, Mask, frozenset[Thread]]
"""A terminal that may end here if a character of the mask is next, and the threads before it."""

_FORBIDDEN: Final = -1
"""What a pattern inside a negative look-ahead matches."""


@dataclass(frozen=True)
class Obligation:
    """What the text that follows must keep: its first character, and threads that may not match."""

    following: Mask
    threads: frozenset[Thread]


@dataclass(frozen=True, slots=True)
class _Step:
    kind: str
    nexts: tuple[int, ...] = ()
    mask: Mask = 0
    tag: int = 0


class Machine:
    """All terminals as one machine of threads."""

    def __init__(self, patterns: Sequence[Pattern], names: Sequence[str], limit: int) -> None:
        self.names = names
        self.alphabet = Alphabet(s for p in patterns for s in character_sets(p))
        self.limit = limit
        self._steps: list[_Step] = []
        self._loops = 0
        self._inside_not = False
        self.starts = [self._start(i, pattern) for i, pattern in enumerate(patterns)]
        self._moved: dict[tuple[int, int], tuple[object, ...]] = {}
        self._canonical: dict[Obligation, Obligation] = {}
        self._representative: dict[object, Obligation] = {}
        self.free = Obligation(self.alphabet.all, frozenset())

    def _start(self, terminal: int, pattern: Pattern) -> int:
        try:
            return self._build(pattern, self._add(_Step("match", tag=terminal)))
        except LimitExceeded as error:
            error.locate(rule=self.names[terminal])
            raise

    def _add(self, step: _Step) -> int:
        if len(self._steps) >= self.limit:
            raise LimitExceeded("max_dfa_states", self.limit, "the terminals of this grammar")
        self._steps.append(step)
        return len(self._steps) - 1

    def _build(self, pattern: Pattern, then: int) -> int:
        match pattern:
            case PChar(ranges):
                return self._add(_Step("char", (then,), self.alphabet.mask(ranges)))
            case PSeq(items):
                for item in reversed(items):
                    then = self._build(item, then)
                return then
            case PAlt(items):
                return self._add(_Step("split", tuple(self._build(x, then) for x in items)))
            case PPrevious(ranges):
                return self._add(_Step("previous", (then,), self.alphabet.mask(ranges)))
            case PNext(ranges, end):
                mask = self.alphabet.mask(ranges) | (self.alphabet.end if end else 0)
                return self._add(_Step("next", (then,), mask))
            case PNot(item):
                if self._inside_not:
                    raise UnsupportedError("a look-ahead inside a negative look-ahead")
                self._inside_not = True
                inner = self._build(item, self._add(_Step("match", tag=_FORBIDDEN)))
                self._inside_not = False
                return self._add(_Step("not", (inner, then)))
            case PRepeat():
                return self._repeat(pattern, then)
        raise TypeError(pattern)

    def _repeat(self, pattern: PRepeat, then: int) -> int:
        self._loops += 1
        loop = self._loops
        kind = "greedy" if pattern.greedy else "lazy"
        if pattern.max is None:
            at = self._add(_Step(kind))
            body = self._build(pattern.item, at)
            self._steps[at] = _Step(kind, (body, then), tag=loop)
        else:
            at = then
            for _ in range(pattern.max - pattern.min):
                at = self._add(_Step(kind, (self._build(pattern.item, at), then), tag=loop))
        at = self._add(_Step("enter", (at,), tag=loop))
        for _ in range(pattern.min):
            at = self._build(pattern.item, at)
        return at

    # A loop whose body took no character goes on behind the loop, as in `re`: the loops that were
    # entered at this position ("fresh") are part of the place.

    def _closure(
        self,
        start: int,
        previous: int | None,
        condition: Mask,
        pending: frozenset[tuple[int, Mask]],
    ) -> list[tuple[int, Mask, frozenset[tuple[int, Mask]], int | None]]:
        """Characters and matches (last field: the terminal) reached, the preferred ones first."""
        out: list[tuple[int, Mask, frozenset[tuple[int, Mask]], int | None]] = []
        seen = set()
        none: frozenset[int] = frozenset()
        stack = [(start, none, condition, pending)]
        while stack:
            place = stack.pop()
            if place in seen:
                continue
            seen.add(place)
            spend(2)
            node, fresh, cond, antis = place
            step = self._steps[node]
            match step.kind:
                case "char":
                    if step.mask & cond:
                        out.append((node, step.mask & cond, antis, None))
                case "match":
                    allowed = cond & self._settled(antis)
                    if allowed:
                        out.append((node, allowed, frozenset(), step.tag))
                case "split":
                    stack += [(n, fresh, cond, antis) for n in reversed(step.nexts)]
                case "enter":
                    stack.append((step.nexts[0], fresh - {step.tag}, cond, antis))
                case "greedy" | "lazy":
                    body, behind = step.nexts
                    ways = [(behind, fresh, cond, antis)]
                    if step.tag not in fresh:
                        again = (body, fresh | {step.tag}, cond, antis)
                        ways.insert(0 if step.kind == "greedy" else 1, again)
                    stack += reversed(ways)
                case "previous":
                    if previous is None:
                        raise UnsupportedError(
                            "an anchor or look-behind at the start of the terminal, which asks "
                            "about the text before it,"
                        )
                    if step.mask >> previous & 1:
                        stack.append((step.nexts[0], fresh, cond, antis))
                case "next":
                    if cond & step.mask:
                        stack.append((step.nexts[0], fresh, cond & step.mask, antis))
                case "not":
                    inner, then = step.nexts
                    for n, mask, _, tag in self._closure(
                        inner, previous, self.alphabet.all, frozenset()
                    ):
                        if tag is None:
                            antis |= {(n, mask)}
                        else:
                            cond &= ~mask
                    if cond:
                        stack.append((then, fresh, cond, antis))
        return out

    def _settled(self, antis: frozenset[tuple[int, Mask]]) -> Mask:
        """What may come next so that no negative look-ahead is violated."""
        allowed = self.alphabet.all
        for node, mask in antis:
            for c in self.alphabet.members(mask):
                ends = self._closure(self._steps[node].nexts[0], c, self.alphabet.all, frozenset())
                if not any(tag is not None and m == self.alphabet.all for _, m, _, tag in ends):
                    raise UnsupportedError(
                        "a look-ahead at more than one character behind the end of the terminal"
                    )
                allowed &= ~(1 << c)
        return allowed

    def _antis_after(
        self, antis: frozenset[tuple[int, Mask]], c: int
    ) -> tuple[Mask, frozenset[tuple[int, Mask]]]:
        cond = self.alphabet.all
        after: set[tuple[int, Mask]] = set()
        for node, mask in antis:
            if mask >> c & 1:
                for n, m, _, tag in self._closure(
                    self._steps[node].nexts[0], c, self.alphabet.all, frozenset()
                ):
                    if tag is None:
                        after.add((n, m))
                    else:
                        cond &= ~m
        return cond, frozenset(after)

    def begin(self, terminals: Iterable[int]) -> tuple[list[Thread], list[Match]]:
        """The threads of an alternation of terminals, before its first character."""
        found = []
        for t in terminals:
            try:
                found += self._closure(self.starts[t], None, self.alphabet.all, frozenset())
            except UnsupportedError as error:
                raise UnsupportedTerminalError(t, str(error)) from None
        return self._arranged(found)

    def advance(self, threads: Iterable[Thread], c: int) -> tuple[list[Thread], list[Match]]:
        """The threads after one character, and the matches that end behind it."""
        found = []
        for node, mask, antis in threads:
            if not mask >> c & 1:
                continue
            cond, after = self._antis_after(antis, c) if antis else (self.alphabet.all, antis)
            if cond:
                found += self._closure(self._steps[node].nexts[0], c, cond, after)
        return self._arranged(found)

    def _arranged(
        self, found: list[tuple[int, Mask, frozenset[tuple[int, Mask]], int | None]]
    ) -> tuple[list[Thread], list[Match]]:
        """Drops what comes behind a certain match, and repetitions of a place."""
        open_ = self.alphabet.all
        threads: list[Thread] = []
        matches: list[Match] = []
        taken: dict[tuple[int, frozenset[tuple[int, Mask]]], Mask] = {}
        for node, mask, antis, tag in found:
            mask &= open_
            if tag is None:
                known = taken.get((node, antis), 0)
                if mask & ~known:
                    taken[node, antis] = known | mask
                    threads.append((node, mask & ~known, antis))
            elif mask:
                before = frozenset((n, m & mask, a) for n, m, a in threads if m & mask)
                matches.append((tag, mask, before))
                open_ &= ~mask
        return threads, matches

    # -- obligations ---------------------------------------------------------------------------

    def keep(self, obligation: Obligation, c: int) -> Obligation | None:
        """What is left of it after one more character; ``None`` if that violates it."""
        if not obligation.following >> c & 1:
            return None
        if not obligation.threads:
            return self.free
        threads, matches = self.advance(sorted(obligation.threads, key=_order), c)
        following = self.alphabet.all
        for _, mask, _ in matches:
            following &= ~mask
        return self.obligation(following, threads) if following else None

    def obligation(self, following: Mask, threads: Iterable[Thread]) -> Obligation:
        """One object for all obligations that forbid the same texts."""
        kept = frozenset((n, m & following, a) for n, m, a in threads if m & following)
        if not kept and following == self.alphabet.all:
            return self.free
        raw = Obligation(following, kept)
        known = self._canonical.get(raw)
        if known is None:
            key = self._meaning(raw)
            known = raw if key is None else self._representative.setdefault(key, raw)
            self._canonical[raw] = known
        return known

    def together(self, a: Obligation, b: Obligation) -> Obligation | None:
        """Both obligations at once; ``None`` if nothing at all, not even the end, may follow."""
        following = a.following & b.following
        return self.obligation(following, a.threads | b.threads) if following else None

    def _meaning(self, raw: Obligation, most: int = 64) -> object | None:
        """The minimal automaton of an obligation as a value; ``None`` where it is large."""
        index = {raw: 0}
        order = [raw]
        rows: list[dict[int, int]] = []
        for item in order:  # grows while we iterate
            row: dict[int, int] = {}
            wanted = 0
            for _, mask, _ in item.threads:
                wanted |= mask
            for c in self.alphabet.members(wanted & item.following):
                threads, matches = self.advance(sorted(item.threads, key=_order), c)
                following = self.alphabet.all
                for _, mask, _ in matches:
                    following &= ~mask
                kept = frozenset((n, m & following, a) for n, m, a in threads if m & following)
                if not following:
                    row[c] = -1
                elif kept or following != self.alphabet.all:
                    after = Obligation(following, kept)
                    if after not in index:
                        if len(order) >= most:
                            return None
                        index[after] = len(order)
                        order.append(after)
                    row[c] = index[after]
            for c in self.alphabet.members(~item.following & self.alphabet.all):
                row[c] = -1
            rows.append(row)
        block = [0 if x.following & self.alphabet.end else 1 for x in order]
        return minimal_automaton(rows, [bool(b) for b in block])


def _order(thread: Thread) -> tuple[int, int, list[tuple[int, int]]]:
    return thread[0], thread[1], sorted(thread[2])


class UnsupportedTerminalError(Exception):
    """A terminal (by number) whose pattern cannot be followed."""

    def __init__(self, terminal: int, reason: str) -> None:
        super().__init__(reason)
        self.terminal = terminal
        self.reason = reason


# -- lexemes -----------------------------------------------------------------------------------


@dataclass(eq=False)
class Lexeme:
    """The texts a terminal reads in some context, as an automaton.

    Attributes:
        number: of the lexeme among all of its maker's.
        rows: per state, class to next state; every state can still come to an end.
        ends: per state, the obligations under which the lexeme may end there.
        first: the classes it can begin with.
    """

    number: int
    terminal: int
    rows: list[dict[int, int]]
    ends: list[tuple[Obligation, ...]]
    first: Mask = 0

    def is_empty(self) -> bool:
        return not any(self.ends)


@dataclass
class Ways:
    """A lexeme read under an obligation: its automaton, and how each state may end."""

    rows: list[dict[int, int]]
    ends: list[frozenset[Obligation]]
    outcomes: tuple[Obligation, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = dict.fromkeys(o for ends in self.ends for o in sorted(ends, key=_obligation_order))
        self.outcomes = tuple(found)


def _obligation_order(o: Obligation) -> tuple[int, list[tuple[int, int, list[tuple[int, int]]]]]:
    return -o.following, sorted(map(_order, o.threads))


class Lexer:
    """Makes lexemes of terminals in contexts and follows obligations through them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._interplay: dict[tuple[int, int], bool] = {}
        self._families: dict[object, dict[int, Lexeme]] = {}
        self._ways: dict[tuple[int, Obligation], Ways] = {}
        self._effects: dict[tuple[int, Obligation], object] = {}
        self._matters: dict[tuple[Thread, int], bool] = {}
        self._by_shape: dict[object, Lexeme] = {}
        self._plain: dict[int, tuple[list[dict[int, int]], list[bool]]] = {}

    def lexemes(
        self, terminal: int, earlier: Iterable[int], retyped: Sequence[int]
    ) -> dict[int, Lexeme]:
        """What a terminal reads, by the terminal the token is reported as.

        Args:
            earlier: the terminals that lark tries before it.
            retyped: string terminals that lark turns an equal text into, in order.
        """
        rivals = tuple(t for t in earlier if self._meets(t, terminal))
        key = (terminal, rivals, tuple(retyped))
        known = self._families.get(key)
        if known is None:
            known = self._families[key] = self._make(terminal, rivals, tuple(retyped))
        return known

    def _meets(self, earlier: int, terminal: int) -> bool:
        """Whether the one terminal's being tried first changes what the other reads."""
        key = (earlier, terminal)
        known = self._interplay.get(key)
        if known is None:
            known = self._interplay[key] = self._search_meeting(earlier, terminal)
        return known

    def _search_meeting(self, earlier: int, terminal: int) -> bool:
        machine = self.machine
        alone = self.lexemes(terminal, (), ())[terminal]
        threads, matches = machine.begin([earlier])
        if not alone.first & _union(threads):
            return False
        todo: list[tuple[int, tuple[Thread, ...]]] = [(0, tuple(threads))]
        seen = set(todo)
        for q, rivals in todo:  # grows while we iterate
            if alone.ends[q]:
                return True
            for c in machine.alphabet.members(_union(rivals)):
                if c not in alone.rows[q]:
                    continue
                threads, matches = machine.advance(rivals, c)
                if matches:
                    return True
                place = (alone.rows[q][c], tuple(threads))
                if threads and place not in seen:
                    seen.add(place)
                    todo.append(place)
                    self._check(len(todo))
        return False

    def _check(self, states: int) -> None:
        if states > self.machine.limit:
            raise LimitExceeded("max_dfa_states", self.machine.limit, "the lexer of this grammar")

    def _make(
        self, terminal: int, rivals: tuple[int, ...], retyped: tuple[int, ...]
    ) -> dict[int, Lexeme]:
        machine = self.machine
        threads, matches = machine.begin((*rivals, terminal))
        shadows = tuple(frozenset(machine.begin([s])[0]) for s in retyped)
        first = (tuple(threads), shadows)
        index: dict[object, int] = {(first, terminal, ()): 0}
        order = [first]
        rows: list[dict[int, int]] = []
        ends: list[dict[int, list[Obligation]]] = [{}]
        try:
            for current, others in order:  # grows while we iterate
                row: dict[int, int] = {}
                for c in machine.alphabet.members(_union(current)):
                    threads, matches = machine.advance(current, c)
                    moved = [machine.advance(sorted(x, key=_order), c) for x in others]
                    said = next((s for s, x in zip(retyped, moved, strict=True) if x[1]), terminal)
                    outcome = [
                        machine.obligation(mask, before)
                        for tag, mask, before in matches
                        if tag == terminal
                    ]
                    if not threads and not outcome:
                        continue
                    if not outcome:
                        said = terminal
                    # a state is also told apart by how it ends, since that is found on the way in
                    place = (tuple(threads), tuple(frozenset(x[0]) for x in moved))
                    key = (place, said, tuple(outcome))
                    if key not in index:
                        index[key] = len(order)
                        order.append(place)
                        ends.append({said: outcome} if outcome else {})
                        self._check(len(order))
                    row[c] = index[key]
                rows.append(row)
        except UnsupportedError as error:
            raise UnsupportedTerminalError(terminal, str(error)) from None
        out: dict[int, Lexeme] = {}
        for said in (terminal, *retyped):
            finals = [tuple(e.get(said, ())) for e in ends]
            out[said] = self._lexeme(said, rows, finals)
        return out

    def _lexeme(
        self, terminal: int, rows: list[dict[int, int]], ends: list[tuple[Obligation, ...]]
    ) -> Lexeme:
        rows, ends = trimmed(rows, ends)
        shape = (terminal, tuple(tuple(sorted(r.items())) for r in rows), tuple(ends))
        known = self._by_shape.get(shape)
        if known is None:
            first = sum(1 << c for c in rows[0])
            known = Lexeme(len(self._by_shape), terminal, rows, ends, first)
            self._by_shape[shape] = known
        return known

    # -- reading under an obligation -----------------------------------------------------------

    def ways(self, lexeme: Lexeme, obligation: Obligation) -> Ways:
        """All ways to read a lexeme where an obligation is pending."""
        key = (lexeme.number, obligation)
        known = self._ways.get(key)
        if known is None:
            known = self._ways[key] = self._make_ways(lexeme, obligation)
        return known

    def _make_ways(self, lexeme: Lexeme, obligation: Obligation) -> Ways:
        machine = self.machine
        if obligation == machine.free:
            return Ways(lexeme.rows, [frozenset(e) for e in lexeme.ends])
        index = {(0, obligation): 0}
        order = [(0, obligation)]
        rows: list[dict[int, int]] = []
        ends: list[frozenset[Obligation]] = []
        for q, pending in order:  # grows while we iterate
            row: dict[int, int] = {}
            for c, target in lexeme.rows[q].items():
                after = machine.keep(pending, c)
                if after is None:
                    continue
                place = (target, after)
                if place not in index:
                    index[place] = len(order)
                    order.append(place)
                    self._check(len(order))
                row[c] = index[place]
            rows.append(row)
            both = (machine.together(pending, o) for o in lexeme.ends[q])
            ends.append(frozenset(o for o in both if o is not None))
        return Ways(*trimmed(rows, ends))

    def effect(self, lexeme: Lexeme, obligation: Obligation) -> object:
        """A value that is equal for obligations under which a lexeme is read in the same ways."""
        touched = _union(obligation.threads) | ~obligation.following
        if not touched & lexeme.first:
            return None
        key = (lexeme.number, obligation)
        if key not in self._effects:
            ways = self.ways(lexeme, obligation)
            self._effects[key] = minimal_automaton(ways.rows, ways.ends)
        return self._effects[key]

    def survivors(self, thread: Thread, lexeme: Lexeme) -> set[Thread]:
        """The threads a pending one may have become when the lexeme ends."""
        if not thread[1] & lexeme.first:
            return set()
        pending = self.machine.obligation(self.machine.alphabet.all, [thread])
        ways = self.ways(lexeme, pending)
        return {t for o in ways.outcomes for t in o.threads}

    def matters(self, thread: Thread, lexeme: Lexeme) -> bool:
        """Whether a pending thread may forbid the lexeme or still be pending behind it."""
        if not thread[1] & lexeme.first:
            return False
        key = (thread, lexeme.number)
        known = self._matters.get(key)
        if known is None:
            known = self._matters[key] = self._search_matter(thread, lexeme)
        return known

    def _search_matter(self, thread: Thread, lexeme: Lexeme) -> bool:
        machine = self.machine
        start = (0, machine.obligation(machine.alphabet.all, [thread]))
        if start[1].following != machine.alphabet.all:
            return True  # it forbids some first character
        todo = [start]
        seen = {start}
        for q, pending in todo:  # grows while we iterate
            if lexeme.ends[q]:
                return True
            for c in machine.alphabet.members(_union(pending.threads)):
                target = lexeme.rows[q].get(c)
                if target is None:
                    continue
                after = machine.keep(pending, c)
                if after is None or after.following != machine.alphabet.all:
                    return True
                place = (target, after)
                if after.threads and place not in seen:
                    seen.add(place)
                    todo.append(place)
                    self._check(len(todo))
        return False

    def whole(self, terminal: int) -> object:
        """The minimal automaton of all texts the terminal's pattern matches in full."""
        machine = self.machine
        first = frozenset(machine.begin([terminal])[0])
        index = {(first, False): 0}
        order = [(first, False)]
        rows: list[dict[int, int]] = []
        for current, _ in order:  # grows while we iterate
            row = {}
            for c in machine.alphabet.members(_union(current)):
                # every thread on its own: none cuts another off
                threads: set[Thread] = set()
                ended = False
                for thread in current:
                    more, matches = self._all_threads(thread, c)
                    threads |= more
                    ended = ended or matches
                place = (frozenset(threads), ended)
                if place not in index:
                    index[place] = len(order)
                    order.append(place)
                    self._check(len(order))
                row[c] = index[place]
            rows.append(row)
        return language(rows, [e for _, e in order])

    def _all_threads(self, thread: Thread, c: int) -> tuple[set[Thread], bool]:
        machine = self.machine
        node, mask, antis = thread
        if not mask >> c & 1:
            return set(), False
        cond, after = machine._antis_after(antis, c)
        threads: set[Thread] = set()
        ended = False
        for n, m, a, tag in machine._closure(machine._steps[node].nexts[0], c, cond, after):
            if tag is None:
                threads.add((n, m, a))
            elif m & machine.alphabet.end:
                ended = True
        return threads, ended


def _union(threads: Iterable[Thread]) -> Mask:
    out = 0
    for _, mask, _ in threads:
        out |= mask
    return out


# -- automata as expressions -------------------------------------------------------------------


def automaton_expr(
    rows: list[dict[int, int]], accepting: Sequence[bool], alphabet: Alphabet, most: int
) -> Expr | None:
    """An expression for an automaton; ``None`` where it would exceed ``most`` nodes."""
    rows, kept = trimmed(rows, list(accepting))
    block = equivalence_classes(rows, kept)
    first: dict[int, int] = {}
    for q, b in enumerate(block):
        first.setdefault(b, q)
    masks: dict[tuple[int, int], Mask] = {}
    for b, q in first.items():
        for c, t in rows[q].items():
            masks[b, block[t]] = masks.get((b, block[t]), 0) | 1 << c
    edges = {key: alphabet.expr(mask) for key, mask in masks.items()}
    return eliminate(edges, block[0], {b for b, q in first.items() if kept[q]}, most)


def eliminate(
    edges: Mapping[tuple[int, int], Expr], start: int, finals: Iterable[int], most: int
) -> Expr | None:
    """The texts along paths from ``start`` to one of ``finals`` (states are not negative)."""
    into: dict[int, dict[int, Expr]] = {}
    onward: dict[int, dict[int, Expr]] = {}

    def connect(p: int, q: int, expr: Expr) -> None:
        old = onward.setdefault(p, {}).get(q, NOTHING)
        new = _either(old, expr)
        onward[p][q] = new
        into.setdefault(q, {})[p] = new

    for (p, q), expr in edges.items():
        if expr != NOTHING:
            connect(p, q, expr)
    begin, end = -1, -2
    connect(begin, start, EPSILON)
    for q in finals:
        connect(q, end, EPSILON)
    todo = {q for q in (*into, *onward) if q >= 0}
    while todo:
        # the cheapest first: states in few paths
        q = min(todo, key=lambda x: (_ways_through(into, onward, x), -x))
        todo.remove(q)
        sources = into.pop(q, {})
        targets = onward.pop(q, {})
        loop = sources.pop(q, None)
        targets.pop(q, None)
        middle = EPSILON if loop is None else repeat(loop)
        for p in sources:
            onward[p].pop(q, None)
        for t in targets:
            into[t].pop(q, None)
        total = 0
        for p, before in sources.items():
            for t, after in targets.items():
                connect(p, t, _join(before, middle, after))
                total += _size(onward[p][t])
        if total > most:
            return None
    return onward.get(begin, {}).get(end, NOTHING)


def _ways_through(
    into: Mapping[int, Mapping[int, Expr]], onward: Mapping[int, Mapping[int, Expr]], q: int
) -> int:
    sources = sum(1 for p in into.get(q, ()) if p != q)
    targets = sum(1 for t in onward.get(q, ()) if t != q)
    return sources * targets


def _join(before: Expr, middle: Expr, after: Expr) -> Expr:
    if isinstance(middle, ir.Repeat) and before == middle.item:
        return seq(repeat(before, 1), after)
    return seq(before, middle, after)


def _either(old: Expr, new: Expr) -> Expr:
    """The union, with ``x x*`` beside nothing folded into ``x*``."""
    if new == EPSILON and isinstance(old, ir.Repeat) and old.min == 1 and old.max is None:
        return repeat(old.item)
    if old == EPSILON and isinstance(new, ir.Repeat) and new.min == 1 and new.max is None:
        return repeat(new.item)
    return alt(old, new)


def _size(expr: Expr) -> int:
    return sum(1 for _ in ir.walk(expr))


def describe(error: UnsupportedTerminalError, name: str, pattern: str) -> GrammarError:
    """The error for people."""
    return GrammarError(
        f"terminal {name} (/{pattern}/) uses {error.reason} which this version cannot follow "
        "exactly; write the terminal without it"
    )
