"""Checks of what every ``sample`` is asked for: one rule and one message for all samplers."""

from __future__ import annotations

import math
from typing import Any

from constrain.arguments import check_count


def check_request(
    *,
    max_new_tokens: int | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int | None = None,
    max_attempts: int | None = None,
) -> None:
    """Checks the arguments that all samplers share, before anything is spent.

    Args:
        max_new_tokens: at least 1, or ``None`` for the sampler's own.
        temperature: 0 or more, and finite.
        top_p: above 0 and at most 1.
        seed: 0 or more, or ``None`` for other texts each time.
        max_attempts: at least 1, or ``None`` for the sampler's own.

    Raises:
        TypeError: for something that is not a number of the kind wanted (``True`` is none).
        ValueError: for a number out of range.
    """
    check_count(max_new_tokens, "max_new_tokens", optional=True)
    check_count(seed, "seed", least=0, optional=True)
    check_count(max_attempts, "max_attempts", optional=True)
    _real("temperature", temperature)
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature}: must be 0 or more, and finite")
    _real("top_p", top_p)
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}: must be above 0 and at most 1")


def check_aligned(temperature: float, top_p: float) -> None:
    """Checks that the model's own law is asked for, which samplers that follow it need.

    Raises:
        ValueError: for a temperature of 0, or top-p below 1.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature}: sampling needs one above 0")
    if top_p != 1.0:
        raise ValueError(
            f"top_p={top_p}: truncation would change the target; only 1.0 is possible here"
        )


def _real(name: str, value: Any) -> None:
    try:
        if isinstance(value, bool | str):
            raise TypeError
        float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r}: must be a number") from None
