"""Extraction and calls of tools over an OpenAI-compatible server, checked here."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from pydantic import ValidationError

from constrain.arguments import check_count, described
from constrain.huggingface.growing import BEGIN, ExtractionStream, grown
from constrain.huggingface.many import about, checked_texts
from constrain.huggingface.progress import Reported, reporting
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.servers.answers import Answer
from constrain.servers.requests import Asked, Drawn, not_of
from constrain.servers.strict import strict_form
from constrain.servers.transport import ServerError, Transport
from constrain.tools import (
    KnownTool,
    ToolCall,
    ToolCalls,
    checked_call,
    checked_messages,
    known_tools,
)
from grammars.errors import GrammarError
from grammars.frontends.json_schema.closing import closed
from grammars.tools.definitions import ToolChoice, ToolLike, choose

SchemaAs: TypeAlias = Literal["response_format", "structured_outputs", "guided_json"] | None

_WAYS: Final = ("response_format", "structured_outputs", "guided_json", None)
_PATH: Final = "/chat/completions"
_SHOWN: Final = 200


class OpenAIServer:
    """A model behind an OpenAI-compatible server (OpenAI, vLLM, llama.cpp, SGLang, Ollama, ...).

    It stands where a model stands: ``extract(OpenAIServer("http://localhost:8000/v1"), None, text,
    Person)``; the same functions are its methods.  The schema is sent along, and the answer is checked here,
    by the same grammars: a server that ignores the schema is told apart from a model that is wrong.

    Args:
        url: up to and with the version.
        model: its name at the server; by default the first that the server lists.
        api_key: sent as a bearer token.
        schema_as: where the schema stands in a request: ``"response_format"`` (OpenAI's
            ``json_schema``), ``"structured_outputs"`` or ``"guided_json"`` (vLLM, newer and older), or
            ``None``: nowhere; the prompt shows it anyway.
        strict: whether ``response_format`` may ask for OpenAI's strict mode.  Objects that name their keys
            are then sent as having no others, and schemas without ``default``.  That mode takes no optional
            keys and no free ones: for a schema that has some the request says ``"strict": false``.
        timeout: seconds without a byte after which a request is given up.
        headers: of each request, besides.
        extra_body: members of each request, besides.

    Raises:
        ValueError: for a URL that is none, or an unknown ``schema_as``.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        api_key: str | None = None,
        *,
        schema_as: SchemaAs = "response_format",
        strict: bool = True,
        timeout: float = 120.0,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        if schema_as not in _WAYS:
            raise ValueError(f"schema_as={schema_as!r} is none of {', '.join(map(repr, _WAYS))}")
        bearer = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._transport = Transport(url, bearer | dict(headers or {}), timeout)
        self._name = model
        self._schema_as = schema_as
        self._strict = strict
        self._extra = dict(extra_body or {})

    @property
    def url(self) -> str:
        """Where it is."""
        return self._transport.url

    def __repr__(self) -> str:
        return f"OpenAIServer({self.url!r}, {self._name!r})"

    @property
    def model(self) -> str:
        """The model's name at the server.

        Raises:
            ServerError: if none was given and the server lists none.
        """
        if self._name is None:
            listed = self._transport.get("/models")
            try:
                self._name = str(listed["data"][0]["id"])
            except (KeyError, IndexError, TypeError):
                raise ServerError(f"{self.url}/models lists no model; give its name") from None
        return self._name

    # -- extraction ------------------------------------------------------------------------------

    def extract(
        self,
        text_or_messages: str | Messages,
        schema_or_type: Any,
        *,
        retries: int = 0,
        **options: Any,
    ) -> Extraction:
        """Has the server's model read a text and write it down as a schema or a type demands.

        Args:
            text_or_messages, schema_or_type: as :func:`constrain.extract` takes them; a grammar only with
                ``schema_as="structured_outputs"`` or ``"guided_json"``.
            retries: how often it is asked again where the answer is not of the schema or cut off, or a
                validator of the type's own refuses the value.
            **options: ``grounded``, ``source``, ``prompt``, ``system``, ``examples``,
                ``max_new_tokens`` and ``stop``, as :func:`constrain.extract` takes them (no server can keep
                values to a source: they are checked); ``temperature`` (0 by default; with ``None`` the
                request has none, which some models ask for), ``top_p``, ``seed``;
                ``extra_body``, members of the request besides.

        Returns:
            The extraction, without tokens.  Where the server ran out of tokens in each attempt it is not
            complete, as with a model that runs here: its value is ``None``, and its error says so.

        Raises:
            ServerError: if the server cannot be reached, refuses the request, or answers with something
                that is not of the schema, or not grounded.
            TypeError, ValueError, GrammarError: as :func:`constrain.extract`.
            pydantic.ValidationError: if a validator of the type's own refuses the value.
        """
        retries = check_count(retries, "retries", least=0)
        asked = Asked.of(text_or_messages, schema_or_type, options)
        found = self._tried(asked, retries, self._answer)
        assert found is not None, "a request that nobody cancels has an answer"
        return found

    def _tried(
        self, asked: Asked, retries: int, answered: Callable[[dict[str, Any]], Answer | None]
    ) -> Extraction | None:
        """What an answer says, the first that can be used; ``None`` if nobody waits for it any more."""
        for attempt in range(retries + 1):
            answer = answered(self._body(asked, attempt))
            if answer is None:
                return None
            try:
                found = self._read(asked, answer)
            except (ValidationError, ServerError):
                if attempt == retries:
                    raise
                continue
            if found.error is None or attempt == retries:
                return found
        raise AssertionError("the last attempt returns or raises")

    def extract_many(
        self,
        texts: Iterable[str | Messages],
        schema_or_type: Any,
        *,
        batch_size: int = 8,
        progress: Reported = False,
        on_error: Literal["raise", "return"] = "raise",
        retries: int = 0,
        **options: Any,
    ) -> list[Extraction]:
        """The same for many texts, ``batch_size`` requests at a time.

        An answer that is cut off is no text that fails, as in :meth:`extract`; its error says so.

        Args:
            texts, progress, on_error: as :func:`constrain.extract_many` takes them.
            batch_size: requests under way at once.
            schema_or_type, retries, **options: as :meth:`extract` takes them.

        Returns:
            The results in the order of the texts.

        Raises:
            Exception: what :meth:`extract` raises, of the first text that fails, with its index
                before the message, or in a note of pydantic's.
        """
        check_count(batch_size, "batch_size")
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error={on_error!r}: must be 'raise' or 'return'")
        given = checked_texts(texts)
        expected: tuple[type[Exception], ...] = (ServerError, ValidationError)
        if options.get("grounded"):
            expected += (GrammarError,)  # the text's: it lacks what the schema asks for
        for text in given[:1]:
            with suppress(*expected):
                Asked.of(text, schema_or_type, options)  # says at once what cannot be used

        def one(text: str | Messages) -> Extraction:
            try:
                return self.extract(text, schema_or_type, retries=retries, **options)
            except expected as error:
                if on_error == "raise":
                    raise
                answer = error.answer if isinstance(error, ServerError) else None
                return Extraction(None, answer or "", [], complete=False, error=error)

        found = []
        with reporting(progress, len(given)) as done, ThreadPoolExecutor(batch_size) as pool:
            results = pool.map(one, given)
            for number in range(len(given)):
                try:
                    found.append(next(results))
                except expected as error:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise about(number, error) from error.__cause__
                done(1)
        return found

    def extract_stream(
        self,
        text_or_messages: str | Messages,
        schema_or_type: Any,
        *,
        partial_strings: bool = False,
        **options: Any,
    ) -> ExtractionStream:
        """Streams an extraction, as :func:`constrain.extract_stream`.

        Closing it closes the connection, at which servers stop writing.

        Args:
            text_or_messages, schema_or_type, partial_strings: as :func:`constrain.extract_stream`.
            **options: as :meth:`extract` takes them, without ``retries``.
        """
        found: list[Extraction] = []

        def values() -> Generator[Any, None, None]:
            asked = Asked.of(text_or_messages, schema_or_type, options)
            told = self._told(asked)
            with closing(told):
                yield from grown(told, partial_strings, found)

        return ExtractionStream(values(), found)

    async def aextract(
        self, text_or_messages: str | Messages, schema_or_type: Any, **options: Any
    ) -> Extraction:
        """Awaits an extraction; one that is cancelled closes its connection at the next token.

        Args:
            text_or_messages, schema_or_type, **options: as :meth:`extract` takes them.
        """
        gone = threading.Event()
        retries = check_count(options.pop("retries", 0), "retries", least=0)
        asked = Asked.of(text_or_messages, schema_or_type, options)

        def run() -> Extraction | None:
            return self._tried(asked, retries, partial(self._streamed_answer, gone=gone))

        try:
            found = await asyncio.to_thread(run)
        except asyncio.CancelledError:
            gone.set()
            raise
        assert found is not None, "only one that is cancelled is given up"
        return found

    # -- tools -----------------------------------------------------------------------------------

    def call(
        self,
        messages: str | Messages,
        tools: Iterable[ToolLike],
        *,
        tool_choice: ToolChoice | None = "auto",
        parallel: bool = True,
        retries: int = 0,
        max_new_tokens: int | None = None,
        temperature: float | None = 0.0,
        top_p: float | None = None,
        seed: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> ToolCalls:
        """Has the server's model call tools, or answer in words; what it calls is checked here.

        Args:
            messages, tools, tool_choice, parallel, retries, max_new_tokens: as :func:`constrain.call`.
            temperature, top_p, seed, extra_body: as :meth:`extract` takes them.

        Raises:
            ServerError: if the server calls what is no tool, with arguments that are not of its schema, or
                not as ``tool_choice`` says.
            pydantic.ValidationError: if a validator of a signature refuses arguments.
        """
        retries = check_count(retries, "retries", least=0)
        known = known_tools(tools)
        mode, allowed = choose([one.tool for one in known], tool_choice)
        named = {tool.name for tool in allowed}
        usable = [one for one in known if one.tool.name in named]
        drawn = Drawn(temperature, top_p, seed, max_new_tokens, extra_body)
        body = self._common(checked_messages(messages), drawn)
        if usable:
            body |= {"tools": [one.spec for one in usable], "tool_choice": mode}
            if mode == "required" and len(usable) == 1:
                body["tool_choice"] = {
                    "type": "function",
                    "function": {"name": usable[0].tool.name},
                }
            if not parallel:
                body["parallel_tool_calls"] = False
        for attempt in range(retries + 1):
            answer = self._answer(drawn.again(body, attempt))
            if mode == "required" and not answer.calls:
                raise self._ignored("tool_choice", "it calls no tool", answer.text)
            if not parallel and len(answer.calls) > 1:
                raise self._ignored("parallel_tool_calls", "it calls several tools", answer.text)
            try:
                calls = [self._checked(one, usable) for one in answer.calls]
            except ValidationError:
                if attempt == retries:
                    raise
                continue
            return ToolCalls(calls, text=answer.text, reasoning=answer.reasoning, raw=answer.text)
        raise AssertionError("the last attempt returns or raises")

    def _checked(self, call: Any, known: Sequence[KnownTool]) -> ToolCall:
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        tool = next((one for one in known if one.tool.name == name), None)
        if tool is None:
            listed = ", ".join(one.tool.name for one in known) or "none at all"
            raise self._ignored("tools", f"it calls {name!r}; there are {listed}", json.dumps(call))
        assert function is not None
        text = function.get("arguments") or "{}"
        schema = json.dumps(closed(tool.tool.schema))
        reason = not_of(text, schema)
        if reason is not None:
            raise self._ignored(f"the schema of {name!r}", reason, str(text))
        return checked_call(tool.tool.name, json.loads(text), known)

    # -- requests --------------------------------------------------------------------------------

    def _common(self, messages: Any, drawn: Drawn) -> dict[str, Any]:
        body = {"model": self.model, "messages": [dict(message) for message in messages]}
        return body | drawn.members | self._extra | dict(drawn.extra_body or {})

    def _body(self, asked: Asked, attempt: int = 0) -> dict[str, Any]:
        """A request for an extraction."""
        body = self._common(asked.messages, asked.drawn)
        if asked.stop:
            body["stop"] = list(asked.stop)
        body |= self._constraint(asked)
        return asked.drawn.again(body, attempt)

    def _constraint(self, asked: Asked) -> dict[str, Any]:
        """The members that tell the server what is wanted."""
        way = self._schema_as
        schema = asked.schema
        if way is None:
            return {}
        if schema is None:
            if way == "response_format":
                raise TypeError(
                    "response_format takes a JSON Schema or a type; for a Grammar, use a server with "
                    "schema_as='structured_outputs' or 'guided_json'"
                )
            rules = asked.target.grammar.to_gbnf()
            if way == "guided_json":
                return {"guided_grammar": rules}
            return {"structured_outputs": {"grammar": rules}}
        if way == "guided_json":
            return {"guided_json": schema}
        if way == "structured_outputs":
            return {"structured_outputs": {"json": schema}}
        sent = closed(schema) if self._strict else schema
        strict = strict_form(sent) if self._strict else None
        is_strict = strict is not None
        named = {"name": "answer", "schema": strict if is_strict else sent, "strict": is_strict}
        return {"response_format": {"type": "json_schema", "json_schema": named}}

    def _answer(self, body: dict[str, Any]) -> Answer:
        made = self._transport.post(_PATH, body)
        try:
            choice = made["choices"][0]
            return self._unrefused(Answer.of(choice, choice["message"], made.get("usage")))
        except (KeyError, IndexError, TypeError, AttributeError):
            shown = json.dumps(made)[:_SHOWN]
            raise ServerError(f"{self.url}{_PATH} answered without choices: {shown}") from None

    def _unrefused(self, answer: Answer) -> Answer:
        if answer.refusal:
            raise ServerError(f"the model refuses: {answer.refusal}", answer=answer.refusal)
        return answer

    def _deltas(self, body: dict[str, Any]) -> Generator[Answer, None, None]:
        """Pieces of a message as they come."""
        for event in self._transport.events(_PATH, body | {"stream": True}):
            choices = event.get("choices") or [{}]  # the last event may have nothing but counts
            choice: dict[str, Any] = choices[0]
            yield Answer.of(choice, choice.get("delta") or {}, event.get("usage"))

    def _streamed_answer(self, body: dict[str, Any], gone: threading.Event) -> Answer | None:
        """A whole answer, read as a stream; ``None`` if nobody waits for it any more."""
        whole = Answer()
        with closing(self._deltas(body)) as deltas:
            for delta in deltas:
                if gone.is_set():
                    return None
                whole += delta
        return self._unrefused(whole)

    def _told(self, asked: Asked) -> Generator[Any, None, None]:
        """An answer as it grows, and what it became, as :func:`grown` reads it."""
        yield BEGIN
        whole = Answer()
        with closing(self._deltas(self._body(asked))) as deltas:
            for delta in deltas:
                whole += delta
                if delta.text:
                    yield delta.text.encode("utf-8", "surrogatepass")
        yield self._read(asked, self._unrefused(whole))

    # -- answers ---------------------------------------------------------------------------------

    def _read(self, asked: Asked, answer: Answer) -> Extraction:
        """The value of an answer.

        Raises:
            ServerError: if it is not of the schema, though it is whole.
            pydantic.ValidationError: if a validator of the type's own refuses it.
        """
        text, target = answer.whole_text, asked.target
        cut = min((at for one in asked.stop if (at := text.find(one)) >= 0), default=None)
        text = text[:cut]
        reason = self._wrong(text, asked)
        found = Extraction(
            None, text, [], complete=False, reasoning=answer.reasoning, source=target.source
        )
        if reason is None:
            made_up = asked.made_up(text)
            if made_up is not None:
                raise ServerError(
                    f"{self.url} answered with values that do not stand in the text, which grounded= "
                    f"asks for and a server cannot keep: {made_up}",
                    answer=text,
                )
            return replace(found, value=target.value(text), complete=True)
        if cut is not None or (asked.stop and answer.finish == "stop"):
            return found
        if answer.finish == "length":
            return replace(found, error=self._cut_off(answer, asked))
        if not text:
            raise ServerError(f"{self.url}: the server sent no content", answer=text)
        raise self._ignored("the schema", reason, text)

    def _cut_off(self, answer: Answer, asked: Asked) -> ServerError:
        count = asked.drawn.max_new_tokens if answer.tokens is None else answer.tokens
        after = "" if count is None else f" after {count} tokens"
        return ServerError(
            f"the answer was cut off{after} (finish_reason 'length'); raise max_new_tokens",
            answer=answer.whole_text,
        )

    def _wrong(self, text: str, asked: Asked) -> str | None:
        """Why a text is not what is wanted; ``None`` where it is."""
        schema, grammar = asked.schema, asked.target.grammar
        if schema is not None:
            return not_of(text, json.dumps(schema))
        return None if grammar.accepts(text) else grammar.explain(text).message

    def _ignored(self, what: str, reason: str, answer: str) -> ServerError:
        hint = ""
        if what == "the schema":
            hint = (
                "; it may know the schema under another name (schema_as='structured_outputs' or "
                "'guided_json'), or not at all"
            )
        return ServerError(
            f"{self.url} ignored {what}: {reason}{hint}; it answered {answer[:_SHOWN]!r}",
            answer=answer,
        )


def server_of(model: Any, backend: Any, *, others: bool = False) -> OpenAIServer | None:
    """The server that is asked for; ``None`` for a model that runs here.

    Args:
        model: a server; with the URL of one as backend, the model's name there or ``None``.
        backend: the URL of a server, or a server.
        others: whether there may be backends of other kinds.

    Raises:
        TypeError: for a model that is none with a server, or a backend that is none.
    """
    if isinstance(backend, str):
        backend = OpenAIServer(backend, model if isinstance(model, str) else None)
        model = None if isinstance(model, str) else model
    if isinstance(backend, OpenAIServer):
        if model is None:
            return backend
        raise TypeError(
            f"with a server as backend the model is its name there, or None, not {described(model)}"
        )
    if backend is not None and not others:
        raise TypeError(
            f"backend is the URL of a server or an OpenAIServer, not {described(backend)}"
        )
    return model if isinstance(model, OpenAIServer) else None
