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

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
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
    min_width,
)
from grammars.ir import Ranges
from grammars.work import spend

Thread: TypeAlias = tuple[int, Mask, frozenset["tuple[int, Mask]"]]
"""A place in a pattern: its character node, what it may take next, and, as nodes with masks, the
patterns of negative look-aheads that must not come to a match."""

Match: TypeAlias = tuple[int, Mask, frozenset[Thread]]
"""A terminal that may end here if a character of the mask is next, and the threads before it."""

_COPIES: Final = 32
"""Repetitions of more iterations are counted, where that is possible."""

_BEHIND_THE_END: Final = "a look-ahead at more than one character behind the end of the terminal"

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


CLASS_BITS: Final = 20
CLASS: Final = (1 << CLASS_BITS) - 1
"""The bits of a letter that say which class of characters it is; the others are its marks' number."""


@dataclass(frozen=True, slots=True)
class Region:
    """A counted repetition of one terminal, its body built once.

    An iteration ends by *staying* (there is another, or what follows) or by *going* on behind the
    last one, which it does when it is number ``count``; which of both is for whoever counts.

    Attributes:
        terminal: the terminal that it is of.
        count: how many iterations there are at most.
    """

    terminal: int
    count: int


class UncountableError(Exception):
    """Repetitions of terminals have to be written out: how far each is does not follow from the text."""

    def __init__(self, *terminals: int) -> None:
        super().__init__(*terminals)
        self.terminals = frozenset(terminals)


Marks: TypeAlias = frozenset[tuple[int, str]]
"""What a step does to counted repetitions: numbers of regions with "into", "stay" or "go"."""

Antis: TypeAlias = frozenset[tuple[int, Mask]]
"""Places in patterns of negative look-aheads that must not come to a match."""

_Found: TypeAlias = tuple[int, Mask, Antis, int | None, Marks]
"""A character node, or a match (with its terminal) reached, and the regions passed on the way.

A match has the negative look-aheads that the text behind it decides.
"""


@dataclass(frozen=True, slots=True)
class Move:
    """One way to go on with one character.

    Attributes:
        mark: the number of what it does to counted repetitions, 0 for nothing.
    """

    mark: int
    threads: list[Thread]
    matches: list[Match]


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

    def __init__(
        self,
        patterns: Sequence[Pattern],
        names: Sequence[str],
        limit: int,
        written_out: Container[int] = (),
        apart: Iterable[Ranges] = (),
    ) -> None:
        self.names = names
        self.regions: list[Region] = []
        self.marks: list[Marks] = [frozenset()]
        self._mark_numbers: dict[Marks, int] = {frozenset(): 0}
        self._written_out = written_out
        self._inside: dict[int, int] = {}
        self._region: int | None = None
        self._built: dict[tuple[int, int, int | None, bool, int], int] = {}
        self._patterns = patterns  # kept, since they are known by identity
        self._terminal = 0
        self.alphabet = Alphabet((*(s for p in patterns for s in character_sets(p)), *apart))
        self.limit = limit
        self._steps: list[_Step] = []
        self._negated: set[int] = set()
        self._decided: dict[tuple[int, frozenset[Thread], Antis], bool] = {}
        self._loops = 0
        self._inside_not = False
        self.starts = [self._start(i, pattern) for i, pattern in enumerate(patterns)]
        self._alone: dict[tuple[Thread, int], set[tuple[Mask, frozenset[Thread]]]] = {}
        self._canonical: dict[Obligation, Obligation] = {}
        self._representative: dict[object, Obligation] = {}
        self.free = Obligation(self.alphabet.all, frozenset())
        asked = [self._asked_before(start) for start in self.starts]
        self.anchored = frozenset(i for i, masks in enumerate(asked) if masks)
        told_apart = sorted(set().union(*asked))
        self._behind = tuple({step.mask for step in self._steps if step.kind == "previous"})
        seen: dict[tuple[int, ...], int] = {}
        places = range(len(self.alphabet.classes) + 1)
        answers = [tuple(mask >> p & 1 for mask in told_apart) for p in places]
        self.kind = [seen.setdefault(answer, len(seen)) for answer in answers]
        self.kinds = [self.kind.index(k) for k in range(len(seen))]
        self.at_start = replace(self.free, behind=self.kind[-1])

    def _start(self, terminal: int, pattern: Pattern) -> int:
        self._terminal = terminal
        try:
            return self._build(pattern, self._add(_Step("match", tag=terminal)))
        except LimitExceeded as error:
            error.locate(rule=self.names[terminal])
            raise
        except UnsupportedError as error:
            raise UnsupportedTerminalError(terminal, str(error)) from None

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
        """The first node of a pattern with something behind it; a part that is built again is shared."""
        key = (id(pattern), then, self._region, self._inside_not, self._terminal)
        known = self._built.get(key)
        if known is None:
            known = self._built[key] = self._build_new(pattern, then)
        return known

    def _build_new(self, pattern: Pattern, then: int) -> int:
        match pattern:
            case PChar(ranges):
                at = self._add(_Step("char", (then,), self.alphabet.mask(ranges)))
                if self._region is not None:
                    self._inside[at] = self._region
                if self._inside_not:
                    self._negated.add(at)
                return at
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
                    raise UnsupportedError(
                        "a negative look-ahead at more than one character inside another one"
                    )
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
        elif self._counts(pattern, pattern.max - pattern.min):
            at = self._counted(pattern, pattern.max - pattern.min, then, kind)
        else:
            at = then
            for _ in range(pattern.max - pattern.min):
                at = self._add(_Step(kind, (self._build(pattern.item, at), then), tag=loop))
        at = self._add(_Step("enter", (at,), tag=loop))
        if self._counts(pattern, pattern.min):
            return self._counted(pattern, pattern.min, at, None)
        for _ in range(pattern.min):
            at = self._build(pattern.item, at)
        return at

    def _counts(self, pattern: PRepeat, count: int) -> bool:
        """Whether so many copies of a repetition's body are counted rather than written out."""
        return (
            count > _COPIES
            and self._terminal not in self._written_out
            and self._region is None
            and not self._inside_not
            and min_width(pattern.item) > 0
        )

    def _counted(self, pattern: PRepeat, count: int, then: int, kind: str | None) -> int:
        """Exactly ``count`` iterations, or, ``kind`` being greedy or lazy, up to so many."""
        self._region = len(self.regions)
        self.regions.append(Region(self._terminal, count))
        ended = self._add(_Step("count"))
        body = self._build(pattern.item, ended)
        again = body if kind is None else self._add(_Step(kind, (body, then), tag=0))
        self._steps[ended] = _Step("count", (again, then), tag=self._region)
        at = self._add(_Step("into", (again,), tag=self._region))
        self._region = None
        return at

    # A loop whose body took no character goes on behind the loop, as in `re`: the loops that were
    # entered at this position ("fresh") are part of the place.

    def _closure(
        self,
        start: int,
        previous: int,
        condition: Mask,
        pending: frozenset[tuple[int, Mask]],
        go: bool = False,
    ) -> list[_Found]:
        """Characters and matches reached, the preferred ones first.

        Args:
            start: the node to start from.
            previous: the class of the character before.
            condition: what may come next.
            pending: patterns of negative look-aheads that must not come to a match.
            go: whether an iteration of a counted repetition that ends is its last.
        """
        out: list[_Found] = []
        seen: dict[object, Marks] = {}
        none: frozenset[int] = frozenset()
        nothing: Marks = frozenset()
        stack = [(start, none, condition, pending, nothing)]
        while stack:
            node, fresh, cond, antis, marks = stack.pop()
            step = self._steps[node]
            place = (node, fresh, cond, antis)
            if place in seen:
                if seen[place] != marks:
                    raise self._uncountable(seen[place] | marks)
                continue
            seen[place] = marks
            spend(2)
            match step.kind:
                case "char":
                    if step.mask & cond:
                        out.append((node, step.mask & cond, antis, None, marks))
                case "match":
                    allowed, pending = self._settled(antis, cond)
                    if allowed:
                        out.append((node, allowed, pending, step.tag, marks))
                case "split":
                    stack += [(n, fresh, cond, antis, marks) for n in reversed(step.nexts)]
                case "enter":
                    stack.append((step.nexts[0], fresh - {step.tag}, cond, antis, marks))
                case "into":
                    marks |= {(step.tag, "into")}
                    stack.append((step.nexts[0], fresh, cond, antis, marks))
                case "count":
                    marks |= {(step.tag, "count")}
                    stack.append((step.nexts[1 if go else 0], fresh, cond, antis, marks))
                case "greedy" | "lazy":
                    body, behind = step.nexts
                    ways = [(behind, fresh, cond, antis, marks)]
                    if step.tag not in fresh:
                        inner = fresh | {step.tag} if step.tag else fresh
                        again = (body, inner, cond, antis, marks)
                        ways.insert(0 if step.kind == "greedy" else 1, again)
                    stack += reversed(ways)
                case "previous":
                    if step.mask >> previous & 1:
                        stack.append((step.nexts[0], fresh, cond, antis, marks))
                case "next":
                    if cond & step.mask:
                        stack.append((step.nexts[0], fresh, cond & step.mask, antis, marks))
                case "not":
                    inside, then = step.nexts
                    for n, mask, _, tag, _ in self._closure(
                        inside, previous, self.alphabet.all, frozenset()
                    ):
                        if tag is None:
                            antis |= {(n, mask)}
                        else:
                            cond &= ~mask
                    if cond:
                        stack.append((then, fresh, cond, antis, marks))
        return out

    def _uncountable(self, marks: Marks) -> UncountableError:
        return UncountableError(self.regions[min(marks)[0]].terminal)

    def _settled(self, antis: Antis, cond: Mask) -> tuple[Mask, Antis]:
        """What may come next where a match ends, and the negative look-aheads that are open then."""
        allowed = cond
        still: dict[int, Mask] = {}
        for node, mask in antis:
            for c in self.alphabet.members(mask & cond):
                ends = self._closure(self._steps[node].nexts[0], c, self.alphabet.all, frozenset())
                if any(tag is not None and m == self.alphabet.all for _, m, _, tag, _ in ends):
                    allowed &= ~(1 << c)
                elif ends:
                    still[node] = still.get(node, 0) | 1 << c
        return allowed, frozenset((n, m & allowed) for n, m in still.items() if m & allowed)

    def _antis_after(
        self, antis: frozenset[tuple[int, Mask]], c: int
    ) -> tuple[Mask, frozenset[tuple[int, Mask]]]:
        cond = self.alphabet.all
        after: set[tuple[int, Mask]] = set()
        for node, mask in antis:
            if mask >> c & 1:
                for n, m, _, tag, _ in self._closure(
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
        found: list[_Found] = []
        for t in terminals:
            try:
                found += self._closure(
                    self.starts[t], self.kinds[kind], self.alphabet.all, frozenset()
                )
            except UnsupportedError as error:
                raise UnsupportedTerminalError(t, str(error)) from None
        threads, matches, _ = self._arranged(found)
        return threads, matches

    def moves(self, threads: Iterable[Thread], c: int) -> list[Move]:
        """The threads after one character, and the matches that end behind it.

        There are two ways where an iteration of a counted repetition ends.

        Raises:
            UncountableError: if threads are in several iterations of one repetition.
        """
        found = self._stepped(threads, c, go=False)
        out = [self._move(found, go=False)]
        if self.regions and any(a == "stay" for _, a in self.marks[out[0].mark]):
            out.append(self._move(self._stepped(threads, c, go=True), go=True))
        return out

    def letters(self, threads: Iterable[Thread], beside: Iterable[Thread] = ()) -> list[list[int]]:
        """The classes that some threads can take, those together behind which all is the same.

        Args:
            threads: whose classes are meant.
            beside: other threads to which the classes must be the same.
        """
        threads = list(threads)
        masks = dict.fromkeys(self._behind)
        for _, mask, antis in (*threads, *beside):
            masks[mask] = None
            masks.update(dict.fromkeys(forbidden for _, forbidden in antis))
        return self.alphabet.told_apart(union(threads), masks)

    def advance(self, threads: Iterable[Thread], c: int) -> tuple[list[Thread], list[Match]]:
        """The same where nothing is counted."""
        move, *others = self.moves(threads, c)
        if others:
            raise self._uncountable(self.marks[move.mark])
        return move.threads, move.matches

    def moves_apart(
        self, threads: Iterable[Thread], c: int
    ) -> Iterator[tuple[int, list[Thread], list[Match]]]:
        """The moves of threads none of which cuts another off."""
        for go in (False, True):
            found = [x for thread in threads for x in self._stepped([thread], c, go)]
            kept = [(node, tag, marks) for node, _, _, tag, marks in found]
            mark = self._mark(kept, go)
            if go and all(action != "go" for _, action in self.marks[mark]):
                return
            after = [(node, mask, antis) for node, mask, antis, tag, _ in found if tag is None]
            ended: list[Match] = [
                (tag, mask, frozenset()) for _, mask, _, tag, _ in found if tag is not None
            ]
            yield mark, after, ended

    def _stepped(self, threads: Iterable[Thread], c: int, go: bool) -> list[_Found]:
        found: list[_Found] = []
        for node, mask, antis in threads:
            if not mask >> c & 1:
                continue
            cond, after = self._antis_after(antis, c) if antis else (self.alphabet.all, antis)
            if cond:
                found += self._closure(self._steps[node].nexts[0], c, cond, after, go)
        return found

    def _move(self, found: list[_Found], go: bool) -> Move:
        threads, matches, kept = self._arranged(found)
        return Move(self._mark(kept, go), threads, matches)

    def _mark(self, kept: Iterable[tuple[int, int | None, Marks]], go: bool) -> int:
        """The number of what a step does to counted repetitions."""
        if not self.regions:
            return 0
        does: dict[int, set[str]] = {}
        for node, tag, marks in kept:
            region = self._inside.get(node) if tag is None else None
            for r, action in marks:
                if action == "count" or r == region:
                    does.setdefault(r, set()).add(action)
            if region is not None and all(r != region for r, _ in marks):
                does.setdefault(region, set()).add("on")
        counted = [r for r, actions in does.items() if "count" in actions]
        if len(counted) > 1 or any(len(actions) > 1 for actions in does.values()):
            blamed = [*counted, *(r for r, actions in does.items() if len(actions) > 1)]
            raise UncountableError(self.regions[blamed[0]].terminal)
        said = {"count": "go" if go else "stay", "into": "into"}
        marks = frozenset((r, said[a]) for r, (a,) in does.items() if a in said)
        number = self._mark_numbers.setdefault(marks, len(self.marks))
        if number == len(self.marks):
            self.marks.append(marks)
        return number

    def _arranged(
        self, found: list[_Found]
    ) -> tuple[list[Thread], list[Match], list[tuple[int, int | None, Marks]]]:
        """Drops what comes behind a certain match, and repetitions of a place.

        Of what is behind no match, the third value says the node, the terminal of a match, and the
        regions passed, repetitions included.
        """
        open_ = self.alphabet.all
        uncertain: Mask = 0
        asking = -1
        threads: list[Thread] = []
        matches: list[Match] = []
        kept: list[tuple[int, int | None, Marks]] = []
        taken: dict[tuple[int, Antis], Mask] = {}
        for node, mask, antis, tag, marks in found:
            mask &= open_
            if tag is not None and antis:
                mask = self._where_needed(mask, antis, threads)
            if not mask:
                continue
            if mask & uncertain:
                raise UnsupportedTerminalError(asking, _BEHIND_THE_END)
            kept.append((node, tag, marks))
            if tag is None:
                known = taken.get((node, antis), 0)
                if mask & ~known:
                    taken[node, antis] = known | mask
                    threads.append((node, mask & ~known, antis))
            else:
                before = {(n, m & mask, a) for n, m, a in threads if m & mask}
                for n, m in antis:
                    if m & mask:
                        before.add((n, m & mask, frozenset()))
                        uncertain |= m & mask
                        asking = tag
                matches.append((tag, mask, frozenset(before)))
                open_ &= ~mask | uncertain
        return threads, matches, kept

    def _where_needed(self, mask: Mask, antis: Antis, before: list[Thread]) -> Mask:
        """The characters behind a match with open look-aheads for which the match can matter.

        It does not where a thread before it comes to a match whenever the look-aheads are kept.
        """
        for c in self.alphabet.members(mask & union((n, m, frozenset()) for n, m in antis)):
            higher = frozenset((n, 1 << c, a) for n, m, a in before if m >> c & 1)
            asked = frozenset((n, 1 << c) for n, m in antis if m >> c & 1)
            if higher and self._is_decided(c, higher, asked):
                mask &= ~(1 << c)
        return mask

    def _is_decided(self, c: int, threads: frozenset[Thread], antis: Antis) -> bool:
        """Whether, with this character next, a thread matches wherever no look-ahead is violated."""
        key = (c, threads, antis)
        known = self._decided.get(key)
        if known is None:
            known = self._decided[key] = self._search_decision(c, threads, antis)
        return known

    def _search_decision(self, c: int, threads: frozenset[Thread], antis: Antis) -> bool:
        todo = [(c, threads, antis)]
        seen = set(todo)
        for at, now, asked in todo:  # grows while we iterate
            spend(4)
            open_, after = self._antis_after(asked, at)
            found = self._stepped(now, at, go=False)
            if any(marks for _, _, _, _, marks in found):
                return False  # how often a repetition was taken is not followed here
            kept = dict.fromkeys((n for n, _ in after), 0)
            for n, m in after:
                kept[n] |= m
            moved: set[Thread] = set()
            for node, mask, more, tag, _ in found:
                if tag is None:
                    moved.add((node, mask, more))
                    continue
                for n, m in more:  # what is asked of it beyond what is kept by assumption
                    mask &= ~(m & ~kept.get(n, 0))
                open_ &= ~mask
            if open_ & self.alphabet.end:
                return False
            for one in self.alphabet.members(open_):
                rest = frozenset((n, 1 << one, a) for n, m, a in moved if m >> one & 1)
                pending = frozenset((n, 1 << one) for n, m in after if m >> one & 1)
                if not rest or not pending:
                    return False
                place = (one, rest, pending)
                if place not in seen:
                    seen.add(place)
                    todo.append(place)
                    if len(todo) > self.limit:
                        raise LimitExceeded(
                            "max_dfa_states",
                            self.limit,
                            "the look-aheads of this grammar's terminals",
                        )
        return True

    # -- obligations ---------------------------------------------------------------------------

    def keep(self, obligation: Obligation, c: int) -> Obligation | None:
        """What is left of it after one more character; ``None`` if that violates it."""
        if not obligation.following >> c & 1:
            return None
        if not obligation.threads:
            return self.free
        following, threads = self._pending_after(obligation.threads, c)
        return self.obligation(following, threads) if following else None

    def _pending_after(self, threads: Iterable[Thread], c: int) -> tuple[Mask, set[Thread]]:
        """What may follow one more character, and the threads that are still pending then.

        How far a counted repetition is does not matter here, or the terminal is written out: then
        the error says so.
        """
        following = self.alphabet.all
        kept: set[Thread] = set()
        for thread in threads:
            if not thread[1] >> c & 1:
                continue
            ways = self._ways_alone(thread, c)
            if len(ways) > 1 and any(mask for mask, _ in ways):
                raise UncountableError(self.regions[self._inside[thread[0]]].terminal)
            for mask, more in ways:
                following &= mask
                kept |= more
        return following, kept

    def _ways_alone(self, thread: Thread, c: int) -> set[tuple[Mask, frozenset[Thread]]]:
        """What may follow one thread and one character, and the threads then; found once."""
        known = self._alone.get((thread, c))
        if known is None:
            known = {self._forbids(move) for move in self.moves([thread], c)}
            self._alone[thread, c] = known
        return known

    def _forbids(self, move: Move) -> tuple[Mask, frozenset[Thread]]:
        following = self.alphabet.all
        for tag, mask, before in move.matches:
            if any(n in self._negated for n, _, _ in before) and tag != _FORBIDDEN:
                raise UnsupportedTerminalError(tag, _BEHIND_THE_END)
            following &= ~mask
        return following, frozenset(move.threads)

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
            for letters in self.letters(item.threads):
                allowed = [c for c in letters if item.following >> c & 1]
                if not allowed:
                    continue
                following, threads = self._pending_after(item.threads, allowed[0])
                kept = frozenset((n, m & following, a) for n, m, a in threads if m & following)
                if not following:
                    row.update(dict.fromkeys(allowed, -1))
                elif kept or following != self.alphabet.all:
                    after = Obligation(following, kept)
                    if after not in index:
                        if len(order) >= most:
                            return None
                        index[after] = len(order)
                        order.append(after)
                    row.update(dict.fromkeys(allowed, index[after]))
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
