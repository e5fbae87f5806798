"""Companion positions: extra places of a forward that say what may come after next.

A companion stands behind a node of a draft tree (or behind its root) in the same forward that scores the
tree.  It sees its node's path and the companions before it, and nothing real sees it: so all that is scored
is what it would be without companions.  Its keys and values are never kept.  What it is given instead of a
token's embedding is trained: the prompt tokens of Chen et al. 2024, "Hardware-Aware Parallel Prompt
Decoding" (arXiv 2405.18628), the pseudo hidden states of Wu et al. 2024, "Parallel Decoding via Hidden
Transfer" (arXiv 2404.12022).  That both are one mechanism, states put into some layers, is our reading.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch


class Companions(Protocol):
    """What is put into a model at companion positions.

    Attributes:
        count: m, companions one behind the other at most: the first is one position behind its node.
        strands: rows of companions behind one node, side by side, that do not see each other.
        layers: before which layers something is put in, ascending; 0 is the input embedding.  A companion
            goes through the layers before the first of them for nothing.
        most: companion positions of one row in one forward, at most.
    """

    @property
    def count(self) -> int: ...
    @property
    def strands(self) -> int: ...
    @property
    def layers(self) -> Sequence[int]: ...
    @property
    def most(self) -> int: ...

    def at(
        self, layer: int, nodes: torch.Tensor, own: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """States that go into a layer.

        Args:
            layer: one of ``layers``.
            nodes: floating[c, H], the states of the companions' nodes there.
            own: floating[c, H], those of the companions themselves.
            numbers: int64[c], which companion each is: strand * count + place behind the node, from 0.

        Returns:
            floating[c, H], instead of ``own``.
        """


@dataclass(frozen=True)
class Attached:
    """Companions of one node.

    Attributes:
        node: of the tree, or ``ROOT``.
        count: of each strand, from 1 to ``Companions.count``.
    """

    node: int
    count: int


@dataclass(frozen=True)
class Places:
    """Where the companions of a forward stand.

    Attributes:
        rows, columns: int64[c], of each companion.
        nodes: int64[c], the column of its node; without meaning where ``states`` are given.
        numbers: int64[c], see :meth:`Companions.at`.
        states: floating[c, H] of the nodes, by layer, where they are not in this forward.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    nodes: torch.Tensor
    numbers: torch.Tensor
    states: Mapping[int, torch.Tensor] | None = None


@contextmanager
def inserting(model: Any, companions: Companions, places: Places) -> Iterator[None]:
    """Within, forwards of the model in this thread have companions at some places.

    Raises:
        ValueError: see :func:`decoder_layers`.
    """
    thread = threading.get_ident()
    handles = []
    try:
        for layer in companions.layers:
            put = partial(_put, companions, places, layer, thread)
            if layer:
                module = decoder_layers(model)[layer]
                handles.append(module.register_forward_pre_hook(_before(put), with_kwargs=True))
            else:
                module = model.get_input_embeddings()
                handles.append(module.register_forward_hook(_behind(put)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _put(
    companions: Companions, places: Places, layer: int, thread: int, hidden: torch.Tensor
) -> torch.Tensor:
    if threading.get_ident() != thread:
        return hidden  # another thread uses the same model
    own = hidden[places.rows, places.columns]
    if places.states is None:
        nodes = hidden[places.rows, places.nodes]
    else:
        nodes = places.states[layer]
    made = companions.at(layer, nodes, own, places.numbers).to(hidden.dtype)
    return hidden.index_put((places.rows, places.columns), made)


def _before(put: Any) -> Any:
    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (put(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": put(kwargs["hidden_states"])}

    return hook


def _behind(put: Any) -> Any:
    def hook(_: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = put(output)
        return found

    return hook


def decoder_layers(model: Any) -> Any:
    """The layers of a model that is built as Llama is.

    Raises:
        ValueError: if it is not.
    """
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None:
        raise ValueError(f"{type(model).__name__} is not built of model.layers, as Llama is")
    return layers
