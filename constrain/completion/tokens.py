"""The fewest tokens to a complete text, exactly.

Tokens do not respect the grammar's rules: ``"},`` may close a string, an object and begin what
follows.  So the cost of finishing a rule depends on where, inside a token, the rule begins and ends.
Positions inside tokens are nodes of the trie; nodes with equal subtrees cost the same, so there are
few kinds of them (:mod:`constrain.masks.trie_positions`).  For a program state q (with count n) and a kind x

    G(q, n, x) : kind y -> fewest tokens completed from q, x to the end of the rule, ending inside y

satisfies: 0 for every y at which the walk from (q, x) leaves the rule within the token; and where a
token ends inside, 1 + the cost from the state reached.  States of called rules on the way are costed
by chaining G along their frames.  That is the shortest-derivation problem on a superior grammar
(Knuth 1977); its least solution is found by relaxation over the variables that are asked for, and
shared by all states of the automaton, for every rule, stack and request.

An exact search may take more work than is allowed (``Limits.max_distance_work``).  What it has found
by then is dropped, but for what is complete in itself, and the fewest tokens that write a shortest
text take its place (:mod:`constrain.completion.bytes`).  Both kinds of numbers are those of completions
that exist, and from each state some token leads to one that needs at least one token less; so it is
with the lesser of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int32
from constrain.completion.bytes import NEVER as NEVER
from constrain.completion.bytes import (
    Ends,
    ShortestTexts,
    ends_at,
    enough_counts,
    is_token_below,
    room_for_tokens,
)
from constrain.engine.jit import kernels as k
from constrain.engine.pool import DEAD, END, StatePool
from constrain.masks.rule_masks import RuleMasks
from constrain.masks.trie_positions import BOUNDARY, Kind, Positions, Returns, as_flags
from constrain.masks.wide import (
    MAX_SHAPE,
    Lexeme,
    LexemeShape,
    Wide,
    counted,
    lexeme_of,
    pack_bits,
)
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from grammars.compiling.bags import CANONICAL, COMPLETE, MORE
from grammars.errors import LimitExceeded
from grammars.limits import Limits
from grammars.program import Program

Variable: TypeAlias = tuple[int, int, Kind]
Costs: TypeAlias = dict[Kind, int]

_STATE: Final = -1
"""In place of a program state in a variable: the next number is an automaton state instead."""
_NEEDED_TOGETHER: Final = 6
"""Needed items of a bag up to which tokens may go from one to the next (see ``_Search``)."""
_RELAXED: Final = 1_000
"""Units of work (see ``Limits.max_distance_work``) for one variable looked at."""
_STEPPED: Final = 10_000
"""The same for what one token does from a position."""
_READ: Final = 100
"""The same for one value read, and for each of the costs that it holds."""
_COST: Final = 20
_WALKED: Final = 8
"""Units of work for a trie node visited."""
_PREPARED: Final = 150
"""The same for a program state, before a search begins."""
_ENDLESS: Final = 1 << 62
_DIRECT: Final = 3_000
"""Trie nodes that a walk may visit before the lexeme's own walk is asked for."""
_WIDE_BYTES: Final = 1
"""Bytes after a rule up to which all places inside tokens at which it may end are told apart."""
_WIDE_WAYS: Final = 1_000
"""Beyond that, ways in which tokens may go on after the rule up to which they are."""


_ANY_ORDER: Final = (
    "Budgets: parts that come in any order are finished in one order, so that min_tokens_to_accept "
    "and masks with tokens_left may ask for more tokens than another order needs."
)
_WIDE_ENDS: Final = (
    "Budgets: free text that nearly any byte may follow ends at token boundaries, so that "
    "min_tokens_to_accept and masks with tokens_left may ask for some tokens more than needed."
)
_CUT_SHORT: Final = (
    "Budgets: a search for the shortest completion took more work than Limits.max_distance_work allows; "
    "min_tokens_to_accept and masks with tokens_left count the tokens of shortest texts instead, and may "
    "ask for more than needed."
)


class _OutOfWorkError(Exception):
    """A search takes more work, or room, than is allowed."""


@dataclass(frozen=True, eq=False)
class RulesView:
    """What distances need of an automaton of rules: its tables, and ways to ask it.

    Attributes:
        pool: its states.
        vocabulary, limits: what it was made from.
        positions: kinds of positions inside the vocabulary's tokens.
        spells_bytes: whether every byte of the program is a token.
        eos_row: int32[ceil(V/32)], the mask of the EOS ids alone.
        masks: what the states do with the vocabulary.
        texts: shortest texts from the states, and their spelling.
        mask_of: the whole mask of a state, EOS included.
    """

    pool: StatePool
    vocabulary: Vocabulary
    limits: Limits
    positions: Positions
    spells_bytes: bool
    eos_row: Int32
    masks: RuleMasks
    texts: ShortestTexts
    mask_of: Callable[[int], Int32]


@dataclass(frozen=True)
class _Base:
    """What one token does from a variable's position: exits within it, states at its end."""

    exits: Costs
    ends: tuple[int, ...]
    closes: bool  # the position itself ends a token: the rest may start at a boundary


class Part:
    """Tokens that a state allows, by the states that they lead to.

    Of a token that is in two parts, what the later one says holds.

    Attributes:
        states: int32[n], where the tokens of an entry lead.
        cost: int64[n], what is needed then; ``NEVER`` for what is not allowed at all.
        written: int64[n], the same by shortest texts, as far as these can be written in tokens.
    """

    def __init__(self, states: Int32, cost: npt.NDArray[np.int64]) -> None:
        self.states = states
        self.cost = cost
        self.written = cost.copy()
        self._is_searched = np.zeros(len(states), np.bool_)

    def fill(self, pool: StatePool, fits: Flags, row: Int32) -> None:
        """Sets the bits of the tokens of entries that fit, bool[n]; clears others of earlier parts."""
        raise NotImplementedError

    def example(self, trie: Trie, i: int) -> int:
        """A token of an entry; -1 if there is none."""
        raise NotImplementedError

    @cached_property
    def distinct(self) -> tuple[Int32, Int32, npt.NDArray[np.intp]]:
        """The states without repetition, an entry of each, and by entry which it is."""
        found, first, inverse = np.unique(self.states, return_index=True, return_inverse=True)
        return found, first.astype(np.int32), inverse

    def search(self, fewest: Callable[[int], int], allowed: int) -> bool:
        """Has a search make costs exact that are above what is allowed; whether it did for some."""
        dear = (self.cost > allowed) & (self.cost < NEVER) & ~self._is_searched
        if not dear.any():
            return False
        states, inverse = np.unique(self.states[dear], return_inverse=True)
        self.cost[dear] = np.array([fewest(s) for s in states.tolist()], np.int64)[inverse]
        self._is_searched |= dear
        return True


class _EndsPart(Part):
    """Tokens that were found by a walk."""

    def __init__(self, ends: Ends, cost: npt.NDArray[np.int64]) -> None:
        super().__init__(ends.states, cost)
        self._ends = ends

    def fill(self, pool: StatePool, fits: Flags, row: Int32) -> None:
        self._ends.fill(pool, fits, row)

    def example(self, trie: Trie, i: int) -> int:
        return int(self._ends.tokens(trie, i)[0])


class _StaysPart(Part):
    """Tokens that stay in a lexeme, or end with it.

    Args:
        states, cost: of the lexeme's ends within bounds; if ``places`` is given: of its states there.
        inside: finds the ends.
        places: int32[n], the program states of a lexeme of which no count matters.
        mask: in that case the tokens.
    """

    def __init__(
        self,
        states: Int32,
        cost: npt.NDArray[np.int64],
        inside: Callable[[], _Inside],
        size: int,
        places: Int32 | None = None,
        mask: Int32 | None = None,
    ) -> None:
        super().__init__(states, cost)
        self._make_inside = inside
        self._size = size
        self._places = places
        self._mask = mask

    @cached_property
    def _inside(self) -> _Inside:
        return self._make_inside()

    def fill(self, pool: StatePool, fits: Flags, row: Int32) -> None:
        if not fits.any():
            return
        if self._mask is not None and fits.all():
            row |= self._mask
            return
        chosen = np.zeros(len(self._inside.fits), np.bool_)
        chosen[self._inside.fits] = fits[self._entry_of_end]
        row |= self._row(chosen)

    @cached_property
    def _entry_of_end(self) -> npt.NDArray[np.intp]:
        """By end within bounds, its entry."""
        ends = self._inside.after[0]
        if self._places is None:
            return np.arange(len(ends))
        order = np.argsort(self._places)
        return order[np.searchsorted(self._places, ends, sorter=order)]

    def _row(self, chosen: Flags) -> Int32:
        """The tokens of some groups of ends: the same for all frames below the lexeme."""
        lexeme = self._inside.lexeme
        rows = _lexeme_rows.setdefault(lexeme, {})
        key = chosen.tobytes()
        known = rows.get(key)
        if known is None:
            ends = lexeme.ends
            if len(rows) >= _LEXEME_ROWS:
                rows.clear()
            known = rows[key] = pack_bits(ends.tokens[chosen[ends.group]], self._size)
        return known

    def example(self, trie: Trie, i: int) -> int:
        entries = np.flatnonzero(self._entry_of_end == i)
        if not len(entries):
            return -1
        ends = self._inside.lexeme.ends
        group = int(np.flatnonzero(self._inside.fits)[entries[0]])
        return int(ends.tokens[np.argmax(ends.group == group)])


_LEXEME_ROWS: Final = 16
"""Masks of ends that are kept of one lexeme."""
_lexeme_rows: WeakKeyDictionary[Lexeme, dict[bytes, Int32]] = WeakKeyDictionary()


class Profile:
    """What each allowed token of a state costs, in parts: what later ones say of a token holds."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self._masks: dict[int, Int32] = {}

    @cached_property
    def worst(self) -> int:
        """No less than the largest cost of an allowed token."""
        return max(
            (int(part.cost[part.cost < NEVER].max(initial=0)) for part in self.parts), default=0
        )

    @cached_property
    def _levels(self) -> npt.NDArray[np.int64]:
        """The different costs, ascending."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *(p.cost for p in self.parts)]))

    def mask(self, allowed: int, pool: StatePool, words: int) -> Int32:
        """The tokens that cost no more than is allowed: int32[words], not to be changed."""
        level = int(np.searchsorted(self._levels, allowed, side="right"))
        known = self._masks.get(level)
        if known is None:
            known = np.zeros(words, np.int32)
            for part in self.parts:
                part.fill(pool, part.cost <= allowed, known)
            known.setflags(write=False)
            if len(self._masks) >= _LEVELS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[level] = known
        return known

    def search(self, fewest: Callable[[int], int], allowed: int) -> None:
        """Has a search make costs exact that are above what is allowed."""
        searched = [part.search(fewest, allowed) for part in self.parts]
        if any(searched):
            self._masks.clear()
            self.__dict__.pop("worst", None)
            self.__dict__.pop("_levels", None)


_LEVELS: Final = 4
"""Masks that are kept of one state, the latest."""


@dataclass(frozen=True, eq=False)
class _Split:
    """A state in parts: one configuration of a lexeme, and others that allow few tokens.

    Attributes:
        item: the configuration of the lexeme: program state, count, frame.
        groups: how tokens go on after the lexeme, see ``Positions.group``.
        near: if there are others: trie nodes at which tokens end that they allow, and the state there,
            which is that of all configurations and goes before what the lexeme alone says.
    """

    item: tuple[int, int, int]
    groups: Int32
    near: tuple[Int32, Int32] | None


@dataclass(frozen=True, eq=False)
class _Inside:
    """Where tokens lead that stay in a lexeme.

    Attributes:
        lexeme: its walk.
        fits: bool[G], which of the groups ``lexeme.ends.groups`` stay within the bounds of counts.
        after: of those, program states and counts.
    """

    lexeme: Lexeme
    fits: Flags
    after: tuple[Int32, Int32]


class _Search:
    """Fewest tokens to the end of the text, for the states of one pool.

    In a canonical pool, bags are completed item by item:  G of a bag's state with residual r is G of
    the same state where the next canonical item alone is left, followed by G of the state after an
    item with the next residual.  So what items cost does not depend on residuals.  While many items
    are needed, their ends are taken to be boundaries of tokens: then costs add up, and residuals on
    the way need not be looked at.
    """

    def __init__(self, rules: RulesView, pool: StatePool) -> None:
        self._rules = rules
        self.pool = pool
        self._trie = rules.vocabulary.trie
        self._positions = rules.positions
        self._values: dict[Variable, Costs] = {}
        self._bases: dict[Variable, _Base] = {}
        self._readers: dict[Variable, set[Variable]] = {}
        self._order: dict[Variable, int] = {}
        self._added = 0
        self._queue: list[tuple[int, Variable]] = []
        self._queued: set[Variable] = set()
        self._finish: dict[tuple[int, Kind], tuple[int, bool]] = {}
        self._universe: dict[int, set[Kind]] = {}
        self._exits: dict[int, set[Kind]] = {}
        self._returns = Returns(pool.program)
        self._follow: dict[int, Flags] = {}
        self._goes_on: dict[tuple[int, Kind], bool] = {}
        self._work_left = rules.limits.max_distance_work
        self.is_cut = False
        """Whether a search was cut short; then no other is begun."""
        self.has_wide_ends = False
        """Whether some rule's ends inside tokens were left out, being too many."""
        self.bag_of: dict[int, int] = {}
        self._single: set[int] = set()
        self._count_limit, self._rule_of = pool.program.count_limit, pool.program.rule_of
        self._enough = enough_counts(pool.program)
        self._room = room_for_tokens(self._trie)
        if pool.canonical:
            self.bag_of = _bag_states(pool.program)

    def fewest(self, state: int, work: int) -> tuple[int, bool]:
        """Fewest tokens from a state to an accepting one, and whether there can be no fewer.

        ``NEVER`` if there is no way, or if none was found.

        Args:
            work: what one search may take, unless one was cut short already.
        """
        if not self.is_cut and len(self._values) > self._rules.limits.max_search_states // 2:
            self._forget()
        self._work_left = work
        return self._from(state, BOUNDARY)

    def go_on(self) -> None:
        """Lets searches begin again."""
        self.is_cut = False
        self._finish.clear()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is known and nothing will be searched for."""
        return self.is_cut and not self._values

    def _forget(self) -> None:
        """Drops what earlier searches worked out, so that the limit bounds each of them alone."""
        if self._rules.spells_bytes:
            return
        for table in (self._values, self._bases, self._readers, self._order):
            table.clear()
        self._finish.clear()
        self._queue.clear()
        self._queued.clear()

    # -- costs behind a state ------------------------------------------------------------------

    def _from(self, state: int, kind: Kind) -> tuple[int, bool]:
        """Fewest tokens to the end of the text from a state, beginning inside a token.

        Frames are finished before the states above them, with a stack of our own: texts nest
        deeper than Python's recursion does.
        """
        stack = [(state, kind)]
        while stack:
            at, x = stack[-1]
            if (at, x) in self._finish:
                stack.pop()
                continue
            best, complete = NEVER, True
            waiting: list[tuple[int, Kind]] = []
            for q, n, frame in self.pool.items(at):
                if q == 0:
                    best = min(best, 0 if x == BOUNDARY else NEVER)
                    continue
                if not self._continues(q, x):
                    continue
                costs = self._solve((q, n, x))
                if costs is None:
                    complete = False
                    continue
                for y, cost in costs.items():
                    if frame == END:
                        rest = 0 if y == BOUNDARY else NEVER
                    else:
                        known = self._finish.get((frame, y))
                        if known is None:
                            waiting.append((frame, y))
                            continue
                        rest = known[0]
                        complete &= known[1]
                    best = min(best, cost + rest)
            if waiting:
                stack.extend(waiting)
                continue
            self._finish[at, x] = min(best, NEVER), complete
            stack.pop()
        return self._finish[state, kind]

    # -- relaxation ----------------------------------------------------------------------------

    def _settled(self, variable: Variable) -> Variable:
        """The variable that stands for all with counts that are enough and far from too many.

        Finishing a counted repetition takes a few tokens at most, so with room for several of the
        longest tokens the bound above makes no difference.
        """
        q, n, kind = variable
        if q < 0 or n <= 0:
            return variable
        bag = self.bag_of.get(q)
        if bag is not None:
            return variable if n in self._single else (q, self.pool.residuals.plain(bag, n), kind)
        enough = int(self._enough[self._rule_of[q]])
        if n <= enough or self._count_limit[q] - n < self._room:
            return variable
        return q, enough, kind

    def _solve(self, variable: Variable) -> Costs | None:
        """The least solution for a variable and everything it depends on; ``None`` if not known.

        What was found last is relaxed first: then a variable is mostly relaxed after all that it
        reads, and only true cycles (loops, recursion) are gone round more than once.
        """
        variable = self._settled(variable)
        if variable not in self._values:
            if self.is_cut:
                return None
            first = self._added
            try:
                self._add(variable)
                while self._queue:
                    self._spend(_RELAXED)
                    _, v = heappop(self._queue)
                    self._queued.discard(v)
                    self._relax(v)
            except _OutOfWorkError:
                self.is_cut = True
                self._take_back(first)
                return None
        return self._values[variable]

    def _spend(self, work: int) -> None:
        self._work_left -= work
        if self._work_left < 0:
            raise _OutOfWorkError

    def _take_back(self, first: int) -> None:
        """Drops the variables of a search that was cut short; others do not depend on them."""
        dropped = {v for v, order in self._order.items() if -order >= first}
        for v in dropped:
            del self._values[v], self._readers[v], self._order[v]
        for readers in self._readers.values():
            readers -= dropped
        self._queue.clear()
        self._queued.clear()

    def _add(self, variable: Variable) -> None:
        if len(self._values) >= self._rules.limits.max_search_states:
            self._work_left = -1
            raise _OutOfWorkError
        self._order[variable] = -self._added
        self._added += 1
        self._values[variable] = {}
        self._readers[variable] = set()
        self._enqueue(variable)

    def _enqueue(self, variable: Variable) -> None:
        if variable not in self._queued:
            self._queued.add(variable)
            heappush(self._queue, (self._order[variable], variable))

    def _read(self, variable: Variable, reader: Variable) -> Costs:
        variable = self._settled(variable)
        if variable not in self._values:
            self._add(variable)
        self._readers[variable].add(reader)
        found = self._values[variable]
        self._spend(_READ + _COST * len(found))
        return found

    def _relax(self, v: Variable) -> None:
        new = self._resume(v) if v[0] == _STATE else self._finish_rule(v)
        if new != self._values[v]:
            self._values[v] = new
            for reader in self._readers[v]:
                self._enqueue(reader)

    def _finish_rule(self, v: Variable) -> Costs:
        """G of a program state: exits within this token, or a token's end and what is left then."""
        base = self._bases.get(v)
        if base is None:
            if self._is_bag(v):
                return self._complete_bag(v, self.bag_of[v[0]])
            base = self._bases[v] = self._base(v)
        new = dict(base.exits)
        for end in base.ends:
            _lower(new, self._read((_STATE, end, BOUNDARY), v), 1)
        if base.closes:
            _lower(new, self._read((v[0], v[1], BOUNDARY), v), 1)
        return new

    def _is_bag(self, v: Variable) -> bool:
        """Whether a variable is completed item by item."""
        return v[0] in self.bag_of and v[1] not in self._single

    def _complete_bag(self, v: Variable, bag: int) -> Costs:
        """G of a state of a bag, in a canonical pool."""
        q, n, kind = v
        residuals = self.pool.residuals
        onward = self._after_item(bag, MORE)
        needed = residuals.needed(bag, n)
        new: Costs = {}
        if len(needed) > _NEEDED_TOGETHER:
            # at boundaries costs add up; elsewhere the first item leads to a boundary
            skipped = needed[:-_NEEDED_TOGETHER] if (q, kind) == (onward, BOUNDARY) else needed[:1]
            sums = [
                self._read((q, self._only(bag, i), kind), v).get(BOUNDARY, NEVER) for i in skipped
            ]
            left = residuals.plain(bag, residuals.after(bag, n, skipped))
            rest = self._read((onward, left, BOUNDARY), v)
            _lower(new, rest, sum(sums))
            return new
        for member, step in residuals.row(bag, n).steps():
            if not step & CANONICAL:
                continue
            costs = self._read((q, self._only(bag, member), kind), v)
            if step & COMPLETE:
                _lower(new, costs, 0)
                continue
            left = residuals.plain(bag, step >> 3)
            for y, cost in list(costs.items()):
                _lower(new, self._read((onward, left, y), v), cost)
        return new

    def _only(self, bag: int, member: int) -> int:
        number = self.pool.residuals.only(bag, member)
        self._single.add(number)
        return number

    def _after_item(self, bag: int, flags: int) -> int:
        return int(self.pool.program.bag_return[4 * bag + flags])

    def _resume(self, v: Variable) -> Costs:
        """G of an automaton state made in a walk: its frames lead down to where the rule began."""
        _, state, kind = v
        new: Costs = {}
        for q, n, frame in self.pool.items(state):
            if q == 0:
                _lower(new, {kind: 0}, 0)
                continue
            if not self._continues(q, kind):
                continue
            costs = self._read((q, n, kind), v)
            if frame == END:
                _lower(new, costs, 0)
                continue
            for y, cost in list(costs.items()):
                _lower(new, self._read((_STATE, frame, y), v), cost)
        return new

    # -- what outlives the states ---------------------------------------------------------------

    @property
    def is_upper_bound(self) -> bool:
        """Whether numbers found so far may be larger than the least."""
        return self.has_wide_ends

    def take_over(self, other: _Search) -> None:
        """Goes on with the numbers of another search, in a pool with other states."""
        self._single = other._single
        self.has_wide_ends, self.is_cut = other.has_wide_ends, other.is_cut
        for v, costs in other._values.items():
            if v[0] != _STATE:
                self._order[v] = -self._added
                self._added += 1
                self._values[v] = costs
                self._readers[v] = set()
                self._bases[v] = _Base(costs, (), False)

    # -- ends inside tokens --------------------------------------------------------------------

    def _after(self, q: int) -> Flags:
        """The bytes after a state's rule for which places inside tokens are told apart.

        Free text that may end anywhere and be followed by nearly anything can end inside tokens in
        tens of thousands of different ways.  There only ends at a token's boundary count: an upper
        bound, and one that holds for all states alike, so that tokens still lower it.
        """
        rule = int(self._rule_of[q])
        known = self._follow.get(rule)
        if known is None:
            bits = 0
            for following in self._returns.sets[rule]:
                if self._is_wide(rule, as_flags(self.pool.program, following)):
                    self.has_wide_ends = True
                else:
                    bits |= following
            known = self._follow[rule] = as_flags(self.pool.program, bits)
        return known

    def _is_wide(self, rule: int, following: Flags) -> bool:
        if not self._rules.spells_bytes or following.sum() <= _WIDE_BYTES:
            return False
        states = np.flatnonzero(self._rule_of == rule)[: MAX_SHAPE + 1].tolist()
        if len(states) > MAX_SHAPE:
            return False
        for q in states:
            shape = self._rules.masks.shape(q)
            if shape is None:
                return False
            self._spend(_WALKED * self._trie.node_count)
            exits = lexeme_of(self._rules.vocabulary, shape).exit_nodes
            children, _ = self._positions.entries(exits, following)
            if len(np.unique(self._positions.entry_keys(children))) > _WIDE_WAYS:
                return True
        return False

    def _continues(self, q: int, kind: Kind) -> bool:
        """Whether a rule may go on from a place inside a token that a called rule ended at."""
        if kind == BOUNDARY:
            return True
        known = self._goes_on.get((q, kind))
        if known is None:
            onward = as_flags(self.pool.program, self._returns.onward[q])
            lacking = onward & ~self._positions.follow(kind)
            known = self._goes_on[q, kind] = not lacking.any()
        return known

    # -- one token -----------------------------------------------------------------------------

    def _base(self, v: Variable) -> _Base:
        q, n, kind = v
        node = self._positions.node(kind)
        closes = kind != BOUNDARY and bool(self._positions.ends_token[node])
        state = self.pool.intern([(q, n, END)])
        near = self._rules.texts.walk_within(self.pool, state, node, _DIRECT)
        if near is None:
            self._spend(_WALKED * _DIRECT)
            wide = self._plain(q, n) if kind == BOUNDARY else None
            if wide is not None:
                return wide
            self._spend(_WALKED * (int(self._trie.skip[node]) - node))
            near = self.pool.walk_from(self._trie, state, node)
        else:
            self._spend(_STEPPED + _WALKED * len(near[0]))
        _, states, exits = near
        kinds = self._positions.kinds(exits, self._after(q))
        at_once = len(exits) > 0 and exits[0] == node
        if at_once:  # the rule ends where it begins: at this very position
            kinds[0] = kind
        return _Base(_exit_costs(kinds), tuple(np.unique(states).tolist()), closes)

    def _plain(self, q: int, n: int) -> _Base | None:
        """The same from the vocabulary's stored walk, for states of call-free rules."""
        shape = self._rules.masks.shape(q)
        if shape is None:
            return None
        self._spend(_WALKED * self._trie.node_count)
        lexeme = lexeme_of(self._rules.vocabulary, shape)
        program = self.pool.program
        states = np.array(shape.states)
        exits = lexeme.exit_groups(self._positions, self._after(q))
        out, fit = counted(program, states[exits[:, 1]], n + exits[:, 2])
        fit &= out >= program.accept_from[states[exits[:, 1]]]
        costs = _exit_costs(exits[fit, 0])
        if costs.keys() >= self._ways_out(q, shape) and costs.get(BOUNDARY, 1) <= 1:
            # every way out is open within one token: staying inside cannot be better
            return _Base(costs, (), False)
        pairs = lexeme.ends.groups
        left, fits = counted(program, states[pairs[:, 0]], n + pairs[:, 1])
        ends = {
            self.pool.intern([(int(states[s]), int(m), END)])
            for s, m in zip(pairs[fits, 0].tolist(), left[fits].tolist(), strict=True)
        }
        return _Base(costs, tuple(sorted(ends)), False)

    def _ways_out(self, q: int, shape: LexemeShape) -> set[Kind]:
        """Every kind in which a call-free rule can be left at all, bounds on counts aside."""
        known = self._universe.get(q)
        if known is None:
            known = self._universe[q] = set().union(*(self._exits_of(s) for s in shape.states))
        return known

    def _exits_of(self, q: int) -> set[Kind]:
        """Kinds in which one token leaves a call-free rule (kept: walks are dear)."""
        known = self._exits.get(q)
        if known is None:
            shape = self._rules.masks.shape(q)
            assert shape is not None, "states of one rule are all plain or none is"
            lexeme = lexeme_of(self._rules.vocabulary, shape)
            exits = lexeme.exit_groups(self._positions, self._after(q))
            known = self._exits[q] = set(_exit_costs(exits[:, 0]))
        return known


class Distances:
    """Fewest tokens to acceptance for the states of one automaton, and masks under a budget.

    Numbers are exact where a search for the fewest tokens takes no more work than is allowed; else they
    are upper bounds, each lowered by some token, so that a budget can always be met: the tokens that
    write a shortest text.

    Items that come in any order (bags) can be completed in so many orders that the least number of
    tokens would take forever to find.  There, where every byte is a token, numbers are those of
    *canonical* completions (:class:`grammars.compiling.bags.Residuals`), found in a pool of their own,
    to which states of the automaton are translated item by item.  Bytes that occur inside longer tokens
    only are another matter, since canonical completions might not be spelled where others can.

    The automaton's lock is held by the caller.

    Attributes:
        texts: shortest texts.
    """

    def __init__(self, rules: RulesView) -> None:
        self._rules = rules
        self._pool = rules.pool
        self._trie = rules.vocabulary.trie
        self._fewest: dict[int, int] = {}
        self._inexact: set[int] = set()
        self._profiles: dict[int, Profile] = {}
        self._worst: dict[int, tuple[int, int]] = {}
        self._longest = rules.vocabulary.trie.max_depth
        self._last_split: tuple[int, _Split | None] = DEAD, None
        self._times = 0  # how often searches were begun again
        self._overlapping: WeakKeyDictionary[Wide, bool] = WeakKeyDictionary()
        self._images: dict[int, int] = {DEAD: DEAD, END: END}
        self._texts = self.texts = rules.texts

    # -- queries -------------------------------------------------------------------------------

    def fewest(self, state: int) -> int:
        """Fewest tokens from a state to an accepting one (``NEVER`` if there is no way).

        Or tokens with which it can be done, see :meth:`is_exact`.

        Raises:
            LimitExceeded: if the shortest text has millions of bytes, or if a vocabulary without single
                bytes does not write a shortest text and the search for another reaches its limit.
        """
        known = self._fewest.get(state)
        if known is None:
            known = self._find(state, self._rules.limits.max_distance_work)
        return known

    def _find(self, state: int, work: int) -> int:
        found, complete = self._texts.tokens(state), False
        if found <= 1:  # nothing is shorter than one token, unless the text may end here
            complete = True
        elif not self._is_idle:
            least, complete = self._searched(state, work)
            found = min(found, least)
        if found == NEVER and not complete and not self._rules.spells_bytes:
            found, complete = self._exhaustive(state), True
        exact = complete and (found <= 1 or not (self._is_canonical or self._search.is_upper_bound))
        self._fewest[state] = found
        if exact:
            self._inexact.discard(state)
        else:
            self._inexact.add(state)
        return found

    def _searched(self, state: int, work: int) -> tuple[int, bool]:
        search = self._search
        return search.fewest(self._translated(state) if search.bag_of else state, work)

    def _exhaustive(self, state: int) -> int:
        """The same where tokens do not write a shortest text: only a search tells whether any does."""
        self._go_on()
        found, complete = self._searched(state, _ENDLESS)
        if not complete:
            limit = self._rules.limits.max_search_states
            raise LimitExceeded("max_search_states", limit, "finding the shortest completion")
        return found

    def spelling(self, state: int) -> list[int] | None:
        """So many tokens that end the text, if those of the shortest text are (one of) the fewest found."""
        return (
            self._texts.spelling(state) if self._texts.tokens(state) == self.fewest(state) else None
        )

    def refine(self, state: int, work: int) -> int:
        """Searches further where a number is an upper bound; all numbers may become smaller."""
        if self.is_exact(state):
            return self.fewest(state)
        self._go_on()
        return self._find(state, work)

    def _go_on(self) -> None:
        """Lets searches begin again; all numbers may become smaller."""
        self._times += 1
        self._is_hopeless = False
        self._search.go_on()
        for table in (self._fewest, self._profiles, self._worst):
            table.clear()
        self._inexact.clear()

    def is_exact(self, state: int) -> bool:
        """Whether ``fewest`` is known to be the least number, not an upper bound."""
        return self.fewest(state) <= 1 or state not in self._inexact

    def approximations(self) -> tuple[str, ...]:
        """In which cases numbers are upper bounds, a sentence each."""
        search = self.__dict__.get("_search")
        out = [_ANY_ORDER] if self._is_canonical else []
        if search is not None and search.has_wide_ends:
            out.append(_WIDE_ENDS)
        if self.__dict__.get("_is_hopeless") or (search is not None and search.is_cut):
            out.append(_CUT_SHORT)
        return tuple(out)

    @property
    def _is_canonical(self) -> bool:
        """Whether bags are completed in one order only, for the sake of a number at all."""
        return bool(self._pool.program.bags) and self._rules.spells_bytes

    def trim(self) -> None:
        """Forgets the states of the automaton, whose numbers are about to be used again.

        Numbers of a search hold on: a budget may count on them.
        """
        old = self.__dict__.get("_search")
        for name in ("_search", "_exact", "_canonical"):
            self.__dict__.pop(name, None)
        for table in (self._fewest, self._profiles, self._worst):
            table.clear()
        self._inexact.clear()
        self._last_split = DEAD, None
        self._images = {DEAD: DEAD, END: END}
        self._texts.forget_states()
        if old is not None:
            self._search.take_over(old)

    @cached_property
    def _search(self) -> _Search:
        return self._canonical if self._is_canonical else self._exact

    def reaches_end(self, state: int) -> bool:
        """Whether tokens can complete a text from here."""
        if self._texts.tokens(state) < NEVER:
            return True
        if self._pool.program.bags:  # much sooner found than the fewest
            found, _ = self._canonical.fewest(self._translated(state), _ENDLESS)
            if found < NEVER:
                return True
        return self.fewest(state) < NEVER

    @cached_property
    def _exact(self) -> _Search:
        return _Search(self._rules, self._pool)

    # -- canonical completions -----------------------------------------------------------------

    @cached_property
    def _canonical(self) -> _Search:
        pool = self._pool
        own = StatePool(
            pool.program,
            self._rules.vocabulary,
            pool.limits,
            canonical=True,
            residuals=pool.residuals,
        )
        return _Search(self._rules, own)

    def _translated(self, state: int) -> int:
        """The state of the canonical pool with the same items, frames below first."""
        own = self._canonical.pool
        images = self._images
        stack = [state]
        while stack:
            at = stack[-1]
            items = self._pool.items(at)
            waiting = [frame for _, _, frame in items if frame not in images]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if at not in images:
                images[at] = own.intern((*self._as_canonical(q, n), images[f]) for q, n, f in items)
        return images[state]

    def _as_canonical(self, q: int, n: int) -> tuple[int, int]:
        """Where a bag may end and go on, its canonical completion ends; else needs matter."""
        at = self._last_states.get(q)
        if at is not None:
            return at, 0
        bag = self._canonical.bag_of.get(q)
        return (q, n) if bag is None else (q, self._pool.residuals.plain(bag, n))

    @cached_property
    def _last_states(self) -> dict[int, int]:
        returns = self._pool.program.bag_return.reshape(-1, 4)
        both, complete = COMPLETE | MORE, COMPLETE
        return dict(zip(returns[:, both].tolist(), returns[:, complete].tolist(), strict=True))

    # -- budgets -------------------------------------------------------------------------------

    def mask(self, state: int, tokens_left: int) -> Int32:
        """Tokens after which text and EOS fit into ``tokens_left - 1`` more; EOS if it fits."""
        rules = self._rules
        if tokens_left <= 0:
            return np.zeros_like(rules.eos_row)
        allowed = tokens_left - 2  # this token and EOS taken off
        if self.dearest(state)[0] <= allowed:
            return rules.mask_of(state)
        profile = self.profile(state)
        if profile.worst > allowed:
            self._search_among(profile, allowed)
        if profile.worst <= allowed:
            return rules.mask_of(state)
        row = profile.mask(allowed, self._pool, len(rules.eos_row))
        return row | rules.eos_row if self._pool.accepting(state) else row

    def _search_among(self, profile: Profile, allowed: int) -> None:
        """Has a search tell of tokens that shortest texts are too long for."""
        if self._rules.spells_bytes and not self._is_idle:
            profile.search(self.fewest, allowed)

    def profile(self, state: int) -> Profile:
        """What each allowed token of a state costs, the EOS ids aside, by shortest texts (or less)."""
        known = self._profiles.get(state)
        if known is None:
            if len(self._profiles) >= self._rules.limits.max_cached_masks:
                self._profiles.pop(next(iter(self._profiles)))
            times = -1
            while known is None or times != self._times:  # all costs as they are in the end
                times = self._times
                known = Profile(self._make_profile(state))
            self._profiles[state] = known
        return known

    def dearest(self, state: int) -> tuple[int, int]:
        """No fewer tokens than are needed after any allowed one, and the forms of the texts then.

        The forms are a sum of those of :meth:`ShortestTexts.forms_of`.
        """
        known = self._worst.get(state)
        if known is None:
            self._texts.forms = 0
            most = self._find_dearest(state)
            known = self._worst[state] = most, self._texts.forms
        return known

    def _find_dearest(self, state: int) -> int:
        split = self._split(state) if self._is_wide(state) else None
        if split is None:
            found = self._texts.dearest_token(state, _DIRECT)
            if found is not None:
                return found
            split = self._split(state)
        return NEVER if split is None else self._dearest_of_parts(split)  # a profile tells

    def _is_wide(self, state: int) -> bool:
        """Whether a walk from a state is known to take long, as its mask was asked for."""
        wide = self._pool.wide
        return any(wide[q] >= k.WIDE for q, _, _ in self._pool.items(state))

    def _dearest_of_parts(self, split: _Split) -> int:
        """No fewer tokens than are needed after any allowed one; ``NEVER`` if it would take too long."""
        texts = self._texts
        q, n, frame = split.item
        most = 0
        if split.near is not None:
            most = texts.dearest_state(split.near[1])
        if texts.is_far(q, n, self._longest):
            states = texts.reachable(q)
            left = np.full(len(states), n, np.int32)
        elif self._rules.masks.shape(q) is None:
            return NEVER
        else:
            states, left = self._inside(split).after
        most = max(most, texts.dearest_of(states, left, frame))
        if frame == END:
            return most
        return max(most, texts.dearest_token_after(frame, split.groups))

    def _split(self, state: int) -> _Split | None:
        """The same as :meth:`_find_split`, which is asked for a state's largest number and its profile."""
        if self._last_split[0] != state:
            self._last_split = state, self._find_split(state)
        return self._last_split[1]

    def _find_split(self, state: int) -> _Split | None:
        """A state whose configurations are one of a lexeme that allows much, and others that allow little.

        ``None`` if it is not so, or if some token both stays in the lexeme and leaves it: then where a
        token leads is not told by parts.
        """
        items = self._pool.items(state)
        wide, narrow = items, []
        if len(items) > 1:
            wide = [item for item in items if self._pool.wide[item[0]] == k.WIDE]
            if len(wide) != 1:
                wide = [item for item in items if self._allows_much(item)]
            narrow = [item for item in items if item not in wide]
        if len(wide) != 1:
            return None
        q, n, frame = wide[0]
        if not self._rules.masks.is_plain(q) or (frame != END and self._overlaps(q, n)):
            return None
        near = None
        if narrow:
            beside = self._texts.walk_within(
                self._pool, state, 0, _DIRECT, self._pool.intern(narrow)
            )
            if beside is None:
                return None
            near = beside[:2]
        groups = self._rules.masks.wide(q, n).groups
        return _Split(wide[0], groups, near)

    def _allows_much(self, item: tuple[int, int, int]) -> bool:
        alone = self._pool.intern([item])
        return self._texts.walk_within(self._pool, alone, 0, _DIRECT) is None

    def _inside(self, split: _Split) -> _Inside:
        """Where tokens lead that stay in the lexeme."""
        q, n, _ = split.item
        shape = self._rules.masks.shape(q)
        assert shape is not None, "asked for before"
        lexeme = lexeme_of(self._rules.vocabulary, shape)
        states, pairs = np.array(shape.states, np.int32), lexeme.ends.groups
        left, fits = counted(self._pool.program, states[pairs[:, 0]], n + pairs[:, 1])
        return _Inside(lexeme, fits, (states[pairs[fits, 0]], left[fits].astype(np.int32)))

    def _overlaps(self, q: int, n: int) -> bool:
        wide = self._rules.masks.wide(q, n)
        known = self._overlapping.get(wide)
        if known is None:
            known = is_token_below(self._pool, wide.mask, wide.groups)
            self._overlapping[wide] = known
        return known

    def _make_profile(self, state: int) -> list[Part]:
        """Each allowed token's cost afterwards."""
        split = self._split(state) if self._is_wide(state) else None
        if split is None:
            near = self._texts.ends(state, _DIRECT)
            if near is not None:
                return [self._ended(near)]
            split = self._split(state)
        if split is None or self._rules.masks.shape(split.item[0]) is None:
            nodes, states, _ = self._pool.walk_from(self._trie, state, 0)
            return [self._ended(ends_at(nodes, states))]
        parts: list[Part] = [self._stays(split)]
        if split.item[2] != END:
            after = self._texts.ends(split.item[2], _ENDLESS, split.groups)
            assert after is not None, "there is no end of fuel"
            parts.append(self._ended(after))
        if split.near is not None:
            parts.append(self._ended(ends_at(*split.near)))
        return parts

    @property
    def _is_idle(self) -> bool:
        """Whether nothing but the tokens of shortest texts will be told."""
        return self._is_hopeless or self._search.is_idle

    @cached_property
    def _is_hopeless(self) -> bool:
        """Whether a search would take more work than is allowed before it begins."""
        states = self._pool.program.states
        return (
            self._rules.spells_bytes and _PREPARED * states > self._rules.limits.max_distance_work
        )

    def _costs(self, states: Int32) -> npt.NDArray[np.int64]:
        """Tokens of shortest texts from many states; where they are not written, the fewest."""
        if self._rules.spells_bytes:
            return self._texts.tokens_of(states)
        distinct, inverse = np.unique(states, return_inverse=True)
        return np.array([self.fewest(s) for s in distinct.tolist()], np.int64)[inverse]

    def _ended(self, ends: Ends) -> Part:
        return _EndsPart(ends, self._costs(ends.states))

    def _stays(self, split: _Split) -> Part:
        q, n, frame = split.item
        size = self._rules.vocabulary.size

        def inside() -> _Inside:
            return self._inside(split)

        if self._texts.is_far(q, n, self._longest):
            places = self._texts.reachable(q)
            states = self._framed(places, np.full(len(places), n, np.int32), frame)
            mask = self._rules.masks.wide(q, n).mask
            return _StaysPart(states, self._costs(states), inside, size, places, mask)
        states = self._framed(*inside().after, frame)
        return _StaysPart(states, self._costs(states), inside, size)

    def _framed(self, qs: Int32, ns: Int32, frame: int) -> Int32:
        """Configurations on one frame as states."""
        pairs = zip(qs.tolist(), ns.tolist(), strict=True)
        return np.array([self._pool.intern([(q, n, frame)]) for q, n in pairs], np.int32)


def _bag_states(program: Program) -> dict[int, int]:
    """The bag of each state of a bag's rule that still has an item to take."""
    rules = program.rule_of[program.bag_return[COMPLETE::4]].tolist()
    bag_of_rule = {rule: bag for bag, rule in enumerate(rules)}
    done = set(program.bag_return[COMPLETE::4].tolist())
    return {
        q: bag_of_rule[rule]
        for q, rule in enumerate(program.rule_of.tolist())
        if rule in bag_of_rule and q not in done
    }


def _lower(costs: Costs, others: Costs, more: int) -> None:
    for kind, cost in others.items():
        if cost + more < costs.get(kind, NEVER):
            costs[kind] = cost + more


def _exit_costs(kinds: npt.NDArray[np.integer[Any]]) -> Costs:
    """Exits by kind, at no cost; where only the token's end remains, a boundary one token later."""
    costs = dict.fromkeys(np.unique(kinds[kinds >= 0]).tolist(), 0)
    if (kinds == -2).any():
        costs.setdefault(BOUNDARY, 1)
    return costs
