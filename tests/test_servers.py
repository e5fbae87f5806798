"""Models behind an OpenAI-compatible server: what is sent, what is believed, what is said of the rest."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any, Literal

import pytest
from patience import wait_until
from pydantic import AfterValidator, BaseModel, ValidationError
from test_packaging import run_bare

import constrain
import gramma
import samplers
from constrain import Extraction, OpenAIServer, ServerError, ToolCall
from grammars import Grammar, GrammarError


class Person(BaseModel):
    name: str
    age: int


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
ADA = '{"name": "Ada", "age": 36}'


# --- a server that says what it is told -----------------------------------------------------------


@dataclass
class Script:
    """A server's answers, and what it was asked.

    Attributes:
        answers: texts, whole bodies (mappings), (status, body) pairs, or functions of the request.
        asked: the requests: path, headers and body.
        closed: requests whose connection was closed before the answer was streamed.
    """

    url: str = ""
    answers: list[Any] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    pause: float = 0.0


def message(content: str | None, finish: str = "stop", **more: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": content, **more}
    return {"choices": [{"index": 0, "message": told, "finish_reason": finish}]}


def events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    (choice,) = answer["choices"]
    told = choice["message"]
    yield {"choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]}
    if told.get("reasoning_content"):
        yield {"choices": [{"delta": {"reasoning_content": told["reasoning_content"]}}]}
    if told.get("refusal"):
        yield {"choices": [{"delta": {"refusal": told["refusal"]}}]}
    for character in told["content"] or "":
        yield {"choices": [{"delta": {"content": character}, "finish_reason": None}]}
    yield {"choices": [{"delta": {}, "finish_reason": choice["finish_reason"]}]}
    yield {"choices": [], "usage": answer.get("usage")}


def handler(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def reply(self, status: int, body: Any) -> None:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            script.asked.append({"path": self.path, "headers": dict(self.headers)})
            self.reply(200, script.answers.pop(0))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number = len(script.asked)
            script.asked.append({"path": self.path, "headers": dict(self.headers), "body": body})
            answer = script.answers[0] if len(script.answers) == 1 else script.answers.pop(0)
            answer = answer(body) if callable(answer) else answer
            if isinstance(answer, tuple):
                self.reply(*answer)
                return
            answer = message(answer) if isinstance(answer, str) else answer
            if not body.get("stream"):
                self.reply(200, answer)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                self.wfile.write(b": a comment\n\n")
                for event in events(answer) if "choices" in answer else [answer]:
                    self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                    self.wfile.flush()
                    time.sleep(script.pause)
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                script.closed.append(number)

    return Handler


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(made))
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


# --- extraction -----------------------------------------------------------------------------------


@pytest.mark.parametrize("extract", [constrain.extract, samplers.extract, gramma.extract])
@pytest.mark.parametrize(
    "wanted", [Person, SCHEMA, json.dumps(SCHEMA)], ids=["type", "dict", "text"]
)
def test_the_schema_is_sent_along_and_the_answer_read(
    script: Script, extract: Any, wanted: Any
) -> None:
    script.answers = [ADA]
    found = extract("small", None, "Ada is 36.", wanted, backend=script.url, max_new_tokens=50)
    expected = Person(name="Ada", age=36) if wanted is Person else {"name": "Ada", "age": 36}
    assert found == Extraction(expected, ADA, [], True)
    (asked,) = script.asked
    assert asked["path"] == "/v1/chat/completions"
    body = asked["body"]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("small", 50, 0)
    form = body["response_format"]
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)
    assert form["json_schema"]["schema"]["properties"].keys() == {"name", "age"}
    assert form["json_schema"]["schema"]["additionalProperties"] is False
    (told,) = body["messages"]
    assert told["role"] == "user"
    assert told["content"].endswith("Text:\nAda is 36.")
    assert "Authorization" not in asked["headers"]


def test_a_server_in_the_place_of_a_model(script: Script) -> None:
    server = OpenAIServer(
        script.url + "/", "m", "secret", headers={"X-Team": "a"}, extra_body={"priority": 1}
    )
    assert repr(server) == f"OpenAIServer({script.url!r}, 'm')"
    script.answers = [ADA]
    options: dict[str, Any] = {
        "system": "Be brief.", "stop": ["\n\n"], "temperature": 0.5, "top_p": 0.9, "seed": 3,
        "examples": [("Bo, 7", Person(name="Bo", age=7))],
    }  # fmt: skip
    server.extract("Ada is 36.", Person, extra_body={"user": "u"}, **options)
    for extract in (constrain.extract, samplers.extract):
        extract(server, None, "Ada is 36.", Person, **options)
    first, *others = (one["body"] for one in script.asked)
    assert first.pop("user") == "u"
    assert others == [first, first]
    assert script.asked[0]["headers"]["Authorization"] == "Bearer secret"
    assert script.asked[0]["headers"]["X-Team"] == "a"
    assert (first["seed"], first["top_p"], first["stop"], first["priority"]) == (
        3,
        0.9,
        ["\n\n"],
        1,
    )
    roles = [told["role"] for told in first["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert json.loads(first["messages"][2]["content"]) == {"name": "Bo", "age": 7}


WAYS: dict[str, Callable[..., Any]] = {
    "extract": lambda *given, **options: gramma.extract(*given, Person, **options).value,
    "constrain.extract": lambda *given, **options: (
        constrain.extract(*given, Person, **options).value
    ),
    "many": lambda model, tokenizer, text, **options: (
        gramma.extract_many(model, tokenizer, [text], Person, **options)[0].value
    ),
    "stream": lambda *given, **options: list(gramma.extract_stream(*given, Person, **options))[-1],
    "constrain.stream": lambda *given, **options: list(
        constrain.extract_stream(*given, Person, **options)
    )[-1],
    "await": lambda *given, **options: (
        asyncio.run(gramma.aextract(*given, Person, **options)).value
    ),
    "constrain.await": lambda *given, **options: (
        asyncio.run(constrain.aextract(*given, Person, **options)).value
    ),
    "call": lambda *given, **options: gramma.call(*given, [Person], **options).text,
    "constrain.call": lambda *given, **options: constrain.call(*given, [Person], **options).text,
}


@pytest.mark.parametrize("way", WAYS)
def test_members_besides_and_no_temperature(script: Script, way: str) -> None:
    script.answers = [ADA]
    options: dict[str, Any] = {"extra_body": {"user": "u"}, "temperature": None}
    expected = ADA if way.endswith("call") else Person(name="Ada", age=36)
    run = WAYS[way]
    assert run("m", None, "Ada", backend=script.url, **options) == expected
    assert run(OpenAIServer(script.url, "m"), None, "Ada", **options) == expected
    for asked in script.asked:
        assert asked["body"]["user"] == "u"
        assert "temperature" not in asked["body"]


def test_no_temperature_in_another_attempt(script: Script) -> None:
    script.answers = ["", ADA]
    OpenAIServer(script.url, "m").extract("Ada", Person, temperature=None, retries=1)
    assert ["temperature" in one["body"] for one in script.asked] == [False, False]


@pytest.mark.parametrize("function", [samplers.extract, samplers.call])
def test_members_of_requests_are_for_servers(function: Any) -> None:
    with pytest.raises(TypeError, match="extra_body is for a model behind a server"):
        function(object(), object(), "Ada", [Person], extra_body={"user": "u"})


def test_the_first_model_that_is_listed(script: Script) -> None:
    script.answers = [{"data": [{"id": "big"}, {"id": "small"}]}, ADA, ADA]
    server = OpenAIServer(script.url)
    for _ in range(2):
        server.extract("Ada is 36.", Person)
    assert [one["path"] for one in script.asked] == ["/v1/models", *["/v1/chat/completions"] * 2]
    assert script.asked[1]["body"]["model"] == "big"
    script.answers = [{"data": []}]
    with pytest.raises(ServerError, match="lists no model; give its name"):
        OpenAIServer(script.url).extract("Ada is 36.", Person)


@pytest.mark.parametrize("way", ["structured_outputs", "guided_json", None])
def test_other_places_of_the_schema(script: Script, way: Any) -> None:
    server = OpenAIServer(script.url, "m", schema_as=way)
    script.answers = [ADA]
    assert server.extract("Ada", SCHEMA).value == {"name": "Ada", "age": 36}
    body = script.asked[0]["body"]
    assert "response_format" not in body
    assert body.get("guided_json") == (SCHEMA if way == "guided_json" else None)
    told = body.get("structured_outputs")
    assert told == ({"json": SCHEMA} if way == "structured_outputs" else None)
    script.answers = ["yes"]
    answers = Grammar.from_choices(["yes", "no"])
    assert server.extract("Ada", answers).value == "yes"
    body = script.asked[1]["body"]
    rules = body.get("guided_grammar") or body.get("structured_outputs", {}).get("grammar")
    if way is not None:
        assert Grammar.from_gbnf(rules).accepts("no")
    script.answers = ["perhaps"]
    with pytest.raises(ServerError, match="ignored the schema"):
        server.extract("Ada", answers)
    with pytest.raises(TypeError, match="takes a JSON Schema or a type; for a Grammar"):
        OpenAIServer(script.url, "m").extract("Ada", answers)


class Open(BaseModel, extra="allow"):
    name: str


class Holder(BaseModel):
    label: int = 0
    person: Person | None = None
    notes: dict[str, int] = {}
    free: Open | None = None


class Nullable(BaseModel):
    """All keys are required, though values may be null."""

    name: str | None
    default: Person
    others: list[Person]


ALL_REQUIRED = {
    "type": "object",
    "properties": {"default": {"type": "string", "default": "x"}, "n": {"const": {"default": 1}}},
    "required": ["n", "default"],
}


@pytest.mark.parametrize(
    ("wanted", "strict"),
    [
        (Person, True),
        (Nullable, True),
        (list[Person], True),
        (ALL_REQUIRED, True),
        (Holder, False),
        (list[Holder], False),
        (dict[str, int], False),
        (Open, False),
        ({"type": ["object", "null"]}, False),
        ({**ALL_REQUIRED, "required": ["n"]}, False),
    ],
    ids=[
        "type", "nullable", "list", "dict", "defaults", "nested", "map", "extra", "free", "optional",
    ],
)  # fmt: skip
def test_strict_mode_where_it_takes_the_schema(script: Script, wanted: Any, strict: bool) -> None:
    def sent(server: OpenAIServer) -> tuple[bool, Any]:
        script.answers = [(400, {})]
        with pytest.raises(ServerError):
            server.extract("Ada", wanted)
        form = script.asked[-1]["body"]["response_format"]["json_schema"]
        return form["strict"], form["schema"]

    said, schema = sent(OpenAIServer(script.url, "m"))
    assert said is strict
    for one in objects_of(schema) if strict else ():
        assert one["additionalProperties"] is False
        assert sorted(one["properties"]) == sorted(one["required"])
    said, plain = sent(OpenAIServer(script.url, "m", strict=False))
    assert said is False
    if isinstance(wanted, dict):
        assert plain == wanted
    if wanted is ALL_REQUIRED:
        assert schema["properties"] == {
            "default": {"type": "string"},
            "n": {"const": {"default": 1}},
        }


def objects_of(schema: Any) -> Iterator[dict[str, Any]]:
    """The mappings in a schema that have properties."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield schema
        for inner in schema.values():
            yield from objects_of(inner)
    for inner in schema if isinstance(schema, list) else ():
        yield from objects_of(inner)


def test_keys_may_come_in_any_order_and_numbers_in_any_spelling(script: Script) -> None:
    script.answers = ['\n{"age" : 36.0,\n\t"name":"Ada"}\n']
    server = OpenAIServer(script.url, "m")
    assert server.extract("Ada", SCHEMA).value == {"name": "Ada", "age": 36}
    assert server.extract("Ada", Person).value == Person(name="Ada", age=36)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("Ada is 36.", "ignored the schema: no JSON"),
        (f"```json\n{ADA}\n```", r"ignored the schema: the JSON is inside a code fence \(```\)"),
        (f"Here it is:\n```\n{ADA}```\nBye.", "inside a code fence"),
        ("```python\nAda()\n```", "ignored the schema: no JSON"),
        ('{"name": "Ada"}', "ignored the schema: "),
        ('{"name": "Ada", "age": "36"}', "ignored the schema: "),
    ],
)
def test_answers_that_are_not_of_the_schema(script: Script, answer: str, message: str) -> None:
    script.answers = [answer]
    server = OpenAIServer(script.url, "m")
    for wanted in (SCHEMA, Person):
        with pytest.raises(ServerError, match=message) as told:
            server.extract("Ada", wanted)
        assert told.value.answer == answer
        assert "schema_as='structured_outputs'" in str(told.value)
        assert script.url in str(told.value)


@pytest.mark.parametrize("way", ["response_format", "structured_outputs", None])
@pytest.mark.parametrize("strict", [True, False])
def test_keys_that_are_no_field(script: Script, way: Any, strict: bool) -> None:
    server = OpenAIServer(script.url, "m", schema_as=way, strict=strict)
    for written, key in (
        ('{"name": "Ada", "age": 36, "job": "x"}', "job"),
        ('{"job": "x", "name": "Ada", "age": 36}', "job"),
        ('{"name": "Ada", "age": 36, "a \\"b\\"": null}', 'a "b"'),
    ):
        for answer, wanted in (
            (written, Person),
            (f'{{"person": {written}}}', Holder),
            (f"[{ADA}, {written}]", list[Person]),
        ):
            script.answers = [answer]
            with pytest.raises(ServerError) as told:
                server.extract("Ada", wanted)
            assert f"ignored the schema: key {key!r} is not in the schema" in str(told.value)
    script.answers = ['{"free": {"name": "Ada", "job": "x"}, "notes": {"job": 1}}']
    found = server.extract("Ada", Holder).value
    assert (found.free.model_extra, found.notes) == ({"job": "x"}, {"job": 1})
    script.answers = [ADA.replace("}", ', "job": "x"}')]
    open_to_others = server.extract("Ada", SCHEMA)  # a schema means what it says
    assert open_to_others.value == {"name": "Ada", "age": 36, "job": "x"}


@pytest.mark.parametrize(
    ("age", "reason"),
    [("3", "the number cannot end here"), ("36", "is not in the schema")],
)
def test_numbers_out_of_bounds_are_no_foreign_keys(script: Script, age: str, reason: str) -> None:
    schema = {
        "properties": {"age": {"type": "integer", "minimum": 30}},
        "additionalProperties": False,
    }
    script.answers = [f'{{"age": {age}, "job": 1}}']
    with pytest.raises(ServerError, match=reason):
        OpenAIServer(script.url, "m").extract("Ada", schema)


@pytest.mark.parametrize("content", ["", None])
def test_no_content(script: Script, content: str | None) -> None:
    script.answers = [message(content)]
    with pytest.raises(ServerError, match="the server sent no content") as told:
        OpenAIServer(script.url, "m").extract("Ada", Person)
    assert told.value.answer == ""


def test_answers_that_are_cut_off(script: Script) -> None:
    script.answers = [message('{"name": "A', "length")]
    server = OpenAIServer(script.url, "m")
    found = server.extract("Ada", SCHEMA, max_new_tokens=4)
    assert (found.value, found.text, found.complete) == (None, '{"name": "A', False)
    assert str(found.error) == (
        "the answer was cut off after 4 tokens (finish_reason 'length'); raise max_new_tokens"
    )
    assert isinstance(found.error, ServerError)
    assert found.error.answer == found.text
    script.answers = [message('{"name": "A', "length") | {"usage": {"completion_tokens": 3}}]
    assert "cut off after 3 tokens (" in str(server.extract("Ada", Person, max_new_tokens=4).error)
    script.answers = [message(None, "length")]
    assert "cut off (" in str(server.extract("Ada", Person).error)
    script.answers = [message(ADA, "length")]  # cut off behind the end
    assert server.extract("Ada", Person).error is None
    script.answers = ['{"name": "']
    found = server.extract("Ada", SCHEMA, stop="Ada")
    assert (found.complete, found.error) == (False, None)
    script.answers = ['{"name": "Ada']  # the stop text told as well
    assert server.extract("Ada", SCHEMA, stop="Ada").text == '{"name": "'


def in_one(server: OpenAIServer, **options: Any) -> Extraction:
    return server.extract("Ada", Person, **options)


def among_many(server: OpenAIServer, **options: Any) -> Extraction:
    return server.extract_many(["Ada"], Person, **options)[0]


def awaited(server: OpenAIServer, **options: Any) -> Extraction:
    return asyncio.run(server.aextract("Ada", Person, **options))


def streamed(server: OpenAIServer) -> Extraction:
    stream = server.extract_stream("Ada", Person)
    assert all(isinstance(value, dict) for value in stream)
    assert stream.extraction is not None
    return stream.extraction


@pytest.mark.parametrize("extract", [in_one, among_many, awaited])
def test_what_is_cut_off_is_asked_again(script: Script, extract: Any) -> None:
    server = OpenAIServer(script.url, "m")
    script.answers = [message('{"name": "A', "length"), ADA, ""]
    assert extract(server, retries=2) == Extraction(Person(name="Ada", age=36), ADA, [], True)
    assert [one["body"]["temperature"] for one in script.asked] == [0, 0.7]
    script.answers = [message('{"name": "A', "length")]
    assert "cut off" in str(extract(server, retries=1).error)
    assert len(script.asked) == 4


def test_a_stream_that_is_cut_off(script: Script) -> None:
    script.answers = [message('{"name": "A', "length") | {"usage": {"completion_tokens": 3}}]
    found = streamed(OpenAIServer(script.url, "m"))
    assert (found.value, found.complete) == (None, False)
    assert "cut off after 3 tokens" in str(found.error)


def test_a_thought_of_the_server(script: Script) -> None:
    script.answers = [message(ADA, reasoning_content="Hm.")]
    server = OpenAIServer(script.url, "m")
    assert server.extract("Ada", Person).reasoning == "Hm."
    stream = server.extract_stream("Ada", Person)
    list(stream)
    assert stream.extraction is not None
    assert stream.extraction.reasoning == "Hm."


def adult(age: int) -> int:
    if age < 40:
        raise ValueError("too young")
    return age


@pytest.mark.filterwarnings("ignore:a grammar cannot keep")
def test_a_validator_refuses(script: Script) -> None:
    class Adult(BaseModel):
        name: str
        age: Annotated[int, AfterValidator(adult)]

    server = OpenAIServer(script.url, "m")
    script.answers = [ADA, ADA.replace("36", "46"), ""]
    found = server.extract("Ada", Adult, retries=1, seed=5)
    assert found.value.age == 46
    first, second = (one["body"] for one in script.asked)
    assert (first["temperature"], second["temperature"]) == (0, 0.7)
    assert (first["seed"], second["seed"]) == (5, 6)
    script.answers = [ADA]
    with pytest.raises(ValidationError, match="too young"):
        server.extract("Ada", Adult, retries=1)
    found = server.extract_many(["Ada"], Adult, on_error="return")[0]
    assert isinstance(found.error, ValidationError)


# --- many, streamed, awaited ----------------------------------------------------------------------


def echo(body: dict[str, Any]) -> str:
    text = body["messages"][-1]["content"].rpartition("Text:\n")[2]
    return json.dumps({"name": text, "age": len(text)})


@pytest.mark.parametrize("extract_many", [constrain.extract_many, gramma.extract_many])
def test_many(script: Script, extract_many: Any) -> None:
    texts = [f"{'x' * (i % 3)}{i}" for i in range(9)]
    script.answers = [echo]
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"batch_size": 4, "progress": lambda *at: told.append(at)}
    found = extract_many("m", None, texts, Person, backend=script.url, **options)
    assert [one.value.name for one in found] == texts
    assert told == [(i, 9) for i in range(1, 10)]
    script.answers = [lambda body: echo(body) if "x" in echo(body) else "no JSON"]
    with pytest.raises(ServerError, match=r"^texts\[0\]: .*ignored the schema"):
        extract_many("m", None, texts, Person, backend=script.url)
    found = extract_many("m", None, texts, Person, backend=script.url, on_error="return")
    assert [one.error is None for one in found] == ["x" in text for text in texts]
    assert found[0].text == "no JSON"


def test_of_many_a_text_that_lacks_what_is_grounded_is_told_by_its_index(script: Script) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    server = OpenAIServer(script.url, model="m")
    script.answers = ['{"age":36}']
    for texts, lacks in ((["Ada is 36.", "Bob"], 1), (["Bob", "Ada is 36."], 0)):
        with pytest.raises(GrammarError, match=rf"^texts\[{lacks}\]: .*age"):
            server.extract_many(texts, schema, grounded=True)
        found = server.extract_many(texts, schema, grounded=True, on_error="return")
        assert found[1 - lacks].value == {"age": 36}
        assert isinstance(found[lacks].error, GrammarError)
    with pytest.raises(GrammarError, match="nonsense"):
        server.extract_many(["Ada"], {"type": "nonsense"}, on_error="return")


@pytest.mark.parametrize("stream", [constrain.extract_stream, samplers.extract_stream])
def test_streams(script: Script, stream: Any) -> None:
    script.answers = [ADA]
    made = stream("m", None, "Ada", Person, backend=script.url, partial_strings=True)
    assert script.asked == []
    values = list(made)
    assert values[0] == {}
    assert {"name": "Ad"} in values
    assert values[-1] == Person(name="Ada", age=36)
    assert made.extraction == Extraction(values[-1], ADA, [], True)
    assert script.asked[0]["body"]["stream"] is True
    script.answers = ["no JSON"]
    with pytest.raises(ServerError, match="ignored the schema"):
        list(stream("m", None, "Ada", Person, backend=script.url))


def test_closing_a_stream_closes_the_connection(script: Script) -> None:
    script.answers, script.pause = [json.dumps({"name": "x" * 3_000, "age": 1})], 0.001
    made = OpenAIServer(script.url, "m").extract_stream("Ada", Person)
    assert next(made) == {}
    made.close()
    assert list(made) == []
    wait_until(lambda: script.closed == [0])


@pytest.mark.parametrize("aextract", [constrain.aextract, samplers.aextract])
def test_awaited(script: Script, aextract: Any) -> None:
    script.answers = [echo]

    async def several() -> list[Any]:
        return await asyncio.gather(
            *(aextract("m", None, name, Person, backend=script.url) for name in "abc")
        )

    assert [one.value.name for one in asyncio.run(several())] == list("abc")
    script.answers, script.pause = [json.dumps({"name": "x" * 3_000, "age": 1})], 0.001
    number = len(script.asked)

    async def given_up() -> None:
        task = asyncio.create_task(aextract("m", None, "a", Person, backend=script.url))
        while len(script.asked) == number:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(given_up())
    wait_until(lambda: script.closed == [number])


# --- tools ----------------------------------------------------------------------------------------


def get_weather(city: Literal["Rome", "Oslo"], days: int = 1) -> str:
    """Says the weather."""
    raise AssertionError("nothing is called")


def book(seats: Annotated[int, AfterValidator(adult)]) -> None:
    """Books."""


def called(*calls: tuple[str, str], content: str | None = None) -> dict[str, Any]:
    listed = [
        {"id": str(i), "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    return message(content, "tool_calls", tool_calls=listed)


@pytest.mark.parametrize("call", [constrain.call, samplers.call, gramma.call])
def test_calls(script: Script, call: Any) -> None:
    script.answers = [called(("get_weather", '{"city": "Rome"}'), content="I look.")]
    found = call("m", None, "Rain?", [get_weather, book], backend=script.url)
    assert found == [ToolCall("get_weather", {"city": "Rome", "days": 1})]
    assert found.text == "I look."
    body = script.asked[0]["body"]
    assert body["tool_choice"] == "auto"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["get_weather", "book"]
    assert body["tools"][0]["function"]["description"] == "Says the weather."
    assert body["messages"] == [{"role": "user", "content": "Rain?"}]
    script.answers = ["It rains."]
    found = call("m", None, "Rain?", [get_weather], backend=script.url)
    assert (list(found), found.text) == ([], "It rains.")


def test_choices_of_tools(script: Script) -> None:
    server = OpenAIServer(script.url, "m")
    script.answers = [called(("get_weather", '{"city": "Rome"}'))]
    server.call("Rain?", [get_weather, book], tool_choice="get_weather", parallel=False)
    body = script.asked[-1]["body"]
    named = {"type": "function", "function": {"name": "get_weather"}}
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (named, False)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["get_weather"]
    script.answers = ["No."]
    server.call("Rain?", [get_weather], tool_choice="none")
    assert "tools" not in script.asked[-1]["body"]
    with pytest.raises(GrammarError, match="'nope', which is no tool"):
        server.call("Rain?", [get_weather], tool_choice="nope")


@pytest.mark.parametrize(
    ("answer", "options", "message"),
    [
        (called(("fly", "{}")), {}, "ignored tools: it calls 'fly'; there are get_weather"),
        (called(("get_weather", '{"city": "Paris"}')), {}, "ignored the schema of 'get_weather'"),
        (called(("get_weather", "city")), {}, "no JSON"),
        (called(("get_weather", "")), {}, "ignored the schema of 'get_weather'"),
        ("It rains.", {"tool_choice": "required"}, "ignored tool_choice: it calls no tool"),
        (
            called(*[("get_weather", '{"city": "Rome"}')] * 2),
            {"parallel": False},
            "ignored parallel_tool_calls",
        ),
    ],
    ids=["name", "arguments", "no JSON", "nothing", "no call", "two calls"],
)
def test_calls_that_are_none(
    script: Script, answer: Any, options: dict[str, Any], message: str
) -> None:
    script.answers = [answer]
    with pytest.raises(ServerError, match=message):
        OpenAIServer(script.url, "m").call("Rain?", [get_weather], **options)


def test_arguments_that_a_validator_refuses(script: Script) -> None:
    script.answers = [called(("book", '{"seats": 3}')), called(("book", '{"seats": 50}')), ""]
    server = OpenAIServer(script.url, "m")
    assert server.call("Go.", [book], retries=1) == [ToolCall("book", {"seats": 50})]
    script.answers = [called(("book", '{"seats": 3}'))]
    with pytest.raises(ValidationError, match="too young"):
        server.call("Go.", [book])


# --- servers that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message", "status"),
    [
        ((400, {"error": {"message": "no response_format"}}), r"\(400\): no response_format", 400),
        ((401, {"detail": "who?"}), r"\(401\): .*who\?", 401),
        ((500, "boom"), r"\(500\): boom", 500),
        ((503, ""), "it says nothing more", 503),
        ((200, "<html>"), "answered no JSON: '<html>'", None),
        ((200, {"object": "error"}), "answered without choices", None),
        (message(None, refusal="I will not."), "the model refuses: I will not.", None),
    ],
    ids=str,
)
def test_refusals(script: Script, answer: Any, message: str, status: int | None) -> None:
    script.answers = [answer]
    with pytest.raises(ServerError, match=message) as told:
        OpenAIServer(script.url, "m").extract("Ada", Person)
    assert told.value.status == status


def test_a_stream_that_breaks_off(script: Script) -> None:
    script.answers = [{"error": {"message": "out of memory"}}]
    with pytest.raises(ServerError, match="broke off: out of memory"):
        list(OpenAIServer(script.url, "m").extract_stream("Ada", Person))


def test_servers_that_are_not_there(script: Script) -> None:
    with pytest.raises(ServerError, match="cannot be reached"):
        OpenAIServer("http://127.0.0.1:9/v1", "m").extract("Ada", Person)

    def slow(body: dict[str, Any]) -> str:
        time.sleep(1)
        return ADA

    script.answers = [slow]
    with pytest.raises(ServerError, match=r"did not answer within 0\.1 seconds|timed out"):
        OpenAIServer(script.url, "m", timeout=0.1).extract("Ada", Person)
    with pytest.raises(ValueError, match="no URL of a server"):
        OpenAIServer("localhost:8000")
    wrong: Any = "grammar"
    with pytest.raises(ValueError, match="schema_as='grammar' is none of"):
        OpenAIServer(script.url, schema_as=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canonical": True}, "canonical is for a model that runs here"),
        ({"heal": True}, "heal is for a model that runs here"),
        ({"reasoning": 30}, "reasoning is for a model that runs here"),
        ({"streamer": print}, "streamer is for a model that runs here"),
    ],
    ids=str,
)
@pytest.mark.parametrize("extract", [constrain.extract, samplers.extract])
def test_what_goes_only_here(
    script: Script, extract: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        extract(None, None, "Ada", Person, backend=script.url, **options)
    assert script.asked == []


def test_wrong_arguments(script: Script) -> None:
    server = OpenAIServer(script.url, "m")
    with pytest.raises(TypeError, match="'num_beams' is no option of an extraction over a server"):
        constrain.extract(server, None, "Ada", Person, num_beams=2)
    backend: Any = 3
    for function in (constrain.extract, constrain.extract_many, constrain.extract_stream):
        with pytest.raises(
            TypeError, match="backend is the URL of a server or an OpenAIServer, not 3"
        ):
            function(object(), None, ["Ada"], Person, backend=backend)  # type: ignore[operator]
    with pytest.raises(TypeError, match="the model is its name there, or None"):
        constrain.extract(object(), None, "Ada", Person, backend=script.url)
    with pytest.raises(ValueError, match="temperature=-1"):
        server.extract("Ada", Person, temperature=-1)
    several: Any = ["Ada"]
    with pytest.raises(TypeError, match="extract reads one text"):
        server.extract(several, Person)
    assert script.asked == []


def test_no_torch_is_needed(script: Script) -> None:
    script.answers = [ADA]
    done = run_bare(
        f"""
import gramma
server = gramma.OpenAIServer({script.url!r}, "m")
schema = {SCHEMA!r}
print(server.extract("Ada", schema).value, list(server.extract_stream("Ada", schema))[-1])
print("torch" in sys.modules)
"""
    )
    value = "{'name': 'Ada', 'age': 36}"
    assert done.stdout == f"{value} {value}\nFalse\n", done.stderr


def test_values_that_do_not_stand_in_the_text(script: Script) -> None:
    server = OpenAIServer(script.url, "m")
    for wanted in (SCHEMA, Person):
        script.answers = [ADA.replace("Ada", "Bob"), ADA]
        found = server.extract("Ada is 36.", wanted, grounded=True, retries=1)
        assert found.text == ADA
        script.answers = [ADA]
        with pytest.raises(ServerError, match="values that do not stand in the text"):
            constrain.extract(server, None, "Bob is 36.", wanted, grounded=True)
        constrain.extract(server, None, "Bob is 36.", wanted, grounded=True, source="Ada, 36")
    marked = {
        "type": "object",
        "properties": {"name": {"type": "string", "x-gramma-source": "verbatim"}, "age": {}},
        "required": ["name"],
    }
    with pytest.raises(ServerError, match="values that do not stand in the text"):
        server.extract("Bob is 36.", marked)
    assert "x-gramma-source" not in json.dumps(script.asked[-1]["body"]["response_format"])


def test_where_values_of_a_server_stand(script: Script) -> None:
    script.answers = [ADA]
    text = "36 years old: Ada."
    found = OpenAIServer(script.url, "m").extract(text, Person)
    assert {at: text[slice(*span)] for at, span in found.sources.items()} == {
        "/name": "Ada",
        "/age": "36",
    }
    assert found.confidence == {}


def test_refusals_and_odd_characters_in_streams(script: Script) -> None:
    server = OpenAIServer(script.url, "m")
    script.answers = [message("", refusal="I will not.")]
    with pytest.raises(ServerError, match="the model refuses: I will not"):
        list(server.extract_stream("Ada", Person))
    for name in ("\U0001f600", "\ud83d"):
        script.answers = [f'{{"name": "{name}", "age": 1}}']
        found = server.extract("Ada", SCHEMA)
        values = list(server.extract_stream("Ada", SCHEMA))
        assert found.value == values[-1] == {"name": name.replace("\ud83d", "\ufffd"), "age": 1}
