"""Length of the prefix that two texts have in common, in tokens."""

from __future__ import annotations

from collections.abc import Sequence


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens at the beginning that agree."""
    shorter = min(len(a), len(b))
    if list(a[:shorter]) == list(b[:shorter]):  # as for most: compared in C
        return shorter
    return next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
