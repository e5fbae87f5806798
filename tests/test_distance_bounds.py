"""Distances where the search is cut short: upper bounds that some token always lowers.

``max_search_states`` or ``max_distance_work`` is set so low that nearly every search is cut short.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import law_settings
from strategies import BYTES, bag_grammars, grammars, regular

from constrain import TokenAutomaton, Vocabulary
from constrain.completion.bytes import NEVER, ShortestTexts
from constrain.huggingface.processor import check_budget
from constrain.masks.trie_positions import BOUNDARY, Positions
from constrain.rules import RuleAutomaton
from constrain.vocabulary.trie import Trie
from grammars.errors import BudgetError, GrammarError, LimitExceeded
from grammars.grammar import Grammar
from grammars.ir import (
    GrammarIR,
    Literal,
    Ref,
    Repeat,
    Rule,
    alt,
    chars,
    repeat,
    seq,
    single_rule,
)
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


ALL_IT_TAKES = 10**12


def begin(ir: GrammarIR, limit: int, seed: int, work: int = ALL_IT_TAKES) -> Walk | None:
    vocabulary = Vocabulary.from_tokens(list(TOKENS), [EOS])
    limits = Limits(max_search_states=limit, max_distance_work=work)
    try:
        automaton = TokenAutomaton(Grammar(ir), vocabulary, limits)
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
    limit=st.one_of(st.integers(1, 40), st.just(200_000)),
    work=st.sampled_from([0, 20_000, 60_000, 200_000, ALL_IT_TAKES]),
    seed=st.integers(0, 1 << 16),
)
def test_bounds_lead_to_the_end(ir: GrammarIR, limit: int, work: int, seed: int) -> None:
    walk = begin(ir, limit, seed, work)
    if walk is None:
        return
    for state, prefix in walk.steps(4):
        bound, exact = walk.automaton.min_tokens(state)
        least = walk.least(prefix)
        assert bound == least if exact else bound >= least, prefix
        check_descends(walk, state)
        for spare in (0, 0, 2):
            least = walk.automaton.min_tokens_to_accept(state)
            assert least <= bound, "bounds only ever become better"
            check_way_out(walk, state, prefix, least + 1 + spare, trims=False)


@law_settings
@given(
    ir=st.one_of(grammars(), bag_grammars()),
    work=st.sampled_from([0, 60_000, 200_000, ALL_IT_TAKES]),
    seed=st.integers(0, 1 << 16),
)
def test_bounds_outlive_trimming(ir: GrammarIR, work: int, seed: int) -> None:
    walk = begin(ir, 200_000 if work < ALL_IT_TAKES else 3, seed, work)
    if walk is None:
        return
    for _ in range(3):
        start = walk.automaton.start
        least = walk.automaton.min_tokens_to_accept(start)
        check_way_out(walk, start, b"", least + 1, trims=True)


@law_settings
@given(ir=st.one_of(grammars(), regular().map(single_rule)), seed=st.integers(0, 1 << 16))
def test_shortest_texts_have_the_fewest_bytes(ir: GrammarIR, seed: int) -> None:
    vocabulary = Vocabulary.from_tokens(list(TOKENS), [EOS])
    try:
        rules = RuleAutomaton(Grammar(ir), vocabulary, Limits())
    except GrammarError:
        return
    texts = ShortestTexts(rules.pool, vocabulary)
    rng = random.Random(seed)
    place, prefix = rules.start, b""
    for _ in range(4):
        least = oracle.min_tokens(ir, prefix, BYTES)
        assert texts.bytes(place) == (NEVER if least is None else least), prefix
        tokens, places = rules.edges(place)
        if not len(tokens):
            break
        chosen = rng.randrange(len(tokens))
        place = int(places[chosen])
        prefix += TOKENS[tokens[chosen]] or b""


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


def test_without_single_bytes_a_shortest_text_may_be_spelled_all_the_same() -> None:
    vocabulary = Vocabulary.from_tokens([b"ab", b"ba", b"abb", None], [3])
    grammar = Grammar(single_rule(Repeat(alt(Literal(b"ab"), Literal(b"ba")), 20, 30)))
    automaton = TokenAutomaton(grammar, vocabulary, Limits(max_search_states=2))
    assert automaton.min_tokens(automaton.start) == (20, False)


def test_without_single_bytes_the_limit_is_an_error() -> None:
    """No token writes a shortest text, so that only a search can tell whether any text is written."""
    vocabulary = Vocabulary.from_tokens([b"ab", b"bab", None], [2])
    grammar = Grammar(single_rule(Repeat(alt(Literal(b"aa"), Literal(b"bab")), 20, 30)))
    automaton = TokenAutomaton(grammar, vocabulary, Limits(max_distance_work=ALL_IT_TAKES))
    assert automaton.min_tokens(automaton.start) == (20, True)
    with pytest.raises(LimitExceeded, match="max_search_states"):
        TokenAutomaton(grammar, vocabulary, Limits(max_search_states=2))


def two_ways(work: int) -> TokenAutomaton:
    """A text of two bytes and tokens, and one of four bytes and one token."""
    vocabulary = Vocabulary.from_tokens([b"a", b"b", b"c", b"abab", None], [4])
    grammar = Grammar(single_rule(alt(Literal(b"ac"), Literal(b"abab"))))
    return TokenAutomaton(grammar, vocabulary, Limits(max_distance_work=work))


def test_a_longer_text_may_take_fewer_tokens() -> None:
    automaton = two_ways(ALL_IT_TAKES)
    assert automaton.min_tokens(automaton.start) == (1, True)
    assert not automaton.approximations


def test_search_further_makes_bounds_better() -> None:
    automaton = two_ways(1_000)
    assert automaton.min_tokens(automaton.start) == (2, False)
    assert any("max_distance_work" in sentence for sentence in automaton.approximations)
    assert automaton.allowed_tokens(automaton.start, 2).tolist() == [3]
    assert automaton.search_further(automaton.start) == (1, True)
    assert automaton.min_tokens(automaton.start) == (1, True)
    assert automaton.allowed_tokens(automaton.start, 2).tolist() == [3]
    with pytest.raises(ValueError, match="DEAD"):
        automaton.search_further(automaton.DEAD)
    assert automaton.search_further(automaton.FINISHED) == (0, True)


def test_a_budget_that_a_search_cut_short_does_not_meet_says_what_is_enough() -> None:
    automaton = two_ways(0)
    assert automaton.search_further(automaton.start) == (2, False)
    check_budget(automaton, 3)
    with pytest.raises(BudgetError) as caught:
        check_budget(automaton, 2)
    assert (caught.value.needed, caught.value.available) == (3, 2)
    assert str(caught.value) == (
        "no text of 2 tokens (EOS included) was found with the work that Limits.max_distance_work allows; "
        "3 are enough: raise max_new_tokens to 3"
    )


@pytest.mark.parametrize("count", [2, 30, 200])
def test_long_counts_take_the_longest_tokens(count: int) -> None:
    """Of the bytes that a shortest text may repeat, that with the longest token is taken."""
    vocabulary = Vocabulary.from_tokens([b"a", b"b", b"c", b"bb", b"bbbbbbb", b"cc", None], [6])
    grammar = Grammar(single_rule(Repeat(chars([(97, 99)]), count, None)))
    automaton = TokenAutomaton(grammar, vocabulary, Limits(max_distance_work=0))
    sevens, rest = divmod(count, 7)
    assert automaton.min_tokens(automaton.start)[0] == sevens + (rest + 1) // 2


def test_very_long_counts_are_not_walked() -> None:
    """Longest tokens are counted one after the other, which at most costs one token where it begins."""
    count = 100_001
    vocabulary = Vocabulary.from_tokens([b"a", b"b", b"c", b"bb", b"bbbbbbb", b"cc", None], [6])
    grammar = Grammar(single_rule(Repeat(chars([(97, 99)]), count, None)))
    rules = RuleAutomaton(grammar, vocabulary, Limits(max_distance_work=0))
    texts = ShortestTexts(rules.pool, vocabulary)
    assert texts.bytes(rules.start) == count
    fewest = texts.tokens(rules.start)
    assert count // 7 + 3 <= fewest <= count // 7 + 4
    assert rules.state_count < count // 6
    (text,) = texts.texts_of(np.array([rules.start], np.int32))
    spelled = texts.spelling(rules.start)
    assert spelled is not None
    assert len(spelled) == fewest
    assert text == b"b" * count == b"".join(vocabulary.texts[t] for t in spelled)
    state = rules.start
    for i, token in enumerate(spelled[:100]):
        assert rules.distances.fewest(state) == fewest - i
        state = rules.after_token(state, token)


@pytest.mark.parametrize("bound", [10**9, 2 * 10**9])
def test_texts_of_billions_of_bytes_are_refused_at_once(bound: int) -> None:
    vocabulary = Vocabulary.from_tokens([b"a", b"b", None], [2])
    grammar = Grammar(single_rule(Repeat(chars([(97, 98)]), bound, None)))
    automaton = TokenAutomaton(grammar, vocabulary)
    with pytest.raises(LimitExceeded, match="max_distance_work"):
        automaton.min_tokens(automaton.start)


@law_settings
@given(
    words=st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=40),
    follow=st.sets(st.integers(0, 255), max_size=40),
    seed=st.integers(0, 1 << 16),
)
def test_kinds_are_the_classes_of_nodes_that_go_on_alike(
    words: list[bytes], follow: set[int], seed: int
) -> None:
    trie = Trie.build(words)
    flags = np.isin(np.arange(256), sorted(follow | set(words[0])))
    positions = Positions(trie)
    nodes = np.arange(trie.node_count, dtype=np.int32)
    random.Random(seed).shuffle(nodes)

    def goes_on(node: int) -> tuple[object, ...]:
        found, at = [], node + 1
        while at < trie.skip[node]:
            if flags[trie.byte[at]]:
                found.append((int(trie.byte[at]), int(trie.suffix_class[at])))
            at = int(trie.skip[at])
        return bool(trie.token_start[node] < trie.token_start[node + 1]), tuple(found)

    first = positions.kinds(nodes[: len(nodes) // 2], flags)
    kinds = positions.kinds(nodes, flags)
    assert (kinds[: len(first)] == first).all()
    by_kind: dict[int, tuple[object, ...]] = {}
    for node, kind in zip(nodes.tolist(), kinds.tolist(), strict=True):
        if node == 0:
            assert kind == BOUNDARY
            continue
        assert by_kind.setdefault(kind, goes_on(node)) == goes_on(node)
    assert len(set(by_kind.values())) == len(by_kind)
