"""Where a document stands among the tokens of a prompt, and its lines.

A prompt is more than the document: instructions, schema, examples, the marks of a chat template.  Only the
document may be dropped, so its tokens have to be known for certain.  They are found by their bytes: the
document stands in the bytes of the prompt's tokens, and tokens that lie wholly within are the document's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from constrain.vocabulary import Vocabulary
from grammars.json_places import Span


@dataclass(frozen=True)
class Document:
    """A document within a prompt.

    Attributes:
        text: the document, as it was given.
        tokens: positions in the prompt of the tokens that lie wholly in it.
        lines: the same positions in parts: each line with the line break behind it, and with the blank
            lines that follow.
    """

    text: str
    tokens: range
    lines: tuple[range, ...]
    _bytes: tuple[Span, ...]
    """Of each token, the bytes of ``text`` in UTF-8."""

    @classmethod
    def found(cls, text: str, ids: Sequence[int], vocabulary: Vocabulary) -> Document:
        """The document in a prompt; at its last place, if it stands there several times.

        Args:
            text: without regard to white space at both ends, which prompts leave out.
            ids: of the prompt.
            vocabulary: of the model.

        Raises:
            ValueError: if it does not stand there as it is.
        """
        names = {number: name.encode() for name, number in vocabulary.special_tokens.items()}
        pieces = [vocabulary.token_bytes(i) or names.get(i, b"") for i in ids]
        ends = list(accumulate(map(len, pieces)))
        data, wanted = b"".join(pieces), text.strip().encode("utf-8", "surrogatepass")
        begin = data.rfind(wanted)
        if not wanted or begin < 0:
            raise ValueError(
                "shorten= has to find the document in the prompt, and it does not stand there as it is; "
                "a prompt= that changes the text, or a tokenizer that does, cannot be shortened"
            )
        # a token that begins before the document, or ends behind it, is no part of it
        first = bisect_left(ends, begin) + 1 if begin else 0
        last = bisect_right(ends, begin + len(wanted))
        while first < last and not pieces[first]:  # marks without a name
            first += 1
        while first < last and not pieces[last - 1]:
            last -= 1
        blank = text[: len(text) - len(text.lstrip())]
        shift = len(blank.encode("utf-8", "surrogatepass")) - begin
        places = tuple(
            (ends[i] - len(pieces[i]) + shift, ends[i] + shift) for i in range(first, last)
        )
        return cls(text, range(first, last), tuple(_lines(pieces, first, last)), places)

    def spans(self, kept: Sequence[int]) -> tuple[Span, ...]:
        """The parts of the text that some tokens stand for, in characters, neighbours joined.

        Args:
            kept: positions in the prompt, ascending, all in ``tokens``.
        """
        joined: list[list[int]] = []
        for position in kept:
            begin, end = self._bytes[position - self.tokens.start]
            if joined and joined[-1][1] == begin:
                joined[-1][1] = end
            else:
                joined.append([begin, end])
        # a character of which a token has a part only counts as read
        starts = [0, *accumulate(len(c.encode("utf-8", "surrogatepass")) for c in self.text)]
        return tuple(
            (bisect_right(starts, begin) - 1, bisect_left(starts, end)) for begin, end in joined
        )


def _lines(pieces: Sequence[bytes], first: int, last: int) -> list[range]:
    """Parts of ``range(first, last)``: a token belongs to the line in which it begins."""
    lines: list[range] = []
    begin, is_blank, has_ended = first, True, False
    for i in range(first, last):
        is_word = bool(pieces[i].strip())
        if is_word and has_ended:
            if not is_blank:
                lines.append(range(begin, i))
                begin, is_blank = i, True
            has_ended = False
        is_blank = is_blank and not is_word
        has_ended = has_ended or b"\n" in pieces[i]
    if begin < last:
        lines.append(range(begin, last))
    return lines
