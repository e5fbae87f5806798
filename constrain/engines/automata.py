"""Automata of the grammars that an engine's requests ask for, and the place of each text in one.

Knows no engine: adapters read a request into a :class:`~grammars.requests.GrammarRequest` and keep a
:class:`Walk` for its text.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from constrain.automaton import TokenAutomaton
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.huggingface import eos_ids_of, texts_and_names_of
from grammars.errors import LimitExceeded
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.requests import GrammarRequest

MOST_AUTOMATA: Final = 256
"""Automata that are kept for further requests; some 0.1 to 10 MB each, and masks up to those of
``Limits.max_cached_masks``."""
MOST_VOCABULARIES: Final = 8
"""Vocabularies that are kept: one for each set of ids that end a text."""
MOST_BYTES: Final = 64 << 20
"""Bytes of states and masks of one automaton above which a new text makes it forget what no text needs."""
_PATIENCE: Final = 8
"""How often a step is taken up again that ``Limits.max_mask_work`` stopped."""


@lru_cache(64)
def check_request(request: GrammarRequest) -> None:
    """Raises what is wrong with a request, before it meets a vocabulary; one that is right is read once.

    Raises:
        GrammarError: as :meth:`GrammarRequest.grammar`.
    """
    request.grammar()


class Automata:
    """Automata over one tokenizer by what is asked for; the most recently used are kept.

    All methods may be called from several threads; a grammar that two of them ask for is compiled once.

    Args:
        tokenizer: as ``Vocabulary.from_huggingface`` takes it.
        size: number of ids, the model's rows of logits.
        eos_token_ids: ids that end a text where a request says nothing; the tokenizer's by default.
        limits: bounds on what one grammar may cost.

    Raises:
        GrammarError: if the tokenizer is of a kind that has no bytes for each token.
        TypeError: for what is no tokenizer.
    """

    def __init__(
        self,
        tokenizer: Any,
        size: int,
        *,
        eos_token_ids: Iterable[int] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._ends = tuple(eos_token_ids or eos_ids_of(tokenizer, None))
        self._limits = limits
        self._texts, self._names = texts_and_names_of(tokenizer)
        self._lock = threading.Lock()
        self._shared: OrderedDict[Any, Shared] = OrderedDict()
        self._vocabularies: OrderedDict[tuple[int, ...], Vocabulary] = OrderedDict()

    @property
    def words(self) -> int:
        """Words of 32 bits in a row of a mask."""
        return -(-self._size // 32)

    def walk(self, request: GrammarRequest, stop_token_ids: Iterable[int] = ()) -> Walk:
        """A new text of what a request asks for.

        Args:
            request: the grammar.
            stop_token_ids: all ids that end this text, EOS among them; those of the engine if empty.  An
                ordinary token among them ends a text that is complete, and stands in none.

        Raises:
            GrammarError: for what is no grammar, or has no text over this vocabulary.
        """
        ends = tuple(sorted(set(stop_token_ids))) or self._ends
        key = (request, ends)
        with self._lock:
            shared = self._shared.setdefault(key, Shared(lambda: self._make(*key)))
            self._shared.move_to_end(key)
            while len(self._shared) > MOST_AUTOMATA:
                self._shared.popitem(last=False)
        return shared.walk()

    def end_row(self, stop_token_ids: Iterable[int] = ()) -> npt.NDArray[np.int32]:
        """int32[words], the mask of a text that can only end."""
        row = np.zeros(self.words, np.int32)
        for token in set(stop_token_ids) or self._ends:
            row.view(np.uint32)[token // 32] |= np.uint32(1 << token % 32)
        return row

    def _make(self, request: GrammarRequest, ends: tuple[int, ...]) -> TokenAutomaton:
        return TokenAutomaton(request.grammar(limits=self._limits), self._vocabulary(ends))

    def _vocabulary(self, ends: tuple[int, ...]) -> Vocabulary:
        with self._lock:
            known = self._vocabularies.get(ends)
            if known is None:
                known = self._vocabularies[ends] = Vocabulary.from_tokens(
                    self._texts, ends, size=self._size, special_tokens=self._names
                ).with_tokenizer(self._tokenizer)
            self._vocabularies.move_to_end(ends)
            while len(self._vocabularies) > MOST_VOCABULARIES:
                self._vocabularies.popitem(last=False)
            return known


class Shared:
    """An automaton with the texts that are being written in it.

    Args:
        make: makes the automaton, when the first text needs it.
    """

    def __init__(self, make: Callable[[], TokenAutomaton]) -> None:
        self._make = make
        self._walks: WeakSet[Walk] = WeakSet()
        self.lock: Final = threading.RLock()

    @cached_property
    def automaton(self) -> TokenAutomaton:
        """The automaton; an attempt that failed is made again the next time."""
        return self._make()

    def walk(self) -> Walk:
        """A new text.

        Raises:
            GrammarError: where the automaton cannot be made.
        """
        with self.lock:
            if self.automaton.nbytes > MOST_BYTES:
                self.trim()
            made = Walk(self)
            self._walks.add(made)
            return made

    def trim(self) -> None:
        """Forgets all states but those of texts that are being written."""
        with self.lock:
            self.automaton.trim({state for walk in self._walks for state in walk.states})

    def advance(self, state: int, token: int) -> int:
        """The state after a token.

        A step that was stopped for its work goes on; one for which there is no room makes room.

        Raises:
            LimitExceeded: where that does not help.
        """
        for left in reversed(range(_PATIENCE)):
            try:
                return self.automaton.advance(state, token)
            except LimitExceeded as error:
                if not left:
                    raise
                if error.limit == "max_states":
                    self.trim()
        raise AssertionError("the last attempt returns or raises")


class Walk:
    """The place of one text in its grammar, and the way to it, so that tokens can be taken back.

    Attributes:
        states: the start, and the state behind each token.
        failure: what went wrong where a limit stopped a step or a mask for good; ``None`` else.  A text
            with a failure takes no more tokens.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.automaton: Final = shared.automaton
        self.states: list[int] = [self.automaton.start]
        self.failure: LimitExceeded | None = None

    @property
    def taken(self) -> int:
        """Tokens taken, the one that ended the text included."""
        return len(self.states) - 1

    @property
    def finished(self) -> bool:
        """Whether a token has ended the text."""
        return self.states[-1] == TokenAutomaton.FINISHED

    def fits(self, budget: int) -> bool:
        """Whether some text of the grammar has no more tokens, the one that ends it included."""
        start = self.states[0]
        return any(
            find(start)[0] < budget
            for find in (self.automaton.min_tokens, self.automaton.search_further)
        )

    def accept(self, tokens: Sequence[int]) -> int:
        """Takes tokens as far as they are allowed.

        Returns:
            How many; what stands behind the token that ends the text is not taken.
        """
        with self._shared.lock:
            return self._take(tokens)

    def allowed(self, tokens: Sequence[int]) -> int:
        """How many tokens :meth:`accept` would take; nothing is taken."""
        with self._shared.lock:
            before, failure = len(self.states), self.failure
            count = self._take(tokens)
            del self.states[before:]
            self.failure = failure
        return count

    def _take(self, tokens: Sequence[int]) -> int:
        for count, token in enumerate(tokens):
            if self.finished or self.failure is not None:
                return count
            try:
                state = self._shared.advance(self.states[-1], token)
            except LimitExceeded as error:
                self.failure = error
                return count
            if state == TokenAutomaton.DEAD:
                return count
            self.states.append(state)
        return len(tokens)

    def rollback(self, count: int) -> None:
        """Takes back the last tokens.

        Raises:
            ValueError: for a negative number, or more tokens than were taken.
        """
        if not 0 <= count <= self.taken:
            raise ValueError(f"{self.taken} tokens were taken, so {count} cannot be taken back")
        with self._shared.lock:
            del self.states[len(self.states) - count :]

    def reset(self) -> None:
        """Takes back all tokens."""
        self.rollback(self.taken)
        self.failure = None

    def fill(self, row: Any, tokens_left: int | None = None) -> None:
        """Writes the mask of the next token, as :meth:`TokenAutomaton.fill_mask` does.

        Where a limit stops it for good, only the tokens that end a text are allowed, and the text takes no
        more of them: engines end a request whose token is refused.
        """
        if self.failure is None:
            try:
                self._fill(row, tokens_left)
                return
            except LimitExceeded as error:
                self.failure = error
        self.automaton.fill_mask(TokenAutomaton.FINISHED, row)

    def _fill(self, row: Any, tokens_left: int | None) -> None:
        try:
            self.automaton.fill_mask(self.states[-1], row, tokens_left)
        except LimitExceeded:
            self._shared.trim()
            self.automaton.fill_mask(self.states[-1], row, tokens_left)
