"""Which drafts are scored: the best tree by brute force, and drafters that do not pay are left out."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.speculative.schedule import Schedule
from samplers.speculative.tree import ROOT, Tree

Parts = list[tuple[int, float]]


def tree_of(parts: Parts) -> Tree:
    """A tree by each node's parent (counted back from it; too far is the root) and certainty."""
    tree = Tree(0)
    for number, (back, score) in enumerate(parts):
        tree.add(max(number - back, ROOT), number, 0, "guess", score)
    return tree


def expected(tree: Tree, nodes: tuple[int, ...]) -> float:
    """Tokens of a forward with some of a tree's nodes, each as likely as its drafter says."""
    total = 1.0
    for node in nodes:
        chance = 1.0
        for above in tree.path(node):
            (chance_here,) = tree.nodes[above].scores.values()
            chance *= chance_here
        total += chance
    return total


def best_by_trying(tree: Tree, schedule: Schedule, pending: int) -> float:
    """The most tokens a second of all trees whose nodes have their parents."""
    rates = [1 / schedule.costs.seconds(pending)]
    for count in range(1, 1 + min(len(tree), schedule.max_nodes)):
        for nodes in combinations(range(len(tree)), count):
            if all(tree.nodes[n].parent in (ROOT, *nodes) for n in nodes):
                seconds = schedule.costs.seconds(pending + count)
                rates.append(expected(tree, nodes) / seconds)
    return max(rates)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.floats(0.05, 1.0)), max_size=7),
    st.lists(st.tuples(st.integers(1, 12), st.floats(0.01, 0.2)), max_size=6),
    st.integers(0, 8),
    st.integers(1, 3),
)
def test_the_tree_yields_most_tokens_a_second(
    parts: Parts, measured: list[tuple[int, float]], most: int, pending: int
) -> None:
    schedule = Schedule(most)
    for tokens, seconds in measured:
        schedule.costs.record(tokens, seconds)
    tree = tree_of(parts)
    (chosen,) = schedule.choose([tree], pending)
    rate = expected(chosen, tuple(range(len(chosen)))) / schedule.costs.seconds(
        pending + len(chosen)
    )
    assert rate == pytest.approx(best_by_trying(tree, schedule, pending))


def test_a_sure_guess_that_never_comes_true_is_soon_scored_no_more() -> None:
    schedule = Schedule(16)
    scored = []
    for step in range(120):
        tree = Tree(0)
        parent: int | None = ROOT
        for _ in range(4):
            assert parent is not None
            parent = tree.add(parent, 7, 0, "liar", 1.0)
        (chosen,) = schedule.choose([tree], 1)
        schedule.costs.record(1 + len(chosen), 0.04 * (1 + 0.06 * len(chosen)))
        schedule.record(tree, [3])
        scored += [step] * len(chosen)
    assert scored, "it was believed at first"
    assert max(scored) <= 30


class Simulated:
    """A text written with neural drafters that yield so many tokens a step, for so much time."""

    def __init__(self, **arms: tuple[int, float]) -> None:
        self.schedule = Schedule(16)
        self.arms = arms
        self.asked: list[str] = []
        self.tokens: list[int] = []
        self.seconds = 0.0

    def run(self, tokens: int) -> None:
        while tokens > 0:
            names = [name for name in self.arms if name != "none"]
            name = self.schedule.wanted(names) or "none"
            made, seconds = self.arms[name]
            self.schedule.earned(None if name == "none" else name, made, seconds)
            self.asked.append(name)
            self.tokens.append(made)
            self.seconds += seconds
            tokens -= made

    def shares(self, since: int) -> dict[str, float]:
        """Of the steps after so many tokens, those with each drafter."""
        done, first = 0, len(self.tokens)
        for number, made in enumerate(self.tokens):
            if done >= since:
                first = number
                break
            done += made
        later = self.asked[first:]
        return {name: later.count(name) / len(later) for name in self.arms}


@pytest.mark.parametrize("made", [1, 2])
def test_a_neural_drafter_that_does_not_pay_is_off_within_thirty_tokens(made: int) -> None:
    text = Simulated(none=(made, 0.04), slow=(made, 0.2), idle=(made, 0.05))
    text.run(600 * made)
    shares = text.shares(30)
    assert shares["slow"] < 0.02
    assert shares["idle"] < 0.025
    plain = 600 * 0.04
    assert text.seconds < 1.12 * plain


@pytest.mark.parametrize("missed", [0.3, 3.0])
def test_what_a_drafter_reads_first_is_not_held_against_it(missed: float) -> None:
    """Its first step after others takes long: it reads the prompt, or what was written without it."""

    class Reading(Simulated):
        def run(self, tokens: int) -> None:
            while tokens > 0:
                name = self.schedule.wanted(["good"]) or "none"
                made, seconds = self.arms[name]
                if name != "none" and (not self.asked or self.asked[-1] != name):
                    seconds += missed
                self.schedule.earned(None if name == "none" else name, made, seconds)
                self.asked.append(name)
                self.tokens.append(made)
                tokens -= made

    text = Reading(none=(1, 0.04), good=(2, 0.06))
    text.run(600)
    assert text.shares(40)["good"] > 0.9


def test_a_size_that_was_slow_once_is_tried_again() -> None:
    """Another program slowed the machine down while drafts were measured, and then ended."""
    schedule = Schedule(16)
    for _ in range(15):
        schedule.costs.record(1, 0.04)
        schedule.costs.record(5, 0.5)
    kept = []
    for _ in range(600):
        tree = Tree(0)
        parent: int | None = ROOT
        for _ in range(4):
            assert parent is not None
            parent = tree.add(parent, 7, 0, "right", 0.9)
        (chosen,) = schedule.choose([tree], 1)
        kept.append(len(chosen))
        schedule.costs.record(1 + len(chosen), 0.04 * (1 + 0.05 * len(chosen)))
        schedule.record(tree, [7, 7, 7, 7, 3])
    assert max(kept[:100]) < 4
    assert sum(kept[-200:]) > 3.5 * 200


@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0.01, 0.3)), min_size=1, max_size=12))
def test_larger_forwards_are_never_cheaper(measured: list[tuple[int, float]]) -> None:
    costs = Schedule(16).costs
    for tokens, seconds in measured:
        costs.record(tokens, seconds)
    known = [costs.seconds(tokens) for tokens, _ in sorted(measured)]
    assert known == sorted(known)


def test_the_neural_drafter_that_pays_most_is_asked() -> None:
    text = Simulated(none=(1, 0.04), good=(2, 0.06), better=(3, 0.07))
    text.run(900)
    assert text.shares(40)["better"] > 0.9


def test_a_drafter_that_comes_to_pay_is_asked_again() -> None:
    text = Simulated(none=(1, 0.04), late=(1, 0.08))
    text.run(200)
    text.arms["late"] = (4, 0.08)
    text.asked.clear()
    text.tokens.clear()
    text.run(1200)
    assert text.shares(500)["late"] > 0.9


def test_without_adaption_neural_drafters_take_turns() -> None:
    schedule = Schedule(4, adaptive=False)
    assert {schedule.wanted(["a", "b"]) for _ in range(4)} == {"a", "b"}
    assert schedule.wanted([]) is None
