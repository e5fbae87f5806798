"""Drafters with one layer of attention over all of the context, their training and their memory.

Position i of such a network reads the model's last hidden state at i and the token at i + 1, which that
state does not know, and guesses the token at i + 2.  The keys and values of a row are kept from step to
step as far as its tokens stay the same.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

import torch
from torch.nn.functional import log_softmax, smooth_l1_loss

from samplers.drafters.base import Context
from samplers.drafters.draft_model import columns
from samplers.drafters.learned.base import Lesson
from samplers.drafters.learned.growing import After, Growth, grow
from samplers.drafters.learned.layers import Layer, Pair
from samplers.drafters.learned.networks import NetworkDrafter, SmallNetwork, vocabulary_of
from samplers.drafters.learned.training import (
    Clock,
    Reading,
    Step,
    Training,
    accepted,
    bar_of,
    lessons_of,
    read_and_split,
    run,
    steps_of_texts,
)
from samplers.speculative.common import common_length

_FADING: Final = 0.8
"""Weight of the loss of a guess, relative to the guess before it."""


@dataclass(frozen=True)
class Pass:
    """What a network says at positions 0 to n - 3 of a text, so many drafts deep.

    Attributes:
        y: float32[n - 2, H], states for the output embedding: guesses of the token two further on.
        feature: float32[n - 2, H], guesses of the model's next hidden state; ``None`` if it makes none.
    """

    y: torch.Tensor
    feature: torch.Tensor | None = None


@dataclass
class Memory:
    """The keys and values of one row.

    Attributes:
        tokens: what was read: n tokens make n - 1 places.
        pair: of those places, with room behind them, where drafts have theirs.
        root: float32[1, H], the layer's output at the last of them.
    """

    tokens: list[int] = field(default_factory=list)
    pair: Pair | None = None
    root: torch.Tensor | None = None

    @property
    def places(self) -> int:
        """How many keys there are."""
        return max(len(self.tokens) - 1, 0)

    @property
    def seen(self) -> Pair:
        """The keys and values of all places."""
        assert self.pair is not None
        return self.pair[0][: self.places], self.pair[1][: self.places]

    def write(self, first: int, pair: Pair, tokens: Sequence[int]) -> None:
        """Puts keys and values at places from ``first`` on."""
        self._put(first, pair)
        self.tokens = list(tokens)

    def behind(self, count: int, pair: Pair) -> Pair:
        """Puts keys and values of drafts behind the text's and those of ``count`` earlier drafts.

        Returns:
            All of them; the next :meth:`write` may overwrite those of drafts.
        """
        first = self.places + count
        keys, values = self._put(first, pair)
        end = first + len(pair[0])
        return keys[:end], values[:end]

    def _put(self, first: int, pair: Pair) -> Pair:
        end = first + len(pair[0])
        if self.pair is None or len(self.pair[0]) < end:
            room = [new.new_zeros(2 * end + 64, *new.shape[1:]) for new in pair]
            if self.pair is not None:
                for old, made in zip(self.pair, room, strict=True):
                    made[:first] = old[:first]
            self.pair = (room[0], room[1])
        for block, new in zip(self.pair, pair, strict=True):
            block[first:end] = new
        return self.pair


class Network(SmallNetwork):
    """A layer over the context, and how drafts go on from it.

    Args:
        model: the base model; its embeddings are used, not copied, and never trained.
        ids: int64[K], the shortened vocabulary; ``None`` for all tokens.
    """

    layer: Layer

    def __init__(self, model: Any, ids: torch.Tensor | None) -> None:
        super().__init__(model, ids)
        self._embeddings = (model.get_input_embeddings(),)  # no part of this module

    def embedded(self, tokens: torch.Tensor) -> torch.Tensor:
        """The model's input embeddings float32[n, H] of tokens int64[n]."""
        with torch.no_grad():
            found: torch.Tensor = self._embeddings[0](tokens.to(self._embeddings[0].weight.device))
        return found.float()

    @abstractmethod
    def inputs(self, hidden: torch.Tensor, tokens: torch.Tensor, first: int) -> torch.Tensor:
        """The layer's inputs at places from ``first`` on.

        Args:
            hidden: float32[n - 1 - first, H], of those places.
            tokens: int64[n], all of the text.
            first: the first place wanted.
        """

    @abstractmethod
    def passes(self, hidden: torch.Tensor, tokens: torch.Tensor, depth: int) -> list[Pass]:
        """What is said of a text, drafts of up to ``depth`` tokens deep, with gradients.

        The s-th of them holds, at position i, the guess that is made after s - 1 drafted tokens which all
        came true, from the model's state at i - s + 1; places before s - 1 mean nothing.

        Args:
            hidden: float32[n, H].
            tokens: int64[n].
            depth: how many.
        """

    @abstractmethod
    def beginning(self, context: Context, memory: Memory) -> After:
        """How drafts go on from the root: states after nodes of ``context.tree``."""

    def follow(self, memory: Memory, hidden: torch.Tensor, tokens: Sequence[int]) -> None:
        """Brings a row's memory up to its text.

        Args:
            memory: is written to.
            hidden: floating[n - 1, H].
            tokens: of the row.
        """
        first = max(common_length(memory.tokens, tokens) - 1, 0)
        first = min(first, len(tokens) - 2)
        ids = torch.tensor(list(tokens), device=hidden.device)
        x = self.inputs(hidden[first:].float(), ids, first)
        positions = torch.arange(first, len(tokens) - 1, device=x.device)
        memory.write(first, self.layer.pairs(x, positions), tokens)
        queries = self.layer.queries(x[-1:], positions[-1:])
        memory.root = self.layer.attend(x[-1:], queries, memory.seen)


class SequenceDrafter(NetworkDrafter):
    """Drafts trees with such a network.

    Args:
        network: trained, or not.
        growth: how far trees grow.

    Attributes:
        report: of the training; empty if loaded.
    """

    networks: ClassVar[type[Network]]
    align: ClassVar[float] = 0.0
    """Weight of the loss of features."""

    def __init__(self, network: Network, *, growth: Growth | None = None) -> None:
        super().__init__(network, growth=growth)
        self._memories: dict[int, Memory] = {}

    def draft(self, context: Context, hidden: torch.Tensor) -> None:
        """Grows a tree of the network's guesses."""
        memory = self._memories.setdefault(context.row, Memory())
        self.network.follow(memory, hidden, context.tokens)
        after = self.network.beginning(context, memory)
        grow(context, after, self.network.output, self.growth, self.name)

    def reset(self) -> None:
        """Empties the memory of rows; what was trained stays."""
        self._memories.clear()

    # -- training --------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        model: Any,
        tokenizer: Any,
        texts: Sequence[Lesson],
        *,
        training: Training | None = None,
        vocabulary: int | Sequence[int] | None = 8192,
        depth: int = 3,
        growth: Growth | None = None,
        **options: Any,
    ) -> Self:
        """Trains one for a model, which stays as it is.

        The model's laws are learned, not only its texts: the loss is the cross-entropy of what it says of
        each next token, and where the network guesses features their smooth distance to the model's.

        Args:
            model: a causal language model of ``transformers``, in ``eval`` mode.
            tokenizer: its tokenizer; ``None`` if texts are token ids.
            texts: what to learn from, best the model's own answers.
            training: how long, how fast, with which seed.
            vocabulary: tokens that drafts are made of: how many of those most frequent in the answers,
                or their ids; ``None`` for all.
            depth: drafted tokens that a guess may follow in training, where they came true, so that the
                network learns to go on from what it guessed itself.
            growth: how far trees grow.
            **options: of the network.

        Raises:
            ValueError: if there is nothing to train on, or a number is not positive.
        """
        chosen = training or Training()
        if depth < 1:
            raise ValueError(f"depth={depth}: must be positive")
        clock = Clock(chosen.max_seconds)
        every = lessons_of(tokenizer, texts)
        ids = vocabulary_of(vocabulary, every, columns(model))
        with bar_of(chosen.progress) as bar, torch.random.fork_rng(devices=[]):
            torch.manual_seed(chosen.seed)
            made = cls(cls.networks(model, ids, **options).to(model.device), growth=growth)
            dtype = torch.float16 if model.dtype == torch.float32 else model.dtype
            kept, aside = read_and_split(model, every, dtype, chosen, clock, bar)
            course = Distillation(made.network, kept, aside, chosen.batch, depth, cls.align)
            run(made.network, course, chosen, clock, bar, made.report)
        return made


class Distillation:
    """Texts to learn from, in an order drawn anew for each pass.

    Args:
        network: what learns.
        kept: texts.
        aside: texts for :meth:`acceptance`.
        batch: positions of a step.
        depth: of drafts.
        align: weight of the loss of features.

    Raises:
        ValueError: if no text has a token to learn.
    """

    def __init__(
        self,
        network: Network,
        kept: Sequence[Reading],
        aside: Sequence[Reading],
        batch: int,
        depth: int,
        align: float,
    ) -> None:
        self._network, self._batch, self._depth, self._align = network, batch, depth, align
        self._kept = [r for r in kept if places(r)]
        self._aside = [r for r in aside if places(r)]
        if not self._kept:
            raise ValueError("nothing to train on: texts of three tokens or more are needed")

    def __len__(self) -> int:
        return max(1, sum(places(r) for r in self._kept) // self._batch)

    def steps(self) -> Iterator[Step]:
        """Batches of whole texts."""
        return steps_of_texts(self._kept, places, self._batch, self._learn)

    def _learn(self, batch: Sequence[Reading]) -> tuple[float, int]:
        count = sum(map(places, batch))
        total = 0.0
        with self._network.computing():  # one for all, so that weights are rounded once
            for reading in batch:
                with torch.enable_grad():
                    loss = self._loss(reading) * (places(reading) / count)
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        return total, count

    def _loss(self, reading: Reading) -> torch.Tensor:
        """Of one text, a position."""
        hidden, tokens = _tensors(reading)
        output = self._network.output
        first = start(reading)
        with torch.no_grad():
            after = hidden[1:-1]
            law = output.logits(after[first:]).softmax(-1)
            scale = after.square().mean().sqrt()
        loss = hidden.new_zeros(())
        for number, said in enumerate(self._network.passes(hidden, tokens, self._depth)):
            at = slice(first + number, None)
            if not len(said.y[at]):
                break
            guessed = log_softmax(output.logits(said.y[at]), -1)
            share = _FADING**number
            loss = loss - share * (law[number:] * guessed).sum(-1).mean()
            if said.feature is not None and self._align:
                distance = smooth_l1_loss(said.feature[at] / scale, after[at] / scale)
                loss = loss + share * self._align * distance
        return loss

    def acceptance(self) -> float | None:
        """Of greedy chains that begin at every place, on texts held out."""
        if not self._aside:
            return None
        with self._network.computing():
            right = [chains(self._network, reading, self._depth) for reading in self._aside]
        return accepted(torch.cat(right))


def start(reading: Reading) -> int:
    """The first position whose guess is part of the answer."""
    return max(reading.given - 2, 0)


def places(reading: Reading) -> int:
    """Positions with a guess to learn."""
    return max(len(reading.tokens) - 2 - start(reading), 0)


def chains(network: Network, reading: Reading, depth: int) -> torch.Tensor:
    """Which guesses of greedy chains are what came: bool[chains, depth].

    Chains that would run over the text's end are left out.
    """
    hidden, tokens = _tensors(reading)
    first = start(reading)
    count = max(len(tokens) - 2 - first - (depth - 1), 0)
    with torch.no_grad():
        said = network.passes(hidden, tokens, depth) if count else []
        columns_of = torch.from_numpy(network.output.numbers).to(tokens.device)
        right = []
        for number, one in enumerate(said):
            at = slice(first + number, first + number + count)
            guessed = network.output.logits(one.y[at]).argmax(-1)
            right.append(guessed == columns_of[tokens[2:][at]])
    return torch.stack(right, -1) if right else torch.zeros(0, depth, dtype=torch.bool)


def _tensors(reading: Reading) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = reading.hidden.float()
    return hidden, torch.tensor(reading.tokens, device=hidden.device)
