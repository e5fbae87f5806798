"""A table of trigrams that adapts to the text, searched as a game tree.

For two tokens the table has likely next ones with their probabilities, blended with what the model
said each time.  The draft is grown by simulations that balance what looks good with what has not
been looked at (a PUCT score), so that the tree widens where the table is unsure.

Source: Liu et al. 2024, "Adaptive Draft-Verification for Efficient Large Language Model Decoding"
(ADED), section 3; its constants are unpublished, those here are ours.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from samplers.drafters.base import Context, Drafter, Observation
from samplers.speculative.tree import ROOT

_KEPT: Final = 12
_BLEND: Final = 0.5
"""Weight of the newest distribution."""
_EXPLORE: Final = 0.5
_SIMULATIONS: Final = 24
_DEEPEST: Final = 8
_LEAST: Final = 0.03
_MAX_PAIRS: Final = 100_000
"""Pairs of tokens kept (some hundred bytes each); the oldest go first."""


@dataclass
class _Visit:
    count: int = 0
    value: float = 0.0
    open: list[tuple[int, float]] = field(default_factory=list)
    children: list[int] = field(default_factory=list)


class Trigram(Drafter):
    """Next tokens by the two before them, from the verifier's own distributions."""

    name = "Trigram"

    def __init__(self) -> None:
        self._table: OrderedDict[tuple[int, int], dict[int, float]] = OrderedDict()

    def reset(self) -> None:
        """Empties the table."""
        self._table.clear()

    def propose(self, context: Context) -> None:
        """Simulations from the root; each adds one node at most."""
        visits: dict[int, _Visit] = {ROOT: self._visit(context, ROOT)}
        for _ in range(_SIMULATIONS):
            if context.room <= 0 or not self._simulate(context, visits):
                return

    def _visit(self, context: Context, node: int) -> _Visit:
        known = self._table.get(self._pair(context, node), {})
        ranked = sorted(known.items(), key=lambda item: -item[1])
        return _Visit(open=[(t, p) for t, p in ranked if p >= _LEAST])

    @staticmethod
    def _pair(context: Context, node: int) -> tuple[int, int]:
        tokens = context.tokens
        if node == ROOT:
            return (tokens[-2] if len(tokens) > 1 else -1, tokens[-1])
        at = context.tree.nodes[node]
        before = tokens[-1] if at.parent == ROOT else context.tree.nodes[at.parent].token
        return before, at.token

    def _simulate(self, context: Context, visits: dict[int, _Visit]) -> bool:
        """Walks down by PUCT, adds the best untried guess there; False if there is none left."""
        path, node, chance = [ROOT], ROOT, 1.0
        while len(path) <= _DEEPEST:
            visit = visits[node]
            best = max(
                visit.children, key=lambda c: _puct(visits[c], visit, context, c), default=None
            )
            if visit.open and (best is None or self._opens(visit, visits[best], context, best)):
                token, p = visit.open.pop(0)
                made = context.add(node, token, self.name, p)
                if made is None or made in visits:
                    continue
                visits[made] = self._visit(context, made)
                visit.children.append(made)
                chance *= p
                path.append(made)
                break
            if best is None:
                break
            chance *= context.tree.nodes[best].scores.get(self.name, 0.0)
            path.append(best)
            node = best
        else:
            return False
        if len(path) == 1 and not visits[ROOT].children:
            return False
        for step in path:
            visits[step].count += 1
            visits[step].value += chance
        return True

    def _opens(self, visit: _Visit, best: _Visit, context: Context, child: int) -> bool:
        """Whether the next untried guess scores above the best of those tried."""
        untried = _EXPLORE * visit.open[0][1] * math.sqrt(visit.count + 1)
        return untried > _puct(best, visit, context, child)

    def observe(self, observation: Observation) -> None:
        """Blends the verifier's distributions along the accepted path into the table."""
        ids, p = observation.top(_KEPT)
        tokens = [*observation.context.tokens[-2:], *observation.emitted]
        first = len(observation.context.tokens[-2:]) - 1
        for i, node in enumerate([ROOT, *observation.path]):
            at = first + i
            before = tokens[at - 1] if at > 0 else -1
            self._blend((before, tokens[at]), ids[node - ROOT].tolist(), p[node - ROOT].tolist())

    def _blend(self, pair: tuple[int, int], ids: list[int], p: list[float]) -> None:
        old = self._table.pop(pair, None)
        new = dict(zip(ids, p, strict=True))
        if old is not None:
            both = old.keys() | new.keys()
            mixed = {t: _BLEND * new.get(t, 0.0) + (1 - _BLEND) * old.get(t, 0.0) for t in both}
            new = dict(sorted(mixed.items(), key=lambda item: -item[1])[:_KEPT])
        self._table[pair] = new
        if len(self._table) > _MAX_PAIRS:
            self._table.popitem(last=False)


def _puct(visit: _Visit, parent: _Visit, context: Context, child: int) -> float:
    p = max(context.tree.nodes[child].scores.values())
    mean = visit.value / visit.count if visit.count else 0.0
    return mean + _EXPLORE * p * math.sqrt(parent.count + 1) / (1 + visit.count)
