"""A logits processor for vLLM: grammars in ``extra_args``, beside whatever backend the engine has.

``SamplingParams(extra_args={"gramma": {"json": schema}})`` asks for a grammar, as :mod:`grammars.requests`
reads it.  Written for and run with vLLM 0.33, which has two model runners; the class serves both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch

from constrain.bitmask import apply_bitmask_
from constrain.engines.automata import Automata, check_request
from constrain.engines.errors import missing_engine
from constrain.engines.texts import NAME, Asked, Text
from grammars.errors import GrammarError

try:
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.sample.logits_processor import BatchUpdate
    from vllm.v1.sample.logits_processor import LogitsProcessor as BatchProcessor
    from vllm.v1.sample.logits_processor.builtin import process_dict_updates
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SlotProcessor
except ModuleNotFoundError as error:
    raise missing_engine("vllm", error) from error


_OVERLAP: Final = 8
"""Tokens that are read again from the device, to see that what is known is still what stands there."""


class GrammaLogitsProcessor(BatchProcessor, SlotProcessor):
    """The processor, for both of vLLM's model runners.

    What runner it is for shows in what it is made with.  The first runner tells of changes of its batch
    (:meth:`update_state`) and lets lists of tokens grow; the second one has requests in slots
    (:meth:`add_request`) and tokens on the device.

    Args:
        vllm_config: of the engine.
        device: where logits are, or the second runner's view of its requests.
        is_pin_memory: not used; rows are few and short.
    """

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool = False) -> None:
        self._config = vllm_config.model_config
        self._requests = device
        self._texts: dict[int, Text] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuses a request whose grammar cannot be read, or that asks for what a grammar decides.

        Raises:
            VLLMValidationError: naming the member.
        """
        try:
            asked = Asked.of(sampling_params)
            if asked is None:
                return
            for name in ("structured_outputs", "min_tokens", "bad_words", "allowed_token_ids"):
                if getattr(sampling_params, name):
                    raise GrammarError(
                        f"{name} cannot be combined with a grammar, which says it all"
                    )
            check_request(asked.grammar)
        except GrammarError as error:
            message = f"extra_args[{NAME!r}]: {error}"
            raise VLLMValidationError(message, parameter="extra_args") from error

    @cached_property
    def _automata(self) -> Automata:
        """Made when the first request has a grammar: other models need no tokenizer here."""
        from vllm.tokenizers import cached_tokenizer_from_config

        return Automata(cached_tokenizer_from_config(self._config), self._config.get_vocab_size())

    def _text(self, params: Any, written: Sequence[int] = ()) -> Text | None:
        asked = Asked.of(params)
        if asked is None:
            return None
        return Text(self._automata, asked, params.all_stop_token_ids, written)

    def is_argmax_invariant(self) -> bool:
        """False: the most probable token may not be allowed."""
        return False

    # -- the first runner: a batch whose requests move ----------------------------------------------

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the batch: which request is in which row."""
        process_dict_updates(self._texts, batch_update, self._following)

    def _following(self, params: Any, prompt: list[int] | None, written: list[int]) -> Text | None:
        """A text with the list that vLLM keeps of its tokens."""
        return self._text(params, written)

    # -- the second runner: requests in slots -------------------------------------------------------

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Puts a request into a slot; whether it has a grammar."""
        text = self._text(sampling_params)
        self._texts.pop(req_idx, None)
        if text is not None:
            self._texts[req_idx] = text
        return text is not None

    # -- both ---------------------------------------------------------------------------------------

    def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        """Sets logits of tokens that are not allowed to minus infinity, in place.

        Args:
            logits: floating [rows, V]; rows of requests without a grammar stay as they are.
            ctx: the second runner's layout of the rows.
        """
        if not self._texts:
            return logits
        masks = self._of_batch() if ctx is None else self._of_slots(ctx)
        if masks:
            rows = list(masks)
            chosen = logits if rows == list(range(len(logits))) else logits[rows]
            apply_bitmask_(chosen, torch.from_numpy(np.stack(list(masks.values()))))
            if chosen is not logits:
                logits[rows] = chosen
        return logits

    def _of_batch(self) -> dict[int, Any]:
        """Masks by row."""
        masks = {}
        for row, text in sorted(self._texts.items()):
            text.follow(text.written)
            masks[row] = self._mask(text)
        return masks

    def _of_slots(self, ctx: Any) -> dict[int, Any]:
        """Masks by row, where rows behind a request's first one are those of drafted tokens."""
        if not any(int(slot) in self._texts for slot in ctx.idx_mapping_np):
            return {}
        layout = (ctx.expanded_idx_mapping, ctx.expanded_local_pos, ctx.pos, ctx.input_ids)
        rows = torch.stack([part.to(torch.int64) for part in layout], dim=1).tolist()
        self._read({slot: pos + 1 for slot, local, pos, _ in rows if local == 0})
        masks: dict[int, Any] = {}
        latest: dict[int, int] = {}
        written = {slot: len(text.seen) for slot, text in self._texts.items()}
        for row, (slot, local, _, token) in enumerate(rows):
            text = self._texts.get(slot)
            if text is None:
                continue
            if local and not (latest[slot] == row - 1 and text.draft(token)):
                masks[row] = masks[latest[slot]]  # of no effect: a draft before it is refused
                continue
            masks[row], latest[slot] = self._mask(text), row
        for slot in latest:
            text = self._texts[slot]
            text.follow(text.seen[: written[slot]])
        return masks

    def _read(self, lengths: Mapping[int, int]) -> None:
        """Reads what was written since the last step, of requests with grammars.

        Args:
            lengths: by slot, how many tokens there are with the prompt.
        """
        tokens, prompts = self._requests.all_token_ids.gpu, self._requests.prompt_len.np
        wanted: list[tuple[Text, int, int, Any]] = []
        for slot, length in lengths.items():
            if (text := self._texts.get(slot)) is not None:
                stored = tokens[slot, int(prompts[slot]) : length]
                known = min(len(text.seen), len(stored))
                wanted.append((text, max(0, known - _OVERLAP), known, stored))
        read = torch.cat([stored[begin:] for _, begin, _, stored in wanted]).tolist()
        for text, begin, known, stored in wanted:
            count = len(stored) - begin
            new, read = read[:count], read[count:]
            if text.seen[begin:known] != new[: known - begin]:
                new, begin = stored.tolist(), 0
            text.follow([*text.seen[:begin], *new])

    def _mask(self, text: Text) -> Any:
        row = np.empty(self._automata.words, np.int32)
        text.fill(row)
        return row
