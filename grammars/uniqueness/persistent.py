"""Immutable collections that share their parts: one more element takes little memory.

* Sets: equal ones of one :class:`SharedSets` are equal as Python objects, in whatever order they were
  made.  Small ones are frozensets; large ones are tries over the numbers of their elements, whose nodes are
  hash-consed, so that comparing them is comparing addresses.
* Lists (:class:`Items`): each is the one before and an element, and equal ones of one
  :class:`SharedLists` are one object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, Final, TypeAlias

_SMALL: Final = 32
"""Elements up to which a set is a frozenset."""
_LEAF_BITS: Final = 6
_BITS: Final = 4
_FAN: Final = 1 << _BITS


class _Node:
    """An inner node of a trie over numbers; its parts are nodes, or bitmasks of 64 numbers."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[_Part, ...]) -> None:
        self.parts = parts


_Part: TypeAlias = "_Node | int"


class LargeSet:
    """A set of more than a few elements, made by :class:`SharedSets`."""

    __slots__ = ("_levels", "_root", "_sets", "_size")

    def __init__(self, sets: SharedSets, root: _Part, levels: int, size: int) -> None:
        self._sets = sets
        self._root = root
        self._levels = levels
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __contains__(self, element: object) -> bool:
        number = self._sets.numbers.get(element)
        return number is not None and _holds(self._root, self._levels, number)

    def __iter__(self) -> Iterator[Any]:
        elements = self._sets.elements
        return (elements[number] for number in _apart(self._root, 0, self._levels, 0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LargeSet) or self._sets is not other._sets:
            return False
        return self._levels == other._levels and _same(self._root, other._root)

    def __hash__(self) -> int:
        return hash((self._levels, self._root))

    def __le__(self, other: object) -> bool:
        """Whether it is a subset."""
        if not isinstance(other, LargeSet) or self._size > other._size:
            return False
        return not any(True for _ in self.minus(other))

    def __ge__(self, other: Iterable[Any]) -> bool:
        return all(element in self for element in other)

    def minus(self, other: LargeSet) -> Iterator[Any]:
        """The elements that another set has not; quick where one was made from the other."""
        elements = self._sets.elements
        root = other._root
        for _ in range(other._levels, self._levels):
            root = _Node((root, *_EMPTY[1:]))
        for _ in range(self._levels, other._levels):
            root = _parts(root)[0]
        return (elements[number] for number in _apart(self._root, root, self._levels, 0))


SharedSet: TypeAlias = frozenset[Any] | LargeSet


class SharedSets:
    """Makes sets, with the tables that make equal ones equal objects.

    Attributes:
        numbers: of the elements of large sets.
        elements: by number.
    """

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.elements: dict[int, Any] = {}
        self._counter = count()
        self._nodes: dict[tuple[_Part, ...], _Node] = {}

    def added(self, known: SharedSet, element: Any) -> SharedSet:
        """A set and one element more."""
        if element in known:
            return known
        if isinstance(known, LargeSet):
            return self._added(known, element)
        return self.of((*known, element))

    def of(self, elements: Iterable[Any]) -> SharedSet:
        """The set of some elements."""
        small = frozenset(elements)
        if len(small) <= _SMALL:
            return small
        out = LargeSet(self, 0, 0, 0)
        for element in small:
            out = self._added(out, element)
        return out

    def trim(self, keep: Iterable[SharedSet]) -> None:
        """Forgets what none of the given sets is made of."""
        used: set[int] = set()
        nodes: dict[tuple[_Part, ...], _Node] = {}
        for one in keep:
            if isinstance(one, LargeSet):
                used.update(_apart(one._root, 0, one._levels, 0))
                _collect(one._root, nodes)
        self._nodes = nodes
        self.elements = {number: self.elements[number] for number in used}
        self.numbers = {element: number for number, element in self.elements.items()}

    def _added(self, known: LargeSet, element: Any) -> LargeSet:
        number = self.numbers.get(element)
        if number is None:  # setdefault: another thread may have been faster
            number = self.numbers.setdefault(element, next(self._counter))
        self.elements.setdefault(number, element)
        root, levels = known._root, known._levels
        while number >> (_LEAF_BITS + _BITS * levels):
            root = self._node((root, *(0,) * (_FAN - 1)))
            levels += 1
        return LargeSet(self, self._with(root, levels, number), levels, known._size + 1)

    def _with(self, part: _Part, level: int, number: int) -> _Part:
        """A trie and one number more."""
        if level == 0:
            assert isinstance(part, int), "leaves are bitmasks"
            return part | 1 << (number & ((1 << _LEAF_BITS) - 1))
        parts = list(_parts(part))
        branch = number >> (_LEAF_BITS + _BITS * (level - 1)) & (_FAN - 1)
        parts[branch] = self._with(parts[branch], level - 1, number)
        return self._node(tuple(parts))

    def _node(self, parts: tuple[_Part, ...]) -> _Part:
        """The one node with these parts; an empty one is 0 at every level."""
        known = self._nodes.get(parts)
        if known is None:
            known = self._nodes.setdefault(parts, _Node(parts))
        return known


_EMPTY: Final[tuple[_Part, ...]] = (0,) * _FAN


def _parts(part: _Part) -> tuple[_Part, ...]:
    return part.parts if isinstance(part, _Node) else _EMPTY


def _same(one: _Part, other: _Part) -> bool:
    return one is other or (isinstance(one, int) and one == other)


def _holds(part: _Part, level: int, number: int) -> bool:
    if number >> (_LEAF_BITS + _BITS * level):
        return False
    while level > 0:
        level -= 1
        part = _parts(part)[number >> (_LEAF_BITS + _BITS * level) & (_FAN - 1)]
        if isinstance(part, int) and part == 0:
            return False
    assert isinstance(part, int), "leaves are bitmasks"
    return bool(part >> (number & ((1 << _LEAF_BITS) - 1)) & 1)


def _apart(one: _Part, other: _Part, level: int, above: int) -> list[int]:
    """Numbers in one trie that are not in another of as many levels, ascending."""
    if _same(one, other):
        return []
    if level == 0:
        assert isinstance(one, int), "leaves are bitmasks"
        assert isinstance(other, int), "leaves are bitmasks"
        begin = above << _LEAF_BITS
        return [begin + at for at, bit in enumerate(bin(one & ~other)[:1:-1]) if bit == "1"]
    out: list[int] = []
    for branch, (a, b) in enumerate(zip(_parts(one), _parts(other), strict=True)):
        if a is not b:
            out += _apart(a, b, level - 1, above << _BITS | branch)
    return out


def _collect(part: _Part, nodes: dict[tuple[_Part, ...], _Node]) -> None:
    if isinstance(part, _Node) and part.parts not in nodes:
        nodes[part.parts] = part
        for below in part.parts:
            _collect(below, nodes)


def difference(one: SharedSet, other: SharedSet) -> Iterable[Any]:
    """The elements of one set that another has not."""
    if isinstance(one, LargeSet) and isinstance(other, LargeSet):
        return one.minus(other)
    return (element for element in one if element not in other)


class Items:
    """An immutable list: the one before, and an element; equal ones are one object.

    Attributes:
        before: the list without its last element (``None`` for the empty one).
        value: the last element.
        length: how many there are.
    """

    __slots__ = ("_begun", "before", "length", "value")

    def __init__(self, before: Items | None, value: Any) -> None:
        self.before = before
        self.value = value
        self.length: int = 0 if before is None else before.length + 1
        self._begun: list[Items] | None = None

    def __iter__(self) -> Iterator[Any]:
        return (one.value for one in self._beginnings()[1:])

    def beginning(self, length: int) -> Items | None:
        """The list of the first elements; ``None`` if there are fewer."""
        return self._beginnings()[length] if length <= self.length else None

    def _beginnings(self) -> list[Items]:
        if self._begun is None:
            found: list[Items] = []
            at: Items | None = self
            while at is not None:
                found.append(at)
                at = at.before
            found.reverse()
            self._begun = found
        return self._begun


class SharedLists:
    """Makes lists.

    Attributes:
        empty: the list without elements.
    """

    def __init__(self) -> None:
        self.empty: Final = Items(None, None)
        self._known: dict[tuple[Items, Any], Items] = {}

    def added(self, items: Items, value: Any) -> Items:
        """A list and one element more."""
        known = self._known.get((items, value))
        if known is None:
            known = self._known.setdefault((items, value), Items(items, value))
        return known

    def trim(self, keep: Iterable[Items]) -> None:
        """Forgets lists that none of the given ones begins with."""
        known: dict[tuple[Items, Any], Items] = {}
        for one in keep:
            at = one
            while at.before is not None and (at.before, at.value) not in known:
                known[at.before, at.value] = at
                at = at.before
        self._known = known
