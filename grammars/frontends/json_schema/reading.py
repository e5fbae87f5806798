"""Keywords to formulas: what one schema object demands of a value.

Each keyword becomes a formula of its own; together they are the schema's :meth:`Reader.meaning`.
What the places below say is left to whoever needs it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.advice import suggestion
from grammars.frontends.json_schema.assertions import (
    ALL_TYPES,
    ANYTHING,
    NOTHING,
    TYPES,
    All,
    Arrays,
    At,
    Bound,
    Branch,
    Contains,
    Demands,
    Either,
    Env,
    Formula,
    Leaf,
    Numbers,
    Objects,
    Region,
    Shape,
    Strings,
    Value,
    negation,
    type_of,
)
from grammars.frontends.json_schema.circles import Circles
from grammars.frontends.json_schema.document import Documents, below, shown
from grammars.frontends.json_schema.evaluated import unevaluated
from grammars.frontends.json_schema.formats import KNOWN as KNOWN_FORMATS
from grammars.frontends.json_schema.keywords import NAMING, VALIDATION, applies
from grammars.frontends.json_schema.rivals import Profile, exactly_one
from grammars.frontends.json_schema.spelling import NO_SPELLINGS, Spellings
from grammars.ir import Expr
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.sources.source import KEYWORD as SOURCE_KEYWORD
from grammars.sources.source import LABELS as SOURCE_LABELS
from grammars.sources.source import Labelled, Source

_Keyword = Callable[["_Schema", str], Formula]
_Words: TypeAlias = list[str]
_Formulas: TypeAlias = list[Formula]
_Places: TypeAlias = list[tuple[str | int, ...]]


class Reader:
    """Reads the schemas of some documents."""

    def __init__(
        self,
        documents: Documents,
        *,
        assert_formats: bool,
        spellings: Spellings = NO_SPELLINGS,
        source: Source | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.documents = documents
        self.source = source
        self.spellings = spellings
        self.assert_formats = assert_formats
        self._limits = limits
        self._places: dict[str, At] = {}
        self._read: dict[At, Formula] = {}
        self._meanings: dict[At, Formula] = {}
        self._circles = Circles(self._plain_meaning)
        self._required_in = (0, False)

    @property
    def requires_in_place(self) -> bool:
        """Whether ``"required": true`` may stand in some schema, as in draft 3."""
        loaded = self.documents.loaded
        if self._required_in[0] != loaded:
            self._required_in = loaded, self.documents.mentions("required", True)
        return self._required_in[1]

    def root(self) -> At:
        """The main schema."""
        return self.place("", self.documents.enter("", ()))

    def place(self, place: str, env: Env = ()) -> At:
        """The schema at a place: the same object each time, so that it is hashed and compared once."""
        if env:
            return At(place, env)
        known = self._places.get(place)
        if known is None:
            known = self._places[place] = At(place)
        return known

    def meaning(self, at: At) -> Formula:
        """What the schema at a place says, in terms of the schemas below it.

        Raises:
            GrammarError: for a malformed keyword, a reference that leads nowhere, or references
                that only go in a circle or negate themselves.
            LimitExceeded: if a circle of references has too many ways through it.
        """
        known = self._meanings.get(at)
        if known is None:
            limit = self._limits.max_schema_branches
            if at.barred and len(self._meanings) - len(self._read) > limit:
                raise LimitExceeded(
                    "max_schema_branches",
                    limit,
                    "unfolding a circle of references",
                    pointer=at.place,
                )
            known = self._meanings[at] = self._circles.unfolded(at)
        return known

    def _plain_meaning(self, at: At) -> Formula:
        """The same with references that go in a circle as they stand."""
        known = self._read.get(at)
        if known is None:
            schema = self.documents.at(at.place)
            if isinstance(schema, bool):
                known = ANYTHING if schema else NOTHING
            else:
                parts = _Schema(self, at, schema).formulas()
                known = All(tuple(f for f in parts if f != ANYTHING))
            self._read[at] = known
        return known

    def target(self, at: At, keyword: str) -> At:
        """Where a reference at a place leads."""
        place = self.documents.resolve(at.place, keyword, at.env)
        return self.place(place, self.documents.enter(place, at.env))


class _Schema:
    """One schema object."""

    def __init__(self, reader: Reader, at: At, schema: dict[str, Any]) -> None:
        self.reader = reader
        self.at = at
        self.schema = schema
        self.draft = reader.documents.draft(at.place)

    def formulas(self) -> Iterator[Formula]:
        """What its keywords say."""
        if "$ref" in self.schema and self.draft <= 7:
            yield self.reader.target(self.at, "$ref")
            return
        draft, declared, asserts = self.reader.documents.dialect(self.at.place)
        said = [keyword for keyword in self.schema if keyword in KEYWORDS]
        for keyword in sorted(said, key=_ORDER.__getitem__):
            if applies(keyword, draft, declared=declared):
                if keyword in VALIDATION and not asserts:
                    continue
                yield KEYWORDS[keyword](self, keyword)

    # -- help ----------------------------------------------------------------------------------

    def sub(self, *keys: str | int) -> At:
        """A schema below this one."""
        place = below(self.at.place, *keys)
        self.reader.documents.at(place)  # complains if it is no schema
        return self.reader.place(place, self.reader.documents.enter(place, self.at.env))

    def simple(self, *keys: str | int) -> Demands:
        """The same, as demands: nothing at all where it allows anything."""
        documents = self.reader.documents
        place = below(self.at.place, *keys)
        schema = documents.at(place)  # complains if it is no schema
        if schema is True or schema == {}:
            return ()
        if schema is False:
            return (NOTHING,)
        env = documents.enter(place, self.at.env)
        return (self.reader.place(documents.canonical(place), env),)

    def leaf(self, branch: Branch, keyword: str) -> Leaf:
        place = below(self.at.place, keyword)
        named = Branch(
            branch.types,
            branch.numbers,
            branch.strings,
            branch.arrays,
            branch.objects,
            branch.values,
            branch.excluded,
            (place,),
        )
        return Leaf(named, place if place[:1] not in ("", "/") else f"#{place}")

    def malformed(self, keyword: str, wanted: str) -> GrammarError:
        return GrammarError(
            f"{keyword!r} must be {wanted}, not {shown(self.schema[keyword])}",
            pointer=below(self.at.place, keyword),
        )

    def count(self, keyword: str) -> int:
        value = self.schema[keyword]
        if isinstance(value, Decimal) and value == value.to_integral_value():
            value = int(value)  # 2.0 is an integer
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.malformed(keyword, "an integer of at least 0")
        return value

    def number(self, keyword: str) -> Decimal:
        value = self.schema[keyword]
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise self.malformed(keyword, "a number")
        return Decimal(value)

    def names(self, keyword: str) -> tuple[str, ...]:
        value = self.schema[keyword]
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self.malformed(keyword, "a list of property names")
        return tuple(dict.fromkeys(value))

    def mapping(self, keyword: str) -> dict[str, Any]:
        value = self.schema.get(keyword, {})
        if not isinstance(value, dict):
            raise self.malformed(keyword, "an object of schemas")
        return value

    def list(self, keyword: str) -> tuple[At, ...]:
        value = self.schema[keyword]
        if not isinstance(value, list) or not value:
            raise self.malformed(keyword, "a list of at least one schema")
        return tuple(self.sub(keyword, i) for i in range(len(value)))

    # -- any type ------------------------------------------------------------------------------

    def types(self, keyword: str) -> Formula:
        """Names of types; draft 3 has schemas among them."""
        value = self.schema[keyword]
        several = isinstance(value, list)
        entries = value if several else [value]
        if not entries:
            raise self._bad_type(keyword)
        names: _Words = []
        schemas: _Formulas = []
        for i, one in enumerate(entries):
            if isinstance(one, dict) and self.reader.documents.knows(self.at.place, "extends"):
                schemas.append(self.sub(keyword, i) if several else self.sub(keyword))
            elif isinstance(one, str) and one in _TYPE_NAMES:
                names.append(one)
            else:
                raise self._bad_type(keyword)
        if "any" in names:  # draft 3's word for no constraint, still found
            return ANYTHING
        if not schemas:
            return self._named_types(keyword, names)
        return Either((*([self._named_types(keyword, names)] if names else []), *schemas))

    def _named_types(self, keyword: str, names: _Words) -> Leaf:
        types = frozenset("number" if t == "integer" else t for t in names)
        whole = "integer" in names and "number" not in names
        numbers = Numbers(step=Fraction(1), whole=self.draft <= 4) if whole else Numbers()
        return self.leaf(Branch(types=types, numbers=numbers), keyword)

    def _bad_type(self, keyword: str) -> GrammarError:
        given = self.schema[keyword]
        several = given if isinstance(given, list) else [given]
        wrong = [one for one in several if not isinstance(one, str) or one not in _TYPE_NAMES]
        names = sorted(_TYPE_NAMES - {"any"})
        meant = ""
        if wrong and isinstance(wrong[0], str):
            known = _OTHER_NAMES.get(wrong[0].casefold())
            meant = f" (did you mean {known!r}?)" if known else suggestion(wrong[0], names)
        error = self.malformed(keyword, f"one of {', '.join(names)}, or a list")
        return GrammarError(error.message + meant, pointer=error.pointer)

    def disallow(self, keyword: str) -> Formula:
        """Draft 3's opposite of ``type``."""
        return negation(self.types(keyword))

    def extends(self, keyword: str) -> Formula:
        """Draft 3's ``allOf``, of one schema or several."""
        value = self.schema[keyword]
        if isinstance(value, dict):
            return self.sub(keyword)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.malformed(keyword, "a schema or a list of schemas")
        return All(tuple(self.sub(keyword, i) for i in range(len(value))))

    def enum(self, keyword: str) -> Formula:
        value = self.schema[keyword]
        if not isinstance(value, list):
            raise self.malformed(keyword, "a list")
        return self.leaf(Branch(values=tuple(dict.fromkeys(map(Value, value)))), keyword)

    def const(self, keyword: str) -> Formula:
        return self.leaf(Branch(values=(Value(self.schema[keyword]),)), keyword)

    # -- combinators ---------------------------------------------------------------------------

    def reference(self, keyword: str) -> Formula:
        return self.reader.target(self.at, keyword)

    def all_of(self, keyword: str) -> Formula:
        return All(self.list(keyword))

    def any_of(self, keyword: str) -> Formula:
        """At least one of several schemas; those that list values are one list."""
        ways = self.list(keyword)
        listed = [self._values(way) for way in ways]
        if sum(values is not None for values in listed) < 2:
            return Either(ways)
        values = [v for found in listed if found is not None for v in found]
        merged = self.leaf(Branch(values=tuple(dict.fromkeys(values))), keyword)
        others = (way for way, found in zip(ways, listed, strict=True) if found is None)
        return Either((merged, *others))

    def _values(self, at: At) -> tuple[Value, ...] | None:
        """All values of a schema that does nothing but list them."""
        schema = self.reader.documents.at(at.place)
        if isinstance(schema, bool) or ("enum" not in schema) == ("const" not in schema):
            return None
        if not schema.keys() & _SAYING <= {"enum", "const", "type"}:
            return None
        documents = self.reader.documents
        keyword = "enum" if "enum" in schema else "const"
        if not documents.knows(at.place, keyword) or not documents.asserts(at.place):
            return None
        values = schema["enum"] if keyword == "enum" else [schema["const"]]
        kind = schema.get("type", "string")
        if not isinstance(values, list) or kind != "string":
            return None
        if not all(isinstance(v, str) or ("type" not in schema and v is None) for v in values):
            return None
        return tuple(map(Value, values))

    def one_of(self, keyword: str) -> Formula:
        """Exactly one of several schemas."""
        ways = self.list(keyword)
        if len(ways) == 1:
            return ways[0]
        listed = [self._values(way) for way in ways]
        if None not in listed:
            values = [v for found in listed for v in dict.fromkeys(found or ())]
            counts = Counter(values)
            once = tuple(v for v in dict.fromkeys(values) if counts[v] == 1)
            return self.leaf(Branch(values=once), keyword)
        return exactly_one(ways, [self._profile(way) for way in ways], str(self.at))

    def _profile(self, at: At) -> Profile:
        """What tells a schema apart from others at a glance."""
        documents = self.reader.documents
        for _ in range(_MOST_REFERENCES):
            schema = documents.at(at.place)
            if isinstance(schema, bool) or not isinstance(schema.get("$ref"), str):
                break
            if documents.draft(at.place) > 7 and not schema.keys() & _SAYING <= {"$ref"}:
                break
            at = self.reader.target(at, "$ref")
        if isinstance(schema, bool) or not documents.asserts(at.place):
            return Profile()
        draft = documents.draft(at.place)
        if "$ref" in schema and draft <= 7:
            return Profile()
        listed = schema.get("type")
        names = listed if isinstance(listed, list) else [listed]
        types = ALL_TYPES
        words = [t for t in names if isinstance(t, str) and t in _TYPE_NAMES - {"any"}]
        if words and len(words) == len(names):
            types = frozenset("number" if t == "integer" else t for t in words)
        values = _listed(schema, draft)
        if values is not None:
            types &= {type_of(v.data) for v in values}
        required, named = schema.get("required"), schema.get("properties")
        tags: dict[str, frozenset[Value]] = {}
        for name, one in named.items() if isinstance(named, dict) else ():
            found = _listed(one, draft)
            if found is not None:
                tags[name] = found
        needed = [r for r in required if isinstance(r, str)] if isinstance(required, list) else []
        return Profile(
            types, values, tags, frozenset(needed), schema.keys() & _SAYING <= _OF_OBJECTS
        )

    def not_(self, keyword: str) -> Formula:
        return negation(self.sub(keyword))

    def if_(self, keyword: str) -> Formula:
        if "then" not in self.schema and "else" not in self.schema:
            return ANYTHING
        condition = self.sub(keyword)
        then = self.sub("then") if "then" in self.schema else ANYTHING
        other = self.sub("else") if "else" in self.schema else ANYTHING
        return Either((All((condition, then)), All((negation(condition), other))))

    # -- numbers and strings -------------------------------------------------------------------

    def bound(self, keyword: str) -> Formula:
        exclusive = "exclusive" + keyword.capitalize()
        bound = Bound(self.number(keyword), self.schema.get(exclusive) is True)
        numbers = Numbers(low=bound) if keyword == "minimum" else Numbers(high=bound)
        return self.leaf(Branch(numbers=numbers), keyword)

    def exclusive(self, keyword: str) -> Formula:
        if isinstance(self.schema[keyword], bool):
            return ANYTHING  # draft 4 has a boolean beside the bound
        bound = Bound(self.number(keyword), strict=True)
        low = keyword == "exclusiveMinimum"
        return self.leaf(
            Branch(numbers=Numbers(low=bound) if low else Numbers(high=bound)), keyword
        )

    def multiple(self, keyword: str) -> Formula:
        step = self.number(keyword)
        if step <= 0:
            raise self.malformed(keyword, "a number above 0")
        return self.leaf(Branch(numbers=Numbers(step=Fraction(step))), keyword)

    def length(self, keyword: str) -> Formula:
        count = self.count(keyword)
        strings = Strings(low=count) if keyword == "minLength" else Strings(high=count)
        return self.leaf(Branch(strings=strings), keyword)

    def pattern(self, keyword: str) -> Formula:
        value = self.schema[keyword]
        if not isinstance(value, str):
            raise self.malformed(keyword, "a string")
        return self._shape("pattern", value, keyword)

    def format(self, keyword: str) -> Formula:
        value = self.schema[keyword]
        if not isinstance(value, str):
            raise self.malformed(keyword, "a string")
        spelling = self.reader.spellings.get(value)
        if spelling is not None and spelling.kind == "number":
            return self.leaf(Branch(numbers=Numbers(spelling=spelling.expr)), keyword)
        if spelling is not None:
            return self._shape("content", spelling.expr, keyword)
        if self.reader.documents.knows(self.at.place, "extends"):
            value = _FORMATS_OF_DRAFT_3.get(value, value)
        if not self.reader.assert_formats or value not in KNOWN_FORMATS:
            return ANYTHING
        older = "format of draft 3" if self.draft == 3 else "older format"
        return self._shape("format" if self.draft >= 7 else older, value, keyword)

    def _shape(self, kind: str, text: str | Expr, keyword: str) -> Formula:
        shape = Shape(kind, text, below(self.at.place, keyword))
        return self.leaf(Branch(strings=Strings(shapes=(shape,))), keyword)

    def tie(self, keyword: str) -> Formula:
        """Whether strings and numbers, or the items of an array, have to stand in the source text."""
        value = self.schema[keyword]
        if value not in ("verbatim", "inferred", "labelled", "rows"):
            raise self.malformed(keyword, "'verbatim', 'inferred', 'labelled' or 'rows'")
        if self.reader.source is None:
            if value != "verbatim":
                return ANYTHING
            raise GrammarError(
                f"{keyword!r} says that values stand in a source text, but there is none; give it as "
                "source=, or leave the keyword out",
                pointer=below(self.at.place, keyword),
            )
        if value == "rows":
            return self.leaf(Branch(arrays=Arrays(rows=True)), keyword)
        tie = self._labels() if value == "labelled" else value
        branch = Branch(numbers=Numbers(source=tie), strings=Strings(source=tie))
        return self.leaf(branch, keyword)

    def _labels(self) -> Labelled:
        """The labels that are listed, else the title, else the name of the property."""
        given = self.schema.get(SOURCE_LABELS, self.schema.get("title"))
        if given is None:
            _, _, below_it = self.at.place.rpartition("/properties/")
            given = below_it.split("/")[0].replace("~1", "/").replace("~0", "~")
        labels = [given] if isinstance(given, str) else given
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise self.malformed(SOURCE_LABELS, "a list of texts")
        return Labelled.of(*labels)

    # -- arrays --------------------------------------------------------------------------------

    def items(self, keyword: str) -> Formula:
        """``items`` in either form; a list of schemas stood here before 2020-12."""
        if not isinstance(self.schema["items"], list):
            start = self._prefix_length()
            rest = self.simple("items")
            return self.leaf(Branch(arrays=Arrays(prefix=((),) * start, rest=rest)), keyword)
        prefix = tuple(self.simple("items", i) for i in range(len(self.schema["items"])))
        rest = self.simple("additionalItems") if "additionalItems" in self.schema else ()
        return self.leaf(Branch(arrays=Arrays(prefix=prefix, rest=rest)), keyword)

    def _prefix_length(self) -> int:
        value = self.schema.get("prefixItems", [])
        if not applies("prefixItems", self.draft):
            return 0
        if not isinstance(value, list):
            raise self.malformed("prefixItems", "a list of schemas")
        return len(value)

    def prefix_items(self, keyword: str) -> Formula:
        prefix = tuple(self.simple(keyword, i) for i in range(self._prefix_length()))
        return self.leaf(Branch(arrays=Arrays(prefix=prefix)), keyword)

    def item_count(self, keyword: str) -> Formula:
        count = self.count(keyword)
        arrays = Arrays(low=count) if keyword == "minItems" else Arrays(high=count)
        return self.leaf(Branch(arrays=arrays), keyword)

    def unique(self, keyword: str) -> Formula:
        value = self.schema[keyword]
        if not isinstance(value, bool):
            raise self.malformed(keyword, "true or false")
        return self.leaf(Branch(arrays=Arrays(unique=True)), keyword) if value else ANYTHING

    def contains(self, keyword: str) -> Formula:
        low, high = 1, None
        if self.draft >= 2019 and self.reader.documents.asserts(self.at.place):
            low = self.count("minContains") if "minContains" in self.schema else 1
            high = self.count("maxContains") if "maxContains" in self.schema else None
        one = Contains(self.simple(keyword), low, high)
        return self.leaf(Branch(arrays=Arrays(contains=(one,))), keyword)

    # -- objects -------------------------------------------------------------------------------

    def properties(self, keyword: str) -> Formula:
        named = tuple((name, self.simple(keyword, name)) for name in self.mapping(keyword))
        placed = tuple((name, below(self.at.place, keyword, name)) for name, _ in named)
        required: tuple[str, ...] = ()
        if self.reader.requires_in_place and self.reader.documents.asserts(self.at.place):
            required = tuple(n for n, _ in named if self._must_exist(self.sub(keyword, n), ()))
        objects = Objects(properties=named, placed=placed, required=required)
        return self.leaf(Branch(objects=objects), keyword)

    def _must_exist(self, at: At, seen: tuple[At, ...]) -> bool:
        """Whether a schema is not met by what is not there: ``"required": true`` of draft 3."""
        schema = self.reader.documents.at(at.place)
        if isinstance(schema, bool) or at in seen:
            return False
        seen = (*seen, at)
        inner = _Schema(self.reader, at, schema)
        if "$ref" in schema:
            if self._must_exist(self.reader.target(at, "$ref"), seen):
                return True
            if inner.draft <= 7:
                return False
        if schema.get("required") is True:
            return True
        return any(self._must_exist(inner.sub(*keys), seen) for keys in inner.conjuncts()) or any(
            all(
                inner._is_schema(*keys) and self._must_exist(inner.sub(*keys), seen)
                for keys in ways
            )
            for ways in inner.disjuncts()
        )

    def conjuncts(self) -> Iterator[tuple[str | int, ...]]:
        """Where the schemas stand that all have to be met."""
        for keyword in ("extends", "allOf"):
            value = self.schema.get(keyword)
            if not self.reader.documents.knows(self.at.place, keyword):
                continue
            if isinstance(value, dict):
                yield (keyword,)
            elif isinstance(value, list):
                yield from ((keyword, i) for i in range(len(value)))

    def disjuncts(self) -> Iterator[_Places]:
        """Lists of places of which one has to be met."""
        for keyword in ("type", "anyOf", "oneOf"):
            value = self.schema.get(keyword)
            if isinstance(value, list) and value:
                yield [(keyword, i) for i in range(len(value))]

    def _is_schema(self, keyword: str | int, index: str | int) -> bool:
        return isinstance(self.schema[keyword][index], dict)  # type: ignore[index]

    def pattern_properties(self, keyword: str) -> Formula:
        every = tuple(
            (Region(inside=(pattern,)), self.simple(keyword, pattern))
            for pattern in self.mapping(keyword)
        )
        return self.leaf(Branch(objects=Objects(every=every)), keyword)

    def additional_properties(self, keyword: str) -> Formula:
        rest = Region(
            names=frozenset(self.mapping("properties")),
            outside=tuple(self.mapping("patternProperties")),
        )
        every = ((rest, self.simple(keyword)),)
        return self.leaf(Branch(objects=Objects(every=every)), keyword)

    def property_names(self, keyword: str) -> Formula:
        demands = self.simple(keyword)
        if not demands:
            return ANYTHING
        bad = Region(key=tuple(negation(d) for d in demands))  # these keys have no value at all
        return self.leaf(Branch(objects=Objects(every=((bad, (NOTHING,)),))), keyword)

    def required(self, keyword: str) -> Formula:
        if isinstance(self.schema[keyword], bool):
            return ANYTHING  # draft 3: said of a property, and read with ``properties``
        return self.leaf(Branch(objects=Objects(required=self.names(keyword))), keyword)

    def property_count(self, keyword: str) -> Formula:
        count = self.count(keyword)
        objects = Objects(low=count) if keyword == "minProperties" else Objects(high=count)
        return self.leaf(Branch(objects=objects), keyword)

    def dependencies(self, keyword: str) -> Formula:
        out: list[Formula] = []
        for name, value in self.mapping(keyword).items():
            if isinstance(value, str):  # draft 3 allowed one name alone
                value = [value]
            if isinstance(value, list):
                if not all(isinstance(other, str) for other in value):
                    raise self.malformed(keyword, "an object of schemas or lists of names")
                others = tuple(dict.fromkeys(value))
                then: Formula = self.leaf(Branch(objects=Objects(required=others)), keyword)
                out.append(self._if_present(keyword, name, then) if others else ANYTHING)
            else:
                out.append(self._if_present(keyword, name, self.sub(keyword, name)))
        return All(tuple(f for f in out if f != ANYTHING))

    def _if_present(self, keyword: str, name: str, then: Formula) -> Formula:
        absent = Objects(properties=((name, (NOTHING,)),))
        present = Branch(types=frozenset(["object"]), objects=Objects(required=(name,)))
        return Either(
            (
                self.leaf(Branch(objects=absent), keyword),
                All((self.leaf(present, keyword), then)),
            )
        )

    # -- what nothing else has looked at -------------------------------------------------------

    def unevaluated(self, keyword: str) -> Formula:
        demands = self.simple(keyword)
        if not demands:
            return ANYTHING
        return unevaluated(self.reader, self.at, keyword, demands, self.leaf)


_MOST_REFERENCES: Final = 8
_OF_OBJECTS: Final = frozenset(
    [
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "required",
        "minProperties",
        "maxProperties",
    ]
)
"""Keywords that say nothing about values of other types."""
_FORMATS_OF_DRAFT_3: Final = {"ip-address": "ipv4", "host-name": "hostname"}
_OTHER_NAMES: Final = {
    "int": "integer",
    "long": "integer",
    "str": "string",
    "text": "string",
    "float": "number",
    "double": "number",
    "decimal": "number",
    "bool": "boolean",
    "dict": "object",
    "map": "object",
    "list": "array",
    "tuple": "array",
    "none": "null",
    "nil": "null",
}
"""What types are called elsewhere."""
_TYPE_NAMES: Final = frozenset({*TYPES, "integer", "any"})


_WORDS: Final = re.compile(r"\^([A-Za-z0-9_-]+|\([A-Za-z0-9_|-]+\))\$")
"""Patterns that list words."""


def _listed(schema: Any, draft: int) -> frozenset[Value] | None:
    """The values that a schema lists (also by a pattern); it may allow fewer of them."""
    if not isinstance(schema, dict) or ("$ref" in schema and draft <= 7):
        return None
    values = schema.get("enum")
    if values is None and "const" in schema and applies("const", draft):
        values = [schema["const"]]
    pattern = schema.get("pattern")
    if values is None and isinstance(pattern, str) and schema.get("type") == "string":
        words = _WORDS.fullmatch(pattern)
        values = words[1].strip("()").split("|") if words else None
    return frozenset(map(Value, values)) if isinstance(values, list) else None


KEYWORDS: Final[dict[str, _Keyword]] = {
    "type": _Schema.types,
    "disallow": _Schema.disallow,
    "enum": _Schema.enum,
    "const": _Schema.const,
    "minimum": _Schema.bound,
    "maximum": _Schema.bound,
    "exclusiveMinimum": _Schema.exclusive,
    "exclusiveMaximum": _Schema.exclusive,
    "multipleOf": _Schema.multiple,
    "divisibleBy": _Schema.multiple,
    "minLength": _Schema.length,
    "maxLength": _Schema.length,
    "pattern": _Schema.pattern,
    "format": _Schema.format,
    SOURCE_KEYWORD: _Schema.tie,
    "prefixItems": _Schema.prefix_items,
    "items": _Schema.items,
    "minItems": _Schema.item_count,
    "maxItems": _Schema.item_count,
    "uniqueItems": _Schema.unique,
    "contains": _Schema.contains,
    "properties": _Schema.properties,
    "patternProperties": _Schema.pattern_properties,
    "additionalProperties": _Schema.additional_properties,
    "propertyNames": _Schema.property_names,
    "required": _Schema.required,
    "minProperties": _Schema.property_count,
    "maxProperties": _Schema.property_count,
    "$ref": _Schema.reference,
    "$dynamicRef": _Schema.reference,
    "$recursiveRef": _Schema.reference,
    "allOf": _Schema.all_of,
    "extends": _Schema.extends,
    "anyOf": _Schema.any_of,
    "oneOf": _Schema.one_of,
    "not": _Schema.not_,
    "if": _Schema.if_,
    "dependencies": _Schema.dependencies,
    "dependentRequired": _Schema.dependencies,
    "dependentSchemas": _Schema.dependencies,
    "unevaluatedProperties": _Schema.unevaluated,
    "unevaluatedItems": _Schema.unevaluated,
}
"""Those with assertions first: they narrow what the combinators then have to tell apart."""
_ORDER: Final = {keyword: place for place, keyword in enumerate(KEYWORDS)}

_SAYING: Final = NAMING | KEYWORDS.keys()
"""Keywords that a schema does not have for people alone."""
