"""Grammars made of grammars.  The reference takes texts apart in all ways; JSON is judged by ``json``."""

from __future__ import annotations

import json
import pickle
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from laws import law_settings

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, GrammarError, LimitExceeded, Limits, SpecialToken
from grammars.storage import dumps, loads

# -- the reference ---------------------------------------------------------------------------------


class RepeatedError(Exception):
    """A key occurs twice."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise RepeatedError
    return dict(pairs)


def _value(text: str) -> Any:
    if text != text.strip():
        raise ValueError(text)
    value = json.loads(text, object_pairs_hook=_pairs)
    json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    return value


def _is_open(value: Any) -> bool:
    return isinstance(value, dict) and all(x in (1, 2) and x is not True for x in value.values())


def _is_closed(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and list(value) in ([], ["k"])
        and all(x is True for x in value.values())
    )


def _is_unique(value: Any) -> bool:
    ints = isinstance(value, list) and all(x in (1, 2, 3) and x is not True for x in value)
    return ints and len(set(value)) == len(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(x in (1, 2) and x is not True for x in value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[a-z,\\]]*", value) is not None


def _schema(source: Any) -> Grammar:
    return Grammar.from_json_schema(source, whitespace="compact")


OPEN = {"type": "object", "additionalProperties": {"enum": [1, 2]}}
CLOSED = {"type": "object", "properties": {"k": {"const": True}}, "additionalProperties": False}
UNIQUE = {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True}
LIST = {"type": "array", "items": {"enum": [1, 2]}}
WORD = {"type": "string", "pattern": "^[a-z,\\]]*$"}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 20}
LEAVES: dict[str, tuple[Grammar, Callable[[Any], bool]]] = {
    "open": (_schema(OPEN), _is_open),
    "closed": (_schema(CLOSED), _is_closed),
    "unique": (_schema(UNIQUE), _is_unique),
    "list": (_schema(LIST), _is_list),
    "word": (_schema(WORD), _is_word),
    "number": (_schema(NUMBER), lambda x: isinstance(x, int) and 0 <= x <= 20 and x is not True),
    "both": (_schema({"anyOf": [OPEN, UNIQUE]}), lambda x: _is_open(x) or _is_unique(x)),
}
VALUES = [
    "{}", '{"a":1}', '{"a":1,"b":2}', '{"a":1,"a":2}', '{"k":true}', "[]", "[1]", "[1,2]", "[1,1]",
    "[2,1,2]", '"a"', '",]"', '""', "7", "12",
]  # fmt: skip


def _judged(text: str, check: Callable[[Any], bool]) -> bool:
    try:
        value = _value(text)
    except (ValueError, RepeatedError):
        return False
    return check(value)


@dataclass(frozen=True)
class Node:
    """A composition: its grammar, and where its texts that begin at a place end."""

    grammar: Grammar
    ends: Callable[[str, int], set[int]]
    source: str

    def accepts(self, text: str) -> bool:
        return len(text) in self.ends(text, 0)


def leaf(name: str) -> Node:
    grammar, check = LEAVES[name]

    def ends(text: str, at: int) -> set[int]:
        return {i for i in range(at + 1, len(text) + 1) if _judged(text[at:i], check)}

    return Node(grammar, ends, name)


def literal(data: str) -> Node:
    return Node(
        Grammar.literal(data),
        lambda text, at: {at + len(data)} if text.startswith(data, at) else set(),
        repr(data),
    )


def pattern(source: str) -> Node:
    compiled = re.compile(source)

    def ends(text: str, at: int) -> set[int]:
        return {i for i in range(at, len(text) + 1) if compiled.fullmatch(text, at, i)}

    return Node(Grammar.from_regex(source), ends, f"/{source}/")


def joined(left: Node, right: Node) -> Node:
    return Node(
        left.grammar + right.grammar,
        lambda text, at: {e for i in left.ends(text, at) for e in right.ends(text, i)},
        f"({left.source} + {right.source})",
    )


def either(left: Node, right: Node) -> Node:
    return Node(
        left.grammar | right.grammar,
        lambda text, at: left.ends(text, at) | right.ends(text, at),
        f"({left.source} | {right.source})",
    )


def several(node: Node, low: int, high: int | None, separator: str) -> Node:
    def ends(text: str, at: int) -> set[int]:
        found: set[int] = {at} if low == 0 else set()
        now, count = {at}, 0
        while now and (high is None or count < high) and count < len(text) + 2:
            if count and separator:
                now = {i + len(separator) for i in now if text.startswith(separator, i)}
            now = {e for i in now for e in node.ends(text, i)}
            count += 1
            if count >= low:
                found |= now
        return found

    return Node(
        node.grammar.repeat(low, high, separator),
        ends,
        f"{node.source}.repeat({low}, {high}, {separator!r})",
    )


def freely(trigger: str, node: Node, end: str, required: bool) -> Node:
    """Free text without repetition."""

    def ends(text: str, at: int) -> set[int]:
        begin = text.find(trigger, at)
        limit = len(text) if begin < 0 else begin + len(trigger) - 1
        out = set() if required else set(range(at, limit + 1))
        if begin >= 0:
            inside = node.ends(text, begin + len(trigger))
            out |= {i + len(end) for i in inside if text.startswith(end, i)}
        return out

    grammar = Grammar.free_text([(trigger, node.grammar, end)], required=required, blanks=False)
    return Node(grammar, ends, f"free({trigger!r}, {node.source}, {end!r}, {required})")


LITERALS = ["#", "=>", ",", "\n", "{", "a", "]}", ' "']
PATTERNS = ["a*", "[a-c]+", "(=>)?", "\\{x*", "#?[a]"]


def nodes() -> st.SearchStrategy[Node]:
    base = (
        st.sampled_from(sorted(LEAVES)).map(leaf)
        | st.sampled_from(LITERALS).map(literal)
        | st.sampled_from(PATTERNS).map(pattern)
        | st.sampled_from(["open", "unique", "both"]).map(leaf)
    )
    return st.recursive(base, _grown, max_leaves=5)


def _grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(_tried(joined), inner, inner),
        st.builds(_tried(joined), inner, inner),
        st.builds(_tried(either), inner, inner),
        st.builds(
            _tried(several), inner, st.integers(0, 2), st.none() | st.integers(2, 3),
            st.sampled_from(["", "\n", ",", "#"]),
        ),
        st.builds(
            _tried(freely), st.sampled_from(["#", "=>", "ab"]), inner,
            st.sampled_from(["", "#", "}"]), st.booleans(),
        ),
    )  # fmt: skip


def _tried(make: Callable[..., Node]) -> Callable[..., Node]:
    """What cannot be located is refused, and no example."""

    def tried(*arguments: Any) -> Node:
        try:
            return make(*arguments)
        except GrammarError as error:
            if "where its text begins does not show" not in str(error):
                raise
        assume(False)
        raise AssertionError

    return tried


def texts_of(node: Node, seed: int) -> list[str]:
    """Texts, and texts with values and signs exchanged."""
    rng = random.Random(seed)
    out = []
    pieces = [*VALUES, *LITERALS, "x", "b", ""]
    for _ in range(12):
        if not node.grammar.is_empty:
            out.append(node.grammar.sample(rng.randrange(1000), None).decode())
    for text in list(out):
        parts = re.findall(r'\{[^{}]*\}|\[[^\[\]]*\]|"[^"]*"|.', text, re.DOTALL)
        for _ in range(3):
            changed = list(parts)
            for _ in range(rng.randint(1, 2)):
                at = rng.randint(0, len(changed))
                changed[at : at + rng.randint(0, 1)] = [rng.choice(pieces)]
            out.append("".join(changed))
        kin = [rng.choice(VALUES) if part[0] in '{["' else part for part in parts]
        out.append("".join(kin))
        twice = {"{": '{"a":1,"a":2}', "[": "[1,1]"}
        out.append("".join(twice.get(part[0], part) for part in parts))
    out += ["".join(rng.choice(pieces) for _ in range(rng.randint(0, 5))) for _ in range(15)]
    return [text for text in out if len(text) < 60]


many = settings(law_settings, max_examples=40)


@many
@given(nodes(), st.integers(0, 10**6))
def test_is_the_definition(node: Node, seed: int) -> None:
    for text in texts_of(node, seed):
        expected = node.accepts(text)
        assert node.grammar.accepts(text) == expected, (node.source, text)
        assert node.grammar.explain(text).accepted == expected


@settings(law_settings, max_examples=40)
@given(nodes(), st.integers(0, 10**6))
def test_samples_are_texts(node: Node, seed: int) -> None:
    if not node.grammar.is_empty:
        assert node.accepts(node.grammar.sample(seed).decode())


@settings(law_settings, max_examples=40)
@given(nodes())
def test_saved_and_pickled_it_is_the_same(node: Node) -> None:
    ir, limits = loads(dumps(node.grammar.ir, node.grammar.limits))
    assert ir == node.grammar.ir
    assert limits == node.grammar.limits
    again = pickle.loads(pickle.dumps(node.grammar))
    assert again == node.grammar
    assert hash(again) == hash(node.grammar)


@settings(law_settings, max_examples=60)
@given(nodes(), nodes(), nodes(), st.integers(0, 10**6))
def test_the_order_of_composing_is_free(one: Node, two: Node, three: Node, seed: int) -> None:
    for join in (joined, either):
        left = _if_located(join, _if_located(join, one, two), three)
        right = _if_located(join, one, _if_located(join, two, three))
        if left is None or right is None:
            continue
        for text in texts_of(left, seed)[:30]:
            assert left.grammar.accepts(text) == right.grammar.accepts(text), text


def _if_located(
    join: Callable[[Node, Node], Node], left: Node | None, right: Node | None
) -> Node | None:
    try:
        return None if left is None or right is None else join(left, right)
    except GrammarError:
        return None


SIGNS = [bytes([b]) for b in sorted(set(b'{}[]":,123abktrue#=>\nx '))]
WORDS = [
    *SIGNS,
    b'{"a":',
    b',"a',
    b'"a":1}',
    b"[1,",
    b",1]",
    b"1,1",
    b"}#",
    b'=>{"',
    b'}\n{"',
    b"]}",
]
VOCABULARY = Vocabulary.from_tokens([*WORDS, None], [len(WORDS)])


def _allowed(automaton: TokenAutomaton, state: int, left: int | None = None) -> list[int]:
    row = np.zeros(-(-VOCABULARY.size // 32), np.uint32)
    if left is None:
        automaton.fill_mask(state, row)
    else:
        automaton.fill_mask(state, row, tokens_left=left)
    return np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()


@settings(law_settings, max_examples=40)
@given(nodes(), st.integers(0, 10**6))
def test_masks(node: Node, seed: int) -> None:
    """A mask holds the tokens that lead somewhere, each prefix of a text leads somewhere, walks end."""
    rng = random.Random(seed)
    spelled = set(b"".join(WORDS))
    try:
        automaton = TokenAutomaton(node.grammar, VOCABULARY)
    except GrammarError:
        assume(False)
        raise
    for text in texts_of(node, seed)[:10]:
        data = text.encode()
        if not set(data) <= spelled:
            continue
        state = automaton.advance_bytes(automaton.start, data)
        assert automaton.is_accepting(state) == node.accepts(text), (node.source, text)
        if not node.accepts(text):
            continue
        state = automaton.advance_bytes(automaton.start, data[: rng.randint(0, len(data))])
        assert state != automaton.DEAD
        allowed = set(_allowed(automaton, state))
        for token in range(VOCABULARY.size):
            assert (token in allowed) == (automaton.advance(state, token) != automaton.DEAD)
    for left in (automaton.min_tokens_to_accept(automaton.start) + 1, 15):
        state, out = automaton.start, b""
        if automaton.min_tokens_to_accept(state) + 1 > left:
            continue
        while True:
            token = rng.choice(_allowed(automaton, state, left))
            state = automaton.advance(state, token)
            if token in VOCABULARY.eos_token_ids:
                break
            out, left = out + (VOCABULARY.token_bytes(token) or b""), left - 1
        assert node.accepts(out.decode()), (node.source, out)


# -- finite languages: every text is known, so is every mask -----------------------------------------------

FINITE: dict[str, tuple[Grammar, list[str]]] = {
    "object": (
        _schema(
            {
                "type": "object",
                "propertyNames": {"enum": ["a", "b"]},
                "additionalProperties": {"const": 1},
            }
        ),
        ["{}", '{"a":1}', '{"b":1}', '{"a":1,"b":1}', '{"b":1,"a":1}'],
    ),
    "unique": (
        _schema({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}),
        ["[]", "[1]", "[2]", "[1,2]", "[2,1]"],
    ),
    "list": (
        _schema({"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2}),
        ["[]", "[1]", "[2]", "[1,1]", "[1,2]", "[2,1]", "[2,2]"],
    ),
    "closed": (_schema(CLOSED), ["{}", '{"k":true}']),
    "words": (Grammar.from_regex("a?b?"), ["", "a", "b", "ab"]),
    "sign": (Grammar.literal("#"), ["#"]),
    "opening": (Grammar.from_choices(["{a", "x"]), ["{a", "x"]),
}


def _finite(rng: random.Random, depth: int) -> tuple[Grammar, frozenset[str]]:
    """A random composition with all its texts."""
    if depth == 0 or rng.random() < 0.2:
        grammar, texts = FINITE[rng.choice(["object", "unique", *FINITE])]
        return grammar, frozenset(texts)
    grammar, texts = _finite(rng, depth - 1)
    other, more = _finite(rng, depth - 1)
    match rng.randrange(4):
        case 0:
            return grammar | other, texts | more
        case 1:
            return grammar.optional(), texts | {""}
        case 2:
            sign = rng.choice([",", "#", ""])
            assume(len(texts) < 30)
            pairs = {a + sign + b for a in texts for b in texts}
            return grammar.repeat(1, 2, sign), texts | pairs
    assume(len(texts) * len(more) < 1500)
    return grammar + other, frozenset(a + b for a in texts for b in more)


@settings(law_settings, max_examples=60)
@given(st.integers(0, 10**9))
def test_masks_of_finite_languages(seed: int) -> None:
    rng = random.Random(seed)
    try:
        grammar, texts = _finite(rng, 3)
    except GrammarError as error:
        if "where its text begins does not show" not in str(error):
            raise
        return
    automaton = TokenAutomaton(grammar, VOCABULARY)
    data = {text.encode() for text in texts}
    eos = VOCABULARY.eos_token_ids[0]
    for text in rng.sample(sorted(data), min(len(data), 8)):
        state, read = automaton.start, b""
        while True:
            rest = {x[len(read) :] for x in data if x.startswith(read)}
            expected = {t for t, w in enumerate(WORDS) if any(x.startswith(w) for x in rest)}
            assert set(_allowed(automaton, state)) == expected | ({eos} if b"" in rest else set())
            ways = [t for t in expected if text.startswith(read + WORDS[t])]
            if not ways:
                break
            token = rng.choice(ways)
            state, read = automaton.advance(state, token), read + WORDS[token]
        assert read == text


# -- known compositions ----------------------------------------------------------------------------

OBJECT = _schema({"type": "object"})
ITEMS = _schema({"type": "array", "uniqueItems": True})
TWICE = '{"a":1,"a":2}'

KNOWN: dict[str, tuple[Callable[[], Grammar], list[str], list[str]]] = {
    "behind a literal": (
        lambda: Grammar.literal("args: ") + OBJECT,
        ['args: {"a":1}'], [f"args: {TWICE}", '{"a":1}', "args: "],
    ),
    "two on end": (
        lambda: OBJECT + ITEMS + OBJECT,
        ['{"a":1}[1,2]{"a":1}'], ["{}[1,1]{}", f"{{}}[]{TWICE}", f"{TWICE}[]{{}}"],
    ),
    "lines": (
        lambda: OBJECT.repeat(separator="\n"),
        ["", '{"a":1}\n{"a":1}', '{"a":{"b":1}}\n{}\n{}'], [f"{{}}\n{TWICE}", f"{TWICE}\n{{}}", "{}\n"],
    ),
    "optional": (lambda: OBJECT.optional(), ["", '{"a":1}'], [TWICE]),
    "beside text": (
        lambda: OBJECT | Grammar.from_regex("no|\\[.*"), ['{"a":1}', "no", "[1,1"], [TWICE, "yes"],
    ),
    "a token before": (
        lambda: Grammar.token("<|call|>") + OBJECT + Grammar.token("<|end|>"),
        ['<|call|>{"a":1}<|end|>', '<|call|>{"a":"<|call"}<|end|>'],
        [f"<|call|>{TWICE}<|end|>", '{"a":1}<|end|>'],
    ),
    "behind text of any kind": (
        lambda: Grammar.from_regex("[^{]*") + OBJECT + Grammar.from_regex("[^{]*"),
        ['see "{"a":1}"', "{}"], [f"see {TWICE}", f"{TWICE}"],
    ),
    "in brackets that nest": (
        lambda: Grammar.from_gbnf('root ::= "(" root ")" | "f" v', rules={"v": OBJECT}),
        ['((f{"a":1}))', "f{}"], [f"(f{TWICE})"],
    ),
    "in a thought and behind it": (
        lambda: Grammar.free_text({"</think>": Grammar.literal("call ") + OBJECT}),
        [f'{TWICE} call {TWICE}</think>call {{"a":1}}'], [f"</think>call {TWICE}"],
    ),
    "text behind free text": (
        lambda: Grammar.free_text([("<c>", OBJECT, "</c>")], repeat=True) + Grammar.token("<|end|>"),
        ['<c>{"a":1}</c> b <c>{"a":1}</c>c<|end|>'], [f"a<c>{{}}</c>b<c>{TWICE}</c>c<|end|>"],
    ),
    "only one compares": (
        lambda: Grammar.literal("x") + (ITEMS | _schema({"type": "array", "maxItems": 2})),
        ["x[1,2,3]", "x[1,1]", 'x[",]",",]"]'], ["x[1,1,1]", "x[1,2,1]"],
    ),
    "all JSON, only one compares": (
        lambda: ITEMS | _schema({"enum": [[1, 1], {"a": [2, 2, 2]}, "],"]}),
        ["[1,2]", "[1,1]", '{"a":[2,2,2]}', '"],"'], ["[2,2]", '{"a":[2,2]}'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_compositions(name: str, tmp_path: Path) -> None:
    make, good, bad = KNOWN[name]
    made = make()
    made.save(tmp_path / "made.gramma")
    for grammar in (made, Grammar.load(tmp_path / "made.gramma"), pickle.loads(pickle.dumps(made))):
        assert grammar == made
        for text in good:
            assert grammar.accepts(text), text
            assert grammar.explain(text).accepted
        for text in bad:
            assert not grammar.accepts(text), text
            assert not grammar.explain(text).accepted
    assert made == make()
    assert hash(made) == hash(make())


def test_explain_names_the_key_that_is_repeated() -> None:
    found = (Grammar.literal("args: ") + OBJECT).explain(f"args: {TWICE}")
    assert "the key 'a' occurs twice" in found.message
    assert found.offset == len('args: {"a":1,"a')


@pytest.mark.parametrize(("make", "part"), [
    (lambda: OBJECT | Grammar.from_regex("\\{.*"), "at the start of the text"),
    (lambda: Grammar.from_regex(".*") + OBJECT, "at the start of the text"),
    (lambda: Grammar.from_regex("ab(\\{+b)?") + OBJECT, "behind 'ab'"),
    (lambda: Grammar.from_regex("x*\\{?") + OBJECT, "at the start of the text"),
    (lambda: Grammar.free_text([("#", Grammar.from_regex("[0-9#]*")), ("!", OBJECT)], repeat=True)
        + OBJECT, ""),
])  # fmt: skip
def test_what_does_not_show_is_refused(make: Callable[[], Grammar], part: str) -> None:
    """The same with parts that compare nothing is fine."""
    with pytest.raises(GrammarError, match="where its text begins does not show") as caught:
        make()
    assert part in str(caught.value)
    assert "additionalProperties: false" in str(caught.value)


def test_parts_that_compare_nothing_are_read_like_other_text() -> None:
    closed = _schema(CLOSED)
    grammar = (closed | Grammar.from_regex("\\{[^=]*")) + Grammar.literal("=>") + OBJECT
    assert grammar.accepts('{"k":true}=>{"a":1}')
    assert grammar.accepts('{"k"=>{"a":1}')
    assert not grammar.accepts('{"k":true}=>' + TWICE)


def test_a_search_for_parts_is_bounded() -> None:
    """Which of the last twenty letters was an ``a`` is a million sets of readings."""
    grammar = Grammar.from_gbnf('root ::= [ab{] root | "a" [ab{]{7} [ab{]{7} [ab{]{7} "c"')
    with pytest.raises(LimitExceeded):
        Grammar.literal("", limits=Limits(max_dfa_states=5_000)) + grammar + OBJECT


# -- the algebra -----------------------------------------------------------------------------------


def test_operators_and_their_arguments() -> None:
    a, b = Grammar.literal("a"), Grammar.literal("b")
    assert [(a + b).accepts(x) for x in ("ab", "a", "ba")] == [True, False, False]
    assert [(a | b).accepts(x) for x in ("a", "b", "ab")] == [True, True, False]
    assert [a.optional().accepts(x) for x in ("", "a", "aa")] == [True, True, False]
    assert [a.repeat(2, 3).accepts("a" * n) for n in range(5)] == [False, False, True, True, False]
    assert [a.repeat(1, separator=b).accepts(x) for x in ("a", "aba", "ab", "")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert a.repeat(0, 0).accepts("")
    assert not a.repeat(0, 0).accepts("a")
    with pytest.raises(TypeError):
        a + "b"  # type: ignore[operator]
    with pytest.raises(TypeError):
        a.repeat(True)
    with pytest.raises(ValueError, match="bad bounds"):
        a.repeat(3, 2)


def test_equal_compositions_are_equal() -> None:
    one = Grammar.token("<c>") + OBJECT
    two = Grammar.token("<c>") + _schema({"type": "object"})
    assert one == two
    assert hash(one) == hash(two)
    assert one != Grammar.token("<d>") + OBJECT
    assert one.tokens == ("<c>",)
    assert one.accepts([SpecialToken("<c>"), "{}"])


def test_a_union_of_json_is_json() -> None:
    """So blanks may stand around it, and masks are judged as for a schema."""
    union = OBJECT | _schema({"type": "integer"}) | ITEMS
    assert union.is_json
    assert not (OBJECT + OBJECT).is_json
    assert not (OBJECT | Grammar.literal("x")).is_json
    assert Grammar.free_text({"#": union}).accepts('#\n{"a":1}')


# -- rules of other grammars in a text -----------------------------------------------------------------


def test_gbnf_with_rules_of_other_grammars() -> None:
    grammar = Grammar.from_gbnf(
        'root ::= name "(" args ")" | list\nname ::= [a-z]+\nlist ::= "[" args ("," args)* "]"',
        rules={"args": OBJECT},
    )
    for text in ('f({"a":1})', '[{"a":1},{"a":1}]', "g({})"):
        assert grammar.accepts(text)
    for text in (f"f({TWICE})", f"[{{}},{TWICE}]", "f()", "f(1)"):
        assert not grammar.accepts(text)
    assert "the key 'a' occurs twice" in grammar.explain(f"f({TWICE})").message


@pytest.mark.parametrize(("source", "rules", "message"), [
    ('root ::= "x" args\nargs ::= "y"', {"args": OBJECT}, "is defined in the text"),
    ('root ::= "x"', {"args": OBJECT}, "nothing refers to"),
    ('root ::= "x" arg', {"args": OBJECT}, "did you mean 'args'"),
])  # fmt: skip
def test_wrong_rules_of_other_grammars(source: str, rules: Any, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        Grammar.from_gbnf(source, rules=rules)


def test_rules_of_other_grammars_are_grammars() -> None:
    with pytest.raises(TypeError, match="rules"):
        Grammar.from_gbnf("root ::= a", rules={"a": "text"})  # type: ignore[dict-item]


LARK = """
start: call ("," call)*
call: NAME "(" args? ")" | NAME "=" STRING
NAME: /[a-z]+/
STRING: /"[^"]*"/
%ignore " "
"""


def test_lark_with_rules_of_other_grammars() -> None:
    """To the lexer a text of another grammar is one token: blanks are ignored around it, not within."""
    grammar = Grammar.from_lark(LARK, rules={"args": OBJECT})
    for text in ('f({"a":1})', ' f ( {"a":1} ) , g({"a":2}),h()', 'x = "{", f({})', 'x="\ufdd0"'):
        assert grammar.accepts(text), text
    for text in (f"f({TWICE})", 'f({ "a":1})', "f(\ufdd0)", 'f({"a":1}{})'):
        assert not grammar.accepts(text), text
    assert "the key 'a' occurs twice" in grammar.explain(f"f({TWICE})").message
    assert (grammar + Grammar.token("<|end|>")).accepts('f({"a":1})<|end|>')


@pytest.mark.parametrize(("source", "rules", "message"), [
    ('start: "x" args\nargs: "y"', {"args": OBJECT}, "args"),
    ('start: "x"', {"args": OBJECT}, "nothing refers to"),
    ('start: "x" arg', {"args": OBJECT}, "'arg' is not defined"),
    ('start: "x" args', {"Args": OBJECT}, "no name of a Lark rule"),
])  # fmt: skip
def test_wrong_rules_in_lark(source: str, rules: Any, message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        Grammar.from_lark(source, rules=rules)


def test_any_front_end_stands_inside_any_other() -> None:
    makers: list[Callable[[dict[str, Grammar]], Grammar]] = [
        lambda rules: Grammar.from_lark('start: "<" part ">"', rules=rules),
        lambda rules: Grammar.from_gbnf('root ::= "<" part ">"', rules=rules),
        lambda rules: Grammar.literal("<") + rules["part"] + Grammar.literal(">"),
        lambda rules: Grammar.free_text([("<", rules["part"], ">")]),
    ]
    inner = [
        (OBJECT, '{"a":1}', TWICE),
        (Grammar.from_regex("[a-z]+"), "abc", "1"),
        (Grammar.from_lark("start: NUMBER\nNUMBER: /[0-9]+/"), "12", "a"),
        (Grammar.from_gbnf('root ::= "(" root ")" | "x"'), "((x))", "((x)"),
        (Grammar.token("<|call|>") + OBJECT, '<|call|>{"a":1}', f"<|call|>{TWICE}"),
        (Grammar.free_text({"!": OBJECT}), '{!{"a":1}', f"!{TWICE}"),
    ]
    for outer in makers:
        for grammar, good, bad in inner:
            for again in (grammar, Grammar.from_gbnf("root ::= part", rules={"part": grammar})):
                made = outer({"part": again})
                assert made.accepts(f"<{good}>"), good
                assert not made.accepts(f"<{bad}>"), bad


# -- exact separators ------------------------------------------------------------------------------

SEPARATORS = [(", ", ": "), (",", ":"), (",", ": "), (" ,\n", " : ")]
SPACED: dict[str, tuple[Any, list[Any]]] = {
    "any": (True, [{"a": [1, "x, y: [z], \\", {}], "b, c": {"d:": None}}, [], {}, 1, "a, b"]),
    "object": (
        {"type": "object", "properties": {"a,": {"type": "string"}, "b": {"type": "array"}}},
        [{"a,": ",:", "b": [1, [2, 3]]}, {"c": {"d": 1, "e": 2}}, {}],
    ),
    "constants": (
        {"enum": [[1, 1, [2, ",", 2]], {"a,b": {"c:": [1, 2]}}, "x, y", ":,"]},
        [[1, 1, [2, ",", 2]], {"a,b": {"c:": [1, 2]}}, "x, y", ":,"],
    ),
    "unique": (
        {"type": "array", "uniqueItems": True, "items": {"type": ["array", "string"]}},
        [[[1, 1], [1], ",", "]"], []],
    ),
    "patterns": (
        {
            "type": "object",
            "patternProperties": {"^[a,:]+$": {"type": "string", "pattern": '^[,:"x]*$'}},
            "additionalProperties": False,
        },
        [{"a,:": ",:", ",": '"x,'}, {"::": ""}],
    ),
    "any order": (
        {"properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["a", "b"], "type": "object"},
        [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
    ),
    "few items": (
        {"type": "array", "prefixItems": [{"const": 1}], "contains": {"const": 2}, "maxItems": 4},
        [[1, 2], [1, 2, 3, 4]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("separators", SEPARATORS)
@pytest.mark.parametrize("name", SPACED)
def test_separators_as_json_dumps_writes_them(name: str, separators: tuple[str, str]) -> None:
    source, values = SPACED[name]
    options: dict[str, Any] = {"property_order": "any"} if name == "any order" else {}
    grammar = Grammar.from_json_schema(source, separators=separators, **options)
    for value in values:
        text = json.dumps(value, separators=separators)
        assert grammar.accepts(text), text
        for other in SEPARATORS:
            written = json.dumps(value, separators=other)
            assert grammar.accepts(written) == (written == text), written
        assert not grammar.accepts(text.replace("[", "[ ") if "[" in text else f" {text}")
    for seed in range(10):
        text = grammar.sample(seed).decode()
        value = json.loads(text)
        assert json.loads(json.dumps(value)) == value
        stripped = Grammar.from_json_schema(source, whitespace="compact", **options)
        assert stripped.accepts(_respaced(text, separators))


def _respaced(text: str, separators: tuple[str, str]) -> str:
    """Without the blanks around commas and colons outside of strings."""
    parts = re.findall(r'"(?:[^"\\]|\\.)*"|[^"]+', text)
    for item, sign in zip(separators, ",:", strict=True):
        parts = [p if p[0] == '"' else p.replace(item, sign) for p in parts]
    return "".join(parts)


@pytest.mark.parametrize(("separators", "error"), [
    ((";", ":"), ValueError), ((",", ""), ValueError), ((",,", ":"), ValueError), ((",",), TypeError),
    (",:", TypeError), ((1, 2), TypeError),
])  # fmt: skip
def test_wrong_separators(separators: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Grammar.from_json_schema(True, separators=separators)
