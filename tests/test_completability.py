"""Completability against brute force: every filling of a canvas is written out and asked about.

``GRAMMA_CANVASES`` sets how many random canvases each kind of grammar gets.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import BYTES, bag_grammars, grammars, memory_grammars, regular

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, GrammarError
from grammars.ir import GrammarIR, Rule
from samplers.diffusion import Completability, Gap, Masks, is_completable
from samplers.diffusion.canvas import Part
from samplers.diffusion.witness import TRIES

CANVASES = int(os.environ.get("GRAMMA_CANVASES", "120"))
PER_GRAMMAR = 6
"""Canvases tried on each random grammar."""
FILLINGS = 4_000
"""Texts written out for one canvas, at most."""

random_canvases = settings(
    max_examples=max(1, CANVASES // PER_GRAMMAR),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


# --- the reference -------------------------------------------------------------------------------


def fillings(
    vocabulary: Vocabulary, canvas: Sequence[Part], padded: bool
) -> set[tuple[bytes, bool]] | None:
    """Every text that a canvas can become, and whether it has ended; ``None`` if too many."""
    tokens = {data for i in range(vocabulary.size) if (data := vocabulary.token_bytes(i))}
    found = {(b"", False)}
    for part in canvas:
        for one in _singly(part):
            found = {
                after for text in found for after in _fill(one, text, tokens, vocabulary, padded)
            }
            if len(found) > FILLINGS:
                return None
    return found


def _singly(part: Part) -> list[Part]:
    if isinstance(part, Masks):
        return [None] * part.n
    return [Gap(1)] * part.max_tokens if isinstance(part, Gap) else [part]


def _fill(
    part: Part, text: tuple[bytes, bool], tokens: set[bytes], vocabulary: Vocabulary, padded: bool
) -> Iterable[tuple[bytes, bool]]:
    data, ended = text
    if part is None or isinstance(part, Gap):
        if isinstance(part, Gap):
            yield text
        if not ended:
            yield from ((data + token, False) for token in tokens)
        if padded:
            yield data, True
    elif isinstance(part, str | bytes):
        fixed = part.encode() if isinstance(part, str) else part
        if not (ended and fixed):
            yield data + fixed, ended
    elif part in vocabulary.eos_token_ids:
        if padded:
            yield data, True
    else:
        fixed = vocabulary.token_bytes(int(part)) or b""  # type: ignore[arg-type]
        if fixed and not ended:
            yield data + fixed, False


def by_brute_force(
    grammar: Grammar, vocabulary: Vocabulary, canvas: Sequence[Part], padded: bool
) -> bool | None:
    """Whether some filling is in the language; ``None`` if there are too many to say."""
    found = fillings(vocabulary, canvas, padded)
    return None if found is None else any(grammar.accepts(text) for text, _ in found)


# --- random cases --------------------------------------------------------------------------------


@dataclass
class Cases:
    """Small vocabularies and canvases for one grammar, near its texts or anywhere."""

    grammar: Grammar
    pieces: Sequence[bytes]
    rng: random.Random
    max_bytes: int = 8

    def __post_init__(self) -> None:
        self.samples = [text for seed in range(4) if (text := self._sample(seed))]

    def _sample(self, seed: int) -> bytes:
        try:
            return self.grammar.sample(seed=seed, max_bytes=self.max_bytes)
        except (GrammarError, ValueError):
            return b""

    def vocabulary(self) -> tuple[Vocabulary, list[int]]:
        """At most six tokens, and the ids that spell a text if the tokens were cut from one."""
        rng = self.rng
        parts: list[bytes] = []
        if self.samples and rng.random() < 0.85:
            text = rng.choice(self.samples)
            while text and len(set(parts)) < 5:
                size = rng.choice([1, 1, 2, 2, 3, 4])
                parts.append(text[:size])
                text = text[size:]
        tokens: list[bytes | None] = list(dict.fromkeys(parts))
        while len(tokens) < 5 and rng.random() < 0.7:
            tokens.append(rng.choice([*self.pieces, *self.pieces, b"", None]))
        if not tokens:
            tokens.append(rng.choice(self.pieces))
        rng.shuffle(tokens)
        vocabulary = Vocabulary.from_tokens([*tokens, None], [len(tokens)])
        return vocabulary, [tokens.index(part) for part in parts]

    def canvas(self, vocabulary: Vocabulary, spelled: list[int]) -> list[Part]:
        """Up to six cells or so: masks, gaps, fixed ids and texts; EOS at times."""
        rng = self.rng
        ids = list(spelled) if spelled and rng.random() < 0.8 else self._any_ids(vocabulary)
        if rng.random() < 0.15:
            ids.insert(rng.randrange(len(ids) + 1), vocabulary.eos_token_ids[0])
        if rng.random() < 0.2:
            ids += [vocabulary.eos_token_ids[0]] * rng.randrange(1, 3)
        shown = rng.choice([0.2, 0.5, 0.8])
        canvas: list[Part] = [self._part(i, vocabulary, shown) for i in ids]
        if rng.random() < 0.3 and canvas:
            canvas.pop(rng.randrange(len(canvas)))
        if rng.random() < 0.3:
            extra = rng.choice([None, Gap(1), Gap(2), Masks(1), Masks(2), Gap(0)])
            canvas.insert(rng.randrange(len(canvas) + 1), extra)
        return canvas

    def _any_ids(self, vocabulary: Vocabulary) -> list[int]:
        return [self.rng.randrange(vocabulary.size) for _ in range(self.rng.randrange(7))]

    def _part(self, token: int, vocabulary: Vocabulary, shown: float) -> Part:
        rng = self.rng
        data = vocabulary.token_bytes(token)
        if rng.random() > shown:
            return rng.choice([None, None, None, Masks(1), Gap(1), Gap(2)])
        if data and rng.random() < 0.3:
            return data
        return token


def check(cases: Cases) -> None:
    """Compares some canvases, then fills one of them."""
    for _ in range(PER_GRAMMAR):
        vocabulary, spelled = cases.vocabulary()
        canvas = cases.canvas(vocabulary, spelled)
        padded = cases.rng.random() < 0.4
        expected = by_brute_force(cases.grammar, vocabulary, canvas, padded)
        if expected is None:
            continue
        got = answer(cases.grammar, vocabulary, canvas, padded)
        assert got == expected, (cases.grammar.ir, vocabulary.texts, canvas, padded)
        by_layers = answer(cases.grammar, vocabulary, canvas, padded, tries=0)
        assert by_layers == expected, (cases.grammar.ir, vocabulary.texts, canvas, padded)
        if got and cases.rng.random() < 0.3:
            fill_up(cases, vocabulary, canvas, padded)


def answer(
    grammar: Grammar,
    vocabulary: Vocabulary,
    canvas: Sequence[Part],
    padded: bool,
    tries: int = TRIES,
) -> bool:
    """The engine's answer; ids alone are asked by the short way."""
    if tries and all(part is None or isinstance(part, int) for part in canvas):
        return is_completable(grammar, vocabulary, canvas, eos_padding=padded)  # type: ignore[arg-type]
    try:
        automaton = TokenAutomaton(grammar, vocabulary)
    except GrammarError:
        return False
    return Completability(automaton, tries=tries).is_completable(canvas, eos_padding=padded)


def fill_up(cases: Cases, vocabulary: Vocabulary, canvas: list[Part], padded: bool) -> None:
    """Fills all masks in any order; ``allowed`` and ``fill`` must say what brute force says."""
    rng = cases.rng
    automaton = TokenAutomaton(cases.grammar, vocabulary)
    engine = Completability(automaton, tries=rng.choice([0, TRIES]))
    opened = engine.open(canvas, eos_padding=padded)
    cells: list[Part] = [one for part in canvas for one in _singly(part)]
    positions = opened.open_positions
    rng.shuffle(positions)
    assert len(opened) == len(cells)
    for position in positions:
        expected = _fits(cases.grammar, vocabulary, cells, position, padded)
        assert opened.allowed(position).tolist() == expected
        first = opened.first_mask()
        if first is not None and first[0] == position:
            assert set(expected) <= set(np.flatnonzero(first[1]).tolist())
        for token in range(vocabulary.size):
            assert opened.can_fill({position: token}) == (token in expected)
        choices: list[int | None] = list(expected)
        if cells[position] is not None:
            without = [*cells[:position], b"", *cells[position + 1 :]]
            fits = bool(by_brute_force(cases.grammar, vocabulary, without, padded))
            assert opened.can_fill({position: None}) == fits
            choices += [None] * fits
        choice = rng.choice(choices)
        assert opened.fill(position, choice)
        cells[position] = b"" if choice is None else choice
    assert opened.open_positions == []
    assert opened.is_completable


def _fits(
    grammar: Grammar, vocabulary: Vocabulary, cells: list[Part], position: int, padded: bool
) -> list[int]:
    def with_token(token: int) -> list[Part]:
        return [*cells[:position], token, *cells[position + 1 :]]

    return [
        token
        for token in range(vocabulary.size)
        if by_brute_force(grammar, vocabulary, with_token(token), padded)
    ]


def case(ir: GrammarIR, seed: int, pieces: Sequence[bytes], max_bytes: int = 8) -> Cases:
    grammar = Grammar(ir)
    assume(not grammar.is_empty)
    return Cases(grammar, pieces, random.Random(seed), max_bytes)


SEEDS = st.integers(0, 2**32 - 1)
PIECES = (*BYTES, b"ab", b"aa", "é".encode(), b"a\xc3", b"\xa9b", b"bc", b"abc")


class TestRandomCanvases:
    @random_canvases
    @given(regular(), SEEDS)
    def test_regular(self, body, seed):
        check(case(GrammarIR((Rule("r", body),), "r"), seed, PIECES))

    @random_canvases
    @given(grammars(), SEEDS)
    def test_context_free(self, ir, seed):
        check(case(ir, seed, PIECES))

    @random_canvases
    @given(grammars(max_rules=2), SEEDS)
    def test_longer_context_free(self, ir, seed):
        check(case(ir, seed, PIECES, max_bytes=14))

    @random_canvases
    @given(bag_grammars(), SEEDS)
    def test_bags(self, ir, seed):
        check(case(ir, seed, PIECES))

    @random_canvases
    @given(memory_grammars(), SEEDS)
    def test_memory(self, ir, seed):
        check(case(ir, seed, JSON_PIECES, max_bytes=20))

    @random_canvases
    @given(st.deferred(lambda: st.sampled_from(sorted(NAMED))), SEEDS)
    def test_named(self, name, seed):
        pieces, grammar, max_bytes = NAMED[name]
        check(Cases(grammar, pieces, random.Random(seed), max_bytes))


JSON_PIECES = tuple(
    text.encode()
    for text in [
        '"',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "1",
        "a",
        '"a"',
        '":',
        '{"',
        "],",
        '"a":1',
        "[[",
    ]
)

NESTED = {
    "$ref": "#/$defs/n",
    "$defs": {
        "n": {
            "type": "object",
            "properties": {
                "a": {"type": "integer"},
                "b": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 2},
            },
            "required": ["a"],
            "additionalProperties": False,
        }
    },
}


def _schema(schema, **options):
    return JSON_PIECES, Grammar.from_json_schema(schema, **options), 24


NAMED = {
    "regex": (PIECES, Grammar.from_regex("(ab|é)+c|a{2,5}b*"), 8),
    "counted": (PIECES, Grammar.from_regex("[abé]{4,9}c{3}"), 12),
    "free text": (PIECES, Grammar.from_regex(r"\w{2,4}c\w*|(.|é)*ab"), 8),
    "brackets": (PIECES, Grammar.from_gbnf('root ::= "a" root "b" | "c" | root root'), 10),
    "palindromes": (PIECES, Grammar.from_gbnf('root ::= "a" root "a" | "b" root "b" | "c"?'), 9),
    "sums": (
        (b"1", b"+", b"(", b")", b"1+", b"+1", b"((", b"))", b"1)", b"+("),
        Grammar.from_gbnf('root ::= root "+" term | term\nterm ::= "(" root ")" | "1"+'),
        10,
    ),
    "any json": _schema(True, whitespace="compact"),
    "nested": _schema(NESTED, whitespace="compact"),
    "any order": _schema(
        {"properties": {"a": {"const": 1}, "b": {"const": 1}}, "required": ["a"],
         "type": "object", "additionalProperties": False},
        whitespace="compact", property_order="any",
    ),
    "unique": _schema(
        {"type": "array", "uniqueItems": True, "items": {"enum": [1, 11, "a"]}},
        whitespace="compact",
    ),
    "map": _schema(
        {"type": "object", "additionalProperties": {"enum": [1, "a"]}, "minProperties": 1},
        whitespace="compact",
    ),
}  # fmt: skip
