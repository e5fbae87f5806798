"""Deterministic automata put together from their ends.

A *node* is what is left to read: an expression is written in front of the node that follows it, so
nodes with equal edges are one node as they are made, a literal costs one look-up a byte, and most of
what grammars are made of is deterministic and minimal at once.  Where several nodes go on from one
place (alternatives, loops, optional parts) a *union* of them is noted, and its edges are worked out
when a text gets there from the start: the subset construction, for those places alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from grammars.compiling.automata import EMPTY, Dfa, Edge, Label, reduce, refine
from grammars.compiling.utf8 import END, ByteMask, Utf8Node
from grammars.errors import LimitExceeded
from grammars.work import spend

Node: TypeAlias = int

NOWHERE: Final[Node] = 0
"""Nothing can follow."""
FINISH: Final[Node] = 1
"""The end of the text."""


class Assembler:
    """The nodes of one automaton.

    Args:
        limit: how many states the automaton may have; four times as many nodes.
        what: what is being made, for the message.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._rows: list[tuple[Edge, ...]] = [(), ()]
        self._members: list[tuple[Node, ...] | None] = [None, None]
        self._known: dict[tuple[Edge, ...], Node] = {(): NOWHERE}
        self._unions: dict[tuple[Node, ...], Node] = {}
        self._cores: dict[frozenset[Node], Node] = {}
        self._core_of: dict[Node, list[Node]] = {}
        self._counted = 0
        self._merges = 0  # states of which several nodes are behind

    # -- making nodes --------------------------------------------------------------------------

    def edge(self, label: Label, then: Node, inc: int = 0) -> Node:
        """One edge."""
        return self._node(((label, then, inc),)) if then else NOWHERE

    def literal(self, data: bytes, then: Node) -> Node:
        """A text."""
        if then:
            for byte in reversed(data):
                then = self._node(((1 << byte, then, 0),))
        return then

    def words(self, words: Iterable[bytes], then: Node) -> Node:
        """One of some texts: their minimal automaton, made in one pass over the sorted texts."""
        if not then:
            return NOWHERE
        rows: list[dict[Node, ByteMask]] = [{}]
        ends = [False]
        last = b""
        for word in (*sorted(set(words)), None):
            shared = -1 if word is None else _common(last, word)
            while len(rows) - 1 > shared:
                node = self._word_node(rows.pop(), ends.pop(), then)
                if not rows:
                    return node
                row, mask = rows[-1], 1 << last[len(rows) - 1]
                row[node] = row.get(node, 0) | mask
            assert word is not None
            while len(rows) - 1 < len(word):
                rows.append({})
                ends.append(False)
            ends[-1] = True
            last = word
        raise AssertionError("the root is closed last")

    def _word_node(self, row: dict[Node, ByteMask], ends: bool, then: Node) -> Node:
        node = self._node(tuple(sorted((mask, t, 0) for t, mask in row.items())))
        return self.union((node, then)) if ends else node

    def characters(self, root: Utf8Node, then: Node) -> Node:
        """One character of a class."""
        if not then:
            return NOWHERE
        made: dict[Utf8Node, Node] = {END: then}
        stack = [root]
        while stack:
            at = stack[-1]
            missing = [t for _, t in at if t not in made]
            if missing:
                stack += missing
                continue
            stack.pop()
            row: dict[Node, ByteMask] = {}
            for mask, t in at:
                row[made[t]] = row.get(made[t], 0) | mask
            made[at] = self._node(tuple(sorted((mask, t, 0) for t, mask in row.items())))
        return made[root]

    def embed(self, dfa: Dfa, then: Node) -> Node:
        """A text of a (trimmed) automaton, whose counting edges go on counting."""
        if not then or dfa.is_empty():
            return NOWHERE
        nodes = [self._reserve() for _ in range(len(dfa))]
        for q, row in enumerate(dfa.edges):
            own = tuple((label, nodes[t], inc) for label, t, inc in row)
            if dfa.accept[q]:
                self._members[nodes[q]] = (self._node(own), then)
            else:
                self._rows[nodes[q]] = own
        return nodes[dfa.start]

    def union(self, nodes: Iterable[Node]) -> Node:
        """Whichever of the nodes."""
        members = tuple(sorted({node for node in nodes if node}))
        if len(members) < 2:
            return members[0] if members else NOWHERE
        known = self._unions.get(members)
        if known is None:
            known = self._unions[members] = self._reserve()
            self._members[known] = members
        return known

    def loop(self) -> Node:
        """A node that is to be defined, and that may follow itself."""
        return self._reserve()

    def define(self, loop: Node, nodes: tuple[Node, ...]) -> None:
        """Says which nodes a loop is the union of."""
        self._members[loop] = nodes

    def _node(self, row: tuple[Edge, ...]) -> Node:
        known = self._known.get(row)
        if known is None:
            known = self._known[row] = len(self._rows)
            self._rows.append(row)
            self._members.append(None)
            if known > 4 * self._limit:
                raise LimitExceeded("max_dfa_states", self._limit, self._what)
        return known

    def _reserve(self) -> Node:
        self._rows.append(())
        self._members.append(None)
        if len(self._rows) > 4 * self._limit:
            raise LimitExceeded("max_dfa_states", self._limit, self._what)
        return len(self._rows) - 1

    # -- reading them off ----------------------------------------------------------------------

    def dfa(self, start: Node) -> Dfa:
        """The automaton that begins at a node, trimmed; reduced where many nodes had to be merged.

        Raises:
            LimitExceeded: if there are too many states.
        """
        if start == NOWHERE:
            return EMPTY
        first = self._canonical(start)
        number = {start: 0, first: 0}
        order = [first]
        accept: list[bool] = []
        out: list[list[Edge]] = []
        spend(len(self._rows) - self._counted)  # those that were made up to now
        self._counted = len(self._rows)
        for node in order:  # grows while we iterate
            spend(2)
            core = self._core_of.get(node)
            row: Iterable[Edge] = self._rows[node] if core is None else self._merged(core)
            accept.append(node == FINISH if core is None else FINISH in core)
            fresh: list[Edge] = []
            for label, t, inc in row:
                n = number.get(t)
                if n is None:
                    true = self._canonical(t)
                    n = number.get(true)
                    if n is None:
                        if len(order) >= self._limit:
                            raise LimitExceeded(
                                "max_dfa_states", self._limit, "making one rule deterministic"
                            )
                        n = number[true] = len(order)
                        order.append(true)
                    number[t] = n
                fresh.append((label, n, inc))
            out.append(fresh if core is None else _joined(fresh))
        made = Dfa(0, accept, out)
        # equal states arise by merging alone; where that is rare, looking for them does not pay
        return reduce(made) if 2 * self._merges > len(made) else made

    def _canonical(self, node: Node) -> Node:
        """The node that stands for all unions of the same plain nodes."""
        members = self._members[node]
        if members is None:
            return node
        core: set[Node] = set()
        seen = {node}
        stack = list(members)
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            below = self._members[at]
            if below is not None:
                stack += below
            elif at:
                core.add(at)
        if len(core) == 1:
            return core.pop()
        key = frozenset(core)
        known = self._cores.get(key)
        if known is None:
            known = self._cores[key] = node
            self._core_of[node] = sorted(core)
        return known

    def _merged(self, core: list[Node]) -> Iterable[Edge]:
        """The edges of several plain nodes, made deterministic."""
        rows = self._rows
        edges = [edge for node in core for edge in rows[node]]
        spend(len(edges))
        if not _overlap(edges):
            return edges
        self._merges += 1
        targets: dict[tuple[Label, int], set[Node]] = {}
        for label, t, inc in edges:
            targets.setdefault((label, inc), set()).add(t)
        masks = {label for label, _ in targets if label > 0}
        if _masks_overlap(masks):
            blocks = refine(sorted(masks))
            split: dict[tuple[Label, int], set[Node]] = {}
            for (label, inc), ts in targets.items():
                for part in (label,) if label < 0 else [b for b in blocks if b & label]:
                    split.setdefault((part, inc), set()).update(ts)
            targets = split
        return [(label, self.union(ts), inc) for (label, inc), ts in targets.items()]


def _common(a: bytes, b: bytes) -> int:
    """The length of the longest common beginning."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])


def _overlap(edges: list[Edge]) -> bool:
    """Whether two edges share a byte or a call."""
    seen = 0
    calls: set[Label] = set()
    for label, _, _ in edges:
        if label > 0:
            if seen & label:
                return True
            seen |= label
        elif label in calls:
            return True
        else:
            calls.add(label)
    return False


def _masks_overlap(masks: Iterable[ByteMask]) -> bool:
    seen = 0
    for mask in masks:
        if seen & mask:
            return True
        seen |= mask
    return False


def _joined(row: list[Edge]) -> list[Edge]:
    """One edge for all bytes with the same target."""
    if len(row) < 2:
        return row
    masks: dict[tuple[int, int], ByteMask] = {}
    out: list[Edge] = []
    for label, t, inc in row:
        if label < 0:
            out.append((label, t, inc))
        else:
            masks[t, inc] = masks.get((t, inc), 0) | label
    out += [(mask, t, inc) for (t, inc), mask in masks.items()]
    return out
