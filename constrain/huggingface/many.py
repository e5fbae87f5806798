"""Many texts: what they may be, and errors that say which it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from constrain.arguments import described
from constrain.huggingface.prompts import Messages, is_messages
from grammars.errors import GrammaError


def checked_texts(texts: Any) -> list[str | Messages]:
    """What ``extract_many`` reads, each one text or messages.

    Raises:
        TypeError: for anything else, one text alone among it; names the index.
    """
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise TypeError(f"extract_many reads a list of texts, not {described(texts)}")
    found = list(texts)
    if is_messages(found):
        raise TypeError("extract_many reads a list of texts; these are the messages of one chat")
    for number, text in enumerate(found):
        if not (isinstance(text, str) or is_messages(text)):
            raise TypeError(f"texts[{number}] is a text or chat messages, not {described(text)}")
    return found


def about(number: int, error: Exception) -> Exception:
    """The same error, which names the text: before its message, or in a note if the message is another's."""
    place = f"texts[{number}]"
    if isinstance(error, GrammaError):
        error.args = (f"{place}: {error}", *error.args[1:])
    else:
        error.add_note(f"in {place}")
    return error
