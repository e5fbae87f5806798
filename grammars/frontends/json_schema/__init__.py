"""JSON Schema to the intermediate form.

==============  ===============================================================================
``keywords``    which keywords there are, draft by draft
``document``    schema texts, drafts, places, identifiers and references
``reading``     keywords to formulas; ``evaluated``: what ``unevaluated*`` need to know
``plain``       schemas that leave no choice, read at once, without formulas
``circles``     references that go in a circle at one value
``assertions``  what a formula can say about each type, and how two such statements combine
``negation``    the opposite of assertions
``rivals``      what tells the alternatives of ``oneOf`` apart
``clauses``     statements about objects that need not be multiplied out
``branching``   formulas to alternatives (disjunctive normal form), impossible ones dropped
``satisfies``   whether a given value (of ``enum`` or ``const``) meets demands
``spelling``    texts that a front end on top of this one says itself
``numbers``, ``strings``, ``formats``, ``text``  values and their spelling as expressions
``grounding``   strings and numbers that stand in a source text
``objects``     which keys an object may have, by name and by class
``key_sets``    which combinations of patterns some key has
``arrays``      items, their number, ``contains`` and ``uniqueItems``
``writing``     alternatives to rules
==============  ===============================================================================

What a value has to meet is a set of *demands* (formulas over places of the schema), and each set
that occurs becomes one rule; since a schema has finitely many places, recursion ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from grammars.errors import GrammarError
from grammars.frontends.json_schema.assertions import Demands
from grammars.frontends.json_schema.document import Documents
from grammars.frontends.json_schema.reading import Reader
from grammars.frontends.json_schema.spelling import NO_SPELLINGS, Spellings
from grammars.frontends.json_schema.writing import Writer
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.sources.source import Source


def json_schema_to_ir(
    schema: Mapping[str, Any] | bool | str,
    *,
    whitespace: str = "flexible",
    property_order: str = "schema",
    formats: str = "assert",
    numbers: str = "shortest",
    registry: Mapping[str, Any] | None = None,
    spellings: Spellings = NO_SPELLINGS,
    source: Source | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> GrammarIR:
    """See :meth:`grammars.Grammar.from_json_schema`.

    ``spellings`` gives values of the keyword ``format`` a meaning of the caller's own; ``source`` is the
    text that values are tied to.

    Raises:
        GrammarError: for text that is not JSON (with line and column), a value that is no schema,
            or a reference that leads nowhere (with the JSON pointer).
        UnsupportedSchemaError: for a keyword that is not constrained exactly.
        ValueError: for an unknown option.
    """
    _check_option("whitespace", whitespace, ("flexible", "compact"))
    _check_option("property_order", property_order, ("schema", "any"))
    _check_option("formats", formats, ("assert", "annotate"))
    _check_option("numbers", numbers, ("shortest", "any"))
    try:
        documents = Documents(schema, registry or {})
        reader = Reader(
            documents,
            assert_formats=formats == "assert",
            spellings=spellings,
            source=source,
            limits=limits,
        )
        return values_to_ir(
            reader,
            compact=whitespace == "compact",
            any_order=property_order == "any",
            shortest=numbers == "shortest",
            limits=limits,
        )
    except RecursionError:
        raise GrammarError("the schema is nested too deeply to be read") from None


def values_to_ir(
    reader: Reader,
    demands: Demands | None = None,
    *,
    compact: bool,
    any_order: bool,
    shortest: bool,
    limits: Limits,
) -> GrammarIR:
    """JSON texts of the values that meet demands; without any, those of the schema."""
    write = partial(
        Writer, reader, compact=compact, any_order=any_order, shortest=shortest, limits=limits
    )
    # whether items are compared shows when all arrays are written; the first try is a guess
    guess = reader.documents.mentions("uniqueItems", True)
    writer = write(compared=guess)
    ir = writer.grammar(demands)
    return ir if writer.compares == guess else write(compared=not guess).grammar(demands)


def _check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, known))}")


__all__ = ["json_schema_to_ir", "values_to_ir"]
