"""Extraction that can be awaited: a worker thread for each model, which is cancelled between tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from constrain.huggingface.extraction import extract
from constrain.huggingface.loading import loaded
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.huggingface.streaming import Cancellable
from constrain.servers.openai import OpenAIServer, server_of

_workers: WeakKeyDictionary[Any, ThreadPoolExecutor] = WeakKeyDictionary()
_lock: Final = threading.Lock()


async def aextract(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    backend: str | OpenAIServer | None = None,
    **options: Any,
) -> Extraction:
    """Awaits an extraction: :func:`extract` in a worker thread.

    A model has one worker: of several calls for it one is written after the other, in the order in which
    they were awaited.  A call that is cancelled (``asyncio.timeout``, ``task.cancel()``) ends at the next
    token, or never begins.

    Args:
        model, tokenizer, text_or_messages, schema_or_type, backend, **options: as :func:`extract` takes
            them.

    Raises:
        Exception: what :func:`extract` raises.
    """
    server = server_of(model, backend)
    if server is not None:
        return await server.aextract(text_or_messages, schema_or_type, **options)
    return await awaited(extract, model, tokenizer, text_or_messages, schema_or_type, **options)


async def awaited(
    run: Callable[..., Extraction],
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    streamer: Any = None,
    **options: Any,
) -> Extraction:
    """Awaits a function that is called as :func:`extract`."""
    if isinstance(model, str | Path):
        model, tokenizer = await asyncio.to_thread(loaded, model, tokenizer, "aextract")
    else:
        model, tokenizer = loaded(model, tokenizer, "aextract")
    told = Cancellable(streamer)
    beams = options.get("num_beams")
    if isinstance(beams, int) and beams > 1 and streamer is None:  # generate takes no streamer then
        options["logits_processor"] = [told.check, *options.get("logits_processor", ())]
    else:
        options["streamer"] = told
    call = partial(run, model, tokenizer, text_or_messages, schema_or_type, **options)
    try:
        return await asyncio.wrap_future(_worker_of(model).submit(call))
    except asyncio.CancelledError:
        told.cancel()
        raise


def _worker_of(model: Any) -> ThreadPoolExecutor:
    """The one thread in which a model writes; it ends when the model is collected."""
    with _lock:
        known = _workers.get(model)
        if known is None:
            known = _workers[model] = ThreadPoolExecutor(1, thread_name_prefix="gramma")
        return known
