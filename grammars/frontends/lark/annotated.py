"""Rules annotated with the item set they start in, those that behave alike merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from grammars.frontends.lark.item_sets import States
from grammars.frontends.lark.lexemes import Lexeme
from grammars.frontends.lark.loading import Loaded
from grammars.frontends.lark.points import END, Group, Lexing, Point, View
from grammars.frontends.lark.threads import Obligation, Thread

Node: TypeAlias = tuple[int, str]
"""A rule and the LALR state in which it starts (0 where there is one only)."""


@dataclass(frozen=True, slots=True)
class Token:
    terminal: str
    point: int


Symbol: TypeAlias = Token | Node


class AnnotatedRules:
    """The annotated rules, those that behave alike merged."""

    def __init__(self, loaded: Loaded, lexing: Lexing) -> None:
        self.lexing = lexing
        self.groups: list[Group] = []
        self.productions: dict[Node, list[tuple[Symbol, ...]]] = {}
        self._loaded = loaded
        postlex = loaded.postlex
        self._newline = frozenset() if postlex is None else frozenset((postlex.newline,))
        self._made = frozenset() if postlex is None else postlex.unspelled

    def build(self, states: States) -> None:
        """Collects the annotated rules from the start rule on, then merges them."""
        by_origin: dict[str, list[list[Any]]] = {}
        for rule in self._loaded.rules:
            by_origin.setdefault(str(rule.origin.name), []).append(list(rule.expansion))
        self.points: dict[int, Point] = {}
        self.start: Node = (states.start, self._loaded.start)
        self._point(states, states.start)
        todo = [self.start]
        for node in todo:  # grows while we iterate
            if node in self.productions:
                continue
            self.productions[node] = []
            for expansion in by_origin.get(node[1], []):
                symbols = self._annotated(states, node[0], expansion)
                if symbols is not None:
                    self.productions[node].append(symbols)
                    todo += (s for s in symbols if not isinstance(s, Token))
        self._group()
        self.start_group = self.points[states.start].group
        self._merge()

    def _annotated(
        self, states: States, state: int, expansion: list[Any]
    ) -> tuple[Symbol, ...] | None:
        symbols: list[Symbol] = []
        at = state
        for s in expansion:
            name = str(s.name)
            if s.is_term:
                point = states.behind(at, name)
                if point is None:
                    return None
                self._point(states, point)
                symbols.append(Token(name, point))
            else:
                symbols.append((at, name))
            after = states.goto(at, name)
            if after is None:
                return None
            at = after
        return tuple(symbols)

    def _point(self, states: States, q: int) -> None:
        if q in self.points:
            return
        context = self.lexing.context(states.looked_for[q] | self._newline)
        follow = states.follow[q] | self._newline
        if follow & self._made:  # at the end of the text they come as well
            follow |= {END}
        # a terminal that is never read here says so: points that differ in it are no group
        read = {t: context.read.get(t, ()) for t in follow if t in self.lexing.number}
        self.points[q] = Point(follow, read, context.ignored, context.shadowed)

    def _group(self) -> None:
        for point in self.points.values():
            for i, group in enumerate(self.groups):
                if group.takes(point):
                    point.group = i
                    break
            else:
                point.group = len(self.groups)
                self.groups.append(Group())
            self.groups[point.group].add(point)

    def _merge(self) -> None:
        """Merges rules that cannot be told apart, and points that cannot."""
        self.views: dict[int, View] = {}
        lexer = self.lexing.lexer
        behind_made = [
            lexeme
            for q in {t.point for t in self._tokens() if t.terminal in self._made}
            for lexemes in self.points[q].read.values()
            for lexeme in lexemes
        ]
        for q, point in self.points.items():
            lexemes = [x for xs in point.read.values() for x in xs]
            if point.follow & self._made:
                lexemes += behind_made
            self.views[q] = View(lexer, [*lexemes, *point.ignored], END in point.follow)
        self._alike()
        self.landing: dict[Token, Token] = {}
        alike: dict[object, list[Token]] = {}
        for token in self._tokens():
            alike.setdefault(self._profile(token), []).append(token)
        for tokens in alike.values():
            self.landing.update(dict.fromkeys(tokens, tokens[0]))
        # what any of the merged points may read counts, so that merging can never lose anything
        self.behind = {
            tokens[0]: View(
                lexer,
                (x for t in tokens for x in self.views[t.point].lexemes),
                any(self.views[t.point].end for t in tokens),
            )
            for tokens in alike.values()
        }
        self.representative = self._refined()

    def _tokens(self) -> list[Token]:
        symbols = (s for ps in self.productions.values() for p in ps for s in p)
        return list(dict.fromkeys(s for s in symbols if isinstance(s, Token)))

    def _alike(self) -> None:
        """Which threads may be pending behind each terminal."""
        lexer = self.lexing.lexer
        lexemes: dict[str, dict[int, Lexeme]] = {}
        skipped: dict[int, Lexeme] = {}
        for point in self.points.values():
            for t, found in point.read.items():
                lexemes.setdefault(t, {}).update((x.number, x) for x in found)
            skipped.update((x.number, x) for x in point.ignored)
            for t in self._newline:  # inside brackets
                skipped.update((x.number, x) for x in point.read.get(t, ()))
        self._outcomes: dict[str, set[Obligation]] = {}
        pending: dict[str, set[Thread]] = {}
        for t, family in lexemes.items():
            ends = {o for x in family.values() for e in x.ends for o in e}
            self._outcomes[t] = ends
            pending[t] = {thread for o in ends for thread in o.threads}
        behind_skipped = {
            thread for x in skipped.values() for e in x.ends for o in e for thread in o.threads
        }
        tried: set[Thread] = set()  # what is behind each family given these is known
        families = [*((lexemes[t], pending[t]) for t in lexemes), (skipped, behind_skipped)]
        while fresh := behind_skipped.union(*pending.values()) - tried:
            tried |= fresh
            for thread in fresh:
                for family, target in families:
                    for x in family.values():
                        target |= lexer.survivors(thread, x)
        for t in self._made:  # they read nothing: what was pending before them is so behind them
            pending[t] = behind_skipped.union(*pending.values())
            self._outcomes[t] = set().union(*self._outcomes.values())
        self._pending = pending

    def _profile(self, token: Token) -> object:
        view = self.views[token.point]
        kept = frozenset(t for t in self._pending.get(token.terminal, ()) if view.matters(t))
        partial = any(
            o.following != self.lexing.machine.alphabet.all
            for o in self._outcomes.get(token.terminal, ())
        )
        extra = view.never if partial else 0
        return (token.terminal, self.points[token.point].group, kept, extra)

    def _refined(self) -> dict[Node, Node]:
        names: dict[object, int] = {}
        block = {n: names.setdefault(n[1], len(names)) for n in self.productions}
        count = len(names)
        while True:
            seen: dict[object, int] = {}
            fresh: dict[Node, int] = {}
            for node, productions in self.productions.items():
                rows = frozenset(
                    tuple(self.landing[s] if isinstance(s, Token) else block[s] for s in p)
                    for p in productions
                )
                fresh[node] = seen.setdefault((block[node], rows), len(seen))
            block = fresh
            if len(seen) == count:
                break
            count = len(seen)
        leader: dict[int, Node] = {}
        return {n: leader.setdefault(b, n) for n, b in block.items()}
