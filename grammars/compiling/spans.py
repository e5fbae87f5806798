"""Spans of a text within intersections: what other operands, and bounds on their length, leave of them.

The automaton of a long text's spans is large, so everything here is done on arrays.  A bound on the number
of characters is not multiplied out, as a copy of the automaton for each length: they are counted, as in a
counted repetition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from grammars.compiling.count_kernels import fewest_counts
from grammars.compiling.encoding import SINGLES, Int32, PackedDfa
from grammars.compiling.products import packed_product
from grammars.ir import ANY_CHAR, Repeat, Substrings
from grammars.json_characters import ANY_SPELLED
from grammars.work import spend

_A_BYTE: Final = 256
MOST_COPIES: Final = 64
"""A least number of characters above this is not written out as copies."""


class Counted(NamedTuple):
    """An automaton whose texts are those of at most so many counting edges.

    Attributes:
        dfa: the automaton; all its states are reached from the start and lead to acceptance.
        most: how many.
        fewest: int32[states], counting edges to acceptance.
    """

    dfa: PackedDfa
    most: int
    fewest: Int32


def packed_spans(spans: Substrings, *, counted: bool = False) -> PackedDfa:
    """The automaton of the spans of a text.

    Args:
        spans: the text.
        counted: edges that end a character count.
    """
    made = spans.automaton
    edges = np.zeros((len(made.byte), 3), np.int32)
    edges[:, 0], edges[:, 1] = made.byte, made.target
    if counted:
        edges[:, 2] = made.whole
    spend(len(made.accept) // 64)  # beside the limit: linear in what is given
    return PackedDfa(SINGLES[:_A_BYTE], edges, made.begin, made.accept, 0)


def is_bound(expr: object) -> bool:
    """Whether an operand bounds the number of characters from above (and not far from below)."""
    return (
        isinstance(expr, Repeat)
        and expr.max is not None
        and expr.min <= MOST_COPIES
        and expr.item in (ANY_CHAR, ANY_SPELLED)
    )


def not_empty(dfa: PackedDfa) -> PackedDfa:
    """The texts of an automaton that have a byte."""
    return dfa.with_fresh_start(accepting=False) if dfa.accepts_empty else dfa


def intersected(
    spans: Sequence[PackedDfa],
    within: Sequence[PackedDfa],
    without: Sequence[PackedDfa],
    limit: int,
) -> PackedDfa:
    """Spans that all of some automata accept and none of others.

    Args:
        spans: the first may count.
        within, without: the others; uncounted.
        limit: states of all products together, those of the spans aside.
    """
    if len(spans) + len(within) + len(without) == 1:
        return spans[0]
    given = sum(len(dfa.accept) for dfa in spans)
    others = sorted([*spans[1:], *within], key=lambda dfa: len(dfa.accept))
    return packed_product([spans[0], *others], without, limit + given)


def at_most(dfa: PackedDfa, most: int) -> Counted | None:
    """Texts of an automaton with at most so many counting edges; ``None`` if there are none."""
    fewest = fewest_counts(dfa.edges, dfa.begin, dfa.accept)
    if not dfa.accept.any() or fewest[dfa.start] > most:
        return None
    return Counted(dfa, most, fewest)


__all__ = [
    "MOST_COPIES",
    "Counted",
    "at_most",
    "intersected",
    "is_bound",
    "not_empty",
    "packed_spans",
]
