"""Arguments of a tool as a list of named texts: a schema's properties between tags.

Several model families write ``<parameter=city>Rome</parameter>`` instead of JSON: strings as they are,
other values as JSON.  A :class:`Style` says what stands around keys and values; which keys there
are, in which order, and what their values are comes from the schema, by the same way as in JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.frontends.json_schema import values_to_ir
from grammars.frontends.json_schema.assertions import (
    TYPES,
    Branch,
    Demands,
    Leaf,
    Objects,
    Strings,
    join,
)
from grammars.frontends.json_schema.blanks import with_blanks
from grammars.frontends.json_schema.document import Documents
from grammars.frontends.json_schema.excluding import without_texts
from grammars.frontends.json_schema.objects import KeyClass, Plan
from grammars.frontends.json_schema.reading import Reader
from grammars.frontends.json_schema.strings import ANY_TEXT, content
from grammars.frontends.json_schema.writing import Writer
from grammars.frontends.pieces import Pieces, as_bytes, shortest, text_without
from grammars.ir import (
    EPSILON,
    NOTHING,
    ByteSet,
    Expr,
    Literal,
    Ref,
    Rule,
    Span,
    alt,
    both,
    normalize_ranges,
    not_chars,
    optional,
    repeat,
    seq,
    text,
)
from grammars.limits import Limits

_BLANKS: Final = ByteSet(normalize_ranges((b, b) for b in b" \t\n"))
_MOST_BLANKS: Final = 40
"""Blanks in a row around arguments and values: so many, that a model cannot go on writing them."""
_IN_NO_KEY: Final = tuple((ord(c), ord(c)) for c in "<>\"'&=\n\r\t ")
"""Characters that keys which the schema does not name cannot have."""
_NOT_STRINGS: Final = tuple(t for t in TYPES if t != "string")


def _as_it_is(name: str) -> str:
    return name


@dataclass(frozen=True, slots=True)
class Style:
    """How arguments are written: ``before key middle [type after] value end``.

    Attributes:
        before, middle, after, end: what stands around key, type and value.
        types: the word for each JSON type, if the type is written.
        gap: a text between two arguments; ``None``: blanks, as many as a model likes.
        padded: whether blanks may stand around values that are not strings.
        nested: whether objects and arrays are written in tags, too, instead of as JSON.
        item: what a value of an array begins with, where it is nested (``before`` without a key).
        barred: texts that a string must not have, beside ``end``, since a reader would stop there.
        excludes: texts that strings without pattern and format must not have, those in JSON among them.
        capitals: whether ``True`` and ``False`` stand for booleans, too.
        nothing: what may stand where there are no arguments.
        escape: how a key is written.
        in_no_key: characters of which a key cannot have any, written as ``escape`` writes it.
    """

    before: str
    middle: str
    end: str
    after: str = ""
    types: Mapping[str, str] | None = None
    gap: str | None = None
    padded: bool = True
    nested: bool = False
    item: str = ""
    barred: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    capitals: bool = False
    nothing: str = ""
    escape: Callable[[str], str] = _as_it_is
    in_no_key: str = '<>"'


def _kimi_key(name: str) -> str:
    return name.replace("&", "&amp;").replace('"', "&quot;")


_STRING_OR_NOT: Final = MappingProxyType(
    {kind: "true" if kind == "string" else "false" for kind in TYPES}
)
STYLES: Final[Mapping[str, Style]] = MappingProxyType(
    {
        "qwen_xml": Style("<parameter=", ">", "</parameter>"),
        "minimax_xml": Style('<parameter name="', '">', "</parameter>"),
        "deepseek_xml": Style(
            '<｜DSML｜parameter name="', '" string="', "</｜DSML｜parameter>", '">', _STRING_OR_NOT
        ),
        "deepseek_v4_1_xml": Style(
            '<｜DSML｜ parameter name="',
            '" string="',
            "</｜DSML｜ parameter>",
            '">',
            _STRING_OR_NOT,
        ),
        "glm_xml": Style("<arg_key>", "</arg_key><arg_value>", "</arg_value>"),
        "cohere_xml": Style(
            '<cofl:value name="',
            '" type="',
            "</cofl:value>",
            '">',
            MappingProxyType(
                {
                    **dict.fromkeys(TYPES, "json"),
                    "string": "raw",
                    "object": "dict",
                    "array": "list",
                }
            ),
            nested=True,
            item='<cofl:value type="',
        ),
        "kimi_k3_xml": Style(
            '<|open|>argument key="',
            '" type="',
            "<|close|>argument<|sep|>",
            '"<|sep|>',
            MappingProxyType({kind: kind for kind in TYPES}),
            escape=_kimi_key,
            in_no_key="",
        ),
    }
)
"""The styles of xgrammar's structural tags."""


def parameters(
    schema: Mapping[str, Any] | bool,
    style: Style,
    pieces: Pieces,
    *,
    any_order: bool = False,
    blanks: int | None = None,
    limits: Limits,
) -> Expr:
    """The arguments that a schema of an object describes, one after another.

    A string is written as it is, so it cannot have the text that ends it.  Keys that the schema
    does not name (where ``additionalProperties`` allows any) may be written twice: what reads them
    keeps the last.

    Args:
        schema: of the object with all arguments.
        style: how they are written.
        pieces: where rules go.
        any_order: whether they may stand in any order.
        blanks: how many may stand in a row, where the style allows any.
        limits: bounds on what the grammar may cost.

    Raises:
        GrammarError: with the JSON pointer into the schema, for what cannot be written in this style.
    """
    reader = Reader(Documents(schema, {}), assert_formats=True, limits=limits)
    try:
        return _Parameters(
            reader, style, pieces, any_order=any_order, blanks=blanks, limits=limits
        ).whole()
    except RecursionError:
        raise GrammarError("the schema is nested too deeply to be read") from None


class _Parameters(Writer):
    """Writes objects as parameters; which there are is found as for JSON."""

    def __init__(
        self,
        reader: Reader,
        style: Style,
        pieces: Pieces,
        *,
        any_order: bool,
        blanks: int | None,
        limits: Limits,
    ) -> None:
        super().__init__(
            reader,
            compact=True,
            any_order=any_order,
            shortest=True,
            limits=limits,
            compared=False,
        )
        self._style = style
        self._pieces = pieces
        self._assembly = pieces.assembly
        self._made: dict[tuple[Demands, str | None], Expr] = {}
        most = _MOST_BLANKS if blanks is None else min(blanks, _MOST_BLANKS)
        some = optional(repeat(_BLANKS, 1, most)) if most else EPSILON
        self._most = blanks
        self._pad = some if style.padded else EPSILON
        self._edge = some if style.gap is None else EPSILON
        self._comma = some if style.gap is None else Literal(style.gap.encode())
        self._json = partial(
            values_to_ir,
            reader,
            compact=blanks == 0,
            any_order=any_order,
            shortest=True,
            limits=limits,
        )

    def whole(self) -> Expr:
        """All arguments."""
        body = self._arguments((self._reader.root(),))
        self._assembly.notes |= dict.fromkeys(self._notes)
        return self.own_rule("arguments", body)

    # -- objects -------------------------------------------------------------------------------

    def _arguments(self, demands: Demands) -> Expr:
        """The parameters of an object."""
        demands = self._meaningful(demands)
        branches = [b for b in self._brancher.branches(demands) if "object" in b.types]
        for branch in branches:
            if branch.values is not None:
                self._refuse(branch, "objects listed one by one (enum, const)")
        self._apart = len(branches) > 1
        return alt(*(self._parameters(branch, branch.objects) for branch in branches))

    def _parameters(self, branch: Branch, objects: Objects) -> Expr:
        ways = []
        for plan in self._planner.plans(objects):
            if plan.classes and plan.low:
                self._refuse(branch, "minProperties where keys of any name are allowed")
            inside = NOTHING if plan.high == 0 else self._content(plan)
            inside = seq(self._edge, inside, self._edge)
            nothing = alt(self._edge, text(self._style.nothing))
            ways.append(alt(nothing, inside) if plan.may_be_empty else inside)
        return alt(*ways)

    def _plan(self, plan: Plan) -> Expr:
        raise NotImplementedError("objects in JSON are written by writers of their own")

    def _refuse(self, branch: Branch, what: str) -> None:
        place = branch.sources[-1] if branch.sources else ""
        raise GrammarError(
            f"{what} cannot be written as parameters; say it with properties", pointer=place
        )

    def own_rule(self, what: str, body: Expr, *, shared: bool = False) -> Expr:
        """A new rule of the whole."""
        if body == NOTHING:
            return body
        name = self._assembly.name(f"_{what}")
        self._assembly.rules.append(Rule(name, body, Span(), shared))
        return Ref(name)

    # -- one parameter -------------------------------------------------------------------------

    def _pair(self, name: str, demands: Demands) -> Expr:
        known = self._known_pairs.get((name, demands))
        if known is None:
            known = self.own_rule(f"parameter {name}", self._parameter(self._key(name), demands))
            self._known_pairs[name, demands] = known
        return known

    def _key(self, name: str) -> Expr:
        written = self._style.escape(name)
        bad = [c for c in self._style.in_no_key if c in written]
        if bad or not name or "\n" in written:
            raise GrammarError(
                f"a key {name!r} cannot be written between these tags"
                + (f", as it has {bad[0]!r} in it" if bad else "")
                + "; rename it"
            )
        return text(written)

    def _class_pair(self, keys: KeyClass) -> Expr:
        plain = repeat(not_chars(_IN_NO_KEY), 1)
        barred = [as_bytes(t) for t in shortest(self._style.excludes)]
        plain = both(plain, text_without(tuple(barred))) if barred else plain
        key = plain if keys.key == ANY_TEXT else both(plain, keys.key)
        name = self._keys.get(keys.key)
        if name is None:
            name = self._keys[keys.key] = self._assembly.name(keys.label)
            self._assembly.rules.append(Rule(name, key, shared=True))
        return self._parameter(Ref(name), keys.demands)

    def _parameter(self, key: Expr, demands: Demands) -> Expr:
        begin = seq(text(self._style.before), key, text(self._style.middle))
        return self._tagged(begin, demands)

    def _tagged(self, begin: Expr, demands: Demands) -> Expr:
        """What a value is written between, and the value."""
        return seq(begin, self._value_in(demands), text(self._style.end))

    def _value_in(self, demands: Demands) -> Expr:
        """A value with the word for its type, if the style has words."""
        style = self._style
        if style.types is None:
            capitals = [text(str(w)) for w in (True, False) if self._judge.meets(demands, w)]
            more = capitals if style.capitals else []
            return seq(
                text(style.after), alt(self._string_in(demands), self._others(demands), *more)
            )
        words: dict[str, list[str]] = {}
        for kind in _NOT_STRINGS:
            words.setdefault(style.types[kind], []).append(kind)
        ways = [seq(text(style.types["string"] + style.after), self._string_in(demands))]
        for word, kinds in words.items():
            ways.append(seq(text(word + style.after), self._others(demands, tuple(kinds))))
        return alt(*ways)

    # -- values --------------------------------------------------------------------------------

    def _others(self, demands: Demands, kinds: tuple[str, ...] = _NOT_STRINGS) -> Expr:
        """Values that are no strings."""
        if self._style.nested and kinds == ("object",):
            return self._deeper(demands, "object")
        if self._style.nested and kinds == ("array",):
            return self._deeper(demands, "array")
        asked = Leaf(Branch(types=frozenset(kinds)), f"({' or '.join(kinds)})")
        wanted = join(demands, (asked,))
        if not self._brancher.possible(wanted):
            return NOTHING
        known = self._made.get((wanted, None))
        if known is None:
            made = self._json(wanted)
            made = with_blanks(made, self._most) if self._most else made
            barred = [as_bytes(t) for t in shortest(self._style.excludes)]
            made = without_texts(made, barred) if barred else made
            known = self._made[wanted, None] = self._pieces.add(made)
        return seq(self._pad, known, self._pad)

    def _deeper(self, demands: Demands, kind: str) -> Expr:
        """An object or array in tags: a rule, since values may hold values of their own kind."""
        wanted = join(demands, (Leaf(Branch(types=frozenset((kind,))), kind),))
        known = self._made.get((wanted, kind))
        if known is not None:
            return known
        if not self._brancher.possible(wanted):
            return NOTHING
        name = self._assembly.name(kind)
        known = self._made[wanted, kind] = Ref(name)
        body = self._arguments(wanted) if kind == "object" else self._items(wanted)
        self._assembly.rules.append(Rule(name, body))
        return known

    def _items(self, demands: Demands) -> Expr:
        return alt(*(self._listed(branch) for branch in self._brancher.branches(demands)))

    def _listed(self, branch: Branch) -> Expr:
        arrays = branch.arrays.tightened()
        if branch.values is not None:
            self._refuse(branch, "arrays listed one by one (enum, const)")
        if arrays.contains or arrays.unique is not None:
            self._refuse(branch, "contains and uniqueItems")
        if arrays.is_empty:
            return NOTHING
        first = [self._item(d) for d in arrays.prefix[: arrays.high]]
        left = None if arrays.high is None else arrays.high - len(first)
        owed = max(arrays.low - len(first), 0)
        rest = repeat(self._item(arrays.rest), owed, left) if left != 0 else EPSILON
        whole = seq(*first[: arrays.low])
        for item in reversed(first[arrays.low :]):
            rest = optional(seq(item, rest))
        return seq(self._edge, whole, rest)

    def _item(self, demands: Demands) -> Expr:
        return seq(self._tagged(text(self._style.item), demands), self._edge)

    def _string_in(self, demands: Demands) -> Expr:
        """Strings as they are."""
        asked = Leaf(Branch(types=frozenset(("string",))), "string")
        wanted = join(demands, (asked,))
        if not self._brancher.possible(wanted):
            return NOTHING
        ways = [self._raw_strings(b) for b in self._brancher.branches(wanted)]
        return alt(*ways)

    def _raw_strings(self, branch: Branch) -> Expr:
        if branch.values is not None:
            stops = [*self._stops(excludes=True)]
            words = [v.data for v in branch.values if self._judge.allows(branch, v.data)]
            kept = [w for w in words if isinstance(w, str) and not any(s in w for s in stops)]
            return alt(*map(text, kept))
        excluded = [v.data for v in branch.excluded if isinstance(v.data, str)]
        stops = self._stops(excludes=not branch.strings.shapes)
        body: Expr = text_without(tuple(map(as_bytes, stops)))
        if branch.strings != Strings() or excluded:
            body = both(body, content(branch.strings, excluded))
        return self._pieces.shared("_string", body)

    def _stops(self, *, excludes: bool) -> list[str]:
        """Texts that a string must not have."""
        style = self._style
        return shortest((style.end, *style.barred, *(style.excludes if excludes else ())))


__all__ = ["STYLES", "Style", "parameters"]
