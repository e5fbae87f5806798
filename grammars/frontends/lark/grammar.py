"""Lark grammars, lexing included, as grammars over bytes.

The texts of the result are those that lark accepts (``docs/lark.md``): with ``parser="lalr"`` and the
contextual lexer where the LALR table has no conflict; every reading of its item sets where it has one;
or with ``parser="earley"`` and the basic, the dynamic or the dynamic-complete lexer.

lark reads the grammar, sorts the terminals and builds the item sets.  What is added here, module by
module:

1. ``loading``, ``bounds``, ``shared``: what lark makes of the text, measured before it does;
2. ``patterns``, ``threads``, ``lexemes``: terminals as automata over classes of characters, and the
   *obligation* that a lexeme leaves on the text behind it; ``counting`` writes them as expressions, counted
   repetitions with their bounds;
3. ``item_sets``, ``points``: a *point* for every place between two tokens that the lexer tells apart: which
   terminals it looks for there; points with the same lexing share a group;
4. ``annotated``: rules annotated with the state they start in, which fixes the point behind each of their
   tokens; annotated rules that do the same are merged again;
5. ``readings``: rules annotated with the obligation before and behind them, as in the construction that
   intersects a grammar with a finite automaton (Bar-Hillel, Perles and Shamir 1961).  Obligations
   that cannot matter for what may follow are dropped at once, so that an ordinary grammar comes out
   as it went in;
6. ``recursion``, ``remarks``: the rules tidied, and what people should know of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from grammars.errors import GrammarError, LexingWarning, LimitExceeded
from grammars.files import ImportPath
from grammars.frontends.lark.imports import Imports
from grammars.frontends.lark.layout import LayoutBuilder
from grammars.frontends.lark.loading import Loaded, load
from grammars.frontends.lark.points import LexerName, Lexing
from grammars.frontends.lark.postlex import check_postlex
from grammars.frontends.lark.readings import Builder
from grammars.frontends.lark.remarks import why_empty
from grammars.frontends.lark.source import Source, describe
from grammars.frontends.lark.threads import UncountableError, UnsupportedTerminalError
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.work import allow

_WORK_A_CHARACTER: Final = 20
"""Units of work beside those of ``max_work``, see :mod:`grammars.work`."""

LEXERS: Final = ("auto", "contextual", "basic", "dynamic", "dynamic_complete")


def lark_to_ir(
    text: str,
    start: str = "start",
    limits: Limits = DEFAULT_LIMITS,
    import_paths: Sequence[ImportPath] = (),
    path: Path | None = None,
    lexer: LexerName | Literal["auto"] = "auto",
    postlex: Any = None,
) -> GrammarIR:
    """Turns a Lark grammar into a grammar over bytes.

    Args:
        text: the grammar.
        start: the rule to start from.
        limits: bounds on what the result may cost.
        import_paths: folders in which ``%import`` looks for grammars.
        path: the file that the text comes from; relative imports are looked for in its folder.
        lexer: how text is cut into tokens; ``"auto"`` is ``"contextual"``.
        postlex: a ``lark.indenter.Indenter`` or its class; by default Python's where the grammar declares
            ``_INDENT`` and ``_DEDENT``.

    Raises:
        GrammarError: where lark refuses the grammar, or it uses something that cannot be followed.
        LimitExceeded: where a limit is reached.
    """
    if not isinstance(text, str):
        raise TypeError(f"a grammar must be str, not {type(text).__name__}: {text!r:.80}")
    if not isinstance(start, str):
        raise TypeError(f"start must be the name of a rule, not {start!r:.80}")
    if lexer not in LEXERS:
        raise ValueError(f"lexer must be one of {', '.join(LEXERS)}, not {lexer!r:.80}")
    indenter = check_postlex(postlex)
    allow(_WORK_A_CHARACTER * len(text))
    source = Source(text)
    source.check_nesting()
    try:
        loaded = load(source, start, Imports(import_paths, path), path, limits, indenter)
        ir = _built(source, loaded, limits, "contextual" if lexer == "auto" else lexer)
        for note in ir.notes:
            warnings.warn(f"{note}; the grammar's language lacks that", LexingWarning, stacklevel=7)
        return replace(ir, notes=(*ir.notes, *why_empty(loaded, source.place)))
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


def _builder(source: Source, loaded: Loaded, lexing: Lexing, limits: Limits) -> Builder:
    if loaded.postlex is None:
        return Builder(source, loaded, lexing, limits)
    if lexing.way not in ("contextual", "basic"):
        where = source.place(loaded.postlex.indent, loaded.postlex.dedent)
        raise GrammarError(
            f"an indenter needs tokens, which lexer={lexing.way!r} does not make; use "
            'lexer="contextual" or "basic"',
            line=where.line,
            column=where.column,
        )
    return LayoutBuilder(source, loaded, lexing, limits, loaded.postlex)


def _built(source: Source, loaded: Loaded, limits: Limits, way: LexerName) -> GrammarIR:
    """The grammar, repetitions counted in all terminals that allow it."""
    written_out: set[int] = set()
    while True:
        try:
            lexing = Lexing(source, loaded, limits, way, written_out)
            return _builder(source, loaded, lexing, limits).build()
        except UncountableError as error:
            written_out |= error.terminals
