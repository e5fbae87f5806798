"""What masks ask about each rule of a program: how it works, and what can come after it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags
from constrain.engine.jit import mask_kernels as m
from grammars.program import Program


class RuleSurvey:
    """Kinds of rules and their follow sets, worked out by one pass when first asked for.

    Args:
        program: the program.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._follow: dict[int, Flags] = {}

    @cached_property
    def _found(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
        """uint8[R], flags of each rule, and uint64[R, 4], the byte classes that can come after it."""
        p = self._program
        rules = len(p.rule_names)
        flags, follow = np.zeros(rules, np.uint8), np.zeros((rules, 4), np.uint64)
        m.survey_rules(
            p.rule_of, p.edge_offset, p.edge_class, p.call_offset, p.call_start, p.call_return,
            p.bag_of, p.bag_offset, p.bag_start, p.bag_return, p.accept_from, p.count_limit,
            p.count_cap, p.first, flags, follow,
        )  # fmt: skip
        return flags, follow

    def follow(self, q: int) -> Flags:
        """bool[256]: the bytes that can come after the rule of a program state."""
        rule = int(self._program.rule_of[q])
        known = self._follow.get(rule)
        if known is None:
            packed = self._found[1][rule].view(np.uint8)
            classes: Flags = np.unpackbits(packed, bitorder="little").view(np.bool_)
            known = self._follow[rule] = classes[self._program.byte_class[:256]]
        return known

    def is_plain(self, q: int) -> bool:
        """Whether a program state's rule is a deterministic automaton without calls."""
        return not self._found[0][self._program.rule_of[q]] & m.CALLING

    def is_uncounted(self, q: int) -> bool:
        """Whether nothing is counted in the rule of a program state."""
        return not self._found[0][self._program.rule_of[q]] & m.COUNTING
