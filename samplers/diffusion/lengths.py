"""How many masks a gap gets: the lengths at which the model is surest of what it would write.

A masked model cannot put in or leave out places, so a gap's length is chosen before it is filled: some
lengths are tried, a forward each, and the one with the highest mean log-probability of the masks'
likeliest tokens wins, among those that the grammar can complete.  Several gaps are measured one after
the other.  A gap is left empty only where the grammar allows no token in it, or none is allowed at all:
an empty gap has no mask whose confidence could be compared.

The criterion is ours; papers on infilling give the length (Mündler et al. 2025, section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch

from samplers.diffusion.canvas import Part
from samplers.diffusion.layout import Layout
from samplers.diffusion.model import Frame, MaskedModel

TRIED: Final = 8
"""Lengths of one gap that the model is asked about, at most."""


def choose_lengths(
    model: MaskedModel,
    layout: Layout,
    frame: Frame,
    holds: Callable[[Sequence[Part]], bool],
) -> tuple[dict[int, int], int]:
    """Masks by number of each gap, and the calls of the model that took.

    Args:
        model: the model.
        layout: of the canvas.
        frame: what stands around it.
        holds: whether a canvas, with some gaps as masks already, can be completed.
    """
    before = model.forwards
    chosen: dict[int, int] = {}
    for gap in layout.gaps:
        fitting = _fitting(layout, chosen, gap, holds)
        if len(fitting) == 1:
            chosen[gap] = fitting[0]
            continue
        scores = {n: _confidence(model, layout, frame, {**chosen, gap: n}, holds) for n in fitting}
        chosen[gap] = max(fitting, key=lambda n: (scores[n], -n))
    return chosen, model.forwards - before


def _fitting(
    layout: Layout, chosen: dict[int, int], gap: int, holds: Callable[[Sequence[Part]], bool]
) -> list[int]:
    """Lengths to try: spread over those that can be completed, the empty one only if it must be."""
    rooms = range(1, layout.room(gap) + 1)
    fitting = [n for n in rooms if holds(layout.parts({**chosen, gap: n}))]
    if not fitting:
        return [0]
    if len(fitting) <= TRIED:
        return fitting
    step = (len(fitting) - 1) / (TRIED - 1)
    return [fitting[round(i * step)] for i in range(TRIED)]


def _confidence(
    model: MaskedModel,
    layout: Layout,
    frame: Frame,
    lengths: dict[int, int],
    holds: Callable[[Sequence[Part]], bool],
) -> float:
    """Mean log-probability of the likeliest token over all masks."""
    full = dict(lengths)
    for gap in layout.gaps:
        if gap not in full:  # not measured yet: the shortest that fits
            full[gap] = next(
                n for n in range(layout.room(gap) + 1) if holds(layout.parts({**full, gap: n}))
            )
    ids = layout.ids(full, model.mask_token_id)
    logits = model.logits([frame], [ids])[0]
    open_ = torch.tensor([token == model.mask_token_id for token in ids])
    return float(torch.log_softmax(logits[open_], -1).max(-1).values.mean())
