"""The question, read once more behind a long document, says which parts of it the model should read.

Our own reading of GemFilter and SpecPC.  In an extraction's prompt the question stands before the
document: the last token of the prompt is a mark of the chat template, and at an early layer it knows little
of what was asked.  So the prompt is read with all that is not the document behind it once more; all tokens
of that ask, at one layer, as SpecPC's window does; the largest weight over heads and tokens counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from constrain.arguments import check_count
from constrain.huggingface.shortening.filters import LongPrompt, selected
from constrain.huggingface.shortening.gemfilter import DEFAULT_KEEP
from constrain.huggingface.shortening.importance import chosen_layer, scores_at
from constrain.huggingface.shortening.selection import Pool, Unit, check_selection, pooled

_DEPTH: Final = 0.5
"""Of the layer where none is given: ``benchmarks/long_inputs.py --what recall``, documents to tune on."""


@dataclass(frozen=True)
class AskAgain:
    """Keeps what the question attends to when it is read behind the document, too.  Lossy.

    Attributes:
        keep: tokens of the document that are kept at most.
        layer: whose attention is read, the first is 0; those above do not read the whole prompt.  By
            default in the middle.
        unit: ``"lines"`` keeps or drops whole lines, by the mean of their tokens; ``"tokens"`` single
            tokens.
        kernel: tokens over which the weights are smoothed; 1: not at all.
        pool: how: ``"max"`` or ``"avg"``.

    Raises:
        TypeError, ValueError: for arguments out of range.
    """

    keep: int = DEFAULT_KEEP
    layer: int | None = None
    unit: Unit = "lines"
    kernel: int = 64
    pool: Pool = "max"

    def __post_init__(self) -> None:
        check_count(self.layer, "layer", least=0, optional=True)
        check_selection(self.keep, self.unit, self.kernel, self.pool)

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        """Positions of the document that are kept, ascending.

        Raises:
            BudgetError: if prompt and question together exceed the model's context.
            ValueError: if the model has no such layer, or its attention cannot be read.
        """
        return selected(self.importance(model, prompt), prompt, self.keep, self.unit)

    def importance(self, model: Any, prompt: LongPrompt) -> torch.Tensor:
        """The largest weight that the question gives each token, smoothed, float32[len(prompt.ids)]."""
        ids, question = list(prompt.ids), question_of(prompt)
        layer = chosen_layer(model, self.layer, _DEPTH)
        scores = scores_at(model, ids + question, len(question), layer)
        return self.weighed(scores, len(ids))

    def weighed(self, scores: torch.Tensor, count: int) -> torch.Tensor:
        """The same from a layer's scores.

        Args:
            scores: of the question's queries, float32[heads, queries, keys].
            count: keys that are of the prompt, the first.
        """
        most = scores.softmax(-1)[..., :count].amax((0, 1))
        return torch.from_numpy(pooled(most.cpu().numpy(), self.kernel, self.pool))


def question_of(prompt: LongPrompt) -> list[int]:
    """What of a prompt is not its document."""
    ids = list(prompt.ids)
    return ids[: prompt.document.start] + ids[prompt.document.stop :]
