"""Lines of a text as rows of a table: what stands in columns of their own."""

from __future__ import annotations

import re
from typing import Final

from grammars.sources.numbers import FoundNumber, numbers_of

_BETWEEN: Final = re.compile(r"[\t|\u2502]|\s{2,}")
"""What separates cells: a tab, a bar, or two blanks."""


def rows_of(text: str) -> list[tuple[str, ...]]:
    """The cells of each line that has a letter or a digit."""
    rows = (tuple(map(str.strip, _BETWEEN.split(line.strip()))) for line in text.splitlines())
    kept = (tuple(cell for cell in row if any(map(str.isalnum, cell))) for row in rows)
    return [row for row in kept if row]


def number_in(cell: str) -> list[FoundNumber]:
    """The readings of the number of a cell; none if it has no number, or several."""
    found = sorted(numbers_of(cell), key=lambda one: one.start)
    end = found[0].end if found else 0
    for one in found:
        if one.start >= end:
            return []
        end = max(end, one.end)
    return found


__all__ = ["number_in", "rows_of"]
