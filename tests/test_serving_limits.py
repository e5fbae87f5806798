"""What ``gramma serve`` refuses, what ends an answer early, and that nobody holds up the others."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from patience import wait_until
from serving import MODEL, Served, serving
from test_serving_answers import AS_SCHEMA, FORMS, TOOLS

from samplers.serving.options import ServingOptions

LONG = {"structured_outputs": {"regex": "[ab]{1500}"}, "max_tokens": 1_800}
"""An answer that takes some seconds."""
HOSTILE = "(?=.*a.{14})(?=.*b.{15})(?=.*c.{16}).*"
FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    limits = ServingOptions(
        max_body_bytes=100_000,
        max_grammar_bytes=20_000,
        max_compile_seconds=3,
        max_compile_work=500_000,
        max_tokens=4_000,
        max_automata=8,
    )
    with serving(limits) as made:
        yield made


# --- refusals -------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"presence_penalty": -1}, "presence_penalty"),
    ({"audio": {"voice": "x"}}, "audio"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"functions": []}, "functions"),
    ({"store": True}, "store"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"no_such_member": 1}, "no_such_member"),
    ({"model": 5}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
    ),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": True}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 4_001}, "max_tokens"),
    ({"max_completion_tokens": 4_001}, "max_completion_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
    ({"seed": 2**70}, "seed"),
    ({"stop": [""]}, "stop"),
    ({"stop": 5}, "stop"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": AS_SCHEMA, "structured_outputs": {"regex": "a"}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "("}}, "structured_outputs"),
    ({"structured_outputs": {"lark": "start: x"}}, "structured_outputs"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a(?!)"}}, "structured_outputs"),
    ({"structured_outputs": {"json": {"pattern": "x" * 30_000}}}, "structured_outputs"),
    ({"tools": [{"type": "custom"}]}, "tools[0].type"),
    ({"tools": [FUNCTION, FUNCTION]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": 3}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "null"}}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": TOOLS, "structured_outputs": {"regex": "a"}}, "structured_outputs"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), REFUSED, ids=lambda x: x if isinstance(x, str) else "")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_refusals_name_the_member(
    served: Served, body: dict[str, Any], param: str, stream: bool
) -> None:
    if stream and "stream_options" in body:
        return
    found = served.ask(**body, **({"stream": True} if stream else {}))
    assert found.status_code == 400, found.text
    error = found.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert error["code"]


def test_members_that_ask_for_nothing_are_taken(served: Served) -> None:
    nothing = {
        "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "user": "u", "metadata": {},
        "store": False, "modalities": ["text"], "service_tier": "auto", "stop": None, "tools": [],
    }  # fmt: skip
    assert served.told(**nothing, max_tokens=3)["choices"]


def test_a_schema_that_cannot_be_kept_is_refused_with_its_place(served: Served) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "sting"}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    error = served.ask(response_format=format_).json()["error"]
    assert error["param"] == "response_format.json_schema.schema"
    assert "/properties/a/type" in error["message"]
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    error = served.ask(tools=[tool]).json()["error"]
    assert error["param"] == "tools"
    assert "/properties/a/type" in error["message"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b"\xff", 400),
        (b'{"model": NaN}', 400),
        (b'{"seed": 1e999, "model": "toy", "messages": []}', 400),
        (b'{"model": "\\ud800"}', 400),
        (b"[" * 50_000, 400),
        (b'{"a":' * 15_000 + b"1" + b"}" * 15_000, 400),
        (b'{"model": ' + b"9" * 10_000 + b"}", 400),
        (b" " * 200_000, 413),
    ],
    ids=["empty", "cut", "list", "bytes", "nan", "huge", "surrogate", "deep", "deeper", "digits", "large"],
)  # fmt: skip
def test_bodies_that_are_none(served: Served, data: bytes, status: int) -> None:
    for path in ("/v1/chat/completions", "/v1/responses"):
        found = served.client.post(path, content=data, headers={"Content-Type": "application/json"})
        assert found.status_code == status
        assert found.json()["error"]["message"]


def test_other_refusals(served: Served) -> None:
    found = served.client.post("/v1/chat/completions", content=b"{}")
    assert found.status_code == 415
    assert served.ask(model="other").status_code == 404
    assert served.client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
    assert served.client.get(f"/v1/models/{MODEL}").json()["id"] == MODEL
    assert served.client.get("/v1/chat/completions").status_code == 405
    assert "error" in served.client.get("/nothing").json()
    long = [{"role": "user", "content": "a" * 5_000}]
    error = served.ask(messages=long).json()["error"]
    assert error["code"] == "context_length_exceeded"


def test_keys() -> None:
    with serving(ServingOptions(api_key="geheim", max_prompt_tokens=100)) as served:
        assert served.ask(max_tokens=2).status_code == 401
        assert served.client.get("/v1/models").status_code == 401
        assert served.client.get("/health").status_code == 200
        for wrong in (b"Bearer x", b"geheim", b"Bearer geheim2", b"Bearer geheim\xe9"):
            found = served.client.get("/v1/models", headers={"Authorization": wrong})
            assert found.status_code == 401
            assert found.json()["error"]["code"] == "invalid_api_key"
        served.client.headers["Authorization"] = "Bearer geheim"
        assert served.ask(max_tokens=2).status_code == 200
        error = served.ask(messages=[{"role": "user", "content": "a" * 200}]).json()["error"]
        assert error["code"] == "context_length_exceeded"


# --- grammars that take much ----------------------------------------------------------------------


def test_a_grammar_that_takes_too_long_is_refused_and_holds_up_nobody(served: Served) -> None:
    with ThreadPoolExecutor(4) as pool:
        hostile = [
            pool.submit(
                served.ask,
                structured_outputs={"regex": f"x{i}" + HOSTILE},
            )
            for i in range(3)
        ]
        wait_until(lambda: served.service.open_requests >= 3)
        assert served.texts(structured_outputs={"choice": ["quick"]}, max_tokens=20) == ["quick"]
        assert not all(one.done() for one in hostile)
        for one in hostile:
            error = one.result()
            assert error.status_code == 400
            assert error.json()["error"]["code"] == "invalid_grammar"
    before = served.metric("gramma_compile_seconds_count")
    again = served.ask(structured_outputs={"regex": "x0" + HOSTILE})
    assert again.status_code == 400
    assert served.metric("gramma_compile_seconds_count") == before, "a refusal is kept"
    assert again.json() == hostile[0].result().json()


def test_equal_grammars_are_compiled_once(served: Served) -> None:
    body = {"structured_outputs": {"regex": "once+"}, "max_tokens": 10}
    before = served.metric("gramma_compile_seconds_count")
    with ThreadPoolExecutor(5) as pool:
        for one in [pool.submit(served.texts, **body) for _ in range(10)]:
            assert one.result()[0].startswith("once")
    assert served.metric("gramma_compile_seconds_count") == before + 1


def test_memory_of_automata_is_bounded() -> None:
    bound = 8_000_000
    with serving(ServingOptions(cache_bytes=bound, max_automata=4)) as served:
        for i in range(8):
            schema = {"type": "object", "properties": {f"p{i}": {"type": "string"}}}
            texts = served.texts(structured_outputs={"json": schema}, n=4, max_tokens=150)
            assert all(isinstance(json.loads(text), dict) for text in texts)
        assert 0 < served.metric("gramma_automata_bytes") <= bound


# --- clients that leave ---------------------------------------------------------------------------


def left_after(served: Served, stream: bool) -> float:
    """How many tokens are written after a client has left."""
    body = json.dumps(served.body("", {**LONG, "stream": stream})).encode()
    host, port = served.url.removeprefix("http://").split(":")
    before = served.metric("gramma_generated_tokens_total")
    with socket.create_connection((host, int(port))) as link:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: served.metric("gramma_generated_tokens_total") > before + 20)
    wait_until(lambda: served.service.open_requests == 0)
    return served.metric("gramma_generated_tokens_total") - before


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_writing_stops_when_the_client_leaves(served: Served, stream: bool) -> None:
    cancelled = served.metric("gramma_cancelled_total")
    written = left_after(served, stream)
    assert written < 3_000
    wait_until(lambda: served.metric("gramma_running_texts") == 0)
    after = served.metric("gramma_generated_tokens_total")
    time.sleep(0.2)
    assert served.metric("gramma_generated_tokens_total") == after
    assert served.metric("gramma_cancelled_total") == cancelled + 1


def test_slow_readers_hold_up_nobody(served: Served) -> None:
    with served.client.stream(
        "POST", "/v1/chat/completions", json=served.body("", {**LONG, "stream": True, "n": 4})
    ) as slow:
        assert slow.status_code == 200  # and nothing of it is read
        assert served.texts(structured_outputs={"choice": ["quick"]}, max_tokens=20) == ["quick"]
    wait_until(lambda: served.service.open_requests == 0)


# --- turns and limits -----------------------------------------------------------------------------


def test_a_long_answer_does_not_hold_up_short_ones(served: Served) -> None:
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(served.texts, **LONG)
        wait_until(lambda: served.metric("gramma_running_texts") > 0)
        for _ in range(5):
            assert served.texts(structured_outputs={"choice": ["quick"]}, max_tokens=20) == [
                "quick"
            ]
        assert not long.done()
        assert len(long.result()[0]) == 1_500


def test_a_long_prompt_does_not_hold_up_short_ones() -> None:
    with serving(ServingOptions(prefill_tokens=4)) as served:
        long = [{"role": "user", "content": "a" * 3_000}]
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(served.texts, messages=long, max_tokens=2, seed=1)
            wait_until(lambda: served.metric("gramma_running_texts") > 0)
            assert served.texts(structured_outputs={"choice": ["quick"]}, max_tokens=20) == [
                "quick"
            ]
            assert not slow.done()
            assert slow.result() == served.texts(messages=long, max_tokens=2, seed=1)


def test_too_many_requests_are_told_to_come_again() -> None:
    with serving(ServingOptions(max_running=1, max_n=1, max_waiting=2)) as served:
        with ThreadPoolExecutor(6) as pool:
            first = pool.submit(served.ask, **LONG)
            wait_until(lambda: served.metric("gramma_running_texts") > 0)
            others = [pool.submit(served.ask, max_tokens=2) for _ in range(2)]
            wait_until(lambda: served.service.open_requests == 3)
            refused = served.ask(max_tokens=2)
            assert refused.status_code == 429
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert {one.result().status_code for one in [first, *others]} == {200}
        assert served.ask(max_tokens=2).status_code == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_that_takes_too_long_ends(stream: bool) -> None:
    with serving(ServingOptions(max_seconds=1)) as served:
        if stream:
            *_, last = served.events(**LONG, n=8)
            assert last["error"]["code"] == "request_timeout"
        else:
            found = served.ask(**LONG, n=8)
            assert found.status_code == 504
            assert found.json()["error"]["code"] == "request_timeout"
        wait_until(lambda: served.metric("gramma_running_texts") == 0)
        assert served.service.open_requests == 0


def test_a_server_that_stops_finishes_what_it_has_begun() -> None:
    with serving(ServingOptions(grace_seconds=600)) as served, ThreadPoolExecutor(1) as pool:
        running = pool.submit(served.ask, **LONG)
        wait_until(lambda: served.metric("gramma_running_texts") > 0)
        served.server.stop()
        refused = served.ask(max_tokens=2)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
        assert served.client.get("/health").status_code == 503
        assert running.result().status_code == 200
        wait_until(lambda: served.server.should_exit or not served.server.servers[0].sockets)


def test_a_server_that_stops_does_not_wait_for_ever() -> None:
    with serving(ServingOptions(grace_seconds=0.2)) as served, ThreadPoolExecutor(1) as pool:
        running = pool.submit(served.ask, **LONG)
        wait_until(lambda: served.metric("gramma_running_texts") > 0)
        served.server.stop()
        assert running.result().status_code == 503


def test_counts(served: Served) -> None:
    before = served.metric("gramma_generated_tokens_total")
    told = served.told(max_tokens=6)
    after = before + told["usage"]["completion_tokens"]
    wait_until(lambda: served.metric("gramma_generated_tokens_total") == after)
    text = served.client.get("/metrics").text
    assert 'gramma_requests_total{path="/v1/chat/completions",status="200"}' in text


def test_a_failure_is_of_one_request_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in one text's step: 500 for it, and the others go on."""
    from samplers.serving.texts import Text

    take = Text.take

    def faulty(self: Text, token: int, state: Any) -> None:
        if self.order.stop == (b"\x00",):
            raise ZeroDivisionError
        take(self, token, state)

    monkeypatch.setattr(Text, "take", faulty)
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(served.ask, **FORMS["json_object"][0], max_tokens=200)
        bad = pool.submit(served.ask, max_tokens=50, stop="\x00")
        assert bad.result().status_code == 500
        assert good.result().status_code == 200
