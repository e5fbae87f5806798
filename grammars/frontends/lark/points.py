"""Points, the places between two tokens that lark tells apart, and what its lexer reads there."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends import _lark_api
from grammars.frontends._lark_api import LarkError, PatternStr, TerminalDef, UnlessCallback
from grammars.frontends.lark.lexemes import EVERY_KIND, Lexeme, Lexer
from grammars.frontends.lark.loading import Loaded
from grammars.frontends.lark.patterns import Mask, Pattern, UnsupportedError, parse_pattern
from grammars.frontends.lark.postlex import LAYOUT_SETS
from grammars.frontends.lark.shared import SharedPattern
from grammars.frontends.lark.source import Source
from grammars.frontends.lark.threads import (
    Machine,
    Obligation,
    Thread,
    UnsupportedTerminalError,
)
from grammars.limits import Limits

LexerName: TypeAlias = Literal["contextual", "basic", "dynamic", "dynamic_complete"]
"""How text is cut into tokens, in lark's words."""

END: Final = "$END"
"""lark's name for the end of the text."""


@dataclass
class Point:
    """A place between two tokens.

    Attributes:
        follow: the terminals that may be read next, and perhaps the end.
        read: per terminal of ``follow``, the lexemes it can be read as.
        ignored: the lexemes that are dropped.
        shadowed: of terminals that cannot be read, those that are read in their place.
    """

    follow: frozenset[str]
    read: dict[str, tuple[Lexeme, ...]]
    ignored: tuple[Lexeme, ...]
    shadowed: Mapping[str, tuple[str, ...]]
    group: int = -1


class View:
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
        self.asks_before = any(x.kinds != EVERY_KIND for x in self.lexemes)
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
            behind = obligation.behind if self.asks_before else 0
            known = machine.obligation(obligation.following | self.never, threads, behind)
            if known != machine.free or self.asks_before:
                known = self._by_effect.setdefault(self._effect(known), known)
            self._reduced[obligation] = known
        return known

    def _effect(self, obligation: Obligation) -> object:
        end = self.lexer.machine.alphabet.end if self.end else 0
        parts = tuple(self.lexer.effect(x, obligation) for x in self.lexemes)
        return obligation.following & end, parts


class Group:
    """Points at which the lexer does the same."""

    def __init__(self) -> None:
        self.read: dict[str, tuple[Lexeme, ...]] = {}
        self.ignored: tuple[Lexeme, ...] | None = None
        self.end = False

    def takes(self, point: Point) -> bool:
        """Whether a point agrees on every terminal both know."""
        if self.ignored is not None and self.ignored != point.ignored:
            return False
        return all(self.read.get(t, lexemes) == lexemes for t, lexemes in point.read.items())

    def add(self, point: Point) -> None:
        """Puts a point into the group."""
        self.read.update(point.read)
        self.ignored = point.ignored
        self.end = self.end or END in point.follow


class Lexing:
    """The terminals as lexemes, by the set of terminals the lexer looks for."""

    def __init__(
        self,
        source: Source,
        loaded: Loaded,
        limits: Limits,
        way: LexerName,
        written_out: Container[int] = (),
    ) -> None:
        self.source = source
        self.way = way
        self.terminals = loaded.terminals
        self.number = {t.name: i for i, t in enumerate(loaded.terminals)}
        self.by_name = {t.name: t for t in loaded.terminals}
        self.ignored = loaded.ignored
        patterns: list[Pattern] = []
        for i, t in enumerate(loaded.terminals):
            try:
                patterns.append(_tree(t))
            except UnsupportedError as error:
                raise UnsupportedTerminalError(i, str(error)) from None
        try:
            self.machine = Machine(
                patterns,
                [t.name for t in loaded.terminals],
                limits.max_dfa_states,
                written_out,
                LAYOUT_SETS if loaded.postlex else (),
            )
        except LimitExceeded as error:
            if error.rule is not None:
                self._locate(error, self.by_name[error.rule])
            raise
        self.lexer = Lexer(self.machine)
        self._contexts: dict[frozenset[str], Context] = {}

    def context(self, names: Iterable[str]) -> Context:
        """Lexing among these terminals and the ignored ones."""
        key = frozenset(n for n in names if n in self.number) | frozenset(self.ignored)
        known = self._contexts.get(key)
        if known is None:
            apart = self.way in ("dynamic", "dynamic_complete")
            made = self._each_alone(key) if apart else self._make_context(key)
            known = self._contexts[key] = made
        return known

    def _each_alone(self, names: frozenset[str]) -> Context:
        """What terminals read that are tried one by one, as lark's dynamic lexer does."""
        read: dict[str, tuple[Lexeme, ...]] = {}
        ignored: list[Lexeme] = []
        for name in sorted(names):
            self._check_width(self.by_name[name])
            found = self._lexemes(name, (), ())[self.number[name]]
            alone = [x for x in found if not x.is_empty()]
            if name in self.ignored:
                ignored += alone
            if self.way == "dynamic_complete":
                alone = [self.lexer.shorter_too(x) for x in alone]
            if alone:
                read[name] = tuple(alone)
        return Context(read, tuple(ignored))

    def _make_context(self, names: frozenset[str]) -> Context:
        for name in names:
            self._check_width(self.by_name[name])
        order, retypes = self._order(names)
        read: dict[str, list[Lexeme]] = {}
        ignored: list[Lexeme] = []
        for i, name in enumerate(order):
            retyped = [self.number[n] for n in retypes.get(name, ())]
            earlier = [self.number[n] for n in order[:i]]
            if name in self.ignored:
                found = self._lexemes(name, earlier, ())
                ignored += (x for xs in found.values() for x in xs if not x.is_empty())
                continue
            for said, lexemes in self._lexemes(name, earlier, retyped).items():
                kept = [x for x in lexemes if not x.is_empty()]
                if kept:
                    read.setdefault(str(self.terminals[said].name), []).extend(kept)
        shadowed = {
            name: tuple(other for other in order[:i] if self._takes(other, name))
            for i, name in enumerate(order)
            if name not in read and name not in self.ignored
        }
        return Context({n: tuple(x) for n, x in read.items()}, tuple(ignored), shadowed)

    def _order(self, names: frozenset[str]) -> tuple[list[str], dict[str, list[str]]]:
        """The terminals in the order in which lark tries them, and strings that it turns texts into."""
        shared = [n for n in sorted(names) if isinstance(self.by_name[n].pattern, SharedPattern)]
        plain = [self.by_name[n] for n in sorted(names.difference(shared))]
        try:
            basic = _lark_api.basic_lexer(plain, self.ignored)
        except LarkError as error:
            raise self.source.error(error) from None
        order = [str(t.name) for t in basic.scanner.terminals]
        retypes = {
            str(name): [str(t.name) for t in unless.scanner.terminals]
            for name, unless in basic.callback.items()
            if isinstance(unless, UnlessCallback)
        }
        if not shared:
            return order, retypes
        strings = [t for t in sorted(plain, key=_rank) if isinstance(t.pattern, PatternStr)]
        for name in shared:
            priority = self.by_name[name].priority
            same = [t for t in strings if t.priority == priority and self._matches(name, t)]
            retypes[name] = [str(t.name) for t in same]
            order = [n for n in order if all(n != t.name or t.pattern.flags for t in same)]
        order += shared
        return sorted(order, key=lambda n: _rank(self.by_name[n])), retypes

    def _matches(self, name: str, string: TerminalDef) -> bool:
        """Whether a terminal, tried on the whole text of a string terminal, matches all of it."""
        (lexeme, *others) = self._lexemes(name, (), ())[self.number[name]]
        if others:
            raise UnsupportedTerminalError(self.number[name], "look-behind at its start,")
        return self.lexer.reads_whole(lexeme, str(string.pattern.value))

    def _takes(self, earlier: str, name: str) -> bool:
        """Whether a terminal that is tried before another one can match where that does."""
        return self.lexer.meets(self.number[earlier], self.number[name])

    def _locate(self, error: GrammarError, definition: TerminalDef) -> None:
        where = self.source.place(definition.name, definition.pattern.raw)
        error.locate(line=where.line, column=where.column)

    def _lexemes(
        self, name: str, earlier: Sequence[int], retyped: Sequence[int]
    ) -> dict[int, list[Lexeme]]:
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


def _tree(definition: TerminalDef) -> Pattern:
    pattern = definition.pattern
    if isinstance(pattern, SharedPattern):
        return pattern.piece.tree
    return parse_pattern(pattern.to_regexp())


def _rank(definition: TerminalDef) -> tuple[int, int, int, str]:
    """What lark sorts terminals by."""
    pattern = definition.pattern
    length = pattern.piece.length if isinstance(pattern, SharedPattern) else len(pattern.value)
    return -definition.priority, -pattern.max_width, -length, str(definition.name)


@dataclass
class Context:
    read: dict[str, tuple[Lexeme, ...]]
    ignored: tuple[Lexeme, ...]
    shadowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
