"""What benchmarks print and draw: progress, tables of records, words in a picture."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from typing import Any


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(shown(r.get(c)) for c in columns) + " |" for r in records]
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def svg_words(x: float, y: float, anchor: str, words: str, ink: str = "#000") -> str:
    """Words in an SVG picture; ``anchor`` is ``start``, ``middle`` or ``end``."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{ink}">{escape(words)}</text>'
    )
