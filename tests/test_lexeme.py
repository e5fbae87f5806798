"""Walks of lexemes are kept for a vocabulary; what is derived from them must not outlive its basis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from constrain import TokenAutomaton, Vocabulary
from constrain.masks.trie_positions import Positions, as_flags
from constrain.masks.wide import lexeme_of
from grammars import Grammar

TOKENS = [b'"', b"a", b'a"', b'",', b'"]', b'","', b"[", b"]", b",", b'["', b"b", None]
VOCABULARY = Vocabulary.from_tokens(TOKENS, [len(TOKENS) - 1])


def test_kinds_belong_to_the_positions_that_numbered_them() -> None:
    """The positions of an equal vocabulary can be made anew while the walk is kept."""
    automaton = TokenAutomaton(Grammar.from_regex('"[ab]*"(,|])?'), VOCABULARY)
    program = automaton.program
    shape = next(s for q in range(1, len(program.rule_of)) if (s := automaton.shape(q)) is not None)
    inside = np.arange(1, VOCABULARY.trie.node_count, dtype=np.int32)
    zeros = np.zeros(len(inside), np.int32)
    exits = np.stack([inside, inside + 1, zeros, zeros, zeros])
    lexeme = replace(lexeme_of(VOCABULARY, shape))
    lexeme.exits = exits
    follow = np.zeros(256, np.bool_)
    follow[list(b',]"')] = True
    old, new = Positions(VOCABULARY.trie), Positions(VOCABULARY.trie)
    old.kinds(inside, as_flags(program, 0) | True)  # numbers some kinds first
    for positions in (old, new):
        kinds = lexeme.exit_groups(positions, follow)[:, 0]
        own = [kind for kind in kinds.tolist() if kind > 0]
        assert own
        assert all(np.array_equal(positions.follow(kind), follow) for kind in own)
