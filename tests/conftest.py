"""Profiles of random tests: the same examples in every run, or others each time."""

from __future__ import annotations

from hypothesis import settings

# A run says something of the change it is for: what it fails on was not drawn by chance.  ``make fuzz``
# draws other examples each time.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("same")
