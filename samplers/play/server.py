"""The playground's server: one page and its questions, for this machine alone.

It listens on 127.0.0.1.  Other pages in the same browser can reach that address too, so the path has a
random part that only the printed address tells, requests need the ``Host`` of this server (names that are
made to lead to 127.0.0.1 have another one) and no foreign ``Origin``.  The page's content security policy
lets it ask this server and nobody else.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
import traceback
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, Final, get_args

from grammars import GrammarError
from grammars.files import Kind
from samplers.play.grammar_store import Changed
from samplers.play.playground import Json, Playground, of_error

MOST_BYTES: Final = 2_000_000
"""Bytes that a request may have."""
_PATIENCE: Final = 30.0
"""Seconds that a request may take to arrive."""
_NONCE: Final = "NONCE"
"""Stands in the page where the policy wants a number that is used once."""


class RequestError(ValueError):
    """A request that is not one of the page's."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        self.status = status
        super().__init__(message)


class PlayServer(ThreadingHTTPServer):
    """Serves a playground on 127.0.0.1.

    Attributes:
        playground: what answers.
        url: the page's address, with the random part.
    """

    daemon_threads = True

    def __init__(self, playground: Playground, port: int = 0) -> None:
        """Listens; ``serve_forever`` answers.

        Args:
            playground: what answers.
            port: 0 takes one that is free.

        Raises:
            OSError: if the port is taken.
        """
        self.playground = playground
        self.token: Final = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), _Handler)
        self.url: Final = f"http://127.0.0.1:{self.server_port}/{self.token}/"
        self.hosts: Final = tuple(f"{h}:{self.server_port}" for h in ("127.0.0.1", "localhost"))
        self.page: Final = (files("samplers.play") / "page.html").read_text("utf-8")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PlayServer
    server_version = "gramma"
    sys_version = ""
    timeout = _PATIENCE

    def do_GET(self) -> None:
        try:
            asked = self._asked()
            if asked == "start":
                self._send_json(HTTPStatus.OK, self.server.playground.start())
            elif asked == "":
                self._send_page()
            else:
                raise RequestError(HTTPStatus.NOT_FOUND, "no such page")
        except RequestError as error:
            self._refuse(error)

    def do_POST(self) -> None:
        try:
            question = _questions(self.server.playground).get(self._asked())
            if question is None:
                raise RequestError(HTTPStatus.NOT_FOUND, "no such question")
            answer = partial(question, self._body())
        except RequestError as error:
            self._refuse(error)
        else:
            self._send_json(*_answered(answer))

    def _asked(self) -> str:
        """The part of the path behind the random one, of a request that may be answered."""
        if self.headers.get("Host") not in self.server.hosts:
            raise RequestError(HTTPStatus.FORBIDDEN, "this server is 127.0.0.1 and no other host")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            raise RequestError(HTTPStatus.FORBIDDEN, "another page asks")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise RequestError(HTTPStatus.FORBIDDEN, "another page asks")
        _, token, *rest = [*self.path.partition("?")[0].split("/"), ""]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise RequestError(
                HTTPStatus.NOT_FOUND, "no such page; the printed address is the whole"
            )
        return "/".join(rest).rstrip("/")

    def _body(self) -> Json:
        if self.headers.get_content_type() != "application/json":
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a question is JSON")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "a question has a Content-Length")
        if int(length) > MOST_BYTES:
            said = f"a question has {MOST_BYTES:,} bytes or fewer"
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the question is no JSON") from None
        if not isinstance(body, dict):
            raise RequestError(HTTPStatus.BAD_REQUEST, "a question is a JSON object")
        return body

    def _refuse(self, error: RequestError) -> None:
        self.close_connection = True  # what it has sent besides is not read
        self._send_json(error.status, {"error": {"message": str(error)}})

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        page = self.server.page.replace(_NONCE, nonce).encode()
        extra = {"Content-Security-Policy": policy}
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", page, extra)

    def _send_json(self, status: HTTPStatus, value: Json) -> None:
        data = json.dumps(value).encode("ascii")  # halves of surrogate pairs as escapes
        self._send(status, "application/json", data)

    def _send(
        self, status: HTTPStatus, kind: str, data: bytes, extra: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            **(extra or {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal is for the address and for errors."""


def _answered(answer: Callable[[], Json]) -> tuple[HTTPStatus, Json]:
    """What a question comes to: its answer, or an error with the place it is about."""
    try:
        return HTTPStatus.OK, answer()
    except RequestError as error:
        return error.status, {"error": of_error(error)}
    except Changed as error:
        return HTTPStatus.CONFLICT, {"error": of_error(error)}
    except PermissionError as error:
        return HTTPStatus.FORBIDDEN, {"error": of_error(error)}
    except (GrammarError, ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        if isinstance(error, RecursionError):
            return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": {"message": "nested too deeply"}}
        return HTTPStatus.UNPROCESSABLE_ENTITY, {"error": of_error(error)}
    except Exception as error:
        traceback.print_exc()
        told = f"{type(error).__name__}: {error}; see the terminal, and please report it"
        return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": {"message": told}}


# -- questions -------------------------------------------------------------------------------------


def _questions(to: Playground) -> dict[str, Callable[[Json], Json]]:
    """The questions by name; each takes the body of a request."""
    return {
        "check": lambda b: to.check(_kind(b), _text(b, "grammar"), _text(b, "text")),
        "complete": lambda b: to.complete(_kind(b), _text(b, "grammar"), _text(b, "text")),
        "tokens": lambda b: to.tokens(
            _kind(b), _text(b, "grammar"), _text(b, "text"), _text(b, "model")
        ),
        "samples": lambda b: to.samples(
            _kind(b), _text(b, "grammar"), _number(b, "count"), _number(b, "seed")
        ),
        "lint": lambda b: to.lint(_kind(b), _text(b, "grammar"), _flag(b, "ambiguity")),
        "outline": lambda b: to.outline(_kind(b), _text(b, "grammar"), _text(b, "text")),
        "save": lambda b: to.save(_text(b, "grammar"), _flag(b, "force")),
    }


def _field(body: Json, name: str, kind: type) -> Any:
    value = body.get(name)
    if type(value) is not kind:
        what = {str: "text", int: "whole number", bool: "true or false"}[kind]
        raise RequestError(HTTPStatus.BAD_REQUEST, f"{name!r} must be {what}")
    return value


def _text(body: Json, name: str) -> str:
    value: str = _field(body, name, str)
    return value


def _number(body: Json, name: str) -> int:
    value: int = _field(body, name, int)
    return value


def _flag(body: Json, name: str) -> bool:
    value: bool = _field(body, name, bool)
    return value


def _kind(body: Json) -> Kind:
    value = _text(body, "kind")
    for known in get_args(Kind):
        if value == known:
            found: Kind = known
            return found
    raise RequestError(HTTPStatus.BAD_REQUEST, f"no kind of grammar is called {value!r:.40}")
