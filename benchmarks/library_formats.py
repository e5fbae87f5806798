"""Reference parsers of formats: JSON, CSV, dates, URIs, e-mail, TOML, YAML, tables of Markdown, patterns."""

from __future__ import annotations

import ast
import csv
import io
import json
import random
import re
import string
import tomllib
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.library_reference import Reader, Reference, plain, raising

# -- JSON, JSON Lines ------------------------------------------------------------------------------


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


# -- CSV, arithmetic, versions, times of jobs ------------------------------------------------------

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


# -- URIs, e-mail, dates ---------------------------------------------------------------------------


def _rfc3986(rule: str) -> Callable[[Path | None], Reader]:
    def make(_: Path | None) -> Reader:
        validate = import_module("rfc3986_validator").validate_rfc3986
        return _true(lambda text: validate(text, rule=rule))

    return make


def _true(call: Callable[[str], Any]) -> Reader:
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


def _reference_text(rng: random.Random) -> str:
    text = _uri_text(rng)
    return text if rng.random() < 0.2 else text.partition(":")[2]


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


# -- Markdown, TOML, regular expressions -----------------------------------------------------------


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


# -- YAML ------------------------------------------------------------------------------------------


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
    ("json", Reference("json", plain(_json), _json_text)),
    ("jsonl", Reference("json, line by line", plain(_json_lines), _json_lines_text)),
    ("csv", Reference("csv, strict", plain(_csv), _csv_text, _csv_left_out)),
    ("arithmetic", Reference("ast", plain(_arithmetic), _arithmetic_text)),
    ("semver", Reference("semver", _semver)),
    ("cron", Reference("cronsim", _cronsim, _cron_text, _cron_left_out)),
    ("cron", Reference("croniter", _croniter, _cron_text, _cron_left_out)),
    ("uri", Reference("rfc3986-validator", _rfc3986("URI"), _uri_text, _uri_left_out)),
    (
        "uri_reference",
        Reference("rfc3986-validator", _rfc3986("URI_reference"), _reference_text, _uri_left_out),
    ),
    ("email", Reference("email-validator", _email, _email_text, _email_left_out)),
    ("date", Reference("datetime", plain(_dates("date")), _date_text("date"))),
    ("time", Reference("datetime", plain(_dates("time")), _date_text("time"))),
    ("datetime", Reference("datetime", plain(_dates("datetime")), _date_text("datetime"))),
    ("duration", Reference("isodate", _isodate, _duration_text, _duration_left_out)),
    (
        "markdown_table",
        Reference("markdown-it-py", _markdown_table, _markdown_text, _markdown_left_out),
    ),
    ("toml", Reference("tomllib", plain(_toml), _toml_text, _toml_left_out)),
    ("regex", Reference("re", plain(_re), _re_text, _re_left_out)),
    ("yaml", Reference("PyYAML", _yaml, _yaml_text, wider=True)),
]
"""Grammars and what they are compared with; a grammar may stand here more than once."""
