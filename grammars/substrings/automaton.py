"""The automaton over bytes of the spans of a text."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from grammars.substrings.units import Fold, Unit, in_any_case, sequence

Int32: TypeAlias = npt.NDArray[np.int32]
Uint8: TypeAlias = npt.NDArray[np.uint8]

_KEPT: Final = 8
"""Automata that are kept; one takes about 40 bytes a character of its text."""
_LONGEST: Final = 6
"""Bytes of one character's spelling: an escape with four digits."""


class SpanAutomaton(NamedTuple):
    """A deterministic automaton over bytes; state 0 is the start.

    Attributes:
        begin: int32[states + 1], edges by state.
        byte: uint8[edges].
        target: int32[edges].
        whole: uint8[edges], whether the byte is the last one of a character.
        accept: uint8[states].
        characters: length of the text, as far as spans see it.
    """

    begin: Int32
    byte: Uint8
    target: Int32
    whole: Uint8
    accept: Uint8
    characters: int


@lru_cache(_KEPT)
def span_automaton(text: str, unit: Unit, fold: frozenset[Fold], spelled: bool) -> SpanAutomaton:
    """The automaton of the spans of a text, and of the empty text.

    Args:
        text: any text.
        unit: where spans begin and end.
        fold: what differs without a difference.
        spelled: characters are written as JSON writes them between quotes, in their usual spelling.
    """
    from grammars.substrings.kernels import read_spans, spell, suffix_automaton

    read = sequence(text, unit, fold)
    alphabet = len(read.characters) + (2 if read.marked else 0)
    automaton = suffix_automaton(read.symbols, alphabet)
    begin, symbol, reached, accept = read_spans(*automaton, read.marked)
    begin, byte, target, whole, accept = spell(
        begin, symbol, reached, accept, *_spellings(read.characters, "case" in fold, spelled)
    )
    return SpanAutomaton(begin, byte, target, whole, accept, len(read.symbols))


def _spellings(
    characters: list[str], any_case: bool, spelled: bool
) -> tuple[Int32, Int32, npt.NDArray[np.uint8], Uint8]:
    """How each character may be written: see ``spell``."""
    ways = [in_any_case(c) if any_case else (c,) for c in characters]
    texts = [[_bytes(way, spelled) for way in row] for row in ways]
    ordered = sorted({data for row in texts for data in row})
    number = {data: i for i, data in enumerate(ordered)}
    table = np.zeros((max(len(ordered), 1), _LONGEST), np.uint8)
    for i, data in enumerate(ordered):
        table[i, : len(data)] = np.frombuffer(data, np.uint8)
    begin = np.zeros(len(texts) + 1, np.int32)
    np.cumsum([len(row) for row in texts], out=begin[1:])
    return (
        begin,
        np.array([number[data] for row in texts for data in row], np.int32),
        table,
        np.array([len(data) for data in ordered] or [0], np.uint8),
    )


def _bytes(character: str, spelled: bool) -> bytes:
    return (json.dumps(character, ensure_ascii=False)[1:-1] if spelled else character).encode()


__all__ = ["SpanAutomaton", "span_automaton"]
