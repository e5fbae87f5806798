"""Vocabularies and automata of a model and its tokenizer, made once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from constrain.automaton import TokenAutomaton
from constrain.canonical.copies import as_written
from constrain.vocabulary import Vocabulary
from grammars.grammar import Grammar

_vocabularies: WeakKeyDictionary[Any, dict[Any, Vocabulary]] = WeakKeyDictionary()


def vocabulary_for(tokenizer: Any, model: Any) -> Vocabulary:
    """The vocabulary of a tokenizer with a model's rows and EOS ids, made once."""
    from constrain.vocabulary.huggingface import eos_ids_of, rows_of

    key = (len(tokenizer), rows_of(model), tuple(eos_ids_of(tokenizer, model)))
    known = _vocabularies.setdefault(tokenizer, {})
    if key not in known:
        known[key] = Vocabulary.from_huggingface(tokenizer, model=model)
    return known[key]


def automaton_for(
    grammar: Grammar, tokenizer: Any, model: Any, *, canonical: bool = False
) -> TokenAutomaton:
    """The automaton of a grammar for a model; the most recent ones are kept."""
    plain = _automaton(grammar, vocabulary_for(tokenizer, model))
    return as_written(plain, canonical)


@lru_cache(16)
def _automaton(grammar: Grammar, vocabulary: Vocabulary) -> TokenAutomaton:
    return TokenAutomaton(grammar, vocabulary)
