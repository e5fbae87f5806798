"""References in circles at one value, against a least fixed point computed value by value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars.errors import GrammarError, LimitExceeded
from grammars.grammar import Grammar
from grammars.limits import Limits

NAMES = "ABCD"
VALUES: list[Any] = [0, 1, 2, 3, "a", None]
Schemas = dict[str, Any]

# --- the reference: nothing but truth values ------------------------------------------------------


def uses(schema: Any, positive: bool = True) -> set[tuple[str, bool]]:
    """Names that a schema refers to at the same value, and whether no negation is on the way."""
    out: set[tuple[str, bool]] = set()
    if "$ref" in schema:
        out.add((schema["$ref"][-1], positive))
    for keyword in ("allOf", "anyOf", "oneOf"):
        for one in schema.get(keyword, []):
            out |= uses(one, positive)
            if keyword == "oneOf" and len(schema[keyword]) > 1:
                out |= uses(one, False)
    if "not" in schema:
        out |= uses(schema["not"], False)
    if "if" in schema and ("then" in schema or "else" in schema):
        out |= uses(schema["if"], positive) | uses(schema["if"], False)
        for keyword in ("then", "else"):
            out |= uses(schema.get(keyword, {}), positive)
    return out


def reached(schemas: Schemas, start: str) -> set[str]:
    """Names that a name leads to in one step or more."""
    found: set[str] = set()
    todo = [start]
    while todo:
        for name, _ in uses(schemas[todo.pop()]):
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def holds(schema: Any, value: Any, known: dict[str, bool]) -> bool:
    """Whether a value meets a schema, given which names it meets; ``...`` meets every assertion."""
    anyway = value is ...
    out = True
    if "$ref" in schema:
        out &= known[schema["$ref"][-1]]
    if "enum" in schema and not anyway:
        out &= value in schema["enum"]
    if "maximum" in schema and isinstance(value, int):
        out &= value <= schema["maximum"]
    if "allOf" in schema:
        out &= all(holds(one, value, known) for one in schema["allOf"])
    if "anyOf" in schema:
        out &= any(holds(one, value, known) for one in schema["anyOf"])
    if "oneOf" in schema:
        count = sum(holds(one, value, known) for one in schema["oneOf"])
        out &= count == 1 or (anyway and count > 0)
    if "not" in schema:
        out &= anyway or not holds(schema["not"], value, known)
    if "if" in schema:
        then, other = schema.get("then", {}), schema.get("else", {})
        condition = holds(schema["if"], value, known)
        if anyway:
            out &= (condition and holds(then, value, known)) or holds(other, value, known)
        else:
            out &= holds(then if condition else other, value, known)
    return out


def least(schemas: Schemas, value: Any) -> dict[str, bool]:
    """The least fixed point, what others are built of first."""
    leads = {name: reached(schemas, name) for name in schemas}
    known = dict.fromkeys(schemas, value is ...)
    # of names that lead to as many, those of the circle itself come before what leads into it
    for name in sorted(schemas, key=lambda n: (len(leads[n]), n not in leads[n])):
        circle = {n for n in leads[name] if name in leads[n]} or {name}
        known |= dict.fromkeys(circle, False)
        for _ in range(len(circle) + 1):
            known |= {n: holds(schemas[n], value, known) for n in circle}
    return known


def is_paradox(schemas: Schemas, start: str) -> bool:
    names = reached(schemas, start) | {start}
    return any(
        not positive and (other == name or name in reached(schemas, other))
        for name in names
        for other, positive in uses(schemas[name])
    )


def describes_nothing(schemas: Schemas, start: str) -> bool:
    """Whether a name is not derivable from itself whatever the value."""
    derivable = least(schemas, ...)
    return not all(derivable[name] for name in reached(schemas, start) | {start})


# --- random graphs --------------------------------------------------------------------------------


def inline() -> st.SearchStrategy[Any]:
    reference = st.sampled_from(NAMES).map(lambda name: {"$ref": f"#/$defs/{name}"})
    values = st.lists(st.sampled_from(VALUES[:5]), min_size=1, max_size=3, unique=True)
    leaf = st.one_of(values.map(lambda v: {"enum": v}), st.just({"maximum": 1}), reference)
    return st.recursive(st.one_of(leaf, reference), _compound, max_leaves=4)


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        some.map(lambda x: {"allOf": x}),
        some.map(lambda x: {"anyOf": x}),
        some.map(lambda x: {"anyOf": x}),
        st.one_of(
            some.map(lambda x: {"oneOf": x}),
            inner.map(lambda x: {"not": x}),
            st.builds(lambda a, b, c: {"if": a, "then": b, "else": c}, inner, inner, inner),
        ),
        st.builds(lambda a, b: {**a, **b}, inner, inner),
    )


@given(st.fixed_dictionaries({name: inline() for name in NAMES}))
@settings(max_examples=250, deadline=None)
def test_like_the_least_fixed_point(schemas: Schemas) -> None:
    schema = {"$ref": "#/$defs/A", "$defs": schemas}
    if is_paradox(schemas, "A"):
        with pytest.raises(GrammarError, match=r"its own negation|without describing"):
            Grammar.from_json_schema(schema)
        return
    if describes_nothing(schemas, "A"):
        with pytest.raises(GrammarError, match="without describing anything"):
            Grammar.from_json_schema(schema)
        return
    grammar = Grammar.from_json_schema(schema)
    for value in VALUES:
        assert grammar.accepts(json.dumps(value)) == least(schemas, value)["A"], value


# --- single cases ---------------------------------------------------------------------------------


def to(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("defs", "pointer"),
    [
        ({"A": {"not": to("A")}}, "/$defs/A"),
        ({"A": {"not": {"not": to("A")}}}, "/$defs/A"),
        ({"A": {"oneOf": [STRING, to("A")]}}, "/$defs/A"),
        ({"A": {"if": to("A"), "then": STRING}}, "/$defs/A"),
        ({"A": {"anyOf": [STRING, to("B")]}, "B": {"allOf": [{"not": to("A")}]}}, None),
        ({"A": {"items": to("B")}, "B": {"not": {"anyOf": [STRING, to("B")]}}}, None),
        (
            {"A": {"type": "object", "dependentSchemas": {"a": {"not": to("A")}}}},
            "/$defs/A/dependentSchemas/a",
        ),
    ],
)
def test_paradoxes_are_refused(defs: Schemas, pointer: str | None) -> None:
    with pytest.raises(GrammarError, match="its own negation") as caught:
        Grammar.from_json_schema({"$ref": "#/$defs/A", "$defs": defs})
    assert caught.value.pointer is not None
    assert pointer is None or caught.value.pointer == pointer


def test_circle_with_recursion_through_values() -> None:
    """Entering a value begins anew."""
    defs = {
        "V": {"anyOf": [STRING, {"type": "array", "items": to("V")}, to("W")]},
        "W": {"anyOf": [to("V"), {"type": "object", "additionalProperties": to("W")}]},
    }
    grammar = Grammar.from_json_schema({"$ref": "#/$defs/V", "$defs": defs})
    for text in ('"a"', '[["a"],{}]', '{"a":{"b":["c",{}]}}'):
        assert grammar.accepts(text)
    for text in ("1", "[1]", '{"a":[{"b":null}]}'):
        assert not grammar.accepts(text)
    other = Grammar.from_json_schema({"not": to("V"), "$defs": defs})
    assert other.accepts("1")
    assert other.accepts("[1]")
    assert not other.accepts('[["a"],{}]')


def test_circle_with_unevaluated_properties() -> None:
    defs = {
        "A": {
            "properties": {"a": STRING},
            "anyOf": [to("A"), {"properties": {"b": {"type": "null"}}}],
            "unevaluatedProperties": False,
        }
    }
    grammar = Grammar.from_json_schema({"$ref": "#/$defs/A", "$defs": defs})
    assert grammar.accepts('{"a":"x","b":null}')
    assert not grammar.accepts('{"c":1}')
    assert not grammar.accepts('{"b":1}')


def test_dynamic_references_go_in_circles_too() -> None:
    schema = {
        "$dynamicAnchor": "n",
        "anyOf": [{"$dynamicRef": "#n"}, {"type": "array", "items": {"$dynamicRef": "#n"}}],
    }
    grammar = Grammar.from_json_schema(schema)
    assert grammar.accepts("[[],[[]]]")
    assert not grammar.accepts("[1]")
    with pytest.raises(GrammarError, match="its own negation"):
        Grammar.from_json_schema({"$dynamicAnchor": "n", "not": {"$dynamicRef": "#n"}})


def test_unfolding_is_bounded() -> None:
    """Twelve alternatives that all lead to each other: too many ways, or a grammar; no endless work."""
    names = "abcdefghijkl"
    defs = {
        name: {"allOf": [{"anyOf": [{"const": name}, *map(to, names)]}, {"maxLength": 1}]}
        for name in names
    }
    with pytest.raises(LimitExceeded) as caught:
        Grammar.from_json_schema(
            {"$ref": "#/$defs/a", "$defs": defs}, limits=Limits(max_schema_branches=50)
        )
    assert caught.value.limit == "max_schema_branches"
