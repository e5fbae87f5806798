"""The compiler's kernels, made ready: compiled for this machine once, and said so meanwhile.

Numba keeps what it compiled beside the sources (or in ``NUMBA_CACHE_DIR``).
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from grammars.compiling.kernel_compiler import compile_by_kernels
from grammars.ir import GrammarIR, Literal, Not, Repeat, Rule, Seq, both, chars
from grammars.limits import DEFAULT_LIMITS

_HERE: Final = Path(__file__).parent
_ENTRIES: Final = ("analysis_kernels", "assembly_kernels", "linking_kernels", "regular_kernels")
_OTHERS: Final = ("graphs", "jit", "kinds", "sorting", "symbol_sets", "../ir", "../program")


def _compiled(name: str, ending: str) -> list[Path]:
    """What Numba keeps beside a source."""
    return list((_HERE / "__pycache__").glob(f"{name}.*.{ending}"))


def _forget_stale() -> None:
    """Drops what was compiled before a source changed that it is made from.

    Numba looks at a module's own source only, but functions and constants of other modules are
    compiled into its kernels.
    """
    with suppress(OSError):
        newest = max((_HERE / f"{name}.py").stat().st_mtime for name in _OTHERS)
        for name in _ENTRIES:
            for index in _compiled(name, "nbi"):
                if index.stat().st_mtime < newest:
                    index.unlink()


def _prepare() -> None:
    _forget_stale()
    if all(_compiled(name, "nbi") for name in _ENTRIES):
        return
    print(
        "gramma: compiling grammars.compiling for this machine (once, half a minute) ...",
        file=sys.stderr,
        flush=True,
    )
    began = time.perf_counter()
    letters = Repeat(chars([(97, 122)]), 0, None)
    body = Seq((Literal(b"x"), both(letters, Not(Literal(b"ab")))))  # every kernel has work to do
    compile_by_kernels(GrammarIR((Rule("root", body),), "root"), DEFAULT_LIMITS)
    taken = time.perf_counter() - began
    print(f"gramma: kernels ready after {taken:.0f} s", file=sys.stderr, flush=True)


_prepare()

__all__ = ["compile_by_kernels"]
