"""The laws on GBNF; the reference is the oracle on a form built without the front end.

Random grammars are made in the intermediate form and printed as GBNF; written ones stand beside a
regular expression or a predicate that says the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import oracle
from hypothesis import strategies as st
from laws import AutomatonLaws, Case
from strategies import LETTERS, vocabularies

from grammars.grammar import Grammar
from grammars.ir import (
    EPSILON,
    Alt,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Ref,
    Repeat,
    Rule,
    Seq,
    alt,
    chars,
    not_chars,
    seq,
)

PIECES = [bytes([value]) for value in b'abcxyz019 \n()[]{}+*-/=,:"\\\xc3\xa9\xe2\x82\xac']
LONG = ["ab", "abc", "aa", '"a', '":', "10", "- ", "é", "é€", "((", "))"]
TOKENS = (*PIECES, *(text.encode() for text in LONG), None)
VOCABULARY = (TOKENS, (len(TOKENS) - 1,))


def balanced(data: bytes) -> bool:
    depth = 0
    for value in data:
        depth += {0x28: 1, 0x29: -1}.get(value, 99)
        if depth < 0:
            return False
    return depth == 0


def matches(pattern: str) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern)

    def reference(data: bytes) -> bool:
        try:
            return compiled.fullmatch(data.decode()) is not None
        except UnicodeDecodeError:
            return False

    return reference


def is_json_of_integers(data: bytes) -> bool:
    """Arrays and numbers without blanks or leading zeros."""
    if not re.fullmatch(rb"[-0-9,\[\]]*", data):
        return False
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


# name -> (source, reference, texts)
SOURCES: dict[str, tuple[str, Callable[[bytes], bool], list[str]]] = {
    "literal": ('root ::= "abc"', matches("abc"), ["abc"]),
    "alternatives over lines": (
        'root ::= "a" |\n  "b" (\n "c" | "x"\n) # note\nunused ::= "z"',
        matches("a|b[cx]"),
        ["a", "bc", "bx"],
    ),
    "classes": ("root ::= [a-c] [^a-c\\n] [\\x61-\\x63é€]", matches("[a-c][^a-c\\n][a-cé€]"),
                ["axé", "c€b", "a\nb"]),
    "any character": ("root ::= . . ", matches("(?s:..)"), ["a\n", "€é", "a"]),
    "repetitions": ('root ::= "a"{2} "b"{1,} "c"{0,2} [x-z]? "1"* "0"+',
                    matches("a{2}b+c{0,2}[xyz]?1*0+"), ["aab0", "aabbccz110", "ab0"]),
    "group repeated": ('root ::= ("a" | "b" "c"){2,3} ("x" "y")?', matches("(a|bc){2,3}(xy)?"),
                       ["aa", "bcabc", "aaaxy"]),
    "escapes": ('root ::= "\\"" [^"\\\\] "\\"" "\\n" "\\x41"?', matches('"[^"\\\\]"\nA?'),
                ['"a"\n', '"é"\n']),
    "unicode escapes": ('root ::= "\\u00e9" [\\u20ac-\\u20ad]', matches("é[€-₭]"), ["é€"]),
    "left recursion": ('root ::= root "+" term | term\nterm ::= [0-9]+',
                       matches(r"[0-9]+(\+[0-9]+)*"), ["1", "1+0+19"]),
    "right recursion": ('root ::= "a" root | "b"', matches("a*b"), ["b", "aaab"]),
    "brackets": ('root ::= ("(" root ")")*', balanced, ["", "()", "(()())", "(()"]),
    "arithmetic": ('root ::= expr\nexpr ::= term ([-+*/] term)*\nterm ::= "(" expr ")" | [0-9]',
                   lambda data: _arithmetic(data), ["1", "(1+0)*9", "((1))", "1+", "(1"]),
    "nested arrays": ('root ::= value\nvalue ::= "[" (value ("," value)*)? "]" | number\n'
                      'number ::= "-"? ("0" | [1-9] [0-9]*)', is_json_of_integers,
                      ["[]", "-1", "[[1],[],[0,-10]]", "01", "[1,]"]),
    "hyphens in names": ("root ::= my-rule\nmy-rule ::= [a-]+ [\\]]", matches(r"[a-]+\]"),
                         ["a]", "--a]"]),
}  # fmt: skip


def _arithmetic(data: bytes) -> bool:
    text = data.decode("latin-1")
    before = None
    while before != text:  # reduce from the inside
        before = text
        text = re.sub(r"\([0-9]([-+*/][0-9])*\)", "1", text)
    return re.fullmatch(r"[0-9]([-+*/][0-9])*", text) is not None


def written(source: str, reference: Callable[[bytes], bool], texts: list[str]) -> Case:
    grammar = Grammar.from_gbnf(source)
    return Case(
        grammar,
        grammar.ir,
        *VOCABULARY,
        reference=reference,
        texts=tuple(text.encode() for text in texts),
        source=source,
    )


# --- random grammars, printed --------------------------------------------------------------------


def printed(ir: GrammarIR) -> str:
    """The grammar as GBNF."""
    return "\n".join(f"{rule.name} ::= {_print(rule.body)}" for rule in ir.rules)


def _print(expr: Expr) -> str:
    match expr:
        case Literal(data):
            return json.dumps(data.decode(), ensure_ascii=False)
        case Chars(ranges):
            return "[" + "".join(f"{_code(low)}-{_code(high)}" for low, high in ranges) + "]"
        case Seq(items):
            return "(" + " ".join(map(_print, items)) + ")"
        case Alt(items):
            return "(" + " | ".join(map(_print, items)) + ")"
        case Repeat(item, least, most):
            bounds = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
            upper = "" if most is None else most
            return f"({_print(item)}){bounds or f'{{{least},{upper}}}'}"
        case Ref(name):
            return name
    raise TypeError(expr)


def _code(value: int) -> str:
    return f"\\U{value:08x}" if value > 0x7F else f"\\x{value:02x}"


@st.composite
def context_free(draw: st.DrawFn) -> GrammarIR:
    """Grammars of what GBNF can say: no intersection, no byte sets."""
    names = ["root", "left-part", "r2"][: draw(st.integers(1, 3))]
    points = st.sets(st.sampled_from(LETTERS), min_size=1).map(
        lambda letters: [(ord(letter), ord(letter)) for letter in letters]
    )
    step = st.one_of(
        st.text(LETTERS, min_size=1, max_size=3).map(lambda text: Literal(text.encode())),
        st.text(LETTERS, min_size=1, max_size=1).map(lambda text: Literal(text.encode())),
        points.map(chars),
        points.map(not_chars),
        st.just(EPSILON),
        st.sampled_from([Ref(name) for name in names]),
        st.sampled_from([Ref(name) for name in names]),
    )
    bounds = st.sampled_from([(0, None), (1, None), (0, 1), (2, 2), (1, 3), (0, 2), (2, None)])
    body = st.recursive(
        step,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(lambda items: seq(*items)),
            st.lists(inner, min_size=2, max_size=3).map(lambda items: alt(*items)),
            st.builds(lambda item, mn: Repeat(item, *mn), inner, bounds),
        ),
        max_leaves=6,
    )
    exits = st.sampled_from([Literal(b"a"), Literal(b"bc"), EPSILON])
    return GrammarIR(tuple(Rule(name, alt(draw(body), draw(exits))) for name in names), names[0])


def random_case(
    ir: GrammarIR, vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]]
) -> Case:
    source = printed(ir)
    grammar = Grammar.from_gbnf(source)
    return Case(
        grammar,
        grammar.ir,
        *vocabulary,
        reference=lambda data: oracle.member(ir, data),
        source=source,
    )


class TestGbnf(AutomatonLaws):
    """llama.cpp's dialect."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(written, *entry) for name, entry in SOURCES.items()
    }
    alphabet: ClassVar[list[bytes]] = [b"a", b"b", b"0", b"-", b"(", b'"', "é".encode(), b"\xc3"]

    def random_cases(self) -> st.SearchStrategy[Case]:
        return st.builds(random_case, context_free(), vocabularies())
