"""What lark's refusals mean and what to do about them, in the words of those who wrote the grammar."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from grammars.frontends.advice import suggestion

COMMON: Final = (
    "DIGIT", "HEXDIGIT", "INT", "SIGNED_INT", "DECIMAL", "FLOAT", "SIGNED_FLOAT", "NUMBER",
    "SIGNED_NUMBER", "ESCAPED_STRING", "LCASE_LETTER", "UCASE_LETTER", "LETTER", "WORD", "CNAME",
    "WS_INLINE", "WS", "CR", "LF", "NEWLINE", "SH_COMMENT", "CPP_COMMENT", "C_COMMENT", "SQL_COMMENT",
)  # fmt: skip
"""The terminals of lark's own ``common``."""

_TEXT_OR_PATTERN: Final = re.compile(
    r"//[^\n]*|\"(?:\\.|[^\"\\\n])*\"i?|/(?!/)(?:\\.|[^/\\\n])*/[imslux]*"
)
_UNDEFINED: Final = re.compile(r"(?:Rule|Terminal) '(\w+)' used but not defined")
_RULE_IN_TERMINAL: Final = re.compile(
    r"Rules aren't allowed inside terminals \(NonTerminal\('(\w+)'\) in (\w+)\)"
)
_TEMPLATE: Final = re.compile(r"Wrong number of template arguments used for (\w+) \((.*?)\)")
_MIXED_NAME: Final = re.compile(r"\s*[?!]{0,2}(\w*[a-z]\w*)\s*(?:\.\d+)?\s*:")
_EQUALS: Final = re.compile(r"\s*[?!]{0,2}(\w+)\s*(?::?=)")
_NO_COLON: Final = re.compile(r"\s*[?!]{0,2}(\w+)\s+[\0\w(\[]")
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}


def refusal(
    message: str, text: str, names: Sequence[str]
) -> tuple[str, str | None, str | None] | None:
    """A refusal of lark that is about names.

    Args:
        message: lark's.
        text: the grammar.
        names: the names in it.

    Returns:
        What to say; the name that it is about; and the name in whose definition that one stands, where it
        is not the definition that it is about.  ``None`` for other refusals.
    """
    if found := _UNDEFINED.search(message):
        return _undefined(found[1], text, names), found[1], None
    if found := _RULE_IN_TERMINAL.search(message):
        rule, terminal = found[1], found[2]
        said = (
            f"terminal {terminal} refers to the rule {rule!r}, and a terminal is made of texts, "
            f"patterns and terminals only; name it {rule.upper()} (a terminal), or {terminal} in lower "
            "case (a rule)"
        )
        return said, rule, terminal
    if found := _TEMPLATE.search(message):
        said = f"template {found[1]!r} is used with another number of arguments than it has ({found[2]})"
        inside = re.search(r"\(in (?:rule|terminal) (\w+)", message)
        return f"{said}; give it as many", found[1], inside[1] if inside else None
    return None


def _undefined(name: str, text: str, names: Iterable[str]) -> str:
    if re.search(rf"^\s*%import\s+common\s*\.\s*{name}\b", text, re.MULTILINE):
        return f"lark's common has no {name}{suggestion(name, COMMON)}"
    if re.search(rf"^\s*%import\b.*\b{name}\b", text, re.MULTILINE):
        return f"the grammar that {name} is imported from does not define it"
    if not name.isupper():
        others = [other for other in names if other != name and not other.isupper()]
        return (
            f"rule {name!r} is not defined; define it with '{name}: ...'{suggestion(name, others)}"
        )
    if name in COMMON:
        return f"terminal {name!r} is not defined; import it with '%import common.{name}'"
    others = [other for other in names if other != name and other.isupper()]
    return f"terminal {name!r} is not defined; define it with '{name}: /.../'" + suggestion(
        name, [*others, *COMMON]
    )


def syntax(row: str, column: int, reason: str) -> str | None:
    """What is wrong with a line that lark cannot read, and what to do.

    Args:
        row: the line.
        column: where lark stopped reading, from 1.
        reason: lark's.

    Returns:
        ``None`` if that is not plain.
    """
    bare = _TEXT_OR_PATTERN.sub(lambda found: "\0" * len(found.group()), row)
    here = row[column - 1 : column]
    if here in {"\u2018", "\u2019", "\u201c", "\u201d", "`"}:
        return 'Lark writes texts in double quotes: "..."'
    if bare.rstrip().endswith(";"):
        return "Lark ends a rule with the line, without a semicolon"
    if '"' in bare:
        return f"the text that begins in column {bare.index(chr(34)) + 1} has no closing quote; add '\"'"
    if found := _EQUALS.match(bare):
        return f"write '{found[1]}: ...'"
    if (found := _MIXED_NAME.match(bare)) and not found[1].islower():
        name = found[1]
        return (
            f"a name is all lower case (a rule) or all upper case (a terminal): write {name.lower()!r} or "
            f"{name.upper()!r}"
        )
    if "/" in bare:
        return (
            f"the pattern that begins in column {bare.index('/') + 1} has no closing '/'; add it (a '/' "
            "in a pattern is written \\/)"
        )
    opened: list[int] = []
    for at, sign in enumerate(bare):
        if sign in _OPENING:
            opened.append(at)
        elif sign in _OPENING.values() and opened:
            opened.pop()
        elif sign in _OPENING.values():
            return f"the '{sign}' in column {at + 1} closes nothing; take it out"
    if opened and ("Unclosed" in reason or "_NL" in reason or not here.strip()):
        sign = bare[opened[-1]]
        return f"the '{sign}' in column {opened[-1] + 1} is not closed; add '{_OPENING[sign]}'"
    if "missing colon" in reason and (found := _NO_COLON.match(bare)):
        return f"a rule is written '{found[1]}: ...', with one name before the colon"
    return None
