"""The version of the distribution."""

from __future__ import annotations


def version() -> str:
    """What is installed as ``gramma``, or ``0+unknown`` where only its source is there."""
    from importlib.metadata import PackageNotFoundError  # slow to import, and rarely needed
    from importlib.metadata import version as installed

    try:
        return installed("gramma")
    except PackageNotFoundError:
        return "0+unknown"
