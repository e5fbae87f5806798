"""Work that is counted: calls on a stranger's input end in ``max_work``, and ordinary ones do not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from grammars import Grammar, LimitExceeded, Limits
from grammars.work import allow, counted_work, spend

FEW = Limits(max_work=1_000)


def test_nothing_is_counted_outside() -> None:
    spend(10**12)


def test_the_outermost_count_applies() -> None:
    with counted_work(FEW, "testing"), counted_work(Limits(max_work=10), "within"):
        spend(1_000)
        with pytest.raises(LimitExceeded, match=r"testing needs more than Limits.max_work = 1,000"):
            spend()
    spend(10**12)  # and ends with its block


def test_a_count_has_more_for_long_input() -> None:
    with counted_work(FEW, "reading", more=50):
        spend(1_050)
        with pytest.raises(LimitExceeded):
            spend()


def test_more_is_allowed_where_the_input_turns_out_to_be_long() -> None:
    allow(10**12)  # nothing is counted outside
    with counted_work(FEW, "reading"):
        allow(500)
        spend(1_500)
        with pytest.raises(LimitExceeded):
            spend()


def test_threads_count_apart() -> None:
    failed: list[BaseException] = []

    def other() -> None:
        try:
            spend(10**12)
            with counted_work(FEW, "elsewhere"):
                spend(900)
        except LimitExceeded as error:
            failed.append(error)

    with counted_work(FEW, "here"):
        spend(900)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        spend(100)
    assert not failed


AMBIGUOUS = 'root ::= root root | "a"'
ENDLESS = r"\[(1,){2000000000,}\]"
MANY = json.dumps({"type": "object", "minProperties": 1_000_000})

HOSTILE: dict[str, Callable[[], object]] = {
    "an ambiguous text": lambda: Grammar.from_gbnf(AMBIGUOUS).accepts("a" * 2_000),
    "why an ambiguous text ends": lambda: Grammar.from_gbnf(AMBIGUOUS).explain("a" * 2_000 + "b"),
    "a sample of endless items": lambda: Grammar.from_regex(ENDLESS).sample(0),
    "a sample of a million keys": lambda: Grammar.from_json_schema(MANY).sample(0),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_calls_end_by_name(case: str) -> None:
    with pytest.raises(LimitExceeded) as raised:
        HOSTILE[case]()
    assert raised.value.limit == "max_work"
    assert "limits=Limits(max_work=...)" in str(raised.value)


def test_long_ordinary_texts_are_read() -> None:
    grammar = Grammar.from_json_schema(True, limits=Limits(max_work=100_000))
    text = json.dumps([{"a": i, "b": [str(i)] * 3} for i in range(5_000)])
    assert grammar.accepts(text)
    assert not grammar.explain(text + "]").accepted


def test_no_work_is_an_error_of_its_own() -> None:
    with pytest.raises(ValueError, match="max_work must not be negative"):
        Limits(max_work=-1)
