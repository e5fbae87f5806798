"""Shortest texts, lengths and first bytes of expressions, and shortest texts around a rule."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from functools import reduce
from itertools import count
from operator import or_
from typing import Final

from grammars.compiling.compiler import compile_ir
from grammars.errors import GrammarError, LimitExceeded
from grammars.ir import (
    Alt,
    And,
    Bag,
    ByteSet,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Not,
    Ref,
    Repeat,
    Rule,
    Seq,
    children,
)
from grammars.limits import Limits
from grammars.program import UNBOUNDED, Program
from grammars.recognizer import DEAD, END, Recognizer

_LONGEST: Final = 20_000
_ENDLESS: Final = float("inf")
_ANY: Final = (1 << 256) - 1
_MOST_STATES: Final = 5_000
"""States of an automaton that are looked at for its shortest text."""

Around = tuple[bytes, bytes]


class Shortest:
    """Shortest texts of a grammar's parts (Knuth, A Generalization of Dijkstra's Algorithm, 1977).

    Attributes:
        reached: the names of the rules that the start rule leads to, in the order they are come upon;
            not those that stand in intersections and complements only.
    """

    def __init__(self, ir: GrammarIR, limits: Limits) -> None:
        self._ir = ir
        self._limits = limits
        self.reached = _reached(ir)
        self._texts: dict[str, bytes] = {}
        self._opaque: dict[Expr, bytes | None] = {}
        self._lengths: dict[str, tuple[float, float]] = {}
        self._around: dict[str, Around] | None = None
        self._firsts: dict[str, tuple[int, bool]] = dict.fromkeys(
            (r.name for r in ir.rules), (0, False)
        )
        self._find_texts()
        self._find_firsts()

    def text(self, expr: Expr) -> bytes | None:
        """A shortest text; ``None`` if there is none, or none was found."""
        if isinstance(expr, Ref):
            return self._texts.get(expr.name)
        if isinstance(expr, Literal):
            return expr.data
        if isinstance(expr, Chars):
            return chr(expr.ranges[0][0]).encode()
        if isinstance(expr, ByteSet):
            return bytes((expr.ranges[0][0],)) if expr.ranges else None
        if isinstance(expr, Seq):
            parts = [self.text(x) for x in expr.items]
            known = [x for x in parts if x is not None]
            return b"".join(known) if len(known) == len(parts) else None
        if isinstance(expr, Alt):
            found = [x for x in map(self.text, expr.items) if x is not None]
            return min(found, key=len, default=None)
        if isinstance(expr, Repeat):
            item = self.text(expr.item) if expr.min else b""
            return None if item is None or len(item) * expr.min > _LONGEST else item * expr.min
        if isinstance(expr, And | Not | Machine | Bag):
            return self._text_of_automaton(expr)
        return None

    def first(self, expr: Expr) -> int:
        """The bytes that texts can begin with, as a set of bits (or more of them)."""
        return self._first_of(expr)[0]

    def is_nullable(self, expr: Expr) -> bool:
        """Whether the empty text is one of its texts."""
        return self.text(expr) == b""

    def has_one_length(self, expr: Expr) -> bool:
        """Whether all its texts are known to have equally many bytes."""
        low, high = self._length(expr)
        return low == high

    def around(self, name: str) -> Around | None:
        """A shortest text before and behind a rule, so that with a text of the rule it is a whole text."""
        if self._around is None:
            self._around = self._find_around()
        return self._around.get(name)

    # -- texts -------------------------------------------------------------------------------------

    def _find_texts(self) -> None:
        """Texts of rules, each by texts known before, so that none is made of itself."""
        users = self._users()
        todo = deque(reversed(self.reached))
        waiting = set(todo)
        while todo:
            name = todo.popleft()
            waiting.discard(name)
            text = self.text(self._ir[name].body)
            known = self._texts.get(name)
            if (
                text is None
                or len(text) > _LONGEST
                or (known is not None and len(known) <= len(text))
            ):
                continue
            self._texts[name] = text
            for user in users.get(name, ()):
                if user not in waiting:
                    waiting.add(user)
                    todo.append(user)

    def _users(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for name in self.reached:
            for x in referred(self._ir[name].body):
                out.setdefault(x, []).append(name)
        return out

    def _text_of_automaton(self, expr: Expr) -> bytes | None:
        if expr not in self._opaque:
            self._opaque[expr] = self._search(expr)
        return self._opaque[expr]

    def _search(self, expr: Expr) -> bytes | None:
        name = self._ir.start
        while name in self._ir:
            name += "'"
        try:
            rules = GrammarIR((Rule(name, expr), *self._ir.rules), name)
            return shortest_accepted(Recognizer(compile_ir(rules, self._limits), self._limits))
        except (GrammarError, LimitExceeded):
            return None

    # -- lengths -----------------------------------------------------------------------------------

    def _length(self, expr: Expr) -> tuple[float, float]:
        """Fewest and most bytes; a rule that is within itself has no most."""
        if isinstance(expr, Literal):
            return len(expr.data), len(expr.data)
        if isinstance(expr, Chars):
            sizes = [len(chr(c).encode()) for c in (expr.ranges[0][0], expr.ranges[-1][1])]
            return sizes[0], sizes[1]
        if isinstance(expr, ByteSet):
            return 1, 1
        if isinstance(expr, Ref):
            return self._length_of_rule(expr.name)
        if isinstance(expr, Seq):
            parts = [self._length(x) for x in expr.items]
            return sum(low for low, _ in parts), sum(high for _, high in parts)
        if isinstance(expr, Alt):
            parts = [self._length(x) for x in expr.items]
            return min(low for low, _ in parts), max(high for _, high in parts)
        if isinstance(expr, Repeat):
            low, high = self._length(expr.item)
            most = 0 if high == 0 else _ENDLESS if expr.max is None else high * expr.max
            return low * expr.min, most
        return 0, _ENDLESS

    def _length_of_rule(self, name: str) -> tuple[float, float]:
        known = self._lengths.get(name)
        if known is None:
            self._lengths[name] = 0, _ENDLESS  # what it is to itself
            known = self._lengths[name] = self._length(self._ir[name].body)
        return known

    # -- first bytes -------------------------------------------------------------------------------

    def _find_firsts(self) -> None:
        users = self._users()
        todo = deque(reversed(self.reached))
        waiting = set(todo)
        while todo:
            name = todo.popleft()
            waiting.discard(name)
            found = self._first_of(self._ir[name].body)
            if found != self._firsts[name]:
                self._firsts[name] = found
                for user in users.get(name, ()):
                    if user not in waiting:
                        waiting.add(user)
                        todo.append(user)

    def _first_of(self, expr: Expr) -> tuple[int, bool]:
        """First bytes, and whether the empty text is among the texts (or may be)."""
        if isinstance(expr, Ref):
            return self._firsts[expr.name]
        if isinstance(expr, Literal):
            return (1 << expr.data[0] if expr.data else 0), not expr.data
        if isinstance(expr, Chars | ByteSet):
            return _first_of_class(expr), False
        if isinstance(expr, Alt):
            parts = [self._first_of(x) for x in expr.items]
            return reduce(or_, (first for first, _ in parts), 0), any(empty for _, empty in parts)
        if isinstance(expr, Repeat):
            first, empty = self._first_of(expr.item)
            return first, empty or expr.min == 0
        if isinstance(expr, Seq):
            out = 0
            for item in expr.items:
                first, empty = self._first_of(item)
                out |= first
                if not empty:
                    return out, False
            return out, True
        return _ANY, True

    # -- around rules ------------------------------------------------------------------------------

    def _find_around(self) -> dict[str, Around]:
        out: dict[str, Around] = {}
        order = count()
        heap: list[tuple[int, int, str, Around]] = [(0, next(order), self._ir.start, (b"", b""))]
        while heap:
            _, _, name, (before, behind) = heapq.heappop(heap)
            if name in out:
                continue
            out[name] = before, behind
            for found, a, b in self._occurrences(self._ir[name].body):
                if found not in out:
                    around = before + a, b + behind
                    heapq.heappush(heap, (sum(map(len, around)), next(order), found, around))
        return out

    def _occurrences(self, body: Expr) -> Iterator[tuple[str, bytes, bytes]]:
        """References, each with a shortest text before and behind it within the rule."""
        stack: list[tuple[Expr, bytes, bytes]] = [(body, b"", b"")]
        while stack:
            node, before, behind = stack.pop()
            if isinstance(node, Ref):
                yield node.name, before, behind
            elif isinstance(node, Alt):
                stack += [(x, before, behind) for x in node.items]
            elif isinstance(node, Seq):
                for k, item in enumerate(node.items):
                    left, right = (
                        self.text(_of(node.items[:k])),
                        self.text(_of(node.items[k + 1 :])),
                    )
                    if left is not None and right is not None:
                        stack.append((item, before + left, right + behind))
            elif isinstance(node, Repeat):
                more = self.text(Repeat(node.item, max(node.min - 1, 0), None))
                if more is not None:
                    stack.append((node.item, before, more + behind))


def _first_of_class(expr: Chars | ByteSet) -> int:
    out = 0
    for low, high in expr.ranges:
        if isinstance(expr, Chars):
            low, high = chr(low).encode()[0], chr(high).encode()[0]
        out |= (1 << high + 1) - (1 << low)
    return out


def _of(items: tuple[Expr, ...]) -> Expr:
    return Seq(items)


def _reached(ir: GrammarIR) -> list[str]:
    out = [ir.start]
    seen = {ir.start}
    for name in out:  # grows while we iterate
        for found in referred(ir[name].body):
            if found not in seen:
                seen.add(found)
                out.append(found)
    return out


def referred(body: Expr) -> list[str]:
    """Names of rules that an expression refers to outside intersections and complements."""
    out: dict[str, None] = {}
    stack = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, Ref):
            out[node.name] = None
        elif not isinstance(node, And | Not):
            stack += reversed(children(node))
    return list(out)


def shortest_accepted(recognizer: Recognizer, state: int | None = None) -> bytes | None:
    """A shortest text that leads from a state to the end; ``None`` if none was found.

    A* search (Hart, Nilsson, Raphael 1968): a state is estimated by the fewest bytes to the ends of the
    rules that are open there, counts and bags left out, which is never too much.  The states of a recursive
    grammar have no end, so only so many are looked at.
    """
    start = recognizer.start if state is None else state
    if start == DEAD:
        return None
    estimate = _Estimate(recognizer)
    symbols = one_of_each_class(recognizer.program)
    came: dict[int, tuple[int, int] | None] = {start: None}
    lengths = {start: 0}
    order = count()
    heap = [(estimate.of(start), next(order), start)]
    done: set[int] = set()
    while heap and len(done) < _MOST_STATES:
        _, _, at = heapq.heappop(heap)
        if at in done:
            continue
        done.add(at)
        if recognizer.accepting[at]:
            return _spelled(came, at)
        for byte in symbols:
            after = recognizer.advance(at, byte)
            length = lengths[at] + 1
            if after != DEAD and length < lengths.get(after, _ENDLESS):
                lengths[after] = length
                came[after] = at, byte
                heapq.heappush(heap, (length + estimate.of(after), next(order), after))
    return None


def completions(recognizer: Recognizer, text: bytes) -> Iterator[bytes]:
    """Short texts of the language that begin as a text does, for who cannot take the shortest.

    One for each byte that can come next (one of each class of bytes), the shortest first; then the same for
    the text without its last byte, and so on for a few bytes.
    """
    symbols = one_of_each_class(recognizer.program)
    for end in range(len(text), max(len(text) - _MOST_DROPPED, 0) - 1, -1):
        state, used = recognizer.run(text[:end])
        found = []
        for byte in symbols if used == end else ():
            rest = shortest_accepted(recognizer, recognizer.advance(state, byte))
            if rest is not None:
                found.append(text[:end] + bytes((byte,)) + rest)
        yield from sorted(found, key=len)


_MOST_DROPPED: Final = 4
"""Bytes that :func:`completions` leaves out at the end of a text at most."""


class _Estimate:
    """Fewest bytes from a state of a recognizer to the end, or fewer."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._items = recognizer.items
        self._to_end = _bytes_to_end(recognizer.program)
        self._known: dict[int, float] = {DEAD: _ENDLESS, END: 0}

    def of(self, state: int) -> float:
        """The estimate; frames below first, without recursion."""
        known = self._known
        stack = [state]
        while stack:
            at = stack[-1]
            missing = [frame for _, _, frame in self._items[at] if frame not in known]
            if missing and at not in known:
                stack += missing
                continue
            stack.pop()
            if at not in known:
                known[at] = min(self._to_end[q] + known[frame] for q, _, frame in self._items[at])
        return known[state]


def _bytes_to_end(program: Program) -> list[float]:
    """By state of a program, the fewest bytes to its rule's end; counts and bags left out."""
    out = [
        0.0 if program.accept_from[q] < UNBOUNDED or program.bag_of[q] >= 0 else _ENDLESS
        for q in range(program.states)
    ]
    changed = True
    while changed:
        changed = False
        for q in range(program.states - 1, -1, -1):
            best = out[q]
            for e in range(program.edge_offset[q], program.edge_offset[q + 1]):
                best = min(best, 1 + out[program.edge_target[e] >> 1])
            for k in range(program.call_offset[q], program.call_offset[q + 1]):
                rest = 0.0 if program.call_tail[k] else out[program.call_return[k] >> 1]
                best = min(best, out[program.call_start[k]] + rest)
            if best < out[q]:
                out[q] = best
                changed = True
    return out


def one_of_each_class(program: Program) -> list[int]:
    """A byte of each class that the rules tell apart, the one that people read best."""
    out: dict[int, int] = {}
    classes = program.byte_class[:256].tolist()
    for byte in sorted(range(256), key=_plainness):
        out.setdefault(classes[byte], byte)
    return list(out.values())


def _spelled(came: dict[int, tuple[int, int] | None], state: int) -> bytes:
    out = bytearray()
    by = came[state]
    while by is not None:
        out.append(by[1])
        by = came[by[0]]
    return bytes(reversed(out))


def _plainness(byte: int) -> tuple[int, int]:
    """The order of bytes by how well they can be read: letters, digits, other characters, the rest."""
    char = chr(byte)
    if byte >= 0x80:
        return (4, byte)
    rank = 0 if "a" <= char <= "z" else 1 if char.isalnum() else 2 if char.isprintable() else 3
    return rank, byte
