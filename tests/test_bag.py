"""Bags and marks: recognizer and automaton beside an enumeration of the language."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from constrain import TokenAutomaton, Vocabulary
from constrain.engine.jit import kernels as k
from constrain.rules import RuleAutomaton
from grammars import Grammar, GrammarError
from grammars.compiling.bags import Residuals, Row
from grammars.errors import LimitExceeded
from grammars.ir import (
    EPSILON,
    NOTHING,
    REPEATED_CLOSE,
    REPEATED_COMMA,
    Alt,
    Bag,
    Condition,
    Expr,
    GrammarIR,
    Literal,
    Mark,
    Member,
    Nothing,
    Ref,
    Repeat,
    Rule,
    Seq,
    Span,
    alt,
    bag,
    both,
    chars,
    minus,
    optional,
    repeat,
    seq,
    single_rule,
    text,
)
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.recognizer import DEAD
from grammars.storage import dumps, loads

EOS = 0
SINGLES = [b"a", b"b", b"c", b",", b";", b"[", b"]"]
SPELLING_ALL = Vocabulary.from_tokens(
    [None, *SINGLES, b"ab", b"a,", b",b", b"b,a", b"c,a,", b"[a", b",a]", b"a,b,c"], [EOS]
)
LACKING = Vocabulary.from_tokens(
    [None, b"a", b"b", b",", b"[", b"]", b";", b"bc", b"c,", b"a,b", b",a,c"], [EOS]
)


# -- the language by enumeration -------------------------------------------------------------------


class TooManyError(Exception):
    """The language is too large to be enumerated."""


class Enumeration:
    """All texts of a grammar up to a length, straight from what the nodes mean."""

    def __init__(self, grammar: GrammarIR, longest: int) -> None:
        self.grammar = grammar
        self.longest = longest
        self.known: dict[str, frozenset[bytes]] = {rule.name: frozenset() for rule in grammar.rules}
        while True:
            after = {rule.name: self.texts(rule.body) for rule in grammar.rules}
            if after == self.known:
                break
            self.known = after
        self.all = self.known[grammar.start]

    def texts(self, expr: Expr) -> frozenset[bytes]:
        match expr:
            case Literal(data):
                return self.cut({data})
            case Seq(items):
                out = frozenset({b""})
                for item in items:
                    out = self.join(out, self.texts(item))
                return out
            case Alt(items):
                return frozenset[bytes]().union(*map(self.texts, items))
            case Repeat(item, low, high):
                return self.repeated(self.texts(item), low, high)
            case Ref(name):
                return self.known[name]
            case Bag():
                return self.bag(expr)
            case Nothing():
                return frozenset()
        raise NotImplementedError(type(expr).__name__)

    def cut(self, texts: set[bytes]) -> frozenset[bytes]:
        return frozenset(t for t in texts if len(t) <= self.longest)

    def join(self, left: frozenset[bytes], right: frozenset[bytes]) -> frozenset[bytes]:
        return self.cut({a + b for a in left for b in right})

    def repeated(self, item: frozenset[bytes], low: int, high: int | None) -> frozenset[bytes]:
        out: set[bytes] = set()
        current = frozenset({b""})
        for count in range(self.longest + low + 1 if high is None else high + 1):
            if count >= low:
                out |= current
            current = self.join(current, item)
        return frozenset(out)

    def bag(self, expr: Bag) -> frozenset[bytes]:
        """Every sequence of members, checked at its end."""
        items = [self.texts(member.item) for member in expr.members]
        separator = self.texts(expr.separator)
        out: set[bytes] = set()
        found = {((i,), t) for i, texts in enumerate(items) for t in texts}
        most = self.longest if expr.high is None else expr.high
        for _ in range(most):
            if len(found) > 4_000:
                raise TooManyError
            out |= {t for members, t in found if fits(expr, members)}
            found = {
                ((*members, i), t + s + more)
                for members, t in found
                for s in separator
                for i, texts in enumerate(items)
                for more in texts
                if len(t + s + more) <= self.longest and hopeful(expr, (*members, i))
            }
        return frozenset(out)


def ranks(expr: Bag, members: tuple[int, ...]) -> list[int]:
    """Positions of an ordered bag's items."""
    return [min(i, len(expr.members) - expr.loose) for i in members]


def hopeful(expr: Bag, members: tuple[int, ...]) -> bool:
    """Whether no bound that only ever gets worse is broken."""
    groups = [g for i in members if (g := expr.members[i].group) is not None]
    return (
        len(set(groups)) == len(groups)
        and (not expr.ordered or ranks(expr, members) == sorted(ranks(expr, members)))
        and all(m.max is None or members.count(i) <= m.max for i, m in enumerate(expr.members))
    )


def fits(expr: Bag, members: tuple[int, ...]) -> bool:
    return (
        hopeful(expr, members)
        and expr.low <= len(members)
        and (expr.high is None or len(members) <= expr.high)
        and all(members.count(i) >= m.min for i, m in enumerate(expr.members))
        and holds(expr, members)
    )


def holds(expr: Bag, members: tuple[int, ...]) -> bool:
    """Whether the conditions hold for a choice of members."""
    used = {expr.members[i].group for i in members}
    for condition in expr.conditions:
        unmet = sum(
            not any(x in members if x >= 0 else ~x not in used for x in clause)
            for clause in condition.clauses
        )
        if unmet < condition.unmet or (unmet > condition.unmet and not condition.more):
            return False
    return True


def words(alphabet: bytes, longest: int) -> Iterator[bytes]:
    for length in range(longest + 1):
        for letters in product(alphabet, repeat=length):
            yield bytes(letters)


# -- random bags -----------------------------------------------------------------------------------

SEPARATORS = [
    Literal(b","),
    Literal(b",b"),
    alt(Literal(b","), Literal(b";")),
    optional(Literal(b",")),
    repeat(Literal(b","), 1, 2),
    EPSILON,
    NOTHING,
]
ITEMS = st.lists(
    st.sampled_from([b"a", b"b", b"c", b"ab", b"a,a", b"ba", b"b,", b"c"]),
    min_size=1,
    max_size=2,
    unique=True,
).map(lambda texts: alt(*map(Literal, texts)))


@st.composite
def members(draw: st.DrawFn, item: st.SearchStrategy[Expr] = ITEMS) -> Member:
    low = draw(st.sampled_from([0, 0, 0, 1, 1, 2]))
    high = draw(st.sampled_from([None, 1, 1, 2, 3]))
    group = draw(st.sampled_from([None, None, 0, 1]))
    return Member(draw(item), low, None if high is None else max(low, high), group)


@st.composite
def bags(
    draw: st.DrawFn, item: st.SearchStrategy[Expr] = ITEMS, *, bounded: bool = False, most: int = 4
) -> Expr:
    kinds = draw(st.lists(members(item), min_size=1, max_size=most))
    low = draw(st.sampled_from([1, 1, 1, 2, 3]))
    high = draw(st.sampled_from([most - 1, most] if bounded else [None, None, 2, 3, 4]))
    separator = draw(st.sampled_from(SEPARATORS))
    return bag(kinds, separator, min(low, high or low), high, ordered=draw(st.booleans()))


@st.composite
def conditional_bags(draw: st.DrawFn, *, bounded: bool = False, most: int = 5) -> Expr:
    """Bags with conditions, ordered or not."""
    count = draw(st.integers(1, most))
    kinds = []
    for _ in range(count):
        group = draw(st.sampled_from([None, 0, 0, 1, 1, 2]))
        top = draw(st.sampled_from([1, 1, None] if group is None and not bounded else [1]))
        kinds.append(Member(draw(ITEMS), draw(st.sampled_from([0, 0, 0, 1])), top, group))
    groups = sorted({~m.group for m in kinds if m.group is not None})
    literals = st.lists(st.sampled_from([*groups, *range(count)]), max_size=3, unique=True).map(
        tuple
    )
    clauses = st.lists(literals, max_size=3).map(tuple)
    conditions = draw(
        st.lists(st.builds(Condition, clauses, st.integers(0, 2), st.booleans()), max_size=2)
    )
    ordered = draw(st.booleans())
    loose = draw(st.integers(0, count)) if ordered else 0
    separator = draw(st.sampled_from(SEPARATORS))
    return bag(kinds, separator, ordered=ordered, conditions=conditions, loose=loose)


def bracketed(expr: Expr) -> Expr:
    return seq(Literal(b"["), expr, Literal(b"]"))


NESTED = st.one_of(
    bags(),
    conditional_bags(),
    conditional_bags(most=3).map(bracketed),
    bags(st.one_of(ITEMS, bags(bounded=True, most=2).map(bracketed))),
)
FINITE = st.one_of(
    conditional_bags(bounded=True, most=4),
    bags(bounded=True),
    bags(st.one_of(ITEMS, bags(bounded=True, most=2).map(bracketed)), bounded=True),
)


@given(NESTED)
@settings(max_examples=100, deadline=None)
def test_accepts(expr: Expr) -> None:
    ir = single_rule(seq(expr, optional(Literal(b";"))))
    grammar = Grammar(ir)
    try:
        expected = Enumeration(ir, 6).all
    except TooManyError:
        reject()
    longest = 5 if any(b"[" in t for t in expected) else 6
    for word in words(b"abc,;" if longest == 6 else b"ab,[]", 5):
        assert grammar.accepts(word) == (word in expected), word
    for word in expected:
        assert grammar.accepts(word), word


@given(conditional_bags(bounded=True), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_conditions(expr: Expr, seed: int) -> None:
    """Everything that an enumeration of all choices of members says, and nothing else."""
    try:
        expected = Enumeration(single_rule(expr), 40).all
    except TooManyError:
        reject()
    grammar = Grammar(single_rule(expr))
    assert grammar.is_empty == (not expected)
    for word in (*words(b"abc,;", 4), *expected):
        assert grammar.accepts(word) == (word in expected), word
    if expected:
        assert grammar.sample(seed) in expected
        least = min(map(len, expected))
        assert len(grammar.sample(seed, max_bytes=least)) == least


def test_conditions_are_checked() -> None:
    item = Literal(b"a")
    for kinds, condition in (
        ([Member(item)], Condition(((1,),))),
        ([Member(item)], Condition(((~0,),))),
        ([Member(item, 0, 2)], Condition(((0,),))),
    ):
        with pytest.raises(ValueError, match="condition"):
            bag(kinds, Literal(b","), conditions=[condition])
    with pytest.raises(ValueError, match="number of all items"):
        bag([Member(item)], Literal(b","), 2, conditions=[Condition(((0,),))])


def test_conditions_that_share_members_are_searched_within_a_limit() -> None:
    """Pigeons and holes, which no search for a choice finds impossible soon."""
    count = 10
    kinds = [
        Member(Literal(f"{pigeon}{hole}".encode()), 0, 1, hole)
        for pigeon in range(count + 1)
        for hole in range(count)
    ]
    places = [tuple(range(p * count, (p + 1) * count)) for p in range(count + 1)]
    expr = bag(kinds, Literal(b","), conditions=[Condition(tuple(places))])
    with pytest.raises(LimitExceeded, match="max_search_states"):
        Grammar(single_rule(expr))


def finite(expr: Expr) -> tuple[Grammar, frozenset[bytes]]:
    """A grammar of a finite language, and all its texts."""
    ir = single_rule(expr)
    try:
        texts = Enumeration(ir, 60).all
    except TooManyError:
        texts = frozenset()
    assume(texts)
    return Grammar(ir), texts


class Spelled:
    """Exact answers about the token sequences of a finite language."""

    def __init__(self, texts: frozenset[bytes], vocabulary: Vocabulary) -> None:
        self.texts = texts
        self.prefixes = {t[:i] for t in texts for i in range(len(t) + 1)}
        self.tokens = {t: b for t, b in enumerate(vocabulary.texts) if b}
        self.fewest = cache(self._fewest)

    def _fewest(self, prefix: bytes) -> float:
        if prefix in self.texts:
            return 0
        if prefix not in self.prefixes:
            return float("inf")
        return min(
            (1 + self.fewest(prefix + b) for b in self.tokens.values()), default=float("inf")
        )

    def allowed(self, prefix: bytes) -> list[int]:
        out = [t for t, b in self.tokens.items() if self.fewest(prefix + b) < float("inf")]
        return [EOS, *out] if prefix in self.texts else out


@given(FINITE, st.sampled_from([SPELLING_ALL, LACKING]), st.integers(0, 2**32), st.booleans())
@settings(max_examples=150, deadline=None)
def test_masks_and_budgets(expr: Expr, vocabulary: Vocabulary, seed: int, wide: bool) -> None:
    grammar, texts = finite(expr)
    spelled = Spelled(texts, vocabulary)
    if spelled.fewest(b"") == float("inf"):
        with pytest.raises(GrammarError):
            TokenAutomaton(grammar, vocabulary)
        return
    automaton = TokenAutomaton(grammar, vocabulary, Limits(max_distance_work=10**12))
    if wide:  # as if walks were too long to try
        automaton._core.rules.pool.wide[:] = k.WIDE
    rng = random.Random(seed)
    for _ in range(4):
        _walk(automaton, spelled, rng)
        _walk_within(automaton, spelled, rng)
        if rng.random() < 0.3:
            automaton.trim([])


def _walk(automaton: TokenAutomaton, spelled: Spelled, rng: random.Random) -> None:
    state, prefix = automaton.start, b""
    while True:
        allowed = automaton.allowed_tokens(state).tolist()
        assert allowed == spelled.allowed(prefix), prefix
        assert automaton.is_accepting(state) == (prefix in spelled.texts)
        token = rng.choice(allowed)
        if token == EOS:
            return
        prefix += spelled.tokens[token]
        state = automaton.advance(state, token)
        assert state != automaton.DEAD


def _walk_within(automaton: TokenAutomaton, spelled: Spelled, rng: random.Random) -> None:
    """No dead ends under a budget, and costs that can be met."""
    state, prefix = automaton.start, b""
    fewest = automaton.min_tokens_to_accept(state)
    assert fewest >= spelled.fewest(b"")
    if not automaton.spells_bytes:
        assert fewest == spelled.fewest(b"")
    left = fewest + 1 + rng.choice([0, 0, 1, 3])
    while True:
        found, is_exact = automaton.min_tokens(state)
        least = spelled.fewest(prefix)
        assert found == least if is_exact else found >= least, prefix
        allowed = automaton.allowed_tokens(state, left).tolist()
        assert allowed, (prefix, left)
        exact = {
            t
            for t in spelled.allowed(prefix)
            if t == EOS or spelled.fewest(prefix + spelled.tokens[t]) + 2 <= left
        }
        assert set(allowed) <= exact
        assert (EOS in allowed) == (EOS in exact)
        token = rng.choice(allowed)
        left -= 1
        if token == EOS:
            assert prefix in spelled.texts
            return
        prefix += spelled.tokens[token]
        state = automaton.advance(state, token)


# -- recursion -------------------------------------------------------------------------------------


def test_recursive_items() -> None:
    """Objects whose values are objects of the same kind."""
    value = alt(Literal(b"1"), Ref("node"))
    inside = bag(
        [Member(seq(Literal(b"a"), value), 1, 1), Member(seq(Literal(b"b"), value))], Literal(b",")
    )
    ir = GrammarIR((Rule("node", bracketed(inside)),), "node")
    grammar = Grammar(ir)
    texts = Enumeration(ir, 14).all
    assert {b"[b[a1],a1]", b"[a[b1,a1]]"} <= texts
    for t in texts:
        assert grammar.accepts(t)
    rng = random.Random(5)
    alphabet = b"ab1,[]"
    for t in sorted(texts):
        at = rng.randrange(len(t))
        changed = t[:at] + bytes([rng.choice(alphabet)]) + t[at + 1 :]
        assert grammar.accepts(changed) == (changed in texts), changed


def test_recursive_budgets() -> None:
    value = alt(Literal(b"1"), Ref("node"))
    kinds = [
        Member(seq(Literal(name), value), low) for name, low in ((b"a", 1), (b"b", 0), (b"c", 1))
    ]
    ir = GrammarIR((Rule("node", bracketed(bag(kinds, Literal(b",")))),), "node")
    vocabulary = Vocabulary.from_tokens(
        [None, *(bytes([b]) for b in b"abc1,[]"), b"a1", b",c1", b"]]", b",b[", b"1,a1]"], [EOS]
    )
    automaton = TokenAutomaton(Grammar(ir), vocabulary)
    rng = random.Random(2)
    for _ in range(60):
        left = automaton.min_tokens_to_accept(automaton.start) + 1 + rng.randrange(12)
        state, out = automaton.start, b""
        while state != automaton.FINISHED:
            allowed = automaton.allowed_tokens(state, left)
            assert len(allowed), (out, left)
            token = int(rng.choice(allowed))
            out += vocabulary.texts[token]
            state = automaton.advance(state, token)
            left -= 1
        assert left >= 0
        assert automaton.grammar.accepts(out)


# -- marks -----------------------------------------------------------------------------------------


def symbols(grammar: Grammar, *word: int) -> bool:
    """Whether recognizer and pool accept the symbols; they must agree."""
    recognizer = grammar._recognizer
    pool = RuleAutomaton(grammar, SPELLING_ALL, grammar.limits).pool
    state, place = recognizer.start, pool.intern([(pool.program.start, 0, 1)])
    for symbol in word:
        state, place = recognizer.advance(state, symbol), pool.advance_symbol(place, symbol)
        assert (state == DEAD) == (place == DEAD)
    assert recognizer.accepting[state] == pool.accepting(place)
    return recognizer.accepting[state]


def test_marks_are_symbols_of_their_own() -> None:
    comma = alt(Literal(b","), Mark(REPEATED_COMMA))
    body = seq(Literal(b"["), text("a"), repeat(seq(comma, text("a")), 0, 3), Literal(b"]"))
    grammar = Grammar(single_rule(body))
    for first, second in product([44, REPEATED_COMMA, REPEATED_CLOSE], repeat=2):
        expected = REPEATED_CLOSE not in (first, second)
        assert symbols(grammar, 91, 97, first, 97, second, 97, 93) == expected
    assert not symbols(grammar, 91, 97, REPEATED_CLOSE)
    assert grammar.program.marks == (REPEATED_COMMA,)
    automaton = TokenAutomaton(grammar, SPELLING_ALL)  # trie walks see bytes only
    state = automaton.advance_bytes(automaton.start, b"[a")
    assert automaton.allowed_tokens(state).tolist() == [4, 7, 14]


def test_no_byte_is_a_mark() -> None:
    every = Grammar(
        single_rule(seq(chars([(0, 0x10FFFF)]), minus(repeat(chars([(0, 99)])), text("a"))))
    )
    for grammar in (every, Grammar.from_choices([bytes([b]) for b in range(256)])):
        assert grammar.program.marks == ()
        recognizer = grammar._recognizer
        for mark in (REPEATED_COMMA, REPEATED_CLOSE):
            assert recognizer.advance(recognizer.start, mark) == DEAD


def test_marks_survive_an_alphabet() -> None:
    grammar = Grammar(single_rule(seq(text("a"), alt(Mark(REPEATED_COMMA), text("é")), text("b"))))
    assert grammar.compile(sum(1 << b for b in b"ab")).marks == (REPEATED_COMMA,)
    assert symbols(grammar, 97, REPEATED_COMMA, 98)


# -- refusals, storage, explanations ---------------------------------------------------------------


def test_refused() -> None:
    one = bag([Member(text("a"))], text(","))
    with pytest.raises(GrammarError, match="intersection or a complement"):
        Grammar(single_rule(both(one, text("a"))))
    with pytest.raises(GrammarError, match="may be empty"):
        Grammar(single_rule(bag([Member(optional(text("a")))], text(","))))
    left = alt(text("x"), bag([Member(Ref("r")), Member(text("b"))], text(",")))
    with pytest.raises(GrammarError, match="begins with"):
        Grammar(GrammarIR((Rule("r", left),), "r"))


def test_items_without_texts() -> None:
    never = Rule("never", seq(text("x"), Ref("never")))
    optional_one = bag([Member(Ref("never")), Member(text("a"))], text(","))
    grammar = Grammar(GrammarIR((Rule("r", optional_one), never), "r"))
    assert grammar.accepts("a")
    assert not grammar.accepts("x")
    needed = bag([Member(Ref("never"), 1), Member(text("a"))], text(","))
    assert Grammar(GrammarIR((Rule("r", needed), never), "r")).is_empty
    too_few = bag([Member(Ref("never")), Member(text("a"))], text(","), 2)
    assert Grammar(GrammarIR((Rule("r", too_few), never), "r")).is_empty


def test_saved_and_loaded() -> None:
    kinds = (Member(text("a"), 1, 2, 7), Member(Ref("r"), 0, None))
    body = alt(text("x"), seq(text("("), Bag(kinds, Mark(REPEATED_COMMA), 2, 9, True)))
    ir = GrammarIR((Rule("r", body, Span(1, 2)),), "r", (), True, True)
    saved = dumps(ir, DEFAULT_LIMITS)
    assert loads(saved)[0] == ir
    earlier = dumps(single_rule(text("a")), DEFAULT_LIMITS).replace('"version":2', '"version":1')
    assert loads(earlier)[0] == single_rule(text("a"))
    for good, bad in (
        ('"compare_items":true', '"compare_items":1'),
        ('["mark",256]', '["mark",255]'),
        ('["mark",256]', '["mark",258]'),
        ("2,9,true]", "0,9,true]"),
        ("2,9,true]", "2,1,true]"),
        ("2,9,true]", "2,9,0]"),
        (",1,2,7]", ",3,2,7]"),
        (",1,2,7]", ',1,2,"7"]'),
    ):
        assert good in saved
        with pytest.raises(GrammarError, match="damaged"):
            loads(saved.replace(good, bad))


def test_explained() -> None:
    kinds = [Member(text('"name"'), 1), Member(text('"size"')), Member(text('"other"'))]
    grammar = Grammar(single_rule(bracketed(bag(kinds, text(", ")))))
    found = grammar.explain('["size", "size"]')
    assert not found.accepted
    assert found.offset == 10
    assert set(found.expected) == {"'name\"'", '\'other", "name"]\''}
    assert set(grammar.explain('["size"').expected) == {"', \"'"}


# -- size ------------------------------------------------------------------------------------------


def object_of(count: int, needed: int) -> Grammar:
    letters = repeat(chars([(0x20, 0x21), (0x23, 0x7E)]))
    rules = [Rule(f"p{i}", seq(text(f'"key{i}": '), Ref("string"))) for i in range(count)]
    string = Rule("string", seq(text('"'), letters, text('"')), shared=True)
    kinds = [Member(Ref(f"p{i}"), int(i < needed)) for i in range(count)]
    body = seq(text("{"), bag(kinds, text(", ")), text("}"))
    return Grammar(GrammarIR((Rule("object", body), *rules, string), "object"))


def test_two_hundred_members() -> None:
    """Linear to compile, and a text in any order is read in good time."""
    began = time.process_time()
    grammar = object_of(200, 100)
    order = list(range(200))
    random.Random(1).shuffle(order)
    data = "{" + ", ".join(f'"key{i}": "v{i}"' for i in order) + "}"
    assert grammar.accepts(data)
    assert not grammar.accepts(data.replace('"key7"', '"key8"'))
    assert time.process_time() - began < 30


def test_budgets_of_a_large_bag() -> None:
    pieces = [bytes([b]) for b in range(0x20, 0x7F)]
    vocabulary = Vocabulary.from_tokens(
        [None, *pieces, b'"key', b'": "', b'", "', b'", "key', b'"}', b"abc"], [EOS]
    )
    automaton = TokenAutomaton(object_of(30, 20), vocabulary)
    rng = np.random.default_rng(3)
    fewest = automaton.min_tokens_to_accept(automaton.start)
    for left in (fewest + 1, fewest + 60):
        state, out = automaton.start, b""
        while state != automaton.FINISHED:
            allowed = automaton.allowed_tokens(state, left)
            assert len(allowed)
            token = int(rng.choice(allowed))
            out += vocabulary.texts[token]
            state = automaton.advance(state, token)
            left -= 1
        assert automaton.grammar.accepts(out)


def test_few_rows_are_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances ask for rows again and again, and what may end or come again leads nowhere new."""
    letters = [f"{a}{b}" for a in "ab" for b in "abcdefghijkl"]
    bags = [
        bag([Member(text(x), 1, 1), Member(text(x + "c"), 0, None)], text(","), ordered=True)
        for x in letters
    ]
    asked: list[tuple[int, int]] = []
    row = Residuals.row

    def counted(self: Residuals, which: int, number: int) -> Row:
        asked.append((which, number))
        return row(self, which, number)

    monkeypatch.setattr(Residuals, "row", counted)
    singles = [bytes([b]) for b in range(256)]
    automaton = TokenAutomaton(
        Grammar(single_rule(seq(*bags))), Vocabulary.from_tokens([None, *singles], [EOS])
    )
    assert automaton.min_tokens_to_accept(automaton.start) == 2 * len(letters)
    assert len(asked) < 20 * len(letters)
