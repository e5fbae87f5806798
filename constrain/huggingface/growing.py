"""Values of an answer as its text grows, and the iterator that hands them out."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Final

from constrain.huggingface.result import Extraction
from grammars.errors import GrammarError
from grammars.partial_json import PartialJson


class _Begin:
    """An answer begins."""


BEGIN: Final = _Begin()


class ExtractionStream(Iterator[Any]):
    """Partial values of an extraction, the last one validated.

    Closing it (:meth:`close`, the end of a ``with`` block, or when it is collected) ends the writing at
    the next token and waits for that.  It begins with the first value that is asked for.

    Args:
        values: the values; closing it ends the writing.
        found: has the extraction when the last value is there.
    """

    def __init__(self, values: Generator[Any, None, None], found: list[Extraction]) -> None:
        self._values = values
        self._found = found

    @property
    def extraction(self) -> Extraction | None:
        """What was extracted, when the last value is there; ``None`` before."""
        return self._found[0] if self._found else None

    def __iter__(self) -> ExtractionStream:
        return self

    def __next__(self) -> Any:
        return next(self._values)

    def close(self) -> None:
        """Ends the writing."""
        self._values.close()

    def __enter__(self) -> ExtractionStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def grown(told: Iterable[Any], strings: bool, found: list[Extraction]) -> Iterator[Any]:
    """Values of an answer as its text grows.

    Args:
        told: ``BEGIN`` where an answer begins, pieces of its bytes, at last what was extracted, or an error.
        strings: whether strings that are not closed are there.
        found: gets what was extracted.

    Raises:
        The error that was told.
    """
    reader = _Reader(strings)
    for item in told:
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Extraction):
            found.append(item)
            if item.complete:
                yield item.value
            return
        if item is BEGIN:
            reader = _Reader(strings)
        elif reader.read(item):
            yield reader.value


class _Reader:
    """The partial value of a text in pieces of bytes; none where it is not JSON."""

    def __init__(self, strings: bool) -> None:
        self._json: PartialJson | None = PartialJson(strings=strings)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, data: bytes) -> bool:
        """Whether more of the text changes the value."""
        if self._json is None:
            return False
        before = self._json.changes
        try:
            self._json.feed(self._decoder.decode(data))
        except GrammarError:  # a grammar of other texts
            self._json = None
            return False
        return self._json.changes != before

    @property
    def value(self) -> Any:
        assert self._json is not None
        return self._json.value
