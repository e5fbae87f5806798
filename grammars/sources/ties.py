"""Marks for fields of types: whether a value stands in the source text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from grammars.sources.source import KEYWORD, LABELS

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


@dataclass(frozen=True)
class _Mark:
    """An annotation that pydantic hands on in its schemas, as the keyword ``x-gramma-source``."""

    tie: ClassVar[str]

    def _said(self) -> dict[str, Any]:
        return {KEYWORD: self.tie}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: Any = dict(handler(source))
        metadata = dict(schema.get("metadata") or {})
        extra = metadata.get("pydantic_js_extra")
        metadata["pydantic_js_extra"] = (extra if isinstance(extra, dict) else {}) | self._said()
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


@dataclass(frozen=True, init=False)
class Labelled(_Mark):
    """A field's value stands behind a label of the source, on its line, where the source has the label.

    Args:
        labels: the label, or several that are as good; by default the field's title, or its name.
            ``Annotated[float, Labelled("total", "amount due")]``.
    """

    tie = "labelled"
    labels: tuple[str, ...]

    def __init__(self, *labels: str) -> None:
        object.__setattr__(self, "labels", labels)

    def _said(self) -> dict[str, Any]:
        return {KEYWORD: self.tie} | ({LABELS: list(self.labels)} if self.labels else {})


@dataclass(frozen=True)
class Rows(_Mark):
    """The items of a list stand in lines of a table in the source: ``Annotated[list[Item], Rows()]``."""

    tie = "rows"


__all__ = ["Inferred", "Labelled", "Rows", "Verbatim"]
