"""The command ``serve``: an OpenAI-compatible server around a model."""

from __future__ import annotations

import asyncio
import gc
import os
from dataclasses import fields
from typing import Annotated, Any

import typer

from samplers.cli.app import app, reports
from samplers.cli.grammar_files import DEFAULT_MODEL, ModelOption
from samplers.output import say, tell
from samplers.serving.options import ServingOptions

_DEFAULTS = ServingOptions()


def _limit(name: str, text: str, least: float = 1) -> Any:
    return typer.Option(f"--{name}", min=least, help=text)


@app.command()
@reports
def serve(
    model: ModelOption = DEFAULT_MODEL,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes one that is free.")
    ] = 8000,
    name: Annotated[
        str | None,
        typer.Option("--name", help="The model's name for clients; that of --model by default."),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype", help="A type of torch, or auto.  On CPUs float32 is mostly the fastest."
        ),
    ] = "float32",
    device: Annotated[str, typer.Option("--device", help="Such as cpu or cuda.")] = "cpu",
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="GRAMMA_API_KEY", help="What clients have to send."),
    ] = None,
    max_body_bytes: Annotated[
        int, _limit("max-body-bytes", "Of a request.")
    ] = _DEFAULTS.max_body_bytes,
    max_grammar_bytes: Annotated[
        int, _limit("max-grammar-bytes", "Of a schema, a grammar, or all tools.")
    ] = _DEFAULTS.max_grammar_bytes,
    max_compile_work: Annotated[
        int, _limit("max-compile-work", "Limits.max_work of one grammar.")
    ] = _DEFAULTS.max_compile_work,
    max_compile_seconds: Annotated[
        float, _limit("max-compile-seconds", "Of one grammar.", 0.1)
    ] = _DEFAULTS.max_compile_seconds,
    max_prompt_tokens: Annotated[
        int, _limit("max-prompt-tokens", "0: what the context leaves.", 0)
    ] = _DEFAULTS.max_prompt_tokens,
    max_n: Annotated[int, _limit("max-n", "Answers to one request.")] = _DEFAULTS.max_n,
    max_tokens: Annotated[
        int, _limit("max-tokens", "Most that a request may ask for.")
    ] = _DEFAULTS.max_tokens,
    default_tokens: Annotated[
        int, _limit("default-tokens", "Where a request asks for nothing.")
    ] = _DEFAULTS.default_tokens,
    max_running: Annotated[
        int, _limit("max-running", "Texts written at once.")
    ] = _DEFAULTS.max_running,
    max_waiting: Annotated[
        int, _limit("max-waiting", "Requests that wait; others get 429.")
    ] = _DEFAULTS.max_waiting,
    max_seconds: Annotated[
        float, _limit("max-seconds", "That a request may take.", 0.1)
    ] = _DEFAULTS.max_seconds,
    prefill_tokens: Annotated[
        int, _limit("prefill-tokens", "Of a prompt, between two steps of the other texts.")
    ] = _DEFAULTS.prefill_tokens,
    max_automata: Annotated[
        int, _limit("max-automata", "Compiled grammars kept.")
    ] = _DEFAULTS.max_automata,
    cache_bytes: Annotated[
        int, _limit("cache-bytes", "Of their states and masks together.")
    ] = _DEFAULTS.cache_bytes,
    grace_seconds: Annotated[
        float, _limit("grace-seconds", "In which running requests may finish at the end.", 0)
    ] = _DEFAULTS.grace_seconds,
) -> None:
    """Serves a model: chat completions and responses as OpenAI has them, each within its grammar.

    JSON Schema, tools, and structured_outputs as vLLM has them; every constrained answer is complete.
    Until Ctrl-C, which lets running requests finish.  docs/serving.md says what is supported.

    Example: `gramma serve --model smollm2-135m-instruct --port 8000`
    """
    given = locals()
    # Threads of torch that wait for each other give the processor away instead of turning in a circle: where
    # other programs want it too, steps are twenty times faster so.  Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = ServingOptions(
        **{f.name: given[f.name] for f in fields(ServingOptions) if f.name in given}
    )
    from constrain.extras import require

    require("gramma serve", "fastapi", "uvicorn", "prometheus_client", "torch", "transformers")
    from constrain.models import load_model
    from samplers.serving.application import create_app
    from samplers.serving.running import Server

    loaded, tokenizer = load_model(model, dtype=dtype)
    if device != "cpu":
        loaded = loaded.to(device)
    server = Server(create_app(loaded, tokenizer, name or model, options), host, port)
    asyncio.run(_run(server))


async def _run(server: Any) -> None:
    """Serves, and says where as soon as it listens."""
    gc.collect()
    gc.freeze()  # a full collection through all of torch would stop everything for a fifth of a second
    task = asyncio.create_task(server.serve())
    while not server.started and not task.done():
        await asyncio.sleep(0.05)
    if server.started:
        say(f"{server.url}/v1")
        tell("Ctrl-C stops it when running requests are answered", err=True)
    await task
    if not server.started:
        raise RuntimeError("the server could not listen there; the reason is above")
