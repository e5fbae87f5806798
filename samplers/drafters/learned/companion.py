"""Drafters that let the model itself guess several tokens, at companion positions.

While a tree is scored, companions stand behind its likeliest ends (:mod:`samplers.speculative.companions`).
Where the text does go on from such a node, one token is drawn after it, and the last hidden state of its
j-th companion is what the model guesses the j-th token after that one with.  So the next tree costs no
forward of its own, only the positions of its companions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import torch

from constrain.arguments import check_count
from constrain.models import text_config
from samplers.drafters.base import Context, Observation
from samplers.drafters.draft_model import columns
from samplers.drafters.learned.base import Lesson
from samplers.drafters.learned.growing import Growth, grow
from samplers.drafters.learned.insertion import Insertion, Lined
from samplers.drafters.learned.networks import NetworkDrafter, SmallNetwork, vocabulary_of
from samplers.drafters.learned.training import Clock, Training, bar_of, lessons_of, run, split
from samplers.speculative.tree import ROOT

MOST: Final = 1_024
"""Companion positions of one row in one forward, at most."""
RANKS: Final = 8
"""Guesses of one companion whose acceptance is measured apart."""
_PRIOR: Final = 8.0
"""Steps that the acceptance on held-out texts counts for beside the steps of a text."""
_FADE: Final = 0.99
"""Weight of old steps, each time a new one comes."""
_UNKNOWN: Final = 0.5
"""Acceptance of a guess, given those before it, where none was measured."""


class CompanionNetwork(SmallNetwork):
    """What is put into the model at companion positions, as a module.

    Args:
        model: the base model; it is never trained.
        ids: the shortened vocabulary.
        count: m, companions one behind the other.
        strands: rows of them side by side, whose guesses are averaged.
        most: companion positions of one row in one forward.

    Attributes:
        accepted: float32[m, RANKS], how often the j-th companion's r-th guess came true on held-out
            texts; zeros if that was not measured.

    Raises:
        ValueError: if a number is not positive, or ``most`` is more than ``MOST``.
        TypeError: if one is no whole number.
    """

    accepted: torch.Tensor

    def __init__(
        self, model: Any, ids: torch.Tensor | None, count: int, strands: int, most: int
    ) -> None:
        super().__init__(model, ids)
        for name, value in {"count": count, "strands": strands, "most": most}.items():
            check_count(value, name)
        if most > MOST:
            raise ValueError(f"most={most}: at most {MOST:,} positions have companions")
        self.count, self.strands, self.most = count, strands, most
        self.register_buffer("accepted", torch.zeros(count, RANKS))

    @property
    @abstractmethod
    def layers(self) -> Sequence[int]:
        """See :class:`~samplers.speculative.companions.Companions`."""

    @abstractmethod
    def at(
        self, layer: int, nodes: torch.Tensor, own: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """See :class:`~samplers.speculative.companions.Companions`."""

    def joined(self, states: torch.Tensor) -> torch.Tensor:
        """States float32[..., places, H] of states [..., strands, places, H] of companions.

        The output embedding is linear, so that their mean has the mean of their logits.
        """
        return states.float().mean(-3)


@dataclass(frozen=True)
class _Kept:
    """The last hidden states [places, H] of the companions at the end of a row's text."""

    tokens: list[int]
    states: torch.Tensor


class CompanionDrafter(NetworkDrafter):
    """Drafts what the model guessed at companion positions in the forward before.

    Args:
        network: trained, or not.
        growth: how far trees grow.

    Attributes:
        report: of the training; empty if loaded.

    How many companions there are and behind which nodes is chosen at each step, for the machine: those whose
    tokens are worth the time of their positions.  Tokens: the acceptance on held-out texts by distance and
    rank, then that of this drafter's own guesses.  Time: that of forwards by their size, as measured.
    """

    runs_model: ClassVar[bool] = False
    wants_hidden: ClassVar[bool] = False
    networks: ClassVar[type[CompanionNetwork]]

    def __init__(self, network: CompanionNetwork, *, growth: Growth | None = None) -> None:
        super().__init__(network, growth=growth or Growth(depth=network.count, least=0.1))
        self.companions = network
        self.reset()

    def reset(self) -> None:
        """Forgets rows and their acceptance; what was trained stays."""
        self._kept: dict[int, _Kept] = {}
        self._levels: dict[int, int] = {}
        self._hits = [0.0] * self.network.count
        self._trials = [0.0] * self.network.count

    # -- drafting --------------------------------------------------------------------------------

    def propose(self, context: Context) -> None:
        """Drafts, if the text's last token was drawn after a node that had companions."""
        kept = self._kept.get(context.row)
        if kept is None or kept.tokens != list(context.tokens):
            self._levels[context.row] = 0
            return
        self._levels[context.row] = len(kept.states)
        with torch.no_grad():
            self.draft(context, kept.states)

    def draft(self, context: Context, hidden: torch.Tensor) -> None:
        """Grows a tree; nodes of a level have the same guesses, as far as the target allows them.

        Args:
            context: where the row is.
            hidden: float32[places, H], states of the companions, the nearest first.
        """
        depth = min(self.growth.depth, len(hidden))
        growth = Growth(depth, self.growth.width, self.growth.children, self.growth.least)

        def after(nodes: Sequence[int]) -> torch.Tensor:
            return hidden[context.tree.depth(nodes[0])].expand(len(nodes), -1)

        grow(context, after, self.network.output, growth, self.name)

    def observe(self, observation: Observation) -> None:
        """Keeps the states of the companions where the text went on, and what became of guesses."""
        self._count(observation)
        row = observation.context.row
        self._kept.pop(row, None)
        end = observation.path[-1] if observation.path else ROOT
        states = observation.companions(end)
        if states is not None and len(observation.emitted) == len(observation.path) + 1:
            tokens = [*observation.context.tokens, *observation.emitted]
            self._kept[row] = _Kept(tokens, self.network.joined(states))

    # -- what companions gain --------------------------------------------------------------------

    def _count(self, observation: Observation) -> None:
        """Counts drafts that came true and that no other drafter made."""
        levels = self._levels.pop(observation.context.row, 0)
        tree, path = observation.tree, observation.path
        for place in range(self.network.count):
            self._hits[place] *= _FADE
            self._trials[place] *= _FADE
            if place < levels:
                alone = place < len(path) and list(tree.nodes[path[place]].scores) == [self.name]
                self._hits[place] += alone
                self._trials[place] += 1

    def expected(self) -> list[float]:
        """How often drafts reach each distance, by acceptance on held-out texts."""
        accepted: torch.Tensor = self.network.accepted
        children = min(self.growth.children, RANKS)
        found: list[float] = []
        reached = 1.0
        for place in range(self.network.count):
            known = bool(accepted.any())
            reached *= float(accepted[place, :children].sum()) if known else _UNKNOWN
            found.append(reached if place < self.growth.depth else 0.0)
        return found

    def companion_gains(self) -> Sequence[float]:
        """Measured on this backend's texts, with acceptance on held-out texts to begin with."""
        return [
            (hits + _PRIOR * prior) / (trials + _PRIOR)
            for hits, trials, prior in zip(self._hits, self._trials, self.expected(), strict=True)
        ]

    # -- training --------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        model: Any,
        tokenizer: Any,
        texts: Sequence[Lesson],
        *,
        training: Training | None = None,
        vocabulary: int | Sequence[int] | None = 8192,
        points: int = 64,
        growth: Growth | None = None,
        **options: Any,
    ) -> Self:
        """Trains one for a model, which stays as it is.

        Companions are put behind tokens drawn at random, in one forward; they learn the model's own laws
        (not its texts) at the positions that they stand for.  The model reads every text anew in each pass,
        as keys and values of all texts would not fit into memory.

        Args:
            model: a causal language model of ``transformers``, in ``eval`` mode.
            tokenizer: its tokenizer; ``None`` if texts are token ids.
            texts: what to learn from, best the model's own answers.
            training: how long, how fast, with which seed; its ``batch`` counts guesses, m for each token
                with companions.
            vocabulary: tokens that drafts are made of: how many of those most frequent in the answers,
                or their ids; ``None`` for all.
            points: tokens of a text behind which companions are put, at most.
            growth: how far trees grow.
            **options: of the network.

        Raises:
            ValueError: if there is nothing to train on, a number is not positive, or the model has sliding
                attention.
        """
        chosen = training or Training()
        if points < 1:
            raise ValueError(f"points={points}: must be positive")
        clock = Clock(chosen.max_seconds)
        every = lessons_of(tokenizer, texts)
        ids = vocabulary_of(vocabulary, every, columns(model))
        with bar_of(chosen.progress) as bar, torch.random.fork_rng(devices=[]):
            torch.manual_seed(chosen.seed)
            made = cls(cls.networks(model, ids, **options).to(model.device), growth=growth)
            kept, aside = split([Lined(*one) for one in every], chosen.held_out)
            course = Insertion(model, made.network, kept, aside, chosen.batch, points)
            run(made.network, course, chosen, clock, bar, made.report)
            if not aside:
                course.measure(kept)
        return made


def layers_of(model: Any) -> int:
    """How many layers a model has."""
    return int(text_config(model).num_hidden_layers)
