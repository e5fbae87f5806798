"""Formulas to alternatives: the disjunctive normal form of what several schemas demand together.

Conjunctions are gathered first, alternatives are multiplied out last, and what turns out impossible
on the way is dropped at once.  A negated schema usually has many alternatives, so it is looked at
only if it matters: where what is already demanded excludes the schema, its negation adds nothing
(that is what keeps ``oneOf`` cheap: its alternatives mostly exclude each other).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Final

from grammars.errors import LimitExceeded
from grammars.frontends.json_schema.assertions import (
    ALL_TYPES,
    FREE,
    NOTHING,
    All,
    At,
    Branch,
    Clause,
    Demands,
    Either,
    Formula,
    Leaf,
    Need,
    Not,
    Objects,
    One,
    Region,
    Shape,
    Strings,
    Two,
    Value,
    conjunction,
    forbids,
    join,
    negation,
)
from grammars.frontends.json_schema.clauses import Chain, Clauses
from grammars.frontends.json_schema.document import below
from grammars.frontends.json_schema.negation import opposite
from grammars.frontends.json_schema.plain import PlainObject, PlainReader
from grammars.frontends.json_schema.reading import Reader
from grammars.frontends.json_schema.strings import (
    has_shape,
    listed_strings,
    plainly_possible,
)
from grammars.frozen import quickly_made, replace
from grammars.limits import Limits
from grammars.work import spend

_DEPTH: Final = 3
"""How deep below a value it is looked whether anything can stand there."""
_MOST_CASES: Final = 64
"""Values of a property that are looked at one by one."""
_MOST_LOOKUPS: Final = 100
"""Combinations of patterns of which it is found out whether any string has them all."""
_EFFORT: Final = 500
"""Partial alternatives looked at to find out whether something is possible."""
_STEPS_PER_BRANCH: Final = 3
"""Partial alternatives looked at for each one that ``max_schema_branches`` allows."""

_UNITS: Final = 50
"""Work of one partial alternative, see :mod:`grammars.work`."""
_WORK_PER_BRANCH: Final = 12
"""Partial alternatives looked at in a whole schema for each one that ``max_schema_branches`` allows."""

MOST_MULTIPLIED = 100
"""Alternatives that are multiplied out in any case, before clauses are tried."""
_MOST_COMBINED: Final = 16
"""Combinations that are multiplied out where clauses would do as well."""


@quickly_made
@dataclass(frozen=True, slots=True)
class _Partial:
    """An alternative in the making.

    Attributes:
        todo: formulas to look at, each with its chain.
        choices: alternatives put off.
        negated: negated schemas put off further.
        seen: formulas that have been taken in.
        leaves: the assertions that make up the branch, one by one.
        screened: whether negated schemas that are excluded anyway have been dropped.
    """

    branch: Branch
    todo: tuple[tuple[Formula, Chain], ...]
    choices: tuple[tuple[Either | One | Two, Chain], ...] = ()
    negated: tuple[tuple[At, Chain], ...] = ()
    seen: frozenset[Formula] = frozenset()
    leaves: tuple[Branch, ...] = ()
    screened: bool = False


class Brancher:
    """Multiplies formulas out."""

    def __init__(self, reader: Reader, plain: PlainReader, limits: Limits) -> None:
        self._reader = reader
        self._plain_reader = plain
        self._limits = limits
        self._known: dict[Demands, list[Branch]] = {}
        self._possible: dict[Demands, bool] = {}
        self._strings: dict[Strings, bool] = {}
        self._listed: dict[At, dict[str, tuple[Value, ...]]] = {}
        self._steps = 0
        self._clashes: dict[Demands, tuple[tuple[str, ...], ...]] = {}
        self._dead: list[tuple[Branch, ...]] = []
        self._met: dict[tuple[Branch, Formula], bool] = {}
        self._clauses = Clauses(reader.meaning, self._positioned)
        self._puts_off = False
        self._most = 0
        self._work = 0
        self._gave_up = False

    def branches(self, demands: Demands) -> list[Branch]:
        """The alternatives that all demands together leave, impossible ones dropped where plain.

        Raises:
            GrammarError: for references that only go in a circle, or negate themselves.
            LimitExceeded: if there are more than ``max_schema_branches``.
        """
        known = self._known.get(demands)
        if known is None:
            known = self._known[demands] = self._multiplied(demands)
            if not known:
                self._clashes[demands] = tuple(dict.fromkeys(map(self._smallest, self._dead[:4])))
        return known

    def multiplied_out(self, demands: Demands) -> list[Branch]:
        """The same without needs, whatever it takes (up to the limit)."""
        self._start(self._limits.max_schema_branches)
        self._puts_off = False
        found = self._expand(FREE, demands, _DEPTH, self._limited)
        known = self._known[demands] = list(dict.fromkeys(found))
        return known

    def _multiplied(self, demands: Demands) -> list[Branch]:
        """Alternatives multiplied out where that is soon done; else some of them put off."""
        self._met.clear()
        self._start(min(MOST_MULTIPLIED, self._limits.max_schema_branches))
        plain = self._plain(demands)
        if plain is not None:
            branch = self._checked(plain, _DEPTH)
            if branch is not None:
                return [branch]  # else all is done again, to find out what clashes
        self._puts_off = False
        found = list(self._expand(FREE, demands, _DEPTH, self._is_little))
        if not self._gave_up:
            return list(dict.fromkeys(found))
        self._start(self._limits.max_schema_branches)
        self._puts_off = True
        try:
            found = list(self._expand(FREE, demands, _DEPTH, self._limited))
        except LimitExceeded:
            return self.multiplied_out(demands)
        if any(_counts_needs(branch.objects) for branch in found):
            return self.multiplied_out(demands)
        return list(dict.fromkeys(found))

    def _start(self, most: int) -> None:
        self._steps, self._most, self._gave_up = 0, most, False
        self._dead.clear()

    def _is_little(self, waiting: int, _part: _Partial) -> bool:
        """Counts what is looked at; gives up where it is more than a little."""
        self._steps += 1
        self._gave_up = waiting > self._most or self._steps > self._most * _STEPS_PER_BRANCH
        return not self._gave_up

    def clashes(self, demands: Demands) -> tuple[tuple[str, ...], ...]:
        """Where demands without any alternative are impossible: sets of places that clash."""
        return self._clashes.get(demands, ())

    def _smallest(self, leaves: tuple[Branch, ...]) -> tuple[str, ...]:
        """The places of assertions of which none can be left out for them to clash."""
        kept = list(leaves)
        for leaf in leaves:
            fewer = [x for x in kept if x is not leaf]
            together = Branch()
            for x in fewer:
                together = together & x
            if fewer and self._checked(together, _DEPTH) is None:
                kept = fewer
        return tuple(dict.fromkeys(source for x in kept for source in x.sources))

    def possible(self, demands: Demands, depth: int = _DEPTH) -> bool:
        """``False`` only if nothing meets the demands."""
        if not demands:
            return True
        known = self._possible.get(demands) if depth > 0 else None
        if known is not None:
            return known
        if forbids(demands):
            return False
        if depth <= 0:
            return True
        if self._is_plainly_possible(demands, depth):
            return True
        self._possible[demands] = True  # what goes in a circle is not looked into
        if len(demands) == 1 and self._is_plain(demands[0]):
            return True
        plain = self._plain(demands)
        known = plain is not None and self._checked(plain, depth - 1) is not None
        known = known or self._some(FREE, demands, depth - 1)  # which notes what clashes
        if known and depth < _DEPTH:
            del self._possible[demands]  # not looked at closely enough to be kept
        else:
            self._possible[demands] = known
        return known

    def all_possible(self, values: Iterable[Demands]) -> bool:
        """Whether no value is known to be impossible; if one is, that is forgotten again.

        So whoever asks for all alternatives next finds what clashes there.
        """
        known = len(self._possible)
        if all(map(self.possible, values)):
            return True
        for demands in [d for d, fine in islice(self._possible.items(), known, None) if not fine]:
            del self._possible[demands]
        return False

    def _is_plainly_possible(self, demands: Demands, depth: int) -> bool:
        """Whether a plain schema has a value; ``False`` if it takes a closer look to tell."""
        if len(demands) != 1 or type(demands[0]) is not At:
            return False
        meaning = self._plain_reader.meaning(demands[0])
        if not meaning:
            return meaning is not None
        at = meaning[0]
        assert isinstance(at, At)
        if not self._plain_reader.surely_possible(at):
            return False
        self._possible[demands] = True  # what goes in a circle is not looked into
        read = self._plain_reader.schema(at)
        if type(read) is not PlainObject or not read.required:
            return True
        self._work += 1
        spend(_UNITS)
        fine = all(self.possible(read.value(name), depth - 1) for name in read.required)
        if not fine or depth < _DEPTH:
            del self._possible[demands]
        return fine

    def _is_plain(self, demand: Formula) -> bool:
        """Whether a schema has a value at a glance: nothing that it says can clash."""
        if not isinstance(demand, At):
            return False
        meaning = self._reader.meaning(demand)
        parts = meaning.items if isinstance(meaning, All) else (meaning,)
        numbers = strings = 0
        for part in parts:
            if not isinstance(part, Leaf):
                return False
            branch = part.branch
            numbers += not branch.numbers.is_free
            strings += bool(branch.strings.shapes or branch.strings.low) or (
                branch.strings.high is not None
            )
            if branch.values is not None or branch.excluded or branch.numbers.is_empty:
                return False
            if not branch.types or strings > 1 or numbers > 1:
                return False
            if branch.strings.shapes and (branch.strings.low or branch.strings.high is not None):
                return False
            o, a = branch.objects, branch.arrays
            if o.required or o.some or o.low or o.needs:
                return False
            if a.low or a.contains or a.unique is False or a.clash:
                return False
        types = ALL_TYPES.intersection(
            *(part.branch.types for part in parts if isinstance(part, Leaf))
        )
        return bool(types)

    def _plain(self, demands: Demands) -> Branch | None:
        """The one alternative of schemas that leave no choice; ``None`` if they do, or clash."""
        branch = FREE
        for demand in demands:
            if not isinstance(demand, At):
                return None
            meaning = self._reader.meaning(demand)
            if not isinstance(meaning, All):
                return None
            for item in meaning.items:
                if not isinstance(item, Leaf):
                    return None
                branch = branch & self._positioned(item.branch, (demand,))
        if not branch.types:
            return None
        self._work += 1
        spend(_UNITS)
        return branch

    # -- multiplying out -----------------------------------------------------------------------

    def _expand(
        self,
        start: Branch,
        demands: Demands,
        depth: int,
        count: Callable[[int, _Partial], bool],
    ) -> Iterator[Branch]:
        """Alternatives one by one, until ``count`` (of alternatives waiting) says to stop."""
        stack = [_Partial(start, tuple((f, ()) for f in demands))]
        while stack:
            part = stack.pop()
            if not count(len(stack), part):
                return
            gathered = self._gather(part)
            if gathered is None:
                continue
            branch = self._checked(gathered.branch, depth)
            if branch is None:
                self._dead.append(gathered.leaves)
                continue
            if not gathered.choices and not gathered.negated:
                yield branch
                continue
            if branch is not gathered.branch:
                gathered = replace(gathered, branch=branch)
            if gathered.choices:
                stack.extend(reversed(self._choose(gathered)))
            else:
                stack.extend(reversed(self._negate(gathered, depth)))

    def _limited(self, waiting: int, part: _Partial) -> bool:
        """Counts what is looked at; complains where it is too much."""
        limit = self._limits.max_schema_branches
        self._steps += 1
        if waiting > limit or self._steps > limit * _STEPS_PER_BRANCH:
            raise self._too_many(part)
        return True

    def _too_many(self, part: _Partial) -> LimitExceeded:
        chain = part.todo[0][1] if part.todo else ()
        return LimitExceeded(
            "max_schema_branches",
            self._limits.max_schema_branches,
            "multiplying out the combinations of this schema",
            pointer=chain[-1].place if chain else (part.branch.sources or (None,))[-1],
        )

    def _some(self, start: Branch, demands: Demands, depth: int) -> bool:
        """Whether there is an alternative, or that could not be found out with little effort."""
        steps = 0

        def count(_waiting: int, _part: _Partial) -> bool:
            nonlocal steps
            steps += 1
            return steps <= _EFFORT

        return any(True for _ in self._expand(start, demands, depth, count)) or steps > _EFFORT

    def _meets(self, branch: Branch, formula: Formula, depth: int = 1) -> bool:
        """Whether a statement may hold in a branch, looking no deeper than one level.

        Rivals ask that of each other again and again, in every alternative of what else there is.
        """
        if depth < 1:
            return self._some(branch, (formula,), depth)
        known = self._met.get((branch, formula))
        if known is None:
            known = self._met[branch, formula] = self._some(branch, (formula,), 1)
        return known

    def _few(self, demands: Demands, depth: int) -> list[Branch]:
        """The alternatives, or none at all if there are many."""
        steps = 0

        def count(_waiting: int, _part: _Partial) -> bool:
            nonlocal steps
            steps += 1
            return steps <= _EFFORT

        found = list(self._expand(FREE, demands, depth, count))
        return found if steps <= _EFFORT else []

    def _gather(self, part: _Partial) -> _Partial | None:
        """Takes in everything that leaves no choice; ``None`` if it is contradictory."""
        self._work += 1
        spend(_UNITS)
        if self._work > self._limits.max_schema_branches * _WORK_PER_BRANCH:
            raise self._too_many(part)
        branch, seen, leaves = part.branch, set(part.seen), list(part.leaves)
        todo = list(reversed(part.todo))
        choices, negated = list(part.choices), list(part.negated)
        denied = {formula.item for formula in seen if isinstance(formula, Not)}
        while todo:
            formula, chain = todo.pop()
            if isinstance(formula, Not):
                if formula.item in seen:
                    return None
            elif denied and formula in denied:
                return None
            # told apart by hand, the frequent ones first: this is where most of the time goes
            if isinstance(formula, At):
                if formula in seen:
                    continue
                todo.append((self._reader.meaning(formula), (*chain, formula)))
            elif isinstance(formula, One | Two):
                choices.append((formula, chain))
            elif formula in seen:
                continue
            elif isinstance(formula, Leaf):
                leaf = self._positioned(formula.branch, chain)
                branch = branch & leaf
                leaves.append(leaf)
                if not branch.types:
                    self._dead.append(tuple(leaves))
                    return None
            elif isinstance(formula, All):
                todo.extend((item, chain) for item in reversed(formula.items))
                continue  # not itself something to contradict
            elif isinstance(formula, Either):
                if not formula.items:
                    return None
                choices.append((formula, chain))
            elif isinstance(formula, Not):
                denied.add(formula.item)
                if isinstance(formula.item, At):
                    negated.append((formula.item, chain))
                else:
                    todo.append((_pushed(formula.item), chain))
            seen.add(formula)
        screened = part.screened and len(negated) == len(part.negated)
        return _Partial(
            branch, (), tuple(choices), tuple(negated), frozenset(seen), tuple(leaves), screened
        )

    def _positioned(self, leaf: Branch, chain: Chain) -> Branch:
        """The same with positions of named keys in the order of reading, references followed.

        A position has a number for each schema on the way, which says where in it the way goes on.
        """
        if not leaf.objects.placed:
            return leaf
        position = self._reader.documents.position
        way = []
        for at, following in pairwise(chain):
            inside = following.place.startswith(at.place + "/")
            way.append(position(following.place if inside else below(at.place, "$ref")))
        placed = tuple((name, (*way, position(place))) for name, place in leaf.objects.placed)
        o = leaf.objects
        objects = Objects(o.properties, o.every, o.some, o.required, o.low, o.high, placed, o.needs)
        return Branch(
            leaf.types,
            leaf.numbers,
            leaf.strings,
            leaf.arrays,
            objects,
            leaf.values,
            leaf.excluded,
            leaf.sources,
        )

    def _choose(self, part: _Partial) -> list[_Partial]:
        """One alternative each for the first choice that is not made already."""
        if put_off := self._with_clauses(part):
            return put_off
        (choice, chain), rest = part.choices[0], part.choices[1:]
        if isinstance(choice, One):
            return self._one(replace(part, choices=rest), choice, chain)
        if isinstance(choice, Two):
            return self._two(replace(part, choices=rest), choice, chain)
        items = choice.items
        if any(item in part.seen or _is_implied(part.branch, item) for item in items):
            return [replace(part, choices=rest)]
        return [replace(part, todo=((item, chain),), choices=rest) for item in items]

    # -- putting off ---------------------------------------------------------------------------

    def _with_clauses(self, part: _Partial) -> list[_Partial]:
        """Choices among traits of an object put off, where there are many combinations of them."""
        if not self._puts_off or "object" not in part.branch.types or len(part.choices) < 2:
            return []
        many = 1
        for choice, _ in part.choices:
            many *= len(choice.items)
        if many <= _MOST_COMBINED:
            return []
        kept: list[tuple[Either | One | Two, Chain]] = []
        clauses: list[Clause] = []
        placed: list[tuple[str, Any]] = []
        for choice, chain in part.choices:
            found = self._clauses.of(choice, chain) if isinstance(choice, Either) else None
            if found is None:
                kept.append((choice, chain))
            else:
                clauses += found[0]
                placed += found[1]
        if not clauses:
            return []
        branch = _needing(_of_objects(part.branch), clauses, 0, placed)
        inside = replace(part, branch=branch, choices=tuple(kept))
        outside = [(choice, self._clauses.outside(choice)) for choice, _ in part.choices]
        if any(holds is False for _, holds in outside):
            return [inside]
        left = (c for c, (_, holds) in zip(part.choices, outside, strict=True) if not holds)
        return [inside, *_of_others(replace(part, choices=tuple(left)))]

    def _one(self, part: _Partial, choice: One, chain: Chain) -> list[_Partial]:
        """Alternatives for exactly one of several statements.

        Those that can hold together with another one are not multiplied out if they are made of
        traits of an object: their number is counted when the text is there.
        """
        split = replace(part, todo=((choice.split, chain),))
        if not self._puts_off or choice.tagged or "object" not in part.branch.types:
            return [split]
        clauses = [self._clauses.violation(item) for item in choice.items]
        inside = replace(part, branch=_of_objects(part.branch))
        rivals = self._rivals(inside.branch, choice, clauses)
        if rivals is None:
            return [split]
        together = [i for i, mine in rivals.items() if mine]
        ways = [
            replace(inside, todo=((choice.items[i], chain),))
            for i, mine in rivals.items()
            if not mine
        ]
        placed = [x for i in together for x in self._clauses.places(choice.items[i], chain)]
        kept = [clause for i in together if (clause := clauses[i]) is not None]
        branch = _needing(inside.branch, kept, 1, placed)
        return [*ways, replace(inside, branch=branch), *_of_others(split)]

    def _two(self, part: _Partial, choice: Two, chain: Chain) -> list[_Partial]:
        """Alternatives for at least two of several statements: each pair, or all at once."""
        pairs = [All((choice.items[i], choice.items[j])) for i, j in choice.overlaps]
        split = replace(part, todo=((Either(tuple(pairs)), chain),))
        if not self._puts_off or "object" not in part.branch.types or len(pairs) < 3:
            return [split]
        clauses = [self._clauses.violation(item) for item in choice.items]
        kept = [clause for clause in clauses if clause is not None]
        if len(kept) < len(clauses):
            return [split]
        placed = [x for item in choice.items for x in self._clauses.places(item, chain)]
        branch = _needing(_of_objects(part.branch), kept, 2, placed, more=True)
        return [replace(part, branch=branch), *_of_others(split)]

    def _rivals(
        self, branch: Branch, choice: One, clauses: list[Clause | None]
    ) -> dict[int, list[int]] | None:
        """By statement that can hold, those that can hold together with it.

        ``None`` if they should be multiplied out: there are few combinations, or no clauses.
        """
        if None in clauses:
            return None
        rivals: dict[int, list[int]] = {
            i: [] for i, item in enumerate(choice.items) if self._meets(branch, item)
        }
        for i, j in choice.overlaps:
            both = (choice.items[i], choice.items[j])
            if i in rivals and j in rivals and self._some(branch, both, 1):
                rivals[i].append(j)
                rivals[j].append(i)
        many = 0
        for mine in rivals.values():
            product = 1
            for j in mine:
                product *= len(clauses[j] or ())
            many += product
        return rivals if many > _MOST_COMBINED + len(rivals) else None

    def _negate(self, part: _Partial, depth: int) -> list[_Partial]:
        """Takes in a negated schema, if what is demanded already does not exclude it.

        Where several are left that a property with few values tells apart, each value is looked at
        by itself: it excludes most of them.
        """
        if not part.screened:
            left = tuple(n for n in part.negated if self._meets(part.branch, n[0], depth))
            part = replace(part, negated=left, screened=True)
            cases = self._cases(part, [at for at, _ in left]) if len(left) > 1 else []
            waiting = replace(part, screened=False)
            if cases:
                return [replace(waiting, todo=((case, left[0][1]),)) for case in cases]
            return self._denying(part)
        (at, chain), rest = part.negated[0], part.negated[1:]
        part = replace(part, negated=rest)
        if not self._meets(part.branch, at, depth):
            return [part]
        pushed = _pushed(self._reader.meaning(at))
        return [replace(part, todo=((pushed, (*chain, at)),))]

    def _denying(self, part: _Partial) -> list[_Partial]:
        """Negated schemas put off as clauses, where there are many combinations of them."""
        if not self._puts_off or "object" not in part.branch.types or len(part.negated) < 2:
            return [part]
        found = [self._clauses.violation(at) for at, _ in part.negated]
        many = 1
        for clause in found:
            many *= 1 if clause is None else len(clause)
        if many <= _MOST_COMBINED:
            return [part]
        clauses = [clause for clause in found if clause is not None]
        kept = tuple(n for n, c in zip(part.negated, found, strict=True) if c is None)
        branch = _needing(_of_objects(part.branch), clauses, 0, [])
        return [replace(part, branch=branch, negated=kept), *_of_others(part)]

    def _cases(self, part: _Partial, negated: list[At]) -> list[Formula]:
        """A case for each value of a property that tells negated schemas apart, and the rest."""
        if part.branch.types != {"object"}:
            return []
        objects = part.branch.objects
        listed = [self._listed_values(at) for at in negated]
        for name in dict.fromkeys(name for values in listed for name in values):
            telling = [values[name] for values in listed if name in values]
            split = Leaf(Branch(), f"cases of {name!r}")
            if len(set(telling)) < 2 or _Split(name) in part.seen:
                continue
            values = tuple(dict.fromkeys(v for found in telling for v in found))
            cases: list[Formula] = [_value_is(name, Branch(values=(v,)), split) for v in values]
            cases.append(_value_is(name, Branch(excluded=frozenset(values)), split))
            if name not in objects.required:
                absent = Objects(properties=((name, (NOTHING,)),))
                cases.append(Leaf(Branch(objects=absent), split.label))
            return [All((case, _Split(name))) for case in cases]
        return []

    def _listed_values(self, at: At) -> dict[str, tuple[Value, ...]]:
        """Properties for which a schema lists the possible scalar values."""
        known = self._listed.get(at)
        if known is not None:
            return known
        self._listed[at] = {}
        out: dict[str, tuple[Value, ...]] = {}
        ways = [b for b in self._few((at,), 1) if "object" in b.types]
        if len(ways) == 1:
            for name, demands in ways[0].objects.properties:
                values = self._scalars(demands)
                if values:
                    out[name] = values
        self._listed[at] = out
        return out

    def _scalars(self, demands: Demands) -> tuple[Value, ...]:
        """The scalar values that demands list, if that is all they allow."""
        if not demands or forbids(demands):
            return ()
        out: list[Value] = []
        for branch in self._few(demands, 0):
            if branch.values is not None:
                out += branch.values
            elif branch.types == {"string"}:
                out += map(Value, listed_strings(branch.strings))
            else:
                return ()
        plain = all(not isinstance(v.data, list | dict) for v in out)
        return tuple(dict.fromkeys(out)) if plain and len(out) <= _MOST_CASES else ()

    # -- dropping what is impossible -----------------------------------------------------------

    def _checked(self, branch: Branch, depth: int) -> Branch | None:
        """Without types that are impossible; ``None`` if none is left."""
        branch = branch.reduced()
        types = branch.types
        if "object" in types and not self._object_possible(branch, depth):
            types = types - {"object"}
        if "array" in types and not self._array_possible(branch, depth):
            types = types - {"array"}
        if "string" in types and not self._string_possible(branch.strings):
            types = types - {"string"}
        if not types:
            return None
        return branch if types == branch.types else replace(branch, types=types)

    def _string_possible(self, strings: Strings) -> bool:
        """Looks patterns up, as long as that does not take all the time."""
        known = self._strings.get(strings)
        if known is None:
            known = len(self._strings) >= _MOST_LOOKUPS or plainly_possible(strings)
            self._strings[strings] = known
        return known

    def _object_possible(self, branch: Branch, depth: int) -> bool:
        objects = branch.objects
        if not objects.required:
            return True
        named = dict(objects.properties)
        return all(self.possible(value_demands(objects, named, n), depth) for n in objects.required)

    def _array_possible(self, branch: Branch, depth: int) -> bool:
        arrays = branch.arrays.tightened()
        for index in range(min(arrays.low, len(arrays.prefix) + 1)):
            if not self.possible(arrays.item(index), depth):
                return False
        return all(self.possible(c.demands, depth) for c in arrays.contains if c.low)


@dataclass(frozen=True, slots=True)
class _Split(Formula):
    """Nothing by itself: notes that cases of a property have been told apart."""

    name: str


def _of_objects(branch: Branch) -> Branch:
    return branch & Branch(types=frozenset(["object"]))


def _of_others(part: _Partial) -> list[_Partial]:
    """The same for values that are no objects, if there may be any."""
    branch = part.branch & Branch(types=ALL_TYPES - {"object"})
    return [replace(part, branch=branch, screened=False)] if branch.types else []


def _needing(
    branch: Branch,
    clauses: list[Clause],
    unmet: int,
    placed: list[tuple[str, Any]],
    *,
    more: bool = False,
) -> Branch:
    need = Need(tuple(clauses), unmet, more)
    return branch & Branch(objects=Objects(needs=(need,), placed=tuple(placed)))


def _counts_needs(objects: Objects) -> bool:
    """Whether keys are counted beside needs, which bags with conditions do not do."""
    return bool(objects.needs) and (objects.low > 1 or objects.high is not None)


def _value_is(name: str, branch: Branch, split: Leaf) -> Formula:
    """That a property is there, with a value of a branch."""
    value = (Leaf(branch, split.label),)
    objects = Objects(properties=((name, value),), required=(name,))
    return Leaf(Branch(objects=objects), split.label)


def _is_implied(branch: Branch, formula: Formula) -> bool:
    """Whether assertions add nothing to a branch."""
    if not isinstance(formula, Leaf) or not branch.types <= formula.branch.types:
        return False
    return (branch & formula.branch).reduced() == branch


def value_demands(objects: Objects, named: dict[str, Demands], name: str) -> Demands:
    """What the value of a key has to meet, ``propertyNames`` and its kin aside."""
    return join(
        named.get(name, ()), *(d for region, d in objects.every if _is_inside(region, name))
    )


def _is_inside(region: Region, name: str) -> bool:
    """Whether a key is plainly in a region; demands on keys are not looked into."""
    if region.key or name in region.names:
        return False
    found = (has_shape(Shape("pattern", p, ""), name) for p in region.outside)
    return not any(found) and all(has_shape(Shape("pattern", p, ""), name) for p in region.inside)


def _pushed(formula: Formula) -> Formula:
    """A negation moved one step inwards."""
    match formula:
        case Leaf():
            return opposite(formula)
        case All(items):
            return Either(tuple(_opposites(items)))
        case Either(items):
            return All(tuple(map(negation, items)))
        case Not(item):
            return item
        case One(items, _, overlaps, _):
            none = All(tuple(map(negation, items)))
            return Either((none, Two(items, overlaps))) if overlaps else none
        case Two(items, overlaps):
            ways = tuple(Either(tuple(map(negation, (items[i], items[j])))) for i, j in overlaps)
            return All(ways)
    return negation(formula)


def _opposites(items: Demands) -> Iterator[Formula]:
    """What is true exactly where not all of the items are, as few alternatives.

    That a required property is missing, and that it has another value, are one: if it is there, it
    has another value.  Two would double the alternatives with each schema that is negated.
    """
    leaves = [item for item in items if isinstance(item, Leaf)]
    required = {name for leaf in leaves for name in leaf.branch.objects.required}
    merged = {
        name: leaf.label
        for leaf in leaves
        for name, demands in leaf.branch.objects.properties
        if demands and name in required
    }
    for item in items:
        if not isinstance(item, Leaf):
            yield negation(item)
            continue
        objects = item.branch.objects
        for name, demands in objects.properties:
            if merged.get(name) == item.label and demands:
                other = Objects(properties=((name, (negation(conjunction(demands)),)),))
                only = Branch(types=frozenset(["object"]), objects=other)
                yield Leaf(only, f"not {item.label}")
        rest = replace(
            objects,
            properties=tuple(p for p in objects.properties if merged.get(p[0]) != item.label),
            required=tuple(name for name in objects.required if name not in merged),
        )
        if rest == objects:
            yield negation(item)
        elif replace(item.branch, objects=rest) != Branch():
            yield negation(replace(item, branch=replace(item.branch, objects=rest)))
