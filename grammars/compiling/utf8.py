"""UTF-8: from classes of code points to automata over bytes."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from grammars.ir import Ranges, intersect_ranges

ByteMask: TypeAlias = int
"""A set of bytes: bit b is set if byte b is in it."""

Utf8Node: TypeAlias = tuple[tuple[ByteMask, "Utf8Node"], ...]
"""A node of an acyclic automaton: (bytes, next node) edges; the empty tuple is the end."""

END: Utf8Node = ()

# (first, last code point, leading byte's fixed bits, number of continuation bytes)
_FORMS = (
    (0x0, 0x7F, 0x00, 0),
    (0x80, 0x7FF, 0xC0, 1),
    (0x800, 0xFFFF, 0xE0, 2),
    (0x10000, 0x10FFFF, 0xF0, 3),
)


def range_mask(lo: int, hi: int) -> ByteMask:
    """The bytes lo..hi inclusive."""
    return ((1 << (hi - lo + 1)) - 1) << lo


def ranges_mask(ranges: Ranges) -> ByteMask:
    """The bytes of all the ranges."""
    mask = 0
    for lo, hi in ranges:
        mask |= range_mask(lo, hi)
    return mask


@lru_cache(maxsize=4096)
def utf8_node(ranges: Ranges) -> Utf8Node:
    """The minimal acyclic automaton of the UTF-8 forms of a class (surrogates must be absent)."""
    edges: list[tuple[ByteMask, Utf8Node]] = []
    for first, last, lead, more in _FORMS:
        part = intersect_ranges(ranges, ((first, last),))
        if part:
            edges.extend(_split(part, more, lead))
    return tuple(edges)


def _split(part: Ranges, more: int, fixed: int) -> list[tuple[ByteMask, Utf8Node]]:
    """Edges on one byte, which holds the bits above the lowest ``6 * more``."""
    width = 6 * more
    full = (1 << width) - 1
    rests_by_block: dict[int, list[tuple[int, int]]] = {}
    for lo, hi in part:
        for block in range(lo >> width, (hi >> width) + 1):
            base = block << width
            rest = (max(lo - base, 0), min(hi - base, full))
            rests_by_block.setdefault(block, []).append(rest)
    # blocks with the same remaining bits share one edge
    mask_by_rests: dict[Ranges, ByteMask] = {}
    for block, rests in rests_by_block.items():
        key = tuple(rests)
        mask_by_rests[key] = mask_by_rests.get(key, 0) | 1 << (fixed | block)
    return [
        (mask, END if more == 0 else _continuation(rests, more))
        for rests, mask in mask_by_rests.items()
    ]


@lru_cache(maxsize=65536)
def _continuation(part: Ranges, more: int) -> Utf8Node:
    return tuple(_split(part, more - 1, 0x80))
