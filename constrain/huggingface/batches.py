"""Extraction from many texts: one grammar, rows side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, Final, Literal

from pydantic import ValidationError

from constrain.arguments import check_count
from constrain.huggingface.asking import PromptBuilder
from constrain.huggingface.extraction import one_by_one, refuse_options, retried
from constrain.huggingface.grounding import source_of
from constrain.huggingface.jobs import Job, Rows, Written, prepare, write_jobs
from constrain.huggingface.loading import loaded
from constrain.huggingface.many import about, checked_texts
from constrain.huggingface.prefix import SharedPrefix
from constrain.huggingface.progress import Reported, reporting
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.huggingface.shortening.filters import PromptFilter
from constrain.huggingface.shortening.pruning import refuse_pruning
from constrain.huggingface.target import Target
from constrain.huggingface.thinking import Reasoning
from constrain.huggingface.writing import Generate, write_rows
from constrain.servers.openai import OpenAIServer, server_of
from constrain.servers.requests import refuse_local
from grammars.errors import BudgetError, GrammarError

DEFAULT_BATCH_SIZE: Final = 8


def extract_many(
    model: Any,
    tokenizer: Any,
    texts: Iterable[str | Messages],
    schema_or_type: Any,
    *,
    grounded: bool = False,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: Reported = False,
    on_error: Literal["raise", "return"] = "raise",
    backend: str | OpenAIServer | None = None,
    generate: Generate | None = None,
    prompt: PromptBuilder | None = None,
    system: str | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    max_new_tokens: int | None = None,
    reasoning: int | Reasoning | None = None,
    retries: int = 0,
    stop: str | Sequence[str] | None = None,
    canonical: bool = False,
    heal: bool = False,
    shorten: PromptFilter | None = None,
    **generation: Any,
) -> list[Extraction]:
    """Has a model read many texts and write each down as a schema or a type demands.

    The schema is compiled once, or for each text where values stand in it.  Texts are written side by
    side in batches of prompts of like length, padded on the left.  Greedy and in float32 each result is
    that of :func:`extract`.

    Args:
        model, tokenizer: as :func:`extract` takes them.
        texts: texts, or chat messages, each as :func:`extract` takes one.
        schema_or_type: as :func:`extract` takes it.
        grounded: as :func:`extract` takes it; each text is the source of its values.
        batch_size: texts written side by side.
        progress: ``True`` for a bar on standard error; or a function that is called with the number of texts
            that are done and that of all.
        on_error: ``"raise"``, or ``"return"``: a text that fails (too long for the context, stopped by a
            limit of its grammar, or refused by a validator of the type's own) has its
            :attr:`Extraction.error`, and the others go on.
        backend: a server, as :func:`extract` takes it; ``batch_size`` requests are then under way at once.
        generate: how tokens are written; given one, texts are written one after the other.
        prompt, system, examples, max_new_tokens, reasoning, retries, stop, canonical, heal, shorten: as
            :func:`extract` takes them, for each text; ``shorten`` is not for messages, and shortens
            prompts alone, not caches.
        **generation: passed on to ``model.generate``.

    Returns:
        The results in the order of the texts.

    Raises:
        TypeError, ValueError, GrammarError, ModelUnavailable: as :func:`extract`; one that is about a
            text names its index.
        BudgetError: before anything is written, for a text that does not fit; names its index.
        pydantic.ValidationError: of the first text that a validator refuses; a note names its index.
    """
    server = server_of(model, backend)
    if server is not None:
        refuse_local(
            canonical=canonical, heal=heal, reasoning=reasoning, shorten=shorten, generate=generate
        )
        return server.extract_many(
            texts,
            schema_or_type,
            batch_size=batch_size,
            progress=progress,
            on_error=on_error,
            grounded=grounded,
            prompt=prompt,
            system=system,
            examples=examples,
            max_new_tokens=max_new_tokens,
            retries=retries,
            stop=stop,
            **generation,
        )
    model, tokenizer = loaded(model, tokenizer, "extract_many")
    check_count(batch_size, "batch_size")
    retries = check_count(retries, "retries", least=0)
    max_new_tokens = check_count(max_new_tokens, "max_new_tokens", optional=True)
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error={on_error!r}: must be 'raise' or 'return'")
    refuse_options(generation)
    refuse_pruning(shorten, "extract_many")
    if generation.get("streamer") is not None:
        raise ValueError("a streamer hears of one text; progress= tells how far many are")
    ready = partial(
        prepare,
        model,
        tokenizer,
        prompt=prompt,
        system=system,
        examples=examples,
        max_new_tokens=max_new_tokens,
        canonical=canonical,
        heal=heal,
        reasoning=reasoning,
        stop=stop,
        shorten=shorten,
    )
    found: dict[int, Extraction] = {}
    jobs: dict[int, Job] = {}
    given = checked_texts(texts)
    for number, text in enumerate(given):
        try:
            target = Target.of(schema_or_type, source=source_of(text), grounded=grounded)
            jobs[number] = ready(text, target)
        except (BudgetError, GrammarError) as error:
            if not (grounded or isinstance(error, BudgetError)):
                raise  # the schema's, not the text's
            found[number] = _failed(Extraction(None, "", [], complete=False), error)
            if on_error == "raise":
                raise about(number, error) from None

    prompts = [job.healed.prompt for job in jobs.values()]
    shared = SharedPrefix.of(model, prompts, generation) if generate is None else None

    def rows(attempt: int) -> Rows:
        options = retried(generation, attempt)
        if generate is not None:
            return one_by_one(model, generate, options)
        if shared is None:
            return partial(write_rows, model, generation=options)
        return partial(
            write_rows, model, generation=options, shared=len(shared.ids), cache=shared.rows
        )

    with reporting(progress, len(given)) as done:
        done(len(found))
        for batch in batches(jobs, batch_size):
            for number, one in _written(batch, jobs, rows, retries).items():
                if one.error is not None and on_error == "raise":
                    raise about(number, one.error)
                found[number] = one
            done(len(batch))
    return [found[number] for number in range(len(given))]


def batches(jobs: Mapping[int, Job], size: int) -> Iterator[list[int]]:
    """Numbers of jobs that are written side by side: of one budget, and of like length."""
    order = sorted(jobs, key=lambda n: (jobs[n].budget, len(jobs[n].healed.prompt), n))
    for _, same in groupby(order, key=lambda n: jobs[n].budget):
        numbers = list(same)
        yield from (numbers[i : i + size] for i in range(0, len(numbers), size))


def _written(
    batch: Sequence[int], jobs: Mapping[int, Job], rows: Callable[[int], Rows], retries: int
) -> dict[int, Extraction]:
    """The results of a batch; those that a validator refuses are written again, with others of them."""
    found: dict[int, Extraction] = {}
    for attempt in range(retries + 1):
        todo = [n for n in batch if n not in found or isinstance(found[n].error, ValidationError)]
        if not todo:
            break
        written = write_jobs([jobs[n] for n in todo], rows(attempt))
        found |= {n: _read(one, jobs[n]) for n, one in zip(todo, written, strict=True)}
    return found


def _read(written: Written, job: Job) -> Extraction:
    failure: Exception | None = getattr(written.tokens, "failure", None)
    if failure is None:
        try:
            return written.read(job)
        except ValidationError as error:
            failure = error
    text = written.healed.text(written.tokens).decode("utf-8", "replace")
    plain = Extraction(None, text, written.tokens, False, written.healed.prefix, written.thought)
    return _failed(plain, failure)


def _failed(found: Extraction, error: Exception) -> Extraction:
    return replace(found, error=error)
