"""What a Lark grammar becomes when lark writes it out, measured before lark does.

lark makes rules plain: templates are copied for every use, ``(a|b) (c|d)`` becomes four
alternatives, ``x~2..3`` is ``x x | x x x``, and terminals are pasted into each other.  A few lines
can so describe more than any memory holds, or go on for ever.  Measuring follows the same steps
with numbers in the place of trees.

The kinds of node that lark's trees of rules and terminals have: ``expansions`` (alternatives),
``expansion`` (a sequence), ``value``, ``literal``, ``range``, ``expr`` (with ``? * + ~``),
``maybe``, ``alias``, ``template_usage``.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from grammars.compiling.automata import components
from grammars.errors import LimitExceeded
from grammars.frontends._lark_api import Tree, small_factors
from grammars.frontends.lark.trees import bottom_up, children
from grammars.limits import Limits
from grammars.work import spend

_FEW_COPIES: Final = 50
"""lark's ``REPEAT_BREAK_THRESHOLD``: repetitions up to fewer copies are written out."""
_AT_ONCE: Final = 5
"""lark's ``SMALL_FACTOR_THRESHOLD``: copies in one of the rules that longer ones are made of."""

_PASTED: Final = 600
"""Work of a text or pattern that lark pastes from one terminal into another."""

_Definition: TypeAlias = tuple[str, Sequence[str], Any, Any]


class _Size(NamedTuple):
    """Of what a node becomes: alternatives, and symbols in all of them together."""

    ways: int
    symbols: int


_ONE: Final = _Size(1, 1)


@dataclass(frozen=True)
class TerminalSizes:
    """Texts and patterns in each terminal, as written and with those of others put in.

    Attributes:
        order: the terminals, each behind those that it refers to.
    """

    written: dict[str, int]
    pasted: dict[str, int]
    order: list[str]


def terminal_sizes(trees: Mapping[str, Sequence[Any]]) -> TerminalSizes:
    """The sizes of terminals, by the trees of their definitions."""
    pasted: dict[str, int] = {}
    order = _callees_first(trees)
    for name in order:
        pasted[name] = sum(_leaves(tree, pasted) for tree in trees[name])
    written = {name: sum(_leaves(tree, {}) for tree in found) for name, found in trees.items()}
    return TerminalSizes(written, pasted, order)


def check_terminals(sizes: TerminalSizes, limits: Limits, apart: Container[str] = ()) -> None:
    """Checks that terminals have no more than ``max_dfa_states`` texts and patterns in them.

    Each is at least a step of the lexer's machine, which is bounded by the same limit; lark pastes
    terminals into each other while it reads them, and looks at every copy.

    Args:
        sizes: of all terminals.
        limits: bounds.
        apart: terminals that lark does not get to see.

    Raises:
        LimitExceeded: with the terminal's name, if one has more; for ``max_work``, if what is pasted
            into terminals is too much for lark to look at.
    """
    for name, pasted in sizes.pasted.items():
        if name in apart:
            continue
        if pasted > limits.max_dfa_states:
            error = LimitExceeded(
                "max_dfa_states", limits.max_dfa_states, f"the pattern of terminal {name!r}"
            )
            error.locate(rule=name)
            raise error
        try:
            spend(_PASTED * (pasted - sizes.written[name]))
        except LimitExceeded as error:
            error.locate(rule=name)
            raise


def check_grammar(grammar: Any, limits: Limits) -> None:
    """Checks that lark can write a loaded grammar out within ``max_expression_nodes``.

    Raises:
        LimitExceeded: with the rule's name, if it cannot.
    """
    rules = [(str(name), params, tree, None) for name, params, tree, _ in grammar.rule_defs]
    copies = _template_uses(rules, limits)
    spent = 0
    for name, _, tree, _ in rules:
        if tree is None or not copies.get(name, 1):
            continue
        spent += copies.get(name, 1) * _written_out(tree, limits.max_expression_nodes)
        if spent > limits.max_expression_nodes:
            raise _exceeded(limits, f"writing out the alternatives of rule {name!r}", name)


def _exceeded(limits: Limits, doing: str, name: str) -> LimitExceeded:
    error = LimitExceeded("max_expression_nodes", limits.max_expression_nodes, doing)
    error.locate(rule=name)
    return error


# -- terminals ---------------------------------------------------------------------------------


def _callees_first(trees: Mapping[str, Sequence[Any]]) -> list[str]:
    """The names, each behind those it refers to; of a circle, which lark refuses, in any order."""
    number = {name: i for i, name in enumerate(trees)}
    refers = [
        [number[r] for tree in found for r in _references(tree) if r in number]
        for found in trees.values()
    ]
    names = list(trees)
    return [names[i] for component in components(refers) for i in component]


def _references(tree: Any) -> list[str]:
    found = dict.fromkeys(
        str(child.name)
        for node in bottom_up(tree)
        if node.data == "value"
        for child in node.children
        if hasattr(child, "name")
    )
    return list(found)


def _leaves(tree: Any, size: Mapping[str, int]) -> int:
    """Texts and patterns in a tree, those of other terminals included."""
    total = 0
    for node in bottom_up(tree):
        if node.data in ("literal", "range"):
            total += 1
        elif node.data == "value":
            total += sum(size.get(str(getattr(x, "name", "")), 0) for x in node.children)
    return total


# -- alternatives ------------------------------------------------------------------------------


def _written_out(tree: Any, limit: int) -> int:
    """Alternatives and symbols of all rules that one rule becomes, or more than ``limit``."""
    sizes: dict[int, _Size] = {}
    others = 0
    for node in bottom_up(tree):
        size, extra = _node(node, sizes)
        others += extra
        if size.ways + size.symbols + others > limit:
            return limit + 1  # before the numbers themselves grow large
        sizes[id(node)] = size
    top = sizes[id(tree)]
    return top.ways + top.symbols + others


def _node(node: Any, sizes: Mapping[int, _Size]) -> tuple[_Size, int]:
    """The size of a node, and what it adds to the rules beside."""
    match node.data:
        case "expansions" | "alias":
            parts = [sizes[id(x)] for x in children(node)]
            return _Size(sum(p.ways for p in parts), sum(p.symbols for p in parts)), 0
        case "expansion":
            size = _Size(1, 0)
            for child in children(node):
                size = _joined(size, sizes[id(child)])
            return size, 0
        case "maybe":
            inner = sizes[id(node.children[0])]
            return _Size(inner.ways + 1, 2 * inner.symbols), 0
        case "expr":
            return _repeated(sizes[id(node.children[0])], [str(x) for x in node.children[1:]])
        case "value":
            parts = [sizes[id(x)] for x in children(node)]
            return (parts[0] if parts else _ONE), 0
    return _ONE, 0


def _joined(a: _Size, b: _Size) -> _Size:
    return _Size(a.ways * b.ways, a.symbols * b.ways + b.symbols * a.ways)


def _power(size: _Size, count: int) -> _Size:
    ways = int(size.ways**count)
    return _Size(ways, count * size.symbols * (ways // max(size.ways, 1)))


def _repeated(inner: _Size, sign: Sequence[str]) -> tuple[_Size, int]:
    if sign[0] == "?":
        return _Size(inner.ways + 1, inner.symbols), 0
    if sign[0] in "+*":
        beside = 3 * inner.ways + 2 * inner.symbols
        return _Size(1 if sign[0] == "+" else 2, 1), beside
    low, high = _bounds(sign[1:])
    if high < _FEW_COPIES:
        copies = [_power(inner, n) for n in range(max(low, 0), high + 1)]
        return _Size(sum(c.ways for c in copies), sum(c.symbols for c in copies)), 0
    return _in_rules(inner, low, high) if low <= high else (_ONE, 0)


def _in_rules(inner: _Size, low: int, high: int) -> tuple[_Size, int]:
    """A long repetition, which lark makes of rules for a few copies each (as it does)."""
    beside = 0
    copied = inner
    for a, b in small_factors(low, _AT_ONCE):
        rule = _joined(_power(copied, a), _power(inner, b))
        beside += rule.ways + rule.symbols
        copied = _ONE
    if low == high:
        return copied, beside
    copied, fewer = inner, _Size(1, 0)
    for a, b in small_factors(high - low + 1, _AT_ONCE):
        parts = [_joined(_power(copied, i), fewer) for i in range(a)]
        parts += [_joined(_power(copied, a), _power(inner, i)) for i in range(b)]
        parts.append(_joined(_power(copied, a), _power(inner, b)))
        beside += sum(part.ways + part.symbols for part in parts)
        copied = fewer = _ONE
    return _Size(1, 2), beside


def _bounds(written: Sequence[str]) -> tuple[int, int]:
    """The bounds of ``~``; lark refuses those it cannot read, so any numbers will do for them."""
    try:
        numbers = [int(x) for x in written]
    except ValueError:
        return 0, 0
    return numbers[0], numbers[-1]


# -- templates ---------------------------------------------------------------------------------


def _template_uses(rules: Sequence[_Definition], limits: Limits) -> dict[str, int]:
    """How many copies lark makes of each template.

    lark looks through all rules for every copy and names it by what it is of, names of arguments in
    full, so both count.
    """
    templates = {name: (params, tree) for name, params, tree, _ in rules if params}
    if not templates:
        return {}
    copies = dict.fromkeys(templates, 0)
    made: set[str] = set()
    spent = 0
    todo: list[tuple[Any, dict[str, str]]]
    todo = [(tree, {}) for _, params, tree, _ in rules if not params and tree is not None]
    while todo:
        tree, names = todo.pop()
        for template, arguments in _uses(tree, names):
            made_name = f"{template}{{{','.join(arguments)}}}"
            if made_name in made or template not in templates:
                continue
            made.add(made_name)
            copies[template] += 1
            spent += len(rules) + len(made) + len(made_name)
            if spent > limits.max_expression_nodes:
                raise _exceeded(limits, f"expanding template {template!r}", template)
            params, body = templates[template]
            if body is not None and len(params) == len(arguments):
                todo.append((body, dict(zip(params, arguments, strict=True))))
    return copies


def _uses(tree: Any, names: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The templates a tree uses, each with its arguments' names, inner uses first."""
    said: dict[int, str] = {}
    for node in bottom_up(tree):
        if node.data == "template_usage":
            first, *rest = node.children
            name = names.get(str(first.name), str(first.name))
            arguments = [_argument(x, names, said) for x in rest]
            said[id(node)] = f"{name}{{{','.join(arguments)}}}"
            yield name, arguments


def _argument(value: Any, names: Mapping[str, str], said: Mapping[int, str]) -> str:
    """The name of an argument: of a symbol, a copy of a template, or a text."""
    inner = value.children[0] if isinstance(value, Tree) and value.children else value
    if isinstance(inner, Tree):
        return said.get(id(inner)) or " ".join(str(x) for x in inner.children)
    name = str(getattr(inner, "name", inner))
    return names.get(name, name)
