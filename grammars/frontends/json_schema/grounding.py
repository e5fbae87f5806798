"""Strings and numbers that stand in a source text, as expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from grammars.compiling.compiler import compile_ir
from grammars.frontends.json_schema import text as t
from grammars.frontends.json_schema.assertions import Branch, Numbers, Spelled, Strings
from grammars.frontends.json_schema.numbers import are_integers, shortest_notations
from grammars.frontends.json_schema.strings import content, listed_strings
from grammars.ir import Expr, Substrings, alt, both, single_rule, text
from grammars.limits import Limits
from grammars.sources.source import FOLD, UNIT, Source

Allows = Callable[[Branch, Any], bool]
"""Whether a branch allows a value."""


class Grounding:
    """Writes values of a schema so that they stand in a source.

    Args:
        source: the text; without one nothing is tied.
        allows: decides which of the source's numbers and dates a schema allows.
    """

    def __init__(self, source: Source | None, allows: Allows) -> None:
        self._source = source
        self._allows = allows

    @property
    def explains(self) -> bool:
        """Whether a grammar is to say what the source lacks."""
        return self._source is not None and self._source.explains

    def lacks(self, body: Expr, limits: Limits) -> bool:
        """Whether nothing in the source meets what a value has to; only found out where it is to be told."""
        return self.explains and compile_ir(single_rule(body), limits).is_empty

    def ties_string(self, strings: Strings) -> bool:
        """Whether strings have to stand in the source; those of a pattern that lists them need not."""
        return self._source is not None and (
            self._source.ties(strings.source) and not listed_strings(strings)
        )

    def ties_number(self, numbers: Numbers) -> bool:
        """Whether numbers have to stand in the source."""
        return self._source is not None and self._source.ties(numbers.source)

    def string(self, strings: Strings, excluded: Sequence[str]) -> Expr:
        """Spans of the source that meet assertions, in quotes.

        Where there is a pattern or a format, the source's dates and times as ISO 8601 writes them are
        fine too.
        """
        assert self._source is not None
        parts = self._source.parts(strings.source)
        spans = alt(*(Substrings(part.text, UNIT, FOLD) for part in parts))
        free = not (strings.shapes or strings.low or strings.high is not None or excluded)
        kept = spans if free else both(spans, content(strings, excluded))
        if not strings.shapes:
            return t.quoted(kept)
        branch = Branch(types=frozenset(["string"]), strings=strings)
        said = dict.fromkeys(moment for part in parts for moment in part.moments)
        moments = [m for m in said if m not in excluded and self._allows(branch, m)]
        return t.quoted(alt(kept, *map(text, moments)))

    def number(self, branch: Branch, excluded: Iterable[Any]) -> Expr:
        """The numbers of the source that meet assertions, in the shortest notations and the source's own."""
        assert self._source is not None
        out = self._numbers(self._source.parts(branch.numbers.source), branch, excluded)
        if not out:  # no number behind the label
            out = self._numbers([self._source], branch, excluded)
        words = alt(*out)
        spelling = branch.numbers.spelling
        return words if spelling is None else both(spelling, words)

    def _numbers(
        self, parts: Sequence[Source], branch: Branch, excluded: Iterable[Any]
    ) -> list[Expr]:
        out: list[Expr] = []
        whole = are_integers(branch.numbers)
        for found in (one for part in parts for one in part.numbers):
            value = Spelled(found.text)
            if value in excluded or not self._allows(branch, value):
                continue
            out.append(shortest_notations(value, whole=whole))
            if not whole and value == value.to_integral_value():
                out.append(text(f"{value:f}".partition(".")[0] + ".0"))  # as a float is written
        return out


__all__ = ["Grounding"]
