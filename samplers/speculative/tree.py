"""A tree of drafted tokens.

The root is the last token that is settled; it has no place among the nodes.  Nodes are numbered as
they are added, so that parents come before children.  Every node carries the target's state behind
it: what the target forbids is not drafted at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

ROOT: Final = -1


@dataclass
class Node:
    """One drafted token.

    Attributes:
        token: its id.
        parent: the node before it, or ``ROOT``.
        depth: 1 for children of the root.
        state: the target's state behind it; ``None`` if the target does not allow it (possible only
            among stochastic drafts, whose verification has to see them).
        scores: drafter -> how sure it is of this token after its parent, from 0 to 1.
    """

    token: int
    parent: int
    depth: int
    state: Any
    scores: dict[str, float] = field(default_factory=dict)


@dataclass
class Drawn:
    """Children drawn without replacement from a distribution.

    Attributes:
        q: float64[V], the distribution they were drawn from.
        children: the nodes, in the order in which they were drawn.
    """

    q: npt.NDArray[np.float64]
    children: list[int] = field(default_factory=list)


class Tree:
    """Drafts of one row, without duplicates.

    The children of a node are either all deterministic or all drawn (then ``drawn`` has an entry
    for it): only so is their verification exact.
    """

    def __init__(self, root_state: Any) -> None:
        self.root_state = root_state
        self.nodes: list[Node] = []
        self.drawn: dict[int, Drawn] = {}
        self._child: dict[tuple[int, int], int] = {}
        self._children: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.nodes)

    def state(self, node: int) -> Any:
        """The target's state behind a node."""
        return self.root_state if node == ROOT else self.nodes[node].state

    def depth(self, node: int) -> int:
        """0 for the root."""
        return 0 if node == ROOT else self.nodes[node].depth

    def child(self, node: int, token: int) -> int | None:
        """The child with a token, if there is one."""
        return self._child.get((node, token))

    def children(self, node: int) -> list[int]:
        """All children, in the order in which they were added."""
        return self._children.get(node, [])

    def add(self, parent: int, token: int, state: Any, source: str, score: float) -> int | None:
        """Adds a deterministic node, or finds it; ``None`` where the siblings were drawn."""
        known = self._child.get((parent, token))
        if known is not None:
            scores = self.nodes[known].scores
            scores[source] = max(score, scores.get(source, 0.0))
            return known
        if parent in self.drawn:
            return None
        return self._append(Node(token, parent, self.depth(parent) + 1, state, {source: score}))

    def add_drawn(
        self,
        parent: int,
        token: int,
        state: Any,
        source: str,
        q: npt.NDArray[np.float64],
    ) -> int:
        """Adds a node drawn from ``q`` without the siblings before it.

        Raises:
            ValueError: if the parent has deterministic children.
        """
        drawn = self.drawn.get(parent)
        if drawn is None:
            if self.children(parent):
                raise ValueError("a node's children are either all drawn or all deterministic")
            drawn = self.drawn[parent] = Drawn(q)
        made = self._append(
            Node(token, parent, self.depth(parent) + 1, state, {source: float(q[token])})
        )
        drawn.children.append(made)
        return made

    def _append(self, node: Node) -> int:
        number = len(self.nodes)
        self.nodes.append(node)
        self._child[node.parent, node.token] = number
        self._children.setdefault(node.parent, []).append(number)
        return number

    def path(self, node: int) -> list[int]:
        """The nodes from below the root down to one, itself included."""
        out: list[int] = []
        while node != ROOT:
            out.append(node)
            node = self.nodes[node].parent
        return out[::-1]

    def tokens_to(self, node: int) -> list[int]:
        """The drafted tokens from the root to a node."""
        return [self.nodes[i].token for i in self.path(node)]

    def only(self, keep: list[int]) -> Tree:
        """The tree of some nodes; with each its parent must be kept, and all of a drawn family."""
        out = Tree(self.root_state)
        renamed = {ROOT: ROOT}
        for number in sorted(keep):
            node = self.nodes[number]
            made = out._append(
                Node(node.token, renamed[node.parent], node.depth, node.state, node.scores)
            )
            renamed[number] = made
            family = self.drawn.get(node.parent)
            if family is not None:
                drawn = out.drawn.setdefault(renamed[node.parent], Drawn(family.q))
                drawn.children.append(made)
        return out

    def ancestors(self) -> npt.NDArray[np.bool_]:
        """bool[nodes, nodes]: row i has its ancestors and itself."""
        out = np.eye(len(self.nodes), dtype=bool)
        for i, node in enumerate(self.nodes):
            if node.parent != ROOT:
                out[i] |= out[node.parent]
        return out
