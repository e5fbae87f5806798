"""Tokens that came in the same state of the grammar before.

P(token | place) by counting, where a place is the state of the scanner and the innermost states of the
parser, counters left out.  While the counts are peaked, guesses are chained.  Counts are kept by
grammar: they pay off within lists of like objects, and from the second document of a schema on.

Source: Beurer-Kellner et al. 2024, "Guiding LLMs The Right Way" (DOMINO), section 3.6.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from constrain.automaton import TokenAutomaton
from samplers.drafters.base import Context, Drafter, Observation
from samplers.speculative.tree import ROOT

Place: TypeAlias = tuple[int, ...]

_PEAKED: Final = 0.15
"""Guesses less likely than this, from the root on, are not made."""
_CHOICES: Final = 2
_MAX_PLACES: Final = 20_000
"""Places with counts kept for one grammar (a few megabytes)."""


class GrammarCounts(Drafter):
    """Counts of tokens by place in the grammar."""

    name = "GrammarCounts"

    def __init__(self) -> None:
        self._counts: WeakKeyDictionary[TokenAutomaton, dict[Place, Counter[int]]]
        self._counts = WeakKeyDictionary()

    def reset(self) -> None:
        """Forgets all counts."""
        self._counts = WeakKeyDictionary()

    def propose(self, context: Context) -> None:
        """The likeliest tokens, then the likeliest after them, while that is likely."""
        automaton = context.target.automaton
        counts = self._counts.get(automaton) if automaton is not None else None
        if not counts:
            return
        front = [(1.0, ROOT)]
        while front and context.room > 0:
            front.sort(key=lambda item: -item[0])
            before, node = front.pop(0)
            state = context.tree.state(node)
            if state is None or context.target.is_finished(state):
                continue
            known = counts.get(_place(context, state))
            if not known:
                continue
            total = sum(known.values()) + 0.5
            for token, count in known.most_common(_CHOICES):
                score = count / total
                if before * score < _PEAKED:
                    break
                made = context.add(node, token, self.name, score)
                if made is not None:
                    front.append((before * score, made))

    def observe(self, observation: Observation) -> None:
        """Counts what came."""
        context = observation.context
        automaton = context.target.automaton
        if automaton is None:
            return
        counts = self._counts.setdefault(automaton, {})
        states = [observation.tree.root_state, *observation.states[:-1]]
        for state, token in zip(states, observation.emitted, strict=True):
            at = _place(context, state)
            if at not in counts and len(counts) >= _MAX_PLACES:
                counts.clear()
            counts.setdefault(at, Counter())[token] += 1


def _place(context: Context, state: Any) -> Place:
    automaton = context.target.automaton
    assert automaton is not None
    return automaton.signature(context.target.grammar_state(state))
