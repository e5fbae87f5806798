"""Greedy decoding that pauses where the model is unsure and looks ahead.

At each token the entropy H of the next-token law is compared with a threshold.  Below it the likeliest
token is taken.  Above it the likeliest B tokens are each continued greedily by L tokens, and the one
whose continuation the model finds likeliest on average is taken:

    score(v) = (log p(v) + sum of log p over the roll-out) / (length of the roll-out + 1).

With a grammar the law is the masked one, throughout; the mask leaves what can be completed in the
budget.  The threshold is learned: H predicts by logistic regression whether the reference's token is
the model's first choice.

Source: He et al. 2025, "AdaDec: Towards Improved Code Generation with Adaptive Decoding", sections 3.2
(threshold) and 3.3 (pause and rerank).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Unpack

import numpy as np
import torch

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from constrain.healing import Healed
from constrain.huggingface.processor import check_budget
from samplers.backend import OnTokens, Prompt, SpeculativeBackend, Stop, check_backend
from samplers.healing import asked, without_prefix
from samplers.options import Sampler, SamplingArguments, SamplingOptions
from samplers.progress import progress_of
from samplers.report import LookaheadReport
from samplers.rows import rows_within
from samplers.sample import Sample, Stats
from samplers.speculative.law import Law, Sampling, law_of
from samplers.speculative.scorer import Request, Scores, TreeScorer
from samplers.speculative.target import Constrained, FreeText, Target
from samplers.speculative.tree import ROOT, Tree

DEFAULT_THRESHOLD: Final = 1.0
"""Nats; published ones for small code models are 0.6 to 1.3."""
_GREEDY: Final = Sampling(0.0)


class AdaDec(Sampler):
    """See the module.

    Args:
        backend: the model; roll-outs are chains of one tree, and what a roll-out shares with greedy
            decoding is not computed again.
        automaton: the grammar; ``None`` for free text.
        threshold: in nats; infinite is greedy decoding, see :func:`learn_threshold`.
        beams: B, candidates that are looked at.
        lookahead: L, tokens of a roll-out.
        canonical: texts are written as the tokenizer writes them, see
            :class:`~constrain.TokenAutomaton`; makes the automaton anew unless it is such a one.
    """

    defaults = SamplingOptions(temperature=0.0)
    report: LookaheadReport

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton | None = None,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        beams: int = 3,
        lookahead: int = 5,
        canonical: bool = False,
    ) -> None:
        if threshold < 0 or math.isnan(threshold):
            raise ValueError(f"threshold={threshold}: must not be negative")
        check_count(beams, "beams")
        check_count(lookahead, "lookahead", least=0)
        self.backend = check_backend(backend, "AdaDec")
        if automaton is None and canonical:
            raise ValueError("canonical=True needs an automaton; free text is the model's own")
        self.automaton = (
            None
            if automaton is None
            else as_written(check_automaton(automaton, "AdaDec"), canonical)
        )
        self.threshold = threshold
        self.beams = beams
        self.lookahead = lookahead
        self.report = self.new_report()

    def new_report(self) -> LookaheadReport:
        """A report of nothing yet."""
        return LookaheadReport(type(self).__name__)

    def sample(
        self,
        prompt: Prompt,
        n: int = 1,
        options: SamplingOptions | None = None,
        *,
        stop: Stop | None = None,
        **given: Unpack[SamplingArguments],
    ) -> list[Sample]:
        """Writes a text; it is the same every time, so that ``n`` above 1 is refused.

        Args:
            prompt, n, options, given: as :meth:`samplers.options.Sampler.sample` takes them; ``n`` is 1,
                ``temperature`` 0 and ``top_p`` 1, nothing else.
            stop: asked after every token; where it says so, the text ends there.  Roll-outs end
                there too.

        Raises:
            TypeError, ValueError: as there, and for ``n``, ``temperature`` or ``top_p`` other than these.
            BudgetError: as there, or if ``max_kv_bytes`` has no room for the text and its roll-outs.
        """
        asked = self.asked(n, options, given)
        return self.reported(lambda: self._write(prompt, n, asked, stop))

    def draw(self, prompt: Prompt, n: int, options: SamplingOptions) -> list[Sample]:
        """Writes the text that ``sample`` returns."""
        return self._write(prompt, n, options, None)

    def _write(
        self, prompt: Prompt, n: int, options: SamplingOptions, stop: Stop | None
    ) -> list[Sample]:
        if n != 1 or options.temperature != 0 or options.top_p != 1:
            raise ValueError("AdaDec is greedy: n=1, temperature=0, top_p=1 are the only choice")
        if self.automaton is None:
            if options.heal:
                raise ValueError(
                    "heal=True needs an automaton: tokens are taken back into a grammar"
                )
            healed, ids = None, self.backend.encode(prompt)
        else:
            healed = asked(self.backend, prompt, self.automaton, options.heal)
            ids = healed.prompt
        budget = self.backend.budget(len(ids), options.max_new_tokens)
        if healed is not None:
            check_budget(healed.automaton, budget)
        run = _Run(self, ids, budget, self._target(healed), stop)
        with progress_of(options.progress, n, None) as report:
            run.go(options.on_tokens)
            sample = run.sample()
            if healed is not None:
                without_prefix(sample, healed)
            report(0, sample.token_ids)
        return [sample]

    def _target(self, healed: Healed | None) -> Target:
        if healed is not None:
            return Constrained(healed.automaton)
        from constrain.vocabulary.huggingface import eos_ids_of

        return FreeText(tuple(eos_ids_of(self.backend.tokenizer, self.backend.model)))


class _Run:
    """One text."""

    def __init__(
        self, owner: AdaDec, ids: list[int], budget: int, target: Target, stop: Stop | None
    ) -> None:
        self._owner = owner
        self._ids = ids
        self._left = budget
        self._target = target
        self._state = target.start()
        self._stop = stop
        self._stopped = False
        capacity = len(ids) + budget + owner.beams * (owner.lookahead + 1)
        rows_within(owner.backend, 1, 0, capacity)
        self._scorer: TreeScorer = owner.backend.read(ids[:-1], capacity)
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._drawn: list[float] = []
        self._forwards = self._scorer.forwards

    @property
    def _done(self) -> bool:
        return self._stopped or self._left <= 0 or self._target.is_finished(self._state)

    def _stops(self, ahead: Sequence[int] = ()) -> bool:
        return self._stop is not None and self._stop([*self._ids, *self._tokens, *ahead])

    def go(self, on_tokens: OnTokens | None) -> None:
        """Writes to the end."""
        while not self._done:
            before = len(self._tokens)
            tree = Tree(self._state)
            scores = self._score(tree)
            law = self._law(scores, ROOT, self._state, self._left)
            if self._is_sure(law):
                self._take(law, int(np.argmax(law.weights)))
                self._scorer.commit([[]])
            else:
                self._pause(tree, scores, law)
            if on_tokens is not None:
                on_tokens(0, self._tokens[before:])

    def _score(self, tree: Tree) -> Scores:
        pending = [*self._ids, *self._tokens][self._scorer.length(0) :]
        self._forwards += 1
        self._owner.backend.forwards += 1
        return self._scorer.score([Request(pending, tree)])

    def _law(self, scores: Scores, node: int, state: Any, left: int) -> Law:
        return law_of(scores.at(0, node), self._target.weighting(state, left), _GREEDY)

    def _is_sure(self, law: Law) -> bool:
        return entropy(law) < self._owner.threshold or len(law.constrained) == 1

    def _take(self, law: Law, index: int) -> None:
        token = law.token(index)
        self._tokens.append(token)
        self._logprobs.append(float(law.model[index]))
        self._drawn.append(float(law.constrained[index]))
        self._left -= 1
        self._state = self._target.advance(self._state, token)
        self._stopped = self._stops()

    # -- looking ahead ---------------------------------------------------------------------------

    def _pause(self, tree: Tree, scores: Scores, law: Law) -> None:
        """Takes the best candidate, and what greedy decoding would take of its roll-out.

        The last forward has scored all that can be kept: the last token taken is scored with what
        follows.
        """
        self._owner.report.pauses += 1
        order = np.argsort(-law.constrained, kind="stable")[: self._owner.beams]
        candidates = [self._candidate(tree, law, int(i)) for i in order]
        chains = [chain for chain in candidates if chain is not None]
        for _ in range(self._owner.lookahead):
            scores = self._score(tree)
            moved = [self._roll(tree, scores, chain) for chain in chains]
            if not any(moved):
                break
        best = max(chains, key=lambda chain: chain.score)
        self._follow(tree, scores, law, best)

    def _candidate(self, tree: Tree, law: Law, index: int) -> _Chain | None:
        token = law.token(index)
        state = self._target.advance(self._state, token)
        if state is None or not np.isfinite(law.constrained[index]):
            return None
        node = tree.add(ROOT, token, state, "AdaDec", 1.0)
        assert node is not None
        return _Chain(index, [node], float(law.constrained[index]))

    def _roll(self, tree: Tree, scores: Scores, chain: _Chain) -> bool:
        """One token more of a roll-out; False where it has ended."""
        node = chain.nodes[-1]
        state = tree.state(node)
        left = self._left - len(chain.nodes)
        if left <= 0 or self._target.is_finished(state) or self._stops(tree.tokens_to(node)):
            return False
        law = self._law(scores, node, state, left)
        index = int(np.argmax(law.weights))
        token = law.token(index)
        after = self._target.advance(state, token)
        made = tree.add(node, token, after, "AdaDec", 1.0)
        assert made is not None
        chain.nodes.append(made)
        chain.total += float(law.constrained[index])
        return True

    def _follow(self, tree: Tree, scores: Scores, law: Law, best: _Chain) -> None:
        """The candidate, then its roll-out as long as no other pause is due."""
        self._take(law, best.index)
        path = [best.nodes[0]]
        for node, following in zip(best.nodes, best.nodes[1:], strict=False):
            if self._done:
                break
            here = self._law(scores, node, self._state, self._left)
            index = int(np.argmax(here.weights))
            if not self._is_sure(here) or here.token(index) != tree.nodes[following].token:
                break
            self._take(here, index)
            path.append(following)
        self._scorer.commit([path[:-1]])  # the last token is scored with what follows

    def sample(self) -> Sample:
        """The text."""
        complete = self._target.is_finished(self._state)
        tokens = self._tokens[:-1] if complete else self._tokens
        return Sample(
            self._tokens,
            self._text(tokens),
            math.fsum(self._logprobs),
            math.fsum(self._drawn),
            complete=complete,
            method="AdaDec",
            stats=Stats(forwards=self._forwards, tokens=len(self._tokens)),
            token_logprobs=self._logprobs,
            token_constrained_logprobs=self._drawn,
        )

    def _text(self, tokens: list[int]) -> str:
        automaton = self._owner.automaton
        if automaton is not None:
            return automaton.vocabulary.decode(tokens).decode("utf-8", "replace")
        tokenizer = self._owner.backend.tokenizer
        return "" if tokenizer is None else str(tokenizer.decode(tokens))


@dataclass
class _Chain:
    """A candidate and its roll-out."""

    index: int
    nodes: list[int]
    total: float

    @property
    def score(self) -> float:
        return self.total / len(self.nodes)


def entropy(law: Law) -> float:
    """Of the law before top-p, in nats."""
    p = np.exp(law.constrained)
    return float(-(p * law.constrained)[p > 0].sum())


# -- the threshold -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threshold:
    """A logistic regression of "the reference's token is the likeliest" on entropy.

    Attributes:
        value: nats, where the probability of being right falls to the cutoff.
        weight, bias: log-odds = weight H + bias.
        accuracy: on the balanced tokens it was fitted to.
        tokens: of the references.
        right: of those, how many were the model's first choice.
    """

    value: float
    weight: float
    bias: float
    accuracy: float
    tokens: int
    right: int


def learn_threshold(
    model: Any,
    pairs: Iterable[tuple[Sequence[int], Sequence[int]]],
    *,
    cutoff: float = 0.5,
) -> Threshold:
    """Learns when to pause from references.

    Args:
        model: a causal language model.
        pairs: (prompt, reference), token ids.
        cutoff: c; the threshold is where the probability of being right is c.

    Raises:
        ValueError: if the model is always right, or never, or surer where it is wrong.
    """
    entropies: list[float] = []
    right: list[bool] = []
    for prompt, reference in pairs:
        h, hit = teacher_forced(model, prompt, reference)
        entropies += h
        right += hit
    return fit_threshold(np.array(entropies), np.array(right), cutoff)


def teacher_forced(
    model: Any, prompt: Sequence[int], reference: Sequence[int]
) -> tuple[list[float], list[bool]]:
    """Reads a reference: the entropy before each of its tokens, whether the token is the likeliest.

    Args:
        model: a causal language model.
        prompt: token ids, at least one.
        reference: token ids.
    """
    ids = torch.tensor([[*prompt, *reference]], device=getattr(model, "device", "cpu"))
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
    logp = torch.log_softmax(logits, -1)
    h = -(logp.exp() * logp).sum(-1)
    hit = logp.argmax(-1) == ids[0, len(prompt) :]
    return h.tolist(), hit.tolist()


def fit_threshold(h: Any, right: Any, cutoff: float = 0.5) -> Threshold:
    """Logistic regression by Newton's method, classes weighted equally.

    Args:
        h: float[n], entropies.
        right: bool[n].
        cutoff: see :func:`learn_threshold`.
    """
    if not 0 < cutoff < 1:
        raise ValueError(f"cutoff={cutoff}: must be between 0 and 1")
    y = np.asarray(right, float)
    hits = int(y.sum())
    if hits in (0, len(y)):
        raise ValueError(
            f"the model is right on {hits} of {len(y)} tokens: a threshold needs both cases; give "
            "more references"
        )
    share = np.where(y > 0, 0.5 / hits, 0.5 / (len(y) - hits))
    x = np.stack([np.asarray(h, float), np.ones(len(y))], axis=1)
    w = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (share * (y - p))
        hessian = (x * (share * p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        w = w + step
        if np.abs(step).max() < 1e-10:
            break
    if w[0] >= 0:
        raise ValueError("the model is surer where it is wrong: entropy gives no threshold here")
    value = (math.log(cutoff / (1 - cutoff)) - w[1]) / w[0]
    accuracy = float((share * ((x @ w > 0) == (y > 0))).sum())
    return Threshold(max(float(value), 0.0), float(w[0]), float(w[1]), accuracy, len(y), hits)


_NEWTON_STEPS: Final = 50
