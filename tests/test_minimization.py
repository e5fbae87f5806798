"""Minimisation of the lexer's automata, against refinement by rounds over all states (Moore)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from grammars.frontends.lark.minimization import equivalence_classes, language

CLASSES = 3


@st.composite
def automata(draw: st.DrawFn) -> tuple[list[dict[int, int]], list[object]]:
    """Partial automata; some targets are negative and stand for themselves."""
    states = draw(st.integers(1, 12))
    row = st.dictionaries(st.integers(0, CLASSES - 1), st.integers(-2, states - 1))
    rows = draw(st.lists(row, min_size=states, max_size=states))
    colours = draw(st.lists(st.sampled_from([False, True, "x"]), min_size=states, max_size=states))
    return rows, list(colours)


def by_rounds(rows: list[dict[int, int]], colours: list[object]) -> list[int]:
    """Classes of states that no text tells apart, refined until a round changes nothing."""
    block = numbered(colours)
    while True:
        finer = numbered(
            [
                (block[q], frozenset((c, block[t] if t >= 0 else t) for c, t in row.items()))
                for q, row in enumerate(rows)
            ]
        )
        if finer == block:
            return block
        block = finer


def numbered(keys: list[object]) -> list[int]:
    seen: dict[object, int] = {}
    return [seen.setdefault(key, len(seen)) for key in keys]


@settings(max_examples=400, deadline=None)
@given(automata())
def test_equivalence_classes_are_those_of_rounds(
    automaton: tuple[list[dict[int, int]], list[object]],
) -> None:
    rows, colours = automaton
    assert equivalence_classes(rows, colours) == by_rounds(rows, colours)


def test_unrolled_loops_are_equal_languages() -> None:
    once = language([{0: 0}], [True])
    unrolled = language([{0: 1}, {0: 2}, {0: 1}], [True, True, True])
    assert once == unrolled
    assert once != language([{0: 1}, {0: 1}], [False, True])


def test_a_long_chain_is_minimal_already() -> None:
    length = 3_000
    rows: list[dict[int, int]] = [{0: q + 1} for q in range(length)] + [{}]
    classes = equivalence_classes(rows, [False] * length + [True])
    assert classes == list(range(length + 1))
