"""Grammars that take what a task brings along: names, constants, objects, functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.frontends.gbnf import gbnf_to_ir
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.ir import Alt, Expr, GrammarIR, Literal, Not, Ref, alt, both
from grammars.library.entries import text_of
from grammars.limits import DEFAULT_LIMITS, Limits

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_BIT_VECTORS: Final = tuple(f"#x{digit}" for digit in "0123456789abcdef")
_RESERVED: Final = "reserved-"
_ESCAPED: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


Maker = Callable[..., GrammarIR]

# fmt: off
C_KEYWORDS: Final = (
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum",
    "extern", "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict",
    "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union",
    "unsigned", "void", "volatile", "while", "_Alignas", "_Alignof", "_Atomic", "_Bool", "_Complex",
    "_Generic", "_Imaginary", "_Noreturn", "_Static_assert", "_Thread_local",
)
# fmt: on


def slia(
    *,
    variables: Sequence[str] = ("name",),
    int_variables: Sequence[str] = (),
    strings: Sequence[str] = (" ",),
    integers: Sequence[int] = (0, 1, 2),
) -> GrammarIR:
    """String programs.

    Args:
        variables: those that are strings.
        int_variables: those that are integers.
        strings: constants, as they are; a quotation mark is doubled as SMT-LIB wants it.
        integers: constants; a negative one is written ``(- 1)``.
    """
    constants = ['"' + value.replace('"', '""') + '"' for value in strings]
    numbers = [str(value) if value >= 0 else f"(- {-value})" for value in integers]
    return _from_file(
        "slia",
        {
            "string-leaf": [*_names("variables", variables), *constants],
            "int-leaf": [*_names("int_variables", int_variables), *numbers],
        },
    )


def bv4(
    *,
    variables: Sequence[str] = ("s", "t"),
    constants: Sequence[str] = _BIT_VECTORS,
) -> GrammarIR:
    """Terms over bit vectors; constants are ``#x0`` to ``#xf``."""
    for value in constants:
        if value not in _BIT_VECTORS:
            raise GrammarError(f"constants: {value!r} is not one of #x0 to #xf")
    return _from_file("bv4", {"leaf": [*_names("variables", variables), *constants]})


def smiles() -> GrammarIR:
    """Molecules, several with dots between them."""
    return _from_file("smiles", {})


def acrylates() -> GrammarIR:
    """Esters that begin or end with acrylic or methacrylic acid."""
    return _from_file("smiles", {}, "acrylates")


def isocyanates() -> GrammarIR:
    """Molecules that begin or end with an isocyanate group."""
    return _from_file("smiles", {}, "isocyanates")


def chain_extenders() -> GrammarIR:
    """Diols, diamines and amino alcohols."""
    return _from_file("smiles", {}, "chain-extenders")


def blocks_world(*, blocks: Sequence[str] = ("a", "b", "c")) -> GrammarIR:
    """Plans with these blocks."""
    return _from_file("blocks_world", {"block": _names("blocks", blocks)})


def gripper(
    *,
    balls: Sequence[str] = ("ball1", "ball2"),
    rooms: Sequence[str] = ("rooma", "roomb"),
    grippers: Sequence[str] = ("left", "right"),
) -> GrammarIR:
    """Plans with these objects."""
    rules = {
        "ball": _names("balls", balls),
        "room": _names("rooms", rooms),
        "gripper": _names("grippers", grippers),
    }
    return _from_file("gripper", rules)


def logistics(
    *,
    packages: Sequence[str] = ("package1",),
    trucks: Sequence[str] = ("truck1", "truck2"),
    airplanes: Sequence[str] = ("plane1",),
    airports: Sequence[str] = ("airport1", "airport2"),
    locations: Sequence[str] = ("office1", "office2"),
    cities: Sequence[str] = ("city1", "city2"),
) -> GrammarIR:
    """Plans with these objects; ``locations`` are places other than airports."""
    rules = {
        "package": _names("packages", packages),
        "truck": _names("trucks", trucks),
        "airplane": _names("airplanes", airplanes),
        "airport": _names("airports", airports),
        "location": _names("locations", locations),
        "city": _names("cities", cities),
    }
    return _from_file("logistics", rules)


def c(*, types: Sequence[str] | None = None) -> GrammarIR:
    """Programs in C.

    Args:
        types: names that are types, those of headers, too (``size_t``), and never variables.  By default
            any name may be a type, so that ``(a) b`` is a cast and ``a b;`` a declaration.
    """
    given = [Literal(name.encode()) for name in _names("types", types or ())]
    keywords = [Literal(word.encode()) for word in C_KEYWORDS]
    ir = gbnf_to_ir(text_of("c.gbnf"))
    bodies = {rule.name: rule.body for rule in ir.rules}
    # GBNF has no difference of languages.
    bodies["name"] = both(bodies["name"], Not(alt(*keywords, *given)))
    if types is not None:
        bodies["typedef-name"] = alt(*given)
    rules = tuple(replace(rule, body=bodies[rule.name]) for rule in ir.rules)
    return replace(ir, rules=rules)


def csv(*, columns: int | None = None) -> GrammarIR:
    """Comma-separated values.

    Args:
        columns: how many fields each record has; any number, and each its own, by default.
    """
    if columns is None:
        return gbnf_to_ir(text_of("csv.gbnf"))
    record = f'field ("," field){{{_count("columns", columns) - 1}}}'
    return _with_rules("csv", {"record": record})


def markdown_table(*, columns: int | None = None) -> GrammarIR:
    """Tables of Markdown.

    Args:
        columns: how many cells each row has; by default any number, and rows below the second their own.
    """
    if columns is None:
        return gbnf_to_ir(text_of("markdown_table.gbnf"))
    n = _count("columns", columns)
    table = f'"|" (cell "|"){{{n}}} blank eol "|" (dashes "|"){{{n}}} blank (eol row)* eol?'
    return _with_rules("markdown_table", {"root": table, "row": f'"|" (cell "|"){{{n}}} blank'})


def function_calls(
    *,
    functions: Mapping[str, Mapping[str, Any]],
    whitespace: str = "flexible",
    limits: Limits = DEFAULT_LIMITS,
) -> GrammarIR:
    """Calls in JSON.

    Args:
        functions: name of a function -> JSON Schema of its arguments.
        whitespace: as in ``Grammar.from_json_schema``.
        limits: as everywhere.
    """
    if not functions:
        raise GrammarError("functions: at least one is needed")
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": schema},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, schema in functions.items()
    ]
    return json_schema_to_ir({"anyOf": calls}, whitespace=whitespace, limits=limits)


MAKERS: Final[dict[str, Maker]] = {
    maker.__name__: maker
    for maker in (
        csv,
        markdown_table,
        slia,
        bv4,
        smiles,
        acrylates,
        isocyanates,
        chain_extenders,
        blocks_world,
        gripper,
        logistics,
        c,
        function_calls,
    )
}
"""Makers by the names of their grammars."""


# -- from file and parameters to grammar -----------------------------------------------------------


def file_to_ir(text: str, start: str) -> GrammarIR:
    """The rules of a text in GBNF, with differences of languages, which GBNF has none of.

    A rule ``word`` loses the texts of the rule ``reserved-word``, if there is one.
    """
    ir = gbnf_to_ir(text, start)
    bodies = {rule.name: rule.body for rule in ir.rules}
    for name in [name for name in bodies if name.startswith(_RESERVED)]:
        loses = name.removeprefix(_RESERVED)
        words = Not(_written_out(bodies.pop(name), bodies))
        bodies[loses] = both(_written_out(bodies[loses], bodies), words)
    rules = tuple(replace(rule, body=bodies[rule.name]) for rule in ir.rules if rule.name in bodies)
    return replace(ir, rules=rules)


def _written_out(body: Expr, bodies: Mapping[str, Expr]) -> Expr:
    """Alternatives of rules as alternatives of their bodies."""
    if isinstance(body, Ref):
        return _written_out(bodies[body.name], bodies)
    return (
        alt(*(_written_out(part, bodies) for part in body.items)) if isinstance(body, Alt) else body
    )


def _from_file(name: str, rules: Mapping[str, Sequence[str]], start: str = "root") -> GrammarIR:
    """The grammar of a file, with rules that are lists of texts."""
    added = [f"{rule} ::= {_alternatives(rule, texts)}" for rule, texts in rules.items()]
    return gbnf_to_ir("\n".join([text_of(f"{name}.gbnf"), *added]), start)


def _with_rules(name: str, rules: Mapping[str, str]) -> GrammarIR:
    """The grammar of a file, some of whose rules are others, given in GBNF."""
    added = [f"{rule}-given ::= {body}" for rule, body in rules.items()]
    ir = gbnf_to_ir("\n".join([text_of(f"{name}.gbnf"), *added]))
    bodies = {rule.name: rule.body for rule in ir.rules}
    kept = [rule for rule in ir.rules if rule.name.removesuffix("-given") == rule.name]
    return replace(
        ir,
        rules=tuple(
            replace(rule, body=bodies.get(f"{rule.name}-given", rule.body)) for rule in kept
        ),
    )


def _count(parameter: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise GrammarError(f"{parameter}: {value!r} is no number of at least one")
    return value


def _alternatives(rule: str, texts: Iterable[str]) -> str:
    unique = dict.fromkeys(texts)
    if not unique:
        raise GrammarError(f"nothing is given that could be a {rule.replace('-', ' ')}")
    return " | ".join(f'"{"".join(_ESCAPED.get(c, c) for c in text)}"' for text in unique)


def _names(parameter: str, values: Sequence[str]) -> list[str]:
    """Names as they are, checked: blanks or parentheses would make other texts of them."""
    if isinstance(values, str):
        raise GrammarError(f"{parameter}: a list of names is needed, not the text {values!r}")
    for value in values:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise GrammarError(
                f"{parameter}: {value!r} is no name; a letter or _, then letters, digits, _ . -"
            )
    return list(values)
