"""Structural tags: against xgrammar itself, format by format, and against what each format says."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from grammars import Grammar, GrammarError, SpecialToken

xgrammar = pytest.importorskip("xgrammar")

OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
    "required": ["a"],
}


def tag(content: dict[str, Any], begin: Any = "<t>", end: Any = "</t>") -> dict[str, Any]:
    """A tag around a format."""
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def const(value: str) -> dict[str, Any]:
    """A text."""
    return {"type": "const_string", "value": value}


ANY: dict[str, Any] = {"type": "any_text"}
A, B = const("A"), const("B")
JSON: dict[str, Any] = {"type": "json_schema", "json_schema": OBJECT}


def triggered(**options: Any) -> dict[str, Any]:
    """Two tags behind one trigger, one behind another."""
    tags = [
        {"begin": "<f=1>", "content": A, "end": "</f>"},
        {"begin": "<f=2>", "content": B, "end": ["</f>", ";"]},
        {"begin": "[g]", "content": A, "end": ""},
    ]
    return {"type": "triggered_tags", "triggers": ["<f", "[g"], "tags": tags, **options}


FORMATS: dict[str, dict[str, Any]] = {
    "const_string": A,
    "any_text": {"type": "any_text", "excludes": ["AB", "B<"]},
    "any_text in a tag": tag({"type": "any_text", "excludes": ["B"]}),
    "max_chars": tag({"type": "any_text", "max_chars": 2}),
    "several ends": tag(ANY, end=["</t>", "]"]),
    "regex": {"type": "regex", "pattern": "[AB]{2,3}<?"},
    "grammar": {"type": "grammar", "grammar": 'root ::= "A" root "B" | "<"'},
    "grammar, xgrammar's EBNF": {
        "type": "grammar",
        "grammar": 'root ::=\n  "\\x41"{1,-1} word # blanks, a comment\n  word ::= Regex("B+") "<"?',
    },
    "grammar, dispatch": {
        "type": "grammar",
        "grammar": 'root ::= TagDispatch(("<f", one), excludes=("[",))\none ::= "A" "]"',
    },
    "sequence": {"type": "sequence", "elements": [A, {"type": "any_text", "excludes": ["<"]}, B]},
    "or": {"type": "or", "elements": [A, {"type": "sequence", "elements": [B, A]}]},
    "optional": {"type": "sequence", "elements": [{"type": "optional", "content": A}, B]},
    "plus": {"type": "plus", "content": {"type": "or", "elements": [A, const("B<")]}},
    "star": {"type": "star", "content": const("AB")},
    "repeat": {"type": "repeat", "min": 1, "max": 3, "content": A},
    "repeat without end": {"type": "repeat", "min": 2, "max": -1, "content": A},
    "triggered_tags": triggered(),
    "triggered_tags, one": triggered(stop_after_first=True),
    "triggered_tags, at least one": triggered(at_least_one=True),
    "triggered_tags, exactly one": triggered(at_least_one=True, stop_after_first=True),
    "triggered_tags, excludes": triggered(excludes=["B", "</t"]),
    "triggered_tags in a tag": tag(triggered()),
    "tags_with_separator": {
        "type": "tags_with_separator",
        "tags": [tag(A, "<", ">"), tag(B, "[", "]")],
        "separator": ";",
    },
    "tags_with_separator, exactly one": {
        "type": "tags_with_separator",
        "tags": [tag(A, "<", ">"), tag(B, "[", "]")],
        "separator": "",
        "at_least_one": True,
        "stop_after_first": True,
    },
    "dispatch": {"type": "dispatch", "rules": [["<f", A], ["B", const("]")]], "excludes": ["[g"]},
    "dispatch, once": {"type": "dispatch", "rules": [["<f", A]], "loop": False},
}
WORDS = ["A", "B", "<", ">", "[", "]", ";", "<t>", "</t>", "<f", "=1>", "=2>", "</f>", "[g", "é"]


def texts_near(seed: int, count: int) -> list[str]:
    """All short texts of a few words, and random longer ones."""
    rng = random.Random(seed)
    short = ["".join(x) for n in range(3) for x in itertools.product(WORDS, repeat=n)]
    return short + ["".join(rng.choices(WORDS, k=rng.randint(3, 9))) for _ in range(count)]


def xgrammar_reader(form: dict[str, Any]) -> Any:
    """What accepts texts as xgrammar does."""
    from xgrammar.testing import _get_matcher_from_grammar

    compiled = xgrammar.Grammar.from_structural_tag({"type": "structural_tag", "format": form})

    def accepts(text: str) -> bool:
        matcher = _get_matcher_from_grammar(compiled)
        return matcher.accept_string(text) and matcher.is_completed()

    return accepts


@pytest.mark.parametrize("name", FORMATS)
def test_formats_agree_with_xgrammar(name: str) -> None:
    form = FORMATS[name]
    ours = Grammar.from_structural_tag({"type": "structural_tag", "format": form})
    theirs = xgrammar_reader(form)
    found = [ours.sample(seed).decode() for seed in range(30)]
    accepted = 0
    for text in texts_near(7, 150) + found:
        expected = theirs(text)
        accepted += expected
        assert ours.accepts(text) == expected, (text, str(ours.explain(text)))
    assert accepted > 1


XML = {
    "qwen_xml": "<parameter=a>1</parameter><parameter=b>x < y</parameter>",
    "minimax_xml": '<parameter name="a">1</parameter><parameter name="b">x < y</parameter>',
    "deepseek_xml": '<｜DSML｜parameter name="a" string="false">1</｜DSML｜parameter>'
    '<｜DSML｜parameter name="b" string="true">x < y</｜DSML｜parameter>',
    "deepseek_v4_1_xml": '<｜DSML｜ parameter name="a" string="false">1</｜DSML｜ parameter>'
    '<｜DSML｜ parameter name="b" string="true">x < y</｜DSML｜ parameter>',
    "glm_xml": "<arg_key>a</arg_key><arg_value>1</arg_value>"
    "<arg_key>b</arg_key><arg_value>x < y</arg_value>",
    "cohere_xml": '<cofl:value name="a" type="json">1</cofl:value>'
    '<cofl:value name="b" type="raw">x < y</cofl:value>',
    "kimi_k3_xml": '<|open|>argument key="a" type="number"<|sep|>1<|close|>argument<|sep|>'
    '<|open|>argument key="b" type="string"<|sep|>x < y<|close|>argument<|sep|>',
}


@pytest.mark.parametrize("style", XML)
def test_styles_of_arguments(style: str) -> None:
    """Arguments between tags; xgrammar accepts what we accept, and refuses what we do."""
    form = {**JSON, "style": style}
    ours = Grammar.from_structural_tag({"type": "structural_tag", "format": form})
    theirs = xgrammar_reader(form)
    right = XML[style]
    wrong = [right.replace("1", "x"), right.replace("1", '"1"'), right + "x", right[:-1], ""]
    wrong += [right.replace("a", "c", 1), right[: len(right) // 2], right + right]
    assert ours.accepts(right), str(ours.explain(right))
    assert ours.accepts("\n" + right + "\n")
    for text in [right, "\n" + right, *(ours.sample(seed).decode() for seed in range(20))]:
        assert theirs(text), text
    for text in wrong:
        assert not ours.accepts(text), text
        assert not theirs(text), text


def test_arguments_keep_what_the_schema_says() -> None:
    schema = {
        "type": "object",
        "properties": {
            "code": {"type": "string", "pattern": "^[a-z]{2}$"},
            "kind": {"enum": ["x", "y", 3]},
            "n": {"type": ["integer", "null"], "minimum": 2},
            "list": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        },
        "required": ["code"],
        "minProperties": 2,
    }
    form = {"type": "json_schema", "json_schema": schema, "style": "qwen_xml"}
    grammar = Grammar.from_structural_tag({"format": form})

    def p(key: str, value: str) -> str:
        return f"<parameter={key}>{value}</parameter>"

    assert grammar.accepts(p("code", "ab") + p("kind", "x"))
    assert grammar.accepts(p("code", "ab") + p("kind", "3") + p("n", "null"))
    assert grammar.accepts(p("code", "ab") + p("list", '["a", "b"]'))
    assert not grammar.accepts(p("code", "ab"))
    assert not grammar.accepts(p("code", "abc") + p("kind", "x"))
    assert not grammar.accepts(p("code", "ab") + p("kind", "z"))
    assert not grammar.accepts(p("code", "ab") + p("n", "1"))
    assert not grammar.accepts(p("kind", "x") + p("code", "ab"))
    assert not grammar.accepts(p("code", "ab") + p("list", '["a", "b", "c"]'))
    anyhow = Grammar.from_structural_tag({"format": {**form, "any_order": True}})
    assert anyhow.accepts(p("kind", "x") + p("code", "ab"))
    assert not anyhow.accepts(p("kind", "x") + p("kind", "x") + p("code", "ab"))


def test_objects_are_closed_to_the_keys_that_are_named() -> None:
    def accepts(schema: dict[str, Any], value: Any) -> bool:
        form = {"type": "json_schema", "json_schema": schema}
        return Grammar.from_structural_tag({"format": form}).accepts(json.dumps(value))

    assert not accepts(OBJECT, {"a": 1, "c": 1})
    assert accepts({**OBJECT, "additionalProperties": {"type": "null"}}, {"a": 1, "c": None})
    assert accepts({"type": "object"}, {"c": 1})
    nested = {"type": "object", "properties": {"x": {"$ref": "#/$defs/o"}}, "$defs": {"o": OBJECT}}
    assert accepts(nested, {"x": {"a": 1}})
    assert not accepts(nested, {"x": {"a": 1, "c": 1}})
    other = {"properties": {"c": {"type": "boolean"}}}
    both = {"type": "object", "allOf": [{"$ref": "#/$defs/o"}, other], "$defs": {"o": OBJECT}}
    assert accepts(both, {"a": 1, "c": True})
    assert not accepts(both, {"a": 1, "c": True, "d": 1})
    either = {"anyOf": [OBJECT, {"type": "object", **other}]}
    assert accepts(either, {"c": True})
    assert not accepts(either, {"a": 1, "c": True})
    assert accepts({"type": "object", "properties": {}, "required": ["k"]}, {"k": [1]})


def test_older_form() -> None:
    legacy = {
        "type": "structural_tag",
        "structures": [
            {"begin": "<f=1>", "schema": OBJECT, "end": "</f>"},
            {"begin": "<f=2>", "schema": json.dumps({"type": "boolean"}), "end": "</f>"},
        ],
        "triggers": ["<f="],
    }
    for given in (legacy, json.dumps(legacy)):
        grammar = Grammar.from_structural_tag(given)
        assert grammar.accepts('text <f=1>{"a": 1}</f> more <f=2>true</f>')
        assert grammar.accepts("text")
        assert not grammar.accepts("text <f=3>true</f>")
        assert not grammar.accepts('text <f=1>{"a": "1"}</f>')


def test_pydantic_models_of_tags() -> None:
    from xgrammar.structural_tag import AnyTextFormat, StructuralTag, TagFormat

    form = TagFormat(begin="<t>", content=AnyTextFormat(), end=["</t>", "]"])
    grammar = Grammar.from_structural_tag(StructuralTag(format=form))  # type: ignore[arg-type]
    assert grammar.accepts("<t>x</t>")
    assert grammar.accepts("<t>x]")
    assert not grammar.accepts("<t>x]]")


def test_tokens() -> None:
    call, end = SpecialToken("<|call|>"), SpecialToken("[7]")
    inner = tag(A, {"type": "token", "token": "<|call|>"}, {"type": "token", "token": 7})
    grammar = Grammar.from_structural_tag({"format": inner})
    assert grammar.tokens == ("<|call|>", "[7]")
    assert grammar.accepts([call, "A", end])
    assert not grammar.accepts("AAA")
    looped = {"type": "token_triggered_tags", "trigger_tokens": ["<|call|>"], "tags": [inner]}
    grammar = Grammar.from_structural_tag({"format": looped})
    assert grammar.accepts(["text", call, "A", end, "more", call, "A", end])
    assert not grammar.accepts(["text", call, "B", end])
    assert not grammar.accepts(["text", end])
    once = {**looped, "at_least_one": True, "stop_after_first": True}
    grammar = Grammar.from_structural_tag({"format": once})
    assert grammar.accepts([call, "A", end])
    assert not grammar.accepts(["text", call, "A", end])
    rules = {"type": "token_dispatch", "rules": [["<|call|>", A]], "exclude_tokens": ["<|no|>"]}
    grammar = Grammar.from_structural_tag({"format": rules})
    assert set(grammar.tokens) == {"<|call|>", "<|no|>"}
    assert grammar.accepts(["x", call, "A", "y"])
    assert not grammar.accepts(["x", SpecialToken("<|no|>")])
    region = tag({"type": "any_tokens"}, "<t>", {"type": "token", "token": "<|call|>"})
    grammar = Grammar.from_structural_tag({"format": region})
    assert grammar.accepts(["<t>x", call])
    assert not grammar.accepts(["<t>x", call, "y"])


BAD: list[tuple[Any, str]] = [
    ({"format": {"type": "nope"}}, "/format/type"),
    ({"format": {"type": "sequence", "elements": [A, {"type": 3}]}}, "/format/elements/1/type"),
    ({"format": {"type": "sequence", "elements": []}}, "/format"),
    ({"format": tag(ANY, end="")}, "/format"),
    ({"format": tag({"type": "sequence", "elements": [A, ANY]}, end=["", ""])}, "/format"),
    ({"format": tag(A, begin=3)}, "/format/begin"),
    ({"format": {"type": "any_text", "excludes": [""]}}, "/format"),
    ({"format": {"type": "any_text", "max_tokens": 5}}, "/format"),
    ({"format": {"type": "any_text", "max_chars": -1}}, "/format"),
    ({"format": {"type": "exclude_token"}}, "/format"),
    ({"format": {"type": "repeat", "min": 3, "max": 2, "content": A}}, "/format"),
    ({"format": {"type": "regex", "pattern": "("}}, "/format/pattern"),
    ({"format": {**JSON, "style": "yaml"}}, "/format"),
    (
        {"format": {"type": "json_schema", "json_schema": {"type": "nope"}}},
        "/format/json_schema/type",
    ),
    ({"format": triggered(triggers=["<f", "<f="])}, "/format/tags/0"),
    ({"format": triggered(triggers=["[g"])}, "/format/tags/0"),
    ({"format": triggered(excludes=["<"])}, "/format"),
    ({"format": {"type": "token", "token": 1.5}}, "/format"),
    ({"type": "json_schema", "format": A}, ""),
    ({}, ""),
    ("[]", ""),
    (
        {"structures": [{"begin": "<f>", "schema": "{", "end": ""}], "triggers": ["<"]},
        "/structures/0/schema",
    ),
]


@pytest.mark.parametrize(("bad", "pointer"), BAD)
def test_errors_have_a_place(bad: Any, pointer: str) -> None:
    with pytest.raises(GrammarError) as error:
        Grammar.from_structural_tag(bad)
    assert error.value.pointer == pointer


def test_text_that_is_no_json() -> None:
    with pytest.raises(GrammarError) as error:
        Grammar.from_structural_tag('{"format":\n x}')
    assert (error.value.line, error.value.column) == (2, 2)
    form: dict[str, Any] = A
    for _ in range(2_000):
        form = {"type": "optional", "content": form}
    with pytest.raises(GrammarError, match="deep"):
        Grammar.from_structural_tag({"format": form})


def test_blanks_that_are_asked_for() -> None:
    for most, accepted in ((0, False), (1, True), (2, True)):
        form = {**JSON, "max_whitespace_cnt": most}
        grammar = Grammar.from_structural_tag({"format": form})
        assert grammar.accepts('{"a":1}')
        assert grammar.accepts('{"a": 1}') == accepted
        assert grammar.accepts('{"a":\n 1}') == (most > 1)
        assert not grammar.accepts('{"a":\n  1}')


def test_excluded_texts_of_json() -> None:
    """As xgrammar filters strings: neither values nor keys of any name have them, patterns alone decide."""
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "string", "minLength": 2, "maxLength": 9},
            "c": {"enum": ["x<y", "xy"]},
            "d": {"type": "string", "pattern": "^<[a-z]$"},
            "e": {"type": "array", "items": {"type": "string"}},
        },
    }
    form = {"type": "json_schema", "json_schema": schema, "excludes": ["<"]}
    ours, theirs = Grammar.from_structural_tag({"format": form}), xgrammar_reader(form)
    for value in (
        {"a": "xy", "b": "xyz", "c": "xy", "d": "<x", "e": ["x", ""]},
        {"a": "x<"},
        {"b": "x<y"},
        {"c": "x<y"},
        {"e": ["", "<"]},
    ):
        text = json.dumps(value)
        assert ours.accepts(text) == theirs(text) == ("d" in value), value
    assert not ours.accepts('{"b": "x"}')  # xgrammar gives bounds on the length up here
    xml = {**form, "style": "qwen_xml"}
    ours, theirs = Grammar.from_structural_tag({"format": xml}), xgrammar_reader(xml)
    for text, accepted in (
        ("<parameter=a>xy</parameter>", True),
        ("<parameter=a>x<</parameter>", False),
        ("<parameter=c>xy</parameter>", True),
        ("<parameter=c>x<y</parameter>", False),
        ("<parameter=d><x</parameter>", True),
        ('<parameter=e>["<"]</parameter>', False),
    ):
        assert ours.accepts(text) == theirs(text) == accepted, text
    with pytest.raises(GrammarError, match="excludes"):
        Grammar.from_structural_tag({"format": {**form, "style": "cohere_xml"}})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a<b": {"type": "string"}, "d": {"type": "string"}}},
        {"properties": {"c": {"type": "string"}}, "additionalProperties": {"type": "string"}},
        {"patternProperties": {"^d": {"type": "string"}}, "additionalProperties": False},
        {},
        {"propertyNames": {"pattern": "^d"}},
    ],
)
def test_excluded_texts_of_keys(schema: dict[str, Any]) -> None:
    form = {
        "type": "json_schema",
        "json_schema": {"type": "object", **schema},
        "excludes": ["<"],
    }
    ours, theirs = Grammar.from_structural_tag({"format": form}), xgrammar_reader(form)
    for text in ('{"d": "x"}', '{"d<": "x"}', '{"d": "<"}', '{"a<b": "x"}', '{"d": "x<y"}', "{}"):
        assert ours.accepts(text) == theirs(text) == ("<" not in text), text
