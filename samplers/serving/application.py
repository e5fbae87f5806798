"""The application: paths, keys, limits on bodies, and errors in OpenAI's form."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from grammars.version import version
from samplers.serving import responses
from samplers.serving.asking import Asked, chat_asked, response_asked
from samplers.serving.bodies import ChatBody, ResponsesBody, read_body, read_json, schema_of
from samplers.serving.chat import ChatCompletion
from samplers.serving.errors import RequestRefused
from samplers.serving.options import ServingOptions
from samplers.serving.service import Job, Service
from samplers.serving.streams import CLIENT_LEFT, ClientLeft, EventStream, while_connected

Json = dict[str, Any]
_log: Final = logging.getLogger("gramma.serving")


def create_app(
    model: Any, tokenizer: Any, name: str, options: ServingOptions | None = None
) -> FastAPI:
    """An application that answers with a model; it begins and ends with the server that runs it.

    Args:
        model, tokenizer: of ``transformers``.
        name: by which clients call the model.
        options: the limits.

    Returns:
        The application; ``app.state.service`` is the :class:`Service` behind it.

    Raises:
        UnsupportedModel: if the model's cache cannot take tokens back.
    """
    service = Service(model, tokenizer, name, options or ServingOptions())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="gramma serve",
        version=version(),
        lifespan=lifespan,
        docs_url=None,  # pages that would have browsers load scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    _add_errors(app)
    _add_paths(app, _Endpoints(service), name)
    return app


class _Endpoints:
    """What is done for each path."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._options = service.options

    async def chat(self, request: Request) -> Response:
        def asked(given: Json) -> tuple[Asked, ChatBody]:
            body = read_body(given, ChatBody)
            return chat_asked(body, self._options), body

        def answer(job: Job, _: ChatBody) -> ChatCompletion:
            return ChatCompletion(job, self._service.name, self._service.vocabulary)

        return await self._answered(request, asked, answer)

    async def responses(self, request: Request) -> Response:
        def asked(given: Json) -> tuple[Asked, ResponsesBody]:
            body = read_body(given, ResponsesBody)
            return response_asked(body), body

        def answer(job: Job, body: ResponsesBody) -> responses.Response:
            return responses.Response(job, body, self._service.vocabulary)

        return await self._answered(request, asked, answer)

    async def models(self, request: Request) -> Response:
        self.check_key(request)
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self.check_key(request)
        name = request.path_params["name"]
        if name != self._service.name:
            raise RequestRefused(
                f"there is no model {name!r:.80}", status=404, param="model", code="model_not_found"
            )
        return JSONResponse(self._model())

    async def health(self, _: Request) -> Response:
        if self._service.is_draining:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ok"})

    async def metrics(self, _: Request) -> Response:
        text = self._service.metrics.text()
        return Response(text, media_type=self._service.metrics.content_type)

    def _model(self) -> Json:
        told = {"id": self._service.name, "object": "model", "owned_by": "gramma"}
        return told | {"created": self._service.created}

    def check_key(self, request: Request) -> None:
        """Refuses a request without the key."""
        key = self._options.api_key
        given = request.headers.get("authorization", "")
        if key is not None and not hmac.compare_digest(
            given.encode("utf-8", "replace"), f"Bearer {key}".encode()
        ):
            raise RequestRefused(
                "the API key is missing or wrong: send it as 'Authorization: Bearer KEY'",
                status=401,
                code="invalid_api_key",
            )

    # -- answers -------------------------------------------------------------------------------

    async def _answered(
        self,
        request: Request,
        read: Callable[[Json], tuple[Asked, Any]],
        answering: Callable[[Job, Any], Any],
    ) -> Response:
        began, path = time.monotonic(), request.url.path
        metrics = self._service.metrics

        def count(status: int) -> None:
            metrics.requests.labels(path, str(status)).inc()
            metrics.seconds.labels(path).observe(time.monotonic() - began)
            if status in (CLIENT_LEFT, 504):
                metrics.cancelled.inc()

        status: int | None = 500
        try:
            self.check_key(request)
            asked, body = read(await self._json(request))
            job = await while_connected(request.receive, self._service.begin(asked))
            answer = answering(job, body)
            if asked.stream:
                status = None  # which its end will tell
                return self._streamed(job, answer, count)
            try:
                whole = await while_connected(request.receive, answer.whole())
            finally:
                self._service.end(job)
            status = 200
            return JSONResponse(whole)
        except RequestRefused as error:
            status = error.status
            raise
        except (ClientLeft, ClientDisconnect):
            status = CLIENT_LEFT
            return Response(status_code=CLIENT_LEFT)
        finally:
            if status is not None:
                count(status)

    def _streamed(self, job: Job, answer: Any, count: Callable[[int], None]) -> Response:
        def on_end(status: int) -> None:
            self._service.end(job)
            count(status)

        # the engine ends late answers itself; this is for clients that do not read
        seconds = self._options.max_seconds + self._options.body_seconds
        done = isinstance(answer, ChatCompletion)
        return EventStream(answer.pieces(), seconds, on_end, done=done)

    async def _json(self, request: Request) -> Json:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestRefused("the body must be application/json", status=415)
        most, data = self._options.max_body_bytes, bytearray()
        try:
            async with asyncio.timeout(self._options.body_seconds):
                async for piece in request.stream():
                    data += piece
                    if len(data) > most:
                        raise RequestRefused(
                            f"the body has more than {most:,} bytes",
                            status=413,
                            code="request_too_large",
                        )
        except TimeoutError:
            raise RequestRefused(
                "the body did not arrive in time", status=408, code="request_timeout"
            ) from None
        return read_json(bytes(data))


# -- paths and errors ----------------------------------------------------------------------------------

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def _add_paths(app: FastAPI, to: _Endpoints, name: str) -> None:
    answers: tuple[tuple[str, _Handler, type[BaseModel], str], ...] = (
        ("/v1/chat/completions", to.chat, ChatBody, "A chat completion."),
        ("/v1/responses", to.responses, ResponsesBody, "A response."),
    )
    for path, handler, body, what in answers:
        app.add_api_route(
            path,
            handler,
            methods=["POST"],
            summary=what,
            response_model=None,
            responses=_ANSWERED | _REFUSALS,
            openapi_extra={"requestBody": _body_of(body, name)},
        )
    reads: tuple[tuple[str, _Handler, str], ...] = (
        ("/v1/models", to.models, "The models."),
        ("/health", to.health, "Whether it answers."),
    )
    for path, handler, what in reads:
        app.add_api_route(path, handler, methods=["GET"], summary=what, response_model=None)
    app.add_api_route(
        "/metrics",
        to.metrics,
        methods=["GET"],
        summary="Counters for Prometheus.",
        response_class=PlainTextResponse,
        response_model=None,
    )
    app.add_api_route(
        "/v1/models/{name:path}",
        to.model,
        methods=["GET"],
        summary="A model.",
        response_model=None,
        responses={404: _REFUSALS[404]},
        openapi_extra={"parameters": [_NAME]},
    )


_NAME: Final[Json] = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}


def _body_of(kind: type[BaseModel], name: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema_of(kind, name)}}}


_ANSWERED: Final[dict[int | str, Json]] = {
    200: {
        "description": "The answer, whole or as server-sent events.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {},
        },
    }
}
_ERROR: Final[Json] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_REFUSALS: Final[dict[int | str, Json]] = {
    status: {"description": what, "content": {"application/json": {"schema": _ERROR}}}
    for status, what in (
        (400, "A member that cannot be served; `param` names it."),
        (401, "No key, or a wrong one."),
        (404, "No such model."),
        (408, "The body did not arrive in time."),
        (413, "The body is too large."),
        (415, "The body is not application/json."),
        (429, "Too many requests wait."),
        (503, "The server stops."),
        (504, "The answer took too long."),
    )
}


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestRefused)
    async def refused(_: Request, error: RequestRefused) -> Response:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        told = RequestRefused(str(error.detail), status=error.status_code)
        return JSONResponse(told.body, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        told = RequestRefused("the server failed, see its log", status=500, code="internal")
        return JSONResponse(told.body, 500)
