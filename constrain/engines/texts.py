"""Texts of requests that bring a grammar in ``extra_args``, followed by what an engine says was written."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from constrain.engines.automata import Automata, Walk
from grammars.errors import GrammarError
from grammars.frontends.advice import json_error
from grammars.requests import GrammarRequest

NAME: Final = "gramma"
"""The member of ``extra_args``."""
_BUDGET: Final = "max_tokens"
_logger: Final = logging.getLogger("vllm.gramma")


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        grammar: the grammar.
        budget: tokens that the text may have, the one that ends it included; ``None`` if none is said.
    """

    grammar: GrammarRequest
    budget: int | None

    @classmethod
    def of(cls, params: Any) -> Asked | None:
        """From vLLM's ``SamplingParams``; ``None`` if they ask for no grammar.

        What is asked for may be JSON text as well: over HTTP, ``vllm_xargs`` take no objects.

        Raises:
            GrammarError: for a request that is none, or a budget that is no positive integer or beyond
                ``max_tokens``.
        """
        given = (params.extra_args or {}).get(NAME)
        if given is None:
            return None
        if isinstance(given, str):
            given = _parsed(given)
        if not isinstance(given, Mapping):
            return cls(GrammarRequest.of(given), None)
        grammar = GrammarRequest.of({k: v for k, v in given.items() if k != _BUDGET})
        budget, most = given.get(_BUDGET), params.max_tokens
        if budget is None:
            return cls(grammar, most)
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
            raise GrammarError(f"must be a positive integer, not {budget!r}", pointer=f"/{_BUDGET}")
        if most is not None and budget > most:
            raise GrammarError(
                f"{budget} is more than the request's own max_tokens={most}", pointer=f"/{_BUDGET}"
            )
        return cls(grammar, budget)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise json_error(text, error, "what is asked for is not JSON") from None
    except RecursionError:
        raise GrammarError("what is asked for is nested too deeply to be read") from None


class Text:
    """One request's text, followed by what vLLM says was written.

    Args:
        automata: of the model.
        asked: the grammar and the budget.
        ends: ids that end the text.
        written: the list of its tokens, where the engine keeps one that grows.

    Attributes:
        seen: the tokens that were followed.
    """

    def __init__(
        self, automata: Automata, asked: Asked, ends: Iterable[int], written: Sequence[int] = ()
    ) -> None:
        self.written: Final = written
        self.seen: list[int] = []
        self._budget = asked.budget
        self._told = False
        self._end_row = automata.end_row(ends)
        self._walk: Walk | None
        try:
            self._walk = automata.walk(asked.grammar, ends)
        except GrammarError as error:  # only the vocabulary shows it, where none can be refused
            _logger.error("No text of a grammar can be written, so an empty one is: %s", error)
            self._walk = None
            return
        if asked.budget is not None and not self._walk.fits(asked.budget):
            _logger.warning(
                "No text of a grammar fits %d tokens; it will be cut off, with 'length' as the reason.",
                asked.budget,
            )
            self._budget = None

    def follow(self, written: Sequence[int]) -> None:
        """Goes to what is written now, by taking back and by taking tokens.

        Args:
            written: all tokens of the text.
        """
        same = len(self.seen)
        if list(written[:same]) != self.seen:
            pairs = zip(self.seen, written, strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        del self.seen[same:]
        self.seen += written[same:]
        walk = self._walk
        if walk is None:
            return
        walk.rollback(max(0, walk.taken - same))
        if walk.taken == same:
            walk.accept(self.seen[same:])
        if self._is_lost and not self._told:
            self._told = True
            _logger.error(
                "Token %s was written where its grammar does not allow it%s; the text ends here.",
                self.seen[walk.taken],
                "" if walk.failure is None else f" ({walk.failure})",
            )

    def draft(self, token: int) -> bool:
        """Goes on by a token that is not written yet, if it is allowed; :meth:`follow` takes it back."""
        walk = self._walk
        if walk is None or self._is_lost or not walk.allowed([token]):
            return False
        walk.accept([token])
        self.seen.append(token)
        return True

    @property
    def _is_lost(self) -> bool:
        """Whether something was written that the grammar does not allow."""
        walk = self._walk
        return walk is None or (walk.taken < len(self.seen) and not walk.finished)

    def fill(self, row: Any) -> None:
        """Writes the mask of the next token, int32[words]."""
        walk = self._walk
        if walk is None or self._is_lost:
            row[:] = self._end_row
            return
        if self._budget is not None:
            walk.fill(row, self._budget - walk.taken)
            if row.any():
                return
        walk.fill(row)
