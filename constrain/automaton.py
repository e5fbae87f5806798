"""``Grammar`` x ``Vocabulary``: the token-level automaton."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final, NoReturn, TypeVar, final

import numpy as np
import numpy.typing as npt

from constrain import checks
from constrain.arguments import described
from constrain.arrays import Flags, Int64
from constrain.completion.rows import BudgetRows
from constrain.core import Core, build_core, build_relaxation
from constrain.engine.pool import DEAD, FINISHED
from constrain.forks import Guarded
from constrain.free_threading import warn_without_interpreter_lock
from constrain.masks.cache import MaskCache, Row
from constrain.masks.trie_positions import Positions
from constrain.masks.wide import LexemeShape
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from grammars.errors import LimitExceeded
from grammars.grammar import Grammar
from grammars.limits import Limits
from grammars.program import Program
from grammars.special_tokens import FRAME, until_token

warn_without_interpreter_lock()  # once a process, where it matters

_GENERATIONS: Final = 1 << 30
_RESERVED: Final = frozenset((DEAD, FINISHED))
_Answer = TypeVar("_Answer")
_INT32: Final = np.dtype(np.int32)
_MOST_STEPS: Final = 1 << 12
"""Steps between states that are kept to be answered at once, the latest; some 200 bytes each."""


@final
class TokenAutomaton:
    """Token-level automaton of a grammar over a vocabulary; its states are integers.

    The public face, and final: it checks arguments, answers for EOS ids and the reserved states, and
    holds the lock.  What works on states is a core (:mod:`constrain.core`): rules alone, or rules and
    uniqueness.

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
        canonical: masks keep to the tokenizer's own way of writing, where the grammar and the budget leave
            a choice (:mod:`constrain.canonical.core`).  The vocabulary has to be of a tokenizer with
            byte-pair merges.

    Attributes:
        grammar, vocabulary, limits: what it was made from.
        start: the state of the empty text.

    Raises:
        GrammarError: if the language is empty, or none of its texts can be spelled in tokens.
        TypeError: for arguments of other kinds.
    """

    DEAD: Final = DEAD
    FINISHED: Final = FINISHED

    def __init__(
        self,
        grammar: Grammar,
        vocabulary: Vocabulary,
        limits: Limits | None = None,
        *,
        canonical: bool = False,
    ) -> None:
        checks.instance(grammar, Grammar, "grammar")
        checks.instance(vocabulary, Vocabulary, "vocabulary")
        if limits is not None:
            checks.instance(limits, Limits, "limits")
        bounds = limits or grammar.limits
        self._canonical = bool(canonical)
        self._guarded = Guarded()
        with self._guarded.lock:
            core = build_core(grammar, vocabulary, bounds, canonical=self._canonical)
            self._take(grammar, vocabulary, bounds, core)

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError(
            "TokenAutomaton is final: keep one in an attribute instead of deriving from it"
        )

    def _take(self, grammar: Grammar, vocabulary: Vocabulary, limits: Limits, core: Core) -> None:
        self.grammar = grammar
        self.vocabulary = vocabulary
        self.limits = limits
        self._core = core
        self._lock = self._guarded.lock
        self._size = vocabulary.size
        self._eos_ids = frozenset(vocabulary.eos_token_ids)
        self._names_tokens = bool(grammar.tokens)
        self._eos_row = core.rules.eos_row
        self._no_row = np.zeros_like(self._eos_row)
        self._no_row.setflags(write=False)
        self._forced: dict[int, bytes] = {}
        self._relaxed: TokenAutomaton | None = None
        self._is_relaxed = False
        # What every step of a model asks is answered by these without a lock or a further check, where
        # it was asked before.  Both hold integers that are states now, so trim() empties them.
        self._shape = self._eos_row.shape
        self._rows = MaskCache(limits.max_cached_masks)
        self._known_row = self._rows.get
        self._budget_rows = BudgetRows(self._rows, limits.max_cached_masks)
        self._steps: dict[tuple[int, int], int] = {}
        self._step_order: deque[tuple[int, int]] = deque()
        self._fewest: dict[int, int] = {}
        self._trims = 0  # odd while states are being forgotten, see _unlocked
        self._ends_are_written = (
            grammar.layout is None
        )  # else texts are closed first, by more steps
        self._known_step = self._steps.get
        self._place_of, self._state_at = core.place_of, core.state_at
        self._core_advance = core.advance
        self.start = core.state_at(core.start)

    @property
    def positions(self) -> Positions:
        """Kinds of positions inside the vocabulary's tokens, shared by all its automata."""
        return self._core.rules.positions

    @property
    def program(self) -> Program:
        """The rules as flat arrays, restricted to bytes that the vocabulary has."""
        return self._core.rules.program

    @property
    def trie(self) -> Trie:
        """The tokens as a byte trie, whose nodes :meth:`walk_from` speaks of.

        That of the vocabulary; where the grammar names special tokens, with these by their framed names.
        """
        return self._core.rules.vocabulary.trie

    @property
    def spells_bytes(self) -> bool:
        """Whether every byte of the rules is a token by itself."""
        return self._core.rules.spells_bytes

    @property
    def is_canonical(self) -> bool:
        """Whether masks keep to the tokenizer's own way of writing."""
        return self._canonical

    def __repr__(self) -> str:
        return f"TokenAutomaton({self.grammar!r}, {self.vocabulary!r}, states={self.state_count:,})"

    # Public methods take and give states as callers hold them, and check all they are given; the core
    # works on places (see constrain.core).

    def _place(self, state: Any) -> int:
        """Where a state is kept, as long as the lock is held: ``trim`` gives places to other states.

        Raises:
            ValueError: if it is none of this automaton's, or was forgotten.
            TypeError: if it is no integer.
        """
        return self._place_of(state if type(state) is int else checks.integer(state, "a state"))

    def _unlocked(self, read: Callable[[int], _Answer], state: int) -> _Answer:
        """What is written down of a state, without the lock, so that no long search is waited for.

        Good for what is settled before a state is handed out.  The one thing that takes it away is
        :meth:`trim`: an answer that one came between is thrown away, and asked for again with the lock.

        Raises:
            ValueError: if the state is none of this automaton's, or was forgotten.
        """
        trims = self._trims
        if not trims & 1:
            try:
                found = read(self._place_of(state))
            except (ValueError, LookupError):  # it may be a trim's doing
                pass
            else:
                if self._trims == trims:
                    return found
        with self._lock:
            return read(self._place_of(state))

    # -- moving --------------------------------------------------------------------------------

    def advance(self, state: int, token_id: int) -> int:
        """The state after a token; ``DEAD`` if it is not allowed.

        An EOS id leads from an accepting state to ``FINISHED``, which stays there; from others it leads
        nowhere, unless the grammar names it as a special token.  An id outside the vocabulary is never
        allowed.

        Raises:
            ValueError: if the state is none of this automaton's.
            TypeError: for what is no integer.
            LimitExceeded: for ``max_mask_work``, in very ambiguous texts; the same call goes on from where
                this one stopped.
        """
        if type(token_id) is not int:
            token_id = checks.integer(token_id, "a token id")
        if type(state) is not int:
            state = checks.integer(state, "a state")
        known = self._known_step((state, token_id))
        if known is not None:
            return known
        if token_id in self._eos_ids:
            if self.is_accepting(state):
                return FINISHED
            if not self._names_tokens:  # else it may be a special token that the grammar names
                return DEAD
        if not 0 <= token_id < self._size:
            self._check_states([state])
            return DEAD
        with self._lock:
            after = self._core_advance(state, token_id)
            if after != DEAD:
                self._keep_step((state, token_id), after)
            return after

    def _keep_step(self, step: tuple[int, int], after: int) -> None:
        """Notes where a step leads; the oldest is dropped, as dropping all at once would be a stall."""
        if len(self._step_order) >= _MOST_STEPS:
            self._steps.pop(self._step_order.popleft(), None)
        self._steps[step] = after
        self._step_order.append(step)

    def advance_bytes(self, state: int, data: bytes) -> int:
        """The state after some bytes; ``DEAD`` if no text of the language goes on so.

        The end of the bytes is taken for a token boundary.

        Raises:
            ValueError: if the state is none of this automaton's.
            TypeError: for anything but an integer and bytes.
        """
        if type(data) is not bytes:
            data = checks.octets(data)
        with self._lock:
            place = self._place(state)
            if not data:
                return self._state_at(place)
            if place in _RESERVED or (self._names_tokens and FRAME in data):
                return DEAD
            return self._state_at(self._core.after_bytes(place, data))

    def is_accepting(self, state: int) -> bool:
        """Whether the text may end here (so that EOS is allowed)."""
        if type(state) is not int:
            state = checks.integer(state, "a state")
        if self._ends_are_written:
            return self._unlocked(self._accepts, state)
        with self._lock:
            return self._accepts(self._place_of(state))

    def _accepts(self, place: int) -> bool:
        return place == FINISHED or (place != DEAD and self._core.accepts(place))

    def signature(self, state: int, depth: int = 3) -> tuple[int, ...]:
        """Where in the grammar a state is: its innermost program states, counts left out.

        For statistics: equal places of like parts (the items of a list) have equal signatures,
        though the states differ.  It says nothing about what is allowed.
        """
        depth = checks.size(depth, "depth")
        with self._lock:
            place = self._place(state)
            return () if place in _RESERVED else self._core.signature(place, depth)

    # -- masks ---------------------------------------------------------------------------------

    def _check_states(self, states: Iterable[int]) -> None:
        """Refuses integers that are no states, without waiting for what others ask.

        Raises:
            ValueError: for the first that is none of this automaton's, or was forgotten.
        """
        for state in states:
            self._unlocked(int, state)

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
        if type(state) is int and type(row) is np.ndarray:
            if tokens_left is None:
                known = self._known_row(state)
            elif type(tokens_left) is int:
                known = self._budget_rows.get(state, tokens_left)
            else:
                known = None
            if known is not None and row.dtype is _INT32 and row.shape == self._shape:
                try:
                    row[:] = known
                    return
                except ValueError:  # read-only: refused below, with the words of every refusal
                    pass
        words = checks.mask_row(row, len(self._no_row))
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
        if type(state) is not int:
            state = checks.integer(state, "a state")
        left = None if tokens_left is None else checks.budget(tokens_left)
        return self._mask(state, left)

    def allowed_tokens(self, state: int, tokens_left: int | None = None) -> npt.NDArray[np.int64]:
        """Int64 of the allowed tokens, ascending, EOS included."""
        flags = np.unpackbits(self.mask(state, tokens_left).view(np.uint8), bitorder="little")
        return np.flatnonzero(flags)

    def _mask(self, state: int, tokens_left: int | None) -> Row:
        known = (
            self._known_row(state)
            if tokens_left is None
            else self._budget_rows.get(state, tokens_left)
        )
        if known is not None:
            return known
        with self._lock:
            place = self._place_of(state)
            if place in _RESERVED or (tokens_left is not None and tokens_left <= 0):
                ends = place == FINISHED and (tokens_left is None or tokens_left > 0)
                return self._eos_row if ends else self._no_row
            masks = self._core.rules.rule_masks
            before = masks.cut_short
            row = self._make_mask(place, tokens_left)
            if masks.cut_short != before:
                if not row.any():
                    # none of the tokens that the work allowed was enough for is any good: a live state
                    # has others
                    with masks.unbounded():
                        row = self._make_mask(place, tokens_left)
            elif tokens_left is None:
                self._rows.keep(state, row)
            else:
                whole = self._core.mask(place)
                enough = min(tokens_left, self._core.enough_tokens(place)) if row is whole else 0
                self._budget_rows.keep(state, tokens_left, row, whole, enough)
            return row

    def _make_mask(self, place: int, tokens_left: int | None) -> Row:
        if tokens_left is None:
            return self._core.mask(place)
        row = self._core.mask_within(place, tokens_left)
        row.setflags(write=False)
        return row

    # -- the rules -----------------------------------------------------------------------------

    def follow(self, q: int) -> Flags:
        """bool[256]: the bytes that can come after the rule of a program state.

        Raises:
            ValueError: if the program has no such state.
        """
        return self._core.rules.rule_masks.follow(self._program_state(q))

    def shape(self, q: int) -> LexemeShape | None:
        """The automaton of a program state's rule from there on, if small and without calls.

        Raises:
            ValueError: if the program has no such state.
        """
        return self._core.rules.rule_masks.shape(self._program_state(q))

    def _program_state(self, q: Any) -> int:
        number: int = q if type(q) is int else checks.integer(q, "a state of the program")
        last = self.program.states - 1
        if not 0 <= number <= last:
            raise ValueError(f"the program has states 0 to {last}, not {number}")
        return number

    def rules_only(self) -> TokenAutomaton:
        """The automaton of the rules alone, an admissible relaxation: itself where there is no more.

        It allows whatever this one allows, and more: keys and items may repeat, and where some byte
        is no token, texts that tokens cannot complete count as alive.  So where its distances are
        exact they are lower bounds of those here.  Its states are its own, not those of this one.
        """
        if self._core.rules is self._core:
            return self
        with self._lock:
            if self._relaxed is None:
                self._relaxed = _relaxed(self.grammar, self.vocabulary, self.limits)
            return self._relaxed

    # -- edges ---------------------------------------------------------------------------------

    def edges(self, state: int) -> tuple[Int64, Int64]:
        """The tokens that a state allows, EOS aside, and where each leads.

        One walk over the vocabulary's trie finds all of them; where keys or items must not repeat,
        each allowed token is advanced by.

        Returns:
            int64[n] token ids, ascending; int64[n] states.

        Raises:
            ValueError: if the state is none of this automaton's.
        """
        with self._lock:
            place = self._place(state)
            if place in _RESERVED:
                return np.zeros(0, np.int64), np.zeros(0, np.int64)
            tokens, places = self._core.edges(place)
            return tokens, self._core.states_at(places)

    def walk_from(self, state: int, node: int, enter: bool = False) -> tuple[Row, Int64, Row]:
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
        node, trie = checks.size(node, "a node"), self.trie
        if node >= trie.node_count:
            raise ValueError(f"the trie has nodes 0 to {trie.node_count - 1}, not {node}")
        if enter and node == 0:
            raise ValueError("the root of the trie has no byte to be read; pass enter=False")
        with self._lock:
            place = self._place(state)
            if place in _RESERVED:
                return np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int32)
            ends, places, exits = self._core.walk_from(place, node, bool(enter))
            return ends, self._core.states_at(places), exits

    # -- completion ----------------------------------------------------------------------------

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
        if type(state) is not int:
            state = checks.integer(state, "a state")
        known = self._fewest.get(state)
        if known is not None:
            return known, True
        with self._lock:
            place = self._place(state)
            if place == DEAD:
                raise ValueError("no text can be completed from the DEAD state")
            if place == FINISHED:
                return 0, True
            found = self._core.fewest(place)
            if found[1]:  # no later search finds less
                if len(self._fewest) >= _MOST_STEPS:
                    self._fewest.clear()
                self._fewest[state] = found[0]
            return found

    def search_further(self, state: int) -> tuple[int, bool]:
        """The same as :meth:`min_tokens` after a search that may take a hundred times the work.

        Numbers that were upper bounds may be smaller afterwards, those of other states too.  To be
        asked for before a budget is refused.

        Raises:
            ValueError: for ``DEAD``, from which there is none, and for integers that are no state.
        """
        found = self.min_tokens(state)
        if found[1]:
            return found
        with self._lock:
            self._budget_rows.clear()
            return self._core.search_further(self._place(state))

    @property
    def approximations(self) -> tuple[str, ...]:
        """In which cases masks and budgets are not exact, a sentence each; empty if there are none.

        A search that was cut short by ``Limits.max_distance_work`` adds its sentence when it was.
        """
        with self._lock:
            return self._core.approximations()

    def forced_bytes(self, state: int) -> bytes:
        """The bytes that every completion begins with (empty if there is a choice, or EOS).

        They end before a special token; :meth:`forced_tokens` has these too.
        """
        with self._lock:
            place = self._place(state)
            return b"" if place in _RESERVED else until_token(self._forced_bytes(place))

    def _forced_bytes(self, place: int) -> bytes:
        known = self._forced.get(place)
        if known is None:
            known = self._forced[place] = self._core.forced_bytes(place)
        return known

    def forced_tokens(self, state: int) -> list[int]:
        """Tokens that spell the forced bytes, as far as the spelling is settled.

        Longest token first; it stops before a token in whose place a longer one could reach beyond
        the forced bytes, since the model may prefer that one.  They are proposals for a model to
        verify: other spellings of the same bytes may be allowed too.
        """
        with self._lock:
            place = self._place(state)
            return [] if place in _RESERVED else self._spell(place, self._forced_bytes(place))

    def _spell(self, place: int, data: bytes) -> list[int]:
        trie = self.trie
        out: list[int] = []
        while data:
            token, length, node = trie.longest_token(data)
            if node >= 0 and self._core.reaches_below(place, data, node):
                break
            if token < 0:
                break
            place = self._core.after_token(place, token)
            if place == DEAD:
                break
            out.append(token)
            data = data[length:]
        return out

    # -- memory --------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """States held now."""
        return self._core.state_count

    @property
    def nbytes(self) -> int:
        """Memory of states and cached masks, in bytes (the vocabulary's share not counted)."""
        with self._lock:
            return self._core.nbytes + self._budget_rows.nbytes

    def trim(self, keep: Iterable[int]) -> None:
        """Forgets all states but those in ``keep`` (and the start); kept integers stay valid.

        Those of forgotten states are refused from then on; they never come to name another state.

        Raises:
            ValueError: if something to keep is no state (nothing is forgotten then).
        """
        with self._lock:
            places = {self._place(state) for state in keep}
            self._trims += 1
            try:
                self._forced.clear()
                self._rows.clear()
                self._budget_rows.clear()
                self._steps.clear()
                self._step_order.clear()
                self._fewest.clear()
                self._core.trim(places | {self._core.start})
            finally:
                self._trims += 1

    # -- copies --------------------------------------------------------------------------------

    def __copy__(self) -> TokenAutomaton:
        return self

    def __deepcopy__(self, memo: Any) -> TokenAutomaton:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        made_of = (self.grammar, self.vocabulary, self.limits)
        # the tokenizer is pickled where its way of writing is needed
        tokenizer = self.vocabulary.tokenizer if self._canonical else None
        return _remade, (self._is_relaxed, *made_of, self._canonical, tokenizer)


def _relaxed(grammar: Grammar, vocabulary: Vocabulary, limits: Limits) -> TokenAutomaton:
    """The automaton of the rules alone, see :meth:`TokenAutomaton.rules_only`."""
    made = object.__new__(TokenAutomaton)
    made._guarded = Guarded()
    with made._guarded.lock:
        made._take(grammar, vocabulary, limits, build_relaxation(grammar, vocabulary, limits))
    made._is_relaxed = True
    made._canonical = False
    return made


def _remade(
    is_relaxed: bool,
    grammar: Grammar,
    vocabulary: Vocabulary,
    limits: Limits,
    canonical: bool = False,
    tokenizer: Any = None,
) -> TokenAutomaton:
    """A pickled automaton made again; integers of other processes are refused, not misread."""
    if is_relaxed:
        made = _relaxed(grammar, vocabulary, limits)
    else:
        vocabulary = vocabulary.with_tokenizer(tokenizer)
        made = TokenAutomaton(grammar, vocabulary, limits, canonical=canonical)
    made._core.start_generation(1 + secrets.randbelow(_GENERATIONS))
    return made


def check_automaton(value: Any, place: str, *, several: bool = False) -> TokenAutomaton:
    """A :class:`~constrain.TokenAutomaton`.

    Raises:
        TypeError: if it is anything else; says how to make one of what was given.
    """
    if isinstance(value, TokenAutomaton):
        return value
    wanted = "a TokenAutomaton or a list of them" if several else "a TokenAutomaton"
    if isinstance(value, Grammar):
        hint = "; make one of the grammar: TokenAutomaton(grammar, vocabulary)"
    elif isinstance(value, Vocabulary):
        hint = "; make one of it and a grammar: TokenAutomaton(grammar, vocabulary)"
    else:
        hint = ""
    raise TypeError(f"{place} needs {wanted}, not {described(value)}{hint}")


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
        LimitExceeded: for rows that need more than a limit allows.  Its ``rows`` says which; nothing is
            allowed in them, and all others have their masks.
    """
    pairs = list(pairs)
    for automaton, _ in pairs:
        checks.instance(automaton, TokenAutomaton, "an automaton")
    table = checks.mask_rows(rows, len(pairs))
    for i, (automaton, _) in enumerate(pairs):
        checks.mask_row(table[i], len(automaton._no_row))
    lefts = checks.budgets(tokens_left, len(pairs))
    pairs = [(automaton, checks.integer(state, "a state")) for automaton, state in pairs]
    for automaton, state in pairs:
        automaton._check_states([state])
    groups: dict[int, list[int]] = {}
    for i, (automaton, _) in enumerate(pairs):
        groups.setdefault(id(automaton), []).append(i)

    failed: dict[int, LimitExceeded] = {}

    def fill(members: list[int]) -> None:
        for i in members:
            try:
                table[i] = pairs[i][0]._mask(pairs[i][1], lefts[i])
            except LimitExceeded as error:
                table[i], failed[i] = 0, error

    if len(groups) == 1:
        fill(list(range(len(pairs))))
    else:
        # all of them, whatever is raised: nothing writes into the rows once the call has ended
        wait(filling := [_workers().submit(fill, members) for members in groups.values()])
        for future in filling:
            future.result()
    if failed:
        raise LimitExceeded.of_rows(failed)


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
