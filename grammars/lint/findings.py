"""Findings: what a grammar says that its author may not have meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]
"""An error makes a grammar useless, a warning is likely a mistake, a note says what things cost."""

ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark about a grammar.

    Attributes:
        code: its kind, such as ``"ambiguous"``.
        severity: see :data:`Severity`.
        message: what was found.
        advice: what to do about it; may be empty.
        rule: the rule it is about, or ``None``.
        line, column: 1-based place in the grammar's text, or ``None``.
        pointer: JSON pointer into the schema, or ``None``.
        example: a text that shows it, or ``None``.
    """

    code: str
    severity: Severity
    message: str
    advice: str = ""
    rule: str | None = None
    line: int | None = None
    column: int | None = None
    pointer: str | None = None
    example: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that say something, for JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in fields.items() if value not in (None, "")}

    def __str__(self) -> str:
        where = ""
        if self.line is not None:
            where = f"line {self.line}" + (f", column {self.column}" if self.column else "") + ": "
        elif self.pointer is not None:
            where = f"at {self.pointer or '(root)'}: "
        advice = f"\n  {self.advice}" if self.advice else ""
        return f"{where}{self.severity}: {self.message} [{self.code}]{advice}"


@dataclass(frozen=True, slots=True)
class LintReport:
    """All findings about a grammar, the gravest first.

    Attributes:
        findings: the findings.
        undecided: rules in which the search for ambiguities ended for lack of room.
    """

    findings: tuple[Finding, ...]
    undecided: tuple[str, ...] = ()

    @classmethod
    def of(cls, findings: Iterable[Finding], undecided: Iterable[str] = ()) -> LintReport:
        """The report of findings in any order."""
        ranked = sorted(findings, key=lambda f: (ORDER.index(f.severity), f.line or 0))
        return cls(tuple(ranked), tuple(undecided))

    @property
    def holds(self) -> bool:
        """Whether there is neither an error nor a warning."""
        return all(finding.severity == "note" for finding in self.findings)
