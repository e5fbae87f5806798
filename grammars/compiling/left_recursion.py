"""Rules that would call themselves before they have read anything."""

from __future__ import annotations

from grammars.compiling.analysis import place_of
from grammars.compiling.automata import Dfa, Nfa, components, determinize, expand
from grammars.compiling.building import BuiltRule, fresh_start
from grammars.errors import GrammarError
from grammars.limits import Limits


def _left_calls(rule: BuiltRule) -> list[int]:
    dfa = rule.dfa
    calls = [-1 - lab for lab, _, _ in dfa.edges[dfa.start] if lab < 0]
    if rule.bag is not None:
        calls += [member for member, _ in rule.bag.members]
    return list(dict.fromkeys(calls))


def remove_left_recursion(rules: list[BuiltRule], limits: Limits) -> None:
    """Rebuilds rules that call each other before consuming anything.

    Within one knot of such rules, a text of rule A is: a base (an alternative of some member of the
    knot that does not begin with a member), and then, while the member X just completed can begin a
    longer one, the rest of that.  That is a finite automaton over the same labels.
    """
    left = [_left_calls(rule) for rule in rules]
    for component in components(left):
        if len(component) == 1 and component[0] not in left[component[0]]:
            continue
        for member in component:
            with place_of(rules[member].source):
                _expand_for_climbing(rules[member], limits)
        old = {x: rules[x].dfa for x in component}
        for member in component:
            nfa, start, done = _climbing(old)
            with place_of(rules[member].source):
                dfa = determinize(nfa, start, done[member], limits.max_dfa_states)
            rules[member].dfa = fresh_start(dfa, accepting=False)


def _expand_for_climbing(rule: BuiltRule, limits: Limits) -> None:
    """Removes the counter of a left-recursive rule, which must not be a bag."""
    if rule.bag is not None:
        raise GrammarError(
            f"an item that comes in any order (in rule {rule.name!r}) begins with "
            "the very items it is one of; put some text before them"
        )
    rule.dfa = expand(rule.dfa, limits.max_dfa_states)


def _climbing(knot: dict[int, Dfa]) -> tuple[Nfa, int, dict[int, int]]:
    nfa = Nfa()
    start = nfa.state()
    done = {x: nfa.state() for x in knot}
    base: dict[int, int] = {}
    for x, dfa in knot.items():
        base[x] = len(nfa.eps)
        for _ in range(len(dfa)):
            nfa.state()
        for q, row in enumerate(dfa.edges):
            nfa.edges[base[x] + q] = [(lab, base[x] + t, 0) for lab, t, _ in row]
            if dfa.accept[q]:
                nfa.eps[base[x] + q].append(done[x])
    for x, dfa in knot.items():
        for label, t, _ in dfa.edges[dfa.start]:
            if label < 0 and -1 - label in knot:
                nfa.eps[done[-1 - label]].append(base[x] + t)
            else:
                nfa.add(start, label, base[x] + t)
    return nfa, start, done
