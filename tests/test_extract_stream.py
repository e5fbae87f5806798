"""Extractions that are streamed or awaited: what grows, what ends them early, what is left behind."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Annotated, Any

import pytest
import torch
from patience import PATIENCE, wait_until
from pydantic import AfterValidator, ValidationError
from test_extraction import CHAT, EOS, SCHEMA, TOKENIZER, Order, counted, model
from test_partial_json import is_beginning
from transformers import TextIteratorStreamer

import constrain
import samplers
from constrain import BudgetError
from grammars import Grammar, GrammarError

WORDS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]{12}$"},
        "list": {"type": "array", "items": {"enum": ["aé", 1, None]}, "minItems": 3, "maxItems": 4},
        "more": {"type": "string", "pattern": "^[A-Z]{6}$"},
    },
    "required": ["name", "list", "more"],
    "additionalProperties": False,
}
STREAMS = [constrain.extract_stream, samplers.extract_stream]
BOTH = pytest.mark.parametrize("stream", STREAMS, ids=["constrain", "samplers"])
AWAITED = pytest.mark.parametrize(
    "aextract", [constrain.aextract, samplers.aextract], ids=["constrain", "samplers"]
)


def short(text: str, schema: str) -> str:
    return f"{text} ->"


OPTIONS: dict[str, Any] = {"prompt": short, "max_new_tokens": 80}


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "gramma extraction"]


# --- streams --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("strings", [False, True])
def test_values_grow_to_what_extract_gives(stream: Any, strings: bool) -> None:
    found = constrain.extract(model(), TOKENIZER, "Tea.", WORDS, **OPTIONS)
    made = stream(model(), TOKENIZER, "Tea.", WORDS, partial_strings=strings, **OPTIONS)
    begun = made.extraction
    values = list(made)
    assert (begun, made.extraction) == (None, found)
    assert values[-1] == values[-2] == found.value
    assert values[0] == {}
    names = [value.get("name") for value in values]
    assert len(set(names)) > (5 if strings else 1)
    for before, after in pairwise(values):
        assert is_beginning(before, after)
        json.loads(json.dumps(before))
    if not strings:
        assert set(names) == {None, found.value["name"]}
        lists = [value.get("list") for value in values]
        whole: list[Any] = found.value["list"]
        assert all(whole[:n] in lists for n in range(len(whole) + 1))
    assert workers() == []


@BOTH
def test_the_last_value_is_validated(stream: Any) -> None:
    *before, last = stream(model(), TOKENIZER, "Tea.", Order, **OPTIONS)
    assert isinstance(last, Order)
    assert all(type(value) is dict for value in before)
    assert before[-1] == last.model_dump()
    (only,) = stream(model(), TOKENIZER, "Tea.", Grammar.from_regex("[a-z]{9}"), **OPTIONS)
    assert len(only) == 9


@BOTH
def test_a_thought_is_no_value(stream: Any) -> None:
    made = stream(model(), TOKENIZER, "Tea.", Order, reasoning=12, **OPTIONS)
    values = list(made)
    assert made.extraction.reasoning
    assert values[0] == {}
    assert isinstance(values[-1], Order)


@BOTH
@pytest.mark.parametrize("how", ["close", "with", "dropped"])
def test_closing_it_ends_the_writing(stream: Any, how: str) -> None:
    with counted() as whole:
        list(stream(model(), TOKENIZER, "Tea.", WORDS, **OPTIONS))
    with counted() as forwards, held_back() as go_on:
        made = stream(model(), TOKENIZER, "Tea.", WORDS, streamer=go_on, **OPTIONS)
        assert forwards == []
        assert next(made) == {}
        (worker,) = workers()
        go_on.release()
        if how == "close":
            made.close()
        elif how == "with":
            with made:
                pass
        else:
            del made
            gc.collect()
        assert not worker.is_alive()
        assert len(forwards) <= len(whole) / 2
    if how == "close":
        assert list(made) == []
        assert made.extraction is None


class HeldBack:
    """A streamer that waits behind the first tokens until it is released."""

    def __init__(self) -> None:
        self.count, self.ends, self._go_on = 0, 0, threading.Event()

    def put(self, value: torch.Tensor) -> None:
        self.count += 1
        if self.count > 4:
            self._go_on.wait(20)

    def end(self) -> None:
        self.ends += 1

    def release(self) -> None:
        threading.Timer(0.05, self._go_on.set).start()


@contextmanager
def held_back() -> Iterator[HeldBack]:
    made = HeldBack()
    yield made
    assert made.ends == 1


def test_one_that_is_never_read_does_nothing() -> None:
    with counted() as forwards:
        made = constrain.extract_stream(model(), TOKENIZER, "Tea.", WORDS, **OPTIONS)
        made.close()
        assert list(made) == []
    assert forwards == []


@BOTH
@pytest.mark.parametrize(
    ("wanted", "options", "kind"),
    [
        ({"type": "strin"}, {}, GrammarError),
        (SCHEMA, {"max_new_tokens": 3}, BudgetError),
        (SCHEMA, {"prompt": 3}, TypeError),
    ],
    ids=["schema", "budget", "prompt"],
)
def test_errors_come_with_the_next_value(
    stream: Any, wanted: Any, options: dict[str, Any], kind: type[Exception]
) -> None:
    made = stream(model(), TOKENIZER, "Tea.", wanted, **(OPTIONS | options))
    with pytest.raises(kind):
        next(made)
    assert list(made) == []
    assert workers() == []


@BOTH
def test_a_streamer_that_is_none(stream: Any) -> None:
    with pytest.raises(TypeError, match=r"streamer must have put\(token_ids\)"):
        stream(model(), TOKENIZER, "Tea.", SCHEMA, streamer=print)


def test_an_error_in_the_midst() -> None:
    def write(*_: Any, streamer: Any, **__: Any) -> list[int]:
        ids = TOKENIZER("[true, fa")["input_ids"]
        streamer.put(torch.tensor([[1]]))
        streamer.put(torch.tensor(ids))
        raise RuntimeError("lost")

    made = constrain.extract_stream(model(), TOKENIZER, "Tea.", list[bool], generate=write)
    assert next(made) == [True]
    with pytest.raises(RuntimeError, match="lost"):
        next(made)


@pytest.mark.filterwarnings("ignore:a grammar cannot keep")
def test_a_further_attempt_begins_anew() -> None:
    texts = iter(["[1, 2]", "[3, 4]"])

    def refuse(given: list[int]) -> list[int]:
        if given[0] == 1:
            raise ValueError("not 1")
        return given

    def write(*_: Any, **__: Any) -> list[int]:
        return [*TOKENIZER(next(texts))["input_ids"], EOS]

    wanted = Annotated[list[int], AfterValidator(refuse)]
    made = constrain.extract_stream(model(), TOKENIZER, "a", wanted, generate=write, retries=1)
    assert list(made) == [[1, 2], [3, 4], [3, 4]]
    texts = iter(["[1, 2]"])
    made = constrain.extract_stream(model(), TOKENIZER, "a", wanted, generate=write)
    assert next(made) == [1, 2]
    with pytest.raises(ValidationError, match="not 1"):
        next(made)


def test_a_stop_text_is_not_told() -> None:
    def write(*_: Any, streamer: Any, **__: Any) -> list[int]:
        streamer.put(torch.tensor([[1]]))
        for token in TOKENIZER('["ab", "cd"]')["input_ids"]:
            streamer.put(torch.tensor([token]))
        raise AssertionError("goes on behind the stop text")

    made = constrain.extract_stream(
        model(), TOKENIZER, "a", list[str], generate=write, stop='d"]', partial_strings=True
    )
    values = list(made)
    assert values[-1] == ["ab", "c"]
    assert made.extraction is not None
    assert (made.extraction.text, made.extraction.complete) == ('["ab", "c', False)


@pytest.mark.parametrize("extract", [constrain.extract, samplers.extract])
def test_a_text_iterator_streamer(extract: Any) -> None:
    streamer = TextIteratorStreamer(TOKENIZER, skip_prompt=True, timeout=PATIENCE)
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(
            extract(model(), TOKENIZER, "Tea.", WORDS, streamer=streamer, **OPTIONS)
        )
    )
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text.removesuffix("<|end|>") == found[0].text


def test_streams_side_by_side_share_a_backend() -> None:
    backend = samplers.SpeculativeBackend(model(), TOKENIZER)
    alone = [samplers.extract(model(), TOKENIZER, text, WORDS, **OPTIONS) for text in "abc"]
    made = [
        samplers.extract_stream(model(), TOKENIZER, text, WORDS, backend=backend, **OPTIONS)
        for text in "abc"
    ]
    for one in made:
        next(one)
    assert [list(one)[-1] for one in made] == [one.value for one in alone]


# --- awaited --------------------------------------------------------------------------------------


@AWAITED
def test_it_is_extract(aextract: Any) -> None:
    found = asyncio.run(aextract(model(), CHAT, "Tea.", Order, max_new_tokens=40))
    assert found == constrain.extract(model(), CHAT, "Tea.", Order, max_new_tokens=40)
    with pytest.raises(BudgetError):
        asyncio.run(aextract(model(), CHAT, "Tea.", Order, max_new_tokens=3))
    with pytest.raises(TypeError, match="aextract needs a model"):
        asyncio.run(aextract(None, CHAT, "Tea.", Order))


@AWAITED
def test_one_after_the_other_while_others_run(aextract: Any) -> None:
    running: list[str] = []
    ticks: list[float] = []

    class Streamer:
        def __init__(self, name: str) -> None:
            self.name = name

        def put(self, value: torch.Tensor) -> None:
            running.append(self.name)

        def end(self) -> None:
            pass

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0)

    async def both() -> list[Any]:
        clock = asyncio.create_task(tick())
        found = await asyncio.gather(
            *(
                aextract(model(), TOKENIZER, name, WORDS, streamer=Streamer(name), **OPTIONS)
                for name in "abc"
            )
        )
        clock.cancel()
        return found

    found = asyncio.run(both())
    for name, one in zip("abc", found, strict=True):
        assert one == constrain.extract(model(), TOKENIZER, name, WORDS, **OPTIONS)
    assert running == sorted(running)
    assert len(ticks) > 3


@AWAITED
def test_cancelling_ends_it_at_the_next_token(aextract: Any) -> None:
    with counted() as whole:
        constrain.extract(model(), TOKENIZER, "a", WORDS, **OPTIONS)

    async def cancelled() -> None:
        with counted() as forwards:
            streamer = HeldBack()
            first = asyncio.create_task(
                aextract(model(), TOKENIZER, "a", WORDS, streamer=streamer, **OPTIONS)
            )
            waiting = asyncio.create_task(aextract(model(), TOKENIZER, "b", WORDS, **OPTIONS))
            while streamer.count < 5:
                await asyncio.sleep(0.01)
            waiting.cancel()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            with pytest.raises(asyncio.CancelledError):
                await waiting
            streamer.release()
            found = await aextract(model(), TOKENIZER, "c", Order, **OPTIONS)
            assert found.complete
            assert streamer.ends == 1
            assert len(forwards) <= len(whole) / 2 + 30

    asyncio.run(cancelled())


def test_beams_can_be_cancelled() -> None:
    found = asyncio.run(constrain.aextract(model(), TOKENIZER, "a", Order, num_beams=2, **OPTIONS))
    assert found == constrain.extract(model(), TOKENIZER, "a", Order, num_beams=2, **OPTIONS)

    async def cancelled() -> int:
        seen: list[int] = []

        def slow(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            seen.append(1)
            time.sleep(0.02)
            return scores

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await constrain.aextract(
                    model(), TOKENIZER, "a", WORDS, num_beams=2, logits_processor=[slow], **OPTIONS
                )
        await constrain.aextract(model(), TOKENIZER, "b", Order, **OPTIONS)
        return len(seen)

    assert asyncio.run(cancelled()) < 40


def test_a_worker_ends_with_its_model() -> None:
    def threads() -> int:
        return sum(t.name.startswith("gramma_") for t in threading.enumerate())

    before = threads()
    other = copy.deepcopy(model())
    asyncio.run(constrain.aextract(other, TOKENIZER, "a", Order, **OPTIONS))
    assert threads() == before + 1
    del other
    gc.collect()
    wait_until(lambda: threads() <= before)
    assert threads() == before


@BOTH
def test_without_drafts(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that the backend cannot serve are streamed all the same, with a callback beside."""

    def refuse(*_: Any, **__: Any) -> None:
        raise samplers.UnsupportedModel("no tree")

    monkeypatch.setattr("samplers.extraction.SpeculativeBackend", refuse)
    told: list[int] = []
    options: dict[str, Any] = {}
    if stream is samplers.extract_stream:
        options["on_tokens"] = lambda number, tokens: told.extend(tokens)
    made = stream(model(), TOKENIZER, "Tea.", WORDS, **OPTIONS, **options)
    values = list(made)
    assert len(values) > 5
    assert told == (made.extraction.tokens if options else [])


@BOTH
def test_grounded_values(stream: Any) -> None:
    wanted = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
    values = list(stream(model(), TOKENIZER, "Ada met Bob.", wanted, grounded=True, **OPTIONS))
    assert values[-1]["who"] in "Ada met Bob."


@BOTH
def test_what_was_taken_off_the_prompt_is_no_value(stream: Any) -> None:
    options: dict[str, Any] = {"prompt": lambda text, _: f'{text} "', "max_new_tokens": 80}
    wanted = Grammar.from_regex(r':\{"a": \[true, false\]\}') | Grammar.from_choices([': "a"'])
    made = stream(model(), TOKENIZER, "Tea.", wanted, heal=True, **options)
    values = list(made)
    assert made.extraction.prefix == b'"'
    assert made.extraction.complete
    assert values[-1] == made.extraction.text
    wanted = Grammar.from_choices(["[1, 2, 3]"])
    options["prompt"] = lambda text, _: f"{text} ->"
    made = stream(model(), TOKENIZER, "Tea.", wanted, heal=True, **options)
    assert list(made) == [[], [1], [1, 2], [1, 2, 3], [1, 2, 3]]
