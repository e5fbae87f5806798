"""Grammars as JSON text: one table of distinct nodes, children by number.

The table keeps deep expressions flat and shared parts single.  Nothing is executed on loading, and
a file of another kind, a later version or with broken numbers is refused.  A checksum over all of it
tells a damaged file, whose numbers may all be in order, from one that was saved.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any, Final

from grammars.composition import with_locator
from grammars.errors import GrammarError
from grammars.free_text.triggers import Triggers
from grammars.ir import (
    MAX_CODE_POINT,
    SYMBOLS,
    Alt,
    And,
    Bag,
    ByteSet,
    Chars,
    Condition,
    Expr,
    GrammarIR,
    Layout,
    Literal,
    Machine,
    Mark,
    Member,
    Not,
    Nothing,
    Part,
    Ranges,
    Ref,
    Repeat,
    Rule,
    Section,
    Seq,
    Span,
    Substrings,
    bag,
    children,
    intersect_ranges,
    normalize_ranges,
)
from grammars.limits import Limits
from grammars.special_tokens import name_of
from grammars.substrings.units import FOLDS, UNITS
from grammars.uniqueness.regions import goes_on
from grammars.work import counted_work

FORMAT: Final = "gramma-grammar"
VERSION: Final = 8
_EARLIER: Final = (1, 2, 3, 4, 5, 6, 7)
"""Versions that are read as well: 1 has no bags, marks or memory, 2 no sections, 3 no conditions, 4 no
special tokens, 5 no parts (they are what sections have become) no lexer and no
layout, 6 no captures, 7 no spans of a text.

A grammar is written as the earliest version that has what it has.  A checksum may be there in all of them:
what reads older files takes no notice of it.
"""
_CHECKSUM: Final = "checksum"
_KIND: Final = "sha256:"
_HEAD: Final = 120
"""Characters in which the marks of a saved grammar stand."""
_MARKS: Final = (f'"{FORMAT}"', f'"{_CHECKSUM}":"{_KIND}')
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_FLAGS: Final = ("distinct_keys", "compare_items", "repeated", "json")
"""Written only where they are set."""

_Node = list[Any]


def dumps(grammar: GrammarIR, limits: Limits) -> str:
    """Canonical JSON text of a grammar and its limits."""
    data = _content(grammar, limits)
    version = _version_of(grammar, data["nodes"])
    head = {"format": FORMAT, "version": version, _CHECKSUM: _checksum(data)}
    return _json(head | data)


def _version_of(grammar: GrammarIR, nodes: list[_Node]) -> int:
    """The earliest version that has what a grammar has."""
    if any(node[0] == "substrings" for node in nodes):
        return VERSION
    if grammar.marked is not None:
        return 7
    if grammar.parts or grammar.lexer is not None or grammar.layout is not None:
        return 6
    if grammar.tokens:
        return 5
    if any(node[0] == "bag" and len(node) > 6 for node in nodes):
        return 4
    return 3 if grammar.sections else 2


def _content(grammar: GrammarIR, limits: Limits) -> dict[str, Any]:
    table = _Table()
    rules = [
        {
            "name": rule.name,
            "body": table.number(rule.body),
            "span": [rule.span.line, rule.span.column, rule.span.pointer],
            "shared": rule.shared,
        }
        for rule in grammar.rules
    ]
    data: dict[str, Any] = {
        "start": grammar.start,
        "rules": rules,
        "nodes": table.nodes,
        "notes": list(grammar.notes),
        "limits": asdict(limits),
    }
    data |= {flag: True for flag in _FLAGS if getattr(grammar, flag)}
    if grammar.tokens:
        data["tokens"] = list(grammar.tokens)
    if grammar.sections:
        data["sections"] = [_section_entry(section) for section in grammar.sections]
    if grammar.parts:
        data["parts"] = [_part_entry(part) for part in grammar.parts]
    if grammar.lexer is not None:
        data["lexer"] = grammar.lexer
    if grammar.layout is not None:
        data["layout"] = asdict(grammar.layout)
    if grammar.marked is not None:
        data["marked"] = _content(grammar.marked, limits)
    return data


def _json(data: dict[str, Any]) -> str:
    """JSON text that UTF-8 can write: halves of surrogate pairs are escaped."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    if _SURROGATE.search(text) is None:
        return text
    # two halves that follow each other are a character as soon as they are read again
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", whole)


def _checksum(data: dict[str, Any]) -> str:
    """Of everything but the head, in the order in which it stands."""
    return _KIND + hashlib.sha256(_json(data).encode()).hexdigest()


def is_saved(text: str) -> bool:
    """Whether a text is one that :func:`dumps` wrote, by how it begins.

    One mark is enough: a damaged one should not be taken for a JSON Schema.
    """
    return any(mark in text[:_HEAD] for mark in _MARKS)


def loads(text: str) -> tuple[GrammarIR, Limits]:
    """The inverse of :func:`dumps`.

    Raises:
        GrammarError: if the text is not a grammar that was saved by this or an earlier version.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = "the saved grammar is damaged" if is_saved(text) else "not a saved grammar"
        raise GrammarError(f"{what}: {error}; save it again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise GrammarError("not a saved grammar: write one with Grammar.save")
    version = data.pop("version", None)
    if isinstance(version, bool) or version not in (VERSION, *_EARLIER):
        raise GrammarError(
            f"saved by format version {version!r}, this is version {VERSION}; "
            "compile the grammar again from its source"
        )
    try:
        _check_content(data)
        return _read(data)
    except _DAMAGE as error:
        reason = str(error) if type(error) is ValueError else repr(error)
        raise GrammarError(f"the saved grammar is damaged: {reason}; save it again") from None


_DAMAGE: Final = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading values of the wrong kind raises."""


_KEYS: Final = frozenset(
    {
        "format",
        _CHECKSUM,
        "start",
        "rules",
        "nodes",
        "notes",
        "limits",
        "sections",
        "tokens",
        "parts",
        "lexer",
        "layout",
        "marked",
        *_FLAGS,
    }
)


def _check_content(data: dict[str, Any]) -> None:
    """Takes the head away, and compares the checksum of the rest if there is one."""
    unknown = sorted(data.keys() - _KEYS)
    if unknown:  # perhaps the checksum's own name is damaged
        raise ValueError(f"it has an entry {unknown[0]!r}")
    del data["format"]
    if data.pop(_CHECKSUM, None) not in (None, _checksum(data)):
        raise ValueError("its content does not match its checksum")


def _read(data: dict[str, Any]) -> tuple[GrammarIR, Limits]:
    nodes: list[Expr] = []
    for entry in data["nodes"]:
        nodes.append(_READERS[entry[0]](nodes, *entry[1:]))
    rules = tuple(
        Rule(_text(r["name"]), _at(nodes, r["body"]), _span(*r["span"]), _flag(r["shared"]))
        for r in data["rules"]
    )
    known = {f.name for f in fields(Limits)}
    limits = Limits(**{k: _whole(v) for k, v in data["limits"].items() if k in known})
    flags: dict[str, Any] = {flag: _flag(data.get(flag, False)) for flag in _FLAGS}
    flags["sections"] = _sections(data.get("sections", []))
    flags["tokens"] = _tokens(data.get("tokens", []))
    flags["layout"] = _layout(data["layout"]) if "layout" in data else None
    flags["lexer"] = _text(data["lexer"]) if "lexer" in data else None
    notes = tuple(map(_text, data["notes"]))
    made = GrammarIR(rules, _text(data["start"]), notes, **flags)
    if "parts" in data:
        made = _with_parts(made, data["parts"], limits)
    if "marked" in data:
        made = replace(made, marked=_read(data["marked"])[0])
    return made, limits


def _part_entry(part: Part) -> list[Any]:
    return [part.rule, part.distinct_keys, part.compare_items, part.read.decode("latin-1")]


def _with_parts(grammar: GrammarIR, entries: list[list[Any]], limits: Limits) -> GrammarIR:
    """A grammar with its parts; where their values begin is found anew."""
    parts = tuple(
        Part(_text(rule), _flag(keys), _flag(items), read.encode("latin-1"))
        for rule, keys, items, read in entries
    )
    if not all(part.rule in grammar for part in parts):
        raise ValueError("a part names a rule that is not there")
    if not all(goes_on(part.read) for part in parts if part.read):
        raise ValueError("a part begins with what begins no value")
    if not grammar.distinct_keys and not grammar.compare_items:
        return replace(grammar, parts=parts)
    with counted_work(limits, "reading this grammar"):
        found, _ = with_locator(replace(grammar, parts=parts), limits)
    asked = (grammar.distinct_keys, grammar.compare_items)
    if (found.distinct_keys, found.compare_items) != asked:
        raise ValueError("its parts do not ask for what it asks for")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _tokens(names: Any) -> tuple[str, ...]:
    tokens = tuple(name_of(_text(name)) for name in names)
    if len(set(tokens)) != len(tokens):
        raise ValueError("it names a special token twice")
    return tokens


def _layout(entry: dict[str, Any]) -> Layout:
    tab, depth = _whole(entry["tab_length"]), _whole(entry["max_depth"])
    if tab < 1 or depth < 0:
        raise ValueError("a layout needs a tab length above 0 and a depth")
    return Layout(tab, depth)


def _span(line: Any, column: Any, pointer: Any) -> Span:
    return Span(
        None if line is None else _whole(line),
        None if column is None else _whole(column),
        None if pointer is None else _text(pointer),
    )


_SECTION_FLAGS: Final = ("inside", "distinct_keys", "compare_items", "repeated")


def _section_entry(section: Section) -> dict[str, Any]:
    texts = {
        name: getattr(section, name).decode(errors="surrogateescape") for name in ("trigger", "end")
    }
    flags = {flag: getattr(section, flag) for flag in _SECTION_FLAGS}
    return texts | flags | {"sections": [_section_entry(x) for x in section.sections]}


def _sections(entries: list[dict[str, Any]]) -> tuple[Section, ...]:
    """Sections, with triggers that :class:`Triggers` takes."""
    sections = tuple(
        Section(
            entry["trigger"].encode(errors="surrogateescape"),
            entry["end"].encode(errors="surrogateescape"),
            sections=_sections(entry["sections"]),
            **{flag: _flag(entry[flag]) for flag in _SECTION_FLAGS},
        )
        for entry in entries
    )
    Triggers([section.trigger for section in sections])
    return sections


class _Table:
    """Numbers distinct nodes, children before parents."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._seen: dict[int, int] = {}

    def number(self, expr: Expr) -> int:
        stack = [expr]
        while stack:
            node = stack[-1]
            missing = [c for c in children(node) if id(c) not in self._seen]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            self._seen[id(node)] = self._intern(node)
        return self._seen[id(expr)]

    def _intern(self, node: Expr) -> int:
        entry = self._entry(node)
        key = tuple(
            tuple(map(tuple, x))
            if isinstance(x, list) and x and isinstance(x[0], list)
            else tuple(x)
            if isinstance(x, list)
            else x
            for x in entry
        )
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.nodes)
            self.nodes.append(entry)
        return known

    def _entry(self, node: Expr) -> _Node:
        match node:
            case Nothing():
                return ["nothing"]
            case Literal(data):
                return ["literal", data.decode("latin-1")]
            case Chars(ranges):
                return ["chars", [list(r) for r in ranges]]
            case ByteSet(ranges):
                return ["bytes", [list(r) for r in ranges]]
            case Substrings(text=text, unit=unit, fold=fold, spelled=spelled):
                return ["substrings", text, unit, " ".join(sorted(fold)), spelled]
            case Machine(edges, accept):
                rows = [[list(edge) for edge in row] for row in edges]
                return ["machine", json.dumps(rows), [int(a) for a in accept]]
            case Ref(name):
                return ["ref", name]
            case Repeat(item, low, high):
                return ["repeat", self._seen[id(item)], low, high]
            case Not(item):
                return ["not", self._seen[id(item)]]
            case Seq(items):
                return ["seq", [self._seen[id(x)] for x in items]]
            case Alt(items):
                return ["alt", [self._seen[id(x)] for x in items]]
            case And(items):
                return ["and", [self._seen[id(x)] for x in items]]
            case Mark(symbol):
                return ["mark", symbol]
            case Bag(members, separator, low, high, ordered, conditions, loose):
                kinds = [[self._seen[id(m.item)], m.min, m.max, m.group] for m in members]
                plain = ["bag", kinds, self._seen[id(separator)], low, high, ordered]
                if not conditions and not loose:
                    return plain
                return [*plain, [_condition_entry(c) for c in conditions], loose]


def _ranges(value: list[list[int]], most: int) -> Ranges:
    ranges = tuple((_whole(lo), _whole(hi)) for lo, hi in value)
    if not ranges or ranges != intersect_ranges(normalize_ranges(ranges), ((0, most),)):
        raise ValueError(f"{value} is no list of ascending ranges up to {most:#x}")
    return ranges


def _disjoint(ranges: list[tuple[int, int]]) -> None:
    """Checks the edges of one state, which may touch if they lead to different states."""
    ends = [-1, *(high for _, high in ranges)]
    bounds = zip(ranges, ends, strict=False)
    if any(not before < low <= high <= 0xFF for (low, high), before in bounds):
        raise ValueError(f"{ranges} are no bytes that edges could tell apart")


def _chars(value: list[list[int]]) -> Chars:
    ranges = _ranges(value, MAX_CODE_POINT)
    if intersect_ranges(ranges, ((0xD800, 0xDFFF),)):
        raise ValueError("surrogates are no characters")
    return Chars(ranges)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _mark(symbol: Any) -> Mark:
    if not 0xFF < _whole(symbol) < SYMBOLS:
        raise ValueError(f"{symbol} is no mark")
    return Mark(symbol)


def _bag(
    nodes: list[Expr],
    members: list[list[Any]],
    separator: int,
    low: Any,
    high: Any,
    ordered: Any,
    conditions: Any = (),
    loose: Any = 0,
) -> Bag:
    if not members or _whole(low) < 1 or (high is not None and _whole(high) < low):
        raise ValueError("a bag needs members, one item at least, and bounds in order")
    kept: list[Member] = []
    for item, least, most, group in members:
        if most is not None and _whole(most) < _whole(least):
            raise ValueError("bounds out of order")
        if group is not None and (isinstance(group, bool) or not isinstance(group, int)):
            raise ValueError(f"{group!r} is not the number of a group")
        kept.append(Member(_at(nodes, item), _whole(least), most, group))
    if not conditions and not loose:
        return Bag(tuple(kept), _at(nodes, separator), low, high, _flag(ordered))
    made = bag(
        kept,
        _at(nodes, separator),
        low,
        high,
        ordered=_flag(ordered),
        conditions=[
            Condition(tuple(map(_clause, c)), _whole(unmet), _flag(more))
            for c, unmet, more in conditions
        ],
        loose=_whole(loose),
    )
    if not isinstance(made, Bag):
        raise ValueError("a bag has no item")
    return made


def _condition_entry(condition: Condition) -> list[Any]:
    return [list(map(list, condition.clauses)), condition.unmet, condition.more]


def _clause(literals: Any) -> tuple[int, ...]:
    if any(isinstance(x, bool) or not isinstance(x, int) for x in literals):
        raise ValueError(f"{literals!r} are no literals of a condition")
    return tuple(literals)


def _repeat(item: Expr, low: Any, high: Any) -> Repeat:
    if high is not None and _whole(high) < _whole(low):
        raise ValueError("bounds out of order")
    return Repeat(item, _whole(low), high)


def _several(nodes: list[Expr], items: list[int]) -> tuple[Expr, ...]:
    if not items:
        raise ValueError("a node without parts")
    return tuple(_at(nodes, i) for i in items)


def _at(nodes: list[Expr], number: int) -> Expr:
    if not _whole(number) < len(nodes):
        raise ValueError(f"node {number} is not defined before it is used")
    return nodes[number]


def _machine(nodes: list[Expr], rows: str, accept: list[int]) -> Machine:
    edges = tuple(
        tuple((_whole(a), _whole(b), _whole(t)) for a, b, t in row) for row in json.loads(rows)
    )
    if not accept or len(edges) != len(accept):
        raise ValueError("a machine needs as many rows as states, and one at least")
    for row in edges:
        _disjoint(sorted((low, high) for low, high, _ in row))
        if any(not 0 <= target < len(accept) for _, _, target in row):
            raise ValueError("a machine's edge leads nowhere")
    return Machine(edges, tuple(bool(_whole(a)) for a in accept))


def _substrings(nodes: list[Expr], text: Any, unit: Any, fold: Any, spelled: Any) -> Substrings:
    folded = frozenset(_text(fold).split())
    if unit not in UNITS or not folded <= {*FOLDS}:
        raise ValueError(f"{unit!r} and {fold!r} are no unit and fold of spans")
    return Substrings(_text(text), unit, folded, _flag(spelled))  # type: ignore[arg-type]


_READERS: Final[dict[str, Callable[..., Expr]]] = {
    "nothing": lambda nodes: Nothing(),
    "literal": lambda nodes, data: Literal(data.encode("latin-1")),
    "chars": lambda nodes, ranges: _chars(ranges),
    "bytes": lambda nodes, ranges: ByteSet(_ranges(ranges, 0xFF)),
    "machine": _machine,
    "substrings": _substrings,
    "ref": lambda nodes, name: Ref(_text(name)),
    "repeat": lambda nodes, item, low, high: _repeat(_at(nodes, item), low, high),
    "not": lambda nodes, item: Not(_at(nodes, item)),
    "seq": lambda nodes, items: Seq(_several(nodes, items)),
    "alt": lambda nodes, items: Alt(_several(nodes, items)),
    "and": lambda nodes, items: And(_several(nodes, items)),
    "mark": lambda nodes, symbol: _mark(symbol),
    "bag": _bag,
}
