"""Log-probabilities of the tokens that ``generate`` chooses, noted while it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, SupportsIndex, overload

import torch

from grammars.errors import LimitExceeded


class ScoredTokens(list[int]):
    """Token ids, with the log-probability that each was chosen at.

    Attributes:
        logprobs: of each token, the natural logarithm of its probability among those that the grammar
            allowed there, at the sampling temperature (1 when greedy); empty where they are not known.
        failure: why the text is incomplete: the limit that its grammar reached; ``None`` where it is not.
    """

    failure: LimitExceeded | None = None

    def __init__(self, tokens: Iterable[int] = (), logprobs: Sequence[float] = ()) -> None:
        super().__init__(tokens)
        self.logprobs = list(logprobs)

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> ScoredTokens: ...
    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            part = ScoredTokens(super().__getitem__(index), self.logprobs[index])
            part.failure = self.failure
            return part
        return super().__getitem__(index)


@dataclass
class _Text:
    """A beginning of a row that was scored.

    Attributes:
        before: the same without its last token; ``None`` for a prompt.
        logprob: of its last token.
        law: float[V], log-probabilities of what may follow; ``None`` once it is long ago.
        ends: those of the ends.
    """

    before: _Text | None
    logprob: float
    law: torch.Tensor | None
    ends: dict[int, float] = field(default_factory=dict)


_NUMBERS: Final = 1 << 24
"""Numbers in all laws that are kept, where that leaves two laws for each row."""
_KEPT: Final = 64
"""Laws kept for each row: drafts of assisted decoding go back a few tokens, never so many."""


class Recorder:
    """A logits processor that changes nothing and notes how likely the chosen tokens were.

    It stands behind the grammar's processor.  Rows are known by their tokens, so that batches, beams
    and decoding with drafts may go on from whatever was scored before.

    Args:
        eos: the tokens that end a text.
        temperature: scores are divided by it.
    """

    def __init__(self, eos: Sequence[int], temperature: float = 1.0) -> None:
        self._eos = list(eos)
        self._temperature = temperature
        self._texts: dict[bytes, _Text] = {}
        self._recent: deque[_Text] = deque()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Notes the scores: int64[rows, length], floating[rows, V]; returns them as they are."""
        rows = input_ids.detach().cpu().numpy()
        laws = scores if scores.dtype == torch.float64 else scores.float()
        laws = torch.log_softmax(laws / self._temperature, -1)
        ends = laws[:, self._eos].tolist()
        for row, law, stops in zip(rows, laws, ends, strict=True):
            before = self._texts.get(row[:-1].tobytes())
            if before is None or before.law is None:
                text = _Text(None, 0.0, law)
            else:
                text = _Text(before, float(before.law[row[-1]]), law)
            text.ends = dict(zip(self._eos, stops, strict=True))
            self._texts[row.tobytes()] = text
            self._recent.append(text)
        room = min(_KEPT * len(rows), _NUMBERS // laws.shape[1])
        while len(self._recent) > max(room, 2 * len(rows)):
            self._recent.popleft().law = None
        return scores

    def written(self, prompt: Sequence[int], tokens: Sequence[int]) -> ScoredTokens:
        """The tokens with their log-probabilities, none if one is not known.

        Args:
            prompt: the row's beginning, padding included.
            tokens: what was written behind it, up to and with the end.
        """
        row = torch.tensor([*prompt, *tokens], dtype=torch.int64).numpy()
        text = self._texts.get(row[:-1].tobytes()) if len(tokens) else None
        if text is None:
            return ScoredTokens(tokens)
        last = int(row[-1])
        if text.law is not None:
            logprobs = [float(text.law[last])]
        elif last in text.ends:
            logprobs = [text.ends[last]]
        else:
            return ScoredTokens(tokens)
        while text.before is not None:
            logprobs.append(text.logprob)
            text = text.before
        if len(logprobs) != len(tokens):
            return ScoredTokens(tokens)
        return ScoredTokens(tokens, logprobs[::-1])
