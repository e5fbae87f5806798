"""The root of all errors, and every error the grammar layer raises on purpose.

Each error carries the place it is about (line and column, a JSON pointer, or both) and a message
that names the offending text and what to do.  They are all ``ValueError`` so that callers who
validate user input can catch one family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


class GrammaError(Exception):
    """Any error that this package raises on purpose and that has a class of its own.

    All of them can be pickled, with what they say and their attributes, so that a pool of processes
    hands them on.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        plain = super().__reduce__()
        assert isinstance(plain, tuple)
        _, args, *state = plain
        return _remade, (type(self), args), *state


def _remade(kind: type[GrammaError], args: tuple[Any, ...]) -> GrammaError:
    """An error of another process, without the arguments that its message was made of."""
    return kind.__new__(kind, *args)


_LONGEST: Final = 4_000
"""Characters of a message: what quotes a stranger's text says no more of it, however long the text is."""


def _clipped(message: str) -> str:
    """A message without its middle, if it is too long."""
    if len(message) <= _LONGEST:
        return message
    half = _LONGEST // 2
    left_out = len(message) - 2 * half
    return f"{message[:half]} [... {left_out:,} characters ...] {message[-half:]}"


class GrammarError(GrammaError, ValueError):
    """A grammar, schema, pattern or type that cannot be used as it stands.

    Attributes:
        message: what is wrong and what to do, without the place; of a very long one the middle is left out.
        line, column: 1-based position in the grammar text, or ``None``.
        pointer: JSON pointer into the schema (``""`` is the root), or ``None``.
        rule: name of the rule of the intermediate form that it is about, or ``None``.
    """

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        pointer: str | None = None,
    ) -> None:
        self.message = _clipped(message)
        self.line = line
        self.column = column
        self.pointer = pointer
        self.rule: str | None = None
        super().__init__(self._render())

    def has_place(self) -> bool:
        """Whether the error says where in the source it is."""
        return self.line is not None or self.pointer is not None

    def locate(
        self,
        *,
        line: int | None = None,
        column: int | None = None,
        pointer: str | None = None,
        rule: str | None = None,
    ) -> None:
        """Gives an error that was raised far from the source its place; one it has is kept.

        Whoever knows more of the source catches the error, adds what it knows and raises it again,
        so the innermost place is the one that is told.
        """
        if not self.has_place():
            self.line, self.column, self.pointer = line, column, pointer
        if self.rule is None:
            self.rule = rule
        self.args = (self._render(),)

    def move_to(self, pointer: str, about: str) -> None:
        """Gives an error about a part of a document its place in the whole.

        Args:
            pointer: the JSON pointer into the whole.
            about: what the part is; stands before the message.
        """
        self.message = f"{about}: {self.message}"
        self.line = self.column = None
        self.pointer = pointer
        self.args = (self._render(),)

    def _render(self) -> str:
        if self.line is not None:
            where = f"line {self.line}"
            if self.column is not None:
                where += f", column {self.column}"
            return f"{where}: {self.message}"
        if self.pointer is not None:
            return f"at {self.pointer or '/'}: {self.message}" if self.pointer else self.message
        if self.rule is not None and repr(self.rule) not in self.message:
            return f"in rule {self.rule!r}: {self.message}"
        return self.message


class UnsupportedSchemaError(GrammarError):
    """A JSON Schema keyword that this version does not constrain exactly, and therefore refuses.

    Attributes:
        keyword: the keyword, as written in the schema.
    """

    def __init__(self, message: str, *, pointer: str, keyword: str) -> None:
        self.keyword = keyword
        super().__init__(message, pointer=pointer)

    def _render(self) -> str:
        return f"at {self.pointer or '(root)'}: {self.message}"


_INSTEAD: Final = {
    "max_dfa_states": "have what is counted begin in one way only ([^a]*a.{20} instead of .*a.{20}) "
    "or count less",
    "max_program_states": "use smaller bounds of repetitions, or rules instead of copies",
    "max_expression_nodes": "use smaller bounds of repetitions, or rules instead of copies",
    "max_items": "make the grammar less ambiguous (gramma lint says where)",
    "max_states": "forget states that are no longer needed with TokenAutomaton.trim",
    "max_work": "split the grammar, or write less of what multiplies: alternatives of alternatives, counts "
    "of counts, intersections",
    "max_schema_branches": "use fewer anyOf, oneOf and if in one place, or tell alternatives apart by a "
    "required property with const",
}
"""What helps instead of raising a limit; where nothing is said, a simpler grammar does."""


class LimitExceeded(GrammarError):  # noqa: N818 - the name is part of the contract
    """A resource limit of :class:`grammars.Limits` was reached.

    Attributes:
        limit: name of the field of ``Limits``.
        value: its current value.
        rows: where several rows were asked for at once, the error of each that failed, by its number;
            the others have their answers.
    """

    def __init__(
        self,
        limit: str,
        value: int,
        doing: str,
        *,
        instead: str | None = None,
        line: int | None = None,
        column: int | None = None,
        pointer: str | None = None,
    ) -> None:
        self.limit = limit
        self.value = value
        self.rows: dict[int, LimitExceeded] = {}
        super().__init__(
            f"{doing} needs more than Limits.{limit} = {value:,}; "
            f"{instead or _INSTEAD.get(limit, 'simplify the grammar')}, or raise it with "
            f"limits=Limits({limit}=...)",
            line=line,
            column=column,
            pointer=pointer,
        )

    @staticmethod
    def of_rows(failed: Mapping[int, LimitExceeded]) -> LimitExceeded:
        """The error of the first row that failed, which has those of all."""
        first = failed[min(failed)]
        first.rows = dict(sorted(failed.items()))
        return first

    def _render(self) -> str:
        if self.line is None and self.pointer == "":
            return f"at (root): {self.message}"
        return super()._render()


class UnknownStateError(GrammaError, ValueError):
    """An integer that is no state of an automaton, or that of one it was told to forget."""


class BudgetError(GrammarError):
    """No text of the language fits the token budget (or budget and prompt exceed the context).

    Attributes:
        needed: the fewest tokens that would do, EOS included.
        available: the tokens there are.
    """

    def __init__(self, message: str, *, needed: int, available: int) -> None:
        self.needed = needed
        self.available = available
        super().__init__(message)


class LexingWarning(UserWarning):
    """Rules or terminals of a Lark grammar that its way of lexing never reads; another one would."""


class UnkeptConstraintWarning(UserWarning):
    """A constraint of a type that its grammar does not keep: pydantic may refuse what it writes."""
