"""Training at companion positions: many of them in one forward of a frozen model.

The model reads a text without gradients; then companions of tokens drawn at random go through it together.
They see the keys and values of the text up to their token and the companions before them, as when drafts are
made, and each learns the law that the model has where the companion stands: distillation of the model into
itself (Chen et al. 2024 (arXiv 2405.18628), where both are parts of one sequence).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn.functional import log_softmax
from transformers import DynamicCache

from samplers.drafters.learned.training import Step, accepted, steps_of_texts
from samplers.speculative.companions import Places, inserting
from samplers.speculative.scorer import shape_of

if TYPE_CHECKING:
    from samplers.drafters.learned.companion import CompanionNetwork

_FADING: Final = 0.8
"""Weight of a companion's loss, relative to the one before it."""
_ASIDE: Final = 16
"""Texts on which acceptance is measured, at most."""


@dataclass(frozen=True)
class Lined:
    """A text.

    Attributes:
        tokens: its ids.
        given: how many of them are given: only what follows them is learned.
    """

    tokens: list[int]
    given: int

    @property
    def first(self) -> int:
        """The first token with companions: after it comes the first that is not given."""
        return max(self.given - 1, 0)

    @property
    def places(self) -> int:
        """Tokens whose first companion has something to learn."""
        return max(len(self.tokens) - 2 - self.first, 0)


@dataclass(frozen=True)
class Said:
    """What companions say, and what the model says where they stand.

    Attributes:
        guessed: float32[p, m, K], logits of the companions of p tokens.
        wanted: float32[p, m, K], the model's.
        known: bool[p, m], where there is a token to compare with.
        tokens: int64[p, m], these tokens; 0 where there are none.
    """

    guessed: torch.Tensor
    wanted: torch.Tensor
    known: torch.Tensor
    tokens: torch.Tensor


class Insertion:
    """Texts to learn from, in an order drawn anew for each pass.

    Args:
        model: the base model; it stays as it is.
        network: what learns.
        kept: texts.
        aside: texts for :meth:`acceptance`.
        batch: guesses of a step.
        points: of a text, at most.

    Raises:
        ValueError: if no text has a token to learn, or the model has sliding attention.
    """

    def __init__(
        self,
        model: Any,
        network: CompanionNetwork,
        kept: Sequence[Lined],
        aside: Sequence[Lined],
        batch: int,
        points: int,
    ) -> None:
        if shape_of(model).window is not None:
            raise ValueError(
                f"{type(model).__name__} has sliding attention, which is not trained through"
            )
        self._model, self._network = model, network
        self._batch, self._points = batch, points
        self._kept = [text for text in kept if text.places]
        self._aside = [text for text in aside if text.places]
        if not self._kept:
            raise ValueError("nothing to train on: texts of three tokens or more are needed")

    def __len__(self) -> int:
        return max(1, sum(map(self._size, self._kept)) // self._batch)

    def _count(self, text: Lined) -> int:
        return min(text.places, self._points)

    def _size(self, text: Lined) -> int:
        return self._count(text) * self._network.count

    def steps(self) -> Iterator[Step]:
        """Batches of whole texts."""
        return steps_of_texts(self._kept, self._size, self._batch, self._learn)

    def _learn(self, batch: Sequence[Lined]) -> tuple[float, int]:
        count = sum(map(self._count, batch))
        total = 0.0
        with frozen(self._model):
            for text in batch:
                drawn = torch.randperm(text.places)[: self._points].sort().values + text.first
                with torch.enable_grad():
                    said = self.said(text, drawn)
                    loss = _loss(said) * (self._count(text) / count)
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        return total, count

    # -- one text --------------------------------------------------------------------------------

    def said(self, text: Lined, points: torch.Tensor) -> Said:
        """What companions behind some tokens say, with gradients.

        Args:
            text: n tokens.
            points: int64[p], of those tokens, by number.
        """
        network, model = self._network, self._model
        tokens = torch.tensor(text.tokens, device=model.device)
        points = points.to(model.device)
        with torch.no_grad():
            read = _states(model, tokens[None], cache=DynamicCache())
        last = self._through(points, read)
        shape = (len(points), network.strands, network.count, -1)
        guessed = network.output.logits(network.joined(last.view(shape)))
        at = points[:, None] + 1 + torch.arange(network.count, device=points.device)
        known = at + 1 < len(tokens)
        at = at.clamp(max=len(tokens) - 2)
        with torch.no_grad():
            wanted = network.output.logits(read.hidden_states[-1][0, at].float())
        return Said(guessed, wanted, known, torch.where(known, tokens[at + 1], 0))

    def _through(self, points: torch.Tensor, read: Any) -> torch.Tensor:
        """Last hidden states [c, H] of companions, strand by strand behind each token."""
        network, model = self._network, self._model
        each = network.strands * network.count
        numbers = torch.arange(each, device=points.device).repeat(len(points))
        nodes = points.repeat_interleave(each)
        columns = torch.arange(len(nodes), device=points.device)
        strand = columns // network.count
        past = torch.arange(read.hidden_states[-1].shape[1], device=points.device)
        own = (strand[:, None] == strand) & (columns <= columns[:, None])
        seen = torch.cat([past <= nodes[:, None], own], 1)
        mask = torch.zeros(seen.shape, dtype=model.dtype, device=seen.device)
        mask.masked_fill_(~seen, torch.finfo(model.dtype).min)
        states = {layer: read.hidden_states[layer][0, nodes] for layer in network.layers}
        places = Places(torch.zeros_like(columns), columns, nodes, numbers, states)
        with inserting(model, network, places):
            out = _states(
                model,
                torch.zeros_like(columns)[None],
                cache=read.past_key_values,
                attention_mask=mask[None, None],
                position_ids=(nodes + 1 + numbers % network.count)[None],
            )
        last: torch.Tensor = out.last_hidden_state[0]
        return last

    # -- acceptance ------------------------------------------------------------------------------

    def acceptance(self) -> float | None:
        """Of the likeliest guess of each companion; measures acceptance by rank too."""
        return self.measure(self._aside) if self._aside else None

    def measure(self, texts: Sequence[Lined]) -> float:
        """Tokens accepted of a greedy chain on texts, on average.

        The network's ``accepted`` is set: how often each guess of each companion comes true.
        """
        texts = [text for text in texts if text.places]
        texts = texts[:: -(-len(texts) // _ASIDE)]
        right: list[torch.Tensor] = []
        numbers = torch.from_numpy(self._network.output.numbers)
        ranks = self._network.accepted.shape[1]
        for text in texts:
            some = torch.arange(text.places) + text.first
            with torch.no_grad():
                said = self.said(text, some[:: -(-text.places // self._points)])
            best = said.guessed.topk(min(ranks, said.guessed.shape[-1])).indices
            wanted = torch.where(said.known, numbers.to(best.device)[said.tokens], -1)
            whole = said.known.all(-1)  # of the others the text's end is known beforehand
            right.append((best == wanted[..., None])[whole])
        hits = torch.cat(right)
        if not len(hits):
            return 0.0
        shares = hits.float().mean(0)
        self._network.accepted.zero_()
        self._network.accepted[:, : shares.shape[1]] = shares
        return accepted(hits[..., 0])


def _loss(said: Said) -> torch.Tensor:
    """Cross-entropy with the model's laws, a token with companions."""
    each = -(said.wanted.softmax(-1) * log_softmax(said.guessed, -1)).sum(-1)
    shares = _FADING ** torch.arange(each.shape[1], device=each.device)
    found: torch.Tensor = (each * said.known * shares).sum() / len(each)
    return found


def _states(model: Any, ids: torch.Tensor, cache: Any, **keywords: Any) -> Any:
    """A forward without the output embedding; the cache holds its keys and values afterwards."""
    return model.base_model(
        input_ids=ids,
        past_key_values=cache,
        use_cache=True,
        output_hidden_states=True,
        return_dict=True,
        **keywords,
    )


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Within, no gradients of a model's own weights are computed."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
