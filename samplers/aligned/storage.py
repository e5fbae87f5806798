"""A trie as a safetensors file: what attempts taught outlives the process.

Rows of log-probabilities are not stored (they are most of the memory and quickly worked out again):
bounds, probabilities and residuals are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from constrain.automaton import TokenAutomaton
from grammars.errors import GrammaError
from samplers.aligned.trie import Node, Trie, Visit
from samplers.tensor_files import TensorFileError, read_tensors, said, write_tensors

_FORMAT: Final = "gramma trie 1"
_CALLED: Final = "a trie of gramma"
_SLACK: Final = 1e-3
"""By which probabilities may be above 1, which are sums of float32."""


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
    children = [-1 if v.node is None else number[id(v.node)] for _, _, v in visits]
    columns = {
        "residual": torch.tensor([node.residual for node in nodes], dtype=torch.float64),
        "before": torch.tensor([i for i, _, _ in visits], dtype=torch.int64),
        "token": torch.tensor([t for _, t, _ in visits], dtype=torch.int64),
        "logp": torch.tensor([v.logp for _, _, v in visits], dtype=torch.float64),
        "theta": torch.tensor([v.theta for _, _, v in visits], dtype=torch.float64),
        "node": torch.tensor(children, dtype=torch.int64),
    }
    header = {"of": json.dumps(_identity(trie, about), sort_keys=True)}
    write_tensors(path, _FORMAT, columns, header)


def load_trie(
    path: str | Path, automaton: TokenAutomaton, budget: int, masks: bool, about: dict[str, Any]
) -> Trie:
    """Reads a trie.

    Raises:
        TrieMismatch: if it is of something else.
        OSError: if the file cannot be read.
    """
    trie = Trie(automaton, budget, masks=masks)
    try:
        columns, header = read_tensors(path, _FORMAT, _CALLED, ("of",))
        _check(path, said(header, "of", path, _CALLED), _identity(trie, about))
        _grow(trie, columns)
    except TrieMismatch:
        raise
    except (ArithmeticError, KeyError, IndexError, TypeError, ValueError) as error:
        known = isinstance(error, TensorFileError)
        raise TrieMismatch(str(error) if known else f"{path} is damaged: {error}") from None
    trie.recount()
    for node in reversed(list(trie.nodes())):
        node.refresh()
    return trie


def _grow(trie: Trie, columns: Mapping[str, torch.Tensor]) -> None:
    """Puts stored nodes into an empty trie.

    Raises:
        ValueError, KeyError, IndexError, TypeError: if they are no trie of its grammar.
    """
    if any(column.ndim != 1 for column in columns.values()):
        raise ValueError("its columns have other shapes")
    for name in ("residual", "theta"):
        _check_shares(name, columns[name])
    if not bool((columns["logp"] <= _SLACK).all()):
        raise ValueError("probabilities above 1")
    residuals = columns["residual"].tolist()
    if not residuals:
        return
    nodes: list[Node | None] = [None] * len(residuals)
    place = trie.start()
    trie.root = nodes[0] = Node(None, -1, place.grammar, place.left, residuals[0])
    rows = [columns[name].tolist() for name in ("before", "token", "logp", "theta", "node")]
    for before, token, logp, theta, child in zip(*rows, strict=True):
        parent = nodes[before] if before >= 0 else None
        if parent is None:
            raise ValueError("a node comes before its parent")
        state = trie.grammar_after(parent, token)
        node = None
        if child >= 0:
            if nodes[child] is not None or state in _ENDS or parent.left < 2:
                raise ValueError("a node is in two places, or where no text goes on")
            node = nodes[child] = Node(parent, token, state, parent.left - 1, residuals[child])
        elif theta > 0 and state != TokenAutomaton.FINISHED:
            raise ValueError("a token that ends no text is said to")
        if token in parent.visits:
            raise ValueError("a token comes twice after a node")
        parent.visits[token] = Visit(logp, node, theta)


_ENDS: Final = (TokenAutomaton.DEAD, TokenAutomaton.FINISHED)


def _check_shares(name: str, column: torch.Tensor) -> None:
    # A NaN makes every comparison false, so this is put as what must hold.
    if not bool(((column >= 0) & (column <= 1 + _SLACK)).all()):
        raise ValueError(f"{name} is no probability")


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


def _check(path: str | Path, found: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    here = json.loads(json.dumps(here))  # as it is written
    other = sorted(key for key in found.keys() | here.keys() if found.get(key) != here.get(key))
    if other:
        raise TrieMismatch(
            f"{path}: the trie was learned with another {', '.join(other)}; use it with what it was "
            "learned with"
        )
