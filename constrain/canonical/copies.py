"""An automaton that keeps to the tokenizer's own way of writing, made of one that does not."""

from __future__ import annotations

import threading
import weakref
from typing import Final

from constrain.automaton import TokenAutomaton

_known: weakref.WeakKeyDictionary[TokenAutomaton, TokenAutomaton] = weakref.WeakKeyDictionary()
_lock: Final = threading.Lock()


def as_written(automaton: TokenAutomaton, canonical: bool) -> TokenAutomaton:
    """The automaton of the same texts with ``canonical=True``, where that is asked for.

    Itself if it is one or nothing is asked, else made once; its states are its own.

    Raises:
        GrammarError: if the vocabulary is not of a tokenizer with byte-pair merges.
    """
    if automaton.is_canonical or not canonical:
        return automaton
    with _lock:
        known = _known.get(automaton)
    if known is not None:
        return known
    made = TokenAutomaton(automaton.grammar, automaton.vocabulary, automaton.limits, canonical=True)
    with _lock:
        return _known.setdefault(automaton, made)
