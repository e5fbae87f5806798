"""Ambiguity of rules against counting trees, and against lark's explicit ambiguity."""

from __future__ import annotations

import itertools
from functools import cache

import lark
import oracle
import pytest
from hypothesis import given, settings
from strategies import grammars

from grammars import Grammar
from grammars.ir import Alt, Expr, GrammarIR, Ref, Repeat, Rule, Seq, walk
from grammars.limits import Limits
from grammars.lint.ambiguity import Ambiguity, find_ambiguities

_LIMITS = Limits(max_dfa_states=2_000)
TEXTS = [bytes(x) for n in range(5) for x in itertools.product(b"abc", repeat=n)]
MANY = 2


class Trees:
    """Counts the trees of a text up to two, by fixed-point iteration over all its parts."""

    def __init__(self, ir: GrammarIR, text: bytes) -> None:
        self.ir, self.text = ir, text
        self.known: dict[tuple[str, int, int], int] = {}
        self.leaf = cache(lambda e, i, j: int(oracle.member(_alone(ir, e), text[i:j])))

    def count(self) -> int:
        while True:
            before = dict(self.known)
            for rule, i in itertools.product(self.ir.rules, range(len(self.text) + 1)):
                for j in range(i, len(self.text) + 1):
                    self.known[rule.name, i, j] = self.of(rule.body, i, j)
            if self.known == before:
                return self.known[self.ir.start, 0, len(self.text)]

    def of(self, expr: Expr, i: int, j: int) -> int:
        if isinstance(expr, Ref):
            return self.known.get((expr.name, i, j), 0)
        if isinstance(expr, Alt):
            return min(MANY, sum(self.of(x, i, j) for x in expr.items))
        if isinstance(expr, Seq):
            first, *rest = expr.items
            if not rest:
                return self.of(first, i, j)
            tail = Seq(tuple(rest))
            return min(
                MANY, sum(self.of(first, i, k) * self.of(tail, k, j) for k in range(i, j + 1))
            )
        if isinstance(expr, Repeat):
            most = expr.max if expr.max is not None else expr.min + 2 + j - i
            row = [int(k == i) for k in range(i, j + 1)]  # trees of so many copies up to each place
            total = row[-1] if expr.min == 0 else 0
            for n in range(1, most + 1):
                row = [
                    min(MANY, sum(row[k - i] * self.of(expr.item, k, e) for k in range(i, e + 1)))
                    for e in range(i, j + 1)
                ]
                total += row[-1] if n >= expr.min else 0
            return min(MANY, total)
        return self.leaf(expr, i, j)


def _alone(ir: GrammarIR, expr: Expr) -> GrammarIR:
    return GrammarIR((Rule("alone'", expr), *ir.rules), "alone'")


def small(ir: GrammarIR) -> bool:
    nodes = [node for rule in ir.rules for node in walk(rule.body)]
    return all(not isinstance(n, Repeat) or (n.max or n.min) <= 4 for n in nodes)


@settings(max_examples=25)
@given(grammars())
def test_random_grammars(ir: GrammarIR) -> None:
    if not small(ir) or Grammar(ir).is_empty:
        return
    report = find_ambiguities(ir, _LIMITS, most_work=3_000)
    for found in report.found:
        if found.example is not None and len(found.example) <= 12:
            assert Trees(ir, found.example).count() == MANY, found
    if report.proves_unambiguous:
        for text in TEXTS[:60]:
            assert Trees(ir, text).count() <= 1, text


CASES = [
    ('root ::= "a"* "b"*', None),
    ('root ::= "(" root ")" root | ""', None),
    ('root ::= root "+" [0-9] | [0-9]', None),
    ('root ::= "a" root "a" | "b"', None),
    ("root ::= e\ne ::= e [+] e | [0-9]", b"0+0+0"),
    ('root ::= "if" root | "if" root "else" root | "x"', b"ififxelsex"),
    ('root ::= w "a" w w "b"\nw ::= [ \\t]*', b"a b"),
    ('root ::= ("a" | "ab" | "b")*', b"ab"),
    ('root ::= x | y\nx ::= [a-f]+ "1"\ny ::= [d-z]+ [0-9]', b"d1"),
    ('root ::= (x "!")*\nx ::= "a"? "a"?', b"a!"),
    ('root ::= root | "a"', b"a"),
]


@pytest.mark.parametrize(("source", "example"), CASES)
def test_gbnf(source: str, example: bytes | None) -> None:
    ir = Grammar.from_gbnf(source).ir
    report = find_ambiguities(ir, _LIMITS)
    if example is None:
        assert report.proves_unambiguous
        return
    shortest = min((f.example for f in report.found if f.example is not None), key=len)
    assert len(shortest) <= len(example)
    for found in report.found:
        assert found.example is not None
        assert Trees(ir, found.example).count() == MANY


# lark writes optional items out and drops what comes twice then
SEEN_BY_LARK = [
    s for s, example in CASES if example and "root | " not in s and '"a"? "a"?' not in s
]


@pytest.mark.parametrize("source", SEEN_BY_LARK)
def test_lark_finds_two_trees_too(source: str) -> None:
    grammar = Grammar.from_gbnf(source)
    parser = lark.Lark(grammar.to_lark(), parser="earley", ambiguity="explicit")
    (*found,) = find_ambiguities(grammar.ir, _LIMITS).found
    for each in found:
        assert each.example is not None
        tree = parser.parse(each.example.decode())
        assert any(t.data == "_ambig" for t in tree.iter_subtrees()), each


def test_cuts_are_where_the_text_is_cut() -> None:
    (found,) = find_ambiguities(Grammar.from_gbnf('root ::= "a"+ "a"?').ir, _LIMITS).found
    assert isinstance(found, Ambiguity)
    assert (found.text, found.cuts, found.kind) == (b"aa", (1, 2), "sequence")


def test_a_search_that_ends_for_lack_of_room_says_so() -> None:
    palindromes = Grammar.from_gbnf('root ::= "a" root "a" | "b" root "b" | ""')
    report = find_ambiguities(palindromes.ir, _LIMITS, most_work=2_000)
    assert (report.found, report.open) == ((), ("root",))
