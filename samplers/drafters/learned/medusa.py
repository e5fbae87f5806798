"""Small heads on the model's last hidden state guess the tokens after the next.

Cai et al. 2024, "Medusa" (arXiv 2401.10774), section 2.1: head j maps the last hidden state x at
position i to x + SiLU(W_j x), and the model's own output embedding makes of it logits of the token
at i + 1 + j; W_j starts at zero, where every head says what the model itself says of i + 1.  When a
tree is drafted the token at i + 1 is settled (it is the root), so head 1 guesses the root's
children, head 2 their children, and so on.

Guesses are verified by sampling and matching, which is exact ("typical acceptance", section 2.3.1, is
not: :mod:`samplers.speculative.typical`).  The tree is sparse and fixed (section 2.1.2): a node is a path
of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeAlias

import numpy as np
import torch
from torch.nn.functional import cross_entropy, silu

from constrain.arguments import check_model
from samplers.drafters.base import Context
from samplers.drafters.learned.base import LearnedDrafter, Lesson, Text, encoded
from samplers.drafters.learned.files import Base, network_of, read_file, write_file
from samplers.drafters.learned.training import (
    Clock,
    Reading,
    Report,
    Step,
    Training,
    accepted,
    bar_of,
    lessons_of,
    read,
    read_and_split,
    run,
)
from samplers.drafters.recursive import law_after
from samplers.speculative.law import Law
from samplers.speculative.tree import ROOT

Ranks: TypeAlias = tuple[int, ...]

SPARSE: Final[tuple[Ranks, ...]] = (
    *((0,), (1,), (2,), (3,)),
    *((0, 0), (0, 1), (1, 0), (2, 0)),
    *((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)),
    *((0, 0, 0, 0),),
)
"""Nodes by the ranks of their tokens on the way: (0, 1) is the second guess of head 2 after the best
guess of head 1.  Parents come first."""
_FORMAT: Final = "medusa-1"
_FADING: Final = 0.8
"""Weight of a head's loss, relative to the head before it (section 2.2.1)."""


class Heads(torch.nn.Module):
    """The heads alone: ``count`` residual blocks before the model's output embedding.

    Args:
        model: the base model; its output embedding is used, not copied, and never trained.
        count: m.

    Raises:
        ValueError: if ``count`` is not positive, or the model has no output embedding.
    """

    def __init__(self, model: Any, count: int = 4) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"{count} heads: at least one is needed")
        output = check_model(model, "Heads").get_output_embeddings()
        if output is None:
            raise ValueError(f"{type(model).__name__} has no output embedding")
        self.base = Base.of(model)
        size = self.base.hidden_size
        self.blocks = torch.nn.ModuleList(
            torch.nn.Linear(size, size, device="meta") for _ in range(count)
        )
        self.to_empty(device=output.weight.device)
        for parameter in self.parameters():
            torch.nn.init.zeros_(parameter)
        self._output = (output,)  # within a tuple it is no part of this module

    def __len__(self) -> int:
        return len(self.blocks)

    def one(self, head: int, hidden: torch.Tensor) -> torch.Tensor:
        """Logits float32[N, V] of head 0, 1, ..., from hidden states floating[N, H]."""
        return self._logits(self._ahead(self.blocks[head], hidden))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits float32[m, V] of all heads, from one hidden state floating[H]."""
        return self._logits(torch.stack([self._ahead(block, hidden) for block in self.blocks]))

    @staticmethod
    def _ahead(block: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        x = hidden.to(next(block.parameters()))
        ahead: torch.Tensor = x + silu(block(x))
        return ahead

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        output = self._output[0]
        logits: torch.Tensor = output(x.to(output.weight.dtype))
        return logits.float()


class MedusaHeads(LearnedDrafter):
    """Drafts with trained heads.

    Args:
        heads: from :meth:`train` or :meth:`load`.
        tree: nodes as ranks, parents before children; those deeper than there are heads are left
            out.

    Attributes:
        report: of the training; empty if loaded.

    Raises:
        ValueError: if a node of the tree comes before its parent.
    """

    name: ClassVar[str] = "medusa"

    def __init__(self, heads: Heads, *, tree: Sequence[Ranks] = SPARSE) -> None:
        self.heads = heads
        self.report = Report()
        self.tree = [ranks for ranks in map(tuple, tree) if len(ranks) <= len(heads)]
        known: set[Ranks] = {()}
        for ranks in self.tree:
            if not ranks or ranks[:-1] not in known or min(ranks) < 0:
                raise ValueError(f"the tree's node {ranks} comes before its parent")
            known.add(ranks)
        self._children: dict[Ranks, set[int]] = {}
        for ranks in self.tree:
            self._children.setdefault(ranks[:-1], set()).add(ranks[-1])

    @property
    def losses(self) -> list[float]:
        """After training, each epoch's mean loss."""
        return self.report.losses

    # -- drafting --------------------------------------------------------------------------------

    def draft(self, context: Context, hidden: torch.Tensor) -> None:
        """Adds the tree, ranks counted among what the target allows."""
        logits = self.heads(hidden[-1]).cpu()
        nodes: dict[Ranks, int] = {(): ROOT}
        for parent, ranks in self._children.items():  # parents come first
            node = nodes.get(parent)
            law = None if node is None else law_after(context, node, logits[len(parent)])
            if node is None or law is None:
                continue
            for rank, (token, probability) in enumerate(_best(law, 1 + max(ranks))):
                made = context.add(node, token, self.name, probability) if rank in ranks else None
                if made is not None:
                    nodes[(*parent, rank)] = made

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Writes the heads as safetensors, with what tells their base model."""
        write_file(path, _FORMAT, self.heads.base, self.heads.state_dict())

    @classmethod
    def load(cls, path: str | Path, model: Any, *, tree: Sequence[Ranks] = SPARSE) -> MedusaHeads:
        """Reads heads for a model.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is not one of heads, or they are of another model.
        """
        found = read_file(path, _FORMAT, Base.of(model), called="heads")
        count = len(found.weights) // 2
        heads = network_of(lambda: Heads(model, count=count), found.weights, path)
        return cls(heads, tree=tree)

    # -- training --------------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[Text] = (),
        *,
        texts: Sequence[Text] = (),
        answers: Sequence[tuple[Text, Text]] = (),
        heads: int = 4,
        samples: int = 1,
        max_new_tokens: int = 128,
        temperature: float = 1.0,
        epochs: int = 10,
        learning_rate: float = 1e-3,
        batch: int = 64,
        seed: int = 0,
        progress: bool | None = None,
        tree: Sequence[Ranks] = SPARSE,
    ) -> MedusaHeads:
        """Trains heads on the model's own samples; the model itself does not change.

        Hidden states are computed once and kept: 4 H bytes for each token.

        Args:
            model: the base model, in ``eval`` mode.
            tokenizer: its tokenizer; ``None`` if prompts and texts are token ids.
            prompts: what the model is to go on from.
            texts: texts to train on as they are, besides.
            answers: prompts with their answers, EOS included, to train on besides; of a prompt only
                the last state counts, from which the answer goes on.
            heads: m.
            samples: of the model, for each prompt.
            max_new_tokens: of each sample.
            temperature: of the samples.
            epochs: passes over all positions.
            learning_rate: of AdamW, falling to zero along a cosine.
            batch: positions of a gradient step.
            seed: of samples and order.
            progress: whether to show progress and loss on standard error; by default where that is
                a terminal.
            tree: of the drafter.

        Raises:
            ValueError: if there is nothing to train on, or a number is not positive.
        """
        if min(heads, samples, max_new_tokens, epochs, batch) < 1 or learning_rate <= 0:
            raise ValueError(
                "heads, samples, max_new_tokens, epochs, batch and learning_rate must be positive"
            )
        made = cls(Heads(model, heads), tree=tree)
        options = Training(
            epochs, learning_rate, batch, seed, held_out=0.0, clip=False, progress=progress
        )
        with bar_of(progress) as bar, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            task = bar.add_task("samples", total=len(prompts))
            every = [(encoded(tokenizer, text), 1) for text in texts]
            for given, answer in answers:
                ids = encoded(tokenizer, given)
                every.append((ids + encoded(tokenizer, answer), len(ids)))
            for prompt in prompts:
                ids = encoded(tokenizer, prompt)
                made_now = _continued(model, ids, samples, max_new_tokens, temperature)
                every += [(text, 1) for text in made_now]
                bar.advance(task)
            course = _Positions(made.heads, _examples(model, every, heads), None, batch)
            run(made.heads, course, options, Clock(), bar, made.report)
        return made

    @classmethod
    def fit(
        cls,
        model: Any,
        tokenizer: Any,
        texts: Sequence[Lesson],
        *,
        heads: int = 4,
        tree: Sequence[Ranks] = SPARSE,
        training: Training | None = None,
    ) -> Self:
        """Trains heads on texts, with early stopping on some that are held out.

        Args:
            model: the base model, in ``eval`` mode; it does not change.
            tokenizer: its tokenizer; ``None`` if texts are token ids.
            texts: what to learn from, best the model's own answers; of what is given only the last state
                counts.
            heads: m.
            tree: of the drafter.
            training: how long, how fast, with which seed.

        Raises:
            ValueError: if there is nothing to train on.
        """
        options = training or Training()
        clock = Clock(options.max_seconds)
        made = cls(Heads(model, heads), tree=tree)
        every = lessons_of(tokenizer, texts)
        with bar_of(options.progress) as bar, torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            kept, aside = read_and_split(model, every, torch.float32, options, clock, bar)
            rest = positions(aside, heads) if aside else None
            course = _Positions(made.heads, positions(kept, heads), rest, options.batch)
            run(made.heads, course, options, clock, bar, made.report)
        return made


Positions: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Hidden states float32[N, H], and the tokens int64[N, m] that heads guess from each."""


class _Positions:
    """Places to learn from, drawn in any order."""

    def __init__(
        self, heads: Heads, examples: Positions, aside: Positions | None, batch: int
    ) -> None:
        self._heads, self._batch = heads, batch
        self._hidden, self._after = examples
        self._aside = aside

    def __len__(self) -> int:
        return -(-len(self._hidden) // self._batch)

    def steps(self) -> Iterator[Step]:
        """Batches."""
        order = torch.randperm(len(self._hidden))
        for part in torch.split(order, self._batch):
            at = part.to(self._hidden.device)
            yield lambda at=at: (  # type: ignore[misc]
                backward(self._heads, self._hidden[at], self._after[at]),
                len(at),
            )

    def acceptance(self) -> float | None:
        """Of the likeliest guess of each head."""
        if self._aside is None:
            return None
        parts = [torch.split(part, self._batch) for part in self._aside]
        right = [right_of(self._heads, *some) for some in zip(*parts, strict=True)]
        return accepted(torch.cat(right))


@torch.no_grad()
def right_of(heads: Heads, hidden: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Whether the likeliest guess of each head is what came: bool[N, m], of positions of a text."""
    guesses = [heads.one(i, hidden).argmax(-1) for i in range(len(heads))]
    return torch.stack(guesses, -1) == after


def _best(law: Law, count: int) -> Iterator[tuple[int, float]]:
    """The likeliest tokens that are possible, with their probabilities."""
    total = law.weights.sum()
    for index in np.argsort(-law.weights, kind="stable")[:count].tolist():
        if law.weights[index] > 0:
            yield law.token(index), float(law.weights[index] / total)


def _continued(
    model: Any, ids: list[int], samples: int, length: int, temperature: float
) -> list[list[int]]:
    """The model's samples after a prompt, each with it; padding is cut off."""
    given = torch.tensor([ids], device=model.device)
    out = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        num_return_sequences=samples,
        max_new_tokens=length,
    )
    ends = model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    texts: list[list[int]] = []
    for row in out.tolist():
        new = row[len(ids) :]
        end = next((i for i, token in enumerate(new) if token in ends), len(new) - 1)
        texts.append([*ids, *new[: end + 1]])
    return texts


def _examples(model: Any, texts: Sequence[tuple[list[int], int]], heads: int) -> Positions:
    """Reads texts, each with the number of its tokens that are given.

    Raises:
        ValueError: if no text is long enough.
    """
    return positions(list(read(model, texts, torch.float32)), heads)


def positions(readings: Sequence[Reading], heads: int) -> Positions:
    """Hidden states float32[N, H] and the tokens int64[N, m] that heads guess from each.

    The states before the last token given do not count.  The hidden state at i is that from which the
    model guesses token i + 1; head j guesses token i + 1 + j.  Where the text is over there is -100,
    which counts for nothing.

    Raises:
        ValueError: if no text is long enough.
    """
    hidden: list[torch.Tensor] = []
    after: list[torch.Tensor] = []
    for reading in readings:
        first = max(reading.given - 1, 0)
        count = len(reading.tokens) - 2  # positions with a token for head 1
        if count <= first:
            continue
        hidden.append(reading.hidden[first:count].float())
        padded = torch.tensor(reading.tokens + [-100] * heads)
        after.append(padded.unfold(0, heads, 1)[2 + first : 2 + count])
    if not hidden:
        raise ValueError("nothing to train on: texts of three tokens or more are needed")
    return torch.cat(hidden), torch.cat(after).to(hidden[0].device)


def backward(heads: Heads, hidden: torch.Tensor, after: torch.Tensor, weight: float = 1.0) -> float:
    """Adds the gradient of one batch, head by head so that one head's logits are held at a time.

    Args:
        heads: their parameters get gradients.
        hidden: float32[N, H], which gets one too if it wants one.
        after: int64[N, m], see :func:`positions`.
        weight: of the loss.

    Returns:
        The weighted sum of the heads' losses.
    """
    wanted_by = [*heads.parameters(), *([hidden] if hidden.requires_grad else [])]
    total = 0.0
    with torch.enable_grad():
        for head in range(len(heads)):
            wanted = after[:, head]
            if not bool((wanted >= 0).any()):
                continue
            loss = weight * _FADING**head * cross_entropy(heads.one(head, hidden), wanted)
            loss.backward(inputs=wanted_by)  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    return total
