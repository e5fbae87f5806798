"""Annotated rules as a grammar over bytes, obligations between tokens followed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from grammars import ir
from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends._lark_api import PatternStr
from grammars.frontends.lark.annotated import AnnotatedRules, Node, Symbol, Token
from grammars.frontends.lark.counting import automaton_expr
from grammars.frontends.lark.expressions import eliminate, ir_depth
from grammars.frontends.lark.following import Following
from grammars.frontends.lark.item_sets import ItemSets, OneState, States
from grammars.frontends.lark.lexemes import Lexeme, Ways
from grammars.frontends.lark.loading import Loaded
from grammars.frontends.lark.minimization import language
from grammars.frontends.lark.patterns import Mask
from grammars.frontends.lark.points import END, Lexing, View
from grammars.frontends.lark.recursion import (
    kept_apart,
    reachable,
    with_loops,
    without_left_recursion,
    without_recursion,
)
from grammars.frontends.lark.remarks import lexing_remarks
from grammars.frontends.lark.shared import SharedPattern
from grammars.frontends.lark.source import Source
from grammars.frontends.lark.threads import CLASS, Obligation, UncountableError
from grammars.frontends.regex.python import regex_to_expr
from grammars.ir import EPSILON, NOTHING, Expr, GrammarIR, Layout, Ref, Repeat, Rule, Span, alt, seq
from grammars.limits import Limits

_EXPRESSION_SIZE: Final = 20_000
"""An automaton whose expression would have more nodes is written as rules, one per state."""

_DEEPEST: Final = 200
"""So is one whose expression would be nested more deeply."""


@dataclass(frozen=True, slots=True)
class Control:
    """Between two tokens: what is pending, and how the lexer goes on.

    Attributes:
        pending: the obligation on the text that follows.
        group: of the point.
        phase, level: of the layout (:mod:`grammars.frontends.lark.layout`), 0 where there is none.
    """

    pending: Obligation
    group: int
    phase: int = 0
    level: int = 0


@dataclass
class Read:
    """How one token can be read from a control: the controls behind it, each with its parts."""

    parts: dict[Control, list[tuple[Obligation, Lexeme, frozenset[Obligation]]]] = field(
        default_factory=dict
    )


class Builder:
    """From annotated rules to a grammar over bytes."""

    def __init__(self, source: Source, loaded: Loaded, lexing: Lexing, limits: Limits) -> None:
        self.source = source
        self.loaded = loaded
        self.lexing = lexing
        self.lexer = lexing.lexer
        self.machine = lexing.machine
        self.limits = limits
        self.rules = AnnotatedRules(loaded, lexing)
        contextual = lexing.way == "contextual"
        states: States = ItemSets(source, loaded) if contextual else OneState(source, loaded)
        self.rules.build(states)
        self.group_views = [
            View(
                self.lexer,
                [*(x for xs in g.read.values() for x in xs), *(g.ignored or ())],
                g.end,
            )
            for g in self.rules.groups
        ]
        self.productions = without_left_recursion(
            {
                node: list(dict.fromkeys(map(self._represented, productions)))
                for node, productions in self.rules.productions.items()
                if self.rules.representative[node] == node
            }
        )
        self.following = Following(self.productions, self.rules.representative[self.rules.start])
        self._narrow_views: dict[tuple[int, frozenset[str]], View] = {}
        self._group_for: dict[tuple[int, frozenset[str]], int] = {}
        self._reads: dict[tuple[Control, Token], Read] = {}
        self._skips: dict[Control, dict[tuple[Obligation, Obligation], list[Any]]] = {}
        self._ends: dict[tuple[Node, Control], set[Control]] = {}
        self.out: dict[str, Rule] = {}
        self._names: dict[tuple[Node, Control, Control], str] = {}
        self._taken: set[str] = set()
        self._lexeme_refs: dict[object, Expr] = {}
        self._skip_refs: dict[object, Expr] = {}
        self._whole: dict[int, object] = {}
        self._order: dict[Obligation, int] = {}
        self._size = 0

    def _represented(self, production: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
        return tuple(
            self.rules.landing[s] if isinstance(s, Token) else self.rules.representative[s]
            for s in production
        )

    def build(self) -> GrammarIR:
        """The grammar."""
        start = self.rules.representative[self.rules.start]
        group = self.rules.start_group
        first = Control(self.group_views[group].reduce(self.machine.at_start), group)
        self._order[first.pending] = 0
        self._explore(start, first)
        parts = []
        for last in self._sorted(self._ends[start, first]):
            tail = self._tail(last)
            if tail != NOTHING:
                parts.append(seq(self._ref(start, first, last), tail))
        body = alt(*parts)
        self._emit()
        if isinstance(body, Ref) and body.name in self.out:
            top = body.name
        else:
            top = self._fresh("_text")  # paths of rules do not show it
            self.out = {top: Rule(top, body, self.source.place(self.loaded.start)), **self.out}
        rules = tuple(kept_apart(reachable(with_loops(self.out), top)))
        notes = lexing_remarks(
            self.loaded,
            self.lexing,
            self.rules.points.values(),
            self._written_rules().get,
            body == NOTHING,
        )
        return GrammarIR(rules, top, notes, lexer=self.lexing.way, layout=self._layout())

    def _written_rules(self) -> dict[str, bool]:
        """Of each rule that is reached, whether some text is read for it."""
        out: dict[str, bool] = {}
        for (node, _), ends in self._ends.items():
            name = node[1].rstrip("*")
            if name == node[1]:
                out[name] = out.get(name, False) or bool(ends)
        return out

    def _layout(self) -> Layout | None:
        """How indentation is read."""
        return None

    def _sorted(self, controls: Iterable[Control]) -> list[Control]:
        order = self._order
        return sorted(controls, key=lambda c: (c.group, order[c.pending], c.phase, c.level))

    # -- which controls are reached ------------------------------------------------------------

    def _explore(self, start: Node, first: Control) -> None:
        callers: dict[tuple[Node, Control], dict[tuple[Node, Control], None]] = {}
        self._ends[start, first] = set()
        todo: dict[tuple[Node, Control], None] = {(start, first): None}
        while todo:
            key = next(reversed(todo))
            del todo[key]
            node, control = key
            ends = self._ends[key]
            before = len(ends)
            for production in self.productions[node]:
                at = {control}
                for symbol in production:
                    behind: set[Control] = set()
                    for c in at:
                        if isinstance(symbol, Token):
                            behind.update(self._read(c, symbol).parts)
                            continue
                        inner = (symbol, self._entered(symbol, c))
                        if inner not in self._ends:
                            self._check(len(self._ends), symbol[1])
                            self._ends[inner] = set()
                            todo[inner] = None
                        callers.setdefault(inner, {})[key] = None
                        behind.update(self._left(symbol, c, e) for e in self._ends[inner])
                    at = behind
                ends.update(self._narrowed(c, self.following.follow[node]) for c in at)
            if len(ends) > before:
                todo.update(callers.get(key, {}))

    def _entered(self, node: Node, control: Control) -> Control:
        """The control with which a rule begins that is called from a control."""
        return self._narrowed(control, self.following.first[node])

    def _narrowed(self, control: Control, terminals: frozenset[str]) -> Control:
        """A control that is the same for all that reads only these terminals next, one of many."""
        group = self._group_among(control.group, terminals)
        key = (group, terminals)
        view = self._narrow_views.get(key)
        if view is None:
            found = self.rules.groups[group]
            lexemes = [x for t in terminals for x in found.read.get(t, ())]
            view = View(self.lexer, [*lexemes, *(found.ignored or ())], END in terminals)
            self._narrow_views[key] = view
        pending = view.reduce(control.pending)
        self._order.setdefault(pending, len(self._order))
        return replace(control, pending=pending, group=group)

    def _group_among(self, group: int, terminals: frozenset[str]) -> int:
        """The first group in which the lexer reads these terminals as in the given one."""
        key = (group, terminals)
        known = self._group_for.get(key)
        if known is None:
            own = self.rules.groups[group]
            known = self._group_for[key] = next(
                i
                for i, other in enumerate(self.rules.groups)
                if other.ignored == own.ignored
                and all(other.read.get(t) == own.read.get(t) for t in terminals)
            )
        return known

    def _left(self, node: Node, control: Control, last: Control) -> Control:
        """The control behind a rule called from a control that ends with another."""
        return last

    def _inside(self, node: Node, control: Control, last: Control) -> Control:
        """The inverse: how a rule called from a control ends that leaves another behind."""
        return last

    def _check(self, count: int, rule: str) -> None:
        limit = self.limits.max_dfa_states
        if count > limit:
            error = LimitExceeded("max_dfa_states", limit, "following the lexer through the rules")
            error.locate(rule=rule.rstrip("*"))
            raise error

    # -- tokens --------------------------------------------------------------------------------

    def _skipped(self, control: Control) -> dict[tuple[Obligation, Obligation], list[Any]]:
        """The ways through ignored text: between obligations, the lexemes that lead there."""
        known = self._skips.get(control)
        if known is not None:
            return known
        self._order.setdefault(control.pending, len(self._order))
        view = self.group_views[control.group]
        edges: dict[tuple[Obligation, Obligation], list[Any]] = {}
        order = [control.pending]
        for pending in order:  # grows while we iterate
            for lexeme in self._ignored(control):
                found = self._outcomes(lexeme, pending, view)
                for after, outcomes in found.items():
                    edges.setdefault((pending, after), []).append((lexeme, outcomes))
                    if after not in order:
                        order.append(after)
        self._skips[control] = edges
        return edges

    def _ignored(self, control: Control) -> Sequence[Lexeme]:
        """The lexemes that are dropped between two tokens."""
        return self.rules.groups[control.group].ignored or ()

    def _outcomes(
        self, lexeme: Lexeme, pending: Obligation, view: View
    ) -> dict[Obligation, frozenset[Obligation]]:
        return self._grouped(self.lexer.ways(lexeme, pending), view)

    def _grouped(self, ways: Ways, view: View) -> dict[Obligation, frozenset[Obligation]]:
        """The outcomes of a lexeme, by what is left of each where only some things may follow."""
        grouped: dict[Obligation, list[Obligation]] = {}
        for outcome in ways.outcomes:
            grouped.setdefault(view.reduce(outcome), []).append(outcome)
        return {after: frozenset(group) for after, group in grouped.items()}

    def _after_skip(self, control: Control) -> list[Obligation]:
        edges = self._skipped(control)
        return list(dict.fromkeys([control.pending, *(o for _, o in edges)]))

    def _read(self, control: Control, token: Token) -> Read:
        key = (control, token)
        known = self._reads.get(key)
        if known is None:
            known = self._reads[key] = Read()
            view = self.rules.behind[token]
            group = self.rules.points[token.point].group
            lexemes = self.rules.groups[control.group].read.get(token.terminal, ())
            for pending in self._after_skip(control):
                for lexeme in lexemes:
                    for after, outcomes in self._outcomes(lexeme, pending, view).items():
                        part = (pending, lexeme, outcomes)
                        self._order.setdefault(after, len(self._order))
                        known.parts.setdefault(Control(after, group), []).append(part)
        return known

    # -- expressions ---------------------------------------------------------------------------

    def _emit(self) -> None:
        """Writes every rule that is referred to, and those they refer to."""
        done: set[object] = set()
        while True:
            todo = [k for k in self._names if k not in done]
            if not todo:
                break
            for key in todo:
                done.add(key)
                node, control, last = key
                name = self._names[key]
                parts = [
                    self._path(node, production, control, last)
                    for production in self.productions[node]
                ]
                body = without_recursion(name, alt(*parts))
                self._store(Rule(name, body, self.source.place(node[1].rstrip("*"))))

    def _store(self, rule: Rule) -> None:
        self._size += sum(1 for _ in ir.walk(rule.body))
        if self._size > self.limits.max_expression_nodes:
            error = LimitExceeded(
                "max_expression_nodes", self.limits.max_expression_nodes, "this grammar"
            )
            error.locate(line=rule.span.line, column=rule.span.column, rule=rule.name)
            raise error
        self.out[rule.name] = rule

    def _path(
        self, node: Node, production: tuple[Symbol, ...], control: Control, last: Control
    ) -> Expr:
        """The texts of one production between two controls."""
        layers = [{control}]
        for symbol in production:
            layers.append({d for c in layers[-1] for d in self._behind(symbol, c)})
        follow = self.following.follow[node]
        rest: dict[Control, Expr] = {
            c: EPSILON for c in layers[-1] if self._narrowed(c, follow) == last
        }
        if not rest:
            return NOTHING
        for symbol, layer in zip(reversed(production), reversed(layers[:-1]), strict=True):
            earlier: dict[Control, Expr] = {}
            for c in self._sorted(layer):
                by_rest: dict[Expr, list[Expr]] = {}
                for d in self._sorted(self._behind(symbol, c)):
                    if d in rest:
                        by_rest.setdefault(rest[d], []).append(self._symbol(symbol, c, d))
                expr = alt(*(seq(alt(*heads), tail) for tail, heads in by_rest.items()))
                if expr != NOTHING:
                    earlier[c] = expr
            rest = earlier
        return rest.get(control, NOTHING)

    def _behind(self, symbol: Symbol, control: Control) -> Iterable[Control]:
        if isinstance(symbol, Token):
            return self._read(control, symbol).parts
        ends = self._ends.get((symbol, self._entered(symbol, control)), ())
        return [self._left(symbol, control, last) for last in ends]

    def _symbol(self, symbol: Symbol, control: Control, last: Control) -> Expr:
        if not isinstance(symbol, Token):
            return self._ref(symbol, control, last)
        texts: dict[Obligation, Expr] = {}
        for pending, lexeme, outcomes in self._read(control, symbol).parts[last]:
            more = self._token_text(lexeme, pending, outcomes)
            texts[pending] = alt(texts.get(pending, NOTHING), more)
        by_text: dict[Expr, list[Obligation]] = {}
        for pending, expr in texts.items():
            by_text.setdefault(expr, []).append(pending)
        return alt(*(seq(self._skip(control, ends), expr) for expr, ends in by_text.items()))

    def _token_text(
        self, lexeme: Lexeme, pending: Obligation, outcomes: frozenset[Obligation]
    ) -> Expr:
        """The texts of a lexeme that is read as a token."""
        return self._lexeme(lexeme, pending, outcomes)

    def _ref(self, node: Node, control: Control, last: Control) -> Expr:
        key = (node, self._entered(node, control), self._inside(node, control, last))
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = self._fresh(node[1])
        return Ref(name)

    def _fresh(self, name: str) -> str:
        fresh, i = name, 1
        while fresh in self._taken:
            i += 1
            fresh = f"{name}.{i}"
        self._taken.add(fresh)
        return fresh

    def _tail(self, control: Control) -> Expr:
        """Ignored text up to the end."""
        end = self.machine.alphabet.end
        return self._skip(control, [o for o in self._after_skip(control) if o.following & end])

    def _skip(self, control: Control, ends: Sequence[Obligation]) -> Expr:
        """Ignored text that leads to one of these obligations."""
        key = (control, frozenset(ends))
        known = self._skip_refs.get(key)
        if known is not None:
            return known
        edges = self._skipped(control)
        number: dict[Obligation, int] = {control.pending: 0}
        parts: dict[tuple[int, int], Expr] = {}
        for (source, target), found in edges.items():
            a = number.setdefault(source, len(number))
            b = number.setdefault(target, len(number))
            parts[a, b] = alt(*(self._lexeme(x, source, outcomes) for x, outcomes in found))
        finals = [number[o] for o in ends if o in number]
        body = eliminate(parts, 0, finals, _EXPRESSION_SIZE)
        if body is None:
            where = self.source.place(*self.loaded.ignored)
            raise GrammarError(
                "what is ignored between two tokens leaves the lexer in too many ways; "
                "make the ignored terminals simpler",
                line=where.line,
                column=where.column,
            )
        if body not in (EPSILON, NOTHING):
            body = self._named("ignored", body)
        self._skip_refs[key] = body
        return body

    def _named(self, name: str, body: Expr, span: Span | None = None) -> Expr:
        """A rule of its own for an expression, the same one wherever it occurs."""
        key = ("rule", body)
        known = self._lexeme_refs.get(key)
        if known is None:
            fresh = self._fresh(name)
            self._store(Rule(fresh, body, span or Span(), shared=_is_open(body)))
            known = self._lexeme_refs[key] = Ref(fresh)
        return known

    def _lexeme(self, lexeme: Lexeme, pending: Obligation, outcomes: frozenset[Obligation]) -> Expr:
        """The texts of a lexeme that is read under an obligation and leaves one of others."""
        key = (lexeme.number, pending, outcomes)
        return self._text_of(key, lexeme, self.lexer.ways(lexeme, pending), outcomes)

    def _text_of(
        self, key: object, lexeme: Lexeme, ways: Ways, outcomes: frozenset[Obligation]
    ) -> Expr:
        """The same for given ways; ``key`` stands for all that they depend on."""
        known = self._lexeme_refs.get(key)
        if known is not None:
            return known
        accepting = [bool(ends & outcomes) for ends in ways.ends]
        definition = self.lexing.terminals[lexeme.terminal]
        name = definition.user_repr()
        body = self._written(lexeme.terminal, ways, accepting)
        if body is None:
            with suppress(RecursionError):  # a long chain of options, one inside the other
                body = automaton_expr(ways.rows, accepting, self.machine, _EXPRESSION_SIZE)
            if body is not None and ir_depth(body) > _DEEPEST:
                body = self._flattened(name, body)
        if body is None:
            body = self._as_rules(lexeme.terminal, name, ways, accepting)
        if not isinstance(body, ir.Literal | ir.Chars | Ref):
            span = self.source.place(definition.name, definition.pattern.raw)
            body = self._named(name, body, span)
        self._lexeme_refs[key] = body
        return body

    def _flattened(self, name: str, body: Expr) -> Expr:
        """A deeply nested expression, such as a chain of options, with rules for its inner parts."""
        done: dict[int, tuple[Expr, int]] = {}
        stack = [body]
        while stack:
            node = stack[-1]
            parts = ir.children(node)
            waiting = [x for x in parts if id(x) not in done]
            if waiting:
                stack += waiting
                continue
            stack.pop()
            if id(node) in done:
                continue
            found = [done[id(x)] for x in parts]
            made = ir.with_children(node, [x for x, _ in found]) if parts else node
            height = 1 + max((h for _, h in found), default=0)
            if height >= _DEEPEST // 2 and node is not body:
                made, height = self._named(name, made), 1
            done[id(node)] = made, height
        return done[id(body)][0]

    def _written(self, terminal: int, ways: Ways, accepting: list[bool]) -> Expr | None:
        """The terminal as it was written, where these are all of its texts."""
        pattern = self.lexing.terminals[terminal].pattern
        if terminal in self.machine.anchored or isinstance(pattern, SharedPattern):
            return None  # not the same texts everywhere, or too long to write
        if terminal not in self._whole:
            self._whole[terminal] = self.lexer.whole(terminal)
        if language(ways.rows, accepting) != self._whole[terminal]:
            return None
        if isinstance(pattern, PatternStr) and not pattern.flags:
            return ir.text(pattern.value)
        return _regex(pattern.to_regexp())

    def _as_rules(self, terminal: int, name: str, ways: Ways, accepting: list[bool]) -> Expr:
        if self.machine.regions and any(x > CLASS for row in ways.rows for x in row):
            raise UncountableError(terminal)
        names = [self._fresh(name) for _ in ways.rows]
        for q, row in enumerate(ways.rows):
            masks: dict[int, Mask] = {}
            for c, t in row.items():
                masks[t] = masks.get(t, 0) | 1 << c
            moves = [seq(self.machine.alphabet.expr(m), Ref(names[t])) for t, m in masks.items()]
            self._store(Rule(names[q], alt(*([EPSILON] if accepting[q] else []), *moves)))
        return Ref(names[0])


def _regex(pattern: str) -> Expr | None:
    """The pattern as an expression, where the front end for patterns can write it."""
    try:
        return regex_to_expr(pattern)
    except GrammarError:
        return None


def _is_open(expr: Expr) -> bool:
    """Whether texts of any length match."""
    return any(isinstance(x, Repeat) and x.max is None for x in ir.walk(expr))
