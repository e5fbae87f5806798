"""What a bag still needs and still takes: the residuals that a counter register points to.

A bag of m members has up to 2^m (and more) different sets of items behind it.  None of them is
built before a text leads there: a *residual* is what matters of the items so far, and it is a
number.  The register of a configuration that counts repetitions elsewhere holds that number in a
bag's rule, so nothing but the step over a member has to know of bags.

A member is available only if the bag can still be completed after it, so no residual is a dead end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from grammars.compiling.choices import Choices, Chosen
from grammars.errors import LimitExceeded
from grammars.ir import Condition
from grammars.limits import DEFAULT_LIMITS, Limits

COMPLETE: Final = 1
"""The bag may end here."""
MORE: Final = 2
"""Some member can still come."""
CANONICAL: Final = 4
"""The step is one of those that a canonical completion takes (see :class:`Residuals`)."""

_ENDLESS: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class BagSpec:
    """Bounds of a bag, without its items.

    Attributes:
        mins, maxs, groups: by member, see :class:`grammars.ir.Member`.
        low, high, ordered, conditions, loose: see :class:`grammars.ir.Bag`.
    """

    mins: tuple[int, ...]
    maxs: tuple[int | None, ...]
    groups: tuple[int | None, ...]
    low: int
    high: int | None
    ordered: bool
    conditions: tuple[Condition, ...] = ()
    loose: int = 0


def settle_bag(
    spec: BagSpec, limits: Limits = DEFAULT_LIMITS
) -> tuple[BagSpec, tuple[int, ...]] | None:
    """An equal bag with fewer distinctions, and which members are left; ``None`` if it is empty.

    Afterwards a group has several members, none of which is needed; bounds that others imply are
    gone.  Fewer distinctions make fewer residuals.
    """
    if spec.conditions or spec.loose:
        return _settle_conditions(spec, limits)
    needed = [g for g, low in zip(spec.groups, spec.mins, strict=True) if g is not None and low]
    if len(set(needed)) < len(needed):
        return None  # two members of one group, both needed
    kept = [
        i
        for i, (g, low) in enumerate(zip(spec.groups, spec.mins, strict=True))
        if spec.maxs[i] != 0 and (g not in needed or low)
    ]
    mins = [spec.mins[i] for i in kept]
    maxs = [spec.maxs[i] for i in kept]
    groups = [spec.groups[i] for i in kept]
    for i, group in enumerate(groups):
        if group is not None and groups.count(group) == 1:
            top = maxs[i]
            maxs[i], groups[i] = 1 if top is None else min(1, top), None
    dropped = set(range(len(spec.mins))) - set(kept)
    if any(spec.mins[i] for i in dropped):
        return None
    if any(top is not None and top < low for low, top in zip(mins, maxs, strict=True)):
        return None
    room = sum(
        _ENDLESS if top is None else top for top, g in zip(maxs, groups, strict=True) if g is None
    )
    room += len({g for g in groups if g is not None})
    high = None if spec.high is not None and room <= spec.high else spec.high
    if high is not None:
        maxs = [None if top is not None and top >= high else top for top in maxs]
        if spec.low > high or sum(mins) > high:
            return None
    if spec.low > room:
        return None
    low = 0 if sum(mins) >= spec.low else spec.low
    numbers = {g: i for i, g in enumerate(dict.fromkeys(g for g in groups if g is not None))}
    renamed = tuple(None if g is None else numbers[g] for g in groups)
    out = BagSpec(tuple(mins), tuple(maxs), renamed, low, high, spec.ordered)
    return out, tuple(kept)


def _settle_conditions(spec: BagSpec, limits: Limits) -> tuple[BagSpec, tuple[int, ...]] | None:
    """The same for a bag with conditions: needs become conditions, literals of lost members go."""
    kept = [i for i, top in enumerate(spec.maxs) if top != 0]
    place = {i: n for n, i in enumerate(kept)}
    groups = {spec.groups[i] for i in kept}
    conditions = []
    for condition in (
        *spec.conditions,
        Condition(tuple((i,) for i, m in enumerate(spec.mins) if m)),
    ):
        clauses = [
            tuple(place.get(x, -1) if x >= 0 else x for x in clause if x < 0 or x in place)
            for clause in condition.clauses
            if all(x >= 0 or ~x in groups for x in clause)  # a group without members has no item
        ]
        if len(clauses) < condition.unmet:
            return None
        if clauses:
            conditions.append(replace(condition, clauses=tuple(clauses)))
    members = len(spec.mins)
    loose = sum(i >= members - spec.loose for i in kept)
    if not conditions and not loose:
        return settle_bag(replace(spec, conditions=(), loose=0))
    out = BagSpec(
        (0,) * len(kept),
        tuple(spec.maxs[i] for i in kept),
        tuple(spec.groups[i] for i in kept),
        1,
        spec.high,
        spec.ordered,
        tuple(conditions),
        loose,
    )
    bag = _ConditionalBag(out, limits)
    return (out, tuple(kept)) if bag.has_text() else None


_StateT = TypeVar("_StateT")


class _Residual(NamedTuple):
    """What matters of the items so far.

    Attributes:
        taken: each member's capped count and each group's use, packed into one number (if ordered:
            the last member's count, and the groups that can still matter).
        total: number of items, capped.
        last: position of the last item's member (0 unless ordered).
    """

    taken: int
    total: int
    last: int


class Steps:
    """Steps over neighbouring members: ``next residual << 3 | flags``, -1 where one is not available.

    Compared by identity: rows of many residuals of an ordered bag share them.

    Attributes:
        first: the member of the first one.
        numbers: by member from there.
    """

    __slots__ = ("first", "numbers")

    def __init__(self, first: int, numbers: Sequence[int]) -> None:
        self.first = first
        self.numbers = numbers


@dataclass(frozen=True, slots=True)
class Row:
    """What each member leads to from a residual: members from ``first`` to before ``end`` come.

    In an ordered bag, what a member further on leads to does not depend on the last one; only whether it
    can come does.  So rows of a bag of m members take m numbers, not m squared.

    Attributes:
        first, end: members that may come.
        own: the step over the first of them, as in :class:`Steps`.
        behind: the steps over the others.
    """

    first: int
    end: int
    own: int
    behind: Steps

    def steps(self) -> Iterator[tuple[int, int]]:
        """The members that are available, with their steps."""
        if self.own >= 0:
            yield self.first, self.own
        for member in range(self.first + 1, self.end):
            step = self.behind.numbers[member - self.behind.first]
            if step >= 0:
                yield member, step


_NO_STEPS: Final = Steps(0, ())


_State: TypeAlias = _Residual | Chosen


class _Shape(Protocol[_StateT]):
    """The arithmetic of one bag."""

    @property
    def spec(self) -> BagSpec: ...

    @property
    def first(self) -> _StateT: ...

    def steps(self, residual: _StateT, /) -> Sequence[tuple[_StateT, int] | None]: ...

    def needed(self, residual: _StateT, /) -> tuple[int, ...]: ...

    def plain(self, residual: _StateT, /) -> _StateT: ...

    def after(self, residual: _StateT, members: Sequence[int], /) -> _StateT: ...


class Residuals:
    """Numbers residuals and says what each member leads to.

    0 is the residual before the first item, of whichever bag; it is also used where a bag is
    complete and takes nothing more.  Not thread-safe: the caller holds a lock.

    *Canonical* completions are few and reach the end of the bag from everywhere: while a member's
    ``min`` is not reached, the first such member comes; then a member that completes the bag; or
    else the first one available.
    """

    def __init__(self, bags: Sequence[BagSpec], limits: Limits) -> None:
        self._limit = limits.max_states
        # residuals of a bag are of its own kind
        self._bags: list[_Shape[Any]] = [
            _ConditionalBag(spec, limits) if spec.conditions or spec.loose else _Bag(spec)
            for spec in bags
        ]
        self._index: list[dict[_State, int]] = [{bag.first: 0} for bag in self._bags]
        # numbers below the number of bags stand for nothing: kernels find the first rows there
        self._residuals: list[_State] = [bag.first for bag in self._bags] or [_Residual(0, 0, 0)]
        self._rows: dict[tuple[int, int], Row] = {}
        self._behind: dict[tuple[int, int, int, int, bool], Steps] = {}
        self._only: dict[tuple[int, int], int] = {}
        self._plain: dict[tuple[int, int], int] = {}
        self._needed: dict[tuple[int, int], tuple[int, ...]] = {}

    def __len__(self) -> int:
        """One more than the largest number given so far."""
        return len(self._residuals)

    def is_conditional(self, bag: int) -> bool:
        """Whether a bag has conditions, so that no member is needed by itself."""
        return isinstance(self._bags[bag], _ConditionalBag)

    def row(self, bag: int, number: int) -> Row:
        """What each member leads to from a residual of a bag."""
        known = self._rows.get((bag, number))
        if known is None:
            known = self._rows[bag, number] = self._make_row(bag, number)
        return known

    def only(self, bag: int, member: int) -> int:
        """A number from which this one member comes, and then the bag is complete."""
        known = self._only.get((bag, member))
        if known is None:
            known = self._only[bag, member] = self._new(self._bags[bag].first)
            self._rows[bag, known] = Row(member, member + 1, COMPLETE | CANONICAL, _NO_STEPS)
        return known

    def needed(self, bag: int, number: int) -> tuple[int, ...]:
        """The members that must still come, in the order of canonical completions.

        Empty for ordered bags: there they may have to wait for others.
        """
        known = self._needed.get((bag, number))
        if known is None:
            residual = self._residuals[number] if number else self._bags[bag].first
            known = self._needed[bag, number] = self._bags[bag].needed(residual)
        return known

    def plain(self, bag: int, number: int) -> int:
        """A residual with the same canonical completions, the same for as many as possible."""
        known = self._plain.get((bag, number))
        if known is None:
            residual = self._residuals[number] if number else self._bags[bag].first
            plain = self._bags[bag].plain(residual)
            known = number if plain == residual else self._number(bag, plain, MORE) >> 3
            self._plain[bag, number] = known
        return known

    def after(self, bag: int, number: int, members: Sequence[int]) -> int:
        """The residual after some of the needed members (more must be needed, in no order)."""
        shape = self._bags[bag]
        residual = self._residuals[number] if number else shape.first
        return self._number(bag, shape.after(residual, members), MORE) >> 3

    def _make_row(self, bag: int, number: int) -> Row:
        shape = self._bags[bag]
        residual = shape.first if number == 0 else self._residuals[number]
        if shape.spec.ordered and isinstance(shape, _Bag) and isinstance(residual, _Residual):
            return self._ordered_row(bag, shape, residual)
        steps = [self._numbered(bag, step) for step in shape.steps(residual)]
        return Row(0, len(steps), steps[0], Steps(0, steps))

    def _ordered_row(self, bag: int, shape: _Bag, residual: _Residual) -> Row:
        """Members before the last one are over; what is skipped must not be needed."""
        first, end = residual.last, shape.end(residual)
        needed = shape.next_needed(residual)
        if needed is not None and needed > first and shape.step(residual, needed) is None:
            needed = None  # too few items yet for the last one that may come
        own = self._numbered(bag, shape.again(residual))
        if own >= 0 and needed in (first, None):
            own |= CANONICAL
        if end == first + 1:
            return Row(first, end, own, _NO_STEPS)
        if needed is not None or shape.is_enough(residual):
            return Row(first, end, own, self._steps_behind(bag, shape, residual, canonical=True))
        behind = self._steps_behind(bag, shape, residual, canonical=False)
        if own < 0:
            behind = _with_first_canonical(behind, first + 1, end)
        return Row(first, end, own, behind)

    def _steps_behind(
        self, bag: int, shape: _Bag, residual: _Residual, *, canonical: bool
    ) -> Steps:
        """Steps over members behind the last one, up to the first that is needed.

        With ``canonical``, that one is, or if none is needed all that complete the bag.
        """
        begin, end = shape.stretch(residual.last)
        key = (bag, shape.used_groups(residual), residual.total, begin, canonical)
        known = self._behind.get(key)
        if known is None:
            needed = shape.next_needed(residual)
            numbers = []
            for i in range(begin, end):
                step = self._numbered(bag, shape.step(residual, i))
                chosen = i == needed if needed is not None else bool(step & COMPLETE)
                numbers.append(step | CANONICAL if canonical and step >= 0 and chosen else step)
            known = self._behind[key] = Steps(begin, numbers)
        return known

    def _numbered(self, bag: int, step: tuple[_State, int] | None) -> int:
        return -1 if step is None else self._number(bag, *step)

    def _number(self, bag: int, residual: _State, flags: int) -> int:
        if not flags & MORE:
            return flags  # nothing left to tell apart
        index = self._index[bag]
        number = index.get(residual)
        if number is None:
            number = index[residual] = self._new(residual)
        return number << 3 | flags

    def _new(self, residual: _State) -> int:
        if len(self._residuals) >= self._limit:
            raise LimitExceeded("max_states", self._limit, "items that come in any order")
        self._residuals.append(residual)
        return len(self._residuals) - 1


_Step: TypeAlias = tuple[_Residual, int]


class _ConditionalBag:
    """The arithmetic of a bag with conditions.

    Completions are found by a search that takes members in their order, so none counts as needed.
    """

    def __init__(self, spec: BagSpec, limits: Limits) -> None:
        self.spec = spec
        members = len(spec.mins)
        place = [min(i, members - spec.loose) if spec.ordered else 0 for i in range(members)]
        self._choices = Choices(
            spec.groups, [top is None for top in spec.maxs], place, spec.conditions, limits
        )
        self.first: Final = self._choices.first

    def has_text(self) -> bool:
        """Whether some choice of members meets the conditions (``high`` may allow only one)."""
        choices = self._choices
        if self.spec.high is None:
            return choices.has_more(self.first)
        return any(step is not None for step in self._ends(self.first))

    def _ends(self, state: Chosen) -> list[Chosen | None]:
        """Steps after which nothing may come."""
        steps = self._choices.steps(state) if not state.started else []
        return [s if s is not None and self._choices.is_complete(s) else None for s in steps]

    def steps(self, state: Chosen) -> list[tuple[Chosen, int] | None]:
        """By member: the state after it and flags, or ``None`` where it is not available."""
        choices = self._choices
        if self.spec.high is not None:
            return [None if s is None else (s, COMPLETE | CANONICAL) for s in self._ends(state)]
        out: list[tuple[Chosen, int] | None] = []
        complete = False
        for later in choices.steps(state):
            if later is None:
                out.append(None)
                continue
            flags = COMPLETE if choices.is_complete(later) else 0
            complete = complete or bool(flags)
            out.append((later, flags | (MORE if not flags or choices.has_more(later) else 0)))
        return self._with_canonical(state, out, complete)

    def _with_canonical(
        self, state: Chosen, steps: list[tuple[Chosen, int] | None], complete: bool
    ) -> list[tuple[Chosen, int] | None]:
        if complete:
            return [
                (s[0], s[1] | CANONICAL) if s is not None and s[1] & COMPLETE else s for s in steps
            ]
        way = self._choices.witness(state) or ()
        for i in (*way[:1], *(i for i, step in enumerate(steps) if step is not None)):
            step = steps[i]
            if step is not None:
                steps[i] = (step[0], step[1] | CANONICAL)
                break
        return steps

    def needed(self, state: Chosen) -> tuple[int, ...]:
        """No member by itself."""
        return ()

    def plain(self, state: Chosen) -> Chosen:
        """The state itself."""
        return state

    def after(self, state: Chosen, members: Sequence[int]) -> Chosen:
        """The state after members."""
        for i in members:
            later = self._choices.after(state, i)
            assert later is not None
            state = later
        return state


class _Bag:
    """One bag's arithmetic."""

    def __init__(self, spec: BagSpec) -> None:
        self.spec = spec
        self.first: Final = _Residual(0, 0, 0)
        self._caps = [
            low if top is None else top for low, top in zip(spec.mins, spec.maxs, strict=True)
        ]
        self._required = [(i, low) for i, low in enumerate(spec.mins) if low]
        self._needed = [i for i, _ in self._required]
        alone = [top for top, g in zip(spec.maxs, spec.groups, strict=True) if g is None]
        self._most = None if None in alone else sum(top for top in alone if top is not None)
        self._total_cap = spec.low if spec.high is None else spec.high
        self._shift: list[int] = []
        self._mask: list[int] = []
        at = len({g for g in spec.groups if g is not None})  # the low bits: used groups
        self._group_bits = (1 << at) - 1
        for cap, group in zip(self._caps, spec.groups, strict=True):
            width = 0 if group is not None else cap.bit_length()
            self._shift.append(at)
            self._mask.append((1 << width) - 1)
            if not spec.ordered:
                at += width
        # groups that matter after a member: those with a member further on
        self._later_groups = [0] * len(self._caps)
        later = 0
        for i in reversed(range(len(self._caps))):
            self._later_groups[i] = later
            group = spec.groups[i]
            later |= 0 if group is None else 1 << group
        # what members further on need, and have room for beside those of groups, if none has come
        self._later_need = _sums_behind(spec.mins)
        self._later_room = _sums_behind(
            [
                0 if group is not None else _ENDLESS if top is None else top
                for top, group in zip(spec.maxs, spec.groups, strict=True)
            ]
        )

    def steps(self, residual: _Residual) -> list[_Step | None]:
        """By member: the residual after it and flags, or ``None`` where it is not available."""
        return self._with_canonical(residual, self._unordered(residual))

    def needed(self, residual: _Residual) -> tuple[int, ...]:
        """Members that must still come, each as often as it must (nothing if ordered)."""
        if self.spec.ordered:
            return ()
        return tuple(i for i, low in self._required for _ in range(low - self._count(residual, i)))

    def plain(self, residual: _Residual) -> _Residual:
        """The residual with the same needs and, where needs alone matter, nothing else."""
        if self.spec.ordered or self.spec.low or not self.needed(residual):
            return residual
        counts = [(i, min(low, self._count(residual, i))) for i, low in self._required]
        return _Residual(sum(n << self._shift[i] for i, n in counts), 0, 0)

    def after(self, residual: _Residual, members: Sequence[int]) -> _Residual:
        """The residual after needed members of an unordered bag."""
        taken = residual.taken + sum(1 << self._shift[i] for i in members)
        return _Residual(taken, min(residual.total + len(members), self._total_cap), 0)

    def _count(self, residual: _Residual, i: int) -> int:
        return residual.taken >> self._shift[i] & self._mask[i]

    def _is_full(self, residual: _Residual, i: int, count: int) -> bool:
        group, top = self.spec.groups[i], self.spec.maxs[i]
        if group is not None:
            return bool(residual.taken >> group & 1)
        return top is not None and count >= top

    def _unordered(self, residual: _Residual) -> list[_Step | None]:
        spec = self.spec
        used = residual.taken
        counts = [used >> s & m for s, m in zip(self._shift, self._mask, strict=True)]
        need = sum(max(0, low - counts[i]) for i, low in self._required)
        room = _ENDLESS
        if self._most is not None:
            room = self._most - sum(counts) + (self._group_bits & ~used).bit_count()
        total = residual.total + 1
        kept = min(total, self._total_cap)
        # how things stand depends on whether the item was needed, not on which it is
        flags = [self._flags(need - needed, room - 1, total) for needed in (0, 1)]
        out: list[_Step | None] = []
        for n, low, top, cap, group, shift in zip(
            counts, spec.mins, spec.maxs, self._caps, spec.groups, self._shift, strict=True
        ):
            step = flags[n < low]
            if group is not None:
                free, taken = not used >> group & 1, used | 1 << group
            else:
                free, taken = top is None or n < top, used + (1 << shift) if n < cap else used
            out.append((_Residual(taken, kept, 0), step) if step and free else None)
        return out

    # -- ordered bags --------------------------------------------------------------------------

    def again(self, residual: _Residual) -> _Step | None:
        """What the last member leads to if it comes once more."""
        return self.step(residual, residual.last, self._count(residual, residual.last))

    def step(self, residual: _Residual, i: int, n: int = 0) -> _Step | None:
        """What a member leads to that has come ``n`` times, if it may come once more."""
        spec = self.spec
        if self._is_full(residual, i, n):
            return None
        total = residual.total + 1
        group, top = spec.groups[i], spec.maxs[i]
        used = self.used_groups(residual)
        now = used if group is None else used | 1 << group
        mine = max(0, spec.mins[i] - n)
        own = 0 if group is not None else _ENDLESS if top is None else top - n
        later = (self._later_groups[i] & ~now).bit_count()
        room = self._later_room[i] + own - (group is None) + later
        flags = self._flags(self._later_need[i] + mine - (mine > 0), room, total)
        if not flags:
            return None
        taken = now & (self._later_groups[i] | (0 if group is None else 1 << group))
        if group is None:
            taken |= min(n + 1, self._caps[i]) << self._shift[i]
        return _Residual(taken, min(total, self._total_cap), i), flags

    def used_groups(self, residual: _Residual) -> int:
        """The groups a member of which has come and that still matter, as bits."""
        return residual.taken & self._group_bits

    def is_enough(self, residual: _Residual) -> bool:
        """Whether there are enough items after one more."""
        return residual.total + 1 >= self.spec.low

    def next_needed(self, residual: _Residual) -> int | None:
        """The first member that must still come."""
        last = residual.last
        if self._count(residual, last) < self.spec.mins[last]:
            return last
        at = bisect_right(self._needed, last)
        return self._needed[at] if at < len(self._needed) else None

    def end(self, residual: _Residual) -> int:
        """One more than the furthest member that can come without skipping one that is needed."""
        needed = self.next_needed(residual)
        return len(self.spec.mins) if needed is None else needed + 1

    def stretch(self, last: int) -> tuple[int, int]:
        """The members from behind one that is needed up to the next one, those behind ``last`` included."""
        at = bisect_right(self._needed, last)
        begin = self._needed[at - 1] + 1 if at else 0
        return begin, self._needed[at] + 1 if at < len(self._needed) else len(self.spec.mins)

    # -- both ----------------------------------------------------------------------------------

    def _flags(self, need: int, room: int, total: int) -> int:
        """How things stand after a step; 0 if the bag cannot be completed any more."""
        low, high = self.spec.low, self.spec.high
        left = _ENDLESS if high is None else high - total
        if need > left or low - total > room:
            return 0
        complete = COMPLETE if need == 0 and total >= low else 0
        more = MORE if need or (room > 0 and left > 0) else 0
        return complete | more

    def _with_canonical(self, residual: _Residual, steps: list[_Step | None]) -> list[_Step | None]:
        for i, low in self._required:
            if steps[i] is not None and self._count(residual, i) < low:
                chosen = [i]
                break
        else:
            possible = [i for i, step in enumerate(steps) if step]
            chosen = [i for i in possible if (steps[i] or (None, 0))[1] & COMPLETE] or possible[:1]
        for i in chosen:
            step = steps[i]
            assert step is not None
            steps[i] = (step[0], step[1] | CANONICAL)
        return steps


def _with_first_canonical(steps: Steps, begin: int, end: int) -> Steps:
    """The same steps, the first one available between two members marked as canonical."""
    numbers = list(steps.numbers)
    for i in range(begin - steps.first, end - steps.first):
        if numbers[i] >= 0:
            numbers[i] |= CANONICAL
            break
    return Steps(steps.first, numbers)


def _sums_behind(values: Sequence[int]) -> list[int]:
    """By place: the sum of all values behind it."""
    sums = [0] * len(values)
    for i in reversed(range(len(values) - 1)):
        sums[i] = sums[i + 1] + values[i + 1]
    return sums
