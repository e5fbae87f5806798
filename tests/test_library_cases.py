"""The library beside its case tables, and beside the reference parsers that are installed."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest

from benchmarks.library_agreement import compared, mutated, texts_of
from benchmarks.library_references import REFERENCES, MissingReferenceError, Reference
from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, library
from grammars.cases import VERDICTS, Cases

TABLES = sorted(path.stem for path in (library.folder() / "cases").glob("*.toml"))
SLOW = {"python"}  # reads and mutates whole functions


@cache
def loaded(name: str) -> Grammar:
    return Grammar.from_library(name)


@pytest.mark.parametrize("name", TABLES)
def test_cases_hold(name: str) -> None:
    cases = library.cases(name)
    assert cases.library == name
    assert not cases.parameters
    failures = list(cases.failures(loaded(name)))
    assert not failures, "\n".join(
        f"line {f.case.line}, {f.case.verdict} {f.case.text!r}: {f.message}" for f in failures
    )


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_cases_of_every_kind(name: str) -> None:
    cases = library.cases(name)
    assert all(cases.of(verdict) for verdict in VERDICTS)
    assert len(cases.of("accept")) + len(cases.of("reject")) >= 16


@pytest.mark.parametrize("name", TABLES)
def test_texts_and_their_beginnings_are_told_apart_by_what_follows(name: str) -> None:
    """What is accepted is begun, too: each way to it is open."""
    grammar = loaded(name)
    cases = library.cases(name)
    for text in cases.of("accept")[:: 4 if name in SLOW else 1]:
        assert not list(Cases.parse(f"prefix = [{_quoted(text)}]").failures(grammar))


@pytest.mark.parametrize("name", TABLES)
def test_masks_lead_through_the_texts(name: str) -> None:
    """Tokens that overlap: at each place the longest that is there is allowed, and the end is accepted."""
    texts = [text.encode() for text in library.cases(name).of("accept") if len(text) <= 80][:4]
    pieces = {text[i : i + n] for text in texts for n in (3, 7) for i in range(0, len(text), n)}
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += sorted(piece for piece in pieces if len(piece) > 1)
    automaton = TokenAutomaton(loaded(name), Vocabulary.from_tokens([*tokens, None], [len(tokens)]))
    row = np.zeros(-(-automaton.vocabulary.size // 32), np.uint32)
    number = {token: i for i, token in enumerate(tokens)}
    for text in texts:
        state, at = automaton.start, 0
        while at < len(text):
            token = next(text[at : at + n] for n in (7, 3, 1) if text[at : at + n] in number)
            automaton.fill_mask(state, row)
            assert row[number[token] // 32] >> np.uint32(number[token] % 32) & 1, text[at:]
            state = automaton.advance(state, number[token])
            at += len(token)
        assert automaton.is_accepting(state)


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'


@pytest.mark.parametrize(
    ("name", "reference"), REFERENCES, ids=[f"{name} beside {r.name}" for name, r in REFERENCES]
)
def test_references_agree(name: str, reference: Reference) -> None:
    try:
        reference.reader()
    except MissingReferenceError as error:
        pytest.skip(str(error))
    rng = random.Random(f"tests {name}")
    given = reference.parameters
    grammar = Grammar.from_library(name, **given) if given else loaded(name)
    count, longest = (6, 60) if name in SLOW else (40, 100)
    whole = texts_of(name, grammar, reference, rng, count, longest)
    changed = [mutated(rng, rng.choice(whole), whole) for _ in range(2 * count)]
    tally = compared(grammar, reference, [*whole, *changed])
    assert not tally.ours
    assert reference.wider or not tally.theirs
    assert tally.both >= len(library.cases(name).of("accept")) // 2
    assert tally.neither
