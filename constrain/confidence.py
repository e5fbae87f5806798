"""How sure a model was of each value that it wrote: the probabilities of the value's tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from grammars.json_places import Span, places


def confidences(
    text: str, pieces: Sequence[bytes], logprobs: Sequence[float], *, skip: int = 0
) -> dict[str, float]:
    """The probability of each value of a JSON text, against what the grammar allowed in its place.

    It is the product over the tokens that have a byte of the value, quotation marks included, of their
    probabilities under the mask.  Tokens that were forced count as certain; a token that reaches beyond
    the value (its last character and a comma, say) counts wholly, and for two values if it has bytes of
    both.  The end of a number is in the token behind it, which does not count: the probability is that
    of a number that *begins* with these digits.

    Only what was written counts: another way of cutting the value into tokens, or a blank before it in the
    same token, is an alternative like any other, so that probabilities are a little low.

    Scalars have one, and arrays and objects that are empty.  That of another array is the probability that
    it has as many items: the tokens with a byte of it outside of its items count, brackets and commas.  The
    values of an item are those of an item that is there; whether it is there is the array's.  Other
    objects are left out.  A text that is no JSON is one value, whose tokens are all there are, its end
    among them.

    Args:
        text: what was written, whole.
        pieces: the bytes of each token; empty for special tokens.
        logprobs: of each token, the natural logarithm of its probability among the tokens allowed there.
        skip: bytes before the text that the first tokens write (what was taken back from a prompt).

    Returns:
        JSON pointer -> probability; nothing if there are no log-probabilities.

    Raises:
        ValueError: if there are not as many log-probabilities as tokens.
    """
    if not logprobs:
        return {}
    if len(logprobs) != len(pieces):
        raise ValueError(f"{len(pieces)} tokens, but {len(logprobs)} log-probabilities")
    try:
        found = places(text)
    except ValueError:
        return {"": math.exp(math.fsum(logprobs))}
    starts = [0, *accumulate(map(len, pieces))]
    offset = byte_offsets(text)

    def tokens_of(begin: int, end: int) -> range:
        """From the token that has the first byte of some characters to the one that has the last."""
        first, last = offset[begin] + skip, offset[end] + skip
        return range(bisect_right(starts, first) - 1, bisect_right(starts, last - 1))

    out: dict[str, float] = {}
    for pointer, place in found.items():
        own = [place] if is_leaf(text, place) else _around_items(text, pointer, found)
        tokens = {i for begin, end in own for i in tokens_of(begin, end) if pieces[i]}
        if own:
            out[pointer] = math.exp(math.fsum(logprobs[i] for i in tokens))
    return out


def _around_items(text: str, pointer: str, found: Mapping[str, Span]) -> list[Span]:
    """What stands before, between and behind the items of an array; nothing for an object."""
    begin, end = found[pointer]
    if text[begin] == "{":
        return []
    out, number = [], 0
    while (item := found.get(f"{pointer}/{number}")) is not None:
        out.append((begin, item[0]))
        begin = item[1]
        number += 1
    return [*out, (begin, end)]


def is_leaf(text: str, place: Span) -> bool:
    """Whether a JSON value at a place has no values in it: a scalar, or an empty array or object."""
    begin, end = place
    return text[begin] not in "{[" or not text[begin + 1 : end - 1].strip()


def byte_offsets(text: str) -> Sequence[int]:
    """For each offset in characters, the end included, that in bytes of UTF-8."""
    if text.isascii():
        return range(len(text) + 1)
    return [0, *accumulate(len(character.encode("utf-8", "surrogatepass")) for character in text)]
