"""The model of memory: what it says is what caches, logits and masks hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from samplers.speculative.memory import GenerationMemory, Load
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.tree import ROOT, Tree

loads = st.builds(
    Load,
    rows=st.integers(1, 5),
    prompt=st.integers(2, 40),
    new=st.integers(1, 12),
    nodes=st.integers(0, 9),
    shared=st.booleans(),
)


def model(heads: int = 2) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=heads,
    )
    return LlamaForCausalLM(config).eval()


def star(nodes: int) -> Tree:
    tree = Tree(0)
    for token in range(nodes):
        tree.add(ROOT, token, 0, "star", 0.5)
    return tree


MODELS = {heads: model(heads) for heads in (1, 4)}


@given(loads, st.sampled_from(sorted(MODELS)), st.booleans())
def test_what_is_counted_is_what_is_held(load: Load, heads: int, hidden: bool) -> None:
    made = MODELS[heads]
    memory = GenerationMemory.of(made, keep_hidden=hidden)
    before, behind = load.prompt - 1, 1 + load.new + load.nodes
    room = before if load.shared else before + behind
    scorer = TreeScorer(made, 1, room, keep_hidden=hidden)
    scorer.score([Request([3] * before, Tree(None))])
    scorer.commit([[]])
    if load.shared:
        scorer.share(behind)
    scorer.cache.expand(load.rows)
    masks: list[torch.Tensor] = []
    watched = made.register_forward_pre_hook(
        lambda _, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True
    )
    for _ in range(load.new + 1):  # the last of them sees all that there is room for
        scores = scorer.score([Request([1], star(load.nodes))] * load.rows)
        scorer.commit([[]] * load.rows)
    watched.remove()
    assert scorer.cache.nbytes == memory.cache(load)
    assert scores.logits.nbytes == load.scored * memory.logits
    if masks[-1] is not None:
        assert masks[-1].nbytes == load.seen * memory.cell
    assert memory.needed(load) > memory.cache(load)


@given(loads, st.sampled_from(["rows", "prompt", "new", "nodes"]), st.integers(1, 300_000))
def test_the_most_is_the_most(load: Load, what: Any, budget: int) -> None:
    memory = GenerationMemory.of(MODELS[4])
    most = memory.most(what, budget, load)
    least = 0 if what == "nodes" else 1
    if most >= least:
        assert memory.needed(replace(load, **{what: most})) <= budget
    assert memory.needed(replace(load, **{what: most + 1})) > budget
    assert most >= least - 1


def test_hidden_states_count() -> None:
    plain, kept = (GenerationMemory.of(MODELS[1], keep_hidden=hidden) for hidden in (False, True))
    assert kept.token - plain.token == 16 * 4
    assert plain.token == 2 * 2 * 1 * 4 * 4


@pytest.mark.parametrize("heads", sorted(MODELS))
def test_fewer_heads_take_less(heads: int) -> None:
    assert GenerationMemory.of(MODELS[heads]).token == 2 * 2 * heads * 4 * 4
