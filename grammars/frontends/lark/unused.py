"""Names of a Lark text that the start rule does not lead to."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_STATEMENT: Final = re.compile(
    r"^[ \t]*(?:(?P<define>[!?]{0,2}_?[A-Za-z]\w*)(?:\{[^}\n]*\})?(?:\.-?\d+)?[ \t]*:"
    r"|%(?P<directive>\w+))",
    re.MULTILINE,
)
_WORD: Final = re.compile(
    r"//[^\n]*|\"(?:\\.|[^\"\\\n])*\"i?|/(?!/)(?:\\.|[^/\\\n])*/[imslux]*|->[ \t]*\w+"
    r"|(?P<word>_?[A-Za-z]\w*)"
)


class Unused(NamedTuple):
    """A name that is defined or imported and never used, with its 1-based place."""

    name: str
    line: int
    column: int


def unused_names(text: str, start: str = "start") -> list[Unused]:
    """Rules, terminals and imported names that neither the start rule nor a directive leads to.

    Args:
        text: a Lark grammar that is valid.
        start: the start rule.
    """
    uses: dict[str, set[str]] = {}
    defined: dict[str, int] = {}
    reached = {start}
    statements = list(_STATEMENT.finditer(text))
    for at, found in enumerate(statements):
        end = statements[at + 1].start() if at + 1 < len(statements) else len(text)
        words = _words(text[found.end() : end])
        if found["define"]:
            name = found["define"].lstrip("!?")
            defined.setdefault(name, found.start("define"))
            uses.setdefault(name, set()).update(words)
        elif found["directive"] == "import":
            for name in _imported(text[found.end() : end]):
                defined.setdefault(name, found.start("directive") - 1)
        elif found["directive"] in ("extend", "override"):
            if words:
                uses.setdefault(words[0], set()).update(words[1:])
        else:
            reached.update(words)
    todo = list(reached)
    while todo:
        new = uses.get(todo.pop(), set()) - reached
        reached |= new
        todo += new
    return [_placed(text, name, at) for name, at in defined.items() if name not in reached]


def _words(text: str) -> list[str]:
    return [found["word"] for found in _WORD.finditer(text) if found["word"]]


def _imported(text: str) -> list[str]:
    """Names that an import brings: the last part of each path, or what it is called instead."""
    line = text.split("\n", 1)[0] if "(" not in text.split("\n", 1)[0] else text.split(")", 1)[0]
    alias = re.search(r"->[ \t]*(\w+)", line)
    if alias:
        return [alias[1]]
    if "(" in line:
        return re.findall(r"\w+", line.split("(", 1)[1])
    names = re.findall(r"\w+", line)
    return names[-1:]


def _placed(text: str, name: str, at: int) -> Unused:
    return Unused(name, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))
