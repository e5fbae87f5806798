"""Copies from the prompt and from the text itself.

What is extracted stands in the prompt, but often in other tokens: ``Acme`` there begins with a blank
and here with a quotation mark.  So the search is for bytes: the longest end of the text that occurs
earlier (the latest occurrence wins), and what follows there is tokenized for here.  ``bytes.rfind``
over a prompt takes a few microseconds, less than any index kept in Python.

Source: Saxena 2023, "Prompt lookup decoding" (on tokens).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from samplers.drafters.base import Context, Drafter
from samplers.drafters.text import Speller
from samplers.speculative.tree import ROOT

_LONGEST: Final = 24
"""Bytes of the text that are looked for, at most."""
_SHORTEST: Final = 2
_COPIED: Final = 32
"""Bytes copied at most."""


@dataclass
class _Row:
    prompt: bytes
    length: int  # tokens of the prompt


class PromptLookup(Drafter):
    """Continues the longest end of the text that occurred before as it went on there."""

    name = "PromptLookup"

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}
        self._speller = Speller()

    def begin(self, context: Context) -> None:
        """Reads the prompt."""
        automaton = context.target.automaton
        if automaton is not None:
            prompt = list(context.tokens[: context.prompt_length])
            text = automaton.vocabulary.decode(prompt)
            self._rows[context.row] = _Row(text, context.prompt_length)

    def propose(self, context: Context) -> None:
        """One chain; for texts without a grammar the search is for tokens."""
        automaton = context.target.automaton
        if automaton is None:
            self._propose_tokens(context)
            return
        row = self._rows.get(context.row)
        if row is None or row.length != context.prompt_length:
            self.begin(context)
            row = self._rows[context.row]
        text = automaton.vocabulary.decode(context.new_tokens)
        found = find(row.prompt, text)
        if found is None:
            return
        length, continuation = found
        tokens = self._speller.tokens(context, context.tokens, continuation)
        if len(continuation) == _COPIED:
            tokens = tokens[:-1]  # cut off in the middle of a word
        context.chain(ROOT, tokens, self.name, score_of(length))

    def _propose_tokens(self, context: Context) -> None:
        tokens = list(context.tokens)
        for size in (4, 3, 2, 1):
            end = tokens[-size:]
            for at in range(len(tokens) - size - 1, -1, -1):
                if tokens[at : at + size] == end:
                    following = tokens[at + size : at + size + 8]
                    context.chain(ROOT, following, self.name, score_of(3 * size))
                    return


def find(prompt: bytes, text: bytes) -> tuple[int, bytes] | None:
    """The longest end of ``text`` that occurs earlier, and what follows its latest occurrence.

    Returns:
        (bytes that agree, continuation), or ``None``.
    """
    where = prompt + b"\x00" + text
    best: tuple[int, int] | None = None
    low, high = _SHORTEST, min(_LONGEST, len(text))
    while low <= high:  # an end occurs if a longer one does
        middle = (low + high) // 2
        at = where.rfind(text[len(text) - middle :], 0, len(where) - 1)
        if at < 0:
            high = middle - 1
        else:
            best = middle, at
            low = middle + 1
    if best is None:
        return None
    length, at = best
    following = where[at + length : at + length + _COPIED]
    following = following.split(b"\x00")[0]
    return (length, following) if following else None


def score_of(agreeing: int) -> float:
    """How sure a copy is, by the bytes that agree; calibrated by what comes true."""
    return min(0.95, 0.2 + 0.06 * agreeing)
