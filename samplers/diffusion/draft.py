"""One canvas on its way: what is committed, what may never be, and how proposals become text.

**Never undone.**  A commit is checked against the grammar with the exact number of masks that are
left, so a canvas that can be completed stays one, and nothing has to be taken back at the end.

**Bans.**  Filling only ever takes completions away.  So a token that was refused at a place is
refused there for good: it is banned, and the place proposes its next best one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from samplers.diffusion.schedule import Schedule, View

if TYPE_CHECKING:
    from samplers.diffusion.completability import OpenCanvas

Floats: TypeAlias = npt.NDArray[np.float64]
Logits: TypeAlias = npt.NDArray[np.float32]
Proposal: TypeAlias = tuple[int, int]
"""A place and a token for it."""
Solver: TypeAlias = Callable[[Sequence[int], Sequence[int], Logits], dict[int, int]]
"""(ids, places, logits of the places) to a token for each place."""

RETRIES: Final = 32
"""Refused proposals after which a place's tokens are asked about one after the other."""
_WIDENING: Final = (16, 256)
"""The likeliest tokens asked about first, and then; at last all."""


@dataclass(frozen=True)
class Rules:
    """What holds for all places of a canvas, whatever the grammar.

    Attributes:
        barred: bool[V], ids that no place can become: special tokens, and EOS unless it pads.
        eos: EOS ids; the first one is written.
        mask: the mask token.
        temperature: of the tokens; 0 takes the likeliest.
        block_length: places that are worked on together, from left to right; ``None`` for all.
        ends: whether everything behind a committed EOS becomes EOS at once, as a grammar makes it.
        end: probability of EOS from which on an open place, in whichever block, counts as the end of the
            text; ``None`` if only a committed EOS does.
    """

    barred: npt.NDArray[np.bool_]
    eos: tuple[int, ...]
    mask: int
    temperature: float
    block_length: int | None
    ends: bool
    end: float | None = None


class Judgement:
    """What a model says about the open places of a block, less what is banned.

    Args:
        places: open ones.
        logits: float32[len(places), V], with barred ids at ``-inf``.
        noise: Gumbel noise of that shape, times the temperature; ``None`` at temperature 0.
        whole: float32[T, V], of all places with nothing taken out.
    """

    def __init__(
        self, places: Sequence[int], logits: Logits, noise: Logits | None, whole: Logits
    ) -> None:
        self.places = list(places)
        self._whole = whole
        self._row = {place: i for i, place in enumerate(places)}
        self._logits = logits
        self._noise = noise
        self.tokens = dict.fromkeys(places, 0)
        self.confidence = dict.fromkeys(places, -math.inf)
        noisy = logits if noise is None else logits + noise
        best = noisy.argmax(axis=1)
        top = logits.max(axis=1, keepdims=True)
        mass = np.exp(logits - top).sum(axis=1, dtype=np.float64)
        chosen = np.exp(logits[np.arange(len(places)), best] - top[:, 0])
        for i, place in enumerate(places):
            self.tokens[place] = int(best[i])
            self.confidence[place] = float(chosen[i] / mass[i])

    def logits(self, place: int) -> Floats:
        """float64[V], of one place, less what is banned."""
        row: Floats = self._logits[self._row[place]].astype(np.float64)
        return row

    def raw(self, place: int) -> Floats:
        """float64[V], as the model gave them."""
        row: Floats = self._whole[place].astype(np.float64)
        return row

    def ban(self, place: int, tokens: Sequence[int]) -> None:
        """Takes tokens out; the place gets its next best one."""
        row = self._logits[self._row[place]]
        row[list(tokens)] = -np.inf
        noisy = row if self._noise is None else row + self._noise[self._row[place]]
        best = int(noisy.argmax())
        self.tokens[place] = best
        top = float(row.max())
        if top == -math.inf:
            self.confidence[place] = -math.inf
            return
        mass = float(np.exp(row - top).sum(dtype=np.float64))
        self.confidence[place] = math.exp(float(row[best]) - top) / mass

    def set(self, tokens: dict[int, int]) -> None:
        """Proposes other tokens than each place's best."""
        for place, token in tokens.items():
            row = self._logits[self._row[place]]
            top = float(row.max())
            mass = float(np.exp(row - top).sum(dtype=np.float64))
            self.tokens[place] = token
            self.confidence[place] = math.exp(float(row[token]) - top) / mass

    def done(self, place: int) -> None:
        """Nothing more is asked of a place."""
        self.confidence[place] = -math.inf

    def best(self) -> int:
        """The most confident place; the first of equals."""
        return max(self.places, key=lambda place: (self.confidence[place], -place))

    def over(self, length: int) -> Floats:
        """float64[length], confidences by place."""
        out = np.full(length, -np.inf)
        for place, value in self.confidence.items():
            out[place] = value
        return out


class Draft:
    """A canvas that is being filled.

    Args:
        ids: token ids; open places hold the mask token.
        canvas: the same, as the grammar sees it; ``None`` without a grammar.
        rules: see there.
        noise: draws Gumbel noise float32 of a shape; only called above temperature 0.
        solver: chooses the tokens of a block together (see :mod:`samplers.diffusion.dingo`).

    Attributes:
        logprobs, constrained: by place, of committed tokens: under the model, and with what had been
            refused there taken out.
        refused: proposals that the grammar refused.
        seconds: spent on the grammar.
        forwards: calls of the model in which it took part.
    """

    def __init__(
        self,
        ids: Sequence[int],
        canvas: OpenCanvas | None,
        rules: Rules,
        noise: Callable[[tuple[int, int]], Logits] | None = None,
        solver: Solver | None = None,
    ) -> None:
        self.ids = list(ids)
        self.canvas = canvas
        self.rules = rules
        self._noise = noise
        self._solver = solver
        self._open = {i for i, token in enumerate(self.ids) if token == rules.mask}
        self._banned: dict[int, npt.NDArray[np.bool_]] = {}
        self._masked: set[int] = set()  # places at which the ordinary mask was applied
        self._block = range(0)
        self._masks = 0
        self._step = 0
        self._near: dict[int, int] | None = None
        self._ends_from = 0  # places before cannot be the end: the grammar said so
        self.logprobs: dict[int, float] = {}
        self.constrained: dict[int, float] = {}
        self.refused = 0
        self.seconds = 0.0
        self.forwards = 0
        if rules.ends:  # an EOS may be given with the canvas
            first = next((i for i, token in enumerate(self.ids) if token in rules.eos), None)
            if first is not None:
                self._end(first)

    def copy(self) -> Draft:
        """A draft that goes on by itself from here (temperature 0 only)."""
        made = Draft.__new__(Draft)
        made.__dict__.update(self.__dict__)
        made.ids, made._open = list(self.ids), set(self._open)
        made.canvas = None if self.canvas is None else self.canvas.copy()
        made._masked = set(self._masked)
        made._banned = {place: tokens.copy() for place, tokens in self._banned.items()}
        made.logprobs, made.constrained = dict(self.logprobs), dict(self.constrained)
        return made

    @property
    def is_done(self) -> bool:
        """Whether every place is filled."""
        return not self._open

    @property
    def open(self) -> list[int]:
        """Places that are not filled."""
        return sorted(self._open)

    def block(self) -> list[int]:
        """Open places of the present block: the first one, from the left, that has any."""
        places = self.open
        length = self.rules.block_length
        if length is None:
            block = range(len(self.ids))
        else:
            begin = places[0] // length * length
            block = range(begin, min(begin + length, len(self.ids)))
        places = [i for i in places if i in block]
        if block != self._block:
            self._block, self._masks, self._step = block, len(places), 0
        return places

    # -- one step --------------------------------------------------------------------------------

    def advance(self, logits: Logits, schedule: Schedule) -> None:
        """Commits what a schedule chooses of the model's proposals; at least one token.

        Args:
            logits: float32[T, V], of all places.
            schedule: see there.
        """
        judged = self.judge(logits)
        chosen = [(place, judged.tokens[place]) for place in schedule.choose(self.view(judged))]
        self._step += 1
        before = len(self._open)
        self._commit(chosen, judged)
        if len(self._open) == before:
            self._insist(judged)
        if self.rules.end is not None:
            self._foresee(logits, self.rules.end)

    def _likeliest(self, places: list[int], rows: Logits, logits: Logits) -> dict[int, int]:
        """The model's likeliest tokens of open places; nothing but EOS behind the first EOS.

        Args:
            places: of the block.
            rows: float32[len(places), V], with what is barred and banned taken out.
            logits: of all places.
        """
        tokens = dict(zip(places, rows.argmax(axis=1).tolist(), strict=True))
        others = [i for i in self.open if i not in tokens]
        if others:
            more = np.where(self.rules.barred, -np.inf, logits[others]).argmax(axis=1)
            tokens.update(zip(others, more.tolist(), strict=True))
        first = min((i for i in tokens if tokens[i] in self.rules.eos), default=len(self.ids))
        return {i: token if i < first else self.rules.eos[0] for i, token in tokens.items()}

    def judge(self, logits: Logits) -> Judgement:
        """What the model says about the present block."""
        places = self.block()
        rows = np.where(self.rules.barred, -np.inf, logits[places]).astype(np.float32)
        for i, place in enumerate(places):
            if place in self._banned:
                rows[i, self._banned[place]] = -np.inf
        if self.canvas is not None:
            began = time.perf_counter()
            self._near = self._likeliest(places, rows, logits)
            self.seconds += time.perf_counter() - began
        noise = None
        if self.rules.temperature > 0 and self._noise is not None:
            noise = self._noise(rows.shape) * np.float32(self.rules.temperature)
        judged = Judgement(places, rows, noise, logits)
        if self._solver is not None:
            began = time.perf_counter()
            judged.set(self._solver(self.ids, places, rows if noise is None else rows + noise))
            self.seconds += time.perf_counter() - began
        return judged

    def view(self, judged: Judgement) -> View:
        """What a schedule sees."""
        return View(judged.over(len(self.ids)), self._block, self._masks, self._step)

    def commit_exactly(self, tokens: dict[int, int], judged: Judgement) -> None:
        """Commits tokens that are known to go together.

        Raises:
            ValueError: if the grammar refuses them.
        """
        if not self._holds(list(tokens.items())):
            raise ValueError(f"these tokens leave no completion: {tokens}")
        self._step += 1
        self._take(list(tokens.items()), judged)

    def _commit(self, proposals: Sequence[Proposal], judged: Judgement) -> None:
        """All of them if they go together; else as many as do, most confident first."""
        todo = [proposal for proposal in proposals if proposal[0] in self._open]
        while todo:
            fits = self._fitting(todo)
            self._take(todo[:fits], judged)
            if fits < len(todo):
                self._ban(todo[fits], judged)
            todo = [proposal for proposal in todo[fits + 1 :] if proposal[0] in self._open]

    def _fitting(self, proposals: Sequence[Proposal]) -> int:
        """How many of the first proposals go together."""
        if self.canvas is None or self._holds(proposals):
            return len(proposals)
        fits, fails = 0, len(proposals)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self._holds(proposals[:middle]):
                fits = middle
            else:
                fails = middle
        return fits

    def _holds(self, proposals: Sequence[Proposal]) -> bool:
        """Whether the grammar's canvas stays completable with some proposals."""
        if self.canvas is None:
            return True
        began = time.perf_counter()
        holds = self.canvas.can_fill(dict(proposals), self._near)
        self.seconds += time.perf_counter() - began
        return holds

    def _ban(self, proposal: Proposal, judged: Judgement) -> None:
        """A token was refused; at the first open place the ordinary mask says which others will be, too."""
        assert self.canvas is not None
        place, token = proposal
        began = time.perf_counter()
        self.refused += 1
        tokens = [token]
        if place not in self._masked:
            first = self.canvas.first_mask()
            if first is not None and first[0] == place:
                self._masked.add(place)
                tokens += np.flatnonzero(~first[1]).tolist()
        self._banned_at(place)[tokens] = True
        judged.ban(place, tokens)
        self.seconds += time.perf_counter() - began

    def _banned_at(self, place: int) -> npt.NDArray[np.bool_]:
        """bool[V], what is refused at a place for good."""
        if place not in self._banned:
            self._banned[place] = np.zeros(len(self.rules.barred), np.bool_)
        return self._banned[place]

    def _insist(self, judged: Judgement) -> None:
        """One token, whatever it takes: the next best proposals, then a place's whole vocabulary."""
        for _ in range(RETRIES):
            place = judged.best()
            if judged.confidence[place] == -math.inf:
                break
            proposal = (place, judged.tokens[place])
            if self._holds([proposal]):
                self._take([proposal], judged)
                return
            self._ban(proposal, judged)
        place = judged.best()
        self._take([(place, self._legal(place, judged))], judged)

    def _legal(self, place: int, judged: Judgement) -> int:
        """The best token of a place that the grammar allows."""
        assert self.canvas is not None
        began = time.perf_counter()
        order = np.argsort(-judged.logits(place), kind="stable")
        asked = 0
        for upto in (*_WIDENING, len(order)):
            among = [int(i) for i in order[asked:upto] if not self.rules.barred[i]]
            whole = upto == len(order)
            allowed = self.canvas.allowed(place, None if whole else among)
            kept = np.setdiff1d(allowed, np.flatnonzero(self.rules.barred))
            if len(kept):
                rows = judged.logits(place)[kept]
                self.seconds += time.perf_counter() - began
                return int(kept[int(rows.argmax())])
            self._banned_at(place)[among] = True
            asked = upto
        raise AssertionError("a canvas that can be completed has a token for each place")

    def _take(self, proposals: Sequence[Proposal], judged: Judgement) -> None:
        """Commits proposals that were found to hold."""
        if self.canvas is not None and proposals:
            began = time.perf_counter()
            self.canvas.take(dict(proposals))
            self.seconds += time.perf_counter() - began
        for place, token in proposals:
            if place in self._open:
                self._note(place, token, judged)

    def _note(self, place: int, token: int, judged: Judgement) -> None:
        """A token is committed."""
        temperature = self.rules.temperature or 1.0
        raw, left = judged.raw(place) / temperature, judged.logits(place) / temperature
        self.ids[place] = token
        self._open.discard(place)
        self._banned.pop(place, None)
        self.logprobs[place] = float(raw[token] - np.logaddexp.reduce(raw))
        self.constrained[place] = float(left[token] - np.logaddexp.reduce(left))
        judged.done(place)
        if self.rules.ends and token in self.rules.eos:
            self._end(place)

    def _foresee(self, logits: Logits, sure: float) -> None:
        """Behind the first place that is surely the end, all becomes EOS; the place itself stays open."""
        ends = self._foreseen(logits, sure)
        low, high = 0, len(ends)
        while low < high:  # the later an end, the more the grammar can still write before it
            middle = (low + high) // 2
            behind = {i: self.rules.eos[0] for i in self._open if i > ends[middle]}
            if self._holds(list(behind.items())):
                high = middle
            else:
                low = middle + 1
                self._ends_from = ends[middle] + 1
        if low < len(ends):
            self._end(ends[low])

    def _foreseen(self, logits: Logits, sure: float) -> list[int]:
        """Open places with nothing but open places and EOS behind them, at which EOS is that likely."""
        if self.rules.barred[self.rules.eos[0]]:
            return []
        written = [
            i for i, t in enumerate(self.ids) if i not in self._open and t not in self.rules.eos
        ]
        first = max(self._ends_from, max(written, default=-1) + 1)
        places = [i for i in self.open if i >= first]
        if len(places) < 2:  # there is nothing behind the last one
            return []
        rows = np.where(self.rules.barred, -np.inf, logits[places])
        top = rows.max(axis=1)
        mass = np.exp(rows - top[:, None]).sum(axis=1, dtype=np.float64)
        is_end = np.isin(rows.argmax(axis=1), self.rules.eos) & (1 / mass >= sure)
        return [place for place, found in zip(places[:-1], is_end[:-1], strict=True) if found]

    def _end(self, place: int) -> None:
        """Behind an EOS nothing but EOS can stand."""
        end = self.rules.eos[0]
        for i in [i for i in self._open if i > place]:
            self.ids[i] = end
            self._open.discard(i)
            self.logprobs[i] = self.constrained[i] = 0.0
        if self.canvas is not None:
            self.canvas.take({i: end for i in self.canvas.open_positions if i > place})
