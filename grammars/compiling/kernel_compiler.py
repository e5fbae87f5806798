"""Compiling with kernels: the usual way to a program.

The grammar is written as a table (:mod:`grammars.compiling.encoding`), and kernels do the rest.  What
they do not know is made by :class:`~grammars.compiling.building.RuleBuilder` and put into the table:
intersections, complements, counted repetitions, free text within sequences.  Grammars with left
recursion, bags or rules without any text, and those that are in error or reach a limit, are left to the
plain steps of :mod:`grammars.compiling.compiler`, which also say what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from grammars.compiling import analysis as bounds
from grammars.compiling import kinds
from grammars.compiling.analysis import deep_recursion
from grammars.compiling.analysis_kernels import (
    CALLS,
    EXTRACTS,
    INLINED,
    LOOP,
    NULLABLE,
    RECURSIVE,
    SIMPLE,
    analyse,
    special_rows,
)
from grammars.compiling.assembly_kernels import TIDY, assemble
from grammars.compiling.automata import ALL_BYTES, EMPTY, counts_to_accept, expand, reduce
from grammars.compiling.building import (
    BagPart,
    BuiltRule,
    Lexeme,
    RuleBuilder,
    copy_limit,
)
from grammars.compiling.encoding import Encoding, PackedDfa, UnencodableError
from grammars.compiling.fragments import (
    LEAST_ROWS,
    Fragment,
    Part,
    is_worth_keeping,
    keep_fragment,
    known_fragment,
)
from grammars.compiling.linking_kernels import link
from grammars.compiling.productivity import is_possible, lay_out_bags, settle_bags
from grammars.compiling.products import Products, packed_reduction
from grammars.compiling.shelf import Shelf
from grammars.compiling.spans import (
    Counted,
    at_most,
    intersected,
    is_bound,
    not_empty,
    packed_spans,
)
from grammars.errors import GrammarError, LimitExceeded
from grammars.ir import Bag, Expr, GrammarIR, Literal, Repeat, Rule, Seq, Substrings
from grammars.limits import Limits
from grammars.program import UNBOUNDED, Program
from grammars.work import spend

Int32 = npt.NDArray[np.int32]
Uint8 = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_ROOM: Final = 1 << 12
_OPERANDS_ROOM: Final = 1 << 10
_CHAINS: Final = 1 << 10
_MOST_ROOM: Final = 1 << 21
_NO_NUMBERS: Final = np.zeros(0, np.int32)
_START: Final = -1
"""The number of the start rule, which nothing calls."""

Made: TypeAlias = tuple[Words, Int32, Int32, Uint8, Int32]
"""What ``assemble`` returns."""


@dataclass(frozen=True)
class Facts:
    """What a :class:`RuleBuilder` asks about rules."""

    grammar: GrammarIR
    recursive: frozenset[str]
    nullable: frozenset[str]
    inlined: frozenset[str]

    def inlines(self, name: str) -> bool:
        """Whether a reference to the rule is replaced by the rule's body."""
        return name in self.inlined


def compile_by_kernels(grammar: GrammarIR, limits: Limits) -> Program | None:
    """The program of a grammar; ``None`` if the plain steps have to be taken."""
    try:
        with deep_recursion():
            return _Compilation(grammar, limits).program()
    except LimitExceeded as error:
        if error.limit == "max_work":  # the plain steps would take more
            raise
        return None
    except (UnencodableError, GrammarError, ValueError):
        return None


class _Compilation:
    def __init__(self, grammar: GrammarIR, limits: Limits) -> None:
        self.grammar = grammar
        self.limits = limits
        self.fragments: dict[int, Fragment] = {}  # by row
        code = self.code = Encoding(grammar, self._ready)
        self.table, self.kids = code.table(), np.array(code.kids, np.int32)
        self.roots = np.array(code.roots, np.int32)
        names = code.names
        shared = np.array([grammar[name].shared for name in names], np.uint8)
        fine, self.facts, self.flags, self.empty = analyse(
            self.table, self.kids, self.roots, shared, self._bounds()
        )
        if not fine:
            raise UnencodableError
        self.products = Products(limits.max_dfa_states)
        self.builder = self._builder()
        self.instead: dict[int, int] = {}
        self.dfas: list[PackedDfa] = []
        self.packed: dict[int, PackedDfa] = {}  # by rule
        self.bodies: dict[int, tuple[int, bool]] = {}  # rules without a name: row, extracts
        self.counted: dict[int, Counted] = {}  # by rule, of those whose automata are arrays alone
        self.regular: dict[int, PackedDfa] = {}  # operands of intersections, by row
        self.members_begin, self.members = _ZERO, _NO_NUMBERS
        nodes = 2 * (len(code.text) + len(code.nodes) + len(code.kids))
        nodes += sum(fragment.states for fragment in self.fragments.values())
        self.room = max(_ROOM, 1 << nodes.bit_length())

    def _bounds(self) -> npt.NDArray[np.int64]:
        return np.array(
            [
                bounds.MAX_DEPTH,
                self.limits.max_expression_nodes,
                bounds.INLINE_SIZE,
                bounds.INLINE_ONCE_SIZE,
                bounds.INLINE_TOTAL,
                bounds.INLINE_DEPTH,
                copy_limit(),
            ],
            np.int64,
        )

    def _builder(self) -> RuleBuilder:
        """A builder that knows all named rules by the numbers they have in the table."""
        names = self.code.names
        columns = self.facts.T.tolist()

        def having(column: int) -> frozenset[str]:
            return frozenset(n for n, x in zip(names, columns[column], strict=True) if x)

        nullable = having(NULLABLE)
        facts = Facts(self.grammar, having(RECURSIVE), nullable, having(INLINED))
        builder = RuleBuilder(facts, self.limits, ALL_BYTES, self.products.of)
        builder.name_rules(names)
        return builder

    def program(self) -> Program | None:
        """The program; ``None`` if kernels cannot make it."""
        self._resolve()
        rules = self.builder.rules
        bags = [rule for rule in rules if rule.bag is not None]
        unsettled = [(rule.dfa, rule.bag.members) for rule in bags if rule.bag is not None]
        settle_bags(bags, set(), self.limits)
        if any(rule.bag is None or rule.bag.spec is None for rule in bags):
            return None
        self._pack()
        while True:
            made = self._assembled()
            if self._tidy(made):
                continue
            program = self._link(made)
            if program is not None:
                self._keep_fragments(made)
                return program
            for rule, (separator, members) in zip(bags, unsettled, strict=True):
                assert rule.bag is not None
                rule.dfa, rule.bag.members = separator, members
            dead = _without_texts(made, rules, self.limits)
            if not dead or not self._drop(dead):
                return None
            settle_bags(bags, dead, self.limits)
            self._pack()

    def _pack(self) -> None:
        """The arrays of rules that were built elsewhere, and the members of bags, which are settled."""
        rules = self.builder.rules
        bags = any(rule.bag is not None for rule in rules)
        if bags:
            lay_out_bags(rules)
        for number in range(len(self.code.names), len(rules)):
            known = number in self.packed and rules[number].bag is None
            if number not in self.bodies and not known:
                self.packed[number] = PackedDfa.of(rules[number].dfa)
        if not bags:
            self.members_begin = np.zeros(len(rules) + 1, np.int32)
            return
        members = [
            [member for member, _ in rule.bag.members] if rule.bag is not None else []
            for rule in rules
        ]
        self.members_begin = _offsets(members)
        self.members = np.array([m for row in members for m in row], np.int32)

    # -- rules without any text --------------------------------------------------------------------

    def _drop(self, dead: set[int]) -> bool:
        """Makes references to rules without any (non-empty) text what they are; whether that is all.

        It is not where the start rule is one of them, or an automaton made elsewhere calls one.
        """
        code = self.code
        if len(code.nodes) > len(self.table):
            more = code.table(len(self.table))
            self.empty = np.concatenate((self.empty, np.zeros(len(more), np.uint8)))
            self.table, self.kids = (
                np.concatenate((self.table, more)),
                np.array(code.kids, np.int32),
            )
        tidied = [n for n in self.packed if n < len(code.names) or n in self.bodies]
        for number in tidied:  # made of rows, so made again
            del self.packed[number]
        gone = np.array([-1 - number for number in dead], np.int32)
        elsewhere = [*self.dfas, *self.packed.values()]
        if _START in dead or any(np.isin(dfa.edges[:, 0], gone).any() for dfa in elsewhere):
            return False
        refers = np.isin(self.table[:, 0], (kinds.REF, kinds.CALL))
        rows = np.flatnonzero(refers & np.isin(self.table[:, 1], np.array([*dead], np.int32)))
        for row, number in zip(rows.tolist(), self.table[rows, 1].tolist(), strict=True):
            kind = kinds.LITERAL if self.builder.rules[number].nullable else kinds.NOTHING
            self.table[row, :3] = kind, 0, 0  # the literal has no bytes
        return len(rows) > 0

    # -- rules that are known from other grammars ----------------------------------------------------

    def _ready(self, rule: Rule, row: int) -> int:
        """How many states a rule has that is known, and is to be in a row; 0 if it is not."""
        fragment = known_fragment(rule.body, self.limits)
        if fragment is None:
            return 0
        self.fragments[row] = fragment
        return len(fragment.parts[0].packed.accept)

    def _taken_over(self, fragment: Fragment) -> PackedDfa:
        """The automaton of a known rule; the rules that it calls are added to those of the grammar."""
        base = len(self.builder.rules)
        for number, part in enumerate(fragment.parts[1:], base):
            self.builder.add_part(part.dfa, part.nullable)
            self.packed[number] = part.packed.renumbered(base)
        return fragment.parts[0].packed.renumbered(base)

    def _keep_fragments(self, made: Made) -> None:
        """Notes the large rules that refer to no other, for grammars to come."""
        code = self.code
        ends = [*code.rows_from[1:], len(self.table)]
        places: dict[int, int] = {n: at for at, n in enumerate(made[4][:, 0].tolist())}
        for number, (name, end) in enumerate(zip(code.names, ends, strict=True)):
            rule = self.grammar[name]
            rows = end - code.rows_from[number]
            if not rule.shared or rows < LEAST_ROWS:
                continue
            if self.flags[self.roots[number]] & CALLS or self.facts[number, NULLABLE]:
                continue
            if is_worth_keeping(rule.body, rows):
                fragment = self._fragment(made, places, number)
                if fragment is not None:
                    keep_fragment(rule.body, self.limits, fragment)

    def _fragment(self, made: Made, places: dict[int, int], number: int) -> Fragment | None:
        """A rule as it was made, with those that it calls; ``places`` by rule in the order made."""
        words, edges, begin, accept, order = made
        if number not in places:
            return None
        parts: list[Part] = []
        numbers = {number: 0}  # which part a rule is
        todo = [number]
        for own in todo:  # grows while we iterate
            if own in self.counted or (own != number and own < len(self.code.names)):
                return None
            first, start = order[places[own], 1:3].tolist()
            end = int(order[places[own] + 1, 1]) if places[own] + 1 < len(order) else len(accept)
            cut = edges[begin[first] : begin[end]].copy()
            cut[:, 1] -= first
            calls = cut[:, 0] < 0
            for label in np.unique(cut[calls, 0]).tolist():
                if -1 - label not in numbers:
                    numbers[-1 - label] = len(todo)
                    todo.append(-1 - label)
            cut[calls, 0] = [-1 - numbers[-1 - label] for label in cut[calls, 0].tolist()]
            offsets = begin[first : end + 1] - begin[first]
            packed = PackedDfa(words, cut, offsets, accept[first:end], start - first).trimmed()
            built = self.builder.rules[own]
            dfa = built.dfa
            counts = (dfa.count_min, dfa.count_max) if dfa.counted else None
            parts.append(Part(packed, built.nullable, counts))
        return Fragment(tuple(parts))

    # -- what kernels do not do ------------------------------------------------------------------

    def _resolve(self) -> None:
        """Makes what the kernels need from outside, for all rules that are used."""
        visited = np.zeros(len(self.table), np.uint8)
        seen = np.zeros(len(self.roots), np.uint8)
        builder = self.builder
        todo = np.zeros(1, np.int32)
        bodies = np.zeros((0, 3), np.int32)
        while len(todo) or len(bodies):
            rows = special_rows(
                *(self.table, self.kids, self.roots, self.facts, self.flags),
                *(visited, seen, todo, bodies),
            ).tolist()
            self._prepare([row for row, _, _ in rows])
            for row, extracts, outer in rows:
                with builder.within(self.code.names[outer], bool(extracts)):
                    self._resolve_row(row)
            todo = np.array(builder.called_names(), np.int32)
            bodies = self._new_bodies()

    def _new_bodies(self) -> Int32:
        """Rows of the items of bags made since this was last asked: row, extracts, rule.

        The builder comes upon items below rows that :func:`special_rows` does not go into, as those of a
        bag in a counted repetition are: what they need is asked for too.
        """
        code, rules = self.code, self.builder.rules
        out: list[tuple[int, bool, int]] = []
        for number, item, extracts in self.builder.items[len(self.bodies) :]:
            row = code.row(item)
            self.bodies[number] = (row, extracts)
            out.append((row, extracts, code.number_of(rules[number].name)))
        return np.array(out, np.int32).reshape(-1, 3)

    def _resolve_row(self, row: int) -> None:
        code, builder = self.code, self.builder
        kind = self.table[row, 0]
        expr = code.nodes[row]
        assert expr is not None
        if kind == kinds.SEQ:
            assert isinstance(expr, Seq)
            self.instead[row] = self._cut(builder.lexemes(expr.items))
        elif kind == kinds.REPEAT:
            assert isinstance(expr, Repeat)
            self._call(row, builder.counted_loop_rule(expr))
        elif kind == kinds.MACHINE:
            fragment = self.fragments.get(row)
            if fragment is not None:
                self._embed(row, self._taken_over(fragment))
            elif isinstance(expr, Substrings):
                self._call(row, self._rule_of(packed_spans(expr)))
            else:
                self._embed(row, self._plain(expr, row))
        elif kind in (kinds.AND, kinds.NOT):
            if self._resolve_spans(row):
                return
            packed = self._product(row)
            if packed is not None:
                self._embed(row, packed)
                return
            for operand, _ in self._operands(row):
                known, node = self.regular.get(operand), code.nodes[operand]
                if known is not None and node is not None and not builder.knows_regular(node):
                    unpacked = known.unpacked()
                    self.products.know(unpacked, known)
                    builder.know_regular(node, unpacked)
            dfa = builder.regular_dfa(expr)
            if dfa.counted:
                self._call(row, builder.counted_rule(expr, dfa))
            else:
                self._embed(row, PackedDfa.of(expand(dfa, self.limits.max_dfa_states)))
        elif kind == kinds.BAG:
            assert isinstance(expr, Bag)
            self._call(row, builder.bag_rule(expr))

    def _call(self, row: int, number: int) -> None:
        self.table[row, :2] = kinds.CALL, number

    def _embed(self, row: int, dfa: PackedDfa) -> None:
        self.table[row, :2] = kinds.EMBED, len(self.dfas)
        self.dfas.append(dfa)

    def _cut(self, units: list[Expr | Lexeme]) -> int:
        """The row of a sequence with its free text as rules of their own."""
        code = self.code
        kids: list[int] = []
        for unit in units:
            if isinstance(unit, Lexeme):
                kids.append(code.add(kinds.CALL, self.builder.lexeme_rule(unit.expr), 0, []))
            elif isinstance(unit, Literal):
                kids.append(code.literal(unit.data))
            else:
                kids.append(code.row(unit))
        return code.add(kinds.SEQ, 0, 0, kids)

    # -- intersections and complements -------------------------------------------------------------

    def _operands(self, row: int) -> list[tuple[int, bool]]:
        """Rows of an intersection (or of a complement) and whether they are taken away."""
        table, kids = self.table, self.kids
        if table[row, 0] == kinds.NOT:
            return [(int(kids[table[row, 3]]), True)]
        out: list[tuple[int, bool]] = []
        for kid in kids[table[row, 3] : table[row, 4]].tolist():
            negated = table[kid, 0] == kinds.NOT
            out.append((int(kids[table[kid, 3]]) if negated else kid, bool(negated)))
        return out

    def _resolve_spans(self, row: int) -> bool:
        """Makes an intersection with spans of a text a rule of its own; whether it is one."""
        operands = self._operands(row)
        nodes = {operand: self.code.nodes[operand] for operand, _ in operands}
        spans = [
            n for x, negated in operands if isinstance(n := nodes[x], Substrings) and not negated
        ]
        if not spans:
            return False
        limit = self.limits.max_dfa_states
        bound = next((x for x, negated in operands if not negated and is_bound(nodes[x])), None)
        counter = nodes[bound] if bound is not None else None
        low, high = (counter.min, counter.max) if isinstance(counter, Repeat) else (0, None)
        within: list[PackedDfa] = []
        without: list[PackedDfa] = []
        for operand, negated in operands:
            if operand != bound and not isinstance(nodes[operand], Substrings):
                (without if negated else within).append(self._flat_operand(operand))
        if isinstance(counter, Repeat) and low > 1:
            loop = self.builder.counting_loop(Repeat(counter.item, low, None), regular=True)
            within.append(PackedDfa.of(expand(loop, limit)))
        texts = [packed_spans(n, counted=high is not None and n is spans[0]) for n in spans]
        dfa = intersected(texts, within, without, limit)
        if low == 1:
            dfa = not_empty(dfa)
        if high is None:
            self._call(row, self._rule_of(dfa))
            return True
        counted = at_most(dfa, high)
        self._call(row, self._rule_of(_NOTHING if counted is None else dfa, counted))
        return True

    def _flat_operand(self, row: int) -> PackedDfa:
        """The automaton of a regular operand, uncounted."""
        known, node = self.regular.get(row), self.code.nodes[row]
        if known is not None:
            return known
        assert node is not None
        if isinstance(node, Substrings):
            return packed_spans(node)
        limit = self.limits.max_dfa_states
        return PackedDfa.of(expand(self.builder.regular_dfa(node), limit))

    def _rule_of(self, packed: PackedDfa, counted: Counted | None = None) -> int:
        """The number of a new rule with an automaton that was made on arrays."""
        number = len(self.builder.rules)
        self.builder.add_part(EMPTY, packed.accepts_empty)
        ready = packed.with_fresh_start(accepting=False)
        self.packed[number] = ready
        if counted is not None:
            fewest = counted.fewest
            if len(ready.accept) > len(fewest):  # a start of its own
                fewest = np.append(fewest, max(int(fewest[packed.start]), 1))
            self.counted[number] = counted._replace(dfa=ready, fewest=fewest)
        return number

    def _prepare(self, rows: list[int]) -> None:
        """Builds the operands of intersections and complements, all at once."""
        wanted: list[int] = []
        for row in rows:
            if self.table[row, 0] not in (kinds.AND, kinds.NOT):
                continue
            operands = [operand for operand, _ in self._operands(row)]
            spans = any(isinstance(self.code.nodes[x], Substrings) for x in operands)
            for operand in operands:
                if operand in self.regular or not self.flags[operand] & SIMPLE:
                    continue
                if spans and is_bound(self.code.nodes[operand]):
                    continue  # counted
                known = _OPERANDS.get((self.code.nodes[operand], self.limits.max_dfa_states))
                if known is None:
                    wanted.append(operand)
                else:
                    self.regular[operand] = known
        wanted = list(dict.fromkeys(wanted))
        if not wanted:
            return
        words, edges, begin, accept, order = self._assembled(np.array(wanted, np.int32))
        ends = [*order[1:, 1].tolist(), len(accept)]
        for operand, (first, start), end in zip(wanted, order[:, 1:3].tolist(), ends, strict=True):
            own = edges[begin[first] : begin[end]].copy()
            own[:, 1] -= first
            offsets = begin[first : end + 1] - begin[first]
            dfa = PackedDfa(words, own, offsets, accept[first:end], start - first).trimmed()
            self.regular[operand] = dfa
            if self._is_ours(operand):
                key = (self.code.nodes[operand], self.limits.max_dfa_states)
                _OPERANDS.keep(key, dfa, len(own))

    def _is_ours(self, row: int) -> bool:
        """Whether a regular expression may well occur in other grammars: it has no references."""
        return not self.flags[row] & CALLS and self.flags[row] & LOOP != 0

    def _plain(self, expr: Expr, row: int) -> PackedDfa:
        return PackedDfa.of(self.builder.regular_dfa(expr))

    def _product(self, row: int) -> PackedDfa | None:
        """An intersection or complement of plain operands; ``None`` if some need more."""
        operands = self._operands(row)
        if any(operand not in self.regular for operand, _ in operands):
            return None
        within = [self.regular[operand] for operand, negated in operands if not negated]
        without = [self.regular[operand] for operand, negated in operands if negated]
        return self.products.packed(within, without)

    # -- kernels -----------------------------------------------------------------------------------

    def _assembled(self, wanted: Int32 = _NO_NUMBERS) -> Made:
        code, rules = self.code, self.builder.rules
        table, kids, empty = self.table, self.kids, self.empty
        more = len(code.nodes) - len(table)
        if more:
            table = np.concatenate((table, code.table(len(table))))
            kids = np.array(code.kids, np.int32)
            empty = np.concatenate((empty, np.zeros(more, np.uint8)))
        instead = np.full(len(table), -1, np.int32)
        for row, other in self.instead.items():
            instead[row] = other
        names = len(code.names)
        dfas = [] if len(wanted) else list(self.dfas)
        ready = np.full(len(rules), -1, np.int32)
        top = -1
        if not len(wanted):
            for number, packed in self.packed.items():
                if number < 0:
                    top = len(dfas)
                else:
                    ready[number] = len(dfas)
                dfas.append(packed)
        extracts = np.zeros(len(rules), np.uint8)
        body = np.full(len(rules), -1, np.int32)
        if not len(wanted):
            extracts[:names] = self.facts[:, EXTRACTS]
            body[:names] = self.roots
            for number, (row, extracting) in self.bodies.items():
                body[number], extracts[number] = row, extracting
        # within intersections all rules are replaced by their bodies
        inlined = 1 - self.facts[:, RECURSIVE] if len(wanted) else self.facts[:, INLINED]
        arguments = (
            table,
            kids,
            code.text_bytes(),
            self.roots,
            np.ascontiguousarray(inlined),
            extracts,
            np.array([rule.nullable for rule in rules], np.uint8),
            empty,
            instead,
            body,
            *code.classes(),
            *_joined(dfas),
            code.mask_words(),
            ready,
            top,
            np.zeros(len(rules) + 1, np.int32) if len(wanted) else self.members_begin,
            _NO_NUMBERS if len(wanted) else self.members,
            wanted,
            self.limits.max_dfa_states,
        )
        room = min(self.room, _OPERANDS_ROOM) if len(wanted) else self.room
        while True:
            try:
                made: Made = assemble(*arguments, room)
                spend(len(made[1]))  # edges
            except OverflowError:
                room *= 4
                if room > _MOST_ROOM:
                    raise UnencodableError from None
            else:
                return made

    def _tidy(self, made: Made) -> bool:
        """Reduces automata in which equal states are likely; whether there are any."""
        words, edges, begin, accept, rules = made
        again = [i for i in range(len(rules)) if rules[i, 3] & TIDY]
        if not again:
            return False
        for i in again:
            first = int(rules[i, 1])
            end = int(rules[i + 1, 1]) if i + 1 < len(rules) else len(accept)
            number = int(rules[i, 0])
            own = edges[begin[first] : begin[end]].copy()
            own[:, 1] -= first
            offsets = begin[first : end + 1] - begin[first]
            dfa = PackedDfa(
                words, own, offsets, accept[first:end], int(rules[i, 2]) - first
            ).trimmed()
            less = packed_reduction(dfa)
            if less is None:
                less = PackedDfa.of(reduce(dfa.unpacked()))
            accepting = (less if number < 0 else dfa).accepts_empty
            self.packed[number] = less.with_fresh_start(accepting=accepting)
        return True

    @staticmethod
    def _linked(*arguments: Any) -> Any:
        calls = int((arguments[1][:, 0] < 0).sum())
        room = max(_CHAINS, 1 << calls.bit_length())
        while True:
            try:
                return link(*arguments, room)
            except OverflowError:
                room *= 4

    def _link(self, made: Made) -> Program | None:
        words, edges, begin, accept, order = made
        states = len(accept)
        if states > self.limits.max_program_states:
            return None
        spend(states // 2)
        rules = self.builder.rules
        accept_from = np.where(accept, 0, UNBOUNDED).astype(np.int32)
        accept_from[0] = 0
        count_limit = np.full(states, UNBOUNDED, np.int32)
        count_floor = np.zeros(states, np.int32)
        count_cap = np.full(states, UNBOUNDED, np.int32)
        firsts = order[:, 1].tolist()
        sizes = np.diff([*firsts, states])
        numbers = order[:, 0].tolist()
        for number, base in zip(numbers, firsts, strict=True):
            if number in self.counted:
                counted = self.counted[number]
                end = base + len(counted.fewest)
                count_limit[base:end] = counted.most - counted.fewest
                continue
            if number < 0 or not rules[number].dfa.counted:
                continue
            dfa = rules[number].dfa
            counts = counts_to_accept(dfa)
            assert counts is not None, "counted automata are settled before they are flattened"
            for q, (fewest, most) in enumerate(counts, base):
                if dfa.accept[q - base]:
                    accept_from[q] = dfa.count_min
                if dfa.count_max is None:
                    count_cap[q] = dfa.count_min
                else:
                    count_limit[q] = dfa.count_max - fewest
                if most is not None:
                    count_floor[q] = max(0, dfa.count_min - most)
        parts = [
            (n, base) for n, base in zip(numbers, firsts, strict=True) if n >= 0 and rules[n].bag
        ]
        bag_of = np.full(states, -1, np.int32)
        bags: list[BagPart] = []
        for number, base in parts:
            part = rules[number].bag
            assert part is not None
            bag_of[[base + q for q in part.takes]] = len(bags)
            bags.append(part)
        linked = self._linked(
            words, edges, begin, accept, order, len(rules), (accept_from == 0).view(np.uint8),
            self.members_begin, self.members, bag_of, np.array([n for n, _ in parts], np.int32),
        )  # fmt: skip
        (
            fine, byte_class, classes, read, edge_offset, edge_class, edge_target,
            call_offset, call_start, call_return, call_tail,
            push_offset, push_links, push_target, push_outer, table, first, start_rank,
        ) = linked  # fmt: skip
        if not fine:
            return None
        rule_of = np.zeros(states, np.int32)
        rule_of[1:] = np.repeat(np.arange(1, len(firsts) + 1, dtype=np.int32), sizes)
        names = ["end", self.grammar.start]
        names += [rules[number].name for number in numbers[1:]]
        start_of = {n: int(start) for n, start in zip(numbers, order[:, 2].tolist(), strict=True)}
        members = [[start_of[m] for m, _ in part.members] for part in bags]
        returns = [
            base + q for (_, base), part in zip(parts, bags, strict=True) for q in part.returns
        ]
        return Program(
            start=int(order[0, 2]),
            byte_class=byte_class,
            classes=int(classes),
            table=table,
            edge_offset=edge_offset,
            edge_class=edge_class,
            edge_target=edge_target,
            call_offset=call_offset,
            call_start=call_start,
            call_return=call_return,
            call_tail=call_tail,
            push_offset=push_offset,
            push_links=push_links,
            push_target=push_target,
            push_outer=push_outer,
            accept_from=accept_from,
            count_limit=count_limit,
            count_floor=count_floor,
            count_cap=count_cap,
            first=first,
            start_rank=start_rank,
            rule_of=rule_of,
            rule_names=tuple(names),
            marks=tuple(256 + m for m in np.flatnonzero(read[256:]).tolist()),
            bags=tuple(part.spec for part in bags if part.spec is not None),
            bag_of=bag_of,
            bag_offset=_offsets(members),
            bag_start=np.array([q for row in members for q in row], np.int32),
            bag_return=np.array(returns, np.int32),
        )


def _without_texts(made: Made, rules: Sequence[BuiltRule], limits: Limits) -> set[int]:
    """Rules that no path leads through that is made of bytes and of rules with texts.

    Args:
        made: all automata.
        rules: of which bags are not settled.
        limits: bounds on bags.
    """
    _, edges, begin, accept, order = made
    labels, targets, offsets = edges[:, 0].tolist(), edges[:, 1].tolist(), begin.tolist()
    ends = accept.tolist()
    starts = dict(order[:, [0, 2]].tolist())
    dead = set(starts)
    found = True
    while found:
        found = False
        for number in list(dead):
            if number >= 0 and rules[number].bag is not None:
                if is_possible(rules[number], dead, limits):
                    dead.discard(number)
                    found = True
                continue
            seen = {starts[number]}
            stack = [starts[number]]
            while stack:
                q = stack.pop()
                if ends[q]:
                    dead.discard(number)
                    found = True
                    break
                for e in range(offsets[q], offsets[q + 1]):
                    if targets[e] not in seen and (labels[e] >= 0 or -1 - labels[e] not in dead):
                        seen.add(targets[e])
                        stack.append(targets[e])
    return dead


def _joined(dfas: list[PackedDfa]) -> tuple[Int32, Int32, Uint8, Int32, Int32, Words, Int32]:
    """Automata one behind the other: edges, offsets, accepting, states, starts, masks, offsets."""
    if not dfas:
        return _NO_DFAS
    sizes = _sums([len(dfa.edges) for dfa in dfas])
    return (
        np.concatenate([dfa.edges for dfa in dfas]),
        np.concatenate(
            [_ZERO, *(dfa.begin[1:] + n for dfa, n in zip(dfas, sizes.tolist(), strict=False))]
        ),
        np.concatenate([dfa.accept for dfa in dfas]),
        _sums([len(dfa.accept) for dfa in dfas]),
        np.array([dfa.start for dfa in dfas], np.int32),
        np.concatenate([dfa.words for dfa in dfas]),
        _sums([len(dfa.words) for dfa in dfas]),
    )


def _sums(counts: list[int]) -> Int32:
    out = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=out[1:])
    return out


def _offsets(rows: list[list[int]]) -> Int32:
    return _sums([len(row) for row in rows]) if rows else _ZERO


_ZERO: Final = np.zeros(1, np.int32)
_NO_DFAS: Final = (
    np.zeros((0, 3), np.int32),
    _ZERO,
    np.zeros(0, np.uint8),
    _ZERO,
    np.zeros(0, np.int32),
    np.zeros((0, 5), np.uint64),
    _ZERO,
)
_NOTHING: Final = PackedDfa.of(EMPTY)
_OPERANDS: Final[Shelf[PackedDfa]] = Shelf(200_000)
"""Automata of operands of intersections, by content."""
