"""Summaries of the subtrees of a vocabulary's trie, by which walks leave out what cannot differ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.engine.jit import mask_kernels as m
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie


@dataclass(frozen=True, eq=False)
class Subtrees:
    """What occurs below each of the N nodes of a trie (20 bytes a node, 59 with the properties).

    Attributes:
        ascii_bytes: uint64[2N], the set of ASCII bytes below node i, as words 2i and 2i + 1.
        flags: uint16[N], ``HIGH_BELOW`` if other bytes occur, ``LINES_BELOW`` if E2 does; bits 0 to 7:
            positions within a UTF-8 character from which all texts below are well-formed, or begin so.
        deepest: uint16[N], the depth of the deepest node below.
    """

    trie: Trie
    ascii_bytes: npt.NDArray[np.uint64]
    flags: npt.NDArray[np.uint16]
    deepest: npt.NDArray[np.uint16]

    @staticmethod
    def of(trie: Trie) -> Subtrees:
        """The summaries of a trie (some milliseconds for 128k tokens)."""
        n = trie.node_count
        ascii_bytes = np.zeros(2 * n, np.uint64)
        flags, deepest = np.zeros(n, np.uint16), np.zeros(n, np.uint16)
        m.summarize(trie.byte, trie.depth, trie.skip, ascii_bytes, flags, deepest)
        for array in (ascii_bytes, flags, deepest):
            array.setflags(write=False)
        return Subtrees(trie, ascii_bytes, flags, deepest)

    @cached_property
    def records(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
        """What walks need of each node, level by level: uint64[N + 1, 4] and int32[N].

        See ``mask_kernels.write_records``.
        """
        trie = self.trie
        records = np.zeros((trie.node_count + 1, 4), np.uint64)
        nodes = np.zeros(trie.node_count, np.int32)
        m.write_records(
            trie.byte, trie.depth, trie.skip, trie.token_start, self.ascii_bytes, self.flags,
            self.deepest, records, nodes,
        )  # fmt: skip
        for array in (records, nodes):
            array.setflags(write=False)
        return records, nodes

    @cached_property
    def token_depth(self) -> npt.NDArray[np.uint16]:
        """uint16[T], bytes of each token, in the order of the trie."""
        counts = np.diff(self.trie.token_start)
        out: npt.NDArray[np.uint16] = np.repeat(self.trie.depth, counts)
        out.setflags(write=False)
        return out

    @cached_property
    def characters(self) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
        """How many characters end on the way to each node, and whether one ends there.

        uint16[N] and uint8[N], see ``mask_kernels.count_characters``.
        """
        n = self.trie.node_count
        characters, ends = np.zeros(n, np.uint16), np.zeros(n, np.uint8)
        m.count_characters(self.trie.byte, self.trie.depth, self.deepest, characters, ends)
        for array in (characters, ends):
            array.setflags(write=False)
        return characters, ends


_stored: WeakKeyDictionary[Vocabulary, Subtrees] = WeakKeyDictionary()
_stored_lock = Lock()


def subtrees_of(vocabulary: Vocabulary) -> Subtrees:
    """The summaries of a vocabulary's trie, made once."""
    with _stored_lock:
        known = _stored.get(vocabulary)
        if known is None:
            known = _stored[vocabulary] = Subtrees.of(vocabulary.trie)
            # milliseconds, which are better spent here than in one mask
            _ = known.records, known.characters, known.token_depth
        return known
