"""Draft trees grown best-first, level by level.

A level's likeliest nodes, by the joint probability of their paths, get children; the others stay leaves
(Li et al. 2024, "EAGLE-2" (arXiv 2406.16858), section 4.1).  Which nodes the model is asked about is the
schedule's choice.  All nodes are deterministic, so that verification is by sampling and matching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from samplers.drafters.base import Context
from samplers.drafters.learned.vocabulary import Output
from samplers.drafters.recursive import may_go_on
from samplers.speculative.tree import ROOT

After: TypeAlias = Callable[[Sequence[int]], torch.Tensor]
"""Nodes of one level of ``context.tree`` -> states float32[n, H] for the output embedding."""


@dataclass(frozen=True)
class Growth:
    """How far trees grow.

    Attributes:
        depth: levels at most.
        width: nodes of a level that get children.
        children: of each, at most.
        least: a level is not asked for where no node's path is as likely as this.

    Raises:
        ValueError: if a number is out of range.
    """

    depth: int = 4
    width: int = 2
    children: int = 3
    least: float = 0.2

    def __post_init__(self) -> None:
        if min(self.depth, self.width, self.children) < 1:
            raise ValueError("depth, width and children of a tree must be positive")
        if not 0 <= self.least < 1:
            raise ValueError(f"least={self.least}: must be at least 0 and below 1")


def grow(context: Context, after: After, output: Output, growth: Growth, source: str) -> None:
    """Adds a tree below the root.

    Args:
        context: where the row is.
        after: the network, asked once a level.
        output: makes guesses of its states.
        growth: how far.
        source: the drafter's name.
    """
    level: list[tuple[float, int]] = [(1.0, ROOT)]
    for _ in range(growth.depth):
        nodes = [node for _, node in level]
        guesses = output.ranked(context, nodes, after(nodes), growth.children)
        found: list[tuple[float, int]] = []
        for (before, node), mine in zip(level, guesses, strict=True):
            for token, probability in mine:
                made = context.add(node, token, source, probability)
                if made is not None:
                    found.append((before * probability, made))
        found.sort(key=lambda item: (-item[0], item[1]))
        level = [item for item in found if item[0] >= growth.least and may_go_on(context, item[1])]
        level = level[: growth.width]
        if not level or context.room <= 0:
            return
