"""All token texts of a vocabulary as one prefix tree in flat arrays.

Nodes are numbered in depth-first preorder, children in byte order.  Two things follow that the
mask kernels rest on: a walk is a loop over increasing indices that jumps to ``skip[i]`` where a
node's byte is refused, and everything below a node is contiguous, its tokens too::

    tokens below node i (and at it) = tokens[token_start[i] : token_start[skip[i]]]

Construction has no Python loop over nodes or tokens: strings are sorted once, and the length of
the prefix that each shares with its predecessor says which nodes are new.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int32, Int64
from constrain.cache import cache_folder, load_arrays, save_arrays

FORMAT: Final = 1
"""Part of the cache key: raise it when the arrays change their meaning."""

MAX_TOKEN_BYTES: Final = 0xFFFF


@dataclass(frozen=True, eq=False)
class Trie:
    """A byte trie over N nodes and M tokens; every array is C-contiguous and read-only.

    Node 0 is the root (byte 0, depth 0).  Tokens without bytes are not in the trie.

    Attributes:
        byte: uint8[N], the byte on the edge into the node.
        depth: uint16[N], the length of the node's text.
        skip: int32[N], the first node after the node's subtree (N for the last ones).
        token_start: int32[N+1]; the tokens that end at node i are
            ``tokens[token_start[i]:token_start[i+1]]``, usually one or none, more where a
            vocabulary writes one text in two ways.
        tokens: int32[M], token ids, in trie order, ascending at each node.
        suffix_class: int32[N]; two nodes have the same number exactly when the same byte strings
            lead from them to nodes where a token ends (the trie's minimal automaton).  Class 0 is
            the leaf; numbers are dense.
    """

    byte: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.uint16]
    skip: Int32
    token_start: Int32
    tokens: Int32
    suffix_class: Int32

    def __post_init__(self) -> None:
        for field in fields(self):
            getattr(self, field.name).setflags(write=False)

    @property
    def node_count(self) -> int:
        """N, the root included."""
        return len(self.byte)

    @property
    def max_depth(self) -> int:
        """Bytes of the longest token."""
        return int(self.depth.max())

    def child(self, node: int, byte: int) -> int:
        """The child of a node on a byte, or -1."""
        at, end = node + 1, int(self.skip[node])
        while at < end:
            if self.byte[at] == byte:
                return at
            at = int(self.skip[at])
        return -1

    def longest_token(self, data: bytes) -> tuple[int, int, int]:
        """The longest token that some bytes begin with.

        Returns:
            Its id (the least of several; -1 for none), its length, and the node of all the bytes (-1
            if no token begins with them all).
        """
        node, token, length = 0, -1, 0
        for depth, byte in enumerate(data, 1):
            node = self.child(node, byte)
            if node < 0:
                break
            if self.token_start[node] < self.token_start[node + 1]:
                token, length = int(self.tokens[self.token_start[node]]), depth
        return token, length, node

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Trie is rebuilt from its tokens; it is not pickled")

    @staticmethod
    def build(texts: Sequence[bytes | None]) -> Trie:
        """Builds the trie of ``texts``, whose positions are the token ids.

        Args:
            texts: the bytes of each token; ``None`` and ``b""`` are left out.

        Raises:
            ValueError: for a token longer than 65,535 bytes.
        """
        return _build(texts)

    @staticmethod
    def cached(texts: Sequence[bytes | None]) -> Trie:
        """Like :meth:`build`, kept on disk under the hash of ``texts``."""
        path = cache_folder("trie", f"{hash_texts(texts)}.npz")
        stored = load_arrays(path)
        if stored is not None:
            trie = _from_arrays(stored, len(texts))
            if trie is not None:
                return trie
        trie = _build(texts)
        save_arrays(path, {field.name: getattr(trie, field.name) for field in fields(trie)})
        return trie


def hash_texts(texts: Sequence[bytes | None]) -> str:
    """SHA-256, in hex, of the texts with their lengths (``None`` differs from ``b""``)."""
    lengths = np.fromiter((-1 if t is None else len(t) for t in texts), "<i4", len(texts))
    digest = hashlib.sha256(b"gramma trie %d %d " % (FORMAT, len(texts)))
    digest.update(lengths.tobytes())
    digest.update(b"".join(t for t in texts if t))
    return digest.hexdigest()


_DTYPES: Final = {
    "byte": np.uint8,
    "depth": np.uint16,
    "skip": np.int32,
    "token_start": np.int32,
    "tokens": np.int32,
    "suffix_class": np.int32,
}


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]], size: int) -> Trie | None:
    """The trie of stored arrays, or ``None`` if they are not those of this format.

    What kernels follow is checked (every number leads to a place within the trie), so that arrays of
    another trie give wrong masks at worst; the name, a hash of the texts, and the folder's owner
    stand for the rest.
    """
    if arrays.keys() != _DTYPES.keys():
        return None
    if any(a.dtype != _DTYPES[name] or a.ndim != 1 for name, a in arrays.items()):
        return None
    n = len(arrays["byte"])
    sizes = {"depth": n, "skip": n, "suffix_class": n, "token_start": n + 1}
    if n == 0 or any(len(arrays[name]) != size for name, size in sizes.items()):
        return None
    if int(arrays["token_start"][-1]) != len(arrays["tokens"]):
        return None
    return Trie(**arrays) if _leads_nowhere_else(arrays, size) else None


def _leads_nowhere_else(arrays: Mapping[str, npt.NDArray[Any]], size: int) -> bool:
    """Whether all places that arrays name are places of the trie, and all tokens of the vocabulary."""
    nodes = np.arange(len(arrays["byte"]))
    depth, skip, start = (
        arrays[name].astype(np.int64) for name in ("depth", "skip", "token_start")
    )
    tokens, classes = arrays["tokens"], arrays["suffix_class"]
    inner = np.flatnonzero(skip < len(nodes))
    return bool(
        depth[0] == 0
        and (depth[1:] >= 1).all()
        and (np.diff(depth) <= 1).all()
        and (skip > nodes).all()
        and (skip <= len(nodes)).all()
        and skip[0] == len(nodes)
        and (depth[skip[inner]] <= depth[inner]).all()
        and start[0] == 0
        and (np.diff(start) >= 0).all()
        and (tokens >= 0).all()
        and (tokens < size).all()
        and (classes >= 0).all()
        and (classes <= len(nodes)).all()  # a trie of the root alone has class 1
    )


def _build(texts: Sequence[bytes | None]) -> Trie:
    ids = sorted((i for i, t in enumerate(texts) if t), key=texts.__getitem__)  # type: ignore[arg-type]
    ordered = [texts[i] or b"" for i in ids]
    length = np.fromiter(map(len, ordered), np.int64, len(ordered))
    if len(length) and int(length.max()) > MAX_TOKEN_BYTES:
        worst = ids[int(length.argmax())]
        raise ValueError(
            f"token {worst} has {int(length.max()):,} bytes; at most {MAX_TOKEN_BYTES:,} are possible"
        )
    data = np.frombuffer(b"".join(ordered), np.uint8)
    offset = np.cumsum(length) - length
    shared = _shared_prefixes(data, offset, length)

    # String j brings the nodes of depths shared[j]+1 .. length[j]; a repeated text brings none.
    fresh = length - shared
    owner = np.repeat(np.arange(len(ids)), fresh)
    first = np.cumsum(fresh) - fresh
    n = 1 + len(owner)
    depth = np.zeros(n, np.int64)
    depth[1:] = np.arange(n - 1) - first[owner] + shared[owner] + 1
    byte = np.zeros(n, np.uint8)
    byte[1:] = data[offset[owner] + depth[1:] - 1]

    # The node of a text is the last one made so far: sorting puts prefixes first.
    end = np.cumsum(fresh)
    count = np.bincount(end, minlength=n)
    token_start = np.zeros(n + 1, np.int32)
    np.cumsum(count, out=token_start[1:])

    levels = _levels(depth)
    parent = _parents(levels, n)
    skip, height = _subtrees(levels, parent, n)
    return Trie(
        byte=byte,
        depth=depth.astype(np.uint16),
        skip=skip,
        token_start=token_start,
        tokens=np.array(ids, np.int32),
        suffix_class=_suffix_classes(byte, count > 0, parent, height),
    )


def _shared_prefixes(data: npt.NDArray[np.uint8], offset: Int64, length: Int64) -> Int64:
    """For each sorted string, how many leading bytes it shares with the one before it."""
    shared = np.zeros(len(length), np.int64)
    active = np.arange(1, len(length))
    at = 0
    while len(active):
        active = active[np.minimum(length[active], length[active - 1]) > at]
        active = active[data[offset[active] + at] == data[offset[active - 1] + at]]
        at += 1
        shared[active] = at
    return shared


def _levels(depth: Int64) -> list[Int64]:
    """Node numbers by depth, ascending within a depth."""
    order = np.argsort(depth, kind="stable")
    return np.split(order, np.cumsum(np.bincount(depth))[:-1])


def _parents(levels: list[Int64], n: int) -> Int64:
    """The parent of each node (-1 for the root): in preorder, the last shallower one before it."""
    parent = np.full(n, -1, np.int64)
    for above, here in itertools.pairwise(levels):
        parent[here] = above[np.searchsorted(above, here) - 1]
    return parent


def _subtrees(levels: list[Int64], parent: Int64, n: int) -> tuple[Int32, Int64]:
    """``skip`` and the height (edges down to the deepest leaf) of each node."""
    size = np.ones(n, np.int64)
    height = np.zeros(n, np.int64)
    for here in reversed(levels[1:]):
        above = parent[here]
        starts = np.flatnonzero(np.diff(above, prepend=-1))
        family = above[starts]
        size[family] += np.add.reduceat(size[here], starts)
        height[family] = np.maximum.reduceat(height[here], starts) + 1
    return (np.arange(n) + size).astype(np.int32), height


def _suffix_classes(
    byte: npt.NDArray[np.uint8], is_token: npt.NDArray[np.bool_], parent: Int64, height: Int64
) -> Int32:
    """Numbers the nodes by what can follow them, exactly, from the leaves up.

    Only nodes of equal height can be equivalent.  Within a height each node's list of (byte, class
    of child) is folded from the left, one child a round, into a number for the list so far.
    """
    n = len(byte)
    result = np.zeros(n, np.int64)
    child = np.argsort(parent, kind="stable")[1:]  # grouped by parent, in byte order
    children = np.bincount(parent[1:], minlength=n)
    first_child = np.cumsum(children) - children

    if n == 1:
        return np.ones(1, np.int32)  # the bare root is not a token, so it is not the leaf class
    by_height = np.argsort(height, kind="stable")
    count = 1  # leaves are class 0: they have no child, and a token ends at each of them
    for group in np.split(by_height, np.cumsum(np.bincount(height))[:-1])[1:]:
        # Most children first, so that the nodes with a j-th child are always the first ones.
        nodes = group[np.argsort(-children[group], kind="stable")]
        open_lists = np.searchsorted(-children[nodes], -np.arange(children[nodes[0]] + 1))
        folded = is_token[nodes].astype(np.int64)
        known = count
        for j in range(int(children[nodes[0]])):
            live, longer = int(open_lists[j]), int(open_lists[j + 1])
            below = child[first_child[nodes[:live]] + j]
            key = (folded[:live] * 256 + byte[below]) * known + result[below]
            folded[:live] = np.unique(key, return_inverse=True)[1]
            # Lists that end here are complete; longer ones cannot equal them.
            ended, number = np.unique(folded[longer:live], return_inverse=True)
            result[nodes[longer:live]] = count + number
            count += len(ended)
    return result.astype(np.int32)
