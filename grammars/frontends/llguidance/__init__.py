"""llguidance's dialect of Lark.

Text is parsed (:mod:`.parsing`) into what is written (:mod:`.syntax`), taken apart into rules over
lexemes (:mod:`.structure`), and written as rules over bytes: as they stand where no lexeme gets in the
way of another, else row by row as llguidance's lexer would read it (:mod:`.rows`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from grammars.frontends.llguidance.syntax import START
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS, Limits

_DECLARED = re.compile(r"^[ \t]*%llguidance\b", re.MULTILINE)


def is_llguidance(text: str) -> bool:
    """Whether a Lark text says that it is of this dialect: a line begins with ``%llguidance``."""
    return _DECLARED.search(text) is not None


def llguidance_to_ir(
    text: str,
    start: str = START,
    limits: Limits = DEFAULT_LIMITS,
    grammars: Mapping[str, GrammarIR] | None = None,
) -> GrammarIR:
    """The rules of a grammar in llguidance's dialect of Lark.

    Args:
        text: the grammar.
        start: the rule to start from.
        limits: bounds on what it may cost.
        grammars: what ``@name`` refers to.

    Raises:
        GrammarError: with line and column, for text that is no grammar of the dialect, and for what no
            grammar of texts can keep (``max_tokens``).
    """
    # here: most grammars ask is_llguidance alone, and these load the front ends of JSON Schema and types
    from grammars.frontends.llguidance.emission import emit
    from grammars.frontends.llguidance.parsing import parse
    from grammars.frontends.llguidance.structure import structure_of

    if not isinstance(text, str):
        raise TypeError(f"a grammar must be str, not {type(text).__name__}: {text!r:.80}")
    return emit(structure_of(parse(text), start, limits, grammars or {}), start, limits)


__all__ = ["is_llguidance", "llguidance_to_ir"]
