"""What stands behind a ``TokenAutomaton``: one protocol, and the choice of who implements it.

A *place* is where a core keeps a state; states are what callers hold.  The face
(:class:`constrain.automaton.TokenAutomaton`) checks arguments, turns states into places, answers for
``DEAD``, ``FINISHED`` and EOS ids itself, and holds the lock: no core is ever asked about the reserved
places, about EOS, or by two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int64
from constrain.layout.automaton import LayoutAutomaton
from constrain.masks.cache import MaskCache, Row
from constrain.rules import RuleAutomaton
from constrain.uniqueness.automaton import UniquenessAutomaton, relaxed_rules
from constrain.uniqueness.search import wants_marks
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.special import resolve
from grammars.grammar import Grammar
from grammars.layout.relaxation import without_layout
from grammars.limits import Limits


class Core(Protocol):
    """An automaton on places: of rules alone, of rules and uniqueness, or of rules and layout.

    Attributes:
        start: the place of the empty text.
        rules: the automaton of the rules (a core of rules alone is its own).
        masks: the masks made so far, by place.
        place_of: the place of a state; raises ``ValueError`` for integers that are none.
        state_at: the state that is given out for a place (``DEAD`` and ``FINISHED`` too).
        advance: from state to state in one step; the state may be reserved, the token is not EOS.
    """

    @property
    def start(self) -> int: ...
    @property
    def rules(self) -> RuleAutomaton: ...
    @property
    def masks(self) -> MaskCache: ...
    @property
    def place_of(self) -> Callable[[int], int]: ...
    @property
    def state_at(self) -> Callable[[int], int]: ...
    @property
    def advance(self) -> Callable[[int, int], int]: ...

    def states_at(self, places: npt.NDArray[np.integer]) -> Int64:
        """The states that are given out for places, int64[n]."""
        ...

    def after_token(self, place: int, token_id: int) -> int:
        """The place after a token that is not EOS; ``DEAD`` if it is not allowed."""
        ...

    def after_bytes(self, place: int, data: bytes) -> int:
        """The place after some bytes, which end a token; ``DEAD`` if no text goes on so."""
        ...

    def accepts(self, place: int) -> bool:
        """Whether the text may end here."""
        ...

    def mask(self, place: int) -> Row:
        """The allowed tokens, EOS included: int32[ceil(V/32)], read-only, cached."""
        ...

    def mask_within(self, place: int, tokens_left: int) -> Row:
        """Those after which the text, EOS included, can be completed in ``tokens_left - 1``."""
        ...

    def walk_from(self, place: int, node: int, enter: bool) -> tuple[Row, Int64, Row]:
        """Nodes below a trie node at which allowed tokens end, the places there, exit nodes."""
        ...

    def edges(self, place: int) -> tuple[Int64, Int64]:
        """The allowed tokens, EOS aside, ascending, and the place after each."""
        ...

    def fewest(self, place: int) -> tuple[int, bool]:
        """Fewest tokens to an accepting place, and whether that is exact, not an upper bound."""
        ...

    def enough_tokens(self, place: int) -> int:
        """A number of tokens left from which on a budget takes nothing from the mask of a place.

        Not the least such number; asked for behind :meth:`mask_within`.
        """
        ...

    def search_further(self, place: int) -> tuple[int, bool]:
        """The same after a search that may take a hundred times the work."""
        ...

    def forced_bytes(self, place: int) -> bytes:
        """Bytes that every completion begins with."""
        ...

    def reaches_below(self, place: int, data: bytes, node: int) -> bool:
        """Whether, after some bytes, tokens at or below a trie node go on by the rules."""
        ...

    def signature(self, place: int, depth: int) -> tuple[int, ...]:
        """The innermost program states of a place, at most ``depth``."""
        ...

    def approximations(self) -> tuple[str, ...]:
        """In which cases masks and budgets are not exact, a sentence each."""
        ...

    @property
    def state_count(self) -> int:
        """Places held now, the reserved ones included."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory of places and cached masks, in bytes."""
        ...

    def trim(self, places: set[int]) -> None:
        """Forgets all places but those given, the start among them."""
        ...

    def start_generation(self, number: int) -> None:
        """States given out from now on are not those of another copy (the start aside)."""
        ...


def build_core(
    grammar: Grammar, vocabulary: Vocabulary, limits: Limits, *, canonical: bool = False
) -> Core:
    """The core that a grammar needs.

    Args:
        grammar: the language.
        vocabulary: the tokens.
        limits: bounds on memory and search.
        canonical: whether masks keep to the tokenizer's own way of writing.

    Raises:
        GrammarError: if the language is empty, none of its texts can be spelled in tokens, or it names a
            special token that the vocabulary does not have.
    """
    given, named = vocabulary, grammar
    grammar, vocabulary = resolve(grammar, vocabulary)
    memory = grammar.memory()
    core: Core
    if grammar.layout is not None:
        core = LayoutAutomaton(grammar, grammar.layout, vocabulary, limits)
    elif memory is None:
        core = RuleAutomaton(grammar, vocabulary, limits)
    else:
        core = UniquenessAutomaton(grammar, memory, vocabulary, limits)
    if not canonical:
        return core
    from constrain.canonical.core import CanonicalAutomaton  # kernels for those who ask for it
    from constrain.canonical.rules import canonical_rules_of

    rules = canonical_rules_of(given)
    if isinstance(core, RuleAutomaton):
        return CanonicalAutomaton(core, core, rules, limits)
    return CanonicalAutomaton(core, build_relaxation(named, given, limits), rules, limits)


def build_relaxation(grammar: Grammar, vocabulary: Vocabulary, limits: Limits) -> RuleAutomaton:
    """The rules alone, where every mark of a repetition reads as the byte that it stands for.

    It allows all that the whole automaton allows, and more (a superset, see ``Pairs.begin``): keys and
    items may repeat, lines may be of any width, and places that no tokens complete count as alive.
    """
    grammar, vocabulary = resolve(grammar, vocabulary)
    if grammar.layout is not None:
        grammar = Grammar(without_layout(grammar.ir), limits=grammar.limits)
    rules = RuleAutomaton(grammar, vocabulary, limits, judges_spelling=False)
    if not wants_marks(rules.program):
        return rules
    return relaxed_rules(grammar, vocabulary, limits)
