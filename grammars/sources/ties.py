"""Marks for fields of types: whether a value stands in the source text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from grammars.sources.source import KEYWORD

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True)
class _Mark:
    """An annotation that pydantic hands on in its schemas, as the keyword ``x-gramma-source``."""

    tie: ClassVar[str]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: Any = dict(handler(source))
        metadata = dict(schema.get("metadata") or {})
        extra = metadata.get("pydantic_js_extra")
        metadata["pydantic_js_extra"] = {
            **(extra if isinstance(extra, dict) else {}),
            KEYWORD: self.tie,
        }
        made: CoreSchema = {**schema, "metadata": metadata}
        return made


@dataclass(frozen=True)
class Verbatim(_Mark):
    """The strings and numbers of a field stand in the source text: ``Annotated[str, Verbatim()]``."""

    tie = "verbatim"


@dataclass(frozen=True)
class Inferred(_Mark):
    """The strings and numbers of a field need not stand in the source text, even where others have to."""

    tie = "inferred"


@dataclass(frozen=True)
class Rows(_Mark):
    """The items of a list stand in lines of a table in the source: ``Annotated[list[Item], Rows()]``."""

    tie = "rows"


__all__ = ["Inferred", "Rows", "Verbatim"]
