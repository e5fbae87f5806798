"""The laws on bags, and on JSON with memory of keys and items."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import AutomatonLaws, Case, check_hopeless, law_settings
from strategies import (
    JSON_BYTES,
    bag_grammars,
    json_array,
    json_object,
    json_texts,
    json_vocabularies,
    memory_grammars,
    texts,
    vocabularies,
)

from constrain import TokenAutomaton, Vocabulary
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.ir import (
    EPSILON,
    Bag,
    Expr,
    GrammarIR,
    Literal,
    Member,
    Ref,
    Repeat,
    Rule,
    Seq,
    alt,
    bag,
    chars,
    optional,
    repeat,
    seq,
    single_rule,
)


def lit(text: str) -> Expr:
    return Literal(text.encode())


def grammar(**rules: Expr) -> GrammarIR:
    return GrammarIR(tuple(Rule(name, body) for name, body in rules.items()), next(iter(rules)))


s, t = Ref("s"), Ref("t")
a, b, c = lit("a"), lit("b"), lit("c")
WORD = repeat(chars([(97, 98)]), 1)
LETTER = chars([(97, 98)])

BAGS: dict[str, GrammarIR] = {
    "each once": single_rule(bag([Member(a, 1), Member(b, 1), Member(lit("é"), 1)], c)),
    "each at most once": single_rule(bag([Member(a), Member(b), Member(lit("é"))], c)),
    "one needed": single_rule(bag([Member(a, 1), Member(b), Member(lit("ab"))], c)),
    "so many": single_rule(bag([Member(a, 0, None), Member(b, 0, None)], c, 2, 3)),
    "more than there are": single_rule(seq(a, optional(bag([Member(a), Member(b)], c, 3)))),
    "counted members": single_rule(bag([Member(a, 1, 2), Member(b, 2, 3)], c)),
    "any others": single_rule(bag([Member(a, 1), Member(WORD, 0, None)], c)),
    "two needed, others": single_rule(bag([Member(a, 1), Member(b, 1), Member(WORD, 0, None)], c)),
    "overlap decides late": single_rule(bag([Member(alt(a, b), 1), Member(a, 1)], c)),
    "overlap, reassigned": single_rule(
        bag([Member(alt(a, b), 1), Member(alt(b, lit("é")), 1), Member(alt(lit("é"), a), 1)], c)
    ),
    "no separator": single_rule(bag([Member(a, 1, 2), Member(b), Member(lit("ab"))], EPSILON)),
    "separator optional": single_rule(bag([Member(a, 1, 2), Member(lit("ab"))], optional(c))),
    "separator like an item": single_rule(bag([Member(a), Member(b), Member(lit("ba"))], b)),
    "groups": single_rule(
        bag([Member(a, group=0), Member(b, group=0), Member(lit("aa"), 1, 1, 1), Member(c, group=1)],
            b)
    ),
    "group needed twice": single_rule(
        seq(a, optional(bag([Member(a, 1, 1, 0), Member(b, 1, 1, 0)], c)))
    ),
    "group of one that may repeat": single_rule(bag([Member(a, 0, None, 0), Member(b, 1)], c)),
    "ordered": single_rule(bag([Member(a, 1), Member(b), Member(a)], c, ordered=True)),
    "ordered with others": single_rule(
        bag([Member(a), Member(b, 1), Member(WORD, 0, None)], c, ordered=True)
    ),
    "ordered groups": single_rule(
        bag([Member(a, group=0), Member(b), Member(lit("aa"), group=0)], c, 2, ordered=True)
    ),
    "nested": single_rule(
        bag([Member(seq(a, bag([Member(a), Member(b, 1)], c), b), 1), Member(b), Member(a)], c)
    ),
    "in recursion": grammar(s=seq(a, optional(bag([Member(s, 0, 2), Member(b)], c)), b)),
    "left recursion around": grammar(s=alt(seq(s, b, bag([Member(a), Member(c)], b)), a)),
    "tail of itself": grammar(s=bag([Member(seq(a, s)), Member(b)], c)),
    "side by side": single_rule(
        seq(bag([Member(a), Member(b)], c), bag([Member(a, 1), Member(c)], b))
    ),
    "repeated": single_rule(Repeat(bag([Member(a, 1), Member(b)], c), 2, 3)),
    "one body, two uses": grammar(s=seq(t, b, t), t=bag([Member(a), Member(c)], b)),
    "wide": single_rule(bag([Member(lit(x), i % 2) for i, x in enumerate("abéè")], c)),
    "same members": single_rule(bag([Member(a, 1), Member(a, 1), Member(a)], c)),
}  # fmt: skip

PIECES = [
    b"a", b"b", b"c", b"\xc3", b"\xa9", b"\xa8", b"ab", b"ac", b"ca", b"cb", b"acb", b"bc",
    b"\xc3\xa9", b"c\xc3", b"bca", b"aa",
]  # fmt: skip
FULL = ((*PIECES, None, b"", None, b"a"), (16, 18))
SPARSE = ((b"a", b"bc", b"ca", b"cb", b"ac", b"\xc3\xa9", b"bb", b"ab", None), (8,))
TEXTS = tuple(
    word.encode()
    for word in (
        "", "a", "b", "c", "aca", "acb", "bca", "acbc", "acbcé", "écbca", "bcbca", "acacb", "acaca",
        "aab", "aba", "abab", "aabb", "bcab", "aacbb", "abcb", "éca", "éca", "ca", "acc", "abcab",
        "bcbcaca", "bcabca", "acabcb", "aaab", "aaabcabb", "acbb", "abb", "acacaca",
    )
)  # fmt: skip


class TestBags(AutomatonLaws):
    """Bags with tokens for every byte."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(Case.of_ir, ir, FULL, TEXTS) for name, ir in BAGS.items()
    }

    def random_cases(self) -> st.SearchStrategy[Case]:
        return st.builds(Case.of_ir, bag_grammars(), vocabularies())


class TestBagsInSparseVocabulary(AutomatonLaws):
    """Tokens without their bytes: items end inside tokens, and the counts decide what can follow."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(Case.of_ir, ir, SPARSE, TEXTS)
        for name, ir in BAGS.items()
        if oracle.completable(ir, b"", SPARSE[0])
    }

    def random_cases(self) -> st.SearchStrategy[Case]:
        few = st.lists(
            st.sampled_from([b"ab", b"ca", b"cb", b"bc", b"ac", b"c\xc3", b"\xa9", b"bb", b"a"]),
            max_size=5,
        ).map(lambda tokens: ((*tokens, b"aca", None), (len(tokens) + 1,)))
        return st.builds(Case.of_ir, bag_grammars(), few)


# --- memory --------------------------------------------------------------------------------------


def memory(keys: bool = True, items: bool = True, **rules: Expr) -> GrammarIR:
    made = grammar(**rules)
    return GrammarIR(made.rules, made.start, distinct_keys=keys, compare_items=items)


QA, QB, QE = lit('"a"'), lit('"b"'), lit('""')
FREE = seq(lit('"'), repeat(LETTER), lit('"'))
OTHER = seq(lit('"'), alt(EPSILON, b, seq(LETTER, WORD)), lit('"'))  # free, but not "a"
SHORT = seq(lit('"'), optional(LETTER), lit('"'))
ESCAPED = alt(QA, QB, lit('"\\u0061"'))
ONE = alt(lit("1"), lit("1.0"), lit("11"), lit("0.1e1"))


def pair(key: Expr, value: Expr) -> Expr:
    return seq(key, lit(":"), value)


def free_object(key: Expr, value: Expr, low: int = 0) -> Expr:
    return json_object([Member(pair(key, value), 0, None)], low, None, False)


MEMORIES: dict[str, GrammarIR] = {
    "free keys": memory(items=False, s=free_object(FREE, lit("1"))),
    "three short keys": memory(items=False, s=free_object(SHORT, lit("1"), 3)),
    "more keys than strings": memory(
        items=False, s=alt(lit("1"), free_object(alt(QA, QB), lit("1"), 3))
    ),
    "keys with escapes": memory(items=False, s=free_object(ESCAPED, lit("1"))),
    "needed and free keys": memory(items=False, s=json_object(
        [Member(pair(QA, lit("1")), 1), Member(pair(OTHER, lit("11")), 0, None)], 1, None, False)),
    "needed key taken by a free one": memory(items=False, s=json_object(
        [Member(pair(QA, lit("1")), 1), Member(pair(SHORT, lit("11")), 0, None)], 1, None, False)),
    "keys in order, then free ones": memory(items=False, s=json_object(
        [Member(pair(QA, lit("1")), 1), Member(pair(FREE, lit("11")), 0, 2)], 1, None, True)),
    "objects in objects": memory(items=False, s=free_object(SHORT, alt(lit("1"), s))),
    "equal keys in different objects": memory(
        items=False, s=json_array(free_object(alt(QA, QB), lit("1"), 1), "distinct", 1, 3)),
    "distinct short strings": memory(s=json_array(SHORT, "distinct", 0, None)),
    "all short strings": memory(s=json_array(SHORT, "distinct", 3, 3)),
    "more items than values": memory(s=alt(lit("1"), json_array(alt(QA, QB), "distinct", 3, 4))),
    "distinct free strings": memory(s=json_array(FREE, "distinct", 2, 3)),
    "distinct numbers": memory(s=json_array(ONE, "distinct", 1, 3)),
    "distinct strings with escapes": memory(s=json_array(ESCAPED, "distinct", 1, None)),
    "items may repeat": memory(s=json_array(alt(QA, QB), "any", 0, 3)),
    "items must repeat": memory(s=json_array(SHORT, "repeated", 1, 3)),
    "numbers must repeat": memory(s=json_array(ONE, "repeated", 1, 3)),
    "distinct objects": memory(s=json_array(free_object(alt(QA, QB), lit("1")), "distinct", 2, 4)),
    "order of keys does not matter": memory(
        s=json_array(json_object([Member(pair(QA, ONE), 1), Member(pair(QB, lit("1")), 1)],
                                 2, None, False), "distinct", 2, 2)),
    "distinct arrays of repeating items": memory(
        s=json_array(json_array(alt(QA, lit("1")), "any", 0, 2), "distinct", 1, 2)),
    "arrays in arrays": memory(s=json_array(alt(lit("1"), s), "distinct", 0, 2)),
    "last of few": memory(s=seq(lit("["), alt(QA, QB), lit(","), alt(QA, QB, lit("1")), lit(","),
                                alt(QA, QB), lit("]"))),
    "repetition told at the end": memory(s=alt(
        json_array(alt(QA, QB), "distinct", 2, 2), json_array(alt(QA, lit("1")), "repeated", 1, 2))),
    "items only, keys may repeat": memory(
        keys=False, s=json_array(free_object(QA, alt(lit("1"), lit("11"))), "distinct", 1, 2)),
}  # fmt: skip

EXHAUSTIBLE = (
    "more keys than strings",
    "needed key taken by a free one",
    "more items than values",
    "last of few",
)
"""Grammars whose few values can be used up long before the last one is needed."""


def memory_case(name: str, vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]]) -> Case:
    """A fixed case; of those that can run out only what holds all the same is checked."""
    return Case.of_ir(MEMORIES[name], vocabulary, JSON_TEXTS, foresees=name not in EXHAUSTIBLE)


def random_memory_case(ir: GrammarIR, vocabulary: Any) -> Case:
    """Random grammars may run out of values, too."""
    return Case.of_ir(ir, vocabulary, foresees=False)


JSON_PIECES = (
    b'"a"', b'","', b'":', b'{"', b'"]', b',"', b'a"', b"1,", b'"a":1', b'{"a', b'b":1}', b"11",
    b"]]", b".", b"0", b"e", b"\\u00", b"6", b'"a","', b"},{",
)  # fmt: skip
JSON_FULL = ((*JSON_BYTES, *JSON_PIECES, None), (len(JSON_BYTES) + len(JSON_PIECES),))
JSON_SPARSE = (
    (b'["', b'{"', b'a"', b'b"', b'"', b":1", b',"', b'","', b"]", b"}", b",", b"a", b"1", b"[",
     b'"],["', b'":1,"', None),
    (16,),
)  # fmt: skip
JSON_TEXTS = tuple(
    word.encode()
    for word in (
        "", "{}", "[]", '{"a":1}', '{"a":1,"a":1}', '{"a":1,"b":1}', '{"a":1,"\\u0061":1}',
        '{"":1,"a":1,"b":1}', '["a","b"]', '["a","a"]', '["a","b",""]', '["a","b","a"]', "[1,1.0]",
        "[1,11]", "[1,1]", "[0.1e1,11,1]", '["a","b",', '["a","b","', '{"a":1,"', '{"a":11,"b":11}',
        '[{"a":1},{"a":1}]', '[{"a":1,"b":1},{"b":1,"a":1}]', '[{"a":1},{"b":1}]', "[[],[]]",
        '[["a","a"],["a"]]', "[1,[1]]", "[[],[[]]]", '["a","\\u0061"]', '["a",1,"b"]', '["b",1,"b"]',
        '{"a":{"a":1}}', '{"a":{"a":1},"a":1}', '{"a":1,"ab":11}',
    )
)  # fmt: skip


class MemoryLaws(AutomatonLaws):
    """What both vocabularies share."""

    alphabet: ClassVar[list[bytes]] = [*JSON_BYTES, b"\\"]

    def random_texts(self) -> st.SearchStrategy[bytes]:
        return json_texts()


class TestMemory(MemoryLaws):
    """JSON with memory, tokens for every byte it needs."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(memory_case, name, JSON_FULL) for name in MEMORIES
    }

    def random_cases(self) -> st.SearchStrategy[Case]:
        return st.builds(random_memory_case, memory_grammars(), json_vocabularies())


class TestMemoryInSparseVocabulary(MemoryLaws):
    """Keys and items that begin and end inside tokens."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(memory_case, name, JSON_SPARSE)
        for name, ir in MEMORIES.items()
        if oracle.completable(ir, b"", JSON_SPARSE[0])
    }

    def random_cases(self) -> st.SearchStrategy[Case]:
        few = st.lists(
            st.sampled_from([b'["', b'{"', b'a"', b'":1', b",", b'"', b"]", b"}", b"1", b"a", b":",
                             b'","', b'"]']),
            min_size=5,
            max_size=10,
        ).map(lambda tokens: ((*tokens, b'["a', None), (len(tokens) + 1,)))  # fmt: skip
        return st.builds(random_memory_case, memory_grammars(), few)


# --- without a vocabulary ------------------------------------------------------------------------


@pytest.mark.parametrize("ir", [*BAGS.values(), *MEMORIES.values()], ids=[*BAGS, *MEMORIES])
def test_samples_are_members(ir: GrammarIR) -> None:
    made = Grammar(ir)
    for seed in range(10):
        text = made.sample(seed)
        assert oracle.member(ir, text), text
        assert made.accepts(text), text


@law_settings
@given(ir=st.one_of(bag_grammars(), memory_grammars()), seed=st.integers(0, 99))
def test_random_samples_are_members(ir: GrammarIR, seed: int) -> None:
    made = Grammar(ir)
    if made.is_empty:
        return
    try:
        text = made.sample(seed, max_bytes=60)
    except GrammarError:
        assert oracle.has_memory(ir), "only memory makes a sample hard to find"
        return
    assert len(text) <= 60
    assert oracle.member(ir, text), text
    assert made.accepts(text), text


@law_settings
@given(ir=bag_grammars(), data=st.lists(texts(), max_size=4))
def test_bags_alone(ir: GrammarIR, data: list[bytes]) -> None:
    """What accepts, is_empty and explain say."""
    made = Grammar(ir)
    recognizer = oracle.Recognizer(ir)
    assert made.is_empty == (not recognizer.start.viable)
    for text in data:
        expected = oracle.member(ir, text)
        assert made.accepts(text) == expected
        explanation = made.explain(text)
        assert explanation.accepted == expected
        if not expected:
            viable = [n for n in range(len(text) + 1) if recognizer.viable(text[:n])]
            assert explanation.offset == (max(viable) if viable else 0)


@law_settings
@given(ir=memory_grammars(), data=st.lists(json_texts(), max_size=4))
def test_memory_alone(ir: GrammarIR, data: list[bytes]) -> None:
    """What accepts and explain say agrees with the definition."""
    made = Grammar(ir)
    for text in data:
        expected = oracle.member(ir, text)
        assert made.accepts(text) == expected, text
        assert made.explain(text).accepted == expected, text


def test_values_too_few_for_the_items_are_hopeless() -> None:
    """Memory alone makes these languages empty; a dead start is as good as a refusal."""
    for items in (json_array(alt(QA, QB), "distinct", 3, 4), json_array(QA, "distinct", 2, None)):
        case = Case.of_ir(memory(s=items), JSON_FULL)
        assert case.hopeless
        if not case.grammar.is_empty:
            check_hopeless(case)
        with pytest.raises(GrammarError):
            case.grammar.sample(random.Random(0).randrange(99))


def test_a_key_that_only_a_token_with_the_comma_begins():
    """No canonical order can be spelled here; the other one can."""
    tokens = [*b"ab1{}[]:,", *[b'"a"', b'":', b',"']]
    texts = [bytes([t]) if isinstance(t, int) else t for t in tokens]
    members = (
        Member(Literal(b'"a":"a"'), min=0, max=1),
        Member(Literal(b'"b":"a"'), min=1, max=1),
    )
    body = Seq((Literal(b"{"), Bag(members, separator=Literal(b","), low=1), Literal(b"}")))
    grammar = Grammar(GrammarIR((Rule("root", body),), "root", distinct_keys=True))
    automaton = TokenAutomaton(grammar, Vocabulary.from_tokens([*texts, None], [len(texts)]))
    state = automaton.start
    for token in [3, 9, 7, 9, 11, 1, 10, 9, 4]:  # {"a":"a","b":"a"}
        assert token in automaton.allowed_tokens(state)
        state = automaton.advance(state, token)
    assert automaton.is_accepting(state)
