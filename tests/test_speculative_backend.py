"""What `GrammarConstrained` promises: fields of samples, budgets, memory, plain decoding."""

from __future__ import annotations

import copy
import inspect
import json
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from toys import BOS, EOS, TOKENS, model, vocabulary

import samplers
from constrain import BudgetError, GrammarLogitsProcessor, TokenAutomaton
from grammars import Grammar
from samplers.backend import SpeculativeBackend
from samplers.constrained import GrammarConstrained
from samplers.drafters.base import Context, Drafter
from samplers.drafters.layer_skip import LayerSkip
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.shared_prefix import SHARED_TOKENS
from samplers.speculative.tree import ROOT, Tree

COLUMNS = 64
BUDGET = 20
LEAVES: list[Any] = [
    {"type": "integer"},
    {"type": "boolean"},
    {"type": "null"},
    {"type": "string", "maxLength": 3},
    {"enum": [True, None, 12]},
    {"type": "number"},
    {"const": "abc"},
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads cost more than they gain for models as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Noise(Drafter):
    """Random trees; now and then with a right guess."""

    name = "noise"

    def propose(self, context: Context) -> None:
        generator = np.random.default_rng(list(context.tokens))
        nodes = [ROOT]
        for _ in range(12):
            parent = nodes[generator.integers(len(nodes))]
            made = context.add(parent, int(generator.integers(len(TOKENS))), self.name, 0.5)
            nodes += [] if made is None else [made]


class Tokenizer:
    """Spells bytes, longest token first."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        data, out = text.encode(), [BOS]
        while data:
            piece = max((t for t in TOKENS if t and data.startswith(t)), key=len)
            out.append(TOKENS.index(piece))
            data = data[len(piece) :]
        return {"input_ids": out}


@cache
def exact(seed: int = 0) -> Any:
    """The toy model in float64."""
    return copy.deepcopy(model(seed)).double()


@cache
def automaton(schema: str) -> TokenAutomaton:
    return TokenAutomaton(Grammar.from_json_schema(schema), vocabulary())


def schema(seed: int) -> Any:
    draw = random.Random(seed)
    leaf = draw.choice(LEAVES)
    kind = draw.randrange(4)
    if kind == 0:
        return leaf
    if kind == 1:
        return {"type": "array", "items": leaf, "maxItems": draw.randrange(1, 4)}
    names = draw.sample(["a", "b", "c", "d"], draw.randrange(1, 3))
    return {
        "type": "object",
        "properties": {name: draw.choice(LEAVES[:5]) for name in names},
        "required": names[: kind - 1],
        "additionalProperties": False,
    }


def prompt(seed: int) -> list[int]:
    draw = random.Random(1000 + seed)
    return [BOS, *(draw.randrange(3, len(TOKENS)) for _ in range(draw.randrange(12)))]


class Counted:
    """Counts the forwards of a model."""

    def __init__(self, made: Any, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        forward = made.forward

        def watch(*args: Any, **keywords: Any) -> Any:
            self.count += 1
            return forward(*args, **keywords)

        watch.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
        patch.setattr(made, "forward", watch)


def sampler(
    schema: Any, drafters: list[Drafter] | None = None, made: Any = None, **options: Any
) -> GrammarConstrained:
    drafters = [Noise()] if drafters is None else drafters
    made = made or exact()
    backend = SpeculativeBackend(made, None, drafters, **options)
    return GrammarConstrained(backend, automaton(json.dumps(schema)))


# -- plain decoding ----------------------------------------------------------------------------


@pytest.mark.parametrize("double", [True, False])
def test_greedy_is_what_generate_gives(double: bool) -> None:
    """Token for token, over fifty schemas and prompts."""
    made = exact() if double else model()
    plain, noisy = [
        SpeculativeBackend(made, None, drafters, adaptive=False) for drafters in ([], [Noise()])
    ]
    lengths = set()
    for seed in range(50):
        allowed, ids = automaton(json.dumps(schema(seed))), prompt(seed)
        inputs = torch.tensor([ids])
        expected = made.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=False,
            max_new_tokens=BUDGET,
            logits_processor=[GrammarLogitsProcessor(allowed, max_new_tokens=BUDGET)],
        )[0, len(ids) :].tolist()
        for backend in (plain, noisy):
            [sample] = GrammarConstrained(backend, allowed).sample(
                ids, max_new_tokens=BUDGET, temperature=0
            )
            assert sample.token_ids == expected
            assert sample.stats.forwards <= len(expected)
        lengths.add(len(expected))
    assert len(lengths) > 4


# -- samples -----------------------------------------------------------------------------------


def logprobs(tokens: list[int], new: list[int], temperature: float) -> tuple[float, torch.Tensor]:
    """(logarithm of the model's probability, logits of every step)."""
    with torch.no_grad():
        logits = exact()(torch.tensor([tokens + new]), use_cache=False).logits[0]
    steps = logits[len(tokens) - 1 : -1] / temperature
    free = steps.log_softmax(-1)[range(len(new)), new].sum()
    return float(free), steps


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("adaptive", [True, False])
def test_samples(rows: int, adaptive: bool) -> None:
    """Every text whole, its fields right, its tokens streamed once and in order."""
    for seed in range(6):
        wanted, ids = schema(seed), prompt(seed)
        method = sampler(wanted, max_rows=rows, adaptive=adaptive)
        grammar = Grammar.from_json_schema(wanted)
        streamed: dict[int, list[int]] = {}
        samples = method.sample(
            ids,
            5,
            max_new_tokens=BUDGET,
            temperature=0.8,
            seed=seed,
            on_tokens=lambda i, new, to=streamed: to.setdefault(i, []).extend(new),
        )
        assert len(samples) == 5
        assert streamed == {i: s.token_ids for i, s in enumerate(samples)}
        for sample in samples:
            assert sample.complete
            assert sample.weight == 1.0
            assert len(sample.token_ids) <= BUDGET
            assert sample.token_ids[-1] == EOS
            assert EOS not in sample.token_ids[:-1]
            text = vocabulary().decode(sample.token_ids[:-1])
            assert grammar.accepts(text), text
            assert sample.text == text.decode("utf-8", "replace")
            free, steps = logprobs(ids, sample.token_ids, 0.8)
            assert sample.logprob == pytest.approx(free, abs=1e-9)
            state, masked = method.automaton.start, 0.0
            for number, token in enumerate(sample.token_ids):
                left = BUDGET - number
                allowed = torch.from_numpy(method.automaton.allowed_tokens(state, left))
                masked += float(steps[number][token] - steps[number][allowed].logsumexp(-1))
                state = method.automaton.advance(state, token)
            assert sample.constrained_logprob == pytest.approx(masked, abs=1e-9)


def test_stats(monkeypatch: pytest.MonkeyPatch) -> None:
    made = copy.deepcopy(exact())
    counted = Counted(made, monkeypatch)
    wanted = {"type": "array", "items": {"type": "integer"}, "minItems": 2}
    method = sampler(wanted, made=made, adaptive=False)
    [sample] = method.sample(prompt(3), max_new_tokens=BUDGET, seed=1)
    stats = sample.stats
    assert stats.forwards == counted.count
    assert stats.tokens == len(sample.token_ids)
    assert 0 <= stats.accepted <= stats.drafted
    assert stats.tokens <= stats.accepted + stats.forwards
    assert stats.by_drafter["noise"].drafted == stats.drafted
    assert stats.by_drafter["noise"].accepted == stats.accepted
    assert stats.mask_seconds > 0
    assert stats.rejected == 0


def test_forwards_count_the_prefill_for_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a sample began at once or took the place of another."""
    made = copy.deepcopy(exact())
    counted = Counted(made, monkeypatch)
    method = sampler({"const": "abc"}, [], made, max_rows=1)
    samples = method.sample(prompt(3), 3, max_new_tokens=BUDGET, seed=1)
    for sample in samples:
        assert sample.stats.forwards == 1 + sample.stats.tokens
    assert counted.count == 1 + sum(s.stats.tokens for s in samples)


def test_sample_i_is_the_same_however_many() -> None:
    wanted = {"type": "string", "maxLength": 6}
    few = sampler(wanted).sample(prompt(1), 2, max_new_tokens=BUDGET, seed=5)
    many = sampler(wanted, max_rows=3).sample(prompt(1), 7, max_new_tokens=BUDGET, seed=5)
    assert [s.token_ids for s in few] == [s.token_ids for s in many[:2]]
    assert len({tuple(s.token_ids) for s in many}) > 1


def test_default_budget() -> None:
    """512 tokens, or what the context leaves; and so every text is whole."""
    method = sampler({"type": "array", "items": {"type": "boolean"}, "maxItems": 3})
    [sample] = method.sample(prompt(2), seed=0)
    assert sample.complete
    assert method.backend.budget(100, None) == 412
    assert method.backend.budget(511, None) == 1


# -- budgets, context, memory ------------------------------------------------------------------


def test_no_forward_before_a_budget_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = copy.deepcopy(exact())
    counted = Counted(made, monkeypatch)
    method = sampler({"type": "string", "minLength": 6}, made=made)
    needed = method.automaton.min_tokens_to_accept(method.automaton.start) + 1
    with pytest.raises(BudgetError) as caught:
        method.sample(prompt(0), max_new_tokens=needed - 1)
    assert (caught.value.needed, caught.value.available) == (needed, needed - 1)
    for length, tokens in [(500, 13), (512, 1), (600, None), (512, None)]:
        with pytest.raises(BudgetError, match="context holds 512"):
            method.sample([BOS] * length, max_new_tokens=tokens)
    with pytest.raises(BudgetError, match="shortest text"):
        method.sample([BOS] * 510)  # the default budget is what the context leaves
    assert counted.count == 0
    [sample] = method.sample([BOS] * (512 - needed), max_new_tokens=needed)
    assert len(sample.token_ids) == needed


def test_the_last_place_of_the_context() -> None:
    """Drafts do not reach beyond what there are positions for."""
    from transformers import GPT2Config, GPT2LMHeadModel

    class Deep(Drafter):
        name = "deep"

        def propose(self, context: Context) -> None:
            context.chain(ROOT, [3 + 16] * 20, self.name, 1.0)

    class DeepDraw(Drafter):
        name = "draw"
        draws = True

        def propose(self, context: Context) -> None:
            q = np.zeros(COLUMNS)
            q[19] = 1.0
            node: int | None = ROOT
            for _ in range(20):
                if node is not None:
                    node = context.add_drawn(node, 19, self.name, q)

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=COLUMNS, n_embd=16, n_layer=1, n_head=2, n_positions=24)
    made = GPT2LMHeadModel(config).eval()
    for drafters in ([Deep()], [DeepDraw()], [Noise(), Deep()]):
        method = sampler({"type": "integer"}, drafters, made, adaptive=False)
        [sample] = method.sample([BOS] * 10, max_new_tokens=14, seed=1)
        assert sample.complete


def test_memory_bounds_rows() -> None:
    wanted = {"type": "string", "maxLength": 6}
    ids, tokens = prompt(4), len(prompt(4)) + BUDGET
    plain = sampler(wanted, []).sample(ids, 6, max_new_tokens=BUDGET, seed=2)
    each = 2 * 2 * 2 * 16 * 8  # keys and values, layers, heads, width, bytes
    for rows in (1, 2, 4):
        bound = rows * (tokens + 16) * each
        method = sampler(wanted, max_kv_bytes=bound)
        samples = method.sample(ids, 6, max_new_tokens=BUDGET, seed=2)
        assert [s.token_ids for s in samples] == [s.token_ids for s in plain]
        scorer = method.backend.last_scorer
        assert scorer is not None
        assert scorer.bytes_per_token == each
        assert scorer.cache.nbytes <= bound


def test_memory_bounds_trees() -> None:
    """No room for whole trees: smaller ones for this prompt, whole ones for the next."""
    wanted = {"type": "string", "maxLength": 6}
    ids = [BOS] * 30
    each = 2 * 2 * 2 * 16 * 8
    bound = (len(ids) + BUDGET + 3) * each
    method = sampler(wanted, max_kv_bytes=bound, adaptive=False)
    method.sample(ids, max_new_tokens=BUDGET, seed=2)
    scorer = method.backend.last_scorer
    assert scorer is not None
    assert scorer.cache.nbytes <= bound
    assert method.backend.schedule.max_nodes == 3
    method.sample([BOS], max_new_tokens=BUDGET, seed=2)
    assert method.backend.schedule.max_nodes == 16, "trees are as large as ever"


def test_memory_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    made = copy.deepcopy(exact())
    counted = Counted(made, monkeypatch)
    each = 2 * 2 * 2 * 16 * 8
    method = sampler({"type": "integer"}, made=made, max_kv_bytes=each * (5 + BUDGET) - 1)
    with pytest.raises(BudgetError, match="max_kv_bytes"):
        method.sample([BOS] * 5, max_new_tokens=BUDGET)
    assert counted.count == 0


# -- prompts that rows share -------------------------------------------------------------------


def long_prompt(seed: int, length: int) -> list[int]:
    draw = random.Random(seed)
    return [BOS, *(draw.randrange(3, len(TOKENS)) for _ in range(length - 1))]


SAMPLERS: dict[str, Any] = {
    "masks": GrammarConstrained,
    "AWRS": lambda b, a: samplers.AWRS(b, a, particles=3),
    "CARS": samplers.CARS,
    "chain": lambda b, a: samplers.ConstrainedMCMC(b, a, steps=3),
    "aligned": samplers.AlignedSampling,
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("layers", [False, True])
def test_sharing_a_prompt_changes_no_text(
    name: str, layers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what is counted; and the rows did share it, with and without a drafter that looks back."""
    schema = '{"enum": ["abc", "ab", "dz", true, 12, null]}'
    made = copy.deepcopy(model(layers=4)).double() if layers else exact()
    found = {}
    for shares in (True, False):
        monkeypatch.setattr("samplers.backend.pays", lambda *_, shares=shares: shares)
        drafters: list[Drafter] = [LayerSkip(made, skip=0.5)] if layers else [Noise()]
        backend = SpeculativeBackend(made, None, drafters, max_rows=4, adaptive=False)
        shared: list[int] = []
        score = TreeScorer.score

        def scored(
            self: TreeScorer, *given: Any, score: Any = score, to: Any = shared, **more: Any
        ) -> Any:
            to.append(self.cache.shared)
            return score(self, *given, **more)

        monkeypatch.setattr(TreeScorer, "score", scored)
        method = SAMPLERS[name](backend, automaton(schema))
        drawn = method.sample(long_prompt(3, 90), 6, max_new_tokens=BUDGET, seed=4)
        monkeypatch.setattr(TreeScorer, "score", score)
        found[shares] = [(s.token_ids, s.stats.forwards, backend.forwards) for s in drawn]
        assert max(shared) == (89 if shares else 0)
    assert found[True] == found[False]


def test_sharing_makes_room_for_rows() -> None:
    """A bound that one row with a copy of the prompt nearly fills."""
    wanted = {"type": "string", "maxLength": 6}
    ids = long_prompt(1, 200)
    each = 2 * 2 * 2 * 16 * 8
    bound = (199 + 4 * (1 + BUDGET + 16)) * each
    plain = sampler(wanted, []).sample(ids, 6, max_new_tokens=BUDGET, seed=2)
    method = sampler(wanted, max_kv_bytes=bound)
    rows: list[int] = []
    samples = method.sample(
        ids, 6, max_new_tokens=BUDGET, seed=2,
        on_tokens=lambda *_: rows.append(method.backend.last_scorer.rows),  # type: ignore[union-attr]
    )  # fmt: skip
    assert [s.token_ids for s in samples] == [s.token_ids for s in plain]
    assert max(rows) == 4
    scorer = method.backend.last_scorer
    assert scorer is not None
    assert scorer.cache.nbytes <= bound
    assert method.backend.rows_within(6, 199, 1 + BUDGET + 16) == 4
    assert method.backend.rows_within(6, 200 + 4 * 60, 1) == 0
    with pytest.raises(BudgetError, match="max_kv_bytes"):
        sampler(wanted, max_kv_bytes=219 * each).sample(ids, 6, max_new_tokens=BUDGET)


def test_a_prompt_that_is_kept_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls within ``same_prompt`` have one prefix in memory; one row alone gets a copy of it."""
    monkeypatch.setattr("samplers.backend.pays", lambda prefix, rows: rows > 2)
    backend = SpeculativeBackend(exact(), None, [])
    before = long_prompt(2, 50)
    with backend.same_prompt():
        made = [backend.read(before, 80, rows) for rows in (4, 1, 8, 2)]
        assert backend.forwards == 1
        prefixes = [scorer.cache.layers[0].prefix for scorer in made]
        assert prefixes[1] is None
        assert prefixes[3] is None
        assert prefixes[0] is not None
        assert prefixes[2] is not None
        assert prefixes[0][0].data_ptr() == prefixes[2][0].data_ptr()
        for scorer in made:
            logits = scorer.score([Request([5], Tree(None))]).at(0, ROOT)
            with torch.no_grad():
                wanted = exact()(torch.tensor([[*before, 5]]), use_cache=False).logits[0, -1]
            assert torch.allclose(logits, wanted, rtol=0, atol=1e-12)
            assert scorer.cache.layers[0].capacity in (30, 80)
    assert backend.read(before, 80, 4).forwards == 1


def test_few_copies_are_made_and_many_are_not() -> None:
    backend = SpeculativeBackend(exact(), None, [])
    assert not backend.shares(SHARED_TOKENS, 1)
    assert backend.shares(SHARED_TOKENS, 2)
    assert not backend.shares(SHARED_TOKENS - 1, 2)
    assert backend.shares(-(-SHARED_TOKENS // 7), 8)
    bounded = SpeculativeBackend(exact(), None, [], max_kv_bytes=1 << 20)
    assert bounded.shares(3, 2)
    assert not bounded.shares(3, 1)
    assert not bounded.shares(0, 2)


# -- prompts and arguments ---------------------------------------------------------------------


def test_prompts_of_text() -> None:
    tokenizer: Any = Tokenizer()
    allowed = automaton('{"type": "integer"}')
    backend = SpeculativeBackend(exact(), tokenizer, [])
    ids = tokenizer("12, true")["input_ids"]
    by_text, by_ids, without = (
        GrammarConstrained(b, allowed).sample(p, max_new_tokens=BUDGET, seed=3)[0].token_ids
        for b, p in [
            (backend, "12, true"), (backend, ids), (SpeculativeBackend(exact(), None, []), ids),
        ]
    )  # fmt: skip
    assert by_text == by_ids == without


def test_an_empty_prompt_begins_with_bos() -> None:
    method = sampler({"type": "integer"})
    first, second = (method.sample(p, max_new_tokens=BUDGET, seed=3)[0] for p in ([], [BOS]))
    assert first.token_ids == second.token_ids


def test_prompts_may_be_arrays() -> None:
    method = sampler({"type": "integer"})
    ids = prompt(5)
    kinds: list[Any] = [ids, tuple(ids), np.array(ids), torch.tensor(ids)]
    texts = [method.sample(p, max_new_tokens=BUDGET, seed=3)[0].token_ids for p in kinds]
    assert all(text == texts[0] for text in texts)


@pytest.mark.parametrize(
    "bad",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": -3},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": 1e-300},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"n": 0},
        {"n": -1},
        {"prompt": "text without a tokenizer"},
        {"prompt": [3, 64]},
        {"prompt": [-1, 3]},
    ],
)
def test_bad_arguments(bad: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = copy.deepcopy(exact())
    counted = Counted(made, monkeypatch)
    method = sampler({"type": "integer"}, made=made)
    with pytest.raises(ValueError):
        method.sample(**{"prompt": [BOS], "max_new_tokens": BUDGET} | bad)
    assert counted.count == 0


@pytest.mark.parametrize(
    "bad", [{"max_tree_nodes": -1}, {"max_rows": 0}, {"drafters": [Noise(), Noise()]}]
)
def test_bad_arguments_of_the_backend(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SpeculativeBackend(exact(), None, **{"drafters": []} | bad)


@pytest.mark.parametrize("temperature", [1e-3, 1e-15, 1e-30])
def test_tiny_temperatures_are_greedy(temperature: float) -> None:
    method = sampler({"type": "integer"}, made=model())
    cold, greedy = (
        method.sample(prompt(6), max_new_tokens=BUDGET, temperature=t, seed=1)[0]
        for t in (temperature, 0)
    )
    assert cold.token_ids == greedy.token_ids
