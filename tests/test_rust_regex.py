"""Patterns of Rust's ``regex`` against the engine itself, which pydantic has inside."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
from pydantic_core import SchemaError, SchemaValidator, ValidationError

from grammars import Grammar, GrammarError, LimitExceeded, Limits
from grammars.frontends.types.rust_regex import rust_search_to_expr
from grammars.ir import single_rule

ATOMS = r"""
a b k K . ^ $ é \d \D \w \W \s \S \b \B \A \z \. \- \t \x41 \x{e9} \u00e9 \u{212a} \U0000006b
\p{L} \pN \P{Greek} \p{Lu} \p{greek} \p{^L} \p{sc=Latin} \p{gc=Nd}
[a-c] [^a] [^\d] [^\s] [^\W_] [-a] [a-] []a] [^]a] [ß-ú] [\-\]]
[[:alpha:]] [[:^digit:]] [a-z&&[^b]] [\w--a] [a~~b] [[^a]b]
(?i) (?m) (?s) (?-i) (?i:s) (?m:^b$) (?s-i:.) (?i:[^k]) (?i:[a-j]) (?i:ß)
"""
WORDS = [*ATOMS.split(), " "]
REPEATS = ["", "", "", "*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "*?", "{2}{2}"]
LETTERS = "abkKsS \u212a\u017féÉ\n\r\t0٣_-.AZzßẞİıI\u0301\u24b6α\u200d\u0660"


def pattern(draw: random.Random, depth: int = 0) -> str:
    out = ""
    for _ in range(draw.randint(1, 4)):
        if draw.random() < 0.15 and depth < 2:
            opening = draw.choice(["(", "(?:", f"(?P<n{draw.randrange(10**6)}>", "(?i:"])
            atom = f"{opening}{pattern(draw, depth + 1)})"
        else:
            atom = draw.choice(WORDS)
        out += atom
        if not (atom.startswith("(?") and ":" not in atom):  # flags are not repeated
            out += draw.choice(REPEATS)
    return f"{out}|{draw.choice(WORDS)}" if draw.random() < 0.2 else out


def texts(draw: random.Random, grammar: Grammar) -> Iterator[str]:
    for _ in range(40):
        yield "".join(draw.choice(LETTERS) for _ in range(draw.randint(0, 4)))
    if not grammar.is_empty:
        for seed in range(3):
            yield grammar.sample(seed).decode()


def grammar_of(written: str) -> Grammar:
    return Grammar(single_rule(rust_search_to_expr(written)), limits=Limits(max_dfa_states=2_000))


@pytest.mark.parametrize("seed", range(20))
def test_patterns_match_as_in_rust(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(5):
        written = pattern(draw)
        try:
            validator = SchemaValidator({"type": "str", "pattern": written})
        except SchemaError:
            continue
        try:
            grammar = grammar_of(written)
        except LimitExceeded:
            continue
        except GrammarError as error:
            assert re.search("repeated|boundary|look-around", str(error)), (written, error)  # noqa: PT017
            continue
        for text in texts(draw, grammar):
            try:
                validator.validate_python(text)
            except ValidationError:
                assert not grammar.accepts(text), f"{written!r} on {text!r}"
            else:
                assert grammar.accepts(text), f"{written!r} on {text!r}"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (r"(?x)a b", "only i, m and s"),
        (r"(?U)a*", "only i, m and s"),
        (r"\b{start}a", "boundary"),
        (r"\<a", "boundary"),
        (r"[&&a]", "operator at the beginning"),
        (r"[a", "never closed"),
        (r"[a-\d]", "a range goes from"),
        (r"[[:foo:]]", "no class of POSIX"),
        (r"\p{Unknown_Thing}", "property 'Unknown_Thing'"),
        (r"\q", "escape"),
        (r"a{2,1}", "reversed"),
        (r"*a", "nothing to repeat"),
        (r"(?=a)", "look-around"),
        (r"(a", "never closed"),
        (r"a)", "closes no group"),
        (r"\x{110000}", "hexadecimal"),
    ],
)
def test_what_is_not_translated_is_an_error_with_the_column(written: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message) as caught:
        rust_search_to_expr(written)
    assert caught.value.column is not None
