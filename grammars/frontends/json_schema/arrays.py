"""Arrays: items one by one, how many, how many of a kind, all different or not.

Where only length and items matter, an array is a sequence.  Where items are counted (``contains``)
or a repeat is demanded, the rest of an array depends on how many items of each kind there have been
and becomes a rule for every such situation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from grammars.errors import LimitExceeded
from grammars.frontends.json_schema.assertions import (
    Arrays,
    Contains,
    Demands,
    conjunction,
    forbids,
    join,
    negation,
)
from grammars.ir import (
    EPSILON,
    NOTHING,
    REPEATED_CLOSE,
    REPEATED_COMMA,
    Expr,
    Literal,
    Mark,
    alt,
    optional,
    repeat,
    seq,
)
from grammars.limits import Limits
from grammars.work import spend

_COMMA: Final = Literal(b",")
_CLOSE: Final = Literal(b"]")
_UNITS: Final = 10
"""Work of telling what one item may be, see :mod:`grammars.work`."""
_STEPS: Final = 24
"""Optional items nested before a rule of its own begins (keeps expressions shallow)."""


class Rules(Protocol):
    """What is needed of the writer."""

    @property
    def gap(self) -> Expr:
        """Blanks."""
        ...

    def ref(self, demands: Demands) -> Expr:
        """The rule of a value."""
        ...

    def own_rule(self, what: str, body: Expr) -> Expr:
        """A new rule."""
        ...

    def later(self, what: str, body: Callable[[], Expr]) -> Expr:
        """A new rule whose body is made once it may refer to itself."""
        ...


@dataclass(frozen=True)
class _Situation:
    """After some items of an array.

    Attributes:
        index: how many, as far as it matters.
        counts: per ``contains``, how many met it, as far as it matters.
        repeated: whether one was equal to an earlier one.
    """

    index: int
    counts: tuple[int, ...]
    repeated: bool


class ArrayWriter:
    """Writes the arrays of one grammar.

    Args:
        rules: where rules are kept.
        compared: whether marks stand for separators behind repeated items in this grammar.

    Attributes:
        compares: some array written so far asks whether its items differ.
    """

    def __init__(self, rules: Rules, limits: Limits, *, compared: bool) -> None:
        self._rules = rules
        self._limits = limits
        self._compared = compared
        self.compares = False

    def array(self, arrays: Arrays) -> Expr:
        """The texts of the arrays that meet the assertions."""
        arrays = _without_idle(arrays)
        self.compares = self.compares or arrays.unique is not None
        if arrays.contains or arrays.unique is False:
            return self._by_situation(arrays)
        comma, close = self.separators(arrays.unique)
        gap = self._rules.gap
        content = NOTHING if arrays.high == 0 else seq(self._items(arrays, comma), gap, close)
        empty = _CLOSE if arrays.low == 0 else NOTHING
        return seq(Literal(b"["), gap, alt(empty, content))

    def separators(self, unique: bool | None) -> tuple[Expr, Expr]:
        """Comma (with blanks) and closing bracket behind an item."""
        comma: Expr = _COMMA
        close: Expr = _CLOSE
        if self._compared and not unique:
            comma = alt(comma, Mark(REPEATED_COMMA))
            close = alt(close, Mark(REPEATED_CLOSE))
        return seq(comma, self._rules.gap), close

    def separator(self, repeated: bool, *, last: bool = False) -> Expr:
        """What stands behind an item of which it is known whether it repeats an earlier one."""
        if self._compared and repeated:
            return Mark(REPEATED_CLOSE if last else REPEATED_COMMA)
        return _CLOSE if last else _COMMA

    # -- plain ---------------------------------------------------------------------------------

    def _items(self, arrays: Arrays, comma: Expr) -> Expr:
        """At least one item, each but the first with its comma; built from the last one back."""
        single = len(arrays.prefix)
        last = single if arrays.high is None else min(single, arrays.high)
        body = self._rest(arrays, comma) if last == single else EPSILON
        for index in range(last - 1, -1, -1):
            item = self._rules.ref(arrays.item(index))
            body = seq(item if index == 0 else seq(comma, item), body)
            if index > 0 and index >= arrays.low:
                body = optional(body)
            if index and index % _STEPS == 0:
                body = self._rules.own_rule(f"items from {index}", body)
        return body

    def _rest(self, arrays: Arrays, comma: Expr) -> Expr:
        """What may follow the items that have places of their own."""
        done = len(arrays.prefix)
        if arrays.high is not None and done >= arrays.high:
            return EPSILON if done else NOTHING
        if forbids(arrays.rest):
            return EPSILON if done else NOTHING
        low = max(arrays.low - done, 0)
        high = None if arrays.high is None else arrays.high - done
        each = seq(comma, self._rules.ref(arrays.rest))
        if done:
            return repeat(each, low, high)
        more = repeat(each, max(low - 1, 0), None if high is None else high - 1)
        return seq(self._rules.ref(arrays.rest), more)

    # -- counted -------------------------------------------------------------------------------

    def _by_situation(self, arrays: Arrays) -> Expr:
        limit = max(
            len(arrays.prefix),
            arrays.low,
            arrays.high or 0,
            *(c.start for c in arrays.contains),
        )
        known: dict[_Situation, Expr] = {}
        gap = self._rules.gap
        comma, close = self.separators(arrays.unique)
        repeated_comma = seq(Mark(REPEATED_COMMA), gap)

        def after(s: _Situation) -> Expr:
            if s not in known:
                if len(known) >= self._limits.max_schema_branches:
                    raise self._too_many()
                known[s] = self._rules.later(f"after {s.index} items", lambda: rest(s))
            return known[s]

        def rest(s: _Situation) -> Expr:
            """What may follow: an end, or a comma and more."""
            ends = seq(gap, close) if self._may_end(arrays, s) else NOTHING
            more = seq(comma, items(s)) if self._has_room(arrays, s) else NOTHING
            if arrays.unique is not False or s.repeated:
                return alt(ends, more)
            now = _Situation(s.index, s.counts, repeated=True)
            last = self._may_end(arrays, now)
            return alt(
                seq(gap, Mark(REPEATED_CLOSE)) if last else NOTHING,
                seq(_COMMA, gap, items(s)) if self._has_room(arrays, s) else NOTHING,
                seq(repeated_comma, items(now)) if self._has_room(arrays, s) else NOTHING,
            )

        def items(s: _Situation) -> Expr:
            return alt(
                *(
                    seq(self._rules.ref(demands), after(_Situation(index, counts, s.repeated)))
                    for demands, index, counts in self._ways(arrays, s, limit)
                )
            )

        start = _Situation(0, (0,) * len(arrays.contains), repeated=False)
        empty = seq(gap, _CLOSE) if self._may_end(arrays, start) else NOTHING
        first = seq(gap, items(start)) if self._has_room(arrays, start) else NOTHING
        return seq(Literal(b"["), alt(empty, first))

    @staticmethod
    def _may_end(arrays: Arrays, s: _Situation) -> bool:
        enough = all(n >= c.low for n, c in zip(s.counts, arrays.contains, strict=True))
        return enough and s.index >= arrays.low and (arrays.unique is not False or s.repeated)

    @staticmethod
    def _has_room(arrays: Arrays, s: _Situation) -> bool:
        return arrays.high is None or s.index < arrays.high

    def _too_many(self) -> LimitExceeded:
        return LimitExceeded(
            "max_schema_branches",
            self._limits.max_schema_branches,
            "counting the items of this array",
        )

    def _ways(
        self, arrays: Arrays, s: _Situation, limit: int
    ) -> list[tuple[Demands, int, tuple[int, ...]]]:
        """What the next item may be, and the index and counts after it."""
        ways: list[tuple[Demands, tuple[int, ...]]] = [(arrays.item(s.index), ())]
        for n, one in zip(s.counts, arrays.contains, strict=True):
            options = _options(one, n, s.index)
            ways = [
                (join(demands, more), (*counts, m))
                for demands, counts in ways
                for more, m in options
            ]
            spend(len(ways) * _UNITS)
            if len(ways) > self._limits.max_schema_branches:
                raise self._too_many()
        index = min(s.index + 1, limit)
        return [(demands, index, counts) for demands, counts in ways if not forbids(demands)]


def _without_idle(arrays: Arrays) -> Arrays:
    """The same without assertions that every such array meets; counting and comparing are dear."""
    contains = tuple(c for c in arrays.contains if c.low > 0 or c.high is not None)
    single = arrays.high is not None and arrays.high <= 1
    unique = None if arrays.unique and single else arrays.unique
    if len(contains) == len(arrays.contains) and unique == arrays.unique:
        return arrays
    return replace(arrays, contains=contains, unique=unique)


def _options(one: Contains, n: int, index: int) -> list[tuple[Demands, int]]:
    """Whether the next item is one that is counted: what it then has to meet, and the count."""
    if index < one.start:
        return [((), n)]
    if one.high is None:
        return [((), n)] if n >= one.low else [(one.demands, n + 1), ((), n)]
    out: list[tuple[Demands, int]] = [((negation(conjunction(one.demands)),), n)]
    return [(one.demands, n + 1), *out] if n < one.high else out
