"""The backend inside ``model.generate``: ``custom_generate=speculative(automaton)``.

``generate`` prepares everything as usual (prompt, processors, warpers, limits) and hands it over; what
comes back is what it would have returned.  Its own limit is read here, so that no text is cut off.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import EosTokenCriteria, MaxLengthCriteria

from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from constrain.healing import Healed, healed_if
from constrain.huggingface.extraction import ended
from constrain.huggingface.processor import GrammarLogitsProcessor, check_budget
from samplers.backend import SpeculativeBackend
from samplers.drafters.base import Drafter
from samplers.healing import without_prefixes
from samplers.sample import Sample, Stats
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained, FreeText, Target
from samplers.streaming import Committed, streamer_of_generate


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
        canonical: texts are written as the tokenizer writes them, see
            :class:`~constrain.TokenAutomaton`; makes the automaton anew unless it is such a one.
        heal: takes the last tokens of each prompt back into the grammar where some token reaches across
            its end (:func:`constrain.heal`).  A row that is returned then has as many tokens fewer of its
            prompt, with padding before them, and new tokens that begin with what was taken back;
            ``generate``'s limit counts them.  :attr:`texts` are without.
        drafters: see :class:`~samplers.backend.SpeculativeBackend`; they live as long as this
            object, so keep it for several calls.
        streamer: one of ``transformers``, for one text at a time; as good as ``generate(streamer=...)``,
            which is served too.  Tokens come as they are committed, and ``end`` however it ends.
        **backend: more options of the backend.  ``acceptance`` is lossy where ``generate`` samples;
            :attr:`stats` say so.

    Attributes:
        stats: of the last call, one for each sequence.
        texts: of the last call, one for each sequence; empty without an automaton.
    """

    def __init__(
        self,
        automaton: TokenAutomaton | None = None,
        drafters: Sequence[Drafter] | None = None,
        *,
        canonical: bool = False,
        heal: bool = False,
        streamer: Any = None,
        **backend: Any,
    ) -> None:
        if automaton is not None:
            automaton = as_written(check_automaton(automaton, "SpeculativeGenerate"), canonical)
        elif canonical or heal:
            name = "canonical" if canonical else "heal"
            raise ValueError(f"{name}=True needs an automaton; free text is the model's own")
        self.automaton = automaton
        self.heal = heal
        self.stats: list[Stats] = []
        self.texts: list[str] = []
        self.streamer = streamer
        self._drafters = drafters
        known = inspect.signature(SpeculativeBackend).parameters.keys() - {"model", "tokenizer"}
        for name in sorted(backend.keys() - known):
            raise TypeError(
                f"SpeculativeGenerate has no option {name!r}: {', '.join(sorted(known))}"
            )
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
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Called by ``generate``.

        Returns:
            int64[sequences, length]: prompts and new tokens, padded at the end.

        Raises:
            ValueError: for beams, outputs other than token ids, or a streamer for several texts.
            BudgetError: if the shortest text does not fit ``generate``'s limit.
            GrammarError: as :func:`constrain.heal`.
        """
        given = streamer if streamer is not None else streamer_of_generate()
        with (
            ended(given) as theirs,
            ended(None if self.streamer is given else self.streamer) as own,
        ):
            if own is not None:  # generate itself has written the prompt to its own
                own.put(input_ids.cpu())
            _refuse(generation_config, synced_gpus)
            streamers = [s for s in (theirs, own) if s is not None]
            if streamers and len(input_ids) > 1:
                raise ValueError(
                    f"a streamer takes one text at a time, but {len(input_ids)} are wanted; call "
                    "generate for each, or leave the streamer out"
                )
            samples, prompts = self._write(
                model, input_ids, logits_processor, stopping_criteria, generation_config,
                model_kwargs, streamers,
            )  # fmt: skip
        self.stats = [sample.stats for sample in samples]
        self.texts = [sample.text for sample in samples if self.automaton is not None]
        return _joined(prompts, samples, generation_config)

    def _write(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        config: Any,
        model_kwargs: dict[str, Any],
        streamers: Sequence[Any],
    ) -> tuple[list[Sample], torch.Tensor]:
        """The samples, and the prompts that they follow."""
        backend = self._backend_for(model)
        budget = _budget(config, input_ids.shape[-1])
        masks = _masks(input_ids, model_kwargs)
        rows = self._prompts(input_ids, masks)
        targets = [self._target(healed, config) for healed in rows]
        for automaton in {healed.automaton for healed in rows if healed is not None}:
            check_budget(automaton, budget)
        temperature = 1.0 if config.do_sample else 0.0
        samples: list[Sample] = []
        told = [Committed(on_tokens=None, streamer=streamer) for streamer in streamers]

        def tell(number: int, tokens: Sequence[int]) -> None:
            for one in told:
                one.commit(number, tokens)

        out = input_ids
        for i, (row, mask) in enumerate(zip(input_ids, masks, strict=True)):
            healed, prompt = rows[i], row[mask].tolist()
            padding = row[~mask]
            if healed is not None and healed.taken:
                prompt = healed.prompt
                padding = torch.cat([padding, padding.new_full((healed.taken,), _pad(config))])
                out = out.clone() if out is input_ids else out
                out[i] = torch.cat([padding, row.new_tensor(prompt)])
            processors = _Processors(logits_processor, padding, i, len(input_ids))
            sampling = Sampling(temperature, processors=processors if logits_processor else None)
            seed = int(torch.randint(2**62, (1,))) if config.do_sample else 0
            made = backend.generate(
                prompt,
                targets[i],
                max_new_tokens=budget,
                sampling=sampling,
                seed=seed,
                on_tokens=tell if told else None,
                stop=_stopper(stopping_criteria, row.device),
            )
            samples += made if healed is None else without_prefixes(made, healed)
        return samples, out

    def _prompts(self, input_ids: torch.Tensor, masks: torch.Tensor) -> list[Healed | None]:
        """What is taken off each prompt; ``None`` without a grammar."""
        if self.automaton is None:
            return [None] * len(input_ids)
        rows = zip(input_ids, masks, strict=True)
        return [healed_if(self.heal, row[mask].tolist(), self.automaton) for row, mask in rows]

    def _backend_for(self, model: Any) -> SpeculativeBackend:
        if self._backend is None or self._backend.model is not model:
            self._backend = SpeculativeBackend(model, None, self._drafters, **self._options)
        return self._backend

    def _target(self, healed: Healed | None, config: Any) -> Target:
        if healed is not None:
            return Constrained(healed.automaton)
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
        for processor in inner or ():
            if isinstance(processor, GrammarLogitsProcessor):
                processor.reset()  # the next row may begin as the one before did

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


def _pad(config: Any) -> int:
    pad = config.pad_token_id
    if pad is None:
        ends = config.eos_token_id
        pad = ends[0] if isinstance(ends, list | tuple) else (ends or 0)
    return int(pad)


def _joined(input_ids: torch.Tensor, samples: Sequence[Sample], config: Any) -> torch.Tensor:
    longest = max(len(sample.token_ids) for sample in samples)
    pad = _pad(config)
    rows = [s.token_ids + [pad] * (longest - len(s.token_ids)) for s in samples]
    new = torch.tensor(rows, dtype=input_ids.dtype, device=input_ids.device)
    return torch.cat([input_ids, new.reshape(len(samples), longest)], dim=-1)
