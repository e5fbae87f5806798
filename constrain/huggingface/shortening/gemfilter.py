"""One early layer of a model says which tokens of a long prompt the whole model should read.

Shi et al. 2024, "Discovering the Gems in Early Layers: Accelerating Long-Context LLMs with 1000x Input
Token Reduction" (arXiv 2409.17422), Algorithm 1: the first layers read the whole prompt; at layer r the
products of the last token's query with all keys are summed over the heads; the k tokens with the largest
sums, in their order, are a new, shorter prompt, which the whole model reads from its beginning.  As in the
authors' program, the sums are averaged over five neighbouring tokens before.

Ours are: what is not the document is always kept; whole lines may be kept instead of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from constrain.arguments import check_count
from constrain.huggingface.shortening.filters import LongPrompt, selected
from constrain.huggingface.shortening.importance import chosen_layer, scores_at
from constrain.huggingface.shortening.selection import Pool, Unit, check_selection, pooled

DEFAULT_KEEP: Final = 1024
_DEPTH: Final = 0.4
"""Of the layer where none is given: the paper takes the 13th of 32, and the 19th of 40."""


@dataclass(frozen=True)
class GemFilter:
    """Keeps the tokens that the last token attends to at an early layer of the model.  Lossy.

    Attributes:
        keep: tokens of the document that are kept at most.
        layer: whose attention is read, the first is 0; those above do not read the whole prompt.  By
            default at two fifths of the depth.
        unit: ``"lines"`` keeps or drops whole lines, by the mean of their tokens; ``"tokens"`` single
            tokens, as the paper does.
        kernel: tokens over which the products are smoothed; 1: not at all.
        pool: how: ``"avg"`` or ``"max"``.

    Raises:
        TypeError, ValueError: for arguments out of range.
    """

    keep: int = DEFAULT_KEEP
    layer: int | None = None
    unit: Unit = "lines"
    kernel: int = 5
    pool: Pool = "avg"

    def __post_init__(self) -> None:
        check_count(self.layer, "layer", least=0, optional=True)
        check_selection(self.keep, self.unit, self.kernel, self.pool)

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        """Positions of the document that are kept, ascending.

        Raises:
            BudgetError: if the prompt exceeds the model's context.
            ValueError: if the model has no such layer, or its attention cannot be read.
        """
        return selected(self.importance(model, prompt), prompt, self.keep, self.unit)

    def importance(self, model: Any, prompt: LongPrompt) -> torch.Tensor:
        """The last token's products with each token's key, summed and smoothed, float32[len(prompt.ids)]."""
        layer = chosen_layer(model, self.layer, _DEPTH)
        return self.weighed(scores_at(model, prompt.ids, 1, layer))

    def weighed(self, scores: torch.Tensor) -> torch.Tensor:
        """The same from a layer's scores, float32[heads, 1, tokens]."""
        return torch.from_numpy(pooled(scores[:, -1].sum(0).cpu().numpy(), self.kernel, self.pool))
