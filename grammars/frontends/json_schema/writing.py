"""Assertions to expressions and rules.

One rule for each set of places that some value has to meet.  Places that are unsatisfiable become
the empty language; the compiler removes what depends on them, and notes say what clashed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from grammars.compiler import compile_ir
from grammars.errors import GrammarError
from grammars.frontends.ecma import ecma_search_to_expr
from grammars.frontends.json_schema import text as t
from grammars.frontends.json_schema.assertions import (
    TYPES,
    Arrays,
    Branch,
    Places,
    Strings,
    identity,
)
from grammars.frontends.json_schema.document import Document
from grammars.frontends.json_schema.numbers import equal_to, number_expr
from grammars.frontends.json_schema.reading import Reader
from grammars.frontends.json_schema.satisfies import satisfies
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    NOTHING,
    Expr,
    GrammarIR,
    Literal,
    Ref,
    Rule,
    Span,
    alt,
    both,
    minus,
    optional,
    repeat,
    seq,
    single_rule,
    walk,
)
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.recognizer import Recognizer

_ANYTHING: Final[Places] = ()
_COMMA: Final = Literal(b",")
_STEPS: Final = 24
"""Optional parts nested before a rule of its own begins (keeps expressions shallow)."""


class Writer:
    """Writes the grammar of one document."""

    def __init__(self, document: Document, *, compact: bool, limits: Limits) -> None:
        self._reader = Reader(document, limits)
        self._limits = limits
        self._names: dict[Places, str] = {}
        self._todo: list[Places] = []
        self._rules: dict[str, Rule] = {}
        self._compact = compact
        self._comma = seq(_COMMA, self._gap)
        self._notes: dict[str, None] = {}

    def grammar(self) -> GrammarIR:
        """The whole grammar, the root's rule first."""
        start = self._name(("",))
        while self._todo:
            places = self._todo.pop()
            name = self._names[places]
            pointer = places[0] if places else None
            self._rules[name] = Rule(name, NOTHING)  # keeps its position among the rules
            self._rules[name] = Rule(name, self._places(places), Span(pointer=pointer))
        rules = sorted(self._rules.values(), key=lambda rule: rule.name != start)
        return GrammarIR(tuple(rules), start, tuple(self._notes))

    @property
    def _gap(self) -> Expr:
        """Blanks that may stand inside brackets and after separators: none, one, or a new line."""
        if self._compact:
            return EPSILON
        return optional(alt(Literal(b" "), self._fixed("_new line", t.NEW_LINE)))

    # -- rules ---------------------------------------------------------------------------------

    def _name(self, places: Places) -> str:
        name = self._names.get(places)
        if name is None:
            name = " & ".join(f"#{place}" for place in places) if places else "any value"
            self._names[places] = name
            self._todo.append(places)
        return name

    def _ref(self, places: Places) -> Expr:
        """The rule for values that meet all places."""
        return Ref(self._name(self._meaningful(places)))

    def _meaningful(self, places: Places) -> Places:
        """Without places that allow anything; references followed where they say nothing else."""
        out: list[str] = []
        for place in places:
            place = self._follow(place)
            if self._reader.document.at(place) not in (True, {}):
                out.append(place)
        return tuple(dict.fromkeys(out))

    def _follow(self, place: str) -> str:
        seen = [place]
        while (way := self._reader.single_way(place)) and way[0] == "$ref":
            place = way[1][0]
            if place in seen:
                break  # Reader.branches says what is wrong
            seen.append(place)
        return place

    def _fixed(self, name: str, body: Expr) -> Expr:
        """A rule that many places share."""
        if name not in self._rules:
            self._rules[name] = Rule(name, body, shared=True)
        return Ref(name)

    def _places(self, places: Places) -> Expr:
        if len(places) == 1:
            way = self._reader.single_way(places[0])
            if way is not None and way[0] == "anyOf":
                self._reader.branches(places)  # complains of circles
                return alt(*(self._ref((place,)) for place in way[1]))
        branches = self._reader.branches(places)
        return alt(*(self._branch(branch) for branch in branches))

    # -- one alternative -----------------------------------------------------------------------

    def _branch(self, branch: Branch) -> Expr:
        if branch.values is not None:
            return self._values(branch)
        if not branch.types:
            self._note(branch, "the types exclude each other")
        return alt(*(self._typed(kind, branch) for kind in TYPES if kind in branch.types))

    def _typed(self, kind: str, branch: Branch) -> Expr:
        match kind:
            case "null":
                return Literal(b"null")
            case "boolean":
                return alt(Literal(b"true"), Literal(b"false"))
            case "number":
                return self._number(branch)
            case "string":
                return self._string(branch)
            case "array":
                return self._array(branch)
        return self._object(branch)

    def _number(self, branch: Branch) -> Expr:
        numbers = branch.numbers
        if numbers.is_empty:
            self._note(branch, "no number meets both the lower bound and the upper bound")
            return NOTHING
        body = number_expr(numbers, self._limits)
        if numbers.is_free:
            return self._fixed("number", body)
        if numbers.step == 1 and numbers.low is None and numbers.high is None:
            return self._fixed("integer", body)
        return body

    def _string(self, branch: Branch) -> Expr:
        strings = branch.strings
        if strings.is_empty:
            self._note(branch, "minLength is above maxLength")
            return NOTHING
        if strings == Strings():
            return self._fixed("string", t.STRING)
        if not strings.patterns:
            return t.string_of_length(strings.low, strings.high)
        parts = [_pattern(pattern, place) for pattern, place in strings.patterns]
        if strings.low or strings.high is not None:
            parts.append(repeat(ANY_CHAR, strings.low, strings.high))
        if len(parts) == 1:
            return t.quoted(parts[0])
        named = [f"#{place}" for _, place in strings.patterns]
        named += ["minLength"] if strings.low else []
        named += ["maxLength"] if strings.high is not None else []
        return self._own_rule(" together with ".join(named), t.quoted(both(*parts)), visible=True)

    def _note(self, branch: Branch, clash: str) -> None:
        where = " and ".join(f"#{place}" for place in branch.sources[:4]) or "#"
        self._notes[f"at {where}: {clash}"] = None

    # -- arrays --------------------------------------------------------------------------------

    def _array(self, branch: Branch) -> Expr:
        arrays = branch.arrays
        if arrays.is_empty:
            self._note(branch, "minItems is above maxItems")
            return NOTHING
        return self._brackets(b"[", arrays.low == 0, self._items(arrays), b"]")

    def _brackets(self, opening: bytes, may_be_empty: bool, inside: Expr, closing: bytes) -> Expr:
        """Something in brackets; ``inside`` is not empty."""
        content = seq(self._gap, inside, self._gap)
        return seq(
            Literal(opening), alt(self._gap, content) if may_be_empty else content, Literal(closing)
        )

    def _items(self, arrays: Arrays) -> Expr:
        """At least one item, each but the first with its comma; built from the last one back."""
        single = len(arrays.prefix)
        last = single if arrays.high is None else min(single, arrays.high)
        body = self._rest(arrays) if last == single else EPSILON
        for index in range(last - 1, -1, -1):
            body = seq(self._item(arrays, index), body)
            if index > 0 and index >= arrays.low:
                body = optional(body)
            if index and index % _STEPS == 0:
                body = self._own_rule(f"items from {index}", body)
        return body

    def _rest(self, arrays: Arrays) -> Expr:
        """What may follow the items that have places of their own."""
        done = len(arrays.prefix)
        if arrays.high is not None and done >= arrays.high:
            return EPSILON if done else NOTHING
        low = max(arrays.low - done, 0)
        high = None if arrays.high is None else arrays.high - done
        each = seq(self._comma, self._ref(arrays.rest))
        if done:
            return repeat(each, low, high)
        more = repeat(each, max(low - 1, 0), None if high is None else high - 1)
        return seq(self._ref(arrays.rest), more)

    def _item(self, arrays: Arrays, index: int) -> Expr:
        value = self._ref(arrays.item(index))
        return value if index == 0 else seq(self._comma, value)

    def _own_rule(self, what: str, body: Expr, *, visible: bool = False) -> Expr:
        name = what if visible else f"_{what} {len(self._rules)}"  # "_": not in rule paths
        while name in self._rules:
            name += "'"
        self._rules[name] = Rule(name, body)
        return Ref(name)

    # -- objects -------------------------------------------------------------------------------

    def _object(self, branch: Branch) -> Expr:
        objects = branch.objects
        named = dict(objects.properties)
        for name in objects.required:
            if any(self._reader.document.at(place) is False for place in objects.value(name)):
                self._note(branch, f"the required key {name!r} is not allowed")
        for name in objects.required:
            named.setdefault(name, objects.others)
        pairs = [
            (self._pair(name, places), name in objects.required) for name, places in named.items()
        ]
        other = self._other_pair(tuple(named), objects.others)
        return self._brackets(b"{", not objects.required, self._pairs(pairs, other), b"}")

    def _pair(self, name: str, places: Places) -> Expr:
        return seq(t.string_literal(name), Literal(b":"), self._gap, self._ref(places))

    def _other_pair(self, named: tuple[str, ...], places: Places) -> Expr:
        """A key that has no place of its own, with its value."""
        if any(self._reader.document.at(place) is False for place in places):
            return NOTHING
        if not named:
            key = self._fixed("string", t.STRING)
        else:
            listed = alt(*(t.string_content(name) for name in named))
            content = minus(repeat(t.ANY_SPELLED), listed)
            key = seq(Literal(b'"'), content, Literal(b'"'))
            name = "key other than " + ", ".join(map(repr, named))
            key = self._fixed(name, key)
        return seq(key, Literal(b":"), self._gap, self._ref(places))

    def _pairs(self, pairs: list[tuple[Expr, bool]], other: Expr) -> Expr:
        """At least one pair: those in order, optional ones there or not, then others.

        Which pair is the first decides where commas stand: up to the first required pair every
        pair may be it, and what follows is shared.
        """
        others = repeat(seq(self._comma, other))
        first_required = next((i for i, (_, needed) in enumerate(pairs) if needed), len(pairs))
        tail = self._after(pairs[first_required + 1 :], others)
        if first_required < len(pairs):
            ways = [seq(pairs[first_required][0], tail)]
            tail = seq(self._comma, pairs[first_required][0], tail)
        else:
            ways = [seq(other, others)]
            tail = others
        for i in range(first_required - 1, -1, -1):
            tail = self._own_rule("more", tail) if _is_large(tail) else tail
            ways.append(seq(pairs[i][0], tail))
            tail = seq(optional(seq(self._comma, pairs[i][0])), tail)
        return alt(*reversed(ways))

    def _after(self, pairs: list[tuple[Expr, bool]], others: Expr) -> Expr:
        parts = [seq(self._comma, pair) for pair, _ in pairs]
        kept = [p if needed else optional(p) for p, (_, needed) in zip(parts, pairs, strict=True)]
        return seq(*kept, others)

    # -- values --------------------------------------------------------------------------------

    def _values(self, branch: Branch) -> Expr:
        assert branch.values is not None
        distinct = {identity(v): v for v in branch.values}
        kept = [v for v in distinct.values() if self._satisfies(branch, v)]
        if not kept:
            self._note(branch, "none of the values of enum or const meets the other keywords")
        return alt(*map(self._value, kept))

    def _satisfies(self, branch: Branch, value: Any) -> bool:
        return satisfies(branch, value, self._meets, _finds)

    def _meets(self, places: Places, value: Any) -> bool:
        return any(self._satisfies(b, value) for b in self._reader.branches(places))

    def _value(self, value: Any) -> Expr:
        if value is None or isinstance(value, bool):
            return Literal({None: b"null", True: b"true", False: b"false"}[value])
        if isinstance(value, str):
            return t.string_literal(value)
        if isinstance(value, list):
            return self._bracketed(b"[", map(self._value, value), b"]")
        if isinstance(value, dict):
            pairs = (
                seq(t.string_literal(key), Literal(b":"), self._gap, self._value(item))
                for key, item in value.items()
            )
            return self._bracketed(b"{", pairs, b"}")
        return equal_to(value)

    def _bracketed(self, opening: bytes, parts: Iterable[Expr], closing: bytes) -> Expr:
        separated: list[Expr] = []
        for part in parts:
            separated += [self._comma, part] if separated else [part]
        return self._brackets(opening, not separated, seq(*separated), closing)


def _is_large(expr: Expr) -> bool:
    return sum(1 for _ in walk(expr)) > 8


@lru_cache(4_096)
def _search(pattern: str) -> Expr:
    return ecma_search_to_expr(pattern)


def _pattern(pattern: str, place: str) -> Expr:
    try:
        return _search(pattern)
    except GrammarError as error:
        raise GrammarError(
            f"in the pattern {pattern!r}: {error.message}"
            + (f" (column {error.column} of it)" if error.column else ""),
            pointer=place,
        ) from None


@lru_cache(1_024)
def _finder(pattern: str) -> Recognizer:
    program = compile_ir(single_rule(_search(pattern)), DEFAULT_LIMITS)
    return Recognizer(program, DEFAULT_LIMITS)


def _finds(pattern: str, value: str) -> bool:
    try:
        data = value.encode()
    except UnicodeEncodeError:
        return False
    recognizer = _finder(pattern)
    state, used = recognizer.run(data)
    return used == len(data) and recognizer.accepting[state]
