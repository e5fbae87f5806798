"""Why no text satisfies a grammar, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from grammars.compiling.automata import components
from grammars.ir import Span

_MOST: Final = 5
_NUMBERED: Final = re.compile(r"(#\S*) \d+(?= )")
"""The copy of a schema's rule: its pointer and a number."""


def barren_causes(
    uses: Mapping[str, Sequence[str]], spans: Mapping[str, Span] | None = None
) -> tuple[str, ...]:
    """What is wrong with rules that derive nothing.

    Args:
        uses: rules without any text, and which rules each refers to.
        spans: where they stand; told where they have a line.

    Returns:
        A remark on every rule, or knot of rules, that is not barren because of yet others.
    """
    names = list(uses)
    number = {name: i for i, name in enumerate(names)}
    lines = [_line((spans or {}).get(name)) for name in names]
    edges = [[number[n] for n in uses[name] if n in number] for name in names]
    out: list[str] = []
    for knot in components(edges):
        if any(other not in knot for i in knot for other in edges[i]):
            continue
        first = names[knot[0]]
        if len(knot) > 1:
            listed = sorted(f"rule {names[i]}{lines[i]}" for i in knot)[:_MOST]
            out.append(" and ".join(listed) + " need each other in every alternative")
        elif knot[0] in edges[knot[0]]:
            out.append(f"rule {first}{lines[knot[0]]} refers to itself in every alternative")
        else:
            out.append(f"nothing satisfies {first}{lines[knot[0]]}")
    return tuple(out[:_MOST])


def _line(span: Span | None) -> str:
    return "" if span is None or span.line is None else f" (line {span.line})"


def advised(causes: Iterable[str]) -> tuple[str, ...]:
    """The same remarks, with what to do about each."""
    return tuple(map(_advised, causes))


def _advised(cause: str) -> str:
    circular = "every alternative" in cause
    if "rule #" in cause or cause.startswith("nothing satisfies #"):
        cause = _NUMBERED.sub(r"\1", cause).replace("rule #", "the schema at #")
        if circular:
            cause = cause.replace(" in every alternative", " in every value")
            advice = "take the key that leads back out of 'required', or allow null"
            return f"{cause}, so no value ends; {advice}"
        return f"{cause}; change or take out one of its keywords"
    return f"{cause}, so no text ends; add an alternative without that" if circular else cause
