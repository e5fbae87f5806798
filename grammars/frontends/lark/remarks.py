"""Remarks for people: why a grammar is empty, and what its way of lexing never reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from grammars.causes import advised, barren_causes
from grammars.frontends.lark.loading import Loaded
from grammars.frontends.lark.points import LexerName, Lexing, Point
from grammars.ir import Span

_MOST: Final = 8
"""Terminals or rules named in one remark."""

_OTHERS: Final[dict[str, str]] = {
    "contextual": "lexer='dynamic' tries every terminal on its own",
    "basic": "lexer='contextual' tries only those that the parser can use, lexer='dynamic' each on its own",
    "dynamic": "lexer='dynamic_complete' takes shorter matches too",
    "dynamic_complete": "a token ends where re could match no more",
}
"""What another way of lexing does differently."""


def fertile_rules(loaded: Loaded) -> set[str]:
    """The rules that derive some sequence of tokens."""
    uses = _uses(loaded)
    fertile: set[str] = set()
    while True:
        more = {
            name
            for name, ways in uses.items()
            if name not in fertile and any(fertile.issuperset(way) for way in ways)
        }
        if not more:
            return fertile
        fertile |= more


def _uses(loaded: Loaded) -> dict[str, list[list[str]]]:
    """The rules that each alternative of a rule uses."""
    uses: dict[str, list[list[str]]] = {}
    for rule in loaded.rules:
        parts = [str(s.name) for s in rule.expansion if not s.is_term]
        uses.setdefault(str(rule.origin.name), []).append(parts)
    return uses


def why_empty(loaded: Loaded, place: Callable[[str], Span]) -> tuple[str, ...]:
    """If the start rule derives nothing: which rules are to blame."""
    fertile = fertile_rules(loaded)
    if str(loaded.start) in fertile:
        return ()
    uses = _uses(loaded)
    barren = {
        n: [part for way in ways for part in way] for n, ways in uses.items() if n not in fertile
    }
    return advised(barren_causes(barren, {name: place(name) for name in barren}))


def lexing_remarks(
    loaded: Loaded,
    lexing: Lexing,
    points: Iterable[Point],
    written: Callable[[str], bool | None],
    empty: bool,
) -> tuple[str, ...]:
    """What the rules allow and the lexer never reads.

    Args:
        loaded: the grammar.
        lexing: its terminals as lexemes.
        points: all places between tokens.
        written: whether a rule can be written; ``None`` where it is not used.
        empty: whether no text at all is read.
    """
    said = []
    unread = _unread(lexing, points)
    for name, culprits in list(unread.items())[:_MOST]:
        shown = lexing.by_name[name].user_repr()
        because = "it is ignored" if name in lexing.ignored else "another one is read instead"
        if culprits:
            others = ", ".join(lexing.by_name[c].user_repr() for c in culprits[:_MOST])
            because = f"{others}, tried before it, takes its texts"
        said.append(f"terminal {shown} is never read: {because}")
    fertile = fertile_rules(loaded)
    dead = [name for name in sorted(fertile) if written(name) is False and name[:2] != "__"]
    if dead and str(loaded.start) in fertile:
        said.append(f"never written: {', '.join(dead[:_MOST])}")
    if not said and not (empty and str(loaded.start) in fertile):
        return ()
    reason = "; ".join(said) or "no text is cut into tokens that the rules allow"
    return (f"with lexer={lexing.way!r} {reason} ({_other(lexing.way)})",)


def _other(way: LexerName) -> str:
    return _OTHERS[way]


def _unread(lexing: Lexing, points: Iterable[Point]) -> dict[str, list[str]]:
    """Terminals that may follow somewhere and are read nowhere, with those that take their texts."""
    read: set[str] = set()
    unread: dict[str, dict[str, None]] = {}
    for point in points:
        for name in sorted(point.read):
            if point.read[name]:
                read.add(name)
            else:
                unread.setdefault(name, {}).update(dict.fromkeys(point.shadowed.get(name, ())))
    return {name: list(culprits) for name, culprits in unread.items() if name not in read}
