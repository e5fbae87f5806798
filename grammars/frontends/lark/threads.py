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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from grammars.errors import LimitExceeded
from grammars.frontends.lark.minimization import minimal_automaton
from grammars.frontends.lark.patterns import (
    Alphabet,
    Mask,
    PAlt,
    Pattern,
    PChar,
    PNext,
    PNot,
    PPrevious,
    PRepeat,
    PSeq,
    UnsupportedError,
    character_sets,
)
from grammars.work import spend

Thread: TypeAlias = tuple[int, Mask, frozenset["tuple[int, Mask]"]]
"""A place in a pattern: its character node, what it may take next, and, as nodes with masks, the
patterns of negative look-aheads that must not come to a match."""

Match: TypeAlias = tuple[int, Mask, frozenset[Thread]]
"""A terminal that may end here if a character of the mask is next, and the threads before it."""

_FORBIDDEN: Final = -1
"""What a pattern inside a negative look-ahead matches."""


@dataclass(frozen=True)
class Obligation:
    """What the text that follows must keep: its first character, and threads that may not match.

    Attributes:
        behind: the kind of the character before, as far as terminals ask about it
            (:attr:`Machine.kinds`).
    """

    following: Mask
    threads: frozenset[Thread]
    behind: int = 0


@dataclass(frozen=True, slots=True)
class _Step:
    kind: str
    nexts: tuple[int, ...] = ()
    mask: Mask = 0
    tag: int = 0


class Machine:
    """All terminals as one machine of threads.

    Attributes:
        anchored: terminals that ask at their start about the character before.
        kind: of each class of characters, and last of the start of the text, the kind that it is for
            these.
        kinds: a member of each kind.
        free: the obligation that forbids nothing.
        at_start: the obligation before a text.
    """

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
        asked = [self._asked_before(start) for start in self.starts]
        self.anchored = frozenset(i for i, masks in enumerate(asked) if masks)
        told_apart = sorted(set().union(*asked))
        seen: dict[tuple[int, ...], int] = {}
        places = range(len(self.alphabet.classes) + 1)
        answers = [tuple(mask >> p & 1 for mask in told_apart) for p in places]
        self.kind = [seen.setdefault(answer, len(seen)) for answer in answers]
        self.kinds = [self.kind.index(k) for k in range(len(seen))]
        self.at_start = replace(self.free, behind=self.kind[-1])

    def _start(self, terminal: int, pattern: Pattern) -> int:
        try:
            return self._build(pattern, self._add(_Step("match", tag=terminal)))
        except LimitExceeded as error:
            error.locate(rule=self.names[terminal])
            raise

    def _asked_before(self, start: int) -> set[Mask]:
        """What is asked about the character before the first one of a terminal."""
        return {
            self._steps[node].mask
            for node in self._reached(start, lambda step: step.kind != "char")
            if self._steps[node].kind == "previous"
        }

    def _reached(self, start: int, passes: Callable[[_Step], bool]) -> list[int]:
        order = [start]
        seen = {start}
        for node in order:  # grows while we iterate
            if passes(self._steps[node]):
                for target in self._steps[node].nexts:
                    if target not in seen:
                        seen.add(target)
                        order.append(target)
        return order

    def looks_ahead(self, terminal: int) -> bool:
        """Whether the pattern of a terminal asks about what follows."""
        nodes = self._reached(self.starts[terminal], lambda step: True)
        return any(self._steps[node].kind in ("next", "not") for node in nodes)

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
            case PPrevious(ranges, start):
                mask = self.alphabet.mask(ranges) | (self.alphabet.end if start else 0)
                return self._add(_Step("previous", (then,), mask))
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
        previous: int,
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

    def begin(self, terminals: Iterable[int], kind: int = 0) -> tuple[list[Thread], list[Match]]:
        """The threads of an alternation of terminals, before its first character.

        Args:
            terminals: in the order in which they are tried.
            kind: of the character before.
        """
        found = []
        for t in terminals:
            try:
                found += self._closure(
                    self.starts[t], self.kinds[kind], self.alphabet.all, frozenset()
                )
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
        threads, matches = self.advance(sorted(obligation.threads, key=thread_order), c)
        following = self.alphabet.all
        for _, mask, _ in matches:
            following &= ~mask
        return self.obligation(following, threads) if following else None

    def obligation(self, following: Mask, threads: Iterable[Thread], behind: int = 0) -> Obligation:
        """One value for all obligations that forbid the same texts."""
        found = self._representing(following, threads)
        return replace(found, behind=behind) if behind else found

    def _representing(self, following: Mask, threads: Iterable[Thread]) -> Obligation:
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
        """Both obligations at once, behind the text that left the second one.

        ``None`` if nothing at all, not even the end, may follow.
        """
        following = a.following & b.following
        if not following:
            return None
        return self.obligation(following, a.threads | b.threads, b.behind)

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
                threads, matches = self.advance(sorted(item.threads, key=thread_order), c)
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


def thread_order(thread: Thread) -> tuple[int, int, list[tuple[int, int]]]:
    return thread[0], thread[1], sorted(thread[2])


class UnsupportedTerminalError(Exception):
    """A terminal (by number) whose pattern cannot be followed."""

    def __init__(self, terminal: int, reason: str) -> None:
        super().__init__(reason)
        self.terminal = terminal
        self.reason = reason


def union(threads: Iterable[Thread]) -> Mask:
    """All characters that one of the threads may take next."""
    out = 0
    for _, mask, _ in threads:
        out |= mask
    return out
