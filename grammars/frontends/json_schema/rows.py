"""Arrays whose items stand in lines of a source, as rows of a table do.

Each item is an object whose strings and numbers stand in cells of one line, from left to right in the order
of its properties, no cell twice; items come in the order of their lines, and no line has two.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from grammars.errors import LimitExceeded, UnsupportedSchemaError
from grammars.frontends.json_schema.assertions import TYPES, Arrays, Branch, Demands, type_of
from grammars.frontends.json_schema.grounding import Allows, Grounding
from grammars.frontends.json_schema.objects import Plan, Slot
from grammars.frozen import replace
from grammars.ir import EPSILON, NOTHING, Expr, Literal, alt, seq
from grammars.limits import Limits
from grammars.sources.rows import number_in, rows_of
from grammars.sources.source import KEYWORD, Source

_SCALARS: Final = ("null", "boolean", "number", "string")
_OPEN: Final = Literal(b"[")


class RowRules(Protocol):
    """What is needed of the writer."""

    @property
    def gap(self) -> Expr:
        """Blanks."""
        ...

    def own_rule(self, what: str, body: Expr, *, shared: bool = False) -> Expr:
        """A new rule."""
        ...

    def branches(self, demands: Demands) -> list[Branch]:
        """The alternatives of demands."""
        ...

    def plans(self, branch: Branch) -> list[Plan]:
        """The ways of meeting what a branch says of objects."""
        ...

    def listed(self, branch: Branch) -> Expr:
        """The values that a branch lists."""
        ...

    def untied(self, kind: str, branch: Branch) -> Expr:
        """The values of a type that need not stand anywhere."""
        ...

    def pair(self, name: str, value: Expr) -> Expr:
        """A key with its value."""
        ...

    def separators(self) -> tuple[Expr, Expr]:
        """Comma (with blanks) and closing bracket behind an item."""
        ...

    def comma(self) -> Expr:
        """The comma between pairs, with blanks."""
        ...


class _Field(NamedTuple):
    """A property of an item.

    Attributes:
        free: values that stand in no cell.
        strings, numbers: alternatives of those that do.
    """

    slot: Slot
    free: Expr
    strings: list[Branch]
    numbers: list[Branch]


class RowWriter:
    """Writes arrays of rows of one source.

    Args:
        rules: where rules are kept.
        source: the text.
        allows: decides which numbers a schema allows.
        limits: ``max_schema_branches`` bounds lines and numbers of items together.
    """

    def __init__(self, rules: RowRules, source: Source, allows: Allows, limits: Limits) -> None:
        self._rules = rules
        self._rows = rows_of(source.text)
        self._allows = allows
        self._limits = limits
        self._cells: dict[str, Grounding] = {}

    def array(self, arrays: Arrays, place: str | None) -> Expr:
        """The texts of the arrays.

        Raises:
            UnsupportedSchemaError: for items that are no objects of scalars, or that are counted or
                compared.
            LimitExceeded: for ``max_schema_branches``.
        """
        fields = self._fields(arrays, place)
        top = max(arrays.low, 0 if arrays.high is None else arrays.high, 1)
        if top * len(self._rows) > self._limits.max_schema_branches:
            raise LimitExceeded(
                "max_schema_branches",
                self._limits.max_schema_branches,
                f"up to {top:,} items in {len(self._rows):,} lines",
                pointer=place,
            )
        comma, close = self._rules.separators()
        gap = self._rules.gap
        # by number of items so far: what may follow behind them, in the lines that are left
        rest = [close if count >= arrays.low else NOTHING for count in range(top + 1)]
        for cells in reversed(self._rows):
            item = self._item(fields, cells)
            if item == NOTHING:
                continue
            before: list[Expr] = []
            for count in range(top + 1):
                more = min(count + 1, top)
                if arrays.high is not None and count >= arrays.high:
                    taken: Expr = NOTHING
                else:
                    taken = seq(comma if count else EPSILON, item, gap, rest[more])
                before.append(self._rules.own_rule("rows", alt(taken, rest[count])))
            rest = before
        return seq(_OPEN, gap, rest[0])

    def _fields(self, arrays: Arrays, place: str | None) -> list[_Field]:
        """The properties of items.

        Raises:
            UnsupportedSchemaError: if items are of another kind.
        """
        if arrays.prefix or arrays.contains or arrays.unique is not None:
            raise self._unsupported("items that are counted, compared or of different kinds", place)
        branches = self._rules.branches(arrays.rest)
        plans = self._rules.plans(branches[0]) if len(branches) == 1 else []
        plain = len(plans) == 1 and branches[0].types == {"object"} and branches[0].values is None
        if not plain or plans[0].conditions or plans[0].low or plans[0].high is not None:
            raise self._unsupported("items that are no plain objects", place)
        if any(slot.group is not None for slot in plans[0].slots):
            raise self._unsupported("items with alternatives for one key", place)
        return [self._field(slot, place) for slot in plans[0].slots]

    def _field(self, slot: Slot, place: str | None) -> _Field:
        free: list[Expr] = []
        strings: list[Branch] = []
        numbers: list[Branch] = []
        for branch in self._rules.branches(slot.demands):
            if branch.values is not None:
                free.append(self._rules.listed(branch))
                continue
            for kind in (kind for kind in TYPES if kind in branch.types):
                if kind not in _SCALARS:
                    raise self._unsupported(f"{kind}s in items ({slot.name!r})", place)
                if kind == "string" and branch.strings.source != "inferred":
                    strings.append(branch)
                elif kind == "number" and branch.numbers.source != "inferred":
                    numbers.append(branch)
                else:
                    free.append(self._rules.untied(kind, branch))
        return _Field(slot, alt(*free), strings, numbers)

    def _unsupported(self, what: str, place: str | None) -> UnsupportedSchemaError:
        return UnsupportedSchemaError(
            f'"{KEYWORD}": "rows" is for arrays of objects whose properties are strings, numbers, '
            f"booleans or null, not for {what}",
            pointer=place or "",
            keyword=KEYWORD,
        )

    # -- one line ----------------------------------------------------------------------------------

    def _item(self, fields: list[_Field], cells: tuple[str, ...]) -> Expr:
        """The objects whose values stand in the cells of a line."""
        last = len(cells)
        # by the cell from which on values may stand, and whether there is a pair already
        rest: dict[tuple[int, bool], Expr] = {
            (cell, begun): EPSILON for cell in range(last + 1) for begun in (False, True)
        }
        for field in reversed(fields):
            values = [self._value(field, cell) for cell in cells]
            now: dict[tuple[int, bool], Expr] = {}
            for cell, begun in rest:
                comma = self._rules.comma() if begun else EPSILON
                ways = [
                    seq(comma, self._pair(field, values[k]), rest[k + 1, True])
                    for k in range(cell, last)
                    if values[k] != NOTHING
                ]
                if field.free != NOTHING:
                    ways.append(seq(comma, self._pair(field, field.free), rest[cell, True]))
                if not field.slot.required:
                    ways.append(rest[cell, begun])
                now[cell, begun] = self._named(alt(*ways))
            rest = now
        body = rest[0, False]
        if body == NOTHING:
            return NOTHING
        gap = self._rules.gap
        return self._rules.own_rule("row", seq(Literal(b"{"), gap, body, gap, Literal(b"}")))

    def _named(self, body: Expr) -> Expr:
        """What several places share, as a rule of its own."""
        return body if body in (NOTHING, EPSILON) else self._rules.own_rule("cells", body)

    def _pair(self, field: _Field, value: Expr) -> Expr:
        return self._rules.pair(field.slot.name, value)

    def _value(self, field: _Field, cell: str) -> Expr:
        """The strings and numbers of a cell."""
        grounding = self._cells.get(cell)
        if grounding is None:
            grounding = self._cells[cell] = Grounding(Source(cell, grounded=True), self._allows)
        out: list[Expr] = []
        for branch in field.strings:
            excluded = [v.data for v in branch.excluded if isinstance(v.data, str)]
            out.append(
                grounding.string(replace(branch.strings, low=max(branch.strings.low, 1)), excluded)
            )
        if number_in(cell):
            for branch in field.numbers:
                excluded = [v.data for v in branch.excluded if type_of(v.data) == "number"]
                out.append(grounding.number(branch, excluded))
        return alt(*out)


__all__ = ["RowRules", "RowWriter"]
