"""``%json {...}``: a schema inside a grammar of llguidance's dialect."""

from __future__ import annotations

from typing import Any, Final

from grammars.errors import GrammarError
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.llguidance.syntax import Schema
from grammars.frontends.llguidance.terminals import error_at
from grammars.ir import GrammarIR
from grammars.limits import Limits

_KEY: Final = "x-guidance"
_SEPARATORS: Final = {"item_separator": (",",), "key_separator": (":",)}


def schema_to_ir(schema: Schema, limits: Limits) -> GrammarIR:
    """The JSON texts of a schema, with its options under ``x-guidance``.

    Raises:
        GrammarError: at the place of ``%json``, with the pointer into the schema.
    """
    whitespace = "flexible"
    given = schema.schema
    if isinstance(given, dict) and _KEY in given:
        whitespace = _options(given[_KEY], schema)
        given = {key: value for key, value in given.items() if key != _KEY}
    try:
        return json_schema_to_ir(given, whitespace=whitespace, limits=limits)
    except GrammarError as error:
        where = f" (at {error.pointer})" if error.pointer else ""
        error.args = (f"failed to compile JSON schema: {error.message}{where}",)
        error.message = error.args[0]
        error.pointer = None
        error.line, error.column = schema.place.line, schema.place.column
        error.locate()
        raise


def _options(options: Any, schema: Schema) -> str:
    """The whitespace that ``x-guidance`` asks for; what is not kept is refused."""
    if not isinstance(options, dict):
        raise error_at(schema.place, f"{_KEY} is an object of options")
    whitespace = "flexible"
    for key, value in options.items():
        match key:
            case "whitespace_flexible":
                whitespace = "flexible" if value else "compact"
            case "coerce_one_of" | "lenient" | "json_allow_general_unicode_escapes":
                pass  # oneOf is exact here, nothing is dropped, any character may be escaped
            case "item_separator" | "key_separator" if str(value).strip() in _SEPARATORS[key]:
                pass
            case _:
                raise error_at(
                    schema.place,
                    f"the option {key!r} of {_KEY} is not supported; known are whitespace_flexible, "
                    "coerce_one_of, lenient and json_allow_general_unicode_escapes "
                    "(Grammar.from_json_schema has options of its own)",
                )
    return whitespace
