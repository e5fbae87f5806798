"""Positions inside tokens: where, within a token, a rule of the grammar ends.

When a rule ends inside a token, what follows depends on the trie below that node, and of that only
on the children whose byte can come after the rule at all (its *follow set*).  Inside free text nearly
every node of the trie is such a place; most have no child that matters, and the rest fall into few
classes.  Both the masks and the shortest completions live on this.
"""

from __future__ import annotations

from threading import Lock
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int32
from constrain.engine.jit import mask_kernels as m
from constrain.masks.subtrees import Subtrees, subtrees_of
from constrain.vocabulary import Vocabulary
from constrain.vocabulary.trie import Trie
from grammars.program import UNBOUNDED, Program

Kind: TypeAlias = int
"""A class of positions that go on alike on the bytes of one follow set.

The set is part of the class: a node that stands for others within one set may go on in more ways
within a larger one.
"""

BOUNDARY: Final[Kind] = 0
"""The position between two tokens."""

_ODD: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


def _mixed(values: npt.NDArray[np.int64], odd: int) -> npt.NDArray[np.uint64]:
    """64 bits for each number that tell it from others in sums as well."""
    out = values.view(np.uint64) * np.uint64(odd)
    out ^= out >> np.uint64(29)
    out *= np.uint64(_ODD[0])
    return out ^ out >> np.uint64(32)


class Positions:
    """Kinds of positions inside the tokens of one vocabulary, shared by all its automata."""

    def __init__(self, trie: Trie, below: Subtrees | None = None) -> None:
        self.trie = trie
        self._below = Subtrees.of(trie) if below is None else below
        self.ends_token: Flags = trie.token_start[1:] > trie.token_start[:-1]
        self._numbers: dict[tuple[bytes, tuple[int, ...]], Kind] = {}
        self._nodes: list[int] = [0]
        self._follow: list[bytes] = [bytes(256)]
        self._lock = Lock()

    def node(self, kind: Kind) -> int:
        """A trie node that stands for the kind."""
        return self._nodes[kind]

    def follow(self, kind: Kind) -> Flags:
        """The follow set that a kind belongs to."""
        return np.frombuffer(self._follow[kind], np.bool_)

    def entries(self, nodes: Int32, follow: Flags) -> tuple[Int32, Int32]:
        """Children of the nodes whose byte is in the follow set, and their parents' positions.

        Args:
            nodes: int32[M], distinct trie nodes.
            follow: bool[256].
        """
        trie = self.trie
        nodes = np.ascontiguousarray(nodes, np.int32)
        room = max(256, len(nodes) // 4)
        while True:
            children, owner = np.empty(room, np.int32), np.empty(room, np.int32)
            found = m.list_entries(
                trie.byte, trie.skip, self._below.ascii_bytes, self._below.flags, nodes, follow,
                children, owner,
            )  # fmt: skip
            if found <= room:
                return children[:found], owner[:found]
            room = found

    def kinds(self, nodes: Int32, follow: Flags) -> Int32:
        """The kind of each node: int32[M].

        ``BOUNDARY`` for node 0; -1 where nothing in the follow set goes on and no token ends; -2
        where nothing goes on but a token ends (a boundary, one token later).
        """
        nodes = np.ascontiguousarray(nodes, np.int32)
        out = np.where(self.ends_token[nodes], -2, -1).astype(np.int32)
        children, owner = self.entries(nodes, follow)
        if len(children):
            pairs = self.entry_keys(children)
            starts = np.flatnonzero(np.diff(owner, prepend=-1))
            which, first = self._alike(pairs, starts, nodes[owner[starts]])
            ends = np.append(starts[1:], len(pairs))
            set_of = follow.tobytes()
            numbers = np.empty(len(first), np.int32)
            for i, at in enumerate(first.tolist()):
                node = int(nodes[owner[starts[at]]])
                key = (int(self.ends_token[node]), *pairs[starts[at] : ends[at]].tolist())
                numbers[i] = self._number((set_of, key), node)
            out[owner[starts]] = numbers[which]
        out[nodes == 0] = BOUNDARY
        return out

    def _alike(
        self, pairs: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], nodes: Int32
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Groups of nodes with the same entries: the group of each, and the first node of each group.

        Two sums of 64 bits each, with whether a token ends, stand for the entries of a node.
        """
        sums = [np.add.reduceat(_mixed(pairs, odd), starts) for odd in _ODD]
        code = sums[0] ^ _mixed(sums[1].view(np.int64) + self.ends_token[nodes], _ODD[1])
        _, first, which = np.unique(code, return_index=True, return_inverse=True)
        if (sums[1][first][which] != sums[1]).any():  # never seen: two sums are one code
            return np.arange(len(starts)), np.arange(len(starts))
        return which, first

    def _number(self, key: tuple[bytes, tuple[int, ...]], node: int) -> Kind:
        known = self._numbers.get(key)
        if known is None:
            with self._lock:
                known = self._numbers.get(key)
                if known is None:
                    known = len(self._nodes)
                    self._nodes.append(node)
                    self._follow.append(key[0])
                    self._numbers[key] = known  # last: others read it without the lock
        return known

    def group(self, nodes: Int32, follow: Flags) -> Int32:
        """Entries below the nodes in groups, see :meth:`group_entries`."""
        return self.group_entries(self.entries(nodes, follow)[0])

    def group_entries(self, children: Int32) -> Int32:
        """Nodes that are entered in groups of those that are alike, as ``kernels.fill_state`` reads them.

        int32: number of groups; then per group the number of members and the members.
        """
        keys = self.entry_keys(children)
        order = np.argsort(keys, kind="stable")
        out = np.empty(2 * len(children) + 1, np.int32)
        written = m.list_groups(
            children[order], keys[order], order.astype(np.int32), np.ones(len(order), np.uint8), out
        )
        return out[:written].copy()

    def entry_keys(self, children: Int32) -> npt.NDArray[np.int64]:
        """Numbers that are equal for nodes entered by one byte and with equal subtrees."""
        return (self.trie.suffix_class[children].astype(np.int64) << 8) | self.trie.byte[children]


_stored: WeakKeyDictionary[Vocabulary, Positions] = WeakKeyDictionary()
_stored_lock = Lock()


def positions_of(vocabulary: Vocabulary) -> Positions:
    """The positions of a vocabulary, made once."""
    with _stored_lock:
        known = _stored.get(vocabulary)
        if known is None:
            known = _stored[vocabulary] = Positions(vocabulary.trie, subtrees_of(vocabulary))
        return known


def as_flags(program: Program, bits: int) -> Flags:
    """A set of byte classes as bool[256]."""
    packed = np.frombuffer(bits.to_bytes(32, "little"), np.uint8)
    flags: Flags = np.unpackbits(packed, bitorder="little").view(np.bool_)
    return flags[program.byte_class[:256]]


class _Calls:
    """Who calls whom: (rule, calling rule, state to return to, whether nothing is left to do)."""

    def __init__(self, program: Program) -> None:
        rule_of = program.rule_of
        words = program.first.astype("<u8").tobytes()
        self.first = [
            int.from_bytes(words[at : at + 32], "little") for at in range(0, len(words), 32)
        ]
        caller = np.repeat(np.arange(program.states), np.diff(program.call_offset))
        edges = np.stack(
            [
                rule_of[program.call_start],
                rule_of[caller],
                program.call_return >> 1,
                program.call_tail,
            ],
            axis=1,
        )
        self.edges: list[tuple[int, int, int, bool]] = [
            (r, c, t, bool(tail)) for r, c, t, tail in np.unique(edges, axis=0).tolist()
        ]
        for bag in range(len(program.bags)):
            # a bag, too, is followed by its separators: costs are worked out item by item
            returns = program.bag_return[4 * bag + 1 : 4 * bag + 4].tolist()
            calling = int(rule_of[returns[0]])
            starts = program.bag_start[program.bag_offset[bag] : program.bag_offset[bag + 1]]
            for called in {calling, *rule_of[starts].tolist()}:
                self.edges += [(called, calling, after, False) for after in returns]


def _follow(program: Program, calls: _Calls) -> list[int]:
    follow = [0] * len(program.rule_names)
    ends = program.accept_from != UNBOUNDED
    passing = {(rule, caller) for rule, caller, after, _ in calls.edges if ends[after]}
    for rule, _, after, _ in calls.edges:
        follow[rule] |= calls.first[after]
    changed = True
    while changed:
        changed = False
        for rule, caller in passing:
            merged = follow[rule] | follow[caller]
            if merged != follow[rule]:
                follow[rule] = merged
                changed = True
    return follow


class Returns:
    """Where rules return to, by the bytes that can come there.

    Attributes:
        onward: per program state, as a set of byte classes: what can come there, or after its rule
            where that may end.
        sets: per rule, the different ``onward`` of states that it returns to.
    """

    def __init__(self, program: Program) -> None:
        calls = _Calls(program)
        follow = _follow(program, calls)
        ends = (program.accept_from != UNBOUNDED).tolist()
        rules = program.rule_of.tolist()
        self.onward = [
            first | follow[rule] if end else first
            for first, rule, end in zip(calls.first, rules, ends, strict=True)
        ]
        self.sets: list[set[int]] = [set() for _ in follow]
        tails = {(rule, caller) for rule, caller, _, tail in calls.edges if tail}
        for rule, _, after, _ in calls.edges:
            self.sets[rule].add(self.onward[after])
        changed = True
        while changed:
            changed = False
            for rule, caller in tails:
                if not self.sets[caller] <= self.sets[rule]:
                    self.sets[rule] |= self.sets[caller]
                    changed = True
