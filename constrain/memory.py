"""Token automata of grammars with memory: keys and array items that must not repeat.

:class:`MemoryAutomaton` has the contract of :class:`~constrain.automaton.TokenAutomaton`, whose
engine it keeps inside for the rules.  Its states are integers that name pairs (state of that
engine, tracker of :mod:`grammars.memory`); :mod:`constrain.pairs` says how pairs move and which are
live.

**Masks.**  Kernels judge most of them (:mod:`constrain.uniqueness.texts`).  What follows is for those
they leave: within items that are arrays or objects, where rules wait for marks, in vocabularies
without single bytes, in free text with sections.  Nearly every token is as the rules say, and the
rules' masks are cached by their own states.  Only these can differ, and only they are looked at one
by one:

* *Where what is being written may repeat something* (a key that begins like an earlier one, an
  item that may yet equal one; the tracker is *threatened*): tokens that keep it so to their end or
  to the repetition.  They lie in a narrow part of the vocabulary's trie, which is walked with
  pairs; it is left where the danger ends, since below only the rules count (and the next point).
  Below a mark the rules are asked anew, from the state that the mark leads to.
* *Everywhere*: tokens that begin a further key or item of some container, which needs a comma (see
  :mod:`constrain.risky`).  Those that the rules allow are tried.

In automata that are *thorough*, as their rules may want marks (see :mod:`constrain.pairs`), all
tokens within arrays are tried, and those with separators enough to be allowed by a mark alone, even
where the rules refuse them; with vocabularies that lack single bytes, all tokens everywhere.

**Budgets.**  The rules' distance may be too small: a second key takes one more token than the first.
``min_tokens_to_accept`` searches with pairs, exactly but for the bounds given there.  In a mask with
``tokens_left`` the rules' distance decides of tokens with at least ``_AMPLE`` tokens to spare, or
``_SPARE`` and twice what memory costs from the present state.  Of the others each gets a distance of
its own if they are few.  If they are many, as in free text, only those
that keep or begin something that may repeat do, and the rest are judged by the rules' distance plus
what memory costs from the present state.  So a mask may be a token too generous or too strict
there; the token that begins the shortest completion that was found is allowed whenever it fits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from constrain import checks
from constrain._jit import kernels as k
from constrain.automaton import Row, States, TokenAutomaton
from constrain.lexeme import Int32, LexemeShape
from constrain.pairs import Pair, Pairs, bits, in_string, wants_marks
from constrain.pool import DEAD, FINISHED, NO_STATE
from constrain.positions import Flags
from constrain.risky import Risky, risky_of
from constrain.uniqueness.texts import UsedTexts
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError, LimitExceeded
from grammars.grammar import Grammar
from grammars.limits import Limits
from grammars.memory import Memory, Tracker, without_marks

_FIRST: Final = 3
"""The integers below are reserved, as in the pool."""
_NO_LIMIT: Final = 1 << 62
_AMPLE: Final = 64
"""Tokens to spare with which the rules' distance is good enough."""
_SPARE: Final = 12
"""The same, beside twice what memory costs from the present state."""
_TRIED: Final = 256
"""Tokens of a tight mask that get a distance of their own; of more, none of the others is allowed."""
_TRACKER_BYTES: Final = 400
"""About what a pair and its tracker take."""


class MemoryAutomaton(TokenAutomaton):
    """A token automaton whose language refuses repeated keys, or marks repeated items."""

    def __init__(
        self, grammar: Grammar, vocabulary: Vocabulary, limits: Limits | None = None
    ) -> None:
        memory = grammar.memory()
        assert memory is not None, "TokenAutomaton.__new__ chose this class for its memory"
        self._memory = memory
        super().__init__(grammar, vocabulary, limits)

    def _prepare(self) -> int:
        self._inner = TokenAutomaton.without_memory(self.grammar, self.vocabulary, self.limits)
        inner = self._inner
        self._lock: threading.RLock = inner._lock
        self._pool, self._words, self._rule_masks = inner._pool, inner._words, inner._rule_masks
        self._eos, self._eos_ids, self._no_row = inner._eos, inner._eos_ids, inner._no_row
        self._risky: Risky = risky_of(self.vocabulary)
        self._all_live = self.spells_bytes = inner.spells_bytes
        self._walker = Pairs(inner, self._memory, wants_marks(self._pool.program))
        self._used: UsedTexts | None = None
        plain = type(self._memory) is Memory and not self._walker.thorough
        if plain and self._all_live:
            self._used = self._walker.used = UsedTexts(
                self._pool, self.vocabulary, self._memory.compare_items
            )
        self._masks: OrderedDict[int, Row] = OrderedDict()
        self._forced: dict[int, bytes] = {}
        self._pairs: dict[int, Pair] = {}
        self._numbers: dict[Pair, int] = {}
        self._next = _FIRST
        self.positions = inner.positions
        self._size = inner._size
        start = (inner._place(inner.start), self._memory.start)
        if self._walker.thorough:
            easier = Grammar(without_marks(self.grammar.ir), limits=self.grammar.limits)
            self._walker.begin(
                start, TokenAutomaton.without_memory(easier, self.vocabulary, self.limits)
            )
        if not self._walker.reaches_end(start):
            raise GrammarError(
                "no text satisfies this grammar in this vocabulary: whatever the rules allow repeats "
                "a key or an item, or cannot be written in tokens"
            )
        return self._number(start)

    def _number(self, pair: Pair) -> int:
        known = self._numbers.get(pair)
        if known is None:
            if len(self._numbers) >= self.limits.max_states:
                raise LimitExceeded(
                    "max_states",
                    self.limits.max_states,
                    "this automaton (trim() releases states that are no longer needed)",
                )
            known = self._numbers[pair] = self._next
            self._pairs[known] = pair
            self._next += 1
        return known

    # Places are the integers themselves here, and name pairs.

    def _place(self, state: Any) -> int:
        number = state if type(state) is int else checks.integer(state, "a state")
        if number in self._pairs or number in (DEAD, FINISHED):
            return number
        raise ValueError(NO_STATE)

    def _state(self, place: int) -> int:
        return place

    def _states(self, places: Int32) -> States:
        return places.astype(np.int64)

    # -- moving --------------------------------------------------------------------------------

    def _advance(self, state: int, token_id: int) -> int:
        return self._after_token(self._place(state), token_id)

    def _after_token(self, place: int, token_id: int) -> int:
        if place < _FIRST:
            return DEAD
        after = self._walker.by_token(self._pairs[place], token_id)
        return self._live_number(after)

    def _after_bytes(self, place: int, data: bytes) -> int:
        if place < _FIRST:
            return DEAD
        return self._live_number(self._walker.by_bytes(self._pairs[place], data))

    def _live_number(self, pair: Pair | None) -> int:
        if pair is None or not self._walker.is_live(pair):
            return DEAD
        return self._number(pair)

    def _accepts(self, place: int) -> bool:
        if place < _FIRST:
            return place == FINISHED
        return self._pool.accepting(self._pairs[place][0])

    def _signature(self, place: int, depth: int) -> tuple[int, ...]:
        """That of the rules' state: what is remembered is left out."""
        return self._inner._signature(self._rules_state(place), depth)

    def _rules_state(self, place: int) -> int:
        return place if place < _FIRST else self._pairs[place][0]

    # -- what the rules alone decide -----------------------------------------------------------

    def follow(self, q: int) -> Flags:
        return self._inner.follow(q)

    def shape(self, q: int) -> LexemeShape | None:
        return self._inner.shape(q)

    def _walk_from(self, place: int, node: int, enter: bool) -> tuple[Row, States, Row]:
        """Byte by byte with pairs, left where a byte is refused."""
        trie = self.vocabulary.trie
        ends: list[int] = []
        states: list[int] = []
        exits: list[int] = [node] if place >= _FIRST and not enter and self._accepts(place) else []
        begin = node if enter else node + 1
        # pairs and bytes from the given node down to where the walk is, by depth
        path = [] if place < _FIRST else [self._pairs[place]]
        data = bytearray()
        top = int(trie.depth[begin]) if begin < trie.node_count else 0
        at, end = begin, int(trie.skip[node]) if path else begin
        while at < end:
            level = int(trie.depth[at]) - top
            del path[level + 1 :], data[level:]
            after, _ = self._walker.by_byte(path[level], int(trie.byte[at]))
            if after is None:
                at = int(trie.skip[at])
                continue
            path.append(after)
            data.append(int(trie.byte[at]))
            if trie.token_start[at] < trie.token_start[at + 1]:
                state = self._after_bytes(place, bytes(data))
                if state != DEAD:
                    ends.append(at)
                    states.append(state)
            if self._pool.accepting(after[0]):
                exits.append(at)
            at += 1
        return np.array(ends, np.int32), np.array(states, np.int64), np.array(exits, np.int32)

    # -- masks ---------------------------------------------------------------------------------

    def _make_mask(self, state: int) -> Row:
        if state < _FIRST:
            return self._inner._make_mask(state)
        pair = self._pairs[state]
        row = self._inner._mask(pair[0], None).copy()
        if not self._all_live:
            self._try_all(pair, row)
            return row
        if self._used is not None:
            unsure = self._used.restrict(*pair, row)
            if unsure is not None:
                self._try(pair, row, unsure)
                return row
        if self._memory.threatened(pair[1]):
            self._walk_danger(pair, row)
        self._try(pair, row, bits(row & self._suspects(pair[1])))
        if self._walker.thorough:
            self._try_marked(pair, row)
        return row

    def _suspects(self, tracker: Tracker) -> Row:
        """Tokens that the rules alone cannot judge, wherever one is."""
        inside = in_string(tracker)
        row = self._risky.inside if inside else self._risky.outside
        if not self._walker.thorough:
            return row
        return np.full_like(row, -1) if tracker.keeps else row | self._risky.brackets

    def _try(self, pair: Pair, row: Row, tokens: Iterable[int]) -> None:
        """Clears the bits of tokens that are not allowed after all."""
        walker = self._walker
        for token in tokens:
            if token in self._eos_ids:
                continue
            after = walker.by_token(pair, token)
            if after is None or not walker.is_live(after):
                _clear(row, token)

    def _try_marked(self, pair: Pair, row: Row) -> None:
        """Sets the bits of tokens that are allowed only as they finish a repeated item."""
        inside = in_string(pair[1])
        tokens = self._risky.inside_marked if inside else self._risky.outside_marked
        for token in tokens:
            if not _has(row, token):
                after = self._walker.by_token(pair, token)
                if after is not None and self._walker.is_live(after):
                    _set(row, token)

    def _try_all(self, pair: Pair, row: Row) -> None:
        for token, text in enumerate(self.vocabulary.texts):
            if text:
                after = self._walker.by_token(pair, token)
                good = after is not None and self._walker.is_live(after)
                _set(row, token) if good else _clear(row, token)

    def _walk_danger(self, pair: Pair, row: Row) -> None:
        """Corrects the bits of tokens below trie nodes up to which repetition stays possible."""
        for node, after, marked in self._dangers(pair):
            if after is None:
                self._risky.clear_below(node, row)
                continue
            if marked:
                self._risky.clear_below(node, row)
                self._pool.call(k.fill_walk, after[0], node, row.ctypes.data, _NO_LIMIT, _NO_LIMIT)
            tokens = self._risky.tokens_at(node)
            if tokens:
                live = self._walker.is_live(after)
                for token in tokens:
                    _set(row, token) if live else _clear(row, token)

    def _dangers(self, pair: Pair) -> Iterator[tuple[int, Pair | None, bool]]:
        """Trie nodes below which danger goes on, ends in a repetition, or is settled by a mark.

        Yields node, the pair there (``None``: refused) and whether a mark led to it.  Nodes where
        the danger just passes are left out: there the rules' own mask holds.
        """
        stack = [(0, pair)]
        while stack:
            node, at = stack.pop()
            children = self._risky.children(node)
            for byte in self._memory.critical_bytes(at[1]) or children:
                child = children.get(byte)
                if child is None:
                    continue
                after, marked = self._walker.by_byte(at, byte)
                if after is None:
                    yield child, None, False
                elif self._memory.threatened(after[1]):
                    yield child, after, marked
                    stack.append((child, after))
                elif marked:
                    yield child, after, True

    # -- budgets -------------------------------------------------------------------------------

    def _fewest(self, place: int) -> tuple[int, bool]:
        pair = self._pairs[place]
        return self._walker.fewest(pair), self._walker.is_exact(pair)

    @property
    def approximations(self) -> tuple[str, ...]:
        with self._lock:
            return (
                *self._rule_masks.approximations(),
                *self._walker.approximations(),
                *self._inner._distances.approximations(),
            )

    def _mask_within(self, state: int, left: int) -> Row:
        if state < _FIRST or left <= 0:
            return self._inner._distances.mask(min(state, FINISHED), left)
        pair = self._pairs[state]
        row = self._mask(state, None)
        walker = self._walker
        if walker.is_ample(pair, left - _AMPLE):
            return row
        needed = walker.fewest(pair)
        if needed + 1 > left:
            return self._no_row
        # with bags the rules' distance is an upper bound and may be larger than what was found
        excess = max(0, needed - walker.bound(pair))
        ample = walker.within(pair, left - _SPARE - 2 * excess)
        close = row & walker.within(pair, left) & ~ample
        tokens = bits(close)
        if needed < walker.bound(pair):
            # the rules' distance errs by far more than memory may cost: it is trusted, which spares
            # a search for each token
            tokens = bits(close & self._owing(pair))
        elif len(tokens) > _TRIED:
            close &= walker.within(pair, left - excess)
            tokens = bits(close & self._owing(pair))
        row = (row & ample) | close | (row & self._eos)
        self._try_within(pair, row, tokens, left)
        first = walker.first_token(pair)
        if first >= 0:
            _set(row, first)
        return row

    def _owing(self, pair: Pair) -> Row:
        """Tokens whose own distance may be larger than the rules say."""
        row = self._suspects(pair[1]).copy()
        if self._memory.threatened(pair[1]):
            for node, after, _ in self._dangers(pair):
                if after is not None:
                    for token in self._risky.tokens_at(node):
                        _set(row, token)
        return row

    def _try_within(self, pair: Pair, row: Row, tokens: list[int], left: int) -> None:
        for i, token in enumerate(tokens):
            if token in self._eos_ids:
                continue
            after = self._walker.by_token(pair, token)
            if i >= _TRIED or after is None or self._walker.fewest(after) + 2 > left:
                _clear(row, token)

    # -- what is forced ------------------------------------------------------------------------

    def _find_forced(self, state: int) -> bytes:
        out = bytearray()
        if state < _FIRST:
            return b""
        pair = self._pairs[state]
        while not self._pool.accepting(pair[0]):
            ways = self._live_bytes(pair)
            first, second = next(ways, None), next(ways, None)
            if first is None or second is not None:
                break
            out.append(first[0])
            pair = first[1]
        return bytes(out)

    def _live_bytes(self, pair: Pair) -> Iterator[tuple[int, Pair]]:
        for byte in range(256):
            after, _ = self._walker.by_byte(pair, byte)
            # amid a token of a vocabulary without single bytes, all that goes on may be live
            if after is not None and (not self._all_live or self._walker.is_live(after)):
                yield byte, after

    def _pool_advance(self, state: int, data: bytes) -> int:
        after = self._walker.by_bytes(self._pairs[state], data)
        return DEAD if after is None else after[0]

    # -- memory --------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        return len(self._pairs) + _FIRST

    @property
    def nbytes(self) -> int:
        masks = sum(m.nbytes for m in self._masks.values())
        return self._inner.nbytes + masks + _TRACKER_BYTES * len(self._pairs)

    def _keep(self, places: set[int]) -> None:
        kept = {place: self._pairs[place] for place in places if place >= _FIRST}
        self._masks.clear()
        self._forced.clear()
        self._walker.trim(kept.values())
        self._pairs = kept
        self._numbers = {pair: place for place, pair in kept.items()}
        self._inner._keep(
            {base for base, _ in kept.values()} | {self._inner._place(self._inner.start)}
        )
        self._memory.trim(tracker for _, tracker in kept.values())
        if self._used is not None:
            self._used.clear()

    def _start_generation(self, number: int) -> None:
        self._next = number << k.SLOT_BITS


def _has(row: Row, token: int) -> bool:
    return bool(int(row[token >> 5]) >> (token & 31) & 1)


def _set(row: Row, token: int) -> None:
    row.view(np.uint32)[token >> 5] |= np.uint32(1 << (token & 31))


def _clear(row: Row, token: int) -> None:
    row.view(np.uint32)[token >> 5] &= np.uint32(~(1 << (token & 31)) & 0xFFFFFFFF)
