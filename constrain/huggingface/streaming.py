"""Values that grow: an extraction in a thread, and partial values as its fields are written."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

import torch

from constrain.huggingface.extraction import extract
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.huggingface.writing import AnswerListener, check_streamer
from grammars.errors import GrammarError
from grammars.partial_json import PartialJson


class Cancelled(Exception):  # noqa: N818 - no error: nobody waits for the text any more
    """Raised where a token would be told to nobody: whoever asked for the text has gone."""


class Cancellable(AnswerListener):
    """A streamer that ends the writing at the next token when it is told so.

    Args:
        streamer: another one that is told everything; ``None`` for none.
    """

    def __init__(self, streamer: Any = None) -> None:
        self._streamer = check_streamer(streamer)
        self._has_gone = threading.Event()

    def cancel(self) -> None:
        """Ends the writing at the next token."""
        self._has_gone.set()

    def put(self, value: torch.Tensor) -> None:
        if self._has_gone.is_set():
            raise Cancelled
        if self._streamer is not None:
            self._streamer.put(value)

    def end(self) -> None:
        if self._streamer is not None:
            self._streamer.end()

    def check(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """A logits processor that changes nothing: for beams, which have no streamer."""
        if self._has_gone.is_set():
            raise Cancelled
        return scores


class _Begin:
    """An answer begins."""


BEGIN: Final = _Begin()


class _Told(Cancellable):
    """Puts what is written into a queue."""

    def __init__(self, streamer: Any, queue: SimpleQueue[Any]) -> None:
        super().__init__(streamer)
        self._queue = queue

    def begin_answer(self) -> None:
        self._queue.put(BEGIN)

    def answer(self, data: bytes) -> None:
        self._queue.put(data)


class ExtractionStream(Iterator[Any]):
    """Partial values of an extraction, the last one validated.

    Closing it (:meth:`close`, the end of a ``with`` block, or when it is collected) ends the writing at
    the next token and waits for that.  The thread begins with the first value that is asked for.
    """

    def __init__(
        self, run: Callable[..., Extraction], partial_strings: bool, streamer: Any
    ) -> None:
        self._found: list[Extraction] = []
        self._values = _values(run, partial_strings, check_streamer(streamer), self._found)

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


def _values(
    run: Callable[..., Extraction], partial_strings: bool, streamer: Any, found: list[Extraction]
) -> Generator[Any, None, None]:
    queue: SimpleQueue[Any] = SimpleQueue()
    told = _Told(streamer, queue)
    thread = threading.Thread(
        target=_work, args=(run, told, queue), name="gramma extraction", daemon=True
    )
    thread.start()
    try:
        yield from grown(iter(queue.get, None), partial_strings, found)
    finally:
        told.cancel()
        thread.join()


def _work(run: Callable[..., Extraction], told: _Told, queue: SimpleQueue[Any]) -> None:
    try:
        queue.put(run(streamer=told))
    except Cancelled:
        pass
    except BaseException as error:  # raised where the values are read
        queue.put(error)


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


def extract_stream(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    partial_strings: bool = False,
    streamer: Any = None,
    **options: Any,
) -> ExtractionStream:
    """Streams an extraction: partial values as fields are written, and the validated value at last.

    Each value is plain data that JSON could be made of: objects and arrays as far as they are written,
    with scalars that are whole.  The last is what :func:`extract` returns as ``value``::

        for person in extract_stream(model, tokenizer, text, Person):
            show(person)  # {}, {"name": "Ada"}, ..., Person(name="Ada", age=36)

    Args:
        model, tokenizer, text_or_messages, schema_or_type: as :func:`extract` takes them.
        partial_strings: whether strings that are not closed are there, too, as far as they are written.
        streamer: as :func:`extract` takes it.
        **options: as :func:`extract` takes them.

    Returns:
        An iterator.  Close it to end the writing early; its ``extraction`` has text and tokens when all
        is written.  A grammar of other texts than JSON has its last value alone, and so has an answer
        that is not complete none.

    Raises:
        TypeError: for a streamer that is none; all else that :func:`extract` raises comes with the value
            that is asked for next.
    """
    run = partial(extract, model, tokenizer, text_or_messages, schema_or_type, **options)
    return ExtractionStream(run, partial_strings, streamer)
