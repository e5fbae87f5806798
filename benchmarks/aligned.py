"""How well samplers follow the model's own law given a grammar.

Part a: small languages whose token sequences can be enumerated, with a real model.  Q is computed
exactly, so that total variation and KL of what a method drew are numbers, not estimates; beside them
the same figures of as many exact draws (a finite sample never looks exact).  For methods that learn,
the exact total variation of the next sample's law, read off the trie, and masking's.

Part b: the tasks of ``aligned_tasks.py``.  Two tables: what rejection costs (attempts until ``--count``
are accepted, or ``--attempts`` are spent), and the divergence of each method.  Z is estimated from a
long run of CARS: with Z_t the bound of attempt t, accepted / sum of 1/Z_t.  The excess KL(Q~ || P) + log
Z = KL(Q~ || Q) comes from the samples' own frequencies (Park et al. 2024), with the figure of as many
exact draws beside it, whose excess is nothing but the bias of few samples.  Masking is given as many
model calls as the default method took; since its law is known for each sample (its
``constrained_logprob``), its excess is also estimated without that bias: the mean of log q - log P + log Z.

Published, for other models: KL against masking falls 1.57x / 2.11x (MCMC uniform, 3 / 10 steps), 1.79x
/ 2.42x (priority), 3.10x / 5.07x (restart) on Llama-3.1-8B; CARS accepts 55.6 % on BV4 and 44.9 % on
SLIA (ARS 4.1, RSFT 8.9, RS 0.01 % on BV4).

Usage: ``python benchmarks/aligned.py --part a [--count 500] [--method CARS,ASAp] [--json FILE]``
``python benchmarks/aligned.py --part b [--family bv4,slia] [--limit 2] [--count 50]``
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from aligned_tasks import FAMILIES, AlignedTask
from reporting import say, shown, table

import samplers
from constrain import TokenAutomaton, load_model
from constrain.huggingface.extraction import automaton_for
from grammars import Grammar
from samplers import Sample, SamplingOptions, SpeculativeBackend
from samplers.aligned.trie import Trie
from samplers.estimates import divergence
from samplers.report import AlignedReport
from samplers.speculative.choices import Drawn
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.tree import ROOT, Tree

Text: TypeAlias = tuple[int, ...]

MOST = 6_000
"""Token sequences of a language, at most."""
SIMULATED = 999
"""Sets of exact draws for a p-value."""
CHUNK = 48
"""Nodes scored together."""

METHODS: dict[str, Callable[[SpeculativeBackend, TokenAutomaton], Any]] = {
    "masking": lambda b, a: samplers.GrammarConstrained(b, a),
    "RS": lambda b, a: samplers.RejectionSampling(b, a),
    "RSFT": lambda b, a: samplers.RSFT(b, a),
    "ARS": lambda b, a: samplers.ARS(b, a),
    "CARS": lambda b, a: samplers.CARS(b, a),
    "ASAp": lambda b, a: samplers.ASAp(b, a),
    "uniform": lambda b, a: samplers.ConstrainedMCMC(b, a, proposal="uniform"),
    "priority": lambda b, a: samplers.ConstrainedMCMC(b, a, proposal="priority"),
    "restart": lambda b, a: samplers.ConstrainedMCMC(b, a, proposal="restart"),
    "restart, 3 steps": lambda b, a: samplers.ConstrainedMCMC(b, a, steps=3),
    "AWRS": lambda b, a: samplers.AWRS(b, a),
    "aligned": lambda b, a: samplers.AlignedSampling(b, a),
}


@dataclass(frozen=True)
class Language:
    """A small language and a prompt."""

    name: str
    grammar: Grammar
    prompt: str
    budget: int


def languages() -> list[Language]:
    """Languages of a few hundred to a few thousand token sequences."""
    months = (
        "(January|February|March|April|May|June|July|August|September|October|November|December)"
    )
    return [
        Language(
            "yes, no, maybe",
            Grammar.from_regex(r"(Yes|No|Maybe)(, (it is|it is not|it depends))?\."),
            "Question: Is the sea warm in winter? Answer:",
            9,
        ),
        Language("four bits", Grammar.from_regex("[01]{4}"), "The number eleven in binary is ", 5),
        Language(
            "terms",
            Grammar.from_regex(r"\((\+|\*) [a-c] [a-c]\)"),
            "The sum of a and b in Lisp: ",
            8,
        ),
        Language(
            "dates", Grammar.from_regex(months + " ([1-9]|[12][0-9]|30)"), "She was born on ", 6
        ),
        Language(
            "JSON",
            Grammar.from_json_schema(
                {
                    "type": "object",
                    "properties": {
                        "colour": {"enum": ["red", "green", "blue"]},
                        "wild": {"type": "boolean"},
                    },
                    "required": ["colour", "wild"],
                    "additionalProperties": False,
                },
                whitespace="compact",
            ),
            "A robin as JSON: ",
            12,
        ),
    ]


# -- exact laws --------------------------------------------------------------------------------------


def enumerated(automaton: TokenAutomaton, budget: int) -> list[Text]:
    """All token sequences of a language within a budget, EOS included.

    Raises:
        ValueError: if there are more than ``MOST``.
    """
    out: list[Text] = []
    stack: list[tuple[Text, int]] = [((), automaton.start)]
    while stack:
        text, state = stack.pop()
        for token in automaton.allowed_tokens(state, budget - len(text)).tolist():
            after = automaton.advance(state, token)
            if after == automaton.FINISHED:
                out.append((*text, token))
            else:
                stack.append(((*text, token), after))
            if len(out) + len(stack) > MOST:
                raise ValueError(f"more than {MOST:,} token sequences; choose a smaller budget")
    return out


@dataclass
class Exact:
    """Laws of a language: the model's given the grammar, and masking's.

    Attributes:
        mass: Pr(L).
        law, masked: by token sequence.
        rows: float64[V] by prefix, log-probabilities.
        legal: by prefix, log of the mass of the tokens that may follow.
    """

    mass: float
    law: dict[Text, float]
    masked: dict[Text, float]
    rows: dict[Text, np.ndarray]
    legal: dict[Text, float]

    def next_law(self, trie: Trie) -> dict[Text, float]:
        """The law of ASAp's next sample: the trie's weights at known nodes, the mask beyond."""
        return {text: math.exp(self._log_chance(trie, text)) for text in self.law}

    def _log_chance(self, trie: Trie, text: Text) -> float:
        node, chance = trie.root, 0.0
        for i, token in enumerate(text):
            logp = float(self.rows[text[:i]][token])
            if node is None:
                chance += logp - self.legal[text[:i]]
                continue
            visit = node.visits.get(token)
            theta = 1.0 if visit is None else visit.theta
            if theta <= 0:
                return -math.inf
            chance += logp + math.log(theta) - math.log(node.z)
            node = None if visit is None else visit.node
        return chance


def exact(model: Any, prompt: Sequence[int], automaton: TokenAutomaton, budget: int) -> Exact:
    """Scores every prefix once, in trees."""
    texts = enumerated(automaton, budget)
    prefixes = sorted({text[:i] for text in texts for i in range(len(text))}, key=len)
    rows = scored(model, prompt, prefixes)
    following: dict[Text, set[int]] = {}
    for text in texts:
        for i, token in enumerate(text):
            following.setdefault(text[:i], set()).add(token)
    legal = {
        prefix: float(np.logaddexp.reduce([rows[prefix][t] for t in tokens]))
        for prefix, tokens in following.items()
    }
    raw, masked = {}, {}
    for text in texts:
        logs = [float(rows[text[:i]][token]) for i, token in enumerate(text)]
        raw[text] = math.exp(math.fsum(logs))
        masked[text] = math.exp(math.fsum(x - legal[text[:i]] for i, x in enumerate(logs)))
    mass = math.fsum(raw.values())
    return Exact(mass, {text: p / mass for text, p in raw.items()}, masked, rows, legal)


def scored(model: Any, prompt: Sequence[int], prefixes: Sequence[Text]) -> dict[Text, np.ndarray]:
    """float64[V], log-probabilities after each prefix."""
    scorer = TreeScorer(model, 1, len(prompt) + CHUNK + 64)
    scorer.score([Request(list(prompt[:-1]), Tree(None))])
    scorer.commit([[]])
    out: dict[Text, np.ndarray] = {}
    todo = list(prefixes)
    while todo:
        tree = Tree(0)
        nodes: dict[Text, int] = {(): ROOT}
        taken = 0
        for prefix in todo:
            missing = [prefix[:i] for i in range(1, len(prefix) + 1) if prefix[:i] not in nodes]
            if len(tree) + len(missing) > CHUNK:
                break
            for part in missing:
                made = tree.add(nodes[part[:-1]], part[-1], 0, "exact", 1.0)
                assert made is not None
                nodes[part] = made
            taken += 1
        scores = scorer.score([Request([prompt[-1]], tree)])
        for prefix in todo[:taken]:
            row = torch.log_softmax(scores.at(0, nodes[prefix]).double(), -1)
            out[prefix] = row.numpy()
        todo = todo[taken:]
    return out


def variation(p: dict[Text, float], q: dict[Text, float]) -> float:
    """Total variation."""
    return 0.5 * math.fsum(abs(p.get(t, 0.0) - q.get(t, 0.0)) for t in p.keys() | q.keys())


def chance(tv: float, law: dict[Text, float], count: int) -> float:
    """How often as many exact draws lie at least as far from the law (a test of bias, by simulation)."""
    q = np.array(list(law.values()))
    drawn = np.random.default_rng(0).multinomial(count, q / q.sum(), SIMULATED) / count
    farther = 0.5 * np.abs(drawn - q).sum(axis=1) >= tv
    return float(1 + farther.sum()) / (1 + SIMULATED)


def relative(p: dict[Text, float], q: dict[Text, float]) -> float:
    """KL(p || q), nats."""
    return math.fsum(x * math.log(x / q[t]) for t, x in p.items() if x > 0)


def weighted(samples: Sequence[Sample]) -> dict[Text, float]:
    """Weighted frequencies."""
    counts: Counter[Text] = Counter()
    for sample in samples:
        counts[tuple(sample.token_ids)] += sample.weight  # type: ignore[assignment]
    total = math.fsum(counts.values())
    return {text: w / total for text, w in counts.items()}


# -- part a ------------------------------------------------------------------------------------------


def part_a(model: Any, tokenizer: Any, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record a language and method."""
    for language in languages():
        automaton = automaton_for(language.grammar, tokenizer, model)
        prompt = tokenizer(language.prompt)["input_ids"]
        began = time.perf_counter()
        truth = exact(model, prompt, automaton, language.budget)
        say(
            f"{language.name}: {len(truth.law):,} sequences, Pr(L) = {truth.mass:.3g}, masking's TV "
            f"{variation(truth.masked, truth.law):.3f}; {time.perf_counter() - began:.0f} s"
        )
        generator = np.random.default_rng(given.seed)
        texts = list(truth.law)
        picks = generator.choice(len(texts), given.count, p=np.array(list(truth.law.values())))
        frequencies = {texts[i]: n / given.count for i, n in Counter(picks.tolist()).items()}
        yield record_a(language, "exact draws", frequencies, truth, given.count, {})
        for name in given.methods:
            made = one_method(name, model, tokenizer, automaton, prompt, language.budget, given)
            if isinstance(made, str):
                say(f"  {name}: {made}")
                continue
            samples, facts = made
            yield record_a(language, name, weighted(samples), truth, len(samples), facts)


def record_a(
    language: Language,
    method: str,
    drawn: dict[Text, float],
    truth: Exact,
    count: int,
    facts: dict[str, Any],
) -> dict[str, Any]:
    trie = facts.pop("trie", None)
    out = {
        "language": language.name,
        "method": method,
        "samples": count,
        "mass": truth.mass,
        "masking_tv": variation(truth.masked, truth.law),
        "tv": variation(drawn, truth.law),
        "p": chance(variation(drawn, truth.law), truth.law, count),
        "kl": relative(drawn, truth.law),
        "next_tv": None if trie is None else variation(truth.next_law(trie), truth.law),
        **facts,
    }
    say(f"  {method}: TV {out['tv']:.3f}, KL {out['kl']:.3f}, {facts}")
    return out


def one_method(
    name: str,
    model: Any,
    tokenizer: Any,
    automaton: TokenAutomaton,
    prompt: Sequence[int],
    budget: int,
    given: argparse.Namespace,
) -> tuple[list[Sample], dict[str, Any]] | str:
    """Samples and what they cost; or why there are none."""
    backend = SpeculativeBackend(model, tokenizer)
    sampler = METHODS[name](backend, automaton)
    began = time.perf_counter()
    try:
        samples = sampler.sample(
            prompt,
            given.count,
            max_new_tokens=budget,
            seed=given.seed,
            max_attempts=given.attempts if name in ("RS", "RSFT", "ARS", "CARS") else None,
        )
    except samplers.AttemptsExhausted as error:
        return str(error)
    facts: dict[str, Any] = {
        "forwards": backend.forwards,
        "seconds": round(time.perf_counter() - began, 1),
        "forwards_a_sample": round(backend.forwards / len(samples), 2),
    }
    facts["acceptance"] = round(sampler.report.acceptance, 4)
    if isinstance(sampler, samplers.ASAp):
        facts["trie"] = sampler.memory(prompt, budget, 1.0).trie
    if isinstance(sampler.report, AlignedReport):
        facts |= chain_facts(sampler.report)
    return samples, facts


def chain_facts(report: AlignedReport) -> dict[str, Any]:
    """The method that was chosen, and how well its chain moved, if there was one."""
    if report.method == "CARS":
        return {"switch": report.method}
    return {
        "switch": report.method,
        "runs": report.runs,
        "steps": report.steps,
        "moved": report.moved,
        "effective": report.effective,
        "effective_runs": report.effective_runs,
        "log_evidence": report.log_evidence,
    }


# -- part b ------------------------------------------------------------------------------------------

REJECTING = ("RS", "RSFT", "ARS", "CARS")
REFERENCE_ATTEMPTS = 600
"""Attempts for the exact draws and Z of a task, at most."""


def part_b(model: Any, tokenizer: Any, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record a task and method."""
    for family in given.families:
        for task in FAMILIES[family]()[: given.limit]:
            automaton = automaton_for(task.make(), tokenizer, model)
            case = Case(task, automaton, task.prompt_ids(tokenizer), model, tokenizer, given)
            if given.what in ("acceptance", "all"):
                yield from case.acceptance()
            if given.what in ("divergence", "all"):
                yield from case.divergences()


@dataclass(frozen=True)
class Reference:
    """What a long run of CARS says about a task.

    Attributes:
        samples: exact draws.
        log_mass: log Pr(L), estimated.
        attempts: spent.
    """

    samples: list[Sample]
    log_mass: float
    attempts: int


@dataclass(frozen=True)
class Case:
    """One task and the model."""

    task: AlignedTask
    automaton: TokenAutomaton
    prompt: list[int]
    model: Any
    tokenizer: Any
    given: argparse.Namespace

    def acceptance(self) -> Iterator[dict[str, Any]]:
        """Each method that rejects, from nothing: attempts and model calls."""
        for name in [n for n in self.given.methods if n in REJECTING]:
            backend = SpeculativeBackend(self.model, self.tokenizer)
            sampler = METHODS[name](backend, self.automaton)
            ids, memory = self._memory(sampler)
            began = time.perf_counter()
            rows = 0
            while memory.attempts < self.given.attempts and memory.accepted < self.given.count:
                for sample, _ in self._round(sampler, ids, memory, self.given.seed):
                    rows += sample.stats.forwards
            report = sampler.report
            yield self._record(
                name,
                attempts=report.attempts,
                accepted=report.accepted,
                acceptance=report.acceptance,
                bound=report.bounds[-1],
                calls=backend.forwards,
                rows=rows,
                calls_a_sample=backend.forwards / max(report.accepted, 1),
                rows_a_sample=rows / max(report.accepted, 1),
                nodes=memory.trie.size,
                megabytes=memory.trie.nbytes / 2**20,
                seconds=time.perf_counter() - began,
            )

    def divergences(self) -> Iterator[dict[str, Any]]:
        """The default method, masking with as many calls, the others with as many samples."""
        count = self.given.count
        truth = self.reference(count)
        draws = truth.samples[:count]
        say(
            f"{self.task.family} {self.task.name}: log Pr(L) about {truth.log_mass:.2f}; "
            f"{len(draws)} exact draws in {truth.attempts} attempts"
        )
        if draws:
            yield self._excess("exact draws", draws, truth, {})
        backend = SpeculativeBackend(self.model, self.tokenizer)
        sampler = METHODS["aligned"](backend, self.automaton)
        samples = self._drawn(sampler, count)
        facts = {"calls": backend.forwards, **chain_facts(sampler.report)}
        yield self._excess("aligned", samples, truth, facts)
        yield self._masking(truth, backend.forwards, count)
        for name in self.given.methods:
            if name in (*REJECTING, "aligned", "masking"):
                continue
            own = SpeculativeBackend(self.model, self.tokenizer)
            found = self._drawn(METHODS[name](own, self.automaton), count)
            yield self._excess(name, found, truth, {"calls": own.forwards})

    def _masking(self, truth: Reference, calls: int, count: int) -> dict[str, Any]:
        """Masking with the calls that the default method took, and no fewer samples."""
        backend = SpeculativeBackend(self.model, self.tokenizer)
        sampler = samplers.GrammarConstrained(backend, self.automaton)
        samples: list[Sample] = []
        seed = self.given.seed
        while len(samples) < count or backend.forwards < calls:
            samples += self._drawn(sampler, backend.max_rows, seed=seed)
            seed += 1
        unbiased = truth.log_mass + float(
            np.mean([s.constrained_logprob - s.logprob for s in samples])
        )
        facts = {"calls": backend.forwards, "drawn": len(samples), "unbiased_excess": unbiased}
        return self._excess("masking", samples[:count], truth, facts)

    def reference(self, count: int) -> Reference:
        """Exact draws and Z, by CARS; the attempts that taught it count for neither."""
        sampler = samplers.CARS(SpeculativeBackend(self.model, self.tokenizer), self.automaton)
        ids, memory = self._memory(sampler)
        samples: list[Sample] = []
        attempts, counted, inverse = 0, 0, 0.0
        while len(samples) < count and attempts < REFERENCE_ATTEMPTS:
            bound = None if memory.trie.root is None else memory.trie.root.z
            made = self._round(sampler, ids, memory, self.given.seed + 1)
            accepted = [sample for sample, is_valid in made if is_valid]
            samples += accepted
            attempts += len(made)
            if bound is not None:  # the first round masks a root that has no bound yet
                counted += len(accepted)
                inverse += len(made) / bound
        log_mass = math.log(counted / inverse) if counted else float("nan")
        return Reference(samples, log_mass, attempts)

    # -- tools --------------------------------------------------------------------------------------

    def _memory(self, sampler: Any) -> tuple[list[int], Any]:
        prepared = sampler.prepare(self.prompt, SamplingOptions(max_new_tokens=self.task.budget))
        return prepared.ids, prepared.memory

    def _round(self, sampler: Any, ids: list[int], memory: Any, seed: int) -> list[Any]:
        source = np.random.SeedSequence([seed, memory.attempts])
        choices = [Drawn(one) for one in source.spawn(sampler.backend.max_rows)]
        with sampler.backend.same_prompt():
            made: list[Any] = sampler.round(ids, memory, 1.0, choices)
        return made

    def _drawn(self, sampler: Any, count: int, seed: int | None = None) -> list[Sample]:
        found: list[Sample] = sampler.sample(
            self.prompt,
            count,
            max_new_tokens=self.task.budget,
            seed=self.given.seed if seed is None else seed,
        )
        return found

    def _excess(
        self, method: str, samples: Sequence[Sample], truth: Reference, facts: dict[str, Any]
    ) -> dict[str, Any]:
        kl = divergence(samples)
        best = max(s.logprob for s in samples)
        mean = math.fsum(s.logprob * s.weight for s in samples) / math.fsum(
            s.weight for s in samples
        )
        return self._record(
            method,
            samples=len(samples),
            kl_to_model=kl,
            log_mass=truth.log_mass,
            excess=kl + truth.log_mass,
            best_logprob=best,
            mean_logprob=mean,
            **facts,
        )

    def _record(self, method: str, **facts: Any) -> dict[str, Any]:
        record = {"family": self.task.family, "task": self.task.name, "method": method, **facts}
        say(", ".join(f"{key} {shown(value)}" for key, value in record.items()))
        return record


def summary(records: Sequence[dict[str, Any]]) -> str:
    """Over the tasks: median excess of each method, and how much smaller than masking's."""
    by_task: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for r in records:
        if "excess" in r:
            by_task.setdefault((r["family"], r["task"]), {})[r["method"]] = r
    methods = dict.fromkeys(m for found in by_task.values() for m in found)
    lines = ["| method | tasks | median excess | above exact draws | reduction | debiased |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for method in methods:
        tasks = [t for t in by_task.values() if {method, "masking", "exact draws"} <= t.keys()]
        if not tasks:
            continue
        excess = np.array([t[method]["excess"] for t in tasks])
        bias = np.array([t["exact draws"]["excess"] for t in tasks])
        masking = np.array([t["masking"]["excess"] for t in tasks])
        reduction = masking / np.maximum(excess, 1e-9)
        above = excess - bias
        # noise can make a method look nearer than exact draws: no less than a hundredth of a nat
        debiased = (masking - bias) / np.maximum(above, 0.01)
        cells = [float(np.median(x)) for x in (excess, above, reduction, debiased)]
        lines.append(f"| {method} | {len(tasks)} | " + " | ".join(map(shown, cells)) + " |")
    return "\n".join(lines)


# -- the program -------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--part", choices=("a", "b"), required=True)
    parser.add_argument("--method", default=",".join(METHODS), help="with commas")
    parser.add_argument("--family", default=",".join(FAMILIES), help="of part b, with commas")
    parser.add_argument("--limit", type=int, default=5, help="tasks of each family")
    parser.add_argument("--what", choices=("acceptance", "divergence", "all"), default="all")
    parser.add_argument("--count", type=int, default=500, help="samples")
    parser.add_argument(
        "--attempts",
        type=int,
        default=300,
        help="of rejection: a sample (a), in all (b)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path, help="records, written after each of them")
    given = parser.parse_args()
    given.methods = given.method.split(",")
    given.families = given.family.split(",")
    return given


def main() -> None:
    """Runs a part, keeps what there is so far, prints the table."""
    given = arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    model, tokenizer = load_model(dtype=given.dtype)
    records: list[dict[str, Any]] = []
    for record in (part_a if given.part == "a" else part_b)(model, tokenizer, given):
        records.append(record)
        if given.json:
            given.json.write_text(json.dumps(records, indent=1))
    if given.part == "a":
        print(table(records))
    else:
        print(table([r for r in records if "acceptance" in r]), "\n")
        print(table([r for r in records if "excess" in r]), "\n")
        print(summary(records))


if __name__ == "__main__":
    main()
