"""Spans of a text as a grammar."""

from __future__ import annotations

from collections.abc import Iterable

from grammars.ir import GrammarIR, Substrings, single_rule
from grammars.substrings.units import FOLDS, UNITS, Fold, Unit, check_text


def substrings_to_ir(text: str, unit: Unit, fold: Fold | Iterable[Fold]) -> GrammarIR:
    """The spans of a text; see :meth:`grammars.Grammar.substring_of`.

    Raises:
        TypeError: if the text is no ``str``.
        ValueError: for another unit or fold.
        GrammarError: for a text with a lone surrogate.
    """
    return single_rule(spans_of(text, unit, fold), "span")


def spans_of(text: str, unit: Unit, fold: Fold | Iterable[Fold]) -> Substrings:
    """The same as an expression."""
    check_text(text, "the text")
    if unit not in UNITS:
        raise ValueError(f"unit={unit!r}: must be one of {', '.join(map(repr, UNITS))}")
    folds = frozenset([fold] if isinstance(fold, str) else fold)
    for other in sorted(map(repr, folds - {*FOLDS})):
        raise ValueError(f"fold={other}: must be of {', '.join(map(repr, FOLDS))}")
    return Substrings(text, unit, folds)
