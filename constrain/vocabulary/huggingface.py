"""Reading token bytes, EOS ids and embedding rows off ``transformers`` objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from constrain.arguments import check_model, check_tokenizer
from constrain.vocabulary.alphabets import from_byte_fallback, from_byte_level
from grammars.errors import GrammarError

_PLACE: Final = "Vocabulary.from_huggingface"


def texts_and_names_of(tokenizer: Any) -> tuple[list[bytes | None], dict[str, int]]:
    """The bytes of every id (``None`` for special tokens and gaps), and named tokens.

    Returns:
        The texts by id, and the ids of special and of added tokens by name.
    """
    check_tokenizer(tokenizer, _PLACE)
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None and hasattr(tokenizer, "to_str") and hasattr(tokenizer, "get_vocab"):
        fast = tokenizer  # one of the tokenizers library itself
    special = set(getattr(tokenizer, "all_special_ids", ()))
    if fast is not None:
        described = json.loads(fast.to_str())
        vocab: dict[str, int] = fast.get_vocab(with_added_tokens=True)
        added = {str(t["content"]): int(t["id"]) for t in described.get("added_tokens") or ()}
        return _from_fast(described, vocab, special), _names(added, vocab, special)
    pieces = getattr(tokenizer, "sp_model", None)
    if pieces is not None:
        slow = getattr(tokenizer, "added_tokens_decoder", {}).items()
        added = {str(token): int(i) for i, token in slow}
        vocab = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
        return _from_sentencepiece(tokenizer, pieces), _names(added, vocab, special)
    raise GrammarError(
        f"{type(tokenizer).__name__} is not a fast tokenizer and has no SentencePiece model; "
        "use the fast version of it, or Vocabulary.from_tokens with the bytes of each token"
    )


def _names(added: dict[str, int], vocab: dict[str, int], special: set[int]) -> dict[str, int]:
    """Added and special tokens, by id."""
    names = added | {name: i for name, i in vocab.items() if i in special}
    return dict(sorted(names.items(), key=lambda item: item[1]))


def eos_ids_of(tokenizer: Any, model: Any) -> list[int]:
    """Every EOS id that tokenizer, model configuration and generation configuration name.

    A backend has no tokenizer where prompts are token ids; then the model alone tells.
    """
    has_none = tokenizer is None and model is not None
    holders = [] if has_none else [check_tokenizer(tokenizer, _PLACE)]
    if model is not None:
        check_model(model, _PLACE)
        holders += [getattr(model, "generation_config", None), getattr(model, "config", None)]
    found: list[int] = []
    for holder in holders:
        value = getattr(holder, "eos_token_id", None)
        found += _as_ids(value)
    return sorted(set(found))


def _as_ids(value: Any) -> list[int]:
    if value is None:
        return []
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [int(v) for v in value] if isinstance(value, Iterable) else [int(value)]


def rows_of(model: Any) -> int | None:
    """Number of logits of a model: rows of its output embedding, or its configuration's word."""
    check_model(model, _PLACE)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    weight = getattr(head, "weight", None)
    if weight is not None:
        return int(weight.shape[0])
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    return None if size is None else int(size)


# -- fast tokenizers -------------------------------------------------------------------------------


def _from_fast(
    described: dict[str, Any], vocab: dict[str, int], special_ids: set[int]
) -> list[bytes | None]:
    added = {int(t["id"]): t for t in described.get("added_tokens") or ()}
    special = special_ids | {i for i, t in added.items() if t["special"]}
    model = described.get("model") or {}
    unknown = model.get("unk_token")
    if unknown is None and isinstance(model.get("unk_id"), int):
        special.add(model["unk_id"])
    special |= {vocab[unknown]} if unknown in vocab else set()
    ordinary = [(token, i) for token, i in vocab.items() if i not in special]
    decode = _decoder(described.get("decoder"))
    texts: list[bytes | None] = [None] * (max(vocab.values(), default=-1) + 1)
    for (_, i), data in zip(ordinary, decode([t for t, _ in ordinary]), strict=True):
        texts[i] = data
    return texts


def _decoder(described: dict[str, Any] | None) -> Callable[[list[str]], list[bytes]]:
    """Tokens to bytes, as the decoder of a tokenizer file writes them in the middle of a text."""
    steps = _steps(described)
    kinds = {step["type"] for step in steps}
    unknown = kinds - {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}
    if unknown or not kinds & {"ByteLevel", "Replace", "ByteFallback", "Metaspace"}:
        named = ", ".join(sorted(unknown)) or "none at all"
        raise GrammarError(
            f"this tokenizer's decoder ({named}) does not give each token bytes of its own; "
            "use Vocabulary.from_tokens with the bytes of each token"
        )
    if "ByteLevel" in kinds:
        return from_byte_level
    # Strip removes the blank before the very first word of a decoded text; in the middle of a
    # text, where generated tokens stand, the blank is there.
    replacements = [_replacement(s) for s in steps if s["type"] in ("Replace", "Metaspace")]

    def rewrite(token: str) -> str:
        for old, new in replacements:
            token = token.replace(old, new)
        return token

    if "ByteFallback" in kinds:
        return lambda tokens: [from_byte_fallback(t, rewrite) for t in tokens]
    return lambda tokens: [rewrite(t).encode() for t in tokens]


def _steps(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    if described is None:
        return []
    if described["type"] == "Sequence":
        return [step for part in described["decoders"] for step in _steps(part)]
    return [described]


def _replacement(step: dict[str, Any]) -> tuple[str, str]:
    if step["type"] == "Metaspace":
        return step["replacement"], " "
    pattern = step["pattern"].get("String")
    if pattern is None:
        raise GrammarError(
            "this tokenizer's decoder rewrites text by a regular expression "
            f"({step['pattern'].get('Regex')!r}); use Vocabulary.from_tokens"
        )
    return pattern, step["content"]


# -- SentencePiece ---------------------------------------------------------------------------------


def _from_sentencepiece(tokenizer: Any, pieces: Any) -> list[bytes | None]:
    special = set(tokenizer.all_special_ids)
    added = dict(getattr(tokenizer, "added_tokens_decoder", {}).items())
    size = max([pieces.get_piece_size(), *(i + 1 for i in added)])
    texts: list[bytes | None] = [None] * size
    for i in range(pieces.get_piece_size()):
        if i in special or pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_unused(i):
            continue
        texts[i] = from_byte_fallback(pieces.id_to_piece(i), lambda t: t.replace("\u2581", " "))
    for i, token in added.items():
        texts[i] = None if token.special or i in special else str(token).encode()
    return texts
