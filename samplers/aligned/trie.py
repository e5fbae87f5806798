"""What attempts have taught about a prompt: one trie under all samplers that reject.

A node is a prefix u that the model has scored.  It keeps, compactly,

* the children met so far, each with p(a | u) and a bound theta(u, a) >= Pr(valid | ua), which is the
  child's own Z once the child was scored, and 0 for a token proven invalid;
* the mass of all other tokens that are not known to be invalid (their bound is 1).

So Z(u) = residual + sum over children p theta bounds the probability that a text that begins with u is
valid.  Drawing a with p(a | u) theta(u, a) / Z(u) at known nodes, and from the raw model beyond, gives
every valid text w the probability P(w) / Z(root): what is accepted follows P given validity exactly
(Park et al. 2024, "Grammar-Aligned Decoding", section 4; Parys et al. 2025, "Constrained Adaptive
Rejection Sampling", section 3).  Within an attempt the trie does not change.

Full rows of log-probabilities are kept only for the most recent nodes: with its row a node can be left
towards a new token without asking the model.  All is within one bound on memory.  Where nodes take more
than half of it, those that the model reaches least often are forgotten: their mass counts as residual
again, which is a bound as well, so that what is accepted stays exact and only less of it is.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int64
from constrain.automaton import TokenAutomaton
from constrain.room import with_room
from samplers.speculative.choices import Choices

Row: TypeAlias = npt.NDArray[np.float32]
_T = TypeVar("_T")

MAX_BYTES: Final = 256 << 20
"""Memory of all tries of a sampler (a row of 49,152 tokens takes 197 kB)."""
_NODE_BYTES: Final = 360
_VISIT_BYTES: Final = 200


@dataclass(slots=True)
class Visit:
    """A token met after a node.

    Attributes:
        logp: the model's log-probability.
        node: its node, if it was scored; ``None`` for the end of a text and for invalid tokens.
        theta: bound on the probability that a text that goes on so is valid.
    """

    logp: float
    node: Node | None
    theta: float

    @property
    def weight(self) -> float:
        """P theta."""
        return math.exp(self.logp) * self.theta


class Node:
    """A prefix that was scored.

    Attributes:
        parent, token: the prefix without its last token, and that token.
        grammar: the automaton's state.
        left: tokens that may follow, EOS included.
        depth: tokens of the prefix.
        visits: tokens met after it.
        residual: mass of all other tokens that are not known to be invalid.
        z: bound on the mass of valid texts, given the prefix.
    """

    __slots__ = ("depth", "grammar", "left", "parent", "residual", "token", "visits", "z")

    def __init__(
        self, parent: Node | None, token: int, grammar: int, left: int, residual: float
    ) -> None:
        self.parent = parent
        self.token = token
        self.grammar = grammar
        self.left = left
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.visits: dict[int, Visit] = {}
        self.residual = residual
        self.z = residual

    def refresh(self) -> bool:
        """Works out ``z`` again; whether it changed."""
        z = self.residual + sum(v.weight for v in self.visits.values())
        changed = z != self.z
        self.z = z
        return changed

    def path(self) -> list[int]:
        """The tokens of the prefix."""
        out: list[int] = []
        node = self
        while node.parent is not None:
            out.append(node.token)
            node = node.parent
        return out[::-1]


class Place:
    """A prefix beyond the trie, met in the current attempt.

    Attributes:
        before: the place or node before its last token; ``None`` for the empty text.
        logp: of its last token, where that is known already.
        node: its node, once the attempt has been learned.
    """

    __slots__ = ("before", "depth", "grammar", "left", "logp", "node", "token")

    def __init__(
        self,
        before: Place | Node | None,
        token: int,
        grammar: int,
        left: int,
        logp: float | None = None,
    ) -> None:
        self.before = before
        self.token = token
        self.grammar = grammar
        self.left = left
        self.depth: int = 0 if before is None else before.depth + 1
        self.logp = logp
        self.node: Node | None = None


@dataclass(frozen=True)
class Edge:
    """A known node that is left towards a token not met there yet: which one is still to be drawn."""

    node: Node


@dataclass(frozen=True)
class Rejected:
    """Where a token made the text invalid."""

    before: Place | Node
    token: int


@dataclass(frozen=True)
class Walk:
    """The part of an attempt that needed no model.

    Attributes:
        tokens: drawn so far.
        state: where it leads: a place beyond the trie, an edge, the end of the text (a place in the
            automaton's state ``FINISHED``), or an invalid token.
        logprobs: of the tokens, under the model.
        drawn: log-probabilities with which they were drawn.
        share: of the choice to take an edge.
    """

    tokens: list[int]
    state: Place | Edge | Rejected
    logprobs: list[float]
    drawn: list[float]
    share: float = 0.0


class Trie:
    """See the module.

    Args:
        automaton: the grammar.
        budget: tokens of a text, EOS included: longer ones are invalid.
        masks: whether the grammar's mask is learned at every scored node (else only single invalid
            tokens are).
        max_bytes: bound on memory, which :meth:`trim` keeps; of rows at any time.
    """

    def __init__(
        self,
        automaton: TokenAutomaton,
        budget: int,
        *,
        masks: bool,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.automaton = automaton
        self.budget = budget
        self.masks = masks
        self.root: Node | None = None
        self.size = 0
        self.max_bytes = max_bytes
        self._visits = 0
        self._rows: OrderedDict[Node, Row] = OrderedDict()
        self._row_bytes = 0
        self._allowed: OrderedDict[tuple[int, int], Int64] = OrderedDict()
        self._allowed_bytes = 0

    # -- the grammar ---------------------------------------------------------------------------

    def allowed(self, place: Place | Node) -> Int64:
        """The tokens that leave a text that can be completed within the budget, ascending."""
        known = self._known_allowed(place.grammar, place.left)
        if known is not None:
            return known
        left = place.left
        return self._asked(place, lambda state: self._find_allowed(state, left))

    def allowed_at(self, grammar: int, tokens: Sequence[int]) -> Int64:
        """The same by the tokens of a text and the automaton's state behind them."""
        left = self.budget - len(tokens)
        known = self._known_allowed(grammar, left)
        if known is not None:
            return known
        return with_room(
            self.automaton, grammar, lambda: tokens, lambda state: self._find_allowed(state, left)
        )[0]

    def _known_allowed(self, grammar: int, left: int) -> Int64 | None:
        known = self._allowed.get((grammar, left))
        if known is not None:
            self._allowed.move_to_end((grammar, left))
        return known

    def _find_allowed(self, grammar: int, left: int) -> Int64:
        known = self.automaton.allowed_tokens(grammar, left)
        if (grammar, left) in self._allowed:  # under this integer, for a state found again
            return known
        self._allowed[grammar, left] = known
        self._allowed_bytes += known.nbytes
        while self._allowed_bytes > self.max_bytes // _MASKS_SHARE and len(self._allowed) > 1:
            _, old = self._allowed.popitem(last=False)
            self._allowed_bytes -= old.nbytes
        return known

    def is_allowed(self, place: Place | Node, token: int) -> bool:
        """Whether one token is among them."""
        row = self._asked(place, lambda state: self.automaton.mask(state, place.left))
        return 0 <= token < 32 * len(row) and bool(row[token >> 5] >> (token & 31) & 1)

    def start(self) -> Place:
        """The empty text."""
        return Place(None, -1, self.automaton.start, self.budget)

    def after(self, before: Place | Node, token: int, logp: float | None = None) -> Place:
        """The place after an allowed token."""
        return Place(before, token, self.grammar_after(before, token), before.left - 1, logp)

    def grammar_after(self, before: Place | Node, token: int) -> int:
        """The automaton's state after an allowed token."""
        return self._asked(before, lambda state: self.automaton.advance(state, token))

    def grammar_at(self, place: Place | Node) -> int:
        """The automaton's state at a place, which is good now."""
        self._asked(place, self.automaton.is_accepting)
        return place.grammar

    def _asked(self, place: Place | Node, ask: Callable[[int], _T]) -> _T:
        """What the automaton says of a place, found again if it was forgotten."""
        out, place.grammar = with_room(
            self.automaton, place.grammar, lambda: _tokens_to(place), ask
        )
        return out

    # -- drawing -------------------------------------------------------------------------------

    def walk(self, choices: Choices) -> Walk:
        """Draws tokens as far as the trie alone can tell their law.

        Raises:
            ValueError: if everything that can be drawn is known to be invalid.
        """
        tokens: list[int] = []
        logprobs: list[float] = []
        drawn: list[float] = []
        node = self.root
        if node is None:
            return Walk([], self.start(), [], [])
        while True:
            if node.z <= 0:
                raise ValueError("no text of this grammar has any probability for this prompt")
            visits = list(node.visits.items())
            weights = np.array([v.weight for _, v in visits] + [node.residual])
            at = choices.pick(weights)
            share = math.log(weights[at] / weights.sum())
            if at == len(visits):
                return self._leave(
                    node, Walk(tokens, self.start(), logprobs, drawn, share), choices
                )
            token, visit = visits[at]
            tokens.append(token)
            logprobs.append(visit.logp)
            drawn.append(share)
            if visit.node is None:
                return Walk(tokens, self.after(node, token), logprobs, drawn)
            node = visit.node

    def _leave(self, node: Node, walk: Walk, choices: Choices) -> Walk:
        """Towards a token that was not met after a node yet."""
        row = self._rows.get(node)
        if row is None:
            return replace(walk, state=Edge(node))
        self._rows.move_to_end(node)
        ids = self.others(node)
        p = np.exp(row[ids].astype(np.float64))
        at = choices.pick(p)
        token, logp = int(ids[at]), float(row[ids[at]])
        allowed = self.is_allowed(node, token)
        return Walk(
            [*walk.tokens, token],
            self.after(node, token, logp) if allowed else Rejected(node, token),
            [*walk.logprobs, logp],
            [*walk.drawn, walk.share + math.log(p[at] / p.sum())],
        )

    def others(self, node: Node) -> Int64:
        """Tokens not met after a node that are not known to be invalid."""
        ids = self.allowed(node) if self.masks else np.arange(self.automaton.vocabulary.size)
        return np.setdiff1d(ids, np.fromiter(node.visits, np.int64, len(node.visits)))

    # -- learning ------------------------------------------------------------------------------

    def absorb(
        self, scored: Iterable[tuple[Place | Edge, Row]], failed: Iterable[Rejected] = ()
    ) -> None:
        """Learns what attempts have shown; between attempts only.

        Args:
            scored: places and their rows float32[V] of log-probabilities.
            failed: invalid tokens that were drawn.
        """
        changed: dict[int, set[Node]] = {}
        for place, row in sorted(scored, key=lambda item: _depth(item[0])):
            for node in self._learn(place, row):
                changed.setdefault(node.depth, set()).add(node)
        if not self.masks:
            for rejected in failed:
                found = self._ban(rejected)
                if found is not None:
                    changed.setdefault(found.depth, set()).add(found)
        self._spread(changed)

    def _ban(self, rejected: Rejected) -> Node | None:
        """Bounds one invalid token by 0; the node it came after, if that changed."""
        before = rejected.before
        node = before if isinstance(before, Node) else before.node
        row = self._rows.get(node) if node is not None else None
        if node is None or row is None or rejected.token in node.visits:
            return None
        self._meet(node, rejected.token, Visit(float(row[rejected.token]), None, 0.0))
        return node

    def _learn(self, place: Place | Edge, row: Row) -> Iterator[Node]:
        if isinstance(place, Edge):
            self._keep_row(place.node, row)
            return
        node = self._find(place)
        if node is None:
            return
        place.node = node
        if node in self._rows:
            return
        self._keep_row(node, row)
        yield node
        if node.parent is not None:
            yield node.parent

    def _find(self, place: Place) -> Node | None:
        """The node of a place, made if it is new; ``None`` if the place before it has none."""
        if place.before is None:
            if self.root is None:
                self.root = self._make(None, place)
            return self.root
        parent = place.before if isinstance(place.before, Node) else place.before.node
        if parent is None:
            return None
        visit = parent.visits.get(place.token)
        if visit is not None and visit.node is not None:
            return visit.node
        if place.logp is None:
            row = self._rows.get(parent)
            if row is None:
                return None
            place.logp = float(row[place.token])
        node = self._make(parent, place)
        self._meet(parent, place.token, Visit(place.logp, node, 1.0))
        return node

    def _make(self, parent: Node | None, place: Place) -> Node:
        self.size += 1
        return Node(parent, place.token, place.grammar, place.left, 1.0)

    def _meet(self, parent: Node, token: int, visit: Visit) -> None:
        """Takes a token out of the residual."""
        known = parent.visits.get(token)
        parent.visits[token] = visit
        if known is None:
            self._visits += 1
            parent.residual = max(parent.residual - math.exp(visit.logp), 0.0)

    def finish(self, place: Place) -> None:
        """A text ended there: its EOS is met, so that drawing it again needs no model."""
        before = place.before
        node = before.node if isinstance(before, Place) else before
        row = self._rows.get(node) if node is not None else None
        if node is None or row is None or place.token in node.visits:
            return
        self._meet(node, place.token, Visit(float(row[place.token]), None, 1.0))
        self._spread({node.depth: {node}})

    def _keep_row(self, node: Node, row: Row) -> None:
        self._rows[node] = row
        self._rows.move_to_end(node)
        self._row_bytes += row.nbytes
        self._settle(node)
        self._drop_rows_beyond(self.max_bytes, 1)

    def _settle(self, node: Node) -> None:
        """The residual, exactly, where the row is at hand."""
        row = self._rows.get(node)
        if row is None:
            return
        ids = self.others(node)
        node.residual = float(np.exp(row[ids].astype(np.float64)).sum()) if len(ids) else 0.0

    def _spread(self, changed: dict[int, set[Node]]) -> None:
        """New bounds go up to the root, once for each node."""
        while changed:
            depth = max(changed)
            for node in changed.pop(depth):
                self._settle(node)
                node.refresh()
                parent = node.parent
                if parent is None:
                    continue
                visit = parent.visits[node.token]
                if visit.theta != node.z:
                    visit.theta = min(visit.theta, node.z)
                    changed.setdefault(parent.depth, set()).add(parent)

    # -- memory --------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Memory, in bytes: rows and lists of tokens exactly, nodes and visits by estimate."""
        return self._row_bytes + self._allowed_bytes + self._node_bytes

    @property
    def _node_bytes(self) -> int:
        return _NODE_BYTES * self.size + _VISIT_BYTES * self._visits

    def drop_rows(self) -> None:
        """Forgets rows and lists of tokens, which the model and the grammar can tell again."""
        self._drop_rows_beyond(0, 0)
        self._allowed.clear()
        self._allowed_bytes = 0

    def trim(self, max_bytes: int) -> None:
        """Brings memory within a bound, between attempts only; the root always stays."""
        while self._node_bytes > max_bytes // 2 and self.size > 1:
            self._forget()
        if self.nbytes > max_bytes:
            self._drop_rows_beyond(max(max_bytes - self._node_bytes - self._allowed_bytes, 0), 0)
        if self.nbytes > max_bytes:
            self.drop_rows()

    def recount(self) -> None:
        """Counts nodes and visits, where they were not made here."""
        nodes = list(self.nodes())
        self.size = len(nodes)
        self._visits = sum(len(node.visits) for node in nodes)

    def _drop_rows_beyond(self, max_bytes: int, least: int) -> None:
        while self._row_bytes > max_bytes and len(self._rows) > least:
            _, old = self._rows.popitem(last=False)
            self._row_bytes -= old.nbytes

    def _forget(self) -> None:
        """Forgets the half of the nodes that the model reaches least often.

        A node is reached no more often than its parent, so that whole subtrees go.
        """
        assert self.root is not None
        reach: dict[Node, float] = {}
        for node in self.nodes():
            parent = node.parent
            if parent is not None:
                reach[node] = reach.get(parent, 0.0) + parent.visits[node.token].logp
        least = float(np.median(list(reach.values())))
        kept = [n for n in self.nodes() if n is self.root or reach[n] > least]
        for node in self._rows.keys() - set(kept):
            self._row_bytes -= self._rows.pop(node).nbytes
        for node in reversed(kept):  # children come before their parents
            gone = [
                token
                for token, visit in node.visits.items()
                if visit.node is not None and reach[visit.node] <= least
            ]
            for token in gone:
                node.residual += math.exp(node.visits.pop(token).logp)
            self._settle(node)
            node.refresh()
            if node.parent is not None:
                node.parent.visits[node.token].theta = node.z
        self.recount()

    def nodes(self) -> Iterator[Node]:
        """All nodes, parents first."""
        stack = [self.root] if self.root is not None else []
        while stack:
            node = stack.pop()
            yield node
            stack.extend(v.node for v in node.visits.values() if v.node is not None)

    def law(self) -> dict[tuple[int, ...], float]:
        """Texts that the trie knows completely, with the probability of drawing each of them next.

        For languages that can be enumerated; what it leaves out has not been met yet.
        """
        out: dict[tuple[int, ...], float] = {}
        if self.root is None:
            return out
        stack: list[tuple[Node, tuple[int, ...], float]] = [(self.root, (), 1.0)]
        while stack:
            node, tokens, p = stack.pop()
            for token, visit in node.visits.items():
                chance = p * visit.weight / node.z if node.z > 0 else 0.0
                if visit.node is not None:
                    stack.append((visit.node, (*tokens, token), chance))
                elif visit.theta > 0:
                    out[(*tokens, token)] = chance
        return out


_MASKS_SHARE: Final = 8
"""Lists of allowed tokens take one part in so many of the memory."""


def _tokens_to(place: Place | Node) -> list[int]:
    """The tokens of a place, or of a node."""
    out: list[int] = []
    at: Place | Node | None = place
    while isinstance(at, Place) and at.before is not None:
        out.append(at.token)
        at = at.before
    return [*(at.path() if isinstance(at, Node) else ()), *reversed(out)]


def _depth(place: Place | Edge) -> int:
    return place.node.depth if isinstance(place, Edge) else place.depth


def row_of(logits: Any, temperature: float) -> Row:
    """float32[V]: the model's log-probabilities at a temperature, from its logits (a CPU tensor)."""
    import torch

    wide = logits if logits.dtype == torch.float64 else logits.float()
    if temperature != 1.0:
        wide = wide / temperature
    out: Row = torch.log_softmax(wide, -1).float().numpy()
    return out
