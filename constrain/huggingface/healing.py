"""Token healing for ``generate``: a batch of prompts without their last tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from constrain.arguments import described
from constrain.automaton import TokenAutomaton
from constrain.canonical.copies import as_written
from constrain.healing import Healed, heal
from constrain.huggingface.processor import GrammarLogitsProcessor, checked_automata


@dataclass(frozen=True)
class HealedInputs:
    """Prompts for ``generate``, each without the tokens that its text is to begin with.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask``, int64[rows, length], padded on the left; and whatever
            else was given that has no tokens in it.
        rows: of each prompt, what was taken off it.
    """

    inputs: dict[str, Any]
    rows: list[Healed]

    @property
    def prefixes(self) -> list[bytes]:
        """The bytes that were taken off each prompt, with which its new tokens begin."""
        return [row.prefix for row in self.rows]

    def processor(self, *, max_new_tokens: int | None = None) -> GrammarLogitsProcessor:
        """The processor for these prompts.

        Args:
            max_new_tokens: as :class:`~constrain.GrammarLogitsProcessor` takes it; the tokens that spell
                what was taken off count.
        """
        automata = [row.automaton for row in self.rows]
        return GrammarLogitsProcessor(automata, max_new_tokens=max_new_tokens)

    def texts(self, sequences: torch.Tensor) -> list[bytes]:
        """The texts of the grammar, without what was taken off, EOS and padding.

        Args:
            sequences: int64[rows * k, length], what ``generate`` returned: k for each prompt, side by side.

        Raises:
            ValueError: if there are not equally many for each prompt.
        """
        each, rest = divmod(len(sequences), len(self.rows))
        if rest or not each:
            raise ValueError(f"{len(sequences)} sequences are not of {len(self.rows)} prompts")
        begin = self.inputs["input_ids"].shape[1]
        return [
            self.rows[i // each].text(_until_end(row, self.rows[i // each]))
            for i, row in enumerate(sequences[:, begin:].tolist())
        ]


def heal_inputs(
    inputs: Any,
    automaton: TokenAutomaton | Sequence[TokenAutomaton],
    *,
    canonical: bool = False,
) -> HealedInputs:
    """Takes the last tokens of a batch of prompts back into the grammar, each as :func:`constrain.heal`.

    Example::

        healed = heal_inputs(tokenizer(prompts, return_tensors="pt", padding=True), automaton)
        processor = healed.processor(max_new_tokens=64)
        out = model.generate(**healed.inputs, logits_processor=[processor], max_new_tokens=64)
        texts = healed.texts(out)

    Args:
        inputs: what a tokenizer returned: ``input_ids`` and ``attention_mask``, int64[rows, length],
            padded on whichever side; or the ids alone, all of them then tokens of prompts.
        automaton: one for all rows, or one for each.
        canonical: as :class:`~constrain.GrammarLogitsProcessor` takes it.

    Raises:
        TypeError: for inputs of other kinds.
        ValueError: for an id outside the vocabulary, an empty prompt, or automata for other numbers of
            prompts.
        GrammarError: as :func:`constrain.heal`.
    """
    ids, mask, others = _parts(inputs)
    automata = tuple(as_written(one, canonical) for one in checked_automata(automaton))
    if len(automata) not in (1, len(ids)):
        raise ValueError(
            f"{len(automata)} automata for {len(ids)} prompts; give one, or one for each"
        )
    if len(automata) == 1:
        automata = automata * len(ids)
    rows = []
    for number, (row, kept, own) in enumerate(zip(ids, mask, automata, strict=True)):
        prompt = row[kept].tolist()
        if not prompt:
            raise ValueError(f"prompt {number} is empty: it needs at least one token")
        rows.append(heal(prompt, own, keep=1))
    made = {name: table.to(ids.device) for name, table in _padded(rows, automata).items()}
    return HealedInputs(others | made, rows)


def _parts(inputs: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Token ids, which of them are no padding, and what else was given."""
    others: dict[str, Any] = {}
    mask: Any = None
    ids = inputs
    if isinstance(inputs, Mapping) or hasattr(inputs, "input_ids"):
        given = dict(inputs)
        ids, mask = given.pop("input_ids", None), given.pop("attention_mask", None)
        # what is told of each token would no longer fit
        others = {name: value for name, value in given.items() if not _is_of_tokens(value, ids)}
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        raise TypeError(
            "inputs must be what a tokenizer returns with return_tensors='pt', or token ids "
            f"[rows, length], not {described(inputs if ids is None else ids)}"
        )
    if mask is None:
        mask = torch.ones_like(ids)
    if not isinstance(mask, torch.Tensor) or mask.shape != ids.shape:
        raise TypeError("attention_mask must be a tensor of the shape of input_ids")
    return ids, mask.bool(), others


def _is_of_tokens(value: Any, ids: Any) -> bool:
    shape = getattr(value, "shape", None)
    return shape is not None and tuple(shape) == tuple(getattr(ids, "shape", ()))


def _padded(rows: Sequence[Healed], automata: Sequence[TokenAutomaton]) -> dict[str, torch.Tensor]:
    """The prompts that are left, with padding before them."""
    length = max(len(row.prompt) for row in rows)
    pad = min(automata[0].vocabulary.eos_token_ids)
    ids = [[pad] * (length - len(row.prompt)) + row.prompt for row in rows]
    mask = [[0] * (length - len(row.prompt)) + [1] * len(row.prompt) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def _until_end(tokens: list[int], healed: Healed) -> list[int]:
    """The tokens before the first EOS, behind which ``generate`` pads."""
    ends = healed.automaton.vocabulary.eos_token_ids
    return tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens))]
