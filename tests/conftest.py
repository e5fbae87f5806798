"""Profiles of random tests (the same examples in every run, or others each time), and garbage collection."""

from __future__ import annotations

import gc

from hypothesis import settings

# A run says something of the change it is for: what it fails on was not drawn by chance.  ``make fuzz``
# draws other examples each time.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("same")

# Oracles remember gigabytes of small objects, through all of which every full collection looked: a third of
# the time of some files.
gc.set_threshold(10_000, 20, 100)
