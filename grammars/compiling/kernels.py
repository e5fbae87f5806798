"""The compiler's kernels, made ready beside the work: until they are, grammars are compiled plainly.

Numba compiles them once for a machine, which takes half a minute, and keeps the result beside the
sources (or in ``NUMBA_CACHE_DIR``).  Nobody waits for that: a process of its own does it, and what
needs compiling meanwhile goes the plain way, which makes the same languages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeAlias

from grammars.ir import GrammarIR, Literal, Not, Repeat, Rule, Seq, both, chars
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.numba_cache import forget_damaged, forget_stale, kept
from grammars.program import Program

if TYPE_CHECKING:
    from grammars.compiling.building import Conjunction

_Compiler: TypeAlias = Callable[[GrammarIR, Limits], Program | None]

_HERE: Final = Path(__file__).parent
_ENTRIES: Final = tuple(
    _HERE / f"{name}_kernels.py" for name in ("analysis", "assembly", "linking", "regular")
)
_OTHERS: Final = tuple(
    _HERE / f"{name}.py"
    for name in ("graphs", "jit", "kinds", "sorting", "symbol_sets", "../ir", "../program")
)


def compile_by_kernels(grammar: GrammarIR, limits: Limits) -> Program | None:
    """The program of a grammar; ``None`` where kernels leave it to the plain steps, or are not ready."""
    compiler = _kernels.compiler()
    return None if compiler is None else compiler(grammar, limits)


def conjunction(limits: Limits) -> Conjunction | None:
    """What intersects automata by kernels; ``None`` where they are not ready."""
    if _kernels.compiler() is None:
        return None
    from grammars.compiling.products import Products

    return Products(limits.max_dfa_states).of


class _Kernels:
    """The kernels of this process, and the process that compiles them where they are not yet."""

    def __init__(self) -> None:
        self._compiler: _Compiler | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def compiler(self) -> _Compiler | None:
        """What compiles by kernels, once they are ready."""
        if self._compiler is None:
            with self._lock:
                if self._compiler is None and self._is_ready():
                    from grammars.compiling import kernel_compiler

                    self._compiler = kernel_compiler.compile_by_kernels
        return self._compiler

    def _is_ready(self) -> bool:
        if self._worker is not None:
            return self._worker.poll() == 0  # where it fails, the plain way is left
        for source in _ENTRIES:
            forget_damaged(source)
        if _are_compiled():
            return True
        with suppress(OSError):
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "grammars.compiling.kernels"],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return False


_kernels: Final = _Kernels()


def _are_compiled() -> bool:
    """Whether Numba keeps kernels beside the sources that are made from them as they are now."""
    with suppress(OSError):
        shared = max(source.stat().st_mtime for source in _OTHERS)
        return all(_is_compiled(source, shared) for source in _ENTRIES)
    return False


def _is_compiled(source: Path, shared: float) -> bool:
    """Whether what is kept of a module is younger than it and the sources that all are made from.

    Modules of kernels are not made from each other, so that one may be older than a change of another.
    """
    newest = max(source.stat().st_mtime, shared)
    indices = kept(source, "nbi")
    return bool(indices) and all(index.stat().st_mtime >= newest for index in indices)


def prepare() -> None:
    """Compiles the kernels now, unless that was done before or is being done by another process."""
    with _only_one():
        if _are_compiled():
            return
        for source in _ENTRIES:
            forget_stale(source, (source, *_OTHERS))  # also of kernels that it no longer has
        from grammars.compiling import kernel_compiler

        letters = Repeat(chars([(97, 122)]), 0, None)
        body = Seq((Literal(b"x"), both(letters, Not(Literal(b"ab")))))  # every kernel has work
        kernel_compiler.compile_by_kernels(GrammarIR((Rule("root", body),), "root"), DEFAULT_LIMITS)


@contextmanager
def _only_one() -> Iterator[None]:
    """Holds a lock of the machine, where its cache folder can be written."""
    from filelock import FileLock

    from grammars.cache_folder import cache_folder

    lock = None
    with suppress(OSError):
        folder = cache_folder("kernels")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".compiling.lock")
        lock.acquire()
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


if __name__ == "__main__":
    prepare()
