"""Chance in tests (the same draws in every run, or others), garbage collection, fixtures."""

from __future__ import annotations

import gc
import random
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# A run says something of the change it is for: what it fails on was not drawn by chance.  ``make fuzz``
# draws other examples each time.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("same")

_default_rng = np.random.default_rng
_unseeded = [0, 0]  # by the test's name, how many there were


def _entropy() -> list[int] | None:
    if not settings.default.derandomize:
        return None
    _unseeded[1] += 1
    return list(_unseeded)


class SeedSequence(np.random.SeedSequence):
    """NumPy's, of which one without a seed is what it was in the test's last run."""

    def __init__(self, entropy: Any = None, **options: Any) -> None:
        super().__init__(_entropy() if entropy is None else entropy, **options)


def default_rng(seed: Any = None) -> np.random.Generator:
    """NumPy's generator, of which one without a seed draws what it drew in the test's last run."""
    return _default_rng(_entropy() if seed is None else seed)


np.random.SeedSequence, np.random.default_rng = SeedSequence, default_rng  # type: ignore[misc]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seeds every source of chance that a test may have left without a seed, by the test's name.

    What a fixture or a helper makes once for several tests has the seed of the first that a worker runs.
    """
    if settings.default.derandomize:
        _unseeded[:] = [zlib.crc32(item.nodeid.encode()), 0]
        random.seed(_unseeded[0])
        np.random.seed(_unseeded[0])
        if torch := sys.modules.get("torch"):  # many tests are quicker than its import
            torch.manual_seed(_unseeded[0])


# Oracles remember gigabytes of small objects, through all of which every full collection looked: a third of
# the time of some files.
gc.set_threshold(10_000, 20, 100)


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many states there were whenever some were forgotten."""
    from constrain import TokenAutomaton

    counted: list[int] = []
    whole = TokenAutomaton.trim

    def trim(self: TokenAutomaton, keep: Any) -> None:
        counted.append(self.state_count)
        whole(self, keep)

    monkeypatch.setattr(TokenAutomaton, "trim", trim)
    return counted
