"""llguidance's dialect of Lark: what it says, how it lexes, what it refuses, and its own verdicts."""

from __future__ import annotations

import random
import sys
import warnings
from pathlib import Path

import pytest

from constrain import TokenAutomaton, Vocabulary
from grammars import (
    Grammar,
    GrammarError,
    LimitExceeded,
    Limits,
    SpecialToken,
    UnkeptConstraintWarning,
)

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import dialects


def make(text: str, **options: object) -> Grammar:
    return Grammar.from_lark(text, dialect="llguidance", **options)  # type: ignore[arg-type]


def check(text: str, good: list[str], bad: list[str]) -> None:
    grammar = make(text)
    assert [t for t in good if not grammar.accepts(t)] == []
    assert [t for t in bad if grammar.accepts(t)] == []


# -- what grammars say ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ('start: "a"{2,3}', ["aa", "aaa"], ["a", "aaaa"]),
        ('start: "a"{,2} "b"{2}', ["bb", "aabb"], ["aaabb", "ab"]),
        ('start: "a"~2..3', ["aa", "aaa"], ["a"]),
        ('start: ["a"] ("b" | "c")+ // comment\n# another\n', ["b", "abcb"], ["a", ""]),
        ("start: W\nW: /[a-z]+/ & ~/.*b.*/", ["ac"], ["abc", ""]),
        ('start: W\nW: ~("a" | "b") & /[a-c]/ | /x/', ["c", "x"], ["a", "b"]),
        ('start: "ab"i "é"i', ["aBÉ", "ABé"], ["bé"]),
        ('start: "a".."c" /\\d{2}/ "\\x41\\u00e9"', ["b12Aé"], ["d12Aé", "b1Aé"]),
        ('start: /a\\/b/ | "q" -> other', ["a/b", "q"], ["ab"]),
        ("%import common.INT\n%import common (WORD, WS_INLINE)\nstart: INT WORD", ["1a"], ["a1"]),
        ("%import common.NUMBER -> N\nstart: N", ["1", ".5", "1.e5"], ["", "."]),
        ('start: a-b\na-b: "x" | "y"\n\n     | "z"', ["x", "z"], [""]),
        ('start: %lark { start: A "-"\nA: "1" } "!"', ["1-!"], ["1!"]),
        ('start: %regex {"substring_words": "to be or"}', ["", "be or", " "], ["o be", "or to"]),
        ('start: %regex {"substring_chars": "abcb"}', ["bcb", "b"], ["ac"]),
        ('start: %regex {"substring_chunks": ["a", "ab", "c"]}', ["aab", "abc", "a"], ["b", "ac"]),
        ('start: "x" %json {"type": "integer"} "y"', ["x12y"], ["xy", 'x"1"y']),
    ],
)
def test_constructs(text: str, good: list[str], bad: list[str]) -> None:
    check(text, good, bad)


def test_the_dialect_is_detected_by_its_line() -> None:
    assert Grammar.from_lark('%llguidance {}\nstart: "a"{2}').accepts("aa")
    declared = 'start: "a"{2}\n  %llguidance {"no_forcing": true}\n'
    assert make('start: "a"{2}') == Grammar.from_lark(declared)
    with pytest.raises(ValueError, match="dialect"):
        Grammar.from_lark('start: "a"', dialect="other")  # type: ignore[arg-type]


def test_another_start_rule_and_other_grammars() -> None:
    other = Grammar.from_regex("[0-9]+")
    grammar = make('start: "a"\nsum: @number ("+" @number)*', start="sum", rules={"number": other})
    assert grammar.accepts("1+22")
    assert not grammar.accepts("1+")
    with pytest.raises(GrammarError, match=r"there is no grammar 'number'.*rules="):
        make("start: @number")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('start: "a', (1, 8), "never closed"),
        ("start: / x", (1, 8), "never closed"),
        ('start: "\\q"', (1, 8), "escape"),
        ("start: <a b>", (1, 8), "special token"),
        ("start: foo", (1, 8), "'foo': it is not defined"),
        ('start: A\nA: "x" B\nB: A', (3, 4), "circular"),
        ('start: A\nA: x\nx: "1"', (2, 4), "a rule, which cannot be used in a terminal"),
        ('start: "a"\nstart: "b"', (2, 1), "defined twice, first in line 1"),
        ('root: "a"', (1, 1), "no start rule found"),
        ('start: "a"{3,2}', (1, 11), "range end must be >= start"),
        ('start: "a"{-1,2}', (1, 11), "range start must be >= 0"),
        ('start: A & "b"\nA: "a"', (1, 8), "renaming the rule to UPPERCASE"),
        ("start: /(?=a)b/", (1, 8), "invalid regex"),
        (r"start: /a\b/", (1, 8), "look-around"),
        ("start: /a/l", (1, 8), "l-flag"),
        ("start: %json {", (1, 15), "JSON"),
        ('start: %json {"type": 7}', (1, 8), "failed to compile JSON schema"),
        ('start: %regex {"x": 1}', (1, 8), "unknown field"),
        ("start: A\nA: <|x|>", (2, 4), "cannot be used in terminals"),
        ("start: <[9-3]>", (1, 8), "invalid token range"),
        ("start: <[*]>", (1, 8), "list the ids"),
        ("start: <[^7]>", (1, 8), "list the ids"),
        ("start: t\nt[max_tokens=5]: /.*/", (2, 1), r"\{0,400\}"),
        ('start: t\nt[foo=5]: "a"', (2, 3), "no attribute 'foo'"),
        ('start: t\nt[stop="a", suffix="b"]: /.*/', (2, 13), "one stop= or suffix="),
        ('start.2: "a"', (1, 6), "A & ~B"),
        ('start{x}: "a"', (1, 6), "templates"),
        ('%declare A\nstart: "a"', (1, 1), "indenter"),
        ('%override start: "a"', (1, 1), "write the rule anew"),
        ("%import python.X\nstart: X", (1, 9), "from common only"),
        ('%llguidance {"no_forcing": 1}\nstart: "a"', (1, 1), "true or false"),
        ('%llguidance {"allow_invalid_utf8": true}\nstart: "a"', (1, 1), "UTF-8"),
        ('start: a::1\na: "x"', (1, 8), "not parametric"),
        ('start: a\na::_: a::_ | "x"', (1, 8), "no parameter provided"),
        ('start: a::1\na::_: "x"', (2, 1), "doesn't need parameters"),
        ('start: a::_\na::_: a::_ | "x"', (1, 1), "requires parameters"),
        ('start: a::1\na::_: "x" %if eq([3:3], 0)', (2, 18), "end bit index 3"),
        ('start: a::1\na::_: "x" %if foo(_, 0)', (2, 15), "no condition 'foo'"),
        ('start: A\nA: "x" %if bit_set(0)', (2, 4), "not supported in terminals"),
    ],
)
def test_refusals_say_where(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(GrammarError, match=message) as found:
        make(text)
    assert (found.value.line, found.value.column) == place


# -- lexing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        # a lexeme goes on as long as it can
        ('start: /[a-z]+/ "x" | "1"', ["1"], ["aax", "x"]),
        ('start: /[a-z]+/ "1"', ["ab1"], ["ab"]),
        ('start: A ".." A\nA: /[0-9]+(\\.[0-9]+)?/', ["1.5..2", "1.5..2.0"], ["1..2"]),
        # all that match together are kept
        ('start: "if" "(" | ID "="\nID: /[a-z]+/', ["if(", "if=", "x="], ["x("]),
        # what else may come decides where a lexeme ends
        ('start: "a" "b" | "abc"', ["abc"], ["abcd"]),
        ('start: ("a" | "ab") "c"', ["ac", "abc"], ["abbc"]),
        # lazy lexemes end as soon as they may, and cut others off
        ("start: t /.*/\nt[lazy]: /.*;/", ["a;b;c", ";"], ["a"]),
        ('start: t "x"\nt[suffix="<e>"]: /[^q]*/', ["a<e>x", "<e>x"], ["a<e>b<e>x", "q<e>x"]),
        ('start: (call | "x")* T\ncall[lazy]: T "<f"\nT: /(.|\\n)*/', ["a<f", "b"], []),
        # text that is ignored
        ('%ignore / +/\nstart: "a" "b"', ["ab", "a  b"], [" ab", "ab ", "a\tb"]),
        ('%ignore / +/\nstart: "a" "b"*', ["a ", "ab b  "], [" a"]),
        ('%llguidance {"allow_initial_skip": true}\n%ignore / /\nstart: "a" "b"', [" ab"], ["ab "]),
        ('%llguidance {"ignore_once": true}\n%ignore / /\nstart: "a" "b"', ["a b"], ["a  b"]),
        (
            '%ignore / /\nstart: "[" %lark { start: "a" "b" } "]"',
            ["[ab ]", "[ab]"],
            ["[ ab]", "[a b]"],
        ),
        # recursion
        (
            '%ignore / /\nstart: e\ne: e "+" t | t\nt: N | "(" e ")"\nN: /[0-9]+/',
            ["(1 + 2)+3"],
            ["1 2"],
        ),
        ('start: "(" start ")" | /[a-z(]/', ["((a))", "(a)", "("], ["((a)", "()"]),
    ],
)
def test_lexing(text: str, good: list[str], bad: list[str]) -> None:
    check(text, good, bad)


def test_tool_calls_in_free_text() -> None:
    check(
        r"""
        start: ( foo | bar )* end
        end: TEXT
        TEXT: /(.|\n)*/
        foo_head[lazy]: TEXT "<function"
        foo: foo_head "=foo>" %json {"type": "object", "additionalProperties": false} "</function>"
        bar_head[lazy]: TEXT "<function"
        bar: bar_head "=bar>" /[0-9]+/ "</function>"
        """,
        ["hi", "a<function=foo>{}</function>b<function=bar>12</function>", "<functio"],
        ["<function", "<function=baz>", "<function=bar>x</function>", "a<function=foo>{}"],
    )


def test_stop_is_not_part_of_the_text() -> None:
    check('start: t "<e>" "!"\nt[stop="<e>"]: /.*/', ["a<e>!", "<e>!"], ["a<e><e>!", "a!"])
    check('start: t "b"\nt[stop="<e>"]: /[a-z]*/', ["foob"], ["foo"])
    check('start: "n=" t t2\nt[stop=""]: /5*/\nt2[stop=""]: /[1-4]/', ["n=552", "n=2"], ["n=55"])


# -- parameters ----------------------------------------------------------------------------------


def test_permutations() -> None:
    check(
        """
        start   : perm::0x0
        perm::_ : ""                    %if is_ones([0:3])
                | "a" perm::set_bit(0)  %if bit_clear(0)
                | "b" perm::set_bit(1)  %if bit_clear(1)
                | "c" perm::set_bit(2)  %if bit_clear(2)
        """,
        ["abc", "acb", "bac", "bca", "cab", "cba"],
        ["", "a", "ab", "aab", "abca"],
    )


@pytest.mark.parametrize("count", range(9))
def test_counting(count: int) -> None:
    grammar = make(
        'start: n::2 \nn::_: "a" n::incr([1:4]) %if not(ge([1:4], 6)) | "x" %if or(eq(_, 6), lt(_, 6))'
    )
    # from 1 in bits 1 to 3, up to 5 steps; x where all of the number is at most 6
    assert grammar.accepts("a" * count + "x") is (count <= 2)


def test_parameters_without_end_are_refused() -> None:
    with pytest.raises(GrammarError, match="more than 20,000 parameters"):
        make('start: n::0\nn::_: "a" n::incr(_) | ""')


# -- special tokens ------------------------------------------------------------------------------


def test_special_tokens_are_symbols() -> None:
    grammar = make("start: <|call|> /[a-z]*/ (<[7]> | <[8-9]>)")
    assert set(grammar.tokens) == {"<|call|>", "[7]", "[8]", "[9]"}
    assert grammar.accepts([SpecialToken("<|call|>"), "ab", SpecialToken("[8]")])
    assert not grammar.accepts(b"<|call|>ab[8]")
    vocabulary = Vocabulary.from_tokens(
        [b"a", b"b", None, None, b"<|call|>", None, b"z", None], [3]
    )
    automaton = TokenAutomaton(make("start: <[2]> /[a-z]+/ <[7]>"), vocabulary)
    state = automaton.start
    for token in (2, 0, 1, 7):
        state = automaton.advance(state, token)
    assert automaton.is_accepting(state)
    assert automaton.advance(automaton.start, 0) == automaton.DEAD


def test_free_text_up_to_a_special_token() -> None:
    grammar = make("start: (TEXT <|a|> | TEXT <|b|>)* T2\nTEXT: /(.|\\n)*/\nT2: /x*/")
    assert grammar.accepts(["hello", SpecialToken("<|a|>"), SpecialToken("<|b|>"), "xx"])
    assert not grammar.accepts(["hello", SpecialToken("<|a|>"), "y"])


# -- JSON, notes, warnings -----------------------------------------------------------------------


OPEN = '{"type": "object", "additionalProperties": {"type": "integer"}}'


def test_json_keys_and_items_are_compared() -> None:
    assert not make(f"start: %json {OPEN}").accepts('{"a": 1, "a": 2}')
    inside = make(f'start: "x" %json {OPEN} "y"')
    assert not inside.accepts('x{"a": 1, "a": 2}y')
    assert inside.accepts('x{"a": 1, "b": 2}y')
    assert not make('start: %json {"type": "array", "uniqueItems": true}').accepts("[1, 1]")


@pytest.mark.parametrize("schema", [OPEN, '{"type": "array", "uniqueItems": true}'])
def test_json_whose_beginning_does_not_show_is_refused_at_its_place(schema: str) -> None:
    """Text may hold what looks like the part: then its keys could not be compared."""
    source = f"start: head\nhead: TEXT\n    | TEXT %json {schema}\nTEXT: /(.|\\n)*/"
    with pytest.raises(GrammarError, match="does not show") as caught:
        make(source)
    assert (caught.value.line, caught.value.column) == (3, 12)
    marked = make(source.replace("TEXT %json", "TEXT <|json|> %json"))
    good, bad = ('{"a": 1, "b": 1}', '{"a": 1, "a": 1}') if schema == OPEN else ("[1]", "[1, 1]")
    assert marked.accepts(["x", SpecialToken("<|json|>"), good])
    assert not marked.accepts(["x", SpecialToken("<|json|>"), bad])
    assert marked.accepts(bad)  # as text


def test_options_of_schemas() -> None:
    compact = make('start: %json {"type": "array", "x-guidance": {"whitespace_flexible": false}}')
    assert compact.accepts("[1,2]")
    assert not compact.accepts("[1, 2]")
    with pytest.raises(GrammarError, match="json_allowed_escapes"):
        make('start: %json {"x-guidance": {"json_allowed_escapes": "n"}}')


def test_what_bears_on_no_text_is_said() -> None:
    with pytest.warns(UnkeptConstraintWarning, match=r"line 2: temperature=0.5"):
        grammar = make('start: t\nt[temperature=0.5]: "a" "b"')
    assert grammar.accepts("ab")
    assert any("temperature" in note for note in grammar.ir.notes)
    with pytest.warns(UnkeptConstraintWarning, match="stop_capture 'n' of rule 't' does not come"):
        assert make('start: t "b"\nt[stop="b", stop_capture="n"]: /.*/').accepts("ab")


def test_large_grammars_take_more_and_say_so() -> None:
    grammar = make('start: (A | "b"){1,40000} "b"\nA: /a+/')
    assert any("too large" in note for note in grammar.ir.notes)
    assert grammar.accepts("aab" * 10 + "b")
    assert not grammar.accepts("b")


def test_limits_hold() -> None:
    with pytest.raises(LimitExceeded):
        make("start: /(.|\\n){1000,3000}/ /x/", limits=Limits(max_work=2_000))


LARGE = {12, 17}
"""Seeds of grammars with thousands of places, which take seconds."""

# -- llguidance itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [x for x in range(26) if x not in LARGE])
def test_random_grammars_against_llguidance(seed: int) -> None:
    pytest.importorskip("llguidance")
    rng = random.Random(seed)
    text = dialects.random_grammar(rng)
    peer = dialects.Peer()
    theirs = peer.grammar(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = make(text)
    assert theirs is not None, text
    exact = dialects.is_exact(ours)
    for data in sorted(dialects.random_texts(rng, ours)):
        mine, other = ours.accepts(data), peer.accepts(theirs, data)
        assert mine == other if exact else mine >= other, (text, data)
