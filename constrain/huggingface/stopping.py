"""Stop strings: texts before which an answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constrain.arguments import described
from constrain.healing import Healed


def stop_texts(given: Any) -> tuple[bytes, ...]:
    """Stop strings as bytes.

    Args:
        given: one text, several, or ``None`` for none.

    Raises:
        TypeError: for anything else.
        ValueError: for an empty text, with which nothing could be written.
    """
    if given is None:
        return ()
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not all(isinstance(one, str) for one in texts):
        raise TypeError(f"stop is a text or a list of texts, not {described(given)}")
    if "" in texts:
        raise ValueError("stop has an empty text, which stands before everything; leave it out")
    return tuple(one.encode() for one in texts)


def stop_in(data: bytes | bytearray, stop: Sequence[bytes]) -> int | None:
    """Where the first of some texts begins; ``None`` where there is none."""
    found = [at for at in (data.find(one) for one in stop) if at >= 0]
    return min(found, default=None)


def begun(data: bytes | bytearray, stop: Sequence[bytes]) -> int:
    """How many of the last bytes are the beginning of a stop text, and may not be of the answer."""
    most = max((len(one) for one in stop), default=0) - 1
    return next(
        (
            n
            for n in range(most, 0, -1)
            if any(data.endswith(one[:n]) for one in stop if n < len(one))
        ),
        0,
    )


def until_stop(tokens: list[int], healed: Healed, stop: Sequence[bytes]) -> list[int]:
    """The tokens up to the one with which the first stop text is whole; all where there is none."""
    data = healed.text(tokens)
    ends = [at + len(one) for one in stop if (at := data.find(one)) >= 0]
    if not ends:
        return tokens
    least, kept = min(ends) + len(healed.prefix), 0
    for number, token in enumerate(tokens, 1):
        kept += len(healed.automaton.vocabulary.token_bytes(token) or b"")
        if kept >= least:
            return tokens[:number]
    return tokens
