"""What masks ask about each rule of a program: how it works, and what can come after it."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags
from constrain.engine.jit import mask_kernels as m
from grammars.program import UNBOUNDED, Program

_MANY_CALLS: Final = 2_000
"""Calls of a program from which on its follow sets take more than some 50 microseconds."""


class RuleSurvey:
    """Kinds of rules and their follow sets, worked out when first asked for.

    The sets of a program with many calls are worked out at once: compiling it took a hundred times as long,
    while a mask would have to wait for them.

    Args:
        program: the program.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._follow: dict[int, Flags] = {}
        self._kinds: dict[int, int] = {}
        if len(program.call_start) >= _MANY_CALLS:
            _ = self._sets

    @cached_property
    def _sets(self) -> npt.NDArray[np.uint64]:
        """uint64[R, 4], the byte classes that can come after each rule."""
        p = self._program
        follow = np.zeros((len(p.rule_names), 4), np.uint64)
        m.follow_sets(
            p.rule_of, p.call_offset, p.call_start, p.call_return, p.bag_offset, p.bag_start,
            p.bag_return, p.accept_from, p.first, follow,
        )  # fmt: skip
        return follow

    def follow(self, q: int) -> Flags:
        """bool[256]: the bytes that can come after the rule of a program state."""
        rule = int(self._program.rule_of[q])
        known = self._follow.get(rule)
        if known is None:
            packed = self._sets[rule].view(np.uint8)
            classes: Flags = np.unpackbits(packed, bitorder="little").view(np.bool_)
            known = self._follow[rule] = classes[self._program.byte_class[:256]]
        return known

    def onward(self, q: int) -> Flags:
        """bool[256]: the bytes that can come at a program state, or after its rule where that may end."""
        p = self._program
        classes: Flags = np.unpackbits(p.first[q].view(np.uint8), bitorder="little").view(np.bool_)
        out: Flags = classes[p.byte_class[:256]]
        return out if p.accept_from[q] == UNBOUNDED else out | self.follow(q)

    def _kind(self, q: int) -> int:
        """Flags of the rule of a program state."""
        p = self._program
        rule = int(p.rule_of[q])
        known = self._kinds.get(rule)
        if known is None:
            known = self._kinds[rule] = m.rule_kind(
                p.rule_of, p.edge_offset, p.edge_class, p.call_offset, p.bag_of, p.accept_from,
                p.count_limit, p.count_cap, q,
            )  # fmt: skip
        return known

    def is_plain(self, q: int) -> bool:
        """Whether a program state's rule is a deterministic automaton without calls."""
        return not self._kind(q) & (m.CALLING | m.SPLITTING)

    def is_flat(self, q: int) -> bool:
        """Whether a program state's rule calls no other, and is no bag."""
        return not self._kind(q) & m.CALLING

    def is_uncounted(self, q: int) -> bool:
        """Whether nothing is counted in the rule of a program state."""
        return not self._kind(q) & m.COUNTING
