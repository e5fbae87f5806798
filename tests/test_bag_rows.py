"""Rows of ordered bags, which share their steps, against the definition of a bag by counting."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from constrain import Vocabulary
from constrain.engine.jit import kernels as k
from constrain.engine.pool import StatePool
from grammars import Grammar
from grammars.compiling.bags import CANONICAL, COMPLETE, MORE, BagSpec, Residuals, settle_bag
from grammars.limits import DEFAULT_LIMITS

LONGEST = 5
"""Items of the longest rows looked at, and those that may come next."""


@st.composite
def specs(draw: st.DrawFn) -> BagSpec:
    members = draw(st.integers(1, 4))
    mins = draw(st.lists(st.integers(0, 2), min_size=members, max_size=members))
    maxs = [draw(st.one_of(st.none(), st.integers(low, 2))) for low in mins]
    groups = draw(st.lists(st.sampled_from([None, None, 0, 1]), min_size=members, max_size=members))
    low, high = draw(st.integers(0, 4)), draw(st.one_of(st.none(), st.integers(1, LONGEST)))
    return BagSpec(tuple(mins), tuple(maxs), tuple(groups), low, high, True)


def is_complete(spec: BagSpec, items: Sequence[int]) -> bool:
    """Whether items, given as members in order, make up a whole bag."""
    counts = [items.count(i) for i in range(len(spec.mins))]
    in_groups = [g for i in items if (g := spec.groups[i]) is not None]
    return (
        list(items) == sorted(items)
        and all(low <= n for low, n in zip(spec.mins, counts, strict=True))
        and all(top is None or n <= top for top, n in zip(spec.maxs, counts, strict=True))
        and len(set(in_groups)) == len(in_groups)
        and spec.low <= len(items)
        and (spec.high is None or len(items) <= spec.high)
    )


@settings(max_examples=600, deadline=None)
@example(BagSpec((0, 1), (None, 1), (None, None), 4, None, True), random.Random(0))
@example(BagSpec((0, 2), (None, 2), (None, None), 3, 3, True), random.Random(0))
@given(specs(), st.randoms(use_true_random=False))
def test_rows_are_those_of_counting(raw: BagSpec, rng: object) -> None:
    settled = settle_bag(raw)
    if settled is None or not settled[1]:
        return
    spec = settled[0]
    members = range(len(spec.mins))
    needed = sum(spec.mins) + spec.low  # the items that may have to follow any others
    longest = LONGEST + needed
    texts = [t for n in range(longest + 1) for t in combinations_with_replacement(members, n)]
    whole = {t for t in texts if is_complete(spec, t)}
    begun = {t[:n] for t in whole for n in range(len(t) + 1)}
    residuals = Residuals((spec,), DEFAULT_LIMITS)
    known: dict[tuple[int, ...], int | None] = {(): 0}
    short = [t for t in sorted(begun, key=len) if len(t) + 2 <= LONGEST]
    rng.shuffle(short)  # type: ignore[attr-defined]  # rows are shared: the order must not matter

    def residual_of(items: tuple[int, ...]) -> int | None:
        """The residual behind some items; ``None`` where nothing more can come."""
        if items not in known:
            before = residual_of(items[:-1])
            assert before is not None
            step = dict(residuals.row(0, before).steps())[items[-1]]
            known[items] = step >> 3 if step & MORE else None
        return known[items]

    for items in short:
        residual = residual_of(items)
        if residual is None:
            continue
        steps = dict(residuals.row(0, residual).steps())
        assert set(steps) == {i for i in members if (*items, i) in begun}
        assert any(step & CANONICAL for step in steps.values())
        for i, step in steps.items():
            after = (*items, i)
            assert bool(step & COMPLETE) == (after in whole)
            assert bool(step & MORE) == any((*after, j) in begun for j in members)


def test_what_one_pool_finds_is_written_into_no_other() -> None:
    """Steps over items above all: pools with a single one each once wrote it to one place."""
    vocabulary = Vocabulary((*(bytes([b]) for b in range(256)), None), (256,))
    schema = {"type": "object", "properties": {"a": {"type": "null"}}, "minProperties": 1}
    program = Grammar.from_json_schema(schema).program
    first, second = (StatePool(program, vocabulary, DEFAULT_LIMITS) for _ in range(2))
    shared = [f for f in first._arrays if np.shares_memory(first._arrays[f], second._arrays[f])]
    assert not {k.B_PLACE, k.B_STEPS, k.S_BUFFER, k.S_STACK, k.S_PATH, k.P_WIDE} & set(shared)
