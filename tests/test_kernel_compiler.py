"""Programs that kernels make are those of the plain steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from grammars import Grammar, ir
from grammars.compiling.compiler import compile_plainly
from grammars.compiling.kernel_compiler import compile_by_kernels
from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.ir import Alt, Chars, GrammarIR, Literal, Not, Ref, Repeat, Rule, Seq
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.program import MANY, NO_EDGE, Program
from tests.bisimulation import same_language
from tests.counters import count_above
from tests.strategies import bag_grammars, grammars

_LIMITS = Limits(max_dfa_states=2_000)


def check(grammar: GrammarIR, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether kernels made a program, which is then compared with that of the plain steps."""
    made = compile_by_kernels(grammar, limits)
    if made is None:
        return False
    wanted = compile_plainly(grammar, limits)
    assert same_language(made, wanted)
    check_tables(made)
    assert made.rule_names[made.rule_of[made.start]] == grammar.start
    return True


def check_tables(p: Program) -> None:
    """What the arrays say twice agrees, and callers rank before the rules that they begin with."""
    for q in range(p.states):
        edges: dict[int, set[int]] = {}
        for e in range(p.edge_offset[q], p.edge_offset[q + 1]):
            edges.setdefault(int(p.edge_class[e]), set()).add(int(p.edge_target[e]))
        callees = p.call_start[p.call_offset[q] : p.call_offset[q + 1]].tolist()
        if p.bag_of[q] >= 0:
            b = p.bag_of[q]
            callees += p.bag_start[p.bag_offset[b] : p.bag_offset[b + 1]].tolist()
        for c in range(p.classes):
            entry = int(p.table[q, c])
            can = c in edges or any(p.table[s, c] != NO_EDGE for s in callees)
            assert (entry != NO_EDGE) == can
            assert bool(int(p.first[q, c >> 6]) >> (c & 63) & 1) == can
            if entry >= 0:
                assert edges[c] == {entry}
            elif entry < MANY:
                check_chain(p, q, c, MANY - 1 - entry)
        if p.start_rank[q] >= 0:
            assert all(p.start_rank[q] < p.start_rank[s] for s in callees)


def check_chain(p: Program, q: int, c: int, chain: int) -> None:
    """The links of a chain of calls are returns of calls on the way, jumps left out."""
    links = p.push_links[p.push_offset[chain] : p.push_offset[chain + 1]].tolist()
    outer = bool(p.push_outer[chain])
    ways = 0
    at = q
    while True:
        step = [
            (int(p.call_start[i]), int(p.call_return[i]), bool(p.call_tail[i]))
            for i in range(p.call_offset[at], p.call_offset[at + 1])
            if p.table[p.call_start[i], c] != NO_EDGE
        ]
        if not step:
            break
        ((start, target, tail),) = step
        if ways == 0:
            assert outer == (not tail)
        if not tail:
            assert links.pop(0) == target
        ways += 1
        at = start
    assert not links
    assert int(p.table[at, c]) == int(p.push_target[chain])


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(grammars())
def test_random_grammars(grammar: GrammarIR) -> None:
    try:
        compile_plainly(grammar, _LIMITS)
    except (GrammarError, LimitExceeded):
        assert compile_by_kernels(grammar, _LIMITS) is None
        return
    check(grammar, _LIMITS)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(grammars())
def test_random_grammars_with_counters_everywhere(grammar: GrammarIR) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count_above(2, patch)
        try:
            compile_plainly(grammar, _LIMITS)
        except (GrammarError, LimitExceeded):
            return
        check(grammar, _LIMITS)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(bag_grammars())
def test_random_bags(grammar: GrammarIR) -> None:
    check(grammar, _LIMITS)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(bag_grammars())
def test_random_bags_with_counters_everywhere(grammar: GrammarIR) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count_above(2, patch)
        check(grammar, _LIMITS)


_SCHEMAS: list[Any] = [
    True,
    {"type": "string"},
    {"type": "string", "minLength": 3, "maxLength": 2_000},
    {"type": "string", "pattern": "^(a|b)*a[ab]{6}$"},
    {"type": "string", "format": "date-time"},
    {"enum": ["a", "b", "ab", "", 'q"', 1, None, [1]]},
    {"type": "integer", "minimum": 3, "maximum": 123456},
    {"type": "array", "items": {"type": "number"}, "minItems": 2, "uniqueItems": True},
    {
        "properties": {"a": {"type": "string"}, "ab": {"$ref": "#"}, "b": {"type": "integer"}},
        "required": ["ab"],
    },
    {"properties": {f"k{i}": {"type": "null"} for i in range(30)}, "additionalProperties": False},
    {"patternProperties": {"^x": {"type": "string"}, "y$": {"type": "null"}}},
    {"oneOf": [{"properties": {"t": {"const": c}}, "required": ["t"]} for c in "abc"]},
    {"type": "object", "minProperties": 2, "additionalProperties": {"type": "boolean"}},
]


@pytest.mark.parametrize("schema", _SCHEMAS, ids=range(len(_SCHEMAS)))
@pytest.mark.parametrize("order", ["schema", "any"])
def test_schemas(schema: Any, order: str) -> None:
    assert check(json_schema_to_ir(schema, property_order=order))


def rules(**bodies: ir.Expr) -> GrammarIR:
    return GrammarIR(tuple(Rule(name, body) for name, body in bodies.items()), "root")


def _bag(item: ir.Expr) -> ir.Bag:
    return ir.Bag((ir.Member(item, 0, None),), Literal(b","))


_LETTER = Chars(((97, 122), (0x100, 0x2FF)))
_GRAMMARS = [
    # the start rule calls itself
    rules(root=Alt((Literal(b""), Seq((Literal(b"("), Ref("root"), Literal(b")")))))),
    # a loop within a loop, the empty text in both
    rules(root=Repeat(Alt((Literal(b""), Repeat(Literal(b"ab"), 0, None), Literal(b"a"))), 2, 4)),
    # alternatives that share beginnings in classes of bytes, so that masks are split
    rules(
        root=Alt(
            (
                Seq((ir.ByteSet(((97, 109),)), Literal(b"x"))),
                Seq((ir.ByteSet(((104, 122),)), Literal(b"y"), Ref("more"))),
                Literal(b"hz"),
                Ref("more"),
            )
        ),
        more=Alt((Literal(b"h"), Seq((_LETTER, Ref("more"))))),
    ),
    # subsets of which most states are merged
    rules(root=Seq((Repeat(Alt((Literal(b"a"), Literal(b"b"))), 0, None), Literal(b"abba")))),
    # free text with rules around it
    rules(
        root=Seq((Literal(b'"'), Repeat(_LETTER, 0, None), Literal(b'": '), Ref("more"))),
        more=Alt((Literal(b"0"), Seq((Literal(b"["), Ref("root"), Literal(b"]"))))),
    ),
    # a complement within an intersection, of words and of more
    rules(
        root=Seq((Literal(b"<"), ir.both(Repeat(_LETTER, 1, None), Not(Ref("used"))), Ref("end"))),
        used=Alt((Literal(b"abc"), Literal(b"ab"), Seq((Literal(b"x"), Repeat(_LETTER, 0, 3))))),
        end=Alt((Literal(b">"), Seq((Literal(b"/"), Ref("end"))))),
    ),
    # a bag in an item of a bag that is repeated so often that it is counted
    rules(
        root=Repeat(_bag(Seq((Literal(b"b"), Ref("more")))), 1, 500),
        more=Alt((_bag(Literal(b"a")), Literal(b"b"))),
    ),
]


@pytest.mark.parametrize("grammar", _GRAMMARS, ids=range(len(_GRAMMARS)))
def test_grammars(grammar: GrammarIR) -> None:
    assert check(grammar)


_ENDLESS = Seq((Literal(b"x"), Ref("endless")))
_WITHOUT_TEXTS = [
    rules(root=Alt((Seq((Literal(b"a"), Ref("endless"))), Literal(b"b"))), endless=_ENDLESS),
    rules(  # one that has no text because another one has none
        root=Alt((Seq((Literal(b"a"), Ref("other"))), Seq((Literal(b"b"), Ref("nested"))))),
        other=Seq((Literal(b"("), Alt((Ref("other"), Ref("endless"))), Literal(b")"))),
        nested=Alt(
            (Literal(b"c"), Seq((Literal(b"["), Ref("nested"), Literal(b"]"))), Ref("other"))
        ),
        endless=_ENDLESS,
    ),
    rules(  # one whose only text is the empty one
        root=Seq((Literal(b"a"), Ref("empty"), Literal(b"b"))),
        empty=Alt((Literal(b""), Seq((Literal(b"("), Ref("empty"), Ref("endless"))))),
        endless=_ENDLESS,
    ),
    rules(  # members of a bag, which goes on without them
        root=Seq((Literal(b"{"), Ref("bag"), Literal(b"}"))),
        bag=ir.Bag(
            (
                ir.Member(Literal(b"a"), 0, 1),
                ir.Member(Seq((Literal(b"b"), Ref("endless"))), 0, 1),
                ir.Member(Ref("endless"), 0, None),
                ir.Member(Literal(b"c"), 1, 1),
            ),
            Literal(b","),
        ),
        endless=_ENDLESS,
    ),
    rules(  # a bag that needs such a member, and one in it
        root=Alt((Seq((Literal(b"{"), Ref("bag"), Literal(b"}"))), Ref("outer"))),
        bag=ir.Bag((ir.Member(Literal(b"a")), ir.Member(Ref("endless"), 1, 1)), Literal(b",")),
        outer=ir.Bag((ir.Member(Literal(b"d")), ir.Member(Ref("bag"))), Literal(b";")),
        endless=_ENDLESS,
    ),
    rules(  # one that an intersection leaves nothing of
        root=Alt((Seq((Literal(b"a"), Ref("none"), Literal(b"!"))), Literal(b"b"))),
        none=Seq(
            (ir.both(Repeat(_LETTER, 300, 400), Not(Repeat(_LETTER, 0, None))), Literal(b";"))
        ),
    ),
]


@pytest.mark.parametrize("grammar", _WITHOUT_TEXTS, ids=range(len(_WITHOUT_TEXTS)))
def test_rules_without_any_text(grammar: GrammarIR) -> None:
    assert check(grammar)


def test_a_start_rule_without_any_text_is_left_to_the_plain_steps() -> None:
    grammar = rules(root=Seq((Literal(b"a"), Ref("endless"))), endless=_ENDLESS)
    assert compile_by_kernels(grammar, DEFAULT_LIMITS) is None
    assert Grammar(grammar).is_empty


def test_left_recursion_is_left_to_the_plain_steps() -> None:
    grammar = rules(root=Alt((Literal(b"a"), Seq((Ref("root"), Literal(b"+a"))))))
    assert compile_by_kernels(grammar, DEFAULT_LIMITS) is None
    assert Grammar(grammar).accepts(b"a+a+a")


def test_shared_parts_are_counted_wherever_they_stand() -> None:
    """A small graph that is a huge tree is refused as such."""
    body: ir.Expr = Seq((_LETTER, Literal(b"a")))
    for _ in range(40):
        body = Seq((body, body))
    with pytest.raises(LimitExceeded, match="max_expression_nodes"):
        Grammar(rules(root=body))
