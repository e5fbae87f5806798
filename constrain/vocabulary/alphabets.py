"""How tokenizers write bytes as text: GPT-2's alphabet and SentencePiece's byte fallback."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

_BYTE_FALLBACK: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: the character that stands for each byte in byte-level BPE."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def from_byte_level(tokens: Sequence[str]) -> list[bytes]:
    """Undoes the byte-level alphabet for many tokens at once.

    A token with a character outside the alphabet stands for its UTF-8 text (added tokens do).
    """
    table = np.full(0x110000, -1, np.int16)
    for char, byte in byte_alphabet().items():
        table[ord(char)] = byte
    points = np.frombuffer("".join(tokens).encode("utf-32-le", "surrogatepass"), np.uint32)
    values = table[points]
    data = values.astype(np.uint8).tobytes()
    ends = np.cumsum([len(t) for t in tokens]).tolist()
    foreign = np.zeros(len(points) + 1, np.int64)
    np.cumsum(values < 0, out=foreign[1:])
    out: list[bytes] = []
    at = 0
    for token, end in zip(tokens, ends, strict=True):
        raw = foreign[end] != foreign[at]
        out.append(token.encode() if raw else data[at:end])
        at = end
    return out


def from_byte_fallback(token: str, rewrite: Callable[[str], str]) -> bytes:
    """``<0xE9>`` is one byte; anything else is its text after ``rewrite``."""
    fallback = _BYTE_FALLBACK.fullmatch(token)
    return bytes([int(fallback[1], 16)]) if fallback else rewrite(token).encode()
