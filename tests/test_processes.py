"""Processes that fork while threads are at work, and processes that are started anew."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from patience import PATIENCE

from constrain import GrammarLogitsProcessor, TokenAutomaton, Vocabulary, fill_masks
from constrain.forks import Guarded
from grammars import Grammar

EOS: Final = 0
TOKENS: Final = [None, *(bytes([byte]) for byte in range(32, 127)), b'{"a', b'": ', b"12", b"ab"]
SCHEMA: Final = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
RULES: Final = 'root ::= "(" root ")" | "x"'

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def vocabulary() -> Vocabulary:
    return Vocabulary.from_tokens(TOKENS, [EOS])


def automata() -> list[TokenAutomaton]:
    grammars = (Grammar.from_json_schema(SCHEMA), Grammar.from_gbnf(RULES))
    return [TokenAutomaton(grammar, vocabulary()) for grammar in grammars]


def masks(given: list[TokenAutomaton]) -> list[list[int]]:
    """Masks over all automata in one call, by threads of their own."""
    states = [
        one.advance_bytes(one.start, text) for one, text in zip(given, (b"{", b"("), strict=True)
    ]
    rows = np.zeros((len(given), -(-len(TOKENS) // 32)), np.int32)
    fill_masks(list(zip(given, states, strict=True)), rows)
    found: list[list[int]] = rows.tolist()
    return found


def ends_well(work: Callable[[], bool]) -> bool:
    """Whether a forked child returns true from some work, within the deadline."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@contextmanager
def busy(work: Callable[[], object], count: int = 3) -> Iterator[None]:
    """Threads that do some work again and again."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# -- fork ------------------------------------------------------------------------------------------


@forks
def test_a_child_of_a_process_whose_threads_have_filled_masks() -> None:
    made = automata()
    wanted = masks(made)
    assert ends_well(lambda: masks(made) == wanted)


@forks
def test_a_fork_amid_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork waits for it; the child finds the automaton whole, and its lock free."""
    made = automata()
    wanted = masks(made)
    asked = made[0]
    searching, waited = threading.Event(), []
    core = asked._core
    whole = core.fewest

    def slow(place: int) -> Any:
        searching.set()
        time.sleep(0.5)
        waited.append(True)
        return whole(place)

    monkeypatch.setattr(core, "fewest", slow)
    asked.trim(())
    thread = threading.Thread(target=asked.min_tokens, args=(asked.start,))
    thread.start()
    assert searching.wait(PATIENCE)

    def work() -> bool:
        monkeypatch.undo()
        return bool(waited) and masks(made) == wanted and asked.min_tokens(asked.start)[0] > 0

    assert ends_well(work)
    thread.join()
    assert masks(made) == wanted  # and the parent's locks are free


@forks
def test_forks_among_busy_threads() -> None:
    """Threads make automata, ask and trim them while the process forks again and again."""
    made = automata()
    wanted = masks(made)

    def work() -> None:
        masks(automata())
        made[0].trim(())
        made[1].min_tokens_to_accept(made[1].start)

    with busy(work):
        assert all(ends_well(lambda: masks(made) == wanted) for _ in range(4))
    assert masks(made) == wanted


@forks
def test_locks_are_free_on_both_sides() -> None:
    """A lock of another thread, one of the thread that forks, and one that the child makes."""
    held, own = Guarded(), Guarded()
    taken = threading.Event()

    def hold() -> None:
        with held.lock:
            taken.set()
            time.sleep(0.2)

    def free(lock: Any) -> bool:
        got: list[bool] = []

        def take() -> None:
            got.append(lock.acquire(timeout=PATIENCE))

        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
        return got == [True]

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(PATIENCE)
    with own.lock:
        # in the child by the thread that forked: a new one may get the number of the thread that held it
        assert ends_well(lambda: held.lock.acquire(timeout=PATIENCE / 4) and free(Guarded().lock))
    thread.join()
    assert free(held.lock)
    assert free(own.lock)


@forks
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="warns of threads")
def test_processes_of_multiprocessing() -> None:
    made = automata()
    wanted = masks(made)
    context: Any = multiprocessing.get_context("fork")
    with busy(lambda: masks(made)), context.Pool(1) as pool:
        found = pool.apply_async(masks_of_both, (made,)).get(PATIENCE)
    assert found == wanted


def masks_of_both(given: list[TokenAutomaton]) -> list[list[int]]:
    return masks(given)


# -- spawn -----------------------------------------------------------------------------------------


def masks_by_path(path: str, text: str, processor: GrammarLogitsProcessor) -> list[Any]:
    """In another process: the automata of a saved grammar, of source text, and of a processor."""
    saved = TokenAutomaton(Grammar.load(path), vocabulary())
    written = TokenAutomaton(Grammar.from_gbnf(text), vocabulary())
    return [masks([saved, written]), masks([processor.automata[0], written])]


@pytest.mark.slow
def test_a_process_that_is_started_anew(tmp_path: Path) -> None:
    """What to send: the path of a saved grammar, or its text; automata and processors may be sent too."""
    made = automata()
    path = tmp_path / "schema.gramma"
    made[0].grammar.save(path)
    processor = GrammarLogitsProcessor(made[0], max_new_tokens=20)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(masks_by_path, (str(path), RULES, processor)).get(2 * PATIENCE)
    assert found == [masks(made)] * 2
