"""Which notation a grammar text is in, told to those who gave it to the reader of another.

People carry grammars between tools whose notations look alike.  When a text cannot be read, the first
question is whether it is in another notation, and the second whether something of another dialect stands
where the reading ended.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

Notation: TypeAlias = Literal["gbnf", "lark", "json", "ebnf"]

_SIGNS: Final[tuple[tuple[Notation, re.Pattern[str]], ...]] = (
    ("json", re.compile(r"\A\s*\{\s*(?:\"|\})")),
    ("gbnf", re.compile(r"^[ \t]*[A-Za-z][\w-]*[ \t]*::=", re.MULTILINE)),
    ("ebnf", re.compile(r"^[ \t]*[A-Za-z][\w -]*(?:=|:=)[^;]*;[ \t]*$", re.MULTILINE)),
    (
        "lark",
        re.compile(
            r"^[ \t]*(?:[?!]{0,2}_?[A-Za-z]\w*(?:\{[^}\n]*\})?(?:\.-?\d+)?[ \t]*:(?![:=])"
            r"|%(?:ignore|import|declare)\b)",
            re.MULTILINE,
        ),
    ),
)
_READERS: Final[dict[Notation, str]] = {
    "gbnf": "this looks like GBNF (name ::= ...): read it with Grammar.from_gbnf",
    "lark": "this looks like Lark (name: ...): read it with Grammar.from_lark",
    "json": "this looks like a JSON Schema: read it with Grammar.from_json_schema",
    "ebnf": "this looks like EBNF (name = ... ;): in GBNF write name ::= ... without a semicolon, in "
    "Lark name: ...",
}
_IN_LARK: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (
        re.compile(r"[\w\")\]]\{\d*,?\d*\}"),
        "Lark repeats with ~ (x~2..3); {2,3} is llguidance's: dialect='llguidance'",
    ),
    (
        re.compile(r"(?<![/\\\w])\[(?:\^|[^\[\]\"]*?-)[^\[\]\"]*\]"),
        "in Lark a class of characters is a pattern: /[0-9]/",
    ),
    (re.compile(r"'[^']*'"), 'Lark writes texts in double quotes: "..."'),
    (re.compile(r"\(\?[a-z!=<:]"), "in Lark a pattern stands between slashes: /(?i:...)/"),
    (
        re.compile(r"[\w\")]\s*&\s*[~\w\"(]|~[\w\"(]"),
        "intersections (&) and complements (~) are llguidance's: dialect='llguidance'",
    ),
    (re.compile(r"%(?:json|regex|llguidance)\b"), "that is llguidance's: dialect='llguidance'"),
)
_IN_GBNF: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (
        re.compile(r"\[\[?:\w+:\]?\]|\\[dws]"),
        "GBNF has no named classes; write the characters: [0-9], [A-Za-z]",
    ),
    (
        re.compile(r"\b(?:Regex|TagDispatch|EBNF)\s*\(|(?:^|\s)\(\*"),
        "that is xgrammar's EBNF: dialect='xgrammar'",
    ),
    (re.compile(r"\(\?[a-z!=<:]"), "GBNF has no patterns; write the characters, such as [Aa]"),
    (re.compile(r"\"\s*,"), "GBNF writes a sequence with blanks between, not with commas"),
    (re.compile(r"/\*|//"), "GBNF has comments from # to the end of the line"),
    (re.compile(r";\s*$"), "GBNF ends a rule with the line, without a semicolon"),
)
_TEXT: Final = re.compile(r'"(?:\\.|[^"\\])*"')


def other_notation(text: str, expected: Notation) -> str | None:
    """What to do with a text that is in another notation; ``None`` if it does not look like one.

    Args:
        text: a grammar text that could not be read.
        expected: the notation that it was read in.
    """
    for notation, sign in _SIGNS:
        if sign.search(text) is not None:
            return None if notation == expected else _READERS[notation]
    return None


def other_dialect(line: str, notation: Literal["gbnf", "lark"]) -> str | None:
    """What a line has that another dialect has, and its equivalent here; ``None`` if nothing is known."""
    if notation == "gbnf":
        line = _TEXT.sub('""', line)
    for sign, advice in _IN_LARK if notation == "lark" else _IN_GBNF:
        if sign.search(line) is not None:
            return advice
    return None


def without_mark(text: str) -> str:
    """A text without the byte order mark that some editors write first."""
    return text.removeprefix("\ufeff")
