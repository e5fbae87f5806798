"""The law over choices: against enumeration by plain forwards, one text after the other."""

from __future__ import annotations

import copy
import enum
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_extraction import CHAT, EOS, TOKENIZER, model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

import constrain
import gramma
import samplers
from constrain import BudgetError
from constrain.huggingface.choosing import Chances
from constrain.huggingface.token_trie import ROOT, TokenTrie, logits_in_rows
from samplers.choosing import logits_in_trees

WAYS = {"rows": constrain.choose, "trees": samplers.choose}
PROMPT = "Is water wet? "
either = pytest.mark.parametrize("choose", WAYS.values(), ids=WAYS)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def exact() -> LlamaForCausalLM:
    """The toy in float64: what differs is not rounding."""
    return copy.deepcopy(model()).double()


def enumerated(
    model: Any, prompt: Sequence[int], texts: Sequence[Sequence[int]], eos: Sequence[int]
) -> list[float]:
    """Log-probabilities of texts, each by a forward of its own."""
    out = []
    for text in texts:
        ids = torch.tensor([[*prompt, *text]])
        with torch.no_grad():
            laws = model(ids).logits[0].double().log_softmax(-1)
        steps = [float(laws[len(prompt) - 1 + i, token]) for i, token in enumerate(text)]
        if eos:
            steps.append(float(laws[-1, list(eos)].logsumexp(-1)))
        out.append(math.fsum(steps))
    return out


def ids_of(text: str) -> list[int]:
    found: list[int] = TOKENIZER(text)["input_ids"]
    return found


@contextmanager
def forwards_of(model: torch.nn.Module) -> Iterator[list[int]]:
    """Tokens of each forward within."""
    seen: list[int] = []

    def note(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        seen.append(keywords["input_ids"].numel())

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def check(found: Chances[Any], prompt: str, texts: Sequence[str], *, ends: bool = True) -> None:
    assert list(found) == list(texts)
    expected = enumerated(
        exact(), ids_of(prompt), [ids_of(t) for t in texts], [EOS] if ends else []
    )
    assert list(found.logprobs.values()) == pytest.approx(expected, abs=1e-9)
    masses = [math.exp(value) for value in expected]
    assert found.mass == pytest.approx(math.fsum(masses), rel=1e-9)
    assert list(found.values()) == pytest.approx([m / math.fsum(masses) for m in masses], abs=1e-9)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-12)
    assert found[found.best] == max(found.values())


# --- the law --------------------------------------------------------------------------------------


@either
@pytest.mark.parametrize("texts", [
    ["yes", "no"], ["a", "ab"], ["ab", "a", "abc", "b"], ["one"], ["", "x"], ["true", "trial", "tr"],
    ["é", "日本", "e"], ["a b", "a  b", " a"], ["12", "1", "2"],
], ids=str)  # fmt: skip
def test_the_law_is_that_of_enumeration(choose: Any, texts: list[str]) -> None:
    check(choose(exact(), TOKENIZER, PROMPT, texts), PROMPT, texts)


@either
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(st.text("abtrue1 é", max_size=6), min_size=1, max_size=8, unique=True),
    prompt=st.text("true: a", min_size=1, max_size=8),
)
def test_laws_of_drawn_choices(choose: Any, texts: list[str], prompt: str) -> None:
    """Where the tokenizer writes prompt and choice as it does each of them; and else as the doc says."""
    found = choose(exact(), TOKENIZER, prompt, texts)
    spelled = []
    for text in texts:
        together = ids_of(prompt + text)
        kept = together[: len(ids_of(prompt))] == ids_of(prompt)
        spelled.append(together[len(ids_of(prompt)) :] if kept else ids_of(text))
    expected = enumerated(exact(), ids_of(prompt), spelled, [EOS])
    assert list(found.logprobs.values()) == pytest.approx(expected, abs=1e-9)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-12)


@either
def test_without_the_end(choose: Any) -> None:
    texts = ["yes", "no", "true", "trial"]
    check(choose(exact(), TOKENIZER, PROMPT, texts, ends=False), PROMPT, texts, ends=False)
    with pytest.raises(ValueError, match="'ab' begins with 'a'"):
        choose(exact(), TOKENIZER, PROMPT, ["b", "ab", "a"], ends=False)


@either
def test_float32_is_close(choose: Any) -> None:
    texts = ["yes", "no", "maybe", "true", "12"]
    found = choose(model(), TOKENIZER, PROMPT, texts)
    expected = enumerated(exact(), ids_of(PROMPT), [ids_of(t) for t in texts], [EOS])
    assert list(found.logprobs.values()) == pytest.approx(expected, abs=1e-5)


@either
def test_every_end_counts(choose: Any) -> None:
    two = copy.deepcopy(exact())
    two.generation_config.eos_token_id = [EOS, 300]
    found = choose(two, TOKENIZER, PROMPT, ["a", "b"])
    expected = enumerated(two, ids_of(PROMPT), [ids_of("a"), ids_of("b")], [EOS, 300])
    assert list(found.logprobs.values()) == pytest.approx(expected, abs=1e-9)


@either
def test_a_grammar_of_the_choices_has_another_law(choose: Any) -> None:
    """What is conditioned on is the whole text: prefixes share what their continuations have."""
    found = choose(exact(), TOKENIZER, PROMPT, ["a", "ab"])
    (whole, longer) = enumerated(exact(), ids_of(PROMPT), [ids_of("a"), ids_of("ab")], [EOS])
    assert found["a"] / found["ab"] == pytest.approx(math.exp(whole - longer), rel=1e-9)
    # masks give "a" the model's P(end | a) against P(b | a), whatever follows the b
    (end, b) = enumerated(exact(), ids_of(PROMPT + "a"), [[EOS], ids_of("b")], [])
    assert found["a"] / found["ab"] != pytest.approx(math.exp(end - b), rel=1e-3)


# --- what it costs --------------------------------------------------------------------------------

MANY = [f"{i * 7919:06d} in words" for i in range(1000)]


def test_a_thousand_choices_take_few_forwards() -> None:
    with forwards_of(exact()) as seen:
        found = samplers.choose(exact(), TOKENIZER, PROMPT, MANY)
    nodes = len({text[:i] for text in MANY for i in range(1, len(text) + 1)})
    assert len(seen) <= 2 + nodes // 1000
    assert sum(seen) < nodes * 1.1 + 100
    some = [0, 1, 500, 999]
    expected = enumerated(exact(), ids_of(PROMPT), [ids_of(MANY[i]) for i in some], [EOS])
    assert [found.logprobs[MANY[i]] for i in some] == pytest.approx(expected, abs=1e-9)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-9)


def test_few_choices_take_one_forward() -> None:
    with forwards_of(exact()) as seen:
        samplers.choose(exact(), TOKENIZER, PROMPT, ["yes", "no", "maybe"])
    assert len(seen) == 1


def test_rows_read_the_prompt_once() -> None:
    with forwards_of(exact()) as seen:
        rows = constrain.choose(exact(), TOKENIZER, PROMPT, MANY[:200])
    assert seen[0] == len(ids_of(PROMPT))
    longest = max(len(ids_of(text)) for text in MANY[:200])
    assert sum(seen) == len(ids_of(PROMPT)) + 200 * longest
    assert len(seen) == 2
    trees = samplers.choose(exact(), TOKENIZER, PROMPT, MANY[:200])
    assert rows == pytest.approx(trees, abs=1e-12)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_however_many_nodes_a_forward_has(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samplers.choosing.MAX_NODES", most)
    monkeypatch.setattr("constrain.huggingface.token_trie.MAX_ROW_TOKENS", 20 * most)
    texts = ["ab", "a", "abc", "b", "true", "trial", "", "é"]
    for choose in WAYS.values():
        check(choose(exact(), TOKENIZER, PROMPT, texts), PROMPT, texts)


def test_a_long_prompt_is_read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samplers.choosing._LONG_PROMPT", 10)
    with forwards_of(exact()) as seen:
        found = samplers.choose(exact(), TOKENIZER, PROMPT, ["ab", "b"])
    assert seen == [len(ids_of(PROMPT)) - 1, 1 + 3]
    check(found, PROMPT, ["ab", "b"])


def test_every_wanted_node_is_scored_once() -> None:
    trie = TokenTrie()
    for text in ("abc", "abd", "x", "abc", "ab"):
        trie.add([ord(c) for c in text])
    assert len(trie) == 6
    assert [trie.is_end[node] for node in range(6)] == [False, False, True, True, True, True]
    for wanted in ([ROOT], [2, 5], [3], list(range(6)), []):
        for way in (logits_in_rows, logits_in_trees):
            assert sorted(n for n, _ in way(exact(), [1, 2], trie, wanted)) == wanted


# --- other models ---------------------------------------------------------------------------------

_SMALL: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "eos_token_id": EOS,
}


def mistral() -> Any:
    """Sliding attention, with a window shorter than the prompt."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32}
    return MistralForCausalLM(MistralConfig(**_SMALL, **heads, sliding_window=8))


def gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=2, eos_token_id=EOS)
    )


def mamba() -> Any:
    """A running state that no tree goes into."""
    return MambaForCausalLM(MambaConfig(**_SMALL, state_size=4))


@either
@pytest.mark.parametrize("make", [mistral, gpt2, mamba])
def test_other_models(choose: Any, make: Any) -> None:
    torch.manual_seed(0)
    other = make().eval()
    texts = ["yes", "no", "maybe so", "ma", "true"]
    found = choose(other, TOKENIZER, PROMPT, texts)
    expected = enumerated(other, ids_of(PROMPT), [ids_of(t) for t in texts], [EOS])
    assert list(found.logprobs.values()) == pytest.approx(expected, abs=1e-4)


# --- prompts and tokens ---------------------------------------------------------------------------


@either
def test_prompts(choose: Any) -> None:
    texts = ["yes", "no"]
    plain = choose(exact(), TOKENIZER, PROMPT, texts)
    assert choose(exact(), TOKENIZER, ids_of(PROMPT), texts) == plain
    messages = [{"role": "user", "content": "wet?"}]
    written = "<|user|>wet?\n<|assistant|>"
    assert choose(exact(), CHAT, messages, texts) == pytest.approx(
        choose(exact(), TOKENIZER, written, texts), abs=1e-9
    )
    assert choose(exact(), TOKENIZER, messages, texts) == pytest.approx(
        choose(exact(), TOKENIZER, "wet?\n\n", texts), abs=1e-9
    )


@either
def test_a_token_across_the_end_of_the_prompt(choose: Any) -> None:
    """``tr`` is one token: behind a prompt that ends in ``t`` the choice is written alone."""
    assert len(ids_of("tr")) == 1
    found = choose(exact(), TOKENIZER, "it", ["r", "x"])
    expected = enumerated(exact(), ids_of("it"), [ids_of("r"), ids_of("x")], [EOS])
    assert list(found.logprobs.values()) == pytest.approx(expected, abs=1e-9)


def with_blanks() -> PreTrainedTokenizerFast:
    """Puts a blank before the first word of whatever it is given, as SentencePiece does."""
    vocab = {"▁": 0, "▁yes": 1, "yes": 2, "no": 3, "▁wet": 4, "?": 5, "<0x0A>": 6, "<unk>": 7}
    vocab |= {c: len(vocab) + i for i, c in enumerate("yesnowt")}
    merges = [
        ("n", "o"),
        ("y", "e"),
        ("ye", "s"),
        ("▁", "yes"),
        ("w", "e"),
        ("we", "t"),
        ("▁", "wet"),
    ]
    vocab |= {"ye": 15, "we": 16, "wet": 17}
    made = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>", unk_token="<unk>")


@either
def test_tokenizers_that_put_a_blank_before_a_text(choose: Any) -> None:
    tokenizer = with_blanks()
    end = int(tokenizer.eos_token_id)
    other = copy.deepcopy(exact())
    other.generation_config.eos_token_id = other.config.eos_token_id = end
    assert tokenizer("yes", add_special_tokens=False)["input_ids"] == [1]
    prompt = tokenizer("wet?")["input_ids"]
    expected = enumerated(other, prompt, [[2], [1], [3]], [end])
    found = choose(other, tokenizer, "wet?", ["yes", " yes", "no"])
    assert list(found.logprobs.values()) == pytest.approx(expected, abs=1e-9)
    by_ids = choose(other, tokenizer, prompt, ["yes", " yes", "no"])
    assert by_ids == pytest.approx(found, abs=1e-9)
    with pytest.raises(ValueError, match="no tokens whose text is 'maybe'"):
        choose(other, tokenizer, "wet?", ["yes", "maybe"])


@either
def test_special_tokens_are_no_text(choose: Any) -> None:
    with pytest.raises(ValueError, match="special"):
        choose(exact(), TOKENIZER, PROMPT, ["a", "<|end|>"])


@either
def test_prompt_and_choice_within_the_context(choose: Any) -> None:
    with pytest.raises(BudgetError, match="shorten the prompt") as caught:
        choose(exact(), TOKENIZER, [65] * 638, ["abc", "a"])
    assert (caught.value.needed, caught.value.available) == (641, 640)
    assert len(choose(exact(), TOKENIZER, [65] * 638, ["ab", "a"])) == 2


# --- choices --------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


class Size(enum.StrEnum):
    SMALL = "small"


@either
def test_choices_are_texts_or_have_one(choose: Any) -> None:
    texts = ["true", "12", "null", "1.5", "red", "2", "small", "x"]
    given = [True, 12, None, 1.5, Colour.RED, Colour.TWO, Size.SMALL, "x"]
    found = choose(exact(), TOKENIZER, PROMPT, given)
    by_text = choose(exact(), TOKENIZER, PROMPT, texts)
    assert list(found) == given
    assert list(found.values()) == list(by_text.values())
    assert list(choose(exact(), TOKENIZER, PROMPT, Colour)) == list(Colour)
    assert list(choose(exact(), TOKENIZER, PROMPT, Literal["a", 3])) == ["a", 3]
    assert list(choose(exact(), TOKENIZER, PROMPT, (c for c in "ab"))) == ["a", "b"]


@either
@pytest.mark.parametrize(
    ("choices", "kind", "part"),
    [
        ([], ValueError, "nothing to choose from"),
        (["a", "b", "a"], ValueError, "'a' is there twice"),
        (["1", 1], ValueError, "1 is there twice"),
        ([True, 1], ValueError, "1 is there twice"),
        ("yes", TypeError, "not the text 'yes'"),
        (3, TypeError, "not 3"),
        ([("a",)], TypeError, "a tuple"),
        ([b"a"], TypeError, "b'a'"),
        ([math.nan], ValueError, "JSON"),
    ],
    ids=str,
)
def test_what_cannot_be_chosen_from(
    choose: Any, choices: Any, kind: type[Exception], part: str
) -> None:
    with forwards_of(exact()) as seen, pytest.raises(kind, match=part):
        choose(exact(), TOKENIZER, PROMPT, choices)
    assert seen == []


@either
def test_wrong_objects(choose: Any) -> None:
    with pytest.raises(TypeError, match="changed places"):
        choose(TOKENIZER, exact(), PROMPT, ["a"])
    with pytest.raises(TypeError, match="a prompt is text"):
        choose(exact(), TOKENIZER, 3, ["a"])


@either
def test_nothing_that_the_model_would_say(choose: Any) -> None:
    mute = copy.deepcopy(exact())
    mute.lm_head = torch.nn.Linear(32, 320, dtype=torch.float64)
    with torch.no_grad():
        mute.lm_head.bias.zero_()
        mute.lm_head.bias[ids_of("a") + ids_of("b")] = -math.inf
    with pytest.raises(ValueError, match="probability zero"):
        choose(mute, TOKENIZER, PROMPT, ["a", "b"])
    assert choose(mute, TOKENIZER, PROMPT, ["a", "c"]) == {"a": 0.0, "c": 1.0}


def test_small_probabilities_do_not_vanish() -> None:
    found = Chances({"a": -2000.0, "b": -2001.0})
    assert found == pytest.approx({"a": 1 / (1 + math.exp(-1)), "b": 1 / (1 + math.e)})
    assert found.mass == 0.0
    assert copy.copy(found).logprobs == found.logprobs


def test_where_it_is_found() -> None:
    assert gramma.choose is samplers.choose
    assert "choose" in dir(gramma)
    assert {"choose", "Chances"} <= set(dir(samplers)) & set(dir(constrain))
