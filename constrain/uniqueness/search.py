"""Product of rules and uniqueness tracker: moves, co-reachability (``is_live``), shortest completion (A*).

A pair is (state of the rules' automaton, tracker).  Which pairs are *live*, that is, can be
completed?  Every state of the rules alone can; and what memory forbids is repeating.  So a pair can
only be dead where what is being written may yet repeat something: ``"b`` where ``b`` is taken and
the only key that begins so, a list of distinct colours when all are used.  There a search looks
ahead, byte by byte, for a way to leave the danger; nearly always the first byte tried is one.

Two kinds of automata need more, and are searched until the text (or the outermost array) ends:

* rules that *want* a repeated item (a constant ``[1, 1]``, "not unique"): they may wait for one
  that cannot come;
* vocabularies without single bytes, where the search goes token by token.

The search is bounded by ``SEARCH_FUEL`` pairs.  Where it runs out the pair counts as live: no right
token is refused, but a text may then lead into a dead end.  The same holds where rules that demand
a number of items or keys exhaust the finitely many there are long before the last one is written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from constrain.arrays import Int32
from constrain.completion.tokens import NEVER
from constrain.engine.jit import kernels as k
from constrain.engine.pool import DEAD
from grammars.errors import LimitExceeded
from grammars.program import Program
from grammars.uniqueness.memory import KEY_ESCAPE, SEPARATORS, STRING, Marks, Memory, Tracker

if TYPE_CHECKING:
    from constrain.rules import RuleAutomaton
    from constrain.uniqueness.texts import UsedTexts

Pair: TypeAlias = tuple[int, Tracker]

SEARCH_FUEL: Final = 2_000
"""Pairs that one look ahead may visit."""
_WAYS: Final = 48
"""Tokens of equal cost that the search for a short completion tries at one place."""
_NEAR: Final = 4
"""Tokens to the end from which on the careful search may visit fewer pairs."""
_HASTE: Final = 4
"""How much the second, hasty search prefers what is near the end."""

_USED_UP: Final = (
    "Masks: where keys or items must not repeat, a mask may allow a token after which the finitely "
    "many values that the grammar has are used up before the last one that it demands."
)
_ZERO: Final = (
    "Masks: where items must not repeat, a mask may allow the exponent of a zero (0e), which can only "
    "become zero again."
)
_BUDGETS: Final = (
    "Budgets: where keys or items must not repeat, min_tokens_to_accept may be an upper bound, and a "
    "mask with tokens_left may hold a token too many or too few."
)
_GIVEN_UP: Final = (
    "Masks: {} looks ahead for values that do not repeat were given up so far; masks may hold tokens "
    "that lead to dead ends there."
)

_WITH_ITEMS: Final = (_USED_UP, _ZERO, _BUDGETS)

# What ends things comes first; then bytes of which some differ from what is there already.
_ORDER: Final = bytes(dict.fromkeys(b'"]},:01234567890tfn{[ zqxjkvb' + bytes(range(256))))
_SEPARATORS: Final = frozenset(SEPARATORS.values())
_BYTES: Final = np.arange(256, dtype=np.uint8)


class Pairs:
    """Movement and liveness of pairs; the automaton's lock is held by the caller."""

    def __init__(self, inner: RuleAutomaton, memory: Memory, wants_marks: bool) -> None:
        self.inner: Final = inner
        self.memory: Final = memory
        self.thorough: Final = wants_marks
        self._by_tokens = not inner.spells_bytes
        self._address = _BYTES.ctypes.data
        self._texts = inner.vocabulary.texts
        self.used: UsedTexts | None = None
        self._easier: RuleAutomaton | None = None
        self._easier_states: dict[Pair, int] = {}
        self._live: dict[Pair, bool] = {}
        self._fewest: dict[Pair, tuple[int, int]] = {}
        self.given_up = 0
        """How many looks ahead reached ``SEARCH_FUEL``."""

    @cached_property
    def _order(self) -> tuple[tuple[int, int], ...]:
        """Bytes in the order in which they are tried, with their classes as sets."""
        classes = self.inner.program.byte_class[:256].tolist()
        return tuple((byte, 1 << classes[byte]) for byte in _ORDER)

    def approximations(self) -> tuple[str, ...]:
        """In which cases masks and budgets are not exact, a sentence each."""
        out = _WITH_ITEMS if self.inner.grammar.ir.compare_items else (_USED_UP, _BUDGETS)
        given_up = self.given_up + (0 if self.used is None else self.used.given_up)
        return (*out, _GIVEN_UP.format(given_up)) if given_up else out

    def begin(self, start: Pair, easier: RuleAutomaton) -> None:
        """Prepares the distances of a thorough automaton.

        Rules that wait for marks have no distance of their own.  ``easier`` reads every mark as the
        byte it stands for; it allows more, so its distances are lower bounds.  Any of its states
        will do that a text leading to the pair leads to.
        """
        self._easier = easier
        self._easier_states[start] = easier.start

    def trim(self, keep: Iterable[Pair]) -> None:
        """Drops what was worked out (the pool's integers are about to change)."""
        self._live.clear()
        self._fewest.clear()
        if self._easier is not None:
            states = self._easier_states
            self._easier_states = {pair: states[pair] for pair in keep if pair in states}
            self._easier.trim({*self._easier_states.values(), self._easier.start})

    # -- moving --------------------------------------------------------------------------------

    def by_token(self, pair: Pair, token: int) -> Pair | None:
        """The pair after a token that has bytes; ``None`` if it is not allowed, alive or not."""
        base, tracker = pair
        data = self._texts[token]
        if not data:
            return None
        after, marks, _ = self.memory.advance(tracker, data)
        if after is None:
            return None
        if marks:
            moved = self._with_marks(base, data, marks)
        else:
            moved = self.inner.pool.call(k.advance_token, base, token)
        return self._arrived(pair, data, moved, after)

    def by_bytes(self, pair: Pair, data: bytes) -> Pair | None:
        """The pair after some bytes; ``None`` if they are not allowed, alive or not."""
        after, marks, _ = self.memory.advance(pair[1], data)
        if after is None:
            return None
        return self._arrived(pair, data, self._with_marks(pair[0], data, marks), after)

    def _arrived(self, pair: Pair, data: bytes, base: int, tracker: Tracker) -> Pair | None:
        if base == DEAD:
            return None
        after = (base, tracker)
        if self._easier is None:
            return after
        if pair in self._easier_states:
            easier = self._easier.move(self._easier_states[pair], data)
            self._easier_states.setdefault(after, easier)
        return after

    def by_byte(self, pair: Pair, byte: int) -> tuple[Pair | None, bool]:
        """The same for one byte, and whether a mark stood for it."""
        pool = self.inner.pool
        moved = pool.call(k.advance, pair[0], self._address + byte, 1)
        if moved == DEAD and byte not in _SEPARATORS:
            return None, False
        after, marks, _ = self.memory.advance(pair[1], _SINGLE[byte])
        if after is None:
            return None, False
        if marks:
            moved = pool.advance_symbol(pair[0], marks[0][1])
        return (None if moved == DEAD else (moved, after)), bool(marks)

    def _with_marks(self, base: int, data: bytes, marks: Marks) -> int:
        done = 0
        for offset, symbol in marks:
            base = self._plainly(base, data[done:offset])
            if base == DEAD:
                return DEAD
            base = self.inner.pool.advance_symbol(base, symbol)
            done = offset + 1
        return self._plainly(base, data[done:])

    def _plainly(self, base: int, data: bytes) -> int:
        return self.inner.move(base, data) if data and base != DEAD else base

    # -- liveness ------------------------------------------------------------------------------

    def is_live(self, pair: Pair) -> bool:
        """Whether the pair, at the end of a token, can be completed."""
        if self.used is not None:
            found = self.used.is_live(*pair)
            if found is not None:
                return found
        if self._safe(pair):
            return True
        known = self._live.get(pair)
        if known is not None:
            return known
        far = self.thorough or self._by_tokens
        return self._far(pair) if far else self._near(pair)

    def reaches_end(self, start: Pair) -> bool:
        """The same, looking ahead to the end of the text.

        The first text by which the rules come to an end mostly repeats nothing.
        """
        if self.used is not None:
            text = self.used.find_text(start[0])
            if text is None:
                return self._given_up(start)
            after, marks, _ = self.memory.advance(start[1], text)
            if after is not None and not marks:
                return True
        return self._far(start, to_end=True)

    def _safe(self, pair: Pair) -> bool:
        """Whether nothing of what is being written can go wrong."""
        if self._by_tokens or self.memory.threatened(pair[1]):
            return False
        return not self.thorough or not pair[1].keeps

    def _near(self, start: Pair) -> bool:
        """Breadth first, as safety is near, to a pair that is safe or whose text is complete."""
        origin: dict[Pair, Pair | None] = {start: None}
        queue = deque([start])
        while queue:
            pair = queue.popleft()
            found = self.inner.pool.accepting(pair[0])
            for after in () if found else self._ways(pair):
                if after in origin:
                    continue
                known = True if self._safe(after) else self._live.get(after)
                if known:
                    found = True
                    break
                origin[after] = pair
                if known is None:
                    queue.append(after)
            if found:
                at: Pair | None = pair
                while at is not None:
                    self._live[at] = True
                    at = origin[at]
                return True
            if len(origin) > SEARCH_FUEL:
                return self._given_up(start)
        self._live.update(dict.fromkeys(origin, False))
        return False

    def _far(self, start: Pair, to_end: bool = False) -> bool:
        """Depth first, as the goal may be far, to a pair that is safe or whose text is complete."""
        path = [(start, self._ways(start))]
        visited = {start}
        while path:
            pair, ways = path[-1]
            if self.inner.pool.accepting(pair[0]):
                return self._found(path)
            for after in ways:
                if after not in visited:
                    safe = not to_end and self._safe(after)
                    known = True if safe else self._live.get(after)
                    if known:
                        return self._found(path)
                    visited.add(after)
                    if known is None:
                        path.append((after, self._ways(after)))
                        break
            else:
                path.pop()
            if len(visited) > SEARCH_FUEL:
                return self._given_up(start)
        self._live.update(dict.fromkeys(visited, False))
        return False

    def _given_up(self, start: Pair) -> bool:
        """A pair of which the search cannot tell counts as live: no right token is refused."""
        self.given_up += 1
        self._live[start] = True
        return True

    def _found(self, path: list[tuple[Pair, Iterator[Pair]]]) -> bool:
        self._live.update((pair, True) for pair, _ in path)
        return True

    def _ways(self, pair: Pair) -> Iterator[Pair]:
        """Where one byte leads, or, if not all bytes are tokens, one token."""
        if not self._by_tokens:
            classes = self.inner.pool.classes(pair[0])
            for byte, its_class in self._order:
                if not classes & its_class and byte not in _SEPARATORS:
                    continue  # refused by the rules, and no mark can stand for it
                after, _ = self.by_byte(pair, byte)
                if after is not None:
                    yield after
            return
        bound = self.bound(pair)
        if bound >= NEVER:
            return
        automaton, state = self._rules(pair)
        nearest = self.within(pair, bound + 1)
        for token in (*bits(nearest), *bits(automaton.mask(state) & ~nearest)):
            following = self.by_token(pair, token)
            if following is not None:
                yield following

    # -- distance ------------------------------------------------------------------------------

    def fewest(self, pair: Pair) -> int:
        """Fewest tokens to a complete text, or an upper bound where the search was cut short."""
        return self._known(pair)[0]

    def search_further(self, pair: Pair) -> None:
        """Makes what is known of a pair better, if more work does."""
        if not self.is_exact(pair):
            automaton, state = self._rules(pair)
            automaton.search_further(state)
            self._shortest(pair, 1, SEARCH_FUEL)

    def is_exact(self, pair: Pair) -> bool:
        """Whether ``fewest`` is known to be the least: memory can only make the rules' longer."""
        found = self.fewest(pair)
        if found <= 1:
            return True
        automaton, state = self._rules(pair)
        return found == self.bound(pair) and automaton.distances.is_exact(state)

    def first_token(self, pair: Pair) -> int:
        """The first token of a completion that short (-1 if the text is complete)."""
        return self._known(pair)[1]

    def _known(self, pair: Pair) -> tuple[int, int]:
        if pair in self._fewest or self._follow_text(pair):
            return self._fewest[pair]
        # of a long text the fewest tokens are not found in any case
        bound = min(self.bound(pair), SEARCH_FUEL)
        if self._shortest(pair, 1, max(bound, SEARCH_FUEL // max(1, bound // _NEAR))):
            return self._fewest[pair]
        limit = self.inner.limits.max_search_states
        if not self._shortest(pair, _HASTE, limit):
            raise LimitExceeded("max_search_states", limit, "finding the shortest completion")
        return self._fewest[pair]

    def _follow_text(self, start: Pair) -> bool:
        """Notes the costs on the way that the rules would go, if nothing repeats on it."""
        automaton, state = self._rules(start)
        tokens = automaton.distances.spelling(state)
        if tokens is None:
            return False
        way = [start]
        for token in tokens:
            after = self.by_token(way[-1], token)
            if after is None:
                return False
            way.append(after)
            if after in self._fewest:
                break
        end = way[-1]
        if end not in self._fewest:
            if not self.inner.pool.accepting(end[0]):
                return False
            self._fewest[end] = (0, -1)
        elif self._fewest[end][0] + len(way) - 1 > self.bound(start):
            return False
        self._keep_line(way, tokens[: len(way) - 1])
        return True

    def _keep_line(self, way: list[Pair], tokens: list[int]) -> None:
        """Notes the cost of every pair on a way to one of known cost."""
        cost = self._fewest[way[-1]][0]
        for pair, token in zip(reversed(way[:-1]), reversed(tokens), strict=True):
            cost += 1
            if pair not in self._fewest or self._fewest[pair][0] > cost:
                self._fewest[pair] = (cost, token)

    def _shortest(self, start: Pair, haste: int, fuel: int) -> bool:
        """A* with the rules' own distance as the bound, which memory can only make longer.

        The tokens of a place are tried by that distance, best first, and at most ``_WAYS`` of
        each cost: so a place comes back to the queue with what was not tried yet.
        """
        origin: dict[Pair, tuple[Pair | None, int, int]] = {start: (None, -1, 0)}
        count = 0
        queue = [(haste * self.bound(start), 0, count, start, 0)]
        while queue and fuel:
            _, minus, _, pair, worse = heappop(queue)
            fuel -= 1
            bound = self.bound(pair)
            done = -minus
            known = self._fewest.get(pair)
            ends = bound == 0 and self.inner.pool.accepting(pair[0])
            if ends or (known is not None and known[0] <= bound + worse):
                self._keep_way(origin, pair, 0 if known is None else known[0])
                return True
            if not self.is_ample(pair, bound + 1 + worse):  # some token leads further away
                count += 1
                again = done + haste * (bound + worse + 1)
                heappush(queue, (again, minus, count, pair, worse + 1))
            for token, after in self._at_cost(pair, bound - 1 + worse, worse > 0):
                if after in origin and origin[after][2] <= done + 1:
                    continue
                origin[after] = (pair, token, done + 1)
                count += 1
                ahead = done + 1 + haste * self.bound(after)
                heappush(queue, (ahead, -done - 1, count, after, 0))
        return False

    def _keep_way(
        self, origin: dict[Pair, tuple[Pair | None, int, int]], end: Pair, cost: int
    ) -> None:
        """Notes the cost of every pair on the way that was found."""
        if end not in self._fewest:
            self._fewest[end] = (cost, -1)
        at = end
        while True:
            before, token, _ = origin[at]
            if before is None:
                return
            cost += 1
            if before not in self._fewest or self._fewest[before][0] > cost:
                self._fewest[before] = (cost, token)
            at = before

    def bound(self, pair: Pair) -> int:
        """Fewest tokens by the rules alone, marks or not."""
        automaton, state = self._rules(pair)
        return automaton.distances.fewest(state)

    def within(self, pair: Pair, left: int) -> Int32:
        """The rules' mask under a budget."""
        automaton, state = self._rules(pair)
        return automaton.mask_within(state, left)

    def is_ample(self, pair: Pair, left: int) -> bool:
        """Whether by the rules every token fits a budget."""
        automaton, state = self._rules(pair)
        return automaton.mask_within(state, left) is automaton.mask(state)

    def _rules(self, pair: Pair) -> tuple[RuleAutomaton, int]:
        if self._easier is None:
            return self.inner, pair[0]
        return self._easier, self._easier_states[pair]

    def _at_cost(self, pair: Pair, cost: int, exactly: bool) -> Iterator[tuple[int, Pair]]:
        """Live pairs after tokens behind which the rules need so many more, or at most so many.

        Where the rules' distance is an upper bound (bags), a token may save more than one.
        """
        if cost < 0:
            return
        row = self.within(pair, cost + 2)
        if exactly:
            row = row & ~self.within(pair, cost + 1)
        found = 0
        for token in bits(row):
            after = self.by_token(pair, token)
            if after is None or not self.is_live(after):
                continue
            yield token, after
            found += 1
            if found == _WAYS:
                return


_SINGLE: Final = tuple(bytes([b]) for b in range(256))


def bits(row: Int32) -> list[int]:
    """The numbers of the bits that are set."""
    words = np.flatnonzero(row)
    flags = np.unpackbits(row[words].view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    at, bit = np.nonzero(flags)
    found: list[int] = (words[at] * 32 + bit).tolist()
    return found


def in_string(tracker: Tracker) -> bool:
    """Whether the text is inside a string or key."""
    return STRING <= tracker.mode <= KEY_ESCAPE


def wants_marks(program: Program) -> bool:
    """Whether a mark leads anywhere that the separator in whose place it stands does not."""
    for mark, byte in SEPARATORS.items():
        if mark in program.marks:
            marked, plain = (_edges(program, int(program.byte_class[x])) for x in (mark, byte))
            if not marked <= plain:
                return True
    return False


def _edges(program: Program, byte_class: int) -> set[tuple[int, int]]:
    found = np.flatnonzero(program.edge_class == byte_class)
    owner = np.searchsorted(program.edge_offset, found, side="right") - 1
    return set(zip(owner.tolist(), program.edge_target[found].tolist(), strict=True))
