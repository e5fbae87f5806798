"""Lark grammars, lexing included, as grammars over bytes.

The texts of the result are exactly those that lark accepts: with ``parser="lalr"`` and the
contextual lexer where the LALR table has no conflict, with ``parser="earley"`` and the basic lexer
otherwise (a conflict settled by a rule's priority is a conflict as well).

lark reads the grammar, sorts the terminals and builds the table.  What is added here:

1. a *point* for every place between two tokens that lark tells apart: which terminals the lexer
   looks for there (:class:`_Point`); points with the same lexing share a group;
2. rules are annotated with the LALR state they start in, which fixes the point behind each of their
   tokens, and annotated rules that do the same are merged again;
3. a lexeme leaves an obligation on the text behind it (:mod:`grammars.frontends.lark.lexing`), so
   rules are annotated with the obligation before and behind them, as in the construction that
   intersects a grammar with a finite automaton (Bar-Hillel, Perles and Shamir 1961).  Obligations
   that cannot matter for what may follow are dropped at once, so that an ordinary grammar comes out
   as it went in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from grammars import ir
from grammars.causes import barren_causes
from grammars.compiling.automata import components
from grammars.errors import GrammarError, LimitExceeded
from grammars.files import ImportPath
from grammars.frontends import _lark_api, _re_api
from grammars.frontends._lark_api import (
    GrammarAnalyzer,
    LALR_Analyzer,
    LarkError,
    NonTerminal,
    ParserConf,
    PatternStr,
    Shift,
    Terminal,
    TerminalDef,
    UnlessCallback,
)
from grammars.frontends._re_api import PatternError
from grammars.frontends.lark.bounds import check_grammar, check_terminals
from grammars.frontends.lark.imports import Imported, Imports, file_name
from grammars.frontends.lark.lexing import (
    Lexeme,
    Lexer,
    Machine,
    Mask,
    Obligation,
    Pattern,
    Thread,
    UnsupportedError,
    UnsupportedTerminalError,
    Ways,
    automaton_expr,
    describe,
    eliminate,
    parse_pattern,
)
from grammars.frontends.lark.minimization import language
from grammars.frontends.nesting import deepest_bracket
from grammars.frontends.regex.lookaround import locate
from grammars.frontends.regex.python import regex_to_expr
from grammars.ir import EPSILON, NOTHING, Expr, GrammarIR, Ref, Repeat, Rule, Seq, Span, alt, seq
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.work import allow

_END: Final = "$END"
_EXPRESSION_SIZE: Final = 20_000
"""An automaton whose expression would have more nodes is written as rules, one per state."""

_WORK_A_CHARACTER: Final = 20
"""Units of work beside those of ``max_work``, see :mod:`grammars.work`."""

_INLINED_SIZE: Final = 400
"""A rule whose body would have more nodes with all it refers to stays a unit of its own."""


def lark_to_ir(
    text: str,
    start: str = "start",
    limits: Limits = DEFAULT_LIMITS,
    import_paths: Sequence[ImportPath] = (),
    path: Path | None = None,
) -> GrammarIR:
    """Turns a Lark grammar into a grammar over bytes.

    Args:
        text: the grammar.
        start: the rule to start from.
        limits: bounds on what the result may cost.
        import_paths: folders in which ``%import`` looks for grammars.
        path: the file that the text comes from; relative imports are looked for in its folder.

    Raises:
        GrammarError: where lark refuses the grammar, or it uses something that cannot be followed.
        LimitExceeded: where a limit is reached.
    """
    if not isinstance(text, str):
        raise TypeError(f"a grammar must be str, not {type(text).__name__}: {text!r:.80}")
    if not isinstance(start, str):
        raise TypeError(f"start must be the name of a rule, not {start!r:.80}")
    allow(_WORK_A_CHARACTER * len(text))
    source = _Source(text)
    try:
        loaded = _load(source, start, Imports(import_paths), path, limits)
        lexing = _Lexing(source, loaded, limits)
        ir = _Builder(source, loaded, lexing, limits).build()
        return replace(ir, notes=(*ir.notes, *_why_empty(loaded)))
    except UnsupportedTerminalError as error:
        definition = loaded.terminals[error.terminal]
        where = source.place(definition.name, definition.pattern.raw)
        raised = describe(error, definition.user_repr(), definition.pattern.value)
        raise GrammarError(raised.message, line=where.line, column=where.column) from None
    except LimitExceeded as error:
        where = source.place(error.rule, start)
        error.locate(line=where.line, column=where.column)
        raise
    except RecursionError:
        raise source.too_deep() from None


def _why_empty(loaded: _Loaded) -> tuple[str, ...]:
    """If the start rule derives nothing: which rules are to blame."""
    uses: dict[str, list[list[str]]] = {}
    for rule in loaded.rules:
        parts = [str(s.name) for s in rule.expansion if not s.is_term]
        uses.setdefault(str(rule.origin.name), []).append(parts)
    fertile: set[str] = set()
    while True:
        more = {
            name
            for name, ways in uses.items()
            if name not in fertile and any(fertile.issuperset(way) for way in ways)
        }
        if not more:
            break
        fertile |= more
    if str(loaded.start) in fertile:
        return ()
    return barren_causes(
        {n: [part for way in ways for part in way] for n, ways in uses.items() if n not in fertile}
    )


# -- the source and its errors -----------------------------------------------------------------

_PLACE = re.compile(r"\bline (\d+),? column (\d+)")
_PREPOSITION = re.compile(r"[\s,:]*(?:\bat)?\s*$")
"""What leads from the reason to the place in lark's messages."""
_NAMED = (
    re.compile(r"Rule '([^']+)' used but not defined"),
    re.compile(r"(?:[Tt]erminal|[Rr]ule)s? used but not defined: (\w+)"),
    re.compile(r"(?:Rules|Terminals|Templates?) '(\w+)'"),
    re.compile(r"'(\w+)'"),
    re.compile(r"\((\w+) in \w+\)"),
    re.compile(r"for (\w+) \("),
    re.compile(r"\((?:name=)?(\w+)[):]"),
    re.compile(r"(?:[Rr]ule|[Tt]erminal|[Tt]oken) (\w+)"),
)


class _Source:
    """The grammar's text, and where its names are."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._words: list[tuple[str, int, int]] | None = None

    def place(self, *names: str | None) -> Span:
        """Where the first of the names that the text contains stands."""
        for name in names:
            if name:
                for word, line, column in self._tokens():
                    if word == name:
                        return Span(line, column)
        return Span(1, 1)

    def _tokens(self) -> list[tuple[str, int, int]]:
        if self._words is None:
            self._words = []
            pattern = re.compile(
                r"//[^\n]*|(\"(?:\\.|[^\"\\\n])*\"i?)|(/(?!/)(?:\\.|[^/\\\n])*/[imslux]*)|(\w+)"
            )
            for match in pattern.finditer(self.text):
                if match.lastgroup is None and match.lastindex is None:
                    continue
                at = match.start()
                line = self.text.count("\n", 0, at) + 1
                column = at - self.text.rfind("\n", 0, at)
                self._words.append((match.group(), line, column))
        return self._words

    def too_deep(self) -> GrammarError:
        """The refusal of a grammar that is nested too deeply, with the deepest place."""
        offset, depth = deepest_bracket(self.text)
        line, column = locate(self.text, offset)
        return GrammarError(
            f"the grammar is nested too deeply (brackets {depth:,} levels here); "
            "give inner parts rules of their own",
            line=line,
            column=column,
        )

    def error(self, error: LarkError, imported: Imported | None = None) -> GrammarError:
        """An error of lark as one of ours, with its place.

        Args:
            error: what lark raised.
            imported: the grammar that was imported last: lark parses each as soon as it is read, so
                an error of syntax is in that one.
        """
        if error.too_deep:
            return self.too_deep()
        if error.is_number:
            line, column = locate(self.text, _re_api.longest_bounds(self.text) or 0)
            return GrammarError(f"lark refuses this grammar: {error}", line=line, column=column)
        message = str(error)
        found = _PLACE.search(message)
        if found:
            line, column = int(found[1]), int(found[2])
            rows = (self.text if imported is None else imported.text).splitlines()
            row = rows[line - 1].strip() if 0 < line <= len(rows) else ""
            reason = _PREPOSITION.sub("", message[: found.start()]) or "unexpected input"
            if imported is not None:
                where = self.place(Path(imported.name).stem)
                return GrammarError(
                    f"lark cannot read the imported grammar {imported.name} near {row!r} "
                    f"(line {line}, column {max(column, 1)}): {reason}; correct the line",
                    line=where.line,
                    column=where.column,
                )
            return GrammarError(
                f"lark cannot read this grammar near {row!r}: {reason}; correct the line",
                line=line,
                column=max(column, 1),
            )
        where = Span(1, 1)
        for pattern in _NAMED:
            named = [n for n in pattern.findall(message) if n in dict.fromkeys(self._names())]
            if named:
                where = self.place(named[0])
                break
        first = message.strip().splitlines()[0]
        return GrammarError(
            f"lark refuses this grammar: {first}", line=where.line, column=where.column
        )

    def _names(self) -> Iterator[str]:
        return (word for word, _, _ in self._tokens())


@dataclass
class _Loaded:
    """What lark made of the grammar."""

    start: str
    terminals: list[TerminalDef]
    rules: list[Any]
    ignored: list[str]


def _load(
    source: _Source, start: str, imports: Imports, path: Path | None, limits: Limits
) -> _Loaded:
    try:
        check_terminals(_lark_api.terminal_trees(source.text), limits)
        grammar = _lark_api.load(source.text, imports.loaders, file_name(path))
    except LarkError as error:
        raise source.error(error, imports.latest) from None
    names = [str(rule[0]) for rule in grammar.rule_defs]
    if start not in names:
        raise GrammarError(
            f"there is no rule {start!r} to start from; name one of the rules with start=: "
            + (", ".join(names[:10]) or "there are none"),
            line=1,
            column=1,
        )
    check_grammar(grammar, limits)
    try:
        loaded = _Loaded(start, *_lark_api.compile_grammar(grammar, start))
    except LarkError as error:
        raise source.error(error) from None
    _validate(source, loaded)
    return loaded


def _validate(source: _Source, loaded: _Loaded) -> None:
    """What lark's lexer and analysis check themselves, with a place."""
    known = {t.name for t in loaded.terminals}
    for t in loaded.terminals:
        where = source.place(t.name, t.pattern.raw)
        try:
            _re_api.parse(f"(?P<{t.name}>{t.pattern.to_regexp()})")
        except PatternError as error:
            raise GrammarError(
                f"terminal {t.user_repr()} is not a pattern that re accepts: {error}",
                line=where.line,
                column=where.column,
            ) from None
    used = [str(s.name) for r in loaded.rules for s in r.expansion if s.is_term]
    for name in (*used, *loaded.ignored):
        if name not in known:
            where = source.place(name)
            raise GrammarError(
                f"terminal {name} has no pattern: %declare needs a postlexer, which is not "
                "supported here; define the terminal",
                line=where.line,
                column=where.column,
            )


# -- points ------------------------------------------------------------------------------------


@dataclass
class _Point:
    """A place between two tokens.

    Attributes:
        follow: the terminals that may be read next, and perhaps the end.
        read: per terminal of ``follow``, the lexemes it can be read as.
        ignored: the lexemes that are dropped.
    """

    follow: frozenset[str]
    read: dict[str, tuple[Lexeme, ...]]
    ignored: tuple[Lexeme, ...]
    group: int = -1


class _View:
    """What may follow at a point, to tell which obligations can matter there."""

    def __init__(self, lexer: Lexer, lexemes: Iterable[Lexeme], end: bool) -> None:
        self.lexer = lexer
        self.lexemes = tuple({x.number: x for x in lexemes}.values())
        alphabet = lexer.machine.alphabet
        first: Mask = 0
        for lexeme in self.lexemes:
            first |= lexeme.first
        self.never = alphabet.all & ~first
        if end:
            self.never &= ~alphabet.end
        self.end = end
        self._reduced: dict[Obligation, Obligation] = {}
        self._by_effect: dict[object, Obligation] = {}

    def matters(self, thread: Thread) -> bool:
        """Whether a pending thread can still forbid anything."""
        return any(self.lexer.matters(thread, lexeme) for lexeme in self.lexemes)

    def reduce(self, obligation: Obligation) -> Obligation:
        """The obligation without what cannot matter here.

        Of obligations that forbid the same lexemes and leave the same behind, one stands for all.
        """
        known = self._reduced.get(obligation)
        if known is None:
            machine = self.lexer.machine
            threads = [t for t in obligation.threads if self.matters(t)]
            known = machine.obligation(obligation.following | self.never, threads)
            if known != machine.free:
                known = self._by_effect.setdefault(self._effect(known), known)
            self._reduced[obligation] = known
        return known

    def _effect(self, obligation: Obligation) -> object:
        end = self.lexer.machine.alphabet.end if self.end else 0
        parts = tuple(self.lexer.effect(x, obligation) for x in self.lexemes)
        return obligation.following & end, parts


class _Group:
    """Points at which the lexer does the same."""

    def __init__(self) -> None:
        self.read: dict[str, tuple[Lexeme, ...]] = {}
        self.ignored: tuple[Lexeme, ...] | None = None
        self.end = False

    def takes(self, point: _Point) -> bool:
        """Whether a point agrees on every terminal both know."""
        if self.ignored is not None and self.ignored != point.ignored:
            return False
        return all(self.read.get(t, lexemes) == lexemes for t, lexemes in point.read.items())

    def add(self, point: _Point) -> None:
        """Puts a point into the group."""
        self.read.update(point.read)
        self.ignored = point.ignored
        self.end = self.end or _END in point.follow


class _Lexing:
    """The terminals as lexemes, by the set of terminals the lexer looks for."""

    def __init__(self, source: _Source, loaded: _Loaded, limits: Limits) -> None:
        self.source = source
        self.terminals = loaded.terminals
        self.number = {t.name: i for i, t in enumerate(loaded.terminals)}
        self.by_name = {t.name: t for t in loaded.terminals}
        self.ignored = loaded.ignored
        patterns: list[Pattern] = []
        for i, t in enumerate(loaded.terminals):
            try:
                patterns.append(parse_pattern(t.pattern.to_regexp()))
            except UnsupportedError as error:
                raise UnsupportedTerminalError(i, str(error)) from None
        try:
            self.machine = Machine(
                patterns, [t.name for t in loaded.terminals], limits.max_dfa_states
            )
        except UnsupportedError as error:
            raise GrammarError(f"a terminal uses {error}, which cannot be followed") from None
        except LimitExceeded as error:
            if error.rule is not None:
                self._locate(error, self.by_name[error.rule])
            raise
        self.lexer = Lexer(self.machine)
        self._contexts: dict[frozenset[str], _Context] = {}

    def context(self, names: Iterable[str]) -> _Context:
        """Lexing among these terminals and the ignored ones."""
        key = frozenset(n for n in names if n in self.number) | frozenset(self.ignored)
        known = self._contexts.get(key)
        if known is None:
            known = self._contexts[key] = self._make_context(key)
        return known

    def _make_context(self, names: frozenset[str]) -> _Context:
        for name in names:
            self._check_width(self.by_name[name])
        try:
            basic = _lark_api.basic_lexer([self.by_name[n] for n in sorted(names)], self.ignored)
        except LarkError as error:
            raise self.source.error(error) from None
        order = [str(t.name) for t in basic.scanner.terminals]
        read: dict[str, list[Lexeme]] = {}
        ignored: list[Lexeme] = []
        for i, name in enumerate(order):
            unless = basic.callback.get(name)
            retyped: list[int] = []
            if isinstance(unless, UnlessCallback):
                retyped = [self.number[str(t.name)] for t in unless.scanner.terminals]
            earlier = [self.number[n] for n in order[:i]]
            if name in self.ignored:
                found = self._lexemes(name, earlier, ())
                ignored += (x for x in found.values() if not x.is_empty())
                continue
            for said, lexeme in self._lexemes(name, earlier, retyped).items():
                if not lexeme.is_empty():
                    read.setdefault(str(self.terminals[said].name), []).append(lexeme)
        return _Context({n: tuple(x) for n, x in read.items()}, tuple(ignored))

    def _locate(self, error: GrammarError, definition: TerminalDef) -> None:
        where = self.source.place(definition.name, definition.pattern.raw)
        error.locate(line=where.line, column=where.column)

    def _lexemes(
        self, name: str, earlier: Sequence[int], retyped: Sequence[int]
    ) -> dict[int, Lexeme]:
        try:
            return self.lexer.lexemes(self.number[name], earlier, retyped)
        except LimitExceeded as error:
            self._locate(error, self.by_name[name])
            raise

    def _check_width(self, definition: TerminalDef) -> None:
        if definition.pattern.min_width:
            return
        where = self.source.place(definition.name, definition.pattern.raw)
        raise GrammarError(
            f"terminal {definition.user_repr()} (/{definition.pattern.value}/) can match the "
            "empty text, which lark's lexer does not allow; make it match at least one character",
            line=where.line,
            column=where.column,
        )


@dataclass
class _Context:
    read: dict[str, tuple[Lexeme, ...]]
    ignored: tuple[Lexeme, ...]


# -- rules annotated with states ---------------------------------------------------------------

_Node: TypeAlias = tuple[int, str]
"""A rule and the LALR state in which it starts (0 where there are no states)."""


@dataclass(frozen=True, slots=True)
class _Token:
    terminal: str
    point: int


_Symbol: TypeAlias = _Token | _Node


class _States:
    """Which point lies behind a token: by LALR state, or else by terminal."""

    def __init__(self, source: _Source, loaded: _Loaded) -> None:
        conf = ParserConf(loaded.rules, {}, [loaded.start])
        self.table: Mapping[int, Mapping[str, tuple[Any, Any]]] | None = None
        self.follow: dict[int, frozenset[str]] = {}
        try:
            with _lark_api.calling():
                analysis: Any = LALR_Analyzer(conf, strict=True)
                analysis.compute_lalr()
            settled = all(
                len(rules) == 1 for s in analysis.lr0_itemsets for rules in s.lookaheads.values()
            )
            if settled:
                table: Any = analysis.parse_table
                self.table = table.states
                self.start = int(table.start_states[loaded.start])
        except LarkError as error:
            if not error.is_refusal:  # a conflict is refused
                raise source.error(error) from None
        if self.table is not None:
            self.contexts = {q: frozenset(map(str, row)) for q, row in self.table.items()}
            self.follow = self.contexts
            return
        self._by_terminal(source, conf, loaded)

    def _by_terminal(self, source: _Source, conf: ParserConf, loaded: _Loaded) -> None:
        try:
            with _lark_api.calling():
                sets = GrammarAnalyzer(conf)
        except LarkError as error:
            raise source.error(error) from None
        everything = frozenset(str(t.name) for t in loaded.terminals)
        self._point = {str(t.name): i + 1 for i, t in enumerate(loaded.terminals)}
        first = {str(s.name) for s in sets.FIRST[NonTerminal(loaded.start)]}
        self.start = 0
        self.follow = {0: frozenset({*first, _END})}
        for name, point in self._point.items():
            found = sets.FOLLOW.get(Terminal(name), set())
            self.follow[point] = frozenset(str(s.name) for s in found)
        self.contexts = dict.fromkeys(self.follow, everything)

    def behind(self, state: int, terminal: str) -> int | None:
        """The point behind a terminal that is read in a state."""
        if self.table is None:
            return self._point[terminal]
        return self.goto(state, terminal)

    def goto(self, state: int, name: str) -> int | None:
        """The state behind a symbol."""
        if self.table is None:
            return 0
        action = self.table[state].get(name)
        return int(action[1]) if action is not None and action[0] is Shift else None


class _Rules:
    """The annotated rules, those that behave alike merged."""

    def __init__(self, loaded: _Loaded, lexing: _Lexing) -> None:
        self.lexing = lexing
        self.groups: list[_Group] = []
        self.productions: dict[_Node, list[tuple[_Symbol, ...]]] = {}
        self._loaded = loaded

    def build(self, states: _States) -> None:
        """Collects the annotated rules from the start rule on, then merges them."""
        by_origin: dict[str, list[list[Any]]] = {}
        for rule in self._loaded.rules:
            by_origin.setdefault(str(rule.origin.name), []).append(list(rule.expansion))
        self.points: dict[int, _Point] = {}
        self.start: _Node = (states.start, self._loaded.start)
        if states.table is None:
            self.start = (0, self._loaded.start)
        self._point(states, states.start)
        todo = [self.start]
        for node in todo:  # grows while we iterate
            if node in self.productions:
                continue
            self.productions[node] = []
            for expansion in by_origin.get(node[1], []):
                symbols = self._annotated(states, node[0], expansion)
                if symbols is not None:
                    self.productions[node].append(symbols)
                    todo += (s for s in symbols if not isinstance(s, _Token))
        self._group()
        self.start_group = self.points[states.start].group
        self._merge()

    def _annotated(
        self, states: _States, state: int, expansion: list[Any]
    ) -> tuple[_Symbol, ...] | None:
        symbols: list[_Symbol] = []
        at = state
        for s in expansion:
            name = str(s.name)
            if s.is_term:
                point = states.behind(at, name)
                if point is None:
                    return None
                self._point(states, point)
                symbols.append(_Token(name, point))
            else:
                symbols.append((at, name))
            after = states.goto(at, name)
            if after is None:
                return None
            at = after
        return tuple(symbols)

    def _point(self, states: _States, q: int) -> None:
        if q in self.points:
            return
        context = self.lexing.context(states.contexts[q])
        follow = states.follow[q]
        # a terminal that is never read here says so: points that differ in it are no group
        read = {t: context.read.get(t, ()) for t in follow if t in self.lexing.number}
        self.points[q] = _Point(follow, read, context.ignored)

    def _group(self) -> None:
        for point in self.points.values():
            for i, group in enumerate(self.groups):
                if group.takes(point):
                    point.group = i
                    break
            else:
                point.group = len(self.groups)
                self.groups.append(_Group())
            self.groups[point.group].add(point)

    def _merge(self) -> None:
        """Merges rules that cannot be told apart, and points that cannot."""
        self.views: dict[int, _View] = {}
        lexer = self.lexing.lexer
        for q, point in self.points.items():
            lexemes = [x for xs in point.read.values() for x in xs]
            self.views[q] = _View(lexer, [*lexemes, *point.ignored], _END in point.follow)
        self._alike()
        self.landing: dict[_Token, _Token] = {}
        alike: dict[object, list[_Token]] = {}
        for token in self._tokens():
            alike.setdefault(self._profile(token), []).append(token)
        for tokens in alike.values():
            self.landing.update(dict.fromkeys(tokens, tokens[0]))
        # what any of the merged points may read counts, so that merging can never lose anything
        self.behind = {
            tokens[0]: _View(
                lexer,
                (x for t in tokens for x in self.views[t.point].lexemes),
                any(self.views[t.point].end for t in tokens),
            )
            for tokens in alike.values()
        }
        self.representative = self._refined()

    def _tokens(self) -> list[_Token]:
        symbols = (s for ps in self.productions.values() for p in ps for s in p)
        return list(dict.fromkeys(s for s in symbols if isinstance(s, _Token)))

    def _alike(self) -> None:
        """Which threads may be pending behind each terminal."""
        lexer = self.lexing.lexer
        lexemes: dict[str, dict[int, Lexeme]] = {}
        skipped: dict[int, Lexeme] = {}
        for point in self.points.values():
            for t, found in point.read.items():
                lexemes.setdefault(t, {}).update((x.number, x) for x in found)
            skipped.update((x.number, x) for x in point.ignored)
        self._outcomes: dict[str, set[Obligation]] = {}
        pending: dict[str, set[Thread]] = {}
        for t, family in lexemes.items():
            ends = {o for x in family.values() for e in x.ends for o in e}
            self._outcomes[t] = ends
            pending[t] = {thread for o in ends for thread in o.threads}
        behind_skipped = {
            thread for x in skipped.values() for e in x.ends for o in e for thread in o.threads
        }
        while True:
            universe = behind_skipped.union(*pending.values())
            grown = False
            for family, target in (
                *((lexemes[t], pending[t]) for t in lexemes),
                (skipped, behind_skipped),
            ):
                for thread in universe:
                    for x in family.values():
                        more = lexer.survivors(thread, x) - target
                        if more:
                            target |= more
                            grown = True
            if not grown:
                break
        self._pending = pending

    def _profile(self, token: _Token) -> object:
        view = self.views[token.point]
        kept = frozenset(t for t in self._pending.get(token.terminal, ()) if view.matters(t))
        partial = any(
            o.following != self.lexing.machine.alphabet.all
            for o in self._outcomes.get(token.terminal, ())
        )
        extra = view.never if partial else 0
        return (token.terminal, self.points[token.point].group, kept, extra)

    def _refined(self) -> dict[_Node, _Node]:
        names: dict[object, int] = {}
        block = {n: names.setdefault(n[1], len(names)) for n in self.productions}
        count = len(names)
        while True:
            seen: dict[object, int] = {}
            fresh: dict[_Node, int] = {}
            for node, productions in self.productions.items():
                rows = frozenset(
                    tuple(self.landing[s] if isinstance(s, _Token) else block[s] for s in p)
                    for p in productions
                )
                fresh[node] = seen.setdefault((block[node], rows), len(seen))
            block = fresh
            if len(seen) == count:
                break
            count = len(seen)
        leader: dict[int, _Node] = {}
        return {n: leader.setdefault(b, n) for n, b in block.items()}


# -- rules annotated with obligations ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Control:
    """Between two tokens: what is pending, and how the lexer goes on."""

    pending: Obligation
    group: int


@dataclass
class _Read:
    """How one token can be read from a control: the controls behind it, each with its parts."""

    parts: dict[_Control, list[tuple[Obligation, Lexeme, frozenset[Obligation]]]] = field(
        default_factory=dict
    )


class _Builder:
    """From annotated rules to a grammar over bytes."""

    def __init__(self, source: _Source, loaded: _Loaded, lexing: _Lexing, limits: Limits) -> None:
        self.source = source
        self.loaded = loaded
        self.lexing = lexing
        self.lexer = lexing.lexer
        self.machine = lexing.machine
        self.limits = limits
        self.rules = _Rules(loaded, lexing)
        self.rules.build(_States(source, loaded))
        self.group_views = [
            _View(
                self.lexer,
                [*(x for xs in g.read.values() for x in xs), *(g.ignored or ())],
                g.end,
            )
            for g in self.rules.groups
        ]
        self.productions = _without_left_recursion(
            {
                node: list(dict.fromkeys(map(self._represented, productions)))
                for node, productions in self.rules.productions.items()
                if self.rules.representative[node] == node
            }
        )
        self._reads: dict[tuple[_Control, _Token], _Read] = {}
        self._skips: dict[_Control, dict[tuple[Obligation, Obligation], list[Any]]] = {}
        self._ends: dict[tuple[_Node, _Control], set[_Control]] = {}
        self.out: dict[str, Rule] = {}
        self._names: dict[tuple[_Node, _Control, _Control], str] = {}
        self._taken: set[str] = set()
        self._lexeme_refs: dict[object, Expr] = {}
        self._skip_refs: dict[object, Expr] = {}
        self._whole: dict[int, object] = {}
        self._order: dict[Obligation, int] = {}
        self._size = 0

    def _represented(self, production: tuple[_Symbol, ...]) -> tuple[_Symbol, ...]:
        return tuple(
            self.rules.landing[s] if isinstance(s, _Token) else self.rules.representative[s]
            for s in production
        )

    def build(self) -> GrammarIR:
        """The grammar."""
        start = self.rules.representative[self.rules.start]
        first = _Control(self.machine.free, self.rules.start_group)
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
            top = self._fresh("text")
            self.out = {top: Rule(top, body, self.source.place(self.loaded.start)), **self.out}
        return GrammarIR(tuple(_kept_apart(_reachable(_with_loops(self.out), top))), top)

    def _sorted(self, controls: Iterable[_Control]) -> list[_Control]:
        order = self._order
        return sorted(controls, key=lambda c: (c.group, order[c.pending]))

    # -- which controls are reached ------------------------------------------------------------

    def _explore(self, start: _Node, first: _Control) -> None:
        callers: dict[tuple[_Node, _Control], dict[tuple[_Node, _Control], None]] = {}
        self._ends[start, first] = set()
        todo: dict[tuple[_Node, _Control], None] = {(start, first): None}
        while todo:
            key = next(reversed(todo))
            del todo[key]
            node, control = key
            ends = self._ends[key]
            before = len(ends)
            for production in self.productions[node]:
                at = {control}
                for symbol in production:
                    behind: set[_Control] = set()
                    for c in at:
                        if isinstance(symbol, _Token):
                            behind.update(self._read(c, symbol).parts)
                            continue
                        inner = (symbol, c)
                        if inner not in self._ends:
                            self._check(len(self._ends), symbol[1])
                            self._ends[inner] = set()
                            todo[inner] = None
                        callers.setdefault(inner, {})[key] = None
                        behind |= self._ends[inner]
                    at = behind
                ends |= at
            if len(ends) > before:
                todo.update(callers.get(key, {}))

    def _check(self, count: int, rule: str) -> None:
        limit = self.limits.max_dfa_states
        if count > limit:
            error = LimitExceeded("max_dfa_states", limit, "following the lexer through the rules")
            error.locate(rule=rule.rstrip("*"))
            raise error

    # -- tokens --------------------------------------------------------------------------------

    def _skipped(self, control: _Control) -> dict[tuple[Obligation, Obligation], list[Any]]:
        """The ways through ignored text: between obligations, the lexemes that lead there."""
        known = self._skips.get(control)
        if known is not None:
            return known
        self._order.setdefault(control.pending, len(self._order))
        view = self.group_views[control.group]
        edges: dict[tuple[Obligation, Obligation], list[Any]] = {}
        order = [control.pending]
        for pending in order:  # grows while we iterate
            for lexeme in self.rules.groups[control.group].ignored or ():
                found = self._outcomes(lexeme, pending, view)
                for after, outcomes in found.items():
                    edges.setdefault((pending, after), []).append((lexeme, outcomes))
                    if after not in order:
                        order.append(after)
        self._skips[control] = edges
        return edges

    def _outcomes(
        self, lexeme: Lexeme, pending: Obligation, view: _View
    ) -> dict[Obligation, frozenset[Obligation]]:
        grouped: dict[Obligation, list[Obligation]] = {}
        for outcome in self.lexer.ways(lexeme, pending).outcomes:
            grouped.setdefault(view.reduce(outcome), []).append(outcome)
        return {after: frozenset(group) for after, group in grouped.items()}

    def _after_skip(self, control: _Control) -> list[Obligation]:
        edges = self._skipped(control)
        return list(dict.fromkeys([control.pending, *(o for _, o in edges)]))

    def _read(self, control: _Control, token: _Token) -> _Read:
        key = (control, token)
        known = self._reads.get(key)
        if known is None:
            known = self._reads[key] = _Read()
            view = self.rules.behind[token]
            group = self.rules.points[token.point].group
            lexemes = self.rules.groups[control.group].read.get(token.terminal, ())
            for pending in self._after_skip(control):
                for lexeme in lexemes:
                    for after, outcomes in self._outcomes(lexeme, pending, view).items():
                        part = (pending, lexeme, outcomes)
                        self._order.setdefault(after, len(self._order))
                        known.parts.setdefault(_Control(after, group), []).append(part)
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
                    self._path(production, control, last) for production in self.productions[node]
                ]
                body = _without_recursion(name, alt(*parts))
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

    def _path(self, production: tuple[_Symbol, ...], control: _Control, last: _Control) -> Expr:
        """The texts of one production between two controls."""
        layers = [{control}]
        for symbol in production:
            layers.append({d for c in layers[-1] for d in self._behind(symbol, c)})
        if last not in layers[-1]:
            return NOTHING
        rest: dict[_Control, Expr] = {last: EPSILON}
        for symbol, layer in zip(reversed(production), reversed(layers[:-1]), strict=True):
            earlier: dict[_Control, Expr] = {}
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

    def _behind(self, symbol: _Symbol, control: _Control) -> Iterable[_Control]:
        if isinstance(symbol, _Token):
            return self._read(control, symbol).parts
        return self._ends.get((symbol, control), ())

    def _symbol(self, symbol: _Symbol, control: _Control, last: _Control) -> Expr:
        if not isinstance(symbol, _Token):
            return self._ref(symbol, control, last)
        texts: dict[Obligation, Expr] = {}
        for pending, lexeme, outcomes in self._read(control, symbol).parts[last]:
            more = self._lexeme(lexeme, pending, outcomes)
            texts[pending] = alt(texts.get(pending, NOTHING), more)
        by_text: dict[Expr, list[Obligation]] = {}
        for pending, expr in texts.items():
            by_text.setdefault(expr, []).append(pending)
        return alt(*(seq(self._skip(control, ends), expr) for expr, ends in by_text.items()))

    def _ref(self, node: _Node, control: _Control, last: _Control) -> Expr:
        key = (node, control, last)
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

    def _tail(self, control: _Control) -> Expr:
        """Ignored text up to the end."""
        end = self.machine.alphabet.end
        return self._skip(control, [o for o in self._after_skip(control) if o.following & end])

    def _skip(self, control: _Control, ends: Sequence[Obligation]) -> Expr:
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
        known = self._lexeme_refs.get(key)
        if known is not None:
            return known
        ways = self.lexer.ways(lexeme, pending)
        accepting = [bool(ends & outcomes) for ends in ways.ends]
        definition = self.lexing.terminals[lexeme.terminal]
        name = definition.user_repr()
        body = self._written(lexeme.terminal, ways, accepting)
        if body is None:
            body = automaton_expr(ways.rows, accepting, self.machine.alphabet, _EXPRESSION_SIZE)
        if body is None:
            body = self._as_rules(name, ways, accepting)
        if not isinstance(body, ir.Literal | ir.Chars | Ref):
            span = self.source.place(definition.name, definition.pattern.raw)
            body = self._named(name, body, span)
        self._lexeme_refs[key] = body
        return body

    def _written(self, terminal: int, ways: Ways, accepting: list[bool]) -> Expr | None:
        """The terminal as it was written, where these are all of its texts."""
        if terminal not in self._whole:
            self._whole[terminal] = self.lexer.whole(terminal)
        if language(ways.rows, accepting) != self._whole[terminal]:
            return None
        pattern = self.lexing.terminals[terminal].pattern
        if isinstance(pattern, PatternStr) and not pattern.flags:
            return ir.text(pattern.value)
        return _regex(pattern.to_regexp())

    def _as_rules(self, name: str, ways: Ways, accepting: list[bool]) -> Expr:
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


def _without_left_recursion(
    productions: Mapping[_Node, list[tuple[_Symbol, ...]]],
) -> dict[_Node, list[tuple[_Symbol, ...]]]:
    """Writes a rule that calls itself first as its base and a right-recursive rest.

    lark's own repetitions are such rules.  Once a rule is several, by what is pending before and
    behind it, left recursion would run through all of them, which is costly to compile.
    """
    out: dict[_Node, list[tuple[_Symbol, ...]]] = {}
    for node, found in productions.items():
        steps = [p[1:] for p in found if len(p) > 1 and p[0] == node]
        if not steps:
            out[node] = found
            continue
        rest: _Node = (node[0], f"{node[1]}*")
        out[node] = [(*p, rest) for p in found if not p or p[0] != node]
        out[rest] = [(), *((*p, rest) for p in steps)]
    return out


def _without_recursion(name: str, body: Expr) -> Expr:
    """Writes a rule that only calls itself first, or only last, as a repetition."""
    own = Ref(name)
    items = body.items if isinstance(body, ir.Alt) else (body,)
    for place in (0, -1):
        steps: list[Expr] = []
        bases: list[Expr] = []
        for item in items:
            if isinstance(item, Seq) and item.items[place] == own:
                steps.append(seq(*(item.items[1:] if place == 0 else item.items[:-1])))
            elif item != own:
                bases.append(item)
        if steps and not any(own in ir.walk(x) for x in (*steps, *bases)):
            base, step = alt(*bases), alt(*steps)
            if base == step:
                return ir.repeat(step, 1)
            loop = ir.repeat(step)
            return seq(base, loop) if place == 0 else seq(loop, base)
    return body


def _with_loops(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Puts the rests that turned out to be plain repetitions back where they belong."""
    loops: dict[Expr, Expr] = {
        Ref(name): rule.body
        for name, rule in rules.items()
        if "*" in name and isinstance(rule.body, Repeat)
    }

    def rebuilt(expr: Expr) -> Expr:
        if isinstance(expr, ir.Alt):
            return alt(*map(rebuilt, expr.items))
        if not isinstance(expr, Seq):
            return loops.get(expr, expr)
        loop = loops.get(expr.items[-1])
        if not isinstance(loop, Repeat):
            return seq(*map(rebuilt, expr.items))
        base = seq(*map(rebuilt, expr.items[:-1]))
        return ir.repeat(base, 1) if base == loop.item else seq(base, loop)

    return {name: replace(rule, body=rebuilt(rule.body)) for name, rule in rules.items()}


def _kept_apart(rules: Sequence[Rule]) -> list[Rule]:
    """Marks rules so that inlining small rules into each other cannot make them large."""
    number = {rule.name: i for i, rule in enumerate(rules)}
    calls = [[number[name] for name in ir.refs(rule.body)] for rule in rules]
    out = list(rules)
    size = [1] * len(rules)
    for component in components(calls):
        i = component[0]
        if len(component) > 1 or i in calls[i] or rules[i].shared:
            continue
        nodes = ir.walk(rules[i].body)
        total = sum(size[number[x.name]] if isinstance(x, Ref) else 1 for x in nodes)
        if total > _INLINED_SIZE:
            out[i] = replace(rules[i], shared=True)
        else:
            size[i] = total
    return out


def _reachable(rules: Mapping[str, Rule], top: str) -> list[Rule]:
    """The rules reachable from the top."""
    seen = {top: None}
    todo = [top]
    for name in todo:  # grows while we iterate
        for other in ir.refs(rules[name].body):
            if other not in seen:
                seen[other] = None
                todo.append(other)
    return [rules[name] for name in seen]
