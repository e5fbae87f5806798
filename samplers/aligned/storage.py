"""A trie as a safetensors file: what attempts taught outlives the process.

Rows of log-probabilities are not stored (they are most of the memory and quickly worked out again):
bounds, probabilities and residuals are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file, save_file

from constrain.automaton import TokenAutomaton
from grammars.errors import GrammaError
from samplers.aligned.trie import Node, Trie, Visit

_FORMAT: Final = "gramma trie 1"


class TrieMismatch(GrammaError, ValueError):  # noqa: N818 - the name says it
    """A stored trie is of another grammar, vocabulary, prompt or method, or no trie at all."""


def save_trie(trie: Trie, path: str | Path, about: dict[str, Any]) -> None:
    """Writes a trie.

    Args:
        trie: to be written.
        path: of the file.
        about: what it is of (prompt, temperature, ...); must be the same when it is read.
    """
    nodes = list(trie.nodes())
    number = {id(node): i for i, node in enumerate(nodes)}
    visits = [(i, t, v) for i, node in enumerate(nodes) for t, v in node.visits.items()]
    arrays = {
        "residual": np.array([node.residual for node in nodes], np.float64),
        "before": np.array([i for i, _, _ in visits], np.int64),
        "token": np.array([t for _, t, _ in visits], np.int64),
        "logp": np.array([v.logp for _, _, v in visits], np.float64),
        "theta": np.array([v.theta for _, _, v in visits], np.float64),
        "node": np.array([-1 if v.node is None else number[id(v.node)] for _, _, v in visits]),
    }
    header = {"format": _FORMAT, "of": json.dumps(_identity(trie, about), sort_keys=True)}
    save_file(arrays, str(path), metadata=header)


def load_trie(
    path: str | Path, automaton: TokenAutomaton, budget: int, masks: bool, about: dict[str, Any]
) -> Trie:
    """Reads a trie.

    Raises:
        TrieMismatch: if it is of something else.
        OSError: if the file cannot be read.
    """
    trie = Trie(automaton, budget, masks=masks)
    _check(path, json.dumps(_identity(trie, about), sort_keys=True))
    arrays = load_file(str(path))
    residuals = arrays["residual"].tolist()
    if not residuals:
        return trie
    nodes: list[Node | None] = [None] * len(residuals)
    place = trie.start()
    trie.root = nodes[0] = Node(None, -1, place.grammar, place.left, residuals[0])
    columns = [arrays[name].tolist() for name in ("before", "token", "logp", "theta", "node")]
    for before, token, logp, theta, child in zip(*columns, strict=True):
        parent = nodes[before]
        if parent is None:
            raise TrieMismatch(f"{path}: a node comes before its parent; the file is damaged")
        node = None
        if child >= 0:
            state = automaton.advance(parent.grammar, token)
            node = Node(parent, token, state, parent.left - 1, residuals[child])
            nodes[child] = node
        parent.visits[token] = Visit(logp, node, theta)
    trie.recount()
    for node in reversed(list(trie.nodes())):
        node.refresh()
    return trie


def _identity(trie: Trie, about: dict[str, Any]) -> dict[str, Any]:
    automaton = trie.automaton
    # not said of others: files of before know nothing of it
    written = {"way of writing": "canonical"} if automaton.is_canonical else {}
    return {
        "grammar": automaton.grammar.digest,
        "vocabulary": automaton.vocabulary.digest,
        "budget": trie.budget,
        "masks": trie.masks,
        **written,
        **about,
    }


def _check(path: str | Path, wanted: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise TrieMismatch(f"{path}: no trie of gramma ({error})") from None
    if header.get("format") != _FORMAT:
        raise TrieMismatch(f"{path}: no trie of gramma")
    found, here = json.loads(header["of"]), json.loads(wanted)
    other = sorted(key for key in here | found if found.get(key) != here.get(key))
    if other:
        raise TrieMismatch(
            f"{path}: the trie was learned with another {', '.join(other)}; use it with what it was "
            "learned with"
        )
