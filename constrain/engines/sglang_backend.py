"""A grammar backend for SGLang: ``--grammar-backend gramma``.

SGLang's own hooks are all it needs: a plugin group, a registry of backends and a list of their names.
Written for SGLang 0.5.23.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Final

import torch

from constrain.bitmask import apply_bitmask_
from constrain.engines.automata import Automata, Walk
from constrain.engines.errors import missing_engine
from grammars.errors import GrammarError
from grammars.requests import GrammarRequest

try:
    from sglang.srt.arg_groups.choices import GRAMMAR_BACKEND_CHOICES
    from sglang.srt.constrained.base_grammar_backend import (
        BaseGrammarBackend,
        BaseGrammarObject,
        GrammarStats,
        InvalidGrammarObject,
        register_grammar_backend,
    )
except ModuleNotFoundError as error:
    raise missing_engine("sglang", error) from error


NAME: Final = "gramma"
"""The name of the backend on SGLang's command line."""


def load() -> None:
    """Makes SGLang know the backend, in the process that calls it; what SGLang's plugin group calls."""
    if NAME not in GRAMMAR_BACKEND_CHOICES:
        GRAMMAR_BACKEND_CHOICES.append(NAME)
    register_grammar_backend(NAME, _made)


def _made(server_args: Any, tokenizer: Any, vocab_size: int, eos_token_ids: Any) -> GrammaBackend:
    """The backend as SGLang asks for one."""
    if server_args.reasoning_parser:
        raise GrammarError(
            "SGLang applies --reasoning-parser to its own grammar backends alone; leave it out, and write "
            "the thought into the grammar (docs/free-text.md)"
        )
    if server_args.constrained_json_whitespace_pattern is not None:
        raise GrammarError(
            "--constrained-json-whitespace-pattern: blanks are not chosen by a pattern; leave it out, or "
            "use --constrained-json-disable-any-whitespace for none"
        )
    compact = server_args.constrained_json_disable_any_whitespace
    return GrammaBackend(tokenizer, vocab_size, eos_token_ids, compact=compact)


class GrammaGrammar(BaseGrammarObject):
    """One request's text in its grammar.

    Args:
        automata: of the model.
        request: the grammar.
        stats: what SGLang counts, if anything.

    Raises:
        GrammarError: for what is no grammar, or has no text over the vocabulary.
    """

    def __init__(
        self, automata: Automata, request: GrammarRequest, stats: GrammarStats | None = None
    ) -> None:
        super().__init__()
        self._automata = automata
        self._request = request
        self._walk: Walk = automata.walk(request)
        self.grammar_stats = stats

    def accept_token(self, token: int) -> None:
        """Takes a token; those behind the one that ends the text are ignored.

        Raises:
            ValueError: for one that is not allowed; SGLang ends the request.
        """
        walk = self._walk
        self.current_token = token
        if not walk.finished and not walk.accept([token]):
            why = "" if walk.failure is None else f": {walk.failure}"
            raise ValueError(f"token {token} is not allowed behind {walk.taken} others{why}")

    def rollback(self, k: int) -> None:
        """Takes back tokens.

        Raises:
            ValueError: for more than were taken.
        """
        self._walk.rollback(k)

    def is_terminated(self) -> bool:
        """Whether a token has ended the text."""
        return self._walk.finished

    def allocate_vocab_mask(self, vocab_size: int, batch_size: int, device: Any) -> torch.Tensor:
        """Room for masks, int32[batch_size, ceil(V/32)] on the CPU, in which everything is allowed."""
        pinned = torch.cuda.is_available()
        words = self._automata.words
        return torch.full((batch_size, words), -1, dtype=torch.int32, pin_memory=pinned)

    def fill_vocab_mask(self, vocab_mask: torch.Tensor, idx: int) -> None:
        """Writes the mask of the next token into a row; one of a text that has ended stays as it is."""
        if not self._walk.finished:
            self._walk.fill(vocab_mask.numpy()[idx])

    @staticmethod
    def reset_vocab_mask(vocab_mask: torch.Tensor) -> None:
        """Allows everything."""
        vocab_mask.fill_(-1)

    @staticmethod
    def move_vocab_mask(vocab_mask: torch.Tensor, device: Any) -> torch.Tensor:
        """The masks on the device of the logits."""
        return vocab_mask.to(device, non_blocking=True)

    @staticmethod
    def apply_vocab_mask(logits: torch.Tensor, vocab_mask: torch.Tensor) -> None:
        """Sets logits of tokens that are not allowed to minus infinity, in place."""
        apply_bitmask_(logits, vocab_mask)

    def copy(self) -> GrammaGrammar:
        """A text of the same grammar of which nothing is written."""
        return GrammaGrammar(self._automata, self._request, self.grammar_stats)


class GrammaBackend(BaseGrammarBackend):
    """Grammars of one engine.

    Args:
        tokenizer: of the model.
        vocab_size: rows of the model's logits.
        eos_token_ids: ids that end a text; the tokenizer's by default.
        compact: whether JSON is written without blanks.
    """

    def __init__(
        self, tokenizer: Any, vocab_size: int, eos_token_ids: Any = None, *, compact: bool = False
    ) -> None:
        super().__init__()
        ends = [eos_token_ids] if isinstance(eos_token_ids, int) else eos_token_ids
        self._automata = Automata(tokenizer, vocab_size, eos_token_ids=ends)
        self._compact = compact

    def dispatch_json(self, key_string: str) -> BaseGrammarObject:
        """The grammar of a schema; SGLang writes ``$$ANY$$`` for any object."""
        blanks = {"disable_any_whitespace": self._compact}
        if key_string == "$$ANY$$":
            return self._dispatched("json", {"json_object": True, **blanks})
        return self._dispatched("json", {"json": key_string, **blanks})

    def dispatch_regex(self, key_string: str) -> BaseGrammarObject:
        """The grammar of a regular expression."""
        return self._dispatched("regex", {"regex": key_string})

    def dispatch_ebnf(self, key_string: str) -> BaseGrammarObject:
        """The grammar of a text in EBNF, or Lark."""
        return self._dispatched("ebnf", {"grammar": key_string})

    def dispatch_structural_tag(self, key_string: str) -> BaseGrammarObject:
        """The grammar of a structural tag."""
        return self._dispatched("structural_tag", {"structural_tag": key_string})

    def _dispatched(self, kind: str, asked: dict[str, Any]) -> BaseGrammarObject:
        try:
            stats = GrammarStats(dispatch_type=kind)
            return GrammaGrammar(self._automata, GrammarRequest.of(asked), stats)
        except GrammarError as error:
            return InvalidGrammarObject(str(error))

    def set_cache(self, key: tuple[str, str], value: BaseGrammarObject) -> None:
        """Nothing: SGLang's own cache has no bound, and automata are kept here."""

    def get_cached_or_future_value(
        self, key: tuple[str, str], require_reasoning: bool
    ) -> tuple[BaseGrammarObject | Future[BaseGrammarObject], bool]:
        """A grammar that is being made; at once where its automaton is kept."""
        return self.executor.submit(self._init_value_dispatch, key, require_reasoning), False
