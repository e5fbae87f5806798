"""What short questions wait for while another thread asks a hard one: one automaton, several threads.

A thread asks a *hard* question again and again: masks, budget masks or distances of states that were not
visited before, or a search of a hundred times the usual work.  Meanwhile the main thread asks, of the *same*
automaton and of *another* one, what a server asks at every token, mostly of states that were visited before.
Each question is asked for ``--seconds``; the table has its median, 99 per cent and largest time in
microseconds, and beside it the longest hard call.

What a thread waits for is not its own work alone: the interpreter switches threads every 5 ms
(``sys.getswitchinterval``), so that with another thread in Python code single calls take as long.

Usage: ``python benchmarks/shared_automaton.py [--seconds 2] [--tokenizer smollm2-135m-instruct]``
"""

from __future__ import annotations

import argparse
import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from reporting import table

from constrain import TokenAutomaton, Vocabulary, allocate_bitmask
from constrain.models.fetching import tokenizer_name
from constrain.models.loading import load_tokenizer
from grammars import Grammar, LimitExceeded

AMBIGUOUS = 'root ::= x*\nx ::= [^\\x00]+ | [a-z ]+ | [^0-9]* "." | x x\n'
PRODUCTS: dict[str, Any] = {
    "type": "object",
    "allOf": [
        {"anyOf": [{"required": [f"left{i}"]}, {"required": [f"right{i}"]}]} for i in range(6)
    ],
}
OBJECTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "integer"}}


@dataclass(frozen=True)
class Hard:
    """A hard question.

    Attributes:
        name: of the grammar and what is asked.
        automaton: of the grammar.
        ask: asks once; its argument counts the calls.
    """

    name: str
    automaton: TokenAutomaton
    ask: Callable[[int], None]


def texts() -> Iterator[bytes]:
    """Ever new words."""
    for i in count():
        yield f"the {i} quick brown fox {i * i}. ".encode()


def hard_questions(vocabulary: Vocabulary) -> Iterator[Hard]:
    """What takes long."""
    rules = TokenAutomaton(Grammar.from_gbnf(AMBIGUOUS), vocabulary)
    words = texts()
    yield Hard("ambiguous text: new masks", rules, lambda _: walk(rules, next(words), None))
    schema = TokenAutomaton(Grammar.from_json_schema(PRODUCTS), vocabulary)
    yield Hard("allOf of anyOf: distances after trim", schema, lambda _: distance(schema))
    keys = TokenAutomaton(Grammar.from_json_schema(OBJECTS), vocabulary)
    yield Hard("object of any keys: budget masks", keys, lambda i: fields(keys, i))


def walk(automaton: TokenAutomaton, text: bytes, left: int | None) -> None:
    """Masks behind every fourth byte of a text."""
    state = automaton.start
    for at in range(0, len(text), 4):
        try:
            state = automaton.advance_bytes(state, text[at : at + 4])
            automaton.mask(state, left)
        except LimitExceeded:
            return


def distance(automaton: TokenAutomaton) -> None:
    """A search of a hundred times the work, as nothing is known."""
    automaton.trim({automaton.start})
    automaton.search_further(automaton.start)


def fields(automaton: TokenAutomaton, i: int) -> None:
    """Masks under tight budgets, some keys in."""
    text = "{" + ", ".join(f'"key{i + j}": {j}' for j in range(20))
    state = automaton.advance_bytes(automaton.start, text.encode())
    for left in range(4, 40, 4):
        automaton.mask(state, left)


Question = Callable[[], Any]


def short_questions(automaton: TokenAutomaton) -> dict[str, Question]:
    """What a server asks of visited states at every token."""
    state = automaton.start
    row = allocate_bitmask(1, automaton.vocabulary.size).numpy()[0]
    token = next(
        t for t in automaton.allowed_tokens(state).tolist()
        if t not in automaton.vocabulary.eos_token_ids
    )  # fmt: skip
    return {
        "mask": lambda: automaton.fill_mask(state, row),
        "budget mask": lambda: automaton.fill_mask(state, row, 500),
        "advance": lambda: automaton.advance(state, token),
        "is_accepting": lambda: automaton.is_accepting(state),
        "min_tokens": lambda: automaton.min_tokens(state),
    }


def times(ask: Question, seconds: float) -> np.ndarray[Any, Any]:
    """Microseconds of calls, one a millisecond."""
    found = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        ask()
        found.append(1e6 * (time.perf_counter() - began))
        time.sleep(1e-3)
    return np.array(found)


class Asking:
    """A thread that asks a hard question until it is stopped."""

    def __init__(self, hard: Hard) -> None:
        self._hard, self._stop = hard, False
        self.longest = 0.0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for i in count():
            if self._stop:
                return
            began = time.perf_counter()
            self._hard.ask(i)
            self.longest = max(self.longest, time.perf_counter() - began)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--tokenizer", default="smollm2-135m-instruct")
    given = parser.parse_args()
    vocabulary = Vocabulary.from_huggingface(load_tokenizer(tokenizer_name(given.tokenizer)))
    other = TokenAutomaton(Grammar.from_json_schema({"type": "array"}), vocabulary)
    records = []
    for hard in hard_questions(vocabulary):
        for place, automaton in (("same", hard.automaton), ("other", other)):
            for name, ask in short_questions(automaton).items():
                ask()
                gc.collect()
                gc.disable()
                with Asking(hard) as asking:
                    found = times(ask, given.seconds)
                gc.enable()
                p50, p99 = np.percentile(found, (50, 99))
                records.append(
                    {
                        "hard": hard.name,
                        "automaton": place,
                        "short": name,
                        "p50 µs": round(p50),
                        "p99": round(p99),
                        "max": round(found.max()),
                        "hard call ms": round(1e3 * asking.longest),
                    }
                )
    print(table(records))


if __name__ == "__main__":
    main()
