"""Of scored tokens, those that are kept: single ones, with their neighbours, or whole lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from constrain.arguments import check_count

Floats: TypeAlias = npt.NDArray[np.float32]
Unit: TypeAlias = Literal["lines", "tokens"]
Pool: TypeAlias = Literal["avg", "max"]

UNITS: Final = ("lines", "tokens")
POOLS: Final = ("avg", "max")


def check_choice(value: object, name: str, allowed: Sequence[str]) -> None:
    """Refuses an argument that is none of a few words.

    Raises:
        ValueError: names them.
    """
    if value not in allowed:
        words = " or ".join(repr(word) for word in allowed)
        raise ValueError(f"{name}={value!r}: must be {words}")


def check_selection(keep: int, unit: str, kernel: int, pool: str) -> None:
    """Refuses what filters have in common, where it is out of range.

    Raises:
        TypeError, ValueError: names it.
    """
    check_count(keep, "keep")
    check_count(kernel, "kernel")
    check_choice(unit, "unit", UNITS)
    check_choice(pool, "pool", POOLS)


def pooled(scores: Floats, kernel: int, pool: Pool) -> Floats:
    """Scores smoothed over their neighbours, as many as there were.

    Args:
        scores: float32[n].
        kernel: tokens that count for one; (kernel - 1) // 2 of them before it.
        pool: ``"max"``, or ``"avg"``, for which what lies beyond either end is 0, as
            ``torch.nn.functional.avg_pool1d`` has it.
    """
    before = (kernel - 1) // 2
    beyond = 0.0 if pool == "avg" else -np.inf
    padded = np.pad(scores, (before, kernel - 1 - before), constant_values=beyond)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel)
    found = windows.mean(-1) if pool == "avg" else windows.max(-1)
    return np.asarray(found, np.float32)


def best_tokens(scores: Floats, keep: int, neighbours: int = 1) -> list[int]:
    """The tokens with the highest scores, each with some neighbours, as many as may be kept.

    Args:
        scores: float32[n]; of equal ones the first counts more.
        keep: at most n.
        neighbours: tokens that are kept around each of the best, itself among them; (neighbours - 1) // 2
            of them before it.  The best tokens come first, and of each the nearest neighbours.

    Returns:
        ``keep`` indices, ascending.
    """
    count = len(scores)
    order = np.argsort(-scores, kind="stable")[:keep]
    before = (neighbours - 1) // 2
    around = np.arange(-before, neighbours - before)
    around = around[np.argsort(np.abs(around), kind="stable")]
    wanted = (order[:, None] + around).ravel()
    wanted = wanted[(wanted >= 0) & (wanted < count)]
    _, first = np.unique(wanted, return_index=True)
    return sorted(wanted[np.sort(first)[:keep]].tolist())


def best_lines(scores: Floats, keep: int, lines: Sequence[range]) -> list[int]:
    """The lines whose tokens have the highest mean score, as many as fit.

    Our own reading: a model that was trained on whole sentences is given whole lines.  A line that does not
    fit what is left is passed over; if none fits at all, single tokens are kept.

    Args:
        scores: float32[n].
        keep: tokens, at most n.
        lines: parts of ``range(n)``.

    Returns:
        At most ``keep`` indices, ascending.
    """
    means = np.array([scores[line.start : line.stop].mean() for line in lines])
    kept: list[int] = []
    for number in np.argsort(-means, kind="stable").tolist():
        if len(kept) + len(lines[number]) <= keep:
            kept.extend(lines[number])
    return sorted(kept) if kept else best_tokens(scores, keep)
