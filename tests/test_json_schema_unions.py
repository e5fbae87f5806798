"""Unions that are told apart rather than multiplied out, against an independent validator.

Random models with tags (required, optional or none), own and shared fields, open and closed, under
``oneOf``, ``anyOf``, ``not``, ``if`` and dependencies; and that grammars stay small.
"""

from __future__ import annotations

import json
import random
from itertools import permutations
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grammars import Grammar, LimitExceeded
from grammars.frontends.json_schema import branching, json_schema_to_ir
from grammars.ir import Bag, walk

KEYS = ("k", "a", "b", "c", "d", "e")
VALUES: list[Any] = ["x", "y", "z", 1, 2, None, True, [], ["x"], {}, {"a": 1}]


def fields() -> st.SearchStrategy[Any]:
    return st.sampled_from(
        [
            {"type": "string"},
            {"type": "integer"},
            {"type": ["string", "null"]},
            {"enum": ["x", 1]},
            {"const": "y"},
            {"type": "array", "contains": {"const": "x"}},
            {"type": "object", "required": ["a"]},
            True,
            False,
            {},
        ]
    )


@st.composite
def models(draw: st.DrawFn) -> Any:
    names = draw(st.lists(st.sampled_from(KEYS[1:]), max_size=4, unique=True))
    properties = {name: draw(fields()) for name in names}
    tag = draw(st.sampled_from(["x", "y", "z", None, None]))
    if tag is not None:
        tagged = {"const": tag} if draw(st.booleans()) else {"enum": [tag, "w"]}
        at = draw(st.integers(0, len(names)))
        items = list(properties.items())
        properties = dict([*items[:at], ("k", tagged), *items[at:]])
    schema: dict[str, Any] = {"properties": properties}
    if draw(st.integers(0, 3)):
        schema["type"] = "object"
    required = draw(st.lists(st.sampled_from([*properties, "e"]), max_size=2, unique=True))
    if required:
        schema["required"] = required
    others = draw(st.sampled_from([None, None, False, {"type": "integer"}]))
    if others is not None:
        schema["additionalProperties"] = others
    more = draw(st.sampled_from([None, None, None, "count", "pattern", "names"]))
    if more == "count":
        schema["minProperties"] = draw(st.integers(0, 2))
    elif more == "pattern":
        schema["patternProperties"] = {"^[ab]": {"type": "string"}}
    elif more == "names":
        schema["propertyNames"] = {"enum": ["k", "a", "b", "f"]}
    return schema


@st.composite
def unions(draw: st.DrawFn) -> Any:
    ways = draw(st.lists(models(), min_size=2, max_size=5))
    kind = draw(st.sampled_from(["oneOf", "oneOf", "oneOf", "anyOf", "not", "dependencies", "all"]))
    beside = draw(st.sampled_from([{}, {}, {"type": "object"}, {"properties": {"a": True}}]))
    if kind == "not":
        return {**beside, "allOf": [{"not": way} for way in ways]}
    if kind == "dependencies":
        names = draw(st.lists(st.sampled_from(KEYS), min_size=len(ways), max_size=len(ways)))
        negated = draw(st.booleans())
        then = [{"not": way} if negated else way for way in ways]
        return {**beside, "dependentSchemas": dict(zip(names, then, strict=True))}
    if kind == "all":
        pairs = [ways[i : i + 2] for i in range(0, len(ways), 2)]
        return {**beside, "allOf": [{"oneOf": pair} for pair in pairs]}
    return {**beside, kind: ways}


objects = st.dictionaries(st.sampled_from((*KEYS, "f")), st.sampled_from(VALUES), max_size=5)
documents = st.one_of(objects, objects, objects, st.sampled_from(VALUES))


def check(schema: Any, candidates: list[Any], seed: int) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    try:
        made = Grammar.from_json_schema(schema, property_order="any")
    except LimitExceeded:
        return
    for value in candidates:
        assert made.accepts(json.dumps(value)) == validator.is_valid(value), (schema, value)
    ordered = Grammar.from_json_schema(schema)
    assert ordered.is_empty == made.is_empty
    if made.is_empty:
        return
    for grammar in (made, ordered):
        value = json.loads(grammar.sample(seed))
        assert validator.is_valid(value), (schema, value)


def orders(value: Any) -> list[str]:
    """The texts of an object in every order of its keys, if it has few."""
    if not isinstance(value, dict):
        return [json.dumps(value)]
    return [json.dumps(dict(pairs)) for pairs in permutations(value.items())]


@pytest.mark.parametrize("most", [0, 3, 100])
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(unions(), st.lists(documents, min_size=5, max_size=15), st.integers(0, 1000))
def test_unions_agree_with_a_validator(
    most: int, schema: Any, candidates: list[Any], seed: int
) -> None:
    """With and without multiplying out: what is put off means the same."""
    before = branching.MOST_MULTIPLIED
    branching.MOST_MULTIPLIED = most
    try:
        check(schema, candidates, seed)
    finally:
        branching.MOST_MULTIPLIED = before


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(unions(), st.lists(objects, min_size=3, max_size=8))
def test_each_valid_object_has_an_order(schema: Any, candidates: list[Any]) -> None:
    """Under the schema's own order every valid object can be written, and no other."""
    before = branching.MOST_MULTIPLIED
    branching.MOST_MULTIPLIED = 0
    try:
        made = Grammar.from_json_schema(schema)
    except LimitExceeded:
        return
    finally:
        branching.MOST_MULTIPLIED = before
    validator = jsonschema.Draft202012Validator(schema)
    for value in candidates:
        found = any(made.accepts(text) for text in orders(value))
        assert found == validator.is_valid(value), (schema, value)


def model(
    number: int, count: int, *, middle: bool = False, required: bool = False, closed: bool = False
) -> Any:
    """A model as pydantic writes it, with a tag that has a default."""
    types = ["string", "integer", "boolean", "number"]
    own = {f"f_{number}_{i}": {"type": types[i % 4], "default": None} for i in range(count)}
    tag = {"kind": {"const": f"m{number}", "default": f"m{number}", "type": "string"}}
    items = list(own.items())
    at = count // 2 if middle else 0
    schema = {"type": "object", "properties": dict([*items[:at], *tag.items(), *items[at:]])}
    if required:
        schema["required"] = ["kind"]
    if closed:
        schema["additionalProperties"] = False
    return schema


def union(models: int, count: int, keyword: str = "oneOf", **options: bool) -> Any:
    names = [f"M{i}" for i in range(models)]
    return {
        "$defs": {name: model(i, count, **options) for i, name in enumerate(names)},
        keyword: [{"$ref": f"#/$defs/{name}"} for name in names],
        "discriminator": {"propertyName": "kind"},
    }


def size(schema: Any) -> int:
    return sum(1 for rule in json_schema_to_ir(schema).rules for _ in walk(rule.body))


@pytest.mark.parametrize("keyword", ["oneOf", "anyOf"])
@pytest.mark.parametrize("options", [{}, {"middle": True}, {"required": True}, {"closed": True}])
def test_tagged_unions_grow_with_their_models(keyword: str, options: dict[str, bool]) -> None:
    small, large = size(union(5, 5, keyword, **options)), size(union(20, 5, keyword, **options))
    assert large < 5 * small
    wide = size(union(5, 20, keyword, **options))
    assert wide < 8 * small


@pytest.mark.parametrize("order", ["schema", "any"])
@pytest.mark.parametrize("options", [{}, {"middle": True}, {"closed": True}])
def test_tagged_unions_are_exact(order: Any, options: dict[str, bool]) -> None:
    schema = union(8, 6, **options)
    made = Grammar.from_json_schema(schema, property_order=order)
    validator = jsonschema.Draft202012Validator(schema)
    rng = random.Random(0)
    seen = {True: 0, False: 0}
    for _ in range(300):
        value = in_order(document(rng), options.get("middle", False))
        valid = validator.is_valid(value)
        seen[valid] += 1
        assert made.accepts(json.dumps(value)) == valid, value
    assert min(seen.values()) > 20


def in_order(value: dict[str, Any], middle: bool) -> dict[str, Any]:
    """The document with the keys of its model first, as they stand there."""
    if "kind" not in value:
        return value
    names = [f"f_{value['kind'][1:]}_{i}" for i in range(6)]
    names.insert(3 if middle else 0, "kind")
    return {name: value[name] for name in names if name in value} | value


def document(rng: random.Random) -> Any:
    """An object of about one model, in the order of its schema, with a key or two that are wrong."""
    right: list[Any] = ["text", 3, True, 1.5]
    tag = rng.choice([None, None, *range(8), "none"])
    value: dict[str, Any] = {} if tag is None else {"kind": f"m{tag}"}
    spoilt = set(rng.sample(range(8), rng.choice([0, 1, 6, 7, 7, 8])))
    for number in range(8):
        names = list(range(6))
        bad = rng.choice(names) if number in spoilt else None
        for i in names:
            if i == bad:
                value[f"f_{number}_{i}"] = None
            elif rng.random() < 0.15:
                value[f"f_{number}_{i}"] = right[i % 4]
    if tag is not None and rng.random() < 0.7:
        value = {k: v for k, v in value.items() if k == "kind" or k.startswith(f"f_{tag}_")}
    return value


def test_rivals_without_a_tag_are_counted_by_one_bag() -> None:
    ir = json_schema_to_ir(union(12, 8))
    bags = [x for rule in ir.rules for x in walk(rule.body) if isinstance(x, Bag)]
    assert [len(b.conditions) for b in bags if b.conditions] == [1]


def test_dependencies_that_forbid_the_same_key_stay_few() -> None:
    names = [f"k{i}" for i in range(15)]
    schema = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "dependencies": {name: {"not": {"required": ["x"]}} for name in names},
    }
    made = Grammar.from_json_schema(schema)
    assert made.accepts('{"k0": "", "k3": ""}')
    assert made.accepts('{"x": 1, "y": 1}')
    assert not made.accepts('{"k3": "", "x": 1}')
    assert size(schema) < 1000
