"""Requests to a server: JSON over HTTP, answers whole or as server-sent events."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from grammars.errors import GrammaError

_SHOWN: Final = 500
"""Characters of a server's own words in a message."""
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


class ServerError(GrammaError, RuntimeError):
    """A server that cannot be reached, refuses a request, or answers with something else than was asked.

    Attributes:
        status: the HTTP status of a refusal; ``None`` for all else.
        answer: the text that was answered, which may be empty; ``None`` where there was no answer.
    """

    def __init__(
        self, message: str, *, status: int | None = None, answer: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer


class Transport:
    """Posts JSON to a server.

    Args:
        url: up to and with the version, such as ``http://localhost:8000/v1``.
        headers: of each request.
        timeout: seconds without a byte after which it is given up.

    Raises:
        ValueError: for a URL that is none of HTTP.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"{url!r} is no URL of a server; give one like http://localhost:8000/v1"
            )
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", **headers}
        self._timeout = timeout
        handlers = [ProxyHandler({})] if parts.hostname in _LOCAL else []
        self._opener: OpenerDirector = build_opener(*handlers)

    def get(self, path: str) -> Any:
        """The JSON that is answered to a request without a body.

        Raises:
            ServerError: where there is none.
        """
        return self._json(path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that is answered.

        Raises:
            ServerError: where there is none.
        """
        return self._json(path, body)

    def _json(self, path: str, body: Mapping[str, Any] | None) -> Any:
        with self._opened(path, body) as response:
            data = response.read()
        try:
            return json.loads(data)
        except ValueError:
            text = data.decode("utf-8", "replace")
            raise ServerError(f"{self.url}{path} answered no JSON: {text[:_SHOWN]!r}") from None

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[Any]:
        """The JSON of each event of an answer that is streamed; closing it closes the connection.

        Raises:
            ServerError: where an event is no JSON, or says that something went wrong.
        """
        with self._opened(path, body) as response:
            for line in response:
                field, _, data = line.decode("utf-8", "replace").strip().partition(":")
                if field != "data":
                    continue
                if data.strip() == "[DONE]":
                    return
                yield self._event(path, data)

    def _event(self, path: str, data: str) -> Any:
        try:
            made = json.loads(data)
        except ValueError:
            raise ServerError(f"{self.url}{path} streamed no JSON: {data[:_SHOWN]!r}") from None
        if isinstance(made, dict) and made.get("error"):
            raise ServerError(f"{self.url}{path} broke off: {_said(json.dumps(made))}")
        return made

    @contextlib.contextmanager
    def _opened(self, path: str, body: Mapping[str, Any] | None) -> Iterator[Any]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, self._headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                yield response
        except HTTPError as error:
            with error:
                said = _said(error.read().decode("utf-8", "replace"))
            raise ServerError(
                f"{self.url}{path} refused the request ({error.code}): {said}", status=error.code
            ) from error
        except URLError as error:
            raise ServerError(f"{self.url} cannot be reached: {error.reason}") from error
        except TimeoutError as error:
            raise ServerError(
                f"{self.url}{path} did not answer within {self._timeout:g} seconds"
            ) from error
        except (OSError, HTTPException) as error:
            raise ServerError(f"{self.url}{path} broke off: {error!r}") from error


def _said(text: str) -> str:
    """What a server says of an error, in the forms that are about."""
    try:
        made = json.loads(text)
    except ValueError:
        return text.strip()[:_SHOWN] or "it says nothing more"
    inner = made.get("error", made) if isinstance(made, dict) else made
    message = inner.get("message") if isinstance(inner, dict) else inner
    return str(message or inner)[:_SHOWN]
