"""An experiment: items of arrays come from blocks of the text, one after the other down the page.

A small model does not know when a list has ended: it goes on until ``maxItems``, with items that it has
written before.  Here an item's strings and numbers all stand in one block of the text, a few lines that
follow one another, and the block of the next item lies below.  So no place is used twice, numbers come
from the lines of their item, and a list ends at the latest with the text.  Whether that holds is up to
the documents: it is no part of ``grounded=True``, and it is for objects whose members are scalars and
arrays of scalars or of objects of scalars.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from grammars import Grammar, GrammarError
from grammars.sources.numbers import numbers_of

SEPARATORS: Final = (", ", ": ")
_MOST_LINES: Final = 4
"""Of the block of an object."""
_SENTENCE: Final = re.compile(r"(?<=;) |(?<=[.:?!]) (?=[A-Z0-9])")


def blocks_grammar(schema: Mapping[str, Any], text: str) -> Grammar:
    """JSON texts of an object schema, grounded in a text, items of arrays in the order of its blocks.

    Raises:
        GrammarError: if no text is left.
    """
    rules: dict[str, Grammar] = {}
    lines: list[str] = []
    members: list[str] = []
    for i, (name, inner) in enumerate(schema["properties"].items()):
        key = json.dumps(json.dumps(name) + SEPARATORS[1])
        if inner.get("type") == "array":
            lines += _array(f"a{i}", inner, text, rules)
        else:
            rules[f"f{i}"] = _grounded(inner, text)
        members.append(f"{key} {'a' if inner.get('type') == 'array' else 'f'}{i}")
    comma = json.dumps(SEPARATORS[0])
    root = f'root ::= "{{" {f" {comma} ".join(members)} "}}"'
    return Grammar.from_gbnf("\n".join([root, *lines]), rules=rules)


def _grounded(schema: Any, text: str) -> Grammar:
    return Grammar.from_json_schema(
        json.dumps(schema), source=text, grounded=True, separators=SEPARATORS
    )


def _array(name: str, schema: Any, text: str, rules: dict[str, Grammar]) -> Iterator[str]:
    """GBNF rules: ``name`` is the array, ``name-after-k`` what may follow where part k is the next one."""
    is_object = schema["items"].get("type") == "object"
    parts = _lines(text) if is_object else _pieces(text, schema["items"])
    found: dict[tuple[int, int], str] = {}
    for first in range(len(parts)):
        for last in range(first, min(len(parts), first + (_MOST_LINES if is_object else 1))):
            grammar = _grounded(schema["items"], "\n".join(parts[first : last + 1]))
            if not _is_empty(grammar):
                found[first, last] = f"{name}-{first}-{last}"
                rules[found[first, last]] = grammar
    if not found:
        raise GrammarError("no block of the text makes an item")
    for begin in range(len(parts) + 1):
        items = [f"{rule} {name}-after-{at[1] + 1}" for at, rule in found.items() if at[0] >= begin]
        more = f" | {json.dumps(SEPARATORS[0])} {name}-from-{begin}" if items else ""
        if items:
            yield f"{name}-from-{begin} ::= {' | '.join(items)}"
        yield f'{name}-after-{begin} ::= "]"{more}'
    empty = "" if schema.get("minItems") else ' | "[]"'
    yield f'{name} ::= "[" {name}-from-0{empty}'


def _is_empty(grammar: Grammar) -> bool:
    try:
        grammar.sample(0)
    except GrammarError:
        return True
    return False


def _lines(text: str) -> list[str]:
    """Lines that are not blank; those with several sentences or clauses in parts."""
    found = (_SENTENCE.split(line) if len(line) > 90 else [line] for line in text.splitlines())
    return [part for parts in found for part in parts if part.strip()]


def _pieces(text: str, schema: Any) -> list[str]:
    """For arrays of numbers a piece for each number, for others sentences and lines."""
    if schema.get("type") not in ("number", "integer"):
        return [s for line in text.splitlines() for s in _SENTENCE.split(line) if s.strip()]
    pieces: list[str] = []
    end = 0
    for found in numbers_of(text):
        if found.start >= end:
            longest = max(other.end for other in numbers_of(text) if other.start == found.start)
            pieces.append(text[found.start : longest])
            end = longest
    return pieces
