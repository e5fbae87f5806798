"""One text that is to be extracted from, ready to be written, and what is read of what was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from constrain.healing import Healed, healed_if
from constrain.huggingface.asking import (
    PromptBuilder,
    budget_of,
    checked_question,
    encode_prompt,
    question,
)
from constrain.huggingface.automata import automaton_for, vocabulary_for
from constrain.huggingface.processor import check_budget
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.huggingface.shortening.filters import (
    AnyFilter,
    CacheFilter,
    Shortened,
    check_filter,
    shortened,
)
from constrain.huggingface.shortening.pruning import Pruned, pruned
from constrain.huggingface.stopping import stop_texts
from constrain.huggingface.target import Target
from constrain.huggingface.thinking import Reasoning

Rows: TypeAlias = Callable[[Sequence[Healed], int, bool], list[list[int]]]
"""(prompts with their automata, budget, whether it is the answer) -> new tokens of each."""


@dataclass(frozen=True)
class Thought:
    """What is written before an answer.

    Attributes:
        reasoning: what was asked for.
        closing: token ids between thought and answer.
        answer: the prompt's automaton of the answer.
    """

    reasoning: Reasoning
    closing: list[int]
    answer: Healed


@dataclass(frozen=True)
class Job:
    """A prompt, what is wanted of it, and the room for it.

    Attributes:
        target: what is wanted.
        healed: the prompt, and the automaton of what is written first.
        budget: tokens of the answer, EOS included.
        thought: what is written before the answer; ``None``: nothing.
        stop: texts before which the answer ends.
        shortened: what was left of the document; ``None`` where nothing was to be left out.
        pruned: what is left of keys and values, where the prompt was read; ``None``: it is to be read.
    """

    target: Target
    healed: Healed
    budget: int
    thought: Thought | None = None
    stop: tuple[bytes, ...] = ()
    shortened: Shortened | None = None
    pruned: Pruned | None = None


@dataclass(frozen=True)
class Written:
    """What was written of a job.

    Attributes:
        healed: the prompt behind which the answer stands.
        tokens: of the answer.
        thought: the text of the thought.
    """

    healed: Healed
    tokens: list[int]
    thought: str = ""

    def read(self, job: Job) -> Extraction:
        """The value.

        Raises:
            pydantic.ValidationError: if a validator of the type's own refuses it.
        """
        found = job.target.read(self.tokens, self.healed, stop=job.stop)
        return replace(found, reasoning=self.thought, shortened=job.shortened)


def prepare(
    model: Any,
    tokenizer: Any,
    asked: str | Messages,
    target: Target,
    *,
    prompt: PromptBuilder | None = None,
    system: str | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    max_new_tokens: int | None = None,
    canonical: bool = False,
    heal: bool = False,
    reasoning: Any = None,
    stop: Any = None,
    source: str | None = None,
    shorten: AnyFilter | None = None,
) -> Job:
    """A job of a text or of messages; the arguments are those of ``extract``.

    Raises:
        BudgetError: if the shortest text does not fit its budget, or all does not fit the context.
        TypeError, ValueError, GrammarError: for arguments that cannot be used.
    """
    asked = checked_question(asked)
    check_filter(shorten)
    stops = stop_texts(stop)
    wanted = Reasoning.of(reasoning)
    automaton = automaton_for(target.grammar, tokenizer, model, canonical=canonical)
    hint = "" if wanted is None else wanted.hint
    said = question(asked, target, prompt=prompt, system=system, examples=examples, hint=hint)
    ids = encode_prompt(model, tokenizer, said)
    told: Shortened | None = None
    document = "" if shorten is None else _document(asked, source)
    vocabulary = vocabulary_for(tokenizer, model)
    if shorten is not None and not isinstance(shorten, CacheFilter):
        ids, told = shortened(model, ids, document, vocabulary, shorten)
    if wanted is None:
        healed = healed_if(heal, ids, automaton)
        budget = budget_of(model, len(healed.prompt), max_new_tokens)
        check_budget(healed.automaton, budget)
        thought = None
    else:
        first = wanted.automaton(tokenizer, model)
        healed = healed_if(heal, ids + wanted.opening(ids, tokenizer, first.vocabulary), first)
        check_budget(healed.automaton, wanted.tokens + 1)
        closing = wanted.closing(tokenizer)
        room = len(healed.prompt) + wanted.tokens + len(closing)
        budget = budget_of(model, room, max_new_tokens)
        check_budget(automaton, budget)
        thought = Thought(wanted, closing, Healed([], automaton, b""))
    read: Pruned | None = None
    if isinstance(shorten, CacheFilter):
        read, told = pruned(model, healed.prompt, document, vocabulary, shorten)
    return Job(target, healed, budget, thought, stops, told, read)


def _document(asked: str | Messages, source: str | None) -> str:
    """What may be dropped of: the text, or of messages what ``source`` says.

    Raises:
        ValueError: for messages of which it is not known.
    """
    if isinstance(asked, str):
        return asked
    if source is None:
        raise ValueError(
            "shorten= drops parts of the document alone; say which text that is of the messages: source="
        )
    return source


def write_jobs(jobs: Sequence[Job], rows: Rows) -> list[Written]:
    """Writes jobs side by side, thoughts before answers.

    Args:
        jobs: of the same budgets, and all with thoughts or none.
        rows: what writes.
    """
    first = jobs[0]
    if first.thought is None:
        found = rows([job.healed for job in jobs], first.budget, True)
        return [Written(job.healed, tokens) for job, tokens in zip(jobs, found, strict=True)]
    # one token more for the end, which is no part of what goes on
    thoughts = rows([job.healed for job in jobs], first.thought.reasoning.tokens + 1, False)
    behind = [_behind(job, tokens) for job, tokens in zip(jobs, thoughts, strict=True)]
    answers = rows([healed for healed, _ in behind], first.budget, True)
    return [
        Written(healed, tokens, said)
        for (healed, said), tokens in zip(behind, answers, strict=True)
    ]


def _behind(job: Job, tokens: list[int]) -> tuple[Healed, str]:
    """The prompt with its thought, and the thought's text."""
    thought = job.thought
    assert thought is not None
    ends = job.healed.automaton.vocabulary.eos_token_ids
    kept = tokens[:-1] if tokens and tokens[-1] in ends else tokens
    prompt = [*job.healed.prompt, *kept, *thought.closing]
    said = thought.reasoning.text(job.healed.text(kept))
    return replace(thought.answer, prompt=prompt), said
