"""JSON in a string: the grammar of a value, written once more as the content of a JSON string."""

from __future__ import annotations

import json
from typing import Any, Final

from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.json_schema.spelling import Spelling
from grammars.frontends.json_schema.text import spelled, spelled_machine
from grammars.ir import (
    ByteSet,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Not,
    Ref,
    Rule,
    alt,
    both,
    children,
    repeat,
    with_children,
)
from grammars.json_characters import ANY_SPELLED
from grammars.limits import Limits

_SPECIAL: Final = frozenset([*range(0x20), 0x22, 0x5C])


def json_in_string(
    schema: dict[str, Any], spellings: dict[str, Spelling], limits: Limits, prefix: str
) -> Spelling:
    """Strings that hold a JSON text of a schema, without blanks.

    Args:
        prefix: what makes the names of its rules unique.
    """
    ir = json_schema_to_ir(schema, whitespace="compact", spellings=spellings, limits=limits)
    return _quoted_once_more(ir, prefix)


def _quoted_once_more(ir: GrammarIR, prefix: str) -> Spelling:
    rules = tuple(
        Rule(_named(prefix, rule.name), _escaped(rule.body, prefix), shared=rule.shared)
        for rule in ir.rules
    )
    return Spelling("string", Ref(_named(prefix, ir.start)), rules)


def _named(prefix: str, name: str) -> str:
    hidden = "_" if name.startswith("_") else ""
    return f"{hidden}{prefix}{name}"


def _escaped(expr: Expr, prefix: str) -> Expr:
    """The texts of an expression as they stand between quotes.

    Every byte has one image and no image begins another one, so this commutes with intersection; a
    complement is taken among the images.
    """
    match expr:
        case Literal(data):
            return Literal(b"".join(map(_image, data)))
        case Chars():
            return spelled(expr)
        case ByteSet(ranges):
            found = [b for low, high in ranges for b in range(low, high + 1)]
            plain = ByteSet(tuple((b, b) for b in found if b not in _SPECIAL))
            escapes = [Literal(_image(b)) for b in found if b in _SPECIAL]
            return alt(plain, *escapes) if plain.ranges else alt(*escapes)
        case Ref(name):
            return Ref(_named(prefix, name))
        case Not(item):
            return both(repeat(ANY_SPELLED), Not(_escaped(item, prefix)))
        case Machine():
            return spelled_machine(expr)
    return with_children(expr, [_escaped(item, prefix) for item in children(expr)])


def _image(byte: int) -> bytes:
    if byte not in _SPECIAL:
        return bytes([byte])
    return json.dumps(chr(byte))[1:-1].encode()
