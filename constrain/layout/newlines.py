"""Where within a newline its width is to be known: newlines that end with a comment.

Nearly all newlines end with blanks, and their width is what is behind the last line end.  One that may end
with a comment in quotes has the width of all blanks on its last line, those of the comment among them.
These are counted in the states from which a newline can end without another line end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from constrain.engine.jit import mask_kernels as m
from grammars.layout.widths import END_MARKS, LINE_MARKS, NEWLINE
from grammars.program import UNBOUNDED, Program


@dataclass(frozen=True, slots=True)
class Newlines:
    """Newlines of a program that may end with a comment.

    Attributes:
        inside: program states within the last line of one, where it cannot end yet.
        closing: the bytes by which one may end, line ends aside.
    """

    inside: frozenset[int]
    closing: frozenset[int]


def newlines_of(program: Program) -> Newlines:
    """Finds them: states of rules behind which a mark may come that reach their end without a line end."""
    p = program
    rules = _before_marks(p)[p.rule_of[: p.states]]
    ends = (np.asarray(p.accept_from[: p.states]) != UNBOUNDED) & rules
    source = np.repeat(np.arange(p.states), np.diff(p.edge_offset[: p.states + 1]))
    kept = rules[source] & (p.edge_class != p.byte_class[NEWLINE])
    source, label, target = source[kept], p.edge_class[kept], p.edge_target[kept] >> 1
    reaching = ends.copy()
    while True:
        more = source[reaching[target] & ~reaching[source]]
        if not len(more):
            break
        reaching[more] = True
    inside = reaching & ~ends
    classes = set(label[inside[source] & ends[target]].tolist())
    closing = frozenset(b for b in range(256) if int(p.byte_class[b]) in classes)
    return Newlines(frozenset(np.flatnonzero(inside).tolist()), closing)


def _before_marks(p: Program) -> npt.NDArray[np.bool_]:
    """bool[R]: the rules behind which a mark of a newline may come."""
    follow = np.zeros((len(p.rule_names), 4), np.uint64)
    m.follow_sets(
        p.rule_of, p.call_offset, p.call_start, p.call_return, p.bag_offset, p.bag_start,
        p.bag_return, p.accept_from, p.first, follow,
    )  # fmt: skip
    classes = {int(p.byte_class[mark]) for mark in (*LINE_MARKS, *END_MARKS) if mark in p.marks}
    out = np.zeros(len(follow), np.bool_)
    for c in classes:
        out |= (follow[:, c >> 6] >> np.uint64(c & 63) & np.uint64(1)).astype(np.bool_)
    return out
