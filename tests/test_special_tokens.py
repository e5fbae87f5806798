"""Special tokens in grammars: symbols outside the bytes, from ``Grammar.token`` to masks."""

from __future__ import annotations

import pickle
import random
import warnings

import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constrain import SpecialTokenWarning, TokenAutomaton, Vocabulary
from grammars import BudgetError, Grammar, GrammarError, SpecialToken
from grammars.special_tokens import framed

CALL, END, NAMELESS, EOS = 6, 7, 8, 9
TEXTS: list[bytes | None] = [b"a", b"b", b"ab", b"ba", b"<", b"c>", None, None, None, None]
NAMES = {"<c>": CALL, "<e>": END, "</s>": EOS}
SPELLED = [*TEXTS[:6], framed("<c>"), framed("<e>"), framed("[8]"), framed("</s>")]
"""The vocabulary as the oracle takes it: a special token is spelled as it is in the rules."""


def vocabulary() -> Vocabulary:
    return Vocabulary.from_tokens(TEXTS, EOS, special_tokens=NAMES)


# -- the grammar ---------------------------------------------------------------------------------

ACCEPTED: list[tuple[Grammar, object, bool]] = [
    (Grammar.token("<c>"), "<c>", True),
    (Grammar.token("<c>"), b"<c>", False),
    (Grammar.token("<c>"), [SpecialToken("<c>")], True),
    (Grammar.token("<c>"), ["<c>"], True),
    (Grammar.token("<c>"), [b"<c>"], False),
    (Grammar.token("<c>"), ["<", "c>"], False),
    (Grammar.token("<c>"), framed("<c>"), False),
    (Grammar.token(8), "[8]", True),
    (Grammar.literal("<c>"), "<c>", True),
    (Grammar.literal("<c>"), [SpecialToken("<c>")], False),
    (Grammar.token("<c>") + Grammar.literal("<c>"), ["<c>", "<c>"], False),
    (Grammar.token("<c>") + Grammar.literal("<c>"), ["<c>", b"<c>"], True),
    (Grammar.token("<c>") + Grammar.literal("a") + Grammar.token("<e>"), "<c>a<e>", True),
    (Grammar.token("<c>") | Grammar.token("<c>x"), "<c>x", True),
    (Grammar.token("<c>").repeat(2, 3, separator="-"), "<c>-<c>", True),
    (Grammar.token("<c>").repeat(2, 3, separator="-"), "<c>", False),
    (Grammar.token("<c>").optional(), "", True),
]


@pytest.mark.parametrize(("grammar", "data", "accepted"), ACCEPTED)
def test_accepts_and_explain_agree_on_parts(grammar: Grammar, data: object, accepted: bool) -> None:
    assert grammar.accepts(data) is accepted  # type: ignore[arg-type]
    assert grammar.explain(data).accepted is accepted  # type: ignore[arg-type]


def test_explain_tells_special_tokens_by_their_names() -> None:
    grammar = Grammar.token("<|call|>") + Grammar.from_regex("[a-z]+") + Grammar.token("<|end|>")
    refused = grammar.explain("<|call|>ab1")
    assert refused.offset == len("<|call|>ab")
    assert "the special token <|end|>" in refused.expected
    assert "unexpected special token <|call|>" in str(grammar.explain("<|call|>a<|call|>"))
    assert "\xff" not in str(grammar.explain("<|call|>a<|call|>"))
    assert "SpecialToken(name='<x>')" in str(grammar.explain([SpecialToken("<x>")]))
    assert "0xFF" in str(grammar.explain(b"\xff"))


def test_samples_have_the_names_and_are_read_again() -> None:
    grammar = (Grammar.token("<|call|>") | Grammar.token("<|x|>")) + Grammar.from_regex("[a-z]*")
    for seed in range(20):
        assert grammar.accepts(grammar.sample(seed).decode())


def test_a_grammar_with_tokens_is_saved_and_pickled(tmp_path: object) -> None:
    grammar = Grammar.token("<c>") + Grammar.from_regex("a|b") + Grammar.token(8)
    path = f"{tmp_path}/g.gramma"
    grammar.save(path)
    for copy in (Grammar.load(path), pickle.loads(pickle.dumps(grammar))):
        assert copy == grammar
        assert copy.tokens == ("<c>", "[8]")


@pytest.mark.parametrize("token", ["", -1, "\ud800"])
def test_names_that_are_none_are_refused(token: str | int) -> None:
    with pytest.raises(GrammarError):
        Grammar.token(token)


def test_the_reserved_byte_cannot_stand_beside_special_tokens() -> None:
    with pytest.raises(GrammarError, match="0xFF"):
        Grammar.token("<c>") + Grammar.from_choices([b"\xff"])
    assert Grammar.from_choices([b"\xff"]).accepts(b"\xff")


# -- the vocabulary ------------------------------------------------------------------------------


def test_a_token_the_vocabulary_lacks_is_refused_by_name() -> None:
    with pytest.raises(GrammarError, match=r"'<x>'.*it has '<c>'"):
        TokenAutomaton(Grammar.token("<x>"), vocabulary())
    with pytest.raises(GrammarError, match="ids 0 to 9"):
        TokenAutomaton(Grammar.token(77), vocabulary())
    with pytest.raises(GrammarError, match="knows no names"):
        TokenAutomaton(Grammar.token("<x>"), Vocabulary.from_tokens(TEXTS, EOS))


def test_a_text_equal_to_the_name_of_a_special_token_warns() -> None:
    tokens = [bytes([b]) for b in range(256)] + [None, None]
    words = Vocabulary.from_tokens(tokens, 256, special_tokens={"<|x|>": 257})
    with pytest.warns(SpecialTokenWarning, match=r"<\|x\|>"):
        TokenAutomaton(Grammar.literal("say <|x|>"), words)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TokenAutomaton(Grammar.token("<|x|>"), words)
        TokenAutomaton(Grammar.literal("say <|y|>"), words)


def test_the_id_of_an_ordinary_token_is_its_text() -> None:
    automaton = TokenAutomaton(Grammar.token(2) + Grammar.token("<c>"), vocabulary())
    assert automaton.allowed_tokens(automaton.start).tolist() == [0, 2]


def test_an_added_token_that_is_named_is_that_token_alone() -> None:
    texts: list[bytes | None] = [b"<", b"t", b">", b"<t>", b"x", None]
    words = Vocabulary.from_tokens(texts, 5, special_tokens={"<t>": 3})
    named = TokenAutomaton(Grammar.token("<t>") + Grammar.literal("x"), words)
    assert named.allowed_tokens(named.start).tolist() == [3]
    spelled = TokenAutomaton(Grammar.literal("<t>x"), words)
    assert spelled.allowed_tokens(spelled.start).tolist() == [0, 3]


def test_an_eos_token_that_is_named_is_a_symbol_before_it_ends_the_text() -> None:
    automaton = TokenAutomaton(Grammar.literal("a") + Grammar.token("</s>"), vocabulary())
    after = automaton.advance(automaton.start, 0)
    assert automaton.allowed_tokens(after).tolist() == [EOS]
    assert automaton.min_tokens(after) == (1, True)
    over = automaton.advance(after, EOS)
    assert automaton.is_accepting(over)
    assert automaton.advance(over, EOS) == automaton.FINISHED


def test_bytes_never_spell_a_special_token() -> None:
    automaton = TokenAutomaton(Grammar.literal("a") + Grammar.token("<c>"), vocabulary())
    assert automaton.advance_bytes(automaton.start, b"a" + framed("<c>")) == automaton.DEAD
    assert automaton.advance_bytes(automaton.start, b"a<c>") == automaton.DEAD
    assert automaton.forced_bytes(automaton.start) == b"a"
    assert automaton.forced_tokens(automaton.start) == [0, CALL]


def test_vocabularies_with_other_names_differ() -> None:
    plain = Vocabulary.from_tokens(TEXTS, EOS)
    assert vocabulary() == vocabulary() != plain
    assert pickle.loads(pickle.dumps(vocabulary())) == vocabulary()
    spelled = vocabulary().with_special_tokens()
    assert pickle.loads(pickle.dumps(spelled)) == spelled != vocabulary()
    assert spelled.token_bytes(CALL) is None
    assert vocabulary().name_of(CALL) == "<c>"
    assert vocabulary().name_of(NAMELESS) == "[8]"


# -- the laws ------------------------------------------------------------------------------------


def grammars() -> st.SearchStrategy[Grammar]:
    """Grammars over ``a``, ``b``, ``<`` and special tokens."""
    leaves = st.one_of(
        st.sampled_from(["<c>", "<e>", "</s>", 8]).map(Grammar.token),
        st.text("ab<", max_size=3).map(Grammar.literal),
        st.sampled_from(["a*", "(ab)+", "[ab]{1,2}", "<c>|b"]).map(Grammar.from_regex),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
            st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
            st.tuples(inner, st.sampled_from([(0, 1), (0, None), (1, 2)])).map(
                lambda pair: pair[0].repeat(*pair[1])
            ),
        ),
        max_leaves=5,
    )


@given(grammars(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_masks_steps_and_distances_are_those_of_brute_force(
    grammar: Grammar, rng: random.Random
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpecialTokenWarning)
        automaton = TokenAutomaton(grammar, vocabulary())
    state, prefix = automaton.start, b""
    for _ in range(5):
        member = oracle.member(grammar.ir, prefix)
        assert automaton.is_accepting(state) == member
        expected_fewest = oracle.min_tokens(grammar.ir, prefix, SPELLED)
        assert expected_fewest is not None
        fewest, exact = automaton.min_tokens(state)
        assert (fewest == expected_fewest) if exact else (fewest >= expected_fewest)
        allowed = automaton.allowed_tokens(state).tolist()
        expected = oracle.mask(grammar.ir, prefix, SPELLED, ())
        ends = {EOS} if member else set()
        assert set(allowed) == expected | ends
        known = {t for t in expected if automaton.min_tokens(automaton.advance(state, t))[1]}
        for left in (1, 2, 3):
            within = {t for t in expected if _fits(grammar, prefix + SPELLED[t], left - 1)}
            found = set(automaton.allowed_tokens(state, left).tolist())
            assert found <= within | ends
            assert found >= within & known | ends
        good = [t for t in allowed if t != EOS or not member]
        for token in range(len(TEXTS)):
            if token not in allowed:
                assert automaton.advance(state, token) == automaton.DEAD
        if not good:
            break
        token = rng.choice(good)
        state, prefix = automaton.advance(state, token), prefix + SPELLED[token]
        assert state != automaton.DEAD


def _fits(grammar: Grammar, prefix: bytes, left: int) -> bool:
    """Whether the text, EOS included, can be completed in so many tokens."""
    fewest = oracle.min_tokens(grammar.ir, prefix, SPELLED)
    return fewest is not None and fewest + 1 <= left


def test_a_budget_counts_a_special_token_once() -> None:
    grammar = Grammar.token("<c>") + Grammar.from_regex("[ab]*") + Grammar.token("<e>")
    automaton = TokenAutomaton(grammar, vocabulary())
    assert automaton.min_tokens(automaton.start) == (2, True)
    after = automaton.advance(automaton.start, CALL)
    assert automaton.allowed_tokens(after, 2).tolist() == [END]
    assert issubclass(BudgetError, ValueError)


def test_uniqueness_is_kept_between_special_tokens() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    entry = (SpecialToken("<|c|>"), Grammar.from_json_schema(schema), SpecialToken("<|e|>"))
    grammar = Grammar.free_text([entry], required=True, repeat=True)
    assert grammar.accepts('x <|c|>{"a":1}<|e|> y <|c|>{"a":1,"b":2}<|e|>')
    assert not grammar.accepts('x <|c|>{"a":1}<|e|> y <|c|>{"a":1,"a":2}<|e|>')
    assert not grammar.accepts('x <|c|>{"a":1}')
    tokens: list[bytes | None] = [bytes([b]) for b in range(256)] + [None, None, None]
    names = {"<|c|>": 256, "<|e|>": 257}
    words = Vocabulary.from_tokens(tokens, 258, special_tokens=names)
    automaton = TokenAutomaton(grammar, words)
    state = automaton.advance(automaton.advance_bytes(automaton.start, b"x "), 256)
    state = automaton.advance_bytes(state, b'{"a":1,"a')
    assert ord('"') not in automaton.allowed_tokens(state).tolist()
    assert ord("b") in automaton.allowed_tokens(state).tolist()
    state = automaton.advance_bytes(state, b'b":2}')
    assert 257 in automaton.allowed_tokens(state).tolist()
    state = automaton.advance(state, 257)
    assert automaton.is_accepting(state)
    assert {256, 258, ord("x")} <= set(automaton.allowed_tokens(state).tolist())
