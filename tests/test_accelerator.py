"""Models on an accelerator write what they write on the CPU, and tensors stay where the model is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from toys import BOS, EOS, PAD, TOKENS, model, vocabulary
from transformers import BertConfig, BertForMaskedLM, LlamaForCausalLM

from constrain import GrammarLogitsProcessor, TokenAutomaton, Vocabulary, extract, extract_many
from grammars import Grammar
from samplers import (
    AWRS,
    HMM,
    AdaDec,
    AlignedSampling,
    ASAp,
    ConstrainedMCMC,
    DecoG,
    DiffusionInfiller,
    DraftModel,
    GrammarConstrained,
    Heads,
    LayerSkip,
    MedusaHeads,
    OnlineDistilled,
    PromptLookup,
    Sample,
    SpeculativeBackend,
)

ACCELERATORS = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]
pytestmark = pytest.mark.parametrize("device", ACCELERATORS)

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": [True, None, 12]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
GRAMMAR = Grammar.from_json_schema(SCHEMA)
BUDGET = 32
PROMPT = [BOS, 5, 9, 17]


@cache
def at(device: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> LlamaForCausalLM:
    return copy.deepcopy(model(seed, layers=3)).to(device=device, dtype=dtype)  # type: ignore[call-overload,no-any-return]


@cache
def automaton() -> TokenAutomaton:
    return TokenAutomaton(GRAMMAR, vocabulary())


def check(tokens: list[int]) -> None:
    """One whole text of the grammar and its EOS; padding behind."""
    end = tokens.index(EOS)
    assert GRAMMAR.accepts(vocabulary().decode(tokens[:end])), vocabulary().decode(tokens)
    assert set(tokens[end + 1 :]) <= {PAD, EOS}


# --- generate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True},
        {"num_beams": 4, "do_sample": False},
        {"num_return_sequences": 3, "do_sample": True},
        {"prompt_lookup_num_tokens": 3, "do_sample": False},
    ],
    ids=str,
)
def test_generate(device: str, dtype: torch.dtype, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    processor = GrammarLogitsProcessor(automaton(), max_new_tokens=BUDGET)
    rows = 1 if "prompt_lookup_num_tokens" in options else 3
    ids = torch.tensor([PROMPT] * rows, device=device)
    out = at(device, dtype=dtype).generate(
        ids,
        attention_mask=torch.ones_like(ids),
        logits_processor=[processor],
        max_new_tokens=BUDGET,
        **options,
    )
    assert out.device.type == device
    for tokens in out[:, len(PROMPT) :].tolist():
        check(tokens)


def test_scores_stay_where_they_are(device: str) -> None:
    processor = GrammarLogitsProcessor(automaton(), max_new_tokens=BUDGET)
    ids = torch.tensor([PROMPT, PROMPT], device=device)
    scores = torch.zeros(2, 64, device=device)
    out = processor(ids, scores)
    assert out.device == scores.device
    there = torch.isfinite(out).cpu()
    reference = GrammarLogitsProcessor(automaton(), max_new_tokens=BUDGET)
    assert torch.equal(there, torch.isfinite(reference(ids.cpu(), scores.cpu())))


def test_extraction(device: str) -> None:
    from test_extraction import TEXT, TOKENIZER
    from test_extraction import model as made

    moved = copy.deepcopy(made()).to(device)  # type: ignore[arg-type]
    got = extract(moved, TOKENIZER, TEXT, SCHEMA, max_new_tokens=64)
    assert set(got.value) == {"a", "b"}


def test_many_texts_are_those_of_the_cpu(device: str) -> None:
    """In double precision; what the prompts share is read once, where the model is."""
    from test_extraction import TOKENIZER
    from test_extraction import model as made

    texts = ["Tea.", "Coffee, and more of it.", "x"]
    options: dict[str, Any] = {"prompt": lambda text, _: "Read this, please: " * 3 + text}
    options |= {"max_new_tokens": 64, "reasoning": 12}
    whole = copy.deepcopy(made()).double()
    moved = copy.deepcopy(whole).to(device)  # type: ignore[arg-type]
    got = extract_many(moved, TOKENIZER, texts, SCHEMA, **options)
    assert got == [extract(whole, TOKENIZER, text, SCHEMA, **options) for text in texts]


# --- samplers ---------------------------------------------------------------------------------------

DRAFTERS: dict[str, Callable[[str], list[Any]]] = {
    "none": lambda _: [],
    "prompt lookup": lambda _: [PromptLookup()],
    "draft model": lambda device: [DraftModel(at(device, 1))],
    "layers skipped": lambda device: [LayerSkip(at(device))],
    "heads": lambda device: [MedusaHeads(Heads(at(device), 2))],
    "distilled online": lambda device: [OnlineDistilled(copy.deepcopy(at(device, 2)), every=1)],
}


@pytest.mark.parametrize("drafters", DRAFTERS)
def test_greedy_texts_are_those_of_the_cpu(device: str, drafters: str) -> None:
    """In double precision, whatever drafts and wherever the model is."""
    backend = SpeculativeBackend(at(device), None, DRAFTERS[drafters](device), adaptive=False)
    [plain] = sampled(GrammarConstrained(SpeculativeBackend(at("cpu"), None, []), automaton()))
    [drafted] = sampled(GrammarConstrained(backend, automaton()))
    assert drafted.token_ids == plain.token_ids
    # models turn positions in single precision, whatever their weights are
    assert drafted.logprob == pytest.approx(plain.logprob, abs=1e-6)


def sampled(method: Any, count: int = 1, temperature: float = 0.0) -> list[Sample]:
    made: list[Sample] = method.sample(
        PROMPT, count, max_new_tokens=BUDGET, temperature=temperature, seed=1
    )
    return made


ALIGNED: dict[str, Callable[..., Any]] = {
    "constrained": GrammarConstrained,
    "ASAp": ASAp,
    "AWRS": AWRS,
    "MCMC": ConstrainedMCMC,
    "automatic": AlignedSampling,
    "AdaDec": AdaDec,
}


@pytest.mark.parametrize("name", ALIGNED)
def test_samples_are_those_of_the_cpu(device: str, name: str) -> None:
    """The same seed draws the same texts: only the model's forwards are elsewhere."""
    texts = []
    for place in ("cpu", device):
        method = ALIGNED[name](SpeculativeBackend(at(place), None, []), automaton())
        greedy = name == "AdaDec"
        samples = sampled(method, 1 if greedy else 2, 0.0 if greedy else 1.0)
        texts.append([s.token_ids for s in samples])
    for tokens in texts[0]:
        check(tokens)
    assert texts[0] == texts[1]


def test_hidden_markov_models(device: str) -> None:
    """A format's model is fitted and followed on the device."""
    hmm = HMM.fit(
        at(device, dtype=torch.float32),
        vocabulary(),
        states=4,
        count=40,
        length=8,
        epochs=2,
        device=device,
    )
    backend = SpeculativeBackend(at(device), None, [])
    for sample in sampled(DecoG(backend, automaton(), hmm.to(device)), 2, 1.0):
        check(sample.token_ids)


def test_infilling(device: str) -> None:
    """A masked model fills a canvas with a text of the grammar."""
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(TOKENS) + 1,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    masked = BertForMaskedLM(config).eval().to(device)  # type: ignore[arg-type]
    words = Vocabulary.from_tokens([*TOKENS, None], [EOS])
    infiller = DiffusionInfiller(masked, None, GRAMMAR, vocabulary=words, mask_token_id=len(TOKENS))
    [sample] = infiller.fill([BOS], [b'{"a":', None, None, b',"b":', None, b"}"])
    assert GRAMMAR.accepts(sample.text)
