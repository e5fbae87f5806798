"""Servers around toy models, for tests of everything that is served."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
from patience import PATIENCE, wait_until
from test_calling import HERMES
from test_extraction import model as small_model
from transformers import LlamaForCausalLM

from samplers.serving.application import create_app
from samplers.serving.options import ServingOptions
from samplers.serving.running import Server
from samplers.serving.service import Service

MESSAGES = [{"role": "user", "content": "Say something."}]
MODEL = "toy"


@cache
def model(context: int = 4_096) -> LlamaForCausalLM:
    """A random model of bytes."""
    config = copy.deepcopy(small_model().config)
    config.max_position_embeddings = context
    made = LlamaForCausalLM(config).eval()
    made.load_state_dict(small_model().state_dict())
    return made


@dataclass
class Served:
    """A server that runs in a thread, and a client."""

    server: Server
    client: httpx.Client
    url: str

    @property
    def service(self) -> Service:
        return self.server.config.app.state.service  # type: ignore[union-attr]

    def ask(self, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
        return self.client.post(path, json=self.body(path, body))

    def body(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        asked = {"input": "Say something."} if "responses" in path else {"messages": MESSAGES}
        return {"model": MODEL, **asked, **body}

    def told(self, **body: Any) -> dict[str, Any]:
        """The JSON of an answer that has to come."""
        found = self.ask(**body)
        assert found.status_code == 200, found.text
        made: dict[str, Any] = found.json()
        return made

    def texts(self, **body: Any) -> list[str]:
        return [choice["message"]["content"] for choice in self.told(**body)["choices"]]

    def events(self, path: str = "/v1/chat/completions", **body: Any) -> list[dict[str, Any]]:
        """The events of a stream, which has to end as it should."""
        sent = self.body(path, body | {"stream": True})
        with self.client.stream("POST", path, json=sent) as found:
            lines = [line[6:] for line in found.iter_lines() if line.startswith("data: ")]
            assert found.status_code == 200
            assert found.headers["content-type"].startswith("text/event-stream")
        if "responses" not in path:
            assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]

    def metric(self, name: str, **labels: str) -> float:
        found = self.service.metrics.registry.get_sample_value(name, labels)
        return found or 0.0


@contextmanager
def serving(
    options: ServingOptions | None = None, tokenizer: Any = HERMES, context: int = 4_096
) -> Iterator[Served]:
    app = create_app(model(context), tokenizer, MODEL, options or ServingOptions())
    server = Server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            yield Served(server, client, server.url)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
