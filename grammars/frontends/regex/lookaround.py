"""Patterns with conditions on positions: anchors, word boundaries, look-around.

A regular expression with conditions denotes a set of texts, which this module finds without the
conditions.  An :class:`Edge` speaks about the characters next to a position.  Code points are cut
into the few classes that the edges of one pattern tell apart; the language of a node then depends
only on the class before it and the class behind it.  A concatenation guesses the two classes at its
joint and holds its parts to the guess (:func:`last_in`, :func:`first_in`), a repetition of such a
node is the set of paths through a small graph of guesses, written out again as an expression.

A look at more than one character (:class:`Look`) is an intersection with everything that stands
behind (or before) it, which is possible wherever the look is not itself repeated without bound.

Besides the classes, two things can stand next to a position: nothing (the text's end), and
(``LAST_NEWLINE``) a line feed that ends the text, before which Python's ``$`` holds as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, TypeVar

from grammars.frontends.regex.alternating import solve_by_automaton
from grammars.frontends.regex.nodes import (
    ALL,
    ANY_TEXT,
    EMPTY,
    Atomic,
    Cat,
    Edge,
    Look,
    Node,
    Or,
    Plain,
    Rep,
    Side,
    Solved,
    UnsolvableError,
    cat,
    contains,
    nodes_of,
    nullable,
    size_of,
    united,
)
from grammars.frontends.regex.nodes import locate as locate  # for other front ends
from grammars.ir import (
    EPSILON,
    MAX_CODE_POINT,
    NOTHING,
    Alt,
    And,
    Chars,
    Expr,
    Literal,
    Not,
    Ranges,
    Repeat,
    Seq,
    alt,
    both,
    chars,
    intersect_ranges,
    minus,
    normalize_ranges,
    repeat,
    seq,
    walk,
)
from grammars.limits import DEFAULT_LIMITS
from grammars.work import spend

_Key = TypeVar("_Key", bound=Hashable)

_NEWLINE: Final[Ranges] = ((10, 10),)

_MAX_COPIES: Final = 64
"""Most copies of a repeated part whose text depends on its surroundings."""
_MAX_LINES: Final = 32
"""Most alternatives after looks have been brought to the top."""
_MAX_NODES: Final = 50_000
"""Largest expression made here."""
_FEW_STATES: Final = 2_000
"""States of a pattern, its repetitions written out, with which automata are cheap."""


def first_in(expr: Expr, ranges: Ranges) -> Expr:
    """The texts of the expression that begin with a character of the class."""
    match expr:
        case Literal(data):
            inside = bool(data) and contains(ranges, ord(data.decode()[0]))
            return expr if inside else NOTHING
        case Chars(own):
            return chars(intersect_ranges(own, ranges))
        case Seq(items):
            out: list[Expr] = []
            for i, item in enumerate(items):
                out.append(seq(first_in(item, ranges), *items[i + 1 :]))
                if not nullable(item):
                    break
            return united(*out)
        case Alt(items):
            return united(*(first_in(item, ranges) for item in items))
        case Repeat(item, low, high):
            rest = repeat(item, max(low - 1, 0), None if high is None else high - 1)
            return seq(first_in(item, ranges), rest)
        case And(items):
            return both(first_in(items[0], ranges), *items[1:])
        case Not():
            return both(seq(chars(ranges), ANY_TEXT), expr)
    return NOTHING


def last_in(expr: Expr, ranges: Ranges) -> Expr:
    """The texts of the expression that end with a character of the class."""
    match expr:
        case Literal(data):
            inside = bool(data) and contains(ranges, ord(data.decode()[-1]))
            return expr if inside else NOTHING
        case Chars(own):
            return chars(intersect_ranges(own, ranges))
        case Seq(items):
            out: list[Expr] = []
            for i in range(len(items) - 1, -1, -1):
                out.append(seq(*items[:i], last_in(items[i], ranges)))
                if not nullable(items[i]):
                    break
            return united(*out)
        case Alt(items):
            return united(*(last_in(item, ranges) for item in items))
        case Repeat(item, low, high):
            rest = repeat(item, max(low - 1, 0), None if high is None else high - 1)
            return seq(rest, last_in(item, ranges))
        case And(items):
            return both(last_in(items[0], ranges), *items[1:])
        case Not():
            return both(seq(ANY_TEXT, chars(ranges)), expr)
    return NOTHING


def _is_newline(expr: Expr) -> bool:
    """Whether a line feed alone is a text of the expression."""
    match expr:
        case Literal(data):
            return data == b"\n"
        case Chars(ranges):
            return contains(ranges, 10)
        case Seq(items):
            return any(
                _is_newline(item) and all(nullable(x) for j, x in enumerate(items) if j != i)
                for i, item in enumerate(items)
            )
        case Alt(items):
            return any(map(_is_newline, items))
        case And(items):
            return all(map(_is_newline, items))
        case Repeat(item, low, _):
            return _is_newline(item) and (low <= 1 or nullable(item))
        case Not(item):
            return not _is_newline(item)
    return False


def _without_empty(expr: Expr) -> Expr:
    """The expression without an alternative that is the empty text: all the same in a star."""
    if expr == EPSILON:
        return NOTHING
    return alt(*(x for x in expr.items if x != EPSILON)) if isinstance(expr, Alt) else expr


# -- solving ---------------------------------------------------------------------------------------

_START: Final = 0  # a class before a position: nothing
_END: Final = 0  # a class behind a position: nothing


def solve(node: Node, limit: int = DEFAULT_LIMITS.max_dfa_states) -> Expr:
    """The texts that match the node from their start to their end, without conditions.

    Where conditions stand outside repetitions the answer is an expression, in which counted
    repetitions stay counted; otherwise, or where that expression would be large, an automaton.

    Args:
        node: the pattern.
        limit: most states of an automaton.

    Raises:
        UnsolvableError: for an atomic group with a repetition whose part may be empty.
        LimitExceeded: for ``max_dfa_states`` and ``max_work``.
    """
    if isinstance(node, Plain):
        return node.expr
    if not _suits_automaton(node):
        try:
            solver = _Solver(_edges(node))
            if not _has_look(node):
                return solver.language(node, _START, _END)
            return united(*(solver.line(items) for items in _lines(node)))
        except UnsolvableError:
            pass
    return _by_automaton(node, limit)


def _suits_automaton(node: Node) -> bool:
    """Whether something has no expression, or only a large one though its automaton is small."""
    repeated: list[Node] = []
    for part in nodes_of(node):
        if isinstance(part, Atomic):
            return True
        if isinstance(part, Look):
            if _has_look(part.item):
                return True
            if not part.ahead and any(map(_asks_for_last_newline, _edges(part.item))):
                return True  # a guess of any line feed would be wrong where the look is negated
        if isinstance(part, Rep) and part.max != 1:
            if _has_look(part.item):
                return True
            repeated.append(part.item)
    return any(map(_edges, repeated)) and size_of(node) <= _FEW_STATES


def _by_automaton(node: Node, limit: int) -> Expr:
    """By automata: one for each look-ahead at the start of the text, one for the rest."""
    rest = list(node.items) if isinstance(node, Cat) else [node]
    if len(rest) > 1 and _is_any_text(rest[0]) and _is_text_start(rest[1]):
        del rest[0]
    looks: list[Look] = []
    kept: list[Node] = []
    for i, item in enumerate(rest):
        if isinstance(item, Look) and item.ahead:
            looks.append(item)
            continue
        kept.append(item)
        if not _is_text_start(item):
            kept += rest[i + 1 :]
            break
    out = solve(cat(kept), limit) if looks else solve_by_automaton(cat(kept), limit)
    for item in looks:
        asked = solve(cat([item.item, Plain(ANY_TEXT)]), limit)
        out = minus(out, asked) if item.negative else both(out, asked)
    return out


def _is_any_text(node: Node) -> bool:
    return isinstance(node, Plain) and node.expr == ANY_TEXT


def _is_text_start(node: Node) -> bool:
    """Whether the node is an edge that holds at the start of the text only."""
    return (
        isinstance(node, Edge)
        and not node.negative
        and all(left == Side((), nothing=True) for left, _ in node.pairs)
    )


def _edges(node: Node) -> list[Edge]:
    return [x for x in nodes_of(node) if isinstance(x, Edge)]


def _asks_for_last_newline(edge: Edge) -> bool:
    return any(right.last_newline and right.ranges != ALL for _, right in edge.pairs)


def _has_look(node: Node, ahead: bool | None = None) -> bool:
    return any(isinstance(x, Look) and (ahead is None or x.ahead == ahead) for x in nodes_of(node))


def _lines(node: Node) -> list[tuple[Node, ...]]:
    """The node as a union of sequences in which looks stand at the top only."""
    if not _has_look(node):
        return [(node,)]
    out: list[tuple[Node, ...]]
    match node:
        case Or(items):
            out = [line for item in items for line in _lines(item)]
        case Cat(items):
            out = [()]
            for item in items:
                out = [a + b for a in out for b in _lines(item)]
                _check_lines(out)
        case Rep(item, least, _):
            out = [] if least else [()]
            out += _lines(item)
        case _:
            out = [(node,)]
    _check_lines(out)
    return out


def _check_lines(lines: list[tuple[Node, ...]]) -> None:
    if len(lines) > _MAX_LINES:
        raise UnsolvableError("too many combinations of alternatives with look-around")


class _Solver:
    """Languages by the classes that one pattern's edges tell apart.

    Before a position stands class 0 (nothing) or 1..k; behind it 0 (nothing), 1..k, or k+1: a line
    feed that ends the text.  A guess of k+1 and one of the line feed's own class overlap, which is
    harmless in a union.
    """

    def __init__(self, edges: Sequence[Edge]) -> None:
        pairs = [pair for edge in edges for pair in edge.pairs]
        sets = list(dict.fromkeys(side.ranges for pair in pairs for side in pair))
        uses_last = any(right.last_newline and right.ranges != ALL for _, right in pairs)
        if uses_last:
            sets.append(_NEWLINE)
        self._atoms = _partition(sets)
        count = len(self._atoms)
        self._befores = range(count + 1)
        self._afters = range(count + (2 if uses_last else 1))
        self._last_newline = count + 1
        self._newline = next(i for i, x in enumerate(self._atoms, 1) if contains(x, 10))
        self._known: dict[tuple[Node, int, int], Expr] = {}
        self._powers: dict[tuple[Node, int], Node] = {}
        self._halves: dict[Node, tuple[Node, Node]] = {}
        self._unions: dict[tuple[int, ...], Ranges] = {}

    # -- languages by class ---------------------------------------------------------------------

    def language(self, node: Node, p: int, n: int) -> Expr:
        """The node's texts where class p stands before them and class n behind them."""
        match node:
            case Plain(expr):
                return expr
            case Edge():
                return EPSILON if self._holds(node, p, n) else NOTHING
            case Solved(by_class, tail):
                return by_class[p if tail else n]
            case Look() | Atomic():
                raise UnsolvableError("this cannot stand here", node.offset)
        key = (node, p, n)
        known = self._known.get(key)
        if known is None:
            match node:
                case Or(items):
                    known = united(*(self.language(x, p, n) for x in items))
                case Cat():
                    known = self._join(*self._split(node), p, n)
                case Rep():
                    known = self._repeat(node, p, n)
            nodes = sum(1 for _ in walk(known))
            spend(1 + nodes // 2)
            if nodes > _MAX_NODES:
                raise UnsolvableError(
                    "the anchors and word boundaries of this pattern multiply beyond "
                    f"{_MAX_NODES:,} nodes; write fewer of them inside repetitions"
                )
            self._known[key] = known
        return known

    def _holds(self, edge: Edge, p: int, n: int) -> bool:
        found = any(
            self._is(left, p, behind=False) and self._is(right, n, behind=True)
            for left, right in edge.pairs
        )
        return found != edge.negative

    def _is(self, side: Side, which: int, *, behind: bool) -> bool:
        if which == 0:
            return side.nothing
        if behind and which == self._last_newline:
            return side.last_newline or contains(side.ranges, 10)
        return contains(side.ranges, self._atoms[which - 1][0][0])

    def _split(self, node: Cat) -> tuple[Node, Node]:
        halves = self._halves.get(node)
        if halves is None:
            middle = len(node.items) // 2
            halves = self._halves[node] = (cat(node.items[:middle]), cat(node.items[middle:]))
        return halves

    def _join(self, first: Node, second: Node, p: int, n: int) -> Expr:
        """Concatenation: guess what stands on either side of the joint."""
        firsts = _grouped(self._afters, lambda c: self.language(first, p, c))
        seconds = _grouped(self._befores, lambda d: self.language(second, d, n))
        out: list[Expr] = []
        for a, ahead in firsts.items():
            for b, before in seconds.items():
                out.append(seq(self._ending(a, before, p), self._starting(b, ahead, n)))
        return united(*out)

    def _ranges(self, classes: Iterable[int]) -> Ranges:
        """The characters of some classes."""
        count = len(self._atoms)
        key = tuple(i for i in classes if 1 <= i <= count)
        known = self._unions.get(key)
        if known is None:
            pairs = (pair for i in key for pair in self._atoms[i - 1])
            known = self._unions[key] = normalize_ranges(pairs)
        return known

    def _is_every_atom(self, classes: Sequence[int]) -> bool:
        return sum(1 for i in classes if 1 <= i <= len(self._atoms)) == len(self._atoms)

    def _ending(self, expr: Expr, classes: Sequence[int], p: int) -> Expr:
        """Texts after which one of the classes stands before the position."""
        if self._is_every_atom(classes) and p in classes:
            return expr
        empty = EPSILON if p in classes and nullable(expr) else NOTHING
        return united(empty, last_in(expr, self._ranges(classes)))

    def _starting(self, expr: Expr, classes: Sequence[int], n: int) -> Expr:
        """Texts before which one of the classes stands behind the position."""
        if self._is_every_atom(classes) and n in classes:
            return expr
        empty = EPSILON if n in classes and nullable(expr) else NOTHING
        some = first_in(expr, self._ranges(classes))
        if self._last_newline in classes and n == _END and _is_newline(expr):
            return united(empty, Literal(b"\n"), some)
        return united(empty, some)

    # -- repetition -----------------------------------------------------------------------------

    def _repeat(self, node: Rep, p: int, n: int) -> Expr:
        least, most = node.min, node.max
        item = node.item
        same = {self.language(item, d, c) for d in self._befores for c in self._afters}
        if len(same) == 1:
            return repeat(same.pop(), least, most)
        if least == 0 and most is None:
            return self._star(item, p, n)
        if max(least, most or 0) > _MAX_COPIES:
            raise UnsolvableError(
                f"more than {_MAX_COPIES} copies of a part whose anchors or word boundaries depend "
                "on its neighbours; use * or + instead"
            )
        if most is None:
            parts = (self._power(item, least), self._power_of_star(item))
        else:
            parts = (self._power(item, least), self._power(self._maybe(item), most - least))
        return self.language(cat(parts), p, n)

    def _power_of_star(self, item: Node) -> Node:
        return self._powers.setdefault((item, -1), Rep(item, 0, None))

    def _maybe(self, item: Node) -> Node:
        return self._powers.setdefault((item, -2), Or((EMPTY, item)))

    def _power(self, item: Node, count: int) -> Node:
        if count <= 1:
            return item if count else EMPTY
        known = self._powers.get((item, count))
        if known is None:
            half = count // 2
            # not flattened: equal halves are then solved once
            known = Cat((self._power(item, half), self._power(item, count - half)))
            self._powers[item, count] = known
        return known

    def _star(self, item: Node, p: int, n: int) -> Expr:
        """Paths through guesses (class before, class behind), one non-empty copy for each step."""
        step = {
            (d, c): _without_empty(self.language(item, d, c))
            for d in self._befores
            for c in self._afters
        }
        if len(set(step.values())) == 1:
            return repeat(step[p, n])
        alone = [_END, self._last_newline] if len(self._afters) > len(self._befores) else []
        befores = list(
            _grouped(self._befores, lambda d: tuple(step[d, c] for c in self._afters)).values()
        )
        afters = list(
            _grouped(
                self._afters,
                lambda c: (c if c in alone else -1, tuple(step[d, c] for d in self._befores)),
            ).values()
        )
        here = next(i for i, group in enumerate(befores) if p in group)
        steps: dict[tuple[int, int, int, int], Expr] = {}
        for (d, before), (c1, after) in itertools.product(enumerate(befores), enumerate(afters)):
            expr = step[before[0], after[0]]
            for c0, ahead in enumerate(afters):
                begun = first_in(expr, self._ranges(ahead))
                if self._last_newline in ahead and after == [_END] and _is_newline(expr):
                    begun = united(begun, Literal(b"\n"))
                for d1, behind in enumerate(befores):
                    ended = last_in(begun, self._ranges(behind))
                    if ended != NOTHING:
                        steps[d, c0, d1, c1] = ended
        edges: dict[tuple[int, int], Expr] = {}
        width = len(afters)
        source, sink = -1, -2
        for (d, c0, d1, c1), expr in steps.items():
            _add(edges, d * width + c0, d1 * width + c1, expr)
        last = next(i for i, group in enumerate(afters) if n in group)
        for c in range(width):
            _add(edges, source, here * width + c, EPSILON)
        for d in range(len(befores)):
            _add(edges, d * width + last, sink, EPSILON)
        return united(EPSILON, _paths(edges, source, sink))

    # -- looks ----------------------------------------------------------------------------------

    def line(self, items: Sequence[Node]) -> Expr:
        """The texts of a sequence with looks at its top level."""
        whole: list[tuple[Expr, bool]] = []
        rest = list(items)
        # a look-ahead at the text's start, a look-behind at its end: about the whole text
        for i in [i for i, x in enumerate(rest) if isinstance(x, Look) and x.ahead]:
            before = [x for x in rest[:i] if x is not EMPTY]
            if any(isinstance(x, Look) for x in before) or not self._is_start(cat(before)):
                break
            whole.append(self._looked(rest[i], _START))
            rest[i] = EMPTY
        for i in [i for i, x in enumerate(rest) if isinstance(x, Look) and not x.ahead][::-1]:
            behind = [x for x in rest[i + 1 :] if x is not EMPTY]
            if any(isinstance(x, Look) for x in behind) or not self._is_end(cat(behind)):
                break
            whole.append(self._looked(rest[i], _END))
            rest[i] = EMPTY
        aheads = [i for i, x in enumerate(rest) if isinstance(x, Look) and x.ahead]
        backs = [i for i, x in enumerate(rest) if isinstance(x, Look) and not x.ahead]
        if aheads and backs and aheads[0] < backs[-1]:
            offender = rest[backs[-1]]
            raise UnsolvableError(
                "a look-behind after a look-ahead is not possible; write one of them without",
                offender.offset if isinstance(offender, Look) else None,
            )
        cut = backs[-1] + 1 if backs else 0
        node = cat([*self._head(rest[:cut]), *self._tail(rest[cut:])])
        out = self.language(node, _START, _END)
        for expr, negative in whole:
            out = minus(out, expr) if negative else both(out, expr)
        return out

    def _is_start(self, node: Node) -> bool:
        return all(self.language(node, _START, c) in (EPSILON, NOTHING) for c in self._afters)

    def _is_end(self, node: Node) -> bool:
        return all(self.language(node, d, _END) in (EPSILON, NOTHING) for d in self._befores)

    def _looked(self, node: Node, which: int) -> tuple[Expr, bool]:
        """What a look asks of all that stands on its side; ``which`` is on the other side."""
        assert isinstance(node, Look)
        if _has_look(node.item, not node.ahead):
            raise UnsolvableError(
                "a look-behind inside a look-ahead (or the reverse) is not possible", node.offset
            )
        out: list[Expr] = []
        for items in _lines(node.item):
            if node.ahead:
                inside = cat(self._tail([*items, Plain(ANY_TEXT)]))
                out.append(self.language(inside, which, _END))
            else:
                inside = cat(self._head([Plain(ANY_TEXT), *items]))
                out.append(self.language(inside, _START, which))
        return united(*out), node.negative

    def _tail(self, items: Sequence[Node]) -> list[Node]:
        """A text's end: everything from the first look-ahead on is solved together."""
        out = list(items)
        for i in range(len(out) - 1, -1, -1):
            node = out[i]
            if isinstance(node, Look):
                rest = cat(out[i + 1 :])
                table: dict[int, Expr] = {}
                for d in self._befores:
                    expr, negative = self._looked(node, d)
                    own = self.language(rest, d, _END)
                    table[d] = minus(own, expr) if negative else both(own, expr)
                out[i:] = [Solved(table, tail=True)]
        return out

    def _head(self, items: Sequence[Node]) -> list[Node]:
        """A text's beginning, up to its last look-behind."""
        out: list[Node] = []
        for node in items:
            if not isinstance(node, Look):
                out.append(node)
                continue
            rest = cat(out)
            table: dict[int, Expr] = {}
            for c in self._afters:
                expr, negative = self._looked(node, c)
                own = self.language(rest, _START, c)
                table[c] = minus(own, expr) if negative else both(own, expr)
            out = [Solved(table, tail=False)]
        return out


def _partition(sets: Sequence[Ranges]) -> list[Ranges]:
    """The coarsest classes of which every given set is a union."""
    events: dict[int, int] = {0: 0}  # where the membership bits change
    for bit, ranges in enumerate(sets):
        for lo, hi in ranges:
            events[lo] = events.get(lo, 0) ^ 1 << bit
            events[hi + 1] = events.get(hi + 1, 0) ^ 1 << bit
    points = sorted(events)
    members = 0
    pieces: dict[int, list[tuple[int, int]]] = {}
    for at, end in zip(points, [*points[1:], MAX_CODE_POINT + 1], strict=True):
        members ^= events[at]
        if at < end:
            pieces.setdefault(members, []).append((at, end - 1))
    return [normalize_ranges(pairs) for pairs in pieces.values()]


def _grouped(classes: Iterable[int], key: Callable[[int], _Key]) -> dict[_Key, list[int]]:
    out: dict[_Key, list[int]] = {}
    for which in classes:
        out.setdefault(key(which), []).append(which)
    return out


def _add(edges: dict[tuple[int, int], Expr], a: int, b: int, expr: Expr) -> None:
    if expr != NOTHING:
        edges[a, b] = united(edges.get((a, b), NOTHING), expr)


def _paths(edges: dict[tuple[int, int], Expr], source: int, sink: int) -> Expr:
    """The texts of all paths: inner nodes are taken out one by one (Kleene)."""
    inner = {x for pair in edges for x in pair} - {source, sink}
    while inner:
        cost = {
            x: sum(1 for _, b in edges if b == x) * sum(1 for a, _ in edges if a == x)
            for x in inner
        }
        x = min(inner, key=lambda x: (cost[x], x))
        inner.remove(x)
        loop = repeat(edges.pop((x, x), NOTHING))
        into = [(a, edges.pop((a, b))) for a, b in list(edges) if b == x]
        out = [(b, edges.pop((a, b))) for a, b in list(edges) if a == x]
        for (a, first), (b, second) in itertools.product(into, out):
            _add(edges, a, b, seq(first, loop, second))
    return edges.get((source, sink), NOTHING)
