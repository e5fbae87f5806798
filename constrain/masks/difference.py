"""Wide states that differ from a better known one only here and there.

"Any key but these forty" treats the vocabulary like "any string", save along the forty names.  Such
automata are large and belong to one schema, so walking the whole vocabulary for each of their states
would not pay.  Here a state is compared with the one that most bytes lead to: the trie is walked
with both and left where they meet, which leaves a few hundred nodes; the rest is the other's answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int32
from constrain.engine.jit import kernels as k
from constrain.engine.jit import mask_kernels as m
from constrain.engine.pool import StatePool
from constrain.masks.trie_positions import Positions
from constrain.masks.wide import Lexeme, Wide

_ROOM: Final = 8_192
"""Differences up to which the comparison is worth it."""
_FUEL: Final = 50_000
"""Trie nodes visited before it is given up (about half a millisecond)."""


def compared(
    pool: StatePool, q: int, other: int, lexeme: Lexeme, positions: Positions, follow: Flags
) -> Wide | None:
    """The answer for q from that for another state, if they differ little.

    Args:
        pool: of the program and the vocabulary.
        q, other: states of one call-free, uncounted rule.
        lexeme: the walk from ``other``.
        follow: bool[256], what can come after the rule.
    """
    accept_from = pool.program.accept_from
    if (accept_from[q] == 0) != (accept_from[other] == 0):
        return None
    found = np.empty(2 * _ROOM, np.int32)
    count = pool.call(k.difference_walk, q, other, found.ctypes.data, _ROOM, _FUEL)
    if count == k.OUT_OF_FUEL:
        return None
    trie, row = lexeme.trie, lexeme.mask.copy()
    out = np.empty(1 + 2 * (len(lexeme.beyond) + count), np.int32)
    written = m.apply_difference(
        found, count, trie.byte, trie.depth, trie.skip, trie.token_start, trie.tokens,
        trie.suffix_class, follow, lexeme.beyond, row, out,
    )  # fmt: skip
    beyond = out[:written].copy()
    pairs = found[: 2 * count].reshape(-1, 2).copy()
    return Wide(
        row,
        lambda: lexeme.groups(positions, follow, _exits_left(lexeme, pairs)),
        lambda: beyond,
    )


def _exits_left(lexeme: Lexeme, pairs: Int32) -> npt.NDArray[np.uint8]:
    """uint8[E]: which exits of a lexeme there are after a comparison, see ``kernels.difference_walk``."""
    exits = lexeme.exit_nodes
    out = np.ones(len(exits), np.uint8)
    nodes, what = pairs[pairs[:, 1] != m.LACKING_BELOW].T
    ends = np.where(what == m.LOST, lexeme.trie.skip[nodes], nodes + 1)
    for begin, end in zip(
        np.searchsorted(exits, nodes).tolist(), np.searchsorted(exits, ends).tolist(), strict=True
    ):
        out[begin:end] = 0
    return out
