"""How well samplers follow the model's own law given a grammar.

Part a: small languages whose token sequences can be enumerated, with a real model.  Q is computed
exactly, so that total variation and KL of what a method drew are numbers, not estimates; beside them
the same figures of as many exact draws (a finite sample never looks exact).  For methods that learn,
the exact total variation of the next sample's law, read off the trie, and masking's.

Part b: the tasks of ``aligned_tasks.py``.  Z is unknown there, so KL(Q~ || P) is estimated from the
samples' own frequencies (Park et al. 2024); the excess of two methods over the same unknown optimum
differs by the difference of these.  Acceptance, log-probability of the best sample, model calls.

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
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from aligned_tasks import FAMILIES, AlignedTask

import samplers
from constrain import TokenAutomaton, load_model
from constrain.extraction import automaton_for
from grammars import Grammar
from samplers import Sample, SpeculativeBackend
from samplers.estimates import divergence
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.tree import ROOT, Tree

Text: TypeAlias = tuple[int, ...]

MOST = 6_000
"""Token sequences of a language, at most."""
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
    """Laws of a language: the model's given the grammar, and masking's."""

    mass: float
    law: dict[Text, float]
    masked: dict[Text, float]


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
    return Exact(mass, {text: p / mass for text, p in raw.items()}, masked)


def scored(model: Any, prompt: Sequence[int], prefixes: Sequence[Text]) -> dict[Text, np.ndarray]:
    """float64[V], log-probabilities after each prefix."""
    scorer = TreeScorer(model, 1, len(prompt) + CHUNK + 64)
    scorer.score([Request(list(prompt[:-1]), Tree(None))])
    scorer.commit([[]])
    out: dict[Text, np.ndarray] = {}
    todo = list(prefixes)
    while todo:
        tree, nodes = Tree(0), {(): ROOT}
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
    law = facts.pop("law", None)
    out = {
        "language": language.name,
        "method": method,
        "samples": count,
        "mass": truth.mass,
        "masking_tv": variation(truth.masked, truth.law),
        "tv": variation(drawn, truth.law),
        "kl": relative(drawn, truth.law),
        "next_tv": None if law is None else variation(law, truth.law),
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
    if isinstance(sampler, samplers.ASAp | samplers.CARS | samplers.ARS):
        memory = sampler.memory(prompt, budget, 1.0)
        facts["acceptance"] = round(memory.report.rate, 4)
        facts["law"] = memory.trie.law()
    elif hasattr(sampler, "report"):
        facts["acceptance"] = round(sampler.report(prompt, budget).rate, 4)
    if hasattr(sampler, "switch"):
        facts["switch"] = asdict(sampler.switch)["method"]
    return samples, facts


# -- part b ------------------------------------------------------------------------------------------


def part_b(model: Any, tokenizer: Any, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record a task and method."""
    for family in given.families:
        for task in FAMILIES[family]()[: given.limit]:
            yield from _task(task, model, tokenizer, given)


def _task(
    task: AlignedTask, model: Any, tokenizer: Any, given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    automaton = automaton_for(task.make(), tokenizer, model)
    prompt = task.prompt_ids(tokenizer)
    for name in given.methods:
        made = one_method(name, model, tokenizer, automaton, prompt, task.budget, given)
        if isinstance(made, str):
            say(f"{task.family} {task.name}, {name}: {made}")
            continue
        samples, facts = made
        facts.pop("law", None)
        record = {
            "family": task.family,
            "task": task.name,
            "method": name,
            "samples": len(samples),
            "kl_to_model": divergence(samples),
            "best_logprob": max(s.logprob for s in samples),
            "mean_logprob": math.fsum(s.logprob * s.weight for s in samples)
            / math.fsum(s.weight for s in samples),
            **facts,
        }
        say(f"{task.family} {task.name}, {name}: KL(Q~||P) {record['kl_to_model']:.2f}, {facts}")
        yield record


# -- the program -------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_shown(r.get(c)) for c in columns) + " |" for r in records]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--part", choices=("a", "b"), required=True)
    parser.add_argument("--method", default=",".join(METHODS), help="with commas")
    parser.add_argument("--family", default=",".join(FAMILIES), help="of part b, with commas")
    parser.add_argument("--limit", type=int, default=5, help="tasks of each family")
    parser.add_argument("--count", type=int, default=500, help="samples")
    parser.add_argument("--attempts", type=int, default=300, help="for one sample, of rejection")
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
    print(table(records))


if __name__ == "__main__":
    main()
