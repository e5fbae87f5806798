"""What grammars share over one vocabulary must not leak from one into another."""

from __future__ import annotations

import itertools
import random

import numpy as np
import oracle
import pytest

from constrain import TokenAutomaton, Vocabulary
from grammars.grammar import Grammar
from grammars.ir import GrammarIR, Literal, Ref, Rule, alt, chars, repeat, seq
from grammars.limits import Limits

LETTERS = chars([(ord("a"), ord("b"))])
TOKENS = [b"a", b"b", b"y", b"z", b"ay", b"azz", b"by", None]


def shared(item: object, rest: object) -> Grammar:
    """A lexeme in a rule of its own, then something else."""
    rules = (Rule("root", seq(Ref("lexeme"), rest)), Rule("lexeme", item, shared=True))  # type: ignore[arg-type]
    return Grammar(GrammarIR(rules, "root"))


FIRST = shared(repeat(LETTERS, 1), Literal(b"y"))
SECOND = shared(repeat(Literal(b"b"), 1), alt(Literal(b"yyy"), Literal(b"zz")))


@pytest.mark.parametrize("order", list(itertools.permutations([FIRST, SECOND])))
def test_distances_do_not_depend_on_grammars_before(order: tuple[Grammar, ...]) -> None:
    """The node ``a`` may stand for ``b`` where only y follows, but not where z does."""
    vocabulary = Vocabulary.from_tokens(TOKENS, [7])
    for grammar in order:
        automaton = TokenAutomaton(grammar, vocabulary, Limits(max_distance_work=10**12))
        state = automaton.advance_bytes(automaton.start, b"b")
        expected = oracle.min_tokens(grammar.ir, b"b", tuple(TOKENS))
        assert automaton.min_tokens_to_accept(state) == expected


FOLLOWS = ["y", "z", "yy|z", "yyy|zz", "zzz|y", "y?zz", "(y|z)(y|z)", "yyz|zb"]
LEXEMES = ["[ab]+", "b+", "(ab)+", "[ab]{1,9}", "[ab]+|y"]


@pytest.mark.parametrize("seed", range(6))
def test_many_grammars_over_one_vocabulary(seed: int) -> None:
    """Distances and budgeted masks of every grammar are the oracle's, whatever came before."""
    from grammars.frontends.regex.python import regex_to_expr

    rng = random.Random(seed)
    words = [
        "a",
        "b",
        "y",
        "z",
        *("".join(p) for n in (2, 3) for p in itertools.product("abyz", repeat=n)),
    ]
    tokens = [w.encode() for w in words[:4] + rng.sample(words[4:], 12)]
    vocabulary = Vocabulary.from_tokens([*tokens, None], [len(tokens)])
    pairs = list(itertools.product(LEXEMES, FOLLOWS))
    rng.shuffle(pairs)
    for lexeme, follow in pairs[:12]:
        grammar = shared(regex_to_expr(lexeme), seq(regex_to_expr(follow)))
        automaton = TokenAutomaton(grammar, vocabulary, Limits(max_distance_work=10**12))
        for prefix in (b"", b"b", b"ab", b"bb"):
            state = automaton.advance_bytes(automaton.start, prefix)
            expected = oracle.min_tokens(grammar.ir, prefix, (*tokens, None))
            if state == automaton.DEAD:
                assert expected is None
                continue
            assert automaton.min_tokens_to_accept(state) == expected, (lexeme, follow, prefix)
            for left in (2, 3, 4):
                row = np.zeros(1, np.int32)
                automaton.fill_mask(state, row, tokens_left=left)
                mask = {t for t in range(len(tokens) + 1) if row[0] >> t & 1}
                wanted = oracle.mask(grammar.ir, prefix, (*tokens, None), (len(tokens),), left)
                assert mask == wanted, (lexeme, follow, prefix, left)
