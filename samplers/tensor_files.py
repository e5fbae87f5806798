"""Tensors on disk: safetensors whose header says what they are, written whole, told when damaged.

A header names the kind of the file and holds a checksum over the rest of it and all tensors, since a
flipped bit of a number gives a number.  Files without one, of earlier versions, are read as well.  What is
read is copied: a file that is cut off later takes nothing from what was read of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from grammars.errors import GrammaError

_KIND: Final = "format"
_CHECKSUM: Final = "checksum"
_MOST_TENSORS: Final = 10_000
_PLAIN: Final = frozenset(
    {
        torch.bool,
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    }
)


class TensorFileError(GrammaError, ValueError):
    """A file that does not hold what it should: another kind of file, a damaged one, or nonsense."""


def write_tensors(
    path: str | Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> None:
    """Writes a file; it replaces an older one only when it is whole.

    Args:
        path: of the file.
        kind: what it is, with the version of its format.
        tensors: by name; they may share memory.
        header: what else is said of them.

    Raises:
        OSError: if it cannot be written.
    """
    # Clones: parts of one tensor, which safetensors refuses to write, are fine in memory.
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    told = {_KIND: kind, **header}
    told[_CHECKSUM] = _checksum(told, whole)
    part = Path(f"{path}.{os.getpid()}.part")
    try:
        save_file(whole, part, metadata=told)
        part.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def read_tensors(
    path: str | Path,
    kind: str,
    called: str,
    entries: Collection[str],
    device: torch.device | str = "cpu",
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads what :func:`write_tensors` wrote.

    Args:
        path: of the file.
        kind: that it must be of.
        called: what it should hold, for messages: "heads", say.
        entries: of the header, those that there may be.
        device: where the tensors go.

    Returns:
        Tensors by name, and those entries that are there.

    Raises:
        FileNotFoundError: if there is no such file.
        TensorFileError: if it is of another kind, or damaged.
        OSError: if it cannot be read.
    """
    path = Path(path)
    wrong = f"{path} does not hold {called}"
    if not path.is_file():
        if path.exists():
            raise TensorFileError(f"{wrong}: it is no file")
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = dict(file.metadata() or {})
            if header.get(_KIND) != kind:
                raise TensorFileError(f"{wrong} of this kind ({kind})")
            names = list(file.keys())
            if len(names) > _MOST_TENSORS:
                raise TensorFileError(f"{wrong}: it has {len(names):,} tensors")
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, RuntimeError, TypeError, UnicodeError) as error:
        raise TensorFileError(f"{wrong}: {error}") from None
    for name, tensor in tensors.items():
        if tensor.dtype not in _PLAIN:
            raise TensorFileError(f"{wrong}: {name} is of {tensor.dtype}")
    unknown = sorted(header.keys() - {_KIND, _CHECKSUM, *entries})
    if unknown:  # perhaps the checksum's own name is damaged
        raise TensorFileError(f"{wrong}: its header has an entry {unknown[0]!r}")
    if header.pop(_CHECKSUM, None) not in (None, _checksum(header, tensors)):
        raise TensorFileError(f"{wrong}: its content does not match its checksum")
    del header[_KIND]
    return {name: tensor.to(device) for name, tensor in tensors.items()}, header


def _checksum(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{json.dumps(name)} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def said(header: Mapping[str, str], entry: str, path: str | Path, called: str) -> dict[str, Any]:
    """The JSON object that an entry of a header is; an empty one if it is not there.

    Raises:
        TensorFileError: if it is none.
    """
    try:
        value = json.loads(header.get(entry) or "{}")
    except (ValueError, RecursionError) as error:
        raise TensorFileError(
            f"{path} does not hold {called}: {entry} is damaged ({error})"
        ) from None
    if not isinstance(value, dict):
        raise TensorFileError(f"{path} does not hold {called}: {entry} is no object of JSON")
    return value


class AtMost(TorchFunctionMode):
    """Within, new tensors have only so many numbers in all; for networks made as a file says.

    Args:
        numbers: of all tensors together.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self._left = numbers

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _MAKERS:
            self._left -= _size(args, kwargs)
            if self._left < 0:
                raise ValueError("the network would be larger than the weights that there are")
        return func(*args, **kwargs)


_MAKERS: Final = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint}
)


def _size(args: Any, kwargs: Mapping[str, Any]) -> int:
    """How many numbers a tensor will have that is made with these arguments."""
    shapes = [x for x in (*args, kwargs.get("size")) if isinstance(x, list | tuple)]
    sizes = shapes[0] if shapes else [x for x in args if isinstance(x, int)]
    return math.prod(abs(int(size)) for size in sizes)
