"""``CanonicalAutomaton``: an automaton that keeps to the tokenizer's own way of writing.

Its places name triples (place of another core, last token, shape of the word before that token).  Masks
are those of the other core without the tokens that the tokenizer would not write there
(:mod:`constrain.canonical.rules`).  What comes first, in this order: the grammar, the budget, the way of
writing.  So where no token is left that the tokenizer would write, all that the grammar (and the budget)
allow are; steps by other tokens than those of the mask lead where the other core says; and distances are
those of the other core, which may be met in another way of writing only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int64
from constrain.canonical.rules import CanonicalRules
from constrain.engine.pool import DEAD, FINISHED
from constrain.masks.cache import MaskCache, Row
from constrain.masks.wide import pack_bits
from constrain.places import FIRST_PLACE, Places
from constrain.rules import RuleAutomaton
from grammars.limits import Limits

if TYPE_CHECKING:
    from constrain.core import Core

_NO_TOKEN: Final = -1
_FEW: Final = 512
"""Masks of so many tokens are looked through one by one, and seen through to what follows."""
_DEEPEST: Final = 24
"""Tokens that are looked ahead."""
_PLACE_BYTES: Final = 250
"""About what a triple and its number take."""
_Place: TypeAlias = tuple[int, int, str]
_UNKNOWN: Final = -1


@dataclass(frozen=True)
class _Narrow:
    """Steps from a place to where few tokens are allowed.

    Attributes:
        tokens, places: int64[n], the tokens, and where in the other core they lead.
        viable: by the context of the tokens, int8[n]: whether they lead on, or ``_UNKNOWN``.
    """

    tokens: Int64
    places: Int64
    viable: dict[str, npt.NDArray[np.int8]] = field(default_factory=dict)


class CanonicalAutomaton:
    """Another core's places, each with the token that led there; implements ``constrain.core.Core``.

    The caller holds a lock.

    Args:
        inner: what the grammar allows.
        canonical: which token may follow which.
        limits: bounds on the number of places.

    Attributes:
        start: the place of the empty text.
        rules: the automaton of the rules.
        masks: whole masks made so far, by place.
    """

    def __init__(self, inner: Core, canonical: CanonicalRules, limits: Limits) -> None:
        self.rules: Final[RuleAutomaton] = inner.rules
        self.masks: Final = MaskCache(limits.max_cached_masks)
        self._inner: Final = inner
        self._canonical: Final = canonical
        self._places: Places[_Place] = Places(limits)
        self.place_of: Final[Callable[[int], int]] = self._places.place_of
        self.states_at: Final = self._places.states_at
        self.state_at: Final[Callable[[int], int]] = int
        self._size: Final = inner.rules.vocabulary.size
        self._ends: Final = frozenset(inner.rules.vocabulary.eos_token_ids)
        self._few: dict[int, list[int] | None] = {}
        self._narrow: dict[int, _Narrow] = {}
        self._viability: dict[_Place, bool] = {}
        self.start: Final = self._number((inner.start, _NO_TOKEN, ""))

    def _number(self, place: _Place) -> int:
        if place[0] in (DEAD, FINISHED):
            return place[0]
        return self._places.number(place)

    def start_generation(self, number: int) -> None:
        """States given out from now on are not those of another copy (the start aside)."""
        self._inner.start_generation(number)
        self._places.start_generation(number)

    # -- moving --------------------------------------------------------------------------------

    def advance(self, state: int, token_id: int) -> int:
        """From state to state; the token is not EOS, or a special token that the grammar names.

        Raises:
            ValueError: if the state is none of this automaton's.
        """
        if state in self._places.at:
            return self.after_token(state, token_id)
        self.place_of(state)
        return DEAD

    def after_token(self, place: int, token_id: int) -> int:
        """The place after a token; ``DEAD`` if the grammar does not allow it."""
        inner, last, context = self._places.at[place]
        after = self._inner.after_token(inner, token_id)
        if after in (DEAD, FINISHED):
            return after
        return self._number(
            (after, token_id, self._canonical.context_behind(context, last, token_id))
        )

    def after_bytes(self, place: int, data: bytes) -> int:
        """The place after some bytes, behind which any token may follow; ``DEAD`` if no text goes on so."""
        after = self._inner.after_bytes(self._places.at[place][0], data)
        return self._number((after, _NO_TOKEN, ""))

    def accepts(self, place: int) -> bool:
        """Whether the text may end here."""
        return self._inner.accepts(self._places.at[place][0])

    def signature(self, place: int, depth: int) -> tuple[int, ...]:
        """That of the other core's place."""
        return self._inner.signature(self._places.at[place][0], depth)

    # -- masks ---------------------------------------------------------------------------------

    def mask(self, place: int) -> Row:
        """The allowed tokens, EOS included: int32[ceil(V/32)], read-only, cached."""
        known = self.masks.get(place)
        if known is not None:
            return known
        cut = self.rules.rule_masks
        before = cut.cut_short
        row = self._filtered(place, self._inner.mask(self._places.at[place][0]))
        return self.masks.keep(place, row, only_once=cut.cut_short != before)

    def mask_within(self, place: int, tokens_left: int) -> Row:
        """Those after which the text, EOS included, can be completed in ``tokens_left - 1``."""
        return self._filtered(
            place, self._inner.mask_within(self._places.at[place][0], tokens_left)
        )

    def _filtered(self, place: int, row: Row) -> Row:
        """The tokens of a row that the tokenizer writes here; all of them where it writes none."""
        _, last, context = self._places.at[place]
        few = _few_tokens(row)
        if few is not None:
            good = [t for t in few if self._canonical.allows(context, last, t)]
            good = [
                t for t in good if self._viable(self._behind(self._places.at[place], t))
            ] or good
            return pack_bits(np.array(good, np.int64), self._size) if good else row
        found = self._canonical.after(context, last, row)
        if not found.any():
            return row
        return self._without_blind_alleys(self._places.at[place], found)

    def _without_blind_alleys(self, place: _Place, row: Row) -> Row:
        """A row of many tokens without those behind which few are allowed, and none that is written so."""
        inner, last, context = place
        steps = self._narrow_steps(inner)
        words = row.view(np.uint32)
        tokens = steps.tokens
        allowed = (words[tokens >> 5] >> (tokens & 31).astype(np.uint32) & 1).astype(np.bool_)
        out = row
        for behind, these in self._canonical.contexts_behind(context, last, tokens).items():
            bad = tokens[these & allowed & ~self._viable_steps(steps, behind, these & allowed)]
            if len(bad):
                if out is row:
                    out = row.copy()
                bits = np.uint32(1) << (bad & 31).astype(np.uint32)
                np.bitwise_and.at(out.view(np.uint32), bad >> 5, ~bits)
        return out if out.any() else row

    def _viable_steps(self, steps: _Narrow, context: str, asked: Flags) -> Flags:
        """Which steps lead on (:meth:`_viable`), of those that are asked about.

        Args:
            steps: of a place.
            context: of the tokens (:meth:`CanonicalRules.context_behind`).
            asked: bool[n], the steps.
        """
        known = steps.viable.get(context)
        if known is None:
            known = steps.viable[context] = np.full(len(steps.tokens), _UNKNOWN, np.int8)
        for at in np.flatnonzero(asked & (known == _UNKNOWN)).tolist():
            known[at] = self._viable((int(steps.places[at]), int(steps.tokens[at]), context))
        return known == 1

    def _narrow_steps(self, inner: int) -> _Narrow:
        """The tokens of a place of the other core behind which few are allowed."""
        known = self._narrow.get(inner)
        if known is None:
            tokens, places = self._inner.edges(inner)
            # most tokens of a large mask lead to one place
            common = places[len(places) // 2] if len(places) else 0
            if self._few_at(int(common)) is None:
                kept = places != common
                tokens, places = tokens[kept], places[kept]
            distinct, which = np.unique(places, return_inverse=True)
            narrow = np.array([self._few_at(p) is not None for p in distinct.tolist()], np.bool_)
            kept = narrow[which]
            known = self._narrow[inner] = _Narrow(tokens[kept], places[kept])
        return known

    def _behind(self, place: _Place, token: int) -> _Place:
        """The place behind a token."""
        inner, last, context = place
        if token in self._ends and self._inner.accepts(inner):
            return FINISHED, token, ""
        after = self._inner.after_token(inner, token)
        return after, token, self._canonical.context_behind(context, last, token)

    def _viable(self, place: _Place, depth: int = _DEEPEST) -> bool:
        """Whether tokens that the tokenizer writes lead on, to the end or to where many are allowed.

        Looks no deeper than ``depth`` tokens: what lies beyond counts as viable.
        """
        inner, last, context = place
        if inner == FINISHED or depth == 0:
            return True
        known = self._viability.get(place)
        if known is not None:
            return known
        few = self._few_at(inner)
        found = few is None
        for token in few or ():
            if self._canonical.allows(context, last, token) and self._viable(
                self._behind(place, token), depth - 1
            ):
                found = True
                break
        self._viability[place] = found
        return found

    def _few_at(self, inner: int) -> list[int] | None:
        """The tokens that the other core allows in a place, if they are few."""
        if inner not in self._few:
            self._few[inner] = _few_tokens(self._inner.mask(inner))
        return self._few[inner]

    # -- edges ---------------------------------------------------------------------------------

    def walk_from(self, place: int, node: int, enter: bool) -> tuple[Row, Int64, Row]:
        """Where the grammar's tokens lead, in whatever way of writing."""
        ends, places, exits = self._inner.walk_from(self._places.at[place][0], node, enter)
        trie = self.rules.vocabulary.trie
        tokens = trie.tokens[trie.token_start[ends]]
        return ends, self._wrapped(place, tokens.astype(np.int64), places), exits

    def edges(self, place: int) -> tuple[Int64, Int64]:
        """The allowed tokens, EOS aside, ascending, and the place after each."""
        tokens, places = self._inner.edges(self._places.at[place][0])
        flags = np.unpackbits(self.mask(place).view(np.uint8), bitorder="little")
        chosen = flags[tokens].astype(np.bool_)
        return tokens[chosen], self._wrapped(place, tokens[chosen], places[chosen])

    def _wrapped(self, place: int, tokens: Int64, places: Int64) -> Int64:
        _, last, context = self._places.at[place]
        behind = self._canonical.context_behind
        pairs = zip(places.tolist(), tokens.tolist(), strict=True)
        return np.array(
            [self._number((q, t, behind(context, last, t))) for q, t in pairs], np.int64
        )

    def reaches_below(self, place: int, data: bytes, node: int) -> bool:
        """Whether, after some bytes, tokens at or below a trie node go on by the rules."""
        return self._inner.reaches_below(self._places.at[place][0], data, node)

    # -- completion ----------------------------------------------------------------------------

    def fewest(self, place: int) -> tuple[int, bool]:
        """Fewest tokens to an accepting place in any way of writing, and whether that is exact."""
        return self._inner.fewest(self._places.at[place][0])

    def enough_tokens(self, place: int) -> int:
        """A number of tokens left from which on a budget takes nothing from the mask of a place."""
        return self._inner.enough_tokens(self._places.at[place][0])

    def search_further(self, place: int) -> tuple[int, bool]:
        """The same as :meth:`fewest` after a search that may take a hundred times the work."""
        return self._inner.search_further(self._places.at[place][0])

    def forced_bytes(self, place: int) -> bytes:
        """Bytes that every completion begins with."""
        return self._inner.forced_bytes(self._places.at[place][0])

    def approximations(self) -> tuple[str, ...]:
        """In which cases masks and budgets are not exact, a sentence each."""
        return (
            *self._inner.approximations(),
            "Distances count tokens in any way of writing, not in the tokenizer's own (canonical=True).",
        )

    # -- memory --------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """Places held now, the reserved ones included."""
        return len(self._places.at) + FIRST_PLACE

    @property
    def nbytes(self) -> int:
        """Memory of places and cached masks, in bytes."""
        return self._inner.nbytes + self.masks.nbytes + _PLACE_BYTES * len(self._places.at)

    def trim(self, places: set[int]) -> None:
        """Forgets all places but those given, the start among them."""
        self.masks.clear()
        self._few.clear()
        self._narrow.clear()
        self._viability.clear()
        kept = self._places.keep(places)
        self._inner.trim({place[0] for place in kept.values()} | {self._inner.start})


def _few_tokens(row: Row) -> list[int] | None:
    """The tokens of a row if they are few; ``None`` if not."""
    words = np.flatnonzero(row)
    if len(words) > _FEW:
        return None
    out: list[int] = []
    for word in words.tolist():
        bits = row.item(word) & 0xFFFFFFFF
        while bits:
            low = bits & -bits
            out.append(word << 5 | (low.bit_length() - 1))
            bits ^= low
    return out if len(out) <= _FEW else None
