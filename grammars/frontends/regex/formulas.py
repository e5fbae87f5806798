"""Boolean formulas over numbered variables, equal ones the same number: ordered decision diagrams.

A formula is the number of a node "if this variable then that formula, else another" (Bryant 1986).
Variables stand in increasing order from the root down, equal nodes are made once, and a node both of
whose ways are the same is left out: so formulas that hold under the same assignments are one number.
"""

from __future__ import annotations

from typing import Final

from grammars.work import spend

FALSE: Final = 0
TRUE: Final = 1
_NO_VARIABLE: Final = 1 << 62


class Formulas:
    """The formulas of one construction."""

    def __init__(self) -> None:
        self._nodes: list[tuple[int, int, int]] = [(_NO_VARIABLE, 0, 0), (_NO_VARIABLE, 1, 1)]
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._chosen: dict[tuple[int, int, int], int] = {}

    def variable(self, number: int) -> int:
        """The formula that a variable holds."""
        return self._node(number, TRUE, FALSE)

    def parts(self, formula: int) -> tuple[int, int, int]:
        """The first variable of a formula that is not constant, and what it is if that holds, and if not."""
        return self._nodes[formula]

    def both(self, a: int, b: int) -> int:
        """Conjunction."""
        if a == b or b == TRUE:
            return a
        if a == TRUE:
            return b
        return FALSE if FALSE in (a, b) else self.choose(min(a, b), max(a, b), FALSE)

    def either(self, a: int, b: int) -> int:
        """Disjunction."""
        if a == b or b == FALSE:
            return a
        if a == FALSE:
            return b
        return TRUE if TRUE in (a, b) else self.choose(min(a, b), TRUE, max(a, b))

    def negation(self, a: int) -> int:
        """Negation."""
        return self.choose(a, FALSE, TRUE)

    def choose(self, condition: int, then: int, other: int) -> int:
        """``then`` where the condition holds, else ``other``."""
        if condition == TRUE or then == other:
            return then
        if condition == FALSE:
            return other
        if then == TRUE and other == FALSE:
            return condition
        key = (condition, then, other)
        known = self._chosen.get(key)
        if known is None:
            spend(5)
            first = min(self._nodes[f][0] for f in key)
            high, low = zip(*(self._ways(f, first) for f in key), strict=True)
            known = self._node(first, self.choose(*high), self.choose(*low))
            self._chosen[key] = known
        return known

    def _ways(self, formula: int, variable: int) -> tuple[int, int]:
        """The formula where a variable holds and where not; none of its variables comes before."""
        own, high, low = self._nodes[formula]
        return (high, low) if own == variable else (formula, formula)

    def _node(self, variable: int, high: int, low: int) -> int:
        if high == low:
            return high
        key = (variable, high, low)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._nodes)
            self._nodes.append(key)
        return number
