"""What processes send each other: grammars, vocabularies, automata, processors and errors, by value."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import numpy as np
import pytest

from constrain import GrammarLogitsProcessor, MissingExtra, TokenAutomaton, Vocabulary
from constrain.servers.transport import ServerError
from grammars import BudgetError, GrammaError, Grammar, GrammarError, LimitExceeded, Limits
from grammars.cases import CasesError
from grammars.errors import UnsupportedSchemaError
from samplers import AttemptsExhausted

TOKENS: Final = [None, *(bytes([byte]) for byte in range(32, 127)), b'{"a', b'": ', b"12", b"ab"]
EOS: Final = 0
SCHEMA: Final = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["ab", "c"]}},
    "required": ["a"],
    "additionalProperties": False,
}
GRAMMARS: Final[dict[str, Callable[[], Grammar]]] = {
    "regex": lambda: Grammar.from_regex("(ab|a)+c?"),
    "rules": lambda: Grammar.from_gbnf('root ::= "(" root ")" | "x"'),
    "schema": lambda: Grammar.from_json_schema(SCHEMA),
    "unique": lambda: Grammar.from_json_schema({"type": "array", "uniqueItems": True}),
    "spans": lambda: Grammar.substring_of("ab 12 cd"),
    "special": lambda: Grammar.token("<end>") | Grammar.literal("a"),
    "limits": lambda: Grammar.from_regex("a+", limits=Limits(max_work=123_456)),
}


def vocabulary() -> Vocabulary:
    return Vocabulary.from_tokens([*TOKENS, None], [EOS], special_tokens={"<end>": len(TOKENS)})


@pytest.fixture(params=list(GRAMMARS))
def automaton(request: pytest.FixtureRequest) -> TokenAutomaton:
    return TokenAutomaton(GRAMMARS[request.param](), vocabulary())


def masks(automaton: TokenAutomaton, seed: int, steps: int = 12) -> list[list[int]]:
    """The masks along a random text."""
    rng, state, found = random.Random(seed), automaton.start, []
    for _ in range(steps):
        allowed = automaton.allowed_tokens(state).tolist()
        found.append(automaton.mask(state).tolist())
        if not allowed:
            break
        state = automaton.advance(state, rng.choice(allowed))
    return found


def masks_of(automaton: TokenAutomaton) -> list[list[list[int]]]:
    return [masks(automaton, seed) for seed in range(3)]


def raising(error: Exception) -> None:
    raise error


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_the_copy_is_equal_and_makes_the_same_masks(
    automaton: TokenAutomaton, protocol: int
) -> None:
    again = pickle.loads(pickle.dumps(automaton, protocol))
    for name in ("grammar", "vocabulary", "limits"):
        ours, theirs = getattr(automaton, name), getattr(again, name)
        assert theirs == ours
        assert hash(theirs) == hash(ours)
    assert again.start == automaton.start
    assert masks_of(again) == masks_of(automaton)


def test_copies_are_the_same_object(automaton: TokenAutomaton) -> None:
    for one in (automaton, automaton.grammar, automaton.vocabulary):
        assert copy.copy(one) is one
        assert copy.deepcopy([one])[0] is one


def test_states_are_not_carried(automaton: TokenAutomaton) -> None:
    token = int(automaton.allowed_tokens(automaton.start)[-1])  # not the end
    state = automaton.advance(automaton.start, token)
    again = pickle.loads(pickle.dumps(automaton))
    with pytest.raises(ValueError, match="no state"):
        again.mask(state)


def test_processors(automaton: TokenAutomaton) -> None:
    processor = GrammarLogitsProcessor(automaton, max_new_tokens=9)
    again = pickle.loads(pickle.dumps(processor))
    assert again.max_new_tokens == 9
    assert masks_of(again.automata[0]) == masks_of(automaton)


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["schema", "vocabulary"])
def test_damaged_content_is_refused(kind: str) -> None:
    whole: Any = vocabulary() if kind == "vocabulary" else GRAMMARS[kind]()
    data = pickle.dumps(whole, 4)
    start = data.index(b"ab" if kind == "vocabulary" else b'"rules"')
    end = data.rindex(b"ab" if kind == "vocabulary" else b'"limits"')
    rng, refused = random.Random(0), 0
    for _ in range(200):
        at = rng.randrange(start, end + 2)
        damaged = data[:at] + bytes([data[at] ^ 1 << rng.randrange(7)]) + data[at + 1 :]
        try:
            again = pickle.loads(damaged)
        except GrammarError:
            refused += 1
        except Exception:  # the pickle itself is broken
            continue
        else:
            assert again == whole, "only what says the same is taken"
    assert refused > 20


# --- errors ---------------------------------------------------------------------------------------

ERRORS: Final[list[GrammaError]] = [
    GrammarError("no", line=3, column=4),
    GrammarError("no", pointer="/a"),
    UnsupportedSchemaError("no", pointer="/a", keyword="k"),
    LimitExceeded("max_work", 3, "reading"),
    BudgetError("no", needed=3, available=2),
    CasesError("no", "cases.toml", 7),
    MissingExtra("no", name="torch"),
    ServerError("no", status=500, answer="x"),
    AttemptsExhausted("no", [], 5),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors(error: GrammaError) -> None:
    error.add_note("in texts[3]")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
    if isinstance(error, MissingExtra):
        assert again.name == error.name


# --- other processes ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pool_that_spawns() -> None:
    """Once in fact: two kinds of automata there, and an error on its way back."""
    context = multiprocessing.get_context("spawn")
    made = [TokenAutomaton(GRAMMARS[kind](), vocabulary()) for kind in ("schema", "unique")]
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(masks_of, made)) == [masks_of(one) for one in made]
        with pytest.raises(BudgetError, match="no") as told:
            pool.submit(raising, BudgetError("no", needed=3, available=2)).result()
    assert (told.value.needed, told.value.available) == (3, 2)


def test_the_pickles_of_ray(automaton: TokenAutomaton) -> None:
    cloudpickle = pytest.importorskip("ray.cloudpickle", reason="ray is not installed")
    again = pickle.loads(cloudpickle.dumps(automaton))
    assert again.grammar == automaton.grammar
    assert np.array_equal(again.mask(again.start), automaton.mask(automaton.start))
