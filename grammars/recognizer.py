"""What a program means, in plain Python: a lazily built deterministic automaton.

A state is a hash-consed, sorted set of configurations ``(q, n, F)``: program state, count, and the
frame to continue with when the rule ends.  A frame is again such a set, so frames and states share
one pool of integers; ``END`` is the frame under the whole text.  Because rules never start without
consuming a byte (no empty rules, no left recursion), the frames made by one byte form an acyclic
graph, and content alone identifies them: loops in the grammar lead back to the same integers.

Every call of one rule at one position shares one frame, which bounds the work for ambiguous
grammars by the cube of the length, as in Earley's algorithm (Earley 1970; the frames are the nodes
of Tomita's graph-structured stack).  A call whose return has nothing left to do is a jump, so right
recursion costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from grammars.compiling.bags import Residuals
from grammars.errors import LimitExceeded
from grammars.ir import SYMBOLS
from grammars.limits import Limits
from grammars.program import Program
from grammars.work import spend

Item: TypeAlias = tuple[int, int, int]
_Ways: TypeAlias = tuple[list[int], list[tuple[int, int]]]

DEAD = 0
END = 1


class Recognizer:
    """Steps through texts; readable first, though memoised.

    ``DEAD`` (0) is the state without a reading, ``END`` (1) the frame below the start rule.

    Attributes:
        program: what it reads by.
        names_tokens: framed names in texts are special tokens (:mod:`grammars.special_tokens`).
    """

    def __init__(self, program: Program, limits: Limits, *, names_tokens: bool = False) -> None:
        self.program = program
        self.names_tokens = names_tokens
        self._limits = limits
        self.items: list[tuple[Item, ...]] = [(), ((0, 0, 0),)]
        self.accepting: list[bool] = [False, True]
        self._can: list[int] = [0, 0]
        self._index: dict[tuple[Item, ...], int] = {(): DEAD, ((0, 0, 0),): END}
        self._memo: dict[tuple[int, int], int] = {}
        p = program
        self._first = [sum(int(w) << 64 * i for i, w in enumerate(row)) for row in p.first]
        self._byte_class = p.byte_class.tolist()
        for mark in set(range(256, SYMBOLS)) - set(p.marks):
            self._byte_class[mark] = p.classes  # a class without edges
        self._residuals = Residuals(p.bags, limits)
        self._bag_of = p.bag_of.tolist()
        # lists: single elements are read many times faster than from arrays
        self._rank: list[int] = p.start_rank.tolist()
        self._accept_from: list[int] = p.accept_from.tolist()
        self._cap: list[int] = p.count_cap.tolist()
        self._floor: list[int] = p.count_floor.tolist()
        self._limit: list[int] = p.count_limit.tolist()
        self._ways: dict[tuple[int, int], _Ways] = {}
        self.start = DEAD if p.is_empty else self._intern([(p.start, 0, END)])

    def advance(self, state: int, byte: int) -> int:
        """The state after one more byte, or mark (``DEAD`` if no text of the language goes on so)."""
        key = (state, self._byte_class[byte])
        known = self._memo.get(key)
        if known is None:
            known = self._memo[key] = self._step(*key)
        return known

    def run(self, data: bytes, state: int | None = None) -> tuple[int, int]:
        """Follows ``data``; returns the last state and how many bytes were possible."""
        at = self.start if state is None else state
        for i, byte in enumerate(data):
            nxt = self.advance(at, byte)
            if nxt == DEAD:
                return at, i
            at = nxt
        return at, len(data)

    def classes_of(self, symbols: Iterable[int]) -> int:
        """The classes of some bytes and marks, as a set of bits."""
        found = 0
        for symbol in symbols:
            found |= 1 << self._byte_class[symbol]
        return found

    def can_take(self, state: int, classes: int) -> bool:
        """Whether something of these classes can come next (a superset: counts are left out)."""
        return self._can[state] & classes != 0

    def run_until(self, data: bytes, begin: int, state: int, classes: int) -> tuple[int, int]:
        """Follows ``data`` from ``begin`` up to a state that can take some of these classes.

        Returns:
            The last state, and the offset there: that of a byte that is not possible, if there is one
            before.
        """
        memo, class_of, can = self._memo, self._byte_class, self._can
        for i in range(begin, len(data)):
            if can[state] & classes:
                return state, i
            key = (state, class_of[data[i]])
            after = memo.get(key)
            if after is None:
                after = memo[key] = self._step(*key)
            if after == DEAD:
                return state, i
            state = after
        return state, len(data)

    # -- one byte ------------------------------------------------------------------------------

    def _step(self, state: int, c: int) -> int:
        rank = self._rank
        reached: set[Item] = set()
        calls: dict[int, set[Item]] = {}
        for item in self._with_returns(state, c):
            self._follow(item, c, reached, calls)
        while calls:  # callers before callees: then a frame is complete when it is made
            rule = min(calls, key=rank.__getitem__)
            frame = self._intern(calls.pop(rule))
            self._follow((rule, 0, frame), c, reached, calls)
        return self._intern(reached)

    def _with_returns(self, state: int, c: int) -> Iterable[Item]:
        """The readings of a state that can take class c, those after ended rules included."""
        seen = {state}
        stack = [state]
        while stack:
            for q, n, frame in self.items[stack.pop()]:
                yield q, n, frame
                if (
                    n >= self._accept_from[q]
                    and q
                    and frame not in seen
                    and self._can[frame] >> c & 1
                ):
                    seen.add(frame)
                    stack.append(frame)

    def _follow(self, item: Item, c: int, reached: set[Item], calls: dict[int, set[Item]]) -> None:
        q, n, frame = item
        spend(2)
        key = (q, c)
        known = self._ways.get(key)
        if known is None:
            known = self._ways[key] = self._find_ways(q, c)
        targets, called = known
        for target in targets:
            moved = self._count(n, target)
            if moved:
                reached.add((*moved, frame))
        for rule, after in called:
            if after < 0:
                calls.setdefault(rule, set()).update(self.items[frame])
                continue
            moved = self._count(n, after)
            if moved:
                calls.setdefault(rule, set()).add((*moved, frame))

        if self._bag_of[q] >= 0 and self._first[q] >> c & 1:
            self._take(item, self._bag_of[q], c, calls)

    def _find_ways(self, q: int, c: int) -> _Ways:
        """Where the edges of a program state on a class lead; the rules called, and the return of each."""
        p = self.program
        edges = slice(int(p.edge_offset[q]), int(p.edge_offset[q + 1]))
        targets = [
            target
            for k, target in zip(
                p.edge_class[edges].tolist(), p.edge_target[edges].tolist(), strict=True
            )
            if k == c
        ]
        calls = slice(int(p.call_offset[q]), int(p.call_offset[q + 1]))
        called = [
            (rule, -1 if tail else after)
            for rule, after, tail in zip(
                p.call_start[calls].tolist(),
                p.call_return[calls].tolist(),
                p.call_tail[calls].tolist(),
                strict=True,
            )
            if self._first[rule] >> c & 1
        ]
        return targets, called

    def _take(self, item: Item, bag: int, c: int, calls: dict[int, set[Item]]) -> None:
        """Calls of the rules of the items that a bag takes now."""
        p = self.program
        _, residual, frame = item
        begin = int(p.bag_offset[bag])
        for member, step in self._residuals.row(bag, residual).steps():
            rule = int(p.bag_start[begin + member])
            if self._first[rule] >> c & 1:
                after = int(p.bag_return[4 * bag + (step & 3)])
                calls.setdefault(rule, set()).add((after, step >> 3, frame))

    def _count(self, n: int, target: int) -> tuple[int, int] | None:
        """State and count after an edge; ``None`` where no end would be within bounds."""
        q, inc = target >> 1, target & 1
        m = min(n + inc, self._cap[q])
        return (q, m) if self._floor[q] <= m <= self._limit[q] else None

    def _intern(self, items: Iterable[Item]) -> int:
        key = tuple(sorted(items))
        known = self._index.get(key)
        if known is not None:
            return known
        if len(key) > self._limits.max_items:
            raise LimitExceeded("max_items", self._limits.max_items, "this ambiguous text")
        if len(self.items) >= self._limits.max_states:
            raise LimitExceeded("max_states", self._limits.max_states, "this text")
        number = self._index[key] = len(self.items)
        self.items.append(key)
        accepting, can = False, 0
        for q, n, frame in key:
            can |= self._first[q]
            if n >= self._accept_from[q]:
                accepting = accepting or q == 0 or self.accepting[frame]
                can |= self._can[frame]
        self.accepting.append(accepting)
        self._can.append(can)
        return number
