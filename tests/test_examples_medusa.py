"""The examples that make drafters: each of their steps, on a toy model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import toys
from one_thread import one_thread  # noqa: F401 - a fixture

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import draft_from_layers  # noqa: E402
import train_medusa  # noqa: E402

from constrain import TokenAutomaton  # noqa: E402
from grammars import Grammar  # noqa: E402
from samplers import Heads, MedusaHeads, OnlineDistilled, SpeculativeBackend  # noqa: E402
from samplers.speculative.target import Constrained, FreeText, Target  # noqa: E402

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "tea": {"type": "string", "maxLength": 6}},
    "required": ["a", "tea"],
    "additionalProperties": False,
}


def asked(count: int) -> list[tuple[list[int], Target]]:
    """Prompts in turn of a schema and of free text."""
    automaton = TokenAutomaton(Grammar.from_json_schema(SCHEMA), toys.vocabulary())
    targets: list[Target] = [Constrained(automaton), FreeText((toys.EOS,))]
    return [([toys.BOS, 3 + i, 7], targets[i % 2]) for i in range(count)]


# -- prompts ---------------------------------------------------------------------------------------


def test_prompts_are_of_all_kinds_and_depend_on_the_seed_alone() -> None:
    made = train_medusa.requests(40, seed=3)
    assert made == train_medusa.requests(40, seed=3)
    assert made != train_medusa.requests(40, seed=4)
    assert sum(request.schema is None for request in made) == 8
    assert sum("anyOf" in (request.schema or {}) for request in made) == 8
    aside = made[train_medusa.KEPT_ASIDE - 1 :: train_medusa.KEPT_ASIDE]
    assert len({(r.schema is None, "anyOf" in (r.schema or {})) for r in aside}) > 1


def test_texts_hold_what_schemas_ask_for() -> None:
    """The schemas compile, and each key is told of in the text."""
    for request in train_medusa.requests(20, seed=1):
        if request.schema is None:
            continue
        Grammar.from_json_schema(request.schema)
        (message,) = request.messages
        for key in request.schema.get("properties", ()):
            assert message["content"].lower().count(key.replace("_", " ")) >= 1


def test_no_prompt_is_one_of_the_benchmark() -> None:
    """Heads are measured on other texts and schemas than they learn from."""
    sys.path.insert(0, str(EXAMPLES.parent / "benchmarks"))
    import tasks

    measured = {key for _, schema in tasks.KINDS.values() for key in schema["properties"]}
    schemas = {json.dumps(schema) for _, schema in tasks.KINDS.values()}
    for request in train_medusa.requests(200):
        assert json.dumps(request.schema) not in schemas
    own = {key for fields in train_medusa.SUBJECTS.values() for key in fields}
    assert len(own & measured) <= 2  # "date" and the like


# -- heads -----------------------------------------------------------------------------------------


def answers(backend: SpeculativeBackend) -> list[list[train_medusa.Answer]]:
    """Three to each of nine prompts."""
    return list(
        train_medusa.answered(
            backend, asked(9), samples=3, max_new_tokens=24, temperature=0.7, seed=5
        )
    )


@pytest.mark.slow
def test_all_steps_of_the_training_of_heads(tmp_path: Path) -> None:
    model = toys.model()
    backend = SpeculativeBackend(model)
    found = answers(backend)
    assert [len(each) for each in found] == [3] * 9
    accepted = Grammar.from_json_schema(SCHEMA)
    for number, each in enumerate(found):
        for ids, new in each:
            assert ids == asked(9)[number][0]
            assert 0 < len(new) <= 24
            if number % 2 == 0:
                assert new[-1] == toys.EOS
                assert accepted.accepts(toys.vocabulary().decode(new[:-1]))
    assert found == answers(SpeculativeBackend(model))

    train, aside = train_medusa.split(found)
    assert aside == found[8]
    assert train == [answer for each in found[:8] for answer in each]

    made = MedusaHeads.train(model, None, answers=train, heads=2, epochs=8, batch=8)
    assert made.losses[-1] < made.losses[0]
    untrained = train_medusa.scores(Heads(model, 2), model, aside)
    trained = train_medusa.scores(made.heads, model, aside)
    assert all(new.loss < old.loss for old, new in zip(untrained, trained, strict=True))
    assert all(0 <= score.first <= score.among <= 1 for score in trained)
    assert len(train_medusa.table(untrained, trained).splitlines()) == 3

    made.save(tmp_path / "heads.safetensors")
    loaded = MedusaHeads.load(tmp_path / "heads.safetensors", model)
    drafting = SpeculativeBackend(model, drafters=[loaded], adaptive=False)
    (sample,) = drafting.generate(*asked(1)[0], max_new_tokens=24, seed=1)
    (plain,) = SpeculativeBackend(model, drafters=[]).generate(
        *asked(1)[0], max_new_tokens=24, seed=1
    )
    assert sample.token_ids == plain.token_ids
    assert sample.stats.by_drafter["medusa"].drafted


def test_of_a_prompt_only_the_last_state_is_trained_on() -> None:
    """Answers count as texts do whose beginning is left out."""
    from samplers.drafters.learned.medusa import _examples

    model = toys.model()
    text = [toys.BOS, 5, 6, 7, 8, 9, toys.EOS]
    hidden, after = _examples(model, [(text, 1)], 2)
    part, rest = _examples(model, [(text, 3)], 2)
    assert torch.equal(part, hidden[2:])
    assert torch.equal(rest, after[2:])
    assert rest.tolist() == [[8, 9], [9, toys.EOS], [toys.EOS, -100]]


def test_scores_are_of_the_right_tokens() -> None:
    """Heads of zeros say what the model says of the next token, wherever they stand."""
    model = toys.model()
    ids, new = [toys.BOS, 5], [6, 7, 8, 9, 10]
    (first, second) = train_medusa.scores(Heads(model, 2), model, [(ids, new)])
    with torch.no_grad():
        known = model(torch.tensor([ids + new])).logits[0].log_softmax(-1)
    expected = [-float(known[1 + i, new[1 + i]]) for i in range(4)]
    assert first.loss == pytest.approx(sum(expected) / 4, rel=1e-5)
    expected = [-float(known[1 + i, new[2 + i]]) for i in range(3)]
    assert second.loss == pytest.approx(sum(expected) / 3, rel=1e-5)
    with pytest.raises(ValueError, match="long enough"):
        train_medusa.scores(Heads(model, 2), model, [(ids, new[:2])])


def test_options() -> None:
    small = train_medusa.parsed(["--small", "--out", "x", "--tokens", "9"])
    assert (small.prompts, small.tokens, small.epochs) == (10, 9, 2)
    with pytest.raises(SystemExit):
        train_medusa.parsed(["--out", "x", "--prompts", "3"])


# -- drafts of the first layers --------------------------------------------------------------------


def test_a_draft_of_the_first_layers_says_what_these_say(tmp_path: Path) -> None:
    model = toys.model()
    draft = draft_from_layers.first_layers(model, 1)
    ids = torch.tensor([[toys.BOS, 5, 9, 4]])
    with torch.no_grad():
        states = model.model(ids, output_hidden_states=True).hidden_states
        expected = model.lm_head(model.model.norm(states[1]))
        assert torch.allclose(draft(ids).logits, expected, atol=1e-6)
    own = {p.data_ptr() for p in draft.parameters()}
    assert not own & {p.data_ptr() for p in model.parameters()}
    draft.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, expected, atol=1e-6)
    for count in (0, 2):
        with pytest.raises(ValueError, match="fewer"):
            draft_from_layers.first_layers(model, count)


def test_a_draft_learns_from_texts() -> None:
    model = toys.model()
    drafter = OnlineDistilled(
        draft_from_layers.first_layers(model, 1), every_steps=4, learning_rate=1e-3
    )
    made = draft_from_layers.learn(
        drafter, model, None, asked(12), max_new_tokens=24, temperature=0.7
    )
    assert len(made) == 12
    assert len(drafter.losses) > 3
    assert drafter.losses[-1] < drafter.losses[0]
