"""Special tokens of a grammar looked up in a vocabulary."""

from __future__ import annotations

import warnings
from typing import Final

from constrain.vocabulary.vocabulary import Vocabulary
from grammars import composition
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.special_tokens import framed, id_of

_MOST_NAMES: Final = 12
_SHORTEST: Final = 3
"""Names of fewer characters are likely to stand in a text by chance."""


class SpecialTokenWarning(UserWarning):
    """A text of a grammar looks like a special token of the vocabulary, which no text ever is."""


def resolve(grammar: Grammar, vocabulary: Vocabulary) -> tuple[Grammar, Vocabulary]:
    """The grammar and the vocabulary in which the special tokens that the grammar names are tokens.

    Tokens named by id are called as the vocabulary calls them; the id of an ordinary token stands for
    its text, in whatever tokens.

    Raises:
        GrammarError: for a special token that the vocabulary does not have.
    """
    _warn_of_names(grammar, vocabulary)
    if not grammar.tokens:
        return grammar, vocabulary
    other: dict[bytes, bytes] = {}
    apart: set[int] = set()
    named = vocabulary.special_tokens
    for name in grammar.tokens:
        token = named.get(name, id_of(name))
        if token is None or token >= vocabulary.size:
            raise GrammarError(_missing(name, vocabulary))
        text = vocabulary.token_bytes(token)
        called = vocabulary.name_of(token)
        if text is None or called in named:
            if text is not None:
                apart.add(token)
            if called != name:
                other[framed(name)] = framed(called)
        else:
            other[framed(name)] = text
    if other:
        replaced = composition.with_texts(grammar.ir, other)
        grammar = Grammar(replaced, limits=grammar.limits)
    return grammar, vocabulary.with_special_tokens(apart)


def _missing(name: str, vocabulary: Vocabulary) -> str:
    if id_of(name) is not None:
        return (
            f"the grammar names the token {name}, but the vocabulary has ids 0 to "
            f"{vocabulary.size - 1} only"
        )
    if not vocabulary.special_tokens:
        return (
            f"the grammar names the special token {name!r}, but the vocabulary knows no names; make it "
            "with Vocabulary.from_huggingface, or pass special_tokens={name: id}"
        )
    known = list(vocabulary.special_tokens)
    more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
    return (
        f"the grammar names the special token {name!r}, which this vocabulary does not have; it has "
        f"{', '.join(map(repr, known[:_MOST_NAMES]))}{more}.  Use another format, or another tokenizer"
    )


def _warn_of_names(grammar: Grammar, vocabulary: Vocabulary) -> None:
    """Warns of texts in the rules that contain the name of a special token."""
    if not vocabulary.special_tokens or grammar.is_json:
        return
    texts = composition.texts_in(grammar.ir)
    for name, token in vocabulary.special_tokens.items():
        if len(name) < _SHORTEST or vocabulary.token_bytes(token) is not None:
            continue
        if name.encode() in texts and framed(name) not in texts:
            warnings.warn(
                f"a text of the grammar contains {name!r}, which is the name of the special token "
                f"{token} of this vocabulary: as text it is spelled in ordinary tokens, which no parser "
                f"reads as that token; for the token itself use Grammar.token({name!r})",
                SpecialTokenWarning,
                stacklevel=2,
            )
