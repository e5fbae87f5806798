"""Completions found by trying: the cheap way to see that a canvas can be completed.

One text shows that a canvas has a completion, and reading a text costs microseconds, where a layer of a
language like C costs up to a millisecond.  So before layers are worked out, some texts are tried, each run
of open cells with what a text near at hand has there (the completion that was seen last, the model's
likeliest tokens), and with :mod:`connectors <samplers.diffusion.connectors>`.

Trying finds completions and never refuses, with one exception: fixed text before the first open cell that
the grammar (without memory) cannot read leaves none, whatever follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from constrain.engine.pool import DEAD
from constrain.vocabulary import Vocabulary
from samplers.diffusion.canvas import Cell, Kind
from samplers.diffusion.connectors import Connectors, Reader, Run

Filling: TypeAlias = dict[int, int | None]
"""A token, or ``None`` for a gap's token that is left out, by position."""
Near: TypeAlias = Mapping[int, int | None]
"""Likewise, of a text that is likely to be one; not all positions need be there."""

TRIES: Final = 2000
"""Texts tried for one canvas, at most."""
_MEMORY: Final = 0.05
"""Share of the newest search in what is known of all."""
_PER_STEP: Final = 500
"""Texts tried in about the time that one new layer takes."""
_LOOK_AGAIN: Final = 32
"""Every so many canvases are searched though it was not worth it of late."""
_OPEN: Final = (Kind.MASK, Kind.SLOT)


class Verdict(Enum):
    """What trying says."""

    FOUND = "found"
    NONE = "none"
    UNKNOWN = "unknown"


class Segment(NamedTuple):
    """Cells of one kind that follow each other.

    Attributes:
        kind: ``TEXT``, ``MASK`` or ``SLOT``; any other ends what can be read.
        begin, end: positions.
        data: of fixed text.
    """

    kind: Kind
    begin: int
    end: int
    data: bytes = b""


class Front(NamedTuple):
    """How far the cells are fixed, and the state there."""

    at: int
    state: int


class _Way(NamedTuple):
    """One way through a run.

    Attributes:
        part: the run.
        tokens: from its beginning on; nothing or EOS behind them.
        at: the part behind what was read.
        state: there.
        ends: whether the text ends behind the tokens.
        connector: that was used, or -1.
    """

    part: Segment
    tokens: Sequence[int | None]
    at: int
    state: int
    ends: bool = False
    connector: int = -1


def segments(cells: Sequence[Cell], begin: int = 0) -> list[Segment]:
    """Cells from a position on, those of one kind together."""
    out: list[Segment] = []
    for kind, same in itertools.groupby(cells[begin:], key=lambda cell: cell.kind):
        members = list(same)
        data = b"".join([cell.data for cell in members]) if kind is Kind.TEXT else b""
        out.append(Segment(kind, begin, begin + len(members), data))
        begin += len(members)
    return out


class Outline(NamedTuple):
    """What a canvas looks like, so that its segments with some cells filled are soon there.

    Attributes:
        begin: where what is still to be read begins.
        data: fixed text from there to the first open cell.
        opens: position and kind of each open cell, and the fixed text behind it.
        end: of the canvas.
    """

    begin: int
    data: bytes
    opens: list[tuple[int, Kind, bytes]]
    end: int

    @classmethod
    def of(cls, cells: Sequence[Cell], begin: int) -> Outline | None:
        """That of cells from a position on; ``None`` if EOS or a special token is among them."""
        parts = segments(cells, begin)
        data, opens = b"", list[tuple[int, Kind, bytes]]()
        for part in parts:
            if part.kind in _OPEN:
                opens += [(i, part.kind, b"") for i in range(part.begin, part.end)]
            elif part.kind is not Kind.TEXT:
                return None
            elif opens:
                opens[-1] = (*opens[-1][:2], part.data)
            else:
                data = part.data
        return cls(begin, data, opens, len(cells))

    def after(self, cells: Sequence[Cell], fills: Container[int], begin: int) -> Outline:
        """That of the cells, of which those of some positions are text now, read up to a position.

        Args:
            cells: of the canvas.
            fills: positions.
            begin: that of the first open cell, or where this outline begins.
        """
        data, opens = self.data, list[tuple[int, Kind, bytes]]()
        for i, kind, behind in self.opens:
            if i not in fills:
                opens.append((i, kind, behind))
            elif opens:
                at, before, text = opens[-1]
                opens[-1] = (at, before, text + cells[i].data + behind)
            else:
                data += cells[i].data + behind
        return Outline(begin, data if begin == self.begin else b"", opens, self.end)

    def filled(self, cells: Sequence[Cell], fills: Container[int]) -> list[Segment]:
        """Segments of the cells, of which those of some positions are text now."""
        out: list[Segment] = []
        begin, parts = self.begin, [self.data]
        for i, kind, behind in self.opens:
            if i in fills:
                parts += (cells[i].data, behind)
                continue
            if i > begin:
                out.append(Segment(Kind.TEXT, begin, i, b"".join(parts)))
            if i == begin and out and out[-1].kind is kind:
                out[-1] = Segment(kind, out[-1].begin, i + 1)
            else:
                out.append(Segment(kind, i, i + 1))
            begin, parts = i + 1, [behind]
        if self.end > begin:
            out.append(Segment(Kind.TEXT, begin, self.end, b"".join(parts)))
        return out


class Worth:
    """Whether a search is cheaper, of late, than the layers that it saves."""

    def __init__(self) -> None:
        self._found = 0.5  # share of searches that found one; moving, like the next two
        self._tried = 50.0
        self._steps = 20.0
        self._skipped = 0

    def pays(self) -> bool:
        """Whether to search the next canvas; at times it is looked at again though it did not pay."""
        if self._tried < _PER_STEP * self._found * self._steps:
            return True
        self._skipped = (self._skipped + 1) % _LOOK_AGAIN
        return not self._skipped

    def note_search(self, tried: int, found: bool) -> None:
        """A search tried so many texts."""
        self._tried += _MEMORY * (tried - self._tried)
        self._found += _MEMORY * (found - self._found)

    def note_steps(self, count: int) -> None:
        """An answer by layers needed so many new ones."""
        self._steps += _MEMORY * (count - self._steps)


class Witnesses:
    """Finds completions of canvases of one language by trying; learns from those that it did not find.

    Args:
        reader: of texts of the language.
        vocabulary: the tokens.
        tries: texts tried for one canvas, at most; 0 reads only what is fixed at the beginning.

    Attributes:
        at_first, after_layers: what searches were worth, before and after layers had to be asked.

    Methods are not thread-safe: the caller holds a lock.
    """

    def __init__(self, reader: Reader, vocabulary: Vocabulary, tries: int = TRIES) -> None:
        self.reader: Final = reader
        self.texts: Final = vocabulary.texts
        self.eos: Final = vocabulary.eos_token_ids
        self.connectors: Final = Connectors(vocabulary)
        self.at_first: Final = Worth()
        self.after_layers: Final = Worth()
        self._tries = tries

    def worth(self, by_layers: bool) -> Worth | None:
        """What is told how a search went; ``None`` if none is to be made.

        Args:
            by_layers: whether layers of the canvas had to be asked already.
        """
        worth = self.after_layers if by_layers else self.at_first
        return worth if self._tries and worth.pays() else None

    def find(
        self,
        parts: Sequence[Segment],
        end: int,
        bounds: range,
        state: int,
        near: Sequence[Near] = (),
        worth: Worth | None = None,
    ) -> tuple[Verdict, Filling]:
        """A completion, if trying finds one.

        Args:
            parts: of the canvas, from some position on.
            end: the position at its end.
            bounds: boundaries at which the text may end.
            state: before the parts.
            near: texts to be tried first.
            worth: is told what a search with connectors took; without it they are not tried.
        """
        tries = self._tries if worth is not None else 0
        search = _Search(self, parts, end, bounds, near if self._tries else (), tries)
        filling = search.run(state)
        if search.is_stuck and self.reader.knows:
            return Verdict.NONE, {}
        if worth is not None and any(part.kind in _OPEN for part in parts):
            worth.note_search(tries - search.left, filling is not None)
        return (Verdict.UNKNOWN, {}) if filling is None else (Verdict.FOUND, filling)

    def learn(self, cells: Sequence[Cell], filling: Near) -> None:
        """Keeps what joins the fixed parts of a canvas in a filling of it.

        Args:
            cells: of a canvas for which no completion was found by trying.
            filling: one that was found otherwise.  Nothing is learned if it ends before the canvas.
        """
        parts = segments(cells)
        fills = [self._tokens(part, filling) for part in parts]
        texts = [
            part.data if fill is None else b"".join(self.texts[t] for t in fill)
            for part, fill in zip(parts, fills, strict=True)
        ]
        if sum(fill is None for fill in fills) > sum(part.kind is Kind.TEXT for part in parts):
            return
        state = self.reader.start
        for i, (part, fill) in enumerate(zip(parts, fills, strict=True)):
            if fill is not None:
                run = Run(part.end - part.begin, part.kind is Kind.SLOT)
                self.connectors.learn(self.reader, state, fill, run, b"".join(texts[i + 1 :]))
            state = self.reader.read(state, texts[i])

    def _tokens(self, part: Segment, filling: Near) -> list[int] | None:
        """The tokens of a run; ``None`` for other parts, and where the text ends in it."""
        if part.kind not in _OPEN:
            return None
        tokens = [filling[i] for i in range(part.begin, part.end)]
        if any(token in self.eos for token in tokens):
            return None
        return [token for token in tokens if token is not None]


class _Search:
    """One search, depth first; see :class:`Witnesses`.

    Attributes:
        left: texts that may still be tried, those near at hand apart.
        is_stuck: whether nothing open stands before what could not be read.
    """

    def __init__(
        self,
        owner: Witnesses,
        parts: Sequence[Segment],
        end: int,
        bounds: range,
        near: Sequence[Near],
        tries: int,
    ) -> None:
        self._owner = owner
        self._reader = owner.reader
        self._parts = parts
        self._end = end
        self._bounds = bounds
        self._near = near
        self._seen: set[tuple[int, int]] = set()
        self.left = tries
        self.is_stuck = False

    def run(self, state: int) -> Filling | None:
        """A completion from a state before the first part, or ``None``."""
        chosen: list[_Way] = []
        waiting: list[Iterator[_Way]] = []
        at, ends = 0, False
        if state == DEAD:
            self.is_stuck = True
            return None
        while True:
            entered = None if ends else self._enter(at, state)
            if ends or (entered is not None and entered[2]):
                return self._filling(chosen, at if entered is None else entered[0])
            if entered is not None:
                waiting.append(self._ways(*entered[:2]))
            while waiting:
                way = next(waiting[-1], None)
                if way is not None:
                    break
                waiting.pop()
            else:
                return None
            chosen[len(waiting) - 1 :] = [way]
            at, state, ends = way.at, way.state, way.ends

    def _enter(self, at: int, state: int) -> tuple[int, int, bool] | None:
        """Reads fixed text up to the next run: where that is, the state, and whether the text ends there.

        ``None`` where that cannot be, or was tried before.
        """
        reader, first = self._reader, at == 0
        while True:
            begin = self._parts[at].begin if at < len(self._parts) else self._end
            if begin in self._bounds and reader.may_end(state):
                return at, state, True
            part = self._parts[at] if at < len(self._parts) else _NOTHING
            if part.kind in _OPEN:
                if (at, state) in self._seen:
                    return None
                self._seen.add((at, state))
                return at, state, False
            state = reader.read(state, part.data) if part.kind is Kind.TEXT else DEAD
            if state == DEAD:
                self.is_stuck = first
                return None
            at += 1

    def _filling(self, chosen: Sequence[_Way], end: int) -> Filling:
        """The filling that some ways make, the text ending before a part."""
        filling: Filling = {}
        eos = self._owner.eos[0]
        for way in chosen:
            filling.update(enumerate(way.tokens, way.part.begin))
            if way.connector >= 0:
                self._owner.connectors.use(way.connector)
        for part in [*(way.part for way in chosen), *self._parts[end:]]:
            if part.kind in _OPEN:
                none = None if part.kind is Kind.SLOT else eos
                for i in range(part.begin, part.end):
                    filling.setdefault(i, none)
        return filling

    def _ways(self, at: int, state: int) -> Iterator[_Way]:
        """Ways through a run."""
        part = self._parts[at]
        for near in self._near:
            yield from self._as(near, at, state)
        if part.begin < self._bounds.stop and part.end > self._bounds.start:
            yield from self._ends_inside(at, state)
        run = Run(part.end - part.begin, part.kind is Kind.SLOT)
        behind = self._parts[at + 1] if at + 1 < len(self._parts) else _NOTHING
        after = at + 1 + (behind.kind is Kind.TEXT)
        book, rank = self._owner.connectors, 0
        while rank < len(book) and self.left > 0:
            joints, stop = self._reader.joints(book, rank, state, run, behind.data)
            self.left -= stop - rank
            rank = stop
            for number, padding, reached in joints:
                tokens: list[int | None] = list(book.tokens(number))
                missing = None if padding < 0 else book.padding[padding][0]
                tokens += [missing] * (run.room - len(tokens))
                yield _Way(part, tokens, after, reached, connector=number)

    def _as(self, near: Near, at: int, state: int) -> Iterator[_Way]:
        """What a text has there, up to its end."""
        part, owner = self._parts[at], self._owner
        tokens = [near.get(i, _MISSING) for i in range(part.begin, part.end)]
        if not all(t is None or 0 <= t < len(owner.texts) for t in tokens):
            return
        size = next((i for i, t in enumerate(tokens) if t in owner.eos), len(tokens))
        kept = [None if t is None else owner.texts[t] for t in tokens[:size]]
        if any((t is None and part.kind is Kind.MASK) or t == b"" for t in kept):
            return
        state = self._reader.read(state, b"".join([t for t in kept if t is not None]))
        if state == DEAD:
            return
        if size == len(tokens):
            yield _Way(part, tokens, at + 1, state)
        elif part.begin + size in self._bounds and self._reader.may_end(state):
            yield _Way(part, tokens[:size], at + 1, state, ends=True)

    def _ends_inside(self, at: int, state: int) -> Iterator[_Way]:
        """Ways to end the text in a run."""
        part, book = self._parts[at], self._owner.connectors
        for number, data in book.ranked():
            tokens = book.tokens(number)
            if part.begin + len(tokens) not in self._bounds or len(tokens) > part.end - part.begin:
                continue
            if self.left <= 0:
                return
            self.left -= 1
            after = self._reader.read(state, data)
            if after != DEAD and self._reader.may_end(after):
                yield _Way(part, tokens, at + 1, after, ends=True, connector=number)


_MISSING: Final = -1
_NOTHING: Final = Segment(Kind.NEVER, 0, 0)
