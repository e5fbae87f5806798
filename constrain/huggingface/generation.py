"""Which call of ``generate`` is running: what the token ids of a logits processor cannot tell.

``generate`` gives a processor nothing but token ids and scores, and the ids of a new prompt may be
those of a text that goes on.  But every call of ``generate`` prepares one list of processors of its
own, which lives as long as the call does; it is found on the stack, by the name that
``transformers`` has given that variable in every version from 4.50 on.  The outermost call counts:
assisted decoding runs the ``generate`` of its assistant inside.  Where nothing is found, callers
fall back on the ids alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Final

_LIST: Final = "prepared_logits_processor"


def running_generation() -> object | None:
    """Identity of the outermost call of ``generate`` on this thread; ``None`` outside of one.

    Returns:
        An object of the call's own that can be referenced weakly; it dies with the call.
    """
    found: object | None = None
    for prepared in _prepared(sys._getframe(1)):
        found = prepared
    return found


def is_running(generation: object, thread: int) -> bool:
    """Whether a thread, given by its identifier, is inside that call of ``generate`` now."""
    frame = sys._current_frames().get(thread)
    return any(prepared is generation for prepared in _prepared(frame))


def _prepared(frame: FrameType | None) -> Iterator[object]:
    """The processor lists of all calls of ``generate`` on a stack, innermost first."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "generate" and _LIST in code.co_varnames + code.co_cellvars:
            prepared = frame.f_locals.get(_LIST)
            if prepared is not None:
                yield prepared
        frame = frame.f_back
