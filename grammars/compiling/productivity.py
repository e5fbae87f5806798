"""Rules without any text, and the states of bags, which depend on which members have texts."""

from __future__ import annotations

from collections.abc import Sequence

from grammars.compiling.analysis import place_of
from grammars.compiling.automata import Dfa, Edge, components, reduce, settle, trim
from grammars.compiling.bags import COMPLETE, MORE, BagSpec, settle_bag
from grammars.compiling.building import BuiltRule
from grammars.limits import Limits


def calls_of(rule: BuiltRule) -> list[int]:
    dfa, called = rule.called
    if dfa is not rule.dfa:
        found = [-1 - lab for row in rule.dfa.edges for lab, _, _ in row if lab < 0]
        called = list(dict.fromkeys(found))
        rule.called = (rule.dfa, called)
    calls = list(called)
    if rule.bag is not None:
        calls += [member for member, _ in rule.bag.members]
    return list(dict.fromkeys(calls))


def drop_unproductive(rules: list[BuiltRule], limits: Limits) -> None:
    """Removes calls of rules that derive no (non-empty) text, everywhere.

    Rounds over the rules, callees first, until nothing changes: one round for most grammars, two
    where recursion is involved, more only where productivity runs against the call order.
    """
    calls = [calls_of(rule) for rule in rules]
    order = [r for component in components(calls) for r in component]
    dead = set(range(len(rules)))
    while True:
        before = len(dead)
        for r in order:
            with place_of(rules[r].source):
                if r in dead and _derives(rules[r], dead, limits):
                    dead.discard(r)
        if len(dead) == before:
            break
    if dead:
        for rule in rules:
            with place_of(rule.source):
                rule.dfa = settle(reduce(trim(rule.dfa, dead)), limits.max_dfa_states)
    settle_bags(rules, dead, limits)


def settle_bags(rules: Sequence[BuiltRule], dead: set[int], limits: Limits) -> None:
    """Finds the bounds of bags where some rules have no text."""
    for rule in rules:
        if rule.bag is not None:
            settled = _settled(rule, dead, limits)
            rule.bag.spec, kept = settled if settled is not None else (None, ())
            rule.bag.members = [rule.bag.members[i] for i in kept]


def _settled(
    rule: BuiltRule, dead: set[int], limits: Limits
) -> tuple[BagSpec, tuple[int, ...]] | None:
    """A bag's bounds where some rules have no text; without a separator there is one item."""
    assert rule.bag is not None
    source = rule.bag.source
    bounds = [member for _, member in rule.bag.members]
    high = source.high
    if not _reaches_end(rule.dfa, dead, limits):
        high = 1 if high is None else min(high, 1)
    spec = BagSpec(
        tuple(m.min for m in bounds),
        tuple(0 if r in dead else m.max for r, m in rule.bag.members),
        tuple(m.group for m in bounds),
        source.low,
        high,
        source.ordered,
        source.conditions,
        source.loose,
    )
    return settle_bag(spec, limits)


def is_possible(bag: BuiltRule, dead: set[int], limits: Limits) -> bool:
    """Whether a bag, not settled yet, has texts where some rules have none."""
    return _settled(bag, dead, limits) is not None


def _derives(rule: BuiltRule, dead: set[int], limits: Limits) -> bool:
    if rule.bag is not None:
        return is_possible(rule, dead, limits)
    return _reaches_end(rule.dfa, dead, limits)


def _reaches_end(dfa: Dfa, dead: set[int], limits: Limits) -> bool:
    if dfa.counted:  # a path alone proves nothing: its count must fit
        return not settle(trim(dfa, dead), limits.max_dfa_states).is_empty()
    seen = {dfa.start}
    stack = [dfa.start]
    while stack:
        q = stack.pop()
        if dfa.accept[q]:
            return True
        for label, t, _ in dfa.edges[q]:
            if t not in seen and (label > 0 or -1 - label not in dead):
                seen.add(t)
                stack.append(t)
    return False


def lay_out_bags(rules: Sequence[BuiltRule]) -> None:
    """Gives each bag its states: the start, two after an item, and those of the separator.

    After an item the bag may end (state 1), go on (the separator's start), or both (state 2).  The
    separator's ends take items, as the start does.
    """
    for rule in rules:
        if rule.bag is None:
            continue
        inner = rule.dfa
        rows: list[list[Edge]] = [[(lab, 3 + t, 0) for lab, t, _ in row] for row in inner.edges]
        onward = rows[inner.start]
        rule.dfa = Dfa(0, [False, True, True] + [False] * len(inner), [[], [], list(onward), *rows])
        takes = [0, *(3 + q for q in range(len(inner)) if inner.accept[q])]
        if inner.accept[inner.start]:
            takes.append(2)
        rule.bag.takes = tuple(takes)
        by_flags = {0: 0, COMPLETE: 1, MORE: 3 + inner.start, COMPLETE | MORE: 2}
        rule.bag.returns = tuple(by_flags[flags] for flags in range(4))
