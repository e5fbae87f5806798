"""The backend inside ``model.generate``: ``custom_generate=speculative(automaton)``.

``generate`` prepares everything as usual (prompt, processors, warpers, limits) and hands it over; what
comes back is what it would have returned.  Its own limit is read here, so that no text is cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import EosTokenCriteria, MaxLengthCriteria

from constrain.automaton import TokenAutomaton
from constrain.processor import check_budget
from samplers.backend import SpeculativeBackend
from samplers.drafters.base import Drafter
from samplers.sample import Sample, Stats
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained, FreeText, Target


class SpeculativeGenerate:
    """A decoding method for ``generate``.

    Example::

        method = SpeculativeGenerate(automaton)
        model.generate(**inputs, custom_generate=method, max_new_tokens=200)

    Everything that ``generate`` prepares is kept: ``do_sample``, ``temperature``, ``top_k`` (50 by
    default when sampling, as everywhere in ``transformers``), ``top_p``, repetition penalties, other
    processors, stopping criteria, ``num_return_sequences``, batches with left padding (one prompt after
    the other).  Processors must be pure functions of the prefix.

    Args:
        automaton: the grammar; ``None`` for free text.
        drafters: see :class:`~samplers.backend.SpeculativeBackend`; they live as long as this
            object, so keep it for several calls.
        streamer: one of ``transformers``; ``generate`` does not hand its own to methods like this.
        **backend: more options of the backend.

    Attributes:
        stats: of the last call, one for each sequence.
    """

    def __init__(
        self,
        automaton: TokenAutomaton | None = None,
        drafters: Sequence[Drafter] | None = None,
        *,
        streamer: Any = None,
        **backend: Any,
    ) -> None:
        self.automaton = automaton
        self.stats: list[Stats] = []
        self.streamer = streamer
        self._drafters = drafters
        self._options = backend
        self._backend: SpeculativeBackend | None = None

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        synced_gpus: bool = False,
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Called by ``generate``.

        Returns:
            int64[sequences, length]: prompts and new tokens, padded at the end.

        Raises:
            ValueError: for beams, or outputs other than token ids.
            BudgetError: if the shortest text does not fit ``generate``'s limit.
        """
        _refuse(generation_config, synced_gpus)
        backend = self._backend_for(model)
        target = self._target(model, generation_config)
        budget = _budget(generation_config, input_ids.shape[-1])
        if self.automaton is not None:
            check_budget(self.automaton, budget)
        temperature = 1.0 if generation_config.do_sample else 0.0
        samples: list[Sample] = []
        masks = _masks(input_ids, model_kwargs)
        for i, (row, mask) in enumerate(zip(input_ids, masks, strict=True)):
            prompt = row[mask].tolist()
            processors = _Processors(logits_processor, row[~mask], i, len(input_ids))
            sampling = Sampling(temperature, processors=processors if logits_processor else None)
            seed = int(torch.randint(2**62, (1,))) if generation_config.do_sample else 0
            samples += backend.generate(
                prompt,
                target,
                max_new_tokens=budget,
                sampling=sampling,
                seed=seed,
                on_tokens=None if self.streamer is None else _Stream(self.streamer, row),
                stop=_stopper(stopping_criteria, row.device),
            )
        if self.streamer is not None:
            self.streamer.end()
        self.stats = [sample.stats for sample in samples]
        return _joined(input_ids, samples, generation_config)

    def _backend_for(self, model: Any) -> SpeculativeBackend:
        if self._backend is None or self._backend.model is not model:
            self._backend = SpeculativeBackend(model, None, self._drafters, **self._options)
        return self._backend

    def _target(self, model: Any, config: Any) -> Target:
        if self.automaton is not None:
            return Constrained(self.automaton)
        ends = config.eos_token_id
        if ends is None:
            return FreeText(())
        return FreeText(tuple(ends) if isinstance(ends, list | tuple) else (int(ends),))


class _Processors:
    """Processors prepared for a batch, as one of its rows sees them.

    Some keep numbers of each row (lengths of its padding, say), so they are called with a batch of
    the same size, all rows alike.
    """

    def __init__(self, inner: Any, padding: torch.Tensor, row: int, rows: int) -> None:
        self._inner = inner
        self._padding = padding
        self._row, self._rows = row, rows

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        device = self._padding.device
        padded = torch.cat([self._padding[None], ids.to(device)], dim=-1)
        out: torch.Tensor = self._inner(
            padded.repeat(self._rows, 1), scores.to(device).repeat(self._rows, 1)
        )
        return out[self._row : self._row + 1].cpu()


def _refuse(config: Any, synced: bool) -> None:
    if synced:
        raise ValueError("SpeculativeGenerate does not run on several synchronised devices")
    if config.num_beams != 1:
        raise ValueError(
            f"num_beams={config.num_beams}: beams are not drafted; use GrammarLogitsProcessor"
        )
    if config.return_dict_in_generate:
        raise ValueError("return_dict_in_generate: only token ids are returned here")


def _budget(config: Any, prompt: int) -> int:
    return max(int(config.max_length) - prompt, 0) if config.max_length is not None else 0


def _masks(input_ids: torch.Tensor, model_kwargs: dict[str, Any]) -> torch.Tensor:
    mask = model_kwargs.get("attention_mask")
    return torch.ones_like(input_ids).bool() if mask is None else mask.bool()


def _stopper(criteria: Any, device: torch.device) -> Any:
    """Stopping criteria as a function of the row's tokens; EOS and length are known here already."""
    others = [c for c in criteria or () if not isinstance(c, MaxLengthCriteria | EosTokenCriteria)]
    if not others:
        return None

    def stops(tokens: Sequence[int]) -> bool:
        ids = torch.tensor([list(tokens)], device=device)
        return any(bool(torch.as_tensor(criterion(ids, None)).any()) for criterion in others)

    return stops


class _Stream:
    """Tokens for a streamer of ``transformers``, which expects the prompt first."""

    def __init__(self, streamer: Any, prompt: torch.Tensor) -> None:
        self._streamer = streamer
        streamer.put(prompt[None].cpu())

    def __call__(self, number: int, tokens: Sequence[int]) -> None:
        for token in tokens:
            self._streamer.put(torch.tensor([token]))


def _joined(input_ids: torch.Tensor, samples: Sequence[Sample], config: Any) -> torch.Tensor:
    longest = max(len(sample.token_ids) for sample in samples)
    pad = config.pad_token_id
    if pad is None:
        ends = config.eos_token_id
        pad = ends[0] if isinstance(ends, list | tuple) else (ends or 0)
    rows = [s.token_ids + [pad] * (longest - len(s.token_ids)) for s in samples]
    new = torch.tensor(rows, dtype=input_ids.dtype, device=input_ids.device)
    return torch.cat([input_ids, new.reshape(len(samples), longest)], dim=-1)
