"""A key-value cache that keeps a path of a tree and forgets the rest.

Room is allocated once.  New keys and values are written behind the longest row; what is accepted is
gathered to the end of its row, what is not is simply written over later.  So going back is a smaller
length, exactly.

What all rows begin with may be held once (:meth:`TreeCache.share`): each row sees the first tokens of
that prefix, as many as it has not gone back behind, and then its own.  A prefix is never written to, so
that forks have it in common too.

A row may begin with tokens of which only some keys and values are there (:meth:`TreeCache.fill`): it is as
long as all of them, and does not go back behind them.

All that is known of the cache classes of ``transformers`` is here: 4.50 has one class that models call
``update`` and ``get_seq_length`` of, from 4.54 on it is a list of layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers import cache_utils
from transformers.cache_utils import Cache

from samplers.speculative.shared_prefix import KeysAndValues, PrefixReader

_LayerBase: Any = getattr(cache_utils, "CacheLayerMixin", object)
_LAYERED: Final = _LayerBase is not object


class _Layer(_LayerBase):  # type: ignore[misc]
    """One layer's keys and values, [rows, heads, capacity, dim] each; behind the prefix, if there is one."""

    is_sliding = False
    is_croppable = True

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()
        self.keys: Any = None
        self.values: Any = None
        self.is_initialized = False
        self.rows, self.capacity = rows, capacity
        self.length = 0  # of the longest row
        self.prefix: KeysAndValues | None = None  # [1, heads, tokens, dim] each

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = self._room(key_states)
        self.values = self._room(value_states)
        self.is_initialized = True

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        shape = (self.rows, like.shape[1], self.capacity, like.shape[3])
        return like.new_zeros(shape)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[2]
        if end > self.capacity:
            self._grow(max(end, self.capacity + self.capacity // 2))
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grow(self, capacity: int) -> None:
        self.capacity = capacity
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = self._room(old)
            new[:, :, : old.shape[2]] = old
            setattr(self, name, new)

    def kept(self, row: int, held: int, own: int) -> KeysAndValues:
        """Keys and values [heads, held + own, dim] of a row."""
        found = []
        for number, block in enumerate((self.keys, self.values)):
            parts = [] if self.prefix is None else [self.prefix[number][0, :, :held]]
            if self.is_initialized:
                parts.append(block[row, :, :own])
            found.append(torch.cat(parts, 1))
        return found[0], found[1]

    def share(self, held: int, own: int, capacity: int) -> None:
        """Makes a prefix of the single row; without a copy where there is nothing else in the blocks."""
        if self.prefix is None:
            keys, values = (block[:, :, :own].contiguous() for block in (self.keys, self.values))
            self.prefix = keys, values
        elif own or held < self.prefix[0].shape[2]:
            keys, values = self.kept(0, held, own)
            self.prefix = keys[None], values[None]
        self.keys = self.values = None
        self.is_initialized = False
        self.capacity, self.length = capacity, 0

    def unshare(self, held: Sequence[int], own: Sequence[int]) -> None:
        """Copies what each row holds of the prefix into its own block."""
        assert self.prefix is not None
        rows = [self.kept(row, *counts) for row, counts in enumerate(zip(held, own, strict=True))]
        self.capacity += self.prefix[0].shape[2]
        self.lazy_initialization(*self.prefix)
        for row, kept in enumerate(rows):
            for block, part in zip((self.keys, self.values), kept, strict=True):
                block[row, :, : part.shape[1]] = part
        self.prefix = None

    def join(self, other: _Layer) -> None:
        """Appends the rows of another one."""
        like = self if self.is_initialized else other
        mine, self.rows = self.rows, self.rows + other.rows
        self.capacity = max(self.capacity, other.capacity)
        if not like.is_initialized:
            return
        for name in ("keys", "values"):
            made = self._room(getattr(like, name))
            if self.is_initialized:
                old = getattr(self, name)
                made[:mine, :, : old.shape[2]] = old
            if other.is_initialized:
                old = getattr(other, name)
                made[mine:, :, : old.shape[2]] = old
            setattr(self, name, made)
        if not self.is_initialized:
            self.dtype, self.device = self.keys.dtype, self.keys.device
            self.is_initialized = True

    def get_mask_sizes(self, query: Any) -> tuple[int, int]:
        """By the number of new tokens; older versions give their positions."""
        new = query if isinstance(query, int) else len(query)
        return self.length + new, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1

    def get_max_cache_shape(self) -> int:
        return -1


class TreeCache(Cache):  # type: ignore[misc]
    """Rows of different lengths in one block of memory, behind a prefix that they may share.

    Args:
        layers: of the model.
        rows: sequences side by side.
        capacity: tokens a row has room for at first, behind the prefix; it grows when that is not
            enough.

    Attributes:
        lengths: tokens of each row, those of the prefix included.
        held: tokens of the prefix that each row begins with.
        gone: tokens at the beginning of each row that count in its length, and are not kept.
        begun: tokens of each row that they are among, behind which it does not go back; 0 where none are.
        reader: what hands the prefix to the model's attention; set for the length of a forward.
    """

    def __init__(self, layers: int, rows: int, capacity: int) -> None:
        made = [_Layer(rows, capacity) for _ in range(layers)]
        if _LAYERED:
            super().__init__(layers=made)
        else:
            super().__init__()
            self.layers = made
        self.lengths = [0] * rows
        self.held = [0] * rows
        self.gone = [0] * rows
        self.begun = [0] * rows
        self.reader: PrefixReader | None = None

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by a model's layers: new keys and values go behind the old ones.

        Raises:
            RuntimeError: if rows share a prefix, and nobody shows it to the model.
        """
        layer: Any = self.layers[layer_idx]
        if layer.prefix is not None:
            if self.reader is None:
                raise RuntimeError("rows that share a prefix are read by TreeScorer.score")
            self.reader.offer(layer.prefix)
        found: tuple[torch.Tensor, torch.Tensor] = layer.update(key_states, value_states)
        return found

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Called by models: tokens before the new ones, behind the prefix."""
        return int(self.layers[layer_idx].get_seq_length())

    def get_max_cache_shape(self, layer_idx: int = 0) -> int | None:
        """Called by models: there is no limit."""
        return -1 if _LAYERED else None

    @property
    def longest(self) -> int:
        """Where new tokens are written, behind the prefix."""
        return max(self.own(row) for row in range(len(self.lengths)))

    def own(self, row: int) -> int:
        """Tokens kept of a row behind what it holds of the prefix."""
        return self.lengths[row] - self.gone[row] - self.held[row]

    @property
    def shared(self) -> int:
        """Tokens of the prefix."""
        return max((x.prefix[0].shape[2] for x in self.layers if x.prefix is not None), default=0)

    def kept(self, row: int) -> list[KeysAndValues]:
        """Keys and values [heads, tokens, dim] of a row, layer by layer, in copies."""
        return [layer.kept(row, self.held[row], self.own(row)) for layer in self.layers]

    def fill(self, layers: Sequence[KeysAndValues], length: int) -> None:
        """Gives the single empty row what is kept of its first tokens.

        Args:
            layers: keys and values of each layer, [1, heads, n, dim], n the same everywhere; copied.
            length: how many tokens they are left of.
        """
        if self.lengths != [0] or len(layers) != len(self.layers):
            raise ValueError("only an empty row of as many layers can be filled")
        for layer, (keys, values) in zip(self.layers, layers, strict=True):
            layer.update(keys, values)
        self.lengths = [length]
        self.gone = [length - layers[0][0].shape[2]]
        self.begun = [length if self.gone[0] else 0]

    def open(self) -> None:
        """Before a forward: new tokens of all rows go behind the longest row."""
        for layer in self.layers:
            layer.length = self.longest

    def keep(self, kept: Sequence[Sequence[int]]) -> None:
        """After a forward: the columns of each row that stay, in order, counted from the new ones.

        Columns are moved to the end of their row; everything else new is forgotten.
        """
        begin = self.longest
        for row, columns in enumerate(kept):
            if not columns:
                continue
            length = self.own(row)
            moved = begin != length or list(columns) != list(range(len(columns)))
            if moved:
                self._move(row, [begin + c for c in columns], length)
            self.lengths[row] += len(columns)

    def _move(self, row: int, sources: list[int], target: int) -> None:
        first = next((i for i, s in enumerate(sources) if s != target + i), len(sources))
        sources = sources[first:]
        target += first
        index: torch.Tensor | None = None
        for layer in self.layers:
            if not layer.is_initialized:
                continue
            if index is None or index.device != layer.keys.device:
                index = torch.tensor(sources, device=layer.keys.device)
            for block in (layer.keys, layer.values):
                block[row, :, target : target + len(sources)] = block[row].index_select(1, index)

    def rollback(self, row: int, length: int) -> None:
        """Forgets all but the first ``length`` tokens of a row.

        Raises:
            ValueError: if it has not so many; or not all of those, as keys and values were dropped.
        """
        if not 0 <= length <= self.lengths[row]:
            raise ValueError(f"row {row} holds {self.lengths[row]} tokens, not {length}")
        if length < self.begun[row]:
            raise ValueError(
                f"keys and values of the first {self.begun[row]} tokens of row {row} were dropped in part: "
                f"it cannot go back to {length}"
            )
        self.lengths[row] = length
        self.held[row] = min(self.held[row], length - self.gone[row])

    @contextmanager
    def rewound(self, length: int) -> Iterator[None]:
        """The single row as it was at an earlier length; what is written over within is put back."""
        self.unshare()
        end = self.lengths[0]
        own = slice(length - self.gone[0], end - self.gone[0])
        layers: list[Any] = [layer for layer in self.layers if layer.is_initialized]
        kept = [[block[0, :, own].clone() for block in (x.keys, x.values)] for x in layers]
        self.rollback(0, length)
        try:
            yield
        finally:
            for layer, (keys, values) in zip(layers, kept, strict=True):
                layer.keys[0, :, own] = keys
                layer.values[0, :, own] = values
            self.lengths[0] = end

    def share(self, capacity: int) -> None:
        """Makes what the single row there is holds a prefix, for this row and all that come of it.

        Args:
            capacity: tokens a row has room for behind the prefix at first.
        """
        if len(self.lengths) != 1:
            raise ValueError("only a cache of one row can become a prefix")
        if not self.lengths[0]:
            return
        for layer in self.layers:
            layer.share(self.held[0], self.own(0), capacity)
        self.held = [self.lengths[0] - self.gone[0]]

    def unshare(self) -> None:
        """Gives every row a copy of what it holds of the prefix."""
        for layer in self.layers:
            if layer.prefix is not None:
                layer.unshare(self.held, [self.own(row) for row in range(len(self.held))])
        self.held = [0] * len(self.lengths)

    def expand(self, rows: int) -> None:
        """Makes ``rows`` rows of the single row there is; what is not in a prefix is copied."""
        if len(self.lengths) != 1:
            raise ValueError("only a cache of one row can be expanded")
        self.select([0] * rows)

    def fork(self, capacity: int) -> TreeCache:
        """A copy of the first row, with room for ``capacity`` tokens; a prefix is not copied."""
        own = self.own(0)
        room = capacity - self.gone[0] - self.held[0]
        made = TreeCache(len(self.layers), 1, max(room, own))
        made.lengths, made.held = self.lengths[:1], self.held[:1]
        made.gone, made.begun = self.gone[:1], self.begun[:1]
        for old, new in zip(self.layers, made.layers, strict=True):
            new.prefix = old.prefix
            if old.is_initialized:
                new.lazy_initialization(old.keys, old.values)
                new.keys[0, :, :own] = old.keys[0, :, :own]
                new.values[0, :, :own] = old.values[0, :, :own]
        return made

    def select(self, rows: Sequence[int]) -> None:
        """Keeps some rows, in the order given."""
        for layer in self.layers:
            layer.rows = len(rows)
            if layer.is_initialized:
                index = torch.tensor(rows, device=layer.keys.device)
                layer.keys = layer.keys.index_select(0, index)
                layer.values = layer.values.index_select(0, index)
        self.lengths = [self.lengths[row] for row in rows]
        self.held = [self.held[row] for row in rows]
        self.gone = [self.gone[row] for row in rows]
        self.begun = [self.begun[row] for row in rows]

    def join(self, other: TreeCache) -> None:
        """Appends the rows of another cache, of the same model; unlike prefixes are copied to the rows."""
        if any(
            mine.prefix is not theirs.prefix
            for mine, theirs in zip(self.layers, other.layers, strict=True)
        ):
            self.unshare()
            other.unshare()
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs)
        self.lengths = self.lengths + other.lengths
        self.held = self.held + other.held
        self.gone = self.gone + other.gone
        self.begun = self.begun + other.begun

    @property
    def nbytes(self) -> int:
        """Memory of keys and values, in bytes; a prefix counts once."""
        blocks = [b for x in self.layers if x.is_initialized for b in (x.keys, x.values)]
        blocks += [block for x in self.layers if x.prefix is not None for block in x.prefix]
        return sum(b.numel() * b.element_size() for b in blocks)
