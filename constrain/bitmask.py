"""Packed token masks on any device.

The layout is the one xgrammar and llguidance use: ``int32[batch, ceil(V/32)]``, bit t % 32 of word
t // 32 says whether token t is allowed.
"""

from __future__ import annotations

from typing import Final

import torch

from constrain import checks
from constrain.bitmask_kernels import forbid

_BITS: Final = 32
_BITS_OF: Final = {
    torch.float16: (torch.int16, -1 << 10),
    torch.bfloat16: (torch.int16, -1 << 7),
    torch.float32: (torch.int32, -1 << 23),
    torch.float64: (torch.int64, -1 << 52),
}
"""Integers of the same width, and minus infinity in them."""


def allocate_bitmask(batch: int, vocab_size: int) -> torch.Tensor:
    """Room for masks: zeros, ``int32[batch, ceil(vocab_size/32)]``, on the CPU.

    Pinned where CUDA is there, so that the copy to the device need not wait.

    Raises:
        TypeError: for what is no integer.
        ValueError: for a negative number, or a vocabulary without a token.
    """
    batch, vocab_size = checks.size(batch, "batch"), checks.size(vocab_size, "vocab_size", 1)
    pinned = torch.cuda.is_available()
    return torch.zeros(batch, -(-vocab_size // _BITS), dtype=torch.int32, pin_memory=pinned)


def unpack_bitmask(bitmask: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """``int32[..., words]`` to ``bool[..., vocab_size]``, on the device of ``bitmask``.

    Ids beyond the last word are False.

    Raises:
        ValueError: if the mask is of another dtype or a single number, or the size is negative.
        TypeError: if the mask is no tensor.
    """
    _check_bitmask(bitmask)
    vocab_size = checks.size(vocab_size, "vocab_size")
    shifts = torch.arange(_BITS, device=bitmask.device, dtype=torch.int32)
    bits = (bitmask.unsqueeze(-1) >> shifts).bitwise_and_(1).to(torch.bool).flatten(-2)
    have = bits.shape[-1]
    if have >= vocab_size:
        return bits[..., :vocab_size]
    return torch.nn.functional.pad(bits, (0, vocab_size - have), value=False)


def apply_bitmask_(logits: torch.Tensor, bitmask: torch.Tensor) -> torch.Tensor:
    """Sets the logits of tokens that are not allowed to minus infinity, in place.

    Args:
        logits: floating [batch, V'] or [V'], any device; V' may exceed the vocabulary: what the
            mask does not cover is not allowed.
        bitmask: int32[batch, words] or [words], on any device.

    Returns:
        ``logits``.

    Raises:
        ValueError: if the batches differ, the mask is not int32, or logits are not floating.
        TypeError: for what is no tensor.
    """
    _check_bitmask(bitmask)
    checks.instance(logits, torch.Tensor, "logits")
    if not logits.is_floating_point() or logits.ndim == 0:
        raise ValueError(f"logits must be a floating [batch, V'] or [V'], not {_described(logits)}")
    if logits.shape[:-1] != bitmask.shape[:-1]:
        raise ValueError(
            f"logits {tuple(logits.shape)} and bitmask {tuple(bitmask.shape)} differ in batch"
        )
    if _by_kernel(logits, bitmask) is None:
        _by_tensors(logits, bitmask)
    return logits


def apply_bitmask_and_look_(logits: torch.Tensor, bitmask: torch.Tensor) -> torch.Tensor:
    """Applies a bitmask as :func:`apply_bitmask_` does, and says where something is left.

    Returns:
        bool[batch], on the device of ``logits``: whether a row has a finite logit.
    """
    left = _by_kernel(logits, bitmask)
    if left is None:
        _by_tensors(logits, bitmask)
        left = torch.isfinite(logits).any(dim=-1)
    return left


def _by_tensors(logits: torch.Tensor, bitmask: torch.Tensor) -> None:
    mask = bitmask.to(logits.device, non_blocking=True)
    allowed = unpack_bitmask(mask, logits.shape[-1])
    logits.masked_fill_(~allowed, float("-inf"))


def _by_kernel(logits: torch.Tensor, bitmask: torch.Tensor) -> torch.Tensor | None:
    """The same in one pass over the CPU's memory, several times as fast; ``None`` where that cannot be."""
    on_cpu = logits.device.type == bitmask.device.type == "cpu"
    plain = logits.layout == bitmask.layout == torch.strided and not logits.requires_grad
    if not (on_cpu and plain and logits.dtype in _BITS_OF and logits.ndim == 2):
        return None
    if logits.stride(1) != 1 or bitmask.stride(1) != 1:
        return None
    integer, minus_infinity = _BITS_OF[logits.dtype]
    rows, masks = logits.view(integer).numpy(), bitmask.numpy()
    left = [forbid(row, mask, minus_infinity) for row, mask in zip(rows, masks, strict=True)]
    return torch.tensor(left, dtype=torch.bool)


def _check_bitmask(bitmask: torch.Tensor) -> None:
    checks.instance(bitmask, torch.Tensor, "the bitmask")
    if bitmask.dtype != torch.int32 or bitmask.ndim == 0:
        raise ValueError(f"the bitmask must be int32 [..., words], not {_described(bitmask)}")


def _described(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
