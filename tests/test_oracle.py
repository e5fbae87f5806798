"""The oracle's four methods agree with each other and with plain enumeration."""

from __future__ import annotations

import json
import os
import random
import re
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import (
    Chart,
    Recognizer,
    Regular,
    completable,
    forced_by_rules,
    forced_bytes,
    marked,
    mask,
    member,
    min_tokens,
    viable_prefix,
)
from strategies import (
    BYTES,
    JSON_BYTES,
    bag_grammars,
    bags,
    grammars,
    json_array,
    json_object,
    json_texts,
    json_vocabularies,
    memory_grammars,
    regular,
    texts,
    vocabularies,
)

from grammars.ir import (
    EPSILON,
    REPEATED_CLOSE,
    REPEATED_COMMA,
    And,
    Bag,
    Chars,
    Expr,
    GrammarIR,
    Literal,
    Member,
    Not,
    Ref,
    Repeat,
    Rule,
    alt,
    bag,
    chars,
    seq,
    single_rule,
)
from grammars.uniqueness.values import first_clash

quick = settings(
    max_examples=int(os.environ.get("GRAMMA_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def lit(text: str) -> Expr:
    return Literal(text.encode())


def grammar(**rules: Expr) -> GrammarIR:
    return GrammarIR(tuple(Rule(name, body) for name, body in rules.items()), next(iter(rules)))


S = Ref("s")
NESTED = grammar(s=alt(EPSILON, seq(lit("a"), S, lit("b"))))
LEFT = grammar(s=alt(seq(S, lit("a")), lit("b")))
RIGHT = grammar(s=alt(seq(lit("a"), S), lit("b")))
AMBIGUOUS = grammar(s=alt(seq(S, S), lit("a"), EPSILON))
HIDDEN_LEFT = grammar(s=alt(seq(Ref("n"), S, lit("a")), lit("b")), n=alt(EPSILON, lit("c")))
CYCLE = grammar(s=alt(Ref("t"), lit("a")), t=alt(S, lit("b")))
UNPRODUCTIVE = grammar(s=alt(seq(lit("a"), Ref("t")), lit("b")), t=seq(lit("c"), Ref("t")))
PALINDROME = grammar(s=alt(EPSILON, *(seq(lit(x), S, lit(x)) for x in "abc"), lit("a")))
COUNTED = grammar(s=Repeat(Ref("t"), 2, 3), t=alt(lit("ab"), EPSILON, lit("c")))

# Known languages, so that the oracle is not only compared with itself.
KNOWN = [
    (NESTED, rb"|ab|aabb|aaabbb"),
    (LEFT, rb"ba*"),
    (RIGHT, rb"a*b"),
    (AMBIGUOUS, rb"a*"),
    (HIDDEN_LEFT, rb"b|(?:c?b)a|c?c?baa|c?c?c?baaa|c?c?c?c?baaaa|baaaaa"),
    (CYCLE, rb"[ab]"),
    (UNPRODUCTIVE, rb"b"),
    (COUNTED, rb"(?:ab|c|){2,3}"),
    (single_rule(Repeat(alt(lit("a"), EPSILON), 3, 4)), rb"a{0,4}"),
    (single_rule(Repeat(lit("ab"), 1, 2)), rb"(?:ab){1,2}"),
    (single_rule(Chars(((0x62, 0x63), (0xE9, 0xE9)))), rb"b|c|\xc3\xa9"),
    (single_rule(And((Repeat(chars([(97, 99)]), 0, None), Not(lit("ab"))))), rb"(?!ab$)[abc]*"),
    (single_rule(Not(Repeat(chars([(97, 99)]), 0, None))), rb"(?s:.*[^abc].*)"),
]


@pytest.mark.parametrize(("ir", "pattern"), KNOWN)
def test_known_languages(ir: GrammarIR, pattern: bytes) -> None:
    recognizer = Recognizer(ir)
    chart = Chart(ir, [])
    for size in range(6):
        for letters in product(BYTES, repeat=size):
            data = b"".join(letters)
            expected = re.fullmatch(pattern, data) is not None
            assert member(ir, data) == expected, data
            assert recognizer.accepts(data) == expected, data
            assert (chart.min_tokens(data) == 0) == expected, data


@pytest.mark.parametrize(("ir", "pattern"), KNOWN)
def test_masks_of_known_languages(ir: GrammarIR, pattern: bytes) -> None:
    """Fewest tokens by enumerating token sequences; these languages show themselves early."""
    tokens = [b"ab", b"b", b"aa", b"c", None, b"", b"\xc3\xa9"]
    spelled: dict[bytes, int] = {b"": 0}
    for length in range(1, 4):
        for sequence in product([t for t in tokens if t], repeat=length):
            spelled.setdefault(b"".join(sequence), length)
    for size in range(3):
        for letters in product(BYTES, repeat=size):
            prefix = b"".join(letters)
            counts = [k for text, k in spelled.items() if re.fullmatch(pattern, prefix + text)]
            least = min_tokens(ir, prefix, tokens)
            if counts:
                assert least == min(counts), prefix
            else:
                assert least is None or least > 3, prefix


@quick
@given(grammars(), st.lists(texts(5), max_size=6))
def test_four_ways_to_decide_membership(ir: GrammarIR, data: list[bytes]) -> None:
    recognizer = Recognizer(ir)
    chart = Chart(ir, [])
    for text in data:
        expected = member(ir, text)
        assert recognizer.accepts(text) == expected
        assert chart.min_tokens(text) == (0 if expected else None)


@quick
@given(regular(), st.lists(texts(6), max_size=6))
def test_derivatives_agree_with_spans(expression: Expr, data: list[bytes]) -> None:
    ir = single_rule(expression)
    regex = Regular()
    root = regex.from_ir(ir, expression)
    for text in data:
        here = root
        for byte in text:
            here = regex.derive(here, byte)
        assert regex.nullable(here) == member(ir, text)
        assert regex.nonempty(here) == viable_prefix(ir, text)


@quick
@given(grammars(), st.lists(texts(4), max_size=4))
def test_viable_prefixes_two_ways(ir: GrammarIR, data: list[bytes]) -> None:
    recognizer = Recognizer(ir)
    for text in data:
        assert recognizer.viable(text) == viable_prefix(ir, text)


@quick
@given(grammars(max_rules=3), vocabularies(), texts(3))
def test_fewest_tokens_by_enumeration(
    ir: GrammarIR, vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]], prefix: bytes
) -> None:
    """Breadth first over token sequences: what it finds is exact, what it cannot find is longer."""
    tokens, _ = vocabulary
    spellings = sorted({token for token in tokens if token})
    least = min_tokens(ir, prefix, tokens)
    texts_now = {prefix}
    tried = 0
    for steps in range(5):
        found = any(member(ir, text) for text in texts_now)
        if found or tried > 300:
            assert least == steps if found else least is None or least >= steps
            return
        tried += len(texts_now)
        texts_now = {text + token for text in texts_now for token in spellings}
        if len(texts_now) > 400:
            break
    assert least is None or least > steps


@quick
@given(grammars(max_rules=3), vocabularies(), texts(3))
def test_masks_lead_to_the_shortest_completion(
    ir: GrammarIR, vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]], prefix: bytes
) -> None:
    tokens, eos = vocabulary
    allowed = mask(ir, prefix, tokens, eos)
    assert bool(allowed) == completable(ir, prefix, tokens)
    rests = [
        1 + rest
        for i in allowed - set(eos)
        if (rest := min_tokens(ir, prefix + (tokens[i] or b""), tokens)) is not None
    ]
    if set(eos) <= allowed:
        assert min_tokens(ir, prefix, tokens) == 0
    else:
        assert min_tokens(ir, prefix, tokens) == (min(rests) if rests else None)


def test_a_long_text_and_forty_tokens_are_quick_enough() -> None:
    ir = PALINDROME
    tokens = [bytes(t) for n in (1, 2, 3) for t in product(b"abc", repeat=n)]
    assert mask(ir, b"abcabc", tokens)
    long = b"ab" * 30
    assert Recognizer(LEFT).accepts(b"b" + b"a" * 200)
    assert Recognizer(RIGHT).accepts(b"a" * 200 + b"b")
    assert completable(ir, long, tokens)


@quick
@given(grammars(max_rules=3), vocabularies(), texts(3))
def test_forced_bytes_by_enumeration(
    ir: GrammarIR, vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]], prefix: bytes
) -> None:
    tokens, _ = vocabulary
    least = min_tokens(ir, prefix, tokens)
    if least is None or least > 3:
        return
    forced = forced_bytes(ir, prefix, tokens)
    spellings = sorted({token for token in tokens if token})
    completions = [
        text
        for length in range(least, 4)
        for text in map(b"".join, product(spellings, repeat=length))
        if member(ir, prefix + text)
    ]
    assert all(text.startswith(forced) for text in completions)
    # It stops where a completion ends or where two go on differently; the other completion may be
    # longer than those enumerated, so only the first byte of a token boundary can be checked.
    if not forced and not member(ir, prefix):
        first = {token[0] for token in spellings if completable(ir, prefix + token, tokens)}
        assert len(first) > 1


# --- bags ----------------------------------------------------------------------------------------


def _by_hand(expression: Bag, words: list[tuple[bytes, ...]], separator: bytes) -> set[bytes]:
    """Texts of at most four items: every choice of members, word by word, checked afterwards."""
    out = set()
    members = expression.members
    for size in range(1, 5):
        for chosen in product(range(len(members)), repeat=size):
            counts = [chosen.count(i) for i in range(len(members))]
            groups = [members[i].group for i in chosen if members[i].group is not None]
            fits = all(
                m.min <= n and (m.max is None or n <= m.max)
                for m, n in zip(members, counts, strict=True)
            )
            enough = expression.low <= size and size <= (expression.high or size)
            sorted_ = not expression.ordered or list(chosen) == sorted(chosen)
            if fits and enough and sorted_ and len(set(groups)) == len(groups):
                out |= {separator.join(text) for text in product(*(words[i] for i in chosen))}
    return out


@quick
@given(st.data())
def test_bags_by_hand(data: st.DataObject) -> None:
    words = data.draw(
        st.lists(
            st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba"]), min_size=1, max_size=2).map(
                tuple
            ),
            min_size=2,
            max_size=3,
        )
    )
    bounds = st.sampled_from([(0, 1), (1, 1), (0, 2), (1, None), (0, None)])
    group = st.sampled_from([None, None, 0, 1])
    members = [
        Member(alt(*map(Literal, ways)), *data.draw(bounds), data.draw(group)) for ways in words
    ]
    high = data.draw(st.sampled_from([2, 3, 4]))
    made = bag(
        members, Literal(b"c"), data.draw(st.integers(1, 2)), high, ordered=data.draw(st.booleans())
    )
    if not isinstance(made, Bag):
        return
    ir = single_rule(made)
    expected = _by_hand(made, words, b"c")
    for text in sorted(expected):
        assert member(ir, text), text
        assert Recognizer(ir).accepts(text), text
    for text in data.draw(st.lists(texts(7), max_size=8)):
        assert member(ir, text) == (text in expected), text
    tokens = [bytes([value]) for value in b"abc"]
    least = min_tokens(ir, b"", tokens)
    assert least == (min(map(len, expected)) if expected else None)


@quick
@given(bag_grammars(), st.lists(texts(7), max_size=6))
def test_bags_in_three_ways(ir: GrammarIR, data: list[bytes]) -> None:
    recognizer = Recognizer(ir)
    chart = Chart(ir, [])
    for text in data:
        expected = member(ir, text)
        assert recognizer.accepts(text) == expected
        assert chart.min_tokens(text) == (0 if expected else None)
        assert recognizer.viable(text) == viable_prefix(ir, text)


@quick
@given(bags(), vocabularies(), texts(3))
def test_masks_of_bags_lead_to_the_shortest_completion(
    expression: Expr,
    vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]],
    prefix: bytes,
) -> None:
    ir = single_rule(expression)
    tokens, eos = vocabulary
    allowed = mask(ir, prefix, tokens, eos) - set(eos)
    rests = [min_tokens(ir, prefix + (tokens[i] or b""), tokens) for i in allowed]
    expected = 0 if member(ir, prefix) else min((1 + (r or 0) for r in rests), default=None)
    assert min_tokens(ir, prefix, tokens) == expected


# --- memory --------------------------------------------------------------------------------------


def _has_double_key(text: bytes) -> bool:
    doubles = []

    def note(pairs: list[tuple[str, object]]) -> None:
        doubles.extend([1] * (len(pairs) - len({key for key, _ in pairs})))

    json.loads(text, object_pairs_hook=note)
    return bool(doubles)


SOME_JSON = GrammarIR(
    (Rule("root", Literal(b"[]")),), "root", distinct_keys=True, compare_items=True
)


@quick
@given(json_texts())
def test_marks_two_ways(text: bytes) -> None:
    """Against the walk that samples are checked with, and Python's own reader."""
    try:
        json.loads(text)
    except ValueError:
        return
    symbols = marked(SOME_JSON, text)
    assert (symbols is None) == _has_double_key(text)
    if symbols is None:
        assert first_clash(text, None, True) is not None
        return
    places = {at for at, symbol in enumerate(symbols) if symbol > 255}
    assert first_clash(text, places, True) is None
    for at, byte in enumerate(text):
        if byte in b",]" and text[:at].count(b'"') % 2 == 0 and "[" in text[:at].decode():
            clash = first_clash(text, places ^ {at}, True)
            assert clash is None or clash.end == at  # a comma between members may be no separator


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("[1,1]", [REPEATED_CLOSE]),
        ("[1,1.0,2,10e-1]", [REPEATED_COMMA, REPEATED_CLOSE]),
        ('["a","\\u0061"]', [REPEATED_CLOSE]),
        ('["1",1,true]', []),
        ("[1 ,1 ,[1]]", [REPEATED_COMMA]),
        ("[[1,1],[1,1]]", [REPEATED_CLOSE, REPEATED_CLOSE, REPEATED_CLOSE]),
        ('[{"a":1,"b":2},{"b":2,"a":1}]', [REPEATED_CLOSE]),
        ('[{"a":1,"b":2},{"b":1,"a":2}]', []),
        ("[[],{},[]]", [REPEATED_CLOSE]),
        ("[0,-0,0e9]", [REPEATED_COMMA, REPEATED_CLOSE]),
        ("[true,1,false,0,null]", []),
        ('{"a":1,"b":{"a":1}}', []),
        ('["],[","],["]', [REPEATED_CLOSE]),
    ],
)
def test_known_marks(text: str, symbols: list[int]) -> None:
    found = marked(SOME_JSON, text.encode())
    assert found is not None
    assert [symbol for symbol in found if symbol > 255] == symbols
    places = frozenset(at for at, symbol in enumerate(found) if symbol > 255)
    assert first_clash(text.encode(), places, True) is None


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '[{"b":{"":1,"":1}}]', '{"a" : [] , "a"', ]
)  # fmt: skip
def test_known_double_keys(text: str) -> None:
    assert marked(SOME_JSON, text.encode()) is None
    assert first_clash(text.encode(), None, True) is not None
    assert first_clash(text.encode(), None, False) is None


def _small_memory() -> list[tuple[GrammarIR, str]]:
    """Finite languages with memory, and their texts in words."""
    letter = alt(Literal(b'"a"'), Literal(b'"b"'), Literal(b'""'))
    pair = Member(seq(letter, Literal(b":1")), 0, None)
    found = [
        (json_array(letter, "distinct", 0, None), "unique"),
        (json_array(letter, "any", 0, 3), "any"),
        (json_array(letter, "repeated", 1, 2), "repeated"),
        (json_object([pair], 0, None, False), "object"),
        (
            json_object([Member(seq(Literal(b'"a"'), Literal(b":1")), 1), pair], 2, 3, True),
            "a first",
        ),
    ]
    return [
        (GrammarIR((Rule("root", body),), "root", distinct_keys=True, compare_items=True), kind)
        for body, kind in found
    ]


def _wanted(text: bytes, kind: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if b" " in text or (b"1" in text and kind in ("unique", "any", "repeated")):
        return False
    if isinstance(value, list) and kind in ("unique", "any", "repeated"):
        if not all(isinstance(x, str) and len(x) <= 1 for x in value):
            return False
        repeats = [i for i, x in enumerate(value) if x in value[:i]]
        if kind == "unique":
            return not repeats
        if kind == "any":
            return len(value) <= 3
        # plain separators up to the first repetition: it is item two or three; then two more
        return bool(repeats) and 1 <= repeats[0] <= 1 and len(value) - repeats[0] - 1 <= 2
    if isinstance(value, dict) and kind in ("object", "a first") and not _has_double_key(text):
        plain = all(v == 1 and len(k) <= 1 for k, v in value.items()) and b"11" not in text
        if kind == "object":
            return plain
        return plain and 2 <= len(value) <= 3 and next(iter(value)) == "a"
    return False


@pytest.mark.parametrize(("ir", "kind"), _small_memory())
def test_known_languages_with_memory(ir: GrammarIR, kind: str) -> None:
    """Membership by what the texts say, and the fewest tokens by enumerating all texts."""
    pieces = ['"a"', '"b"', '""', ":1", ",", "[", "]", "{", "}"]
    language = {
        text.encode()
        for size in range(1, 4)
        for parts in product(['"a"', '"b"', '""'], repeat=size)
        for text in (f"[{','.join(parts)}]", "{" + ",".join(p + ":1" for p in parts) + "}")
    } | {b"[]", b"{}"}
    language |= {f"[{','.join(parts)}]".encode() for parts in product(['"a"', '""'], repeat=4)}
    words = {text for text in language if _wanted(text, kind)}
    for text in language:
        assert member(ir, text) == (text in words), text
    tokens = [piece.encode() for piece in pieces]
    for prefix in sorted({text[:end] for text in words for end in range(len(text))})[:60]:
        if prefix.count(b'"') % 2 or prefix.endswith(b":"):
            continue  # inside a token
        rests = [
            re.findall(rb'"[ab]?"|:1|.', t[len(prefix) :]) for t in words if t.startswith(prefix)
        ]
        assert min_tokens(ir, prefix, tokens) == min(map(len, rests)), prefix


@quick
@given(memory_grammars(), json_vocabularies(), json_texts())
def test_fewest_tokens_with_memory_by_enumeration(
    ir: GrammarIR, vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]], prefix: bytes
) -> None:
    tokens, _ = vocabulary
    spellings = sorted({token for token in tokens if token})
    least = min_tokens(ir, prefix, tokens)
    texts_now = {prefix}
    for steps in range(4):
        if any(member(ir, text) for text in texts_now):
            assert least == steps
            return
        texts_now = {text + token for text in texts_now for token in spellings}
        if len(texts_now) > 400:
            break
    assert least is None or least > steps


@quick
@given(memory_grammars(), json_vocabularies(), st.randoms())
def test_forced_bytes_with_memory(
    ir: GrammarIR, vocabulary: tuple[tuple[bytes | None, ...], tuple[int, ...]], rng: random.Random
) -> None:
    """Whatever way is taken to a text, it begins with the forced bytes."""
    tokens, _ = vocabulary
    prefix = b""
    while min_tokens(ir, prefix, tokens) is not None and len(prefix) < 12:
        forced = forced_bytes(ir, prefix, tokens)
        ways = sorted(mask(ir, prefix, tokens))
        for i in ways:
            token = tokens[i] or b""
            assert token.startswith(forced) or forced.startswith(token)
        if not ways:
            return
        prefix += tokens[rng.choice(ways)] or b""


@quick
@given(bag_grammars(), texts(3))
def test_forced_bytes_two_ways(ir: GrammarIR, prefix: bytes) -> None:
    expected = forced_bytes(ir, prefix, [bytes([value]) for value in range(256)])
    assert forced_by_rules(ir, prefix) == expected


def test_memory_over_byte_alphabets() -> None:
    ir = _small_memory()[0][0]
    assert viable_prefix(ir, b'["a","b","', alphabet=b"".join(JSON_BYTES))
    assert not viable_prefix(ir, b'["a","b","a"]')
    assert not viable_prefix(ir, b'["a","b","b",')
    assert forced_bytes(ir, b'["a","b","', [bytes([v]) for v in b'"ab,]']) == b'"]'
    assert completable(ir, b'["a","b"', [b"]"])
    assert forced_by_rules(ir, b'["a","b","') == b""
    assert forced_by_rules(ir, b'["a') == b'"'
    assert member(ir, b'["a","b",""]')
