"""Terminals that are put together from others so often that lark's text of them would explode.

lark pastes the text of a terminal wherever another one uses it, so ``A0: "a" A1 | "b" A1`` and so on
for twelve levels is a pattern of 4,096 alternatives.  Here such a terminal is a tree in which each
other one stands once, whoever uses it; its bounds and the length of the text, by which lark orders
terminals and alternatives, are worked out instead of read off.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from grammars.frontends import _lark_api, _re_api
from grammars.frontends._lark_api import PatternRE, PatternStr, Tree
from grammars.frontends.lark.patterns import PAlt, Pattern, PRepeat, PSeq, parse_pattern
from grammars.frontends.lark.trees import bottom_up

_WIDEST: Final = int(_re_api.parse("(?:a)*").getwidth()[1])


class CannotShareError(Exception):
    """A terminal that has to be written as lark writes it."""


@dataclass(frozen=True)
class Piece:
    """What lark would make a pattern of.

    Attributes:
        tree: what it matches, equal parts being one object.
        length: of its text, flags left out.
        written: of its text in another one.
        min, max: its widths.
        flags: lark's flags, which count once more for whatever is made of it.
    """

    tree: Pattern
    length: int
    written: int
    min: int
    max: int
    flags: frozenset[str] = frozenset()


class SharedPattern(PatternRE):
    """A pattern whose text nobody writes."""

    def __init__(self, name: str, piece: Piece) -> None:
        super().__init__(f"the pattern of {name}", piece.flags)
        self.piece = piece

    @property
    def min_width(self) -> int:
        """The fewest characters."""
        return self.piece.min

    @property
    def max_width(self) -> int:
        """The most characters, as ``re`` says it."""
        return self.piece.max


def shared_patterns(
    trees: Mapping[str, Any], order: Sequence[str], defined: Mapping[str, Any]
) -> dict[str, SharedPattern]:
    """The patterns of some terminals, each part once.

    Args:
        trees: their trees, in which other terminals are named.
        order: their names, each behind those it refers to.
        defined: the trees of all other terminals.

    Raises:
        CannotShareError: where lark's text would not mean what its parts mean, or which lark refuses.
    """
    made: dict[str, Piece] = {}
    others: dict[str, Piece] = {}
    seen: dict[int, Piece] = {}

    def referred(name: str) -> Piece:
        if name in made:
            return made[name]
        if name in trees or defined.get(name) is None:
            raise CannotShareError(name)
        if name not in others:
            others[name] = _piece(defined[name], referred, seen)
        return others[name]

    for name in order:
        made[name] = _piece(trees[name], referred, seen)
    return {name: SharedPattern(name, piece) for name, piece in made.items()}


def _piece(tree: Any, referred: Any, seen: dict[int, Piece]) -> Piece:
    for node in bottom_up(tree):
        if id(node) not in seen:
            seen[id(node)] = _of_node(node, referred, seen)
    return seen[id(tree)]


def _of_node(node: Any, referred: Any, seen: Mapping[int, Piece]) -> Piece:
    match node.data:
        case "literal" | "range":
            return _leaf(_lark_api.leaf_pattern(node))
        case "value":
            (child,) = node.children
            return seen[id(child)] if isinstance(child, Tree) else referred(str(child.name))
        case "expansion":
            return _sequence([seen[id(x)] for x in node.children])
        case "expansions":
            return _alternatives([seen[id(x)] for x in node.children])
        case "expr":
            return _repeated(seen[id(node.children[0])], [str(x) for x in node.children[1:]])
        case "maybe":
            return _repeated(seen[id(node.children[0])], ["?"])
    raise CannotShareError(node.data)


def _leaf(pattern: Any) -> Piece:
    text = pattern.to_regexp()
    try:
        whole = repr(_re_api.parse(f"(?:a)(?:{text})(?:b)"))
        if (
            not isinstance(pattern, PatternStr)
            and repr(_re_api.parse(f"(?:a){text}(?:b)")) != whole
        ):
            raise CannotShareError(text)  # an alternation that takes in what stands beside it
        tree = parse_pattern(text)
    except re.error:
        raise CannotShareError(text) from None
    low, high = pattern.min_width, pattern.max_width
    return Piece(tree, len(pattern.value), len(text), low, high, frozenset(pattern.flags))


def _wide(width: int) -> int:
    return min(width, _WIDEST)


def _sequence(items: Sequence[Piece]) -> Piece:
    if len(items) == 1:
        return items[0]
    if not items:
        return Piece(PSeq(()), 0, 0, 0, 0)
    length = sum(x.written for x in items)
    low, high = sum(x.min for x in items), sum(x.max for x in items)
    return Piece(PSeq(tuple(x.tree for x in items)), length, length, _wide(low), _wide(high))


def _alternatives(items: Sequence[Piece]) -> Piece:
    if len(items) == 1:
        return items[0]
    ordered = sorted(items, key=lambda x: (-x.max, -x.min, -x.length))
    length = sum(x.written for x in ordered) + len(ordered) - 1 + len("(?:)")
    low, high = min(x.min for x in items), max(x.max for x in items)
    return Piece(PAlt(tuple(x.tree for x in ordered)), length, length, low, high)


def _repeated(item: Piece, sign: Sequence[str]) -> Piece:
    bounds: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
    if sign[0] in bounds:
        (low, high), written = bounds[sign[0]], sign[0]
    else:
        numbers = [int(x) for x in sign[1:]]
        low, high = numbers[0], numbers[-1]
        written = f"{{{low}}}" if len(numbers) == 1 else f"{{{low},{high}}}"
        if high < low:
            raise CannotShareError(written)
    length = len("(?:)") + item.written + len(written)
    flags = sum(len(f"(?{flag}:)") for flag in item.flags)
    most = _WIDEST if high is None and item.max else _wide(item.max * (high or 0))
    tree = PRepeat(item.tree, low, high, greedy=True)
    return replace(
        item,
        tree=tree,
        length=length,
        written=length + flags,
        min=_wide(item.min * low),
        max=most,
    )


def names_apart(
    sizes: Mapping[str, int], written: Mapping[str, int], extended: Collection[str], least: int
) -> list[str]:
    """The terminals whose text would be much larger than what is written of them."""
    return [
        name
        for name, size in sizes.items()
        if size > least and size > 2 * written[name] and name not in extended
    ]
