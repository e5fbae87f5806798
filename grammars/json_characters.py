"""Characters inside JSON strings: which stand as they are, and how the others are usually written."""

from __future__ import annotations

import json
from typing import Final

from grammars.ir import Expr, alt, chars, invert_ranges, text

SPECIAL: Final = ((0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C))
"""Code points that are always escaped."""
RAW: Final = invert_ranges(SPECIAL)
"""All others."""

ANY_SPELLED: Final[Expr] = alt(
    chars(RAW), *(text(json.dumps(chr(c))[1:-1]) for lo, hi in SPECIAL for c in range(lo, hi + 1))
)
"""One character in its usual spelling."""
