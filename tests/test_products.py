"""Intersections by kernels are those of the plain steps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grammars.compiling.analysis import Analysis
from grammars.compiling.automata import ALL_BYTES, Dfa, expand, reduce, subtract, trim
from grammars.compiling.building import RuleBuilder
from grammars.compiling.encoding import PackedDfa
from grammars.compiling.products import Products, packed_reduction
from grammars.errors import LimitExceeded
from grammars.ir import ANY_CHAR, Alt, Chars, Expr, Literal, Repeat, Seq, both, minus, single_rule
from grammars.limits import DEFAULT_LIMITS
from tests.counters import count_above
from tests.strategies import plain_regular

LIMIT = 3_000
LETTER = Chars(((97, 98),))


def dfa_of(expr: Expr, products: Products | None = None) -> Dfa:
    """The automaton of an expression, perhaps counted."""
    grammar = single_rule(expr)
    analysis = Analysis(grammar, DEFAULT_LIMITS)
    made = None if products is None else products.of
    return RuleBuilder(analysis, DEFAULT_LIMITS, ALL_BYTES, made).regular_dfa(expr)


def same(a: Dfa, b: Dfa) -> bool:
    """Whether two automata accept the same texts."""
    a, b = expand(a, LIMIT), expand(b, LIMIT)
    return subtract(a, b, LIMIT).is_empty() and subtract(b, a, LIMIT).is_empty()


def operands() -> st.SearchStrategy[list[Expr]]:
    return st.lists(plain_regular(), max_size=3)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(operands(), operands())
def test_random_operands_with_counters_everywhere(
    within: Sequence[Expr], without: Sequence[Expr]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count_above(2, patch)
        parts = [dfa_of(x) for x in within]
        others = [expand(dfa_of(x), LIMIT) for x in without]
        try:
            plain = RuleBuilder(
                Analysis(single_rule(LETTER), DEFAULT_LIMITS), DEFAULT_LIMITS, ALL_BYTES
            )
            wanted = plain._intersected(parts, others)
            made = Products(LIMIT).of(parts, others)
        except LimitExceeded:
            return
        assert same(made, wanted)


@pytest.mark.parametrize(
    "expr",
    [
        both(Repeat(LETTER, 300, 400), Repeat(Literal(b"ab"), 0, None)),
        both(Repeat(LETTER, 300, 400), Repeat(LETTER, 350, 900)),
        minus(Repeat(LETTER, 300, None), Seq((Repeat(LETTER, 0, None), Literal(b"b")))),
        both(
            Seq((both(Repeat(LETTER, 2, 3), Literal(b"ab")), Repeat(ANY_CHAR, 0, None))),
            Literal(b"abc"),
        ),
        both(Repeat(LETTER, 300, 400), Alt((Literal(b"a"), Literal(b"b")))),
    ],
    ids=["counted", "two counted", "less", "nested", "empty"],
)
def test_expressions(expr: Expr) -> None:
    made, wanted = dfa_of(expr, Products(DEFAULT_LIMITS.max_dfa_states)), dfa_of(expr)
    assert made.is_empty() == wanted.is_empty()
    assert same(made, wanted)


def breadth_first(dfa: Dfa) -> list[tuple[bool, list[tuple[int, int, int]]]]:
    """States that are reached, numbered in the order in which they are, edges in that of labels."""
    number = {dfa.start: 0}
    out = []
    order = [dfa.start]
    for q in order:  # grows while we iterate
        row = []
        for label, t, inc in sorted(dfa.edges[q]):
            if t not in number:
                number[t] = len(number)
                order.append(t)
            row.append((label, number[t], inc))
        out.append((dfa.accept[q], row))
    return out


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_reduction_with_calls(data: st.DataObject) -> None:
    states = data.draw(st.integers(1, 9))
    labels = [1 << 97, 3 << 97, 1 << 99, ALL_BYTES, -1, -2, -60]
    target = st.integers(0, states - 1)
    rows = []
    for q in range(states):
        chosen = data.draw(st.lists(st.sampled_from(labels), max_size=3, unique=True))
        seen, row = 0, []
        for label in chosen:
            if label < 0 or not seen & label:
                row.append((label, data.draw(target), 0))
                seen |= max(label, 0)
        onward = [(-3, q + 1, 0)] if q + 1 < states else []  # all states are reached
        rows.append([*row, *onward])
    dfa = Dfa(0, data.draw(st.lists(st.booleans(), min_size=states, max_size=states)), rows)
    wanted = reduce(trim(dfa))
    made = packed_reduction(PackedDfa.of(dfa))
    assert made is not None
    found = made.unpacked()
    if wanted.is_empty():
        assert found.is_empty()
        return
    assert breadth_first(found) == breadth_first(wanted)


def test_many_different_calls_are_not_reduced_by_the_kernel() -> None:
    rows = [[(-1 - call, 1, 0) for call in range(57)], []]
    assert packed_reduction(PackedDfa.of(Dfa(0, [False, True], rows))) is None


def test_the_smallest_automaton_keeps_its_counter() -> None:
    """The bounds of the other one are those that states are made for."""
    large, small = (
        dfa_of(Repeat(Literal(b"aa"), 300, 400)),
        dfa_of(Repeat(Literal(b"a"), 300, 9_000)),
    )
    assert large.counted
    assert small.counted
    made = Products(LIMIT).of([large, small], [])
    assert same(made, large)
    with pytest.raises(LimitExceeded):
        expand(small, LIMIT)


def test_the_limit_holds_for_all_steps_together() -> None:
    ends = [Seq((Repeat(LETTER, 0, None), Literal(b"a"), Repeat(LETTER, n, n))) for n in (7, 8)]
    with pytest.raises(LimitExceeded, match="max_dfa_states"):
        Products(100).of([dfa_of(x) for x in ends], [])
