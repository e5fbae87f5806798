"""Answers that are sent while they are written, and given up when the client leaves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from samplers.serving.errors import RequestRefused

_T = TypeVar("_T")
Json = dict[str, Any]
_log: Final = logging.getLogger("gramma.serving")
CLIENT_LEFT: Final = 499
"""The status under which requests are counted whose client left."""


class ClientLeft(Exception):  # noqa: N818 - an event, which nobody is told of
    """Nobody waits for the answer any more."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Awaits something, and gives it up when the client leaves.

    Args:
        receive: of a request whose body was read.
        work: what is awaited.

    Raises:
        ClientLeft: if the client did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeft
    finally:
        for one in (task, gone):
            one.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await one


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events.

    Args:
        events: JSON; those with a ``type`` are named by it.
        seconds: after which the client is taken for gone, however slowly it reads.
        on_end: called at the end with the status, whatever it was.
        done: whether ``[DONE]`` ends it, as chat completions have it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Json],
        seconds: float,
        on_end: Callable[[int], None],
        *,
        done: bool,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._seconds = seconds
        self._on_end = on_end
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = CLIENT_LEFT
        try:
            async with asyncio.timeout(self._seconds):
                await while_connected(receive, self._send(send))
            status = 200
        except (ClientLeft, TimeoutError, OSError):
            pass  # the connection ends without the end of the body
        finally:
            self._on_end(status)

    async def _send(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)

        async def write(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        try:
            async for event in self._events:
                await write(_line(event))
        except RequestRefused as error:
            await write(self._told(error))
        except Exception as error:
            _log.error("an answer failed", exc_info=error)
            told = RequestRefused("the server failed, see its log", status=500, code="internal")
            await write(self._told(told))
        await write(b"data: [DONE]\n\n" if self._done else b"", more=False)

    def _told(self, error: RequestRefused) -> bytes:
        body = error.body
        return _line(body if self._done else {"type": "error", **body["error"]})


def _line(event: Json) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
