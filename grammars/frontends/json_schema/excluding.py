"""Texts that no string of some JSON has: the ``excludes`` of structural tags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from grammars import ir
from grammars.frontends.json_schema.objects import KEY
from grammars.frontends.json_schema.text import CHARACTER
from grammars.frontends.pieces import text_without
from grammars.ir import Expr, GrammarIR, Literal, Repeat, both, children, seq

_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS: Final = ("prefixItems", "anyOf", "oneOf", "allOf", "items")
_SINGLE: Final = ("items", "additionalProperties", "unevaluatedProperties", "then", "else")


def without_values(schema: Any, texts: Sequence[str]) -> Any:
    """A schema without values of ``enum`` and ``const``, and keys, with one of some texts in a string."""
    if not isinstance(schema, Mapping):
        return schema
    out = dict(schema)
    if isinstance(out.get("enum"), list):
        out["enum"] = [value for value in out["enum"] if not _has(value, texts)]
    if "const" in out and _has(out["const"], texts):
        return False
    for key in _MAPS:
        if isinstance(out.get(key), Mapping):
            out[key] = {name: without_values(item, texts) for name, item in out[key].items()}
    if isinstance(out.get("properties"), Mapping):
        named = out["properties"].items()
        out["properties"] = {k: False if _has(k, texts) else item for k, item in named}
    for key in _LISTS:
        if isinstance(out.get(key), list):
            out[key] = [without_values(item, texts) for item in out[key]]
    for key in _SINGLE:
        if isinstance(out.get(key), Mapping):
            out[key] = without_values(out[key], texts)
    return out


def _has(value: Any, texts: Sequence[str]) -> bool:
    return any(text in string for string in _strings(value) for text in texts)


def _strings(value: Any) -> Iterator[str]:
    """The strings of a JSON value as they are written, without their quotes."""
    match value:
        case str():
            yield json.dumps(value, ensure_ascii=False)[1:-1]
        case list():
            for item in value:
                yield from _strings(item)
        case dict():
            for key, item in value.items():
                yield from _strings(key)
                yield from _strings(item)


def without_texts(grammar: GrammarIR, texts: Sequence[bytes]) -> GrammarIR:
    """JSON texts in which none of some texts occurs in a string without pattern and format, or a key.

    Args:
        grammar: of JSON texts.
        texts: as they would be written, before any escape is read.
    """
    machine = text_without(tuple(texts))
    excluding = _Excluding(machine)
    key = seq(Literal(b'"'), machine, Literal(b'"'))
    rules = []
    for rule in grammar.rules:
        is_key = rule.shared and rule.name.startswith(KEY)
        body = both(rule.body, key) if is_key else excluding.of(rule.body)
        rules.append(replace(rule, body=body))
    return replace(grammar, rules=tuple(rules))


class _Excluding:
    """Rewrites expressions: runs of any characters of a string are cut with a machine."""

    def __init__(self, machine: Expr) -> None:
        self._machine = machine
        self._done: dict[int, Expr] = {}
        self._kept: list[Expr] = []  # they are known by identity

    def of(self, expr: Expr) -> Expr:
        """The expression rewritten."""
        self._kept.append(expr)
        stack = [expr]
        while stack:
            node = stack[-1]
            waiting = [x for x in children(node) if id(x) not in self._done]
            if isinstance(node, Repeat) and node.item == CHARACTER:
                self._done[id(node)] = both(node, self._machine)
                stack.pop()
            elif waiting:
                stack.extend(waiting)
            else:
                parts = [self._done[id(x)] for x in children(node)]
                self._done[id(node)] = ir.with_children(node, parts) if parts else node
                stack.pop()
        return self._done[id(expr)]
