"""Where free text ends: the first occurrence of one of some texts.

Of all occurrences the one that *ends* first counts, since a reader cannot wait for another; of
those that end at the same place the one that began first, that is, the longest.  So behind
``("aa", "baa")`` the text ``xbaaa`` has its trigger ``baa`` at 1 (``aa`` ends there too, and is
shorter), and ``aaa`` has ``aa`` at 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Set
from typing import Final

from grammars import ir
from grammars.compiling.utf8 import END, Utf8Node, utf8_node
from grammars.errors import GrammarError
from grammars.ir import MAX_CODE_POINT, Machine, Ranges

_CHARACTER: Final[Utf8Node] = utf8_node(((0, 0xD7FF), (0xE000, MAX_CODE_POINT)))


class Triggers:
    """The automaton that looks for all of them at once (Aho and Corasick 1975).

    A state stands for the longest beginning of a trigger that the text ends with.

    Attributes:
        prefixes: that beginning, by state; state 0 has none.
        found: by state, the number of the trigger that ends there, or -1.

    Raises:
        GrammarError: for a trigger that is empty, given twice, or never the first to end, as
            another one lies within it.
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        _check(texts)
        self.prefixes = list(dict.fromkeys(t[:i] for t in [b"", *texts] for i in range(len(t) + 1)))
        self._number: Final = {prefix: state for state, prefix in enumerate(self.prefixes)}
        self.found: Final = [
            max(
                (i for i, t in enumerate(texts) if p.endswith(t)),
                key=lambda i: len(texts[i]),
                default=-1,
            )
            for p in self.prefixes
        ]
        self._fallback: Final = [
            next((self._number[p[i:]] for i in range(1, len(p)) if p[i:] in self._number), 0)
            for p in self.prefixes
        ]

    def step(self, state: int, byte: int) -> int:
        """The state after one more byte."""
        while True:
            after = self._number.get(self.prefixes[state] + bytes((byte,)))
            if after is not None:
                return after
            if not state:
                return 0
            state = self._fallback[state]

    def state_of(self, prefix: bytes) -> int:
        """The state that stands for a beginning of a trigger."""
        return self._number[prefix]

    @property
    def overlap(self) -> bool:
        """Whether one can begin within another, so that free text must know which one follows."""
        return any(self._fallback[q] for q, found in enumerate(self.found) if found >= 0)

    def before(self, which: Set[int]) -> Machine:
        """Texts up to and including their first trigger, where that is one of these."""
        return self._machine(which)

    def without(self) -> Machine:
        """Texts in which no trigger occurs."""
        return self._machine(frozenset())

    def _machine(self, which: Set[int]) -> Machine:
        """Whole characters; state 1 is the end, if one is looked for."""
        index: dict[tuple[int, Utf8Node], int] = {(0, _CHARACTER): 0}
        end = 1 if which else -1
        todo = deque(index)
        edges: list[tuple[tuple[int, int, int], ...]] = []
        accept: list[bool] = []
        while todo:
            state, node = todo.popleft()
            accept.append(not which and node == _CHARACTER)
            targets: dict[int, list[int]] = {}
            for mask, following in node:
                for byte in (b for b in range(256) if mask >> b & 1):
                    after = self.step(state, byte)
                    won = self.found[after]
                    if won >= 0:
                        if won in which:
                            targets.setdefault(end, []).append(byte)
                        continue
                    place = (after, _CHARACTER if following == END else following)
                    if place not in index:
                        index[place] = len(index) + (end > 0)
                        todo.append(place)
                    targets.setdefault(index[place], []).append(byte)
            edges.append(tuple((lo, hi, t) for t, x in targets.items() for lo, hi in _runs(x)))
            if len(edges) == end:
                edges.append(())
                accept.append(True)
        return Machine(tuple(edges), tuple(accept))


def _runs(values: list[int]) -> Ranges:
    return ir.normalize_ranges((v, v) for v in values)


def _check(texts: Sequence[bytes]) -> None:
    for i, text in enumerate(texts):
        if not text:
            raise GrammarError("a trigger is empty; name the text that ends the free text")
        if text in texts[:i]:
            raise GrammarError(f"trigger {text.decode()!r} is given twice")
        for other in texts:
            if 0 <= text.find(other) < len(text) - len(other):
                raise GrammarError(
                    f"trigger {text.decode()!r} can never be reached, as {other.decode()!r} occurs "
                    "in it and ends first; make the one the beginning of the other's answer"
                )
