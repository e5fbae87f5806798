"""What a grammar costs on a vocabulary: compiling, first masks, masks, distances."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

import numpy as np
from rich.table import Table

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar
from samplers.tracing import cut, tokenizer_of

T = TypeVar("T")

_LONGEST: Final = 400
"""Bytes of a sampled text, about."""


@dataclass(frozen=True)
class Costs:
    """Times of one process, in milliseconds; of masks in microseconds.

    Attributes:
        compile_ms: from the text to the grammar, kernels ready.
        states: of the compiled grammar.
        automaton_ms: a ``TokenAutomaton`` of it.
        first_mask_ms: the first mask.
        first_budget_ms: the fewest tokens to the end, from the start.
        masks: how many masks were asked for in each round.
        cold_us, warm_us: p50, p90, p99 and largest of the first round, and of a second one.
        allowed: tokens allowed, on average.
        vocabulary: its size.
    """

    compile_ms: float
    states: int
    automaton_ms: float
    first_mask_ms: float
    first_budget_ms: float
    masks: int
    cold_us: tuple[float, float, float, float]
    warm_us: tuple[float, float, float, float]
    allowed: float
    vocabulary: int

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)


def cost_of(read: Callable[[], Grammar], model: str, texts: int) -> Costs:
    """Measures a grammar on sampled texts.

    Args:
        read: makes the grammar; called twice, since the first time kernels are loaded too.
        model: whose tokenizer cuts the texts.
        texts: how many are sampled.
    """
    tokenizer = tokenizer_of(model)
    vocabulary = Vocabulary.from_huggingface(tokenizer)
    warmed = TokenAutomaton(Grammar.from_regex("[a-c]{1,3}"), vocabulary)  # kernels and trie
    warmed.mask(warmed.start)
    warmed.min_tokens_to_accept(warmed.start)
    read()
    grammar, compile_ms = _timed(read)
    automaton, automaton_ms = _timed(lambda: TokenAutomaton(grammar, vocabulary))
    _, first_mask_ms = _timed(lambda: automaton.mask(automaton.start))
    _, first_budget_ms = _timed(lambda: automaton.min_tokens_to_accept(automaton.start))
    walks = list(_walks(grammar, tokenizer, vocabulary, texts))
    row = np.zeros((vocabulary.size + 31) // 32, np.int32)
    cold: list[float] = []
    warm: list[float] = []
    allowed = 0
    for times in (cold, warm):
        for walk in walks:
            state = automaton.start
            for token in walk:
                begun = time.perf_counter()
                automaton.fill_mask(state, row)
                times.append(1e6 * (time.perf_counter() - begun))
                if times is warm:
                    allowed += int(np.bitwise_count(row.view(np.uint32)).sum())
                state = automaton.advance(state, token)
    return Costs(
        *(compile_ms, grammar.program.states, automaton_ms, first_mask_ms, first_budget_ms),
        *(len(cold), _percentiles(cold), _percentiles(warm)),
        *(allowed / max(len(warm), 1), vocabulary.size),
    )


def _walks(
    grammar: Grammar, tokenizer: Any, vocabulary: Vocabulary, texts: int
) -> Iterator[list[int]]:
    """Sampled texts as token ids; those with bytes that the vocabulary lacks are passed over."""
    for seed in range(texts):
        with suppress(ValueError):
            yield cut(tokenizer, vocabulary, grammar.sample(seed, _LONGEST))


def _timed(run: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    found = run()
    return found, 1e3 * (time.perf_counter() - begun)


def _percentiles(times: list[float]) -> tuple[float, float, float, float]:
    if not times:
        return (0.0, 0.0, 0.0, 0.0)
    p50, p90, p99, most = np.percentile(times, [50, 90, 99, 100]).tolist()
    return (p50, p90, p99, most)


def table_of_costs(costs: Costs) -> Table:
    """The costs for a terminal."""
    table = Table()
    table.add_column("what")
    for name in ("p50", "p90", "p99", "largest"):
        table.add_column(name, justify="right")
    for name, value in (
        (f"compile, {costs.states:,} states", costs.compile_ms),
        ("token automaton", costs.automaton_ms),
        ("first mask", costs.first_mask_ms),
        ("first budget", costs.first_budget_ms),
    ):
        table.add_row(name, f"{value:,.2f} ms", "", "", "")
    for name, times in (("mask, first time", costs.cold_us), ("mask, again", costs.warm_us)):
        table.add_row(f"{name} ({costs.masks:,})", *(f"{x:,.1f} us" for x in times))
    table.add_row(
        "tokens allowed, average", f"{costs.allowed:,.0f} of {costs.vocabulary:,}", "", "", ""
    )
    return table
