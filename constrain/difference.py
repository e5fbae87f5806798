"""Wide states that differ from a better known one only here and there.

"Any key but these forty" treats the vocabulary like "any string", save along the forty names.  Such
automata are large and belong to one schema, so walking the whole vocabulary for each of their states
would not pay.  Here a state is compared with the one that most bytes lead to: the trie is walked
with both and left where they meet, which leaves a few hundred nodes; the rest is the other's answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from constrain._jit import kernels as k
from constrain.lexeme import Int32, Lexeme, Wide
from constrain.pool import StatePool
from constrain.positions import Flags, Positions
from grammars.program import UNBOUNDED, Program

_ROOM: Final = 8_192
"""Differences up to which the comparison is worth it."""
_FUEL: Final = 50_000
"""Trie nodes visited before it is given up (about half a millisecond)."""
_MOST_STEPS: Final = 8

_LOST, _GAINED, _NO_EXIT, _NEW_EXIT = range(4)


def usual_state(program: Program, q: int) -> int | None:
    """The state that most bytes lead to from q, over and over; ``None`` if there is none but q.

    Args:
        q: a state of a rule without calls.
    """
    sizes = np.bincount(program.byte_class[:256], minlength=program.classes)
    at = q
    for _ in range(_MOST_STEPS):
        row = program.table[at]
        targets = np.where(row >= 0, row >> 1, -1)
        weights = np.bincount(targets[targets >= 0], sizes[targets >= 0])
        if not len(weights):
            return None
        following = int(weights.argmax())
        if following == at:
            return None if at == q else at
        at = following
    return None


def is_uncounted(program: Program, number: int) -> bool:
    """Whether nothing is counted in a rule."""
    rule = program.rule_of == number
    free = (program.count_limit[rule] == UNBOUNDED) & (program.count_cap[rule] == UNBOUNDED)
    accepts = program.accept_from[rule]
    return bool(free.all() and ((accepts == 0) | (accepts == UNBOUNDED)).all())


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
    out = np.empty(2 * _ROOM, np.int32)
    count = pool.call(k.difference_walk, q, other, out.ctypes.data, _ROOM, _FUEL)
    if count == k.OUT_OF_FUEL:
        return None
    pairs = out[: 2 * count].reshape(-1, 2)
    nodes, what = pairs[:, 0], pairs[:, 1]
    if (what == _GAINED).any() or (what == _NEW_EXIT).any() or _ends(pool, q, other):
        return None
    known = lexeme.free(positions, follow)
    lost = nodes[what == _LOST]
    mask = _without(known.mask, lexeme, lost)
    gone = _exits_gone(lexeme, lost, nodes[what == _NO_EXIT])
    if not gone.any():
        return Wide(mask, known.groups)
    children, keys, parents = lexeme.entries(positions, follow)
    kept = ~gone[parents]
    return Wide(mask, positions.grouped(children[kept], keys[kept]))


def _ends(pool: StatePool, q: int, other: int) -> bool:
    """Whether only one of the states may end at once."""
    accept_from = pool.program.accept_from
    return bool((accept_from[q] == 0) != (accept_from[other] == 0))


def _without(mask: Int32, lexeme: Lexeme, lost: Int32) -> Int32:
    """A mask without the tokens at and below some trie nodes."""
    trie = lexeme.trie
    flags = np.unpackbits(mask.view(np.uint8), bitorder="little")
    for node in lost.tolist():
        below = trie.tokens[trie.token_start[node] : trie.token_start[trie.skip[node]]]
        flags[below] = 0
    return np.packbits(flags, bitorder="little").view(np.int32)


def _exits_gone(lexeme: Lexeme, lost: Int32, ended: Int32) -> Flags:
    """Which exits of the lexeme lie at or below lost nodes, or end no longer."""
    gone = np.zeros(len(lexeme.exit_nodes), np.bool_)
    starts = np.searchsorted(lexeme.exit_nodes, lost)
    stops = np.searchsorted(lexeme.exit_nodes, lexeme.trie.skip[lost])
    for a, b in zip(starts.tolist(), stops.tolist(), strict=True):
        gone[a:b] = True
    gone[np.isin(lexeme.exit_nodes, ended)] = True
    return gone
