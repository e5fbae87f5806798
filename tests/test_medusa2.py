"""Medusa-2: heads and model trained together; the given model stays, the changed one is told of truly."""

from __future__ import annotations

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from one_thread import one_thread  # noqa: F401 - a fixture
from torch.nn.functional import cross_entropy

from samplers import Medusa2, MedusaHeads, SpeculativeBackend
from samplers.drafters.learned import Training, change_of
from samplers.drafters.learned.answers import Answer
from samplers.drafters.learned.medusa2 import Adapter, _Both, _Text, adapted
from samplers.drafters.learned.training import split
from samplers.speculative.law import Sampling
from samplers.speculative.target import FreeText

TRAINING = Training(epochs=3, batch=64, learning_rate=4e-3, held_out=0.2, patience=9, seed=1)


@cache
def model() -> Any:
    """A random model with laws that are far from flat."""
    made = copy.deepcopy(toys.model())
    with torch.no_grad():
        made.lm_head.weight *= 8
    return made.eval()


@cache
def answers() -> list[Answer]:
    """The model's own, to twenty prompts."""
    backend = SpeculativeBackend(model(), drafters=[])
    found = []
    for number in range(20):
        prompt = [toys.BOS, 3 + number, 5]
        samples = backend.generate(
            prompt, FreeText((toys.EOS,)), n=2, max_new_tokens=12, seed=number
        )
        found += [Answer([*prompt, *s.token_ids], len(prompt)) for s in samples]
    return found


@cache
def fitted() -> Medusa2:
    return Medusa2.fit(model(), None, answers(), heads=2, rank=4, training=TRAINING)


def weights(made: Any) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in made.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- adapters --------------------------------------------------------------------------------------


def test_an_adapter_is_the_low_rank_correction() -> None:
    torch.manual_seed(0)
    inner = torch.nn.Linear(6, 5)
    before, bias = inner.weight.detach().clone(), inner.bias.detach()
    made, x = Adapter(inner, 2, 3.0), torch.randn(4, 6)
    assert torch.equal(made(x), inner(x)), "it begins as nothing"
    with torch.no_grad():
        made.up.normal_()
    whole = before + 1.5 * made.up @ made.down
    assert torch.allclose(made(x), x @ whole.T + bias, atol=1e-5)
    made.active = False
    assert torch.equal(made(x), inner(x))
    assert [name for name, _ in made.named_parameters()] == ["down", "up"]
    assert made.merge() is inner
    assert torch.allclose(inner.weight, whole, atol=1e-6)


def test_all_linear_maps_are_adapted_but_the_output_embedding() -> None:
    made = copy.deepcopy(model())
    found = adapted(made, 2, 2.0)
    assert len(found) == 7 * 2
    assert "lm_head" not in found
    assert made.model.layers[0].self_attn.q_proj is found["model.layers.0.self_attn.q_proj"]
    with pytest.raises(ValueError, match="no linear maps"):
        adapted(made, 2, 2.0)


# -- the loss --------------------------------------------------------------------------------------


def test_the_gradient_is_that_of_the_loss_written_down() -> None:
    """KL at every answer's token and lambda0 times the fading losses of heads, by one plain backward."""
    base = copy.deepcopy(model())
    heads = MedusaHeads.fit(base, None, answers()[:4], heads=2, training=Training(epochs=1)).heads
    texts = [_Text(list(a.tokens), a.given) for a in answers()[:2]]
    course = _Both(base, heads, texts, [], 10**6, 0.2, 3, 3.0)
    with torch.no_grad():
        for parameter in course.trained.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    course.trained.zero_grad()
    ((value, count),) = [step() for step in course.steps()]
    got = [p.grad.clone() for p in course.trained.parameters() if p.grad is not None]
    course.trained.zero_grad()

    places = [len(t.tokens) - 2 - (t.given - 1) for t in texts]
    total = torch.zeros(())
    for text, mine in zip(texts, places, strict=True):
        ids = torch.tensor([text.tokens])
        with torch.no_grad():
            p = model()(ids).logits[0].log_softmax(-1)
        out = base(ids, output_hidden_states=True)
        q, hidden = out.logits[0].log_softmax(-1), out.hidden_states[-1][0]
        at = range(text.given - 1, len(text.tokens) - 1)
        loss = sum((p[i].exp() * (p[i] - q[i])).sum() for i in at) / len(at)
        for head in range(2):
            last = len(text.tokens) - 2 - head
            some = range(text.given - 1, last)
            wanted = torch.tensor([text.tokens[i + 2 + head] for i in some])
            said = heads.one(head, hidden[text.given - 1 : last])
            loss = loss + 0.2 * 0.8**head * cross_entropy(said, wanted)
        total = total + loss * mine / sum(places)
    total.backward()
    expected = [p.grad for p in course.trained.parameters() if p.grad is not None]
    assert count == sum(places)
    assert value == pytest.approx(float(total.detach()), rel=1e-4)
    assert len(got) == len(expected) == 2 * 14 + 2 * 2
    for a, b in zip(got, expected, strict=True):
        assert b is not None
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_the_model_learns_more_slowly_than_the_heads() -> None:
    """One step of AdamW moves each number by its learning rate."""
    one = Training(epochs=1, batch=10**6, held_out=0.0, learning_rate=1e-3, clip=False)
    texts = answers()[:3]
    moved = {}
    for rate in (1.0, 0.25):
        made = Medusa2.fit(model(), None, texts, heads=1, rank=2, training=one, model_rate=rate)
        (name,) = [n for n in made._low_rank if n.endswith("layers/0/mlp/up_proj.up")]
        moved[rate] = float(made._low_rank[name].abs().max())
    assert moved[0.25] == pytest.approx(0.25 * moved[1.0], rel=1e-2)


# -- training --------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_moves_the_law_little() -> None:
    before = weights(model())
    made = fitted()
    assert same(before, weights(model())), "the given model is another object"
    assert not same(before, weights(made.model))
    assert made.model.config._name_or_path != model().config._name_or_path
    assert not [m for m in made.model.modules() if isinstance(m, Adapter)]
    assert made.report.losses[-1] < made.report.losses[0]
    assert made.warm_up.losses[-1] < made.warm_up.losses[0]
    assert len(made.report.acceptance) == len(made.report.losses) == 3
    assert made.change is not None
    assert 0 < made.change.kl < 0.05
    assert made.change.agreement > 0.6, "laws of a random model are nearly flat"
    strong = Medusa2.fit(
        model(), None, answers(), heads=2, rank=4, training=TRAINING, weight=20.0, model_rate=2.0
    )
    assert strong.change is not None
    assert strong.change.kl > made.change.kl, "heads that weigh more move the model further"


def test_the_change_is_that_of_brute_force() -> None:
    made = fitted()
    _, aside = split([_Text(list(a.tokens), a.given) for a in answers()], TRAINING.held_out)
    assert 0 < len(aside) < len(answers())
    total, same_token, count = 0.0, 0, 0
    for text in aside:
        for end in range(text.given, len(text.tokens)):  # token by token, without a batch
            ids = torch.tensor([text.tokens[:end]])
            with torch.no_grad():
                p = model()(ids).logits[0, -1].double().softmax(-1).tolist()
                q = made.model(ids).logits[0, -1].double().softmax(-1).tolist()
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            same_token += p.index(max(p)) == q.index(max(q))
            count += 1
    assert made.change is not None
    assert made.change.tokens == count
    assert made.change.kl == pytest.approx(total / count, rel=1e-3, abs=1e-7)
    assert made.change.agreement == same_token / count
    none = change_of(model(), model(), [(t.tokens, t.given) for t in aside])
    assert (none.kl, none.agreement) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no answers"):
        change_of(model(), model(), [([1, 2], 2)])


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_drafts_change_nothing_of_the_changed_model(temperature: float) -> None:
    made = fitted()
    drafting = SpeculativeBackend(made.model, drafters=[made.drafter], adaptive=False)
    plain = SpeculativeBackend(made.model, drafters=[])
    for number in range(4):
        texts = [
            backend.generate(
                [toys.BOS, 4 + number, 5, 6],
                FreeText((toys.EOS,)),
                max_new_tokens=12,
                sampling=Sampling(temperature),
                seed=number,
            )[0]
            for backend in (plain, drafting)
        ]
        assert texts[0].token_ids == texts[1].token_ids
        assert texts[1].stats.by_drafter["medusa"].drafted


# -- files -----------------------------------------------------------------------------------------


def test_a_file_gives_the_same_model_and_heads(tmp_path: Path) -> None:
    made, path = fitted(), tmp_path / "both.safetensors"
    before = weights(model())
    made.save(path)
    loaded = Medusa2.load(path, model())
    assert same(before, weights(model()))
    assert same(weights(made.model), weights(loaded.model))
    assert same(weights(made.drafter.heads), weights(loaded.drafter.heads))
    loaded.save(tmp_path / "again.safetensors")
    again = Medusa2.load(tmp_path / "again.safetensors", model())
    assert same(weights(made.model), weights(again.model))
    assert loaded.change is None

    with pytest.raises(ValueError, match="does not hold heads"):
        MedusaHeads.load(path, model())
    with pytest.raises(ValueError, match=r"not for"):
        Medusa2.load(path, toys.model(rows=70))
    made.drafter.save(tmp_path / "heads.safetensors")
    with pytest.raises(ValueError, match="medusa2"):
        MedusaHeads.load(tmp_path / "heads.safetensors", model())
    with pytest.raises(FileNotFoundError):
        Medusa2.load(tmp_path / "none.safetensors", model())


@pytest.mark.parametrize(
    "bad", [{"rank": 0}, {"weight": 0}, {"model_rate": -1}, {"warm_up": 1}, {"scale": 0}]
)
def test_numbers_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Medusa2.fit(model(), None, answers(), **bad)


def test_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        Medusa2.fit(model(), None, [[1, 2]])
