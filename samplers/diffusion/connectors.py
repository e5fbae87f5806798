"""Connectors: short texts that join what stands on both sides of a run of masks.

``) {`` or ``x; }`` make the end of a line of C from nearly any beginning of one, once they are filled up to
the number of masks with tokens that change nothing in many languages: blanks, letters, digits.  Which
ones a language needs is learned (:meth:`Connectors.learn`): the shortest part of a filling that still joins
its two sides is kept, and those that were of use most often are tried first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from constrain.automaton import TokenAutomaton
from constrain.engine.jit import kernels, load
from constrain.engine.pool import DEAD
from constrain.vocabulary import Vocabulary
from samplers.diffusion.moves import Moves

k = load("samplers.diffusion._kernels")

KEPT: Final = 1000
"""Connectors kept."""
LONGEST: Final = 16
"""Tokens of a run from which a connector is made."""
_PADDING: Final = (b" ", b"a", b"0")
"""What runs are filled up with, if the vocabulary has it as tokens."""
_AT_ONCE: Final = 4
"""Joints worked out together."""


class Joint(NamedTuple):
    """One way to join a state and a text.

    Attributes:
        connector: its number.
        padding: which padding fills up the run, an index of ``Connectors.padding``; -1 for none.
        state: behind the text.
    """

    connector: int
    padding: int
    state: int


class Reader(Protocol):
    """Reads texts of a language.

    Attributes:
        start: the state of the empty text.
        knows: whether a text that leads to ``DEAD`` is the beginning of none.
    """

    start: int
    knows: bool

    def read(self, state: int, data: bytes) -> int:
        """The state after some bytes."""
        ...

    def may_end(self, state: int) -> bool:
        """Whether the text may end at a state."""
        ...

    def joints(
        self, connectors: Connectors, begin: int, state: int, run: Run, text: bytes
    ) -> tuple[list[Joint], int]:
        """Some ways to join a state and a text, which lead to different states.

        Args:
            connectors: those of rank ``begin`` and after are tried.
            state: before the run.
            run: what is between.
            text: behind it; may be empty.

        Returns:
            The ways, and the rank of the first connector that was not tried.
        """
        ...


class Run(NamedTuple):
    """A run of open cells.

    Attributes:
        room: how many.
        is_gap: whether any of them may stay empty: then nothing is filled up.
    """

    room: int
    is_gap: bool


class Connectors:
    """Connectors of one language, the most useful ones first.

    Args:
        vocabulary: the tokens.

    Attributes:
        padding: tokens that fill up a run, with their byte.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        texts = vocabulary.texts
        self._texts: Final = texts
        self.padding: Final = [(texts.index(data), data) for data in _PADDING if data in texts]
        self._tokens: list[tuple[int, ...]] = []
        self._data: list[bytes] = []
        self._uses: list[int] = []
        self._known: set[tuple[int, ...]] = set()
        self._order = np.zeros(KEPT, np.int32)
        self._sizes = np.zeros(KEPT, np.int32)
        self._begins = np.zeros(KEPT + 1, np.int64)
        self._bytes = np.zeros(1 << 10, np.uint8)
        filled = [np.frombuffer(data * k.PAD_BYTES, np.uint8) for _, data in self.padding]
        self._filled = np.concatenate([*filled, np.zeros(1, np.uint8)])
        self._table = np.zeros(k.BOOK_SIZE, np.int64)
        self.keep(())

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def address(self) -> int:
        """Of the table that kernels read."""
        return int(self._table.ctypes.data)

    def tokens(self, number: int) -> tuple[int, ...]:
        """The tokens of a connector."""
        return self._tokens[number]

    def ranked(self, begin: int = 0) -> Iterator[tuple[int, bytes]]:
        """Numbers and bytes, from a rank on."""
        for number in self._order[begin : len(self)].tolist():
            yield number, self._data[number]

    def use(self, number: int) -> None:
        """A connector was of use: it moves up."""
        order, uses = self._order, self._uses
        uses[number] += 1
        at = int(np.flatnonzero(order[: len(self)] == number)[0])
        while at and uses[order[at - 1]] < uses[number]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = number

    def keep(self, tokens: tuple[int, ...]) -> None:
        """Keeps a connector of tokens with bytes; if there are too many, for that of least use."""
        if tokens in self._known or not all(self._texts[t] for t in tokens):
            return
        data = b"".join(self._texts[t] for t in tokens)
        if len(self) < KEPT:
            self._tokens.append(tokens)
            self._data.append(data)
            self._uses.append(1)
            self._order[len(self) - 1] = len(self) - 1
        else:
            last = int(self._order[-1])
            self._known.discard(self._tokens[last])
            self._tokens[last], self._data[last], self._uses[last] = tokens, data, 1
        self._known.add(tokens)
        self._lay_out()

    def _lay_out(self) -> None:
        """Writes down all connectors for the kernels."""
        self._bytes = np.frombuffer(b"".join([*self._data, b"\0"]), np.uint8)
        self._sizes[: len(self)] = [len(tokens) for tokens in self._tokens]
        self._begins[1 : len(self) + 1] = np.cumsum([len(data) for data in self._data])
        for field, array in (
            (k.BOOK_ORDER, self._order),
            (k.BOOK_TOKENS, self._sizes),
            (k.BOOK_BEGIN, self._begins),
            (k.BOOK_BYTES, self._bytes),
            (k.BOOK_FILLED, self._filled),
        ):
            self._table[field] = array.ctypes.data
        self._table[k.BOOK_COUNT] = len(self)
        self._table[k.BOOK_PADDINGS] = len(self.padding)

    # -- learning ------------------------------------------------------------------------------

    def learn(
        self, reader: Reader, state: int, tokens: Sequence[int], run: Run, rest: bytes
    ) -> None:
        """Keeps what joins a state and the rest of a text, if some tokens do so.

        Args:
            reader: of texts of the language.
            state: before the run.
            tokens: of the run; not kept if there are more than ``LONGEST``.
            run: what they fill.
            rest: all behind the run, up to the end of the text.
        """
        kept, size = list(tokens), len(tokens)
        if size > LONGEST or not self._joins(reader, state, kept, run, rest):
            return
        while size:
            for at in range(len(kept) - size + 1):
                fewer = kept[:at] + kept[at + size :]
                if self._joins(reader, state, fewer, run, rest):
                    kept, size = fewer, len(fewer)
                    break
            else:
                size -= 1
        self.keep(tuple(kept))

    def _joins(
        self, reader: Reader, state: int, tokens: Sequence[int], run: Run, rest: bytes
    ) -> bool:
        state = reader.read(state, b"".join(self._texts[t] for t in tokens))
        missing = 0 if run.is_gap else run.room - len(tokens)
        fills = [data * missing for _, data in self.padding] if missing else [b""]
        return state != DEAD and any(
            reader.may_end(reader.read(state, fill + rest)) for fill in fills
        )


class RulesReader:
    """By the rules, byte by byte."""

    knows = True

    def __init__(self, moves: Moves) -> None:
        self._pool = moves.pool
        self._make_room(1 << 12)
        self._found = np.zeros(3 * _AT_ONCE + 1, np.int64)
        self.start = moves.start
        self.may_end: Callable[[int], bool] = moves.may_end

    def read(self, state: int, data: bytes) -> int:
        """The state after some bytes; ``DEAD`` if no text of the language goes on so."""
        if not data:
            return state
        return self._pool.call(kernels.advance, state, self._put(data), len(data))

    def can_stand_before(
        self, state: int, tokens: npt.NDArray[np.int64], text: bytes
    ) -> npt.NDArray[np.bool_]:
        """bool[n], which of some tokens can stand between a state and a text."""
        ids = np.ascontiguousarray(tokens, np.int64)
        out = np.zeros(2 * len(ids), np.int32)
        addresses = ids.ctypes.data, len(ids), self._put(text), len(text), out.ctypes.data
        self._pool.call(k.read_behind, state, *addresses)
        alive: npt.NDArray[np.bool_] = out[len(ids) :] != DEAD
        return alive

    def joints(
        self, connectors: Connectors, begin: int, state: int, run: Run, text: bytes
    ) -> tuple[list[Joint], int]:
        """A few joints at a time; see :class:`Reader`."""
        count = self._pool.call(
            k.joints,
            connectors.address,
            begin,
            state,
            run.room,
            int(run.is_gap),
            self._put(text),
            len(text),
            self._found.ctypes.data,
            _AT_ONCE,
        )
        found = self._found[: 3 * count + 1].tolist()
        rows = zip(found[1::3], found[2::3], found[3::3], strict=True)
        return [Joint(*row) for row in rows], found[0]

    def _put(self, data: bytes) -> int:
        """The address at which some bytes are put for a kernel."""
        if len(data) > len(self._room):
            self._make_room(2 * len(data))
        self._room[: len(data)] = data
        return self._address

    def _make_room(self, size: int) -> None:
        text = np.zeros(size, np.uint8)
        self._room, self._address = memoryview(text.data), int(text.ctypes.data)


class AutomatonReader:
    """By a whole automaton, which asks for a token boundary behind all that is read."""

    knows = False

    def __init__(self, automaton: TokenAutomaton) -> None:
        self.start = automaton.start
        self.read: Callable[[int, bytes], int] = automaton.advance_bytes
        self.may_end: Callable[[int], bool] = automaton.is_accepting

    def joints(
        self, connectors: Connectors, begin: int, state: int, run: Run, text: bytes
    ) -> tuple[list[Joint], int]:
        """All joints; see :class:`Reader`."""
        return list(_joints(self, connectors, begin, state, run, text)), len(connectors)


def _joints(
    reader: Reader, connectors: Connectors, begin: int, state: int, run: Run, text: bytes
) -> Iterator[Joint]:
    """Joints that lead to different states, one after the other."""
    seen: set[int] = set()
    for number, data in connectors.ranked(begin):
        missing = run.room - len(connectors.tokens(number))
        if missing < 0:
            continue
        inside = reader.read(state, data)
        if inside == DEAD:
            continue
        fills = [(-1, b"")]
        if missing and not run.is_gap:
            fills = [(i, data * missing) for i, (_, data) in enumerate(connectors.padding)]
        for padding, fill in fills:
            after = reader.read(inside, fill + text)
            if after != DEAD and after not in seen:
                seen.add(after)
                yield Joint(number, padding, after)
