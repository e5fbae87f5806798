"""Attention of a prompt's last tokens to all of it, read while a model reads the prompt.

What ``output_attentions=True`` gives is the square of the prompt's length, for each head of each layer.
Here the model attends as it always does, and only the rows of the last queries are computed beside it:
[heads, queries, keys] of one layer at a time, from the queries and keys that the model itself has made.
A model that is needed for its first layers alone is left at the last of them, before its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from constrain.huggingface.attention import attending
from constrain.huggingface.writing import device_of
from constrain.models import context_length, text_config
from grammars.errors import BudgetError

Heard: TypeAlias = Callable[[int, torch.Tensor], None]
"""(layer, scores of the last queries before softmax, float32[heads, queries, keys])."""


class Enough(Exception):  # noqa: N818 - no error: the layers above are not needed
    """Raised at a layer's attention, to leave the model there."""


def last_scores(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    count: int,
) -> torch.Tensor:
    """Attention scores of the last queries, before softmax.

    Args:
        query: floating[1, H, N, D], of N tokens.
        key: floating[1, G, K, D]; G divides H (grouped-query attention); the last N are of the
            tokens that ask.
        mask: bool or additive [1, 1, N, K]; ``None``: each query sees the keys up to its own.
        scale: of the products.
        count: how many queries, from the end.

    Returns:
        float32[H, min(count, N), K]; minus infinity where a query does not see a key.
    """
    heads, new, width = query.shape[1:]
    groups, keys = key.shape[1:3]
    count = min(count, new)
    last = query[0, :, new - count :].reshape(groups, heads // groups * count, width)
    products = torch.bmm(last, key[0].transpose(1, 2)).float() * scale
    scores = products.view(heads, count, keys)
    if mask is None:
        at = torch.arange(keys, device=key.device)
        seen = at <= torch.arange(keys - count, keys, device=key.device)[:, None]
    else:
        rows = mask[0, 0, -count:, :keys]
        seen = rows if rows.dtype == torch.bool else rows > torch.finfo(rows.dtype).min / 2
    return scores.masked_fill(~seen, float("-inf"))


@contextmanager
def listening(model: Any, queries: int, heard: Heard) -> Iterator[list[int]]:
    """Within, ``heard`` is told the scores of the last queries of each layer of a forward.

    Args:
        model: of ``transformers``, one text at a time.
        queries: how many, from the end of what is read.
        heard: may raise :class:`Enough` to leave the model.

    Yields:
        The layers that have been heard.

    Raises:
        ValueError: for attention that is more than a softmax of products.
    """
    layers: list[int] = []

    def attention(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        wanted = [name for name in _MORE if options.get(name) is not None]
        if wanted:
            raise ValueError(f"attention with {wanted[0]} cannot be read for shorten=")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        layer = int(module.layer_idx)
        layers.append(layer)
        heard(layer, last_scores(query, key, mask, scale, queries))
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, mask, dropout=dropout, scaling=scaling, **options
        )
        return found

    with attending(model, attention):
        yield layers


_MORE: Final = ("softcap", "s_aux", "position_bias", "sinks")
"""What makes attention another function of the scores than softmax."""


def layers_of(model: Any) -> int:
    """How many layers a model has.

    Raises:
        ValueError: if its configuration does not say.
    """
    layers = getattr(text_config(model), "num_hidden_layers", None)
    if not isinstance(layers, int):
        raise ValueError(f"{type(model).__name__} does not say how many layers it has")
    return layers


def chosen_layer(model: Any, layer: int | None, depth: float) -> int:
    """A layer that was asked for, or the one at a share of the depth.

    Raises:
        ValueError: if the model has no such layer.
    """
    layers = layers_of(model)
    if layer is None:
        return round(depth * (layers - 1))
    if layer >= layers:
        raise ValueError(f"layer={layer}: the model has {layers}, from 0 to {layers - 1}")
    return layer


def scores_at(model: Any, ids: Sequence[int], queries: int, layer: int) -> torch.Tensor:
    """Scores of the last queries at one layer, before softmax, float32[heads, queries, keys].

    Raises:
        BudgetError, ValueError: as :func:`read_prompt`.
    """
    found: list[torch.Tensor] = []

    def heard(at: int, scores: torch.Tensor) -> None:
        if at == layer:
            found.append(scores)

    read_prompt(model, ids, queries, heard, layers=layer + 1)
    return found[0]


def read_prompt(
    model: Any, ids: Sequence[int], queries: int, heard: Heard, *, layers: int | None = None
) -> None:
    """Has a model read a prompt as far as a layer, and tells the scores of the last queries.

    Args:
        model: of ``transformers``.
        ids: of the prompt.
        queries, heard: as :func:`listening` takes them.
        layers: how many layers are told of; those above are not computed.  By default all.

    Raises:
        BudgetError: if the prompt exceeds the model's context.
        ValueError: if the model's attention cannot be read.
    """
    last = (layers_of(model) if layers is None else layers) - 1
    check_context(model, len(ids))

    def told(layer: int, scores: torch.Tensor) -> None:
        heard(layer, scores)
        if layer == last:
            raise Enough

    # without its head: logits of a long prompt are larger than all else
    body = getattr(model, "base_model", model)
    given = torch.tensor([list(ids)], device=device_of(model))
    with torch.no_grad(), listening(model, queries, told):
        try:
            body(input_ids=given, use_cache=False)
        except Enough:
            return
    raise ValueError(
        f"the attention of {type(model).__name__} cannot be read: it does not come from the registry of "
        "transformers"
    )


def check_context(model: Any, length: int) -> None:
    """Refuses prompts that a model cannot read.

    Raises:
        BudgetError: says how long the prompt is, and the context.
    """
    context = context_length(model)
    if context is not None and length > context:
        raise BudgetError(
            f"the prompt has {length:,} tokens, and the model that is to shorten it reads {context:,}; "
            "shorten the text, or give a filter whose model has a longer context",
            needed=length,
            available=context,
        )


def check_same_vocabulary(model: Any, draft: Any) -> None:
    """Refuses a draft whose tokens are not the model's.

    Raises:
        ValueError: says how many both have.
    """
    own, other = (getattr(text_config(one), "vocab_size", None) for one in (model, draft))
    if own != other:
        raise ValueError(
            f"the draft model has {other:,} tokens and the model {own:,}; a draft needs the same vocabulary"
        )
