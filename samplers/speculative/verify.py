"""Drawing one token at a node of a draft tree, without the draft showing in its law.

*Sample, then match* for deterministic children: the token is drawn from the target's law; if a
child has it, the way goes on there.  Nothing is lost, and for a given set of children no other rule
accepts more often.

*Recursive rejection sampling without replacement* for children drawn from a distribution q: the
first child x is accepted with min(1, p(x)/q(x)); after a rejection p becomes the normalised positive
part of p - q, and q loses x; when all are rejected, the token is drawn from what is left of p (Jeon
et al. 2024, "Recursive Speculative Decoding", section 3).  A child that the target forbids has
p(x) = 0 and is one more rejection; leaving it out instead would bias the result.
"""

from __future__ import annotations

import numpy as np

from samplers.speculative.choices import Choices
from samplers.speculative.law import Law
from samplers.speculative.target import Floats
from samplers.speculative.tree import Drawn, Tree


def next_token(tree: Tree, node: int, law: Law, choices: Choices) -> tuple[int, int | None]:
    """Draws the token after a node.

    Returns:
        The token, and the child that has it (``None``: it was not drafted).
    """
    drawn = tree.drawn.get(node)
    if drawn is not None:
        return _rejection(tree, drawn, law, choices)
    token = law.token(choices.pick(law.weights))
    return token, tree.child(node, token)


def _rejection(tree: Tree, drawn: Drawn, law: Law, choices: Choices) -> tuple[int, int | None]:
    q = drawn.q.copy()
    p = law.dense(max(len(q), _columns(law)))
    if len(p) > len(q):
        q = np.concatenate([q, np.zeros(len(p) - len(q))])
    for child in drawn.children:
        token = tree.nodes[child].token
        if choices.accept(_ratio(p[token], q[token])):
            return token, child
        p = _residual(p, q)
        q[token] = 0.0
        total = q.sum()
        if total > 0:
            q /= total
    return choices.pick(p), None


def _ratio(p: float, q: float) -> float:
    if p <= 0:
        return 0.0
    return 1.0 if p >= q else float(p / q)


def _residual(p: Floats, q: Floats) -> Floats:
    """norm((p - q)+); p itself where rounding alone could have caused a rejection."""
    left = np.maximum(p - q, 0.0)
    total = left.sum()
    return left / total if total > 0 else p


def _columns(law: Law) -> int:
    if law.ids is None:
        return len(law.weights)
    return int(law.ids[-1]) + 1 if len(law.ids) else 0
