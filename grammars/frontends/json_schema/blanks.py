"""Fewer blanks in a grammar of JSON texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from grammars.frontends.json_schema.text import INDENT
from grammars.ir import NOTHING, Expr, GrammarIR, Literal, repeat, seq

NEW_LINE_RULE: Final = "_new line"
"""The rule of a line break and its indentation."""


def with_blanks(ir: GrammarIR, most: int) -> GrammarIR:
    """The same texts with so many blanks in a row at most.

    Args:
        ir: of JSON texts with flexible blanks: one space, or a line break and its indentation.
        most: at least 1; then there are single spaces and no line breaks.
    """
    body: Expr = NOTHING
    if most > 1:
        body = seq(Literal(b"\n"), repeat(Literal(b" "), 0, min(most - 1, INDENT)))
    rules = (replace(r, body=body) if r.name == NEW_LINE_RULE else r for r in ir.rules)
    return replace(ir, rules=tuple(rules))
