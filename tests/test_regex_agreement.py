"""Regexes against ``re``, ``regex`` and each other's methods: at random, and as people write them."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import regex_agreement as agreement

from grammars import Grammar, GrammarError, LimitExceeded, Limits
from grammars.frontends.regex import lookaround
from grammars.frontends.regex.alternating import solve_by_automaton
from grammars.frontends.regex.bytewise import byte_machine
from grammars.frontends.regex.formulas import FALSE, TRUE, Formulas
from grammars.frontends.regex.nodes import UnsolvableError
from grammars.frontends.regex.python import _Translator
from grammars.ir import Machine, Ranges, normalize_ranges, single_rule


@pytest.mark.parametrize("name", agreement.FAMILIES)
def test_random_patterns(name: str) -> None:
    family = agreement.FAMILIES[name]
    rng = random.Random(f"test {name}")
    outcome = agreement.Outcome()
    while outcome.patterns < 40:
        agreement.compare(outcome, family, agreement.random_pattern(family, rng), 30, rng)
    assert outcome.differences == []
    assert outcome.refused.total() <= 2
    assert outcome.matches > 30


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("pattern", agreement.WRITTEN)
def test_patterns_that_people_write(pattern: str) -> None:
    family = agreement.Family((), alphabet="")
    outcome = agreement.Outcome()
    rng = random.Random(pattern)
    agreement.compare(outcome, family, pattern, 60, rng, agreement.WRITTEN[pattern])
    assert outcome.patterns == 1
    assert outcome.differences == []
    assert not outcome.refused


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_patterns_of_cpython() -> None:
    """The table that CPython tests ``re`` with, where it is installed: only backreferences are refused."""
    tests = pytest.importorskip("test.re_tests").tests
    begun: dict[str, list[str]] = {}
    for pattern, text, *_ in tests:
        if isinstance(pattern, str):
            begun.setdefault(pattern, []).append(text)
    family = agreement.Family((), alphabet="ab\n ")
    outcome = agreement.Outcome()
    rng = random.Random("re_tests")
    for pattern, texts in begun.items():
        agreement.compare(outcome, family, pattern, 12, rng, tuple(texts))
    assert outcome.patterns > 250
    assert outcome.differences == []
    assert all(why.startswith("backreference") for why in outcome.refused)
    assert outcome.refused.total() < 30


# -- methods against each other --------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_expressions_and_automata_say_the_same(seed: int) -> None:
    """Where both methods apply."""
    rng = random.Random(seed)
    family = agreement.FAMILIES[rng.choice(["look-around", "anchors and boundaries", "plain"])]
    pattern = agreement.random_pattern(family, rng)
    try:
        node = _Translator(pattern, 0, look_around=True).translate()
        solver = lookaround._Solver(lookaround._edges(node))
        if lookaround._suits_automaton(node):
            return
        lines = lookaround._lines(node)
        expr = lookaround.united(*map(solver.line, lines))
    except (GrammarError, UnsolvableError):
        return
    one, other = Grammar(single_rule(expr)), Grammar(single_rule(solve_by_automaton(node, 10_000)))
    for text in agreement.texts_for(one, family.alphabet, 60, rng):
        assert one.accepts(text) == other.accepts(text), (pattern, text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 0x10FFFF), st.integers(0, 3000))), max_size=3))
def test_automata_over_bytes(drawn: list[list[tuple[int, int]]]) -> None:
    """Each class leads to a state of its own, which counts another character."""
    classes: list[Ranges] = []
    taken: set[int] = set(range(0xD800, 0xE000))
    for pairs in drawn:
        points = {p for lo, more in pairs for p in range(lo, min(lo + more, 0x10FFFF) + 1)} - taken
        taken |= points
        classes.append(normalize_ranges((p, p) for p in points))
    rows = [dict.fromkeys(range(len(classes)), 1), {0: 2} if classes else {}, {}]
    grammar = Grammar(single_rule(byte_machine(classes, rows, [False, True, True])))
    edges = {p for lo, hi in (x for c in classes for x in c) for p in (lo - 1, lo, hi, hi + 1)}
    for point in edges | {0x41, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF}:
        if not 0 <= point <= 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            continue
        inside = [any(lo <= point <= hi for lo, hi in ranges) for ranges in classes]
        assert grammar.accepts(chr(point)) == any(inside)
        assert grammar.accepts(chr(point) * 2) == (bool(classes) and inside[0])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_formulas_are_canonical(data: st.DataObject) -> None:
    """Equal truth tables, equal numbers."""
    formulas = Formulas()
    full = (1 << 16) - 1  # of four variables
    tables = {FALSE: 0, TRUE: full}
    for v in range(4):
        tables[formulas.variable(v)] = sum(1 << i for i in range(16) if i >> v & 1)
    for _ in range(15):
        a, b, c = (data.draw(st.sampled_from(sorted(tables))) for _ in range(3))
        x, y, z = tables[a], tables[b], tables[c]
        for made, table in (
            (formulas.both(a, b), x & y),
            (formulas.either(a, b), x | y),
            (formulas.negation(a), full ^ x),
            (formulas.choose(a, b, c), (x & y) | (full ^ x) & z),
        ):
            assert tables.setdefault(made, table) == table
    assert len(set(tables.values())) == len(tables)


# -- inside JSON -----------------------------------------------------------------------------------

IN_JSON = [
    r'^(?:(?!"\\)[^a])*$',
    r"^(?:(?!</a>)[^\n])*</a>$",
    r"^(a(?!bb))*b*$",
    r'^(?:[\x00-\x1f"](?=\\)|\\(?<="\\))*$',
    r"(?:(?<!\\)\")+$",
]


@pytest.mark.parametrize("extra", [{}, {"maxLength": 2}, {"not": {"const": "\n"}}], ids=str)
@pytest.mark.parametrize("pattern", IN_JSON)
def test_in_json_schema(pattern: str, extra: Mapping[str, object]) -> None:
    schema = {"type": "string", "pattern": pattern, **extra}
    grammar = Grammar.from_json_schema(schema)
    compiled = re.compile(pattern.replace("$", r"\Z"))
    rng = random.Random(pattern)
    begun = ("</a>", 'x"\\', "aab", '\n\\"\\')
    for value in agreement.texts_for(grammar, 'ab"\\\n\x01</>', 120, rng, begun):
        wanted = compiled.search(value) is not None and len(value) <= extra.get("maxLength", 99)  # type: ignore[operator]
        wanted = wanted and not (value == "\n" and "not" in extra)
        assert grammar.accepts(json.dumps(value, ensure_ascii=False)) == wanted, value


def test_in_json_in_json() -> None:
    import pydantic

    class Inner(pydantic.BaseModel):
        a: str = pydantic.Field(pattern=re.compile(r'^(?:(?!ab)[ab"])*$'))  # type: ignore[arg-type]

    class Outer(pydantic.BaseModel):
        j: pydantic.Json[Inner]

    grammar = Grammar.from_type(Outer)
    for seed in range(5):
        Outer.model_validate_json(grammar.sample(seed=seed))
    for value, wanted in (('a"b', True), ("ab", False), ("ba\n", True)):
        inner = json.dumps({"a": value}, separators=(",", ":"))
        assert grammar.accepts(json.dumps({"j": inner}, separators=(",", ":"))) == wanted


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?:(?=(?:a|b)*c.{15}d)[abcd])*.{20}",
        r"(?:a(?=.*b.{12}c)|[abc](?!.{9}a))*.*",
        r"(?:(?!a.{0,30}b).)*",
        r"(?:(?=a{300000}b)a)*",
        r"(?:x(?=yz)){1000000}",
        r"(?:(?<!a.{30})b|a)*",
    ],
)
def test_large_automata_end_in_a_limit(pattern: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        Grammar.from_regex(pattern, limits=Limits(max_work=400_000))
    assert caught.value.limit in ("max_work", "max_dfa_states")


def test_states_are_limited() -> None:
    with pytest.raises(LimitExceeded, match="max_dfa_states"):
        Grammar.from_regex(r"(?:(?!ab)[abc]){50}", limits=Limits(max_dfa_states=40))


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=" * 60 + "a.*b" + ")" * 60 + ".*",
        "(?:x" * 20 + "(?=" * 20 + "a.*b" + ")" * 20 + ".*" + ")*" * 20,
        "(?=(?<=" * 15 + "a" + "))" * 15 + ".*",
        "(?:(?=ab)|(?=cd)|e)" * 30,
        "(?>a|ab)" * 12,
    ],
)
def test_deep_and_many_conditions_are_cheap(pattern: str) -> None:
    Grammar.from_regex(pattern, limits=Limits(max_work=300_000))


def test_minimal() -> None:
    body = Grammar.from_regex(r"(?:(?!</a>).)*</a>").ir.rules[0].body
    assert isinstance(body, Machine)
    assert len(body.accept) == 5 + 7  # one state a character of the end, and those inside UTF-8
