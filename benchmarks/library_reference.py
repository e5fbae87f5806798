"""A reference parser of a grammar of the library, and a generator of texts for it.

A reference reads a text or refuses it.  Where it is known to read otherwise than the standard that the
grammar follows, or reads what the grammar leaves out, ``left_out`` says why, by a look at the text that has
nothing to do with the grammar.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Reader = Callable[[str], bool]


class MissingReferenceError(Exception):
    """A reference that is not installed."""


@dataclass
class Reference:
    """A parser to compare with.

    Attributes:
        name: what the table calls it.
        make: makes the reader; ``ImportError`` where a package is missing.
        texts: makes a text that the reference is likely to accept.
        left_out: why a text that ours alone accepts (``True``), or the reference alone, may be read
            otherwise; ``None`` if there is no reason.
        wider: whether the reference is known to read more, in too many ways to tell them.
        parameters: what the grammar is loaded with to be compared.
        node: a folder with ``node_modules``, for references in JavaScript.
    """

    name: str
    make: Callable[[Path | None], Reader]
    texts: Callable[[random.Random], str] | None = None
    left_out: Callable[[str, bool], str | None] | None = None
    wider: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    node: Path | None = None
    _made: dict[Path | None, Reader] = field(default_factory=dict, repr=False)

    def reader(self) -> Reader:
        """Whether the reference accepts a text.

        Raises:
            MissingReferenceError: where it is not installed.
        """
        if self.node not in self._made:
            try:
                self._made[self.node] = self.make(self.node)
            except ImportError as error:
                raise MissingReferenceError(f"not installed: {error.name or error}") from None
        return self._made[self.node]


def raising(call: Callable[[str], Any], *errors: type[Exception]) -> Reader:
    """Whether a call takes a text without one of these errors (any ``ValueError`` by default)."""
    caught = errors or (ValueError,)

    def reads(text: str) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call(text)
            except caught:
                return False
        return True

    return reads


def plain(reads: Reader) -> Callable[[Path | None], Reader]:
    return lambda _: reads
