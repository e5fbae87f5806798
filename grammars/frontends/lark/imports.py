"""Where ``%import`` of a Lark grammar finds other grammars.

A grammar may come from a stranger, so what it can read is up to the caller: lark's own library, the
places that were given, and for a grammar that is a file its folder and what lies below.  lark itself would
look in the folder of the running script, or in the current one, and so would tell of files there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from grammars.files import ImportPath, read_text
from grammars.frontends._lark_api import stdlib_loader

Loader: TypeAlias = Callable[[Any, str], tuple[Any, str]]
"""Base path and relative path to (joined path, text), or ``OSError``, as lark calls it."""

_NO_FILE: Final = "<grammar>"
"""What lark is told as the name of a grammar that is no file."""
_IMPORT: Final = re.compile(
    r"^[ \t]*%import[ \t]+(\.?)[ \t]*(\w+(?:[ \t]*\.[ \t]*\w+)*)[ \t]*(\()?", re.MULTILINE
)


class RefusedImportError(Exception):
    """An import of something that the grammar may not read, or of itself.

    Attributes:
        name: of the grammar that is imported.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Imported:
    """A grammar that was read for an import."""

    name: str
    text: str


class _Asked(NamedTuple):
    """A relative import of a file.

    Attributes:
        file: the file in which it stands.
        line: its line there.
        target: the file that it names.
    """

    file: str
    line: int
    target: str


class Imports:
    """Reads imported grammars from where a grammar may read.

    Args:
        places: folders, or loaders as lark calls them.
        path: the file that the importing grammar is, if it is one.

    Attributes:
        loaders: what lark calls one after another: for each of the given places, and for what lies
            beside the importing grammar and in lark's library.
        latest: the grammar that was read last.
    """

    def __init__(self, places: Sequence[ImportPath], path: Path | None = None) -> None:
        self.loaders: Final[list[Loader]] = [self._loader(place) for place in places]
        self.loaders.append(self._read_beside)
        self.latest: Imported | None = None
        folders = [os.fspath(place) for place in places if not callable(place)]
        own = [] if path is None else [str(path.parent)]
        self._roots: Final = [Path(folder).resolve() for folder in [*folders, *own]]
        self._checked: Final[set[str]] = set()

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

    def _read_beside(self, base: Any, path: str) -> tuple[Any, str]:
        """What lies beside the importing grammar, or in lark's library; the last place there is.

        Raises:
            RefusedImportError: where lark would go on looking in other folders.
        """
        try:
            if isinstance(base, str):
                return self._read(base, path)
            return self._noting(stdlib_loader)(base, path)
        except OSError:
            name = _name(path)
            raise RefusedImportError(
                name,
                f"there is no grammar {path!r} to import; say where with import_paths= (--import-path), "
                "or read the grammar with Grammar.from_file, in whose folder it is looked for",
            ) from None

    def _read(self, folder: str, path: str) -> tuple[str, str]:
        joined = os.path.join(folder, path)
        text = self._text(joined)
        self._check_circle(joined)
        self.latest = Imported(joined, text)
        return joined, text

    def _text(self, joined: str) -> str:
        """The text of a file that may be read.

        Raises:
            OSError: if it may not, or there is none; whether there is one is not told.
            GrammarError: if it is not UTF-8.
        """
        there = Path(joined).resolve()  # a symbolic link counts as what it leads to
        if not any(there.is_relative_to(root) for root in self._roots):
            raise FileNotFoundError(joined)
        return read_text(Path(joined), joined)

    # -- circles -------------------------------------------------------------------------------

    def _check_circle(self, file: str) -> None:
        """Checks that a file does not import itself, by whatever way: lark would follow it for ever.

        Raises:
            RefusedImportError: with both places.
        """
        if file in self._checked:
            return
        self._checked.add(file)
        way: list[tuple[_Asked | None, Iterator[_Asked]]] = [(None, self._asked(file))]
        on_way = {file}
        done: set[str] = set()
        while way:
            asked = next(way[-1][1], None)
            if asked is None:
                last, _ = way.pop()
                closed = file if last is None else last.target
                on_way.discard(closed)
                done.add(closed)
            elif asked.target in on_way:
                steps = [step for step, _ in way if step is not None] + [asked]
                begin = next((i for i, s in enumerate(steps) if s.file == asked.target), 0)
                said = ", and ".join(
                    f"{s.file} imports {s.target} in line {s.line}" for s in steps[begin:]
                )
                raise RefusedImportError(
                    _name(file), f"imports go round: {said}; remove one of them"
                )
            elif asked.target not in done:
                on_way.add(asked.target)
                way.append((asked, self._asked(asked.target)))

    def _asked(self, file: str) -> Iterator[_Asked]:
        """The relative imports of a file, as far as it can be read."""
        try:
            text = self._text(file)
        except (OSError, ValueError):
            return  # lark meets it, and says so
        for found in _IMPORT.finditer(text):
            names = [name.strip() for name in found[2].split(".")]
            parts = names if found[3] else names[:-1]
            if found[1] and parts:
                target = os.path.join(os.path.dirname(file), *parts) + ".lark"
                yield _Asked(file, text.count("\n", 0, found.start()) + 1, target)


def _name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".lark")


def file_name(path: Path | None) -> str:
    """What lark is told as the name of a grammar, from which it works out its folder."""
    return _NO_FILE if path is None else str(path)
