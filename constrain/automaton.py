"""``Grammar`` x ``Vocabulary``: the token-level automaton."""

from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from constrain import checks
from constrain._jit import kernels as k
from constrain.distance import Distances
from constrain.lexeme import LexemeShape, pack_bits
from constrain.masks import RuleMasks
from constrain.pool import DEAD, END, FINISHED, NO_STATE, StatePool
from constrain.positions import Flags, positions_of
from constrain.spelling import Spelling
from constrain.trie import Trie
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.limits import Limits

Row: TypeAlias = npt.NDArray[np.int32]
States: TypeAlias = npt.NDArray[np.int64]

_NO_LIMIT: Final = 1 << 62
_GENERATIONS: Final = 1 << 30


class TokenAutomaton:
    """What a grammar allows, token by token, as an automaton whose states are integers.

    A state never changes; text leads from one state to another.  Going back is keeping the old
    integer; a beam or a draft tree is several integers.  States are made when they are first
    reached and everything about them is cached (``Limits`` bounds the caches, :meth:`trim` releases
    states).  All methods may be called from several threads.

    An integer is a state of the automaton that gave it, in this process, until ``trim`` forgets it;
    every method refuses other integers with a ``ValueError`` and what is no integer with a
    ``TypeError``.  An automaton is pickled and copied by what it was made from: the copy has the same
    ``start`` and knows no other state of the original.

    A mask is exact: bit t is set if and only if what was emitted plus token t can be completed, by
    tokens of this vocabulary, to a text of the language.  Where that does not hold to the letter (keys
    or items that must not repeat), :attr:`approximations` says so.

    Args:
        grammar: the language.
        vocabulary: the tokens.
        limits: bounds on memory and search; the grammar's own by default.

    Raises:
        GrammarError: if the language is empty, or none of its texts can be spelled in tokens.
        TypeError: for arguments of other kinds.
    """

    DEAD: Final = DEAD
    FINISHED: Final = FINISHED
    _judges = True
    """Whether states that no tokens complete are refused."""

    def __new__(
        cls, grammar: Grammar, vocabulary: Vocabulary, limits: Limits | None = None
    ) -> TokenAutomaton:
        """A grammar with memory gets a subclass, see :mod:`constrain.memory`."""
        checks.instance(grammar, Grammar, "grammar")
        checks.instance(vocabulary, Vocabulary, "vocabulary")
        if limits is not None:
            checks.instance(limits, Limits, "limits")
        if not (grammar.ir.distinct_keys or grammar.ir.compare_items):
            return object.__new__(cls)
        from constrain.memory import MemoryAutomaton

        if cls is not TokenAutomaton and not issubclass(cls, MemoryAutomaton):
            raise TypeError(
                f"{cls.__name__} cannot remember keys and items, as this grammar demands"
            )
        return object.__new__(MemoryAutomaton if cls is TokenAutomaton else cls)

    @classmethod
    def without_memory(
        cls, grammar: Grammar, vocabulary: Vocabulary, limits: Limits
    ) -> TokenAutomaton:
        """The automaton of the rules alone, as a part of one with memory.

        Which states can be spelled is for the whole to judge: here all count as live.
        """
        made = object.__new__(cls)
        made._judges = False
        made.__init__(grammar, vocabulary, limits)  # type: ignore[misc]
        return made

    def __init__(
        self, grammar: Grammar, vocabulary: Vocabulary, limits: Limits | None = None
    ) -> None:
        self.grammar = grammar
        self.vocabulary = vocabulary
        self.limits = limits or grammar.limits
        self.start: Final = self._prepare()

    def _prepare(self) -> int:
        grammar, vocabulary = self.grammar, self.vocabulary
        if grammar.is_empty:
            raise GrammarError(f"no text satisfies this grammar. {grammar.explain(b'')}")
        spelling = Spelling(grammar, vocabulary)
        self.spells_bytes = spelling.trivial
        self._all_live = spelling.trivial or not self._judges
        if spelling.program.is_empty:
            raise GrammarError(spelling.complaint())
        self._lock = threading.RLock()
        program = spelling.program
        self._pool = StatePool(program, vocabulary, self.limits)
        self._rule_masks = RuleMasks(self._pool, vocabulary)
        self._size = vocabulary.size
        self._words = (vocabulary.size + 31) // 32
        self._eos = pack_bits(np.array(vocabulary.eos_token_ids, np.int64), vocabulary.size)
        self._eos_ids = frozenset(vocabulary.eos_token_ids)
        self._masks: OrderedDict[int, Row] = OrderedDict()
        self._forced: dict[int, bytes] = {}
        self.positions = positions_of(vocabulary)
        self._no_row = np.zeros(self._words, np.int32)
        start = self._pool.intern([(program.start, 0, END)])
        if not self._is_live(start):
            raise GrammarError(spelling.complaint())
        return self._pool.handle_of(start)

    def __repr__(self) -> str:
        return f"TokenAutomaton({self.grammar!r}, {self.vocabulary!r}, states={self.state_count:,})"

    # Public methods take and give states as callers hold them, and check all they are given.  Those
    # with an underscore work on *places*, which are states of the pool here and what subclasses
    # keep instead there.

    # -- states and places ---------------------------------------------------------------------

    def _place(self, state: Any) -> int:
        """Where a state is kept.

        Raises:
            ValueError: if it is none of this automaton's, or was forgotten.
            TypeError: if it is no integer.
        """
        return self._pool.state_of(
            state if type(state) is int else checks.integer(state, "a state")
        )

    def _state(self, place: int) -> int:
        """The state that is given out for a place."""
        return self._pool.handle_of(place)

    def _states(self, places: Row) -> States:
        return self._pool.handles_of(places)

    # -- moving --------------------------------------------------------------------------------

    def advance(self, state: int, token_id: int) -> int:
        """The state after a token; ``DEAD`` if it is not allowed.

        An EOS id leads from an accepting state to ``FINISHED``, which stays there.  An id outside
        the vocabulary is never allowed.

        Raises:
            ValueError: if the state is none of this automaton's.
            TypeError: for what is no integer.
        """
        if type(token_id) is not int:
            token_id = checks.integer(token_id, "a token id")
        if type(state) is not int:
            state = checks.integer(state, "a state")
        if token_id in self._eos_ids:
            return FINISHED if self._accepts(self._place(state)) else DEAD
        if not 0 <= token_id < self._size:
            self._place(state)
            return DEAD
        with self._lock:
            return self._advance(state, token_id)

    def advance_bytes(self, state: int, data: bytes) -> int:
        """The state after some bytes; ``DEAD`` if no text of the language goes on so.

        The end of the bytes is taken for a token boundary.

        Raises:
            ValueError: if the state is none of this automaton's.
            TypeError: for anything but an integer and bytes.
        """
        place = self._place(state)
        if type(data) is not bytes:
            data = checks.octets(data)
        if not data:
            return self._state(place)
        with self._lock:
            return self._state(self._after_bytes(place, data))

    def _advance(self, state: int, token_id: int) -> int:
        """From state to state; the token has bytes or is a special one, not EOS."""
        if not self._all_live:
            return self._state(self._after_token(self._place(state), token_id))
        try:
            return self._pool.call(k.advance_handle, state, token_id)
        except OverflowError:
            raise ValueError(NO_STATE) from None

    def _after_token(self, place: int, token_id: int) -> int:
        out = self._pool.call(k.advance_token, place, token_id)
        return out if self._is_live(out) else DEAD

    def _after_bytes(self, place: int, data: bytes) -> int:
        out = self._pool_advance(place, data)
        return out if self._is_live(out) else DEAD

    def is_accepting(self, state: int) -> bool:
        """Whether the text may end here (so that EOS is allowed)."""
        return self._accepts(self._place(state))

    def _accepts(self, place: int) -> bool:
        return place == FINISHED or self._pool.accepting(place)

    def signature(self, state: int, depth: int = 3) -> tuple[int, ...]:
        """Where in the grammar a state is: its innermost program states, counts left out.

        For statistics: equal places of like parts (the items of a list) have equal signatures,
        though the states differ.  It says nothing about what is allowed.
        """
        return self._signature(self._place(state), checks.size(depth, "depth"))

    def _signature(self, place: int, depth: int) -> tuple[int, ...]:
        out: list[int] = []
        while len(out) < depth and place not in (DEAD, FINISHED, END):
            items = self._pool.items(place)
            if not items:
                break
            q, _, place = items[0]
            out.append(q)
        return tuple(out)

    # -- masks ---------------------------------------------------------------------------------

    def fill_mask(self, state: int, row: Any, tokens_left: int | None = None) -> None:
        """Writes the mask of a state.

        Args:
            state: any state.
            row: int32 or uint32 [ceil(V/32)], a numpy array or CPU tensor; bit t%32 of word t//32
                says whether token t is allowed, EOS included.
            tokens_left: with it, only tokens after which the text, EOS included, can be completed
                in ``tokens_left - 1`` more; the row is zero if nothing fits.

        Raises:
            ValueError: if the state is none of this automaton's, or the row has another shape or
                is read-only.
            TypeError: for arguments of other kinds.
        """
        words = checks.mask_row(row, self._words)
        words[:] = self.mask(state, tokens_left)

    def fill_masks(
        self,
        states: Sequence[int],
        rows: Any,
        tokens_left: Sequence[int | None] | int | None = None,
    ) -> None:
        """``fill_mask`` for a batch; ``rows``: [batch, ceil(V/32)], those beyond stay as they are."""
        fill_masks([(self, state) for state in states], rows, tokens_left)

    def mask(self, state: int, tokens_left: int | None = None) -> Row:
        """The mask as a read-only array, int32[ceil(V/32)] (see :meth:`fill_mask`)."""
        left = None if tokens_left is None else checks.budget(tokens_left)
        return self._mask(self._place(state), left)

    def allowed_tokens(self, state: int, tokens_left: int | None = None) -> npt.NDArray[np.int64]:
        """Ids of the allowed tokens, ascending, EOS included."""
        flags = np.unpackbits(self.mask(state, tokens_left).view(np.uint8), bitorder="little")
        return np.flatnonzero(flags)

    def _mask(self, place: int, tokens_left: int | None) -> Row:
        if tokens_left is not None:
            with self._lock:
                row = self._mask_within(place, tokens_left)
                row.setflags(write=False)
                return row
        known = self._masks.get(place)
        if known is not None:
            return known
        with self._lock:
            before = self._rule_masks.cut_short
            row = self._make_mask(place)
            row.setflags(write=False)
            if self._rule_masks.cut_short == before:  # else the next call gets further
                self._masks[place] = row
                if len(self._masks) > self.limits.max_cached_masks:
                    self._masks.popitem(last=False)
            return row

    def _mask_within(self, place: int, tokens_left: int) -> Row:
        return self._distances.mask(place, tokens_left)

    def _make_mask(self, state: int) -> Row:
        if state == DEAD:
            return self._no_row
        if state == FINISHED:
            return self._eos
        row = self._token_mask(state)
        if not self._all_live:
            row = self._live_tokens(state, row)
        if self._pool.accepting(state):
            row |= self._eos
        return row

    def _token_mask(self, state: int) -> Row:
        """Tokens whose bytes the state allows (EOS and spelling aside)."""
        row = np.zeros(self._words, np.int32)
        self._rule_masks.fill(state, row)
        return row

    def _is_live(self, state: int) -> bool:
        return self._all_live or state in (DEAD, FINISHED) or self._distances.reaches_end(state)

    def _live_tokens(self, state: int, row: Row) -> Row:
        flags = np.unpackbits(row.view(np.uint8), bitorder="little")
        tokens = np.flatnonzero(flags)
        good = [t for t in tokens.tolist() if self._after_token(state, t) != DEAD]
        return pack_bits(np.array(good, np.int64), self.vocabulary.size)

    def follow(self, q: int) -> Flags:
        """bool[256]: the bytes that can come after the rule of a program state.

        Raises:
            ValueError: if the program has no such state.
        """
        return self._rule_masks.follow(self._program_state(q))

    def shape(self, q: int) -> LexemeShape | None:
        """The automaton of a program state's rule from there on, if small and without calls.

        Raises:
            ValueError: if the program has no such state.
        """
        return self._rule_masks.shape(self._program_state(q))

    def _program_state(self, q: Any) -> int:
        number: int = q if type(q) is int else checks.integer(q, "a state of the program")
        last = self._pool.program.states - 1
        if not 0 <= number <= last:
            raise ValueError(f"the program has states 0 to {last}, not {number}")
        return number

    def walk_from(self, state: int, node: int, enter: bool = False) -> tuple[Row, States, Row]:
        """Where tokens lead that go on below a trie node: (end nodes, states there, exit nodes).

        Exit nodes are those at which the text may end; the given node counts if it may end at once.
        With ``enter`` the node's own byte is still to be read.

        Returns:
            int32[n] nodes at which tokens end that are allowed, ascending; int64[n] the states
            there; int32[m] exit nodes, ascending.

        Raises:
            ValueError: if the state is none of this automaton's, the trie has no such node, or the
                root is to be entered, which has no byte.
        """
        place, node, trie = self._place(state), checks.size(node, "a node"), self.vocabulary.trie
        if node >= trie.node_count:
            raise ValueError(f"the trie has nodes 0 to {trie.node_count - 1}, not {node}")
        if enter and node == 0:
            raise ValueError("the root of the trie has no byte to be read; pass enter=False")
        with self._lock:
            return self._walk_from(place, node, bool(enter))

    def _walk_from(self, place: int, node: int, enter: bool) -> tuple[Row, States, Row]:
        ends, reached, exits = self._pool.walk_from(self.vocabulary.trie, place, node, enter)
        if not self._all_live:
            distinct, inverse = np.unique(reached, return_inverse=True)
            live = np.array([self._is_live(s) for s in distinct.tolist()], np.bool_)[inverse]
            ends, reached = ends[live], reached[live]
        return ends, self._states(reached), exits

    # -- completion ----------------------------------------------------------------------------

    @cached_property
    def _distances(self) -> Distances:
        return Distances(self)

    def min_tokens_to_accept(self, state: int) -> int:
        """Fewest tokens to an accepting state, EOS not counted.

        Exact, or an upper bound that can be met: :meth:`min_tokens` tells which.

        Raises:
            ValueError: for ``DEAD``, from which there is none, and for integers that are no state.
        """
        return self.min_tokens(state)[0]

    def min_tokens(self, state: int) -> tuple[int, bool]:
        """Fewest tokens to an accepting state, EOS not counted, and whether that is exact.

        Where it is not known to be exact the number is an upper bound: a text of so many tokens
        exists and masks for a budget lead to one.

        Raises:
            ValueError: for ``DEAD``, from which there is none, and for integers that are no state.
        """
        place = self._place(state)
        if place == DEAD:
            raise ValueError("no text can be completed from the DEAD state")
        if place == FINISHED:
            return 0, True
        with self._lock:
            return self._fewest(place)

    def _fewest(self, place: int) -> tuple[int, bool]:
        return self._distances.fewest(place), self._distances.is_exact(place)

    @property
    def approximations(self) -> tuple[str, ...]:
        """In which cases masks and budgets are not exact, a sentence each; empty if there are none.

        A search that was cut short by ``Limits.max_search_states`` adds its sentence when it was.
        """
        with self._lock:
            return (*self._rule_masks.approximations(), *self._distances.approximations())

    def forced_bytes(self, state: int) -> bytes:
        """The bytes that every completion begins with (empty if there is a choice, or EOS)."""
        place = self._place(state)
        with self._lock:
            return self._forced_bytes(place)

    def _forced_bytes(self, place: int) -> bytes:
        known = self._forced.get(place)
        if known is None:
            known = self._forced[place] = self._find_forced(place)
        return known

    def _find_forced(self, state: int) -> bytes:
        out = bytearray()
        while state not in (DEAD, FINISHED) and not self._pool.accepting(state):
            byte, state = self._pool.only_byte(state)
            if state == DEAD:
                break
            out.append(byte)
        return bytes(out)

    def forced_tokens(self, state: int) -> list[int]:
        """Tokens that spell the forced bytes, as far as the spelling is settled.

        Longest token first; it stops before a token in whose place a longer one could reach beyond
        the forced bytes, since the model may prefer that one.  They are proposals for a model to
        verify: other spellings of the same bytes may be allowed too.
        """
        place = self._place(state)
        with self._lock:
            return self._spell(place, self._forced_bytes(place))

    def _spell(self, place: int, data: bytes) -> list[int]:
        trie = self.vocabulary.trie
        out: list[int] = []
        at = 0
        while at < len(data):
            node, best, length = 0, -1, 0
            for depth, byte in enumerate(data[at:], 1):
                node = _child(trie, node, byte)
                if node < 0:
                    break
                if trie.token_start[node] < trie.token_start[node + 1]:
                    best, length = int(trie.tokens[trie.token_start[node]]), depth
            else:
                after = self._pool_advance(place, data[at:])
                row = np.zeros(self._words, np.int32)
                if after != DEAD:
                    self._pool.call(k.fill_walk, after, node, row.ctypes.data, _NO_LIMIT, _NO_LIMIT)
                if row.any():
                    break
            if best < 0:
                break
            place = self._after_token(place, best)
            if place == DEAD:
                break
            out.append(best)
            at += length
        return out

    def _pool_advance(self, state: int, data: bytes) -> int:
        text = np.frombuffer(data, np.uint8)
        return self._pool.call(k.advance, state, text.ctypes.data, len(text))

    # -- memory --------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """States held now."""
        return self._pool.state_count

    @property
    def nbytes(self) -> int:
        """Memory of states and cached masks, in bytes (the vocabulary's share not counted)."""
        return self._pool.nbytes + sum(m.nbytes for m in self._masks.values())

    def trim(self, keep: Iterable[int]) -> None:
        """Forgets all states but those in ``keep`` (and the start); kept integers stay valid.

        Those of forgotten states are refused from then on; they never come to name another state.

        Raises:
            ValueError: if something to keep is no state (nothing is forgotten then).
        """
        with self._lock:
            self._keep({self._place(state) for state in keep} | {self._place(self.start)})

    def _keep(self, places: set[int]) -> None:
        self._masks.clear()
        self._forced.clear()
        if "_distances" in self.__dict__:
            self._distances.trim()
        self._pool.trim(places)

    # -- copies --------------------------------------------------------------------------------

    def __copy__(self) -> TokenAutomaton:
        return self

    def __deepcopy__(self, memo: Any) -> TokenAutomaton:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self._judges, self.grammar, self.vocabulary, self.limits)

    def _start_generation(self, number: int) -> None:
        """States given out from now on are not those of another copy (the start aside)."""
        self._pool.start_generation(number)


def _remade(
    judges: bool, grammar: Grammar, vocabulary: Vocabulary, limits: Limits
) -> TokenAutomaton:
    """A pickled automaton made again; integers of other processes are refused, not misread."""
    make = TokenAutomaton if judges else TokenAutomaton.without_memory
    made = make(grammar, vocabulary, limits)
    made._start_generation(1 + secrets.randbelow(_GENERATIONS))
    return made


def _child(trie: Trie, node: int, byte: int) -> int:
    """The child of a trie node on a byte, or -1."""
    i, end = node + 1, int(trie.skip[node])
    while i < end:
        if trie.byte[i] == byte:
            return i
        i = int(trie.skip[i])
    return -1


def fill_masks(
    pairs: Sequence[tuple[TokenAutomaton, int]],
    rows: Any,
    tokens_left: Sequence[int | None] | int | None = None,
) -> None:
    """Masks of several states, of one automaton or of several.

    Different automata work in parallel (the kernels hold no GIL); states of one automaton share its
    caches and go one after another.

    Args:
        pairs: (automaton, state) per row; all automata over vocabularies of one size.
        rows: int32 or uint32 [batch, ceil(V/32)], a numpy array or CPU tensor; rows beyond the
            pairs stay as they are.
        tokens_left: see :meth:`TokenAutomaton.fill_mask`; one for all rows or one each.

    Raises:
        ValueError, TypeError: as :meth:`TokenAutomaton.fill_mask`; nothing was written then.
    """
    pairs = list(pairs)
    for automaton, _ in pairs:
        checks.instance(automaton, TokenAutomaton, "an automaton")
    table = checks.mask_rows(rows, len(pairs))
    for i, (automaton, _) in enumerate(pairs):
        checks.mask_row(table[i], automaton._words)
    lefts = checks.budgets(tokens_left, len(pairs))
    places = [automaton._place(state) for automaton, state in pairs]
    groups: dict[int, list[int]] = {}
    for i, (automaton, _) in enumerate(pairs):
        groups.setdefault(id(automaton), []).append(i)

    def fill(members: list[int]) -> None:
        for i in members:
            table[i] = pairs[i][0]._mask(places[i], lefts[i])

    if len(groups) == 1:
        fill(list(range(len(pairs))))
        return
    for _ in _workers().map(fill, groups.values()):
        pass


_executor: ThreadPoolExecutor | None = None


def _workers() -> ThreadPoolExecutor:
    global _executor
    if _executor is None:
        _executor = ThreadPoolExecutor(thread_name_prefix="gramma-masks")
    return _executor


def _forget_workers() -> None:
    """A forked process has none of its parent's threads."""
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
