"""Files of trained drafters: safetensors that name the model they were trained for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Final, TypeVar

import torch

from constrain.models import text_config
from samplers.drafters.draft_model import columns
from samplers.tensor_files import AtMost, TensorFileError, read_tensors, said, write_tensors

_SLACK: Final = 1 << 16
"""Numbers that making a network takes beside its own."""

_LARGEST: Final = 65_504.0
"""The largest weight: what half precision holds.  Products of larger ones are soon not finite."""
_Network = TypeVar("_Network", bound=torch.nn.Module)


@dataclass(frozen=True)
class Base:
    """What tells the model that a drafter was trained for.

    Attributes:
        hidden_size: H.
        vocab_size: V.
        name: the last part of its name or path; empty if it has none.
    """

    hidden_size: int
    vocab_size: int
    name: str

    @classmethod
    def of(cls, model: Any) -> Base:
        """A model's."""
        name = PurePath(str(getattr(model.config, "_name_or_path", "") or "")).name
        return cls(int(text_config(model).hidden_size), columns(model), name)

    @property
    def told(self) -> str:
        """In words."""
        name = self.name or "a model without a name"
        return f"{name} (hidden size {self.hidden_size:,}, {self.vocab_size:,} tokens)"


@dataclass(frozen=True)
class Trained:
    """What a file holds.

    Attributes:
        options: what the network is made with.
        weights: of the network, by name.
    """

    options: dict[str, Any]
    weights: dict[str, torch.Tensor]


def write_file(
    path: str | Path,
    kind: str,
    base: Base,
    weights: Mapping[str, torch.Tensor],
    options: Mapping[str, Any] | None = None,
) -> None:
    """Writes weights as safetensors, at once or not at all.

    Args:
        path: the file; it is written over.
        kind: of the drafter, with the version of its format.
        base: the model they were trained for.
        weights: by name.
        options: what the network is made with, as JSON can hold it.
    """
    header = {"base": json.dumps(asdict(base))}
    if options:
        header["options"] = json.dumps(dict(options))
    write_tensors(path, kind, weights, header)


def read_file(path: str | Path, kind: str, base: Base, *, called: str) -> Trained:
    """Reads what :func:`write_file` wrote.

    Args:
        path: the file.
        kind: that it must be of.
        base: the model that it must be for.
        called: what the file should hold, for messages: "heads", say.

    Raises:
        FileNotFoundError: if there is no such file.
        TensorFileError: if it holds something else, is damaged, or what it holds is for another model.
    """
    weights, header = read_tensors(path, kind, called, ("base", "options"))
    found = _base_of(said(header, "base", path, called))
    if found is None:
        raise TensorFileError(f"{path} does not hold {called}: it does not say for which model")
    if found != base:
        raise TensorFileError(f"{path}: the {called} are for {found.told}, not for {base.told}")
    for name, weight in weights.items():
        # A NaN makes every comparison false, so this is put as what must hold.
        if weight.is_floating_point() and not bool((weight.abs() <= _LARGEST).all()):
            raise TensorFileError(
                f"{path} does not hold {called}: {name} is not finite, or too large"
            )
    return Trained(said(header, "options", path, called), weights)


def _base_of(told: Mapping[str, Any]) -> Base | None:
    """What tells a model, of JSON; ``None`` if it does not."""
    kinds = {"hidden_size": int, "vocab_size": int, "name": str}
    if told.keys() != kinds.keys() or any(
        type(told[key]) is not kind for key, kind in kinds.items()
    ):
        return None
    return Base(**told)


def network_of(
    make: Callable[[], _Network], weights: Mapping[str, torch.Tensor], path: str | Path
) -> _Network:
    """A network that is made as a file says, with the file's weights.

    Args:
        make: the network; it may not be much larger than the weights.
        weights: by name.
        path: of the file.

    Raises:
        TensorFileError: if they are not those of such a network, or it cannot be made.
    """
    try:
        with AtMost(4 * sum(weight.numel() for weight in weights.values()) + _SLACK):
            made = make()
        own = made.state_dict()
        for name, weight in weights.items():
            if name in own and own[name].is_floating_point() != weight.is_floating_point():
                raise ValueError(f"{name} is of {weight.dtype}")
        made.load_state_dict(dict(weights))
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise TensorFileError(f"{path}: {error}") from error
    return made
