"""From automata over classes of characters to automata over the bytes of UTF-8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from grammars.ir import NOTHING, Expr, Machine, Ranges

_FORMS: Final = (
    (0x0, 0x7F, 0x00, 0),
    (0x80, 0x7FF, 0xC0, 1),
    (0x800, 0xFFFF, 0xE0, 2),
    (0x10000, 0x10FFFF, 0xF0, 3),
)
"""First and last code point, fixed bits of the leading byte, bytes that follow it."""

_Piece: TypeAlias = tuple[int, int, int]
"""First and last code point (of a block, from its start) and their class."""


class Classifier:
    """Which class a character belongs to, told byte by byte.

    Args:
        classes: disjoint classes of code points; a character in none of them leads nowhere.
    """

    def __init__(self, classes: Sequence[Ranges]) -> None:
        self.leaves: list[tuple[int, ...]] = []
        """By node: the classes that are told apart below."""
        self._edges: list[tuple[_Piece, ...]] = []
        self._numbers: dict[tuple[_Piece, ...], int] = {}
        self._blocks: dict[tuple[int, tuple[_Piece, ...]], int] = {}
        pieces = sorted((lo, hi, i) for i, ranges in enumerate(classes) for lo, hi in ranges)
        edges: list[_Piece] = []
        for first, last, lead, more in _FORMS:
            part = [(max(lo, first), min(hi, last), i) for lo, hi, i in pieces]
            edges += self._split([p for p in part if p[0] <= p[1]], more, lead)
        self.root = self._node(edges)

    def edges(self, node: int) -> tuple[_Piece, ...]:
        """First byte, last byte, and the next node, or, below zero, a class ``i`` as ``~i``."""
        return self._edges[node]

    def _node(self, edges: Iterable[_Piece]) -> int:
        key = tuple(edges)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._edges)
            self._edges.append(key)
            found: set[int] = set()
            for _, _, to in key:
                found.update(self.leaves[to] if to >= 0 else (~to,))
            self.leaves.append(tuple(sorted(found)))
        return number

    def _split(self, pieces: Sequence[_Piece], more: int, fixed: int) -> list[_Piece]:
        """Edges on one byte, which holds the bits above the lowest ``6 * more``."""
        if not more:
            return [(fixed | lo, fixed | hi, ~i) for lo, hi, i in pieces]
        width = 6 * more
        full = (1 << width) - 1
        blocks: dict[int, list[_Piece]] = {}
        for lo, hi, i in pieces:
            for block in range(lo >> width, (hi >> width) + 1):
                base = block << width
                blocks.setdefault(block, []).append((max(lo - base, 0), min(hi - base, full), i))
        out: list[_Piece] = []
        for block, rest in sorted(blocks.items()):
            to = self._block(more - 1, tuple(rest))
            byte = fixed | block
            if out and out[-1][2] == to and out[-1][1] == byte - 1:
                out[-1] = (out[-1][0], byte, to)
            else:
                out.append((byte, byte, to))
        return out

    def _block(self, more: int, pieces: tuple[_Piece, ...]) -> int:
        """The node behind a byte, where so many more bytes come after the next."""
        key = (more, pieces)
        known = self._blocks.get(key)
        if known is None:
            known = self._blocks[key] = self._node(self._split(pieces, more, 0x80))
        return known


def byte_machine(
    classes: Sequence[Ranges], rows: Sequence[Mapping[int, int]], accept: Sequence[bool]
) -> Expr:
    """The texts that an automaton over classes of characters accepts, as one over bytes.

    Args:
        classes: disjoint classes of code points, surrogates left out.
        rows: by state, the state behind each class; state 0 is the start.
        accept: by state.
    """
    if not any(accept):
        return NOTHING
    tree = Classifier(classes)
    edges: list[tuple[_Piece, ...]] = [()] * len(rows)
    accepting = list(accept)
    inner: dict[tuple[int, tuple[int | None, ...]], int | None] = {}

    def row_of(node: int, row: Mapping[int, int]) -> tuple[_Piece, ...]:
        out: list[_Piece] = []
        for low, high, to in tree.edges(node):
            target = row.get(~to) if to < 0 else state_of(to, row)
            if target is None:
                continue
            if out and out[-1][2] == target and out[-1][1] == low - 1:
                out[-1] = (out[-1][0], high, target)
            else:
                out.append((low, high, target))
        return tuple(out)

    def state_of(node: int, row: Mapping[int, int]) -> int | None:
        """The state in the middle of a character: it depends on where the classes below lead."""
        key = (node, tuple(row.get(i) for i in tree.leaves[node]))
        if key not in inner:
            found = row_of(node, row)
            inner[key] = len(edges) if found else None
            if found:
                edges.append(found)
                accepting.append(False)
        return inner[key]

    for q, row in enumerate(rows):
        edges[q] = row_of(tree.root, row)
    return Machine(tuple(edges), tuple(accepting))
