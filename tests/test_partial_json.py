"""Partial JSON beside an oracle: what of a text is certain is what closing it at some place gives."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammars import GrammarError
from grammars.partial_json import NOTHING, PartialJson, partial_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(['a"b', "\\u12", "\U0001f600", "\ud83d", "\\\U0001f600", "\t/", "é"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
DUMPS = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 1]),
        "separators": st.sampled_from([None, (",", ":"), (" , ", " : ")]),
    }
)


def closers(text: str) -> str | None:
    """What closes the brackets that are open at the end of a text; ``None`` within a string."""
    stack, inside, escaped = [], False, False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = not escaped and character == "\\"
        elif character == '"':
            inside = True
        elif character in "{[":
            stack.append("}" if character == "{" else "]")
        elif character in "}]":
            stack.pop()
    return None if inside else "".join(reversed(stack))


def oracle(text: str) -> Any:
    """The value of the longest beginning that can be closed and does not end within a number."""
    for end in range(len(text), 0, -1):
        ends_in_number = text[end - 1] in "0123456789" and (
            end == len(text) or text[end] in "0123456789.eE+-"
        )
        tail = closers(text[:end])
        if tail is None or ends_in_number:
            continue
        try:
            return json.loads(text[:end] + tail)
        except ValueError:
            continue
    return NOTHING


@given(VALUES, DUMPS)
def test_every_beginning_has_the_value_that_closing_it_gives(value: Any, how: Any) -> None:
    text = json.dumps(value, **how)
    for end in range(len(text) + 1):
        assert same(partial_json(text[:end]), oracle(text[:end])), text[:end]


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def is_beginning(part: Any, whole: Any) -> bool:
    """Whether a value is one that grows into another, its last string cut off perhaps."""
    if part is NOTHING:
        return True
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    if isinstance(part, list) and isinstance(whole, list):
        pairs = list(zip(part, whole, strict=False))
        return (
            len(part) <= len(whole)
            and all(a == b for a, b in pairs[:-1])
            and (not pairs or is_beginning(*pairs[-1]))
        )
    if isinstance(part, dict) and isinstance(whole, dict):
        keys = list(part)
        return (
            keys == list(whole)[: len(keys)]
            and all(part[key] == whole[key] for key in keys[:-1])
            and (not keys or is_beginning(part[keys[-1]], whole[keys[-1]]))
        )
    return same(part, whole)


@given(VALUES, DUMPS, st.integers(0, 2**32))
def test_in_pieces_of_any_size(value: Any, how: Any, seed: int) -> None:
    """Strings grow; nothing that was there goes away; the end is the whole value."""
    text = json.dumps(value, **how)
    cuts = random.Random(seed)
    reader, whole = PartialJson(strings=True), PartialJson()
    at, before, changes = 0, NOTHING, 0
    while at < len(text):
        end = min(len(text), at + cuts.randint(1, 5))
        reader.feed(text[at:end])
        whole.feed(text[at:end])
        now = reader.value
        assert is_beginning(now, json.loads(text)), text[:end]
        assert is_beginning(before, now)
        assert same(now, before) == (reader.changes == changes)
        assert same(now, partial_json(text[:end], strings=True))
        assert same(whole.value, oracle(text[:end]))
        at, before, changes = end, now, reader.changes
    for made in (reader, whole):
        made.finish()
        assert made.is_complete
        assert same(made.value, json.loads(text))


def test_values_are_ones_own() -> None:
    reader = PartialJson()
    reader.feed('{"a": [1, ')
    first = reader.value
    first["a"].append("mine")
    reader.feed("2]}")
    assert reader.value == {"a": [1, 2]}
    assert first == {"a": [1, "mine"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", NOTHING),
        ("  ", NOTHING),
        ("12", NOTHING),
        ("12 ", 12),
        ("tru", NOTHING),
        ("true", True),
        ('{"a": 1', {}),
        ('{"a": 1,', {"a": 1}),
        ('{"a": "b', {}),
        ('{"a": "b"', {"a": "b"}),
        ('{"a": [{"b": null, "c": [', {"a": [{"b": None, "c": []}]}),
        ("[1, -", [1]),
        ("[1.5e", []),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_by_hand(text: str, value: Any) -> None:
    assert same(partial_json(text), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"', ""),
        ('["a', ["a"]),
        ('["a\\', ["a"]),
        ('["a\\u00e', ["a"]),
        ('["a\\u00e9', ["aé"]),
        ('["\\ud83d', [""]),
        ('["\\ud83d\\ude0', [""]),
        ('["\\ud83d\\ude00', ["\U0001f600"]),
        ('["\\\\ud83d', ["\\ud83d"]),
        ('{"a', {}),
        ('{"a": "b', {"a": "b"}),
    ],
)
def test_strings_that_grow(text: str, value: Any) -> None:
    assert same(partial_json(text, strings=True), value)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("x", 0), ("[1 2", 3), ("{1", 1), ('{"a" 1', 5), ("[,", 1), ("{,", 1), ("]", 0), ("[}", 1),
        ("01,", 2), ("[01]", 3), ("1.,", 2), ("truth", 5), ("trux", 4), ('"\t', 1), ('"\\x', 2),
        ('"\\u12g', 5), ("1 2", 2), ("{} {", 3), ('{"a": 1,}', 8), ("-x", 1), ("[nul]", 4),
    ],
)  # fmt: skip
def test_what_cannot_become_json(text: str, at: int) -> None:
    with pytest.raises(GrammarError, match=f"at character {at}$"):
        partial_json(text + " ")
    reader = PartialJson()
    for character in text[:at]:
        reader.feed(character)
    with pytest.raises(GrammarError, match=f"at character {at}$"):
        reader.feed((text + " ")[at])


@pytest.mark.parametrize("text", ["", "[", '"a', "tr", "-", '{"a":'])
def test_an_end_too_early(text: str) -> None:
    reader = PartialJson()
    reader.feed(text)
    with pytest.raises(GrammarError):
        reader.finish()
    assert not reader.is_complete


def test_a_number_alone_ends_with_its_text() -> None:
    reader = PartialJson()
    reader.feed("12")
    before = reader.value
    reader.finish()
    assert (before, reader.value) == (NOTHING, 12)
    assert repr(NOTHING) == "NOTHING"
