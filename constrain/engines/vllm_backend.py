"""A structured-output backend for vLLM: exact masks for requests with ``structured_outputs``.

vLLM calls it in the process of the engine's core, whatever runs the model.  :mod:`.vllm_plugin` makes it
known to vLLM under the name ``gramma``; written for and run with vLLM 0.33.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from constrain.engines.automata import Automata, Walk
from constrain.engines.errors import missing_engine
from grammars.requests import GrammarRequest

try:
    from vllm.logger import init_logger
    from vllm.v1.structured_output.backend_types import (
        StructuredOutputBackend,
        StructuredOutputGrammar,
        StructuredOutputOptions,
    )
except ModuleNotFoundError as error:
    raise missing_engine("vllm", error) from error


_logger = init_logger("vllm.gramma")
_MEMBERS: Final = {
    StructuredOutputOptions.JSON: "json",
    StructuredOutputOptions.REGEX: "regex",
    StructuredOutputOptions.GRAMMAR: "grammar",
    StructuredOutputOptions.STRUCTURAL_TAG: "structural_tag",
}


@dataclass
class GrammaBackend(StructuredOutputBackend):
    """Grammars of one engine.

    Attributes:
        vllm_config: of the engine.
        tokenizer: of the model.
        vocab_size: rows of the model's logits.
    """

    def __post_init__(self) -> None:
        self._automata = Automata(self.tokenizer, self.vocab_size)

    def compile_grammar(
        self,
        request_type: StructuredOutputOptions,
        grammar_spec: str,
        stop_token_ids: set[int] | None = None,
    ) -> GrammaGrammar:
        """The grammar of a request, as vLLM hands it on; may be called from several threads.

        Raises:
            GrammarError: for what is no grammar, or has no text over this vocabulary; the request fails.
        """
        return self.compile_request(self._members(request_type, grammar_spec), stop_token_ids or ())

    def compile_request(
        self, asked: Mapping[str, Any], stop_token_ids: Iterable[int] = ()
    ) -> GrammaGrammar:
        """The grammar of everything that a request asked for.

        Args:
            asked: as :meth:`grammars.requests.GrammarRequest.of` takes it.
            stop_token_ids: all ids that end the request's text; the tokenizer's EOS if empty.

        Raises:
            GrammarError: as :meth:`compile_grammar`.
        """
        return GrammaGrammar(self._automata.walk(GrammarRequest.of(asked), stop_token_ids))

    @staticmethod
    def _members(kind: StructuredOutputOptions, spec: str) -> dict[str, Any]:
        """What a request asked for, as ``structured_outputs`` says it."""
        if kind is StructuredOutputOptions.JSON_OBJECT:
            return {"json_object": True}
        if kind is StructuredOutputOptions.CHOICE:
            return {"choice": json.loads(spec)}
        return {_MEMBERS[kind]: spec}

    def allocate_token_bitmask(self, max_num_seqs: int) -> torch.Tensor:
        """Room for masks, int32[max_num_seqs, ceil(V/32)], in which everything is allowed.

        Not pinned: the process that fills masks has no business with the device.
        """
        return torch.full((max_num_seqs, self._automata.words), -1, dtype=torch.int32)

    def destroy(self) -> None:
        """Nothing is held that outlives the engine."""


class GrammaGrammar(StructuredOutputGrammar):
    """One request's text in its grammar.

    Args:
        walk: a text of which nothing is written.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    @property
    def num_processed_tokens(self) -> int:
        """Tokens taken, the one that ended the text included."""
        return self._walk.taken

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        """Takes tokens; those behind the one that ends the text are ignored.

        Returns:
            Whether all of them were allowed.  Those before the first that was not are taken.
        """
        walk = self._walk
        count = walk.accept(tokens)
        if count == len(tokens) or walk.finished:
            return True
        _logger.error(
            "Request %s: token %s is not allowed here%s.",
            request_id,
            tokens[count],
            "" if walk.failure is None else f": {walk.failure}",
        )
        return False

    def validate_tokens(self, tokens: list[int]) -> list[int]:
        """The longest part from the front that would be taken; nothing is."""
        return tokens[: self._walk.allowed(tokens)]

    def rollback(self, num_tokens: int) -> None:
        """Takes back tokens.

        Raises:
            ValueError: for more than were taken.
        """
        self._walk.rollback(num_tokens)

    def fill_bitmask(self, bitmask: torch.Tensor, batch_index: int) -> None:
        """Writes the mask of the next token into a row of ``bitmask``, int32[batch, ceil(V/32)]."""
        self._walk.fill(bitmask.numpy()[batch_index])

    def is_terminated(self) -> bool:
        """Whether a token has ended the text."""
        return self._walk.finished

    def reset(self) -> None:
        """Takes back all tokens."""
        self._walk.reset()
