"""What a type checker says of the public names; ``tests/test_packaging.py`` runs mypy; nothing runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np

from gramma import (
    AlignedSampling,
    BudgetError,
    Explanation,
    Extraction,
    GrammaError,
    Grammar,
    GrammarConstrained,
    GrammarError,
    LimitExceeded,
    Limits,
    Sample,
    SpeculativeBackend,
    TokenAutomaton,
    UnsupportedSchemaError,
    Vocabulary,
    aextract,
    call,
    choose,
    extract,
    extract_many,
    extract_samples,
    extract_stream,
    fill_masks,
    load_model,
)

# -- grammars --------------------------------------------------------------------------------------

digits = Grammar.from_regex("[0-9]+", limits=Limits(max_work=1_000))
assert_type(digits, Grammar)
assert_type(Grammar.from_choices(["yes", "no"]), Grammar)
assert_type(Grammar.from_gbnf('root ::= "a"'), Grammar)
assert_type(Grammar.from_lark('start: "a"', rules={"b": digits}), Grammar)
assert_type(Grammar.from_json_schema({"type": "integer"}), Grammar)
assert_type(Grammar.from_json_schema(True), Grammar)
assert_type(Grammar.from_type(list[int]), Grammar)
assert_type(Grammar.from_library("sql"), Grammar)
assert_type(Grammar.from_file(Path("a.gbnf")), Grammar)
assert_type(Grammar.free_text([("#", digits)]), Grammar)
assert_type(Grammar.substring_of("a b", unit="words"), Grammar)
assert_type(digits + digits, Grammar)
assert_type(digits | digits.optional(), Grammar)
assert_type(digits.repeat(1, 3, separator=","), Grammar)
assert_type(digits.accepts("1"), bool)
assert_type(digits.explain(b"1"), Explanation)
assert_type(digits.explain("1").accepted, bool)
assert_type(digits.sample(1), bytes)
assert_type(digits.is_empty, bool)

Grammar.from_regex(1)  # type: ignore[arg-type]
Grammar.from_json_schema({}, whitespace=True)  # type: ignore[arg-type]
Grammar.from_gbnf("", limit=1)  # type: ignore[call-arg]
digits.unknown  # type: ignore[attr-defined]  # noqa: B018

# -- automata --------------------------------------------------------------------------------------

vocabulary = Vocabulary.from_tokens([b"1", b"2", None], 2)
assert_type(vocabulary, Vocabulary)
assert_type(vocabulary.size, int)
assert_type(vocabulary.token_bytes(0), bytes | None)
automaton = TokenAutomaton(digits, vocabulary)
assert_type(automaton.start, int)
assert_type(automaton.advance(automaton.start, 0), int)
assert_type(automaton.advance_bytes(automaton.start, b"1"), int)
assert_type(automaton.is_accepting(automaton.start), bool)
assert_type(automaton.forced_bytes(automaton.start), bytes)
assert_type(automaton.forced_tokens(automaton.start), list[int])
assert_type(automaton.min_tokens_to_accept(automaton.start), int)
row = np.zeros(1, np.int32)
automaton.fill_mask(automaton.start, row)
fill_masks([(automaton, automaton.start)], row[None])

TokenAutomaton("[0-9]+", vocabulary)  # type: ignore[arg-type]
automaton.advance("start", 0)  # type: ignore[arg-type]

# -- models ----------------------------------------------------------------------------------------


def read(texts: list[str]) -> list[Extraction]:
    model, tokenizer = load_model()
    found = extract(model, tokenizer, texts[0], list[int], grounded=True, max_new_tokens=9)
    assert_type(found, Extraction)
    assert_type(found.text, str)
    assert_type(found.tokens, list[int])
    assert_type(found.complete, bool)
    assert_type(found.value, Any)
    many = extract_many(model, tokenizer, texts, {"type": "integer"}, on_error="return")
    assert_type(many, list[Extraction])
    extract_many(model, tokenizer, texts, bool, on_error="ignore")  # type: ignore[arg-type]
    assert_type(found.sources, dict[str, tuple[int, int]])
    assert_type(found.confidence, dict[str, float])
    assert_type(dict(choose(model, tokenizer, "Is it?", ["yes", "no"])), dict[str, float])
    assert_type(extract_samples(model, tokenizer, "1", bool, 3)[0].weight, float)
    calls = call(model, tokenizer, "Is it 1?", [read])
    assert_type([(one.name, one.arguments) for one in calls], list[tuple[str, dict[str, Any]]])
    for value in extract_stream(model, tokenizer, "1", bool):
        assert_type(value, Any)
    return many


async def wait() -> Extraction:
    return await aextract("a-model", None, "1", bool, max_new_tokens=4)


def draw(backend: SpeculativeBackend) -> list[Sample]:
    samples = GrammarConstrained(backend, automaton).sample("1", n=2, max_new_tokens=4, seed=1)
    assert_type(samples, list[Sample])
    assert_type(samples[0].logprob, float)
    assert_type(samples[0].token_ids, list[int])
    aligned = AlignedSampling(backend, automaton).sample([1, 2], max_new_tokens=4)
    assert_type(aligned, list[Sample])
    GrammarConstrained(backend, automaton).sample("1", n="2", max_new_tokens=4)  # type: ignore[arg-type]
    return samples


# -- errors ----------------------------------------------------------------------------------------


def errors(error: LimitExceeded | UnsupportedSchemaError | BudgetError) -> None:
    root: GrammaError = error
    named: GrammarError | BudgetError = error
    print(root, named)
    if isinstance(error, LimitExceeded):
        assert_type(error.line, int | None)
        assert_type(error.pointer, str | None)
