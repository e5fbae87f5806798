"""Which lexemes get in each other's way: one goes on, or is lazy, where another could end.

Most lexemes do not: behind a keyword comes a blank or a bracket, and nothing reads on there.  What cannot
matter need not be carried from place to place, and a grammar where nothing does is read as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from grammars.compiling.automata import ALL_BYTES
from grammars.frontends.llguidance.lexing import Automaton, Bytes
from grammars.frontends.llguidance.networks import Network

_MAX_PLACES: Final = 60_000


@dataclass(frozen=True)
class Following:
    """What may come where, whatever stands around.

    Attributes:
        first: by rule, the lexemes (and parts, as ``-1 - part``) with which it may begin.
        behind: by rule, those that may come behind it.
        after: by lexeme, the bytes that may come behind it, without what is ignored.
        within: by rule, the lexemes that it is made of, those of rules that it calls included.
    """

    first: dict[str, frozenset[int]]
    behind: dict[str, frozenset[int]]
    after: dict[int, Bytes]
    within: dict[str, frozenset[int]]


class _Analysis:
    def __init__(self, network: Network, first_bytes: list[Bytes], part_bytes: list[Bytes]) -> None:
        self.network = network
        self.bytes = first_bytes
        self.part_bytes = part_bytes
        self.owner: dict[int, str] = {end: rule for rule, end in network.ends.items()}
        self.states = self._states()
        self.first = {rule: frozenset[int]() for rule in network.starts}

    def _states(self) -> dict[str, set[int]]:
        """The states of each rule, those from which nothing is read included."""
        network = self.network
        out = {}
        for rule, start in network.starts.items():
            seen = {start}
            stack = [start]
            while stack:
                state = stack.pop()
                nexts = list(network.empty[state])
                for edge in (network.lexemes[state], network.parts[state], network.calls[state]):
                    if edge is not None:
                        nexts.append(edge[1])
                for after in nexts:
                    if after not in seen:
                        seen.add(after)
                        stack.append(after)
            out[rule] = seen
        return out

    def symbols(self, states: Iterable[int]) -> set[int]:
        """What may come in some states, ends of rules left out."""
        out: set[int] = set()
        network = self.network
        for state in states:
            lexeme, part, call = network.lexemes[state], network.parts[state], network.calls[state]
            if lexeme is not None:
                out.add(lexeme[0])
            if part is not None:
                out.add(-1 - part[0])
            if call is not None:
                out |= self.first[call[0]]
        return out

    def bytes_of(self, symbols: Iterable[int]) -> Bytes:
        out = 0
        for x in symbols:
            out |= self.bytes[x] if x >= 0 else self.part_bytes[-1 - x]
        return out

    def run(self) -> Following:
        network = self.network
        changed = True
        while changed:
            changed = False
            for rule, start in network.starts.items():
                found = frozenset(self.symbols(network.closure([start])))
                if found != self.first[rule]:
                    self.first[rule] = found
                    changed = True
        behind: dict[str, set[int]] = {rule: set() for rule in network.starts}
        tails: list[tuple[str, str]] = []
        for rule, states in self.states.items():
            for state in states:
                call = network.calls[state]
                if call is not None:
                    after = network.closure([call[1]])
                    behind[call[0]] |= self.symbols(after)
                    if network.ends[rule] in after:
                        tails.append((rule, call[0]))
        _spread(behind, tails)
        after_bytes: dict[int, Bytes] = {}
        within: dict[str, set[int]] = {rule: set() for rule in network.starts}
        calls: list[tuple[str, str]] = []
        for rule, states in self.states.items():
            outside = self.bytes_of(behind[rule])
            for state in states:
                call, lexeme = network.calls[state], network.lexemes[state]
                if call is not None:
                    calls.append((call[0], rule))
                if lexeme is None:
                    continue
                within[rule].add(lexeme[0])
                after = network.closure([lexeme[1]])
                mask = self.bytes_of(self.symbols(after))
                if network.ends[rule] in after:
                    mask |= outside
                after_bytes[lexeme[0]] = after_bytes.get(lexeme[0], 0) | mask
        _spread(within, calls)
        frozen = {rule: frozenset(symbols) for rule, symbols in behind.items()}
        return Following(
            self.first, frozen, after_bytes, {r: frozenset(x) for r, x in within.items()}
        )


def _spread(sets: dict[str, set[int]], edges: list[tuple[str, str]]) -> None:
    """Adds each set to those that its edges lead to, until nothing changes."""
    changed = True
    while changed:
        changed = False
        for source, target in edges:
            if not sets[source] <= sets[target]:
                sets[target] |= sets[source]
                changed = True


def following(network: Network, first_bytes: list[Bytes], part_bytes: list[Bytes]) -> Following:
    """What may come where in a network.

    Args:
        network: of the rules.
        first_bytes: by lexeme, the bytes with which it may begin.
        part_bytes: by part.
    """
    return _Analysis(network, first_bytes, part_bytes).run()


def interference(
    automata: list[Automaton],
    lazy: frozenset[int],
    free: frozenset[int],
    after: dict[int, Bytes],
    blanks: Bytes,
) -> tuple[dict[int, frozenset[int]], set[frozenset[int]]]:
    """By lexeme, those that get in its way (itself, where it may swallow what follows).

    Also those that match one text together, as pairs.

    Args:
        automata: of the lexemes.
        lazy, free: lexemes that are.
        after: by lexeme, the bytes that may come behind it.
        blanks: the bytes with which ignored text may begin.
    """
    out: dict[int, set[int]] = {x: set() for x in range(len(automata))}
    together: set[frozenset[int]] = set()
    onward = [
        [_union(mask for mask, _ in row) for row in automaton.edges] for automaton in automata
    ]
    start = tuple((x, automaton.start) for x, automaton in enumerate(automata))
    seen = {start}
    stack = [start]
    begun = False
    while stack:
        place = stack.pop()
        if begun:
            _meet(place, automata, onward, lazy, free, after, blanks, out, together)
        begun = True
        blocks: list[tuple[Bytes, tuple[tuple[int, int], ...]]] = [(ALL_BYTES, ())]
        for lexeme, state in place:
            split: list[tuple[Bytes, tuple[tuple[int, int], ...]]] = []
            for mask, reached in blocks:
                rest = mask
                for label, target in automata[lexeme].edges[state]:
                    common = rest & label
                    if common:
                        split.append((common, (*reached, (lexeme, target))))
                        rest ^= common
                if rest:
                    split.append((rest, reached))
            blocks = split
        for _, reached in blocks:
            if reached and reached not in seen:
                seen.add(reached)
                stack.append(reached)
        if len(seen) > _MAX_PLACES:
            return _by_first_bytes(automata)
    return {x: frozenset(found) for x, found in out.items()}, together


def _meet(
    place: tuple[tuple[int, int], ...],
    automata: list[Automaton],
    onward: list[list[Bytes]],
    lazy: frozenset[int],
    free: frozenset[int],
    after: dict[int, Bytes],
    blanks: Bytes,
    out: dict[int, set[int]],
    together: set[frozenset[int]],
) -> None:
    ending = [x for x, q in place if automata[x].accept[q]]
    together.update(frozenset((x, z)) for x in ending for z in ending if x < z)
    cutting = [x for x in ending if x in lazy]
    for x, _ in place:
        if x in ending and x not in free and x not in lazy:
            following_bytes = after.get(x, 0) | blanks
            out[x].update(z for z, r in place if onward[z][r] & following_bytes)
        if cutting and x not in cutting:
            out[x].update(cutting)


def _by_first_bytes(
    automata: list[Automaton],
) -> tuple[dict[int, frozenset[int]], set[frozenset[int]]]:
    out = {
        x: frozenset(z for z, other in enumerate(automata) if automaton.first & other.first)
        for x, automaton in enumerate(automata)
    }
    return out, {frozenset((x, z)) for x, found in out.items() for z in found if x < z}


def _union(masks: Iterable[Bytes]) -> Bytes:
    out = 0
    for mask in masks:
        out |= mask
    return out
