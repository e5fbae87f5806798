"""A canvas as a row of places for the model: fixed text in tokens, masks, and gaps to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from constrain.vocabulary import Vocabulary
from grammars.errors import GrammaError
from samplers.diffusion.canvas import Gap, Masks, Part, checked_token
from samplers.diffusion.model import MaskedModel

if TYPE_CHECKING:
    from samplers.diffusion.completability import OpenCanvas

Piece: TypeAlias = tuple[int, ...] | Masks | Gap
"""Fixed token ids, masks, or a gap."""


class NoCompletion(GrammaError, ValueError):  # noqa: N818 - the name says it
    """No text of the grammar fits a canvas."""


@dataclass(frozen=True)
class Layout:
    """The pieces of a canvas.

    Attributes:
        pieces: in order.
        given: the part that each piece came from.
    """

    pieces: tuple[Piece, ...]
    given: tuple[Part, ...]

    @classmethod
    def of(cls, canvas: Sequence[Part], model: MaskedModel) -> Layout:
        """Writes fixed text in tokens.

        Raises:
            TypeError: for something that is no part of a canvas.
            ValueError: for text that no tokens spell, or an empty canvas.
        """
        if isinstance(canvas, str | bytes):
            raise TypeError("a canvas is a list of parts; put the text into a list")
        pieces = [_piece(part, model) for part in canvas]
        if not pieces:
            raise ValueError("an empty canvas: give fixed text, Masks or a Gap")
        return cls(tuple(pieces), tuple(canvas))

    @property
    def gaps(self) -> list[int]:
        """Numbers of the pieces whose length is still to be chosen."""
        return [i for i, piece in enumerate(self.pieces) if isinstance(piece, Gap)]

    def room(self, gap: int) -> int:
        """The most tokens of a gap, by its number."""
        piece = self.pieces[gap]
        assert isinstance(piece, Gap)
        return piece.max_tokens

    def parts(self, lengths: dict[int, int] | None = None) -> list[Part]:
        """The canvas in token ids, for the grammar.

        Args:
            lengths: masks by number of a gap; others stay gaps.
        """
        chosen = lengths or {}
        out: list[Part] = []
        for i, piece in enumerate(self.pieces):
            if isinstance(piece, tuple):
                out += piece
            elif i in chosen:
                out.append(Masks(chosen[i]))
            else:
                out.append(piece)
        return out

    def ids(self, lengths: dict[int, int], mask: int) -> list[int]:
        """Token ids with the mask token at open places."""
        out: list[int] = []
        for i, piece in enumerate(self.pieces):
            if isinstance(piece, tuple):
                out += piece
            else:
                out += [mask] * (piece.n if isinstance(piece, Masks) else lengths[i])
        return out

    def why_not(self, canvas: OpenCanvas, vocabulary: Vocabulary) -> str:
        """What to say of a canvas that cannot be completed."""
        at = canvas.blocked_at
        if at is None:
            return (
                "no text of the grammar fits this canvas: every fixed part can be reached, but no text "
                "can end where the canvas ends; give more or fewer masks, a Gap, or eos_padding=True"
            )
        for piece, part in zip(self.pieces, self.given, strict=True):
            width = _width(piece)
            if at < width:
                return (
                    f"no text of the grammar fits this canvas: however what stands before is filled in, "
                    f"{_token(piece, at, vocabulary)}{_named(part)} cannot follow"
                )
            at -= width
        return "no text of the grammar fits this canvas"


def _piece(part: Part, model: MaskedModel) -> Piece:
    if part is None:
        return Masks(1)
    if isinstance(part, Masks | Gap):
        return part
    if isinstance(part, str | bytes):
        return tuple(model.encode(part))
    number = checked_token(part, model.vocabulary)
    return Masks(1) if number == model.mask_token_id else (number,)


def _width(piece: Piece) -> int:
    """Cells of a piece in a canvas of the grammar."""
    if isinstance(piece, tuple):
        return len(piece)
    return piece.n if isinstance(piece, Masks) else piece.max_tokens


def _token(piece: Piece, at: int, vocabulary: Vocabulary) -> str:
    """Which token of a fixed text of several it is, and where."""
    if not isinstance(piece, tuple) or len(piece) < 2:
        return ""
    text, begin = vocabulary.decode(piece[at : at + 1]), len(vocabulary.decode(piece[:at]))
    return f"{text.decode('utf-8', 'backslashreplace')!r} at byte {begin} of "


def _named(part: Part) -> str:
    if isinstance(part, Masks):
        return f"a token at one of {part.n} masks"
    if isinstance(part, Gap):
        return f"a token of the gap of at most {part.max_tokens}"
    if part is None:
        return "a token at a mask"
    return f"token {part}" if isinstance(part, int) else f"the fixed text {part!r}"
