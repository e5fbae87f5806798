"""What is said of broken grammars and refused texts: the place, the reason and the remedy."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from messages import PAGE, Example, examples, message, page

from grammars import Grammar, LimitExceeded, Limits
from grammars.json_hints import spot_of

ALL = examples()


@pytest.mark.parametrize("example", ALL, ids=lambda example: example.name)
def test_place_and_remedy(example: Example) -> None:
    """Each names its place and what to do."""
    said = message(example)
    assert said.startswith(example.place), said
    for part in example.says:
        assert part in said, f"{part!r} is not in: {said}"


def test_there_are_enough() -> None:
    broken = [example for example in ALL if example.text is None]
    assert len(broken) >= 30
    assert len(ALL) - len(broken) >= 30
    assert len({example.name for example in ALL}) == len(ALL)


@pytest.mark.parametrize("example", ALL, ids=lambda example: example.name)
def test_messages_are_for_people(example: Example) -> None:
    """No insides of parsers, no lists that nobody reads."""
    said = message(example)
    for inside in ("Token(", "NonTerminal(", "Traceback", "Errno", "<class '__", "Error building"):
        assert inside not in said
    first = said.split("\n")[0]
    assert first.count(" or ") <= 4
    assert len(first) <= 700


def test_the_page_is_up_to_date() -> None:
    """``python tests/messages.py`` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()


# --- hints on JSON texts --------------------------------------------------------------------------

_CHARACTERS = "{}[]\",:0189.-eE \\n\\tatrufnl\\\\/'`#é"


def mutated(text: str, rng: random.Random) -> str:
    """A text with a character or two taken out, put in or exchanged."""
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(text) + 1)
        new = rng.choice(_CHARACTERS)
        text = text[:at] + rng.choice(["", new, new + text[at : at + 1]]) + text[at + 1 :]
    return text


def check_pointer(value: Any, pointer: str) -> None:
    """Whether a pointer leads to a value, or to an item that a text might have gone on with."""
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and int(step) == len(value):
            return
        value = value[int(step)] if isinstance(value, list) else value[step]


def test_pointers_lead_to_the_place() -> None:
    """The pointer of a refused text is one of a value that a completion of it has."""
    made = {e.grammar: e.source for e in ALL if e.kind == "json" and e.grammar}
    rng = random.Random(1)
    refused = 0
    for source in made.values():
        grammar = Grammar.from_json_schema(source)
        for seed in range(30):
            text = mutated(grammar.sample(seed, 200).decode(), rng)
            verdict = grammar.explain(text)
            assert verdict.accepted == (verdict.pointer is None)
            if verdict.accepted:
                assert verdict.hint == ""
                continue
            refused += 1
            completed = grammar.complete(text)
            if completed is not None:
                assert verdict.pointer is not None
                check_pointer(json.loads(completed), verdict.pointer)
    assert refused > 40


@pytest.mark.parametrize(("text", "pointer", "where"), [
    ("", "", "value"), ("{", "", "key"), ('{"a', "", "in key"), ('{"a"', "", "colon"),
    ('{"a":', "/a", "value"), ('{"a": "x', "/a", "in string"), ('{"a": 1', "/a", "in word"),
    ('{"a": 1 ', "", "behind value"), ('{"a": [1, ', "/a/1", "value"),
    ('{"a": [1, {"b~/": ', "/a/1/b~0~1", "value"), ('{"a": "\\"', "/a", "in string"),
    ("[[], [", "/1/0", "value"), ("[]", "", "end"), ('"a"', "", "end"), ("1", "", "in word"),
], ids=repr)  # fmt: skip
def test_spots(text: str, pointer: str, where: str) -> None:
    spot = spot_of(text.encode())
    assert (spot.pointer, spot.where) == (pointer, where)


def test_control_characters_do_not_reach_a_terminal() -> None:
    said = str(Grammar.from_regex("ab").explain("a\x1b[31m\x07\x85"))
    assert not any(ord(char) < 0x20 and char != "\n" for char in said)
    assert "\x85" not in said


def test_the_caret_stands_below_wide_characters() -> None:
    _, shown, caret, _ = str(Grammar.from_regex("[^x]*").explain("日本x")).split("\n")
    assert shown == "  日本x"
    assert caret == "  " + " " * 4 + "^"


# --- limits ---------------------------------------------------------------------------------------


def test_limits_say_what_helps_first() -> None:
    """What is exponential is not helped by a larger limit."""
    with pytest.raises(LimitExceeded) as caught:
        Grammar.from_regex("x(.*a.{24}){2}", limits=Limits(max_dfa_states=1_000))
    said = str(caught.value)
    assert said.startswith("line 1, column 1: ")
    assert said.index("[^a]*a.{20}") < said.index("limits=Limits(max_dfa_states=...)")
