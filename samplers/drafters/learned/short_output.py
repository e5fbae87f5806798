"""A Llama that can say some tokens only, so that its output embedding costs little.

Of a small draft's time most goes into the output embedding: 49,152 rows of 576 numbers are eight times
its layers of 3.5 million.  A draft need not be able to say every token: what is drawn from q is verified
with that q, whatever it is (:mod:`samplers.speculative.verify`), so q may be zero for rare tokens.  The
model reads all tokens, and its logits have a column for each; those that it cannot say are minus infinity.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from constrain.models import SAFE, only_safe


class ShortOutput(nn.Module):
    """An output embedding of some rows of a vocabulary.

    Args:
        hidden_size: of the model, H.
        vocab_size: columns of its logits, V.
        count: rows, k.
    """

    tokens: torch.Tensor
    """int64[k], the ids of what can be said, ascending; saved with the weights."""

    def __init__(self, hidden_size: int, vocab_size: int, count: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.weight = nn.Parameter(torch.empty(count, hidden_size))
        self.register_buffer("tokens", torch.arange(count))

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """floating[..., k]: logits of what can be said, in the order of ``tokens``."""
        return nn.functional.linear(hidden, self.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """floating[..., V]: logits of all tokens, minus infinity where they cannot be said."""
        scores = self.scores(hidden)
        out = scores.new_full((*hidden.shape[:-1], self.vocab_size), -torch.inf)
        out[..., self.tokens] = scores
        return out


class ShortLlamaConfig(LlamaConfig):  # type: ignore[misc]
    """Configuration of :class:`ShortLlama`; ``output_size`` is the number of tokens it can say."""

    model_type = "gramma_short_llama"
    output_size: int = 0


class ShortLlama(LlamaForCausalLM):  # type: ignore[misc]
    """A Llama whose output embedding has ``config.output_size`` rows."""

    config_class = ShortLlamaConfig
    _tied_weights_keys: ClassVar[dict[str, str]] = {}

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lm_head = ShortOutput(config.hidden_size, config.vocab_size, config.output_size)
        self.post_init()


def shortened(model: Any, tokens: Sequence[int]) -> Any:
    """A copy of a Llama that can say some tokens only, a :class:`ShortLlama`.

    Args:
        model: a ``LlamaForCausalLM``.
        tokens: ids of what it can say, without duplicates.

    Raises:
        TypeError: if it is no Llama.
        ValueError: if there are no tokens, an id comes twice, or the model has no such token.
    """
    if not isinstance(model, LlamaForCausalLM):
        raise TypeError(
            f"only the output of a LlamaForCausalLM is shortened, not {type(model).__name__}"
        )
    if not tokens or len(set(tokens)) < len(tokens):
        raise ValueError(f"{len(tokens)} tokens, {len(set(tokens))} different ones: give each once")
    if min(tokens) < 0 or max(tokens) >= model.config.vocab_size:
        raise ValueError(
            f"tokens from {min(tokens)} to {max(tokens)}; the model has {model.config.vocab_size}"
        )
    told = copy.deepcopy(model.config).to_dict()
    told.pop("model_type", None)
    told |= {"output_size": len(tokens), "tie_word_embeddings": False}
    made = ShortLlama(ShortLlamaConfig(**told)).to(model.dtype)
    made.set_attn_implementation(getattr(model.config, "_attn_implementation", "sdpa"))
    with torch.no_grad():
        made.model.load_state_dict(model.model.state_dict())
        made.lm_head.tokens.copy_(torch.tensor(sorted(tokens)))
        made.lm_head.weight.copy_(model.lm_head.weight[made.lm_head.tokens])
    made.generation_config = copy.deepcopy(model.generation_config)
    return made.to(model.device).eval()


def load_draft(folder: str | Path, dtype: torch.dtype = torch.float32) -> Any:
    """A draft model from the folder that ``save_pretrained`` wrote, of the short kind or any other.

    Args:
        folder: its path.
        dtype: of its weights.

    Raises:
        FileNotFoundError: if there is no model.
        ModelRefused: if it cannot be loaded: its weights are no safetensors, say.
    """
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; a draft is a folder that save_pretrained wrote"
        )
    with only_safe(folder):
        told = json.loads(file.read_text("utf-8"))
        if not isinstance(told, dict):
            raise ValueError(f"{file} is no object of JSON")
        short = told.get("model_type") == ShortLlamaConfig.model_type
        kind: Any = ShortLlama if short else AutoModelForCausalLM
        return kind.from_pretrained(str(folder), dtype=dtype, local_files_only=True, **SAFE).eval()
