"""Counters where the compiler would copy: repetitions of few states are counted, for tests."""

from __future__ import annotations

import pytest

from grammars.compiling import building, fragments, kernel_compiler
from grammars.compiling.shelf import Shelf


def count_above(states: int, patch: pytest.MonkeyPatch) -> None:
    """Counts repetitions whose copies have more states; what was made before is not taken over."""
    patch.setattr(building, "_COPY_LIMIT", states)
    patch.setattr(building, "PLAIN", Shelf(200_000))
    patch.setattr(kernel_compiler, "_OPERANDS", Shelf(200_000))
    patch.setattr(fragments, "_KEPT", Shelf(200_000))
    patch.setattr(fragments, "_seen", {})
    patch.setenv("GRAMMA_PROGRAMS", "off")
