"""Sequential Monte Carlo over texts: particles that grow token by token and are drawn anew by weight.

What a particle is extended by is a proposal's business; here is what all of them share.  A run draws its
particles anew (residual resampling, unbiased) where few of them carry the weight.  Its mean weight, over
the resamplings multiplied, estimates Pr(L) without bias; and a text drawn from its particles by weight,
counted with that estimate, is properly weighted: for every text w,

    E[Z^ 1(text = w)] = P(w) 1[w in L].

Source: Del Moral, Doucet and Jasra 2006, "Sequential Monte Carlo Samplers", section 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from constrain.automaton import TokenAutomaton
from constrain.room import with_room
from samplers.aligned.trie import Node
from samplers.rows import Rows
from samplers.sample import Sample, Stats
from samplers.speculative.choices import Choices
from samplers.speculative.law import Law
from samplers.speculative.target import Floats


@dataclass(frozen=True)
class Particle:
    """A text on its way.

    Attributes:
        tokens: new ones.
        state: the automaton's; ``DEAD`` if it cannot go on.
        log_weight: since the last resampling.
        logprobs: of the tokens, under the model.
        drawn: of the tokens, under the proposal.
        node: of the trie, where the text is known to it.
        law: what its next token is drawn from, between weighing and drawing.
    """

    tokens: tuple[int, ...]
    state: int
    log_weight: float = 0.0
    logprobs: tuple[float, ...] = ()
    drawn: tuple[float, ...] = ()
    node: Node | None = None
    law: Law | None = None


def after(automaton: TokenAutomaton, particle: Particle, token: int) -> int:
    """The automaton's state behind a particle and one token more."""
    return with_room(
        automaton,
        particle.state,
        lambda: particle.tokens,
        lambda state: automaton.advance(state, token),
    )[0]


class Proposal(Protocol):
    """How particles are extended."""

    @property
    def automaton(self) -> TokenAutomaton:
        """The grammar."""

    def begin(self) -> Particle:
        """The empty text."""

    def weigh(self, particle: Particle, logits: Any, choices: Choices) -> Particle:
        """The particle with the weight that the logits after it show; then some are drawn anew."""

    def draw(self, particle: Particle, choices: Choices) -> Particle:
        """The particle with its next token, if weighing did not draw that already."""


class Run:
    """Particles from the prompt to the end of their texts.

    Args:
        proposal: how they are extended.
        particles: how many.
        ess: they are drawn anew when their effective number falls below this share.
        choices: the source of randomness.

    Attributes:
        forwards: calls of the model in which the run took part.
    """

    def __init__(self, proposal: Proposal, particles: int, ess: float, choices: Choices) -> None:
        self._proposal = proposal
        self._ess = ess
        self._choices = choices
        self._particles = [proposal.begin()] * particles
        self._evidence = 0.0
        self.forwards = 0

    def texts(self) -> list[tuple[int, ...]]:
        """New tokens of the particles that go on."""
        return [p.tokens for p in self._particles if self._goes_on(p)]

    def step(self, logits: Callable[[tuple[int, ...]], Any]) -> None:
        """Weighs particles that go on, perhaps draws all of them anew, and extends them.

        Args:
            logits: after a text.
        """
        self.forwards += 1
        proposal, choices = self._proposal, self._choices
        for i, particle in enumerate(self._particles):
            if self._goes_on(particle):
                self._particles[i] = proposal.weigh(particle, logits(particle.tokens), choices)
        self._resample()
        for i, particle in enumerate(self._particles):
            if particle.law is not None:
                drawn = proposal.draw(particle, choices)
                self._particles[i] = replace(drawn, law=None)

    @property
    def log_evidence(self) -> float:
        """Logarithm of the estimate of Pr(L), once no particle goes on; minus infinity if all died."""
        return self._evidence + _log_mean(self._weights())

    def sample(self) -> Sample:
        """One text, drawn by weight; some particle must be alive."""
        weights = self._weights()
        chosen = self._particles[self._choices.pick(np.exp(weights - weights.max()))]
        text = self._proposal.automaton.vocabulary.decode(chosen.tokens[:-1])
        return Sample(
            list(chosen.tokens),
            text.decode("utf-8", "replace"),
            math.fsum(chosen.logprobs),
            math.fsum(chosen.drawn),
            weight=math.exp(self.log_evidence),
            stats=Stats(forwards=self.forwards, tokens=len(chosen.tokens)),
            token_logprobs=list(chosen.logprobs),
            token_constrained_logprobs=list(chosen.drawn),
        )

    def _goes_on(self, particle: Particle) -> bool:
        automaton = self._proposal.automaton
        return particle.state not in (automaton.FINISHED, automaton.DEAD)

    def _weights(self) -> Floats:
        return np.array([p.log_weight for p in self._particles])

    def _resample(self) -> None:
        weights = self._weights()
        if weights.max() == -math.inf:
            return
        if effective(weights) >= self._ess * len(weights):
            return
        self._evidence += _log_mean(weights)
        ancestors = self._ancestors(np.exp(weights - weights.max()))
        self._particles = [replace(self._particles[a], log_weight=0.0) for a in ancestors]

    def _ancestors(self, weights: Floats) -> list[int]:
        """Whose copies particles become: each count times p times, up to rounding; the rest by lot.

        Residual resampling, which is unbiased.
        """
        p = weights / weights.sum()
        count = len(p)
        whole = np.floor(count * p).astype(int)
        out = [i for i, times in enumerate(whole) for _ in range(times)]
        rest = np.maximum(count * p - whole, 0.0)
        while len(out) < count:
            out.append(self._choices.pick(rest if rest.sum() > 0 else p))
        return out


def complete(rows: Rows, runs: Sequence[Run]) -> None:
    """Runs side by side, token by token, until all their particles have ended."""
    while True:
        texts = [text for run in runs for text in run.texts()]
        if not texts:
            return
        scores = rows.logits(texts)
        for run in runs:
            if run.texts():
                run.step(scores.__getitem__)


def effective(log_weights: Floats) -> float:
    """Effective number, (sum w)^2 / sum w^2; 0 where all weights are."""
    top = log_weights.max() if len(log_weights) else -math.inf
    if top == -math.inf:
        return 0.0
    p = np.exp(log_weights - top)
    return float(p.sum() ** 2 / (p**2).sum())


def _log_mean(log_weights: Floats) -> float:
    return float(np.logaddexp.reduce(log_weights)) - math.log(len(log_weights))
