"""Proofs that rules are unambiguous, where one symbol of look-ahead decides how a text is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from grammars.errors import GrammarError
from grammars.ir import GrammarIR
from grammars.limits import Limits
from grammars.program import UNBOUNDED, Program
from grammars.writing import lark_of

Classes: TypeAlias = "npt.NDArray[np.uint64]"
_Call: TypeAlias = tuple[int, int, int, bool]
"""A call: the state, the rule called, the state behind it, whether nothing is left to do there."""

_MOST_RULES: Final = 400
"""Rules of which lark makes an LALR(1) table within about a second."""


def is_lalr(ir: GrammarIR, limits: Limits) -> bool:
    """Whether the rules, read by characters, are LALR(1) without conflicts: every text has one tree."""
    from grammars.frontends.lark.lalr import has_lalr_table  # late, as all of Lark is

    if len(ir.rules) > _MOST_RULES:
        return False
    try:
        return has_lalr_table(lark_of(ir, limits))
    except GrammarError:
        return False


def first_bytes(program: Program, state: int | None) -> int:
    """The bytes that a state can read, as a set of bits."""
    return 0 if state is None else _bytes_of(program, program.first[state])


def continuations(program: Program, state: int | None) -> int | None:
    """The bytes that can follow a text within a longer text, as a set of bits (or more of them).

    ``None`` where one byte of look-ahead does not decide how the rules go on: then texts may be read in
    several ways.  That is the LL(1) condition (Aho, Lam, Sethi, Ullman, Compilers, section 4.4.3).

    Args:
        program: the rules.
        state: where the texts begin, in a rule that nothing calls; ``None``: there are no texts.
    """
    if state is None:
        return 0
    states = _reached(program, state)
    if any(program.bag_of[q] >= 0 for q in states) or not _is_deterministic(program, states):
        return None
    calls = [call for q in states for call in _calls(program, q)]
    follow = _follow(program, states, calls)
    ending = _ending_rules(program, state, calls)
    out = np.zeros_like(program.first[0])
    for q in states:
        if program.accept_from[q] < UNBOUNDED:
            rule = int(program.rule_of[q])
            if np.any(program.first[q] & follow[rule]):
                return None
            if rule in ending:
                out |= program.first[q]
    return _bytes_of(program, out)


def _reached(program: Program, state: int) -> list[int]:
    """The states that a text can lead to."""
    out = [state]
    seen = {state}
    for q in out:  # grows while we iterate
        edges = slice(int(program.edge_offset[q]), int(program.edge_offset[q + 1]))
        calls = slice(int(program.call_offset[q]), int(program.call_offset[q + 1]))
        found = [t >> 1 for t in program.edge_target[edges].tolist()]
        found += program.call_start[calls].tolist()
        found += [t >> 1 for t in program.call_return[calls].tolist()]
        new = [t for t in dict.fromkeys(found) if t not in seen]
        seen.update(new)
        out += new
    return out


def _is_deterministic(program: Program, states: Iterable[int]) -> bool:
    """Whether each state has at most one edge or call for each class of bytes."""
    for q in states:
        seen = 0
        for e in range(program.edge_offset[q], program.edge_offset[q + 1]):
            if seen >> int(program.edge_class[e]) & 1:
                return False
            seen |= 1 << int(program.edge_class[e])
        for k in range(program.call_offset[q], program.call_offset[q + 1]):
            begins = _bits(program.first[program.call_start[k]])
            if begins & seen:
                return False
            seen |= begins
    return True


def _follow(program: Program, states: Iterable[int], calls: Sequence[_Call]) -> dict[int, Classes]:
    """By rule, the classes of bytes that can come behind it where it is called."""
    out = {int(program.rule_of[q]): np.zeros_like(program.first[0]) for q in states}
    changed = True
    while changed:
        changed = False
        for q, called, after, tail in calls:
            more = np.zeros_like(program.first[0]) if tail else program.first[after]
            if tail or program.accept_from[after] < UNBOUNDED:
                more = more | out[int(program.rule_of[q])]
            if np.any(more & ~out[called]):
                out[called] |= more
                changed = True
    return out


def _ending_rules(program: Program, state: int, calls: Sequence[_Call]) -> set[int]:
    """Rules whose end can be the end of the text."""
    out = {int(program.rule_of[state])}
    before = 0
    while len(out) > before:
        before = len(out)
        for q, called, after, tail in calls:
            if int(program.rule_of[q]) in out and (tail or program.accept_from[after] < UNBOUNDED):
                out.add(called)
    return out


def _calls(program: Program, q: int) -> list[_Call]:
    return [
        (
            q,
            int(program.rule_of[program.call_start[k]]),
            int(program.call_return[k]) >> 1,
            bool(program.call_tail[k]),
        )
        for k in range(program.call_offset[q], program.call_offset[q + 1])
    ]


def _bits(words: Classes) -> int:
    return sum(int(word) << 64 * i for i, word in enumerate(words))


def _bytes_of(program: Program, classes: Classes) -> int:
    found = _bits(classes)
    return sum(1 << b for b in range(256) if found >> int(program.byte_class[b]) & 1)
