"""Trigrams and one layer over the whole context, then heads that build on each other.

Zeng et al. 2024, "Chimera: A Lossless Decoding Method for Accelerating Large Language Models Inference by
Fusing All Tokens" (arXiv 2402.15758), section 3: a *trigram encoder* of the last three tokens' embeddings
for what is near, one *full-context* layer for what is far, and *residual heads*, each of which adds to what
the head before it found.

What is ours: the full-context layer reads the model's last hidden states beside the trigrams and runs
once a tree; a head also reads the trigram that ends with its node's token, so that siblings get
different children (as in Ankner et al. 2024, "Hydra" (arXiv 2402.05109)).  A level of a tree then costs
two small products, no attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch.nn.functional import silu

from samplers.drafters.base import Context
from samplers.drafters.learned.features import last_norm, shape_of
from samplers.drafters.learned.growing import After
from samplers.drafters.learned.layers import Layer, Norm, linear
from samplers.drafters.learned.sequences import Memory, Network, Pass, SequenceDrafter
from samplers.speculative.tree import ROOT


class ChimeraNetwork(Network):
    """Encoder, layer and heads.

    Args:
        model: the base model.
        ids: the shortened vocabulary.
        count: heads, the deepest draft of which all is learned; deeper ones use the last.
        heads: of the layer's queries; the model's by default.
        groups: of its keys and values; the model's by default.
        inner: width of its gated unit; half the model's by default.

    Raises:
        ValueError: if ``count`` is not positive.
    """

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor | None,
        *,
        count: int = 4,
        heads: int | None = None,
        groups: int | None = None,
        inner: int | None = None,
    ) -> None:
        super().__init__(model, ids)
        if count < 1:
            raise ValueError(f"count={count}: at least one head is needed")
        shape = shape_of(model, heads, groups, inner)
        size = self.base.hidden_size
        self._options = {"count": count, **shape}
        self.of_feature, self.of_token = Norm(size), Norm(size)
        self.near, self.near_down = linear(3 * size, size), linear(size, size)
        self.far = linear(size, size)
        self.layer = Layer(size, shape["heads"], shape["groups"], shape["inner"])
        self.before = torch.nn.ModuleList(Norm(size) for _ in range(count))
        self.inside = torch.nn.ModuleList(linear(2 * size, size) for _ in range(count))
        self.added = torch.nn.ModuleList(linear(size, size, 0.2) for _ in range(count))
        self.last = Norm(size, last_norm(model))

    @property
    def options(self) -> dict[str, Any]:
        """As the constructor takes them."""
        return self._options

    def trigrams(self, embedded: torch.Tensor) -> torch.Tensor:
        """Encodings float32[n, H] of three tokens each, float32[n, 3 H]."""
        found: torch.Tensor = self.near_down(silu(self.near(embedded)))
        return found

    def embedded_triples(self, tokens: torch.Tensor, first: int) -> torch.Tensor:
        """Embeddings [n - 1 - first, 3 H] of the tokens at i - 1, i and i + 1, from i = ``first`` on.

        Before the first token there is nothing, which is embedded as zeros.
        """
        start = max(first - 1, 0)
        each = self.of_token(self.embedded(tokens[start:]))
        if first == 0:
            each = torch.cat([each.new_zeros(1, each.shape[1]), each])
        count = len(tokens) - 1 - first
        return torch.cat([each[i : i + count] for i in range(3)], -1)

    def inputs(self, hidden: torch.Tensor, tokens: torch.Tensor, first: int) -> torch.Tensor:
        """Features and trigrams, added."""
        near = self.trigrams(self.embedded_triples(tokens, first))
        found: torch.Tensor = self.far(self.of_feature(hidden)) + near
        return found

    def head(self, number: int, state: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """What a head makes of the state before it and the trigram at its node."""
        at = min(number, len(self.before) - 1)
        x = torch.cat([self.before[at](state), near], -1)
        found: torch.Tensor = state + self.added[at](silu(self.inside[at](x)))
        return found

    def passes(self, hidden: torch.Tensor, tokens: torch.Tensor, depth: int) -> list[Pass]:
        """Each builds on the state of the one before it, one position earlier."""
        count = len(tokens) - 2
        positions = torch.arange(count, device=hidden.device)
        near = self.trigrams(self.embedded_triples(tokens[:-1], 0))
        x = self.far(self.of_feature(hidden[:count])) + near
        mask = positions[None] <= positions[:, None]
        queries, pair = self.layer.parts(x, positions)
        state = self.layer.attend(x, queries, pair, mask)
        made: list[Pass] = []
        for number in range(depth):
            if number:
                state = torch.cat([torch.zeros_like(state[:1]), state[:-1]])
            state = self.head(number, state, near)
            made.append(Pass(self.last(state)))
        return made

    def beginning(self, context: Context, memory: Memory) -> After:
        """Nodes go through the head of their depth; their parents' states are kept."""
        root = memory.root
        assert root is not None
        tree, tokens = context.tree, context.tokens
        states: dict[int, torch.Tensor] = {}

        def triple(node: int) -> list[int]:
            return [*tokens[-3:], *tree.tokens_to(node)][-3:]

        def after(nodes: Sequence[int]) -> torch.Tensor:
            near = self._near([triple(node) for node in nodes], root)
            if list(nodes) == [ROOT]:
                made = self.head(0, root, near)
            else:
                before = torch.stack([states[tree.nodes[node].parent] for node in nodes])
                made = self.head(tree.depth(nodes[0]), before, near)
            states.update(zip(nodes, made, strict=True))
            said: torch.Tensor = self.last(made)
            return said

        return after

    def _near(self, triples: Sequence[Sequence[int]], like: torch.Tensor) -> torch.Tensor:
        """Encodings of the last three tokens on each way."""
        rows = []
        for triple in triples:
            each = self.of_token(self.embedded(torch.tensor(list(triple), device=like.device)))
            if len(triple) < 3:
                each = torch.cat([each.new_zeros(3 - len(triple), each.shape[1]), each])
            rows.append(each.flatten())
        return self.trigrams(torch.stack(rows))


class Chimera(SequenceDrafter):
    """Drafts with a trigram encoder, one layer over the context and residual heads.

    Args:
        network: trained, or not.
        growth: how far trees grow.

    :meth:`fit` takes the options of :class:`ChimeraNetwork`.
    """

    name: ClassVar[str] = "chimera"
    kind: ClassVar[str] = "chimera-1"
    networks: ClassVar[type[Network]] = ChimeraNetwork
