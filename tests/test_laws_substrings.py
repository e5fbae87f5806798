"""The laws on spans of a text; the reference is every pair of places of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import ClassVar

from hypothesis import strategies as st
from laws import AutomatonLaws, Case
from spans import spans
from strategies import vocabularies

from grammars.grammar import Grammar
from grammars.ir import Literal, alt, single_rule
from grammars.substrings.units import FOLDS, UNITS

PIECES = [bytes([value]) for value in b'abAB, \n"\\ntu0\xc3\xa9\xc4\xb1\xe4\xb8\xad']
TOKENS = (
    *PIECES,
    b"ab",
    b'"a',
    b"a b",
    b", ",
    b"\\n",
    b'\\"',
    "é".encode(),
    "中".encode(),
    None,
    b"",
    None,
)
VOCABULARY = (TOKENS, (len(TOKENS) - 3, len(TOKENS) - 1))

TEXTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "characters": ("abAb, a", "chars", ()),
    "words": ("ab, ba ab_A", "words", ()),
    "words folded": ("ab \n\n ba  b", "words", ("space",)),
    "lines": ("ab\nb a\n\na", "lines", ()),
    "lines folded": (" ab \n\n b   a\n", "lines", ("space",)),
    "no text": ("", "chars", ()),
    "only blanks": (" \n ", "words", ()),
    "repeated": ("ababababab", "chars", ()),
    "escapes": ('a"b\\a\nb', "chars", ()),
    "beyond ASCII": ("aé中bé", "words", ()),
}
LETTERS = st.sampled_from('abAB,( \n"\\_é中ı')


def case(
    source: tuple[str, str, Iterable[str]],
    vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]],
) -> Case:
    text, unit, fold = source
    members = {span.encode() for span in spans(text, unit, fold)}
    return Case(
        Grammar.substring_of(text, unit=unit, fold=fold),  # type: ignore[arg-type]
        single_rule(alt(*map(Literal, sorted(members)))),
        *vocabulary,
        reference=members.__contains__,
        texts=tuple(sorted(members)),
        source=repr(source),
    )


class TestSubstrings(AutomatonLaws):
    """Spans of a text."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(case, source, VOCABULARY) for name, source in TEXTS.items()
    }
    alphabet: ClassVar[list[bytes]] = [b"a", b"b", b" ", b",", "é".encode(), b"\xc3"]

    def random_cases(self) -> st.SearchStrategy[Case]:
        sources = st.tuples(
            st.text(LETTERS, max_size=10),
            st.sampled_from(UNITS),
            st.sets(st.sampled_from([fold for fold in FOLDS if fold != "case"])),
        )
        return st.builds(case, sources, vocabularies())


def json_case(
    source: tuple[str, int, int | None],
    vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]],
) -> Case:
    text, low, high = source
    schema = {"type": "string", "minLength": low} | ({} if high is None else {"maxLength": high})
    members = {
        json.dumps(span, ensure_ascii=False).encode()
        for span in spans(text, "words", ["space"])
        if low <= len(span) and (high is None or len(span) <= high)
    }
    return Case(
        Grammar.from_json_schema(schema, source=text, grounded=True),
        single_rule(alt(*map(Literal, sorted(members)))),
        *vocabulary,
        reference=members.__contains__,
        texts=tuple(sorted(members)),
        source=repr(source),
    )


JSON_TEXTS: dict[str, tuple[str, int, int | None]] = {
    "any length": ("ab, ba", 0, None),
    "not empty": ("ab, ba", 1, None),
    "bounded": ("ab ba a bb", 0, 4),
    "between": ("ab ba a bb", 3, 6),
    "exactly": ("aaa aa a", 2, 2),
    "quotes": ('"a" b "ba"', 1, 5),
    "characters beyond ASCII": ("éa 中中 b", 1, 3),
}


class TestGroundedStrings(AutomatonLaws):
    """JSON strings that are spans of a source, of bounded length."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(json_case, source, VOCABULARY) for name, source in JSON_TEXTS.items()
    }
    alphabet: ClassVar[list[bytes]] = [b'"', b"a", b"b", b" ", b"\\", "é".encode(), b"\xc3"]

    def random_cases(self) -> st.SearchStrategy[Case]:
        sources = st.tuples(
            st.text(LETTERS, max_size=10), st.integers(0, 3), st.none() | st.integers(3, 6)
        )
        return st.builds(json_case, sources, vocabularies())
