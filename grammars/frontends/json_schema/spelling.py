"""Texts of values that whoever makes a schema says himself, for front ends on top of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from grammars.ir import Expr, Rule


@dataclass(frozen=True, slots=True)
class Spelling:
    """The texts of a value; a ``format`` that names one in the table of the reader means it.

    Attributes:
        kind: ``"string"``, where ``expr`` describes the value (over code points), or ``"number"``,
            where it describes the text.
        rules: what ``expr`` refers to.
    """

    kind: Literal["string", "number"]
    expr: Expr
    rules: tuple[Rule, ...] = ()


Spellings: TypeAlias = Mapping[str, Spelling]

NO_SPELLINGS: Final[Spellings] = MappingProxyType({})
