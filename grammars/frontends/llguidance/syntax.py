"""What a grammar in llguidance's dialect of Lark is made of, once it is parsed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from grammars.frontends.llguidance.parameters import TRUE, Argument, Condition


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, from 1."""

    line: int
    column: int


# -- values --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Name:
    """A rule or a terminal, perhaps with an argument (``rule::set_bit(0)``)."""

    name: str
    place: Place
    argument: Argument | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """``"..."``; with ``i`` in any case."""

    value: str
    ignore_case: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Pattern:
    """``/.../flags``."""

    pattern: str
    flags: str
    place: Place


@dataclass(frozen=True, slots=True)
class CharacterRange:
    """``"a".."z"``."""

    low: str
    high: str
    place: Place


@dataclass(frozen=True, slots=True)
class Special:
    """``<name>``, ``<[7]>``, ``<[3-7,9]>``: as written, brackets included."""

    written: str
    place: Place


@dataclass(frozen=True, slots=True)
class Other:
    """``@name``: another grammar."""

    name: str
    place: Place


@dataclass(frozen=True)
class Schema:
    """``%json {...}``."""

    schema: Any
    place: Place


@dataclass(frozen=True)
class Structured:
    """``%regex {...}``."""

    value: Any
    place: Place


@dataclass(frozen=True, slots=True)
class Nested:
    """``%lark {...}``."""

    source: Source
    place: Place


Value: TypeAlias = (
    Name | Text | Pattern | CharacterRange | Special | Other | Schema | Structured | Nested
)


# -- expressions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """``(...)``, or with ``optional`` ``[...]``."""

    body: Alternatives
    optional: bool


@dataclass(frozen=True, slots=True)
class Negation:
    """``~x``."""

    item: Atom
    place: Place


Atom: TypeAlias = Group | Negation | Value


@dataclass(frozen=True, slots=True)
class Repeated:
    """An atom so many times."""

    atom: Atom
    min: int
    max: int | None
    place: Place


Item: TypeAlias = Atom | Repeated


@dataclass(frozen=True, slots=True)
class Branch:
    """Sequences joined by ``&``, with the condition of ``%if``."""

    sequences: tuple[tuple[Item, ...], ...]
    condition: Condition = TRUE


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Branches joined by ``|``."""

    branches: tuple[Branch, ...]
    place: Place

    def single(self) -> Item | None:
        """The only item, if it is one."""
        if len(self.branches) != 1:
            return None
        branch = self.branches[0]
        if branch.condition != TRUE or len(branch.sequences) != 1:
            return None
        items = branch.sequences[0]
        return items[0] if len(items) == 1 else None


# -- definitions ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Attributes:
    """What stands in brackets behind the name of a rule."""

    stop: Value | None = None
    suffix: Value | None = None
    lazy: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    capture: str | None = None
    stop_capture: str | None = None


@dataclass(frozen=True, slots=True)
class RuleDefinition:
    name: str
    parametric: bool
    attributes: Attributes
    body: Alternatives
    place: Place


@dataclass(frozen=True, slots=True)
class TerminalDefinition:
    name: str
    body: Alternatives
    place: Place


@dataclass(slots=True)
class Source:
    """One grammar, or one nested in it.

    Attributes:
        rules, terminals: by name, in the order in which they are written.
        ignored: what ``%ignore`` lists.
        options: of ``%llguidance``, merged.
    """

    rules: dict[str, RuleDefinition] = field(default_factory=dict)
    terminals: dict[str, TerminalDefinition] = field(default_factory=dict)
    ignored: list[Alternatives] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)


START: Final = "start"
