"""Findings about grammars that are valid and perhaps not meant."""

from grammars.lint.ambiguity import Ambiguity, AmbiguityReport, find_ambiguities
from grammars.lint.check import lint, lint_grammar
from grammars.lint.findings import Finding, LintReport, Severity

__all__ = [
    "Ambiguity",
    "AmbiguityReport",
    "Finding",
    "LintReport",
    "Severity",
    "find_ambiguities",
    "lint",
    "lint_grammar",
]
