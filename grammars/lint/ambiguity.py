"""Ambiguity of context-free rules, with a shortest text that is read in two ways.

A grammar is unambiguous if and only if, in every rule, no text belongs to two alternatives (vertical
ambiguity) and no text of a sequence can be cut into its parts in two ways (horizontal ambiguity); see
C. Brabrand, R. Giegerich, A. Moller, "Analyzing Ambiguity of Context-Free Grammars", 2010, section 3.
Both are asked here of the deterministic automata that recognise the parts: their states, sets of open
readings, are numbered as a text leads to them, and pairs of them are visited breadth first, so the first
pair in which both accept gives a shortest witness.  The automata of recursive parts have no end of states:
ambiguity is undecidable.  The search is bounded, and it says where it found nothing for lack of room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from grammars.compiling.compiler import compile_ir
from grammars.errors import GrammarError, LimitExceeded
from grammars.ir import EPSILON, Alt, Expr, GrammarIR, Ref, Repeat, Rule, Seq, alt, repeat, seq
from grammars.ir import Literal as Text
from grammars.limits import Limits
from grammars.lint.proofs import continuations, first_bytes, is_lalr
from grammars.recognizer import DEAD, Recognizer
from grammars.shortest import Shortest, one_of_each_class

Kind: TypeAlias = Literal["alternatives", "sequence", "repetition"]

MOST_WORK: Final = 300_000
"""Work of one search."""
_LEAST_ROOM: Final = 200
"""Work for each place of the rules, at least, before any place gets more."""


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """A place of a rule that reads one text in two ways.

    Attributes:
        rule: the rule's name.
        kind: what is ambiguous: two alternatives that have the text in common, or the cut between the
            parts of a sequence or the items of a repetition.
        text: a shortest text that the place reads in two ways.
        parts: the two expressions concerned: the alternatives, or what is before and behind the cut.
        cuts: for a cut, the two lengths of the first part, in bytes.
        example: a text of the whole grammar in which the rule reads that text; ``None`` if none was found.
    """

    rule: str
    kind: Kind
    text: bytes
    parts: tuple[Expr, Expr]
    cuts: tuple[int, int] | None
    example: bytes | None


@dataclass(frozen=True, slots=True)
class AmbiguityReport:
    """What a search for ambiguity came to.

    Attributes:
        found: the places that are ambiguous.
        open: names of rules with a place where the search ended for lack of room.
    """

    found: tuple[Ambiguity, ...]
    open: tuple[str, ...]

    @property
    def proves_unambiguous(self) -> bool:
        """Whether every place was searched to its end and none is ambiguous."""
        return not self.found and not self.open


def find_ambiguities(
    ir: GrammarIR, limits: Limits, *, most_work: int = MOST_WORK
) -> AmbiguityReport:
    """Searches the rules that the start rule leads to.

    Intersections, complements, automata and items in any order count as one way to read a text.

    Args:
        ir: the rules.
        limits: of the automata.
        most_work: steps of automata in all, some seconds; steps cost more the longer texts are.
    """
    if is_lalr(ir, limits):
        return AmbiguityReport((), ())
    return _Search(ir, limits, most_work).report()


@dataclass
class _Place:
    """A place of a rule, and the search on it so far."""

    rule: str
    kind: Kind
    parts: tuple[Expr, Expr]
    before: tuple[Expr, ...]
    behind: tuple[Expr, ...]
    pairs: _Pairs | None = None


class _Search:
    def __init__(self, ir: GrammarIR, limits: Limits, most_work: int) -> None:
        self._ir = ir
        self._limits = limits
        self._left = most_work
        self._starts: dict[Expr, int] = {}
        self._shortest = Shortest(ir, limits)
        self._places = [p for name in self._shortest.reached for p in self._places_of(ir[name])]
        self._recognizer = self._make_recognizer(x for p in self._places for x in p.parts)

    def report(self) -> AmbiguityReport:
        """Visits each place a little, then those without an end more and more."""
        open_rules: dict[str, None] = {}
        found: list[tuple[_Place, bytes, tuple[int, int] | None]] = []
        places = self._places
        room = max(_LEAST_ROOM, self._left // (4 * len(places) + 1))
        while places and self._left > 0:
            rest: list[_Place] = []
            for place in places:
                done = self._visit(place, room)
                if done is None:
                    rest.append(place)
                elif done.text is not None:
                    found.append((place, done.text, done.cuts))
                elif done.gave_up:
                    open_rules[place.rule] = None
            places, room = rest, room * 4
        open_rules.update((p.rule, None) for p in places)
        made = [self._ambiguity(place, text, cuts) for place, text, cuts in found]
        return AmbiguityReport(tuple(made), tuple(open_rules))

    # -- places ------------------------------------------------------------------------------------

    def _places_of(self, rule: Rule) -> Iterator[_Place]:
        """The alternatives, sequences and repetitions of a rule, with what stands around them."""
        stack: list[tuple[Expr, tuple[Expr, ...], tuple[Expr, ...]]] = [(rule.body, (), ())]
        while stack:
            node, before, behind = stack.pop()
            if isinstance(node, Alt):
                for i, first in enumerate(node.items):
                    for second in node.items[i + 1 :]:
                        if self._begin_apart(first, second):
                            continue
                        yield _Place(rule.name, "alternatives", (first, second), before, behind)
                stack += [(x, before, behind) for x in node.items]
            elif isinstance(node, Seq):
                for k, item in enumerate(node.items):
                    rest = node.items[k + 1 :]
                    if rest and not self._shortest.has_one_length(item):
                        parts = (item, seq(*rest))
                        yield _Place(
                            rule.name, "sequence", parts, (*before, *node.items[:k]), behind
                        )
                    stack.append((item, (*before, *node.items[:k]), (*rest, *behind)))
            elif isinstance(node, Repeat):
                yield from self._places_of_repetition(rule, node, before, behind)
                more = (node.item,) * max(node.min - 1, 0)
                stack.append((node.item, before, (*more, *behind)))

    def _begin_apart(self, first: Expr, second: Expr) -> bool:
        """Whether the first byte tells two alternatives apart."""
        known = self._shortest
        both_empty = known.is_nullable(first) and known.is_nullable(second)
        return not both_empty and not known.first(first) & known.first(second)

    def _places_of_repetition(
        self, rule: Rule, node: Repeat, before: tuple[Expr, ...], behind: tuple[Expr, ...]
    ) -> Iterator[_Place]:
        if self._shortest.is_nullable(node.item) and node.max != node.min:
            # so many empty items, or one more
            yield _Place(rule.name, "repetition", (EPSILON, node.item), before, behind)
        if not self._shortest.has_one_length(node.item):
            top = None if node.max is None else node.max - 1
            if top != 0:
                rest = repeat(node.item, max(node.min - 1, 0), top)
                yield _Place(rule.name, "repetition", (node.item, rest), before, behind)

    # -- searching ---------------------------------------------------------------------------------

    def _visit(self, place: _Place, room: int) -> _Pairs | None:
        """Visits more pairs of a place; ``None`` if there are still others."""
        if place.pairs is None:
            place.pairs = self._begin(place)
        before = place.pairs.work
        try:
            ended = place.pairs.search(min(room, self._left))
        except LimitExceeded:
            place.pairs.gave_up = ended = True
        self._left -= place.pairs.work - before
        return place.pairs if ended else None

    def _begin(self, place: _Place) -> _Pairs:
        if place.kind == "repetition" and place.parts[0] == EPSILON:
            return _Pairs.known(b"")
        recognizer = self._recognizer
        if recognizer is None:
            return _Pairs.too_large()
        first, second = (self._starts[part] for part in place.parts)
        if place.kind == "alternatives":
            return _Common(recognizer, first, second)
        program = recognizer.program
        longer = continuations(program, _state_of(recognizer, first))
        begins = first_bytes(program, _state_of(recognizer, second))
        if longer is not None and not longer & begins:
            return _Pairs.known(None)  # no text of the first goes on where the second may begin
        return _Cuts(recognizer, first, second)

    def _make_recognizer(self, parts: Iterable[Expr]) -> Recognizer | None:
        """One automaton for all parts, each behind a text of its own, and the states where they begin."""
        numbers = {part: n for n, part in enumerate(dict.fromkeys(parts))}
        names = {part: f"{self._ir.start}'{n}" for part, n in numbers.items()}
        while any(name in self._ir for name in names.values()):
            names = {part: f"{name}'" for part, name in names.items()}
        keys = {part: n.to_bytes(3, "big") for part, n in numbers.items()}
        top = Rule(
            f"{self._ir.start}''", alt(*(Seq((Text(keys[x]), Ref(names[x]))) for x in numbers))
        )
        rules = [Rule(name, part, shared=True) for part, name in names.items()]
        try:
            ir = GrammarIR((top, *rules, *self._ir.rules), top.name)
            recognizer = Recognizer(compile_ir(ir, self._limits), self._limits)
        except (LimitExceeded, GrammarError):
            return None
        self._starts = {part: _run(recognizer, key) for part, key in keys.items()}
        return recognizer

    # -- witnesses ---------------------------------------------------------------------------------

    def _ambiguity(self, place: _Place, text: bytes, cuts: tuple[int, int] | None) -> Ambiguity:
        around = self._shortest.around(place.rule)
        before = self._shortest.text(seq(*place.before))
        behind = self._shortest.text(seq(*place.behind))
        example = None
        if around is not None and before is not None and behind is not None:
            example = around[0] + before + text + behind + around[1]
        return Ambiguity(place.rule, place.kind, text, place.parts, cuts, example)


# -- pairs of states -------------------------------------------------------------------------------


def _run(recognizer: Recognizer, key: bytes) -> int:
    state, read = recognizer.run(key)
    return state if read == len(key) else DEAD  # a part without any text


def _state_of(recognizer: Recognizer, start: int) -> int | None:
    """The program state at which a part begins; ``None`` for a part without any text."""
    return recognizer.items[start][0][0] if start != DEAD else None


_Pair: TypeAlias = tuple[int, int, int]


class _Pairs:
    """A breadth-first search on pairs of states that goes on where it was left.

    Attributes:
        work: steps of automata so far, those from many open readings for several.
        text: the witness, if there is one; ``cuts`` as in :class:`Ambiguity`.
        gave_up: a limit of the automata ended the search.
    """

    def __init__(self, symbols: Sequence[int] = ()) -> None:
        self.work = 0
        self.text: bytes | None = None
        self.cuts: tuple[int, int] | None = None
        self.gave_up = False
        self._symbols = symbols
        self._came: dict[_Pair, tuple[_Pair, int] | None] = {}
        self._todo: deque[_Pair] = deque()

    @classmethod
    def known(cls, text: bytes | None) -> _Pairs:
        """A search whose end is known."""
        out = cls()
        out.text = text
        return out

    @classmethod
    def too_large(cls) -> _Pairs:
        """A search that cannot begin."""
        out = cls()
        out.gave_up = True
        return out

    def search(self, room: int) -> bool:
        """Visits more pairs, for so much work; whether it has come to an end."""
        end = self.work + room
        while self._todo:
            if self.work >= end:
                return False
            self._visit(self._todo.popleft())
        return True

    def _visit(self, pair: _Pair) -> None:
        self.work += len(self._symbols) * (1 + self._weight(pair) // 8)
        for symbol in self._symbols:
            for after in self._after(pair, symbol):
                self._reach(after, (pair, symbol))
                if self.text is not None:
                    self._todo.clear()
                    return

    def _reach(self, pair: _Pair, by: tuple[_Pair, int] | None) -> None:
        """Notes a pair that a symbol leads to; ends the search if the pair accepts twice."""
        if pair in self._came:
            return
        self._came[pair] = by
        if self._is_witness(pair):
            self._tell(pair)
        self._todo.append(pair)

    def _way(self, pair: _Pair) -> list[int]:
        """The symbols on the way to a pair, -1 for a cut."""
        out: list[int] = []
        by = self._came[pair]
        while by is not None:
            pair, symbol = by
            out.append(symbol)
            by = self._came[pair]
        return out[::-1]

    def _tell(self, pair: _Pair) -> None:
        self.text = bytes(symbol for symbol in self._way(pair) if symbol >= 0)

    def _weight(self, pair: _Pair) -> int:
        raise NotImplementedError

    def _is_witness(self, pair: _Pair) -> bool:
        raise NotImplementedError

    def _after(self, pair: _Pair, symbol: int) -> Iterable[_Pair]:
        raise NotImplementedError


class _OfAutomaton(_Pairs):
    """Pairs of states of one automaton, from where two parts begin."""

    def __init__(self, recognizer: Recognizer, first: int, second: int) -> None:
        super().__init__(one_of_each_class(recognizer.program))
        self._accepting = recognizer.accepting
        self._advance = recognizer.advance
        self._items = recognizer.items
        self._second = second

    def _weight(self, pair: _Pair) -> int:
        return len(self._items[pair[0]]) + len(self._items[pair[1]])


class _Common(_OfAutomaton):
    """A shortest text that two parts have in common."""

    def __init__(self, recognizer: Recognizer, first: int, second: int) -> None:
        super().__init__(recognizer, first, second)
        if first != DEAD and second != DEAD:
            self._reach((first, second, 0), None)

    def _is_witness(self, pair: _Pair) -> bool:
        return self._accepting[pair[0]] and self._accepting[pair[1]]

    def _after(self, pair: _Pair, symbol: int) -> Iterable[_Pair]:
        a = self._advance(pair[0], symbol)
        if a != DEAD:
            b = self._advance(pair[1], symbol)
            if b != DEAD:
                yield a, b, 0


_ONE, _FRESH, _BOTH, _TWO = range(4)
"""Where a text is that is cut in two ways: before both cuts, at the first, between them, behind both."""


class _Cuts(_OfAutomaton):
    """A shortest text that two parts on end read in two ways.

    The text is ``x y z`` with ``y`` not empty, ``x`` and ``x y`` texts of the first part, ``y z`` and ``z``
    texts of the second.  A pair has the states of the readings that go on, and where the text is.
    """

    def __init__(self, recognizer: Recognizer, first: int, second: int) -> None:
        super().__init__(recognizer, first, second)
        if first != DEAD and second != DEAD:
            self._reach((first, DEAD, _ONE), None)

    def _is_witness(self, pair: _Pair) -> bool:
        return pair[2] == _TWO and self._accepting[pair[0]] and self._accepting[pair[1]]

    def _reach(self, pair: _Pair, by: tuple[_Pair, int] | None) -> None:
        super()._reach(pair, by)
        a, b, where = pair
        if self.text is None and self._accepting[a]:
            if where == _ONE:
                super()._reach((a, self._second, _FRESH), (pair, -1))
            elif where == _BOTH:
                super()._reach((b, self._second, _TWO), (pair, -1))

    def _after(self, pair: _Pair, symbol: int) -> Iterable[_Pair]:
        a, b, where = pair
        a = self._advance(a, symbol)
        if a == DEAD:
            return
        if where != _ONE:
            b = self._advance(b, symbol)
            if b == DEAD:
                return
        yield a, b, _BOTH if where == _FRESH else where

    def _tell(self, pair: _Pair) -> None:
        super()._tell(pair)
        cuts: list[int] = []
        at = 0
        for symbol in self._way(pair):
            if symbol < 0:
                cuts.append(at)
            else:
                at += 1
        self.cuts = (cuts[0], cuts[1])
