"""Lark text of a grammar's rules: one that lark itself reads with ``parser="earley"``.

A Lark grammar is lexed first, and a lexer would cut a text otherwise than the rules do.  So terminals are
single characters here, of classes that have none in common: then every lexer cuts every text alike, and
what is left is the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    normalize_ranges,
    walk,
)
from grammars.limits import Limits
from grammars.special_tokens import FRAME
from grammars.writing.plain import PlainGrammar, plain_rules

_SIGNS: Final = {(0, None): "*", (1, None): "+", (0, 1): "?"}
_SEQ, _ITEM = 1, 2
_ESCAPED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "/": "\\/"}
_SPECIAL: Final = frozenset("\\]^-[&~|")


def lark_of(ir: GrammarIR, limits: Limits, *, wider: bool = False) -> str:
    """A Lark text whose rules accept the same texts; the start rule is ``start``.

    Args:
        ir: the rules of a grammar.
        limits: of what has to be written out (intersections, items in any order).
        wider: leave out what no rules can say.

    Raises:
        GrammarError: for what Lark cannot say, with the place where that is known.
        LimitExceeded: for intersections and bags that need too many rules.
    """
    if ir.tokens:
        raise GrammarError(
            f"the special token {ir.tokens[0]!r} is no text, and Lark has texts only; write GBNF"
        )
    plain = plain_rules(ir, limits, wider=wider)
    if any(isinstance(rule.body, Nothing) for rule in plain.rules[:1]):
        raise GrammarError("no text satisfies the grammar, and Lark has no rule without a text")
    return _Text(plain).text()


class _Text:
    def __init__(self, plain: PlainGrammar) -> None:
        self._plain = plain
        self._names = _names(plain)
        self._atoms = _atoms(plain)
        self._terminals = {atom: f"C{n}" for n, atom in enumerate(self._atoms)}
        self._classes: dict[Ranges, str] = {}
        self._parts: dict[str, str] = {}
        self._of_point: dict[int, str] = {}

    def text(self) -> str:
        """Rules, and the terminals that they use."""
        rules = [f"{self._names[r.name]}: {self._expression(r.body)}" for r in self._plain.rules]
        rules += [f"{name}: {text}" for text, name in self._parts.items()]
        classes = [f"{name}: {text}" for name, text in self._class_rules()]
        terminals = [f"{name}: /{_class(atom)}/" for atom, name in self._terminals.items()]
        return "\n".join([*rules, *classes, *terminals]) + "\n"

    def _class_rules(self) -> list[tuple[str, str]]:
        out: list[tuple[str, str]] = []
        for ranges, name in self._classes.items():
            parts = [self._terminals[atom] for atom in self._atoms if _meets(atom, ranges)]
            out.append((name, " | ".join(parts)))
        return out

    def _expression(self, root: Expr) -> str:
        return fold(root, self._written)[0]

    def _written(self, node: Expr, parts: list[tuple[str, int]]) -> tuple[str, int]:
        """The text of a node, and how tightly it binds (0 alternatives, 1 a sequence, 2 an item)."""
        if isinstance(node, Literal):
            names = [self._character(c) for c in node.data.decode()]
            return " ".join(names), _ITEM if len(names) == 1 else _SEQ
        if isinstance(node, Chars):
            return self._class(node.ranges), _ITEM
        if isinstance(node, Ref):
            return self._names[node.name], _ITEM
        if isinstance(node, Seq):
            return " ".join(x for x in (_within(part, _SEQ) for part in parts) if x), _SEQ
        if isinstance(node, Alt):
            some = [part for part, item in zip(parts, node.items, strict=True) if item != EPSILON]
            texts = " | ".join(text for text, _ in some)
            if len(some) == len(parts):
                return texts, 0
            return self._apart(f"{texts} |"), _ITEM
        if isinstance(node, Repeat):
            text = _repeated(_within(parts[0], _ITEM), node.min, node.max)
            return (self._apart(text) if node.min == 0 else text), _ITEM
        if isinstance(node, Nothing):
            raise GrammarError("Lark has no rule without any text")
        raise TypeError(f"not an expression of a plain grammar: {type(node).__name__}")

    def _apart(self, text: str) -> str:
        """The name of a rule for what may be empty.

        Lark writes each alternative of a rule out with and without such parts, so that a few dozen in one
        sequence are more alternatives than can be held.
        """
        return self._parts.setdefault(text, f"part_{len(self._parts)}")

    def _character(self, char: str) -> str:
        code = ord(char)
        known = self._of_point.get(code)
        if known is None:
            point = ((code, code),)
            (atom,) = (atom for atom in self._atoms if _meets(atom, point))
            known = self._of_point[code] = self._terminals[atom]
        return known

    def _class(self, ranges: Ranges) -> str:
        if ranges in self._terminals:
            return self._terminals[ranges]
        return self._classes.setdefault(ranges, f"class_{len(self._classes)}")


def _names(plain: PlainGrammar) -> dict[str, str]:
    """Names as Lark has them: lower case, underscores; the start rule's is ``start``."""
    names = {rule.name: rule.name.replace("-", "_") for rule in plain.rules}
    taken = set(names.values())
    for name, written in names.items():
        if written.startswith(("class_", "part_")) or (written == "start" and name != plain.start):
            fresh, n = f"rule_{written}", 1
            while fresh in taken:
                n += 1
                fresh = f"rule_{written}_{n}"
            taken.add(fresh)
            names[name] = fresh
    names[plain.start] = "start"
    return names


def _repeated(item: str, low: int, high: int | None) -> str:
    sign = _SIGNS.get((low, high))
    if sign is not None:
        return item + sign
    if high is None:
        return f"({item}~{low} {item}*)"
    return f"{item}~{low}" if low == high else f"{item}~{low}..{high}"


def _within(part: tuple[str, int], least: int) -> str:
    text, binds = part
    return text if binds >= least and text else f"({text})"


# -- classes of characters -------------------------------------------------------------------------


def _atoms(plain: PlainGrammar) -> list[Ranges]:
    """The coarsest classes without common characters of which all classes are made."""
    sets: dict[Ranges, None] = {}
    for rule in plain.rules:
        for node in walk(rule.body):
            if isinstance(node, Chars):
                sets[node.ranges] = None
            elif isinstance(node, Literal):
                if FRAME in node.data:
                    raise GrammarError(f"special tokens cannot stand in Lark: {node.data!r}")
                sets.update(dict.fromkeys(((ord(c), ord(c)),) for c in node.data.decode()))
    bounds = sorted({x for ranges in sets for low, high in ranges for x in (low, high + 1)})
    members: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    listed = list(sets)
    changes: dict[int, list[int]] = {}
    for n, ranges in enumerate(listed):
        for low, high in ranges:
            changes.setdefault(low, []).append(n)
            changes.setdefault(high + 1, []).append(n)
    inside: set[int] = set()
    for low, high in zip(bounds, [*bounds[1:], 0], strict=True):
        inside ^= set(changes[low])
        if inside:
            members.setdefault(tuple(sorted(inside)), []).append((low, high - 1))
    return [normalize_ranges(pairs) for pairs in members.values()]


def _meets(a: Ranges, b: Ranges) -> bool:
    """Whether an atom lies in a class: its first character does."""
    point = a[0][0]
    return any(low <= point <= high for low, high in b)


def _class(ranges: Iterable[tuple[int, int]]) -> str:
    """A class as a regular expression of lark's, between slashes."""
    pieces: list[str] = []
    for low, high in ranges:
        pieces.append(_escape(low))
        if high > low:
            pieces += ["-" if high > low + 1 else "", _escape(high)]
    return f"[{''.join(pieces)}]"


def _escape(code: int) -> str:
    char = chr(code)
    if char in _ESCAPED:
        return _ESCAPED[char]
    if char in _SPECIAL:
        return "\\" + char
    if char.isprintable():
        return char
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )
