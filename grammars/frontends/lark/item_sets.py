"""Item sets of the LALR table: which point lies behind a token, and what the lexer looks for there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from grammars.errors import LimitExceeded
from grammars.frontends import _lark_api
from grammars.frontends._lark_api import (
    GrammarAnalyzer,
    LALR_Analyzer,
    LarkError,
    NonTerminal,
    ParserConf,
    Terminal,
)
from grammars.frontends.lark.loading import Loaded
from grammars.frontends.lark.points import END
from grammars.frontends.lark.source import Source
from grammars.work import spend

_WORK_A_CUBE = 1 / 20
"""Units of work of lark's analysis, of each symbol in a rule with all pairs of those behind it."""


def _count_analysis(rules: Sequence[Any]) -> None:
    """Counts the work of lark's sets of what may begin and follow symbols, cubic in a rule's length.

    Raises:
        LimitExceeded: before lark would take minutes for a rule of a thousand symbols.
    """
    longest = max(rules, key=lambda rule: len(rule.expansion))
    try:
        spend(int(_WORK_A_CUBE * sum(len(rule.expansion) ** 3 for rule in rules)))
    except LimitExceeded as error:
        error.rule = error.rule or str(longest.origin.name)
        raise


class States(ABC):
    """States of the parser, as far as the lexer depends on them.

    Attributes:
        start: the state in which a text begins; also the number of the point there.
        follow: by point, the terminals that may be read next, and perhaps the end.
        looked_for: by point, the terminals that the lexer looks for.
    """

    start: int
    follow: Mapping[int, frozenset[str]]
    looked_for: Mapping[int, frozenset[str]]

    @abstractmethod
    def behind(self, state: int, terminal: str) -> int | None:
        """The point behind a terminal that is read in a state."""

    @abstractmethod
    def goto(self, state: int, name: str) -> int | None:
        """The state behind a symbol; ``None`` if it cannot stand there."""


class ItemSets(States):
    """The states of the LALR table, which are also the points; for the contextual lexer.

    A conflict, between shifting and reducing or between two rules, leaves the states as they are
    and the terminals that count in them too: lark's choice only says which reading it goes on with.
    Here all of them stay alive.
    """

    def __init__(self, source: Source, loaded: Loaded) -> None:
        conf = ParserConf(loaded.rules, {}, [loaded.start])
        try:
            _count_analysis(loaded.rules)
            with _lark_api.calling():
                analysis: Any = LALR_Analyzer(conf)
                analysis.compute_lr0_states()
                analysis.compute_reads_relations()
                analysis.compute_includes_lookback()
                analysis.compute_lookaheads()
        except LarkError as error:
            raise source.error(error) from None
        number: dict[Any, int] = {}
        first = analysis.lr0_start_states[loaded.start]
        order = [first]
        number[first] = 0
        self._goto: list[dict[str, int]] = []
        follow: dict[int, frozenset[str]] = {}
        for state in order:  # grows while we iterate
            row: dict[str, int] = {}
            for symbol, target in sorted(state.transitions.items(), key=lambda x: str(x[0].name)):
                if target not in number:
                    number[target] = len(order)
                    order.append(target)
                row[str(symbol.name)] = number[target]
            self._goto.append(row)
            shifted = {str(s.name) for s in state.transitions if s.is_term}
            reduced = {str(s.name) for s in state.lookaheads}
            follow[number[state]] = frozenset(shifted | reduced)
        self.start = 0
        self.follow: Mapping[int, frozenset[str]] = follow
        self.looked_for = self.follow

    def behind(self, state: int, terminal: str) -> int | None:
        """The point behind a terminal that is read in a state."""
        return self.goto(state, terminal)

    def goto(self, state: int, name: str) -> int | None:
        """The state behind a symbol; ``None`` if it cannot stand there."""
        return self._goto[state].get(name)


class OneState(States):
    """A single state, and a point behind each terminal; for lexers that do not ask the parser."""

    def __init__(self, source: Source, loaded: Loaded) -> None:
        conf = ParserConf(loaded.rules, {}, [loaded.start])
        try:
            _count_analysis(loaded.rules)
            with _lark_api.calling():
                sets = GrammarAnalyzer(conf)
        except LarkError as error:
            raise source.error(error) from None
        everything = frozenset(str(t.name) for t in loaded.terminals)
        made = loaded.postlex.unspelled if loaded.postlex else frozenset()
        self._point = {name: i + 1 for i, name in enumerate(sorted(everything | made))}
        self.start = 0
        first = {str(s.name) for s in sets.FIRST[NonTerminal(loaded.start)]}
        follow = {0: frozenset({*first, END})}
        for name, point in self._point.items():
            found = sets.FOLLOW.get(Terminal(name), set())
            follow[point] = frozenset(str(s.name) for s in found)
        self.follow: Mapping[int, frozenset[str]] = follow
        self.looked_for: Mapping[int, frozenset[str]] = dict.fromkeys(follow, everything)

    def behind(self, state: int, terminal: str) -> int | None:
        """The point behind a terminal, whatever the state."""
        return self._point[terminal]

    def goto(self, state: int, name: str) -> int | None:
        """The only state."""
        return 0
