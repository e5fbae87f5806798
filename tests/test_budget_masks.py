"""Masks under a budget where states are taken apart: lexemes, what follows them, and what is beside them.

Direct walks are all but forbidden, so that small vocabularies take the ways of large ones.  Searches
for the fewest tokens get no work, some, or all they need.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import law_settings
from strategies import BYTES, grammars, regular

from constrain import TokenAutomaton, Vocabulary
from constrain.completion import tokens as completion
from constrain.masks import rule_masks
from grammars import ir
from grammars.errors import GrammarError
from grammars.frontends.regex.python import regex_to_expr
from grammars.grammar import Grammar
from grammars.ir import (
    REPEATED_CLOSE,
    REPEATED_COMMA,
    GrammarIR,
    Mark,
    Member,
    Ref,
    Rule,
    alt,
    bag,
    seq,
    single_rule,
)
from grammars.limits import Limits

WORDS = tuple(
    b"".join(word) for size in (2, 3) for word in itertools.product((b"a", b"b", b"c"), repeat=size)
)
TOKENS = (*BYTES, *WORDS[::2], b"aaaa", b"abcabc", None)
EOS = len(TOKENS) - 1
WORK = (0, 100_000, 10**12)


@pytest.fixture(params=[0, 3, 9, 14])
def walks_are_short(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_DIRECT", request.param)
    monkeypatch.setattr(rule_masks, "_FUEL", request.param)


def check(ir: GrammarIR, work: int, seed: int) -> None:
    """A mask holds the tokens after which the text can end in time by the automaton's own numbers."""
    vocabulary = Vocabulary.from_tokens(list(TOKENS), [EOS])
    try:
        automaton = TokenAutomaton(Grammar(ir), vocabulary, Limits(max_distance_work=work))
    except GrammarError:
        return
    rng = random.Random(seed)
    state, prefix = automaton.start, b""
    for _ in range(5):
        onward = [t for t in automaton.allowed_tokens(state).tolist() if t != EOS]
        rests = {t: automaton.min_tokens_to_accept(automaton.advance(state, t)) for t in onward}
        for t, rest in rests.items():
            least = oracle.min_tokens(ir, prefix + (TOKENS[t] or b""), TOKENS)
            assert least is not None
            assert least <= rest if work < WORK[-1] else least == rest, (prefix, t)
        ends = {EOS} if automaton.is_accepting(state) else set()
        for left in (*range(1, 8), 12, 30):
            mask = set(automaton.allowed_tokens(state, left).tolist())
            assert mask == {t for t, rest in rests.items() if rest + 2 <= left} | ends, (
                prefix,
                left,
            )
        if not onward:
            return
        token = rng.choice(onward)
        state = automaton.advance(state, token)
        prefix += TOKENS[token] or b""


def lexemes_in_rules() -> st.SearchStrategy[GrammarIR]:
    """Lexemes beside literals with which they share beginnings, called from a rule that goes on."""
    lexeme = st.sampled_from(
        ["[ab]*c", "[abc]+", "(?:ab)*", "a[bc]{0,9}", "[ab]{2,40}c", "b*|a+b", "[^c]*c"]
    )
    literal = st.sampled_from(["abc", "ab", "aab", "bbc", "c", "abcabc", "a"])
    follow = st.sampled_from(["", "c", "ab", "[bc]a", "c?b", "(?:bb|ca)*"])

    def grammar(one: str, other: str, word: str, after: str, last: str) -> GrammarIR:
        ways = alt(
            seq(Ref("x"), regex_to_expr(after)),
            seq(regex_to_expr(word), Ref("y"), regex_to_expr(last)),
        )
        rules = (
            Rule("s", ways),
            Rule("x", regex_to_expr(one), shared=True),
            Rule("y", regex_to_expr(other), shared=True),
        )
        return GrammarIR(rules, "s")

    return st.builds(grammar, lexeme, lexeme, literal, follow, follow)


@pytest.mark.usefixtures("walks_are_short")
@law_settings
@given(
    ir=st.one_of(lexemes_in_rules(), grammars(), regular().map(single_rule)),
    work=st.sampled_from(WORK),
    seed=st.integers(0, 1 << 16),
)
def test_masks_for_a_budget_are_those_of_the_distances(ir: GrammarIR, work: int, seed: int) -> None:
    check(ir, work, seed)


def test_a_completion_far_from_where_the_rules_would_end() -> None:
    """Items must repeat, which takes a second one, but by the rules alone the list could end at once."""
    keys = [Member(ir.text(f'"{key}":"a"'), 0, 1) for key in "ab"]
    item = seq(ir.text("{"), bag(keys, ir.text(","), 2, None), ir.text("}"))
    tail = seq(
        Mark(REPEATED_COMMA), item, ir.repeat(seq(alt(ir.text(","), Mark(REPEATED_COMMA)), item))
    )
    repeated = alt(Mark(REPEATED_CLOSE), seq(tail, alt(ir.text("]"), Mark(REPEATED_CLOSE))))
    root = seq(ir.text("["), item, ir.repeat(seq(ir.text(","), item)), repeated)
    grammar = Grammar(replace(single_rule(root), distinct_keys=True, compare_items=True))
    tokens = [b"b", b'"', b"{", b"}", b"[", b"]", b":", b",", b'"a"', None]
    automaton = TokenAutomaton(grammar, Vocabulary(tuple(tokens), (9,)))
    answer = automaton.min_tokens_to_accept(automaton.start)
    level, fewest = {automaton.start}, 0
    while not any(map(automaton.is_accepting, level)):
        level = {
            after
            for state in level
            for token in range(9)
            if (after := automaton.advance(state, token)) != automaton.DEAD
        }
        fewest += 1
    assert answer == fewest
