"""``UniquenessAutomaton``: rules, and keys and array items that must not repeat, token by token.

The product of a :class:`~constrain.rules.RuleAutomaton` and the tracker of
:mod:`grammars.uniqueness.memory`.  Its places are integers that name pairs (place of the rules, tracker);
:mod:`constrain.uniqueness.search` says how pairs move and which are live.

**Masks.**  Kernels judge nearly all of them (:mod:`constrain.uniqueness.texts`).  What follows is for those
they leave: where rules wait for marks, in vocabularies without single bytes, in free text with
sections; and single tokens that a kernel cannot judge.  Nearly every token is as the rules say, and the
rules' masks are cached by their own states.  Only these can differ, and only they are looked at one
by one:

* *Where what is being written may repeat something* (a key that begins like an earlier one, an
  item that may yet equal one; the tracker is *threatened*): tokens that keep it so to their end or
  to the repetition.  They lie in a narrow part of the vocabulary's trie, which is walked with
  pairs; it is left where the danger ends, since below only the rules count (and the next point).
  Below a mark the rules are asked anew, from the state that the mark leads to.
* *Everywhere*: tokens that begin a further key or item of some container, which needs a comma (see
  :mod:`constrain.uniqueness.tokens`).  Those that the rules allow are tried.

In automata that are *thorough*, as their rules may want marks (see :mod:`constrain.uniqueness.search`), all
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

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from constrain.arrays import Int64
from constrain.completion.tokens import NEVER
from constrain.engine.pool import DEAD
from constrain.masks.cache import MaskCache, Row
from constrain.places import FIRST_PLACE, Places
from constrain.rules import RuleAutomaton
from constrain.uniqueness.budgets import BudgetMasks
from constrain.uniqueness.search import Pair, Pairs, bits, in_string, wants_marks
from constrain.uniqueness.texts import UsedTexts
from constrain.uniqueness.tokens import Risky, risky_of
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.limits import Limits
from grammars.uniqueness.memory import Memory, Tracker, without_marks

_AMPLE: Final = 64
"""Tokens to spare with which the rules' distance is good enough."""
_SPARE: Final = 12
"""The same, beside twice what memory costs from the present state."""
_TRIED: Final = 256
"""Tokens of a tight mask that get a distance of their own; of more, none of the others is allowed."""
_TRACKER_BYTES: Final = 400
"""About what a pair and its tracker take."""


class UniquenessAutomaton:
    """Pairs of rules and tracker with their masks, distances and moves; implements ``constrain.core.Core``.

    The caller holds a lock.  Masks and distances are exact but for what :meth:`approximations` says.

    Args:
        grammar: the language.
        memory: the tracker of its keys and items; not shared with others.
        vocabulary: the tokens.
        limits: bounds on memory and search.

    Attributes:
        start: the place of the empty text.
        rules: the automaton of the rules, which may wait for marks of repetitions.
        pairs: how pairs move, which are live and how soon they end.
        used: keys and items seen as kernels see them; ``None`` where the search in Python judges all.
        budgets: masks under a budget; ``None`` where they are judged token by token.

    Raises:
        GrammarError: if the language is empty, or none of its texts can be spelled in tokens.
    """

    def __init__(
        self, grammar: Grammar, memory: Memory, vocabulary: Vocabulary, limits: Limits
    ) -> None:
        self.rules: Final = RuleAutomaton(grammar, vocabulary, limits, judges_spelling=False)
        rules = self.rules
        self.vocabulary: Final = vocabulary
        self.limits: Final = limits
        self.masks: Final = MaskCache(limits.max_cached_masks)
        self._memory = memory
        self._pool = rules.pool
        self._risky: Risky = risky_of(vocabulary)
        self._all_live = rules.spells_bytes
        self.pairs: Final = Pairs(rules, memory, wants_marks(rules.program))
        self.used: UsedTexts | None = None
        plain = type(memory) is Memory and not self.pairs.thorough
        if plain and self._all_live:
            self.used = self.pairs.used = UsedTexts(self._pool, vocabulary, memory)
        self.budgets: BudgetMasks | None = None
        if self.used is not None and memory.is_json:
            self.budgets = BudgetMasks(rules, self.pairs, memory, self._risky)
        self._places: Places[Pair] = Places(limits)
        self.place_of: Final[Callable[[int], int]] = self._places.place_of
        self.states_at: Final = self._places.states_at
        start = (rules.start, memory.start)
        if self.pairs.thorough:
            self.pairs.begin(start, relaxed_rules(grammar, vocabulary, limits))
        if not self.pairs.reaches_end(start):
            raise GrammarError(
                "no text satisfies this grammar in this vocabulary: whatever the rules allow repeats "
                "a key or an item, or cannot be written in tokens"
            )
        self.state_at: Final[Callable[[int], int]] = int
        self.start: Final = self._places.number(start)

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
        after = self.pairs.by_token(self._places.at[place], token_id)
        mask = self.masks.get(place)
        if (
            after is not None
            and mask is not None
            and mask.item(token_id >> 5) >> (token_id & 31) & 1
        ):
            known = self._places.numbers.get(after)  # that it is live was judged for the mask
            return self._places.number(after) if known is None else known
        return self._live_number(after)

    def after_bytes(self, place: int, data: bytes) -> int:
        """The place after some bytes, which end a token; ``DEAD`` if no text goes on so."""
        return self._live_number(self.pairs.by_bytes(self._places.at[place], data))

    def _live_number(self, pair: Pair | None) -> int:
        if pair is None:
            return DEAD
        known = self._places.numbers.get(pair)  # only live pairs have numbers
        if known is not None:
            return known
        return self._places.number(pair) if self.pairs.is_live(pair) else DEAD

    def accepts(self, place: int) -> bool:
        """Whether the text may end here."""
        return self._pool.accepting(self._places.at[place][0])

    def signature(self, place: int, depth: int) -> tuple[int, ...]:
        """That of the rules' place: what is remembered is left out."""
        return self.rules.signature(self._places.at[place][0], depth)

    # -- edges ---------------------------------------------------------------------------------

    def walk_from(self, place: int, node: int, enter: bool) -> tuple[Row, Int64, Row]:
        """Byte by byte with pairs, left where a byte is refused."""
        trie = self.vocabulary.trie
        ends: list[int] = []
        states: list[int] = []
        exits: list[int] = [node] if not enter and self.accepts(place) else []
        begin = node if enter else node + 1
        # pairs and bytes from the given node down to where the walk is, by depth
        path = [self._places.at[place]]
        data = bytearray()
        top = int(trie.depth[begin]) if begin < trie.node_count else 0
        at, end = begin, int(trie.skip[node])
        while at < end:
            level = int(trie.depth[at]) - top
            del path[level + 1 :], data[level:]
            after, _ = self.pairs.by_byte(path[level], int(trie.byte[at]))
            if after is None:
                at = int(trie.skip[at])
                continue
            path.append(after)
            data.append(int(trie.byte[at]))
            if trie.token_start[at] < trie.token_start[at + 1]:
                state = self.after_bytes(place, bytes(data))
                if state != DEAD:
                    ends.append(at)
                    states.append(state)
            if self._pool.accepting(after[0]):
                exits.append(at)
            at += 1
        return np.array(ends, np.int32), np.array(states, np.int64), np.array(exits, np.int32)

    def edges(self, place: int) -> tuple[Int64, Int64]:
        """The allowed tokens, EOS aside, ascending, and the place after each, one by one."""
        allowed = np.array(bits(self.mask(place) & ~self.rules.eos_row), np.int64)
        after = np.array([self.after_token(place, t) for t in allowed.tolist()], np.int64)
        alive = after != DEAD
        return allowed[alive], after[alive]

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
        pair = self._places.at[place]
        row = self.rules.mask(pair[0])
        if self.used is not None:
            found = self.used.restrict(*pair, row)
            if found is not None:
                restricted, unsure = found
                if unsure:
                    restricted = row.copy() if restricted is row else restricted
                    self._try(pair, restricted, unsure)
                return restricted
        row = row.copy()
        if not self._all_live:
            self._try_all(pair, row)
            return row
        if self._memory.threatened(pair[1]):
            self._walk_danger(pair, row)
        self._try(pair, row, bits(row & self._suspects(pair[1])))
        if self.pairs.thorough:
            self._try_marked(pair, row)
        return row

    def _suspects(self, tracker: Tracker) -> Row:
        """Bitmask of tokens that may complete a repeated key or item, so that each needs ``is_live``.

        A superset, see :mod:`constrain.uniqueness.tokens`.
        """
        inside = in_string(tracker)
        row = self._risky.inside if inside else self._risky.outside
        if not self.pairs.thorough:
            return row
        return np.full_like(row, -1) if tracker.keeps else row | self._risky.brackets

    def _try(self, pair: Pair, row: Row, tokens: Iterable[int]) -> None:
        """Clears the bits of tokens that are not allowed after all."""
        walker = self.pairs
        for token in tokens:
            if token in self.vocabulary.eos_token_ids:
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
                after = self.pairs.by_token(pair, token)
                if after is not None and self.pairs.is_live(after):
                    _set(row, token)

    def _try_all(self, pair: Pair, row: Row) -> None:
        for token, text in enumerate(self.vocabulary.texts):
            if text:
                after = self.pairs.by_token(pair, token)
                good = after is not None and self.pairs.is_live(after)
                _set(row, token) if good else _clear(row, token)

    def _walk_danger(self, pair: Pair, row: Row) -> None:
        """Corrects the bits of tokens below trie nodes up to which repetition stays possible."""
        for node, after, marked in self._dangers(pair):
            if after is None:
                self._risky.clear_below(node, row)
                continue
            if marked:
                self._risky.clear_below(node, row)
                self.rules.fill_below(after[0], node, row)
            tokens = self._risky.tokens_at(node)
            if tokens:
                live = self.pairs.is_live(after)
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
                after, marked = self.pairs.by_byte(at, byte)
                if after is None:
                    yield child, None, False
                elif self._memory.threatened(after[1]):
                    yield child, after, marked
                    stack.append((child, after))
                elif marked:
                    yield child, after, True

    # -- budgets -------------------------------------------------------------------------------

    def fewest(self, place: int) -> tuple[int, bool]:
        """Fewest tokens to an accepting place, and whether that is exact, not an upper bound."""
        pair = self._places.at[place]
        return self.pairs.fewest(pair), self.pairs.is_exact(pair)

    def enough_tokens(self, place: int) -> int:
        """A number of tokens left from which on a budget takes nothing from the mask of a place."""
        if self.budgets is None:
            return NEVER
        return self.budgets.enough(self._places.at[place][0])

    def search_further(self, place: int) -> tuple[int, bool]:
        """The same after a search that may take a hundred times the work."""
        self.pairs.search_further(self._places.at[place])
        return self.fewest(place)

    def approximations(self) -> tuple[str, ...]:
        """In which cases masks and budgets are not exact, a sentence each."""
        return (*self.pairs.approximations(), *self.rules.approximations())

    def mask_within(self, place: int, tokens_left: int) -> Row:
        """Those after which the text, EOS included, can be completed in ``tokens_left - 1``.

        May hold a token too many or too few, see the module.
        """
        left = tokens_left
        pair = self._places.at[place]
        row = self.mask(place)
        found = None if self.budgets is None else self.budgets.within(pair, row, left)
        if found is None:
            return self._mask_tried(pair, row, left)
        if left > _AMPLE or np.array_equal(found, row):
            return found
        # a shortest text need not be that of the fewest tokens: near the end it is worth looking for that
        return found | self._mask_tried(pair, row, left)

    def _mask_tried(self, pair: Pair, row: Row, left: int) -> Row:
        """The same, by trying tokens that may need more than the rules say one by one."""
        walker = self.pairs
        if walker.is_ample(pair, left - _AMPLE):
            return row
        needed = walker.fewest(pair)
        if needed + 1 > left:
            return np.zeros_like(row)
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
        row = (row & ample) | close | (row & self.rules.eos_row)
        self._try_within(pair, row, tokens, left)
        first = walker.first_token(pair)
        if first >= 0:
            _set(row, first)
        return row

    def _owing(self, pair: Pair) -> Row:
        """Bitmask of tokens behind which more may be needed than the rules' distance says (a superset)."""
        row = self._suspects(pair[1]).copy()
        if self._memory.threatened(pair[1]):
            for node, after, _ in self._dangers(pair):
                if after is not None:
                    for token in self._risky.tokens_at(node):
                        _set(row, token)
        return row

    def _try_within(self, pair: Pair, row: Row, tokens: list[int], left: int) -> None:
        for i, token in enumerate(tokens):
            if token in self.vocabulary.eos_token_ids:
                continue
            after = self.pairs.by_token(pair, token)
            if i >= _TRIED or after is None or self.pairs.fewest(after) + 2 > left:
                _clear(row, token)

    # -- what is forced ------------------------------------------------------------------------

    def forced_bytes(self, place: int) -> bytes:
        """Bytes that every completion begins with: all that rules force, much of what uniqueness does."""
        out = bytearray()
        pair = self._places.at[place]
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
            after, _ = self.pairs.by_byte(pair, byte)
            # amid a token of a vocabulary without single bytes, all that goes on may be live
            if after is not None and (not self._all_live or self.pairs.is_live(after)):
                yield byte, after

    def reaches_below(self, place: int, data: bytes, node: int) -> bool:
        """Whether, after some bytes, tokens at or below a trie node go on by the rules.

        A superset: those that repeat a key or an item are not looked for.
        """
        after = self.pairs.by_bytes(self._places.at[place], data)
        return after is not None and self.rules.reaches_below(after[0], b"", node)

    # -- memory --------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """Places held now, the reserved ones included."""
        return len(self._places.at) + FIRST_PLACE

    @property
    def nbytes(self) -> int:
        """Memory of places and cached masks, in bytes (about)."""
        masks = self.masks.nbytes_beside(self.rules.masks)
        return self.rules.nbytes + masks + _TRACKER_BYTES * len(self._places.at)

    def trim(self, places: set[int]) -> None:
        """Forgets all places but those given, the start among them."""
        kept = self._places.keep(places)
        self.masks.clear()
        self.pairs.trim(kept.values())
        self.rules.trim({base for base, _ in kept.values()} | {self.rules.start})
        self._memory.trim(tracker for _, tracker in kept.values())
        if self.used is not None:
            self.used.clear()
        if self.budgets is not None:
            self.budgets.clear()


def relaxed_rules(grammar: Grammar, vocabulary: Vocabulary, limits: Limits) -> RuleAutomaton:
    """The rules with every mark of a repetition read as the byte that it stands for (a superset)."""
    relaxed = Grammar(without_marks(grammar.ir), limits=grammar.limits)
    return RuleAutomaton(relaxed, vocabulary, limits, judges_spelling=False)


def _has(row: Row, token: int) -> bool:
    return bool(int(row[token >> 5]) >> (token & 31) & 1)


def _set(row: Row, token: int) -> None:
    row.view(np.uint32)[token >> 5] |= np.uint32(1 << (token & 31))


def _clear(row: Row, token: int) -> None:
    row.view(np.uint32)[token >> 5] &= np.uint32(~(1 << (token & 31)) & 0xFFFFFFFF)
