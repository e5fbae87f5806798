"""What to do about mistakes that people make in every notation: in names, in JSON, in patterns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from json import JSONDecodeError
from typing import Final

from grammars.errors import GrammarError

_CLOSED_BY: Final = {"{": "}", "[": "]"}
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_WORD: Final = re.compile(r"[^\W\d][\w$-]*")
_PYTHON: Final = {"True": "true", "False": "false", "None": "null", "undefined": "null"}
_LINE: Final = 60

_OF_PATTERNS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"missing \)|unterminated subpattern"), "add ')', or write \\( for the character"),
    (re.compile(r"unbalanced parenthesis"), "no '(' is open here; write \\) for the character"),
    (re.compile(r"unterminated character set"), "add ']', or write \\[ for the character"),
    (re.compile(r"multiple repeat"), "take one out, or put what is repeated in (?:...)"),
    (re.compile(r"min repeat greater"), "write the smaller number first"),
    (
        re.compile(r"bad character range"),
        "write the smaller character first, or \\- for the character",
    ),
    (re.compile(r"unknown extension \?<\w"), "Python names groups (?P<name>...)"),
    (
        re.compile(r"unknown extension \?(?:R|\d|&|P>)"),
        "patterns cannot refer to themselves; a Lark grammar or GBNF can",
    ),
    (re.compile(r"unknown extension"), "write (?:...) for a group, \\( for the character"),
    (
        re.compile(r"global flags not at the start"),
        "write them first, or (?i:...) around what they are for",
    ),
    (
        re.compile(r"bad escape \\z"),
        "Python writes \\Z for the end; all of the text is matched anyway",
    ),
    (re.compile(r"bad escape \(end of pattern\)"), "write \\\\ for a backslash"),
    (
        re.compile(r"bad escape"),
        "write the character without the backslash, or \\\\ for a backslash",
    ),
    (re.compile(r"look-behind requires fixed-width"), "write one look-behind for each width"),
)


def suggestion(name: str, known: Iterable[str]) -> str:
    """A name that is spelt much like one that is not known, as the end of a message; or nothing."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, n=1) or [
        other for other in names if other.casefold() == name.casefold() and other != name
    ]
    return f" (did you mean {near[0]!r}?)" if near else ""


def undefined_rules(missing: Sequence[str], known: Iterable[str]) -> str:
    """What to say of rules that are used and not defined, in the order of their first uses: all of them."""
    name, *others = missing
    said = f"rule {name!r} is not defined; define it with '{name} ::= ...'" + suggestion(
        name, known
    )
    shown = ", ".join(repr(other) + suggestion(other, known) for other in others[:5])
    more = ", ..." if len(others) > 5 else ""
    return f"{said}; nor are {shown}{more}" if others else said


def pattern_advice(reason: str, pattern: str, offset: int) -> str:
    """What to do about a pattern that Python's ``re`` refuses, as the end of a message; or nothing.

    Args:
        reason: what ``re`` says.
        pattern: the pattern.
        offset: where it says so.
    """
    if reason.startswith("nothing to repeat"):
        sign = pattern[offset : offset + 1] or "*"
        more = f"; any text at all is .{sign}" if sign in "*+" else ""
        return f": write what is repeated before the {sign!r}, or \\{sign} for the character{more}"
    for sign_of, advice in _OF_PATTERNS:
        if sign_of.search(reason):
            return f": {advice}"
    return ""


def json_error(text: str, error: JSONDecodeError, what: str) -> GrammarError:
    """The error of a text that is not JSON, with what to do.

    Args:
        text: the text.
        error: what ``json`` raised for it.
        what: the beginning of the message: "the schema is not JSON".
    """
    if not text.strip():
        return GrammarError(f"{what}: the text is empty", line=error.lineno, column=error.colno)
    at = error.pos
    if not text[at:].strip() and not error.msg.startswith("Unterminated"):  # report the text's end
        at = len(text.rstrip())
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    reason = _of_json(text, at, error.msg) or error.msg
    row = text.split("\n")[line - 1].strip()
    if len(row) > _LINE:
        begun = max(0, min(column - 1 - _LINE // 2, len(row) - _LINE))
        row = ("..." if begun else "") + row[begun : begun + _LINE] + "..."
    return GrammarError(f"{what}: {reason} (in {row!r})", line=line, column=column)


def _of_json(text: str, at: int, said: str) -> str:
    """What is wrong at a place of a text that is not JSON, in the words of those who wrote it."""
    here = text.rstrip()[at : at + 1]
    before = text[:at].rstrip()
    word = _WORD.match(text, at)
    if said.startswith("Unterminated string"):
        return "this string has no closing quote; add '\"'"
    if said.startswith("Invalid control character"):
        return "a string cannot have a line break or a tab as it is; write \\n or \\t"
    if said.startswith("Invalid \\"):
        return 'JSON knows no such escape; write \\\\ for a backslash, as in "\\\\d" for \\d'
    if said.startswith("Illegal trailing comma"):
        return "take out the comma before the closing bracket"
    if said.startswith("Extra data"):
        return "Extra data: the JSON is complete before this; take it out"
    if not here:
        return f"the text ends too early; add '{_open_brackets(before)}'"
    if here in "}]" and before.endswith(","):
        return f"take out the comma before '{here}'"
    if text.startswith(("//", "/*", "#"), at):
        return "JSON has no comments; take it out"
    if here in "'\u2018\u2019\u201c\u201d`":
        return 'JSON writes texts and keys in double quotes: "..."'
    if word is not None and word.group() in _PYTHON:
        return f"write {_PYTHON[word.group()]}, not {word.group()}"
    if word is not None and said.startswith("Expecting property name"):
        return f'write the key in double quotes: "{word.group()}"'
    if word is not None and said.startswith("Expecting value"):
        return f'write a text in double quotes: "{word.group()}"'
    if said.startswith("Expecting value"):
        return f"a value is missing before {here!r}"
    if said.startswith("Expecting ':'"):
        return "a colon is missing between this key and its value"
    if said.startswith("Expecting ','"):
        if here in "}]":
            return f"'{here}' closes nothing here; '{_open_brackets(before)[:1]}' is what is open"
        return "a comma is missing before this"
    return ""


def _open_brackets(text: str) -> str:
    """What closes the brackets that are open at the end of a text."""
    stack: list[str] = []
    for found in _STRING_OR_BRACKET.findall(text):
        if found in _CLOSED_BY:
            stack.append(_CLOSED_BY[found])
        elif found in "}]" and stack:
            stack.pop()
    return "".join(reversed(stack))
