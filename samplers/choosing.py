"""``choose`` with whole tries of tokens in one forward."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import torch

from constrain.huggingface.choosing import Chances
from constrain.huggingface.choosing import choose as _choose
from constrain.huggingface.loading import loaded
from constrain.huggingface.prompts import Messages
from constrain.huggingface.token_trie import ROOT, TokenTrie
from constrain.models import text_config
from samplers.speculative import tree as drafts
from samplers.speculative.scorer import Request, TreeScorer, UnsupportedModel

_Choice = TypeVar("_Choice", bound=Hashable)

MAX_NODES: Final = 1024
"""Tokens of a trie in one forward: what attends to what is a square of them."""
_LONG_PROMPT: Final = 1024
_MAX_LOGITS: Final = 1 << 26
"""Numbers that a forward may give back: fewer nodes where vocabularies are large."""


def choose(
    model: Any,
    tokenizer: Any,
    prompt: str | Sequence[int] | Messages,
    choices: Iterable[_Choice],
    *,
    ends: bool = True,
) -> Chances[_Choice]:
    """The probability distribution of a model over some choices, exact: scored, not sampled.

    That of :func:`constrain.choose`, in fewer forwards: a thousand choices of one to four tokens take
    two or three, the prompt included.  A model that cannot be given a tree of tokens is given rows.

    Args:
        model: a causal language model of ``transformers``, or the name of one, which is loaded once.
        tokenizer: its tokenizer; ``None`` with a name.
        prompt: text, token ids or chat messages.
        choices: texts, numbers, booleans, ``None``, members of an enumeration.
        ends: whether the end counts; else that the model's text begins with a choice.

    Raises:
        TypeError, ValueError, BudgetError: as :func:`constrain.choose` does.
    """
    model, tokenizer = loaded(model, tokenizer, "choose")
    try:
        TreeScorer(model)
    except UnsupportedModel:
        return _choose(model, tokenizer, prompt, choices, ends=ends)
    return _choose(model, tokenizer, prompt, choices, ends=ends, logits=logits_in_trees)


def logits_in_trees(
    model: Any, prompt: Sequence[int], trie: TokenTrie, wanted: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Logits behind the nodes of a trie: as many nodes in one forward as :data:`MAX_NODES` says.

    Args:
        model: a causal language model whose attention takes a mask of four dimensions.
        prompt: at least one token id.
        trie: the texts behind it.
        wanted: the nodes whose logits are asked for.

    Raises:
        UnsupportedModel: if the model cannot be given a tree.
    """
    size = int(getattr(text_config(model), "vocab_size", 1))
    most = max(1, min(MAX_NODES, _MAX_LOGITS // size))
    parts = list(_parts(trie, wanted, most)) or [[]]
    scorer = TreeScorer(model, 1, len(prompt) + max(map(len, parts)))
    pending = list(prompt)
    # several forwards read the prompt once; a long one is read first, as masks grow with their square
    if (len(parts) > 1 or len(pending) >= _LONG_PROMPT) and len(pending) > 1:
        scorer.score([Request(pending[:-1], drafts.Tree(None))])
        scorer.commit([[]])
        pending = pending[-1:]
    left = set(wanted)
    for part in parts:
        places = _places(trie, part)
        scores = scorer.score([Request(pending, places[0])])
        for node, place in {ROOT: drafts.ROOT, **places[1]}.items():
            if node in left:
                left.discard(node)
                yield node, scores.at(0, place)


def _parts(trie: TokenTrie, wanted: Sequence[int], most: int) -> Iterator[list[int]]:
    """Nodes for each forward, their ancestors included and before them; about ``most`` each."""
    part: dict[int, None] = {}
    for path in trie.paths_to([node for node in wanted if node != ROOT]):
        if part and len(part) + sum(node not in part for node in path) > most:
            yield list(part)
            part = {}
        part |= dict.fromkeys(path)
    if part:
        yield list(part)


def _places(trie: TokenTrie, part: Sequence[int]) -> tuple[drafts.Tree, dict[int, int]]:
    """The nodes as a tree of drafts, and where each of them is in it."""
    made = drafts.Tree(None)
    places = {ROOT: drafts.ROOT}
    for node in part:
        place = made.add(places[trie.parents[node]], trie.tokens[node], None, "choice", 1.0)
        assert place is not None
        places[node] = place
    return made, places
