"""The laws on regular expressions; the reference is ``re.fullmatch``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from hypothesis import strategies as st
from laws import AutomatonLaws, Case
from strategies import vocabularies

from grammars.grammar import Grammar

PIECES = [
    *(bytes([value]) for value in b"abcxyz019_- .:@\n\xc3\xa9\xb5\xce\xbc\xe2\x84\xaa"),
    *("ab", "abc", "aa", "bc", "19", "2024", "é", "éa", "µ", "K", "xy", "zz", "a0", ".c", "@a"),
]
TOKENS = (*(p if isinstance(p, bytes) else p.encode() for p in PIECES), None)
VOCABULARY = (TOKENS, (len(TOKENS) - 1,))

# pattern -> texts to ask about, besides near misses of them
PATTERNS: dict[str, list[str]] = {
    r"": ["", "a"],
    r"abc": ["abc", "ab", "abcc"],
    r"a|ab|abc": ["a", "ab", "abc", "b", ""],
    r"(a|b)*abb": ["abb", "aabb", "abab", "babb"],
    r"a{2,4}b?": ["aa", "aaaa", "aaab", "a", "aaaaa"],
    r"(?:ab{1,2}){2}": ["abab", "abbab", "abbabb", "ababab"],
    r"\d{4}-\d\d": ["2019-01", "201-01", "2019-1"],
    r"[^a-y]+": ["é", "z0", "µK", "a", "\n"],
    r".": ["a", "\n", "é", "ab", ""],
    r"(?s:.)\n": ["a\n", "\n\n", "a", "é\n"],
    r"\w+@\w+\.c": ["a@b.c", "é_9@x.c", "@b.c", "a@b.x"],
    r"(?i:ab[x-z]k)": ["abxk", "ABYK", "aBzk", "abx\u212a", "abak"],
    r"(?i)é|µ": ["é", "É", "µ", "μ", "e", "Μ"],
    r"\s*a\S": ["a0", " \n ab", "a ", "\u00a0a-"],
    r"[\w-]{1,3}": ["a-_", "é", "----", "."],
    r"(a*)*b": ["b", "aaab", "a"],
    r"(a?){3}b{0}": ["", "aaa", "aaaa", "b"],
    r"(?P<year>20\d\d)?x": ["x", "2019x", "1999x"],
    r"a+?b*?c": ["ac", "aabbc", "c"],
    r"[\u03bc-\u03bd\xb5]+": ["μ", "µμ", "a"],
    r"(?x) a b # comment": ["ab", "a b", ""],
    r"\Aab\Z|^c$": ["ab", "c", "abc"],
    r"(?:(?!bc).)*bc": ["bc", "aabc", "bcbc", "ébc", "a"],
    r"^(a(?!bb))*b*$": ["aab", "abb", "aba", "", "b\n"],
    r"(?=.*[19])(?=.*[a-c]).{2,4}": ["a1", "1zzé", "aa", "1", "a1a1a"],
    r"(?:\b[abé]+(?<!a)\b[ .]?)*": ["ab.b", "a", "b é", "b  b", ""],
    r"(?>a|ab)*c|[^a]++é": ["aac", "abc", "bé", "é", "ac"],
    r"(?:(?<=a(?=b))b|a)*": ["ab", "abab", "b", "abb"],
}


def case(
    pattern: str,
    vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]],
    texts: tuple[str, ...] = (),
) -> Case:
    compiled = re.compile(pattern)

    def reference(data: bytes) -> bool:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return False
        return compiled.fullmatch(text) is not None

    grammar = Grammar.from_regex(pattern)
    return Case(
        grammar,
        grammar.ir,
        *vocabulary,
        reference=reference,
        texts=tuple(text.encode() for text in texts),
        source=pattern,
    )


def patterns() -> st.SearchStrategy[str]:
    """Patterns of ``re`` over the tiny alphabet, with its odd corners."""
    single = st.sampled_from(
        ["a", "b", "c", "é", "[ab]", "[^a]", "[^bé]", "[a-c]", ".", r"\w", r"\W",
         r"(?i:a)", r"\x61", r"[\wé]", r"(?s:.)", "", "ab", "bc", r"(?i:É)", r"[^\W]", r"\.",
         r"(?:)", r"\u00e9"]
    )  # fmt: skip

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        group = st.builds("({}{})".format, st.sampled_from(["", "?:"]), inner)
        suffix = st.sampled_from(
            ["*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{,2}", "{2,}", "{0}", "{1,2}?"]
        )
        return st.one_of(
            st.lists(inner, min_size=2, max_size=3).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.builds("{}{}".format, group, suffix),
            group,
        )

    alternatives = st.lists(st.recursive(single, grow, max_leaves=6), min_size=1, max_size=2)
    return alternatives.map("|".join)


class TestRegex(AutomatonLaws):
    """Python's dialect on UTF-8."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        pattern or "(empty)": partial(case, pattern, VOCABULARY, tuple(texts))
        for pattern, texts in PATTERNS.items()
    }
    alphabet: ClassVar[list[bytes]] = [b"a", b"b", b"0", b"-", b"\n", "é".encode(), b"\xc3"]

    def random_cases(self) -> st.SearchStrategy[Case]:
        return st.builds(case, patterns(), vocabularies())
