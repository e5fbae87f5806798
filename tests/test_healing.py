"""Token healing: a prompt's last token goes back into the grammar."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_aligned import BUDGET, EOS, PROMPT, automaton, backend, model
from test_extraction import TOKENIZER
from test_extraction import model as lm
from test_sampler_arguments import SAMPLERS

import constrain
import samplers
from constrain import TokenAutomaton, Vocabulary, heal, heal_inputs
from grammars import Grammar
from samplers import (
    CARS,
    AdaDec,
    AlignedSampling,
    GrammarConstrained,
    SpeculativeBackend,
    SpeculativeGenerate,
)
from samplers.aligned.storage import TrieMismatch

TOKENS: list[bytes | None] = [b"a", b":", b"://", b"/", b"//b", b"b", b"ab", None, None]
WORDS = Vocabulary.from_tokens(TOKENS, 8, special_tokens={"<s>": 7})
AUTOMATON = TokenAutomaton(Grammar.literal("//b"), WORDS)


def test_a_token_that_others_extend_is_taken_back() -> None:
    healed = heal([0, 1], AUTOMATON)
    assert (healed.prompt, healed.prefix) == ([0], b":")
    assert healed.automaton.allowed_tokens(healed.automaton.start).tolist() == [1, 2]
    state = healed.automaton.advance(healed.automaton.start, 2)
    assert healed.automaton.is_accepting(healed.automaton.advance(state, 5))


@pytest.mark.parametrize("prompt", [[], [0, 2], [0, 7], [6]])
def test_there_may_be_nothing_to_heal(prompt: list[int]) -> None:
    healed = heal(prompt, AUTOMATON)
    assert (healed.prompt, healed.prefix) == (prompt, b"")
    assert healed.automaton is AUTOMATON


def test_keys_are_compared_behind_a_healed_token() -> None:
    tokens: list[bytes | None] = [bytes([b]) for b in range(256)] + [b":{", None]
    words = Vocabulary.from_tokens(tokens, 257)
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    healed = heal([ord(":")], TokenAutomaton(Grammar.from_json_schema(schema), words))
    automaton = healed.automaton
    state = automaton.advance_bytes(automaton.start, b':{"a":1,"a')
    assert ord('"') not in automaton.allowed_tokens(state).tolist()
    assert ord("b") in automaton.allowed_tokens(state).tolist()


def test_ids_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="ids 0 to 8"):
        heal([99], AUTOMATON)
    with pytest.raises(TypeError):
        heal([1], Grammar.literal("a"))  # type: ignore[arg-type]


def test_several_tokens_are_taken_where_one_reaches_across() -> None:
    tokens: list[bytes | None] = [b"ht", b"tp", b":", b"http://", b"http", b"/", b"x", None]
    words = Vocabulary.from_tokens(tokens, 7)
    automaton = TokenAutomaton(Grammar.from_regex("//x+"), words)
    assert heal([6, 0, 1, 2], automaton).prompt == [6]
    assert heal([6, 0, 1, 2], automaton).prefix == b"http:"
    assert heal([6, 4, 2], automaton).taken == 2
    assert heal([4, 2], automaton, keep=1).taken == 0  # no token begins with the colon alone
    assert heal([4, 2], automaton, keep=0).taken == 2


def test_nothing_is_taken_where_the_grammar_goes_on_otherwise() -> None:
    words = Vocabulary.from_tokens([b"a", b":", b"://", b"x", b"/", None], 5)
    prompt = [0, 1]
    assert heal(prompt, TokenAutomaton(Grammar.from_regex("x+"), words)).taken == 0
    assert heal(prompt, TokenAutomaton(Grammar.from_regex("x+|//"), words)).taken == 1
    assert heal(prompt, TokenAutomaton(Grammar.from_regex("//?x"), words)).taken == 1
    assert heal(prompt, TokenAutomaton(Grammar.from_regex("/x"), words)).taken == 0


@settings(max_examples=60)
@given(st.data())
def test_what_is_taken_is_what_brute_force_takes(data: st.DataObject) -> None:
    """The longest end of the prompt that some token begins with and that goes on as the grammar does."""
    pieces = st.text("ab", min_size=1, max_size=4).map(str.encode)
    texts = [b"a", b"b", *data.draw(st.lists(pieces, max_size=6, unique=True))]
    choices = data.draw(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3))
    automaton = TokenAutomaton(
        Grammar.from_choices(choices), Vocabulary.from_tokens([*texts, None], len(texts))
    )
    prompt = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=5))
    taken = 0
    for count in range(1, len(prompt) + 1):
        end = b"".join(texts[i] for i in prompt[-count:])
        rests = [t[len(end) :] for t in texts if t.startswith(end) and t != end]
        if any(choice.encode().startswith(rest) for choice in choices for rest in rests):
            taken = count
    healed = heal(prompt, automaton)
    assert healed.taken == taken
    assert healed.prompt == prompt[: len(prompt) - taken]
    assert healed.prefix == b"".join(texts[i] for i in prompt[len(prompt) - taken :])
    wanted = {healed.prefix + choice.encode() for choice in choices}
    for text in {*wanted, *(choice.encode() for choice in choices)}:
        assert healed.automaton.grammar.accepts(text) == (text in wanted)


def test_automata_are_kept_for_prompts_that_end_alike() -> None:
    assert heal([0, 1], AUTOMATON).automaton is heal([6, 1], AUTOMATON).automaton


# -- samplers --------------------------------------------------------------------------------------

HEALED_BUDGET = BUDGET + 1


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "AdaDec, free"])
def test_each_sampler_heals(name: str) -> None:
    """The prompt ends in "0", which "00" and "01" begin with."""
    sampler = SAMPLERS[name](backend())
    texts = sampler.automaton.vocabulary
    for seed in range(4):
        (sample,) = sampler.sample(PROMPT, max_new_tokens=HEALED_BUDGET, seed=seed, heal=True)
        assert sample.prefix == b"0"
        assert sample.complete
        assert sampler.automaton.grammar.accepts(sample.text)
        assert texts.decode(sample.token_ids) == b"0" + sample.text.encode()
        assert sample.logprob == pytest.approx(log_probability(sample.token_ids), abs=1e-6)
        (plain,) = sampler.sample(PROMPT, max_new_tokens=HEALED_BUDGET, seed=seed)
        assert plain.prefix == b""
        assert texts.decode(plain.token_ids) == plain.text.encode()


@cache
def log_rows(text: tuple[int, ...]) -> list[float]:
    """Log-probabilities behind the prompt that is left and some tokens."""
    with torch.no_grad():
        logits = model()(torch.tensor([[*PROMPT[:-1], *text]])).logits[0, -1]
    rows: list[float] = torch.log_softmax(logits, -1).tolist()
    return rows


def log_probability(ids: Sequence[int]) -> float:
    return sum(log_rows(tuple(ids[:i]))[token] for i, token in enumerate(ids))


def healed_law() -> dict[tuple[int, ...], float]:
    """The model's law of texts that begin with "0" and are of the grammar behind it; by enumeration."""
    vocabulary, grammar = automaton().vocabulary, automaton().grammar
    out: dict[tuple[int, ...], float] = {}
    for length in range(1, HEALED_BUDGET):
        for ids in product([2, 3, 4, 5], repeat=length):
            data = vocabulary.decode(ids)
            if data[:1] == b"0" and grammar.accepts(data[1:]):
                out[*ids, EOS] = math.exp(log_probability([*ids, EOS]))
    total = sum(out.values())
    return {text: p / total for text, p in out.items()}


@pytest.mark.parametrize("kind", [CARS, AlignedSampling])
def test_healed_samples_follow_the_model(kind: Any) -> None:
    law, draws = healed_law(), 1_500
    samples = kind(backend(), automaton()).sample(
        PROMPT, draws, max_new_tokens=HEALED_BUDGET, seed=3, heal=True
    )
    counts = Counter(tuple(sample.token_ids) for sample in samples)
    assert counts.keys() <= law.keys()
    distance = sum(abs(counts[text] / draws - p) for text, p in law.items()) / 2
    assert distance < 0.06


def test_what_was_learned_about_a_healed_prompt_is_kept_apart(tmp_path: Path) -> None:
    sampler = CARS(backend(), automaton())
    sampler.sample(PROMPT, 5, max_new_tokens=HEALED_BUDGET, seed=0, heal=True)
    assert sampler.report.attempts >= 5
    assert sampler.memory(PROMPT, HEALED_BUDGET, 1.0).attempts == 0
    sampler.save(tmp_path / "trie", PROMPT, HEALED_BUDGET, heal=True)
    again = CARS(backend(), automaton())
    again.load(tmp_path / "trie", PROMPT, HEALED_BUDGET, heal=True)
    with pytest.raises(TrieMismatch):
        again.load(tmp_path / "trie", PROMPT, HEALED_BUDGET)


def test_free_text_is_not_healed() -> None:
    with pytest.raises(ValueError, match="heal=True needs an automaton"):
        AdaDec(backend()).sample(PROMPT, heal=True)
    with pytest.raises(ValueError, match="heal=True needs an automaton"):
        SpeculativeGenerate(heal=True)
    with pytest.raises(ValueError, match="canonical=True needs an automaton"):
        AdaDec(backend(), canonical=True)


# -- generate --------------------------------------------------------------------------------------

QUOTED = Grammar.from_choices(['"true', '"12"', "no"])


@cache
def quoted() -> TokenAutomaton:
    return TokenAutomaton(QUOTED, Vocabulary.from_huggingface(TOKENIZER))


def prompts(*texts: str, side: str = "left") -> Any:
    TOKENIZER.padding_side = side
    return TOKENIZER(list(texts), return_tensors="pt", padding=True)


TEXTS = ["x: {", "no brace", "{", "a much longer prompt {"]
PREFIXES = [b"{", b"", b"", b"{"]  # a prompt keeps one token


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_heals_each_of_its_prompts(side: str) -> None:
    inputs = prompts(*TEXTS, side=side)
    healed = heal_inputs(inputs, quoted())
    assert healed.prefixes == PREFIXES
    out = written(healed.inputs, healed.processor(max_new_tokens=12), num_return_sequences=2)
    texts = healed.texts(out)
    assert len(texts) == 2 * len(TEXTS)
    whole = TOKENIZER.batch_decode(out, skip_special_tokens=True)
    for i, text in enumerate(texts):
        assert QUOTED.accepts(text)
        assert whole[i] == TEXTS[i // 2] + text.decode()
    assert healed.inputs["attention_mask"].sum(-1).tolist() == [
        len(TOKENIZER(text).input_ids) - len(prefix)
        for text, prefix in zip(TEXTS, PREFIXES, strict=True)
    ]


def test_a_batch_is_written_as_its_prompts_alone() -> None:
    together = heal_inputs(prompts(*TEXTS), quoted())
    out = written(together.inputs, together.processor(max_new_tokens=12))
    for text, wanted in zip(TEXTS, together.texts(out), strict=True):
        alone = heal_inputs(prompts(text), quoted())
        single = written(alone.inputs, alone.processor(max_new_tokens=12))
        assert alone.texts(single) == [wanted]
        sampler = GrammarConstrained(SpeculativeBackend(lm(), TOKENIZER), quoted())
        (sample,) = sampler.sample(text, max_new_tokens=12, temperature=0.0, heal=True)
        assert sample.text == wanted.decode()


def test_the_backend_inside_generate_heals_a_batch() -> None:
    method = SpeculativeGenerate(quoted(), heal=True)
    out = lm().generate(**prompts(*TEXTS), custom_generate=method, max_new_tokens=12)
    whole = TOKENIZER.batch_decode(out, skip_special_tokens=True)
    assert whole == [a + b for a, b in zip(TEXTS, method.texts, strict=True)]
    assert all(QUOTED.accepts(text) for text in method.texts)
    inputs = heal_inputs(prompts(*TEXTS), quoted())
    by_masks = written(inputs.inputs, inputs.processor(max_new_tokens=12))
    assert [text.decode() for text in inputs.texts(by_masks)] == method.texts


def written(inputs: Any, processor: Any, **options: Any) -> torch.Tensor:
    torch.manual_seed(0)
    options = {"do_sample": "num_return_sequences" in options} | options
    out: torch.Tensor = lm().generate(
        **inputs, logits_processor=[processor], max_new_tokens=12, **options
    )
    return out


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(TypeError, match="return_tensors='pt'"):
        heal_inputs([[1, 2]], quoted())
    with pytest.raises(TypeError, match="attention_mask"):
        heal_inputs({"input_ids": torch.ones(1, 2), "attention_mask": [1]}, quoted())
    ids = torch.ones(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        heal_inputs({"input_ids": ids, "attention_mask": 0 * ids}, quoted())
    with pytest.raises(ValueError, match="2 automata for 1 prompts"):
        heal_inputs(prompts("a"), [quoted(), quoted()])
    with pytest.raises(ValueError, match="not of 2 prompts"):
        heal_inputs(prompts("a", "b"), quoted()).texts(torch.ones(3, 4))


# -- extraction ------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [constrain.extract, samplers.extract])
def test_extract_behind_a_healed_prompt(run: Any) -> None:
    def asks(text: str, schema: str) -> str:
        return text + " {"

    options = {"prompt": asks, "max_new_tokens": 12}
    found = run(lm(), TOKENIZER, "Say", QUOTED, heal=True, **options)
    assert (found.complete, found.prefix) == (True, b"{")
    assert QUOTED.accepts(found.text)
    assert TOKENIZER.decode(found.tokens, skip_special_tokens=True) == "{" + found.text
    plain = run(lm(), TOKENIZER, "Say", QUOTED, **options)
    assert (plain.complete, plain.prefix) == (True, b"")
    assert TOKENIZER.decode(plain.tokens, skip_special_tokens=True) == plain.text
