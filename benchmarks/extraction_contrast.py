"""An experiment: tokens weighed against what the model would write had it not read the text.

A small model writes much of an answer from habit: the usual numbers, one more item of a list that has ended.
What it would write without the text is just that habit, so it is taken off: each token is judged by

    log p(token | prompt) + weight * (log p(token | prompt) - log p(token | prompt without the text))

among those that the grammar allows and that the model with the text finds plausible (context-aware
decoding, Shi et al. 2024, with the plausibility of contrastive decoding, Li et al. 2023).  Both prompts are
rows of one batch, which costs little more than one where the model's weights are what is waited for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton
from constrain.describe import describe_schema
from constrain.huggingface.asking import PromptBuilder, default_prompt, encode_prompt
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.tree import ROOT, Tree

WEIGHT: Final = 1.0
WITHIN: Final = 3.0
NO_TEXT: Final = "(no text)"
"""What stands in the prompt in place of the text."""


class Contrast:
    """``generate`` of :func:`constrain.extract`: greedy, against a prompt that lacks the text.

    Args:
        without: token ids of the prompt without the text; at least one.
        weight: how much of the habit is taken off; 0 is plain greedy decoding.
        within: a token is plausible whose log-probability with the text is at most so much below that
            of the likeliest token that is allowed, in nats.

    Raises:
        ValueError: if there are no ids, or a number is negative or not finite.

    Example: ``extract(model, tokenizer, text, schema, grounded=True,
    generate=Contrast.for_schema(model, tokenizer, schema))``.
    """

    def __init__(
        self, without: Sequence[int], *, weight: float = WEIGHT, within: float = WITHIN
    ) -> None:
        if not len(without):
            raise ValueError("the prompt without the text has no tokens")
        for name, value in (("weight", weight), ("within", within)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number from 0 on, not {value}")
        self.without = [int(token) for token in without]
        self.weight = weight
        self.within = within

    @classmethod
    def for_schema(
        cls,
        model: Any,
        tokenizer: Any,
        schema_or_type: Any,
        *,
        prompt: PromptBuilder | None = None,
        weight: float = WEIGHT,
        within: float = WITHIN,
    ) -> Contrast:
        """The contrast for extractions by a schema or type: the same prompt, :data:`NO_TEXT` as its text.

        Args:
            model: the model that is to write.
            tokenizer: its tokenizer.
            schema_or_type: what :func:`constrain.extract` is given.
            prompt: what :func:`constrain.extract` is given.
            weight, within: as :class:`Contrast` takes them.
        """
        asked = (prompt or default_prompt)(NO_TEXT, describe_schema(schema_or_type))
        return cls(encode_prompt(model, tokenizer, asked), weight=weight, within=within)

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        automaton: TokenAutomaton,
        *,
        max_new_tokens: int,
        streamer: Any = None,
    ) -> list[int]:
        """New token ids, EOS included.

        Args:
            model: a causal language model whose cache can take tokens back.
            input_ids: int64[1, n], the prompt with the text.
            automaton: what is allowed.
            max_new_tokens: the budget; texts are complete within it.
            streamer: gets the prompt, then tokens as they are chosen; is not ended.

        Raises:
            UnsupportedModel: see :class:`samplers.UnsupportedModel`.
        """
        budget = check_count(max_new_tokens, "max_new_tokens")
        prompt: list[int] = input_ids[0].tolist()
        if streamer is not None:
            streamer.put(input_ids.cpu())
        most = max(len(prompt), len(self.without)) + budget
        scorer = TreeScorer(model, rows=2, capacity=most)
        pending = [prompt, self.without]
        state, written = automaton.start, list[int]()
        while state != automaton.FINISHED:
            chosen = _settled(automaton, state, budget - len(written))
            if not chosen:
                logits = _scored(scorer, pending)
                chosen = [self._likeliest(logits, automaton, state, budget - len(written))]
                pending = [[], []]
            for token in chosen:
                state = automaton.advance(state, token)
                if streamer is not None:
                    streamer.put(torch.tensor([token]))
            written += chosen
            pending = [row + chosen for row in pending]
        return written

    def _likeliest(
        self, logits: torch.Tensor, automaton: TokenAutomaton, state: int, left: int
    ) -> int:
        """The best allowed token by the logits [2, V'] with and without the text."""
        allowed: npt.NDArray[np.int64] = automaton.allowed_tokens(state, left)
        read, unread = logits.log_softmax(-1)[:, torch.from_numpy(allowed)]
        judged = read + self.weight * (read - unread)
        judged[read < read.max() - self.within] = -math.inf
        return int(allowed[int(judged.argmax())])


def _settled(automaton: TokenAutomaton, state: int, left: int) -> list[int]:
    """Tokens that are forced, as far as the rest fits the budget behind them."""
    forced = automaton.forced_tokens(state)
    after = state
    for token in forced:
        after = automaton.advance(after, token)
    fits = forced and len(forced) + automaton.min_tokens_to_accept(after) + 1 <= left
    return forced if fits else []


def _scored(scorer: TreeScorer, pending: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits float[2, V'] after the pending tokens, which are kept."""
    scores = scorer.score([Request(row, Tree(None)) for row in pending])
    scorer.commit([[], []])
    return torch.stack([scores.at(row, ROOT).float() for row in (0, 1)])


__all__ = ["NO_TEXT", "WEIGHT", "WITHIN", "Contrast"]
