"""Are texts ever cut off?  Samples at temperature 1 under small token budgets, parsed and validated.

For each schema and budget: how many of the samples parse, validate (with jsonschema, not with the
engine that made them) and end with EOS inside the budget.  Then the same in one batch of four
prompts with four grammars, with four beams and with prompt lookup, all with one processor object
used again and again.  Where a schema's shortest document does not fit, the error that says so.

Usage: ``python benchmarks/complete_outputs.py [--samples 100] [--batch 25]``
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from typing import Any

import jsonschema
import torch

from constrain import BudgetError, GrammarLogitsProcessor, TokenAutomaton, Vocabulary, load_model
from grammars import Grammar

TEXT = {"type": "string"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "person": {
        "type": "object",
        "properties": {
            "name": TEXT,
            "age": {"type": "integer", "minimum": 0},
            "email": {"anyOf": [TEXT, {"type": "null"}]},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "list of tags": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"tag": {"type": "string", "minLength": 1}, "score": {"type": "number"}},
            "required": ["tag", "score"],
            "additionalProperties": False,
        },
        "minItems": 1,
    },
    "anything": {"type": "object", "minProperties": 0},
}
PROMPTS = [
    "Describe a person as JSON.",
    "List some tags with scores as JSON.",
    "Write any JSON object about the weather in Lisbon.",
    "Name three colours. Answer in JSON.",
]


def ids_of(tokenizer: Any, prompts: list[str]) -> Any:
    """Left-padded chat prompts."""
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        for prompt in prompts
    ]
    tokenizer.padding_side = "left"
    return tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)


def verdict(schema: Any, tokens: list[int], vocabulary: Vocabulary) -> str:
    """What is wrong with one answer, or "ok"."""
    ends = [i for i, token in enumerate(tokens) if token in vocabulary.eos_token_ids]
    if not ends:
        return "cut off"
    try:
        value = json.loads(vocabulary.decode(tokens[: ends[0]]))
    except ValueError:
        return "not JSON"
    return "ok" if jsonschema.Draft202012Validator(schema).is_valid(value) else "invalid"


class Run:
    """One model with automata for the schemas."""

    def __init__(self) -> None:
        self.model, self.tokenizer = load_model()
        self.vocabulary = Vocabulary.from_huggingface(self.tokenizer, model=self.model)
        self.automata = {
            name: TokenAutomaton(Grammar.from_json_schema(schema), self.vocabulary)
            for name, schema in SCHEMAS.items()
        }

    def generate(self, processor: Any, inputs: Any, budget: int, **options: Any) -> list[list[int]]:
        with torch.no_grad():
            out = self.model.generate(
                **inputs, logits_processor=[processor], max_new_tokens=budget, **options
            )
        return out[:, inputs["input_ids"].shape[1] :].tolist()

    def budgets(self, samples: int, batch: int) -> None:
        print(f"{samples} samples for each budget, temperature 1\n")
        print("| schema | budget | ok | else | tokens, median | s |")
        print("|---|---:|---:|---|---:|---:|")
        for (name, schema), prompt in zip(SCHEMAS.items(), PROMPTS, strict=False):
            for budget in (24, 48, 96):
                processor = GrammarLogitsProcessor(self.automata[name], max_new_tokens=budget)
                inputs = ids_of(self.tokenizer, [prompt] * batch)
                found: Counter[str] = Counter()
                lengths: list[int] = []
                began = time.perf_counter()
                for seed in range(-(-samples // batch)):
                    torch.manual_seed(seed)
                    rows = self.generate(
                        processor, inputs, budget, do_sample=True, top_k=0, temperature=1.0
                    )
                    verdicts = [verdict(schema, row, self.vocabulary) for row in rows]
                    found.update(verdicts)
                    for row, said in zip(rows, verdicts, strict=True):
                        if said != "ok":
                            print(f"{said}: {row} {self.vocabulary.decode(row)!r}")
                    lengths += [self._length(row) for row in rows]
                taken = time.perf_counter() - began
                others = {k: v for k, v in found.items() if k != "ok"} or "none"
                median = sorted(lengths)[len(lengths) // 2]
                total = sum(found.values())
                print(
                    f"| {name} | {budget} | {found['ok']}/{total} | {others} | {median} | {taken:.0f} |"
                )

    def _length(self, row: list[int]) -> int:
        return next(
            (i + 1 for i, t in enumerate(row) if t in self.vocabulary.eos_token_ids), len(row)
        )

    def ways(self, budget: int) -> None:
        """Four prompts with four grammars; beams; prompt lookup; one processor object."""
        names = [*SCHEMAS, next(iter(SCHEMAS))]
        processor = GrammarLogitsProcessor(
            [self.automata[name] for name in names], max_new_tokens=budget
        )
        single = GrammarLogitsProcessor(self.automata["person"], max_new_tokens=budget)
        batch = ids_of(self.tokenizer, PROMPTS)
        alone = ids_of(self.tokenizer, PROMPTS[:1])
        print("\n| way | ok |\n|---|---:|")
        for label, proc, inputs, options in (
            ("batch of 4 prompts, 4 grammars, sampled", processor, batch, {"do_sample": True, "top_k": 0}),
            ("the same, 4 beams", processor, batch, {"num_beams": 4, "do_sample": False}),
            ("the same processor again, greedy", processor, batch, {"do_sample": False}),
            ("prompt lookup, sampled", single, alone,
             {"prompt_lookup_num_tokens": 5, "do_sample": True, "top_k": 0}),
            ("prompt lookup, greedy", single, alone, {"prompt_lookup_num_tokens": 5, "do_sample": False}),
        ):  # fmt: skip
            found: Counter[str] = Counter()
            for seed in range(3):
                torch.manual_seed(seed)
                rows = self.generate(proc, inputs, budget, **options)
                schemas = [SCHEMAS[n] for n in names] if len(rows) == 4 else [SCHEMAS["person"]]
                found.update(
                    verdict(s, row, self.vocabulary) for s, row in zip(schemas, rows, strict=True)
                )
            print(f"| {label} | {found['ok']}/{sum(found.values())} |")

    def too_small(self) -> None:
        """The error for a budget in which nothing fits, before the first token."""
        processor = GrammarLogitsProcessor(self.automata["person"], max_new_tokens=6)
        try:
            self.generate(processor, ids_of(self.tokenizer, PROMPTS[:1]), 6)
        except BudgetError as error:
            print(f"\nbudget 6: BudgetError: {error}")


def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--batch", type=int, default=25)
    options = parser.parse_args()
    run = Run()
    run.budgets(options.samples, options.batch)
    run.ways(64)
    run.too_small()


if __name__ == "__main__":
    main()
