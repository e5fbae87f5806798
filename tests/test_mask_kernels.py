"""Masks leave out most of the trie; here they are compared with every token's bytes, one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constrain import TokenAutomaton, Vocabulary
from constrain.engine.jit import kernels as k
from constrain.engine.jit import mask_kernels as m
from constrain.masks import wide
from constrain.masks.rule_survey import RuleSurvey
from constrain.masks.subtrees import Subtrees
from constrain.masks.wide import Ends, Shapes, lexeme_of
from constrain.vocabulary.trie import Trie
from grammars import Grammar, LimitExceeded
from grammars.limits import Limits
from grammars.program import UNBOUNDED, Program

PIECES = [*list('ab "\\\n,]}:7/._*éß文😀'), "zz"]
BROKEN = [
    b"\xc3",
    b"\xa9",
    b"\xe6\x96",
    b"\x87",
    b"\xf0\x9f",
    b"\x98\x80",
    b"\xff",
    b"\xed\xa0",
    b"\xc0",
]


def token_texts() -> st.SearchStrategy[bytes]:
    """Words, signs, characters of two to four bytes, and parts of them."""
    parts = st.one_of(st.sampled_from([p.encode() for p in PIECES]), st.sampled_from(BROKEN))
    return st.lists(parts, min_size=1, max_size=5).map(b"".join)


@st.composite
def vocabularies(draw: st.DrawFn) -> Vocabulary:
    """All single bytes, and some longer tokens that share beginnings."""
    texts = draw(st.lists(token_texts(), max_size=60))
    stems = draw(st.lists(token_texts(), min_size=1, max_size=3))
    texts += [stem + text for stem in stems for text in texts[:12]]
    tokens: list[bytes | None] = [bytes([b]) for b in range(256)]
    return Vocabulary.from_tokens([*tokens, *texts, None], [256 + len(texts)])


# -- summaries of subtrees -------------------------------------------------------------------------


@given(st.lists(token_texts(), min_size=1, max_size=30))
@settings(max_examples=150, deadline=None)
def test_summaries_of_subtrees(texts: list[bytes]) -> None:
    trie = Trie.build(texts)
    found = Subtrees.of(trie)
    for node, below in enumerate(_texts_below(trie)):
        occurring = set(b"".join(below))
        words = found.ascii_bytes[2 * node : 2 * node + 2].tolist()
        assert {b for b in range(128) if words[b // 64] >> b % 64 & 1} == {
            b for b in occurring if b < 128
        }
        assert bool(found.flags[node] & m.HIGH_BELOW) == any(b >= 128 for b in occurring)
        assert bool(found.flags[node] & 1) == all(_begins_well(text) for text in below)
        deepest = int(trie.depth[node]) + max(map(len, below), default=0)
        assert found.deepest[node] == deepest


@given(st.lists(token_texts(), max_size=30))
@settings(max_examples=100, deadline=None)
def test_records_of_nodes_level_by_level(texts: list[bytes]) -> None:
    """Children stand side by side, from a record's first child up to that of the next one."""
    trie = Trie.build(texts)
    found = Subtrees.of(trie)
    records, nodes = found.records
    assert sorted(nodes.tolist()) == list(range(trie.node_count))
    depths = trie.depth[nodes].tolist()
    assert depths == sorted(depths)
    parents = _parents(trie)
    for place, node in enumerate(nodes.tolist()):
        first, end = (int(records[at, 1]) & 0xFFFFFFFF for at in (place, place + 1))
        children = [n for n in range(1, trie.node_count) if parents[n] == node]
        assert nodes[first:end].tolist() == children
        word, token = int(records[place, 0]), int(records[place, 1]) >> 32
        assert word & 0xFF == trie.byte[node]
        assert word >> 8 & 0xFFFF == found.deepest[node] - trie.depth[node]
        assert word >> 24 == found.flags[node]
        assert token == trie.token_start[node]
        assert records[place, 2:].tolist() == found.ascii_bytes[2 * node : 2 * node + 2].tolist()


def _texts_below(trie: Trie) -> list[list[bytes]]:
    """For each node the texts that lead from it to the nodes below."""
    out: list[list[bytes]] = [[] for _ in range(trie.node_count)]
    path: list[tuple[int, bytes]] = [(0, b"")]
    for node in range(1, trie.node_count):
        del path[int(trie.depth[node]) :]
        path.append((node, path[-1][1] + bytes([trie.byte[node]])))
        for above, text in path[:-1]:
            out[above].append(path[-1][1][len(text) :])
    return out


def _begins_well(text: bytes) -> bool:
    """Whether a text is well-formed UTF-8 or the beginning of it, by Python's own decoder."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


# -- masks -----------------------------------------------------------------------------------------

GRAMMARS = {
    "JSON string": lambda: Grammar.from_json_schema({"type": "string"}),
    "short string": lambda: Grammar.from_json_schema({"type": "string", "maxLength": 6}),
    "long string": lambda: Grammar.from_json_schema(
        {"type": "string", "minLength": 3, "maxLength": 500}
    ),
    "pattern": lambda: Grammar.from_json_schema({"type": "string", "pattern": "^[^/]*/[ab]+$"}),
    "pattern somewhere": lambda: Grammar.from_json_schema(
        {"type": "string", "pattern": "[a-f0-9]{3}|z_é"}
    ),
    "two patterns": lambda: Grammar.from_json_schema(
        {"type": "string", "allOf": [{"pattern": "ab*a"}, {"pattern": "^[^7]"}], "maxLength": 300}
    ),
    "any JSON": lambda: Grammar.from_json_schema({}),
    "counted parts": lambda: Grammar.from_regex(
        r"[a-z_]{1,14}[*7]([a-z ]{2,5}|é{3})*(\.([a-z]([a-z_]{0,8}[a-z])?))*"
    ),
    "short parts": lambda: Grammar.from_json_schema(
        {"type": "string", "pattern": r"^([a-z_]([a-z7 ]{0,9}[a-z])?\.?)+$", "maxLength": 40}
    ),
    "names": lambda: Grammar.from_regex(r"[a-z_]+(\.[a-z_]+)*,( [a-z_]+)*"),
    "counted words": lambda: Grammar.from_json_schema(
        {"type": "string", "pattern": r"^(?:\S+\s+){0,9}\S+$"}
    ),
    "few words": lambda: Grammar.from_json_schema(
        {"type": "string", "pattern": r"^(?:\S+\s+){0,5}\S+$", "maxLength": 30}
    ),
    "two readings": lambda: Grammar.from_gbnf("""root ::= "'" [^/\\n] any? end | "'" any "'"
any ::= [^\\n]*
end ::= [^/\\n]? "'" """),
    "letters of all alphabets": lambda: Grammar.from_regex(r"\w{2,400}( \w+)?"),
    "anything": lambda: Grammar.from_regex(r"(?s).*\*.*"),
    "line": lambda: Grammar.from_regex(r".*"),
    "bytes": lambda: Grammar.from_gbnf('root ::= ([^\\x00] | "\\n")* "7"'),
    "strings in an object": lambda: Grammar.from_json_schema(
        {
            "type": "object",
            "properties": {
                "a": {"type": "string"},
                "b": {"type": "string", "pattern": "^[ab_é7]+(/[ab]+)?$"},
                "z": {"enum": ["ab", "abz", "z/é", 7]},
            },
            "required": ["a", "b"],
            "additionalProperties": {"anyOf": [{"enum": ["abab", "zz"]}, {"type": "string"}]},
        }
    ),
    "texts and calls": lambda: (
        Grammar.from_gbnf("""root ::= ([a-z_7./ ]* ":" item [^\\n":]* ",")* "]"
item ::= "[" root | [a-z]* "." [^b]* "é" """)
    ),
    "code": lambda: Grammar.from_gbnf(
        "\n".join(
            (
                "root ::= (line gap)*",
                "line ::= name gap ':' gap (name | text | line '/')".replace("'", '"'),
                "name ::= [a-z_] [a-z_0-9]*",
                'text ::= "\\"" [^"\\\\]* "\\""',
                'gap ::= " "* | "/*" [^*]* "*/"',
            )
        )
    ),
}


@cache
def grammar(name: str) -> Grammar:
    return GRAMMARS[name]()


def allowed_by_bytes(automaton: TokenAutomaton, state: int) -> set[int]:
    texts = automaton.vocabulary.texts
    return {
        token
        for token, text in enumerate(texts)
        if text and automaton.advance_bytes(state, text) != automaton.DEAD
    }


def allowed(automaton: TokenAutomaton, state: int) -> set[int]:
    return {
        t
        for t in automaton.allowed_tokens(state).tolist()
        if t not in automaton.vocabulary.eos_token_ids
    }


@pytest.mark.parametrize("name", GRAMMARS)
@given(vocabularies(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=12, deadline=None)
def test_masks(name: str, vocabulary: Vocabulary, seed: int, all_wide: bool) -> None:
    automaton = TokenAutomaton(grammar(name), vocabulary)
    if all_wide:  # as if walks were too long to try
        automaton._core.rules.pool.wide[:] = k.WIDE
    rng = random.Random(seed)
    state = automaton.start
    for _ in range(8):
        found = allowed(automaton, state)
        assert found == allowed_by_bytes(automaton, state)
        if not found:
            break
        state = automaton.advance(state, rng.choice(sorted(found)))


@pytest.mark.parametrize("room", range(6))
@pytest.mark.parametrize("name", ["strings in an object", "JSON string", "any JSON", "names"])
def test_masks_while_room_runs_out(name: str, room: int) -> None:
    """Wherever a kernel finds no room for a state, it is called again, and nothing is lost."""
    ends = ['"', '",', '"}', '","', '"]', "_.", ".a", ', a"', '"}]', 'a",', '": "', '":']
    tokens = [*(bytes([b]) for b in range(256)), *(text.encode() for text in ends)]
    vocabulary = Vocabulary.from_tokens([*tokens, None], [len(tokens)])
    texts = {
        "strings in an object": b'{"a":"x","b":"ab/a","z":"abz","c":"ab"',
        "any JSON": b'[{"a":"b","c":[1,"x"]}',
        "names": b"a_b.c, d",
    }
    text = texts.get(name, b'"ab a')
    for end in range(len(text) + 1):
        automaton = TokenAutomaton(grammar(name), vocabulary)
        state = automaton.advance_bytes(automaton.start, text[:end])
        pool = automaton._core.rules.pool
        pool.wide[:] = k.WIDE
        held = int(pool.context[k.N_ITEMS])
        pool.context[k.N_ITEM_ROOM] = held  # as much as is copied
        pool._room_items(held + room)
        assert allowed(automaton, state) == allowed_by_bytes(automaton, state)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "name", ["JSON string", "names", "strings in an object", "texts and calls"]
)
def test_states_that_text_stays_among(name: str, strict: bool) -> None:
    """What kernels read of a rule, compared with the definition, state by state."""
    program = grammar(name).program
    shapes = Shapes(program)
    found = 0
    edges_of = cache(partial(_edges_by_byte, program))
    for q in range(1, min(program.states, 80)):
        shape, inner = (
            shapes.inner(q, strict=strict),
            _inner_by_definition(program, edges_of, q, strict),
        )
        if shape is None:
            assert inner is None or len(inner) > 200
            continue
        assert inner is not None
        found += 1
        table = shape.table.reshape(-1, 256)
        for number, state in enumerate(shape.states):
            targets = {(b, int(t) >> 1) for b, t in enumerate(table[number].tolist()) if t >= 0}
            if state not in inner:
                assert not targets
                assert number > 0
                continue
            edges = edges_of(state)
            assert {b for b, _ in targets} == set(edges)
            for byte, number_after in targets:
                after = shape.states[number_after]
                kept = edges[byte] & inner
                if strict or kept:
                    assert after in (kept or edges[byte])
                else:
                    assert after not in inner  # one stands for all behind
        numbers = [n for s, n in zip(shape.states, shape.accepts.tolist(), strict=True) if n]
        behind = [s for s in shape.states if s not in inner]
        assert numbers == ([*range(1, len(behind) + 1)] if strict else [])
    assert found


def _edges_by_byte(program: Program, q: int) -> dict[int, set[int]]:
    """The states that each byte leads to."""
    edges: dict[int, set[int]] = {}
    for e in range(program.edge_offset[q], program.edge_offset[q + 1]):
        for byte in np.flatnonzero(program.byte_class[:256] == program.edge_class[e]).tolist():
            edges.setdefault(byte, set()).add(int(program.edge_target[e]) >> 1)
    return edges


def _inner_by_definition(
    program: Program, edges_of: Callable[[int], dict[int, set[int]]], start: int, strict: bool
) -> set[int] | None:
    """See ``mask_kernels.read_inner``."""

    def proper(q: int) -> bool:
        edges = edges_of(q)
        return bool(edges) and not (
            strict
            and (
                program.call_offset[q] < program.call_offset[q + 1]
                or program.bag_of[q] >= 0
                or program.accept_from[q] != UNBOUNDED
                or any(len(after) > 1 for after in edges.values())
            )
        )

    def after(q: int) -> set[int]:
        return {t for targets in edges_of(q).values() for t in targets}

    if not proper(start):
        return None
    text, waiting = {start}, [start]
    while waiting:
        for q in after(waiting.pop()) - text:
            if proper(q) and len(edges_of(q)) >= 10:
                text.add(q)
                waiting.append(q)
    near = dict.fromkeys(text, 0)
    for distance in range(1, 18):
        for q in [q for q, d in near.items() if d == distance - 1 and (d == 0 or proper(q))]:
            for target in after(q):
                near.setdefault(target, distance)
    detours = {q for q, d in near.items() if 0 < d < 16 and proper(q)}
    while True:
        wrong = {q for q in detours if not after(q) <= detours | text}
        if not wrong:
            return text | detours
        detours -= wrong


@pytest.mark.parametrize("most", [1, 3, 9, 27])
@pytest.mark.parametrize("name", ["few words", "two patterns", "short parts", "counted parts"])
def test_masks_of_automata_that_are_read_in_part(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large automata the nearest states are read; walks that come upon others begin anew."""
    monkeypatch.setattr(wide, "MAX_SHAPE", 1)
    monkeypatch.setattr(wide, "MAX_LARGE_SHAPE", most)
    unread: list[int] = []
    note_unread = Shapes.note_unread
    monkeypatch.setattr(
        Shapes, "note_unread", lambda self, q: (unread.append(q), note_unread(self, q))[1]
    )
    rng = random.Random(most)
    texts = ["".join(rng.choices(PIECES, k=rng.randrange(2, 5))).encode() for _ in range(60)]
    tokens = [*(bytes([b]) for b in range(256)), *texts]
    for seed in range(6):
        vocabulary = Vocabulary.from_tokens([*tokens, None], [len(tokens)])
        automaton = TokenAutomaton(grammar(name), vocabulary)
        automaton._core.rules.pool.wide[:] = k.WIDE
        state = automaton.start
        rng = random.Random(seed)
        for _ in range(12):
            found = allowed(automaton, state)
            assert found == allowed_by_bytes(automaton, state)
            if not found:
                break
            longer = [t for t in found if t >= 256] or sorted(found)
            state = automaton.advance(state, rng.choice(sorted(longer)))
    assert unread or most > 3


def test_walks_hold_for_counts_from_which_no_token_comes_near_a_bound() -> None:
    """All masks along many words are right, and most of them need no walk of their own."""
    tokens = [*(bytes([b]) for b in range(256)), b"a b", b" a a", b"\n a b a", b"bb ", b"a a a a a"]
    vocabulary = Vocabulary.from_tokens([*tokens, None], [len(tokens)])
    pattern = Grammar.from_json_schema({"type": "string", "pattern": r"^(?:\S+\s+){0,39}\S+$"})
    automaton = TokenAutomaton(pattern, vocabulary)
    masks = automaton._core.rules.rule_masks
    state = automaton.advance_bytes(automaton.start, b'"a')
    for _ in range(45):
        assert allowed(automaton, state) == allowed_by_bytes(automaton, state)
        after = automaton.advance_bytes(state, b" a")
        if after == automaton.DEAD:
            break
        state = after
    walked = {n for _, n in masks._answers}
    assert after == automaton.DEAD
    assert max(walked) >= 35
    assert len(walked) < 20


@given(vocabularies(), st.sampled_from(["short string", "long string", "letters of all alphabets"]))
@settings(max_examples=40, deadline=None)
def test_tokens_in_groups_of_their_ends(vocabulary: Vocabulary, name: str) -> None:
    automaton = TokenAutomaton(grammar(name), vocabulary)
    for q in range(1, automaton.program.states):
        shape = automaton.shape(q)
        if shape is None:
            continue
        lexeme = lexeme_of(vocabulary, shape)
        ends = lexeme.ends
        truth = {}
        for token, text in enumerate(vocabulary.texts):
            at, count = 0, 0
            for byte in text:
                target = int(shape.table[256 * at + byte])
                if target < 0:
                    break
                at, count = target >> 1, count + (target & 1)
            else:
                if text:
                    truth[token] = (at, count)
        found = zip(ends.tokens.tolist(), ends.state.tolist(), ends.count.tolist(), strict=True)
        assert {token: (s, n) for token, s, n in found} == truth
        _check_groups(ends, truth)
        flags = np.unpackbits(lexeme.mask.view(np.uint8), bitorder="little")
        assert set(np.flatnonzero(flags).tolist()) == set(truth)
        assert lexeme.longest >= max((n for _, n in truth.values()), default=0)


def _check_groups(ends: Ends, truth: dict[int, tuple[int, int]]) -> None:
    for g, group in enumerate(ends.groups.tolist()):
        members = ends.by_group[ends.starts[g] : ends.starts[g + 1]].tolist()
        assert sorted(members) == sorted(t for t, end in truth.items() if end == tuple(group))


# -- bounded work ----------------------------------------------------------------------------------

AMBIGUOUS = 'root ::= x*\nx ::= [^\\x00]+ | [a-z ]+ | [^0-9]* "." | x x'


@given(vocabularies(), st.integers(300, 20_000))
@settings(max_examples=30, deadline=None)
def test_masks_that_are_cut_short(vocabulary: Vocabulary, work: int) -> None:
    """They hold right tokens only, short ones first, and the automaton says so."""
    exact = Grammar.from_gbnf(AMBIGUOUS)
    automaton = TokenAutomaton(exact, vocabulary, Limits(max_mask_work=work))
    state = automaton.advance_bytes(automaton.start, b"a b")
    try:
        found = allowed(automaton, state)
    except LimitExceeded:  # not even one token can be judged
        return
    truth = allowed_by_bytes(automaton, state)
    assert found <= truth
    assert found
    complete = not any("max_mask_work" in sentence for sentence in automaton.approximations)
    assert found == truth or not complete


@pytest.mark.parametrize("work", [2_000, 10_000, 50_000])
def test_work_is_bounded(work: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kernels count is at most what is allowed, and a step more."""
    texts: list[bytes | None] = [bytes([a, b]) for a in range(97, 123) for b in range(97, 123)]
    vocabulary = Vocabulary.from_tokens([*[bytes([b]) for b in range(256)], *texts, None], [932])
    automaton = TokenAutomaton(Grammar.from_gbnf(AMBIGUOUS), vocabulary, Limits(max_mask_work=work))
    pool = automaton._core.rules.pool
    spent: list[int] = []
    allow_work = pool.allow_work

    def noted(amount: int | None) -> None:
        spent.append(int(pool.context[k.N_WORK]))
        allow_work(amount)

    monkeypatch.setattr(pool, "allow_work", noted)
    state = automaton.advance_bytes(automaton.start, b"a b")
    automaton.mask(state)
    most = max(pool.context[k.N_STATES], 1_000)
    assert 0 < max(spent) <= work + k.NODE_WORK + k.STEP_WORK * most


@pytest.mark.parametrize("work", [20, 40, 60, 100, 200, 400])
def test_masks_that_are_cut_short_leave_a_way_to_the_end(work: int) -> None:
    """Where the work allowed does not get to the only token from which tokens go on."""
    tokens: list[bytes | None] = [b"a", b"ca", b"ab" * 8, b"ab" * 9, b"b" * 7]
    vocabulary = Vocabulary.from_tokens([*tokens, None], [len(tokens)])
    grammar = Grammar.from_gbnf('root ::= x | "ca" x\nx ::= "ab" x? | "ab" x "ab" | x x')
    automaton = TokenAutomaton(grammar, vocabulary, Limits(max_mask_work=work))
    try:
        assert set(automaton.allowed_tokens(automaton.start).tolist()) <= {1, 2, 3}
        assert automaton.mask(automaton.start).any()
    except LimitExceeded:  # not even one token can be judged
        return


def test_work_goes_on_where_it_was_cut_short() -> None:
    """Steps once made are remembered: in the end the mask is whole."""
    texts: list[bytes | None] = [bytes([b]) for b in range(256)]
    texts += [bytes([a, b]) for a in range(97, 123) for b in range(97, 123)]
    vocabulary = Vocabulary.from_tokens([*texts, None], [len(texts)])
    automaton = TokenAutomaton(
        Grammar.from_gbnf(AMBIGUOUS), vocabulary, Limits(max_mask_work=9_000)
    )
    truth = allowed_by_bytes(automaton, automaton.start)
    sizes = [len(allowed(automaton, automaton.start)) for _ in range(4)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(truth)


def test_steps_are_bounded_and_go_on() -> None:
    """A step by a long token is stopped between two bytes, and completed by further calls."""
    text = b"a b. " * 12
    vocabulary = Vocabulary.from_tokens([*[bytes([b]) for b in range(256)], text, None], [257])
    bounded = TokenAutomaton(Grammar.from_gbnf(AMBIGUOUS), vocabulary, Limits(max_mask_work=20_000))
    free = TokenAutomaton(Grammar.from_gbnf(AMBIGUOUS), vocabulary)
    with pytest.raises(LimitExceeded, match="max_mask_work"):
        bounded.advance(bounded.start, 256)
    state = bounded.DEAD
    for _ in range(200):
        with suppress(LimitExceeded):
            state = bounded.advance(bounded.start, 256)
            break
    assert state == bounded.advance(bounded.start, 256) != bounded.DEAD
    after = free.advance_bytes(free.start, text)
    for more in (b"x", b" ", b"."):
        ends = [a.advance_bytes(s, more) for a, s in ((bounded, state), (free, after))]
        assert [e != 0 for e in ends] == [True, True]
        assert bounded.is_accepting(ends[0]) == free.is_accepting(ends[1])


# -- exits of lexemes ------------------------------------------------------------------------------


@given(vocabularies(), st.sampled_from(sorted(GRAMMARS)), st.booleans(), st.data())
@settings(max_examples=60, deadline=None)
def test_where_lexemes_end(
    vocabulary: Vocabulary, name: str, bounded: bool, data: st.DataObject
) -> None:
    """Masks, exits and what is entered behind them, compared with a walk byte by byte."""
    automaton = TokenAutomaton(grammar(name), vocabulary)
    known = Shapes(automaton.program)
    shapes = [known.large(q) for q in range(1, automaton.program.states)]
    shape = data.draw(st.sampled_from([shape for shape in shapes if shape is not None]))
    states = len(shape.states)
    bounds = np.full((4, states), UNBOUNDED, np.int32)
    bounds[m.LEAST] = 0
    bounds[m.ACCEPTS, shape.accepts != 0] = 0
    if bounded:  # as a rule's own bounds are: the same for all states
        bounds[m.ACCEPTS, shape.accepts != 0] = data.draw(st.integers(0, 3))
        bounds[m.MOST] = data.draw(st.integers(1, 6))
        bounds[m.LEAST, shape.accepts != 0] = data.draw(st.integers(0, 3))
    walk = shape.walk_within(vocabulary, bounds)
    row, exits, entries, longest = walk.mask, walk.exits, walk.beyond, walk.longest
    trie = vocabulary.trie
    found = np.empty((3, 5 * trie.node_count), np.int32)
    size = m.list_exits(exits, *Subtrees.of(trie).characters, found)
    truth = _ends_by_bytes(trie, shape.table, bounds)
    flags = np.unpackbits(row.view(np.uint8), bitorder="little")
    inside = {t for node in truth for t in _tokens_at(trie, node)}
    assert set(np.flatnonzero(flags).tolist()) == inside
    assert longest >= max((n for _, n, _ in truth.values()), default=0)
    assert [tuple(column) for column in found[:, :size].T.tolist()] == [
        (node, q, n) for node, (q, n, ends) in truth.items() if ends
    ]
    ending = {node for node, (_, _, ends) in truth.items() if ends}
    parents = _parents(trie)
    lacking = {
        node
        for node in range(1, trie.node_count)
        if parents[node] in ending
        and any(t not in inside for n in range(node, trie.skip[node]) for t in _tokens_at(trie, n))
    }
    assert sorted(entries.tolist()) == sorted(lacking)


# -- walks that begin with others ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["counted parts", "short parts", "two patterns", "code"])
@given(vocabularies(), st.data())
@settings(max_examples=25, deadline=None)
def test_walks_that_begin_with_others(
    name: str, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    """From any state, within any bounds and after any other walks: as if it were the first one."""
    automaton = TokenAutomaton(grammar(name), vocabulary)
    known = Shapes(automaton.program)
    shapes = [known.large(q) for q in range(1, automaton.program.states)]
    shape = data.draw(st.sampled_from([s for s in shapes if s is not None]))
    lexeme = shape.walk(vocabulary)
    for _ in range(6):
        start = data.draw(st.integers(0, len(shape.states) - 1))
        bounds = lexeme.free_bounds.copy()
        if data.draw(st.booleans()):
            least = data.draw(st.sampled_from([0, 1, 2, 3, 6, 40]))
            bounds[m.ACCEPTS, shape.accepts != 0] = least
            bounds[m.MOST] = least + data.draw(st.sampled_from([0, 1, 2, 3, 40]))
            bounds[m.LEAST, shape.accepts != 0] = data.draw(st.sampled_from([0, least]))
        found, truth = lexeme.walk(start, bounds), shape.walk_within(vocabulary, bounds, start)
        assert np.array_equal(found.mask, truth.mask)
        assert np.array_equal(found.beyond, truth.beyond)


@given(st.sampled_from(["counted parts", "short parts", "two patterns"]), st.data())
@settings(max_examples=60, deadline=None)
def test_bytes_that_tell_states_apart(name: str, data: st.DataObject) -> None:
    """As many as it takes rounds until they are in different classes (Moore's algorithm)."""
    program = grammar(name).program
    shapes = [Shapes(program).large(q) for q in range(1, program.states)]
    shape = data.draw(st.sampled_from([s for s in shapes if s is not None and len(s.states) > 1]))
    size = len(shape.states)
    apart = np.zeros(size * size, np.uint8)
    rounds = _rounds(shape.table.reshape(size, 256).tolist(), shape.accepts.tolist())
    for _ in range(3):
        a, b = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True))
        m.tell_apart(shape.table, shape.accepts, shape.alphabet, a, b, apart)
        assert apart[a * size + b]
    for a, b in np.argwhere(apart.reshape(size, size)).tolist():
        truth = next((i for i, classes in enumerate(rounds) if classes[a] != classes[b]), None)
        assert apart[a * size + b] == (m.EQUAL if truth is None else truth + 1)


def _rounds(table: list[list[int]], accepts: list[int]) -> list[list[int]]:
    """The classes of states after no byte, one, two and so on, until they stay the same."""
    classes, out = accepts, []
    while not out or len(set(classes)) > len(set(out[-1])):
        out.append(classes)
        rows = [
            (
                classes[q],
                *[-1 if t < 0 else classes[t >> 1] << 1 | t & 1 for t in row],
            )
            for q, row in enumerate(table)
        ]
        number = {row: i for i, row in enumerate(dict.fromkeys(rows))}
        classes = [number[row] for row in rows]
    return out


# -- what rules are like ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAMMARS)
def test_survey_of_rules(name: str) -> None:
    """Kinds of rules and what can come after them, by the definition of each."""
    p = grammar(name).program
    survey = RuleSurvey(p)
    edges = [
        (int(p.rule_of[p.call_start[e]]), int(p.rule_of[q]), int(p.call_return[e]) >> 1)
        for q in range(p.states)
        for e in range(p.call_offset[q], p.call_offset[q + 1])
    ]
    edges += [
        (called, int(p.rule_of[p.bag_return[4 * bag + 1]]), int(p.bag_return[4 * bag + i]))
        for bag in range(len(p.bags))
        for i in (1, 2, 3)
        for called in {
            int(p.rule_of[p.bag_return[4 * bag + 1]]),
            *p.rule_of[p.bag_start[p.bag_offset[bag] : p.bag_offset[bag + 1]]].tolist(),
        }
    ]
    follow: dict[int, set[int]] = {rule: set() for rule in range(len(p.rule_names))}
    for _ in range(len(follow) + 1):
        for called, caller, after in edges:
            words = p.first[after].tolist()
            follow[called] |= {c for c in range(p.classes) if words[c // 64] >> c % 64 & 1}
            if p.accept_from[after] != UNBOUNDED:
                follow[called] |= follow[caller]
    for q in range(p.states):
        rule = p.rule_of == p.rule_of[q]
        calls = (np.diff(p.call_offset) > 0) | (p.bag_of >= 0) | (p.table < -1).any(axis=1)
        counts = (p.count_limit != UNBOUNDED) | (p.count_cap != UNBOUNDED)
        counts |= (p.accept_from != 0) & (p.accept_from != UNBOUNDED)
        assert survey.is_plain(q) == (not calls[rule].any())
        assert survey.is_uncounted(q) == (not counts[rule].any())
        after = np.isin(p.byte_class[:256], list(follow[int(p.rule_of[q])]))
        assert np.array_equal(survey.follow(q), after)


def _tokens_at(trie: Trie, node: int) -> list[int]:
    tokens: list[int] = trie.tokens[trie.token_start[node] : trie.token_start[node + 1]].tolist()
    return tokens


def _parents(trie: Trie) -> list[int]:
    path, out = [0], [0]
    for node in range(1, trie.node_count):
        del path[int(trie.depth[node]) :]
        out.append(path[-1])
        path.append(node)
    return out


def _ends_by_bytes(
    trie: Trie, table: npt.NDArray[np.int16], bounds: npt.NDArray[np.int32]
) -> dict[int, tuple[int, int, bool]]:
    """For each node that an automaton reaches: state, count and whether the rule may end there."""
    accepts, least, most, cap = bounds.tolist()
    out = {0: (0, 0, accepts[0] <= 0)}
    parents = _parents(trie)
    for node in range(1, trie.node_count):
        above = out.get(parents[node])
        target = -1 if above is None else int(table[256 * above[0] + int(trie.byte[node])])
        if above is None or target < 0:
            continue
        q, n = target >> 1, above[1] + (target & 1)
        n = min(n, cap[q])
        if least[q] <= n <= most[q]:
            out[node] = (q, n, n >= accepts[q])
    return out
