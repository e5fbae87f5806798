"""The laws on five real vocabularies.

The oracle's recognizer decides which byte prefixes can be completed; these vocabularies spell every
byte that the grammars use, so a token is allowed exactly if the text with it is such a prefix.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from oracle import Position, Recognizer
from test_vocabulary import real

from constrain import TokenAutomaton, Vocabulary
from constrain.models.fetching import tokenizer_name
from grammars.grammar import Grammar

pytestmark = pytest.mark.model

VOCABULARIES = {
    "smollm2-135m-instruct": 49_000,
    "gpt2": 50_000,
    "llama-3": 128_000,
    "o200k": 200_000,
    "gemma": 256_000,
}  # name -> its size is at least this

INVOICE = {
    "type": "object",
    "properties": {
        "number": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
        "total": {"type": "number", "minimum": 0},
        "paid": {"type": "boolean"},
        "note": {"type": "string", "maxLength": 40},
        "items": {"type": "array", "items": {"enum": ["tea", "coffee", "crème"]}, "maxItems": 3},
    },
    "required": ["number", "paid", "items"],
    "additionalProperties": False,
}

CHOICES = ["yes, definitely", "yes", "no", "perhaps tomorrow", "déjà vu", "不知道"]

SOURCE = """Señor 张伟 said: "two crates of tea,\t14 kg".
Total due:  1,240.50 EUR (see AB-1234)"""

GRAMMARS: dict[str, Callable[[], Grammar]] = {
    "regex": lambda: Grammar.from_regex(r"(\w+ ){2,5}[0-9]{4}-[0-9]{2}|[^a-z]{1,20}!"),
    "choices": lambda: Grammar.from_choices(CHOICES),
    "gbnf": lambda: Grammar.from_gbnf(
        'root ::= expr\nexpr ::= expr [-+*/] expr | "(" " "? expr ")" | [0-9]+ | [a-z]{1,8}'
    ),
    "schema": lambda: Grammar.from_json_schema(INVOICE),
    "spans": lambda: Grammar.substring_of(SOURCE, unit="words"),
    "grounded": lambda: Grammar.from_json_schema(
        INVOICE | {"required": ["number", "note"]}, source=SOURCE, grounded=True
    ),
    "any json": lambda: Grammar.from_json_schema(True),
}


@dataclass(frozen=True)
class Setting:
    vocabulary: Vocabulary
    automaton: TokenAutomaton
    recognizer: Recognizer


def vocabulary(name: str) -> Vocabulary:
    return real(tokenizer_name(name))[1]  # one load for all modules of a process


def marked(name: str) -> Any:
    """A vocabulary as a parameter; large ones are slow."""
    return pytest.param(name, marks=[pytest.mark.slow] if VOCABULARIES[name] > 100_000 else [])


@pytest.fixture(params=list(map(marked, VOCABULARIES)), scope="module")
def words(request: pytest.FixtureRequest) -> Vocabulary:
    made = vocabulary(request.param)
    assert made.size >= VOCABULARIES[request.param]
    return made


@pytest.fixture(params=list(GRAMMARS), scope="module")
def setting(request: pytest.FixtureRequest, words: Vocabulary) -> Setting:
    grammar = GRAMMARS[request.param]()
    return Setting(words, TokenAutomaton(grammar, words), Recognizer(grammar.ir))


def bits(setting: Setting, state: int) -> np.ndarray:
    """The mask as booleans, one for each id."""
    size = setting.vocabulary.size
    row = np.full(-(-size // 32), -1, dtype=np.int32)
    setting.automaton.fill_mask(state, row)
    unpacked = np.unpackbits(row.view(np.uint8), bitorder="little")
    assert not unpacked[size:].any()
    return unpacked[:size].astype(bool)


def walk(setting: Setting, seed: int, steps: int) -> list[tuple[int, Position]]:
    """States of one random walk, with what the oracle knows at each."""
    rng = random.Random(seed)
    state, position = setting.automaton.start, setting.recognizer.start
    visited = [(state, position)]
    for _ in range(steps):
        onward = np.flatnonzero(bits(setting, state))
        onward = onward[~np.isin(onward, setting.vocabulary.eos_token_ids)]
        if not len(onward):
            break
        choice = int(rng.choice(onward))
        state = setting.automaton.advance(state, choice)
        data = setting.vocabulary.token_bytes(choice)
        assert data
        position = setting.recognizer.extend(position, data)
        visited.append((state, position))
    return visited


def test_every_needed_byte_is_a_token(words: Vocabulary) -> None:
    """What the other tests rely on."""
    single = {words.token_bytes(i) for i in range(words.size)}
    missing = [value for value in range(256) if bytes([value]) not in single]
    # control characters and the lead bytes of unassigned planes: nothing here ends in one only
    assert all(value < 0x20 or value in (0xC0, 0xC1) or value >= 0xF1 for value in missing), missing
    inside = set(b"".join(filter(None, single)))
    assert not inside.intersection(missing), "what is missing occurs in no token"


def test_masks(setting: Setting) -> None:
    """Law 1 on a sample of refused ids and of allowed ids, at states of two random walks."""
    rng = random.Random(0)
    eos = set(setting.vocabulary.eos_token_ids)
    for seed in range(2):
        for state, position in walk(setting, seed, 6):
            mask = bits(setting, state)
            assert mask.any()
            allowed = np.flatnonzero(mask).tolist()
            refused = np.flatnonzero(~mask).tolist()
            sample = rng.sample(allowed, min(120, len(allowed)))
            sample += rng.sample(refused, min(200, len(refused)))
            sample += near_misses(setting, refused, allowed, rng)
            for token_id in sample:
                if token_id in eos:
                    assert mask[token_id] == position.accepting
                    continue
                data = setting.vocabulary.token_bytes(token_id)
                expected = bool(data) and setting.recognizer.extend(position, data or b"").viable
                assert mask[token_id] == expected, data


def near_misses(
    setting: Setting, refused: list[int], allowed: list[int], rng: random.Random
) -> list[int]:
    """Refused ids whose first byte is also that of an allowed one."""
    some = rng.sample(allowed, min(200, len(allowed)))
    first = {(setting.vocabulary.token_bytes(i) or b"")[:1] for i in some} - {b""}
    tried = rng.sample(refused, min(3000, len(refused)))
    near = [i for i in tried if (setting.vocabulary.token_bytes(i) or b"")[:1] in first]
    return near[:120]


def test_advance(setting: Setting) -> None:
    """Law 2 on all ids at a few states; by bytes on a sample."""
    rng = random.Random(1)
    automaton = setting.automaton
    eos = set(setting.vocabulary.eos_token_ids)
    for state, _ in walk(setting, 5, 2):
        mask = bits(setting, state)
        after = [automaton.advance(state, token_id) for token_id in range(setting.vocabulary.size)]
        assert ((np.array(after) != automaton.DEAD) == mask).all()
        allowed = [i for i in np.flatnonzero(mask).tolist() if i not in eos]
        for token_id in rng.sample(allowed, min(30, len(allowed))):
            data = setting.vocabulary.token_bytes(token_id)
            assert data
            by_bytes = automaton.advance_bytes(state, data)
            assert (bits(setting, by_bytes) == bits(setting, after[token_id])).all()
            middle = rng.randint(0, len(data))
            by_parts = automaton.advance_bytes(state, data[:middle])
            by_parts = automaton.advance_bytes(by_parts, data[middle:])
            assert (bits(setting, by_parts) == bits(setting, by_bytes)).all()


def test_no_dead_ends(setting: Setting) -> None:
    """Law 3: the distance falls by one along some token, never by more along any."""
    automaton = setting.automaton
    eos = set(setting.vocabulary.eos_token_ids)
    rng = random.Random(2)
    for state, position in walk(setting, 7, 6):
        distance = automaton.min_tokens_to_accept(state)
        assert (distance == 0) == position.accepting
        while distance:
            allowed = [i for i in np.flatnonzero(bits(setting, state)).tolist() if i not in eos]
            row = np.zeros(-(-setting.vocabulary.size // 32), dtype=np.int32)
            automaton.fill_mask(state, row, tokens_left=distance + 1)
            tight = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()
            assert tight, "the shortest way fits its own length"
            for token_id in rng.sample(allowed, min(40, len(allowed))):
                rest = automaton.min_tokens_to_accept(automaton.advance(state, token_id))
                assert rest >= distance - 1
                assert (rest == distance - 1) == (token_id in tight)
            state = automaton.advance(state, rng.choice(tight))
            distance -= 1
            assert automaton.min_tokens_to_accept(state) == distance
        assert automaton.is_accepting(state)


def test_distance_of_choices(words: Vocabulary) -> None:
    """The fewest tokens that spell the rest of a choice, by dynamic programming."""
    automaton = TokenAutomaton(Grammar.from_choices(CHOICES), words)
    pieces = {words.token_bytes(i) for i in range(words.size)} - {None, b""}

    def fewest(text: bytes) -> int:
        best = [0] + [10**6] * len(text)
        for end in range(1, len(text) + 1):
            best[end] = min(
                best[start] + 1 if text[start:end] in pieces else 10**6 for start in range(end)
            )
        return best[-1]

    whole = [choice.encode() for choice in CHOICES]
    for text in whole:
        for end in range(len(text) + 1):
            rests = [other[end:] for other in whole if other.startswith(text[:end])]
            state = automaton.advance_bytes(automaton.start, text[:end])
            assert automaton.min_tokens_to_accept(state) == min(map(fewest, rests)), text[:end]


def test_tokenisations(setting: Setting) -> None:
    """Law 2: the same bytes one at a time and in the tokens of a walk."""
    automaton = setting.automaton
    single = {}
    for token_id in range(setting.vocabulary.size):
        data = setting.vocabulary.token_bytes(token_id)
        if data and len(data) == 1:
            single[data[0]] = token_id
    rng = random.Random(3)
    state = other = automaton.start
    eos = set(setting.vocabulary.eos_token_ids)
    for _ in range(6):
        allowed = [i for i in np.flatnonzero(bits(setting, state)).tolist() if i not in eos]
        if not allowed:
            break
        choice = rng.choice(allowed)
        state = automaton.advance(state, choice)
        for value in setting.vocabulary.token_bytes(choice) or b"":
            other = automaton.advance(other, single[value])
        assert (bits(setting, state) == bits(setting, other)).all()
        assert automaton.is_accepting(state) == automaton.is_accepting(other)
