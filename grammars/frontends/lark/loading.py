"""A Lark grammar as lark reads it: plain rules, terminals, what is ignored."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.frontends import _lark_api, _re_api
from grammars.frontends._lark_api import LarkError, TerminalDef
from grammars.frontends._re_api import PatternError
from grammars.frontends.advice import pattern_advice
from grammars.frontends.lark.bounds import check_grammar, check_terminals, terminal_sizes
from grammars.frontends.lark.imports import Imports, RefusedImportError, file_name
from grammars.frontends.lark.patterns import UnsupportedError
from grammars.frontends.lark.postlex import NEWLINES, Postlex, postlex_of
from grammars.frontends.lark.shared import (
    CannotShareError,
    SharedPattern,
    names_apart,
    shared_patterns,
)
from grammars.frontends.lark.source import Source
from grammars.limits import Limits

_LEAST_SHARED: Final = 500
"""Terminals with more texts and patterns in them, others put in, are not put together as text."""


@dataclass
class Loaded:
    """What lark made of the grammar."""

    start: str
    terminals: list[TerminalDef]
    rules: list[Any]
    ignored: list[str]
    postlex: Postlex | None = None

    def declared(self) -> list[str]:
        """Terminals that rules name and nothing defines (``%declare``): a postlexer makes their tokens.

        Rules and points carry them by name like any other; they have no lexemes.
        """
        known = {t.name for t in self.terminals}
        used = (str(s.name) for r in self.rules for s in r.expansion if s.is_term)
        return [n for n in dict.fromkeys((*used, *self.ignored)) if n not in known]


def load(
    source: Source,
    start: str,
    imports: Imports,
    path: Path | None,
    limits: Limits,
    postlex: Any = None,
) -> Loaded:
    """Reads a grammar as lark does.

    Args:
        postlex: see :func:`grammars.frontends.lark.postlex.postlex_of`.

    Raises:
        GrammarError: where lark refuses it.
        LimitExceeded: where it would become too large.
    """
    grammar, shared = _read(source, imports, path, limits)
    names = [str(rule[0]) for rule in grammar.rule_defs]
    if start not in names:
        raise GrammarError(
            f"there is no rule {start!r} to start from; name one of the rules with start=: "
            + (", ".join(names[:10]) or "there are none"),
            line=1,
            column=1,
        )
    check_grammar(grammar, limits)
    kept = NEWLINES if postlex is None else {str(postlex.NL_type)}
    try:
        compiled = _lark_api.compile_grammar(grammar, start, kept)
        loaded = Loaded(start, *compiled)
        defined = [t.name for t in loaded.terminals]
        loaded.postlex = postlex_of(postlex, source, defined, loaded.declared())
        if loaded.postlex is None:  # a newline that no rule uses is nothing special
            loaded = Loaded(start, *_lark_api.compile_grammar(grammar, start))
    except LarkError as error:
        raise source.error(error) from None
    loaded.terminals = [
        TerminalDef(t.name, shared[t.name], t.priority) if t.name in shared else t
        for t in loaded.terminals
    ]
    _validate(source, loaded)
    return loaded


def _read(
    source: Source, imports: Imports, path: Path | None, limits: Limits
) -> tuple[Any, dict[str, SharedPattern]]:
    """Lark's grammar, and the patterns of terminals that are kept from it."""
    name = file_name(path)
    try:
        extended: set[str] = set()
        trees = _lark_api.terminal_trees(source.text, extended)
        sizes = terminal_sizes(trees)
        apart = names_apart(sizes.pasted, sizes.written, extended, _LEAST_SHARED)
        if apart:
            with suppress(CannotShareError, LarkError, UnsupportedError):  # then as one text
                check_terminals(sizes, limits, apart)
                grammar, kept = _lark_api.load(source.text, imports.loaders, name, apart)
                defined = {str(n): tree for n, (tree, _) in grammar.term_defs}
                order = [n for n in sizes.order if n in kept]
                return grammar, shared_patterns(kept, order, defined)
        check_terminals(sizes, limits)
        return _lark_api.load(source.text, imports.loaders, name)[0], {}
    except LarkError as error:
        if isinstance(error.cause, RefusedImportError):
            where = source.place(error.cause.name)
            raise GrammarError(str(error.cause), line=where.line, column=where.column) from None
        raise source.error(error, imports.latest) from None


def _validate(source: Source, loaded: Loaded) -> None:
    """What lark's lexer and analysis check themselves, with a place."""
    for t in loaded.terminals:
        where = source.place(t.name, t.pattern.raw)
        if isinstance(t.pattern, SharedPattern):
            continue
        try:
            _re_api.parse(f"(?P<{t.name}>{t.pattern.to_regexp()})")
        except PatternError as error:
            raise GrammarError(
                f"terminal {t.user_repr()} {_of_pattern(t, error)}",
                line=where.line,
                column=where.column,
            ) from None
    made = loaded.postlex.unspelled if loaded.postlex else frozenset()
    for name in loaded.declared():
        if name in made:
            continue
        where = source.place(name)
        raise GrammarError(
            f"terminal {name} has no pattern: %declare needs a postlexer that makes it; pass "
            "postlex=, or define the terminal",
            line=where.line,
            column=where.column,
        )


def _of_pattern(terminal: TerminalDef, error: PatternError) -> str:
    """What is wrong with the pattern of a terminal."""
    if "group reference" in error.reason or "open group" in error.reason:
        return (
            "has a back-reference, which is not supported: what a group matched cannot be repeated; "
            "write the alternatives out"
        )
    written = terminal.pattern.to_regexp()
    at = (error.offset or 0) - len(f"(?P<{terminal.name}>")
    at = at if 0 <= at <= len(written) else 0
    advice = pattern_advice(error.reason, written, at)
    return (
        f"is not a pattern that re accepts: {error.reason}{advice} (in {written[at : at + 20]!r})"
    )
