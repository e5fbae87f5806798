"""Typical acceptance: drafts that the target finds likely enough are taken without a draw.  It is LOSSY.

Cai et al. 2024, "Medusa" (arXiv 2401.10774), section 2.3.1, after truncation sampling (Hewitt et al. 2022):
with p the target's law after a prefix and H its entropy in nats, a drafted token x is accepted if

    p(x) > min(epsilon, delta exp(-H)),

and of all drafts that are accepted to the end the longest is taken.  The first token of a step is drawn from
p itself, as is the token behind what was accepted.  Texts then do not have the target's law: what is drafted
comes more often than it should, and what is drafted depends on anything that drafters have learned.

p is the *constrained* law, temperature and top-p applied, so that the grammar is kept: what it forbids has
probability 0 and is never above a threshold.  At temperature 0 p is 1 for the likeliest token, H is 0, and
only that token is accepted: texts are those of greedy decoding, and nothing is lost.

Our own reading: of paths equally long the likeliest is taken (as in the authors' code), of those equally
likely the one that was drafted first; and where the token drawn behind a path was drafted after all,
acceptance goes on below it in the same forward, as it would in the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grammars.errors import GrammaError
from samplers.speculative.law import Law
from samplers.speculative.tree import Tree


class LossyDraws(GrammaError, ValueError):  # noqa: N818 - the name says it
    """A backend that accepts typical tokens where exact draws are needed."""


@dataclass(frozen=True)
class Typical:
    """Accepts drafted tokens that are likely enough: faster, and LOSSY above temperature 0.

    Attributes:
        epsilon: a probability that is always enough; the paper's ablation goes from 0.01 to 0.25.
        delta: the share of exp(-entropy) that is enough where the law is flat; the paper's is the root
            of ``epsilon``.

    Raises:
        ValueError: if ``epsilon`` is not between 0 and 1 or ``delta`` is not positive.
    """

    epsilon: float = 0.09
    delta: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon={self.epsilon}: must be above 0 and below 1")
        if not 0 < self.delta < math.inf:
            raise ValueError(f"delta={self.delta}: must be positive and finite")

    def threshold(self, law: Law) -> float:
        """The probability above which a token is accepted after a prefix."""
        p = law.weights[law.weights > 0]
        p = p / p.sum()
        entropy = -float((p * np.log(p)).sum())
        return min(self.epsilon, self.delta * math.exp(-entropy))

    def accepted(self, tree: Tree, node: int, law: Law) -> list[tuple[int, float]]:
        """The children of a node that are accepted, each with its probability, in the order of drafting."""
        children = tree.children(node)
        if not children:
            return []
        least, total = self.threshold(law), float(law.weights.sum())
        found: list[tuple[int, float]] = []
        for child in children:
            at = law.index(tree.nodes[child].token)
            probability = 0.0 if at is None else float(law.weights[at]) / total
            if probability > least:
                found.append((child, probability))
        return found


def longest(
    tree: Tree, node: int, rule: Typical, law_after: Callable[[int], Law | None]
) -> list[int]:
    """The longest path of accepted nodes below one.

    Args:
        tree: the drafts.
        node: where the path begins, itself not part of it; or ``ROOT``.
        rule: what is accepted.
        law_after: the target's law after a node; ``None`` where the text has ended.  Asked for a node
            only if all before it are accepted and it has children.

    Returns:
        Nodes from below ``node`` down; empty if no child is accepted.
    """
    best: tuple[int, float, list[int]] = (0, 0.0, [])
    todo: list[tuple[int, float, list[int]]] = [(node, 0.0, [])]
    while todo:
        at, likelihood, path = todo.pop()
        if (len(path), likelihood) > best[:2]:
            best = (len(path), likelihood, path)
        law = law_after(at) if tree.children(at) else None
        if law is None:
            continue
        for child, probability in reversed(rule.accepted(tree, at, law)):
            todo.append((child, likelihood + math.log(probability), [*path, child]))
    return best[2]
