"""Trained prompt tokens behind a text: the model's guesses there are the next draft.

Chen et al. 2024, "Hardware-Aware Parallel Prompt Decoding for Memory-Efficient Acceleration of LLM
Inference" (arXiv 2405.18628).  The only weights are the embeddings of m prompt tokens: a few
kilobytes beside a frozen model.  Prompt tokens stand behind nodes of the tree that is verified, so that the
same forward verifies one draft and guesses the next.  *Ensemble prompt tokens* are several embeddings for
each place, which do not see each other and whose logits are averaged (``strands``).  They are trained by
distillation, where they are put behind random tokens.

What is ours: the *dynamic sparse tree* is not laid out beforehand for each number of prompt
tokens.  At each step the schedule chooses the nodes of the tree and how many prompt tokens stand behind
which of them, by acceptance and by the time of forwards as measured on this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import torch

from samplers.drafters.learned.companion import CompanionDrafter, CompanionNetwork

STEP: Final = 30.0
"""A change of one in the weights changes embeddings by so many times their own size: embeddings are few and
learn slowly with the learning rates of networks."""


class PromptTokens(CompanionNetwork):
    """Embeddings of prompt tokens; they begin as those of random tokens.

    Args:
        model: the base model.
        ids: the shortened vocabulary.
        count: m.
        strands: embeddings for each place.
        most: positions of one row in one forward.
    """

    start: torch.Tensor

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor | None,
        *,
        count: int = 3,
        strands: int = 1,
        most: int = 12,
    ) -> None:
        super().__init__(model, ids, count, strands, most)
        rows = model.get_input_embeddings().weight.detach()
        some = torch.randint(len(rows), (strands * count,)).to(rows.device)
        self.register_buffer("start", rows[some].float().clone())
        self._scale = STEP * float(rows.float().square().mean().sqrt())
        self.change = torch.nn.Parameter(torch.zeros_like(self.start))

    @property
    def options(self) -> dict[str, Any]:
        """As the constructor takes them."""
        return {"count": self.count, "strands": self.strands, "most": self.most}

    @property
    def layers(self) -> Sequence[int]:
        """Instead of the embeddings of tokens."""
        return (0,)

    def at(
        self, layer: int, nodes: torch.Tensor, own: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """The embedding of each place, whatever its node is."""
        found: torch.Tensor = (self.start + self._scale * self.change)[numbers]
        return found


class PPD(CompanionDrafter):
    """Drafts with trained prompt tokens.

    Args:
        network: trained, or not.
        growth: how far trees grow.

    :meth:`fit` takes the options of :class:`PromptTokens`.
    """

    name: ClassVar[str] = "ppd"
    kind: ClassVar[str] = "ppd-1"
    networks: ClassVar[type[CompanionNetwork]] = PromptTokens
