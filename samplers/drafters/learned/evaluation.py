"""One evaluation for all drafters: tokens per forward, acceptance by depth, time.

Prompts are written one after the other with a backend, whatever its drafters are, and looked at from
outside; a plain backend (``drafters=[]``) on the same prompts is what times compare with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from samplers.drafters.base import Observation
from samplers.speculative.law import Sampling
from samplers.speculative.target import Target
from samplers.speculative.tree import ROOT

if TYPE_CHECKING:
    from samplers.backend import SpeculativeBackend


@dataclass
class Depth:
    """Drafts of one depth below the settled text, where all before them came true.

    Attributes:
        asked: places where something was drafted at this depth and the text went on.
        accepted: those of them where a draft came true.
    """

    asked: int = 0
    accepted: int = 0

    @property
    def share(self) -> float:
        """Accepted of asked."""
        return self.accepted / self.asked if self.asked else 0.0


@dataclass
class Evaluation:
    """What writing some texts took.

    Attributes:
        texts: the new tokens of each, EOS included.
        forwards: calls of the model, prefill included.
        seconds: in all, by the clock that was given.
        drafting_seconds: of them, time that drafters took, by the wall clock.
        depths: at ``i`` drafts of depth ``i + 1``.
        lossy: whether texts were written by typical acceptance, and so are not of the model's law.
    """

    texts: list[list[int]] = field(default_factory=list)
    forwards: int = 0
    seconds: float = 0.0
    drafting_seconds: float = 0.0
    depths: list[Depth] = field(default_factory=list)
    lossy: bool = False

    @property
    def tokens(self) -> int:
        """New tokens of all texts."""
        return sum(map(len, self.texts))

    @property
    def tokens_per_forward(self) -> float:
        """On average."""
        return self.tokens / self.forwards if self.forwards else 0.0

    @property
    def ms_per_token(self) -> float:
        """Milliseconds."""
        return 1000 * self.seconds / self.tokens if self.tokens else 0.0

    @property
    def drafting_ms_per_token(self) -> float:
        """Milliseconds."""
        return 1000 * self.drafting_seconds / self.tokens if self.tokens else 0.0


def evaluate(
    backend: SpeculativeBackend,
    asked: Iterable[tuple[Sequence[int], Target]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    source: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Evaluation:
    """Writes a text after each prompt and measures it.

    Args:
        backend: the model with its drafters.
        asked: prompts as token ids, each with what is drawn from.
        max_new_tokens: of each text.
        temperature: of the model.
        seed: of the first text; the others have the following ones.
        source: count depths of this drafter's guesses alone, by its name; of all by default.
        clock: seconds; on a machine that is shared, ``time.process_time`` tells more than the wall.

    Raises:
        ValueError: if there is no prompt.
    """
    made = Evaluation()

    def observe(seen: Observation) -> None:
        _count(made.depths, seen, source)

    for number, (ids, target) in enumerate(asked):
        began = clock()
        (sample,) = backend.generate(
            ids,
            target,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature),
            seed=seed + number,
            observers=[observe],
        )
        made.seconds += clock() - began
        made.texts.append(sample.token_ids)
        made.forwards += sample.stats.forwards
        made.drafting_seconds += sample.stats.draft_seconds
        made.lossy = made.lossy or sample.stats.lossy
    if not made.texts:
        raise ValueError("nothing to evaluate: give at least one prompt")
    return made


def _count(depths: list[Depth], seen: Observation, source: str | None) -> None:
    """Adds the outcome of one forward."""
    node = ROOT
    for depth, token in enumerate(seen.emitted):
        mine = [
            child
            for child in seen.tree.children(node)
            if source is None or source in seen.tree.nodes[child].scores
        ]
        if not mine:
            return
        while len(depths) <= depth:
            depths.append(Depth())
        depths[depth].asked += 1
        if token not in [seen.tree.nodes[child].token for child in mine]:
            return
        depths[depth].accepted += 1
        after = seen.tree.child(node, token)
        assert after is not None
        node = after
