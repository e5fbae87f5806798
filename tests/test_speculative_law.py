"""The law of whole texts, computed exactly: no draft shows in it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from enumeration import Enumerated, law_of, runs, total_variation
from transformers import LlamaConfig, LlamaForCausalLM

import samplers.backend
from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar
from samplers.backend import SpeculativeBackend
from samplers.drafters.base import Context, Drafter
from samplers.sample import Sample
from samplers.speculative.choices import Choices, Drawn
from samplers.speculative.law import Law, Sampling
from samplers.speculative.target import Constrained, FreeText, Target, Weighting
from samplers.speculative.tree import ROOT, Tree
from samplers.speculative.verify import next_token

BOS, EOS, A, B, AB, BA, ROWS = 0, 1, 2, 3, 4, 5, 7
PIECES = {A: "a", B: "b", AB: "ab", BA: "ba"}
PATTERNS = ["a(b|ab)*|ba", "(ab|ba)*a?", "[ab]{2,3}"]
PROMPT = [BOS, A, B]
EXACT = 1e-12
VISIBLE = 1e-3
"""A bias that a negative control must show at least."""

Text = tuple[int, ...]
Floats = npt.NDArray[np.float64]
Weigh = Callable[[Text, int], Floats]
"""(text so far, tokens left) -> weights of all columns."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads cost more than they gain for models as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def model() -> LlamaForCausalLM:
    """Seven columns, of which the vocabulary knows six."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=ROWS,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.35,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config).double().eval()


@cache
def automaton(pattern: str) -> TokenAutomaton:
    tokens = [PIECES[i].encode() if i in PIECES else None for i in range(ROWS - 1)]
    return TokenAutomaton(Grammar.from_regex(pattern), Vocabulary.from_tokens(tokens, [EOS]))


# -- the law without any of the machinery ------------------------------------------------------


@cache
def next_logits(tokens: Text) -> Floats:
    """Of the plain model: no cache, no mask."""
    with torch.no_grad():
        return np.asarray(model()(torch.tensor([tokens]), use_cache=False).logits[0, -1].numpy())


def log_softmax(x: Floats) -> Floats:
    top = x.max()
    return np.asarray(x - top - math.log(math.fsum(np.exp(x - top))))


def nucleus(p: Floats, top_p: float) -> Floats:
    """Likeliest first, until the mass is there."""
    if top_p >= 1:
        return p
    out, mass = np.zeros_like(p), 0.0
    for token in sorted(range(len(p)), key=lambda t: (-p[t], t)):
        if mass >= top_p:
            break
        out[token] = p[token]
        mass += p[token]
    return out


def one_step(text: Text, left: int, weigh: Weigh, sampling: Sampling) -> tuple[Floats, ...]:
    """(what is drawn from, the model's log-probabilities, the weighted law's)."""
    logits = next_logits((*PROMPT, *text))
    weights = weigh(text, left)
    logp = log_softmax(logits / (sampling.temperature or 1.0))
    p = np.exp(logp) * weights
    p /= p.sum()
    with np.errstate(divide="ignore"):
        constrained = np.log(p)
    if sampling.temperature == 0:
        drawn = np.zeros_like(p)
        drawn[int(np.argmax(p))] = 1.0
    else:
        drawn = nucleus(p, sampling.top_p)
    return drawn / drawn.sum(), logp, constrained


def direct(budget: int, weigh: Weigh, sampling: Sampling) -> dict[Text, tuple[float, float, float]]:
    """Every text with its probability, logprob and constrained_logprob."""
    out: dict[Text, tuple[float, float, float]] = {}

    def go(text: Text, probability: float, logprob: float, constrained: float) -> None:
        if len(text) == budget or (text and text[-1] == EOS):
            out[text] = (probability, logprob, constrained)
            return
        drawn, logp, logc = one_step(text, budget - len(text), weigh, sampling)
        for token in np.flatnonzero(drawn):
            go(
                (*text, int(token)),
                probability * drawn[token],
                logprob + logp[token],
                constrained + logc[token],
            )

    go((), 1.0, 0.0, 0.0)
    return out


# -- targets, each with its weights written down a second time ---------------------------------


def free(text: Text, left: int) -> Floats:
    return np.ones(ROWS)


@cache
def whole_texts(pattern: str, longest: int) -> frozenset[Text]:
    """All texts that ``re`` matches, with their EOS."""
    return frozenset(
        (*tokens, EOS)
        for length in range(longest)
        for tokens in itertools.product(PIECES, repeat=length)
        if re.fullmatch(pattern, "".join(PIECES[t] for t in tokens))
    )


def within(pattern: str) -> Weigh:
    def weigh(text: Text, left: int) -> Floats:
        at = len(text)
        out = np.zeros(ROWS)
        for whole in whole_texts(pattern, at + left):
            if whole[:at] == text:
                out[whole[at]] = 1.0
        return out

    return weigh


def weights_after(text: Text, tokens: int = ROWS) -> Floats:
    """Wild weights, a few of them zero, that depend on the whole text."""
    generator = np.random.default_rng([7, *text])
    weights = np.exp(2 * generator.normal(size=ROWS))
    weights[generator.permutation(ROWS)[: ROWS // 3]] = 0.0
    weights[EOS] = max(weights[EOS], 0.05)
    weights[tokens:] = 0.0
    return np.asarray(weights)


class Weighted:
    """Weights of the whole text; states are the texts."""

    automaton: TokenAutomaton | None = None

    def __init__(self, sparse: bool) -> None:
        self.sparse = sparse

    def start(self) -> Text:
        return ()

    def advance(self, state: Text, token: int) -> Text | None:
        if self.is_finished(state) or weights_after(state)[token] == 0:
            return None
        return (*state, token)

    def is_finished(self, state: Text) -> bool:
        return bool(state) and state[-1] == EOS

    def weighting(self, state: Text, tokens_left: int) -> Weighting:
        weights = weights_after(state)
        with np.errstate(divide="ignore"):
            logs = np.log(weights)
        if not self.sparse:
            return Weighting(None, logs)
        ids = np.flatnonzero(weights)
        return Weighting(ids, logs[ids])

    def grammar_state(self, state: Text) -> int:
        raise TypeError("no grammar")


def masked(pattern: str) -> tuple[Target, Weigh]:
    return Constrained(automaton(pattern)), within(pattern)


TARGETS: dict[str, Callable[[], tuple[Target, Weigh]]] = {
    "free": lambda: (FreeText((EOS,)), free),
    **{pattern: (lambda p=pattern: masked(p)) for pattern in PATTERNS},
    "dense": lambda: (Weighted(False), lambda text, left: weights_after(text)),
    "sparse": lambda: (Weighted(True), lambda text, left: weights_after(text)),
}


# -- drafters that want to do harm -------------------------------------------------------------


class RandomTree(Drafter):
    """Any token anywhere; the same drafts after the same text."""

    name = "random"

    def propose(self, context: Context) -> None:
        generator = np.random.default_rng([3, *context.tokens])
        nodes = [ROOT]
        for _ in range(10):
            made = context.add(
                nodes[generator.integers(len(nodes))],
                int(generator.integers(ROWS)),
                self.name,
                float(generator.random()),
            )
            nodes += [] if made is None else [made]


class Unlikely(Drafter):
    """The least likely token that is allowed, as if it were certain."""

    name = "unlikely"

    def propose(self, context: Context) -> None:
        tokens = [*context.tokens]
        node: int | None = ROOT
        while node is not None and len(tokens) < len(context.tokens) + 4:
            for token in np.argsort(next_logits(tuple(tokens))):
                if (made := context.add(node, int(token), self.name, 1.0)) is not None:
                    break
            else:
                return
            node = made
            tokens.append(int(token))


class Wide(Drafter):
    """All tokens, and all behind them."""

    name = "wide"

    def propose(self, context: Context) -> None:
        first = [context.add(ROOT, token, self.name, 0.3) for token in range(ROWS)]
        for node in first:
            if node is not None:
                for token in range(ROWS):
                    context.add(node, token, self.name, 0.2)


class Deep(Drafter):
    """Chains of one token."""

    name = "deep"

    def propose(self, context: Context) -> None:
        for token in PIECES:
            context.chain(ROOT, [token] * 9, self.name, 0.9)


class Ends(Drafter):
    """EOS everywhere, and tokens behind it."""

    name = "ends"

    def propose(self, context: Context) -> None:
        context.chain(ROOT, [EOS, A, B], self.name, 1.0)
        for token in PIECES:
            context.chain(ROOT, [token, EOS, EOS, token], self.name, 0.5)


class Echo(Wide):
    """What another has drafted, with another certainty."""

    name = "echo"

    def propose(self, context: Context) -> None:
        for number, node in enumerate(list(context.tree.nodes)):
            context.add(node.parent, node.token, self.name, 0.1 + 0.01 * number)
        super().propose(context)


DETERMINISTIC: dict[str, list[type[Drafter]]] = {
    "none": [],
    "random": [RandomTree],
    "unlikely": [Unlikely],
    "wide": [Wide],
    "deep": [Deep],
    "ends": [Ends],
    "all": [RandomTree, Wide, Deep, Ends, Echo, Unlikely],
}


class Lottery(Drafter):
    """Children drawn from q without replacement, legal or not; below the legal ones once more.

    Args:
        q: the distribution after a prefix.
        width: children of each node.
        depth: levels.
    """

    name = "lottery"
    draws: ClassVar[bool] = True

    def __init__(self, q: Callable[[Context, int], Floats], width: int, depth: int = 1) -> None:
        self.q, self.width, self.depth = q, width, depth

    def propose(self, context: Context) -> None:
        level = [ROOT]
        for depth in range(self.depth):
            if depth >= context.tokens_left:
                return
            level = [made for node in level for made in self.family(context, node)]

    def family(self, context: Context, node: int) -> list[int]:
        state = context.tree.state(node)
        if state is None or context.target.is_finished(state):
            return []
        q = self.q(context, node)
        left = q.copy()
        made: list[int | None] = []
        for _ in range(min(self.width, int((q > 0).sum()))):
            token = context.choices.pick(left)
            left[token] = 0.0
            made.append(context.add_drawn(node, token, self.name, q))
        return [child for child in made if child is not None]


def on(**weights: float) -> Callable[[Context, int], Floats]:
    """A q on named tokens, the same everywhere."""
    names = {"bos": BOS, "eos": EOS, "a": A, "b": B, "ab": AB, "ba": BA, "row6": 6}
    q = np.zeros(ROWS)
    for name, weight in weights.items():
        q[names[name]] = weight
    q /= q.sum()
    return lambda context, node: q


def wild(context: Context, node: int) -> Floats:
    """Another q after each prefix, on two or three tokens, of which some may be illegal."""
    generator = np.random.default_rng([5, *context.tokens, *context.tree.tokens_to(node)])
    q = np.exp(generator.normal(size=ROWS))
    q[generator.permutation(ROWS)[3:]] = 0.0
    return np.asarray(q / q.sum())


def modelled(context: Context, node: int) -> Floats:
    """The model's own law, illegal tokens included, sharpened to two tokens."""
    tokens = (*context.tokens, *context.tree.tokens_to(node))
    q = np.exp(log_softmax(next_logits(tuple(tokens))))
    q[np.argsort(-q)[2:]] = 0.0
    return np.asarray(q / q.sum())


def foreign(context: Context, node: int) -> Floats:
    """Shares no token with any of the patterns."""
    return on(bos=1, row6=2)(context, node)


LOTTERIES: dict[str, Callable[[], list[Drafter]]] = {
    "one of three": lambda: [Lottery(on(a=0.5, b=0.2, eos=0.3), 1)],
    "two of three": lambda: [Lottery(on(a=0.1, ba=0.2, ab=0.7), 2)],
    "mostly illegal": lambda: [Lottery(on(a=0.15, ab=0.25, bos=0.6), 2)],
    "all of three": lambda: [Lottery(on(b=0.6, ba=0.3, eos=0.1), 3)],
    "certain": lambda: [Lottery(on(ab=1), 1, 2)],
    "disjoint": lambda: [Lottery(foreign, 2)],
    "wild": lambda: [Lottery(wild, 2)],
    "two levels": lambda: [Lottery(wild, 1, 2)],
    "modelled": lambda: [Lottery(modelled, 2, 2)],
    "below and beside": lambda: [Deep(), Ends(), Lottery(on(a=0.6, ba=0.4), 1), RandomTree()],
}


SMALL = ("one of three", "two of three", "certain", "modelled", "below and beside")
"""Few enough runs for three steps."""
DRAWN_CASES = [
    (kind, target)
    for number, kind in enumerate(LOTTERIES)
    for target in [*PATTERNS, *(["free", "sparse"] if number % 2 else ["dense"])]
]


# -- running and comparing ---------------------------------------------------------------------


def backend(drafters: Sequence[Drafter], **options: Any) -> SpeculativeBackend:
    return SpeculativeBackend(model(), None, drafters, **options)


def samples(
    made: SpeculativeBackend,
    target: Target,
    budget: int,
    sampling: Sampling,
    choices: Callable[[int], Choices],
    n: int = 1,
) -> list[Sample]:
    return made.generate(
        PROMPT, target, n=n, max_new_tokens=budget, sampling=sampling, choices=choices
    )


def check(
    drafters: Sequence[Drafter],
    target: str,
    budget: int,
    sampling: Sampling,
    **options: Any,
) -> None:
    """The law and the log-probabilities of all texts are those computed directly."""
    drawn_from, weigh = TARGETS[target]()
    expected = direct(budget, weigh, sampling)
    assert math.isclose(sum(p for p, _, _ in expected.values()), 1.0, abs_tol=EXACT)
    made = backend(drafters, **options)

    def run(choices: Enumerated) -> Text:
        [sample] = samples(made, drawn_from, budget, sampling, lambda _: choices)
        text = tuple(sample.token_ids)
        _, logprob, constrained = expected[text]
        assert sample.logprob == pytest.approx(logprob, abs=1e-9)
        assert sample.constrained_logprob == pytest.approx(constrained, abs=1e-9)
        assert sample.complete == (text[-1] == EOS)
        assert sample.stats.tokens == len(text)
        return text

    law = law_of(run)
    assert total_variation(law, {t: p for t, (p, _, _) in expected.items()}) < EXACT


WARM, COLD, GREEDY, NUCLEUS = (
    Sampling(),
    Sampling(temperature=0.7),
    Sampling(temperature=0.0),
    Sampling(temperature=1.3, top_p=0.8),
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", DETERMINISTIC)
def test_deterministic_drafts(kind: str, target: str) -> None:
    number = list(DETERMINISTIC).index(kind) + list(TARGETS).index(target)
    sampling = (WARM, COLD, NUCLEUS)[number % 3]
    budget = 2 if target == "free" else 3
    check(
        [drafter() for drafter in DETERMINISTIC[kind]],
        target,
        budget,
        sampling,
        adaptive=bool(number % 2),
        max_tree_nodes=(16, 40, 3)[number // 2 % 3],
    )


@pytest.mark.parametrize("kind", ["none", "all"])
def test_longer_texts(kind: str) -> None:
    check([d() for d in DETERMINISTIC[kind]], "a(b|ab)*|ba", 4, COLD, adaptive=False)


@pytest.mark.parametrize(("kind", "target"), DRAWN_CASES)
def test_drawn_drafts(kind: str, target: str) -> None:
    number = list(LOTTERIES).index(kind) + list(TARGETS).index(target)
    sampling = (COLD, NUCLEUS, WARM)[number % 3]
    budget = 3 if target == PATTERNS[0] and kind in SMALL else 2
    check(LOTTERIES[kind](), target, budget, sampling, adaptive=bool(number % 2))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["none", "all", "two of three", "modelled"])
def test_greedy(kind: str, target: str) -> None:
    drafters = [d() for d in DETERMINISTIC[kind]] if kind in DETERMINISTIC else LOTTERIES[kind]()
    check(drafters, target, 3, GREEDY)


@pytest.mark.parametrize("target", ["free", "a(b|ab)*|ba", "dense"])
def test_two_that_draw(target: str) -> None:
    """Children of one node come from one distribution, whoever else would like to draw."""

    class Second(Lottery):
        name = "second"

    drafters = [Lottery(on(a=0.7, b=0.3), 1), Second(on(ab=0.5, a=0.5), 1)]
    check(drafters, target, 2, WARM)


def test_small_trees_keep_what_was_drawn() -> None:
    """Leaving out the unlikely ones of what was drawn would show."""
    check([Lottery(on(a=0.8, ab=0.15, b=0.05), 3)], "free", 2, WARM, max_tree_nodes=1)


# -- several rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("kind", ["all", "two of three"])
def test_rows_have_the_same_law(kind: str, adaptive: bool, rows: int) -> None:
    """Each of four samples, the others drawn."""
    pattern, budget = "a(b|ab)*|ba", 3 if kind == "all" else 2
    target, weigh = TARGETS[pattern]()
    expected = {t: p for t, (p, _, _) in direct(budget, weigh, WARM).items()}
    drafters = [d() for d in DETERMINISTIC[kind]] if kind in DETERMINISTIC else LOTTERIES[kind]()
    made = backend(drafters, max_rows=rows, adaptive=adaptive)
    for which in range(4):

        def run(choices: Enumerated, which: int = which) -> Text:
            out = samples(
                made, target, budget, WARM, lambda i: choices if i == which else Drawn(i), n=4
            )
            assert len(out) == 4
            return tuple(out[which].token_ids)

        assert total_variation(law_of(run), expected) < EXACT


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("kind", ["none", "wide"])
def test_samples_are_independent(kind: str, rows: int) -> None:
    """The joint law of two samples is the product."""
    target, weigh = TARGETS["(ab|ba)*a?"]()
    one = {t: p for t, (p, _, _) in direct(3, weigh, COLD).items()}
    expected = {(s, t): p * q for s, p in one.items() for t, q in one.items()}
    # what is drawn when must not depend on time: both samples share one sequence of decisions
    made = backend([d() for d in DETERMINISTIC[kind]], max_rows=rows, adaptive=False)

    def run(choices: Enumerated) -> tuple[Text, Text]:
        first, second = samples(made, target, 3, COLD, lambda _: choices, n=2)
        return tuple(first.token_ids), tuple(second.token_ids)

    assert total_variation(law_of(run), expected) < EXACT


# -- seeds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [WARM, NUCLEUS])
@pytest.mark.parametrize("target", ["free", "(ab|ba)*a?", "dense"])
def test_a_seed_gives_the_same_texts_whatever_is_drafted(target: str, sampling: Sampling) -> None:
    drawn_from, _ = TARGETS[target]()
    plain = backend([], max_rows=1)
    others = [
        backend([d() for d in DETERMINISTIC["all"]], max_rows=rows, adaptive=adaptive)
        for rows, adaptive in [(1, True), (3, False), (8, True)]
    ]
    for seed in range(6):
        texts = [
            [
                s.token_ids
                for s in made.generate(
                    PROMPT, drawn_from, n=5, max_new_tokens=7, sampling=sampling, seed=seed
                )
            ]
            for made in [plain, *others]
        ]
        assert all(other == texts[0] for other in texts[1:])
        first = plain.generate(PROMPT, drawn_from, max_new_tokens=7, sampling=sampling, seed=seed)
        assert first[0].token_ids == texts[0][0], "sample i depends on the seed and i alone"


def test_other_seeds_other_texts() -> None:
    made = backend([Wide()])
    target, _ = TARGETS["dense"]()
    texts = {
        tuple(made.generate(PROMPT, target, max_new_tokens=6, seed=seed)[0].token_ids)
        for seed in range(30)
    }
    assert len(texts) > 5


# -- controls: each of these mistakes is seen --------------------------------------------------

NextToken = Callable[[Tree, int, Law, Choices], tuple[int, int | None]]


def drops_illegal(tree: Tree, node: int, law: Law, choices: Choices) -> tuple[int, int | None]:
    """Illegal children left out instead of rejected."""
    family = tree.drawn.get(node)
    if family is not None:
        family.children = [c for c in family.children if tree.nodes[c].state is not None]
    return next_token(tree, node, law, choices)


def forgets_the_draw(tree: Tree, node: int, law: Law, choices: Choices) -> tuple[int, int | None]:
    """A drawn child is taken where it is the likeliest, else the token is drawn."""
    family = tree.drawn.get(node)
    if family is not None:
        for child in family.children:
            token = tree.nodes[child].token
            if choices.accept(min(1.0, float(law.dense(ROWS)[token]) * 2)):
                return token, child
    token = law.token(choices.pick(law.weights))
    return token, tree.child(node, token)


def keeps_the_target(tree: Tree, node: int, law: Law, choices: Choices) -> tuple[int, int | None]:
    """After a rejection, drawn from the whole target instead of what is left of it."""
    family = tree.drawn.get(node)
    if family is None:
        return next_token(tree, node, law, choices)
    p = law.dense(ROWS)
    for child in family.children:
        token = tree.nodes[child].token
        if choices.accept(float(min(1.0, p[token] / family.q[token]))):
            return token, child
    return choices.pick(p), None


def replaces(tree: Tree, node: int, law: Law, choices: Choices) -> tuple[int, int | None]:
    """As if siblings had been drawn with replacement."""
    family = tree.drawn.get(node)
    if family is None:
        return next_token(tree, node, law, choices)
    p, q = law.dense(ROWS), family.q
    for child in family.children:
        token = tree.nodes[child].token
        if choices.accept(float(min(1.0, p[token] / q[token]))):
            return token, child
        p = np.maximum(p - q, 0)
        p /= p.sum()
    return choices.pick(p), None


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (drops_illegal, "mostly illegal"),
        (drops_illegal, "wild"),
        (forgets_the_draw, "one of three"),
        (keeps_the_target, "two of three"),
        (replaces, "two of three"),
    ],
)
def test_wrong_verification_is_seen(
    wrong: NextToken, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, weigh = TARGETS["(ab|ba)*a?"]()
    expected = {t: p for t, (p, _, _) in direct(2, weigh, WARM).items()}
    made = backend(LOTTERIES[kind]())

    def run(choices: Enumerated) -> Text:
        return tuple(samples(made, target, 2, WARM, lambda _: choices)[0].token_ids)

    assert total_variation(law_of(run), expected) < EXACT
    monkeypatch.setattr(samplers.backend, "next_token", wrong)
    assert total_variation(law_of(run), expected) > VISIBLE


def test_dropping_the_unlikely_ones_of_what_was_drawn_is_seen() -> None:
    class Choosy(Lottery):
        def family(self, context: Context, node: int) -> list[int]:
            token = context.choices.pick(self.q(context, node))
            if self.q(context, node)[token] > 0.2:
                context.add_drawn(node, token, self.name, self.q(context, node))
            return []

    with pytest.raises(AssertionError):
        check([Choosy(on(a=0.4, ab=0.5, b=0.1), 1)], "free", 2, WARM)


def test_a_wrong_mask_is_seen() -> None:
    """Without the budget other texts come, and they are not whole."""
    target = Constrained(automaton("[ab]{2,3}"), budget=False)
    expected = direct(2, within("[ab]{2,3}"), WARM)
    law = law_of(
        lambda choices: tuple(samples(backend([]), target, 2, WARM, lambda _: choices)[0].token_ids)
    )
    assert total_variation(law, {t: p for t, (p, _, _) in expected.items()}) > VISIBLE


# -- the enumeration itself --------------------------------------------------------------------


def test_enumeration() -> None:
    def run(choices: Enumerated) -> tuple[int, ...]:
        first = choices.pick(np.array([1.0, 0.0, 3.0]))
        if first == 0 and choices.accept(0.25):
            return (first, 9)
        return (first, choices.pick(np.array([2.0, 2.0])))

    law = law_of(run)
    assert law == pytest.approx(
        {(0, 9): 1 / 16, (0, 0): 3 / 32, (0, 1): 3 / 32, (2, 0): 3 / 8, (2, 1): 3 / 8}
    )
    assert total_variation(law, law) == 0
    assert total_variation({"x": 1.0}, {"y": 1.0}) == 1
    assert [p for _, p in runs(lambda choices: choices.accept(1.0))] == [1.0]
    fresh = iter(range(10))
    with pytest.raises(AssertionError, match="other decisions"):
        law_of(lambda choices: choices.pick(np.ones(2 + next(fresh))))
    with pytest.raises(NotImplementedError):
        law_of(lambda choices: float(choices.gumbel(1)[0]))
