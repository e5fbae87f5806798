"""What learned drafters have in common: they read the model's hidden states and propose tokens.

A model's last hidden states say more of what comes than its tokens do.  A learned drafter is a small
network that was trained to read them for one model.  All that surrounds the network is here: when its
turn is, which hidden states there are, training on texts, files.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, runtime_checkable

import torch

from samplers.drafters.base import Context, Drafter

if TYPE_CHECKING:
    from samplers.drafters.learned.training import Training

Text: TypeAlias = str | Sequence[int]
"""A text, or its token ids."""


@runtime_checkable
class Answered(Protocol):
    """A prompt with its answer.

    Attributes:
        tokens: ids of both.
        given: how many of them are the prompt's.
    """

    @property
    def tokens(self) -> Sequence[int]: ...

    @property
    def given(self) -> int: ...


Lesson: TypeAlias = Text | tuple[Text, int] | Answered
"""A text; or token ids with the number of them that are given (a prompt, say), which are read and not
learned, as a pair or as an object."""


class LearnedDrafter(Drafter):
    """Drafts with a network that reads the model's last hidden states.

    Subclasses say what the network drafts (:meth:`draft`), how it is trained (:meth:`fit`) and what
    of it is kept in a file (:meth:`save`, :meth:`load`).
    """

    runs_model: ClassVar[bool] = True
    wants_hidden: ClassVar[bool] = True

    @abstractmethod
    def draft(self, context: Context, hidden: torch.Tensor) -> None:
        """Adds nodes to ``context.tree``; what the target forbids is left out before guesses are ranked.

        Called without gradients.

        Args:
            context: where the row is.
            hidden: floating[n - 1, H], the model's last hidden states of the n - 1 tokens before
                the last of ``context.tokens``.
        """

    @classmethod
    @abstractmethod
    def fit(
        cls,
        model: Any,
        tokenizer: Any,
        texts: Sequence[Lesson],
        *,
        training: Training | None = None,
    ) -> Self:
        """Trains one for a model, which stays as it is.

        Args:
            model: a causal language model of ``transformers``, in ``eval`` mode.
            tokenizer: its tokenizer; ``None`` if texts are token ids.
            texts: what to learn from, best the model's own answers.
            training: how long, how fast, with which seed.

        Raises:
            ValueError: if there is nothing to train on.
        """

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Writes the network as safetensors, with what tells its model."""

    @classmethod
    @abstractmethod
    def load(cls, path: str | Path, model: Any) -> Self:
        """Reads one for a model.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is not one of such a drafter, or it is for another model.
        """

    def propose(self, context: Context) -> None:
        """Drafts, if the model has read everything but the last token."""
        hidden = context.hidden
        if hidden is None or not 0 < len(hidden) == len(context.tokens) - 1:
            return  # the first forward of a text: its prompt is read together with the drafts
        with torch.no_grad():
            self.draft(context, hidden)


def lesson(tokenizer: Any, given: Lesson) -> tuple[list[int], int]:
    """Token ids of what is to be learned, and how many of them are given.

    Raises:
        ValueError: if it is text and there is no tokenizer, or more tokens are given than there are.
    """
    text, count = _parts(given)
    ids = encoded(tokenizer, text)
    if not 0 <= count <= len(ids):
        raise ValueError(f"{count} tokens of a text of {len(ids)} are given")
    return ids, int(count)


def _parts(given: Any) -> tuple[Text, int]:
    if isinstance(given, Answered):
        return given.tokens, given.given
    if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], int):
        return given[0], given[1]
    return given, 1


def encoded(tokenizer: Any, text: Text) -> list[int]:
    """Token ids of a text.

    Raises:
        ValueError: if it is text and there is no tokenizer.
    """
    if isinstance(text, str):
        if tokenizer is None:
            raise ValueError("texts need a tokenizer; give token ids instead")
        text = tokenizer(text)["input_ids"]
    return [int(token) for token in text]
