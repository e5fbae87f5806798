"""Limits reached while texts are written: they end the row that reached them, and no other."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from toys import EOS, model, vocabulary

from constrain import GrammarLogitsProcessor, TokenAutomaton, allocate_bitmask, fill_masks
from grammars import Grammar, LimitExceeded, Limits

AMBIGUOUS = 'root ::= x*\nx ::= [^\\x00]+ | [a-z ]+ | [^0-9]* "." | x x\n'
"""Any text, in more and more readings."""
OBJECTS = Grammar.from_json_schema({"type": "object"})
BUDGET = 40


def ambiguous(items: int) -> TokenAutomaton:
    """An automaton that gives up texts of some readings."""
    grammar = Grammar.from_gbnf(AMBIGUOUS, limits=Limits(max_items=items))
    return TokenAutomaton(grammar, vocabulary())


def few_states(states: int) -> TokenAutomaton:
    """Objects with room for so many states."""
    return TokenAutomaton(OBJECTS, vocabulary(), Limits(max_states=states))


def written(automata: Any, prompts: torch.Tensor, **options: Any) -> tuple[list[list[int]], Any]:
    """Texts of ``generate`` and the processor that kept them within the grammars."""
    processor = GrammarLogitsProcessor(automata, max_new_tokens=BUDGET)
    out = model().generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        logits_processor=[processor],
        max_new_tokens=BUDGET,
        **{"do_sample": False, **options},
    )
    return out[:, prompts.shape[1] :].tolist(), processor


def until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens


def failing_items() -> int:
    """The largest number of readings that the toy model's text of AMBIGUOUS goes beyond."""
    for items in (60, 40, 20, 10, 5, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, processor = written([ambiguous(items), few_states(10_000)], PROMPTS)
        if 0 in processor.failures:
            return items
    raise AssertionError("the text reaches no limit")


PROMPTS = torch.tensor([[1, 5, 9, 12], [1, 7, 3, 20]])


def test_a_limit_ends_its_own_row() -> None:
    alone, _ = written(few_states(10_000), PROMPTS[1:])
    with pytest.warns(RuntimeWarning, match=r"row 0 ends here, incomplete: .*max_items"):
        texts, processor = written([ambiguous(failing_items()), few_states(10_000)], PROMPTS)
    assert set(processor.failures) == {0}
    assert processor.failures[0].limit == "max_items"
    assert until_end(texts[1]) == until_end(alone[0])
    assert OBJECTS.accepts(vocabulary().decode(until_end(texts[1])))


def test_failures_are_of_the_last_texts() -> None:
    processor = GrammarLogitsProcessor(
        [ambiguous(failing_items()), few_states(10_000)], max_new_tokens=BUDGET
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model().generate(PROMPTS, attention_mask=torch.ones_like(PROMPTS), logits_processor=[processor],
                         max_new_tokens=BUDGET, do_sample=False)  # fmt: skip
        assert processor.failures
        model().generate(PROMPTS, attention_mask=torch.ones_like(PROMPTS), logits_processor=[processor],
                         max_new_tokens=2, do_sample=False)  # fmt: skip
    assert not processor.failures


def test_nothing_is_left_to_go_on() -> None:
    items = failing_items()
    with pytest.raises(LimitExceeded, match="max_items"):
        written(ambiguous(items), PROMPTS[:1])
    with pytest.raises(LimitExceeded, match="max_items"):  # rows of one prompt may be beams
        written(
            [ambiguous(items), few_states(10_000)], PROMPTS, num_return_sequences=2, do_sample=True
        )


def test_masks_of_the_other_rows_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four rows of two automata fail; the others have what they have alone."""
    good, bad = few_states(10_000), ambiguous(1_000)
    wanted = good.mask(good.start)
    refused = LimitExceeded("max_items", 3, "this text")
    whole = TokenAutomaton._mask

    def mask(self: TokenAutomaton, state: int, left: int | None) -> Any:
        if self is bad:
            raise refused
        return whole(self, state, left)

    monkeypatch.setattr(TokenAutomaton, "_mask", mask)
    rows = allocate_bitmask(4, vocabulary().size).numpy()
    rows[:] = -1
    pairs = [(good, good.start), (bad, bad.start), (bad, bad.start), (good, good.start)]
    with pytest.raises(LimitExceeded) as caught:
        fill_masks(pairs, rows)
    assert list(caught.value.rows) == [1, 2]
    assert not rows[1:3].any()
    assert np.array_equal(rows[0], wanted)
    assert np.array_equal(rows[3], wanted)


@pytest.mark.parametrize("states", [30, 60])
def test_room_is_made_for_a_text(states: int) -> None:
    """A text with more states than there is room for, one at a time."""
    plain, _ = written(few_states(100_000), PROMPTS, do_sample=False)
    cramped = few_states(states)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts, processor = written(cramped, PROMPTS)
    assert texts == plain
    assert not processor.failures


@pytest.mark.parametrize("seed", range(4))
def test_holders_find_their_states_again(seed: int) -> None:
    """Processors of one automaton in turns, whose states are forgotten in between at random."""
    r = random.Random(seed)
    automaton = TokenAutomaton(OBJECTS, vocabulary())
    free = TokenAutomaton(OBJECTS, vocabulary())
    holders = [GrammarLogitsProcessor(automaton, max_new_tokens=BUDGET) for _ in range(3)]
    plain = [GrammarLogitsProcessor(free, max_new_tokens=BUDGET) for _ in range(3)]
    ids = [torch.tensor([[1, 5 + i, 9]]) for i in range(3)]
    generator = torch.Generator().manual_seed(seed)
    columns = vocabulary().size
    for _ in range(60):
        i = r.randrange(3)
        if ids[i].shape[1] - 3 >= BUDGET or int(ids[i][0, -1]) == EOS:
            continue
        if r.random() < 0.4:
            automaton.trim(())
        scores = torch.rand((1, columns), generator=generator)
        masked = holders[i](ids[i], scores)
        assert torch.equal(masked, plain[i](ids[i], scores))
        ids[i] = torch.cat([ids[i], masked.argmax(-1, keepdim=True)], 1)
