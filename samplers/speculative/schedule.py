"""Which drafts are worth a place in the tree.

A forward of n tokens yields one token more than it accepts.  So the best tree maximises

    (1 + sum over its nodes of P(node becomes text)) / (time of a forward of that size),

both measured while decoding: how often a drafter's guesses of a certainty come true, and how long
forwards take.  Where no draft is worth its time the best tree is empty, and decoding is plain.

Drafters that run a network cost time of their own, so they are arms of a bandit: at each step the one
with the most tokens a second is asked (or none of them).  An arm that does not pay is left out after three
to five steps and tried again after 32, 64, 128, ... steps, in case the text has changed.  Tries come in
series of a few steps, the first of which does not count: there a drafter reads what it has missed, the
whole prompt at first, which says nothing of what its steps cost later.

Companion positions (:mod:`samplers.speculative.companions`) are chosen by the same measure, when the tree
is: a companion gains in the next step what was accepted of its guesses so far, if the text goes on from its
node.

Whatever is fixed here is only a beginning: the costs until forwards of a size are measured, the pace at
which old outcomes count for less.  ``_SLOWER`` is what a Llama of SmolLM2-135M's shape took in float32 and
bfloat16 (between the two) on two cores of a CPU with AVX-512, behind 256 tokens.  The other numbers were
chosen by hand on that machine and model.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Final

from samplers.speculative.companions import Attached
from samplers.speculative.tree import ROOT, Tree

_LEVELS: Final = 8
"""Classes of certainty that are calibrated apart."""
_PRIOR: Final = 1.5
"""Outcomes that a drafter's own certainty counts for: a liar is scored no more after thirty tokens."""
_FADE: Final = 0.99
"""Weight of old outcomes, each time a new one comes."""
_SIZES: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
_SLOWER: Final = (1.0, 1.06, 1.1, 1.15, 1.25, 1.3, 1.5, 1.7, 2.1, 2.5, 3.3, 4.2, 8.0)
"""How much longer forwards of those sizes are supposed to take until they are measured."""
_RECENT: Final = 15
_STALE: Final = 192
"""Forwards after which a size that had none among them counts as not measured."""
_PROBE: Final = 48
"""Forwards between two without drafts, while it is in doubt whether drafts gain anything."""
_DOUBT: Final = 1.3


class Calibration:
    """How often guesses come true, by drafter and certainty."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], tuple[float, float]] = {}

    def probability(self, source: str, score: float) -> float:
        """That a guess comes true, given that all before it did."""
        hits, trials = self._counts.get((source, _level(score)), (0.0, 0.0))
        return (hits + _PRIOR * score) / (trials + _PRIOR)

    def record(self, source: str, score: float, hit: bool) -> None:
        """One outcome."""
        key = (source, _level(score))
        hits, trials = self._counts.get(key, (0.0, 0.0))
        self._counts[key] = (_FADE * hits + hit, _FADE * trials + 1)


def _level(score: float) -> int:
    return min(int(score * _LEVELS), _LEVELS - 1)


class Costs:
    """How long forwards take, by the number of tokens in them.

    On a machine that others use, forwards of one size may have been measured at a bad moment; what made
    them look dear must not keep them from ever being measured again.  So a size that was not seen for
    long is forgotten, and none is dearer than a larger one.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}
        self._medians: dict[int, float] = {}
        self._last: dict[int, int] = {}
        self._forwards = 0

    def record(self, tokens: int, seconds: float) -> None:
        """One forward."""
        size = _size(tokens)
        recent = self._seconds.setdefault(size, deque(maxlen=_RECENT))
        recent.append(seconds)
        self._medians[size] = median(recent)  # asked for many times a forward
        self._last[size] = self._forwards
        self._forwards += 1
        for old in [s for s, last in self._last.items() if self._forwards - last > _STALE]:
            del self._seconds[old], self._medians[old], self._last[old]

    def measured(self, tokens: int) -> int:
        """Recent forwards of about that size."""
        return len(self._seconds.get(_size(tokens), ()))

    def seconds(self, tokens: int) -> float:
        """The median of recent ones of that size or of a larger one, whichever is less.

        If none was measured, what the nearest size makes likely.
        """
        at = _size(tokens)
        known = self._medians
        larger = [seconds for size, seconds in known.items() if size >= at]
        if at in known:
            return min(larger)
        if not known:
            return _SLOWER[at]
        near = min(known, key=lambda size: abs(size - at))
        return min([known[near] * _SLOWER[at] / _SLOWER[near], *larger])


def _size(tokens: int) -> int:
    return min(bisect_left(_SIZES, tokens), len(_SIZES) - 1)


class Schedule:
    """Chooses the nodes of trees, and whether a neural drafter is asked at all.

    Args:
        max_nodes: of one row's tree.
        max_companions: companion positions of one row in one forward.
        adaptive: whether to choose by measured gain; else all that was drafted is kept, up to
            ``max_nodes``, and so many companions.
    """

    def __init__(self, max_nodes: int, max_companions: int = 0, *, adaptive: bool = True) -> None:
        self.max_nodes = max_nodes
        self.max_companions = max_companions
        self.adaptive = adaptive
        self.calibration = Calibration()
        self.costs = Costs()
        self._since_probe = 0
        self._arms: dict[str, Arm] = {}
        self._steps = 0
        self._before: str | None = None

    # -- trees -----------------------------------------------------------------------------------

    def choose(self, trees: Sequence[Tree], pending: int) -> list[Tree]:
        """The part of each row's tree that goes to the model.

        Args:
            trees: all that was drafted.
            pending: settled tokens of the longest row that are scored with them.
        """
        ranked = [self._ranked(tree) for tree in trees]
        if not self.adaptive:
            return [self._cut(t, r, self.max_nodes) for t, r in zip(trees, ranked, strict=True)]
        count = self._best_count([[p for p, _ in r] for r in ranked], pending)
        return [self._cut(t, r, count) for t, r in zip(trees, ranked, strict=True)]

    def _chances(self, tree: Tree) -> list[float]:
        """How likely each node becomes text."""
        chances: list[float] = []
        for node in tree.nodes:
            before = 1.0 if node.parent == ROOT else chances[node.parent]
            own = max(self.calibration.probability(s, c) for s, c in node.scores.items())
            chances.append(before * own)
        return chances

    def _ranked(self, tree: Tree) -> list[tuple[float, int]]:
        """(probability, node), likeliest first; parents never come after their children."""
        chances = self._chances(tree)
        order = sorted(range(len(chances)), key=lambda i: (-chances[i], i))
        return [(chances[i], i) for i in order]

    def _best_count(self, chances: list[list[float]], pending: int) -> int:
        rows = len(chances)
        plain = rows / self.costs.seconds(rows * pending)
        best, best_rate = 0, plain
        gain = float(rows)
        for count in range(1, 1 + min(self.max_nodes, max(map(len, chances), default=0))):
            gain += sum(c[count - 1] for c in chances if len(c) >= count)
            rate = gain / self.costs.seconds(rows * (pending + count))
            if rate > best_rate:
                best, best_rate = count, rate
        self._since_probe += 1
        doubtful = best and best_rate < _DOUBT * plain and self._since_probe >= _PROBE
        if not best or doubtful:
            self._since_probe = 0
            return 0
        return best

    def _cut(self, tree: Tree, ranked: list[tuple[float, int]], count: int) -> Tree:
        """The likeliest nodes; what was drawn stays whole, since dropping it would show in the law."""
        drawn = {child for family in tree.drawn.values() for child in family.children}
        kept = set(drawn)
        for child in drawn:
            kept.update(tree.path(child))
        for _, node in ranked:
            if len(kept) >= max(count, len(drawn)):
                break
            kept.add(node)
        if len(kept) == len(tree):
            return tree
        return tree.only(sorted(kept))

    # -- companions ------------------------------------------------------------------------------

    def attach(
        self,
        trees: Sequence[Tree],
        useful: Sequence[Sequence[int]],
        pending: int,
        gains: Sequence[float],
        strands: int = 1,
    ) -> list[list[Attached]]:
        """The companions of each row's tree.

        Args:
            trees: what goes to the model.
            useful: nodes of each, or ``ROOT``, after which more than one token may come.
            pending: see :meth:`choose`.
            gains: by place behind a node, tokens accepted in the next step thanks to a companion there.
            strands: positions that each place takes.
        """
        chances = [self._chances(tree) for tree in trees]
        ranked = [
            _places(tree, own, nodes, gains)
            for tree, own, nodes in zip(trees, chances, useful, strict=True)
        ]
        most = min(self.max_companions // strands, max(map(len, ranked), default=0))
        if self.adaptive:
            gain = len(trees) + sum(map(sum, chances))
            scored = pending + max(map(len, trees))
            values = [sum(r[i][0] for r in ranked if len(r) > i) for i in range(most)]
            most = self._best_companions(values, gain, len(trees), scored, strands)
        return [_attached(r[:most]) for r in ranked]

    def _best_companions(
        self, values: Sequence[float], gain: float, rows: int, scored: int, strands: int
    ) -> int:
        best, best_rate = 0, gain / self.costs.seconds(rows * scored)
        for count, value in enumerate(values, 1):
            gain += value
            rate = gain / self.costs.seconds(rows * (scored + strands * count))
            if rate > best_rate:
                best, best_rate = count, rate
        return best

    # -- what became of them ---------------------------------------------------------------------

    def record(self, tree: Tree, emitted: Sequence[int]) -> None:
        """Outcomes of everything drafted, whether or not the model saw it.

        Args:
            tree: all that was drafted.
            emitted: the tokens that came, as far as they are known.
        """
        node: int | None = ROOT
        for token in emitted:
            assert node is not None
            for child in tree.children(node):
                hit = tree.nodes[child].token == token
                for source, score in tree.nodes[child].scores.items():
                    self.calibration.record(source, score, hit)
            node = tree.child(node, token)
            if node is None:
                break

    # -- neural drafters -------------------------------------------------------------------------

    def wanted(self, names: Sequence[str]) -> str | None:
        """Which neural drafter to ask now, if any: the arm with the most tokens a second."""
        if not names:
            return None
        self._steps += 1
        if not self.adaptive:
            return names[self._steps % len(names)]
        arms = {name: self._arm(name) for name in ("", *names)}
        for name, arm in arms.items():
            if arm.tries < _TRIES and not arm.is_hopeless(arms[""].rate):
                return name or None
        best = max(arms, key=lambda name: arms[name].rate)
        arms[best].lead(self._steps)
        for name, arm in arms.items():
            if name != best and arm.is_due(self._steps, arms[best].rate):
                return name or None
        return best or None

    def earned(self, name: str | None, tokens: int, seconds: float) -> None:
        """What a step with a neural drafter (or with none) yielded.

        The first step of a neural drafter after others does not count.
        """
        before, self._before = self._before, name
        if name is None or name == before:
            self._arm(name or "").add(tokens, seconds)

    def _arm(self, name: str) -> Arm:
        return self._arms.setdefault(name, Arm())


def _places(
    tree: Tree, chances: Sequence[float], nodes: Sequence[int], gains: Sequence[float]
) -> list[tuple[float, int, int]]:
    """(gain, node, place behind it), best first; no place comes before those nearer to its node."""
    found: list[tuple[float, int, int]] = []
    for node in nodes:
        here = 1.0 if node == ROOT else chances[node]
        ends = max(here - sum(chances[child] for child in tree.children(node)), 0.0)
        gained = [min(gains[: place + 1]) for place in range(len(gains))]
        found += [(ends * gain, node, place) for place, gain in enumerate(gained)]
    return sorted(found, key=lambda item: (-item[0], item[2]))


def _attached(places: Sequence[tuple[float, int, int]]) -> list[Attached]:
    counts: dict[int, int] = {}
    for _, node, place in places:
        counts[node] = max(place + 1, counts.get(node, 0))
    return [Attached(node, count) for node, count in counts.items()]


_TRIES: Final = 4
_LEAST_TRIES: Final = 2
_HOPELESS: Final = 0.6
"""An arm with less than this part of the tokens a second without it gets no more first tries."""
_EXPLORE: Final = 32
"""Steps until an arm that does not pay is tried again; each time twice as many."""
_LONGEST: Final = 512
_SERIES: Final = 4
"""Steps of a series of tries, the first of which does not count."""
_WORSE: Final = 0.85
"""A series ends early where an arm's second step that counts leaves it below this part of the best rate."""
_KEPT: Final = 0.9
"""Weight of an arm's steps, each time a new one comes."""
_KEPT_LONG: Final = 0.5
"""The same where they are as old as a pause."""


class Arm:
    """Tokens and seconds of recent steps with a neural drafter, or with none.

    Attributes:
        tries: steps so far that count.
    """

    def __init__(self) -> None:
        self.tries = 0
        self._series = 0
        self._counted = 0
        self._tokens = 0.0
        self._seconds = 0.0
        self._kept = _KEPT
        self._pause = _EXPLORE
        self._again: int | None = None

    def add(self, tokens: int, seconds: float) -> None:
        """One step; old ones fade."""
        self.tries += 1
        self._counted += 1
        self._tokens = self._kept * self._tokens + tokens
        self._seconds = self._kept * self._seconds + seconds
        self._kept = _KEPT

    def lead(self, now: int) -> None:
        """Counts the pause from here: it is the best arm at this step."""
        self._pause = _EXPLORE
        self._again = now + _EXPLORE

    def is_due(self, now: int, best: float) -> bool:
        """Whether it is tried at this step though another is better; the pause then doubles.

        Args:
            now: number of the step.
            best: tokens a second of the best arm.
        """
        if self._again is None:
            self._again = now + self._pause
        if self._series:
            part = (0.0, _HOPELESS, _WORSE)[min(self._counted, 2)]
            self._series = 0 if self.rate < part * best else self._series - 1
        elif now >= self._again:
            self._series, self._counted = _SERIES, 0
            self._pause = min(2 * self._pause, _LONGEST)
            self._again = now + self._pause
            self._kept = _KEPT_LONG
        return self._series > 0

    def is_hopeless(self, plain: float) -> bool:
        """Whether the first tries say enough against it, beside the tokens a second without it."""
        return self.tries >= _LEAST_TRIES and self.rate < _HOPELESS * plain

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self._tokens / self._seconds if self._seconds else float("inf")
