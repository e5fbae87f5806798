"""Findings about rules: those that nothing uses, that derive nothing, that recur, that are ambiguous."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from grammars.causes import barren_causes
from grammars.compiling.automata import components
from grammars.errors import GrammarError
from grammars.ir import (
    Alt,
    And,
    Bag,
    Expr,
    GrammarIR,
    Machine,
    Mark,
    Not,
    Nothing,
    Ref,
    Repeat,
    Rule,
    Seq,
    refs,
    walk,
)
from grammars.limits import Limits
from grammars.lint.ambiguity import Ambiguity, AmbiguityReport, find_ambiguities
from grammars.lint.findings import Finding
from grammars.shortest import Shortest
from grammars.special_tokens import shown
from grammars.writing.gbnf import text_of

_LONGEST: Final = 50
_MOST_NAMES: Final = 5


def rule_findings(ir: GrammarIR, limits: Limits) -> Iterator[Finding]:
    """Findings about which rules there are and how they refer to each other."""
    yield from _unreachable(ir)
    known = Shortest(ir, limits)
    barren = [name for name in known.reached if known.text(Ref(name)) is None]
    yield from _barren(ir, [name for name in barren if not _is_opaque(ir, name)])
    yield from _left_recursion(ir, known)


def ambiguity_findings(
    ir: GrammarIR, limits: Limits, most_work: int
) -> tuple[list[Finding], tuple[str, ...]]:
    """Findings about ambiguity, and the rules that were not searched to the end."""
    report: AmbiguityReport = find_ambiguities(ir, limits, most_work=most_work)
    return [_ambiguous(ir, found) for found in report.found], report.open


def _placed(finding: Finding, rule: Rule) -> Finding:
    span = rule.span
    return Finding(
        *(finding.code, finding.severity, finding.message, finding.advice, rule.name),
        *(span.line, span.column, span.pointer, finding.example),
    )


def _unreachable(ir: GrammarIR) -> Iterator[Finding]:
    seen = {ir.start}
    todo = [ir.start]
    while todo:
        new = [name for name in refs(ir[todo.pop()].body) if name not in seen]
        seen.update(new)
        todo += new
    unused = [rule for rule in ir.rules if rule.name not in seen]
    for rule in unused:
        yield _placed(
            Finding(
                "unreachable",
                "warning",
                f"rule {rule.name!r} is never used: {ir.start!r} does not lead to it",
                "remove it, or refer to it",
            ),
            rule,
        )


def _is_opaque(ir: GrammarIR, name: str) -> bool:
    """Whether a rule has parts whose shortest texts may just not have been found."""
    return any(isinstance(node, And | Not | Machine | Bag | Mark) for node in walk(ir[name].body))


def _barren(ir: GrammarIR, barren: list[str]) -> Iterator[Finding]:
    uses = {name: [x for x in refs(ir[name].body) if x in barren] for name in barren}
    for cause in barren_causes(uses):
        rule = next((ir[name] for name in barren if name in cause.split()), ir[ir.start])
        yield _placed(
            Finding(
                "unproductive",
                "warning",
                f"no text ends: {cause}",
                "give one of its alternatives a text that does not need the rule itself",
            ),
            rule,
        )


# -- recursion -------------------------------------------------------------------------------------


def _left_recursion(ir: GrammarIR, known: Shortest) -> Iterator[Finding]:
    names = known.reached
    number = {name: i for i, name in enumerate(names)}
    edges = [[number[x] for x in _leftmost(ir[name].body, known) if x in number] for name in names]
    for knot in components(edges):
        if len(knot) == 1 and knot[0] not in edges[knot[0]]:
            continue
        listed = ", ".join(repr(names[i]) for i in sorted(knot)[:_MOST_NAMES])
        more = f" and {len(knot) - _MOST_NAMES} more" if len(knot) > _MOST_NAMES else ""
        begins = "begins with itself" if len(knot) == 1 else "begin with each other"
        yield _placed(
            Finding(
                "left-recursion",
                "note",
                f"left recursion: {listed}{more} {begins}",
                "this engine turns it into a loop once, when it compiles, at no cost while texts are read; "
                "llama.cpp and xgrammar do not end on it: write x (op x)* for them",
            ),
            ir[names[min(knot)]],
        )


def _leftmost(body: Expr, known: Shortest) -> Iterable[str]:
    """Rules that an expression can begin with, before any byte."""
    stack = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, Ref):
            yield node.name
        elif isinstance(node, Alt):
            stack += node.items
        elif isinstance(node, Repeat):
            stack.append(node.item)
        elif isinstance(node, Seq):
            for item in node.items:
                stack.append(item)
                if not known.is_nullable(item):
                    break


# -- ambiguity -------------------------------------------------------------------------------------


def _ambiguous(ir: GrammarIR, found: Ambiguity) -> Finding:
    first, second = (shown_expr(part) for part in found.parts)
    text = _quoted(found.text)
    if found.kind == "alternatives":
        ways = f"{text} is both {first} and {second}"
        advice = "make the alternatives differ, or leave one out"
    elif found.cuts is None:
        ways = f"it repeats {second}, which may be empty, so {text} has any number of them"
        advice = "repeat something that is not empty"
    else:
        a, b = found.cuts
        cuts = [f"{_quoted(found.text[:n])} + {_quoted(found.text[n:])}" for n in (a, b)]
        ways = f"{text} is {cuts[0]} and {cuts[1]}, of {first} and then {second}"
        advice = "say in one place only what may come between"
    example = None if found.example is None else shown(found.example).decode("utf-8", "replace")
    whole = "" if found.example in (None, found.text) else f"; in the text {example!r}"
    return _placed(
        Finding(
            "ambiguous",
            "warning",
            f"rule {found.rule!r} reads a text in two ways: {ways}{whole}",
            advice,
            example=example,
        ),
        ir[found.rule],
    )


def _quoted(data: bytes) -> str:
    return repr(shown(data).decode("utf-8", "replace"))


def shown_expr(expr: Expr, names: Mapping[str, str] | None = None) -> str:
    """An expression as GBNF writes it, shortened."""
    if any(isinstance(x, And | Not | Machine | Bag | Mark | Nothing) for x in walk(expr)):
        return "an expression that GBNF cannot write"
    try:
        text = text_of(expr, names)
    except (GrammarError, TypeError, UnicodeDecodeError):
        return "an expression that GBNF cannot write"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
