"""Grammars over lexemes as grammars over bytes, lexed exactly as llguidance lexes.

Which lexemes may come is a matter of the rules, and where a lexeme ends one of which lexemes may come:
all of them are read together (:mod:`grammars.frontends.llguidance.lexing`).  A *row* is what the rules
allow in one place: states of the network, as in a deterministic automaton.  Each row becomes a rule that
reads a lexeme and goes on with the row behind it.  What may not follow a lexeme is carried to that row.

Recursive rules are called.  A call is made for all that bears on the lexer inside: what may come instead
of the rule's first lexeme, and what may come behind its last.  What else may be going on outside while
a rule is read (two readings of one text that differ in their rules) is not carried, so of such texts
the grammar may take more than llguidance does, never fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from grammars.compiling.automata import ALL_BYTES
from grammars.frontends.llguidance.interference import Following
from grammars.frontends.llguidance.lexing import Bytes, Found, Lexer, Reading
from grammars.frontends.llguidance.networks import Network, TooLargeError
from grammars.frontends.llguidance.structure import Structure, machine_of
from grammars.ir import EPSILON, Expr, Ref, Rule, alt, repeat, seq

Symbols: TypeAlias = frozenset[int]
"""Lexemes, and parts as ``-1 - part``."""
Exit: TypeAlias = tuple[Bytes, Symbols, int]
"""What a rule leaves behind: bytes that may not follow, lexemes with which it could have gone on, group."""

_NONE: Final[Symbols] = frozenset()
_MAX_ROWS: Final = 6_000


@dataclass(frozen=True, slots=True)
class Instance:
    """A rule called in a certain place.

    Attributes:
        forbidden: bytes with which it may not begin.
        beside: what else may come where it begins, blanks among it.
        behind: what may come behind it.
        group: of the lexeme before it.
    """

    rule: str
    forbidden: Bytes
    beside: Symbols
    behind: Symbols
    group: int
    first: bool = False


@dataclass(frozen=True, slots=True)
class RowKey:
    """A place in an instance.

    Attributes:
        states: of the network.
        forbidden: bytes that may not come.
        beside: what else may come.
        group: of the lexeme before.
        entry: nothing of the rule has been read.
        blanks: text may be ignored here.
    """

    states: frozenset[int]
    forbidden: Bytes
    beside: Symbols
    group: int
    entry: bool
    blanks: bool


@dataclass
class Row:
    """What may be read in a place.

    Attributes:
        arms: texts, and the place behind them.
        calls: instances, and the states behind them.
        parts: parts, and the place behind them.
        leaves: what is left behind where the rule may end here.
    """

    arms: list[tuple[Expr, RowKey]] = field(default_factory=list)
    calls: list[tuple[Instance, frozenset[int]]] = field(default_factory=list)
    parts: list[tuple[int, RowKey]] = field(default_factory=list)
    leaves: Exit | None = None


class Rows:
    """The rows of a structure.

    Args:
        structure: the grammar.
        network: of its rules.
        lexer: reads its lexemes.
        part_first: the bytes with which the parts may begin.
        following: what may come where.
        rivals: by lexeme, those that get in its way.
        together: pairs of lexemes that match one text.
        terminal: what stands for a whole lexeme in rules.

    Attributes:
        plain: whether all lexemes are read as if each stood alone.
        ambiguous: whether somewhere a text may be read inside a rule that is called and outside it.
    """

    def __init__(
        self,
        structure: Structure,
        network: Network,
        lexer: Lexer,
        part_first: list[Bytes],
        following: Following,
        rivals: dict[int, frozenset[int]],
        together: set[frozenset[int]],
        terminal: Callable[[int], Expr],
    ) -> None:
        self._structure = structure
        self._network = network
        self._lexer = lexer
        self._part_first = part_first
        self._following = following
        self._rivals = rivals
        self._together = together
        self._outside = {
            rule: self._first_bytes(symbols) for rule, symbols in following.behind.items()
        }
        self._terminal = terminal
        self._skips = {s.lexeme: s for s in structure.skips if s.lexeme is not None}
        self._blank_bytes = self._first_bytes(frozenset(self._skips))
        self._rows: dict[tuple[Instance, RowKey], Row] = {}
        self._entries: dict[Instance, RowKey] = {}
        self._exits: dict[Instance, dict[Exit, None]] = {}
        self._callers: dict[Instance, set[Instance]] = {}
        self.plain = not self._skips
        self.ambiguous = False

    # -- what may come ----------------------------------------------------------------------------

    def _first_of(self, rule: str) -> Symbols:
        """The lexemes and parts with which a rule may begin."""
        return self._following.first[rule]

    def _mattering(self, rivals: Iterable[int], lexemes: Iterable[int]) -> Symbols:
        """Of some lexemes those that get in the way of others."""
        hindering: set[int] = set()
        for x in lexemes:
            if x >= 0:
                hindering |= self._rivals[x]
        return frozenset(hindering.intersection(rivals))

    def _called(self, states: Iterable[int]) -> list[str]:
        return [call[0] for s in states if (call := self._network.calls[s])]

    def _own(self, states: Iterable[int]) -> set[int]:
        lexemes = {lex[0] for s in states if (lex := self._network.lexemes[s])}
        return lexemes | {-1 - part[0] for s in states if (part := self._network.parts[s])}

    def _all(self, states: frozenset[int]) -> set[int]:
        out = self._own(states)
        for name in self._called(states):
            out |= self._first_of(name)
        return out

    def _ends(self, states: frozenset[int], instance: Instance) -> bool:
        return self._network.ends[instance.rule] in states

    def _allowed(self, key: RowKey, instance: Instance) -> Symbols:
        """Everything that may come in a place and matters there, what is ignored included."""
        out = self._all(key.states)
        if key.blanks:
            skip = self._skip_for(key.group, out)
            if skip is not None:
                out.add(skip)
        out |= key.beside
        if self._ends(key.states, instance):
            out |= instance.behind
        return frozenset(out)

    def _skip_for(self, group: int, allowed: set[int]) -> int | None:
        groups = {self._structure.lexemes[x].group for x in allowed if x >= 0}
        if any(x < 0 and self._structure.parts[-1 - x].merged for x in allowed):
            groups.add(group)
        at: int | None = group
        while at is not None:
            if at in groups:
                return self._structure.skips[at].lexeme
            at = self._structure.skips[at].parent
        return None

    def _first_bytes(self, symbols: Symbols) -> Bytes:
        out = 0
        for x in symbols:
            out |= self._lexer.automata[x].first if x >= 0 else self._part_first[-1 - x]
        return out

    # -- rows -------------------------------------------------------------------------------------

    def explore(self, start: str) -> Instance:
        """Finds all rows from the start rule on; returns its instance.

        Raises:
            TooLargeError: for too many of them.
        """
        first = Instance(start, 0, _NONE, _NONE, 0, first=True)
        todo = [first]
        while todo:
            instance = todo.pop()
            before = len(self._exits.setdefault(instance, {}))
            known = instance in self._entries
            for callee in self._explore_instance(instance):
                self._callers.setdefault(callee, set()).add(instance)
                if callee not in self._exits:
                    self._exits[callee] = {}
                    todo.append(callee)
            if len(self._exits[instance]) > before or not known:
                todo += self._callers.get(instance, ())
        return first

    def _entry(self, instance: Instance) -> RowKey:
        states = self._network.closure([self._network.starts[instance.rule]])
        blanks = instance.first and self._structure.initial_skip
        return RowKey(
            states, instance.forbidden, instance.beside, instance.group, not instance.first, blanks
        )

    def _explore_instance(self, instance: Instance) -> list[Instance]:
        entry = self._entries[instance] = self._entry(instance)
        seen = {entry}
        stack = [entry]
        callees: dict[Instance, None] = {}
        while stack:
            key = stack.pop()
            row = self._row(instance, key)
            if row.leaves is not None:
                self._exits[instance][row.leaves] = None
            for callee, _ in row.calls:
                callees[callee] = None
            for after in self._onward(row, instance):
                if after not in seen:
                    seen.add(after)
                    stack.append(after)
        return list(callees)

    def _onward(self, row: Row, instance: Instance) -> list[RowKey]:
        out = [key for _, key in row.arms] + [key for _, key in row.parts]
        for callee, states in row.calls:
            out += [self._behind_call(x, states, instance) for x in self._exits.get(callee, ())]
        return out

    def _behind_call(self, left: Exit, states: frozenset[int], instance: Instance) -> RowKey:
        forbidden, beside, group = left
        return self._place(states, forbidden, beside, group, instance)

    def _place(
        self,
        states: frozenset[int],
        forbidden: Bytes,
        beside: Symbols,
        group: int,
        instance: Instance,
        *,
        blanks: bool = True,
    ) -> RowKey:
        """A place, without what cannot come there anyway."""
        blanks = blanks and bool(self._skips)
        if forbidden or beside:
            key = RowKey(states, 0, _NONE, group, False, blanks)
            allowed = self._allowed(key, instance)
            beside = self._mattering(beside, allowed)
            possible = self._first_bytes(allowed)
            if self._ends(states, instance):
                possible |= self._outside[instance.rule] | self._blank_bytes
            forbidden &= possible
        return RowKey(states, forbidden, beside, group, False, blanks)

    def _row(self, instance: Instance, key: RowKey) -> Row:
        row = self._rows.get((instance, key))
        if row is None:
            if len(self._rows) >= _MAX_ROWS:
                raise TooLargeError
            row = self._rows[instance, key] = self._make(instance, key)
        return row

    def _make(self, instance: Instance, key: RowKey) -> Row:
        row = Row()
        allowed = self._allowed(key, instance)
        own: dict[int, set[int]] = {}
        for state in sorted(key.states):
            lexeme, part = self._network.lexemes[state], self._network.parts[state]
            call = self._network.calls[state]
            if lexeme is not None:
                own.setdefault(lexeme[0], set()).add(lexeme[1])
            if part is not None:
                self._add_part(row, part, key, instance)
            if call is not None:
                row.calls.append(self._call(call, key, instance, allowed))
        if not self.ambiguous and (row.calls or not instance.first):
            readings = [set(own), *(self._firsts(callee) for callee, _ in row.calls)]
            if self._ends(key.states, instance):
                readings.append({x for x in self._following.behind[instance.rule] if x >= 0})
            self.ambiguous = self._is_ambiguous(readings)
        if self._skips and not key.blanks and not key.entry:
            self._add_empty(row, own, key, instance, allowed)
        if self._ends(key.states, instance) and not key.entry:
            outer = self._following.behind[instance.rule] | self._skips.keys()
            more = self._all(key.states)
            row.leaves = (key.forbidden, self._mattering(more, outer), key.group)
            if instance.first:
                row.leaves = (0, _NONE, 0)
        self._add_lexemes(row, own, key, instance, allowed)
        return row

    def _firsts(self, instance: Instance) -> set[int]:
        return {x for x in self._first_of(instance.rule) if x >= 0}

    def _is_ambiguous(self, readings: list[set[int]]) -> bool:
        for i, some in enumerate(readings):
            for others in readings[:i]:
                if some & others:
                    return True
                if any(frozenset((x, z)) in self._together for x in some for z in others):
                    return True
        return False

    def _add_empty(
        self,
        row: Row,
        own: dict[int, set[int]],
        key: RowKey,
        instance: Instance,
        allowed: Symbols,
    ) -> None:
        """Lexemes that match nothing at all end where none can begin; text may be ignored behind."""
        automata = self._lexer.automata
        empty = [x for x in own if automata[x].accept[automata[x].start]]
        if empty:
            states = self._network.closure(target for x in empty for target in own[x])
            forbidden = key.forbidden | self._first_bytes(frozenset(x for x in allowed if x >= 0))
            row.arms.append((EPSILON, self._place(states, forbidden, _NONE, key.group, instance)))

    def _add_part(self, row: Row, part: tuple[int, int], key: RowKey, instance: Instance) -> None:
        number, target = part
        first = self._part_first[number]
        if first and not first & ~key.forbidden:
            return
        states = self._network.closure([target])
        row.parts.append((number, self._place(states, 0, _NONE, key.group, instance)))

    def _call(
        self, call: tuple[str, int], key: RowKey, instance: Instance, allowed: Symbols
    ) -> tuple[Instance, frozenset[int]]:
        rule, target = call
        states = self._network.closure([target])
        behind = self._all(states)
        if self._ends(states, instance):
            behind |= instance.behind
        first = self._first_of(rule)
        forbidden = key.forbidden & self._first_bytes(first)
        beside = self._mattering(allowed - first, first)
        mattering = self._mattering(behind, self._following.within[rule])
        return Instance(rule, forbidden, beside, mattering, key.group), states

    def _add_lexemes(
        self,
        row: Row,
        own: dict[int, set[int]],
        key: RowKey,
        instance: Instance,
        allowed: Symbols,
    ) -> None:
        skips = {x for x in allowed if x in self._skips} if key.blanks else set()
        mine = own.keys() | skips
        if not mine:
            return
        rivals = self._mattering(allowed, mine)
        reading = self._lexer.reading(frozenset(mine) | rivals)
        ends: dict[RowKey, list[int]] = {}
        whole: dict[int, set[RowKey | None]] = {}
        targets: dict[Found, RowKey | None] = {}
        for state, found in enumerate(reading.found):
            for one in found:
                if one not in targets:
                    targets[one] = self._target(one, own, skips, key, instance)
                after = targets[one]
                alone = len(one[0] & mine) == 1
                for lexeme in one[0] & mine:
                    whole.setdefault(lexeme, set()).add(after if alone else None)
                    if after is not None and after.forbidden:
                        self.plain = False
                if after is not None:
                    ends.setdefault(after, []).append(state)
        if reading.cut & mine or key.forbidden & self._first_bytes(frozenset(mine)):
            self.plain = False
        for after, states in ends.items():
            lexemes = self._whole(after, whole, reading, key)
            if lexemes:
                row.arms.append((alt(*map(self._terminal, lexemes)), after))
            else:
                row.arms.append((_texts(reading, states, key.forbidden), after))

    def _whole(
        self, after: RowKey, whole: dict[int, set[RowKey | None]], reading: Reading, key: RowKey
    ) -> list[int]:
        """The lexemes of which exactly all texts lead to a place; none if it is not so."""
        leading = [x for x, places in whole.items() if after in places]
        if after.forbidden or any(None in places for places in whole.values()):
            return []
        for x in leading:
            automaton = self._lexer.automata[x]
            if whole[x] != {after} or x in reading.cut or key.forbidden & automaton.first:
                return []
            if automaton.accept[automaton.start]:
                return []  # a lexeme that is read is not empty
        return leading

    def _target(
        self,
        found: Found,
        own: dict[int, set[int]],
        skips: set[int],
        key: RowKey,
        instance: Instance,
    ) -> RowKey | None:
        """The place behind lexemes that were found."""
        lexemes, forbidden = found
        skip = next((x for x in lexemes if x in self._skips), None)
        if skip is not None:
            if skip not in skips:
                return None
            again = not self._skips[skip].once
            return self._place(key.states, forbidden, key.beside, key.group, instance, blanks=again)
        mine = [x for x in lexemes if x in own]
        if not mine:
            return None
        groups = [self._structure.lexemes[x].group for x in sorted(mine)]
        group = key.group if key.group in groups else groups[0]
        states = self._network.closure(target for x in mine for target in own[x])
        return self._place(states, forbidden, _NONE, group, instance)

    # -- rules ------------------------------------------------------------------------------------

    def rules(
        self,
        first: Instance,
        name: Callable[[str], str],
        part: Callable[[int], Expr],
        cut: Expr = EPSILON,
    ) -> tuple[list[Rule], str]:
        """The rows as rules.

        Args:
            first: of the start rule.
            name: a free name for a rule.
            part: what stands for a part.
            cut: what stands behind each lexeme.
        """
        made: list[Rule] = []
        names: dict[tuple[Instance, RowKey, Exit], str] = {}
        todo: list[tuple[Instance, RowKey, Exit]] = []

        def ref(instance: Instance, key: RowKey, left: Exit) -> Expr:
            row = self._row(instance, key)
            if row.leaves == left and not (row.arms or row.calls or row.parts):
                return self._ending(instance, key)
            wanted = (instance, key, left)
            if wanted not in names:
                outer = instance.first and key == self._entries[instance]
                inner = f"_{instance.rule}.{len(names)}"
                names[wanted] = name(instance.rule if outer else inner)
                todo.append(wanted)
            return Ref(names[wanted])

        end: Exit = (0, _NONE, 0)
        start = ref(first, self._entries[first], end)
        for instance, key, left in todo:  # grows while we iterate
            if len(todo) > _MAX_ROWS:
                raise TooLargeError
            row = self._row(instance, key)
            branches = [self._ending(instance, key)] if row.leaves == left else []
            branches += [seq(text, cut, ref(instance, after, left)) for text, after in row.arms]
            branches += [seq(part(p), ref(instance, after, left)) for p, after in row.parts]
            for callee, states in row.calls:
                for exit_ in self._exits[callee]:
                    after = self._behind_call(exit_, states, instance)
                    whole = ref(callee, self._entries[callee], exit_)
                    branches.append(seq(whole, ref(instance, after, left)))
            made.append(Rule(names[instance, key, left], alt(*branches)))
        if isinstance(start, Ref):
            return made, start.name
        only = name(first.rule)
        return [Rule(only, start)], only

    def _ending(self, instance: Instance, key: RowKey) -> Expr:
        """What may stand at the end: where another reading could have gone on, ignored text."""
        skip = self._structure.skips[key.group].lexeme
        if not (self.ambiguous and instance.first and key.blanks) or skip is None:
            return EPSILON
        return repeat(self._terminal(skip), 0, 1 if self._skips[skip].once else None)


def _texts(reading: Reading, states: list[int], forbidden: Bytes) -> Expr:
    """The texts that lead to some states and do not begin with a forbidden byte."""
    edges = [[(mask, target, 0) for mask, target in row] for row in reading.edges]
    accept = [False] * len(edges)
    for state in states:
        accept[state] = True
    if forbidden:
        kept = [(mask & ~forbidden & ALL_BYTES, target, 0) for mask, target, _ in edges[0]]
        edges.append([edge for edge in kept if edge[0]])
        accept.append(False)
        return machine_of(edges, accept, len(edges) - 1)
    return machine_of(edges, accept, 0)
