"""Where a tokenizer cuts a text into words before it merges, around two tokens.

A pre-tokenizer is a regular expression that looks at kinds of characters, so whether it cuts between two
tokens is asked once for each pair of *shapes*: a shape is the token's text with each character replaced by
its kind and long runs cut short.  Of the text before both tokens the shape of the word that they are in is
looked at; of what follows, whether it could change the answer: a run of blanks is cut before its last one
where a word follows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int32, Int64

CUT: Final = 0
"""The border of the two tokens is where the text is cut, and there alone."""
JOINED: Final = 1
"""Both lie within one word."""
ELSEWHERE: Final = 2
"""The text is cut within one of them: it is never written in these two tokens."""
CUT_BEFORE_A_WORD: Final = 3
"""``JOINED``, but ``CUT`` if the next token does not begin with a blank."""
_UNKNOWN: Final = -1

Cutter = Callable[[str], Sequence[int]]
"""The places, in characters, at which a text is cut; its ends are left out."""
_LONGEST_RUN: Final = 2
_LONGEST_NUMBER: Final = 4
_APOSTROPHE: Final = "'"
_CONTRACTIONS: Final = frozenset("strevmld")
"""Letters of 's, 't, 're, 've, 'm, 'll and 'd."""
_WORD: Final = "x"
NO_SHAPE: Final = -1


def shapes_of(texts: Sequence[bytes]) -> tuple[Int32, Int32, Int32]:
    """The shapes of tokens.

    Args:
        texts: the bytes of each token; empty for none.

    Returns:
        int32[V] numbers of shapes (``NO_SHAPE`` for texts that do not begin with whole characters; an
        unfinished last one is taken for a whole one of its kind), the same for tokens behind an
        apostrophe, where contractions count, and int32[S] a token of each shape.
    """
    whole = [(token, words) for token, text in enumerate(texts) if (words := _completed(text))]
    out = np.full((2, len(texts)), NO_SHAPE, np.int32)
    known: dict[tuple[str, str], int] = {}
    examples: list[int] = []
    plain = _shapes([words for _, words in whole])
    behind = _shapes([words[2:] for _, words in whole])
    for (token, words), shape, rest in zip(whole, plain, behind, strict=True):
        for which, key in enumerate((("", shape), (_beginning(words), rest))):
            number = known.get(key)
            if number is None:
                number = known[key] = len(examples)
                examples.append(token)
            out[which, token] = number
    return out[0], out[1], np.array(examples, np.int32)


class Pretokens:
    """Verdicts of a pre-tokenizer on pairs of tokens.

    Args:
        texts: the bytes of each token, as they are in the middle of a text; empty for none.
        shapes: see :func:`shapes_of`.
        cut: the pre-tokenizer; ``None`` where there is none, so that nothing is ever cut.
    """

    def __init__(
        self, texts: Sequence[bytes], shapes: tuple[Int32, Int32, Int32], cut: Cutter | None
    ) -> None:
        self._texts: Final = texts
        self._plain, self._contracted, self._examples = shapes
        self._whole: Final = np.array([bool(_decoded(text)) for text in texts])
        self._cut: Final = cut
        self._verdicts: dict[tuple[str, int, bool], npt.NDArray[np.int8]] = {}

    def after(
        self, context: str, token: int, wanted: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int8]:
        """int8[V]: the verdict on each token behind this one.

        Args:
            context: the kinds of the characters before the token in its word; empty if it begins one.
            token: the token before.
            wanted: bool[V], the tokens that are asked about; for others the answer means nothing.
        """
        joined = np.full(len(self._texts), JOINED, np.int8)
        known = self._known(context, token)
        if known is None:
            return joined
        verdicts, shapes = known
        has = shapes != NO_SHAPE
        self._ask(verdicts, context, token, shapes[wanted & has])
        return np.where(has, verdicts[shapes], joined)

    def among(self, context: str, token: int, behind: Int64) -> npt.NDArray[np.int8]:
        """int8[n]: the verdicts on some tokens behind this one, see :meth:`after`."""
        joined = np.full(len(behind), JOINED, np.int8)
        known = self._known(context, token) if len(behind) else None
        if known is None:
            return joined
        verdicts, shapes = known
        asked = shapes[behind]
        has = asked != NO_SHAPE
        self._ask(verdicts, context, token, asked[has])
        return np.where(has, verdicts[asked], joined)

    def is_whole(self, token: int) -> bool:
        """Whether a token is made of whole characters."""
        return bool(self._whole[token])

    def are_whole(self, tokens: Int64) -> Flags:
        """bool[n]: which tokens are."""
        whole: Flags = self._whole[tokens]
        return whole

    def _known(self, context: str, token: int) -> tuple[npt.NDArray[np.int8], Int32] | None:
        """The verdicts behind a token so far, and the shapes that they are about; ``None`` for no cuts."""
        mine = int(self._plain[token])
        if self._cut is None or not self._whole[token]:
            return None
        contracted = self._texts[token].endswith(_APOSTROPHE.encode())
        key = (context, mine, contracted)
        verdicts = self._verdicts.get(key)
        if verdicts is None:
            verdicts = self._verdicts[key] = np.full(len(self._examples), _UNKNOWN, np.int8)
        return verdicts, self._contracted if contracted else self._plain

    def _ask(self, verdicts: npt.NDArray[np.int8], context: str, token: int, shapes: Int32) -> None:
        """Makes the verdicts on some shapes known."""
        asked = np.zeros(len(verdicts), np.bool_)
        asked[shapes] = True
        missing = np.flatnonzero(asked & (verdicts == _UNKNOWN)).tolist()
        before = self._example(int(self._plain[token]))
        for shape in missing:
            verdicts[shape] = self._verdict(context, before, self._example(shape))

    def between(self, context: str, token: int, behind: int) -> int:
        """The verdict on one token behind another, see :meth:`after`."""
        known = self._known(context, token)
        if known is None:
            return JOINED
        verdicts, shapes = known
        shape = int(shapes[behind])
        if shape == NO_SHAPE:
            return JOINED
        if verdicts[shape] == _UNKNOWN:
            before = self._example(int(self._plain[token]))
            verdicts[shape] = self._verdict(context, before, self._example(shape))
        return int(verdicts[shape])

    def _example(self, shape: int) -> str:
        return _completed(self._texts[int(self._examples[shape])])

    def _verdict(self, context: str, before: str, behind: str) -> int:
        verdict = self._cut_at(context, before, behind, "")
        may_change = verdict == JOINED and behind[-1].isspace()
        if may_change and self._cut_at(context, before, behind, _WORD) == CUT:
            return CUT_BEFORE_A_WORD
        return verdict

    def _cut_at(self, context: str, before: str, behind: str, following: str) -> int:
        assert self._cut is not None
        if context and self._cut(context + before):
            context = ""  # the kinds alone do not make the word that the token is in
        begin = len(context)
        border, end = begin + len(before), begin + len(before) + len(behind)
        places = [at for at in self._cut(context + before + behind + following) if begin < at < end]
        if not places:
            return JOINED
        return CUT if places == [border] else ELSEWHERE


def shape_of(text: str) -> str:
    """The kinds of a text's characters, long runs cut short."""
    return _shapes([text])[0]


def _shapes(texts: Sequence[str]) -> list[str]:
    """The shapes of texts, all at once: of each the kinds of its characters, long runs cut short."""
    other = kind_of(_BORDER)
    together = _BORDER.join(text.replace(_BORDER, other) for text in texts)
    return _TOO_MANY.sub("", together.translate(_kinds)).split(_BORDER)


def _beginning(words: str) -> str:
    """Two characters, as they are where they may be of a contraction, else their kinds."""
    return "".join(c if c.casefold() in _CONTRACTIONS else kind_of(c) for c in words[:2])


def _decoded(text: bytes) -> str:
    """The characters of a text; empty if it is not made of whole ones."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return ""


def _completed(text: bytes) -> str:
    """The characters of a text, the last one completed by one of its kind; empty for half a first one."""
    words = _decoded(text)
    if words:
        return words
    for size in range(1, min(4, len(text))):  # bytes of a character that has only begun
        words, last = _decoded(text[:-size]), _kind_begun(text[-size:])
        if words and last:
            return words + last
    return ""


@lru_cache(1 << 12)
def _kind_begun(begun: bytes) -> str:
    """The kind of a character of which some bytes are known; empty if no character begins with them.

    Where it is open, a sign is taken, else what is no blank: most pre-tokenizers cut before either in
    the same places, and what a tokenizer writes is not refused.
    """
    length = next((n for n, (low, high) in _LEADING.items() if low <= begun[0] <= high), 0)
    if length <= len(begun):
        return ""
    bounds = [begun + bytes([fill]) * (length - len(begun)) for fill in (0x80, 0xBF)]
    codes = [_code_point(bound) for bound in bounds]
    kinds = {
        kind_of(chr(code))
        for code in range(codes[0], min(codes[1], codes[0] + _MOST_CHARACTERS) + 1)
    }
    return min(kinds, key=lambda kind: (kind != ".", kind.isspace(), kind))


def _code_point(data: bytes) -> int:
    """The code point that bytes in the form of UTF-8 stand for, whether or not it is a character."""
    code = data[0] & (0xFF >> (len(data) + 1))
    for byte in data[1:]:
        code = code << 6 | byte & 0x3F
    return min(code, 0x10FFFF)


_LEADING: Final = {2: (0xC2, 0xDF), 3: (0xE0, 0xEF), 4: (0xF0, 0xF4)}
"""First bytes of characters, by their number of bytes."""
_MOST_CHARACTERS: Final = 4_096
"""Of so many characters with a common beginning the kinds are looked at."""


class _Kinds(dict[int, str]):
    """Kinds by code points, for ``str.translate``."""

    def __missing__(self, code: int) -> str:
        kind = self[code] = kind_of(chr(code))
        return kind


_BORDER: Final = "\0"
"""Between texts that are looked at together."""
_kinds: Final = _Kinds({ord(_BORDER): _BORDER})
_AGAIN: Final = r"\1"
_TOO_MANY: Final = re.compile(
    rf"([^0{_BORDER}])(?<={_AGAIN * (_LONGEST_RUN + 1)})|0(?<={'0' * (_LONGEST_NUMBER + 1)})",
    re.DOTALL,
)
"""A character behind as many of its kind as are kept."""


_SEPARATORS: Final = "\x1c\x1d\x1e\x1f"
"""Blanks to Python, but not to Unicode (White_Space), by which pre-tokenizers cut."""


def kind_of(char: str) -> str:
    """One character of the kind, for all that pre-tokenizers treat alike."""
    if char in "'/ \n\r\t":
        return char
    category = unicodedata.category(char)
    if category[0] == "L":
        return {"Lu": "A", "Lt": "A", "Ll": "a"}.get(category, "\u3042")
    if category[0] == "M":
        return "\u0301"
    if category[0] == "N":
        return "0" if category == "Nd" else "\u00b2"
    return "\u2003" if char.isspace() and char not in _SEPARATORS else "."
