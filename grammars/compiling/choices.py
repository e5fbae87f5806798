"""Conditions on which members of a bag have items: what can still be met, and how.

A :class:`grammars.ir.Condition` counts clauses that do not hold at the end.  Members are met one
after the other, so what matters of the items so far is which groups are used up and which clauses
hold already: a state, made when a text leads there.  Whether a state can be completed is a
satisfiability problem; nearly always each open clause has a literal that no other clause shares,
which settles it with a few operations on bit sets, and else a small search with a limit does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from grammars.errors import LimitExceeded
from grammars.ir import Condition
from grammars.limits import Limits
from grammars.work import spend

_PRICE: Final = 10
"""What a partial choice counts among the states of a search."""
_ENOUGH: Final = 4_000
"""Partial choices after which the cheapest one found so far will do."""


class Chosen(NamedTuple):
    """What matters of the items so far.

    Attributes:
        used: groups that have their item and whose members could come again (bits).
        open: clauses that do not hold for certain (bits).
        rank: rank of the last item's member; members of lower ranks are over.
        started: whether there was an item.
    """

    used: int
    open: int
    rank: int
    started: bool


class Choices:
    """The arithmetic of one bag with conditions.

    Args:
        groups: by member; a member without one and with at most one item is a group of its own.
        unlimited: by member, whether it may have any number of items.
        ranks: by member; ranks of successive items never go down.
        conditions: all of them hold at the end.
        limits: a tenth of ``max_search_states`` bounds the partial choices of one search.
    """

    def __init__(
        self,
        groups: Sequence[int | None],
        unlimited: Sequence[bool],
        ranks: Sequence[int],
        conditions: Sequence[Condition],
        limits: Limits,
    ) -> None:
        self._limit = limits.max_search_states
        number: dict[tuple[bool, int], int] = {}
        self._group: list[int] = []
        for i, (group, free) in enumerate(zip(groups, unlimited, strict=True)):
            key = (group is not None, i if group is None else group)
            alone = free and group is None
            self._group.append(-1 if alone else number.setdefault(key, len(number)))
        self._ranks = list(ranks)
        self._mates = [0] * len(number)
        top = [0] * len(number)
        for i, g in enumerate(self._group):
            if g >= 0:
                self._mates[g] |= 1 << i
                top[g] = max(top[g], ranks[i])
        last = max(ranks, default=0)
        self._onward = [
            _bits(i for i, r in enumerate(ranks) if r >= rank) for rank in range(last + 1)
        ]
        self._over = [_bits(g for g, r in enumerate(top) if r < rank) for rank in range(last + 1)]
        self._positive: list[int] = []
        self._negative: list[int] = []
        self._parts: list[tuple[int, Condition]] = []
        for condition in conditions:
            first = len(self._positive)
            for clause in condition.clauses:
                self._positive.append(_bits(x for x in clause if x >= 0))
                self._negative.append(_bits(number[True, ~x] for x in clause if x < 0))
            self._parts.append(((1 << len(self._positive)) - (1 << first), condition))
        clauses = range(len(self._positive))
        self._hits = [
            _bits(c for c in clauses if self._positive[c] >> i & 1) for i in range(len(ranks))
        ]
        self._lacks = [
            _bits(c for c in clauses if self._negative[c] >> g & 1) for g in range(len(number))
        ]
        self._telling = _bits(g for g, lacking in enumerate(self._lacks) if lacking)
        self._own = [self._private(c) for c in clauses]
        self.first: Final = Chosen(0, (1 << len(self._positive)) - 1, 0, False)
        self._feasible: dict[Chosen, bool] = {}
        self._used_up: dict[int, int] = {}

    def _private(self, clause: int) -> tuple[int, int]:
        """Literals of a clause whose group no other clause mentions: (members, groups)."""
        members = groups = 0
        for i in _each(self._positive[clause]):
            g = self._group[i]
            if g < 0 or self._mentions(g) == 1 << clause:
                members |= 1 << i
        for g in _each(self._negative[clause]):
            if self._mentions(g) == 1 << clause:
                groups |= 1 << g
        return members, groups

    def _mentions(self, group: int) -> int:
        found = self._lacks[group]
        for i in _each(self._mates[group]):
            found |= self._hits[i]
        return found

    # -- steps ---------------------------------------------------------------------------------

    def after(self, state: Chosen, member: int) -> Chosen | None:
        """The state after an item of a member; ``None`` if none may come."""
        rank, group = self._ranks[member], self._group[member]
        if rank < state.rank or (group >= 0 and state.used >> group & 1):
            return None
        over = self._over[rank]
        open_ = state.open & ~self._hits[member]
        for g in _each(over & ~self._over[state.rank] & ~state.used & self._telling):
            open_ &= ~self._lacks[g]
        used = state.used if group < 0 else state.used | 1 << group
        return Chosen(used & ~over, open_, rank, True)

    def is_complete(self, state: Chosen) -> bool:
        """Whether all conditions hold if no more items come."""
        if not state.started:
            return False
        open_ = state.open
        for g in _each(self._telling & ~state.used & ~self._over[state.rank]):
            open_ &= ~self._lacks[g]
        return all(c.allows((open_ & part).bit_count()) for part, c in self._parts)

    def is_feasible(self, state: Chosen) -> bool:
        """Whether all conditions can hold in the end."""
        known = self._feasible.get(state)
        if known is None:
            known = self._feasible[state] = self.witness(state) is not None
        return known

    def has_more(self, state: Chosen) -> bool:
        """Whether another item can come, and the conditions hold in the end."""
        for i in _each(self._available(state), down=True):
            later = self.after(state, i)
            if later is not None and self.is_feasible(later):
                return True
        return False

    def steps(self, state: Chosen) -> list[Chosen | None]:
        """By member: the state after it, if it can be completed."""
        out: list[Chosen | None] = [None] * len(self._ranks)
        for i in _each(self._available(state)):
            later = self.after(state, i)
            if later is not None and self.is_feasible(later):
                out[i] = later
        return out

    def _available(self, state: Chosen) -> int:
        gone = self._used_up.get(state.used)
        if gone is None:
            gone = 0
            for g in _each(state.used):
                gone |= self._mates[g]
            self._used_up[state.used] = gone
        return self._onward[state.rank] & ~gone

    # -- completions ---------------------------------------------------------------------------

    def witness(self, state: Chosen) -> tuple[int, ...] | None:
        """Members whose items complete a state, in the order of ranks; ``None`` if nothing does."""
        found = _Search(self, state, None).run()
        return None if found is None else found[1]

    def cheapest(self, costs: Sequence[float]) -> tuple[int, ...] | None:
        """The members of a choice from the start that costs little, usually least; at least one.

        Args:
            costs: by member; infinite where it cannot be chosen.
        """
        found = _Search(self, self.first, costs).run()
        if found is None:
            return None
        if found[1]:
            return found[1]
        ways: list[tuple[float, tuple[int, ...]]] = []
        for i in sorted(range(len(costs)), key=costs.__getitem__):
            if costs[i] == float("inf") or (ways and costs[i] >= ways[0][0]):
                break
            later = self.after(self.first, i)
            more = None if later is None else _Search(self, later, costs).run()
            if more is not None:
                ways = sorted([*ways, (costs[i] + more[0], (i, *more[1]))])[:1]
        return ways[0][1] if ways else None


class _Search:
    """One search for a completion."""

    def __init__(self, bag: Choices, state: Chosen, costs: Sequence[float] | None) -> None:
        self._bag = bag
        self._state = state
        self._costs = costs
        self._work = 0
        self._best: tuple[float, tuple[int, ...]] | None = None

    def run(self) -> tuple[float, tuple[int, ...]] | None:
        """The cost and the members; without costs the first completion found."""
        bag, state = self._bag, self._state
        self._live = ((1 << len(bag._mates)) - 1) & ~state.used & ~bag._over[state.rank]
        available = bag._available(state)
        if self._costs is not None:
            available &= ~_bits(i for i, c in enumerate(self._costs) if c == float("inf"))
        self._parts(0, [], available)
        return self._best

    def _parts(self, number: int, must: list[tuple[int, int, int]], available: int) -> None:
        """Chooses which clauses of the conditions from one on stay open."""
        bag = self._bag
        if number == len(bag._parts):
            self._solve(self._without_private(must, available), available)
            return
        part, condition = bag._parts[number]
        open_ = list(_each(self._state.open & part))
        lost: list[int] = []
        if not condition.more:  # clauses that nothing can meet stay open in any case
            lost = [
                c
                for c in open_
                if not bag._positive[c] & available and not bag._negative[c] & self._live
            ]
            if len(lost) > condition.unmet:
                return
        others = [c for c in open_ if c not in lost] if lost else open_
        for chosen in combinations(others, condition.unmet - len(lost)):
            left = (*lost, *chosen)
            self._tick()
            barred, needed = 0, list(must)
            for c in left:
                barred |= bag._positive[c]
            for c in left:
                groups = bag._negative[c] & self._live
                needed += [(bag._mates[g] & ~barred, 0, -1) for g in _each(groups)]
            if not condition.more:
                needed += [(bag._positive[c], bag._negative[c], c) for c in open_ if c not in left]
            self._parts(number + 1, needed, available & ~barred)
            if self._done():
                return

    def _done(self) -> bool:
        return self._best is not None and (self._costs is None or self._work > _ENOUGH * _PRICE)

    def _tick(self) -> None:
        self._work += _PRICE
        spend(_PRICE)
        if self._work > self._bag._limit:
            raise LimitExceeded(
                "max_search_states", self._bag._limit, "telling whether items can be completed"
            )

    def _without_private(
        self, must: list[tuple[int, int, int]], available: int
    ) -> list[tuple[int, int]] | None:
        """The clauses that are not settled by a literal of their own; ``None`` if one cannot hold."""
        out: list[tuple[int, int]] = []
        self._settled: list[int] = []
        for positive, negative, c in must:
            members, groups = positive & available, negative & self._live
            if not members and not groups:
                return None
            if self._costs is None and c >= 0:
                own_members, own_groups = self._bag._own[c]
                if groups & own_groups:
                    continue
                if members & own_members:
                    self._settled.append(_lowest(members & own_members))
                    continue
            out.append((members, groups))
        return out

    def _solve(self, clauses: list[tuple[int, int]] | None, available: int) -> None:
        if clauses is not None:
            self._descend(clauses, available, self._live, tuple(self._settled), 0.0)

    def _descend(
        self,
        clauses: list[tuple[int, int]],
        available: int,
        live: int,
        chosen: tuple[int, ...],
        cost: float,
    ) -> None:
        """Depth first: the clause with the fewest literals, each of them in turn."""
        self._tick()
        if self._best is not None and cost >= self._best[0]:
            return
        if not clauses:
            ranks = self._bag._ranks
            self._best = cost, tuple(sorted(dict.fromkeys(chosen), key=lambda i: (ranks[i], i)))
            return
        counts = [(m & available).bit_count() + (g & live).bit_count() for m, g in clauses]
        members, groups = clauses[counts.index(min(counts))]
        for g in _each(groups & live):
            left = available & ~self._bag._mates[g]
            rest = [x for x in clauses if not x[1] >> g & 1]
            # the group stays without an item, so its other literals are settled
            self._descend(rest, left, live, chosen, cost)
            if self._done():
                return
        options = list(_each(members & available))
        if self._costs is not None:
            options.sort(key=self._costs.__getitem__)
        for i in options:
            g = self._bag._group[i]
            left = available if g < 0 else available & ~self._bag._mates[g]
            still = live if g < 0 else live & ~(1 << g)
            rest = [x for x in clauses if not x[0] >> i & 1]
            price = 0.0 if self._costs is None else self._costs[i]
            if g < 0 and i in chosen:
                price = 0.0
            self._descend(rest, left, still, (*chosen, i), cost + price)
            if self._done():
                return


def _bits(numbers: Iterable[int]) -> int:
    out = 0
    for number in numbers:
        out |= 1 << number
    return out


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _each(mask: int, *, down: bool = False) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while mask:
        i = mask.bit_length() - 1 if down else _lowest(mask)
        mask ^= 1 << i
        yield i
