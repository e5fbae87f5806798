"""Where a text leaves the language, and what was expected there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from grammars.program import Program
from grammars.recognizer import DEAD, END, Recognizer
from grammars.special_tokens import FRAME, is_framed, names_in, shown

FREE_TEXT: Final = "free text"
"""Names of rules that begin so say what may come in them."""
_MOST_EXPECTED: Final = 12
_LONGEST_WORD: Final = 40
_BEFORE: Final = 40
_BEHIND: Final = 32
"""Characters of the line that are shown: a message fits into 80 columns."""
_VISIBLE: Final[dict[int, int | str]] = {
    0x09: " ",
    0x7F: "\u2421",
    **{code: 0x2400 + code for code in range(0x20) if code != 0x09},
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
"""Control characters as signs: they must not reach a terminal."""
_DEEPEST: Final = 16
_CONTEXT: Final = 60
"""Characters of a pointer that are shown, the last ones."""
_WIDE: Final = 64
"""A class of more characters than this is told as all but those that it lacks."""
_MOST_MISSING: Final = 6
_BLANKS: Final = frozenset(b" \t\n\r\x0c")
_BEYOND: Final = "a character beyond ASCII"
_EITHER: Final = "\x00"
"""Marks a word whose letters may be of either case."""
_COPY: Final = re.compile(r"\*?\.\d+$")
"""What stands behind the name of a rule that was copied."""


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
        pointer: of a JSON grammar, the JSON pointer of the value at that place (``""`` is the whole);
            ``None`` for other grammars and accepted texts.
        hint: what is probably wrong and what to do; empty where nothing is plain.
    """

    accepted: bool
    offset: int
    line: int
    column: int
    expected: tuple[str, ...]
    rule_path: tuple[str, ...]
    message: str
    pointer: str | None = None
    hint: str = ""

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


def with_hint(found: Explanation, pointer: str | None, hint: str) -> Explanation:
    """An explanation that says the place in the value, too, and what to do."""
    lines = [found.message]
    if pointer:
        shown = pointer if len(pointer) <= _CONTEXT else "..." + pointer[-_CONTEXT:]
        lines.append(f"at {shown} of the text")
    if hint:
        lines.append(f"hint: {hint}")
    return replace(found, message="\n".join(lines), pointer=pointer, hint=hint)


def no_utf8(data: bytes, offset: int) -> str:
    """A hint on a text that is not UTF-8 at a place; empty if that is not what is wrong there."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if error.start <= offset <= error.end + 1:
            byte = f"byte {error.start} (0x{data[error.start]:02X})"
            return f"the text is not UTF-8 from {byte} on; save it as UTF-8"
    return ""


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
        parts.append(open_rules(path))
    return "\n".join(parts)


def open_rules(path: Iterable[str]) -> str:
    """The rules that are open, as a line of a message; copies of a rule are called as it is."""
    named = [name if name.startswith("#") else _COPY.sub("", name) for name in path]
    return "in " + " > ".join(n for i, n in enumerate(named) if not i or named[i - 1] != n)


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
    if len(before) > _BEFORE:
        before = "..." + before[-_BEFORE:]
    if len(after) > _BEHIND:
        after = after[:_BEHIND] + "..."
    before, after = before.translate(_VISIBLE), after.translate(_VISIBLE)
    return ["  " + before + after, "  " + " " * sum(map(_cells, before)) + "^"]


def _cells(character: str) -> int:
    """Columns of a terminal that a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# -- what could have come --------------------------------------------------------------------------


def expectations(recognizer: Recognizer, state: int) -> tuple[str, ...]:
    """What may come at a state, in words: few ways are spelled out, many are given as ranges.

    Blanks are told where they are all that may come or some of them may not: between the parts of most
    notations they may stand anywhere, which helps nobody.
    """
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
    out += _listed(recognizer, groups)
    if len(out) > _MOST_EXPECTED + 1:
        out = [*out[:_MOST_EXPECTED], f"{len(out) - _MOST_EXPECTED} other things"]
    return tuple(dict.fromkeys(out))


def _listed(recognizer: Recognizer, groups: Mapping[int, list[int]]) -> list[str]:
    """The bytes that may come, by the states they lead to, in words and ranges."""
    words: dict[str, int] = {}
    alone: set[int] = set()  # characters of which it does not matter what comes next
    wide: set[int] = set()
    for after, found in groups.items():
        letters = [byte for byte in found if byte < 0x80]
        if len(letters) > _WIDE:
            wide.update(found)
        elif len(found) > 2 or (found[0] >= 0x80 and len(groups) > 1 and len(found) > 1):
            alone.update(found)
        else:
            _add_words(recognizer, found, after, words, alone)
    blanks = {word for word in words if not word.strip()} | {chr(b) for b in alone if b in _BLANKS}
    inside = [word for word in words if word[:1].isspace() and word.strip()]
    known = {*words, *map(chr, alone)}
    for word in inside:  # a blank before what may come without it, too
        if any(other.startswith(word.strip()) for other in known if not other[:1].isspace()):
            blanks.add(word[0])
            del words[word]
    for blank in blanks:
        words.pop(blank, None)
    alone -= _BLANKS
    if wide:
        words.pop(_BEYOND, None)
        alone -= {byte for byte in alone if byte >= 0x80 or chr(byte).isalnum()}
        every = {byte for found in groups.values() for byte in found}
        entries = [(min(wide), _any_character(every)), *((b, repr(chr(b))) for b in sorted(alone))]
    else:
        entries = [(ord(first), said) for first, said in _ranges(alone)]
    entries += [(first, _quoted(word)) for word, first in words.items()]
    out = [said for _, said in sorted(entries, key=lambda entry: entry[0])]
    return [*out, *([] if wide else _of_blanks(blanks, bool(out)))]


def _add_words(
    recognizer: Recognizer, found: list[int], after: int, words: dict[str, int], alone: set[int]
) -> None:
    """One or two bytes that lead to one state, with all that is forced after them."""
    pair = {chr(byte) for byte in found}
    if len(found) == 2 and len({char.upper() for char in pair}) == 1:
        words[_word(recognizer, found[0], after, cased=False)] = found[0]
        return
    for byte in found:
        word = _word(recognizer, byte, after)
        if len(word) == 1 and word.isascii():
            alone.add(byte)
        words.setdefault(word, byte)
        if len(word) == 1 and word.isascii():
            del words[word]


def _any_character(every: set[int]) -> str:
    """A class of most characters, without those that may not come at all."""
    missing = [chr(byte) for byte in range(0x20, 0x7F) if byte not in every]
    named = " ".join(map(repr, missing[:_MOST_MISSING]))
    more = " ..." if len(missing) > _MOST_MISSING else ""
    kind = "character" if any(byte >= 0x80 for byte in every) else "ASCII character"
    return f"any {kind}" + (f" except {named}{more}" if missing else "")


def _of_blanks(blanks: set[str], others: bool) -> list[str]:
    spaces = any(blank in " \t\x0c" for blank in blanks)
    breaks = any(blank.strip(" \t\x0c") for blank in blanks)
    if spaces and breaks and others:
        return []
    if len(blanks) == 1 and not others:
        return [repr(*blanks)]
    return [*(["a blank"] if spaces else []), *(["a line break"] if breaks else [])]


def _quoted(word: str) -> str:
    return word if word == _BEYOND else repr(word) if _EITHER not in word else _either(word)


def _either(word: str) -> str:
    return f"{word.replace(_EITHER, '')!r} in either case"


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


def _word(recognizer: Recognizer, byte: int, state: int, *, cased: bool = True) -> str:
    """The byte with all that is forced after it; letters whose case is free are capitals.

    Args:
        recognizer: of the grammar.
        byte: the first byte.
        state: behind it.
        cased: whether only this byte may come, and not the same letter in the other case, too.
    """
    word = bytearray([byte])
    while len(word) < _LONGEST_WORD and not recognizer.accepting[state]:
        ways = next_bytes(recognizer, state)
        letters = {bytes((b,)).upper() for b in ways if b < 0x80}
        if len(ways) == 2 and len(letters) == 1 and len(set(ways.values())) == 1:
            cased = False
        elif len(ways) != 1:
            break
        byte, state = next(iter(ways.items()))
        word.append(byte)
    try:
        return word.decode() if cased else word.decode().upper() + _EITHER
    except UnicodeDecodeError as error:
        return word[: error.start].decode() or _BEYOND


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


def _ranges(values: Iterable[int]) -> list[tuple[str, str]]:
    """Single bytes as ranges of characters, each with its first character."""
    out: list[tuple[str, str]] = []
    run: list[int] = []
    for value in [*sorted(v for v in values if v < 0x80), 999]:
        if run and (value != run[-1] + 1 or not chr(value).isalnum() or not chr(run[-1]).isalnum()):
            out += _run(run)
            run = []
        run.append(value)
    if any(v >= 0x80 for v in values):
        out.append(("\x80", _BEYOND))
    return out


def _run(run: list[int]) -> list[tuple[str, str]]:
    if len(run) > 2:
        return [(chr(run[0]), f"{chr(run[0])!r} to {chr(run[-1])!r}")]
    return [(chr(v), repr(chr(v))) for v in run]


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
