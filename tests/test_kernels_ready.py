"""Grammars are compiled plainly while the compiler's kernels are not ready, and nobody waits."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from grammars import Grammar
from grammars.compiling import kernels
from grammars.limits import DEFAULT_LIMITS

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
