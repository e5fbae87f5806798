"""Grammars with memory: the rules and :mod:`grammars.uniqueness.memory` side by side, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass

from grammars.explain import (
    Explanation,
    excerpt,
    expectations,
    in_names,
    message_of,
    open_rules,
    place,
    rule_path,
)
from grammars.recognizer import DEAD, Recognizer
from grammars.uniqueness.memory import Memory, decode


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a text was read.

    Attributes:
        state: of the recognizer there.
        used: bytes that were possible.
        key: the key that would be repeated at this place.
        item: an array item is repeated here, and the rules do not allow it.
    """

    state: int
    used: int
    key: str | None = None
    item: bool = False


def read(recognizer: Recognizer, memory: Memory, data: bytes) -> Reading:
    """Reads a text as rules and memory allow."""
    after, marks, length = memory.advance(memory.start, data)
    state, at = recognizer.start, 0
    for offset, symbol in marks:
        state, used = recognizer.run(data[at:offset], state)
        if at + used < offset:
            return Reading(state, at + used)
        following = recognizer.advance(state, symbol)
        if following == DEAD:
            return Reading(state, offset, item=recognizer.advance(state, data[offset]) != DEAD)
        state, at = following, offset + 1
    state, used = recognizer.run(data[at:length], state)
    if after is None and at + used == length and recognizer.advance(state, data[length]) != DEAD:
        before, _, _ = memory.advance(memory.start, data[:length])
        assert before is not None, "only the last quote repeats a key"
        return Reading(state, length, key=decode(before.raw))
    return Reading(state, at + used)


def accepts(recognizer: Recognizer, memory: Memory, data: bytes) -> bool:
    """Whether the whole text is in the language."""
    reading = read(recognizer, memory, data)
    return reading.used == len(data) and recognizer.accepting[reading.state]


def explain_with_memory(
    recognizer: Recognizer, memory: Memory, data: bytes, names: frozenset[str]
) -> Explanation:
    """Like :func:`grammars.explain.explain`; names keys and items that are repeated."""
    reading = read(recognizer, memory, data)
    if reading.used == len(data) and recognizer.accepting[reading.state]:
        data = in_names(data, len(data), recognizer.names_tokens).data
        line, column = place(data, len(data))
        return Explanation(True, len(data), line, column, (), (), "accepted")
    where = in_names(data, reading.used, recognizer.names_tokens)
    if where.token is not None:
        reading = read(recognizer, memory, data[: where.start])
    data, offset = where.data, where.offset
    line, column = place(data, offset)
    path = rule_path(recognizer, reading.state, names)
    if reading.key is None and not reading.item:
        expected = expectations(recognizer, reading.state)
        message = message_of(data, offset, line, column, expected, path, where.unexpected)
        return Explanation(False, offset, line, column, expected, path, message)
    if reading.key is not None:
        what = f"the key {reading.key!r} occurs twice in this object"
    else:
        what = "this array item equals an earlier one, but items must be unique (uniqueItems)"
    parts = [f"line {line}, column {column} (byte {offset}): {what}"]
    parts += excerpt(data, offset)
    if path:
        parts.append(open_rules(path))
    return Explanation(False, offset, line, column, (), path, "\n".join(parts))
