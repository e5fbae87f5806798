"""Where a text leaves the language, and what was expected there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grammars.program import Program
from grammars.recognizer import DEAD, END, Recognizer
from grammars.special_tokens import FRAME, is_framed, names_in, shown

FREE_TEXT: Final = "free text"
"""Names of rules that begin so say what may come in them."""
_MOST_EXPECTED: Final = 12
_LONGEST_WORD: Final = 40
_CONTEXT: Final = 60
_DEEPEST: Final = 16


@dataclass(frozen=True)
class Explanation:
    """The verdict on a text; ``str()`` is a message to act on.

    Attributes:
        accepted: whether the whole text is in the language.
        offset: byte offset of the first byte that cannot stand there (the length of the text if it
            ends too early or is accepted).
        line, column: the same place, 1-based; columns count characters.
        expected: what could have stood there: quoted texts, character ranges, "end of text".
        rule_path: rules open at that place, the outermost first.
        message: the verdict in words.
    """

    accepted: bool
    offset: int
    line: int
    column: int
    expected: tuple[str, ...]
    rule_path: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return self.message


def explain(recognizer: Recognizer, data: bytes, names: frozenset[str]) -> Explanation:
    """Explains a text by a recognizer; of its rules, those in ``names`` are shown."""
    state, offset = recognizer.run(data)
    accepted = offset == len(data) and recognizer.accepting[state]
    where = in_names(data, offset, recognizer.names_tokens)
    if where.token is not None:
        state, _ = recognizer.run(data[: where.start])
    data, offset = where.data, where.offset
    line, column = place(data, offset)
    expected = () if accepted else expectations(recognizer, state)
    path = () if accepted else rule_path(recognizer, state, names)
    if accepted:
        message = "accepted"
    else:
        message = message_of(data, offset, line, column, expected, path, where.unexpected)
    return Explanation(accepted, offset, line, column, expected, path, message)


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a text whose special tokens are shown by their names.

    Attributes:
        data: the text, the names in plain bytes.
        offset: the place in it; a token is told where it begins.
        start: that place in the text that rules read.
        token: the special token there that was refused; ``None`` if it is none.
    """

    data: bytes
    offset: int
    start: int
    token: str | None = None

    @property
    def unexpected(self) -> str:
        """What to say of a token; empty if it is none."""
        return "" if self.token is None else f"unexpected special token {self.token}"


def in_names(data: bytes, offset: int, names_tokens: bool) -> Where:
    """The place of an offset where special tokens are shown by their names."""
    if not names_tokens or FRAME not in data:
        return Where(data, offset, offset)
    inside = data.count(FRAME, 0, offset) % 2
    start = data.rfind(FRAME, 0, offset) if inside else offset
    refused = names_in(data[start:])[0] if is_framed(data[start:]) else None
    return Where(shown(data), len(shown(data[:start])), start, refused)


def explain_surrogate(recognizer: Recognizer, text: str, names: frozenset[str]) -> Explanation:
    """Explains a text with half a surrogate pair, which no bytes of UTF-8 stand for."""
    at = next(i for i, char in enumerate(text) if 0xD800 <= ord(char) <= 0xDFFF)
    before = text[:at].encode()
    found = explain(recognizer, before, names)
    if found.offset < len(before):
        return found
    line, column = place(before, len(before))
    message = (
        f"line {line}, column {column} (byte {len(before)}): U+{ord(text[at]):04X} is half of a "
        "surrogate pair and no character; decode the text as UTF-16 first"
    )
    return Explanation(False, len(before), line, column, found.expected, found.rule_path, message)


def explain_outside(
    recognizer: Recognizer, before: bytes, names: frozenset[str], what: str
) -> Explanation:
    """Explains data that is no text from some place on.

    Args:
        recognizer: of the grammar.
        before: the text up to that place.
        names: of the rules that are shown.
        what: what is wrong with the rest.
    """
    found = explain(recognizer, before, names)
    if found.offset < len(shown(before)):
        return found
    line, column = place(shown(before), found.offset)
    message = f"line {line}, column {column} (byte {found.offset}): {what}"
    return Explanation(False, found.offset, line, column, found.expected, found.rule_path, message)


def empty_explanation(notes: tuple[str, ...]) -> Explanation:
    """For a language without any text."""
    because = ": " + "; ".join(notes) if notes else ", whatever it is"
    return Explanation(False, 0, 1, 1, (), (), f"no text at all satisfies this grammar{because}")


def place(data: bytes, offset: int) -> tuple[int, int]:
    """1-based line and column (in characters) of a byte offset, or of the character it is in."""
    offset = _character_start(data, offset)
    start = data.rfind(b"\n", 0, offset) + 1
    return data.count(b"\n", 0, offset) + 1, len(_shown(data[start:offset])) + 1


def _character_start(data: bytes, offset: int) -> int:
    start = offset
    while 0 < start < len(data) and offset - start < 3 and data[start] & 0xC0 == 0x80:
        start -= 1
    return start if data[offset : offset + 1] and data[start] & 0xC0 == 0xC0 else offset


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def message_of(
    data: bytes,
    offset: int,
    line: int,
    column: int,
    expected: tuple[str, ...],
    path: tuple[str, ...],
    what: str = "",
) -> str:
    what = what or _unexpected(data, offset)
    parts = [f"line {line}, column {column} (byte {offset}): {what}"]
    if expected:
        parts[0] += f"; expected {_listing(expected)}"
    if data:
        parts += excerpt(data, offset)
    if path:
        parts.append("in " + " > ".join(path))
    return "\n".join(parts)


def _unexpected(data: bytes, offset: int) -> str:
    if offset == len(data):
        return "the text ends too early"
    return f"unexpected {_character_at(data, offset)}"


def _character_at(data: bytes, offset: int) -> str:
    start = _character_start(data, offset)
    for end in range(offset + 1, min(len(data), start + 4) + 1):
        try:
            return repr(data[start:end].decode())
        except UnicodeDecodeError:
            continue
    return f"byte 0x{data[offset]:02X}"


def _listing(expected: tuple[str, ...]) -> str:
    if len(expected) == 1:
        return expected[0]
    return ", ".join(expected[:-1]) + " or " + expected[-1]


def excerpt(data: bytes, offset: int) -> list[str]:
    offset = _character_start(data, offset)
    start = data.rfind(b"\n", 0, offset) + 1
    end = data.find(b"\n", offset)
    before = _shown(data[start:offset])
    after = _shown(data[offset : len(data) if end < 0 else end])
    if len(before) > _CONTEXT:
        before = "..." + before[-_CONTEXT:]
    if len(after) > _CONTEXT:
        after = after[:_CONTEXT] + "..."
    before = before.replace("\t", " ")
    return ["  " + before + after.replace("\t", " "), "  " + " " * len(before) + "^"]


# -- what could have come --------------------------------------------------------------------------


def expectations(recognizer: Recognizer, state: int) -> tuple[str, ...]:
    """What may come at a state, in words: few ways are spelled out, many are given as ranges."""
    out = ["end of text"] if recognizer.accepting[state] else []
    free = _free_text(recognizer, state)
    if free:
        return (*out, *free)
    ways = next_bytes(recognizer, state)
    groups: dict[int, list[int]] = {}
    for byte, after in ways.items():
        if byte == FRAME and recognizer.names_tokens:
            out += [f"the special token {name}" for name in _tokens(recognizer, after)]
        else:
            groups.setdefault(after, []).append(byte)
    for after, found in groups.items():
        if len(found) <= 2:
            out += [_word(recognizer, byte, after) for byte in found]
        else:
            out += _ranges(found)
    if len(out) > _MOST_EXPECTED:
        out = [*out[:_MOST_EXPECTED], f"{len(out) - _MOST_EXPECTED} other things"]
    return tuple(dict.fromkeys(out))


def _free_text(recognizer: Recognizer, state: int) -> tuple[str, ...]:
    """Rules of free text that can go on or begin: their names say more than the bytes of all text."""
    program = recognizer.program
    places = [q for q, _, _ in recognizer.items[state] if program.first[q].any()]
    for q in places:  # grows while we iterate
        called = program.call_start[program.call_offset[q] : program.call_offset[q + 1]].tolist()
        places += [start for start in called if start not in places]
    names = (program.rule_names[program.rule_of[q]] for q in places)
    return tuple(dict.fromkeys(name for name in names if name.startswith(FREE_TEXT)))


def next_bytes(recognizer: Recognizer, state: int) -> dict[int, int]:
    """The bytes that may come, with the states they lead to."""
    ways = {byte: recognizer.advance(state, byte) for byte in range(256)}
    return {byte: after for byte, after in ways.items() if after != DEAD}


def _word(recognizer: Recognizer, byte: int, state: int) -> str:
    """The byte with all that is forced after it."""
    word = bytearray([byte])
    while len(word) < _LONGEST_WORD and not recognizer.accepting[state]:
        ways = next_bytes(recognizer, state)
        if len(ways) != 1:
            break
        byte, state = next(iter(ways.items()))
        word.append(byte)
    try:
        return repr(word.decode())
    except UnicodeDecodeError as error:
        whole = word[: error.start].decode()
        return repr(whole) if whole else "a character beyond ASCII"


def _tokens(recognizer: Recognizer, state: int) -> list[str]:
    """The names of special tokens that may come, from the state inside their frame."""
    out: list[str] = []
    stack = [(b"", state)]
    while stack and len(out) <= _MOST_EXPECTED:
        name, state = stack.pop()
        for byte, after in reversed(next_bytes(recognizer, state).items()):
            if byte == FRAME:
                out.append(name.decode("utf-8", "replace"))
            else:
                stack.append((name + bytes((byte,)), after))
    return out


def _ranges(values: list[int]) -> list[str]:
    out: list[str] = []
    ascii_values = [v for v in values if v < 0x80]
    if len(ascii_values) > 64:
        missing = [v for v in range(0x20, 0x7F) if v not in ascii_values]
        but = " except " + " ".join(repr(chr(v)) for v in missing[:6]) if missing else ""
        out.append(f"any character{but}")
        return out
    run: list[int] = []
    for value in [*ascii_values, 999]:
        if run and value != run[-1] + 1:
            out += _run(run)
            run = []
        run.append(value)
    if any(v >= 0x80 for v in values):
        out.append("a character beyond ASCII")
    return out


def _run(run: list[int]) -> list[str]:
    if len(run) > 2:
        return [f"{chr(run[0])!r} to {chr(run[-1])!r}"]
    return [repr(chr(v)) for v in run]


# -- which rules are open --------------------------------------------------------------------------


def rule_path(recognizer: Recognizer, state: int, names: frozenset[str]) -> tuple[str, ...]:
    """Open rules of one reading of the prefix, outermost first."""
    program: Program = recognizer.program
    out: list[str] = []
    seen: set[int] = set()
    while state not in (DEAD, END) and state not in seen:
        seen.add(state)
        q, _, frame = recognizer.items[state][0]
        name = program.rule_names[program.rule_of[q]]
        ended = name.startswith(FREE_TEXT) and frame != END and not program.first[q].any()
        if name in names and not ended and (not out or out[-1] != name):
            out.append(name)
        state = frame
    if len(out) > _DEEPEST:
        out = [*out[: _DEEPEST // 2], "...", *out[-_DEEPEST // 2 :]]
    return tuple(reversed(out))
