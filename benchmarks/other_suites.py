"""Cases of llama.cpp's, outlines' and lm-format-enforcer's own tests, read by us.

The tests are taken from copies of their repositories, a folder or a git directory (with the folder
inside it, if they are not at its top: ``PATH:FOLDER``); none is kept here.  Sources in C++ and Rust are
read for calls and tables of literals, those in Python run against stand-ins for the tested library
which write down what is asked; what could not be read is counted.

For each case the peer's verdict is compared with ours: *agree*, *choice* (the peer's own, told apart
by a reference: ``jsonschema`` for schemas, ``re`` for patterns), *refused* (a loud error) and *wrong*.
Schemas are read in their own meaning: keys in any order, numbers in any spelling.

Where llama.cpp's tests state the grammar that a schema becomes, texts of that grammar (read by us) are
parsed, and their values written again must be in ours if they are valid.

Usage: ``python benchmarks/other_suites.py [--llama-cpp PATH] [--outlines PATH] [--outlines-core PATH]
[--lm-format-enforcer PATH] [--show]``
"""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import lark
from dialects import Rust, _UnreadableError

from grammars import Grammar, GrammarError, SpecialToken

Parts = tuple[str | SpecialToken, ...]


@dataclass(frozen=True)
class Case:
    """One statement of a peer's test.

    Attributes:
        notation: ``gbnf``, ``lark`` (a file), ``llguidance``, ``term`` (a tree of :func:`term`),
            ``conversion`` (a schema, with a GBNF text that says what it becomes).
        source: the text, or JSON of it.
        kind: ``accept``, ``refuse``, ``good`` and ``bad`` (the grammar itself), ``same``.
        text: parts of a text; of ``same`` the GBNF.
        start: the rule to begin with.
        choice: why a difference here is known to be the peer's choice.
    """

    notation: str
    source: str
    kind: str
    text: Parts = ()
    place: str = ""
    start: str = "root"
    choice: str = ""


@dataclass
class Suite:
    """The cases of a suite, and what could not be read."""

    name: str
    cases: list[Case] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Place:
    """A folder, or a folder in a git directory."""

    path: Path
    folder: str = ""

    @classmethod
    def of(cls, written: str) -> Place:
        """``PATH`` or ``PATH:FOLDER``."""
        path, _, folder = written.partition(":")
        return cls(Path(path), folder.strip("/") + "/" if folder else "")

    def read(self, name: str) -> str:
        """A file's text."""
        here = self.path / self.folder / name
        if here.is_file():
            return here.read_text("utf-8")
        return self._git("show", f"HEAD:{self.folder}{name}")

    def names(self, folder: str) -> list[str]:
        """The files below a folder."""
        here = self.path / self.folder
        if (here / folder).is_dir():
            return sorted(str(x.relative_to(here)) for x in (here / folder).rglob("*.*"))
        found = self._git("ls-tree", "-r", "--name-only", "HEAD", f"{self.folder}{folder}/")
        return [x.removeprefix(self.folder) for x in found.splitlines()]

    def _git(self, *words: str) -> str:
        command = ["git", f"--git-dir={self.path}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# -- C++ literals ----------------------------------------------------------------------------------

_TOKEN: Final = re.compile(
    r"\s+|//[^\n]*|/\*.*?\*/"
    r'|(?P<raw>R"(?P<tag>[^(\s]*)\((?P<body>.*?)\)(?P=tag)")'
    r'|(?P<string>"(?:[^"\\]|\\.)*")|token\((?P<token>\d+)\)|(?P<word>\w+)|(?P<sign>.)',
    re.DOTALL,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


class Cpp:
    """Reads calls whose arguments are literals: strings, lists of them, and tokens."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def calls(self, names: str) -> Iterator[tuple[str, list[Any], int]]:
        """Name, arguments (``None`` for what is no literal) and line of each call."""
        for found in re.finditer(rf"^ *(?:[\w:]+ )?({names})\(\{{?", self.text, re.MULTILINE):
            if self.text[: found.start(1)].rstrip(" ").endswith(("void", "bool", "*")):
                continue  # where it is defined
            self.at = found.end()
            line = self.text.count("\n", 0, found.start()) + 1
            yield found[1], self._list(")}"), line

    def constants(self) -> dict[str, tuple[Any, int]]:
        """Strings that have a name."""
        out = {}
        for found in re.finditer(r"const (?:std::)?string (\w+)\s*=\s*", self.text):
            self.at = found.end()
            out[found[1]] = self._value(";"), self.text.count("\n", 0, found.start()) + 1
        return out

    def _next(self) -> re.Match[str]:
        while True:
            found = _TOKEN.match(self.text, self.at)
            assert found is not None
            self.at = found.end()
            if found.lastgroup:
                return found

    def _list(self, ends: str) -> list[Any]:
        out: list[Any] = []
        while True:
            before = self.at
            found = self._next()
            if found["sign"] and found["sign"] in ends:
                return out
            if found["sign"] != ",":
                self.at = before
                out.append(self._value(ends))

    def _value(self, ends: str) -> Any:
        parts: list[str | SpecialToken] | None = []
        while True:
            before = self.at
            found = self._next()
            if found["raw"]:
                new: str | SpecialToken = found["body"]
            elif found["string"]:
                new = re.sub(
                    r"\\(?:x([0-9a-fA-F]{2})|(.))",
                    lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPES.get(m[2], m[2]),
                    found["string"][1:-1],
                )
            elif found["token"]:
                new = SpecialToken(f"[{found['token']}]")
            elif found["sign"] == "{" and not parts:
                return self._list("}")
            elif found["sign"] and (found["sign"] in ends or found["sign"] in ",;"):
                self.at = before
                return None if parts is None else tuple(parts)
            elif found["sign"] == "+":
                continue
            elif found["word"] in ("SUCCESS", "FAILURE"):
                new = found["word"]
            else:
                parts = None
                continue
            if parts is not None:
                if parts and isinstance(parts[-1], str) and isinstance(new, str):
                    parts[-1] += new
                else:
                    parts.append(new)


def _plain(value: Any) -> str:
    """A value that is one string."""
    if value == ():
        return ""
    if not isinstance(value, tuple) or len(value) != 1 or not isinstance(value[0], str):
        raise _UnreadableError
    return value[0]


def _texts(value: Any) -> list[Parts]:
    if not isinstance(value, list) or None in value:
        raise _UnreadableError
    return [tuple(p for p in x if p != "") for x in value]


# -- llama.cpp -------------------------------------------------------------------------------------


def llama_cpp(place: Place) -> Iterator[Suite]:
    """Its suites about grammars, schemas and grammars that schemas become."""
    for name in ("test-grammar-integration.cpp", "test-grammar-llguidance.cpp"):
        notation = "llguidance" if "llguidance" in name else "gbnf"
        yield _integration(place.read(f"tests/{name}"), name, notation)
    name = "test-grammar-parser.cpp"
    suite = Suite(name)
    for call, given, line in Cpp(place.read(f"tests/{name}")).calls(
        "verify_parsing|verify_failure"
    ):
        if not given or given[0] is None:
            suite.unread[call] += 1
            continue
        kind = "good" if call == "verify_parsing" else "bad"
        suite.cases.append(Case("gbnf", _plain(given[0]), kind, (), f"{name}:{line}"))
    yield suite
    yield _conversions(place, "test-json-schema-to-grammar.cpp")
    suite = Suite("grammars/*.gbnf")
    for name in place.names("grammars"):
        if name.endswith(".gbnf"):
            suite.cases.append(Case("gbnf", place.read(name), "good", (), name))
    yield suite


def _integration(text: str, name: str, notation: str) -> Suite:
    suite = Suite(name)
    reader = Cpp(text)
    for call, given, line in reader.calls("test_grammar|test_schema"):
        try:
            _, source, good, bad = given
            read = _plain(source)
            texts = {"accept": _texts(good), "refuse": _texts(bad)}
        except (_UnreadableError, ValueError):
            suite.unread[call] += 1
            continue
        kind, start = notation, "root"
        if call == "test_schema":
            kind, read = "term", json.dumps(["schema", json.loads(read)])
        for wanted, parts in texts.items():
            suite.cases += [Case(kind, read, wanted, x, f"{name}:{line}", start) for x in parts]
    constants = reader.constants()
    for found in re.finditer(r"test_build_grammar_fails\((\w+)\)\)", text):
        value, line = constants[found[1]]
        why = "left recursion is no error here" if "recursion" in _function(text, found) else ""
        suite.cases.append(Case(notation, _plain(value), "bad", (), f"{name}:{line}", "root", why))
    for found in re.finditer(r"(\w+) = build_grammar_with_root\((\w+), \"(\w+)\"\)", text):
        before = text[: found.start()]
        written = re.findall(rf'{found[2]} = R"""\((.*?)\)"""', before, re.DOTALL)
        kind = "bad" if "fail" in found[1] else "good"
        suite.cases.append(Case(notation, written[-1], kind, (), name, found[3]))
    for function in ("test_failure_missing_root", "test_failure_missing_reference"):
        body = text.partition(f"static void {function}()")[2].partition("\n}")[0]
        if written := re.findall(r'R"""\((.*?)\)"""', body, re.DOTALL):
            suite.cases.append(Case(notation, written[0], "bad", (), f"{name} {function}"))
    return suite


def _function(text: str, found: re.Match[str]) -> str:
    return str(re.findall(r"static void (\w+)\(", text[: found.start()])[-1])


def _conversions(place: Place, name: str) -> Suite:
    suite = Suite(name)
    for _call, given, line in Cpp(place.read(f"tests/{name}")).calls("test"):
        where = f"{name}:{line}"
        try:
            status, _, schema, grammar = map(_plain, given)
            tree = json.dumps(["schema", json.loads(schema)])
        except (_UnreadableError, ValueError):
            suite.unread["resolves_to_string, a question about schemas alone"] += 1
            continue
        suite.cases.append(Case("term", tree, "good" if status == "SUCCESS" else "bad", (), where))
        if status == "SUCCESS":
            start = "root0" if re.search(r"^\s*root0 ::=", grammar, re.MULTILINE) else "root"
            suite.cases.append(Case("gbnf", grammar, "good", (), where, start))
            suite.cases.append(Case("term", tree, "same", (grammar,), where, start))
    return suite


# -- outlines --------------------------------------------------------------------------------------


class Table(Rust):
    """Reads tables of tuples too."""

    def value(self) -> Any:
        self.blank()
        if self.text.startswith("vec![", self.at):
            self.at += 5
            return self.arguments("]")
        if self.text.startswith("(", self.at):
            self.at += 1
            return tuple(self.arguments(")"))
        if found := re.compile(r"None\b").match(self.text, self.at):
            self.at = found.end()
            return ""
        if found := re.compile(r'(r#*)?"').match(self.text, self.at):
            value = super().value()
            self.blank()
            if self.text[self.at] not in ",)]":
                raise _UnreadableError
            return value
        return super().value()


def outlines_core(place: Place) -> Iterator[Suite]:
    """The tables of texts of its tests of schemas."""
    name = "src/json_schema/mod.rs"
    text = place.read(name)
    suite = Suite(f"outlines-core, {name}")
    loops = re.compile(r"for \(?([\w, ]+)\)? in (?=\[)")
    for found in loops.finditer(text):
        body = text[found.end() :].partition("\n    }\n")[0]
        if "should_match" not in body and "should_not_match" not in body:
            continue
        line = text.count("\n", 0, found.start()) + 1
        names = [x.strip() for x in found[1].split(",")]
        reader = Table(text, at=found.end())
        rows = reader.value()
        behind = text[reader.at :].partition("}")[0]
        given = re.findall(
            r'let (?:schema|json) = (r(#*)".*?"\2);', text[: found.start()], re.DOTALL
        )
        for row in rows:
            if row is None:
                suite.unread["row"] += 1
                continue
            values = dict(zip(names, row if isinstance(row, tuple) else (row,), strict=True))
            schema = values.get("schema") or (Rust(given[-1][0]).string() if given else None)
            if schema is None or values.get("whitespace_pattern", "") != "":
                suite.unread["its own blanks or no schema"] += 1
                continue
            tree = json.dumps(["schema", json.loads(schema)])
            if len(names) == 1:
                kind = "refuse" if "should_not_match" in behind else "accept"
                suite.cases.append(Case("term", tree, kind, (row,), f"{name}:{line}"))
            for which, kind in (("a_match", "accept"), ("not_a_match", "refuse")):
                for one in values.get(which, ()):
                    if one is None:
                        suite.unread["text"] += 1
                    else:
                        suite.cases.append(Case("term", tree, kind, (one,), f"{name}:{line}"))
    yield suite


class Term:
    """Stands for outlines' terms and writes down what they are."""

    def __init__(self, *tree: Any) -> None:
        self.tree = list(tree)
        self.pattern = tree[1] if tree[0] == "regex" else ""

    def __add__(self, other: Any) -> Term:
        return Term("sequence", [_tree(self), _tree(other)])

    def __or__(self, other: Any) -> Term:
        return Term("union", [_tree(self), _tree(other)])


def _tree(x: Any) -> Any:
    return x.tree if isinstance(x, Term) else ["string", str(x)]


def _terms() -> dict[str, Any]:
    def repeat(bounds: Callable[..., tuple[int, int | None]]) -> Callable[..., Term]:
        return lambda term, *counts: Term("repeat", _tree(term), *bounds(*counts))

    return {
        "String": lambda x: Term("string", x),
        "Regex": lambda x: Term("regex", x),
        "JsonSchema": lambda x: Term("schema", json.loads(x) if isinstance(x, str) else x),
        "Choice": lambda xs: Term("union", [["string", str(x)] for x in xs]),
        "Sequence": lambda xs: Term("sequence", [_tree(x) for x in xs]),
        "Alternatives": lambda xs: Term("union", [_tree(x) for x in xs]),
        "Optional": repeat(lambda: (0, 1)),
        "KleeneStar": repeat(lambda: (0, None)),
        "KleenePlus": repeat(lambda: (1, None)),
        "QuantifyExact": repeat(lambda n: (n, n)),
        "QuantifyMinimum": repeat(lambda n: (n, None)),
        "QuantifyMaximum": repeat(lambda n: (0, n)),
        "QuantifyBetween": repeat(lambda a, b: (a, b)),
    }


def outlines(place: Place) -> Iterator[Suite]:
    """Its types, what its terms match, and the samples of its grammars."""
    suite = Suite("outlines, types and samples")
    types = _outlines_types(place)
    name = "tests/types/test_custom_types.py"
    for node in ast.walk(ast.parse(place.read(name))):
        if isinstance(node, ast.Tuple) and len(node.elts) == 3:
            written = ast.unparse(node.elts[0])
            text, good = (x.value if isinstance(x, ast.Constant) else None for x in node.elts[1:])
            if written not in types:
                suite.unread[f"{written.rpartition('.')[0]}: data of another package"] += 1
                continue
            pattern = types[written].pattern
            kind = "accept" if good else "refuse"
            where = f"{name}:{node.lineno}"
            suite.cases.append(
                Case("term", json.dumps(["regex", pattern]), kind, (str(text),), where)
            )
            schema = {"type": "string", "pattern": f"^(?:{pattern})$"}
            asked = (json.dumps(text, ensure_ascii=False),)
            suite.cases.append(Case("term", json.dumps(["schema", schema]), kind, asked, where))
    for name in ("tests/types/test_to_regex.py", "tests/types/test_dsl.py"):
        _matches(place.read(name), name, suite)
    files = {Path(x).name: place.read(x) for x in place.names("src/outlines/grammars")}
    for name in place.names("tests/cfg_samples"):
        which = name.split(".")[-2] + ".lark"
        source = json.dumps([which, {x: files[x] for x in files if x.endswith(".lark")}])
        suite.cases.append(Case("lark", source, "accept", (place.read(name),), name, "start"))
    yield suite


def _outlines_types(place: Place) -> dict[str, Term]:
    """The patterns that have names."""
    out: dict[str, Term] = {}
    for file, prefix in (("__init__.py", "types."), ("locale/us.py", "types.locale.us.")):
        known: dict[str, Any] = {"Regex": lambda x: Term("regex", x)}
        for node in ast.parse(place.read(f"src/outlines/types/{file}")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Regex("):
                exec(compile(ast.Module([node], []), file, "exec"), known)
        out |= {prefix + n: x for n, x in known.items() if isinstance(x, Term)}
    return out


_ASKED: Final = re.compile(r"(not )?(.*?)\.matches\((.*)\)( is True| is False)?")


def _matches(text: str, name: str, suite: Suite) -> None:
    """What is said of ``matches`` in functions, run with stand-ins, statement by statement."""
    for function in ast.parse(text).body:
        if not isinstance(function, ast.FunctionDef) or "matches(" not in ast.unparse(function):
            continue
        known = _terms()
        for node in function.body:
            if isinstance(node, ast.Assign):
                try:
                    exec(compile(ast.Module([node], []), name, "exec"), known)
                except Exception:  # what is no term
                    known.pop(ast.unparse(node.targets[0]), None)
            if not isinstance(node, ast.Assert) or "matches(" not in ast.unparse(node):
                continue
            found = _ASKED.fullmatch(ast.unparse(node.test))
            try:
                assert found
                tree = json.dumps(eval(found[2], known).tree)
                asked = eval(found[3], known)
            except Exception:
                suite.unread["terms made of Python's types"] += 1
                continue
            kind = "refuse" if found[1] or found[4] == " is False" else "accept"
            suite.cases.append(Case("term", tree, kind, (str(asked),), f"{name}:{node.lineno}"))


# -- lm-format-enforcer ----------------------------------------------------------------------------

_STAND_IN: Final = """
import contextlib, json, os, sys, types
import pytest

log = open(os.environ["SUITE_LOG"], "a")
expected = [None]

class Node:
    config = None
    def __init__(self, kind):
        self.kind = kind
    def __call__(self, what=None, config=None, **_):
        made = Node(self.kind)
        if self.kind == "schema":
            what = True if what is None else what
        elif self.kind in ("union", "sequence"):
            what = [x.tree for x in what]
        made.tree = [self.kind, what]
        return made
    def get_allowed_characters(self):
        raise NotImplementedError

class CharacterNotAllowedException(Exception):
    pass

def assert_parser_with_string(text, parser, good, profile_file_path=None):
    if expected[0] is not None:
        good = expected[0]
    options = {k: v for k, v in os.environ.items() if k.startswith("LMFE_")}
    where = os.environ.get("PYTEST_CURRENT_TEST", "")
    known = getattr(parser.config, "alphabet", None)
    print(json.dumps([parser.tree, text, good, options, known, where]), file=log, flush=True)
    if expected[0] is False:
        raise CharacterNotAllowedException

@contextlib.contextmanager
def raises(kind, **_):
    expected[0] = False
    try:
        yield
    except kind:
        pass
    finally:
        expected[0] = None

pytest.raises = raises

class Config:
    def __init__(self, alphabet=None):
        self.alphabet = alphabet

def module(name, **values):
    made = types.ModuleType(name)
    made.__dict__.update(values)
    sys.modules[name] = made

consts = {}
exec(open(os.path.join(os.path.dirname(__file__), "consts.py")).read(), consts)
module("lmformatenforcer", JsonSchemaParser=Node("schema"), RegexParser=Node("regex"),
       StringParser=Node("string"), UnionParser=Node("union"), SequenceParser=Node("sequence"),
       CharacterLevelParserConfig=Config)
module("lmformatenforcer.characterlevelparser", CharacterLevelParserConfig=Config)
module("lmformatenforcer.consts", **consts)
module("suite.common", assert_parser_with_string=assert_parser_with_string,
       CharacterNotAllowedException=CharacterNotAllowedException)
"""


def lm_format_enforcer(place: Place) -> Iterator[Suite]:
    """What its tests ask of its parsers."""
    suite = Suite("lm-format-enforcer")
    names = ("test_jsonschemaparser.py", "test_regexparser.py", "test_composite_parsers.py")
    with tempfile.TemporaryDirectory() as folder:
        tests = Path(folder) / "suite"
        tests.mkdir()
        (tests / "__init__.py").touch()
        for name in names:
            (tests / name).write_text(place.read(f"tests/{name}"), "utf-8")
        (tests / "consts.py").write_text(place.read("lmformatenforcer/consts.py"), "utf-8")
        (tests / "conftest.py").write_text(_STAND_IN, "utf-8")
        log = Path(folder) / "log"
        log.touch()
        command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"]
        ran = subprocess.run(
            [*command, *(f"suite/{n}" for n in names)],
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "SUITE_LOG": str(log), "PYTHONPATH": folder},
        )
        for line in ran.stdout.splitlines():
            if line.startswith(("FAILED", "ERROR")):
                suite.unread[line.split(" - ")[0].rpartition("::")[2]] += 1
        for line in log.read_text("utf-8").splitlines():
            tree, text, good, options, alphabet, where = json.loads(line)
            kind = "accept" if good else "refuse"
            why = ", ".join(f"{name}={value}" for name, value in options.items())
            if alphabet is None and not good and not text.isascii():
                why = "its alphabet is ASCII"
            place_ = where.rpartition("::")[2].partition(" ")[0]
            suite.cases.append(Case("term", json.dumps(tree), kind, (text,), place_, "root", why))
    yield suite


# -- verdicts --------------------------------------------------------------------------------------

_MEANING: Final = {"property_order": "any", "numbers": "any"}


def term(tree: Any, **options: Any) -> Grammar:
    """The grammar of a tree: strings, patterns, schemas, and what is made of them."""
    kind, what, *counts = tree
    if kind == "string":
        return Grammar.literal(what)
    if kind == "regex":
        return Grammar.from_regex(what)
    if kind == "schema":
        return Grammar.from_json_schema(what, **{**_MEANING, **options})
    if kind == "repeat":
        return term(what).repeat(*counts)
    first, *others = map(term, what)
    for other in others:
        first = first | other if kind == "union" else first + other
    return first


@cache
def grammar(notation: str, source: str, start: str) -> Grammar | GrammarError:
    """Our reading, made once."""
    try:
        if notation == "gbnf":
            return Grammar.from_gbnf(source, start=start)
        if notation == "llguidance":
            return Grammar.from_lark(source, dialect="llguidance")
        if notation == "term":
            return term(json.loads(source))
        name, files = json.loads(source)
        with tempfile.TemporaryDirectory() as folder:
            for file, text in files.items():
                (Path(folder) / file).write_text(text, "utf-8")
            return Grammar.from_file(str(Path(folder) / name))
    except GrammarError as error:
        return error


def _is_time(text: object) -> bool:
    """Whether a text is a time of RFC 3339."""
    if not isinstance(text, str):
        return True
    zone = re.fullmatch(r"\d\d:\d\d:\d\d(\.\d+)?([zZ]|[+-]([01]\d|2[0-3]):[0-5]\d)", text)
    return zone is not None and bool(datetime.time.fromisoformat(text[:8]))


def _is_date_time(text: object) -> bool:
    """Whether a text is a date and a time of RFC 3339."""
    if not isinstance(text, str):
        return True
    dated = re.fullmatch(r"(\d{4}-\d\d-\d\d)[tT](.*)", text)
    return dated is not None and bool(datetime.date.fromisoformat(dated[1])) and _is_time(dated[2])


_FORMATS: Final = jsonschema.FormatChecker()
_FORMATS.checkers = {
    **jsonschema.Draft202012Validator.FORMAT_CHECKER.checkers,
    "time": (_is_time, ValueError),
    "date-time": (_is_date_time, ValueError),
}


def is_valid(schema: Any, text: str) -> bool:
    """What ``jsonschema`` says, formats asserted."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def refuse(_: str) -> Any:
        raise ValueError("no JSON")

    try:
        value = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except ValueError:
        return False
    old = '"items": [' in json.dumps(schema) or '"definitions"' in json.dumps(schema)
    default = jsonschema.Draft7Validator if old else jsonschema.Draft202012Validator
    kind = jsonschema.validators.validator_for(schema, default=default)
    return bool(kind(schema, format_checker=_FORMATS).is_valid(value))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: _closed(v) for k, v in schema.items()}
    return {"additionalProperties": False, **out} if "properties" in out else out


def peers_meaning(tree: Any, text: str, accepted: bool) -> str | None:
    """Why a reference says that the peer's verdict is its own choice; ``None`` if it does not.

    Args:
        tree: of a pattern or a schema.
        accepted: the peer's verdict.
    """
    kind, what = tree[:2]
    if kind == "regex":
        return "not what re says" if (re.fullmatch(what, text) is not None) != accepted else None
    if kind != "schema":
        return None
    valid = is_valid(what, text)
    if valid and accepted:
        spaced = (json.dumps(json.loads(text)), json.dumps(json.loads(text), ensure_ascii=False))
        made = term(tree)
        return "blanks in other places" if all(map(made.accepts, spaced)) else None
    if valid == accepted:
        return None
    if accepted:
        return "accepts what the schema does not allow"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if not term(tree, property_order="schema").accepts(text):
                return "keys in another order than the schema's"
        except GrammarError:
            pass
    if not is_valid(_closed(what), text):
        return "keys that the schema does not name"
    return "refuses what the schema allows"


def _lark_reads(source: str, text: str) -> bool:
    """Whether lark parses a text."""
    name, files = json.loads(source)
    with tempfile.TemporaryDirectory() as folder:
        for file, grammar_text in files.items():
            (Path(folder) / file).write_text(grammar_text, "utf-8")
        parser = lark.Lark.open(str(Path(folder) / name))
        try:
            parser.parse(text)
        except lark.exceptions.UnexpectedInput:
            return False
    return True


def verdict(case: Case) -> tuple[str, str]:
    """``agree``, ``choice``, ``refused`` or ``wrong``, with a word about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = grammar(case.notation, case.source, case.start)
    tree = json.loads(case.source) if case.notation == "term" else [case.notation, None]
    if isinstance(made, GrammarError):
        if case.kind == "bad":
            return "agree", ""
        return "refused", f"{made.message[:90]}"
    if case.kind == "good":
        return "agree", ""
    if case.kind == "bad":
        if case.choice:
            return "choice", case.choice
        return "wrong", "a grammar that should be refused"
    if case.kind == "same":
        return conversion(case, made, tree)
    accepted = made.accepts(list(case.text))
    if accepted == (case.kind == "accept"):
        return "agree", ""
    text = "".join(x if isinstance(x, str) else x.name for x in case.text)
    why = peers_meaning(tree, text, case.kind == "accept") or case.choice
    if case.notation == "lark" and _lark_reads(case.source, text) == accepted:
        why = "not what lark says"
    names = {x.name for x in case.text if isinstance(x, SpecialToken)}
    if not accepted and names.difference(made.tokens):
        why = "special tokens that the grammar does not name"
    return ("choice", why) if why else ("wrong", "accepted" if accepted else "not accepted")


def _respelled(text: str) -> str:
    """A JSON text without blanks, its strings as ``json.dumps`` writes them, its numbers as they are."""

    def one(found: re.Match[str]) -> str:
        return json.dumps(json.loads(found[1]), ensure_ascii=False) if found[1] else ""

    return _STRINGS_AND_BLANKS.sub(one, text)


_STRINGS_AND_BLANKS: Final = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')


def conversion(case: Case, made: Grammar, tree: Any) -> tuple[str, str]:
    """Texts of the grammar that a schema becomes, read by the one that we make of it."""
    (text,) = case.text
    theirs = grammar("gbnf", str(text), case.start)
    if isinstance(theirs, GrammarError):
        return "refused", theirs.message[:90]
    why = ""
    for seed in range(20):
        written = theirs.sample(seed=seed).decode()
        try:
            json.dumps(json.loads(written), ensure_ascii=False).encode()  # no half surrogate pairs
            value = _respelled(written)
            valid = is_valid(tree[1], written)
        except ValueError:
            why = why or "its grammar writes what is no JSON"
            continue
        if not valid:
            why = why or "its grammar writes what the schema does not allow"
        elif not made.accepts(value):
            return "wrong", f"not accepted: {value[:200]}"
    return ("choice", why) if why else ("agree", "")


# -- main ------------------------------------------------------------------------------------------


def report(suite: Suite, show: bool) -> None:
    """Prints a line of the table, and what is not agreed."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for case in suite.cases:
        kind, word = verdict(case)
        counts[kind] += 1
        if kind in ("refused", "choice"):
            reasons[f"{kind}: {word}"] += 1
        if kind == "wrong" or (show and kind != "agree"):
            print(f"--- {kind}: {case.place}: {case.kind} {case.text!r}: {word}\n{case.source}")
    print(
        f"{suite.name}: {len(suite.cases)} cases, {counts['agree']} agree, {counts['choice']} the "
        f"peer's choice, {counts['refused']} refused, {counts['wrong']} wrong, "
        f"{suite.unread.total()} not read"
    )
    for word, count in (*reasons.most_common(), *suite.unread.most_common()):
        print(f"    {count:4} {word}")


def main() -> None:
    """Prints the suites whose places are given."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    readers = {
        "llama-cpp": llama_cpp,
        "outlines": outlines,
        "outlines-core": outlines_core,
        "lm-format-enforcer": lm_format_enforcer,
    }
    for name in readers:
        parser.add_argument(f"--{name}", type=Place.of)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    for name, reader in readers.items():
        place = getattr(given, name.replace("-", "_"))
        for suite in reader(place) if place else ():
            report(suite, given.show)


if __name__ == "__main__":
    main()
