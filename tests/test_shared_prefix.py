"""Rows that share a prefix score as rows with copies do; what cannot share it falls back to copies."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import pytest
import torch
import transformers as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from samplers.speculative import shared_prefix
from samplers.speculative.cache import TreeCache
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.shared_prefix import (
    NAME,
    PrefixNotSeen,
    PrefixReader,
    attend,
    attention_part,
    explicit_part,
)
from samplers.speculative.tree import ROOT, Tree

VOCABULARY: Final = 40
CLOSE: Final = 1e-5
SMALL: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
MODELS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", SMALL),
    "one key for all": ("LlamaForCausalLM", "LlamaConfig", SMALL | {"num_key_value_heads": 1}),
    "a key each": ("LlamaForCausalLM", "LlamaConfig", SMALL | {"num_key_value_heads": 4}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", SMALL),
    "gpt2": (
        "GPT2LMHeadModel", "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads cost more than they gain for models as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(name: str, attention: str = "sdpa", **more: Any) -> Any:
    model, config, options = MODELS[name]
    made = getattr(tf, config)(**options, **more)
    made._attn_implementation = attention
    torch.manual_seed(0)
    return getattr(tf, model)(made).eval()


@cache
def model(name: str) -> Any:
    return build(name)


# -- the arithmetic ------------------------------------------------------------------------------

shapes = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 5),
        "groups": st.integers(1, 3),
        "each": st.integers(1, 3),
        "new": st.integers(1, 6),
        "prefix": st.integers(1, 40),
        "own": st.integers(0, 9),
        "width": st.sampled_from([3, 8, 16]),
        "part": st.booleans(),
        "seed": st.integers(0, 1000),
    }
)


@settings(max_examples=150)
@given(shapes, st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
def test_two_parts_are_one_attention(shape: dict[str, Any], dtype: torch.dtype) -> None:
    """Beside one softmax over all keys in float64, the prefix copied to every row and head."""
    rows, new, width = shape["rows"], shape["new"], shape["width"]
    groups, each = shape["groups"], shape["each"]
    generator = torch.Generator().manual_seed(shape["seed"])

    def numbers(*size: int) -> torch.Tensor:
        return (2 * torch.randn(*size, generator=generator)).to(dtype)

    keys = shape["own"] + new
    query = numbers(rows, groups * each, new, width)
    prefix = numbers(1, groups, shape["prefix"], width), numbers(1, groups, shape["prefix"], width)
    own = numbers(rows, groups, keys, width), numbers(rows, groups, keys, width)
    seen = torch.rand(rows, new, keys, generator=generator) < 0.5
    seen[..., -1] = True
    held = torch.randint(0, shape["prefix"] + 1, (rows,), generator=generator)
    if not shape["part"]:
        held[:] = shape["prefix"]
    before = (torch.arange(shape["prefix"]) < held[:, None])[:, None].expand(-1, new, -1)

    def additive(seen: torch.Tensor) -> torch.Tensor:
        return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    found = attend(
        query,
        prefix,
        own,
        additive(seen)[:, None].repeat_interleave(each, 2),
        additive(before).repeat_interleave(each, 1).reshape(1, 1, -1, shape["prefix"])
        if shape["part"]
        else None,
        width**-0.5,
    )
    whole = [
        torch.cat([a.expand(rows, -1, -1, -1), b], 2).double().repeat_interleave(each, 1)
        for a, b in zip(prefix, own, strict=True)
    ]
    scores = query.double() @ whole[0].transpose(-1, -2) * width**-0.5
    hidden = ~torch.cat([before, seen], 2)[:, None]
    expected = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ whole[1]
    close = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    assert torch.allclose(found.transpose(1, 2).double(), expected, rtol=0, atol=close)


@given(st.integers(0, 100), st.booleans())
def test_the_kernel_and_all_scores_in_memory_agree(seed: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, 3, n, 8, generator=generator) for n in (5, 7, 7))
    mask = torch.randn(2, 1, 5, 7, generator=generator) if masked else None
    for found, expected in zip(
        attention_part(query, key, value, mask, 0.3),
        explicit_part(query, key, value, mask, 0.3),
        strict=True,
    ):
        assert found.dtype == expected.dtype
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)


# -- forwards ------------------------------------------------------------------------------------


def read(made: Any, prompt: Sequence[int], capacity: int | None = None) -> TreeScorer:
    scorer = TreeScorer(made, 1, capacity or len(prompt))
    scorer.score([Request(prompt, Tree(None))])
    scorer.commit([[]])
    return scorer


class Pair:
    """Rows that share a prompt and rows with copies of it, through the same random steps."""

    def __init__(self, made: Any, rows: int, prompt: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.prompt = self.tokens(prompt, prompt + 1)
        self.shared, self.copied = (read(made, self.prompt) for _ in range(2))
        self.shared.share(int(self.random.integers(1, 12)))
        assert self.shared.cache.shared == prompt
        for scorer in (self.shared, self.copied):
            scorer.cache.expand(rows)
        self.worst = 0.0

    @property
    def both(self) -> tuple[TreeScorer, TreeScorer]:
        return self.shared, self.copied

    def tokens(self, low: int, high: int) -> list[int]:
        return [
            int(t) for t in self.random.integers(0, VOCABULARY, self.random.integers(low, high))
        ]

    def tree(self) -> Tree:
        tree = Tree(0)
        for _ in range(int(self.random.integers(0, 9))):
            parent = int(self.random.integers(-1, len(tree)))
            tree.add(parent, int(self.random.integers(VOCABULARY)), 0, "random", 0.5)
        return tree

    def score(self) -> None:
        requests = [Request(self.tokens(1, 4), self.tree()) for _ in range(self.shared.rows)]
        found, expected = (scorer.score(requests) for scorer in self.both)
        paths: list[list[int] | None] = []
        for row, request in enumerate(requests):
            nodes = 1 + len(request.tree)
            gap = (found.logits[row, :nodes] - expected.logits[row, :nodes]).abs().max()
            self.worst = max(self.worst, float(gap))
            node = int(self.random.integers(-1, len(request.tree)))
            paths.append(None if self.random.random() < 0.1 else request.tree.path(node))
        for scorer in self.both:
            scorer.commit(paths)

    def change(self) -> None:
        """Goes back, into the prompt now and then; leaves rows out, doubles them, goes on in a fork."""
        kind = self.random.random()
        rows = self.shared.rows
        if kind < 0.5:
            row = int(self.random.integers(rows))
            low = (
                0 if self.random.random() < 0.3 else min(len(self.prompt), self.shared.length(row))
            )
            length = int(self.random.integers(low, self.shared.length(row) + 1))
            for scorer in self.both:
                scorer.rollback(row, length)
        elif kind < 0.8:
            chosen = [int(i) for i in self.random.integers(0, rows, self.random.integers(1, 5))]
            for scorer in self.both:
                scorer.select(chosen)
        elif kind < 0.9:
            self.shared, self.copied = (scorer.fork(30) for scorer in self.both)
        else:
            for scorer in self.both:
                scorer.join(scorer.fork(20))

    def check(self) -> None:
        assert self.worst < CLOSE
        assert self.shared.cache.lengths == self.copied.cache.lengths
        for row in range(self.shared.rows):
            for found, expected in zip(*(s.cache.kept(row) for s in self.both), strict=True):
                for one, other in zip(found, expected, strict=True):
                    assert one.shape == other.shape
                    assert torch.allclose(one, other, rtol=0, atol=CLOSE)


@settings(max_examples=60)
@given(st.sampled_from(list(MODELS)), st.integers(1, 5), st.integers(1, 60), st.integers(0, 10_000))
def test_shared_and_copied_rows_score_alike(name: str, rows: int, prompt: int, seed: int) -> None:
    pair = Pair(model(name), rows, prompt, seed)
    for _ in range(5):
        pair.score()
        pair.change()
    pair.check()
    assert pair.shared.cache.shared == prompt, "rows shared it to the end"


def test_a_prefix_that_is_wrong_is_seen() -> None:
    """Control: one number of the prefix is another one."""
    pair = Pair(model("llama"), 2, 20, 0)
    prefix = pair.shared.cache.layers[0].prefix
    assert prefix is not None
    prefix[1][0, 0, 3] += 1
    pair.score()
    assert pair.worst > CLOSE


def test_rows_that_see_less_of_the_prefix_need_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a row that has gone back sees all of the prompt."""
    pair = Pair(model("llama"), 2, 20, 0)
    for scorer in pair.both:
        scorer.rollback(1, 5)
    monkeypatch.setattr(PrefixReader, "prefix_mask", lambda *_: None)
    pair.score()
    assert pair.worst > CLOSE


def test_the_default_attention_is_back_after_a_forward() -> None:
    made = build("llama")
    pair = Pair(made, 3, 10, 1)
    names: list[str] = []
    look = made.model.layers[1].register_forward_hook(
        lambda *_: names.append(made.config._attn_implementation)
    )
    pair.score()
    look.remove()
    assert names == [NAME, "sdpa"], "the rows that share, and those with copies"
    assert made.config._attn_implementation == "sdpa"
    hook = made.lm_head.register_forward_hook(lambda *_: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):
            pair.score()
    finally:
        hook.remove()
    assert made.config._attn_implementation == "sdpa"
    assert pair.shared.cache.reader is None
    pair.check()


def test_another_thread_may_use_the_model_meanwhile() -> None:
    """Its forwards, with masks and without, are plain ones; the attention is put back at the end."""
    made = model("llama")
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    padded = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    with torch.no_grad():
        expected = made(ids).logits, made(ids, attention_mask=padded).logits[:, 1:]
    scorers = [read(made, [1, 2, 3] * 9) for _ in range(2)]
    for scorer in scorers:
        scorer.share(8)
        scorer.cache.expand(3)
    inside, may_go_on = threading.Event(), threading.Event()
    hook = made.model.layers[0].register_forward_hook(
        lambda *_: (
            (inside.set(), may_go_on.wait(20), None)[2]
            if threading.current_thread().name == "first"
            else None
        )
    )
    out: dict[str, Any] = {}

    def first() -> None:
        out["first"] = scorers[0].score([Request([5], Tree(None))] * 3).logits

    thread = threading.Thread(target=first, name="first")
    thread.start()
    try:
        assert inside.wait(20)
        assert made.config._attn_implementation == NAME
        with torch.no_grad():
            found = made(ids).logits, made(ids, attention_mask=padded).logits[:, 1:]
        second = scorers[1].score([Request([5], Tree(None))] * 3).logits
        assert made.config._attn_implementation == NAME
    finally:
        may_go_on.set()
        thread.join(20)
        hook.remove()
    assert made.config._attn_implementation == "sdpa"
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=CLOSE)
    assert torch.allclose(out["first"], second, rtol=0, atol=CLOSE)


# -- what cannot share ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eager", "window", "no registry"])
def test_models_that_are_known_not_to_share(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "eager":
        made = build("llama", "eager")
    elif name == "no registry":
        from transformers.models.llama import modeling_llama

        made = build("llama")
        monkeypatch.delattr(modeling_llama, "ALL_ATTENTION_FUNCTIONS")
        scorer = TreeScorer(made)
        assert not scorer.can_share
        return
    else:
        config = tf.MistralConfig(**SMALL, sliding_window=4)
        made = tf.MistralForCausalLM(config).eval()
    scorer = read(made, [1, 2, 3])
    assert not scorer.can_share
    scorer.share(5)
    assert scorer.cache.shared == 0


def own_attention(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention that calls torch itself, as in files of models that came with a checkpoint."""
    for layer in made.model.layers:
        attention = layer.self_attn

        def forward(
            hidden_states: Any,
            position_embeddings: Any,
            attention_mask: Any,
            *_: Any,
            attention: Any = attention,
            past_key_values: Any = None,
            cache: Any = None,
            **__: Any,
        ) -> Any:
            from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

            shape = (*hidden_states.shape[:-1], -1, attention.head_dim)
            query, key, value = (
                part(hidden_states).view(shape).transpose(1, 2)
                for part in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
            held = cache if past_key_values is None else past_key_values
            if held is not None:
                key, value = held.update(key, value, attention.layer_idx)
            key, value = (
                x.repeat_interleave(attention.num_key_value_groups, 1) for x in (key, value)
            )
            out = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, is_causal=attention_mask is None
            )
            return attention.o_proj(out.transpose(1, 2).reshape(*shape[:-2], -1)), None

        monkeypatch.setattr(attention, "forward", forward)


def dropping(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer in made.model.layers:
        layer.self_attn.training = True
        layer.self_attn.attention_dropout = 1e-12


def own_registry(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama import modeling_llama

    def doubled(*args: Any, **keywords: Any) -> Any:
        out, weights = sdpa_attention_forward(*args, **keywords)
        return 2 * out, weights

    own = tf.AttentionInterface()
    own["sdpa"] = doubled
    monkeypatch.setattr(modeling_llama, "ALL_ATTENTION_FUNCTIONS", own)


def own_keyword(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that sdpa of some version would look at."""
    from transformers.models.llama.modeling_llama import LlamaAttention

    plain = LlamaAttention.forward

    def forward(self: Any, *args: Any, **keywords: Any) -> Any:
        name = made.config._attn_implementation
        more = {"position_bias": torch.zeros(1)} if name == NAME else {}
        return plain(self, *args, **keywords, **more)

    monkeypatch.setattr(shared_prefix, "_OTHERS", {"position_bias"})
    monkeypatch.setattr(LlamaAttention, "forward", forward)


STRANGE: Final = {f.__name__: f for f in (own_attention, dropping, own_registry, own_keyword)}


@pytest.mark.parametrize("name", STRANGE)
def test_models_that_turn_out_not_to_share(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first forward is done again with copies, and from then on nobody tries."""
    made = build("llama")
    STRANGE[name](made, monkeypatch)
    pair = Pair(made, 3, 12, 2)
    forwards = pair.shared.forwards
    pair.score()
    assert pair.worst < CLOSE
    assert pair.shared.cache.shared == 0
    assert pair.shared.forwards == forwards + 2
    assert not pair.shared.can_share
    assert not TreeScorer(made).can_share
    for _ in range(3):
        pair.score()
        pair.change()
    pair.check()
    assert made.config._attn_implementation == "sdpa"


def test_offers_and_calls_come_in_pairs() -> None:
    reader = PrefixReader()
    with pytest.raises(PrefixNotSeen, match="without new keys"):
        reader.take()
    one = torch.zeros(1), torch.zeros(1)
    reader.offer(one)
    with pytest.raises(PrefixNotSeen, match="without attention"):
        reader.offer(one)
    with pytest.raises(PrefixNotSeen, match="without attention"):
        reader.check_taken()
    assert reader.take() is one
    reader.check_taken()


# -- the cache -----------------------------------------------------------------------------------


def test_memory_of_a_prefix_counts_once() -> None:
    prompt, rows, room = [5, 6, 7] * 20, 4, 8
    scorer = read(model("llama"), prompt)
    each = scorer.bytes_per_token
    keys = scorer.cache.layers[0].keys
    scorer.share(room)
    assert scorer.cache.nbytes == len(prompt) * each
    prefix = scorer.cache.layers[0].prefix
    assert prefix is not None
    assert prefix[0].data_ptr() == keys.data_ptr(), "nothing was copied"
    assert scorer.bytes_per_token == each
    scorer.cache.expand(rows)
    scorer.score([Request([1], Tree(None))] * rows)
    assert scorer.cache.nbytes == (len(prompt) + rows * room) * each
    fork = scorer.fork(len(prompt) + room)
    forked = fork.cache.layers[0].prefix
    assert forked is not None
    assert forked[0].data_ptr() == prefix[0].data_ptr()
    scorer.cache.unshare()
    assert scorer.cache.nbytes == rows * (len(prompt) + room) * each


def test_rows_of_other_prompts_join() -> None:
    """Copies are made where prefixes differ, and none where they are the same."""
    made = model("llama")
    first, second = [1, 2, 3, 4, 5], [9, 8, 7]
    one, other = read(made, first), read(made, second)
    for scorer in (one, other):
        scorer.share(4)
    one.join(one.fork(8))
    assert one.cache.shared == len(first)
    assert one.rows == 2
    one.join(other)
    assert one.cache.shared == 0
    scores = one.score([Request([11], Tree(None))] * 3)
    for row, prompt in enumerate((first, first, second)):
        with torch.no_grad():
            alone = made(torch.tensor([[*prompt, 11]])).logits[0, -1]
        assert torch.allclose(scores.at(row, ROOT), alone, rtol=0, atol=CLOSE)


def test_a_prefix_grows() -> None:
    """What is shared and what came behind it become the next prefix, of rows that are made then."""
    made = model("llama")
    scorer = read(made, [1, 2, 3, 4])
    scorer.share(4)
    scorer.score([Request([5, 6], Tree(None))])
    scorer.commit([[]])
    scorer.share(4)
    assert scorer.cache.shared == 6
    scorer.rollback(0, 3)
    scorer.share(4)
    assert scorer.cache.shared == 3
    scorer.cache.expand(2)
    scores = scorer.score([Request([7], Tree(None))] * 2)
    with torch.no_grad():
        alone = made(torch.tensor([[1, 2, 3, 7]])).logits[0, -1]
    assert torch.allclose(scores.at(1, ROOT), alone, rtol=0, atol=CLOSE)


def test_bad_requests() -> None:
    scorer = read(model("llama"), [1, 2, 3])
    scorer.cache.expand(2)
    with pytest.raises(ValueError, match="one row"):
        scorer.cache.share(4)
    scorer.select([0])
    scorer.share(4)
    with pytest.raises(RuntimeError, match=r"TreeScorer\.score"):
        scorer.cache.update(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8), 0)
    empty = TreeCache(2, 1, 4)
    empty.share(4)
    assert empty.shared == 0


# -- the default model ---------------------------------------------------------------------------


@pytest.mark.model
def test_the_default_model_scores_alike() -> None:
    """Three rows behind a real prompt, with trees: to 1e-5 of the largest logit in float32."""
    from constrain import load_model

    made, tokenizer = load_model(dtype="float32")
    text = "On 3 May 2025 the water will be off in Mill Lane from 9 to 12. " * 8
    prompt = tokenizer(text)["input_ids"]
    both = [read(made, prompt, len(prompt) + 20 * (not shared)) for shared in (True, False)]
    both[0].share(20)
    tree = Tree(None)
    for i in range(6):
        tree.add(i - 1 if i % 3 else ROOT, 500 + i, None, "x", 0.5)
    for scorer in both:
        scorer.cache.expand(3)
    for step in range(2):
        requests = [Request([300 + row + step], tree) for row in range(3)]
        found, expected = (scorer.score(requests).logits for scorer in both)
        bound = 1e-5 * float(expected.abs().max())
        assert torch.allclose(found, expected, rtol=0, atol=bound)
        assert not torch.equal(found, expected), "they were computed in two ways"
        for scorer in both:
            scorer.commit([[0, 1], [], [3]])
    assert both[0].cache.shared == len(prompt)
    assert both[0].cache.nbytes < both[1].cache.nbytes / 2
