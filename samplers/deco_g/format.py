"""The finite part of a ``TokenAutomaton`` that matters within a budget of tokens.

States are numbered 0 .. S-1 in the order in which a breadth-first walk meets them, S is the end of the
text.  A regular grammar has finitely many; of others those count from which a text can be finished in
the tokens left where they are first met.  "Pivots and wildcards" (Deco-G's formats) are regular
grammars like any other: their automaton over bytes, crossed with the vocabulary's trie, holds every
tokenisation of each pivot and all ways back into the wildcard.

**Sharing.**  How a state parts the tokens ("these go on with the string, those close it") repeats from
state to state while the targets differ.  So the parts are a :class:`Split` that states share, and the
sets of tokens in them are *letters*, numbered by content: emissions are summed once for each letter.

States are not merged where the same texts follow: partition refinement would join 0 to 5% of those of
schemas, pivots and expressions, and 16% of those of a counted wildcard before a pivot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int32, Int64
from constrain.automaton import TokenAutomaton
from constrain.room import begun_again, with_room
from grammars.errors import LimitExceeded

Groups: TypeAlias = npt.NDArray[np.uint16] | npt.NDArray[np.int32]

NOWHERE: Final = -1
"""In place of a target from which no text can be finished within the budget."""
FAR: Final = 1 << 30
"""Tokens to the end where there is no way."""
_COUNTABLE: Final = 1 << 24
"""States up to which numbers are told apart by counting, not by sorting."""
_DOING: Final = "the automaton of this format"


@dataclass(frozen=True, eq=False)
class Part:
    """Some tokens of a split.

    Attributes:
        at: int64[n], their places among all of them, ascending.
        tokens: int32[n].
        group: the part of each.
    """

    at: Int64
    tokens: Int32
    group: Groups


@dataclass(frozen=True, eq=False)
class Split:
    """How states part the tokens (EOS aside) by where they lead.

    Attributes:
        tokens: int32[n], ascending.
        group: uint16[n] (int32 if there are more), the part of each token; parts are numbered by
            their first tokens.
        letters: int64[g], the token set that each part is.
    """

    tokens: Int32
    group: Groups
    letters: Int64

    @cached_property
    def main(self) -> Part:
        """The part with most tokens; none if there are no tokens."""
        return self._part(
            self.group == np.bincount(self.group).argmax() if len(self.group) else None
        )

    @cached_property
    def rest(self) -> Part:
        """The tokens of all other parts."""
        others = np.ones(len(self.tokens), np.bool_)
        others[self.main.at] = False
        return self._part(others)

    def _part(self, inside: Flags | None) -> Part:
        at = np.flatnonzero(inside) if inside is not None else np.zeros(0, np.int64)
        return Part(at, self.tokens[at], self.group[at])


class Letters:
    """Sets of tokens, numbered by content.

    Attributes:
        tokens: int32 tokens of each, ascending.
    """

    def __init__(self) -> None:
        self.tokens: list[Int32] = []
        self._numbers: dict[bytes, int] = {}

    def number(self, tokens: Int32) -> int:
        """The number of a set, new if it was not there."""
        key = hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
        known = self._numbers.setdefault(key, len(self.tokens))
        if known == len(self.tokens):
            self.tokens.append(tokens)
        return known

    @property
    def nbytes(self) -> int:
        """Memory of the sets, in bytes."""
        return sum(t.nbytes for t in self.tokens)

    def flat(self) -> tuple[Int32, Int64]:
        """All tokens in a row, int32, and where each set begins, int64[L + 1]."""
        offsets = np.zeros(len(self.tokens) + 1, np.int64)
        np.cumsum([len(t) for t in self.tokens], out=offsets[1:])
        return np.concatenate([*self.tokens, np.zeros(0, np.int32)]), offsets


class FormatAutomaton:
    """See the module.  What it holds never changes, but for the automaton's own integers.

    Those are kept for drafters, and found again where the automaton was told to forget them.

    Args:
        automaton: of any grammar.
        budget: the most tokens of a text, EOS included.
        check: called with the number of states found so far, to raise where the caller has no room
            for them; ``Limits.max_search_states`` is a bound of its own.

    Attributes:
        states: S.
        is_complete: nothing was left out for the budget, so that it serves any budget.
        splits: the partitions of tokens, shared by states.
        split_of: int64[S], the number of each state's.
        targets: for each state int64[g], where the parts of its split lead: a state, or ``NOWHERE``.
        accepting: bool[S], where EOS is allowed.
        needed: int64[S + 1], the fewest tokens to the end, EOS included (``FAR`` for none; 0 at S).
        offsets: int64[S + 1], where each state's edges begin in the two arrays below.
        edge_letter, edge_target: int64[E], the edges that lead somewhere.
        letters: the token sets on the edges.

    Raises:
        LimitExceeded: if there are too many states, for the search or for the automaton to hold.
    """

    def __init__(
        self,
        automaton: TokenAutomaton,
        budget: int,
        *,
        check: Callable[[int], None] | None = None,
    ) -> None:
        self.automaton: Final = automaton
        self.budget: Final = budget
        self.letters: Final = Letters()
        self._masks: Final = Letters()
        self.splits: list[Split] = []
        self._split_numbers: dict[bytes, int] = {}
        found = begun_again(automaton, lambda: self._explore(check or _no_check))
        self.split_of: Int64 = np.array(found[0], np.int64)
        self.accepting: Flags = np.array(found[1], np.bool_)
        self.states: Final = len(self._raw)
        self.offsets, self.edge_letter, self.edge_target = self._join()
        self.needed: Int64 = self._distances()

    def __repr__(self) -> str:
        return (
            f"FormatAutomaton({self.states:,} states, {len(self.edge_target):,} edges, "
            f"{len(self.letters.tokens):,} token sets)"
        )

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        sets = self.letters.nbytes + self._masks.nbytes
        edges = 2 * self.edge_target.nbytes + sum(t.nbytes for t in self.targets)
        return sets + edges + sum(split.group.nbytes for split in self.splits)

    def after(self, state: int, token: int) -> int:
        """The state after a token that is not EOS; ``NOWHERE`` if it is not allowed."""
        split = self.splits[self.split_of[state]]
        at = int(split.tokens.searchsorted(np.int32(token)))
        if at == len(split.tokens) or split.tokens[at] != token:
            return NOWHERE
        return int(self.targets[state][split.group[at]])

    def raw(self, state: int) -> int:
        """The automaton's integer for a state."""
        automaton, known = self.automaton, self._raw[state]
        _, self._raw[state] = with_room(
            automaton, known, lambda: self._way(state), automaton.is_accepting
        )
        return self._raw[state]

    def _way(self, state: int) -> list[int]:
        """The tokens by which a state was first met."""
        tokens: list[int] = []
        while state:
            state, token = self._came[state]
            tokens.append(token)
        return tokens[::-1]

    # -- finding states ------------------------------------------------------------------------

    def _begin(self) -> None:
        """Nothing but the start is known."""
        self.is_complete = True
        self.targets: list[Int64] = []
        self._raw = [self.automaton.start]
        self._came = [(0, 0)]  # the state before and the token, when first met

    def _explore(self, check: Callable[[int], None]) -> tuple[list[int], list[bool]]:
        """Breadth-first from the start; returns the split of each state, and whether it may end there."""
        self._begin()
        automaton, limit = self.automaton, self.automaton.limits.max_search_states
        numbers = {automaton.start: 0}
        depths = [0]
        splits: list[int] = []
        while len(splits) < len(self._raw):
            at = len(splits)
            depth = depths[at] + 1
            tokens, after = automaton.edges(self._raw[at])
            number, reached, by = self._part(tokens.astype(np.int32), after)
            splits.append(number)
            targets = np.full(len(reached), NOWHERE, np.int64)
            for i, state in enumerate(reached):
                known = numbers.get(state)
                if known is None and self._is_near(state, depth):
                    known = numbers[state] = len(self._raw)
                    self._raw.append(state)
                    self._came.append((at, by[i]))
                    depths.append(depth)
                    if len(self._raw) > limit:
                        raise LimitExceeded("max_search_states", limit, _DOING)
                    check(len(self._raw))
                if known is not None:
                    targets[i] = known
            self.targets.append(targets)
        return splits, [automaton.is_accepting(state) for state in self._raw]

    def _is_near(self, state: int, depth: int) -> bool:
        """Whether a text can be finished from a state that is first met after so many tokens."""
        near = depth + self.automaton.min_tokens_to_accept(state) + 1 <= self.budget
        self.is_complete &= near
        return near

    def _part(self, tokens: Int32, after: Int64) -> tuple[int, list[int], list[int]]:
        """The split of a state, the state behind each of its parts, and a token of each."""
        if not len(tokens):
            return self._number(tokens, np.zeros(0, np.int32), 0), [], []
        distinct, firsts, group = _ranked(after)
        order = np.argsort(firsts)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        number = self._number(tokens, rank[group], len(order))
        return number, distinct[order].tolist(), tokens[firsts[order]].tolist()

    def _number(self, tokens: Int32, group: Int32, parts: int) -> int:
        digest = hashlib.blake2b(tokens.tobytes(), digest_size=16)
        digest.update(group.tobytes())
        known = self._split_numbers.setdefault(digest.digest(), len(self.splits))
        if known == len(self.splits):
            order = np.argsort(group, kind="stable")
            bounds = np.searchsorted(group[order], np.arange(parts + 1))
            sets = [tokens[order[a:b]] for a, b in pairwise(bounds.tolist())]
            letters = np.array([self.letters.number(t) for t in sets], np.int64)
            shared = self._masks.tokens[self._masks.number(tokens)]
            small = group if parts > 1 << 16 else group.astype(np.uint16)
            self.splits.append(Split(shared, small, letters))
        return known

    # -- edges ---------------------------------------------------------------------------------

    def _join(self) -> tuple[Int64, Int64, Int64]:
        """Offsets, letters and targets of the edges of all states in a row."""
        kept = [reached != NOWHERE for reached in self.targets]
        offsets = np.zeros(self.states + 1, np.int64)
        np.cumsum([np.count_nonzero(k) for k in kept], out=offsets[1:])
        splits = (self.splits[i] for i in self.split_of)
        letters = [split.letters[k] for split, k in zip(splits, kept, strict=True)]
        targets = [reached[k] for reached, k in zip(self.targets, kept, strict=True)]
        return offsets, np.concatenate(letters), np.concatenate(targets)

    def _distances(self) -> Int64:
        """Fewest tokens to the end, by relaxation: as many rounds as the longest of them."""
        needed = np.full(self.states + 1, FAR, np.int64)
        needed[-1] = 0
        needed[:-1][self.accepting] = 1
        while True:
            through = self._least(needed[self.edge_target]) + 1
            better = np.minimum(needed[:-1], through)
            if np.array_equal(better, needed[:-1]):
                return needed
            needed[:-1] = better

    def _least(self, values: Int64) -> Int64:
        """int64[S], of numbers for the edges the least at each state (``FAR`` without edges)."""
        out = np.full(self.states, FAR, np.int64)
        some = np.flatnonzero(np.diff(self.offsets))
        if len(some):
            out[some] = np.minimum.reduceat(values, self.offsets[:-1][some])
        return out


def _no_check(states: int) -> None:
    """Refuses nothing: for callers with room for any number of states."""


def _ranked(values: Int64) -> tuple[Int64, Int64, Int32]:
    """Distinct numbers, where each is met first, and the place of each value among them."""
    if values.max() > _COUNTABLE:
        known, begins, places = np.unique(values, return_index=True, return_inverse=True)
        return known, begins.astype(np.int64), places.astype(np.int32)
    distinct = np.flatnonzero(np.bincount(values))
    place = np.empty(int(distinct[-1]) + 1, np.int32)
    place[distinct] = np.arange(len(distinct), dtype=np.int32)
    group = place[values]
    firsts = np.empty(len(distinct), np.int64)
    firsts[group[::-1]] = np.arange(len(values) - 1, -1, -1)  # the last one written is the first
    return distinct, firsts, group
