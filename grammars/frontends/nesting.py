"""Where a text is nested most deeply, for messages about texts that are nested too deeply."""

from __future__ import annotations

from typing import Final

_OPEN: Final = "([{"
_CLOSE: Final = ")]}"


def deepest_bracket(text: str) -> tuple[int, int]:
    """Offset and depth of the most deeply nested opening bracket (the first one; 0, 0 if none).

    Brackets behind a backslash do not count; those in strings and classes do, since what they are
    depends on the language.
    """
    depth = most = at = 0
    escaped = False
    for offset, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in _OPEN:
            depth += 1
            if depth > most:
                at, most = offset, depth
        elif char in _CLOSE:
            depth = max(0, depth - 1)
    return at, most
