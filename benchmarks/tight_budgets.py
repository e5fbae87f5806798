"""Does every text end within a tight budget?  Choices from masks of real schemas, judged by jsonschema.

For each schema, budgets of exactly the fewest tokens that are known to suffice, and of a few more.  Each
text is written token by token from the masks, in one of three ways: any allowed token, each as likely; that
after which most is needed (an adversary); one of letters and digits where there is such a token, so that
strings and keys grow.  A text counts if it ends with EOS within the budget, parses, and holds for the
schema by ``jsonschema``.

Usage: ``python benchmarks/tight_budgets.py --data PATH [--texts 900] [--seed 0] [--tokenizer llama3]``
``[--order schema]``; PATH as for ``schema_coverage.py``.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
from jsonschema import exceptions, validators
from reporting import say
from schema_coverage import load, read_examples

from constrain import TokenAutomaton
from grammars import Grammar, GrammarError

_MORE: Final = (0, 0, 1, 2, 5, 13)
"""Tokens beyond the fewest."""
_WAYS: Final = ("any", "furthest", "ordinary")
_COMPARED: Final = 24
"""Allowed tokens of which the adversary takes the worst."""
_MOST_TOKENS: Final = 2_000
"""Schemas whose shortest text has more are passed over."""


def chosen(automaton: TokenAutomaton, state: int, left: int, way: str, rng: random.Random) -> int:
    """A token that is allowed; -1 if none is."""
    allowed = automaton.allowed_tokens(state, left)
    if not len(allowed):
        return -1
    ends = automaton.vocabulary.eos_token_ids
    tokens = [t for t in allowed.tolist() if t not in ends]
    if not tokens:
        return int(allowed[0])
    if way == "ordinary":
        texts = automaton.vocabulary.texts
        plain = [t for t in tokens if texts[t].isalnum()]
        return rng.choice(plain or tokens)
    if way == "furthest":
        some = rng.sample(tokens, min(len(tokens), _COMPARED))
        needed = [automaton.min_tokens_to_accept(automaton.advance(state, t)) for t in some]
        return some[int(np.argmax(needed))]
    return rng.choice(allowed.tolist())


def written(
    automaton: TokenAutomaton, budget: int, way: str, rng: random.Random
) -> tuple[str, list[int]]:
    """Why a text is not complete ("" if it is), and its tokens."""
    state, left = automaton.start, budget
    ids: list[int] = []
    while state != automaton.FINISHED:
        if left == 0:
            return "too long", ids
        token = chosen(automaton, state, left, way, rng)
        if token < 0:
            return "no token is allowed", ids
        ids.append(token)
        state = automaton.advance(state, token)
        if state == automaton.DEAD:
            return "an allowed token leads nowhere", ids
        left -= 1
    return "", ids


def judged(schema: Any, text: bytes) -> str:
    """What is wrong with a text; "" if nothing is."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    try:
        validators.validator_for(schema)(schema).validate(value)
    except exceptions.ValidationError as error:
        return f"invalid: {error.message[:80]}"
    return ""


def main() -> None:
    """Prints how many texts are complete and valid, and what is wrong with others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--order", choices=["schema", "any"], default="schema")
    parser.add_argument("--tokenizer", default="llama3")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    _, vocabulary = load(options.tokenizer)
    examples = read_examples(options.data, 0, options.seed)
    rng.shuffle(examples)
    counts: Counter[str] = Counter()
    seconds: list[float] = []
    done = 0
    for example in examples:
        if done >= options.texts:
            break
        try:
            grammar = Grammar.from_json_schema(example.schema, property_order=options.order)
            automaton = TokenAutomaton(grammar, vocabulary)
        except GrammarError:
            counts["(schemas refused)"] += 1
            continue
        fewest = automaton.search_further(automaton.start)[0] + 1
        if fewest > _MOST_TOKENS:
            counts["(schemas passed over)"] += 1
            continue
        for way in _WAYS:
            budget = fewest + rng.choice(_MORE)
            began = time.thread_time()
            wrong, ids = written(automaton, budget, way, rng)
            seconds.append((time.thread_time() - began) / max(1, len(ids)))
            text = b"".join(vocabulary.texts[t] for t in ids if vocabulary.texts[t])
            wrong = wrong or judged(example.schema, text)
            counts[wrong.split(":")[0] or "complete and valid"] += 1
            if wrong:
                say(
                    f"{example.id}, {way}, budget {budget} (fewest {fewest}): {wrong}: {text[-200:]!r}"
                )
            done += 1
            if done % 150 == 0:
                say(f"{done} texts")
    print(f"{options.tokenizer}, order {options.order!r}, {done} texts, seed {options.seed}\n")
    print("| outcome | texts |\n|---|---:|")
    for outcome, count in counts.most_common():
        print(f"| {outcome} | {count} |")
    print(f"\n{1e3 * float(np.median(seconds)):.2f} ms a token, median")


if __name__ == "__main__":
    main()
