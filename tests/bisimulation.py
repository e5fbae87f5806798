"""Whether two programs are the same but for the numbers of their states."""

from __future__ import annotations

from collections.abc import Sequence

from grammars.program import Program


def same_language(a: Program, b: Program) -> bool:
    """Whether starts are bisimilar: equal rules, called in equal places, ended in equal places."""
    if a.is_empty or b.is_empty:
        return a.is_empty == b.is_empty
    if set(a.marks) != set(b.marks):
        return False
    symbols = [*range(256), *a.marks]
    groups: dict[tuple[int, int], int] = {}
    for symbol in symbols:
        groups.setdefault((int(a.byte_class[symbol]), int(b.byte_class[symbol])), symbol)
    states = [_states(p, list(groups.values())) for p in (a, b)]
    return _start_classes_agree(states, (a.start, b.start))


State = tuple[object, list[list[int]], list[tuple[int, int, int]]]
"""What it says of itself, targets by symbol, calls (start, target, tail)."""


def _states(p: Program, symbols: Sequence[int]) -> list[State]:
    classes = [int(p.byte_class[symbol]) for symbol in symbols]
    out: list[State] = []
    for q in range(p.states):
        by_class: dict[int, list[int]] = {}
        for e in range(p.edge_offset[q], p.edge_offset[q + 1]):
            by_class.setdefault(int(p.edge_class[e]), []).append(int(p.edge_target[e]))
        calls = [
            (int(p.call_start[c]), int(p.call_return[c]), int(p.call_tail[c]))
            for c in range(p.call_offset[q], p.call_offset[q + 1])
        ]
        bag = int(p.bag_of[q])
        own: tuple[object, ...] = tuple(
            int(x[q]) for x in (p.accept_from, p.count_limit, p.count_floor, p.count_cap)
        )
        if bag >= 0:
            own += (p.bags[bag],)
            part = slice(p.bag_offset[bag], p.bag_offset[bag + 1])
            calls += [(int(s), 0, 2 + i) for i, s in enumerate(p.bag_start[part])]
            calls += [(0, int(p.bag_return[4 * bag + f]) << 1, -1 - f) for f in range(4)]
        out.append((own, [by_class.get(c, []) for c in classes], calls))
    return out


def _start_classes_agree(states: list[list[State]], starts: tuple[int, int]) -> bool:
    """Refines a partition of all states until it is stable."""
    block: list[list[int]] = [[0] * len(part) for part in states]
    count = 0
    while True:
        known: dict[object, int] = {}
        fresh: list[list[int]] = []
        for part, old in zip(states, block, strict=True):
            row = []
            for own, edges, calls in part:
                key = (
                    own,
                    tuple(frozenset((old[t >> 1], t & 1) for t in ts) for ts in edges),
                    frozenset((old[s], t & 1, old[t >> 1], tail) for s, t, tail in calls),
                )
                row.append(known.setdefault(key, len(known)))
            fresh.append(row)
        block = fresh
        if len(known) == count:
            return block[0][starts[0]] == block[1][starts[1]]
        count = len(known)
