"""Requests of transformers' continuous batching, each with a grammar of its own, against ``generate``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE
from transformers import GenerationConfig, LogitsProcessorList

from constrain import GrammarLogitsProcessor, TokenAutomaton
from grammars import Grammar, LimitExceeded, Limits
from grammars.errors import BudgetError

continuous = pytest.importorskip("constrain.huggingface.continuous")
ContinuousBatchingConfig = pytest.importorskip("transformers").ContinuousBatchingConfig

GRAMMARS: dict[str, Grammar] = {
    "choices": Grammar.from_choices(["true", "false", "null"]),
    "numbers": Grammar.from_regex(r"-?[0-9]{1,12}(\.[0-9]{1,6})?"),
    "letters": Grammar.from_regex("[a-dé]*"),
    "json": Grammar.from_json_schema(
        {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {"type": "boolean"}}},
            "required": ["a"],
            "additionalProperties": False,
        }
    ),
}


def automaton(name: str) -> TokenAutomaton:
    return TokenAutomaton(GRAMMARS[name], toys.vocabulary())


def config(**options: Any) -> GenerationConfig:
    return GenerationConfig(
        do_sample=False, eos_token_id=toys.EOS, pad_token_id=toys.PAD, **options
    )


def batching(blocks: int = 64, tokens: int = 32) -> Any:
    return ContinuousBatchingConfig(page_size=8, num_blocks=blocks, max_batch_tokens=tokens)


def alone(prompt: Sequence[int], name: str | None, budget: int) -> list[int]:
    """What ``generate`` writes for one prompt: the oracle."""
    processors = LogitsProcessorList()
    if name is not None:
        processors.append(GrammarLogitsProcessor(automaton(name), max_new_tokens=budget))
    ids = torch.tensor([list(prompt)])
    out = toys.model().generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=config(max_new_tokens=budget),
        logits_processor=processors,
    )
    return out[0, len(prompt) :].tolist()


def results(batch: Any, names: Sequence[str]) -> dict[str, Any]:
    """The results of requests, in whatever order they come."""
    found: dict[str, Any] = {}
    while len(found) < len(names):
        one = batch.result(timeout=PATIENCE)
        assert one is not None, "the batch has ended"
        if one.is_finished():
            found[one.request_id] = one
    return found


prompts = st.lists(st.integers(3, 47), min_size=1, max_size=20)
requests = st.tuples(prompts, st.sampled_from([None, *GRAMMARS]), st.integers(8, 30))


@settings(max_examples=4, deadline=None)
@given(asked=st.lists(requests, min_size=1, max_size=6), late=st.integers(0, 6))
def test_texts_are_those_of_generate_whoever_else_is_in_the_batch(
    asked: list[tuple[list[int], str | None, int]], late: int
) -> None:
    """Some requests join once others are done, budgets and grammars differ; greedy, in fp32."""
    names: list[str] = []
    with continuous.continuous_batching(
        toys.model(), generation_config=config(), continuous_batching_config=batching()
    ) as batch:
        found: dict[str, Any] = {}
        for part in (asked[late:], asked[:late]):
            new = [
                batch.add(ids, name and automaton(name), max_new_tokens=budget)
                for ids, name, budget in part
            ]
            names += new
            found |= results(batch, new)
    for name, (ids, grammar, budget) in zip(names, [*asked[late:], *asked[:late]], strict=True):
        assert found[name].error is None
        assert found[name].generated_tokens == alone(ids, grammar, budget)


def test_on_a_cpu_the_cache_takes_no_more_than_requests_need() -> None:
    """Not four fifths of the free memory, of which other processes would like some."""
    with continuous.continuous_batching(toys.model(), generation_config=config()) as batch:
        name = batch.add([5, 6, 7], automaton("numbers"), max_new_tokens=8)
        assert results(batch, [name])[name].error is None
        cache = batch.manager.batch_processor.cache
        blocks = [x for group in vars(cache).values() for x in _tensors(group)]
    assert 0 < sum(block.nbytes for block in blocks) < 100 << 20


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [x for one in value for x in _tensors(one)] if isinstance(value, (list, tuple)) else []


def test_requests_that_had_to_make_room_go_on_where_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a cache for some of the requests only, others are put off with the tokens they have."""
    own, put_off = continuous._new_tokens, []

    def spy(request: Any) -> list[int]:
        if request._true_initial_tokens:
            put_off.append(request.request_id)
        return own(request)  # type: ignore[no-any-return]

    monkeypatch.setattr(continuous, "_new_tokens", spy)
    asked = [([5 + i] * 12, name, 28) for i in range(4) for name in ("json", "numbers")]
    with continuous.continuous_batching(
        toys.model(),
        generation_config=config(),
        continuous_batching_config=batching(blocks=14, tokens=16),
    ) as batch:
        names = [batch.add(ids, automaton(n), max_new_tokens=b) for ids, n, b in asked]
        found = results(batch, names)
    assert put_off, "the cache was large enough for all"
    for name, (ids, grammar, budget) in zip(names, asked, strict=True):
        assert found[name].generated_tokens == alone(ids, grammar, budget)


def test_several_answers_to_one_prompt_are_all_of_the_grammar() -> None:
    chosen = GenerationConfig(
        do_sample=True, num_return_sequences=3, eos_token_id=toys.EOS, pad_token_id=toys.PAD
    )
    with continuous.continuous_batching(
        toys.model(), generation_config=chosen, continuous_batching_config=batching()
    ) as batch:
        name = batch.add([5, 6, 7], automaton("numbers"), max_new_tokens=24)
        answers = results(batch, [name, "", ""])
    assert len(answers) == 3
    for answer in answers.values():
        *tokens, end = answer.generated_tokens
        assert end == toys.EOS
        assert GRAMMARS["numbers"].accepts(b"".join(toys.TOKENS[t] or b"" for t in tokens))


def test_a_budget_that_is_too_small_is_refused_before_the_first_token() -> None:
    with continuous.continuous_batching(
        toys.model(), generation_config=config(), continuous_batching_config=batching()
    ) as batch:
        with pytest.raises(BudgetError, match="raise it to at least"):
            batch.add([5], automaton("json"), max_new_tokens=4)
        with pytest.raises(TypeError, match="TokenAutomaton"):
            batch.add([5], GRAMMARS["json"], max_new_tokens=40)
        with pytest.raises(ValueError, match="max_new_tokens=0"):
            batch.add([5], None, max_new_tokens=0)
        # asked of transformers itself, where nothing checks: it ends at once, and says why
        hasty = batch.manager.add_request(
            [5], max_new_tokens=4, eos_token_id=toys.EOS, grammar=automaton("json")
        )
        fine = batch.add([5], automaton("choices"), max_new_tokens=9)
        found = results(batch, [hasty, fine])
    assert found[hasty].error.startswith("BudgetError: no text of the grammar ends within the 4")
    assert found[hasty].generated_tokens == [toys.EOS]
    assert found[fine].error is None


def test_a_limit_of_one_request_ends_that_request_alone() -> None:
    ambiguous = TokenAutomaton(
        Grammar.from_gbnf(f'root ::= {"s " * 20}\ns ::= s s s | s s | "a" | "b"'),
        toys.vocabulary(),
        limits=Limits(max_items=60),
    )
    with continuous.continuous_batching(
        toys.model(), generation_config=config(), continuous_batching_config=batching()
    ) as batch:
        bad = batch.manager.add_request(
            [5, 6], max_new_tokens=60, eos_token_id=toys.EOS, grammar=ambiguous
        )
        good = batch.add([5, 6], automaton("letters"), max_new_tokens=60)
        found = results(batch, [bad, good])
    assert "LimitExceeded" in found[bad].error
    assert len(found[bad].generated_tokens) < 60
    assert found[good].error is None
    assert found[good].generated_tokens == alone([5, 6], "letters", 60)
    with pytest.raises(LimitExceeded):  # what it says is what the automaton says
        _walk(ambiguous, 60)


def _walk(made: TokenAutomaton, tokens: int) -> None:
    state = made.start
    letter = toys.TOKENS.index(b"a")
    for _ in range(tokens):
        state = made.advance(state, letter)
        made.mask(state)


def test_a_request_can_be_cancelled_and_results_be_streamed() -> None:
    with continuous.continuous_batching(
        toys.model(), generation_config=config(), continuous_batching_config=batching()
    ) as batch:
        gone = batch.add([5], automaton("letters"), max_new_tokens=400)
        batch.cancel(gone)
        seen = []
        name = batch.add([5, 6], automaton("numbers"), max_new_tokens=12, streaming=True)
        while not seen or not seen[-1].is_finished():
            one = batch.result(timeout=PATIENCE)
            if one.request_id == name:
                seen.append(copy.copy(one))
    lengths = [len(one.generated_tokens) for one in seen]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 1
    assert seen[-1].generated_tokens == alone([5, 6], "numbers", 12)


def test_the_model_is_left_as_it_was() -> None:
    model = toys.model()
    before = model._get_logits_processor
    attention = model.config._attn_implementation
    with continuous.continuous_batching(
        model, generation_config=config(), continuous_batching_config=batching()
    ) as batch:
        batch.add([5], None, max_new_tokens=2)
    assert model._get_logits_processor == before
    assert model.config._attn_implementation == attention
    with pytest.raises(RuntimeError, match="takes no more requests"):
        batch.add([5], None, max_new_tokens=2)
