"""The version of the distribution."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def version() -> str:
    """What is installed as ``gramma``, or ``0+unknown`` where only its source is there."""
    try:
        return installed_version("gramma")
    except PackageNotFoundError:
        return "0+unknown"
