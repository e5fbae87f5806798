"""Trees drawn without replacement from a draft's own distribution.

Jeon et al. 2024, "Recursive Speculative Decoding" (arXiv 2402.14160), section 3: siblings are drawn
from q without replacement and verified in the order in which they were drawn
(:mod:`samplers.speculative.verify`), so that no two of them are the same and nothing shows in the
law of the text.  Two ways to spend a number of nodes:

* RSD-C, :func:`draw_constant`: every node of level l gets b_l children;
* RSD-S, :func:`draw_beam`: stochastic beam search (Kool et al. 2019, "Stochastic Beams and Where to
  Find Them", arXiv 1903.06059, section 4) keeps the W likeliest sequences of each level, under noise
  that makes them a sample without replacement.

What a tree leaves out may depend on a node's prefix and on how many nodes fit, never on which token
was drawn: a drawn token that the target forbids stays in the tree, where it is one more rejection.
The beam keeps to this too: given its elder siblings, whether a child is within the beam depends on
its perturbed log-probability alone, which tells nothing about its identity.

At temperature 0 nothing is drawn, and the same functions take the likeliest tokens instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from samplers.drafters.base import Context
from samplers.speculative.law import EmptyLaw, Law, Sampling, law_of
from samplers.speculative.target import Floats, Weighting
from samplers.speculative.tree import ROOT

Predict: TypeAlias = Callable[[Sequence[int]], Sequence[Law | None]]
"""Nodes of ``context.tree`` -> the draft's law of the token after each; ``None``: no children."""


def law_after(
    context: Context, node: int, logits: torch.Tensor, *, masked: bool = True
) -> Law | None:
    """What a draft draws from after a node: its own probabilities times the target's weights.

    Args:
        context: where the row is.
        node: of ``context.tree``, or ``ROOT``.
        logits: floating[V'], the draft's after that node, on the CPU.
        masked: whether to apply the target's weights.  Without them tokens may be drawn that the
            target forbids; they are rejected later, at no cost to exactness.

    Returns:
        A law whose ``weights`` are not normalised; ``None`` where no text can go on.  Temperature 0
        counts as 1, and top-p is left out: both make a poor q.
    """
    if not may_go_on(context, node):
        return None
    state = context.tree.state(node)
    left = context.tokens_left - context.tree.depth(node)
    weighting = context.target.weighting(state, left) if masked else Weighting()
    try:
        return law_of(logits, weighting, Sampling(temperature=context.sampling.temperature or 1.0))
    except EmptyLaw:
        return None


def may_go_on(context: Context, node: int) -> bool:
    """Whether a token may follow a node: it is allowed, is no end, and has room below it."""
    state = context.tree.state(node)
    if state is None or context.target.is_finished(state):
        return False
    return context.tree.depth(node) < context.tokens_left


# -- RSD-C ---------------------------------------------------------------------------------------


def draw_constant(
    context: Context, predict: Predict, branching: Sequence[int], source: str, columns: int
) -> None:
    """Adds b_l children to every node of level l.

    Args:
        context: the tree, with nothing below its root.
        predict: the draft.
        branching: b_1, b_2, ...; levels that might not fit ``context.room`` are left out.
        source: the drafter's name.
        columns: V, the size of q.
    """
    level = [ROOT]
    for count in fitting(branching, context.room)[: context.tokens_left]:
        made: list[int] = []
        for node, law in zip(level, predict(level), strict=True):
            if law is not None:
                made += _children(context, node, law, count, source, columns)
        level = [node for node in made if may_go_on(context, node)]
        if not level:
            return


def fitting(branching: Sequence[int], room: int) -> list[int]:
    """The first levels, as many as have room if none of their nodes is missing."""
    out: list[int] = []
    wide, total = 1, 0
    for count in branching:
        wide *= count
        total += wide
        if total > room:
            break
        out.append(count)
    return out


def _children(
    context: Context, node: int, law: Law, count: int, source: str, columns: int
) -> list[int]:
    """Up to ``count`` children of a node: as many as there are possible tokens."""
    q = law.dense(columns)
    made: list[int] = []
    for index in _some(context, law.weights, count):
        child = _add(context, node, law.token(index), source, q)
        if child is not None:
            made.append(child)
    return made


def _some(context: Context, weights: Floats, count: int) -> Iterator[int]:
    """Indices drawn one by one without replacement, or the likeliest ones at temperature 0.

    Successive draws have the law of the top-b of log q + Gumbel noise, and can be enumerated.
    """
    count = min(count, int(np.count_nonzero(weights)))
    if context.sampling.greedy:
        yield from np.argsort(-weights, kind="stable")[:count].tolist()
        return
    left = weights.copy()
    for _ in range(count):
        index = context.choices.pick(left)
        left[index] = 0.0
        yield index


def _add(context: Context, parent: int, token: int, source: str, q: Floats) -> int | None:
    if context.sampling.greedy:
        return context.add(parent, token, source, float(q[token]))
    return context.add_drawn(parent, token, source, q)


# -- RSD-S ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Beam:
    """A node of the beam.

    Attributes:
        node: its number.
        score: log-probability of its path.
        noisy: the same with noise, which orders the beam.
    """

    node: int
    score: float
    noisy: float


@dataclass(frozen=True)
class _Child:
    """A node that might be added: ``token`` after ``parent``, drawn from ``q``."""

    parent: int
    token: int
    score: float
    noisy: float
    q: Floats


def draw_beam(
    context: Context, predict: Predict, width: int, depth: int, source: str, columns: int
) -> None:
    """Adds up to W nodes a level: those of a stochastic beam search, likeliest first.

    Args:
        context: the tree, with nothing below its root.
        predict: the draft.
        width: W; smaller if ``context.room`` is.
        depth: levels; those that might not fit are left out.
        source: the drafter's name.
        columns: V, the size of q.
    """
    width = min(width, context.room)
    beam = [_Beam(ROOT, 0.0, 0.0)]
    for _ in range(min(depth, context.room // width if width else 0, context.tokens_left)):
        laws = predict([b.node for b in beam])
        found = [
            child
            for b, law in zip(beam, laws, strict=True)
            if law is not None
            for child in _candidates(context, b, law, width, columns)
        ]
        found.sort(key=lambda child: -child.noisy)
        beam = []
        for child in found[:width]:
            node = _add(context, child.parent, child.token, source, child.q)
            if node is not None and may_go_on(context, node):
                beam.append(_Beam(node, child.score, child.noisy))
        if not beam:
            return


def _candidates(
    context: Context, beam: _Beam, law: Law, width: int, columns: int
) -> Iterator[_Child]:
    """A node's best children: no more than ``width`` of them can be within the beam."""
    possible = np.flatnonzero(law.weights)
    score = beam.score + np.log(law.weights[possible] / law.weights.sum())
    if context.sampling.greedy:
        noisy = score
    else:
        noisy = conditioned(score + context.choices.gumbel(len(score)), beam.noisy)
    q = law.dense(columns)
    for i in np.argsort(-noisy, kind="stable")[:width].tolist():
        token = law.token(int(possible[i]))
        yield _Child(beam.node, token, float(score[i]), float(noisy[i]), q)


def conditioned(noisy: Floats, top: float) -> Floats:
    """Perturbed log-probabilities of siblings, shifted so that their maximum is their parent's.

    Args:
        noisy: float64[k], log-probability plus independent Gumbel noise; finite.
        top: the parent's perturbed log-probability.

    Returns:
        float64[k] in the same order: a draw from their law given that maximum (Kool et al. 2019,
        appendix B.3, which is stable in floating point).
    """
    with np.errstate(divide="ignore"):  # the largest itself: log(0)
        v = top - noisy + np.log(-np.expm1(noisy - noisy.max()))
    return np.asarray(top - np.maximum(v, 0.0) - np.log1p(np.exp(-np.abs(v))), np.float64)
