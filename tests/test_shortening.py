"""Long documents shortened: attention against ``transformers``' own, choices against brute force."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from test_extraction import CHAT, EOS, TOKENIZER

import constrain
import samplers
from constrain import AskAgain, BudgetError, Extraction, GemFilter, SpecPC, extract
from constrain.huggingface.automata import vocabulary_for
from constrain.huggingface.shortening import LongPrompt
from constrain.huggingface.shortening.document import Document
from constrain.huggingface.shortening.filters import SINKS, shortened
from constrain.huggingface.shortening.importance import last_scores, listening, read_prompt
from constrain.huggingface.shortening.selection import best_lines, best_tokens, pooled

CLOSE = 1e-5
CONTEXT = 2048
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": TOKENIZER.pad_token_id,
    "initializer_range": 0.4,  # so that attention is not the same everywhere
}
KINDS = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES)),
    "sliding": lambda: tf.MistralForCausalLM(tf.MistralConfig(**SIZES, sliding_window=24)),
    "normed": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**SIZES, head_dim=8)),
}


@cache
def model(kind: str = "llama", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    made = KINDS[kind]().eval()
    made.generation_config.pad_token_id = TOKENIZER.pad_token_id
    return made


@contextmanager
def eager(made: Any) -> Iterator[None]:
    before = made.config._attn_implementation
    made.config._attn_implementation = "eager"
    try:
        yield
    finally:
        made.config._attn_implementation = before


def attentions(made: Any, ids: Sequence[int]) -> list[torch.Tensor]:
    """The oracle: all weights of each layer, [heads, n, n], as ``transformers`` tells them."""
    with eager(made), torch.no_grad():
        out = made(input_ids=torch.tensor([list(ids)]), output_attentions=True)
    return [layer[0] for layer in out.attentions]


def some_ids(count: int, seed: int = 0) -> list[int]:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(0, 250, (count,), generator=drawn).tolist()


def prompt(count: int, document: range, width: int = 7, seed: int = 0) -> LongPrompt:
    lines = [
        range(i, min(i + width, document.stop)) for i in range(document.start, document.stop, width)
    ]
    return LongPrompt(some_ids(count, seed), document, tuple(lines))


# --- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [1, 5, 100])
def test_weights_are_those_of_eager_attention(kind: str, queries: int) -> None:
    made, ids = model(kind), some_ids(60)
    found: list[torch.Tensor] = []
    read_prompt(made, ids, queries, lambda layer, scores: found.append(scores.softmax(-1)))
    expected = attentions(made, ids)
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other[:, -queries:], atol=CLOSE)


def test_only_the_rows_of_the_last_queries_are_made() -> None:
    shapes: list[tuple[int, ...]] = []
    read_prompt(model(), some_ids(300), 3, lambda _, scores: shapes.append(tuple(scores.shape)))
    assert shapes == [(4, 3, 300)] * 4


def test_layers_above_do_not_read() -> None:
    made, seen = model(), []
    hooks = [
        layer.mlp.register_forward_hook(lambda *_, i=i: seen.append(i))
        for i, layer in enumerate(made.model.layers)
    ]
    try:
        GemFilter(5, layer=2).importance(made, prompt(40, range(5, 30)))
    finally:
        for hook in hooks:
            hook.remove()
    assert seen == [0, 1], "layer 2 is left at its attention"
    assert made.config._attn_implementation == "sdpa"


def test_masks_say_what_is_seen() -> None:
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 1, 5, 4)
    seen = torch.tensor([[1, 0, 1, 0, 0], [1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]).bool()[None, None]
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    for mask in (seen, added):
        found = last_scores(query, key, mask, 0.5, 2)
        for head in range(2):
            for q in range(2):
                for k in range(5):
                    expected = float(query[0, head, 1 + q] @ key[0, 0, k]) * 0.5
                    if not seen[0, 0, 1 + q, k]:
                        expected = -math.inf
                    assert float(found[head, q, k]) == pytest.approx(expected, abs=1e-6)


def test_a_model_whose_attention_is_elsewhere_is_refused() -> None:
    torch.manual_seed(0)
    made = tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES)).eval()
    for layer in made.model.layers:
        layer.self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    with pytest.raises(ValueError, match="cannot be read"):
        GemFilter(5, layer=1).importance(made, prompt(20, range(5, 15)))
    with pytest.raises(ValueError, match="cannot be read"):
        SpecPC(5, lookahead=1).importance(made, prompt(20, range(5, 15)))


def test_attention_with_more_than_a_softmax_is_refused() -> None:
    small = SIZES | {"head_dim": 8, "initializer_range": 0.02}
    made = tf.Gemma2ForCausalLM(tf.Gemma2Config(**small)).eval()
    with pytest.raises(ValueError, match="softcap"), listening(made, 1, lambda *_: None):
        made(input_ids=torch.tensor([some_ids(8)]))


# --- choices --------------------------------------------------------------------------------------

Scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def slowly_pooled(scores: Sequence[float], kernel: int, pool: str) -> list[float]:
    before = (kernel - 1) // 2
    found = []
    for i in range(len(scores)):
        places = range(i - before, i - before + kernel)
        inside = [scores[j] for j in places if 0 <= j < len(scores)]
        found.append(max(inside) if pool == "max" else sum(inside) / kernel)
    return found


def slowly_best(scores: Sequence[float], keep: int, neighbours: int) -> list[int]:
    """The best one by one, each followed by its neighbours, the nearest first, the left before the right."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:keep]
    before = (neighbours - 1) // 2
    around = sorted(range(-before, neighbours - before), key=lambda d: (abs(d), d))
    kept: list[int] = []
    for best in order:
        for step in around:
            if len(kept) < keep and 0 <= best + step < len(scores) and best + step not in kept:
                kept.append(best + step)
    return sorted(kept)


@given(Scores, st.integers(1, 6), st.sampled_from(["avg", "max"]))
def test_pooling(scores: list[int], kernel: int, pool: Any) -> None:
    found = pooled(np.array(scores, np.float32), kernel, pool)
    assert found.tolist() == pytest.approx(slowly_pooled(scores, kernel, pool), abs=1e-6)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_pooling_is_that_of_torch(pool: Any) -> None:
    scores = torch.randn(50)
    torchs = {"avg": torch.nn.functional.avg_pool1d, "max": torch.nn.functional.max_pool1d}
    expected = torchs[pool](scores[None], kernel_size=5, padding=2, stride=1)[0]
    assert np.allclose(pooled(scores.numpy(), 5, pool), expected, atol=1e-6)


@given(Scores, st.data(), st.integers(1, 6))
def test_best_tokens(scores: list[int], data: st.DataObject, neighbours: int) -> None:
    keep = data.draw(st.integers(1, len(scores)))
    found = best_tokens(np.array(scores, np.float32), keep, neighbours)
    assert found == slowly_best(scores, keep, neighbours)
    assert len(found) == keep


@given(Scores, st.data())
def test_best_lines(scores: list[int], data: st.DataObject) -> None:
    cuts = data.draw(
        st.sets(st.integers(1, len(scores) - 1)) if len(scores) > 1 else st.just(set())
    )
    ends = [*sorted(cuts), len(scores)]
    lines = [range(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    keep = data.draw(st.integers(1, len(scores)))
    found = best_lines(np.array(scores, np.float32), keep, lines)
    assert found == sorted(set(found))
    assert 0 < len(found) <= keep
    if min(map(len, lines)) > keep:
        assert found == slowly_best(scores, keep, 1)
        return
    whole = [line for line in lines if set(line) <= set(found)]
    assert sorted(i for line in whole for i in line) == found
    left = [line for line in lines if line not in whole]
    mean = {line: sum(scores[i] for i in line) / len(line) for line in lines}
    for line in left:  # it had no room when its turn came
        better = [x for x in whole if (mean[x], -x.start) > (mean[line], -line.start)]
        assert sum(map(len, better)) + len(line) > keep


@pytest.mark.parametrize("seed", range(3))
def test_gemfilter_is_its_algorithm(seed: int) -> None:
    """Sums of products are sums of logarithms of weights, but for a number that is the same for all."""
    made, asked = model(seed=seed), prompt(80, range(10, 70), seed=seed)
    weights = attentions(made, asked.ids)[2][:, -1].double()
    sums = slowly_pooled(weights.log().sum(0).tolist(), 5, "avg")
    part = sums[10:70]
    found = GemFilter(20, layer=2, unit="tokens").choose(made, asked)
    assert found == [10 + i for i in slowly_best(part, 20, 1)]
    lines = GemFilter(20, layer=2).choose(made, asked)
    shifted = [range(line.start - 10, line.stop - 10) for line in asked.lines]
    assert lines == [10 + i for i in best_lines(np.array(part, np.float32), 20, shifted)]
    assert lines != found


def slow_importance(
    made: Any, ids: Sequence[int], window: int, layers: range, lookahead: int
) -> list[float]:
    """SpecPC's maximum, from all weights of the prompt and of what the draft writes."""
    written = list(ids)
    for _ in range(lookahead):
        with torch.no_grad():
            written.append(int(made(input_ids=torch.tensor([written])).logits[0, -1].argmax()))
    most = [0.0] * len(ids)
    for layer in layers:
        weights = attentions(made, written)[layer]
        for query in range(len(ids) - window, len(written)):
            share = (query - len(ids) + window) / (window - 1) if query < len(ids) else 1.0
            for head in range(len(weights)):
                for key in range(len(ids)):
                    most[key] = max(most[key], share * float(weights[head, query, key]))
    return most


@pytest.mark.parametrize("lookahead", [0, 2])
def test_specpc_is_its_algorithm(lookahead: int) -> None:
    made, asked = model(seed=1), prompt(50, range(10, 40))
    given = SpecPC(12, made, skip=1, window=6, lookahead=lookahead, unit="tokens", kernel=3)
    most = slow_importance(made, asked.ids, 6, range(1, 4), lookahead)
    assert given.importance(model(), asked).tolist() == pytest.approx(
        slowly_pooled(most, 3, "max"), abs=CLOSE
    )
    kept = given.choose(model(), asked)
    assert len(kept) == 12
    plain = given.importance(model(), asked)[10:40].tolist()  # rounding may break ties
    assert kept == [10 + i for i in slowly_best(plain, 12, 3)]


def test_a_draft_of_the_first_layers() -> None:
    asked = prompt(50, range(10, 40))
    most = slow_importance(model(), asked.ids, 6, range(1, 3), 0)
    found = SpecPC(5, layers=3, skip=1, window=6, kernel=1).importance(model(), asked)
    assert found.tolist() == pytest.approx(most, abs=CLOSE)
    other = SpecPC(5, window=6, kernel=1).importance(model(), asked)
    assert other.tolist() != pytest.approx(most, abs=CLOSE)


def test_the_question_asks_again() -> None:
    made, asked = model(seed=2), prompt(50, range(10, 40))
    question = [*asked.ids[:10], *asked.ids[40:]]
    weights = attentions(made, [*asked.ids, *question])[2][:, 50:, :50]
    most = slowly_pooled(weights.amax((0, 1)).tolist(), 5, "max")
    given = AskAgain(12, layer=2, unit="tokens", kernel=5)
    assert given.importance(made, asked).tolist() == pytest.approx(most, abs=CLOSE)
    plain = given.importance(made, asked)[10:40].tolist()
    assert given.choose(made, asked) == [10 + i for i in slowly_best(plain, 12, 1)]
    assert GemFilter(12, layer=2, unit="tokens").choose(made, asked) != given.choose(made, asked)


# --- the document in the prompt -------------------------------------------------------------------


def found(text: str, ids: Sequence[int], tokenizer: Any = CHAT) -> Document:
    return Document.found(text, ids, vocabulary_for(tokenizer, model()))


Words = st.text(st.sampled_from('ab "12é€\U0001f600true\n\n\r\t '), max_size=40)


@given(Words, Words, Words)
def test_the_document_is_found(before: str, text: str, after: str) -> None:
    ids = CHAT(f"{before}|{text}|{after}")["input_ids"]
    if not text.strip():
        with pytest.raises(ValueError, match="find the document"):
            found(text, ids)
        return
    if text.strip() in after:
        return
    document = found(text, ids)
    # each token within the document's bytes, and no other
    ends = np.cumsum([_length(i) for i in ids])
    begin = len(f"{before}|{text[: len(text) - len(text.lstrip())]}".encode())
    end = begin + len(text.strip().encode())
    inside = [i for i, e in enumerate(ends) if e <= end and e - _length(ids[i]) >= begin]
    assert list(document.tokens) == inside
    assert [i for line in document.lines for i in line] == inside
    spans = document.spans(inside)
    assert "".join(text[a:b] for a, b in spans).strip() in text
    if inside and len(inside) == len(CHAT(text.strip())["input_ids"]):
        assert [text[a:b] for a, b in spans] == [text.strip()]
    every_other = document.spans(inside[::2])
    assert all(0 <= a < b <= len(text) for a, b in every_other)


def _length(token: int) -> int:
    return len(vocabulary_for(CHAT, model()).token_bytes(token) or b"")


def test_lines_are_whole_and_blank_ones_go_with_those_before() -> None:
    text = "Ada\n\n\nBob paid\n  \nCy"
    ids = CHAT(f"x\n{text}\ny")["input_ids"]
    document = found(text, ids)
    texts = [CHAT.decode(ids[line.start : line.stop]) for line in document.lines]
    assert texts == ["Ada\n\n\n", "Bob paid\n  \n", "Cy"]
    assert document.spans([*document.lines[0], *document.lines[2]]) == ((0, 6), (18, 20))


def test_a_part_of_a_character_is_the_character() -> None:
    text = "a\U0001f600b"
    document = found(text, CHAT(text + "|")["input_ids"])
    assert document.spans([document.tokens[2]]) == ((1, 2),)


def test_the_last_place_counts_and_marks_do_not() -> None:
    ids = CHAT.apply_chat_template(
        [{"role": "user", "content": "tea"}, {"role": "user", "content": "tea"}],
        return_dict=True,
    )["input_ids"]
    document = found("tea", ids)
    assert CHAT.decode(ids[document.tokens.start :]) == "tea\n"


# --- extraction -----------------------------------------------------------------------------------

LINES = [f"Line {i}: guest {i * 7 % 13} paid {i * 31} for tea.\n" for i in range(12)]
TEXT = "".join(LINES)


class Guest(BaseModel):
    paid: bool


@dataclass(frozen=True)
class These:
    """Keeps some positions of the document, counted from its beginning."""

    positions: tuple[int, ...]
    keep: int = 40
    asked: list[LongPrompt] = field(default_factory=list)

    def choose(self, model: Any, prompt: LongPrompt) -> Sequence[int]:
        self.asked.append(prompt)
        return [prompt.document.start + i for i in self.positions]


def run(wanted: Any = Guest, asked: Any = TEXT, **options: Any) -> Extraction:
    options = {"max_new_tokens": 40, "tokenizer": CHAT} | options
    return extract(model(), options.pop("tokenizer"), asked, wanted, **options)


def seen_prompt(asked: Any = TEXT, **options: Any) -> tuple[str, Extraction]:
    told: list[str] = []

    def write(model: Any, input_ids: torch.Tensor, automaton: Any, **rest: Any) -> list[int]:
        told.append(CHAT.decode(input_ids[0]))
        return []

    made = run({"type": "null"}, asked, generate=write, **options)
    return told[0], made


@pytest.mark.parametrize(
    "given", [GemFilter(100, layer=2), SpecPC(100, layers=3), SpecPC(100), AskAgain(100)]
)
@pytest.mark.parametrize("tokenizer", [CHAT, TOKENIZER])
def test_only_the_document_is_shortened(given: Any, tokenizer: Any) -> None:
    options: dict[str, Any] = {"tokenizer": tokenizer, "system": "Be brief."}
    options["examples"] = [("Tea!", None)]
    whole, _ = seen_prompt(**options)
    short, made = seen_prompt(shorten=given, **options)
    told = made.shortened
    assert told is not None
    assert told.lossy
    assert 0 < told.kept <= 100 < told.tokens
    assert told.share == told.kept / told.tokens
    kept = "".join(TEXT[a:b] for a, b in told.spans)
    before, after = whole.split(TEXT.strip())
    assert short == before + kept + after
    if given.unit == "lines":
        assert [line for line in LINES if line.strip() in kept]
        assert all(line in TEXT for line in kept.splitlines())


@pytest.mark.parametrize("given", [GemFilter, SpecPC, AskAgain])
@pytest.mark.parametrize("unit", ["lines", "tokens"])
def test_what_is_not_longer_is_read_whole(given: Any, unit: Any) -> None:
    plain = run()
    told = run(shorten=given(len(CHAT(TEXT.strip())["input_ids"]), unit=unit))
    assert told.text == plain.text
    assert told.tokens == plain.tokens
    assert told.value == plain.value
    assert told.shortened is not None
    assert not told.shortened.lossy
    assert told.shortened.spans == ((0, len(TEXT.strip())),)
    assert plain.shortened is None
    less = run(shorten=given(len(CHAT(TEXT.strip())["input_ids"]) - 1, unit=unit))
    assert less.shortened is not None
    assert less.shortened.lossy


def test_a_filter_of_ones_own() -> None:
    given = These((0, 1, 2, 3, 10, 11))
    short, made = seen_prompt(shorten=given)
    (asked,) = given.asked
    assert [i for line in asked.lines for i in line] == list(asked.document)
    assert made.shortened is not None
    assert made.shortened.by is given
    assert [TEXT[a:b] for a, b in made.shortened.spans] == ["Line", "st"]
    assert "Linest" in short


@pytest.mark.parametrize("positions", [(1, 0), (0, 0), (-1,), (10_000,), tuple(range(41))], ids=str)
def test_choices_that_cannot_be(positions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="choose must return at most 40 positions"):
        run(shorten=These(positions))


def test_grounded_values_stand_in_the_whole_text() -> None:
    """The answer may be a span of a line that was dropped, and says where that is."""

    class Where(BaseModel):
        line: str

    given = These(tuple(range(8)))
    told = run(Where, grounded=True, shorten=given, max_new_tokens=60)
    assert told.source == TEXT
    assert told.value.line in TEXT
    begin, end = told.sources["/line"]
    assert TEXT[begin:end] == told.value.line


def test_a_document_at_the_beginning_keeps_the_first_tokens() -> None:
    ids = TOKENIZER(TEXT.strip() + "\nJSON:")["input_ids"]
    given = These((0, 1), keep=2)
    left, told = shortened(model(), ids, TEXT, vocabulary_for(TOKENIZER, model()), given)
    assert given.asked[0].document.start == SINKS
    assert TOKENIZER.decode(left) == TEXT[: SINKS + 2] + "\nJSON:"
    assert told.kept == SINKS + 2
    everything = These((), keep=len(ids))
    assert shortened(model(), ids, TEXT, vocabulary_for(TOKENIZER, model()), everything)[0] == ids


def test_everything_that_extracts_shortens() -> None:
    given = GemFilter(100, layer=2)
    one = run(shorten=given)
    made, tokenizer = model(), CHAT
    options: dict[str, Any] = {"shorten": given, "max_new_tokens": 40}
    drafted = samplers.extract(made, tokenizer, TEXT, Guest, **options)
    assert (drafted.text, drafted.shortened) == (one.text, one.shortened)
    short = "Guest 3 paid."
    many = constrain.extract_many(made, tokenizer, [TEXT, short, TEXT], Guest, **options)
    assert [x.text for x in many] == [one.text, run(asked=short).text, one.text]
    assert [x.shortened and x.shortened.lossy for x in many] == [True, False, True]
    stream = samplers.extract_stream(made, tokenizer, TEXT, Guest, **options)
    assert list(stream)[-1] == one.value
    assert stream.extraction.shortened == one.shortened
    drawn = samplers.extract_samples(made, tokenizer, TEXT, Guest, 2, seed=1, **options)
    assert [x.shortened for x in drawn] == [one.shortened] * 2
    thought = run(shorten=given, reasoning=16)
    assert thought.shortened is not None
    assert thought.shortened.lossy


def test_messages_say_what_their_document_is() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"Who paid?\n{TEXT}"},
    ]
    with pytest.raises(ValueError, match="source="):
        run(asked=messages, shorten=GemFilter(100))
    told = run(asked=messages, shorten=GemFilter(100), source=TEXT)
    assert told.shortened is not None
    assert told.shortened.kept <= 100
    short, _ = seen_prompt(messages, shorten=GemFilter(100), source=TEXT)
    assert short.startswith("<|system|>Be brief.\n<|user|>Who paid?\n")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GemFilter(0), ValueError, "keep=0"),
        (lambda: GemFilter(1.5), TypeError, "keep must be an integer"),  # type: ignore[arg-type]
        (lambda: GemFilter(layer=-1), ValueError, "layer=-1"),
        (lambda: GemFilter(kernel=0), ValueError, "kernel=0"),
        (lambda: GemFilter(unit="words"), ValueError, "'lines' or 'tokens'"),  # type: ignore[arg-type]
        (lambda: GemFilter(pool="sum"), ValueError, "'avg' or 'max'"),  # type: ignore[arg-type]
        (lambda: AskAgain(0), ValueError, "keep=0"),
        (lambda: AskAgain(layer=-1), ValueError, "layer=-1"),
        (lambda: run(shorten=AskAgain(100, layer=4)), ValueError, "the model has 4"),
        (lambda: SpecPC(window=0), ValueError, "window=0"),
        (lambda: SpecPC(layers=0), ValueError, "layers=0"),
        (lambda: SpecPC(lookahead=1, layers=2), ValueError, "lookahead needs all layers"),
        (lambda: SpecPC(draft="smollm2"), TypeError, "load it first"),
        (lambda: run(shorten=GemFilter(100, layer=4)), ValueError, "the model has 4, from 0 to 3"),
        (lambda: run(shorten=SpecPC(100, layers=5)), ValueError, "the draft has 4"),
        (lambda: run(shorten=SpecPC(100, skip=4)), ValueError, "none would count"),
        (lambda: run(shorten=GemFilter), TypeError, "the type GemFilter"),
        (lambda: run(shorten=1024), TypeError, "GemFilter\\(keep=1024\\)"),
        (
            lambda: run(shorten=GemFilter(100), prompt=lambda text, _: text.upper()),
            ValueError,
            "find the document",
        ),
        (
            lambda: extract("m", None, TEXT, Guest, backend="http://x/v1", shorten=GemFilter(9)),
            TypeError,
            "shorten is for a model that runs here",
        ),
    ],
)
def test_refusals(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_draft_of_another_vocabulary() -> None:
    other = tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES | {"vocab_size": 330})).eval()
    with pytest.raises(ValueError, match="a draft needs the same vocabulary"):
        run(shorten=SpecPC(100, other))


def test_texts_beyond_the_context_of_who_shortens() -> None:
    long = TEXT * 6
    assert len(CHAT(long)["input_ids"]) > CONTEXT
    for one in (GemFilter(100), AskAgain(100), SpecPC(100), SpecPC(100, lookahead=1)):
        with pytest.raises(BudgetError, match=f"reads {CONTEXT:,}"):
            run(asked=long, shorten=one)
    told = run(asked=long, shorten=These((0, 1, 2)))
    assert told.complete, "a filter that reads nothing has no such bound"


def test_the_importance_is_of_the_model_it_is_asked_of() -> None:
    """Control: another seed is another attention."""
    asked = prompt(60, range(5, 50))
    one, other = (GemFilter(5, layer=2).importance(model(seed=s), asked) for s in (0, 1))
    assert not torch.allclose(one, other)
