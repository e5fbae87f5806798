"""The logits processor inside ``generate``: every way of generating gives whole texts."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from toys import BOS, EOS, PAD, model, vocabulary

from constrain import BudgetError, GrammarLogitsProcessor, TokenAutomaton, Vocabulary
from grammars import Grammar

SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
     "additionalProperties": False},
    {"type": "array", "items": {"enum": [True, None, 12]}, "minItems": 1},
    {"type": "string", "maxLength": 6},
    {"type": "number"},
]  # fmt: skip
GRAMMARS = [Grammar.from_json_schema(schema) for schema in SCHEMAS]
BUDGET = 24

Ids = torch.Tensor


def automaton(index: int) -> TokenAutomaton:
    return TokenAutomaton(GRAMMARS[index], vocabulary())


def prompts(*lengths: int) -> tuple[Ids, Ids]:
    """Left-padded random prompts and their attention mask."""
    generator = torch.Generator().manual_seed(len(lengths))
    width = max(lengths)
    ids = torch.full((len(lengths), width), PAD)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, width - length :] = torch.randint(3, 40, (length,), generator=generator)
        ids[row, width - length] = BOS
        mask[row, width - length :] = 1
    return ids, mask


def run(
    processor: GrammarLogitsProcessor, inputs: tuple[Ids, Ids], **options: Any
) -> list[list[int]]:
    ids, mask = inputs
    options = {"max_new_tokens": BUDGET, "do_sample": True, "top_k": 0} | options
    out = model().generate(ids, attention_mask=mask, logits_processor=[processor], **options)
    return out[:, ids.shape[1] :].tolist()


def check(grammar: Grammar, tokens: list[int]) -> None:
    """A whole text, its EOS, and nothing but padding behind."""
    end = tokens.index(EOS)
    assert grammar.accepts(vocabulary().decode(tokens[:end])), vocabulary().decode(tokens)
    assert set(tokens[end + 1 :]) <= {PAD, EOS}


@pytest.mark.parametrize("index", range(len(GRAMMARS)))
@pytest.mark.parametrize("options", [
    {},
    {"do_sample": False},
    {"num_return_sequences": 3},
    {"num_beams": 4, "do_sample": False},
    {"num_beams": 4},
    {"num_beams": 4, "num_return_sequences": 3, "do_sample": False},
    {"temperature": 3.0},
], ids=str)  # fmt: skip
def test_ways_of_generating(index: int, options: dict[str, Any]) -> None:
    torch.manual_seed(index)
    processor = GrammarLogitsProcessor(automaton(index), max_new_tokens=BUDGET)
    for _ in range(3):  # the same object again and again
        for tokens in run(processor, prompts(5, 9), **options):
            check(GRAMMARS[index], tokens)


@pytest.mark.parametrize("options", [
    {"prompt_lookup_num_tokens": 4},
    {"prompt_lookup_num_tokens": 4, "do_sample": False},
    {"assistant": True},
    {"assistant": True, "do_sample": False},
], ids=str)  # fmt: skip
def test_lengths_that_go_back(options: dict[str, Any]) -> None:
    """Assisted decoding scores several lengths in a row and takes some of them back."""
    if options.pop("assistant", False):
        options["assistant_model"] = model(seed=1)
    for index, grammar in enumerate(GRAMMARS):
        torch.manual_seed(index)
        processor = GrammarLogitsProcessor(automaton(index), max_new_tokens=BUDGET)
        for length in (4, 9, 9):
            for tokens in run(processor, prompts(length), **options):
                check(grammar, tokens)


def test_assisted_greedy_equals_greedy() -> None:
    for index in range(len(GRAMMARS)):
        processor = GrammarLogitsProcessor(automaton(index), max_new_tokens=BUDGET)
        plain = run(processor, prompts(9), do_sample=False)
        looked_up = run(processor, prompts(9), do_sample=False, prompt_lookup_num_tokens=3)
        assert plain == looked_up


def test_one_automaton_for_each_prompt() -> None:
    automata = [automaton(i) for i in range(len(GRAMMARS))]
    processor = GrammarLogitsProcessor(automata, max_new_tokens=BUDGET)
    inputs = prompts(3, 8, 5, 6)
    for options in ({}, {"num_beams": 4, "do_sample": False}, {"num_return_sequences": 2}):
        rows = run(processor, inputs, **options)
        each = len(rows) // len(automata)
        for row, tokens in enumerate(rows):
            check(GRAMMARS[row // each], tokens)


@pytest.mark.parametrize("budget", [4, 5, 8, 16])
def test_every_budget(budget: int) -> None:
    """Texts are whole however little room there is."""
    torch.manual_seed(budget)
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=budget)
    for tokens in run(processor, prompts(*[4] * 16), max_new_tokens=budget):
        check(GRAMMARS[1], tokens)


def test_a_budget_too_small_is_refused_before_the_first_token() -> None:
    processor = GrammarLogitsProcessor(automaton(0), max_new_tokens=3)
    with pytest.raises(BudgetError, match="at least") as caught:
        run(processor, prompts(4))
    assert caught.value.needed > caught.value.available == 3


def test_without_a_budget_it_warns_once() -> None:
    processor = GrammarLogitsProcessor(automaton(1))
    with pytest.warns(UserWarning, match="max_new_tokens"):
        run(processor, prompts(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(processor, prompts(4))


def scores(rows: int = 1, width: int = 64) -> Ids:
    return torch.zeros(rows, width)


def allowed(out: Ids, row: int = 0) -> set[int]:
    return set(torch.nonzero(torch.isfinite(out[row])).flatten().tolist())


def test_a_new_prompt_is_told_from_a_continuation_by_its_tokens() -> None:
    machine = automaton(0)
    processor = GrammarLogitsProcessor(machine, max_new_tokens=BUDGET)
    start = set(machine.allowed_tokens(machine.start).tolist())
    first = torch.tensor([[BOS, 7, 8]])
    brace = vocabulary().texts.index(b"{")
    assert allowed(processor(first, scores())) == start
    inside = allowed(processor(torch.tensor([[BOS, 7, 8, brace]]), scores()))
    assert inside == set(machine.allowed_tokens(machine.advance(machine.start, brace)).tolist())
    # as long as a continuation would be, but another prompt
    assert allowed(processor(torch.tensor([[BOS, 7, 9, brace, brace]]), scores())) == start
    # the old prompt with more behind it than one token is a new prompt too
    processor(first, scores())
    assert allowed(processor(torch.tensor([[BOS, 7, 8, brace, 9, 9]]), scores())) == start
    # and where tokens cannot tell, reset does
    processor.reset()
    assert allowed(processor(torch.tensor([[BOS, 7, 8, brace]]), scores())) == start


def test_back_to_the_prompt_is_the_start_again() -> None:
    machine = automaton(2)
    processor = GrammarLogitsProcessor(machine, max_new_tokens=BUDGET)
    first = torch.tensor([[BOS, 7]])
    before = allowed(processor(first, scores()))
    quote = vocabulary().texts.index(b'"')
    processor(torch.tensor([[BOS, 7, quote]]), scores())
    assert allowed(processor(first, scores())) == before


def test_rows_behind_their_end_keep_a_finite_logit() -> None:
    processor = GrammarLogitsProcessor(automaton(3), max_new_tokens=BUDGET)
    processor(torch.tensor([[BOS]]), scores())
    one = vocabulary().texts.index(b"1")
    ids = [BOS]
    for token in (one, EOS, PAD, PAD):
        ids.append(token)
        out = processor(torch.tensor([ids]), scores())
        assert allowed(out)
    assert allowed(out) == {EOS}


def test_a_token_beside_the_grammar_leaves_only_the_end() -> None:
    processor = GrammarLogitsProcessor(automaton(3), max_new_tokens=BUDGET)
    processor(torch.tensor([[BOS]]), scores())
    brace = vocabulary().texts.index(b"{")
    assert allowed(processor(torch.tensor([[BOS, brace]]), scores())) == {EOS}


def test_another_processor_ruled_out_everything() -> None:
    machine = automaton(0)
    processor = GrammarLogitsProcessor(machine, max_new_tokens=BUDGET)
    nothing = torch.full((1, 64), float("-inf"))
    nothing[0, 40] = 0.0  # a token that cannot begin an object
    out = processor(torch.tensor([[BOS, 5]]), nothing)
    assert allowed(out) == set(machine.allowed_tokens(machine.start, BUDGET).tolist())


def test_scores_are_not_changed_in_place() -> None:
    given = scores()
    GrammarLogitsProcessor(automaton(0), max_new_tokens=BUDGET)(torch.tensor([[BOS]]), given)
    assert torch.isfinite(given).all()


def test_several_eos_ids_and_wide_logits() -> None:
    two = Vocabulary.from_tokens([*vocabulary().texts[:-1], b"x"], [EOS, PAD])
    grammar = Grammar.from_choices(["1"])
    machine = TokenAutomaton(grammar, two)
    processor = GrammarLogitsProcessor(machine, max_new_tokens=4)
    one = two.texts.index(b"1")
    assert allowed(processor(torch.tensor([[BOS]]), scores(width=200))) == {one}
    assert allowed(processor(torch.tensor([[BOS, one]]), scores(width=200))) == {EOS, PAD}


def test_narrow_logits_are_refused() -> None:
    processor = GrammarLogitsProcessor(automaton(0), max_new_tokens=BUDGET)
    with pytest.raises(ValueError, match="10 columns"):
        processor(torch.tensor([[BOS]]), scores(width=10))


def test_rows_that_cannot_be_shared_out() -> None:
    processor = GrammarLogitsProcessor([automaton(0), automaton(1)], max_new_tokens=BUDGET)
    with pytest.raises(ValueError, match="3 rows"):
        processor(torch.tensor([[BOS]] * 3), scores(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    processor = GrammarLogitsProcessor(automaton(0), max_new_tokens=BUDGET)
    out = processor(torch.tensor([[BOS]]), scores().to(dtype))
    assert out.dtype == dtype
    assert allowed(out)
