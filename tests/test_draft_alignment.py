"""A draft aligned with its target: losses by their definitions, laws as they were drawn from, exactness."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from enumeration import total_variation
from hypothesis import given, settings
from hypothesis import strategies as st
from one_thread import one_thread  # noqa: F401 - a fixture
from test_neural_drafters import (
    COLUMNS,
    EXACT,
    LENGTH,
    Weighted,
    enumerated,
    expected,
    llama,
    made,
    table,
)

from constrain import TokenAutomaton
from grammars import Grammar
from samplers.backend import SpeculativeBackend
from samplers.drafters.draft_model import DraftModel
from samplers.drafters.learned.alignment import (
    aligned_draft,
    frequent_tokens,
    packed,
    some_layers,
    split,
    with_laws,
)
from samplers.drafters.learned.alignment_losses import LOSSES, kl, paired, tvd, tvd_plus_plus
from samplers.drafters.learned.answers import (
    Answer,
    AnswersError,
    Laws,
    Recorder,
    Task,
    load_answers,
    save_answers,
    write_answers,
)
from samplers.drafters.learned.short_output import load_draft, shortened
from samplers.drafters.online_distilled import OnlineDistilled
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
import align_draft  # noqa: E402

# -- losses ----------------------------------------------------------------------------------------


@st.composite
def places(draw: st.DrawFn) -> dict[str, Any]:
    """Positions: the target's whole law, what of it is listed, the draft's logits of what it can say."""
    columns = draw(st.integers(2, 5))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        whole = draw(st.booleans())
        logits = draw(st.lists(st.floats(-3, 3), min_size=columns, max_size=columns))
        # tokens 0 to columns - 1 can be said, the two above them cannot
        tokens = draw(st.permutations(range(columns + 2)))
        listed = tokens[: draw(st.integers(1, columns + (0 if whole else 1)))]
        if whole and all(token >= columns for token in listed):
            listed = [0, *listed[1:]]
        weights = draw(st.lists(st.floats(0.05, 1), min_size=columns + 2, max_size=columns + 2))
        rows.append((whole, logits, listed, weights))
    return {"columns": columns, "rows": rows}


def by_definition(columns: int, row: Any) -> tuple[dict[Any, float], dict[Any, float]]:
    """Both laws as dictionaries over listed tokens and "rest"."""
    whole, logits, listed, weights = row
    possible = listed if whole else range(columns + 2)
    p_all = {token: weights[token] for token in possible}
    q_all = {t: math.exp(logits[t]) for t in possible if t < columns}
    p_all = {t: w / sum(p_all.values()) for t, w in p_all.items()}
    q_all = {t: w / sum(q_all.values()) for t, w in q_all.items()}
    p = {t: p_all[t] for t in listed} | {
        "rest": sum(w for t, w in p_all.items() if t not in listed)
    }
    q = {t: q_all.get(t, 0.0) for t in listed}
    q["rest"] = sum(w for t, w in q_all.items() if t not in listed)
    return p, q


def tensors(case: dict[str, Any]) -> tuple[torch.Tensor, ...]:
    """What ``paired`` takes."""
    columns, rows = case["columns"], case["rows"]
    width = max(len(row[2]) for row in rows) + 1  # one place of padding at least
    at = torch.full((len(rows), width), -1)
    p = torch.zeros(len(rows), width, dtype=torch.float64)
    for i, row in enumerate(rows):
        law, _ = by_definition(columns, row)
        for j, token in enumerate(row[2]):
            at[i, j] = token if token < columns else -1
            p[i, j] = law[token]
    logits = torch.tensor([row[1] for row in rows], dtype=torch.float64, requires_grad=True)
    return logits, at, p, torch.tensor([row[0] for row in rows])


@settings(max_examples=60)
@given(places())
def test_losses_are_what_they_are_defined_to_be(case: dict[str, Any]) -> None:
    pair = paired(*tensors(case))
    laws = [by_definition(case["columns"], row) for row in case["rows"]]
    wanted = [sum(abs(p[t] - q[t]) for t in p) / 2 for p, q in laws]
    assert float(tvd(pair).detach()) == pytest.approx(np.mean(wanted), abs=1e-9)
    accepted = [sum(min(p[t], q[t]) for t in p if t != "rest") for p, q in laws]
    assert pair.acceptance().detach().numpy() == pytest.approx(np.array(accepted), abs=1e-9)
    divergences = []
    for p, q in laws:
        said = {t: p[t] for t in p if q[t] > 1e-300}
        total = sum(said.values())
        parts = [w / total * math.log(w / total / q[t]) for t, w in said.items() if w > 0]
        divergences.append(sum(parts))
    assert float(kl(pair).detach()) == pytest.approx(np.mean(divergences), abs=1e-6)


@settings(max_examples=40)
@given(places())
def test_the_gradient_of_kl_is_that_of_finite_differences(case: dict[str, Any]) -> None:
    logits, at, p, whole = tensors(case)
    (gradient,) = torch.autograd.grad(kl(paired(logits, at, p, whole)), logits)
    assert_near(gradient, lambda x: float(kl(paired(x, at, p, whole))), logits)


@settings(max_examples=40)
@given(places())
def test_the_gradient_of_tvd_is_that_of_finite_differences(case: dict[str, Any]) -> None:
    logits, at, p, whole = tensors(case)
    pair = paired(logits, at, p, whole)
    if float((pair.p - pair.q).detach().abs()[pair.p > 0].min()) < 1e-4:
        return  # a kink: no gradient there
    (gradient,) = torch.autograd.grad(tvd(pair), logits)
    assert_near(gradient, lambda x: float(tvd(paired(x, at, p, whole))), logits)


def assert_near(gradient: torch.Tensor, f: Any, at: torch.Tensor, step: float = 1e-6) -> None:
    for index in np.ndindex(*at.shape):
        up, down = at.detach().clone(), at.detach().clone()
        up[index] += step
        down[index] -= step
        assert float(gradient[index]) == pytest.approx((f(up) - f(down)) / (2 * step), abs=1e-5)


@settings(max_examples=40)
@given(places())
def test_tvd_plus_plus_is_a_policy_gradient(case: dict[str, Any]) -> None:
    """E_{x ~ q}[-(r(x) - mean) / deviation grad log q(x)], each piece by its definition."""
    logits, at, p, whole = tensors(case)
    pair = paired(logits, at, p, whole)
    q = pair.q.detach()
    outcomes = [(i, j) for i, j in np.ndindex(*q.shape) if q[i, j] > 1e-12]
    rows = q.shape[0]
    reward = {x: float(pair.p[x] > q[x]) for x in outcomes}
    mean = sum(float(q[x]) * reward[x] for x in outcomes) / rows
    spread = sum(float(q[x]) * (reward[x] - mean) ** 2 for x in outcomes) / rows
    deviation = max(math.sqrt(spread), 1e-3)
    wanted = torch.zeros_like(logits)
    for x in outcomes:
        (score,) = torch.autograd.grad(pair.log_q[x], logits, retain_graph=True)
        wanted -= float(q[x]) * (reward[x] - mean) / deviation * score / rows
    (gradient,) = torch.autograd.grad(tvd_plus_plus(pair), logits)
    assert torch.allclose(gradient, wanted, atol=1e-8)


def test_acceptance_is_one_less_tvd_where_all_is_listed() -> None:
    torch.manual_seed(0)
    p = torch.softmax(torch.randn(5, 7, dtype=torch.float64), -1)
    logits = torch.randn(5, 7, dtype=torch.float64)
    at = torch.arange(7).expand(5, 7)
    pair = paired(logits, at, p, torch.zeros(5, dtype=torch.bool))
    assert float(pair.acceptance().mean()) == pytest.approx(1 - float(tvd(pair)), abs=1e-9)


# -- answers ---------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "tea": {"type": "string", "maxLength": 6}},
    "required": ["a", "tea"],
    "additionalProperties": False,
}
TASKS = [Task([toys.BOS, 3 + i, 7]) for i in range(11)]
OPTIONS: dict[str, Any] = {"samples": 3, "max_new_tokens": 12, "temperature": 0.9, "seed": 4}


def test_laws_are_those_that_tokens_were_drawn_from() -> None:
    answers = write_answers(toys.model(), None, TASKS[:2], top=8, **OPTIONS)
    assert len(answers) == 6
    for answer in answers:
        assert answer.laws is not None
        again = with_laws(toys.model(), Answer(answer.tokens, answer.given), 0.9, top=8).laws
        assert again is not None
        assert len(again) == len(answer.laws) == len(answer.tokens) - answer.given
        assert torch.equal(again.ids[:, 0], answer.laws.ids[:, 0])
        assert torch.allclose(again.probabilities, answer.laws.probabilities, atol=1e-5)
        assert not answer.laws.whole.any()


def test_laws_within_a_grammar_are_the_masked_ones() -> None:
    """Each by a forward of its own, what the automaton allows, and a softmax."""
    automaton = TokenAutomaton(Grammar.from_json_schema(SCHEMA), toys.vocabulary())
    target = Constrained(automaton)
    prompt = [toys.BOS, 4, 7]
    recorder = Recorder(top=20)
    backend = SpeculativeBackend(toys.model(), max_tree_nodes=8, adaptive=False)
    samples = backend.generate(
        prompt, target, n=3, max_new_tokens=30, sampling=Sampling(0.8), seed=1, observers=[recorder]
    )
    assert any(sample.stats.accepted for sample in samples)
    for number, sample in enumerate(samples):
        laws = recorder.laws(number)
        state: int | None = target.start()
        assert len(laws) == len(sample.token_ids)
        for i, token in enumerate(sample.token_ids):
            assert state is not None
            allowed = target.weighting(state, 30 - i).ids
            assert allowed is not None
            with torch.no_grad():
                row = toys.model()(torch.tensor([prompt + sample.token_ids[:i]])).logits[0, -1]
            p = dict(
                zip(allowed.tolist(), torch.softmax(row[allowed] / 0.8, -1).tolist(), strict=True)
            )
            kept = [t for t in laws.ids[i].tolist() if t >= 0]
            assert len(kept) == min(20, len(p))
            assert laws.probabilities[i, : len(kept)].tolist() == pytest.approx(
                sorted(p.values(), reverse=True)[: len(kept)], abs=1e-5
            )
            assert [p[t] for t in kept] == pytest.approx(
                laws.probabilities[i, : len(kept)].tolist(), abs=1e-5
            )
            assert bool(laws.whole[i]) == (len(p) <= 20)
            state = target.advance(state, token)


def test_both_sides_of_a_chat_are_written_with_what_stands_between() -> None:
    reply = [5, 6, 7]
    (found,) = [
        write_answers(
            toys.model(),
            None,
            [Task([toys.BOS, 9], reply=reply)],
            samples=12,
            max_new_tokens=60,
            seed=2,
        )
    ]
    turns = 0
    for answer in found:
        new = answer.tokens[answer.given :]
        ends = [i for i, token in enumerate(new) if token == toys.EOS]
        if not ends:
            continue
        behind = new[ends[0] + 1 : ends[0] + 4]
        assert behind == reply[: len(behind)]
        turns += len(behind) == 3
        assert answer.laws is not None
        forced = answer.laws.whole[ends[0] + 1 : ends[0] + 4]
        assert forced.all()
        assert len(ends) <= 2
        assert len(ends) < 2 or ends[1] == len(new) - 1
    assert turns


def test_writing_goes_on_where_it_ended(tmp_path: Path) -> None:
    whole = write_answers(toys.model(), None, TASKS[:4], **OPTIONS)
    write_answers(toys.model(), None, TASKS[:4], folder=tmp_path, max_seconds=0, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == 1
    again = write_answers(toys.model(), None, TASKS[:4], folder=tmp_path, **OPTIONS)
    assert len(list(tmp_path.iterdir())) == 4
    assert [a.tokens for a in again] == [a.tokens for a in whole]
    loaded = load_answers(tmp_path)
    assert [a.tokens for a in loaded] == [a.tokens for a in whole]
    for one, other in zip(loaded, whole, strict=True):
        assert one.laws is not None
        assert other.laws is not None
        assert torch.equal(one.laws.ids, other.laws.ids)
        assert torch.equal(one.laws.probabilities, other.laws.probabilities)
    with pytest.raises(AnswersError, match="another prompt"):
        write_answers(toys.model(), None, TASKS[1:4], folder=tmp_path, **OPTIONS)
    with pytest.raises(AnswersError, match="was written with"):
        write_answers(
            toys.model(), None, TASKS[:4], folder=tmp_path, **{**OPTIONS, "temperature": 0.5}
        )


def test_files_that_hold_no_answers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_answers(tmp_path)
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(AnswersError, match="does not hold answers"):
        load_answers(file)
    save_answers(file, [Answer([1, 2, 3], 1)])
    assert load_answers(file) == [Answer([1, 2, 3], 1)]
    laws = Laws(
        torch.zeros(2, 1, dtype=torch.int32), torch.ones(2, 1), torch.ones(2, dtype=torch.bool)
    )
    with pytest.raises(ValueError, match="1 of 2 answers have laws"):
        save_answers(file, [Answer([1, 2, 3], 1), Answer([1, 2, 3], 1, laws)])
    with pytest.raises(ValueError, match="temperature=0"):
        write_answers(toys.model(), None, TASKS, temperature=0)


# -- a draft that can say some tokens only ---------------------------------------------------------


def test_a_short_output_says_what_the_whole_one_says(tmp_path: Path) -> None:
    model = some_layers(toys.model(layers=3), [0, 2])
    short = shortened(model, [40, 1, 7, 9])
    ids = torch.tensor([[0, 3, 63, 5]])
    with torch.no_grad():
        wanted, found = model(ids).logits, short(ids).logits
    assert torch.allclose(found[..., [1, 7, 9, 40]], wanted[..., [1, 7, 9, 40]], atol=1e-6)
    assert int(torch.isfinite(found).sum()) == 4 * 4
    short.save_pretrained(tmp_path)
    loaded = load_draft(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, found)
    assert loaded.lm_head.tokens.tolist() == [1, 7, 9, 40]
    for tokens in ([], [1, 1], [64]):
        with pytest.raises(ValueError, match="tokens"):
            shortened(model, tokens)
    with pytest.raises(TypeError, match="LlamaForCausalLM"):
        shortened(table(), [1])
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_draft(tmp_path / "nowhere")


@pytest.mark.parametrize("masked", [True, False], ids=["q masked", "q unmasked"])
@pytest.mark.parametrize("tokens", [[0, 2], [1, 2, 3], [3]], ids=str)
def test_a_short_output_leaves_the_law_alone(masked: bool, tokens: list[int]) -> None:
    """A token may have q zero that the target may draw, and the law of texts is still the target's."""
    target = Weighted(3, masked=True)
    draft = shortened(made(2), tokens)
    drafter = DraftModel(draft, tree="rsd-c", branching=(2,), masked=masked)
    law, accepted = enumerated(llama(), drafter, target)
    wanted = expected(llama(), target)
    assert accepted
    assert any(token not in tokens for text in wanted for token in text)
    assert total_variation(law, wanted) < EXACT


def test_a_short_output_that_learns_while_drafting_leaves_the_law_alone() -> None:
    target = Weighted(3, masked=True)
    drafter = OnlineDistilled(
        shortened(made(2), [1, 2]), tree="rsd-c", branching=(1,), every_steps=1, learning_rate=0.05
    )
    law, accepted = enumerated(table(), drafter, target)
    assert accepted
    assert drafter.losses
    assert all(math.isfinite(loss) for loss in drafter.losses)
    assert total_variation(law, expected(table(), target)) < EXACT
    assert COLUMNS > 2
    assert LENGTH > 1


# -- training --------------------------------------------------------------------------------------


def test_layers_are_those_of_the_target() -> None:
    model = toys.model(layers=4)
    draft = some_layers(model, 2)
    for place, number in enumerate([0, 3]):
        wanted = model.model.layers[number].state_dict()
        found = draft.model.layers[place].state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert torch.equal(draft.lm_head.weight, model.lm_head.weight)
    assert draft.lm_head.weight.data_ptr() != model.lm_head.weight.data_ptr()
    for layers in (0, 4, [], [1, 4], [-1]):
        with pytest.raises(ValueError, match="layers="):
            some_layers(model, layers)
    with pytest.raises(ValueError, match="is not built"):
        some_layers(table(), 1)


def test_answers_side_by_side_are_read_as_each_alone() -> None:
    model = toys.model()
    answers = write_answers(model, None, TASKS[:2], **OPTIONS)
    packs = list(packed(answers))
    assert len(packs) == 2
    assert packs[0].seen()[0, :2].tolist() == [True, False]
    for number, pack in enumerate(packs):
        mask = torch.zeros(pack.seen().shape).masked_fill(~pack.seen(), torch.finfo().min)
        with torch.no_grad():
            logits = model(
                pack.tokens, attention_mask=mask[None, None], position_ids=pack.positions
            ).logits[0, pack.at]
            alone = [
                model(torch.tensor([a.tokens])).logits[0, a.given - 1 : -1]
                for a in answers[3 * number : 3 * number + 3]
            ]
        assert torch.allclose(logits, torch.cat(alone), atol=1e-5)


def test_tokens_without_a_choice_are_left_out() -> None:
    laws = Laws(
        torch.tensor([[5, -1], [5, 6], [5, -1]], dtype=torch.int32),
        torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.9, 0.0]]),
        torch.tensor([True, True, False]),
    )
    (pack,) = packed([Answer([0, 1, 5, 5, 5], 2, laws)])
    assert pack.tokens.tolist() == [[0, 1, 5, 5]]
    assert pack.at.tolist() == [2, 3]  # behind the first and the second token of the answer
    one = Laws(*(part[:1] for part in (laws.ids, laws.probabilities, laws.whole)))
    assert list(packed([Answer([0, 1, 5], 2, one)])) == []


def test_prompts_kept_aside_are_not_learned_from() -> None:
    answers = write_answers(toys.model(), None, TASKS, **OPTIONS)
    train, aside = split(answers)
    assert len(train) + len(aside) == len(answers)
    assert len(aside) == 3
    assert not {tuple(a.tokens[:3]) for a in train} & {tuple(a.tokens[:3]) for a in aside}
    with pytest.raises(ValueError, match="1 prompts"):
        split(answers[:3])
    many = [Answer([9, 9, n, n], 2) for n in range(40)]
    train, aside = split([*answers, *many])
    assert len(train) + len(aside) == len(answers) + 40
    assert [a.tokens[2] for a in aside if a.given == 2] == [9, 19, 29, 39]


def test_frequent_tokens_are_those_with_the_most_mass() -> None:
    answers = write_answers(toys.model(), None, TASKS, top=64, **OPTIONS)
    mass = torch.zeros(64, dtype=torch.float64)
    for answer in answers:
        assert answer.laws is not None
        for ids, p in zip(answer.laws.ids, answer.laws.probabilities, strict=True):
            for token, share in zip(ids.tolist(), p.tolist(), strict=True):
                if token >= 0:
                    mass[token] += share
    found = frequent_tokens(toys.model(), None, answers, 10)
    assert found[0] == toys.EOS
    best = [t for t in mass.argsort(descending=True).tolist() if t != toys.EOS]
    assert found[1:] == best[:9]


@pytest.mark.slow
@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("output", [None, 40])
def test_training_raises_acceptance_on_prompts_kept_aside(loss: Any, output: int | None) -> None:
    torch.manual_seed(7)
    model = some_layers(toys.model(layers=4), [0, 1, 2])
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    answers = write_answers(model, None, TASKS, **{**OPTIONS, "samples": 6, "temperature": 1.0})
    found = aligned_draft(
        model, None, answers, layers=1, output_tokens=output, loss=loss, temperature=1.0,
        kl_first=0.0, learning_rate=5e-3, max_seconds=60, max_epochs=10,
    )  # fmt: skip
    shares = [share for _, share in found.acceptance]
    assert found.best > shares[0] + 0.02
    assert found.tokens > 0
    assert len(found.losses) <= 100
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    measured = aligned_draft(
        model, None, answers, draft=found.model, temperature=1.0, max_seconds=1e-6
    )
    assert measured.acceptance[0][1] == pytest.approx(found.best, abs=1e-6)


def test_wrong_arguments_of_an_alignment() -> None:
    answers = [Answer([0, 3, 5, 6], 2), Answer([0, 4, 5, 6], 2)]
    model = toys.model()
    with pytest.raises(ValueError, match="loss='x'"):
        aligned_draft(model, None, answers, loss="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_seconds=0"):
        aligned_draft(model, None, answers, max_seconds=0)
    with pytest.raises(ValueError, match="kl_first=2"):
        aligned_draft(model, None, answers, kl_first=2)
    with pytest.raises(ValueError, match="bfloat16"):
        aligned_draft(
            some_layers(model, 1).bfloat16(), None, answers, draft=some_layers(model, 1).bfloat16()
        )


# -- the example -----------------------------------------------------------------------------------


def test_the_example_writes_trains_and_saves(tmp_path: Path) -> None:
    options = align_draft.parsed(
        ["--out", str(tmp_path), "--layers", "0,2", "--output-tokens", "40", "--seconds", "20",
         "--samples", "2", "--tokens", "8", "--epochs", "2", "--quiet",
         "--answers", str(tmp_path / "kept")]
    )  # fmt: skip
    assert options.layers == [0, 2]
    found, told = align_draft.aligned(toys.model(layers=4), None, TASKS[:4], options)
    assert "8 answers of" in told
    assert len(load_answers(tmp_path / "kept")) == 8
    found.model.save_pretrained(tmp_path / "draft")
    assert load_draft(tmp_path / "draft").config.num_hidden_layers == 2
