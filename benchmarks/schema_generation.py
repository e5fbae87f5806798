"""Are texts that grammars of real schemas produce valid, whatever a model prefers?

For every schema, in both orders of properties: some texts by ``Grammar.sample`` and some written
token by token under a budget, each token chosen uniformly among all that the mask allows (what a
model with random logits does; EOS is one of them).  Each text is parsed, checked for keys that come
twice in an object, and validated with jsonschema-rs, formats asserted.  Texts are

* valid,
* rounding: valid with numbers read exactly and not as doubles (which may overflow), or the other
  way round,
* invalid: neither (or no JSON, or a key that comes twice),
* dead end: no token is allowed and the text is not complete,
* truncated: the budget is spent and the text is not complete,
* failed: an error while the text was written.

Schemas are compiled, refused, stopped by a limit, empty (no text exists), over the budget (the
shortest text does not fit; ``max_new_tokens`` is refused with a clear error), without validator (none
can use the schema), or died (the process ended, grew beyond 6 GB, or took longer than 60 s).

Usage: ``python benchmarks/schema_generation.py --data PATH [--order schema,any] [--texts 3]``
``[--budget 256] [--tokenizer smollm2] [--limit 100] [--seed 0] [--jobs 2]``

PATH: see ``schema_coverage.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from schema_coverage import Example, PythonValidator, load, read_examples, validator_of
from schema_suite import gist, reason, run_all

from constrain import BudgetError, TokenAutomaton, Vocabulary
from constrain.huggingface.processor import check_budget
from grammars import Grammar, LimitExceeded

SECONDS = 60.0
"""For one schema in one order."""

TEXTS = ("valid", "rounding", "invalid", "dead end", "truncated", "failed")
SCHEMAS = ("compiled", "refused", "limit", "empty", "over budget", "no validator", "died")


class Stuck(Exception):  # noqa: N818 - the message says what happened
    """A text that could not be written to its end."""

    def __init__(self, outcome: str, text: bytes) -> None:
        super().__init__(outcome)
        self.outcome, self.text = outcome, text


class DuplicateKey(ValueError):  # noqa: N818
    """A key comes twice in an object."""


@dataclass
class Text:
    """A text that is not valid."""

    way: str
    seed: int
    outcome: str
    text: str
    why: str


@dataclass
class Outcome:
    """What became of a schema in one order."""

    id: str
    kind: str = "compiled"
    why: str = ""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Texts by way and outcome."""
    bad: list[Text] = field(default_factory=list)


# --- writing -------------------------------------------------------------------------------------


def write(automaton: TokenAutomaton, budget: int, seed: int) -> bytes:
    """A text of at most ``budget`` tokens, EOS included, every token chosen uniformly.

    Raises:
        Stuck: if it cannot be completed.
    """
    rng = random.Random(seed)
    vocabulary = automaton.vocabulary
    state, text = automaton.start, bytearray()
    for left in range(budget, 0, -1):
        allowed = automaton.allowed_tokens(state, left)
        if not len(allowed):
            raise Stuck("dead end", bytes(text))
        token = int(allowed[rng.randrange(len(allowed))])
        state = automaton.advance(state, token)
        if state == automaton.FINISHED:
            return bytes(text)
        text += vocabulary.token_bytes(token) or b""
        if state == automaton.DEAD:
            raise Stuck("dead end", bytes(text))
    raise Stuck("truncated", bytes(text))


def ways(
    grammar: Grammar, automaton: TokenAutomaton | None, budget: int
) -> Iterator[tuple[str, Callable[[int], bytes]]]:
    """The two ways to write a text from a seed."""
    yield "sample", grammar.sample
    if automaton is not None:
        yield "tokens", lambda seed: write(automaton, budget, seed)


# --- checking ------------------------------------------------------------------------------------


def parse(text: bytes, exact: bool) -> Any:
    """The value; numbers with a fraction or an exponent as ``Decimal`` if ``exact``.

    Raises:
        ValueError: if it is no JSON, or a key comes twice in an object.
    """

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(found)
        if len(value) < len(found):
            twice = [key for key, n in Counter(key for key, _ in found).items() if n > 1]
            raise DuplicateKey(f"key {twice[0]!a} comes twice")
        return value

    return json.loads(text, parse_float=Decimal if exact else float, object_pairs_hook=pairs)


def check(validator: Any, text: bytes, schema: Any) -> tuple[str, str]:
    """The outcome of a text that is complete, and what is wrong with it."""
    try:
        value, exactly = parse(text, exact=False), parse(text, exact=True)
    except ValueError as error:
        return "invalid", reason(error)
    complaint = first_error(validator, value)
    exact_complaint = first_error(validator, exactly)
    if complaint is None and exact_complaint is None:
        return "valid", ""
    if complaint is None or exact_complaint is None:
        kind = "as doubles" if complaint else "exactly"
        return "rounding", f"invalid {kind}: {complaint or exact_complaint}"
    return "invalid", f"{complaint} (jsonschema says {second_opinion(schema, value)})"


def first_error(validator: Any, value: Any) -> str | None:
    """What jsonschema-rs finds first."""
    for error in validator.iter_errors(value):
        place = "/".join(str(part) for part in error.instance_path)
        return f"/{place}: {str(error.message)[:200]}"
    return None


def second_opinion(schema: Any, value: Any) -> str:
    """What the package jsonschema says."""
    try:
        return "valid" if PythonValidator(schema).is_valid(value) else "invalid"
    except Exception as error:
        return reason(error)[:100]


def examine(example: Example, order: str, vocabulary: Vocabulary, options: Any) -> Outcome:
    """Texts of one schema in one order."""
    outcome = Outcome(example.id)
    try:
        validator = validator_of(example.schema)
    except BaseException as error:
        return Outcome(example.id, "no validator", reason(error)[:300])
    automaton = None
    try:
        grammar = Grammar.from_json_schema(
            example.schema, property_order="any" if order == "any" else "schema"
        )
        if grammar.is_empty:
            return Outcome(example.id, "empty", str(grammar.explain(b"")))
        automaton = TokenAutomaton(grammar, vocabulary)
        check_budget(automaton, options.budget)
    except BudgetError as error:
        outcome.kind, outcome.why, automaton = "over budget", str(error), None
    except Exception as error:
        kind = "limit" if isinstance(error, LimitExceeded) else "refused"
        return Outcome(example.id, kind, reason(error))
    for way, make in ways(grammar, automaton, options.budget):
        for seed in range(options.seed, options.seed + options.texts):
            text = b""
            try:
                text = make(seed)
                kind, why = check(validator, text, example.schema)
            except Stuck as stuck:
                kind, why, text = stuck.outcome, "", stuck.text
            except Exception as error:
                kind, why = "failed", reason(error)
            outcome.counts[way, kind] += 1
            if kind != "valid":
                shown = text.decode("utf-8", "backslashreplace")
                outcome.bad.append(Text(way, seed, kind, shown, why))
    return outcome


# --- the report ----------------------------------------------------------------------------------


def list_bad(order: str, outcomes: list[Outcome], width: int) -> None:
    """Prints every failure with its text, and why schemas were left out."""
    causes: Counter[str] = Counter()
    for outcome in outcomes:
        if outcome.kind != "compiled":
            causes[f"{outcome.kind}: {gist(outcome.why)}"] += 1
        if outcome.kind not in ("compiled", "refused"):
            print(f"{outcome.id} ({order}): {outcome.kind}: {outcome.why}")
        for bad in outcome.bad:
            print(f"{outcome.id} ({order}, {bad.way}, seed {bad.seed}): {bad.outcome}: {bad.why}")
            shown = bad.text if len(bad.text) <= width else f"{bad.text[:width]} ..."
            print(f"    {shown!a}")
    if causes:
        print(f"\nNot written, order {order!r}:")
        for cause, number in causes.most_common():
            print(f"{number:6,}  {cause}")
    print()


def text_rows(order: str, outcomes: list[Outcome]) -> Iterator[str]:
    """Rows of the table of texts."""
    counts = sum((outcome.counts for outcome in outcomes), Counter[tuple[str, str]]())
    for way in ("sample", "tokens"):
        total = sum(counts[way, kind] for kind in TEXTS)
        cells = " | ".join(f"{counts[way, kind]:,}" for kind in TEXTS)
        yield f"| {order} | {way} | {total:,} | {cells} |"


def main() -> None:
    """Prints failures and two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--order", default="schema,any", help="of schema,any")
    parser.add_argument("--texts", type=int, default=3, help="texts of each kind")
    parser.add_argument("--budget", type=int, default=256, help="tokens, EOS included")
    parser.add_argument("--tokenizer", default="smollm2")
    parser.add_argument("--limit", type=int, default=0, help="a random choice of so many schemas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--id", default="", help="only schemas with this in their ids")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--width", type=int, default=400, help="characters shown of a text")
    options = parser.parse_args()
    orders = options.order.split(",")
    if unknown := set(orders) - {"schema", "any"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")

    examples = read_examples(options.data, options.limit, options.seed, options.id)
    _, vocabulary = load(options.tokenizer)
    schemas, texts = [], []
    for order in orders:
        answers = run_all(
            lambda example, order=order: examine(example, order, vocabulary, options),
            examples,
            jobs=options.jobs,
            seconds=SECONDS,
            label=f"order {order}",
        )
        outcomes = [
            Outcome(example.id, "died", answer.lost) if answer.lost else answer.value
            for example, answer in zip(examples, answers, strict=True)
        ]
        list_bad(order, outcomes, options.width)
        kinds = Counter(outcome.kind for outcome in outcomes)
        cells = " | ".join(f"{kinds[kind]:,}" for kind in SCHEMAS)
        schemas.append(f"| {order} | {len(outcomes):,} | {cells} |")
        texts += text_rows(order, outcomes)

    print(f"Budget {options.budget} tokens, {options.tokenizer}\n")
    print("| order | schemas | " + " | ".join(SCHEMAS) + " |")
    print("|---|" + "---:|" * (len(SCHEMAS) + 1))
    print("\n".join(schemas))
    print("\n| order | texts by | texts | " + " | ".join(TEXTS) + " |")
    print("|---|---|" + "---:|" * (len(TEXTS) + 1))
    print("\n".join(texts))


if __name__ == "__main__":
    main()
