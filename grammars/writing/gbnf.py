"""GBNF text of a grammar's rules, for llama.cpp and for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from grammars.errors import GrammarError
from grammars.folding import fold
from grammars.ir import (
    EPSILON,
    Alt,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Nothing,
    Ranges,
    Ref,
    Repeat,
    Seq,
    invert_ranges,
)
from grammars.limits import Limits
from grammars.special_tokens import FRAME
from grammars.writing.plain import PlainGrammar, plain_rules

_ESCAPED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}
_IN_CLASS: Final = {**_ESCAPED, '"': '"', "]": "\\]", "[": "\\[", "-": "\\x2D", "^": "\\x5E"}
_SIGNS: Final = {(0, None): "*", (1, None): "+", (0, 1): "?"}
_FRAMED: Final = re.compile(rb"\xff([^\xff]*)\xff")
_SIGNED: Final = re.compile(r"[^\\][*+?}]$")
"""An item with a sign already: GBNF reads a second sign, but people do not."""
_SEQ, _ITEM = 1, 2


def gbnf_of(ir: GrammarIR, limits: Limits, *, wider: bool = False) -> str:
    """A GBNF text whose rules accept the same texts; the start rule is ``root``.

    Args:
        ir: the rules of a grammar.
        limits: of what has to be written out (intersections, items in any order).
        wider: leave out what no rules can say.

    Raises:
        GrammarError: for what GBNF cannot say, with the place where that is known.
        LimitExceeded: for intersections and bags that need too many rules.
    """
    plain = plain_rules(ir, limits, wider=wider)
    if any(isinstance(rule.body, Nothing) for rule in plain.rules[:1]):
        raise GrammarError("no text satisfies the grammar, and GBNF has no rule without a text")
    names = _root_first(plain)
    lines = [f"{names[rule.name]} ::= {text_of(rule.body, names)}" for rule in plain.rules]
    return "\n".join(lines) + "\n"


def _root_first(plain: PlainGrammar) -> dict[str, str]:
    """The names of rules, the start rule's being ``root``."""
    names = {rule.name: rule.name for rule in plain.rules}
    if plain.start != "root":
        if "root" in names:
            n = 2
            while f"root-{n}" in names:
                n += 1
            names["root"] = f"root-{n}"
        names[plain.start] = "root"
    return names


def text_of(expr: Expr, names: Mapping[str, str] | None = None) -> str:
    """An expression of plain kinds as GBNF writes it.

    Args:
        expr: the expression.
        names: how rules are called, by their names; as they are named without it.
    """
    return fold(expr, lambda node, parts: _written(node, parts, names))[0]


def _written(
    node: Expr, parts: list[tuple[str, int]], names: Mapping[str, str] | None
) -> tuple[str, int]:
    """The text of a node, and how tightly it binds (0 alternatives, 1 a sequence, 2 an item)."""
    if isinstance(node, Literal):
        return _literal(node.data)
    if isinstance(node, Chars):
        return _class(node.ranges), _ITEM
    if isinstance(node, Ref):
        return names[node.name] if names is not None else node.name, _ITEM
    if isinstance(node, Seq):
        return " ".join(_within(part, _SEQ) for part in parts), _SEQ
    if isinstance(node, Alt):
        some = [part for part, item in zip(parts, node.items, strict=True) if item != EPSILON]
        texts = " | ".join(text for text, _ in some)
        if len(some) == len(parts):
            return texts, 0
        return _within(some[0] if len(some) == 1 else (texts, 0), _ITEM) + "?", _ITEM
    if isinstance(node, Repeat):
        sign = _SIGNS.get((node.min, node.max))
        if sign is None:
            high = "" if node.max is None else str(node.max)
            sign = f"{{{node.min}}}" if node.min == node.max else f"{{{node.min},{high}}}"
        item = _within(parts[0], _ITEM)
        return (item if _SIGNED.search(item) is None else f"({item})") + sign, _ITEM
    if isinstance(node, Nothing):
        raise GrammarError("GBNF has no empty class: a rule without any text cannot be written")
    raise TypeError(f"not an expression of a plain grammar: {type(node).__name__}")


def _within(part: tuple[str, int], least: int) -> str:
    text, binds = part
    return text if binds >= least else f"({text})"


def _literal(data: bytes) -> tuple[str, int]:
    pieces: list[str] = []
    at = 0
    for found in _FRAMED.finditer(data):
        pieces += _quoted(data[at : found.start()])
        name = found[1].decode()
        pieces.append(name if name.startswith("<") and name.endswith(">") else f"<{name}>")
        at = found.end()
    pieces += _quoted(data[at:])
    if FRAME in _FRAMED.sub(b"", data):
        raise GrammarError(f"half of a special token's frame in {data!r}")
    return " ".join(pieces) or '""', _ITEM if len(pieces) <= 1 else _SEQ


def _quoted(data: bytes) -> list[str]:
    if not data:
        return []
    return ['"' + "".join(_ESCAPED.get(c) or _character(c) for c in data.decode()) + '"']


def _class(ranges: Ranges) -> str:
    """A class; one of nearly all characters is written by what is not in it."""
    if ranges[0][0] == 0 and ranges[-1][1] == 0x10FFFF and len(ranges) < 40:
        outside = [(a, b) for a, b in invert_ranges(ranges) if (a, b) != (0xD800, 0xDFFF)]
        if not outside:
            return "."
        return f"[^{''.join(_range(a, b) for a, b in outside)}]"
    return f"[{''.join(_range(a, b) for a, b in ranges)}]"


def _range(low: int, high: int) -> str:
    if low == high:
        return _in_class(low)
    between = "" if high == low + 1 else "-"
    return f"{_in_class(low)}{between}{_in_class(high)}"


def _in_class(code: int) -> str:
    char = chr(code)
    return _IN_CLASS.get(char) or _character(char)


def _character(char: str) -> str:
    code = ord(char)
    if char.isprintable():
        return char
    if code < 0x100:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
