"""Why no text satisfies a grammar, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from grammars.compiling.automata import components

_MOST: Final = 5


def barren_causes(uses: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What is wrong with rules that derive nothing.

    Args:
        uses: rules without any text, and which rules each refers to.

    Returns:
        A remark on every rule, or knot of rules, that is not barren because of yet others.
    """
    names = list(uses)
    number = {name: i for i, name in enumerate(names)}
    edges = [[number[n] for n in uses[name] if n in number] for name in names]
    out: list[str] = []
    for knot in components(edges):
        if any(other not in knot for i in knot for other in edges[i]):
            continue
        first = names[knot[0]]
        if len(knot) > 1:
            listed = sorted(f"rule {names[i]}" for i in knot)[:_MOST]
            out.append(" and ".join(listed) + " need each other in every alternative")
        elif knot[0] in edges[knot[0]]:
            out.append(f"rule {first} refers to itself in every alternative")
        else:
            out.append(f"nothing satisfies {first}")
    return tuple(out[:_MOST])
