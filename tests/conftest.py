"""Chance in tests (the same draws in every run, or others), garbage collection, fixtures."""

from __future__ import annotations

import gc
import random
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

# A run says something of the change it is for: what it fails on was not drawn by chance.  ``make fuzz``
# draws other examples each time.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("same")

_seeds = np.random.SeedSequence(0)
_default_rng = np.random.default_rng


def default_rng(seed: Any = None) -> np.random.Generator:
    """NumPy's generator; one without a seed draws what it drew in the test's last run."""
    if seed is None and settings.default.derandomize:
        (seed,) = _seeds.spawn(1)
    return _default_rng(seed)


np.random.default_rng = default_rng


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seeds every source of chance that a test may have left without a seed, by the test's name."""
    global _seeds
    if settings.default.derandomize:
        seed = zlib.crc32(item.nodeid.encode())
        _seeds = np.random.SeedSequence(seed)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


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
