"""Captures: the named parts of an accepted text.

A grammar with captures keeps a second set of rules beside its own (``GrammarIR.marked``), in which two
special tokens stand around every captured part: one where it begins, one where it ends.  A text of the
grammar is then read by these rules with such tokens put in where they fit, from the left: a capture begins
as soon as it may, and ends as late as it may.  What cannot be read on from a place is not tried again
there, so the time is that of reading the text once where it says by itself what its parts are, and grows
with the number of states in which its places can be reached.

Where a lexer decides how a text is read (llguidance's), the rules with marks also have one behind each
lexeme, and ``marked.marked`` are the rules of the lexer with these alone: they are put in first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from grammars.errors import GrammarError
from grammars.ir import And, Expr, GrammarIR, Literal, Not, Rule, children, refs, seq
from grammars.recognizer import DEAD, Recognizer
from grammars.special_tokens import FRAME, framed, shown
from grammars.work import spend

_BEGINS: Final = "\x02"
_ENDS: Final = "\x03"
"""What the names of marks begin with; no special token is called so."""
CUT: Final = "\x04"
"""The mark behind a lexeme, where a dialect's lexer decides how a text is read."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A named part of a text.

    Attributes:
        name: as the grammar has it.
        start, end: byte offsets into the text; the name of a special token counts as so many bytes.
        data: its bytes, special tokens by their names.
    """

    name: str
    start: int
    end: int
    data: bytes


def marks(name: str) -> tuple[str, str]:
    """The tokens that stand for the beginning and the end of a capture."""
    return _BEGINS + name, _ENDS + name


def captured(name: str, body: Expr) -> Expr:
    """A body with marks around it."""
    begin, end = marks(name)
    return seq(Literal(framed(begin)), body, Literal(framed(end)))


def with_marked_rules(grammar: GrammarIR, names: Mapping[str, str]) -> GrammarIR:
    """A grammar that captures what some of its rules read.

    Args:
        names: of captures, by rule.  None of the rules may be inside of an intersection or a complement
            (see :func:`compared`).
    """
    if not names:
        return grammar
    rules = tuple(
        Rule(r.name, captured(names[r.name], r.body), r.span) if r.name in names else r
        for r in grammar.rules
    )
    tokens = dict.fromkeys((*grammar.tokens, *(m for n in names.values() for m in marks(n))))
    marked = replace(grammar, rules=rules, tokens=tuple(tokens), marked=None)
    return replace(grammar, marked=marked)


def compared(grammar: GrammarIR) -> frozenset[str]:
    """The rules whose texts an intersection or a complement is about."""
    out: set[str] = set()
    todo: list[str] = []
    for rule in grammar.rules:
        stack: list[tuple[Expr, bool]] = [(rule.body, False)]
        while stack:
            node, inside = stack.pop()
            inside = inside or isinstance(node, And | Not)
            if inside:
                todo += refs(node)
            else:
                stack += [(child, inside) for child in children(node)]
    while todo:
        name = todo.pop()
        if name not in out and name in grammar:
            out.add(name)
            todo += refs(grammar[name].body)
    return frozenset(out)


def capture_names(marked: GrammarIR) -> tuple[str, ...]:
    """The captures of rules with marks, in the order in which they are tried."""
    return tuple(name[1:] for name in marked.tokens if name.startswith(_BEGINS))


def captures_of(
    recognizer: Recognizer, marked: GrammarIR, cutter: Recognizer | None, data: bytes
) -> tuple[Capture, ...]:
    """The captures of a text that the rules without marks accept, in the order in which they begin.

    Args:
        recognizer: of ``marked``.
        marked: rules with marks.
        cutter: of ``marked.marked``, if there are these.
        data: the text, special tokens framed.

    Raises:
        GrammarError: for a text that these rules do not read.
        LimitExceeded: for ``Limits.max_work``.
    """
    names = capture_names(marked)
    if cutter is not None:
        cuts = _Search(cutter, [], [CUT], data).run()
        data = _with_cuts(data, [place for place, _ in _read(cuts)])
    begins, ends = zip(*map(marks, names), strict=True)
    found = _read(_Search(recognizer, begins, ends, data).run())
    hidden = _hidden_before(data)
    opened: list[int] = []
    out: list[Capture] = []
    for at, mark in found:
        if mark < len(names):
            opened.append(len(out))
            out.append(Capture(names[mark], at, at, b""))
        else:
            number = opened.pop()
            start = out[number].start
            out[number] = Capture(
                out[number].name,
                start - hidden[start],
                at - hidden[at],
                shown(data[start:at].replace(_CUT, b"")),
            )
    return tuple(out)


_CUT: Final = framed(CUT)


def _read(found: list[tuple[int, int]] | None) -> list[tuple[int, int]]:
    if found is None:
        raise GrammarError(
            "the rules with captures do not read this text; only accepted texts have any"
        )
    return found


def _with_cuts(data: bytes, places: Sequence[int]) -> bytes:
    pieces = [data[i:j] for i, j in pairwise((0, *places, len(data)))]
    return _CUT.join(pieces)


def _hidden_before(data: bytes) -> list[int]:
    """For each offset, the bytes before it that are no part of the text: frames, and whole cuts."""
    out = [0]
    cut = 0
    for at, byte in enumerate(data):
        if cut == 0 and byte == FRAME and data.startswith(_CUT, at):
            cut = len(_CUT)
        out.append(out[-1] + (cut > 0 or byte == FRAME))
        cut = max(cut - 1, 0)
    return out


_BYTE: Final = -1
"""A step that reads a byte of the text; others put in a mark, by its number."""


class _Search:
    """A walk through a text that puts in marks, the preferred ways first."""

    def __init__(
        self, recognizer: Recognizer, early: Sequence[str], late: Sequence[str], data: bytes
    ) -> None:
        """Args: marks to put in as soon as they may stand, and those as late as they may."""
        self._recognizer = recognizer
        self._data = data
        self._marks = [framed(mark) for mark in (*early, *late)]
        self._count = len(early)
        self._classes = recognizer.classes_of([FRAME])

    def run(self) -> list[tuple[int, int]] | None:
        """Places and numbers of marks, the early ones first; ``None`` if there is no reading."""
        recognizer, data = self._recognizer, self._data
        size = len(data) + 1
        seen: set[int] = set()
        # per step on the way: where it is, what it does, and how many in a row begin a capture there
        path: list[tuple[int, int, int]] = []
        ways: list[Iterator[tuple[int, int, int]]] = [iter([(recognizer.start, 0, _BYTE)])]
        while ways:
            step = next(ways[-1], None)
            if step is None:
                ways.pop()
                if path:
                    path.pop()
                continue
            state, begun, kind = step
            state, at = recognizer.run_until(data, begun, state, self._classes)
            spend(2 + (at - begun) // 4)
            if at == len(data) and recognizer.accepting[state]:
                path.append((begun, kind, 0))
                return [(place, mark) for place, mark, _ in path if mark != _BYTE]
            place = state * size + at
            if place in seen or not recognizer.can_take(state, self._classes):
                continue
            seen.add(place)
            before = path[-1][2] if path and path[-1][0] == begun else 0
            row = before + 1 if 0 <= kind < self._count else 0
            path.append((begun, kind, row))
            ways.append(self._ways(state, at, row if at == begun else 0))
        return None

    def _ways(self, state: int, at: int, row: int) -> Iterator[tuple[int, int, int]]:
        """What may come next: a capture begins, a byte is read, a capture ends."""
        recognizer = self._recognizer
        # left recursion: no more of them within each other than there are bytes, and rules
        if row <= len(self._data) - at + self._count:
            for mark in range(self._count):
                yield from self._marked(state, at, mark)
        if at < len(self._data):
            after = recognizer.advance(state, self._data[at])
            if after != DEAD:
                yield after, at + 1, _BYTE
        for mark in range(self._count, len(self._marks)):
            yield from self._marked(state, at, mark)

    def _marked(self, state: int, at: int, mark: int) -> Iterator[tuple[int, int, int]]:
        data = self._marks[mark]
        after, used = self._recognizer.run(data, state)
        if used == len(data):
            yield after, at, mark
