"""Attention over a prefix that all rows share (Hydragen: Juravsky et al. 2024, arXiv 2402.05099).

Texts drawn from one prompt have its keys and values in common.  They are held once; the queries of all
rows meet them in one product, each row's queries meet the row's own keys in another, and the two
results become one softmax by their normalisers (there section 3.1): with l the logarithm of the sum of
exponentials, the first counts e^l1 / (e^l1 + e^l2).  That is attention over both, up to rounding.

The function takes the place of a model's attention for the length of one forward
(:mod:`constrain.huggingface.attention`).  Models whose attention does not come by that way are noticed, and
their rows get copies of the prefix instead.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from constrain.huggingface.attention import NAME, attending
from constrain.models import text_config

KeysAndValues: TypeAlias = tuple[torch.Tensor, torch.Tensor]

_FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_TYPES: Final = (torch.float32, torch.float64, torch.bfloat16)
_KNOWN: Final = {
    *("module", "query", "key", "value", "attention_mask"),
    *("dropout", "scaling", "is_causal", "cache", "kwargs"),  # the cache is ours
}
_OTHERS: Final = {"softcap", *inspect.signature(sdpa_attention_forward).parameters} - _KNOWN
"""What else ``sdpa`` looks at, in one version or another: with any of them its formula is not ours."""


class PrefixNotSeen(Exception):  # noqa: N818 - what happened, caught by the scorer
    """A model's attention did not ask for the prefix, or does more than the plain formula."""


# -- the arithmetic ------------------------------------------------------------------------------


def attention_part(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention with the logarithm of its normaliser.

    Args:
        query: floating[rows, heads, M, D].
        key, value: floating[rows, heads, K, D].
        mask: what is added to the scores, floating[rows or 1, 1, M, K]; ``None`` for nothing.
        scale: of the scores.

    Returns:
        floating[rows, heads, M, D], and float32 (float64 for such queries) [rows, heads, M].
    """
    is_flash = _FLASH is not None and query.device.type == "cpu" and query.dtype in _FLASH_TYPES
    if is_flash and key.shape[-1] == value.shape[-1]:
        found: tuple[torch.Tensor, torch.Tensor] = _FLASH(
            query, key, value, 0.0, False, attn_mask=mask, scale=scale
        )
        return found
    return explicit_part(query, key, value, mask, scale)


def explicit_part(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with all scores in memory, where no kernel tells the normaliser."""
    precise = torch.promote_types(query.dtype, torch.float32)
    scores = torch.matmul(query, key.transpose(-1, -2)).to(precise) * scale
    if mask is not None:
        scores = scores + mask
    top = scores.amax(-1, keepdim=True)
    scores = (scores - top).exp_()
    total = scores.sum(-1, keepdim=True)
    out = torch.matmul((scores / total).to(value.dtype), value)
    return out, (total.log() + top)[..., 0]


def attend(
    query: torch.Tensor,
    prefix: KeysAndValues,
    own: KeysAndValues,
    own_mask: torch.Tensor,
    prefix_mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """Attention over a shared prefix and over each row's own keys.

    Args:
        query: floating[R, H, N, D].
        prefix: keys and values, floating[1, G, P, D], G a divisor of H (grouped-query attention).
        own: keys and values, floating[R, G, K, D].
        own_mask: what is added to scores of own keys, floating[R, 1, N * H/G, K]: each query's row
            once for each of the heads that share keys.
        prefix_mask: the same for the prefix, floating[1, 1, R * N * H/G, P]; ``None`` where all rows
            see all of it.
        scale: of the scores.

    Returns:
        floating[R, N, H, D].
    """
    rows, heads, new, width = query.shape
    groups = own[0].shape[1]
    each = heads // groups
    # queries in the order rows, new tokens, heads of a group: what comes out of both parts lies alike
    spread = query.view(rows, groups, each, new, width).permute(1, 0, 3, 2, 4)
    together = spread.reshape(1, groups, rows * new * each, width)
    apart = spread.transpose(0, 1).reshape(rows, groups, new * each, width)
    common, common_log = attention_part(together, *prefix, prefix_mask, scale)
    single, single_log = attention_part(apart, *own, own_mask, scale)
    shape = (rows, new * each, groups)
    common_log = common_log.transpose(1, 2).reshape(shape)
    share = torch.sigmoid(common_log - single_log.transpose(1, 2))[..., None]
    first = common.transpose(1, 2).reshape(*shape, -1).to(share.dtype)
    second = single.transpose(1, 2).to(share.dtype)
    out = torch.lerp(second, first, share).to(query.dtype)
    return out.view(rows, new, each, groups, -1).transpose(2, 3).reshape(rows, new, heads, -1)


# -- the way into a model ------------------------------------------------------------------------


class PrefixReader:
    """Hands a layer's prefix from the cache to the attention function, in one forward.

    A layer updates the cache, then asks for attention; so what was offered last is what is taken next.

    Args:
        mask: additive, floating[R, 1, 1, P], where rows see less than the whole prefix.
    """

    def __init__(self, mask: torch.Tensor | None = None) -> None:
        self._offered: KeysAndValues | None = None
        self._mask = mask
        self._prefix_masks: dict[tuple[int, torch.device], torch.Tensor] = {}
        self._own_mask: tuple[torch.Tensor, torch.Tensor] | None = None

    def offer(self, prefix: KeysAndValues) -> None:
        """Called by the cache when a layer has brought its new keys and values.

        Raises:
            PrefixNotSeen: if the layer before this one never asked.
        """
        self.check_taken()
        self._offered = prefix

    def take(self) -> KeysAndValues:
        """Called by the attention function.

        Raises:
            PrefixNotSeen: if the layer did not update the cache before.
        """
        found, self._offered = self._offered, None
        if found is None:
            raise PrefixNotSeen("attention without new keys and values")
        return found

    def check_taken(self) -> None:
        """At the end of the forward.

        Raises:
            PrefixNotSeen: if the last layer that updated the cache never asked.
        """
        if self._offered is not None:
            raise PrefixNotSeen("new keys and values without attention through the registry")

    def own_mask(self, mask: torch.Tensor, each: int) -> torch.Tensor:
        """A mask [R, 1, N, K] with each row ``each`` times; layers after the first find it made."""
        if self._own_mask is None or self._own_mask[0] is not mask or each == 1:
            self._own_mask = (mask, mask.repeat_interleave(each, 2) if each > 1 else mask)
        return self._own_mask[1]

    def prefix_mask(self, count: int, device: torch.device) -> torch.Tensor | None:
        """[1, 1, R * count, P], or ``None`` where all see all."""
        if self._mask is None:
            return None
        if (count, device) not in self._prefix_masks:
            made = self._mask.to(device).repeat_interleave(count, 0)
            self._prefix_masks[count, device] = made.view(1, 1, -1, made.shape[-1])
        return self._prefix_masks[count, device]


def shared_prefix_attention(
    reader: PrefixReader,
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of ``transformers`` whose keys are only those behind the prefix.

    Raises:
        PrefixNotSeen: if more is wanted than ``softmax(q k' * scaling + mask) v``.
    """
    prefix = reader.take()
    _check_plain(module, query, key, attention_mask, dropout, prefix, kwargs)
    assert attention_mask is not None
    each = query.shape[1] // key.shape[1]
    out = attend(
        query,
        prefix,
        (key, value),
        reader.own_mask(attention_mask, each),
        reader.prefix_mask(query.shape[2] * each, query.device),
        query.shape[-1] ** -0.5 if scaling is None else scaling,
    )
    return out, None


def _check_plain(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    prefix: KeysAndValues,
    others: dict[str, Any],
) -> None:
    wanted = sorted(name for name in _OTHERS if others.get(name) is not None)
    if wanted or dropout:
        raise PrefixNotSeen(f"attention with {', '.join(wanted) or 'dropout'}")
    if mask is None or mask.dim() != 4 or mask.shape[1] != 1 or mask.dtype == torch.bool:
        raise PrefixNotSeen("attention with a mask that is not the one given")
    if key.shape[1] != prefix[0].shape[1] or query.shape[1] % key.shape[1]:
        raise PrefixNotSeen("keys that are not those of the cache")
    # a file of a model may have a registry, and an sdpa, of its own
    file = sys.modules.get(type(module).__module__)
    registry: Any = getattr(file, "ALL_ATTENTION_FUNCTIONS", ALL_ATTENTION_FUNCTIONS)
    if registry["sdpa"] is not sdpa_attention_forward:
        raise PrefixNotSeen("attention by an sdpa of its own")


@contextmanager
def prefix_attention(model: Any, reader: PrefixReader) -> Iterator[None]:
    """Within, forwards of the model in this thread attend to a prefix too.

    Raises:
        PrefixNotSeen: if some layer did not.
    """
    with attending(model, partial(shared_prefix_attention, reader)):
        yield
    reader.check_taken()


# -- whether to ----------------------------------------------------------------------------------

_SHARES: Final[WeakKeyDictionary[Any, bool]] = WeakKeyDictionary()


def refuse(model: Any) -> None:
    """Remembers that a model's rows need copies."""
    _SHARES[model] = False


def can_share(model: Any, window: int | None) -> bool:
    """Whether rows of a model may share a prefix, as far as is known before they do.

    Args:
        model: a causal language model of ``transformers``.
        window: of its layers with sliding attention, which see only a part of the prefix: those are
            given copies.
    """
    attention = getattr(text_config(model), "_attn_implementation", None)
    is_sdpa = attention in ("sdpa", NAME)  # the latter while another thread's forward is under way
    if not is_sdpa or window is not None:
        return False
    if model not in _SHARES:
        _SHARES[model] = _asks_registry(model)
    return _SHARES[model]


def _asks_registry(model: Any) -> bool:
    """Whether some file of the model's parts knows the registry; files from elsewhere may not."""
    parts = model.modules() if hasattr(model, "modules") else ()
    files = {f for part in parts for f in (c.__module__ for c in type(part).__mro__)}
    files.discard("transformers.modeling_utils")  # where it is made
    return any(hasattr(sys.modules.get(f), "ALL_ATTENTION_FUNCTIONS") for f in files)


def pays(prefix: int, rows: int) -> bool:
    """Whether sharing is faster than copying, and not only smaller.

    Args:
        prefix: tokens that the rows have in common.
        rows: how many.
    """
    return (rows - 1) * prefix >= SHARED_TOKENS


SHARED_TOKENS: Final = 768
"""Copies of tokens that sharing saves, from which on it is not slower: ``benchmarks/shared_prefix.py
--what rule``; with fewer, the second product of each layer costs as much as it saves."""
