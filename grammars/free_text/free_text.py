"""Free text, then a format: what ``Grammar.free_text`` builds.

Each trigger becomes one rule, "text up to and including this trigger, before any other", whose
automaton (:class:`~grammars.free_text.triggers.Triggers`) is deterministic: inside it the masks of free text
are those of one lexeme, worked out once for a vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from grammars import ir
from grammars.compiling.quotient import quotient, unused
from grammars.composition import Renaming
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
    Section,
    alt,
    both,
    optional,
    repeat,
    seq,
)
from grammars.limits import Limits
from grammars.program import Program
from grammars.special_tokens import (
    SpecialToken,
    check_free,
    framed,
    is_framed,
    name_of,
    names_in,
    shown,
)
from grammars.uniqueness.sections import BLANK_BYTES

_NAME: Final = "text"
_JSON_STARTS: Final = frozenset(b'{["')
"""First bytes of JSON values whose end can be seen from what they are alone."""
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
    @property
    def program(self) -> Program: ...
    @property
    def is_empty(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What follows a trigger.

    Attributes:
        trigger: the trigger's bytes; a special token is framed.
        grammar: of the text behind it.
        end: a text behind that.
    """

    trigger: bytes
    grammar: Language
    end: bytes = b""


@dataclass(frozen=True, slots=True)
class Shape:
    """The options of ``Grammar.free_text``."""

    required: bool = True
    repeat: bool = False
    max_length: int | None = None
    trigger_in_answer: bool = False
    blanks: bool | None = None

    def blanks_around(self, answer: Answer) -> bool:
        """Whether blanks may stand between trigger and answer, and answer and closing text."""
        return answer.grammar.ir.json if self.blanks is None else self.blanks


def answers_of(entries: Iterable[tuple[Any, ...]], kind: type[Language]) -> list[Answer]:
    """(trigger, grammar) and (trigger, grammar, end), checked.

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
            return Answer(_bytes(trigger), grammar, _bytes(end))
    raise TypeError(
        "free text needs (trigger, Grammar) or (trigger, Grammar, end) with texts or special tokens for "
        f"trigger and end, not {entry!r}"
    )


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


def free_text_to_ir(answers: Sequence[Answer], shape: Shape) -> GrammarIR:
    """The rules of free text with these answers; see ``Grammar.free_text`` for the meaning.

    Raises:
        GrammarError: for triggers or bounds that make no sense, or an answer that needs memory
            where its end cannot be seen.
    """
    _check(answers, shape)
    return _Builder(answers, shape).grammar()


def _check(answers: Sequence[Answer], shape: Shape) -> None:
    if not answers:
        raise GrammarError("free text needs at least one trigger with the grammar that follows it")
    if shape.blanks and shape.trigger_in_answer and not any(_takes_blanks(a) for a in answers):
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


def _takes_blanks(answer: Answer) -> bool:
    """Whether blanks before the closing text can be told from those that it begins with."""
    return answer.end != b"" and answer.end[0] not in BLANK_BYTES


class _Builder:
    def __init__(self, answers: Sequence[Answer], shape: Shape) -> None:
        self.answers = answers
        self.shape = shape
        # a special token is no text: free text cannot have one, and needs no automaton to stop at it
        plain = [i for i, answer in enumerate(answers) if not is_framed(answer.trigger)]
        self.plain = {i: number for number, i in enumerate(plain)}
        self.triggers = Triggers([answers[i].trigger for i in plain])
        self.tokens: dict[str, None] = {}
        self.rules: list[Rule] = []
        self.notes: dict[str, None] = {}
        self.taken = {_NAME}
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
        rules = (Rule(_NAME, body), *self.rules)
        notes = tuple(self.notes) if shape.required else ()
        made = replace(self._memory(), rules=rules, notes=notes, tokens=tuple(self.tokens))
        if made.tokens:
            check_free(made)
        return made

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
        return " or ".join(repr(shown(self.answers[i].trigger).decode()) for i in group)

    def _groups(self) -> list[list[int]]:
        """Triggers by what follows them."""
        groups: dict[object, list[int]] = {}
        for i, answer in enumerate(self.answers):
            own = i if self.shape.trigger_in_answer else None
            groups.setdefault((answer.grammar, answer.end, own), []).append(i)
        return list(groups.values())

    def _answer(self, group: list[int]) -> Expr:
        """What follows the triggers of a group."""
        answer = self.answers[group[0]]
        inner, limits = answer.grammar.ir, answer.grammar.limits
        self.notes |= dict.fromkeys(inner.notes)
        named = [name for i in group for name in names_in(self.answers[i].trigger + answer.end)]
        self.tokens |= dict.fromkeys([*named, *inner.tokens])
        blanks = _BLANKS if self.shape.blanks_around(answer) else EPSILON
        before = blanks
        if self.shape.trigger_in_answer:
            inner = quotient(inner, answer.trigger, limits)
            before = EPSILON
        behind = blanks if _takes_blanks(answer) else EPSILON
        return seq(before, Ref(self._add(inner)), behind, Literal(answer.end))

    def _free(self, name: str, machine: Machine) -> Expr:
        """A rule of free text: a unit of its own wherever it occurs."""
        body: Expr = machine
        if self.shape.max_length is not None:
            body = both(machine, repeat(ANY_CHAR, 0, self.shape.max_length))
        name = unused(name, self.taken)
        self.rules.append(Rule(name, body, shared=True))
        return Ref(name)

    def _add(self, grammar: GrammarIR) -> str:
        """Adds a grammar's rules under names of their own; returns that of the first."""
        names = {rule.name: unused(rule.name, self.taken) for rule in grammar.rules}
        renamed = Renaming(names)
        self.rules += [
            replace(rule, name=names[rule.name], body=renamed(rule.body)) for rule in grammar.rules
        ]
        return names[grammar.start]

    # -- memory --------------------------------------------------------------------------------

    def _memory(self) -> GrammarIR:
        """A grammar without rules that asks for the memory which the answers need."""
        grammars = [answer.grammar.ir for answer in self.answers]
        distinct = any(g.distinct_keys for g in grammars)
        compared = any(g.compare_items for g in grammars)
        bare = GrammarIR((), _NAME)
        if not distinct and not compared:
            return bare
        if self.shape.repeat:
            for answer in self.answers:
                _check_end(answer)
        return replace(
            bare,
            distinct_keys=distinct,
            compare_items=compared,
            sections=tuple(self._section(answer) for answer in self.answers),
            repeated=self.shape.repeat,
        )

    def _section(self, answer: Answer) -> Section:
        inner = answer.grammar.ir
        return Section(
            answer.trigger,
            answer.end,
            self.shape.trigger_in_answer,
            inner.distinct_keys,
            inner.compare_items,
            inner.sections,
            inner.repeated,
        )


def _check_end(answer: Answer) -> None:
    """Memory must see where an answer ends, to sleep through the free text behind it."""
    if answer.grammar.is_empty:
        return
    program = answer.grammar.program
    first = {b for b in range(256) if _begins(program.first[program.start], program.byte_class[b])}
    if not answer.grammar.ir.json or not first <= _JSON_STARTS:
        raise GrammarError(
            f"the answer to {shown(answer.trigger).decode()!r} must be a JSON object, array or string, as "
            "repeat=True goes on with free text behind it and an answer here compares keys or items "
            "(uniqueItems, or an object with keys of any name): where it ends must show.  Make it "
            "one, or leave repeat out"
        )


def _begins(classes: Iterable[int], byte_class: int) -> bool:
    return bool(int(list(classes)[byte_class >> 6]) >> (int(byte_class) & 63) & 1)
