"""Confidences: by hand, and against the laws of full forwards under the automaton's masks."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_extraction import EOS, TOKENIZER, model
from test_json_places import values

import constrain
import samplers
from constrain import Extraction, GrammarLogitsProcessor, TokenAutomaton
from constrain.confidence import byte_offsets, confidences
from constrain.huggingface.automata import automaton_for
from constrain.huggingface.recording import Recorder, ScoredTokens
from grammars import Grammar
from grammars.json_places import places


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- which tokens count ---------------------------------------------------------------------------


def of_pieces(*pieces: tuple[str | bytes, float], skip: int = 0) -> dict[str, float]:
    """Confidences of a text given as tokens and their probabilities."""
    texts = [p.encode() if isinstance(p, str) else p for p, _ in pieces]
    text = b"".join(texts)[skip:].decode()
    return confidences(text, texts, [math.log(p) for _, p in pieces], skip=skip)


def test_tokens_with_a_byte_of_the_value_count() -> None:
    found = of_pieces(('{"a"', 0.9), (": ", 0.8), ("1", 0.7), ("2", 0.6), (', "b', 0.5), ('": "x', 0.4),
                      ("y", 0.3), ('"}', 0.2), ("", 0.1))  # fmt: skip
    assert found == pytest.approx({"/a": 0.7 * 0.6, "/b": 0.4 * 0.3 * 0.2})


def test_a_token_of_two_values_counts_for_both() -> None:
    found = of_pieces(("[1", 0.9), ("2,3", 0.5), ("4", 0.8), ("]", 0.7), ("", 0.1))
    assert found == pytest.approx({"": 0.9 * 0.5 * 0.7, "/0": 0.45, "/1": 0.4})


def test_scalars_and_empty_values_have_a_confidence() -> None:
    found = of_pieces(('{"a": ', 0.9), ("[", 0.8), (" ]", 0.7), (', "b": [{}', 0.6), ("], ", 0.5),
                      ('"c": null', 0.4), ("}", 0.3), ("", 0.2))  # fmt: skip
    assert found == pytest.approx({"/a": 0.56, "/b": 0.3, "/b/0": 0.6, "/c": 0.4})
    assert of_pieces(("true", 0.5), ("", 0.1)) == pytest.approx({"": 0.5})


def test_characters_of_several_bytes() -> None:
    euro = "€".encode()
    found = of_pieces(('["', 0.9), (euro[:1], 0.8), (euro[1:] + b"1", 0.7), ('","é', 0.6), ('"', 0.5),
                      ("]", 0.4))  # fmt: skip
    alone = {"/0": 0.9 * 0.8 * 0.7 * 0.6, "/1": 0.6 * 0.5}
    assert found == pytest.approx({"": 0.9 * 0.6 * 0.4, **alone})


def test_what_was_taken_back_from_the_prompt() -> None:
    found = of_pieces(("ab", 0.9), ("c[", 0.8), ("1", 0.7), ("]", 0.6), skip=3)
    assert found == pytest.approx({"": 0.48, "/0": 0.7})
    found = of_pieces(("ab", 0.9), ("c1", 0.8), ("2", 0.7), ("", 0.6), skip=3)
    assert found == pytest.approx({"": 0.56})


def test_texts_that_are_no_json_are_one_value() -> None:
    assert of_pieces(("y", 0.9), ("es", 0.8), ("", 0.5)) == pytest.approx({"": 0.36})


def test_without_log_probabilities() -> None:
    assert confidences("[1]", [b"[1]", b""], []) == {}
    with pytest.raises(ValueError, match="2 tokens, but 1"):
        confidences("[1]", [b"[1]", b""], [0.0])


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(value=values, data=st.data())
def test_against_the_definition(value: Any, data: st.DataObject) -> None:
    """Cut anywhere between bytes: the tokens that share a byte with the value, and no others."""
    text = json.dumps(value, ensure_ascii=True)
    raw = text.encode()
    if isinstance(value, str) and "\\ud83d" in text:
        text = json.dumps("é😀" + "x" * data.draw(st.integers(0, 3)), ensure_ascii=False)
        raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(raw) - 1)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    pieces.insert(data.draw(st.integers(0, len(pieces))), b"")
    logprobs = [-0.25 * (i + 1) for i in range(len(pieces))]
    found = confidences(text, pieces, logprobs)
    owner = [i for i, piece in enumerate(pieces) for _ in piece]
    offset = byte_offsets(text)
    for pointer, (begin, end) in places(text).items():
        here = json.loads(text[begin:end])
        own = {owner[byte] for byte in range(offset[begin], offset[end])}
        if isinstance(here, list) and here:
            inner = {
                byte
                for i in range(len(here))
                for byte in range(*(offset[at] for at in places(text)[f"{pointer}/{i}"]))
            }
            own = {owner[b] for b in range(offset[begin], offset[end]) if b not in inner}
        if isinstance(here, dict) and here:
            assert pointer not in found
        else:
            assert found[pointer] == pytest.approx(math.exp(sum(logprobs[i] for i in own)))


# --- what generate chose --------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"paid": {"type": "boolean"}, "n": {"type": "integer", "maximum": 999}},
    "required": ["paid", "n"],
    "additionalProperties": False,
}
BUDGET = 40


def automaton() -> TokenAutomaton:
    return automaton_for(Grammar.from_json_schema(SCHEMA), TOKENIZER, model())


def masked(prompt: Sequence[int], tokens: Sequence[int], temperature: float = 1.0) -> list[float]:
    """Log-probabilities among the allowed tokens, from one forward without a cache."""
    made = automaton()
    with torch.no_grad():
        logits = model()(torch.tensor([[*prompt, *tokens]])).logits[0].double()
    state, out = made.start, []
    for i, token in enumerate(tokens):
        row = np.zeros(-(-made.vocabulary.size // 32), np.uint32)
        made.fill_mask(state, row, BUDGET - i)
        bits = np.unpackbits(row.view(np.uint8), bitorder="little")[: made.vocabulary.size]
        scores = logits[len(prompt) - 1 + i][: len(bits)] / temperature
        scores[torch.from_numpy(bits == 0)] = -math.inf
        out.append(float((scores - scores.logsumexp(-1))[token]))
        state = made.advance(state, token)
    return out


def generated(prompts: Sequence[Sequence[int]], **options: Any) -> list[ScoredTokens]:
    """Rows that generate writes, padded on the left, with what the recorder says of them."""
    longest = max(map(len, prompts))
    padded = [[EOS] * (longest - len(p)) + list(p) for p in prompts]
    seen = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    recorder = Recorder([EOS], options.get("temperature", 1.0))
    with torch.no_grad():
        out = model().generate(
            torch.tensor(padded),
            attention_mask=torch.tensor(seen),
            logits_processor=[
                GrammarLogitsProcessor(automaton(), max_new_tokens=BUDGET),
                recorder,
            ],
            max_new_tokens=BUDGET,
            pad_token_id=EOS,
            **options,
        )
    rows = []
    for row in out.tolist():
        tokens = row[longest:]
        rows.append(recorder.written(row[:longest], tokens[: tokens.index(EOS) + 1]))
    return rows


PROMPTS = [TOKENIZER(text)["input_ids"] for text in ("Paid?", "How many, and paid?", "n")]


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"do_sample": True, "top_k": 0},
        {"do_sample": True, "top_k": 3, "top_p": 0.8, "temperature": 2.5},
        {"do_sample": False, "num_beams": 3},
        {"do_sample": False, "prompt_lookup_num_tokens": 3},
    ],
    ids=["greedy", "sampling", "warped", "beams", "drafts"],
)
def test_generate_is_recorded(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    temperature = options.get("temperature", 1.0)
    for prompt in PROMPTS:
        (found,) = generated([prompt], **options)
        expected = masked(prompt, found, temperature)
        assert found.logprobs == pytest.approx(expected, abs=1e-4)
        assert sum(found.logprobs) < -0.1


def test_assisted_decoding_is_recorded() -> None:
    """The assistant's laws go through the same processors, and must not be taken for the model's."""
    torch.manual_seed(3)
    assistant = type(model())(model().config).eval()
    assistant.generation_config = copy.deepcopy(model().generation_config)
    for prompt in PROMPTS:
        (found,) = generated([prompt], do_sample=False, assistant_model=assistant)
        assert found.logprobs == pytest.approx(masked(prompt, found), abs=1e-4)


def test_rows_side_by_side_are_recorded() -> None:
    torch.manual_seed(1)
    found = generated(PROMPTS, do_sample=True, top_k=0)
    assert len({len(row) for row in found}) > 1
    for prompt, row in zip(PROMPTS, found, strict=True):
        assert row.logprobs == pytest.approx(masked(prompt, row), abs=1e-4)


def test_a_row_that_ended_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is remembered, though the law that it was drawn from is not."""
    monkeypatch.setattr("constrain.huggingface.recording._KEPT", 1)
    torch.manual_seed(1)
    found = generated(PROMPTS, do_sample=True, top_k=0)
    for prompt, row in zip(PROMPTS, found, strict=True):
        assert row.logprobs == pytest.approx(masked(prompt, row), abs=1e-4)


def test_what_was_not_recorded_is_not_known() -> None:
    recorder = Recorder([EOS])
    assert recorder.written([1, 2], [3]).logprobs == []
    recorder(torch.tensor([[1, 2]]), torch.zeros(1, 320))
    assert recorder.written([1, 2], [3]).logprobs == pytest.approx([-math.log(320)])
    assert recorder.written([1, 2], [3, 4]).logprobs == []
    assert recorder.written([1, 2], []) == []
    recorder(torch.tensor([[1, 2, 3, 4]]), torch.zeros(1, 320))  # a step is missing
    assert recorder.written([1, 2], [3, 4, 5]).logprobs == []


def test_scored_tokens_are_a_list() -> None:
    scored = ScoredTokens([5, 6, 7], [-1.0, -2.0, -3.0])
    assert scored == [5, 6, 7]
    assert scored[1:] == [6, 7]
    assert scored[:2].logprobs == [-1.0, -2.0]
    assert (scored[-1], ScoredTokens([1]).logprobs) == (7, [])


# --- extractions ----------------------------------------------------------------------------------

WAYS = {"constrain": constrain.extract, "samplers": samplers.extract}
either = pytest.mark.parametrize("extract", WAYS.values(), ids=WAYS)
TEXT = "He has 12 of them, not 7, and paid."


def probabilities(found: Extraction, prompt: Sequence[int], temperature: float) -> dict[str, float]:
    """What confidence should say, from full forwards."""
    logprobs = masked(prompt, found.tokens, temperature)
    return confidences(found.text, found.pieces, logprobs)


@either
@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.5])
def test_extractions_say_how_sure_they_are(extract: Any, temperature: float) -> None:
    torch.manual_seed(2)
    found = extract(
        model(),
        TOKENIZER,
        TEXT,
        SCHEMA,
        prompt=lambda text, _: text,
        temperature=temperature,
        max_new_tokens=BUDGET,
    )
    assert found.complete
    assert found.confidence.keys() == {"/paid", "/n"}
    expected = probabilities(found, TOKENIZER(TEXT)["input_ids"], temperature or 1.0)
    assert found.confidence == pytest.approx(expected, abs=1e-4)
    assert found.confidence is found.confidence  # worked out once
    assert b"".join(found.pieces).decode() == found.text
    assert math.fsum(found.token_constrained_logprobs) < 0


@either
def test_extractions_with_a_healed_prompt(extract: Any) -> None:
    found = extract(
        model(),
        TOKENIZER,
        "t",
        Grammar.from_choices(["rue", "ru"]),
        prompt=lambda text, _: 'x: {"n": t',
        heal=True,
        max_new_tokens=12,
    )
    assert found.prefix
    assert found.complete
    assert found.confidence.keys() == {""}
    assert 0 < found.confidence[""] < 1


def test_who_does_not_tell() -> None:
    def write(*arguments: Any, **options: Any) -> list[int]:
        return [*TOKENIZER('{"paid": true, "n": 12}')["input_ids"], EOS]

    found = constrain.extract(model(), TOKENIZER, TEXT, SCHEMA, generate=write, max_new_tokens=40)
    assert found.confidence == {}
    assert found.sources == {"/n": (7, 9)}
    assert found.ambiguous == {}
    assert TEXT[slice(*found.sources["/n"])] == "12"

    cut = constrain.extract(
        model(),
        TOKENIZER,
        TEXT,
        SCHEMA,
        generate=lambda *a, **o: write()[:4],
        max_new_tokens=40,
    )
    assert (cut.complete, cut.confidence, cut.sources) == (False, {}, {})


@either
def test_what_is_the_source(extract: Any) -> None:
    wanted = Grammar.from_choices(["paid"])
    run = partial(extract, model(), TOKENIZER, schema_or_type=wanted, max_new_tokens=12)
    assert run(text_or_messages=TEXT).sources == {"": (30, 34)}
    said = [
        {"role": "user", "content": "nothing"},
        {"role": "assistant", "content": "paid paid"},
        {"role": "user", "content": "it is paid, paid"},
    ]
    found = run(text_or_messages=said)
    assert found.source == "nothing\n\nit is paid, paid"
    assert found.ambiguous == {"": [(15, 19), (21, 25)]}
    assert run(text_or_messages=said, source="not paid").sources == {"": (4, 8)}
    assert run(text_or_messages=said[1:2]).sources == {}


def test_many_texts_say_it_too() -> None:
    texts = ["12", TEXT, "n"]
    many = constrain.extract_many(
        model(), TOKENIZER, texts, SCHEMA, prompt=lambda text, _: text, max_new_tokens=BUDGET
    )
    for text, found in zip(texts, many, strict=True):
        expected = probabilities(found, TOKENIZER(text)["input_ids"], 1.0)
        assert found.confidence == pytest.approx(expected, abs=1e-4)
        assert found.source == text


@either
def test_what_is_grounded_has_a_source(extract: Any) -> None:
    """Every string and number of a grounded extraction stands somewhere."""
    text = "Ada Lovelace bought 1,240 cups on 14 March 2025, and paid 12.50 for tea."
    wanted = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "price": {"type": "number"},
            "date": {"type": "string", "format": "date"},
        },
        "required": ["name", "price", "date"],
        "additionalProperties": False,
    }
    for seed in range(6):
        torch.manual_seed(seed)
        found = extract(
            model(), TOKENIZER, text, wanted, grounded=True, temperature=3.0, max_new_tokens=90
        )
        assert found.complete
        assert found.sources.keys() == {"/name", "/price", "/date"}
        assert text[slice(*found.sources["/name"])] == found.value["name"]
        assert set(found.confidence) == set(found.sources)
