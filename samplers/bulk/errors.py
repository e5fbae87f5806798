"""What ends a run over many documents."""

from __future__ import annotations

from grammars.errors import GrammaError


class BulkError(GrammaError, RuntimeError):
    """A run over many documents that cannot begin or go on; rows that are finished are kept."""
