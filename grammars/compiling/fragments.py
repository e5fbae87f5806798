"""Compiled rules that many grammars have: large parts without references, such as formats of dates.

A *fragment* is the automaton of a rule and those of the rules that the compiler made for its parts
(counted repetitions, free text).  What a rule says decides all of them, so they are kept by the rule's
body, and the next grammar that has it takes them over as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from grammars.compiling.automata import Dfa
from grammars.compiling.encoding import PackedDfa
from grammars.compiling.shelf import Shelf
from grammars.ir import Expr
from grammars.limits import Limits

LEAST_ROWS: Final = 60
"""Nodes of a rule's body below which it is compiled as fast as it is taken over."""
_ROOM: Final = 400_000


@dataclass(frozen=True)
class Part:
    """One automaton of a fragment.

    Attributes:
        packed: the automaton; labels below 0 call other parts (-1 - k: part k).
        dfa: the same as it was made; of its calls nothing is used.
        nullable: whether the part may be empty.
    """

    packed: PackedDfa
    dfa: Dfa
    nullable: bool


@dataclass(frozen=True)
class Fragment:
    """A compiled rule.

    Attributes:
        parts: the rule itself first.
    """

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """States and edges."""
        return sum(len(part.packed.edges) + len(part.packed.accept) for part in self.parts)


def known_fragment(body: Expr, limits: Limits) -> Fragment | None:
    """The fragment of a rule with such a body, if there is one."""
    return _KEPT.get((body, limits.max_dfa_states))


def keep_fragment(body: Expr, limits: Limits, fragment: Fragment) -> None:
    """Keeps a fragment; the oldest give way."""
    _KEPT.keep((body, limits.max_dfa_states), fragment, fragment.size)


_KEPT: Final[Shelf[Fragment]] = Shelf(_ROOM)
