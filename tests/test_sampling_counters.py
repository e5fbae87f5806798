"""Samples of parts with large counters, which are walked on without being expanded."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import BudgetError, Grammar, LimitExceeded, Limits, sampling
from grammars.compiling.automata import Dfa
from grammars.ir import Literal, Not, alt, both, chars, repeat, seq, single_rule, text
from grammars.sampling import _Walks

# --- distances -----------------------------------------------------------------------------------


@st.composite
def counted(draw: st.DrawFn) -> Dfa:
    """Any small automaton, whether or not a compiler would leave it counted."""
    states = draw(st.integers(1, 5))
    edge = st.tuples(st.integers(0, states - 1), st.sampled_from([0, 0, 1]))
    rows = [draw(st.lists(edge, max_size=3)) for _ in range(states)]
    edges = [[(1 << 97 + i, t, inc) for i, (t, inc) in enumerate(row)] for row in rows]
    accept = draw(st.lists(st.booleans(), min_size=states, max_size=states))
    low = draw(st.integers(0, 40))
    high = draw(st.none() | st.integers(low, low + 30))
    return Dfa(0, accept, edges, True, low, high)


def shortest(dfa: Dfa) -> dict[tuple[int, int], float]:
    """The same distances by search over all pairs of state and count."""
    top = dfa.count_min if dfa.count_max is None else dfa.count_max
    before: dict[tuple[int, int], list[tuple[int, int]]] = {}
    places = [(q, n) for q in range(len(dfa)) for n in range(top + 1)]
    for q, n in places:
        for _, t, inc in dfa.edges[q]:
            count = min(n + inc, top) if dfa.count_max is None else n + inc
            if count <= top:
                before.setdefault((t, count), []).append((q, n))
    out = {place: float("inf") for place in places}
    todo = deque((q, n) for q, n in places if dfa.accept[q] and n >= dfa.count_min)
    out.update(dict.fromkeys(todo, 0.0))
    while todo:
        place = todo.popleft()
        for earlier in before.get(place, ()):
            if out[earlier] == float("inf"):
                out[earlier] = out[place] + 1
                todo.append(earlier)
    return out


@settings(max_examples=400, deadline=None)
@given(counted())
def test_distances_are_those_of_the_expanded_automaton(dfa: Dfa) -> None:
    walks = _Walks(dfa)
    for (state, count), distance in shortest(dfa).items():
        assert walks.distance(state, count) == distance


def ring(*lengths: int) -> Dfa:
    """Loops of so many bytes, the last one counts; each may be entered from the one before."""
    edges: list[list[tuple[int, int, int]]] = []
    accept: list[bool] = []
    for i, length in enumerate(lengths):
        first = len(edges)
        for at in range(length):
            last = at == length - 1
            edges.append([(1 << 97 + i, first if last else first + at + 1, int(last))])
            accept.append(at == 0)
        if i < len(lengths) - 1:
            edges[first].append((1 << 120, first + length, 0))
    return Dfa(0, accept, edges, True, 10**6, 10**6 + 10)


@pytest.mark.parametrize("lengths", [(1,), (7,), (1, 2), (2, 1), (3, 5, 4), (9, 2, 11)])
def test_counts_in_the_millions_take_few_rows(lengths: tuple[int, ...]) -> None:
    dfa = ring(*lengths)
    walks = _Walks(dfa)
    assert walks.distance(*walks.start) == min(
        10**6 * length + i for i, length in enumerate(lengths)
    )
    assert len(walks._short._rows) < 200


# --- samples -------------------------------------------------------------------------------------

WORDS = r"^$|(^(?:\S+\s+){0,199}\S+$)"
MANY = "^(ab|c){2,100000}$"
SCHEMAS: dict[str, tuple[dict[str, object], int]] = {
    "a million": ({"type": "string", "maxLength": 1_000_000}, 2),
    "a million of a pattern": (
        {"type": "string", "maxLength": 1_000_000, "pattern": "^x+( [a-zé]+)*$"}, 3),
    "five thousand": ({"type": "string", "minLength": 5_000}, 5_002),
    "five thousand of a pattern": (
        {"type": "string", "minLength": 5_000, "pattern": "^x+( [a-zé]+)*$"}, 5_002),
    "both": (
        {"type": "string", "minLength": 5_000, "maxLength": 1_000_000, "pattern": "[.!?]$"}, 5_002),
    "exactly": (
        {"type": "string", "minLength": 5_000, "maxLength": 5_000, "pattern": "^é|à$"}, 5_003),
    "two kinds of letters": (
        {"type": "string", "minLength": 5_000, "pattern": "^é*(-a*)?$"}, 5_002),
    "words": ({"type": "string", "minLength": 0, "pattern": WORDS}, 2),
    "words and length": (
        {"type": "string", "maxLength": 300, "pattern": r"^(?:\S+\s+){0,29}\S+$"}, 3),
    "items": ({"type": "string", "pattern": MANY}, 4),
    "items but some": ({"type": "string", "pattern": MANY, "not": {"enum": ["cc", "abc"]}}, 5),
    "keys": (
        {"type": "object", "patternProperties": {"^(ab|c){2,1000}$": {"type": "string", "pattern": WORDS}},
         "additionalProperties": False, "minProperties": 2}, 18),
    "different items": (
        {"type": "array", "uniqueItems": True, "minItems": 3,
         "items": {"type": "string", "maxLength": 1_000_000, "pattern": "^(ab|c)*$"}}, 13),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_samples_of_schemas(name: str) -> None:
    schema, _ = SCHEMAS[name]
    grammar = Grammar.from_json_schema(schema)
    for seed in range(6):
        data = grammar.sample(seed)
        assert grammar.accepts(data), data
        assert grammar.sample(seed) == data, "the seed decides"
    assert len({grammar.sample(seed) for seed in range(12)}) > 3


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_bound_is_kept(name: str) -> None:
    schema, least = SCHEMAS[name]
    grammar = Grammar.from_json_schema(schema, whitespace="compact")
    memory = schema["type"] != "string"  # shorter texts repeat a key or an item
    for most in (least + 2, least + 7) if memory else (least, least + 1, least + 40):
        data = grammar.sample(most, max_bytes=most)
        assert len(data) <= most
        assert grammar.accepts(data)
    if not memory:
        with pytest.raises(BudgetError, match=f"has {least} bytes") as caught:
            grammar.sample(0, max_bytes=least - 1)
        assert caught.value.needed == least


UNITS = st.sampled_from(["a", "é", "[ab]", "[a-zé]", "ab", "(ab|c)", r"(\S+\s)", "(x|yé|zzz)"])


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """A few repetitions in a row, one of them perhaps long."""
    parts = draw(st.lists(st.tuples(UNITS, st.sampled_from(["", "?", "*", "+"])), max_size=2))
    low = draw(st.integers(0, 300))
    bound = draw(st.sampled_from(["", str(low + 900), str(low)]))
    parts.insert(draw(st.integers(0, len(parts))), (draw(UNITS), f"{{{low},{bound}}}"))
    return "".join(map("".join, parts))


FEW = Limits(max_dfa_states=4_000)  # what needs more is told soon


@settings(max_examples=25, deadline=None)
@given(patterns(), st.integers(0, 400), st.sampled_from([0, 5, 100_000]), st.integers(0, 99))
def test_samples_of_patterns_with_bounds(pattern: str, low: int, more: int, seed: int) -> None:
    schema = {
        "type": "string",
        "pattern": f"^{pattern}$",
        "minLength": low,
        "maxLength": low + more,
    }
    try:
        grammar = Grammar.from_json_schema(schema, limits=FEW)
    except LimitExceeded:
        return
    if grammar.is_empty:
        return
    data = grammar.sample(seed)
    assert grammar.accepts(data), data
    assert len(grammar.sample(seed, max_bytes=len(data))) <= len(data)
    with pytest.raises(BudgetError) as caught:
        grammar.sample(seed, max_bytes=1)
    least = caught.value.needed
    assert len(grammar.sample(seed, max_bytes=least)) == least
    if least > 2:
        with pytest.raises(BudgetError):
            grammar.sample(seed, max_bytes=least - 1)


def test_samples_of_expressions() -> None:
    many = repeat(alt(text("ab"), text("c")), 2, 100_000)
    letters = repeat(chars([(0x61, 0x7A), (0xE0, 0xFF)]))
    grammar = Grammar(single_rule(seq(Literal(b"<"), both(many, Not(text("cc"))), Literal(b">"))))
    assert grammar.sample(3, max_bytes=5) in (b"<abc>", b"<cab>", b"<ccc>")
    for ir in (both(many, letters), both(letters, repeat(chars([(0x61, 0xE0)]), 70_000, None))):
        made = Grammar(single_rule(ir))
        rng = random.Random(1)
        for _ in range(3):
            assert made.accepts(made.sample(rng.randrange(100)))


def test_too_many_distances_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room is expanded, within the limits there are."""
    monkeypatch.setattr(sampling, "_CELLS", 100)
    schema = {"type": "string", "pattern": "^[a-z]+( [a-z]+)*$"}
    small = Grammar.from_json_schema({**schema, "minLength": 500})
    assert small.accepts(small.sample(1))
    with pytest.raises(LimitExceeded, match="expanding a counted repetition"):
        Grammar.from_json_schema({**schema, "minLength": 100_000}).sample(1)
