"""Item sets of the LALR table: which point lies behind a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grammars.frontends import _lark_api
from grammars.frontends._lark_api import (
    GrammarAnalyzer,
    LALR_Analyzer,
    LarkError,
    NonTerminal,
    ParserConf,
    Shift,
    Terminal,
)
from grammars.frontends.lark.loading import Loaded
from grammars.frontends.lark.points import END
from grammars.frontends.lark.source import Source


class States:
    """Which point lies behind a token: by LALR state, or else by terminal."""

    def __init__(self, source: Source, loaded: Loaded) -> None:
        conf = ParserConf(loaded.rules, {}, [loaded.start])
        self.table: Mapping[int, Mapping[str, tuple[Any, Any]]] | None = None
        self.follow: dict[int, frozenset[str]] = {}
        try:
            with _lark_api.calling():
                analysis: Any = LALR_Analyzer(conf, strict=True)
                analysis.compute_lalr()
            settled = all(
                len(rules) == 1 for s in analysis.lr0_itemsets for rules in s.lookaheads.values()
            )
            if settled:
                table: Any = analysis.parse_table
                self.table = table.states
                self.start = int(table.start_states[loaded.start])
        except LarkError as error:
            if not error.is_refusal:  # a conflict is refused
                raise source.error(error) from None
        if self.table is not None:
            self.contexts = {q: frozenset(map(str, row)) for q, row in self.table.items()}
            self.follow = self.contexts
            return
        self._by_terminal(source, conf, loaded)

    def _by_terminal(self, source: Source, conf: ParserConf, loaded: Loaded) -> None:
        try:
            with _lark_api.calling():
                sets = GrammarAnalyzer(conf)
        except LarkError as error:
            raise source.error(error) from None
        everything = frozenset(str(t.name) for t in loaded.terminals)
        self._point = {str(t.name): i + 1 for i, t in enumerate(loaded.terminals)}
        first = {str(s.name) for s in sets.FIRST[NonTerminal(loaded.start)]}
        self.start = 0
        self.follow = {0: frozenset({*first, END})}
        for name, point in self._point.items():
            found = sets.FOLLOW.get(Terminal(name), set())
            self.follow[point] = frozenset(str(s.name) for s in found)
        self.contexts = dict.fromkeys(self.follow, everything)

    def behind(self, state: int, terminal: str) -> int | None:
        """The point behind a terminal that is read in a state."""
        if self.table is None:
            return self._point[terminal]
        return self.goto(state, terminal)

    def goto(self, state: int, name: str) -> int | None:
        """The state behind a symbol."""
        if self.table is None:
            return 0
        action = self.table[state].get(name)
        return int(action[1]) if action is not None and action[0] is Shift else None
