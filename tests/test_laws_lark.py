"""The laws on Lark grammars; the reference for written ones is lark, as DESIGN names it.

That is its LALR parser with the contextual lexer, every reading kept where its table has a conflict
(``benchmarks/lark_agreement.py``).  Random grammars use one-letter terminals only, where lexing plays no
part and the oracle on the form that was printed decides.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import oracle
from hypothesis import strategies as st
from laws import AutomatonLaws, Case
from strategies import LETTERS, vocabularies

from grammars.grammar import Grammar
from grammars.ir import EPSILON, Alt, Expr, GrammarIR, Literal, Ref, Repeat, Rule, Seq, alt, seq

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from lark_agreement import reference

PIECES = [bytes([value]) for value in b'abcfixyz0129 \n#()[]{}+*-/=,:;".\xc3\xa9']
LONG = ["ab", "abc", "aa", "if", "x1", "xyz", "12", " =", "é", "((", "if ", "\n#", "AB", "3.5"]
TOKENS = (*PIECES, *(text.encode() for text in LONG), None)
VOCABULARY = (TOKENS, (len(TOKENS) - 1,))

SOURCES: dict[str, tuple[str, list[str]]] = {
    "words": ('start: "a" "b" | "c"+ "x"?', ["ab", "c", "ccx", "x"]),
    "left recursion": ('start: start "a" | "b"', ["b", "baa", "a"]),
    "right recursion": ('start: "a" start | "b"', ["b", "aab", "a"]),
    "brackets": ('start: ("(" start ")")*', ["", "()(())", "(()"]),
    "ambiguous": ('start: e\ne: e "+" e | "a" | "(" e ")"', ["a+a+a", "(a)+a", "a+"]),
    "arithmetic": (
        """
        start: sum
        ?sum: product | sum "+" product | sum "-" product
        ?product: atom | product "*" atom
        ?atom: NUMBER | "-" atom | "(" sum ")"
        NUMBER: /[0-9]+/
        %ignore " "
        """,
        ["1+2", " 1 + 2*(0-9) ", "1 2", "12", "-1", "--1", "", " "],
    ),
    "keyword and name": (
        'start: "if" NAME | NAME "=" NAME\nNAME: /[a-z]+/\n%ignore / /',
        ["ifa", "if a", "a=if", "x=y", "if=x", "iff=a", "i f"],
    ),
    "the first terminal wins": ('start: X | Y\nX: /x[0-9]*/\nY: "xyz"', ["x", "x12", "xyz", "xy"]),
    "priorities": ('start: A B | C\nA.2: /a+/\nB: "b"\nC: /ab+/', ["ab", "aab", "abb", "b"]),
    "longest match": ('start: (A | B)+\nA: "a"\nB: "ab"', ["ab", "aab", "ba", "aba"]),
    "numbers meet": ('start: N N\nN: /[0-9]+/\n%ignore " "', ["1 2", "12", "1 2 0", " 1  2"]),
    "flags": ('start: "ab"i /x/i X\nX: "c" "a"i', ["abxca", "ABXcA", "aBXca", "abxCa"]),
    "repetitions": ('start: "a"~2..3 ["b"] ("c" "x")~2', ["aacxcx", "aaabcxcx", "acxcx"]),
    "templates": (
        'start: "[" _list{NUM, ","} "]"\n_list{x, sep}: x (sep x)*\nNUM: /[0-9]/',
        ["[1]", "[1,2,0]", "[]", "[1,]"],
    ),
    "comments": (
        'start: ("a" ";")+\nCOMMENT: /#[^\\n]*/\n%ignore COMMENT\n%ignore /[ \\n]+/',
        ["a;", "a ;#x\na;", "# a;\na;", "a#;", "a;#"],
    ),
    "contextual": (
        'start: "x" A | "y" B\nA: /[a-c]+/\nB: /[a-b]+/',
        ["xabc", "yab", "yc", "x"],
    ),
    "imports": (
        '%import common.INT\n%import common.WS\n%ignore WS\nstart: INT ("," INT)*',
        ["1", "12 , 0", "1,\n2", "1 2", ","],
    ),
    "empty rule": ('start: a b a\na: | "a"\nb: "b"?', ["", "a", "ab", "aba", "b", "aa", "aaa"]),
    "json": (
        """
        start: value
        ?value: list | object | STRING | "1"
        list: "[" [value ("," value)*] "]"
        object: "{" [pair ("," pair)*] "}"
        pair: STRING ":" value
        STRING: /"[ab]*"/
        """,
        ['{"a":[1,"b",{}]}', "[]", '"', '{"a":}', '["ab"]'],
    ),
}


def written(source: str, texts: list[str]) -> Case:
    reads, _ = reference(source, "contextual")

    def decides(data: bytes) -> bool:
        try:
            return reads(data.decode())
        except UnicodeDecodeError:
            return False

    grammar = Grammar.from_lark(source)
    return Case(
        grammar,
        grammar.ir,
        *VOCABULARY,
        reference=decides,
        texts=tuple(text.encode() for text in texts),
        source=source,
    )


def printed(ir: GrammarIR) -> str:
    """The grammar as Lark, every letter a terminal of its own."""
    rules = [f"{rule.name}: {_print(rule.body)}" for rule in ir.rules]
    return "\n".join([*rules, "nothing: "])


def _print(expr: Expr) -> str:
    match expr:
        case Literal(data):
            letters = [json.dumps(letter, ensure_ascii=False) for letter in data.decode()]
            return f"({' '.join(letters)})" if letters else "nothing"
        case Seq(items):
            return "(" + " ".join(map(_print, items)) + ")"
        case Alt(items):
            return "(" + " | ".join(map(_print, items)) + ")"
        case Repeat(item, least, None):
            return (
                f"(({_print(item)})~{least} ({_print(item)})*)" if least else f"({_print(item)})*"
            )
        case Repeat(item, least, most):
            return f"({_print(item)})~{least}..{most}"
        case Ref(name):
            return name
    raise TypeError(expr)


EXPANSIONS = 300
"""Alternatives of one rule that lark may write out: it multiplies nested ones, and its table with them."""


def expansions(expr: Expr) -> int:
    """Alternatives into which lark takes an expression apart."""
    match expr:
        case Seq(items):
            return math.prod(map(expansions, items))
        case Alt(items):
            return sum(map(expansions, items))
        case Repeat(item, least, most):
            one = expansions(item)
            counts = (least, least + 1) if most is None else range(least, most + 1)
            return sum(one**count for count in counts)
    return 1


@st.composite
def context_free(draw: st.DrawFn) -> GrammarIR:
    """Grammars of sequences, alternatives, repetitions and any recursion."""
    names = ["start", "left", "r2"][: draw(st.integers(1, 3))]
    literals = st.text(LETTERS, min_size=1, max_size=2).map(lambda text: Literal(text.encode()))
    rules = st.sampled_from([Ref(name) for name in names])
    step = st.one_of(literals, literals, rules, rules, st.just(EPSILON))
    bounds = st.sampled_from([(0, None), (1, None), (0, 1), (2, 2), (1, 3), (0, 2), (2, None)])
    body = st.recursive(
        step,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda items: seq(*items)),
            st.lists(inner, min_size=2, max_size=3).map(lambda items: alt(*items)),
            st.builds(lambda item, mn: Repeat(item, *mn), inner, bounds),
        ),
        max_leaves=5,
    )
    body = body.filter(lambda expr: expansions(expr) <= EXPANSIONS)
    exits = st.sampled_from([Literal(b"a"), Literal(b"bc"), EPSILON])
    return GrammarIR(tuple(Rule(name, alt(draw(body), draw(exits))) for name in names), names[0])


def random_case(
    ir: GrammarIR, vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]]
) -> Case:
    source = printed(ir)
    grammar = Grammar.from_lark(source)
    return Case(
        grammar,
        grammar.ir,
        *vocabulary,
        reference=lambda data: oracle.member(ir, data),
        source=source,
    )


class TestLark(AutomatonLaws):
    """lark's own lexing and parsing."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(written, *entry) for name, entry in SOURCES.items()
    }
    alphabet: ClassVar[list[bytes]] = [b"a", b"b", b"0", b" ", b"(", b"x", b"=", b"\n", b"\xc3"]

    def random_cases(self) -> st.SearchStrategy[Case]:
        return st.builds(random_case, context_free(), vocabularies())
