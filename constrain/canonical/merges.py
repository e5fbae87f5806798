"""Byte-pair merges of a tokenizer, and the pairs of tokens that they would write otherwise.

Byte-pair encoding merges neighbouring pieces, the pair of the lowest rank first.  A sequence of tokens is
what it makes of its text if and only if each token is what it makes of its own text and each pair of
neighbours is what it makes of theirs (Vieira et al. 2025, "Language Models over Canonical Byte-Pair
Encodings", section 4; Berglund and van der Merwe 2023).  A pair ``u v`` is not if, while ``u`` and ``v``
grow, the last piece of ``u`` and the first piece of ``v`` are merged before both have been used up: only
pieces on the right edge of ``u``'s derivation and on the left edge of ``v``'s meet.

*Time* below is when a merge happens: the largest rank in a derivation up to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int32, Int64
from constrain.canonical.kernels import NEVER, derive, meets, refuse

NO_TOKEN: Final = -1


@dataclass(frozen=True, eq=False)
class Merges:
    """Merges of a tokenizer with V tokens, and what each token is merged of.

    Attributes:
        left, right: int32[V], the parts of each token's last merge; ``NO_TOKEN`` for pieces that no merge
            makes.
        rank: int32[V], the rank of that merge.
        time: int32[V], the largest rank in the token's derivation; -1 without merges.
        derived: bool[V], tokens that encoding their own text gives.
        begin, other, order: merges by left part: those of token a are entries ``begin[a]:begin[a+1]``,
            with right parts ``other``, ascending, and ranks ``order``.
        edge_begin, edge_token: int32[V+1], int32[E]: tokens on whose left edge a token lies, itself
            included.
        edge_time, edge_rank: int32[E], when, and by which merge, it is used up there.
    """

    left: Int32
    right: Int32
    rank: Int32
    time: Int32
    derived: npt.NDArray[np.bool_]
    begin: Int32
    other: Int32
    order: Int32
    edge_begin: Int32
    edge_token: Int32
    edge_time: Int32
    edge_rank: Int32

    @property
    def size(self) -> int:
        """V, the number of token ids."""
        return len(self.left)

    @property
    def entangled(self) -> npt.NDArray[np.bool_]:
        """bool[V]: tokens with a merge that comes before one of those that make its parts, by rank.

        Runs of one character in vocabularies converted from SentencePiece.  For two of them side by side
        the ranks do not tell what is merged when.
        """
        made = self.left != NO_TOKEN
        parts = np.maximum(self.time[self.left], self.time[self.right])
        found: npt.NDArray[np.bool_] = made & (self.rank < parts)
        return found

    def joins(self, token: int, behind: int) -> bool:
        """Whether encoding would join a token to the one behind it, or cut otherwise."""
        own = (self.left, self.right, self.rank, self.time)
        return bool(meets(token, behind, NO_TOKEN, *own, self.begin, self.other, self.order))

    def refused_after(self, token: int) -> npt.NDArray[np.bool_]:
        """bool[V]: tokens that, behind this one, encoding would join to it or cut otherwise."""
        out = np.zeros(self.size, np.bool_)
        refuse(
            token, self.left, self.right, self.rank, self.time, self.begin, self.other, self.order,
            self.edge_begin, self.edge_token, self.edge_time, self.edge_rank, out,
        )  # fmt: skip
        return out


def merges_of(pairs: Sequence[Sequence[str]], vocab: Mapping[str, int], size: int) -> Merges:
    """The merges of a tokenizer file.

    Args:
        pairs: merges in the order of their ranks.
        vocab: ids of pieces.
        size: number of ids.
    """
    triples = np.array(
        [
            (a, b, made, rank)
            for rank, (x, y) in enumerate(pairs)
            if (a := vocab.get(x)) is not None
            and (b := vocab.get(y)) is not None
            and (made := vocab.get(x + y)) is not None
        ],
        np.int64,
    ).reshape(-1, 4)
    lengths = np.zeros(size, np.int64)
    for piece, i in vocab.items():
        if i < size:
            lengths[i] = len(piece)
    return _made(triples, lengths, size)


def _made(triples: Int64, lengths: Int64, size: int) -> Merges:
    first, second, made, rank = (
        np.ascontiguousarray(column.astype(np.int32)) for column in triples.T
    )
    by_left = np.lexsort((rank, second, first))
    begin = np.zeros(size + 1, np.int32)
    np.cumsum(np.bincount(first, minlength=size), out=begin[1:])
    other, order = second[by_left], rank[by_left]
    left = np.full(size, NO_TOKEN, np.int32)
    right, own, time = left.copy(), left.copy(), left.copy()
    derived = np.ones(size, np.bool_)
    derived[made] = False
    # parts are shorter than what they make, so that they are settled before it
    order_made = np.lexsort((rank, lengths[made])).astype(np.int64)
    derive(
        order_made, first, second, made, rank, begin, other, order, left, right, own, time, derived
    )
    edges = _left_edges(left, own, time)
    return Merges(left, right, own, time, derived, begin, other, order, *edges)


def _left_edges(left: Int32, rank: Int32, time: Int32) -> tuple[Int32, Int32, Int32, Int32]:
    size = len(left)
    piece = np.arange(size, dtype=np.int64)
    owner, used_time = piece.copy(), np.full(size, NEVER, np.int64)
    used_rank = used_time.copy()
    levels: list[tuple[Int64, Int64, Int64, Int64]] = []
    while len(piece):
        levels.append((piece, owner, used_time, used_rank))
        below = left[piece].astype(np.int64)
        deeper = below != NO_TOKEN
        used_time = time[piece[deeper]].astype(np.int64)
        used_rank = rank[piece[deeper]].astype(np.int64)
        piece, owner = below[deeper], owner[deeper]
    pieces, owners, times, ranks = (np.concatenate(column) for column in zip(*levels, strict=True))
    by_piece = np.argsort(pieces, kind="stable")
    begin = np.zeros(size + 1, np.int32)
    np.cumsum(np.bincount(pieces, minlength=size), out=begin[1:])
    return (
        begin,
        owners[by_piece].astype(np.int32),
        times[by_piece].astype(np.int32),
        ranks[by_piece].astype(np.int32),
    )
