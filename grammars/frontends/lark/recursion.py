"""Plain recursion as repetition, and other tidying of the finished rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from grammars import ir
from grammars.compiling.automata import components
from grammars.frontends.lark.annotated import Node, Symbol
from grammars.ir import Expr, Ref, Repeat, Rule, Seq, alt, seq

_INLINED_SIZE: Final = 400
"""A rule whose body would have more nodes with all it refers to stays a unit of its own."""


def without_left_recursion(
    productions: Mapping[Node, list[tuple[Symbol, ...]]],
) -> dict[Node, list[tuple[Symbol, ...]]]:
    """Writes a rule that calls itself first as its base and a right-recursive rest.

    lark's own repetitions are such rules.  Once a rule is several, by what is pending before and
    behind it, left recursion would run through all of them, which is costly to compile.
    """
    out: dict[Node, list[tuple[Symbol, ...]]] = {}
    for node, found in productions.items():
        steps = [p[1:] for p in found if len(p) > 1 and p[0] == node]
        if not steps:
            out[node] = found
            continue
        rest: Node = (node[0], f"{node[1]}*")
        out[node] = [(*p, rest) for p in found if not p or p[0] != node]
        out[rest] = [(), *((*p, rest) for p in steps)]
    return out


def without_recursion(name: str, body: Expr) -> Expr:
    """Writes a rule that only calls itself first, or only last, as a repetition."""
    own = Ref(name)
    items = body.items if isinstance(body, ir.Alt) else (body,)
    for place in (0, -1):
        steps: list[Expr] = []
        bases: list[Expr] = []
        for item in items:
            if isinstance(item, Seq) and item.items[place] == own:
                steps.append(seq(*(item.items[1:] if place == 0 else item.items[:-1])))
            elif item != own:
                bases.append(item)
        if steps and not any(own in ir.walk(x) for x in (*steps, *bases)):
            base, step = alt(*bases), alt(*steps)
            if base == step:
                return ir.repeat(step, 1)
            loop = ir.repeat(step)
            return seq(base, loop) if place == 0 else seq(loop, base)
    return body


def with_loops(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Puts the rests that turned out to be plain repetitions back where they belong."""
    loops: dict[Expr, Expr] = {
        Ref(name): rule.body
        for name, rule in rules.items()
        if "*" in name and isinstance(rule.body, Repeat)
    }

    def rebuilt(expr: Expr) -> Expr:
        if isinstance(expr, ir.Alt):
            return alt(*map(rebuilt, expr.items))
        if not isinstance(expr, Seq):
            return loops.get(expr, expr)
        loop = loops.get(expr.items[-1])
        if not isinstance(loop, Repeat):
            return seq(*map(rebuilt, expr.items))
        base = seq(*map(rebuilt, expr.items[:-1]))
        return ir.repeat(base, 1) if base == loop.item else seq(base, loop)

    return {name: replace(rule, body=rebuilt(rule.body)) for name, rule in rules.items()}


def kept_apart(rules: Sequence[Rule]) -> list[Rule]:
    """Marks rules so that inlining small rules into each other cannot make them large."""
    number = {rule.name: i for i, rule in enumerate(rules)}
    calls = [[number[name] for name in ir.refs(rule.body)] for rule in rules]
    out = list(rules)
    size = [1] * len(rules)
    for component in components(calls):
        i = component[0]
        if len(component) > 1 or i in calls[i] or rules[i].shared:
            continue
        nodes = ir.walk(rules[i].body)
        total = sum(size[number[x.name]] if isinstance(x, Ref) else 1 for x in nodes)
        if total > _INLINED_SIZE:
            out[i] = replace(rules[i], shared=True)
        else:
            size[i] = total
    return out


def reachable(rules: Mapping[str, Rule], top: str) -> list[Rule]:
    """The rules reachable from the top."""
    seen = {top: None}
    todo = [top]
    for name in todo:  # grows while we iterate
        for other in ir.refs(rules[name].body):
            if other not in seen:
                seen[other] = None
                todo.append(other)
    return [rules[name] for name in seen]
