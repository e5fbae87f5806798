"""The ECMA-262 front end: tables, and Python's ``re.search`` where the dialects agree."""

from __future__ import annotations

import itertools
import re
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.regex.ecma import ecma_search_to_expr
from grammars.frontends.regex.properties import property_ranges
from grammars.grammar import Grammar
from grammars.ir import ANY_CHAR, Chars, Literal, Ranges, repeat, seq, single_rule


def grammar_of(pattern: str) -> Grammar:
    return Grammar(single_rule(ecma_search_to_expr(pattern)))


def refusal(pattern: str) -> str:
    """The message of the error, or the empty text."""
    try:
        ecma_search_to_expr(pattern)
    except GrammarError as error:
        return error.message
    return ""


# pattern -> (texts with a match, texts without)
TABLE: dict[str, tuple[list[str], list[str]]] = {
    # classes
    r"^\d$": (["1"], ["٣", "a", "11"]),
    r"^\D$": (["٣", "a", "\n"], ["1"]),
    r"^\w$": (["a", "Z", "_", "0"], ["é", "-", "ſ", "\u212a"]),
    r"^\W$": (["é", "-", "ſ"], ["a", "_"]),
    r"^\s$": (
        [" ", "\t", "\v", "\n", "\r", "\u00a0", "\ufeff", "\u2028", "\u2003", "\u3000"],
        ["\x85", "\x1c", "\u180e", "\u200b", "a"],
    ),
    r"^\S$": (["\x85", "a"], ["\ufeff", " "]),
    r"^.$": (["a", "😀", "\x85", "\v"], ["\n", "\r", "\u2028", "\u2029", "ab", ""]),
    r"^[^]$": (["a", "\n", "😀"], ["", "ab"]),
    r"[]": ([], ["", "a", "]"]),
    r"a[]|b": (["b"], ["a", ""]),
    r"^[a\-z]$": (["a", "-", "z"], ["b"]),
    r"^[\w-]$": (["-", "a"], ["."]),
    r"^[\w-.]$": (["-", "a", "."], ["/"]),
    r"^[+--]$": (["+", ",", "-"], ["."]),
    r"^[^\W_]$": (["a"], ["_", "é"]),
    r"^[\b]$": (["\b"], ["b"]),
    r"^[.*]$": ([".", "*"], ["a"]),
    r"^[\]^]$": (["]", "^"], ["a"]),
    r"^[é-ü]$": (["é", "ö", "ü"], ["e", "ý"]),
    # escapes
    r"^\cA\cj$": (["\x01\n"], ["A"]),
    r"^\x41\u0062\u{1F600}\u{0}\0$": (["Ab😀\0\0"], ["Ab"]),
    r"^\uD83D\uDE00$": (["😀"], [""]),
    r"^[\uD83D\uDE00-\uD83D\uDE02]$": (["😀", "😂"], ["😃"]),
    r"^[\ud83c-\udbff][\udc00-\udfff]$": (["😀", "\U0010fffd"], ["a", "\U00010000", "😀😀"]),
    r"^\ud83d[\ude00-\ude4f]$": (["😀"], ["🚀"]),
    r"^(?:[\u2700-\u27bf]|\ud83c[\udde6-\uddff]){2}$": (["🇩🇪", "✂🇩"], ["🇩", "DE"]),
    r"^[^\ud800-\udfff]$": (["a", "😀", "\uffff"], ["", "ab"]),
    r"^[\u0000-\uffff]$": (["a", "\ud7ff", "\ue000"], ["😀"]),
    r"^[\P{C}!]\P{Cs}$": (["a\0"], ["\0a"]),
    r"^\t\n\v\f\r$": (["\t\n\v\f\r"], ["tnvfr"]),
    r"^\^\$\\\.\*\+\?\(\)\[\]\{\}\|\/$": (["^$\\.*+?()[]{}|/"], [""]),
    # properties
    r"^\p{L}$": (["a", "é", "中", "ǅ"], ["1", "\u0301", "_"]),
    r"^\p{Letter}\P{Lu}$": (["ab", "A1"], ["aB", "1a"]),
    r"^\p{General_Category=Decimal_Number}\p{gc=Zs}$": (["٣ "], ["① "]),
    r"^[\p{N}_]+$": (["①_1"], ["a"]),
    r"^[^\p{LC}]$": (["1", "中"], ["a", "ǅ"]),
    r"^\p{ASCII}\p{Any}\p{Assigned}$": (["a😀b"], ["é😀b", "aa\u0378"]),
    r"^\p{P}\p{S}\p{M}\p{Co}$": (["!+\u0301\ue000"], ["++\u0301\ue000"]),
    r"^\p{Script=Greek}\p{sc=Cyrl}\P{Script=Han}$": (["αяa"], ["aяa", "ααa", "αя中"]),
    r"^\p{Lowercase}\p{Upper}\p{White_Space}$": (["aÉ\x85"], ["AA ", "aa ", "aA\ufeff"]),
    # leniencies
    r"^\-\_\@\'\"\,\ \#\<$": (["-_@'\", #<"], [""]),
    r"^a{$": (["a{"], ["a"]),
    r"^a{,5}$": (["a{,5}"], ["a", "aaaaa"]),
    r"^a{1$|^{x}]$": (["a{1", "{x}]"], ["a", "x"]),
    r"(?=a)*b": (["b", "ab"], ["a"]),
    # anchors
    r"": (["", "a"], []),
    r"a": (["a", "bab", "a\n"], ["", "b"]),
    r"^a$": (["a"], ["a\n", "\na", "", "aa"]),
    r"^a|b$": (["a", "ab", "xb", "ax"], ["xa", "bx", ""]),
    r"(^a|b)c$": (["ac", "bc", "xbc"], ["xac", "acx"]),
    r"(?:^|,)a(?:,|$)": (["a", "b,a", "a,b", "b,a,c"], ["ba", "b,ab", ",a."]),
    r"^(a|^b)+$": (["b", "ba", "aa"], ["ab"]),
    r"a$b|^": (["", "x"], []),
    r"a$b": ([], ["ab", "a\nb"]),
    r"^$": ([""], ["\n", "a"]),
    r"\ba\b": (["a", "-a-", "éaé"], ["ab", "_a"]),
    r"a\B": (["ab", "a_"], ["a", "a-"]),
    r"^\B": (["", "-"], ["a"]),
    r"^\B$": ([""], ["a"]),
    r"^(?:\b\w+\b[ ,]?)+$": (["a", "ab cd,ef"], ["a  b", ""]),
    # groups and repetitions
    r"^(?<year>\d{4})-(?:0[1-9]|1[0-2])$": (["2024-01", "1999-12"], ["2024-13", "999-01"]),
    r"^a{2}b{1,}c{0,2}?d*?e+?f??$": (["aabe", "aabbccddeef"], ["abe", "aabccce"]),
    r"^(?:)$": ([""], ["a"]),
    # look-around
    r"^(?!a)b?": (["b", "", "x"], ["a", "ab"]),
    r"^(?=.*\d)(?=.*[a-z]).{3,5}$": (["a1b", "11a"], ["abc", "a1", "a1\nb"]),
    r"^(?!.*--)[a-z-]+$": (["a-b", "-"], ["a--b", ""]),
    r"^(?!-)[a-z-]{1,4}(?<!-)$": (["a", "a-b"], ["-a", "a-"]),
    r"(?<![a-z])b(?![a-z])": (["b", "-b-", "1b"], ["ab", "bc"]),
    r"^[ab]*(?<!ab)$": (["ba", "", "b", "abb"], ["ab", "bab"]),
    r"(?<=^a)b": (["ab"], ["b", "aab"]),
    r"^(?!(?:con|nul)$)\w+$": (["cons", "a"], ["con", "nul"]),
    r"(?=b$)b": (["ab"], ["ba"]),
    r"x(?!)": ([], ["x"]),
    r"(?=a)(?=b)": ([], ["ab"]),
    # forbidden parts
    r"^(?:(?!ab).)*$": (["", "ba", "aa"], ["ab", "xabx", "b\nb"]),
    r"^x((?!ab|-)[^c])+$": (["xa", "xba"], ["x", "xab", "xa-", "xc", "a"]),
    r"^a$|((?!aa)a)*$": (["", "a", "ba", "aa", "xaa"], []),
    r"^(?:a(?=bc)|[bc])*$": (["abc", "bcabc", ""], ["ab", "a", "acb"]),
    r"^(?:[abc](?<!ab))+$": (["a", "acb", "ba"], ["ab", "", "cab"]),
    r"^(?:(?!</a>).)*</a>$": (["</a>", "<a></a>", "</</a>"], ["</a></a>", "a", "\r</a>"]),
    r"^(a(?!bb))*b*$": (["", "aab", "bbb"], ["abb", "aba"]),
    r"^(?:(?<=^|,\s*)\w+,?\s*)+$": (["a", "a, b,c"], ["a b", ",a"]),
    r"^([a-zA-Z\d]|[a-zA-Z\d][\w.-]*[a-zA-Z\d])$": (["a", "a.b-c", "Foo_1"], ["-a", "a.", ""]),
}


@pytest.mark.parametrize("pattern", TABLE)
def test_table(pattern: str) -> None:
    grammar = grammar_of(pattern)
    yes, no = TABLE[pattern]
    for text in yes:
        assert grammar.accepts(text), text
    for text in no:
        assert not grammar.accepts(text), text


@pytest.mark.parametrize(
    ("pattern", "column", "part"),
    [
        ("a(", 2, "never closed"),
        ("a)", 2, "closes no group"),
        ("a[b", 2, "never closed"),
        ("ab\\", 3, "backslash"),
        ("a**", 3, "nothing to repeat"),
        ("a|+", 3, "nothing to repeat"),
        ("{2}", 1, "nothing to repeat"),
        ("a{2,1}", 1, "reversed"),
        ("a^*", 2, "anchor"),
        (r"\b+", 1, "anchor"),
        ("(?<=a)*", 1, "look-behind"),
        ("[xb-a]", 3, "bad range"),
        (r"(a)\1", 4, "backreference"),
        (r"(?<n>a)\k<n>", 8, "backreference"),
        (r"a\a", 2, "not an escape"),
        (r"^a\Z", 3, "not an escape"),
        (r"\x4", 1, "hexadecimal"),
        (r"a\u00", 2, "hexadecimal"),
        (r"\u{110000}", 1, "hexadecimal"),
        (r"\c1", 1, "letter"),
        (r"\p{Script=Klingon}", 1, "not a property"),
        (r"\p{Script=greek}", 1, "not a property"),
        (r"\p{script=Greek}", 1, "not a property"),
        (r"\p{IsGreek}", 1, "not a property"),
        (r"a\p{RGI_Emoji}", 2, "strings"),
        (r"[\ud800-\udfff]", 1, "half a surrogate pair"),
        (r"a\uD83D", 2, "half a surrogate pair"),
        (r"\udc00", 1, "half a surrogate pair"),
        (r"[a\ud83d]", 1, "half a surrogate pair"),
        (r"\ud83d*", 1, "half a surrogate pair"),
        (r"\ud83d(?:\udc00)", 1, "half a surrogate pair"),
        (r"\p{Cs}", 1, "half a surrogate pair"),
        (r"(?=[\udc00-\udfff])", 4, "half a surrogate pair"),
        (r"[\ud83c-\ud83d][\udc00-\udfff]+", 16, "both halves"),
        (r"\A", 1, "not an escape"),
        (r"\01", 1, "not an escape"),
        (r"[\w\8]", 4, "not an escape"),
        ("(?i:a)", 1, "not a group"),
        (r"a\p{Foo}", 2, "not a property"),
        (r"\pL", 1, "braces"),
        (r"\p{L", 1, "never closed"),
        ("(?i)a", 1, "not a group"),
        ("a(?P<n>b)", 2, "not a group"),
        ("(?<1>b)", 1, "name"),
    ],
)
def test_errors(pattern: str, column: int, part: str) -> None:
    with pytest.raises(GrammarError) as caught:
        ecma_search_to_expr(pattern)
    assert (caught.value.line, caught.value.column) == (1, column)
    assert part in caught.value.message


def test_line_of_an_error() -> None:
    with pytest.raises(GrammarError) as caught:
        ecma_search_to_expr("a\nb[")
    assert (caught.value.line, caught.value.column) == (2, 2)


def test_anchored_patterns_become_plain() -> None:
    anything = repeat(ANY_CHAR)
    assert ecma_search_to_expr("^abc$") == Literal(b"abc")
    assert ecma_search_to_expr("^abc") == seq(Literal(b"abc"), anything)
    assert ecma_search_to_expr("abc$") == seq(anything, Literal(b"abc"))


# --- properties and pairs ------------------------------------------------------------------------

BINARY = (
    "ASCII ASCII_Hex_Digit AHex Alphabetic Alpha Any Assigned Bidi_Control Bidi_C Bidi_Mirrored "
    "Bidi_M Case_Ignorable CI Cased Changes_When_Casefolded CWCF Changes_When_Casemapped CWCM "
    "Changes_When_Lowercased CWL Changes_When_NFKC_Casefolded CWKCF Changes_When_Titlecased CWT "
    "Changes_When_Uppercased CWU Dash Default_Ignorable_Code_Point DI Deprecated Dep Diacritic Dia "
    "Emoji Emoji_Component EComp Emoji_Modifier EMod Emoji_Modifier_Base EBase Emoji_Presentation "
    "EPres Extended_Pictographic ExtPict Extender Ext Grapheme_Base Gr_Base Grapheme_Extend Gr_Ext "
    "Hex_Digit Hex IDS_Binary_Operator IDSB IDS_Trinary_Operator IDST ID_Continue IDC ID_Start IDS "
    "Ideographic Ideo Join_Control Join_C Logical_Order_Exception LOE Lowercase Lower Math "
    "Noncharacter_Code_Point NChar Pattern_Syntax Pat_Syn Pattern_White_Space Pat_WS "
    "Quotation_Mark QMark Radical Regional_Indicator RI Sentence_Terminal STerm Soft_Dotted SD "
    "Terminal_Punctuation Term Unified_Ideograph UIdeo Uppercase Upper Variation_Selector VS "
    "White_Space space XID_Continue XIDC XID_Start XIDS"
)
"""ECMA-262, table "Binary Unicode property aliases and their canonical property names"."""

# one character that has the property and one that has not
MEMBERS = {
    "Alphabetic": ("ⓐ", "1"),
    "Bidi_Control": ("\u200f", "a"),
    "Bidi_Mirrored": ("(", "!"),
    "Case_Ignorable": ("'", "a"),
    "Cased": ("ª", "1"),
    "Changes_When_NFKC_Casefolded": ("ﬁ", "é"),
    "Changes_When_Uppercased": ("ß", "A"),
    "Dash": ("—", "_"),
    "Default_Ignorable_Code_Point": ("\u00ad", " "),
    "Deprecated": ("ŉ", "n"),
    "Diacritic": ("^", "a"),
    "Emoji": ("#", "a"),
    "Emoji_Component": ("\u200d", "😀"),
    "Emoji_Modifier": ("🏽", "😀"),
    "Emoji_Modifier_Base": ("👋", "😀"),
    "Emoji_Presentation": ("😀", "✂"),
    "Extended_Pictographic": ("✂", "#"),
    "Extender": ("·", "."),
    "Grapheme_Extend": ("\u0301", "a"),
    "Hex_Digit": ("Ｆ", "G"),
    "IDS_Binary_Operator": ("⿰", "⿲"),
    "IDS_Trinary_Operator": ("⿲", "⿰"),
    "ID_Continue": ("_", "-"),
    "ID_Start": ("ª", "1"),
    "Ideographic": ("〇", "ア"),
    "Join_Control": ("\u200c", "a"),
    "Logical_Order_Exception": ("เ", "ก"),
    "Math": ("+", "-"),
    "Noncharacter_Code_Point": ("\uffff", "\ufffd"),
    "Pattern_Syntax": ("!", "_"),
    "Quotation_Mark": ("«", "<"),
    "Radical": ("⺀", "一"),
    "Regional_Indicator": ("🇩", "D"),
    "Sentence_Terminal": ("。", ","),
    "Soft_Dotted": ("i", "ı"),
    "Terminal_Punctuation": (",", "("),
    "Unified_Ideograph": ("一", "〇"),
    "Variation_Selector": ("\ufe0f", "a"),
    "XID_Start": ("ª", "\u037a"),
    "Script_Extensions=Devanagari": ("।", "a"),
    "Script=Common": ("।", "क"),
    "scx=Grek": ("\u0342", "a"),
    "sc=Qaac": ("ⲁ", "a"),
}


@pytest.mark.parametrize("name", BINARY.split())
def test_every_binary_property_is_known(name: str) -> None:
    ranges = property_ranges(name)
    assert ranges
    assert ranges == property_ranges(name)
    assert property_ranges(name.lower() + "_") is None


@pytest.mark.parametrize("name", MEMBERS)
def test_properties(name: str) -> None:
    has, has_not = MEMBERS[name]
    grammar, opposite = grammar_of(rf"^\p{{{name}}}$"), grammar_of(rf"^[^\p{{{name}}}]$")
    assert (grammar.accepts(has), grammar.accepts(has_not)) == (True, False)
    assert (opposite.accepts(has), opposite.accepts(has_not)) == (False, True)


def test_emoji_of_a_validation_library() -> None:
    grammar = grammar_of(r"^(\p{Extended_Pictographic}|\p{Emoji_Component})+$")
    for text in ("😀", "👨‍👩‍👧", "🇩🇪", "👋🏽", "1️⃣"):
        assert grammar.accepts(text)
    assert not grammar.accepts("a")


def is_in(ranges: Ranges, point: int) -> bool:
    return any(low <= point <= high for low, high in ranges)


ASSIGNED = [p for p in range(0x110000) if unicodedata.category(chr(p)) not in ("Cn", "Cs")]
"""In the version of Unicode that Python has, which is no later than that of the properties."""


def test_categories_are_those_of_python() -> None:
    """Characters seldom change their category from one version to the next."""
    found = {
        c: property_ranges(c) for c in sorted({unicodedata.category(chr(p)) for p in ASSIGNED})
    }
    flat = {p: c for c, ranges in found.items() for a, b in ranges or () for p in range(a, b + 1)}
    others = [p for p in ASSIGNED if flat.get(p) != unicodedata.category(chr(p))]
    assert len(others) < 20


def test_changes_when_folded_is_derived_as_defined() -> None:
    ignorable = {p for a, b in property_ranges("DI") or () for p in range(a, b + 1)}
    changes = {p for a, b in property_ranges("CWKCF") or () for p in range(a, b + 1)}

    def kept(text: str) -> str:
        return "".join(c for c in text if ord(c) not in ignorable)

    def folded(char: str) -> str:
        once = unicodedata.normalize("NFKC", kept(unicodedata.normalize("NFD", char).casefold()))
        return unicodedata.normalize("NFKC", kept(once.casefold()))

    assert [p for p in ASSIGNED if (folded(chr(p)) != chr(p)) != (p in changes)] == []


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pairs_of_halves(data: st.DataObject) -> None:
    """Against UTF-16, in which engines without the flag ``u`` match."""

    def half(low: int, high: int) -> tuple[str, int, int]:
        a, b = sorted(data.draw(st.tuples(st.integers(low, high), st.integers(low, high))))
        return (f"[\\u{a:04x}-\\u{b:04x}]" if a < b else f"\\u{a:04X}"), a, b

    first, a, b = half(0xD800, 0xDBFF)
    second, c, d = half(0xDC00, 0xDFFF)
    ranges = _one(f"^{first}{second}$")
    points = [0x10000 + ((x - 0xD800) << 10) + y - 0xDC00 for x in (a, b) for y in (c, d)]
    points += data.draw(st.lists(st.integers(0x10000, 0x10FFFF), max_size=4))
    for point in (*points, *(p - 1 for p in points), *(p + 1 for p in points), 0x61):
        units = chr(point).encode("utf-16-be") if point < 0x110000 else b""
        x, y = int.from_bytes(units[:2], "big"), int.from_bytes(units[2:], "big")
        assert is_in(ranges, point) == (a <= x <= b and c <= y <= d)


def _one(pattern: str) -> Ranges:
    """The characters of a pattern that matches one alone."""
    expr = ecma_search_to_expr(pattern)
    if isinstance(expr, Literal):
        return ((ord(expr.data.decode()), ord(expr.data.decode())),)
    assert isinstance(expr, Chars)
    return expr.ranges


# --- against Python ------------------------------------------------------------------------------

TEXTS = ["".join(t) for size in range(5) for t in itertools.product("ab-", repeat=size)]


def patterns() -> st.SearchStrategy[str]:
    """What both dialects read alike on ``TEXTS``."""
    single = st.sampled_from(
        ["a", "b", "-", "[ab]", ".", r"\w", r"\W", "[^a]", r"[\s\S]", "",
         "^", "$", r"\b", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?=ab)", "(?!ab)", "(?!.*b)"]
    )  # fmt: skip
    suffix = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?", "{2,}"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.lists(inner, min_size=2, max_size=4).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.builds("(?:{}){}".format, inner, suffix),
        )

    return st.recursive(single, grow, max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(patterns())
def test_like_search(pattern: str) -> None:
    compiled = re.compile(pattern)
    refused = refusal(pattern)
    if refused:
        raise AssertionError(refused)
    try:
        grammar = grammar_of(pattern)
    except LimitExceeded:  # repeated look-ahead multiplies states: loud, and rare
        return
    for text in TEXTS:
        assert grammar.accepts(text) == bool(compiled.search(text)), text


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=4), st.text(max_size=6))
def test_escaped_text_is_found(needle: str, text: str) -> None:
    assume(not any(0xD800 <= ord(c) <= 0xDFFF for c in needle + text))
    pattern = "".join(c if c.isalnum() or not c.isascii() else f"\\u{{{ord(c):x}}}" for c in needle)
    grammar = grammar_of(pattern)
    assert grammar.accepts(text) == (needle in text)
    assert grammar.accepts(text + needle)


def test_white_space_has_every_space_separator() -> None:
    grammar = grammar_of(r"^\s$")
    for point in (p for p in range(0x110000) if unicodedata.category(chr(p)) == "Zs"):
        assert grammar.accepts(chr(point)), hex(point)
