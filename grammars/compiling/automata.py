"""Finite automata over bytes, rule calls and one counter: the workbench of the compiler.

A *label* is an ``int``: a positive one is a set of bytes (:data:`~grammars.compiling.utf8.ByteMask`) and
marks (:class:`grammars.ir.Mark`, bits 256 and up), a negative one is the call of rule ``-1 - label``.  An
*edge* is ``(label, target, inc)``; ``inc`` is 1 where taking it completes one more copy of a counted
repetition.  An automaton with counting edges accepts where its state is accepting and the count lies
within ``[count_min, count_max]``.

Everything here is plain Python: it runs once per rule at compile time, and its cost is linear in
the automata it makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from grammars.compiling.utf8 import ByteMask
from grammars.errors import LimitExceeded
from grammars.ir import SYMBOLS
from grammars.work import spend

Label: TypeAlias = int
Edge: TypeAlias = tuple[Label, int, int]

ALL_BYTES: Final[ByteMask] = (1 << 256) - 1
ALL_MARKS: Final[ByteMask] = (1 << SYMBOLS) - 1 - ALL_BYTES


def call_label(rule: int) -> Label:
    """The label of a call of rule number ``rule``."""
    return -1 - rule


@dataclass
class Nfa:
    """A nondeterministic automaton under construction; states are list positions."""

    eps: list[list[int]] = field(default_factory=list)
    edges: list[list[Edge]] = field(default_factory=list)

    def state(self) -> int:
        """Adds a state and returns its number."""
        self.eps.append([])
        self.edges.append([])
        return len(self.eps) - 1

    def add(self, source: int, label: Label, target: int, inc: int = 0) -> None:
        """Adds an edge."""
        self.edges[source].append((label, target, inc))

    def embed(self, dfa: Dfa, source: int, target: int) -> None:
        """Adds a copy of an (uncounted) automaton between two states."""
        base = len(self.eps)
        for _ in range(len(dfa)):
            self.state()
        for q, edges in enumerate(dfa.edges):
            self.edges[base + q] = [(label, base + t, inc) for label, t, inc in edges]
            if dfa.accept[q]:
                self.eps[base + q].append(target)
        self.eps[source].append(base + dfa.start)


@dataclass
class Dfa:
    """A deterministic automaton: from one state no two edges share a byte (or a call) and ``inc``."""

    start: int
    accept: list[bool]
    edges: list[list[Edge]]
    counted: bool = False
    count_min: int = 0
    count_max: int | None = None

    def __len__(self) -> int:
        return len(self.accept)

    def is_empty(self) -> bool:
        """Whether no text is accepted (calls are taken to be productive)."""
        return not any(self.accept)


def of_words(words: Iterable[bytes]) -> Dfa:
    """The minimal automaton of some texts: their trie, equal subtrees made one from below."""
    root: dict[int, dict[int, object] | bool] = {}
    for word in words:
        at: dict[int, object] = root  # type: ignore[assignment]
        for byte in word:
            at = at.setdefault(byte, {})  # type: ignore[assignment]
        at[_ENDS] = True
    order: list[dict[int, object]] = [root]  # type: ignore[list-item]
    for node in order:  # grows while we iterate: parents before children
        order.extend(child for child in node.values() if isinstance(child, dict))
    known: dict[object, int] = {}
    number: dict[int, int] = {}
    accept: list[bool] = []
    edges: list[list[Edge]] = []
    for node in reversed(order):
        masks: dict[int, ByteMask] = {}
        for byte, child in node.items():
            if isinstance(child, dict):
                target = number[id(child)]
                masks[target] = masks.get(target, 0) | 1 << byte
        key = (_ENDS in node, tuple(sorted(masks.items())))
        if key not in known:
            known[key] = len(accept)
            accept.append(_ENDS in node)
            edges.append([(mask, target, 0) for target, mask in masks.items()])
        number[id(node)] = known[key]
    return Dfa(number[id(root)], accept, edges)


_ENDS: Final = -1
"""Key of a trie node at which a word ends."""

EMPTY: Final = Dfa(0, [False], [[]])


def refine(masks: Iterable[ByteMask]) -> list[ByteMask]:
    """The coarsest partition of the symbols of which every mask is a union of blocks."""
    blocks = [ALL_BYTES | ALL_MARKS]
    for mask in masks:
        split: list[ByteMask] = []
        for block in blocks:
            inside = block & mask
            if inside and inside != block:
                split += (inside, block ^ inside)
            else:
                split.append(block)
        blocks = split
    return blocks


def determinize(nfa: Nfa, start: int, final: int, limit: int) -> Dfa:
    """Subset construction, over bytes and calls together, trimmed and reduced.

    Raises:
        LimitExceeded: if more than ``limit`` states arise.
    """
    blocks: list[ByteMask] | None = None
    blocks_of: dict[ByteMask, list[ByteMask]] = {}
    closures: dict[int, frozenset[int]] = {}

    def closure(state: int) -> frozenset[int]:
        known = closures.get(state)
        if known is None:
            seen, stack = {state}, [state]
            while stack:
                for nxt in nfa.eps[stack.pop()]:
                    if nxt not in seen:
                        seen.add(nxt)
                        stack.append(nxt)
            known = frozenset(s for s in seen if nfa.edges[s] or s == final)
            closures[state] = known
        return known

    def split(mask: ByteMask) -> list[ByteMask]:
        nonlocal blocks
        if blocks is None:
            blocks = refine({lab for es in nfa.edges for lab, _, _ in es if lab > 0})
        known = blocks_of.get(mask)
        if known is None:
            known = blocks_of[mask] = [b for b in blocks if b & mask]
        return known

    first = closure(start)
    index: dict[frozenset[int], int] = {first: 0}
    order = [first]
    accept: list[bool] = []
    out: list[list[Edge]] = []
    for subset in order:  # grows while we iterate
        accept.append(final in subset)
        edges = [e for s in subset for e in nfa.edges[s]]
        spend(2 + len(edges) // 2)
        targets: dict[tuple[Label, int], set[int]] = {}
        if _overlap(edges):
            for label, t, inc in edges:
                for part in (label,) if label < 0 else split(label):
                    targets.setdefault((part, inc), set()).update(closure(t))
        else:
            for label, t, inc in edges:
                targets.setdefault((label, inc), set()).update(closure(t))
        merged: dict[tuple[frozenset[int], int], ByteMask] = {}
        row: list[Edge] = []
        for (label, inc), members in targets.items():
            key = frozenset(members)
            if not key:
                continue
            if label < 0:
                row.append((label, _number(index, order, key, limit), inc))
            else:
                merged[key, inc] = merged.get((key, inc), 0) | label
        row += [
            (mask, _number(index, order, key, limit), inc) for (key, inc), mask in merged.items()
        ]
        out.append(row)
    return reduce(trim(Dfa(0, accept, out)))


def _overlap(edges: list[Edge]) -> bool:
    seen = 0
    for label, _, _ in edges:
        if label > 0:
            if seen & label:
                return True
            seen |= label
    return False


def _number(
    index: dict[frozenset[int], int], order: list[frozenset[int]], key: frozenset[int], limit: int
) -> int:
    known = index.get(key)
    if known is None:
        if len(order) >= limit:
            raise LimitExceeded("max_dfa_states", limit, "making one rule deterministic")
        known = index[key] = len(order)
        order.append(key)
    return known


def trim(dfa: Dfa, dead_calls: frozenset[int] | set[int] = frozenset()) -> Dfa:
    """Drops states that are unreachable or reach no accepting state, and edges on dead calls.

    ``dead_calls`` holds numbers of rules whose language is empty.  The start state always stays.
    """
    n = len(dfa)
    edges = dfa.edges
    if dead_calls:
        edges = [[e for e in row if e[0] > 0 or -1 - e[0] not in dead_calls] for row in edges]
    into: list[list[int]] = [[] for _ in range(n)]
    for q, row in enumerate(edges):
        for _, t, _ in row:
            into[t].append(q)
    live = _closure([q for q in range(n) if dfa.accept[q]], into)
    if dfa.start not in live:
        return EMPTY
    onward = [[t for _, t, _ in row if t in live] for row in edges]
    keep = sorted(_closure([dfa.start], onward))
    if len(keep) == n and not dead_calls:
        return dfa
    number = {q: i for i, q in enumerate(keep)}
    return Dfa(
        number[dfa.start],
        [dfa.accept[q] for q in keep],
        [[(lab, number[t], inc) for lab, t, inc in edges[q] if t in number] for q in keep],
        dfa.counted,
        dfa.count_min,
        dfa.count_max,
    )


def _closure(seeds: Iterable[int], nexts: Sequence[Sequence[int]]) -> set[int]:
    seen = set(seeds)
    stack = list(seen)
    while stack:
        for t in nexts[stack.pop()]:
            if t not in seen:
                seen.add(t)
                stack.append(t)
    return seen


def reduce(dfa: Dfa) -> Dfa:
    """Merges equivalent states.

    Components are visited bottom-up: a state without a cycle (or with only a loop to itself) is
    merged with any earlier state of equal signature; inside a larger component a partition is
    refined until it is stable.  Isomorphic large components are not merged with each other, which
    costs space and never correctness.
    """
    spend(2 * len(dfa))
    canon = list(range(len(dfa)))
    known: dict[object, int] = {}
    for component in components([[t for _, t, _ in row] for row in dfa.edges]):
        if len(component) > 1:
            _refine_component(dfa, component, canon)
            continue
        q = component[0]
        row = dfa.edges[q]
        if len(row) == 1 and row[0][1] != q:
            label, t, inc = row[0]
            canon[q] = known.setdefault((dfa.accept[q], label, canon[t], inc), q)
            continue
        key = (dfa.accept[q], frozenset(_signature(row, canon, {q: -1}).items()))
        canon[q] = known.setdefault(key, q)
    if all(c == q for q, c in enumerate(canon)):
        return dfa
    keep = [q for q in range(len(dfa)) if canon[q] == q]
    number = {q: i for i, q in enumerate(keep)}
    names = {q: number[canon[q]] for q in range(len(dfa))}
    rows = [
        [(lab, t, inc) for (t, inc, _), lab in _signature(dfa.edges[q], names, {}).items()]
        for q in keep
    ]
    merged = Dfa(
        number[canon[dfa.start]],
        [dfa.accept[q] for q in keep],
        rows,
        dfa.counted,
        dfa.count_min,
        dfa.count_max,
    )
    return trim(merged)


def _signature(
    row: list[Edge], canon: Sequence[int] | dict[int, int], local: dict[int, int]
) -> dict[tuple[int, int, int], Label]:
    """Edges with merged targets: (target, inc, 0) -> bytes, (target, inc, call) -> call."""
    out: dict[tuple[int, int, int], Label] = {}
    for label, t, inc in row:
        target = local[t] if t in local else canon[t]
        if label < 0:
            out[target, inc, label] = label
        else:
            out[target, inc, 0] = out.get((target, inc, 0), 0) | label
    return out


_ROUNDS_LEAST: Final = 8
_ROUNDS_WORK: Final = 400_000
"""States times rounds of refinement before a component is left as it is."""


def _refine_component(dfa: Dfa, component: list[int], canon: list[int]) -> None:
    block = dict.fromkeys(component, -1)
    count = 1
    for _ in range(max(_ROUNDS_LEAST, _ROUNDS_WORK // len(component))):
        seen: dict[object, int] = {}
        fresh: dict[int, int] = {}
        spend(2 * len(component))
        for q in component:
            row = _signature(dfa.edges[q], canon, block)
            key = (dfa.accept[q], frozenset(row.items()))
            fresh[q] = seen.setdefault(key, -1 - len(seen))
        block = fresh
        if len(seen) == count:
            break
        count = len(seen)
    else:
        return  # long chains split off one state a round: merging would cost more than it saves
    leader: dict[int, int] = {}
    for q in component:
        canon[q] = leader.setdefault(block[q], q)


def components(nexts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Strongly connected components, targets before sources (Tarjan, without recursion)."""
    n = len(nexts)
    order = [0] * n
    low = [0] * n
    on_stack = [False] * n
    stack: list[int] = []
    out: list[list[int]] = []
    clock = 0
    for root in range(n):
        if order[root]:
            continue
        work = [(root, 0)]
        while work:
            q, i = work.pop()
            if i == 0:
                clock += 1
                order[q] = low[q] = clock
                stack.append(q)
                on_stack[q] = True
            row = nexts[q]
            while i < len(row):
                t = row[i]
                i += 1
                if not order[t]:
                    work += ((q, i), (t, 0))
                    break
                if on_stack[t]:
                    low[q] = min(low[q], order[t])
            else:
                if low[q] == order[q]:
                    component: list[int] = []
                    while not component or component[-1] != q:
                        component.append(stack.pop())
                        on_stack[component[-1]] = False
                    out.append(component)
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[q])
    return out


def complement(dfa: Dfa) -> Dfa:
    """All byte strings that an (uncounted, call-free) automaton does not accept."""
    sink = len(dfa)
    rows: list[list[Edge]] = []
    for row in dfa.edges:
        missing = ALL_BYTES
        for mask, _, _ in row:
            missing &= ~mask
        rows.append([*row, (missing, sink, 0)] if missing else list(row))
    rows.append([(ALL_BYTES, sink, 0)])
    return reduce(trim(Dfa(dfa.start, [not a for a in dfa.accept] + [True], rows)))


def intersect(a: Dfa, b: Dfa, limit: int, spent: int = 0) -> Dfa:
    """Texts accepted by both; at most one of them may be counted.

    Args:
        a, b: the operands.
        limit: how many states may be made, ``spent`` of which have been made before.

    Raises:
        LimitExceeded: if the product has more than ``limit`` states.
    """
    if a.counted and b.counted:
        b = expand(b, limit)
    counter = a if a.counted else b
    index = {(a.start, b.start): 0}
    order = [(a.start, b.start)]
    rows: list[list[Edge]] = []
    for p, q in order:  # grows while we iterate
        row: list[Edge] = []
        spend(_pair_work(len(a.edges[p]), len(b.edges[q])))
        for m1, t1, i1 in a.edges[p]:
            for m2, t2, i2 in b.edges[q]:
                both = m1 & m2
                if not both:
                    continue
                key = (t1, t2)
                number = index.get(key)
                if number is None:
                    if len(order) + spent >= limit:
                        raise LimitExceeded("max_dfa_states", limit, "intersecting patterns")
                    number = index[key] = len(order)
                    order.append(key)
                row.append((both, number, i1 | i2))
        rows.append(row)
    accept = [a.accept[p] and b.accept[q] for p, q in order]
    out = Dfa(0, accept, rows, counter.counted, counter.count_min, counter.count_max)
    return settle(reduce(trim(out)), limit)


def _pair_work(edges: int, others: int) -> int:
    """Work of a pair of states in a product, see :mod:`grammars.work`."""
    return 4 + edges * others // 4


def subtract(a: Dfa, b: Dfa, limit: int, spent: int = 0) -> Dfa:
    """Texts accepted by ``a`` (perhaps counted) and not by ``b`` (uncounted, call-free).

    Raises:
        LimitExceeded: as for :func:`intersect`.
    """
    outside = -1
    index = {(a.start, b.start): 0}
    order = [(a.start, b.start)]
    rows: list[list[Edge]] = []

    def number(key: tuple[int, int]) -> int:
        known = index.get(key)
        if known is None:
            if len(order) + spent >= limit:
                raise LimitExceeded("max_dfa_states", limit, "intersecting patterns")
            known = index[key] = len(order)
            order.append(key)
        return known

    for p, q in order:  # grows while we iterate
        row: list[Edge] = []
        others = b.edges[q] if q != outside else ()
        spend(_pair_work(len(a.edges[p]), len(others)))
        for mask, t, inc in a.edges[p]:
            rest = mask & ALL_BYTES
            for other, u, _ in others:
                both = mask & other
                if both:
                    row.append((both, number((t, u)), inc))
                    rest &= ~both
            if rest:
                row.append((rest, number((t, outside)), inc))
        rows.append(row)
    accept = [a.accept[p] and not (q != outside and b.accept[q]) for p, q in order]
    out = Dfa(0, accept, rows, a.counted, a.count_min, a.count_max)
    return settle(reduce(trim(out)), limit)


def counts_to_accept(dfa: Dfa) -> list[tuple[int, int | None]] | None:
    """The fewest and the most counting edges from each state to acceptance (``None``: no most).

    Let S_k be the states that accept after exactly k counting edges; S_{k+1} = f(S_k).  Answers
    only where each state's numbers form an interval, so that two comparisons decide whether a
    count can still be brought within bounds; else ``None``.  Without a lower bound the fewest alone
    decide, and the most are not asked for.
    """
    if not dfa.count_min:
        return [(fewest, None) for fewest in _fewest_to_accept(dfa)]
    n = len(dfa)
    free: list[list[int]] = [[] for _ in range(n)]
    counting: list[list[int]] = [[] for _ in range(n)]
    for q, row in enumerate(dfa.edges):
        for _, t, inc in row:
            (counting if inc else free)[t].append(q)
    current = _closure([q for q in range(n) if dfa.accept[q]], free)
    fewest = dict.fromkeys(current, 0)
    most: dict[int, int] = {}
    k = 0
    while current and k <= 2 * n + 2:
        following = _closure({p for t in current for p in counting[t]}, free)
        if following == current:
            return [(fewest.get(q, 0), most.get(q)) for q in range(n)]
        for q in current - following:
            most[q] = k
        k += 1
        for q in following - current:
            if q in fewest:
                return None
            fewest[q] = k
        current = following
    return None if current else [(fewest.get(q, 0), most.get(q, 0)) for q in range(n)]


def _fewest_to_accept(dfa: Dfa) -> list[int]:
    """The fewest counting edges from each state to acceptance (0 where there is no way)."""
    n = len(dfa)
    free: list[list[int]] = [[] for _ in range(n)]
    counting: list[list[int]] = [[] for _ in range(n)]
    for q, row in enumerate(dfa.edges):
        for _, t, inc in row:
            (counting if inc else free)[t].append(q)
    out = [0] * n
    done: set[int] = set()
    current = _closure([q for q in range(n) if dfa.accept[q]], free)
    k = 0
    while current:
        for q in current:
            out[q] = k
        done |= current
        before = {p for t in current for p in counting[t]} - done
        current = _closure(before, free) - done
        k += 1
    return out


def settle(dfa: Dfa, limit: int) -> Dfa:
    """The same language; counted only if :func:`counts_to_accept` has an answer."""
    if not dfa.counted or dfa.is_empty():
        return dfa
    counts = counts_to_accept(dfa)
    if counts is None:
        return expand(dfa, limit)
    fewest, most = counts[dfa.start]
    too_many = dfa.count_max is not None and fewest > dfa.count_max
    return EMPTY if too_many or (most is not None and most < dfa.count_min) else dfa


def expand(dfa: Dfa, limit: int) -> Dfa:
    """The same language without a counter: one copy of the states for each count."""
    if not dfa.counted:
        return dfa
    top = dfa.count_max
    index = {(dfa.start, 0): 0}
    order = [(dfa.start, 0)]
    rows: list[list[Edge]] = []
    for q, n in order:  # grows while we iterate
        row: list[Edge] = []
        for label, t, inc in dfa.edges[q]:
            m = n + inc
            if top is None:
                m = min(m, dfa.count_min)
            elif m > top:
                continue
            number = index.get((t, m))
            if number is None:
                if len(order) >= limit:
                    raise LimitExceeded("max_dfa_states", limit, "expanding a counted repetition")
                number = index[t, m] = len(order)
                order.append((t, m))
            row.append((label, number, 0))
        rows.append(row)
    accept = [dfa.accept[q] and n >= dfa.count_min for q, n in order]
    flat = Dfa(0, accept, rows)
    # without the count two edges may share a byte (items of which one is a prefix of another)
    if any(_overlap(row) for row in rows):
        nfa = Nfa()
        start, final = nfa.state(), nfa.state()
        nfa.embed(flat, start, final)
        return determinize(nfa, start, final, limit)
    return reduce(trim(flat))
