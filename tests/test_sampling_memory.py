"""Samples of grammars with bags and with memory: always found, small, and decided by the seed."""

from __future__ import annotations

import json
import random

import pytest

from grammars.errors import BudgetError, GrammarError
from grammars.ir import (
    EPSILON,
    REPEATED_CLOSE,
    REPEATED_COMMA,
    Expr,
    GrammarIR,
    Literal,
    Mark,
    Member,
    Ref,
    Rule,
    alt,
    bag,
    chars,
    not_chars,
    optional,
    repeat,
    seq,
    single_rule,
)
from grammars.limits import DEFAULT_LIMITS
from grammars.sampling import Sampler
from grammars.uniqueness.values import first_clash


def lit(text: str) -> Expr:
    return Literal(text.encode())


def sampler(body: Expr, *, memory: bool = True, **rules: Expr) -> Sampler:
    made = (Rule("root", body), *(Rule(name, rule) for name, rule in rules.items()))
    ir = GrammarIR(made, "root", distinct_keys=memory, compare_items=memory)
    return Sampler(ir, DEFAULT_LIMITS)


def draw(made: Sampler, seed: int, max_bytes: int | None = None) -> bytes:
    return made.sample(random.Random(seed), max_bytes)


BLANK = repeat(lit(" "), 0, 1)
PLAIN = not_chars([(0, 31), (34, 34), (92, 92)])
STRING = seq(lit('"'), repeat(alt(PLAIN, seq(lit("\\"), chars([(34, 34), (92, 92)])))), lit('"'))
DIGITS = alt(lit("0"), seq(chars([(49, 57)]), repeat(chars([(48, 57)]))))
INTEGER = seq(optional(lit("-")), DIGITS)
PAIR = seq(STRING, lit(":"), INTEGER)
OBJECT = seq(lit("{"), optional(seq(PAIR, repeat(seq(lit(","), PAIR)))), lit("}"))
SMALL = seq(lit('{"a":'), INTEGER, lit(',"b":'), alt(lit("1"), lit("[]")), lit("}"))
COMMA, CLOSE = Mark(REPEATED_COMMA), Mark(REPEATED_CLOSE)


def enum(size: int) -> Expr:
    return alt(*(lit(f'"e{i}"') for i in range(size)))


def array(item: Expr, low: int, high: int | None = None, blank: Expr = EPSILON) -> Expr:
    more = repeat(
        seq(lit(","), blank, item, blank), max(low - 1, 0), None if high is None else high - 1
    )
    body = seq(item, blank, more)
    return seq(lit("["), blank, body if low else optional(body), lit("]"))


def repeating(item: Expr) -> Expr:
    """An array in which some item occurs twice."""
    rest = seq(COMMA, item, repeat(seq(alt(lit(","), COMMA), item)), alt(lit("]"), CLOSE))
    return seq(lit("["), item, repeat(seq(lit(","), item)), alt(CLOSE, rest))


VALUE = alt(STRING, INTEGER, lit("true"), array(Ref("v"), 0), seq(
    lit("{"),
    optional(seq(STRING, lit(":"), Ref("v"), repeat(seq(lit(","), STRING, lit(":"), Ref("v"))))),
    lit("}"),
))  # fmt: skip

DISTINCT: dict[str, Sampler] = {
    "free keys": sampler(OBJECT),
    "ten free keys": sampler(
        seq(lit("{"), PAIR, repeat(seq(lit(","), PAIR), 9), lit("}"))
    ),
    "ten strings": sampler(array(STRING, 10)),
    "ten to twelve integers": sampler(array(INTEGER, 10, 12)),
    "integers between blanks": sampler(array(INTEGER, 10, 12, BLANK)),
    "all ten digits": sampler(array(chars([(48, 57)]), 10, 10)),
    "all of three values": sampler(array(enum(3), 3)),
    "all of ten values": sampler(array(enum(10), 10)),
    "one value, any number": sampler(array(enum(1), 0)),
    "small objects": sampler(array(SMALL, 10)),
    "free objects": sampler(array(OBJECT, 5)),
    "arrays of few values": sampler(array(array(enum(2), 2, 2), 2, 2)),
    "any values": sampler(array(Ref("v"), 4), v=VALUE),
    "values of very different length": sampler(
        array(alt(lit('"a"'), lit(f'"{"b" * 90}"'), lit(f'"{"c" * 300}"')), 3)
    ),
    "whole texts": sampler(alt(lit("[1,1]"), lit("[1,2]"), lit("[[2,2],1]"))),
    "needed and free keys": sampler(seq(lit("{"), bag(
        [Member(seq(lit('"a":'), INTEGER), 1), Member(seq(lit('"b":'), INTEGER), 1),
         Member(PAIR, 0, None)], lit(","), 4), lit("}"))),
    "thirty members": sampler(seq(lit("{"), bag(
        [*(Member(seq(lit(f'"k{i}":'), INTEGER), i % 2) for i in range(30)), Member(PAIR, 0, None)],
        lit(",")), lit("}"))),
}  # fmt: skip


def has_repeats(value: object) -> bool:
    """Does some array in the value hold an item twice?"""
    if isinstance(value, dict):
        return any(has_repeats(x) for x in value.values())
    if not isinstance(value, list):
        return False
    texts = [json.dumps(x, sort_keys=True) for x in value]
    return len(set(texts)) < len(texts) or any(has_repeats(x) for x in value)


def no_double_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len({key for key, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


@pytest.mark.parametrize("name", DISTINCT)
def test_no_key_and_no_item_repeats(name: str) -> None:
    made = DISTINCT[name]
    sizes = []
    for seed in range(25):
        text = draw(made, seed)
        assert draw(made, seed) == text, "the seed decides"
        assert not has_repeats(json.loads(text, object_pairs_hook=no_double_keys)), text
        sizes.append(len(text))
    assert max(sizes) <= min(sizes) + 200, "samples are small"


@pytest.mark.parametrize("item", [STRING, INTEGER, enum(3), SMALL], ids=list("sieo"))
def test_an_item_repeats_where_it_has_to(item: Expr) -> None:
    made = sampler(repeating(item))
    for seed in range(25):
        assert has_repeats(json.loads(draw(made, seed)))


def test_items_may_repeat_or_not() -> None:
    body = seq(lit("["), enum(2), repeat(seq(alt(lit(","), COMMA), enum(2))), alt(lit("]"), CLOSE))
    made = sampler(body)
    kinds = {has_repeats(json.loads(draw(made, seed))) for seed in range(40)}
    assert kinds == {True, False}


@pytest.mark.parametrize("name", DISTINCT)
def test_bounds_are_kept(name: str) -> None:
    made = DISTINCT[name]
    most = max(len(draw(made, seed)) for seed in range(5))
    for seed in range(5):
        assert len(draw(made, seed, most)) <= most


def test_what_cannot_be_is_told() -> None:
    for body in (array(enum(2), 3), lit("[1,1]"), lit('{"a":1,"a":2}')):
        with pytest.raises(GrammarError, match="repetitions of object keys or array items"):
            draw(sampler(body), 0)
    with pytest.raises(GrammarError, match="raise max_bytes"):
        draw(sampler(array(enum(3), 3)), 0, max_bytes=15)
    with pytest.raises(BudgetError):
        draw(sampler(array(STRING, 3)), 0, max_bytes=5)


def test_marks_without_comparison_are_never_written() -> None:
    made = sampler(seq(lit("[1"), alt(lit(",1]"), seq(COMMA, lit("2]")))), memory=False)
    assert {draw(made, seed) for seed in range(20)} == {b"[1,1]"}


# --- bags ----------------------------------------------------------------------------------------

A, B, C = (Member(lit(x)) for x in "abc")


@pytest.mark.parametrize(
    ("body", "least", "texts"),
    [
        (bag([A, B], lit(",")), 1, {"a", "b", "a,b", "b,a"}),
        (bag([A, B], lit(","), ordered=True), 1, {"a", "b", "a,b"}),
        (bag([A, B, C], lit(","), 2, 2, ordered=True), 3, {"a,b", "a,c", "b,c"}),
        (bag([Member(lit("a"), 2, 2), B], lit("-")), 3, {"a-a", "a-a-b", "a-b-a", "b-a-a"}),
        (bag([Member(lit("a"), group=1), Member(lit("b"), group=1)], lit(",")), 1, {"a", "b"}),
        (bag([Member(lit("long"), 1), A], EPSILON, 2), 5, {"longa", "along"}),
        (bag([Member(lit("a"), 0, 2), Member(lit("bbb"), 0, 1)], lit(","), 3), 7,
         {"a,a,bbb", "a,bbb,a", "bbb,a,a"}),
        (alt(bag([A, B], lit(","), 3), lit("x")), 1, {"x"}),
        (alt(bag([Member(lit("a"), 1, 1, 7), Member(lit("b"), 1, 1, 7)], lit(",")), lit("x")), 1,
         {"x"}),
    ],
)  # fmt: skip
def test_texts_of_small_bags(body: Expr, least: int, texts: set[str]) -> None:
    made = Sampler(single_rule(body), DEFAULT_LIMITS)
    assert {draw(made, seed).decode() for seed in range(200)} == texts
    for seed in range(20):
        assert len(draw(made, seed, max_bytes=least)) == least
    with pytest.raises(BudgetError):
        draw(made, 0, max_bytes=least - 1)


def test_the_shortest_bag_takes_the_cheapest_members() -> None:
    """Thirty members of growing length, ten of them needed, groups in the way of cheap ones."""
    members = [Member(lit(chr(97 + i % 26) * (i + 1)), i % 3 == 0, group=i // 2) for i in range(30)]
    needed = sum(i + 1 for i in range(0, 30, 3))
    taken = {i // 2 for i in range(0, 30, 3)}
    # The cheaper one of each group that is still free.
    others = sorted(min(j + 1 for j in (2 * g, 2 * g + 1)) for g in set(range(15)) - taken)
    made = Sampler(single_rule(bag(members, lit("."), 12)), DEFAULT_LIMITS)
    least = needed + sum(others[:2]) + 11
    assert len(draw(made, 0, max_bytes=least)) == least
    with pytest.raises(BudgetError):
        draw(made, 0, max_bytes=least - 1)


def test_recursion_through_bags_ends() -> None:
    body = seq(
        lit("("), bag([Member(Ref("root"), 0, 3), Member(lit("x"), 0, 2)], lit(",")), lit(")")
    )
    made = sampler(body, memory=False)
    texts = {draw(made, seed) for seed in range(50)}
    assert b"(x)" in texts
    assert any(b"((" in text for text in texts)
    assert all(text.count(b"(") == text.count(b")") for text in texts)


# --- the walk over finished texts -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("[1,1]", True),
        ("[1,1.0]", True),
        ("[10,1e1]", True),
        ("[0,-0.0e7]", True),
        ("[0.5,5e-1]", True),
        ("[0.5,5e-2]", False),
        ("[1,-1]", False),
        ('[1,"1"]', False),
        ("[1,true]", False),
        ('["\\u00e9","é"]', True),
        ('["\\ud800","\\uD800"]', True),
        ('[{"a":1,"b":2},{"b":2,"a":1}]', True),
        ("[[],{}]", False),
        ("[ [1] , [ 1 ] ]", True),
        ("[1e99999,2]", False),
        ('["]",","]', False),
        ("[]", False),
        (f"[1e{'9' * 5000},1]", False),
        ("[" * 5000 + "]" * 5000, False),
    ],
)
def test_equal_items(text: str, repeats: bool) -> None:
    clash = first_clash(text.encode(), frozenset(), distinct_keys=True)
    assert (clash is not None) == repeats
    assert first_clash(text.encode(), None, distinct_keys=True) is None


def test_where_a_clash_is() -> None:
    clash = first_clash(b'[{"a":1, "b":2,"a":3}]', None, distinct_keys=True)
    assert clash is not None
    assert (clash.starts, clash.end, clash.repeats, clash.items) == ((0, 1, 15), 18, True, 2)
    missing = first_clash(b"[7,8]", frozenset({4}), distinct_keys=False)
    assert missing is not None
    assert (missing.starts, missing.end, missing.repeats) == ((0, 3), 4, False)


@pytest.mark.parametrize("text", ["", "a,b", "[1,1", '["a', "]", "{1", "[truefalse]", '{"a":1'])
def test_anything_else_has_no_clashes(text: str) -> None:
    first_clash(text.encode(), frozenset(), distinct_keys=True)
