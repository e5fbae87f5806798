"""The benchmark of extraction: its documents, how it reads and compares values, what its engines are."""

from __future__ import annotations

import copy
import json
import sys
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_extraction import CHAT
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import extraction as benchmark
import extraction_spellings as spellings
from extraction_blocks import blocks_grammar
from extraction_documents import KINDS, Document, chosen, documents, leaves
from extraction_prompts import DEFAULT_PROMPT, PROMPTS
from extraction_scoring import invented, read_leniently, score

from grammars import Grammar, GrammarError

ALL = documents()
EXAMPLE = (Path(__file__).parent.parent / "examples/invoice.txt").read_text()


# -- documents -------------------------------------------------------------------------------------


def test_sixty_documents_half_of_each_kind_to_tune_on() -> None:
    for kind in KINDS:
        of_kind = [d for d in ALL if d.kind == kind]
        assert len(of_kind) == 20
        assert len({d.text for d in of_kind}) == 20
        assert sum(d.split == "tune" for d in of_kind) == 10
    assert len(ALL) == 60
    assert [d.kind for d in chosen("tune")[:3]] == list(KINDS)
    assert not {d.name for d in chosen("tune")} & {d.name for d in chosen("held-out")}


def test_documents_are_the_same_every_time() -> None:
    kinds = copy.copy(documents.__wrapped__())
    assert kinds == ALL


@pytest.mark.parametrize("document", ALL, ids=lambda d: d.name)
def test_truth_is_of_the_schema_and_of_the_text(document: Document) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(document.schema, format_checker=checker).validate(
        document.truth
    )
    assert list(invented(document, document.truth)) == []
    assert score(document, document.truth).wrong == 0
    for pointer, value in leaves(document.truth):
        if isinstance(value, str) and pointer in document.verbatim:
            assert value in document.text


@pytest.mark.parametrize("document", ALL, ids=lambda d: d.name)
def test_grounded_grammars_have_the_truth(document: Document) -> None:
    grammar = Grammar.from_json_schema(document.schema, source=document.text, grounded=True)
    as_written = json.dumps(_without_zeros(document.truth), ensure_ascii=False)
    assert grammar.accepts(as_written)


@pytest.mark.slow
@pytest.mark.parametrize("document", chosen("tune")[4:7], ids=lambda d: d.name)
def test_blocks_have_the_truth(document: Document) -> None:
    grammar = blocks_grammar(document.schema, document.text)
    assert grammar.accepts(json.dumps(_without_zeros(document.truth), ensure_ascii=False))


def test_items_come_from_blocks_in_their_order() -> None:
    item = {
        "type": "object",
        "properties": {"what": {"type": "string", "minLength": 1}, "sum": {"type": "integer"}},
        "required": ["what", "sum"],
        "additionalProperties": False,
    }
    things = {"type": "array", "minItems": 1, "items": item}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "things": things}}
    grammar = blocks_grammar(schema, "no. 7\ntea 3\ncup 4\npot\n5")

    def holds(*pairs: tuple[str, int]) -> bool:
        listed = [{"what": what, "sum": amount} for what, amount in pairs]
        return grammar.accepts(json.dumps({"n": 7, "things": listed}))

    assert holds(("tea", 3), ("cup", 4), ("pot", 5))
    assert holds(("tea", 4), ("pot", 5))  # tea's block may reach to the next line
    assert holds(("cup", 4))
    assert not holds(("cup", 4), ("tea", 3))  # not in order
    assert not holds(("tea", 3), ("tea", 3))  # the same place twice
    assert not holds(("tea", 4), ("cup", 4))
    assert not holds()
    with pytest.raises(GrammarError, match="no block"):
        blocks_grammar(schema, "nothing here")


def _without_zeros(value: Any) -> Any:
    """Whole numbers as integers, as the shortest notation has them."""
    if isinstance(value, dict):
        return {key: _without_zeros(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_zeros(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_every_invoice_adds_up() -> None:
    for truth in (d.truth for d in ALL if d.kind == "invoice"):
        net = sum(Decimal(str(line["amount"])) for line in truth["lines"])
        assert net + Decimal(str(truth["tax"])) == Decimal(str(truth["total"]))
        for line in truth["lines"]:
            amount = line["quantity"] * Decimal(str(line["unit_price"]))
            assert amount == Decimal(str(line["amount"]))


def test_documents_vary() -> None:
    """Spellings, languages of labels, currencies, counts: each at least twice in both halves."""
    texts = {split: [d for d in ALL if d.split == split] for split in ("tune", "held-out")}
    for found in texts.values():
        invoices = [d for d in found if d.kind == "invoice"]
        assert len({len(d.truth["lines"]) for d in invoices}) >= 4
        assert len({d.truth["currency"] for d in invoices}) >= 3
        assert sum("Facture" in d.text or "Rechnung" in d.text for d in invoices) >= 1
        assert len({d.truth["kind"] for d in found if d.kind == "notice"}) >= 3
        assert sum(len(d.verbatim) < len(list(leaves(d.truth))) for d in found) >= 20


def test_the_example_is_none_of_them() -> None:
    example = {line.strip() for line in EXAMPLE.splitlines() if line.strip()}
    for document in ALL:
        assert not example & {line.strip() for line in document.text.splitlines()}


# -- spellings -------------------------------------------------------------------------------------

DAYS = st.dates(date(1990, 1, 1), date(2040, 1, 1))


@given(st.integers(0, 10**8), st.sampled_from(sorted(spellings.NUMBER_STYLES)))
def test_numbers_are_read_back(cents: int, style: str) -> None:
    value = Decimal(cents) / 100
    assert value in spellings.numbers_in(f"for {spellings.spell_number(value, style)} EUR.")
    assert cents in spellings.numbers_in(f"for {spellings.spell_number(cents, style)} EUR.")


@given(DAYS, st.sampled_from(spellings.DATE_STYLES), st.sampled_from(sorted(spellings.MONTHS)))
def test_dates_are_read_back(day: date, style: str, language: str) -> None:
    found = spellings.dates_in(f"on {spellings.spell_date(day, style, language)}, late")
    assert day.isoformat() in found
    assert len(found) <= 2


@given(st.integers(0, 24 * 60 - 1), st.sampled_from(spellings.TIME_STYLES))
def test_times_are_read_back(minutes: int, style: str) -> None:
    spelled = spellings.spell_time(minutes, style)
    assert spellings.times_in(f"at {spelled} sharp") == {f"{minutes // 60:02}:{minutes % 60:02}"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1.240", {"1", "240", "1.24", "1240"}),
        ("1,240.50", {"1", "240", "50", "240.50", "1240.50", "1.24", "1240"}),
        ("no. 17b", {"17"}),
        ("in 2025", {"2025"}),
        ("none", set()),
    ],
)
def test_readings_of_numbers(text: str, values: set[str]) -> None:
    assert spellings.numbers_in(text) == {Decimal(value) for value in values}


# -- scores ----------------------------------------------------------------------------------------

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "who": {"type": "string"},
        "kind": {"enum": ["lunch", "tea"]},
        "when": {"type": "string", "format": "date"},
        "sums": {"type": "array", "items": {"type": "number"}},
        "paid": {"type": "boolean"},
    },
}
SMALL = Document(
    "small",
    "note",
    "tune",
    "Ada  Byron had tea for 1,240.50 and 3 on 4 May 2025.",
    SCHEMA,
    {"who": "Ada Byron", "kind": "tea", "when": "2025-05-04", "sums": [1240.5, 3], "paid": True},
)


@pytest.mark.parametrize(
    ("change", "wrong_at", "invented_at"),
    [
        ({}, [], []),
        ({"who": "Ada\n Byron"}, [], []),
        ({"who": "Ada"}, ["/who"], []),
        ({"who": "ada byron"}, ["/who"], ["/who"]),
        ({"kind": "lunch"}, ["/kind"], []),
        ({"when": "2025-05-03"}, ["/when"], ["/when"]),
        ({"sums": [1240.5, 3.0]}, [], []),
        ({"sums": [3, 1240.5]}, ["/sums/0", "/sums/1"], []),
        ({"sums": [1240.5, 3, 4]}, ["/sums/2"], []),
        ({"sums": [1240.5, 7, 8]}, ["/sums/1", "/sums/2"], ["/sums/1", "/sums/2"]),
        ({"sums": []}, ["/sums/0", "/sums/1"], []),
        ({"paid": 7}, ["/paid"], ["/paid"]),
        ({"paid": None}, ["/paid"], []),
        ({"more": {"a/b": "tea"}}, ["/more/a~1b"], []),
    ],
)
def test_what_is_wrong_and_what_is_invented(
    change: dict[str, Any], wrong_at: list[str], invented_at: list[str]
) -> None:
    found = score(SMALL, SMALL.truth | change)
    assert list(found.wrong_at) == wrong_at
    assert list(found.invented_at) == invented_at
    assert found.wrong == len(wrong_at)
    assert found.fields == 6


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"who": "Ada"}', {"who": "Ada"}),
        ('Here it is:\n```json\n{"who": "Ada",}\n```\nDone.', {"who": "Ada"}),
        (
            '{"sums": ["1,240.50", "€ 3", "x"], "paid": "yes"}',
            {"sums": [1240.5, 3.0, "x"], "paid": True},
        ),
        ('{"who": "Ada", "sums": [1, 2', {"who": "Ada", "sums": [1, 2]}),
        ('{"who": "Ada", "kind": "te', {"who": "Ada", "kind": "te"}),
        ('{"who": "Ada", "kind": ', {"who": "Ada"}),
        ('{"who": "A\nB"}', {"who": "A\nB"}),
        ('{"who": "a}b,{", "sums": [{"a": 1}, {"b"', {"who": "a}b,{", "sums": [{"a": 1}, {}]}),
        ("no object", None),
        ("{", {}),
    ],
)
def test_answers_are_read_leniently(text: str, value: Any) -> None:
    assert read_leniently(text, SCHEMA) == value


# -- engines ---------------------------------------------------------------------------------------


@cache
def asked() -> benchmark.Asked:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(CHAT),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        pad_token_id=CHAT.pad_token_id,
        eos_token_id=CHAT.eos_token_id,
    )
    return benchmark.Asked(LlamaForCausalLM(config).eval(), CHAT, DEFAULT_PROMPT, 200)


def test_grounded_values_are_never_invented() -> None:
    for document in chosen("tune", {"notice": KINDS["notice"]})[:2]:
        record = benchmark.measured("grounded", DEFAULT_PROMPT, asked(), document)
        assert record.error == ""
        assert record.score.invented == 0
        assert record.score.fields == 8
        assert set(record.answer.value) == set(document.truth)


def test_unconstrained_nonsense_is_all_wrong_and_asked_for_again() -> None:
    document = chosen("tune")[2]
    plain = benchmark.measured("plain", DEFAULT_PROMPT, asked(), document)
    assert (plain.score.right, plain.answer.tries) == (0, 1)
    again = benchmark.measured("retry", DEFAULT_PROMPT, asked(), document)
    assert again.answer.tries == 1 + benchmark.RETRIES
    assert again.answer.tokens > plain.answer.tokens


def test_an_answer_that_holds_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    document = chosen("tune")[2]
    answer = CHAT(json.dumps(document.truth))["input_ids"]
    monkeypatch.setattr(asked(), "write", lambda messages, processors=(): answer)
    found = benchmark.measured("retry", DEFAULT_PROMPT, asked(), document)
    assert (found.score.wrong, found.answer.tries) == (0, 1)


def test_a_failed_engine_has_everything_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(asked: Any, document: Any) -> Any:
        raise ValueError("no index")

    monkeypatch.setitem(benchmark.ENGINES, "outlines", fails)
    record = benchmark.measured("outlines", DEFAULT_PROMPT, asked(), chosen("tune")[0])
    assert record.error == "ValueError: no index"
    assert record.score.wrong == record.score.fields


def test_tables_add_up(tmp_path: Path) -> None:
    wanted = chosen("tune")[2:3]
    records = list(benchmark.run(asked(), ["grounded"], DEFAULT_PROMPT, wanted, show=True))
    written = tmp_path / "records.json"
    benchmark.write_records(written, records)
    assert benchmark.read_records([written]) == records
    (row,) = benchmark.summary(records)
    assert (row["documents"], row["fields"], row["failed"]) == (1, 8, 0)
    assert row["wrong"] == records[0].score.wrong


def test_outlines_index_as_logits_processor() -> None:
    pytest.importorskip("outlines_core")
    record = benchmark.measured("outlines", DEFAULT_PROMPT, asked(), chosen("tune")[2])
    assert record.error == ""


def test_prompts_show_text_and_fields() -> None:
    document = chosen("tune")[1]
    for prompt in PROMPTS.values():
        shown = prompt(document.text, json.dumps(document.schema), document.schema)
        last = shown[-1]["content"]
        assert document.truth["subject"] in last
        assert "reply_by" in last
