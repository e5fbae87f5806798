"""Whether a canvas can still be filled to a text of the language, masks counted exactly.

A canvas is read as a word over unusual letters: a fixed text, "one token, whichever", "one token or
none".  What can have been reached after some cells is the set of all configurations that some
filling leads to, and a canvas can be completed if and only if that set at its end has one in which
the text may end.  So completability is one more deterministic automaton, whose states are *layers*
(such sets, :mod:`samplers.diffusion.stacks`), built as far as canvases lead and remembered: filling a
mask changes one letter, and what follows is looked up as soon as a layer is reached that was there
before.

Most canvases that can be completed are seen to be without layers, by trying some completions
(:mod:`samplers.diffusion.witness`).

Every step is exact, so no canvas that counts as completable can turn out not to be.  For memory (no
key twice, distinct items), whose sets of earlier keys cannot be merged, layers are only a filter: a
search for one filling decides, and says so where it has to give up (:class:`_Filling`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from threading import RLock
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from constrain.automaton import TokenAutomaton
from constrain.room import begun_again
from constrain.rules import RuleAutomaton
from constrain.uniqueness.search import Pair, Pairs
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError, LimitExceeded
from grammars.grammar import Grammar
from samplers.diffusion.canvas import (
    EMPTY,
    Cell,
    Kind,
    Part,
    cell_of_token,
    cells_of,
    text_bounds,
)
from samplers.diffusion.connectors import AutomatonReader, Reader, RulesReader
from samplers.diffusion.moves import Moves
from samplers.diffusion.stacks import NO_LAYER, MoveStore, Stacks
from samplers.diffusion.witness import (
    TRIES,
    Filling,
    Front,
    Near,
    Outline,
    Segment,
    Verdict,
    Witnesses,
    Worth,
    segments,
)

_DOING: Final = "completing this canvas"
_LEARNED: Final = 4
"""Forms of one canvas from which connectors are learned, at most."""
_KEPT_STATES: Final = 1 << 16
"""States of rules with memory kept for later searches; beyond that they are begun anew."""
_READ_BEHIND: Final = 4096
"""Tokens behind which fixed text is read, at most."""
_KEPT_BYTES: Final = 256 << 20
"""Layers and stacks kept for later canvases; beyond that they are begun anew."""


class _Point(NamedTuple):
    """A boundary of a canvas, and what the text before it leads to.

    Attributes:
        at: the boundary.
        pair: the pair of a grammar with memory.
        state: the rules' state, with its whole stack.
    """

    at: int
    pair: Pair | None
    state: int


class _Ahead:
    """Which layers lead to the end of one canvas."""

    def __init__(
        self, stacks: Stacks, cells: Sequence[Cell], bounds: range, before: Sequence[int] = ()
    ) -> None:
        self.cells: Final = tuple(cells)
        self.bounds: Final = bounds
        self.stacks: Final = stacks
        self._known: dict[tuple[int, int], bool] = {}
        self._before: list[int] = list(before) or [stacks.start]

    def layers_before(self, at: int) -> list[int]:
        """Those known of the layers before the boundaries up to one."""
        return self._before[: at + 1]

    def layer_before(self, at: int) -> int:
        """The layer after the cells before a boundary."""
        before = self._before
        while len(before) <= at:
            before.append(self.stacks.after(before[-1], self.cells[len(before) - 1]))
        return before[at]

    def completes(self, at: int, layer: int) -> bool:
        """Whether the cells from a boundary on can be filled, from a layer."""
        passed: list[tuple[int, int]] = []
        while True:
            known = self._known.get((at, layer))
            if known is None and layer == NO_LAYER:
                known = False
            if known is None and at in self.bounds and self.stacks.may_end(layer):
                known = True
            if known is None and at >= len(self.cells):
                known = False
            if known is not None:
                break
            passed.append((at, layer))
            layer = self.stacks.after(layer, self.cells[at])
            at += 1
        self._known.update(dict.fromkeys(passed, known))
        return known


class _Filling:
    """A search for one filling, which memory, too, accepts.

    Depth first, over the texts themselves; only what the layers of the rules alone lead to the end
    is tried.  Without memory the first try is a filling.  With it the search finds one if there is
    one, and knows that there is none when all are tried.

    Args:
        pairs: of the rules and their memory, if keys or items must not repeat.
        hint: choices by position to be tried first.
    """

    def __init__(
        self,
        pairs: Pairs | None,
        stacks: Stacks,
        ahead: _Ahead,
        hint: Mapping[int, int | None],
    ) -> None:
        self._pairs = pairs
        self._stacks = stacks
        self._moves = stacks.moves
        self._ahead = ahead
        self._hint = hint
        self._room = stacks.moves.limits.max_search_states
        self._seen: set[_Point] = set()

    def find(self) -> dict[int, int | None] | None:
        """A token, or ``None`` for a gap's token left out, by open position before the text's end.

        Raises:
            LimitExceeded: where ``max_search_states`` are not enough to tell.
        """
        pairs = self._pairs
        start = None if pairs is None else (pairs.inner.start, pairs.memory.start)
        ways = [self._once(_Point(0, start, self._moves.start))]
        chosen: list[int | None] = []
        while ways:
            choice, point = next(ways[-1], (None, None))
            if point is None:
                ways.pop()
            elif point not in self._seen:
                self._note(point)
                chosen[len(ways) - 1 :] = [choice]
                if self._is_end(point):
                    return self._named(chosen[1:])
                ways.append(self._ways(point))
        return None

    def _named(self, chosen: list[int | None]) -> dict[int, int | None]:
        cells = self._ahead.cells
        return {i: token for i, token in enumerate(chosen) if cells[i].is_open}

    @staticmethod
    def _once(point: _Point) -> Iterator[tuple[int | None, _Point]]:
        yield None, point

    def _note(self, point: _Point) -> None:
        if len(self._seen) >= self._room:
            raise LimitExceeded("max_search_states", self._room, _DOING)
        self._seen.add(point)

    def _is_end(self, point: _Point) -> bool:
        if point.at not in self._ahead.bounds:
            return False
        if self._pairs is None or point.pair is None:
            return self._moves.may_end(point.state)
        return self._pairs.inner.accepts(point.pair[0])

    def _ways(self, point: _Point) -> Iterator[tuple[int | None, _Point]]:
        if point.at == len(self._ahead.cells):
            return
        cell = self._ahead.cells[point.at]
        choices = self._choices(point, cell) if cell.is_open else iter([None])
        for choice in choices:
            data = cell.data if choice is None else self._moves.vocabulary.texts[choice]
            after = self._through(point, data) if cell.is_open or cell.kind is Kind.TEXT else None
            if after is not None:
                yield choice, after

    def _choices(self, point: _Point, cell: Cell) -> Iterator[int | None]:
        choice = self._hint.get(point.at)
        if choice is not None and self._moves.vocabulary.texts[choice]:  # EOS is none
            yield choice
        if cell.kind is Kind.SLOT:
            yield None
        layer = self._stacks.layer_of_state(point.state)
        yield from _allowed(self._stacks, self._ahead, point.at, layer)

    def _through(self, point: _Point, data: bytes) -> _Point | None:
        pair, state = point.pair, point.state
        if self._pairs is not None and pair is not None and data:
            pair = self._pairs.by_bytes(pair, data)
            if pair is None:
                return None
        for byte in data:
            state = self._moves.pool.advance_symbol(state, byte)
        if not self._ahead.completes(point.at + 1, self._stacks.layer_of_state(state)):
            return None
        return _Point(point.at + 1, pair, state)


def _allowed(stacks: Stacks, ahead: _Ahead, at: int, layer: int) -> Iterator[int]:
    """Tokens for a mask, as far as the rules alone know, in groups that end alike."""
    moves = stacks.moves
    found = np.zeros(moves.vocabulary.size, np.bool_)
    root = np.zeros(1, np.int32)
    waiting = [(head, root, nodes) for head, nodes in stacks.heads(layer)]
    while waiting:
        state, positions, nodes = waiting.pop()
        ends, exits = moves.spread(state, positions)
        for reached, tokens in ends:
            fresh = tokens[~found[tokens]]
            if not len(fresh):
                continue
            after = stacks.layer([(head, frame, nodes) for head, frame in moves.heads(reached)])
            if ahead.completes(at + 1, after):
                found[fresh] = True
                yield from fresh.tolist()
        if len(exits):
            waiting += [(frame, exits, below) for frame, below in stacks.below(nodes)]


def _are_text(cells: Sequence[Cell], positions: Iterable[int]) -> bool:
    """Whether cells are fixed text, no EOS or special token."""
    return all(cells[i].kind is Kind.TEXT for i in positions)


class OpenCanvas:
    """A canvas that is being filled, cell by cell in any order.

    Positions count cells: each mask, each token a gap may have, each fixed id, each fixed text.
    What was worked out for one filling serves the next, and other canvases too.
    """

    def __init__(self, owner: Completability, cells: Sequence[Cell], eos_padding: bool) -> None:
        self._owner = owner
        self._padded = eos_padding
        self._cells = list(cells)
        self._answer: bool | None = None
        self._ahead: _Ahead | None = None
        self._by_layers = False
        self._witness: Filling = {}  # a completion, or at least it was one before
        self._is_sound = False
        self._front = owner.forward(owner.start, self._cells)
        self._outline = Outline.of(self._cells, self._front.at)
        self._bounds = text_bounds(self._cells, eos_padding)
        self._taken: Filling = {}
        self._unseen: list[tuple[list[Cell], Filling]] = []

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def open_positions(self) -> list[int]:
        """Positions of masks and gaps' tokens that are not filled."""
        return [i for i, cell in enumerate(self._cells) if cell.is_open]

    @property
    def is_completable(self) -> bool:
        """Whether the canvas can be filled to a text of the language.

        Raises:
            LimitExceeded: where ``Limits.max_search_states`` is not enough to tell.
        """
        if self._answer is None:
            self._answer = self._holds(self._cells, {})
        return self._answer

    @property
    def blocked_at(self) -> int | None:
        """The first cell that cannot stand behind any filling of those before it, by the rules alone.

        ``None`` if there is none: then the text cannot end where the canvas ends.
        """
        with self._owner.lock:
            _, ahead = self._view(self._cells)
            for i in range(len(self._cells)):
                if ahead.layer_before(i + 1) == NO_LAYER:
                    return i
        return None

    def copy(self) -> OpenCanvas:
        """A canvas that is filled on its own from here."""
        made = OpenCanvas.__new__(OpenCanvas)
        with self._owner.lock:
            made.__dict__.update(self.__dict__)
            made._witness, made._taken = dict(self._witness), dict(self._taken)
            made._unseen = list(self._unseen)
        return made

    def can_fill(self, fills: Mapping[int, int | None], near: Near | None = None) -> bool:
        """Whether the canvas stays completable with these tokens, all together.

        Args:
            fills: token ids by position; ``None`` leaves a gap's token out.
            near: tokens by position that are likely to be a completion; a hint.
        """
        if self._is_sound and fills.items() <= self._witness.items():
            return True
        return self._holds(self._filled(fills), fills, near)

    def take(self, fills: Mapping[int, int | None]) -> None:
        """Fixes tokens that are known to leave a completion: parts of a filling, say."""
        self._take(self._filled(fills), fills)

    def fill(self, position: int, token: int | None) -> bool:
        """Fixes one token, if the canvas stays completable; else nothing changes.

        Returns:
            Whether it was fixed.
        """
        return self.fill_all({position: token})

    def fill_all(self, fills: Mapping[int, int | None]) -> bool:
        """Fixes several tokens, if the canvas stays completable with all of them."""
        cells = self._filled(fills)
        if not self._holds(cells, fills):
            return False
        self._take(cells, fills)
        return True

    def allowed(self, position: int, among: Iterable[int] | None = None) -> npt.NDArray[np.int64]:
        """Ids of the tokens that can be fixed at a mask, ascending.

        Args:
            position: of a mask or a gap's token.
            among: ids to judge, all by default.  A few are faster than all; with memory all take very
                long.
        """
        self._check_open(position)
        found = self._by_rules(position) if among is None else self._those_by_rules(position, among)
        if self._owner.has_memory:
            found = [token for token in found if self.can_fill({position: token})]
        return np.array(sorted(set(found)), np.int64)

    def first_mask(self) -> tuple[int, npt.NDArray[np.bool_]] | None:
        """The first open position, and the tokens that may stand between its fixed neighbours: bool[V].

        Cheap, and a filter: what stands behind may refuse more.  Only for canvases whose fixed parts are
        tokens.  ``None`` if EOS or a special token comes first, nothing is open, or no token can follow.
        """
        cells, automaton = self._cells, self._owner.automaton
        at = next((i for i, cell in enumerate(cells) if cell.kind is not Kind.TEXT), len(cells))
        if at == len(cells) or not cells[at].is_open:
            return None
        before = b"".join([cell.data for cell in cells[:at]])
        allowed = begun_again(automaton, lambda: _allowed_behind(automaton, before))
        if not len(allowed):
            return None
        behind = itertools.takewhile(lambda cell: cell.kind is Kind.TEXT, cells[at + 1 :])
        text = b"".join([cell.data for cell in behind])
        reader = self._owner.witnesses.reader
        if text and len(allowed) <= _READ_BEHIND and isinstance(reader, RulesReader):
            with self._owner.lock:
                begin = reader.read(reader.start, before)
                allowed = allowed[reader.can_stand_before(begin, allowed, text)]
        flags = np.zeros(automaton.vocabulary.size, np.bool_)
        flags[allowed] = True
        return at, flags

    def completion(self) -> dict[int, int | None] | None:
        """One way to fill all open positions; ``None`` if there is none.

        A gap's token that is left out is ``None``.
        """
        with self._owner.lock:
            stacks, ahead = self._view(self._cells)
            if not ahead.completes(0, stacks.start):
                return None
            found = self._owner.filling(stacks, ahead, self._witness)
        return None if found is None else self._to_the_end(found, self._cells)

    def _to_the_end(self, filling: Filling, cells: Sequence[Cell]) -> Filling:
        """A filling up to the end of its text, and EOS or nothing behind it."""
        end = self._owner.moves.vocabulary.eos_token_ids[0]
        rest = {i: end if c.kind is Kind.MASK else None for i, c in enumerate(cells) if c.is_open}
        return rest | filling

    def _those_by_rules(self, position: int, tokens: Iterable[int]) -> list[int]:
        """Those of some tokens that the rules alone allow."""
        found: list[int] = []
        with self._owner.lock:
            stacks, ahead = self._view(self._cells)
            layer = ahead.layer_before(position)
            for token in tokens:
                cell = self._owner.cell(token)
                if cell.kind is not Kind.TEXT:
                    fits = self.can_fill({position: token})
                else:
                    fits = ahead.completes(position + 1, stacks.after(layer, cell))
                if fits:
                    found.append(token)
        return found

    def _by_rules(self, position: int) -> list[int]:
        """Tokens that the rules alone allow, EOS included."""
        with self._owner.lock:
            stacks, ahead = self._view(self._cells)
            found = list(_allowed(stacks, ahead, position, ahead.layer_before(position)))
        ends = self._owner.moves.vocabulary.eos_token_ids
        if self._padded and self.can_fill({position: ends[0]}):
            found += ends
        return found

    def _check_open(self, position: int) -> None:
        if not 0 <= position < len(self._cells):
            raise ValueError(
                f"position {position} is outside this canvas of {len(self._cells)} cells"
            )
        if not self._cells[position].is_open:
            raise ValueError(f"position {position} of the canvas is fixed")

    def _filled(self, fills: Mapping[int, int | None]) -> list[Cell]:
        cells = list(self._cells)
        for position, token in fills.items():
            self._check_open(position)
            if token is not None:
                cells[position] = self._owner.cell(token)
            elif cells[position].kind is Kind.SLOT:
                cells[position] = EMPTY
            else:
                raise ValueError(f"position {position} is a mask: it must become a token")
        return cells

    def _take(self, cells: list[Cell], fills: Mapping[int, int | None]) -> None:
        """The canvas becomes some cells, which can be completed."""
        if not fills:
            return
        with self._owner.lock:
            bounds = self._bounds_of(cells, fills)
            ahead, stacks = self._ahead, self._owner.current()
            if ahead is not None:
                known = ahead.layers_before(min(fills)) if ahead.stacks is stacks else ()
                ahead = _Ahead(stacks, cells, bounds, known)
            self._front = self._owner.forward(self._front, cells)
            self._outline = self._outline_of(cells, fills)
            self._cells, self._bounds, self._ahead = cells, bounds, ahead
            self._answer, self._by_layers = True, False
            self._is_sound &= fills.items() <= self._witness.items()
            self._taken.update(fills)
            for i in fills:
                self._witness.pop(i, None)
            if self._unseen and not self.open_positions:
                self._learn()

    def _outline_of(self, cells: list[Cell], fills: Collection[int]) -> Outline | None:
        """That of cells, those of the canvas but for some positions, from the front on."""
        known, at = self._outline, self._front.at
        if known is None or at < known.begin or not _are_text(cells, fills):
            return Outline.of(cells, at)
        return known.after(cells, fills, at)

    def _learn(self) -> None:
        """The canvas is filled: its forms for which trying found nothing have a completion now."""
        with suppress(LimitExceeded):
            for cells, fills in self._unseen:
                if fills.items() <= self._taken.items():
                    self._owner.witnesses.learn(cells, self._taken)
        self._unseen.clear()

    def _bounds_of(self, cells: list[Cell], changed: Collection[int]) -> range:
        """Where the text may end in cells, those of the canvas but for some positions."""
        if self._padded or any(cells[i].kind is Kind.EOS for i in changed):
            return text_bounds(cells, self._padded)
        return self._bounds

    def _saw(self, witness: Filling) -> None:
        """A completion of the present canvas."""
        self._witness, self._is_sound = witness, True

    def _holds(
        self, cells: list[Cell], fills: Mapping[int, int | None], near: Near | None = None
    ) -> bool:
        """Whether cells, those of the canvas with some filled, can be completed."""
        with self._owner.lock:
            worth = self._owner.witnesses.worth(self._by_layers)
            if self._by_layers and worth is None:
                return self._holds_by_layers(cells, fills, None)
            verdict, found = self._tried(cells, fills, near, worth)
            if verdict is Verdict.FOUND:
                self._saw({**found, **fills})
                return True
            if verdict is Verdict.NONE:
                return False
            return self._holds_by_layers(cells, fills, worth)

    def _tried(
        self,
        cells: list[Cell],
        fills: Mapping[int, int | None],
        near: Near | None,
        worth: Worth | None,
    ) -> tuple[Verdict, Filling]:
        """What trying says; nothing where it runs into a limit, for layers may not."""
        hints = [hint for hint in (near, self._witness) if hint]
        bounds = self._bounds_of(cells, fills)
        parts = self._segments(cells, fills)
        witnesses = self._owner.witnesses

        def find() -> tuple[Verdict, Filling]:
            return witnesses.find(parts, len(cells), bounds, self._front.state, hints, worth)

        try:
            if witnesses.reader.knows:  # its states are in a pool of its own
                return find()
            return begun_again(self._owner.automaton, find)
        except LimitExceeded:
            return Verdict.UNKNOWN, {}

    def _segments(self, cells: list[Cell], fills: Collection[int]) -> list[Segment]:
        """Cells, those of the canvas but for some positions, from the front on."""
        if self._outline is not None and _are_text(cells, fills):
            return self._outline.filled(cells, fills)
        return segments(cells, self._front.at)

    def _holds_by_layers(
        self, cells: list[Cell], fills: Mapping[int, int | None], searched: Worth | None
    ) -> bool:
        """The same where trying does not tell."""
        self._by_layers = True
        stacks = self._owner.current()
        steps = stacks.steps
        holds = self._follow_rules(cells, fills)
        if searched is not None:
            searched.note_steps(stacks.steps - steps)
        if holds and self._owner.has_memory:
            found = self._owner.filling(*self._view(cells), self._witness)
            holds = found is not None
            if found is not None:
                self._saw({**self._to_the_end(found, cells), **fills})
        if holds and searched is not None and len(self._unseen) < _LEARNED:
            self._unseen.append((cells, dict(fills)))
        return holds

    def _follow_rules(self, cells: list[Cell], changed: Collection[int]) -> bool:
        """The same by the rules alone.  What is before and behind the changes is looked up."""
        stacks, ahead = self._view(self._cells)
        if not changed:
            return ahead.completes(0, stacks.start)
        if self._bounds_of(cells, changed) != ahead.bounds:
            return self._view(cells)[1].completes(0, stacks.start)
        first, last = min(changed), max(changed)
        if any(stacks.may_end(ahead.layer_before(at)) for at in ahead.bounds if at < first):
            return True
        layer = ahead.layer_before(first)
        for at in range(first, last + 1):
            if at in ahead.bounds and stacks.may_end(layer):
                return True
            layer = stacks.after(layer, cells[at])
        return ahead.completes(last + 1, layer)

    def _view(self, cells: list[Cell]) -> tuple[Stacks, _Ahead]:
        """The present stacks, and what lies ahead of each cell."""
        stacks = self._owner.current()
        if cells is not self._cells:
            return stacks, _Ahead(stacks, cells, text_bounds(cells, self._padded))
        if self._ahead is None or self._ahead.stacks is not stacks:
            self._ahead = _Ahead(stacks, cells, self._bounds)
        return stacks, self._ahead


class Completability:
    """Which canvases can be filled to a text of an automaton's language.

    Args:
        automaton: of any grammar.
        tries: texts that are read in search of a completion before layers are worked out; 0 for none.

    Example:
        >>> canvas = Completability(automaton).open(['{"a": ', Masks(3), "}"])
        >>> canvas.is_completable, canvas.fill(2, token)
    """

    def __init__(self, automaton: TokenAutomaton, *, tries: int = TRIES) -> None:
        self.automaton: Final = automaton
        self.lock: Final = RLock()
        self._pairs = _pairs_of(automaton)
        self.moves: Final = Moves(automaton.rules_only())
        self._store = MoveStore(self.moves)
        self._stacks = Stacks(self._store)
        reader: Reader = RulesReader(self.moves)
        if self._pairs is not None:
            reader = AutomatonReader(automaton)
        self.witnesses: Final = Witnesses(reader, self.moves.vocabulary, tries)
        self.start: Final = Front(0, reader.start)
        self._cell_of: dict[int, Cell] = {}

    def current(self) -> Stacks:
        """The stacks and layers that all canvases share, begun anew when there are many."""
        if self._stacks.nbytes > _KEPT_BYTES or self._stacks.is_crowded:
            self._stacks = Stacks(self._store)
        return self._stacks

    @property
    def has_memory(self) -> bool:
        """Whether the language depends on which keys or items occurred before."""
        return self._pairs is not None

    def open(self, canvas: Sequence[Part], *, eos_padding: bool = False) -> OpenCanvas:
        """A canvas to be filled.

        Args:
            canvas: fixed text (``str`` or ``bytes``), token ids, ``None`` for a mask, ``Masks``
                and ``Gap``.
            eos_padding: a suffix of the canvas may be EOS.
        """
        cells = cells_of(canvas, self.moves.vocabulary, self.cell)
        return OpenCanvas(self, cells, eos_padding)

    def is_completable(self, canvas: Sequence[Part], *, eos_padding: bool = False) -> bool:
        """Whether a canvas can be filled to a text of the language."""
        return self.open(canvas, eos_padding=eos_padding).is_completable

    def cell(self, token: int) -> Cell:
        """The cell of a fixed token."""
        known = self._cell_of.get(token)
        if known is None:
            known = self._cell_of[token] = cell_of_token(token, self.moves.vocabulary)
        return known

    def forward(self, front: Front, cells: Sequence[Cell]) -> Front:
        """What is fixed before the first open cell, read from a front on."""
        reader = self.witnesses.reader
        if not reader.knows:  # its states are the caller's, who may trim the automaton meanwhile
            return front
        at = front.at
        while at < len(cells) and cells[at].kind is Kind.TEXT:
            at += 1
        data = b"".join(cell.data for cell in cells[front.at : at])
        try:
            with self.lock:
                return Front(at, reader.read(front.state, data))
        except LimitExceeded:  # layers may not run into it
            return self.start

    def filling(
        self, stacks: Stacks, ahead: _Ahead, hint: Mapping[int, int | None]
    ) -> dict[int, int | None] | None:
        """One filling, near the hinted one; see :class:`_Filling`."""
        most = min(_KEPT_STATES, self.automaton.limits.max_states // 2)
        if self._pairs is not None and self._pairs.inner.state_count > most:
            self._pairs = _pairs_of(self.automaton)
        return _Filling(self._pairs, stacks, ahead, hint).find()


def is_completable(
    grammar: Grammar,
    vocabulary: Vocabulary,
    ids: Sequence[int | None],
    *,
    eos_padding: bool = False,
) -> bool:
    """Whether masks can be replaced by tokens so that the text is in the language.

    Args:
        grammar: any grammar.
        vocabulary: the tokens.
        ids: token ids; ``None`` is a mask, to become exactly one token that has bytes.
        eos_padding: a suffix of the masks may become EOS instead, and EOS may stand there already.

    Raises:
        ValueError: for an id outside the vocabulary.
        LimitExceeded: where ``Limits.max_search_states`` is not enough to tell.
    """
    try:
        return _is_completable(grammar, vocabulary, ids, eos_padding)
    except LimitExceeded as error:
        if error.limit != "max_states":
            raise
    _engine.cache_clear()  # states that earlier canvases left behind are forgotten
    return _is_completable(grammar, vocabulary, ids, eos_padding)


def _is_completable(
    grammar: Grammar, vocabulary: Vocabulary, ids: Sequence[int | None], eos_padding: bool
) -> bool:
    engine = _engine(grammar, vocabulary)
    if engine is None:
        cells_of(ids, vocabulary)
        return False
    return engine.is_completable(ids, eos_padding=eos_padding)


@lru_cache(maxsize=16)
def _engine(grammar: Grammar, vocabulary: Vocabulary) -> Completability | None:
    """``None`` where no text of the language can be written in tokens."""
    if grammar.is_empty:
        return None
    try:
        return Completability(TokenAutomaton(grammar, vocabulary))
    except LimitExceeded:
        raise
    except GrammarError:
        return None


def _allowed_behind(automaton: TokenAutomaton, text: bytes) -> npt.NDArray[np.int64]:
    """Ids of the tokens that may follow a text; none if it begins no text of the language."""
    return automaton.allowed_tokens(automaton.advance_bytes(automaton.start, text))


def _pairs_of(automaton: TokenAutomaton) -> Pairs | None:
    """Pairs of rules and memory in a pool of their own; ``None`` if nothing has to be remembered.

    Not the automaton's: fixed text need not end where tokens can go on, and callers may trim that.
    """
    if automaton.rules_only() is automaton:
        return None
    if automaton.grammar.layout is not None:
        raise GrammarError(
            "canvases are not filled by grammars with indentation (%declare _INDENT _DEDENT), whose widths "
            "depend on all of the text before; use such a grammar with an autoregressive sampler"
        )
    memory = automaton.grammar.memory()
    assert memory is not None, "there is more than rules"
    grammar, vocabulary, limits = automaton.grammar, automaton.vocabulary, automaton.limits
    rules = RuleAutomaton(grammar, vocabulary, limits, judges_spelling=False)
    return Pairs(rules, memory, wants_marks=False)
