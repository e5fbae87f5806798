"""What adapters of serving engines share: texts in automata, against a list of tokens read anew."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import engine_toys as toys
import numpy as np
import pytest
from engine_toys import EOS, REQUESTS, SIZE, STOP, WORDS, Reference, tokens_for
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from constrain.engines import automata as engine
from constrain.engines.automata import Automata, Shared, Walk
from grammars import GrammarError, Limits
from grammars.requests import GrammarRequest

ASKED = {name: GrammarRequest.of(asked) for name, asked in REQUESTS.items()}


def made(limits: Limits | None = None) -> Automata:
    return Automata(toys.tokenizer(), SIZE, limits=limits or Limits())


SHARED = made()


def mask_of(walk: Walk, tokens_left: int | None = None) -> list[int]:
    row = np.full(WORDS, 7, np.int32)
    walk.fill(row, tokens_left)
    return row.tolist()


def replay(data: st.DataObject, kind: type[Walk]) -> None:
    """Random texts of one grammar side by side, each compared with its reference after every step."""
    name = data.draw(st.sampled_from(sorted(REQUESTS)))
    ends = data.draw(st.sampled_from([(EOS,), (EOS, STOP), (EOS, 40)]))
    shared = SHARED.walk(ASKED[name], ends)._shared
    texts: list[tuple[Walk, Reference]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        what = data.draw(st.sampled_from(["new", "accept", "accept", "validate", "back", "trim"]))
        if what == "new" or not texts:
            walk = kind(shared)
            shared._walks.add(walk)
            texts.append((walk, Reference(REQUESTS[name], ends)))
            continue
        walk, reference = data.draw(st.sampled_from(texts))
        if what == "accept":
            tokens = tokens_for(data.draw, reference)
            assert walk.accept(tokens) == reference.accept(tokens)
        elif what == "validate":
            tokens = tokens_for(data.draw, reference)
            assert walk.allowed(tokens) == reference.allowed(tokens)
        elif what == "back":
            count = data.draw(st.integers(0, len(reference.tokens)))
            walk.rollback(count)
            del reference.tokens[len(reference.tokens) - count :]
        else:
            shared.trim()
        for walk, reference in texts:
            assert walk.taken == len(reference.tokens)
            assert walk.finished == reference.finished
            assert mask_of(walk) == reference.mask().tolist()


@given(st.data())
@settings(max_examples=150)
def test_texts_side_by_side(data: st.DataObject) -> None:
    replay(data, Walk)


class TakesOneBackTooFew(Walk):
    def rollback(self, count: int) -> None:
        super().rollback(max(0, count - 1))


class KeepsWhatItValidates(Walk):
    def allowed(self, tokens: Any) -> int:
        return self.accept(tokens)


class TakesAllOrNothing(Walk):
    def accept(self, tokens: Any) -> int:
        return super().accept(tokens) if self.allowed(tokens) == len(tokens) else 0


@pytest.mark.parametrize("kind", [TakesOneBackTooFew, KeepsWhatItValidates, TakesAllOrNothing])
def test_the_replay_sees_planted_errors(kind: type[Walk]) -> None:
    @given(st.data())
    @settings(max_examples=300, phases=[Phase.generate], database=None)
    def look(data: st.DataObject) -> None:
        replay(data, kind)

    with pytest.raises(AssertionError):
        look()


@given(st.data())
def test_masks_within_a_budget(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(REQUESTS)))
    walk, reference = SHARED.walk(ASKED[name]), Reference(REQUESTS[name])
    tokens = tokens_for(data.draw, reference)
    assert walk.accept(tokens) == reference.accept(tokens)
    left = data.draw(st.integers(0, 12))
    assert mask_of(walk, left) == reference.mask(left).tolist()


def test_one_automaton_for_equal_requests() -> None:
    mine = made()
    one, same = mine.walk(ASKED["regex"]), mine.walk(GrammarRequest.of(REQUESTS["regex"]))
    assert one.automaton is same.automaton
    assert mine.walk(ASKED["regex"], {EOS}).automaton is one.automaton
    assert mine.walk(ASKED["regex"], {EOS, STOP}).automaton is not one.automaton
    assert mine.walk(ASKED["choice"]).automaton is not one.automaton


def test_the_least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_AUTOMATA", 2)
    mine = made()
    regex = mine.walk(ASKED["regex"])
    choice = weakref.ref(mine.walk(ASKED["choice"]).automaton)
    assert mine.walk(ASKED["regex"]).automaton is regex.automaton
    mine.walk(ASKED["ebnf"])
    gc.collect()
    assert choice() is None
    assert mine.walk(ASKED["regex"]).automaton is regex.automaton


def test_a_text_goes_on_when_its_automaton_is_no_longer_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "MOST_AUTOMATA", 1)
    mine = made()
    walk = mine.walk(ASKED["choice"])
    mine.walk(ASKED["regex"])
    yes = toys.tokenizer().convert_tokens_to_ids("yes")
    assert walk.accept([yes, EOS]) == 2
    assert walk.finished


def test_vocabularies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_VOCABULARIES", 2)
    mine = made()
    for stop in range(30, 36):
        mine.walk(ASKED["choice"], {EOS, stop})
    assert len(mine._vocabularies) == 2


def test_new_texts_make_room_where_states_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_BYTES", 0)
    mine = made()
    walk, reference = mine.walk(ASKED["json"]), Reference(REQUESTS["json"])
    for _ in range(12):
        token = reference.choices()[-1]
        assert walk.accept([token]) == reference.accept([token]) == 1
        other = mine.walk(ASKED["json"])
        assert other.automaton.state_count < 30
        assert mask_of(walk) == reference.mask().tolist()
    walk.rollback(7)
    del reference.tokens[-7:]
    assert mask_of(walk) == reference.mask().tolist()


NESTED = GrammarRequest.of({"grammar": 'root ::= "a" root? "c" | "b" root? "d"'})
FEW = Limits(max_states=500)


def nested(length: int, seed: int) -> list[int]:
    letters = random.Random(seed).choices("ab", k=length)
    ids: list[int] = toys.tokenizer().convert_tokens_to_ids(letters)
    return ids


def test_a_text_that_fills_the_room_for_states_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    original = Shared.trim

    def counted(self: Shared) -> None:
        trimmed.append(self.automaton.state_count)
        original(self)

    monkeypatch.setattr(Shared, "trim", counted)
    walk = made(FEW).walk(NESTED)
    for seed in range(60):  # thousands of states are met, and 201 needed at a time
        assert walk.accept(nested(200, seed)) == 200
        walk.rollback(200)
    assert walk.failure is None
    assert trimmed


def test_a_limit_that_stops_a_text_for_good_is_told() -> None:
    walk = made(FEW).walk(NESTED)
    taken = walk.accept(nested(20_000, 0))
    assert 500 < taken < 20_000
    assert walk.failure is not None
    assert walk.failure.limit == "max_states"
    assert mask_of(walk) == walk.automaton.mask(walk.automaton.FINISHED).tolist()
    assert walk.accept(nested(1, 0)) == 0
    walk.reset()
    assert walk.accept(nested(5, 1)) == 5


@pytest.mark.parametrize("count", [-1, 3])
def test_tokens_that_were_not_taken_cannot_be_taken_back(count: int) -> None:
    walk = SHARED.walk(ASKED["regex"])
    assert walk.accept([toys.tokenizer().convert_tokens_to_ids("ab")] * 2) == 2
    with pytest.raises(ValueError, match=f"2 tokens were taken, so {count} cannot"):
        walk.rollback(count)


def test_a_grammar_that_cannot_be_made_fails_each_time() -> None:
    mine = made()
    for asked in ({"regex": "A"}, {"regex": "a", "gbnf": None}):
        request = GrammarRequest.of(asked)
        if asked["regex"] == "A":  # no token has a capital letter
            for _ in range(2):
                with pytest.raises(GrammarError):
                    mine.walk(request)
        else:
            mine.walk(request)


def test_several_threads_compile_a_grammar_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made_of: list[GrammarRequest] = []
    original: Callable[..., Any] = GrammarRequest.grammar

    def counted(self: GrammarRequest, **options: Any) -> Any:
        made_of.append(self)
        return original(self, **options)

    monkeypatch.setattr(GrammarRequest, "grammar", counted)
    mine = made()
    walks: list[Walk] = []
    threads = [
        threading.Thread(target=lambda: walks.append(mine.walk(ASKED["json"]))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(walks) == 8
    assert len({id(walk.automaton) for walk in walks}) == len(made_of) == 1


def test_an_ordinary_token_may_end_texts() -> None:
    no = toys.tokenizer().convert_tokens_to_ids("no")
    walk = SHARED.walk(ASKED["choice"], {EOS, no})
    assert no not in walk.automaton.allowed_tokens(walk.automaton.start)
    yes = toys.tokenizer().convert_tokens_to_ids("yes")
    assert walk.accept([yes, no]) == 2
    assert walk.finished
