"""How a model is asked for an extraction: prompt, its token ids, and the room that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from constrain.arguments import described
from constrain.huggingface.prompts import Messages, checked_ids, is_messages, prompt_ids, templated
from constrain.huggingface.target import Target
from constrain.models import context_length
from grammars.errors import BudgetError

PromptBuilder: TypeAlias = Callable[[str, str], "str | Messages"]
"""(text, JSON Schema as :func:`describe_schema` shows it) -> prompt text, or chat messages."""

DEFAULT_MAX_NEW_TOKENS: Final = 512

PROMPT: Final = """\
Extract the information from the text below as one JSON object that follows this JSON Schema. \
Take values from the text; answer with the JSON only.

JSON Schema:
{schema}

Text:
{text}"""
"""What :func:`default_prompt` asks, as one user message."""


def default_prompt(text: str, schema: str) -> Messages:
    """One user message: :data:`PROMPT` with the text and :func:`describe_schema` of the schema.

    Everything that extracts builds this prompt: ``extract`` here and in ``samplers``, and the command.
    """
    return [{"role": "user", "content": PROMPT.format(schema=schema, text=text.strip())}]


def question(
    asked: str | Messages,
    target: Target,
    *,
    prompt: PromptBuilder | None = None,
    system: str | None = None,
    examples: Sequence[tuple[str, Any]] = (),
    hint: str = "",
) -> str | Messages:
    """The whole prompt of a text, or of messages.

    Args:
        asked: the text, or messages, which are taken as they are.
        target: what is wanted.
        prompt: builds the prompt of one text; :func:`default_prompt` by default.
        system: a system message before all else; before a prompt of text, its first paragraph.
        examples: texts with the values wanted of them: turns of a chat before the question; in a prompt
            of text, paragraphs.
        hint: what the default prompt says besides.

    Raises:
        TypeError, ValueError: for an example that is no pair, or whose value is not of the target.
        ValueError: for examples with messages, or a second system message.
    """
    if not isinstance(asked, str):
        if len(examples):
            raise ValueError(
                "examples go with a text; with messages, give them as messages of user and assistant"
            )
        return _with_system(asked, system)
    build = _checked(prompt or default_prompt)
    shown = target.examples(examples)
    turns = [(build(text, target.description), answer) for text, answer in shown]
    last = build(asked, target.description)
    if isinstance(last, str):
        parts = [f"{turn}{answer}" for turn, answer in turns] + [last]
        return "\n\n".join(([] if system is None else [system]) + parts)
    if hint and prompt is None:
        last = [*last[:-1], dict(last[-1]) | {"content": f"{last[-1]['content']}\n\n{hint}"}]
    messages: list[Mapping[str, Any]] = []
    for turn, answer in turns:
        if isinstance(turn, str):
            raise TypeError("prompt builds text for one text and messages for another")
        messages += [*turn, {"role": "assistant", "content": answer}]
    return _with_system([*messages, *last], system)


def _checked(build: PromptBuilder) -> PromptBuilder:
    """A builder whose prompts are looked at."""

    def built(text: str, schema: str) -> str | Messages:
        made = build(text, schema)
        if isinstance(made, str) or is_messages(made):
            found: str | Messages = made
            return found
        raise TypeError(f"a prompt is text or chat messages, not {described(made)}")

    return built


def _with_system(messages: Messages, system: str | None) -> Messages:
    if system is None:
        return messages
    if any(message["role"] == "system" for message in messages):
        raise ValueError("there is a system message already; leave system= out")
    return [{"role": "system", "content": system}, *messages]


def checked_question(given: Any) -> str | Messages:
    """What ``extract`` reads: one text, or chat messages, returned as given.

    Raises:
        TypeError: for anything else, several texts among it.
    """
    if isinstance(given, str) or is_messages(given):
        found: str | Messages = given
        return found
    wanted = "extract reads one text (str) or chat messages (mappings with role and content), not "
    if isinstance(given, list | tuple) and given and all(isinstance(one, str) for one in given):
        raise TypeError(f"{wanted}{described(given)}; call it once for each text")
    raise TypeError(wanted + described(given))


def encode_prompt(model: Any, tokenizer: Any, asked: Any) -> list[int]:
    """Token ids of a prompt; of messages by the tokenizer's chat template, or in plain words.

    Raises:
        TypeError: if it is neither text nor messages.
        ValueError: if it is empty and the model has no BOS, or has tokens that the model does not.
    """
    if not is_messages(asked):
        ids = prompt_ids(tokenizer, asked)
    elif getattr(tokenizer, "chat_template", None):
        ids = templated(tokenizer, asked)
    else:
        ids = prompt_ids(tokenizer, _in_plain_words(asked))
    return checked_ids(model, ids)


def _in_plain_words(messages: Messages) -> str:
    """Messages for a model without a chat template: paragraphs, answers below a line that says so."""
    parts = [
        f"JSON:\n{message['content']}"
        if message["role"] == "assistant"
        else str(message["content"])
        for message in messages
    ]
    return "\n\n".join([*parts, "JSON:\n"])


def budget_of(model: Any, prompt: int, wanted: int | None) -> int:
    """How many tokens may be written, the end included.

    Args:
        model: whose context holds prompt and text.
        prompt: the prompt's length in tokens.
        wanted: the caller's number; ``None`` for 512, or what the context leaves.

    Raises:
        BudgetError: if prompt and budget exceed the context.
    """
    context = context_length(model)
    if context is None:
        return DEFAULT_MAX_NEW_TOKENS if wanted is None else wanted
    left = context - prompt
    if wanted is None and left > 0:
        return min(DEFAULT_MAX_NEW_TOKENS, left)
    if left < (wanted or 1):
        raise BudgetError(
            f"the prompt has {prompt:,} tokens and max_new_tokens is {wanted or 1:,}, but the model's "
            f"context holds {context:,}; shorten the text or lower max_new_tokens",
            needed=prompt + (wanted or 1),
            available=context,
        )
    assert wanted is not None
    return wanted
