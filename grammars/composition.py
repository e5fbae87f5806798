"""Grammars composed of grammars: concatenation, union, repetition, rules taken from another grammar.

Each part brings its rules under names that are free in the whole (:class:`Assembly`).  What a part asks
for beside its rules (keys and items that must not repeat) is about the part's own text.  The whole
remembers which of its rules have JSON values for texts (``GrammarIR.parts``), and where in a text these
begin is found from all rules together (:mod:`grammars.uniqueness.locating`), anew for each whole.  So the
order in which grammars are put together does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from grammars import ir
from grammars.compiling.quotient import unused
from grammars.errors import GrammarError
from grammars.ir import (
    EPSILON,
    NOTHING,
    Alt,
    Expr,
    GrammarIR,
    Literal,
    Part,
    Ref,
    Rule,
    alt,
    children,
    seq,
)
from grammars.json_signs import with_marks
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.special_tokens import check_free, framed, names_in
from grammars.uniqueness.locating import locate

_NAME = "start"


class Assembly:
    """The rules of a grammar that is put together of others.

    Attributes:
        rules: so far.
        parts: the grammars added.
        values: the rules among them whose texts are JSON values.
        notes, tokens: of the grammars added, each once.

    Args:
        taken: names that are not free.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.rules: list[Rule] = []
        self.parts: list[GrammarIR] = []
        self.values: list[Part] = []
        self.notes: dict[str, None] = {}
        self.tokens: dict[str, None] = {}
        self._taken = set(taken)
        self._known: dict[int, Expr] = {}  # by identity of the parts

    def name(self, wanted: str) -> str:
        """A free name like the one wanted; it is taken from now on."""
        return unused(wanted, self._taken)

    def add(self, part: GrammarIR) -> Expr:
        """Adds a grammar; returns what stands for it in the whole."""
        known = self._known.get(id(part))
        if known is not None:
            return known
        check_no_layout(part)
        values = parts_of(part)
        self.notes |= dict.fromkeys(part.notes)
        self.tokens |= dict.fromkeys(part.tokens)
        body = part[part.start].body
        if len(part.rules) == 1 and not values and isinstance(body, Literal | ir.Nothing):
            made: Expr = body
        else:
            names = {rule.name: self.name(rule.name) for rule in part.rules}
            renamed = Renaming(names)
            self.rules += [
                replace(rule, name=names[rule.name], body=renamed(rule.body)) for rule in part.rules
            ]
            self.values += [replace(value, rule=names[value.rule]) for value in values]
            made = Ref(names[part.start])
        self._known[id(part)] = made
        self.parts.append(part)
        return made

    def grammar(self, start: str, body: Expr) -> GrammarIR:
        """The whole: a start rule and the rules of the parts, for :func:`memory_of_parts`.

        Raises:
            GrammarError: where special tokens stand beside a part that reads their reserved byte.
        """
        made = GrammarIR(
            (Rule(start, body), *self.rules),
            start,
            tuple(self.notes),
            tokens=tuple(self.tokens),
            parts=tuple(self.values),
        )
        if made.tokens:
            check_free(made)
        return made


def check_no_layout(part: GrammarIR) -> None:
    """Refuses a grammar with indentation as a part of another one.

    Raises:
        GrammarError: where indentation opens and closes levels, which is about the whole text.
    """
    if part.layout is not None:
        raise GrammarError(
            "a grammar with indentation (%declare _INDENT _DEDENT) cannot be a part of another grammar: "
            "widths are counted from the beginning of the text; use it on its own"
        )


class Rewriting:
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
                self._done[id(node)] = self.leaf(node) or self._inner(node)
                stack.pop()
        return self._done[id(expr)]

    def _inner(self, node: Expr) -> Expr:
        return ir.with_children(node, [self._done[id(x)] for x in children(node)])

    def leaf(self, node: Expr) -> Expr | None:
        """What stands for a node; ``None`` if it is to be kept."""
        raise NotImplementedError


class Renaming(Rewriting):
    """Expressions with their references renamed."""

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__()
        self._names = names

    def __call__(self, expr: Expr) -> Expr:
        if all(self._names[name] == name for name in ir.refs(expr)):
            return expr
        return super().__call__(expr)

    def leaf(self, node: Expr) -> Expr | None:
        return Ref(self._names[node.name]) if isinstance(node, Ref) else None


class _Replacing(Rewriting):
    """Expressions with parts of their literals replaced."""

    def __init__(self, other: Mapping[bytes, bytes]) -> None:
        super().__init__()
        self._other = other

    def leaf(self, node: Expr) -> Expr | None:
        if not isinstance(node, Literal):
            return None
        data = node.data
        for old, new in self._other.items():
            data = data.replace(old, new)
        return Literal(data)


def with_texts(
    grammar: GrammarIR, other: Mapping[bytes, bytes], limits: Limits = DEFAULT_LIMITS
) -> GrammarIR:
    """A grammar with some texts replaced by others wherever a literal contains them.

    Names of special tokens that are not framed any more are dropped, new ones are listed.

    Raises:
        GrammarError: where a text no longer shows that a part begins which compares keys or items.
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
    made = replace(grammar, rules=rules, tokens=tuple(named))
    # where values begin is told by texts
    return with_locator(made, limits)[0] if made.locator is not None else made


def texts_in(grammar: GrammarIR) -> bytes:
    """All literals of the rules, with a zero byte between any two."""
    seen: set[int] = set()
    texts: dict[bytes, None] = {}
    stack = [[rule.body for rule in grammar.rules]]
    while stack:
        nodes = stack.pop()
        texts |= dict.fromkeys([node.data for node in nodes if type(node) is Literal])
        for node in nodes:
            if type(node) is not Literal and id(node) not in seen:
                seen.add(id(node))
                stack.append([*children(node)])
    return b"\0".join(texts)


def _with_captures(
    parts: Sequence[GrammarIR], compose: Callable[[Sequence[GrammarIR]], GrammarIR]
) -> GrammarIR:
    """What is composed of parts, with the captures of each."""
    made = compose(parts)
    if all(part.marked is None for part in parts):
        return made
    marked = compose([part.marked or part for part in parts])
    cuts = [part.marked and part.marked.marked for part in parts]
    if any(cuts):
        cut = compose([cut or part for cut, part in zip(cuts, parts, strict=True)])
        marked = replace(marked, marked=replace(cut, parts=(), locator=None, marked=None))
    return replace(made, marked=replace(marked, parts=(), locator=None))


def concatenated(parts: Sequence[GrammarIR], limits: Limits = DEFAULT_LIMITS) -> GrammarIR:
    """A text of each part, on end."""
    return _with_captures(parts, lambda chosen: _concatenated(chosen, limits))


def _concatenated(parts: Sequence[GrammarIR], limits: Limits) -> GrammarIR:
    whole = Assembly()
    name = whole.name(_NAME)
    body = seq(*[whole.add(part) for part in parts])
    return memory_of_parts(whole.grammar(name, body), limits=limits)


def united(parts: Sequence[GrammarIR], limits: Limits = DEFAULT_LIMITS) -> GrammarIR:
    """A text of any part."""
    return _with_captures(parts, lambda chosen: _united(chosen, limits))


def _united(parts: Sequence[GrammarIR], limits: Limits) -> GrammarIR:
    whole = Assembly()
    name = whole.name(_NAME)
    body = alt(*[whole.add(part) for part in parts])
    if body != NOTHING and any(part[part.start].body != NOTHING for part in parts):
        whole.notes.clear()
    return memory_of_parts(whole.grammar(name, body), limits=limits)


def repeated(
    part: GrammarIR,
    low: int,
    high: int | None,
    separator: GrammarIR,
    limits: Limits = DEFAULT_LIMITS,
) -> GrammarIR:
    """So many texts of a part, with a text of the separator between neighbours."""
    return _with_captures(
        [part, separator], lambda chosen: _repeated(chosen[0], low, high, chosen[1], limits)
    )


def _repeated(
    part: GrammarIR, low: int, high: int | None, separator: GrammarIR, limits: Limits
) -> GrammarIR:
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
    return memory_of_parts(whole.grammar(name, body), limits=limits)


def embedded(
    host: GrammarIR, rules: Mapping[str, GrammarIR], limits: Limits = DEFAULT_LIMITS
) -> GrammarIR:
    """A grammar whose rules refer to names that they do not define: those of other grammars.

    Args:
        host: the grammar; memory is not asked for in it.
        rules: the other grammars, by name.
        limits: bounds on what it may cost to find the values in a text.
    """
    names = list(rules)
    return _with_captures(
        [host, *rules.values()],
        lambda chosen: _embedded(chosen[0], dict(zip(names, chosen[1:], strict=True)), limits),
    )


def _embedded(host: GrammarIR, rules: Mapping[str, GrammarIR], limits: Limits) -> GrammarIR:
    check_no_layout(host)
    whole = Assembly([*(rule.name for rule in host.rules), *rules])
    whole.notes |= dict.fromkeys(host.notes)
    whole.tokens |= dict.fromkeys(host.tokens)
    whole.values += host.parts
    known = {rule.name: rule for rule in host.rules}
    order = [host[host.start], *(rule for rule in host.rules if rule.name != host.start)]
    rest = order[1:]
    for name, part in rules.items():
        if name not in known:
            rest.append(Rule(name, whole.add(part)))
    whole.rules = [*rest, *whole.rules]
    made = whole.grammar(host.start, order[0].body)
    return memory_of_parts(replace(made, rules=(order[0], *made.rules[1:])), limits=limits)


# -- memory ----------------------------------------------------------------------------------------


def parts_of(grammar: GrammarIR) -> tuple[Part, ...]:
    """The rules of a grammar whose texts are JSON values.

    Raises:
        GrammarError: where it asks for memory in a way that does not say of which rules.
    """
    if grammar.json:
        return (Part(grammar.start, grammar.distinct_keys, grammar.compare_items),)
    if grammar.locator is None and (grammar.distinct_keys or grammar.compare_items):
        raise GrammarError(
            "a part of this grammar compares keys or items and does not say which of its rules are JSON "
            "(it was saved by an earlier version, or its rules were written by hand); make it again from "
            "its source"
        )
    return grammar.parts


def memory_of_parts(
    whole: GrammarIR, parts: object = None, limits: Limits = DEFAULT_LIMITS
) -> GrammarIR:
    """A grammar with what its parts ask for beside their rules.

    Args:
        whole: what :meth:`Assembly.grammar` gave; it knows which of its rules ask for something.
        parts: of no use any more.
        limits: bounds on what it may cost to find their values in a text.

    Raises:
        GrammarError: where a part compares keys or items and a text does not show that it begins.
    """
    roots = _whole_values(whole)
    if roots:
        keys = any(part.distinct_keys for part in roots)
        items = any(part.compare_items for part in roots)
        blind = frozenset(part.rule for part in roots if items and not part.compare_items)
        if blind:
            whole = with_marks(whole, blind, limits)
        return replace(
            whole, parts=(), locator=None, json=True, distinct_keys=keys, compare_items=items
        )
    made, blind = with_locator(whole, limits)
    return with_marks(made, blind, limits) if blind else made


def with_locator(whole: GrammarIR, limits: Limits) -> tuple[GrammarIR, frozenset[str]]:
    """A grammar with the locator of its parts, and those that have to be made to read marks.

    Raises:
        GrammarError: where a part compares keys or items and a text does not show that it begins.
    """
    found = locate(whole, limits)
    if found is None:
        return replace(whole, locator=None, distinct_keys=False, compare_items=False), frozenset()
    made = replace(
        whole,
        locator=found.locator,
        distinct_keys=found.distinct_keys,
        compare_items=found.compare_items,
    )
    return made, found.marked


def _whole_values(whole: GrammarIR) -> list[Part]:
    """The parts, if every text is a value of one of them and nothing else."""
    body = whole[whole.start].body
    ways = body.items if isinstance(body, Alt) else (body,)
    known = {part.rule: part for part in whole.parts if not part.read}
    found = [known.get(way.name) if isinstance(way, Ref) else None for way in ways]
    return [part for part in found if part is not None] if all(found) else []
