"""Wide states that differ from a better known one only here and there.

"Any key but these forty" treats the vocabulary like "any string", save along the forty names.  Such
automata are large and belong to one schema, so walking the whole vocabulary for each of their states
would not pay.  Here a state is compared with the one that most bytes lead to: the trie is walked
with both and left where they meet, which leaves a few hundred nodes; the rest is the other's answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from constrain.arrays import Flags
from constrain.engine.jit import kernels as k
from constrain.engine.jit import mask_kernels as m
from constrain.engine.pool import StatePool
from constrain.masks.trie_positions import Positions
from constrain.masks.wide import Lexeme, Wide
from grammars.program import UNBOUNDED, Program

_ROOM: Final = 8_192
"""Differences up to which the comparison is worth it."""
_FUEL: Final = 50_000
"""Trie nodes visited before it is given up (about half a millisecond)."""
_MOST_STEPS: Final = 8


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
    accept_from = pool.program.accept_from
    if (accept_from[q] == 0) != (accept_from[other] == 0):
        return None
    found = np.empty(2 * _ROOM, np.int32)
    count = pool.call(k.difference_walk, q, other, found.ctypes.data, _ROOM, _FUEL)
    if count == k.OUT_OF_FUEL:
        return None
    trie, row = lexeme.trie, lexeme.mask.copy()
    exits = np.ones(len(lexeme.exit_nodes), np.uint8)
    gone = m.apply_difference(
        found, count, trie.skip, trie.token_start, trie.tokens, lexeme.exit_nodes, row, exits
    )
    if gone < 0:
        return None
    if gone == 0:
        return Wide(row, lexeme.free(positions, follow).groups)
    return Wide(row, lexeme.groups(positions, follow, exits))
