"""A short text to the end from any place, and its tokens: budgets of grammars with indentation.

How many bytes and marks finish a rule is known for each state of the program, the least fixed point (Knuth
1977).  From a place the rules' shortest way is written down, the widths that its marks need are put in, and
the text is spelled in the fewest tokens.  It is a text that exists, so its length is an upper bound; whoever
follows its tokens arrives, as what is left of them is remembered for each place on the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.engine.pool import END, StatePool
from constrain.layout.places import Moves, Spot
from constrain.vocabulary import Vocabulary
from grammars.errors import LimitExceeded
from grammars.ir import (
    END_DEDENT,
    END_INDENT,
    END_SAME,
    LINE_DEDENT,
    LINE_INDENT,
    LINE_SAME,
    Layout,
)
from grammars.layout.writing import written
from grammars.program import UNBOUNDED

_BYTE: Final = 1 << 24
_LINE: Final = 1 << 10
_EXTRA: Final[dict[int, int]] = {
    LINE_SAME: 2 * _BYTE + _LINE,
    LINE_INDENT: 3 * _BYTE + _LINE,
    LINE_DEDENT: 2 * _BYTE + _LINE,
    END_INDENT: 3 * _BYTE + _LINE,
    END_SAME: 1,
    END_DEDENT: 1,
}
"""What marks cost: about the blanks that they need; each counts as a line, but for those that need none."""
_NEVER: Final = 1 << 60
_MOST_SYMBOLS: Final = 100_000
_KEPT: Final = 20_000


class _Bound(NamedTuple):
    """The least cost of a way to the end, and the configuration that it begins with."""

    cost: int
    item: tuple[int, int, int]


class Completions:
    """Texts to the end, by place.

    Args:
        pool: of the rules; the caller holds its lock.
        moves: of the places.
        layout: how indentation is read.
        vocabulary: the tokens, each byte of the rules among them.
    """

    def __init__(
        self, pool: StatePool, moves: Moves, layout: Layout, vocabulary: Vocabulary
    ) -> None:
        self._pool = pool
        self._moves = moves
        self._layout = layout
        self._vocabulary = vocabulary
        self._bounds: dict[int, _Bound] = {}
        self._plans: dict[Spot, list[int]] = {}
        self._cost: list[int] | None = None
        alone = vocabulary.single_byte
        self._unit: Final = 1 if alone[0x20] else layout.tab_length
        self._blank: Final = b" " if alone[0x20] else b"\t"

    def trim(self, spots: Iterable[Spot]) -> None:
        """Forgets all places but those given."""
        self._bounds.clear()
        self._plans = {spot: self._plans[spot] for spot in spots if spot in self._plans}

    def tokens(self, spot: Spot) -> list[int]:
        """Tokens to the end of a text from a place; none where the text may end."""
        known = self._plans.get(spot)
        if known is None:
            known = self._spelled(self.text(spot))
            self._keep(spot, known)
        return known

    def note(self, spot: Spot | None, tokens: list[int]) -> None:
        """Notes a way to the end that may be better than the one known."""
        if spot is not None and len(tokens) < len(self.tokens(spot)):
            self._keep(spot, tokens)

    def _keep(self, spot: Spot, tokens: list[int]) -> None:
        if len(self._plans) >= _KEPT:
            self._plans.pop(next(iter(self._plans)))
        self._plans[spot] = tokens

    def at_most(self, spot: Spot, enough: int) -> int:
        """A bound on the tokens to the end: the number of bytes if that is within what is enough."""
        known = self._plans.get(spot)
        if known is None:
            size = self._size(spot)
            if size <= enough:
                return size
            known = self.tokens(spot)
        return len(known)

    def _size(self, spot: Spot) -> int:
        """No less than the bytes of the text that is chosen for a place."""
        least = _NEVER
        for state, stack in spot.readings:
            cost = self._bound(state).cost
            lines = cost // _LINE % (_BYTE // _LINE)
            widest = (stack[-1] if stack else 0) + self._unit * (lines + 1)
            least = min(least, cost // _BYTE + (lines + 1) * (widest + 1))
        return least

    # -- texts ---------------------------------------------------------------------------------

    def text(self, spot: Spot) -> bytes:
        """A short text to the end from a place.

        Raises:
            LimitExceeded: where the rules count, so that the way that was chosen is none.
        """
        if self._moves.accepts(spot):
            return b""
        made = [
            written(way, self._layout, stack=stack, width=spot.width, bare=bare, blank=self._blank)
            for state, stack in spot.readings
            for way in [self._way(state)]
            for bare in (True, False)  # which of both it is the place does not know
        ]
        for text in sorted(dict.fromkeys(made), key=len):
            after = self._moves.by_bytes(spot, text)
            if after is not None and self._moves.accepts(after):
                return text
        limit = self._pool.limits.max_distance_work
        raise LimitExceeded(
            "max_distance_work", limit, "the shortest text of counted rules with indentation"
        )

    def _way(self, state: int) -> list[int]:
        """Bytes and marks of the rules' shortest way to the end."""
        costs = self._costs()
        p = self._pool.program
        out: list[int] = []
        calls: list[int] = []  # program states to return to, below the state's own frames
        while state != END:
            _, (q, _, state) = self._bound(state)
            calls.append(q)
            while calls:
                q = calls.pop()
                while costs[q] > 0 or p.accept_from[q] == UNBOUNDED:
                    if len(out) > _MOST_SYMBOLS:
                        raise LimitExceeded(
                            "max_distance_work",
                            self._pool.limits.max_distance_work,
                            "the shortest text to the end",
                        )
                    symbol, q = self._step(costs, q, calls)
                    if symbol >= 0:
                        out.append(symbol)
        return out

    def _step(self, costs: list[int], q: int, calls: list[int]) -> tuple[int, int]:
        """The first step of the cheapest way from a program state: a symbol, or -1, and the next state."""
        p = self._pool.program
        weights, symbols = self._weights
        for e in range(p.edge_offset[q], p.edge_offset[q + 1]):
            c, target = int(p.edge_class[e]), int(p.edge_target[e]) >> 1
            if weights[c] + costs[target] == costs[q]:
                return symbols[c], target
        for e in range(p.call_offset[q], p.call_offset[q + 1]):
            rule, target = int(p.call_start[e]), int(p.call_return[e]) >> 1
            rest = 0 if p.call_tail[e] else costs[target]
            if costs[rule] + rest == costs[q]:
                if not p.call_tail[e]:
                    calls.append(target)
                return -1, rule
        raise AssertionError("the cost of a state is that of one of its ways")

    # -- costs ---------------------------------------------------------------------------------

    def _bound(self, state: int) -> _Bound:
        """The least cost from a state of the pool; frames below first, without recursion."""
        costs = self._costs()
        known = self._bounds
        todo = [state]
        while todo:
            at = todo[-1]
            if at in known:
                todo.pop()
                continue
            items = self._pool.items(at)
            missing = [frame for _, _, frame in items if frame != END and frame not in known]
            if missing:
                todo += missing
                continue
            todo.pop()
            known[at] = min(
                _Bound(costs[q] + (0 if frame == END else known[frame].cost), (q, n, frame))
                for q, n, frame in items
            )
        return known[state]

    @property
    def _weights(self) -> tuple[list[int], list[int]]:
        """By class of symbols: what it costs, and its cheapest symbol."""
        return _tables_of(self._pool).weights

    def _costs(self) -> list[int]:
        """By program state, the least cost to the end of its rule."""
        if self._cost is None:
            self._cost = _tables_of(self._pool).costs
        return self._cost

    # -- tokens --------------------------------------------------------------------------------

    def _spelled(self, text: bytes) -> list[int]:
        """The fewest tokens that write a text; each of its bytes is one."""
        ids = _ids_of(self._vocabulary)
        longest = self._vocabulary.trie.max_depth
        best: list[tuple[int, int, int]] = [(0, -1, 0)] * (len(text) + 1)
        for i in range(len(text) - 1, -1, -1):
            best[i] = (_NEVER, -1, 0)
            for j in range(min(len(text), i + longest), i, -1):
                token = ids.get(text[i:j])
                if token is not None and best[j][0] + 1 < best[i][0]:
                    best[i] = (best[j][0] + 1, token, j)
        out = []
        at = 0
        while at < len(text):
            _, token, at = best[at]
            out.append(token)
        return out


class _Tables:
    """Costs of the states of one program."""

    def __init__(self, pool: StatePool) -> None:
        p = pool.program
        weight = np.full(p.classes, _NEVER, np.int64)
        symbol = np.full(p.classes, -1, np.int64)
        for mark in p.marks:
            c, cost = int(p.byte_class[mark]), _EXTRA.get(mark, _NEVER)
            if cost < weight[c]:
                weight[c], symbol[c] = cost, mark
        for byte in (*range(0x21, 0x7F), *range(0x21), *range(0x7F, 256)):
            c = int(p.byte_class[byte])
            if weight[c] > _BYTE:
                weight[c], symbol[c] = _BYTE, byte
        self.weights = weight.tolist(), symbol.tolist()
        self.costs: list[int] = _least(pool, weight).tolist()


def _least(pool: StatePool, weight: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The least cost from each program state to the end of its rule: int64[Q]."""
    p = pool.program
    cost = np.where(np.asarray(p.accept_from) == UNBOUNDED, _NEVER, 0).astype(np.int64)
    states = np.arange(p.states)
    edge_source = np.repeat(states, np.diff(p.edge_offset))
    call_source = np.repeat(states, np.diff(p.call_offset))
    edge_target, call_return = p.edge_target >> 1, p.call_return >> 1
    edge_weight = weight[p.edge_class]
    tails = np.asarray(p.call_tail, np.bool_)
    while True:
        before = cost.copy()
        np.minimum.at(cost, edge_source, np.minimum(edge_weight + cost[edge_target], _NEVER))
        rest = np.where(tails, 0, cost[call_return])
        np.minimum.at(cost, call_source, np.minimum(cost[p.call_start] + rest, _NEVER))
        if np.array_equal(before, cost):
            return cost


_tables: WeakKeyDictionary[StatePool, _Tables] = WeakKeyDictionary()


def _tables_of(pool: StatePool) -> _Tables:
    found = _tables.get(pool)
    if found is None:
        found = _tables[pool] = _Tables(pool)
    return found


_ids: WeakKeyDictionary[Vocabulary, dict[bytes, int]] = WeakKeyDictionary()


def _ids_of(vocabulary: Vocabulary) -> dict[bytes, int]:
    """Tokens by their bytes, the least of several."""
    found = _ids.get(vocabulary)
    if found is None:
        found = {}
        for token, text in enumerate(vocabulary.texts):
            if text:
                found.setdefault(text, token)
        _ids[vocabulary] = found
    return found
