"""What an extraction returns."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from constrain.confidence import confidences
from grammars.json_places import Span
from grammars.sources.locating import Located, locate

if TYPE_CHECKING:  # late: torch is not needed for answers of servers
    from constrain.huggingface.shortening.filters import Shortened


@dataclass(frozen=True)
class Extraction:
    """What was extracted.

    Attributes:
        value: the validated value: an instance of the type, or plain data for a schema; the text
            itself where a grammar of other texts than JSON was given; ``None`` if the text is not
            complete.
        text: what the model wrote.
        tokens: its token ids, the final EOS included.
        complete: whether the text is whole and of the grammar.
        prefix: the end of the prompt that ``tokens`` begin with (``heal=True``); not part of ``text``.
        reasoning: the thought that was written before (``reasoning=``); no part of ``text`` and ``tokens``.
        weight: the share of this answer among several (``extract_samples``).
        error: why there is no value (``extract_many(on_error="return")``, or an answer of a server that was
            cut off); ``None`` if there is one.
        source: the text that was read: what was given, or what users say in chat messages; ``None`` if
            that is not known.
        shortened: what was read of the text (``shorten=``): ``found.shortened.lossy`` says whether something
            was not; ``None`` if nothing was to be left out.
        pieces: the bytes of each token.
        token_constrained_logprobs: of each token, the natural logarithm of its probability among those
            that the grammar allowed there, at the sampling temperature (1 when greedy); empty where a
            ``generate`` does not tell, or a stop text or a caller ended the writing.
    """

    value: Any
    text: str
    tokens: list[int]
    complete: bool
    prefix: bytes = b""
    reasoning: str = ""
    weight: float = 1.0
    error: Exception | None = None
    source: str | None = field(default=None, compare=False, repr=False)
    shortened: Shortened | None = field(default=None, compare=False)
    pieces: tuple[bytes, ...] = field(default=(), compare=False, repr=False)
    token_constrained_logprobs: list[float] = field(default_factory=list, compare=False, repr=False)

    @cached_property
    def confidence(self) -> dict[str, float]:
        """How sure the model was: JSON pointer -> probability of the value against what was allowed there.

        Of scalars, of arrays that they have as many items, and of objects that are empty; see
        :func:`constrain.confidence.confidences`.
        Pointers are of ``text``: they have the names that were written.  Empty while the text is not
        complete, or if ``token_constrained_logprobs`` are not known.
        """
        if not self.complete:
            return {}
        logprobs, skip = self.token_constrained_logprobs, len(self.prefix)
        return confidences(self.text, self.pieces, logprobs, skip=skip)

    @property
    def sources(self) -> dict[str, Span]:
        """Where values stand in ``source``: JSON pointer -> (start, end), in characters.

        Of strings, numbers and dates that stand there (:mod:`grammars.sources.locating`); a value that is
        not here was made up, or said in other words.  Where a value stands at several places, the
        likeliest is chosen; ``ambiguous`` has them all.
        """
        return self._located.sources

    @property
    def ambiguous(self) -> dict[str, list[Span]]:
        """All places of the values that stand at several in ``source``."""
        return self._located.ambiguous

    @cached_property
    def _located(self) -> Located:
        if not self.complete or self.source is None:
            return Located()
        try:
            return locate(self.text, self.source)
        except ValueError:  # a grammar of other texts, whose value is the text
            return locate(json.dumps(self.text), self.source)
