"""The top layer: a model x a ``TokenAutomaton`` -> texts, and the command line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constrain.extraction import Extraction, extract

_HOMES = {"extract": "constrain.extraction", "Extraction": "constrain.extraction"}

__all__ = ["Extraction", "extract"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'samplers' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
