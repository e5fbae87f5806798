"""Companion positions: nothing real sees them, they see what they should, and drafts come of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from one_thread import one_thread  # noqa: F401 - a fixture
from test_neural_drafters import (
    COLUMNS,
    EXACT,
    PROMPT,
    TARGETS,
    VISIBLE,
    Endless,
    Weighted,
    enumerated,
    expected,
    llama,
    made,
    total_variation,
)
from transformers import MistralConfig, MistralForCausalLM

from constrain import TokenAutomaton
from grammars import Grammar
from samplers.backend import SpeculativeBackend
from samplers.constrained import GrammarConstrained
from samplers.drafters import default_drafters
from samplers.drafters.base import Context, Drafter, Observation
from samplers.drafters.learned import PPD, Growth, HiddenTransfer, LexicalUnits, Training
from samplers.drafters.learned.companion import CompanionDrafter, CompanionNetwork
from samplers.drafters.learned.insertion import Insertion, Lined
from samplers.speculative.companions import Attached
from samplers.speculative.law import Sampling
from samplers.speculative.schedule import Schedule
from samplers.speculative.scorer import Request, Scores, TreeScorer
from samplers.speculative.target import FreeText
from samplers.speculative.tree import ROOT, Tree

KINDS: dict[str, tuple[type[CompanionDrafter], dict[str, Any]]] = {
    "ppd": (PPD, {"count": 2}),
    "strands": (PPD, {"count": 2, "strands": 2}),
    "hidden": (HiddenTransfer, {"count": 2}),
    "lexical": (LexicalUnits, {"count": 2, "adapters": 2, "rank": 4}),
}
EAGER = Growth(depth=3, width=3, children=3, least=0.0)
CLOSE = 1e-5
"""Of the largest logit, in float32."""


def network(kind: str, model: Any, ids: list[int] | None = None, **more: Any) -> CompanionNetwork:
    """One with random weights, also where training begins with zeros."""
    torch.manual_seed(5)
    drafter, options = KINDS[kind]
    some = None if ids is None else torch.tensor(ids)
    found = drafter.networks(model, some, **{"most": 40, **options, **more})
    for name, weight in found.named_parameters():
        torch.nn.init.normal_(weight, std=0.02 if name == "change" else 0.2)
    return found


def drafter(kind: str, model: Any, ids: list[int] | None = None, **more: Any) -> CompanionDrafter:
    made_now = KINDS[kind][0](network(kind, model, ids, **more), growth=EAGER)
    if isinstance(made_now, LexicalUnits):
        made_now.alpha = 0.0
    return made_now


@cache
def single() -> Any:
    """The small Llama in single precision."""
    return made(1, layers=3).float()


@cache
def sliding() -> Any:
    """A small model whose layers see five tokens."""
    torch.manual_seed(2)
    config = MistralConfig(
        vocab_size=COLUMNS,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=5,
        initializer_range=0.5,
    )
    return MistralForCausalLM(config).eval()


# -- one forward -----------------------------------------------------------------------------------

BEFORE = [[0, 2, 3, 0, 3, 2], [0, 2, 3]]


def tree(spelled: Sequence[tuple[int, int]]) -> Tree:
    """Of (parent, token)."""
    found = Tree(())
    for parent, token in spelled:
        found.add(parent, token, (), "x", 0.5)
    return found


TREES = [tree([(ROOT, 2), (ROOT, 3), (0, 0), (2, 3), (0, 3)]), tree([(ROOT, 0), (0, 2)])]
PENDING = [[3], [2, 2, 0]]
ATTACHED = [
    [Attached(ROOT, 2), Attached(3, 2), Attached(1, 1)],
    [Attached(1, 2), Attached(ROOT, 1)],
]


def read(model: Any, shared: bool = False) -> TreeScorer:
    """Two rows of different lengths, with hidden states; sharing what they begin with if wanted."""
    scorer = TreeScorer(model, 1, keep_hidden=True)
    scorer.score([Request(BEFORE[1], Tree(()))])
    scorer.commit([[]])
    if shared:
        assert scorer.can_share
        scorer.share(4)
    scorer.cache.expand(2)
    scorer.score([Request(BEFORE[0][3:], Tree(())), Request([0], Tree(()))])
    scorer.commit([[], None])
    return scorer


def scored(scorer: TreeScorer, companions: CompanionNetwork | None) -> Scores:
    requests = [
        Request(pending, tree, attached if companions is not None else [])
        for pending, tree, attached in zip(PENDING, TREES, ATTACHED, strict=True)
    ]
    return scorer.score(requests, hidden=True, companions=companions)


def off(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["full", "shared", "sliding"])
def test_nothing_real_sees_companions(kind: str, shape: str) -> None:
    """Logits and hidden states with and without; what is kept serves the next forward."""
    model = sliding() if shape == "sliding" else single()
    one, other = read(model, shape == "shared"), read(model, shape == "shared")
    companions = network(kind, model)
    with_them, without = scored(one, companions), scored(other, None)
    assert with_them.logits.shape == without.logits.shape
    assert with_them.hidden is not None
    assert without.hidden is not None
    for row, drafts in enumerate(TREES):
        real = slice(0, 1 + len(drafts))
        assert off(with_them.logits[row, real], without.logits[row, real]) < CLOSE
        assert off(with_them.hidden[row, real], without.hidden[row, real]) < CLOSE
    assert without.companions == []
    for scorer in (one, other):
        scorer.commit([[0, 2], [0]])
        assert [scorer.length(row) for row in range(2)] == [9, 7]
    again = [s.score([Request([2], Tree(())), Request([3], Tree(()))]).logits for s in (one, other)]
    assert off(*again) < CLOSE
    for row in range(2):
        kept = [s.hidden(row) for s in (one, other)]
        assert kept[0] is not None
        assert kept[1] is not None
        assert off(kept[0], kept[1]) < CLOSE


def test_a_mask_that_shows_companions_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the same comparison sees real tokens that attend to a companion."""
    see = TreeScorer._see

    def leaking(self: TreeScorer, row: int, request: Request, seen: Any, past: int) -> None:
        see(self, row, request, seen, past)
        for _, _, columns in self._behind[row].chains:
            seen[self._first : self._first + len(request.tree), past + columns] = True

    monkeypatch.setattr(TreeScorer, "_see", leaking)
    companions = network("ppd", single())
    with_them, without = scored(read(single()), companions), scored(read(single()), None)
    assert off(with_them.logits, without.logits) > 100 * CLOSE


def by_hand(model: Any, companions: CompanionNetwork, text: list[int], strand: int) -> torch.Tensor:
    """Last hidden states [count, H] of companions behind a text, layer by layer, without cache or hook."""
    n, count = len(text), companions.count
    numbers = torch.arange(strand * count, (strand + 1) * count)
    base = model.model
    with torch.no_grad():
        x = base.embed_tokens(torch.tensor([[*text, *[0] * count]]))
        positions = torch.arange(n + count)[None]
        turned = base.rotary_emb(x, position_ids=positions)
        mask = torch.full((n + count, n + count), -1e9).triu(1)
        window = getattr(model.config, "sliding_window", None)
        if window is not None:
            mask += torch.full_like(mask, -1e9).tril(-window)
        for number, layer in enumerate(base.layers):
            if number in companions.layers:
                nodes = x[0, n - 1].expand(count, -1)
                put = companions.at(number, nodes, x[0, n:], numbers)
                x = torch.cat([x[:, :n], put[None].to(x.dtype)], 1)
            out = layer(
                x,
                attention_mask=mask[None, None],
                position_embeddings=turned,
                position_ids=positions,
            )
            x = out[0] if isinstance(out, tuple) else out
        last: torch.Tensor = base.norm(x)[0, n:]
    return last


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["full", "shared", "sliding"])
def test_companions_see_the_path_of_their_node(kind: str, shape: str) -> None:
    """Beside a plain forward of what the path spells with companions behind it."""
    model = sliding() if shape == "sliding" else single()
    companions = network(kind, model)
    scores = scored(read(model, shape == "shared"), companions)
    for row, attached in enumerate(ATTACHED):
        assert set(scores.companions[row]) == {one.node for one in attached}
        for one in attached:
            text = [*BEFORE[row], *PENDING[row], *TREES[row].tokens_to(one.node)]
            found = scores.companions[row][one.node]
            assert found.shape[:2] == (companions.strands, one.count)
            for strand in range(companions.strands):
                wanted = by_hand(model, companions, text, strand)[: one.count]
                assert off(found[strand], wanted) < CLOSE


def test_hooks_are_gone_and_are_of_one_thread() -> None:
    import threading

    from samplers.speculative.companions import Places, inserting

    model, companions = single(), network("ppd", single())
    ids = torch.tensor([[0, 2, 3]])
    none = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        plain = model(ids).logits
        found: list[torch.Tensor] = []
        with inserting(model, companions, Places(none, none, none, none)):
            assert off(model(ids).logits, plain) > CLOSE

            def other() -> None:
                with torch.no_grad():
                    found.append(model(ids).logits)

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert torch.equal(found[0], plain)
        assert torch.equal(model(ids).logits, plain)


# -- nothing shows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_law_is_left_alone(kind: str, target: str) -> None:
    wanted = TARGETS[target]()
    law, accepted = enumerated(llama(), drafter(kind, llama()), wanted)
    assert accepted
    assert total_variation(law, expected(llama(), wanted)) < EXACT


def test_at_a_temperature_and_with_few_tokens_the_law_is_left_alone() -> None:
    wanted = Weighted(3, masked=True)
    law, accepted = enumerated(llama(), drafter("ppd", llama(), [0, 2]), wanted, Sampling(0.7))
    assert accepted
    assert total_variation(law, expected(llama(), wanted, temperature=0.7)) < EXACT


@pytest.mark.parametrize("kind", ["ppd", "lexical"])
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
@pytest.mark.parametrize("adaptive", [True, False])
def test_greedy_texts_are_those_of_plain_decoding(kind: str, adaptive: bool) -> None:
    """In float32, within a grammar (with forced text) and free, several rows, other drafters too."""
    model = toys.model()
    schema = {"type": "object", "properties": {"abc": {"type": "integer"}}, "required": ["abc"]}
    automaton = TokenAutomaton(Grammar.from_json_schema(schema), toys.vocabulary())
    own: list[list[Drafter]] = [
        [],
        [drafter(kind, model)],
        [*default_drafters(), drafter(kind, model)],
    ]
    texts = []
    for drafters in own:
        backend = SpeculativeBackend(model, drafters=drafters, max_rows=2, adaptive=adaptive)
        free = backend.generate(
            [toys.BOS, 5, 9], FreeText(()), n=3, max_new_tokens=20, sampling=Sampling(0), seed=0
        )
        some = GrammarConstrained(backend, automaton).sample(
            [toys.BOS, 7], max_new_tokens=24, temperature=0.0, seed=0
        )
        texts.append([s.token_ids for s in (*free, *some)])
        if drafters and not adaptive:
            assert free[0].stats.by_drafter[drafters[-1].name].drafted > 5
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize("kind", ["ppd", "hidden"])
def test_rows_have_drafts_of_their_own(kind: str) -> None:
    """Texts side by side that end and are replaced: the texts of plain decoding, and drafts for each."""
    plain = SpeculativeBackend(llama(), drafters=[])
    wanted = plain.generate(PROMPT, FreeText((1,)), n=5, max_new_tokens=12, seed=5)
    for rows in (1, 3):
        backend = SpeculativeBackend(
            llama(), drafters=[drafter(kind, llama())], max_rows=rows, adaptive=False
        )
        samples = backend.generate(PROMPT, FreeText((1,)), n=5, max_new_tokens=12, seed=5)
        assert [s.token_ids for s in samples] == [s.token_ids for s in wanted]
        assert all(s.stats.drafted for s in samples if len(s.token_ids) > 4)


def test_memory_is_bounded_with_companions() -> None:
    """Companions give way where keys and values of trees would not fit."""
    backend = SpeculativeBackend(llama(), drafters=[drafter("ppd", llama())], adaptive=False)
    tokens = len(PROMPT) + 20
    for spare in (0, 3, 16, 20, 60):
        backend.max_kv_bytes = backend.bytes_per_token * (tokens + spare)
        (sample,) = backend.generate(PROMPT, Endless(), max_new_tokens=20, seed=0)
        assert len(sample.token_ids) == 20
        assert backend.last_scorer is not None
        layer: Any = backend.last_scorer.cache.layers[0]
        assert layer.keys.shape[2] <= tokens + spare
    assert sample.stats.accepted


def test_only_one_drafter_has_companions() -> None:
    with pytest.raises(ValueError, match="ppd, hidden: only one"):
        SpeculativeBackend(llama(), drafters=[drafter(k, llama()) for k in ("ppd", "hidden")])


# -- how many, and where ---------------------------------------------------------------------------


def test_companions_stand_where_texts_end() -> None:
    """The best places by hand, with times that make them worth it or not."""
    drafts = tree([(ROOT, 2), (0, 3), (ROOT, 3)])
    for node, score in zip(drafts.nodes, (0.6, 0.5, 0.3), strict=True):
        node.scores = {"x": score}
    ends = {ROOT: 0.1, 0: 0.3, 1: 0.3, 2: 0.3}
    for gains, unit in itertools.product([(0.6, 0.2), (0.3, 0.3), (0.0, 0.0)], [0.0, 0.05, 10.0]):
        schedule = Schedule(16, 5)
        for size in range(1, 20):
            schedule.costs._seconds[size] = [1 + unit * size]  # type: ignore[assignment]
        schedule.costs.seconds = lambda size, unit=unit: 1 + unit * size  # type: ignore[method-assign,misc]
        (found,) = schedule.attach([drafts], [[ROOT, 0, 1, 2]], 1, gains)
        counts = {one.node: one.count for one in found}
        best = 0.0
        for some in itertools.product(range(3), repeat=4):
            if sum(some) <= 5:
                gain = 1.0 + 0.6 + 0.3 + 0.3
                gain += sum(sum(gains[:c]) * ends[n] for c, n in zip(some, ends, strict=True))
                best = max(best, gain / (1 + unit * (4 + sum(some))))
        gain = 2.2 + sum(sum(gains[:c]) * ends[n] for n, c in counts.items())
        assert gain / (1 + unit * (4 + sum(counts.values()))) == pytest.approx(best)
        assert counts or unit > 0 or not any(gains)
    assert Schedule(16, 5, adaptive=False).attach([drafts], [[ROOT]], 1, (0.5, 0.1)) == [
        [Attached(ROOT, 2)]
    ]


class Right(Drafter):
    """Makes the same guesses as another drafter whose gains are asked for."""

    name = "right"

    def __init__(self, text: Sequence[int]) -> None:
        self.text = list(text)

    def propose(self, context: Context) -> None:
        at = len(context.new_tokens)
        context.chain(ROOT, self.text[at : at + 3], self.name, 0.9)


def test_gains_are_measured() -> None:
    """They fall where guesses are wrong, and where another drafter makes them anyway."""
    own = drafter("ppd", llama())
    assert own.expected() == [0.5, 0.25]
    own.network.accepted[:] = torch.tensor([[0.8, 0.1, 0.05, 0.01, 0, 0, 0, 0]] * 2)
    assert own.expected() == pytest.approx([0.95, 0.95**2])
    own.growth = Growth(depth=2, width=1, children=1, least=0.0)
    assert own.expected() == pytest.approx([0.8, 0.64])
    assert own.companion_gains() == pytest.approx([0.8, 0.64])
    (plain,) = SpeculativeBackend(llama(), drafters=[]).generate(
        PROMPT, Endless(), max_new_tokens=30, seed=0
    )
    alone = SpeculativeBackend(llama(), drafters=[own], adaptive=False)
    alone.generate(PROMPT, Endless(), max_new_tokens=30, seed=0)
    measured = own.companion_gains()
    assert 0.05 < measured[1] < measured[0] < 0.8
    own.reset()
    both = SpeculativeBackend(llama(), drafters=[Right(plain.token_ids), own], adaptive=False)
    both.generate(PROMPT, Endless(), max_new_tokens=30, seed=0)
    assert own.companion_gains()[0] < measured[0]


# -- learning --------------------------------------------------------------------------------------

CYCLE = [2, 3, 4, 5]


def texts() -> list[tuple[list[int], int]]:
    """Texts that go round, after prompts that tell nothing."""
    return [([0] * (i % 7) + [i % 4 + 1, *(CYCLE * 6)[i % 4 :][:18]], 1 + i % 7) for i in range(28)]


@pytest.mark.parametrize("kind", KINDS)
def test_training_says_what_drafting_says(kind: str) -> None:
    """Companions of many tokens in one forward beside those of one token in a scorer."""
    model = made(1, layers=3, columns=6, size=16).float()
    companions = network(kind, model)
    course = Insertion(model, companions, [Lined(*t) for t in texts()], [], 64, 8)
    text = Lined([0, 2, 3, 4, 5, 2, 3, 4], 3)
    assert (text.first, text.places) == (2, 4)
    points = torch.tensor([2, 3, 5])
    with torch.no_grad():
        said = course.said(text, points)
        logits = model(torch.tensor([text.tokens])).logits[0]
    for i, point in enumerate(points.tolist()):
        scorer = TreeScorer(model)
        request = Request(text.tokens[: point + 1], Tree(()), [Attached(ROOT, companions.count)])
        (found,) = scorer.score([request], companions=companions).companions
        wanted = companions.output.logits(companions.joined(found[ROOT]))
        assert off(said.guessed[i], wanted) < CLOSE
        for place in range(companions.count):
            at = point + 1 + place
            assert bool(said.known[i, place]) == (at + 1 < len(text.tokens))
            if said.known[i, place]:
                assert int(said.tokens[i, place]) == text.tokens[at + 1]
                assert off(said.wanted[i, place], logits[at]) < CLOSE


@cache
def fitted(kind: str) -> CompanionDrafter:
    drafter, options = KINDS[kind]
    return drafter.fit(
        made(1, layers=2, columns=6, size=16).float(),
        None,
        texts(),
        vocabulary=5,
        points=16,
        training=Training(epochs=12, learning_rate=0.01, batch=64, held_out=0.2, patience=12),
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_teaches_the_models_law(kind: str) -> None:
    """The loss falls, the model stays as it is, and the same seed gives the same network."""
    model = made(1, layers=2, columns=6, size=16).float()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = fitted(kind)
    assert found.report.losses[-1] < 0.97 * found.report.losses[0]
    assert len(found.report.acceptance) == len(found.report.losses)
    drafter, options = KINDS[kind]
    short = Training(epochs=1, learning_rate=0.01, batch=64, held_out=0.2)
    again = [
        drafter.fit(model, None, texts(), vocabulary=5, training=short, **options) for _ in "ab"
    ]
    assert again[0].report.losses == again[1].report.losses
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_acceptance_by_distance_and_rank(kind: str) -> None:
    """Beside guesses of a scorer, one token at a time."""
    model = made(1, layers=2, columns=6, size=16).float()
    companions = fitted(kind).network
    course = Insertion(model, companions, [Lined(*t) for t in texts()], [], 64, 99)
    text = Lined([0, 3, *CYCLE * 3], 2)
    kept = companions.accepted.clone()
    chain = course.measure([text])
    found = companions.accepted.clone()
    companions.accepted.copy_(kept)
    count = companions.count
    hits = np.zeros((count, companions.accepted.shape[1]))
    chains = 0
    points = range(1, len(text.tokens) - 1 - count)
    for point in points:
        request = Request(text.tokens[: point + 1], Tree(()), [Attached(ROOT, count)])
        (states,) = TreeScorer(model).score([request], companions=companions).companions
        logits = companions.output.logits(companions.joined(states[ROOT]))
        right = True
        for place in range(count):
            order = [
                companions.output.token(c) for c in logits[place].argsort(descending=True).tolist()
            ]
            token = text.tokens[point + 2 + place]
            if token in order:
                hits[place, order.index(token)] += 1
            right = right and order[0] == token
            chains += right
    assert np.allclose(found.numpy(), hits / len(points), atol=1e-6)
    assert chain == pytest.approx(chains / len(points))


@cache
def going_round() -> Any:
    """A model that knows by heart what the texts go on with."""
    model = made(1, layers=2, columns=6, size=16).float()
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for number in range(140):
        ids = torch.tensor([tokens for tokens, given in texts() if given == 1 + number % 7])
        optimiser.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimiser.step()
    optimiser.zero_grad()
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "least"), [("hidden", 1.8), ("ppd", 0.7)])
def test_what_was_learned_is_drafted(kind: str, least: float) -> None:
    """What comes two and three further on is learned; prompt tokens of a model so small learn half of it."""
    counts = []
    for epochs in (1, 20):
        options = Training(epochs=epochs, learning_rate=0.01, batch=64, patience=30, held_out=0.2)
        growth = Growth(depth=2, width=1, children=1, least=0.0)
        own = KINDS[kind][0].fit(
            going_round(), None, texts(), count=2, training=options, growth=growth
        )
        backend = SpeculativeBackend(going_round(), drafters=[own], adaptive=False)
        (sample,) = backend.generate(
            [0, 2, 3, 4, 5, 2, 3], FreeText(()), max_new_tokens=30, sampling=Sampling(0), seed=0
        )
        counts.append(sample.stats.accepted)
    assert max(own.report.acceptance) > max(least, 1.5 * own.report.acceptance[0])
    assert kind == "ppd" or counts[1] > counts[0] + 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ids", [None, [0, 2, 3]])
def test_networks_are_saved_and_loaded(kind: str, ids: list[int] | None, tmp_path: Path) -> None:
    model = llama()
    saved = drafter(kind, model, ids)
    saved.network.accepted[0, 1] = 0.25
    path = tmp_path / "drafter.safetensors"
    saved.save(path)
    loaded = type(saved).load(path, model, growth=EAGER)
    if isinstance(loaded, LexicalUnits):
        loaded.alpha = 0.0
    assert torch.equal(loaded.network.accepted, saved.network.accepted)
    drafts = []
    for each in (saved, loaded):
        backend = SpeculativeBackend(model, drafters=[each], adaptive=False)
        (sample,) = backend.generate(PROMPT, Endless(), max_new_tokens=12, seed=1)
        drafts.append((sample.token_ids, sample.stats.drafted, sample.stats.accepted))
    assert drafts[0] == drafts[1]
    with pytest.raises(ValueError, match=r"hidden size 8, 4 tokens.*hidden size 8, 5 tokens"):
        type(saved).load(path, made(1, columns=5))
    other = next(d for d, _ in KINDS.values() if d is not type(saved))
    with pytest.raises(ValueError, match="does not hold weights of this kind"):
        other.load(path, model)


def test_units_end_where_the_model_is_not_sure() -> None:
    """Chains are as long as their tokens' probabilities are at least alpha."""
    lengths = []
    for alpha in (0.0, 0.7, 1.0):
        own = drafter("lexical", llama())
        assert isinstance(own, LexicalUnits)
        own.alpha = alpha
        backend = SpeculativeBackend(llama(), drafters=[own], adaptive=False)
        seen: list[Observation] = []
        backend.generate(PROMPT, Endless(), max_new_tokens=12, seed=1, observers=[seen.append])
        trees = [one.tree for one in seen]
        for drafts in trees:
            assert all(len(drafts.children(node)) <= 1 for node in range(-1, len(drafts)))
            assert all(node.scores["lexical"] >= alpha for node in drafts.nodes)
        lengths.append(sum(map(len, trees)))
    assert lengths[0] > lengths[1] > lengths[2]


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        PPD.fit(llama(), None, [[0, 2]])
    with pytest.raises(ValueError, match="points=0"):
        PPD.fit(llama(), None, [[0, 2, 3]], points=0)
    with pytest.raises(ValueError, match="count=0: must be at least 1"):
        PPD.fit(llama(), None, [[0, 2, 3]], count=0)
    with pytest.raises(ValueError, match="most=9999: at most 1,024"):
        PPD.fit(llama(), None, [[0, 2, 3]], most=9_999)
    with pytest.raises(ValueError, match="sliding attention"):
        PPD.fit(sliding(), None, [[0, 2, 3]])
    with pytest.raises(ValueError, match="layer=3: must be from 1 to 2"):
        HiddenTransfer.fit(llama(), None, [[0, 2, 3]], layer=3)
    with pytest.raises(ValueError, match="adapters=-1"):
        LexicalUnits.fit(llama(), None, [[0, 2, 3]], adapters=-1)
    with pytest.raises(ValueError, match="alpha=2"):
        LexicalUnits(network("lexical", llama()), alpha=2)
