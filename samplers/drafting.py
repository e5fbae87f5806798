"""What ``extract`` and ``call`` of ``constrain`` write with: the backend and its drafters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from constrain.automaton import TokenAutomaton
from constrain.huggingface.recording import ScoredTokens
from constrain.huggingface.shortening.pruning import Pruned
from samplers.backend import OnTokens, SpeculativeBackend, check_backend
from samplers.constrained import GrammarConstrained
from samplers.exclusive import exclusive
from samplers.speculative.law import Sampling
from samplers.speculative.scorer import UnsupportedModel
from samplers.streaming import Committed


@dataclass(frozen=True)
class Drafts:
    """How tokens are drawn, by a backend where the model has one.

    Attributes:
        backend: the caller's; ``None`` for a new one.
        temperature, top_p, seed, on_tokens: as :func:`samplers.extract` takes them.

    Raises:
        TypeError, ValueError: for numbers out of range.
    """

    backend: Any
    temperature: float
    top_p: float
    seed: int | None
    on_tokens: OnTokens | None

    def __post_init__(self) -> None:
        Sampling(self.temperature, self.top_p)  # says at once if a number is out of range

    def options(self, model: Any, tokenizer: Any, streamer: Any, place: str) -> dict[str, Any]:
        """Options for the function of ``constrain``.

        Args:
            model, tokenizer: what writes.
            streamer: the caller's, as ``ended`` gives it.
            place: who asks, for messages.

        Raises:
            TypeError: if the backend is none.
            ValueError: if it is another model's.
        """
        given = self.backend
        if given is not None and check_backend(given, place).model is not model:
            raise ValueError("the backend was made for another model")
        try:
            made = given or SpeculativeBackend(model, tokenizer)
        except UnsupportedModel:
            return self._without(streamer)
        write = _Writer(made, self.top_p, self.seed, self.on_tokens)
        return {"generate": write, "streamer": streamer, "temperature": self.temperature}

    def _without(self, streamer: Any) -> dict[str, Any]:
        """For ``model.generate``: the model's cache cannot take tokens back."""
        if self.seed is not None:
            torch.manual_seed(self.seed)
        told = Committed(on_tokens=self.on_tokens, streamer=streamer)
        options: dict[str, Any] = {"streamer": told if told else None}
        if self.temperature:
            options |= {"temperature": self.temperature, "top_p": self.top_p}
        return options


class _Writer:
    """``generate`` of :func:`constrain.extract` by the backend."""

    def __init__(
        self,
        backend: SpeculativeBackend,
        top_p: float,
        seed: int | None,
        on_tokens: OnTokens | None,
    ) -> None:
        self._backend = backend
        self._top_p = top_p
        self._seed = seed
        self._on_tokens = on_tokens

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        automaton: TokenAutomaton,
        *,
        max_new_tokens: int,
        temperature: float,
        streamer: Any = None,
        pruned: Pruned | None = None,
    ) -> list[int]:
        told = Committed(on_tokens=self._on_tokens, streamer=streamer)
        told.put(input_ids.cpu())
        with exclusive(self._backend), self._backend.has_read(pruned):
            found = GrammarConstrained(self._backend, automaton).sample(
                input_ids[0].tolist(),
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=self._top_p,
                seed=self._seed,
                on_tokens=told.commit,
            )
        if self._seed is not None:
            self._seed += 1  # a thought's answer, or a further attempt, is another text
        told.end()
        return ScoredTokens(found[0].token_ids, found[0].token_constrained_logprobs)
