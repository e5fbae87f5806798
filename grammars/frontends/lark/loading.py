"""A Lark grammar as lark reads it: plain rules, terminals, what is ignored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grammars.errors import GrammarError
from grammars.frontends import _lark_api, _re_api
from grammars.frontends._lark_api import LarkError, TerminalDef
from grammars.frontends._re_api import PatternError
from grammars.frontends.lark.bounds import check_grammar, check_terminals
from grammars.frontends.lark.imports import Imports, file_name
from grammars.frontends.lark.source import Source
from grammars.limits import Limits


@dataclass
class Loaded:
    """What lark made of the grammar."""

    start: str
    terminals: list[TerminalDef]
    rules: list[Any]
    ignored: list[str]


def load(source: Source, start: str, imports: Imports, path: Path | None, limits: Limits) -> Loaded:
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
        loaded = Loaded(start, *_lark_api.compile_grammar(grammar, start))
    except LarkError as error:
        raise source.error(error) from None
    _validate(source, loaded)
    return loaded


def _validate(source: Source, loaded: Loaded) -> None:
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
