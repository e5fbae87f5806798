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

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import (
    PydanticSchemaGenerationError,
    PydanticUserError,
)
from pydantic_core import SchemaError

from grammars.errors import GrammarError
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.types.core import ANOTHER_TYPE, TypeReader
from grammars.frontends.types.places import Place, Validators
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.sources.source import Source

ExtraKeys = Literal["forbid", "ignore"]
"""What is written of keys that are no field's, where a type would ignore them."""
_LONGEST_NAME = 60
_UNKNOWN_CLASS = re.compile(r"schema for <class '([^']+)'>")


def adapter_of(tp: Any) -> TypeAdapter[Any]:
    """What validates a type.

    Raises:
        GrammarError: if it is no type that pydantic knows.
    """
    if isinstance(tp, Mapping):
        raise GrammarError(
            f"this is a {type(tp).__name__}, not a type: {tp!r:.80}; write the fields as a TypedDict, a "
            "dataclass or a pydantic model; for a JSON Schema use Grammar.from_json_schema"
        )
    name = _name_of(tp)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(tp)
        if adapter.core_schema["type"] in ("", "invalid"):
            raise GrammarError(f"{name} has no JSON form; {ANOTHER_TYPE}")
        return adapter
    except PydanticSchemaGenerationError as error:
        raise GrammarError(f"at {name}: {_of_unknown_class(error)}") from None
    except SchemaError as error:
        raise GrammarError(
            f"at {name}: this is not a type ({_last_line(error)}); for a JSON Schema use "
            "Grammar.from_json_schema"
        ) from None
    except PydanticUserError as error:
        raise GrammarError(f"at {name}: {_undefined(tp) or _first_line(error)}") from None
    except ImportError as error:
        raise GrammarError(f"{name} needs a package that is missing: {error}") from None


def _of_unknown_class(error: PydanticSchemaGenerationError) -> str:
    """What to do about a class of which pydantic knows nothing."""
    found = _UNKNOWN_CLASS.search(str(error))
    if found is None:
        return f"has no JSON form: {_first_line(error)}"
    return (
        f"has no JSON form: {found[1].rsplit('.', 1)[-1]} is a class of which pydantic knows no fields; "
        "make it a dataclass, a TypedDict or a pydantic model"
    )


def _undefined(tp: Any) -> str | None:
    """What to do about a name in quotes that stands for no type, if that is what is wrong."""
    try:
        get_type_hints(tp)
    except NameError as error:
        return (
            f"the type {error.name!r} is not defined; define it, or import it, in the module of the class "
            "that names it (call model_rebuild() if it is defined later)"
        )
    except Exception:  # whatever else is wrong, pydantic has said it
        return None
    return None


def type_to_ir(
    tp: Any,
    limits: Limits = DEFAULT_LIMITS,
    *,
    extra: ExtraKeys = "forbid",
    validators: Validators = "refuse",
    source: Source | None = None,
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
    return json_schema_to_ir(schema, spellings=reader.spellings, source=source, limits=limits)


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


def _last_line(error: Exception) -> str:
    """The innermost reason: each line before only says in what the next one is."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


__all__ = ["adapter_of", "type_to_ir"]
