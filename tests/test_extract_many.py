"""Many texts at once: the same as one after the other, in their order."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Literal

import pytest
import torch
from pydantic import BaseModel, ValidationError, field_validator
from test_extraction import CHAT, CONTEXT, SCHEMA, TEXT, TOKENIZER, counted, model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

from constrain import BudgetError, Extraction, extract, extract_many, fill_masks
from constrain.huggingface.prefix import SharedPrefix
from grammars import Grammar, GrammarError, LimitExceeded

TEXTS = [TEXT, "Tea.", "A longer text about coffee, which is not paid for.", "", "é", "x" * 60]
WANTED = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}, "b": {}}}


def short(text: str, schema: str) -> str:
    return f"{text} ->"


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
@pytest.mark.parametrize("wanted", [SCHEMA, WANTED, list[bool]], ids=["closed", "open", "type"])
def test_it_is_extract_for_each(wanted: Any, batch_size: int) -> None:
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 40}
    alone = [extract(model(), TOKENIZER, text, wanted, **options) for text in TEXTS]
    many = extract_many(model(), TOKENIZER, TEXTS, wanted, batch_size=batch_size, **options)
    assert many == alone
    for a, b in zip(many, alone, strict=True):
        assert a.confidence == pytest.approx(b.confidence, rel=1e-3)
    assert all(one.complete for one in many)


def test_rows_share_forwards() -> None:
    with counted() as forwards:
        extract_many(model(), TOKENIZER, TEXTS[:4], SCHEMA, prompt=short, max_new_tokens=40)
    together = len(forwards)
    with counted() as forwards:
        for text in TEXTS[:4]:
            extract(model(), TOKENIZER, text, SCHEMA, prompt=short, max_new_tokens=40)
    assert together <= len(forwards) / 2


def test_budgets_that_the_context_sets() -> None:
    """Where the context leaves less than the default, each text has what it has alone."""
    texts = ["a" * (CONTEXT - room) for room in (60, 40, 60, 50)]
    options: dict[str, Any] = {"prompt": short}
    wanted = {"type": "string"}
    alone = [extract(model(), TOKENIZER, text, wanted, **options) for text in texts]
    assert extract_many(model(), TOKENIZER, texts, wanted, **options) == alone


def test_a_text_too_long_is_named() -> None:
    texts = ["a", "b" * CONTEXT, "c"]
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 30}
    with counted() as forwards, pytest.raises(BudgetError, match=r"^texts\[1\]: .*context") as told:
        extract_many(model(), TOKENIZER, texts, SCHEMA, **options)
    assert forwards == []
    assert told.value.available == CONTEXT
    found = extract_many(model(), TOKENIZER, texts, SCHEMA, on_error="return", **options)
    assert [one.complete for one in found] == [True, False, True]
    assert isinstance(found[1].error, BudgetError)
    assert found[0].error is None
    assert found[1].value is None


def test_a_text_without_what_is_asked_for_is_named() -> None:
    class Fare(BaseModel):
        price: float

    texts = ["It costs 3.", "It is free."]
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 30, "grounded": True}
    with pytest.raises(GrammarError, match=r"^texts\[1\]: .*field 'price'") as told:
        extract_many(model(), TOKENIZER, texts, Fare, **options)
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)
    found = extract_many(model(), TOKENIZER, texts, Fare, on_error="return", **options)
    assert [one.complete for one in found] == [True, False]
    assert "texts[" not in str(found[1].error)


@pytest.mark.filterwarnings("ignore:row 1 ends here")
def test_a_limit_ends_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask of the second of three rows needs too much, at its third token."""
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 40}
    texts = ["Tea.", "Milk.", "Coffee."]
    alone = extract_many(model(), TOKENIZER, texts, SCHEMA, **options)
    calls = 0

    def filled(pairs: Any, table: Any, left: Any) -> None:
        nonlocal calls
        calls += 1
        fill_masks(pairs, table, left)
        if calls == 3:
            table[1] = 0
            error = LimitExceeded("max_items", 3, "this text")
            error.rows = {1: error}
            raise error

    monkeypatch.setattr("constrain.huggingface.processor.fill_masks", filled)
    found = extract_many(model(), TOKENIZER, texts, SCHEMA, on_error="return", **options)
    assert (found[0], found[2]) == (alone[0], alone[2])
    assert isinstance(found[1].error, LimitExceeded)
    assert (found[1].value, found[1].complete) == (None, False)
    calls = 0
    with pytest.raises(LimitExceeded, match=r"texts\[1\]: .*max_items"):
        extract_many(model(), TOKENIZER, texts, SCHEMA, **options)


@pytest.mark.filterwarnings("ignore:a grammar cannot keep")
def test_what_a_validator_refuses() -> None:
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 30}
    plain = extract_many(model(), TOKENIZER, TEXTS, Literal["tea", "coffee"], **options)
    usual = max(("tea", "coffee"), key=[one.value for one in plain].count)
    wanted = _refuses(usual)
    with pytest.raises(ValidationError, match="not this one") as told:
        extract_many(model(), TOKENIZER, TEXTS, wanted, **options)
    assert told.value.__notes__[0].startswith("in texts[")
    found = extract_many(model(), TOKENIZER, TEXTS, wanted, on_error="return", **options)
    refused = [one for one in found if one.error is not None]
    assert refused
    for one in refused:
        assert isinstance(one.error, ValidationError)
        assert usual in one.text
        assert (one.value, one.complete) == (None, False)
    torch.manual_seed(0)
    again = extract_many(model(), TOKENIZER, TEXTS, wanted, retries=20, **options)
    assert {one.value.kind for one in again} == {"tea", "coffee"} - {usual}


def _refuses(value: str) -> Any:
    class Refusing(BaseModel):
        kind: Literal["tea", "coffee"]

        @field_validator("kind")
        @classmethod
        def refuse(cls, given: str) -> str:
            if given == value:
                raise ValueError("not this one")
            return given

    return Refusing


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"prompt": short, "max_new_tokens": 30, "batch_size": 4}
    extract_many(model(), TOKENIZER, TEXTS, SCHEMA, progress=lambda *at: told.append(at), **options)
    assert told == [(0, 6), (4, 6), (6, 6)]
    extract_many(model(), TOKENIZER, TEXTS, SCHEMA, progress=True, **options)
    assert "6/6" in capsys.readouterr().err
    with pytest.raises(TypeError, match="progress is True, False or a function"):
        extract_many(model(), TOKENIZER, TEXTS, SCHEMA, progress=3, **options)  # type: ignore[arg-type]


def test_messages_and_a_generate_of_ones_own() -> None:
    messages = [{"role": "user", "content": "Paid?"}]
    found = extract_many(model(), CHAT, [messages, "Tea."], SCHEMA, max_new_tokens=40)
    assert found[0] == extract(model(), CHAT, messages, SCHEMA, max_new_tokens=40)
    grammar = Grammar.from_choices(["[1]"])
    end = TOKENIZER.eos_token_id

    def write(*_: Any, **__: Any) -> list[int]:
        return [*TOKENIZER("[1]")["input_ids"], end]

    found = extract_many(model(), TOKENIZER, ["a", "b"], grammar, generate=write)
    assert [one.value for one in found] == [[1], [1]]
    assert extract_many(model(), TOKENIZER, [], SCHEMA) == []


@pytest.mark.parametrize(
    ("texts", "options", "kind", "message"),
    [
        ("one text", {}, TypeError, "extract_many reads a list of texts, not the text"),
        ([{"role": "user", "content": "a"}], {}, TypeError, "the messages of one chat"),
        (["a", 3], {}, TypeError, r"texts\[1\] is a text or chat messages, not 3"),
        (["a"], {"batch_size": 0}, ValueError, "batch_size=0"),
        (["a"], {"on_error": "skip"}, ValueError, "must be 'raise' or 'return'"),
        (["a"], {"num_return_sequences": 2}, ValueError, "num_return_sequences"),
        (["a"], {"retries": -1}, ValueError, "retries=-1"),
        (["a"], {"streamer": print}, ValueError, "a streamer hears of one text"),
    ],
    ids=str,
)
def test_wrong_arguments(
    texts: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        extract_many(model(), TOKENIZER, texts, SCHEMA, **options)


def test_an_extraction_without_more_is_as_before() -> None:
    assert Extraction([1], "[1]", [3], True) == Extraction(
        [1], "[1]", [3], True, b"", "", 1.0, None
    )


# --- what prompts share ---------------------------------------------------------------------------


def long(text: str, schema: str) -> str:
    return "Read this, and say what it is about; be brief, please. " + text


@pytest.mark.parametrize("options", [{}, {"reasoning": 12}, {"heal": True}], ids=str)
@pytest.mark.parametrize("batch_size", [2, 8])
def test_what_all_prompts_begin_with_is_read_once(options: dict[str, Any], batch_size: int) -> None:
    options = {"prompt": long, "max_new_tokens": 40} | options
    alone = [extract(model(), TOKENIZER, text, WANTED, **options) for text in TEXTS]
    with counted() as forwards:
        many = extract_many(model(), TOKENIZER, TEXTS, WANTED, batch_size=batch_size, **options)
    assert many == alone
    for a, b in zip(many, alone, strict=True):
        assert a.confidence == pytest.approx(b.confidence, rel=1e-3)
    shared = len(TOKENIZER(long("", ""))["input_ids"])
    longest = max(len(TOKENIZER(long(text, ""))["input_ids"]) for text in TEXTS)
    thought = 12 + len("<think>\n\n\n") if "reasoning" in options else 0
    assert max(forwards[1:]) <= longest - shared + thought + 2
    assert forwards[0] in range(shared - 2, shared + 1)


def test_shared_tokens() -> None:
    prompts = [[1] * 40 + [2, 3], [1] * 40 + [2], [1] * 50]
    shared = SharedPrefix.of(model(), prompts, {"temperature": 1.0})
    assert shared is not None
    assert shared.ids == [1] * 40
    assert shared.rows(3).get_seq_length() == shared.cache.get_seq_length() == 40
    same = SharedPrefix.of(model(), [[1] * 40] * 2, {})
    assert same is not None
    assert len(same.ids) == 39, "one token of each is left to be read"


@pytest.mark.parametrize(
    ("prompts", "generation"),
    [
        ([[1] * 40], {}),
        ([[1] * 40, [2] * 40], {}),
        ([[1] * 40, [1] * 20], {}),
        ([[1] * 40] * 2, {"num_beams": 2}),
        ([[1] * 40] * 2, {"use_cache": False}),
    ],
    ids=["one", "nothing", "little", "beams", "no cache"],
)
def test_where_nothing_is_shared(prompts: Any, generation: dict[str, Any]) -> None:
    with counted() as forwards:
        assert SharedPrefix.of(model(), prompts, generation) is None
    assert forwards == []


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_change_with_the_length_share_nothing(kind: str) -> None:
    stretched = copy.copy(model())
    stretched.config = copy.deepcopy(model().config)
    stretched.config.rope_parameters = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}
    assert SharedPrefix.of(stretched, [[1] * 40 + [2], [1] * 41], {}) is None


def test_windows_share_nothing() -> None:
    """Padding behind the prefix would stand in the window of what follows."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=CONTEXT,
        sliding_window=24, bos_token_id=None, eos_token_id=TOKENIZER.eos_token_id,
        pad_token_id=TOKENIZER.pad_token_id,
    )  # fmt: skip
    windowed = MistralForCausalLM(config).eval()
    assert SharedPrefix.of(windowed, [[1] * 40 + [2], [1] * 41], {}) is None
    options: dict[str, Any] = {"prompt": long, "max_new_tokens": 40}
    found = extract_many(windowed, TOKENIZER, TEXTS[:3], SCHEMA, **options)
    assert found == [extract(windowed, TOKENIZER, text, SCHEMA, **options) for text in TEXTS[:3]]


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"temperature": 0.0}], ids=str)
def test_other_ways_of_writing(options: dict[str, Any]) -> None:
    options = {"prompt": long, "max_new_tokens": 40} | options
    alone = [extract(model(), TOKENIZER, text, SCHEMA, **options) for text in TEXTS[:3]]
    assert extract_many(model(), TOKENIZER, TEXTS[:3], SCHEMA, **options) == alone


ENDS = TOKENIZER.eos_token_id


def gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=320,
            bos_token_id=None,
            eos_token_id=ENDS,
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=CONTEXT,
        )
    )


def gemma2() -> Any:
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=320, bos_token_id=None, eos_token_id=ENDS, hidden_size=32,
            intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=16,
            max_position_embeddings=CONTEXT, sliding_window=24,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("make", "shares"), [(gpt2, True), (gemma2, False)])
def test_other_architectures(make: Any, shares: bool) -> None:
    """Learned positions, which padding must not shift; windows in every other layer."""
    torch.manual_seed(0)
    made = make().eval()
    prompts = [TOKENIZER(long(text, ""))["input_ids"] for text in TEXTS]
    assert (SharedPrefix.of(made, prompts, {}) is not None) == shares
    options: dict[str, Any] = {"prompt": long, "max_new_tokens": 40}
    alone = [extract(made, TOKENIZER, text, SCHEMA, **options) for text in TEXTS]
    assert extract_many(made, TOKENIZER, TEXTS, SCHEMA, **options) == alone
