"""Errors about the engines themselves."""

from __future__ import annotations

from grammars.errors import GrammaError


class EngineMismatch(GrammaError, RuntimeError):  # noqa: N818
    """The engine's insides are others than those this version was written for."""


class MissingEngine(GrammaError, ModuleNotFoundError):  # noqa: N818
    """The engine that a module is for is not installed."""


def missing_engine(engine: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """A failed import of an engine as an error that says so; of anything else as it is.

    Args:
        engine: the package.
        error: what the import raised.
    """
    if (error.name or "").partition(".")[0] != engine:
        return error
    return MissingEngine(
        f"this module is for {engine} to load, and {engine} is not installed here; see "
        "docs/serving-engines.md",
        name=engine,
    )
