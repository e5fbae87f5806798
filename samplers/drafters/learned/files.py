"""Files of trained drafters: safetensors that name the model they were trained for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from constrain.models import text_config
from samplers.drafters.draft_model import columns


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
    """Writes weights as safetensors.

    Args:
        path: the file; it is written over.
        kind: of the drafter, with the version of its format.
        base: the model they were trained for.
        weights: by name.
        options: what the network is made with, as JSON can hold it.
    """
    metadata = {"format": kind, "base": json.dumps(asdict(base))}
    if options:
        metadata["options"] = json.dumps(dict(options))
    plain = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    save_file(plain, str(path), metadata)


def read_file(path: str | Path, kind: str, base: Base, *, called: str) -> Trained:
    """Reads what :func:`write_file` wrote.

    Args:
        path: the file.
        kind: that it must be of.
        base: the model that it must be for.
        called: what the file should hold, for messages: "heads", say.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds something else, or what it holds is for another model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                raise ValueError(f"{path} does not hold {called} of this kind ({kind})")
            found = Base(**json.loads(metadata["base"]))
            options = dict(json.loads(metadata.get("options", "{}")))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} does not hold {called}: {error}") from error
    if found != base:
        raise ValueError(f"{path}: the {called} are for {found.told}, not for {base.told}")
    return Trained(options, weights)


def fill(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Puts a file's weights into a network.

    Raises:
        ValueError: if they are not those of such a network.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error
