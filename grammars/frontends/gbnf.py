"""GBNF, the grammar notation of llama.cpp.

Where llama.cpp accepts a text and then ignores part of it (a rule defined twice, a range written
backwards, an empty class), this front end refuses, and upper bounds of repetitions are exact.

``<|call|>`` and ``<[7]>`` are tokens of the vocabulary, by name and by id (:mod:`grammars.special_tokens`).
``!<|call|>`` is any other token; how much text one token has differs from vocabulary to vocabulary, so it
stands under ``*`` or ``+`` only, as any text without that token.  Of special tokens it takes those that the
grammar names elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from grammars.compiling.analysis import check_count
from grammars.errors import GrammarError
from grammars.frontends.advice import suggestion, undefined_rules
from grammars.frontends.notations import other_dialect, other_notation, without_mark
from grammars.frontends.regex.lookaround import locate
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    MAX_CODE_POINT,
    Expr,
    GrammarIR,
    Literal,
    Nothing,
    Ref,
    Rule,
    Span,
    alt,
    chars,
    not_chars,
    repeat,
    seq,
    text,
)
from grammars.special_tokens import framed, name_of

_BLANK: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_INTEGER: Final = re.compile(r"[0-9]+")
_PLAIN_CHARACTERS: Final = re.compile(r'[^"\\\r\n\ud800-\udfff]*')
_TOKEN: Final = re.compile(r"<[^<>\r\n]+>")
_ID: Final = re.compile(r"<\[([0-9]{1,9})\]>")
_REPEATED: Final = re.compile(r"(?:[ \t\r\n]*\))*[*+]")
"""What may follow a negated token, groups around it closed."""
_OTHER: Final = "_any text but "
_MOST_NAMES: Final = 8
_HEX: Final = re.compile(r"[0-9A-Fa-f]*")
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", **{c: c for c in '\\"[]-'}}
_SIGNS: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def gbnf_to_ir(source: str, start: str = "root", given: Iterable[str] = ()) -> GrammarIR:
    """The rules of a GBNF text.

    Args:
        source: the text.
        start: the rule to start from.
        given: names of rules that it refers to and does not define.

    Raises:
        GrammarError: with line and column, for text that is not GBNF, undefined or repeated rules,
            and negated tokens that are not repeated.
    """
    if not isinstance(source, str):
        raise TypeError(f"a grammar must be str, not {type(source).__name__}: {source!r:.80}")
    if not isinstance(start, str):
        raise TypeError(f"start must be the name of a rule, not {start!r:.80}")
    source = without_mark(source)
    parser = _Parser(source)
    try:
        rules = parser.rules()
    except GrammarError as error:
        raise _with_hint(error, source) from None
    except RecursionError:
        line, column = locate(source, min(parser.at, len(source)))
        raise GrammarError(
            "groups are nested too deeply here; give inner parts rules of their own",
            line=line,
            column=column,
        ) from None
    given = list(given)
    names = [*(rule.name for rule in rules), *given]
    for name in given:
        if name in parser.defined:
            raise parser.error(
                f"rule {name!r} is defined in the text and given with rules=; rename or remove one",
                parser.defined[name],
            )
    missing = [name for name in parser.references if name not in {*parser.defined, *given}]
    if missing:
        raise parser.error(undefined_rules(missing, names), parser.references[missing[0]])
    for name in given:
        if name not in parser.references:
            raise GrammarError(f"rules= gives {name!r}, which nothing refers to; take it out")
    if start not in parser.defined:
        raise GrammarError(
            f"there is no rule {start!r} to start from; define it with '{start} ::= ...' or name "
            f"another with start={_listed(names)}{suggestion(start, names)}",
            line=1,
            column=1,
        )
    rules += parser.rules_of_other_tokens()
    return GrammarIR(tuple(rules), start, tokens=tuple(parser.tokens))


def _with_hint(error: GrammarError, source: str) -> GrammarError:
    """An error, with what to do if the text is in another notation or has something of one."""
    rows = source.splitlines()
    row = rows[error.line - 1] if error.line is not None and error.line <= len(rows) else ""
    hint = other_notation(source, "gbnf") or other_dialect(row, "gbnf")
    if hint is None:
        return error
    return GrammarError(f"{error.message}; {hint}", line=error.line, column=error.column)


def _listed(names: list[str]) -> str:
    """The names that there are, as the end of a message."""
    if not names:
        return ", but there are no rules"
    return ": " + ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")


class _Parser:
    """Recursive descent over the text; ``at`` is the position."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.at = 0
        self.references: dict[str, int] = {}
        self.defined: dict[str, int] = {}
        self.tokens: dict[str, None] = {}
        self._without: dict[str, None] = {}
        self._long_string: int | None = None

    def error(self, message: str, offset: int | None = None) -> GrammarError:
        line, column = locate(self._source, self.at if offset is None else offset)
        if self._long_string is not None:
            begun, _ = locate(self._source, self._long_string)
            if begun < line:
                message += f" (a string begun in line {begun} runs over the end of its line)"
        return GrammarError(message, line=line, column=column)

    # -- characters -----------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> str:
        """The character here, or the empty text at the end."""
        at = self.at + ahead
        return self._source[at : at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._source, self.at)
        if not found:
            return ""
        self.at = found.end()
        return found.group()

    def _blank(self, newlines: bool) -> None:
        self._skip(_BLANK_LINES if newlines else _BLANK)

    def _here(self) -> str:
        """What stands here, for messages."""
        rest = self._source[self.at : self.at + 20].split("\n", 1)[0].rstrip("\r")
        if rest:
            return repr(rest)
        return "the end of the line" if self._peek() else "the end of the text"

    # -- rules ----------------------------------------------------------------------------------

    def rules(self) -> list[Rule]:
        out: list[Rule] = []
        self._blank(newlines=True)
        while self._peek():
            out.append(self._rule())
        return out

    def _rule(self) -> Rule:
        offset = self.at
        name = self._skip(_NAME)
        if not name:
            advice = "write 'name ::= ...'"
            if self._peek() == "|":
                advice = "a rule ends with its line; end the line before with '|' or use '(...)'"
            elif self._peek() == "<":
                advice = "GBNF has no angle brackets around the names of rules: name ::= ..."
            raise self.error(f"expected a rule, found {self._here()}; {advice}")
        if name in self.defined:
            line, _ = locate(self._source, self.defined[name])
            raise self.error(
                f"rule {name!r} is defined twice, first in line {line}; rename or remove one",
                offset,
            )
        self.defined[name] = offset
        self._blank(newlines=False)
        if not self._source.startswith("::=", self.at):
            raise self.error(
                f"expected '::=' after rule name {name!r}, found {self._here()}; write '{name} ::= ...'"
            )
        self.at += 3
        self._blank(newlines=True)
        body = self._alternatives(nested=False)
        if self._peek() and self._peek() not in "\r\n":
            raise self.error(f"unexpected {self._here()} in rule {name!r}; {self._advice()}")
        self._blank(newlines=True)
        line, column = locate(self._source, offset)
        return Rule(name, body, Span(line, column))

    def _advice(self) -> str:
        match self._peek():
            case ")":
                return "no '(' is open here"
            case "]":
                return "no '[' is open here; inside a class write \\]"
            case ":":
                return 'the rule before it has no body: write "" for the empty text'
            case "'" | "\u2018" | "\u2019" | "\u201c" | "\u201d" | "`":
                return 'write strings in double quotes: "..."'
            case "*" | "+" | "?" | "{":
                return "write what is repeated before it"
            case "/":
                return "regular expressions are not part of GBNF; use classes and repetitions"
        return "expected a string, a class, a group, a rule name or the end of the line"

    def _alternatives(self, *, nested: bool) -> Expr:
        out = [self._sequence(nested=nested)]
        while self._peek() == "|":
            self.at += 1
            self._blank(newlines=True)
            out.append(self._sequence(nested=nested))
        return alt(*out)

    def _sequence(self, *, nested: bool) -> Expr:
        items: list[Expr] = []
        while True:
            offset = self.at
            here = self._peek()
            if here in _SIGNS or here == "{":
                low, high = self._bounds(nested)
                if not items:
                    raise self.error(
                        f"nothing to repeat before {here!r}; write what is repeated before it",
                        offset,
                    )
                items[-1] = repeat(items[-1], low, high)
            else:
                item = self._item()
                if item is None:
                    return seq(*items)
                items.append(item)
            self._blank(nested)

    def _item(self) -> Expr | None:
        here = self._peek()
        match here:
            case '"':
                return self._string()
            case "[":
                return self._class()
            case "(":
                return self._group()
            case ".":
                self.at += 1
                return ANY_CHAR
            case "<":
                return Literal(framed(self._token()))
            case "!":
                return self._other_tokens()
        offset = self.at
        name = self._skip(_NAME)
        if not name:
            return None
        self.references.setdefault(name, offset)
        return Ref(name)

    # -- tokens ---------------------------------------------------------------------------------

    def _token(self) -> str:
        """A token in angle brackets: its name is written with them, an id in square brackets within."""
        offset = self.at
        written = self._skip(_TOKEN)
        if not written:
            raise self.error("this token is never closed; write <name> or <[id]>", offset)
        by_id = _ID.fullmatch(written)
        if by_id is None and written[1:2] == "[":
            raise self.error(f"bad token {written!r}; an id is written <[7]>", offset)
        name = name_of(int(by_id[1]) if by_id else written)
        self.tokens[name] = None
        return name

    def _other_tokens(self) -> Expr:
        offset = self.at
        self.at += 1
        if self._peek() != "<":
            raise self.error(
                "only a token can be negated, as in !<name>; use [^...] for characters"
            )
        name = self._token()
        if not _REPEATED.match(self._source, self.at):
            raise self.error(
                f"{self._source[offset : self.at]} is one token of any length, which no text is; write "
                f"{self._source[offset : self.at]}* or ...+ for any text without that token",
                offset,
            )
        self._without[name] = None
        return Ref(_OTHER + name)

    def rules_of_other_tokens(self) -> list[Rule]:
        """The rules that negated tokens refer to: a character, or a token named elsewhere."""
        return [
            Rule(
                _OTHER + name,
                alt(ANY_CHAR, *(Literal(framed(t)) for t in self.tokens if t not in self._without)),
            )
            for name in self._without
        ]

    # -- groups ---------------------------------------------------------------------------------

    def _group(self) -> Expr:
        opened = self.at
        self.at += 1
        self._blank(newlines=True)
        inner = self._alternatives(nested=True)
        if self._peek() != ")":
            if not self._peek():
                raise self.error("this '(' is never closed; add ')'", opened)
            line, column = locate(self._source, opened)
            raise self.error(
                f"unexpected {self._here()}; expected ')' for the '(' in line {line}, "
                f"column {column}; add ')'"
            )
        self.at += 1
        return inner

    # -- repetition -----------------------------------------------------------------------------

    def _bounds(self, nested: bool) -> tuple[int, int | None]:
        opened = self.at
        sign = self._peek()
        self.at += 1
        if sign in _SIGNS:
            return _SIGNS[sign]
        self._blank(nested)
        low = self._integer(opened)
        high: int | None = low
        self._blank(nested)
        if self._peek() == ",":
            self.at += 1
            self._blank(nested)
            high = self._integer(opened) if self._peek().isdigit() else None
            self._blank(nested)
        if self._peek() != "}":
            raise self._bad_bounds(opened)
        self.at += 1
        if high is not None and high < low:
            raise self._bad_bounds(opened, f"the upper bound {high} is below the lower bound {low}")
        try:
            check_count(low, high)
        except GrammarError as error:
            line, column = locate(self._source, opened)
            error.locate(line=line, column=column)
            raise
        return low, high

    def _integer(self, opened: int) -> int:
        digits = self._skip(_INTEGER)
        if not digits:
            raise self._bad_bounds(opened)
        if len(digits) > 18:
            raise self._bad_bounds(opened, f"{digits[:18]}... is too large")
        return int(digits)

    def _bad_bounds(self, opened: int, why: str = "") -> GrammarError:
        written = self._source[opened : opened + 20].split("\n", 1)[0].split("}", 1)
        quoted = repr(written[0] + ("}" if len(written) > 1 else ""))
        message = f"bad repetition {quoted}"
        if why:
            message += f": {why}"
        return self.error(message + "; write {n}, {n,} or {n,m}", opened)

    # -- strings and classes --------------------------------------------------------------------

    def _string(self) -> Expr:
        opened = self.at
        self.at += 1
        out: list[str] = []
        while self._peek() != '"':
            out.append(self._skip(_PLAIN_CHARACTERS))
            offset = self.at
            if self._peek() == '"':
                break
            if not self._peek():
                begun, self._long_string = self._long_string, None
                if begun is not None and begun != opened:
                    raise self.error(
                        "this string runs over the end of its line and takes the quote of a later one; add "
                        "'\"' (a line break in a string is written \\n)",
                        begun,
                    )
                raise self.error("this string is never closed; add '\"'", opened)
            if self._peek() in "\r\n" and self._long_string is None:
                self._long_string = opened
            point = self._character()
            if 0xD800 <= point <= 0xDFFF:
                raise self.error(
                    f"{self._source[offset : self.at]} is half of a surrogate pair, which is not "
                    "a character; write the character itself or \\U with eight digits",
                    offset,
                )
            out.append(chr(point))
        self.at += 1
        written = "".join(out)
        return text(written) if written else EPSILON

    def _class(self) -> Expr:
        opened = self.at
        self.at += 1
        negative = self._peek() == "^"
        if negative:
            self.at += 1
        pairs: list[tuple[int, int]] = []
        while self._peek() != "]":
            offset = self.at
            low = high = self._class_character(opened)
            if self._peek() == "-" and self._peek(1) != "]":
                self.at += 1
                high = self._class_character(opened)
            if high < low:
                raise self.error(
                    f"bad range {self._source[offset : self.at]!r}: its end comes before its start; "
                    "exchange them, or write \\- for the character",
                    offset,
                )
            pairs.append((low, high))
        self.at += 1
        if not pairs:
            raise self.error(
                f"empty class {self._source[opened : self.at]!r}; use . for any character, "
                '"" for the empty text, and \\] for a closing bracket',
                opened,
            )
        made = not_chars(pairs) if negative else chars(pairs)
        if isinstance(made, Nothing):
            raise self.error(
                f"the class {self._source[opened : self.at]!r} has halves of surrogate pairs only, which "
                "are no characters; write the characters themselves or \\U with eight digits",
                opened,
            )
        return made

    def _class_character(self, opened: int) -> int:
        if not self._peek():
            raise self.error("this class is never closed; add ']'", opened)
        return self._character()

    def _character(self) -> int:
        """One character or escape, as a code point."""
        offset = self.at
        here = self._peek()
        self.at += 1
        if here != "\\":
            return ord(here)
        kind = self._peek()
        self.at += 1
        if kind in _ESCAPES:
            return ord(_ESCAPES[kind])
        if kind not in _HEX_DIGITS:
            known = '\\n \\r \\t \\\\ \\" \\[ \\] \\- \\xHH \\uHHHH \\UHHHHHHHH'
            raise self.error(f"unknown escape {here + kind!r}; known are {known}", offset)
        count = _HEX_DIGITS[kind]
        found = _HEX.match(self._source, self.at, self.at + count)
        digits = found.group() if found else ""
        if len(digits) < count:
            raise self.error(
                f"bad escape {self._source[offset : self.at + count]!r}: \\{kind} needs {count} "
                "hexadecimal digits",
                offset,
            )
        self.at += count
        point = int(digits, 16)
        if point > MAX_CODE_POINT:
            raise self.error(
                f"bad escape {self._source[offset : self.at]!r}: the last character is \\U0010FFFF",
                offset,
            )
        return point
