"""From automata of rules to the tables of a program."""

from __future__ import annotations

import numpy as np

from grammars import ir
from grammars.compiling.analysis import place_of
from grammars.compiling.automata import Dfa, components, counts_to_accept
from grammars.compiling.building import BuiltRule
from grammars.compiling.productivity import calls_of
from grammars.compiling.utf8 import ByteMask
from grammars.errors import GrammarError, LimitExceeded
from grammars.limits import Limits
from grammars.program import FIRST_PUSH, MANY, NO_EDGE, UNBOUNDED, IntArray, Program


def _reachable(rules: list[BuiltRule], start: int) -> list[int]:
    seen = {start}
    order = [start]
    for r in order:
        for callee in calls_of(rules[r]):
            if callee not in seen:
                seen.add(callee)
                order.append(callee)
    return order


def flatten(rules: list[BuiltRule], start: int, limits: Limits) -> Program:
    used = _reachable(rules, start)
    total = 1 + sum(len(rules[r].dfa) for r in used)
    if total > limits.max_program_states:
        largest = max((rules[r] for r in used), key=lambda rule: len(rule.dfa))
        with place_of(largest.source):
            raise LimitExceeded(
                "max_program_states",
                limits.max_program_states,
                f"the compiled grammar (most of it rule {largest.name!r})",
            )
    return _Flattener(rules, used, start, limits).program()


class _Flattener:
    """Numbers the states of all rules and fills the arrays."""

    def __init__(self, rules: list[BuiltRule], used: list[int], start: int, limits: Limits) -> None:
        self.rules = rules
        self.used = used
        self.start = start
        self.limits = limits
        self.base: dict[int, int] = {}
        at = 1
        for r in used:
            self.base[r] = at
            at += len(rules[r].dfa)
        self.total = at

    def program(self) -> Program:
        dfas = {r: self.rules[r].dfa for r in self.used}
        q_count = self.total
        accept_from = np.full(q_count, UNBOUNDED, np.int32)
        count_limit = np.full(q_count, UNBOUNDED, np.int32)
        count_floor = np.zeros(q_count, np.int32)
        count_cap = np.full(q_count, UNBOUNDED, np.int32)
        rule_of = np.zeros(q_count, np.int32)
        accept_from[0] = 0
        calls: dict[int, list[tuple[int, int]]] = {}
        names = ["end"]
        start_of = {r: self.base[r] + dfa.start for r, dfa in dfas.items()}
        sources: list[int] = []
        targets: list[int] = []
        numbers: list[int] = []
        masks: dict[ByteMask, int] = {}
        for r, dfa in dfas.items():
            base = self.base[r]
            rule_of[base : base + len(dfa)] = len(names)
            names.append(self.rules[r].name)
            self._counts(dfa, base, count_limit, count_floor, count_cap)
            accepting = np.array(dfa.accept, np.bool_)
            accept_from[base : base + len(dfa)][accepting] = dfa.count_min if dfa.counted else 0
            for q, row in enumerate(dfa.edges, base):
                for label, t, inc in row:
                    if label < 0:
                        calls.setdefault(q, []).append((-1 - label, (base + t) << 1 | inc))
                    else:
                        sources.append(q)
                        targets.append((base + t) << 1 | inc)
                        numbers.append(masks.setdefault(label, len(masks)))
        alphabet = _Alphabet(list(masks))
        edges = alphabet.edges(q_count, sources, numbers, targets)
        bags = [self.rules[r].bag for r in self.used]
        parts = [(r, bag) for r, bag in zip(self.used, bags, strict=True) if bag is not None]
        bag_of = np.full(q_count, -1, np.int32)
        taken: dict[int, list[int]] = {}
        for b, (r, part) in enumerate(parts):
            members = [member for member, _ in part.members]
            for q in part.takes:
                bag_of[self.base[r] + q] = b
                taken[self.base[r] + q] = members
        # ends of rules with nothing left to do
        done = (accept_from == 0) & (np.diff(edges.offset) == 0)
        done[[*calls, *(q for q, members in taken.items() if members)]] = False
        tail: list[bool] = done.tolist()
        rank = self._ranks(calls, taken, start_of)
        chains = _Chains(edges, calls, taken, start_of, tail, rank)
        table = edges.table(alphabet.size)
        for q in sorted({*calls, *taken}):
            table[q] = NO_EDGE
            for c, entry in chains.row(q).items():
                table[q, c] = entry
        reads = np.packbits(table != NO_EDGE, axis=1, bitorder="little")
        first = np.zeros((q_count, 32), np.uint8)
        first[:, : reads.shape[1]] = reads
        start_rank = np.full(q_count, -1, np.int32)
        for r, place in rank.items():
            start_rank[start_of[r]] = place
        called = [(start_of[r], target) for row in calls.values() for r, target in row]
        call_counts = np.zeros(q_count + 1, np.int32)
        call_counts[[q + 1 for q in calls]] = [len(row) for row in calls.values()]
        empty = self.rules[self.start].dfa.is_empty()
        return Program(
            start=-1 if empty else start_of[self.start],
            byte_class=alphabet.class_of,
            classes=alphabet.size,
            table=table,
            edge_offset=edges.offset,
            edge_class=edges.classes,
            edge_target=edges.targets,
            call_offset=np.cumsum(call_counts, dtype=np.int32),
            call_start=_column([start for start, _ in called]),
            call_return=_column([target for _, target in called]),
            call_tail=np.array([tail[target >> 1] for _, target in called], np.uint8),
            push_offset=_offsets(chains.links),
            push_links=_column([t for row in chains.links for t in row]),
            push_target=_column(chains.targets),
            push_outer=np.array(chains.outer, np.uint8),
            accept_from=accept_from,
            count_limit=count_limit,
            count_floor=count_floor,
            count_cap=count_cap,
            first=first.view(np.uint64),
            start_rank=start_rank,
            rule_of=rule_of,
            rule_names=tuple(names),
            marks=alphabet.marks,
            bags=tuple(part.spec for _, part in parts if part.spec is not None),
            bag_of=bag_of,
            bag_offset=_offsets([[m for m, _ in part.members] for _, part in parts]),
            bag_start=_column([start_of[m] for _, part in parts for m, _ in part.members]),
            bag_return=_column([self.base[r] + q for r, part in parts for q in part.returns]),
        )

    @staticmethod
    def _counts(dfa: Dfa, base: int, limit: IntArray, floor: IntArray, cap: IntArray) -> None:
        if not dfa.counted:
            return
        counts = counts_to_accept(dfa)
        assert counts is not None, "counted automata are settled before they are flattened"
        for q, (fewest, most) in enumerate(counts):
            if dfa.count_max is None:
                cap[base + q] = dfa.count_min
            else:
                limit[base + q] = dfa.count_max - fewest
            if most is not None:
                floor[base + q] = max(0, dfa.count_min - most)

    def _ranks(
        self,
        calls: dict[int, list[tuple[int, int]]],
        taken: dict[int, list[int]],
        start_of: dict[int, int],
    ) -> dict[int, int]:
        """An order of the rules in which left callers come before their callees."""
        used = self.used
        number = {r: i for i, r in enumerate(used)}
        left = [
            [number[c] for c, _ in calls.get(start_of[r], ())]
            + [number[c] for c in taken.get(start_of[r], ())]
            for r in used
        ]
        callees_first = [i for component in components(left) for i in component]
        return {used[i]: place for place, i in enumerate(reversed(callees_first))}


class _Alphabet:
    """Classes of symbols that no edge of a program tells apart.

    Attributes:
        size: how many there are.
        class_of: uint8[264], the class of each byte and mark.
        marks: the marks that some edge reads.
    """

    def __init__(self, masks: list[ByteMask]) -> None:
        width = (ir.SYMBOLS + 7) // 8
        packed = b"".join(mask.to_bytes(width, "little") for mask in masks)
        rows = np.frombuffer(packed, np.uint8).reshape(len(masks), width)
        member = np.unpackbits(rows, axis=1, bitorder="little")[:, : ir.SYMBOLS]
        read: list[bool] = np.any(member, axis=0).tolist()
        self.marks = tuple(m for m in range(256, ir.SYMBOLS) if read[m])
        # a mark that no edge reads needs no class of its own
        columns = np.packbits(member.T, axis=1)
        keys = [column.tobytes() for column in columns]
        known: dict[bytes, int] = {}
        numbers = [known.setdefault(key, len(known)) for key in keys[:256]]
        for m in range(256, ir.SYMBOLS):
            numbers.append(known.setdefault(keys[m], len(known)) if read[m] else 0)
        self.size = len(known)
        if self.size > 256:
            raise GrammarError("the grammar tells all bytes and marks apart, which is too many")
        self.class_of = np.array(numbers, np.uint8)
        first = {c: symbol for symbol, c in reversed(list(enumerate(numbers)))}
        for m in range(256, ir.SYMBOLS):
            if not read[m]:
                continue
            first[numbers[m]] = m
        self._member = member[:, [first[c] for c in range(self.size)]]

    def edges(
        self, states: int, sources: list[int], masks: list[int], targets: list[int]
    ) -> _Edges:
        """The edges (by source, ascending) on masks of these numbers as edges on classes."""
        of_mask, classes = np.nonzero(self._member)
        begin = np.searchsorted(of_mask, np.arange(len(self._member) + 1))
        number = np.array(masks, np.int64)
        counts = np.diff(begin)[number]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        at = np.arange(total) - np.repeat(ends - counts, counts) + np.repeat(begin[number], counts)
        source = np.repeat(np.array(sources, np.int32), counts)
        return _Edges(
            states,
            source,
            classes[at].astype(np.int32),
            np.repeat(np.array(targets, np.int32), counts),
        )


class _Edges:
    """Edges on byte classes, by source."""

    def __init__(self, states: int, source: IntArray, classes: IntArray, targets: IntArray) -> None:
        self.source, self.classes, self.targets = source, classes, targets
        self.states = states
        self.offset = np.zeros(states + 1, np.int32)
        np.cumsum(np.bincount(source, minlength=states), out=self.offset[1:])

    def of(self, q: int) -> list[tuple[int, int]]:
        """(class, target) of one state."""
        part = slice(int(self.offset[q]), int(self.offset[q + 1]))
        return list(zip(self.classes[part].tolist(), self.targets[part].tolist(), strict=True))

    def table(self, classes: int) -> IntArray:
        """int32[Q, C]: the only target by state and class; ``MANY`` where there are several."""
        table = np.full(self.states * classes, NO_EDGE, np.int32)
        key = self.source.astype(np.int64) * classes + self.classes
        table[key] = self.targets
        table[key[table[key] != self.targets]] = MANY
        return table.reshape(self.states, classes)


class _Chains:
    """Which call chains a byte class starts, and the table entries that follow from it."""

    def __init__(
        self,
        edges: _Edges,
        calls: dict[int, list[tuple[int, int]]],
        taken: dict[int, list[int]],
        start_of: dict[int, int],
        tail: list[bool],
        rank: dict[int, int],
    ) -> None:
        self.edges, self.calls, self.start_of, self.tail = edges, calls, start_of, tail
        self.taken = taken
        self.links: list[list[int]] = []
        self.targets: list[int] = []
        self.outer: list[bool] = []
        self._known: dict[tuple[bool, tuple[int, ...], int], int] = {}
        # per rule: class -> (links, target) of the only way in, or None where there are several
        self._entry: dict[int, dict[int, tuple[tuple[int, ...], int] | None]] = {}
        for r in sorted(rank, key=lambda r: -rank[r]):
            self._entry[r] = {c: _only(ways) for c, ways in self._ways(start_of[r]).items()}

    def _ways(self, q: int) -> dict[int, list[tuple[tuple[int, ...], int] | None]]:
        ways: dict[int, list[tuple[tuple[int, ...], int] | None]] = {}
        for c, target in self.edges.of(q):
            ways.setdefault(c, []).append(((), target))
        for r, ret in self.calls.get(q, ()):
            for c, entry in self._entry[r].items():
                if entry is None:
                    ways.setdefault(c, []).append(None)
                    continue
                links, target = entry
                # a return to a state with nothing left to do is skipped: the call is a jump
                own = () if self.tail[ret >> 1] else (ret,)
                ways.setdefault(c, []).append((own + links, target))
        for r in self.taken.get(q, ()):  # which items are available only the residual says
            for c in self._entry[r]:
                ways.setdefault(c, []).append(None)
        return ways

    def row(self, q: int) -> dict[int, int]:
        """Table entries of one state with calls."""
        out: dict[int, int] = {}
        for c, target in self.edges.of(q):
            out[c] = MANY if c in out else target
        for r, ret in self.calls.get(q, ()):
            # a return to a state with nothing left to do is skipped: the call is a jump
            own = () if self.tail[ret >> 1] else (ret,)
            for c, entry in self._entry[r].items():
                if entry is None or c in out:
                    out[c] = MANY
                else:
                    links, target = entry
                    out[c] = self._chain(bool(own), own + links, target)
        for r in self.taken.get(q, ()):  # which items are available only the residual says
            out.update(dict.fromkeys(self._entry[r], MANY))
        return out

    def _chain(self, outer: bool, links: tuple[int, ...], target: int) -> int:
        key = (outer, links, target)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self.targets)
            self.links.append(list(links))
            self.targets.append(target)
            self.outer.append(outer)
        return FIRST_PUSH - number


def _only(
    ways: list[tuple[tuple[int, ...], int] | None],
) -> tuple[tuple[int, ...], int] | None:
    return ways[0] if len(ways) == 1 else None


def _offsets(rows: list[list[int]] | list[list[tuple[int, int]]]) -> np.ndarray:
    out = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=out[1:]) if rows else None
    return out


def _column(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32)
