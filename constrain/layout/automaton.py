"""``LayoutAutomaton``: rules, and indentation that opens and closes levels, token by token.

The product of a :class:`~constrain.rules.RuleAutomaton`, whose rules wait for marks of layout, and stacks
of widths (:mod:`grammars.layout.widths`).  Its places are integers that name spots
(:mod:`constrain.layout.places`).

**Masks.**  A token in which no line begins is as the rules say, whose masks are cached by their own states.
Where a line begins within a token, the rules are asked anew for what is below that node of the trie
(:mod:`constrain.layout.segments`).

**Which places are live.**  All: whatever the rules wait for, widths can be mended to give it, since a
newline may always be followed by another one and by any blanks (the front end refuses grammars in which it
may not), and INDENT and DEDENT are balanced.  That needs a vocabulary in which each byte is a token; others
are refused.  Where the deepest level that is allowed is near, see :mod:`constrain.layout.depths`.

**Budgets** count the tokens of a shortest text (:mod:`constrain.layout.completion`): an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int64
from constrain.completion.tokens import NEVER
from constrain.engine.pool import DEAD
from constrain.layout.broad import mark_broad
from constrain.layout.completion import Completions
from constrain.layout.places import Moves, Spot
from constrain.layout.segments import Segments
from constrain.masks.cache import MaskCache, Row
from constrain.masks.wide import tokens_at
from constrain.places import FIRST_PLACE, Places
from constrain.rules import RuleAutomaton
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.ir import Layout
from grammars.layout.widths import NEWLINE
from grammars.limits import Limits

_SPOT_BYTES: Final = 300
"""About what a spot takes."""

_BUDGETS: Final = (
    "Budgets: in grammars with indentation min_tokens_to_accept and masks with tokens_left count the tokens "
    "of one short text, and may ask for more than needed."
)


class LayoutAutomaton:
    """Spots of rules and widths with their masks and moves; implements ``constrain.core.Core``.

    The caller holds a lock.

    Args:
        grammar: the language.
        layout: how it reads indentation.
        vocabulary: the tokens.
        limits: bounds on memory and search.

    Attributes:
        start: the place of the empty text.
        rules: the automaton of the rules, which wait for marks of layout.

    Raises:
        GrammarError: if the language is empty, or the vocabulary lacks bytes that it needs.
    """

    def __init__(
        self, grammar: Grammar, layout: Layout, vocabulary: Vocabulary, limits: Limits
    ) -> None:
        self.rules: Final = RuleAutomaton(grammar, vocabulary, limits, judges_spelling=False)
        _check_vocabulary(self.rules, vocabulary)
        self.vocabulary: Final = vocabulary
        self.limits: Final = limits
        self.masks: Final = MaskCache(limits.max_cached_masks)
        pool = self._pool = self.rules.pool
        mark_broad(pool)
        self.moves: Final = Moves(pool, layout, self.rules.start)
        self.segments: Final = Segments(pool, self.moves, layout, vocabulary)
        self.completions: Final = Completions(pool, self.moves, layout, vocabulary)
        self._texts = vocabulary.texts
        self._places: Places[Spot] = Places(limits)
        self.place_of: Final[Callable[[int], int]] = self._places.place_of
        self.states_at: Final = self._places.states_at
        self._enough: dict[int, int] = {}
        self.state_at: Final[Callable[[int], int]] = int
        self.start: Final = self._number(self.moves.start)

    def _number(self, spot: Spot | None) -> int:
        return DEAD if spot is None else self._places.number(spot)

    def start_generation(self, number: int) -> None:
        """States given out from now on are not those of another copy (the start aside)."""
        self._places.start_generation(number)

    # -- moving --------------------------------------------------------------------------------

    def advance(self, state: int, token_id: int) -> int:
        """From state to state; the token is not EOS.

        Raises:
            ValueError: if the state is none of this automaton's.
        """
        if state in self._places.at:
            return self.after_token(state, token_id)
        self.place_of(state)
        return DEAD

    def after_token(self, place: int, token_id: int) -> int:
        """The place after a token; ``DEAD`` if it is not allowed."""
        return self.after_bytes(place, self._texts[token_id] or b"")

    def after_bytes(self, place: int, data: bytes) -> int:
        """The place after some bytes, which end a token; ``DEAD`` if no text goes on so."""
        if not data:
            return DEAD
        spot = self._places.at[place]
        if len(spot.readings) == 1 and NEWLINE not in data:
            state, stack = spot.readings[0]
            if not self.moves.is_newline(state):  # then no line begins: the rules' own step
                after = self.rules.move(state, data)
                if after == DEAD:
                    return DEAD
                if not self.moves.is_newline(after) and not self.moves.is_deep(stack):
                    return self._number(Spot(((after, stack),), 0))
        return self._number(self.moves.by_bytes(spot, data))

    def accepts(self, place: int) -> bool:
        """Whether the text may end here."""
        return self.moves.accepts(self._places.at[place])

    def signature(self, place: int, depth: int) -> tuple[int, ...]:
        """That of the rules' place: widths are left out."""
        return self.rules.signature(self._places.at[place].readings[0][0], depth)

    # -- masks ---------------------------------------------------------------------------------

    def mask(self, place: int) -> Row:
        """The allowed tokens, EOS included: int32[ceil(V/32)], read-only, cached."""
        known = self.masks.get(place)
        if known is not None:
            return known
        before = self.rules.rule_masks.cut_short
        row = self._make_mask(place)
        return self.masks.keep(place, row, only_once=self.rules.rule_masks.cut_short != before)

    def _make_mask(self, place: int) -> Row:
        row = np.zeros_like(self.rules.eos_row)
        segments = self.segments.of(self._places.at[place])
        for segment in segments:
            if segment.node == 0:
                row |= self.rules.mask(segment.state)
            else:
                self.rules.fill_below(segment.state, segment.node, row)
        row &= ~self.rules.eos_row
        if any(self.moves.is_deep(segment.stack) for segment in segments):
            self._clear_dead(place, row)
        if self.accepts(place):
            row |= self.rules.eos_row
        return row

    def _clear_dead(self, place: int, row: Row) -> None:
        """Clears the bits of tokens behind which more levels are needed than are allowed."""
        spot = self._places.at[place]
        flags = np.unpackbits(row.view(np.uint8), bitorder="little")
        for token in np.flatnonzero(flags).tolist():
            if self.moves.by_bytes(spot, self._texts[token] or b"") is None:
                row.view(np.uint32)[token >> 5] &= np.uint32(~(1 << (token & 31)) & 0xFFFFFFFF)

    # -- edges ---------------------------------------------------------------------------------

    def edges(self, place: int) -> tuple[Int64, Int64]:
        """The allowed tokens, EOS aside, ascending, and the place after each, one by one."""
        flags = np.unpackbits(
            (self.mask(place) & ~self.rules.eos_row).view(np.uint8), bitorder="little"
        )
        allowed = np.flatnonzero(flags).astype(np.int64)
        after = np.array([self.after_token(place, t) for t in allowed.tolist()], np.int64)
        return allowed, after

    def walk_from(self, place: int, node: int, enter: bool) -> tuple[Row, Int64, Row]:
        """Byte by byte, left where a byte is refused."""
        trie = self.vocabulary.trie
        spot = self._places.at[place]
        ends: list[int] = []
        places: list[int] = []
        exits: list[int] = [node] if not enter and self.moves.accepts(spot) else []
        for at, after in self._walk(spot, node, enter):
            if trie.token_start[at] < trie.token_start[at + 1]:
                ends.append(at)
                places.append(self._number(after))
            if self.moves.accepts(after):
                exits.append(at)
        return np.array(ends, np.int32), np.array(places, np.int64), np.array(exits, np.int32)

    def _walk(self, spot: Spot, node: int, enter: bool) -> Iterator[tuple[int, Spot]]:
        """The trie nodes reached below a node, and the spots there."""
        trie = self.vocabulary.trie
        begin = node if enter else node + 1
        path = [spot]
        top = int(trie.depth[begin]) if begin < trie.node_count else 0
        at, end = begin, int(trie.skip[node])
        while at < end:
            level = int(trie.depth[at]) - top
            del path[level + 1 :]
            after = self.moves.by_bytes(path[level], bytes((int(trie.byte[at]),)))
            if after is None:
                at = int(trie.skip[at])
                continue
            path.append(after)
            yield at, after
            at += 1

    # -- budgets -------------------------------------------------------------------------------

    def fewest(self, place: int) -> tuple[int, bool]:
        """Tokens to an accepting place, an upper bound, and whether it is exact."""
        if self.accepts(place):
            return 0, True
        count = len(self.completions.tokens(self._places.at[place]))
        return count, count <= 1

    def search_further(self, place: int) -> tuple[int, bool]:
        """The same: there is no further search."""
        return self.fewest(place)

    def enough_tokens(self, place: int) -> int:
        """A number of tokens left from which on a budget takes nothing from the mask of a place."""
        return self._enough.get(place, NEVER)

    def mask_within(self, place: int, tokens_left: int) -> Row:
        """Those after which the text, EOS included, can be completed in ``tokens_left - 1``.

        A subset: each is judged by the tokens of one text.
        """
        row = self.mask(place)
        if tokens_left >= self._enough.get(place, NEVER):
            return row
        spot = self._places.at[place]
        within = np.zeros_like(row)
        if self.fewest(place)[0] >= tokens_left:
            return within
        plan = self.completions.tokens(spot)
        if plan:
            after = self.moves.by_bytes(spot, self._texts[plan[0]] or b"")
            self.completions.note(after, plan[1:])
        worst = 0
        for tokens, after in self._groups(place):
            needed = self.completions.at_most(after, tokens_left - 2)
            worst = max(worst, needed)
            if needed <= tokens_left - 2:
                np.bitwise_or.at(
                    within, tokens >> 5, (1 << (tokens & 31)).astype(np.uint32).view(np.int32)
                )
        if self.accepts(place):
            within |= self.rules.eos_row
        else:
            within[plan[0] >> 5] |= np.uint32(1 << (plan[0] & 31)).view(np.int32)
        if worst <= tokens_left - 2:
            self._enough[place] = worst + 2
            return row
        return within

    def _groups(self, place: int) -> Iterator[tuple[npt.NDArray[np.int64], Spot]]:
        """The allowed tokens, those that lead to one spot together."""
        trie = self.vocabulary.trie
        found: dict[Spot, list[npt.NDArray[np.int64]]] = {}
        singles: list[int] = []
        for segment in self.segments.of(self._places.at[place]):
            nodes, states, _ = self._pool.walk_from(trie, segment.state, segment.node)
            for state in np.unique(states).tolist():
                tokens, _ = tokens_at(trie, nodes[states == state])
                if self.moves.is_newline(state) or self.moves.is_deep(segment.stack):
                    singles += tokens.tolist()
                else:
                    spot = Spot(((state, segment.stack),), 0)
                    found.setdefault(spot, []).append(tokens.astype(np.int64))
        spot = self._places.at[place]
        for token in dict.fromkeys(singles):
            after = self.moves.by_bytes(spot, self._texts[token] or b"")
            if after is not None:
                found.setdefault(after, []).append(np.array([token], np.int64))
        for after, parts in found.items():
            yield np.concatenate(parts), after

    # -- what is forced ------------------------------------------------------------------------

    def forced_bytes(self, place: int) -> bytes:
        """Bytes that every completion begins with."""
        out = bytearray()
        spot = self._places.at[place]
        while not self.moves.accepts(spot):
            ways = self._bytes_on(spot)
            first, second = next(ways, None), next(ways, None)
            if first is None or second is not None:
                break
            out.append(first[0])
            spot = first[1]
        return bytes(out)

    def _bytes_on(self, spot: Spot) -> Iterator[tuple[int, Spot]]:
        for byte in range(256):
            after = self.moves.by_bytes(spot, bytes((byte,)))
            if after is not None:
                yield byte, after

    def reaches_below(self, place: int, data: bytes, node: int) -> bool:
        """Whether, after some bytes, tokens at or below a trie node go on."""
        after = self.moves.by_bytes(self._places.at[place], data)
        return after is not None and next(self._walk(after, node, False), None) is not None

    def approximations(self) -> tuple[str, ...]:
        """In which cases masks and budgets are not exact, a sentence each."""
        return (*self.rules.rule_masks.approximations(), _BUDGETS)

    # -- memory --------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """Places held now, the reserved ones included."""
        return len(self._places.at) + FIRST_PLACE

    @property
    def nbytes(self) -> int:
        """Memory of places and cached masks, in bytes (about)."""
        masks = self.masks.nbytes_beside(self.rules.masks)
        return self.rules.nbytes + masks + _SPOT_BYTES * len(self._places.at)

    def trim(self, places: set[int]) -> None:
        """Forgets all places but those given, the start among them."""
        kept = self._places.keep(places)
        self.masks.clear()
        self._enough.clear()
        states = {state for spot in kept.values() for state, _ in spot.readings}
        self.rules.trim(states | {self.rules.start})
        self.moves.forget()
        self.segments.forget()
        self.completions.trim(kept.values())


def _check_vocabulary(rules: RuleAutomaton, vocabulary: Vocabulary) -> None:
    """Refuses vocabularies with which it is not settled which texts can be completed."""
    alone = np.asarray(vocabulary.single_byte)
    blank = alone[0x20] or alone[0x09]
    if rules.spells_bytes and blank and alone[NEWLINE]:
        return
    raise GrammarError(
        "a grammar with indentation needs a vocabulary in which each of its bytes is a token by itself, "
        "a blank and a line end among them; use a tokenizer that falls back to bytes"
    )
