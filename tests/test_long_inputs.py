"""The benchmark of long inputs: its documents, its methods and its records."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from test_extraction import CHAT
from transformers import LlamaConfig, LlamaForCausalLM

from constrain import GemFilter, SpecKV, SpecPC

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import long_inputs as benchmark
from extraction_documents import KINDS, chosen


def words(text: str) -> int:
    return len(text.split())


@cache
def found(split: str) -> list[benchmark.LongDocument]:
    return list(benchmark.long_documents(split, 800, words))


@pytest.mark.parametrize("split", ["tune", "held-out"])
def test_one_paper_is_what_the_schema_asks_for(split: str) -> None:
    papers = chosen(split)
    assert len(found(split)) == len(papers)
    for long, paper in zip(found(split), papers, strict=True):
        assert long.alone == paper.text.strip()
        assert long.document.truth == paper.truth
        assert long.document.text.count(long.alone) == 1
        assert 700 < words(long.document.text) < 1200
        assert long.kept([(0, len(long.document.text))]) == 1
        assert long.kept([(0, long.paper[0])]) == 0
        assert long.kept([(0, sum(long.paper) // 2)]) == pytest.approx(0.5, abs=0.01)
    assert found(split) == list(benchmark.long_documents(split, 800, words))


def test_papers_of_one_split_are_in_no_document_of_the_other() -> None:
    def papers(split: str) -> set[str]:
        return {text for one in found(split) for text in one.document.text.split(benchmark.RULE)}

    shared = papers("tune") & papers("held-out")
    assert len(papers("tune")) > 200
    assert not shared


def test_places_differ() -> None:
    places = [long.paper[0] / len(long.document.text) for long in found("tune")]
    assert min(places) < 0.2
    assert max(places) > 0.6


@pytest.mark.parametrize(
    ("method", "made"),
    [
        ("full", None),
        ("alone", None),
        ("gem:512", GemFilter(512)),
        ("gem:512,unit=tokens,layer=3", GemFilter(512, layer=3, unit="tokens")),
        ("spec:64,layers=2,pool=avg", SpecPC(64, layers=2, pool="avg")),
        ("speckv:64,lookahead=2,pool=avg", SpecKV(64, lookahead=2, pool="avg")),
        ("first:9", benchmark.First(9)),
        ("last:9", benchmark.Last(9)),
        ("random:9", benchmark.RandomLines(9)),
    ],
)
def test_methods(method: str, made: object) -> None:
    assert benchmark.filter_of(method) == made


@cache
def run() -> benchmark.Run:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(CHAT),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        pad_token_id=CHAT.pad_token_id,
        eos_token_id=CHAT.eos_token_id,
    )
    return benchmark.Run(LlamaForCausalLM(config).eval(), CHAT, 200)


def small() -> benchmark.LongDocument:
    return next(
        long
        for long in benchmark.long_documents("tune", 900, run().tokens)
        if long.document.kind == "notice"
    )


@pytest.mark.parametrize(
    "method",
    ["full", "alone", "gem:300", "spec:300", "speckv:300,lookahead=2", "last:300", "random:300"],
)
def test_a_document_by_each_method(method: str) -> None:
    record = run().extract(small(), method)
    assert (record.fields, record.invented) == (8, 0)
    assert record.seconds >= record.choosing + record.prefill > 0
    if method in ("full", "alone"):
        assert record.read == record.length
        assert record.paper == 1
    else:
        assert 0 < record.read <= 300 < record.length
        again = run().recall(small(), method)
        assert (again.read, again.paper) == (record.read, record.paper)


@pytest.mark.parametrize(
    ("method", "rest"), [("full", None), ("speckv:300,lookahead=2", 300), ("last:300", 300)]
)
def test_caches(method: str, rest: int | None) -> None:
    found = run().cache(small(), method, 5)
    length = run().recall(small(), "last:300").length
    dropped = 0 if rest is None else length - rest
    assert found["kept"] == found["prompt"] - 1 - dropped
    each = run().model.config.num_hidden_layers * 2 * 8 * 4
    assert found["keys and values, MB"] == pytest.approx(found["kept"] * each / 1e6, abs=0.06)


def test_layers_are_those_of_the_filters() -> None:
    found = run().layers(small(), 300)
    for layer in range(2):
        assert found["gem"][layer] == run().recall(small(), f"gem:300,layer={layer}").paper
        assert found["ask"][layer] == run().recall(small(), f"ask:300,layer={layer}").paper


def test_tables_and_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    path = tmp_path / "records.jsonl"
    options = f"--limit 2 --length 600 --methods first:50 --json {path}".split()
    monkeypatch.setattr(sys, "argv", ["long_inputs.py", *options])
    load: Callable[..., object] = lambda dtype: (run().model, CHAT)  # noqa: E731
    monkeypatch.setattr(benchmark, "load_model", load)
    benchmark.main()
    first = capsys.readouterr().out
    assert "| first:50 | 2 |" in first
    assert len(benchmark.known_records(path)) == 2
    monkeypatch.setattr(benchmark.Run, "recall", None)  # all is known: nothing runs
    benchmark.main()
    assert capsys.readouterr().out == first


def test_kinds_of_papers_do_not_mix() -> None:
    """No paper beside the one is of its kind: an invoice's schema asks for one invoice."""
    invoice = found("tune")[0]
    assert invoice.document.kind == next(iter(KINDS))
    others = [text for text in invoice.document.text.split(benchmark.RULE) if text != invoice.alone]
    assert others
    assert not any("nvoice" in text and "Total" in text for text in others)
