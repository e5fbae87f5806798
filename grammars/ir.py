"""The intermediate form every front end produces and everything below reads.

A :class:`GrammarIR` is a start symbol and named rules; a rule's body is an immutable, hashable
:class:`Expr`.  The meaning of an expression is a set of **byte strings**:

==================  =====================================================================
``NOTHING``         the empty language
``Literal(b"ab")``  exactly these bytes (``EPSILON`` is ``Literal(b"")``)
``Chars(ranges)``   one Unicode scalar value of the class, as UTF-8 (surrogates excluded)
``ByteSet(ranges)`` one byte
``Machine(...)``    what a deterministic automaton over bytes accepts
``Substrings(s)``   the spans of a text: what begins and ends somewhere in it
``Seq(items)``      concatenation
``Alt(items)``      union
``Repeat(x, m, n)`` m to n copies of x (``n=None``: no upper bound)
``Ref(name)``       the rule of that name (recursion of any kind is fine)
``And(items)``      intersection    (operands must be regular: no recursive rule below)
``Not(x)``          all byte strings not in x   (x must be regular; write ``And(a, Not(b))``)
``Bag(members)``    items in any order, each so many times (not inside ``And`` or ``Not``)
``Mark(symbol)``    stands for a byte in a special circumstance, see below
==================  =====================================================================

JSON needs memory: no key twice in one object, no item twice under ``uniqueItems``.  Which keys and
items have been seen depends on the text alone, not on how rules read it.  So memory is not part of
the rules; two flags of :class:`GrammarIR` ask for it (the text is then taken for JSON):

* ``distinct_keys``: a text in which some object has one key twice (an escape is the character
  it stands for) is not in the language;
* ``compare_items``: every ``,`` and ``]`` that follows, blanks aside, an array item equal (as a JSON
  value: 1 is 1.0, the order of keys does not matter) to an earlier item of the same array is
  replaced by ``Mark(REPEATED_COMMA)`` or ``Mark(REPEATED_CLOSE)`` before the rules read it.  A
  rule that demands different items simply has no edge for the marks.

Where JSON is a part of other text, each value of the part has a memory of its own: ``parts`` says which
rules those values are the texts of (:class:`Part`), and ``locator`` where in a text they begin
(:class:`Locator`; :mod:`grammars.uniqueness.locating` makes it of rules and parts).

Indentation needs a stack of widths, which is no part of the rules either: see :class:`Layout`.

Build expressions with the lower-case helpers (:func:`seq`, :func:`alt`, ...): they flatten nested
nodes and drop units, so equal languages are more often equal objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from grammars.frozen import quickly_made

if TYPE_CHECKING:
    from grammars.substrings.automaton import SpanAutomaton
    from grammars.substrings.units import Fold, Unit

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Sorted, disjoint, non-adjacent inclusive ranges."""

MAX_CODE_POINT: Final = 0x10FFFF
_SURROGATES: Final = (0xD800, 0xDFFF)

REPEATED_COMMA: Final = 256
"""Stands for a ``,`` behind an array item that equals an earlier one."""
REPEATED_CLOSE: Final = 257
"""Stands for a ``]`` behind such an item."""
LINE_SAME: Final = 258
"""Behind a newline: the line that begins is as wide as the innermost level of indentation."""
LINE_INDENT: Final = 259
"""Behind a newline: the line is wider; a level begins."""
LINE_DEDENT: Final = 260
"""Behind a newline, once for each level that ends: the line is less wide."""
END_SAME: Final = 261
"""Behind a newline at the end of the text: the last line, which is empty, is as wide as some level."""
END_INDENT: Final = 262
"""There: the last line is wider than all levels; one begins."""
END_DEDENT: Final = 263
"""At the end of the text, behind a newline and its mark or not, once for each level that is open."""
SYMBOLS: Final = 264
"""Bytes and marks."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Span:
    """Where in the source a rule came from; any part may be unknown."""

    line: int | None = None
    column: int | None = None
    pointer: str | None = None


class _Hashed:
    """Keeps its hash: expressions are deep, share parts, and are looked up again and again.

    The hash is no field, so it is not compared, shown, or taken along to another process.
    """

    __slots__ = ("_hash",)
    _hash: int

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            kind = type(self)
            value = hash((kind, _FIELDS_OF[kind](self)))
            _keep_hash(self, value)
            return value


_keep_hash: Final = vars(_Hashed)["_hash"].__set__
_FIELDS_OF: Final[dict[type, Callable[[Any], Any]]] = {}
"""By class: all its fields."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The empty language."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Literal:
    data: bytes


@quickly_made
@dataclass(frozen=True, slots=True)
class Chars(_Hashed):
    ranges: Ranges

    __hash__ = _Hashed.__hash__


@dataclass(frozen=True, slots=True)
class ByteSet:
    ranges: Ranges


@quickly_made
@dataclass(frozen=True, slots=True)
class Seq(_Hashed):
    items: tuple[Expr, ...]

    __hash__ = _Hashed.__hash__


@quickly_made
@dataclass(frozen=True, slots=True)
class Alt(_Hashed):
    items: tuple[Expr, ...]

    __hash__ = _Hashed.__hash__


@quickly_made
@dataclass(frozen=True, slots=True)
class Repeat(_Hashed):
    item: Expr
    min: int
    max: int | None

    __hash__ = _Hashed.__hash__


@quickly_made
@dataclass(frozen=True, slots=True)
class Ref:
    name: str


@quickly_made
@dataclass(frozen=True, slots=True)
class And(_Hashed):
    items: tuple[Expr, ...]

    __hash__ = _Hashed.__hash__


@quickly_made
@dataclass(frozen=True, slots=True)
class Not(_Hashed):
    item: Expr

    __hash__ = _Hashed.__hash__


@dataclass(frozen=True, slots=True)
class Machine(_Hashed):
    """A deterministic automaton over bytes, for languages whose expressions would be huge.

    Attributes:
        edges: by state, (lowest byte, highest byte, target), disjoint.
        accept: by state; state 0 is the start.
    """

    edges: tuple[tuple[tuple[int, int, int], ...], ...]
    accept: tuple[bool, ...]

    __hash__ = _Hashed.__hash__


class Substrings(Machine):
    """The spans of a text, and the empty text; an automaton that is linear in the text.

    As any :class:`Machine` it has ``edges`` and ``accept``, but these are made when something asks for
    them: the compiler takes the arrays of :mod:`grammars.substrings`.

    Attributes:
        text: what the spans are parts of.
        unit: where they begin and end: ``"chars"``: anywhere; ``"words"``: where a word, a number or a sign
            does; ``"lines"``: where a line does.
        fold: what is no difference: ``"space"``: runs of white space are one blank; ``"case"``.
        spelled: characters stand as JSON writes them between quotes, in their usual spelling.
    """

    __slots__ = ("fold", "spelled", "text", "unit")
    __match_args__ = ("edges", "accept")

    text: str
    unit: Unit
    fold: frozenset[Fold]
    spelled: bool

    def __init__(
        self,
        text: str,
        unit: Unit = "chars",
        fold: frozenset[Fold] = frozenset(),
        spelled: bool = False,
    ) -> None:
        for name, value in (("text", text), ("unit", unit), ("fold", fold), ("spelled", spelled)):
            object.__setattr__(self, name, value)

    @property
    def automaton(self) -> SpanAutomaton:
        """Its arrays; kept for the texts used last."""
        from grammars.substrings.automaton import span_automaton

        return span_automaton(self.text, self.unit, self.fold, self.spelled)

    @property
    def edges(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """By state, (byte, byte, target)."""
        made = self.automaton
        flat = [(b, b, t) for b, t in zip(made.byte.tolist(), made.target.tolist(), strict=True)]
        return tuple(tuple(flat[a:b]) for a, b in pairwise(made.begin.tolist()))

    @property
    def accept(self) -> tuple[bool, ...]:
        """By state."""
        return tuple(self.automaton.accept.astype(bool).tolist())

    @property
    def _said(self) -> tuple[object, ...]:
        return self.text, self.unit, self.fold, self.spelled

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Substrings) and self._said == other._said

    def __hash__(self) -> int:
        return hash(("spans", *self._said))

    def __repr__(self) -> str:
        shown = f"{self.text[:40]!r}..." if len(self.text) > 40 else repr(self.text)
        return (
            f"Substrings({shown}, {self.unit!r}, fold={sorted(self.fold)}, spelled={self.spelled})"
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """One symbol that is no byte; the memory of JSON texts or a layout produces it (see above).

    Attributes:
        symbol: ``REPEATED_COMMA``, ``REPEATED_CLOSE``, or one of the six of a layout.
    """

    symbol: int


@quickly_made
@dataclass(frozen=True, slots=True)
class Member:
    """One kind of item of a :class:`Bag`.

    Attributes:
        item: the text of one item; never empty.
        min, max: how many items of this kind there must and may be (``None``: any number).
        group: of all members with the same group (not ``None``) at most one item is allowed.
    """

    item: Expr
    min: int = 0
    max: int | None = 1
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds for the set of members of a :class:`Bag` that have items.

    Attributes:
        clauses: each holds if one of its literals does: ``i >= 0``: member i has an item; ``~g``
            (below 0): no member of group g has one.
        unmet: of the clauses exactly so many do not hold.
        more: rather so many or more.
    """

    clauses: tuple[tuple[int, ...], ...]
    unmet: int = 0
    more: bool = False

    def allows(self, unmet: int) -> bool:
        """Whether so many clauses may not hold."""
        return unmet == self.unmet or (self.more and unmet > self.unmet)


@quickly_made
@dataclass(frozen=True, slots=True)
class Bag(_Hashed):
    """At least one item, in any order, with a separator between neighbours.

    The texts ``x1 sep x2 sep ... xk`` with ``low <= k <= high`` for which every x can be assigned to
    a member whose item matches it, so that each member's ``min`` and ``max`` and the groups hold.

    Attributes:
        low: at least 1.
        ordered: the assigned members' positions never go down from one item to the next.
        conditions: all of them hold.  Then ``low`` is 1 and ``high`` is ``None``, no member needs
            more than one item, and members take one at most or any number.
        loose: of the members of an ordered bag with conditions, so many at the end count as one
            position: their items come last, in any order.
    """

    members: tuple[Member, ...]
    separator: Expr
    low: int = 1
    high: int | None = None
    ordered: bool = False
    conditions: tuple[Condition, ...] = ()
    loose: int = 0

    __hash__ = _Hashed.__hash__


Expr: TypeAlias = (
    Nothing
    | Literal
    | Chars
    | ByteSet
    | Seq
    | Alt
    | Repeat
    | Ref
    | And
    | Not
    | Machine
    | Bag
    | Mark
)

for _kind in (Chars, Seq, Alt, Repeat, And, Not, Machine, Bag):
    _FIELDS_OF[_kind] = attrgetter(*(f.name for f in fields(_kind)))

NOTHING: Final = Nothing()
EPSILON: Final = Literal(b"")


@quickly_made
@dataclass(frozen=True, slots=True)
class Rule:
    """A named rule.

    Attributes:
        name: unique in its grammar; shown to people by ``explain``.
        body: the expression.
        span: where it was written.
        shared: keep the rule as a unit of its own instead of inlining it.  Set it for lexemes
            that stay open for long and occur in many places (a JSON string, a number, free text):
            the work done for such a rule is then shared by all its uses.
    """

    name: str
    body: Expr
    span: Span = Span()
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A rule whose texts are JSON values (no blanks around them) that memory looks at one by one.

    Attributes:
        rule: its name.
        distinct_keys, compare_items: as in :class:`GrammarIR`, for these values.
        read: the beginning of the values, where that is no part of the rule's texts but stands before them.
    """

    rule: str
    distinct_keys: bool = False
    compare_items: bool = False
    read: bytes = b""

    @property
    def asks(self) -> bool:
        """Whether memory has anything to do with its values."""
        return self.distinct_keys or self.compare_items


@dataclass(frozen=True, slots=True)
class Region:
    """A JSON value that begins at a state of a :class:`Locator`.

    Attributes:
        first: the bytes that it may go on with there.
        after: the state behind it.
        distinct_keys, compare_items, read: as in :class:`Part`.
    """

    first: Ranges
    after: int
    distinct_keys: bool = False
    compare_items: bool = False
    read: bytes = b""


@dataclass(frozen=True, slots=True)
class Locator:
    """A deterministic automaton over bytes that finds the values of parts in a text.

    Attributes:
        edges: by state, (lowest byte, highest byte, target), disjoint.  A byte without an edge leads to
            where nothing matters any more, and so does the target -1.
        regions: by state, the values that may begin there, told apart by their first bytes, which have no
            edges; state 0 is the start.
    """

    edges: tuple[tuple[tuple[int, int, int], ...], ...]
    regions: tuple[tuple[Region, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """What memory does behind one trigger of free text, in grammars saved by earlier versions.

    Attributes:
        trigger: the bytes behind which the section begins: the first occurrence of any trigger.
        end: what follows the section's own text.
        inside: the trigger is the beginning of the section's text.
        distinct_keys, compare_items, sections, repeated: as in :class:`GrammarIR`, for the section.
    """

    trigger: bytes
    end: bytes = b""
    inside: bool = False
    distinct_keys: bool = False
    compare_items: bool = False
    sections: tuple[Section, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Indentation that opens and closes levels (:mod:`grammars.layout`).

    Where rules wait for a mark of layout, a newline has been read, and the blanks since the last line
    end of the text are the width of the line that begins.  Before the next byte, or at the end of the text,
    the marks are put into what the rules read: ``LINE_INDENT`` if the line is wider than the innermost
    level, ``LINE_SAME`` if it is as wide, a ``LINE_DEDENT`` for each level that is wider if some level is
    as wide as the line; the text is in no language if none is.  At the end of the text it is
    ``END_INDENT`` or ``END_SAME``, and there, behind a newline or not, an ``END_DEDENT`` follows for each
    level that is open.

    Attributes:
        tab_length: blanks that a tab stands for.
        max_depth: levels of indentation at most; a text with more is in no language.
    """

    tab_length: int = 8
    max_depth: int = 100


@dataclass(frozen=True)
class GrammarIR:
    """Rules plus the start rule's name.  Rule order is the source's order.

    Attributes:
        notes: remarks of the front end for people, for example why a part is unsatisfiable.
        distinct_keys: no JSON object may have a key twice.
        compare_items: separators behind repeated array items become marks.
        sections: if there are any, memory sleeps until a trigger, and the two flags say whether any
            section asks for it.
        repeated: behind a section (one JSON value and its ``end``) memory waits for triggers again.
        json: every text is one JSON value and nothing else, no blanks around it.
        tokens: the special tokens that rules name (:mod:`grammars.special_tokens`), each once.
        parts: rules whose texts are JSON values, where not the whole text is one.
        locator: where in a text these values begin; None where no part asks for memory, else the two flags
            say whether any does.
        lexer: for a Lark grammar, how text is cut into tokens (lark's name for it).
        layout: how indentation is read; ``None`` where it is text like any other.
        marked: the rules with marks around what is captured (:mod:`grammars.captures`); ``None`` where
            nothing is.
    """

    rules: tuple[Rule, ...]
    start: str
    notes: tuple[str, ...] = ()
    distinct_keys: bool = False
    compare_items: bool = False
    sections: tuple[Section, ...] = ()
    repeated: bool = False
    json: bool = False
    tokens: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    locator: Locator | None = None
    lexer: str | None = None
    layout: Layout | None = None
    marked: GrammarIR | None = None
    _index: dict[str, Rule] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        index = {rule.name: rule for rule in self.rules}
        if len(index) != len(self.rules):
            raise ValueError("rule names must be unique")
        object.__setattr__(self, "_index", index)

    def __getitem__(self, name: str) -> Rule:
        return self._index[name]

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getstate__(self) -> None:
        raise TypeError("use Grammar.save/Grammar.load; grammars are not pickled")


def normalize_ranges(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Sorts, merges overlapping and adjacent ranges, drops empty ones."""
    out: list[tuple[int, int]] = []
    for lo, hi in sorted(p for p in pairs if p[0] <= p[1]):
        if out and lo <= out[-1][1] + 1:
            if hi > out[-1][1]:
                out[-1] = (out[-1][0], hi)
        else:
            out.append((lo, hi))
    return tuple(out)


def invert_ranges(ranges: Ranges, limit: int = MAX_CODE_POINT) -> Ranges:
    """The complement within ``0..limit``."""
    out: list[tuple[int, int]] = []
    at = 0
    for lo, hi in ranges:
        if lo > at:
            out.append((at, lo - 1))
        at = hi + 1
    if at <= limit:
        out.append((at, limit))
    return tuple(out)


def intersect_ranges(a: Ranges, b: Ranges) -> Ranges:
    """Ranges in both."""
    out: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        lo, hi = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if lo <= hi:
            out.append((lo, hi))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(out)


def chars(pairs: Iterable[tuple[int, int]]) -> Expr:
    """A class of code points; surrogates, which UTF-8 cannot write, are removed."""
    no_surrogates = ((0, _SURROGATES[0] - 1), (_SURROGATES[1] + 1, MAX_CODE_POINT))
    ranges = intersect_ranges(normalize_ranges(pairs), no_surrogates)
    if not ranges:
        return NOTHING
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return Literal(chr(ranges[0][0]).encode())
    return Chars(ranges)


def not_chars(pairs: Iterable[tuple[int, int]]) -> Expr:
    """Any code point outside the class."""
    return chars(invert_ranges(normalize_ranges(pairs)))


ANY_CHAR: Final = chars([(0, MAX_CODE_POINT)])


def text(value: str) -> Expr:
    """Exactly this text, as UTF-8.  A lone surrogate has no UTF-8 form: the empty language."""
    try:
        return Literal(value.encode())
    except UnicodeEncodeError:
        return NOTHING


def seq(*items: Expr) -> Expr:
    """Concatenation; flattens, merges neighbouring literals, drops empty text."""
    out: list[Expr] = []
    run: list[Literal] = []  # joined at once: many short ones would be copied again and again
    for part in items:
        kind = type(part)
        if kind is not Seq and kind is not Literal and kind is not Nothing:  # as most are
            if run:
                out.append(run[0] if len(run) == 1 else _joined(run))
                run = []
            out.append(part)
            continue
        for item in part.items if type(part) is Seq else (part,):
            kind = type(item)
            if kind is Literal:
                if item.data:  # type: ignore[union-attr]
                    run.append(item)  # type: ignore[arg-type]
                continue
            if kind is Nothing:
                return NOTHING
            if run:
                out.append(run[0] if len(run) == 1 else _joined(run))
                run = []
            out.append(item)
    if run:
        out.append(_joined(run))
    if not out:
        return EPSILON
    return out[0] if len(out) == 1 else Seq(tuple(out))


def _joined(run: list[Literal]) -> Literal:
    return run[0] if len(run) == 1 else Literal(b"".join(x.data for x in run))


def alt(*items: Expr) -> Expr:
    """Union; flattens and drops empty languages and repeated branches, keeping the order."""
    found: list[Expr] = []
    for item in items:
        if type(item) is Alt:
            found.extend(x for x in item.items if type(x) is not Nothing)
        elif type(item) is not Nothing:
            found.append(item)
    if len(found) > 1 and (len(found) > 2 or found[0] == found[1]):
        found = list(dict.fromkeys(found))
    if not found:
        return NOTHING
    return found[0] if len(found) == 1 else Alt(tuple(found))


def optional(item: Expr) -> Expr:
    """The item or nothing at all."""
    kind = type(item)
    if kind is Seq or kind is Ref:
        return Alt((EPSILON, item))
    return alt(EPSILON, item)


def repeat(item: Expr, min: int = 0, max: int | None = None) -> Expr:
    """``min`` to ``max`` copies (no upper bound if ``None``).

    Raises:
        ValueError: if the bounds are negative or out of order.
    """
    if min < 0 or (max is not None and max < min):
        raise ValueError(f"bad repetition bounds {{{min},{max}}}")
    if max == 0 or item == EPSILON:
        return EPSILON
    if isinstance(item, Nothing):
        return EPSILON if min == 0 else NOTHING
    if min == 1 and max == 1:
        return item
    if isinstance(item, Repeat):
        inner, outer = (item.min, item.max), (min, max)
        if inner in _SIGNS and outer in _SIGNS:  # signs in a row (a?+*) are one
            return Repeat(item.item, *(inner if inner == outer else (0, None)))
    return Repeat(item, min, max)


_SIGNS: Final = frozenset({(0, None), (1, None), (0, 1)})
"""Bounds of ``*``, ``+`` and ``?``."""


def both(*items: Expr) -> Expr:
    """Intersection of regular expressions."""
    out = dict.fromkeys(_flatten(items, And))
    if any(isinstance(x, Nothing) for x in out):
        return NOTHING
    if not out:
        raise ValueError("an intersection needs at least one operand")
    return next(iter(out)) if len(out) == 1 else And(tuple(out))


def bag(
    members: Sequence[Member],
    separator: Expr,
    low: int = 1,
    high: int | None = None,
    *,
    ordered: bool = False,
    conditions: Sequence[Condition] = (),
    loose: int = 0,
) -> Expr:
    """A bag; members without any text are dropped, or make it empty if they are needed.

    Raises:
        ValueError: if ``low`` is below 1, or bounds and ``conditions`` do not go together.
    """
    if conditions or loose:
        return _conditional(
            Bag(tuple(members), separator, low, high, ordered, tuple(conditions), loose)
        )
    if low < 1:
        raise ValueError("a bag has at least one item; add the empty text as an alternative")
    kept = tuple(m for m in members if not isinstance(m.item, Nothing) and m.max != 0)
    needed = sum(m.min for m in kept)
    if any(isinstance(m.item, Nothing) and m.min for m in members) or not kept:
        return NOTHING
    if high is not None and (high < low or needed > high):
        return NOTHING
    return Bag(kept, separator, low, high, ordered)


def _conditional(bag: Bag) -> Expr:
    """A bag with conditions, checked; members without any text stay, since numbers refer to them."""
    groups = {m.group for m in bag.members}
    literals = [x for c in bag.conditions for clause in c.clauses for x in clause]
    if any(x >= len(bag.members) or (x < 0 and ~x not in groups) for x in literals):
        raise ValueError("a literal of a bag's condition names no member and no group")
    if bag.low != 1 or bag.high is not None or not 0 <= bag.loose <= len(bag.members):
        raise ValueError("a bag with conditions has no bounds on the number of all items")
    if any(m.min > 1 or (m.max or 0) > 1 for m in bag.members):
        raise ValueError("members of a bag with conditions take one item at most, or any number")
    return bag if any(not isinstance(m.item, Nothing) for m in bag.members) else NOTHING


def minus(a: Expr, b: Expr) -> Expr:
    """Strings of ``a`` that are not in ``b`` (both regular)."""
    return a if isinstance(b, Nothing) else both(a, Not(b))


def _flatten(items: Iterable[Expr], kind: type[Seq] | type[Alt] | type[And]) -> Iterator[Expr]:
    for item in items:
        if type(item) is kind:
            yield from item.items
        else:
            yield item


_LEAVES: Final = frozenset({Nothing, Literal, Chars, ByteSet, Ref, Machine, Substrings, Mark})


def children(expr: Expr) -> tuple[Expr, ...]:
    """Direct sub-expressions."""
    kind = type(expr)
    if kind in _LEAVES:
        return ()
    if kind is Seq or kind is Alt or kind is And:
        return expr.items  # type: ignore[union-attr]
    if kind is Repeat or kind is Not:
        return (expr.item,)  # type: ignore[union-attr]
    if kind is Bag:
        return (*(member.item for member in expr.members), expr.separator)  # type: ignore[union-attr]
    return ()


def with_children(expr: Expr, parts: Sequence[Expr]) -> Expr:
    """The same kind of expression with other direct sub-expressions, as many as it has."""
    if isinstance(expr, Seq | Alt | And):
        return replace(expr, items=tuple(parts))
    if isinstance(expr, Repeat | Not):
        return replace(expr, item=parts[0])
    if isinstance(expr, Bag):
        *items, separator = parts
        members = tuple(replace(m, item=i) for m, i in zip(expr.members, items, strict=True))
        return replace(expr, members=members, separator=separator)
    return expr


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and everything below it, without recursion (depth is not limited)."""
    stack = [expr]
    while stack:
        node = stack.pop()
        yield node
        if type(node) not in _LEAVES:
            stack.extend(reversed(children(node)))


def refs(expr: Expr) -> list[str]:
    """Names referred to, in order of first appearance."""
    return list(dict.fromkeys(x.name for x in walk(expr) if isinstance(x, Ref)))


def single_rule(
    body: Expr, name: str = "root", notes: Mapping[str, str] | None = None
) -> GrammarIR:
    """A grammar of one rule."""
    return GrammarIR((Rule(name, body),), name)
