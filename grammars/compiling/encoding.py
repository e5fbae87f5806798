"""The intermediate form as flat arrays, for kernels.

Each distinct node of the expressions that the start rule reaches becomes a row of a table, children
before parents; what a kernel cannot do (intersections, counters) is put into the table afterwards, as
an automaton or as the call of a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from grammars.compiling import kinds
from grammars.compiling.automata import Dfa
from grammars.compiling.utf8 import END, ByteMask, Utf8Node, ranges_mask, utf8_node
from grammars.ir import (
    SYMBOLS,
    Alt,
    And,
    Bag,
    ByteSet,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Mark,
    Not,
    Nothing,
    Ranges,
    Ref,
    Repeat,
    Rule,
    Seq,
    Substrings,
    children,
)

Int32 = npt.NDArray[np.int32]
Uint8 = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

WIDE_CLASS: Final = 16
"""A class of more characters than this makes the loop around it free text."""
_MASK_BYTES: Final = 40


_INNER: Final = frozenset({Seq, Alt, Repeat, And, Not, Bag})
"""Kinds of nodes that have children."""


_LITERAL: Final = int(kinds.LITERAL)
_REF: Final = int(kinds.REF)
_SEQ: Final = int(kinds.SEQ)
_ALT: Final = int(kinds.ALT)


class UnencodableError(Exception):
    """The grammar has something that only the plain builder knows, or that is an error."""


class Encoding:
    """The table of a grammar's nodes.

    Attributes:
        rows: the table, five numbers for each: kind, a, b, begin, end; children are
            ``kids[begin:end]``.
        nodes: the expression of each row (``None`` for rows added later).
        names: reachable rules, the start first; ``roots`` are the rows of their bodies.
        rows_from: by rule, the first row that was added for it.

    Args:
        ready: asked for each shared rule and the row it would get: how many states its automaton
            has, if that is known and the rule need not be read; else 0.
    """

    def __init__(self, grammar: GrammarIR, ready: Callable[[Rule, int], int] | None = None) -> None:
        self.grammar = grammar
        self.rows: list[int] = []  # five numbers for each
        self.kids: list[int] = []
        self.nodes: list[Expr | None] = []
        self.text = bytearray()
        self.masks: dict[ByteMask, int] = {}
        self.char_rows: list[tuple[int, int]] = []  # (mask, row it leads to)
        self.char_begin: list[int] = [0]
        self.char_end: list[int] = [0]  # by class: rows
        self._classes: dict[Ranges, int] = {}
        self._text_bytes: Uint8 | None = None  # these grow as rows are added
        self._mask_words: Words = SINGLES
        self._class_arrays: tuple[Int32, Int32, Int32] | None = None
        self._row: dict[int, int] = {}
        self.names: list[str] = []
        self._number: dict[str, int] = {}
        self.roots: list[int] = []
        self.number_of(grammar.start)
        self.rows_from: list[int] = []
        for name in self.names:  # grows while we iterate
            rule = grammar[name]
            self.rows_from.append(len(self.nodes))
            states = ready(rule, len(self.nodes)) if ready is not None and rule.shared else 0
            if states:
                self.roots.append(self.add(kinds.MACHINE, states, 0, [], rule.body))
            else:
                self.roots.append(self.row(rule.body))

    def number_of(self, name: str) -> int:
        """The number of a rule."""
        number = self._number.get(name)
        if number is None:
            if name not in self.grammar:
                raise UnencodableError
            number = self._number[name] = len(self.names)
            self.names.append(name)
        return number

    def mask(self, mask: ByteMask) -> int:
        """The number of a set of symbols; sets of one symbol have that symbol's."""
        if not mask & (mask - 1):
            return mask.bit_length() - 1
        return self.masks.setdefault(mask, SYMBOLS + len(self.masks))

    def add(self, kind: int, a: int, b: int, kids: list[int], node: Expr | None = None) -> int:
        """A new row."""
        begin = len(self.kids)
        self.kids += kids
        self.rows += (kind, a, b, begin, begin + len(kids))
        self.nodes.append(node)
        return len(self.nodes) - 1

    def literal(self, data: bytes) -> int:
        """A row for a text."""
        row = self.add(kinds.LITERAL, len(self.text), len(data), [])
        self.text += data
        return row

    def row(self, root: Expr) -> int:
        """The row of an expression; those below it are added first.

        Texts, references, sequences and alternatives are told apart here: they are most of all nodes.
        """
        known, nodes, rows, kids, text = self._row, self.nodes, self.rows, self.kids, self.text
        if type(root) not in _INNER:
            return self._known_leaf(root)
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in known:
                stack.pop()
                continue
            kind = type(node)
            below = node.items if kind is Seq or kind is Alt else children(node)  # type: ignore[union-attr]
            at = len(kids)
            numbers: list[int] = []
            height = len(stack)
            for child in below:
                number = known.get(id(child))
                if number is None:
                    kind_below = type(child)
                    if kind_below in _INNER:
                        stack.append(child)
                        continue
                    number = known[id(child)] = len(nodes)
                    if kind_below is Literal:
                        data = child.data  # type: ignore[union-attr]
                        rows += (_LITERAL, len(text), len(data), at, at)
                        text += data
                        nodes.append(child)
                    elif kind_below is Ref:
                        rows += (_REF, self.number_of(child.name), 0, at, at)  # type: ignore[union-attr]
                        nodes.append(child)
                    else:
                        self._leaf(child)
                numbers.append(number)
            if len(stack) > height:
                continue
            stack.pop()
            kids += numbers
            known[id(node)] = len(nodes)
            if kind is Seq:
                rows += (_SEQ, 0, 0, at, len(kids))
            elif kind is Alt:
                rows += (_ALT, self._texts_first(below, at), 0, at, len(kids))
            else:
                rows += (*self._inner(node), at, len(kids))
            nodes.append(node)
        return known[id(root)]

    def _known_leaf(self, node: Expr) -> int:
        number = self._row.get(id(node))
        if number is None:
            number = self._row[id(node)] = self._leaf(node)
        return number

    def _texts_first(self, below: tuple[Expr, ...], at: int) -> int:
        """Sorts alternatives: texts first, in order, each once.  Returns how many texts there are."""
        first = type(below[0]) is Literal
        if len(below) == 2 and type(below[1]) is not Literal:  # as what may be left out
            return int(first)
        if all(type(child) is not Literal for child in below[1:]):
            return int(first)  # none, or one that is first already
        numbers = self.kids[at:]
        texts = {
            child.data: number
            for child, number in zip(below, numbers, strict=True)
            if type(child) is Literal
        }
        ordered = [texts[data] for data in sorted(texts)] if len(texts) > 1 else [*texts.values()]
        if len(texts) < len(below):
            ordered += [
                number
                for child, number in zip(below, numbers, strict=True)
                if type(child) is not Literal
            ]
        self.kids[at:] = ordered
        return len(texts)

    def _leaf(self, node: Expr) -> int:
        kind = type(node)
        if kind is Literal:
            row = self.literal(node.data)  # type: ignore[union-attr]
            self.nodes[row] = node
            return row
        if kind is Ref:
            return self.add(kinds.REF, self.number_of(node.name), 0, [], node)  # type: ignore[union-attr]
        if kind is Chars:
            return self._chars(node.ranges, node)  # type: ignore[union-attr]
        if kind is ByteSet:
            return self.add(kinds.EDGE, self.mask(_bytes(node.ranges)), 0, [], node)  # type: ignore[union-attr]
        if kind is Mark:
            return self.add(kinds.EDGE, node.symbol, 0, [], node)  # type: ignore[union-attr]
        if kind is Nothing:
            return self.add(kinds.NOTHING, 0, 0, [], node)
        if kind is Machine:
            return self.add(kinds.MACHINE, len(node.accept), int(node.accept[0]), [], node)  # type: ignore[union-attr]
        if kind is Substrings:  # the empty text is a span of any
            return self.add(kinds.MACHINE, len(node.text), 1, [], node)  # type: ignore[union-attr]
        raise UnencodableError

    def _inner(self, node: Expr) -> tuple[int, int, int]:
        """Kind, a, b of a node with children that is no sequence and no alternatives."""
        kind = type(node)
        if kind is Repeat:
            low, high = node.min, node.max  # type: ignore[union-attr]
            if low >= 1 << 31 or (high is not None and high >= 1 << 31):
                raise UnencodableError
            return int(kinds.REPEAT), low, -1 if high is None else high
        if kind is And:
            return int(kinds.AND), 0, 0
        return int(kinds.NOT if kind is Not else kinds.BAG), 0, 0

    def _chars(self, ranges: Ranges, node: Expr) -> int:
        number = self._classes.get(ranges)
        if number is None:
            rows, wide, high = _utf8_rows(ranges)
            base = len(self.char_begin) - 1
            for row in rows:
                for mask, target in row:
                    self.char_rows.append((self.mask(mask), -1 if target < 0 else base + target))
                self.char_begin.append(len(self.char_rows))
            self.char_end.append(len(self.char_begin) - 1)
            number = self._classes[ranges] = len(self.char_end) - 2
        _, wide, high = _utf8_rows(ranges)
        return self.add(kinds.CHARS, number, wide + 2 * high, [], node)

    # -- as arrays -----------------------------------------------------------------------------

    def table(self, first: int = 0) -> Int32:
        """int32[n, 5], rows from a number on: kind, a, b, begin and end of the children."""
        return np.array(self.rows[5 * first :], np.int32).reshape(-1, 5)

    def text_bytes(self) -> Uint8:
        """All texts behind each other (at least one byte)."""
        if self._text_bytes is None or len(self._text_bytes) < len(self.text):
            self._text_bytes = np.array(np.frombuffer(bytes(self.text) or b"\0", np.uint8))
        return self._text_bytes

    def mask_words(self) -> Words:
        """uint64[masks, 5], those of single symbols first."""
        if len(self._mask_words) < SYMBOLS + len(self.masks):
            self._mask_words = np.concatenate((SINGLES, _words(self.masks)))
        return self._mask_words

    def classes(self) -> tuple[Int32, Int32, Int32]:
        """Edges (mask, row) of the rows of character classes, their offsets, the rows by class."""
        if self._class_arrays is None or len(self._class_arrays[2]) < len(self.char_end):
            flat = [x for pair in self.char_rows for x in pair]
            edges = np.array(flat, np.int32).reshape(-1, 2)
            begin = np.array(self.char_begin, np.int32)
            self._class_arrays = edges, begin, np.array(self.char_end, np.int32)
        return self._class_arrays


@lru_cache(maxsize=1024)
def _bytes(ranges: Ranges) -> ByteMask:
    return ranges_mask(ranges)


@lru_cache(maxsize=1024)
def _utf8_rows(ranges: Ranges) -> tuple[tuple[tuple[tuple[ByteMask, int], ...], ...], bool, bool]:
    """Rows of a class's automaton, the root last; whether it is wide; whether beyond ASCII."""
    number: dict[Utf8Node, int] = {END: -1}
    rows: list[tuple[tuple[ByteMask, int], ...]] = []
    stack = [utf8_node(ranges)]
    while stack:
        at = stack[-1]
        missing = [t for _, t in at if t not in number]
        if missing:
            stack += missing
            continue
        stack.pop()
        if at in number:
            continue
        joined: dict[int, ByteMask] = {}
        for mask, t in at:
            joined[number[t]] = joined.get(number[t], 0) | mask
        number[at] = len(rows)
        rows.append(tuple((mask, t) for t, mask in joined.items()))
    wide = sum(hi - lo + 1 for lo, hi in ranges) > WIDE_CLASS
    return tuple(rows), wide, ranges[-1][1] >= 0x80


class PackedDfa:
    """An automaton as arrays.

    Attributes:
        words: uint64[masks, 5], the sets of symbols that occur.
        edges: int32[n, 3]: number of the set (or a negative label, a call), target, count.
        begin: int32[states + 1], edges by state.
        accept: uint8[states].
        start: the start state.
    """

    def __init__(self, words: Words, edges: Int32, begin: Int32, accept: Uint8, start: int) -> None:
        self.words, self.edges, self.begin, self.accept = words, edges, begin, accept
        self.start = start

    @cached_property
    def _calls(self) -> bool:
        """Whether there are calls."""
        return bool((self.edges[:, 0] < 0).any())

    @classmethod
    def of(cls, dfa: Dfa) -> PackedDfa:
        """The arrays of an automaton."""
        known: dict[ByteMask, int] = {}
        flat: list[int] = []
        begin = [0]
        for row in dfa.edges:
            for label, t, inc in row:
                flat += (label if label < 0 else known.setdefault(label, len(known)), t, inc)
            begin.append(len(flat) // 3)
        return cls(
            _words(known),
            np.array(flat, np.int32).reshape(-1, 3),
            np.array(begin, np.int32),
            np.array(dfa.accept, np.uint8),
            dfa.start,
        )

    def renumbered(self, base: int) -> PackedDfa:
        """The same with calls of the parts of a fragment as calls of rules from ``base`` on."""
        if not self._calls:
            return self
        calls = self.edges[:, 0] < 0
        edges = self.edges.copy()
        edges[calls, 0] -= base - 1
        return PackedDfa(self.words, edges, self.begin, self.accept, self.start)

    def unpacked(self) -> Dfa:
        """The same as Python's own lists."""
        masks = [int.from_bytes(row.tobytes(), "little") for row in self.words]
        begin = self.begin.tolist()
        edges = [
            (label if label < 0 else masks[label], t, inc) for label, t, inc in self.edges.tolist()
        ]
        rows = [edges[a:b] for a, b in pairwise(begin)]
        return Dfa(self.start, self.accept.astype(bool).tolist(), rows)

    @property
    def accepts_empty(self) -> bool:
        """Whether the empty text is in the language."""
        return bool(self.accept[self.start])

    def with_fresh_start(self, *, accepting: bool) -> PackedDfa:
        """The same automaton with a start state that no edge enters and that accepts as told."""
        start, states = self.start, len(self.accept)
        if not (self.edges[:, 1] == start).any():
            accept = self.accept.copy()
            accept[start] = accepting
            return PackedDfa(self.words, self.edges, self.begin, accept, start)
        onward = self.edges[self.begin[start] : self.begin[start + 1]]
        edges = np.concatenate((self.edges, onward))
        return PackedDfa(
            self.words,
            edges,
            np.append(self.begin, np.int32(len(edges))),
            np.append(self.accept, np.uint8(accepting)),
            states,
        )

    def trimmed(self) -> PackedDfa:
        """The same with only those sets that occur."""
        labels = self.edges[:, 0]
        reads = labels >= 0
        used = np.zeros(len(self.words), np.bool_)
        used[labels[reads]] = True
        numbers = np.cumsum(used, dtype=np.int32) - 1
        edges = self.edges.copy()
        edges[reads, 0] = numbers[labels[reads]]
        return PackedDfa(self.words[used], edges, self.begin, self.accept, self.start)


def _words(masks: Iterable[ByteMask]) -> Words:
    packed = bytearray().join([mask.to_bytes(_MASK_BYTES, "little") for mask in masks])
    return np.frombuffer(packed, np.uint64).reshape(-1, 5)


SINGLES: Final = _words(1 << s for s in range(SYMBOLS))
"""uint64[symbols, 5]: the sets of one symbol."""
