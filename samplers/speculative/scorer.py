"""A causal language model that scores whole trees of tokens in one forward.

Each row of a batch has a path of settled tokens; those not in the cache yet come first in the
forward, as a chain, then the drafted tree.  A token sees its row's past and its own ancestors, by a
mask of four dimensions, and its position is its depth: so every node gets the logits that decoding
its path token by token would give.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch

from constrain.models import text_config
from grammars.errors import GrammaError
from samplers.speculative.cache import TreeCache
from samplers.speculative.companions import Attached, Companions, Places, inserting
from samplers.speculative.shared_prefix import (
    KeysAndValues,
    PrefixNotSeen,
    PrefixReader,
    can_share,
    prefix_attention,
    refuse,
)
from samplers.speculative.tree import ROOT, Tree

_PLAIN: Final = {"full_attention", "sliding_attention"}
_ATTENTION: Final = ("sdpa", "eager")


class UnsupportedModel(GrammaError, ValueError):  # noqa: N818 - the name says it
    """A model whose cache cannot take tokens back, or that cannot be given a tree."""


@dataclass(frozen=True)
class Shape:
    """What a model's attention needs to know.

    Attributes:
        layers: of the model.
        window: of its layers with sliding attention; ``None`` if it has none.
        by_type: whether masks are given by the type of layer, as a dictionary.
    """

    layers: int
    window: int | None
    by_type: bool


def shape_of(model: Any) -> Shape:
    """Reads a model's configuration.

    Raises:
        UnsupportedModel: if it is not a decoder with full or sliding attention whose cache can take
            tokens back, or its attention takes no mask of four dimensions.
    """
    name = type(model).__name__
    if getattr(model, "_is_stateful", False):
        raise UnsupportedModel(
            f"{name} keeps a running state instead of keys and values, which cannot take tokens "
            "back; use model.generate with GrammarLogitsProcessor"
        )
    if getattr(model, "_supports_cache_class", True) is False:  # before 4.56, some models
        raise UnsupportedModel(
            f"{name} keeps keys and values in tuples in this version of transformers, which cannot "
            "take tokens back; use a newer one, or model.generate with GrammarLogitsProcessor"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModel(f"{name} is an encoder-decoder; a causal language model is needed")
    config = text_config(model)
    types = list(getattr(config, "layer_types", None) or [])
    strange = sorted(set(types) - _PLAIN)
    if strange:
        raise UnsupportedModel(
            f"{name} has layers of type {', '.join(strange)}, whose cache cannot take tokens back; "
            "use model.generate with GrammarLogitsProcessor"
        )
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModel(f"{name} takes no position_ids, so that it cannot be given a tree")
    _check_own_masks(model, config)
    attention = getattr(config, "_attn_implementation", "eager")
    if attention not in _ATTENTION:
        raise UnsupportedModel(
            f"attention {attention!r} takes no mask of four dimensions; load the model with "
            "attn_implementation='sdpa' or 'eager'"
        )
    sliding = "sliding_attention" in types or (
        not types and getattr(config, "sliding_window", None) is not None
    )
    window = int(config.sliding_window) if sliding else None
    return Shape(int(config.num_hidden_layers), window, sliding and bool(types))


def _check_own_masks(model: Any, config: Any) -> None:
    """Refuses models that do not leave all of the mask to their caller."""
    name = type(model).__name__
    if "local" in (getattr(config, "attention_layers", None) or ()):
        raise UnsupportedModel(
            f"{name} has local attention that goes by places in the cache, not by position_ids; use "
            "model.generate with GrammarLogitsProcessor"
        )
    if getattr(config, "alibi", False):
        raise UnsupportedModel(f"{name} uses alibi, which takes no mask of four dimensions")
    # some decoders say that they are none, but their attention tells
    encoder = getattr(config, "is_decoder", True) is False and config is model.config
    marks = ("is_causal", "is_decoder")  # the latter before transformers 5
    if encoder and any(getattr(m, x, True) is False for m in model.modules() for x in marks):
        raise UnsupportedModel(f"{name} looks ahead; load it with is_decoder=True")


@dataclass(frozen=True)
class Request:
    """What one row wants scored.

    Attributes:
        pending: settled tokens that are not in the cache yet, at least one.
        tree: drafts below the last of them.
        attached: nodes with companions, each node once.
    """

    pending: Sequence[int]
    tree: Tree
    attached: Sequence[Attached] = ()


@dataclass(frozen=True)
class Scores:
    """What a forward found.

    Attributes:
        logits: floating[rows, 1 + nodes, V'], on the CPU: at 0 the logits after the last pending
            token, at 1 + i those after node i.  Rows with fewer nodes are padded at the end.
        hidden: floating[rows, 1 + nodes, H], the last hidden states, if they were asked for.
        companions: node -> floating[strands, count, H], the last hidden states of its companions, for each
            row.
    """

    logits: torch.Tensor
    hidden: torch.Tensor | None
    companions: Sequence[Mapping[int, torch.Tensor]] = ()
    _tops: dict[int, tuple[Any, Any]] = field(default_factory=dict, repr=False)

    def at(self, row: int, node: int) -> torch.Tensor:
        """Logits [V'] after a node, or after the last settled token for ``ROOT``."""
        return self.logits[row, node - ROOT]

    def top(self, row: int, nodes: int, count: int) -> tuple[Any, Any]:
        """The likeliest tokens at the first ``nodes`` places of a row: (ids, probabilities)."""
        count = min(count, self.logits.shape[-1])
        known = self._tops.get(row)
        if known is None or known[0].shape[1] < count:
            logits = self.logits[row, :nodes]
            logits = logits if logits.dtype == torch.float64 else logits.float()
            values, ids = logits.topk(max(count, min(_TOP, logits.shape[-1])), dim=-1)
            p = (values - logits.logsumexp(-1, keepdim=True)).exp()
            known = self._tops[row] = (ids.numpy(), p.double().numpy())
        return known[0][:, :count], known[1][:, :count]


_TOP: Final = 16


class _Behind:
    """The companions of one row: their columns behind the tree's.

    Args:
        request: the row's.
        first: the first of those columns.
        strands: side by side behind each node; 0 where there are no companions.

    Attributes:
        chains: (node, strand, columns) of companions that see each other.
    """

    def __init__(self, request: Request, first: int, strands: int) -> None:
        self.chains: list[tuple[int, int, Any]] = []
        self.columns = 0
        for one in request.attached:
            for strand in range(strands):
                begin = first + self.columns
                self.chains.append((one.node, strand, np.arange(begin, begin + one.count)))
                self.columns += one.count

    def places(self, row: int, first: int, count: int) -> torch.Tensor:
        """int64[4, c]: see :class:`Places`."""
        found = np.zeros((4, self.columns), np.int64)
        found[0] = row
        at = 0
        for node, strand, columns in self.chains:
            mine = slice(at, at + len(columns))
            found[1, mine] = columns
            found[2, mine] = first + node  # the root is in the last column before the tree
            found[3, mine] = strand * count + np.arange(len(columns))
            at += len(columns)
        return torch.from_numpy(found)

    def states(self, last: torch.Tensor) -> dict[int, torch.Tensor]:
        """Of each node, floating[strands, count, H], from the states [columns, H] of the row."""
        found: dict[int, list[torch.Tensor]] = {}
        for node, _, columns in self.chains:
            found.setdefault(node, []).append(last[columns[0] : columns[-1] + 1])
        return {node: torch.stack(each) for node, each in found.items()}


class TreeScorer:
    """A model with a cache for some rows.

    Args:
        model: a causal language model of ``transformers``.
        rows: sequences side by side.
        capacity: tokens a row has room for at first.
        keep_hidden: whether the last hidden states of what is in the cache are kept as well.  They are
            one more layer of the cache, so that they go where keys and values go.

    Raises:
        UnsupportedModel: see :func:`shape_of`.
    """

    def __init__(
        self, model: Any, rows: int = 1, capacity: int = 256, *, keep_hidden: bool = False
    ) -> None:
        self.model = model
        self._shape = shape_of(model)
        names = inspect.signature(model.forward).parameters
        self._keeps_logits = "logits_to_keep" in names
        # transformers renames past_key_values, model by model, from 5.24 on
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self.keep_hidden = keep_hidden
        self.cache = TreeCache(self._shape.layers + keep_hidden, rows, capacity)
        self._device = torch.device(getattr(model, "device", "cpu"))
        self._dtype: torch.dtype = model.dtype
        self._first = 0  # new columns before each row's first pending token
        self._starts: list[int] = []
        self._pending: list[int] = []
        self._behind: list[_Behind] = []
        self.forwards = 0

    @property
    def rows(self) -> int:
        """Sequences side by side."""
        return len(self.cache.lengths)

    def length(self, row: int) -> int:
        """Tokens of a row that were read, and stand in the cache."""
        return self.cache.lengths[row]

    def rollback(self, row: int, length: int) -> None:
        """Forgets all but the first tokens of a row."""
        self.cache.rollback(row, length)

    def fork(self, capacity: int) -> TreeScorer:
        """Another one with a copy of the first row, and no forwards yet."""
        made = TreeScorer(self.model, 1, capacity, keep_hidden=self.keep_hidden)
        made.cache = self.cache.fork(capacity)
        return made

    def fill(self, layers: Sequence[KeysAndValues], length: int) -> None:
        """Begins the single row with what is kept of its first tokens: see :meth:`TreeCache.fill`.

        Raises:
            UnsupportedModel: if the model attends by windows, or hidden states are kept, which are those of
                all tokens.
        """
        if self._shape.window is not None or self.keep_hidden:
            what = "drafters that read hidden states" if self.keep_hidden else "sliding attention"
            raise UnsupportedModel(
                f"{what} and a shortened cache do not go together; shorten the prompt instead "
                "(AskAgain), or leave one of them out"
            )
        self.cache.fill(layers, length)

    @property
    def can_share(self) -> bool:
        """Whether rows may hold what they begin with once: see :func:`~.shared_prefix.can_share`."""
        return can_share(self.model, self._shape.window)

    def share(self, capacity: int) -> None:
        """Makes what the single row holds a prefix that all rows made of it have in common.

        Nothing happens where the model's attention cannot be computed in two parts.

        Args:
            capacity: tokens a row has room for behind it at first.
        """
        if self.can_share:
            self.cache.share(capacity)

    def select(self, rows: Sequence[int]) -> None:
        """Keeps some rows; none at all is the end."""
        if rows:
            self.cache.select(rows)

    def join(self, other: TreeScorer) -> None:
        """Appends the rows of another scorer of the same model, which must not be used any more."""
        self.cache.join(other.cache)

    def hidden(self, row: int) -> torch.Tensor | None:
        """The last hidden states floating[length, H] of a row's tokens that are in the cache.

        A view where rows share no prefix, good until the next forward; ``None`` without ``keep_hidden`` or
        before the first one.
        """
        if not self.keep_hidden:
            return None
        layer: Any = self.cache.layers[-1]
        if not (layer.is_initialized or layer.prefix):
            return None
        if layer.prefix is None:
            kept: torch.Tensor = layer.keys[row, 0, : self.length(row)]
        else:
            kept = layer.kept(row, self.cache.held[row], self.cache.own(row))[0][0]
        return kept

    # -- one forward -----------------------------------------------------------------------------

    def score(
        self,
        requests: Sequence[Request],
        *,
        hidden: bool = False,
        companions: Companions | None = None,
    ) -> Scores:
        """Runs the model on every row's pending tokens and tree; keeps nothing yet.

        Args:
            requests: one a row.
            hidden: whether hidden states are wanted too; those that are kept always are.
            companions: what stands at the companion positions of requests; without it they have none.
        """
        hidden = hidden or self.keep_hidden
        pending = max(len(r.pending) for r in requests)
        nodes = max(len(r.tree) for r in requests)
        self._starts = [pending - len(r.pending) for r in requests]
        self._pending = [len(r.pending) for r in requests]
        self._first = pending
        strands = 0 if companions is None else companions.strands
        self._behind = [_Behind(r, pending + nodes, strands) for r in requests]
        behind = max(b.columns for b in self._behind)
        ids = np.zeros((len(requests), pending + nodes + behind), np.int64)
        positions = np.zeros_like(ids)
        for row, request in enumerate(requests):
            self._lay_out(row, request, ids[row], positions[row])
        keywords: dict[str, Any] = {"output_hidden_states": True} if hidden or behind else {}
        if self._keeps_logits:
            keep = torch.arange(pending - 1, pending + nodes, device=self._device)
            keywords["logits_to_keep"] = keep if behind else 1 + nodes
        keywords["input_ids"] = torch.from_numpy(ids).to(self._device)
        keywords["position_ids"] = torch.from_numpy(positions).to(self._device)
        with self._accompanied(companions if behind else None):
            out = self._forward(requests, positions, keywords)
        last = out.hidden_states[-1] if hidden or behind else None
        if last is not None and self.keep_hidden:
            self.cache.layers[-1].update(last[:, None], last[:, None, :, :0])
        at = slice(pending - 1, pending + nodes)
        logits = out.logits if out.logits.shape[1] == 1 + nodes else out.logits[:, at]
        if last is None:
            return Scores(logits.cpu(), None)
        found = [b.states(last[row]) for row, b in enumerate(self._behind)] if behind else []
        return Scores(logits.cpu(), last[:, at] if hidden else None, found)

    def _accompanied(self, companions: Companions | None) -> AbstractContextManager[None]:
        """Within, forwards have the companions of this request."""
        if companions is None:
            return nullcontext()
        found = [b.places(row, self._first, companions.count) for row, b in enumerate(self._behind)]
        rows, columns, nodes, numbers = torch.cat(found, 1).to(self._device)
        return inserting(self.model, companions, Places(rows, columns, nodes, numbers))

    def _forward(
        self, requests: Sequence[Request], positions: Any, keywords: dict[str, Any]
    ) -> Any:
        """Calls the model; where it does not attend to a shared prefix, once more without one."""
        try:
            return self._call(requests, positions, keywords)
        except PrefixNotSeen:
            refuse(self.model)
            self.cache.unshare()
            return self._call(requests, positions, keywords)

    def _call(self, requests: Sequence[Request], positions: Any, keywords: dict[str, Any]) -> Any:
        cache = self.cache
        cache.open()
        self.forwards += 1
        with torch.no_grad(), self._reading():
            return self.model(
                attention_mask=self._mask(requests, positions),
                use_cache=True,
                return_dict=True,
                **{self._cache_name: cache},
                **keywords,
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Within, the model finds the prefix that rows share, if they do."""
        cache = self.cache
        if not cache.shared:
            yield
            return
        cache.reader = PrefixReader(self._prefix_mask())
        try:
            with prefix_attention(self.model, cache.reader):
                yield
        finally:
            cache.reader = None

    def _lay_out(self, row: int, request: Request, ids: Any, positions: Any) -> None:
        start, first = self._starts[row], self._first
        length = self.length(row)
        count = len(request.pending)
        ids[start:first] = request.pending
        positions[start:first] = np.arange(length, length + count)
        for i, node in enumerate(request.tree.nodes):
            ids[first + i] = node.token
            positions[first + i] = length + count - 1 + node.depth
        for above, _, columns in self._behind[row].chains:
            begin = length + count + request.tree.depth(above)
            positions[columns] = np.arange(begin, begin + len(columns))

    def _mask(self, requests: Sequence[Request], positions: Any) -> Any:
        """Additive float [rows, 1, new, past + new], or ``None`` where the plain causal one will do.

        Columns are those behind a shared prefix, of which there is no plain one.

        On a CPU a single token gets a mask that hides nothing: without one ``transformers`` asks for
        grouped heads, which in bfloat16 takes six times as long as the packed heads it uses with one.
        """
        new = positions.shape[1]
        plain = self._shape.window is None and len(requests) == 1 and not len(requests[0].tree)
        plain = plain and not self._behind[0].columns
        alone = self.cache.longest == 0 or (new == 1 and self._device.type != "cpu")
        if plain and alone and not self.cache.shared:
            return None
        past = self.cache.longest
        seen = np.zeros((len(requests), new, past + new), bool)
        for row, request in enumerate(requests):
            self._see(row, request, seen[row], past)
        if self._shape.window is None:
            return self._additive(seen)
        near = seen & self._near(positions, past)
        if not self._shape.by_type:
            return self._additive(near)
        return {
            "full_attention": self._additive(seen),
            "sliding_attention": self._additive(near),
        }

    def _see(self, row: int, request: Request, seen: Any, past: int) -> None:
        start, first = self._starts[row], self._first
        count = len(request.tree)
        diagonal = np.arange(seen.shape[0])
        seen[diagonal, past + diagonal] = True  # padding sees itself, so that nothing is NaN
        seen[start : first + count, : self.cache.own(row)] = True
        chain = np.tril(np.ones((first - start, first - start), bool))
        seen[start:first, past + start : past + first] = chain
        seen[first : first + count, past + start : past + first] = True
        tree = seen[first : first + count, past + first : past + first + count]
        ancestors = request.tree.ancestors()
        tree |= ancestors
        for node, _, columns in self._behind[row].chains:
            seen[columns, : self.cache.own(row)] = True
            seen[columns, past + start : past + first] = True
            if node != ROOT:
                seen[columns, past + first : past + first + count] = ancestors[node]
            own = np.tril(np.ones((len(columns), len(columns)), bool))
            seen[np.ix_(columns, past + columns)] = own

    def _near(self, positions: Any, past: int) -> Any:
        """bool[rows, new, past + new]: keys within the window before a query."""
        rows, new = positions.shape
        keys = np.concatenate([np.broadcast_to(np.arange(past), (rows, past)), positions], axis=1)
        distance = positions[:, :, None] - keys[:, None, :]
        near: Any = distance < self._shape.window
        near |= np.concatenate([np.zeros((new, past), bool), np.eye(new, dtype=bool)], axis=1)
        return near

    def _prefix_mask(self) -> torch.Tensor | None:
        """Additive float [rows, 1, 1, prefix]; ``None`` where no row has gone back behind it."""
        held, shared = np.array(self.cache.held), self.cache.shared
        if (held == shared).all():
            return None
        return self._additive((np.arange(shared) < held[:, None])[:, None])

    def _additive(self, seen: Any) -> torch.Tensor:
        mask = torch.zeros(seen.shape, dtype=self._dtype)
        mask.masked_fill_(torch.from_numpy(~seen), torch.finfo(self._dtype).min)
        return mask[:, None].to(self._device)

    # -- afterwards ------------------------------------------------------------------------------

    def commit(self, paths: Sequence[Sequence[int] | None]) -> None:
        """Keeps, for each row, the pending tokens and a path of its tree; ``None`` keeps nothing."""
        kept = [
            []
            if path is None
            else [*range(start, start + count), *(self._first + node for node in path)]
            for path, start, count in zip(paths, self._starts, self._pending, strict=True)
        ]
        self.cache.keep(kept)

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token's keys and values in one row, in bytes."""
        layers = [x for x in self.cache.layers if x.is_initialized]
        if layers:
            blocks = [block for x in layers for block in (x.keys, x.values)]
            return sum(b.shape[1] * b.shape[3] * b.element_size() for b in blocks)
        config = text_config(self.model)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        numbers = 2 * self._shape.layers * heads * width
        if self.keep_hidden:
            numbers += config.hidden_size
        return int(numbers * self._dtype.itemsize)
