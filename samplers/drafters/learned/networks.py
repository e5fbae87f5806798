"""Small networks beside a frozen model, the drafters that use them, and their files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from constrain.arguments import check_model
from samplers.drafters.learned.base import LearnedDrafter
from samplers.drafters.learned.files import Base, network_of, read_file, write_file
from samplers.drafters.learned.growing import Growth
from samplers.drafters.learned.products import Linear
from samplers.drafters.learned.training import Report
from samplers.drafters.learned.vocabulary import Output, frequent
from samplers.tensor_files import TensorFileError


class SmallNetwork(torch.nn.Module, ABC):
    """A network that was trained for a model and ends in the model's output embedding.

    Args:
        model: the base model; its embeddings are used, not copied, and never trained.
        ids: int64[K], the shortened vocabulary; ``None`` for all tokens.
    """

    def __init__(self, model: Any, ids: torch.Tensor | None) -> None:
        super().__init__()
        check_model(model, type(self).__name__)
        self.base = Base.of(model)
        self._outputs = (Output(model, ids),)  # within a tuple they are no part of this module
        self.register_buffer("ids", torch.empty(0, dtype=torch.int64) if ids is None else ids)

    @property
    def output(self) -> Output:
        """The model's output embedding, as far as drafts use it."""
        return self._outputs[0]

    def computing(self) -> torch.autocast:
        """Within, products are computed in the model's dtype; weights and their gradients keep theirs.

        A model in bfloat16 is used where that is the faster one.
        """
        rows = self.output.rows
        is_half = rows.dtype in (torch.bfloat16, torch.float16)
        return torch.autocast(rows.device.type, rows.dtype if is_half else None, enabled=is_half)

    def multiply_in(self, dtype: torch.dtype) -> None:
        """Has drafts multiply by weights in bfloat16 if that is the model's dtype, else in float32.

        Drafting takes as long as its weights take to be read, and in bfloat16 they are half as long.
        """
        for module in self.modules():
            if isinstance(module, Linear):
                module.drafts_in = dtype if dtype == torch.bfloat16 else torch.float32

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What another one is made with, the model and the vocabulary aside."""


class NetworkDrafter(LearnedDrafter):
    """Drafts trees with such a network.

    Args:
        network: trained, or not.
        growth: how far trees grow.

    Attributes:
        report: of the training; empty if loaded.
    """

    kind: ClassVar[str]
    """Of its files, with their version."""
    networks: ClassVar[type[Any]]
    """The class of its networks."""

    def __init__(self, network: Any, *, growth: Growth | None = None) -> None:
        self.network = network
        network.multiply_in(network.output.rows.dtype)
        self.growth = growth or Growth()
        self.report = Report()

    def save(self, path: str | Path) -> None:
        """Writes the network as safetensors, with what tells its model."""
        network = self.network
        write_file(path, self.kind, network.base, network.state_dict(), network.options)

    @classmethod
    def load(cls, path: str | Path, model: Any, *, growth: Growth | None = None) -> Self:
        """Reads one for a model.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is not one of such a drafter, or it is for another model.
        """
        found = read_file(path, cls.kind, Base.of(model), called="weights")
        ids = found.weights.get("ids")
        if ids is None or ids.dtype != torch.int64 or ids.ndim != 1 or not _ascending(ids):
            raise TensorFileError(f"{path} does not hold weights: it has no vocabulary")
        for option, value in found.options.items():
            if not isinstance(value, int | None):
                raise TensorFileError(
                    f"{path} does not hold weights: its option {option} is {value!r}, which is no integer"
                )

        def make() -> Any:
            return cls.networks(model, ids if len(ids) else None, **found.options)

        return cls(network_of(make, found.weights, path), growth=growth)


def _ascending(ids: torch.Tensor) -> bool:
    return bool((ids[1:] > ids[:-1]).all())


def vocabulary_of(
    wanted: int | Sequence[int] | None, texts: Sequence[tuple[list[int], int]], known: int
) -> torch.Tensor | None:
    """A shortened vocabulary int64[K], ascending; ``None`` for all tokens.

    Args:
        wanted: its tokens, or how many of those most frequent in answers.
        texts: token ids, each with the number of those given.
        known: V.

    Raises:
        ValueError: if fewer than one are wanted.
    """
    if wanted is None:
        return None
    if isinstance(wanted, int):
        if wanted < 1:
            raise ValueError(f"vocabulary={wanted}: must be positive")
        if wanted >= known:
            return None
        return torch.tensor(frequent(texts, wanted, known))
    return torch.tensor(sorted(set(wanted)), dtype=torch.int64)
