"""Bottom-up evaluation of expressions, parts first, without recursion: they may be deep."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from grammars.ir import Expr, children

_Value = TypeVar("_Value")


def fold(root: Expr, make: Callable[[Expr, list[_Value]], _Value]) -> _Value:
    """The value of an expression.

    Args:
        root: the expression; a part that stands in several places is asked for once.
        make: the value of a node, by the node and the values of its direct parts.
    """
    known: dict[int, _Value] = {}
    stack = [root]
    while stack:
        node = stack[-1]
        parts = children(node)
        missing = [x for x in parts if id(x) not in known]
        if missing:
            stack += missing
            continue
        stack.pop()
        if id(node) not in known:
            known[id(node)] = make(node, [known[id(x)] for x in parts])
    return known[id(root)]
