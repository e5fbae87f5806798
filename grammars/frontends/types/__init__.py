"""Python types to the intermediate form: JSON texts that pydantic validates.

==================  ===========================================================================
``core``            pydantic's core schemas to JSON Schema with texts of its own
``objects``         fields, aliases, other keys; ``keys`` of dictionaries; ``members`` of enums
``scalars``         types that are one string each; ``textual``, ``temporal``, ``networks``
``numeric``         numbers, and what doubles do to them
``rust_regex``      patterns as pydantic's engine reads them
``functions``       what pydantic's own validator functions take
``constraints``     bounds that pydantic checks in functions
``json_text``       JSON in a string
``places``          paths of fields, and constraints that a grammar cannot keep
==================  ===========================================================================
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.errors import (
    PydanticSchemaGenerationError,
    PydanticUserError,
)
from pydantic_core import SchemaError

from grammars.errors import GrammarError
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.types.core import TypeReader
from grammars.frontends.types.places import Place, Validators
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS, Limits

ExtraKeys = Literal["forbid", "ignore"]
"""What is written of keys that are no field's, where a type would ignore them."""
_LONGEST_NAME = 60


def adapter_of(tp: Any) -> TypeAdapter[Any]:
    """What validates a type.

    Raises:
        GrammarError: if it is no type that pydantic knows.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(tp)
        if adapter.core_schema["type"] in ("", "invalid"):
            raise GrammarError(f"{tp!r} has no JSON form")
        return adapter
    except PydanticSchemaGenerationError as error:
        raise GrammarError(f"{tp!r} has no JSON form: {_first_line(error)}") from None
    except SchemaError as error:
        raise GrammarError(
            f"{tp!r} is not a type ({_first_line(error)}); for a JSON Schema use "
            "Grammar.from_json_schema"
        ) from None
    except PydanticUserError as error:
        raise GrammarError(f"{tp!r} has no JSON form: {_first_line(error)}") from None
    except ImportError as error:
        raise GrammarError(f"{tp!r} needs a package that is missing: {error}") from None


def type_to_ir(
    tp: Any,
    limits: Limits = DEFAULT_LIMITS,
    *,
    extra: ExtraKeys = "forbid",
    validators: Validators = "refuse",
) -> GrammarIR:
    """JSON texts of a type; see :meth:`grammars.Grammar.from_type`."""
    _check_option("extra", extra, ("forbid", "ignore"))
    _check_option("validators", validators, ("refuse", "warn", "ignore"))
    reader = TypeReader(limits, open_objects=extra == "ignore")
    try:
        schema = reader.schema(dict(adapter_of(tp).core_schema), Place(_name_of(tp)))
    except RecursionError:
        raise GrammarError(f"{tp!r} is nested too deeply to be read") from None
    reader.unkept.report(validators)
    return json_schema_to_ir(schema, spellings=reader.spellings, limits=limits)


def _check_option(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, known))}")


def _name_of(tp: Any) -> str:
    """The type as people call it, without what it is annotated with."""
    if get_origin(tp) is Annotated:
        return _name_of(get_args(tp)[0])
    if isinstance(tp, type) and not hasattr(tp, "__args__"):
        return tp.__name__
    written = str(tp)
    return written if len(written) <= _LONGEST_NAME else written[: _LONGEST_NAME - 3] + "..."


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


__all__ = ["adapter_of", "type_to_ir"]
