"""The Lark front end against lark itself, on grammars where terminals get in each other's way."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lark
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_laws_lark import SOURCES

from grammars.errors import GrammarError, LexingWarning
from grammars.frontends.lark import loading, readings, threads
from grammars.frontends.lark.grammar import lark_to_ir
from grammars.grammar import Grammar

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from lark_agreement import WAYS, compare

COMMON = [
    "INT", "SIGNED_NUMBER", "FLOAT", "ESCAPED_STRING", "CNAME", "WS", "NEWLINE",
    "SH_COMMENT", "CPP_COMMENT", "C_COMMENT", "SQL_COMMENT",
]  # fmt: skip


def agree(source: str, texts: list[str], ways: Sequence[str] = WAYS) -> None:
    """With lark, however text is cut into tokens."""
    for way in ways:
        try_agree(source, texts, way)


def every_text(alphabet: str, length: int) -> list[str]:
    return [
        "".join(letters)
        for n in range(length + 1)
        for letters in itertools.product(alphabet, repeat=n)
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_laws_sources(name: str) -> None:
    source, texts = SOURCES[name]
    letters = "".join(dict.fromkeys("".join(texts) + "a x1"))[:6]
    agree(source, texts + every_text(letters, 4))


# Each: a grammar, the letters of the texts to try, their length.
TRICKY = {
    "greedy number before dot": (
        'start: N "." N | N\n'
        r"N: /[0-9]+(\.[0-9]+)?/",
        "1.",
        6,
    ),
    "first alternative": (
        'start: A B?\nA: /a|ab/\nB: "b"',
        "ab",
        5,
    ),
    "lazy": (
        "start: C+\nC: /x.*?y/",
        "xyz",
        6,
    ),
    "lazy end": (
        'start: A B*\nA: /a+?/\nB: "a"',
        "ab",
        5,
    ),
    "empty iterations": (
        "start: A+ B?\nA: /x(|a)*/\nB: /b|a/",
        "xab",
        5,
    ),
    "empty iterations, bounded": (
        "start: A+ B?\nA: /x(?:|a){0,2}/\nB: /b|a/",
        "xab",
        5,
    ),
    "comment": (
        '%import common.C_COMMENT\nstart: ("a" | "/" | "*")*\n%ignore C_COMMENT',
        "/*a",
        6,
    ),
    "line comment": (
        "%import common.CPP_COMMENT\n"
        'start: ("a" | "/")*\n'
        "%ignore CPP_COMMENT\n"
        r'%ignore "\n"',
        "/a\n",
        6,
    ),
    "escaped string": (
        '%import common.ESCAPED_STRING\nstart: (ESCAPED_STRING | "a")*',
        '"\\a',
        6,
    ),
    "two words": (
        'start: (A | B | C)+\nA: "not"\nB: "not in"\nC: /[a-z]+/\n%ignore " "',
        "not i",
        3,
    ),
    "keyword in context": (
        'start: "if" NAME | NAME "=" NAME\nNAME: /[fi]+/',
        "fi=",
        5,
    ),
    "keyword, any case": (
        'start: "if"i NAME | NAME\nNAME: /[fiI]+/\n%ignore " "',
        "fiI ",
        5,
    ),
    "ignored keyword": (
        'start: N+\nN: /[ab]+/\n%ignore "ab"',
        "abc",
        5,
    ),
    "ignored pattern takes words": (
        'start: ("a" | "b")+\nI: /[ab]c?/\n%ignore I',
        "abc",
        5,
    ),
    "priority over length": (
        'start: (A | B)+\nA.2: "a"\nB: /a[ab]*/',
        "ab",
        5,
    ),
    "lower priority": (
        'start: (A | B)+\nA: "a"\nB.-1: /a[ab]*|b/',
        "ab",
        5,
    ),
    "word boundary": (
        "start: (K | N)+\n"
        r"K.2: /a\b/"
        "\n"
        "N: /[ab]+/\n"
        '%ignore " "',
        "ab ",
        5,
    ),
    "negative look-ahead": (
        "start: (K | N)+\nK.2: /a(?!b)/\nN: /[ab]/",
        "abc",
        5,
    ),
    "look-ahead": (
        "start: (K | N)+\nK.2: /a(?=b)/\nN: /[ab]/",
        "abc",
        5,
    ),
    "end of line": (
        "start: (K | N)+\n"
        "K.2: /a(?m:$)/\n"
        r"N: /[ab\n]+/",
        "ab\n",
        5,
    ),
    "end of text": (
        "start: (K | N)+\n"
        r"K.2: /a\Z/"
        "\n"
        "N: /[ab]/",
        "ab",
        5,
    ),
    "long look-ahead": (
        "start: S+\n"
        r"S: /'(?!'').*?(?<!\\)'/",
        "'a\\",
        6,
    ),
    "names that are no keywords": (
        r"start: (K | N) (\",\" (K | N))*".replace("\\", "") + '\nK: "ab"\n'
        r"N: /(?!(?:ab|b)\b)[ab]+/",
        "ab,",
        6,
    ),
    "negative look-aheads within each other": (
        'start: N ("," N | "ab")*\nN: /(?!(?:ab|b)(?![ab]))[ab]+/',
        "ab,",
        6,
    ),
    "an excluded word longer than the terminal": (
        "start: (K | N)+\nK.2: /a(?!bc)/\nN: /(?!abb)[abc]/",
        "abc",
        6,
    ),
    "an excluded text at the end": (
        'start: N ("," N)*\nN: /(?!ab$)[ab\\n]+/',
        "ab,\n",
        5,
    ),
    "asked about the character before, and pending for long": (
        'start: "b" B "d" | "b" "a"\nB: /\\Bccca/\n%ignore "c"',
        "bca",
        7,
    ),
    "an excluded text further on": (
        'start: (N | ",")+\nN: /(?!.*ba)[ab]+/',
        "ab,",
        6,
    ),
    "both lookaheads": (
        "start: (K | N | M)+\nK.2: /a+(?!b)/\nM: /ab/\nN: /c/\n",
        "abc",
        6,
    ),
    "earley": (
        "start: e\ne: e e | A | B\nA: /a+/\nB: /ab/\n%ignore /c+/",
        "abc",
        5,
    ),
    "reduce-reduce": (
        'start: x "a" | y "b" | y "a"\nx: "c"\ny: "c"',
        "abc",
        4,
    ),
    "right context": (
        'start: "x" a "y" | "z" a "w"\na: B?\nB: /[by]+/',
        "xyzwb",
        4,
    ),
    "carried over": (
        'start: ("a" | "b" | "c" | ABAC)*\nABAC: "abac"',
        "abc",
        6,
    ),
    "forbidden first character": (
        'start: A* B | "ab"\nA: /b/\nB: /aa(?!b)/\nC: /a/\n%ignore C',
        "abc",
        6,
    ),
    "never read in one place": (
        "start: A A | B\nA: /a/\nB: /(?:a|a)/",
        "ab",
        3,
    ),
    "three in a row": (
        'start: (X | Y | Z)*\nX: /a(bc)?/\nY: /b(ca)?/\nZ: "c"',
        "abc",
        6,
    ),
    "dot": (
        'start: A "b"\nA: /./',
        "ab\né",
        3,
    ),
    "case folding": (
        'start: "ß"i | "ſ"i "k"i',
        "ßsSẞſkKK",
        3,
    ),
    "unused terminal": (
        'start: A\nA: "a"\nB: "ab"',
        "ab",
        3,
    ),
    "ignored but used": (
        'start: A (S A)*\nA: "a"\nS: " "\n%ignore S',
        "a ",
        4,
    ),
    "look-behind at the start": ("start: (A | B)+\nA: /(?<=a)a|b/\nB: /a|ab/", "abc", 5),
    "negative look-behind at the start": ("start: (A | B)+\nA.2: /(?<!a)b/\nB: /a|b+/", "abc", 5),
    "word boundary at the start": (
        'start: (W | X | "-")+\n'
        r"W.2: /\bab*/"
        "\n"
        "X: /[ab]/\n"
        '%ignore " "',
        "ab -",
        5,
    ),
    "no boundary at the start": (
        "start: (W | X)+\n"
        r"W.2: /\Ba+/"
        "\n"
        'X: /[ab]|é/\n%ignore "-"',
        "ab-é",
        5,
    ),
    "start of a line": ("start: (H | N | X)+\nH.2: /^a/m\n" r"N: /\n/" "\nX: /[ab]/", "ab\n", 5),
    "start of the text": (
        'start: H? X+ B?\nH: /^a+/\nX: /[ab]/\nB: /\\Ac/\n%ignore " "',
        "abc ",
        5,
    ),
    "ignored by what is before": (
        'start: (A | B)+\nA: "a"\nB: "b"\n%ignore /(?<=a)c+|(?<!b)d/',
        "abcd",
        5,
    ),
    "keyword by what is before": (
        'start: (K | NAME)+\nK: "ab"\nNAME: /(?<!b)[ab]+|b/\n%ignore " "',
        "ab ",
        6,
    ),
    "sums with a conflict": (
        'start: e ";" NL\nA_WS: /\\s+/\nNL: /\\n+/\nN: /[0-9]+/\ne: e A_WS "+" A_WS e | N',
        "1+ ;\n",
        5,
    ),
    "priority of rules": (
        'start: x | y\nx.2: A\ny.1: A\nA: "a"',
        "a",
        2,
    ),
}


@pytest.mark.parametrize("name", TRICKY)
def test_tricky(name: str) -> None:
    source, letters, length = TRICKY[name]
    agree(source, every_text(letters, length))


@pytest.mark.parametrize("name", COMMON)
def test_common(name: str) -> None:
    source = f'%import common.{name}\nstart: ({name} ":"?)*'
    pieces = ["1", ".", "e", "-", '"', "\\", "a", " ", "\n", "\r", "#", "/", "*", ":"]
    texts = every_text("".join(pieces), 3)
    texts += ["/* * */", '"a\\"b"', "// x\n// y", "-- x:", "--x\n--y", "1.5e-3:.5", '"a"x"']
    agree(source, texts)


# -- random grammars ---------------------------------------------------------------------------

LETTERS = "ab"


@st.composite
def patterns(draw: st.DrawFn, depth: int = 2) -> str:
    """Patterns over few letters, with greedy and lazy repetitions and empty alternatives."""
    if depth == 0:
        return draw(st.sampled_from(["a", "b", "c", "[ab]", "[^a]", "ab", "."]))
    inner = patterns(depth=depth - 1)
    shape = draw(st.integers(0, 5))
    if shape == 0:
        return draw(inner)
    if shape == 1:
        return draw(inner) + draw(inner)
    if shape == 2:
        return f"(?:{draw(inner)}|{draw(inner)})"
    if shape == 3:
        return f"(?:{draw(inner)}|)" + draw(inner)
    times = draw(st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,2}"]))
    lazy = draw(st.sampled_from(["", "", "?"]))
    around = draw(st.sampled_from(["", "", "", "(?!b)", "(?=a)", r"\b", "(?<=a)", "(?<!b)"]))
    return f"(?:{draw(inner)}){times}{lazy}" + around


@st.composite
def sources(draw: st.DrawFn) -> str:
    """Grammars of several terminals that overlap."""
    names = ["A", "B", "C", "D"][: draw(st.integers(2, 4))]
    lines = []
    for name in names:
        priority = draw(st.sampled_from(["", "", "", ".2", ".-1"]))
        if draw(st.booleans()):
            literal = draw(st.text("abc", min_size=1, max_size=3))
            lines.append(f'{name}{priority}: "{literal}"{draw(st.sampled_from(["", "", "i"]))}')
        else:
            lines.append(f"{name}{priority}: /{draw(patterns())}/")
    symbols = st.sampled_from([*names, "x", '"a"', '"ab"', '"c"'])
    item = st.builds(lambda s, op: s + op, symbols, st.sampled_from(["", "", "", "?", "*", "+"]))
    branch = st.lists(item, min_size=1, max_size=3).map(" ".join)
    for rule in ("start", "x"):
        lines.append(f"{rule}: " + " | ".join(draw(st.lists(branch, min_size=1, max_size=3))))
    lines[-1] += " | " + draw(st.sampled_from(names))
    if "x" not in lines[-2]:  # lark checks unused rules that refer to each other, we leave them out
        lines[-2] += " | x"
    ignored = draw(st.sampled_from(["", "", "c", "C", "/c+/", "/[ac]/"]))
    if ignored == "c":
        ignored = '"c"'
    if ignored and (ignored != "C" or "C" in names):
        lines.append(f"%ignore {ignored}")
    return "\n".join(lines)


def try_agree(source: str, texts: Sequence[str], way: str) -> None:
    """Both refuse the grammar, or both accept the same texts."""
    tally = compare(source, way, random.Random(0), texts, 0, "start")
    assert not tally.wrong, (way, source, tally.wrong[:5])
    if tally.refused.startswith("ours"):
        refusals = ("cannot follow", "needs more than Limits")
        assert any(text in tally.refused for text in refusals), (way, source, tally.refused)


ALL_TEXTS = every_text("abcA", 4) + every_text("abc", 6)[363:]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources())
def test_random_grammars(source: str) -> None:
    agree(source, ALL_TEXTS[:700])


# -- ways of lexing ----------------------------------------------------------------------------

SUMS = r"""
start: e ";" NL
A_WS: /\s+/
NL: /\n+/
N: /[0-9]+/
e: e A_WS "+" A_WS e | N
"""


@pytest.mark.parametrize(
    ("way", "taken", "accepted"),
    [
        ("auto", "contextual", True),
        ("contextual", "contextual", True),
        ("basic", "basic", False),
        ("dynamic", "dynamic", True),
        ("dynamic_complete", "dynamic_complete", True),
    ],
)
def test_lexer_is_chosen_and_kept(tmp_path: Path, way: Any, taken: str, accepted: bool) -> None:
    grammar = Grammar.from_lark(SUMS, lexer=way)
    grammar.save(tmp_path / "sums.gramma")
    copies = [
        grammar,
        Grammar.load(tmp_path / "sums.gramma"),
        Grammar.from_file(tmp_path / "sums.gramma"),
        pickle.loads(pickle.dumps(grammar)),
    ]
    for copy in copies:
        assert copy.lexer == taken
        assert copy.accepts("1 + 2;\n") == accepted
        assert copy == grammar


def test_a_conflict_elsewhere_changes_nothing() -> None:
    """The same grammar with a conflict and without one, and lark's LALR parser."""
    texts = ["1 + 2;\n", "1;\n", "1 +2;\n", "1 + 2 + 3;\n\n", "1 + 2", "1  +\n2;\n"]
    conflict_free = SUMS.replace("A_WS e | N", "A_WS N | N")
    with_conflict = conflict_free + "  | N\n  | f\nf: N"
    parser = lark.Lark(conflict_free, parser="lalr")
    for text in texts:
        try:
            parser.parse(text)
            expected = True
        except lark.exceptions.UnexpectedInput:
            expected = False
        for source in (conflict_free, with_conflict, SUMS):
            assert Grammar.from_lark(source).accepts(text) == expected, (source, text)


@pytest.mark.parametrize(
    ("source", "way", "said"),
    [
        (SUMS, "basic", "terminal NL is never read: A_WS, tried before it.*never written: start"),
        ('start: X | Y\nX: /x[0-9]*/\nY: "xyz"', "contextual", "Y is never read: X, tried before"),
        ('start: A "a"\nA: /a+/', "dynamic", "never written: start.*dynamic_complete"),
    ],
)
def test_what_is_never_read_is_said(source: str, way: Any, said: str) -> None:
    with pytest.warns(LexingWarning, match=said) as caught:
        grammar = Grammar.from_lark(source, lexer=way)
    assert caught[0].filename == __file__
    (note,) = grammar.ir.notes
    if grammar.is_empty:
        assert note in str(grammar.explain("x"))


def test_nothing_is_said_of_keywords_and_names() -> None:
    source = '%import common (CNAME, WS)\nstart: ("if" CNAME | CNAME "=" CNAME)+\n%ignore WS'
    for way in WAYS:
        assert Grammar.from_lark(source, lexer=way).ir.notes == ()


def test_other_grammars_have_no_lexer() -> None:
    assert Grammar.from_regex("a").lexer is None
    with pytest.raises(ValueError, match="contextual"):
        Grammar.from_lark('start: "a"', lexer="standard")  # type: ignore[arg-type]


# -- counted repetitions -----------------------------------------------------------------------

COUNTED = {
    "bounded lazy": ('start: A+ B?\nA: /a{2,5}?b/\nB: /a{0,3}?/ "c"', "abc", 6),
    "lazy up to": ("start: A+\nA: /.{0,3}?b/\nB: /c/\n%ignore B", "abc", 6),
    "meets a longer one": ("start: (A | B)+\nA: /a{1,4}/\nB: /a{1,3}b/", "ab", 7),
    "is met": ("start: (A | B)+\nB.2: /a{1,3}b/\nA: /a{1,4}/", "ab", 7),
    "followed by its own": ("start: A A?\nA: /a{2,4}/", "ab", 9),
    "words": ("start: A A?\nA: /(?:ab){2,4}c?/", "abc", 8),
    "exactly": ("start: A+ B?\nA: /[ab]{3}/\nB: /c|ab?/", "abc", 7),
    "begun": ("start: A+\nA: /a(?:b{2,4}c)?|bb/", "abc", 7),
    "in a loop": ('start: (A | "a")+\nA: /(?:a{1,3};)+/', "a;b", 7),
    "two": ('start: A (A | "b")*\nA: /a{1,3}-b{2,4}/', "ab-", 8),
    "ignored": ('start: "a"+\n%ignore /b{2,4}/\n%ignore /cb{0,3}/', "abc", 7),
}


@pytest.mark.parametrize("copies", [0, 1, 32])
@pytest.mark.parametrize("name", COUNTED)
def test_counted_repetitions(monkeypatch: pytest.MonkeyPatch, name: str, copies: int) -> None:
    """Small bounds counted as large ones are, which texts of any length can tell apart."""
    monkeypatch.setattr(threads, "_COPIES", copies)
    source, letters, length = COUNTED[name]
    texts = [
        t for t in every_text(letters, length) if len(t) < 4 or len(set(t)) < 3 or "c" in t[-1]
    ]
    agree(source, texts[:1500], ("contextual", "dynamic"))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources())
def test_random_grammars_counting_everything(source: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "_COPIES", 0)
        agree(source, ALL_TEXTS[:400], ("contextual",))


LARGE = {
    r"A: /(ab){2,50000}c/": (["ababc", "ab" * 50_000 + "c"], ["abc", "ab" * 50_001 + "c", "abab"]),
    r"A: /x{1,1000}/": (["x", "x" * 1000], ["", "x" * 1001]),
    r"A: /x{1,1000000}/": (["x", "x" * 1000], ["y"]),
    r"A: /.{0,500}?x/": (["x", "a" * 500 + "x"], ["a" * 501 + "x", "xx", "a"]),
    r"A: /a{2,400}?b/": (["aab", "a" * 400 + "b"], ["ab", "a" * 401 + "b"]),
    r"A: /[a-z][a-z0-9]{0,62}/": (["a", "a" * 63], ["a" * 64, "0"]),
}


@pytest.mark.parametrize("terminal", LARGE)
def test_large_bounds(terminal: str) -> None:
    grammar = Grammar.from_lark(f"start: A\n{terminal}")
    parser = lark.Lark(f"start: A\n{terminal}", parser="lalr")
    good, bad = LARGE[terminal]
    for text in (*good, *bad):
        expected = True
        try:
            parser.parse(text)
        except lark.exceptions.UnexpectedInput:
            expected = False
        assert grammar.accepts(text) == expected == (text in good), text[:40]


def test_counts_within_counts() -> None:
    """The outer one is counted; the chain of the inner one is too deep for one expression."""
    source = 'start: A "x"\nA: /(x{1,100};){1,100}/'
    grammar = Grammar.from_lark(source)
    parser = lark.Lark(source, parser="lalr")
    full = "x" * 100 + ";"
    texts = [begin * count for begin in ("x;", full, "x" + full) for count in (1, 99, 100, 101)]
    accepted = 0
    for text in [t + end for t in texts for end in ("", "x", "xx", "x;", "xx;x")]:
        expected = True
        try:
            parser.parse(text)
        except lark.exceptions.UnexpectedInput:
            expected = False
        accepted += expected
        assert grammar.accepts(text) == expected, (len(text), text[-9:])
    assert accepted > 6
    assert len(grammar.ir.rules) < 20


@pytest.mark.parametrize("name", ["bounded lazy", "words", "exactly", "in a loop"])
def test_deep_expressions_are_written_in_parts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(readings, "_DEEPEST", 4)
    monkeypatch.setattr(threads, "_COPIES", 1)
    source, letters, length = COUNTED[name]
    agree(source, every_text(letters, length)[:1500], ("contextual",))


def test_large_bounds_where_lexemes_meet() -> None:
    """What follows depends on how far a repetition came: a full one may be followed by more."""
    source = 'start: (A ";"?)+\nA: /x{1,1000}/'
    grammar = Grammar.from_lark(source)
    parser = lark.Lark(source, parser="lalr")
    for text in ("x", "x" * 1000, "x" * 1001, "x" * 2500, "x;" + "x" * 1001, "x;;"):
        expected = True
        try:
            parser.parse(text)
        except lark.exceptions.UnexpectedInput:
            expected = False
        assert grammar.accepts(text) == expected, len(text)
    assert len(grammar.ir.rules) < 20


# -- lark's grammar reference ------------------------------------------------------------------

REFERENCE = {
    "templates": (
        'start: _sep{n, ","} | pair{N, "-"}\n_sep{x, s}: x (s x)*\npair{x, y}: x y x\n'
        'n: N | "[" _sep{N, ";"} "]"\nN: /[01]/',
        "01,-[];",
        4,
    ),
    "nested templates": ('start: a{b{"x"}}\na{y}: y "," y\nb{z}: z z?', "x,", 6),
    "rule priorities": ('start: x | y\nx.2: A+\ny.1: A "b"?\nA: "a"', "ab", 4),
    "aliases": ('?start: s\n?s: p | s "+" p -> add\n!?p: N | "(" s ")"\nN: /[0-9]/', "1+()", 5),
    "placeholders": ('start: ["a"] ["b" | "c"] [x "d"]\nx: "e"?', "abcde", 4),
    "override and extend": (
        '%import common.INT\nstart: INT WORD\nWORD: "x"\n%override INT: /[ab]+/\n%extend WORD: "y"',
        "abxy1",
        4,
    ),
    "extended rule": ('start: x+\nx: "a"\n%extend x: "b" x', "ab", 5),
    "ranges and counts": (
        'start: A B~2 C~1..3 "z"~0..2\nA: "a".."c"\nB: A | "x"\nC: B~2',
        "abxz",
        5,
    ),
    "many copies": ('start: ("a" | "b")~60..70 "c"', "abc", 3),
    "flags": ('start: A B "k"i /q./s\nA: "x"i\nB: /y z/x', "xXyzkKq\n", 4),
    "terminals of terminals": (
        'start: T+\nT: A? B | C\nA: "a" | "aa"\nB: ("b" A)~1..2\nC: /c/ ["d"]',
        "abcd",
        5,
    ),
    "alternation beside text": ('start: T+\nT: /a|b/ "c"', "abc", 5),
    "escapes": (r'start: "\n" "\x41" /b/ "\\" "\""', '\nAb\\"', 5),
    "several ignored": ('start: A B\nA: /a/\nB: "b"\n%ignore " "\n%ignore /#[^b]*/', "ab #", 5),
    "empty": ("start: ", "a", 2),
    "beyond ASCII": ('start: /[а-я]+/ "é" "\\U0001F600"?', "аяé😀", 4),
    "renamed": (
        "%import common.CNAME -> NAME\n%import common (INT, WS)\nstart: NAME INT?\n%ignore WS",
        "a1_ ",
        5,
    ),
    "alternatives by length": ('start: T "c"?\nT: "a" | "ab" | "abc"', "abc", 5),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_reference(name: str) -> None:
    source, letters, length = REFERENCE[name]
    agree(source, every_text(letters, length)[:1200])


# -- terminals made of each other --------------------------------------------------------------


def levels(count: int) -> str:
    """A terminal whose text lark would double with each level."""
    lines = [f'A_{k}: "a" A_{k + 1} | "b" A_{k + 1} | "c"\n' for k in range(count)]
    return "start: A_0+\n" + "".join(lines) + f'A_{count}: "x"\n'


def test_shared_terminals_are_those_of_lark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_LEAST_SHARED", 2)
    agree(levels(4), every_text("abcx", 5))
    agree(
        'start: (T | W)+\nW: "ab"\n' + levels(3).replace("start: A_0+", "T: A_0+ | A_1~1..2"),
        every_text("abcx", 5),
    )


@pytest.mark.parametrize("count", [12, 60])
def test_many_levels_of_terminals(count: int) -> None:
    grammar = Grammar.from_lark(levels(count))
    assert len(grammar.ir.rules) < 10
    assert grammar.accepts("ab" * (count // 2) + "x" + "bc")
    assert not grammar.accepts("ab" * (count // 2))


# -- errors ------------------------------------------------------------------------------------

REFUSED = {
    "undefined rule": ('start: "a" missing\n', "missing", 1, 12),
    "undefined terminal": ('start: "a"\n  | MISSING', "MISSING", 2, 5),
    "syntax": ('start: "a"\nb: (("c"\n', "b: ((", 2, None),
    "start": ('begin: "a"', "begin", 1, 1),
    "empty terminal": ("start: A\nA: /a*/", "A", 2, 1),
    "bad pattern": ("start: A\nA: /a(/", "A", None, None),
    "declared": ("%declare X\nstart: X", "X", 1, 10),
    "backreference": (r"start: A" "\n" r"A: /(a|b)c\1/", "terminal A", 2, 1),
    "long look-ahead": ("start: A A\nA: /a(?=bc)/", "look-ahead", 2, 1),
    "nested look-ahead": ("start: A\nA: /(?!a(?!bc))[abc]+/", "terminal A", 2, 1),
    "look-ahead that another one needs": (
        "start: (A | B)+\nA.2: /a(?!bc)/\nB: /ab/",
        "terminal A",
        2,
        1,
    ),
    "twice": ('start: "a"\nstart: "b"', "start", 1, None),
    "import": ("%import nowhere.X\nstart: X", "nowhere", None, None),
    "rule in terminal": ('start: A\nA: b "c"\nb: "d"', "b", None, None),
    "nothing": ("", "start", 1, 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    source, quoted, line, column = REFUSED[name]
    with pytest.raises(GrammarError) as caught:
        lark_to_ir(source)
    assert quoted in caught.value.message
    assert caught.value.line is not None
    assert caught.value.column is not None
    assert line is None or caught.value.line == line
    assert column is None or caught.value.column == column


# -- shape -------------------------------------------------------------------------------------


def test_ordinary_grammar_stays_small() -> None:
    """Where no terminals meet, the rules come out as they were written."""
    ir = lark_to_ir(
        """
        start: value
        ?value: list | object | ESCAPED_STRING | SIGNED_NUMBER | "true" | "null"
        list: "[" [value ("," value)*] "]"
        object: "{" [pair ("," pair)*] "}"
        pair: ESCAPED_STRING ":" value
        %import common (ESCAPED_STRING, SIGNED_NUMBER, WS)
        %ignore WS
        """
    )
    assert len(ir.rules) <= 12
    assert {rule.name for rule in ir.rules if rule.shared} == {
        "ESCAPED_STRING",
        "SIGNED_NUMBER",
        "WS",
    }


def test_start_rule() -> None:
    grammar = Grammar(lark_to_ir('a: "x" b\nb: "y"', start="b"))
    assert grammar.accepts("y")
    assert not grammar.accepts("xy")


def test_import_paths(tmp_path: Path) -> None:
    (tmp_path / "words.lark").write_text('WORD: /[a-z]+/\npair: WORD "," WORD\n')
    source = "%import words.pair\nstart: pair"
    grammar = Grammar(lark_to_ir(source, import_paths=[str(tmp_path)]))
    assert grammar.accepts("ab,c")
    assert not grammar.accepts("ab,")


# -- files and their imports -------------------------------------------------------------------

BOM = "\ufeff"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grammar that imports from its folder what imports from a folder below; the shell is elsewhere.

    In the current folder lie others of the same names.
    """
    files = {
        "project/main.lark": 'start: pair "!"\n%import .words.pair\n',
        "project/words.lark": 'pair: WORD "," NUMBER\nWORD: /[a-z]+/\n%import .deep.digits.NUMBER\n',
        "project/deep/digits.lark": "NUMBER: /[0-9]+/\n",
        "elsewhere/words.lark": 'pair: "wrong"\n',
        "elsewhere/deep/digits.lark": 'NUMBER: "wrong"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


@pytest.mark.parametrize("relative", [False, True], ids=["absolute path", "relative path"])
@pytest.mark.parametrize("folder", ["project", "elsewhere", "."])
def test_relative_imports_are_those_of_the_file(
    folders: Path, monkeypatch: pytest.MonkeyPatch, relative: bool, folder: str
) -> None:
    """From whatever folder it is opened, as ``lark.Lark.open`` resolves them."""
    monkeypatch.chdir(folders / folder)
    path = folders / "project" / "main.lark"
    if relative:
        path = Path(os.path.relpath(path))
    reference = lark.Lark.open(str(path), parser="lalr")
    grammar = Grammar.from_file(path)
    for text in ("ab,12!", "ab,12", "wrong!", "ab,wrong!", ",1!", "ab,x!"):
        try:
            reference.parse(text)
            expected = True
        except lark.exceptions.UnexpectedInput:
            expected = False
        assert grammar.accepts(text) == expected, text


def test_import_paths_come_first(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (folders / "project" / "main.lark").read_text()
    for place in (folders / "project", str(folders / "project")):
        assert Grammar.from_lark(text, import_paths=[place]).accepts("ab,12!")
    loader = lark.load_grammar.FromPackageLoader("lark", ("grammars",))
    source = "start: NUMBER\n%import common.INT -> NUMBER\n"
    assert Grammar.from_lark(source, import_paths=[loader]).accepts("12")
    with pytest.raises(TypeError, match="list of folders"):
        Grammar.from_lark(text, import_paths=str(folders))
    monkeypatch.chdir(folders)  # where no script is running, lark goes on looking in this folder
    with pytest.raises(GrammarError, match="words"):
        Grammar.from_lark(text, import_paths=[folders / "nowhere"])


def test_a_text_reads_no_files(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the current folder nor of the running script's, which lark would read."""
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", str(folders / "project" / "x.py"), raising=False
    )
    for text in (
        'start: pair "!"\n%import .words.pair\n',
        'start: pair "!"\n%import words.pair\n',
        'start: pair "!"\n%import .deep.digits.pair\n',
        'start: pair "!"\n%import .words (pair, other)\n',
        'start: pair "!"\n%import .missing.pair\n',
        'start: pair "!"\n%import missing.pair\n',
    ):
        for dialect in ("lark", "llguidance"):
            with pytest.raises(GrammarError) as caught:
                Grammar.from_lark(text, dialect=dialect)
            assert "wrong" not in str(caught.value)
        with pytest.raises(GrammarError, match="there is no grammar") as caught:
            Grammar.from_lark(text)
        assert (caught.value.line, caught.value.column) >= (2, 9)
    assert Grammar.from_lark("start: INT\n%import common.INT\n").accepts("12")


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_imports_stay_in_the_folders_that_are_given(folders: Path) -> None:
    project = folders / "project"
    (project / "words.lark").unlink()
    (project / "words.lark").symlink_to(folders / "elsewhere" / "words.lark")
    with pytest.raises(GrammarError, match=r"no grammar 'words\.lark'"):
        Grammar.from_file(project / "main.lark")
    (project / "words.lark").unlink()
    (project / "words.lark").symlink_to(project / "real.lark")  # one that stays inside
    (project / "real.lark").write_text('pair: "in"\n')
    assert Grammar.from_file(project / "main.lark").accepts("in!")
    link = folders / "link"
    link.symlink_to(project, target_is_directory=True)
    assert Grammar.from_file(link / "main.lark").accepts("in!")
    text = (project / "main.lark").read_text()
    assert Grammar.from_lark(text, import_paths=[link]).accepts("in!")


def test_imports_that_go_round_are_told_with_both_places(folders: Path) -> None:
    words, digits = folders / "project" / "words.lark", folders / "project" / "deep" / "digits.lark"
    digits.write_text("\n%import .more.NUMBER\n")
    more = digits.with_name("more.lark")
    more.write_text("// a comment\n\n%import .digits (NUMBER)\n")
    with pytest.raises(GrammarError) as caught:
        Grammar.from_file(folders / "project" / "main.lark")
    said = str(caught.value)
    assert f"{digits} imports {more} in line 2" in said
    assert f"{more} imports {digits} in line 3" in said
    more.write_text("%import .more.NUMBER\n")
    with pytest.raises(GrammarError, match=r"imports go round.*more\.lark in line 1"):
        Grammar.from_file(folders / "project" / "main.lark")
    # the same grammar by two ways is no circle
    digits.write_text("NUMBER: /[0-9]+/\n")
    more.write_text("%import .digits.NUMBER\nlist: NUMBER+\n")
    words.write_text(
        '%import .deep.digits.NUMBER\n%import .deep.more.list\npair: NUMBER "," list\n'
    )
    assert Grammar.from_file(folders / "project" / "main.lark").accepts("1,23!")


def test_imports_with_a_byte_order_mark(folders: Path) -> None:
    for name in ("main", "words", "deep/digits"):
        path = folders / "project" / f"{name}.lark"
        path.write_text(BOM + path.read_text(), "utf-8")
    assert Grammar.from_file(folders / "project" / "main.lark").accepts("ab,12!")
    text = (folders / "project" / "main.lark").read_text("utf-8-sig")
    assert Grammar.from_lark(text, import_paths=[folders / "project"]).accepts("ab,12!")


def test_errors_in_an_imported_grammar_name_it(folders: Path) -> None:
    words = folders / "project" / "words.lark"
    words.write_text('pair: "a"\n\nother: (("b"\n')
    with pytest.raises(GrammarError) as caught:
        Grammar.from_file(folders / "project" / "main.lark")
    assert f"{words} near 'other: ((\"b\"' (line 3, column" in caught.value.message
    assert (caught.value.line, caught.value.column) == (2, 10), "the import"
    words.write_bytes(b'pair: "caf\xe9"\n')
    with pytest.raises(GrammarError, match="not UTF-8"):
        Grammar.from_file(folders / "project" / "main.lark")


BROKEN = [
    'start: "a\n', "start: @\n", "start: $\n", 'start "a"\n', "start: a b:\n", '%import "a"\n',
    "%ignore %import\n", "start: A\nA: ]\n", 'start: "x"->\n', "a: b? ?\n", 'start: "a" ~~\n',
    'start: "a"\nb: (("c"\n', 'start: a|\n b\n: "x"\n',
]  # fmt: skip


@pytest.mark.parametrize("source", BROKEN, ids=repr)
def test_reasons_are_whole(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lark says up to the place: all of it, to the last letter, where nothing better is known."""
    monkeypatch.setattr("grammars.frontends.lark.source.syntax", lambda *_: None)
    with pytest.raises(lark.exceptions.LarkError) as theirs:
        lark.Lark(source)
    with pytest.raises(GrammarError) as ours:
        Grammar.from_lark(source)
    whole = re.split(r",? (?:at )?line \d+", str(theirs.value))[0]
    assert ours.value.message.endswith(f": {whole}; correct the line")
