"""Compiled rules that many grammars have: parts without references, such as strings, or formats of dates.

A *fragment* is the automaton of a rule and those of the rules that the compiler made for its parts
(counted repetitions, free text).  What a rule says decides all of them, so they are kept by the rule's
body, and the next grammar that has it takes them over as they are (of small rules the one after that);
large ones lie on disk as well, for other processes (:mod:`grammars.program_files` says where, and what
turns it off).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from typing import Final

import numpy as np

from grammars import program_files
from grammars.compiling.automata import EMPTY, Dfa
from grammars.compiling.encoding import PackedDfa
from grammars.compiling.shelf import Shelf
from grammars.folding import fold
from grammars.ir import (
    Bag,
    ByteSet,
    Chars,
    Expr,
    Literal,
    Machine,
    Mark,
    Ref,
    Repeat,
    Substrings,
    walk,
)
from grammars.limits import Limits

LEAST_ROWS: Final = 4
"""Nodes of a rule's body below which it is compiled as fast as it is taken over."""
_MANY_ROWS: Final = 60
"""Nodes from which on a rule is kept at once; smaller ones when they are seen a second time."""
_MOST_SEEN: Final = 1 << 12
_ROOM: Final = 400_000


_LEAST_NODES: Final = 400
"""Nodes of a body that is looked for on disk, shared ones counted wherever they stand."""
_LEAST_KEPT: Final = 1_000
"""States and edges of what is kept there."""


@dataclass(frozen=True)
class Part:
    """One automaton of a fragment.

    Attributes:
        packed: the automaton; labels below 0 call other parts (-1 - k: part k).
        nullable: whether the part may be empty.
        counts: the least and the most of its count, if it is counted.
    """

    packed: PackedDfa
    nullable: bool
    counts: tuple[int, int | None] | None = None

    @cached_property
    def dfa(self) -> Dfa:
        """The same as the builder of rules wants it: empty if it is not counted."""
        if self.counts is None:
            return EMPTY
        low, high = self.counts
        return replace(self.packed.unpacked(), counted=True, count_min=low, count_max=high)


@dataclass(frozen=True)
class Fragment:
    """A compiled rule.

    Attributes:
        parts: the rule itself first.
    """

    parts: tuple[Part, ...]

    @property
    def states(self) -> int:
        """Of all parts together."""
        return sum(len(part.packed.accept) for part in self.parts)

    @property
    def size(self) -> int:
        """States and edges."""
        return self.states + sum(len(part.packed.edges) for part in self.parts)


def known_fragment(body: Expr, limits: Limits) -> Fragment | None:
    """The fragment of a rule with such a body, if there is one."""
    fragment = _KEPT.get((body, limits.max_dfa_states))
    if fragment is None and program_files.is_on() and _may_be_kept(body):
        data = program_files.read_file(_file_name(body, limits))
        fragment = None if data is None else _read(data)
        if fragment is not None:
            _KEPT.keep((body, limits.max_dfa_states), fragment, fragment.size)
    return fragment


def keep_fragment(body: Expr, limits: Limits, fragment: Fragment) -> None:
    """Keeps a fragment; the oldest give way."""
    _KEPT.keep((body, limits.max_dfa_states), fragment, fragment.size)
    if fragment.size >= _LEAST_KEPT and program_files.is_on() and _may_be_kept(body):
        program_files.write_file(_file_name(body, limits), _written(fragment))


def is_worth_keeping(body: Expr, rows: int) -> bool:
    """Whether a rule of so many nodes is to be kept: a large one, or one that was seen before."""
    if rows < LEAST_ROWS:
        return False
    if rows >= _MANY_ROWS:
        return True
    key = hash(body)  # where two have the same, one is kept early
    if key in _seen:
        return True
    _seen[key] = None
    if len(_seen) > _MOST_SEEN:
        _seen.pop(next(iter(_seen)), None)
    return False


_KEPT: Final[Shelf[Fragment]] = Shelf(_ROOM)
_seen: Final[dict[int, None]] = {}
"""Hashes of the bodies of small rules that were compiled lately."""


# -- on disk -----------------------------------------------------------------------------------


def _may_be_kept(body: Expr) -> bool:
    """Whether a body is large, as far as can be seen soon, and refers to nothing else."""
    seen = 0
    for node in islice(walk(body), _LEAST_NODES):
        if isinstance(node, Ref | Bag):
            return False
        seen += 1
    return seen == _LEAST_NODES


def _file_name(body: Expr, limits: Limits) -> str:
    """A name made of what the expression says, of the limit, and of the code that compiles."""
    digest = blake2b(program_files.code(), digest_size=20)
    digest.update(f"fragment {limits.max_dfa_states}\n".encode())
    known: dict[str, int] = {}  # by content, so that sharing makes no difference

    def number(node: Expr, below: list[int]) -> int:
        said = repr((_own(node), below))
        if said not in known:
            known[said] = len(known)
            digest.update(f"{said}\n".encode())
        return known[said]

    fold(body, number)
    return f"{digest.hexdigest()}.rule"


def _own(node: Expr) -> tuple[object, ...]:
    """What a node says beside its children."""
    kind = type(node).__name__
    match node:
        case Literal(data):
            return kind, data
        case Chars(ranges) | ByteSet(ranges):
            return kind, ranges
        case Repeat(_, low, high):
            return kind, low, high
        case Substrings(text=text, unit=unit, fold=fold, spelled=spelled):
            return kind, text, unit, sorted(fold), spelled
        case Machine(edges, accept):
            return kind, edges, accept
        case Mark(symbol):
            return kind, symbol
        case Ref(name):
            return kind, name
    return (kind,)


def _written(fragment: Fragment) -> list[bytes]:
    heads = [(p.packed.start, p.nullable, p.counts) for p in fragment.parts]
    arrays = {
        f"{i} {name}": np.asarray(getattr(part.packed, name))
        for i, part in enumerate(fragment.parts)
        for name in _ARRAYS
    }
    return program_files.file_of({"parts": heads}, arrays)


def _read(data: bytes) -> Fragment | None:
    """The fragment in a file; ``None`` if it is damaged."""
    try:
        entries, arrays = program_files.parts_of(data)
        parts = []
        for i, (start, nullable, counts) in enumerate(entries["parts"]):
            words, edges, begin, accept = (arrays[f"{i} {name}"] for name in _ARRAYS)
            packed = PackedDfa(words, edges, begin, accept, start)
            parts.append(Part(packed, nullable, None if counts is None else tuple(counts)))
    except (ValueError, KeyError, TypeError, IndexError):
        return None  # compiled, and written, again
    return Fragment(tuple(parts))


_ARRAYS: Final = ("words", "edges", "begin", "accept")
