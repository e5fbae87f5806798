"""The tokens of a model as byte strings, whatever family its tokenizer is of.

Everything above this module asks one thing of a tokenizer: which bytes does token i add to the
text?  The answer is read off the tokenizer's own tables (never by decoding token by token, which
strips blanks and replaces broken UTF-8):

=====================  =============================================================================
family                 where the bytes are
=====================  =============================================================================
byte-level BPE         characters of the GPT-2 alphabet, one for each byte (Radford et al. 2019)
SentencePiece          ``▁`` is a blank, ``<0xE9>`` is a byte (byte fallback)
tiktoken               the ranks are byte strings already
tekken                 likewise, after the special tokens
=====================  =============================================================================

Special tokens have no bytes, so that no text ever matches them; a grammar may name them
(:mod:`grammars.special_tokens`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from constrain import checks
from constrain.vocabulary.trie import Trie, hash_texts
from grammars.errors import GrammarError
from grammars.special_tokens import FRAME, framed

_WORTH_CACHING: Final = 4_096
"""Vocabularies below are built faster than they are read from disk."""


class Vocabulary:
    """Which bytes each token id stands for.  Immutable; equal by content; pickled by its tokens.

    Attributes:
        size: number of ids, at least the tokenizer's; the model's embedding rows where it is known.
            Rows without a token behave like special tokens: they are never allowed.
        eos_token_ids: ids that end the text, ascending.
        special_tokens: ids by name, of the tokens that a grammar may name: special tokens, and added
            tokens that have bytes but never come from ordinary text (``<think>``).
        digest: SHA-256, in hex, of tokens, names and EOS ids: equal for equal vocabularies.
    """

    def __init__(
        self,
        tokens: Sequence[bytes | None],
        eos_token_ids: Iterable[int] | int,
        *,
        size: int | None = None,
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            tokens: bytes by id; ``None`` for special tokens; tokens of no bytes are never allowed.
            eos_token_ids: ids that end the text; at least one, several or one alone.
            size: number of ids, if it is not that of ``tokens``: embedding rows without a token are
                never allowed, nor are tokens without a row.
            special_tokens: names of tokens, for grammars to name; those of one name with an id beyond
                ``size`` are left out.

        Raises:
            GrammarError: without an EOS id, or with one outside the vocabulary.
            TypeError: for tokens that are neither bytes nor ``None``, and ids that are no integers.
            ValueError: for a negative size.
        """
        ends = _ends_of(eos_token_ids)
        self.size: Final = len(tokens) if size is None else checks.size(size, "size")
        self.eos_token_ids: Final = ends
        _check_ends(ends, self.size)
        texts = [
            t if t is None or type(t) is bytes else checks.octets(t, f"token {i}")
            for i, t in enumerate(tokens[: self.size])
        ]
        texts.extend([None] * (self.size - len(texts)))
        for i in ends:  # an EOS id ends the text, whatever its bytes would be
            texts[i] = None
        self._texts: Final = tuple(texts)
        self.special_tokens: Final = MappingProxyType(_names_of(special_tokens, self.size))
        content = f"{hash_texts(texts)} {ends}"
        if self.special_tokens:
            content += json.dumps(sorted(self.special_tokens.items()))
        self.digest: Final = hashlib.sha256(content.encode()).hexdigest()
        self._with_tokens: dict[frozenset[int], Vocabulary] = {}
        self._tokenizer: Any = None

    # -- construction --------------------------------------------------------------------------

    @classmethod
    def from_tokens(
        cls,
        tokens: Sequence[bytes | None],
        eos_token_ids: Iterable[int] | int,
        *,
        size: int | None = None,
        special_tokens: Mapping[str, int] | None = None,
    ) -> Vocabulary:
        """From the bytes of each token (``None`` for special ones), EOS ids and names of special tokens."""
        return cls(tokens, eos_token_ids, size=size, special_tokens=special_tokens)

    @classmethod
    def from_huggingface(
        cls,
        tokenizer: Any,
        *,
        model: Any = None,
        eos_token_ids: Iterable[int] | int | None = None,
        size: int | None = None,
    ) -> Vocabulary:
        """From a tokenizer of ``transformers`` (or of ``tokenizers``).

        Args:
            tokenizer: byte-level BPE or SentencePiece (with or without byte fallback).
            model: gives the number of embedding rows and the EOS ids of its generation config,
                which often names more of them than the tokenizer does.
            eos_token_ids: overrides what tokenizer and model say.
            size: overrides the number of ids.

        Raises:
            GrammarError: if the tokenizer is of another kind, or no EOS id is known.
        """
        from constrain.vocabulary.huggingface import eos_ids_of, rows_of, texts_and_names_of

        if eos_token_ids is None:
            eos_token_ids = eos_ids_of(tokenizer, model)
        elif isinstance(eos_token_ids, int):
            eos_token_ids = (eos_token_ids,)
        if size is None and model is not None:
            size = rows_of(model)
        texts, names = texts_and_names_of(tokenizer)
        made = cls(texts, eos_token_ids, size=size, special_tokens=names)
        return made.with_tokenizer(tokenizer)

    @classmethod
    def from_tiktoken(
        cls, encoding: Any, eos_token_ids: Iterable[int] | None = None, *, size: int | None = None
    ) -> Vocabulary:
        """From a ``tiktoken.Encoding``; EOS is its ``<|endoftext|>`` unless given."""
        texts: list[bytes | None] = [None] * int(encoding.n_vocab)
        special = encoding.special_tokens_set
        special_ids = {encoding.encode_single_token(name) for name in special}
        for token in encoding.token_byte_values():
            i = encoding.encode_single_token(token)
            if i not in special_ids:
                texts[i] = token
        if eos_token_ids is None:
            known = "<|endoftext|>" in special
            eos_token_ids = (encoding.eot_token,) if known else ()
        ends = eos_token_ids
        names = {name: encoding.encode_single_token(name) for name in special}
        return cls(texts, ends, size=size, special_tokens=names)

    @classmethod
    def from_tekken(
        cls,
        tekken: str | Path | Mapping[str, Any],
        eos_token_ids: Iterable[int] | None = None,
        *,
        size: int | None = None,
    ) -> Vocabulary:
        """From Mistral's ``tekken.json``: its path, or its content.

        Ids begin with the special tokens; EOS is ``</s>`` unless given.
        """
        data = (
            json.loads(Path(tekken).read_text("utf-8"))
            if isinstance(tekken, str | Path)
            else tekken
        )
        config = data["config"]
        specials = int(config["default_num_special_tokens"])
        count = int(config["default_vocab_size"]) - specials
        texts: list[bytes | None] = [None] * (specials + count)
        for entry in data["vocab"][:count]:
            texts[specials + int(entry["rank"])] = base64.b64decode(entry["token_bytes"])
        named = {e["token_str"]: int(e["rank"]) for e in data.get("special_tokens") or ()}
        if eos_token_ids is None:
            eos_token_ids = (named.get("</s>", 2),)
        return cls(texts, eos_token_ids, size=size, special_tokens=named)

    # -- what it says --------------------------------------------------------------------------

    def token_bytes(self, token_id: int) -> bytes | None:
        """The bytes of a token; ``None`` for special tokens and for rows without a token.

        Raises:
            ValueError: if there is no such id.
            TypeError: if it is no integer.
        """
        if type(token_id) is not int:
            token_id = checks.integer(token_id, "a token id")
        if not 0 <= token_id < self.size:
            raise ValueError(f"the vocabulary has ids 0 to {self.size - 1}, not {token_id}")
        return self._texts[token_id]

    def decode(self, token_ids: Iterable[int]) -> bytes:
        """The bytes of several tokens; special tokens add nothing.

        Raises:
            ValueError: if there is no such id.
            TypeError: if one is no integer.
        """
        return b"".join(self.token_bytes(i) or b"" for i in token_ids)

    @cached_property
    def texts(self) -> tuple[bytes, ...]:
        """The bytes of every id, empty where there are none."""
        return tuple(t or b"" for t in self._texts)

    @cached_property
    def flat(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
        """All bytes on end: offsets int32[size + 1], and uint8 data (empty where there are none)."""
        offsets = np.zeros(self.size + 1, np.int32)
        np.cumsum(np.fromiter(map(len, self.texts), np.int64, self.size), out=offsets[1:])
        return offsets, np.frombuffer(b"".join(self.texts), np.uint8)

    @cached_property
    def trie(self) -> Trie:
        """All tokens as a byte trie, kept on disk by content hash for large vocabularies."""
        build = Trie.cached if self.size >= _WORTH_CACHING else Trie.build
        return build(self._texts)

    @cached_property
    def single_byte(self) -> npt.NDArray[np.bool_]:
        """bool[256]: bytes that are a token by themselves."""
        return _flags(t[0] for t in self._texts if t is not None and len(t) == 1)

    @cached_property
    def bytes_in_tokens(self) -> npt.NDArray[np.bool_]:
        """bool[256]: bytes that occur in some token."""
        return _flags(np.unique(np.frombuffer(b"".join(self.texts), np.uint8)))

    def with_special_tokens(self, apart: Iterable[int] = ()) -> Vocabulary:
        """The same tokens where special ones are spelled by their framed names.

        What :mod:`grammars.special_tokens` calls a special token is one more token there.  Tokens of a text
        with the byte of the frame are left out: such a text is none of a grammar that names special tokens.

        Args:
            apart: tokens with bytes that count as special.
        """
        chosen = frozenset(apart)
        known = self._with_tokens.get(chosen)
        if known is None:
            known = self._with_tokens[chosen] = _Framed(self, chosen)
        return known

    def name_of(self, token_id: int) -> str:
        """The name by which a grammar calls a token: its own, or ``[id]``."""
        return self._names.get(token_id, f"[{token_id}]")

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that it was made from, by :meth:`from_huggingface`; ``None`` else.

        It is not pickled with the vocabulary.
        """
        return self._tokenizer

    def with_tokenizer(self, tokenizer: Any) -> Vocabulary:
        """The same vocabulary, with its tokenizer if it had none."""
        if self._tokenizer is None:
            self._tokenizer = tokenizer
        return self

    @cached_property
    def _names(self) -> dict[int, str]:
        return {i: name for name, i in reversed(list(self.special_tokens.items()))}

    def __len__(self) -> int:
        return self.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Vocabulary(size={self.size:,}, eos_token_ids={list(self.eos_token_ids)})"

    def __copy__(self) -> Vocabulary:
        return self

    def __deepcopy__(self, memo: Any) -> Vocabulary:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        content = (self._texts, self.eos_token_ids, dict(self.special_tokens))
        return _remade, (*content, self.digest)


class _Framed(Vocabulary):
    """See :meth:`Vocabulary.with_special_tokens`; tokens have the bytes they had."""

    def __init__(self, plain: Vocabulary, apart: frozenset[int]) -> None:
        super().__init__(plain._texts, plain.eos_token_ids, special_tokens=plain.special_tokens)
        self._plain = plain
        self._apart = apart
        spelled = [
            framed(plain.name_of(i)) if text is None or i in apart else text
            for i, text in enumerate(plain._texts)
        ]
        texts = [
            None if text is not None and FRAME in text and plain._texts[i] == text else text
            for i, text in enumerate(spelled)
        ]
        object.__setattr__(self, "_texts", tuple(texts))
        content = f"{hash_texts(texts)} {plain.digest}"
        object.__setattr__(self, "digest", hashlib.sha256(content.encode()).hexdigest())

    def token_bytes(self, token_id: int) -> bytes | None:
        return self._plain.token_bytes(token_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade_framed, (self._plain, self._apart)


def _remade(
    texts: Sequence[bytes | None], ends: Sequence[int], names: Mapping[str, int], digest: str
) -> Vocabulary:
    """A pickled vocabulary, if it is whole."""
    try:
        made = Vocabulary(texts, ends, special_tokens=names)
    except (TypeError, ValueError, AttributeError) as error:
        raise GrammarError(f"the pickled vocabulary is damaged: {error}") from None
    if made.digest != digest:
        raise GrammarError(
            "the pickled vocabulary is damaged: its content does not match its digest"
        )
    return made


def _remade_framed(plain: Vocabulary, apart: frozenset[int]) -> Vocabulary:
    return plain.with_special_tokens(apart)


def _names_of(names: Mapping[str, int] | None, size: int) -> dict[str, int]:
    """Names of special tokens with their ids, checked; those without a row are left out."""
    out: dict[str, int] = {}
    for name, token in (names or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a special token is a text, not {name!r:.80}")
        i = checks.integer(token, f"the id of {name!r}")
        if i < 0:
            raise ValueError(f"the id of {name!r} is negative: {i}")
        if name and i < size:
            out[name] = i
    return out


def _ends_of(eos_token_ids: Iterable[int] | int) -> tuple[int, ...]:
    """EOS ids, ascending; one may be given bare."""
    several = isinstance(eos_token_ids, Iterable) and getattr(eos_token_ids, "ndim", 1) > 0
    ids: Any = eos_token_ids if several else (eos_token_ids,)
    return tuple(sorted({checks.integer(i, "an EOS id") for i in ids}))


def _check_ends(ends: tuple[int, ...], size: int) -> None:
    if not ends:
        raise GrammarError(
            "no EOS token id is known, so no text could ever end; pass eos_token_ids=..."
        )
    outside = [i for i in ends if not 0 <= i < size]
    if outside:
        raise GrammarError(
            f"EOS id {outside[0]} is outside the vocabulary of {size:,} ids; "
            "pass the right eos_token_ids=..., or size=... if the model has more rows"
        )


def _flags(values: Iterable[Any]) -> npt.NDArray[np.bool_]:
    flags = np.zeros(256, np.bool_)
    flags[np.fromiter(values, np.int64)] = True
    flags.setflags(write=False)
    return flags
