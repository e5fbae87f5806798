"""Small heads on the model's last hidden state guess the tokens after the next.

Cai et al. 2024, "Medusa" (arXiv 2401.10774), section 2.1: head j maps the last hidden state x at
position i to x + SiLU(W_j x), and the model's own output embedding makes of it logits of the token
at i + 1 + j; W_j starts at zero, where every head says what the model itself says of i + 1.  When a
tree is drafted the token at i + 1 is settled (it is the root), so head 1 guesses the root's
children, head 2 their children, and so on.

Guesses are verified by sampling and matching, which is exact ("typical acceptance", section 2.3.1,
is not).  The tree is sparse and fixed (section 2.1.2): a node is a path of ranks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, silu

from constrain.arguments import check_model
from samplers.drafters.base import Context, Drafter, Observation
from samplers.drafters.draft_model import columns
from samplers.drafters.recursive import law_after
from samplers.speculative.law import Law
from samplers.speculative.tree import ROOT

Ranks: TypeAlias = tuple[int, ...]
Prompt: TypeAlias = str | Sequence[int]

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


@dataclass(frozen=True)
class Base:
    """What tells the model that heads were trained for.

    Attributes:
        hidden_size: H.
        vocab_size: V.
        name: the last part of its name or path; empty if it has none.
    """

    hidden_size: int
    vocab_size: int
    name: str

    @classmethod
    def of(cls, model: Any) -> Base:
        """A model's."""
        config: Any = model.config
        name = PurePath(str(getattr(config, "_name_or_path", "") or "")).name
        if hasattr(config, "get_text_config"):
            config = config.get_text_config()
        return cls(int(config.hidden_size), columns(model), name)


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


class MedusaHeads(Drafter):
    """Drafts with trained heads.

    Args:
        heads: from :meth:`train` or :meth:`load`.
        tree: nodes as ranks, parents before children; those deeper than there are heads are left
            out.

    Attributes:
        losses: after training, each epoch's mean loss.

    Raises:
        ValueError: if a node of the tree comes before its parent.
    """

    name: ClassVar[str] = "medusa"
    runs_model: ClassVar[bool] = True  # rows of the output embedding: a fifth of a small model
    wants_hidden: ClassVar[bool] = True

    def __init__(self, heads: Heads, *, tree: Sequence[Ranks] = SPARSE) -> None:
        self.heads = heads
        self.losses: list[float] = []
        self.tree = [ranks for ranks in map(tuple, tree) if len(ranks) <= len(heads)]
        known: set[Ranks] = {()}
        for ranks in self.tree:
            if not ranks or ranks[:-1] not in known or min(ranks) < 0:
                raise ValueError(f"the tree's node {ranks} comes before its parent")
            known.add(ranks)
        self._children: dict[Ranks, set[int]] = {}
        for ranks in self.tree:
            self._children.setdefault(ranks[:-1], set()).add(ranks[-1])
        self._hidden: dict[int, tuple[list[int], torch.Tensor]] = {}

    # -- drafting --------------------------------------------------------------------------------

    def begin(self, context: Context) -> None:
        """A new text has no hidden state yet."""
        self._hidden.pop(context.row, None)

    def propose(self, context: Context) -> None:
        """Adds the tree, ranks counted among what the target allows."""
        hidden = self._known(context)
        if hidden is None:
            return
        with torch.no_grad():
            logits = self.heads(hidden).cpu()
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

    def observe(self, observation: Observation) -> None:
        """Keeps the hidden state from which the last token was drawn: where the path ends."""
        context = observation.context
        node = observation.path[-1] if observation.path else ROOT
        if len(observation.emitted) == len(observation.path):
            self._hidden.pop(context.row, None)  # the text is over
            return
        tokens = [*context.tokens, *observation.emitted]
        self._hidden[context.row] = (tokens, observation.hidden(node).clone())

    def reset(self) -> None:
        """Forgets the hidden states; what was trained stays."""
        self._hidden.clear()

    def _known(self, context: Context) -> torch.Tensor | None:
        """The hidden state of the row's text, which may have been in another row."""
        for row in [context.row, *self._hidden]:
            tokens, hidden = self._hidden.get(row, ([], None))
            if hidden is not None and tokens == context.tokens:
                return hidden
        return None

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Writes the heads as safetensors, with what tells their base model."""
        metadata = {"format": _FORMAT, "base": json.dumps(asdict(self.heads.base))}
        weights = {k: v.cpu().contiguous() for k, v in self.heads.state_dict().items()}
        save_file(weights, str(path), metadata)

    @classmethod
    def load(cls, path: str | Path, model: Any, *, tree: Sequence[Ranks] = SPARSE) -> MedusaHeads:
        """Reads heads for a model.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is not one of heads, or they are of another model.
        """
        base, weights = _read(Path(path))
        found = Base.of(model)
        if base != found:
            raise ValueError(f"{path}: the heads are for {_told(base)}, not for {_told(found)}")
        heads = Heads(model, count=len(weights) // 2)
        try:
            heads.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{path}: {error}") from error
        return cls(heads, tree=tree)

    # -- training --------------------------------------------------------------------------------

    @classmethod
    def train(
        cls,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[Prompt] = (),
        *,
        texts: Sequence[Prompt] = (),
        answers: Sequence[tuple[Prompt, Prompt]] = (),
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
        with _bar(progress) as bar, torch.random.fork_rng(devices=[]):
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
            hidden, after = _examples(model, every, heads)
            task = bar.add_task("training", total=epochs)
            for loss in _epochs(made.heads, hidden, after, epochs, learning_rate, batch):
                made.losses.append(loss)
                bar.update(task, advance=1, description=f"training, loss {loss:.3f}")
        return made


def encoded(tokenizer: Any, text: Prompt) -> list[int]:
    """Token ids of a prompt or text.

    Raises:
        ValueError: if it is text and there is no tokenizer.
    """
    if isinstance(text, str):
        if tokenizer is None:
            raise ValueError("texts need a tokenizer; give token ids instead")
        text = tokenizer(text)["input_ids"]
    return [int(token) for token in text]


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


def _examples(
    model: Any, texts: Sequence[tuple[list[int], int]], heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states float32[N, H] and the tokens int64[N, m] that heads guess from each.

    Texts come with the number of tokens that are given; the states before the last of these do not
    count.  The hidden state at i is that from which the model guesses token i + 1; head j guesses token
    i + 1 + j.  Where the text is over there is -100, which counts for nothing.

    Raises:
        ValueError: if no text is long enough.
    """
    hidden: list[torch.Tensor] = []
    after: list[torch.Tensor] = []
    for text, given in texts:
        first = max(given - 1, 0)
        count = len(text) - 2  # positions with a token for head 1
        if count <= first:
            continue
        ids = torch.tensor([text], device=model.device)
        with torch.no_grad():
            out = model(ids, output_hidden_states=True, use_cache=False)
        hidden.append(out.hidden_states[-1][0, first:count].float())
        padded = torch.tensor(text + [-100] * heads)
        after.append(padded.unfold(0, heads, 1)[2 + first : 2 + count])
    if not hidden:
        raise ValueError("nothing to train on: texts of three tokens or more are needed")
    return torch.cat(hidden), torch.cat(after).to(hidden[0].device)


def _epochs(
    heads: Heads,
    hidden: torch.Tensor,
    after: torch.Tensor,
    epochs: int,
    learning_rate: float,
    batch: int,
) -> Iterator[float]:
    """Trains; yields the mean loss of each epoch."""
    optimiser = torch.optim.AdamW(heads.parameters(), lr=learning_rate, weight_decay=0.0)
    steps = epochs * -(-len(hidden) // batch)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        total = 0.0
        order = torch.randperm(len(hidden))
        for part in (order[i : i + batch] for i in range(0, len(order), batch)):
            at = part.to(hidden.device)
            optimiser.zero_grad()
            total += _backward(heads, hidden[at], after[at]) * len(part)
            optimiser.step()
            falling.step()
        yield total / len(hidden)


def _backward(heads: Heads, hidden: torch.Tensor, after: torch.Tensor) -> float:
    """Adds the gradient of one batch, head by head so that one head's logits are held at a time."""
    total = 0.0
    with torch.enable_grad():
        for head in range(len(heads)):
            wanted = after[:, head]
            if not bool((wanted >= 0).any()):
                continue
            loss = _FADING**head * cross_entropy(heads.one(head, hidden), wanted)
            loss.backward(inputs=list(heads.parameters()))  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    return total


def _read(path: Path) -> tuple[Base, dict[str, torch.Tensor]]:
    """A file's base and weights.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not one of heads.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"{path} does not hold heads of this kind ({_FORMAT})")
            base = Base(**json.loads(metadata["base"]))
            return base, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold heads: {error}") from error


def _told(base: Base) -> str:
    name = base.name or "a model without a name"
    return f"{name} (hidden size {base.hidden_size:,}, {base.vocab_size:,} tokens)"


def _bar(wanted: bool | None) -> Progress:
    console = Console(stderr=True)
    shown = console.is_terminal if wanted is None else wanted
    columns_shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns_shown, TimeRemainingColumn(), console=console, transient=True, disable=not shown
    )
