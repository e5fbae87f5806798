"""Completions found by trying: each is one, connectors are learned, the kernel tries what Python tries."""

from __future__ import annotations

import random
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from strategies import bag_grammars, grammars, memory_grammars
from test_completability import JSON_PIECES, PIECES, SEEDS, Cases, _singly, by_brute_force, case

from constrain import TokenAutomaton, Vocabulary
from constrain.engine.pool import DEAD
from grammars import Grammar, GrammarError, LimitExceeded
from samplers.diffusion import Completability, Gap, Masks, OpenCanvas, completability
from samplers.diffusion.canvas import Cell, Kind, Part, cell_of_token, cells_of, text_bounds
from samplers.diffusion.connectors import KEPT, Connectors, RulesReader, Run, _joints
from samplers.diffusion.moves import Moves
from samplers.diffusion.witness import Filling, Outline, Verdict, Worth, segments

many = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
SUMS = Grammar.from_gbnf('root ::= item ("+" item)*\nitem ::= "(" root ")" | [a-z]+')
LETTERS = Vocabulary.from_tokens([b"a", b"x", b"+", b"(", b")", b" ", None], [6])


def engine_for(cases: Cases) -> tuple[Completability, list[int]]:
    vocabulary, spelled = cases.vocabulary()
    try:
        return Completability(TokenAutomaton(cases.grammar, vocabulary)), spelled
    except GrammarError:
        assume(False)
        raise


def text_of(cells: list[Cell], filling: Filling, vocabulary: Vocabulary) -> bytes:
    """What a canvas becomes, up to its end; all that follows the end must be EOS or nothing."""
    out: list[bytes] = []
    ended = False
    for i, cell in enumerate(cells):
        token = filling[i] if cell.is_open else None
        if cell.kind is Kind.EOS or token in vocabulary.eos_token_ids:
            ended = True
            continue
        assert cell.kind in (Kind.TEXT, Kind.MASK, Kind.SLOT)
        assert token is not None or cell.kind is not Kind.MASK
        data = cell.data if token is None else vocabulary.token_bytes(token)
        assert data or cell.kind is not Kind.MASK
        assert not (ended and data)
        out.append(data or b"")
    return b"".join(out)


def check(cases: Cases) -> None:
    """Canvases of one grammar, one after the other, each once found, learned from once not found."""
    engine, _ = engine_for(cases)
    vocabulary = engine.moves.vocabulary
    witnesses = engine.witnesses
    for _ in range(8):
        ids = [cases.rng.randrange(vocabulary.size) for _ in range(cases.rng.randrange(1, 4))]
        canvas = cases.canvas(vocabulary, ids)
        padded = cases.rng.random() < 0.4
        cells = cells_of(canvas, vocabulary)
        bounds = text_bounds(cells, padded)
        front = engine.forward(engine.start, cells)
        parts = segments(cells, front.at)
        choices = [None, *range(vocabulary.size), vocabulary.size, -1]
        near = {i: cases.rng.choice(choices) for i in range(len(cells)) if cases.rng.random() < 0.9}
        verdict, found = witnesses.find(parts, len(cells), bounds, front.state, [near], Worth())
        if verdict is Verdict.FOUND:
            assert cases.grammar.accepts(text_of(cells, found, vocabulary))
        elif verdict is Verdict.NONE:
            assert not by_brute_force(cases.grammar, vocabulary, canvas, padded)
        opened = engine.open(canvas, eos_padding=padded)
        filling = opened.completion()
        if filling is not None:
            witnesses.learn(cells, filling)
            if not set(filling.values()) & set(vocabulary.eos_token_ids):
                verdict, _ = witnesses.find(
                    parts, len(cells), bounds, front.state, [filling], Worth()
                )
                assert verdict is Verdict.FOUND


@many
@given(grammars(), SEEDS)
def test_context_free(ir, seed):
    check(case(ir, seed, PIECES))


@many
@given(bag_grammars(), SEEDS)
def test_bags(ir, seed):
    check(case(ir, seed, PIECES))


@many
@given(memory_grammars(), SEEDS)
def test_memory(ir, seed):
    check(case(ir, seed, JSON_PIECES, max_bytes=20))


def walk(cases: Cases) -> None:
    """Canvases on one engine, asked about and filled in every way, and others filled with anything."""
    engine, spelled = engine_for(cases)
    vocabulary, rng = engine.moves.vocabulary, cases.rng
    for _ in range(4):
        canvas = cases.canvas(vocabulary, spelled)
        padded = rng.random() < 0.4
        parts = [one for part in canvas for one in _singly(part)]
        opened = engine.open(canvas, eos_padding=padded)
        for _ in range(6):
            fills = random_fills(opened, parts, vocabulary, rng)
            near = {i: rng.randrange(-1, vocabulary.size + 1) for i in fills if rng.random() < 0.8}
            filled = [fills.get(i, part) for i, part in enumerate(parts)]
            filled = [b"" if part is None and i in fills else part for i, part in enumerate(filled)]
            expected = by_brute_force(cases.grammar, vocabulary, filled, padded)
            if expected is None or not fills:
                break
            assert opened.can_fill(fills, near) == expected
            if len(fills) == 1:
                ((position, token),) = fills.items()
                if token is not None:
                    assert (token in opened.allowed(position, [token])) == expected
            if rng.random() < 0.3:  # what is told to it is not true: others must not suffer
                other = opened.copy()
                other.take(random_fills(other, parts, vocabulary, rng, every=True))
            if expected and rng.random() < 0.7:
                opened = rng.choice([opened, opened.copy()])
                if rng.random() < 0.5:
                    opened.take(fills)
                else:
                    assert opened.fill_all(fills)
                parts = filled


def random_fills(
    opened: OpenCanvas,
    parts: list[Part],
    vocabulary: Vocabulary,
    rng: random.Random,
    every: bool = False,
) -> Filling:
    """Tokens for some open positions, or none for those of gaps."""
    positions = opened.open_positions
    some = positions if every else rng.sample(positions, min(len(positions), rng.randrange(1, 4)))
    return {
        i: None if parts[i] is not None and rng.random() < 0.3 else rng.randrange(vocabulary.size)
        for i in some
    }


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1 << 28])
def test_walks(kept, monkeypatch):
    """Also where layers are begun anew all the time."""
    monkeypatch.setattr(completability, "_KEPT_BYTES", kept)

    @many
    @given(grammars(), SEEDS)
    def context_free(ir, seed):
        walk(case(ir, seed, PIECES))

    @many
    @given(memory_grammars(), SEEDS)
    def with_memory(ir, seed):
        walk(case(ir, seed, JSON_PIECES, max_bytes=20))

    context_free()
    with_memory()


def test_what_is_not_true_is_not_learned():
    grammar = Grammar.from_gbnf('root ::= "p" "yyx" | "q" "x"')
    vocabulary = Vocabulary.from_tokens([b"x", b"y", b"p", b"q", None, None], [5])
    engine = Completability(TokenAutomaton(grammar, vocabulary))
    assert not engine.is_completable([3, Masks(3)])
    opened = engine.open([2, Masks(3)])
    assert opened.is_completable
    opened.take({1: 4, 2: 4, 3: 0})  # a special token has no text
    assert len(engine.witnesses.connectors) == 1
    assert not engine.is_completable([3, Masks(3)])


def test_only_forms_that_came_true_are_learned_from():
    grammar = Grammar.from_gbnf('root ::= "p" "xx" "s" | "q" "yy" "s"')
    vocabulary = Vocabulary.from_tokens([b"x", b"y", b"p", b"q", b"s", None], [5])
    engine = Completability(TokenAutomaton(grammar, vocabulary))
    opened = engine.open([None, Masks(2), "s"])
    assert opened.can_fill({0: 2})
    assert opened.can_fill({0: 3})
    for position, token in enumerate([3, 1, 1]):
        assert opened.fill(position, token)
    kept = {engine.witnesses.connectors.tokens(i) for i in range(len(engine.witnesses.connectors))}
    assert kept == {(), (1,), (1, 1)}  # of "q??s" and "qy?s", not of "p??s"


def test_first_mask():
    """Exactly the tokens that stand between the neighbours, whatever happens to the automaton."""
    grammar = Grammar.from_regex("a(b|cc?)d|x(y|z)w")
    tokens = [b"a", b"b", b"c", b"d", b"x", b"y", b"z", b"w", None]
    automaton = TokenAutomaton(grammar, Vocabulary.from_tokens(tokens, [8]))
    engine = Completability(automaton)

    def mask(*canvas: Part) -> tuple[int, list[int]] | None:
        found = engine.open(canvas).first_mask()
        return None if found is None else (found[0], np.flatnonzero(found[1]).tolist())

    opened = engine.open([0, None, None])
    assert mask(0, None, None) == (1, [1, 2])
    automaton.trim(())
    automaton.advance(automaton.advance(automaton.start, 4), 5)
    found = opened.first_mask()
    assert found is not None
    assert np.flatnonzero(found[1]).tolist() == [1, 2]
    assert mask(0, None, 2, None) == (1, [2])  # a c c: read behind each token
    assert mask(4, None, 7) == (1, [5, 6])
    assert mask(0, 1, Gap(2), 3) == (2, [3])
    assert mask(0, 1, Gap(1), 3) == (2, [])
    assert mask(0, 8, None) is None  # EOS comes first
    assert mask(0, 7, None) is None  # nothing can follow
    assert mask(0, 1, 3) is None


def test_two_threads_on_one_engine():
    """Canvases may be opened, copied and asked about at the same time."""
    engine = Completability(TokenAutomaton(SUMS, LETTERS))
    canvases: list[tuple[list[Part], bool]] = [
        (["a" * 200 + "+", None], True),
        ([("(" * 100) + ("a" + ")" * 99), None], True),
        (["(" * 9 + ")" * 200, None], False),
    ]
    wrong: list[int] = []

    def ask(number: int) -> None:
        canvas, expected = canvases[number]
        for _ in range(150):
            if engine.open(canvas).copy().is_completable != expected:
                wrong.append(number)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=ask, args=(i % 3,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_positions_are_those_of_open_cells():
    opened = Completability(TokenAutomaton(SUMS, LETTERS)).open(["a", Masks(3)])
    for position in (-1, 4):
        with pytest.raises(ValueError, match="outside this canvas of 4 cells"):
            opened.can_fill({position: 1})
        with pytest.raises(ValueError, match="outside"):
            opened.allowed(position)
    with pytest.raises(ValueError, match="position 0 of the canvas is fixed"):
        opened.can_fill({0: 0})


@many
@given(grammars(), SEEDS, st.booleans())
def test_the_kernel_tries_what_python_tries(ir, seed, is_gap):
    cases = case(ir, seed, (*PIECES, b" ", b"0", b"a"))
    engine, spelled = engine_for(cases)
    moves, rng = Moves(TokenAutomaton(cases.grammar, engine.moves.vocabulary)), random.Random(seed)
    reader, book = RulesReader(moves), Connectors(moves.vocabulary)
    for _ in range(12):
        pool = spelled or range(moves.vocabulary.size)
        book.keep(tuple(rng.choice(pool) for _ in range(rng.randrange(3))))
    for number in range(len(book)):
        for _ in range(rng.randrange(3)):
            book.use(number)
    text = rng.choice([*(moves.vocabulary.texts[t] for t in spelled), b"", b"a", b"ab"])
    run = Run(rng.randrange(130), is_gap)
    try:
        joints = [*_joints(reader, book, 0, reader.start, run, text)]
    except LimitExceeded:  # a hundred letters of a grammar that reads them in thousands of ways
        reject()
    expected = {j.state: j for j in reversed(joints)}
    found, rank = {}, 0
    while rank < len(book):
        joints, after = reader.joints(book, rank, reader.start, run, text)
        assert after > rank
        rank = after
        for joint in joints:
            found.setdefault(joint.state, joint)
    assert found == expected


@many
@given(grammars(), SEEDS)
def test_tokens_between_neighbours(ir, seed):
    cases = case(ir, seed, PIECES)
    engine, spelled = engine_for(cases)
    vocabulary, rng = engine.moves.vocabulary, random.Random(seed)
    reader = RulesReader(engine.moves)
    before, text = (
        b"".join(vocabulary.texts[t] for t in rng.choices(spelled or [0], k=rng.randrange(1, 3)))
        for _ in range(2)
    )
    state = reader.read(reader.start, before)
    tokens = np.arange(vocabulary.size)
    found = reader.can_stand_before(state, tokens, text).tolist()
    behind = [reader.read(state, data) if data else DEAD for data in vocabulary.texts]
    assert found == [s != DEAD and reader.read(s, text) != DEAD for s in behind]


def fills(engine: Completability, *canvas: Part) -> bool:
    """Whether trying alone finds a completion."""
    cells = cells_of(canvas, engine.moves.vocabulary)
    front = engine.forward(engine.start, cells)
    bounds, parts = text_bounds(cells, False), segments(cells, front.at)
    find = engine.witnesses.find
    verdict, found = find(parts, len(cells), bounds, front.state, worth=Worth())
    if verdict is Verdict.FOUND:
        assert SUMS.accepts(text_of(cells, found, engine.moves.vocabulary))
    return verdict is Verdict.FOUND


def test_what_joined_two_sides_joins_others():
    engine = Completability(TokenAutomaton(SUMS, LETTERS))
    canvas: list[Part] = ["(a", Masks(3), "a"]
    assert not fills(engine, *canvas)
    opened = engine.open(canvas)
    assert opened.is_completable
    for position, token in zip(opened.open_positions, [1, 4, 2], strict=True):
        assert opened.fill(position, token)
    # of "x)+" the letter is not needed
    assert engine.witnesses.connectors.tokens(1) == (4, 2)
    assert fills(engine, *canvas)
    assert fills(engine, "(x+a", Masks(2), "a")
    assert fills(engine, "(x+a", Masks(7), "+(a", Masks(4), "a")
    assert fills(engine, "(a", Gap(5), "(a)")
    assert not fills(engine, "((a", Masks(3), "a")


def test_refuses_only_what_nothing_follows():
    engine = Completability(TokenAutomaton(SUMS, LETTERS))
    find, bounds = engine.witnesses.find, range(4, 5)
    cells = cells_of(["a", ")", None, "a"], LETTERS)
    for front in (engine.start, engine.forward(engine.start, cells)):
        parts = segments(cells, front.at)
        assert find(parts, 4, bounds, front.state) == (Verdict.NONE, {})
    cells = cells_of(["a", None, ")", "a"], LETTERS)
    parts = segments(cells, 0)
    assert find(parts, 4, bounds, engine.start.state, worth=Worth())[0] is Verdict.UNKNOWN


CELLS = st.sampled_from([None, None, Gap(1), "a", "", "x+", 6, 1])


@given(st.lists(CELLS, max_size=12), SEEDS)
def test_outlines(canvas, seed):
    """Segments by what is known of a canvas before are those of its cells."""
    rng, cells = random.Random(seed), cells_of(canvas, LETTERS)
    begin = next((i for i, cell in enumerate(cells) if cell.kind is not Kind.TEXT), len(cells))
    begin = rng.choice([0, begin])
    outline = Outline.of(cells, begin)
    if outline is None:
        assert any(cell.kind is Kind.EOS for cell in cells)
        return
    while True:
        opened = [i for i, cell in enumerate(cells) if cell.is_open]
        fills = {i for i in opened if rng.random() < 0.3}
        cells = [cell_of_token(1, LETTERS) if i in fills else c for i, c in enumerate(cells)]
        assert outline.filled(cells, fills) == segments(cells, begin)
        if begin:
            begin = min([i for i in opened if i not in fills], default=len(cells))
        outline = outline.after(cells, fills, begin)
        assert outline == Outline.of(cells, begin)
        if len(opened) == len(fills):
            break


def test_segments():
    cells = cells_of(
        ["ab", "c", None, Masks(2), "", Gap(2), "d", 6, "x", ""],
        Vocabulary.from_tokens([b"a", b"b", b"c", b"d", b"x", b"y", None], [6]),
    )
    parts = segments(cells, 0)
    assert [(part.kind.value, part.begin, part.end, part.data) for part in parts] == [
        ("text", 0, 2, b"abc"),
        ("mask", 2, 5, b""),
        ("text", 5, 6, b""),
        ("slot", 6, 8, b""),
        ("text", 8, 9, b"d"),
        ("eos", 9, 10, b""),
        ("text", 10, 12, b"x"),
    ]
    assert segments(cells, 4) == [part._replace(begin=max(part.begin, 4)) for part in parts[1:]]


def test_connectors_of_least_use_go():
    tokens = [bytes([i // 50 + 65, i % 50 + 65]) for i in range(KEPT + 20)]
    book = Connectors(Vocabulary.from_tokens([*tokens, None], [len(tokens)]))
    for token in range(KEPT - 1):
        book.keep((token,))
    assert len(book) == KEPT
    book.use(KEPT - 1)
    assert next(book.ranked())[0] == KEPT - 1
    for token in range(KEPT, KEPT + 10):
        book.keep((token,))
    assert len(book) == KEPT
    left = {book.tokens(number) for number, _ in book.ranked()}
    assert (KEPT - 2,) in left  # it was of use
    assert (KEPT + 9,) in left
    assert [data for _, data in book.ranked()] == [
        b"".join(tokens[t] for t in book.tokens(number)) for number, _ in book.ranked()
    ]


def test_searches_that_do_not_pay_are_left_out():
    worth = Worth()
    assert worth.pays()
    for _ in range(200):
        worth.note_search(2000, False)
        worth.note_steps(3)
    assert sum(worth.pays() for _ in range(320)) == 10  # looked at again at times
    for _ in range(200):
        worth.note_search(100, True)
        worth.note_steps(3)
    assert worth.pays()
