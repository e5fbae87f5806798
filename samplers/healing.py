"""Prompts whose last tokens go back into the grammar, for every sampler."""

from __future__ import annotations

from collections.abc import Iterable

from constrain.automaton import TokenAutomaton
from constrain.healing import Healed, healed_if
from samplers.backend import Prompt, SpeculativeBackend
from samplers.sample import Sample


def asked(
    backend: SpeculativeBackend, prompt: Prompt, automaton: TokenAutomaton, heal: bool
) -> Healed:
    """The tokens of a prompt, and the automaton of what is to follow them.

    Raises:
        TypeError, ValueError: as :meth:`samplers.SpeculativeBackend.encode`.
        GrammarError: as :func:`constrain.heal`.
    """
    return healed_if(heal, backend.encode(prompt), automaton)


def without_prefix(sample: Sample, healed: Healed) -> Sample:
    """The sample, its text without what was taken off the prompt."""
    if healed.prefix:
        tokens = sample.token_ids[:-1] if sample.complete else sample.token_ids
        sample.prefix = healed.prefix
        sample.text = healed.text(tokens).decode("utf-8", "replace")
    return sample


def without_prefixes(samples: Iterable[Sample], healed: Healed) -> list[Sample]:
    """The same of several samples."""
    return [without_prefix(sample, healed) for sample in samples]
