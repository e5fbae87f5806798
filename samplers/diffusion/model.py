"""Masked models by one interface: LLaDA, Dream, and any masked language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from constrain.vocabulary import Vocabulary

_SHIFTED: Final = ("dream",)
"""Model types whose output at i - 1 is about position i."""


@dataclass(frozen=True)
class Frame:
    """What stands around a canvas.

    Attributes:
        before, after: token ids: a prompt, and what the tokenizer puts around every text.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


Prompt: TypeAlias = str | Sequence[int] | Frame | None
"""Text, token ids, all that stands around the canvas, or nothing."""


class MaskedModel:
    """A model that says what may stand at masks, all of them at once.

    Args:
        model: called as ``model(input_ids=ids, attention_mask=ones)``; its result has ``logits``
            [B, T, V] (or is that tensor).
        tokenizer: of ``transformers``; ``None`` when prompts and canvases are token ids.
        vocabulary: the tokens; read off the tokenizer by default.
        mask_token_id: read off the tokenizer or the model's configuration by default.
        shifted: whether the output at i - 1 is about position i (Dream); known by the model's type.

    Attributes:
        forwards: calls of the model, however many canvases took part.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        vocabulary: Vocabulary | None = None,
        mask_token_id: int | None = None,
        shifted: bool | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        config = getattr(model, "config", None)
        self.mask_token_id = _mask_id(tokenizer, config) if mask_token_id is None else mask_token_id
        if vocabulary is None:
            if tokenizer is None:
                raise ValueError("without a tokenizer the vocabulary must be given")
            vocabulary = Vocabulary.from_huggingface(tokenizer, model=model)
        self.vocabulary = vocabulary
        kind = str(getattr(config, "model_type", "")).lower()
        self.shifted = kind in _SHIFTED if shifted is None else shifted
        self.forwards = 0

    @property
    def device(self) -> Any:
        """Where the model is."""
        return getattr(self.model, "device", "cpu")

    def frame(self, prompt: Prompt) -> Frame:
        """The ids around a canvas: the prompt's, with what the tokenizer adds to its left and right.

        A frame and token ids are taken as they are.  Of a text's special tokens those behind it
        (``[SEP]`` of models like BERT) stand behind the canvas.
        """
        if isinstance(prompt, Frame):
            return prompt
        if prompt is None:
            prompt = ""
        if not isinstance(prompt, str):
            return Frame(tuple(int(i) for i in prompt), ())
        if self.tokenizer is None:
            if prompt:
                raise ValueError("a text needs a tokenizer; give the prompt as token ids")
            return Frame((), ())
        whole = list(self.tokenizer(prompt)["input_ids"])
        plain = list(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        for begin in range(len(whole) - len(plain) + 1):
            if whole[begin : begin + len(plain)] == plain:
                cut = begin + len(plain) if plain else (len(whole) + 1) // 2
                return Frame(tuple(whole[:cut]), tuple(whole[cut:]))
        return Frame(tuple(whole), ())

    def encode(self, text: str | bytes) -> list[int]:
        """Token ids whose bytes are exactly a text.

        Raises:
            ValueError: if no tokens spell it.
        """
        data = text.encode() if isinstance(text, str) else bytes(text)
        if self.tokenizer is not None and isinstance(text, str):
            ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            if b"".join(self.vocabulary.token_bytes(i) or b"\0" for i in ids) == data:
                return ids
        return _spelled(self.vocabulary, data)

    @torch.inference_mode()
    def logits(self, frames: Sequence[Frame], canvases: Sequence[Sequence[int]]) -> Tensor:
        """What the model says about every place of some canvases of one length.

        Args:
            frames: one for each canvas, of equal lengths.
            canvases: token ids, open places as ``mask_token_id``.

        Returns:
            float32[B, T, V] on the CPU, for the T places of the canvases.
        """
        rows = [[*f.before, *c, *f.after] for f, c in zip(frames, canvases, strict=True)]
        ids = torch.tensor(rows, device=self.device)
        out = self.model(input_ids=ids, attention_mask=torch.ones_like(ids))
        logits = out if isinstance(out, Tensor) else out.logits
        self.forwards += 1
        begin, length = len(frames[0].before), len(canvases[0])
        if self.shifted:
            logits = torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
        return logits[:, begin : begin + length].float().cpu()


def _mask_id(tokenizer: Any, config: Any) -> int:
    for holder in (tokenizer, config):
        found = getattr(holder, "mask_token_id", None)
        if found is not None:
            return int(found)
    raise ValueError(
        "neither the tokenizer nor the model's configuration names a mask token; give mask_token_id"
    )


def _spelled(vocabulary: Vocabulary, data: bytes) -> list[int]:
    """The fewest tokens that spell a text."""
    ids = {text: i for i in range(vocabulary.size) if (text := vocabulary.token_bytes(i))}
    longest = max(map(len, ids), default=0)
    best: list[tuple[int, int] | None] = [(0, 0), *[None] * len(data)]
    for end in range(1, len(data) + 1):
        for begin in range(max(0, end - longest), end):
            before = best[begin]
            if before is None or data[begin:end] not in ids:
                continue
            here = best[end]
            if here is None or before[0] + 1 < here[0]:
                best[end] = (before[0] + 1, begin)
    found: list[int] = []
    end = len(data)
    while end:
        step = best[end]
        if step is None:
            raise ValueError(f"{data!r} cannot be written in tokens of this vocabulary")
        found.append(ids[data[step[1] : end]])
        end = step[1]
    return found[::-1]
