"""Pieces that front ends put together: texts, special tokens, free text, answers at triggers.

Pieces are expressions; those that need rules of their own are made by :class:`Pieces`, which
gathers the rules and, with :meth:`Pieces.add`, grammars of other front ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from grammars.composition import Assembly, memory_of_parts
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
    Machine,
    Nothing,
    Ref,
    Rule,
    alt,
    both,
    normalize_ranges,
    optional,
    repeat,
    seq,
    walk,
)
from grammars.special_tokens import framed, name_of, names_in

Text = TypeVar("Text", str, bytes)
_LONGEST_NAME: Final = 60


class Dispatched(NamedTuple):
    """What follows a trigger in free text.

    Attributes:
        trigger: a text, or the name of a special token.
        special: whether it is a special token.
        then: what stands behind it.
    """

    trigger: str
    special: bool
    then: Expr


def text(value: str) -> Expr:
    """Exactly one text.

    Raises:
        GrammarError: for half of a surrogate pair.
    """
    return Literal(as_bytes(value))


def token(token: str | int) -> Expr:
    """One special token, by its name or its id.

    Raises:
        GrammarError: for an empty name or a negative id.
    """
    return Literal(framed(name_of(token)))


def blanks(low: int, high: int, characters: bytes = b" \t\n\r") -> Expr:
    """So many blanks."""
    one = ByteSet(normalize_ranges((b, b) for b in characters))
    return repeat(one, low, high)


def many(part: Expr, low: int = 0, high: int | None = None, separator: Expr = EPSILON) -> Expr:
    """So many texts of a part, with one of the separator between neighbours."""
    if high == 0:
        return EPSILON
    if separator == EPSILON:
        return repeat(part, low, high)
    more = repeat(seq(separator, part), max(low - 1, 0), None if high is None else high - 1)
    return seq(part, more) if low else optional(seq(part, more))


@lru_cache(256)
def text_without(texts: tuple[bytes, ...]) -> Machine:
    """Any text in UTF-8 in which none of some texts occurs."""
    return Triggers(texts).without()


class Pieces:
    """Rules of a grammar in the making.

    Attributes:
        assembly: them, and the grammars they were taken from.
    """

    def __init__(self) -> None:
        self.assembly = Assembly()
        self._start: Final = self.assembly.name("start")
        self._shared: dict[tuple[str, Expr], Expr] = {}
        self._tokens: dict[str, None] = {}
        self._added: list[tuple[GrammarIR, Expr]] = []

    def whole(self, body: Expr) -> GrammarIR:
        """The grammar of what a piece describes.

        Raises:
            GrammarError: where a part compares keys or items and where it begins does not show.
        """
        named = [name for rule in self.assembly.rules for name in _named(rule.body)]
        self.assembly.tokens |= dict.fromkeys([*_named(body), *named, *self._tokens])
        if len(self._added) == 1 and body == self._added[0][1] and not self._tokens:
            return self._added[0][0]
        made = self.assembly.grammar(self._start, body)
        return memory_of_parts(made, [*(part for part, _ in self._added), made])

    def add(self, part: GrammarIR) -> Expr:
        """Another front end's grammar."""
        found = self.assembly.add(part)
        self._added.append((part, found))
        return found

    def name_tokens(self, names: Iterable[str]) -> None:
        """Names special tokens that the vocabulary must have, though no rule has them."""
        self._tokens |= dict.fromkeys(names)

    def rule(self, name: str, body: Expr, *, shared: bool = False) -> Expr:
        """A rule of its own, unless it would be as short as its name."""
        if isinstance(body, Literal | Ref | Nothing) and not shared:
            return body
        name = self.assembly.name(name)
        self.assembly.rules.append(Rule(name, body, shared=shared))
        return Ref(name)

    def free(self, excludes: Iterable[str] = (), *, max_length: int | None = None) -> Expr:
        """Any text in UTF-8 in which none of some texts occurs.

        Args:
            excludes: the texts; one that contains another says nothing more.
            max_length: how many characters there may be.
        """
        texts = shortest(map(as_bytes, excludes))
        body: Expr = text_without(tuple(texts)) if texts else repeat(ANY_CHAR)
        if max_length is not None:
            body = both(body, repeat(ANY_CHAR, 0, max_length))
        return self._free_rule(body, f" without {_listed(texts)}" if texts else "")

    def _free_rule(self, body: Expr, what: str) -> Expr:
        return self.shared(FREE_TEXT + what, body)

    def shared(self, name: str, body: Expr) -> Expr:
        """A rule that all places with this body share, kept as a unit of its own."""
        known = self._shared.get((name, body))
        if known is None:
            known = self._shared[name, body] = self.rule(name, body, shared=True)
        return known

    def dispatch(
        self,
        answers: Sequence[Dispatched],
        *,
        excludes: Iterable[str] = (),
        once: bool = False,
        required: bool = False,
    ) -> Expr:
        """Free text that a trigger ends; what follows it, and free text again.

        The trigger is the one that ends first, and of those that end together the longest, as in
        :meth:`grammars.Grammar.free_text`.

        Args:
            answers: triggers, each with what follows it.
            excludes: texts that free text must not have, also together with the trigger behind it.
            once: whether the text ends with the first answer.
            required: whether there must be a trigger.

        Raises:
            GrammarError: for triggers of which one, or an excluded text, lies within another.
        """
        plain = [a for a in answers if not a.special]
        special = [a for a in answers if a.special]
        texts = [as_bytes(a.trigger) for a in plain]
        barred = [t for t in shortest(map(as_bytes, excludes)) if not _holds(t, texts)]
        _check_reachable(texts, barred)
        machine = Triggers([*texts, *barred])
        plain_text = text_without((*texts, *barred))
        without = self._free_rule(plain_text, "")
        ways = []
        if plain and (machine.overlap or len(plain) == 1):
            for number, answer in enumerate(plain):
                body = machine.before(frozenset((number,)))
                ways.append(seq(self._free_rule(body, f" up to {answer.trigger!r}"), answer.then))
        elif plain:
            ways.append(self._behind(plain_text, plain, text))
        if special:
            ways.append(self._behind(plain_text, special, token))
        found = self.rule("answer", alt(*ways)) if len(ways) > 1 else ways[0]
        if once:
            return found if required else alt(found, without)
        return seq(repeat(found, 1 if required else 0), without)

    def _behind(
        self, plain: Expr, answers: Sequence[Dispatched], mark: Callable[[str], Expr]
    ) -> Expr:
        """Free text without any trigger, and the triggers with their answers behind it."""
        listed = " or ".join(repr(a.trigger) for a in answers)
        before = self._free_rule(plain, f" up to {listed}")
        tails = [seq(mark(a.trigger), a.then) for a in answers]
        return seq(before, self.rule("triggered", alt(*tails)))


def _named(expr: Expr) -> list[str]:
    """The special tokens in an expression."""
    return [n for x in walk(expr) if isinstance(x, Literal) for n in names_in(x.data)]


def _check_reachable(triggers: list[bytes], barred: list[bytes]) -> None:
    for trigger in triggers:
        hit = next((t for t in barred if t in trigger and not _ends_longer(trigger, t)), None)
        if hit is not None:
            raise GrammarError(
                f"the trigger {trigger.decode()!r} can never be reached, as {hit.decode()!r}, which is "
                "excluded, occurs in it; exclude something longer, or take another trigger"
            )


def shortest(texts: Iterable[Text]) -> list[Text]:
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
    "Pieces",
    "as_bytes",
    "blanks",
    "many",
    "shortest",
    "text",
    "text_without",
    "token",
]
