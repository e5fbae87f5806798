"""The laws on JSON Schema; the reference is a validator behind a strict reading of the text.

A text is accepted if it parses, has no key twice, keeps the order of keys and the style of blanks
that were asked for, and its value validates.  Where the contract leaves the spelling of a value
open (fractions and exponents for integers, other blanks), the reference gives no answer.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import jsonschema
from hypothesis import strategies as st
from laws import AutomatonLaws, Case, check_bounded_budget

from grammars.grammar import Grammar

Schema = dict[str, Any] | bool

PIECES = [bytes([value]) for value in b'ab01259-.eE+{}[],:"\\/ \ntrufalsn\xc3\xa9']
LONG = ['{"', '":', '","', "true", "null", "10", '"a"', '"a":', "},{", '": ', ", ", '""', "é", "[["]
TOKENS = (*PIECES, *(text.encode() for text in LONG), None)
VOCABULARY = (TOKENS, (len(TOKENS) - 1,))

TREE: Schema = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "a": {"type": "integer"},
                "b": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["a"],
            "additionalProperties": False,
        }
    },
}

SCHEMAS: dict[str, tuple[Schema, list[Any]]] = {
    "integer in a range": (
        {"type": "integer", "minimum": -3, "maximum": 120},
        [0, -3, 120, 121, -4, 19, 5],
    ),
    "integer above": ({"type": "integer", "exclusiveMinimum": 95}, [95, 96, 100, 9, 1000]),
    "multiples": ({"type": "integer", "multipleOf": 5}, [0, 5, -10, 12, 125, 1]),
    "number in a range": (
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        [0, 1, 0.5, 1.1, 0.01, -0.1],
    ),
    "literals": ({"enum": [None, True, 10, "a", [1, "é"], {"a": 5}]}, [None, False, [1, "é"]]),
    "constant": ({"const": {"a": [1, 2], "b": "é"}}, [{"a": [1, 2], "b": "é"}, {"a": [1, 2]}]),
    "string lengths": (
        {"type": "string", "minLength": 1, "maxLength": 3},
        ["", "é", "aéb", "abab"],
    ),
    "pattern": ({"type": "string", "pattern": "^a+[0-9]$"}, ["a1", "aa9", "a", "1a1"]),
    "unanchored pattern": ({"type": "string", "pattern": "ab"}, ["ab", "bab1", "a", "b"]),
    "object": (
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}, "é": {"const": 1}},
            "required": ["b"],
            "additionalProperties": False,
        },
        [{"b": True}, {"a": 1, "b": False}, {"b": True, "é": 1}, {"a": 1}, {"b": True, "a": 1}, {}],
    ),
    "map": (
        {"type": "object", "additionalProperties": {"type": "boolean"}},
        [{}, {"a": True}, {"a": True, "b": False}, {"a": 1}],
    ),
    "array": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        [[], [1], [1, 2, 5], [1, 2, 5, 9], ["a"]],
    ),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}], "items": False},
        [[], [True], [True, None], [True, None, 1], [None]],
    ),
    "union": (
        {"anyOf": [{"type": "integer", "minimum": 10}, {"type": "string", "maxLength": 1}]},
        [1, 10, "", "a", "ab", None],
    ),
    "several types": ({"type": ["null", "boolean", "integer"]}, [None, True, 1, 1.5, "a"]),
    "recursion": (TREE, [{"a": 1}, {"a": 1, "b": [{"a": 2}]}, {"b": []}, {"a": 1, "b": [{}]}]),
    "anything": (True, [None, [1, {"a": "b"}], 1.5, "é", {}, -10]),
}


def case(
    schema: Schema, texts: tuple[str, ...] = (), whitespace: str = "compact", values: Any = ()
) -> Case:
    grammar = Grammar.from_json_schema(schema, whitespace=whitespace)
    written = [
        form
        for value in values
        for form in (
            json.dumps(value, separators=(",", ":"), ensure_ascii=False),
            json.dumps(value),
            json.dumps(value, indent=2),
        )
    ]
    return Case(
        grammar,
        grammar.ir,
        *VOCABULARY,
        reference=partial(reference, schema, whitespace),
        texts=tuple(text.encode() for text in dict.fromkeys((*texts, *written))),
        source=json.dumps(schema),
    )


def reference(schema: Schema, whitespace: str, data: bytes) -> bool | None:
    try:
        text = data.decode()
        value = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_refuse)
    except Twin as twin:
        # keys without a place of their own may still come twice; DESIGN keeps that for later
        return False if f'"{twin}"' in json.dumps(schema, ensure_ascii=False) else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, str) and text != text.strip():
        return None if whitespace == "flexible" else False
    if any("\ud800" <= letter <= "\udfff" for letter in json.dumps(value, ensure_ascii=False)):
        return None  # an escaped half of a surrogate pair
    if not jsonschema.Draft202012Validator(schema).is_valid(value):
        return False
    if not in_order(schema, value, schema):
        return False
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    if re.search(r"[.eE]", outside.replace("true", "").replace("false", "")):
        return None
    if "-0" in re.findall(r"-0(?![0-9])", outside):
        return None
    if re.search(r"\\", text):
        return None  # which escapes are written is the front end's choice
    if not re.search(r"\s", outside):
        return True
    if whitespace == "compact":
        return False
    usual = (json.dumps(value, ensure_ascii=False), json.dumps(value, ensure_ascii=False, indent=2))
    return True if text in usual else None


class Twin(Exception):  # noqa: N818
    """A key that comes twice in one object."""


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        keys = [key for key, _ in pairs]
        raise Twin(next(key for key in keys if keys.count(key) > 1))
    return dict(pairs)


def _refuse(name: str) -> Any:
    raise ValueError(name)


def in_order(schema: Schema, value: Any, root: Schema) -> bool:
    """Do the keys of every object follow the schema that describes it?"""
    if isinstance(schema, bool):
        return True
    if "$ref" in schema and isinstance(root, dict):
        return in_order(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], value, root)
    if "anyOf" in schema:
        return any(
            in_order(branch, value, root)
            for branch in schema["anyOf"]
            if jsonschema.Draft202012Validator(branch).is_valid(value)
        )
    if "const" in schema or "enum" in schema:
        wanted = [schema["const"]] if "const" in schema else schema["enum"]
        return _in_one_spelling(value) in map(_in_one_spelling, wanted)
    if isinstance(value, dict):
        named = list(schema.get("properties", {}))
        ranks = [named.index(key) if key in named else len(named) for key in value]
        others = schema.get("additionalProperties", True)
        return ranks == sorted(ranks) and all(
            in_order(schema.get("properties", {}).get(key, others), item, root)
            for key, item in value.items()
        )
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        return all(
            in_order(first[i] if i < len(first) else rest, item, root)
            for i, item in enumerate(value)
        )
    return True


def _in_one_spelling(value: Any) -> str:
    """JSON text that keeps the order of keys, with one spelling for 1 and 1.0."""
    whole = json.loads(json.dumps(value), parse_float=lambda text: _number(float(text)))
    return json.dumps(whole)


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


# --- random schemas -----------------------------------------------------------------------------


def schemas() -> st.SearchStrategy[Schema]:
    """Satisfiable and unsatisfiable schemas of the common keywords."""
    small = st.integers(-12, 130)
    counts = st.integers(0, 3)
    leaf: st.SearchStrategy[Schema] = st.one_of(
        st.fixed_dictionaries({"type": st.sampled_from(["null", "boolean"])}),
        st.fixed_dictionaries(
            {"type": st.just("integer")},
            optional={
                "minimum": small,
                "maximum": small,
                "exclusiveMinimum": small,
                "multipleOf": st.sampled_from([2, 3, 5, 10]),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("string")}, optional={"minLength": counts, "maxLength": counts}
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("string"),
                "pattern": st.sampled_from(["^a", "b$", "^(ab|é)*$", "[01]{2}", "^[^a]?$"]),
            },
            optional={"maxLength": counts},
        ),
        st.fixed_dictionaries(
            {"enum": st.lists(st.sampled_from([1, "a", None, [1], {"a": 2}, "é"]), min_size=1)}
        ),
    )

    def grow(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
        return st.one_of(
            st.fixed_dictionaries(
                {
                    "type": st.just("object"),
                    "properties": st.dictionaries(
                        st.sampled_from(["a", "b", "é"]), inner, max_size=3
                    ),
                    "additionalProperties": st.one_of(st.just(False), inner),
                },
                optional={
                    "required": st.lists(st.sampled_from(["a", "b"]), unique=True, max_size=2)
                },
            ),
            st.fixed_dictionaries(
                {"type": st.just("array"), "items": inner},
                optional={"minItems": counts, "maxItems": counts},
            ),
            st.fixed_dictionaries(
                {
                    "type": st.just("array"),
                    "prefixItems": st.lists(inner, min_size=1, max_size=2),
                    "items": st.one_of(st.just(False), inner),
                },
                optional={"minItems": counts},
            ),
            st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        )

    return st.recursive(leaf, grow, max_leaves=3)


def values() -> st.SearchStrategy[Any]:
    plain = st.one_of(
        st.none(), st.booleans(), st.integers(-12, 130), st.sampled_from(["", "a", "ab", "é", "01"])
    )
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["a", "b", "é", "x"]), inner, max_size=3),
        ),
        max_leaves=4,
    )


def likely(schema: Schema) -> Iterator[Any]:
    """Some values near the schema, a few of them valid."""
    if isinstance(schema, bool):
        yield from (None, 1)
        return
    yield from schema.get("enum", [])
    for branch in schema.get("anyOf", []):
        yield from likely(branch)
    match schema.get("type"):
        case "integer":
            yield from (schema.get("minimum", 0), schema.get("maximum", 10), 30, -30)
        case "string":
            yield from ("", "a", "ab", "éé", "abab", "01")
        case "object":
            fields = {key: list(likely(sub))[:2] for key, sub in schema["properties"].items()}
            yield {key: found[0] for key, found in fields.items() if found}
            yield {key: fields[key][-1] for key in schema.get("required", []) if fields.get(key)}
            yield {}
        case "array":
            first = [next(likely(sub), None) for sub in schema.get("prefixItems", [])]
            rest = list(likely(schema["items"]))[:2]
            yield from ([], first, first + rest, first + rest + rest)
        case "null":
            yield None
        case "boolean":
            yield True


def random_case(schema: Schema, others: list[Any], whitespace: str) -> Case:
    return case(schema, whitespace=whitespace, values=(*list(likely(schema))[:6], *others))


class TestJsonSchema(AutomatonLaws):
    """Schemas with compact texts; the flexible style is checked on the texts of all of them."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        f"{name}, {style}": partial(case, schema, whitespace=style, values=tuple(found))
        for name, (schema, found) in SCHEMAS.items()
        for style in ("compact", "flexible")
    }
    alphabet: ClassVar[list[bytes]] = [b"a", b"1", b'"', b",", b"]", b"}", b" ", b"0", b"\xc3"]

    def random_cases(self) -> st.SearchStrategy[Case]:
        return st.builds(
            random_case,
            schemas(),
            st.lists(values(), max_size=2),
            st.sampled_from(["compact", "flexible"]),
        )

    def random_texts(self) -> st.SearchStrategy[bytes]:
        return values().map(lambda value: json.dumps(value, separators=(",", ":")).encode())


def test_a_bound_above_those_of_what_follows() -> None:
    """Found by fuzzing: nine tokens and EOS from the start, eight by way of one of its tokens."""
    schema = {"type": "object", "required": ["a", "b"], "additionalProperties": {"type": "null"}}
    for seed in range(5):
        made = replace(case(schema, whitespace="compact", values=()), patience=True)
        check_bounded_budget(made, random.Random(seed))
