"""Reference parsers of the library's grammars, and generators of texts for them.

A reference reads a text or refuses it.  Where it is known to read otherwise than the standard that the
grammar follows, or reads what the grammar leaves out, ``left_out`` says why, by a look at the text that has
nothing to do with the grammar.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import csv
import functools
import io
import json
import random
import re
import shutil
import sqlite3
import string
import subprocess
import tomllib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

Reader = Callable[[str], bool]


class MissingReferenceError(Exception):
    """A reference that is not installed."""


@dataclass
class Reference:
    """A parser to compare with.

    Attributes:
        name: what the table calls it.
        make: makes the reader; ``ImportError`` where a package is missing.
        texts: makes a text that the reference is likely to accept.
        left_out: why a text that ours alone accepts (``True``), or the reference alone, may be read
            otherwise; ``None`` if there is no reason.
        wider: whether the reference is known to read more, in too many ways to tell them.
        parameters: what the grammar is loaded with to be compared.
        node: a folder with ``node_modules``, for references in JavaScript.
    """

    name: str
    make: Callable[[Path | None], Reader]
    texts: Callable[[random.Random], str] | None = None
    left_out: Callable[[str, bool], str | None] | None = None
    wider: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    node: Path | None = None
    _made: dict[Path | None, Reader] = field(default_factory=dict, repr=False)

    def reader(self) -> Reader:
        """Whether the reference accepts a text.

        Raises:
            MissingReferenceError: where it is not installed.
        """
        if self.node not in self._made:
            try:
                self._made[self.node] = self.make(self.node)
            except ImportError as error:
                raise MissingReferenceError(f"not installed: {error.name or error}") from None
        return self._made[self.node]


def raising(call: Callable[[str], Any], *errors: type[Exception]) -> Reader:
    """Whether a call takes a text without one of these errors (any ``ValueError`` by default)."""
    caught = errors or (ValueError,)

    def reads(text: str) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call(text)
            except caught:
                return False
        return True

    return reads


def _plain(reads: Reader) -> Callable[[Path | None], Reader]:
    return lambda _: reads


# -- JSON, JSON Lines --------------------------------------------------------------------------


def _no_constant(name: str) -> None:
    raise ValueError(name)


_json: Final = raising(lambda text: json.loads(text, parse_constant=_no_constant))


def _json_lines(text: str) -> bool:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return all(_json(line) for line in lines)


def random_value(rng: random.Random, depth: int = 3) -> Any:
    """A value of JSON."""
    kind = rng.randrange(8 if depth else 5)
    match kind:
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.randint(-(10 ** rng.randint(0, 20)), 10 ** rng.randint(0, 20))
        case 2:
            return rng.uniform(-1, 1) * 10.0 ** rng.randint(-30, 30)
        case 3 | 4:
            return "".join(rng.choice('ab "\\\n\té\u2028😀/\x7f') for _ in range(rng.randint(0, 8)))
        case 5 | 6:
            return {
                str(random_value(rng, 0)): random_value(rng, depth - 1)
                for _ in range(rng.randint(0, 4))
            }
    return [random_value(rng, depth - 1) for _ in range(rng.randint(0, 4))]


def _json_text(rng: random.Random) -> str:
    return json.dumps(
        random_value(rng),
        ensure_ascii=rng.random() < 0.5,
        indent=rng.choice([None, None, 1, "\t"]),
        separators=rng.choice([None, (",", ":"), (" , ", " : ")]),
    )


def _json_lines_text(rng: random.Random) -> str:
    values = [json.dumps(random_value(rng, 2)) for _ in range(rng.randint(0, 4))]
    return rng.choice(["\n", "\r\n"]).join(values) + rng.choice(["", "\n"])


# -- CSV, arithmetic, versions, times of jobs --------------------------------------------------

_csv: Final = raising(
    lambda text: list(csv.reader(io.StringIO(text, newline=""), strict=True)), csv.Error
)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _csv_left_out(text: str, ours: bool) -> str | None:
    if _CONTROLS.search(text):
        return "control characters"
    plain = re.sub(r'(^|[,\r\n])"(?:[^"]|"")*"(?=$|[,\r\n])', r"\1q", text)
    if '"' in plain:
        return "quotation marks inside plain fields"
    return "a carriage return alone ends a line" if re.search(r"\r(?!\n)", plain) else None


def _csv_text(rng: random.Random) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        quoting=rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
        lineterminator=rng.choice(["\r\n", "\n"]),
    )
    for _ in range(rng.randint(0, 4)):
        writer.writerow(
            "".join(rng.choice('ab1 ,"\r\n\té;') for _ in range(rng.randint(0, 6)))
            for _ in range(rng.randint(1, 4))
        )
    return out.getvalue()


_ARITHMETIC: Final = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Div,
    ast.FloorDiv, ast.Mod, ast.Pow, ast.UAdd, ast.USub,
)  # fmt: skip


def _arithmetic(text: str) -> bool:
    if not re.fullmatch(r"[0-9.eE+\-*/%() \t]*", text):
        return False  # names, bases, imaginary numbers, line breaks
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.lstrip(" \t"), mode="eval")
    except (SyntaxError, ValueError):
        return False
    return all(
        isinstance(node, _ARITHMETIC) and not isinstance(getattr(node, "value", 0), str)
        for node in ast.walk(tree)
    )


def _arithmetic_text(rng: random.Random, depth: int = 4) -> str:
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(["0", "1", "12", "3.5", ".5", "5.", "1e9", "2E-3", "007.", "00"])
    left, right = (_arithmetic_text(rng, depth - 1) for _ in range(2))
    match rng.randrange(4):
        case 0:
            return f"({left})"
        case 1:
            return rng.choice("+-") + left
    gap = rng.choice(["", " ", "  "])
    return f"{left}{gap}{rng.choice(['+', '-', '*', '/', '//', '%', '**'])}{gap}{right}"


def _semver(_: Path | None) -> Reader:
    parse = import_module("semver").Version.parse
    return raising(parse, ValueError, TypeError)


def _cronsim(_: Path | None) -> Reader:
    module = import_module("cronsim")
    from datetime import datetime

    def reads(text: str) -> bool:
        if len(text.split()) != 5 and not text.startswith("@"):
            return False  # its dialect has a sixth field
        return raising(lambda t: module.CronSim(t, datetime(2024, 1, 1)), module.CronSimError)(text)

    return reads


def _croniter(_: Path | None) -> Reader:
    parse = import_module("croniter").croniter.expand

    def reads(text: str) -> bool:
        if len(text.split()) != 5 and not text.startswith("@"):
            return False
        return raising(parse, ValueError, KeyError, AttributeError)(text)

    return reads


_CRON_SPACE: Final = "lax in blanks and zeros"


def _cron_left_out(text: str, ours: bool) -> str | None:
    fields = text.split()
    if re.fullmatch(r"@\w+", text, re.IGNORECASE):
        return "nicknames"
    if text != " ".join(fields) and re.sub(r"[ \t]+", " ", text) != " ".join(fields):
        return "blanks around, or other than blanks and tabs"
    if re.search(r"(^|[,\s])\w+/", text):
        return "steps behind single values"
    if re.search(r"\d{3}|[^\x00-\x7f]", text):
        return "digits: others, and zeros before"
    if re.search(r"[#?LW]|(?i:[lwhr])(?![a-z])", text):
        return "L, W, H, R, #, ?"
    if re.search(r"/0*\d\d", text) or re.search(r"/0*[89]$", text):
        return "steps beyond the last value"
    if re.search(r"-", text):
        return "ranges: order, around 0 and 7"
    if len(fields) == 5 and re.fullmatch(r"30|31|\d\d(,\d\d)*", fields[2]):
        return "days that no month of them has"
    return None


def _cron_text(rng: random.Random) -> str:
    def part(low: int, high: int) -> str:
        a, b = sorted((rng.randint(low, high), rng.randint(low, high)))
        step = f"/{rng.randint(1, high)}"
        return rng.choice(["*", str(a), f"{a}-{b}", f"*{step}", f"{a}-{b}{step}", f"{a:02}"])

    bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
    return " ".join(",".join(part(*b) for _ in range(rng.choice((1, 1, 2)))) for b in bounds)


# -- URIs, e-mail, dates -----------------------------------------------------------------------


def _rfc3986(_: Path | None) -> Reader:
    return raising_false(import_module("rfc3986_validator").validate_rfc3986)


def raising_false(call: Callable[[str], Any]) -> Reader:
    """Whether a call gives what is true."""
    return lambda text: bool(call(text))


def _uri_left_out(text: str, ours: bool) -> str | None:
    if text.endswith("\n"):
        return "the reference's $ takes a line feed"
    if "[V" in text:
        return "the reference wants a small v in addresses of the future"
    return None


def _uri_text(rng: random.Random) -> str:
    pick = rng.choice
    word = "".join(pick(string.ascii_letters + "0123456789-._~%") for _ in range(rng.randint(0, 5)))
    word = word.replace("%", "%2f")
    host = pick([word, "127.0.0.1", "[::1]", "[1:2::3:1.2.3.4]", "[v1.a]", "a.b"])
    authority = f"//{pick(['', 'u@', 'u:p@'])}{host}{pick(['', ':', ':80'])}"
    path = "".join("/" + pick(["", "a", word, "a;b", "@:!"]) for _ in range(rng.randint(0, 3)))
    tail = pick(["", "?" + word]) + pick(["", "#?/"])
    return f"{pick(['http', 'a+b', 'x'])}:{pick([authority, '', ''])}{path}{tail}"


def _email(_: Path | None) -> Reader:
    module = import_module("email_validator")

    def check(text: str) -> None:
        module.validate_email(
            text,
            check_deliverability=False,
            allow_smtputf8=False,
            allow_quoted_local=True,
            allow_domain_literal=True,
            allow_empty_local=False,
            test_environment=True,
        )

    return raising(check, module.EmailNotValidError)


def _email_left_out(text: str, ours: bool) -> str | None:
    domain = text.rpartition("@")[2]
    if not text.isascii():
        return "internationalised"
    if "[" not in domain and not re.search(r"[A-Za-z]$", domain):
        return "the reference wants top level domains to end in a letter"
    if "[" not in domain and "." not in domain:
        return "the reference wants a dot in domains"
    if re.search(r"(^|\.)..--", domain):
        return "the reference refuses -- in third place"
    if re.search(r"(?i)(^|\.)(invalid|local|localhost|onion|test|arpa|alt)\.?$", domain):
        return "domains reserved"
    if '"' in text or "\\" in text:
        return "quoted local parts, of which the reference wants fewer escapes"
    if "[" in domain:
        return "addresses in brackets"
    return "the reference's limit of 254" if len(text) > 254 else None


def _email_text(rng: random.Random) -> str:
    words = ["a", "joe", "x-y", "a1", "b_c", "0", "+", "example", "org", "com"]
    local = ".".join(rng.choice(words) for _ in range(rng.randint(1, 3)))
    quoted = '"' + "".join(rng.choice('a b.@\\"') for _ in range(rng.randint(0, 4))) + '"'
    domain = ".".join(rng.choice(words) for _ in range(rng.randint(1, 4)))
    bracket = rng.choice(["[1.2.3.4]", "[IPv6:1::2]", "[IPv6:::]", "[1.2.3.256]"])
    return f"{rng.choice([local] * 4 + [quoted])}@{rng.choice([domain] * 5 + [bracket])}"


_SHAPES: Final = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:[0-5]\d)?",
    "datetime": r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:[0-5]\d)",
}


def _dates(kind: str) -> Reader:
    """The shape by a pattern, what is in it by :mod:`datetime`, which has no year 0 and no leap seconds."""
    import datetime

    shape = re.compile(_SHAPES[kind], re.ASCII)
    parse = getattr(datetime, kind).fromisoformat

    def reads(text: str) -> bool:
        if not shape.fullmatch(text):
            return False
        if "23:59:60" in text:
            if not re.search(r"(Z|z|[+-]00:00|\d)$", text) or re.search(
                r":60[.\d]*[+-](?!00:00)", text
            ):
                return False
            text = text.replace("23:59:60", "23:59:59")
        if kind != "time" and text.startswith("0000"):
            text = "2000" + text[4:]
        return raising(parse)(text.upper())

    return reads


def _date_text(kind: str) -> Callable[[random.Random], str]:
    def text(rng: random.Random) -> str:
        year = rng.choice([0, 1900, 2000, 2023, 2024, 2100, rng.randint(0, 9999)])
        date = f"{year:04}-{rng.randint(1, 13):02}-{rng.choice([1, 28, 29, 30, 31, 32]):02}"
        time = f"{rng.randint(0, 24):02}:{rng.choice([0, 59, 60]):02}:{rng.choice([0, 59, 60]):02}"
        time = rng.choice([time, time, "23:59:60"]) + rng.choice(["", "", ".5", ".123456789"])
        offset = rng.choice(["", "Z", "z", "+00:00", "-23:59", "+24:00", "-01:60"])
        return {"date": date, "time": time + offset, "datetime": f"{date}T{time}{offset}"}[kind]

    return text


def _isodate(_: Path | None) -> Reader:
    module = import_module("isodate")
    return raising(module.parse_duration, ValueError, TypeError, OverflowError)


def _duration_left_out(text: str, ours: bool) -> str | None:
    if re.search(r"[-+.,:]", text):
        return "signs, fractions, forms with - and :"
    if re.search(r"(?i)^P?T?$|T$", text):
        return "no unit at all, or none behind T"
    if re.search(r"[^\x00-\x7f]|^P\d{8}(T\d{6})?$|\n$", text):
        return "other digits, units not named"
    if re.search(r"(?i)\d+Y\d+D|\d+H\d+S|W.", text):
        return "a unit between two others left out, weeks beside days"
    if re.search(r"\d{9}", text):
        return "numbers too large for the reference"
    return "small letters" if re.search(r"[a-z]", text) else None


def _duration_text(rng: random.Random) -> str:
    date = "".join(f"{rng.randint(0, 99)}{unit}" for unit in "YMD" if rng.random() < 0.7)
    time = "".join(f"{rng.randint(0, 99)}{unit}" for unit in "HMS" if rng.random() < 0.7)
    return f"P{rng.choice([date, date, '3W'])}{rng.choice(['', 'T' + time])}"


# -- Markdown, TOML, regular expressions -------------------------------------------------------


def _markdown_table(_: Path | None) -> Reader:
    parser = import_module("markdown_it").MarkdownIt("commonmark").enable("table")

    def reads(text: str) -> bool:
        tokens = [token for token in parser.parse(text) if token.level == 0]
        return [token.type for token in tokens] == ["table_open", "table_close"]

    return reads


def _markdown_left_out(text: str, ours: bool) -> str | None:
    if re.search(r"[\x00\x0b\x0c\x1c-\x1e\x85\u2028\u2029]|\r(?!\n)", text):
        return "other line ends"
    lines = re.split(r"\r?\n", text)
    while lines and not lines[-1].strip():
        lines.pop()
    if any(re.match(r"[ \t]", line) for line in lines) or re.match(r"\s", text):
        return "indentation"
    if not all(re.fullmatch(r"\|.*(?<!\\)\|[ \t]*", line) for line in lines):
        return "rows without a bar at both ends"
    return "blank lines behind" if re.search(r"\n[ \t\r]*\n?[ \t]*$", text) else None


def _markdown_text(rng: random.Random) -> str:
    columns = rng.randint(1, 4)
    letters = ["a", " ", "\\|", "`", "é", "*", "\\"]

    def cell() -> str:
        return rng.choice([" ", ""]) + "".join(rng.choice(letters) for _ in range(3)) + " "

    def row(make: Callable[[], str]) -> str:
        return "|" + "|".join(make() for _ in range(columns)) + "|"

    rows = [row(cell), row(lambda: rng.choice(["---", " :-: ", "-", " --: "]))]
    rows += [row(cell) for _ in range(rng.randint(0, 3))]
    return "\n".join(rows) + rng.choice(["", "\n"])


_toml: Final = raising(tomllib.loads)
_TWICE: Final = re.compile(r"overwrite|twice|immutable|Duplicate|already|Cannot (mutate|declare)")


def _toml_left_out(text: str, ours: bool) -> str | None:
    try:
        tomllib.loads(re.sub(r"\b0000-(?=\d\d-\d\d)", "2000-", text))
    except tomllib.TOMLDecodeError as error:
        if _TWICE.search(str(error)):
            return "keys and tables defined twice"
    else:
        if "0000-" in text:
            return "the reference has no year 0"
    if re.search(r"\d\d:\d\d:\d\d(\.\d+)?z", text):
        return "the reference wants a capital Z"
    return None


_TOML_VALUES: Final = (
    "true", "false", "inf", "-nan", "0", "1_000", "-17", "0xFF", "0b01", "0o7", "1.5", "1e10", "-2.5E-3",
    "1_0.0_1", "1979-05-27", "07:32:00", "2024-02-29T12:00:00Z", "2024-01-01 00:00:00.5+01:00", "'a\\b'",
    "'''x\ny'''", '"""a\nb\\\n  c"""', "''", '""', "'é'", '"\\u00e9\\n"',
)  # fmt: skip


def _toml_value(rng: random.Random, depth: int) -> str:
    kind = rng.randrange(5 if depth else 3)
    if kind < 3:
        return rng.choice(_TOML_VALUES)
    if kind == 3:
        gap = rng.choice([", ", ",\n "])
        return "[" + gap.join(_toml_value(rng, depth - 1) for _ in range(rng.randint(0, 3))) + "]"
    inner = (f"k{i} = {_toml_value(rng, depth - 1)}" for i in range(rng.randint(0, 3)))
    return "{" + ", ".join(inner) + "}"


def _toml_text(rng: random.Random) -> str:
    lines = []
    for i in range(rng.randint(0, 5)):
        pair = f"a{i} = {_toml_value(rng, 2)}"
        lines.append(rng.choice([pair, pair, f"[t{i}.x]", f"[[u{i}]]", "# c", f'"q {i}".b = 1']))
    return "\n".join(lines)


_re: Final = raising(re.compile, re.error, OverflowError, RecursionError, ValueError)
_RE_UNCHECKED: Final = (
    ("bad character range", "ranges out of order"),
    ("min repeat greater than max repeat", "bounds out of order"),
    ("redefinition of group", "groups of the same name"),
)
_RE_MORE: Final = (
    (r"\\[1-9]|\(\?P=|\(\?\(", "references and conditions"),
    (r"\\N", "named characters"),
    (r"\(\?[aims]*[ux]|\(\?[a-z]*-[a-z]*[ux]", "flags u and x"),
    (r"\(\?<[=!]", "look-behind"),
    (r"\{", "{ as text"),
    (r"\(\?P<.*[^\x00-\x7f]", "names in other scripts"),
)


def _re_left_out(text: str, ours: bool) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        return next((why for said, why in _RE_UNCHECKED if said in str(error)), None)
    return next((why for pattern, why in _RE_MORE if re.search(pattern, text, re.DOTALL)), None)


_RE_ATOMS: Final = (
    "a", "b", ".", "\\d", "[a-z]", "[^\\w-]", "\\.", "\\x41", "[]x]", "^", "$", "\\b", "é"
)  # fmt: skip


def _re_text(rng: random.Random, depth: int = 3) -> str:
    if depth == 0:
        return rng.choice(_RE_ATOMS)
    shapes = ["(?:{})", "({})", "(?={})", "(?!{})", "(?>{})", "(?i:{})", "[ab]", "(?#c)a"]
    parts = []
    for _ in range(rng.randint(1, 3)):
        inner = _re_text(rng, depth - 1)
        group = rng.choice(shapes).format(inner) + rng.choice(
            ["", "*", "+?", "{2,3}", "?+", "{,4}"]
        )
        parts.append(rng.choice([inner, group]))
    return rng.choice(["", "|"]).join(parts)


# -- SQL ---------------------------------------------------------------------------------------

_SQL_PIECE: Final = re.compile(
    r"'(?:[^']|'')*'?|\"(?:[^\"]|\"\")*\"?|--[^\n]*|/\*.*?(?:\*/|$)|;|[^'\"\-/;]+|.", re.DOTALL
)
_SYNTAX: Final = re.compile(r"syntax error|unrecognized token|incomplete input|malformed")


def _sql_statements(text: str) -> list[str]:
    """Statements between semicolons, those that are blank left out."""
    statements = [""]
    for piece in _SQL_PIECE.findall(text):
        if piece == ";":
            statements.append("")
        else:
            statements[-1] += piece
    bare = [re.sub(r"--[^\n]*|/\*.*?\*/|\s", "", s, flags=re.DOTALL) for s in statements]
    return [statement for statement, left in zip(statements, bare, strict=True) if left]


def _sqlite(text: str) -> bool:
    """Whether SQLite finds no fault with the syntax of any statement; tables need not exist."""
    statements = _sql_statements(text)
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for statement in statements:
            if "\0" in statement:
                return False
            try:
                connection.execute("EXPLAIN " + statement)
            except sqlite3.ProgrammingError:
                continue  # parameters that are not bound
            except (sqlite3.Error, sqlite3.Warning) as error:
                if _SYNTAX.search(str(error)):
                    return False
    return bool(statements)


_SQL_MORE: Final = (
    (
        r"(?i)\b(collate|glob|regexp|match|isnull|notnull|indexed|returning|replace|abort|fail|ignore)\b",
        "SQLite's own words",
    ),
    (
        r"(?i)\b(begin|end|commit|rollback|savepoint|release|pragma|vacuum|analyze|attach|detach|reindex|explain)\b",
        "other statements",
    ),
    (r"==|<<|>>|->|(?<!\|)\|(?!\|)|&|~|`|[$@#]|\?\d", "SQLite's operators, other parameters"),
    (r"0[xX]|\d_|[xX]'", "numbers in other bases, blobs"),
    (r"[^\x00-\x7f]", "other scripts"),
)


def _sql_left_out(text: str, ours: bool) -> str | None:
    if ours:
        return None
    return next((why for pattern, why in _SQL_MORE if re.search(pattern, text)), None)


def _sqlglot(_: Path | None) -> Reader:
    module = import_module("sqlglot")
    import_module("logging").getLogger("sqlglot").setLevel("CRITICAL")
    return raising(
        lambda text: module.parse(text, error_level=module.ErrorLevel.RAISE),
        module.errors.SqlglotError,
    )


def _sqlglot_left_out(text: str, ours: bool) -> str | None:
    """What ours and SQLite read alike is the reference's own."""
    return "SQLite refuses it, too" if not _sqlite(text) else "SQLite accepts it, too"


def _sql_name(rng: random.Random) -> str:
    return rng.choice(["a", "b", "t", "people", "x1", '"a b"', "key", "first", "s.t"])


def _sql_expression(rng: random.Random, depth: int = 2) -> str:
    pick = rng.choice
    if depth == 0:
        return pick(["1", "'a'", "NULL", "a", "t.a", "2.5e3", "?", "count(*)", '"q"', "TRUE", "-1"])
    left, right = (_sql_expression(rng, depth - 1) for _ in range(2))
    shapes = [
        "{} + {}", "{} = {}", "({} AND {})", "({} OR NOT {})", "f({}, {})", "{} || {}", "({} IS NOT NULL)",
        "({} BETWEEN {} AND 2)", "({} IN ({}, 3))", "({} LIKE {})", "CASE {} WHEN {} THEN 1 ELSE 2 END",
        "CAST({} AS VARCHAR(10))", "EXISTS (SELECT {})", "sum({}) OVER (PARTITION BY {} ORDER BY a)",
    ]  # fmt: skip
    return pick(shapes).format(left, right)


def _sql_text(rng: random.Random) -> str:
    def e() -> str:
        return _sql_expression(rng, rng.randint(0, 2))

    n = functools.partial(_sql_name, rng)
    pick = rng.choice
    where = pick(["", f" WHERE {e()}"])
    query = (
        f"SELECT {pick(['', 'DISTINCT '])}{e()} AS c, {e()} FROM {n()}{pick([' x', ' AS y', ''])}"
    )
    query += pick(["", f" LEFT JOIN {n()} ON {e()}", f", {n()}", f" JOIN {n()} USING (a)"]) + where
    query += pick(
        ["", f" GROUP BY {e()} HAVING {e()}", f" ORDER BY {e()} DESC", " LIMIT 5 OFFSET 2"]
    )
    column = f"{pick(['a', 'b'])} INTEGER{pick(['', ' NOT NULL', ' PRIMARY KEY', ' DEFAULT 0'])}"
    return pick(
        [
            query,
            query,
            f"WITH q AS ({query}) {query};",
            f"{query} UNION ALL {query}",
            f"INSERT INTO t (a, b) VALUES ({e()}, {e()});",
            f"UPDATE t SET a = {e()}, b = {e()}{where}",
            f"DELETE FROM t{where}; {query}",
            f"CREATE TABLE IF NOT EXISTS t ({column}, c TEXT CHECK ({e()}), UNIQUE (c))",
            f"CREATE TABLE t ({column} REFERENCES u (c) ON DELETE CASCADE, FOREIGN KEY (b) REFERENCES v)",
            f"CREATE UNIQUE INDEX i ON t (a DESC, b){where}",
            f"CREATE VIEW v AS {query}",
            pick(
                [
                    "DROP TABLE IF EXISTS t",
                    "ALTER TABLE t ADD COLUMN c INT",
                    "ALTER TABLE t RENAME TO u",
                ]
            ),
        ]
    )


# -- GraphQL -----------------------------------------------------------------------------------


def _graphql(_: Path | None) -> Reader:
    module = import_module("graphql")
    return raising(
        lambda text: module.parse(text, no_location=True), module.GraphQLError, RecursionError
    )


_GRAPHQL_DOCUMENTS: Final = (
    '{ a(x: 1, y: [1.5e3, "s", null, true, E]) { ...F @include(if: $v) b: c } }',
    "query Q($id: ID! = 3, $l: [Int!]! @d) @e(a: {b: $id}) { n(id: $id) { ... on U { x } ... { x } } }",
    "mutation { set(o: {k: [], v: {}}) { ok } } subscription S { s }",
    "fragment F on T @d { a b c }",
    '"""A \\""" block""" type T implements A & B @k(f: "id") { "d" a(x: Int = 1): [T!]! b: U @x }',
    "interface I implements J { a: Int } scalar Date @s(by: 1) union U @d = | A | B",
    "enum E @d { A B @deprecated(reason: \"no\") } input In { a: Int = 3 @d, b: [E] }",
    "directive @d(a: Int = 1) repeatable on | FIELD | OBJECT directive @e on QUERY",
    "schema @a { query: Q mutation: M } extend schema @b extend type T { c: Int } extend union U = C",
    "extend scalar S @d extend enum E { C } extend input In @i extend interface I implements K",
)  # fmt: skip


def _graphql_text(rng: random.Random) -> str:
    text = rng.choice([" ", "\n"]).join(rng.sample(_GRAPHQL_DOCUMENTS, rng.randint(1, 3)))
    return text if rng.random() < 0.5 else re.sub(r" (?=[{}()\[\]:=!|&@])|(?<=[{(\[:]) ", "", text)


_GRAPHQL_MORE: Final = (
    (r"\\u\{|\\u[dD][89a-bA-B]", "escapes of later editions"),
    (r"\{[\s,]*\}", "braces with nothing in them"),
    (r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "control characters"),
    (
        r'"\s*(\{|query|mutation|subscription|fragment)\b',
        "descriptions of operations, of later editions",
    ),
    (r'[\])}"!][\w"]|\w"|[\w\]}"]-|\w\$|[\w)\]}"][\[{]', "parts that touch"),
)


def _graphql_left_out(text: str, ours: bool) -> str | None:
    if re.search(r"\\u[dD][89a-fA-F]", text):
        return "the reference wants surrogates in pairs"
    if ours:
        return None
    return next((why for pattern, why in _GRAPHQL_MORE if re.search(pattern, text)), None)


# -- PDDL, SyGuS -------------------------------------------------------------------------------


def _pddl(_: Path | None) -> Reader:
    """The grammar of the package, without its checks of names and requirements."""
    import lark

    source = import_module("pddl.parser").GRAMMAR_FILE.read_text()
    parsers = [lark.Lark(source, parser="lalr", start=start) for start in ("domain", "problem")]

    def reads(text: str) -> bool:
        return any(raising(parser.parse, lark.exceptions.LarkError)(text) for parser in parsers)

    return reads


_PDDL_TYPED: Final = ("?x ?y - block ?z", "?x", "", "?x - (either a b) ?y - object")


def _pddl_goal(rng: random.Random, depth: int = 2) -> str:
    if depth == 0:
        return rng.choice(["(on ?x b)", "(clear ?x)", "(= ?x ?y)", "(>= (fuel ?x) 3.5)", "(p)"])
    inner = [_pddl_goal(rng, depth - 1) for _ in range(2)]
    shape = rng.choice(
        [
            "(and {} {})",
            "(or {}\n {})",
            "(not {})",
            "(imply {} {})",
            "(forall (?x - t) {})",
            "(exists (?x ?y) {})",
        ]
    )
    return shape.format(*inner)


def _pddl_effect(rng: random.Random) -> str:
    one = [
        "(on ?x ?y)",
        "(not (clear ?x))",
        "(increase (total-cost) (+ 1 (d ?x)))",
        "(assign (f) 0)",
    ]
    one += [f"(when {_pddl_goal(rng, 1)} (p))", "(forall (?z) (not (on ?z ?x)))"]
    return rng.choice([rng.choice(one), f"(and {' '.join(rng.sample(one, 3))})", "()"])


def _pddl_text(rng: random.Random) -> str:
    if rng.random() < 0.5:
        action = (
            f"(:action a-b :parameters ({rng.choice(_PDDL_TYPED)}) :precondition {_pddl_goal(rng)}\n"
            f" :effect {_pddl_effect(rng)})"
        )
        parts = [
            "(:requirements :strips :typing)",
            "(:types a b - object c)",
            "(:constants k - a)",
            f"(:predicates (on {rng.choice(_PDDL_TYPED)}) (clear ?x) (p))",
            "(:functions (fuel ?x) - number (total-cost))",
        ]
        kept = [part for part in parts if rng.random() < 0.6]
        derived = f"(:derived (p ?x) {_pddl_goal(rng)})"
        bodies = " ".join(rng.choice([action, action, derived]) for _ in range(rng.randint(0, 2)))
        return f"(define (domain d1) {' '.join(kept)}\n{bodies}) ; end"
    metric = rng.choice(["", "(:metric minimize (+ (total-cost) 2))"])
    return (
        f"(define (problem p-1)\n (:domain d) {rng.choice(['', '(:objects a b - block c)'])}\n"
        f" (:init (on a b) (not (p)) (= (fuel a) 3)) (:goal {_pddl_goal(rng)}){metric})"
    )


_PDDL_MORE: Final = (
    (r"oneof|:non-deterministic", "non-deterministic effects"),
    (r"\d\.\d+\.\d", "numbers with several points"),
    (r"[\x0b\x0c\x1c-\x1f\x85\xa0\u2000-\u3000]", "other blanks"),
    (r"[\w)-][?:]|\)[\w-]|[\w?]\s*\(\s*(?!\S)|\d[A-Za-z]|[<>=+*/]\w|\s-[\w(]", "parts that touch"),
    (r"=\s+\S+\s+\S+\s*\)", "equality as an effect"),
    (r"either\s*\)|\bobject\b", "types"),
    (r"\(\s*(define|domain|problem)[\w-]", "parts that touch"),
    (
        r"(domain|problem|:action|\()\s+(and|or|not|when|either|domain|problem|define)\b",
        "words as names",
    ),
)


def _pddl_left_out(text: str, ours: bool) -> str | None:
    if ours:
        return "either in lists of names, which the reference has not" if "either" in text else None
    return next((why for pattern, why in _PDDL_MORE if re.search(pattern, text)), None)


def _cvc5_fault(text: str) -> str:
    """What cvc5 says of a problem; empty if nothing."""
    module = import_module("cvc5")
    manager = module.TermManager()
    solver = module.Solver(manager)
    solver.setOption("sygus", "true")
    symbols = module.SymbolManager(manager)
    parser = module.InputParser(solver, symbols)
    try:
        parser.setStringInput(module.InputLanguage.SYGUS_2_1, "(set-logic ALL)" + text, "text")
        while True:
            command = parser.nextCommand()
            if command.isNull():
                return ""
            if command.getCommandName() != "check-synth":
                said = str(command.invoke(solver, symbols))
                if "error" in said:
                    return said
    except RuntimeError as error:
        return str(error) or "refused"


def _cvc5(_: Path | None) -> Reader:
    import_module("cvc5")
    return lambda text: not _cvc5_fault(text)


_SYGUS_TERMS: Final = (
    "(+ x 1)",
    "(* 2 (- y))",
    "(ite (<= x y) x 10)",
    "(let ((z 1) (w x)) (+ z w))",
    "(f x y)",
    "0",
)


def _sygus_text(rng: random.Random) -> str:
    grammar = "\n ((I Int) (B Bool))\n ((I Int (x 0 (Constant Int) (Variable Int) (+ I I)))"
    grammar += " (B Bool ((<= I I) (not B))))"
    a, b = (rng.choice(_SYGUS_TERMS) for _ in range(2))
    commands = [
        f"(constraint (= {a} {b}))",
        f"(constraint (or (> {a} 3) (forall ((k Int) (j Bool)) (=> j (= k {b})))))",
        "(define-fun g ((n Int)) Bool (= n 1))",
        "(assume (not (= x y)))",
        "(declare-var v (_ BitVec 8)) (constraint (= v #x0F)) (constraint (= ((_ extract 3 0) v) #b0101))",
        '(declare-var s String) (constraint (= s "a""b;"))',
        "(define-sort T () (Array Int Bool))",
        "(set-option :verbosity 0)",
        '(set-info :source "me")',
        "(set-feature :grammars true)",
    ]
    synth = f"(synth-fun f ((x Int) (y Int)) Int{rng.choice(['', grammar])})"
    body = " ".join(rng.sample(commands, rng.randint(0, 4)))
    return f"{synth}\n(declare-var x Int) (declare-var y Int)\n{body}\n(check-synth) ; done"


_SYGUS_MORE: Final = (
    (r"\|", "names between bars"),
    (r"\(\s*!", "attributes of terms"),
    (r"[\w)\"][\"#:(]|[)\"][\w+*/<>=.-]", "parts that touch"),
    (r"[^\x00-\x7f]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "other characters"),
    (
        r"set-(info|option|feature)|declare-(fun|const|data)|push|pop|echo|exit|reset|optimize|assert|define",
        "other commands",
    ),
    (r"\b0\d", "zeros in front"),
)


def _sygus_left_out(text: str, ours: bool) -> str | None:
    if ours:
        if "chc-constraint" in text:
            return "chc-constraint, which the reference has not"
        if re.search(r"\(\s*(;[^\n]*\n\s*)*_[\s;]", text):
            return "indices that the reference does not know"
        if re.search(r":[\w-]+;", text):
            return "comments behind keywords, which the reference misreads"
        said = _cvc5_fault(text)
        return (
            None if re.search(r"Expected|Mismatched|got `", said) else "names, sorts and theories"
        )
    return next((why for pattern, why in _SYGUS_MORE if re.search(pattern, text)), None)


# -- references in JavaScript ------------------------------------------------------------------

_SERVER: Final = """
const lines = require('readline').createInterface({input: process.stdin});
(async () => {
  const reads = await (%s)();
  console.log('ready');
  for await (const line of lines) {
    let accepted = false;
    try { accepted = await reads(JSON.parse(line)); } catch (error) { accepted = false; }
    console.log(accepted ? 'yes' : 'no');
  }
})();
"""


def _node_reader(node: Path | None, script: str) -> Reader:
    """A reader in a process of node, one line of JSON a text.

    Args:
        node: a folder with ``node_modules``.
        script: a function that makes the reader.
    """
    if node is None or shutil.which("node") is None:
        raise ImportError("node, or --node", name="node")
    process = subprocess.Popen(
        ["node", "-e", _SERVER % script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=node,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise ImportError("packages of node", name="packages of node")
    atexit.register(process.kill)
    write, read = process.stdin, process.stdout

    def reads(text: str) -> bool:
        write.write(json.dumps(text) + "\n")
        write.flush()
        answer = read.readline().strip()
        if answer not in ("yes", "no"):
            raise RuntimeError(f"node answers {answer!r}")
        return answer == "yes"

    return reads


_TYPESCRIPT: Final = """async () => {
  const ts = require('typescript');
  const kind = ts.SyntaxKind;
  const kinds = [kind.TypeAliasDeclaration, kind.InterfaceDeclaration, kind.EnumDeclaration];
  return text => {
    const file = ts.createSourceFile('a.ts', text, ts.ScriptTarget.Latest);
    return file.parseDiagnostics.length === 0 && file.statements.every(s => kinds.includes(s.kind));
  };
}"""


def _typescript(node: Path | None) -> Reader:
    return _node_reader(node, _TYPESCRIPT)


def _ts_type(rng: random.Random, depth: int = 3) -> str:
    pick = rng.choice
    if depth == 0:
        return pick(
            [
                "string",
                "number",
                "null",
                "'a'",
                "-1",
                "T",
                "A.B",
                "typeof x",
                "10n",
                "`a${T}b`",
                "any",
            ]
        )
    a, b, c = (_ts_type(rng, depth - 1) for _ in range(3))
    shapes = [
        "{a} | {b}", "{a} & {b}", "({a})[]", "[{a}, {b}?]", "[x: {a}, ...y: {b}[]]", "Map<{a}, {b}>",
        "{{ a: {a}; readonly b?: {b} }}", "{{ [k: string]: {a} }}",
        "{{ m<T>(x: {a}, ...r: {b}[]): {c}; new (): {c} }}",
        "((x: {a}, y?: {b}) => {c})", "(new () => {a})", "({a} extends infer U ? {b} : {c})", "keyof {a}",
        "{{ readonly [K in keyof T]?: {a} }}", "{{ -readonly [K in T as {a}]-?: {b} }}", "T[{a}]",
        "readonly ({a})[]",
        "((x: any) => x is {a})", "((this: T) => asserts this is {a})",
    ]  # fmt: skip
    return pick(shapes).format(a=a, b=b, c=c)


def _ts_text(rng: random.Random) -> str:
    t = functools.partial(_ts_type, rng, 2)
    shapes = [
        f"type A = {t()};",
        f"export type A<T extends {t()} = {t()}> = {t()};",
        f"interface I<T> extends J, K<{t()}> {{ a: {t()}; b?(x: {t()}): {t()}, }}",
        f"interface L {{\n  a: {t()}\n  b: {t()} // c\n  (x: {t()}): void\n}}",
        f"type B = {t()}",
        f"declare interface I {{ 'a-b': {t()}; 1: {t()} }}",
        "const enum E { A, B = 3, C = 'x', }",
    ]
    return "\n".join(rng.choice(shapes) for _ in range(rng.randint(1, 3)))


_TS_MORE: Final = (
    (r"//|/\*", "comments in front of words that no line may end before"),
    (r"[^\x00-\x7f]", "names beyond ASCII"),
    (r"\\[u0-9x\r\n]", "other escapes"),
    (
        r"\b(get|set|import|accessor|in|out|const|async|static|public|private|protected|override|module|namespace|global|declare|export|default)\b",
        "modifiers, getters, import types",
    ),
    (r"[;}]?\s*\n|[\]}\w]\s*$|;\s*;|[\w)\]}'\"`>]\s+[\w\[('\"<]", "line ends for semicolons"),
    (r"(?<![\w.])[\w$]+(?=[^\w\s$])|[^\w\s$.](?=[a-z])", "words that touch"),
)


def _ts_left_out(text: str, ours: bool) -> str | None:
    if ours:
        return None
    return next((why for pattern, why in _TS_MORE if re.search(pattern, text)), None)


# -- Mermaid -----------------------------------------------------------------------------------

_MERMAID: Final = """async () => {
  const {JSDOM} = require('jsdom');
  global.window = new JSDOM('').window;
  global.document = global.window.document;
  const mermaid = (await import('mermaid')).default;
  return async text => (await mermaid.parse(text)).diagramType.startsWith('flowchart');
}"""


def _mermaid(node: Path | None) -> Reader:
    return _node_reader(node, _MERMAID)


_MERMAID_NODES: Final = (
    "A", "b1", "C[text]", "D(round text)", "E([x y])", "F[[sub]]", "G[(db)]", "H((circle))", "I(((double)))",
    "J>flag]", "K{choice?}", "L{{hex}}", "M[/lean/]", "N[\\lean\\]", "P[/trap\\]", "R:::red",
    'Q["a (quoted) [text]"]',
)  # fmt: skip
_MERMAID_LINKS: Final = (
    "-->", "---", "-.->", "==>", "--x", "o--o", "<-->", "-- yes -->", "== a b ===", "-. dots .->", "~~~",
    "---->", "-->|text|", '==>|"a|b"|', "-.-", "===",
)  # fmt: skip


def _mermaid_left_out(text: str, ours: bool) -> str | None:
    return "styles of links that are not there" if ours and "linkStyle" in text else None


def _mermaid_text(rng: random.Random) -> str:
    pick = rng.choice

    def chain() -> str:
        nodes = [pick(_MERMAID_NODES) for _ in range(rng.randint(1, 4))]
        return functools.reduce(lambda a, b: f"{a} {pick([*_MERMAID_LINKS, '&'])} {b}", nodes)

    lines = [f"{pick(['graph', 'flowchart'])}{pick([' TD', ' LR', ''])}"]
    for _ in range(rng.randint(1, 5)):
        lines.append(
            pick(
                [
                    chain(),
                    chain(),
                    f"subgraph s1 [A title]\n  direction LR\n  {chain()}\n  end",
                    f"subgraph {pick(['s2', 'x1', ''])}\n{chain()}\nend",
                    "style A fill:#f9f,stroke:#333,stroke-width:4px",
                    "classDef red fill:red\n class A,C red",
                    "linkStyle 0 stroke:#ff3,stroke-width:4px",
                    'click A "https://example.org" "tip" _blank',
                    "%% a comment",
                ]
            )
        )
    return pick(["\n", "\n  "]).join(lines) + pick(["", "\n"])


# -- Cypher ------------------------------------------------------------------------------------


def _graphglot(_: Path | None) -> Reader:
    dialect = import_module("graphglot.dialect").Dialect.get_or_raise("neo4j")
    fault = import_module("graphglot.error").GraphGlotError
    return raising(dialect.parse, fault, ValueError, ArithmeticError, LookupError, AttributeError)


def _antlr_cypher(_: Path | None) -> Reader:
    antlr4 = import_module("antlr4")
    listener_class: Any = import_module("antlr4.error.ErrorListener").ErrorListener
    made = import_module("antlr4_cypher")

    class Raising(listener_class):  # type: ignore[misc]
        def syntaxError(self, *said: Any) -> None:  # noqa: N802
            raise ValueError(said)

    def parse(text: str) -> None:
        lexer = made.CypherLexer(antlr4.InputStream(text))
        parser = made.CypherParser(antlr4.CommonTokenStream(lexer))
        for part in (lexer, parser):
            part.removeErrorListeners()
            part.addErrorListener(Raising())
        parser.script()

    return raising(parse)


def _antlr_cypher_left_out(text: str, ours: bool) -> str | None:
    if ours and re.search(r"(?i)\bunion\b", text):
        return "UNION, which the reference misreads"
    if ours and re.search(r"-\.?\d", text):
        return "a minus that touches a number, which the reference takes for its sign"
    if ours and re.search(r"//[^\n]*\r|//[^\n]*$", text):
        return "comments, which the reference wants to end in a line feed"
    if ours and re.search(
        r"(?is)\bwith\b(?!.*\b(match|unwind|call|create|merge|set|delete|remove)\b.*\bwith\b).*\bwith\b",
        text,
    ):
        return "WITH behind WITH, which the reference refuses"
    return None


def _cypher_expression(rng: random.Random, depth: int = 2) -> str:
    if depth == 0:
        return rng.choice(
            [
                "1",
                "n.age",
                "'a\\n'",
                '"b"',
                "$p",
                "true",
                "null",
                "[1, 2]",
                "{a: 1}",
                "-1",
                "count(*)",
            ]
        )
    a, b = (_cypher_expression(rng, depth - 1) for _ in range(2))
    shapes = [
        "{} + {}", "{} = {}", "({} AND {})", "({} OR NOT {})", "f({}, {})", "{} <> {}", "{} IS NOT NULL",
        "({}) STARTS WITH {}", "{} IN [{}]", "[x IN {} WHERE {} | x]", "CASE WHEN {} THEN {} ELSE 0 END",
        "any(x IN {} WHERE {})", "({} XOR {})", "collect(DISTINCT {})", "[{}, {}][0]", "xs[1..{}]",
    ]  # fmt: skip
    return rng.choice(shapes).format(a, b)


def _cypher_text(rng: random.Random) -> str:
    def e() -> str:
        return _cypher_expression(rng, rng.randint(0, 2))

    pick = rng.choice
    node = pick(["(n)", "(n:Person)", "(:A:B)", "()", "(n {a: 1})", "(m:Person {name: $x})"])
    edge = pick(
        [
            "-->",
            "<--",
            "--",
            "-[r]->",
            "<-[:KNOWS|LIKES]-",
            "-[r:R*1..3 {a: 1}]->",
            "-[*]-",
            "-[*..2]-",
        ]
    )
    match = f"{pick(['MATCH', 'OPTIONAL MATCH', 'match'])} {pick(['', 'p = '])}{node}{edge}(k)"
    match += pick(["", f" WHERE {e()}", ", (z)"])
    returns = f"RETURN {pick(['', 'DISTINCT '])}{e()} AS x, {e()}"
    returns += pick(["", " ORDER BY x DESC, n.b SKIP 1 LIMIT 10", f" LIMIT {e()}"])
    update = pick(
        [
            f"CREATE {node}-[:R]->(b)",
            f"MERGE {node} ON CREATE SET n.a = {e()} ON MATCH SET n += {{b: 1}}",
            f"SET n.a = {e()}, n:Label",
            "DETACH DELETE n, m",
            "REMOVE n.a, n:Label",
        ]
    )
    middle = f"WITH n, {e()} AS y WHERE {e()}"
    return pick(
        [
            f"{match} {returns}",
            f"{match}\n{middle}\n{match} {returns};",
            f"UNWIND {e()} AS u {returns}",
            f"{match} {update}",
            f"{match} {update} {update} {returns}",
            f"CALL db.labels() YIELD label {returns}",
            f"{returns} UNION ALL {match} {returns}",
            f"{update} // done",
        ]
    )


# -- SMILES ------------------------------------------------------------------------------------


def _rdkit(_: Path | None) -> Reader:
    """RDKit's parser alone: no valences, no aromaticity."""
    import_module("rdkit.RDLogger").DisableLog("rdApp.*")
    chemistry = import_module("rdkit.Chem")

    def reads(text: str) -> bool:
        try:
            return chemistry.MolFromSmiles(text, sanitize=False) is not None
        except (TypeError, UnicodeEncodeError, ValueError):
            return False

    return reads


_MOLECULES: Final = (
    "CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "C1CC2CC1CC2", "C12CC1C2",
    "c1ccc2ccccc2c1", "[NH4+].[Cl-]", "N[C@@H](C)C(=O)O", "C/C=C\\F", "[13CH4]", "C%10CCCC%10",
    "C=1CCCCC=1", "OC[C@H]1OC(O)[C@H](O)[C@@H](O)[C@@H]1O", "[O-][N+](=O)c1ccccc1", "[CH3:1][OH:2]",
    "C#N", "[Fe+2]", "c1cc[nH]c1", "*C", "[*:1]C", "F/C(Cl)=C(/Br)I", "C(C)(C)(C)C", "CC.O", "C(.O)C",
    "[se]1cccc1", "N#[N+][O-]", "[Pt@SP1](F)(Cl)(Br)I", "[2H]O[2H]", "C-C=C#C",
    "[Cu+2].[O-]S(=O)(=O)[O-]",
)  # fmt: skip


def _smiles_text(rng: random.Random) -> str:
    return rng.choice(["", ".", "C", "="]).join(
        rng.choice(_MOLECULES) for _ in range(rng.randint(1, 3))
    )


def _ring_fault(text: str) -> str | None:
    """What is wrong with the rings of a text whose atoms and branches are in order."""
    bonded: set[frozenset[int]] = set()
    rings: dict[int, tuple[int, str]] = {}
    stack: list[int] = []
    last, atoms, bond = -1, 0, ""
    for piece in re.findall(r"\[[^\]]*\]|%\d\d|Cl|Br|.", text, re.DOTALL):
        if piece in ("(", ")"):
            last = stack.pop() if piece == ")" else last
            stack += [last] if piece == "(" else []
        elif piece in "-=#$:/\\.":
            bond = piece
        elif piece[-1].isdigit():
            number = int(piece.lstrip("%"))
            if number in rings:
                other, first = rings.pop(number)
                pair = frozenset((other, last))
                if len(pair) == 1 or pair in bonded:
                    return "rings between the same atoms"
                if bond and first and bond != first:
                    return "rings whose bonds differ"
                bonded.add(pair)
            else:
                rings[number] = (last, bond)
            bond = ""
        else:
            if last >= 0 and bond != ".":
                bonded.add(frozenset((last, atoms)))
            last, atoms, bond = atoms, atoms + 1, ""
    return "rings that are not paired" if rings else None


_SMILES_MORE: Final = (
    (r"^$", "the empty text"),
    (r"\+\+|--", "deprecated charges"),
    (r"[^ -\x7e]", "other characters, which the reference passes over"),
    (r"~|->|<-|\\\\|\?|%\(|\[#|[|{]|\s", "the reference's own"),
    (
        r"\[[^\]]*(te|si|D|T|[A-Z]?[a-z]?\d{4,}|@[A-Z]+\d*|:|H\d\d)[^\]]*\]",
        "symbols and numbers that the standard has not",
    ),
    (r"[-+]\d{2,}|[-+]1[6-9]", "charges beyond 15"),
    (r"\([-=#$:/\\.]*\d|\)\d|^\(|^[-=#$:/\\]", "numbers of rings behind branches"),
)


def _smiles_left_out(text: str, ours: bool) -> str | None:
    if not ours:
        return next((why for pattern, why in _SMILES_MORE if re.search(pattern, text)), None)
    if "(." in text:
        return "dots at the beginning of branches, which the reference refuses"
    return _ring_fault(text)


# -- Python, C ---------------------------------------------------------------------------------


def _python(text: str) -> bool:
    """Whether Python's own parser reads a module; the last line has to end."""
    last = re.split(r"[\r\n]", text)[-1]
    if last.strip(" \t\f") and (last == text or last.lstrip(" \t")[0] != "#"):
        return False
    return raising(ast.parse, SyntaxError, ValueError, RecursionError, MemoryError)(text)


@cache
def _python_functions() -> tuple[str, ...]:
    """Top-level statements of a quarter of the standard library, as they are written there."""
    import sysconfig

    found = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[::4]:
        text = path.read_text("utf-8")
        lines = text.splitlines(keepends=True)
        for node in ast.parse(text).body:
            written = "".join(lines[node.lineno - 1 : node.end_lineno])
            if 10 < len(written) < 1_500:
                found.append(written)
    return tuple(found)


def _python_text(rng: random.Random) -> str:
    return "".join(rng.choice(_python_functions()) for _ in range(rng.randint(1, 2)))


def _python_left_out(text: str, ours: bool) -> str | None:
    if not ours:
        if re.search(r"[^\x00-\x7f]", text):
            return "other scripts"
        if re.search(r"(?<!\r)\r(?!\n)|\x0c", text):
            return "carriage returns alone, form feeds"
        if re.search(r"\d(if|else|and|or|in|is|for|not)\b|0_|\\$", text):
            return "numbers that touch words"
        if re.search(r"[^\r\n]$|\\\r?\n$", text):
            return "a last line without a line end"
        return None
    if re.search(r"(^|\n)[ \t]*\\|^[ \t\f]", text):
        return "blanks and joined lines at the beginning"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as error:
        said = error.msg or ""
        for words, why in (
            ("f-string", "f-strings"),
            ("unicode error", "escapes"),
            ("value error", "escapes"),
            ("bytes can only", "bytes beyond ASCII"),
            ("cannot mix bytes", "bytes beside text"),
            ("too many nested", "depth"),
        ):
            if words in said:
                return why
        return None
    except (ValueError, RecursionError, MemoryError):
        return "null bytes, depth"
    return None


def _pycparser(_: Path | None) -> Reader:
    """The parser of C99, with a few names of types; directives are taken out as comments are."""
    module = import_module("pycparser.c_parser")
    fault = getattr(module, "ParseError", None) or import_module("pycparser.plyparser").ParseError

    def parse(text: str) -> None:
        module.CParser().parse("typedef int size_t; typedef int node;\n" + _c_plain(text))

    return raising(parse, fault, AssertionError)


def _c_plain(text: str) -> str:
    """A program without comments and directives."""
    lines = [re.sub(r"^[ \t]*#.*", "", line) for line in re.sub(r"\\\r?\n", "", text).split("\n")]
    return _C_COMMENT.sub(lambda found: found[1] or " ", "\n".join(lines)).replace("\r", " ")


_C_TYPES: Final = {"types": ["size_t", "node"]}
_C_COMMENT: Final = re.compile(
    r"(\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')|/\*.*?\*/|//[^\n]*", re.DOTALL
)
_C_TEXTS: Final = (
    "int f(int a, char *b) { return a + *b; }",
    "static const unsigned long x = 3UL, *y[4];",
    "struct point { int x, y; struct point *next; };",
    "typedef struct { double re, im; } complex_t;",
    "enum colour { RED, GREEN = 3, BLUE, };",
    "int g(void) { for (int i = 0; i < 10; i++) { if (i % 2) continue; else break; } return 0; }",
    "size_t h(const char *s) { size_t n = 0; while (*s++) n++; return n; }",
    "int k(int n) { switch (n) { case 1: return 2; default: break; } do { n--; } while (n > 0); return n; }",
    "int (*handler)(int, const char *);",
    "int a[2][2] = { { 1, 2 }, [1] = { .5, 4 } };",
    "void m(void) { x = (struct point){ 1, 2 }; p->next.value[i] = sizeof(int) + sizeof x; }",
    "int q(int x) { return x ? x > 0 ? 1 : -1 : ~x & 0xFF << 2; } /* comment */",
    'char c = \'\\n\', s[] = "say \\"hi\\"" "more"; // end\n',
    "void r(int n, ...) { goto end; end: ; n <<= 1, n ^= 2; }",
)


def _c_text(rng: random.Random) -> str:
    return rng.choice([" ", "\n"]).join(rng.choice(_C_TEXTS) for _ in range(rng.randint(1, 3)))


def _c_left_out(text: str, ours: bool) -> str | None:
    if ours:
        nothing = re.search(
            r"\b(void|char|short|int|long|float|double|\w+ed|_\w+|const|size_t|node)\s*;",
            _c_plain(text),
        )
        return "declarations of nothing (int;), which the reference refuses" if nothing else None
    if re.search(r"\d\[|\d\s*(\+\+|--|\.|->)|\d\(|}\w|\w+\s*\([\w\s,]*\)\s*\w[^;{]*;|:\s*\d", text):
        return "tails of numbers, bit fields, old-style parameters"
    if re.search(
        r"[LuU]8?['\"]|0[xX][\w.]*[pP]|<:|%:|\?\?|_Generic|_Alignas|_Static|_Atomic|_Pragma", text
    ):
        return "prefixes, hexadecimal floats, digraphs, parts of C11"
    return None


# -- YAML --------------------------------------------------------------------------------------


def _yaml(_: Path | None) -> Reader:
    """The document as a tree; values are not made of it."""
    module = import_module("yaml")
    return raising(
        lambda text: module.compose(text, module.SafeLoader), module.YAMLError, ValueError
    )


def _yaml_text(rng: random.Random) -> str:
    module = import_module("yaml")

    def value(depth: int) -> Any:
        if depth == 0 or rng.random() < 0.3:
            return rng.choice(
                [
                    1,
                    -2.5,
                    None,
                    True,
                    "a b",
                    "x: y",
                    "# c",
                    "",
                    "é",
                    "it's",
                    "a\nb\n",
                    "- a",
                    "2024-01-01",
                ]
            )
        if rng.random() < 0.5:
            return [value(depth - 1) for _ in range(rng.randint(0, 3))]
        return {rng.choice("abcd") + str(i): value(depth - 1) for i in range(rng.randint(0, 3))}

    root = rng.choice([dict, list])
    made = {"k": value(3), "l": value(2)} if root is dict else [value(3), value(2)]
    text: str = module.dump(
        made, allow_unicode=True, default_flow_style=rng.choice([False, False, None]), width=10_000
    )
    if rng.random() < 0.3:
        text = "---\n" + text
    return text.replace("\n", rng.choice(["\n", "\n", " # c\n"]), 1)


REFERENCES: Final[list[tuple[str, Reference]]] = [
    ("json", Reference("json", _plain(_json), _json_text)),
    ("jsonl", Reference("json, line by line", _plain(_json_lines), _json_lines_text)),
    ("csv", Reference("csv, strict", _plain(_csv), _csv_text, _csv_left_out)),
    ("arithmetic", Reference("ast", _plain(_arithmetic), _arithmetic_text)),
    ("semver", Reference("semver", _semver)),
    ("cron", Reference("cronsim", _cronsim, _cron_text, _cron_left_out)),
    ("cron", Reference("croniter", _croniter, _cron_text, _cron_left_out)),
    ("uri", Reference("rfc3986-validator", _rfc3986, _uri_text, _uri_left_out)),
    ("email", Reference("email-validator", _email, _email_text, _email_left_out)),
    ("date", Reference("datetime", _plain(_dates("date")), _date_text("date"))),
    ("time", Reference("datetime", _plain(_dates("time")), _date_text("time"))),
    ("datetime", Reference("datetime", _plain(_dates("datetime")), _date_text("datetime"))),
    ("duration", Reference("isodate", _isodate, _duration_text, _duration_left_out)),
    (
        "markdown_table",
        Reference("markdown-it-py", _markdown_table, _markdown_text, _markdown_left_out),
    ),
    ("toml", Reference("tomllib", _plain(_toml), _toml_text, _toml_left_out)),
    ("regex", Reference("re", _plain(_re), _re_text, _re_left_out)),
    ("sql", Reference("sqlite3", _plain(_sqlite), _sql_text, _sql_left_out, wider=True)),
    ("sql", Reference("sqlglot", _sqlglot, _sql_text, _sqlglot_left_out, wider=True)),
    ("graphql", Reference("graphql-core", _graphql, _graphql_text, _graphql_left_out)),
    ("pddl", Reference("pddl", _pddl, _pddl_text, _pddl_left_out)),
    ("sygus", Reference("cvc5", _cvc5, _sygus_text, _sygus_left_out)),
    ("typescript_types", Reference("typescript", _typescript, _ts_text, _ts_left_out)),
    ("mermaid", Reference("mermaid", _mermaid, _mermaid_text, _mermaid_left_out, wider=True)),
    (
        "cypher",
        Reference("antlr4-cypher", _antlr_cypher, _cypher_text, _antlr_cypher_left_out, wider=True),
    ),
    ("opensmiles", Reference("rdkit", _rdkit, _smiles_text, _smiles_left_out)),
    ("smiles", Reference("rdkit", _rdkit, _smiles_text, _smiles_left_out, wider=True)),
    ("python", Reference("ast", _plain(_python), _python_text, _python_left_out)),
    (
        "c",
        Reference("pycparser", _pycparser, _c_text, _c_left_out, wider=True, parameters=_C_TYPES),
    ),
    ("yaml", Reference("PyYAML", _yaml, _yaml_text, wider=True)),
]
"""Grammars and what they are compared with; a grammar may stand here more than once."""
