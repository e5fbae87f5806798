"""The automaton of an expression the long way round: Thompson's construction, then subsets.

An independent oracle for :mod:`grammars.compiling.assembly`.
"""

from __future__ import annotations

from grammars.compiling.automata import Dfa, Edge, Nfa, call_label, determinize, refine
from grammars.compiling.utf8 import END, Utf8Node, ranges_mask, utf8_node
from grammars.ir import Alt, ByteSet, Chars, Expr, Literal, Mark, Nothing, Ref, Repeat, Seq

LIMIT = 100_000


def thompson(expr: Expr, numbers: dict[str, int] | None = None) -> Dfa:
    """The reduced automaton; references are calls of the rules' numbers."""
    nfa = Nfa()
    s, t = nfa.state(), nfa.state()
    _add(nfa, expr, s, t, numbers or {})
    return determinize(nfa, s, t, LIMIT)


def _add(nfa: Nfa, expr: Expr, s: int, t: int, numbers: dict[str, int]) -> None:
    match expr:
        case Nothing():
            pass
        case Literal(data):
            for byte in data:
                nxt = nfa.state()
                nfa.add(s, 1 << byte, nxt)
                s = nxt
            nfa.eps[s].append(t)
        case Chars(ranges):
            _characters(nfa, utf8_node(ranges), s, t)
        case ByteSet(ranges):
            nfa.add(s, ranges_mask(ranges), t)
        case Mark(symbol):
            nfa.add(s, 1 << symbol, t)
        case Ref(name):
            nfa.add(s, call_label(numbers[name]), t)
        case Seq(items):
            for item in items:
                nxt = nfa.state()
                _add(nfa, item, s, nxt, numbers)
                s = nxt
            nfa.eps[s].append(t)
        case Alt(items):
            for item in items:
                a, z = nfa.state(), nfa.state()
                nfa.eps[s].append(a)
                nfa.eps[z].append(t)
                _add(nfa, item, a, z, numbers)
        case Repeat(item, low, high):
            for _ in range(low):
                nxt = nfa.state()
                _add(nfa, item, s, nxt, numbers)
                s = nxt
            for _ in range(0 if high is None else high - low):
                nfa.eps[s].append(t)
                nxt = nfa.state()
                _add(nfa, item, s, nxt, numbers)
                s = nxt
            if high is None:
                loop, back = nfa.state(), nfa.state()
                nfa.eps[s].append(loop)
                _add(nfa, item, loop, back, numbers)
                nfa.eps[back].append(loop)
                s = loop
            nfa.eps[s].append(t)
        case _:
            raise TypeError(f"no construction for {expr!r}")


def _characters(nfa: Nfa, node: Utf8Node, s: int, t: int) -> None:
    for mask, following in node:
        nxt = t if following == END else nfa.state()
        nfa.add(s, mask, nxt)
        if following != END:
            _characters(nfa, following, nxt, t)


def is_deterministic(dfa: Dfa) -> bool:
    """Whether from no state two edges share a symbol and whether they count."""
    for row in dfa.edges:
        calls = [(label, inc) for label, _, inc in row if label < 0]
        if len(set(calls)) < len(calls):
            return False
        for counts in (0, 1):
            seen = 0
            for label, _, inc in row:
                if label > 0 and inc == counts:
                    if seen & label:
                        return False
                    seen |= label
    return True


def difference(a: Dfa, b: Dfa) -> tuple[int, ...] | None:
    """Labels that one (deterministic, uncounted) automaton accepts and the other does not."""
    start: tuple[int | None, int | None] = (a.start, b.start)
    seen: dict[tuple[int | None, int | None], tuple[int, ...]] = {start: ()}
    queue = [start]
    for pair in queue:  # grows while we iterate
        p, q = pair
        if (p is not None and a.accept[p]) != (q is not None and b.accept[q]):
            return seen[pair]
        rows = [a.edges[p] if p is not None else [], b.edges[q] if q is not None else []]
        masks = {label for row in rows for label, _, _ in row if label > 0}
        calls = {label for row in rows for label, _, _ in row if label < 0}
        for label in (*(block for block in refine(sorted(masks)) if masks), *calls):
            following = (_target(rows[0], label), _target(rows[1], label))
            if following not in seen:
                seen[following] = (*seen[pair], label)
                queue.append(following)
    return None


def _target(row: list[Edge], label: int) -> int | None:
    for other, t, _ in row:
        if other == label or (label > 0 and other > 0 and other & label):
            return t
    return None
