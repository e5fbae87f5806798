"""A learned schedule: a small network that sees a block's confidences and says which tokens are final.

Training: each canvas is written once, one token a forward; that text is the reference.  Then it is
written again as an oracle would, which commits exactly the proposals that equal the reference (and the
reference's token at the most confident place where none does).  At every forward of that replay, the
confidences of the block are an input and "equals the reference" is the label of each open place.

Source: Bao et al. 2025, "Learning to Parallel: Accelerating Diffusion Large Language Models via Learnable
Parallel Decoding", sections 3.2 (filter) and 3.3 (end-of-text prediction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from samplers.diffusion.draft import Draft, Logits
from samplers.diffusion.schedule import Static, View
from samplers.tensor_files import TensorFileError, read_tensors, write_tensors

THRESHOLD: Final = 0.96
_FORMAT: Final = "gramma filter 1"
_WEIGHTS: Final = ("inner.weight", "inner.bias", "outer.weight", "outer.bias")
BLOCK: Final = 32
_RATE: Final = 3e-3
EPOCHS: Final = 200

Score: TypeAlias = Callable[[Draft], Logits]
"""float32[T, V] for a draft."""


class Filter(nn.Module):
    """Two layers from a block's confidences to a logit for each of its places.

    Args:
        block: places of a block.
        hidden: units between.
    """

    def __init__(self, block: int = BLOCK, hidden: int | None = None) -> None:
        super().__init__()
        self.block = block
        width = hidden or block
        self.inner = nn.Linear(block, width)
        self.outer = nn.Linear(width, block)

    def forward(self, confidence: Tensor) -> Tensor:
        """float32[B, block] to float32[B, block]."""
        out: Tensor = self.outer(torch.relu(self.inner(confidence)))
        return out

    def save(self, path: str | Path) -> None:
        """Writes the weights to a safetensors file."""
        write_tensors(path, _FORMAT, self.state_dict(), {})

    @classmethod
    def load(cls, path: str | Path) -> Filter:
        """Reads weights written by :meth:`save`.

        Raises:
            TensorFileError: if the file holds something else, or is damaged.
        """
        weights, _ = read_tensors(path, _FORMAT, "a filter", ())
        if set(weights) != set(_WEIGHTS) or weights["inner.weight"].ndim != 2:
            raise TensorFileError(f"{path} does not hold a filter: it has {sorted(weights)}")
        width, block = weights["inner.weight"].shape
        shapes = ((width, block), (width,), (block, width), (block,))
        for name, shape in zip(_WEIGHTS, shapes, strict=True):
            weight = weights[name]
            if weight.shape != shape or not min(shape) or not bool(weight.isfinite().all()):
                raise TensorFileError(f"{path} does not hold a filter: {name} will not do")
        made = cls(block, width)
        made.load_state_dict(weights)
        return made


@dataclass(frozen=True)
class Learn2PD:
    """Commits the places that a filter takes to be final, and the most confident one anyway.

    Attributes:
        filter: trained by :func:`train_filter` with blocks of the same length.
        threshold: of its probability.
        truncates: once an EOS is committed, the model is shown nothing behind it (end-of-text
            prediction): cheaper, and not quite what it would say with the rest in view.
    """

    filter: Filter
    threshold: float = THRESHOLD
    truncates: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold}: must be between 0 and 1")

    @torch.inference_mode()
    def choose(self, view: View) -> list[int]:
        """Final places, most confident first."""
        inputs = torch.from_numpy(features(view, self.filter.block))[None]
        final = torch.sigmoid(self.filter(inputs))[0].numpy() >= self.threshold
        ranked = view.ranked()
        return [i for i in ranked if final[i - view.block.start]] or ranked[:1]


def features(view: View, block: int) -> Logits:
    """float32[block]: confidences; 1 where a place is filled, 0 behind the canvas's end.

    Raises:
        ValueError: if the view's block is longer.
    """
    if len(view.block) > block:
        raise ValueError(
            f"the filter was trained for blocks of {block} places and the canvas's have "
            f"{len(view.block)}: give block_length={block}"
        )
    own = view.confidence[view.block.start : view.block.stop]
    out = np.zeros(block, np.float32)
    out[: len(own)] = np.where(np.isfinite(own), own, 1.0)
    return out


@dataclass(frozen=True)
class Trained:
    """How training went.

    Attributes:
        filter: the network.
        losses: mean cross-entropy over places, for each epoch.
        examples: blocks seen; ``places`` open ones in them, ``final`` of which equalled the reference.
    """

    filter: Filter
    losses: list[float]
    examples: int
    places: int
    final: int


def train_filter(
    drafts: Iterable[Draft],
    score: Score,
    *,
    block: int = BLOCK,
    epochs: int = EPOCHS,
    seed: int = 0,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Trained:
    """Trains a filter by imitation of an oracle; see the module.

    Args:
        drafts: canvases to write, not begun, with ``block_length`` of at most ``block``.
        score: what the model says of a draft.
        block: places of a block.
        epochs: passes over all blocks.
        seed: of the weights.
        on_epoch: called with the number of an epoch and its loss.

    Raises:
        ValueError: without a single open place.
    """
    inputs: list[Logits] = []
    labels: list[Logits] = []
    masks: list[Logits] = []
    for draft in drafts:
        for x, y, m in _replay(draft, score, block):
            inputs.append(x)
            labels.append(y)
            masks.append(m)
    if not inputs:
        raise ValueError("there is nothing to learn from: no canvas has an open place")
    seen, wanted, open_ = (torch.from_numpy(np.stack(p)) for p in (inputs, labels, masks))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Filter(block)
        optimizer = torch.optim.AdamW(made.parameters(), lr=_RATE)
        losses: list[float] = []
        for epoch in range(epochs):
            error = nn.functional.binary_cross_entropy_with_logits(
                made(seen), wanted, reduction="none"
            )
            loss = (error * open_).sum() / open_.sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
            if on_epoch is not None:
                on_epoch(epoch, losses[-1])
    return Trained(made, losses, len(inputs), int(open_.sum()), int((wanted * open_).sum()))


def _replay(draft: Draft, score: Score, block: int) -> Iterable[tuple[Logits, Logits, Logits]]:
    """(confidences, labels, which places are open) of each forward of the oracle's."""
    reference = _reference(draft.copy(), score)
    while not draft.is_done:
        judged = draft.judge(score(draft))
        view = draft.view(judged)
        start = view.block.start
        y, m = np.zeros(block, np.float32), np.zeros(block, np.float32)
        right = [i for i in judged.places if judged.tokens[i] == reference[i]]
        m[[i - start for i in judged.places]] = 1
        y[[i - start for i in right]] = 1
        yield features(view, block), y, m
        draft.commit_exactly({i: reference[i] for i in right or view.ranked()[:1]}, judged)


def _reference(draft: Draft, score: Score) -> Sequence[int]:
    schedule = Static()
    while not draft.is_done:
        draft.advance(score(draft), schedule)
    return draft.ids
