"""Where ``%import`` of a Lark grammar finds other grammars."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from grammars.files import ImportPath, read_text

Loader: TypeAlias = Callable[[Any, str], tuple[Any, str]]
"""Base path and relative path to (joined path, text), or ``OSError``, as lark calls it."""

_IN_A_SCRIPT: Final = "<string>"
"""lark's name for a grammar that is no file: relative imports are those of the running script."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A grammar that was read for an import."""

    name: str
    text: str


class Imports:
    """Reads imported grammars as lark does, with or without a byte order mark.

    Attributes:
        loaders: what lark calls one after another: for each of the given places, and for imports
            relative to the grammar that has them.
        latest: the grammar that was read last.
    """

    def __init__(self, places: Sequence[ImportPath]) -> None:
        self.loaders: Final[list[Loader]] = [self._loader(place) for place in places]
        self.loaders.append(self._read_relative)
        self.latest: Imported | None = None

    def _loader(self, place: ImportPath) -> Loader:
        if callable(place):
            return self._noting(place)
        folder = os.fspath(place)
        return lambda base, path: self._read(folder, path)

    def _noting(self, loader: Loader) -> Loader:
        def read(base: Any, path: str) -> tuple[Any, str]:
            joined, text = loader(base, path)
            self.latest = Imported(str(getattr(joined, "path", joined)), text)
            return joined, text

        return read

    def _read_relative(self, base: Any, path: str) -> tuple[Any, str]:
        if not isinstance(base, str):
            raise FileNotFoundError(path)  # of lark's library or a package: others look there
        return self._read(base, path)

    def _read(self, folder: str, path: str) -> tuple[str, str]:
        joined = os.path.join(folder, path)
        text = read_text(Path(joined), joined)
        self.latest = Imported(joined, text)
        return joined, text


def file_name(path: Path | None) -> str:
    """What lark is told as the name of a grammar, from which it works out its folder."""
    return _IN_A_SCRIPT if path is None else str(path)
