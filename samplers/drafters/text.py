"""From text to tokens and back, for drafters that guess bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from constrain.automaton import TokenAutomaton
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from samplers.drafters.base import Context

WHITESPACE: Final = b" \n\t\r"
_OTHERS: Final = bytes(b for b in [*range(0x21, 0x7F), 0xC3, 0xE2] if b not in WHITESPACE)
"""Bytes by which it is judged whether there is a choice; all but the rarest."""
_TAIL: Final = 12
"""Tokens of context that a continuation is tokenized with."""
_KEPT: Final = 4096


class Options:
    """Which bytes may come next, as far as drafting cares.

    The answer for a state is its allowed blanks and the one other byte that is allowed, if it is one.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[TokenAutomaton, dict[int, tuple[bytes, int | None]]]
        self._known = WeakKeyDictionary()

    def of(self, automaton: TokenAutomaton, state: int) -> tuple[bytes, int | None]:
        """(allowed blanks, the only other byte or ``None``)."""
        known = self._known.setdefault(automaton, {})
        if state not in known:
            if len(known) >= _KEPT:
                known.clear()
            known[state] = self._probe(automaton, state)
        return known[state]

    def _probe(self, automaton: TokenAutomaton, state: int) -> tuple[bytes, int | None]:
        only: int | None = None
        for byte in _OTHERS:
            if automaton.advance_bytes(state, bytes([byte])) == automaton.DEAD:
                continue
            if only is not None:
                only = None
                break
            only = byte
        blanks = [b for b in WHITESPACE if self._allows(automaton, state, b)]
        return bytes(blanks), only

    @staticmethod
    def _allows(automaton: TokenAutomaton, state: int, byte: int) -> bool:
        return automaton.advance_bytes(state, bytes([byte])) != automaton.DEAD


class Speller:
    """Writes a continuation in tokens as the model would most likely write it.

    With a tokenizer: the tokens behind the boundary when the end of the text so far and the
    continuation are tokenized together; without one, or where a token would span the boundary, the
    longest tokens that fit.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Any, ...], list[int]] = OrderedDict()

    def tokens(self, context: Context, before: Sequence[int], continuation: bytes) -> list[int]:
        """Tokens of a continuation.

        Args:
            context: the row; its target has a grammar.
            before: the tokens before the continuation, at least the last few of them.
            continuation: the bytes to write.
        """
        assert context.target.automaton is not None
        vocabulary = context.target.automaton.vocabulary
        tail = tuple(before[-_TAIL:])
        key = (id(vocabulary), tail[-2:], continuation)
        known = self._known.get(key)
        if known is None:
            known = self._spell(context.tokenizer, vocabulary, tail, continuation)
            self._known[key] = known
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known

    @staticmethod
    def _spell(
        tokenizer: Any, vocabulary: Vocabulary, tail: Sequence[int], continuation: bytes
    ) -> list[int]:
        if tokenizer is not None and getattr(tokenizer, "is_fast", False):
            found = _together(tokenizer, vocabulary, tail, continuation)
            if found is not None:
                return found
        return longest_tokens(vocabulary.trie, continuation)


def _together(
    tokenizer: Any, vocabulary: Vocabulary, tail: Sequence[int], continuation: bytes
) -> list[int] | None:
    """Tokens behind the boundary; ``None`` if there is no boundary of tokens there."""
    try:
        text = continuation.decode("utf-8")
    except UnicodeDecodeError:
        return None
    head = vocabulary.decode(tail).decode("utf-8", "replace")
    encoded = tokenizer(head + text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in encoded["offset_mapping"]]
    if len(head) not in starts:
        return None
    return list(encoded["input_ids"][starts.index(len(head)) :])


def longest_tokens(trie: Trie, data: bytes) -> list[int]:
    """The longest token that fits, again and again, as far as there is one."""
    out: list[int] = []
    while data:
        token, length, _ = trie.longest_token(data)
        if token < 0:
            break
        out.append(token)
        data = data[length:]
    return out
