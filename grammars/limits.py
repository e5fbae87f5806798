"""Resource limits: every one states its default and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Bounds on what a grammar may cost.  Reaching one raises ``LimitExceeded`` with its name.

    Attributes:
        max_dfa_states: states of one rule's automaton while it is built (default 100,000; about
            0.2 KB each during construction).  Bounded repetition of long text and intersections
            of patterns are what reach it.
        max_program_states: states of the whole compiled grammar (default 2,000,000; 4 bytes per
            byte class and state, usually about 0.2 KB).
        max_expression_nodes: nodes of the intermediate form (default 5,000,000; about 0.1 KB each).
        max_states: automaton states kept by one ``TokenAutomaton`` (default 4,000,000; about
            60 bytes each).  ``trim`` releases those no longer needed.
        max_cached_masks: masks kept by one ``TokenAutomaton`` (default 2,048; V/8 bytes each, 16 KB
            for a 128k vocabulary).  The oldest goes first; nothing fails.
        max_items: simultaneous readings of one ambiguous prefix (default 20,000; 12 bytes each).
        max_mask_work: work for one mask, or for one step by a token, in units of some 15 ns (default
            420,000, about 6 ms): 1 for a node of the vocabulary's trie visited, 4 more where a state
            there has several configurations, 5 for each of these that is stepped from and 2 for each
            that is reached.  Vocabularies of more than 128k tokens are allowed more, in proportion, so
            that one walk over the whole trie fits.  Where it is reached, three eighths of it having been
            kept for short tokens, the mask leaves out long tokens that are allowed, see
            ``TokenAutomaton.approximations``; nothing wrong is let in.  A step raises ``LimitExceeded``;
            called again it goes on from where it stopped.
        max_distance_work: work of one search for the fewest tokens to the end, in units of some 10 ns
            (default 200,000, about 2 ms).  Where it does not suffice ``min_tokens_to_accept`` is an
            upper bound: the fewest tokens that write a shortest text.
        max_search_states: states examined by one search for the shortest completion (default
            200,000).  Where it is reached ``min_tokens_to_accept`` is an upper bound.
        max_work: work of one call that compiles, samples, explains or reads a text, in units of about
            a microsecond of what this takes in Python (default 4,000,000, some 2 to 5 s); reading a text
            has as much again for each of its bytes as ordinary ones need.  See :mod:`grammars.work`.
        max_schema_branches: alternatives that one place of a JSON schema may fall apart into when
            its combinators are multiplied out (default 4,096; about 1 KB each).
    """

    max_dfa_states: int = 100_000
    max_program_states: int = 2_000_000
    max_expression_nodes: int = 5_000_000
    max_states: int = 4_000_000
    max_cached_masks: int = 2_048
    max_items: int = 20_000
    max_mask_work: int = 420_000
    max_distance_work: int = 200_000
    max_search_states: int = 200_000
    max_work: int = 4_000_000
    max_schema_branches: int = 4_096

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Limits.{field.name} must be a whole number, not {value!r:.80}")
            if value < 0:
                raise ValueError(f"Limits.{field.name} must not be negative: {value}")

    def at_most(self, other: Limits) -> Limits:
        """Of each limit the lower one of two."""
        names = [field.name for field in fields(self)]
        return Limits(**{name: min(getattr(self, name), getattr(other, name)) for name in names})


DEFAULT_LIMITS = Limits()
