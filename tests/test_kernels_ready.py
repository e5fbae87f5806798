"""Grammars are compiled plainly while the compiler's kernels are not ready, and nobody waits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from numba.core.caching import _CacheLocator

from constrain.engine import jit
from grammars import Grammar
from grammars.compiling import kernels
from grammars.limits import DEFAULT_LIMITS
from grammars.numba_cache import folder, forget_stale, kept

GRAMMAR = Grammar.from_regex("a(b|c)*d")


class Worker:
    """A process that ends when it is told to."""

    code: int | None = None

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """The processes that were started, on a machine where nothing is compiled."""
    workers: list[Worker] = []

    def start(command: list[str], **_: Any) -> Worker:
        assert command[1:] == ["-m", "grammars.compiling.kernels"]
        workers.append(Worker())
        return workers[-1]

    monkeypatch.setattr(kernels, "_are_compiled", lambda: False)
    monkeypatch.setattr(subprocess, "Popen", start)
    return workers


def test_one_process_compiles_them(started: list[Worker]) -> None:
    state = kernels._Kernels()
    assert state.compiler() is None
    assert state.compiler() is None
    assert len(started) == 1
    started[0].code = 0
    compiler = state.compiler()
    assert compiler is not None
    program = compiler(GRAMMAR.ir, DEFAULT_LIMITS)
    assert program is not None
    assert program.states == GRAMMAR.program.states


def test_where_it_fails_the_plain_way_is_left(started: list[Worker]) -> None:
    state = kernels._Kernels()
    assert state.compiler() is None
    started[0].code = 1
    assert state.compiler() is None
    assert len(started) == 1


def test_no_process_can_be_started(started: list[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("no processes here")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert kernels._Kernels().compiler() is None


def test_nothing_is_started_where_they_are_compiled(
    started: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_are_compiled", lambda: True)
    assert kernels._Kernels().compiler() is not None
    assert not started


def test_preparing_again_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(kernels, "_are_compiled", lambda: True)
    monkeypatch.setattr(kernels, "forget_stale", never)
    kernels.prepare()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module of kernels, last changed in second 10, of which one kernel was compiled in second 20."""
    source = tmp_path / "some_kernels.py"
    _written(source, 10)
    _written(tmp_path / "__pycache__" / "some_kernels.walk-7.py311.nbi", 20)
    return source


def _written(path: Path, second: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (second, second))


def test_a_module_is_compiled_whatever_changed_in_other_modules(module: Path) -> None:
    _written(module.with_name("other_kernels.py"), 30)
    assert kernels._is_compiled(module, shared=15)


def test_a_module_is_compiled_anew_where_it_or_what_it_is_made_from_changed(module: Path) -> None:
    assert not kernels._is_compiled(module, shared=30)
    _written(module, 30)
    assert not kernels._is_compiled(module, shared=15)


def test_what_is_kept_of_kernels_that_are_gone_is_dropped(module: Path) -> None:
    _written(module, 30)
    _written(module.parent / "__pycache__" / "some_kernels.walk-9.py311.nbi", 40)
    assert not kernels._is_compiled(module, shared=15)
    forget_stale(module, [module])
    assert kernels._is_compiled(module, shared=15)


def test_a_folder_of_the_users_is_looked_into(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    there = tmp_path / "kernels" / _CacheLocator.get_suitable_cache_subpath(str(module))
    assert folder(module) == there
    assert kept(module, "nbi") == []
    _written(there / "some_kernels.walk-7.py311.nbi", 20)
    assert kernels._is_compiled(module, shared=15)
    _written(module, 30)
    forget_stale(module, [module])
    assert not kept(module, "nbi")


def test_what_is_compiled_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit, "import_module", lambda name: name)
    monkeypatch.setattr(jit, "_announced", [])
    monkeypatch.setattr(jit, "_sources", list(jit._sources))
    jit.load("constrain.masks.kernels")
    jit.load("constrain.engine.kernels")
    assert capsys.readouterr().err.splitlines() == [
        "gramma: compiling kernels for this machine (first use only, one to four minutes in all): "
        "constrain.masks.kernels ...",
        "gramma: ready after 0 s",
        "gramma: compiling constrain.engine.kernels ...",
        "gramma: ready after 0 s",
    ]
    source = jit._ROOT / "constrain" / "masks" / "kernels.py"
    _written(folder(source) / "kernels.walk-7.py311.1.nbc", 20)
    jit.load("constrain.masks.kernels")
    assert not capsys.readouterr().err
