"""Spans of a text as a grammar: :meth:`Grammar.substring_of`."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spans import has_span, spans

from grammars import Grammar, GrammarError, LimitExceeded
from grammars.compiling.compiler import compile_ir, compile_plainly
from grammars.frontends.json_schema.text import quoted
from grammars.ir import ANY_CHAR, Not, Substrings, both, repeat, single_rule, text
from grammars.limits import DEFAULT_LIMITS
from grammars.program import Program
from grammars.recognizer import Recognizer
from grammars.substrings.units import FOLDS, UNITS

LETTERS = st.sampled_from('abAB,( \n\t"\\_é中文ıßΣσς\u0301ก𝒳')
SOURCES = st.tuples(
    st.text(LETTERS, max_size=16), st.sampled_from(UNITS), st.sets(st.sampled_from(FOLDS))
)


def reads(program: Program, data: bytes) -> bool:
    recognizer = Recognizer(program, DEFAULT_LIMITS)
    state, used = recognizer.run(data)
    return used == len(data) and bool(recognizer.accepting[state])


@settings(max_examples=150, deadline=None)
@given(SOURCES, st.text(LETTERS, max_size=5), st.randoms())
def test_spans_are_those_of_the_text(source, other, rng) -> None:  # type: ignore[no-untyped-def]
    source_text, unit, fold = source
    grammar = Grammar.substring_of(source_text, unit=unit, fold=fold)
    members = sorted(spans(source_text, unit, fold))
    for part in [*rng.sample(members, min(12, len(members))), other]:
        changed = part.swapcase() if len(part.swapcase()) == len(part) else part
        for tried in (part, changed, part + "a", part[1:], f" {part}"):
            assert grammar.accepts(tried) == has_span(source_text, tried, unit, fold), tried


@settings(max_examples=60, deadline=None)
@given(SOURCES, st.integers(0, 4), st.none() | st.integers(4, 8), st.booleans(), st.randoms())
def test_intersections_by_kernels_and_plainly(source, low, high, without, rng) -> None:  # type: ignore[no-untyped-def]
    source_text, unit, fold = source
    parts = [Substrings(source_text, unit, frozenset(fold)), repeat(ANY_CHAR, low, high)]
    if without:
        parts.append(Not(text("ab")))
    ir = single_rule(quoted(both(*parts)))
    quick, plain = compile_ir(ir, DEFAULT_LIMITS), compile_plainly(ir, DEFAULT_LIMITS)
    members = sorted(spans(source_text, unit, set(fold) - {"case"}))
    for part in rng.sample(members, min(20, len(members))):
        data = json.dumps(part, ensure_ascii=False).encode()
        wanted = (
            has_span(source_text, part, unit, fold)
            and low <= len(part) <= (len(part) if high is None else high)
            and not (without and part == "ab")
        )
        assert reads(quick, data) == reads(plain, data) == wanted, part


def test_a_long_text_is_read_whole() -> None:
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 8))) for _ in range(4_000)]
    source = " ".join(words)
    grammar = Grammar.substring_of(source, unit="words")
    for _ in range(200):
        i = rng.randrange(len(words) - 30)
        assert grammar.accepts(" ".join(words[i : i + rng.randint(1, 30)]))
    assert not grammar.accepts(" ".join(words[5:9]) + " zz")
    assert grammar.accepts(source)


def test_bounded_spans_of_a_long_text_are_not_multiplied_out() -> None:
    source = " ".join(f"word{i}" for i in range(3_000))
    schema = {"type": "string", "minLength": 1, "maxLength": 60}
    grammar = Grammar.from_json_schema(schema, source=source, grounded=True)
    assert len(grammar.program.accept_from) < 3 * len(source)
    assert grammar.accepts('"word7 word8"')
    assert not grammar.accepts(json.dumps(source[:61]))


def test_saved_and_loaded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    grammar = Grammar.substring_of("Ünder the  sea", unit="words", fold=("space", "case"))
    path = tmp_path / "spans.grammar"
    grammar.save(path)
    loaded = Grammar.load(path)
    assert loaded == grammar
    assert loaded.accepts("THE sea")
    assert not loaded.accepts("he sea")


def test_as_a_part_of_other_grammars() -> None:
    quote = Grammar.substring_of("to be or not to be", unit="words")
    grammar = Grammar.literal("He said: ") + quote + Grammar.literal(".")
    assert grammar.accepts("He said: not to be.")
    assert not grammar.accepts("He said: not to bee.")
    inside = Grammar.from_gbnf('root ::= "<q>" span "</q>"', rules={"span": quote})
    assert inside.accepts("<q>or not</q>")
    assert not inside.accepts("<q>or nut</q>")
    in_lark = Grammar.from_lark('start: "<q>" span "</q>"', rules={"span": quote})
    assert in_lark.accepts("<q>to be</q>")


def test_completions_and_samples_are_spans() -> None:
    grammar = Grammar.substring_of("alpha beta, gamma", unit="words")
    members = spans("alpha beta, gamma", "words")
    assert {grammar.sample(seed).decode() for seed in range(40)} <= members
    assert grammar.complete("alpha b") is not None


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"text": 7}, TypeError, "must be str, not int"),
        ({"text": "a", "unit": "word"}, ValueError, "unit='word'"),
        ({"text": "a", "fold": "blank"}, ValueError, "fold='blank'"),
        ({"text": "a", "fold": ("space", "x")}, ValueError, "fold='x'"),
        ({"text": "ab\ud800"}, GrammarError, "character 2"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Grammar.substring_of(**arguments)  # type: ignore[arg-type]


def test_a_text_too_long_for_the_plain_compiler_is_refused_at_once() -> None:
    spans_of_it = Substrings("ab" * 60_000 + "c" * 60_000)
    with pytest.raises(LimitExceeded, match="spans of a text of 180,000 characters"):
        compile_plainly(single_rule(spans_of_it), DEFAULT_LIMITS)
