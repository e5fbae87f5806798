"""Markov chains over texts whose stationary law is the model's, given the grammar.

From a text w: draw a cut i from p_pos(. | w), keep w's first i tokens, draw the rest by
grammar-constrained decoding, and accept the new text w' with

    min(1, P(w') q(w | w') / (P(w) q(w' | w))),
    q(w' | w) = sum over i <= lcp(w, w') of p_pos(i | w) * prod over t >= i of P_gcd(w'_t | w'_<t).

Source: Gonzalez et al. 2025, "Constrained Sampling for Language Models Should Be Easy: An MCMC
Perspective", section 3 (uniform, priority and restart proposals).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from constrain.healing import Healed
from constrain.huggingface.processor import check_budget
from samplers.arguments import check_aligned
from samplers.backend import Prompt, SpeculativeBackend, Start, check_backend
from samplers.drafters.base import Observation
from samplers.healing import asked, without_prefixes
from samplers.options import Sampler, SamplingOptions
from samplers.progress import progress_of
from samplers.sample import Sample
from samplers.speculative.choices import Choices, Drawn
from samplers.speculative.law import Sampling, law_of
from samplers.speculative.target import Constrained, Floats
from samplers.speculative.tree import ROOT

Proposal: TypeAlias = Literal["uniform", "priority", "restart"]

DEFAULT_STEPS: Final = 10
_FLOOR: Final = 1e-3
"""Share of a priority that every position gets, so that no cut is impossible."""


@dataclass
class Chain:
    """One chain.

    Attributes:
        text: where it is.
        entropies: of the masked law before each token, in nats (for priorities only).
        accepted, steps: proposals.
    """

    text: Sample
    entropies: list[float] = field(default_factory=list)
    accepted: int = 0
    steps: int = 0


class ConstrainedMCMC(Sampler):
    """Metropolis-Hastings with proposals by grammar-constrained decoding.

    The target is Q(w) = P(w) 1[w in L] / Z: P the model at the sampling temperature, L the texts of the
    grammar that end with EOS within ``max_new_tokens``.  A sample is where a chain of ``steps``
    proposals ends that began with a grammar-constrained sample: the more steps, the closer its law is
    to Q.

    Args:
        backend: the model with its drafters.
        automaton: the grammar.
        proposal: where to cut: ``"uniform"`` among positions, ``"priority"`` where the model was
            unsure (by the perplexity of the masked law), ``"restart"`` always at the beginning.
        steps: proposals for each sample.
        canonical: texts are written as the tokenizer writes them, see
            :class:`~constrain.TokenAutomaton`; makes the automaton anew unless it is such a one.
    """

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        *,
        proposal: Proposal = "restart",
        steps: int = DEFAULT_STEPS,
        canonical: bool = False,
    ) -> None:
        if proposal not in ("uniform", "priority", "restart"):
            raise ValueError(f"proposal={proposal!r}: one of uniform, priority, restart")
        check_count(steps, "steps", least=0)
        self.backend = check_backend(backend, type(self).__name__)
        self.automaton = as_written(check_automaton(automaton, type(self).__name__), canonical)
        self.proposal: Proposal = proposal
        self.steps = steps
        self.report = self.new_report()

    def draw(self, prompt: Prompt, n: int, options: SamplingOptions) -> list[Sample]:
        """Runs ``n`` chains, up to the backend's ``max_rows`` side by side.

        ``max_attempts`` bounds the proposals of a chain below ``steps``.  ``Sample.stats.rejected``
        counts proposals that were not taken.
        """
        check_aligned(options.temperature, options.top_p)
        healed = asked(self.backend, prompt, self.automaton, options.heal)
        budget = self.backend.budget(len(healed.prompt), options.max_new_tokens)
        check_budget(healed.automaton, budget)
        most = options.max_attempts
        steps = self.steps if most is None else min(self.steps, most)
        choices: list[Choices] = [Drawn(s) for s in np.random.SeedSequence(options.seed).spawn(n)]
        out: list[Chain] = []
        with (
            self.backend.same_prompt(),
            progress_of(options.progress, n, options.on_tokens) as report,
        ):
            for begin in range(0, n, self.backend.max_rows):
                part = choices[begin : begin + self.backend.max_rows]
                run = _Run(self, healed, budget, options.temperature, part)
                out += run.chains(steps)
                for i in range(begin, len(out)):
                    report(i, out[i].text.token_ids)
        self.report.attempts = sum(chain.steps for chain in out)
        self.report.accepted = sum(chain.accepted for chain in out)
        for chain in out:
            chain.text.method = "ConstrainedMCMC"
        return without_prefixes((chain.text for chain in out), healed)


class _Run:
    """Some chains side by side."""

    def __init__(
        self,
        sampler: ConstrainedMCMC,
        healed: Healed,
        budget: int,
        temperature: float,
        choices: Sequence[Choices],
    ) -> None:
        self._sampler = sampler
        self._ids = healed.prompt
        self._budget = budget
        self._sampling = Sampling(temperature)
        self._choices = choices
        self._target = Constrained(healed.automaton)

    def chains(self, steps: int) -> list[Chain]:
        """Chains after so many steps."""
        begin = [Start((), self._target.start())] * len(self._choices)
        chains = [Chain(text, h) for text, h in self._draw(begin, [[]] * len(begin))]
        for _ in range(steps):
            cuts = [self._cut(c, choice) for c, choice in zip(chains, self._choices, strict=True)]
            starts = [self._kept(c.text, cut) for c, cut in zip(chains, cuts, strict=True)]
            known = [c.entropies[:cut] for c, cut in zip(chains, cuts, strict=True)]
            for chain, choice, (text, entropies) in zip(
                chains, self._choices, self._draw(starts, known), strict=True
            ):
                self._decide(chain, text, entropies, choice)
        return chains

    def _draw(
        self, starts: Sequence[Start], known: Sequence[list[float]]
    ) -> list[tuple[Sample, list[float]]]:
        entropies = [list(h) for h in known]
        observers = [self._unsure(entropies)] if self._sampler.proposal == "priority" else []
        samples = self._sampler.backend.generate(
            self._ids,
            self._target,
            n=len(starts),
            max_new_tokens=self._budget,
            sampling=self._sampling,
            choices=lambda i: self._choices[i],
            starts=lambda i: starts[i],
            observers=observers,
        )
        return list(zip(samples, entropies, strict=True))

    def _unsure(self, entropies: list[list[float]]) -> Callable[[Observation], None]:
        """Notes the entropy of the masked law before every token that came."""

        def note(seen: Observation) -> None:
            left = seen.context.tokens_left
            states = [seen.tree.root_state, *seen.states[:-1]]
            for i, (node, state) in enumerate(zip([ROOT, *seen.path], states, strict=False)):
                weighting = self._target.weighting(state, left - i)
                law = law_of(seen.logits(node), weighting, self._sampling)
                p = np.exp(law.constrained)
                entropies[seen.number].append(float(-(p * law.constrained)[p > 0].sum()))

        return note

    def _cut(self, chain: Chain, choices: Choices) -> int:
        return choices.pick(self._positions(len(chain.text.token_ids), chain.entropies))

    def _positions(self, length: int, entropies: Sequence[float]) -> Floats:
        """p_pos: float64[length], the law of the number of tokens kept."""
        out = np.zeros(length)
        if self._sampler.proposal == "restart":
            out[0] = 1.0
        elif self._sampler.proposal == "uniform":
            out[:] = 1.0 / length
        else:
            perplexity = np.exp(np.array(entropies[:length]))
            out = perplexity + _FLOOR * perplexity.sum()
            out /= out.sum()
        return out

    def _kept(self, text: Sample, cut: int) -> Start:
        tokens = text.token_ids[:cut]
        state = self._target.start()
        for token in tokens:
            after = self._target.advance(state, token)
            assert after is not None, "a part of a text of the grammar"
            state = after
        return Start(
            tokens, state, text.token_logprobs[:cut], text.token_constrained_logprobs[:cut]
        )

    def _decide(self, chain: Chain, text: Sample, entropies: list[float], choices: Choices) -> None:
        old, stats = chain.text, chain.text.stats
        chain.steps += 1
        stats.forwards += text.stats.forwards
        forward = self._proposal(old, chain.entropies, text)
        back = self._proposal(text, entropies, old)
        ratio = text.logprob + back - old.logprob - forward
        if choices.accept(math.exp(min(ratio, 0.0))):
            chain.accepted += 1
            text.stats.forwards = stats.forwards
            text.stats.rejected = stats.rejected
            chain.text, chain.entropies = text, entropies
        else:
            stats.rejected += 1

    def _proposal(self, old: Sample, entropies: Sequence[float], new: Sample) -> float:
        """Log q(new | old)."""
        positions = self._positions(len(old.token_ids), entropies)
        shared = 0
        for a, b in zip(old.token_ids, new.token_ids, strict=False):
            if a != b:
                break
            shared += 1
        drawn = np.array(new.token_constrained_logprobs)
        rest = np.append(np.cumsum(drawn[::-1])[::-1], 0.0)  # of everything from a cut on
        cuts = np.arange(min(shared, len(positions) - 1) + 1)
        with np.errstate(divide="ignore"):
            terms = np.log(positions[cuts]) + rest[cuts]
        return float(np.logaddexp.reduce(terms))
