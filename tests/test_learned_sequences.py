"""Drafters with a layer over the context: nothing of them shows in the text, and they learn."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from enumeration import Enumerated
from hypothesis import given, settings
from hypothesis import strategies as st
from one_thread import one_thread  # noqa: F401 - a fixture
from test_neural_drafters import (
    COLUMNS,
    EXACT,
    LENGTH,
    PROMPT,
    TARGETS,
    VISIBLE,
    Endless,
    Weighted,
    context_of,
    enumerated,
    expected,
    llama,
    made,
    total_variation,
)

from constrain import TokenAutomaton
from grammars import Grammar
from samplers.backend import SpeculativeBackend
from samplers.constrained import GrammarConstrained
from samplers.drafters.base import Context
from samplers.drafters.learned import FSPAD, Chimera, Growth, Training
from samplers.drafters.learned.layers import Layer
from samplers.drafters.learned.sequences import (
    Memory,
    Network,
    SequenceDrafter,
    chains,
    places,
    start,
)
from samplers.drafters.learned.training import Reading
from samplers.drafters.learned.vocabulary import Output, frequent
from samplers.drafters.recursive import law_after
from samplers.speculative.law import Sampling
from samplers.speculative.target import FreeText
from samplers.speculative.tree import ROOT, Tree

KINDS: dict[str, tuple[type[SequenceDrafter], dict[str, Any]]] = {
    "fspad": (FSPAD, {}),
    "eagle": (FSPAD, {"wide": 0, "apart": False}),
    "chimera": (Chimera, {"count": 3}),
}
EAGER = Growth(depth=3, width=3, children=3, least=0.0)


def network(kind: str, model: Any, ids: list[int] | None = None) -> Network:
    """One with random weights, also where training begins with zeros."""
    torch.manual_seed(5)
    drafter, options = KINDS[kind]
    found = drafter.networks(model, None if ids is None else torch.tensor(ids), **options)
    for name, parameter in found.named_parameters():
        if name.startswith("own"):
            torch.nn.init.normal_(parameter, std=0.3)
    return found


def drafter(kind: str, model: Any, ids: list[int] | None = None) -> SequenceDrafter:
    return KINDS[kind][0](network(kind, model, ids), growth=EAGER)


# -- nothing shows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", [None, [0, 2]], ids=["all tokens", "some tokens"])
def test_the_law_is_left_alone(kind: str, target: str, ids: list[int] | None) -> None:
    wanted = TARGETS[target]()
    law, accepted = enumerated(llama(), drafter(kind, llama(), ids), wanted)
    assert accepted
    assert total_variation(law, expected(llama(), wanted)) < EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_at_a_temperature_the_law_is_left_alone(kind: str) -> None:
    wanted = Weighted(3, masked=True)
    law, accepted = enumerated(llama(), drafter(kind, llama()), wanted, Sampling(0.7))
    assert accepted
    assert total_variation(law, expected(llama(), wanted, temperature=0.7)) < EXACT


@pytest.mark.parametrize("kind", KINDS)
def test_accepting_whatever_was_drafted_would_show(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the same test sees a verification that likes a draft's first guess too much."""
    import samplers.backend

    verify = samplers.backend.next_token

    def liking(tree: Tree, node: int, law: Any, choices: Any) -> tuple[int, int | None]:
        children = tree.children(node)
        if children and choices.accept(0.25):
            return tree.nodes[children[0]].token, children[0]
        return verify(tree, node, law, choices)

    monkeypatch.setattr(samplers.backend, "next_token", liking)
    wanted = Weighted(3, masked=True)
    law, _ = enumerated(llama(), drafter(kind, llama()), wanted)
    assert total_variation(law, expected(llama(), wanted)) > VISIBLE


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_texts_are_those_of_plain_decoding(kind: str) -> None:
    """In float32, within a grammar and free, one row and several."""
    model = toys.model()
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    automaton = TokenAutomaton(Grammar.from_json_schema(schema), toys.vocabulary())
    texts = []
    for drafters in ([], [drafter(kind, model)]):
        backend = SpeculativeBackend(model, drafters=drafters, max_rows=2, adaptive=False)
        free = backend.generate(
            [toys.BOS, 5, 9], FreeText(()), n=3, max_new_tokens=30, sampling=Sampling(0), seed=0
        )
        some = GrammarConstrained(backend, automaton).sample(
            [toys.BOS, 7], max_new_tokens=24, temperature=0.0, seed=0
        )
        texts.append([s.token_ids for s in (*free, *some)])
        if drafters:
            assert free[0].stats.drafted > 10
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_memories_of_their_own(kind: str) -> None:
    """Texts that end and are replaced: each has the drafts it would have alone."""
    counts = []
    for rows in (1, 3):
        backend = SpeculativeBackend(
            llama(), drafters=[drafter(kind, llama())], max_rows=rows, adaptive=False
        )
        samples = backend.generate(PROMPT, FreeText((1,)), n=5, max_new_tokens=12, seed=5)
        counts.append([(s.token_ids, s.stats.accepted, s.stats.drafted) for s in samples])
    assert counts[0] == counts[1]


# -- drafting says what training says --------------------------------------------------------------


def spelled(context: Context, node: int) -> list[int]:
    return [*context.tokens, *context.tree.tokens_to(node)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [2, 3, 9])
def test_drafts_are_made_as_they_are_trained(kind: str, length: int) -> None:
    """States of every node of a tree beside the passes over the text that its path makes."""
    model = made(1, layers=2, size=16).float()
    own = network(kind, model)
    draw = np.random.default_rng(length)
    tokens = draw.integers(0, COLUMNS, length).tolist()
    with torch.no_grad():
        hidden = model(torch.tensor([tokens[:-1]]), output_hidden_states=True).hidden_states[-1][0]
    context = context_of(FreeText(()), Enumerated())
    context.tokens, context.tokens_left = tokens, 9
    memory = Memory()
    with torch.no_grad():
        own.follow(memory, hidden, tokens)
        after = own.beginning(context, memory)
        level, compared = [ROOT], 0
        for depth in range(3):
            states = after(level)
            for node, state in zip(level, states, strict=True):
                text = spelled(context, node)
                # one token more, which passes do not read; states that drafts do not know are zeros
                known = torch.zeros(len(text) + 1, hidden.shape[1])
                known[: len(hidden)] = hidden
                ids = torch.tensor([*text, 0])
                said = own.passes(known, ids, depth + 1)[depth].y[-1]
                assert torch.allclose(state, said, atol=1e-5)
                compared += 1
            level = [
                made_now
                for node in level
                for token in (0, 2)
                if (made_now := context.add(node, token, "x", 0.5)) is not None
            ]
    assert compared == 7


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_goes_on_goes_back_and_starts_anew(kind: str) -> None:
    model = made(1, layers=2, size=16).float()
    own, memory = network(kind, model), Memory()
    texts = [[0, 2, 3], [0, 2, 3, 2, 2, 0], [0, 2, 3, 2], [0, 2, 3, 2], [3, 3], [3, 3, 0, 2] * 30]
    for text in texts:
        with torch.no_grad():
            out = model(torch.tensor([text[:-1]]), output_hidden_states=True)
            hidden = out.hidden_states[-1][0]
            own.follow(memory, hidden, text)
            fresh = Memory()
            own.follow(fresh, hidden, text)
        assert memory.root is not None
        assert fresh.root is not None
        assert torch.allclose(memory.root, fresh.root, atol=1e-5)
        for mine, other in zip(memory.seen, fresh.seen, strict=True):
            assert len(mine) == len(text) - 1
            assert torch.allclose(mine, other, atol=1e-5)


def test_drafts_stand_behind_the_text_until_it_goes_on() -> None:
    """Whether or not there is room: what is seen is the text, the drafts before, and these."""
    drawn = torch.Generator().manual_seed(0)

    def pair(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        made = torch.randn(2, count, 1, 4, generator=drawn)
        return made[0], made[1]

    memory, text = Memory(), pair(5)
    memory.write(0, text, range(6))
    behind: list[tuple[torch.Tensor, torch.Tensor]] = []
    for count in (1, 2, 40, 90):
        new = pair(count)
        seen = memory.behind(sum(len(keys) for keys, _ in behind), new)
        behind.append(new)
        for part in (0, 1):
            assert torch.equal(seen[part], torch.cat([text[part], *(one[part] for one in behind)]))
    assert all(map(torch.equal, memory.seen, text))
    more = pair(3)
    memory.write(4, more, range(8))
    for part in (0, 1):
        assert torch.equal(memory.seen[part], torch.cat([text[part][:4], more[part]]))


def test_a_layer_is_that_of_plain_attention() -> None:
    """Against loops over heads and places, with further keys seen one by one."""
    torch.manual_seed(0)
    layer, n = Layer(16, 4, 2, 24), 5
    x, x2 = torch.randn(n, 16), torch.randn(n, 16)
    positions = torch.arange(n) + 3
    with torch.no_grad():
        seen, further = layer.pairs(x, positions), layer.pairs(x2, positions)
        queries = layer.queries(x, positions)
        mask = positions[None] < positions[:, None]
        mask[0, 0] = True
        found = layer.attend(x, queries, seen, mask, (further,))
        for i in range(n):
            mixed = []
            for h in range(4):
                group = h // 2
                keys = [seen[0][j, group] for j in range(n) if mask[i, j]] + [further[0][i, group]]
                values = [seen[1][j, group] for j in range(n) if mask[i, j]]
                values.append(further[1][i, group])
                scores = torch.stack([queries[i, h] @ k / 2 for k in keys])
                mixed.append((scores.softmax(0)[:, None] * torch.stack(values)).sum(0))
            y = x[i] + layer.out(torch.cat(mixed))
            inside = layer.between(y)
            wanted = y + layer.down(torch.nn.functional.silu(layer.gate(inside)) * layer.up(inside))
            assert torch.allclose(found[i], wanted, atol=1e-5)
        # turned by positions: scores depend on their difference alone
        a = layer.queries(x, positions)[2] * layer.pairs(x, positions)[0][1].repeat_interleave(2, 0)
        later = positions + 7
        b = layer.queries(x, later)[2] * layer.pairs(x, later)[0][1].repeat_interleave(2, 0)
        assert torch.allclose(a.sum(-1), b.sum(-1), atol=1e-4)
        # a mask of the last keys alone: all see the others
        some = mask.clone()
        some[:, :2] = True
        found, narrow = (layer.attend(x, queries, seen, part) for part in (some, some[:, 2:]))
        assert torch.equal(found, narrow)
        assert torch.equal(layer.parts(x, positions)[0], queries)
        assert all(map(torch.equal, layer.parts(x, positions)[1], seen))
    with pytest.raises(ValueError, match="do not divide"):
        Layer(16, 3, 1, 8)


# -- guesses within the grammar --------------------------------------------------------------------


@cache
def outputs() -> tuple[Any, Output, Output]:
    model = toys.model()
    some = torch.arange(0, 64, 3)
    return model, Output(model), Output(model, some)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    allowed=st.one_of(st.none(), st.sets(st.integers(0, 63), min_size=1)),
    weighted=st.booleans(),
    few=st.booleans(),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_guesses_are_ranked_within_what_is_allowed(
    seed: int, allowed: set[int] | None, weighted: bool, few: bool, temperature: float
) -> None:
    """Beside ``law_after`` on the logits of all tokens, those outside the vocabulary struck out."""
    import samplers.drafters.learned.vocabulary as module
    from samplers.speculative.target import Weighting

    model, whole, short = outputs()
    draw = np.random.default_rng(seed)
    ids = None if allowed is None else np.array(sorted(allowed))
    logs = draw.normal(size=64 if ids is None else len(ids)) if weighted else None

    class Given(FreeText):
        def weighting(self, state: int, tokens_left: int) -> Weighting:
            return Weighting(ids, logs)

    context = context_of(Given(()), Enumerated(), sampling=Sampling(temperature))
    y = torch.from_numpy(draw.normal(size=(1, 32))).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEW", 64 if few else -1)
        for output in (whole, short):
            (found,) = output.ranked(context, [ROOT], y, 5)
            logits = (y @ model.lm_head.weight.detach().T)[0]
            struck = output is short and not (few and (ids is not None or weighted))
            if struck:
                gone = torch.ones(64, dtype=torch.bool)
                gone[::3] = False
                logits = logits.masked_fill(gone, -torch.inf)
            law = law_after(context, ROOT, logits)
            if law is None:
                assert found == []
                continue
            p = law.dense(64)
            wanted = [int(t) for t in np.argsort(-p, kind="stable")[:5] if p[t] > 0]
            assert [token for token, _ in found] == wanted
            assert [share for _, share in found] == pytest.approx([p[t] for t in wanted], rel=1e-4)


def test_no_guess_where_no_text_can_go_on() -> None:
    _, whole, _ = outputs()
    context = context_of(FreeText((4,)), Enumerated())
    end = context.add(ROOT, 4, "x", 0.5)
    other = context.add(ROOT, 5, "x", 0.5)
    assert end is not None
    assert other is not None
    found = whole.ranked(context, [end, other], torch.randn(2, 32), 3)
    assert found[0] == []
    assert len(found[1]) == 3


def test_the_most_frequent_tokens_of_answers() -> None:
    texts = [([9, 9, 9, 5, 5, 7], 3), ([8, 7], 1)]
    assert frequent(texts, 2, 20) == [5, 7]
    assert frequent(texts, 4, 20) == [0, 1, 5, 7]
    assert frequent(texts, 99, 6)[:3] == [0, 1, 2]


# -- learning --------------------------------------------------------------------------------------

CYCLE = [2, 3, 4, 5]


def texts() -> list[tuple[list[int], int]]:
    """Texts that go round, after prompts that tell nothing."""
    return [([0] * (i % 7) + [i % 4 + 1, *(CYCLE * 6)[i % 4 :][:18]], 1 + i % 7) for i in range(28)]


@cache
def fitted(kind: str) -> SequenceDrafter:
    model = made(1, layers=2, columns=6, size=16).float()
    drafter, options = KINDS[kind]
    return drafter.fit(
        model,
        None,
        texts(),
        vocabulary=5,
        training=Training(epochs=30, learning_rate=0.01, batch=64, held_out=0.2, patience=30),
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_teaches_the_models_law(kind: str) -> None:
    """The loss is cross-entropy with the model's law, so that what is learned is the model."""
    model = made(1, layers=2, columns=6, size=16).float()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = fitted(kind)
    assert found.report.losses[-1] < 0.9 * found.report.losses[0]
    assert max(found.report.acceptance) >= found.report.acceptance[0]
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    drafter, options = KINDS[kind]
    short = Training(epochs=2, learning_rate=0.01, batch=64, held_out=0.2)
    again = [
        drafter.fit(model, None, texts(), vocabulary=5, training=short, **options) for _ in "ab"
    ]
    assert again[0].report.losses == again[1].report.losses
    assert again[0].report.acceptance == again[1].report.acceptance


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_is_drafted(kind: str) -> None:
    """More of the model's greedy text is guessed than before training."""
    model = made(1, layers=2, columns=6, size=16).float()
    network_before = network(kind, model, [0, 1, 2, 3, 4])
    growth = Growth(depth=2, width=1, children=1, least=0.0)
    counts = []
    for drafter in (KINDS[kind][0](network_before, growth=growth), fitted(kind)):
        drafter.growth = growth
        backend = SpeculativeBackend(model, drafters=[drafter], adaptive=False)
        accepted = 0
        for seed in range(8):
            (sample,) = backend.generate([0, 2], FreeText(()), max_new_tokens=30, seed=seed)
            accepted += sample.stats.accepted
        counts.append(accepted)
    assert counts[1] > counts[0]


@pytest.mark.parametrize("kind", KINDS)
def test_chains_are_those_of_drafting(kind: str) -> None:
    """Acceptance on texts held out beside greedy chains made one token at a time."""
    model = made(1, layers=2, columns=6, size=16).float()
    own = fitted(kind).network
    tokens = [0, 3, *CYCLE * 3]
    with torch.no_grad():
        hidden = model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][0]
    reading = Reading(tokens, 3, hidden)
    found = chains(own, reading, 2)
    assert len(found) == places(reading) - 1
    for row, right in enumerate(found.tolist()):
        first = start(reading) + row + 2  # tokens known, the root the last of them
        context = context_of(FreeText(()), Enumerated())
        context.tokens, context.tokens_left = tokens[:first], 9
        memory, node = Memory(), ROOT
        with torch.no_grad():
            own.follow(memory, hidden[: first - 1], tokens[:first])
            after = own.beginning(context, memory)
            for depth in range(2):
                column = int(own.output.logits(after([node]))[0].argmax())
                assert right[depth] == (own.output.token(column) == tokens[first + depth])
                made_now = context.add(node, tokens[first + depth], "x", 0.5)
                assert made_now is not None
                node = made_now


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", [None, [0, 2, 3]])
def test_networks_are_saved_and_loaded(kind: str, ids: list[int] | None, tmp_path: Path) -> None:
    model = llama()
    saved = drafter(kind, model, ids)
    path = tmp_path / "drafter.safetensors"
    saved.save(path)
    assert b"lm_head" not in path.read_bytes()
    loaded = type(saved).load(path, model, growth=EAGER)
    drafts = []
    for each in (saved, loaded):
        backend = SpeculativeBackend(model, drafters=[each], adaptive=False)
        (sample,) = backend.generate(PROMPT, Endless(), max_new_tokens=12, seed=1)
        drafts.append((sample.token_ids, sample.stats.drafted, sample.stats.accepted))
    assert drafts[0] == drafts[1]
    with pytest.raises(ValueError, match=r"hidden size 8, 4 tokens.*hidden size 8, 5 tokens"):
        type(saved).load(path, made(1, columns=5))
    other = next(drafter for drafter, _ in KINDS.values() if drafter is not type(saved))
    with pytest.raises(ValueError, match="does not hold weights of this kind"):
        other.load(path, model)
    with pytest.raises(FileNotFoundError, match="no such file"):
        type(saved).load(tmp_path / "nothing", model)
    path.write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="does not hold weights"):
        type(saved).load(path, model)


def test_wrong_arguments() -> None:
    for drafter, vocabulary in itertools.product((FSPAD, Chimera), (0, [9])):
        with pytest.raises(ValueError, match="vocabulary"):
            drafter.fit(llama(), None, [[0, 2, 3]], vocabulary=vocabulary)
    with pytest.raises(ValueError, match="nothing to train on"):
        FSPAD.fit(llama(), None, [[0, 2]])
    with pytest.raises(ValueError, match="depth=0"):
        FSPAD.fit(llama(), None, [[0, 2, 3]], depth=0)
    with pytest.raises(ValueError, match="at least one head"):
        Chimera.fit(llama(), None, [[0, 2, 3]], count=0)
    for options in ({"depth": 0}, {"width": 0}, {"least": 1.0}):
        with pytest.raises(ValueError, match="must be"):
            Growth(**options)


def test_trees_keep_within_their_room() -> None:
    context = context_of(FreeText(()), Enumerated(), room=5)
    with torch.no_grad():
        hidden = llama()(torch.tensor([PROMPT[:-1]]), output_hidden_states=True).hidden_states[-1]
        drafter("fspad", llama()).draft(context, hidden[0])
    assert len(context.tree) == 5
    deep = context_of(FreeText(()), Enumerated(), room=50)
    with torch.no_grad():
        drafter("chimera", llama()).draft(deep, hidden[0])
    assert max(node.depth for node in deep.tree.nodes) == LENGTH
