"""Distances where the search is cut short: upper bounds that some token always lowers.

``max_search_states`` is set so low that nearly every search ends byte by byte.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import law_settings
from strategies import BYTES, bag_grammars, grammars, regular

from constrain import TokenAutomaton, Vocabulary
from constrain.completion.bytes import NEVER, ByteWays
from grammars.compiling.bags import Residuals
from grammars.errors import GrammarError, LimitExceeded
from grammars.grammar import Grammar
from grammars.ir import GrammarIR, Literal, Ref, Repeat, Rule, alt, chars, repeat, seq, single_rule
from grammars.limits import Limits

TOKENS = (*BYTES, b"ab", b"bca", b"\xc3\xa9", b"aa", b"cab", b"bb", None)
EOS = len(TOKENS) - 1


@dataclass(frozen=True)
class Walk:
    """An automaton with its oracle, and a text being written."""

    ir: GrammarIR
    automaton: TokenAutomaton
    rng: random.Random

    def least(self, prefix: bytes) -> int:
        found = oracle.min_tokens(self.ir, prefix, TOKENS)
        assert found is not None, prefix
        return found

    def allowed(self, state: int, tokens_left: int | None = None) -> list[int]:
        found: list[int] = self.automaton.allowed_tokens(state, tokens_left).tolist()
        return found

    def steps(self, most: int) -> list[tuple[int, bytes]]:
        """States along a random text, with the text up to each."""
        state, prefix = self.automaton.start, b""
        out = [(state, prefix)]
        for _ in range(most):
            onward = [token for token in self.allowed(state) if token != EOS]
            if not onward:
                break
            token = self.rng.choice(onward)
            state = self.automaton.advance(state, token)
            prefix += TOKENS[token] or b""
            out.append((state, prefix))
        return out


def begin(ir: GrammarIR, limit: int, seed: int) -> Walk | None:
    vocabulary = Vocabulary.from_tokens(list(TOKENS), [EOS])
    try:
        automaton = TokenAutomaton(Grammar(ir), vocabulary, Limits(max_search_states=limit))
    except GrammarError:
        return None
    return Walk(ir, automaton, random.Random(seed))


def check_descends(walk: Walk, state: int) -> None:
    """Some token leads to a state that needs at least one less."""
    bound = walk.automaton.min_tokens_to_accept(state)
    if bound == 0:
        assert walk.automaton.is_accepting(state)
        return
    rests = [
        walk.automaton.min_tokens_to_accept(walk.automaton.advance(state, token))
        for token in walk.allowed(state)
        if token != EOS
    ]
    assert min(rests) <= bound - 1


def check_way_out(walk: Walk, state: int, prefix: bytes, left: int, trims: bool) -> None:
    """Whatever the masks for a budget allow ends within it."""
    while True:
        choice = walk.allowed(state, left)
        assert choice, (prefix, left)
        token = walk.rng.choice(choice)
        if token == EOS:
            assert oracle.member(walk.ir, prefix), prefix
            return
        state = walk.automaton.advance(state, token)
        prefix += TOKENS[token] or b""
        left -= 1
        if trims and walk.rng.random() < 0.3:
            walk.automaton.trim([state])


@law_settings
@given(
    ir=st.one_of(grammars(), bag_grammars(), regular().map(single_rule)),
    limit=st.integers(1, 40),
    seed=st.integers(0, 1 << 16),
)
def test_bounds_lead_to_the_end(ir: GrammarIR, limit: int, seed: int) -> None:
    walk = begin(ir, limit, seed)
    if walk is None:
        return
    for state, prefix in walk.steps(4):
        bound = walk.automaton.min_tokens_to_accept(state)
        assert bound >= walk.least(prefix), prefix
        check_descends(walk, state)
        for spare in (0, 0, 2):
            least = walk.automaton.min_tokens_to_accept(state)
            assert least <= bound, "bounds only ever become better"
            check_way_out(walk, state, prefix, least + 1 + spare, trims=False)


@law_settings
@given(ir=st.one_of(grammars(), bag_grammars()), seed=st.integers(0, 1 << 16))
def test_bounds_outlive_trimming(ir: GrammarIR, seed: int) -> None:
    walk = begin(ir, 3, seed)
    if walk is None:
        return
    for _ in range(3):
        start = walk.automaton.start
        least = walk.automaton.min_tokens_to_accept(start)
        check_way_out(walk, start, b"", least + 1, trims=True)


@law_settings
@given(ir=st.one_of(grammars(), regular().map(single_rule)))
def test_ways_byte_by_byte_are_shortest_where_nothing_was_asked(ir: GrammarIR) -> None:
    """The first answer is the least number of bytes."""
    program = Grammar(ir).program
    if program.is_empty:
        return
    ways = ByteWays(program, Residuals(program.bags, Limits()), lambda q, n: (q, n))
    least = oracle.min_tokens(ir, b"", tuple(bytes([value]) for value in range(256)))
    assert ways.cost((program.start, 0)) == (NEVER if least is None else least)


A, B = Literal(b"a"), Literal(b"b")
FIXED = {
    "nested": GrammarIR((Rule("s", alt(A, seq(B, Ref("s"), B, Ref("s"), B))),), "s"),
    "counted": single_rule(seq(Repeat(chars([(97, 99)]), 40, 60), A, repeat(B))),
    "counted calls": GrammarIR(
        (Rule("s", seq(Repeat(Ref("t"), 6, 9), B)), Rule("t", seq(repeat(A), B, alt(A, Ref("s"))))),
        "s",
    ),
}


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("limit", [1, 2, 5, 10, 20, 50, 200_000])
def test_bounds_of_known_grammars(name: str, limit: int) -> None:
    walk = begin(FIXED[name], limit, limit)
    assert walk is not None
    for state, prefix in walk.steps(8):
        bound = walk.automaton.min_tokens_to_accept(state)
        assert bound >= walk.least(prefix)
        if limit == 200_000:
            assert bound == walk.least(prefix)
        check_descends(walk, state)
        check_way_out(walk, state, prefix, bound + 1, trims=False)


def test_without_single_bytes_the_limit_is_an_error() -> None:
    """There no way byte by byte need exist."""
    vocabulary = Vocabulary.from_tokens([b"ab", b"ba", b"abb", None], [3])
    automaton = TokenAutomaton(
        Grammar(single_rule(Repeat(alt(Literal(b"ab"), Literal(b"ba")), 20, 30))), vocabulary
    )
    assert automaton.min_tokens_to_accept(automaton.start) == 20
    with pytest.raises(LimitExceeded, match="max_search_states"):
        TokenAutomaton(automaton.grammar, vocabulary, Limits(max_search_states=2))
