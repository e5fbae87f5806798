"""Deco-G and Ctrl-G: against sums over all texts and all paths of hidden states."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from enumeration import Enumerated, law_of, total_variation
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import tiny
from transformers import LlamaForCausalLM

from constrain import TokenAutomaton, Vocabulary
from grammars.errors import BudgetError, LimitExceeded
from grammars.grammar import Grammar
from grammars.limits import Limits
from samplers import HMM, CtrlG, DecoG, SpeculativeBackend
from samplers.deco_g import TokenizerMismatch
from samplers.deco_g.decoder import FormatTarget
from samplers.deco_g.format import NOWHERE, FormatAutomaton
from samplers.deco_g.hmm import fingerprint_of
from samplers.deco_g.tables import Tables
from samplers.drafters import Forced, GrammarCounts, PromptLookup, TokenRecycling, Trigram
from samplers.speculative.law import Sampling

Text = tuple[int, ...]

PIECES: list[bytes | None] = [None, None, b"a", b"b", b"ab", b"ba"]
EOS = 1
ROWS = len(PIECES)
PROMPT = [2, 0]
PATTERNS = ["(a|b)*ab", "a(b|ab)*|ba", "a{1,3}b?", "(ab)*"]
RECURSIVE = 'root ::= "a" root "b" | "b" | "ab"'


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- by enumeration --------------------------------------------------------------------------------


def vocabulary(pieces: list[bytes | None] = PIECES) -> Vocabulary:
    return Vocabulary.from_tokens(pieces, [EOS])


@cache
def automaton(pattern: str) -> TokenAutomaton:
    made = Grammar.from_gbnf(pattern) if "::=" in pattern else Grammar.from_regex(pattern)
    return TokenAutomaton(made, vocabulary())


def is_text(pattern: str, data: bytes) -> bool:
    """Written without the library: the recursive grammar is a^n (b | ab) b^n."""
    if "::=" not in pattern:
        return re.fullmatch(pattern.encode(), data) is not None
    found = re.fullmatch(b"(a*)(b+)", data)
    return found is not None and len(found[2]) - len(found[1]) in (0, 1) and len(found[2]) > 0


@cache
def whole_texts(pattern: str, least: int, most: int) -> tuple[Text, ...]:
    """All texts of the language with their EOS, of ``least`` to ``most`` tokens."""
    return tuple(
        (*tokens, EOS)
        for length in range(least - 1, most)
        for tokens in itertools.product(range(2, ROWS), repeat=length)
        if is_text(pattern, b"".join(PIECES[t] or b"" for t in tokens))
    )


def random_hmm(seed: int, states: int, *, size: int = ROWS, zeros: float = 0.0) -> HMM:
    rng = random.Random(seed)

    def row(width: int) -> list[float]:
        weights = [0.0 if rng.random() < zeros else rng.random() ** 3 + 0.01 for _ in range(width)]
        weights[rng.randrange(width)] += 0.2
        return [w / sum(weights) for w in weights]

    emission = [row(size) for _ in range(states)]
    emission[-1][EOS] += 0.2  # some state ends texts
    emission[-1] = [w / sum(emission[-1]) for w in emission[-1]]
    tables = ([row(states)], [row(states) for _ in range(states)], emission)
    initial, transition, emission_ = (torch.tensor(t, dtype=torch.float64) for t in tables)
    return HMM(initial[0], transition, emission_)


def probability(hmm: HMM, text: Text) -> float:
    """Of a text, over all paths of hidden states."""
    total = 0.0
    for path in itertools.product(range(hmm.states), repeat=len(text)):
        p = float(hmm.initial[path[0]]) if path else 1.0
        for i, (z, token) in enumerate(zip(path, text, strict=True)):
            p *= float(hmm.emission[z, token])
            if i + 1 < len(path):
                p *= float(hmm.transition[z, path[i + 1]])
        total += p
    return total


class Oracle:
    """Sums over the texts of a language, within one budget."""

    def __init__(self, pattern: str, hmm: HMM, least: int, most: int) -> None:
        self.texts = whole_texts(pattern, least, most)
        self._hmm = hmm
        self._known: dict[Text, float] = {}

    def p(self, text: Text) -> float:
        if text not in self._known:
            self._known[text] = probability(self._hmm, text)
        return self._known[text]

    def format(self, prefix: Text) -> float:
        """q(format | prefix), of a prefix that is possible."""
        n = len(prefix)
        return sum(self.p(t) for t in self.texts if t[:n] == prefix) / self.p(prefix)

    def prefixes(self) -> list[Text]:
        return sorted({t[:i] for t in self.texts for i in range(len(t))})

    def ratios(self, prefix: Text) -> dict[int, float]:
        """q(format | prefix, token) of the tokens after which a text can be finished."""
        n = len(prefix)
        allowed = sorted({t[n] for t in self.texts if t[:n] == prefix})
        return {token: self.format((*prefix, token)) for token in allowed}


def model() -> LlamaForCausalLM:
    return tiny(3, ROWS, EOS)


def backend(*drafters: Any, **options: Any) -> SpeculativeBackend:
    return SpeculativeBackend(model(), None, list(drafters), **options)


@cache
def logprobs(text: Text, temperature: float) -> np.ndarray:
    with torch.no_grad():
        logits = model()(torch.tensor([[*PROMPT, *text]])).logits[0, -1]
    return np.asarray(torch.log_softmax(logits / temperature, -1))


def decoder(
    pattern: str, hmm: HMM, *drafters: Any, kind: Callable[..., DecoG] = CtrlG, **options: Any
) -> DecoG:
    return kind(backend(*drafters), automaton(pattern), hmm, **options)


def state_after(target: FormatTarget, prefix: Text) -> Any:
    state: Any = target.start()
    for token in prefix:
        state = target.advance(state, token)
        assert state is not None
    return state


# -- probabilities and weights ---------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    pattern=st.sampled_from([*PATTERNS, RECURSIVE]),
    seed=st.integers(0, 1_000),
    states=st.integers(1, 3),
    least=st.integers(1, 3),
    budget=st.integers(3, 5),
)
def test_probabilities_and_weights(
    pattern: str, seed: int, states: int, least: int, budget: int
) -> None:
    hmm = random_hmm(seed, states)
    oracle = Oracle(pattern, hmm, least, budget)
    if not oracle.texts:
        return
    made = decoder(pattern, hmm, min_new_tokens=least)
    target = made.target(budget)
    for prefix in oracle.prefixes():
        found = made.format_probability(prefix, max_new_tokens=budget)
        assert found == pytest.approx(oracle.format(prefix), rel=1e-9)
        weighting = target.weighting(state_after(target, prefix), budget - len(prefix))
        assert weighting.ids is not None
        assert weighting.log_weights is not None
        weights = np.exp(weighting.log_weights).tolist()
        assert dict(zip(weighting.ids.tolist(), weights, strict=True)) == pytest.approx(
            oracle.ratios(prefix), rel=1e-9
        )


@pytest.mark.parametrize("pattern", [*PATTERNS, RECURSIVE])
def test_one_table_for_several_budgets(pattern: str) -> None:
    hmm = random_hmm(5, 2)
    made = decoder(pattern, hmm)
    for budget in (4, 6, 3, 5):
        expected = Oracle(pattern, hmm, 1, budget).format(())
        assert made.format_probability(max_new_tokens=budget) == pytest.approx(expected, rel=1e-9)
    assert made.nbytes > 0


def test_probabilities_of_prefixes() -> None:
    made = decoder("a{1,3}b?", random_hmm(1, 2), min_new_tokens=3)
    assert made.format_probability((2, 2, EOS), max_new_tokens=4) == 1.0
    assert made.format_probability((2, EOS), max_new_tokens=4) == 0.0  # too short
    assert made.format_probability((2, 2, 2, 3, EOS), max_new_tokens=4) == 0.0  # too long
    assert made.format_probability((3,), max_new_tokens=4) == 0.0
    assert made.format_probability((2, 2, 2), max_new_tokens=3) == 0.0
    assert made.log_format_probability((2, 2, EOS, EOS), max_new_tokens=4) == -math.inf


def test_single_precision() -> None:
    hmm = random_hmm(8, 4)
    exact = decoder("(a|b)*ab", hmm).target(9)
    rough = decoder("(a|b)*ab", hmm.to(dtype=torch.float32)).target(9)
    for prefix in [(), (2,), (2, 4, 3), (5, 5)]:
        found = [t.weighting(state_after(t, prefix), 9 - len(prefix)) for t in (exact, rough)]
        assert found[0].ids is not None
        assert found[0].ids.tolist() == found[1].ids.tolist()  # type: ignore[union-attr]
        np.testing.assert_allclose(found[0].log_weights, found[1].log_weights, atol=1e-5)  # type: ignore[arg-type]


# -- what the hidden Markov model cannot say -------------------------------------------------------


def ending(transition: list[list[float]], emission: list[list[float]]) -> HMM:
    tables = ([1.0] + [0.0] * (len(transition) - 1), transition, emission)
    return HMM(*(torch.tensor(t, dtype=torch.float64) for t in tables))


def test_tokens_that_are_never_emitted_count_as_not_observed() -> None:
    hmm = ending([[0.6, 0.4], [0.0, 1.0]], [[0.0, 0.0, 0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0, 0, 0, 0]])
    made = decoder("(a|b)*", hmm)
    target = made.target(3)
    weighting = target.weighting(target.start(), 3)
    assert weighting.ids is not None
    assert weighting.log_weights is not None
    found = dict(zip(weighting.ids.tolist(), np.exp(weighting.log_weights).tolist(), strict=True))
    after = 0.4 + 0.6 * 0.4  # EOS at once, or one more token before it
    assert found == pytest.approx({EOS: 1.0, 2: after, 3: after, 4: after, 5: after})
    behind = state_after(target, (4,))
    assert behind.vector.tolist() == pytest.approx([0.6, 0.4])
    assert made.format_probability((4,), max_new_tokens=3) == pytest.approx(after)


def test_where_nothing_has_a_chance_the_mask_decides() -> None:
    # "b" is never emitted: after "a" alone there is no way ahead
    hmm = ending([[0.5, 0.5], [0.0, 1.0]], [[0.0, 0.0, 1, 0, 0, 0], [0.0, 0.9, 0.1, 0, 0, 0]])
    made = decoder("aaab", hmm)
    samples = made.sample(PROMPT, 5, max_new_tokens=5, seed=1)
    for sample, guidance in zip(samples, made.report.guidance, strict=True):
        assert sample.complete
        assert sample.text == "aaab"
        assert sample.token_ids == [2, 2, 4, EOS]  # "ab", never emitted, counts as not observed
        assert guidance.fallbacks == 2
        assert guidance.log_format == -math.inf


def test_fewer_tokens_than_the_vocabulary() -> None:
    hmm = random_hmm(2, 3, size=4)
    target = decoder("(a|b)*ab", hmm).target(5)
    weighting = target.weighting(target.start(), 5)
    assert weighting.ids is not None
    assert weighting.log_weights is not None
    assert weighting.ids.tolist() == [2, 3, 4, 5]
    assert np.isfinite(weighting.log_weights).all()
    assert target.advance(target.start(), 4) is not None


def test_more_tokens_than_the_vocabulary() -> None:
    hmm = random_hmm(2, 3, size=9)
    oracle = Oracle("(ab)*", hmm, 1, 4)
    made = decoder("(ab)*", hmm)
    assert made.format_probability(max_new_tokens=4) == pytest.approx(oracle.format(()), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_forced_texts(dtype: torch.dtype) -> None:
    """Of probability far below the smallest number of either precision."""
    emission = [[0.1, 0.0, 0.5, 0.3, 0.05, 0.05], [0.0, 1.0, 0, 0, 0, 0]]
    hmm = ending([[0.98, 0.02], [0.0, 1.0]], emission).to(dtype=dtype)
    made = CtrlG(backend(), TokenAutomaton(Grammar.from_regex("(aab){250}"), vocabulary()), hmm)
    budget, data = 760, b"aab" * 250
    # log of all ways to spell what is left, and to end: one hidden state writes, the other ends
    spell = [-math.inf] * len(data) + [math.log(0.02 / 0.98)]
    for i in reversed(range(len(data))):
        for token in range(2, ROWS):
            piece = PIECES[token] or b""
            if data.startswith(piece, i):
                step = math.log(emission[0][token] * 0.98) + spell[i + len(piece)]
                spell[i] = float(np.logaddexp(spell[i], step))
    target = made.target(budget)
    state: Any = target.start()
    assert spell[0] < -500
    assert target.log_format(state, budget) == pytest.approx(spell[0], rel=1e-5)
    at, left = 0, budget
    while at < len(data):
        weighting = target.weighting(state, left)
        assert weighting.ids is not None
        assert weighting.log_weights is not None
        ends = [at + len(PIECES[t] or b"") for t in weighting.ids.tolist()]
        expected = [math.log(0.98) + spell[end] for end in ends]
        assert weighting.log_weights.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        state, at = target.advance(state, int(weighting.ids[0])), ends[0]
        left -= 1


# -- laws ------------------------------------------------------------------------------------------


def tilted(oracle: Oracle, temperature: float) -> dict[Text, float]:
    """The law of whole texts, token by token."""
    out = {}
    for text in oracle.texts:
        total = 1.0
        for i, token in enumerate(text):
            ratios = oracle.ratios(text[:i])
            p = np.exp(logprobs(text[:i], temperature))
            total *= p[token] * ratios[token] / sum(p[t] * r for t, r in ratios.items())
        out[text] = float(total)
    return out


DRAFTERS: dict[str, Callable[[], list[Any]]] = {
    "none": list,
    "all": lambda: [Forced(), GrammarCounts(), PromptLookup(), TokenRecycling(), Trigram()],
}


@pytest.mark.parametrize("drafters", DRAFTERS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("pattern", "least"), [("(a|b)*ab", 1), ("(ab)*", 3), (RECURSIVE, 2)])
def test_the_law_of_texts(pattern: str, least: int, temperature: float, drafters: str) -> None:
    hmm = random_hmm(11, 3)
    expected = tilted(Oracle(pattern, hmm, least, 4), temperature)
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-9)
    made = decoder(pattern, hmm, *DRAFTERS[drafters](), min_new_tokens=least)
    target = made.target(4)

    def run(choices: Enumerated) -> Text:
        made.backend.reset()
        [sample] = made.backend.generate(
            PROMPT,
            target,
            max_new_tokens=4,
            sampling=Sampling(temperature),
            choices=lambda _: choices,
        )
        text = tuple(sample.token_ids)
        assert math.exp(sample.constrained_logprob) == pytest.approx(expected[text], rel=1e-8)
        return text

    assert total_variation(law_of(run), expected) < 1e-9


def test_drafters_change_nothing() -> None:
    hmm = random_hmm(4, 6)
    texts = []
    for drafters in DRAFTERS.values():
        made = decoder("(a|b)*ab", hmm, *drafters(), kind=DecoG, top_mass=1.0, top_states=3)
        samples = made.sample(PROMPT, 20, max_new_tokens=12, seed=5)
        texts.append([s.token_ids for s in samples])
        assert len(made.report.guidance) == 20
    assert texts[0] == texts[1]


def test_greedy() -> None:
    hmm = random_hmm(4, 3)
    oracle = Oracle("(a|b)*ab", hmm, 1, 5)
    text: Text = ()
    while not text or text[-1] != EOS:
        p = np.exp(logprobs(text, 1.0))
        text = (*text, max((p[t] * r, t) for t, r in oracle.ratios(text).items())[1])
    [sample] = decoder("(a|b)*ab", hmm).sample(PROMPT, max_new_tokens=5, temperature=0)
    assert tuple(sample.token_ids) == text


# -- pruning ---------------------------------------------------------------------------------------


def test_all_states_kept_is_no_pruning() -> None:
    hmm = random_hmm(6, 7)
    one = decoder("(a|b)*ab", hmm, kind=DecoG, top_mass=1.0, top_states=7).target(10)
    two = decoder("(a|b)*ab", hmm).target(10)
    for prefix in [(), (2,), (4, 5), (3, 3, 2)]:
        a, b = (t.weighting(state_after(t, prefix), 10 - len(prefix)) for t in (one, two))
        np.testing.assert_array_equal(a.log_weights, b.log_weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_pruned_weights(kept: int) -> None:
    """The same sums over the hidden states that are likeliest alone."""
    hmm = random_hmm(6, 7)
    made = decoder("(a|b)*ab", hmm, kind=DecoG, top_mass=1.0, top_states=kept)
    target = made.target(6)
    prefix = (2, 4)
    state = state_after(target, prefix)
    vector = hmm.start()
    for token in prefix:
        vector, _ = hmm.observe(vector, token)
    largest = torch.topk(vector, kept).indices
    beam = torch.zeros_like(vector)
    beam[largest] = vector[largest]
    beam /= beam.sum()
    weighting = target.weighting(state, 4)
    assert weighting.ids is not None
    assert weighting.log_weights is not None
    # a model that begins with the beam has the same futures
    oracle = Oracle("(a|b)*ab", HMM(beam, hmm.transition, hmm.emission), 1, 6)
    for token, found in zip(weighting.ids.tolist(), weighting.log_weights.tolist(), strict=True):
        futures = [t[2:] for t in oracle.texts if t[:3] == (*prefix, token)]
        expected = sum(oracle.p(t) for t in futures) / oracle.p((token,))
        assert math.exp(found) == pytest.approx(expected, rel=1e-9)
    assert state.note.retained == pytest.approx(float(vector[largest].sum()))


@pytest.mark.parametrize("mass", [0.3, 0.8, 0.97])
def test_the_fewest_states_of_a_mass(mass: float) -> None:
    hmm = random_hmm(6, 7)
    made = decoder("(a|b)*ab", hmm, kind=DecoG, top_mass=mass)
    samples = made.sample(PROMPT, 12, max_new_tokens=10, seed=1)
    for sample, guidance in zip(samples, made.report.guidance, strict=True):
        vector, retained, states = hmm.start(), [], []
        for token in sample.token_ids:
            held = torch.sort(vector, descending=True).values.cumsum(0).tolist()
            fewest = 1 + sum(share < mass for share in held)
            retained.append(held[fewest - 1])
            states.append(fewest)
            vector, _ = hmm.observe(vector, token)
        assert guidance.min_retained == pytest.approx(min(retained))
        assert guidance.mean_states == pytest.approx(sum(states) / len(states))


def test_mass_is_a_share() -> None:
    for mass in (0.0, 1.1):
        with pytest.raises(ValueError, match="top_mass"):
            decoder("(a|b)*ab", random_hmm(4, 3), kind=DecoG, top_mass=mass)


def test_reports() -> None:
    hmm = random_hmm(6, 7)
    made = decoder("(a|b)*ab", hmm, kind=DecoG, top_mass=1.0, top_states=2)
    samples = made.sample(PROMPT, 12, max_new_tokens=10, seed=1)
    expected = made.log_format_probability(max_new_tokens=10)
    for sample, guidance in zip(samples, made.report.guidance, strict=True):
        vector, retained = hmm.start(), []
        for token in sample.token_ids:
            retained.append(float(torch.topk(vector, 2).values.sum()))
            vector, _ = hmm.observe(vector, token)
        assert guidance.mean_retained == pytest.approx(sum(retained) / len(retained))
        assert guidance.min_retained == pytest.approx(min(retained))
        assert guidance.fallbacks == 0
        assert guidance.log_format == pytest.approx(expected)


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grammar", "pattern", "least", "most"),
    [
        (Grammar.from_regex("(?s:.*)abba(a|b)?"), "[ab]*abba[ab]?", 4, 14),
        (Grammar.from_choices(["ab", "abba", "baba", "a"]), "ab|abba|baba|a", 2, 5),
        (Grammar.from_gbnf(RECURSIVE), RECURSIVE, 3, 14),
    ],
)
def test_a_thousand_texts(grammar: Grammar, pattern: str, least: int, most: int) -> None:
    made = DecoG(
        backend(Forced(), Trigram()),
        TokenAutomaton(grammar, vocabulary()),
        random_hmm(9, 5, zeros=0.5),
        top_mass=1.0,
        top_states=3,
        min_new_tokens=least,
    )
    samples = made.sample(PROMPT, 1_000, max_new_tokens=most, seed=2)
    for sample in samples:
        assert sample.complete
        assert sample.token_ids[-1] == EOS
        assert least <= len(sample.token_ids) <= most
        assert is_text(pattern, sample.text.encode())
    assert len({s.text for s in samples}) > 2


# -- formats ---------------------------------------------------------------------------------------

JSON: list[bytes | None] = [
    None,
    None,
    *(bytes([c]) for c in b'{}[]",: 01234.-eabc'),
    *(b'{"', b'":', b'", "', b"12", b"abc", b"\xc3\xa9", b'"a"', b'"b"', b"null", b"true"),
]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["abc", 12]}}},
        {"type": "array", "items": {"enum": [1, 2, "a"]}, "uniqueItems": True, "maxItems": 3},
        {"type": "object", "maxProperties": 2, "additionalProperties": {"const": 1}},
    ],
)
def test_edges_of_one_walk(schema: Any) -> None:
    made = TokenAutomaton(Grammar.from_json_schema(schema), vocabulary(JSON))
    check_edges(made, 40)


@pytest.mark.parametrize("pieces", [PIECES, [None, None, b"a", b"ab", b"bb", b"abb"]])
@pytest.mark.parametrize("pattern", [*PATTERNS, RECURSIVE])
def test_edges_of_odd_vocabularies(pattern: str, pieces: list[bytes | None]) -> None:
    grammar = automaton(pattern).grammar
    check_edges(TokenAutomaton(grammar, vocabulary(pieces)), 60)


def edges_one_by_one(made: TokenAutomaton, state: int) -> tuple[Any, Any]:
    """Edges by one ``advance`` for each token of the mask."""
    tokens = np.setdiff1d(made.allowed_tokens(state), made.vocabulary.eos_token_ids)
    return tokens, np.array([made.advance(state, t) for t in tokens.tolist()], np.int64)


def check_edges(made: TokenAutomaton, most: int) -> None:
    seen, queue = {made.start}, [made.start]
    while queue and len(seen) < most:
        state = queue.pop(0)
        fast, slow = made.edges(state), edges_one_by_one(made, state)
        np.testing.assert_array_equal(fast[0], slow[0])
        np.testing.assert_array_equal(fast[1], slow[1])
        for after in slow[1].tolist():
            if after not in seen:
                seen.add(after)
                queue.append(after)


@pytest.mark.parametrize("pattern", [*PATTERNS, RECURSIVE])
def test_formats_are_their_automata(pattern: str) -> None:
    made = automaton(pattern)
    found = FormatAutomaton(made, 6)
    assert found.is_complete == ("::=" not in pattern)
    for prefix in Oracle(pattern, random_hmm(0, 1), 1, 6).prefixes():
        state, at = made.start, 0
        for token in prefix:
            state, at = made.advance(state, token), found.after(at, token)
        assert at != NOWHERE
        assert found.raw(at) == state
        assert found.needed[at] == made.min_tokens_to_accept(state) + 1
        assert found.accepting[at] == made.is_accepting(state)
        for token in range(2, ROWS):
            if found.after(at, token) == NOWHERE:
                after = made.advance(state, token)
                left = 6 - len(prefix) - 1
                assert after == made.DEAD or made.min_tokens_to_accept(after) + 1 > left


def test_equal_token_sets_are_summed_once() -> None:
    grammar = Grammar.from_regex("((a|b){4}ab){2}")
    found = FormatAutomaton(TokenAutomaton(grammar, vocabulary()), 20)
    assert len(found.letters.tokens) < len(found.edge_letter) / 2
    tables = Tables(found, random_hmm(3, 20))
    for number, tokens in enumerate(found.letters.tokens):
        expected = tables.emission[:, tokens].sum(1)
        np.testing.assert_allclose(tables._sums[number], expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [len(JSON), 20, 50])
def test_narrow_and_wide_masks(size: int, dtype: torch.dtype) -> None:
    """The compiled sums are those of the formula, also where the model knows fewer or more tokens."""
    grammar = Grammar.from_regex(r'[^"]*"a": ?(12|true|[0-4]{2})[abc,]{0,3}')
    made = TokenAutomaton(grammar, vocabulary(JSON))
    hmm = random_hmm(7, 9, size=size).to(dtype=dtype)
    target = CtrlG(backend(), made, hmm).target(14)
    emission, transition = hmm.emission.double().numpy(), hmm.transition.double().numpy()
    levels = target._horizon.levels
    rng = random.Random(1)
    sizes = set()
    for _ in range(20):
        state: Any = target.start()
        for left in range(14, 0, -1):
            weighting = target.weighting(state, left)
            ids, logs = weighting.ids, weighting.log_weights
            assert ids is not None
            assert logs is not None
            sizes.add(len(ids) * 16 < size)
            for token, log in zip(ids.tolist(), logs.tolist(), strict=True):
                after = target.advance(state, token)
                assert after is not None
                row = levels[left - 1].values[after.number].astype(np.float64)
                joint = state.vector * (emission[:, token] if token < size else 1.0)
                expected = math.log(joint @ row / joint.sum()) + levels[left - 1].logs[after.number]
                assert log == pytest.approx(expected, abs=1e-4 if dtype == torch.float32 else 1e-9)
                if not target.is_finished(after):
                    moved = joint @ transition
                    np.testing.assert_allclose(after.vector, moved / moved.sum(), rtol=1e-4)
            state = target.advance(state, rng.choice(ids.tolist()))
            if target.is_finished(state):
                break
        assert target.is_finished(state)
    assert sizes == {False, True}


# -- limits and errors -----------------------------------------------------------------------------


def test_other_tokenizers_are_refused() -> None:
    hmm = random_hmm(1, 2)
    own = HMM(hmm.initial, hmm.transition, hmm.emission, fingerprint_of(vocabulary()))
    DecoG(backend(), automaton("(ab)*"), own)
    other = vocabulary([None, None, b"a", b"b", b"ab", b"bb"])
    with pytest.raises(TokenizerMismatch, match="another tokenizer"):
        DecoG(backend(), TokenAutomaton(Grammar.from_regex("(ab)*"), other), own)
    mute = hmm.emission.clone()
    mute[:, EOS] = 0
    mute /= mute.sum(1, keepdim=True)
    with pytest.raises(TokenizerMismatch, match="never emits an EOS"):
        DecoG(backend(), automaton("(ab)*"), HMM(hmm.initial, hmm.transition, mute))


def test_budgets() -> None:
    hmm = random_hmm(1, 2)
    with pytest.raises(BudgetError, match="needs 5 tokens"):
        decoder("ababab?a", hmm).sample(PROMPT, max_new_tokens=2)
    with pytest.raises(BudgetError, match="min_new_tokens"):
        decoder("(ab)*", hmm, min_new_tokens=9).sample(PROMPT, max_new_tokens=8)
    with pytest.raises(BudgetError, match="no text of this grammar has 5 to 8 tokens"):
        decoder("(ab)?", hmm, min_new_tokens=5).sample(PROMPT, max_new_tokens=8)
    with pytest.raises(BudgetError, match="max_table_bytes"):
        decoder("(ab)*", hmm, max_table_bytes=100).sample(PROMPT, max_new_tokens=8)
    with pytest.raises(ValueError, match="top_states"):
        decoder("(ab)*", hmm, kind=DecoG, top_states=0)
    with pytest.raises(ValueError, match="min_new_tokens"):
        decoder("(ab)*", hmm, min_new_tokens=0)
    with pytest.raises(BudgetError, match="context"):
        decoder("(ab)*", hmm).sample(PROMPT, max_new_tokens=100)


def test_too_many_states() -> None:
    grammar = Grammar.from_regex("(a|b){40}ab", limits=Limits(max_search_states=20))
    made = DecoG(backend(), TokenAutomaton(grammar, vocabulary()), random_hmm(1, 2))
    with pytest.raises(LimitExceeded, match="max_search_states"):
        made.sample(PROMPT, max_new_tokens=50)


# -- where the automaton forgets states ------------------------------------------------------------


def test_states_of_a_format_are_found_again() -> None:
    made = TokenAutomaton(Grammar.from_regex("a{1,3}b?"), vocabulary())
    found = FormatAutomaton(made, 6)
    masks = [made.mask(found.raw(state)).copy() for state in range(found.states)]
    made.trim(())
    for state in reversed(range(found.states)):
        np.testing.assert_array_equal(made.mask(found.raw(state)), masks[state])


def test_a_format_takes_the_place_of_states_that_are_no_longer_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its states fit once; what others left behind is forgotten."""
    monkeypatch.setattr("constrain.engine.pool._FIRST_STATES", 8)

    def fresh(states: int) -> TokenAutomaton:
        limits = Limits(max_states=states)
        return TokenAutomaton(Grammar.from_gbnf(RECURSIVE), vocabulary(), limits)

    plain = FormatAutomaton(fresh(1_000), 6)
    used = fresh(32)
    state = used.start
    while used.state_count < 29:
        state = used.advance(state, PIECES.index(b"a"))
    found = FormatAutomaton(used, 6)
    assert [t.tolist() for t in found.targets] == [t.tolist() for t in plain.targets]
    with pytest.raises(LimitExceeded, match="max_states"):
        FormatAutomaton(fresh(8), 6)


@pytest.mark.parametrize("kind", [DecoG, CtrlG])
def test_others_may_forget_states(kind: type[DecoG], monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafters that read the grammar ask for its states while another holder has them forgotten."""
    plain = decoder("(a|b)*ab", random_hmm(3, 3), kind=kind)
    wanted = [s.token_ids for s in plain.sample(PROMPT, 6, max_new_tokens=9, seed=4)]
    used = TokenAutomaton(Grammar.from_regex("(a|b)*ab"), vocabulary())
    made = kind(backend(Forced(), GrammarCounts(), PromptLookup()), used, random_hmm(3, 3))
    whole, asked = TokenAutomaton.signature, 0

    def signature(self: TokenAutomaton, state: int) -> Any:
        nonlocal asked
        asked += 1
        if self is used and asked % 3 == 0:
            self.trim(())
            return whole(self, made._tables.format.raw(0))  # type: ignore[union-attr]
        return whole(self, state)

    monkeypatch.setattr(TokenAutomaton, "signature", signature)
    drawn = [s.token_ids for s in made.sample(PROMPT, 6, max_new_tokens=9, seed=4)]
    assert asked > 3
    assert drawn == wanted
