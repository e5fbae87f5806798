"""All reference parsers that grammars of the library are compared with."""

from __future__ import annotations

from typing import Final

from benchmarks import library_formats, library_languages, library_notations
from benchmarks.library_reference import MissingReferenceError, Reference

__all__ = ["REFERENCES", "MissingReferenceError", "Reference"]

REFERENCES: Final[list[tuple[str, Reference]]] = [
    *library_formats.REFERENCES,
    *library_languages.REFERENCES,
    *library_notations.REFERENCES,
]
"""Grammars and what they are compared with; a grammar may stand here more than once."""
