"""The law of whole texts with the drafters that are shipped, each by itself and all together.

They learn from run to run (that is what they are for), so every run of the enumeration meets other
drafts; the law must not notice.
"""

from __future__ import annotations

import pytest
from test_speculative_law import COLD, GREEDY, NUCLEUS, TARGETS, WARM, check

from samplers.drafters import (
    Drafter,
    Forced,
    GrammarCounts,
    PromptLookup,
    TokenRecycling,
    Trigram,
    default_drafters,
)

KINDS = [Forced, GrammarCounts, PromptLookup, TokenRecycling, Trigram]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_each(kind: type[Drafter], target: str) -> None:
    check([kind()], target, 3, WARM, adaptive=False)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("sampling", [WARM, COLD, NUCLEUS, GREEDY], ids=["1", "0.7", "1.3", "0"])
def test_all_together(sampling: object, adaptive: bool, target: str) -> None:
    check(default_drafters(), target, 3, sampling, adaptive=adaptive)  # type: ignore[arg-type]
