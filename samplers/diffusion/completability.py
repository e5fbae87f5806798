"""Whether a canvas can still be filled to a text of the language, masks counted exactly.

A canvas is read as a word over unusual letters: a fixed text, "one token, whichever", "one token or
none".  What can have been reached after some cells is the set of all configurations that some
filling leads to, and a canvas can be completed if and only if that set at its end has one in which
the text may end.  So completability is one more deterministic automaton, whose states are *layers*
(such sets), built as far as canvases lead and remembered: filling a mask changes one letter, and
what follows is looked up as soon as a layer is reached that was there before.

**Stacks.**  With recursive rules the stacks of calls in a layer are exponentially many.  What the
rule on top does next depends on its own state and the cell alone, never on the stack below.  So the
stacks with the same innermost call, made at the same boundary, are one *node* with many nodes below
it (the graph-structured stack of Tomita 1985): a layer has as many nodes as there are ways to leave
a token, whatever the depth.  Nodes are numbered; sets of nodes are the bits of a Python integer.

**Tokens that do not respect rules.**  A token may end one rule and begin others.  So a move is
worked out for a rule alone (its frame is the pool's ``END``): where a whole token leads inside the
rule and the rules it calls, and at which positions inside tokens the rule can be over.  The frames
below take over at exactly these positions.  Positions with equal subtrees of the trie are one, and
only those with a byte that the frame takes are entered.  Moves depend on neither canvas nor layer:
all canvases of one automaton share them.

Every step is exact, so no canvas that counts as completable can turn out not to be.  For memory (no
key twice, distinct items), whose sets of earlier keys cannot be merged, layers are only a filter: a
search for one filling decides, and says so where it has to give up (:class:`_Filling`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from constrain._jit import kernels as k
from constrain.automaton import TokenAutomaton
from constrain.lexeme import Lexeme, LexemeShape, counted, lexeme_of, tokens_at
from constrain.memory import MemoryAutomaton
from constrain.pairs import Pair
from constrain.pool import DEAD, END, StatePool
from constrain.positions import Flags, Positions, as_flags
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError, LimitExceeded
from grammars.grammar import Grammar
from grammars.program import UNBOUNDED
from samplers.diffusion.canvas import (
    EMPTY,
    Cell,
    Kind,
    Part,
    cell_of_token,
    cells_of,
    text_bounds,
)

Int32: TypeAlias = npt.NDArray[np.int32]
Nodes: TypeAlias = int
"""A set of nodes of the stacks, as bits."""
Heads: TypeAlias = dict[int, Nodes]
"""By state of the innermost rule, alone in its frame: the stacks below."""
Place: TypeAlias = tuple[int, int]
"""A state and the positions inside the cell's text at which it takes over."""

_NOWHERE: Final = -1
_ROOT: Final = 0
"""The set of positions that holds the beginning of a token alone."""
_BOTTOM: Final[Nodes] = 1
"""The node below the start rule."""
_NO_LAYER: Final = 0
"""The layer without configurations."""
_DOING: Final = "completing this canvas"
_FEW_BITS: Final = 256
_KEPT_BYTES: Final = 256 << 20
"""Layers and stacks kept for later canvases, by estimate; beyond that they are begun anew."""
_EACH: Final = 150
"""Bytes of an entry of a table, beside the bits of its nodes."""


@dataclass(frozen=True)
class _Move:
    """What one cell does to a state whose frame is ``END``.

    Attributes:
        ends: at the cell's end: pairs of a head and the frame above ``END`` that it has.
        exits: positions inside at which the rule may be over, ``_NOWHERE`` for none.
    """

    ends: tuple[tuple[int, int], ...]
    exits: int


class _Moves:
    """Moves of the states of one program, worked out when they are first asked for."""

    def __init__(self, automaton: TokenAutomaton) -> None:
        self.vocabulary: Final = automaton.vocabulary
        self.limits: Final = automaton.limits
        self._shape_of = automaton.shape
        self._positions: Positions = automaton.positions
        self._trie = automaton.vocabulary.trie
        self.pool: Final = StatePool(
            automaton._pool.program, automaton.vocabulary, automaton.limits
        )
        self._heads: dict[tuple[int, int], int] = {}
        self._by_token: dict[Place, _Move] = {}
        self._by_text: dict[bytes, dict[Place, _Move]] = {}
        self._sets: list[Int32] = [np.zeros(1, np.int32)]
        self._numbers: dict[bytes, int] = {self._sets[0].tobytes(): _ROOT}
        self._first: dict[int, Flags] = {}
        has_children = self._trie.skip > np.arange(1, self._trie.node_count + 1)
        self._goes_on: Flags = np.asarray(has_children)

    # -- states --------------------------------------------------------------------------------

    @property
    def start(self) -> int:
        """The head of the empty text."""
        return self.head(self.pool.program.start, 0)

    def head(self, q: int, n: int) -> int:
        """The state of one configuration alone in its frame."""
        known = self._heads.get((q, n))
        if known is None:
            known = self._heads[q, n] = self.pool.intern([(q, n, END)])
        return known

    def heads(self, state: int) -> list[tuple[int, int]]:
        """The configurations of a state: pairs of a head and its frame."""
        return [(self.head(q, n), frame) for q, n, frame in self.pool.items(state) if q]

    def may_end(self, state: int) -> bool:
        """Whether a state, a frame too, can be over."""
        return self.pool.accepting(state)

    # -- moves ---------------------------------------------------------------------------------

    def by_text(self, data: bytes) -> Callable[[Place], _Move]:
        """Moves through a fixed text; positions are offsets, as bits."""
        table = self._by_text.setdefault(data, {})

        def move(place: Place) -> _Move:
            known = table.get(place)
            if known is None:
                known = table[place] = self._through_text(*place, data)
            return known

        return move

    def by_token(self, place: Place) -> _Move:
        """The move through any one token; positions are a set of trie nodes."""
        known = self._by_token.get(place)
        if known is None:
            known = self._by_token[place] = self._through_token(*place)
        return known

    def _through_text(self, state: int, offsets: int, data: bytes) -> _Move:
        pool = self.pool
        exits = 0
        ends: set[tuple[int, int]] = set()
        for begin in _bits(offsets):
            at = state
            for offset in range(begin, len(data)):
                if pool.accepting(at):
                    exits |= 1 << offset
                at = pool.advance_symbol(at, data[offset])
                if at == DEAD:
                    break
            else:
                ends.update(self.heads(at))
        return _Move(tuple(ends), exits or _NOWHERE)

    def _through_token(self, state: int, positions: int) -> _Move:
        nodes = self._sets[positions]
        counting = self._counting(state) if positions == _ROOT else None
        if counting is not None:
            return self._through_lexeme(*counting)
        reached: list[Int32] = []
        exits: list[Int32] = [nodes] if self.pool.accepting(state) else []
        for begin, enter in self._beginnings(state, nodes):
            _, states, left = self.pool.walk_from(self._trie, state, begin, enter)
            reached.append(states)
            exits.append(left)
        distinct = _distinct(reached)
        ends = {pair for s in distinct for pair in self.heads(s)}
        return _Move(tuple(ends), self._position_set(exits))

    def _beginnings(self, state: int, nodes: Int32) -> Iterator[tuple[int, bool]]:
        """Trie nodes to walk from: the root, or nodes to be entered, one of those that are alike."""
        if not len(nodes):
            return
        if nodes[0] == 0:
            yield 0, False
            nodes = nodes[1:]
        children, _ = self._positions.entries(nodes, self._first_bytes(state))
        keys = self._positions.entry_keys(children)
        _, firsts = np.unique(keys, return_index=True)
        for child in children[firsts].tolist():
            yield child, True

    def _first_bytes(self, state: int) -> Flags:
        """bool[256]: the bytes that a state may take."""
        known = self._first.get(state)
        if known is None:
            words = self.pool._arrays[k.S_CAN][4 * state : 4 * state + 4].tolist()
            bits = sum(int(w) << 64 * i for i, w in enumerate(words))
            known = self._first[state] = as_flags(self.pool.program, bits)
        return known

    def _position_set(self, parts: Sequence[Int32]) -> int:
        """The number of a set of positions: those that go on, one of those that are alike."""
        if not parts:
            return _NOWHERE
        nodes = np.unique(np.concatenate(parts))
        inner = nodes[self._goes_on[nodes] & (nodes > 0)]
        _, firsts = np.unique(self._trie.suffix_class[inner], return_index=True)
        kept = np.concatenate([nodes[nodes == 0], np.sort(inner[firsts])]).astype(np.int32)
        if not len(kept):
            return _NOWHERE
        key = kept.tobytes()
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self._sets)
            self._sets.append(kept)
        return known

    # -- counted lexemes: one walk for all counts ----------------------------------------------

    def _counting(self, state: int) -> tuple[LexemeShape, int] | None:
        """The automaton and count of a head in a counted repetition without calls."""
        items = self.pool.items(state)
        q, n, frame = items[0]
        if len(items) > 1 or frame != END:
            return None
        if n == 0 and self.pool.program.count_limit[q] == UNBOUNDED:
            return None
        shape = self._shape_of(q)
        return None if shape is None else (shape, n)

    def _through_lexeme(self, shape: LexemeShape, n: int) -> _Move:
        program = self.pool.program
        lexeme = lexeme_of(self.vocabulary, shape)
        states = np.array(shape.states)
        pairs = lexeme.end_groups
        left, fits = counted(program, states[pairs[:, 0]], n + pairs[:, 1])
        ends = {
            (self.head(q, m), END)
            for q, m in zip(states[pairs[fits, 0]].tolist(), left[fits].tolist(), strict=True)
        }
        return _Move(tuple(ends), self._position_set([self._lexeme_exits(shape, lexeme, n)]))

    def _lexeme_exits(self, shape: LexemeShape, lexeme: Lexeme, n: int) -> Int32:
        program = self.pool.program
        at = np.array(shape.states)[lexeme.exit_state]
        out, fits = counted(program, at, n + lexeme.exit_count)
        nodes: Int32 = lexeme.exit_nodes[fits & (out >= program.accept_from[at])]
        return nodes

    # -- which tokens --------------------------------------------------------------------------

    def spread(self, state: int, nodes: Int32) -> tuple[list[tuple[int, Int32]], Int32]:
        """Where the tokens below some nodes lead: (end state, token ids) pairs; and all exits.

        Unlike moves, which have one position for all that are alike.
        """
        ends: list[tuple[int, Int32]] = []
        exits = [nodes] if self.pool.accepting(state) else []
        for begin, enter, members in self._families(state, nodes):
            at, states, left = self.pool.walk_from(self._trie, state, begin, enter)
            exits.append(_moved(left, begin, members))
            for reached in _distinct([states]):
                alike = _moved(at[states == reached], begin, members)
                ends.append((reached, tokens_at(self._trie, alike)[0]))
        return ends, np.unique(np.concatenate(exits)) if exits else nodes[:0]

    def _families(self, state: int, nodes: Int32) -> Iterator[tuple[int, bool, Int32]]:
        """Like ``_beginnings``, with all the nodes that are like each."""
        if len(nodes) and nodes[0] == 0:
            yield 0, False, nodes[:1]
            nodes = nodes[1:]
        children, _ = self._positions.entries(nodes, self._first_bytes(state))
        keys = self._positions.entry_keys(children)
        _, groups = np.unique(keys, return_inverse=True)
        for group in range(int(groups.max(initial=-1)) + 1):
            members = children[groups == group]
            yield int(members[0]), True, members


@dataclass(frozen=True)
class _Layer:
    """What some filling of the cells so far leads to.

    Attributes:
        heads: the configurations.
        may_end: whether the text may end here.
    """

    heads: Heads
    may_end: bool


class _Stacks:
    """Nodes of stacks, layers, and where cells lead from them."""

    def __init__(self, moves: _Moves) -> None:
        self.moves: Final = moves
        self._room = moves.limits.max_search_states
        self._frames: list[int] = [END]
        self._parents: list[Nodes] = [0]
        self._node_of: dict[tuple[int, Nodes], int] = {}
        self._ending: Nodes = _BOTTOM
        self._below: dict[Nodes, tuple[tuple[int, Nodes], ...]] = {}
        self._put: dict[tuple[int, Nodes], Nodes] = {}
        self._bytes = 0
        self._layers: list[_Layer] = [_Layer({}, False)]
        self._layer_of: dict[tuple[tuple[int, Nodes], ...], int] = {(): _NO_LAYER}
        self._after: dict[tuple[int, Cell], int] = {}
        self.start: Final = self.layer({moves.start: _BOTTOM})

    @property
    def nbytes(self) -> int:
        """Memory of layers, nodes and how they were put on each other, by estimate."""
        return self._bytes

    def may_end(self, layer: int) -> bool:
        """Whether the text may end at a layer."""
        return self._layers[layer].may_end

    def heads(self, layer: int) -> Heads:
        """The configurations of a layer."""
        return self._layers[layer].heads

    def after(self, layer: int, cell: Cell) -> int:
        """The layer after a cell."""
        if layer == _NO_LAYER or cell == EMPTY:
            return layer
        known = self._after.get((layer, cell))
        if known is None:
            known = self._after[layer, cell] = self._step(layer, cell)
        return known

    def _step(self, layer: int, cell: Cell) -> int:
        heads = self.heads(layer)
        match cell.kind:
            case Kind.TEXT:
                return self.layer(self._moved(heads, self.moves.by_text(cell.data), 1))
            case Kind.MASK:
                return self.layer(self._moved(heads, self.moves.by_token, _ROOT))
            case Kind.SLOT:
                moved = self._moved(heads, self.moves.by_token, _ROOT)
                for head, stacks in heads.items():
                    moved[head] = moved.get(head, 0) | stacks
                return self.layer(moved)
        return _NO_LAYER

    def _moved(self, heads: Heads, move: Callable[[Place], _Move], begin: int) -> Heads:
        """Where a cell leads: rules that end inside it hand on to the frames below them."""
        waiting: dict[Place, Nodes] = {(head, begin): nodes for head, nodes in heads.items()}
        done: dict[Place, Nodes] = {}
        ends: dict[tuple[int, int], Nodes] = {}
        while waiting:
            place, nodes = waiting.popitem()
            known = done.get(place, 0)
            fresh = nodes & ~known
            if not fresh:
                continue
            done[place] = known | fresh
            found = move(place)
            for pair in found.ends:
                ends[pair] = ends.get(pair, 0) | fresh
            if found.exits != _NOWHERE:
                for frame, below in self.below(fresh):
                    onward = (frame, found.exits)
                    waiting[onward] = waiting.get(onward, 0) | below
            self._check_room(len(ends) + len(done))
        return self.pushed(ends)

    def pushed(self, ends: Mapping[tuple[int, int], Nodes]) -> Heads:
        """Heads with the frames above the stacks put on them."""
        out: Heads = {}
        for (head, frame), nodes in ends.items():
            out[head] = out.get(head, 0) | self._over(frame, nodes)
        return out

    def _over(self, frame: int, nodes: Nodes) -> Nodes:
        """Stacks with a frame put on them, level by level.

        A frame made within one token may be many calls deep.  Kept whole, each would be a thing of its
        own, and what is left of one under the calls of the next token yet another; level by level
        there are no more kinds of nodes than states of the program.
        """
        if frame == END:
            return nodes
        known, waiting = self._put, [frame]
        while waiting:
            at = waiting[-1]
            items = self.moves.pool.items(at)
            missing = [f for q, _, f in items if q and f != END and (f, nodes) not in known]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            if (at, nodes) in known:
                continue
            over: Nodes = 0
            levels: dict[int, Nodes] = {}
            for q, n, below in items:
                if q == 0:  # nothing is left to be done there
                    over |= nodes
                    continue
                rest = nodes if below == END else known[below, nodes]
                head = self.moves.head(q, n)
                levels[head] = levels.get(head, 0) | rest
            for head, rest in levels.items():
                over |= 1 << self._node(head, rest)
            known[at, nodes] = over
            self._bytes += _bytes_of(over)
        return known[frame, nodes]

    def layer(self, heads: Heads) -> int:
        """The number of a layer."""
        key = tuple(sorted(heads.items()))
        known = self._layer_of.get(key)
        if known is None:
            self._check_room(len(self._layers))
            known = self._layer_of[key] = len(self._layers)
            ends = any(
                nodes & self._ending and self.moves.may_end(head) for head, nodes in heads.items()
            )
            self._layers.append(_Layer(heads, ends))
            self._bytes += sum(map(_bytes_of, heads.values()))
        return known

    def layer_of_state(self, state: int) -> int:
        """The layer of one state of the moves' pool, with its whole stack."""
        ends = dict.fromkeys(self.moves.heads(state), _BOTTOM)
        return self.layer(self.pushed(ends))

    def below(self, nodes: Nodes) -> tuple[tuple[int, Nodes], ...]:
        """The frames of some nodes, each with the nodes below it."""
        known = self._below.get(nodes)
        if known is None:
            found: Heads = {}
            for node in _bits(nodes & ~_BOTTOM):
                frame = self._frames[node]
                found[frame] = found.get(frame, 0) | self._parents[node]
            known = self._below[nodes] = tuple(found.items())
            self._bytes += _bytes_of(nodes) + sum(map(_bytes_of, found.values()))
        return known

    def _node(self, frame: int, below: Nodes) -> int:
        known = self._node_of.get((frame, below))
        if known is None:
            known = self._node_of[frame, below] = len(self._frames)
            self._check_room(known)
            self._frames.append(frame)
            self._parents.append(below)
            self._bytes += _bytes_of(below)
            if below & self._ending and self.moves.may_end(frame):
                self._ending |= 1 << known
        return known

    def _check_room(self, used: int) -> None:
        if used > self._room:
            raise LimitExceeded("max_search_states", self._room, _DOING)


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

    def __init__(self, stacks: _Stacks, cells: Sequence[Cell], bounds: range) -> None:
        self.cells: Final = tuple(cells)
        self.bounds: Final = bounds
        self.stacks: Final = stacks
        self._known: dict[tuple[int, int], bool] = {}

    def completes(self, at: int, layer: int) -> bool:
        """Whether the cells from a boundary on can be filled, from a layer."""
        passed: list[tuple[int, int]] = []
        while True:
            known = self._known.get((at, layer))
            if known is None and layer == _NO_LAYER:
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
        memory: the automaton, if its language has memory.
        hint: choices by position to be tried first.
    """

    def __init__(
        self,
        memory: MemoryAutomaton | None,
        stacks: _Stacks,
        ahead: _Ahead,
        hint: Mapping[int, int | None],
    ) -> None:
        self._memory = memory
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
        memory = self._memory
        start = None if memory is None else memory._pairs[memory.start]
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
        if self._memory is None or point.pair is None:
            return self._moves.may_end(point.state)
        return self._memory._pool.accepting(point.pair[0])

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
        if point.at in self._hint:
            yield self._hint[point.at]
        if cell.kind is Kind.SLOT:
            yield None
        layer = self._stacks.layer_of_state(point.state)
        yield from _allowed(self._stacks, self._ahead, point.at, layer)

    def _through(self, point: _Point, data: bytes) -> _Point | None:
        pair, state = point.pair, point.state
        if self._memory is not None and pair is not None and data:
            pair = self._memory._walker.by_bytes(pair, data)
            if pair is None:
                return None
        for byte in data:
            state = self._moves.pool.advance_symbol(state, byte)
        if not self._ahead.completes(point.at + 1, self._stacks.layer_of_state(state)):
            return None
        return _Point(point.at + 1, pair, state)


def _allowed(stacks: _Stacks, ahead: _Ahead, at: int, layer: int) -> Iterator[int]:
    """Tokens for a mask, as far as the rules alone know, in groups that end alike."""
    moves = stacks.moves
    found = np.zeros(moves.vocabulary.size, np.bool_)
    root = np.zeros(1, np.int32)
    waiting = [(head, root, nodes) for head, nodes in stacks.heads(layer).items()]
    while waiting:
        state, positions, nodes = waiting.pop()
        ends, exits = moves.spread(state, positions)
        for reached, tokens in ends:
            fresh = tokens[~found[tokens]]
            if not len(fresh):
                continue
            after = stacks.layer(stacks.pushed(dict.fromkeys(moves.heads(reached), nodes)))
            if ahead.completes(at + 1, after):
                found[fresh] = True
                yield from fresh.tolist()
        if len(exits):
            waiting += [(frame, exits, below) for frame, below in stacks.below(nodes)]


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
        self._found: dict[int, int | None] = {}

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
            self._answer = self._holds(self._cells)
        return self._answer

    @property
    def blocked_at(self) -> int | None:
        """The first cell that cannot stand behind any filling of those before it, by the rules alone.

        ``None`` if there is none: then the text cannot end where the canvas ends.
        """
        with self._owner.lock:
            stacks, _ = self._view(self._cells)
            layer = stacks.start
            for i, cell in enumerate(self._cells):
                layer = stacks.after(layer, cell)
                if layer == _NO_LAYER:
                    return i
        return None

    def copy(self) -> OpenCanvas:
        """A canvas that is filled on its own from here."""
        made = OpenCanvas(self._owner, self._cells, self._padded)
        made._answer, made._found = self._answer, self._found
        return made

    def can_fill(self, fills: Mapping[int, int | None]) -> bool:
        """Whether the canvas stays completable with these tokens, all together.

        Args:
            fills: token ids by position; ``None`` leaves a gap's token out.
        """
        return self._holds(self._filled(fills))

    def is_filled_by(self, fills: Mapping[int, int | None]) -> bool:
        """Whether tokens for all open positions make a text of the language; cheap, without layers."""
        cells = self._filled(fills)
        if any(cell.is_open for cell in cells):
            return False
        return self._owner.is_text(cells, text_bounds(cells, self._padded))

    def take(self, fills: Mapping[int, int | None]) -> None:
        """Fixes tokens that are known to leave a completion: parts of a filling, say."""
        self._cells, self._answer, self._ahead = self._filled(fills), True, None

    def fill(self, position: int, token: int | None) -> bool:
        """Fixes one token, if the canvas stays completable; else nothing changes.

        Returns:
            Whether it was fixed.
        """
        return self.fill_all({position: token})

    def fill_all(self, fills: Mapping[int, int | None]) -> bool:
        """Fixes several tokens, if the canvas stays completable with all of them."""
        cells = self._filled(fills)
        if not self._holds(cells):
            return False
        self._cells, self._answer, self._ahead = cells, True, None
        return True

    def allowed(self, position: int, among: Iterable[int] | None = None) -> npt.NDArray[np.int64]:
        """Ids of the tokens that can be fixed at a mask, ascending.

        Args:
            position: of a mask or a gap's token.
            among: ids to judge, all by default.  Each takes a look ahead of its own, so a few are
                faster than all; with memory all take very long.
        """
        if not self._cells[position].is_open:
            raise ValueError(f"position {position} of the canvas is fixed")
        found = self._by_rules(position) if among is None else among
        if among is not None or self._owner.has_memory:
            found = [token for token in found if self.can_fill({position: token})]
        return np.array(sorted(set(found)), np.int64)

    def completion(self) -> dict[int, int | None] | None:
        """One way to fill all open positions; ``None`` if there is none.

        A gap's token that is left out is ``None``.
        """
        with self._owner.lock:
            stacks, ahead = self._view(self._cells)
            if not ahead.completes(0, stacks.start):
                return None
            found = self._owner.filling(stacks, ahead, self._found)
        if found is None:
            return None
        end = self._owner.moves.vocabulary.eos_token_ids[0]
        for position in self.open_positions:
            is_mask = self._cells[position].kind is Kind.MASK
            found.setdefault(position, end if is_mask else None)
        return found

    def _by_rules(self, position: int) -> list[int]:
        """Tokens that the rules alone allow, EOS included."""
        with self._owner.lock:
            stacks, ahead = self._view(self._cells)
            layer = stacks.start
            for cell in self._cells[:position]:
                layer = stacks.after(layer, cell)
            found = list(_allowed(stacks, ahead, position, layer))
        ends = self._owner.moves.vocabulary.eos_token_ids
        if self._padded and self.can_fill({position: ends[0]}):
            found += ends
        return found

    def _filled(self, fills: Mapping[int, int | None]) -> list[Cell]:
        cells = list(self._cells)
        for position, token in fills.items():
            if not cells[position].is_open:
                raise ValueError(f"position {position} of the canvas is fixed")
            if token is not None:
                cells[position] = cell_of_token(token, self._owner.moves.vocabulary)
            elif cells[position].kind is Kind.SLOT:
                cells[position] = EMPTY
            else:
                raise ValueError(f"position {position} is a mask: it must become a token")
        return cells

    def _holds(self, cells: list[Cell]) -> bool:
        with self._owner.lock:
            stacks, ahead = self._view(cells)
            if not ahead.completes(0, stacks.start):
                return False
            if not self._owner.has_memory:
                return True
            found = self._owner.filling(stacks, ahead, self._found)
        if found is None:
            return False
        self._found = found
        return True

    def _view(self, cells: list[Cell]) -> tuple[_Stacks, _Ahead]:
        """The present stacks, and what lies ahead of each cell."""
        stacks = self._owner.current()
        if cells is not self._cells:
            return stacks, _Ahead(stacks, cells, text_bounds(cells, self._padded))
        if self._ahead is None or self._ahead.stacks is not stacks:
            self._ahead = _Ahead(stacks, cells, text_bounds(cells, self._padded))
        return stacks, self._ahead


class Completability:
    """Which canvases can be filled to a text of an automaton's language.

    Args:
        automaton: of any grammar.

    Example:
        >>> canvas = Completability(automaton).open(['{"a": ', Masks(3), "}"])
        >>> canvas.is_completable, canvas.fill(2, token)
    """

    def __init__(self, automaton: TokenAutomaton) -> None:
        self._automaton = automaton
        self._memory = automaton if isinstance(automaton, MemoryAutomaton) else None
        self.lock: Final = RLock()
        self.moves: Final = _Moves(_rules_of(automaton))
        self._stacks = _Stacks(self.moves)

    def current(self) -> _Stacks:
        """The stacks and layers that all canvases share, begun anew when there are many."""
        if self._stacks.nbytes > _KEPT_BYTES:
            self._stacks = _Stacks(self.moves)
        return self._stacks

    @property
    def has_memory(self) -> bool:
        """Whether the language depends on which keys or items occurred before."""
        return self._memory is not None

    def open(self, canvas: Sequence[Part], *, eos_padding: bool = False) -> OpenCanvas:
        """A canvas to be filled.

        Args:
            canvas: fixed text (``str`` or ``bytes``), token ids, ``None`` for a mask, ``Masks``
                and ``Gap``.
            eos_padding: a suffix of the canvas may be EOS.
        """
        cells = cells_of(canvas, self.moves.vocabulary)
        return OpenCanvas(self, cells, eos_padding)

    def is_completable(self, canvas: Sequence[Part], *, eos_padding: bool = False) -> bool:
        """Whether a canvas can be filled to a text of the language."""
        return self.open(canvas, eos_padding=eos_padding).is_completable

    def is_text(self, cells: Sequence[Cell], bounds: range) -> bool:
        """Whether cells without open ones are a text of the language."""
        automaton = self._automaton
        state = automaton.start
        for i, cell in enumerate(cells):
            if i in bounds and automaton.is_accepting(state):
                return True
            if cell.kind is not Kind.TEXT:
                return False
            state = automaton.advance_bytes(state, cell.data)
            if state == automaton.DEAD:
                return False
        return len(cells) in bounds and automaton.is_accepting(state)

    def filling(
        self, stacks: _Stacks, ahead: _Ahead, hint: Mapping[int, int | None]
    ) -> dict[int, int | None] | None:
        """One filling, near the hinted one; see :class:`_Filling`."""
        search = _Filling(self._memory, stacks, ahead, hint)
        if self._memory is None:
            return search.find()
        with self._memory._lock:
            return search.find()


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


def _rules_of(automaton: TokenAutomaton) -> TokenAutomaton:
    """The automaton of the rules alone, which read every mark as the byte that it stands for."""
    if not isinstance(automaton, MemoryAutomaton):
        return automaton
    return automaton._walker._easier or automaton._inner


def _moved(nodes: Int32, begin: int, members: Int32) -> Int32:
    """Nodes below one of several nodes with equal subtrees, and the same below the others."""
    out: Int32 = ((nodes - begin)[None, :] + members[:, None]).ravel().astype(np.int32)
    return out


def _distinct(parts: Sequence[npt.NDArray[np.integer[Any]]]) -> list[int]:
    """The distinct numbers in some arrays of small non-negative numbers."""
    found = [np.flatnonzero(np.bincount(part)) for part in parts if len(part)]
    if len(found) == 1:
        numbers: list[int] = found[0].tolist()
        return numbers
    return sorted({int(x) for part in found for x in part})


def _bytes_of(nodes: Nodes) -> int:
    """Memory of an entry of a table that holds a set of nodes."""
    return _EACH + nodes.bit_length() // 8


def _bits(mask: int) -> list[int]:
    """The numbers of the bits that are set."""
    if mask.bit_length() <= _FEW_BITS:
        out: list[int] = []
        while mask:
            lowest = mask & -mask
            out.append(lowest.bit_length() - 1)
            mask ^= lowest
        return out
    data = np.frombuffer(mask.to_bytes((mask.bit_length() + 7) // 8, "little"), np.uint8)
    found: list[int] = np.flatnonzero(np.unpackbits(data, bitorder="little")).tolist()
    return found
