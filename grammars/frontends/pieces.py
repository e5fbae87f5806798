"""Pieces that front ends put together: texts, special tokens, free text, answers at triggers.

Each piece is a :class:`~grammars.ir.GrammarIR`; ``grammars.composition`` joins them, so whatever it can
join can be a piece, grammars of other front ends among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from grammars.composition import concatenated, repeated, united
from grammars.errors import GrammarError
from grammars.explain import FREE_TEXT
from grammars.free_text.triggers import Triggers
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    ByteSet,
    Expr,
    GrammarIR,
    Literal,
    Rule,
    both,
    normalize_ranges,
    optional,
    repeat,
)
from grammars.special_tokens import framed, name_of

_LONGEST_NAME: Final = 60


class Dispatched(NamedTuple):
    """What follows a trigger in free text.

    Attributes:
        trigger: a text, or the name of a special token.
        special: whether it is a special token.
        then: the grammar behind it.
    """

    trigger: str
    special: bool
    then: GrammarIR


def piece(body: Expr, name: str = "text", *, shared: bool = False) -> GrammarIR:
    """A grammar of one rule."""
    return GrammarIR((Rule(name, body, shared=shared),), name)


def empty() -> GrammarIR:
    """The empty text."""
    return piece(EPSILON)


def text(value: str) -> GrammarIR:
    """Exactly one text.

    Raises:
        GrammarError: for half of a surrogate pair.
    """
    return piece(Literal(as_bytes(value)))


def token(token: str | int) -> GrammarIR:
    """One special token, by its name or its id.

    Raises:
        GrammarError: for an empty name or a negative id.
    """
    name = name_of(token)
    return replace(piece(Literal(framed(name)), "token"), tokens=(name,))


def blanks(low: int, high: int, characters: bytes = b" \t\n\r") -> GrammarIR:
    """So many blanks."""
    one = ByteSet(normalize_ranges((b, b) for b in characters))
    return piece(optional(repeat(one, max(low, 1), high)) if not low else repeat(one, low, high))


def sequence(*parts: GrammarIR) -> GrammarIR:
    """A text of each part, on end."""
    return parts[0] if len(parts) == 1 else concatenated(parts)


def either(*parts: GrammarIR) -> GrammarIR:
    """A text of any part."""
    return parts[0] if len(parts) == 1 else united(parts)


def many(
    part: GrammarIR, low: int = 0, high: int | None = None, separator: GrammarIR | None = None
) -> GrammarIR:
    """So many texts of a part, with one of the separator between neighbours."""
    return repeated(part, low, high, separator or empty())


def maybe(part: GrammarIR) -> GrammarIR:
    """A text of the part, or none."""
    return many(part, 0, 1)


def free(excludes: Iterable[str] = (), *, max_length: int | None = None) -> GrammarIR:
    """Any text in UTF-8 in which none of some texts occurs.

    Args:
        excludes: the texts; one that contains another says nothing more.
        max_length: how many characters there may be.
    """
    texts = _shortest(map(as_bytes, excludes))
    body: Expr = Triggers(texts).without() if texts else repeat(ANY_CHAR)
    name = FREE_TEXT + (f" without {_listed(texts)}" if texts else "")
    return piece(_bounded(body, max_length), name, shared=True)


def dispatch(
    answers: Sequence[Dispatched],
    *,
    excludes: Iterable[str] = (),
    once: bool = False,
    required: bool = False,
) -> GrammarIR:
    """Free text that a trigger ends; what follows it, and free text again.

    The trigger is the one that ends first, and of those that end together the longest, as in
    :meth:`grammars.Grammar.free_text`.

    Args:
        answers: triggers, each with what follows it.
        excludes: texts that free text must not have, also together with the trigger behind it.
        once: whether the text ends with the first answer.
        required: whether there must be a trigger.

    Raises:
        GrammarError: for triggers of which one lies within another.
    """
    plain = [a for a in answers if not a.special]
    special = [a for a in answers if a.special]
    texts = [as_bytes(a.trigger) for a in plain]
    barred = [t for t in _shortest(map(as_bytes, excludes)) if not _holds(t, texts)]
    for trigger in texts:
        hit = next((t for t in barred if t in trigger and not _ends_longer(trigger, t)), None)
        if hit is not None:
            raise GrammarError(
                f"the trigger {trigger.decode()!r} can never be reached, as {hit.decode()!r}, which is "
                "excluded, occurs in it; exclude something longer, or take another trigger"
            )
    machine = Triggers([*texts, *barred])
    without = piece(machine.without(), FREE_TEXT, shared=True)
    ways = []
    if plain and (machine.overlap or len(plain) == 1):
        for number, answer in enumerate(plain):
            name = f"{FREE_TEXT} up to {answer.trigger!r}"
            before = piece(machine.before(frozenset((number,))), name, shared=True)
            ways.append(sequence(before, answer.then))
    elif plain:
        tails = [sequence(text(a.trigger), a.then) for a in plain]
        ways.append(sequence(_named(without, [a.trigger for a in plain]), either(*tails)))
    if special:
        tails = [sequence(token(a.trigger), a.then) for a in special]
        ways.append(sequence(_named(without, [a.trigger for a in special]), either(*tails)))
    if once:
        return either(*ways) if required else either(*ways, without)
    return sequence(many(either(*ways), 1 if required else 0), without)


def _named(free_text: GrammarIR, triggers: list[str]) -> GrammarIR:
    name = f"{FREE_TEXT} up to {' or '.join(map(repr, triggers))}"
    return piece(free_text.rules[0].body, name, shared=True)


def _bounded(body: Expr, max_length: int | None) -> Expr:
    return body if max_length is None else both(body, repeat(ANY_CHAR, 0, max_length))


def _shortest(texts: Iterable[bytes]) -> list[bytes]:
    """Texts without those that contain another one."""
    found = list(dict.fromkeys(texts))
    return [t for t in found if not any(o != t and o in t for o in found)]


def _holds(excluded: bytes, triggers: list[bytes]) -> bool:
    """Whether a trigger ends within an excluded text, so that it never comes to its own end."""
    return any(0 <= excluded.find(t) < len(excluded) - len(t) for t in triggers)


def _ends_longer(trigger: bytes, excluded: bytes) -> bool:
    """Whether an excluded text occurs in a trigger at its end only, so that the trigger counts."""
    return len(trigger) > len(excluded) and trigger.find(excluded) == len(trigger) - len(excluded)


def _listed(texts: list[bytes]) -> str:
    listed = ", ".join(repr(t.decode()) for t in texts)
    return listed if len(listed) <= _LONGEST_NAME else listed[:_LONGEST_NAME] + "..."


def as_bytes(value: str) -> bytes:
    """A text in UTF-8.

    Raises:
        GrammarError: for half of a surrogate pair.
    """
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise GrammarError(
            f"{value!r} has half of a surrogate pair, which is not a character and cannot occur in a "
            "text; remove it or write the whole character"
        ) from None


__all__ = [
    "Dispatched",
    "blanks",
    "dispatch",
    "either",
    "empty",
    "free",
    "many",
    "maybe",
    "piece",
    "sequence",
    "text",
    "token",
]
