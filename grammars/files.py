"""Grammar files: their text, their kind, and the ``Grammar`` that a text of a kind describes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from grammars.errors import GrammarError
from grammars.storage import is_saved

if TYPE_CHECKING:
    pass

Kind = Literal["lark", "gbnf", "regex", "json", "gramma"]
ImportPath: TypeAlias = str | Path | Callable[[Any, str], tuple[Any, str]]
"""A folder, or a loader as lark's ``FromPackageLoader``."""

KINDS: Final[Mapping[str, Kind]] = {
    ".lark": "lark",
    ".gbnf": "gbnf",
    ".ebnf": "gbnf",
    ".regex": "regex",
    ".json": "json",
    ".gramma": "gramma",
}
"""Kinds by suffix; ``json`` is a JSON Schema or a saved grammar."""

_OPTIONS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "start": ("lark", "gbnf"),
    "import_paths": ("lark",),
    "lexer": ("lark",),
    "dialect": ("lark", "gbnf"),
    "property_order": ("json",),
    "formats": ("json",),
    "whitespace": ("json",),
    "numbers": ("json",),
}
"""Which kinds an option of the constructors can be said of."""

_SAID_OF: Final[Mapping[tuple[Kind, ...], str]] = {
    ("lark", "gbnf"): "a Lark grammar (.lark) or GBNF (.gbnf)",
    ("lark",): "a Lark grammar (.lark)",
    ("json",): "a JSON Schema (.json)",
}


def kind_of(path: Path) -> Kind:
    """The kind of a file by its suffix.

    Raises:
        GrammarError: for another suffix.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise GrammarError(
            f"cannot tell the kind of {path.name!r} by its suffix {path.suffix!r}; "
            f"known are {', '.join(KINDS)}"
        )
    return kind


def dialect_of(path: Path | None) -> str | None:
    """The dialect that a suffix stands for: xgrammar calls its grammars ``.ebnf``."""
    return "xgrammar" if path is not None and path.suffix.lower() == ".ebnf" else None


def decode(data: bytes, name: str) -> str:
    """UTF-8 text without the byte order mark that some editors write first.

    Raises:
        GrammarError: if it is not UTF-8; ``name`` says whose text it is.
    """
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise GrammarError(
            f"{name} is not UTF-8 text (byte 0x{error.object[error.start]:02X} at offset "
            f"{error.start}); save it as UTF-8"
        ) from None


def read_text(path: Path, name: str | None = None) -> str:
    """The text of a file with line breaks as ``open`` reads them.

    Args:
        path: the file.
        name: what errors call it; its last part by default.

    Raises:
        GrammarError: if it is not UTF-8.
        OSError: if it cannot be read.
    """
    text = decode(path.read_bytes(), path.name if name is None else name)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def misplaced(kind: Kind, text: str, names: Iterable[str]) -> tuple[list[str], str] | None:
    """Options that cannot be said of a text of a kind, and what they can be said of."""
    for kinds, long in _SAID_OF.items():
        asked = [name for name in names if _OPTIONS[name] == kinds]
        if asked and kind not in kinds:
            return asked, f"{long} only"
        if asked and kind == "json" and is_saved(text):
            return asked, f"{long} only, and this is a saved grammar"
    return None
