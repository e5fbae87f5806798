"""Random walks through score, commit and roll back, compared with plain prefills."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf

from samplers.backend import SpeculativeBackend
from samplers.speculative.cache import TreeCache
from samplers.speculative.scorer import Request, Scores, TreeScorer, UnsupportedModel
from samplers.speculative.tree import ROOT, Tree

VOCABULARY = 40
CLOSE = 1e-4
CYCLES = 1000
"""Of score, commit and roll back, over all models."""
STEPS = 4

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
SLIDING: dict[str, Any] = SMALL | {"sliding_window": 4}
HEADS: dict[str, Any] = {"head_dim": 8}
MIXED: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"]}
GPT: dict[str, Any] = {
    "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128,
}  # fmt: skip
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", SMALL),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", SMALL),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", SLIDING | HEADS | MIXED),
    "mistral": ("MistralForCausalLM", "MistralConfig", SLIDING),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT),
}
CASES = [(name, attention) for name in MODELS for attention in ("sdpa", "eager")]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads cost more than they gain for models as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(model: str, config: str, options: dict[str, Any], attention: str = "eager") -> Any:
    made = getattr(tf, config)(**options)
    made._attn_implementation = attention
    torch.manual_seed(0)
    out = getattr(tf, model)(made).eval()
    for parameter in out.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return out


@cache
def model(name: str, attention: str) -> Any:
    return build(*MODELS[name], attention)


def prefill(made: Any, tokens: Sequence[int]) -> tuple[torch.Tensor, list[Any]]:
    """Logits at all places, and keys and values of all layers, in one plain forward."""
    with torch.no_grad():
        past = tf.DynamicCache()  # without the configuration: layers that keep everything
        out = made(torch.tensor([tokens]), past_key_values=past, use_cache=True)
    return out.logits[0], [(layer.keys[0], layer.values[0]) for layer in past.layers]


class Walk:
    """Some rows, what their tokens should be, and random steps."""

    def __init__(self, made: Any, rows: int, seed: int, keep_hidden: bool = False) -> None:
        self.model = made
        self.random = np.random.default_rng(seed)
        capacity = int(self.random.integers(1, 24))
        self.scorer = TreeScorer(made, rows, capacity, keep_hidden=keep_hidden)
        self.settled: list[list[int]] = [[] for _ in range(rows)]
        self.compared = 0

    def tokens(self, low: int, high: int) -> list[int]:
        count = int(self.random.integers(low, high))
        return [int(t) for t in self.random.integers(0, VOCABULARY, size=count)]

    def tree(self) -> Tree:
        tree = Tree(0)
        kind = self.random.integers(4)
        for _ in range(int(self.random.integers(0, 9))):
            last = len(tree) - 1
            parent = (last, ROOT, *self.random.integers(-1, last + 1, size=2))[kind]
            tree.add(int(parent), int(self.random.integers(VOCABULARY)), 0, "random", 0.5)
        return tree

    def step(self) -> None:
        rows = range(len(self.settled))
        pending = [self.tokens(1, 9 if self.random.random() < 0.3 else 3) for _ in rows]
        trees = [self.tree() for _ in rows]
        requests = [Request(p, t) for p, t in zip(pending, trees, strict=True)]
        scores = self.scorer.score(requests)
        paths: list[list[int] | None] = []
        for row in rows:
            self.check_logits(row, requests[row], scores)
            node = int(self.random.integers(-1, len(trees[row])))
            if self.random.random() < 0.1:
                paths.append(None)
                continue
            path = trees[row].path(node)
            paths.append(path)
            self.settled[row] += pending[row] + [trees[row].nodes[i].token for i in path]
        self.scorer.commit(paths)
        for row in rows:
            if self.random.random() < 0.4:
                keep = int(self.random.integers(0, len(self.settled[row]) + 1))
                self.scorer.rollback(row, keep)
                del self.settled[row][keep:]

    def check_logits(self, row: int, request: Request, scores: Scores) -> None:
        """After the last settled token and after every node, as in a prefill of its own path."""
        tree = request.tree
        leaves = {ROOT, *range(len(tree))} - {node.parent for node in tree.nodes}
        before = self.settled[row] + list(request.pending)
        for leaf in leaves:
            logits, _ = prefill(self.model, before + tree.tokens_to(leaf))
            for depth, node in enumerate([ROOT, *tree.path(leaf)]):
                expected = logits[len(before) - 1 + depth]
                assert torch.allclose(scores.at(row, node), expected, rtol=0, atol=CLOSE)
                self.compared += 1

    def check_cache(self) -> None:
        """What is kept of every row, layer by layer."""
        for row, tokens in enumerate(self.settled):
            assert self.scorer.length(row) == len(tokens)
            if not tokens:
                continue
            _, layers = prefill(self.model, tokens)
            own = self.scorer.cache.layers[: len(layers)]
            assert len(self.scorer.cache.layers) == len(layers) + self.scorer.keep_hidden
            for layer, (keys, values) in zip(own, layers, strict=True):
                count = len(tokens)
                assert torch.allclose(layer.keys[row, :, :count], keys, rtol=0, atol=CLOSE)
                assert torch.allclose(layer.values[row, :, :count], values, rtol=0, atol=CLOSE)

    def check_hidden(self) -> None:
        """The last hidden states that are kept of every row."""
        for row, tokens in enumerate(self.settled):
            kept = self.scorer.hidden(row)
            if kept is None:
                assert not tokens
                continue
            assert len(kept) == len(tokens)
            if tokens:
                with torch.no_grad():
                    out = self.model(torch.tensor([tokens]), output_hidden_states=True)
                assert torch.allclose(kept, out.hidden_states[-1][0], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_go_where_keys_and_values_go(name: str, seed: int) -> None:
    """Random walks, then rows copied, left out, joined and forked."""
    made = model(name, "eager")
    walk = Walk(made, 1 + seed % 3, seed, keep_hidden=True)
    for _ in range(STEPS):
        walk.step()
        walk.check_hidden()
    walk.check_cache()
    other = Walk(made, 1, 100 + seed, keep_hidden=True)
    other.step()
    if seed % 2:
        forked, settled = walk.scorer.fork(3), list(walk.settled[0])
        walk.scorer.join(other.scorer)
        walk.settled += other.settled
        order = [int(i) for i in walk.random.permutation(len(walk.settled))[: 1 + seed % 3]]
        walk.scorer.select(order)
        walk.settled = [walk.settled[i] for i in order]
        other.scorer, other.settled = forked, [settled]
    other.scorer.cache.expand(2)
    other.settled = [list(other.settled[0]), list(other.settled[0])]
    for each in (walk, other):
        each.check_hidden()
        each.step()
        each.check_hidden()


@pytest.mark.parametrize("seed", range(6))
def test_hidden_states_of_a_shared_prefix(seed: int) -> None:
    """Held once like keys and values, gone back behind, forked, and copied to the rows in the end."""
    walk = Walk(model("llama", "sdpa"), 1, seed, keep_hidden=True)
    for _ in range(3):
        walk.step()
    walk.scorer.share(5)
    walk.check_hidden()
    walk.scorer.cache.expand(3)
    walk.settled = [list(walk.settled[0]) for _ in range(3)]
    prefix = walk.scorer.cache.shared
    for _ in range(STEPS):
        walk.step()
        walk.check_hidden()
    other = Walk(walk.model, 1, 50 + seed, keep_hidden=True)
    other.scorer, other.settled = walk.scorer.fork(9), [list(walk.settled[0])]
    assert walk.scorer.cache.shared == other.scorer.cache.shared == prefix
    walk.scorer.cache.unshare()
    for each in (walk, other):
        each.check_hidden()
        each.step()
        each.check_hidden()


def test_hidden_states_of_another_path_are_seen() -> None:
    """Control: the walk's check fails where a wrong node was kept."""
    walk = Walk(model("llama", "sdpa"), 1, 1, keep_hidden=True)
    tree = Tree(0)
    tree.add(ROOT, 3, 0, "x", 0.5)
    tree.add(ROOT, 4, 0, "x", 0.5)
    walk.scorer.score([Request([5, 6], tree)])
    walk.scorer.commit([[1]])
    walk.settled = [[5, 6, 3]]
    with pytest.raises(AssertionError):
        walk.check_hidden()


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_random_walks(name: str, attention: str) -> None:
    each = CYCLES // len(CASES) // STEPS
    compared = 0
    for seed in range(each):
        walk = Walk(model(name, attention), 1 + seed % 3, seed)
        for _ in range(STEPS):
            walk.step()
        walk.check_cache()
        compared += walk.compared
    assert compared > 5 * each


def test_walks_that_are_wrong_are_seen() -> None:
    """Controls: a path committed wrongly, a length that is off by one."""
    for spoil in ("path", "length"):
        walk = Walk(model("llama", "sdpa"), 1, 1)
        tree = Tree(0)
        first = tree.add(ROOT, 3, 0, "x", 0.5)
        second = tree.add(ROOT, 4, 0, "x", 0.5)
        walk.scorer.score([Request([5, 6], tree)])
        walk.scorer.commit([[second if spoil == "path" else first]])
        walk.settled = [[5, 6, 3]]
        if spoil == "length":
            walk.scorer.rollback(0, 2)
        with pytest.raises(AssertionError):
            walk.check_cache()


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_positions_are_depths(name: str, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two rows of unequal length: what the model is given, not only what comes of it."""
    made = model(name, attention)
    given: list[torch.Tensor] = []
    forward = made.forward

    def watch(*args: Any, **keywords: Any) -> Any:
        given.append(keywords["position_ids"])
        return forward(*args, **keywords)

    scorer = TreeScorer(made, 2, 4)
    monkeypatch.setattr(made, "forward", watch)
    scorer.score([Request([3, 4, 5, 6, 7], Tree(0)), Request([8, 9], Tree(0))])
    scorer.commit([[], []])
    tree = Tree(0)
    a = tree.add(ROOT, 10, 0, "x", 0.5)
    assert a is not None
    tree.add(ROOT, 11, 0, "x", 0.5)
    b = tree.add(a, 12, 0, "x", 0.5)
    scorer.score([Request([13], tree), Request([14, 15, 16], tree)])
    assert given[0].tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 0, 1]]
    assert given[1][0, 2:].tolist() == [5, 6, 6, 7]
    assert given[1][1].tolist() == [2, 3, 4, 5, 5, 6]
    scorer.commit([[a, b], [a]])
    assert [scorer.length(row) for row in (0, 1)] == [8, 6]


@pytest.mark.parametrize(("name", "attention"), CASES)
def test_expand_and_select(name: str, attention: str) -> None:
    """Rows copied from one prompt, rows that end before others."""
    made = model(name, attention)
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    scorer = TreeScorer(made, 1, 4)
    scorer.score([Request(prompt, Tree(0))])
    scorer.commit([[]])
    scorer.cache.expand(3)
    more = [[7, 8], [9], [10, 11, 12]]
    scorer.score([Request(tokens, Tree(0)) for tokens in more])
    scorer.commit([[], [], []])
    scorer.select([2, 0])
    walk = Walk(made, 2, 5)
    walk.scorer = scorer
    walk.settled = [prompt + more[2], prompt + more[0]]
    walk.check_cache()
    for _ in range(3):
        walk.step()
    walk.check_cache()


def test_bad_requests_to_the_cache() -> None:
    held = TreeCache(2, 2, 4)
    with pytest.raises(ValueError, match="holds 0 tokens"):
        held.rollback(0, 1)
    with pytest.raises(ValueError, match="holds 0 tokens"):
        held.rollback(0, -1)
    with pytest.raises(ValueError, match="one row"):
        held.expand(3)


def test_bytes_of_a_token() -> None:
    """Known before the first forward, and what the cache takes afterwards."""
    for name, keep in itertools.product(MODELS, (False, True)):
        scorer = TreeScorer(model(name, "eager"), 2, 16, keep_hidden=keep)
        before = scorer.bytes_per_token
        scorer.score([Request([3, 4], Tree(0))] * 2)
        assert scorer.bytes_per_token == before
        assert scorer.cache.nbytes == 2 * 16 * before


# -- models that will not do -------------------------------------------------------------------

UNSUPPORTED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "mamba": (
        "MambaForCausalLM", "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 1},
        "running state",
    ),
    "linear attention": (
        "MiniMaxForCausalLM", "MiniMaxConfig", SMALL | HEADS | {"num_local_experts": 2},
        "linear_attention",
    ),
    "chunks": (
        "Llama4ForCausalLM", "Llama4TextConfig",
        SMALL | HEADS | {"num_local_experts": 2, "attention_chunk_size": 8,
                         "intermediate_size_mlp": 32},
        "chunked_attention",
    ),
    "encoder and decoder": (
        "T5ForConditionalGeneration", "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1,
         "num_heads": 4},
        "encoder-decoder",
    ),
    "no positions": (
        "BloomForCausalLM", "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 1, "n_head": 4},
        "position_ids",
    ),
    "alibi": (
        "FalconForCausalLM", "FalconConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 1,
         "num_attention_heads": 4, "alibi": True, "new_decoder_architecture": False},
        "alibi",
    ),
    "local attention": (
        "GPTNeoForCausalLM", "GPTNeoConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
         "attention_types": [[["global", "local"], 1]], "window_size": 4,
         "max_position_embeddings": 64},
        "local attention",
    ),
    "both sides": (
        "BertLMHeadModel", "BertConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32,
         "num_hidden_layers": 1, "num_attention_heads": 4},
        "is_decoder=True",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_models_are_refused(name: str) -> None:
    *parts, message = UNSUPPORTED[name]
    made = build(*parts)
    with pytest.raises(UnsupportedModel, match=message) as caught:
        SpeculativeBackend(made, None, [])
    assert type(made).__name__ in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3", "flex_attention"])
def test_attention_without_masks_is_refused(attention: str) -> None:
    made = build(*MODELS["llama"])
    made.config._attn_implementation = attention
    with pytest.raises(UnsupportedModel, match=r"attn_implementation='sdpa' or 'eager'"):
        SpeculativeBackend(made, None, [])
