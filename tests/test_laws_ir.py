"""The laws on the intermediate form itself: grammars of every shape, written and random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import oracle
import pytest
from counters import count_above
from hypothesis import given
from hypothesis import strategies as st
from laws import ALL_BYTES, AutomatonLaws, Case, law_settings
from strategies import grammars, texts, vocabularies

from constrain import TokenAutomaton, Vocabulary
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    NOTHING,
    And,
    ByteSet,
    Expr,
    GrammarIR,
    Literal,
    Not,
    Ref,
    Repeat,
    Rule,
    alt,
    chars,
    minus,
    not_chars,
    optional,
    repeat,
    seq,
    single_rule,
)


def lit(text: str) -> Expr:
    return Literal(text.encode())


def grammar(**rules: Expr) -> GrammarIR:
    return GrammarIR(tuple(Rule(name, body) for name, body in rules.items()), next(iter(rules)))


s, t, u = Ref("s"), Ref("t"), Ref("u")
a, b, c = lit("a"), lit("b"), lit("c")
WORD = repeat(chars([(97, 99)]), 1)

GRAMMARS: dict[str, GrammarIR] = {
    "literal": single_rule(lit("abcab")),
    "empty text only": single_rule(EPSILON),
    "left recursion": grammar(s=alt(seq(s, a), b)),
    "right recursion": grammar(s=alt(seq(a, s), b)),
    "nested": grammar(s=alt(EPSILON, seq(a, s, b))),
    "brackets": grammar(s=repeat(seq(a, s, b), 0)),
    "palindromes": grammar(s=alt(EPSILON, a, b, seq(a, s, a), seq(b, s, b))),
    "ambiguous": grammar(s=alt(seq(s, s), a, EPSILON)),
    "ambiguous without empty": grammar(s=alt(seq(s, b, s), seq(s, c, s), a)),
    "hidden left recursion": grammar(s=alt(seq(t, s, a), b), t=alt(EPSILON, c)),
    "nullable cycle": grammar(s=alt(t, seq(s, s), a), t=alt(s, u, EPSILON), u=alt(t, b)),
    "mutual recursion": grammar(s=alt(seq(a, t), b), t=alt(seq(s, c), seq(b, u)), u=seq(t, a)),
    "two counters tied": grammar(s=alt(seq(a, s, c), t), t=alt(seq(b, t, c), EPSILON)),
    "choice after nesting": grammar(s=alt(seq(t, c), seq(u, b)), t=alt(seq(a, t, b), EPSILON),
                                    u=alt(seq(a, u, b, b), EPSILON)),
    "unproductive branch": grammar(s=alt(seq(a, t), seq(b, optional(t))), t=seq(c, t)),
    "branch without language": grammar(s=alt(seq(a, t), b, seq(c, Ref("n"))), t=alt(b, a),
                                       n=alt(NOTHING)),
    "counter": single_rule(seq(a, Repeat(b, 2, 5), c)),
    "counter of words": single_rule(Repeat(alt(lit("ab"), lit("a"), lit("bc")), 3, 6)),
    "counter of nullable": single_rule(seq(Repeat(optional(a), 4, 6), b)),
    "counter in counter": single_rule(Repeat(seq(Repeat(a, 1, 3), b), 2, 3)),
    "counter of recursion": grammar(s=seq(Repeat(t, 2, 3), c), t=alt(seq(a, t, b), a)),
    "counter with overlap": single_rule(seq(Repeat(alt(a, b), 0, 4), lit("ab"), Repeat(a, 2, 2))),
    "large counter": single_rule(seq(Repeat(chars([(97, 98)]), 10, 40), c)),
    "open counter": single_rule(seq(Repeat(a, 3, None), optional(b))),
    "code points": single_rule(repeat(chars([(0x61, 0x61), (0xE0, 0xFF), (0x400, 0x2FFFF)]), 0)),
    "any text but a": single_rule(repeat(not_chars([(97, 97)]), 1, 3)),
    "bytes, not text": single_rule(repeat(ByteSet(((0x61, 0x62), (0x80, 0xFF))), 0)),
    "difference": single_rule(minus(WORD, alt(lit("ab"), seq(a, repeat(b)), seq(WORD, c)))),
    "intersection": single_rule(And((repeat(alt(lit("ab"), c)), Repeat(ANY_CHAR, 3, 5)))),
    "identifier but keyword": grammar(s=seq(t, repeat(seq(b, t), 0, 2)), t=minus(
        repeat(chars([(97, 97), (99, 99)]), 1), alt(lit("ac"), lit("ca")))),
    "text without ab": single_rule(seq(minus(repeat(ANY_CHAR), seq(
        repeat(ANY_CHAR), lit("ab"), repeat(ANY_CHAR))), lit("ab"))),
    "double complement": single_rule(And((WORD, Not(And((WORD, Not(lit("abc"))))), WORD))),
}  # fmt: skip

PIECES = [
    b"a",
    b"b",
    b"c",
    b"\xc3",
    b"\xa9",
    b"ab",
    b"aa",
    b"abc",
    b"bc",
    b"\xc3\xa9",
    b"ca",
    b"bb",
]
FULL = ((*PIECES, None, b"", None, b"a"), (12, 14))
# No single "b", so that a text ending in an odd place cannot be written.
SPARSE = ((b"a", b"ab", b"bb", b"c", b"bc", b"abcab", b"\xd0\xb0", None), (7,))

TEXTS = tuple(
    word.encode()
    for word in (
        "", "a", "b", "c", "ab", "ba", "aab", "abc", "aabb", "abab", "abcab", "aaabbb", "abbc",
        "abbbbbc", "aaaab", "abaab", "cab", "baaa", "aaab", "bbabb", "aé", "é", "éé", "accbc",
        "ababab", "aabaabab", "a" * 12 + "c",
    )
)  # fmt: skip


class TestIntermediateForm(AutomatonLaws):
    """Every shape of rule with a full vocabulary; tokens for every byte."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(Case.of_ir, ir, FULL, TEXTS) for name, ir in GRAMMARS.items()
    }

    def random_cases(self) -> st.SearchStrategy[Case]:
        return st.builds(Case.of_ir, grammars(), vocabularies())


class TestSparseVocabulary(AutomatonLaws):
    """Tokens without their bytes: what is left must be spelled in whole tokens."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(Case.of_ir, ir, SPARSE, TEXTS)
        for name, ir in GRAMMARS.items()
        if oracle.completable(ir, b"", SPARSE[0])
    }

    def random_cases(self) -> st.SearchStrategy[Case]:
        few = st.tuples(
            st.lists(
                st.sampled_from([b"ab", b"ba", b"aab", b"c\xc3", b"\xa9", b"bb", b"a"]), max_size=5
            ).map(lambda tokens: (*tokens, b"aba", None)),
            st.just(()),
        ).map(lambda pair: (pair[0], (len(pair[0]) - 1,)))
        return st.builds(Case.of_ir, grammars(), few)


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every repetition of more than two states is counted; else only those of more than 256 are."""
    count_above(2, monkeypatch)


COUNTERS = (*(n for n in GRAMMARS if "count" in n), "intersection", "any text but a")


@pytest.mark.usefixtures("counters")
class TestCounters(TestIntermediateForm):
    """The same with every repetition counted instead of copied."""

    _cases: ClassVar[dict[Callable[[], Case], Case]] = {}
    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(Case.of_ir, GRAMMARS[name], FULL, TEXTS) for name in COUNTERS
    }


@pytest.mark.usefixtures("counters")
class TestCountersSparseVocabulary(TestSparseVocabulary):
    """Counted repetitions and tokens without their bytes."""

    _cases: ClassVar[dict[Callable[[], Case], Case]] = {}
    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: make for name, make in TestSparseVocabulary.fixed.items() if name in COUNTERS
    }


@pytest.mark.parametrize(
    "ir",
    [
        single_rule(NOTHING),
        grammar(s=seq(a, s)),
        grammar(s=s),
        grammar(s=seq(a, t), t=alt(seq(b, t), seq(t, c))),
        single_rule(And((a, b))),
        single_rule(minus(WORD, repeat(ANY_CHAR))),
        single_rule(seq(a, And((repeat(a, 3), repeat(a, 0, 2))))),
    ],
)
def test_empty_languages_are_refused(ir: GrammarIR) -> None:
    empty = Grammar(ir)
    assert empty.is_empty
    assert not empty.accepts(b"")
    assert not empty.accepts("a")
    assert str(empty.explain("a"))
    with pytest.raises(GrammarError):
        TokenAutomaton(empty, Vocabulary.from_tokens([b"a", b"b", None], [2]))
    with pytest.raises(GrammarError):
        empty.sample(seed=0)


BYTE_TOKENS = Vocabulary.from_tokens([*ALL_BYTES, None], [256])


def check_symbol_by_symbol(ir: GrammarIR, text: bytes) -> None:
    """The recognizer, a token automaton over single bytes and the oracle die at the same byte."""
    made = Grammar(ir)
    if made.is_empty:
        return
    recognizer, automaton = made._recognizer, TokenAutomaton(made, BYTE_TOKENS)
    expected = oracle.Recognizer(ir)
    state, place = recognizer.start, automaton.start
    for at, byte in enumerate(text, 1):
        onward = {b for b in range(256) if recognizer.advance(state, b)}
        ends = {256} if recognizer.accepting[state] else set()
        assert set(automaton.allowed_tokens(place).tolist()) == onward | ends, text[: at - 1]
        state, place = recognizer.advance(state, byte), automaton.advance(place, byte)
        assert bool(state) == (place != automaton.DEAD) == expected.viable(text[:at]), text[:at]
        if not state:
            return
    assert recognizer.accepting[state] == automaton.is_accepting(place) == oracle.member(ir, text)


@law_settings
@given(ir=grammars(), data=st.lists(texts(), min_size=1, max_size=4))
def test_recognizer_and_automaton_die_together(ir: GrammarIR, data: list[bytes]) -> None:
    for text in data:
        check_symbol_by_symbol(ir, text)


@law_settings
@given(ir=grammars(), data=st.lists(texts(), min_size=1, max_size=4))
@pytest.mark.usefixtures("counters")
def test_recognizer_and_automaton_die_together_counting(ir: GrammarIR, data: list[bytes]) -> None:
    for text in data:
        check_symbol_by_symbol(ir, text)


@pytest.mark.parametrize("name", list(GRAMMARS))
@pytest.mark.parametrize("limit", [2, 256])
def test_written_grammars_die_together(
    name: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_above(limit, monkeypatch)
    for text in TEXTS:
        check_symbol_by_symbol(GRAMMARS[name], text)


@law_settings
@given(ir=grammars(), data=st.lists(texts(), max_size=4), seed=st.integers(0, 99))
@pytest.mark.usefixtures("counters")
def test_grammar_alone_counting(ir: GrammarIR, data: list[bytes], seed: int) -> None:
    check_grammar_alone(ir, data, seed)


@law_settings
@given(ir=grammars(), data=st.lists(texts(), max_size=4), seed=st.integers(0, 99))
def test_grammar_alone(ir: GrammarIR, data: list[bytes], seed: int) -> None:
    check_grammar_alone(ir, data, seed)


def check_grammar_alone(ir: GrammarIR, data: list[bytes], seed: int) -> None:
    """accepts, is_empty, explain and sample without a vocabulary."""
    made = Grammar(ir)
    recognizer = oracle.Recognizer(ir)
    assert made.is_empty == (not recognizer.start.viable)
    for text in data:
        expected = oracle.member(ir, text)
        assert made.accepts(text) == expected
        explanation = made.explain(text)
        assert explanation.accepted == expected
        if not expected:
            viable = [n for n in range(len(text) + 1) if recognizer.viable(text[:n])]
            # The first byte that no completion allows; the end where more was to come.
            assert explanation.offset == (max(viable) if viable else 0)
    if not made.is_empty:
        text = made.sample(seed=seed, max_bytes=60)
        assert oracle.member(ir, text)
