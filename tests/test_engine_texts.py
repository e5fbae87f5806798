"""Texts of requests with a grammar in ``extra_args``, against a list of tokens read from the start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import engine_toys as toys
import numpy as np
import pytest
from engine_toys import EOS, REQUESTS, SIZE, WORDS, Reference, tokens_for
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from constrain.engines.automata import Automata
from constrain.engines.texts import Asked, Text
from grammars import GrammarError
from grammars.requests import GrammarRequest

AUTOMATA = Automata(toys.tokenizer(), SIZE)


def params(extra: Any, max_tokens: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(extra_args=extra, max_tokens=max_tokens)


def mask_of(text: Text) -> list[int]:
    row = np.full(WORDS, 7, np.int32)
    text.fill(row)
    return row.tolist()


def replay(data: st.DataObject, kind: type[Text]) -> None:
    name = data.draw(st.sampled_from(sorted(REQUESTS)))
    budget = data.draw(st.sampled_from([None, 3, 12]))
    asked = Asked(GrammarRequest.of(REQUESTS[name]), budget)
    text, reference = kind(AUTOMATA, asked, {EOS}), Reference(REQUESTS[name])
    fits = reference.automaton.min_tokens(reference.automaton.start)[0] < (budget or 0)
    written: list[int] = []
    for _ in range(data.draw(st.integers(1, 8))):
        if (
            data.draw(st.integers(0, 3)) == 0
        ):  # some are taken back, and others may be there instead
            count = data.draw(st.integers(0, len(written)))
            del written[len(written) - count :]
        reference.tokens = list(written)
        if reference.state() == reference.automaton.DEAD:
            reference.tokens = []
        written += tokens_for(data.draw, reference)
        text.follow(written)
        reference.tokens = []
        taken = reference.accept(written)
        assert text.seen == written
        if taken < len(written) and not reference.finished:
            assert mask_of(text) == AUTOMATA.end_row({EOS}).tolist()
            continue
        expected = reference.mask(budget - taken if budget is not None and fits else None)
        if not expected.any():
            expected = reference.mask()
        assert mask_of(text) == expected.tolist()


@given(st.data())
@settings(max_examples=200)
def test_a_text_follows_what_is_written(data: st.DataObject) -> None:
    replay(data, Text)


class LooksAtLengthsAlone(Text):
    def follow(self, written: Any) -> None:
        super().follow([*self.seen, *written[len(self.seen) :]])


class NeverRecovers(Text):
    def follow(self, written: Any) -> None:
        if not self._is_lost:
            super().follow(written)
        self.seen = list(written)


@pytest.mark.parametrize("kind", [LooksAtLengthsAlone, NeverRecovers])
def test_the_replay_sees_planted_errors(kind: type[Text]) -> None:
    @given(st.data())
    @settings(max_examples=400, phases=[Phase.generate], database=None)
    def look(data: st.DataObject) -> None:
        replay(data, kind)

    with pytest.raises(AssertionError):
        look()


@given(st.data())
def test_drafts_are_taken_back(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(REQUESTS)))
    text = Text(AUTOMATA, Asked(GrammarRequest.of(REQUESTS[name]), None), {EOS})
    reference = Reference(REQUESTS[name])
    written = tokens_for(data.draw, reference)
    del written[reference.allowed(written) :]
    text.follow(written)
    reference.accept(written)
    draft = tokens_for(data.draw, reference)
    good = reference.allowed(draft)
    assert [text.draft(token) for token in draft[: good + 1]] == [True] * good + [False] * (
        len(draft) > good
    )
    text.follow(written)
    assert mask_of(text) == reference.mask().tolist()


def test_what_a_request_asks_for() -> None:
    extra = {"gramma": {"regex": "a"}}
    assert Asked.of(params(None)) is None
    assert Asked.of(params({"other": 1})) is None
    regex = GrammarRequest.of({"regex": "a"})
    assert Asked.of(params(extra)) == Asked(regex, None)
    assert Asked.of(params(extra, 9)) == Asked(regex, 9)
    assert Asked.of(params({"gramma": {"regex": "a", "max_tokens": 3}}, 9)) == Asked(regex, 3)
    assert Asked.of(params({"gramma": '{"regex": "a", "max_tokens": 3}'}, 9)) == Asked(regex, 3)
    for budget in (0, True, "3", 10):
        with pytest.raises(GrammarError, match="at /max_tokens: "):
            Asked.of(params({"gramma": {"regex": "a", "max_tokens": budget}}, 9))
    with pytest.raises(GrammarError, match="asked for by an object"):
        Asked.of(params({"gramma": 3}))
    with pytest.raises(GrammarError, match="line 1, column 2: what is asked for is not JSON"):
        Asked.of(params({"gramma": "{'regex': 'a'}"}))
    with pytest.raises(GrammarError, match="nested too deeply"):
        Asked.of(params({"gramma": "[" * 200_000}))
