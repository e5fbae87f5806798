"""A small draft model says which tokens of a long prompt the model should read.

Galim et al. 2025, "Draft-based Approximate Inference for LLMs" (arXiv 2506.08373), SpecPC: the attention
of the draft's last tokens, and of those that it would write next, to the prompt; later queries weigh more;
the largest over layers, heads and queries counts; smoothed over neighbours; the best tokens are kept with
those around them.  Defaults are those of the authors' program, where the window is of 64 tokens, and
nothing is written ahead.

Ours are: the draft may be the model's own first layers; what is not the document is always kept; whole
lines may be kept instead of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from constrain.arguments import check_count, check_model
from constrain.huggingface.shortening.filters import LongPrompt, selected
from constrain.huggingface.shortening.gemfilter import DEFAULT_KEEP
from constrain.huggingface.shortening.importance import (
    check_context,
    check_same_vocabulary,
    layers_of,
    listening,
    read_prompt,
)
from constrain.huggingface.shortening.selection import Pool, Unit, check_selection, pooled
from constrain.huggingface.writing import device_of


@dataclass(frozen=True)
class SpecPC:
    """Keeps the tokens that a draft's last tokens attend to, at whatever layer and head.  Lossy.

    Attributes:
        keep: tokens of the document that are kept at most.
        draft: a causal language model of ``transformers`` with the model's vocabulary; ``None``: the model's
            own first layers.
        layers: how many of the draft's layers read the prompt, from the first; by default all.
        skip: layers at the beginning whose attention does not count: early ones attend to many tokens.
        window: tokens at the end of the prompt whose attention counts.
        lookahead: tokens that the draft writes behind the prompt, greedily, whose attention counts too.
        unit: ``"lines"`` keeps or drops whole lines, by the mean of their tokens; ``"tokens"`` single
            tokens with their neighbours, as the paper does.
        kernel: tokens over which attention is smoothed, and neighbours that are kept with a token.
        pool: how: ``"max"`` or ``"avg"``.

    Raises:
        TypeError, ValueError: for arguments out of range; for ``lookahead`` with ``layers``, as the first
            layers alone write nothing.
    """

    keep: int = DEFAULT_KEEP
    draft: Any = field(default=None, repr=False)
    layers: int | None = None
    skip: int = 0
    window: int = 64
    lookahead: int = 0
    unit: Unit = "lines"
    kernel: int = 64
    pool: Pool = "max"

    def __post_init__(self) -> None:
        check_selection(self.keep, self.unit, self.kernel, self.pool)
        check_count(self.layers, "layers", optional=True)
        check_count(self.skip, "skip", least=0)
        check_count(self.window, "window")
        check_count(self.lookahead, "lookahead", least=0)
        if self.draft is not None:
            check_model(self.draft, "SpecPC")
        if self.lookahead and self.layers is not None:
            raise ValueError("lookahead needs all layers of the draft; leave layers out")

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        """Positions of the document that are kept, ascending.

        Raises:
            BudgetError: if the prompt exceeds the draft's context.
            ValueError: if the draft has another vocabulary or not so many layers, or its attention cannot be
                read.
        """
        scores = self.importance(model, prompt)
        return selected(scores, prompt, self.keep, self.unit, self.kernel)

    def importance(self, model: Any, prompt: LongPrompt) -> torch.Tensor:
        """The largest weight that a query gives each token, smoothed, float32[len(prompt.ids)]."""
        ids = prompt.ids
        draft = model if self.draft is None else self.draft
        check_same_vocabulary(model, draft)
        layers = self._layers(draft)
        most = torch.zeros(len(ids), device=device_of(draft))

        def heard(layer: int, scores: torch.Tensor) -> None:
            if layer < self.skip:
                return
            count = scores.shape[1]
            weights = scores.softmax(-1)
            if count > 1:  # the last query counts whole, the first of the window nothing
                weights *= torch.linspace(0, 1, count, device=weights.device)[:, None]
            torch.maximum(most, weights[..., : len(ids)].amax((0, 1)), out=most)

        if self.lookahead:
            self._write(draft, ids, heard)
        else:
            read_prompt(draft, ids, self.window, heard, layers=layers)
        return torch.from_numpy(pooled(most.cpu().numpy(), self.kernel, self.pool))

    def _write(self, draft: Any, ids: Sequence[int], heard: Any) -> None:
        """The draft reads the prompt and goes on with it, and is listened to meanwhile."""
        check_context(draft, len(ids) + self.lookahead)
        given = torch.tensor([list(ids)], device=device_of(draft))
        cache: Any = None
        with torch.no_grad(), listening(draft, self.window, heard) as layers:
            for _ in range(self.lookahead + 1):
                out = draft(
                    input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=1
                )
                given, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        if not layers:
            raise ValueError(f"the attention of {type(draft).__name__} cannot be read")

    def _layers(self, draft: Any) -> int:
        count = layers_of(draft)
        if self.layers is not None and self.layers > count:
            raise ValueError(f"layers={self.layers}: the draft has {count}")
        layers = count if self.layers is None else self.layers
        if self.skip >= layers:
            raise ValueError(f"skip={self.skip}: of {layers} layers none would count")
        return layers
