"""Masks of the states of one pool: what a grammar's rules alone allow.

A state whose configurations allow little is walked over the trie.  One that allows most of the
vocabulary is *wide*: what it does with all tokens is found once (:mod:`constrain.masks.wide`,
:mod:`constrain.masks.difference`) and put together with what its frame does with the tokens that leave
the rule.

Work is bounded.  Where a mask takes more than ``Limits.max_mask_work``, only shorter tokens are
looked at: those of one byte, of two, of four, as far as work lasts.  Such a mask leaves allowed
tokens out and lets no wrong one in; it is not kept, and the next call for the same state gets
further, since steps once made are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import numpy as np

from constrain.arrays import Flags, Int32
from constrain.engine.jit import kernels as k
from constrain.engine.jit import mask_kernels as m
from constrain.engine.pool import END, StatePool
from constrain.masks.difference import compared
from constrain.masks.trie_positions import positions_of
from constrain.masks.wide import (
    Inner,
    LexemeShape,
    Shapes,
    Wide,
    answered,
    groups_lacking,
    lexeme_of,
    nodes_visited,
    unbounded_counts,
)
from constrain.vocabulary import Vocabulary
from grammars.errors import LimitExceeded

_FUEL: Final = 1_500
"""Trie nodes a direct walk may visit before a state is treated as wide (some 30 microseconds)."""
_UNLIMITED: Final = 1 << 62
_MOST_STEPS: Final = 8
"""How often the way that most bytes go is followed, in search of a state to compare with."""
_USUAL_NODES: Final = 250_000
"""Trie nodes (128k tokens have about as many) beyond which more work is allowed, in proportion."""
_SHORT_SHARE: Final = 3 / 8
"""The part of the work allowed that is kept for short tokens."""
_KEPT: Final = 2_048
"""Answers kept for counts of wide states of rules with calls (V/8 bytes each)."""

_CUT_SHORT: Final = (
    "Masks: {} so far would have taken more work than Limits.max_mask_work allows; they leave out long "
    "tokens that are allowed."
)


class OutOfWorkError(Exception):
    """A mask takes more work than is allowed."""


class RuleMasks:
    """What the states of a pool do with a vocabulary.

    Args:
        pool: the states; the caller holds its lock.
        vocabulary: the tokens.

    Attributes:
        cut_short: how many masks were incomplete, as the work they take is more than is allowed.
    """

    def __init__(self, pool: StatePool, vocabulary: Vocabulary) -> None:
        self.cut_short = 0
        self._pool = pool
        self._vocabulary = vocabulary
        share = max(1.0, vocabulary.trie.node_count / _USUAL_NODES)
        self._work = int(share * pool.limits.max_mask_work)
        pool.bound_moves(self._work)
        self._positions = positions_of(vocabulary)
        self._shapes = Shapes(pool.program)
        self._survey = self._shapes.survey
        self._numbers = np.zeros(pool.program.states, np.int32)
        self._answers: OrderedDict[tuple[int, int], Wide] = OrderedDict()
        self._ranges: dict[tuple[int, int], tuple[int, int]] = {}
        self._widest: dict[int, int] = {}
        self._in_use: dict[int, Wide] = {}
        self._scratch = np.zeros((vocabulary.size + 31) // 32, np.int32)
        self._scratch_address = self._scratch.ctypes.data  # looked up once: it takes a microsecond

    def approximations(self) -> tuple[str, ...]:
        """In which cases masks were not exact, a sentence each."""
        return (_CUT_SHORT.format(self.cut_short),) if self.cut_short else ()

    def follow(self, q: int) -> Flags:
        """bool[256]: the bytes that can come after the rule of a program state."""
        return self._survey.follow(q)

    def shape(self, q: int) -> LexemeShape | None:
        """The automaton of a program state's rule from there on, if small and without calls."""
        return self._shapes.of(q)

    def is_plain(self, q: int) -> bool:
        """Whether a program state's rule is a deterministic automaton without calls."""
        return self._survey.is_plain(q)

    # -- whole masks ---------------------------------------------------------------------------

    @contextmanager
    def unbounded(self) -> Iterator[None]:
        """Masks made meanwhile are complete, whatever work they take."""
        bound, self._work = self._work, _UNLIMITED
        try:
            yield
        finally:
            self._work = bound

    def mask(self, state: int) -> Int32:
        """The tokens whose bytes a state allows (EOS and spelling aside): int32[W].

        Where it is incomplete, ``cut_short`` counts it.

        Raises:
            LimitExceeded: if the work allowed does not suffice for a single token.
        """
        self._scratch.fill(0)
        self._pool.allow_work(self._work - int(_SHORT_SHARE * self._work))
        try:
            self._fill(state)
        except OutOfWorkError:
            self._fill_short(state)
        finally:
            self._pool.allow_work(None)
        return self._scratch.copy()

    def _fill(self, state: int) -> None:
        call, address, context = self._pool.call, self._scratch_address, self._pool.context
        item = 0
        context[k.N_EDGES_DONE] = 0
        while True:
            out = call(k.fill_state, state, item, address, _FUEL)
            if out >= 0:
                return
            if out == k.OUT_OF_WORK:
                raise OutOfWorkError
            item = int(context[k.N_LACKING])
            self._use(int(context[k.N_WIDE_STATE]), int(context[k.N_WIDE_COUNT]))

    def _fill_short(self, state: int) -> None:
        """Sets the bits of tokens up to some length, as long as the work allowed lasts."""
        self.cut_short += 1
        self._pool.allow_work(int(_SHORT_SHARE * self._work))
        longest = 1
        while longest <= 2 * self._vocabulary.trie.max_depth:
            out = self._pool.call(k.fill_walk, state, 0, self._scratch_address, _UNLIMITED, longest)
            if out < 0:
                break
            longest *= 2
        if not self._scratch.any():
            raise LimitExceeded(
                "max_mask_work", self._pool.limits.max_mask_work, "the mask of this ambiguous text"
            )

    # -- wide states ---------------------------------------------------------------------------

    def wide(self, q: int, n: int) -> Wide:
        """What a program state with a count of n does with the whole vocabulary."""
        return self._answers[self._known(q, n)]

    def _known(self, q: int, n: int) -> tuple[int, int]:
        """Under which state and count the answer for a state and a count is kept."""
        key = (q, n)
        if key in self._answers:
            return key
        wide = (q, self._widest.get(q, n))  # that of most counts
        if wide in self._answers and self._ranges[wide][0] <= n <= self._ranges[wide][1]:
            return wide
        self._answers[key], (low, high) = self._find(q, n)
        self._ranges[key] = low, high
        if low < high:
            self._widest[q] = n
        if self._pool.wide[q] != k.WHOLE:
            self._pool.wide[q] = k.WIDE
        if len(self._answers) > _KEPT:
            oldest, _ = self._answers.popitem(last=False)
            del self._ranges[oldest]
        return key

    def _use(self, q: int, n: int) -> None:
        """Lets kernels know what a wide state does."""
        visited = nodes_visited()
        inner = self._inner(q)
        if inner is not None:
            mask, parts = inner.answer(q, self._positions, self._survey.onward)
            self._pool.context[k.N_WORK] += k.NODE_WORK * (nodes_visited() - visited)
            self._pool.wide[q] = k.WIDE
            self._pool.set_inner(q, (n, n), mask, parts)
            return
        key = self._known(q, n)
        self._pool.context[k.N_WORK] += k.NODE_WORK * (nodes_visited() - visited)
        answer = self._in_use[q] = self._answers[key]
        beyond = answer.groups_beyond(self._vocabulary.trie)
        self._pool.set_wide(q, self._ranges[key], answer.mask, beyond)

    def _inner(self, q: int) -> Inner | None:
        """What a state does is known, if it is among states of a calling rule that text stays within."""
        if self._survey.is_plain(q) or not self._survey.is_uncounted(q):
            return None
        return self._shapes.inner_walked(self._vocabulary, q)

    def _find(self, q: int, n: int) -> tuple[Wide, tuple[int, int]]:
        """The answer, and the counts that it is valid for."""
        program = self._pool.program
        answer = self._compare(q)
        if answer is not None:
            return answer, (0, 0)
        found = answered(
            self._shapes, self._vocabulary, program, q, n, self._positions, self.follow(q),
            partial(self._all_groups, q, n),
        )  # fmt: skip
        return self._collect(q, n) if found is None else found

    def _compare(self, q: int) -> Wide | None:
        """The answer by comparison with the state that most bytes lead to, if that is cheap."""
        p = self._pool.program
        if not self._survey.is_plain(q) or not self._survey.is_uncounted(q):
            return None
        other = m.usual_state(
            p.table.reshape(-1), p.classes, p.byte_class, q, self._numbers, _MOST_STEPS
        )
        shape = None if other < 0 else self.shape(other)
        if shape is None:
            return None
        lexeme = lexeme_of(self._vocabulary, shape)
        return compared(self._pool, q, other, lexeme, self._positions, self.follow(q))

    def _collect(self, q: int, n: int) -> tuple[Wide, tuple[int, int]]:
        """The general way: walk with an empty frame, note where the rule can end.

        What the state's own edges allow, whatever rules are called, comes first and is left out of the walk.
        """
        row = np.zeros(len(self._scratch), np.int32)
        uncounted = self._survey.is_uncounted(q)
        shape = self._shapes.inner(q, strict=False) if uncounted else None
        if shape is not None:
            row |= lexeme_of(self._vocabulary, shape).mask
        follow = self.follow(q)
        exits = self._walk_wide(q, n, row)
        if exits is None:
            self._scratch |= row
            raise OutOfWorkError
        if shape is None:
            counts = self._counts_alike(q, n)
            return Wide(row, lambda: self._positions.group(exits, follow)), counts
        groups = partial(self._all_groups, q, n)
        return Wide(row, groups, lambda: self._groups_beyond(exits, follow, row)), (n, n)

    def _groups_beyond(self, exits: Int32, follow: Flags, row: Int32) -> Int32:
        """Of what is entered at some trie nodes that below which a mask lacks a token."""
        return groups_lacking(self._positions.group(exits, follow), row, self._vocabulary.trie)

    def _counts_alike(self, q: int, n: int) -> tuple[int, int]:
        """The counts for which the walk just made from a state and a count of n is the same.

        Where no token came near a bound: in rules without calls counts are seen as a whole.
        """
        if not self._survey.is_flat(q):
            return n, n
        rule_of = self._pool.program.rule_of
        states = np.flatnonzero(rule_of == rule_of[q])
        # one more, for those that a bound may have stopped
        longest = int(self._pool.context[k.N_MOST_COUNT]) - n + 1
        low, high = unbounded_counts(self._pool.program, states, max(longest, 0))
        return (low, high) if low <= n <= high else (n, n)

    def _all_groups(self, q: int, n: int) -> Int32:
        """How tokens go on after the rule of a state, those among them that its mask holds."""
        exits = self._walk_wide(q, n, np.zeros(len(self._scratch), np.int32))
        if exits is None:
            raise OutOfWorkError
        return self._positions.group(exits, self.follow(q))

    def _walk_wide(self, q: int, n: int, row: Int32) -> Int32 | None:
        """See ``StatePool.wide_walk``."""
        state = self._pool.intern([(q, n, END)])
        return self._pool.wide_walk(self._vocabulary.trie, state, self.follow(q), row)
