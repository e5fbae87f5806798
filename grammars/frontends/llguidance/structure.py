"""Rules over lexemes: what a grammar of llguidance's dialect says once its terminals are apart.

llguidance is a parser over lexemes.  Here every string, pattern and terminal that a rule refers to is
such a lexeme, a regular expression with a number; rules are sequences, alternatives and repetitions
of lexemes, of other rules, and of parts that are grammars of their own (JSON).  Rules with a parameter
are written out for every value that they are given.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from grammars.compiling.automata import ALL_BYTES, Dfa
from grammars.compiling.compiler import regular_dfa
from grammars.errors import GrammarError, LimitExceeded, UnkeptConstraintWarning
from grammars.frontends.llguidance.first_bytes import is_nullable
from grammars.frontends.llguidance.parameters import TRUE
from grammars.frontends.llguidance.syntax import (
    START,
    Alternatives,
    Atom,
    CharacterRange,
    Group,
    Item,
    Name,
    Negation,
    Nested,
    Other,
    Pattern,
    Place,
    Repeated,
    RuleDefinition,
    Schema,
    Source,
    Special,
    Structured,
    Text,
    Value,
)
from grammars.frontends.llguidance.terminals import Terminals, error_at
from grammars.ir import (
    EPSILON,
    NOTHING,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    alt,
    repeat,
    seq,
    single_rule,
)
from grammars.limits import Limits
from grammars.special_tokens import framed, name_of

_MAX_INSTANCES: Final = 20_000
"""Values of parameters for which rules are written out, together."""
_APART: Final = 64
"""Tokens of one place up to which each is a lexeme of its own."""
_MAX_TOKENS: Final = 4_096
"""Special tokens that one place may list."""


# -- nodes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lex:
    """A text of a lexeme (never empty)."""

    lexeme: int


@dataclass(frozen=True, slots=True)
class Part:
    """A text of another grammar."""

    part: int


@dataclass(frozen=True, slots=True)
class Call:
    """A text of a rule."""

    rule: str


@dataclass(frozen=True, slots=True)
class Cat:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Rep:
    item: Node
    min: int
    max: int | None


Node: TypeAlias = Lex | Part | Call | Cat | Or | Rep

EMPTY: Final = Cat(())
NEVER: Final = Or(())


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A lexeme.

    Attributes:
        expr: its texts, the empty one among them or not.
        lazy: it ends as soon as it may, and cuts all other lexemes off.
        free: it may end wherever it matches, even if it could go on.
        group: lexemes of a grammar and of those nested in it that ignore the same text.
        name: for people and for rules.
    """

    expr: Expr
    lazy: bool
    free: bool
    group: int
    name: str


@dataclass(frozen=True, slots=True)
class Skip:
    """What a group ignores between lexemes.

    Attributes:
        lexeme: its number, or ``None``.
        once: only one text of it between two lexemes.
        parent: the group of the grammar around; ``None`` outside.
    """

    lexeme: int | None
    once: bool
    parent: int | None


@dataclass(frozen=True, slots=True)
class OtherPart:
    """A grammar that stands in this one.

    Attributes:
        ir: the grammar.
        merged: text may be ignored before it, since it ignores the same text itself.
        place: where it is written first.
    """

    ir: GrammarIR
    merged: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Stopped:
    """A text that ends with another one.

    Attributes:
        text: what is captured as the rule's.
        end: what comes behind it.
        end_capture: the name under which that is captured, if it is.
        group: of ignored text, as that of a lexeme.
    """

    text: Expr
    end: Expr
    end_capture: str | None
    group: int


@dataclass
class Structure:
    """A grammar over lexemes.

    Attributes:
        rules: by name; ``start`` is among them.
        places: where rules are written.
        captures: by rule, the name under which its text is captured.
        stopped: of captured rules with ``suffix``, in two parts.
    """

    rules: dict[str, Node] = field(default_factory=dict)
    lexemes: list[Lexeme] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    parts: list[OtherPart] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    captures: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, Stopped] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    tokens: dict[str, None] = field(default_factory=dict)
    initial_skip: bool = False


def structure_of(
    source: Source, start: str, limits: Limits, grammars: Mapping[str, GrammarIR]
) -> Structure:
    """Takes a parsed grammar apart.

    Args:
        source: the grammar.
        start: the rule to start from.
        limits: bounds on what it may cost.
        grammars: what ``@name`` refers to.

    Raises:
        GrammarError: for what is no grammar of the dialect, or what no grammar of texts can keep.
    """
    out = _Structuring(limits, grammars)
    out.grammar(source, start, "", None)
    return out.structure


class _Structuring:
    """What all grammars nested in each other share."""

    def __init__(self, limits: Limits, grammars: Mapping[str, GrammarIR]) -> None:
        self.structure = Structure()
        self.limits = limits
        self.grammars = grammars
        self.instances = 0
        self._groups: dict[tuple[Expr, bool], int] = {}
        self._lexemes: dict[tuple[Expr, bool, bool, int], int] = {}
        self._parts: dict[int, int] = {}
        self._nullable: dict[Expr, bool] = {}
        self._nested = 0

    def grammar(self, source: Source, start: str, prefix: str, around: int | None) -> str:
        """Adds a grammar; returns the name of its start rule."""
        return _OneGrammar(self, source, prefix, around).run(start)

    def nested_prefix(self) -> str:
        """The beginning of the names of rules of the next nested grammar."""
        self._nested += 1
        return f"lark{self._nested}."

    def group(self, skip: Expr, once: bool, around: int | None) -> int:
        """The group of a grammar that ignores so."""
        known = self._groups.get((skip, once))
        if known is not None:
            return known
        number = self._groups[skip, once] = len(self.structure.skips)
        self.structure.skips.append(Skip(None, once, around))
        if skip != NOTHING:
            # a number of its own, whatever rules refer to the same text
            lexeme = Lexeme(skip, False, False, number, f"ignored{number or ''}")
            self.structure.skips[number] = Skip(len(self.structure.lexemes), once, around)
            self.structure.lexemes.append(lexeme)
        return number

    def lexeme(
        self, expr: Expr, name: str, group: int, *, lazy: bool = False, free: bool = False
    ) -> int:
        """The number of a lexeme."""
        key = (expr, lazy, free, group)
        known = self._lexemes.get(key)
        if known is None:
            known = self._lexemes[key] = len(self.structure.lexemes)
            self.structure.lexemes.append(Lexeme(expr, lazy, free, group, name))
        return known

    def nullable(self, expr: Expr) -> bool:
        """Whether a lexeme has the empty text."""
        if expr not in self._nullable:
            self._nullable[expr] = is_nullable(expr)
        return self._nullable[expr]

    def dfa(self, expr: Expr) -> Dfa:
        """The automaton of a regular expression, without counters."""
        return regular_dfa(single_rule(expr), expr, self.limits)

    def part(self, ir: GrammarIR, merged: bool, place: Place) -> Part:
        """A part that is a grammar of its own."""
        if id(ir) not in self._parts:
            self._parts[id(ir)] = len(self.structure.parts)
            self.structure.parts.append(OtherPart(ir, merged, place))
        return Part(self._parts[id(ir)])

    def note(self, text: str) -> None:
        self.structure.notes[text] = None


_JSON_BLANKS: Final = repeat(alt(*(Literal(c) for c in (b" ", b"\n", b"\r", b"\t"))), 1)


class _OneGrammar:
    """One grammar: the whole, or one nested in it."""

    def __init__(
        self, whole: _Structuring, source: Source, prefix: str, around: int | None
    ) -> None:
        self._whole = whole
        self._source = source
        self._prefix = prefix
        self._terminals = Terminals(source, whole.limits)
        options = self._options(source)
        ignored = alt(*(self._terminals.alternatives(body) for body in source.ignored))
        self._skip = ignored
        self._group = whole.group(ignored, options["ignore_once"], around)
        self._todo: list[tuple[str, int | None]] = []

    def _options(self, source: Source) -> dict[str, bool]:
        options = {
            key: bool(source.options.get(key, False))
            for key in ("ignore_once", "allow_initial_skip", "allow_invalid_utf8", "no_forcing")
        }
        for key in source.options:
            if key not in options:
                self._whole.note(f"the option {key!r} of %llguidance is not known and does nothing")
        if options["allow_invalid_utf8"]:
            raise error_at(
                source.places["allow_invalid_utf8"],
                "allow_invalid_utf8 is not supported in Lark texts: grammars are about text in UTF-8; "
                "bytes of any kind are what Grammar.from_choices([b'...']) and grammars.ir describe",
            )
        if options["allow_initial_skip"]:
            self._whole.structure.initial_skip = True
        return options

    def run(self, start: str) -> str:
        """Adds all rules that are reached; returns the name of the start rule."""
        if start not in self._source.rules:
            have = ", ".join(list(self._source.rules)[:8]) or "none"
            raise GrammarError(
                f"no {start} rule found; the rules are: {have} (start= names another)",
                line=1,
                column=1,
            )
        definition = self._source.rules[start]
        if definition.parametric:
            raise error_at(
                definition.place,
                f"rule {start!r} is parametric, but no parameter provided: add a rule that gives one",
            )
        name = self._instance(start, None)
        while self._todo:
            self._add(*self._todo.pop())
        return name

    def _instance(self, rule: str, value: int | None) -> str:
        """The name of a rule for a value of its parameter; the rule is added if it is new."""
        name = self._prefix + (rule if value is None else f"{rule}::{value:#x}")
        if name not in self._whole.structure.rules:
            self._whole.structure.rules[name] = NEVER
            definition = self._source.rules[rule]
            self._whole.structure.places[name] = definition.place
            if value is not None:
                self._whole.instances += 1
                if self._whole.instances > _MAX_INSTANCES:
                    raise error_at(
                        definition.place,
                        f"rule {rule!r} is given more than {_MAX_INSTANCES:,} parameters; bound them "
                        "with %if, or use fewer bits",
                    )
            self._todo.append((rule, value))
        return name

    # -- rules ------------------------------------------------------------------------------------

    def _add(self, rule: str, value: int | None) -> None:
        definition = self._source.rules[rule]
        name = self._instance(rule, value)
        try:
            self._whole.structure.rules[name] = self._definition(definition, value)
        except LimitExceeded as error:
            error.locate(line=definition.place.line, column=definition.place.column, rule=rule)
            raise
        self._capture(definition, name)

    def _capture(self, rule: RuleDefinition, name: str) -> None:
        given = rule.attributes
        structure = self._whole.structure
        if given.capture is not None:
            structure.captures[name] = given.capture
        if given.stop_capture is not None and given.suffix is None:
            self._say(
                rule,
                f"the stop_capture {given.stop_capture!r} of rule {rule.name!r} does not come back: the "
                "text that stops it is no part of the rule here; write suffix= for stop=",
            )
        elif given.suffix is not None and (given.capture or given.stop_capture):
            body, end = self._terminals.alternatives(rule.body), self._terminals.item(given.suffix)
            if end != EPSILON:
                text = self._stopped(body, end)
                structure.stopped[name] = Stopped(text, end, given.stop_capture, self._group)

    def _definition(self, rule: RuleDefinition, value: int | None) -> Node:
        given = rule.attributes
        stop = given.stop if given.stop is not None else given.suffix
        self._check(rule, stop)
        if given.max_tokens is not None:
            if given.max_tokens == 0:
                return EMPTY
            raise error_at(
                rule.place,
                f"max_tokens={given.max_tokens} of rule {rule.name!r} counts tokens, which a grammar "
                "of texts does not know; bound characters instead, as in /(?s:.){0,400}/, or the whole "
                "answer with max_new_tokens",
            )
        if given.temperature is not None:
            self._say_temperature(rule)
            if not isinstance(rule.body.single(), Other | Schema | Nested):
                return self._lexeme(self._terminals.alternatives(rule.body), rule.name)
        if stop is not None:
            return self._until(rule, stop)
        if given.lazy:
            return self._lexeme(self._terminals.alternatives(rule.body), rule.name, lazy=True)
        if rule.parametric and not self._depends(rule.body):
            raise error_at(
                rule.place,
                f"rule {rule.name!r} is parametric, but its body doesn't need parameters",
            )
        if not rule.parametric and self._depends(rule.body):
            raise error_at(
                rule.place,
                f"rule {rule.name!r} is not parametric, but its body requires parameters",
            )
        return self._alternatives(rule.body, value, rule.name)

    def _check(self, rule: RuleDefinition, stop: Value | None) -> None:
        given = rule.attributes
        if rule.parametric:
            for name, present in (
                ("stop-like", stop is not None or given.lazy),
                ("temperature=", given.temperature is not None),
                ("max_tokens=", given.max_tokens is not None),
            ):
                if present:
                    raise error_at(
                        rule.place, f"{name} is not supported for parametric rules: {rule.name!r}"
                    )
        if given.stop_capture is not None and stop is None:
            raise error_at(rule.place, "stop_capture requires stop= or suffix=")

    def _say_temperature(self, rule: RuleDefinition) -> None:
        self._say(
            rule,
            f"temperature={rule.attributes.temperature:g} of rule {rule.name!r} is not applied: a "
            "grammar says what may be written, not how likely; give the sampler its temperature",
        )

    def _say(self, rule: RuleDefinition, text: str) -> None:
        self._whole.note(text)
        warnings.warn(f"line {rule.place.line}: {text}", UnkeptConstraintWarning, stacklevel=2)

    def _depends(self, body: Alternatives) -> bool:
        """Whether something in a body needs the parameter of the rule."""
        for branch in body.branches:
            if branch.condition != TRUE:
                return True
            for items in branch.sequences:
                for item in items:
                    atom = item.atom if isinstance(item, Repeated) else item
                    if isinstance(atom, Name) and atom.argument and atom.argument.depends:
                        return True
                    if isinstance(atom, Group) and self._depends(atom.body):
                        return True
        return False

    def _until(self, rule: RuleDefinition, stop: Value) -> Node:
        """A rule with ``stop`` or ``suffix``."""
        body = self._terminals.alternatives(rule.body)
        end = self._terminals.item(stop)
        lazy = end != EPSILON
        if rule.attributes.suffix is not None:
            return self._lexeme(seq(body, end), rule.name, lazy=lazy)
        if not lazy:
            self._whole.note(
                f'stop="" of rule {rule.name!r}: no token is hidden here; the rule ends where what '
                "follows it begins"
            )
            return self._lexeme(body, rule.name, free=True)
        self._whole.note(
            f"stop= of rule {rule.name!r}: the text that stops it is not hidden from the model here; "
            "the rule ends before it, and what follows is written at once"
        )
        return self._lexeme(self._stopped(body, end), rule.name, free=True)

    def _stopped(self, body: Expr, stop: Expr) -> Expr:
        """The texts of ``body`` behind which ``stop`` comes for the first time."""
        whole = self._whole.dfa(seq(body, stop))
        ends = self._whole.dfa(stop)
        edges = [[] if whole.accept[q] else row for q, row in enumerate(whole.edges)]
        edges[whole.start] = whole.edges[whole.start]
        accept = []
        for q in range(len(whole)):
            accept.append(_reaches(edges, whole.accept, q, ends))
        return machine_of(edges, accept, whole.start)

    # -- bodies -----------------------------------------------------------------------------------

    def _lexeme(self, expr: Expr, name: str, *, lazy: bool = False, free: bool = False) -> Node:
        if expr == EPSILON:
            return EMPTY
        if expr == NOTHING:
            return NEVER
        number = self._whole.lexeme(expr, self._prefix + name, self._group, lazy=lazy, free=free)
        return optional(Lex(number)) if self._whole.nullable(expr) else Lex(number)

    def _alternatives(self, body: Alternatives, value: int | None, name: str) -> Node:
        out = []
        for branch in body.branches:
            if len(branch.sequences) > 1:
                raise error_at(
                    body.place,
                    "& is only supported for tokens, not rules; try renaming the rule to UPPERCASE",
                )
            if branch.condition == TRUE or (value is not None and branch.condition.holds(value)):
                out.append(cat(self._item(item, value, name) for item in branch.sequences[0]))
        return either(out)

    def _item(self, item: Item, value: int | None, name: str) -> Node:
        if isinstance(item, Repeated):
            return rep(self._atom(item.atom, value, name), item.min, item.max)
        return self._atom(item, value, name)

    def _atom(self, atom: Atom, value: int | None, name: str) -> Node:
        match atom:
            case Group(body, is_optional):
                inner = self._alternatives(body, value, name)
                return optional(inner) if is_optional else inner
            case Name(referred, place, argument):
                if referred in self._source.rules:
                    return self._reference(atom, value)
                if argument is not None:
                    raise error_at(place, f"rule {referred!r} is not defined")
                return self._lexeme(self._terminals.named(referred, place), referred)
            case Special():
                return self._special(atom)
            case Other(referred, place):
                known = self._whole.grammars.get(referred)
                if known is None:
                    raise error_at(
                        place,
                        f"there is no grammar {referred!r}; give it with rules={{{referred!r}: ...}}",
                    )
                return self._whole.part(known, merged=False, place=place)
            case Schema():
                return self._schema(atom)
            case Nested(source):
                inner_name = self._whole.grammar(
                    source, START, self._whole.nested_prefix(), self._group
                )
                return Call(inner_name)
            case Text() | Pattern() | CharacterRange() | Structured() | Negation():
                return self._lexeme(self._terminals.item(atom), _shown(atom, name))
        raise TypeError(atom)

    def _reference(self, name: Name, value: int | None) -> Node:
        rule = self._source.rules[name.name]
        if rule.parametric and name.argument is None:
            raise error_at(
                name.place, f"rule {name.name!r} is parametric, but no parameter provided"
            )
        if not rule.parametric and name.argument is not None:
            raise error_at(
                name.place, f"rule {name.name!r} is not parametric, but parameter provided"
            )
        given = None if name.argument is None else name.argument.of(value or 0)
        return Call(self._instance(name.name, given))

    def _schema(self, schema: Schema) -> Node:
        from grammars.frontends.llguidance.schemas import schema_to_ir

        return self._whole.part(
            schema_to_ir(schema, self._whole.limits),
            merged=self._skip == _JSON_BLANKS,
            place=schema.place,
        )

    # -- special tokens ---------------------------------------------------------------------------

    def _special(self, special: Special) -> Node:
        written = special.written
        if not (written.startswith("<[") and written.endswith("]>")):
            return self._tokens([written])
        listed = written[2:-2]
        if listed.startswith("^"):
            if listed == "^*":
                raise error_at(special.place, "negated wildcard token <[^*]> is not supported")
            raise error_at(
                special.place,
                f"{written} depends on the size of the vocabulary, which a grammar does not know; list "
                "the ids that are allowed, as in <[128000-128255]>",
            )
        if "*" in listed:
            if listed == "*":
                raise error_at(
                    special.place,
                    "<[*]> is any token of a vocabulary, which a grammar does not know; list the ids, "
                    "as in <[128000-128255]>, or write any character as /(?s:.)/",
                )
            raise error_at(
                special.place, "wildcard token range '*' must not contain additional tokens"
            )
        return self._tokens(list(map(name_of, self._ids(listed, special.place))))

    @staticmethod
    def _ids(listed: str, place: Place) -> list[int]:
        out: dict[int, None] = {}
        for part in filter(None, (x.strip() for x in listed.split(","))):
            ends = [x.strip() for x in part.split("-")]
            if len(ends) > 2 or not all(x.isdecimal() and len(x) <= 10 for x in ends):
                raise error_at(place, f"invalid token range: {part!r}")
            low, high = int(ends[0]), int(ends[-1])
            if high < low:
                raise error_at(place, f"invalid token range: {part!r} ends before it starts")
            if len(out) + high - low >= _MAX_TOKENS:
                raise error_at(
                    place, f"this place lists more than {_MAX_TOKENS:,} tokens; list fewer"
                )
            out |= dict.fromkeys(range(low, high + 1))
        if not out:
            raise error_at(place, "empty token range")
        return list(out)

    def _tokens(self, names: list[str]) -> Node:
        self._whole.structure.tokens |= dict.fromkeys(names)
        if len(names) <= _APART:  # places that share some of their tokens then share lexemes
            return either(self._lexeme(Literal(framed(name)), name) for name in names)
        expr = alt(*(Literal(framed(name)) for name in names))
        return self._lexeme(expr, names[0] if len(names) == 1 else f"{names[0]}...")


def _shown(value: Value | Negation, rule: str) -> str:
    return f"{rule}.{value.value[:12]}" if isinstance(value, Text) else f"{rule}.text"


def cat(items: Any) -> Node:
    """Nodes on end."""
    out: list[Node] = []
    for item in items:
        if item == NEVER:
            return NEVER
        out += item.items if isinstance(item, Cat) else (item,)
    return out[0] if len(out) == 1 else Cat(tuple(out))


def either(items: Any) -> Node:
    """Any of the nodes."""
    out: dict[Node, None] = {}
    for item in items:
        out |= dict.fromkeys(item.items if isinstance(item, Or) else (item,))
    return next(iter(out)) if len(out) == 1 else Or(tuple(out))


def optional(item: Node) -> Node:
    """The node or nothing."""
    return EMPTY if item == NEVER else either([EMPTY, item])


def rep(item: Node, low: int, high: int | None) -> Node:
    """So many of the node."""
    if item == EMPTY or high == 0:
        return EMPTY
    if item == NEVER:
        return EMPTY if low == 0 else NEVER
    if (low, high) == (0, 1):
        return optional(item)
    return item if (low, high) == (1, 1) else Rep(item, low, high)


def _reaches(
    edges: list[list[tuple[int, int, int]]], accept: list[bool], start: int, words: Dfa
) -> bool:
    """Whether some word leads from a state to an accepting one."""
    seen = {(start, words.start)}
    stack = list(seen)
    while stack:
        state, word = stack.pop()
        if words.accept[word] and accept[state]:
            return True
        for mask, target, _ in edges[state]:
            for other, further, _ in words.edges[word]:
                if mask & other & ALL_BYTES and (target, further) not in seen:
                    seen.add((target, further))
                    stack.append((target, further))
    return False


def machine_of(edges: list[list[tuple[int, int, int]]], accept: list[bool], start: int) -> Expr:
    """An automaton over masks of bytes as an expression, useless states left out."""
    into: list[list[int]] = [[] for _ in edges]
    for state, row in enumerate(edges):
        for _, target, _ in row:
            into[target].append(state)
    useful = {q for q, accepts in enumerate(accept) if accepts}
    stack = list(useful)
    while stack:
        for source in into[stack.pop()]:
            if source not in useful:
                useful.add(source)
                stack.append(source)
    if start not in useful:
        return NOTHING
    index = {start: 0}
    order = [start]
    out: list[tuple[tuple[int, int, int], ...]] = []
    for state in order:  # grows while we iterate
        row_out: list[tuple[int, int, int]] = []
        for mask, target, _ in edges[state]:
            if target not in useful:
                continue
            if target not in index:
                index[target] = len(order)
                order.append(target)
            row_out += [(low, high, index[target]) for low, high in byte_ranges(mask)]
        out.append(tuple(sorted(row_out)))
    if len(order) == 1 and not out[0]:
        return EPSILON
    return Machine(tuple(out), tuple(accept[q] for q in order))


def byte_ranges(mask: int) -> list[tuple[int, int]]:
    """The runs of ones of a mask of bytes."""
    out = []
    at = 0
    mask &= ALL_BYTES
    while mask:
        zeros = (mask & -mask).bit_length() - 1
        mask >>= zeros
        at += zeros
        ones = (~mask & (mask + 1)).bit_length() - 1
        out.append((at, at + ones - 1))
        mask >>= ones
        at += ones
    return out
