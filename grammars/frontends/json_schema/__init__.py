"""JSON Schema to the intermediate form.

==============  ===============================================================================
``document``    the schema text, its draft, JSON pointers and references
``assertions``  what keywords say about each type, and how two such statements combine
``reading``     keywords to assertions; combinators become alternatives
``satisfies``   whether a given value (of ``enum`` or ``const``) meets assertions
``numbers``     decimal notations of the numbers in a range, or of multiples
``text``        JSON strings, whitespace, separators
``writing``     assertions to expressions and rules
==============  ===============================================================================

Every place of a schema is a JSON pointer.  What a value has to meet is a *set* of such places, and
each set that occurs becomes one rule; since a schema has finitely many places, recursion ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grammars.errors import GrammarError
from grammars.frontends.json_schema.document import Document
from grammars.frontends.json_schema.writing import Writer
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS, Limits


def json_schema_to_ir(
    schema: Mapping[str, Any] | bool | str,
    *,
    whitespace: str = "flexible",
    property_order: str = "schema",
    formats: str = "assert",
    registry: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> GrammarIR:
    """See :meth:`grammars.Grammar.from_json_schema`.

    Raises:
        GrammarError: for text that is not JSON (with line and column), a value that is no schema,
            or a reference that leads nowhere (with the JSON pointer).
        UnsupportedSchemaError: for a keyword that is not constrained exactly.
        ValueError: for an unknown option.
    """
    _check_option("whitespace", whitespace, ("flexible", "compact"))
    _check_option("property_order", property_order, ("schema", "any"))
    _check_option("formats", formats, ("assert", "annotate"))
    if property_order == "any":
        raise GrammarError(
            'property_order="any" is not available yet; use "schema", which fixes the order of keys'
        )
    try:
        document = Document(schema, registry or {}, assert_formats=formats == "assert")
        return Writer(document, compact=whitespace == "compact", limits=limits).grammar()
    except RecursionError:
        raise GrammarError("the schema is nested too deeply to be read") from None


def _check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, known))}")


__all__ = ["json_schema_to_ir"]
