"""All checks of one grammar text."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from grammars.errors import GrammarError, LexingWarning
from grammars.files import Kind
from grammars.grammar import Grammar
from grammars.lint.ambiguity import MOST_WORK
from grammars.lint.findings import Finding, LintReport
from grammars.lint.rules import ambiguity_findings, rule_findings
from grammars.lint.schema import schema_findings
from grammars.storage import is_saved


def lint(
    text: str, kind: Kind, read: Callable[[], Grammar], *, ambiguity: bool = True
) -> tuple[LintReport, Grammar | None]:
    """Checks a grammar.

    Args:
        text: the grammar's text.
        kind: its kind, as :data:`grammars.files.KINDS` names them.
        read: makes the grammar of the text.
        ambiguity: search for texts that are read in two ways; up to about ten seconds.

    Returns:
        The findings, and the grammar; ``None`` if the text is none, which is then the only finding.
    """
    caught: list[warnings.WarningMessage]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            grammar = read()
        except GrammarError as error:
            return LintReport.of([_of_error(error)]), None
    warned = [w.message for w in caught if isinstance(w.message, Warning)]
    return lint_grammar(text, kind, grammar, warned, ambiguity=ambiguity), grammar


def lint_grammar(
    text: str,
    kind: Kind,
    grammar: Grammar,
    warned: Iterable[Warning] = (),
    *,
    ambiguity: bool = True,
    most_work: int = MOST_WORK,
) -> LintReport:
    """Checks a grammar that has been read.

    Args:
        text, kind, ambiguity: as in :func:`lint`.
        grammar: made of the text.
        warned: the warnings that reading it brought.
        most_work: of the search for ambiguity, as :func:`find_ambiguities` takes it.
    """
    findings = [_of_warning(w) for w in warned]
    is_schema = kind == "json" and not is_saved(text)
    if grammar.is_empty:
        findings.append(_of_emptiness(grammar))
    if is_schema:
        findings += schema_findings(json.loads(text))
        return LintReport.of(findings)
    findings += _unused(text, kind)
    undecided: tuple[str, ...] = ()
    if kind != "regex":
        findings += rule_findings(grammar.ir, grammar.limits)
    if ambiguity and kind in ("gbnf", "lark"):
        found, undecided = ambiguity_findings(grammar.ir, grammar.limits, most_work)
        findings += found
    return LintReport.of(findings, undecided)


def _of_error(error: GrammarError) -> Finding:
    place: dict[str, Any] = {"line": error.line, "column": error.column, "pointer": error.pointer}
    return Finding("invalid", "error", error.message, rule=error.rule, **place)


def _of_warning(warning: Warning) -> Finding:
    code = "never-read" if isinstance(warning, LexingWarning) else "warning"
    return Finding(code, "warning", str(warning))


def _of_emptiness(grammar: Grammar) -> Finding:
    return Finding("empty", "error", grammar.explain(b"").message, "loosen what contradicts")


def _unused(text: str, kind: Kind) -> Iterator[Finding]:
    if kind == "lark":
        from grammars.frontends.lark.unused import unused_names  # late, as all of Lark is

        for name, line, column in unused_names(text):
            what = "terminal" if name.isupper() else "rule"
            yield Finding(
                "unreachable",
                "warning",
                f"{what} {name!r} is never used",
                "remove it, or refer to it",
                rule=name,
                line=line,
                column=column,
            )
