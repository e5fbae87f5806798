"""Kernels of keys and items against the search in Python that they replace."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from constrain import TokenAutomaton, Vocabulary
from constrain.uniqueness import search
from constrain.uniqueness import texts as used_texts
from constrain.uniqueness.automaton import UniquenessAutomaton
from constrain.uniqueness.search import wants_marks
from grammars import Grammar, GrammarError

STRING = {"type": "string"}
SCHEMAS: dict[str, Any] = {
    "any object": {"type": "object"},
    "two named keys and others": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "ab": STRING},
        "additionalProperties": {"type": "boolean"},
    },
    "keys of one letter": {"type": "object", "propertyNames": {"pattern": "^a*$"}},
    "keys beyond ASCII": {"type": "object", "propertyNames": {"pattern": "^[é😀\\\\a]{0,2}$"}},
    "objects within objects": {"type": "object", "additionalProperties": {"type": "object"}},
    "objects in a list": {"type": "array", "items": {"type": "object", "maxProperties": 3}},
    "unique numbers": {"type": "array", "items": {"type": "number"}, "uniqueItems": True},
    "unique strings": {"type": "array", "items": STRING, "uniqueItems": True},
    "unique, few": {
        "type": "array",
        "items": {"enum": [1, 10, "a", "ab", True]},
        "uniqueItems": True,
    },
    "unique lists": {
        "type": "array",
        "items": {"type": "array", "items": {"enum": [0, 1]}, "maxItems": 2},
        "uniqueItems": True,
    },
    "unique, of any kind": {"type": "array", "uniqueItems": True},
    "unique beside others": {
        "type": "object",
        "properties": {
            "u": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
            "v": {"type": "array", "items": {"type": "integer"}},
        },
    },
    "a list of unique lists": {
        "type": "array",
        "items": {"type": "array", "items": {"enum": ["a", "b", 1]}, "uniqueItems": True},
    },
}

ZERO = re.compile(rb"[\[,]\s*-?0(\.0*)?[eE][-+]?\d*$")
SIGNS = [bytes([b]) for b in b'{}[]",:\\ab0123456789-+.eEtrufalsn \nu']
PIECES = [
    b'":', b'","', b'": ', b'"a"', b'"a":', b'{"a":1,', b'"a":1,"a"', b'":1,"', b'":"","', b"1,1",
    b"1,", b",1", b"],[", b'","a', b'"b","', b"10", b"1.0", b"0.0", b"e1", b"1e0", b"[[", b"]]",
    b"\\u0061", b"\\ud83d", b"\\ude00", "é".encode(), "😀".encode(), b"true", b'{"', b'"},{"', b"}}",
    b'"]', b"1]", b'"]}', b"0,0", b"-0", b"[1,", b', "', b",\n", b" ,", b'\\"', b"\\\\", b"\\n",
]  # fmt: skip


def automata(schema: Any, tokens: list[bytes]) -> tuple[TokenAutomaton, TokenAutomaton]:
    """The same automaton twice, the second without kernels."""
    vocabulary = Vocabulary.from_tokens([*tokens, None], [len(tokens)])
    grammar = Grammar.from_json_schema(schema, numbers="any")
    with_kernels, without = (TokenAutomaton(grammar, vocabulary) for _ in range(2))
    core, bare = with_kernels._core, without._core
    assert isinstance(core, UniquenessAutomaton)
    assert isinstance(bare, UniquenessAutomaton)
    assert core.used is not None
    bare.used = bare.pairs.used = None
    return with_kernels, without


def core_of(automaton: TokenAutomaton) -> UniquenessAutomaton:
    core = automaton._core
    assert isinstance(core, UniquenessAutomaton)
    return core


def forget_given_up(*both: TokenAutomaton) -> None:
    """What was given up once is not taken for known."""
    for automaton in both:
        core = core_of(automaton)
        core.pairs._live.clear()
        core.pairs.given_up = 0
        if core.used is not None:
            core.used.given_up = 0


def given_up_by(automaton: TokenAutomaton) -> int:
    core = core_of(automaton)
    return core.pairs.given_up + (0 if core.used is None else core.used.given_up)


@pytest.fixture
def hasty_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search gives up sooner: what it then allows says nothing, so the tests only lose cases."""
    monkeypatch.setattr(search, "SEARCH_FUEL", 150)


@pytest.mark.usefixtures("hasty_search")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SCHEMAS)
def test_kernels_agree_with_the_search(name: str, seed: int) -> None:
    rng = random.Random(f"{name} {seed}")
    singles = [bytes([b]) for b in range(256)]
    tokens = [*singles, *(PIECES if seed == 0 else rng.sample(PIECES, 12))]
    ours, theirs = automata(SCHEMAS[name], tokens)
    likely = {tokens.index(t) for t in (*SIGNS, *PIECES) if t in tokens}
    for walk in range(6):
        state, other = ours.start, theirs.start
        text = b""
        for _ in range(26):
            forget_given_up(ours, theirs)
            given_up = given_up_by(theirs)
            mask, expected = ours.mask(state), theirs.mask(other)
            many = _tokens(mask & ~expected, tokens)
            assert len(many) <= given_up_by(ours), (text, many)
            for more in _tokens(expected & ~mask, tokens):
                # the search does not see that zero stays zero, whatever its exponent
                gave_up = given_up_by(theirs) > given_up
                assert gave_up or ZERO.search(text + more), (text, more)
            onward = [t for t in ours.allowed_tokens(state).tolist() if t in likely]
            if not onward:
                break
            token = rng.choice(onward)
            text += tokens[token]
            state, other = ours.advance(state, token), theirs.advance(other, token)
            assert state != ours.DEAD, text
            assert other != theirs.DEAD, text
        if walk == 3:
            ours.trim([state])
            theirs.trim([other])
            assert (ours.mask(state) == theirs.mask(other)).all(), text


def _tokens(mask: Any, tokens: list[bytes]) -> list[bytes]:
    flags = np.unpackbits(mask.view(np.uint8), bitorder="little")
    return [tokens[t] for t in np.flatnonzero(flags).tolist() if t < len(tokens)]


@pytest.mark.parametrize(
    ("items", "written", "repeats", "differs"),
    [
        (["1"], "1", ["1.0", "10e-1", "1E0", "1.000e+00"], ["10", "-1", "1.01", "true", '"1"']),
        (["0"], "-0", ["0.00", "0e5", "-0.0e-7"], ["1", "-1", "0.5"]),
        (["120"], "120", ["1.2e2", "12e1", "1200e-1", "120.0"], ["12", "1.2", "1200", "0.12"]),
        (["0.05"], "0.05", ["5e-2", "0.050", "50E-3"], ["0.5", "0.005", "5"]),
        (["1e400"], "1e400", ["10e399", "1" + "0" * 400], ["1e401"]),
        (['"a"'], '"a"', ['"\\u0061"'], ['"b"', '"aa"', '""']),
        (['"\\n"'], '"\\n"', ['"\\u000a"', '"\\u000A"'], ['"n"', '"\\\\n"']),
        (['"😀"'], '"😀"', ['"\\ud83d\\ude00"', '"\\uD83D\\uDE00"'], ['"\\ud83d\\ude01"']),
        (["null"], "null", ["null"], ["true", '"null"']),
        (["[1]"], "[1]", ["[1.0]", "[ 1 ]"], ["[]", "[1,1]", "1"]),
        (['{"a":1}'], '{"a":1}', ['{"a":1.0}'], ['{"a":2}', "{}", '{"b":1}']),
    ],
)
def test_values_are_compared_as_json_does(
    items: list[str], written: str, repeats: list[str], differs: list[str]
) -> None:
    ours, _ = automata({"type": "array", "uniqueItems": True}, [bytes([b]) for b in range(256)])
    begun = ours.advance_bytes(ours.start, f"[{written},".encode())
    for text, ends in [(t, False) for t in repeats] + [(t, True) for t in differs]:
        state = begun
        data = f"{text}]".encode()
        for byte in data[:-1]:
            state = ours.advance(state, byte) if state else state
        allowed = state != ours.DEAD and bool(
            ours.mask(state)[data[-1] >> 5] >> (data[-1] & 31) & 1
        )
        assert allowed == ends, text
        assert allowed == Grammar.from_json_schema({"uniqueItems": True, "type": "array"}).accepts(
            f"[{written},{text}]"
        )


def test_many_keys_and_items_stay_within_memory() -> None:
    keys = [f"k{i}" for i in range(300)]
    ours, theirs = automata({"type": "object"}, [bytes([b]) for b in range(256)])
    text = "{" + ",".join(f'"{key}":0' for key in keys) + ","
    state = ours.advance_bytes(ours.start, text.encode())
    other = theirs.advance_bytes(theirs.start, text.encode())
    for part in ('"k', '"k29', '"k299', '"k3', '"x'):
        ahead, behind = (
            ours.advance_bytes(state, part.encode()),
            theirs.advance_bytes(other, part.encode()),
        )
        assert (ours.mask(ahead) == theirs.mask(behind)).all(), part
    core = ours._core
    assert isinstance(core, UniquenessAutomaton)
    assert core.used is not None
    assert core.used.nbytes < 1 << 20


UNIQUE = {"type": "array", "uniqueItems": True}
SECOND_IS_A = {"prefixItems": [STRING, {"enum": ["a"]}], "items": False, "minItems": 2}


@pytest.mark.parametrize(
    ("schema", "before", "tokens"),
    [
        (UNIQUE | {"items": {"enum": ["a", 1]}}, b"[1,", [b'"a",', b'"a", ', b'"a"]']),
        (UNIQUE | {"items": {"enum": ["a", 1]}}, b"[", [b'"a",', b'1,"', b'"a",1,']),
        (UNIQUE | {"items": {"enum": ["a", "b"]}}, b"[", [b'"a",', b'"a","', b'"a","b",']),
        (UNIQUE | {"items": {"enum": ["a", "b"]}}, b'["b",', [b'"a",', b'"a", ', b'"a"]']),
        (UNIQUE | {"items": {"type": "string"}}, b"[", [b'"a",', b'"a","']),
        (UNIQUE | SECOND_IS_A, b"[", [b'"a",', b'"a", ', b'"b",', b'"a","', b'"b","']),
        (UNIQUE | SECOND_IS_A, b"", [b'["a",', b'["b",', b'["a","', b'["a", "']),
        ({"type": "object", "propertyNames": {"pattern": "^a*$"}}, b"{", [b'"":1,', b'"a":1,"']),
    ],
)
def test_an_item_within_the_token_counts(schema: Any, before: bytes, tokens: list[bytes]) -> None:
    ours, theirs = automata(schema, [*(bytes([b]) for b in range(256)), *tokens])
    state = ours.advance_bytes(ours.start, before)
    other = theirs.advance_bytes(theirs.start, before)
    masks = ours.mask(state), theirs.mask(other)
    shown = [[t for t in _tokens(m, [b""] * 256 + tokens) if t] for m in masks]
    assert shown[0] == shown[1]
    assert (masks[0] == masks[1]).all()


# -- items that are arrays or objects --------------------------------------------------------------

ABOUT_ZERO = re.compile(rb"[\[,:]\s*-?0(\.0*)?[eE][-+]?\d*$")
A_OR_B = {"enum": ["a", "b"]}
NESTED: dict[str, Any] = {
    "objects": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": STRING},
        "required": ["a"],
        "additionalProperties": False,
    },
    "objects with other keys": {"type": "object", "properties": {"a": {"enum": [1, 2]}}},
    "objects that begin alike": {
        "type": "object",
        "properties": {"a": {"const": "a"}, "b": {"type": "number"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "few objects": {
        "type": "object",
        "properties": {"a": {"enum": [1, "a"]}, "b": {"type": "boolean"}},
        "additionalProperties": False,
    },
    "objects with constant parts": {
        "type": "object",
        "properties": {"a": {"const": [1, {"b": "a"}]}, "b": A_OR_B},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "lists": {"type": "array", "items": {"type": "integer"}},
    "lists of unique items": UNIQUE | {"items": {"enum": [1, "a", True]}, "maxItems": 2},
    "objects in objects": {
        "type": "object",
        "properties": {
            "a": {"type": "object", "properties": {"a": STRING}},
            "b": {"type": "array", "items": {"type": "object", "properties": {"a": A_OR_B}}},
        },
    },
}
DEEP_PIECES = [
    b'},{"', b'"},{"a":', b"],[", b'{"a":1},{"a":', b"},", b'"a":1}', b"[1],", b"[1],[", b'a":"',
    b'1},{"a":1', b'":{"a":"', b'"}]', b'{"a":', b'{"b":[', b'],"b":"', b'a"},{"a', b",-", b"],[-",
]  # fmt: skip


def agree(ours: TokenAutomaton, theirs: TokenAutomaton, rng: random.Random, steps: int) -> None:
    """Follows a random text that likes to repeat itself; both masks are the same at every step.

    Where the search gives up it allows what it cannot judge.
    """
    texts = [t or b"" for t in ours.vocabulary.texts]
    likely = {t for t, text in enumerate(texts) if text in {*SIGNS, *PIECES, *DEEP_PIECES}}
    likely |= {t for t, text in enumerate(texts) if len(text) == 1 and text in SIGNS}
    nice = {
        t for t in likely if texts[t] in {b'"', b"a", b"1", b'{"', b'":', b",", b"}", b"]", b"["}
    }
    state, other, text = ours.start, theirs.start, b""
    written: list[int] = []
    for _ in range(steps):
        forget_given_up(ours, theirs)
        given_up = given_up_by(theirs)
        mask, expected = ours.mask(state), theirs.mask(other)
        many = _tokens(mask & ~expected, texts)
        assert len(many) <= given_up_by(ours), (text, many)
        for more in _tokens(expected & ~mask, texts):
            gave_up = given_up_by(theirs) > given_up
            assert gave_up or ABOUT_ZERO.search(text + more), (text, more, "too few")
        onward = [t for t in ours.allowed_tokens(state).tolist() if t in likely]
        if not onward:
            return
        again = [t for t in written if t in onward]
        usual = [t for t in onward if t in nice]
        chance = rng.random()
        choice = again if again and chance < 0.4 else usual if usual and chance < 0.9 else onward
        token = rng.choice(choice)
        written.append(token)
        text += texts[token]
        state, other = ours.advance(state, token), theirs.advance(other, token)
        assert state != ours.DEAD, text
        assert other != theirs.DEAD, text


@pytest.mark.usefixtures("hasty_search")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", NESTED)
def test_kernels_agree_with_the_search_within_items(name: str, seed: int) -> None:
    rng = random.Random(f"{name} {seed}")
    pieces = list(dict.fromkeys(PIECES + DEEP_PIECES))
    tokens = [*(bytes([b]) for b in range(256)), *(pieces if seed else rng.sample(pieces, 15))]
    ours, theirs = automata(UNIQUE | {"items": NESTED[name]}, tokens)
    for _ in range(5):
        agree(ours, theirs, rng, 26)


def schemas() -> st.SearchStrategy[Any]:
    scalars: st.SearchStrategy[Any] = st.sampled_from(
        [
            STRING,
            {"type": "integer"},
            {"enum": [1, "a"]},
            A_OR_B,
            {"const": "a"},
            {"type": "boolean"},
        ]
    )

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        arrays = st.builds(
            lambda items, unique, most: (
                {"type": "array", "items": items, "uniqueItems": unique} | most
            ),
            inner,
            st.booleans(),
            st.sampled_from([{}, {"maxItems": 2}, {"minItems": 2}]),
        )
        objects = st.builds(
            lambda parts, needed, more: {
                "type": "object",
                "properties": parts,
                "required": list(parts) if needed else [],
                "additionalProperties": more,
            },
            st.dictionaries(st.sampled_from(["a", "b"]), inner, min_size=1, max_size=2),
            st.booleans(),
            st.booleans(),
        )
        return st.one_of(arrays, objects)

    within = st.recursive(scalars, grow, max_leaves=4)
    return within.map(lambda items: UNIQUE | {"items": items})


@pytest.mark.usefixtures("hasty_search")
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(schema=schemas(), seed=st.integers(0, 1 << 20))
def test_kernels_agree_with_the_search_on_random_schemas(schema: Any, seed: int) -> None:
    rng = random.Random(seed)
    pieces = list(dict.fromkeys(PIECES + DEEP_PIECES))
    tokens = [*(bytes([b]) for b in range(256)), *rng.sample(pieces, 20)]
    grammar = Grammar.from_json_schema(schema)
    assume(grammar.ir.compare_items and not wants_marks(grammar.program))
    ours, theirs = automata(schema, tokens)
    for _ in range(2):
        agree(ours, theirs, rng, 22)


# -- what is known of one text serves others -------------------------------------------------------

SHORT_KEYS = {
    "type": "object",
    "propertyNames": {"pattern": "^[abc]{1,5}$"},
    "additionalProperties": STRING,
}
A_THEN_B = {"type": "object", "properties": {"a": STRING, "b": STRING}, "required": ["a", "b"]}
BRANCHING: dict[str, Any] = {
    "any object": {"type": "object"},
    "objects of short keys": {"type": "array", "items": SHORT_KEYS},
    "objects of two keys and others": A_THEN_B,
    "unique strings": UNIQUE | {"items": STRING},
    "unique short strings": UNIQUE | {"items": {"type": "string", "maxLength": 2}},
    "unique integers": UNIQUE | {"items": {"type": "integer"}},
    "unique pairs": UNIQUE | {"items": {"type": "array", "items": STRING}},
    "unique objects of short keys": UNIQUE | {"items": SHORT_KEYS},
}
TWICE = [
    b'":"","', b'":"","a', b'":"","a":"","', b'a":"","', b'","","', b'","a",', b'a","a","', b'",""]',
    b'"a","b","', b'","a","b"', b'\\","a', b'":"\\"","', b'"],["', b'"],["a","', b'","b":"', b'\\u00',
]  # fmt: skip


@pytest.mark.usefixtures("hasty_search")
@pytest.mark.parametrize("room", [None, 200, 20_000])
@pytest.mark.parametrize("name", BRANCHING)
def test_masks_do_not_depend_on_what_was_asked_before(
    name: str, room: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that branch, in any order, with states forgotten between: as if each were the first.

    With little room, containers or all texts are begun anew again and again.
    """
    if room is not None:
        monkeypatch.setattr(
            used_texts, "MAX_CONTAINER_BYTES" if room < 1_000 else "MAX_BYTES", room
        )
    rng = random.Random(name)
    pieces = list(dict.fromkeys(PIECES + TWICE))
    tokens = [*(bytes([b]) for b in range(256)), *pieces]
    ours, _ = automata(BRANCHING[name], tokens)
    likely = {tokens.index(t) for t in (*SIGNS, *pieces)}
    known: dict[int, bytes] = {ours.start: b""}
    for step in range(100):
        state = rng.choice(list(known)) if step % 3 else list(known)[-1]
        ours.mask(state)
        onward = [t for t in ours.allowed_tokens(state).tolist() if t in likely]
        if onward:
            token = rng.choice(onward)
            known[ours.advance(state, token)] = known[state] + tokens[token]
        if step % 40 == 39:
            kept = rng.sample(sorted(known), len(known) // 2)
            ours.trim(kept)
            known = {state: known[state] for state in (ours.start, *kept)}
    for state, text in rng.sample(sorted(known.items()), min(15, len(known))):
        fresh, bare = automata(BRANCHING[name], tokens)
        other = fresh.advance_bytes(fresh.start, text)
        mask, expected = ours.mask(state), fresh.mask(other)
        if not given_up_by(ours) and not given_up_by(fresh):
            assert (mask == expected).all(), text
        exact = bare.mask(bare.advance_bytes(bare.start, text))
        assert len(_tokens(expected & ~exact, tokens)) <= given_up_by(fresh), text
        for more in _tokens(exact & ~expected, tokens):
            assert given_up_by(bare) or ABOUT_ZERO.search(text + more), (text, more)


@pytest.mark.parametrize("texts", [4, 400])
def test_restricting_leaves_the_mask_of_the_rules_as_it_is(texts: int) -> None:
    """Masks that lose no token are the very row of the rules; the others are rows of their own."""
    ours, _ = automata(UNIQUE | {"items": STRING}, [bytes([b]) for b in range(256)])
    core = core_of(ours)
    names = "".join(f'"{i}",' for i in range(texts))
    inside = ours.advance_bytes(ours.start, f'[{names}"'.encode())
    rules = core.rules.mask(core._places.at[inside][0])
    before = rules.copy()
    assert ours.mask(inside) is rules
    repeated = ours.advance_bytes(inside, b"3")
    assert ours.mask(repeated) is not rules
    assert not _has_token(ours.mask(repeated), ord('"'))
    assert _has_token(ours.mask(inside), ord('"'))
    assert (rules == before).all()
    assert not ours.mask(repeated).flags.writeable


def _has_token(mask: Any, token: int) -> bool:
    return bool(mask[token >> 5] >> (token & 31) & 1)


# -- what looks ahead remember ---------------------------------------------------------------------

FLAGS = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}, "b": {"const": "a"}, "c": {"enum": [1, 10, 0]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
DEAD_ENDS: dict[str, Any] = {
    "flags": UNIQUE | {"items": FLAGS},
    "few of any kind": UNIQUE | {"items": {"enum": [1, 10, 0, True, False, "a", "ab", None]}},
    "few numbers": UNIQUE | {"items": {"enum": [0, 1, 10, 100, 0.5, -1, -0.5]}},
    "few keys": {
        "type": "object",
        "propertyNames": {"enum": ["a", "ab", "b"]},
        "additionalProperties": {"type": "boolean"},
    },
    "keys of one letter": SCHEMAS["keys of one letter"],
    "unique lists": SCHEMAS["unique lists"],
    "few objects": UNIQUE | {"items": NESTED["few objects"]},
    "objects that begin alike": UNIQUE | {"items": NESTED["objects that begin alike"]},
}
BLANKS = [b" ", b"  ", b" \n", b"\n\n", b"\t ", b" " * 8, b", ", b",  ", b": ", b' "', b'  "']
BEGINNINGS = [b"f", b"fa", b"false", b"t", b"tr", b"true", b" true", b" false", b"0.0", b"00", b"-"]


def without_memory(automaton: TokenAutomaton) -> TokenAutomaton:
    used = core_of(automaton).used
    assert used is not None
    used._context[used_texts.u.N_FORGETS] = 1
    return automaton


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    schema=st.one_of(st.sampled_from(list(DEAD_ENDS.values())), schemas()),
    seed=st.integers(0, 1 << 20),
)
def test_what_looks_ahead_remember_changes_no_mask(schema: Any, seed: int) -> None:
    """Texts that branch, asked for in any order: with what is remembered and, afresh, without."""
    rng = random.Random(seed)
    pieces = list(dict.fromkeys([*BLANKS, *BEGINNINGS, *rng.sample(PIECES + DEEP_PIECES, 20)]))
    pieces = [piece for piece in pieces if len(piece) > 1]
    tokens = [*(bytes([b]) for b in range(256)), *pieces]
    grammar = Grammar.from_json_schema(schema, numbers="any")
    memory = grammar.memory()
    assume(memory is not None and not wants_marks(grammar.program))
    ours, theirs = automata(schema, tokens)[0], without_memory(automata(schema, tokens)[0])
    likely = {tokens.index(t) for t in (*SIGNS, *pieces)}
    known: dict[int, int] = {ours.start: theirs.start}
    for step in range(40):
        state = rng.choice(list(known)) if step % 3 else list(known)[-1]
        forget_given_up(ours, theirs)
        mask, expected = ours.mask(state), theirs.mask(known[state])
        if not given_up_by(ours) and not given_up_by(theirs):
            assert (mask == expected).all()
        onward = [t for t in ours.allowed_tokens(state).tolist() if t in likely]
        if onward:
            token = rng.choice(onward)
            after = theirs.advance(known[state], token)
            assert after != theirs.DEAD or given_up_by(ours)
            if after != theirs.DEAD:
                known[ours.advance(state, token)] = after
        if step == 25:
            kept = rng.sample(sorted(known), len(known) // 2)
            ours.trim(kept)
            known = {state: known[state] for state in (ours.start, *kept)}


def test_places_are_explored_once() -> None:
    """Tokens that begin alike, with blanks behind them, lead to the same dead ends."""
    tokens = [*(bytes([b]) for b in range(256)), *BLANKS[1:], b"fa", b"false", b" false", b" true"]
    schema = UNIQUE | {"items": FLAGS | {"properties": FLAGS["properties"] | {"c": False}}}
    ours, theirs = automata(schema, tokens)[0], without_memory(automata(schema, tokens)[0])
    text = b'[{"a": true, "b": "a"}, {"a":'
    work = []
    masks = []
    for automaton in (ours, theirs):
        state = automaton.advance_bytes(automaton.start, text)
        masks.append(automaton.mask(state))
        used = core_of(automaton).used
        assert used is not None
        work.append(int(used._context[used_texts.u.N_WORK]))
    assert not (masks[0] & ~masks[1]).any()
    assert given_up_by(ours) == 0
    assert _has_token(masks[0], ord("f"))
    assert not _has_token(masks[0], ord("t"))
    assert 0 < 4 * work[0] < work[1]


# -- whether there is any text ---------------------------------------------------------------------


@pytest.mark.parametrize("order", ["schema", "any"])
@pytest.mark.parametrize(
    ("schema", "has_text"),
    [
        (UNIQUE | {"items": {"enum": [1, 2]}, "minItems": 2}, True),
        (UNIQUE | {"prefixItems": [{"const": 1}, {"enum": [1, 2]}], "minItems": 2}, True),
        (UNIQUE | {"prefixItems": [{"enum": [1, 2]}, {"const": 1}], "minItems": 2}, True),
        (UNIQUE | {"prefixItems": [{"const": [1]}, {"const": [1]}], "minItems": 2}, False),
        (UNIQUE | {"items": {"enum": [1, 2]}, "minItems": 3}, False),
        ({"type": "object", "propertyNames": {"enum": ["a", "b"]}, "minProperties": 2}, True),
        ({"type": "object", "properties": {"a": True}, "required": ["a", "bb"]}, True),
    ],
)
def test_there_is_a_text_or_none(schema: Any, has_text: bool, order: Any) -> None:
    tokens = [*(bytes([b]) for b in range(256)), None]
    vocabulary = Vocabulary.from_tokens(tokens, [256])
    grammar = Grammar.from_json_schema(schema, property_order=order)
    if not has_text:
        with pytest.raises(GrammarError, match="no text satisfies"):
            TokenAutomaton(grammar, vocabulary)
        return
    core = core_of(TokenAutomaton(grammar, vocabulary))
    assert core.used is not None
    text = core.used.find_text(core.rules.start)
    assert text is not None
    assert core.rules.accepts(core.rules.after_bytes(core.rules.start, text))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(schema=schemas(), order=st.sampled_from(["schema", "any"]))
def test_a_text_that_is_found_is_one_of_the_rules(schema: Any, order: Any) -> None:
    """And looking for it leaves steps and masks as they are."""
    grammar = Grammar.from_json_schema(schema, property_order=order)
    assume(grammar.memory() is not None)
    vocabulary = Vocabulary.from_tokens([*(bytes([b]) for b in range(256)), None], [256])
    ours = core_of(TokenAutomaton(grammar, vocabulary))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search.Pairs, "reaches_end", lambda pairs, start: True)
        fresh = core_of(TokenAutomaton(grammar, vocabulary))
    assume(ours.used is not None)
    assert ours.used is not None
    text = ours.used.find_text(ours.rules.start)
    if text is not None:
        assert ours.rules.accepts(ours.rules.after_bytes(ours.rules.start, text))
    ours_at, fresh_at = ours.start, fresh.start
    for byte in text or b"":
        assert (ours.mask(ours_at) == fresh.mask(fresh_at)).all()
        if not _has_token(ours.mask(ours_at), byte):
            break
        ours_at, fresh_at = ours.after_token(ours_at, byte), fresh.after_token(fresh_at, byte)
