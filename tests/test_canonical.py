"""Canonical spelling: masks that keep to the tokenizer's own way of writing."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lark.indenter import Indenter
from test_extraction import EOS, TOKENIZER, make_tokenizer
from test_extraction import model as lm
from test_vocabulary import real
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import constrain
import samplers
from constrain import GrammarLogitsProcessor, TokenAutomaton, Vocabulary
from constrain.canonical.pretokens import Pretokens, shapes_of
from constrain.canonical.rules import canonical_rules_of
from grammars import Grammar, GrammarError
from samplers import (
    AWRS,
    CARS,
    HMM,
    AdaDec,
    AlignedSampling,
    ASAp,
    ConstrainedMCMC,
    CtrlG,
    DecoG,
    DiffusionInfiller,
    GrammarConstrained,
    SpeculativeBackend,
    SpeculativeGenerate,
)
from samplers.aligned.storage import TrieMismatch

CORPUS = [
    path.read_text("utf-8")[:20_000]
    for path in sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Indents(Indenter):
    NL_type = "_NL"
    OPEN_PAREN_types: ClassVar[list[str]] = []
    CLOSE_PAREN_types: ClassVar[list[str]] = []
    INDENT_type = "_INDENT"
    DEDENT_type = "_DEDENT"
    tab_len = 8


GRAMMARS = {
    "schema": Grammar.from_json_schema(
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[ -~]{0,20}$"},
                "count": {"type": "integer"},
                "tags": {"type": "array", "items": {"enum": ["red", "green", "light blue"]}},
                "when": {"type": "string", "format": "date"},
            },
            "required": ["name", "count", "tags", "when"],
            "additionalProperties": False,
        }
    ),
    "words": Grammar.from_regex(r"the ([a-z]{1,9} ){1,5}end\.\n\n"),
    "keys": Grammar.from_json_schema(
        {
            "type": "object",
            "propertyNames": {"pattern": "^[ a-z]{1,4}$"},
            "additionalProperties": {"type": "integer"},
            "minProperties": 2,
            "maxProperties": 6,
        }
    ),
    "layout": Grammar.from_lark(
        r"""
        start: line+
        line: /[a-z]{1,3}/ _NL | "? " /[a-z]{1,3}/ ":" _NL _INDENT line+ _DEDENT
        _NL: /(\n *)+/
        %declare _INDENT _DEDENT
        """,
        postlex=Indents(),
    ),
    "code": Grammar.from_gbnf('root ::= "x = " [0-9]+ " + y\\n" "    return x" ")"*'),
}


@cache
def trained(kind: str, size: int = 700) -> Any:
    """A small byte-level tokenizer with the merges of this project's documents."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama"))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
    if kind == "llama":
        split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    else:
        tokenizer.pre_tokenizer = bytes_only
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=12,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


KINDS = ["gpt2", "llama", "whole text"]


@cache
def vocabulary(kind: str) -> Vocabulary:
    return Vocabulary.from_huggingface(trained(kind), eos_token_ids=[0])


def encoded(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


# -- pairs -----------------------------------------------------------------------------------------


def test_pairs_of_a_tokenizer_without_words_are_those_that_it_writes() -> None:
    """Every pair of tokens, against the tokenizer itself."""
    words, tokenizer = vocabulary("whole text"), trained("whole text")
    rules = canonical_rules_of(words)
    tokens = [i for i, text in enumerate(words.texts) if text.isascii() and text][::5]
    everything = np.full((words.size + 31) // 32, -1, np.int32)
    for u in tokens:
        row = rules.after("", u, everything)
        for v in tokens:
            written = encoded(tokenizer, (words.texts[u] + words.texts[v]).decode()) == [u, v]
            assert rules.allows("", u, v) == written
            assert bool(row[v >> 5] >> (v & 31) & 1) == written


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_encoded_texts_are_allowed(kind: str) -> None:
    words, tokenizer = vocabulary(kind), trained(kind)
    samples = [
        *CORPUS,
        "don't we'll  x\n\n  y\t\tz 1234567 (_DI) ?s %s\r\n",
        "Ärzte 不知道 😀👍🏽 déjà",
    ]
    for text in samples:
        assert refused(words, encoded(tokenizer, text[:2_000])) == []


def refused(words: Vocabulary, ids: list[int]) -> list[tuple[bytes, bytes]]:
    """The pairs of a text that the rules refuse."""
    rules, out = canonical_rules_of(words), []
    context, before = "", -1
    for u, v in pairwise(ids):
        context, before = rules.context_behind(context, before, u), u
        if not rules.allows(context, u, v):
            out.append((words.texts[u], words.texts[v]))
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_allowed_tokens_are_what_encoding_gives(kind: str) -> None:
    words, tokenizer = vocabulary(kind), trained(kind)
    checked = sum(walk(words, tokenizer, seed) for seed in range(16))
    assert checked > 6


def walk(words: Vocabulary, tokenizer: Any, seed: int, most: int = 2_000) -> bool:
    """Draws tokens that may follow each other; whether they are a text, which is then compared."""
    rng, rules = random.Random(seed), canonical_rules_of(words)
    everything = np.zeros((words.size + 31) // 32, np.uint32)
    for token in rng.sample(range(words.size), min(most, words.size)):
        everything[token >> 5] |= np.uint32(1 << (token & 31))
    everything = everything.view(np.int32)
    context, before, ids = "", -1, list[int]()
    for _ in range(12):
        row = rules.after(context, before, everything)
        flags = np.unpackbits(row.view(np.uint8), bitorder="little")[: words.size]
        good = [t for t in np.flatnonzero(flags).tolist() if words.texts[t].isascii()]
        good = [t for t in good if words.texts[t]]
        if not good:
            return False
        token = rng.choice(good)
        assert rules.allows(context, before, token)
        context, before = rules.context_behind(context, before, token), token
        ids.append(token)
    text = b"".join(words.texts[i] for i in ids).decode()
    if text[-1:].isspace():  # what follows would decide where its last words end
        return False
    assert encoded(tokenizer, text) == ids
    return True


# -- the automaton ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), list(product(KINDS, GRAMMARS)))
def test_texts_of_a_grammar_are_written_as_the_tokenizer_writes_them(kind: str, name: str) -> None:
    words, tokenizer = vocabulary(kind), trained(kind)
    grammar = GRAMMARS[name]
    automaton = TokenAutomaton(grammar, words, canonical=True)
    plain = TokenAutomaton(grammar, words)
    for seed in range(3):
        rng = random.Random(seed)
        state, other, ids = automaton.start, plain.start, list[int]()
        while True:
            allowed = automaton.allowed_tokens(state).tolist()
            assert set(allowed) <= set(plain.allowed_tokens(other).tolist())
            assert allowed, "a live state has a token"
            chosen = 0 if 0 in allowed else rng.choice(allowed)
            if chosen == 0:
                break
            ids.append(chosen)
            state, other = automaton.advance(state, chosen), plain.advance(other, chosen)
        text = b"".join(words.texts[i] for i in ids)
        assert grammar.accepts(text)
        if (kind, name) != ("gpt2", "layout"):  # long runs of blanks are cut by what follows them
            assert encoded(tokenizer, text.decode()) == ids


def test_kinds_are_those_that_pre_tokenizers_tell_apart() -> None:
    """Each character behind an apostrophe and behind a letter, against another one of its kind."""
    chars = [*map(chr, range(0x250)), *"\u2028\u202f\u3000\u017f\u0660\u4e0d"]
    words = Vocabulary.from_tokens([*(c.encode() for c in chars), None], len(chars))
    fast = trained("llama").pre_tokenizer

    def cut(text: str) -> list[int]:
        return [start for _, (start, _) in fast.pre_tokenize_str(text) if start]

    by_kinds = Pretokens(words.texts, shapes_of(words.texts), cut)
    exact = Pretokens(words.texts, shapes_of_each(words.texts), cut)
    for before in ("'", "a", " ", "."):
        u = chars.index(before)
        for v in range(len(chars)):
            assert by_kinds.between("", u, v) == exact.between("", u, v), (before, chars[v])


def shapes_of_each(texts: Sequence[bytes]) -> Any:
    """Each token a shape of its own."""
    each = np.array([i if text else -1 for i, text in enumerate(texts)], np.int32)
    return each, each, each


def test_the_budget_comes_before_the_way_of_writing() -> None:
    words = vocabulary("gpt2")
    automaton = TokenAutomaton(GRAMMARS["schema"], words, canonical=True)
    fewest = automaton.min_tokens_to_accept(automaton.start)
    for seed, spare in product(range(5), (0, 1, 5)):
        rng, state, left = random.Random(seed), automaton.start, fewest + 1 + spare
        while left:
            allowed = automaton.allowed_tokens(state, left).tolist()
            token = rng.choice(allowed)
            state, left = automaton.advance(state, token), left - 1
            if token == 0:
                break
        assert state == automaton.FINISHED


def test_other_spellings_are_no_error() -> None:
    automaton = TokenAutomaton(Grammar.literal(" the end"), vocabulary("gpt2"), canonical=True)
    letter = vocabulary("gpt2").texts.index(b" ")
    assert letter not in automaton.allowed_tokens(automaton.start).tolist()
    state = automaton.advance(automaton.start, letter)
    assert state != automaton.DEAD
    assert automaton.allowed_tokens(state).size > 0


def test_copies_trimming_and_edges() -> None:
    automaton = TokenAutomaton(GRAMMARS["words"], vocabulary("gpt2"), canonical=True)
    tokens, states = automaton.edges(automaton.start)
    assert tokens.tolist() == automaton.allowed_tokens(automaton.start).tolist()
    assert [automaton.advance(automaton.start, t) for t in tokens.tolist()] == states.tolist()
    kept = int(states[0])
    before = automaton.allowed_tokens(kept).tolist()
    automaton.trim([kept])
    assert automaton.allowed_tokens(kept).tolist() == before
    copy = pickle.loads(pickle.dumps(automaton))
    assert copy.allowed_tokens(copy.start).tolist() == tokens.tolist()
    assert any("canonical" in sentence for sentence in automaton.approximations)


def test_looking_ahead_by_the_rules_is_said() -> None:
    said = [TokenAutomaton(GRAMMARS[n], vocabulary("gpt2"), canonical=True) for n in GRAMMARS]
    counts = [sum("canonical" in sentence for sentence in a.approximations) for a in said]
    assert dict(zip(GRAMMARS, counts, strict=True)) == {
        "schema": 1, "words": 1, "keys": 2, "layout": 2, "code": 1,
    }  # fmt: skip


def test_a_tokenizer_without_merges_is_refused() -> None:
    plain = Vocabulary.from_tokens([b"a", None], 1)
    with pytest.raises(GrammarError, match="from_huggingface"):
        TokenAutomaton(Grammar.literal("a"), plain, canonical=True)
    unigram = Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0), ("</s>", 0.0)], unk_id=None))
    unigram.decoder = decoders.Metaspace()
    words = Vocabulary.from_huggingface(unigram, eos_token_ids=[2])
    with pytest.raises(GrammarError, match="Unigram"):
        TokenAutomaton(Grammar.literal("a"), words, canonical=True)


# -- real tokenizers -------------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.parametrize(
    "name",
    [
        "smollm2",
        "gpt2",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("llama3", "o200k", "gemma3")),
    ],
)
def test_real_tokenizers_write_what_is_allowed(name: str) -> None:
    tokenizer, words = real(name)
    fast = tokenizer.backend_tokenizer
    # characters that take two tokens, behind several blanks
    for text in [*CORPUS, "   \u2514 a\n      \u2502  \u2190\u3000 \U0001f600"]:
        assert refused(words, encoded(fast, text[:600])) == []
    assert sum(walk(words, fast, seed) for seed in range(3)) > 1


# -- as an option ----------------------------------------------------------------------------------

OPTION = Grammar.from_choices(['{"a":true}', '"12"', "true true"])


@cache
def plain() -> TokenAutomaton:
    return TokenAutomaton(OPTION, Vocabulary.from_huggingface(TOKENIZER))


def is_written(ids: Sequence[int], text: str) -> bool:
    """Whether the tokens, EOS at the end, are those that the tokenizer writes."""
    return list(ids[:-1]) == TOKENIZER(text).input_ids


def hmm() -> HMM:
    torch.manual_seed(0)
    rows = torch.rand(2, 320)
    return HMM(torch.full((2,), 0.5), torch.full((2, 2), 0.5), rows / rows.sum(1, keepdim=True))


SAMPLERS: dict[str, Callable[[SpeculativeBackend], Any]] = {
    "GrammarConstrained": lambda b: GrammarConstrained(b, plain(), canonical=True),
    "CARS": lambda b: CARS(b, plain(), canonical=True),
    "ASAp": lambda b: ASAp(b, plain(), canonical=True),
    "ConstrainedMCMC": lambda b: ConstrainedMCMC(b, plain(), steps=2, canonical=True),
    "AWRS": lambda b: AWRS(b, plain(), canonical=True),
    "AlignedSampling": lambda b: AlignedSampling(b, plain(), canonical=True),
    "AdaDec": lambda b: AdaDec(b, plain(), canonical=True),
    "DecoG": lambda b: DecoG(b, plain(), hmm(), canonical=True),
    "CtrlG": lambda b: CtrlG(b, plain(), hmm(), canonical=True),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_writes_as_the_tokenizer_does(name: str) -> None:
    backend = SpeculativeBackend(lm(), TOKENIZER)
    sampler = SAMPLERS[name](backend)
    assert sampler.automaton.is_canonical
    for seed in range(6):
        for sample in sampler.sample("Say:", max_new_tokens=16, seed=seed):
            assert OPTION.accepts(sample.text)
            assert is_written(sample.token_ids, sample.text)


def test_without_the_option_texts_are_cut_otherwise_too() -> None:
    """What the test above shows is the option's work."""
    sampler = GrammarConstrained(SpeculativeBackend(lm(), TOKENIZER), plain())
    samples = sampler.sample("Say:", 12, max_new_tokens=16, seed=0)
    assert not all(is_written(sample.token_ids, sample.text) for sample in samples)


def test_samples_follow_the_model_among_what_the_tokenizer_writes() -> None:
    """Against the model's law of the three texts, each in the tokenizer's way of writing."""
    backend, draws = SpeculativeBackend(lm(), TOKENIZER), 400
    prompt = TOKENIZER("Say:").input_ids
    texts = ['{"a":true}', '"12"', "true true"]
    law = np.exp([log_probability(prompt, [*TOKENIZER(text).input_ids, EOS]) for text in texts])
    law /= law.sum()
    samples = SAMPLERS["CARS"](backend).sample(prompt, draws, max_new_tokens=16, seed=1)
    counts = np.array([sum(sample.text == text for sample in samples) for text in texts])
    assert np.abs(counts / draws - law).sum() / 2 < 0.06


def log_probability(prompt: list[int], ids: list[int]) -> float:
    with torch.no_grad():
        rows = torch.log_softmax(lm()(torch.tensor([prompt + ids])).logits[0].double(), -1)
    return sum(float(rows[len(prompt) + i - 1, token]) for i, token in enumerate(ids))


def test_the_processor_and_the_backend_inside_generate() -> None:
    inputs = TOKENIZER("Say:", return_tensors="pt")
    processor = GrammarLogitsProcessor(plain(), max_new_tokens=16, canonical=True)
    assert processor.automata[0].is_canonical
    assert GrammarLogitsProcessor([plain()], canonical=True).automata == processor.automata
    assert pickle.loads(pickle.dumps(processor)).automata[0].is_canonical
    for seed in range(6):
        torch.manual_seed(seed)
        options: dict[str, Any] = {"do_sample": True, "max_new_tokens": 16, "top_k": 0}
        methods: list[dict[str, Any]] = [
            {"logits_processor": [processor]},
            {"custom_generate": SpeculativeGenerate(plain(), canonical=True)},
        ]
        for method in methods:
            out = lm().generate(**inputs, **options, **method)[0, inputs.input_ids.shape[1] :]
            ids = out.tolist()
            ids = ids[: ids.index(EOS) + 1]
            assert is_written(ids, TOKENIZER.decode(ids[:-1]))


@pytest.mark.parametrize("run", [constrain.extract, samplers.extract])
def test_extract(run: Any) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        options = {"max_new_tokens": 16, "temperature": 1.0, "canonical": True}
        found = run(lm(), TOKENIZER, "Say", OPTION, **options)
        assert found.complete
        assert is_written(found.tokens, found.text)


def test_both_options_together() -> None:
    """What is taken back and what follows are one text, and written as one."""
    sampler = GrammarConstrained(SpeculativeBackend(lm(), TOKENIZER), plain(), canonical=True)
    for seed in range(8):
        (sample,) = sampler.sample("Say: {", max_new_tokens=16, seed=seed, heal=True)
        assert sample.prefix == b"{"
        assert OPTION.accepts(sample.text)
        assert is_written(sample.token_ids, "{" + sample.text)


def test_what_was_learned_is_of_one_way_of_writing(tmp_path: Path) -> None:
    backend, path = SpeculativeBackend(lm(), TOKENIZER), tmp_path / "trie"
    one, other = CARS(backend, plain(), canonical=True), CARS(backend, plain())
    one.sample("Say:", max_new_tokens=16, seed=0)
    one.save(path, "Say:", 16)
    one.load(path, "Say:", 16)
    with pytest.raises(TrieMismatch, match="way of writing"):
        other.load(path, "Say:", 16)


def test_canvases_have_no_left_and_right() -> None:
    automaton = TokenAutomaton(OPTION, plain().vocabulary, canonical=True)
    with pytest.raises(ValueError, match="canonical=True"):
        DiffusionInfiller(lm(), TOKENIZER, automaton, mask_token_id=300)


def test_equal_vocabularies_of_other_tokenizers_have_their_own_rules() -> None:
    other = make_tokenizer()
    described = json.loads(other.backend_tokenizer.to_str())
    described["model"]["merges"] = described["model"]["merges"][1:]
    turned = Tokenizer.from_str(json.dumps(described))
    a = Vocabulary.from_huggingface(other)
    b = Vocabulary.from_huggingface(turned, eos_token_ids=list(a.eos_token_ids))
    assert a == b
    assert canonical_rules_of(a) is not canonical_rules_of(b)
    quote, colon = (a.texts.index(text) for text in (b'"', b":"))
    assert not canonical_rules_of(a).allows("", quote, colon)
    assert canonical_rules_of(b).allows("", quote, colon)
