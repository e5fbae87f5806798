"""One training loop for all learned drafters: distillation on cached hidden states.

The model reads every text once; its last hidden states are kept and the model is not asked again.  A
network then learns from them, pass by pass, until it accepts no more of texts that were held out, its
passes are over, or its time is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from samplers.drafters.learned.base import Answered, Lesson, lesson

T = TypeVar("T", bound=Answered)

_READING: Final = 0.4
"""The share of the time that reading texts may take."""
_WARM_UP: Final = 0.03
_LONGEST_STEP: Final = 1.0
"""Norm to which gradients are cut, where they are."""


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: passes over all texts, at most.
        learning_rate: of AdamW; it rises over the first steps (where ``clip``), then falls to zero along
            a cosine, over the passes or over the time, whichever is over first.
        batch: positions of one gradient step.
        seed: of weights and order.
        max_seconds: processor time of this process, reading the texts included; ``None`` for no bound.
            On one core nothing else is busy on it is what a clock says.
        held_out: share of the prompts whose texts are not trained on, for early stopping.
        patience: passes without a better acceptance after which training stops.
        clip: whether long gradients are cut and the first steps are small.
        progress: whether to show progress on standard error; by default where that is a terminal.

    Raises:
        ValueError: if a number is out of range.
    """

    epochs: int = 8
    learning_rate: float = 1e-3
    batch: int = 512
    seed: int = 0
    max_seconds: float | None = None
    held_out: float = 0.1
    patience: int = 2
    clip: bool = True
    progress: bool | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.patience) < 1 or self.learning_rate <= 0:
            raise ValueError("epochs, batch, patience and learning_rate must be positive")
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise ValueError(f"max_seconds={self.max_seconds}: must be positive")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out={self.held_out}: must be at least 0 and below 1")


@dataclass
class Report:
    """What training did.

    Attributes:
        losses: mean loss of each pass.
        acceptance: after each pass, tokens accepted of a greedy chain on texts held out, on average;
            empty if none are.
        seconds: processor time, reading the texts included.
        positions: places learned from, in one pass.
    """

    losses: list[float] = field(default_factory=list)
    acceptance: list[float] = field(default_factory=list)
    seconds: float = 0.0
    positions: int = 0


class Clock:
    """Processor time since it was made, beside a bound.

    Args:
        most: seconds; ``None`` for no bound.
    """

    def __init__(self, most: float | None = None) -> None:
        self._began = time.process_time()
        self._most = most

    @property
    def seconds(self) -> float:
        """Processor time so far."""
        return time.process_time() - self._began

    @property
    def share(self) -> float:
        """What is used up of the bound, 0 without one."""
        return 0.0 if self._most is None else self.seconds / self._most


# -- what the model says of texts ------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """A text and the model's last hidden states.

    Attributes:
        tokens: its ids.
        given: how many of them are given: only what follows them is learned.
        hidden: floating[n, H], the state after each token.
    """

    tokens: list[int]
    given: int
    hidden: torch.Tensor


def lessons_of(tokenizer: Any, texts: Sequence[Lesson]) -> list[tuple[list[int], int]]:
    """Token ids of texts, each with the number of them that are given.

    Raises:
        ValueError: see :func:`samplers.drafters.learned.base.lesson`.
    """
    return [lesson(tokenizer, text) for text in texts]


def read(
    model: Any,
    texts: Sequence[tuple[Sequence[int], int]],
    dtype: torch.dtype,
    tick: Callable[[], None] | None = None,
    clock: Clock | None = None,
) -> Iterator[Reading]:
    """The model's hidden states of texts, until reading has taken its share of the time.

    Args:
        model: read with, without gradients.
        texts: token ids, each with the number of those given.
        dtype: in which states are kept.
        tick: called after each text.
        clock: of the training.
    """
    for tokens, given in texts:
        if clock is not None and clock.share > _READING:
            return
        ids = torch.tensor([list(tokens)], device=model.device)
        with torch.no_grad():  # without the output embedding, a fifth of a small model's time
            out = model.base_model(input_ids=ids, use_cache=False)
        yield Reading(list(tokens), given, out.last_hidden_state[0].to(dtype))
        if tick is not None:
            tick()


def split(readings: Sequence[T], share: float) -> tuple[list[T], list[T]]:
    """Texts to train on and texts held out; no prompt is on both sides.

    With fewer prompts than would hold out one, none are.
    """
    prompts = list(dict.fromkeys(tuple(r.tokens[: r.given]) for r in readings))
    every = round(1 / share) if share else 0
    aside = set(prompts[every - 1 :: every]) if every > 1 else set()
    kept = [r for r in readings if tuple(r.tokens[: r.given]) not in aside]
    return kept, [r for r in readings if tuple(r.tokens[: r.given]) in aside]


def read_and_split(
    model: Any,
    texts: Sequence[tuple[Sequence[int], int]],
    dtype: torch.dtype,
    options: Training,
    clock: Clock,
    bar: Progress,
) -> tuple[list[Reading], list[Reading]]:
    """The model's hidden states of texts to train on, and of texts held out; shows progress.

    Args:
        model, texts, dtype: see :func:`read`.
        options: of the training.
        clock: begun before.
        bar: from :func:`bar_of`.
    """
    task = bar.add_task("reading", total=len(texts))
    found = read(model, texts, dtype, lambda: bar.advance(task), clock)
    return split(list(found), options.held_out)


# -- the loop --------------------------------------------------------------------------------------

Step: TypeAlias = Callable[[], tuple[float, int]]
"""Adds the gradients of a batch; returns its mean loss and its positions."""


def steps_of_texts(
    texts: Sequence[T],
    size: Callable[[T], int],
    batch: int,
    learn: Callable[[Sequence[T]], tuple[float, int]],
) -> Iterator[Step]:
    """Batches of whole texts, in an order drawn from torch's generator.

    Args:
        texts: all of a pass.
        size: positions of a text.
        batch: positions of a step, which its last text may exceed.
        learn: the step of a batch.
    """
    some: list[T] = []
    for i in torch.randperm(len(texts)).tolist():
        some.append(texts[i])
        if sum(map(size, some)) >= batch:
            yield partial(learn, tuple(some))
            some = []
    if some:
        yield partial(learn, tuple(some))


class Course(Protocol):
    """What a network learns from, in batches."""

    def __len__(self) -> int:
        """Batches of one pass."""

    def steps(self) -> Iterator[Step]:
        """The batches of a pass, in an order drawn from torch's generator."""

    def acceptance(self) -> float | None:
        """Tokens accepted of a greedy chain on texts held out; ``None`` if there are none."""


def run(
    network: torch.nn.Module,
    course: Course,
    options: Training,
    clock: Clock,
    bar: Progress,
    report: Report,
    slower: Sequence[tuple[Sequence[torch.nn.Parameter], float]] = (),
) -> None:
    """Trains a network; afterwards it is the one that accepted most.

    Args:
        network: its parameters are trained.
        course: what it learns from.
        options: how.
        clock: begun before texts were read.
        bar: from :func:`bar_of`.
        report: is written to.
        slower: parameters of the network with another learning rate, as a multiple of the others'.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    named = {id(p) for some, _ in slower for p in some}
    rest = [p for p in parameters if id(p) not in named]
    groups = [{"params": list(some), "factor": factor} for some, factor in [(rest, 1.0), *slower]]
    optimiser = torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=0.0)
    total = options.epochs * max(len(course), 1)
    task = bar.add_task("training", total=options.epochs)
    best: tuple[float, dict[str, torch.Tensor]] | None = None
    done, worse = 0, 0
    for _ in range(options.epochs):
        losses, positions = 0.0, 0
        for step in course.steps():
            optimiser.zero_grad()
            loss, count = step()
            rate = _rate(done / total, clock.share, options)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            if options.clip:
                torch.nn.utils.clip_grad_norm_(parameters, _LONGEST_STEP)
            optimiser.step()
            done += 1
            losses, positions = losses + loss * count, positions + count
            if clock.share >= 1:
                break
        report.losses.append(losses / max(positions, 1))
        report.positions = max(report.positions, positions)
        found = course.acceptance()
        told = f"training, loss {report.losses[-1]:.3f}"
        if found is not None:
            report.acceptance.append(found)
            told += f", accepted {found:.2f}"
            if best is None or found > best[0]:
                best, worse = (found, _copied(network)), 0
            else:
                worse += 1
        bar.update(task, advance=1, description=told)
        if clock.share >= 1 or worse >= options.patience:
            break
    if best is not None:
        network.load_state_dict(best[1])
    optimiser.zero_grad()
    report.seconds = clock.seconds


def _rate(steps: float, seconds: float, options: Training) -> float:
    """The learning rate, by the shares of steps and of time that are used up."""
    at = min(max(steps, seconds), 1.0)
    rate = options.learning_rate * (1 + float(torch.cos(torch.tensor(torch.pi * at)))) / 2
    return rate * min(1.0, (at + 1e-3) / _WARM_UP) if options.clip else rate


def _copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}


def accepted(right: torch.Tensor) -> float:
    """Tokens accepted of a chain, on average.

    Args:
        right: bool[positions, depth], whether each guess of a chain is what came.
    """
    return float(right.long().cumprod(-1).sum(-1).double().mean()) if len(right) else 0.0


def bar_of(wanted: bool | None) -> Progress:
    """A progress bar on standard error.

    Args:
        wanted: whether it is shown; by default where that is a terminal.
    """
    console = Console(stderr=True)
    shown = console.is_terminal if wanted is None else wanted
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not shown
    )
