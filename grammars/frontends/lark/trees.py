"""Trees of lark, which may have parts in common, walked without recursion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from grammars.frontends._lark_api import Tree


def children(tree: Any) -> list[Any]:
    """The nodes directly below one."""
    return [child for child in tree.children if isinstance(child, Tree)]


def bottom_up(tree: Any) -> Iterator[Any]:
    """Every distinct node behind the nodes below it."""
    done: set[int] = set()
    stack = [(tree, False)]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            yield node
            continue
        stack.append((node, True))
        stack += [(child, False) for child in reversed(children(node)) if id(child) not in done]
