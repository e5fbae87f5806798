"""The model drafts for itself, with a part of its layers left out.

Xia et al. 2024, "SWIFT: On-the-Fly Self-Speculative Decoding" (arXiv 2410.06916), sections 4.1 and
4.2.  About 45 % of the attention and MLP sublayers are skipped, never those of the first and the
last layer; what is left drafts a chain of its likeliest tokens, and stops where it is in doubt; the
next likeliest tokens beside the chain cost no forward and are offered too.  Which sublayers are
skipped is searched while decoding: sets are proposed at random, every 25th by a small Gaussian
process, and judged by how often the likeliest token is the same as the whole model's on the last
tokens of the text, in one forward.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from constrain.arguments import check_model
from samplers.drafters.base import Context, Drafter, Observation
from samplers.drafters.recursive import law_after
from samplers.speculative.law import Law
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.target import Weighting
from samplers.speculative.tree import ROOT, Tree

Skipped: TypeAlias = tuple[bool, ...]
"""For every sublayer that may be skipped, whether it is: attention and MLP of layer 1, of 2, ..."""
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]

_PENDING: Final = 4
"""Settled tokens that every forward of a draft may have to read again."""
_CONFIDENT: Final = 0.6
"""Drafting goes on after tokens this probable: about what a forward of a draft costs."""
_CANDIDATES: Final = 3
"""Tokens of each forward of a draft that are offered, the chain's own among them."""
_LEAST: Final = 0.04
"""Candidates less likely than this, from the root on, are not offered."""
_WINDOW: Final = 32
"""Tokens on which sets are judged."""
_SEARCH_EVERY: Final = 8
"""Drafts between two trials."""


# -- skipping ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sublayer:
    """An attention or MLP block that may be skipped."""

    module: Any
    attention: bool


def sublayers_of(model: Any) -> list[Sublayer]:
    """Attention and MLP of every layer but the first and the last.

    Raises:
        ValueError: if the model is not built of layers with ``self_attn`` and ``mlp``, or has fewer
            than three.
    """
    decoder = getattr(model, "model", None)
    layers = list(getattr(decoder, "layers", None) or [])
    if not layers or not all(hasattr(x, "self_attn") and hasattr(x, "mlp") for x in layers):
        raise ValueError(
            f"{type(model).__name__} is not built of layers with self_attn and mlp, as Llama is; "
            "its layers cannot be skipped"
        )
    if len(layers) < 3:
        raise ValueError(
            f"the model has {len(layers)} layers; the first and the last are never skipped, "
            "so that there is nothing to skip"
        )
    return [
        sublayer
        for layer in layers[1:-1]
        for sublayer in (Sublayer(layer.self_attn, True), Sublayer(layer.mlp, False))
    ]


def _no_attention(hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
    return torch.zeros_like(hidden_states), None


def _no_mlp(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return torch.zeros_like(hidden_states)


@contextmanager
def skipping(sublayers: Sequence[Sublayer], skipped: Skipped) -> Iterator[None]:
    """Within it, the skipped sublayers add nothing to what goes past them.

    Skipped attention leaves its layer's cache alone.  Afterwards everything is as before, whatever
    happened.
    """
    hidden: list[tuple[Any, Any]] = []
    try:
        for sublayer, skip in zip(sublayers, skipped, strict=True):
            if skip:
                module = sublayer.module
                hidden.append((module, vars(module).get("forward")))
                module.forward = _no_attention if sublayer.attention else _no_mlp
        yield
    finally:
        for module, before in hidden:
            if before is None:
                del module.forward
            else:
                module.forward = before


# -- the search ----------------------------------------------------------------------------------


class SkipSearch:
    """Looks for a set of sublayers that are not missed.

    Args:
        sublayers: how many may be skipped.
        skipped: how many are.
        seed: of the proposals.
    """

    ENOUGH: ClassVar[float] = 0.95
    """A score at which the search ends."""
    PATIENCE: ClassVar[int] = 200
    """Trials without a better set, after which it ends."""
    BAYES_EVERY: ClassVar[int] = 25

    def __init__(self, sublayers: int, skipped: int, seed: int = 0) -> None:
        self._count, self._skipped = sublayers, skipped
        self._drawn = np.random.default_rng(seed)
        self._tried: deque[tuple[Bools, float]] = deque(maxlen=128)
        self._trials = self._since = 0
        first = (sublayers - skipped) // 2
        start = np.zeros(sublayers, bool)
        start[first : first + skipped] = True  # the middle is missed least
        self.best: Skipped = tuple(start.tolist())
        self.score = 0.0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.score >= self.ENOUGH or self._since >= self.PATIENCE

    def propose(self) -> Skipped:
        """A set to try next."""
        self._trials += 1
        if self._trials % self.BAYES_EVERY == 0 and len(self._tried) > 1:
            made = self._promising()
        else:  # anywhere and near the best one by turns: most sets are useless for small models
            made = self._neighbour() if self._trials % 2 else self._random()
        return tuple(made.tolist())

    def tell(self, skipped: Skipped, score: float, current: float) -> None:
        """How a set did, and how the best one so far did on the same tokens."""
        self._tried.append((np.array(skipped), score))
        self._tried.append((np.array(self.best), current))
        self._since += 1
        self.score = current
        if score > current:
            self.best, self.score, self._since = skipped, score, 0

    def _random(self) -> Bools:
        out = np.zeros(self._count, bool)
        out[self._drawn.permutation(self._count)[: self._skipped]] = True
        return out

    def _neighbour(self) -> Bools:
        """The best set with one sublayer exchanged."""
        out = np.array(self.best)
        if out.any() and not out.all():
            out[self._drawn.choice(np.flatnonzero(out))] = False
            out[self._drawn.choice(np.flatnonzero(~np.array(self.best)))] = True
        return out

    def _promising(self) -> Bools:
        """Of some candidates, the one with the highest upper confidence bound."""
        candidates = np.array(
            [self._random() for _ in range(128)] + [self._neighbour() for _ in range(128)]
        )
        tried = np.array([x for x, _ in self._tried])
        scores = np.array([score for _, score in self._tried])
        mean, deviation = posterior(tried, scores, candidates)
        return np.asarray(candidates[int(np.argmax(mean + 2.0 * deviation))], np.bool_)


def posterior(tried: Bools, scores: Floats, candidates: Bools) -> tuple[Floats, Floats]:
    """A Gaussian process on sets, whose covariance falls with the number of differences.

    Args:
        tried: bool[n, d].
        scores: float64[n], with noise: they were measured on different tokens.
        candidates: bool[m, d].

    Returns:
        Mean and standard deviation of each candidate's score, float64[m] each.
    """
    scale = max(tried.shape[1] / 4, 1.0)

    def covariance(a: Bools, b: Bools) -> Floats:
        differences = (a[:, None, :] != b[None, :, :]).sum(-1)
        return np.asarray(np.exp(-differences / scale), np.float64)

    centre = scores.mean()
    spread = max(float(scores.std()), 0.05)
    noise = (0.1 / spread) ** 2
    inner = covariance(tried, tried) + noise * np.eye(len(tried))
    across = covariance(candidates, tried)
    solved = np.linalg.solve(inner, np.column_stack([(scores - centre) / spread, across.T]))
    mean = centre + spread * across @ solved[:, 0]
    variance = 1.0 - np.einsum("mn,nm->m", across, solved[:, 1:])
    return mean, spread * np.sqrt(np.maximum(variance, 0.0))


# -- the drafter ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Verified:
    """A token of the text: where it is, what was allowed there, what the whole model liked best."""

    position: int
    weighting: Weighting
    best: int


class LayerSkip(Drafter):
    """Drafts a chain and candidates beside it with the model itself, some sublayers skipped.

    Args:
        model: the backend's own, of Llama's build.
        skip: share of all attention and MLP sublayers that is skipped.
        length: tokens of a chain.
        search: whether to look for a better set of sublayers while decoding.
        seed: of the search.

    Raises:
        ValueError: if a number is out of range, or the model is built differently.
    """

    name: ClassVar[str] = "layer_skip"
    runs_model: ClassVar[bool] = True
    one_row: ClassVar[bool] = True

    def __init__(
        self,
        model: Any,
        *,
        skip: float = 0.45,
        length: int = 4,
        search: bool = True,
        seed: int = 0,
    ) -> None:
        if not 0 < skip < 1:
            raise ValueError(f"skip={skip}: must be between 0 and 1")
        if length < 1:
            raise ValueError(f"length={length}: must be at least 1")
        self.model = check_model(model, "LayerSkip")
        self.length = length
        self.searching = search
        self.sublayers = sublayers_of(model)
        wanted = round(skip * (len(self.sublayers) + 4))
        self._skipped = min(max(wanted, 1), len(self.sublayers))
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Forgets what the search has found."""
        self.search = SkipSearch(len(self.sublayers), self._skipped, self._seed)
        self._verified: deque[_Verified] = deque(maxlen=_WINDOW)
        self._drafts = 0

    def begin(self, context: Context) -> None:
        """Tokens of another text judge no more."""
        self._verified.clear()

    def propose(self, context: Context) -> None:
        """Adds a chain of likeliest tokens.

        Raises:
            ValueError: if the backend's model is another one.
        """
        scorer = context.scorer
        if scorer is None or scorer.rows != 1 or not 1 <= len(context.pending) <= _PENDING:
            return
        if scorer.model is not self.model:
            raise ValueError("LayerSkip drafts with the backend's own model, but was given another")
        self._drafts += 1
        if self.searching and not self.search.over and self._drafts % _SEARCH_EVERY == 0:
            self._try(context, scorer)
        with skipping(self.sublayers, self.search.best):
            self._chain(context, scorer)

    def observe(self, observation: Observation) -> None:
        """Remembers what the whole model liked best, for the search."""
        if not self.searching or self.search.over:
            return
        context, tree = observation.context, observation.tree
        state, node = tree.root_state, ROOT
        before = len(context.tokens)
        for i, (token, after) in enumerate(
            zip(observation.emitted, observation.states, strict=True)
        ):
            weighting = context.target.weighting(state, context.tokens_left - i)
            best = _likeliest(observation.logits(node), weighting)
            self._verified.append(_Verified(before + i, weighting, best))
            child = tree.child(node, token)
            if child is None:
                break
            state, node = after, child

    def _chain(self, context: Context, scorer: TreeScorer) -> None:
        """Drafts the likeliest tokens one after the other, then candidates beside them, likeliest first."""
        drafted = Tree(context.tree.root_state)
        node, path = ROOT, 1.0  # of the tree of all drafters
        beside: list[tuple[float, int, int, float]] = []
        for _ in range(self.length):
            last = len(drafted) - 1 if len(drafted) else ROOT
            logits = scorer.score([Request(context.pending, drafted)]).at(0, last)
            law = law_after(context, node, logits)
            if law is None:
                break
            (token, probability), *others = _likeliest_of(law, _CANDIDATES)
            beside += [(path * p, node, other, p) for other, p in others if path * p >= _LEAST]
            made = context.add(node, token, self.name, probability)
            if made is None or probability < _CONFIDENT:
                break
            node, path = made, path * probability
            drafted.add(last, token, context.tree.state(node), self.name, probability)
        for _, parent, token, probability in sorted(beside, key=lambda b: -b[0]):
            context.add(parent, token, self.name, probability)

    # -- searching -------------------------------------------------------------------------------

    def _try(self, context: Context, scorer: TreeScorer) -> None:
        """Judges one more set beside the best one so far."""
        judged = [v for v in self._verified if v.weighting.ids is None or len(v.weighting.ids) > 1]
        if len(self._verified) < _WINDOW or not judged or len(context.pending) != 1:
            return
        skipped = self.search.propose()
        score = self._judge(context, scorer, skipped, judged)
        current = self._judge(context, scorer, self.search.best, judged)
        self.search.tell(skipped, score, current)

    def _judge(
        self,
        context: Context,
        scorer: TreeScorer,
        skipped: Skipped,
        judged: Sequence[_Verified],
    ) -> float:
        """Share of the tokens where the likeliest is the same as the whole model's."""
        first, last = self._verified[0].position, self._verified[-1].position
        chain = Tree(None)
        for i, token in enumerate(context.tokens[first:last]):
            chain.add(i - 1, token, None, self.name, 1.0)  # the first one's parent is ROOT, -1
        request = Request([context.tokens[first - 1]], chain)
        with scorer.cache.rewound(first - 1), skipping(self.sublayers, skipped):
            scores = scorer.score([request])
        hits = [
            _likeliest(scores.at(0, v.position - first - 1), v.weighting) == v.best for v in judged
        ]
        return sum(hits) / len(hits)


def _likeliest_of(law: Law, count: int) -> list[tuple[int, float]]:
    """The likeliest tokens that are possible, likeliest first, with their probabilities."""
    count = min(count, len(law.weights))
    some = np.argpartition(-law.weights, count - 1)[:count]
    order = sorted(some.tolist(), key=lambda i: (-law.weights[i], i))
    total = law.weights.sum()
    return [(law.token(i), float(law.weights[i] / total)) for i in order if law.weights[i] > 0]


def _likeliest(logits: torch.Tensor, weighting: Weighting) -> int:
    """The token with the largest logit plus log-weight, among those that are possible."""
    values = logits.double().numpy()
    if weighting.ids is not None:
        values = values[weighting.ids]
    if weighting.log_weights is not None:
        values = values + weighting.log_weights
    index = int(np.argmax(values))
    return index if weighting.ids is None else int(weighting.ids[index])
