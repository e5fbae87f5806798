"""Drafters that run a network: nothing of them shows in the law of the text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from enumeration import Enumerated, law_of, total_variation
from one_thread import one_thread  # noqa: F401 - a fixture
from transformers import LlamaConfig, LlamaForCausalLM

from samplers.backend import SpeculativeBackend
from samplers.drafters.base import Context, Drafter
from samplers.drafters.draft_model import DraftModel, Follower
from samplers.drafters.layer_skip import (
    LayerSkip,
    SkipSearch,
    posterior,
    skipping,
    sublayers_of,
)
from samplers.drafters.learned.files import Base
from samplers.drafters.learned.medusa import Heads, MedusaHeads
from samplers.drafters.online_distilled import OnlineDistilled
from samplers.drafters.recursive import conditioned, fitting
from samplers.speculative.choices import Choices, Drawn
from samplers.speculative.law import Law, Sampling
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.target import FreeText, Weighting
from samplers.speculative.tree import ROOT, Tree
from samplers.speculative.verify import next_token

EOS, COLUMNS = 1, 4
PROMPT = [0, 2]
LENGTH = 3
EXACT = 1e-12
VISIBLE = 1e-3
"""A bias that a negative control must show at least."""

Text = tuple[int, ...]
Floats = npt.NDArray[np.float64]


def made(seed: int, layers: int = 1, columns: int = COLUMNS, size: int = 8) -> LlamaForCausalLM:
    """A small random Llama in double precision, far from uniform."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=columns,
        hidden_size=size,
        intermediate_size=size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=EOS,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).double().eval()
    model.lm_head.weight.data *= 0.6
    return model


class Table:
    """A model without attention, for enumerations of many runs: logits by position and token."""

    dtype = torch.float64
    device = "cpu"

    def __init__(self, seed: int) -> None:
        self.config = LlamaConfig(vocab_size=COLUMNS, num_hidden_layers=0, bos_token_id=0)
        self.config._attn_implementation = "eager"
        drawn = np.random.default_rng(seed)
        self.logits = torch.from_numpy(1.5 * drawn.normal(size=(16, COLUMNS, COLUMNS)))

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor | None = None, **_: Any
    ) -> Any:
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1])[None]
        return SimpleNamespace(logits=self.logits[position_ids, input_ids])

    __call__ = forward


@cache
def llama() -> LlamaForCausalLM:
    return made(1, layers=3)


@cache
def table() -> Table:
    return Table(1)


class Weighted:
    """Weights by the whole text; states are texts.  With ``masked`` they are zero and one.

    As in a grammar, ``advance`` forbids what has no weight.
    """

    automaton = None

    def __init__(self, seed: int = 0, masked: bool = False) -> None:
        self._seed, self._masked = seed, masked

    def start(self) -> Text:
        return ()

    def advance(self, state: Text, token: int) -> Text | None:
        if self.is_finished(state) or self.weights(state)[token] == 0:
            return None
        return (*state, token)

    def is_finished(self, state: Text) -> bool:
        return bool(state) and state[-1] == EOS

    def weighting(self, state: Text, tokens_left: int) -> Weighting:
        weights = self.weights(state)
        ids = np.flatnonzero(weights)
        return Weighting(ids, None if self._masked else np.log(weights[ids]))

    def grammar_state(self, state: Text) -> int:
        raise TypeError("no grammar")

    def weights(self, state: Text) -> Floats:
        """float64[V]; one of them is zero, more often than not that of EOS."""
        drawn = np.random.default_rng([self._seed, len(state), *state])
        weights = np.ones(COLUMNS) if self._masked else drawn.uniform(0.2, 2.0, COLUMNS)
        weights[drawn.choice([EOS, EOS, 0, 2, 3])] = 0.0
        return weights


class Endless(Weighted):
    """Two or three tokens are possible at each place, and never EOS."""

    def __init__(self) -> None:
        super().__init__(0, masked=True)

    def weights(self, state: Text) -> Floats:
        weights = np.ones(COLUMNS)
        weights[EOS] = 0.0
        if len(state) % 3 == 0:
            weights[2] = 0.0
        return weights


TARGETS = {
    "free": lambda: FreeText((EOS,)),
    "masked": lambda: Weighted(3, masked=True),
    "weighted": lambda: Weighted(4),
}


def next_law(model: Any, text: Text, temperature: float) -> Floats:
    """Of the plain model: no cache, no mask, no machinery."""
    with torch.no_grad():
        ids = torch.tensor([[*PROMPT, *text]])
        logits = model(ids, use_cache=False).logits[0, -1]
    return np.asarray(torch.softmax(logits / temperature, -1).numpy())


def expected(model: Any, target: Any, temperature: float = 1.0) -> dict[Text, float]:
    """The law of texts, token by token."""
    law: dict[Text, float] = {}
    unfinished: list[tuple[Text, Any, float]] = [((), target.start(), 1.0)]
    while unfinished:
        text, state, probability = unfinished.pop()
        if target.is_finished(state) or len(text) == LENGTH:
            law[text] = probability
            continue
        p = next_law(model, text, temperature) * weights_of(target, state, LENGTH - len(text))
        p /= p.sum()
        for token in np.flatnonzero(p).tolist():
            after = target.advance(state, token)
            unfinished.append(((*text, token), after, probability * p[token]))
    return law


def weights_of(target: Any, state: Any, left: int) -> Floats:
    weighting = target.weighting(state, left)
    if weighting.ids is None:
        return np.ones(COLUMNS)
    out = np.zeros(COLUMNS)
    logs = weighting.log_weights
    out[weighting.ids] = 1.0 if logs is None else np.exp(logs)
    return out


def enumerated(
    model: Any, drafter: Drafter, target: Any, sampling: Sampling | None = None
) -> tuple[dict[Text, float], int]:
    """The law of texts with a drafter, over all decisions; and how many drafts came true."""
    accepted = 0
    backend = SpeculativeBackend(model, drafters=[drafter], max_tree_nodes=8, adaptive=False)

    def run(choices: Enumerated) -> Text:
        nonlocal accepted
        backend.reset()
        (sample,) = backend.generate(
            PROMPT,
            target,
            max_new_tokens=LENGTH,
            sampling=sampling,
            choices=lambda _: choices,
        )
        accepted += sample.stats.accepted
        return tuple(sample.token_ids)

    return law_of(run), accepted


# -- draft model, exactly ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("masked", [True, False], ids=["q masked", "q unmasked"])
@pytest.mark.parametrize("branching", [(2,), (1, 1)])
def test_constant_trees_leave_the_law_alone(
    kind: str, masked: bool, branching: tuple[int, ...]
) -> None:
    target = TARGETS[kind]()
    drafter = DraftModel(Table(2), tree="rsd-c", branching=branching, masked=masked)
    law, accepted = enumerated(table(), drafter, target)
    assert accepted
    assert total_variation(law, expected(table(), target)) < EXACT


def test_two_levels_with_siblings_and_temperature() -> None:
    target = Weighted(3, masked=True)
    drafter = DraftModel(Table(2), tree="rsd-c", branching=(2, 1))
    law, accepted = enumerated(table(), drafter, target, Sampling(temperature=0.7))
    assert accepted
    assert total_variation(law, expected(table(), target, temperature=0.7)) < EXACT


def test_a_chain_of_a_real_draft_for_a_real_model() -> None:
    target = Weighted(3, masked=True)
    drafter = DraftModel(made(2), tree="chain", depth=2)
    law, accepted = enumerated(llama(), drafter, target)
    assert accepted
    assert total_variation(law, expected(llama(), target)) < EXACT


def test_dropping_forbidden_drafts_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: the same test sees the bias of the usual mistake."""
    add = Context.add_drawn

    def dropping(self: Context, parent: int, token: int, source: str, q: Floats) -> int | None:
        if self.target.advance(self.tree.state(parent), token) is None:
            return None
        return add(self, parent, token, source, q)

    monkeypatch.setattr(Context, "add_drawn", dropping)
    target = Weighted(3, masked=True)
    drafter = DraftModel(Table(2), tree="rsd-c", branching=(2,), masked=False)
    law, _ = enumerated(table(), drafter, target)
    assert total_variation(law, expected(table(), target)) > VISIBLE


# -- stochastic beam search ----------------------------------------------------------------------


def context_of(
    target: Any, choices: Choices, room: int = 16, sampling: Sampling | None = None
) -> Context:
    return Context(
        row=0,
        tokens=PROMPT,
        prompt_length=len(PROMPT),
        tokens_left=LENGTH,
        target=target,
        tree=Tree(target.start()),
        room=room,
        sampling=sampling or Sampling(),
        choices=choices,
    )


def beam_tree(target: Any, choices: Choices, masked: bool) -> Tree:
    drafter = DraftModel(Table(2), tree="rsd-s", width=3, depth=2, masked=masked)
    context = context_of(target, choices)
    drafter.propose(context)
    return context.tree


def verified(tree: Tree, target: Any, choices: Choices) -> Text:
    """Two tokens drawn with a tree's help."""
    text: Text = ()
    state, node = tree.root_state, ROOT
    below: int | None = ROOT
    while len(text) < 2 and not target.is_finished(state):
        weights = next_law(table(), text, 1.0) * weights_of(target, state, LENGTH - len(text))
        law = Law(None, weights, weights, weights)
        if below is None:
            token = choices.pick(weights)
        else:
            token, below = next_token(tree, node, law, choices)
            node = ROOT if below is None else below
        state = target.advance(state, token)
        text = (*text, token)
    return text


def deviations(target: Any, masked: bool, spoil: Callable[[Tree], None], trees: int) -> Floats:
    """Of every text's probability from what it should be, in standard errors.

    Trees are drawn; given a tree, verification is enumerated.
    """
    right: dict[Text, float] = {}
    for text, probability in expected(table(), target).items():
        right[text[:2]] = right.get(text[:2], 0.0) + probability
    texts = sorted(right)
    choices = Drawn(7)
    found = np.zeros((trees, len(texts)))
    for i in range(trees):
        tree = beam_tree(target, choices, masked)
        spoil(tree)
        law = law_of(lambda c, tree=tree: verified(tree, target, c))  # type: ignore[misc]
        assert set(law) <= set(right)
        found[i] = [law.get(text, 0.0) for text in texts]
    errors = found.std(axis=0) / np.sqrt(trees) + 1e-9
    return np.asarray((found.mean(axis=0) - [right[t] for t in texts]) / errors)


@pytest.mark.parametrize("masked", [True, False], ids=["q masked", "q unmasked"])
def test_stochastic_beams_leave_the_law_alone(masked: bool) -> None:
    z = deviations(Weighted(4), masked, lambda tree: None, trees=700)
    assert np.abs(z).max() < 4.5


def test_siblings_in_the_wrong_order_would_show() -> None:
    def reverse(tree: Tree) -> None:
        for family in tree.drawn.values():
            family.children.reverse()

    z = deviations(Weighted(4), True, reverse, trees=300)
    assert np.abs(z).max() > 8


def test_forbidden_beams_dropped_would_show() -> None:
    def drop(tree: Tree) -> None:
        for family in tree.drawn.values():
            family.children[:] = [c for c in family.children if tree.nodes[c].state is not None]

    z = deviations(Weighted(4), False, drop, trees=300)
    assert np.abs(z).max() > 8


def test_conditioned_noise_keeps_order_and_maximum() -> None:
    noisy = np.array([-3.0, 2.0, 0.5, 1.99999999, -700.0])
    out = conditioned(noisy, -1.25)
    assert out.max() == out[1] == -1.25
    assert (np.argsort(out) == np.argsort(noisy)).all()
    assert np.isfinite(out).all()


def test_conditioned_noise_has_the_right_law() -> None:
    """Two children of a node: the loser's noise, given the winner's, is a truncated Gumbel."""
    drawn = np.random.default_rng(0)
    log_q = np.log([0.7, 0.3])
    out = np.array([conditioned(log_q + drawn.gumbel(size=2), 0.0) for _ in range(4000)])
    first = out[out[:, 0] == 0.0][:, 1]
    # P(log q2 + Gumbel < x | it is below 0) = exp(-q2 (exp(-x) - 1))
    uniform = np.sort(np.exp(-0.3 * (np.exp(-first) - 1)))
    distance = np.abs(uniform - (np.arange(len(uniform)) + 0.5) / len(uniform)).max()
    assert abs(len(first) / 4000 - 0.7) < 0.03
    assert distance < 1.9 / np.sqrt(len(uniform))


def test_trees_fit_the_room() -> None:
    assert fitting((2, 1, 1), 6) == [2, 1, 1]
    assert fitting((2, 1, 1), 5) == [2, 1]
    assert fitting((4, 4), 3) == []
    for room in range(8):
        for kind in ("rsd-s", "rsd-c"):
            drafter = DraftModel(Table(2), tree=kind, branching=(2, 2), width=3, depth=2)
            context = context_of(FreeText((EOS,)), Drawn(room), room)
            drafter.propose(context)
            assert len(context.tree) <= room
            assert context.room == room - len(context.tree)


@pytest.mark.parametrize("kind", ["rsd-s", "rsd-c", "chain"])
def test_greedy_texts_are_the_same_with_any_tree(kind: Any) -> None:
    plain = SpeculativeBackend(llama(), drafters=[])
    drafted = SpeculativeBackend(llama(), drafters=[DraftModel(made(2), tree=kind)], adaptive=False)
    greedy = Sampling(temperature=0)
    target = Weighted(5, masked=True)
    texts = [
        b.generate(PROMPT, target, max_new_tokens=20, sampling=greedy) for b in (plain, drafted)
    ]
    assert texts[0][0].token_ids == texts[1][0].token_ids
    assert texts[1][0].stats.by_drafter["draft_model"].drafted


def test_greedy_trees_are_deterministic() -> None:
    for kind in ("rsd-s", "rsd-c", "chain"):
        context = context_of(FreeText((EOS,)), Enumerated(), sampling=Sampling(temperature=0))
        DraftModel(Table(2), tree=kind).propose(context)
        assert len(context.tree)
        assert not context.tree.drawn


# -- the draft's own cache -----------------------------------------------------------------------


def test_a_follower_goes_on_goes_back_and_starts_anew() -> None:
    model = made(3, layers=2)
    follower = Follower(model)
    tree = Tree(None)
    tree.add(ROOT, 2, None, "x", 1.0)
    tree.add(0, 3, None, "x", 1.0)
    tree.add(ROOT, 0, None, "x", 1.0)
    texts = [[0, 2, 3], [0, 2, 3, 2, 2, 0], [0, 2, 3, 2], [0, 2, 3, 2], [3], [3, 3, 0, 2], [2, 0]]
    for text in texts:
        follower.follow(text)
        for drafts in (Tree(None), tree):
            scores = follower.score(drafts)
            for node in [ROOT, *range(len(drafts))]:
                ids = torch.tensor([[*text, *drafts.tokens_to(node)]])
                with torch.no_grad():
                    wanted = model(ids, use_cache=False).logits[0, -1]
                assert torch.allclose(scores.at(0, node), wanted, atol=1e-10)
        assert list(follower.kept) == text[:-1]


def test_rows_have_drafts_of_their_own() -> None:
    """Rows of different texts and lengths: each gets what it would get alone."""
    drafter = DraftModel(made(2), tree="rsd-c")
    target = Endless()
    together = SpeculativeBackend(llama(), drafters=[drafter], max_rows=3, adaptive=False)
    alone = SpeculativeBackend(
        llama(), drafters=[DraftModel(made(2), tree="rsd-c")], max_rows=1, adaptive=False
    )
    texts = [
        [s.token_ids for s in b.generate(PROMPT, target, n=4, max_new_tokens=9, seed=5)]
        for b in (together, alone)
    ]
    assert texts[0] == texts[1]


def test_a_perfect_draft_is_always_accepted() -> None:
    drafter = DraftModel(llama(), tree="chain", depth=3)
    backend = SpeculativeBackend(llama(), drafters=[drafter], adaptive=False)
    (sample,) = backend.generate(PROMPT, Endless(), max_new_tokens=20, seed=1)
    count = sample.stats.by_drafter["draft_model"]
    assert count.accepted >= count.drafted - 3  # the last chain may be longer than the text


def test_another_vocabulary_is_an_error() -> None:
    backend = SpeculativeBackend(llama(), drafters=[DraftModel(made(2, columns=5))])
    backend.schedule.adaptive = False
    with pytest.raises(ValueError, match=r"5 tokens and the model 4"):
        backend.generate(PROMPT, FreeText((EOS,)), max_new_tokens=3, seed=0)


@pytest.mark.parametrize(
    "options", [{"tree": "rsd"}, {"width": 0}, {"branching": ()}, {"branching": (2, 0)}]
)
def test_wrong_arguments_of_a_draft(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        DraftModel(Table(2), **options)


# -- the model's own layers ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", TARGETS)
def test_skipped_layers_leave_the_law_alone(kind: str) -> None:
    target = TARGETS[kind]()
    law, accepted = enumerated(llama(), LayerSkip(llama(), length=2), target)
    assert accepted
    assert total_variation(law, expected(llama(), target)) < EXACT


@pytest.mark.parametrize("seed", range(6))
def test_candidates_beside_a_chain(seed: int) -> None:
    """The first tree is what the model without its middle says of each prefix of the chain."""
    model, length = made(seed, layers=4), 3
    drafter = LayerSkip(model, length=length, search=False)
    trees: list[tuple[list[int], Any]] = []
    SpeculativeBackend(model, drafters=[drafter], adaptive=False).generate(
        PROMPT,
        FreeText(()),
        max_new_tokens=9,
        seed=3,
        observers=[lambda seen: trees.append((list(seen.context.tokens), seen.tree))],
    )
    before, tree = next((tokens, tree) for tokens, tree in trees if len(tree))
    wanted: set[tuple[int, ...]] = set()
    path: tuple[int, ...] = ()
    joint = 1.0
    with skipping(drafter.sublayers, drafter.search.best), torch.no_grad():
        for _ in range(length):
            logits = model(torch.tensor([[*before, *path]]), use_cache=False).logits[0, -1]
            law = torch.softmax(logits.double(), -1)
            best = law.sort(descending=True)
            wanted.add((*path, int(best.indices[0])))
            wanted |= {
                (*path, int(token))
                for p, token in zip(best.values[1:3], best.indices[1:3], strict=True)
                if joint * p >= 0.04
            }
            path, joint = (*path, int(best.indices[0])), joint * float(best.values[0])
            if best.values[0] < 0.6:
                break
    found = {tuple(tree.tokens_to(node)) for node in range(len(tree))}
    assert found == wanted


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([PROMPT]), use_cache=False).logits
    return logits


def test_layers_come_back_even_after_an_exception() -> None:
    model = made(1, layers=4)
    before = logits_of(model)
    sublayers = sublayers_of(model)
    assert len(sublayers) == 4
    own = sublayers[0].module.forward
    sublayers[1].module.forward = kept = sublayers[1].module.forward  # as a hook would set it

    def fail() -> None:
        with skipping(sublayers, (True,) * 4):
            assert not torch.allclose(logits_of(model), before)
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail()
    assert torch.equal(logits_of(model), before)
    assert "forward" not in vars(sublayers[0].module)
    assert sublayers[0].module.forward == own
    assert sublayers[1].module.forward is kept


def test_layers_come_back_when_a_forward_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(1, layers=3)
    before = logits_of(model)
    backend = SpeculativeBackend(model, drafters=[LayerSkip(model)], adaptive=False)
    monkeypatch.setattr(TreeScorer, "commit", lambda *_: 1 / 0)
    monkeypatch.setattr(TreeScorer, "score", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backend.generate(PROMPT, FreeText((EOS,)), max_new_tokens=3, seed=0)
    assert torch.equal(logits_of(model), before)


def test_skipping_everything_between_leaves_first_and_last() -> None:
    short, model = made(1, layers=2), made(1, layers=4)
    for mine, its in zip(short.model.layers, (0, 3), strict=True):
        mine.load_state_dict(model.model.layers[its].state_dict())
    for part in ("embed_tokens", "norm"):
        getattr(short.model, part).load_state_dict(getattr(model.model, part).state_dict())
    short.lm_head.load_state_dict(model.lm_head.state_dict())
    with skipping(sublayers_of(model), (True,) * 4):
        assert torch.allclose(logits_of(model), logits_of(short), atol=1e-12)


def test_a_cache_is_the_same_after_looking_back() -> None:
    model = llama()
    scorer = TreeScorer(model, 1, capacity=6)
    text = [0, 2, 3, 2, 0, 3]
    scorer.score([Request(text, Tree(None))])
    scorer.commit([[]])
    with scorer.cache.rewound(2):
        scorer.score([Request([1] * 9, Tree(None))])
    assert scorer.length(0) == len(text)
    logits = scorer.score([Request([2], Tree(None))]).at(0, ROOT)
    with torch.no_grad():
        wanted = model(torch.tensor([[*text, 2]]), use_cache=False).logits[0, -1]
    assert torch.allclose(logits, wanted, atol=1e-12)


def test_the_search_judges_and_improves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are the same with the search running; what it tries is judged on their tokens."""
    model = made(4, layers=6)
    told: list[tuple[float, float]] = []
    tell = SkipSearch.tell

    def telling(self: SkipSearch, skipped: Any, score: float, current: float) -> None:
        told.append((score, current))
        tell(self, skipped, score, current)

    monkeypatch.setattr(SkipSearch, "tell", telling)
    monkeypatch.setattr("samplers.drafters.layer_skip._SEARCH_EVERY", 1)
    drafter = LayerSkip(model, skip=0.3)
    texts = [
        SpeculativeBackend(model, drafters=drafters, adaptive=False)
        .generate(PROMPT, Endless(), max_new_tokens=60, seed=3)[0]
        .token_ids
        for drafters in ([], [drafter])
    ]
    assert texts[0] == texts[1]
    assert told
    assert all(0 <= score <= 1 for pair in told for score in pair)


def test_nothing_skipped_is_judged_perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    """So positions and masks of the judgement are those of the text."""
    model = made(4, layers=3)
    judged: list[float] = []
    judge = LayerSkip._judge

    def judging(self: Any, context: Any, scorer: Any, skipped: Any, on: Any) -> float:
        judged.append(judge(self, context, scorer, (False,) * len(skipped), on))
        return 0.0

    monkeypatch.setattr(LayerSkip, "_judge", judging)
    monkeypatch.setattr("samplers.drafters.layer_skip._SEARCH_EVERY", 1)
    backend = SpeculativeBackend(model, drafters=[LayerSkip(model)], adaptive=False)
    backend.generate(PROMPT, Endless(), max_new_tokens=60, seed=3)
    assert len(judged) >= 2
    assert set(judged) == {1.0}


def test_the_search_finds_what_is_not_missed() -> None:
    """Scores fall with every sublayer skipped among the first five of twelve."""
    search = SkipSearch(12, 5, seed=1)
    noise = np.random.default_rng(0)

    def score(skipped: tuple[bool, ...]) -> float:
        return float(0.9 - 0.15 * sum(skipped[:5]) + noise.normal(0, 0.02))

    first = score(search.best)
    for _ in range(150):
        proposed = search.propose()
        assert sum(proposed) == 5
        search.tell(proposed, score(proposed), score(search.best))
    assert sum(search.best[:5]) <= 1
    assert search.score > first


def test_the_process_interpolates() -> None:
    tried = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]], bool)
    scores = np.array([0.9, 0.1, 0.5])
    mean, deviation = posterior(tried, scores, np.vstack([tried, [[0, 1, 0, 1]]]))
    assert mean[0] > mean[2] > mean[1]
    assert deviation[3] > deviation[:3].max()


def test_wrong_models_and_numbers_of_layer_skip() -> None:
    with pytest.raises(ValueError, match="2 layers"):
        LayerSkip(made(1, layers=2))
    with pytest.raises(ValueError, match="is not built of layers"):
        LayerSkip(Table(1))
    with pytest.raises(ValueError, match=r"skip=1\.0"):
        LayerSkip(llama(), skip=1.0)
    with pytest.raises(ValueError, match="length=0"):
        LayerSkip(llama(), length=0)
    backend = SpeculativeBackend(llama(), drafters=[LayerSkip(made(2, layers=3))], adaptive=False)
    with pytest.raises(ValueError, match="given another"):
        backend.generate(PROMPT, FreeText((EOS,)), max_new_tokens=3, seed=0)


# -- learning while drafting ---------------------------------------------------------------------


def test_learning_leaves_the_law_alone() -> None:
    target = Weighted(3, masked=True)
    student = made(2)
    drafter = OnlineDistilled(
        student, tree="rsd-c", branching=(1,), every_steps=1, learning_rate=0.05
    )
    law, accepted = enumerated(table(), drafter, target)
    assert accepted
    assert drafter.losses
    assert total_variation(law, expected(table(), target)) < EXACT


def test_learning_lowers_the_loss_and_raises_acceptance() -> None:
    student = made(2)
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    drafter = OnlineDistilled(student, tree="chain", depth=2, every=4, learning_rate=0.02)
    backend = SpeculativeBackend(table(), drafters=[drafter], adaptive=False)
    target = FreeText((EOS,))
    shares = []
    for seed in range(4):
        samples = backend.generate(PROMPT, target, n=60, max_new_tokens=12, seed=seed)
        drafted = sum(s.stats.drafted for s in samples)
        shares.append(sum(s.stats.accepted for s in samples) / drafted)
    assert len(drafter.losses) > 20
    assert np.mean(drafter.losses[-5:]) < np.mean(drafter.losses[:5]) - 0.1
    assert shares[-1] > shares[0] + 0.05
    assert all(parameter.grad is None for parameter in student.parameters())
    drafter.reset()
    assert all(torch.equal(weight, before[name]) for name, weight in student.state_dict().items())
    assert drafter.losses == []


def test_corrections_are_the_verifiers_law_at_wrong_positions() -> None:
    target = Weighted(4)
    drafter = OnlineDistilled(made(2), tree="chain", depth=2, every=100)
    backend = SpeculativeBackend(table(), drafters=[drafter], max_rows=2, adaptive=False)
    samples = backend.generate(PROMPT, target, n=5, max_new_tokens=LENGTH, seed=1)
    assert {tuple(t.tokens) for t in drafter._finished} == {
        (*PROMPT, *s.token_ids) for s in samples
    }
    count = 0
    for text in drafter._finished:
        for correction in text.corrections:
            new = tuple(text.tokens[len(PROMPT) : correction.position])
            weights = weights_of(target, new, LENGTH - len(new))
            wanted = next_law(table(), new, 1.0) * weights
            wanted /= wanted.sum()
            assert np.allclose(correction.probabilities, wanted[correction.ids], atol=1e-6)
            count += 1
    assert count


def test_a_student_is_saved_and_loaded(tmp_path: Path) -> None:
    student = made(2).float()
    drafter = OnlineDistilled(student)
    student.lm_head.weight.data += 1.0
    drafter.save(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = OnlineDistilled.load(tmp_path, every=3)
    assert loaded.every == 3
    assert torch.equal(loaded.model.lm_head.weight, student.lm_head.weight)


def test_students_must_not_be_the_verifier() -> None:
    model = llama()
    backend = SpeculativeBackend(model, drafters=[OnlineDistilled(model)], adaptive=False)
    with pytest.raises(ValueError, match="shares weights"):
        backend.generate(PROMPT, FreeText((EOS,)), max_new_tokens=3, seed=0)
    with pytest.raises(ValueError, match="too coarse"):
        OnlineDistilled(made(2).bfloat16())
    with pytest.raises(ValueError, match="every=0"):
        OnlineDistilled(made(2), every=0)


# -- heads ---------------------------------------------------------------------------------------


def random_heads(model: Any, count: int = 2) -> Heads:
    heads = Heads(model, count)
    torch.manual_seed(5)
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return heads


@pytest.mark.parametrize("kind", TARGETS)
def test_heads_leave_the_law_alone(kind: str) -> None:
    target = TARGETS[kind]()
    drafter = MedusaHeads(random_heads(llama()), tree=[(0,), (1,), (0, 0), (1, 0)])
    law, accepted = enumerated(llama(), drafter, target)
    assert accepted
    assert total_variation(law, expected(llama(), target)) < EXACT


def test_heads_of_zeros_say_what_the_model_says() -> None:
    model = made(1, layers=2).float()
    heads = Heads(model, 3)
    with torch.no_grad():
        out = model(torch.tensor([PROMPT]), output_hidden_states=True)
        found = heads(out.hidden_states[-1][0, -1])
    assert found.shape == (3, COLUMNS)
    assert torch.allclose(found, out.logits[0, -1].expand(3, -1), atol=1e-6)


def test_heads_see_the_state_of_the_last_verified_node() -> None:
    """In rows of their own, whatever was accepted before."""
    model = llama()
    drafter = MedusaHeads(random_heads(model))
    draft = MedusaHeads.draft
    seen = 0

    def checked(self: MedusaHeads, context: Context, hidden: torch.Tensor) -> None:
        nonlocal seen
        with torch.no_grad():
            ids = torch.tensor([context.tokens[:-1]])
            out = model(ids, output_hidden_states=True, use_cache=False)
        assert torch.allclose(hidden, out.hidden_states[-1][0], atol=1e-10)
        seen += 1
        draft(self, context, hidden)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MedusaHeads, "draft", checked)
        backend = SpeculativeBackend(model, drafters=[drafter], max_rows=3, adaptive=False)
        backend.generate(PROMPT, Endless(), n=5, max_new_tokens=10, seed=2)
    assert seen > 15


def test_training_lowers_the_loss_and_learns_the_right_places() -> None:
    """On a text that repeats, head j must guess the token j places after the next."""
    model = made(1, layers=2, columns=6, size=16).float()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    cycle = [2, 3, 4, 5] * 8
    drafter = MedusaHeads.train(
        model, None, texts=[cycle], heads=3, epochs=80, learning_rate=0.02, batch=8
    )
    assert len(drafter.losses) == 80
    assert drafter.losses[-1] < 0.3 * drafter.losses[0]
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        out = model(torch.tensor([cycle[:13]]), output_hidden_states=True)
        guessed = drafter.heads(out.hidden_states[-1][0, -1]).argmax(-1)
    assert guessed.tolist() == [cycle[14], cycle[15], cycle[16]]


def test_training_on_samples_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    model = made(1, layers=2).float()
    state = torch.random.get_rng_state()
    drafters = [
        MedusaHeads.train(
            model, None, [PROMPT, [0, 3, 3]], heads=2, samples=3, max_new_tokens=8, epochs=3, seed=4
        )
        for _ in range(2)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert drafters[0].losses == drafters[1].losses
    assert drafters[0].losses[-1] < drafters[0].losses[0]
    assert capsys.readouterr().out == ""


def test_heads_are_saved_and_loaded(tmp_path: Path) -> None:
    model = llama()
    drafter = MedusaHeads(random_heads(model, 3))
    path = tmp_path / "heads.safetensors"
    drafter.save(path)
    loaded = MedusaHeads.load(path, model)
    assert len(loaded.heads) == 3
    x = torch.randn(8)
    assert torch.equal(loaded.heads(x), drafter.heads(x))
    with pytest.raises(ValueError, match=r"hidden size 8, 4 tokens.*hidden size 8, 5 tokens"):
        MedusaHeads.load(path, made(1, columns=5))
    with pytest.raises(FileNotFoundError, match="no such file"):
        MedusaHeads.load(tmp_path / "nothing", model)
    path.write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="does not hold heads"):
        MedusaHeads.load(path, model)
    model_file = tmp_path / "model"
    made(1).save_pretrained(model_file)
    with pytest.raises(ValueError, match="does not hold heads"):
        MedusaHeads.load(model_file / "model.safetensors", model)


def test_a_base_is_told_by_the_last_part_of_its_name() -> None:
    model = made(1)
    model.config._name_or_path = "/somewhere/else/tiny"
    assert Base.of(model) == Base(8, COLUMNS, "tiny")


def test_wrong_arguments_of_heads() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Heads(llama(), 0)
    with pytest.raises(ValueError, match="before its parent"):
        MedusaHeads(Heads(llama()), tree=[(0, 0), (0,)])
    with pytest.raises(ValueError, match="nothing to train on"):
        MedusaHeads.train(llama(), None)
    with pytest.raises(ValueError, match="need a tokenizer"):
        MedusaHeads.train(llama(), None, ["text"])
    with pytest.raises(ValueError, match="must be positive"):
        MedusaHeads.train(llama(), None, epochs=0)
