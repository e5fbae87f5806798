"""The logits processor inside ``generate``: every way of generating gives whole texts."""

from __future__ import annotations

import copy
import threading
import warnings
from typing import Any

import pytest
import torch
from toys import BOS, EOS, PAD, model, vocabulary
from transformers import LogitsProcessor, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from constrain import BudgetError, GrammarLogitsProcessor, TokenAutomaton, Vocabulary, load_model
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
    one = vocabulary().texts.index(b"1")
    ids = [[BOS], [BOS]]
    processor(torch.tensor(ids), scores(2))
    for token in (one, EOS, PAD, PAD):
        ids = [[*ids[0], token], [*ids[1], one]]
        out = processor(torch.tensor(ids), scores(2))
        assert allowed(out)
        assert allowed(out, 1) > {EOS}
    assert allowed(out) == {EOS}


def test_a_token_beside_the_grammar_leaves_only_the_end() -> None:
    """Outside generate it may as well be a new prompt, so that is said."""
    processor = GrammarLogitsProcessor(automaton(3), max_new_tokens=BUDGET)
    brace = vocabulary().texts.index(b"{")
    processor(torch.tensor([[BOS]]), scores())
    with pytest.warns(UserWarning, match=r"token 3.*reset\(\)"):
        out = processor(torch.tensor([[BOS, brace]]), scores())
    assert allowed(out) == {EOS}
    with processor.generation(), warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(torch.tensor([[BOS]]), scores())
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


# --- a new prompt, or a text that goes on? --------------------------------------------------------


def at(processor: GrammarLogitsProcessor, *rows: list[int], behind: list[int]) -> bool:
    """Whether a call's masks are those behind a text of the grammar, in every row."""
    machine = processor.automata[0]
    state = machine.start
    for token in behind:
        state = machine.advance(state, token)
    budget = processor.max_new_tokens
    left = None if budget is None else budget - len(behind)
    expected = set(machine.allowed_tokens(state, left).tolist())
    out = processor(torch.tensor(rows), scores(len(rows)))
    return all(allowed(out, row) == expected for row in range(len(rows)))


def tokens(*pieces: str) -> list[int]:
    return [vocabulary().texts.index(piece.encode()) for piece in pieces]


P = [BOS, 7, 8]
A, B, OPEN, TRUE, NULL = tokens("1", "2", "[", "true", "null")
COMMA, CLOSE, COLON = tokens(",", "]", ":")

# the calls before, the call, and the text behind which its mask is; or the exception it ends with
OUTSIDE: list[tuple[str, list[list[list[int]]], list[list[int]], Any]] = [
    ("the first call", [], [P], []),
    ("one token more", [[P]], [[*P, OPEN]], [OPEN]),
    ("one token more, again", [[P], [[*P, OPEN]]], [[*P, OPEN, TRUE]], [OPEN, TRUE]),
    ("the prompt again", [[P], [[*P, OPEN]]], [P], []),
    ("another prompt, as long as a text that goes on", [[P]], [[BOS, 7, 9, OPEN]], []),
    ("another prompt, shorter", [[P], [[*P, OPEN]]], [[BOS, 9]], []),
    ("a part of the prompt", [[P], [[*P, OPEN]]], [P[:2]], []),
    ("several tokens more, which the grammar does not allow", [[P]], [[*P, OPEN, 9, 9]], []),
    ("the whole text, its end and a new question",
     [[P], [[*P, OPEN]], [[*P, OPEN, TRUE]], [[*P, OPEN, TRUE, CLOSE]]],
     [[*P, OPEN, TRUE, CLOSE, EOS, 7, 8]], []),
    ("the whole text and its end",
     [[P], [[*P, OPEN]], [[*P, OPEN, TRUE]], [[*P, OPEN, TRUE, CLOSE]]],
     [[*P, OPEN, TRUE, CLOSE, EOS]], []),
    ("another first token, which the grammar does not allow",
     [[P], [[*P, OPEN]]], [[*P, COLON]], []),
    ("the same text again", [[P], [[*P, OPEN]]], [[*P, OPEN]], RuntimeError),
    ("the prompt and its first token",
     [[P], [[*P, OPEN]], [[*P, OPEN, TRUE]]], [[*P, OPEN]], RuntimeError),
    ("another last token",
     [[P], [[*P, OPEN]], [[*P, OPEN, TRUE]]], [[*P, OPEN, NULL]], RuntimeError),
    ("several tokens more, which the grammar allows",
     [[P]], [[*P, OPEN, TRUE]], RuntimeError),
    ("fewer rows", [[P, P], [[*P, OPEN]] * 2], [[*P, OPEN, TRUE]], RuntimeError),
    ("more rows", [[P], [[*P, OPEN]]], [[*P, OPEN, TRUE]] * 2, RuntimeError),
    ("fewer prompts", [[P, P], [[*P, OPEN]] * 2], [P], []),
    ("one row goes on, the other does not",
     [[P, P], [[*P, OPEN]] * 2], [[*P, OPEN, TRUE], [BOS, 9, 9, OPEN, TRUE]], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "before", "call", "expected"), OUTSIDE, ids=lambda x: x if isinstance(x, str) else ""
)
@pytest.mark.parametrize("budget", [None, BUDGET])
@pytest.mark.filterwarnings("ignore:GrammarLogitsProcessor has no max_new_tokens")
def test_calls_outside_generate(
    name: str, before: list[Any], call: list[list[int]], expected: Any, budget: int | None
) -> None:
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=budget)
    for rows in before:
        processor(torch.tensor(rows), scores(len(rows)))
    if expected is not RuntimeError:
        assert at(processor, *call, behind=expected)
        return
    for _ in range(2):  # nothing is changed by a call that is refused
        with pytest.raises(RuntimeError, match=r"reset\(\).*generation\(\)"):
            processor(torch.tensor(call), scores(len(call)))
    processor.reset()
    assert at(processor, *call, behind=[])
    # in one generation all of them are texts that go on or back
    with processor.generation():
        for rows in before:
            processor(torch.tensor(rows), scores(len(rows)))
        assert at(processor, *call, behind=call[0][len(P) :])


def test_the_budget_spent_is_the_end() -> None:
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=4)
    text = [OPEN, TRUE, CLOSE]
    for end in range(len(text) + 1):
        assert at(processor, [*P, *text[:end]], behind=text[:end])
    assert at(processor, [*P, *text, EOS], behind=[])
    processor.reset()
    for end in range(len(text) + 1):
        processor(torch.tensor([[*P, *text[:end]]]), scores())
    assert at(processor, [*P, *text, PAD], behind=[])


def test_a_draft_that_the_budget_does_not_allow() -> None:
    """Drafts know nothing of the budget: behind one that cannot be finished only the end is left."""
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=5)
    text = [OPEN, TRUE, COMMA]  # "[true]" and its end take four, "[true,true]" six
    with processor.generation(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for end in range(3):
            processor(torch.tensor([[*P, *text[:end]]]), scores())
        assert allowed(processor(torch.tensor([[*P, *text]]), scores())) == {EOS}
        assert at(processor, [*P, OPEN, TRUE, CLOSE], behind=[OPEN, TRUE, CLOSE])
    for end in range(3):
        processor(torch.tensor([[*P, *text[:end]]]), scores())
    with pytest.warns(UserWarning, match="or the budget"):
        assert allowed(processor(torch.tensor([[*P, *text]]), scores())) == {EOS}


def test_groups_that_take_turns() -> None:
    """As group beam search calls: rows of one group, then of the other, in one generation."""
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    first, second = [OPEN, TRUE, COMMA, NULL], [OPEN, NULL, COMMA, TRUE]
    with processor.generation():
        for end in range(len(first) + 1):
            for text in (first, second):
                assert at(processor, [*P, *text[:end]], [*P, *text[:end]], behind=text[:end])


def test_memory_that_is_written_again() -> None:
    """Ids that are views of one growing buffer, as loops with static shapes have them."""
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    buffer = torch.tensor([[*P, OPEN, TRUE]])
    with processor.generation():
        for end in range(len(P), len(P) + 3):
            processor(buffer[:, :end], scores())
        buffer[0, -1] = COLON
        assert allowed(processor(buffer, scores())) == {EOS}
        buffer[0, -1] = NULL
        assert at(processor, buffer[0].tolist(), behind=[OPEN, NULL])


def test_a_budget_error_changes_nothing() -> None:
    processor = GrammarLogitsProcessor(automaton(0), max_new_tokens=3)
    for prompt in (P, P[:2], P):
        with pytest.raises(BudgetError):
            processor(torch.tensor([prompt]), scores())


def test_an_empty_prompt() -> None:
    """``generate`` hands on no ids at all for a prompt of embeddings."""
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    for _ in range(2):
        allowed(processor(torch.zeros(1, 0, dtype=torch.long), scores()))
        assert at(processor, [OPEN], behind=[OPEN])


OPTIONS: list[dict[str, Any]] = [
    {},
    {"do_sample": False},
    {"num_beams": 3, "do_sample": False},
    {"num_beams": 2, "num_return_sequences": 2},
    {"prompt_lookup_num_tokens": 3},
    {"prompt_lookup_num_tokens": 3, "do_sample": False},
    {"assistant": True},
    {"assistant": True, "do_sample": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("index", range(len(GRAMMARS)))
def test_prompts_that_hold_the_text_before(index: int, options: dict[str, Any]) -> None:
    """Every part of what was written, whole or cut off, as the next prompt of the same object."""
    options = dict(options)
    if options.pop("assistant", False):
        options["assistant_model"] = model(seed=1)
    torch.manual_seed(index)
    processor = GrammarLogitsProcessor(automaton(index), max_new_tokens=BUDGET)
    ids, mask = prompts(6)
    written = run(processor, (ids, mask), **options)[0]
    for added in (1, 2, len(written) - 1, len(written)):
        prompt = torch.tensor([[*ids[0].tolist(), *written[:added]]])
        # a text that generate's own limit cuts off is no reason to go on with it
        run(processor, (prompt, torch.ones_like(prompt)), **options | {"max_new_tokens": 2})
        for new in run(processor, (prompt, torch.ones_like(prompt)), **options):
            # transformers 4 looks nothing up, and writes nothing, behind a prompt that ends with EOS
            looks_up = "prompt_lookup_num_tokens" in options and written[added - 1] == EOS
            if new or not looks_up:
                check(GRAMMARS[index], new)


def test_what_comes_out_goes_in_again() -> None:
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    ids, _ = prompts(6)
    for _ in range(4):
        new = run(processor, (ids, torch.ones_like(ids)), do_sample=False)
        check(GRAMMARS[1], new[0])
        ids = torch.cat([ids, torch.tensor(new)], dim=-1)


def test_stopping_early_is_no_reason_to_go_on() -> None:
    class Stop(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Ids, scores: Any, **kwargs: Any) -> Ids:
            return torch.full((len(input_ids),), input_ids.shape[1] >= 9)

    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    ids, mask = prompts(6)
    cut = run(processor, (ids, mask), stopping_criteria=[Stop()], do_sample=False)[0]
    assert len(cut) == 3
    again = torch.tensor([[*ids[0].tolist(), *cut[:1]]])
    check(GRAMMARS[1], run(processor, (again, torch.ones_like(again)))[0])


def test_a_streamer_and_the_processor() -> None:
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    ids, mask = prompts(6)
    seen: list[int] = []

    class Streamer(BaseStreamer):  # type: ignore[misc]
        def put(self, value: Ids) -> None:
            seen.extend(value.flatten().tolist())

        def end(self) -> None:
            seen.append(-1)

    new = run(processor, (ids, mask), streamer=Streamer())[0]
    assert seen == [*ids[0].tolist(), *new, -1]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_generate_between_calls_by_hand(options: dict[str, Any]) -> None:
    options = dict(options)
    if options.pop("assistant", False):
        options["assistant_model"] = model(seed=1)
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    ids, mask = prompts(3)
    processor(ids, scores())
    hand = ids[0].tolist()
    for _ in range(2):
        processor(torch.tensor([[*hand, OPEN]]), scores())
        for new in run(processor, (ids, mask), **options):
            check(GRAMMARS[1], new)
        assert at(processor, [*hand, OPEN], behind=[])  # after generate: a new prompt
        processor(ids, scores())


@pytest.mark.model
def test_what_a_model_writes_goes_in_again() -> None:
    """The embedded model, four times: its own text is part of the next prompt."""
    smollm, tokenizer = load_model()
    machine = TokenAutomaton(
        Grammar.from_regex(r"(red|green|blue)\n"),
        Vocabulary.from_huggingface(tokenizer, model=smollm),
    )
    processor = GrammarLogitsProcessor(machine, max_new_tokens=8)
    ids = tokenizer("The colour of grass is ", return_tensors="pt")["input_ids"]
    prompt = ids
    for options in ({}, {}, {"num_beams": 2}, {"prompt_lookup_num_tokens": 3}):
        out = smollm.generate(
            ids, attention_mask=torch.ones_like(ids), logits_processor=[processor],
            max_new_tokens=8, do_sample=False, **options,
        )  # fmt: skip
        new = out[0, ids.shape[1] :].tolist()
        assert machine.grammar.accepts(tokenizer.decode(new, skip_special_tokens=True)), new
        ids = out
    first = torch.cat([prompt, ids[:, prompt.shape[1] : prompt.shape[1] + 1]], dim=-1)
    out = smollm.generate(
        first, attention_mask=torch.ones_like(first), logits_processor=[processor],
        max_new_tokens=8, do_sample=False,
    )  # fmt: skip
    text = tokenizer.decode(out[0, first.shape[1] :], skip_special_tokens=True)
    assert machine.grammar.accepts(text), text


# --- threads --------------------------------------------------------------------------------------


def in_thread(work: Any) -> BaseException | None:
    """The exception that some work in a thread of its own ends with."""
    caught: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    return caught[0] if caught else None


def test_four_threads_one_processor() -> None:
    """Texts are right or refused; nothing else ever comes out."""
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    made = model()
    barrier = threading.Barrier(4)
    whole: list[int] = []
    refused: list[RuntimeError] = []

    def work(number: int) -> None:
        ids, mask = prompts(4 + number)
        barrier.wait(60)
        for _ in range(4):
            try:
                out = made.generate(
                    ids, attention_mask=mask, logits_processor=[processor],
                    max_new_tokens=BUDGET, do_sample=True, top_k=0,
                )  # fmt: skip
            except RuntimeError as error:
                refused.append(error)
            else:
                check(GRAMMARS[1], out[0, ids.shape[1] :].tolist())
                whole.append(number)

    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(whole) + len(refused) == 16
    assert whole
    assert all("one processor for each thread" in str(error) for error in refused)
    check(GRAMMARS[1], run(processor, prompts(5))[0])  # and it is usable afterwards


def test_another_thread_while_generate_runs() -> None:
    """Wherever in the text the other comes, it is refused, and the text is not harmed."""
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    errors: list[BaseException | None] = []

    class Intruder(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Ids, scores_: Ids) -> Ids:
            errors.append(in_thread(lambda: processor(torch.tensor([P]), scores())))
            errors.append(in_thread(lambda: run(processor, prompts(4))))
            return scores_

    ids, mask = prompts(6)
    out = model().generate(
        ids, attention_mask=mask, logits_processor=[processor, Intruder()],
        max_new_tokens=BUDGET, do_sample=False,
    )  # fmt: skip
    check(GRAMMARS[1], out[0, 6:].tolist())
    assert len(errors) >= 6
    assert all(isinstance(e, RuntimeError) and "each thread" in str(e) for e in errors)
    assert in_thread(lambda: check(GRAMMARS[1], run(processor, prompts(4))[0])) is None
    check(GRAMMARS[1], run(processor, prompts(4))[0])


def test_threads_one_after_the_other() -> None:
    """Steps of one text may come from several threads; two texts at once may not."""
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    processor(torch.tensor([P]), scores())
    assert in_thread(lambda: at(processor, [*P, OPEN], behind=[OPEN])) is None
    other = [BOS, 30, 31]
    assert isinstance(in_thread(lambda: at(processor, other, behind=[])), RuntimeError)
    assert at(processor, [*P, OPEN, TRUE], behind=[OPEN, TRUE])
    assert at(processor, [*P, OPEN, TRUE, CLOSE], behind=[OPEN, TRUE, CLOSE])
    # the text may be at its end now
    assert in_thread(lambda: at(processor, other, behind=[])) is None
    # a thread that has ended writes no more
    assert at(processor, P, behind=[])
    assert isinstance(in_thread(lambda: at(processor, other, behind=[])), RuntimeError)
    processor.reset()
    assert in_thread(lambda: at(processor, other, behind=[])) is None


def test_a_generation_by_hand_belongs_to_its_thread() -> None:
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)
    with processor.generation():
        processor(torch.tensor([P]), scores())
        for call in ([*P, OPEN], P, [BOS, 9]):
            error = in_thread(lambda call=call: processor(torch.tensor([call]), scores()))
            assert isinstance(error, RuntimeError)
        with pytest.raises(RuntimeError, match="already"), processor.generation():
            pass
    assert in_thread(lambda: processor(torch.tensor([P]), scores())) is None


def test_a_generate_that_failed_holds_nothing() -> None:
    processor = GrammarLogitsProcessor(automaton(1), max_new_tokens=BUDGET)

    class Broken(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: Ids, scores_: Ids) -> Ids:
            raise KeyError("broken")

    ids, mask = prompts(6)
    broken = [processor, Broken()]
    with pytest.raises(KeyError) as kept:
        model().generate(ids, attention_mask=mask, logits_processor=broken, max_new_tokens=BUDGET)
    assert in_thread(lambda: check(GRAMMARS[1], run(processor, prompts(4))[0])) is None
    check(GRAMMARS[1], run(processor, prompts(6))[0])
    assert kept.value.args == ("broken",)


def test_copies_write_texts_of_their_own() -> None:
    processor = GrammarLogitsProcessor([automaton(1)], max_new_tokens=BUDGET)
    processor(torch.tensor([P]), scores())
    for made in (copy.copy(processor), copy.deepcopy(processor)):
        assert made.automata[0] is processor.automata[0]
        assert made.max_new_tokens == BUDGET
        assert at(made, [*P, OPEN], behind=[])
    assert at(processor, [*P, OPEN], behind=[OPEN])


# --- wrong objects --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (GRAMMARS[0], TypeError, r"TokenAutomaton.*not.*Grammar.*TokenAutomaton\(grammar, vocabulary"),
        ([GRAMMARS[0]], TypeError, "TokenAutomaton.*not.*Grammar"),
        (vocabulary(), TypeError, "TokenAutomaton.*not.*Vocabulary"),
        ("[a-z]+", TypeError, "TokenAutomaton.*not the text"),
        ({"type": "null"}, TypeError, "TokenAutomaton.*not.*dict"),
        (None, TypeError, "TokenAutomaton.*not None"),
        (TokenAutomaton, TypeError, "not the type TokenAutomaton"),
        ([], ValueError, "at least one"),
    ],
    ids=str,
)  # fmt: skip
def test_not_an_automaton(given: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        GrammarLogitsProcessor(given)


@pytest.mark.parametrize("budget", [0, -1, 2.5, "7", True])
def test_not_a_budget(budget: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_new_tokens"):
        GrammarLogitsProcessor(automaton(0), max_new_tokens=budget)


@pytest.mark.parametrize(
    ("ids", "logits", "message"),
    [
        ([[BOS]], scores(), "input_ids must be a torch tensor"),
        (torch.tensor([BOS]), scores(), "input_ids must have two dimensions"),
        (torch.tensor([[BOS]]), scores()[0], "scores must have two dimensions"),
        (torch.tensor([[BOS]]), scores(2), "1 rows of input_ids, but 2 rows of scores"),
        (torch.tensor([[BOS]]), None, "scores must be a torch tensor"),
    ],
    ids=["list", "ids 1-d", "scores 1-d", "rows", "None"],
)
def test_not_ids_and_scores(ids: Any, logits: Any, message: str) -> None:
    processor = GrammarLogitsProcessor(automaton(0), max_new_tokens=BUDGET)
    with pytest.raises((TypeError, ValueError), match=message):
        processor(ids, logits)


@pytest.mark.parametrize("n", [1, 2])
def test_it_serves_a_pipeline(n: int) -> None:
    """``pipeline("text-generation")`` hands its options on to ``generate``."""
    from test_extraction import TOKENIZER, model
    from transformers import pipeline

    from constrain.huggingface.automata import automaton_for

    grammar = Grammar.from_json_schema({"enum": [{"paid": True}, {"paid": False}, [1]]})
    processor = GrammarLogitsProcessor(
        automaton_for(grammar, TOKENIZER, model()), max_new_tokens=20
    )
    generator = pipeline("text-generation", model=model(), tokenizer=TOKENIZER)
    prompts = ["Paid? ", "Is it? "]
    options: dict[str, Any] = {"logits_processor": [processor], "max_new_tokens": 20}
    for made in generator(prompts[:n], return_full_text=False, **options):
        (one,) = made
        assert grammar.accepts(one["generated_text"])
    (made,) = generator(prompts[0], do_sample=True, **options)
    assert grammar.accepts(made["generated_text"].removeprefix(prompts[0]))
