"""Captures: what they are on examples, and the reading that is taken against all readings there are."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from grammars import Capture, Grammar, GrammarError, LimitExceeded, Limits, SpecialToken
from grammars.captures import capture_names, marks
from grammars.compiling.compiler import compile_ir
from grammars.recognizer import Recognizer
from grammars.special_tokens import framed


def lark(text: str, **options: Any) -> Grammar:
    return Grammar.from_lark(text, dialect="llguidance", **options)


def found(grammar: Grammar, text: Any) -> list[tuple[str, bytes]]:
    return [(x.name, x.data) for x in grammar.captures(text)]


LIST = (
    'start: "<" name ":" num ">" more*\nname[capture]: /[a-z]+/\n'
    'num[capture="n"]: /[0-9]+/\nmore: "," num'
)

EXAMPLES: dict[str, tuple[str, str, list[tuple[str, bytes]]]] = {
    "repeated": (LIST, "<ab:12>,3,45", [("name", b"ab"), ("n", b"12"), ("n", b"3"), ("n", b"45")]),
    "ignored text before": (LIST + '\n%ignore " "', "< ab : 1 >", [("name", b" ab"), ("n", b" 1")]),
    "nothing read": ('start: "a" x\nx[capture]: "b"?', "a", [("x", b"")]),
    "one in another": (
        'start: x\nx[capture]: y "b"\ny[capture]: "a"+',
        "aab",
        [("x", b"aab"), ("y", b"aa")],
    ),
    "suffix": (
        'start: x /.*/\nx[capture, suffix="<end>", stop_capture="e"]: /.*/',
        "foo<end>bar<end>",
        [("x", b"foo"), ("e", b"<end>")],
    ),
    "what a stopped rule is in": (
        'start: y\ny[capture]: x\nx[capture, suffix="<end>"]: /.*/',
        "foo<end>",
        [("y", b"foo<end>"), ("x", b"foo")],
    ),
    "stop": ('start: x "b"\nx[capture, stop="b"]: /.*/', "aab", [("x", b"aa")]),
    "lazy, beside other text": (
        'start: (head | "x")* rest\nrest[capture]: /(.|\\n)*/\nhead[lazy, capture]: /.*/ "<c>"',
        "ab<c>cd<c>ef",
        [("head", b"ab<c>"), ("head", b"cd<c>"), ("rest", b"ef")],
    ),
    "JSON": (
        'start: "a " x\nx[capture]: %json {"type": "array", "items": {"type": "integer"}}',
        "a [1, 2]",
        [("x", b"[1, 2]")],
    ),
    "nested": (
        'start: "a" x\nx[capture]: %lark {\nstart: y "c"\ny[capture="z"]: /b+/\n}',
        "abbc",
        [("x", b"bbc"), ("z", b"bb")],
    ),
    "with a parameter": (
        'start: x::0x0\nx::_[capture]: "a" x::set_bit(0) %if bit_clear(0) | "b" %if bit_set(0)',
        "ab",
        [("x", b"ab"), ("x", b"b")],
    ),
    "ambiguous": (
        'start: x y\nx[capture]: "a"*\ny[capture]: "a"*',
        "aa",
        [("x", b"aa"), ("y", b"")],
    ),
    "recursive": (
        'start: e\ne[capture]: "(" e? ")"',
        "(())",
        [("e", b"(())"), ("e", b"()")],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    source, text, wanted = EXAMPLES[name]
    assert found(lark(source), text) == wanted


def test_offsets_are_of_the_text() -> None:
    assert lark(LIST).captures("<ä:1>".replace("ä", "a")) == (
        Capture("name", 1, 2, b"a"),
        Capture("n", 3, 4, b"1"),
    )
    grammar = lark("start: <|call|> x <|end|>\nx[capture]: /.+/ <|mid|>?")
    text = "<|call|>äb<|mid|><|end|>"
    (one,) = grammar.captures(text)
    assert text.encode()[one.start : one.end] == one.data == "äb<|mid|>".encode()
    parts = [SpecialToken("<|call|>"), "äb", SpecialToken("<|mid|>"), SpecialToken("<|end|>")]
    assert grammar.captures(parts) == (one,)


def test_lexemes_end_where_the_lexer_ends_them() -> None:
    grammar = lark("start: x rest\nx[capture, lazy]: /.*b/\nrest: /[abc]*/\n%ignore /c/")
    for text in ("ab", "abab", "aacb", "bb", "aabcabc"):
        assert found(grammar, text) == [("x", text[: text.index("b") + 1].encode())]


def test_grammars_without_captures_have_none() -> None:
    assert Grammar.from_gbnf('root ::= "a"').captures("a") == ()
    assert lark('start: "a"').ir.marked is None


def test_only_accepted_texts_have_captures() -> None:
    with pytest.raises(GrammarError, match="only an accepted text has captures"):
        lark(LIST).captures("<ab:x>")


def test_captures_of_composed_grammars() -> None:
    one = lark('start: x\nx[capture]: /a+/ %json {"type": "integer"}')
    two = lark('start: (h | "x")* r\nr[capture]: /(.|\\n)*/\nh[lazy, capture]: /.*/ "!"')
    whole = (Grammar.literal("<") + one + Grammar.literal(">")).repeat(1, 3, separator=",")
    assert found(whole, "<a1>,<aa-2>") == [("x", b"a1"), ("x", b"aa-2")]
    assert found(one | two, "b!c") == [("h", b"b!"), ("r", b"c")]
    assert found(one + two, "a5b!c") == [("x", b"a5"), ("h", b"b!"), ("r", b"c")]
    inside = Grammar.from_gbnf('root ::= "(" part ")"', rules={"part": one})
    assert found(inside, "(a7)") == [("x", b"a7")]
    named = lark('start: "(" @part y ")"\ny[capture]: "b"', rules={"part": one})
    assert found(named, "(a7b)") == [("x", b"a7"), ("y", b"b")]


@pytest.mark.parametrize("name", ["repeated", "lazy, beside other text"])
def test_captures_are_saved(name: str, tmp_path: Path) -> None:
    source, text, wanted = EXAMPLES[name]
    lark(source).save(tmp_path / "g")
    assert found(Grammar.load(tmp_path / "g"), text) == wanted


def test_captures_of_xgrammars_ebnf() -> None:
    grammar = Grammar.from_gbnf(
        'root ::= x ("," x)* y\nx[capture="item"] ::= [a-z]+\ny[capture] ::= "!"?',
        dialect="xgrammar",
    )
    assert found(grammar, "ab,c!") == [("item", b"ab"), ("item", b"c"), ("y", b"!")]


def test_long_texts_take_time_in_proportion() -> None:
    grammar = lark(LIST)
    text = "<ab:12>" + ",345" * 20_000
    assert len(grammar.captures(text)) == 20_002


def test_work_is_bounded() -> None:
    grammar = lark('start: e\ne[capture]: e e | "a"', limits=Limits(max_work=100_000))
    assert found(grammar, "aa") == [("e", b"aa"), ("e", b"a"), ("e", b"a")]
    with pytest.raises(LimitExceeded, match="max_work"):
        grammar.captures("a" * 150)


def test_left_recursion() -> None:
    grammar = lark('start: e\ne[capture]: e "a" | "a"')
    assert found(grammar, "aaa") == [("e", b"aaa"), ("e", b"aa"), ("e", b"a")]
    assert len(grammar.captures("a" * 500)) == 500


# -- the reading that is taken -----------------------------------------------------------------------


def every_reading(grammar: Grammar, text: bytes) -> list[list[tuple[int, int]]]:
    """All ways to put marks into a text, as steps: a mark's number or -1 for a byte, the preferred first."""
    marked = grammar.ir.marked
    assert marked is not None
    assert marked.marked is None
    names = capture_names(marked)
    begins, ends = zip(*map(marks, names), strict=True)
    recognizer = Recognizer(compile_ir(marked, Limits()), Limits(), names_tokens=True)
    out: list[list[tuple[int, int]]] = []
    stack = [(recognizer.start, 0, [])]
    while stack:
        state, at, steps = stack.pop()
        if at == len(text) and recognizer.accepting[state]:
            out.append(steps)
        if len(steps) > 3 * len(text) + 6:
            continue
        for rank, mark in enumerate((*begins, *ends)):
            after, used = recognizer.run(framed(mark), state)
            if used == len(framed(mark)):
                order = rank if rank < len(names) else rank + 1
                stack.append((after, at, [*steps, (at, order)]))
        if at < len(text) and (after := recognizer.advance(state, text[at])):
            stack.append((after, at + 1, [*steps, (at, len(names))]))
    return out


def preferred(steps: list[tuple[int, int]]) -> tuple[Any, ...]:
    return tuple(order for _, order in steps)


SMALL = ("x y*", '(x | "b")+ y?', 'y? (x "b")*', "x", '"a"? x "a"* y', "x (y | x)*")
BODIES = ('"a"+', '"a" "b"?', '"ab" | "a"', '"b"', 'y "b"', '"a"* "b"')


@pytest.mark.parametrize("seed", range(12))
def test_the_preferred_of_all_readings(seed: int) -> None:
    rng = random.Random(seed)
    while True:
        source = (
            f"start: {rng.choice(SMALL)}\nx[capture]: {rng.choice(BODIES)}\n"
            f"y[capture]: {rng.choice([b for b in BODIES if 'y' not in b])}"
        )
        grammar = lark(source)
        assert grammar.ir.marked is not None
        if grammar.ir.marked.marked is None:  # nothing that a lexer would cut
            break
    texts = ["".join(t) for n in range(6) for t in itertools.product("ab", repeat=n)]
    for text in filter(grammar.accepts, texts):
        best = min(every_reading(grammar, text.encode()), key=preferred)
        names = capture_names(grammar.ir.marked)
        places = [(at, order) for at, order in best if order != len(names)]
        begun = [(at, names[order]) for at, order in places if order < len(names)]
        assert [(x.start, x.name) for x in grammar.captures(text)] == begun
        ended = sorted(at for at, order in places if order > len(names))
        assert sorted(x.end for x in grammar.captures(text)) == ended
