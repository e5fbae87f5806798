"""Partial JSON: the value of a JSON text that has not been written to its end.

Reads a text piece by piece, once, from left to right.  What a value is made of is there as soon as it is
certain: a scalar when its last character is (a number when something follows it), an object or an array
when it is opened, a key when its value begins.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from grammars.errors import GrammarError

_BLANKS: Final = " \t\n\r"
_WORDS: Final = {"true": True, "false": False, "null": None}
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_IN_NUMBERS: Final = re.compile(r"[-+.0-9eE]*")
_IN_WORDS: Final = re.compile(r"[a-z]*")
_HIGH: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u[dD][89abAB][0-9a-fA-F]{2}$")
"""The first half of a character that is written as two, behind backslashes that are escaped."""
_ESCAPES: Final = frozenset('"\\/bfnrtu')


class _Nothing:
    """There is no value yet."""

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = _Nothing()
"""What :attr:`PartialJson.value` is before anything is certain."""


class PartialJson:
    """A JSON text that is being written, and its value so far.

    Args:
        strings: whether strings that are not closed are there, as far as they are written.

    Attributes:
        changes: how often the value has changed; the same number, the same value.
        is_complete: whether the text is one whole value (a number is only after :meth:`finish`).
    """

    def __init__(self, *, strings: bool = False) -> None:
        self._strings = strings
        self._root: Any = NOTHING
        self._open: list[dict[str, Any] | list[Any]] = []
        self._keys: list[str | None] = []
        self._state = "value"
        self._scalar = ""
        self._escape = ""
        self._shows = False
        self._at = 0
        self.changes = 0
        self.is_complete = False

    def feed(self, text: str) -> None:
        """More of the text.

        Raises:
            GrammarError: at the first character with which it cannot become JSON; says where.
        """
        i = 0
        while i < len(text):
            i = self._step(text, i)
        self._at += len(text)
        if self._strings and self._state in ("string", "escape") and not self._is_key():
            self._show(self._so_far())

    def finish(self) -> None:
        """The text ends here.

        Raises:
            GrammarError: if it is not a whole value.
        """
        if self._state in ("number", "word"):
            self._end_scalar("")
        if self._state != "end":
            raise GrammarError(f"the JSON ends too early, at character {self._at}")
        self.is_complete = True

    @property
    def value(self) -> Any:
        """The value so far, a copy of one's own; ``NOTHING`` before it has begun."""
        return _copied(self._root)

    # -- character by character ------------------------------------------------------------------

    def _step(self, text: str, i: int) -> int:
        """Reads on from a place; the place behind what was read."""
        match self._state:
            case "string":
                return self._string(text, i)
            case "escape":
                return self._escaped(text, i)
            case "number" | "word":
                return self._scalar_on(text, i)
        character = text[i]
        if character in _BLANKS:
            return i + 1
        if not self._structure(character):
            raise self._wrong(i, character)
        return i + 1

    def _structure(self, character: str) -> bool:
        """A character between scalars; whether it may stand there."""
        state = self._state
        if state in ("value", "first item"):
            if character == "]" and state == "first item":
                self._close()
                return True
            return self._begin(character)
        if state in ("key", "first key"):
            if character == "}" and state == "first key":
                self._close()
                return True
            if character == '"':
                self._state, self._scalar = "string", ""
                return True
            return False
        if state == "colon" and character == ":":
            self._state = "value"
            return True
        if state == "behind":
            inside = "}" if isinstance(self._open[-1], dict) else "]"
            if character == inside:
                self._close()
                return True
            if character == ",":
                self._state = "key" if inside == "}" else "value"
                self._keys[-1] = None
                return True
        return False

    def _begin(self, character: str) -> bool:
        """A value begins."""
        if character in "{[":
            made: dict[str, Any] | list[Any] = {} if character == "{" else []
            self._put(made)
            self._open.append(made)
            self._keys.append(None)
            self._state = "first key" if character == "{" else "first item"
        elif character == '"':
            self._state, self._scalar, self._shows = "string", "", False
        elif character in "-0123456789":
            self._state, self._scalar = "number", character
        elif character in "tfn":
            self._state, self._scalar = "word", character
        else:
            return False
        return True

    def _close(self) -> None:
        self._open.pop()
        self._keys.pop()
        self._state = "behind" if self._open else "end"
        self.is_complete = not self._open

    # -- scalars -----------------------------------------------------------------------------------

    def _string(self, text: str, i: int) -> int:
        found = _PLAIN.match(text, i)
        assert found is not None
        self._scalar += found[0]
        i = found.end()
        if i == len(text):
            return i
        if text[i] == '"':
            self._end_string()
        elif text[i] == "\\":
            self._state, self._escape = "escape", "\\"
        else:
            raise self._wrong(i, text[i])
        return i + 1

    def _escaped(self, text: str, i: int) -> int:
        character, known = text[i], self._escape
        fine = character in _ESCAPES if known == "\\" else character in "0123456789abcdefABCDEF"
        if not fine:
            raise self._wrong(i, character)
        self._escape += character
        if self._escape[1] != "u" or len(self._escape) == 6:
            self._scalar += self._escape
            self._state, self._escape = "string", ""
        return i + 1

    def _is_key(self) -> bool:
        """Whether the string that is open is a key."""
        return bool(self._open) and isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _end_string(self) -> None:
        whole = json.loads(f'"{self._scalar}"')
        if self._is_key():
            self._keys[-1] = whole
            self._state = "colon"
            return
        self._show(whole)
        self._shows = False
        self._ended()

    def _so_far(self) -> str:
        """The string that is open, without half of a character."""
        whole = _HIGH.sub(r"\1", self._scalar)
        found: str = json.loads(f'"{whole}"')
        return found

    def _show(self, text: str) -> None:
        """A string as it is now, in the place of what was there of it."""
        if not self._shows:
            self._put(text)
            self._shows = True
        elif self._last() != text:
            self._replace(text)

    def _scalar_on(self, text: str, i: int) -> int:
        pattern = _IN_NUMBERS if self._state == "number" else _IN_WORDS
        found = pattern.match(text, i)
        assert found is not None
        self._scalar += found[0]
        i = found.end()
        if i < len(text) or (self._state == "word" and self._scalar in _WORDS):
            self._end_scalar(text[i : i + 1], i)
        return i

    def _end_scalar(self, following: str, i: int = 0) -> None:
        if self._state == "word":
            if self._scalar not in _WORDS:
                raise self._wrong(i, following or self._scalar)
            made: Any = _WORDS[self._scalar]
        else:
            try:
                made = json.loads(self._scalar)
            except ValueError:
                raise self._wrong(i, following or self._scalar) from None
        self._put(made)
        self._ended()

    def _ended(self) -> None:
        """Behind a scalar."""
        self._scalar = ""
        self._state = "behind" if self._open else "end"
        self.is_complete = not self._open

    # -- the value ---------------------------------------------------------------------------------

    def _put(self, made: Any) -> None:
        """A value in the place that is open."""
        self.changes += 1
        if not self._open:
            self._root = made
        elif isinstance(inner := self._open[-1], list):
            inner.append(made)
        else:
            key = self._keys[-1]
            assert key is not None
            inner[key] = made

    def _last(self) -> Any:
        if not self._open:
            return self._root
        inner = self._open[-1]
        return inner[-1] if isinstance(inner, list) else inner[self._keys[-1] or ""]

    def _replace(self, made: Any) -> None:
        if self._open and isinstance(self._open[-1], list):
            self._open[-1].pop()
        self._put(made)

    def _wrong(self, i: int, character: str) -> GrammarError:
        return GrammarError(f"no JSON: {character!r} at character {self._at + i}")


def partial_json(text: str, *, strings: bool = False) -> Any:
    """The value of the beginning of a JSON text.

    Args:
        text: a JSON text, or the beginning of one.
        strings: whether strings that are not closed are there, as far as they are written.

    Returns:
        The value so far: ``{"a": 1}`` of ``{"a": 1, "b": 2``, where 2 may become 23; ``NOTHING`` before
        it has begun.

    Raises:
        GrammarError: for a text that cannot become JSON; says where.
    """
    reader = PartialJson(strings=strings)
    reader.feed(text)
    return reader.value


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in value]
    return value
