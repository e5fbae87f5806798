"""The laws on lists of choices; the reference is ``in``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from hypothesis import strategies as st
from laws import AutomatonLaws, Case
from strategies import LETTERS, vocabularies

from grammars.grammar import Grammar

PIECES = [bytes([value]) for value in b"yesnomabc \xc3\xa9\xf0\x9f\x98\x80(*)"]
TOKENS = (*PIECES, b"ye", b"yes", b"no", b"\xf0\x9f", b"may", b"abc", "é".encode(), None, b"", None)
VOCABULARY = (TOKENS, (len(TOKENS) - 3, len(TOKENS) - 1))

CHOICES: dict[str, list[str]] = {
    "two": ["yes", "no"],
    "one": ["maybe no".replace("maybe", "yes")],
    "prefixes": ["a", "ab", "abc", "abcab"],
    "with the empty text": ["", "no"],
    "only the empty text": [""],
    "repeated": ["no", "no", "yes", "no"],
    "not patterns": ["a*", "(a)", "a(b)*"],
    "beyond ASCII": ["é", "éa", "😀", "a😀"],
    "common ends": ["sno", "no", "ano", "yesno", "nono"],
    "many": [x + y + z for x in "abc" for y in "noé" for z in ("", "s", "m")],
    "long": ["yes" * 30, "yes" * 29 + "no"],
    "spaces": [" yes", "yes ", "yes", " "],
}


def case(choices: list[str], vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]]) -> Case:
    members = {choice.encode() for choice in choices}
    grammar = Grammar.from_choices(choices)
    return Case(
        grammar,
        grammar.ir,
        *vocabulary,
        reference=members.__contains__,
        texts=tuple(sorted(members)),
        source=repr(choices),
    )


class TestChoices(AutomatonLaws):
    """One of several texts."""

    fixed: ClassVar[Mapping[str, Callable[[], Case]]] = {
        name: partial(case, choices, VOCABULARY) for name, choices in CHOICES.items()
    }
    alphabet: ClassVar[list[bytes]] = [b"a", b"b", b"n", b"(", "é".encode(), b"\xc3"]

    def random_cases(self) -> st.SearchStrategy[Case]:
        choices = st.lists(st.text(LETTERS, max_size=5), min_size=1, max_size=6)
        return st.builds(case, choices, vocabularies())
