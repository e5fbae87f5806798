"""Every keyword of JSON Schema against an independent validator, in any order of keys.

The property test puts keywords together at random, so that they meet each other; the tables hold
cases whose point is one keyword.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grammars import Grammar, GrammarError, LimitExceeded, UnsupportedSchemaError

NAMES = ("a", "b", "ab", "c")
PATTERNS = ("a", "^b", "^.$", "b$")

scalars = st.sampled_from([None, True, False, 0, 1, 2, 3, -1, 1.5, 2.0, "", "a", "b", "ab", "ba"])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from((*NAMES, "bb")), inner, max_size=3),
    ),
    max_leaves=6,
)


def schemas() -> st.SearchStrategy[Any]:
    return st.recursive(st.one_of(st.booleans(), _leaf()), _compound, max_leaves=5)


def _leaf() -> st.SearchStrategy[Any]:
    types = st.sampled_from(
        ["null", "boolean", "integer", "number", "string", "array", "object", ["string", "array"]]
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "type": types,
            "enum": st.lists(values, min_size=1, max_size=3),
            "const": values,
            "minimum": st.integers(-1, 2),
            "exclusiveMaximum": st.integers(0, 3),
            "multipleOf": st.sampled_from([1, 2, 0.5, 1.5]),
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 2),
            "pattern": st.sampled_from(PATTERNS),
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 3),
            "uniqueItems": st.booleans(),
            "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
            "minProperties": st.integers(0, 3),
            "maxProperties": st.integers(0, 3),
            "dependentRequired": st.dictionaries(
                st.sampled_from(NAMES),
                st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
                max_size=2,
            ),
        },
    ).map(_thin)


def _thin(schema: dict[str, Any]) -> dict[str, Any]:
    """Few keywords at a time: with all of them hardly anything is valid."""
    kept = sorted(schema, key=lambda keyword: hash((keyword, len(schema), str(schema[keyword]))))
    return {keyword: schema[keyword] for keyword in kept[:3]}


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    choices: dict[str, st.SearchStrategy[Any]] = {
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "properties": named,
        "patternProperties": st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=2),
        "additionalProperties": inner,
        "propertyNames": inner,
        "dependentSchemas": st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
        "unevaluatedProperties": inner,
        "prefixItems": several,
        "items": inner,
        "contains": inner,
        "minContains": st.integers(0, 2),
        "maxContains": st.integers(0, 2),
        "unevaluatedItems": inner,
    }
    keywords = st.lists(st.sampled_from(sorted(choices)), min_size=1, max_size=3, unique=True)
    own = keywords.flatmap(lambda ks: st.fixed_dictionaries({k: choices[k] for k in ks}))
    return st.tuples(_leaf(), own).map(lambda parts: {**parts[0], **parts[1]})


def grammar(schema: Any, **options: Any) -> Grammar:
    return Grammar.from_json_schema(schema, property_order="any", **options)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas(), st.lists(values, min_size=1, max_size=12))
def test_any_schema_agrees_with_a_validator(schema: Any, candidates: list[Any]) -> None:
    """Whole numbers as digits alone in the default spelling, with a fraction of zeros in "any"."""
    try:
        shortest, any_spelling = grammar(schema), grammar(schema, numbers="any")
    except (UnsupportedSchemaError, LimitExceeded):
        return  # loud
    validator = jsonschema.Draft202012Validator(schema)
    for value in candidates:
        valid = validator.is_valid(value)
        text = json.dumps(value, ensure_ascii=False)
        assert any_spelling.accepts(text) == valid, (schema, text)
        text = json.dumps(_whole(value), ensure_ascii=False)
        assert shortest.accepts(text) == valid, (schema, text)


def _whole(value: Any) -> Any:
    """The value with every whole number as an integer."""
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas(), st.sampled_from(["schema", "any"]), st.integers(0, 3))
def test_samples_are_valid(schema: Any, order: Any, seed: int) -> None:
    try:
        made = Grammar.from_json_schema(schema, property_order=order)
    except (UnsupportedSchemaError, LimitExceeded):
        return
    if made.is_empty:
        return
    text = made.sample(seed).decode()
    value = json.loads(text, object_pairs_hook=_no_twins, parse_float=_exactly)
    # a validator that calculates with doubles takes 64318256388605138.8 for a whole number
    exact = json.loads(json.dumps(schema), parse_float=_exactly)
    with _integers_of_any_length():
        assert jsonschema.Draft202012Validator(exact).is_valid(value), (schema, text)


@contextmanager
def _integers_of_any_length() -> Iterator[None]:
    """Lets messages of the validator show 1e5000."""
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(most)


def _exactly(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


TABLE: list[tuple[Any, Any, bool]] = [
    ({"oneOf": [{"minimum": 2}, {"maximum": 3}]}, 1, True),
    ({"oneOf": [{"minimum": 2}, {"maximum": 3}]}, 2.5, False),
    ({"not": {"type": ["integer", "object"]}}, 1.5, True),
    ({"not": {"type": ["integer", "object"]}}, 1.0, False),
    ({"not": {"properties": {"a": {"type": "string"}}}}, {"a": 1}, True),
    ({"not": {"properties": {"a": {"type": "string"}}}}, {"b": 1}, False),
    ({"if": {"const": 1}, "then": False, "else": {"type": "string"}}, 1, False),
    ({"if": {"const": 1}, "then": False, "else": {"type": "string"}}, "x", True),
    (
        {"patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False},
        {"x1": None},
        True,
    ),
    (
        {"patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False},
        {"y": None},
        False,
    ),
    ({"properties": {"xa": True}, "patternProperties": {"^x": {"minimum": 3}}}, {"xa": 2}, False),
    ({"propertyNames": {"enum": ["a", "b"]}}, {"b": 1, "a": 2}, True),
    ({"propertyNames": {"enum": ["a", "b"]}}, {"c": 1}, False),
    ({"propertyNames": {"maxLength": 2}}, {"abc": 1}, False),
    ({"minProperties": 2, "maxProperties": 3}, {"a": 1}, False),
    ({"minProperties": 2, "maxProperties": 3}, {"a": 1, "b": 1}, True),
    ({"minProperties": 2, "maxProperties": 3}, {"a": 1, "b": 1, "c": 1, "d": 1}, False),
    ({"contains": {"const": 1}, "minContains": 2, "maxContains": 3}, [1, 0, 1], True),
    ({"contains": {"const": 1}, "minContains": 2, "maxContains": 3}, [1, 0], False),
    ({"contains": {"const": 1}, "minContains": 2, "maxContains": 3}, [1, 1, 1, 1], False),
    ({"contains": {"const": 1}, "minContains": 0}, [], True),
    ({"uniqueItems": True}, [1, 1.0], False),
    ({"uniqueItems": True}, [1, True, "1", [1], {"a": 1}], True),
    ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
    ({"not": {"uniqueItems": True}}, [[], 0, []], True),
    ({"not": {"uniqueItems": True}}, [[], 0], False),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, False),
    ({"dependentRequired": {"a": ["b"]}}, {"b": 1, "a": 1}, True),
    ({"dependentSchemas": {"a": {"maxProperties": 1}}}, {"a": 1, "b": 1}, False),
    ({"allOf": [{"properties": {"a": True}}], "unevaluatedProperties": False}, {"a": 1}, True),
    ({"allOf": [{"properties": {"a": True}}], "unevaluatedProperties": False}, {"b": 1}, False),
    (
        {
            "anyOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, True],
            "unevaluatedProperties": False,
        },
        {"a": 1},
        True,
    ),
    (
        {
            "anyOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, True],
            "unevaluatedProperties": False,
        },
        {"a": 2},
        False,
    ),
    (
        {"prefixItems": [True], "contains": {"type": "null"}, "unevaluatedItems": False},
        [1, None],
        True,
    ),
    (
        {"prefixItems": [True], "contains": {"type": "null"}, "unevaluatedItems": False},
        [1, None, 2],
        False,
    ),
    ({"multipleOf": 0.01}, 0.07, True),
    ({"multipleOf": 0.01}, 0.075, False),
    ({"minimum": 1e20}, 1e19, False),
    ({"minimum": 1e20}, 1e21, True),
    ({"pattern": "^(?=.*b)a"}, "aab", True),
    ({"pattern": "^(?=.*b)a"}, "aa", False),
]


@pytest.mark.parametrize(("schema", "value", "valid"), TABLE)
def test_table(schema: Any, value: Any, valid: bool) -> None:
    assert grammar(schema).accepts(json.dumps(value)) == valid


@pytest.mark.parametrize(
    ("draft", "schema", "value", "valid"),
    [
        (4, {"minimum": 3, "exclusiveMinimum": True}, 3, False),
        (4, {"minimum": 3, "exclusiveMinimum": False}, 3, True),
        (4, {"const": 1}, 2, True),
        (6, {"const": 1}, 2, False),
        (6, {"if": True, "then": False}, 2, True),
        (7, {"if": True, "then": False}, 2, False),
        (7, {"$ref": "#/definitions/x", "maxItems": 0, "definitions": {"x": True}}, [1], True),
        (7, {"items": [True], "additionalItems": False}, [1, 2], False),
        (7, {"dependencies": {"a": ["b"], "c": {"minProperties": 2}}}, {"c": 1}, False),
        (7, {"dependentRequired": {"a": ["b"]}}, {"a": 1}, True),
        (2019, {"items": [True], "additionalItems": False}, [1, 2], False),
    ],
)
def test_drafts_differ(draft: int, schema: Any, value: Any, valid: bool) -> None:
    uris = {
        4: "http://json-schema.org/draft-04/schema#",
        6: "http://json-schema.org/draft-06/schema#",
        7: "http://json-schema.org/draft-07/schema#",
        2019: "https://json-schema.org/draft/2019-09/schema",
    }
    made = grammar({"$schema": uris[draft], **schema})
    assert made.accepts(json.dumps(value)) == valid


class TestReferences:
    def test_identifiers_and_anchors(self) -> None:
        schema = {
            "$id": "http://example.org/root.json",
            "$ref": "item.json#named",
            "$defs": {
                "item": {"$id": "item.json", "$defs": {"x": {"$anchor": "named", "type": "null"}}}
            },
        }
        assert grammar(schema).accepts("null")
        assert not grammar(schema).accepts("1")

    def test_registry(self) -> None:
        registry = {"http://example.org/n": {"$defs": {"n": {"type": "integer"}}}}
        made = grammar({"items": {"$ref": "http://example.org/n#/$defs/n"}}, registry=registry)
        assert made.accepts("[1, 2]")
        assert not made.accepts('["1"]')

    def test_meta_schemas_are_known(self) -> None:
        made = grammar({"$ref": "https://json-schema.org/draft/2020-12/schema"})
        assert made.accepts('{"type": "string", "minLength": 3}')
        assert not made.accepts('{"minLength": -3}')
        assert not made.accepts('{"allOf": [{"type": "what"}]}')

    def test_dynamic_references_reach_the_outermost_anchor(self) -> None:
        tree = {
            "$id": "http://example.org/tree",
            "$dynamicAnchor": "node",
            "type": "object",
            "properties": {"next": {"$dynamicRef": "#node"}},
        }
        strict = {
            "$id": "http://example.org/strict",
            "$dynamicAnchor": "node",
            "$ref": "tree",
            "unevaluatedProperties": False,
        }
        registry = {"http://example.org/tree": tree}
        assert grammar(tree).accepts('{"next": {"other": 1}}')
        assert grammar(strict, registry=registry).accepts('{"next": {"next": {}}}')
        assert not grammar(strict, registry=registry).accepts('{"next": {"other": 1}}')

    @pytest.mark.parametrize(
        "reference", ["http://example.org/none", "#nothing", "#/$defs/none", "other.json"]
    )
    def test_leading_nowhere(self, reference: str) -> None:
        with pytest.raises(GrammarError) as caught:
            grammar({"properties": {"a": {"$ref": reference}}})
        assert caught.value.pointer == "/properties/a/$ref"


class TestImpossible:
    @pytest.mark.parametrize(
        ("schema", "places"),
        [
            (
                {"allOf": [{"type": "string"}, {"type": "null"}]},
                ["#/allOf/0/type", "#/allOf/1/type"],
            ),
            (
                {"type": "object", "required": ["a"], "properties": {"a": False}},
                ["#/required", "#/properties"],
            ),
            ({"type": "integer", "minimum": 5, "maximum": 4}, ["#/minimum", "#/maximum"]),
            (
                {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "minItems": 3},
                [],
            ),
            ({"oneOf": [True, {"title": "anything"}]}, []),
            ({"not": {}}, ["#"]),
        ],
    )
    def test_clashes_are_named(self, schema: Any, places: list[str]) -> None:
        made = grammar(schema)
        assert made.is_empty
        message = str(made.explain("1"))
        for place in places:
            assert place in message


class TestOrder:
    def test_first_appearance_in_the_document(self) -> None:
        schema = {
            "allOf": [
                {"properties": {"b": {"type": "integer"}, "c": True}},
                {"properties": {"a": True, "b": {"minimum": 1}}},
            ],
            "required": ["z", "b"],
        }
        made = Grammar.from_json_schema(schema)
        assert made.accepts('{"b": 1, "c": 2, "a": 3, "z": 4}')
        assert made.accepts('{"b": 1, "a": 3, "other": 0, "z": 4}')
        assert not made.accepts('{"a": 3, "b": 1, "z": 4}')
        assert not made.accepts('{"b": 1}')
        assert grammar(schema).accepts('{"z": 4, "a": 3, "other": 0, "b": 1}')

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.sampled_from("abcd"), max_size=3, unique=True),
        st.lists(st.sampled_from("abxyz"), max_size=4, unique=True),
        st.sampled_from([0, 1, 2, 3, 4]),
        st.sampled_from([None, 2, 3, 4]),
        st.sampled_from([True, False, {"type": "integer"}]),
        st.booleans(),
        st.integers(0, 1000),
    )
    def test_counted_keys(
        self,
        named: list[str],
        required: list[str],
        low: int,
        high: int | None,
        others: Any,
        listed: bool,
        seed: int,
    ) -> None:
        """Keys of ``properties`` in their order, then all others in any, with bounds on both."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": dict.fromkeys(named, True),
            "required": required,
            "minProperties": low,
        }
        schema |= {} if high is None else {"maxProperties": high}
        schema |= {"propertyNames": {"enum": list("abcdxy")}} if listed else {}
        schema |= {"additionalProperties": others}
        made = Grammar.from_json_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        rng = random.Random(seed)
        for _ in range(150):
            # mostly what is required, mostly in order
            keys = {*rng.sample("abcdxyzuv", rng.randint(0, 5)), *(required * (rng.random() < 0.8))}
            keys_in_order = sorted(keys, key=lambda _: rng.random())
            if rng.random() < 0.7:
                keys_in_order.sort(key=lambda k: named.index(k) if k in named else len(named))
            value = {key: rng.choice([1, 1, 1, None]) for key in keys_in_order}
            ranks = [named.index(key) if key in named else len(named) for key in value]
            expected = validator.is_valid(value) and ranks == sorted(ranks)
            text = json.dumps(value)
            assert made.accepts(text) == expected, (schema, text)

    def test_others_in_any_order_up_to_a_count(self) -> None:
        schema = {"properties": {"a": True, "b": True}, "required": ["x", "y"], "maxProperties": 4}
        made = Grammar.from_json_schema(schema)
        assert made.accepts('{"a": 0, "y": 1, "x": 2}')
        assert made.accepts('{"y": 1, "other": 0, "x": 2, "more": 0}')
        assert made.accepts('{"a": 0, "b": 0, "y": 1, "x": 2}')
        assert not made.accepts('{"a": 0, "b": 0, "y": 1, "other": 0, "x": 2}')
        assert not made.accepts('{"a": 0, "y": 1, "b": 0, "x": 2}')
        assert not made.accepts('{"a": 0, "b": 0, "x": 2}')

    @pytest.mark.parametrize("order", ["schema", "any"])
    def test_no_key_comes_twice(self, order: Any) -> None:
        made = Grammar.from_json_schema({"properties": {"a": True}}, property_order=order)
        assert made.accepts('{"a": 1, "x": {"x": 1}, "y": 1}')
        assert not made.accepts('{"a": 1, "x": 1, "x": 1}')
        assert not made.accepts('{"a": 1, "x": 1, "a": 1}')
        assert not made.accepts(r'{"a": 1, "x": 1, "\u0078": 1}')


def test_classes_of_keys_do_not_mix() -> None:
    """Two objects whose keys have no names but different rules."""
    schema = {
        "properties": {
            "a": {"propertyNames": {"pattern": "^[a-z]+$"}},
            "b": {"propertyNames": {"pattern": "^[0-9]+$"}},
        }
    }
    made = grammar(schema)
    assert made.accepts('{"a": {"x": 1}, "b": {"1": 1}}')
    assert not made.accepts('{"a": {"1": 1}}')
    assert not made.accepts('{"b": {"x": 1}}')


def _tagged(kind: Any, **others: Any) -> dict[str, Any]:
    properties = {"kind": kind, **others}
    return {"type": "object", "properties": properties, "required": ["kind", *others]}


@pytest.mark.parametrize("order", ["schema", "any"])
def test_alternatives_with_a_tag(order: Any) -> None:
    """Alternatives that a tag tells apart need no negation; those that share one do."""
    schema = {
        "oneOf": [
            _tagged({"const": "a"}, n={"type": "integer"}),
            _tagged({"enum": ["a", "b"]}, n={"minimum": 3}),
            _tagged({"const": "c"}),
            {"properties": {"kind": {"const": "c"}}, "required": ["m"]},
        ]
    }
    made = Grammar.from_json_schema(schema, property_order=order)
    validator = jsonschema.Draft202012Validator(schema)
    for kind in "abcd":
        for n in (1, 3, 3.5, None):
            for value in ({"kind": kind, "n": n}, {"kind": kind, "n": n, "m": 1}, {"m": n}, n):
                text = json.dumps(value)
                assert made.accepts(text) == validator.is_valid(value), text


@pytest.mark.parametrize("order", ["schema", "any"])
def test_a_negated_schema_of_required_properties_is_one_alternative(order: Any) -> None:
    """Not two, "missing" and "has another value": 12 * 2 ** 11 together would be too many."""
    ways = [{"properties": {f"p{i}": {"type": "string"}}, "required": [f"p{i}"]} for i in range(12)]
    schema = {"type": "object", "oneOf": ways}
    made = Grammar.from_json_schema(schema, property_order=order)
    validator = jsonschema.Draft202012Validator(schema)
    rng = random.Random(0)
    for _ in range(200):
        picked = sorted(rng.sample(range(12), rng.randint(0, 4)))
        # in order "schema" the keys that only the other alternatives name come last
        value = {f"p{i}": rng.choice(["s", 1, 1]) for i in picked}
        strings = [key for key, item in value.items() if item == "s"]
        value = {key: value[key] for key in dict.fromkeys([*strings, *value])}
        assert made.accepts(json.dumps(value)) == validator.is_valid(value), value


@st.composite
def _exclusive(draw: st.DrawFn) -> Any:
    """Schemas whose alternatives name and require properties, and negations of such."""
    value = st.sampled_from([True, False, {"type": "string"}, {"const": 1}, {"enum": [1, "s"]}])

    def one() -> dict[str, Any]:
        names = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True))
        required = draw(st.lists(st.sampled_from("abc"), max_size=2, unique=True))
        return {"properties": {name: draw(value) for name in names}, "required": required}

    ways = [one() for _ in range(draw(st.integers(1, 3)))]
    keyword = draw(st.sampled_from(["oneOf", "not", "if", "dependentSchemas"]))
    if keyword == "not":
        return {"not": {"anyOf": ways}} if draw(st.booleans()) else {"not": ways[0]}
    if keyword == "if":
        return {"if": ways[0], "then": ways[-1], "else": one()}
    if keyword == "dependentSchemas":
        return {"not": {"dependentSchemas": {"a": ways[0]}, "required": ["a"]}}
    return {"oneOf": ways}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(_exclusive(), st.integers(0, 1000))
def test_negated_properties(schema: Any, seed: int) -> None:
    made = grammar(schema)
    validator = jsonschema.Draft202012Validator(schema)
    rng = random.Random(seed)
    for _ in range(25):
        keys = rng.sample("abcd", rng.randint(0, 4))
        value: Any = {key: rng.choice(["s", 1, None]) for key in keys}
        value = value if rng.random() < 0.95 else rng.choice([[], 1, "s"])
        assert made.accepts(json.dumps(value)) == validator.is_valid(value), (schema, value)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_long_lists_of_words(seed: int) -> None:
    """More words than are read one by one: exactly these are accepted, in schemas and alone."""
    rng = random.Random(seed)
    words = {"".join(rng.choices("abc", k=rng.randint(0, 7))) for _ in range(900)}
    others = {w + "a" for w in words} | {w[:-1] for w in words}
    listed = grammar({"enum": sorted(words)})
    alone = Grammar.from_choices(sorted(words))
    mixed = grammar({"anyOf": [{"enum": sorted(words)}, {"type": "integer"}]})
    for word in words | others:
        expected = word in words
        assert alone.accepts(word) == expected
        assert listed.accepts(json.dumps(word)) == expected
        assert mixed.accepts(json.dumps(word)) == expected


class TestLimits:
    def test_products_of_alternatives(self) -> None:
        ways = [
            {"anyOf": [{"additionalProperties": {"multipleOf": n + 40 * i}} for n in range(1, 41)]}
            for i in range(20)
        ]
        with pytest.raises(LimitExceeded) as caught:
            grammar({"allOf": ways})
        assert caught.value.limit == "max_schema_branches"
        assert caught.value.pointer is not None

    def test_a_pattern_that_is_not_regular(self) -> None:
        with pytest.raises(GrammarError, match="backreference") as caught:
            grammar({"items": {"pattern": r"^(a+)b\1$"}})
        assert caught.value.pointer == "/items/pattern"


@pytest.mark.parametrize(
    ("schema", "accepted", "refused"),
    [
        # dialects of patterns differ in what "." matches: such keys are on neither side
        ({"patternProperties": {"^.*$": {"type": "null"}}}, '{"a": null}', '{"a\\r": 1}'),
        # under a numeric keyword only what a double can hold, so that no reader makes it infinite
        ({"type": "number", "minimum": 0}, "1.7976931348623157e308", "1e309"),
        # draft 4 knows no integer with a fraction
        ({"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"}, "1", "1.0"),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "enum": [5]},
            "5",
            "5.0",
        ),
        ({"type": "string", "format": "date"}, '"2024-02-29"', '"2023-02-29"'),
        ({"type": "string", "format": "email", "maxLength": 255}, '"a@b.org"', '"a.b.org"'),
    ],
)
def test_documented_choices(schema: Any, accepted: str, refused: str) -> None:
    made = grammar(schema)
    assert made.accepts(accepted)
    assert not made.accepts(refused)
