"""Packages that come with an extra of the distribution, and what is said where one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from grammars.errors import GrammaError

_EXTRAS: Final = {
    "torch": "hf",
    "transformers": "hf",
    "tokenizers": "hf",
    "safetensors": "hf",
    "accelerate": "hf",
    "gguf": "hf",
    "pyarrow": "bulk",
    "ray": "ray",
    "tiktoken": "tiktoken",
    "fastapi": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
}


class MissingExtra(GrammaError, ModuleNotFoundError):  # noqa: N818
    """A package that only an extra brings is not installed; the message says how to install it."""


def missing_extra(wanted: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """A failed import of an extra's package as an error that names the extra; any other as it is.

    Args:
        wanted: what needs the package, as the reader of the message calls it.
        error: what the import raised.
    """
    module = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(module)
    if extra is None or isinstance(error, MissingExtra):
        return error
    return MissingExtra(
        f"{wanted} needs {module}, which the extra {extra!r} brings: pip install 'gramma[{extra}]'",
        name=module,
    )


def require(wanted: str, *modules: str) -> None:
    """Imports packages that something needs.

    Raises:
        MissingExtra: if one is not installed.
    """
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            raise missing_extra(wanted, error) from error
