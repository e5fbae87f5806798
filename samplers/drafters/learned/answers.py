"""Training texts that a model writes itself, each with the laws that its tokens were drawn from.

A draft model is to say what its target says, so it learns from the target's own samples (Goel et al.
2024, "Direct Alignment of Draft Model for Speculative Decoding with Chat-Fine-Tuned LLMs", arXiv
2403.00858, section 2): after chat or text prompts, free or within a grammar.  While a text is written
the target's whole law of each token is known; its likeliest tokens are kept, so that nothing has to be
computed twice.

On disk a task's answers are one file of safetensors; a folder of them is what was written so far, and
:func:`write_answers` goes on where it ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton
from constrain.huggingface.automata import automaton_for, vocabulary_for
from grammars import Grammar
from grammars.errors import GrammaError
from samplers.arguments import check_request
from samplers.backend import Prompt, SpeculativeBackend
from samplers.drafters.base import Observation
from samplers.progress import bar
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained, FreeText, Target, Weighting
from samplers.speculative.tree import ROOT
from samplers.tensor_files import TensorFileError, read_tensors, said, write_tensors

TOP: Final = 32
"""Tokens of each law that are kept, the likeliest ones."""
_FORMAT: Final = "gramma answers 1"
_CALLED: Final = "answers"


class AnswersError(GrammaError, ValueError):
    """A file that does not hold answers, or holds those of other tasks or settings."""


@dataclass(frozen=True)
class Task:
    """What a model is asked to write.

    Attributes:
        prompt: text, chat messages or token ids.
        grammar: of the answer; ``None`` for a free one.
        reply: of a prompt that ends where a user begins to speak, what stands between the end of that
            turn and the beginning of the model's own, as token ids: the model then writes both, a
            request that nobody thought of and its answer (Xu et al. 2024, "Magpie", arXiv 2406.08464).
    """

    prompt: Prompt
    grammar: Grammar | None = None
    reply: Sequence[int] = ()


@dataclass(frozen=True)
class Laws:
    """The target's laws at some positions: its k likeliest tokens at each, and whether there are others.

    Memory: 8 k + 1 bytes a position (257 at k = 32).

    Attributes:
        ids: int32[n, k]; -1 where there are fewer.
        probabilities: float32[n, k], of the law that was drawn from, weights and temperature applied; 0
            where there are fewer.  What they lack of 1 is the mass of all other tokens.
        whole: bool[n], whether no other token is possible at all.
    """

    ids: torch.Tensor
    probabilities: torch.Tensor
    whole: torch.Tensor

    def __len__(self) -> int:
        return len(self.whole)


@dataclass(frozen=True)
class Answer:
    """A prompt with one of the target's answers.

    Attributes:
        tokens: ids of both, the final EOS included.
        given: how many of them are the prompt.
        laws: of each token of the answer; ``None`` if they are not known.
    """

    tokens: list[int]
    given: int
    laws: Laws | None = None


def law_kept(
    logits: torch.Tensor, weighting: Weighting, temperature: float, top: int = TOP
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """The likeliest tokens of one law, likeliest first.

    Args:
        logits: floating[V], on the CPU.
        weighting: the target's weights; those of a grammar are of one.
        temperature: above 0.
        top: how many tokens.

    Returns:
        int32[top] and float32[top] as in :class:`Laws`, and whether no other token is possible.

    Raises:
        ValueError: if tokens have weights between 0 and 1.
    """
    if weighting.log_weights is not None:
        raise ValueError("answers are free or of a grammar; this target weighs tokens")
    row = logits.double() if logits.dtype == torch.float64 else logits.float()
    allowed = None if weighting.ids is None else torch.from_numpy(weighting.ids)
    row = (row if allowed is None else row[allowed]) / temperature
    count = min(top, len(row))
    values, at = row.topk(count)
    ids = torch.full((top,), -1, dtype=torch.int32)
    probabilities = torch.zeros(top)
    ids[:count] = (at if allowed is None else allowed[at]).int()
    probabilities[:count] = (values - row.logsumexp(-1)).exp().float()
    return ids, probabilities, len(row) <= top


def laws_of(kept: Sequence[tuple[torch.Tensor, torch.Tensor, bool]]) -> Laws:
    """Laws of several positions, of what :func:`law_kept` says of each."""
    ids, probabilities, whole = zip(*kept, strict=True)
    return Laws(torch.stack(ids), torch.stack(probabilities), torch.tensor(whole))


class Recorder:
    """Keeps the law of every token that is emitted, by the number of the sample; an observer of a backend.

    Args:
        top: tokens of each law that are kept.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._found: dict[int, list[tuple[torch.Tensor, torch.Tensor, bool]]] = {}

    def __call__(self, seen: Observation) -> None:
        """Looks at one step of one sample."""
        context = seen.context
        found = self._found.setdefault(seen.number, [])
        for count, node in enumerate([ROOT, *seen.path][: len(seen.emitted)]):
            weighting = context.target.weighting(seen.tree.state(node), context.tokens_left - count)
            found.append(
                law_kept(seen.logits(node), weighting, context.sampling.temperature, self._top)
            )

    def laws(self, number: int) -> Laws:
        """Of all tokens of a sample."""
        return laws_of(self._found[number])


def write_answers(
    model: Any,
    tokenizer: Any,
    tasks: Iterable[Task],
    *,
    samples: int = 8,
    max_new_tokens: int = 160,
    temperature: float = 0.7,
    top: int = TOP,
    seed: int = 0,
    folder: str | Path | None = None,
    max_seconds: float | None = None,
    progress: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> list[Answer]:
    """Has a model answer each task several times, samples side by side.

    Args:
        model: the target, a causal language model of ``transformers``.
        tokenizer: its tokenizer; ``None`` if prompts are token ids and answers free.
        tasks: what it is asked.
        samples: of each task.
        max_new_tokens: of each answer, EOS included; a free one may be cut off there.
        temperature: of the model, above 0; laws are kept at this temperature.
        top: tokens of each law that are kept.
        seed: for the same answers again; a task's depend on it and on the task's place alone.
        folder: where to keep answers, a file for each task; tasks that have one are read from it.
        max_seconds: after which no further task is begun; at least one is answered.
        progress: whether to show a bar on standard error.
        clock: what measures ``max_seconds``: ``time.process_time`` where other programs take the processor.

    Returns:
        Answers in the order of their tasks, with their laws.

    Raises:
        AnswersError: if the folder holds answers to other tasks, or of other settings.
        ValueError, TypeError: if a number is out of range, or a prompt will not do.
        BudgetError: if no answer of a grammar fits ``max_new_tokens``, or the model's context.
    """
    for name, value in {"samples": samples, "max_new_tokens": max_new_tokens, "top": top}.items():
        check_count(value, name)
    check_request(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: answers are drawn, which needs one above 0")
    settings = {"samples": samples, "max_new_tokens": max_new_tokens, "temperature": temperature}
    settings |= {"top": top, "seed": seed}
    kept = None if folder is None else Path(folder)
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    writer = _Writer(model, tokenizer, samples)
    asked = list(tasks)
    found: list[Answer] = []
    began = clock()
    with bar(progress, "answers", len(asked)) as advance:
        for number, task in enumerate(asked):
            file = None if kept is None else kept / f"{number:06}.safetensors"
            ids = writer.encoded(task)
            if file is not None and file.is_file():
                found += _of_run(file, ids, settings)
            else:
                if found and max_seconds is not None and clock() - began > max_seconds:
                    break
                made = writer.answers(
                    task, ids, max_new_tokens, temperature, top, 1_000_003 * seed + number
                )
                if file is not None:
                    save_answers(file, made, settings)
                found += made
            advance(1)
    return found


class _Turns:
    """Free text, an EOS, fixed tokens, free text, an EOS.

    States: 0 and ``len(reply) + 1`` are free; i between them is where ``reply[i - 1]`` must follow.
    """

    automaton: TokenAutomaton | None = None

    def __init__(self, ends: Sequence[int], reply: Sequence[int]) -> None:
        self._ends, self._reply = frozenset(ends), list(reply)

    def start(self) -> int:
        return 0

    def advance(self, state: int, token: int) -> int | None:
        if state == _ENDED:
            return None
        if 0 < state <= len(self._reply):
            return state + 1 if token == self._reply[state - 1] else None
        if token not in self._ends:
            return state
        return 1 if state == 0 else _ENDED

    def is_finished(self, state: int) -> bool:
        return state == _ENDED

    def weighting(self, state: int, tokens_left: int) -> Weighting:
        if 0 < state <= len(self._reply):
            return Weighting(np.array([self._reply[state - 1]], np.int64))
        return Weighting()

    def grammar_state(self, state: int) -> int:
        raise TypeError("free text has no grammar")


_ENDED: Final = -1


class _Writer:
    """The model with default drafters for texts of a grammar, and without for free ones.

    Free texts are hardly guessed by drafters that are not trained, and with many rows side by side a
    wrong guess costs as much as a token.
    """

    def __init__(self, model: Any, tokenizer: Any, rows: int) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._bound = SpeculativeBackend(model, tokenizer, max_rows=rows)
        self._free = SpeculativeBackend(model, tokenizer, [], max_rows=rows)
        self._ends: tuple[int, ...] | None = None

    def encoded(self, task: Task) -> list[int]:
        return self._free.encode(task.prompt)

    def answers(
        self, task: Task, ids: list[int], length: int, temperature: float, top: int, seed: int
    ) -> list[Answer]:
        recorder = Recorder(top)
        backend = self._free if task.grammar is None else self._bound
        made = backend.generate(
            ids,
            self._target(task),
            n=backend.max_rows,
            max_new_tokens=length,
            sampling=Sampling(temperature),
            seed=seed,
            observers=[recorder],
        )
        return [
            Answer([*ids, *sample.token_ids], len(ids), recorder.laws(number))
            for number, sample in enumerate(made)
        ]

    def _target(self, task: Task) -> Target:
        if task.grammar is not None:
            return Constrained(automaton_for(task.grammar, self._tokenizer, self._model))
        if self._ends is None:
            self._ends = self._end_tokens()
        return _Turns(self._ends, task.reply) if task.reply else FreeText(self._ends)

    def _end_tokens(self) -> tuple[int, ...]:
        if self._tokenizer is not None:
            return tuple(vocabulary_for(self._tokenizer, self._model).eos_token_ids)
        ends = self._model.generation_config.eos_token_id
        return tuple(ends) if isinstance(ends, list) else () if ends is None else (int(ends),)


# -- files -----------------------------------------------------------------------------------------


def save_answers(
    file: str | Path, answers: Sequence[Answer], settings: dict[str, Any] | None = None
) -> None:
    """Writes answers as safetensors, at once or not at all.

    Args:
        file: its name.
        answers: all with laws of the same width, or all without.
        settings: what :func:`write_answers` was told, kept with them; JSON.

    Raises:
        ValueError: if only some have laws.
    """
    tensors = {
        "tokens": torch.tensor([t for a in answers for t in a.tokens], dtype=torch.int32),
        "lengths": torch.tensor([len(a.tokens) for a in answers], dtype=torch.int32),
        "given": torch.tensor([a.given for a in answers], dtype=torch.int32),
    }
    laws = [a.laws for a in answers if a.laws is not None]
    if laws and len(laws) < len(answers):
        raise ValueError(f"{len(laws)} of {len(answers)} answers have laws; all or none must")
    if laws:
        tensors["ids"] = torch.cat([x.ids for x in laws])
        tensors["probabilities"] = torch.cat([x.probabilities for x in laws])
        tensors["whole"] = torch.cat([x.whole for x in laws])
    write_tensors(file, _FORMAT, tensors, {"settings": json.dumps(settings or {})})


def load_answers(file: str | Path) -> list[Answer]:
    """Reads answers of a file, or of all files of a folder.

    Raises:
        FileNotFoundError: if there is no such file, or the folder has none.
        AnswersError: if a file does not hold answers.
    """
    file = Path(file)
    files = sorted(file.glob("*.safetensors")) if file.is_dir() else [file]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"{file}: no such file of answers, or a folder without any")
    return [answer for each in files for answer in _read(each)[0]]


def _of_run(file: Path, ids: list[int], settings: dict[str, Any]) -> list[Answer]:
    """Answers of one task of an earlier run.

    Raises:
        AnswersError: if they are not this task's, or of other settings.
    """
    answers, told = _read(file)
    if any(answer.tokens[: answer.given] != ids for answer in answers):
        raise AnswersError(f"{file} has answers to another prompt; give another folder")
    if told != settings:
        raise AnswersError(f"{file} was written with {told}, not {settings}; give another folder")
    return answers


def _read(file: Path) -> tuple[list[Answer], dict[str, Any]]:
    try:
        tensors, header = read_tensors(file, _FORMAT, _CALLED, ("settings",))
        return _answers(tensors), said(header, "settings", file, _CALLED)
    except TensorFileError as error:
        raise AnswersError(str(error)) from None
    except (ArithmeticError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise AnswersError(f"{file} does not hold answers: {error}") from error


def _answers(tensors: dict[str, torch.Tensor]) -> list[Answer]:
    for name in ("tokens", "lengths", "given"):
        if (
            tensors[name].dtype != torch.int32
            or tensors[name].ndim != 1
            or (tensors[name] < 0).any()
        ):
            raise ValueError(f"{name} are no counts")
    lengths, given = tensors["lengths"].tolist(), tensors["given"].tolist()
    texts = [text.tolist() for text in torch.split(tensors["tokens"], lengths)]
    if any(count > length for length, count in zip(lengths, given, strict=True)):
        raise ValueError("more tokens are given than there are")
    if "ids" not in tensors:
        return [Answer(text, count) for text, count in zip(texts, given, strict=True)]
    _check_laws(tensors)
    sizes = [length - count for length, count in zip(lengths, given, strict=True)]
    parts = [torch.split(tensors[name], sizes) for name in ("ids", "probabilities", "whole")]
    return [
        Answer(text, count, Laws(*laws))
        for text, count, *laws in zip(texts, given, *parts, strict=True)
    ]


def _check_laws(tensors: dict[str, torch.Tensor]) -> None:
    ids, shares, whole = tensors["ids"], tensors["probabilities"], tensors["whole"]
    kinds = (ids.dtype, shares.dtype, whole.dtype)
    if kinds != (torch.int32, torch.float32, torch.bool):
        raise ValueError("laws of other types")
    if ids.ndim != 2 or shares.shape != ids.shape or whole.shape != ids.shape[:1]:
        raise ValueError("laws of other shapes")
    # A NaN makes every comparison false, so this is put as what must hold.
    if not bool(((shares >= 0) & (shares <= 1.001)).all()) or bool((ids < -1).any()):
        raise ValueError("laws that are none")
