"""Which tokens can repeat something that the text has not yet begun to write.

From a place where nothing being written can repeat anything, a token gets into danger only by
beginning a further key or item in a container that has one already.  For that it must contain a
comma, and, if the place is in a string, a quote before it.  To be *marked*, that is, to end such an
item too, it needs one more separator.  All other tokens are as the rules say.
"""

from __future__ import annotations

from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from constrain.arrays import Int32
from constrain.masks.wide import pack_bits
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie


class Risky:
    """The risky tokens of one vocabulary, and its trie as Python sees it.

    Attributes:
        outside, inside: bitmasks of tokens with a comma; with a quote and then a comma.
        outside_marked, inside_marked: the ids of those with one more comma or ``]`` behind it.
        brackets: bitmask of tokens with ``[``.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.trie: Final = vocabulary.trie
        self._size = vocabulary.size
        commas = [(i, t, t.find(b",")) for i, t in enumerate(vocabulary.texts) if t and b"," in t]
        late = [(i, t, t.find(b",", t.find(b'"'))) for i, t, _ in commas if b'"' in t]
        late = [entry for entry in late if entry[2] >= 0]
        self.outside = self._mask([i for i, _, _ in commas])
        self.inside = self._mask([i for i, _, _ in late])
        self.outside_marked = _marked(commas)
        self.inside_marked = _marked(late)
        self.brackets = self._mask([i for i, t in enumerate(vocabulary.texts) if t and b"[" in t])
        self._children: dict[int, dict[int, int]] = {}

    def _mask(self, tokens: list[int]) -> Int32:
        return pack_bits(np.array(tokens, np.int64), self._size)

    def children(self, node: int) -> dict[int, int]:
        """The children of a trie node by their byte."""
        known = self._children.get(node)
        if known is None:
            known = self._children[node] = dict(_children(self.trie, node))
        return known

    def tokens_at(self, node: int) -> list[int]:
        """Tokens that end at a trie node."""
        trie = self.trie
        found: list[int] = trie.tokens[trie.token_start[node] : trie.token_start[node + 1]].tolist()
        return found

    def clear_below(self, node: int, row: Int32) -> None:
        """Clears the bits of all tokens at and below a trie node."""
        trie = self.trie
        tokens = trie.tokens[trie.token_start[node] : trie.token_start[trie.skip[node]]]
        if len(tokens):
            row &= ~pack_bits(tokens.astype(np.int64), self._size)


def _marked(found: list[tuple[int, bytes, int]]) -> tuple[int, ...]:
    return tuple(i for i, t, at in found if b"," in t[at + 1 :] or b"]" in t[at + 1 :])


def _children(trie: Trie, node: int) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    at, end = node + 1, int(trie.skip[node])
    while at < end:
        out.append((int(trie.byte[at]), at))
        at = int(trie.skip[at])
    return out


_stored: WeakKeyDictionary[Vocabulary, Risky] = WeakKeyDictionary()
_stored_lock = Lock()


def risky_of(vocabulary: Vocabulary) -> Risky:
    """The risky tokens of a vocabulary, made once."""
    with _stored_lock:
        known = _stored.get(vocabulary)
        if known is None:
            known = _stored[vocabulary] = Risky(vocabulary)
        return known
