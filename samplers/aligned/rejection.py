"""Rejection with memory: RS, ARS, RSFT, CARS; and ASAp, which never rejects.

The target of all of them is Q(w) = P(w) 1[w in L] / Z: P the model at the sampling temperature, L the
texts of the grammar that end with EOS within ``max_new_tokens``.

====================  =========================  ===========================================
method                tokens beyond the trie     learns
====================  =========================  ===========================================
RejectionSampling     the raw model              nothing
RSFT                  raw, the first one masked  nothing
ARS                   raw                        each token that failed
CARS                  raw, the first one masked  the mask of every prefix that was scored
ASAp                  masked                     the same
====================  =========================  ===========================================

What the first four accept follows Q exactly, whatever was learned before.  ASAp's law approaches Q as
it learns, and is biased at any finite count; its samples carry weights P/q.

Sources: Park et al. 2024, "Grammar-Aligned Decoding" (ASAp), section 4; Parys et al. 2025,
"Constrained Adaptive Rejection Sampling" (ARS, RSFT, CARS), sections 3 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from constrain.healing import Healed
from constrain.huggingface.processor import check_budget
from grammars.errors import GrammaError
from samplers.aligned.memory import Memories, Memory
from samplers.aligned.storage import load_trie, save_trie
from samplers.aligned.trie import MAX_BYTES, Edge, Place, Rejected, Row, Trie, Walk, row_of
from samplers.arguments import check_aligned
from samplers.backend import Prompt, SpeculativeBackend, Start, check_backend
from samplers.drafters.base import Observation
from samplers.healing import asked, without_prefix
from samplers.options import Sampler, SamplingOptions
from samplers.progress import progress_of
from samplers.report import RejectionReport
from samplers.sample import Sample, Stats
from samplers.speculative.choices import Choices, Drawn
from samplers.speculative.law import Sampling
from samplers.speculative.target import Weighting
from samplers.speculative.tree import ROOT

State: TypeAlias = Place | Edge | Rejected

MAX_ATTEMPTS: Final = 10_000
"""Attempts for one sample, unless the caller says otherwise."""


class AttemptsExhausted(GrammaError, RuntimeError):  # noqa: N818 - the name says it
    """Nothing was accepted in ``max_attempts`` attempts.

    Attributes:
        samples: what was accepted before.
        attempts: how many there were in all.
    """

    def __init__(self, message: str, samples: list[Sample], attempts: int) -> None:
        super().__init__(message)
        self.samples = samples
        self.attempts = attempts


@dataclass(frozen=True)
class Method:
    """What tells the methods apart; see the table above."""

    masks_all: bool = False
    masks_first: bool = False
    learns_masks: bool = False
    learns_failures: bool = False

    @property
    def learns(self) -> bool:
        """Whether anything is kept."""
        return self.learns_masks or self.learns_failures


class Attempt:
    """One attempt as a target of the backend; states are places of the trie."""

    def __init__(self, trie: Trie, method: Method) -> None:
        self.automaton: TokenAutomaton | None = trie.automaton
        self._finished = trie.automaton.FINISHED
        self._trie = trie
        self._method = method

    def start(self) -> State:
        """The empty text."""
        return self._trie.start()

    def advance(self, state: State, token: int) -> State | None:
        """The place after a token; an invalid one leads to the end of the attempt."""
        if self.is_finished(state):
            return None
        assert not isinstance(state, Rejected)
        before = state.node if isinstance(state, Edge) else state
        if self._trie.is_allowed(before, token):
            return self._trie.after(before, token)
        return None if self._method.masks_all else Rejected(before, token)

    def is_finished(self, state: State) -> bool:
        """Whether the text ended or was rejected."""
        if isinstance(state, Edge):
            return False
        return isinstance(state, Rejected) or state.grammar == self._finished

    def weighting(self, state: State, tokens_left: int) -> Weighting:
        """What may be drawn: all, the mask, or what was not met yet."""
        assert not isinstance(state, Rejected)
        if isinstance(state, Edge):
            return Weighting(self._trie.others(state.node))
        masked = self._method.masks_all or (self._method.masks_first and state.depth == 0)
        return Weighting(self._trie.allowed(state)) if masked else Weighting()

    def grammar_state(self, state: State) -> int:
        """The automaton's state."""
        assert not isinstance(state, Rejected)
        return self._trie.grammar_at(state.node if isinstance(state, Edge) else state)


class Recorder:
    """Notes what a round of attempts scored, and where each of them ended."""

    def __init__(self, trie: Trie, temperature: float) -> None:
        self._trie = trie
        self._temperature = temperature
        self.scored: list[tuple[Place | Edge, Row]] = []
        self.ends: dict[int, State] = {}
        self._known: set[int] = set()
        self._bytes = 0

    def ended(self, number: int, state: State) -> None:
        """Where an attempt ended."""
        self.ends[number] = state

    def __call__(self, seen: Observation) -> None:
        """One step of one attempt."""
        states = [seen.tree.root_state, *(node.state for node in seen.tree.nodes)]
        for i, state in enumerate(states):
            if not isinstance(state, Place | Edge) or id(state) in self._known:
                continue
            if isinstance(state, Place) and state.grammar == self._trie.automaton.FINISHED:
                continue
            if self._bytes > self._trie.max_bytes:
                return  # what is not noted is not learned, that is all
            self._known.add(id(state))
            row = row_of(seen.logits(i + ROOT), self._temperature)
            self._bytes += row.nbytes
            self.scored.append((state, row))


@dataclass(frozen=True)
class Prepared:
    """A request that was checked."""

    prompt: Healed
    memory: Memory

    @property
    def ids(self) -> list[int]:
        """Tokens of the prompt."""
        return self.prompt.prompt


class Aligned(Sampler):
    """The loop of attempts; subclasses say what is masked and what is learned.

    Args:
        backend: the model with its drafters.
        automaton: the grammar.
        max_bytes: bound on all that is kept between calls, for the prompts of this sampler together;
            256 MB by default.  What was learned about other prompts goes first (their rows at the
            next prompt, their tries when room is needed, the oldest first), then rows, then the parts
            of the trie that are reached least often, so that fewer attempts are accepted: never
            exactness.  An attempt in progress may take as much again.
        canonical: texts are written as the tokenizer writes them, see
            :class:`~constrain.TokenAutomaton`; makes the automaton anew unless it is such a one.
            The law is then that of the model given that it writes so.
    """

    method: ClassVar[Method] = Method()
    report: RejectionReport

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        *,
        max_bytes: int = MAX_BYTES,
        canonical: bool = False,
    ) -> None:
        check_count(max_bytes, "max_bytes")
        self.backend = check_backend(backend, type(self).__name__)
        self.automaton = as_written(check_automaton(automaton, type(self).__name__), canonical)
        self._memories = Memories(self.method.learns_masks, max_bytes)
        self.report = self.new_report()

    def new_report(self) -> RejectionReport:
        """A report of nothing yet."""
        return RejectionReport(type(self).__name__)

    @property
    def nbytes(self) -> int:
        """Memory of all that is kept between calls, in bytes."""
        return self._memories.nbytes

    def draw(self, prompt: Prompt, n: int, options: SamplingOptions) -> list[Sample]:
        """Draws texts; longer ones than the budget are not in the language.

        ``max_attempts`` bounds the attempts for one sample (10,000 by default).

        Raises:
            AttemptsExhausted: if nothing is accepted in so many attempts.
        """
        prepared = self.prepare(prompt, options)
        ids, memory = prepared.ids, prepared.memory
        out: list[Sample] = []
        with (
            self.backend.same_prompt(),
            progress_of(options.progress, n, options.on_tokens, self.report.named) as report,
        ):
            for sample in self._accepted(ids, memory, options, n, out):
                out.append(without_prefix(sample, prepared.prompt))
                report(len(out) - 1, sample.token_ids)
                if len(out) == n:
                    break
        return out

    def prepare(self, prompt: Prompt, options: SamplingOptions) -> Prepared:
        """Checks a request, and finds what is known about its prompt."""
        check_aligned(options.temperature, options.top_p)
        healed = asked(self.backend, prompt, self.automaton, options.heal)
        budget = self.backend.budget(len(healed.prompt), options.max_new_tokens)
        check_budget(healed.automaton, budget)
        return Prepared(healed, self._memories.of(healed, budget, options.temperature))

    def memory(self, ids: Sequence[int], budget: int, temperature: float) -> Memory:
        """What is kept for a prompt of which nothing is taken back, made if it is new."""
        return self._memories.of(Healed(list(ids), self.automaton, b""), budget, temperature)

    def save(
        self,
        path: str | Path,
        prompt: Prompt,
        max_new_tokens: int,
        temperature: float = 1.0,
        *,
        heal: bool = False,
    ) -> None:
        """Writes what was learned about a prompt to a safetensors file."""
        healed = asked(self.backend, prompt, self.automaton, heal)
        memory = self._memories.of(healed, max_new_tokens, temperature)
        save_trie(memory.trie, path, _about(healed.prompt, temperature))

    def load(
        self,
        path: str | Path,
        prompt: Prompt,
        max_new_tokens: int,
        temperature: float = 1.0,
        *,
        heal: bool = False,
    ) -> None:
        """Goes on with what was learned about a prompt, by this method and model.

        Raises:
            TrieMismatch: if the file is of another grammar, vocabulary, prompt, budget, temperature
                or kind of method.  Which model it was is for the caller to know.
        """
        healed = asked(self.backend, prompt, self.automaton, heal)
        about = _about(healed.prompt, temperature)
        trie = load_trie(path, healed.automaton, max_new_tokens, self.method.learns_masks, about)
        self._memories.put(self._memories.of(healed, max_new_tokens, temperature), trie)

    # -- attempts --------------------------------------------------------------------------------

    def _accepted(
        self,
        ids: list[int],
        memory: Memory,
        options: SamplingOptions,
        wanted: int,
        out: list[Sample],
    ) -> Iterator[Sample]:
        source = np.random.SeedSequence(options.seed)
        limit = MAX_ATTEMPTS if options.max_attempts is None else options.max_attempts
        failed, spent = 0, Stats()
        while True:
            width = self._width(memory, wanted - len(out))
            width = max(1, min(width, limit - failed))
            choices = [Drawn(seed) for seed in source.spawn(width)]
            for sample, accepted in self.round(ids, memory, options.temperature, choices):
                if not accepted:
                    failed += 1
                    _add(spent, sample.stats)
                    continue
                _add(sample.stats, spent)
                sample.stats.rejected = failed
                failed, spent = 0, Stats()
                yield sample
            if failed >= limit:
                raise AttemptsExhausted(
                    f"none of {failed:,} attempts was accepted; raise max_attempts, or use a sampler "
                    "that does not reject (GrammarConstrained, ASAp, AWRS, ConstrainedMCMC)",
                    list(out),
                    memory.attempts,
                )

    def _width(self, memory: Memory, missing: int) -> int:
        """Attempts side by side: about as many as will be needed."""
        rate = (memory.accepted + 1) / (memory.attempts + 2)
        return max(1, min(self.backend.max_rows, math.ceil(missing / rate)))

    def round(
        self, ids: list[int], memory: Memory, temperature: float, choices: Sequence[Choices]
    ) -> list[tuple[Sample, bool]]:
        """Attempts that start from the same trie; what they show is learned afterwards.

        Args:
            ids: the prompt.
            memory: what is known about it.
            temperature: of the model.
            choices: the source of randomness of each attempt.

        Returns:
            For each attempt its text, and whether it was accepted.
        """
        trie = memory.trie
        walks = [trie.walk(choice) for choice in choices]
        open_ = [i for i, walk in enumerate(walks) if not self._ended(walk)]
        recorder = Recorder(trie, temperature)
        samples = self._run(ids, trie, temperature, walks, choices, open_, recorder)
        found = dict(zip(open_, samples, strict=True))
        ends: list[State] = [walk.state for walk in walks]
        for number, end in recorder.ends.items():
            ends[open_[number]] = end
        self._absorb(trie, recorder, ends)
        self._memories.trim(memory)
        accepted = sum(isinstance(end, Place) for end in ends)
        for counts in (memory, self.report):
            counts.attempts += len(ends)
            counts.accepted += accepted
        self.report.bounds.append(trie.root.z if trie.root is not None else 1.0)
        return [
            (self._finished(found.get(i), walk), isinstance(end, Place))
            for i, (walk, end) in enumerate(zip(walks, ends, strict=True))
        ]

    def _ended(self, walk: Walk) -> bool:
        state = walk.state
        if isinstance(state, Edge):
            return False
        return isinstance(state, Rejected) or state.grammar == self.automaton.FINISHED

    def _run(
        self,
        ids: list[int],
        trie: Trie,
        temperature: float,
        walks: Sequence[Walk],
        choices: Sequence[Choices],
        numbers: Sequence[int],
        recorder: Recorder,
    ) -> list[Sample]:
        if not numbers:
            return []

        def start(i: int) -> Start:
            walk = walks[numbers[i]]
            return Start(walk.tokens, walk.state, walk.logprobs, walk.drawn, walk.share)

        return self.backend.generate(
            ids,
            Attempt(trie, self.method),
            n=len(numbers),
            max_new_tokens=trie.budget,
            sampling=Sampling(temperature),
            choices=lambda i: choices[numbers[i]],
            starts=start,
            observers=[recorder],
            on_end=recorder.ended,
        )

    def _absorb(self, trie: Trie, recorder: Recorder, ends: Sequence[State]) -> None:
        if not self.method.learns:
            return
        trie.absorb(recorder.scored, [end for end in ends if isinstance(end, Rejected)])
        for end in ends:
            if isinstance(end, Place):
                trie.finish(end)

    def _finished(self, sample: Sample | None, walk: Walk) -> Sample:
        """The sample of an attempt; one that needed no model is made of its walk."""
        if sample is None:
            text = self.automaton.vocabulary.decode(walk.tokens[:-1]).decode("utf-8", "replace")
            sample = Sample(
                walk.tokens,
                text,
                math.fsum(walk.logprobs),
                math.fsum(walk.drawn),
                stats=Stats(tokens=len(walk.tokens)),
                token_logprobs=walk.logprobs,
                token_constrained_logprobs=walk.drawn,
            )
        sample.weight = self._weight(sample)
        sample.method = type(self).__name__
        sample.exact = not self.method.masks_all
        return sample

    def _weight(self, sample: Sample) -> float:
        return 1.0


class RejectionSampling(Aligned):
    """Draws from the model alone until a text is valid (RS); learns nothing."""


class RSFT(Aligned):
    """Rejection sampling with the first token masked; learns nothing."""

    method = Method(masks_first=True)


class ARS(Aligned):
    """Adaptive rejection sampling: a token that failed is not drawn again after its prefix."""

    method = Method(learns_failures=True)


class CARS(Aligned):
    """Constrained adaptive rejection sampling: learns the mask of every prefix it scores.

    Prefixes first met in an attempt are not masked in it: that is what keeps accepted texts exact.
    Acceptance, Pr(L) / Z(root), only grows.
    """

    method = Method(masks_first=True, learns_masks=True)


class ASAp(Aligned):
    """Adaptive sampling with approximate expected futures: masks at once, never rejects.

    Its law approaches Q with what it learns; until then texts whose futures look better than they are
    come too often.  ``weight`` is P(w) / q(w), so that weighted means are estimates under Q.
    """

    method = Method(masks_all=True, learns_masks=True)

    def _weight(self, sample: Sample) -> float:
        return math.exp(sample.logprob - sample.constrained_logprob)


def _about(ids: Sequence[int], temperature: float) -> dict[str, Any]:
    return {"prompt": list(ids), "temperature": temperature}


def _add(to: Stats, more: Stats) -> None:
    """Costs of a rejected attempt, counted to the next text that is accepted."""
    to.forwards += more.forwards
    to.drafted += more.drafted
    to.accepted += more.accepted
    to.mask_seconds += more.mask_seconds
    to.draft_seconds += more.draft_seconds
    for name, count in more.by_drafter.items():
        own = to.count(name)
        own.drafted += count.drafted
        own.accepted += count.accepted
