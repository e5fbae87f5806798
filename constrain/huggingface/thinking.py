"""A thought before the answer: free text with a budget of its own, up to where it is closed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from constrain.arguments import check_count, described
from constrain.automaton import TokenAutomaton
from constrain.huggingface.automata import automaton_for, vocabulary_for
from constrain.vocabulary import Vocabulary
from grammars.grammar import Grammar
from grammars.special_tokens import SpecialToken

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"
_LOOKED_AT: Final = 16
"""Tokens at the end of a prompt in which a template may have opened the thought."""
_STRING: Final = r'([^"\\\x00-\x1f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
"""A string of JSON behind its first quotation mark."""


@dataclass(frozen=True)
class Reasoning:
    """A thought before the answer.

    Attributes:
        tokens: its budget, the marker that closes it included; the answer's is ``max_new_tokens``.
        field: ``None``: the thought stands between ``<think>`` and ``</think>``.  A name: it is the
            string under this name in an object whose ``"answer"`` is what is wanted.
    """

    tokens: int
    field: str | None = None

    def __post_init__(self) -> None:
        check_count(self.tokens, "reasoning")
        if self.field is not None and not isinstance(self.field, str):
            raise TypeError(f"the field of a Reasoning is a name, not {described(self.field)}")

    @classmethod
    def of(cls, given: Any) -> Reasoning | None:
        """A thought as callers ask for it: a number of tokens, or a :class:`Reasoning`.

        Raises:
            TypeError, ValueError: for anything else.
        """
        if given is None or isinstance(given, Reasoning):
            return given
        return cls(check_count(given, "reasoning"))

    @property
    def hint(self) -> str:
        """What the default prompt says of it."""
        if self.field is None:
            return f"First think about it, between {_OPEN} and {_CLOSE}; then write the JSON."
        return (
            f"Write an object with two keys: {json.dumps(self.field)}, your thoughts in a few words, "
            'and "answer", the JSON.'
        )

    def opening(self, prompt: list[int], tokenizer: Any, vocabulary: Vocabulary) -> list[int]:
        """Token ids that open the thought behind a prompt; none if its template has opened it."""
        if self.field is not None:
            return _ids(tokenizer, f'{{{json.dumps(self.field, ensure_ascii=False)}: "')
        end = prompt[-_LOOKED_AT:]
        marker = vocabulary.special_tokens.get(_OPEN)
        if marker is not None and marker in end:
            is_open = not vocabulary.decode(end[end.index(marker) + 1 :]).strip()
        else:
            is_open = vocabulary.decode(end).rstrip().endswith(_OPEN.encode())
        return [] if is_open else _ids(tokenizer, _OPEN + "\n")

    def closing(self, tokenizer: Any) -> list[int]:
        """Token ids between the thought and the answer."""
        return _ids(tokenizer, "\n\n" if self.field is None else ', "answer": ')

    def automaton(self, tokenizer: Any, model: Any) -> TokenAutomaton:
        """The automaton of thoughts, up to and with what closes them."""
        known = vocabulary_for(tokenizer, model)
        is_token = self.field is None and _is_special(known, _CLOSE)
        return automaton_for(_grammar(self.field is None, is_token), tokenizer, model)

    def text(self, data: bytes) -> str:
        """The thought itself."""
        written = data.decode("utf-8", "replace")
        if self.field is None:
            return written.removesuffix(_CLOSE).strip()
        try:
            return str(json.loads(f'"{written}'))
        except ValueError:  # cut off by a generate of the caller's own
            return written


def _is_special(vocabulary: Vocabulary, name: str) -> bool:
    """Whether a name is a token without bytes, which cannot be spelled."""
    token = vocabulary.special_tokens.get(name)
    return token is not None and vocabulary.token_bytes(token) is None


@lru_cache(3)
def _grammar(has_markers: bool, is_token: bool) -> Grammar:
    if not has_markers:
        return Grammar.from_regex(_STRING)
    nothing = Grammar.literal("")
    return Grammar.free_text({SpecialToken(_CLOSE) if is_token else _CLOSE: nothing})


def _ids(tokenizer: Any, text: str) -> list[int]:
    found = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [int(token) for token in found]
