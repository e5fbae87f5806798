"""Random texts of a grammar, for tests and for people.

Expansion runs left to right over the intermediate form with an explicit stack.  The length of the
shortest text of every part is known beforehand (the least fixed point, after Knuth 1977, "A
generalization of Dijkstra's algorithm"); what a text may have beyond its shortest form is a slack
that choices use up, so every text ends and fits.  Intersections and complements are walked on
their automata, counters included: :class:`_Walks` says why these need not be expanded.

Grammars with memory (no key twice, marks behind repeated items) are sampled with second thoughts:
a whole text is expanded, the first key or item that memory objects to is looked up, and expansion
starts again from a choice near it, keeping what came before.  Where that leads nowhere the value
around it is made anew, then the whole text, with ever fewer repetitions.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from grammars.causes import advised, barren_causes
from grammars.compiling.analysis import Analysis
from grammars.compiling.automata import ALL_BYTES, Dfa, expand
from grammars.compiling.building import RuleBuilder
from grammars.compiling.choices import Choices
from grammars.compiling.utf8 import ByteMask, range_mask
from grammars.errors import BudgetError, GrammarError
from grammars.ir import (
    END_INDENT,
    LINE_INDENT,
    LINE_SAME,
    REPEATED_COMMA,
    Alt,
    And,
    Bag,
    ByteSet,
    Chars,
    Condition,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Mark,
    Not,
    Nothing,
    Ranges,
    Ref,
    Repeat,
    Seq,
    children,
    intersect_ranges,
    refs,
)
from grammars.layout.writing import ends_with_comments, written
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.uniqueness.regions import first_clash_of_regions
from grammars.uniqueness.sections import first_clash_of_sections
from grammars.uniqueness.values import Clash, first_clash
from grammars.work import spend

_SLACK: Final = 64
"""Bytes beyond the shortest text when the caller sets no bound."""
_STEP_WORK: Final = 3
"""Units of work of one expansion (see :mod:`grammars.work`)."""
_STEPS: Final = 4_000
"""Expansions after which only shortest ways are taken (loops may cost no bytes)."""
_EAGER: Final = 0.7
"""How likely one more repetition is."""
_ATTEMPTS: Final = 24
"""Fresh starts before a grammar with memory is given up."""
_WORK: Final = 400_000
"""Expansions, over all attempts, before that (about a second)."""
_PATIENCE: Final = 16
"""New tries of one key or item before what is around it is made anew."""
_CELLS: Final = 5_000_000
"""Distances kept for one counted automaton (8 bytes each; about a second for small ones)."""
_ROW_CELLS: Final = 200
"""What a row of them costs in addition, as so many more."""
_PLAIN: Final = ((0x20, 0x7E),)
_FIRST_PLACEHOLDER: Final = 0xF8
"""Marks of layout stand in a draft as bytes from this one on, which no text in UTF-8 has."""
_LAYOUT_SHARES: Final = (1.0, 0.5, 0.0)
"""Parts of the slack that texts with indentation are tried with: blanks are added to what is drafted."""
_WIDEST: Final = 4

_Cost: TypeAlias = tuple[float, int]
"""Length in bytes of the shortest text, and height of its derivation (so that it is finite)."""
_IMPOSSIBLE: Final[_Cost] = (float("inf"), 0)

_Stack: TypeAlias = "tuple[Expr, _Stack] | None"
"""What is still to be expanded, the next first; shared between the choices on the trail."""


@dataclass(frozen=True, slots=True)
class _Mood:
    """How freely a text is made.

    Attributes:
        slack: bytes beyond the shortest text.
        share: the part of the slack left that one choice may use up.
        eager: how likely one more repetition is.
        loans: whether a new try may be longer than planned (nothing bounds the text).
    """

    slack: float
    share: float = 1.0
    eager: float = _EAGER
    loans: bool = False


class _Choice(NamedTuple):
    """A place where expansion can be taken up again with another outcome."""

    size: int
    marks: int
    stack: _Stack
    slack: float
    steps: int


class _Draft:
    """A text in the making.

    Attributes:
        out, marks: bytes so far, and where among them separators behind repeated items stand.
        stack, slack, steps: what is still to be expanded, and with what means.
        trail: the choices made, if they are to be remembered.
        work: expansions, those forgotten included.
    """

    __slots__ = ("marks", "out", "slack", "stack", "steps", "trail", "work")

    def __init__(self, body: Expr, slack: float) -> None:
        self.out = bytearray()
        self.marks: list[int] = []
        self.stack: _Stack = (body, None)
        self.slack = slack
        self.steps = 0
        self.work = 0
        self.trail: list[_Choice] = []

    def remember(self, node: Expr) -> None:
        """Called after ``node`` was taken from the stack and before its outcome is chosen."""
        self.trail.append(
            _Choice(len(self.out), len(self.marks), (node, self.stack), self.slack, self.steps)
        )

    def return_to(self, at: int, loan: float) -> None:
        """Forgets everything since a choice, which is to be made anew."""
        choice = self.trail[at]
        del self.trail[at:]
        del self.out[choice.size :]
        del self.marks[choice.marks :]
        self.stack, self.slack, self.steps = choice.stack, choice.slack + loan, choice.steps


class Sampler:
    """Samples texts of one grammar."""

    def __init__(self, grammar: GrammarIR, limits: Limits) -> None:
        self._grammar = grammar
        self._limits = limits
        self._memory = grammar.distinct_keys or grammar.compare_items
        self._walks: dict[int, _Walks] = {}
        self._rests: dict[tuple[int, int | None], Repeat] = {}  # kept: costs are known by identity
        self._rules: dict[str, _Cost] = {}
        self._costs: dict[int, _Cost] = {}
        self._relax()

    def sample(
        self,
        rng: random.Random,
        max_bytes: int | None,
        accepts: Callable[[bytes], bool] = lambda text: True,
    ) -> bytes:
        """One text, of at most ``max_bytes`` bytes.

        Args:
            rng: what chooses.
            max_bytes: the bound, if any.
            accepts: whether the language has a text, asked for those with indentation that may not be
                read as they were written.

        Raises:
            BudgetError: if the shortest text is longer.
            GrammarError: if no text without forbidden repetitions was found.
        """
        body = self._grammar[self._grammar.start].body
        least = self._cost(body)[0]
        if max_bytes is not None and least > max_bytes:
            raise BudgetError(
                f"the shortest text of this grammar has {least:.0f} bytes, more than "
                f"max_bytes={max_bytes}; raise max_bytes",
                needed=int(least),
                available=max_bytes,
            )
        slack = None if max_bytes is None else max_bytes - least
        if self._memory:
            return self._with_memory(body, rng, slack)
        if self._grammar.layout is not None:
            return self._with_layout(body, rng, slack, max_bytes, accepts)
        mood = _Mood(_SLACK if slack is None else slack)
        draft = _Draft(body, mood.slack)
        self._expand(draft, rng, mood)
        return bytes(draft.out)

    def _with_layout(
        self,
        body: Expr,
        rng: random.Random,
        slack: float | None,
        max_bytes: int | None,
        accepts: Callable[[bytes], bool],
    ) -> bytes:
        """One text, its marks written as blanks."""
        layout = self._grammar.layout
        assert layout is not None
        size = 0
        for share in _LAYOUT_SHARES:
            mood = _Mood((_SLACK if slack is None else slack) * share)
            draft = _Draft(body, mood.slack)
            self._expand(draft, rng, mood)
            symbols = [
                b if b < _FIRST_PLACEHOLDER else b - _FIRST_PLACEHOLDER + LINE_SAME
                for b in draft.out
            ]
            widest = _WIDEST if share else 1
            text = written(symbols, layout, wider=lambda most=widest: rng.randint(1, most))  # type: ignore[misc]
            if ends_with_comments(symbols) and not accepts(text):
                continue
            if max_bytes is None or len(text) <= max_bytes:
                return text
            size = len(text)
        if max_bytes is None:
            raise GrammarError(
                "no text was found whose newlines are read as they were written: they end with comments; "
                "try another seed"
            )
        raise BudgetError(
            f"no text of this grammar within max_bytes={max_bytes} was found; raise max_bytes",
            needed=size,
            available=max_bytes or 0,
        )

    def causes(self) -> tuple[str, ...]:
        """Why the language is empty: rules without any text that need no other such rule for it."""
        barren = [r for r in self._grammar.rules if r.name not in self._rules]
        spans = {r.name: r.span for r in barren}
        return advised(barren_causes({r.name: refs(r.body) for r in barren}, spans))

    # -- memory --------------------------------------------------------------------------------

    def _with_memory(self, body: Expr, rng: random.Random, slack: float | None) -> bytes:
        work = 0
        for attempt in range(_ATTEMPTS):
            mood = _mood(attempt, slack)
            draft = _Draft(body, mood.slack)
            if self._settle(draft, rng, mood, _WORK - work):
                return bytes(draft.out)
            work += draft.work
            if work > _WORK:
                break
        bound = "" if slack is None else " within max_bytes; raise max_bytes"
        raise GrammarError(
            "no text without forbidden repetitions of object keys or array items was found"
            f"{bound} (searched at random, so there may still be one)"
        )

    def _settle(self, draft: _Draft, rng: random.Random, mood: _Mood, work: int) -> bool:
        """Expands, and makes anew what clashes with memory; False if that leads nowhere."""
        tries: dict[int, int] = {}  # by the place where an item begins
        spent = 0
        self._expand(draft, rng, mood)
        while (clash := self._clash(draft)) is not None:
            spent += 1
            start = _blame(clash, tries)
            if start is None or spent > 200 + 8 * len(draft.out) or draft.work > work:
                return False
            at = _turning_point(draft.trail, start, clash.end, rng)
            if at is None:
                return False
            # An item that repeats another needs room to differ; one that fails to repeat does not.
            loan = 2.0 * tries[start] if mood.loans and clash.repeats else 0.0
            draft.return_to(at, loan)
            tries = {place: count for place, count in tries.items() if place <= start}
            self._expand(draft, rng, mood)
        return True

    def _clash(self, draft: _Draft) -> Clash | None:
        if self._grammar.locator is not None:
            return first_clash_of_regions(
                bytes(draft.out), frozenset(draft.marks), self._grammar.locator
            )
        if self._grammar.sections:
            return first_clash_of_sections(bytes(draft.out), frozenset(draft.marks), self._grammar)
        marks = frozenset(draft.marks) if self._grammar.compare_items else None
        return first_clash(bytes(draft.out), marks, self._grammar.distinct_keys)

    # -- expansion -----------------------------------------------------------------------------

    def _expand(self, draft: _Draft, rng: random.Random, mood: _Mood) -> None:
        out = draft.out
        while draft.stack is not None:
            node, draft.stack = draft.stack
            draft.steps += 1
            draft.work += 1
            spend(_STEP_WORK)
            match node:
                case Literal(data):
                    out += data
                case Mark(symbol) if symbol >= LINE_SAME:
                    out.append(_FIRST_PLACEHOLDER + symbol - LINE_SAME)
                case Mark(symbol):
                    draft.marks.append(len(out))
                    out += b"," if symbol == REPEATED_COMMA else b"]"
                case Seq(items):
                    for item in reversed(items):
                        draft.stack = (item, draft.stack)
                case Ref(name):
                    draft.stack = (self._grammar[name].body, draft.stack)
                case _:
                    if self._memory:
                        draft.remember(node)
                    self._choose(draft, node, rng, mood)

    def _choose(self, draft: _Draft, node: Expr, rng: random.Random, mood: _Mood) -> None:
        """Expands a node that has several outcomes."""
        least = self._cost(node)[0]
        shortest = draft.steps > _STEPS
        slack = 0 if shortest else int(draft.slack * mood.share)
        eager = 0 if shortest else mood.eager  # parts that cost nothing would be repeated for ever
        used: float = 0
        match node:
            case Chars(ranges):
                char = chr(_pick(ranges, rng, slack + least)).encode()
                used = len(char) - least
                draft.out += char
            case ByteSet(ranges):
                draft.out.append(_pick_one(ranges, rng))
            case Alt(items):
                branch = self._branch(items, rng, least + slack, shortest)
                used = self._cost(branch)[0] - least
                draft.stack = (branch, draft.stack)
            case Repeat() if self._memory:
                used = self._one_by_one(draft, node, rng, slack, eager)
            case Repeat(item, low, _):
                count = self._count(node, rng, slack, eager)
                used = (count - low) * self._cost(item)[0] if count > low else 0
                spend(count)
                for _ in range(count):
                    draft.stack = (item, draft.stack)
            case Bag():
                used = self._fill(draft, node, rng, slack, eager)
            case And() | Not() | Machine():
                data = self._walk(node, rng, least + rng.randint(0, slack))
                used = len(data) - least
                draft.out += data
        draft.slack -= used

    def _branch(
        self, items: tuple[Expr, ...], rng: random.Random, most: float, shortest: bool
    ) -> Expr:
        if shortest:
            return min(items, key=self._cost)
        return rng.choice([x for x in items if self._cost(x)[0] <= most])

    def _count(self, node: Repeat, rng: random.Random, slack: float, eager: float) -> int:
        count = node.min
        each = self._cost(node.item)[0]
        while (node.max is None or count < node.max) and each <= slack and rng.random() < eager:
            count += 1
            slack -= max(each, 1)
        return count

    def _one_by_one(
        self, draft: _Draft, node: Repeat, rng: random.Random, slack: float, eager: float
    ) -> float:
        """The copies needed, or whether there is one more: a choice that can end repetition."""
        if node.min:
            draft.stack = (self._rest(node, node.min), draft.stack)
            spend(node.min)
            for _ in range(node.min):
                draft.stack = (node.item, draft.stack)
            return 0
        each = self._cost(node.item)[0]
        if node.max == 0 or each > slack or rng.random() >= eager:
            return 0
        draft.stack = (node.item, (self._rest(node, 1), draft.stack))
        return each

    def _rest(self, node: Repeat, count: int) -> Repeat:
        """The repetition after some copies, with nothing needed any more; one object each."""
        most = None if node.max is None else node.max - count
        return self._rests.setdefault((id(node.item), most), Repeat(node.item, 0, most))

    def _fill(
        self, draft: _Draft, node: Bag, rng: random.Random, slack: float, eager: float
    ) -> float:
        """Chooses a bag's items and their order; the bytes used beyond the shortest choice."""
        counts = self._items(node, rng, slack, eager)
        least = _sum(_fewest(node, self._own(node)), node, self._own(node))
        chosen = [
            m.item for m, count in zip(node.members, counts, strict=True) for _ in range(count)
        ]
        if not node.ordered:
            rng.shuffle(chosen)
        for at, item in enumerate(reversed(chosen)):
            if at:
                draft.stack = (node.separator, draft.stack)
            draft.stack = (item, draft.stack)
        return _sum(counts, node, self._own(node)) - least

    def _items(self, node: Bag, rng: random.Random, slack: float, eager: float) -> list[int]:
        """How many items each member gets: what is needed, then more while the slack lasts."""
        own = self._own(node)
        if node.conditions or node.loose:
            return self._conditional_items(node, own, rng, slack, eager)
        if not eager:
            return _fewest(node, own)
        counts = [member.min for member in node.members]
        most = _sum(_fewest(node, own), node, own) + slack
        order = [i for i in range(len(counts)) if _possible(own[i])]
        while sum(counts) < node.low:
            spend(10 + 2 * len(counts))
            rng.shuffle(order)
            counts = next(
                more
                for i in order
                if _room(node, counts, i)
                and _sum(_fewest(node, own, more := _one_more(counts, i)), node, own) <= most
            )
        left = most - _sum(counts, node, own) - own[-1][0]
        while rng.random() < eager:
            rng.shuffle(order)
            ways = (i for i in order if own[i][0] <= left and _room(node, counts, i))
            if (chosen := next(ways, None)) is None:
                break
            counts[chosen] += 1
            left -= own[chosen][0] + own[-1][0]
        return counts

    def _conditional_items(
        self, node: Bag, own: list[_Cost], rng: random.Random, slack: float, eager: float
    ) -> list[int]:
        """The same under conditions: members one after the other, as long as they can be met."""
        least = _fewest(node, own)
        if not eager:
            return least
        choices = _choices(node, own)
        state, counts = choices.first, [0] * len(node.members)
        while not choices.is_complete(state) or rng.random() < eager:
            ways = [
                i
                for i, later in enumerate(choices.steps(state))
                if later is not None and _is_open(node, own, i)
            ]
            if not ways:
                break
            if node.ordered:  # not past most of them at once
                ways = ways[: max(3, len(ways) // 4)]
            chosen = rng.choice(ways)
            later = choices.after(state, chosen)
            assert later is not None
            state = later
            counts[chosen] += 1
        within = _sum(counts, node, own) <= _sum(least, node, own) + slack
        return counts if within else least

    def _own(self, node: Bag) -> list[_Cost]:
        """Costs of the members and, last, of the separator."""
        return [*(self._cost(member.item) for member in node.members), self._cost(node.separator)]

    def _walk(self, node: Expr, rng: random.Random, most: float) -> bytes:
        walks = self._automaton(node)
        at, out = walks.start, bytearray()
        while True:
            ways = walks.ways(at, most - len(out) - 1)
            if walks.ends(at) and (not ways or rng.random() < 0.3):
                return bytes(out)
            mask, at = _way(ways, rng)
            out.append(rng.choice(_likely_bytes(mask)))

    # -- shortest texts ------------------------------------------------------------------------

    def _relax(self) -> None:
        """Least fixed point of the rules' costs."""
        users: dict[str, list[str]] = {}
        for rule in self._grammar.rules:
            for name in refs(rule.body):
                users.setdefault(name, []).append(rule.name)
        todo = deque(rule.name for rule in reversed(self._grammar.rules))
        waiting = set(todo)
        while todo:
            name = todo.popleft()
            waiting.discard(name)
            self._costs.clear()
            cost = self._cost(self._grammar[name].body)
            if cost < self._rules.get(name, _IMPOSSIBLE):
                self._rules[name] = cost
                new = [u for u in users.get(name, ()) if u not in waiting]
                waiting.update(new)
                todo.extend(new)
        self._costs.clear()

    def _cost(self, expr: Expr) -> _Cost:
        known = self._costs.get(id(expr))
        if known is not None:
            return known
        stack = [expr]
        while stack:
            node = stack[-1]
            regular = isinstance(node, And | Not | Machine)
            missing = [] if regular else [c for c in children(node) if id(c) not in self._costs]
            if missing:
                stack.extend(missing)
            else:
                spend()
                self._costs[id(stack.pop())] = self._own_cost(node)
        return self._costs[id(expr)]

    def _own_cost(self, node: Expr) -> _Cost:
        costs = self._costs
        match node:
            case Nothing():
                return _IMPOSSIBLE
            case Literal(data):
                return len(data), 0
            case Chars(ranges):
                return len(chr(ranges[0][0]).encode()), 0
            case ByteSet():
                return 1, 0
            case Mark(symbol) if self._grammar.layout is not None:
                return int(symbol in (LINE_INDENT, END_INDENT)), 0
            case Mark():
                return (1, 0) if self._grammar.compare_items else _IMPOSSIBLE
            case Bag(members, separator):
                own = [*(costs[id(m.item)] for m in members), costs[id(separator)]]
                return _bag_cost(node, own)
            case Seq(items):
                parts = [costs[id(x)] for x in items]
                return sum(c for c, _ in parts), max(h for _, h in parts)
            case Alt(items):
                return min(costs[id(x)] for x in items)
            case Repeat(item, low, _):
                cost, height = costs[id(item)]
                return (low * cost, height) if low else (0, 0)
            case Ref(name):
                cost, height = self._rules.get(name, _IMPOSSIBLE)
                return cost, height + 1
            case And() | Not() | Machine():
                walks = self._automaton(node)
                return walks.distance(*walks.start), 0

    def _automaton(self, node: Expr) -> _Walks:
        known = self._walks.get(id(node))
        if known is None:
            dfa = self._builder.regular_dfa(node)
            try:
                known = _Walks(dfa)
            except _TooManyDistancesError:
                known = _Walks(expand(dfa, self._limits.max_dfa_states))
            self._walks[id(node)] = known
        return known

    @cached_property
    def _builder(self) -> RuleBuilder:
        """Makes the automata that the compiled grammar has as well, so its limits are not new."""
        return RuleBuilder(Analysis(self._grammar, self._limits), self._limits, ALL_BYTES)


# -- walks on automata -----------------------------------------------------------------------------

_Row: TypeAlias = "npt.NDArray[np.float64]"
"""Fewest bytes to the end of a text, by state; infinite where there is no way."""
_Place: TypeAlias = tuple[int, int]
"""A state and the count there."""


class _TooManyDistancesError(Exception):
    """More than ``_CELLS`` of them."""


class _Walks:
    """Ways to the end of the texts of an automaton, without expanding its counter.

    Two sequences of rows hold the fewest bytes from every state and count: ``_within[i]`` is for at
    most i counting edges more, once the count suffices, and ``_short[i]`` for a count that lacks i.
    A handful of rows serve counts in the millions, since in the long run each row is an earlier one
    with so many bytes more (the cyclicity of min-plus algebra); see :class:`_Rows`.
    """

    def __init__(self, dfa: Dfa) -> None:
        self._dfa = dfa
        self.start: Final[_Place] = (dfa.start, 0)
        free, counting = _Edges(dfa, 0), _Edges(dfa, 1)

        def closed(row: _Row) -> _Row:
            while True:
                shorter = np.minimum(row, free.before(row))
                if np.array_equal(shorter, row):
                    return row
                row = shorter

        def one_more(row: _Row) -> _Row:
            return closed(counting.before(row))

        def perhaps_one_more(row: _Row) -> _Row:
            return closed(np.minimum(row, counting.before(row)))

        def rises(row: _Row) -> bool:
            return free.rise(row) and counting.rise(row)

        # Shortest ways enter no state twice, so from here on no more counting edges help; two rows
        # more show that.
        self._any = len(dfa) + 2 if dfa.counted else 0
        spare = self._any if dfa.count_max is None else dfa.count_max - dfa.count_min
        enough = np.array(_distances(dfa))
        self._within = _Rows(enough, perhaps_one_more, rises, min(spare, self._any))
        self._short = _Rows(self._within.row(spare), one_more, rises, dfa.count_min)

    def distance(self, state: int, count: int) -> float:
        """Fewest bytes to the end of a text."""
        dfa = self._dfa
        if count < dfa.count_min:
            return self._short.at(dfa.count_min - count, state)
        return self._within.at(self._any if dfa.count_max is None else dfa.count_max - count, state)

    def ends(self, place: _Place) -> bool:
        """Whether a text may end here."""
        state, count = place
        return self._dfa.accept[state] and count >= self._dfa.count_min

    def ways(self, place: _Place, left: float) -> list[tuple[ByteMask, _Place]]:
        """The edges behind which a text can end after at most so many bytes."""
        state, count = place
        out: list[tuple[ByteMask, _Place]] = []
        for mask, target, inc in self._dfa.edges[state]:
            after = self._counted(count + inc)
            if after is not None and self.distance(target, after) <= left:
                out.append((mask, (target, after)))
        return out

    def _counted(self, count: int) -> int | None:
        if self._dfa.count_max is None:
            return min(count, self._dfa.count_min)
        return None if count > self._dfa.count_max else count


class _Edges:
    """The edges of an automaton that count, or those that do not."""

    def __init__(self, dfa: Dfa, inc: int) -> None:
        pairs = [(q, t) for q, row in enumerate(dfa.edges) for _, t, i in row if i == inc]
        self._targets = np.array([t for _, t in pairs], np.intp)
        self._sources, self._begins = np.unique([q for q, _ in pairs], return_index=True)

    def before(self, row: _Row) -> _Row:
        """The row one byte earlier, if the next edge is one of these."""
        out = np.full(len(row), np.inf)
        if len(self._targets):
            out[self._sources] = 1 + np.minimum.reduceat(row[self._targets], self._begins)
        return out

    def rise(self, row: _Row) -> bool:
        """Whether no entry behind such an edge is less than the one before it."""
        if not len(self._targets):
            return True
        behind = np.minimum.reduceat(row[self._targets], self._begins)
        return bool(np.all(behind >= row[self._sources]))


class _Rows:
    """A sequence of rows, each made from the one before, kept until it repeats.

    A row's entry is the least of some entries of the row before, behind edges, plus the way there.
    It repeats with period p and growth g where row i + p is row i plus g for p + 1 rows in a row, and
    g is nowhere less behind an edge than before it.  For then, by induction, the same holds for the
    next i: no entry of row i + p becomes less than the sum, as no growth behind its edges is less
    than its own; and the edge behind which row i had its least has the same growth, or a row
    earlier, with less of it, the entry would have been less.

    Args:
        first: row 0.
        following: makes the next row.
        rises: whether a row is nowhere less behind an edge than before it.
        last: the number of the last row asked for, if the sequence does not repeat before.
    """

    def __init__(
        self,
        first: _Row,
        following: Callable[[_Row], _Row],
        rises: Callable[[_Row], bool],
        last: int,
    ) -> None:
        self._rows = [first]
        self._period, self._growth = 1, np.zeros(len(first))
        seen: dict[bytes, int] = {}  # the last row with such a difference to the one before
        run = 0
        while len(self._rows) <= last:
            if len(self._rows) * (len(first) + _ROW_CELLS) > _CELLS:
                raise _TooManyDistancesError
            number, before = len(self._rows), self._rows[-1]
            row = following(before)
            self._rows.append(row)
            difference = _difference(row, before)
            step = difference.tobytes()
            period = number - seen.get(step, number)
            run = run + 1 if period == self._period else 1
            if np.isinf(difference).any():
                run = 0
            self._period, seen[step] = period, number
            if period and run >= period:
                self._growth = _difference(row, self._rows[-1 - period])
                if rises(np.where(np.isinf(row), np.inf, self._growth)):
                    return

    def at(self, number: int, state: int) -> float:
        """One entry of a row."""
        number, laps = self._place(number)
        return float(self._rows[number][state] + laps * self._growth[state])

    def row(self, number: int) -> _Row:
        """A whole row."""
        number, laps = self._place(number)
        return self._rows[number] + laps * self._growth

    def _place(self, number: int) -> tuple[int, int]:
        """The number of a row that is kept, and how many periods lie between."""
        beyond = number - len(self._rows) + 1
        laps = -(-beyond // self._period) if beyond > 0 else 0
        return number - laps * self._period, laps


def _difference(row: _Row, other: _Row) -> _Row:
    """What one row has more than the other; nothing where both are infinite."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(row) & np.isinf(other), 0.0, row - other)


def _way(ways: list[tuple[ByteMask, _Place]], rng: random.Random) -> tuple[ByteMask, _Place]:
    """One of some edges, usually with printable bytes, and rather with many of them than with few."""
    plain = [way for way in ways if way[0] & _PRINTABLE]
    if not plain or rng.random() < 0.1:
        return rng.choice(ways)
    weights = [min((mask & _PRINTABLE).bit_count(), _MANY) for mask, _ in plain]
    return rng.choices(plain, weights)[0]


_PRINTABLE: Final[ByteMask] = range_mask(0x20, 0x7E)
_MANY: Final = 12
"""An edge with more bytes is not taken more often."""


@lru_cache(4_096)
def _likely_bytes(mask: ByteMask) -> Sequence[int]:
    """The printable ones of some bytes, or all if there are none."""
    values = [b for b in range(256) if mask >> b & 1]
    return [b for b in values if 0x20 <= b < 0x7F] or values


def _bag_cost(node: Bag, own: list[_Cost]) -> _Cost:
    counts = _fewest(node, own)
    total = _sum(counts, node, own)
    if total == float("inf"):
        return _IMPOSSIBLE
    used = [*counts, sum(counts) - 1]
    return total, max(height for (_, height), count in zip(own, used, strict=True) if count)


def _fewest(node: Bag, own: list[_Cost], counts: list[int] | None = None) -> list[int]:
    """The cheapest number of items of each member, at least ``counts``; empty if there is none.

    The bounds are nested (members, groups, everything), so taking the cheapest item that still
    fits again and again is best: the independent sets of a laminar matroid.
    """
    if node.conditions or node.loose:
        free = range(len(node.members))
        costs = [own[i][0] if _is_open(node, own, i) else float("inf") for i in free]
        chosen = _choices(node, own).cheapest(costs)
        taken = [0] * len(node.members)
        for i in chosen or ():
            taken[i] += 1
        return taken if chosen else []
    counts = [member.min for member in node.members] if counts is None else list(counts)
    if not _within_bounds(node, counts):
        return []
    order = sorted((i for i in range(len(counts)) if _possible(own[i])), key=own.__getitem__)
    for i in order:
        counts[i] += min(_room(node, counts, i), max(0, node.low - sum(counts)))
    return counts if sum(counts) >= node.low else []


def _choices(node: Bag, own: list[_Cost]) -> Choices:
    """The arithmetic of a bag with conditions, where only members that have texts are chosen."""
    possible = [_is_open(node, own, i) for i in range(len(node.members))]
    conditions = [
        *(
            replace(
                condition,
                clauses=tuple(
                    tuple(x for x in c if x < 0 or possible[x]) for c in condition.clauses
                ),
            )
            for condition in node.conditions
        ),
        Condition(tuple((i,) for i, m in enumerate(node.members) if m.min)),
    ]
    free = len(node.members) - node.loose
    return Choices(
        [m.group for m in node.members],
        [m.max is None for m in node.members],
        [min(i, free) if node.ordered else 0 for i in range(len(node.members))],
        conditions,
        DEFAULT_LIMITS,
    )


def _is_open(node: Bag, own: list[_Cost], i: int) -> bool:
    return node.members[i].max != 0 and _possible(own[i])


def _within_bounds(node: Bag, counts: list[int]) -> bool:
    if node.high is not None and sum(counts) > node.high:
        return False
    grouped: dict[int, int] = {}
    for m, n in zip(node.members, counts, strict=True):
        if m.group is not None:
            grouped[m.group] = grouped.get(m.group, 0) + n
    return all(n <= 1 for n in grouped.values()) and all(
        m.max is None or n <= m.max for m, n in zip(node.members, counts, strict=True)
    )


def _room(node: Bag, counts: list[int], i: int) -> int:
    """How many more items a member may get (many, if nothing bounds them)."""
    member = node.members[i]
    room = node.low if member.max is None else member.max - counts[i]
    if member.group is not None and room > 0:
        pairs = zip(node.members, counts, strict=True)
        room = min(room, 1 - sum(count for m, count in pairs if m.group == member.group))
    return room if node.high is None else min(room, node.high - sum(counts))


def _sum(counts: list[int], node: Bag, own: list[_Cost]) -> float:
    """Bytes of so many items with their separators; infinite for none at all."""
    if not counts:
        return float("inf")
    used = zip((*counts, sum(counts) - 1), own, strict=True)
    return sum(count * cost for count, (cost, _) in used if count)


def _one_more(counts: list[int], i: int) -> list[int]:
    return [*counts[:i], counts[i] + 1, *counts[i + 1 :]]


def _possible(cost: _Cost) -> bool:
    return cost[0] < float("inf")


def _mood(attempt: int, slack: float | None) -> _Mood:
    """From generous to mean; every fourth attempt makes everything as short as can be.

    Items that have to be equal are found where all are short, items that have to differ where
    there is room: without a bound the room grows, with one each choice gets less of it.
    """
    share = 0.0 if attempt % 4 == 3 else 1.0
    eager = _EAGER * 0.8**attempt
    if slack is None:
        return _Mood(float(_SLACK << min(attempt, 6)), share, eager, loans=True)
    return _Mood(slack, share * max(0.7**attempt, 0.05), eager)


def _blame(clash: Clash, tries: dict[int, int]) -> int | None:
    """Where the item begins that is to be made anew, the innermost that still has tries left."""
    patience = _PATIENCE + 4 * clash.items
    for start in reversed(clash.starts):
        tries[start] = tries.get(start, 0) + 1
        if tries[start] <= patience:
            return start
        patience = _PATIENCE
    return None


def _turning_point(trail: list[_Choice], start: int, end: int, rng: random.Random) -> int | None:
    """A choice that may mend an item between two places; None if the text has no choices."""
    sizes = [choice.size for choice in trail]
    last = bisect_left(sizes, end + 1) - 1  # the separator's own choice included
    if last < 0:
        return None
    # Its first choice, the one that led to it (in the comma before it), or the one just made.
    first = rng.choice([bisect_left(sizes, start), bisect_left(sizes, start - 1), last])
    return min(first, last)


def _distances(dfa: Dfa) -> list[float]:
    """Fewest bytes to an accepting state without counting any more, by state."""
    before: list[list[int]] = [[] for _ in dfa.edges]
    for source, row in enumerate(dfa.edges):
        for _, target, inc in row:
            if not inc:
                before[target].append(source)
    out = [float("inf")] * len(dfa)
    todo = deque(s for s in range(len(dfa)) if dfa.accept[s])
    for s in todo:
        out[s] = 0
    while todo:
        s = todo.popleft()
        for source in before[s]:
            if out[source] > out[s] + 1:
                out[source] = out[s] + 1
                todo.append(source)
    return out


def _pick(ranges: Ranges, rng: random.Random, most: float) -> int:
    """A code point of at most ``most`` UTF-8 bytes; usually a printable ASCII one."""
    plain = intersect_ranges(ranges, _PLAIN)
    if plain and rng.random() < 0.9:
        return _pick_one(plain, rng)
    top = {1: 0x7F, 2: 0x7FF, 3: 0xFFFF}.get(int(min(most, 4)), 0x10FFFF)
    return _pick_one(intersect_ranges(ranges, ((0, top),)), rng)


def _pick_one(ranges: Ranges, rng: random.Random) -> int:
    lo, hi = rng.choice(ranges)
    return rng.randint(lo, hi)


def no_text(notes: tuple[str, ...]) -> GrammarError:
    """The error for sampling from an empty language."""
    because = ": " + "; ".join(notes) if notes else ""
    return GrammarError(f"there is nothing to sample: no text satisfies this grammar{because}")
