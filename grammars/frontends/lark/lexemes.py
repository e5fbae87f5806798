"""Lexemes: the texts a terminal reads where lark's lexer looks for it, as automata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from grammars.errors import LimitExceeded
from grammars.frontends.lark.minimization import language, minimal_automaton, trimmed
from grammars.frontends.lark.patterns import Mask, UnsupportedError
from grammars.frontends.lark.threads import (
    CLASS,
    CLASS_BITS,
    Machine,
    Obligation,
    Thread,
    UncountableError,
    UnsupportedTerminalError,
    thread_order,
    union,
)
from grammars.work import spend

EVERY_KIND: Final = -1
"""Of a lexeme that is read whatever the character before it."""


@dataclass(eq=False)
class Lexeme:
    """The texts a terminal reads in some context, as an automaton.

    Attributes:
        number: of the lexeme among all of its maker's.
        rows: per state, letter to next state; every state can still come to an end.  A letter is a
            class of characters with, above ``CLASS``, what is counted.
        ends: per state, the obligations under which the lexeme may end there.
        first: the classes it can begin with.
        kinds: the kinds of character before it under which it is read, as a set of bits.
    """

    number: int
    terminal: int
    rows: list[dict[int, int]]
    ends: list[tuple[Obligation, ...]]
    first: Mask = 0
    kinds: int = EVERY_KIND

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


def _obligation_order(
    o: Obligation,
) -> tuple[int, list[tuple[int, int, list[tuple[int, int]]]], int]:
    return -o.following, sorted(map(thread_order, o.threads)), o.behind


_NO_WAYS: Final = Ways([{}], [frozenset()])


class Lexer:
    """Makes lexemes of terminals in contexts and follows obligations through them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._interplay: dict[tuple[int, int, int], bool] = {}
        self._families: dict[object, dict[int, Lexeme]] = {}
        self._ways: dict[tuple[int, Obligation], Ways] = {}
        self._effects: dict[tuple[int, Obligation], object] = {}
        self._matters: dict[tuple[Thread, int], bool] = {}
        self._by_shape: dict[object, Lexeme] = {}
        self._plain: dict[int, tuple[list[dict[int, int]], list[bool]]] = {}

    def lexemes(
        self, terminal: int, earlier: Sequence[int], retyped: Sequence[int]
    ) -> dict[int, list[Lexeme]]:
        """What a terminal reads, by the terminal the token is reported as.

        Where terminals ask about the character before, there may be several lexemes, each for some
        kinds of it.

        Args:
            earlier: the terminals that lark tries before it.
            retyped: string terminals that lark turns an equal text into, in order.
        """
        if not self.machine.anchored.intersection((terminal, *earlier)):
            return {
                said: [lexeme]
                for said, lexeme in self._behind(0, terminal, earlier, retyped).items()
            }
        found: dict[int, dict[Lexeme, int]] = {}
        for kind in range(len(self.machine.kinds)):
            for said, lexeme in self._behind(kind, terminal, earlier, retyped).items():
                kinds = found.setdefault(said, {})
                kinds[lexeme] = kinds.get(lexeme, 0) | 1 << kind
        everything = (1 << len(self.machine.kinds)) - 1
        return {
            said: [x if k == everything else self._for_kinds(x, k) for x, k in kinds.items()]
            for said, kinds in found.items()
        }

    def _behind(
        self, kind: int, terminal: int, earlier: Sequence[int], retyped: Sequence[int]
    ) -> dict[int, Lexeme]:
        rivals = tuple(t for t in earlier if self._meets(t, terminal, kind))
        if not self.machine.anchored.intersection((terminal, *rivals)):
            kind = 0
        key = (terminal, rivals, tuple(retyped), kind)
        known = self._families.get(key)
        if known is None:
            known = self._families[key] = self._make(terminal, rivals, tuple(retyped), kind)
        return known

    def _for_kinds(self, lexeme: Lexeme, kinds: int) -> Lexeme:
        return self._lexeme(lexeme.terminal, lexeme.rows, lexeme.ends, kinds)

    def meets(self, earlier: int, terminal: int) -> bool:
        """Whether a terminal's being tried first changes what another one reads, somewhere."""
        kinds = range(len(self.machine.kinds))
        return any(self._meets(earlier, terminal, kind) for kind in kinds)

    def _meets(self, earlier: int, terminal: int, kind: int) -> bool:
        """Whether the one terminal's being tried first changes what the other reads."""
        if not self.machine.anchored.intersection((earlier, terminal)):
            kind = 0
        key = (earlier, terminal, kind)
        known = self._interplay.get(key)
        if known is None:
            known = self._interplay[key] = self._search_meeting(earlier, terminal, kind)
        return known

    def _search_meeting(self, earlier: int, terminal: int, kind: int) -> bool:
        machine = self.machine
        alone = self._behind(kind, terminal, (), ())[terminal]
        threads, _ = machine.begin([earlier], kind)
        if not alone.first & union(threads):
            return False
        todo: list[tuple[int, tuple[Thread, ...]]] = [(0, tuple(threads))]
        seen = set(todo)
        for q, rivals in todo:  # grows while we iterate
            if alone.ends[q]:
                return True
            wanted = union(rivals)
            for letter, target in alone.rows[q].items():
                c = letter & CLASS
                if not wanted >> c & 1:
                    continue
                for move in machine.moves(rivals, c):
                    if move.matches:
                        return True
                    place = (target, tuple(move.threads))
                    if move.threads and place not in seen:
                        seen.add(place)
                        todo.append(place)
                        self._check(len(todo))
        return False

    def _check(self, states: int) -> None:
        if states > self.machine.limit:
            raise LimitExceeded("max_dfa_states", self.machine.limit, "the lexer of this grammar")

    def _make(
        self, terminal: int, rivals: tuple[int, ...], retyped: tuple[int, ...], kind: int
    ) -> dict[int, Lexeme]:
        machine = self.machine
        threads, _ = machine.begin((*rivals, terminal), kind)
        shadows = tuple(frozenset(machine.begin([s])[0]) for s in retyped)
        first = (tuple(threads), shadows)
        index: dict[object, int] = {(first, terminal, ()): 0}
        order = [first]
        rows: list[dict[int, int]] = []
        ends: list[dict[int, list[Obligation]]] = [{}]
        try:
            for current, others in order:  # grows while we iterate
                row: dict[int, int] = {}
                for letters in machine.letters(current, (t for x in others for t in x)):
                    c = letters[0]
                    moved = [machine.advance(sorted(x, key=thread_order), c) for x in others]
                    text = next((s for s, x in zip(retyped, moved, strict=True) if x[1]), terminal)
                    for move in machine.moves(current, c):
                        outcome = [
                            machine.obligation(mask, before, machine.kind[c])
                            for tag, mask, before in move.matches
                            if tag == terminal
                        ]
                        if not move.threads and not outcome:
                            continue
                        said = text if outcome else terminal
                        # a state is also told apart by how it ends, as that is found on the way in
                        place = (tuple(move.threads), tuple(frozenset(x[0]) for x in moved))
                        key = (place, said, tuple(outcome))
                        if key not in index:
                            index[key] = len(order)
                            order.append(place)
                            ends.append({said: outcome} if outcome else {})
                            self._check(len(order))
                        mark = move.mark << CLASS_BITS
                        row.update(dict.fromkeys((c | mark for c in letters), index[key]))
                rows.append(row)
        except UnsupportedError as error:
            raise UnsupportedTerminalError(terminal, str(error)) from None
        except UncountableError as error:
            # together: one that is counted beside one that is not is told apart by states of no text
            raise UncountableError(*error.terminals, terminal, *rivals) from None
        out: dict[int, Lexeme] = {}
        for said in (terminal, *retyped):
            finals = [tuple(e.get(said, ())) for e in ends]
            out[said] = self._lexeme(said, rows, finals)
        return out

    def _lexeme(
        self,
        terminal: int,
        rows: list[dict[int, int]],
        ends: list[tuple[Obligation, ...]],
        kinds: int = EVERY_KIND,
    ) -> Lexeme:
        rows, ends = trimmed(rows, ends)
        shape = (terminal, tuple(tuple(sorted(r.items())) for r in rows), tuple(ends), kinds)
        known = self._by_shape.get(shape)
        if known is None:
            first = 0
            for letter in rows[0]:
                first |= 1 << (letter & CLASS)
            known = Lexeme(len(self._by_shape), terminal, rows, ends, first, kinds)
            self._by_shape[shape] = known
        return known

    def reads_whole(self, lexeme: Lexeme, text: str) -> bool:
        """Whether a lexeme may end behind all of a text where that is all there is."""
        alphabet = self.machine.alphabet
        at = 0
        for character in text:
            c = alphabet.class_of(ord(character))
            targets = {t for letter, t in lexeme.rows[at].items() if letter & CLASS == c}
            if len(targets) != 1:
                if targets:
                    raise UncountableError(lexeme.terminal)
                return False
            (at,) = targets
        return any(o.following & alphabet.end for o in lexeme.ends[at])

    def shorter_too(self, lexeme: Lexeme) -> Lexeme:
        """The lexeme of a terminal that lark also matches against every beginning of what it matches.

        Each text that it matches where the text ends there is read whatever follows: what ``re`` would
        have preferred is longer, and has this text among its beginnings.

        Raises:
            UnsupportedTerminalError: if the pattern looks at what follows.
        """
        machine = self.machine
        if machine.looks_ahead(lexeme.terminal) or lexeme.terminal in machine.anchored:
            raise UnsupportedTerminalError(
                lexeme.terminal, "look-around at its ends under lexer='dynamic_complete',"
            )
        end = machine.alphabet.end
        ends: list[tuple[Obligation, ...]] = [
            (machine.free,) if any(o.following & end for o in found) else ()
            for found in lexeme.ends
        ]
        return self._lexeme(lexeme.terminal, lexeme.rows, ends)

    # -- reading under an obligation -----------------------------------------------------------

    def ways(self, lexeme: Lexeme, obligation: Obligation) -> Ways:
        """All ways to read a lexeme where an obligation is pending; none behind the wrong character."""
        if not lexeme.kinds >> obligation.behind & 1:
            return _NO_WAYS
        return self._ways_behind_any(lexeme, replace(obligation, behind=0))

    def _ways_behind_any(self, lexeme: Lexeme, obligation: Obligation) -> Ways:
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
            spend(1 + len(lexeme.rows[q]) // 2)
            row: dict[int, int] = {}
            for letter, target in lexeme.rows[q].items():
                after = machine.keep(pending, letter & CLASS)
                if after is None:
                    continue
                place = (target, after)
                if place not in index:
                    index[place] = len(order)
                    order.append(place)
                    self._check(len(order))
                row[letter] = index[place]
            rows.append(row)
            both = (machine.together(pending, o) for o in lexeme.ends[q])
            ends.append(frozenset(o for o in both if o is not None))
        return Ways(*trimmed(rows, ends))

    def effect(self, lexeme: Lexeme, obligation: Obligation) -> object:
        """A value that is equal for obligations under which a lexeme is read in the same ways."""
        if not lexeme.kinds >> obligation.behind & 1:
            return False
        obligation = replace(obligation, behind=0)
        touched = union(obligation.threads) | ~obligation.following
        if not touched & lexeme.first:
            return None
        key = (lexeme.number, obligation)
        if key not in self._effects:
            ways = self._ways_behind_any(lexeme, obligation)
            self._effects[key] = minimal_automaton(ways.rows, ways.ends)
        return self._effects[key]

    def survivors(self, thread: Thread, lexeme: Lexeme) -> set[Thread]:
        """The threads a pending one may have become when the lexeme ends."""
        if not thread[1] & lexeme.first:
            return set()
        pending = self.machine.obligation(self.machine.alphabet.all, [thread])
        ways = self._ways_behind_any(lexeme, pending)
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
            wanted = union(pending.threads)
            for letter, target in lexeme.rows[q].items():
                c = letter & CLASS
                if not wanted >> c & 1:
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
        """The minimal automaton of all texts the terminal's pattern matches in full.

        ``None`` where that does not show how far its counted repetitions are.
        """
        try:
            return self._whole(terminal)
        except UncountableError:
            return None

    def _whole(self, terminal: int) -> object:
        machine = self.machine
        first = frozenset(machine.begin([terminal])[0])
        index = {(first, False): 0}
        order = [(first, False)]
        rows: list[dict[int, int]] = []
        for current, _ in order:  # grows while we iterate
            row = {}
            for letters in machine.letters(current):
                # every thread on its own: none cuts another off
                for mark, threads, matches in machine.moves_apart(current, letters[0]):
                    ended = any(mask & machine.alphabet.end for _, mask, _ in matches)
                    place = (frozenset(threads), ended)
                    if place not in index:
                        index[place] = len(order)
                        order.append(place)
                        self._check(len(order))
                    above = mark << CLASS_BITS
                    row.update(dict.fromkeys((c | above for c in letters), index[place]))
            rows.append(row)
        return language(rows, [e for _, e in order])
