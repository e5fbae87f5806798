"""What guesses tokens; each drafter is a small file."""

from __future__ import annotations

from samplers.drafters.base import Context, Drafter, Observation

__all__ = ["Context", "Drafter", "Observation", "default_drafters"]


def default_drafters() -> list[Drafter]:
    """The drafters that need neither arguments nor training."""
    return []
