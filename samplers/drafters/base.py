"""What every drafter does: guess tokens, look at what became of the guesses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from samplers.speculative.choices import Choices
from samplers.speculative.law import Sampling
from samplers.speculative.target import Target
from samplers.speculative.tree import ROOT, Tree

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from samplers.speculative.companions import Companions
    from samplers.speculative.scorer import Scores, TreeScorer


@dataclass
class Context:
    """Where a row is, and the tree that drafts are added to.

    Attributes:
        row: number of the sequence within the batch.
        tokens: prompt and text so far; the last one is the tree's root.
        prompt_length: how many of them are prompt.
        tokens_left: how many more there may be, EOS included.
        target: what is sampled from; ``tree.root_state`` is its state here.
        tree: what was drafted so far, by all drafters.
        room: nodes that may still be added.
        sampling: temperature and top-p.
        choices: for drafters that draw; they must use no other source of randomness.
        tokenizer: the model's, if there is one.
        pending: the settled tokens that the model's cache does not hold yet; the root is the last.
        scorer: the model with its cache, for drafters that draft with the model itself (batches of
            one row only).
        hidden: floating[n, H], the model's last hidden states of the tokens that are in its cache, the
            prompt's among them: those before ``pending``.  Only if a drafter ``wants_hidden``, and not
            before the first forward.  A view, good until the next forward.
    """

    row: int
    tokens: Sequence[int]
    prompt_length: int
    tokens_left: int
    target: Target
    tree: Tree
    room: int
    sampling: Sampling
    choices: Choices
    tokenizer: Any = None
    pending: Sequence[int] = ()
    scorer: TreeScorer | None = None
    hidden: torch.Tensor | None = None

    @property
    def new_tokens(self) -> Sequence[int]:
        """The text so far."""
        return self.tokens[self.prompt_length :]

    def add(self, parent: int, token: int, source: str, score: float) -> int | None:
        """Drafts a token after a node (or after ``ROOT``).

        Args:
            parent: the node before it.
            token: its id.
            source: the drafter's name.
            score: how likely the drafter takes it to be right, after its parent, from 0 to 1.

        Returns:
            The node; ``None`` if there is no room, the target does not allow the token, or the
            siblings were drawn.
        """
        tree = self.tree
        known = tree.child(parent, token)
        if known is not None:
            return tree.add(parent, token, tree.state(known), source, score)
        if self.room <= 0 or tree.depth(parent) >= self.tokens_left:
            return None
        state = tree.state(parent)
        if state is None or self.target.is_finished(state):
            return None
        after = self.target.advance(state, token)
        if after is None:
            return None
        made = tree.add(parent, token, after, source, score)
        if made is not None:
            self.room -= 1
        return made

    def add_drawn(
        self, parent: int, token: int, source: str, q: npt.NDArray[np.float64]
    ) -> int | None:
        """The same for a token drawn from ``q`` without its elder siblings.

        What the target forbids is added all the same: verification counts it as a rejection.
        Nodes below it cannot be.

        Returns:
            The node; ``None`` if nothing may follow the parent, or its children are another
            drafter's: two draws are not one draw without replacement.
        """
        tree = self.tree
        state = tree.state(parent)
        if state is None or self.target.is_finished(state):
            return None
        if tree.depth(parent) >= self.tokens_left:
            return None
        siblings = tree.children(parent)
        if siblings and (
            parent not in tree.drawn or next(iter(tree.nodes[siblings[0]].scores)) != source
        ):
            return None
        made = tree.add_drawn(parent, token, self.target.advance(state, token), source, q)
        self.room -= 1
        return made

    def chain(self, parent: int, tokens: Sequence[int], source: str, score: float) -> int:
        """Drafts tokens one after another, as far as they are allowed; returns the last node."""
        for token in tokens:
            made = self.add(parent, token, source, score)
            if made is None:
                break
            parent = made
        return parent


@dataclass(frozen=True)
class Observation:
    """What a forward and its verification told.

    Attributes:
        context: as it was when the drafts were made (``tokens`` without what came since).
        tree: the tree that was scored, a part of what was drafted.
        path: its nodes that became text, from below the root.
        emitted: tokens that became text: those of the path, and the one drawn after it if any.
        states: the target's states after each of ``emitted``.
        scores: of the forward; ``logits`` and ``hidden`` read them.
        slot: the row of ``scores``.
        number: of the sample.
    """

    context: Context
    tree: Tree
    path: Sequence[int]
    emitted: Sequence[int]
    states: Sequence[Any]
    scores: Scores = field(repr=False)
    slot: int
    number: int = 0

    def logits(self, node: int) -> torch.Tensor:
        """Logits [V'] after a node of ``tree``, or after ``ROOT``; on the CPU."""
        return self.scores.at(self.slot, node)

    def hidden(self, node: int) -> torch.Tensor:
        """The last hidden state [H] there; only if the drafter ``wants_hidden``."""
        assert self.scores.hidden is not None, "no drafter asked for hidden states"
        return self.scores.hidden[self.slot, node - ROOT]

    def companions(self, node: int) -> torch.Tensor | None:
        """The last hidden states [strands, count, H] of a node's companions, if it had some."""
        found = self.scores.companions
        return found[self.slot].get(node) if found else None

    def top(self, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The likeliest tokens after the root and after each node, grammar aside.

        Returns:
            int64[1 + nodes, count], ids, likeliest first; float64 of the same shape, the model's
            probabilities.  Worked out once for all drafters.
        """
        return self.scores.top(self.slot, 1 + len(self.tree), count)

    @property
    def last_token(self) -> int:
        """The token at the root."""
        return int(self.context.tokens[-1])


class Drafter(ABC):
    """Guesses the next tokens; a wrong guess costs time and changes nothing.

    Subclasses are small: :meth:`propose` adds nodes, :meth:`observe` learns.  What they learn may
    outlive a text (that is the point), so :meth:`reset` forgets it.
    """

    name: ClassVar[str]
    """Its key in ``Sample.stats.by_drafter``."""
    runs_model: ClassVar[bool] = False
    """Whether proposing runs a neural network: then the schedule weighs its cost as well."""
    draws: ClassVar[bool] = False
    """Whether children are drawn; then it proposes before all others."""
    wants_hidden: ClassVar[bool] = False
    """Whether it needs the model's hidden states: :attr:`Context.hidden`, :meth:`Observation.hidden`."""
    one_row: ClassVar[bool] = False
    """Whether it works for batches of one row only."""
    companions: Companions | None = None
    """What it wants at companion positions of every forward, for :meth:`Observation.companions`; of one
    drafter of a backend at most."""

    def begin(self, context: Context) -> None:  # noqa: B027 - most have nothing to do
        """A new text starts in a row."""

    @abstractmethod
    def propose(self, context: Context) -> None:
        """Adds nodes to ``context.tree``."""

    def observe(self, observation: Observation) -> None:  # noqa: B027
        """Looks at what became of the drafts of all drafters."""

    def companion_gains(self) -> Sequence[float]:
        """Tokens accepted of a step thanks to the j-th companion of the last one, for j = 1, 2, ..."""
        return ()

    def reset(self) -> None:  # noqa: B027
        """Forgets all that was learned."""
