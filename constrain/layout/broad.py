"""Rules that call others and go on by many bytes, marked before their masks are asked for.

In a grammar of a programming language some twenty rules for an expression call each other at their starts,
one for each level of precedence, and each goes on by all that a name may begin with.  Kernels look at
such rules level by level, and find out of each by a walk over the trie that a walk takes too long: twenty
of these for the first mask of an argument list, where what is known of names would do.  So a rule with
as many first bytes as a name has is *wide* without a walk.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from constrain.engine.jit import kernels as k
from constrain.engine.pool import StatePool

_MANY_BYTES: Final = 64
"""First bytes from which on a state that calls rules is not walked from; names have over 100."""


def mark_broad(pool: StatePool) -> None:
    """Marks the states of a program that call rules and go on by many bytes as wide.

    Args:
        pool: of the program; its masks are the same, found sooner.
    """
    p = pool.program
    sizes = np.bincount(p.byte_class[:256], minlength=p.classes)[: p.classes]
    first = np.ascontiguousarray(p.first).view(np.uint8).reshape(p.states, -1)
    can = np.unpackbits(first, axis=1, bitorder="little")[:, : p.classes]
    offsets = np.asarray(p.call_offset)
    calls = offsets[1 : p.states + 1] > offsets[: p.states]
    broad = (can @ sizes >= _MANY_BYTES) & calls & (np.asarray(p.bag_of) < 0)
    pool.wide[: p.states][broad] = k.WIDE
