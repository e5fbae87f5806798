"""The backend inside ``model.generate`` and ``samplers.extract``: what comes out is what would have."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from patience import PATIENCE
from test_extraction import CHAT
from test_extraction import model as chat_model
from toys import BOS, EOS, PAD, model, vocabulary
from transformers import (
    LogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)
from transformers.generation.streamers import BaseStreamer

import constrain
import samplers
from constrain import BudgetError, GrammarLogitsProcessor, TokenAutomaton, Vocabulary
from grammars import Grammar, GrammarError
from samplers import SpeculativeGenerate, UnsupportedModel

SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["a", "b"],
    "additionalProperties": False,
}
PROMPTS = torch.tensor([[BOS, 5, 6, 7, 9], [PAD, PAD, BOS, 9, 11]])
ATTENTION = (PROMPTS != PAD).long()
BUDGET = 30


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def automaton() -> TokenAutomaton:
    return TokenAutomaton(Grammar.from_json_schema(SCHEMA), vocabulary())


def _plain(automaton: TokenAutomaton, **options: Any) -> list[list[int]]:
    processor = GrammarLogitsProcessor(automaton, max_new_tokens=BUDGET)
    return _written(logits_processor=[processor], **options)


def _written(**options: Any) -> list[list[int]]:
    options = {"max_new_tokens": BUDGET, "do_sample": False} | options
    out = model().generate(PROMPTS, attention_mask=ATTENTION, **options)
    return [row.tolist() for row in out]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 4},
        {"suppress_tokens": [10]},
        {"min_new_tokens": 20},
    ],
    ids=str,
)
def test_greedy_texts_are_those_of_generate(
    automaton: TokenAutomaton, options: dict[str, Any]
) -> None:
    method = SpeculativeGenerate(automaton)
    for _ in range(2):  # the second time its drafters know the text
        assert _written(custom_generate=method, **options) == _plain(automaton, **options)
    assert len(method.stats) == len(PROMPTS)
    assert sum(s.accepted for s in method.stats) > 0
    assert all(s.forwards < s.tokens for s in method.stats)


def test_without_a_grammar(automaton: TokenAutomaton) -> None:
    assert _written(custom_generate=SpeculativeGenerate()) == _written()


def test_sampled_texts_are_whole(automaton: TokenAutomaton) -> None:
    torch.manual_seed(0)
    method = SpeculativeGenerate(automaton)
    rows = _written(
        custom_generate=method, do_sample=True, num_return_sequences=5, top_k=5, temperature=1.5
    )
    assert len(rows) == 10
    assert len({tuple(row) for row in rows}) > 2
    for row in rows:
        new = row[PROMPTS.shape[1] :]
        assert EOS in new
        text = vocabulary().decode(new[: new.index(EOS)])
        assert automaton.grammar.accepts(text), text


def test_the_same_seed_gives_the_same_texts(automaton: TokenAutomaton) -> None:
    def once() -> list[list[int]]:
        torch.manual_seed(7)
        return _written(custom_generate=SpeculativeGenerate(automaton), do_sample=True)

    assert once() == once()


def test_the_limit_of_generate_is_read(automaton: TokenAutomaton) -> None:
    with pytest.raises(BudgetError, match="raise it to at least"):
        _written(custom_generate=SpeculativeGenerate(automaton), max_new_tokens=5)


class _After(StoppingCriteria):  # type: ignore[misc]
    """Stops once a token has come."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return input_ids[:, -1] == self.token


def test_stopping_criteria(automaton: TokenAutomaton) -> None:
    whole = _plain(automaton)[0][PROMPTS.shape[1] :]
    token = whole[4]
    rows = _written(
        custom_generate=SpeculativeGenerate(automaton),
        stopping_criteria=StoppingCriteriaList([_After(token)]),
    )
    assert rows[0][PROMPTS.shape[1] :][: whole.index(token) + 1] == whole[: whole.index(token) + 1]
    assert EOS not in rows[0]


class _Collected(BaseStreamer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.pieces: list[list[int]] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        self.pieces.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("theirs", [False, True], ids=["generate's", "the method's"])
def test_streamers(automaton: TokenAutomaton, theirs: bool) -> None:
    streamer = _Collected()
    method = SpeculativeGenerate(automaton, streamer=streamer if theirs else None)
    options: dict[str, Any] = {} if theirs else {"streamer": streamer}
    out = model().generate(
        PROMPTS[:1], custom_generate=method, max_new_tokens=BUDGET, do_sample=False, **options
    )
    assert streamer.ended == 1
    assert streamer.pieces[0] == PROMPTS[0].tolist()
    assert [t for piece in streamer.pieces for t in piece] == out[0].tolist()


def test_the_same_streamer_twice_is_one(automaton: TokenAutomaton) -> None:
    streamer = _Collected()
    method = SpeculativeGenerate(automaton, streamer=streamer)
    out = model().generate(
        PROMPTS[:1], custom_generate=method, max_new_tokens=BUDGET, do_sample=False,
        streamer=streamer,
    )  # fmt: skip
    assert streamer.ended == 1
    assert [t for piece in streamer.pieces for t in piece] == out[0].tolist()


def test_another_call_has_no_streamer(automaton: TokenAutomaton) -> None:
    """What one call was given does not stay with the method."""
    streamer = _Collected()
    method = SpeculativeGenerate(automaton)
    options: dict[str, Any] = {
        "custom_generate": method, "max_new_tokens": BUDGET, "do_sample": False,
    }  # fmt: skip
    model().generate(PROMPTS[:1], streamer=streamer, **options)
    seen = len(streamer.pieces)
    model().generate(PROMPTS[:1], **options)
    assert (len(streamer.pieces), streamer.ended) == (seen, 1)


@pytest.mark.parametrize("theirs", [False, True], ids=["generate's", "the method's"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (BudgetError, {"max_new_tokens": 3}),
        (ValueError, {"num_return_sequences": 2, "do_sample": True}),
        (ValueError, {"num_beams": 2}),
        (KeyError, {"logits_processor": "broken"}),
    ],
    ids=["budget", "several texts", "beams", "in the middle"],
)
def test_a_streamer_is_ended_when_it_fails(
    automaton: TokenAutomaton, theirs: bool, kind: type[Exception], options: dict[str, Any]
) -> None:
    class Broken(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            if input_ids.shape[1] > PROMPTS.shape[1] + 2:
                raise KeyError("broken")
            return scores

    options = {"max_new_tokens": BUDGET, "do_sample": False} | options
    if options.pop("logits_processor", None):
        options["logits_processor"] = [Broken()]
    streamer = _Collected()
    method = SpeculativeGenerate(automaton, streamer=streamer if theirs else None)
    if not theirs:
        options["streamer"] = streamer
    if "num_beams" in options and not theirs:
        return  # generate itself refuses a streamer with beams, before it writes to it
    with pytest.raises(kind):
        model().generate(PROMPTS[:1], custom_generate=method, **options)
    assert streamer.ended == 1


def _words(streamer: Any, work: Any) -> str:
    """What a consumer reads while the work runs in a thread; nothing here waits for ever."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    read = "".join(streamer)
    thread.join(60)
    assert not thread.is_alive()
    if failed:
        raise failed[0]
    return read


def _text_streamer() -> Any:
    return TextIteratorStreamer(CHAT, skip_prompt=True, skip_special_tokens=True, timeout=PATIENCE)


def test_an_iterator_of_text() -> None:
    made = chat_model()
    grammar = Grammar.from_json_schema(SCHEMA)
    machine = TokenAutomaton(grammar, Vocabulary.from_huggingface(CHAT, model=made))
    ids = CHAT("Ada", return_tensors="pt")["input_ids"]
    streamer = _text_streamer()

    def work() -> None:
        made.generate(
            ids, custom_generate=SpeculativeGenerate(machine), streamer=streamer,
            max_new_tokens=60, do_sample=False,
        )  # fmt: skip

    assert grammar.accepts(_words(streamer, work))


@pytest.mark.parametrize("extract", [constrain.extract, samplers.extract])
def test_an_iterator_of_text_for_extract(extract: Any) -> None:
    streamer = _text_streamer()
    found: list[Any] = []

    def work() -> None:
        options = {"max_new_tokens": 60, "streamer": streamer}
        found.append(extract(chat_model(), CHAT, "Ada", SCHEMA, **options))

    assert _words(streamer, work) == found[0].text


@pytest.mark.parametrize("extract", [constrain.extract, samplers.extract])
@pytest.mark.parametrize(
    ("wanted", "options", "kind"),
    [
        ({"type": "strin"}, {}, GrammarError),
        (SCHEMA, {"max_new_tokens": 3}, BudgetError),
        (SCHEMA, {"max_new_tokens": 0}, ValueError),
    ],
    ids=["schema", "budget", "no budget"],
)
def test_an_iterator_ends_when_extract_fails(
    extract: Any, wanted: Any, options: dict[str, Any], kind: type[Exception]
) -> None:
    streamer = _text_streamer()
    with pytest.raises(kind):
        _words(streamer, lambda: extract(
            chat_model(), CHAT, "Ada", wanted, streamer=streamer, **options
        ))  # fmt: skip


def test_extract_tells_streamer_and_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the backend and without, both hear the same tokens."""
    heard = []
    for drafts in (True, False):
        streamer, told = _Collected(), list[int]()
        if not drafts:

            def refuse(*_: Any, **__: Any) -> None:
                raise UnsupportedModel("no tree")

            monkeypatch.setattr("samplers.extraction.SpeculativeBackend", refuse)
        found = samplers.extract(
            chat_model(), CHAT, "Ada", SCHEMA, max_new_tokens=60, streamer=streamer,
            on_tokens=lambda number, tokens, told=told: told.extend(tokens),
        )  # fmt: skip
        assert told == found.tokens
        assert [t for piece in streamer.pieces[1:] for t in piece] == found.tokens
        assert streamer.ended == 1
        heard.append((found.tokens, streamer.pieces[0]))
    assert heard[0] == heard[1]


@pytest.mark.parametrize("extract", [constrain.extract, samplers.extract])
def test_not_a_streamer(extract: Any) -> None:
    with pytest.raises(TypeError, match=r"streamer must have put\(token_ids\) and end\(\)"):
        extract(chat_model(), CHAT, "Ada", SCHEMA, streamer=print)


def test_a_grammar_processor_of_ones_own_beside_it(automaton: TokenAutomaton) -> None:
    """Its rows come one after the other, and the second prompt may begin as the first."""
    processor = GrammarLogitsProcessor(automaton, max_new_tokens=BUDGET)
    method = SpeculativeGenerate(automaton)
    ids = torch.tensor([[PAD, BOS, 5], [BOS, 5, 9]])
    for _ in range(2):
        out = model().generate(
            ids, attention_mask=(ids != PAD).long(), custom_generate=method,
            logits_processor=[processor], max_new_tokens=BUDGET, do_sample=False,
        )  # fmt: skip
        for row in out.tolist():
            new = row[3:]
            assert automaton.grammar.accepts(vocabulary().decode(new[: new.index(EOS)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 3}, "beams"),
        ({"return_dict_in_generate": True}, "only token ids"),
    ],
)
def test_what_it_cannot_do_is_said(
    automaton: TokenAutomaton, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _written(custom_generate=SpeculativeGenerate(automaton), **options)


def test_text_is_json(automaton: TokenAutomaton) -> None:
    row = _written(custom_generate=SpeculativeGenerate(automaton))[0][PROMPTS.shape[1] :]
    json.loads(vocabulary().decode(row[: row.index(EOS)]))
