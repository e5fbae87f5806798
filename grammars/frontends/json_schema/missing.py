"""Values that a source text lacks, and the fields that need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from grammars.frontends.json_schema.assertions import Arrays, At, Demands
from grammars.frontends.json_schema.objects import Plan
from grammars.ir import Expr

_MOST: Final = 5
"""Fields that one message names."""
_ADVICE: Final = (
    "make it optional (as in float | None = None) or mark it Inferred(); in a schema, take it out of "
    '"required" or say "x-gramma-source": "inferred"'
)
_Part: TypeAlias = str | Plan | Arrays
"""What was written: words on a value that the source lacks, an object, an array."""


class Missing:
    """Remembers what the rules of a grammar need, so as to say which field cannot be filled.

    A rule whose body is one object needs its required keys; one that is an array, as many items as
    it has at least.  Rules with alternatives are not looked into: what is found is always a reason.

    Args:
        meant: the demands that stand for others in the grammar.
    """

    def __init__(self, meant: Callable[[Demands], Demands]) -> None:
        self._meant = meant
        self._written: list[tuple[Expr, _Part]] = []
        self._wholes: dict[Demands, _Part] = {}
        self._places: dict[str, None] = {}

    def begin(self) -> None:
        """Begins a rule."""
        self._written.clear()

    def write(self, body: Expr, part: _Part) -> None:
        """Remembers a part of the rule that is being written."""
        self._written.append((body, part))

    def lack(self, body: Expr, places: Iterable[str], what: str) -> None:
        """Remembers a value of which the source has none, and the places of the schema that ask for it."""
        named = [str(At(place)) for place in places]
        patterns = " and ".join([place for place in named if place.endswith("/pattern")][:4])
        self.write(body, f"{what} (at {patterns})" if patterns else what)
        where = " and ".join(named[:4]) or "#"
        self._places[f"at {where}: {what}"] = None

    def finish(self, demands: Demands, body: Expr) -> None:
        """Ends a rule: if one of its parts is all of it, the rule needs what the part needs."""
        for written, part in self._written:
            if written is body:
                self._wholes[demands] = part

    def notes(self, start: Demands) -> tuple[str, ...]:
        """The fields without which there is no value, else the places of what the source lacks."""
        if not self._places:
            return ()
        found = list(islice(self._fields(start, "", frozenset(), set()), _MOST + 1))
        said = [f"{_named(path)}: {what}" for path, what in found[:_MOST]] or [*self._places]
        if len(found) > _MOST:
            said.append("and other fields")
        return ("; ".join([*said, _ADVICE]),)

    def _fields(
        self, demands: Demands, path: str, above: frozenset[Demands], none: set[Demands]
    ) -> Iterator[tuple[str, str]]:
        """Paths of needed values that the source lacks.

        Args:
            above: what the value is part of; a value that needs one like itself is not followed.
            none: what was found to need nothing that is missing.
        """
        part = self._wholes.get(demands)
        if isinstance(part, str):
            yield path, part
        elif part is not None and demands not in above | none:
            found = False
            for step, needed in _needed(part):
                inside = self._fields(self._meant(needed), path + step, above | {demands}, none)
                for one in inside:
                    found = True
                    yield one
            if not found:
                none.add(demands)


def _needed(part: Plan | Arrays) -> Iterator[tuple[str, Demands]]:
    """The parts that every value has, each with its step of the path."""
    if isinstance(part, Plan):
        for slot in part.slots:
            if slot.required and slot.group is None:
                yield f".{slot.name}", slot.demands
        return
    for index in range(min(part.low, len(part.prefix) + 1)):
        yield f"[{index}]", part.item(index)


def _named(path: str) -> str:
    return f"field {path.removeprefix('.')!r}" if path else "the value"


__all__ = ["Missing"]
