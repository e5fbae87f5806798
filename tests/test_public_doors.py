"""Every public name of a token automaton, on every kind, with arguments right and wrong."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from functools import cache
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE

from constrain import (
    TokenAutomaton,
    Vocabulary,
    allocate_bitmask,
    apply_bitmask_,
    fill_masks,
)
from constrain.bitmask import unpack_bitmask
from constrain.masks.wide import tokens_at
from constrain.rules import RuleAutomaton
from grammars import Grammar, Limits
from samplers.deco_g.format import FormatAutomaton

BYTES: Final = [bytes([b]) for b in range(256)]
FULL: Final = Vocabulary.from_tokens([*BYTES, b"ab", b'",', b"1]", b"[1", b"", None, b"aab"], [261])
# no comma and no closing bracket alone: the automaton has to look whether tokens reach the end
SPARSE: Final = Vocabulary.from_tokens(
    [b"a", b"ab", b"[", b"1", b"2", b"1]", b"2,", b"1,", b"12]", b'"', b'"]', None], [11]
)
UNIQUE: Final = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
REPEATED: Final = {"type": "array", "items": {"enum": [1, 2]}, "not": {"uniqueItems": True},
                   "maxItems": 4}  # fmt: skip

KINDS: Final[dict[str, Callable[[], TokenAutomaton]]] = {
    "regex": lambda: TokenAutomaton(Grammar.from_regex("a+b"), FULL),
    "counter": lambda: TokenAutomaton(Grammar.from_regex("(ab){3,900}a?"), FULL),
    "recursion": lambda: TokenAutomaton(Grammar.from_gbnf('root ::= "a" root? "b"'), FULL),
    "any order": lambda: schema({"properties": {"a": {"const": 1}, "b": {"const": 2}},
                                 "type": "object", "additionalProperties": False}),
    "keys": lambda: schema({"type": "object", "additionalProperties": {"type": "integer"}}),
    "unique": lambda: schema(UNIQUE),
    "repeated": lambda: schema(REPEATED),
    "sparse": lambda: TokenAutomaton(Grammar.from_regex("a+b"), SPARSE),
    "sparse unique": lambda: schema(UNIQUE, SPARSE),
    "rules of unique": lambda: schema(UNIQUE).rules_only(),
    "rules of repeated": lambda: schema(REPEATED).rules_only(),
}  # fmt: skip
HAVE_MEMORY: Final = ("keys", "unique", "repeated", "sparse unique")


def schema(text: Any, vocabulary: Vocabulary = FULL) -> TokenAutomaton:
    grammar = Grammar.from_json_schema(text, whitespace="compact", property_order="any")
    return TokenAutomaton(grammar, vocabulary)


@cache
def made(kind: str) -> TokenAutomaton:
    return KINDS[kind]()


@pytest.fixture(params=list(KINDS))
def automaton(request: pytest.FixtureRequest) -> TokenAutomaton:
    return made(request.param)


def words(automaton: TokenAutomaton) -> int:
    return -(-automaton.vocabulary.size // 32)


def row(automaton: TokenAutomaton) -> Any:
    return np.zeros(words(automaton), np.int32)


# every method that takes a state, called with one
BY_STATE: Final[dict[str, Callable[[TokenAutomaton, Any], Any]]] = {
    "advance": lambda a, s: a.advance(s, 0),
    "advance to the end": lambda a, s: a.advance(s, a.vocabulary.eos_token_ids[0]),
    "advance outside": lambda a, s: a.advance(s, 10**6),
    "advance_bytes": lambda a, s: a.advance_bytes(s, b"a"),
    "advance_bytes by none": lambda a, s: a.advance_bytes(s, b""),
    "is_accepting": lambda a, s: a.is_accepting(s),
    "signature": lambda a, s: a.signature(s),
    "fill_mask": lambda a, s: a.fill_mask(s, row(a)),
    "fill_mask within": lambda a, s: a.fill_mask(s, row(a), 3),
    "fill_masks": lambda a, s: a.fill_masks([s], row(a)[None]),
    "fill_masks of several": lambda a, s: fill_masks(
        [(a, a.start), (a, s)], np.stack([row(a)] * 2)
    ),
    "mask": lambda a, s: a.mask(s),
    "allowed_tokens": lambda a, s: a.allowed_tokens(s),
    "min_tokens_to_accept": lambda a, s: a.min_tokens_to_accept(s),
    "search_further": lambda a, s: a.search_further(s),
    "min_tokens": lambda a, s: a.min_tokens(s),
    "forced_bytes": lambda a, s: a.forced_bytes(s),
    "forced_tokens": lambda a, s: a.forced_tokens(s),
    "walk_from": lambda a, s: a.walk_from(s, 0),
    "edges": lambda a, s: a.edges(s),
    "trim": lambda a, s: a.trim([s]),
}
# names that take no state
OTHERS: Final[dict[str, Callable[[TokenAutomaton], Any]]] = {
    "DEAD": lambda a: a.DEAD == 0,
    "FINISHED": lambda a: a.FINISHED == 2,
    "start": lambda a: a.advance_bytes(a.start, b""),
    "grammar": lambda a: a.grammar.is_empty,
    "vocabulary": lambda a: a.vocabulary.size,
    "limits": lambda a: a.limits.max_states,
    "shape": lambda a: a.shape(1),
    "follow": lambda a: a.follow(1).shape == (256,),
    "positions": lambda a: a.positions.entries,
    "trie": lambda a: a.trie.node_count,
    "is_canonical": lambda a: a.is_canonical is False,
    "spells_bytes": lambda a: a.spells_bytes,
    "approximations": lambda a: [sentence.endswith(".") for sentence in a.approximations],
    "state_count": lambda a: a.state_count > 0,
    "nbytes": lambda a: a.nbytes > 0,
    "program": lambda a: a.program.states > 0,
    "rules_only": lambda a: a.rules_only().rules_only() is a.rules_only(),
}


def test_the_tables_name_every_public_name() -> None:
    named = {name.split()[0] for name in (*BY_STATE, *OTHERS)}
    public = {name for kind in ("regex", "unique") for name in dir(made(kind)) if name[0] != "_"}
    assert public == named


def test_every_name_answers(automaton: TokenAutomaton) -> None:
    for ask in OTHERS.values():
        ask(automaton)
    for name, call in BY_STATE.items():
        for state in (automaton.start, automaton.FINISHED):
            call(automaton, state)
        if not name.startswith(("min_tokens", "search_further")):
            call(automaton, automaton.DEAD)


NO_INTEGERS: Final = [True, np.True_, 1.0, np.float32(3), "3", b"3", None, [3], object(), 3j,
                      torch.tensor(3.0), np.array([3, 4])]  # fmt: skip


def test_what_is_no_integer_is_refused(automaton: TokenAutomaton) -> None:
    for call in BY_STATE.values():
        for wrong in NO_INTEGERS:
            with pytest.raises(TypeError, match="a state must be an integer"):
                call(automaton, wrong)
    for wrong in NO_INTEGERS:
        with pytest.raises(TypeError, match="a token id must be an integer"):
            automaton.advance(automaton.start, wrong)


def test_integers_of_any_kind_are_taken(automaton: TokenAutomaton) -> None:
    kinds: list[Callable[[int], Any]] = [
        np.int64, np.int32, np.uint8, np.array, torch.tensor, lambda i: torch.tensor([i])
    ]  # fmt: skip
    for kind in kinds:
        for token in range(0, automaton.vocabulary.size, 3):
            token_id = kind(min(token, 255))
            after = automaton.advance(kind(automaton.start), token_id)
            assert after == automaton.advance(automaton.start, min(token, 255))
            assert type(after) is int
        found = automaton.allowed_tokens(kind(automaton.start), kind(9))
        assert np.array_equal(found, automaton.allowed_tokens(automaton.start, 9))
        assert type(automaton.advance_bytes(kind(automaton.start), b"")) is int


# --- integers that are no states -----------------------------------------------------------------


def strange_integers(rng: random.Random) -> Iterator[int]:
    """Small, negative, around powers of two, huge."""
    yield from range(-4, 300)
    for power in (8, 15, 16, 31, 32, 33, 62, 63, 64, 70):
        yield from (sign * (1 << power) + d for sign in (1, -1) for d in (-2, -1, 0, 1, 2, 3, 4, 5))
    for _ in range(200):
        yield rng.randrange(-(1 << rng.randrange(1, 80)), 1 << rng.randrange(1, 80))


def survive(kind: str) -> None:
    """Every method with every integer; run in a process of its own, as it may be killed."""
    rng = random.Random(kind)
    automaton = KINDS[kind]()
    state, states = automaton.start, {automaton.DEAD, automaton.FINISHED, automaton.start}
    for token in (97, 97, 98) if automaton.vocabulary is FULL else (0, 0):
        state = automaton.advance(state, token)
        states.add(state)
    numbers = list(strange_integers(rng))
    for name, call in BY_STATE.items():
        for number in numbers:
            if number in states or (name == "trim" and number % 7):
                continue
            try:
                call(automaton, number)
            except ValueError as error:
                refused = "no state" in str(error)
            else:
                refused = False
            assert refused, f"{name}({number}) of {kind}"
    for number in numbers:
        in_vocabulary = 0 <= number < automaton.vocabulary.size
        assert automaton.advance(automaton.start, number) == automaton.DEAD or in_vocabulary
        for ask in (automaton.shape, automaton.follow, lambda n: automaton.walk_from(state, n)):
            try:
                ask(number)
            except ValueError:
                pass
            else:
                assert number >= 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_no_integer_kills_the_process() -> None:
    here = Path(__file__).parent
    code = (
        "import faulthandler, sys; faulthandler.enable()\n"
        f"sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\n"
        "import test_public_doors as doors\n"
        "for kind in doors.KINDS: doors.survive(kind)\n"
        "print('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("alive\n")


# --- after trim ----------------------------------------------------------------------------------


def texts_of(automaton: TokenAutomaton, rng: random.Random, count: int) -> list[list[int]]:
    """Random allowed token sequences."""
    out = []
    for _ in range(count):
        state, ids = automaton.start, list[int]()
        for _ in range(rng.randrange(5)):
            options = [t for t in automaton.allowed_tokens(state).tolist()
                       if t not in automaton.vocabulary.eos_token_ids]  # fmt: skip
            if not options:
                break
            ids.append(rng.choice(options))
            state = automaton.advance(state, ids[-1])
        out.append(ids)
    return out


def path(automaton: TokenAutomaton, ids: list[int]) -> int:
    state = automaton.start
    for token in ids:
        state = automaton.advance(state, token)
    return state


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_forgotten_states_are_refused_and_never_come_back(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    automaton, fresh = KINDS[kind](), KINDS[kind]()
    known: dict[int, list[int]] = {automaton.start: []}
    forgotten: set[int] = set()
    for _ in range(3):
        for ids in texts_of(automaton, rng, 4):
            state = path(automaton, ids)
            assert state not in forgotten
            known[state] = ids
        keep = {s for s in known if rng.random() < 0.5} | {automaton.start}
        with pytest.raises(ValueError, match="no state"):
            automaton.trim([*keep, 1 << 40])  # nothing is forgotten then
        automaton.trim(iter(keep))
        forgotten |= set(known) - keep
        known = {s: known[s] for s in keep}
        for state, ids in known.items():
            assert np.array_equal(automaton.mask(state), fresh.mask(path(fresh, ids)))
            assert automaton.min_tokens(state) == fresh.min_tokens(path(fresh, ids))
        for state in forgotten:
            for name in rng.sample(sorted(BY_STATE), 4):
                with pytest.raises(ValueError, match="no state"):
                    BY_STATE[name](automaton, state)


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_was_answered_once_is_answered_alike(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps and masks that are known, of which few are kept here, and then are checked no less."""
    monkeypatch.setattr("constrain.automaton._MOST_STEPS", 3)
    rng = random.Random(kind)
    automaton, fresh = KINDS[kind](), KINDS[kind]()
    row = np.zeros(words(automaton), np.int32)
    for ids in texts_of(fresh, rng, 6) * 2:
        state = automaton.start
        for token in ids:
            automaton.fill_mask(state, row)
            assert np.array_equal(row, automaton.mask(state))
            again = automaton.advance(state, token)
            assert automaton.advance(state, token) == again
            with pytest.raises(TypeError, match="a token id must be an integer"):
                automaton.advance(state, float(token))  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="a state must be an integer"):
                automaton.advance(float(state), token)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="a state must be an integer"):
                automaton.fill_mask(float(state), row)  # type: ignore[arg-type]
            state = again
        assert np.array_equal(automaton.mask(state), fresh.mask(path(fresh, ids)))
        eos = next(iter(automaton.vocabulary.eos_token_ids))
        assert automaton.advance(state, eos) in (automaton.DEAD, automaton.FINISHED)


# --- other arguments -----------------------------------------------------------------------------


def good_rows(count: int) -> Iterator[Any]:
    for dtype in (np.int32, np.uint32):
        yield np.zeros(count, dtype)
        yield np.zeros((count, 3), dtype)[:, 1]
        yield np.zeros(2 * count, dtype)[::-2]
        yield np.zeros(4 * count + 1, np.uint8)[1:].view(dtype)  # not aligned
    yield torch.zeros(count, dtype=torch.int32)
    yield torch.zeros(count, 3, dtype=torch.int32)[:, 1]


def bad_rows(count: int) -> Iterator[Any]:
    for dtype in (np.int64, np.int16, np.float32, np.bool_, ">i4", np.object_):
        yield np.zeros(count, dtype)
    for shape in ((), (count + 1,), (count - 1,), (1, count), (count, 1), (0,)):
        yield np.zeros(shape, np.int32)
        yield torch.zeros(shape, dtype=torch.int32)
    frozen = np.zeros(count, np.int32)
    frozen.setflags(write=False)
    yield from (frozen, np.broadcast_to(np.int32(0), count), [0] * count, bytearray(4 * count))
    yield from (None, 0, "row", torch.zeros(count, dtype=torch.int64), torch.zeros(count))
    yield torch.zeros(count, dtype=torch.int32, device="meta")


def test_rows(automaton: TokenAutomaton) -> None:
    expected = automaton.mask(automaton.start)
    for good in good_rows(words(automaton)):
        automaton.fill_mask(automaton.start, good)
        assert np.array_equal(np.ascontiguousarray(good).view(np.int32), expected)
    for bad in bad_rows(words(automaton)):
        before = repr(bad)
        with pytest.raises((TypeError, ValueError), match=r"mask row"):
            automaton.fill_mask(automaton.start, bad)
        assert repr(bad) == before
    with pytest.raises(ValueError, match="read-only"):
        expected[:] = 0


def test_batches(automaton: TokenAutomaton) -> None:
    count, start = words(automaton), automaton.start
    for rows in (np.full((3, count), 7, np.uint32), torch.full((3, count), 7, dtype=torch.int32)):
        automaton.fill_masks([start, automaton.DEAD], rows, [None, 5])
        table = np.asarray(rows).view(np.int32)
        assert np.array_equal(table[0], automaton.mask(start))
        assert not table[1].any()
        assert (table[2] == 7).all()
    bad: list[tuple[Any, Any, Any]] = [
        ([start] * 3, np.zeros((2, count), np.int32), None),
        ([start], np.zeros((1, count + 1), np.int32), None),
        ([start], np.zeros(count, np.int32), None),
        ([start], [[0] * count], None),
        ([start], np.zeros((1, count), np.int64), None),
        ([start, -1], np.zeros((2, count), np.int32), None),
        ([start], np.zeros((1, count), np.int32), [1, 2]),
        ([start, start], np.zeros((2, count), np.int32), [1]),
        ([start], np.zeros((1, count), np.int32), [1.5]),
        ([start], np.zeros((1, count), np.int32), 1.5),
        ([start], np.zeros((1, count), np.int32), "1"),
    ]
    for states, rows, lefts in bad:
        with pytest.raises((TypeError, ValueError)):
            automaton.fill_masks(states, rows, lefts)
        assert not np.any(rows)
    with pytest.raises(TypeError, match="TokenAutomaton"):
        fill_masks([(automaton.grammar, start)], np.zeros((1, count), np.int32))  # type: ignore[list-item]
    fill_masks([], np.zeros((0, count), np.int32))


def test_budgets(automaton: TokenAutomaton) -> None:
    start = automaton.start
    for none in (0, -1, -(10**30)):
        assert not automaton.mask(start, none).any()
    for plenty in (10**6, 10**30, None):
        assert np.array_equal(automaton.mask(start, plenty), automaton.mask(start))
    for wrong in (1.0, "1", True, float("inf")):
        with pytest.raises(TypeError, match="tokens_left must be an integer"):
            automaton.mask(start, wrong)  # type: ignore[arg-type]


def test_bytes_and_depths(automaton: TokenAutomaton) -> None:
    for data in (bytearray(b"a"), memoryview(b"a"), memoryview(b"xax")[1:2]):
        after = automaton.advance_bytes(automaton.start, data)  # type: ignore[arg-type]
        assert after == automaton.advance_bytes(automaton.start, b"a")
    for wrong in ("a", 97, None, [97], np.array([97])):
        with pytest.raises(TypeError, match="data must be bytes"):
            automaton.advance_bytes(automaton.start, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="depth must be at least 0"):
        automaton.signature(automaton.start, -1)
    with pytest.raises(ValueError, match="root of the trie"):
        automaton.walk_from(automaton.start, 0, enter=True)


@pytest.mark.parametrize("wrong", ["a+", None, {"type": "string"}])
def test_what_an_automaton_is_made_from(wrong: Any) -> None:
    grammar = Grammar.from_regex("a")
    with pytest.raises(TypeError, match="grammar must be a Grammar"):
        TokenAutomaton(wrong, FULL)
    with pytest.raises(TypeError, match="vocabulary must be a Vocabulary"):
        TokenAutomaton(grammar, wrong)
    if wrong is not None:
        with pytest.raises(TypeError, match="limits must be a Limits"):
            TokenAutomaton(grammar, FULL, wrong)


def test_an_automaton_is_final() -> None:
    with pytest.raises(TypeError, match="final"):
        type("Own", (TokenAutomaton,), {})


def test_bitmasks() -> None:
    assert allocate_bitmask(2, 33).shape == (2, 2)
    for batch, size in ((-1, 5), (1, 0), (1, -3)):
        with pytest.raises(ValueError, match="must be at least"):
            allocate_bitmask(batch, size)
    for wrong in (1.0, "1", None, True):
        with pytest.raises(TypeError, match="must be an integer"):
            allocate_bitmask(wrong, 5)  # type: ignore[arg-type]
    mask = torch.full((2, 1), -1, dtype=torch.int32)
    bad: list[tuple[Any, Any]] = [
        (torch.zeros(2, 5), mask.long()), (torch.zeros(2, 5), mask.float()),
        (torch.zeros(2, 5).long(), mask), (torch.zeros(3, 5), mask), (torch.zeros(5), mask),
        (torch.zeros(()), mask[0, 0]), (torch.zeros(2, 5), mask.numpy()),
        (np.zeros((2, 5)), mask), ([[0.0]], mask), (torch.zeros(2, 5), None),
    ]  # fmt: skip
    for logits, bitmask in bad:
        with pytest.raises((ValueError, TypeError), match=r"bitmask|logits"):
            apply_bitmask_(logits, bitmask)
    with pytest.raises(ValueError, match="vocab_size"):
        unpack_bitmask(mask, -1)


# --- the answers ---------------------------------------------------------------------------------


def test_walks_lead_where_tokens_do(automaton: TokenAutomaton) -> None:
    rng = random.Random(1)
    trie, vocabulary = automaton.vocabulary.trie, automaton.vocabulary
    for ids in texts_of(automaton, rng, 4):
        state = path(automaton, ids)
        nodes, states, _ = automaton.walk_from(state, 0)
        tokens, owner = tokens_at(trie, nodes)
        expected = {t: after for t in range(vocabulary.size)
                    if t not in vocabulary.eos_token_ids
                    if (after := automaton.advance(state, t)) != automaton.DEAD}  # fmt: skip
        assert dict(zip(tokens.tolist(), states[owner].tolist(), strict=True)) == expected
        for node in rng.sample(range(1, trie.node_count), 3):
            check_walk_below(automaton, state, node)


def test_edges_are_the_mask_advanced_by(automaton: TokenAutomaton) -> None:
    ends = set(automaton.vocabulary.eos_token_ids)
    for ids in texts_of(automaton, random.Random(5), 6):
        state = path(automaton, ids)
        tokens, states = automaton.edges(state)
        assert (tokens.dtype, states.dtype) == (np.int64, np.int64)
        assert tokens.tolist() == [
            t for t in automaton.allowed_tokens(state).tolist() if t not in ends
        ]
        assert states.tolist() == [automaton.advance(state, t) for t in tokens.tolist()]
    for reserved in (automaton.DEAD, automaton.FINISHED):
        assert [len(part) for part in automaton.edges(reserved)] == [0, 0]


def test_rules_alone_allow_more(automaton: TokenAutomaton) -> None:
    rules = automaton.rules_only()
    assert (rules is automaton) == (rules.approximations == automaton.approximations)
    for ids in texts_of(automaton, random.Random(6), 6):
        state, relaxed = path(automaton, ids), path(rules, ids)
        assert not (automaton.mask(state) & ~rules.mask(relaxed)).any(), ids
        assert rules.is_accepting(relaxed) >= automaton.is_accepting(state)
        if state not in (automaton.DEAD, automaton.FINISHED):
            (fewest, _), (least, exact) = automaton.min_tokens(state), rules.min_tokens(relaxed)
            assert least <= fewest or not exact


def check_walk_below(automaton: TokenAutomaton, state: int, node: int) -> None:
    """A walk from a node against ``advance_bytes`` by the bytes of each node below."""
    trie = automaton.vocabulary.trie
    for enter in (False, True):
        ends, exits, texts = {}, [], {node: bytes([trie.byte[node]]) if enter else b""}
        for at in range(node, int(trie.skip[node])):
            if at > node:
                parent = max(p for p in texts if p < at < trie.skip[p])
                texts[at] = texts[parent] + bytes([trie.byte[at]])
            if at == node and not enter:
                if state != automaton.FINISHED and automaton.is_accepting(state):
                    exits.append(at)
                continue
            after = automaton.advance_bytes(state, texts[at])
            if trie.token_start[at] < trie.token_start[at + 1] and after != automaton.DEAD:
                ends[at] = after
            if automaton.is_accepting(after):
                exits.append(at)
        nodes, states, left = automaton.walk_from(state, node, enter)
        assert dict(zip(nodes.tolist(), states.tolist(), strict=True)) == ends
        assert left.tolist() == exits


def test_program_states_are_those_of_the_rules() -> None:
    for kind in HAVE_MEMORY[:3]:
        automaton = made(kind)
        rules = RuleAutomaton(
            automaton.grammar, automaton.vocabulary, automaton.limits, judges_spelling=False
        )
        for q in range(1, automaton.grammar.program.states):
            assert np.array_equal(automaton.follow(q), rules.rule_masks.follow(q))
            one, other = automaton.shape(q), rules.rule_masks.shape(q)
            assert (one is None) == (other is None)
            assert one is None or other is None or one.states == other.states
        for wrong in (-1, automaton.grammar.program.states + 10**6, 10**30):
            with pytest.raises(ValueError, match="the program has states"):
                automaton.follow(wrong)


def test_approximations() -> None:
    for kind in KINDS:
        found = made(kind).approximations
        assert any(s.startswith("Masks:") for s in found) == (kind in HAVE_MEMORY)
        assert any("any order" in s for s in found) == (kind == "any order")
    few = Limits(max_distance_work=1)
    grammar = Grammar.from_gbnf('root ::= "a" root "b" | "c" ("d" | "e" root) "f"', limits=few)
    automaton = TokenAutomaton(grammar, FULL)
    assert automaton.approximations == ()
    number, exact = automaton.min_tokens(automaton.start)
    assert (number, exact) == (3, False)
    assert "max_distance_work" in automaton.approximations[0]


def test_exactness_with_memory() -> None:
    assert made("unique").min_tokens(made("unique").start) == (2, True)
    automaton = schema({**UNIQUE, "minItems": 2, "maxItems": 2, "items": {"enum": [1, 2]}})
    # [1 , 2 ] where the rules alone would do with [1 , 1]: not known to be exact
    assert automaton.min_tokens(automaton.start) == (4, False)


@pytest.mark.parametrize("kind", ["regex", "sparse", "unique"])
def test_samplers_take_states_of_any_generation(kind: str) -> None:
    automaton = pickle.loads(pickle.dumps(made(kind)))  # gives out states beyond 32 bits
    for _ in range(2):
        tokens, states = automaton.edges(automaton.start)
        expected = [automaton.advance(automaton.start, t) for t in tokens.tolist()]
        assert states.tolist() == expected
        assert max(expected) > 1 << 32
        automaton.trim([])
    format_ = FormatAutomaton(automaton, 4)
    again = FormatAutomaton(made(kind), 4)
    assert np.array_equal(format_.needed, again.needed)
    assert np.array_equal(format_.edge_target, again.edge_target)


# --- copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_copies(kind: str) -> None:
    automaton = KINDS[kind]()
    assert copy(automaton) is deepcopy(automaton) is automaton
    there = pickle.loads(pickle.dumps(automaton))
    assert type(there) is type(automaton)
    assert there.start == automaton.start
    assert (there.grammar, there.vocabulary, there.limits) == (
        automaton.grammar, automaton.vocabulary, automaton.limits
    )  # fmt: skip
    assert there.approximations == automaton.approximations
    for ids in texts_of(automaton, random.Random(2), 6):
        state = path(automaton, ids)
        if ids:
            with pytest.raises(ValueError, match="no state"):
                there.mask(state)
        assert np.array_equal(there.mask(path(there, ids)), automaton.mask(state))
    assert pickle.loads(pickle.dumps(there)).start == automaton.start


def work(queue: SimpleQueue[Any], automaton: TokenAutomaton, foreign: int, data: bytes) -> None:
    """What another process makes of an automaton."""
    state = automaton.advance_bytes(automaton.start, data)
    try:
        automaton.mask(foreign)
        refused = False
    except ValueError:
        refused = True
    rows = np.zeros((2, words(automaton)), np.int32)
    fill_masks([(automaton, state), (made("counter"), made("counter").start)], rows)
    queue.put((refused, rows[0].tolist()))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "data"), [("regex", b"aa"), ("unique", b"[1,")])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_other_processes(kind: str, data: bytes, method: str) -> None:
    if method == "forkserver" or (method == "spawn" and kind == "unique"):
        pytest.skip("as spawn, and slow to begin")
    automaton = made(kind)
    state = automaton.advance_bytes(automaton.start, data)
    pair = [(automaton, state), (made("counter"), made("counter").start)]
    fill_masks(pair, np.zeros((2, words(automaton)), np.int32))  # threads are there already
    context: Any = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=work, args=(queue, automaton, state, data))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    refused, mask = queue.get()
    assert refused == (method != "fork")
    assert mask == automaton.mask(state).tolist()
