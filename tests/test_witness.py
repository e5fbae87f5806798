"""Completions found by trying: each is one, connectors are learned, the kernel tries what Python tries."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import bag_grammars, grammars, memory_grammars
from test_completability import JSON_PIECES, PIECES, SEEDS, Cases, by_brute_force, case

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, GrammarError
from samplers.diffusion import Completability, Gap, Masks
from samplers.diffusion.canvas import Cell, Kind, Part, cells_of, text_bounds
from samplers.diffusion.connectors import KEPT, Connectors, RulesReader, Run, _joints
from samplers.diffusion.moves import Moves
from samplers.diffusion.witness import Filling, Verdict, Worth, segments, tail_of

many = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
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
        near = [cases.rng.choice([None, *range(vocabulary.size)]) for _ in cells]
        verdict, found = witnesses.find(cells, bounds, front, tail_of(cells), [near], Worth())
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
                    cells, bounds, front, tail_of(cells), [filling], Worth()
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


@many
@given(grammars(), SEEDS, st.booleans())
def test_the_kernel_tries_what_python_tries(ir, seed, is_gap):
    cases = case(ir, seed, PIECES)
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
    expected = {j.state: j for j in reversed([*_joints(reader, book, 0, reader.start, run, text)])}
    found, rank = {}, 0
    while rank < len(book):
        joints, after = reader.joints(book, rank, reader.start, run, text)
        assert after > rank
        rank = after
        for joint in joints:
            found.setdefault(joint.state, joint)
    assert found == expected


def fills(engine: Completability, *canvas: Part) -> bool:
    """Whether trying alone finds a completion."""
    cells = cells_of(canvas, engine.moves.vocabulary)
    front = engine.forward(engine.start, cells)
    bounds, tail = text_bounds(cells, False), tail_of(cells)
    verdict, found = engine.witnesses.find(cells, bounds, front, tail, worth=Worth())
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
    front, tail = engine.forward(engine.start, cells), tail_of(cells)
    assert find(cells, bounds, front, tail) == (Verdict.NONE, {})
    cells = cells_of(["a", None, ")", "a"], LETTERS)
    assert find(cells, bounds, engine.start, tail_of(cells), worth=Worth())[0] is Verdict.UNKNOWN


def test_segments():
    cells = cells_of(
        ["ab", "c", None, Masks(2), "", Gap(2), "d", 6, "x", ""],
        Vocabulary.from_tokens([b"a", b"b", b"c", b"d", b"x", b"y", None], [6]),
    )
    parts = segments(cells, 0, tail_of(cells))
    assert [(part.kind.value, part.begin, part.end, part.data) for part in parts] == [
        ("text", 0, 2, b"abc"),
        ("mask", 2, 5, b""),
        ("text", 5, 6, b""),
        ("slot", 6, 8, b""),
        ("text", 8, 9, b"d"),
        ("eos", 9, 10, b""),
        ("text", 10, 12, b"x"),
    ]
    assert segments(cells, 4, tail_of(cells)) == [
        part._replace(begin=max(part.begin, 4)) for part in parts[1:]
    ]
    assert segments(cells, 11, tail_of(cells))[0].data == b""


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
    assert worth
    for _ in range(200):
        worth.note_search(2000, False)
        worth.note_steps(3)
    assert sum(bool(worth) for _ in range(320)) == 10  # looked at again at times
    for _ in range(200):
        worth.note_search(100, True)
        worth.note_steps(3)
    assert worth
