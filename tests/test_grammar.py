"""What every grammar does, whatever front end made it: explain, sample, save, load, compare."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracle import Recognizer
from strategies import grammars, texts

from constrain import TokenAutomaton, Vocabulary
from grammars import LimitExceeded, Limits
from grammars.errors import BudgetError, GrammarError
from grammars.explain import next_bytes
from grammars.grammar import Grammar
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    NOTHING,
    And,
    ByteSet,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Not,
    Ref,
    Repeat,
    Rule,
    Seq,
    Span,
    alt,
    optional,
    repeat,
    seq,
    single_rule,
)
from grammars.storage import VERSION

NESTED = """\
root ::= line+
line ::= name "=" value "\\n"
name ::= [a-zé]+
value ::= number | "(" value ")"
number ::= [0-9]+
"""
LARK = """\
start: item ("," item)*
item: NAME ":" INT
NAME: /[a-z]+/
INT: /[0-9]+/
"""
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
BY_HAND = GrammarIR(
    (
        Rule("root", seq(Ref("head"), optional(Ref("tail")))),
        Rule(
            "head",
            And((repeat(ANY_CHAR, 1, 4), Not(Literal(b"no")), Chars(((0x61, 0x7A), (0xE9, 0xE9))))),
            Span(3, 7, "/a~1b"),
        ),
        Rule("tail", alt(seq(Ref("tail"), ByteSet(((0, 31), (0xFF, 0xFF)))), Ref("odd")), Span(4)),
        Rule("odd", Machine((((0x78, 0x79, 1),), ((0x78, 0x78, 0),)), (False, True)), shared=True),
    ),
    "root",
    ("a remark with ünïcödé",),
)


@dataclass
class Point:
    x: int
    y: int


KINDS: dict[str, Callable[[], Grammar]] = {
    "regex": lambda: Grammar.from_regex(r"(?i)[a-z]{2,5}(\d+|é)?\n?"),
    "choices": lambda: Grammar.from_choices(["yes", "no", "déjà vu", "", b"\xff\x00"]),
    "gbnf": lambda: Grammar.from_gbnf(NESTED),
    "lark": lambda: Grammar.from_lark(LARK),
    "schema": lambda: Grammar.from_json_schema(PERSON),
    "any json": lambda: Grammar.from_json_schema(True),
    "type": lambda: Grammar.from_type(list[Point]),
    "by hand": lambda: Grammar(BY_HAND),
    "limits": lambda: Grammar.from_regex("a*", limits=Limits(max_items=77, max_dfa_states=999)),
    "only the empty text": lambda: Grammar.from_choices([""]),
    "empty": lambda: Grammar.from_choices([]),
    "empty schema": lambda: Grammar.from_json_schema(
        {"type": "integer", "minimum": 2, "maximum": 1}
    ),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Callable[[], Grammar]:
    return KINDS[request.param]


# --- accepts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_text_and_bytes_are_the_same(wrap: type) -> None:
    grammar = Grammar.from_choices(["déjà"])
    for text in ("déjà", "deja", "dé", ""):
        assert grammar.accepts(text) == grammar.accepts(wrap(text.encode()))
    assert grammar.accepts(wrap("déjà".encode()))
    assert not grammar.accepts(wrap("déjà".encode("latin-1")))


def test_bytes_that_are_no_text() -> None:
    grammar = Grammar(single_rule(ByteSet(((0x80, 0xFF),))))
    assert grammar.accepts(b"\x80")
    assert not grammar.accepts("\x80")  # two bytes in UTF-8


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d\ude00"])
def test_half_of_a_pair_is_in_no_language(text: str) -> None:
    grammar = Grammar(single_rule(repeat(ByteSet(((0, 255),)))))
    assert not grammar.accepts(text)
    assert not Grammar.from_regex(r"(?s).*").accepts(text)
    explanation = Grammar.from_regex(r"(?s).*").explain(text)
    assert not explanation.accepted
    start = text.encode("utf-8", "surrogatepass").index(b"\xed")
    assert start <= explanation.offset <= start + 1  # a character may begin with 0xED


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d\ude00"])
def test_explain_agrees_with_accepts_on_half_of_a_pair(text: str) -> None:
    """A grammar of bytes might read them, but a text that has no bytes is not in any language."""
    grammar = Grammar(single_rule(repeat(ByteSet(((0, 255),)))))
    assert grammar.explain(text).accepted == grammar.accepts(text)


# --- explain -------------------------------------------------------------------------------------

YEAR = Grammar.from_regex(r"[0-9]{4}-[0-9]{2}")
WORDS = Grammar.from_choices(["yes", "no", "déjà"])
LINES = Grammar.from_gbnf(NESTED)
OBJECT = Grammar.from_json_schema(PERSON, whitespace="compact")


@pytest.mark.parametrize(
    ("grammar", "text", "offset", "line", "column", "part", "path"),
    [
        (YEAR, "2024-1x", 6, 1, 7, "unexpected 'x'; expected '0' to '9'", ("root",)),
        (YEAR, "2024-123", 7, 1, 8, "unexpected '3'; expected end of text", ("root",)),
        (YEAR, "2024", 4, 1, 5, "the text ends too early; expected '-'", ("root",)),
        (YEAR, "", 0, 1, 1, "the text ends too early", ("root",)),
        (YEAR, "é", 0, 1, 1, "unexpected 'é'", ("root",)),
        (YEAR, b"2024\xff", 4, 1, 5, "unexpected byte 0xFF", ("root",)),
        (YEAR, "2024\n", 4, 1, 5, r"unexpected '\n'", ("root",)),
        (WORDS, "maybe", 0, 1, 1, "expected 'déjà', 'no' or 'yes'", ("root",)),
        (WORDS, "yep", 2, 1, 3, "unexpected 'p'; expected 's'", ("root",)),
        (WORDS, "déj", 4, 1, 4, "the text ends too early; expected 'à'", ("root",)),
        (WORDS, "déxà", 3, 1, 3, "unexpected 'x'; expected 'jà'", ("root",)),
        (WORDS, "yes!", 3, 1, 4, "expected end of text", ("root",)),
        (LINES, "a=1\nb=x\n", 6, 2, 3, "expected '(' or '0' to '9'", ("root", "line")),
        (LINES, "a=1\nж=1\n", 4, 2, 1, "line 2, column 1 (byte 4)", ("root", "line")),
        (LINES, "éé=1\né=!", 10, 2, 3, "unexpected '!'", ("root", "line")),
        (LINES, "a=((1)\n", 6, 1, 7, r"unexpected '\n'; expected ')", ("root", "line", "value")),
        (LINES, "a=1\nbb=2", 8, 2, 5, "ends too early", ("root", "line", "value", "number")),
        (OBJECT, '{"age":1}', 2, 1, 3, "expected 'name\":", None),
        (OBJECT, '{"name":"x","age":-1}', 18, 1, 19, "unexpected '-'", None),
        (OBJECT, '{"name":"a\nb"', 10, 1, 11, r"unexpected '\n'", None),
    ],
)
def test_explain(
    grammar: Grammar,
    text: str | bytes,
    offset: int,
    line: int,
    column: int,
    part: str,
    path: tuple[str, ...] | None,
) -> None:
    explanation = grammar.explain(text)
    assert not explanation.accepted
    assert (explanation.offset, explanation.line, explanation.column) == (offset, line, column)
    assert part in explanation.message
    assert explanation.message.startswith(f"line {line}, column {column} (byte {offset}): ")
    assert str(explanation) == explanation.message
    assert explanation.expected
    if path is not None:
        assert explanation.rule_path == path


@pytest.mark.parametrize(
    ("grammar", "text", "offset", "line", "column"),
    [(WORDS, "dèjà", 2, 1, 2), (LINES, "a=1\nü=1\n", 5, 2, 1)],
)
def test_wrong_character_that_shares_its_first_byte(
    grammar: Grammar, text: str, offset: int, line: int, column: int
) -> None:
    """Columns count characters, so the place is that of the character, not behind it."""
    explanation = grammar.explain(text)
    assert explanation.offset == offset
    assert (explanation.line, explanation.column) == (line, column)
    shown, caret = explanation.message.splitlines()[1:3]
    assert "\ufffd" not in shown
    assert f"unexpected {shown[caret.index('^')]!r}" in explanation.message


def test_caret_below_the_place() -> None:
    message = LINES.explain("a=1\nbcd=!2\ne=3").message
    shown, caret = message.splitlines()[1:3]
    assert shown == "  bcd=!2"
    assert shown[caret.index("^")] == "!"


def test_long_lines_are_cut() -> None:
    explanation = Grammar.from_regex("a*b?").explain("a" * 5_000 + "!" + "c" * 5_000)
    assert explanation.offset == 5_000
    assert max(map(len, explanation.message.splitlines())) < 200
    shown, caret = explanation.message.splitlines()[1:3]
    assert shown[caret.index("^")] == "!"


def test_many_ways_are_summed_up() -> None:
    grammar = Grammar.from_choices([f"{chr(97 + i)}{i}" for i in range(26)])
    explanation = grammar.explain("!")
    assert len(explanation.expected) <= 13
    assert "other things" in explanation.message


def test_accepted() -> None:
    explanation = LINES.explain("a=1\né=((2))\n")
    assert explanation.accepted
    assert (explanation.offset, explanation.line, explanation.column) == (13, 3, 1)
    assert explanation.expected == explanation.rule_path == ()
    assert str(explanation) == "accepted"


def test_explain_knows_when_a_counter_can_no_longer_be_filled() -> None:
    grammar = Grammar.from_json_schema({"type": "string", "minLength": 300, "pattern": "^a*b$"})
    explanation = grammar.explain('"aaab')
    assert explanation.offset == 4
    assert explanation.expected == ("'" + "a" * 40 + "'",)
    assert grammar.explain('"aaa').expected


@given(grammars(), texts())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_explain_names_the_first_impossible_byte(ir: GrammarIR, data: bytes) -> None:
    grammar = Grammar(ir)
    explanation = grammar.explain(data)
    assert explanation.accepted == grammar.accepts(data)
    if grammar.is_empty:
        assert (explanation.offset, explanation.line, explanation.column) == (0, 1, 1)
        return
    assert explanation.accepted or explanation.expected
    oracle = Recognizer(ir)
    assert oracle.viable(data[: explanation.offset])
    if explanation.offset < len(data):
        assert not oracle.viable(data[: explanation.offset + 1])


# --- sample --------------------------------------------------------------------------------------


def test_a_sample_ends_where_parts_without_a_cost_multiply() -> None:
    two = Seq((Ref("r0"), Ref("r0")))
    rules = (
        Rule("r0", repeat(alt(Ref("r2"), Literal(b"ab")))),
        Rule("r2", two, shared=True),
    )
    grammar = Grammar(GrammarIR(rules, "r0"))
    for seed in range(12):
        assert grammar.accepts(grammar.sample(seed))


@given(grammars(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_samples_are_accepted(ir: GrammarIR, seed: int) -> None:
    grammar = Grammar(ir)
    assume(not grammar.is_empty)
    data = grammar.sample(seed)
    assert grammar.accepts(data)
    assert grammar.sample(seed) == data
    assert Grammar(ir).sample(seed) == data


@given(grammars(), st.integers(0, 12), st.integers(0, 99))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_samples_fit(ir: GrammarIR, most: int, seed: int) -> None:
    grammar = Grammar(ir)
    assume(not grammar.is_empty)
    least = shortest(grammar)
    if most < least:
        with pytest.raises(BudgetError, match="max_bytes") as caught:
            grammar.sample(seed, max_bytes=most)
        assert (caught.value.needed, caught.value.available) == (least, most)
    else:
        data = grammar.sample(seed, max_bytes=most)
        assert least <= len(data) <= most
        assert grammar.accepts(data)
    assert len(grammar.sample(seed, max_bytes=least)) == least


def shortest(grammar: Grammar) -> int:
    """Bytes of the shortest text, by the states that can be reached."""
    recognizer = grammar._recognizer
    reached, length = {recognizer.start}, 0
    while not any(recognizer.accepting[state] for state in reached):
        reached = {a for s in reached for a in next_bytes(recognizer, s).values()}
        length += 1
    return length


def test_samples_of_every_kind(kind: Callable[[], Grammar]) -> None:
    grammar = kind()
    if grammar.is_empty:
        with pytest.raises(GrammarError, match="nothing to sample"):
            grammar.sample()
        return
    for seed in range(20):
        data = grammar.sample(seed)
        assert grammar.accepts(data), data
        assert grammar.accepts(grammar.sample(seed, max_bytes=40))
    assert grammar.accepts(grammar.sample())


def test_samples_differ() -> None:
    assert len({YEAR.sample(seed) for seed in range(20)}) > 15
    assert {WORDS.sample(seed).decode() for seed in range(60)} == {"yes", "no", "déjà"}


def test_budget_says_what_is_needed() -> None:
    with pytest.raises(BudgetError, match="7 bytes, more than max_bytes=6") as caught:
        YEAR.sample(max_bytes=6)
    assert (caught.value.needed, caught.value.available) == (7, 6)


def test_samples_of_a_loop_that_reads_nothing_end() -> None:
    ir = single_rule(Repeat(alt(Ref("root"), Literal(b"a"), EPSILON), 0, None))
    grammar = Grammar(ir)
    for seed in range(20):
        assert grammar.accepts(grammar.sample(seed))


# --- the empty language --------------------------------------------------------------------------

EMPTY: list[tuple[Callable[[], Grammar], str]] = [
    (lambda: Grammar.from_choices([]), "root"),
    (lambda: Grammar.from_regex("(?!)a"), "look-around"),
    (
        lambda: Grammar.from_gbnf('root ::= "a" more\nmore ::= "b" more'),
        "rule more (line 2) refers to itself",
    ),
    (lambda: Grammar.from_json_schema(False), "satisfies"),
    (KINDS["empty schema"], "#/minimum"),
    (lambda: Grammar(single_rule(And((Literal(b"a"), Literal(b"b"))))), "root"),
    (lambda: Grammar(GrammarIR((Rule("root", NOTHING),), "root", ("told",))), "told"),
]


@pytest.mark.parametrize(("make", "because"), EMPTY)
def test_empty_language(make: Callable[[], Grammar], because: str) -> None:
    grammar = make()
    assert grammar.is_empty
    assert not grammar.accepts("")
    assert not grammar.accepts(b"a")
    assert "empty" in repr(grammar)
    for text in ("", "a", b"\xff", "\ud800"):
        explanation = grammar.explain(text)
        assert not explanation.accepted
        assert (explanation.offset, explanation.line, explanation.column) == (0, 1, 1)
        assert "no text at all" in str(explanation)
        assert because in str(explanation)
    with pytest.raises(GrammarError) as caught:
        grammar.sample(1)
    assert because in caught.value.message
    vocabulary = Vocabulary.from_tokens([None, b"a", b"b"], [0])
    with pytest.raises(GrammarError) as caught:
        TokenAutomaton(grammar, vocabulary)
    assert because in caught.value.message


def test_a_language_of_the_empty_text_is_not_empty() -> None:
    grammar = Grammar.from_choices([""])
    assert not grammar.is_empty
    assert grammar.accepts("")
    assert grammar.accepts(b"")
    assert grammar.sample(0) == b""


# --- identity ------------------------------------------------------------------------------------


def test_equal_by_content(kind: Callable[[], Grammar]) -> None:
    one, other = kind(), kind()
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    assert one != "grammar"
    assert one != Grammar.from_choices(["something else"])


def test_limits_are_part_of_it() -> None:
    assert Grammar.from_regex("a", limits=Limits(max_items=5)) != Grammar.from_regex("a")


def test_immutable(kind: Callable[[], Grammar]) -> None:
    grammar = kind()
    before = hash(grammar)
    for name in ("ir", "limits", "program", "is_empty", "_ir", "_program", "_limits", "new"):
        with pytest.raises(AttributeError):
            setattr(grammar, name, None)
    assert hash(grammar) == before


def test_use_does_not_change_it() -> None:
    grammar = Grammar.from_gbnf(NESTED)
    before = hash(grammar)
    grammar.accepts("a=1\n")
    grammar.explain("a=")
    grammar.sample(0)
    assert hash(grammar) == before
    assert grammar == Grammar.from_gbnf(NESTED)


def test_pickle(kind: Callable[[], Grammar]) -> None:
    grammar = kind()
    again = pickle.loads(pickle.dumps(grammar))
    assert again == grammar
    assert again.limits == grammar.limits
    assert again.ir == grammar.ir
    assert copy.copy(grammar) is copy.deepcopy(grammar) is grammar


@pytest.mark.parametrize("do", [pickle.dumps, copy.deepcopy])
def test_no_pickle_of_the_form_alone(do: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match=r"Grammar\.save"):
        do(YEAR.ir)


def test_repr_is_short(kind: Callable[[], Grammar]) -> None:
    assert repr(kind()).startswith("Grammar(")
    assert len(repr(kind())) < 80


# --- save and load -------------------------------------------------------------------------------


def test_round_trip(kind: Callable[[], Grammar], tmp_path: Path) -> None:
    grammar = kind()
    file = tmp_path / "saved.gramma"
    grammar.save(file)
    again = Grammar.load(str(file))
    assert again == grammar
    assert hash(again) == hash(grammar)
    assert again.ir == grammar.ir
    assert again.limits == grammar.limits
    assert again.is_empty == grammar.is_empty
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    if not grammar.is_empty:
        for seed in range(10):
            data = grammar.sample(seed)
            assert again.accepts(data)
            assert again.sample(seed) == data
            for changed in (data[:-1], data + b"?", data[1:]):
                assert again.explain(changed) == grammar.explain(changed)


@given(ir=grammars(), data=st.lists(texts(), max_size=5))
@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_round_trip_of_any_grammar(tmp_path: Path, ir: GrammarIR, data: list[bytes]) -> None:
    grammar = Grammar(ir)
    file = tmp_path / "any.gramma"
    grammar.save(file)
    again = Grammar.load(file)
    assert again == grammar
    assert again.ir == ir
    assert [again.accepts(d) for d in data] == [grammar.accepts(d) for d in data]


def test_spans_and_notes_survive(tmp_path: Path) -> None:
    Grammar(BY_HAND).save(tmp_path / "g")
    ir = Grammar.load(tmp_path / "g").ir
    assert ir["head"].span == Span(3, 7, "/a~1b")
    assert ir["odd"].shared
    assert ir.notes == BY_HAND.notes


DEEP = 100


def brackets(depth: int) -> GrammarIR:
    body: Expr = Literal(b"x")
    for _ in range(depth):
        body = Seq((Literal(b"("), Repeat(body, 0, 1), Literal(b")")))
    return single_rule(body)


def test_deep_nesting() -> None:
    """Far beyond Python's own recursion limit; what is deeper still is refused in plain words."""
    assert Grammar(brackets(300)).accepts("()")
    with pytest.raises(GrammarError, match="nested too deeply"):
        Grammar(brackets(20_000))


def test_deep_expressions(tmp_path: Path) -> None:
    grammar = Grammar(brackets(DEEP))
    grammar.save(tmp_path / "deep")
    again = Grammar.load(tmp_path / "deep")
    assert again == grammar
    assert again.accepts("(" * DEEP + "x" + ")" * DEEP)
    assert not again.accepts("(" * DEEP + "x" + ")" * (DEEP - 1))


SAVED_KEYS = ("format", "version", "start", "rules", "nodes", "notes", "limits")


def document(grammar: Grammar, tmp_path: Path) -> dict[str, Any]:
    """What is saved, as an earlier version wrote it: without a checksum, so that values count."""
    grammar.save(tmp_path / "whole.gramma")
    data: dict[str, Any] = json.loads((tmp_path / "whole.gramma").read_text("utf-8"))
    assert data.pop("checksum").startswith("sha256:")
    return data


def test_saved_form(tmp_path: Path) -> None:
    assert tuple(document(LINES, tmp_path)) == SAVED_KEYS


def test_old_files_keep_loading(tmp_path: Path) -> None:
    path = tmp_path / "old.gramma"
    for grammar in (LINES, Grammar(BY_HAND)):
        path.write_text(json.dumps(document(grammar, tmp_path), indent=1), "utf-8")
        assert Grammar.load(path) == grammar


def test_checksum(tmp_path: Path) -> None:
    """Numbers that are all in order are not enough: a changed one is another grammar."""
    path = tmp_path / "whole.gramma"
    LINES.save(path)
    data = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(data, indent=2, ensure_ascii=True), "utf-8")
    assert Grammar.load(path) == LINES, "only the content counts, not how it is written"
    data["limits"]["max_program_states"] += 1
    path.write_text(json.dumps(data), "utf-8")
    with pytest.raises(GrammarError, match=r"damaged.*checksum"):
        Grammar.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a saved grammar"),
        (b"{", "not a saved grammar"),
        (b"\xff\xfe\x00", "not a saved grammar"),
        (b"[]", "not a saved grammar"),
        (b"null", "not a saved grammar"),
        (b'{"type": "object"}', "not a saved grammar"),
        (b'{"format": "other", "version": 1}', "not a saved grammar"),
        (b'{"format": "gramma-grammar", "version": 1}', "damaged"),
        (b'{"format": "gramma-grammar", "version": 99}', "version 99"),
        (b'{"format": "gramma-grammar"}', "version None"),
        (b"[" * 200_000, "not a saved grammar"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "other.gramma"
    file.write_bytes(content)
    for read in (Grammar.load, Grammar.from_file):
        if content.startswith(b"\xff") and read == Grammar.from_file:
            message = "UTF-8"
        with pytest.raises(GrammarError, match=message):
            read(file)


def test_later_version(tmp_path: Path) -> None:
    data = document(LINES, tmp_path)
    data["version"] = VERSION + 1
    data["more"] = {"later": True}
    (tmp_path / "later").write_text(json.dumps(data))
    with pytest.raises(GrammarError, match=f"format version {VERSION + 1}, this is {VERSION}|from"):
        Grammar.load(tmp_path / "later")


def test_saved_limits_are_not_raised(tmp_path: Path) -> None:
    """A file may ask for less than the defaults, and only the caller for more."""
    file = tmp_path / "raised.gramma"
    saved = Limits(max_dfa_states=10**12, max_items=50)
    Grammar.from_choices(["a", "b"], limits=saved).save(file)
    assert Grammar.load(file).limits == Limits(max_items=50)
    assert Grammar.load(file, limits=saved).limits == saved
    assert Grammar.load(file, limits=Limits()).limits == Limits()
    assert Grammar.from_file(file).limits == Limits(max_items=50)

    wide = Grammar.from_regex("(ab|[^a]c){200,300}", limits=Limits(max_program_states=10**7))
    wide.save(file)
    with pytest.raises(LimitExceeded, match="max_dfa_states"):
        Grammar.load(file, limits=Limits(max_dfa_states=3)).sample(0)


def test_cut_files(tmp_path: Path) -> None:
    Grammar(BY_HAND).save(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for length in range(0, len(data), 37):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(GrammarError):
            Grammar.load(tmp_path / "cut")


@pytest.mark.parametrize("key", SAVED_KEYS)
@pytest.mark.parametrize("value", [None, 5, "x", [[]], {"a": 1}], ids=repr)
def test_wrong_values(tmp_path: Path, key: str, value: object) -> None:
    data = document(Grammar(BY_HAND), tmp_path)
    data[key] = value
    refused_or_usable(data, tmp_path)


A_NODE_EACH: list[list[Any]] = [
    ["unknown", 1],
    ["literal", 5],
    ["literal", "\u0100"],
    ["literal"],
    ["chars", [[0, 0x110000]]],
    ["chars", [[5, 3]]],
    ["chars", []],
    ["chars", [[0xD800, 0xD800]]],
    ["bytes", [[0, 256]]],
    ["bytes", [[-1, 5]]],
    ["bytes", []],
    ["bytes", [[9, 2]]],
    ["ref", "nowhere"],
    ["ref", 7],
    ["repeat", 99, 0, 1],
    ["repeat", -1, 0, 1],
    ["repeat", 0, -1, None],
    ["repeat", 0, 5, 2],
    ["repeat", 0, 0, "x"],
    ["repeat", 0, 0, 1.5],
    ["not", 99],
    ["seq", [99]],
    ["seq", 0],
    ["and", []],
    ["alt", []],
    ["machine", "[]", []],
    ["machine", "[[[97, 97, 5]]]", [1]],
    ["machine", "[[[97, 97, -1]]]", [1]],
    ["machine", "[[[97, 300, 0]]]", [1]],
    ["machine", "[[[99, 97, 0]]]", [1]],
    ["machine", "[[[97, 99, 0], [98, 100, 0]]]", [1]],
    ["machine", "nonsense", [1]],
    ["machine", [[[97, 97, 0]]], [1]],
    [],
]


@pytest.mark.parametrize("node", A_NODE_EACH, ids=json.dumps)
def test_wrong_nodes(tmp_path: Path, node: list[Any]) -> None:
    data = document(Grammar.from_choices(["a"]), tmp_path)
    data["nodes"].append(node)
    data["rules"][0]["body"] = len(data["nodes"]) - 1
    refused_or_usable(data, tmp_path)


_VALUES: st.SearchStrategy[object] = st.sampled_from(
    (None, -1, 0, 1, 3, 300, "", "x", [], {}, [[0, 1]], True, 1.5, "ref")
)


@given(data=st.data(), value=_VALUES)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_one_value_changed(tmp_path: Path, data: st.DataObject, value: object) -> None:
    whole = document(Grammar(BY_HAND), tmp_path)
    place: Any = whole
    key: Any = data.draw(st.sampled_from(SAVED_KEYS[2:]))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
    place[key] = value
    refused_or_usable(whole, tmp_path)


def refused_or_usable(data: dict[str, Any], tmp_path: Path) -> None:
    """A changed file is refused with an error of this package, or it is a grammar."""
    (tmp_path / "changed").write_text(json.dumps(data), "utf-8")
    try:
        grammar = Grammar.load(tmp_path / "changed")
        grammar.accepts("ax")
        grammar.explain("ax")
        if not grammar.is_empty:
            assert grammar.accepts(grammar.sample(0, max_bytes=300))
    except GrammarError:
        return
    hash(grammar)


def test_load_of_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Grammar.load(tmp_path / "absent")


def test_save_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        YEAR.save(tmp_path / "absent" / "g")


# --- from_file -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("g.regex", "a+é", Grammar.from_regex("a+é")),
        ("g.regex", "a+é\n", Grammar.from_regex("a+é")),
        ("g.regex", "a+é\r\n", Grammar.from_regex("a+é")),
        ("g.regex", "a\\n\n\n", Grammar.from_regex("a\\n\n")),
        ("g.gbnf", NESTED, Grammar.from_gbnf(NESTED)),
        ("g.lark", LARK, Grammar.from_lark(LARK)),
        ("g.json", json.dumps(PERSON), Grammar.from_json_schema(PERSON)),
        ("g.schema.json", json.dumps(PERSON, indent=2), Grammar.from_json_schema(PERSON)),
        ("g.json", "true", Grammar.from_json_schema(True)),
    ],
)
def test_from_file(tmp_path: Path, name: str, content: str, expected: Grammar) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode())
    for path in (file, str(file)):
        grammar = Grammar.from_file(path)
        assert grammar.ir.start == expected.ir.start
        assert grammar == expected


@pytest.mark.parametrize("name", ["g.gramma", "g.json"])
def test_from_a_saved_file(tmp_path: Path, name: str) -> None:
    LINES.save(tmp_path / name)
    grammar = Grammar.from_file(tmp_path / name)
    assert grammar == LINES


def test_from_a_saved_file_with_its_limits(tmp_path: Path) -> None:
    grammar = KINDS["limits"]()
    grammar.save(tmp_path / "g.gramma")
    assert Grammar.from_file(tmp_path / "g.gramma") == grammar


def test_limits_reach_the_front_end(tmp_path: Path) -> None:
    (tmp_path / "g.regex").write_text("(a|b)*a(a|b){12}&?")
    with pytest.raises(LimitExceeded) as caught:
        Grammar.from_file(tmp_path / "g.regex", limits=Limits(max_dfa_states=100))
    assert caught.value.limit == "max_dfa_states"


@pytest.mark.parametrize("name", ["g.txt", "g", "g.LARK.bak", ".json"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("true")
    with pytest.raises(GrammarError, match="suffix") as caught:
        Grammar.from_file(tmp_path / name)
    for suffix in (".lark", ".gbnf", ".regex", ".json"):
        assert suffix in caught.value.message
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["g.lark", "g.gbnf", "g.regex", "g.json", "g.gramma"])
def test_file_that_is_not_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"ab\xff")
    with pytest.raises(GrammarError, match=f"{name} is not UTF-8 text .*0xFF at offset 2"):
        Grammar.from_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [("g.lark", "start: a\n", 1), ("g.gbnf", 'root ::= "a"\nx ::= (\n', 2), ("g.regex", "(a", 1)],
)
def test_file_with_an_error(tmp_path: Path, name: str, content: str, line: int) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(GrammarError) as caught:
        Grammar.from_file(tmp_path / name)
    assert caught.value.line is not None
    assert caught.value.line >= line


@pytest.mark.parametrize(
    "content", ["{", "", "5", "[]", '"text"', "null", '{"not":' * 100_000], ids=range(7)
)
def test_file_without_a_schema(tmp_path: Path, content: str) -> None:
    (tmp_path / "g.json").write_text(content)
    with pytest.raises(GrammarError):
        Grammar.from_file(tmp_path / "g.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Grammar.from_file(tmp_path / "absent.lark")
