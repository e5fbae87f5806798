"""What a schema says, by type, and how two statements combine.

Every class is a conjunction of constraints on values of one type and says nothing about others;
``&`` is conjunction.  A :class:`Branch` puts them together with the set of types that are allowed.
Subschemas are :class:`Formula` objects; a tuple of them (:data:`Demands`) means all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from decimal import Decimal
from fractions import Fraction
from math import ceil, gcd, lcm
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar

from grammars.frozen import quickly_made, replace
from grammars.ir import Expr, both
from grammars.sources.source import Labelled, Tie

TYPES: Final = ("null", "boolean", "number", "string", "array", "object")
ALL_TYPES: Final = frozenset(TYPES)

_Said = TypeVar("_Said")

Env: TypeAlias = tuple[tuple[str, str], ...]
"""Dynamic anchors in force: (name, place of the outermost schema that has it)."""


class _Hashed:
    """Keeps its hash: formulas are deep, share parts, and are looked up again and again."""

    __slots__ = ("_hash",)
    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            value = hash((type(self), _COMPARED[type(self)](self)))
            _keep_hash(self, value)
            return value


_keep_hash: Final = vars(_Hashed)["_hash"].__set__

_COMPARED: Final[dict[type, Callable[[Any], Any]]] = {}
"""By class: the fields that its hash is made of."""


class Formula(_Hashed):
    """A statement about a value: :class:`At`, :class:`Leaf`, :class:`Not`, :class:`All`,
    :class:`Either`, :class:`One`, :class:`Two`.
    """

    __slots__ = ()


Demands: TypeAlias = tuple[Formula, ...]
"""Statements that all apply; the empty tuple allows anything."""


@quickly_made
@dataclass(frozen=True, slots=True)
class At(Formula):
    """What the schema at a place says.

    Attributes:
        place: where it stands.
        env: the dynamic anchors in force.
        barred: places at which it may not refer back to them (see ``circles``).
    """

    place: str
    env: Env = ()
    barred: frozenset[At] = frozenset()

    __hash__ = _Hashed.__hash__

    def __str__(self) -> str:
        named = self.place if self.place[:1] not in ("", "/") else f"#{self.place}"
        return named + "".join(f" [{name}: {place}]" for name, place in self.env)


@quickly_made
@dataclass(frozen=True, slots=True)
class Not(Formula):
    item: Formula

    __hash__ = _Hashed.__hash__

    def __str__(self) -> str:
        return f"not {self.item}"


@quickly_made
@dataclass(frozen=True, slots=True)
class All(Formula):
    items: Demands

    __hash__ = _Hashed.__hash__

    def __str__(self) -> str:
        return f"({' & '.join(map(str, self.items))})" if self.items else "any value"


@quickly_made
@dataclass(frozen=True, slots=True)
class Either(Formula):
    """At least one of the statements holds."""

    items: Demands

    __hash__ = _Hashed.__hash__

    def __str__(self) -> str:
        return f"({' or '.join(map(str, self.items))})" if self.items else "nothing"


@quickly_made
@dataclass(frozen=True, slots=True)
class One(Formula):
    """Exactly one of the statements holds.

    Attributes:
        split: the same in other words: alternatives, where what tells statements apart is used.
        overlaps: which two may hold together.
        tagged: whether ``split`` goes by the value of a property.
    """

    items: Demands
    split: Formula = field(compare=False)
    overlaps: tuple[tuple[int, int], ...] = field(compare=False)
    tagged: bool = field(default=False, compare=False)

    __hash__ = _Hashed.__hash__

    def __str__(self) -> str:
        return f"(one of {', '.join(map(str, self.items))})"


@dataclass(frozen=True, slots=True)
class Two(Formula):
    """At least two of the statements hold.

    Attributes:
        overlaps: which two may hold together.
    """

    items: Demands
    overlaps: tuple[tuple[int, int], ...] = field(compare=False)

    __hash__ = _Hashed.__hash__

    def __str__(self) -> str:
        return f"(two of {', '.join(map(str, self.items))})"


@quickly_made
@dataclass(frozen=True, slots=True)
class Leaf(Formula):
    """Assertions as they stand; ``label`` names them for people."""

    branch: Branch
    label: str = field(compare=False)

    __hash__ = _Hashed.__hash__

    def __str__(self) -> str:
        return self.label


ANYTHING: Final = All(())
NOTHING: Final = Either(())


def negation(formula: Formula) -> Formula:
    """The opposite."""
    if isinstance(formula, Not):
        return formula.item
    if formula == ANYTHING:
        return NOTHING
    return ANYTHING if formula == NOTHING else Not(formula)


def conjunction(demands: Demands) -> Formula:
    """All demands as one formula."""
    return demands[0] if len(demands) == 1 else All(demands)


def join(*groups: Demands) -> Demands:
    """All demands of all groups, each once; ``(NOTHING,)`` where two are opposites."""
    said = [group for group in groups if group]
    if len(said) == 1 and len(said[0]) == 1:
        return () if said[0][0] == ANYTHING else said[0]
    out = dict.fromkeys(f for group in said for f in group if f != ANYTHING)
    if NOTHING in out or any(isinstance(f, Not) and f.item in out for f in out):
        return (NOTHING,)
    return tuple(out)


def forbids(demands: Demands) -> bool:
    """Whether it is plain that nothing meets the demands."""
    return NOTHING in demands


# -- numbers ---------------------------------------------------------------------------------------


@quickly_made
@dataclass(frozen=True, slots=True)
class Bound:
    """A limit on numbers; ``strict`` excludes the value itself."""

    value: Decimal
    strict: bool = False


@quickly_made
@dataclass(frozen=True, slots=True)
class Numbers:
    """Constraints on numbers: bounds, a step they are multiples of, steps they are not.

    ``whole``: written without a fraction (draft 4, where 1.0 is no integer).
    ``spelling``: the texts, where whoever made the schema has said them (see ``Spelling``).
    ``source``: whether they have to stand in a source text, if a schema says so.
    """

    low: Bound | None = None
    high: Bound | None = None
    step: Fraction | None = None
    not_steps: tuple[Fraction, ...] = ()
    whole: bool = False
    spelling: Expr | None = None
    source: Tie | None = None

    def __and__(self, other: Numbers) -> Numbers:
        if other is _FREE_NUMBERS:
            return self
        if self is _FREE_NUMBERS:
            return other
        return Numbers(
            _tighter(self.low, other.low, 1),
            _tighter(self.high, other.high, -1),
            _common_step(self.step, other.step),
            tuple(dict.fromkeys(self.not_steps + other.not_steps)),
            self.whole or other.whole,
            _both_spellings(self.spelling, other.spelling),
            _tied(self.source, other.source),
        )

    @property
    def is_free(self) -> bool:
        return self is _FREE_NUMBERS or self == _FREE_NUMBERS

    @property
    def is_empty(self) -> bool:
        if self is _FREE_NUMBERS:
            return False
        if self.step is not None and any(
            (self.step / step).denominator == 1 for step in self.not_steps
        ):
            return True
        if self.low is None or self.high is None:
            return False
        if self.low.value == self.high.value:
            return self.low.strict or self.high.strict or self._between_steps()
        return self.low.value > self.high.value or self._between_steps()

    def _between_steps(self) -> bool:
        """Whether no multiple of the step lies within the bounds."""
        if self.step is None or self.low is None or self.high is None:
            return False
        first = ceil(Fraction(self.low.value) / self.step)
        if self.low.strict and first * self.step == Fraction(self.low.value):
            first += 1
        high = Fraction(self.high.value)
        return first * self.step > high or (self.high.strict and first * self.step == high)


def _both_spellings(a: Expr | None, b: Expr | None) -> Expr | None:
    if a is None or b is None or a == b:
        return b if a is None else a
    return both(a, b)


def _tied(a: Tie | None, b: Tie | None) -> Tie | None:
    """What two schemas say together of a value's place in a source: that it stands there, if one does."""
    labelled = next((one for one in (a, b) if isinstance(one, Labelled)), None)
    if labelled is not None:
        return labelled
    return "verbatim" if "verbatim" in (a, b) else a or b


def _tighter(a: Bound | None, b: Bound | None, sign: int) -> Bound | None:
    if a is None or b is None:
        return a or b
    if a.value == b.value:
        return Bound(a.value, a.strict or b.strict)
    return max(a, b, key=lambda bound: sign * bound.value)


def _common_step(a: Fraction | None, b: Fraction | None) -> Fraction | None:
    if a is None or b is None:
        return a or b
    return Fraction(lcm(a.numerator, b.numerator), gcd(a.denominator, b.denominator))


# -- strings ---------------------------------------------------------------------------------------


@quickly_made
@dataclass(frozen=True, slots=True)
class Shape:
    """A ``pattern`` or a ``format``, or its opposite.

    Attributes:
        kind: ``"pattern"``, ``"format"``, or as drafts before 7 mean it ``"older format"``,
            ``"format of draft 3"``; ``"content"`` for an expression over code points.
        place: where it stands, for messages.
    """

    kind: str
    text: str | Expr
    place: str = field(compare=False)
    negated: bool = False


@quickly_made
@dataclass(frozen=True, slots=True)
class Strings(_Hashed):
    """Constraints on strings: length in code points, patterns and formats.

    ``source``: whether they have to stand in a source text, if a schema says so.
    """

    low: int = 0
    high: int | None = None
    shapes: tuple[Shape, ...] = ()
    source: Tie | None = None

    __hash__ = _Hashed.__hash__

    def __and__(self, other: Strings) -> Strings:
        if other is _FREE_STRINGS:
            return self
        if self is _FREE_STRINGS:
            return other
        return Strings(
            max(self.low, other.low),
            _least(self.high, other.high),
            tuple(dict.fromkeys(self.shapes + other.shapes)),
            _tied(self.source, other.source),
        )

    @property
    def is_empty(self) -> bool:
        if self is _FREE_STRINGS:
            return False
        if self.high is not None and self.low > self.high:
            return True
        return any(s.negated and replace(s, negated=False) in self.shapes for s in self.shapes)


def _least(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


# -- arrays ----------------------------------------------------------------------------------------


@quickly_made
@dataclass(frozen=True, slots=True)
class Contains:
    """At least ``low`` and at most ``high`` items, counted from index ``start``, meet demands."""

    demands: Demands
    low: int
    high: int | None = None
    start: int = 0


@quickly_made
@dataclass(frozen=True, slots=True)
class Arrays:
    """Constraints on arrays.

    Attributes:
        prefix, rest: the first items one by one, and all others.
        low, high: the length.
        contains: how many items meet something.
        unique: whether all items differ (``True``) or some repeats (``False``); ``None``: no matter.
        clash: both were demanded.
        rows: whether items stand in lines of a source text, see :mod:`~grammars.frontends.json_schema.rows`.
    """

    prefix: tuple[Demands, ...] = ()
    rest: Demands = ()
    low: int = 0
    high: int | None = None
    contains: tuple[Contains, ...] = ()
    unique: bool | None = None
    clash: bool = False
    rows: bool = False

    def __and__(self, other: Arrays) -> Arrays:
        if other is _FREE_ARRAYS:
            return self
        if self is _FREE_ARRAYS:
            return other
        length = max(len(self.prefix), len(other.prefix))
        opposite = None not in (self.unique, other.unique) and self.unique != other.unique
        return Arrays(
            tuple(join(self.item(i), other.item(i)) for i in range(length)),
            join(self.rest, other.rest),
            max(self.low, other.low),
            _least(self.high, other.high),
            tuple(dict.fromkeys(self.contains + other.contains)),
            other.unique if self.unique is None else self.unique,
            self.clash or other.clash or opposite,
            self.rows or other.rows,
        )

    def item(self, index: int) -> Demands:
        return self.prefix[index] if index < len(self.prefix) else self.rest

    def tightened(self) -> Arrays:
        """The same with bounds that follow from the others."""
        low, high = self.low, self.high
        for one in self.contains:
            if one.low:
                low = max(low, one.start + one.low)
        for index, demands in enumerate(self.prefix):
            if forbids(demands):
                high = _least(high, index)
                break
        else:
            if forbids(self.rest):
                high = _least(high, len(self.prefix))
        if self.unique is False:
            low = max(low, 2)
        if (low, high) == (self.low, self.high):
            return self
        return replace(self, low=low, high=high)

    @property
    def is_empty(self) -> bool:
        if self is _FREE_ARRAYS:
            return False
        if self.clash or any(c.high is not None and c.low > c.high for c in self.contains):
            return True
        tight = self.tightened()
        return tight.high is not None and tight.low > tight.high


# -- objects ---------------------------------------------------------------------------------------


@quickly_made
@dataclass(frozen=True, slots=True)
class Region(_Hashed):
    """A set of keys.

    Attributes:
        inside: patterns that are all found in the key.
        names, outside: the key is none of these, and none of these patterns is found in it.
        key: demands that the key as a string meets.
    """

    inside: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    outside: tuple[str, ...] = ()
    key: Demands = ()

    __hash__ = _Hashed.__hash__


@dataclass(frozen=True, slots=True)
class Lacks:
    """That an object has no key of a name."""

    name: str


@dataclass(frozen=True, slots=True)
class Has:
    """That an object has some key of a region whose value meets demands.

    Attributes:
        keys: a name or a region.
    """

    keys: str | Region
    demands: Demands = ()


Trait: TypeAlias = Lacks | Has
Clause: TypeAlias = tuple[Trait, ...]
"""Traits of which one is there."""


@dataclass(frozen=True, slots=True)
class Need:
    """Of some clauses exactly ``unmet`` (or ``more``) do not hold; which ones is left open."""

    clauses: tuple[Clause, ...]
    unmet: int = 0
    more: bool = False

    def allows(self, unmet: int) -> bool:
        """Whether so many clauses may not hold."""
        return unmet == self.unmet or (self.more and unmet > self.unmet)


@quickly_made
@dataclass(frozen=True, slots=True)
class Objects(_Hashed):
    """Constraints on objects.

    Attributes:
        properties: values of named keys.
        every: values of all keys in a region.
        some: for each entry some key of the region has such a value.
        required: keys there must be.
        low, high: how many keys.
        placed: where the schema has subschemas for named keys, which gives them their order: places
            as the schema object itself knows them, later positions in the order of reading.
        needs: alternatives that are decided key by key rather than multiplied out.
    """

    properties: tuple[tuple[str, Demands], ...] = ()
    every: tuple[tuple[Region, Demands], ...] = ()
    some: tuple[tuple[Region, Demands], ...] = ()
    required: tuple[str, ...] = ()
    low: int = 0
    high: int | None = None
    placed: tuple[tuple[str, Any], ...] = field(default=(), compare=False)
    needs: tuple[Need, ...] = ()

    __hash__ = _Hashed.__hash__

    def __and__(self, other: Objects) -> Objects:
        if other is _FREE_OBJECTS or other == _FREE_OBJECTS:
            return self
        if self is _FREE_OBJECTS:
            return other
        properties = self.properties
        if other.properties:
            merged = dict(properties)
            for name, demands in other.properties:
                merged[name] = join(merged.get(name, ()), demands)
            properties = tuple(merged.items())
        return Objects(
            properties,
            _united(self.every, other.every),
            _united(self.some, other.some),
            _united(self.required, other.required),
            max(self.low, other.low),
            _least(self.high, other.high),
            self.placed + other.placed,
            _united(self.needs, other.needs),
        )

    @property
    def is_empty(self) -> bool:
        if self is _FREE_OBJECTS:
            return False
        low = max(self.low, len(self.required), 1 if self.some else 0)
        if self.high is not None and low > self.high:
            return True
        if not self.required:
            return False
        named = dict(self.properties)
        return any(forbids(named.get(name, ())) for name in self.required)


def _united(a: tuple[_Said, ...], b: tuple[_Said, ...]) -> tuple[_Said, ...]:
    """All of two tuples, each once."""
    if not a or not b:
        return a or b
    return tuple(dict.fromkeys(a + b))


# what most assertions leave free: told by identity
_FREE_NUMBERS: Final = Numbers()
_FREE_STRINGS: Final = Strings()
_FREE_ARRAYS: Final = Arrays()
_FREE_OBJECTS: Final = Objects()


# -- values ----------------------------------------------------------------------------------------


class Spelled(Decimal):
    """A number of a schema together with the way it is written there."""

    text: str

    def __new__(cls, text: str) -> Spelled:
        number = super().__new__(cls, text)
        number.text = text
        return number


class Value:
    """A JSON value that is hashable and equal exactly to equal JSON values (1 is 1.0, not true)."""

    __slots__ = ("_key", "data")

    def __init__(self, data: Any) -> None:
        self.data = data
        self._key = identity(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Value({self.data!r})"


def identity(value: Any) -> Any:
    """A hashable form that is equal exactly for equal JSON values (1 equals 1.0, not true)."""
    if isinstance(value, bool) or value is None:
        return ("literal", value)
    if isinstance(value, int | Decimal):
        return ("number", Fraction(value))
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, list):
        return ("array", tuple(map(identity, value)))
    return ("object", frozenset((key, identity(item)) for key, item in value.items()))


def type_of(value: Any) -> str:
    """The JSON type of a value."""
    if type(value) is str:  # as most are
        return "string"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | Decimal):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


# -- all together ----------------------------------------------------------------------------------


@quickly_made
@dataclass(frozen=True, slots=True)
class Branch(_Hashed):
    """One alternative of what a schema allows.

    Attributes:
        types: the types that are allowed, ``"integer"`` being numbers with step 1.
        values: if not ``None``, the value is one of these (``enum``, ``const``).
        excluded: null, booleans, numbers and strings that the value is not.
        sources: the places that said something, for messages.
    """

    types: frozenset[str] = ALL_TYPES
    numbers: Numbers = _FREE_NUMBERS
    strings: Strings = _FREE_STRINGS
    arrays: Arrays = _FREE_ARRAYS
    objects: Objects = _FREE_OBJECTS
    values: tuple[Value, ...] | None = None
    excluded: frozenset[Value] = frozenset()
    sources: tuple[str, ...] = field(default=(), compare=False)

    __hash__ = _Hashed.__hash__

    def __and__(self, other: Branch) -> Branch:
        if self is FREE or other is FREE:
            return other if self is FREE else self
        excluded = self.excluded | other.excluded if other.excluded else self.excluded
        values = _common(self.values, other.values)
        if values is not None:
            values = tuple(v for v in values if v not in excluded)
        return Branch(
            self.types & other.types,
            # most say nothing about most types
            self.numbers if other.numbers is _FREE_NUMBERS else self.numbers & other.numbers,
            self.strings if other.strings is _FREE_STRINGS else self.strings & other.strings,
            self.arrays if other.arrays is _FREE_ARRAYS else self.arrays & other.arrays,
            self.objects if other.objects is _FREE_OBJECTS else self.objects & other.objects,
            values,
            excluded,
            _united(self.sources, other.sources),
        )

    def reduced(self) -> Branch:
        """The same without types of which it is plain that no value fits."""
        types = self.types
        if self.values is not None:
            types = _types_among(self.values, types)
        impossible = [
            kind
            for kind, said in (
                ("number", self.numbers),
                ("string", self.strings),
                ("array", self.arrays),
                ("object", self.objects),
            )
            if kind in types and said.is_empty
        ]
        if impossible:
            types = types.difference(impossible)
        if len(types) == len(self.types) and self._says_nothing_idle(types):
            return self
        return Branch(
            types,
            self.numbers if "number" in types else _FREE_NUMBERS,
            self.strings if "string" in types else _FREE_STRINGS,
            self.arrays if "array" in types else _FREE_ARRAYS,
            self.objects if "object" in types else _FREE_OBJECTS,
            self.values,
            self.excluded,
            self.sources,
        )

    def _says_nothing_idle(self, types: frozenset[str]) -> bool:
        """Whether nothing is said about values of other types, which cannot be."""
        return not (
            ("number" not in types and self.numbers is not _FREE_NUMBERS)
            or ("string" not in types and self.strings is not _FREE_STRINGS)
            or ("array" not in types and self.arrays is not _FREE_ARRAYS)
            or ("object" not in types and self.objects is not _FREE_OBJECTS)
        )


def _types_among(values: tuple[Value, ...], types: frozenset[str]) -> frozenset[str]:
    """Those of some types that values have; looks no further once all are found."""
    found: set[str] = set()
    for value in values:
        kind = type_of(value.data)
        if kind in types:
            found.add(kind)
            if len(found) == len(types):
                return types
    return frozenset(found)


FREE: Final = Branch()
"""What allows anything."""


def _common(a: tuple[Value, ...] | None, b: tuple[Value, ...] | None) -> tuple[Value, ...] | None:
    if a is None or b is None:
        return b if a is None else a
    known = set(b)
    return tuple(value for value in a if value in known)


for _kind in (At, Not, All, Either, One, Two, Leaf, Strings, Region, Objects, Branch):
    _COMPARED[_kind] = attrgetter(*(f.name for f in fields(_kind) if f.compare))
