"""Contiguous tokens that the model is sure of, drafted as one unit.

Sun et al. 2024, "Decoding at the Speed of Thought: Harnessing Parallel Decoding of Lexical Units for LLMs"
(arXiv 2405.15208, LREC-COLING 2024): behind the text stand padding tokens, at which the model says the
tokens after the next; those that follow each other with a probability of at least alpha are a *lexical unit*
and are written at once.  There the model itself is trained for it, and its texts change.

What is ours, so that nothing shows: the model is frozen.  One padding embedding is trained, with small
adapters (Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP" (arXiv 1902.00751)) before
some layers that act at padding positions alone.  A unit is a draft, a chain without branches as long as its
tokens are sure enough, and is verified.  Padding learns the model's laws at all places, not units marked in
a text: so its certainty means something where a unit ends, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import torch
from torch.nn.functional import silu

from samplers.drafters.base import Context
from samplers.drafters.learned.companion import CompanionDrafter, CompanionNetwork, layers_of
from samplers.drafters.learned.growing import Growth
from samplers.drafters.learned.prompt_tokens import STEP
from samplers.speculative.tree import ROOT

ALPHA: Final = 0.5
"""A drafted token has at least this probability: about where one is worth its place in a forward.  Units
that are not verified need more."""


class Padding(CompanionNetwork):
    """One embedding, and adapters.

    Args:
        model: the base model, built of ``model.layers`` as Llama is unless ``adapters`` is 0.
        ids: the shortened vocabulary.
        count: m, the longest unit.
        adapters: how many, evenly over the layers; 0 for none.
        rank: the width of each.
        most: positions of one row in one forward.
    """

    start: torch.Tensor

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor | None,
        *,
        count: int = 4,
        adapters: int = 6,
        rank: int = 32,
        most: int = 8,
    ) -> None:
        super().__init__(model, ids, count, 1, most)
        if adapters < 0 or rank < 1:
            raise ValueError(f"adapters={adapters}, rank={rank}: must not be negative")
        self._options = {"adapters": adapters, "rank": rank}
        layers, size = layers_of(model), self.base.hidden_size
        several = min(adapters, layers - 1)  # more of them would share layers
        at = {1 + i * (layers - 1) // several for i in range(several)}
        self._layers = (0, *sorted(at))
        rows = model.get_input_embeddings().weight.detach().float()
        self._scale = STEP * float(rows.square().mean().sqrt())
        self.register_buffer("start", rows[int(torch.randint(len(rows), ()))].clone())
        self.change = torch.nn.Parameter(torch.zeros_like(self.start))
        self.down = torch.nn.Parameter(torch.randn(len(at), size, rank) * size**-0.5)
        self.up = torch.nn.Parameter(torch.zeros(len(at), rank, size))

    @property
    def options(self) -> dict[str, Any]:
        """As the constructor takes them."""
        return {"count": self.count, "most": self.most, **self._options}

    @property
    def layers(self) -> Sequence[int]:
        """The embedding, and the layers with adapters."""
        return self._layers

    def at(
        self, layer: int, nodes: torch.Tensor, own: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """The padding's embedding, or what an adapter adds to its state."""
        if layer == 0:
            row: torch.Tensor = self.start + self._scale * self.change
            return row.expand(len(numbers), -1)
        number = self._layers.index(layer) - 1
        x = own.float()
        inside = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return x + silu(inside @ self.down[number]) @ self.up[number]


class LexicalUnits(CompanionDrafter):
    """Drafts lexical units.

    Args:
        network: trained, or not.
        growth: of its ``depth`` alone; by default units are as long as the network's.
        alpha: the probability from which on a token is part of a unit.

    :meth:`fit` takes the options of :class:`Padding`.

    Raises:
        ValueError: if ``alpha`` is not a probability.
    """

    name: ClassVar[str] = "lexical"
    kind: ClassVar[str] = "lexical-1"
    networks: ClassVar[type[CompanionNetwork]] = Padding

    def __init__(
        self,
        network: CompanionNetwork,
        *,
        growth: Growth | None = None,
        alpha: float = ALPHA,
    ) -> None:
        super().__init__(network, growth=growth or Growth(network.count, 1, 1))
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha}: must be a probability")
        self.alpha = alpha

    def draft(self, context: Context, hidden: torch.Tensor) -> None:
        """Adds a chain of the likeliest tokens, up to the first that is not sure enough."""
        node = ROOT
        for state in hidden[: self.growth.depth]:
            (guesses,) = self.network.output.ranked(context, [node], state[None], 1)
            if not guesses or guesses[0][1] < self.alpha:
                return
            token, probability = guesses[0]
            made = context.add(node, token, self.name, probability)
            if made is None:
                return
            node = made
