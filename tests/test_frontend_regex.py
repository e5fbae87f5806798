"""The regex front end against ``re.fullmatch`` itself."""

from __future__ import annotations

import itertools
import re
import sys
import time

import pytest
import regex
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from grammars.errors import GrammarError
from grammars.frontends.regex.python import regex_to_expr, regex_to_ir
from grammars.grammar import Grammar
from grammars.ir import Repeat, single_rule, walk


def grammar_of(pattern: str, flags: int = 0, *, look_around: bool = False) -> Grammar:
    return Grammar(single_rule(regex_to_expr(pattern, flags, look_around=look_around)))


def refusal(pattern: str) -> str:
    """The message of the error, or the empty text."""
    try:
        regex_to_expr(pattern)
    except GrammarError as error:
        return error.message
    return ""


def all_texts(alphabet: str, longest: int) -> list[str]:
    return [
        "".join(letters)
        for size in range(longest + 1)
        for letters in itertools.product(alphabet, repeat=size)
    ]


def assert_same(
    pattern: str, texts: list[str], flags: int = 0, *, look_around: bool = False
) -> None:
    compiled = re.compile(pattern, flags)
    grammar = grammar_of(pattern, flags, look_around=look_around)
    for text in texts:
        assert grammar.accepts(text) == bool(compiled.fullmatch(text)), (pattern, text)


SHORT = all_texts("ab\n ", 4)

POSITIONS = [
    r"^a$",
    r"a$\n",
    r"(a$)?\n?",
    r"$",
    r"$\n",
    r"$\n$",
    r"$\n\Z",
    r"(^|b)a",
    r"(^a|b)*",
    r"(a\Z|b)*",
    r"(a$|\n|b)*",
    r"(a$|\n|b){2,4}",
    r"a\b",
    r"a\b\s*b?",
    r"\ba\b",
    r"\b",
    r"\B",
    r"\Ba",
    r"(?:\B|)*",
    r"(\B|a)*",
    r"(\b|a)*b",
    r"(?:\ba+\b ?)*",
    r"(?:\ba+\b ?){1,3}",
    r"(?:a\b|\bb| |\Ba)+",
    r"(?m)(^a$\n?)*",
    r"(?m)^a$|b\n$",
    r"(?m:^)a|\n(?m:^)(?-m:$)",
    r"(?m:(?:^|b)a)*(?:\n)?",
    r"(?a:\b)a b\b",
    r"(?s:.)\Aa|.\bb",
    r"a^b|a$b",
    r"(?:a*$\n*)*",
]


@pytest.mark.parametrize("pattern", POSITIONS)
def test_anchors_and_boundaries(pattern: str) -> None:
    assert_same(pattern, SHORT)


@pytest.mark.parametrize(
    "pattern",
    [r"\b\w\b.?", r"(?a:\b)\w+", r"(?a:\B\w\B)", r"\w(?a:\b)\w", r"(?:\b\w(?a:\b)\W?)*"],
)
def test_boundaries_of_both_kinds(pattern: str) -> None:
    assert_same(pattern, all_texts("aé-", 4))


ATOMIC = [
    r"a*+b",
    r"a*+a",
    r"a{1,2}+a",
    r"a{1,2}+a*b",
    r"(?:ab)*+a?",
    r"(?:ab)?+a",
    r"(?>a|ab)b?",
    r"(?>ab|a)b?",
    r"(?>a|b|ab)*",
    r"(?>a*)b|(?>a+?)a",
    r"(?>a(?:a|b)*)b",
    r"(?>(?:a*b)?)a*",
    r"(?:a*+b| )*",
    r"(?:a?+b)*",
    r"(?>)a",
    r"(?>a(?>b*)) ?",
    r"(?:\b)*+a",
    r"(?>a|ab|b)b",
    r"a(?>a|aa+b?)a",
    r"b(a+b?)*+",
    r"(?:a|ab){2}+.*",
    r"(?>(?:a|ab){2}).*",
    r"(?>(?:a|ab)+?b?)b",
    r"(?>(?:a|ab)(?:b|))b?",
    r"(?:(?>a+b?|b)|a)*",
    r"(?>(?>a|ab)b|a)b*",
    r"(?>a+?(?=b)|a)b",
]


@pytest.mark.parametrize("pattern", ATOMIC)
def test_atomic(pattern: str) -> None:
    assert_same(pattern, SHORT, look_around=True)


LOOKS = [
    r"(?=a)[ab]*",
    r"(?!ab)[ab]*",
    r"[ab]*(?<!ab)",
    r"[ab]*(?<=ba)",
    r"a(?=b.)[^\n]*",
    r".*(?<=ab).*",
    r"(?s).*(?<=ab).*(?!ba).*",
    r"(?s)(?=.*ab).*(?<!aa)",
    r"(?:(?!a)[ab ])*",
    r"(?<!a)b|(?<=a)b|a(?<=a)b(?=\n).",
    r"(?=a$)a\n?",
    r"(?!a$)a\n?",
    r"(?<=^a)b|a(?<=^a)b",
    r"a(?!$)\n",
    r"(?!)|a|(?!b)",
    r"(?=(?!ab)a)[ab]*",
    r"(?:a(?=ab)|b){0,3}.*",
    r"(?=.*\bb)(?!.*a$).*",
    r"(?=a|$).?",
    r"(?:(?!ab).)*",
    r"(?:(?!ab)[ab])*\n?",
    r"(?:a(?=b)|b(?<=ab)|\n(?<!b\n))*",
    r"a(?:b(?=ab)a)*b",
    r"a(?=ab).*(?<=ab)b",
    r"a(?=b(?<=ab))b",
    r"(?:a(?=.*b(?<=abb)))*.*",
    r"(?:(?<=a(?=b))b|a)*",
    r"(?:\b(?!ab)[ab]+ ?)*",
    r"(?<!(?:$){1})\n",
    r"(?:(?!a$)[ab])*\n?",
    r"(?:\ba|b){2,100}",
    r"(?:(?>a|ab)(?!b)|b)*",
]


@pytest.mark.parametrize("pattern", LOOKS)
def test_look_around_on_request(pattern: str) -> None:
    assert_same(pattern, SHORT, look_around=True)


def test_look_around_in_lexemes() -> None:
    texts = all_texts('"\\a', 6)
    assert_same(r'"(?!"").*?(?<!\\)(\\\\)*?"', texts, look_around=True)
    assert_same(r'".*?(?<!\\)(\\\\)*?"', texts, look_around=True)


# --- flags and classes ---------------------------------------------------------------------------

ODD = ["", *"aAbkKsSſ\u212aµμΜéÉßẞıiİI\n\r.0٣_ \u00a0\u2028ǅǆǄΣσς\ufb05\ufb06\U00010400\U00010428"]


@pytest.mark.parametrize(
    ("pattern", "flags"),
    [
        *[(f"(?i:{c})", 0) for c in ODD if c not in "\n\r. "],
        *[(f"(?ia:{c})", 0) for c in "akKsSſµé"],
        (r"(?i)[^k]", 0),
        (r"(?i)[^\u212a]", 0),
        (r"(?i)[a-z]", 0),
        (r"(?ia)[a-z]", 0),
        (r"(?i)[\W]", 0),
        (r"(?i)[^\Ws]", 0),
        (r"(?i)[\U00010400-\U00010410]", 0),
        (r"(?i:a)b", 0),
        (r"(?i:a(?-i:b))", 0),
        (r"a", re.IGNORECASE),
        (r".", 0),
        (r".", re.DOTALL),
        (r"(?s:.)|\r", 0),
        (r"\w", 0),
        (r"\w", re.ASCII),
        (r"(?a:\w)|\d", 0),
        (r"(?a:\d)", 0),
        (r"(?a)(?u:\d)", 0),
        (r"\s", 0),
        (r"\S", re.ASCII),
        (r"[\s\d]", 0),
        (r"[^\s\d]", 0),
        (r"[\D]", re.ASCII),
        (r"\D", 0),
        (r"[^\n]", 0),
        (r" a # comment", re.VERBOSE),
        (r"(?x: a ) ?", 0),
        (r"(?x) [ ] \  #)", 0),
        (r"a # b", 0),
    ],
)
def test_flags_and_classes(pattern: str, flags: int) -> None:
    assert_same(pattern, [*ODD, "ab", "Ab", "aB", "AB", "a # b", "a ", "  "], flags)


@pytest.mark.parametrize(
    "pattern",
    [r"\w", r"\s", r"\D", r"(?a)\W", r"(?i)[a-zß]", r"(?i)[^\u0370-\u03ff]", r"[\W_]", "(?i)ß",
     "(?i)ſ", "(?ia)k", r"(?i)[^ſ\d]"],
)  # fmt: skip
def test_every_code_point(pattern: str) -> None:
    compiled = re.compile(pattern)
    grammar = grammar_of(pattern)
    points = code_points(1 if pattern == "(?i)ſ" else 7)
    wrong = [p for p in points if grammar.accepts(chr(p)) != bool(compiled.fullmatch(chr(p)))]
    assert wrong == []


def code_points(step: int) -> list[int]:
    """Code points, each ``step``-th where characters are assigned, few of empty planes, no surrogates."""
    points = [*range(0, 0x33480, step), *range(0x33480, sys.maxunicode + 1, 101)]
    return [p for p in points if not 0xD800 <= p <= 0xDFFF]


def test_surrogates_are_no_text() -> None:
    assert grammar_of(r"\ud800").is_empty
    assert not grammar_of(r"[\ud800-\udfff]?a").is_empty


# --- properties ----------------------------------------------------------------------------------

PROPERTIES = [
    r"\p{L}", r"\P{L}", r"\p{^L}", r"\pL", r"\PL", r"\p{Lu}", r"\p{General_Category=Nd}", r"\p{Greek}",
    r"\p{Script=Greek}", r"\p{sc=Grek}", r"\p{scx=Deva}", r"\p{greek}", r"\p{Emoji}",
    r"\p{Extended_Pictographic}", r"\p{Alphabetic}", r"\p{ID_Start}", r"\p{ID_Continue}",
    r"\p{White_Space}", r"\p{Lowercase}", r"\p{Uppercase}", r"[\p{L}_-]", r"[^\p{L}0-9]", r"[^\P{L}]",
    r"[\P{Greek}a]", r"(?i)\p{Lu}", r"(?i)\P{Lu}", r"(?i)[\p{Lu}_]", r"(?i)\p{Greek}",
    r"(?i)[\p{Greek}_]", r"(?i)[\P{Greek}a]", r"(?i)[^\p{Greek}a]", r"(?i:\p{Lu})", r"(?a)\p{L}",
    r"(?a)\P{L}", r"a|\p{Lu}", r"(?x) \p{Lu} # \p{Foo}", r"\p{InGreek}", r"\p{L&}",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PROPERTIES)
def test_properties_of_every_code_point(pattern: str) -> None:
    compiled = regex.compile(pattern)
    grammar = grammar_of(pattern)
    points = code_points(5)
    near = map(ord, "aAzZ019_µμΜαΩωKſßǅªʰ①٣ \u00a0\u2028\u0301😀✂#।क中")
    wrong = [
        p for p in {*points, *near} if grammar.accepts(chr(p)) != bool(compiled.fullmatch(chr(p)))
    ]
    assert wrong == []


def test_properties_by_their_names_in_unicode() -> None:
    """``regex`` takes these for names of blocks."""
    assert grammar_of(r"\p{IDC}") == grammar_of(r"\p{ID_Continue}")
    assert grammar_of(r"\p{VS}") == grammar_of(r"\p{Variation_Selector}")


def test_properties_beside_surrogates() -> None:
    """The characters that stand for properties are others than those of the pattern."""
    grammar = grammar_of("[\\ud800\ud801]|\\p{Lu}|\\U0000d802b")
    assert [grammar.accepts(x) for x in ("A", "b", "Ab")] == [True, False, False]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("pattern", "line", "column", "part"),
    [
        ("a(b", 1, 2, "unterminated"),
        ("a)", 1, 2, "unbalanced"),
        ("*a", 1, 1, "nothing to repeat"),
        ("[b-a]", 1, 2, "bad character range"),
        ("a\nb[", 2, 2, "unterminated character set"),
        (r"\q", 1, 1, "bad escape"),
        ("a{2,1}", 1, 3, "min repeat"),
        ("a{99999999999999999999}", 1, 2, "too large"),
        (r"(a)\1", 1, 4, "backreference"),
        (r"(?P<x>a)b(?P=x)", 1, 10, "backreference"),
        (r"[\1](a)\n\1", 1, 10, "backreference"),
        (r"(a)?(?(1)b|c)", 1, 5, "conditional group"),
        ("a(?=b)", 1, 2, "look-ahead"),
        ("ab\n(?!b)", 2, 1, "look-ahead"),
        ("a(?<=b)", 1, 2, "look-behind"),
        ("a(?<!b)", 1, 2, "look-behind"),
        (r"[(?=]\(?=a(?!x)", 1, 11, "look-ahead"),
        ("(?x)a # (?=\n(?=b)", 2, 1, "look-ahead"),
        ("a(?>a|(?:b?c?)*d)a", 1, 2, "atomic"),
        ("b(?:a?b?)*+", 1, 10, "possessive"),
        (r"a}+b(?:a?b?)*+(?>a)", 1, 13, "possessive"),
        (r"ab\p{Foo}", 1, 3, "no property that is known"),
        ("[x\\p{L}\n\\P{Script=Foo}]", 2, 1, "Script=Foo"),
        (r"\pX", 1, 1, "no property that is known"),
        (r"[\p{L}-z]", 1, 2, "bad character range \\p{L}-z"),
        (r"a[!-\p{L}]", 1, 5, "end of a range"),
        (r"\p{L}\p", 1, 6, "bad escape"),
        (r"\p{L}(a)\p{L}\1", 1, 14, "backreference"),
        (r"(?x)\p{L} (?=\p{Lu}\p{L})", 1, 11, "look-ahead"),
        ("(?<=a+)b", 1, 1, "fixed-width"),
        ("a(?i)b", 1, 2, "global flags"),
    ],
)
def test_errors(pattern: str, line: int, column: int, part: str) -> None:
    with pytest.raises(GrammarError) as caught:
        regex_to_expr(pattern)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert part in caught.value.message


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(GrammarError):
        regex_to_expr("(" * 5000 + "a" + ")" * 5000)


# --- shape ---------------------------------------------------------------------------------------


def test_one_rule() -> None:
    ir = regex_to_ir("a|b")
    assert ir.start == "root"
    assert [rule.name for rule in ir.rules] == ["root"]


@pytest.mark.parametrize("pattern", [r".{0,1000000}", r"^\w{3,50000}$", r"(?i:a[bc]){7,9000}x"])
def test_repetitions_stay_repetitions(pattern: str) -> None:
    expr = regex_to_expr(pattern)
    assert any(isinstance(node, Repeat) and (node.max or 0) >= 9000 for node in walk(expr))
    assert sum(1 for _ in walk(expr)) < 20


def test_classes_are_quick() -> None:
    begun = time.process_time()
    for pattern in (r"\w+", r'[^"\\]*', r"[\w-]+@\w+\.\w{2,}", r"(?i)straße|\d+"):
        grammar_of(pattern)
    assert time.process_time() - begun < 3


# --- random patterns -----------------------------------------------------------------------------


def patterns() -> st.SearchStrategy[str]:
    """Patterns with anchors, boundaries, flags, possessive repetitions everywhere."""
    single = st.sampled_from(
        ["a", "b", r"\n", " ", "[ab]", ".", r"\w", r"\s", "(?s:.)", r"\W", "(?i:A)", "[^a]",
         "^", "$", r"\b", r"\B", r"\A", r"\Z", "(?m:^)", "(?m:$)", r"(?a:\b)", ""]
    )  # fmt: skip
    suffix = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?", "{2,}", "*+", "?+"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.lists(inner, min_size=2, max_size=4).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.builds("(?:{}){}".format, inner, suffix),
            st.builds("(?>{})".format, inner),
        )

    return st.recursive(single, grow, max_leaves=8)


SHORTER = all_texts("a\n ", 3)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(patterns())
def test_random_patterns(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error:
        assume(False)
    refused = refusal(pattern)
    if refused:
        assert "atomic" in refused
    else:
        assert_same(pattern, SHORTER)


WRITTEN = [
    r"[a-z]+(?:-[a-z]+)*", r"\d{1,3}(?:\.\d{1,3}){3}", r"(?i)0x[0-9a-f]+\b", r"^\s*#.*$",
    r"\$?\d+(?:,\d{3})*(?:\.\d\d)?", r"(?:https?://)?[\w.-]+\.\w{2,6}(?:/\S*)?", r"\bword\b.*",
    r"\"(?:[^\"\\]|\\.)*\"", r"(?x) [+-]? \d+ (?: e [+-]?\d+ )? # number", r"(?a)\w{2,5}\W\w+",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_texts_from_patterns(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(WRITTEN))
    text = data.draw(st.from_regex(pattern, fullmatch=data.draw(st.booleans())))
    assume(not any(0xD800 <= ord(c) <= 0xDFFF for c in text))
    edited = text + data.draw(st.sampled_from(["", "", "\n", " ", "a", "é", "0"]))
    assert_same(pattern, [text, edited])
