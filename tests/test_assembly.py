"""Automata put together from their ends are those of Thompson's construction."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import ir
from grammars.compiling.analysis import Analysis
from grammars.compiling.assembly import FINISH, Assembler
from grammars.compiling.automata import (
    ALL_BYTES,
    Dfa,
    complement,
    intersect,
    of_words,
    subtract,
    trim,
)
from grammars.compiling.building import RuleBuilder
from grammars.ir import REPEATED_COMMA, Alt, Expr, GrammarIR, Literal, Mark, Ref, Repeat, Rule, Seq
from grammars.limits import DEFAULT_LIMITS
from tests.thompson import LIMIT, difference, is_deterministic, thompson

_LEAVES = st.one_of(
    st.sampled_from([b"", b"a", b"b", b"ab", b"aba", b"ba"]).map(Literal),
    st.sampled_from([ir.chars([(97, 98)]), ir.chars([(97, 0x7FF)]), ir.ANY_CHAR]),
    st.just(ir.ByteSet(((98, 99),))),
    st.just(Mark(REPEATED_COMMA)),
)
_CALLING = st.one_of(_LEAVES, st.just(Ref("other")))


def _grown(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    bounds = st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 2)))
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda x: Seq(tuple(x))),
        st.lists(inner, min_size=1, max_size=5).map(lambda x: Alt(tuple(x))),
        st.tuples(inner, bounds).map(
            lambda x: Repeat(x[0], x[1][0], None if x[1][1] is None else x[1][0] + x[1][1])
        ),
    )


_REGULAR = st.recursive(_LEAVES, _grown, max_leaves=12)
_EXPRESSIONS = st.recursive(_CALLING, _grown, max_leaves=12)


def _assembled(expr: Expr) -> Dfa:
    """As the compiler makes it; the other rule calls itself, so it is not taken in."""
    other = Rule("other", Alt((Literal(b"x"), Seq((Literal(b"y"), Ref("other"))))))
    grammar = GrammarIR((Rule("root", Alt((expr, Ref("other")))), other), "root")
    builder = RuleBuilder(Analysis(grammar, DEFAULT_LIMITS), DEFAULT_LIMITS, ALL_BYTES)
    return builder._dfa(expr, regular=False)


@settings(max_examples=400, deadline=None)
@given(_EXPRESSIONS)
def test_an_assembled_automaton_is_that_of_subsets(expr: Expr) -> None:
    made, wanted = _assembled(expr), thompson(expr, {"other": 0})
    assert is_deterministic(made)
    assert difference(made, wanted) is None
    assert len(trim(made)) == len(made) or made.is_empty()


@settings(max_examples=200, deadline=None)
@given(_REGULAR, _REGULAR)
def test_a_difference_is_the_meeting_with_the_complement(a: Expr, b: Expr) -> None:
    one, two = thompson(a), thompson(b)
    made = subtract(one, two, LIMIT)
    assert is_deterministic(made)
    assert difference(made, intersect(one, complement(two), LIMIT)) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("abc", max_size=6).map(str.encode), min_size=1, max_size=30), _REGULAR)
def test_words_before_anything(words: list[bytes], after: Expr) -> None:
    made = Assembler(LIMIT, "words")
    then = made.embed(thompson(after), FINISH)
    wanted = thompson(Seq((Alt(tuple(map(Literal, words))), after)))
    assert difference(made.dfa(made.words(words, then)), wanted) is None


@given(st.lists(st.text("abc", max_size=6).map(str.encode), min_size=1, max_size=30))
def test_words_alone_are_minimal(words: list[bytes]) -> None:
    made = Assembler(LIMIT, "words")
    assert len(made.dfa(made.words(words, FINISH))) == len(of_words(words))


def test_shared_parts_are_compiled_once_for_each_continuation() -> None:
    """A chain of rules that each use the next twice doubles where parts are copied."""
    levels = 40
    rules = [
        Rule(
            f"r{i}",
            Alt((Seq((Literal(b"a"), Ref(f"r{i + 1}"))), Seq((Literal(b"b"), Ref(f"r{i + 1}"))))),
        )
        for i in range(levels)
    ]
    rules.append(Rule(f"r{levels}", Literal(b"c")))
    grammar = GrammarIR(tuple(rules), "r0")
    builder = RuleBuilder(Analysis(grammar, DEFAULT_LIMITS), DEFAULT_LIMITS, ALL_BYTES)
    assert len(builder.regular_dfa(Ref("r0"))) == levels + 2
