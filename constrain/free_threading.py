"""Builds of Python whose threads share no interpreter lock: used at one's own risk, and told so."""

from __future__ import annotations

import sys
import warnings


class FreeThreadingWarning(RuntimeWarning):
    """Automata are used where threads share no interpreter lock, which was not tested."""


def warn_without_interpreter_lock() -> None:
    """Warns where Python runs without its global interpreter lock.

    Answers that were given before are read without a lock of ours, which is sound as long as one thread at
    a time runs Python code.
    """
    is_enabled = getattr(sys, "_is_gil_enabled", None)  # there is none before Python 3.13
    if is_enabled is None or is_enabled():
        return
    warnings.warn(
        "this Python runs without its global interpreter lock, with which alone gramma is tested: masks, "
        "steps and distances that are known are read without a lock.  Set PYTHON_GIL=1, or let one thread "
        "at a time use automata of one vocabulary, and what was made with them",
        FreeThreadingWarning,
        stacklevel=2,
    )
