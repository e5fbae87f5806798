"""Which terminals rules begin with, and which may come behind them (FIRST and FOLLOW of LL parsing)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grammars.frontends.lark.annotated import Node, Symbol, Token
from grammars.frontends.lark.points import END


class Following:
    """FIRST and FOLLOW of annotated rules, by terminal.

    Args:
        productions: the rules.
        start: the rule to start from.

    Attributes:
        first: by rule, the terminals that its texts begin with, and those behind it if it may be empty.
        follow: by rule, the terminals that may come behind it, and perhaps the end of the text.
    """

    def __init__(
        self, productions: Mapping[Node, Sequence[tuple[Symbol, ...]]], start: Node
    ) -> None:
        self._productions = productions
        self._empty = self._list_empty()
        first: dict[Node, set[str]] = {node: set() for node in productions}
        while self._grow_first(first):
            pass
        follow: dict[Node, set[str]] = {node: set() for node in productions}
        follow[start].add(END)
        while self._grow_follow(first, follow):
            pass
        self.follow: dict[Node, frozenset[str]] = {n: frozenset(f) for n, f in follow.items()}
        self.first: dict[Node, frozenset[str]] = {
            n: frozenset(f | follow[n] if n in self._empty else f) for n, f in first.items()
        }

    def _list_empty(self) -> set[Node]:
        out: set[Node] = set()
        while True:
            more = {
                node
                for node, found in self._productions.items()
                if any(all(s in out for s in production) for production in found)
            }
            if more == out:
                return out
            out = more

    def _grow_first(self, first: dict[Node, set[str]]) -> bool:
        grown = False
        for node, found in self._productions.items():
            mine = first[node]
            before = len(mine)
            for production in found:
                for symbol in production:
                    if isinstance(symbol, Token):
                        mine.add(symbol.terminal)
                        break
                    mine |= first[symbol]
                    if symbol not in self._empty:
                        break
            grown |= len(mine) > before
        return grown

    def _grow_follow(self, first: dict[Node, set[str]], follow: dict[Node, set[str]]) -> bool:
        grown = False
        for node, found in self._productions.items():
            for production in found:
                behind = set(follow[node])
                for symbol in reversed(production):
                    if isinstance(symbol, Token):
                        behind = {symbol.terminal}
                        continue
                    before = len(follow[symbol])
                    follow[symbol] |= behind
                    grown |= len(follow[symbol]) > before
                    behind = first[symbol] | (behind if symbol in self._empty else set())
        return grown
