"""One decoder layer guesses the model's next hidden state, and the token after it.

Li et al. 2024, "EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty" (arXiv 2401.15077),
section 4: the feature of the model's last layer at t, joined with the embedding of the token at t + 1,
goes through one decoder layer that guesses the feature at t + 1; the model's own output embedding makes
logits of it, and drafts go on from guessed features.

Gui et al. 2024, "Boosting Lossless Speculative Decoding via Feature Sampling and Partial Alignment
Distillation" (FSPAD, arXiv 2408.15562), adds two things.  *Feature sampling*: a feature does not know
which token was drawn from it, so the token's embedding chooses from the feature in a wider space; here a
gate of the token times a projection of the feature.  *Partial alignment*: features and logits are drawn
apart, so that the loss of one does not hinder the other; here logits are made of the guessed feature
plus a projection of it that starts at zero.  Without both it is EAGLE.

Trained here as it drafts, from its own guesses several tokens deep (Zhang et al. 2024, "Learning
Harmonized Representations for Speculative Sampling" (arXiv 2408.15766), section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import silu

from constrain.models import text_config
from samplers.drafters.base import Context
from samplers.drafters.learned.growing import After
from samplers.drafters.learned.layers import Layer, Norm, Pair, linear
from samplers.drafters.learned.products import Linear
from samplers.drafters.learned.sequences import Memory, Network, Pass, SequenceDrafter
from samplers.speculative.tree import ROOT


class FeatureNetwork(Network):
    """The layer, what comes into it and what is made of what comes out.

    Args:
        model: the base model.
        ids: the shortened vocabulary.
        wide: width of the space in which a token chooses from a feature, in hidden sizes; 0 for none.
        apart: whether logits have a projection of their own.
        heads: of the layer's queries; the model's by default.
        groups: of its keys and values; the model's by default.
        inner: width of its gated unit; half the model's by default.
    """

    def __init__(
        self,
        model: Any,
        ids: torch.Tensor | None,
        *,
        wide: int = 1,
        apart: bool = True,
        heads: int | None = None,
        groups: int | None = None,
        inner: int | None = None,
    ) -> None:
        super().__init__(model, ids)
        shape = shape_of(model, heads, groups, inner)
        size = self.base.hidden_size
        self._options = {"wide": wide, "apart": apart, **shape}
        self.of_feature, self.of_token = Norm(size), Norm(size)
        self.joined = linear(2 * size, size)
        self.wide, self.apart = wide, apart
        if wide:
            self.chosen = linear(size, wide * size)
            self.choosing = linear(size, wide * size)
            self.taken = linear(wide * size, size, 0.5)
        self.layer = Layer(size, shape["heads"], shape["groups"], shape["inner"])
        self.last = Norm(size, last_norm(model))
        if apart:
            self.own = Linear(size, size)
            torch.nn.init.zeros_(self.own.weight)

    @property
    def options(self) -> dict[str, Any]:
        """As the constructor takes them."""
        return self._options

    def inputs(self, hidden: torch.Tensor, tokens: torch.Tensor, first: int) -> torch.Tensor:
        """Features joined with the tokens after them."""
        return self._joined(hidden, self.embedded(tokens[first + 1 :]))

    def _joined(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        features, tokens = self.of_feature(features), self.of_token(tokens)
        x: torch.Tensor = self.joined(torch.cat([features, tokens], -1))
        if self.wide:
            x = x + self.taken(silu(self.choosing(tokens)) * self.chosen(features))
        return x

    def _said(self, out: torch.Tensor) -> Pass:
        feature = self.last(out)
        return Pass(feature + self.own(feature) if self.apart else feature, feature)

    def passes(self, hidden: torch.Tensor, tokens: torch.Tensor, depth: int) -> list[Pass]:
        """Each reads what the one before it guessed; it sees the model's features up to there."""
        count = len(tokens) - 2
        positions = torch.arange(count, device=hidden.device)
        embedded = self.embedded(tokens[1:-1])
        features = hidden[:count]
        made: list[Pass] = []
        pairs: list[Pair] = []
        for number in range(min(depth, count)):
            if made:
                guessed = made[-1].feature
                assert guessed is not None
                features = torch.cat([guessed.new_zeros(1, guessed.shape[1]), guessed[:-1]])
            x = self._joined(features, embedded)
            queries, pair = self.layer.parts(x, positions)
            pairs.append(pair)
            mask = positions[None] <= positions[:, None] - number
            mask[:number, 0] = True  # places that mean nothing see something
            own = tuple(_later(pairs[i], number - i) for i in range(1, number + 1))
            made.append(self._said(self.layer.attend(x, queries, pairs[0], mask, own)))
        return made

    def beginning(self, context: Context, memory: Memory) -> After:
        """Nodes go through the layer, a level at a time; they see the context and their ancestors."""
        return _Going(self, context, memory).after

    def joining(self, features: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
        """Inputs of nodes, from the features before them and their tokens."""
        ids = torch.tensor(list(tokens), device=features.device)
        return self._joined(features, self.embedded(ids))

    def said(self, out: torch.Tensor) -> Pass:
        """What is made of the layer's outputs."""
        return self._said(out)


def _later(pair: Pair, places: int) -> Pair:
    """Keys and values so many places further on: what a position sees of an earlier one."""
    keys, values = (torch.cat([x[:1].expand(places, -1, -1), x[: len(x) - places]]) for x in pair)
    return keys, values


class _Going:
    """One tree's features, keys and values; these stand behind those of the row.

    ``_numbers`` has nodes in the order in which they went through the layer.
    """

    def __init__(self, network: FeatureNetwork, context: Context, memory: Memory) -> None:
        self._network, self._context = network, context
        assert memory.root is not None
        said = network.said(memory.root)
        assert said.feature is not None
        self._root = said
        self._features: dict[int, torch.Tensor] = {ROOT: said.feature[0]}
        self._memory = memory
        self._numbers: dict[int, int] = {}

    def after(self, nodes: Sequence[int]) -> torch.Tensor:
        """States after the nodes of one level; the root's is known."""
        if list(nodes) == [ROOT]:
            return self._root.y
        tree, network = self._context.tree, self._network
        features = torch.stack([self._features[tree.nodes[node].parent] for node in nodes])
        x = network.joining(features, [tree.nodes[node].token for node in nodes])
        depths = torch.tensor([tree.nodes[node].depth for node in nodes], device=x.device)
        positions = self._memory.places - 1 + depths
        queries, pair = network.layer.parts(x, positions)
        seen = self._memory.behind(len(self._numbers), pair)
        for node in nodes:
            self._numbers[node] = len(self._numbers)
        mask = np.zeros((len(nodes), len(self._numbers)), np.bool_)
        for row, node in zip(mask, nodes, strict=True):
            row[[self._numbers[one] for one in tree.path(node)]] = True
        seers = torch.from_numpy(mask).to(x.device)
        said = network.said(network.layer.attend(x, queries, seen, seers))
        assert said.feature is not None
        for node, feature in zip(nodes, said.feature, strict=True):
            self._features[node] = feature
        return said.y


class FSPAD(SequenceDrafter):
    """Drafts with one decoder layer at the level of features.

    Args:
        network: trained, or not.
        growth: how far trees grow.

    :meth:`fit` takes the options of :class:`FeatureNetwork`; ``wide=0, apart=False`` is EAGLE.
    """

    name: ClassVar[str] = "fspad"
    kind: ClassVar[str] = "fspad-1"
    networks: ClassVar[type[Network]] = FeatureNetwork
    align: ClassVar[float] = 0.5


def shape_of(
    model: Any, heads: int | None, groups: int | None, inner: int | None
) -> dict[str, int]:
    """Numbers of a layer: the model's heads and half its width where none are given.

    A draft's layer reads its weights for a few tokens, so that its time is their number.
    """
    config = text_config(model)
    own = int(config.num_attention_heads)
    chosen = heads or own
    theirs = int(getattr(config, "num_key_value_heads", None) or own)
    size = int(config.hidden_size)
    wide = int(getattr(config, "intermediate_size", None) or 4 * size)
    return {
        "heads": chosen,
        "groups": groups or (theirs if chosen == own else chosen),
        "inner": inner or wide // 2,
    }


def last_norm(model: Any) -> torch.Tensor | None:
    """The weight of the model's norm before its output embedding, if it has one of that name."""
    inside = getattr(model, "base_model", None)
    for name in ("norm", "ln_f", "final_layer_norm", "final_layernorm"):
        weight = getattr(getattr(inside, name, None), "weight", None)
        if weight is not None:
            found: torch.Tensor = weight.detach()
            return found
    return None
