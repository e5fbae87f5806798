"""From rules over lexemes to the intermediate form."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from grammars import composition
from grammars.captures import CUT, captured, marks
from grammars.compiling.automata import ALL_BYTES, Dfa
from grammars.compiling.compiler import regular_dfa
from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.llguidance.first_bytes import first_bytes
from grammars.frontends.llguidance.interference import following, interference
from grammars.frontends.llguidance.lexing import Lexer, automaton_of
from grammars.frontends.llguidance.networks import TooLargeError, network_of
from grammars.frontends.llguidance.rows import Rows
from grammars.frontends.llguidance.structure import (
    Call,
    Cat,
    Lex,
    Lexeme,
    Node,
    Or,
    OtherPart,
    Part,
    Rep,
    Structure,
    machine_of,
)
from grammars.frontends.llguidance.syntax import Place
from grammars.ir import (
    EPSILON,
    Expr,
    GrammarIR,
    Literal,
    Ref,
    Rule,
    Span,
    alt,
    repeat,
    seq,
    single_rule,
)
from grammars.limits import Limits
from grammars.special_tokens import framed

_MAX_NETWORK: Final = 50_000
_MAX_READING: Final = 400_000
_INEXACT: Final = (
    "this grammar is too large to be lexed as llguidance does: wherever a lexeme matches it may end, so "
    "texts are accepted that llguidance cuts in another way"
)
_ROUGHLY: Final = (
    "this grammar has texts that can be read in two ways at once, inside a recursive rule (or one used in "
    "many places) and outside: of such texts some are accepted that llguidance cuts in another way"
)


def emit(structure: Structure, start: str, limits: Limits) -> GrammarIR:
    """The rules of a structure.

    Raises:
        GrammarError: where a part compares items and its text cannot be found again, or reads the byte
            that frames special tokens.
    """
    emission = _Emission(structure, start, limits)
    made = emission.grammar()
    if not (structure.captures or structure.stopped or any(p.ir.marked for p in structure.parts)):
        return made
    cutting = _CutEmission(structure, start, limits, _CUT)
    cuts = cutting.grammar() if emission.by_rows else None
    if not cutting.by_rows:
        return replace(made, marked=_MarkedEmission(structure, start, limits).grammar())
    marked = _MarkedEmission(structure, start, limits, _CUT).grammar()
    return replace(made, marked=replace(marked, marked=cuts))


class _Emission:
    def __init__(
        self, structure: Structure, start: str, limits: Limits, cut: Expr = EPSILON
    ) -> None:
        self._cut = cut
        self.by_rows = False
        self._structure = structure
        self._start = start
        self._limits = limits
        self._whole = composition.Assembly()
        self._rules: list[Rule] = []
        self._terminals: dict[int, Expr] = {}
        self._names: dict[str, str] = {}
        self._written: dict[str, Place] = {}  # rules whose texts are JSON values, with their source

    def grammar(self) -> GrammarIR:
        structure = self._structure
        try:
            rules, start = self._by_rows()
        except TooLargeError:
            structure.notes[_INEXACT] = None
            rules, start = self._plainly()
        whole = self._whole
        body = next(rule for rule in rules if rule.name == start)
        whole.rules[:0] = [rule for rule in (*rules, *self._rules) if rule is not body]
        whole.tokens |= structure.tokens
        made = whole.grammar(start, body.body)
        made = replace(made, rules=(body, *made.rules[1:]))
        made = self._remembering(made)
        notes = dict.fromkeys((*made.notes, *structure.notes))
        return replace(made, notes=tuple(notes))

    def _remembering(self, made: GrammarIR) -> GrammarIR:
        """With what JSON parts ask for beside their rules.

        Raises:
            GrammarError: at the place of a part that compares keys or items, where a text does not show
                that it begins.
        """
        try:
            return composition.memory_of_parts(made, limits=self._limits)
        except GrammarError as error:
            place = self._written.get(error.rule or "")
            if place is not None:
                error.locate(line=place.line, column=place.column)
            raise

    def _ir(self, part: OtherPart) -> GrammarIR:
        """The rules of a part."""
        return part.ir

    # -- lexemes and parts ------------------------------------------------------------------------

    def _terminal(self, number: int) -> Expr:
        """What stands for a lexeme in rules."""
        if number not in self._terminals:
            lexeme = self._structure.lexemes[number]
            body = self._lazily(lexeme) if lexeme.lazy else lexeme.expr
            if isinstance(body, Literal):
                self._terminals[number] = body
            else:
                name = self._whole.name(lexeme.name)
                self._rules.append(Rule(name, body))
                self._terminals[number] = Ref(name)
        return self._terminals[number]

    def _lazily(self, lexeme: Lexeme) -> Expr:
        """The texts of a lexeme of which no beginning is one (but the empty one)."""
        dfa = regular_dfa(single_rule(lexeme.expr), lexeme.expr, self._limits)
        edges = [[] if dfa.accept[q] else list(row) for q, row in enumerate(dfa.edges)]
        edges.append(list(dfa.edges[dfa.start]))
        return machine_of(edges, [*dfa.accept, dfa.accept[dfa.start]], len(edges) - 1)

    def _part(self, number: int) -> Expr:
        part = self._structure.parts[number]
        known = len(self._whole.values)
        made = self._whole.add(self._ir(part))
        self._written |= {value.rule: part.place for value in self._whole.values[known:]}
        return made

    # -- row by row -------------------------------------------------------------------------------

    def _by_rows(self) -> tuple[list[Rule], str]:
        try:
            return self._rows(inline=True)
        except TooLargeError:
            return self._rows(inline=False)

    def _rows(self, *, inline: bool) -> tuple[list[Rule], str]:
        structure = self._structure
        network = network_of(structure.rules, self._start, inline=inline, limit=_MAX_NETWORK)
        automata = []
        states = 0
        for lexeme in structure.lexemes:
            dfa = self._automaton(lexeme.expr)
            states += len(dfa)
            if states > _MAX_READING:
                raise TooLargeError
            automata.append(automaton_of(dfa))
        lexer = Lexer(
            automata,
            frozenset(i for i, x in enumerate(structure.lexemes) if x.lazy),
            frozenset(i for i, x in enumerate(structure.lexemes) if x.free),
            _MAX_READING,
        )
        firsts = [first_bytes(part.ir) & ALL_BYTES for part in structure.parts]
        known = following(network, [automaton.first for automaton in automata], firsts)
        skips = [skip.lexeme for skip in structure.skips if skip.lexeme is not None]
        blanks = 0
        for skip in skips:
            blanks |= automata[skip].first
        rivals, together = interference(automata, lexer.lazy, lexer.free, known.after, blanks)
        if not skips and not any(rivals.values()):
            return self._plainly()
        rows = Rows(structure, network, lexer, firsts, known, rivals, together, self._terminal)
        first = rows.explore(self._start)
        if rows.plain:
            return self._plainly()
        if rows.ambiguous:
            structure.notes[_ROUGHLY] = None
        made = rows.rules(first, self._whole.name, self._part, self._cut)
        self.by_rows = True
        return made

    def _automaton(self, expr: Expr) -> Dfa:
        try:
            return regular_dfa(single_rule(expr), expr, self._limits)
        except LimitExceeded as error:
            if error.limit == "max_dfa_states":
                raise TooLargeError from None
            raise

    # -- as written -------------------------------------------------------------------------------

    def _plainly(self) -> tuple[list[Rule], str]:
        self._names = {name: self._whole.name(name) for name in self._structure.rules}
        out = []
        for name, node in self._structure.rules.items():
            place = self._structure.places.get(name)
            span = Span(place.line, place.column) if place else Span()
            out.append(Rule(self._names[name], self._rule(name, node), span))
        return out, self._names[self._start]

    def _rule(self, name: str, node: Node) -> Expr:
        """The body of a rule."""
        return self._node(node)

    def _blanks(self, group: int) -> Expr | None:
        skip = self._structure.skips[group]
        if skip.lexeme is None:
            return None if skip.parent is None else self._blanks(skip.parent)
        return repeat(seq(self._terminal(skip.lexeme), self._cut), 0, 1 if skip.once else None)

    def _node(self, node: Node) -> Expr:
        match node:
            case Lex(lexeme):
                blanks = self._blanks(self._structure.lexemes[lexeme].group)
                found = self._terminal(lexeme)
                # on either side: where text is cut differs, and the last lexeme may have some behind it
                return found if blanks is None else seq(blanks, found, blanks)
            case Part(part):
                return self._part(part)
            case Call(rule):
                return Ref(self._names[rule])
            case Cat(items):
                return seq(*map(self._node, items))
            case Or(items):
                return alt(*map(self._node, items))
            case Rep(item, low, high):
                return repeat(self._node(item), low, high)
        raise TypeError(node)


_CUT: Final = Literal(framed(CUT))


class _CutEmission(_Emission):
    """The rules with a mark behind each lexeme."""

    def _remembering(self, made: GrammarIR) -> GrammarIR:
        return replace(made, parts=(), tokens=(*made.tokens, CUT))


class _MarkedEmission(_Emission):
    """The rules with marks around what they capture.

    Where lexemes end is known from marks behind them, or bears on nothing.  Ignored text comes before a
    lexeme, as in llguidance, and behind the last one.
    """

    def grammar(self) -> GrammarIR:
        structure = self._structure
        rules, start = self._plainly()
        body = next(rule for rule in rules if rule.name == start)
        blanks = [self._blanks(group) for group in range(len(structure.skips))]
        behind = [blank for blank in blanks if blank is not None]
        whole = self._whole
        whole.tokens |= structure.tokens
        if self._cut != EPSILON:
            whole.tokens[CUT] = None
        names = [*structure.captures.values()]
        names += [x.end_capture for x in structure.stopped.values() if x.end_capture is not None]
        whole.tokens |= dict.fromkeys(mark for name in names for mark in marks(name))
        top = whole.name("captured")
        skips = [x.lexeme for x in structure.skips if x.lexeme is not None]
        uncut = repeat(alt(*map(self._terminal, skips)), 0, None) if skips else EPSILON
        made = whole.grammar(top, seq(Ref(body.name), alt(EPSILON, *behind), uncut))
        return replace(made, rules=(*made.rules, *rules, *self._rules), parts=())

    def _ir(self, part: OtherPart) -> GrammarIR:
        return part.ir.marked or part.ir

    def _rule(self, name: str, node: Node) -> Expr:
        capture = self._structure.captures.get(name)
        stopped = self._structure.stopped.get(name)
        if stopped is None:
            body = self._node(node)
            return body if capture is None else captured(capture, body)
        end = stopped.end
        text = seq(self._blanks(stopped.group) or EPSILON, stopped.text)
        if stopped.end_capture is not None:
            end = captured(stopped.end_capture, end)
        return seq(text if capture is None else captured(capture, text), end, self._cut)

    def _node(self, node: Node) -> Expr:
        if isinstance(node, Lex):
            blanks = self._blanks(self._structure.lexemes[node.lexeme].group)
            found = seq(self._terminal(node.lexeme), self._cut)
            return found if blanks is None else seq(blanks, found)
        if isinstance(node, Part):
            every = [self._blanks(group) for group in range(len(self._structure.skips))]
            before = [blanks for blanks in every if blanks is not None]
            return seq(alt(EPSILON, *before), self._part(node.part))
        return super()._node(node)
