"""A fixed list of texts."""

from __future__ import annotations

from collections.abc import Iterable

from grammars.errors import GrammarError
from grammars.ir import NOTHING, Expr, GrammarIR, Literal, Rule, alt


def choices_to_ir(choices: Iterable[str | bytes]) -> GrammarIR:
    """A grammar of one rule, ``root``, with exactly the given texts.

    No choices at all are the empty language; repeated choices count once.

    Raises:
        GrammarError: for a text with half of a surrogate pair, which has no UTF-8 form.
        TypeError: for a choice that is neither ``str`` nor ``bytes``, or choices that are one text.
    """
    if isinstance(choices, str | bytes):
        raise TypeError(f"choices must be a collection of texts, not one text: {choices!r}")
    if not isinstance(choices, Iterable):
        raise TypeError(f"choices must be a collection of texts, not {choices!r:.80}")
    body = alt(*map(_choice, choices))
    notes = ("root has no choices",) if body == NOTHING else ()
    return GrammarIR((Rule("root", body),), "root", notes)


def _choice(choice: str | bytes) -> Expr:
    if isinstance(choice, bytes):
        return Literal(choice)
    if not isinstance(choice, str):
        raise TypeError(f"a choice must be str or bytes, not {type(choice).__name__}: {choice!r}")
    try:
        return Literal(choice.encode())
    except UnicodeEncodeError as error:
        raise GrammarError(
            f"choice {choice!r} has half of a surrogate pair at position {error.start}, which is "
            "not a character; remove it or write the whole character"
        ) from None
