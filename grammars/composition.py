"""Grammars composed of grammars: concatenation, union, repetition, rules taken from another grammar.

Each part brings its rules under names that are free in the whole (:class:`Assembly`).  What a part asks
for beside its rules (keys and items that must not repeat) is about the part's own text, so the whole
asks for it where that text can be found again: see :func:`memory_of_parts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from grammars import ir
from grammars.compiling.quotient import unused
from grammars.errors import GrammarError
from grammars.ir import EPSILON, NOTHING, Expr, GrammarIR, Literal, Ref, Rule, alt, children, seq
from grammars.special_tokens import check_free, framed, names_in

_NAME = "start"


class Assembly:
    """The rules of a grammar that is put together of others.

    Args:
        taken: names that are not free.

    Attributes:
        rules: so far.
        parts: the grammars added.
        notes, tokens: of the parts, each once.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.rules: list[Rule] = []
        self.parts: list[GrammarIR] = []
        self.notes: dict[str, None] = {}
        self.tokens: dict[str, None] = {}
        self._taken = set(taken)
        self._known: dict[int, Expr] = {}

    def name(self, wanted: str) -> str:
        """A free name like the one wanted; it is taken from now on."""
        return unused(wanted, self._taken)

    def add(self, part: GrammarIR) -> Expr:
        """Adds a grammar; returns what stands for it in the whole."""
        known = self._known.get(id(part))
        if known is not None:
            return known
        self.parts.append(part)
        self.notes |= dict.fromkeys(part.notes)
        self.tokens |= dict.fromkeys(part.tokens)
        body = part[part.start].body
        if len(part.rules) == 1 and isinstance(body, Literal | ir.Nothing):
            made: Expr = body
        else:
            names = {rule.name: self.name(rule.name) for rule in part.rules}
            renamed = Renaming(names)
            self.rules += [
                replace(rule, name=names[rule.name], body=renamed(rule.body)) for rule in part.rules
            ]
            made = Ref(names[part.start])
        self._known[id(part)] = made
        return made

    def grammar(self, start: str, body: Expr) -> GrammarIR:
        """The whole: a start rule and the rules of the parts.

        Raises:
            GrammarError: where special tokens stand beside a part that reads their reserved byte.
        """
        made = GrammarIR(
            (Rule(start, body), *self.rules), start, tuple(self.notes), tokens=tuple(self.tokens)
        )
        if made.tokens:
            check_free(made)
        return made


class _Rewriting:
    """Expressions with their leaves replaced; shared parts stay shared."""

    def __init__(self) -> None:
        self._done: dict[int, Expr] = {}

    def __call__(self, expr: Expr) -> Expr:
        stack = [expr]
        while stack:
            node = stack[-1]
            waiting = [x for x in children(node) if id(x) not in self._done]
            if waiting:
                stack.extend(waiting)
            else:
                self._done[id(node)] = self._leaf(node) or self._inner(node)
                stack.pop()
        return self._done[id(expr)]

    def _inner(self, node: Expr) -> Expr:
        return ir.with_children(node, [self._done[id(x)] for x in children(node)])

    def _leaf(self, node: Expr) -> Expr | None:
        """What stands for a node; ``None`` if it is to be kept."""
        raise NotImplementedError


class Renaming(_Rewriting):
    """Expressions with their references renamed."""

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__()
        self._names = names

    def __call__(self, expr: Expr) -> Expr:
        if all(self._names[name] == name for name in ir.refs(expr)):
            return expr
        return super().__call__(expr)

    def _leaf(self, node: Expr) -> Expr | None:
        return Ref(self._names[node.name]) if isinstance(node, Ref) else None


class _Replacing(_Rewriting):
    """Expressions with parts of their literals replaced."""

    def __init__(self, other: Mapping[bytes, bytes]) -> None:
        super().__init__()
        self._other = other

    def _leaf(self, node: Expr) -> Expr | None:
        if not isinstance(node, Literal):
            return None
        data = node.data
        for old, new in self._other.items():
            data = data.replace(old, new)
        return Literal(data)


def with_texts(grammar: GrammarIR, other: Mapping[bytes, bytes]) -> GrammarIR:
    """A grammar with some texts replaced by others wherever a literal contains them.

    Names of special tokens that are not framed any more are dropped, new ones are listed.
    """
    replacing = _Replacing(other)
    rules = tuple(replace(rule, body=replacing(rule.body)) for rule in grammar.rules)
    named: dict[str, None] = {}
    for name in grammar.tokens:
        new = other.get(framed(name))
        if new is None:
            named[name] = None
        else:
            named |= dict.fromkeys(names_in(new))
    return replace(grammar, rules=rules, tokens=tuple(named))


def texts_in(grammar: GrammarIR) -> bytes:
    """All literals of the rules, with a zero byte between any two."""
    seen: set[int] = set()
    texts: dict[bytes, None] = {}
    stack = [rule.body for rule in grammar.rules]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, Literal):
                texts[node.data] = None
            stack.extend(children(node))
    return b"\0".join(texts)


def concatenated(parts: Sequence[GrammarIR]) -> GrammarIR:
    """A text of each part, on end."""
    whole = Assembly()
    name = whole.name(_NAME)
    body = seq(*[whole.add(part) for part in parts])
    return memory_of_parts(whole.grammar(name, body), whole.parts)


def united(parts: Sequence[GrammarIR]) -> GrammarIR:
    """A text of any part."""
    whole = Assembly()
    name = whole.name(_NAME)
    body = alt(*[whole.add(part) for part in parts])
    made = whole.grammar(name, body)
    if body != NOTHING and any(part[part.start].body != NOTHING for part in parts):
        made = replace(made, notes=())
    return memory_of_parts(made, whole.parts)


def repeated(part: GrammarIR, low: int, high: int | None, separator: GrammarIR) -> GrammarIR:
    """So many texts of a part, with a text of the separator between neighbours."""
    whole = Assembly()
    name = whole.name(_NAME)
    item = whole.add(part)
    between = whole.add(separator)
    if high == 0:
        body: Expr = EPSILON
    elif between == EPSILON:
        body = ir.repeat(item, low, high)
    else:
        more = ir.repeat(seq(between, item), max(low - 1, 0), None if high is None else high - 1)
        body = seq(item, more) if low else alt(EPSILON, seq(item, more))
    return memory_of_parts(whole.grammar(name, body), whole.parts)


def memory_of_parts(whole: GrammarIR, parts: Sequence[GrammarIR]) -> GrammarIR:
    """The whole with what its parts ask for beside their rules.

    Raises:
        GrammarError: where a part compares keys or items and its text cannot be found in the whole.
    """
    asking = [part for part in parts if part.distinct_keys or part.compare_items]
    if not asking:
        return whole
    if all(part.json and not part.sections for part in parts) and len(parts) == len(asking) == 1:
        body = whole[whole.start].body
        if isinstance(body, Ref):
            return replace(
                whole,
                distinct_keys=asking[0].distinct_keys,
                compare_items=asking[0].compare_items,
                json=True,
            )
    raise GrammarError(
        "a part of this grammar compares keys or items (uniqueItems, or an object with keys of any "
        "name), and where its text begins does not show; close its objects (additionalProperties: "
        "false), leave uniqueItems out, or put the part behind a trigger with Grammar.free_text"
    )
