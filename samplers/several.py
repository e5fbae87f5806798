"""Several answers of one text, with their weights in the model's own law."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

from pydantic import ValidationError

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton
from constrain.huggingface.asking import PromptBuilder, checked_question
from constrain.huggingface.grounding import source_of
from constrain.huggingface.jobs import Job, Written, prepare
from constrain.huggingface.loading import loaded
from constrain.huggingface.prompts import Messages
from constrain.huggingface.recording import ScoredTokens
from constrain.huggingface.result import Extraction
from constrain.huggingface.shortening.filters import AnyFilter
from constrain.huggingface.target import Target
from samplers.arguments import check_aligned, check_request
from samplers.backend import SpeculativeBackend, check_backend
from samplers.constrained import GrammarConstrained
from samplers.exclusive import exclusive
from samplers.sample import Sample


class Sampler(Protocol):
    """Draws texts, as all samplers of this package do."""

    def sample(self, prompt: Any, n: int = 1, **options: Any) -> list[Sample]: ...


MakeSampler: TypeAlias = Callable[[SpeculativeBackend, TokenAutomaton], Any]
"""A class of samplers, or a function that makes one."""


def extract_samples(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    n: int = 4,
    *,
    grounded: bool = False,
    source: str | None = None,
    backend: SpeculativeBackend | None = None,
    sampler: MakeSampler = GrammarConstrained,
    prompt: PromptBuilder | None = None,
    system: str | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    max_new_tokens: int | None = None,
    temperature: float = 1.0,
    seed: int | None = None,
    canonical: bool = False,
    heal: bool = False,
    shorten: AnyFilter | None = None,
    progress: bool = False,
) -> list[Extraction]:
    """Draws several answers for one text, each with its weight.

    The weights sum to 1.  They make the answers a sample of the model's own law given the grammar (at the
    temperature): an answer drawn by :class:`GrammarConstrained`, token by token, weighs as much as the model
    finds its whole text likelier than the masks made it; samplers that follow the model's law bring weights
    of their own.  Equal answers may come several times: add up their weights to vote.

    Args:
        model, tokenizer, text_or_messages, schema_or_type: as :func:`extract` takes them.
        n: how many.
        grounded, source: as :func:`extract` takes them.
        backend: a backend for the model; a new one by default.
        sampler: how texts are drawn: :class:`GrammarConstrained`, :class:`AlignedSampling`, or another one.
        prompt, system, examples, max_new_tokens, canonical, heal, shorten: as :func:`extract` takes them.
        temperature: above 0.
        seed: for the same texts again.
        progress: whether to show a bar on standard error.

    Returns:
        The answers in the order in which they were drawn.  One that a validator of the type's own
        refuses has the weight 0 and its ``error``.

    Raises:
        TypeError, ValueError, BudgetError, GrammarError: as :func:`extract`.
        UnsupportedModel: if the model's cache cannot take tokens back.
        pydantic.ValidationError: if all are refused.
    """
    check_count(n, "n")
    check_request(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    check_aligned(temperature, 1.0)
    model, tokenizer = loaded(model, tokenizer, "extract_samples")
    if backend is not None and check_backend(backend, "extract_samples").model is not model:
        raise ValueError("the backend was made for another model")
    made = backend or SpeculativeBackend(model, tokenizer)
    asked = checked_question(text_or_messages)
    job = prepare(
        model,
        tokenizer,
        asked,
        Target.of(schema_or_type, source=source_of(asked, source), grounded=grounded),
        prompt=prompt,
        system=system,
        examples=examples,
        max_new_tokens=check_count(max_new_tokens, "max_new_tokens", optional=True),
        canonical=canonical,
        heal=heal,
        source=source,
        shorten=shorten,
    )
    drawn: Sampler = sampler(made, job.healed.automaton)
    with exclusive(made), made.has_read(job.pruned):
        samples = drawn.sample(
            job.healed.prompt,
            n,
            max_new_tokens=job.budget,
            temperature=temperature,
            seed=seed,
            progress=progress,
        )
    return _weighted([_read(one, job) for one in samples], log_weights(samples))


def log_weights(samples: Sequence[Sample]) -> list[float]:
    """The natural logarithms of weights that are not normalised.

    Masks draw a text with a probability of their own; the model's, divided by it, is what it weighs.
    """
    return [
        one.logprob - one.constrained_logprob
        if one.method == GrammarConstrained.__name__
        else math.log(one.weight)
        if one.weight > 0
        else -math.inf
        for one in samples
    ]


def _read(sample: Sample, job: Job) -> Extraction:
    try:
        tokens = ScoredTokens(sample.token_ids, sample.token_constrained_logprobs)
        return Written(job.healed, tokens).read(job)
    except ValidationError as error:
        text = job.healed.text(sample.token_ids).decode("utf-8", "replace")
        return Extraction(
            None, text, sample.token_ids, False, prefix=job.healed.prefix, error=error
        )


def _weighted(found: Sequence[Extraction], logs: Sequence[float]) -> list[Extraction]:
    """With weights that sum to 1 over those that have a value."""
    kept = [log for one, log in zip(found, logs, strict=True) if one.error is None]
    if not kept:
        error = found[-1].error
        assert error is not None
        raise error
    most = max(kept)
    if most == -math.inf:  # all weights are 0
        kept, logs, most = [0.0] * len(kept), [0.0] * len(logs), 0.0
    total = math.fsum(math.exp(log - most) for log in kept)
    return [
        replace(one, weight=0.0 if one.error is not None else math.exp(log - most) / total)
        for one, log in zip(found, logs, strict=True)
    ]
