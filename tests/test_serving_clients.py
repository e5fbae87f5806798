"""The command ``gramma serve`` with the embedded model, as OpenAI's own client and ours talk to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import gramma
from constrain import ServerError
from constrain.models import DEFAULT_MODEL, ModelUnavailable, fetch_model
from grammars import Grammar

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.model
ADA = "Ada Lovelace is 36 years old."
QUESTION = [{"role": "user", "content": f"{ADA} Write her name and age as JSON."}]
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Says the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
RAIN = [{"role": "user", "content": "Do I need an umbrella in Rome?"}]


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    try:
        fetch_model(DEFAULT_MODEL)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "gramma", "serve", "--port", "0", "--name", "small"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"GRAMMA_API_KEY": "secret"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", line)
        yield line
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    return openai.OpenAI(base_url=url, api_key="secret", max_retries=0)


@pytest.fixture(scope="module")
def ours(url: str) -> gramma.OpenAIServer:
    return gramma.OpenAIServer(url, api_key="secret")


def test_models_and_keys(client: Any, url: str) -> None:
    assert [model.id for model in client.models.list()] == ["small"]
    assert client.models.retrieve("small").owned_by == "gramma"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=url, api_key="wrong").models.list()


def test_chat(client: Any) -> None:
    body = {"model": "small", "messages": RAIN, "max_tokens": 12, "seed": 1}
    whole = client.chat.completions.create(**body, logprobs=True, top_logprobs=2)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    assert len(whole.choices[0].logprobs.content) == 12
    pieces = client.chat.completions.create(**body, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == whole.choices[0].message.content


def test_chat_parse(client: Any) -> None:
    found = client.chat.completions.parse(
        model="small", messages=QUESTION, response_format=Person, temperature=0, max_tokens=60
    )
    person = found.choices[0].message.parsed
    assert isinstance(person, Person)
    assert person.name == "Ada Lovelace"


@pytest.mark.parametrize("stream", [False, True])
def test_chat_tools(client: Any, stream: bool) -> None:
    body: dict[str, Any] = {
        "model": "small",
        "messages": RAIN,
        "tools": [{"type": "function", "function": WEATHER}],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "max_tokens": 60,
    }
    if stream:
        with client.chat.completions.stream(**body) as events:
            for _ in events:
                pass
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**body).choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")


def test_structured_outputs(client: Any) -> None:
    found = client.chat.completions.create(
        model="small",
        messages=RAIN,
        max_tokens=20,
        extra_body={"structured_outputs": {"regex": "(yes|no), [a-z ]{5,20}\\."}},
    )
    assert re.fullmatch(r"(yes|no), [a-z ]{5,20}\.", found.choices[0].message.content)
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        client.chat.completions.create(
            model="small",
            messages=RAIN,
            max_tokens=2,
            extra_body={"structured_outputs": {"regex": "[a-z]{900}"}},
        )


def test_responses(client: Any) -> None:
    found = client.responses.create(
        model="small", input="Write a story about a fox.", temperature=0, max_output_tokens=9
    )
    assert found.status == "incomplete"
    assert found.usage.output_tokens == 9
    parsed = client.responses.parse(
        model="small", input=QUESTION, text_format=Person, temperature=0, max_output_tokens=60
    )
    assert parsed.output_parsed.name == "Ada Lovelace"
    with client.responses.stream(
        model="small", input=QUESTION, text_format=Person, temperature=0, max_output_tokens=60
    ) as events:
        kinds = [event.type for event in events]
        assert events.get_final_response().output_parsed == parsed.output_parsed
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    tools = [{"type": "function", **WEATHER}]
    called = client.responses.create(
        model="small", input=RAIN, tools=tools, tool_choice="required", max_output_tokens=90
    )
    assert all(item.type == "function_call" for item in called.output)
    assert json.loads(called.output[0].arguments)["city"] in ("Rome", "Oslo")


# --- our own client -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["response_format", "structured_outputs"])
def test_our_extraction(url: str, way: Any) -> None:
    server = gramma.OpenAIServer(url, api_key="secret", schema_as=way)
    found = server.extract(ADA, Person, max_new_tokens=60)
    assert found.value == Person(name="Ada Lovelace", age=36)
    assert found.complete


def test_our_grammar(url: str) -> None:
    server = gramma.OpenAIServer(url, api_key="secret", schema_as="structured_outputs")
    found = server.extract("Is water wet?", Grammar.from_regex("(yes|no)!{1,3}"), max_new_tokens=20)
    assert re.fullmatch("(yes|no)!{1,3}", found.text)


def test_our_stream(ours: gramma.OpenAIServer) -> None:
    stream = ours.extract_stream(ADA, Person, max_new_tokens=60)
    values = list(stream)
    assert values[-1] == Person(name="Ada Lovelace", age=36)
    assert {"name": "Ada Lovelace"} in values


def test_our_calls(ours: gramma.OpenAIServer) -> None:
    def get_weather(city: Literal["Rome", "Oslo"]) -> str:
        """Says the weather of a city."""
        raise AssertionError("nothing is called")

    (call,) = ours.call(RAIN, [get_weather], tool_choice="required", max_new_tokens=60)
    assert call.name == "get_weather"
    assert call.arguments["city"] in ("Rome", "Oslo")


def test_our_refusals(ours: gramma.OpenAIServer) -> None:
    with pytest.raises(ServerError, match="max_tokens") as caught:
        ours.extract(ADA, Person, max_new_tokens=3)
    assert caught.value.status == 400
