"""The process that compiles grammars for a server, so that no grammar holds up those who write.

It reads a line of JSON from standard input for each grammar and answers with a line of JSON on standard
output, and behind it the compiled grammar.  It knows neither models nor tokens.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from typing import Any, BinaryIO

from grammars.errors import GrammarError, LimitExceeded
from grammars.limits import Limits
from samplers.serving.constraints import grammar_of


def main() -> None:
    """Answers until standard input ends."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        most = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin.buffer:
        answer(json.loads(line), answers)


def answer(asked: dict[str, Any], out: BinaryIO) -> None:
    """Compiles one grammar: ``{"text": ..., "max_work": ...}``."""
    data = b""
    try:
        data = grammar_of(asked["text"], Limits(max_work=asked["max_work"])).compiled()
        told: dict[str, Any] = {"bytes": len(data)}
    except Exception as error:
        told = refusal(error)
    out.write(json.dumps(told).encode() + b"\n" + data)
    out.flush()


def refusal(error: Exception) -> dict[str, Any]:
    """What is said of a grammar that cannot be compiled; ``limit`` where a limit ended it."""
    limit = error.limit if isinstance(error, LimitExceeded) else None
    if isinstance(error, RecursionError):
        return {"error": "it is nested too deeply", "limit": None}
    if isinstance(error, MemoryError):
        return {"error": "it needs more memory than a grammar may take", "limit": None}
    if not isinstance(error, GrammarError | ValueError | TypeError):
        traceback.print_exc()  # a fault of this package, which ought to be reported
        return {
            "error": f"it could not be compiled: {type(error).__name__}: {error}",
            "limit": None,
        }
    return {"error": str(error), "limit": limit}


if __name__ == "__main__":
    main()
