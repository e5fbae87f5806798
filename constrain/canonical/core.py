"""``CanonicalAutomaton``: an automaton that keeps to the tokenizer's own way of writing.

Its places name the place of another core, that of the rules alone, the last token, and the shape of the
word before that token.  Masks are those of the other core without the tokens that the tokenizer would not
write there (:mod:`constrain.canonical.rules`), and without those that lead where it would write none.  That
is looked for by the rules alone: where keys are remembered or lines indented, nearly every text has a place
of its own, but few in the rules.

What comes first, in this order: the grammar, the budget, the way of writing.  So where no token is left that
the tokenizer would write, all that the grammar (and the budget) allow are; steps by other tokens than those
of the mask lead where the other core says; and distances are those of the other core, which may be met in
another way of writing only.
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
_FAR_APART: Final = 16
"""Numbers of places for each of them from which on they are sorted."""
_PLACE_BYTES: Final = 250
"""About what a place and its number take."""
_Ahead: TypeAlias = tuple[int, int, str]
"""A place of the rules alone, the token that led there, and its context."""
_Place: TypeAlias = tuple[int, int, int, str]
_UNKNOWN: Final = -1
_LOOKS_BY_RULES: Final = (
    "What may follow in the tokenizer's own way of writing is looked for by the rules, whatever repeats and "
    "however lines are indented (canonical=True)."
)


@dataclass(frozen=True)
class _Narrow:
    """Steps from a place of the rules to where few tokens are allowed.

    Attributes:
        tokens, places: int64[n], the tokens, and where they lead.
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
        ahead: the rules alone: ``inner`` itself, or an automaton that allows all that it does and more.
        canonical: which token may follow which.
        limits: bounds on the number of places.

    Attributes:
        start: the place of the empty text.
        rules: the automaton of the rules.
        masks: whole masks made so far, by place.
    """

    def __init__(
        self, inner: Core, ahead: RuleAutomaton, canonical: CanonicalRules, limits: Limits
    ) -> None:
        self.rules: Final[RuleAutomaton] = inner.rules
        self.masks: Final = MaskCache(limits.max_cached_masks)
        self._inner: Final = inner
        self._ahead: Final = ahead
        self._is_plain: Final = inner is ahead
        self._canonical: Final = canonical
        self._places: Places[_Place] = Places(limits)
        self.place_of: Final[Callable[[int], int]] = self._places.place_of
        self.states_at: Final = self._places.states_at
        self.state_at: Final[Callable[[int], int]] = int
        self._size: Final = inner.rules.vocabulary.size
        self._ends: Final = frozenset(inner.rules.vocabulary.eos_token_ids)
        self._few: dict[int, list[int] | None] = {}
        self._narrow: dict[int, _Narrow] = {}
        self._viability: dict[_Ahead, bool] = {}
        self.start: Final = self._number((inner.start, ahead.start, _NO_TOKEN, ""))

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
        inner, ahead, last, context = self._places.at[place]
        after = self._inner.after_token(inner, token_id)
        if after in (DEAD, FINISHED):
            return after
        behind = self._canonical.context_behind(context, last, token_id)
        return self._number((after, self._further(after, ahead, token_id), token_id, behind))

    def _further(self, after: int, ahead: int, token: int) -> int:
        """The place of the rules alone behind a token that leads to a place of the other core."""
        return after if self._is_plain else self._ahead.after_token(ahead, token)

    def after_bytes(self, place: int, data: bytes) -> int:
        """The place after some bytes, behind which any token may follow; ``DEAD`` if no text goes on so."""
        inner, ahead, _, _ = self._places.at[place]
        after = self._inner.after_bytes(inner, data)
        if after == DEAD:
            return DEAD
        ahead = after if self._is_plain else self._ahead.after_bytes(ahead, data)
        return self._number((after, ahead, _NO_TOKEN, ""))

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
        _, ahead, last, context = self._places.at[place]
        here = (ahead, last, context)
        few = _few_tokens(row)
        if few is not None:
            good = [t for t in few if self._canonical.allows(context, last, t)]
            good = [t for t in good if self._viable(self._behind(here, t))] or good
            return pack_bits(np.array(good, np.int64), self._size) if good else row
        found = self._canonical.after(context, last, row)
        if not found.any():
            return row
        return self._without_blind_alleys(here, found)

    def _without_blind_alleys(self, place: _Ahead, row: Row) -> Row:
        """A row of many tokens without those behind which few are allowed, and none that is written so."""
        ahead, last, context = place
        steps = self._narrow_steps(ahead)
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
        viable: Flags = known == 1
        return viable

    def _narrow_steps(self, place: int) -> _Narrow:
        """The tokens of a place of the rules behind which few are allowed."""
        known = self._narrow.get(place)
        if known is None:
            tokens, places = self._ahead.edges(place)
            kept = self._lead_to_few(places)
            known = self._narrow[place] = _Narrow(tokens[kept], places[kept])
        return known

    def _lead_to_few(self, places: Int64) -> Flags:
        """bool[n], in which of some places few tokens are allowed."""
        if not len(places):
            return np.zeros(0, np.bool_)
        least = int(places.min())
        numbers = (
            places - least
        )  # places that one walk finds are numbered close together: no sorting
        if int(numbers.max()) > _FAR_APART * len(places):
            distinct, numbers = np.unique(places, return_inverse=True)
        else:
            there = np.zeros(int(numbers.max()) + 1, np.bool_)
            there[numbers] = True
            distinct = np.flatnonzero(there) + least
            numbers = (np.cumsum(there) - 1)[numbers]
        narrow = [self._few_at(place) is not None for place in distinct.tolist()]
        flags: Flags = np.array(narrow, np.bool_)[numbers]
        return flags

    def _behind(self, place: _Ahead, token: int) -> _Ahead:
        """The place behind a token."""
        ahead, last, context = place
        if token in self._ends and self._ahead.accepts(ahead):
            return FINISHED, token, ""
        after = self._ahead.after_token(ahead, token)
        return after, token, self._canonical.context_behind(context, last, token)

    def _viable(self, place: _Ahead, depth: int = _DEEPEST) -> bool:
        """Whether tokens that the tokenizer writes lead on, to the end or to where many are allowed.

        Looks no deeper than ``depth`` tokens: what lies beyond counts as viable.
        """
        ahead, last, context = place
        if ahead == FINISHED or depth == 0:
            return True
        known = self._viability.get(place)
        if known is not None:
            return known
        few = self._few_at(ahead)
        found = few is None
        for token in few or ():
            if self._canonical.allows(context, last, token) and self._viable(
                self._behind(place, token), depth - 1
            ):
                found = True
                break
        self._viability[place] = found
        return found

    def _few_at(self, place: int) -> list[int] | None:
        """The tokens that the rules allow in a place, if they are few."""
        if place not in self._few:
            self._few[place] = _few_tokens(self._ahead.mask(place))
        return self._few[place]

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
        _, ahead, last, context = self._places.at[place]
        behind, further = self._canonical.context_behind, self._further
        pairs = zip(places.tolist(), tokens.tolist(), strict=True)
        found = [(q, further(q, ahead, t), t, behind(context, last, t)) for q, t in pairs]
        return np.array([self._number(place) for place in found], np.int64)

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
            *(() if self._is_plain else (_LOOKS_BY_RULES,)),
        )

    # -- memory --------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """Places held now, the reserved ones included."""
        return len(self._places.at) + FIRST_PLACE

    @property
    def nbytes(self) -> int:
        """Memory of places and cached masks, in bytes."""
        own = self.masks.nbytes + _PLACE_BYTES * len(self._places.at)
        return self._inner.nbytes + own + (0 if self._is_plain else self._ahead.nbytes)

    def trim(self, places: set[int]) -> None:
        """Forgets all places but those given, the start among them."""
        self.masks.clear()
        self._few.clear()
        self._narrow.clear()
        self._viability.clear()
        kept = self._places.keep(places)
        self._inner.trim({place[0] for place in kept.values()} | {self._inner.start})
        if not self._is_plain:
            self._ahead.trim({place[1] for place in kept.values()} | {self._ahead.start})


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
