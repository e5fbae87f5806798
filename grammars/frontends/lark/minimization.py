"""Minimisation of partial deterministic automata given as rows: class of characters to next state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def equivalence_classes(rows: Sequence[Mapping[int, int]], colours: Sequence[object]) -> list[int]:
    """Numbers of the classes of equivalent states; a negative target stands for itself.

    Partition refinement by the smaller half (Hopcroft 1971; for partial automata Valmari and Lehtinen
    2008): ``n log n`` where rounds over all states take ``n`` squared for a literal of ``n`` letters.
    """
    into: list[list[tuple[int, int]]] = [[] for _ in rows]
    keys: list[object] = []
    for q, row in enumerate(rows):
        outside = frozenset((c, t) for c, t in row.items() if t < 0)
        keys.append((colours[q], outside))
        for c, t in row.items():
            if t >= 0:
                into[t].append((c, q))
    block = _numbered(keys)
    members: list[set[int]] = [set() for _ in range(len(set(block)))]
    for q, b in enumerate(block):
        members[b].add(q)
    splitters = set(range(len(members)))
    while splitters:
        by_class: dict[int, list[int]] = {}
        for t in members[splitters.pop()]:
            for c, q in into[t]:
                by_class.setdefault(c, []).append(q)
        for sources in by_class.values():
            for b, inside in _by_block(sources, block).items():
                if len(inside) < len(members[b]):
                    _split(b, inside, block, members, splitters)
    return _numbered(block)


def _by_block(states: Iterable[int], block: Sequence[int]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for q in states:
        found.setdefault(block[q], set()).add(q)
    return found


def _split(
    b: int, inside: set[int], block: list[int], members: list[set[int]], splitters: set[int]
) -> None:
    """Puts the smaller part of a block into a new one, which is to split others in turn."""
    members[b] -= inside
    small, large = inside, members[b]
    if len(small) > len(large):
        small, large = large, small
    members[b] = large
    new = len(members)
    members.append(small)
    for q in small:
        block[q] = new
    splitters.add(new)  # a block still waiting stays, and this is its other part


def _numbered(keys: Sequence[object]) -> list[int]:
    """Numbers of keys, in the order in which they first come."""
    seen: dict[object, int] = {}
    return [seen.setdefault(key, len(seen)) for key in keys]


def minimal_automaton(rows: Sequence[Mapping[int, int]], colours: Sequence[object]) -> object:
    """The minimal automaton from state 0, numbered breadth first: equal for equal languages.

    States that forbid nothing (no row, no colour) are as good as absent.
    """
    block = equivalence_classes(rows, list(colours))
    first: dict[int, int] = {}
    for q, b in enumerate(block):
        first.setdefault(b, q)
    number = {block[0]: 0}
    order = [block[0]]
    out = []
    for b in order:  # grows while we iterate
        q = first[b]
        row = []
        for c in sorted(rows[q]):
            t = rows[q][c]
            if t >= 0:
                if block[t] not in number:
                    number[block[t]] = len(order)
                    order.append(block[t])
                t = number[block[t]]
            row.append((c, t))
        out.append((colours[q], tuple(row)))
    return tuple(out)


def trimmed(rows: list[dict[int, int]], ends: list[Any]) -> tuple[list[dict[int, int]], list[Any]]:
    """Drops states from which no end can be reached (state 0 stays)."""
    into: list[list[int]] = [[] for _ in rows]
    for q, row in enumerate(rows):
        for t in row.values():
            into[t].append(q)
    live = {q for q, e in enumerate(ends) if e}
    stack = list(live)
    while stack:
        for p in into[stack.pop()]:
            if p not in live:
                live.add(p)
                stack.append(p)
    number = {0: 0}
    order = [0]
    for q in order:  # grows while we iterate
        for t in rows[q].values():
            if t in live and t not in number:
                number[t] = len(order)
                order.append(t)
    kept = [{c: number[t] for c, t in rows[q].items() if t in live} for q in order]
    return kept, [ends[q] for q in order]


def language(rows: list[dict[int, int]], accepting: Sequence[bool]) -> object:
    """A value that is equal for automata of equal languages."""
    rows, accepting = trimmed(rows, list(accepting))
    return minimal_automaton(rows, accepting)
