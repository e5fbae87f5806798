"""Free text, then a format.  The reference is plain Python: ``str.find``, then ``re`` or ``json``."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import lark
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import AutomatonLaws, Case, law_settings
from strategies import vocabularies
from toys import BOS, EOS, model, vocabulary

from constrain import BudgetError, GrammarLogitsProcessor, TokenAutomaton, Vocabulary
from constrain.models import ModelUnavailable, load_tokenizer
from grammars import Grammar, GrammarError
from grammars.storage import dumps, loads

# -- the reference ---------------------------------------------------------------------------------

Check = Callable[[str], bool]


@dataclass(frozen=True)
class Format:
    """What follows a trigger: a grammar and, independently, whether a text is one of its texts."""

    trigger: str
    grammar: Grammar
    check: Check
    end: str = ""
    json: bool = False

    @staticmethod
    def of_pattern(trigger: str, pattern: str, end: str = "") -> Format:
        compiled = re.compile(pattern)
        check = lambda text: compiled.fullmatch(text) is not None  # noqa: E731
        return Format(trigger, Grammar.from_regex(pattern), check, end)


BLANKS = " \t\n\r"


def leading_blanks(text: str) -> int:
    """How many blanks a text begins with, of the eight that may stand around an answer."""
    return min(len(text) - len(text.lstrip(BLANKS)), 8)


@dataclass(frozen=True)
class Reference:
    """The definition, read literally."""

    formats: tuple[Format, ...]
    required: bool = True
    repeat: bool = False
    max_length: int | None = None
    trigger_in_answer: bool = False
    blanks: bool | None = None

    def grammar(self) -> Grammar:
        return Grammar.free_text(
            [(f.trigger, f.grammar, f.end) for f in self.formats],
            required=self.required,
            repeat=self.repeat,
            max_length=self.max_length,
            trigger_in_answer=self.trigger_in_answer,
            blanks=self.blanks,
        )

    def accepts(self, text: str, required: bool | None = None) -> bool:
        required = self.required if required is None else required
        places = [(text.find(f.trigger), f) for f in self.formats]
        found = [(at + len(f.trigger), at, f) for at, f in places if at >= 0]
        if not found:
            return not required and not self._too_long(len(text))
        end, start, winner = min(found, key=lambda x: x[:2])
        if self._too_long(end):
            return False
        rest = text[start:] if self.trigger_in_answer else text[end:]
        if not self.repeat:
            return self._answers(winner, rest)
        least = len(winner.trigger) if self.trigger_in_answer else 0
        return any(
            self._answers(winner, rest[:k]) and self.accepts(rest[k:], required=False)
            for k in range(least, len(rest) + 1)
        )

    def _too_long(self, length: int) -> bool:
        return self.max_length is not None and length > self.max_length

    def _answers(self, winner: Format, text: str) -> bool:
        body = text[: len(text) - len(winner.end)]
        if self.trigger_in_answer and not body.startswith(winner.trigger):
            return False  # what closes an answer is no part of the trigger
        if not text.endswith(winner.end):
            return False
        if not (winner.json if self.blanks is None else self.blanks):
            return winner.check(body)
        before = 0 if self.trigger_in_answer else leading_blanks(body)
        closes = winner.end != "" and winner.end[0] not in BLANKS
        behind = leading_blanks(body[::-1]) if closes else 0
        ways = product(range(before + 1), range(behind + 1))
        parts = (body[i : len(body) - j] for i, j in ways if i + j <= len(body))
        kept = winner.trigger if self.trigger_in_answer else ""
        return any(part.startswith(kept) and winner.check(part) for part in parts)

    def accepts_bytes(self, data: bytes) -> bool:
        try:
            return self.accepts(data.decode())
        except UnicodeDecodeError:
            return False


def unreachable(triggers: list[str]) -> bool:
    """Is one of them always preceded by the end of another?"""
    return len(set(triggers)) < len(triggers) or any(
        0 <= text.find(other) < len(text) - len(other) for text in triggers for other in triggers
    )


TRIGGERS = ["a", "b", "aa", "ab", "aab", "aba", "abab", "bb", "baa", "é", "aé", "ccc", "éa"]
PATTERNS = ["", "b", "a*", "[ab]{2}", "(aa|b)+", "c?", "é", "[^a]", "aab?", "ab(a|b)*"]


@st.composite
def references(draw: st.DrawFn, *, inside: bool = False) -> Reference:
    triggers = draw(st.lists(st.sampled_from(TRIGGERS), min_size=1, max_size=3, unique=True))
    while unreachable(triggers):
        triggers.pop()
    pattern = st.sampled_from(PATTERNS)
    formats = [
        Format.of_pattern(
            trigger,
            re.escape(trigger) + draw(pattern) if inside and draw(st.booleans()) else draw(pattern),
            draw(st.sampled_from(["", "", "b", "ca", "\nb"])),
        )
        for trigger in triggers
    ]
    longest = max(map(len, triggers))
    within = inside and draw(st.booleans())
    blanks = draw(st.sampled_from([None, None, True, False]))
    if blanks and within and not any(f.end and f.end[0] not in BLANKS for f in formats):
        blanks = None
    return Reference(
        tuple(formats),
        required=draw(st.booleans()),
        repeat=draw(st.booleans()),
        max_length=draw(st.none() | st.integers(longest, longest + 3)),
        trigger_in_answer=within,
        blanks=blanks,
    )


many = settings(law_settings, max_examples=30)
SHORT = ["".join(x) for n in range(6) for x in product("abc", repeat=n)]


def texts(*, max_size: int) -> st.SearchStrategy[str]:
    """Letters of the triggers, and blanks between them."""
    blank = st.sampled_from([" ", "\n", "\n\n", "\t\r\n ", " " * 8, " " * 9])
    return st.lists(st.sampled_from("abcé") | blank, max_size=max_size).map("".join)


@many
@given(references(inside=True), st.lists(texts(max_size=9), max_size=30))
def test_is_the_definition(reference: Reference, drawn: list[str]) -> None:
    grammar = reference.grammar()
    for text in [*SHORT, *drawn]:
        assert grammar.accepts(text) == reference.accepts(text), text


@many
@given(references(inside=True), st.integers(0, 9))
def test_samples_are_texts(reference: Reference, seed: int) -> None:
    grammar = reference.grammar()
    if not grammar.is_empty:
        assert reference.accepts(grammar.sample(seed).decode())


@many
@given(references(), texts(max_size=8))
def test_explain_agrees(reference: Reference, text: str) -> None:
    grammar = reference.grammar()
    found = grammar.explain(text)
    assert found.accepted == reference.accepts(text)
    if not found.accepted and not grammar.is_empty:
        assert found.expected


@pytest.mark.parametrize(("triggers", "text", "expected"), [
    (["aa"], "aab", True), (["aa"], "aaab", False), (["aa"], "aaaab", False),
    (["aa"], "baab", True), (["ab", "b"], "abb", True), (["abc", "bc"], "abcb", True),
    (["####"], "###b####b", True), (["####"], "#####b", False), (["aab"], "aaabb", True),
])  # fmt: skip
def test_first_occurrence(triggers: list[str], text: str, expected: bool) -> None:
    reference = Reference(tuple(Format.of_pattern(t, "b") for t in triggers))
    assert reference.accepts(text) == reference.grammar().accepts(text) == expected


def test_of_triggers_that_end_together_the_longest_counts() -> None:
    grammar = Grammar.free_text(
        {"abc": Grammar.from_choices(["1"]), "bc": Grammar.from_choices(["2"])}
    )
    accepted = [t for t in ("abc1", "abc2", "bc2", "bc1", "babc1", "aabc2") if grammar.accepts(t)]
    assert accepted == ["abc1", "bc2", "babc1"]


def test_free_text_is_text() -> None:
    grammar = Grammar.free_text({"!": Grammar.from_choices([""])}, required=False)
    assert grammar.accepts("any: \x00 \n é 𝄞 \U0010ffff")
    for data in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc3!", b"\xf4\x90\x80\x80"):
        assert not grammar.accepts(data)


ANSWER = Grammar.from_regex(" [0-9]+")


@pytest.mark.parametrize(("then", "options", "message"), [
    ({"": ANSWER}, {}, "a trigger is empty"),
    ({}, {}, "at least one trigger"),
    ([("a", ANSWER), ("a", ANSWER)], {}, "given twice"),
    ({"<tool_call>": ANSWER, "<tool": ANSWER}, {}, "'<tool_call>' can never be reached, as '<tool'"),
    ({"####": ANSWER, "##": ANSWER}, {}, "can never be reached"),
    ({"\ud800": ANSWER}, {}, "surrogate"),
    ([("a", ANSWER, "\udfff")], {}, "surrogate"),
    ({"####": ANSWER}, {"max_length": 3}, "make it at least 4"),
], ids=str)  # fmt: skip
def test_errors(then: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        Grammar.free_text(then, **options)


@pytest.mark.parametrize("then", [["####"], [("####",)], {"####": " [0-9]+"}, [(b"##", ANSWER)]])
def test_wrong_types(then: Any) -> None:
    with pytest.raises(TypeError, match="free text needs"):
        Grammar.free_text(then)


def test_answers_without_any_text() -> None:
    nothing = Grammar.from_choices([])
    assert Grammar.free_text({"#": nothing}).is_empty
    assert "no choices" in str(Grammar.free_text({"#": nothing}).explain("x"))
    some = Grammar.free_text({"#": nothing, "!": ANSWER})
    assert some.accepts("x! 1")
    assert not some.accepts("x#! 1")
    assert Grammar.free_text({"#": nothing}, required=False).accepts("no trigger")


def test_recursive_answers_keep_their_rules_apart() -> None:
    """Both have a rule ``root``, and both call it."""
    round_ = Grammar.from_gbnf('root ::= "(" root ")" | "x"')
    square = Grammar.from_gbnf('root ::= "[" root "]" | "y"')
    grammar = Grammar.free_text([("#", round_), ("!", square, ".")], repeat=True)
    assert grammar.accepts("so #((x)) and ![[y]]. and so on")
    assert not grammar.accepts("so #([y])")
    assert not grammar.accepts("so ![(x)].")


@pytest.mark.parametrize("beginning", ["(", "((", "((x", "[", "x", "((x)", "(é"])
def test_recursive_answers_that_hold_their_trigger(beginning: str) -> None:
    """The quotient of rules that call themselves first, last and in the middle."""
    answer = Grammar.from_gbnf(
        'root ::= sum\nsum ::= sum "+" item | item\n'
        'item ::= "(" sum? ")" | "[" item "]" | [é-ö] | "x" item | "x"'
    )
    grammar = Grammar.free_text({beginning: answer}, trigger_in_answer=True)
    texts = ["".join(x) for n in range(6) for x in product("()x+[]é", repeat=n)]
    for text in random.Random(beginning).sample(texts, 3000):
        at = text.find(beginning)
        assert grammar.accepts(text) == (at >= 0 and answer.accepts(text[at:])), text


# -- blanks around an answer -----------------------------------------------------------------------

JSON_ANSWERS: dict[str, Callable[[], Grammar]] = {
    "schema": lambda: Grammar.from_json_schema({"const": {"a": 1}}, whitespace="compact"),
    "schema as text": lambda: Grammar.from_json_schema(
        '{"enum": [{"a": 1}]}', whitespace="compact"
    ),
    "type": lambda: Grammar.from_type(dict[str, int]),
    "memory": lambda: schema(OPEN),
}


@pytest.mark.parametrize("kind", JSON_ANSWERS)
@pytest.mark.parametrize("saved", [False, True], ids=["made", "loaded"])
def test_blanks_are_on_for_json(kind: str, saved: bool, tmp_path: Path) -> None:
    """As Qwen3 and R1 write, and what a chat template puts around a call of a tool."""
    answer = JSON_ANSWERS[kind]()
    if saved:
        answer.save(tmp_path / "answer.gramma")
        answer = Grammar.load(tmp_path / "answer.gramma")
    thought = Grammar.free_text({"</think>": answer})
    strict = Grammar.free_text({"</think>": answer}, blanks=False)
    for blanks in ("", "\n", "\n\n", " ", "\r\n\t", " " * 8):
        assert thought.accepts(f'hm</think>{blanks}{{"a":1}}'), blanks
        assert strict.accepts(f'hm</think>{blanks}{{"a":1}}') == (blanks == "")
    for blanks in (" " * 9, "\f", "\u00a0", "\v"):
        assert not thought.accepts(f'hm</think>{blanks}{{"a":1}}'), blanks
    calls = Grammar.free_text([("<call>", answer, "</call>")], required=False, repeat=True)
    call = '<call>\n{"a":1}\n</call>'
    assert calls.accepts(f"so {call}\n\n{call} done")
    assert not calls.accepts(call + '<call>{"a":1}' + " " * 9 + "</call>")


def test_blanks_are_off_for_other_answers() -> None:
    others = [
        Grammar.from_choices(["x"]),
        Grammar.from_regex("x"),
        Grammar.from_gbnf('root ::= "x"'),
        Grammar.from_lark('start: "x"'),
        Grammar.free_text({"x": Grammar.from_choices([""])}, max_length=1),
    ]
    for answer in others:
        grammar = Grammar.free_text([("#", answer, ".")])
        assert [grammar.accepts(t) for t in ("#x.", "#\nx.", "#x\n.")] == [True, False, False]
    words = Grammar.free_text([("#", Grammar.from_choices(["x"]), ".")], blanks=True)
    assert [words.accepts(t) for t in ("#x.", "#\nx.", "#x\n.", "#\n\nx .", "#x.\n")] == [
        True, True, True, True, False
    ]  # fmt: skip


def test_a_closing_text_that_begins_with_a_blank_says_itself_which() -> None:
    calls = Grammar.free_text([("<c>\n", schema(OPEN), "\n</c>")], required=False, repeat=True)
    assert calls.accepts("<c>\n{}\n</c>")
    assert calls.accepts("<c>\n\n{}\n</c>")
    assert not calls.accepts("<c>\n{}\n\n</c>")
    assert not calls.accepts("<c>\n{}</c>")


def test_blanks_without_a_place() -> None:
    with pytest.raises(GrammarError, match="blanks=True has no place"):
        Grammar.free_text({"{": schema(OPEN)}, trigger_in_answer=True, blanks=True)
    Grammar.free_text([("{", schema(OPEN), ";")], trigger_in_answer=True, blanks=True)


def test_memory_sees_through_blanks() -> None:
    """Where an answer begins and ends shows behind blanks, too, and so do keys that repeat."""
    calls = Grammar.free_text([("<c>", schema(OPEN), "</c>")], required=False, repeat=True)
    for twice in (True, False):
        keys = ("k", "k") if twice else ("k", "l")
        object_ = "{" + ",".join(f'"{key}":1' for key in keys) + "}"
        for before, behind in product(["", "\n", " \n "], repeat=2):
            text = f'say {{"k":1,"k":1}} <c>{before}{{"k":1}}{behind}</c>{behind}<c>{object_}</c>'
            assert calls.accepts(text) != twice
            assert calls.explain(text).accepted != twice
    # an end in which a trigger occurs is read to its last byte, and the free text behind it is free
    tight = Grammar.free_text([("c>", schema(OPEN), "</c>")], repeat=True)
    for behind in ("", "\n", "\n ", "\n\n "):
        assert tight.accepts(f'c>{{"k":1}}{behind}</c>{{"k":1,"k":1}}'), behind
    automaton = TokenAutomaton(
        calls, Vocabulary.from_tokens([*JSON_WORDS, b"c", b">", None], [len(JSON_WORDS) + 2])
    )
    state = automaton.advance_bytes(automaton.start, b'x<c>\n\n{"k":1}\n </c>\n<c>\n{"k":1,')
    assert state != automaton.DEAD
    assert automaton.advance_bytes(state, b'"k"') == automaton.DEAD
    assert automaton.is_accepting(automaton.advance_bytes(state, b'"l":1}\n</c>'))


def test_blanks_end_in_time() -> None:
    """A model that writes blanks whenever it may still finishes: eight of them, not for ever."""
    words = Vocabulary.from_tokens([b"\n", b"\n\n", b"#", b"{", b"}", None], [5])
    answer = Grammar.from_json_schema({"const": {}}, whitespace="compact")
    automaton = TokenAutomaton(Grammar.free_text({"#": answer}), words)
    state, count = automaton.advance(automaton.start, 2), 0
    while automaton.advance(state, 0) != automaton.DEAD:
        state, count = automaton.advance(state, 0), count + 1
    assert count == 8
    row = np.zeros(1, np.uint32)
    automaton.fill_mask(state, row)
    assert row[0] == 1 << 3
    start = automaton.advance(automaton.start, 2)
    automaton.fill_mask(start, row)
    assert row[0] == 0b1011
    automaton.fill_mask(start, row, tokens_left=3)
    assert row[0] == 1 << 3, "no room for blanks"
    automaton.fill_mask(start, row, tokens_left=4)
    assert row[0] == 0b1011


# -- explain, storage ------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "offset", "part"), [
    ("let me see", 10, "the text ends too early; expected free text up to '####'"),
    ("let me ##", 9, "the text ends too early; expected free text up to '####'"),
    ("so ####", 7, "the text ends too early; expected ' '"),
    ("so ####12", 7, "unexpected '1'; expected ' '"),
    ("so #### 1x", 9, "unexpected 'x'; expected end of text or '0' to '9'"),
    (b"so \xff", 3, "unexpected byte 0xFF; expected free text up to '####'"),
])  # fmt: skip
def test_explain(text: str | bytes, offset: int, part: str) -> None:
    found = Grammar.free_text({"####": ANSWER}).explain(text)
    assert (found.accepted, found.offset) == (False, offset)
    assert part in found.message


def test_explain_names_all_triggers_and_the_bound() -> None:
    grammar = Grammar.free_text({"<a>": ANSWER, "<b>": ANSWER}, max_length=5)
    assert "free text up to '<a>' or '<b>'" in grammar.explain("").message
    assert grammar.explain("xxx<a> 1").offset == 2  # xx<a> would have five characters


OBJECT = Grammar.from_json_schema({"type": "object", "maxProperties": 3})
GRAMMARS: dict[str, Callable[[], Grammar]] = {
    "plain": lambda: Grammar.free_text({"####": ANSWER}),
    "bounded": lambda: Grammar.free_text({"####": ANSWER, "é": ANSWER}, max_length=500),
    "optional": lambda: Grammar.free_text({"####": ANSWER}, required=False),
    "calls": lambda: Grammar.free_text([("<c>", OBJECT, "</c>")], required=False, repeat=True),
    "nested": lambda: Grammar.free_text(
        {"</think>": Grammar.free_text([("<c>", OBJECT, "</c>")], repeat=True)}
    ),
    "inside": lambda: Grammar.free_text({'{"': OBJECT}, trigger_in_answer=True),
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    grammar = GRAMMARS[name]()
    grammar.save(tmp_path / "saved.gramma")
    for again in (
        Grammar.load(tmp_path / "saved.gramma"),
        Grammar.from_file(tmp_path / "saved.gramma"),
    ):
        assert again == grammar == GRAMMARS[name]()
        assert again.ir == grammar.ir
        assert hash(again) == hash(grammar)
        assert again.sample(1) == grammar.sample(1)


def test_all_differ() -> None:
    assert len({make() for make in GRAMMARS.values()}) == len(GRAMMARS)


def test_versions_of_the_format() -> None:
    """What earlier versions can read they still may; sections they would miss."""
    plain, nested = (GRAMMARS[name]() for name in ("plain", "nested"))
    assert '"version":2' in dumps(plain.ir, plain.limits)
    assert '"version":6' in dumps(nested.ir, nested.limits)


def in_version_3(**section: Any) -> str:
    """Calls of tools as earlier versions saved them: triggers instead of parts."""
    grammar = GRAMMARS["calls"]()
    data = json.loads(dumps(grammar.ir, grammar.limits))
    del data["checksum"], data["parts"]
    whole = {"trigger": "<c>", "end": "</c>", "inside": False, "sections": [], "repeated": False}
    whole |= {"distinct_keys": True, "compare_items": False, **section}
    return json.dumps(data | {"version": 3, "sections": [whole], "repeated": True})


def test_sections_of_earlier_versions_are_read() -> None:
    ir, limits = loads(in_version_3())
    grammar = Grammar(ir, limits=limits)
    for text in ('{"a":1,"a":1}', 'x<c>{"a":1}</c><c>{"a":1}\n</c>{"a":1,"a":2}'):
        assert grammar.accepts(text)
    assert not grammar.accepts('x<c>{"a":1}</c><c>{"a":1,"a":2}</c>')
    assert grammar.accepts(grammar.sample(1))
    with pytest.raises(GrammarError, match="saved by an earlier version"):
        Grammar.literal("x") + grammar


@pytest.mark.parametrize(
    "section", [{"trigger": ""}, {"trigger": 1}, {"sections": 1}, {"inside": 2}]
)
def test_damaged_sections(section: Any) -> None:
    with pytest.raises(GrammarError, match="damaged"):
        loads(in_version_3(**section))


@pytest.mark.parametrize("parts", [
    1, [1], [[]], [["#", True, True, ""]], [["none", True, False, ""]], [["#", True, False, "x"]],
    [["#", 1, False, ""]], [["#", True, False, "é€"]], [],
])  # fmt: skip
def test_damaged_parts(parts: Any) -> None:
    grammar = GRAMMARS["calls"]()
    data = json.loads(dumps(grammar.ir, grammar.limits))
    del data["checksum"]
    with pytest.raises(GrammarError, match="damaged"):
        loads(json.dumps(data | {"parts": parts}))


@pytest.mark.parametrize("name", GRAMMARS)
def test_samples(name: str) -> None:
    """Of moderate length, not all alike, and mostly printable."""
    grammar = GRAMMARS[name]()
    texts = [grammar.sample(seed).decode() for seed in range(20)]
    assert all(map(grammar.accepts, texts))
    assert len(set(texts)) > 15
    assert max(map(len, texts)) < 400
    letters = "".join(texts)
    assert sum(c.isascii() and c.isprintable() for c in letters) > 0.7 * len(letters)
    assert len(grammar.sample(3, max_bytes=40)) <= 40


# -- laws of masks ---------------------------------------------------------------------------------


def case(
    reference: Reference,
    words: tuple[tuple[bytes | None, ...], tuple[int, ...]],
    texts: tuple[str, ...] = (),
) -> Case:
    grammar = reference.grammar()
    return Case(
        grammar,
        grammar.ir,
        *words,
        reference=reference.accepts_bytes,
        texts=tuple(text.encode() for text in texts),
        source=repr(reference),
    )


WORDS = [
    b"a",
    b"b",
    b"c",
    b"\xc3",
    b"\xa9",
    b"aa",
    b"ab",
    b"#",
    b"##",
    b"b#",
    b"#b",
    b"aab#a",
    None,
]
VOCABULARY = (tuple(WORDS), (len(WORDS) - 1,))
FIXED: dict[str, tuple[Reference, tuple[str, ...]]] = {
    "hashes": (Reference((Format.of_pattern("##", "[ab]+"),)), ("a##a", "##", "#a", "a#", "###")),
    "bounded": (
        Reference((Format.of_pattern("##", "b", "a"),), max_length=12),
        ("a" * 10 + "##ba", "a" * 9 + "#", "a" * 11, "é" * 10, "é" * 10 + "##"),
    ),
    "bounded, optional": (
        Reference((Format.of_pattern("aab", "b*"),), max_length=40, required=False),
        ("a" * 40, "b" * 37 + "aab", "b" * 39 + "a", "a" * 41),
    ),
    "several": (
        Reference((Format.of_pattern("#a", "b"), Format.of_pattern("#b", "a"))),
        ("a#ab", "b#ba", "##b", "#"),
    ),
    "several that overlap": (
        Reference(
            (Format.of_pattern("aba", "b"), Format.of_pattern("ba", "a")),
            required=False,
            repeat=True,
        ),
        ("aba", "abab", "baa", "bababa", "aab"),
    ),
    "calls": (
        Reference((Format.of_pattern("#", "[ab]*", "#"),), required=False, repeat=True),
        ("a#a#", "##", "###", "a#a#a#"),
    ),
}


class TestFreeText(AutomatonLaws):
    """Masks are those of the oracle; texts those of the reference."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(case, reference, VOCABULARY, texts)
        for name, (reference, texts) in FIXED.items()
    }
    alphabet: ClassVar[list[bytes]] = [b"a", b"b", b"#", "é".encode(), b"\xc3"]

    def random_cases(self) -> st.SearchStrategy[Case]:
        return st.builds(case, references(inside=True), vocabularies())


# -- answers with memory ---------------------------------------------------------------------------

CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}},
    "required": ["a"],
    "additionalProperties": False,
}
UNIQUE = {"type": "array", "items": {"enum": ["k", "l", "x"]}, "uniqueItems": True}
OPEN = {"type": "object", "additionalProperties": {"enum": [1, 2]}}
ANY_ORDER = {**CLOSED, "additionalProperties": {"enum": [1]}}


def pairs_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def value(text: str) -> Any:
    """The value of a JSON text without blanks around it in which no key is repeated, or None."""
    try:
        found = json.loads(text, object_pairs_hook=pairs_once)
    except ValueError:
        return None
    return found if text.strip() == text else None


def is_number(found: Any, *among: int) -> bool:
    """An integer (1.0 is one, true is not), perhaps of a few."""
    number = type(found) in (int, float) and found == int(found)
    return number and (not among or found in among)


def is_closed(text: str) -> bool:
    found = value(text)
    return (
        isinstance(found, dict)
        and list(found) in (["a"], ["a", "b"])
        and is_number(found["a"])
        and isinstance(found.get("b", True), bool)
    )


def is_unique(text: str) -> bool:
    found = value(text)
    return (
        isinstance(found, list)
        and all(x in ("k", "l", "x") for x in found)
        and len(set(found)) == len(found)
    )


def is_open(text: str) -> bool:
    found = value(text)
    return isinstance(found, dict) and all(is_number(x, 1, 2) for x in found.values())


def is_any_order(text: str) -> bool:
    found = value(text)
    return (
        isinstance(found, dict)
        and is_number(found.get("a"))
        and isinstance(found.get("b", True), bool)
        and all(is_number(x, 1) for key, x in found.items() if key not in ("a", "b"))
    )


def schema(source: Any, **options: Any) -> Grammar:
    return Grammar.from_json_schema(source, whitespace="compact", **options)


MEMORIES: dict[str, tuple[Grammar, Check, list[str]]] = {
    "closed": (schema(CLOSED), is_closed, ['{"a":1}', '{"a":-2,"b":true}', '{"b":true}']),
    "unique": (schema(UNIQUE), is_unique, ["[]", '["k"]', '["k","l"]', '["k","k"]', '["x","k","x"]']),
    "open": (schema(OPEN), is_open, ["{}", '{"k":1}', '{"k":1,"l":2}', '{"k":1,"k":1}', '{"k":3}']),
    "any order": (
        schema(ANY_ORDER, property_order="any"),
        is_any_order,
        ['{"a":1}', '{"c":1,"a":1}', '{"b":true,"a":0}', '{"b":true}', '{"a":1,"a":1}'],
    ),
}  # fmt: skip
PIECES = ["", "t", "<", "<u", '{"k":1,"k":', '["k","k",', '"', "é", "\n"]
SPACES = ["", "", "\n", "\n\n", " \t\r\n", " " * 8, " " * 9]


@st.composite
def memories(draw: st.DrawFn) -> tuple[Reference, list[str]]:
    names = draw(st.lists(st.sampled_from(list(MEMORIES)), min_size=1, max_size=3))
    triggers = draw(st.permutations(["<u>", "<v>", "u>", "#", "<u<w>"]))
    formats = [
        Format(
            trigger,
            *MEMORIES[name][:2],
            draw(st.sampled_from(["", "", "</u>", "[1,1]", "t", "\n</u>"])),
            json=True,
        )
        for trigger, name in zip(triggers, names, strict=False)
    ]
    answers = [text for name in names for text in MEMORIES[name][2]]
    reference = Reference(
        tuple(formats),
        draw(st.booleans()),
        draw(st.booleans()),
        max_length=draw(st.none() | st.just(20)),
        blanks=draw(st.sampled_from([None, None, True, False])),
    )
    part = st.builds(
        lambda before, f, answer, closed, blanks: (
            before + f.trigger + blanks[0] + answer + (blanks[1] + f.end if closed else "")
        ),
        st.sampled_from(PIECES),
        st.sampled_from(formats),
        st.sampled_from(answers),
        st.booleans(),
        st.tuples(st.sampled_from(SPACES), st.sampled_from(SPACES)),
    )
    text = st.builds(
        lambda parts, tail: "".join(parts) + tail,
        st.lists(part, min_size=1, max_size=3),
        st.sampled_from(PIECES),
    )
    return reference, draw(st.lists(text, min_size=10, max_size=40))


@many
@given(memories())
def test_memory_begins_at_the_trigger(drawn: tuple[Reference, list[str]]) -> None:
    reference, texts = drawn
    grammar = reference.grammar()
    for text in texts:
        accepted = reference.accepts(text)
        assert grammar.accepts(text) == accepted, text
        assert grammar.explain(text).accepted == accepted


@law_settings
@given(memories(), st.integers(0, 9))
def test_samples_with_memory(drawn: tuple[Reference, list[str]], seed: int) -> None:
    reference, _ = drawn
    assert reference.accepts(reference.grammar().sample(seed).decode())


JSON_WORDS = [bytes([b]) for b in b'{}[]",:0123xklabtruefs<>uvw/#- \n\t\r\xc3\xa9']
JSON_WORDS += [b"\n\n", b'\n{"', b"}\n", b" " * 5, b"\n</"]
JSON_WORDS += [
    b'"k":',
    b'1,"',
    b"[1,",
    b",1",
    b'<u>["k","k"',
    b'#{"k":1,"k',
    b'>{"',
    b"t<u>",
    b"2]<",
    b"]]",
]
JSON_WORDS += [w.encode() for w in ("é", '{"a":1,"a"', "true")]


@law_settings
@given(memories(), st.integers(0, 10**6))
def test_masks_with_memory(drawn: tuple[Reference, list[str]], seed: int) -> None:
    """Texts can be spelled if and only if they are texts; masks lead to texts, in time."""
    reference, texts = drawn
    grammar = reference.grammar()
    words = Vocabulary.from_tokens([*JSON_WORDS, None], [len(JSON_WORDS)])
    automaton = TokenAutomaton(grammar, words)
    spelling = set(b"".join(JSON_WORDS))
    for text in texts[:12]:
        if not set(text.encode()) <= spelling:
            continue
        state = automaton.advance_bytes(automaton.start, text.encode())
        assert automaton.is_accepting(state) == reference.accepts(text), text
    rng = random.Random(seed)
    for left in (automaton.min_tokens_to_accept(automaton.start) + 1, 12, 40):
        spelled = within_budget(automaton, words, left, rng)
        if spelled is not None:
            assert reference.accepts(spelled.decode()), spelled


def within_budget(
    automaton: TokenAutomaton, words: Vocabulary, left: int, rng: random.Random
) -> bytes | None:
    """A random walk through the masks of a budget; None where it is too small from the start."""
    row = np.zeros(-(-words.size // 32), np.uint32)
    state, out = automaton.start, b""
    if automaton.min_tokens_to_accept(state) + 1 > left:
        return None
    while left:
        automaton.fill_mask(state, row, tokens_left=left)
        allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()
        assert allowed, (out, left)
        token = rng.choice(allowed)
        after = automaton.advance(state, token)
        assert after != automaton.DEAD, (out, token)
        if token in words.eos_token_ids:
            return out
        state, out, left = after, out + (words.token_bytes(token) or b""), left - 1
    raise AssertionError(("no end within the budget", out))


@law_settings
@given(memories(), st.integers(0, 10**6))
def test_advance_agrees_with_masks_with_memory(
    drawn: tuple[Reference, list[str]], seed: int
) -> None:
    reference, texts = drawn
    words = Vocabulary.from_tokens([*JSON_WORDS, None], [len(JSON_WORDS)])
    automaton = TokenAutomaton(reference.grammar(), words)
    rng = random.Random(seed)
    for text in texts[:4]:
        state = automaton.advance_bytes(automaton.start, text[: rng.randint(0, len(text))].encode())
        row = np.zeros(-(-words.size // 32), np.uint32)
        automaton.fill_mask(state, row)
        bits = np.unpackbits(row.view(np.uint8), bitorder="little")
        for token in range(words.size):
            assert bool(bits[token]) == (automaton.advance(state, token) != automaton.DEAD)


def test_memory_of_calls_survives_trim() -> None:
    automaton = TokenAutomaton(
        Grammar.free_text([("#", schema(OPEN), "!")], required=False, repeat=True),
        Vocabulary.from_tokens([*JSON_WORDS, b"!", None], [len(JSON_WORDS) + 1]),
    )
    state = automaton.advance_bytes(automaton.start, b'x#{"k":1,')
    automaton.trim([state])
    assert automaton.advance_bytes(state, b'"k"') == automaton.DEAD
    after = automaton.advance_bytes(state, b'"l":1}!{"k":1,"k":#{"k":2,')
    automaton.trim([after])
    assert automaton.advance_bytes(after, b'"k"') == automaton.DEAD
    assert automaton.is_accepting(automaton.advance_bytes(after, b'"u":1}!'))


NUMBER_OR_LIST = {"type": ["number", "array"]}


@pytest.mark.parametrize(("answer", "texts"), [
    (Grammar.from_json_schema(True), ["1", "true", '{"k":1}', "[{}]"]),
    (Grammar.from_json_schema(NUMBER_OR_LIST), ["12", "[1]"]),
    (Grammar.from_regex("x"), ["x"]),
    (Grammar.from_regex('[a-z"{}]*'), ["x", '{"', ""]),
])  # fmt: skip
def test_answers_whose_end_does_not_show(answer: Grammar, texts: list[str]) -> None:
    """It need not, as no reading of such an answer can be confused with a trigger."""
    grammar = Grammar.free_text({"<u>": schema(OPEN), "<v>": answer}, repeat=True)
    for text in texts:
        assert grammar.accepts(f'say <v>{text} and <u>{{"k":1}}{{"k":1,"k":2}}')
        assert not grammar.accepts(f'say <v>{text} and <u>{{"k":1,"k":2}}')


def test_answers_that_may_hold_a_trigger() -> None:
    """``<u>{`` may then be a call, or an answer and free text."""
    words = Grammar.from_regex("[a-z<>]*")
    with pytest.raises(GrammarError, match="where its text begins does not show: behind '<v><u>'"):
        Grammar.free_text({"<u>": schema(OPEN), "<v>": words}, repeat=True)
    Grammar.free_text({"<u>": schema(OPEN), "<v>": words})
    Grammar.free_text([("<u>", schema(OPEN)), ("<v>", words, ".")], repeat=True)
    Grammar.free_text({"<u>": schema(CLOSED), "<v>": words}, repeat=True)


# -- closing texts, excluded texts, triggers within some answers ---------------------------------------


def test_several_closing_texts() -> None:
    call = Grammar.free_text([("<c>", schema(OPEN), ["</c>", "\n\n", "<end/>"])], repeat=True)
    for end in ("</c>", "\n</c>", "\n\n", " <end/>"):
        assert call.accepts(f'a<c>{{"k":1}}{end}b<c>{{}}{end}')
        assert not call.accepts(f'a<c>{{"k":1,"k":1}}{end}b')
    assert not call.accepts("a<c>{}")
    assert not call.accepts("a<c>{} \n\n")
    with pytest.raises(GrammarError, match="the closing texts of '<c>' are an empty list"):
        Grammar.free_text([("<c>", schema(OPEN), [])])
    with pytest.raises(TypeError, match="free text needs"):
        Grammar.free_text([("<c>", schema(OPEN), ["x", 1])])


def excluding(text: str, trigger: str, excluded: list[str]) -> bool:
    """Free text up to a trigger, read literally; the answer is ``.``."""
    at = text.find(trigger)
    if at < 0 or text[at + len(trigger) :] != ".":
        return False
    whole = text[: at + len(trigger)]
    return not any(x in whole and whole.find(x) < at for x in excluded)


@pytest.mark.parametrize(("trigger", "excluded"), [
    ("ab", ["ba"]), ("ab", ["bb", "aa"]), ("a", ["bb"]), ("aab", ["ab", "b"]), ("ba", ["cba", "bc"]),
    ("ab", ["cab"]), ("b", ["aba"]),
])  # fmt: skip
def test_excluded_texts(trigger: str, excluded: list[str]) -> None:
    grammar = Grammar.free_text({trigger: Grammar.literal(".")}, excludes=excluded)
    for text in ("".join(x) for n in range(7) for x in product("abc.", repeat=n)):
        assert grammar.accepts(text) == excluding(text, trigger, excluded), text


def test_excluded_texts_everywhere() -> None:
    thought = Grammar.free_text(
        [("<c>", ANSWER, "</c>")], required=False, repeat=True, excludes=["</think>", "\n\n\n"]
    )
    for text in ("a\n\nb", "</think", "<c> 1</c></thin</think"):
        assert thought.accepts(text)
    for text in ("a</think>", "<c> 1</c></think>", "</think><c> 1</c>", "\n\n\n<c> 1</c>"):
        assert not thought.accepts(text)
    whole = thought + Grammar.literal("</think>") + schema(OPEN)
    assert whole.accepts('{"k":1,"k":2}<c> 1</c>\n</think>{"k":1}')
    assert not whole.accepts('<c> 1</c>\n</think>{"k":1,"k":2}')


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"excludes": ["####"]}, GrammarError, "is a trigger and is excluded"),
    ({"excludes": ["##"]}, GrammarError, "can never be reached, as '##', which is excluded"),
    ({"excludes": [""]}, GrammarError, "excludes has an empty text"),
    ({"excludes": "xyz"}, TypeError, "excludes needs a list"),
    ({"excludes": [1]}, TypeError, "excludes needs a list"),
    ({"trigger_in_answer": ["##"]}, GrammarError, "which is none of the triggers; these are '####'"),
    ({"trigger_in_answer": "####"}, TypeError, "trigger_in_answer needs a list"),
])  # fmt: skip
def test_wrong_options(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Grammar.free_text({"####": ANSWER}, **options)


def test_a_trigger_that_is_the_beginning_of_some_answers() -> None:
    """``<function=`` begins the tags of all functions; ``</think>`` stands before its answer."""
    call = Grammar.from_gbnf(
        'root ::= "<function=" ("get" | "put") ">" args "</function>"', rules={"args": schema(OPEN)}
    )
    grammar = Grammar.free_text(
        [("<function=", call), ("!", schema(OPEN), ";")],
        trigger_in_answer=["<function="],
        repeat=True,
    )
    assert grammar.accepts(
        'a <function=get>{"k":1}</function> b !{"k":1}; <function=put>{}</function>'
    )
    assert not grammar.accepts("a <function=gut>{}</function>")
    assert not grammar.accepts('<function=get>{"k":1,"k":1}</function>')
    assert not grammar.accepts('!{"k":1,"k":1};')


def test_free_text_in_free_text() -> None:
    """Thoughts, then text with calls in it."""
    calls = Grammar.free_text([("<c>", schema(OPEN), "</c>")], required=False, repeat=True)
    grammar = Grammar.free_text({"</think>": calls})
    thought = 'could do <c>{"k":1,"k":1}</c>'
    assert grammar.accepts(f'{thought}</think>so <c>{{"k":1}}</c> and <c>{{"k":1}}</c>.')
    assert not grammar.accepts(f"{thought}</think>so {thought}")
    found = grammar.explain(f"{thought}</think>so {thought}")
    assert "the key 'k' occurs twice" in found.message
    assert grammar.accepts("</think>")


@pytest.mark.parametrize(("source", "options", "trigger", "rest", "wrong"), [
    (CLOSED, {}, "{", '"a":1}', '"b":true}'),
    (CLOSED, {}, '{"a":', "1}", '1,"a":2}'),
    (OPEN, {}, '{"k":1,', '"l":1}', '"k":1}'),
    (OPEN, {}, '{"k":1,"l', '":1}', 'x":1,"k":1}'),
    (ANY_ORDER, {"property_order": "any"}, '{"b":', 'true,"a":1}', "true}"),
    (ANY_ORDER, {"property_order": "any"}, '{"b":true,"a":', "1}", '1,"a":1}'),
    (UNIQUE, {}, '["k",', '"l","x"]', '"k"]'),
    (UNIQUE, {}, '["k","l"', ',"x"]', ',"k"]'),
    ({"type": "array", "const": [1, 1]}, {}, "[1,1", "]", "2]"),
])  # fmt: skip
def test_a_trigger_within_its_answer(
    source: Any, options: dict[str, Any], trigger: str, rest: str, wrong: str
) -> None:
    grammar = Grammar.free_text({trigger: schema(source, **options)}, trigger_in_answer=True)
    assert grammar.accepts("I say " + trigger + rest)
    assert not grammar.accepts("I say " + trigger + wrong)
    assert not grammar.explain("I say " + trigger + wrong).accepted
    for seed in range(5):
        text = grammar.sample(seed).decode()
        assert schema(source, **options).accepts(text[text.index(trigger) :])


def test_a_trigger_that_repeats_a_key_leads_nowhere() -> None:
    grammar = Grammar.free_text({'{"k":1,"k"': schema(OPEN)}, trigger_in_answer=True)
    assert grammar.is_empty


# -- lark ------------------------------------------------------------------------------------------

LARK = {
    "lazy terminal": ('start: FREE NUM\nFREE: /(?s:.*?)##/\nNUM: /b+/', "ab#"),
    "bounded": ("start: FREE NUM\nFREE: /(?s:.{0,3}?)##/\nNUM: /b+/", "ab#"),
    "several": (
        "start: ONE A | OTHER B\nONE: /((?!#b)(?s:.))*?#a/\nOTHER: /((?!#a)(?s:.))*?#b/\n"
        "A: /a+/\nB: /b+/",
        "ab#",
    ),
    "calls": (
        'start: (CALL NAME "#")* REST?\nCALL: /(?s:.*?)#/\nREST: /[^#]+/\nNAME: /[ab]+/',
        "ab#",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARK)
def test_lark_says_it_itself(name: str) -> None:
    source, letters = LARK[name]
    grammar = Grammar.from_lark(source)
    try:
        parser = lark.Lark(source, parser="lalr", lexer="contextual")
    except lark.exceptions.GrammarError:
        parser = lark.Lark(source, parser="earley", lexer="basic")
    for text in ("".join(x) for n in range(8) for x in product(letters, repeat=n)):
        try:
            parser.parse(text)
            expected = True
        except lark.exceptions.UnexpectedInput:
            expected = False
        assert grammar.accepts(text) == expected, text


def test_lark_and_the_helper_say_the_same() -> None:
    """One trigger, or several that do not overlap; neither form has many states."""
    one = Grammar.from_lark("start: FREE NUM\nFREE: /(?s:.*?)##/\nNUM: /b+/")
    helper = Grammar.free_text({"##": Grammar.from_regex("b+")})
    several = Grammar.from_lark(LARK["several"][0])
    both = Grammar.free_text({"#a": Grammar.from_regex("a+"), "#b": Grammar.from_regex("b+")})
    for text in ("".join(x) for n in range(8) for x in product("ab#", repeat=n)):
        assert one.accepts(text) == helper.accepts(text), text
        assert several.accepts(text) == both.accepts(text), text
    assert max(g.program.states for g in (one, helper, several, both)) < 40


# -- with a model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [8, 16, 48])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "do_sample": False}], ids=str)
def test_reasoning_ends_in_time(budget: int, options: dict[str, Any]) -> None:
    """A model that reasons on and on (it hardly ever writes ``:`` by itself) still answers."""
    answer = Grammar.from_regex("[0-9]{1,3}")
    grammar = Grammar.free_text({":{": answer})
    automaton = TokenAutomaton(grammar, vocabulary())
    processor = GrammarLogitsProcessor(automaton, max_new_tokens=budget)
    ids = torch.tensor([[BOS, 5, 6, 7], [BOS, 9, 8, 7]])
    options = {"max_new_tokens": budget, "do_sample": True, "top_k": 0} | options
    for seed in range(4):
        torch.manual_seed(seed)
        out = model().generate(
            ids, attention_mask=torch.ones_like(ids), logits_processor=[processor], **options
        )
        for tokens in out[:, ids.shape[1] :].tolist():
            text = vocabulary().decode(tokens[: tokens.index(EOS)]).decode()
            found = text.find(":{")
            assert found >= 0
            assert re.fullmatch("[0-9]{1,3}", text[found + 2 :]), text


def test_reasoning_without_room() -> None:
    automaton = TokenAutomaton(Grammar.free_text({":{": Grammar.from_regex("[0-9]")}), vocabulary())
    assert automaton.min_tokens_to_accept(automaton.start) == 3
    processor = GrammarLogitsProcessor(automaton, max_new_tokens=3)
    with pytest.raises(BudgetError):
        processor(torch.tensor([[BOS]]), torch.zeros(1, 64))


@pytest.mark.model
@pytest.mark.parametrize("name", GRAMMARS)
def test_real_vocabulary(name: str) -> None:
    """In free text nearly every token is allowed; a token may go on behind the trigger."""
    try:
        words = Vocabulary.from_huggingface(load_tokenizer("smollm2-135m-instruct"))
    except ModelUnavailable as error:
        pytest.skip(str(error))
    automaton = TokenAutomaton(GRAMMARS[name](), words)
    row = np.zeros(-(-words.size // 32), np.uint32)
    automaton.fill_mask(automaton.start, row)
    bits = np.unpackbits(row.view(np.uint8), bitorder="little")
    assert bits.sum() > 0.99 * words.size
    rng = random.Random(name)
    for token in rng.sample(range(words.size), 500):
        assert bool(bits[token]) == (automaton.advance(automaton.start, token) != automaton.DEAD)
    for left in (automaton.min_tokens_to_accept(automaton.start) + 1, 20):
        text = within_budget(automaton, words, left, rng)
        assert text is None or automaton.grammar.accepts(text)
