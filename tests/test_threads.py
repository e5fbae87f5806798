"""One automaton shared by threads gives what an automaton of its own gives one thread.

The oracle is the plainest use: the same texts on a fresh automaton, one after the other, nothing forgotten.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any, Final, TypeVar

import numpy as np
import pytest
from patience import PATIENCE
from toys import TOKENS, vocabulary

from constrain import (
    TokenAutomaton,
    UnknownStateError,
    Vocabulary,
    allocate_bitmask,
    fill_masks,
)
from constrain.free_threading import FreeThreadingWarning, warn_without_interpreter_lock
from constrain.masks.trie_positions import Positions
from grammars import Grammar, Limits

THREADS: Final = 8
WALKS: Final = 2
STEPS: Final = 16

SCHEMA: Final = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": -2, "maximum": 321},
        "b": {"type": "array", "items": {"enum": [1, 2, "abc", None]}, "uniqueItems": True},
    },
    "additionalProperties": {"type": "boolean"},
}
AMPLE: Final = Limits(max_distance_work=10**10)
"""With work enough no search is cut short, so that no number depends on what was asked before."""

GRAMMARS: Final[dict[str, Callable[[Limits], Grammar]]] = {
    "keys": lambda limits: Grammar.from_json_schema(SCHEMA, limits=limits),
    "objects": lambda limits: Grammar.from_json_schema({"type": "object"}, limits=limits),
    "rules": lambda limits: Grammar.from_gbnf(
        'root ::= "[" (root ("," root)*)? "]" | [a-d]{1,4} | "{" root "}"', limits=limits
    ),
    "ambiguous": lambda limits: Grammar.from_gbnf(
        'root ::= x*\nx ::= [a-d]+ | "ab" | x x | [^\\x00]{1,3} "."', limits=limits
    ),
    "regex": lambda limits: Grammar.from_regex(
        r"([a-d]{2,5}, ?)*(true|false|-?[0-9]{1,3}(\.[0-9]+)?)", limits=limits
    ),
}
T = TypeVar("T")


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    """Threads take turns every few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(count: int, work: Callable[[int], T]) -> list[T]:
    """What a function returns in each of some threads that begin at once; its errors are raised."""
    barrier = threading.Barrier(count)

    def run(number: int) -> T:
        barrier.wait(PATIENCE)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(run, number) for number in range(count)]
        return [future.result(PATIENCE) for future in futures]


# -- walks -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """What an automaton says of the tokens that a state needs."""

    fewest: int
    is_exact: bool
    left: int
    mask: bytes


@dataclass
class Holder:
    """A text and its state, which is found again where it was forgotten.

    Attributes:
        seen: what was answered along the way.
        budgets: for each token the fewest tokens to the end, whether that is exact, and the tokens that
            a few more leave.
    """

    automaton: TokenAutomaton
    tokens: list[int] = field(default_factory=list)
    state: int = 0
    found_again: int = 0
    seen: list[Any] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = self.automaton.start

    def ask(self, question: Callable[[int], T]) -> T:
        """The answer of the automaton for the state of the text."""
        while True:
            try:
                return question(self.state)
            except UnknownStateError:
                self.found_again += 1
                self._walk()

    def _walk(self) -> None:
        while True:
            try:
                state = self.automaton.start
                for token in self.tokens:
                    state = self.automaton.advance(state, token)
            except UnknownStateError:
                continue
            self.state = state
            return

    def take(self, token: int) -> None:
        """Goes on by a token."""
        self.state = self.ask(lambda state: self.automaton.advance(state, token))
        self.tokens.append(token)


def walk(automaton: TokenAutomaton, seed: int, *, edges: bool = True) -> Holder:
    """A random text, and all that was asked about it; equal seeds ask and write the same."""
    r, held = random.Random(seed), Holder(automaton)
    row = allocate_bitmask(1, automaton.vocabulary.size).numpy()[0]
    ends = automaton.vocabulary.eos_token_ids
    for _ in range(STEPS):
        held.ask(lambda state: automaton.fill_mask(state, row))
        held.seen.append(row.tobytes())
        fewest, exact = held.ask(automaton.min_tokens)
        held.seen.append(held.ask(automaton.is_accepting))
        held.seen.append(held.ask(automaton.forced_bytes))
        left = fewest + 1 + r.randrange(6)
        mask = held.ask(partial(automaton.mask, tokens_left=left))
        assert mask.any()
        assert not (mask & ~row).any()
        held.budgets.append(Budget(fewest, exact, left, mask.tobytes()))
        if edges:
            held.seen.append(held.ask(automaton.edges)[0].tobytes())
        for token in ends:
            held.seen.append(held.ask(partial(automaton.advance, token_id=token)))
        allowed = held.ask(automaton.allowed_tokens)
        open_ = [t for t in allowed.tolist() if t not in ends]
        if not open_:
            break
        held.take(r.choice(open_))
    return held


def walks(automaton: TokenAutomaton, number: int) -> list[Holder]:
    return [walk(automaton, 1000 * number + i) for i in range(WALKS)]


@cache
def alone(name: str) -> list[list[Holder]]:
    """The walks of all threads, each on a fresh automaton."""
    grammar = GRAMMARS[name](AMPLE)
    return [walks(TokenAutomaton(grammar, vocabulary()), number) for number in range(THREADS)]


def check(found: list[list[Holder]], expected: list[list[Holder]], *, cut: bool = False) -> None:
    """Walks of threads are those of fresh automata.

    Args:
        cut: whether the threads' searches for the fewest tokens may have been cut short, on account of
            what others asked: then numbers may be larger, and masks within a budget smaller.
    """
    for got, want in zip(chain(*found), chain(*expected), strict=True):
        assert got.tokens == want.tokens
        assert got.seen == want.seen
        for one, other in zip(got.budgets, want.budgets, strict=True):
            if not other.is_exact:
                continue
            if not one.is_exact:
                assert one.fewest >= other.fewest
                continue
            assert one.fewest == other.fewest
            assert one.left == other.left
            if cut:
                mask = np.frombuffer(one.mask, np.int32)
                assert not (mask & ~np.frombuffer(other.mask, np.int32)).any()
            else:
                assert one.mask == other.mask


@pytest.mark.parametrize("name", GRAMMARS)
def test_threads_get_what_one_gets(name: str) -> None:
    automaton = TokenAutomaton(GRAMMARS[name](AMPLE), vocabulary())
    found = in_threads(THREADS, lambda number: walks(automaton, number))
    check(found, alone(name))
    if name not in ("keys", "objects"):
        assert all(budget.is_exact for budget in found[0][0].budgets)


@pytest.mark.parametrize("limits", [AMPLE, Limits()], ids=["ample", "cut"])
@pytest.mark.parametrize("name", GRAMMARS)
def test_states_are_forgotten_in_between(name: str, limits: Limits) -> None:
    """One thread trims all the time; what a thread holds is found again from its tokens."""
    automaton = TokenAutomaton(GRAMMARS[name](limits), vocabulary())
    done = threading.Event()
    trims = 0

    def work(number: int) -> list[Holder]:
        nonlocal trims
        if number < THREADS:
            return walks(automaton, number)
        while not done.is_set():
            automaton.trim(())
            trims += 1
            assert automaton.state_count > 0
            assert automaton.nbytes > 0
            time.sleep(5e-4)
        return []

    def ended(number: int) -> list[Holder]:
        try:
            return work(number)
        finally:
            with lock:
                left.discard(number)
                if left <= {THREADS}:
                    done.set()

    lock, left = threading.Lock(), set(range(THREADS + 1))
    check(in_threads(THREADS + 1, ended)[:THREADS], alone(name), cut=limits is not AMPLE)
    assert trims


def test_what_is_kept_stays_known() -> None:
    """A kept state is never refused and never answers for another, whatever is forgotten around it."""
    automaton = TokenAutomaton(GRAMMARS["rules"](AMPLE), vocabulary())
    tokens = {bytes(t): i for i, t in enumerate(TOKENS) if t}
    open_ = automaton.advance(automaton.start, tokens[b"["])
    ended = automaton.advance(open_, tokens[b"]"])
    done = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            try:
                for i in range(300):
                    automaton.trim((open_, ended))
                    state = open_
                    for token in (b"a", b",", b"[", b"[", b"]")[: 1 + i % 5]:
                        state = automaton.advance(state, tokens[token])
            finally:
                done.set()
            return
        while not done.is_set():
            assert automaton.is_accepting(ended)
            assert not automaton.is_accepting(open_)
            assert automaton.advance(ended, 1) == automaton.FINISHED
            assert automaton.advance(open_, 1) == automaton.DEAD
            assert automaton.min_tokens(ended) == (0, True)
            assert automaton.min_tokens(open_) == (1, True)
            assert automaton.advance(open_, -1) == automaton.DEAD
            assert automaton.forced_bytes(ended) == b""
            assert automaton.advance_bytes(open_, b"") == open_

    in_threads(4, work)


@pytest.mark.parametrize(
    "ask", ["is_accepting", "min_tokens", "edges", "forced_bytes", "signature"]
)
def test_a_forgotten_state_is_no_other(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``trim`` comes just when a thread has found the place of a state; another state takes the place."""
    automaton = TokenAutomaton(GRAMMARS["rules"](AMPLE), vocabulary())
    tokens = {bytes(t): i for i, t in enumerate(TOKENS) if t}
    state = automaton.advance(automaton.start, tokens[b"["])
    found = automaton._place_of
    trims: list[threading.Thread] = []

    def forget() -> None:
        automaton.trim(())
        for first in (b"{", b"a", b"ab"):
            automaton.advance_bytes(automaton.start, first)

    def place_of(asked: int) -> int:
        place = found(asked)
        if asked == state and not trims:
            trims.append(threading.Thread(target=forget))
            trims[0].start()
            trims[0].join(0.2)  # it waits where the lock is held
        return place

    monkeypatch.setattr(automaton, "_place_of", place_of)
    before = {
        "is_accepting": False,
        "min_tokens": (1, True),
        "forced_bytes": b"",
    }
    try:
        answer = getattr(automaton, ask)(state)
    except UnknownStateError:
        pass  # the trim came first
    else:
        if ask in before:
            assert answer == before[ask]
        elif ask == "edges":
            assert tokens[b"]"] in answer[0]
    trims[0].join()
    monkeypatch.undo()
    with pytest.raises(UnknownStateError):
        getattr(automaton, ask)(state)


# -- batches ---------------------------------------------------------------------------------------


def test_batches_over_several_automata() -> None:
    """Threads fill batches of rows of all grammars at once, each at its own places."""
    automata = {
        name: TokenAutomaton(make(Limits()), vocabulary()) for name, make in GRAMMARS.items()
    }
    fresh = {name: TokenAutomaton(make(Limits()), vocabulary()) for name, make in GRAMMARS.items()}

    def batches(own: dict[str, TokenAutomaton], number: int) -> list[bytes]:
        r = random.Random(number)
        out = []
        states = {name: own[name].start for name in own}
        for _ in range(12):
            pairs = [(own[name], states[name]) for name in own for _ in range(2)]
            r.shuffle(pairs)
            rows = allocate_bitmask(len(pairs), vocabulary().size).numpy()
            fill_masks(pairs, rows)
            out.append(rows.tobytes())
            for name, automaton in own.items():
                allowed = automaton.allowed_tokens(states[name])
                states[name] = automaton.advance(states[name], r.choice(allowed.tolist()))
                if states[name] == automaton.FINISHED:
                    states[name] = automaton.start
        return out

    assert in_threads(4, lambda n: batches(automata, n)) == [batches(fresh, n) for n in range(4)]


def test_nothing_is_written_behind_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """One automaton fails at once, another takes its time: the call ends when both have."""
    slow, bad = (
        TokenAutomaton(GRAMMARS[name](Limits()), vocabulary()) for name in ("rules", "regex")
    )
    whole = TokenAutomaton._mask
    released = threading.Event()

    def mask(self: TokenAutomaton, state: int, left: int | None) -> Any:
        if self is bad:
            raise UnknownStateError("forgotten by another thread")
        time.sleep(0.2)
        released.set()
        return whole(self, state, left)

    monkeypatch.setattr(TokenAutomaton, "_mask", mask)
    rows = allocate_bitmask(2, vocabulary().size).numpy()
    with pytest.raises(UnknownStateError):
        fill_masks([(bad, bad.start), (slow, slow.start)], rows)
    assert released.is_set()
    kept = rows.copy()
    time.sleep(0.05)
    assert np.array_equal(rows, kept)


# -- who waits for whom ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAMMARS)
def test_short_questions_do_not_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked before is answered while another thread is in the middle of a search."""
    automaton = TokenAutomaton(GRAMMARS[name](Limits()), vocabulary())
    start = automaton.start
    row = allocate_bitmask(1, vocabulary().size).numpy()[0]
    token = next(t for t in automaton.allowed_tokens(start).tolist() if t != 1)
    reached = automaton.advance(start, token)
    exact = automaton.min_tokens(start)[1]
    automaton.mask(start, 40)
    searching, go_on = threading.Event(), threading.Event()
    further = automaton._core.search_further

    def search(place: int) -> Any:
        searching.set()
        assert go_on.wait(PATIENCE)
        return further(place)

    core = automaton._core
    monkeypatch.setattr(core, "fewest", lambda place: (7, False))
    monkeypatch.setattr(core, "search_further", search)
    thread = threading.Thread(target=automaton.search_further, args=(reached,))
    thread.start()
    assert searching.wait(PATIENCE)
    try:
        with ThreadPoolExecutor(1) as pool:

            def ask() -> None:
                automaton.fill_mask(start, row)
                assert automaton.advance(start, token) == reached
                automaton.advance(start, 1)
                automaton.is_accepting(start)
                if exact:
                    automaton.min_tokens(start)

            pool.submit(ask).result(5.0)
            pool.submit(fill_masks, [(automaton, start)] * 2, np.stack([row, row])).result(5.0)
    finally:
        go_on.set()
        thread.join()


def test_numbers_of_positions_are_known_once_they_are_given() -> None:
    """Kinds of positions are shared by all automata of a vocabulary, each with a lock of its own."""
    trie = vocabulary().trie
    nodes = np.arange(1, trie.node_count, dtype=np.int32)
    follows = [np.random.default_rng(seed).random(256) < 0.5 for seed in range(40)]
    for _ in range(5):
        positions = Positions(trie)

        def numbered(number: int, positions: Positions = positions) -> None:
            for follow in follows:
                kinds = positions.kinds(nodes, follow)
                for kind in kinds[kinds > 0].tolist():
                    assert np.array_equal(positions.follow(kind), follow)
                    assert positions.node(kind) > 0

        in_threads(4, numbered)


# -- without the interpreter's lock ----------------------------------------------------------------


@pytest.mark.parametrize("enabled", [None, True, False])
def test_builds_without_the_lock_are_warned_of(
    enabled: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if enabled is None:
        monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    else:
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_without_interpreter_lock()
    assert [one.category for one in told] == [FreeThreadingWarning] * (enabled is False)


def test_they_are_warned_of_where_automata_are_imported() -> None:
    asked = "import sys; sys._is_gil_enabled = lambda: False; import constrain.automaton"
    out = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert out.stderr.count("FreeThreadingWarning") == 1
    assert "PYTHON_GIL=1" in out.stderr


# -- a real vocabulary -----------------------------------------------------------------------------


@pytest.mark.model
def test_real_vocabulary() -> None:
    from test_laws_real_vocabularies import vocabulary as real_vocabulary

    words: Vocabulary = real_vocabulary("smollm2-135m-instruct")
    shared = TokenAutomaton(GRAMMARS["keys"](Limits()), words)
    grammar = GRAMMARS["keys"](AMPLE)
    expected = [[walk(TokenAutomaton(grammar, words), seed, edges=False)] for seed in range(4)]

    def work(number: int) -> list[Holder]:
        if number == 4:
            for _ in range(5):
                time.sleep(0.02)
                shared.trim(())
            return []
        return [walk(shared, number, edges=False)]

    check(in_threads(5, work)[:4], expected, cut=True)
