"""The file of the grammar that is played with: read once, written back only where that is allowed."""

from __future__ import annotations

import codecs
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from grammars.files import Kind, decode


class Changed(RuntimeError):  # noqa: N818 - told to the page as a conflict
    """The file is not as it was when it was read or written last."""


class GrammarStore:
    r"""A grammar's text and the file it comes from.

    Attributes:
        name: what the page calls it.
        kind: its kind.
        text: as it was read or written last, with line breaks ``\n``.
        path: the file; ``None`` for standard input.
        may_write: whether :meth:`save` may write the file.
    """

    def __init__(
        self, name: str, kind: Kind, text: str, path: Path | None = None, *, may_write: bool = False
    ) -> None:
        self.name = name
        self.kind = kind
        self.text = text
        self.path = path
        self.may_write = may_write and path is not None
        self._lock = threading.Lock()

    def save(self, text: str, *, force: bool = False) -> None:
        """Writes the file, all of it or nothing, with the line breaks that it has.

        Args:
            text: the grammar.
            force: write it though another program has written it since.

        Raises:
            PermissionError: unless ``may_write``.
            Changed: if the file is not as this object knows it.
            OSError: if it cannot be written.
        """
        if not self.may_write or self.path is None:
            raise PermissionError("the page may not write the grammar; start it with --write")
        with self._lock:
            try:
                before = self.path.read_bytes()
            except FileNotFoundError:
                before = b""
            if not force and _as_text(before, self.name) != self.text:
                raise Changed(f"{self.name} has changed on disk since it was read")
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            written = text.replace("\n", "\r\n") if b"\r\n" in before else text
            data = written.encode("utf-8")
            if before.startswith(codecs.BOM_UTF8):
                data = codecs.BOM_UTF8 + data
            _replace_file(self.path, data)
            self.text = text


def _as_text(data: bytes, name: str) -> str:
    return decode(data, name).replace("\r\n", "\n").replace("\r", "\n")


def _replace_file(path: Path, data: bytes) -> None:
    """Writes a file beside the old one, with its permissions, and puts it in its place."""
    target = path.resolve()  # of a link, the file that it leads to
    handle, made = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        with suppress(FileNotFoundError):
            os.chmod(made, target.stat().st_mode & 0o7777)
        os.replace(made, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(made)
        raise
