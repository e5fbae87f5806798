"""Typical acceptance: what it takes, that it keeps the grammar, and that nothing takes it for exact."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from enumeration import Enumerated, law_of, total_variation
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sampler_arguments import SAMPLERS
from test_sampler_arguments import backend as arguments_backend
from test_speculative_law import (
    COLD,
    DETERMINISTIC,
    EOS,
    EXACT,
    GREEDY,
    LOTTERIES,
    NUCLEUS,
    PATTERNS,
    PIECES,
    PROMPT,
    ROWS,
    TARGETS,
    VISIBLE,
    WARM,
    Drafter,
    Floats,
    Text,
    Weigh,
    automaton,
    backend,
    direct,
    model,
    one_step,
    samples,
)

import samplers
import samplers.backend
from grammars import GrammaError
from samplers import GrammarConstrained, LossyDraws, SpeculativeGenerate, Typical
from samplers.drafters.base import Context
from samplers.drafters.learned import evaluate
from samplers.speculative.choices import Drawn
from samplers.speculative.law import Law, Sampling
from samplers.speculative.target import FreeText
from samplers.speculative.tree import ROOT, Tree
from samplers.speculative.typical import longest

RULES = [Typical(), Typical(0.01, 0.1), Typical(0.25, 0.5), Typical(0.6, 3.0)]


# -- which path is accepted, by brute force --------------------------------------------------------


@st.composite
def drafted(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """A tree as (parent, token), and whole numbers that laws are in proportion to, for each place."""
    count = draw(st.integers(0, 9))
    nodes: list[tuple[int, int]] = []
    for _ in range(count):
        node = (draw(st.integers(ROOT, len(nodes) - 1)), draw(st.integers(0, 4)))
        if node not in nodes:
            nodes.append(node)
    mass = st.lists(st.sampled_from([0, 0, 1, 2, 5, 30]), min_size=5, max_size=5).filter(any)
    return nodes, [draw(mass) for _ in range(len(nodes) + 1)]


def by_brute_force(
    nodes: Sequence[tuple[int, int]], mass: Sequence[Sequence[int]], epsilon: float, delta: float
) -> list[list[int]]:
    """All paths that are as long and as likely as any; places of ``mass`` begin with the root's."""
    found: list[tuple[int, float, list[int]]] = [(0, 1.0, [])]
    for end in range(len(nodes)):
        path, likelihood, fine = [end], 1.0, True
        while nodes[path[0]][0] != ROOT:
            path.insert(0, nodes[path[0]][0])
        for node in path:
            parent, token = nodes[node]
            p = [m / sum(mass[parent + 1]) for m in mass[parent + 1]]
            entropy = sum(x * math.log(1 / x) for x in p if x)
            fine = fine and p[token] > min(epsilon, delta / math.e**entropy)
            likelihood *= p[token]
        if fine:
            found.append((len(path), likelihood, path))
    most = max(length for length, _, _ in found)
    top = max(likelihood for length, likelihood, _ in found if length == most)
    return [path for n, q, path in found if n == most and q >= top * (1 - 1e-9)]


def law(mass: Sequence[int], sparse: bool) -> Law:
    weights = np.array(mass, np.float64)
    ids = np.flatnonzero(weights) if sparse else None
    kept = weights if ids is None else weights[ids]
    return Law(ids, kept, kept, kept)


@settings(max_examples=400, deadline=None)
@given(drafted(), st.sampled_from(RULES), st.booleans())
def test_the_longest_path_is_that_of_brute_force(
    given_tree: tuple[list[tuple[int, int]], list[list[int]]], rule: Typical, sparse: bool
) -> None:
    nodes, mass = given_tree
    tree = Tree(0)
    for parent, token in nodes:
        tree.add(parent, token, 0, "given", 0.5)
    assert len(tree) == len(nodes)
    asked: list[int] = []

    def law_after(node: int) -> Law:
        asked.append(node)
        return law(mass[node + 1], sparse)

    found = longest(tree, ROOT, rule, law_after)
    best = by_brute_force(nodes, mass, rule.epsilon, rule.delta)
    assert found in best
    assert len(asked) == len(set(asked))


def test_of_paths_equally_long_the_likeliest_is_taken_and_of_those_the_first_drafted() -> None:
    tree = Tree(0)
    first, second, third = (tree.add(ROOT, token, 0, "given", 0.5) for token in (0, 1, 2))
    assert longest(tree, ROOT, Typical(), lambda _: law([3, 4, 3], False)) == [second]
    assert longest(tree, ROOT, Typical(), lambda _: law([3, 2, 3], False)) == [first]
    assert third is not None
    below = tree.add(third, 1, 0, "given", 0.5)
    laws = {ROOT: law([30, 30, 5], False), third: law([1, 1, 1], False)}
    assert longest(tree, ROOT, Typical(0.05), laws.__getitem__) == [third, below]
    assert longest(
        tree, ROOT, Typical(0.05), lambda node: laws[ROOT] if node == ROOT else None
    ) == [first]


def test_the_threshold() -> None:
    """The smaller of epsilon and the share of exp(-entropy); p must be above it, not at it."""
    assert Typical(0.09, 0.3).threshold(law([1], False)) == pytest.approx(0.09)
    assert Typical(0.5, 0.3).threshold(law([1, 1, 0], False)) == pytest.approx(0.3 / 2)
    assert Typical(0.09, 0.3).threshold(law([1] * 10, False)) == pytest.approx(0.03)
    tree = Tree(0)
    tree.add(ROOT, 0, 0, "given", 0.5)
    assert longest(tree, ROOT, Typical(0.5, 9), lambda _: law([1, 1], False)) == []
    assert longest(tree, ROOT, Typical(0.499, 9), lambda _: law([1, 1], False)) == [0]


@pytest.mark.parametrize("bad", [{"epsilon": 0}, {"epsilon": 1}, {"delta": 0}, {"delta": math.inf}])
def test_numbers_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}="):
        Typical(**bad)


# -- the law of whole texts, with the algorithm written down a second time -------------------------


def chains(prefix: Sequence[int]) -> list[Text]:
    """What is drafted after a text; the same every time."""
    generator = np.random.default_rng([11, *prefix])
    return [tuple(generator.integers(1, ROWS, size=3).tolist()) for _ in range(6)]


class Chains(Drafter):
    """Drafts :func:`chains`."""

    name = "chains"

    def propose(self, context: Context) -> None:
        for chain in chains(context.tokens):
            context.chain(ROOT, chain, self.name, 0.5)


def typical_law(
    budget: int, weigh: Weigh, sampling: Sampling, rule: Typical, drafts: bool = True
) -> dict[Text, float]:
    """Texts with their probabilities, without trees: drafts are prefixes of chains."""
    out: defaultdict[Text, float] = defaultdict(float)

    def done(text: Text) -> bool:
        return len(text) == budget or text[-1:] == (EOS,)

    def p_after(text: Text) -> Floats:
        return one_step(text, budget - len(text), weigh, sampling)[0]

    def best_below(text: Text, at: Text, ways: list[Text]) -> Text:
        """The longest accepted continuation of ``at`` (drafted after ``text``), itself included."""
        candidates = {way[:n] for way in ways for n in range(len(at), len(way) + 1)}
        found = [(0, 1.0, at)]
        for way in sorted(c for c in candidates if c[: len(at)] == at and c != at):
            likelihood, fine = 1.0, True
            for n in range(len(at), len(way)):
                here = (*text, *way[:n])
                if done(here):
                    fine = False
                if not fine:
                    break
                p = p_after(here)
                entropy = -sum(x * math.log(x) for x in p if x > 0)
                fine = fine and p[way[n]] > min(rule.epsilon, rule.delta * math.exp(-entropy))
                likelihood *= p[way[n]]
            if fine:
                found.append((len(way), likelihood, way))
        return max(found)[2]

    def step(text: Text, probability: float) -> None:
        if done(text):
            out[text] += probability
            return
        go(text, (), chains([*PROMPT, *text]) if drafts else [], probability)

    def go(text: Text, at: Text, ways: list[Text], probability: float) -> None:
        if text or at:
            at = best_below(text, at, ways)
        here = (*text, *at)
        if done(here):
            out[here] += probability
            return
        p = p_after(here)
        for token in np.flatnonzero(p).tolist():
            after = (*at, token)
            if any(way[: len(after)] == after for way in ways) and not done((*text, *after)):
                go(text, after, ways, probability * p[token])
            else:
                step((*text, *after), probability * p[token])

    step((), 1.0)
    return dict(out)


def law_with(
    rule: Typical | None, target: str, budget: int, sampling: Sampling
) -> dict[Text, float]:
    drawn_from, _ = TARGETS[target]()
    made = backend([Chains()], adaptive=False, max_tree_nodes=40, acceptance=rule)

    def run(choices: Enumerated) -> Text:
        (sample,) = samples(made, drawn_from, budget, sampling, lambda _: choices)
        return tuple(sample.token_ids)

    return law_of(run)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("target", ["free", *PATTERNS[:2], "sparse"])
def test_the_law_is_that_of_the_algorithm_written_twice(target: str, rule: Typical) -> None:
    sampling = (WARM, COLD, NUCLEUS)[RULES.index(rule) % 3]
    budget = 3 if target == "free" else 4
    _, weigh = TARGETS[target]()
    expected = typical_law(budget, weigh, sampling, rule)
    assert math.isclose(sum(expected.values()), 1.0, abs_tol=EXACT)
    assert total_variation(law_with(rule, target, budget, sampling), expected) < EXACT


def test_it_is_lossy_and_without_drafts_it_is_not() -> None:
    _, weigh = TARGETS["free"]()
    exact = {text: p for text, (p, _, _) in direct(3, weigh, COLD).items()}
    assert total_variation(law_with(None, "free", 3, COLD), exact) < EXACT
    assert total_variation(law_with(Typical(), "free", 3, COLD), exact) > VISIBLE
    assert total_variation(typical_law(3, weigh, COLD, Typical(), drafts=False), exact) < EXACT


# -- the grammar -----------------------------------------------------------------------------------

EVERY: dict[str, Callable[[], list[Drafter]]] = {
    **{name: (lambda kinds=kinds: [d() for d in kinds]) for name, kinds in DETERMINISTIC.items()},
    **LOTTERIES,
}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(EVERY)),
    st.sampled_from(PATTERNS),
    st.sampled_from(RULES),
    st.sampled_from([WARM, COLD, NUCLEUS]),
    st.integers(0, 10**6),
    st.integers(1, 4),
)
def test_the_grammar_is_kept(
    kind: str, pattern: str, rule: Typical, sampling: Sampling, seed: int, rows: int
) -> None:
    made = backend(EVERY[kind](), acceptance=rule, max_rows=rows, adaptive=seed % 2 == 0)
    target, weigh = TARGETS[pattern]()
    found = samples(made, target, 6, sampling, lambda i: Drawn(seed + i), n=3)
    for sample in found:
        assert sample.complete
        assert sample.stats.lossy
        *text, end = sample.token_ids
        assert end == EOS
        assert re.fullmatch(pattern, "".join(PIECES[token] for token in text))
        logs = [one_step(tuple(text[:i]), 6 - i, weigh, sampling) for i in range(len(text) + 1)]
        tokens = sample.token_ids
        assert sample.logprob == pytest.approx(
            sum(logp[t] for (_, logp, _), t in zip(logs, tokens, strict=True)), abs=1e-9
        )
        assert sample.constrained_logprob == pytest.approx(
            sum(logc[t] for (_, _, logc), t in zip(logs, tokens, strict=True)), abs=1e-9
        )


# -- what is not lossy -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["all", "wide", "two of three", "modelled"])
@pytest.mark.parametrize("target", TARGETS)
def test_at_temperature_0_it_is_greedy_decoding(target: str, kind: str) -> None:
    drawn_from, _ = TARGETS[target]()
    (plain,) = samples(backend([]), drawn_from, 6, GREEDY, lambda i: Drawn(i))
    for rule in RULES:
        made = backend(EVERY[kind](), acceptance=rule, adaptive=False)
        (sample,) = samples(made, drawn_from, 6, GREEDY, lambda i: Drawn(i))
        assert sample.token_ids == plain.token_ids
        assert not sample.stats.lossy


def test_exact_mode_asks_for_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, and where it says None, the rule is not met at all: same texts, bit for bit."""
    target, _ = TARGETS["dense"]()
    monkeypatch.setattr(samplers.backend, "longest", None)
    made = [backend(EVERY["all"]()), backend(EVERY["all"](), acceptance=None), backend([])]
    found = [samples(one, target, 7, WARM, lambda i: Drawn(i), n=5) for one in made]
    assert all([s.token_ids for s in some] == [s.token_ids for s in found[0]] for some in found)
    assert not any(s.stats.lossy for some in found for s in some)
    with pytest.raises(TypeError, match="NoneType"):
        samples(backend(EVERY["all"](), acceptance=Typical()), target, 7, WARM, lambda i: Drawn(i))


# -- who says so -----------------------------------------------------------------------------------


def lossy_backend() -> samplers.SpeculativeBackend:
    plain = arguments_backend()
    return samplers.SpeculativeBackend(plain.model, plain.tokenizer, acceptance=Typical())


@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - {"GrammarConstrained"}))
def test_samplers_that_need_exact_draws_refuse(name: str) -> None:
    with pytest.raises(LossyDraws, match=r"exact draws.*acceptance=Typical\(epsilon=0.09"):
        SAMPLERS[name](lossy_backend())
    SAMPLERS[name](arguments_backend())
    assert issubclass(LossyDraws, GrammaError)


def test_functions_that_return_no_stats_refuse() -> None:
    import toys
    from test_extraction import make_tokenizer

    made = samplers.SpeculativeBackend(toys.model(), acceptance=Typical())
    for function in (samplers.extract, samplers.extract_samples):
        with pytest.raises(LossyDraws, match=function.__name__):
            function(toys.model(), make_tokenizer(), "x", {"type": "integer"}, backend=made)


def test_reports_and_evaluations_say_so() -> None:
    for rule, temperature, lossy in [
        (Typical(), 0.7, True),
        (Typical(), 0, False),
        (None, 1, False),
    ]:
        made = backend([Chains()], acceptance=rule)
        sampler = GrammarConstrained(made, automaton(PATTERNS[0]))
        found = sampler.sample(PROMPT, 2, max_new_tokens=5, temperature=temperature, seed=1)
        assert [s.stats.lossy for s in found] == [lossy] * 2
        assert not any(s.exact for s in found)
        assert sampler.report.lossy == lossy
        seen = evaluate(
            made, [(PROMPT, FreeText((EOS,)))], max_new_tokens=4, temperature=temperature
        )
        assert seen.lossy == lossy


@pytest.mark.parametrize("sampled", [True, False])
def test_generate_has_it_as_an_option(sampled: bool) -> None:
    method = SpeculativeGenerate(automaton(PATTERNS[0]), [Chains()], acceptance=Typical())
    torch.manual_seed(0)
    model().generate(
        torch.tensor([PROMPT]), custom_generate=method, max_new_tokens=5, do_sample=sampled
    )
    assert [stats.lossy for stats in method.stats] == [sampled]


def test_only_a_rule_is_one() -> None:
    wrong: Any = 0.09
    with pytest.raises(TypeError, match="acceptance is None or Typical"):
        backend([], acceptance=wrong)
    assert [field.name for field in fields(Typical)] == ["epsilon", "delta"]
