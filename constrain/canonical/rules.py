"""Which token may follow which in a text as the tokenizer itself writes it."""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from constrain.arrays import Flags, Int32, Int64
from constrain.cache import cache_folder, load_arrays, save_arrays
from constrain.canonical.merges import Merges, merges_of
from constrain.canonical.pretokens import (
    CUT,
    CUT_BEFORE_A_WORD,
    ELSEWHERE,
    JOINED,
    Cutter,
    Pretokens,
    shape_of,
    shapes_of,
)
from constrain.masks.cache import Row
from constrain.masks.wide import pack_bits
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError

_MOST_ROWS: Final = 1 << 11
"""Rows that are kept, 16 kB each for 128,000 tokens."""
PENDING: Final = "\0"
"""The context of a token that is a word of its own only if no blank follows, nor the end."""
_MOST_PAIRS: Final = 1 << 16
_FORMAT: Final = 6
_PROBE: Final = "a B1 2c'd/e.  f\n\n g\t_\u3042\u0301!?"
"""A text that every pre-tokenizer cuts somewhere, if it ever cuts."""


class CanonicalRules:
    """Pairs of tokens that a byte-pair tokenizer writes side by side.

    The law: ``v`` may follow ``u`` if, in a word that begins as the one ``u`` is in, the tokenizer writes
    the text of both as ``u v``, or may, with what follows.  So the tokens of an encoded text are allowed,
    and a text of allowed tokens is what encoding it gives, but for words whose ends are decided further
    away, and tokens that are parts of a character: of which kind it is shows later.

    Args:
        merges: of the tokenizer.
        pretokens: where it cuts texts into words before.
        vocabulary: the tokens.
        apart: ids of added and special tokens, which never join with their neighbours.
        ignores_merges: a word that is a token is that token, whatever the merges say.
        completions: then, for each token, those that make a token with it (:func:`completions_of`).
        encode: the tokenizer itself, for pairs that the merges' ranks do not settle.
    """

    def __init__(
        self,
        merges: Merges,
        pretokens: Pretokens,
        vocabulary: Vocabulary,
        apart: frozenset[int],
        ignores_merges: bool,
        completions: tuple[Int32, Int32],
        encode: Callable[[bytes], list[int]],
    ) -> None:
        texts = vocabulary.texts
        self._merges: Final = merges
        self._pretokens: Final = pretokens
        self._texts: Final = texts
        self._size: Final = len(texts)
        self._apart = np.zeros(self._size, np.bool_)
        self._apart[[i for i in apart if i < self._size]] = True
        self._number: Final = {text: i for i, text in enumerate(texts) if text}
        self._completions: Final = completions
        self._ignores_merges: Final = ignores_merges
        self._pairs: dict[tuple[str, int, int], bool] = {}
        self._rows: OrderedDict[tuple[str, int, bytes], Row] = OrderedDict()
        known = min(merges.size, self._size)
        self._derived: Final = np.zeros(self._size, np.bool_)
        self._derived[:known] = merges.derived[:known]
        self._entangled: Final = np.zeros(self._size, np.bool_)
        self._entangled[:known] = merges.entangled[:known]
        self._encode: Final = encode
        self._begins_blank: Final = np.array(
            [not text or text[:1] in b" \t\n\r\v\f" for text in texts], np.bool_
        )
        self._alone: Final = self._derived | self._apart
        if ignores_merges:
            self._alone[:known] = True

    def after(self, context: str, token: int, row: Row) -> Row:
        """The tokens of a row that may follow a token: int32[ceil(V/32)], read-only.

        Args:
            context: of the token (:meth:`context_behind`).
            token: the token before; -1 at the beginning, behind a prompt.
            row: the tokens that are asked about.
        """
        key = (context, token, row.tobytes())
        known = self._rows.get(key)
        if known is None:
            known = self._rows[key] = self._made(context, token, row)
            if len(self._rows) > _MOST_ROWS:
                self._rows.popitem(last=False)
        else:
            self._rows.move_to_end(key)
        return known

    def allows(self, context: str, token: int, behind: int) -> bool:
        """Whether a token may stand behind another, see :meth:`after`."""
        key = (context, token, behind)
        known = self._pairs.get(key)
        if known is None:
            if len(self._pairs) >= _MOST_PAIRS:
                self._pairs.clear()
            known = self._pairs[key] = self._judge(context, token, behind)
        return known

    def _judge(self, context: str, token: int, behind: int) -> bool:
        if not self._alone[behind]:
            return False
        if context == PENDING:
            if self._begins_blank[behind]:
                return False
            context = ""
        if self._is_free(token, behind):
            return True
        verdict = self._pretokens.between(context, token, behind)
        if verdict in (CUT, ELSEWHERE):
            return verdict == CUT
        return verdict == CUT_BEFORE_A_WORD or self._stays(token, behind)

    def _is_free(self, token: int, behind: int) -> bool:
        """Whether two tokens never join, whatever the text."""
        apart = token < 0 or self._apart[token] or self._apart[behind]
        return bool(apart) or max(token, behind) >= self._merges.size

    def _stays(self, token: int, behind: int) -> bool:
        """Whether merges leave two tokens of one word as they are."""
        if self._ignores_merges and (
            not (self._derived[token] and self._derived[behind])
            or self._texts[token] + self._texts[behind] in self._number
        ):
            return False
        if self._entangled[token] and self._entangled[behind]:
            return self._encode(self._texts[token] + self._texts[behind]) == [token, behind]
        return not self._merges.joins(token, behind)

    def context_behind(self, context: str, token: int, behind: int) -> str:
        """The kinds of the characters before a token in its word; empty where it begins one.

        Empty too before parts of characters, behind which nothing is told by kinds.  ``PENDING``
        where it begins one only if no blank follows.

        Args:
            context: the same of the token before.
            token: the token before; -1 at the beginning.
            behind: the token.
        """
        if self._is_free(token, behind) or not self._pretokens.is_whole(behind):
            return ""
        if context == PENDING:
            context = ""
        verdict = self._pretokens.between(context, token, behind)
        if verdict == CUT_BEFORE_A_WORD and not self._stays(token, behind):
            return PENDING
        if verdict in (CUT, ELSEWHERE):
            return ""
        try:
            return shape_of(context + self._texts[token].decode())
        except UnicodeDecodeError:
            return ""

    def contexts_behind(self, context: str, token: int, behind: Int64) -> dict[str, Flags]:
        """The contexts (:meth:`context_behind`) of several tokens, and of which of them each is.

        Args:
            context: of the token before.
            token: the token before; -1 at the beginning.
            behind: int64[n], the tokens.

        Returns:
            bool[n] for each context that there is.
        """
        free = self._apart[behind] | (behind >= self._merges.size)
        free |= ~self._pretokens.are_whole(behind)
        if token < 0 or self._apart[token] or token >= self._merges.size:
            free[:] = True
        if context == PENDING:
            context = ""
        verdict = self._pretokens.among(context, token, behind[~free])
        inside = np.zeros(len(behind), np.bool_)
        inside[~free] = (verdict == JOINED) | (verdict == CUT_BEFORE_A_WORD)
        out: dict[str, Flags] = {}
        for at in np.flatnonzero(~free)[verdict == CUT_BEFORE_A_WORD].tolist():
            if not self._stays(token, int(behind[at])):
                out.setdefault(PENDING, np.zeros(len(behind), np.bool_))[at] = True
                inside[at] = False
        begins = ~inside & ~out[PENDING] if PENDING in out else ~inside
        if inside.any():
            try:
                out[shape_of(context + self._texts[token].decode())] = inside
            except UnicodeDecodeError:
                begins |= inside
        if begins.any():
            out[""] = out[""] | begins if "" in out else begins
        return out

    def _made(self, context: str, token: int, row: Row) -> Row:
        asked = np.unpackbits(row.view(np.uint8), bitorder="little")[: self._size].astype(np.bool_)
        good = asked & self._alone
        if context == PENDING:
            good &= ~self._begins_blank
            context = ""
        if 0 <= token < self._merges.size and not self._apart[token] and good.any():
            good &= self._apart | self._may_follow(context, token, good)
        made = row & pack_bits(np.flatnonzero(good), self._size)
        made.setflags(write=False)
        return made

    def _may_follow(
        self, context: str, token: int, asked: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        verdict = self._pretokens.after(context, token, asked)
        refused = np.zeros(self._size, np.bool_)
        joins = self._merges.refused_after(token)
        refused[: len(joins)] = joins[: self._size]
        if self._entangled[token]:
            for other in np.flatnonzero(self._entangled & asked).tolist():
                refused[other] = not self._stays(token, other)
        if self._ignores_merges:  # tokens that no merges make are whole words
            refused |= ~self._derived if self._derived[token] else True
            refused[self._completing(token)] = True
        good: npt.NDArray[np.bool_] = (
            (verdict == CUT) | (verdict == CUT_BEFORE_A_WORD) | (~refused & (verdict != ELSEWHERE))
        )
        return good

    def _completing(self, token: int) -> Int32:
        """Tokens that make a token of the two."""
        begin, behind = self._completions
        return behind[begin[token] : begin[token + 1]]


_known: weakref.WeakKeyDictionary[Vocabulary, list[tuple[Any, CanonicalRules]]] = (
    weakref.WeakKeyDictionary()
)
"""With the tokenizer that they are of: equal vocabularies may be of tokenizers with other merges."""
_MOST_TOKENIZERS: Final = 2
_lock: Final = threading.Lock()


def canonical_rules_of(vocabulary: Vocabulary) -> CanonicalRules:
    """The rules of a vocabulary's tokenizer, made once.

    Raises:
        GrammarError: if the vocabulary knows no tokenizer, or one without byte-pair merges.
    """
    if vocabulary.tokenizer is None:
        raise GrammarError(
            "canonical=True needs the tokenizer's merges: make the vocabulary with "
            "Vocabulary.from_huggingface"
        )
    tokenizer = vocabulary.tokenizer
    with _lock:
        known = _known.setdefault(vocabulary, [])
        for owner, rules in known:
            if owner is tokenizer:
                return rules
        made = rules_of(tokenizer, vocabulary)
        known.insert(0, (tokenizer, made))
        del known[_MOST_TOKENIZERS:]
        return made


def rules_of(tokenizer: Any, vocabulary: Vocabulary) -> CanonicalRules:
    """The rules of a tokenizer of ``transformers`` or ``tokenizers``.

    Raises:
        GrammarError: if it is none of byte pairs.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None) or tokenizer
    if not hasattr(fast, "to_str"):
        raise GrammarError(
            f"canonical=True needs a fast tokenizer with byte-pair merges, not {type(tokenizer).__name__}"
        )
    model = fast.model
    if type(model).__name__ != "BPE":
        raise GrammarError(
            "canonical=True needs a tokenizer with byte-pair merges; this one is "
            f"{type(model).__name__}: leave it out"
        )
    ignores_merges = bool(getattr(model, "ignore_merges", False))
    texts = vocabulary.texts
    arrays = _arrays(fast.to_str(), vocabulary, ignores_merges)
    merges = Merges(**{field.name: arrays[field.name] for field in fields(Merges)})
    shapes = (arrays["plain"], arrays["contracted"], arrays["examples"])
    added = frozenset(fast.get_added_tokens_decoder())
    return CanonicalRules(
        merges,
        Pretokens(texts, shapes, _cutter(fast)),
        vocabulary,
        added | frozenset(i for i, text in enumerate(texts) if not text),
        ignores_merges,
        (arrays["completed"], arrays["completing"]),
        lambda text: fast.encode(text.decode(), add_special_tokens=False).ids,
    )


def _arrays(
    written: str, vocabulary: Vocabulary, ignores_merges: bool
) -> dict[str, npt.NDArray[Any]]:
    """All that is worked out of a tokenizer file, kept on disk by its hash."""
    digest = hashlib.sha256(written.encode()).hexdigest()
    path = cache_folder("merges", f"{digest}-{vocabulary.digest[:16]}-{_FORMAT}.npz")
    names = {field.name for field in fields(Merges)}
    names |= {"plain", "contracted", "examples", "completed", "completing"}
    stored = load_arrays(path)
    if stored is not None and stored.keys() == names and _fit(stored, len(vocabulary.texts)):
        return dict(stored)
    model = json.loads(written)["model"]
    vocab = model["vocab"]
    pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    # older files write a merge as one text
    texts = vocabulary.texts
    merges = merges_of(pairs, vocab, max([*vocab.values(), -1]) + 1)
    for piece, i in vocab.items():  # several characters that no merge makes are never written
        if len(piece) > 1 and merges.left[i] < 0:
            merges.derived[i] = i < len(texts) and len(texts[i]) == 1 and texts[i] >= b"\x80"
    plain, contracted, examples = shapes_of(texts)
    made = {field.name: getattr(merges, field.name) for field in fields(Merges)}
    made |= {"plain": plain, "contracted": contracted, "examples": examples}
    completed, completing = completions_of(texts if ignores_merges else ())
    made |= {"completed": completed, "completing": completing}
    save_arrays(path, made)
    return made


def _fit(arrays: Mapping[str, npt.NDArray[Any]], tokens: int) -> bool:
    """Whether arrays of a file are of the right kinds, and lead to places within them."""
    if any(
        a.ndim != 1 or a.dtype != (np.bool_ if name == "derived" else np.int32)
        for name, a in arrays.items()
    ):
        return False
    size = len(arrays["left"])
    of_tokens = ("left", "right", "rank", "time", "derived")
    rows = {"begin": ("other", "order"), "edge_begin": ("edge_token", "edge_time", "edge_rank")}
    rows["completed"] = ("completing",)
    shapes = len(arrays["examples"])
    return (
        all(len(arrays[name]) == size for name in of_tokens)
        and len(arrays["begin"]) == len(arrays["edge_begin"]) == size + 1
        and len(arrays["completed"]) in (1, tokens + 1)
        and len(arrays["plain"]) == len(arrays["contracted"]) == tokens
        and all(_are_bounds(arrays[name], [arrays[x] for x in of]) for name, of in rows.items())
        and all(_within(arrays[name], -1, size) for name in ("left", "right"))
        and all(_within(arrays[name], 0, size) for name in ("other", "edge_token"))
        and all(_within(arrays[name], 0, tokens) for name in ("completing", "examples"))
        and all(_within(arrays[name], -1, shapes) for name in ("plain", "contracted"))
    )


def _are_bounds(begin: npt.NDArray[Any], of: Sequence[npt.NDArray[Any]]) -> bool:
    """Whether these are where rows of some arrays begin, and end."""
    ends = all(len(array) == begin[-1] for array in of)
    return bool(ends and begin[0] == 0 and (np.diff(begin.astype(np.int64)) >= 0).all())


def _within(numbers: npt.NDArray[Any], least: int, end: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= least and numbers.max() < end)


def completions_of(texts: Sequence[bytes]) -> tuple[Int32, Int32]:
    """Pairs of tokens whose texts make the text of a token.

    Args:
        texts: the bytes of each token; empty for none.

    Returns:
        int32[V+1] and int32[P]: those behind token u are entries ``first[u]:first[u+1]`` of the second.
    """
    number = {text: i for i, text in enumerate(texts) if text}
    find = number.get
    pairs = [
        (u, v)
        for text in number
        for at in range(1, len(text))
        if (v := find(text[at:])) is not None and (u := find(text[:at])) is not None
    ]
    table = np.array(pairs, np.int32).reshape(-1, 2)
    begin = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(np.bincount(table[:, 0], minlength=len(texts)), out=begin[1:])
    return begin, table[np.argsort(table[:, 0], kind="stable"), 1]


def _cutter(fast: Any) -> Cutter | None:
    """The places at which a tokenizer cuts texts into words; ``None`` if it never does."""
    pre_tokenizer, normalizer = fast.pre_tokenizer, fast.normalizer
    if pre_tokenizer is None:
        return None

    def cut(text: str) -> list[int]:
        if normalizer is not None:
            normal = normalizer.normalize_str(text)
            if len(normal) != len(text):
                return []
            text = normal
        return [start for _, (start, _) in pre_tokenizer.pre_tokenize_str(text) if start]

    return cut if cut(_PROBE) else None
