"""Keys and array items that must not repeat: the tracker, the language, the token automaton."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from constrain import TokenAutomaton, Vocabulary
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.ir import (
    EPSILON,
    REPEATED_CLOSE,
    REPEATED_COMMA,
    Expr,
    GrammarIR,
    Literal,
    Mark,
    Ref,
    Rule,
    alt,
    chars,
    not_chars,
    optional,
    repeat,
    seq,
)
from grammars.limits import Limits
from grammars.uniqueness.memory import Memory, decode, decode_prefix

PATIENT = Limits(max_distance_work=10**12)
"""Distances take the work they need."""


def lit(text: str) -> Expr:
    return Literal(text.encode())


def listed(item: Expr, separator: Expr, low: int = 0, high: int | None = None) -> Expr:
    """Items with separators between them."""
    if low == 0:
        return alt(EPSILON, listed(item, separator, 1, high))
    return seq(item, repeat(seq(separator, item), low - 1, None if high is None else high - 1))


def obj(member: Expr, low: int = 0, high: int | None = None) -> Expr:
    return seq(lit("{"), listed(member, lit(","), low, high), lit("}"))


def arr(item: Expr, low: int = 0, high: int | None = None) -> Expr:
    """An array whose items differ."""
    return seq(lit("["), listed(item, lit(","), low, high), lit("]"))


COMMA, CLOSE = alt(lit(","), Mark(REPEATED_COMMA)), alt(lit("]"), Mark(REPEATED_CLOSE))


def free_arr(item: Expr, low: int = 0) -> Expr:
    """An array whose items may repeat."""
    return seq(lit("["), listed(item, COMMA, low), CLOSE)


HEX = chars([(48, 57), (65, 70), (97, 102)])
ESCAPE = seq(lit("\\"), alt(chars([(ord(c), ord(c)) for c in '"\\/bfnrt']),
                            seq(lit("u"), HEX, HEX, HEX, HEX)))  # fmt: skip
STRING = seq(lit('"'), repeat(alt(not_chars([(0, 31), (34, 34), (92, 92)]), ESCAPE)), lit('"'))
NUMBER = seq(
    optional(lit("-")),
    alt(lit("0"), seq(chars([(49, 57)]), repeat(chars([(48, 57)])))),
    optional(seq(lit("."), repeat(chars([(48, 57)]), 1))),
    optional(seq(chars([(69, 69), (101, 101)]), optional(chars([(43, 43), (45, 45)])),
                 repeat(chars([(48, 57)]), 1))),
)  # fmt: skip
BLANK = repeat(chars([(32, 32), (10, 10)]), 0, 2)


def json_ir(unique: bool) -> GrammarIR:
    """Any JSON without repeated keys, and without repeated items if ``unique``."""
    value, member = Ref("value"), seq(Ref("string"), lit(":"), BLANK, Ref("value"), BLANK)
    comma = seq(lit(",") if unique else COMMA, BLANK)
    close = lit("]") if unique else CLOSE
    rules = (
        Rule("value", alt(Ref("string"), Ref("number"), lit("true"), lit("false"), lit("null"),
                          Ref("object"), Ref("array"))),
        Rule("object", seq(lit("{"), listed(member, seq(lit(","), BLANK)), lit("}"))),
        Rule("array", seq(lit("["), listed(seq(value, BLANK), comma), close)),
        Rule("string", STRING, shared=True),
        Rule("number", NUMBER, shared=True),
    )  # fmt: skip
    return GrammarIR(rules, "value", distinct_keys=True, compare_items=unique)


# -- the reference: Python's own parser ------------------------------------------------------------


class RepeatedError(ValueError):
    """A key or an item is there twice."""


def identity(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return ("literal", value)
    if isinstance(value, Decimal):
        return ("number", value)
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, list):
        return ("array", tuple(map(identity, value)))
    return ("object", frozenset((key, identity(item)) for key, item in value.items()))


def parse(text: bytes, distinct: bool = True) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if distinct and len(dict(found)) < len(found):
            raise RepeatedError
        return dict(found)

    return json.loads(
        text.decode(), object_pairs_hook=pairs, parse_int=Decimal, parse_float=Decimal
    )


def arrays(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, dict):
        for item in value.values():
            yield from arrays(item)
    if isinstance(value, list):
        yield value
        for item in value:
            yield from arrays(item)


def unique(value: Any) -> bool:
    return all(len(set(map(identity, a))) == len(a) for a in arrays(value))


def test_marks_without_distinct_keys_follow_the_parser() -> None:
    memory = Memory(False, True)
    _, marks, _ = memory.advance(memory.start, b'[{"a":2},{"a":1,"a":2},{"a":1}]')
    assert marks == ((22, REPEATED_COMMA),)


def is_good(text: bytes, unique_items: bool) -> bool:
    try:
        value = parse(text)
    except RepeatedError:
        return False
    return not unique_items or unique(value)


# -- random texts ----------------------------------------------------------------------------------

KEYS = ['"a"', '"b"', '"\\u0061"', '"ab"', '""', '"\\ud83d\\ude00"', '"😀"', '"\\""', '"\\\\"',
        '"\\ud83d"', '"é"', '"\\u00e9"', '"\\n"', '"\\u000A"']  # fmt: skip
SCALARS = ["1", "1.0", "10e-1", "0.1e1", "-1", "0", "-0", "0.0e7", "10", "12", "true", "null",
           "false", '"1"', '"true"', "100", "1e2", "1E+2", "1.5", *KEYS]  # fmt: skip


def texts() -> st.SearchStrategy[str]:
    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        blank = st.sampled_from(["", "", " ", "\n"])
        member = st.tuples(st.sampled_from(KEYS), blank, inner, blank).map(
            lambda m: m[0] + ":" + m[1] + m[2] + m[3]
        )
        return st.one_of(
            st.lists(member, max_size=3).map(lambda m: "{" + ",".join(m) + "}"),
            st.lists(st.tuples(inner, blank).map("".join), max_size=4).map(
                lambda m: "[" + ", ".join(m) + "]"
            ),
        )

    return st.recursive(st.sampled_from(SCALARS), grow, max_leaves=12)


def chunks(text: bytes, rng: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(text):
        size = rng.randint(1, 5)
        yield text[at : at + size]
        at += size


# -- the tracker -----------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(text=texts(), rng=st.randoms())
def test_tracker_agrees_with_a_parser(text: str, rng: random.Random) -> None:
    data = text.encode()
    memory = Memory(True, True)
    at, where, marks = memory.start, 0, 0
    refused = False
    for chunk in chunks(data, rng):
        after, found, used = memory.advance(at, chunk)
        marks += len(found)
        for offset, symbol in found:
            assert chunk[offset] == {REPEATED_COMMA: 44, REPEATED_CLOSE: 93}[symbol]
        if after is None:
            assert chunk[used] == 34
            refused = True
            break
        at, where = after, where + used
    try:
        value = parse(data)
    except RepeatedError:
        assert refused
        return
    assert not refused
    repeated = sum(len(a) - len(set(map(identity, a))) for a in arrays(value))
    assert marks == repeated
    assert at.frame is None


@settings(max_examples=200, deadline=None)
@given(text=texts(), rng=st.randoms(), keys=st.booleans(), items=st.booleans())
def test_states_depend_on_the_text_alone(
    text: str, rng: random.Random, keys: bool, items: bool
) -> None:
    data = text.encode()
    memory = Memory(keys, items)
    whole, marks, _ = memory.advance(memory.start, data)
    if whole is None:
        return
    at = memory.start
    found: list[tuple[int, int]] = []
    done = 0
    for chunk in chunks(data, rng):
        after, here, used = memory.advance(at, chunk)
        assert after is not None
        found += [(done + offset, symbol) for offset, symbol in here]
        done += used
        at = after
        if rng.random() < 0.2:
            memory.trim([at])
    fresh, _, _ = memory.advance(memory.start, data)
    assert tuple(found) == marks
    assert fresh is at


@settings(max_examples=300, deadline=None)
@given(text=texts(), distinct=st.booleans())
def test_what_repeats_was_threatened(text: str, distinct: bool) -> None:
    """Before a repeated key ends, or a mark comes, the tracker expects it."""
    data = text.encode()
    memory = Memory(distinct, True)
    at = memory.start
    safe = False  # a byte was read after which nothing can repeat, and no comma since
    for i in range(len(data)):
        critical = memory.critical_bytes(at) if memory.threatened(at) else ()
        after, marks, _ = memory.advance(at, data[i : i + 1])
        if after is None or marks:
            assert memory.threatened(at)
            assert not safe
        if after is None:
            return
        safe = data[i] != 44 and (safe or (critical is not None and data[i] not in critical))
        at = after


@settings(max_examples=300, deadline=None)
@given(data=st.lists(st.sampled_from([*b'{}[]",:\\ \n1-.eutd\xc3\xa9', 0]), max_size=30).map(bytes))
def test_text_that_is_not_json_does_no_harm(data: bytes) -> None:
    memory = Memory(True, True)
    at = memory.start
    for i in range(len(data)):
        after, _, _ = memory.advance(at, data[i : i + 1])
        if after is None:
            return
        memory.threatened(after)
        at = after


def test_deep_nesting() -> None:
    memory = Memory(True, True)
    data = b'[{"a":' * 5_000 + b"1" + b"}]" * 5_000
    at, _, _ = memory.advance(memory.start, data[: len(data) // 2])
    assert at is not None
    memory.threatened(at)
    end, marks, _ = memory.advance(at, data[len(data) // 2 :])
    assert end is not None
    assert end.frame is None
    assert not marks


def test_long_exponents() -> None:
    memory = Memory(True, True)
    data = b"[1e%s,10e%s,1e%s]" % (b"9" * 5000, b"9" * 4999 + b"8", b"9" * 5001)
    _, marks, _ = memory.advance(memory.start, data)
    assert len(marks) == 1


@pytest.mark.parametrize(
    ("raw", "prefix"),
    [
        (rb"ab", "ab"),
        (rb"ab\\", "ab\\"),
        (b"ab\\", "ab"),
        (rb"ab\u00e", "ab"),
        (rb"ab\u00e9", "abé"),
        (rb"a\ud83d", "a"),
        (rb"a\ud83d\u", "a"),
        (rb"a\ud83d\ude00", "a😀"),
        (rb"a\ud83dx", "a\ud83dx"),
        ("é".encode()[:1], ""),
        ("a😀".encode()[:4], "a"),
    ],
)
def test_settled_prefix(raw: bytes, prefix: str) -> None:
    assert decode_prefix(raw) == prefix
    assert decode(b"") == ""


# -- the language ----------------------------------------------------------------------------------

OPEN = Grammar(json_ir(unique=False))


@settings(max_examples=300, deadline=None)
@given(text=texts())
def test_accepts_no_repeated_keys(text: str) -> None:
    assert OPEN.accepts(text) == is_good(text.encode(), unique_items=False)
    assert OPEN.explain(text).accepted == OPEN.accepts(text)


def test_explains_a_repeated_key() -> None:
    found = OPEN.explain('{"a": 1, "b": {"a": 2}, "\\u0061": 3}')
    assert not found.accepted
    assert found.offset == 31
    assert "the key 'a' occurs twice in this object" in str(found)


# -- token automata against enumerated languages ---------------------------------------------------


def sequences(items: Sequence[str], low: int, high: int) -> Iterator[tuple[str, ...]]:
    for length in range(low, high + 1):
        yield from itertools.product(items, repeat=length)


@dataclass(frozen=True)
class Finite:
    """A grammar written by hand and, independently of it, all texts of its rules.

    Attributes:
        ir: the grammar.
        texts: texts of the language: those of the rules that are good by Python's parser.
    """

    ir: GrammarIR
    texts: tuple[bytes, ...]


def choice(options: Sequence[str]) -> Expr:
    return alt(*(lit(option) for option in options))


def objects(keys: Sequence[str], values: Sequence[str], low: int, high: int) -> Finite:
    members = [f"{key}:{value}" for key in keys for value in values]
    body = obj(seq(choice(keys), lit(":"), choice(values)), low, high)
    every = ["{" + ",".join(m) + "}" for m in sequences(members, low, high)]
    return Finite(
        GrammarIR((Rule("root", body),), "root", distinct_keys=True),
        tuple(t.encode() for t in every if is_good(t.encode(), unique_items=False)),
    )


def lists(items: Sequence[str], low: int, high: int) -> Finite:
    every = ["[" + ",".join(m) + "]" for m in sequences(items, low, high)]
    ir = GrammarIR((Rule("root", arr(choice(items), low, high)),), "root",
                   distinct_keys=True, compare_items=True)  # fmt: skip
    return Finite(ir, tuple(t.encode() for t in every if is_good(t.encode(), unique_items=True)))


def nested() -> Finite:
    """Objects in objects, texts around them."""
    inner = objects(['"a"', '"b"'], ["1", '"a"'], 0, 2)
    member = alt(
        seq(lit('"a":'), inner.ir["root"].body),
        seq(lit('"b":'), inner.ir["root"].body),
        lit('"c":"a"'),
    )
    inside = [t.decode() for t in inner.texts]
    members = [f'"{k}":{t}' for k in "ab" for t in inside] + ['"c":"a"']
    every = ["{" + ",".join(m) + "}" for m in sequences(members, 1, 2)]
    return Finite(
        GrammarIR((Rule("root", obj(member, 1, 2)),), "root", distinct_keys=True),
        tuple(t.encode() for t in every if is_good(t.encode(), unique_items=False)),
    )


def free_lists() -> Finite:
    """A list of distinct items beside one whose items may repeat."""
    item = choice(["1", "1.0", "2"])
    body = seq(lit('{"f":['), listed(item, COMMA, 0, 3), CLOSE, lit(',"u":'), arr(item, 0, 2),
               lit("}"))  # fmt: skip
    items = ["1", "1.0", "2"]
    every = [
        (f'{{"f":[{",".join(f)}],"u":[{",".join(u)}]}}'.encode(), f"[{','.join(u)}]".encode())
        for f in sequences(items, 0, 3)
        for u in sequences(items, 0, 2)
    ]
    return Finite(
        GrammarIR((Rule("root", body),), "root", distinct_keys=True, compare_items=True),
        tuple(text for text, u in every if unique(parse(u))),
    )


def repeating() -> Finite:
    """Lists that must repeat an item."""
    item = choice(["1", "2", '"1"'])
    again_comma, again_close = Mark(REPEATED_COMMA), Mark(REPEATED_CLOSE)
    more = seq(item, COMMA)
    body = seq(
        lit("["),
        alt(
            *(seq(*[more] * n, item, again_close) for n in range(3)),
            *(
                seq(*[more] * n, item, again_comma, listed(item, COMMA, 1, 2 - n), CLOSE)
                for n in range(2)
            ),
        ),
    )
    every = [f"[{','.join(m)}]".encode() for m in sequences(["1", "2", '"1"'], 0, 3)]
    return Finite(
        GrammarIR((Rule("root", body),), "root", distinct_keys=True, compare_items=True),
        tuple(text for text in every if not unique(parse(text))),
    )


FINITE: dict[str, Callable[[], Finite]] = {
    "keys": lambda: objects(['"a"', '"ab"', '"\\u0061"'], ["1", '"a"'], 0, 3),
    "one key": lambda: objects(['"a"'], ["1", "{}"], 0, 2),
    "keys of one letter each": lambda: objects(['"a"', '"b"'], ["1", '"b"'], 1, 3),
    "keys beyond ASCII": lambda: objects(['"é"', '"è"', '"\\u00e9"'], ["1"], 0, 3),
    "pairs of surrogates": lambda: objects(['"😀"', '"\\ud83d\\ude00"', '"\\ud83d"'], ["1"], 0, 3),
    "nested objects": nested,
    "numbers": lambda: lists(["1", "1.0", "10", "10e-1", "-1"], 0, 3),
    "numbers and blanks": lambda: lists(["1", "1 ", "11 ", "true"], 0, 3),
    "words": lambda: lists(['"r"', '"re"', '"b"', '"\\u0072"'], 0, 3),
    "exhausted": lambda: lists(['"r"', '"b"'], 1, 4),
    "lists of lists": lambda: lists(["[]", "[1]", "[1,2]", "[2,1]", "1"], 0, 3),
    "lists of objects": lambda: lists(['{"id":1 }', '{"id":1}', '{"id":1.0}', '{"id":11 }'], 0, 3),
    "objects in any order": lambda: lists(
        ['{"a":1,"b":2}', '{"b":2,"a":1}', '{"a":1}', '{"b":[2]}', "{}"], 0, 2
    ),
    "free beside distinct": free_lists,
    "repeating": repeating,
}

PIECES = ['":"', '","a":', '"a":1,"a"', '"a":1,"b"', "1,1]", "1,", ",1", "1]", "],[", '"r', "0,",
          '{"id":1', '},{"id":1}]', '"a', 'b":', '"a":', '":', '","', '"r","', 'r"]', '"r","r"', ":{",
          ',"a":{"a":1}', "},", "],", '"u":[', "1,2", ",2,", "\\u00", "[[", "]]", "[1],[1]", "1 ",
          " ]", "\\ud83d", "\\ude00"]  # fmt: skip
SINGLE = tuple(
    bytes([b]) for b in sorted({*"".join(PIECES).encode(), *b"}{tfrueals0123456789cdeb.-",
                                *"éè😀".encode()})
)  # fmt: skip


def tokens_of(seed: int) -> list[bytes | None]:
    """Every byte, and some or all of the pieces."""
    rng = random.Random(seed)
    chosen = PIECES if seed == 0 else rng.sample(PIECES, 8)
    return [*SINGLE, *(piece.encode() for piece in chosen), None]


class Truth:
    """What an enumerated language says of prefixes."""

    def __init__(self, texts: Iterable[bytes], tokens: list[bytes | None]) -> None:
        self.texts = set(texts)
        self.tokens = tokens
        self.prefixes = {text[:n] for text in self.texts for n in range(len(text) + 1)}
        self.fewest_from: dict[bytes, int] = {}
        whole = {t for t in tokens if t}
        for prefix in sorted(self.prefixes, key=len, reverse=True):
            ways = [self.fewest_from.get(prefix + t, 10**6) + 1 for t in whole]
            self.fewest_from[prefix] = 0 if prefix in self.texts else min(ways)

    def mask(self, prefix: bytes, left: int = 10**5) -> set[int]:
        found = {
            i
            for i, t in enumerate(self.tokens)
            if t and self.fewest_from.get(prefix + t, 10**6) + 2 <= left
        }
        return found | {len(self.tokens) - 1} if prefix in self.texts and left > 0 else found


def walks(truth: Truth, rng: random.Random, steps: int = 14) -> Iterator[list[int]]:
    """Token sequences along a random walk; repetition is sought."""
    ids: list[int] = []
    yield ids
    prefix = b""
    for _ in range(steps):
        onward = sorted(truth.mask(prefix) - {len(truth.tokens) - 1})
        if not onward:
            return
        ids = [*ids, rng.choice(onward)]
        prefix += truth.tokens[ids[-1]] or b""
        yield ids


@pytest.fixture(params=list(FINITE))
def finite(request: pytest.FixtureRequest) -> Finite:
    return FINITE[request.param]()


def test_enumerated_language(finite: Finite) -> None:
    grammar = Grammar(finite.ir)
    for text in finite.texts:
        assert grammar.accepts(text), text
        assert grammar.explain(text).accepted
    for text in finite.texts[:50]:
        for other in finite.texts[:20]:
            mixed = text[:-1] + b"," + other[1:]
            assert grammar.accepts(mixed) == (mixed in finite.texts), mixed


@pytest.mark.parametrize("seed", range(4))
def test_masks(finite: Finite, seed: int) -> None:
    tokens = tokens_of(seed)
    truth = Truth(finite.texts, tokens)
    vocabulary = Vocabulary.from_tokens(tokens, [len(tokens) - 1])
    automaton = TokenAutomaton(Grammar(finite.ir), vocabulary, PATIENT)
    rng = random.Random(seed)
    for _ in range(12):
        for ids in walks(truth, rng):
            check_state(automaton, truth, ids, rng)


def check_state(
    automaton: TokenAutomaton, truth: Truth, ids: list[int], rng: random.Random
) -> None:
    prefix = b"".join(truth.tokens[i] or b"" for i in ids)
    state = automaton.start
    for token in ids:
        state = automaton.advance(state, token)
    expected = truth.mask(prefix)
    assert set(automaton.allowed_tokens(state).tolist()) == expected, prefix
    assert automaton.is_accepting(state) == (prefix in truth.texts)
    for token, text in enumerate(truth.tokens):
        if text:
            assert (automaton.advance(state, token) != automaton.DEAD) == (token in expected)
    cut = rng.randint(0, len(prefix))
    by_bytes = automaton.advance_bytes(
        automaton.advance_bytes(automaton.start, prefix[:cut]), prefix[cut:]
    )
    assert by_bytes == state
    check_forced(automaton, truth, prefix, state)
    check_budgets(automaton, truth, prefix, state)


def check_forced(automaton: TokenAutomaton, truth: Truth, prefix: bytes, state: int) -> None:
    forced = automaton.forced_bytes(state)
    rest = [text[len(prefix) :] for text in truth.texts if text.startswith(prefix)]
    first, last = min(rest), max(rest)
    same = [a == b for a, b in zip(first, last, strict=False)]
    assert forced == first[: (*same, False).index(False)], prefix
    spelled = b"".join(truth.tokens[i] or b"" for i in automaton.forced_tokens(state))
    assert forced.startswith(spelled)


def check_budgets(automaton: TokenAutomaton, truth: Truth, prefix: bytes, state: int) -> None:
    fewest = truth.fewest_from[prefix]
    assert automaton.min_tokens_to_accept(state) == fewest, prefix
    for left in range(fewest + 4):
        allowed = set(automaton.allowed_tokens(state, left).tolist())
        expected = truth.mask(prefix, left)
        assert bool(allowed) == bool(expected), (prefix, left)
        assert allowed == expected, (prefix, left)


# -- token automata of any JSON --------------------------------------------------------------------


def endings(prefix: bytes) -> Iterator[bytes]:
    """Ways to complete a beginning of a JSON text, if there are any: one per kind of place."""
    closers: list[str] = []
    in_text = escaped = False
    for char in prefix.decode("utf-8", "ignore"):
        if in_text:
            in_text, escaped = escaped or char != '"', not escaped and char == "\\"
        elif char == '"':
            in_text = True
        elif char in "{[":
            closers.append({"{": "}", "[": "]"}[char])
        elif char in "}]" and closers:
            closers.pop()
    tail = "".join(reversed(closers))
    scalars = ["", "0", "91", ".25", "e25", "true", "rue", "ue", "e", "null", "ull", "ll", "l",
               "false", "alse", "lse", "se", "25", '"zq"']  # fmt: skip
    strings = [
        f'{start}{more}"'
        for more in ("", "zq")
        for start in (
            "",
            '"',
            "\\",
            "/",
            "n",
            "u0041",
            "0041",
            "041",
            "41",
            "1",
            "\\ude00",
            "ude00",
            "00",
        )
    ]
    for first in (*scalars, *strings):
        for rest in ("", ":0", ',"zq":0', ':0,"zq":0', ',"zq"', ":0}", "}", "]"):
            outer = tail[1:] if rest[-1:] in ("}", "]") else tail
            yield (first + rest + outer).encode()
            yield (first + rest + ',"zq"' + outer).encode()
    for broken in (b"\xa9", b"\x98\x80", b"\x80", b"\x9f\x98\x80"):
        for end in (b'"', b'":0', b'zq"', b'zq":0'):
            yield broken + end + tail.encode()


def can_end(prefix: bytes, unique_items: bool) -> bool:
    """Whether some completion is good JSON."""
    for end in endings(prefix):
        try:
            if is_good(prefix + end, unique_items):
                return True
        except (ValueError, UnicodeDecodeError):
            continue
    return False


JSON_TOKENS: list[bytes | None] = [
    *(bytes([b]) for b in range(256)),
    *(piece.encode() for piece in PIECES),
    None,
]


@cache
def any_json(unique_items: bool) -> TokenAutomaton:
    vocabulary = Vocabulary.from_tokens(JSON_TOKENS, [len(JSON_TOKENS) - 1])
    return TokenAutomaton(Grammar(json_ir(unique_items)), vocabulary)


def blanks_are_few(text: bytes) -> bool:
    """The grammar of these tests allows blanks in few places only."""
    return not set(text) & set(b" \t\r\n")


def zero_has_exponent(text: bytes) -> bool:
    """Zero with an exponent stays zero, however long: more than a bounded look ahead can tell."""
    return re.search(rb"(?<![0-9.eE+-])-?0(\.0*)?[eE]", text) is not None


@settings(max_examples=30, deadline=None)
@given(text=texts(), cut=st.integers(0, 60), unique_items=st.booleans(), rng=st.randoms())
def test_masks_of_any_json(text: str, cut: int, unique_items: bool, rng: random.Random) -> None:
    prefix = text.replace(" ", "").replace("\n", "").encode()[:cut]
    assume(not zero_has_exponent(prefix))
    automaton = any_json(unique_items)
    state = automaton.advance_bytes(automaton.start, prefix)
    assert (state != automaton.DEAD) == can_end(prefix, unique_items)
    if state == automaton.DEAD:
        return
    allowed = set(automaton.allowed_tokens(state).tolist())
    for token in (*range(256, len(JSON_TOKENS)), *b'",]}:0ae', *rng.sample(range(256), 10)):
        data = JSON_TOKENS[token]
        if not data or zero_has_exponent(prefix + data):
            continue
        if data.isascii() and blanks_are_few(data):
            assert (token in allowed) == can_end(prefix + data, unique_items), (prefix, data)
            assert (automaton.advance(state, token) != automaton.DEAD) == (token in allowed)


@pytest.mark.parametrize("unique_items", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_budgets_of_any_json(unique_items: bool, seed: int) -> None:
    """Within a budget every text ends, whatever is chosen."""
    automaton = any_json(unique_items)
    rng = random.Random(seed)
    left, state = rng.randint(2, 30), automaton.start
    ids: list[int] = []
    while True:
        allowed = automaton.allowed_tokens(state, left)
        assert len(allowed), (ids, left)
        assert left > automaton.min_tokens_to_accept(state)
        token = int(rng.choice(allowed))
        ids.append(token)
        state = automaton.advance(state, token)
        left -= 1
        if state == automaton.FINISHED:
            break
    text = b"".join(JSON_TOKENS[i] or b"" for i in ids)
    assert is_good(text, unique_items)


# -- vocabularies without single bytes, trim, threads ----------------------------------------------


@pytest.mark.parametrize("name", list(FINITE))
def test_sparse_vocabularies(name: str) -> None:
    """Tokens that are not closed under their parts: only whole tokens count."""
    finite = FINITE[name]()
    tried = 0
    for seed in range(8):
        rng = random.Random(seed)
        words = {t[a : a + rng.randint(1, 4)] for t in finite.texts for a in range(0, len(t), 2)}
        chosen = rng.sample(sorted(words), min(len(words), 30))
        tokens: list[bytes | None] = [*chosen, b"[", b"]", b"{", b"}", b",", None]
        truth = Truth(finite.texts, tokens)
        vocabulary = Vocabulary.from_tokens(tokens, [len(tokens) - 1])
        if truth.fewest_from[b""] >= 10**6:
            continue
        automaton = TokenAutomaton(Grammar(finite.ir), vocabulary, PATIENT)
        for ids in walks(truth, rng):
            prefix = b"".join(tokens[i] or b"" for i in ids)
            state = automaton.start
            for token in ids:
                state = automaton.advance(state, token)
            expected = {i for i in truth.mask(prefix) if i == len(tokens) - 1
                        or truth.fewest_from.get(prefix + (tokens[i] or b""), 10**6) < 10**6}  # fmt: skip
            assert set(automaton.allowed_tokens(state).tolist()) == expected, prefix
            assert automaton.min_tokens_to_accept(state) == truth.fewest_from[prefix]
            tried += 1
    assert tried


def test_trim_keeps_what_is_asked_for() -> None:
    vocabulary = Vocabulary.from_tokens(JSON_TOKENS, [len(JSON_TOKENS) - 1])
    automaton = TokenAutomaton(Grammar(json_ir(True)), vocabulary)
    state = automaton.advance_bytes(automaton.start, b'[{"a":1,"b":[2]},"r",1,{"b":[2],"a":')
    other = automaton.advance_bytes(automaton.start, b'{"a":1,')
    before = automaton.mask(state).copy(), automaton.mask(other).copy()
    held = automaton.state_count
    for i in range(50):
        automaton.advance_bytes(automaton.start, b'[{"k%d":%d' % (i, i))
    assert automaton.state_count > held
    assert automaton.nbytes > 0
    automaton.trim([state, other])
    assert automaton.state_count <= held
    assert (automaton.mask(state) == before[0]).all()
    assert (automaton.mask(other) == before[1]).all()
    assert automaton.advance_bytes(state, b"1") != automaton.DEAD
    assert automaton.advance_bytes(state, b"1}") == automaton.DEAD
    assert automaton.advance_bytes(state, b"2}]") != automaton.DEAD


def test_threads_agree() -> None:
    automaton = any_json(True)
    texts = [b'[{"a":%d,"b":[%d' % (i % 3, i % 5) for i in range(40)]

    def look(text: bytes) -> list[int]:
        state = automaton.advance_bytes(automaton.start, text)
        return [int(token) for token in automaton.allowed_tokens(state)]

    alone = [look(text) for text in texts]
    automaton.trim([])
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, texts)) == alone


def test_special_states() -> None:
    automaton = any_json(False)
    end = len(JSON_TOKENS) - 1
    done = automaton.advance_bytes(automaton.start, b'{"a":1}')
    assert automaton.advance(done, end) == automaton.FINISHED
    assert automaton.advance(automaton.FINISHED, end) == automaton.FINISHED
    assert automaton.advance(automaton.FINISHED, 0) == automaton.DEAD
    assert automaton.advance(automaton.DEAD, 0) == automaton.DEAD
    assert automaton.advance_bytes(automaton.DEAD, b"1") == automaton.DEAD
    assert automaton.allowed_tokens(automaton.FINISHED).tolist() == [end]
    assert not len(automaton.allowed_tokens(automaton.DEAD))
    assert automaton.min_tokens_to_accept(automaton.FINISHED) == 0
    assert automaton.forced_bytes(automaton.FINISHED) == b""
    with pytest.raises(ValueError, match="DEAD"):
        automaton.min_tokens_to_accept(automaton.DEAD)


def test_nothing_but_repetitions_is_refused() -> None:
    ir = objects(['"a"'], ["1"], 2, 2).ir
    tokens = tokens_of(0)
    with pytest.raises(GrammarError):
        TokenAutomaton(Grammar(ir), Vocabulary.from_tokens(tokens, [len(tokens) - 1]))
