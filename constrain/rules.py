"""``RuleAutomaton``: what the rules of a grammar allow, token by token, uniqueness aside.

Places are states of one :class:`~constrain.engine.pool.StatePool`; :mod:`constrain.masks.rule_masks`
says what they do with the vocabulary, :mod:`constrain.completion.tokens` how soon they end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int64
from constrain.completion.bytes import ShortestTexts
from constrain.completion.tokens import Distances, RulesView
from constrain.engine.jit import kernels as k
from constrain.engine.pool import DEAD, END, FINISHED, NO_STATE, StatePool
from constrain.masks.cache import MaskCache, Row
from constrain.masks.rule_masks import RuleMasks
from constrain.masks.trie_positions import positions_of
from constrain.masks.wide import pack_bits, tokens_at
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.coverage import Spelling
from grammars.errors import GrammarError, LimitExceeded, UnknownStateError
from grammars.grammar import Grammar
from grammars.limits import Limits
from grammars.program import Program

_NO_LIMIT: Final = 1 << 62
_FURTHER: Final = 100
"""How much more work a search may take where a budget is about to be refused."""


def _few_bits(tokens: Sequence[int], size: int) -> Row:
    """A read-only row, int32[ceil(size/32)], with the bits of a few tokens set."""
    row = np.zeros((size + 31) // 32, np.uint32)
    for token in tokens:
        row[token >> 5] |= np.uint32(1 << (token & 31))
    row.setflags(write=False)
    return row.view(np.int32)


class RuleAutomaton:
    """States of one pool with their masks, distances and moves; implements ``constrain.core.Core``.

    The caller holds a lock.

    Args:
        grammar: the language; that keys or items must not repeat is left out.
        vocabulary: the tokens.
        limits: bounds on memory and search.
        judges_spelling: whether states that no tokens complete are dead.  Else all that bytes can
            complete are alive: a superset where some byte is no token, for the caller to judge.

    Attributes:
        grammar, vocabulary, limits: what it was made from.
        advance: from state to state by a token that is not EOS; raises ``ValueError`` for integers that
            are no states.
        start: the place of the empty text.
        pool: where the places are kept.
        positions: kinds of positions inside the vocabulary's tokens.
        spells_bytes: whether every byte of the program is a token.
        all_live: whether every place but ``DEAD`` is alive without a look at its tokens.
        rule_masks: what the places do with the vocabulary.
        masks: whole masks made so far, by place.
        eos_row: int32[ceil(V/32)], the mask of the EOS ids alone.

    Raises:
        GrammarError: if the language is empty, or none of its texts can be spelled in tokens.
    """

    def __init__(
        self,
        grammar: Grammar,
        vocabulary: Vocabulary,
        limits: Limits,
        *,
        judges_spelling: bool = True,
    ) -> None:
        if grammar.is_empty:
            raise GrammarError(f"no text satisfies this grammar. {grammar.explain(b'')}")
        spelling = Spelling(grammar, vocabulary)
        if spelling.program.is_empty:
            raise GrammarError(spelling.complaint())
        program = spelling.program
        self.grammar: Final = grammar
        self.vocabulary: Final = vocabulary
        self.limits: Final = limits
        self.spells_bytes: Final = spelling.trivial
        self.all_live: Final = spelling.trivial or not judges_spelling
        self.pool: Final = StatePool(program, vocabulary, limits)
        self.positions: Final = positions_of(vocabulary)
        self.eos_row: Final = _few_bits(vocabulary.eos_token_ids, vocabulary.size)
        self.masks: Final = MaskCache(limits.max_cached_masks)
        self._words = len(self.eos_row)
        self.rule_masks: Final = RuleMasks(self.pool, vocabulary)
        self.advance: Final[Callable[[int, int], int]] = (
            self._direct_advance() if self.all_live else self._judged_advance
        )
        self.place_of: Final[Callable[[int], int]] = self.pool.state_of
        self.state_at: Final[Callable[[int], int]] = self.pool.handle_of
        self.start: Final = self.pool.intern([(program.start, 0, END)])
        if not self._is_live(self.start):
            raise GrammarError(spelling.complaint())

    @property
    def rules(self) -> RuleAutomaton:
        """The automaton itself: it judges nothing but rules."""
        return self

    @property
    def program(self) -> Program:
        """The rules as flat arrays, restricted to bytes that the vocabulary has."""
        return self.pool.program

    # -- states and places ---------------------------------------------------------------------

    def states_at(self, places: npt.NDArray[np.integer]) -> Int64:
        """The states that are given out for places, int64[n]."""
        return self.pool.handles_of(places)

    def start_generation(self, number: int) -> None:
        """States given out from now on are not those of another copy (the start aside)."""
        self.pool.start_generation(number)

    # -- moving --------------------------------------------------------------------------------

    def _judged_advance(self, state: int, token_id: int) -> int:
        """From state to state; the place reached is judged by its tokens."""
        return self.state_at(self.after_token(self.place_of(state), token_id))

    def _direct_advance(self) -> Callable[[int, int], int]:
        """The same where all places are alive: one kernel, found once, as this is the step of a model."""
        pool, kernel = self.pool, k.advance_handle
        address, refresh = pool.address, pool.refresh

        def advance(state: int, token_id: int) -> int:
            refresh()
            try:
                out: int = kernel(address, state, token_id)
            except OverflowError:
                raise UnknownStateError(NO_STATE) from None
            if out < 0 and out != k.OUT_OF_WORK:
                out = pool.call(kernel, state, token_id)
            if out == k.OUT_OF_WORK:
                raise LimitExceeded(
                    "max_mask_work",
                    self.limits.max_mask_work,
                    "one step of this ambiguous text (the next call goes on from where this one stopped)",
                )
            return out

        return advance

    def after_token(self, place: int, token_id: int) -> int:
        """The place after a token; ``DEAD`` if it is not allowed."""
        out = self.pool.call(k.advance_token, place, token_id)
        return out if self._is_live(out) else DEAD

    def after_bytes(self, place: int, data: bytes) -> int:
        """The place after some bytes, which end a token; ``DEAD`` if no text goes on so."""
        out = self.move(place, data)
        return out if self._is_live(out) else DEAD

    def move(self, place: int, data: bytes) -> int:
        """The place after some bytes, whether tokens complete it or not."""
        text = np.frombuffer(data, np.uint8)
        return self.pool.call(k.advance, place, text.ctypes.data, len(text))

    def accepts(self, place: int) -> bool:
        """Whether the text may end here."""
        return self.pool.accepting(place)

    def signature(self, place: int, depth: int) -> tuple[int, ...]:
        """The innermost program states of a place, at most ``depth``, counts left out."""
        out: list[int] = []
        while len(out) < depth and place not in (DEAD, FINISHED, END):
            items = self.pool.items(place)
            if not items:
                break
            q, _, place = items[0]
            out.append(q)
        return tuple(out)

    def _is_live(self, place: int) -> bool:
        return self.all_live or place in (DEAD, FINISHED) or self.distances.reaches_end(place)

    # -- masks ---------------------------------------------------------------------------------

    def mask(self, place: int) -> Row:
        """The allowed tokens, EOS included: int32[ceil(V/32)], read-only, cached.

        A subset where the work allowed did not suffice; that is not kept, and the next call gets further.
        """
        known = self.masks.get(place)
        if known is not None:
            return known
        before = self.rule_masks.cut_short
        row = self._make_mask(place)
        return self.masks.keep(place, row, only_once=self.rule_masks.cut_short != before)

    def mask_within(self, place: int, tokens_left: int) -> Row:
        """The tokens after which the text, EOS included, can be completed in ``tokens_left - 1``.

        Where all of them are, that is the very row that :meth:`mask` returns.
        """
        return self.distances.mask(place, tokens_left)

    def _make_mask(self, place: int) -> Row:
        row = self.rule_masks.mask(place)
        if not self.all_live:
            row = self._live_tokens(place, row)
        if self.pool.accepting(place):
            row |= self.eos_row
        return row

    def _live_tokens(self, place: int, row: Row) -> Row:
        flags = np.unpackbits(row.view(np.uint8), bitorder="little")
        tokens = np.flatnonzero(flags)
        good = [t for t in tokens.tolist() if self.after_token(place, t) != DEAD]
        return pack_bits(np.array(good, np.int64), self.vocabulary.size)

    def reaches_below(self, place: int, data: bytes, node: int) -> bool:
        """Whether, after some bytes, tokens at or below a trie node go on (whatever they lead to)."""
        after = self.move(place, data)
        if after == DEAD:
            return False
        row = np.zeros(self._words, np.int32)
        self.fill_below(after, node, row)
        return bool(row.any())

    def fill_below(self, place: int, node: int, row: Row) -> None:
        """Sets the bits of tokens at or below a trie node that go on from a place kept for the node."""
        self.pool.call(k.fill_walk, place, node, row.ctypes.data, _NO_LIMIT, _NO_LIMIT)

    # -- edges ---------------------------------------------------------------------------------

    def walk_from(self, place: int, node: int, enter: bool) -> tuple[Row, Int64, Row]:
        """Nodes below a trie node at which allowed tokens end, the places there, exit nodes.

        See :meth:`constrain.TokenAutomaton.walk_from`.
        """
        ends, reached, exits = self.pool.walk_from(self.vocabulary.trie, place, node, enter)
        if not self.all_live:
            distinct, inverse = np.unique(reached, return_inverse=True)
            live = np.array([self._is_live(s) for s in distinct.tolist()], np.bool_)[inverse]
            ends, reached = ends[live], reached[live]
        return ends, reached.astype(np.int64), exits

    def edges(self, place: int) -> tuple[Int64, Int64]:
        """The allowed tokens, EOS aside, ascending, and the place after each, by one walk."""
        nodes, places, _ = self.walk_from(place, 0, False)
        tokens, owner = tokens_at(self.vocabulary.trie, nodes)
        # by token: cheaper than sorting tokens that come in the trie's order
        after = np.full(self.vocabulary.size, DEAD, np.int64)
        after[tokens] = places[owner]
        allowed = np.flatnonzero(after != DEAD)
        return allowed, after[allowed]

    # -- completion ----------------------------------------------------------------------------

    @cached_property
    def distances(self) -> Distances:
        """Fewest tokens to the end, and masks under a budget."""
        return Distances(
            RulesView(
                pool=self.pool,
                vocabulary=self.vocabulary,
                positions=self.positions,
                limits=self.limits,
                spells_bytes=self.spells_bytes,
                eos_row=self.eos_row,
                masks=self.rule_masks,
                texts=ShortestTexts(self.pool, self.vocabulary),
                mask_of=self.mask,
            )
        )

    def fewest(self, place: int) -> tuple[int, bool]:
        """Fewest tokens to an accepting place, and whether that is exact, not an upper bound."""
        return self.distances.fewest(place), self.distances.is_exact(place)

    def enough_tokens(self, place: int) -> int:
        """A number of tokens left from which on a budget takes nothing from the mask of a place."""
        return self.distances.dearest(place)[0] + 2

    def search_further(self, place: int) -> tuple[int, bool]:
        """The same after a search that may take a hundred times the work."""
        self.distances.refine(place, _FURTHER * self.limits.max_distance_work)
        return self.fewest(place)

    def approximations(self) -> tuple[str, ...]:
        """In which cases masks and budgets are not exact, a sentence each."""
        return (*self.rule_masks.approximations(), *self.distances.approximations())

    def forced_bytes(self, place: int) -> bytes:
        """The bytes that every completion begins with (empty if there is a choice, or EOS)."""
        out = bytearray()
        while place not in (DEAD, FINISHED) and not self.pool.accepting(place):
            byte, place = self.pool.only_byte(place)
            if place == DEAD:
                break
            out.append(byte)
        return bytes(out)

    # -- memory --------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """Places held now."""
        return self.pool.state_count

    @property
    def nbytes(self) -> int:
        """Memory of places and cached masks, in bytes."""
        return self.pool.nbytes + self.masks.nbytes

    def trim(self, places: set[int]) -> None:
        """Forgets all places but those given, the start among them."""
        self.masks.clear()
        if "distances" in self.__dict__:
            self.distances.trim()
        self.pool.trim(places)
