"""What goes wrong when models are fetched."""

from __future__ import annotations

from grammars.errors import GrammaError


class ModelUnavailable(GrammaError, RuntimeError):  # noqa: N818 - the name says it
    """What was asked for cannot be had here: the registry does not answer, or a package is missing.

    A test may skip on this error and on no other.
    """


class ModelRefused(GrammaError, ValueError):  # noqa: N818 - the name says it
    """A model that is not loaded: its weights are no safetensors, or it needs code that comes with it."""


class ArchiveRefused(GrammaError, RuntimeError):  # noqa: N818
    """An archive that is damaged, or holds what none of ours holds.  Nothing of it is kept."""


class ChecksumMismatch(GrammaError, RuntimeError):  # noqa: N818
    """A file that was fetched is not the file that was pinned.  It has been thrown away."""
