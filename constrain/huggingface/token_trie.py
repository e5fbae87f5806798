"""Token texts behind one prompt as a trie, and the model's logits at its nodes.

Texts that begin alike share their nodes, so that each beginning is scored once.  The forwards here
are plain ones, for any causal model: rows side by side over copies of the prompt's cache.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import torch

from constrain.huggingface.writing import device_of

ROOT: Final = 0
MAX_ROW_TOKENS: Final = 1 << 13
"""Tokens, the prompt's copies included, that rows side by side may have."""
_CROPPABLE: Final = {"DynamicLayer", "DynamicSlidingWindowLayer"}


class TokenTrie:
    """Texts of token ids as a tree; parents come before children.

    Attributes:
        tokens: the token of each node; that of the root, which is the end of the prompt, is -1.
        parents: the node before each; that of the root is itself.
        children: of each node, by token.
        is_end: whether a text ends at a node.
    """

    def __init__(self) -> None:
        self.tokens = [-1]
        self.parents = [ROOT]
        self.children: list[dict[int, int]] = [{}]
        self.is_end = [False]

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, text: Sequence[int]) -> int:
        """The node at which a text ends, which may be there already."""
        node = ROOT
        for token in text:
            after = self.children[node].get(token)
            if after is None:
                after = self.children[node][token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.children.append({})
                self.is_end.append(False)
            node = after
        self.is_end[node] = True
        return node

    def path(self, node: int) -> list[int]:
        """The nodes from below the root down to one, itself included; of the root none."""
        out: list[int] = []
        while node != ROOT:
            out.append(node)
            node = self.parents[node]
        return out[::-1]

    def paths_to(self, wanted: Sequence[int]) -> list[list[int]]:
        """Paths that together have all wanted nodes but the root; those that begin alike stand together.

        Args:
            wanted: nodes.
        """
        below = set(wanted)
        for node in sorted(below, reverse=True):
            while node != ROOT and (node := self.parents[node]) not in below:
                below.add(node)
        paths: list[list[int]] = []
        stack = [ROOT]
        while stack:
            node = stack.pop()
            onward = [child for child in self.children[node].values() if child in below]
            if not onward and node != ROOT:
                paths.append(self.path(node))
            stack += reversed(onward)
        return paths


class NodeLogits(Protocol):
    """Scores a trie: yields each wanted node once, with the model's logits [V'] behind it, on the CPU."""

    def __call__(
        self, model: Any, prompt: Sequence[int], trie: TokenTrie, wanted: Sequence[int]
    ) -> Iterator[tuple[int, torch.Tensor]]: ...


def logits_in_rows(
    model: Any, prompt: Sequence[int], trie: TokenTrie, wanted: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Logits behind the nodes of a trie, by plain forwards: a row for each longest text.

    The prompt is read once, where the model's cache can be copied, else in each row.

    Args:
        model: a causal language model of ``transformers``.
        prompt: at least one token id.
        trie: the texts behind it.
        wanted: the nodes whose logits are asked for.
    """
    first, cache = _read(model, prompt)
    left = set(wanted)
    if ROOT in left:
        left.discard(ROOT)
        yield ROOT, first
    paths = trie.paths_to(sorted(left))
    while paths:
        count = _rows_that_fit(paths, len(prompt))
        some, paths = paths[:count], paths[count:]
        logits = _forward(model, prompt, [[trie.tokens[n] for n in p] for p in some], cache)
        for row, path in enumerate(some):
            for place, node in enumerate(path):
                if node in left:
                    left.discard(node)
                    yield node, logits[row, place].cpu()


def _read(model: Any, prompt: Sequence[int]) -> tuple[torch.Tensor, Any]:
    """Logits behind the prompt, and its cache if that can be copied."""
    ids = torch.tensor([list(prompt)], device=device_of(model))
    takes = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=True, **options)
    cache = getattr(out, _cache_name(model), None)
    layers = getattr(cache, "layers", ())
    copies = bool(layers) and all(type(layer).__name__ in _CROPPABLE for layer in layers)
    return out.logits[0, -1].cpu(), cache if copies else None


def _cache_name(model: Any) -> str:
    """``transformers`` renames ``past_key_values``, model by model, from 5.24 on."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _rows_that_fit(paths: Sequence[Sequence[int]], prompt: int) -> int:
    """How many of the first paths go into one forward, at least one; rows are as long as the longest."""
    longest = 0
    for count, path in enumerate(paths):
        longest = max(longest, len(path))
        if count and (count + 1) * (prompt + longest) > MAX_ROW_TOKENS:
            return count
    return len(paths)


def _forward(model: Any, prompt: Sequence[int], rows: Sequence[Sequence[int]], cache: Any) -> Any:
    """Logits [rows, longest, V'] behind each token of rows behind the prompt; padded at the end."""
    before = [] if cache is not None else list(prompt)
    longest = max(map(len, rows))
    padded = [[*before, *row, *[row[-1]] * (longest - len(row))] for row in rows]
    ids = torch.tensor(padded, device=device_of(model))
    past = len(prompt) if cache is not None else 0
    # padding stands at the end, where nothing that counts looks at it
    options: dict[str, Any] = {"attention_mask": ids.new_ones(len(rows), past + ids.shape[1])}
    if cache is not None:
        own = copy.deepcopy(cache)
        own.batch_repeat_interleave(len(rows))
        options |= {_cache_name(model): own, "use_cache": True}
    with torch.no_grad():
        return model(input_ids=ids, return_dict=True, **options).logits[:, len(before) :]
