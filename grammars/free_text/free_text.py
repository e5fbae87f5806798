"""Free text, then a format: what ``Grammar.free_text`` builds.

Each trigger becomes one rule, "text up to and including this trigger, before any other", whose
automaton (:class:`~grammars.free_text.triggers.Triggers`) is deterministic: inside it the masks of free text
are those of one lexeme, worked out once for a vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from grammars import ir
from grammars.compiling.quotient import quotient
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
    Ref,
    Rule,
    alt,
    both,
    optional,
    repeat,
    seq,
)
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.special_tokens import (
    SpecialToken,
    framed,
    is_framed,
    name_of,
    names_in,
    shown,
)
from grammars.uniqueness.sections import BLANK_BYTES

Text = str | SpecialToken
_NAME: Final = "text"
MAX_BLANKS: Final = 8
"""Blanks between a trigger and its answer, or an answer and its closing text: so many at most, since a
model that likes them would go on writing them."""
_BLANKS: Final = optional(
    repeat(ByteSet(ir.normalize_ranges((b, b) for b in BLANK_BYTES)), 1, MAX_BLANKS)
)


class Language(Protocol):
    """What is asked of the grammar of an answer; hashable, equal by content."""

    @property
    def ir(self) -> GrammarIR: ...
    @property
    def limits(self) -> Limits: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What follows a trigger.

    Attributes:
        trigger: the trigger's bytes; a special token is framed.
        grammar: of the text behind it.
        ends: the texts of which one stands behind that.
    """

    trigger: bytes
    grammar: Language
    ends: tuple[bytes, ...] = (b"",)


@dataclass(frozen=True, slots=True)
class Shape:
    """The options of ``Grammar.free_text``."""

    required: bool = True
    repeat: bool = False
    max_length: int | None = None
    trigger_in_answer: bool | Iterable[Text] = False
    blanks: bool | None = None
    excludes: Iterable[Text] = ()

    def blanks_around(self, answer: Answer) -> bool:
        """Whether blanks may stand between trigger and answer, and answer and closing text."""
        return answer.grammar.ir.json if self.blanks is None else self.blanks


def answers_of(entries: Iterable[tuple[Any, ...]], kind: type[Language]) -> list[Answer]:
    """(trigger, grammar) and (trigger, grammar, end or ends), checked.

    Args:
        entries: as the caller of ``Grammar.free_text`` gave them.
        kind: what grammars have to be.

    Raises:
        GrammarError: for a text with half of a surrogate pair, which no bytes stand for.
        TypeError: for entries of another form.
    """
    return [_answer(entry, kind) for entry in entries]


def _answer(entry: tuple[Any, ...], kind: type[Language]) -> Answer:
    match entry:
        case (str() | SpecialToken() as trigger, grammar) if isinstance(grammar, kind):
            return Answer(_bytes(trigger), grammar)
        case (
            str() | SpecialToken() as trigger,
            grammar,
            str() | SpecialToken() as end,
        ) if isinstance(grammar, kind):
            return Answer(_bytes(trigger), grammar, (_bytes(end),))
        case (
            str() | SpecialToken() as trigger,
            grammar,
            list() | tuple() as ends,
        ) if isinstance(grammar, kind) and all(isinstance(x, str | SpecialToken) for x in ends):
            if not ends:
                raise GrammarError(
                    f"the closing texts of {_shown(_bytes(trigger))!r} are an empty list, so that nothing "
                    "could close its answer; name one, or leave the list out"
                )
            return Answer(_bytes(trigger), grammar, tuple(dict.fromkeys(map(_bytes, ends))))
    raise TypeError(
        "free text needs (trigger, Grammar) or (trigger, Grammar, end) with texts or special tokens for "
        f"trigger and end, or a list of them for the end, not {entry!r}"
    )


def _texts(given: Iterable[Text], name: str) -> list[bytes]:
    """Texts and special tokens of an option, checked.

    Raises:
        GrammarError: for an empty text.
        TypeError: for anything else, a single text among it.
    """
    listed = None if isinstance(given, str | bytes | SpecialToken) else list(given)
    if listed is None or not all(isinstance(x, str | SpecialToken) for x in listed):
        raise TypeError(f"{name} needs a list of texts or special tokens, not {given!r:.80}")
    out = [_bytes(x) for x in listed]
    if not all(out):
        raise GrammarError(f"{name} has an empty text, which occurs everywhere; take it out")
    return list(dict.fromkeys(out))


def _shown(data: bytes) -> str:
    return shown(data).decode()


def _bytes(text: str | SpecialToken) -> bytes:
    if isinstance(text, SpecialToken):
        return framed(name_of(text.name))
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise GrammarError(
            f"{text!r} has half of a surrogate pair, which is not a character and cannot occur in "
            "a text; remove it or write the whole character"
        ) from None


def free_text_to_ir(
    answers: Sequence[Answer], shape: Shape, limits: Limits = DEFAULT_LIMITS
) -> GrammarIR:
    """The rules of free text with these answers; see ``Grammar.free_text`` for the meaning.

    Raises:
        GrammarError: for triggers, excluded texts or bounds that make no sense, or an answer that compares
            keys or items where a text does not show that it begins.
    """
    return _Builder(answers, shape, limits).grammar()


def _inside(answers: Sequence[Answer], shape: Shape) -> frozenset[bytes]:
    """The triggers that are the beginning of their answers."""
    if isinstance(shape.trigger_in_answer, bool):
        return frozenset(a.trigger for a in answers if shape.trigger_in_answer)
    named = _texts(shape.trigger_in_answer, "trigger_in_answer")
    known = [answer.trigger for answer in answers]
    for trigger in named:
        if trigger not in known:
            raise GrammarError(
                f"trigger_in_answer names {_shown(trigger)!r}, which is none of the triggers; these are "
                + ", ".join(repr(_shown(x)) for x in known)
            )
    return frozenset(named)


def _excluded(answers: Sequence[Answer], shape: Shape) -> list[bytes]:
    """The texts that free text may not have and could have."""
    triggers = [answer.trigger for answer in answers]
    out: list[bytes] = []
    for text in _texts(shape.excludes, "excludes"):
        if text in triggers:
            raise GrammarError(
                f"{_shown(text)!r} is a trigger and is excluded, so it could never be reached; take it out "
                "of one of them"
            )
        for trigger in triggers:
            if 0 <= trigger.find(text) < len(trigger) - len(text):
                raise GrammarError(
                    f"trigger {_shown(trigger)!r} can never be reached, as {_shown(text)!r}, which is "
                    "excluded, occurs in it"
                )
        # a special token is in no free text, nor is what has a trigger or another excluded text in it
        if not is_framed(text):
            out.append(text)
    others = [*triggers, *out]
    return [text for text in out if not any(0 <= text.find(x) < len(text) - len(x) for x in others)]


def _check(answers: Sequence[Answer], shape: Shape, inside: frozenset[bytes]) -> None:
    if not answers:
        raise GrammarError("free text needs at least one trigger with the grammar that follows it")
    begun = all(a.trigger in inside for a in answers)
    if shape.blanks and begun and not any(_takes_blanks(end) for a in answers for end in a.ends):
        raise GrammarError(
            "blanks=True has no place to allow them: with trigger_in_answer the trigger is a part of "
            "its answer, and no closing text stands behind; describe them in the answer's grammar"
        )
    if shape.max_length is None:
        return
    for answer in answers:
        if is_framed(answer.trigger):
            continue
        needed = len(answer.trigger.decode())
        if needed > shape.max_length:
            raise GrammarError(
                f"max_length={shape.max_length} leaves no room for the trigger "
                f"{answer.trigger.decode()!r}, which is counted with the free text; make it "
                f"at least {needed}"
            )


def _takes_blanks(end: bytes) -> bool:
    """Whether blanks before a closing text can be told from those that it begins with."""
    return end != b"" and end[0] not in BLANK_BYTES


class _Builder:
    def __init__(self, answers: Sequence[Answer], shape: Shape, limits: Limits) -> None:
        self.answers = answers
        self.shape = shape
        self.inside = _inside(answers, shape)
        _check(answers, shape, self.inside)
        # a special token is no text: free text cannot have one, and needs no automaton to stop at it
        plain = [i for i, answer in enumerate(answers) if not is_framed(answer.trigger)]
        self.plain = {i: number for number, i in enumerate(plain)}
        excluded = _excluded(answers, shape)
        self.triggers = Triggers([*(answers[i].trigger for i in plain), *excluded])
        self.excludes = bool(excluded)
        self.limits = limits
        self.whole = Assembly([_NAME])
        self._without: Expr | None = None

    def grammar(self) -> GrammarIR:
        """The whole grammar."""
        shape = self.shape
        groups = self._groups()
        apart = len(groups) == 1 or self.triggers.overlap or shape.max_length is not None
        formats = self._apart(groups) if apart else self._together(groups)
        if shape.repeat:
            body = seq(repeat(formats, 1 if shape.required else 0), self._plain())
        else:
            body = formats if shape.required else alt(formats, self._plain())
        if not shape.required:
            self.whole.notes.clear()
        return memory_of_parts(self.whole.grammar(_NAME, body), limits=self.limits)

    def _apart(self, groups: list[list[int]]) -> Expr:
        """For each group one automaton of free text that includes its triggers."""
        ways = []
        for group in groups:
            answer = self._answer(group)
            plain = [i for i in group if i in self.plain]
            if plain:
                name = f"{FREE_TEXT} up to {self._shown(plain)}"
                numbers = frozenset(self.plain[i] for i in plain)
                ways.append(seq(self._free(name, self.triggers.before(numbers)), answer))
            special = [Literal(self.answers[i].trigger) for i in group if i not in self.plain]
            if special:
                ways.append(seq(self._plain(), alt(*special), answer))
        return alt(*ways)

    def _together(self, groups: list[list[int]]) -> Expr:
        """One automaton of free text for all, and the triggers behind it.

        While a trigger may be on its way there are two readings, and not one for each group.
        """
        ways = []
        for group in groups:
            triggers = alt(*(Literal(self.answers[i].trigger) for i in group))
            ways.append(seq(triggers, self._answer(group)))
        name = f"{FREE_TEXT} up to {self._shown(range(len(self.answers)))}"
        return seq(self._free(name, self.triggers.without()), alt(*ways))

    def _plain(self) -> Expr:
        if self._without is None:
            self._without = self._free(FREE_TEXT, self.triggers.without())
        return self._without

    def _shown(self, group: Iterable[int]) -> str:
        return " or ".join(repr(_shown(self.answers[i].trigger)) for i in group)

    def _groups(self) -> list[list[int]]:
        """Triggers by what follows them."""
        groups: dict[object, list[int]] = {}
        for i, answer in enumerate(self.answers):
            own = i if answer.trigger in self.inside else None
            groups.setdefault((answer.grammar, answer.ends, own), []).append(i)
        return list(groups.values())

    def _answer(self, group: list[int]) -> Expr:
        """What follows the triggers of a group."""
        answer = self.answers[group[0]]
        inner = answer.grammar.ir
        texts = [self.answers[i].trigger for i in group] + list(answer.ends)
        self.whole.tokens |= dict.fromkeys(name for text in texts for name in names_in(text))
        blanks = _BLANKS if self.shape.blanks_around(answer) else EPSILON
        before = blanks
        if answer.trigger in self.inside:
            inner = quotient(inner, answer.trigger, answer.grammar.limits)
            before = EPSILON
        ends = (seq(blanks if _takes_blanks(end) else EPSILON, Literal(end)) for end in answer.ends)
        return seq(before, self.whole.add(inner), alt(*ends))

    def _free(self, name: str, machine: Machine) -> Expr:
        """A rule of free text: a unit of its own wherever it occurs."""
        body: Expr = machine
        if self.shape.max_length is not None:
            body = both(machine, repeat(ANY_CHAR, 0, self.shape.max_length))
        name = self.whole.name(name)
        self.whole.rules.append(Rule(name, body, shared=True))
        return Ref(name)
