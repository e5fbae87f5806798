"""Grammars of llguidance and xgrammar, read by us: their own test cases, and random ones.

Cases of llguidance's tests and what xgrammar answers in its own are taken from copies of their
repositories, a folder or a git directory; none is kept here.  For each grammar and text the peer's
verdict is compared with ours: *agree*, *choice* (the peer's own, see ``_CHOICES``), *refused* (a loud error,
by its first words) and *wrong*.

With ``--random N`` llguidance itself is asked about random grammars and texts, with ``--captures N`` about
what random grammars capture.

Usage: ``python benchmarks/dialects.py [--llguidance PATH] [--xgrammar PATH] [--random N] [--captures N]
[--show]``
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from grammars import Grammar, GrammarError, SpecialToken

_LLGUIDANCE: Final = ("parser/tests/test_lark.rs", "parser/tests/test_ll.rs")


@dataclass(frozen=True)
class Case:
    """One statement of a peer's test.

    Attributes:
        grammar: the text.
        kind: ``accept``, ``refuse`` (the whole text is not in the language), ``cut`` (nor the beginning of
            one that is), ``begin`` (the beginning of one), ``good`` and ``bad`` (the grammar itself).
        text: parts, as :meth:`grammars.Grammar.accepts` takes them.
        parts: grammars that it refers to, by name: Lark texts or schemas.
        place: file and line.
    """

    grammar: str
    kind: str
    text: tuple[str | SpecialToken, ...] = ()
    parts: tuple[tuple[str, Any], ...] = ()
    place: str = ""


# -- Rust literals -------------------------------------------------------------------------------


class _UnreadableError(Exception):
    """An argument that is no literal."""


@dataclass
class Rust:
    """Reads calls with literal arguments from a Rust source."""

    text: str
    names: dict[str, Any] = field(default_factory=dict)
    at: int = 0

    def calls(self, wanted: frozenset[str]) -> Iterator[tuple[str, list[Any], int]]:
        """Name, arguments and line of every call of one of the functions."""
        pattern = re.compile(
            r"\b(?:let|const)\s+(\w+)(?::\s*&str)?\s*=\s*(?=[r\"&])|\b(\w+)\(|//[^\n]*"
        )
        at = 0
        while found := pattern.search(self.text, at):
            at = found.end()
            name = found[2]
            if found[1]:
                self.at = found.end()
                try:
                    self.names[found[1]] = self.value()
                except _UnreadableError:
                    self.names.pop(found[1], None)
            elif name in wanted and not self.text[: found.start()].rstrip().endswith("fn"):
                line = self.text.count("\n", 0, found.start()) + 1
                self.at = found.end()
                yield name, self.arguments(")"), line
                at = max(at, self.at)

    def blank(self) -> None:
        found = re.compile(r"(?:\s|//[^\n]*)*").match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def arguments(self, end: str) -> list[Any]:
        out: list[Any] = []
        while True:
            self.blank()
            if self.text[self.at] == end:
                self.at += 1
                return out
            try:
                out.append(self.value())
            except _UnreadableError:
                out.append(None)
                self.skip(end)
            self.blank()
            if self.text[self.at] == ",":
                self.at += 1

    def skip(self, end: str) -> None:
        """Goes to the end of an argument that is not understood."""
        depth = 0
        while self.at < len(self.text):
            here = self.text[self.at]
            if here in '"' or re.compile(r'r#*"').match(self.text, self.at):
                self.string()
                continue
            if depth == 0 and (here == end or here == ","):
                return
            depth += (here in "([{") - (here in ")]}")
            self.at += 1

    def value(self) -> Any:
        self.blank()
        if self.text.startswith("&", self.at):
            self.at += 1
            return self.value()
        here = self.text[self.at]
        if here == "[":
            self.at += 1
            return self.arguments("]")
        if here == '"' or re.compile(r'r#*"').match(self.text, self.at):
            return self.string()
        if self.text.startswith("json!(", self.at):
            return self.json()
        word = re.compile(r"\w+").match(self.text, self.at)
        if word and word[0] in ("true", "false"):
            self.at = word.end()
            return word[0] == "true"
        if word and word[0] in self.names and self.text[word.end()] in ",)":
            self.at = word.end()
            return self.names[word[0]]
        raise _UnreadableError

    def string(self) -> str:
        raw = re.compile(r'r(#*)"').match(self.text, self.at)
        if raw:
            end = self.text.index('"' + raw[1], raw.end())
            self.at = end + 1 + len(raw[1])
            return self.text[raw.end() : end]
        found = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(self.text, self.at)
        if not found:
            raise _UnreadableError
        self.at = found.end()
        plain = re.sub(r"\\\n\s*", "", found[1])

        def one(escape: re.Match[str]) -> str:
            if escape[1]:
                return chr(int(escape[1], 16))
            if escape[2]:
                return chr(int(escape[2], 16))
            return {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}.get(escape[3], escape[3])

        return re.sub(r"\\(?:u\{([0-9a-fA-F]+)\}|x(..)|(.))", one, plain)

    def json(self) -> Any:
        start = self.at + len("json!(")
        self.at = start
        depth = 1
        out = []
        while True:
            found = re.compile(r'"(?:[^"\\]|\\.)*"|r#*"|//[^\n]*|.', re.DOTALL).match(
                self.text, self.at
            )
            assert found is not None
            token = found[0]
            if token.startswith(('"', 'r"', "r#")):
                out.append(json.dumps(self.string()))
                continue
            self.at = found.end()
            if token.startswith("//"):
                continue
            depth += (token in "([{") - (token in ")]}")
            if depth == 0:
                break
            out.append(token)
        written = re.sub(r",(\s*[\]}])", r"\1", "".join(out))
        try:
            return json.loads(written)
        except ValueError:
            raise _UnreadableError from None


# -- cases of llguidance -------------------------------------------------------------------------

_CALLS: Final = frozenset(
    {
        "lark_str_test_many",
        "lark_str_test_many_quiet",
        "lark_str_test",
        "lark_err_test",
        "lark_ok",
        "check_lark_grammar",
        "check_lark_grammar_prompt",
        "check_lark_grammar_nested",
        "check_lark_json",
        "json_test_many",
        "json_err_test",
    }
)


def llguidance_cases(source: str, place: str) -> Iterator[Case]:
    """The cases of one test file."""
    for name, given, line in Rust(source).calls(_CALLS):
        where = f"{place}:{line}"
        if any(x is None or (isinstance(x, list) and None in x) for x in given):
            continue
        match name:
            case "lark_str_test_many" | "lark_str_test_many_quiet":
                grammar, good, bad = given
                yield from (Case(grammar, "accept", (text,), (), where) for text in good)
                yield from (_failing(grammar, text, where) for text in bad)
            case "lark_str_test":
                grammar, good, text = given[:3]
                yield (
                    Case(grammar, "accept", (text,), (), where)
                    if good
                    else _failing(grammar, text, where)
                )
            case "lark_ok":
                yield Case(given[0], "good", (), (), where)
            case "lark_err_test":
                yield Case(given[0], "bad", (), (), where)
            case "json_test_many":
                grammar = "start: %json " + json.dumps(given[0])
                for verdict, values in zip(("accept", "refuse"), given[1:], strict=True):
                    for value in values:
                        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
                        yield Case(grammar, verdict, (text,), (), where)
            case "json_err_test":
                yield Case("start: %json " + json.dumps(given[0]), "bad", (), (), where)
            case "check_lark_grammar":
                yield from _trace(given[0], (), given[1], where)
            case "check_lark_grammar_prompt":
                yield from _trace(given[0], (), [given[1], *given[2][1:]], where, given[1])
            case "check_lark_grammar_nested" | "check_lark_json":
                yield from _trace(given[0], (("sub", given[1]),), given[2], where)


def _failing(grammar: str, text: str, where: str) -> Case:
    if text.startswith("FINAL_REJECT:"):
        return Case(grammar, "refuse", (text.removeprefix("FINAL_REJECT:"),), (), where)
    return Case(grammar, "cut", (text,), (), where)


_SPECIAL: Final = re.compile(r"(<\|\w+\|>|<\[\d+\]>|≺EOS≻)")


def _trace(
    grammar: str,
    parts: tuple[tuple[str, Any], ...],
    pieces: list[str],
    where: str,
    prompt: str = "",
) -> Iterator[Case]:
    """A recorded dialogue as statements about texts."""
    tokens: list[str] = []
    for piece in pieces:
        for token in re.split("(✖)|‧", re.sub(r"(↶)(?!‧)", r"\1‧", piece)):
            if not token:
                continue
            if token == "✖":
                tokens.append(token)
            elif token.endswith("↶"):
                del tokens[-int(token[:-1]) :]
            elif tokens and tokens[-1] == "✖":
                tokens[-1] = "✖" + token
            else:
                tokens.append(token)
    written = ""
    for token in tokens:
        if token.startswith("✖"):
            if token == "✖≺EOS≻":
                yield Case(grammar, "refuse", _as_parts(written), parts, where)
            else:
                yield Case(grammar, "cut", _as_parts(written + token[1:]), parts, where)
        elif token != "≺EOS≻":
            written += token
    if not prompt:
        yield Case(grammar, "accept", _as_parts(written), parts, where)


def _as_parts(text: str) -> tuple[str | SpecialToken, ...]:
    out: list[str | SpecialToken] = []
    for part in _SPECIAL.split(text):
        if _SPECIAL.fullmatch(part):
            out.append(SpecialToken(part[1:-1] if part.startswith("<[") else part))
        elif part:
            out.append(part)
    return tuple(out)


# -- cases of xgrammar ---------------------------------------------------------------------------

_XGRAMMAR: Final = (
    "tests/python/test_grammar_matcher_ebnf.py",
    "tests/python/test_grammar_parser.py",
    "tests/python/test_grammar_matcher_macro.py",
    "tests/python/test_grammar_matcher_basic.py",
)
_RECORDER: Final = """
import json, sys
import xgrammar as xgr
import xgrammar.testing as testing

log = open(sys.argv[1], "a")
sources = {}
make = xgr.Grammar.from_ebnf

def from_ebnf(text, *, root_rule_name="root"):
    try:
        made = make(text, root_rule_name=root_rule_name)
    except Exception:
        print(json.dumps([text, root_rule_name, "bad", ""]), file=log, flush=True)
        raise
    print(json.dumps([text, root_rule_name, "good", ""]), file=log, flush=True)
    sources[id(made)] = (made, text, root_rule_name)
    return made

accept = testing._is_grammar_accept_string

def accepts(grammar, data, *args, **options):
    verdict = accept(grammar, data, *args, **options)
    if isinstance(data, bytes):
        return verdict
    if isinstance(grammar, str):
        known = (None, grammar, "root")
    else:
        known = sources.get(id(grammar))
    if known:
        kinds = ("accept", "refuse") if options.get("require_termination", True) else ("begin", "cut")
        line = [known[1], known[2], kinds[not verdict], data]
        print(json.dumps(line), file=log, flush=True)
    return verdict

xgr.Grammar.from_ebnf = staticmethod(from_ebnf)
testing._is_grammar_accept_string = accepts
import pytest
pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly", *sys.argv[2:]])
"""


def xgrammar_cases(place: Path) -> Iterator[Case]:
    """What xgrammar answers while its own tests run."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name in _XGRAMMAR:
            file = Path(folder) / Path(name).name
            file.write_text(read_from(place, name), "utf-8")
            files.append(str(file))
        recorder = Path(folder) / "recorder.py"
        recorder.write_text(_RECORDER, "utf-8")
        log = Path(folder) / "log"
        log.touch()
        command = [sys.executable, str(recorder), str(log), *files]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                command, cwd=folder, check=False, capture_output=True, env=offline, timeout=300
            )
        seen = set()
        for line in log.read_text("utf-8").splitlines():
            if line in seen:
                continue
            seen.add(line)
            text, start, kind, data = json.loads(line)
            yield Case(text, kind, (data,) if data else (), (), start)


_CHOICES: Final[dict[str, str]] = {
    "start: %json": "JSON: keywords it does not know, order of other keys, escapes",
    "foobarbaz": "names of tokens are checked where a grammar meets its vocabulary",
    'start: "\\x41\\x42"': "a token that is not the tokenizer's own for a forced text",
    "<[54": "an ordinary token named by id is that token, not its text",
    "<[32006,9000": "an ordinary token named by id is that token, not its text",
    "<[29730]>": "an ordinary token named by id is that token, not its text",
    '(=("a" | "b"))': "alternatives in a look-ahead assertion",
}
"""Beginnings or parts of grammars where a peer chose otherwise, and what it chose."""


def choice(case: Case) -> str | None:
    """What the peer chose, if the difference is of that kind."""
    return next((why for part, why in _CHOICES.items() if part in case.grammar), None)


# -- verdicts ------------------------------------------------------------------------------------


class Ours:
    """Our reading of grammars, each made once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Grammar | GrammarError] = {}

    def grammar(self, case: Case, dialect: str) -> Grammar | GrammarError:
        key = (case.grammar, json.dumps(case.parts) + (case.place if dialect == "xgrammar" else ""))
        if key not in self._known:
            try:
                self._known[key] = self._make(case, dialect)
            except GrammarError as error:
                self._known[key] = error
        return self._known[key]

    def _make(self, case: Case, dialect: str) -> Grammar:
        if dialect == "xgrammar":
            return Grammar.from_gbnf(case.grammar, start=case.place, dialect="xgrammar")
        rules = {
            name: Grammar.from_lark(part, dialect="llguidance")
            if isinstance(part, str)
            else Grammar.from_json_schema(part)
            for name, part in case.parts
        }
        return Grammar.from_lark(case.grammar, dialect="llguidance", rules=rules)


def _known_tokens(text: tuple[str | SpecialToken, ...], grammar: Grammar) -> list[Any]:
    """Parts with the ids that the tests' tokenizer gives to names."""
    ids = {"<|system|>": 32006, "<|user|>": 32010, "<|assistant|>": 32001}
    out: list[Any] = []
    for part in text:
        if isinstance(part, SpecialToken) and part.name not in grammar.tokens:
            number = ids.get(part.name)
            if number is not None and f"[{number}]" in grammar.tokens:
                part = SpecialToken(f"[{number}]")
        out.append(part)
    return out


def verdict(case: Case, ours: Ours, dialect: str) -> tuple[str, str]:
    """``agree``, ``refused`` or ``wrong``, with a word about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grammar = ours.grammar(case, dialect)
        if isinstance(grammar, GrammarError):
            if case.kind in ("bad", "good"):
                return ("agree" if case.kind == "bad" else "refused"), grammar.message[:70]
            return "refused", grammar.message[:70]
        if case.kind in ("bad", "good"):
            return ("agree" if case.kind == "good" else "wrong"), "a grammar that should be refused"
        parts = _known_tokens(case.text, grammar)
        accepted = grammar.accepts(parts)
        if case.kind in ("accept", "refuse"):
            good = accepted == (case.kind == "accept")
            return ("agree" if good else "wrong"), "accepted" if accepted else "not accepted"
        if grammar.is_empty:
            begins = False
        else:
            length = sum(len(x.encode() if isinstance(x, str) else x.name.encode()) for x in parts)
            found = grammar.explain(parts)
            begins = found.accepted or found.offset >= length
        good = begins == (case.kind == "begin")
        return ("agree" if good else "wrong"), "can go on" if begins else "cannot go on"


# -- the peer itself -----------------------------------------------------------------------------


class Peer:
    """llguidance over single bytes."""

    def __init__(self) -> None:
        from llguidance import LLMatcher, LLTokenizer

        self._matcher = LLMatcher
        self._tokenizer = LLTokenizer("byte")

    def grammar(self, text: str) -> Any:
        """A matcher at the beginning, or ``None`` for a grammar that is refused."""
        made = self._matcher(self._tokenizer, self._matcher.grammar_from_lark(text), log_level=0)
        return None if made.is_error() else made

    def accepts(self, matcher: Any, data: bytes) -> bool:
        """Whether a whole text is accepted."""
        at = matcher.deep_copy()
        return bool(at.try_consume_tokens(list(data)) == len(data) and at.is_accepting())

    def captures(self, matcher: Any, data: bytes) -> list[tuple[str, bytes]] | None:
        """What it captures of a text; ``None`` for one that it does not accept."""
        if not self.accepts(matcher, data):
            return None
        at = matcher.deep_copy()
        at.try_consume_tokens([*data, self._tokenizer.eos_token])
        return [(name, bytes(found)) for name, found in at.get_captures()]


# -- random grammars -----------------------------------------------------------------------------

_LEXEMES: Final = (
    *('"a"', '"b"', '"ab"', '"abc"', '"c"', '"x"', '"aa"', "/a+/", "/[ab]+/", "/b*c/", "/[a-c]/"),
    *("/(ab)+/", "/a|ab/", "/[^a]/", "/x?/", "/a{1,3}/", '"A"i', '"a".."c"', "A", "B", "C"),
)
_TERMINALS: Final = ("/[a-b]+/", '"a" "b"?', "/a+/ & /(aa)+/", "/[abc]+/ & ~/.*bb.*/", '"a" | "bc"')
_BLANKS: Final = ("", "", "%ignore /x+/\n", '%ignore "x"\n', "%ignore / /\n")


def random_grammar(rng: random.Random, *, recursive: bool = True) -> str:
    """A grammar of a few rules over a few letters, of which some may be recursive."""
    names = ["start", *[f"r{i}" for i in range(rng.randrange(4))]]

    def item(depth: int, known: list[str]) -> str:
        kind = rng.random()
        if depth and kind < 0.2:
            body = f"({alternatives(depth - 1, known)})"
        elif kind < 0.45 and known:
            body = rng.choice(known)
        else:
            body = rng.choice(_LEXEMES)
        return body + rng.choice(("", "", "", "", "", "*", "+", "?", "{1,2}"))

    def sequence(depth: int, known: list[str]) -> str:
        return " ".join(item(depth, known) for _ in range(rng.choice((1, 1, 2, 2, 3))))

    def alternatives(depth: int, known: list[str]) -> str:
        return " | ".join(sequence(depth, known) for _ in range(rng.choice((1, 2, 2, 3))))

    out = []
    recursive = recursive and rng.random() < 0.4
    for i, name in enumerate(names):
        known = names[1:] if recursive and rng.random() < 0.5 else names[i + 1 :]
        if name != "start" and rng.random() < 0.25:
            lexeme = rng.choice(("/[abc]+b/", '/[^c]+/ "c"', "/a+b/", "/(.|\\n)+x/"))
            attribute = rng.choice(("lazy", 'suffix="c"', "suffix=/b+/", "lazy"))
            out.append(f"{name}[{attribute}]: {lexeme}")
        else:
            out.append(f"{name}: {alternatives(1, known)}")
    out += [f"{name}: {rng.choice(_TERMINALS)}" for name in "ABC"]
    return rng.choice(_BLANKS) + "\n".join(out) + "\n"


def random_texts(rng: random.Random, grammar: Grammar) -> set[bytes]:
    """Texts of the language, changed ones, and any."""
    out = {b""}
    for _ in range(12):
        out.add(bytes(rng.choice(b"aabbcx ") for _ in range(rng.randrange(9))))
    if grammar.is_empty:
        return out
    for _ in range(12):
        text = grammar.sample(seed=rng.randrange(1 << 30))[:40]
        out.add(text)
        at = rng.randrange(len(text) + 1)
        out.add(text[:at] + bytes([rng.choice(b"abcx ")]) + text[at:])
        out.add(text[:at] + text[at + 1 :])
    return out


def is_exact(grammar: Grammar) -> bool:
    """Whether nothing says that a grammar takes more than llguidance does."""
    return not any("cut" in note and "another way" in note for note in grammar.ir.notes)


def compare_random(count: int, seed: int, show: bool) -> Counter[str]:
    """Verdicts of both on random grammars."""
    peer = Peer()
    rng = random.Random(seed)
    out: Counter[str] = Counter()
    for _ in range(count):
        text = random_grammar(rng)
        theirs = peer.grammar(text)
        try:
            ours = Grammar.from_lark(text, dialect="llguidance")
        except GrammarError as error:
            out["both refuse" if theirs is None else f"refused: {error.message[:50]}"] += 1
            continue
        if theirs is None:
            out["taken though the peer refuses"] += 1
            continue
        out["grammars"] += 1
        exact = is_exact(ours)
        if not exact:
            out["grammars whose notes say that they may take more"] += 1
        differing = False
        for data in random_texts(rng, ours):
            mine, other = ours.accepts(data), peer.accepts(theirs, data)
            out["texts"] += 1
            if mine != other:
                out[f"ours {'more' if mine else 'fewer'}{' (exact)' if exact else ''}"] += 1
                if show and not differing:
                    print(f"--- ours {mine}, theirs {other}: {data!r}\n{text}")
                differing = True
        out["grammars that differ"] += differing
    return out


_RULE: Final = re.compile(r"^(r\d+)(?:\[(.*?)\])?:", re.MULTILINE)


def compare_captures(count: int, seed: int, show: bool) -> Counter[str]:
    """What both capture of texts of random grammars, every rule but the first captured.

    llguidance gives every rule that it completes, readings that come to nothing among them.
    """
    peer = Peer()
    rng = random.Random(seed)
    out: Counter[str] = Counter()
    while out["grammars"] < count:
        text = random_grammar(rng, recursive=False)
        text = _RULE.sub(lambda m: f"{m[1]}[capture{', ' + m[2] if m[2] else ''}]:", text)
        theirs = peer.grammar(text)
        try:
            ours = Grammar.from_lark(text, dialect="llguidance")
        except GrammarError:
            continue
        if theirs is None:
            continue
        out["grammars"] += 1
        for data in filter(ours.accepts, sorted(random_texts(rng, ours))):
            found = peer.captures(theirs, data)
            if found is None:
                continue
            mine = Counter((x.name, x.data) for x in ours.captures(data))
            more = mine - Counter(found)
            out["texts"] += 1
            same = "the same" if mine == Counter(found) else "ours among theirs"
            out["another reading" if more else same] += 1
            if more and show:
                print(f"--- {data!r}: ours {dict(mine)}, theirs {found}\n{text}")
    return out


# -- main ----------------------------------------------------------------------------------------


def read_from(place: Path, name: str) -> str:
    """A file of a folder or of a git directory."""
    if (place / name).is_file():
        return (place / name).read_text("utf-8")
    command = ["git", f"--git-dir={place}", "show", f"HEAD:{name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def report(name: str, cases: list[Case], dialect: str, show: bool) -> None:
    """Prints a line of the table, and what is not agreed."""
    ours = Ours()
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for case in cases:
        kind, word = verdict(case, ours, dialect)
        if kind == "wrong" and (why := choice(case)) is not None:
            kind, word = "choice", why
        counts[kind] += 1
        if kind in ("refused", "choice"):
            reasons[f"{kind}: {word}"] += 1
        if kind == "wrong" and show:
            print(f"--- {case.place}: {case.kind} {case.text!r}: {word}\n{case.grammar}")
    print(
        f"{name}: {len(cases)} cases, {counts['agree']} agree, {counts['choice']} the peer's choice, "
        f"{counts['refused']} refused, {counts['wrong']} wrong"
    )
    for word, count in reasons.most_common():
        print(f"    {count:4} {word}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--llguidance", type=Path)
    parser.add_argument("--xgrammar", type=Path)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--captures", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    if given.llguidance:
        for name in _LLGUIDANCE:
            cases = list(llguidance_cases(read_from(given.llguidance, name), name))
            report(name, cases, "llguidance", given.show)
    if given.xgrammar:
        report("xgrammar", list(xgrammar_cases(given.xgrammar)), "xgrammar", given.show)
    if given.random:
        for what, count in sorted(compare_random(given.random, given.seed, given.show).items()):
            print(f"{count:7} {what}")
    if given.captures:
        for what, count in sorted(compare_captures(given.captures, given.seed, given.show).items()):
            print(f"{count:7} {what}")


if __name__ == "__main__":
    main()
