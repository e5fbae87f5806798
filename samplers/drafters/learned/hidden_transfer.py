"""Hidden states of the next tokens, made of the last one's within the model.

Wu et al. 2024, "Parallel Decoding via Hidden Transfer for Lossless Large Language Model Acceleration" (arXiv
2404.12022): at a layer of the model, trained linear maps make of the hidden state of the last token *pseudo
hidden states* of the tokens to come; these go through the layers after it together with the others, so that
they take in the context, and what the model says there is the draft.

What is ours: all maps are at one layer; they begin as the identity; they learn the model's laws, not its
hidden states; which nodes have such positions is chosen as in ``prompt_tokens``.
Positions of a forward are the same in all layers, so that they go through those before the maps for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import torch

from samplers.drafters.learned.companion import CompanionDrafter, CompanionNetwork
from samplers.speculative.companions import decoder_layers

_STEP: Final = 2.0
"""How much further maps go with the learning rates of other networks: in ten steps of a small Llama they
learned more with three times those rates than with the same, and hardly anything with a quarter."""


class Transfers(CompanionNetwork):
    """Linear maps of hidden states.

    Args:
        model: the base model, built of ``model.layers`` as Llama is.
        ids: the shortened vocabulary.
        count: m.
        layer: before which they are; half of the model's by default.
        most: positions of one row in one forward.

    Raises:
        ValueError: if there is no such layer, or the model is built otherwise.
    """

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor | None,
        *,
        count: int = 3,
        layer: int | None = None,
        most: int = 12,
    ) -> None:
        super().__init__(model, ids, count, 1, most)
        known = len(decoder_layers(model))
        self.layer = known // 2 if layer is None else layer
        if not 0 < self.layer < known:
            raise ValueError(f"layer={layer}: must be from 1 to {known - 1}")
        size = self.base.hidden_size
        self.maps = torch.nn.Parameter(torch.zeros(count, size, size))
        self.added = torch.nn.Parameter(torch.zeros(count, size))

    @property
    def options(self) -> dict[str, Any]:
        """As the constructor takes them."""
        return {"count": self.count, "layer": self.layer, "most": self.most}

    @property
    def layers(self) -> Sequence[int]:
        """The one layer."""
        return (self.layer,)

    def at(
        self, layer: int, nodes: torch.Tensor, own: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """Each place's map of its node's state."""
        x = nodes.float()
        moved = torch.einsum("ch,mhk->cmk", x, self.maps) + self.added
        each = x[:, None] + _STEP * moved
        return each[torch.arange(len(x), device=x.device), numbers]


class HiddenTransfer(CompanionDrafter):
    """Drafts with pseudo hidden states.

    Args:
        network: trained, or not.
        growth: how far trees grow.

    :meth:`fit` takes the options of :class:`Transfers`.
    """

    name: ClassVar[str] = "hidden"
    kind: ClassVar[str] = "hidden-1"
    networks: ClassVar[type[CompanionNetwork]] = Transfers
