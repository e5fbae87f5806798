"""The compiled form: flat arrays that the kernels read.

A program is a set of deterministic rule automata that call each other.  A *configuration* is
``(q, n, F)``: program state, count of the current repetition (0 where nothing is counted), and the
*frame* to continue with when the rule ends.  A frame is itself a set of configurations, so a frame
and an automaton state are the same kind of thing: see :mod:`grammars.recognizer` for the semantics
in plain Python and ``constrain.engine.kernels`` for the same in Numba.

Invariants that make one byte a finite, acyclic piece of work:

* state 0 is the end of the whole text: it accepts and has no edges,
* no rule derives the empty text (the only exception is the start rule), and
* no rule can call itself before it has consumed a byte (no left recursion),
* every state can reach its rule's end, and every rule derives some text.

A *bag* is a rule of its own.  In its states the count is not a count but a residual: the number of
what the bag still needs and takes (:mod:`grammars.compiling.bags`).  At some of its states (``bag_of``) the
rules of members are called: with residual n, member i comes where ``Residuals.row(bag, n)[i]`` says
so, and returns to the state ``bag_return[4 * bag + flags]`` with the next residual, ``flags`` saying
whether the bag may end then and whether more can come.  These calls are not among ``call_start``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from grammars.compiling.bags import BagSpec

NO_EDGE: Final = -1
"""``table`` entry: the byte class leads nowhere inside the rule."""
MANY: Final = -2
"""``table`` entry: calls, or several edges; look into the edge lists."""
FIRST_PUSH: Final = -3
"""``table`` entries at or below: ``FIRST_PUSH - entry`` indexes the unique chain of calls."""

UNBOUNDED: Final = 2**31 - 1

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Program:
    """Flat arrays of a compiled grammar; Q states, C byte classes.

    A *target* is ``state << 1 | inc``: where an edge leads, and whether it counts.

    Attributes:
        start: the start state (it alone may accept the empty text); -1 for the empty language.
        byte_class: uint8[264], the class of each byte and mark; that of a mark which is not among
            ``marks`` says nothing.
        marks: the marks that some edge reads.
        classes: C.
        table: int32[Q, C]: a target where exactly one byte edge and no call applies, else one of
            ``NO_EDGE``, ``MANY``, ``<= FIRST_PUSH``.
        edge_offset, edge_class, edge_target: byte edges of state q are entries
            ``edge_offset[q]:edge_offset[q+1]``.
        call_offset, call_start, call_return, call_tail: call edges likewise: start state of the
            called rule, target after it, and whether that target has nothing left to do (then the
            call is a jump).
        push_offset, push_links, push_target, push_outer: chains of calls; chain k enters through the targets
            ``push_links[push_offset[k]:push_offset[k+1]]`` (outermost first) and ends in
            ``push_target[k]``.  ``push_outer[k]`` says whether the first link belongs to the state
            that starts the chain (and carries its count on).
        accept_from: int32[Q], the least count with which the state ends its rule; ``UNBOUNDED``
            if it never does.
        count_limit, count_floor: int32[Q], the largest and the least count with which the state
            can still end its rule.
        count_cap: int32[Q], counts above are the same as this one (unbounded repetition).
        first: uint64[Q, 4], the byte classes that can come next without ending the rule; at states
            of a bag that take items, classes with which some item begins, available or not.
        start_rank: int32[Q]: for rule start states, the order in which frames are made (callers
            before callees); else -1.
        rule_of: int32[Q], index into ``rule_names``; states of a rule stand together.
        bags: bounds of the bags.
        bag_of: int32[Q], the bag whose items the state takes; -1 for none.
        bag_offset, bag_start: start states of the rules of bag b's members:
            ``bag_start[bag_offset[b]:bag_offset[b + 1]]``.
        bag_return: int32[4 * bags], the state after an item, by bag and flags.
    """

    start: int
    byte_class: npt.NDArray[np.uint8]
    classes: int
    table: IntArray
    edge_offset: IntArray
    edge_class: IntArray
    edge_target: IntArray
    call_offset: IntArray
    call_start: IntArray
    call_return: IntArray
    call_tail: npt.NDArray[np.uint8]
    push_offset: IntArray
    push_links: IntArray
    push_target: IntArray
    push_outer: npt.NDArray[np.uint8]
    accept_from: IntArray
    count_limit: IntArray
    count_floor: IntArray
    count_cap: IntArray
    first: npt.NDArray[np.uint64]
    start_rank: IntArray
    rule_of: IntArray
    rule_names: tuple[str, ...]
    marks: tuple[int, ...]
    bags: tuple[BagSpec, ...]
    bag_of: IntArray
    bag_offset: IntArray
    bag_start: IntArray
    bag_return: IntArray

    @property
    def states(self) -> int:
        """Q, the number of states."""
        return len(self.accept_from)

    @property
    def is_empty(self) -> bool:
        """Whether the language has no text at all."""
        return self.start < 0
