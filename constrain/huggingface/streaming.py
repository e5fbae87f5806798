"""Values that grow: an extraction in a thread, and partial values as its fields are written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from functools import partial
from queue import SimpleQueue
from typing import Any

import torch

from constrain.huggingface.extraction import extract
from constrain.huggingface.growing import BEGIN, ExtractionStream, grown
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.huggingface.writing import AnswerListener, check_streamer
from constrain.servers.openai import OpenAIServer, server_of
from constrain.servers.requests import refuse_local


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


class _Told(Cancellable):
    """Puts what is written into a queue."""

    def __init__(self, streamer: Any, queue: SimpleQueue[Any]) -> None:
        super().__init__(streamer)
        self._queue = queue

    def begin_answer(self) -> None:
        self._queue.put(BEGIN)

    def answer(self, data: bytes) -> None:
        self._queue.put(data)


def streamed(
    run: Callable[..., Extraction], partial_strings: bool, streamer: Any
) -> ExtractionStream:
    """The stream of a function that extracts and tells the streamer that it is given.

    Raises:
        TypeError: for a streamer that is none.
    """
    found: list[Extraction] = []
    return ExtractionStream(_values(run, partial_strings, check_streamer(streamer), found), found)


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


def extract_stream(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    partial_strings: bool = False,
    backend: str | OpenAIServer | None = None,
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
        backend: a server, as :func:`extract` takes it.
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
    server = server_of(model, backend)
    if server is not None:
        refuse_local(streamer=streamer)
        return server.extract_stream(
            text_or_messages, schema_or_type, partial_strings=partial_strings, **options
        )
    run = partial(extract, model, tokenizer, text_or_messages, schema_or_type, **options)
    return streamed(run, partial_strings, streamer)
