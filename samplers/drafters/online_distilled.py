"""A draft model that learns from the verifier's corrections while it drafts.

Liu et al. 2023, "Online Speculative Decoding" (arXiv 2310.07177), section 4: where a draft was wrong,
verification has computed what the verifier would have said, so these laws cost nothing.  They are
kept, and every few texts the draft takes one gradient step towards them.  The verifier is unchanged
and every token is verified, so the law of the text is the same whatever the draft has learned.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch.nn.functional import log_softmax

from samplers.drafters.base import Context, Observation
from samplers.drafters.draft_model import DraftModel, Kind
from samplers.drafters.learned.short_output import load_draft
from samplers.drafters.recursive import law_after
from samplers.speculative.tree import ROOT

_TOP: Final = 64
"""Tokens of the verifier's law that are kept, the likeliest ones."""


@dataclass(frozen=True)
class Correction:
    """What the verifier said where the draft was wrong.

    Attributes:
        position: in the text, of the token that the draft got wrong.
        ids: int64[k], the verifier's likeliest tokens there, within what the target allows.
        probabilities: float32[k], theirs, normalised.
    """

    position: int
    ids: torch.Tensor
    probabilities: torch.Tensor


@dataclass
class Corrected:
    """A text with the corrections made while it was written."""

    tokens: list[int]
    corrections: list[Correction] = field(default_factory=list)


class OnlineDistilled(DraftModel):
    """A draft model that is trained while it is used.

    Args:
        model: the draft, in single or double precision; its weights are changed in place.  It may
            share none of them with the verifier.
        every: texts between two gradient steps.
        every_steps: verifications between two gradient steps, for long texts; ``None`` for never.
        learning_rate: of Adam.
        buffer: texts kept until the next gradient step; older ones make room.
        tree, branching, width, depth, masked: as for :class:`DraftModel`.

    Attributes:
        losses: the soft cross-entropy before each gradient step, in nats a token.

    Raises:
        ValueError: if a number is not positive, or the model's numbers are of half precision.
    """

    name: ClassVar[str] = "online_distilled"

    def __init__(
        self,
        model: Any,
        *,
        every: int = 8,
        every_steps: int | None = None,
        learning_rate: float = 5e-5,
        buffer: int = 64,
        tree: Kind = "rsd-s",
        branching: Sequence[int] = (2, 1, 1),
        width: int = 3,
        depth: int = 4,
        masked: bool = True,
    ) -> None:
        super().__init__(
            model, tree=tree, branching=branching, width=width, depth=depth, masked=masked
        )
        if min(every, buffer, 1 if every_steps is None else every_steps) < 1 or learning_rate <= 0:
            raise ValueError(
                f"every={every}, every_steps={every_steps}, buffer={buffer}, "
                f"learning_rate={learning_rate}: must be positive"
            )
        if model.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"the draft model's numbers are {model.dtype}, too coarse for small steps; "
                "load it with dtype=torch.float32"
            )
        self.every, self.every_steps = every, every_steps
        self.learning_rate = learning_rate
        self.losses: list[float] = []
        self._initial = copy.deepcopy(model.state_dict())
        self._finished: deque[Corrected] = deque(maxlen=buffer)
        self._open: deque[Corrected] = deque(maxlen=buffer)
        self._optimiser = self._new_optimiser()
        self._texts = self._steps = 0

    # -- files -----------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes what the draft has learned, as a model of ``transformers`` (safetensors)."""
        self.model.save_pretrained(folder)

    @classmethod
    def load(cls, folder: str | Path, **options: Any) -> OnlineDistilled:
        """A drafter with the model of a folder.

        Args:
            folder: what :meth:`save` wrote, or any causal language model.
            options: see the class.
        """
        return cls(load_draft(folder), **options)

    # -- learning --------------------------------------------------------------------------------

    def observe(self, observation: Observation) -> None:
        """Keeps the verifier's law where a draft was wrong; learns when it is time."""
        text = self._text(observation.context.tokens)
        correction = self._correction(observation)
        if correction is not None:
            text.corrections.append(correction)
        text.tokens += observation.emitted
        self._steps += 1
        if _ends(observation):
            self._texts += 1
            self._close(text)
        if self._texts >= self.every or self._steps >= (self.every_steps or self._steps + 1):
            self.learn()

    def learn(self) -> None:
        """One gradient step on everything kept; then it is forgotten."""
        for text in list(self._open):
            self._finished.append(Corrected(text.tokens[:], text.corrections))
            text.corrections = []
        texts = [text for text in self._finished if text.corrections]
        self._finished.clear()
        self._texts = self._steps = 0
        count = sum(len(text.corrections) for text in texts)
        if not count:
            return
        total = 0.0
        self._optimiser.zero_grad()
        with torch.enable_grad():
            for text in texts:
                loss = self._loss(text) / count
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.losses.append(total)
        self._followers.clear()  # their keys and values are of the weights that were

    def reset(self) -> None:
        """The draft as it was at first."""
        super().reset()
        self.model.load_state_dict(self._initial)
        self._finished.clear()
        self._open.clear()
        self._optimiser = self._new_optimiser()
        self._texts = self._steps = 0
        self.losses = []

    def _text(self, tokens: Sequence[int]) -> Corrected:
        """The open text with these tokens; a new one if there is none."""
        for text in self._open:
            if text.tokens == tokens:
                return text
        made = Corrected(list(tokens))
        self._open.append(made)
        return made

    def _close(self, text: Corrected) -> None:
        self._open = deque((t for t in self._open if t is not text), self._open.maxlen)
        self._finished.append(text)

    def _correction(self, observation: Observation) -> Correction | None:
        """The verifier's law at the node where the drafts end, if all its children were wrong."""
        if len(observation.emitted) == len(observation.path):
            return None  # the text ended with a draft
        node = observation.path[-1] if observation.path else ROOT
        tree = observation.tree
        if not any(self.name in tree.nodes[c].scores for c in tree.children(node)):
            return None
        before = observation.context
        context = copy.copy(before)
        context.tree = tree
        law = law_after(context, node, observation.logits(node)[: self._columns])
        if law is None:
            return None
        best = np.argsort(-law.weights, kind="stable")[:_TOP]
        p = law.weights[best] / law.weights[best].sum()
        ids = best if law.ids is None else law.ids[best]
        return Correction(
            position=len(before.tokens) + len(observation.path),
            ids=torch.from_numpy(ids.astype(np.int64)),
            probabilities=torch.from_numpy(p.astype(np.float32)),
        )

    def _loss(self, text: Corrected) -> torch.Tensor:
        """Sum over a text's corrections of the soft cross-entropy, of what the draft can say."""
        ids = torch.tensor([text.tokens], device=self.model.device)
        at = [c.position - 1 for c in text.corrections]
        logits = self.model(ids, use_cache=False).logits[0, at]
        known = log_softmax(logits, -1)
        losses = [
            _cross_entropy(c.probabilities.to(row), row[c.ids.to(row.device)])
            for c, row in zip(text.corrections, known, strict=True)
        ]
        return torch.stack(losses).sum()

    def _new_optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.learning_rate)

    def _check(self, context: Context) -> None:
        verifier = context.scorer.model if context.scorer is not None else None
        if verifier is not None and verifier is not self._checked:
            own = _places(self.model)
            if own & _places(verifier):
                raise ValueError(
                    "the draft model shares weights with the verifier, which must not change; "
                    "make the draft from a copy"
                )
        super()._check(context)


def _cross_entropy(p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Soft cross-entropy in nats; tokens that the draft cannot say, log q minus infinity, are left out."""
    return -torch.where(torch.isfinite(log_q), p * log_q, torch.zeros_like(p)).sum()


def _places(model: Any) -> set[int]:
    """Where a model's weights are in memory."""
    return {p.data_ptr() for p in getattr(model, "parameters", list)()}


def _ends(observation: Observation) -> bool:
    """Whether the text ended with this verification."""
    context = observation.context
    if len(observation.emitted) >= context.tokens_left:
        return True
    return bool(context.target.is_finished(observation.states[-1]))
