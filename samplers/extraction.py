"""``extract`` and ``call`` with the speculative backend plugged in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from constrain.huggingface.asking import PromptBuilder
from constrain.huggingface.asynchronous import awaited
from constrain.huggingface.calling import call as _call
from constrain.huggingface.extraction import extract as _extract
from constrain.huggingface.growing import ExtractionStream
from constrain.huggingface.loading import loaded
from constrain.huggingface.prompts import Messages
from constrain.huggingface.result import Extraction
from constrain.huggingface.shortening.filters import AnyFilter
from constrain.huggingface.streaming import streamed
from constrain.huggingface.thinking import Reasoning
from constrain.huggingface.writing import ended
from constrain.servers.openai import OpenAIServer, server_of
from constrain.servers.requests import refuse_local
from constrain.tools import ToolCalls
from grammars.tools.definitions import ToolLike
from samplers.backend import OnTokens, SpeculativeBackend
from samplers.drafting import Drafts


def extract(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    grounded: bool = False,
    source: str | None = None,
    backend: SpeculativeBackend | OpenAIServer | str | None = None,
    prompt: PromptBuilder | None = None,
    system: str | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    max_new_tokens: int | None = None,
    reasoning: int | Reasoning | None = None,
    retries: int = 0,
    stop: str | Sequence[str] | None = None,
    temperature: float | None = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    extra_body: Mapping[str, Any] | None = None,
    canonical: bool = False,
    heal: bool = False,
    shorten: AnyFilter | None = None,
    on_tokens: OnTokens | None = None,
    streamer: Any = None,
) -> Extraction:
    """Has a model read a text and write it down as a schema or a type demands, with drafts.

    The result is that of :func:`constrain.extract`, sooner.

    Args:
        model: a causal language model of ``transformers``, or the name of one, which is loaded once.
        tokenizer: its tokenizer; ``None`` with a name.
        text_or_messages: the text to read, put into ``prompt``; or chat messages.
        schema_or_type: a JSON Schema, a Python type that pydantic knows, or a ``Grammar``.
        grounded, source: as :func:`constrain.extract` takes them.
        backend: a backend for the model; give the same one again and its drafters learn from one
            text for the next.  By default a new one with the default drafters.  Or the URL of a server,
            or an :class:`~constrain.OpenAIServer`, as :func:`constrain.extract` takes it.
        prompt: builds the prompt from the text and the schema.
        system, examples, reasoning, retries, stop: as :func:`constrain.extract` takes them.
        max_new_tokens: the budget, EOS included; by default 512, or what the context leaves.
        temperature: 0 takes the likeliest token.  ``None`` is 0 here, and left out of a request to a server.
        top_p: see :meth:`GrammarConstrained.sample`.
        seed: for the same text again.
        extra_body: members of a request to a server besides; for a server alone.
        canonical, heal: as :func:`constrain.extract` takes them.
        shorten: as :func:`constrain.extract` takes it; lossy.
        on_tokens: called after each step with 0 and the new tokens.
        streamer: one of ``transformers``: gets the prompt, then the tokens as they are committed; its
            ``end`` is called however this function ends.

    Raises:
        TypeError, BudgetError, GrammarError, pydantic.ValidationError: as :func:`constrain.extract`
            does.
        ValueError: if the backend is another model's.

    A model whose cache cannot take tokens back writes by ``model.generate``, without drafts.
    """
    server = server_of(model, backend, others=True)
    if server is not None:
        refuse_local(
            canonical=canonical,
            heal=heal,
            reasoning=reasoning,
            shorten=shorten,
            on_tokens=on_tokens,
            streamer=streamer,
        )
        return server.extract(
            text_or_messages,
            schema_or_type,
            grounded=grounded,
            source=source,
            prompt=prompt,
            system=system,
            examples=examples,
            max_new_tokens=max_new_tokens,
            retries=retries,
            stop=stop,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            extra_body=extra_body,
        )
    _refuse_of_servers(extra_body)
    with ended(streamer) as stream:
        options: dict[str, Any] = {"prompt": prompt, "max_new_tokens": max_new_tokens}
        options |= {"system": system, "examples": examples, "reasoning": reasoning}
        options |= {"retries": retries, "stop": stop, "canonical": canonical, "heal": heal}
        options |= {"grounded": grounded, "source": source, "shorten": shorten}
        drafts = Drafts(backend, temperature or 0.0, top_p, seed, on_tokens)
        model, tokenizer = loaded(model, tokenizer, "extract")
        options |= drafts.options(model, tokenizer, stream, "extract")
        return _extract(model, tokenizer, text_or_messages, schema_or_type, **options)


def extract_stream(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    partial_strings: bool = False,
    backend: SpeculativeBackend | OpenAIServer | str | None = None,
    streamer: Any = None,
    **options: Any,
) -> ExtractionStream:
    """Streams an extraction with drafts: as :func:`constrain.extract_stream`, sooner.

    Args:
        model, tokenizer, text_or_messages, schema_or_type, **options: as :func:`extract` takes them.
        partial_strings: whether strings that are not closed are there, as far as they are written.
        backend, streamer: as :func:`extract` takes them.
    """
    server = server_of(model, backend, others=True)
    if server is not None:
        refuse_local(streamer=streamer)
        return server.extract_stream(
            text_or_messages, schema_or_type, partial_strings=partial_strings, **options
        )
    run = partial(
        extract, model, tokenizer, text_or_messages, schema_or_type, backend=backend, **options
    )
    return streamed(run, partial_strings, streamer)


async def aextract(
    model: Any,
    tokenizer: Any,
    text_or_messages: str | Messages,
    schema_or_type: Any,
    *,
    backend: SpeculativeBackend | OpenAIServer | str | None = None,
    **options: Any,
) -> Extraction:
    """Awaits an extraction with drafts: as :func:`constrain.aextract`, sooner.

    Args:
        model, tokenizer, text_or_messages, schema_or_type, backend, **options: as :func:`extract` takes
            them.
    """
    server = server_of(model, backend, others=True)
    if server is not None:
        return await server.aextract(text_or_messages, schema_or_type, **options)
    return await awaited(
        extract, model, tokenizer, text_or_messages, schema_or_type, backend=backend, **options
    )


def call(
    model: Any,
    tokenizer: Any,
    messages: str | Messages,
    tools: Iterable[ToolLike],
    *,
    backend: SpeculativeBackend | OpenAIServer | str | None = None,
    temperature: float | None = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    extra_body: Mapping[str, Any] | None = None,
    on_tokens: OnTokens | None = None,
    streamer: Any = None,
    **options: Any,
) -> ToolCalls:
    """Has a model call tools, or answer in words, with drafts: as :func:`constrain.call`, sooner.

    Args:
        model, tokenizer, messages, tools: as :func:`constrain.call` takes them.
        backend, temperature, top_p, seed, extra_body, on_tokens: as :func:`extract` takes them.
        streamer: one of ``transformers``.
        **options: ``tool_choice``, ``format``, ``parallel``, ``reasoning``, ``max_new_tokens``,
            ``retries`` and ``canonical``, as :func:`constrain.call` takes them.
    """
    unknown = options.keys() - _OF_CALLS
    if unknown:
        raise TypeError(
            f"call has no option {min(unknown)!r}; there are {', '.join(sorted(_OF_CALLS))}"
        )
    server = server_of(model, backend, others=True)
    if server is not None:
        refuse_local(on_tokens=on_tokens, streamer=streamer)
        drawn: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "seed": seed}
        drawn["extra_body"] = extra_body
        return _call(server, None, messages, tools, **drawn, **options)
    _refuse_of_servers(extra_body)
    with ended(streamer) as stream:
        drafts = Drafts(backend, temperature or 0.0, top_p, seed, on_tokens)
        model, tokenizer = loaded(model, tokenizer, "call")
        options |= drafts.options(model, tokenizer, stream, "call")
        return _call(model, tokenizer, messages, tools, **options)


def _refuse_of_servers(extra_body: Mapping[str, Any] | None) -> None:
    if extra_body is not None:
        raise TypeError("extra_body is for a model behind a server, not for one that runs here")


_OF_CALLS: Final = frozenset(
    ("tool_choice", "format", "parallel", "reasoning", "max_new_tokens", "retries", "canonical")
)
