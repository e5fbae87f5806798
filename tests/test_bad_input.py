"""Bad input of every kind: the type of the error, the place it names and the way out it offers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from constrain import TokenAutomaton, Vocabulary
from grammars import (
    BudgetError,
    Grammar,
    GrammarError,
    LimitExceeded,
    Limits,
    UnsupportedSchemaError,
)

json_schema = Grammar.from_json_schema
gbnf = Grammar.from_gbnf
regex = Grammar.from_regex
lark = Grammar.from_lark
choices = Grammar.from_choices

Case: TypeAlias = tuple[str, Callable[[], Any], type[Exception], list[str]]
"""(what, call, type of the error, parts of its message: the place first)."""


def refused(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> Exception:
    """The error of a call, which names all the parts."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind, repr(caught.value)
    for part in parts:
        assert part in str(caught.value), f"{part!r} is not in: {caught.value}"
    return caught.value


def table(cases: list[Case]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Parametrizes a test by (call, kind, parts), named by what the case is about."""
    ids = [what for what, *_ in cases]
    assert len(ids) == len(set(ids))
    return pytest.mark.parametrize(
        ("call", "kind", "parts"), [tuple(rest) for _, *rest in cases], ids=ids
    )


# --- JSON Schema: the text ------------------------------------------------------------------------

SCHEMA_TEXT: list[Case] = [
    ("trailing comma", lambda: json_schema('{\n "type": "object",\n}'), GrammarError,
     ["line 3, column 1", "not JSON", "take out the comma before '}'"]),
    ("unclosed brace", lambda: json_schema('{"type": "object"'), GrammarError,
     ["line 1, column 18", "not JSON", "ends too early", "add '}'"]),
    ("single quotes", lambda: json_schema("{'type': 'object'}"), GrammarError,
     ["line 1, column 2", "double quotes", "{'type': 'object'}"]),
    ("two values", lambda: json_schema('{}\n{}'), GrammarError, ["line 2, column 1", "Extra data"]),
    ("empty text", lambda: json_schema(""), GrammarError, ["line 1, column 1", "text is empty"]),
    ("only blanks", lambda: json_schema(" \n "), GrammarError, ["line 2", "text is empty"]),
    ("nested too deeply", lambda: json_schema("[" * 20_000), GrammarError, ["too deeply"]),
    ("a number", lambda: json_schema("3"), GrammarError, ["object or a boolean", "not 3"]),
    ("a list", lambda: json_schema("[]"), GrammarError, ["object or a boolean", "not []"]),
    ("duplicate key", lambda: json_schema('{"type": "object",\n "type": "array"}'), GrammarError,
     ["'type' twice", "remove one"]),
    ("NaN in text", lambda: json_schema('{"minimum": NaN}'), GrammarError,
     ["NaN is not JSON", "remove it"]),
    ("infinity in text", lambda: json_schema('{"maximum": -Infinity}'), GrammarError,
     ["-Infinity is not JSON", "remove it"]),
]  # fmt: skip


@table(SCHEMA_TEXT)
def test_schema_text(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    refused(call, kind, parts)


@pytest.mark.parametrize("text", [
    '{"properties": {\n  "a": {"type": "string",\n    "type": "array"}}}',
    '{"properties": {\n  "a": {"type": "string",\n    "minimum": NaN}}}',
], ids=["duplicate key", "NaN"])  # fmt: skip
def test_what_json_forbids_has_a_place(text: str) -> None:
    """A schema may be long: "twice in one object" alone does not say where to look."""
    error = refused(lambda: json_schema(text), GrammarError, [])
    assert isinstance(error, GrammarError)
    assert error.line is not None or error.pointer is not None, str(error)


# --- JSON Schema: values that are not JSON --------------------------------------------------------

SCHEMA_VALUES: list[Case] = [
    ("NaN", lambda: json_schema({"properties": {"a": {"minimum": math.nan}}}), GrammarError,
     ["/properties/a/minimum", "nan", "not a JSON number"]),
    ("infinity", lambda: json_schema({"maximum": math.inf}), GrammarError,
     ["/maximum", "inf", "not a JSON number"]),
    ("a set", lambda: json_schema({"properties": {"a": {"enum": {1}}}}), GrammarError,
     ["/properties/a/enum", "set is not", "lists"]),
    ("bytes", lambda: json_schema({"items": {"const": b"x"}}), GrammarError,
     ["/items/const", "bytes is not", "strings"]),
    ("a class", lambda: json_schema({"allOf": [{"type": str}]}), GrammarError,
     ["/allOf/0/type", "type is not", "strings"]),
    ("a key that is no string", lambda: json_schema({"properties": {1: {}}}), GrammarError,
     ["/properties", "key 1", "not a string"]),
    ("nothing", lambda: json_schema(None), GrammarError,  # type: ignore[arg-type]
     ["object or a boolean", "not null"]),
    ("the bytes of a text", lambda: json_schema(b"{}"), GrammarError,  # type: ignore[arg-type]
     ["bytes is not", "strings"]),
]  # fmt: skip


@table(SCHEMA_VALUES)
def test_schema_values(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    refused(call, kind, parts)


# --- JSON Schema: keywords ------------------------------------------------------------------------

SCHEMA_KEYWORDS: list[Case] = [
    ("type", lambda: json_schema({"properties": {"a": {"type": "strin"}}}), GrammarError,
     ["/properties/a/type", '"strin"', "string"]),
    ("type: lists within a list", lambda: json_schema({"type": [["object"]]}), GrammarError,
     ["/type", "or a list", '[["object"]]']),
    ("type: a number", lambda: json_schema({"type": 3}), GrammarError, ["/type", "a list", "not 3"]),
    ("type: one of several", lambda: json_schema({"type": ["null", "nul"]}), GrammarError,
     ["/type", '"nul"', "null"]),
    ("minLength below 0", lambda: json_schema({"items": {"minLength": -1}}), GrammarError,
     ["/items/minLength", "at least 0", "-1"]),
    ("minLength: a fraction", lambda: json_schema({"minLength": 1.5}), GrammarError,
     ["/minLength", "an integer", "1.5"]),
    ("maxItems: a string", lambda: json_schema({"items": {"maxItems": "3"}}), GrammarError,
     ["/items/maxItems", "an integer", '"3"']),
    ("minimum: a string", lambda: json_schema({"minimum": "3"}), GrammarError,
     ["/minimum", "a number", '"3"']),
    ("minimum: null", lambda: json_schema({"minimum": None}), GrammarError,
     ["/minimum", "a number", "null"]),
    ("minimum: a boolean", lambda: json_schema({"minimum": True}), GrammarError,
     ["/minimum", "a number", "true"]),
    ("exclusiveMaximum: a string", lambda: json_schema({"exclusiveMaximum": "3"}), GrammarError,
     ["/exclusiveMaximum", "a number", '"3"']),
    ("multipleOf 0", lambda: json_schema({"multipleOf": 0}), GrammarError,
     ["/multipleOf", "above 0"]),
    ("enum", lambda: json_schema({"enum": "a"}), GrammarError, ["/enum", "a list", '"a"']),
    ("anyOf without members", lambda: json_schema({"anyOf": []}), GrammarError,
     ["/anyOf", "at least one schema"]),
    ("anyOf with a number", lambda: json_schema({"anyOf": [{}, 1]}), GrammarError,
     ["/anyOf/1", "object or a boolean", "not 1"]),
    ("allOf", lambda: json_schema({"allOf": {}}), GrammarError, ["/allOf", "at least one schema"]),
    ("properties", lambda: json_schema({"properties": []}), GrammarError,
     ["/properties", "an object of schemas"]),
    ("a property", lambda: json_schema({"properties": {"a": "string"}}), GrammarError,
     ["/properties/a", "object or a boolean", '"string"']),
    ("required: a name", lambda: json_schema({"required": "a"}), GrammarError,
     ["/required", "a list of property names", '"a"']),
    ("prefixItems", lambda: json_schema({"prefixItems": {}}), GrammarError,
     ["/prefixItems", "a list of schemas"]),
    ("items", lambda: json_schema({"items": 3}), GrammarError, ["/items", "object or a boolean"]),
    ("additionalProperties", lambda: json_schema({"additionalProperties": "no"}), GrammarError,
     ["/additionalProperties", "object or a boolean", '"no"']),
    ("pattern: a number", lambda: json_schema({"pattern": 3}), GrammarError,
     ["/pattern", "a string", "not 3"]),
    ("pattern: an open group", lambda: json_schema({"items": {"pattern": "(a"}}), GrammarError,
     ["/items/pattern", "'(a'", "column 1", "add ')'"]),
    ("pattern: a backreference", lambda: json_schema({"pattern": r"(a)\1"}), GrammarError,
     ["/pattern", "backreference", "column 4", "alternatives"]),
]  # fmt: skip


@table(SCHEMA_KEYWORDS)
def test_schema_keywords(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    error = refused(call, kind, parts)
    assert isinstance(error, GrammarError)
    assert error.pointer == parts[0]


def test_a_keyword_that_cannot_be_exact_is_refused() -> None:
    """Too many combinations of subschemas to tell what has been evaluated."""
    ways = [{"properties": {f"p{i}": True}, "required": [f"p{i}"]} for i in range(12)]
    schema = {"items": {"anyOf": ways, "unevaluatedProperties": False}}
    pointer = "/items/unevaluatedProperties"
    parts = [pointer, "unevaluatedProperties", "512", "fewer alternatives"]
    error = refused(lambda: json_schema(schema), UnsupportedSchemaError, parts)
    assert isinstance(error, UnsupportedSchemaError)
    assert (error.keyword, error.pointer) == ("unevaluatedProperties", pointer)


def test_keywords_of_no_draft_are_annotations() -> None:
    assert json_schema({"type": "null", "x-note": 3, "nullable": "?"}).accepts("null")


@pytest.mark.parametrize("option", ["whitespace", "formats", "property_order"])
def test_unknown_options(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}='none': must be one of '"):
        json_schema({}, **{option: "none"})  # type: ignore[arg-type]


# --- JSON Schema: references ----------------------------------------------------------------------

_CIRCLE = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}
_MAYBE = {"a": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}

REFERENCES: list[Case] = [
    ("misspelt", lambda: json_schema(
        {"properties": {"a": {"$ref": "#/$defs/nme"}}, "$defs": {"name": {}}}
     ), GrammarError, ["/properties/a/$ref", "'#/$defs/nme'", "nowhere", "#/$defs has 'name'"]),
    ("a plain name", lambda: json_schema({"items": {"$ref": "#here"}}), GrammarError,
     ["/items/$ref", "'#here'", "nowhere"]),
    ("no string", lambda: json_schema({"$ref": 3}), GrammarError, ["/$ref", "a string", "not 3"]),
    ("to a list", lambda: json_schema({"items": {"$ref": "#/allOf"}, "allOf": [{}]}), GrammarError,
     ["/items/$ref", "'#/allOf'", "no schema"]),
    ("to another document", lambda: json_schema({"items": {"$ref": "https://example.com/a.json"}}),
     GrammarError, ["/items/$ref", "'https://example.com/a.json'", "out of this schema", "$defs"]),
    ("to a file", lambda: json_schema({"items": {"$ref": "other.json#/$defs/a"}}), GrammarError,
     ["/items/$ref", "'other.json#/$defs/a'", "out of this schema", "$defs"]),
    ("only to itself", lambda: json_schema({"items": {"$ref": "#/items"}}), GrammarError,
     ["/items", "#/items -> #/items", "properties or items"]),
    ("only in a circle", lambda: json_schema({"$ref": "#/$defs/a", "$defs": _CIRCLE}),
     GrammarError, ["/$defs/a", "#/$defs/a -> #/$defs/b -> #/$defs/a", "properties or items"]),
    ("itself by oneOf", lambda: json_schema(
        {"$defs": _MAYBE, "properties": {"x": {"$ref": "#/$defs/a"}}}
     ), GrammarError, ["/$defs/a", "#/$defs/a/oneOf/1 -> #/$defs/a", "own negation"]),
    ("itself by allOf", lambda: json_schema({"allOf": [{"$ref": "#"}]}), GrammarError,
     ["# -> #/allOf/0 -> #", "properties or items"]),
]  # fmt: skip


@table(REFERENCES)
def test_references(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    error = refused(call, kind, parts)
    assert isinstance(error, GrammarError)
    assert error.pointer is not None


def test_recursion_through_properties_and_items_is_no_circle() -> None:
    tree = json_schema({"properties": {"next": {"$ref": "#"}}, "items": {"$ref": "#"}})
    assert tree.accepts('{"next": {"next": [[], {"next": 3}]}}')


# --- GBNF -----------------------------------------------------------------------------------------

GBNF: list[Case] = [
    ("undefined rule", lambda: gbnf('root ::= "a" |\n  objct\nobject ::= "b"'), GrammarError,
     ["line 2, column 3", "'objct' is not defined", "objct ::=", "'object'"]),
    ("no root", lambda: gbnf('rot ::= "a"'), GrammarError,
     ["line 1, column 1", "no rule 'root'", "start=", "'rot'"]),
    ("empty", lambda: gbnf(""), GrammarError, ["line 1, column 1", "no rule 'root'", "start="]),
    ("=", lambda: gbnf('root = "a"'), GrammarError, ["line 1, column 6", "expected '::='"]),
    ("open string", lambda: gbnf('root ::=\n "a'), GrammarError,
     ["line 2, column 2", "never closed", "add '\"'"]),
    ("open group", lambda: gbnf('root ::= ("a"'), GrammarError,
     ["line 1, column 10", "never closed", "add ')'"]),
    ("open class", lambda: gbnf("root ::= [a-z"), GrammarError,
     ["line 1, column 10", "never closed", "add ']'"]),
    ("bad range", lambda: gbnf("root ::= [z-a]"), GrammarError,
     ["line 1, column 11", "'z-a'", "end comes before its start"]),
    ("nothing to repeat", lambda: gbnf('root ::= * "a"'), GrammarError,
     ["line 1, column 10", "nothing to repeat", "'*'"]),
    ("reversed bounds", lambda: gbnf('root ::= "a"{3,1}'), GrammarError,
     ["line 1, column 13", "{3,1}", "{n,m}"]),
    ("unknown escape", lambda: gbnf('root ::= "\\q"'), GrammarError,
     ["line 1, column 11", "unknown escape", "known are"]),
    ("defined twice", lambda: gbnf('root ::= "a"\nroot ::= "b"'), GrammarError,
     ["line 2, column 1", "twice, first in line 1", "rename or remove"]),
]  # fmt: skip


@table(GBNF)
def test_gbnf(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    error = refused(call, kind, parts)
    assert isinstance(error, GrammarError)
    assert parts[0] == f"line {error.line}, column {error.column}"


# --- regular expressions --------------------------------------------------------------------------

REGEX: list[Case] = [
    ("open group", lambda: regex("x(a"), GrammarError, ["line 1, column 2", "missing )", "'(a'"]),
    ("open group in line 2", lambda: regex("(?x)a\nb("), GrammarError,
     ["line 2, column 2", "missing )"]),
    ("open class", lambda: regex("ab[c"), GrammarError,
     ["line 1, column 3", "unterminated character set", "'[c'"]),
    ("bad range", lambda: regex("x[z-a]"), GrammarError, ["line 1, column 3", "range z-a"]),
    ("bad escape", lambda: regex(r"ab\q"), GrammarError, ["line 1, column 3", r"bad escape \q"]),
    ("repeated twice", lambda: regex("a**"), GrammarError, ["line 1, column 3", "multiple repeat"]),
    ("reversed bounds", lambda: regex("a{3,1}"), GrammarError,
     ["line 1, column 3", "min repeat greater than max repeat"]),
    ("backreference", lambda: regex(r"(a)\1"), GrammarError,
     ["line 1, column 4", "backreference", "write the alternatives out"]),
    ("conditional", lambda: regex("(a)?(?(1)b|c)"), GrammarError,
     ["line 1, column 5", "'(?(1)b|c)'", "as alternatives"]),
]  # fmt: skip


@table(REGEX)
def test_regex(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    error = refused(call, kind, parts)
    assert isinstance(error, GrammarError)
    assert parts[0] == f"line {error.line}, column {error.column}"


# --- Lark -----------------------------------------------------------------------------------------

LARK: list[Case] = [
    ("undefined rule", lambda: lark('start: "a"\n  | thing\n'), GrammarError,
     ["line 2, column 5", "'thing' is not defined"]),
    ("undefined terminal", lambda: lark('start: "a" THING\n'), GrammarError,
     ["line 1, column 12", "'THING' is not defined", "THING: /"]),
    ("open group", lambda: lark('start: "a" (\n'), GrammarError,
     ["line 1", "the '(' in column 12 is not closed", "add ')'"]),
    ("no colon", lambda: lark('start: "a"\nfoo bar: "b"\n'), GrammarError,
     ["line 2, column 5", "foo bar", "correct the line"]),
    ("no start", lambda: lark('begin: "a"\n'), GrammarError,
     ["line 1, column 1", "no rule 'start'", "start=", "begin"]),
    ("empty", lambda: lark(""), GrammarError, ["line 1, column 1", "no rule 'start'", "start="]),
    ("bad pattern", lambda: lark("start: A\nA: /(a/\n"), GrammarError,
     ["line 2", "terminal A", "missing )"]),
    ("empty terminal", lambda: lark("start: A\nA: /a*/\n"), GrammarError,
     ["line 2", "terminal A", "at least one character"]),
    ("a class as in GBNF", lambda: lark('start: "a" [0-9]+'), GrammarError,
     ["line 1", "near", "in Lark a class of characters is a pattern"]),
    ("a repetition of another dialect", lambda: lark('start: "a"{2,3}'), GrammarError,
     ["line 1", "~2..3", "dialect='llguidance'"]),
    ("GBNF", lambda: lark('root ::= "a"'), GrammarError, ["Grammar.from_gbnf"]),
    ("a schema", lambda: lark('{"type": "null"}'), GrammarError, ["Grammar.from_json_schema"]),
    ("defined twice", lambda: lark('start: "a"\nstart: "b"\n'), GrammarError,
     ["line", "'start' defined more than once"]),
]  # fmt: skip


@table(LARK)
def test_lark(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    error = refused(call, kind, parts)
    assert isinstance(error, GrammarError)
    assert error.line is not None


# --- choices, files -------------------------------------------------------------------------------

OTHERS: list[Case] = [
    ("one text as choices", lambda: choices("yes"), TypeError, ["'yes'", "a collection of texts"]),
    ("a number among choices", lambda: choices(["a", 1]), TypeError,  # type: ignore[list-item]
     ["int: 1", "str or bytes"]),
    ("half a character", lambda: choices(["a\ud800"]), GrammarError,
     ["position 1", "surrogate", "remove it"]),
    ("a text too short for max_bytes", lambda: regex("abcdef").sample(max_bytes=3), BudgetError,
     ["6 bytes", "max_bytes=3", "raise max_bytes"]),
]  # fmt: skip


@table(OTHERS)
def test_others(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    refused(call, kind, parts)


def test_files(tmp_path: Path) -> None:
    odd = tmp_path / "grammar.txt"
    odd.write_text("a")
    refused(lambda: Grammar.from_file(odd), GrammarError, ["'grammar.txt'", "'.txt'", ".gbnf"])
    latin = tmp_path / "grammar.regex"
    latin.write_bytes(b"caf\xe9")
    refused(lambda: Grammar.from_file(latin), GrammarError,
            ["grammar.regex", "0xE9", "offset 3", "as UTF-8"])  # fmt: skip
    with pytest.raises(FileNotFoundError, match="absent"):
        Grammar.from_file(tmp_path / "absent.gbnf")
    damaged = tmp_path / "grammar.gramma"
    damaged.write_text('{"format": ')
    refused(lambda: Grammar.from_file(damaged), GrammarError, [])
    wrong = tmp_path / "grammar.gbnf"
    wrong.write_text('root ::= "a')
    refused(lambda: Grammar.from_file(wrong), GrammarError, ["line 1, column 10", "never closed"])


# --- the empty language ---------------------------------------------------------------------------

EMPTY: list[tuple[str, Callable[[], Grammar], list[str]]] = [
    ("unproductive rule", lambda: gbnf('root ::= "a" pair\npair ::= "b" pair'), ["rule pair"]),
    ("a rule that is only itself", lambda: gbnf("root ::= same\nsame ::= same"), ["rule same"]),
    ("root is only itself", lambda: gbnf("root ::= root"), ["rule root"]),
    ("rules that need each other", lambda: gbnf('root ::= a\na ::= "x" b\nb ::= "y" a'),
     ["rule a", "rule b"]),
    ("Lark: unproductive rule", lambda: lark('start: "a" pair\npair: "b" pair\n'), ["pair"]),
    ("no choices", lambda: choices([]), ["choice"]),
    ("lengths", lambda: json_schema({"items": {"type": "string", "minLength": 3, "maxLength": 2},
     "type": "array", "minItems": 1}), ["#/items/minLength", "#/items/maxLength"]),
    ("counts", lambda: json_schema({"type": "array", "minItems": 2, "maxItems": 1}),
     ["#/minItems", "#/maxItems"]),
    ("bounds", lambda: json_schema({"type": "integer", "minimum": 3, "maximum": 2}),
     ["#/minimum", "#/maximum"]),
    ("no integer between", lambda: json_schema(
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}),
     ["#/exclusiveMinimum", "#/exclusiveMaximum"]),
    ("pattern and length", lambda: json_schema(
        {"type": "string", "pattern": "^a$", "minLength": 2}), ["pattern", "minLength"]),
    ("types", lambda: json_schema({"allOf": [{"type": "string"}, {"type": "number"}]}),
     ["#/allOf/0/type", "#/allOf/1/type"]),
    ("a required key", lambda: json_schema(
        {"type": "object", "required": ["a"], "properties": {"a": False}}), ["#/required", "#/properties"]),
    ("enum", lambda: json_schema({"enum": [1], "type": "string"}), ["#/enum", "#/type"]),
    ("endless objects", lambda: json_schema({"type": "object", "required": ["a"],
     "properties": {"a": {"$ref": "#"}}}), ["refers to itself"]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "parts"), [r for _, *r in EMPTY], ids=[w for w, *_ in EMPTY])
def test_empty_languages(make: Callable[[], Grammar], parts: list[str]) -> None:
    """They are grammars; what they say names what clashes."""
    grammar = make()
    assert grammar.is_empty
    assert not grammar.accepts("")
    assert not grammar.accepts("a")
    verdict = grammar.explain("a")
    assert not verdict.accepted
    vocabulary = Vocabulary.from_tokens([*(bytes([b]) for b in range(256)), None], [256])
    messages = [
        str(verdict),
        str(refused(grammar.sample, GrammarError, ["no text"])),
        str(refused(lambda: TokenAutomaton(grammar, vocabulary), GrammarError, ["no text"])),
    ]
    for message in messages:
        for part in parts:
            assert part in message, f"{part!r} is not in: {message}"


def test_only_rules_that_do_refer_to_themselves_are_said_to() -> None:
    grammar = gbnf('root ::= a\na ::= "x" b\nb ::= "y" a')
    assert "rule root refers to itself" not in str(grammar.explain(""))


def test_left_recursion_and_unproductive_alternatives_are_fine() -> None:
    assert gbnf('root ::= root "+" n | n\nn ::= [0-9]').accepts("1+2+3")
    assert gbnf('root ::= "a" | x\nx ::= "b" x').accepts("a")
    assert gbnf('root ::= root | "a"').accepts("a")


# --- tokenizers -----------------------------------------------------------------------------------

_ABC = regex("abc")

TOKENS: list[Case] = [
    ("a byte no token has", lambda: TokenAutomaton(
        _ABC, Vocabulary.from_tokens([b"a", b"b", None], [2])
     ), GrammarError, ["no token has the byte 'c'", "another tokenizer"]),
    ("bytes of a character", lambda: TokenAutomaton(
        regex("aé"), Vocabulary.from_tokens([b"a", None], [1])
     ), GrammarError, [r"'\xa9'", r"'\xc3'", "another tokenizer"]),
    ("tokens that do not fit", lambda: TokenAutomaton(
        _ABC, Vocabulary.from_tokens([b"ab", None, b"cb"], [1])
     ), GrammarError, ["tokens that do not fit", "another tokenizer"]),
    ("no EOS", lambda: Vocabulary.from_tokens([b"a"], []), GrammarError,
     ["no EOS token id", "eos_token_ids="]),
    ("an EOS id beyond the vocabulary", lambda: Vocabulary.from_tokens([b"a"], [3]), GrammarError,
     ["EOS id 3", "vocabulary of 1 ids", "size="]),
]  # fmt: skip


@table(TOKENS)
def test_tokenizers(call: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    refused(call, kind, parts)


def test_a_missing_byte_only_takes_away_the_texts_that_need_it() -> None:
    automaton = TokenAutomaton(regex("ab|ac"), Vocabulary.from_tokens([b"a", b"b", None], [2]))
    state = automaton.advance(automaton.start, 0)
    assert automaton.allowed_tokens(state).tolist() == [1]


# --- texts that do not match ----------------------------------------------------------------------

_INVOICE = json_schema(
    {
        "type": "object",
        "properties": {"paid": {"type": "boolean"}, "total": {"type": "number"}},
        "required": ["paid"],
        "additionalProperties": False,
    }
)
_LIST = gbnf('root ::= "a\\n" list\nlist ::= "[" item+ "]"\nitem ::= [0-9] | "é"')

# what -> (grammar, text, (offset, line, column), parts of the message)
TEXTS: dict[str, tuple[Grammar, str | bytes, tuple[int, int, int], list[str]]] = {
    "a wrong value": (_INVOICE, '{"paid": yes}', (9, 1, 10), ["'y'", "'false' or 'true'"]),
    "in line 2": (_INVOICE, '{\n  "paid": 1\n}', (12, 2, 11), ["'1'", "'false' or 'true'"]),
    "too short": (_INVOICE, '{"paid": true', (13, 1, 14), ["ends too early", "'}'"]),
    "nothing": (_INVOICE, "", (0, 1, 1), ["ends too early", "'{'"]),
    "too long": (_INVOICE, '{"paid": true}x', (14, 1, 15), ["'x'", "end of text"]),
    "a required key left out": (_INVOICE, '{"total": 3}', (2, 1, 3), ["'t'", "paid"]),
    "a key twice": (_INVOICE, '{"paid":true,"paid":true}', (14, 1, 15), ["'p'", "total"]),
    "no UTF-8": (_INVOICE, b"\xff", (0, 1, 1), ["byte 0xFF", "'{'"]),
    "another character": (_INVOICE, "é", (0, 1, 1), ["'é'", "'{'"]),
    "columns count characters": (_LIST, "a\n[éé,", (7, 2, 4), ["','", "']'", "[éé,"]),
    "a pattern": (regex("[0-9]{4}-[0-9]{2}"), "2024/12", (4, 1, 5), ["'/'", "'-'", "2024/12"]),
    "Lark": (lark('start: "a" b\nb: "x" | "y"\n'), "az", (1, 1, 2), ["'z'", "'x' or 'y'"]),
    "choices": (choices(["yes", "no"]), "maybe", (0, 1, 1), ["'m'", "'no' or 'yes'"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    grammar, text, (offset, line, column), parts = TEXTS[name]
    verdict = grammar.explain(text)
    assert not verdict.accepted
    assert (verdict.offset, verdict.line, verdict.column) == (offset, line, column)
    for part in (f"line {line}, column {column}", *parts):
        assert part in str(verdict), str(verdict)


def test_the_rules_that_are_open() -> None:
    """From the start rule inwards, also where a rule stands at the end of another."""
    assert _LIST.explain("a\n[x").rule_path[0] == "root"
    assert "list" in _LIST.explain("a\n[x").rule_path
    assert _INVOICE.explain('{"paid": yes}').rule_path[0] == "#"


# --- limits ---------------------------------------------------------------------------------------

_NESTED = 'root ::= "a" root "b" | "c"'
_AMBIGUOUS = 'root ::= "a" root "b" | root root | "a"'
_LETTERS = Vocabulary.from_tokens([b"a", b"b", b"c", None], [3])
_MANY = {"allOf": [{"anyOf": [{"minimum": i} for i in range(4)]} for _ in range(4)]}


def read(source: str, count: int, limits: Limits) -> None:
    """Follows an automaton through a run of one letter."""
    automaton = TokenAutomaton(gbnf(source), _LETTERS, limits=limits)
    state = automaton.start
    for _ in range(count):
        state = automaton.advance(state, 0)


LIMITS: list[tuple[str, str, int, Callable[[Limits], Any]]] = [
    ("regex", "max_dfa_states", 10, lambda n: regex("(a|b)*a(a|b){8}", limits=n)),
    ("GBNF", "max_dfa_states", 10,
     lambda n: gbnf('root ::= x\nx ::= ("a"|"b")* "a" ("a"|"b"){8}', limits=n)),
    ("Lark", "max_dfa_states", 3, lambda n: lark("start: A\nA: /(a|b)*a(a|b){8}/\n", limits=n)),
    ("a pattern", "max_dfa_states", 50,
     lambda n: json_schema({"pattern": "^(a|b)*a(a|b){8}$"}, limits=n)),
    ("a type", "max_dfa_states", 3, lambda n: Grammar.from_type(list[int], limits=n)),
    ("choices", "max_dfa_states", 3, lambda n: choices(["yes", "no", "perhaps"], limits=n)),
    ("the whole", "max_program_states", 10, lambda n: regex("a{50}", limits=n)),
    ("expressions", "max_expression_nodes", 2, lambda n: gbnf('root ::= "a" ("b" | [cd])*', limits=n)),
    ("anyOf", "max_schema_branches", 10, lambda n: json_schema(_MANY, limits=n)),
    ("a text", "max_states", 50, lambda n: gbnf(_NESTED, limits=n).accepts("a" * 100)),
    ("an ambiguous text", "max_items", 3, lambda n: gbnf(_AMBIGUOUS, limits=n).accepts("a" * 9)),
    ("an automaton", "max_states", 500, lambda n: read(_NESTED, 6_000, n)),
    ("an ambiguous automaton", "max_items", 5, lambda n: read(_AMBIGUOUS, 30, n)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "value", "call"), [r for _, *r in LIMITS], ids=[f"{w}, {n}" for w, n, *_ in LIMITS]
)
def test_limits(limit: str, value: int, call: Callable[[Limits], Any]) -> None:
    """Which limit, its value, and how to raise it."""
    parts = [f"Limits.{limit} = {value}", f"limits=Limits({limit}=...)"]
    error = refused(lambda: call(Limits(**{limit: value})), LimitExceeded, parts)
    assert isinstance(error, LimitExceeded)
    assert (error.limit, error.value) == (limit, value)
    if limit != "max_items":
        call(Limits())


def test_messages_stay_short_however_long_the_text_is() -> None:
    """An answer of a server to a stranger is not as long as what the stranger sent."""
    with pytest.raises(GrammarError) as caught:
        Grammar.from_lark("start: /" + "(" * 20_000 + "a" + ")" * 20_000 + "/")
    assert len(str(caught.value)) < 5_000
    assert "characters ...]" in str(caught.value)
    assert "nested too deeply" in str(caught.value)


@pytest.mark.parametrize("bracket", ["()", "[]"])
def test_brackets_that_lark_would_read_for_minutes(
    bracket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before lark reads them, with the place."""
    monkeypatch.setattr("grammars.frontends.lark.grammar.load", pytest.fail)
    text = "start: " + bracket[0] * 200_000 + '"a"' + bracket[1] * 200_000
    with pytest.raises(GrammarError, match=r"line 1, column 200007: .*200,000 levels"):
        lark(text)


def test_brackets_within_strings_patterns_and_comments_do_not_count() -> None:
    text = "([" * 3_000
    made = lark(f'start: "{text}" /[([{{]{{3000}}/ // {text}')
    assert made.accepts(text + "(" * 3_000)
    assert not made.accepts(text)


@pytest.mark.parametrize("lexer", ["contextual", "basic"])
def test_rules_whose_analysis_would_take_minutes(lexer: Any) -> None:
    """Lark's sets of what follows what take the cube of a rule's length."""
    with pytest.raises(LimitExceeded, match=r"line 2, column 1: .*max_work"):
        lark("start: x\nlong:" + " x" * 600 + '\nx: "a" | long', start="long", lexer=lexer)
    assert lark("start:" + " x" * 150 + '\nx: "a"').accepts("a" * 150)


def test_a_rule_of_too_many_parts_is_told_apart_from_one_of_many_brackets() -> None:
    with pytest.raises(GrammarError, match=r"line 2, column 1: .*some rule has too many"):
        lark("_x: /a/\n!start:" + " _x~2" * 800)
