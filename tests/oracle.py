"""Brute force on the intermediate form: slow, exact, and sharing no code with the engine.

Four ways to decide the same questions, each simple enough to be checked by reading, and checked
against each other in ``test_oracle.py``:

``member``      spans of the text as sets, a least fixpoint; And/Not are set operations on spans.
``Regular``     derivatives of regular expressions (Brzozowski 1964) on bytes.
``Chart``       the grammar intersected with a weighted automaton that spells *prefix, then any
                tokens* (Bar-Hillel): the cheapest derivation is the fewest tokens still needed.
``Recognizer``  a chart parser from left to right: which prefixes some byte string completes.

Grammars with memory are decided by the definition: ``marked`` turns a text into the symbols that the
rules read (or finds a key twice), the methods above decide the rest.  Completions of such grammars
are searched for (``_Search``); an answer is exact, and where the search has no end it raises
``Undecided``.  Only grammars whose texts are all JSON have a meaning there.

Of the project only ``grammars.ir`` is imported.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from heapq import heappop, heappush
from itertools import product
from typing import Any

from hypothesis.errors import UnsatisfiedAssumption

from grammars.ir import (
    REPEATED_CLOSE,
    REPEATED_COMMA,
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
    Ref,
    Repeat,
    Seq,
)

Tokens = Sequence[bytes | None]
Node = tuple[Any, ...]
Symbols = bytes | tuple[int, ...]
"""Bytes, or bytes and marks."""


# --- the public questions ------------------------------------------------------------------------


def member(ir: GrammarIR, data: bytes) -> bool:
    """Is ``data`` in the language?"""
    if not has_memory(ir):
        return _Spans(ir, _characters(data)).accepts()
    symbols = marked(ir, data)
    return symbols is not None and _Spans(ir, "".join(map(chr, symbols))).accepts()


def min_tokens(ir: GrammarIR, prefix: bytes, tokens: Tokens) -> int | None:
    """The least k with ``prefix + w1 .. wk`` in the language, each w a token; None if none.

    Raises:
        Undecided: for a grammar with memory, if too many texts would have to be looked at.
    """
    if has_memory(ir):
        return _search(ir, tuple(tokens)).min_tokens(prefix)
    return _chart(ir, tuple(tokens)).min_tokens(prefix)


def completable(ir: GrammarIR, prefix: bytes, tokens: Tokens) -> bool:
    """Can some sequence of tokens complete ``prefix`` to a text of the language?"""
    return min_tokens(ir, prefix, tokens) is not None


def viable_prefix(ir: GrammarIR, prefix: bytes, alphabet: Iterable[int] = range(256)) -> bool:
    """Can bytes of ``alphabet`` complete ``prefix`` to a text of the language?"""
    return completable(ir, prefix, tuple(bytes([b]) for b in sorted(set(alphabet))))


def mask(
    ir: GrammarIR,
    prefix: bytes,
    tokens: Tokens,
    eos_token_ids: Iterable[int] = (),
    tokens_left: int | None = None,
) -> set[int]:
    """The ids allowed after ``prefix``, end-of-sequence ids included.

    With ``tokens_left`` a token must leave room for the shortest completion and one EOS.
    """
    eos = set(eos_token_ids)
    allowed = set()
    for token_id, token in enumerate(tokens):
        if token and token_id not in eos:
            rest = min_tokens(ir, prefix + token, tokens)
            if rest is not None and (tokens_left is None or 1 + rest + 1 <= tokens_left):
                allowed.add(token_id)
    if member(ir, prefix) and (tokens_left is None or tokens_left >= 1):
        allowed |= eos
    return allowed


def forced_bytes(ir: GrammarIR, prefix: bytes, tokens: Tokens, cap: int = 64) -> bytes:
    """The longest text (up to ``cap`` bytes) that every completion of ``prefix`` by tokens begins
    with; a completion may be empty, so nothing is forced after a text of the language.
    """
    if has_memory(ir):
        return _search(ir, tuple(tokens)).forced_bytes(prefix, cap)
    return _chart(ir, tuple(tokens)).forced_bytes(prefix, cap)


def forced_by_rules(ir: GrammarIR, prefix: bytes, cap: int = 64) -> bytes:
    """What every completion by bytes begins with because the rules alone say so: as if no key and
    no item behind ``prefix`` were ever compared with another.  Without memory: what is forced.
    """
    symbols = marked(ir, prefix) if has_memory(ir) else list(prefix)
    recognizer = Recognizer(ir)
    places = [] if symbols is None else [recognizer.extend(recognizer.start, tuple(symbols))]
    forced = b""
    while places and len(forced) < cap and not any(place.accepting for place in places):
        onward: dict[int, list[Position]] = {}
        for place, byte in product(places, range(256)):
            for symbol in (byte, *_marks_of(ir, byte)):
                after = recognizer.extend(place, (symbol,))
                if after.viable:
                    onward.setdefault(byte, []).append(after)
        if len(onward) != 1:
            break
        byte, places = onward.popitem()
        forced += bytes([byte])
    return forced


def _marks_of(ir: GrammarIR, byte: int) -> tuple[int, ...]:
    """The mark that may stand for a byte."""
    if not ir.compare_items:
        return ()
    return {ord(","): (REPEATED_COMMA,), ord("]"): (REPEATED_CLOSE,)}.get(byte, ())


# --- memory --------------------------------------------------------------------------------------


def has_memory(ir: GrammarIR) -> bool:
    """Does membership depend on which keys and items occurred before?"""
    return ir.distinct_keys or ir.compare_items


def marked(ir: GrammarIR, data: bytes) -> list[int] | None:
    """The symbols that the rules read instead of a prefix of a JSON text; None at a repeated key.

    A prefix is as good as a whole text: a key counts as soon as its string ends, and a separator
    is marked for what stands before it.  None also where JSON has an error that shows early.
    """
    try:
        return _marked(ir, data)
    except (ValueError, RecursionError):
        return None


def _marked(ir: GrammarIR, data: bytes) -> list[int] | None:
    symbols = list(data)
    open_: list[tuple[bool, int, list[Any]]] = []  # (object?, where its item begins, what it had)
    at = 0
    while at < len(data):
        byte = data[at : at + 1]
        if byte == b'"':
            end = _string_end(data, at)
            if end is None:
                return symbols
            if open_ and open_[-1][0] and not data[open_[-1][1] : at].strip():
                key = json.loads(data[at:end].decode(), strict=False)
                if ir.distinct_keys and key in open_[-1][2]:
                    return None
                open_[-1][2].append(key)
            at = end
            continue
        if byte in (b"[", b"{"):
            open_.append((byte == b"{", at + 1, []))
        elif byte in (b",", b"]", b"}") and open_:
            is_object, start, earlier = open_.pop()
            if byte == (b"]" if is_object else b"}"):
                return None
            item = data[start:at].strip()
            if not is_object and item:
                value = _value(item)
                if ir.compare_items and value in earlier:
                    symbols[at] = REPEATED_COMMA if byte == b"," else REPEATED_CLOSE
                earlier.append(value)
            if byte == b",":
                open_.append((is_object, at + 1, earlier))
        at += 1
    return symbols


def _string_end(data: bytes, start: int) -> int | None:
    at = start + 1
    while at < len(data):
        if data[at : at + 1] == b'"':
            return at + 1
        at += 2 if data[at : at + 1] == b"\\" else 1
    return None


def _value(item: bytes) -> Hashable:
    """A JSON value as something equal for equal values only (``True == 1`` in Python)."""

    def frozen(value: Any) -> Hashable:
        match value:
            case list():
                return "array", tuple(map(frozen, value))
            case dict():
                return "object", frozenset((key, frozen(x)) for key, x in value.items())
        return type(value).__name__, value

    return frozen(json.loads(item.decode(), parse_int=Fraction, parse_float=Fraction))


class Undecided(UnsatisfiedAssumption):
    """A search that would have to look at too many texts; a random test drops the case."""


class _Search:
    """Completions of grammars with memory by tokens: A* over whole texts.

    The estimate is the fewest tokens if marks were free to choose from here on (memory of what was
    read so far is respected).  It never exceeds the truth, and where it finds nothing there is
    nothing.  So a search that ends is exact both ways; it may only take too long to find that there
    is nothing, which the small languages of the tests avoid.
    """

    most = 500

    def __init__(self, ir: GrammarIR, tokens: tuple[bytes | None, ...]) -> None:
        self.ir = ir
        self.tokens = sorted({token for token in tokens if token})
        self.chart = Chart(ir, tokens)
        self.recognizer = Recognizer(ir)
        self.positions: dict[bytes, Position] = {}
        self.estimates: dict[bytes, int | None] = {}
        self.known: dict[bytes, int | None] = {}

    def min_tokens(self, prefix: bytes) -> int | None:
        if prefix not in self.known:
            self.known[prefix] = self.search(prefix)
        return self.known[prefix]

    def search(self, prefix: bytes) -> int | None:
        least = self.estimate(prefix)
        queue = (
            [] if least is None else [(least, 0, prefix)]
        )  # (whole way, minus tokens so far, text)
        before: dict[bytes, bytes] = {}
        best = {prefix: 0}
        settled = set()
        while queue:
            total, depth, text = heappop(queue)
            depth = -depth
            if text in settled:
                continue
            settled.add(text)
            if len(settled) > self.most:
                raise Undecided(prefix)
            if text in self.known or member(self.ir, text):
                self.remember(text, total - depth, prefix, before)
                return total
            for token in self.tokens:
                after = text + token
                rest = self.known[after] if after in self.known else self.estimate(after)
                if rest is not None and depth + 1 < best.get(after, depth + 2):
                    best[after] = depth + 1
                    before[after] = text
                    # The longest way so far first among equals: straight to a goal.
                    heappush(queue, (depth + 1 + rest, -(depth + 1), after))
        return None

    def remember(self, text: bytes, rest: int, prefix: bytes, before: dict[bytes, bytes]) -> None:
        """The rests of all texts on the way found are the fewest as well."""
        self.known.setdefault(text, rest)
        while text != prefix:
            text = before[text]
            rest += 1
            self.known[text] = rest

    def estimate(self, text: bytes) -> int | None:
        if text not in self.estimates:
            symbols = marked(self.ir, text)
            viable = symbols is not None and self.position(tuple(symbols)).viable
            self.estimates[text] = self.chart.min_tokens(tuple(symbols)) if viable else None
        return self.estimates[text]

    def position(self, symbols: tuple[int, ...]) -> Position:
        if not symbols:
            return self.recognizer.start
        if symbols not in self.positions:
            before = self.position(symbols[:-1])
            self.positions[symbols] = self.recognizer.extend(before, symbols[-1:])
        return self.positions[symbols]

    def forced_bytes(self, prefix: bytes, cap: int) -> bytes:
        forced = b""
        inside = {(prefix, b"")}  # whole tokens so far, and what was read of the next one
        while len(forced) < cap and not member(self.ir, prefix + forced):
            onward: dict[int, set[tuple[bytes, bytes]]] = {}
            for text, part in inside:
                for token in self.tokens:
                    if token.startswith(part) and len(token) > len(part):
                        if self.min_tokens(text + token) is None:
                            continue
                        read = token[: len(part) + 1]
                        place = (text + token, b"") if read == token else (text, read)
                        onward.setdefault(read[-1], set()).add(place)
            if len(onward) != 1:
                break
            byte, inside = onward.popitem()
            forced += bytes([byte])
        return forced


@lru_cache(maxsize=16)
def _search(ir: GrammarIR, tokens: tuple[bytes | None, ...]) -> _Search:
    return _Search(ir, tokens)


def forget() -> None:
    """Lets go of all that is remembered of grammars: gigabytes after some hundred of them."""
    _search.cache_clear()
    _chart.cache_clear()


# --- membership by spans -------------------------------------------------------------------------


class _Spans:
    """For each expression and start position, the set of end positions: a least fixpoint."""

    def __init__(self, ir: GrammarIR, data: str) -> None:
        self.ir = ir
        self.data = data  # one character per byte or mark, so that chr(256) is a mark
        self.rule_ends: dict[tuple[str, int], frozenset[int]] = {}

    def accepts(self) -> bool:
        goal = (self.ir.start, 0)
        self.rule_ends[goal] = frozenset()
        while True:  # evaluate every rule at every asked-for position until nothing changes
            before = dict(self.rule_ends)
            for name, start in before:
                self.rule_ends[name, start] = self.ends(self.ir[name].body, start)
            if self.rule_ends == before:
                return len(self.data) in self.rule_ends[goal]

    def ends(self, expr: Expr, start: int) -> frozenset[int]:
        data = self.data
        match expr:
            case Nothing():
                return frozenset()
            case Literal(text):
                there = data.startswith(_characters(text), start)
                return frozenset({start + len(text)} if there else ())
            case ByteSet(ranges):
                inside = start < len(data) and _within(ranges, ord(data[start]))
                return frozenset({start + 1} if inside else ())
            case Mark(symbol):
                return frozenset({start + 1} if data.startswith(chr(symbol), start) else ())
            case Chars(ranges):
                return frozenset(
                    end
                    for end in range(start + 1, min(start + 4, len(data)) + 1)
                    if (char := _one_char(data[start:end])) is not None and _within(ranges, char)
                )
            case Seq(items):
                here = frozenset({start})
                for item in items:
                    here = self.step(item, here)
                return here
            case Alt(items):
                return frozenset().union(*(self.ends(item, start) for item in items))
            case Repeat(item, least, most):
                return self.repeat(item, least, most, start)
            case Ref(name):
                # Not seen before: assume nothing for now; the loop in accepts() comes back to it.
                return self.rule_ends.setdefault((name, start), frozenset())
            case And(items):
                return frozenset.intersection(*(self.regular_ends(item, start) for item in items))
            case Not(item):
                everything = frozenset(range(start, len(data) + 1))
                return everything - self.regular_ends(item, start)
            case Machine():
                return self.machine_ends(expr, start)
            case Bag():
                return self.bag(expr, start)
        raise TypeError(expr)

    def step(self, item: Expr, starts: Iterable[int]) -> frozenset[int]:
        return frozenset(end for start in starts for end in self.ends(item, start))

    def repeat(self, item: Expr, least: int, most: int | None, start: int) -> frozenset[int]:
        # The ends of exactly k copies: they grow to a constant where a copy may be empty, and run
        # out where it may not.  Both times nothing new can come once two in a row are the same.
        here = frozenset({start})
        found: set[int] = set()
        count = 0
        while True:
            if count >= least:
                found |= here
            if count == most:
                break
            after = self.step(item, here)
            if after == here:
                found |= here
                break
            here = after
            count += 1
        return frozenset(found)

    def bag(self, bag: Bag, start: int) -> frozenset[int]:
        """Every way to read items one after the other and to count them for members."""
        todo = [(start, _Count.none(bag))]
        seen = set(todo)
        found: set[int] = set()
        while todo:
            at, count = todo.pop()
            for item, more in count.onward(bag):
                for end in self.ends(item, at):
                    if more.enough(bag):
                        found.add(end)
                    for after in self.ends(bag.separator, end):
                        if (after, more) not in seen:
                            seen.add((after, more))
                            todo.append((after, more))
        return frozenset(found)

    def machine_ends(self, machine: Machine, start: int) -> frozenset[int]:
        state, at, found = 0, start, set()
        while True:
            if machine.accept[state]:
                found.add(at)
            byte = ord(self.data[at]) if at < len(self.data) else -1
            after = [t for low, high, t in machine.edges[state] if low <= byte <= high]
            if not after:
                return frozenset(found)
            state, at = after[0], at + 1

    def regular_ends(self, expr: Expr, start: int) -> frozenset[int]:
        """Exact ends of a part without recursion: complements may not see half-finished sets."""
        return _Inlined(self.ir, self.data).ends(expr, start)


class _Inlined(_Spans):
    """The same with rules followed directly, which ends because no rule below is recursive."""

    def ends(self, expr: Expr, start: int) -> frozenset[int]:
        if isinstance(expr, Ref):
            return self.ends(self.ir[expr.name].body, start)
        return super().ends(expr, start)

    def regular_ends(self, expr: Expr, start: int) -> frozenset[int]:
        return self.ends(expr, start)


@dataclass(frozen=True, slots=True)
class _Count:
    """How many items of a bag were read, by member; no further than the bounds can tell apart."""

    by_member: tuple[int, ...]
    total: int = 0
    last: int = 0

    @staticmethod
    def none(bag: Bag) -> _Count:
        return _Count((0,) * len(bag.members))

    def onward(self, bag: Bag) -> Iterator[tuple[Expr, _Count]]:
        """The items that may come next, and the count with each of them."""
        total = self.total + 1
        if bag.high is None:
            total = min(total, bag.low)
        elif total > bag.high:
            return
        for i, member in enumerate(bag.members):
            mine = self.by_member[i] + 1
            mates = sum(
                count
                for other, count in zip(bag.members, self.by_member, strict=True)
                if other.group == member.group
            )
            if member.group is not None and mates:
                continue
            if bag.ordered and i < self.last:
                continue
            if member.max is None:
                # In a group one item is all there may be, so it has to stay countable.
                mine = min(mine, max(member.min, 0 if member.group is None else 1))
            elif mine > member.max:
                continue
            by_member = (*self.by_member[:i], mine, *self.by_member[i + 1 :])
            yield member.item, _Count(by_member, total, i if bag.ordered else 0)

    def enough(self, bag: Bag) -> bool:
        """May the bag end here?"""
        enough = zip(bag.members, self.by_member, strict=True)
        return self.total >= bag.low and all(count >= member.min for member, count in enough)


def _characters(data: bytes) -> str:
    """One character per byte."""
    return data.decode("latin-1")


def _one_char(data: str) -> int | None:
    """The code point that exactly these bytes write, if any."""
    try:
        text = data.encode("latin-1").decode("utf-8", "strict")
    except UnicodeError:
        return None
    return ord(text) if len(text) == 1 else None


def _within(ranges: Iterable[tuple[int, int]], value: int) -> bool:
    return any(low <= value <= high for low, high in ranges)


# --- regular expressions by derivatives ----------------------------------------------------------

# Number of continuation bytes -> the code points that UTF-8 writes so.
_DOMAINS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((0x80, 0x7FF),),
    2: ((0x800, 0xD7FF), (0xE000, 0xFFFF)),
    3: ((0x10000, 0x10FFFF),),
}
# Number of continuation bytes -> (first lead byte, last lead byte, bits of payload in the lead).
_LEADS = {1: (0xC0, 0xDF, 0x1F), 2: (0xE0, 0xEF, 0x0F), 3: (0xF0, 0xF7, 0x07)}


class Regular:
    """Hash-consed regular expressions and their derivatives; an expression is an integer.

    Shapes: ``("empty",)``, ``("eps",)``, ``("set", ranges)``, ``("chars", ranges)``,
    ``("tail", k, ranges)`` (k continuation bytes whose payload lies in ranges), ``("cat", a, b)``,
    ``("or", frozenset)``, ``("and", frozenset)``, ``("not", a)``, ``("rep", a, least, most)``,
    ``("machine", machine, state)``.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.index: dict[Node, int] = {}
        self.memo: dict[tuple[int, int], int] = {}
        self.nullable_memo: dict[int, bool] = {}
        self.nonempty_memo: dict[int, bool] = {}
        self.empty = self.intern(("empty",))
        self.eps = self.intern(("eps",))
        self.all = self.intern(("not", self.empty))

    def intern(self, node: Node) -> int:
        at = self.index.get(node)
        if at is None:
            at = self.index[node] = len(self.nodes)
            self.nodes.append(node)
        return at

    # Constructors: the laws of Brzozowski's similarity, which keep the derivatives finitely many.

    def cat(self, a: int, b: int) -> int:
        if self.empty in (a, b):
            return self.empty
        if a == self.eps:
            return b
        if b == self.eps:
            return a
        if self.nodes[a][0] == "cat":
            _, first, second = self.nodes[a]
            return self.cat(first, self.cat(second, b))
        return self.intern(("cat", a, b))

    def any_of(self, items: Iterable[int]) -> int:
        flat = self._flatten("or", items) - {self.empty}
        if self.all in flat:
            return self.all
        if len(flat) <= 1:
            return next(iter(flat), self.empty)
        return self.intern(("or", frozenset(flat)))

    def all_of(self, items: Iterable[int]) -> int:
        flat = self._flatten("and", items) - {self.all}
        if self.empty in flat:
            return self.empty
        if len(flat) <= 1:
            return next(iter(flat), self.all)
        return self.intern(("and", frozenset(flat)))

    def _flatten(self, kind: str, items: Iterable[int]) -> set[int]:
        flat: set[int] = set()
        for item in items:
            node = self.nodes[item]
            flat |= node[1] if node[0] == kind else {item}
        return flat

    def complement(self, a: int) -> int:
        node = self.nodes[a]
        return node[1] if node[0] == "not" else self.intern(("not", a))

    def repeat(self, a: int, least: int, most: int | None) -> int:
        if most == 0 or a == self.eps:
            return self.eps
        if a == self.empty:
            return self.eps if least == 0 else self.empty
        if least == most == 1:
            return a
        return self.intern(("rep", a, least, most))

    def tail(self, k: int, ranges: Iterable[tuple[int, int]]) -> int:
        ranges = tuple(ranges)
        if not ranges:
            return self.empty
        return self.intern(("tail", k, ranges)) if k else self.eps

    def from_ir(self, ir: GrammarIR, expr: Expr) -> int:
        """The expression with its (non-recursive) rules written out."""
        match expr:
            case Nothing():
                return self.empty
            case Literal(text):
                out = self.eps
                for byte in reversed(text):
                    out = self.cat(self.intern(("set", ((byte, byte),))), out)
                return out
            case ByteSet(ranges):
                return self.intern(("set", ranges)) if ranges else self.empty
            case Chars(ranges):
                return self.intern(("chars", ranges)) if ranges else self.empty
            case Seq(items):
                out = self.eps
                for item in reversed(items):
                    out = self.cat(self.from_ir(ir, item), out)
                return out
            case Alt(items):
                return self.any_of(self.from_ir(ir, item) for item in items)
            case And(items):
                return self.all_of(self.from_ir(ir, item) for item in items)
            case Not(item):
                return self.complement(self.from_ir(ir, item))
            case Repeat(item, least, most):
                return self.repeat(self.from_ir(ir, item), least, most)
            case Ref(name):
                return self.from_ir(ir, ir[name].body)
            case Machine():
                return self.intern(("machine", expr, 0))
            case Mark(symbol):
                return self.intern(("set", ((symbol, symbol),))) if ir.compare_items else self.empty
        raise TypeError(expr)

    def nullable(self, a: int) -> bool:
        known = self.nullable_memo.get(a)
        if known is None:
            known = self.nullable_memo[a] = self._nullable(self.nodes[a])
        return known

    def _nullable(self, node: Node) -> bool:
        match node:
            case ("eps",):
                return True
            case ("cat", a, b):
                return self.nullable(a) and self.nullable(b)
            case ("or", items):
                return any(map(self.nullable, items))
            case ("and", items):
                return all(map(self.nullable, items))
            case ("not", a):
                return not self.nullable(a)
            case ("rep", a, least, _):
                return least == 0 or self.nullable(a)
            case ("machine", machine, state):
                return machine.accept[state]
        return False

    def derive(self, a: int, byte: int) -> int:
        """What may follow ``byte``."""
        known = self.memo.get((a, byte))
        if known is None:
            known = self.memo[a, byte] = self._derive(self.nodes[a], byte)
        return known

    def _derive(self, node: Node, byte: int) -> int:
        match node:
            case ("set", ranges):
                return self.eps if _within(ranges, byte) else self.empty
            case ("chars", ranges):
                return self._derive_chars(ranges, byte)
            case ("tail", k, ranges):
                if not 0x80 <= byte <= 0xBF:
                    return self.empty
                return self.tail(k - 1, _window(ranges, byte & 0x3F, k - 1))
            case ("cat", a, b):
                first = self.cat(self.derive(a, byte), b)
                return self.any_of([first, self.derive(b, byte)]) if self.nullable(a) else first
            case ("or", items):
                return self.any_of([self.derive(item, byte) for item in items])
            case ("and", items):
                return self.all_of([self.derive(item, byte) for item in items])
            case ("not", a):
                # The complement is one within byte strings: marks are in none of them.
                return self.complement(self.derive(a, byte)) if byte < 256 else self.empty
            case ("rep", a, least, most):
                # If a is nullable, a{m,n} also holds fewer than m copies: one rule serves both.
                rest = self.repeat(a, max(least - 1, 0), None if most is None else most - 1)
                return self.cat(self.derive(a, byte), rest)
            case ("machine", machine, state):
                for low, high, target in machine.edges[state]:
                    if low <= byte <= high:
                        return self.intern(("machine", machine, target))
        return self.empty

    def _derive_chars(self, ranges: tuple[tuple[int, int], ...], byte: int) -> int:
        if byte < 0x80:
            return self.eps if _within(ranges, byte) else self.empty
        for k, (low, high, payload) in _LEADS.items():
            if low <= byte <= high:
                legal = _intersect(ranges, _DOMAINS[k])
                return self.tail(k, _window(legal, byte & payload, k))
        return self.empty

    def nonempty(self, a: int) -> bool:
        """Does the expression match any string at all?"""
        if a not in self.nonempty_memo:
            seen = {a}
            todo = [a]
            while todo:
                here = todo.pop()
                if self.nullable(here) or self.nonempty_memo.get(here):
                    self.nonempty_memo[a] = True
                    return True
                for byte in self.first_bytes(here):
                    after = self.derive(here, byte)
                    if after not in seen:
                        seen.add(after)
                        todo.append(after)
            self.nonempty_memo.update(dict.fromkeys(seen, False))
        return self.nonempty_memo[a]

    def first_bytes(self, a: int) -> list[int]:
        """One byte of every class that the derivative of ``a`` can tell apart."""
        return sorted({0} | self._cuts(a))

    def _cuts(self, a: int) -> set[int]:
        """Bytes at which the derivative may differ from that of the byte before."""
        match self.nodes[a]:
            case ("set", ranges):
                return {b for low, high in ranges for b in (low, high + 1) if b < SYMBOLS}
            case ("chars", _) | ("tail", _, _):
                return {b for b in range(1, 256) if self.derive(a, b) != self.derive(a, b - 1)}
            case ("cat", first, second):
                cuts = self._cuts(first)
                return cuts | self._cuts(second) if self.nullable(first) else cuts
            case ("or", items) | ("and", items):
                return set().union(*map(self._cuts, items))
            case ("not", inner):
                return self._cuts(inner) - set(range(256, SYMBOLS))
            case ("rep", inner, _, _):
                return self._cuts(inner)
            case ("machine", machine, state):
                edges = machine.edges[state]
                return {b for low, high, _ in edges for b in (low, high + 1) if b < 256}
        return set()


def _window(ranges: Iterable[tuple[int, int]], digit: int, k: int) -> tuple[tuple[int, int], ...]:
    """Values whose leading base-64 digit (before k more) is ``digit``, without that digit."""
    base = digit << 6 * k
    inside = _intersect(ranges, ((base, base + (1 << 6 * k) - 1),))
    return tuple((low - base, high - base) for low, high in inside)


def _intersect(
    a: Iterable[tuple[int, int]], b: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    both = ((max(x[0], y[0]), min(x[1], y[1])) for x in a for y in b)
    return tuple(sorted(pair for pair in both if pair[0] <= pair[1]))


# --- the grammar in a small normal form ----------------------------------------------------------


class _Lowered:
    """Rules over ``alt`` (list), ``cat`` (pair), ``rep``, ``bag``, ``ref`` and regular leaves."""

    def __init__(self, ir: GrammarIR) -> None:
        self.ir = ir
        self.regular = Regular()
        self.nodes: list[Node] = []
        self.index: dict[Node, int] = {}
        self.bodies: dict[str, int] = {}
        for rule in ir.rules:
            self.bodies[rule.name] = self.lower(rule.body)
        self.start = self.intern(("ref", ir.start))

    def intern(self, node: Node) -> int:
        at = self.index.get(node)
        if at is None:
            at = self.index[node] = len(self.nodes)
            self.nodes.append(node)
        return at

    def leaf(self, expr: Expr) -> int:
        return self.intern(("leaf", self.regular.from_ir(self.ir, expr)))

    def lower(self, expr: Expr) -> int:
        match expr:
            case Seq(items):
                out = self.leaf(Literal(b""))
                for item in reversed(items):
                    out = self.cat(self.lower(item), out)
                return out
            case Alt(items):
                return self.intern(("alt", tuple(self.lower(item) for item in items)))
            case Repeat(item, least, most):
                return self.intern(("rep", self.lower(item), least, most))
            case Bag():
                return self.intern(("bag", expr, _Count.none(expr)))
            case Ref(name):
                return self.intern(("ref", name))
        return self.leaf(expr)

    def cat(self, a: int, b: int) -> int:
        if self.nodes[b] == ("leaf", self.regular.eps):
            return a
        return self.intern(("cat", a, b))

    def options(self, at: int) -> list[tuple[int, ...]]:
        """The node as productions: each a sequence of at most two nodes."""
        match self.nodes[at]:
            case ("alt", items):
                return [(item,) for item in items]
            case ("cat", a, b):
                return [(a, b)]
            case ("ref", name):
                return [(self.bodies[name],)]
            case ("rep", a, least, most):
                if most == 0:
                    return [()]
                less = self.intern(
                    ("rep", a, max(least - 1, 0), None if most is None else most - 1)
                )
                return [(a, less)] if least else [(), (a, less)]
            case ("bag", bag, count):
                return list(self.bag_options(bag, count))
        raise TypeError(self.nodes[at])

    def bag_options(self, bag: Bag, count: _Count) -> Iterator[tuple[int, ...]]:
        """What may follow the items counted so far, as seen from right behind the last of them."""
        if count.enough(bag):
            yield ()
        for item, more in count.onward(bag):
            rest = self.intern(("bag", bag, more))
            step = self.lower(item)
            if count.total:
                step = self.cat(self.lower(bag.separator), step)
            yield step, rest


# --- Bar-Hillel: the grammar against "prefix, then any tokens" ------------------------------------


@lru_cache(maxsize=16)
def _chart(ir: GrammarIR, tokens: tuple[bytes | None, ...]) -> Chart:
    return Chart(ir, tokens)


@dataclass
class _Item:
    """Strings of one node read from one place: the cheapest way to each place they may end."""

    node: int
    place: int
    ends: dict[int, int] = field(default_factory=dict)
    readers: set[int] = field(default_factory=set)


class Chart:
    """The cheapest derivations of a grammar along a weighted automaton, as a least fixpoint.

    Places of the automaton: 0 is *between two tokens*; other nodes of the token trie are *inside
    a token*; the rest are *still this text to read before the first token*.  Finishing a token
    costs 1, everything else is free.
    """

    def __init__(self, ir: GrammarIR, tokens: Tokens) -> None:
        self.grammar = _Lowered(ir)
        # Tokens may also be read with marks for their separators, where there is memory.
        self.marks = (
            {ord(","): REPEATED_COMMA, ord("]"): REPEATED_CLOSE} if ir.compare_items else {}
        )
        self.edges: list[list[tuple[int, int, int]]] = [[]]  # place -> (byte, place, cost)
        self._add_tokens({token for token in tokens if token})
        self.texts: dict[tuple[Symbols, int], int] = {}  # (text, place after it) -> place
        self.items: list[_Item] = []
        self.item_index: dict[tuple[int, int], int] = {}
        self.todo: list[int] = []
        self.queued: set[int] = set()

    def min_tokens(self, prefix: Symbols) -> int | None:
        return self.completion(prefix, 0)

    def completion(self, text: Symbols, place: int) -> int | None:
        """The fewest tokens that complete ``text``, the first one being read up to ``place``."""
        item = self.item(self.grammar.start, self.place(text, place))
        self.solve()
        return self.items[item].ends.get(0)

    def forced_bytes(self, prefix: bytes, cap: int) -> bytes:
        forced = b""
        inside = {0}  # where in the tokens the forced bytes may lead
        while len(forced) < cap and not member(self.grammar.ir, prefix + forced):
            onward: dict[int, set[int]] = {}
            for place in inside:
                for byte, there, _ in self.edges[place]:
                    if self.completion(prefix + forced + bytes([byte]), there) is not None:
                        onward.setdefault(byte, set()).add(there)
            if len(onward) != 1:
                break
            byte, inside = onward.popitem()
            forced += bytes([byte])
        return forced

    def _add_tokens(self, tokens: set[bytes]) -> None:
        inside: dict[bytes, int] = {b"": 0}
        for token in sorted(tokens):
            for end in range(1, len(token)):
                if token[:end] not in inside:
                    inside[token[:end]] = len(self.edges)
                    self.edges.append([])
                    self._add_edge(inside[token[: end - 1]], token[end - 1], inside[token[:end]], 0)
            self._add_edge(inside[token[:-1]], token[-1], 0, 1)

    def _add_edge(self, source: int, byte: int, target: int, cost: int) -> None:
        self.edges[source].append((byte, target, cost))
        for mark in _marks_of(self.grammar.ir, byte):  # free to choose from, see _Search
            self.edges[source].append((mark, target, cost))

    def place(self, text: Symbols, after: int = 0) -> int:
        """Where ``text`` is still to be read, and then what follows from place ``after``."""
        here = after
        for start in range(len(text) - 1, -1, -1):
            rest = (text[start:], after)
            if rest not in self.texts:
                self.texts[rest] = len(self.edges)
                self.edges.append([(text[start], here, 0)])
            here = self.texts[rest]
        return here

    def item(self, node: int, place: int) -> int:
        at = self.item_index.get((node, place))
        if at is None:
            at = self.item_index[node, place] = len(self.items)
            self.items.append(_Item(node, place))
            self.queue(at)
        return at

    def queue(self, at: int) -> None:
        if at not in self.queued:
            self.queued.add(at)
            self.todo.append(at)

    def solve(self) -> None:
        """Evaluates items until none changes; costs only fall, so this ends."""
        while self.todo:
            at = self.todo.pop()
            self.queued.discard(at)
            ends = self.evaluate(at)
            if ends != self.items[at].ends:
                self.items[at].ends = ends
                for reader in self.items[at].readers:
                    self.queue(reader)

    def evaluate(self, at: int) -> dict[int, int]:
        node, place = self.items[at].node, self.items[at].place
        kind = self.grammar.nodes[node]
        if kind[0] == "leaf":
            return self.items[at].ends or self.leaf_ends(kind[1], place)
        best: dict[int, int] = {}
        for option in self.grammar.options(node):
            here = {place: 0}
            for part in option:
                after: dict[int, int] = {}
                for middle, cost in here.items():
                    for end, more in self.read(part, middle, at).items():
                        if cost + more < after.get(end, cost + more + 1):
                            after[end] = cost + more
                here = after
            for end, cost in here.items():
                if cost < best.get(end, cost + 1):
                    best[end] = cost
        return best

    def read(self, node: int, place: int, reader: int) -> dict[int, int]:
        at = self.item(node, place)
        self.items[at].readers.add(reader)
        return self.items[at].ends

    def leaf_ends(self, expression: int, place: int) -> dict[int, int]:
        """Dijkstra over (derivative, place)."""
        regular = self.grammar.regular
        queue = [(0, place, expression)]
        settled: set[tuple[int, int]] = set()
        ends: dict[int, int] = {}
        while queue:
            cost, here, rest = heappop(queue)
            if (here, rest) in settled:
                continue
            settled.add((here, rest))
            if regular.nullable(rest):
                ends.setdefault(here, cost)
            for byte, there, extra in self.edges[here]:
                after = regular.derive(rest, byte)
                if after != regular.empty and (there, after) not in settled:
                    heappush(queue, (cost + extra, there, after))
        return ends


# --- left to right: viable prefixes over all byte strings ----------------------------------------


class Position:
    """What a recognizer knows after some bytes; extending it leaves it as it is."""

    __slots__ = ("accepting", "active", "done", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, dict[Node, None]] = {}  # node begun here -> who waits for its end
        self.done: set[tuple[int, Position]] = set()  # (node that ends here, where it began)
        self.active: set[tuple[int, int, Position]] = set()  # (derivative, leaf node, begun at)
        self.accepting = False

    @property
    def viable(self) -> bool:
        """Can some bytes complete the text?"""
        return self.accepting or bool(self.active)


class Recognizer:
    """An Earley-style recognizer: parts that match nothing are never begun, so every active leaf
    can be completed, and a prefix is viable exactly if one is active or the text is complete.
    """

    def __init__(self, ir: GrammarIR) -> None:
        self.grammar = _Lowered(ir)
        self._productive_memo: dict[int, bool] = {}
        self.start = Position()
        if self.productive(self.grammar.start):
            self._begin(self.start, self.grammar.start, ("goal",))

    def productive(self, node: int) -> bool:
        """Does the node match any string?  (Least fixpoint over all nodes below it.)"""
        if node not in self._productive_memo:
            below = [node]
            seen = {node}
            options: dict[int, list[tuple[int, ...]]] = {}
            yes: set[int] = set()
            for at in below:
                kind = self.grammar.nodes[at]
                if kind[0] == "leaf":
                    if self.grammar.regular.nonempty(kind[1]):
                        yes.add(at)
                    continue
                options[at] = self.grammar.options(at)
                for part in (part for option in options[at] for part in option):
                    if part not in seen:
                        seen.add(part)
                        below.append(part)
            before = -1
            while len(yes) != before:
                before = len(yes)
                for at, ways in options.items():
                    if any(all(part in yes for part in way) for way in ways):
                        yes.add(at)
            self._productive_memo.update({at: at in yes for at in below})
        return self._productive_memo[node]

    def extend(self, position: Position, data: Symbols) -> Position:
        """The position after some more bytes."""
        regular = self.grammar.regular
        for byte in data:
            after = Position()
            finished = []
            for rest, leaf, origin in position.active:
                rest = regular.derive(rest, byte)
                if regular.nonempty(rest):
                    after.active.add((rest, leaf, origin))
                    if regular.nullable(rest):
                        finished.append((leaf, origin))
            # An expression that is now exactly "nothing more" completes but stays active in vain.
            after.active = {item for item in after.active if self._goes_on(item[0])}
            self._run(after, [("end", leaf, origin) for leaf, origin in finished])
            position = after
        return position

    def viable(self, prefix: Symbols) -> bool:
        return self.extend(self.start, prefix).viable

    def accepts(self, data: Symbols) -> bool:
        return self.extend(self.start, data).accepting

    def _goes_on(self, rest: int) -> bool:
        """Does the expression match any string but the empty one?"""
        regular = self.grammar.regular
        return any(
            regular.nonempty(regular.derive(rest, byte)) for byte in regular.first_bytes(rest)
        )

    def _begin(self, position: Position, node: int, waiter: Node) -> None:
        self._run(position, [("begin", node, waiter)])

    def _run(self, position: Position, todo: list[Node]) -> None:
        """Works off what is to begin (node, waiter) and what ends (node, origin) at a position."""
        while todo:
            match todo.pop():
                case ("begin", node, waiter):
                    fresh = node not in position.waiting
                    waiters = position.waiting.setdefault(node, {})
                    if waiter not in waiters:
                        waiters[waiter] = None
                        if (node, position) in position.done:
                            todo.append(self._resumed(waiter))
                    if fresh:
                        todo += self._begun(position, node)
                case ("end", node, origin):
                    if (node, origin) not in position.done:
                        position.done.add((node, origin))
                        todo += [self._resumed(waiter) for waiter in origin.waiting[node]]
                case ("goal",):
                    position.accepting = True

    def _begun(self, position: Position, node: int) -> Iterator[Node]:
        """What follows from reading a node for the first time at a position."""
        kind = self.grammar.nodes[node]
        if kind[0] == "leaf":
            if self._goes_on(kind[1]):
                position.active.add((kind[1], node, position))
            if self.grammar.regular.nullable(kind[1]):
                yield ("end", node, position)
            return
        for option in self.grammar.options(node):
            if not option:
                yield ("end", node, position)
            elif all(self.productive(part) for part in option):
                yield ("begin", option[0], ("then", option[1:], node, position))

    def _resumed(self, waiter: Node) -> Node:
        """What a waiter does once the part it waited for has ended."""
        if waiter[0] == "goal":
            return waiter
        _, rest, parent, origin = waiter
        if rest:
            return ("begin", rest[0], ("then", rest[1:], parent, origin))
        return ("end", parent, origin)
