"""Python types to the intermediate form, by the JSON Schema that pydantic gives them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import (
    PydanticInvalidForJsonSchema,
    PydanticSchemaGenerationError,
    PydanticUserError,
)
from pydantic_core import SchemaError

from grammars.errors import GrammarError
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS, Limits


def type_schema(tp: Any) -> dict[str, Any]:
    """The JSON Schema of what ``TypeAdapter(tp)`` validates.

    Raises:
        GrammarError: if pydantic knows no schema for the type.
    """
    try:
        return TypeAdapter(tp).json_schema(mode="validation")
    except PydanticSchemaGenerationError as error:
        raise GrammarError(f"{tp!r} has no JSON form: {_first_line(error)}") from None
    except SchemaError as error:
        raise GrammarError(
            f"{tp!r} is not a type ({_first_line(error)}); for a JSON Schema use "
            "Grammar.from_json_schema"
        ) from None
    except (PydanticInvalidForJsonSchema, PydanticUserError) as error:
        raise GrammarError(f"{tp!r} has no JSON Schema: {_first_line(error)}") from None


def type_to_ir(tp: Any, limits: Limits = DEFAULT_LIMITS) -> GrammarIR:
    """JSON texts of a type; see :meth:`grammars.Grammar.from_type`."""
    return json_schema_to_ir(type_schema(tp), limits=limits)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
