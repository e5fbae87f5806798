"""Successors that the model found likely before, whether or not they came.

A table holds for each token the likeliest successors the model last gave it.  After each forward it
is updated for every scored node, rejected ones included: what was computed is never thrown away.

Source: Luo et al. 2024, "Turning Trash into Treasure: Accelerating Inference of Large Language Models
with Token Recycling", section 3; the tree here is grown best-first instead of a fixed template.
"""

from __future__ import annotations

import itertools
from typing import Final

from samplers.drafters.base import Context, Drafter, Observation
from samplers.speculative.tree import ROOT

_KEPT: Final = 16
"""Successors kept for a token (a grammar may forbid the first ones)."""
_CHOICES: Final = 4
_LEAST: Final = 0.04
"""Guesses less likely than this, from the root on, are not made."""
_BY_RANK: Final = (0.45, 0.15, 0.08, 0.05)
"""How often the first, second, ... allowed successor comes, until it is measured."""


class TokenRecycling(Drafter):
    """A table of the likeliest successors of each token, as of the last time it was scored.

    What it learns comes from all requests, so that a text may be drafted from what another one was
    about; :meth:`reset` forgets it.
    """

    name = "TokenRecycling"

    def __init__(self) -> None:
        self._successors: dict[int, list[int]] = {}

    def reset(self) -> None:
        """Empties the table."""
        self._successors.clear()

    def begin(self, context: Context) -> None:
        """Until the model was asked, a token's successors are those it has in the prompt."""
        tokens = context.tokens[: context.prompt_length]
        for token, following in itertools.pairwise(tokens):
            if token not in self._successors:
                self._successors[token] = [following]

    def propose(self, context: Context) -> None:
        """A tree grown where guesses are likeliest."""
        front = [(1.0, ROOT)]
        while front and context.room > 0:
            front.sort(key=lambda item: -item[0])
            before, node = front.pop(0)
            token = context.tokens[-1] if node == ROOT else context.tree.nodes[node].token
            rank = 0
            for following in self._successors.get(token, ()):
                likely = before * _BY_RANK[rank]
                if likely < _LEAST:
                    break
                made = context.add(node, following, self.name, _BY_RANK[rank])
                if made is None:
                    continue
                front.append((likely, made))
                rank += 1
                if rank == _CHOICES:
                    break

    def observe(self, observation: Observation) -> None:
        """Updates the row of every scored token."""
        ids, _ = observation.top(_KEPT)
        self._successors[observation.last_token] = ids[0].tolist()
        for i, node in enumerate(observation.tree.nodes):
            self._successors[node.token] = ids[1 + i].tolist()
