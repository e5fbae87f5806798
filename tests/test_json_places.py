"""Places of values: ``json.loads`` of what stands there is the value that the pointer leads to."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grammars.json_places import MAX_DEPTH, places

letters = st.text('ab~/"\\ \n\té😀\ud83d\udc00', max_size=4)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | letters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(letters, inner, max_size=4),
    max_leaves=20,
)
quick = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def at(value: Any, pointer: str) -> Any:
    """RFC 6901, part by part."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def inside(value: Any) -> int:
    """How many values there are in a value, itself included."""
    if isinstance(value, dict):
        return 1 + sum(map(inside, value.values()))
    return 1 + sum(map(inside, value)) if isinstance(value, list) else 1


def check(text: str) -> dict[str, tuple[int, int]]:
    """Every value has a place, and stands there without blanks around it."""
    value = json.loads(text)
    found = places(text)
    for pointer, (start, end) in found.items():
        assert json.loads(text[start:end]) == at(value, pointer)
        assert text[start:end] == text[start:end].strip()
    assert len(found) == inside(value)
    starts = [start for start, _ in found.values()]
    assert starts == sorted(starts)
    return found


@quick
@given(value=values, indent=st.none() | st.integers(0, 3), ascii_only=st.booleans())
def test_against_the_standard_library(value: Any, indent: int | None, ascii_only: bool) -> None:
    check(json.dumps(value, indent=indent, ensure_ascii=ascii_only))
    check(f" \r\n{json.dumps(value, separators=(',', ':'))}\t")


@quick
@given(members=st.lists(st.tuples(st.sampled_from(["a", "b", "a/b"]), values), max_size=5))
def test_of_a_key_twice_the_last_counts(members: list[tuple[str, Any]]) -> None:
    inner = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members)
    check(f"{{{inner}}}")
    check(f'[{{"x": {{{inner}}}, "x": 1}}, {{{inner}}}]')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", {"": (0, 2)}),
        (' "a" ', {"": (1, 4)}),
        ("[]", {"": (0, 2)}),
        ('{"a": [1, {}]}', {"": (0, 14), "/a": (6, 13), "/a/0": (7, 8), "/a/1": (10, 12)}),
        ('{"": 1, "~": 2, "/": 3}', {"": (0, 23), "/": (5, 6), "/~0": (13, 14), "/~1": (21, 22)}),
        ('{"a": {"b": 1}, "a": 2}', {"": (0, 23), "/a": (21, 22)}),
        ('{"a": 2, "a": {"b": 1}}', {"": (0, 23), "/a": (14, 22), "/a/b": (20, 21)}),
        ('{"\\u0061": 1, "a": 2}', {"": (0, 21), "/a": (19, 20)}),
        ('{"\\ud83d\\ude00": "\\ud83d\\ude00"}', {"": (0, 32), "/😀": (17, 31)}),
        ('["😀", "\\ud800", -1.5e+3]', {"": (0, 24), "/0": (1, 4), "/1": (6, 14), "/2": (16, 23)}),
    ],
)  # fmt: skip
def test_by_hand(text: str, expected: dict[str, tuple[int, int]]) -> None:
    assert check(text) == expected


@pytest.mark.parametrize("text", [
    "", " ", "{", "[", "[1", "[1,", "[1,]", "[,1]", "{,}", '{"a"}', '{"a":}', '{"a":1,}', '{"a" 1}', "{1:2}",
    "1 2", "01", "1.", ".5", "+1", "1e", "NaN", "Infinity", "-", "tru", "truee", '"', '"\n"', '"\\x"',
    '"\\u12"', "'a'", "[1}", '{"a":1]', "]", "[1 2]", "[]]", "nul", "\u00a01",
])  # fmt: skip
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        places(text)


def test_depth() -> None:
    assert len(places("[" * MAX_DEPTH + "]" * MAX_DEPTH)) == MAX_DEPTH
    with pytest.raises(ValueError, match="deeper"):
        places("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    with pytest.raises(ValueError, match="deeper"):
        places("[" * 1_000_000)


def test_damaged_texts() -> None:
    """A change of one character is refused where the standard library refuses it, and only there."""
    chosen = random.Random(0)
    text = '{"a": [1, -2.5e3, "x\\n\\u00e9"], "b": {"c": null, "d": [true, false, {}]}}'
    for _ in range(3000):
        place = chosen.randrange(len(text))
        new = chosen.choice('{}[]",: \\ntu01.eE-+\n')
        damaged = text[:place] + new + text[place + chosen.randrange(2) :]
        try:
            json.loads(damaged)
        except ValueError:
            with pytest.raises(ValueError, match="no JSON"):
                places(damaged)
        else:
            check(damaged)
