"""Rules without their marks of layout: a grammar that accepts whatever the one with indentation does."""

from __future__ import annotations

from dataclasses import replace

from grammars.composition import Rewriting
from grammars.ir import EPSILON, Expr, GrammarIR, Mark


class _Unmarked(Rewriting):
    def leaf(self, node: Expr) -> Expr | None:
        """What stands for a node."""
        return EPSILON if isinstance(node, Mark) else None


def without_layout(grammar: GrammarIR) -> GrammarIR:
    """The same rules, indentation not looked at (a superset)."""
    unmarked = _Unmarked()
    rules = tuple(replace(rule, body=unmarked(rule.body)) for rule in grammar.rules)
    return replace(grammar, rules=rules, layout=None)
