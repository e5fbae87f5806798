"""Grammar texts in one form: the same tokens and comments, spaced and indented alike.

Lines stay lines: where an author breaks a rule is a part of how it reads.  What changes is the space between
tokens, the indentation of lines that go on, and blank lines, of which one at a time is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from grammars.errors import GrammarError
from grammars.files import Kind

_GBNF: Final = re.compile(
    r"(?P<comment>#[^\r\n]*)|(?P<text>\"(?:\\.|[^\"\\\r\n])*\"|\[(?:\\.|[^\]\\\r\n])*\])"
    r"|(?P<token>!?<[^<>\r\n]+>)|(?P<sign>[*+?]|\{\s*\d*\s*(?:,\s*\d*\s*)?\})"
    r"|(?P<define>::=)|(?P<name>[A-Za-z0-9_-]+)|(?P<open>\()|(?P<close>\))|(?P<bar>\|)|(?P<any>\.)"
)
_LARK: Final = re.compile(
    r"(?P<comment>//[^\r\n]*|\#[^\r\n]*)|(?P<text>\"(?:\\.|[^\"\\\r\n])*\"i?|/(?!/)(?:\\.|[^/\\\r\n])*/[imslux]*)"
    r"|(?P<arrow>->)|(?P<range>\.\.)|(?P<times>~\s*\d+(?:\s*\.\.\s*\d+)?)|(?P<sign>[*+?](?![A-Za-z_]))"
    r"|(?P<directive>%\w+)|(?P<prefix>[!?]+(?=_?[A-Za-z]))|(?P<name>_*[A-Za-z]\w*|\d+)"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<bar>\|)|(?P<define>:)|(?P<comma>,)|(?P<point>\.-?(?:\d+)?)|(?P<other>\S)"
)
_JSON: Final = re.compile(r"\"(?:\\.|[^\"\\])*\"|[\[\]{},:]|[^\s\[\]{},:\"]+")
_BLANK: Final = re.compile(r"[ \t]+")

Tokens = list[tuple[str, str]]


def formatted(text: str, kind: Kind) -> str:
    """A grammar text in one form, equal in meaning.

    Args:
        text: the text of a grammar that is valid.
        kind: as :data:`grammars.files.KINDS` names it; a regular expression stays as it is, for there
            every blank counts.

    Raises:
        GrammarError: with the line, for what is no token of the notation.
    """
    if kind == "gbnf":
        return _formatted(text, _GBNF, _begins_gbnf, _joined_gbnf)
    if kind == "lark":
        return _formatted(text, _LARK, _begins_lark, _joined_lark)
    if kind == "json":
        return _formatted_json(text)
    return text


def _formatted(
    text: str,
    pattern: re.Pattern[str],
    begins: Callable[[Tokens], bool],
    joined: Callable[[Tokens], str],
) -> str:
    out: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        tokens = _tokens(line, pattern, number)
        if not tokens:
            if out and out[-1]:
                out.append("")
            continue
        indent = ""
        if tokens[0][0] != "comment":
            indent = "" if begins(tokens) else "  " if tokens[0][0] == "bar" else "    "
        elif line[:1] in " \t" and out and out[-1]:
            indent = "    "
        out.append((indent + joined(tokens)).rstrip())
    while out and not out[-1]:
        out.pop()
    return "".join(f"{line}\n" for line in out)


def _tokens(line: str, pattern: re.Pattern[str], number: int) -> Tokens:
    out: Tokens = []
    at = 0
    while at < len(line):
        blank = _BLANK.match(line, at)
        if blank is not None:
            at = blank.end()
            continue
        found = pattern.match(line, at)
        if found is None or found.lastgroup is None:
            raise GrammarError(f"unexpected {line[at]!r}", line=number, column=at + 1)
        out.append((found.lastgroup, found[0]))
        at = found.end()
    return out


# -- GBNF ------------------------------------------------------------------------------------------


def _begins_gbnf(tokens: Tokens) -> bool:
    return [kind for kind, _ in tokens[:2]] == ["name", "define"]


def _joined_gbnf(tokens: Tokens) -> str:
    return _joined(tokens, {"sign": "tight", "close": "tight"}, _gbnf_token)


def _gbnf_token(kind: str, text: str) -> str:
    if kind == "comment":
        return _comment(text, "#")
    return re.sub(r"\s+", "", text) if kind == "sign" else text


def _comment(text: str, mark: str) -> str:
    body = text[len(mark) :]
    return text.rstrip() if not body or body[0] in " #/!=-" else f"{mark} {body}".rstrip()


def _joined(tokens: Tokens, before: Mapping[str, str], shown: Callable[[str, str], str]) -> str:
    """Tokens with one blank between, none before those that ``before`` calls tight, none behind ``(``."""
    out = ""
    last = ""
    for kind, text in tokens:
        gap = "" if not out or last == "open" or before.get(kind) == "tight" else " "
        if kind == "comment" and out:
            gap = "  "
        out += gap + shown(kind, text)
        last = kind
    return out


# -- Lark ------------------------------------------------------------------------------------------


def _begins_lark(tokens: Tokens) -> bool:
    """Whether a line begins a rule, a terminal or a directive."""
    if tokens[0][0] == "directive":
        return True
    kinds = [kind for kind, _ in tokens if kind != "prefix"]
    if kinds[:1] != ["name"] or "define" not in kinds:
        return False
    head = kinds[1 : kinds.index("define")]
    return all(kind in ("point", "name", "open", "close", "comma") for kind in head)


def _joined_lark(tokens: Tokens) -> str:
    """Tokens of a line, spaced as lark's own grammars are."""
    out = ""
    last, written = "", ""
    path = bool(tokens) and tokens[0][1] in ("%import", "%extend", "%override")
    template = False  # within the braces of a template
    for kind, text in tokens:
        tight = kind in ("sign", "close", "comma", "point", "range", "times", "define")
        tight |= last in ("open", "prefix", "range")
        if path and (kind == "point" or last == "point"):
            tight = True
        if kind == "open" and text == "{":
            tight = template = True
        elif kind == "open" and last == "sign" and written == "*":
            tight = False
        if kind == "name" and last == "point" and not path:
            tight = True
        gap = "" if not out or tight else " "
        if kind == "comment":
            gap = "  " if out else ""
            text = _comment(text, "//" if text.startswith("//") else "#")
        elif kind == "times":
            text = re.sub(r"\s+", "", text)
        out += gap + text
        last, written = kind, text
        template &= text != "}"
    return out


# -- JSON ------------------------------------------------------------------------------------------


def _formatted_json(text: str) -> str:
    """JSON with two blanks a level and each token as it was written."""
    out: list[str] = []
    depth = 0
    tokens = [found[0] for found in _JSON.finditer(text)]
    for at, token in enumerate(tokens):
        after = tokens[at + 1] if at + 1 < len(tokens) else ""
        if token in ("{", "["):
            out.append(token)
            if after in ("}", "]"):
                continue
            depth += 1
            out.append("\n" + "  " * depth)
        elif token in ("}", "]"):
            if at and tokens[at - 1] not in ("{", "["):
                depth -= 1
                out.append("\n" + "  " * depth)
            out.append(token)
        elif token == ",":
            out.append(",\n" + "  " * depth)
        else:
            out.append(": " if token == ":" else token)
    return "".join(out) + "\n"
