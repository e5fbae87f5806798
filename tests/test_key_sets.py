"""Sets of keys told apart by patterns, against lists of all short keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import Grammar, LimitExceeded, Limits
from grammars.frontends.json_schema.assertions import Shape
from grammars.frontends.json_schema.key_sets import KeySet, KeySets, KeyTest
from grammars.frontends.json_schema.strings import automaton, is_in, shape_expr
from grammars.limits import DEFAULT_LIMITS

LETTERS = "ab-"
WORDS = ["".join(w) for n in range(5) for w in product(LETTERS, repeat=n)]
PATTERNS = [
    "^a",
    "b$",
    "^ab*$",
    "-",
    "^a-",
    "^a-b",
    "^b-",
    ".",
    "..",
    "^$",
    "^(a|b)$",
    "a.*b",
    "^-?a?$",
]


def asked(pattern: str) -> KeyTest:
    shape = Shape("pattern", pattern, "")
    return KeyTest(pattern, shape_expr(shape), shape_expr(shape, loose=True))


def found_in(pattern: str, word: str) -> bool:
    return re.search(pattern.replace("$", r"\Z"), word) is not None


def cells(names: Iterable[str], patterns: Iterable[str]) -> list[tuple[frozenset[str], KeySet]]:
    """The sets that patterns split all keys but some into, with the patterns that hold."""
    sets = KeySets(DEFAULT_LIMITS, lambda _: None)
    found = [(frozenset[str](), sets.everything(tuple(names)))]
    for pattern in patterns:
        parts = []
        for holds, keys in found:
            within, without = sets.split(keys, asked(pattern))
            parts += [(holds | {pattern}, within)] if within is not None else []
            parts += [(holds, without)] if without is not None else []
        found = parts
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(WORDS[:60]), max_size=4, unique=True),
    st.lists(st.sampled_from(PATTERNS), max_size=4, unique=True),
)
def test_sets_are_those_that_keys_fall_into(names: list[str], patterns: list[str]) -> None:
    found = cells(names, patterns)
    assert len({holds for holds, _ in found}) == len(found)
    kept = dict(found)
    for word in WORDS:
        holds = frozenset(p for p in patterns if found_in(p, word))
        for other, keys in found:
            assert is_in(keys.expr, word) == (word not in names and holds == other)
        assert holds in kept or word in names
    for holds, keys in found:  # none is empty
        example = keys.example.decode()
        assert is_in(keys.expr, example)
        assert holds == {p for p in patterns if found_in(p, example)}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(WORDS[:60]), max_size=4, unique=True),
    st.lists(st.sampled_from(PATTERNS), max_size=4, unique=True),
)
def test_few_keys_are_listed(names: list[str], patterns: list[str]) -> None:
    sets = KeySets(DEFAULT_LIMITS, lambda _: None)
    for _, keys in cells(names, patterns):
        dfa = automaton(keys.expr, DEFAULT_LIMITS)
        loops = len(dfa) <= 40 and any(is_in(keys.expr, w) for w in _long(keys.example.decode()))
        few = sets.few(keys)
        assert all(is_in(keys.expr, word) for word in few)
        if few:
            assert set(few) >= {w for w in WORDS if is_in(keys.expr, w)}
            assert not loops


def _long(example: str) -> list[str]:
    return [example[:i] + c * 50 + example[i:] for i in range(len(example) + 1) for c in LETTERS]


def test_patterns_that_begin_with_different_words_cost_what_they_are_long() -> None:
    steps = 0

    def count(states: int) -> None:
        nonlocal steps
        steps += states

    def spent(number: int) -> int:
        nonlocal steps
        steps = 0
        sets = KeySets(DEFAULT_LIMITS, count)
        rest: KeySet | None = sets.everything(())
        for i in range(number):
            assert rest is not None
            within, rest = sets.split(rest, asked(f"^key{i}_"))
            assert within is not None
            assert not within.outside
        return steps

    assert spent(200) < 6 * spent(50)


def test_many_patterns_of_which_none_goes_with_another() -> None:
    schema = {"patternProperties": {f"^k{i}_": {"maximum": i} for i in range(100)}}
    grammar = Grammar.from_json_schema({"type": "object", **schema})
    assert grammar.accepts('{"k7_a": 7, "k99_": 99, "other": 1000}')
    assert not grammar.accepts('{"k7_a": 8}')


def test_patterns_that_go_together_in_too_many_ways_end_in_a_limit() -> None:
    schema = {"patternProperties": {c: {"minimum": i} for i, c in enumerate("abcdefghijklm")}}
    with pytest.raises(LimitExceeded):
        Grammar.from_json_schema(
            {"type": "object", **schema}, limits=Limits(max_schema_branches=256)
        )
