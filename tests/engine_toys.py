"""A small tokenizer, requests, and a plain reference for the adapters of serving engines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from constrain import TokenAutomaton, Vocabulary
from constrain.vocabulary.alphabets import from_byte_level
from grammars.requests import read_structured_outputs

PIECES: Final = [
    *'{}[]":,0123456789abcdefghijklmnopqrstuvwxyz-.',
    *('{"', '":', '",', "ab", "abc", "12", "yes", "no", "]}", "true", "false"),
]
SPECIAL: Final = ["<s>", "</s>", "<stop>"]
BOS, EOS, STOP = 0, 1, 2
SIZE: Final = 70
"""Rows of logits: more than there are tokens, and no multiple of 32."""
WORDS: Final = -(-SIZE // 32)

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "json": {"json": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    "compact": {
        "json": {"type": "array", "items": {"enum": ["ab", 1, True]}, "maxItems": 3},
        "disable_any_whitespace": True,
    },
    "unique": {"json": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}},
    "object": {"json_object": True},
    "regex": {"regex": "(ab|abc|12){1,6}"},
    "choice": {"choice": ["yes", "no", "yesno"]},
    "ebnf": {"grammar": 'root ::= "[" root? "]" | "12"'},
    "lark": {"grammar": 'start: "a" start "b" | "c"'},
    "tag": {
        "structural_tag": {
            "format": {"type": "tag", "begin": "{", "end": "}",
                       "content": {"type": "regex", "pattern": "[a-c]{0,3}"}}
        }
    },
}  # fmt: skip


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of a few dozen tokens."""
    vocab = {piece: i for i, piece in enumerate([*SPECIAL, *PIECES])}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    assert from_byte_level(["ab"]) == [b"ab"]
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


@cache
def _automaton(asked: str, ends: tuple[int, ...]) -> TokenAutomaton:
    vocabulary = Vocabulary.from_huggingface(tokenizer(), eos_token_ids=ends, size=SIZE)
    return TokenAutomaton(read_structured_outputs(json.loads(asked)), vocabulary)


class Reference:
    """A text as the list of its tokens; everything is computed anew from the start.

    Args:
        asked: what a request asks for.
        ends: ids that end it.
    """

    def __init__(self, asked: Mapping[str, Any], ends: Sequence[int] = (EOS,)) -> None:
        self.automaton = _automaton(json.dumps(asked), tuple(ends))
        self.tokens: list[int] = []

    def state(self, more: Sequence[int] = ()) -> int:
        """The state behind the tokens, and some more."""
        state = self.automaton.start
        for token in [*self.tokens, *more]:
            state = self.automaton.advance(state, token)
        return state

    @property
    def finished(self) -> bool:
        return self.state() == TokenAutomaton.FINISHED

    def allowed(self, tokens: Sequence[int]) -> int:
        """How many of some tokens may come next, none of them behind the end."""
        for count in range(len(tokens)):
            if self.state(tokens[:count]) == TokenAutomaton.FINISHED:
                return count
            if self.state(tokens[: count + 1]) == TokenAutomaton.DEAD:
                return count
        return len(tokens)

    def accept(self, tokens: Sequence[int]) -> int:
        """Takes them as far as they are allowed."""
        count = self.allowed(tokens)
        self.tokens += tokens[:count]
        return count

    def mask(self, tokens_left: int | None = None) -> np.ndarray[Any, np.dtype[np.int32]]:
        """int32[WORDS]"""
        return self.automaton.mask(self.state(), tokens_left)

    def choices(self) -> list[int]:
        """The tokens that are allowed next."""
        return [int(t) for t in self.automaton.allowed_tokens(self.state())]


def tokens_for(draw: Any, reference: Reference, most: int = 4) -> list[int]:
    """Some tokens, mostly such as may come next, sometimes any, or ids that are none."""
    length = draw(st.integers(0, most))
    found: list[int] = []
    for _ in range(length):
        state = reference.state(found)
        good = [int(t) for t in reference.automaton.allowed_tokens(state)]
        if good and draw(st.integers(0, 9)) > 0:
            found.append(draw(st.sampled_from(good)))
        else:
            found.append(draw(st.integers(-1, SIZE)))
    return found
