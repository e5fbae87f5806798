"""Language models of first order over letters: languages far too large to enumerate, laws summed exactly.

The model is a Llama whose attention and feed-forward layers add nothing, so that the logits after a token
are a row of a table; Pr(L) and means under Q are then sums over paths of an automaton.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar
from samplers import Sample, SpeculativeBackend

LETTERS = string.ascii_lowercase
EOS = len(LETTERS)
BOS = EOS + 1
SIZE = BOS + 1


@dataclass(frozen=True)
class Markov:
    """A model of letters, the first ``legal`` of them legal, texts of exactly ``length`` letters.

    Attributes:
        table: float64[before, after], log-probabilities; the last row is that of the prompt.
    """

    table: Any
    legal: int
    length: int

    def log_power_mass(self, power: float = 1.0) -> float:
        """Log of the sum over L of P(w)^power."""
        t, k = power * self.table, self.legal
        rest = t[:k, EOS]
        for _ in range(self.length - 1):
            rest = np.logaddexp.reduce(t[:k, :k] + rest[None, :], axis=1)
        return float(np.logaddexp.reduce(t[BOS, :k] + rest))

    def log_mass(self) -> float:
        """Log Pr(L), exactly."""
        return self.log_power_mass()

    def mean_logprob(self) -> float:
        """E log P under Q: the derivative of the sum of powers, by central differences."""
        step = 1e-5
        upper, lower = self.log_power_mass(1 + step), self.log_power_mass(1 - step)
        return (upper - lower) / (2 * step)

    def logprob(self, tokens: list[int]) -> float:
        """Log P of a text, EOS included."""
        return float(sum(self.table[a, b] for a, b in zip([BOS, *tokens], tokens, strict=False)))

    def masked(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(log P, log of the importance weight P / q) of texts drawn letter by letter within the mask."""
        generator = np.random.default_rng(seed)
        logp, weight = np.zeros(count), np.zeros(count)
        before = np.full(count, BOS)
        for _ in range(self.length):
            rows = self.table[before][:, : self.legal]
            total = np.logaddexp.reduce(rows, axis=1)
            sums = np.cumsum(np.exp(rows - total[:, None]), axis=1)
            drawn = (generator.random(count)[:, None] * sums[:, -1:] > sums).sum(axis=1)
            logp += rows[np.arange(count), drawn]
            weight += total
            before = drawn
        end = self.table[before, EOS]
        return logp + end, weight + end

    def automaton(self) -> TokenAutomaton:
        """Of the language."""
        pieces = [letter.encode() for letter in LETTERS]
        vocabulary = Vocabulary.from_tokens([*pieces, None, None], [EOS])
        pattern = f"[a-{LETTERS[self.legal - 1]}]{{{self.length}}}"
        return TokenAutomaton(Grammar.from_regex(pattern), vocabulary)

    def backend(self, **options: Any) -> SpeculativeBackend:
        """Of the model."""
        options = {"drafters": [], "adaptive": False} | options
        return SpeculativeBackend(_llama(self.table.tobytes()), None, **options)

    @property
    def prompt(self) -> list[int]:
        """The prompt."""
        return [BOS]

    @property
    def budget(self) -> int:
        """Tokens of a text, EOS included."""
        return self.length + 1


def trapping(
    seed: int, legal: int, length: int, *, scale: float, bent: float, trap: float
) -> Markov:
    """Some legal letters are likely and lead where hardly anything legal is: masks fall for them."""
    table = np.random.default_rng(seed).normal(size=(SIZE, SIZE)) * scale
    bad = np.arange(legal // 2)
    table[:, :legal] -= bent
    table[:, bad] += trap / 3
    table[np.ix_(bad, np.arange(legal))] -= trap
    table[:, BOS] = -60.0
    return Markov(table - np.logaddexp.reduce(table, axis=1, keepdims=True), legal, length)


def mean_logprob(samples: list[Sample]) -> tuple[float, float]:
    """Mean of log P, and its standard error if samples were independent."""
    values = np.array([s.logprob for s in samples])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


@cache
def _llama(table: bytes) -> LlamaForCausalLM:
    width = 32
    logits = np.frombuffer(table).reshape(SIZE, SIZE)
    config = LlamaConfig(
        vocab_size=SIZE,
        hidden_size=width,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        bos_token_id=BOS,
        eos_token_id=EOS,
        rms_norm_eps=1e-12,
    )
    made = LlamaForCausalLM(config).eval().double()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "norm" not in name:
                weight.zero_()
        made.model.embed_tokens.weight[:, :SIZE] = torch.eye(SIZE, dtype=torch.float64)
        # a norm of one entry among ``width`` makes it the root of ``width``
        made.lm_head.weight[:, :SIZE] = torch.from_numpy(logits.T / width**0.5)
    return made
