"""A key-value cache that keeps a path of a tree and forgets the rest.

Room is allocated once.  New keys and values are written behind the longest row; what is accepted is
gathered to the end of its row, what is not is simply written over later.  So going back is a smaller
length, exactly.

All that is known of the cache classes of ``transformers`` is here: 4.50 has one class that models call
``update`` and ``get_seq_length`` of, from 4.54 on it is a list of layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers import cache_utils
from transformers.cache_utils import Cache

_LayerBase: Any = getattr(cache_utils, "CacheLayerMixin", object)
_LAYERED: Final = _LayerBase is not object


class _Layer(_LayerBase):  # type: ignore[misc]
    """One layer's keys and values, [rows, heads, capacity, dim] each."""

    is_sliding = False
    is_croppable = True

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()
        self.keys: Any = None
        self.values: Any = None
        self.is_initialized = False
        self.rows, self.capacity = rows, capacity
        self.length = 0  # of the longest row

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
    """Rows of different lengths in one block of memory.

    Args:
        layers: of the model.
        rows: sequences side by side.
        capacity: tokens a row has room for at first; it grows when that is not enough.

    Attributes:
        lengths: tokens kept in each row.
    """

    def __init__(self, layers: int, rows: int, capacity: int) -> None:
        made = [_Layer(rows, capacity) for _ in range(layers)]
        if _LAYERED:
            super().__init__(layers=made)
        else:
            super().__init__()
            self.layers = made
        self.lengths = [0] * rows

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by a model's layers: new keys and values go behind the old ones."""
        found: tuple[torch.Tensor, torch.Tensor] = self.layers[layer_idx].update(
            key_states, value_states
        )
        return found

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Called by models: tokens before the new ones."""
        return int(self.layers[layer_idx].get_seq_length())

    def get_max_cache_shape(self, layer_idx: int = 0) -> int | None:
        """Called by models: there is no limit."""
        return -1 if _LAYERED else None

    @property
    def longest(self) -> int:
        """Where new tokens are written."""
        return max(self.lengths)

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
            length = self.lengths[row]
            moved = begin != length or list(columns) != list(range(len(columns)))
            if moved:
                self._move(row, [begin + c for c in columns], length)
            self.lengths[row] = length + len(columns)

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
        """Forgets all but the first ``length`` tokens of a row."""
        if not 0 <= length <= self.lengths[row]:
            raise ValueError(f"row {row} holds {self.lengths[row]} tokens, not {length}")
        self.lengths[row] = length

    def expand(self, rows: int) -> None:
        """Copies the single row there is to ``rows`` rows."""
        if len(self.lengths) != 1:
            raise ValueError("only a cache of one row can be expanded")
        for layer in self.layers:
            layer.rows = rows
            if layer.is_initialized:
                layer.keys = layer.keys.repeat(rows, 1, 1, 1)
                layer.values = layer.values.repeat(rows, 1, 1, 1)
        self.lengths = self.lengths * rows

    def fork(self, capacity: int) -> TreeCache:
        """A copy of the first row, with room for ``capacity`` tokens."""
        length = self.lengths[0]
        made = TreeCache(len(self.layers), 1, max(capacity, length))
        made.lengths = [length]
        for old, new in zip(self.layers, made.layers, strict=True):
            if old.is_initialized:
                new.lazy_initialization(old.keys, old.values)
                new.keys[0, :, :length] = old.keys[0, :, :length]
                new.values[0, :, :length] = old.values[0, :, :length]
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

    def join(self, other: TreeCache) -> None:
        """Appends the rows of another cache, of the same model."""
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs)
        self.lengths = self.lengths + other.lengths

    @property
    def nbytes(self) -> int:
        """Memory of keys and values, in bytes."""
        blocks = [b for x in self.layers if x.is_initialized for b in (x.keys, x.values)]
        return sum(b.numel() * b.element_size() for b in blocks)
