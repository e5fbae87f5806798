"""Profiles of random tests (the same examples in every run, or others), garbage collection, fixtures."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import settings

# A run says something of the change it is for: what it fails on was not drawn by chance.  ``make fuzz``
# draws other examples each time.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("same")

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
