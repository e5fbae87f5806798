"""Canonical spelling: masks that keep to the tokenizer's own way of writing."""

from __future__ import annotations

import pickle
import random
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from constrain import TokenAutomaton, Vocabulary
from constrain.canonical.rules import canonical_rules_of
from constrain.models import ModelUnavailable, load_tokenizer
from grammars import Grammar, GrammarError

CORPUS = [
    path.read_text("utf-8")[:20_000]
    for path in sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
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
        try:
            assert encoded(tokenizer, text.decode()) == ids
        except UnicodeDecodeError:
            pytest.fail("the grammar writes UTF-8")


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
@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gpt2", "llama-3", "o200k", "gemma"])
def test_real_tokenizers_write_what_is_allowed(name: str) -> None:
    try:
        tokenizer = load_tokenizer(name)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    words = Vocabulary.from_huggingface(tokenizer, eos_token_ids=[0])
    fast = tokenizer.backend_tokenizer
    for text in CORPUS:
        assert refused(words, encoded(fast, text[:600])) == []
    assert sum(walk(words, fast, seed) for seed in range(5)) > 1
