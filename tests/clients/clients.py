"""What others' clients make of ``gramma serve``: ``make test-clients``, in an environment of their own.

The model is a random one: what it says makes no sense, but every answer has to be of its schema.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import instructor
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

ROOT = Path(__file__).parent.parent.parent
ASKED = "Ada is 36."


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)
    kind: Literal["a", "b"]


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    command = [ROOT / ".venv/bin/python", ROOT / "tests/clients/toy_server.py"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture(scope="session")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none")


# --- the server's own document --------------------------------------------------------------------


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def test_no_request_makes_the_server_fail(address: str) -> None:
    """Requests that fit the document, and such that do not."""
    program = Path(sys.executable).parent / "schemathesis"
    command = [program, "run", f"{address}/openapi.json", "--checks", ",".join(CHECKS)]
    command += ["--max-examples", "60", "--seed", "1", "--request-timeout", "120", "--no-color"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-8_000:] + made.stderr


# --- libraries ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])  # others leave the schema to the model
def test_instructor(client: openai.OpenAI, mode: str) -> None:
    asking = instructor.from_openai(client, mode=instructor.Mode[mode])
    person = asking.chat.completions.create(
        model="toy",
        response_model=Person,
        messages=[{"role": "user", "content": ASKED}],
        max_retries=0,
    )
    assert isinstance(person, Person)


@pytest.mark.parametrize("api", [OpenAIChatModel, OpenAIResponsesModel])
@pytest.mark.parametrize("output", [NativeOutput, ToolOutput])
def test_pydantic_ai(address: str, api: Any, output: Any) -> None:
    provider = OpenAIProvider(base_url=f"{address}/v1", api_key="none")
    agent = Agent(api("toy", provider=provider), output_type=output(Person), retries=0)
    assert isinstance(agent.run_sync(ASKED).output, Person)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain(address: str, method: Any) -> None:
    model = ChatOpenAI(base_url=f"{address}/v1", api_key="none", model="toy")
    asking = model.with_structured_output(Person, method=method)
    assert isinstance(asking.invoke(ASKED), Person)
    pieces = [str(piece.content) for piece in model.bind(max_tokens=9).stream(ASKED)]
    assert pieces
