"""Sets and lists that share their parts, against those of Python."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammars.uniqueness.persistent import SharedLists, SharedSet, SharedSets, difference

NUMBERS = st.lists(st.integers(0, 400), max_size=150)


def built(sets: SharedSets, elements: list[int]) -> SharedSet:
    out: SharedSet = frozenset()
    for element in elements:
        out = sets.added(out, element)
    return out


@given(first=NUMBERS, second=NUMBERS)
def test_sets_are_those_of_python(first: list[int], second: list[int]) -> None:
    sets = SharedSets()
    ours = built(sets, first), built(sets, second)
    theirs = set(first), set(second)
    for one, other in zip(ours, theirs, strict=True):
        assert set(one) == other
        assert len(one) == len(other)
        assert bool(one) == bool(other)
        assert all((number in one) == (number in other) for number in range(402))
        assert built(sets, sorted(other, reverse=True)) == one == sets.of(other)
        assert hash(sets.of(other)) == hash(one)
    assert (ours[0] == ours[1]) == (theirs[0] == theirs[1])
    assert (ours[0] <= ours[1]) == (theirs[0] <= theirs[1])
    assert set(difference(ours[0], ours[1])) == theirs[0] - theirs[1]


@given(first=NUMBERS, second=NUMBERS)
def test_what_is_kept_stays_what_it_is(first: list[int], second: list[int]) -> None:
    sets = SharedSets()
    kept = built(sets, first)
    built(sets, second)
    sets.trim([kept])
    assert set(kept) == set(first)
    assert built(sets, first) == kept
    assert set(built(sets, second)) == set(second)
    assert len(sets.numbers) <= len({*first, *second})


@given(first=st.lists(st.integers(0, 2)), second=st.lists(st.integers(0, 2)))
def test_lists_are_those_of_python(first: list[int], second: list[int]) -> None:
    lists = SharedLists()
    ours = []
    for elements in (first, second):
        at = lists.empty
        for element in elements:
            at = lists.added(at, element)
        ours.append(at)
    assert [list(one) for one in ours] == [first, second]
    assert (ours[0] is ours[1]) == (first == second)
    begun = ours[1].beginning(len(first))
    assert (begun is ours[0]) == (second[: len(first)] == first)
    lists.trim([ours[0]])
    at = lists.empty
    for element in first:
        at = lists.added(at, element)
    assert at is ours[0]


def test_sets_of_any_sizes_are_compared() -> None:
    sets = SharedSets()
    ours = {size: sets.of(range(size)) for size in (0, 5, 40, 70, 1_000, 1_100, 17_000)}
    for size, one in ours.items():
        for other_size, other in ours.items():
            assert list(difference(one, other)) == list(range(other_size, size))
            assert (one <= other) == (size <= other_size)


@pytest.mark.parametrize("count", [4_000])
def test_one_element_more_takes_little_memory(count: int) -> None:
    sets = SharedSets()
    tracemalloc.start()
    kept: list[SharedSet] = [frozenset()]
    for number in range(count):
        kept.append(sets.added(kept[-1], number))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 3_000 * count
    assert [len(one) for one in kept] == list(range(count + 1))
