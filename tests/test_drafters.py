"""What the cheap drafters guess."""

from __future__ import annotations

from typing import Any

import pytest
from toys import EOS, vocabulary

from constrain import TokenAutomaton
from grammars import Grammar
from samplers.drafters import (
    Context,
    Drafter,
    Forced,
    GrammarCounts,
    Observation,
    PromptLookup,
    TokenRecycling,
    Trigram,
)
from samplers.drafters.forced import Style
from samplers.drafters.prompt_lookup import find
from samplers.drafters.text import longest_tokens
from samplers.speculative.choices import Drawn
from samplers.speculative.law import Sampling
from samplers.speculative.scorer import Scores
from samplers.speculative.target import Constrained
from samplers.speculative.tree import ROOT, Tree


def _tokens(text: bytes) -> list[int]:
    return longest_tokens(vocabulary().trie, text)


def _context(grammar: Grammar, text: bytes, prompt: bytes = b"x", room: int = 40) -> Context:
    target = Constrained(TokenAutomaton(grammar, vocabulary()))
    state = target.start()
    new = _tokens(text)
    for token in new:
        after = target.advance(state, token)
        assert after is not None, text
        state = after
    before = _tokens(prompt)
    return Context(
        row=0,
        tokens=[*before, *new],
        prompt_length=len(before),
        tokens_left=60,
        target=target,
        tree=Tree(state),
        room=room,
        sampling=Sampling(),
        choices=Drawn(0),
    )


def _longest(tree: Tree) -> bytes:
    """The text of the deepest chain."""
    if not len(tree):
        return b""
    deepest = max(range(len(tree)), key=lambda i: tree.nodes[i].depth)
    return vocabulary().decode(tree.tokens_to(deepest))


def _schema(**properties: Any) -> Grammar:
    return Grammar.from_json_schema(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )


PAIR = _schema(abc={"type": "integer"}, d={"type": "integer"})


class TestForced:
    def test_forced_bytes_are_drafted(self) -> None:
        context = _context(Grammar.from_regex(r"x(abcd){2}(e|f)"), b"x")
        Forced().propose(context)
        assert b"abcdabcd".startswith(_longest(context.tree))
        assert len(_longest(context.tree)) >= 6

    @pytest.mark.parametrize(
        ("text", "guess"),
        [
            (b"{", b'"abc": '),
            (b'{"abc": 1,', b' "d": '),
            (b'{"abc":1,', b'"d":'),
            (b'{\n  "abc": 1,', b'\n  "d": '),
        ],
    )
    def test_blanks_in_the_style_of_the_text(self, text: bytes, guess: bytes) -> None:
        context = _context(PAIR, text)
        Forced().propose(context)
        assert _longest(context.tree) == guess

    def test_it_goes_on_behind_other_drafts(self) -> None:
        context = _context(PAIR, b'{"abc": 1')
        comma = _tokens(b",")[0]
        context.add(ROOT, comma, "other", 0.5)
        Forced().propose(context)
        assert _longest(context.tree) == b', "d": '

    def test_nothing_where_there_is_a_choice(self) -> None:
        context = _context(Grammar.from_regex("[abc]+"), b"a")
        Forced().propose(context)
        assert len(context.tree) == 0

    @pytest.mark.parametrize(
        ("text", "sign", "following", "depth", "blanks"),
        [
            (b'{"a": 1, "b"', ord(":"), ord("1"), 1, b" "),
            (b'{"a":1,"b":', ord(","), ord('"'), 1, b""),
            (b'{\n  "a": [\n    1,\n    2', ord(","), ord("3"), 2, b"\n    "),
            (b'{\n  "a": [\n    1', ord("1"), ord("]"), 2, b"\n  "),
            (b'{\n  "a": [\n    1\n  ],', ord(","), ord('"'), 1, b"\n  "),
            (b'{"a": "x, y:  z", ', ord(","), ord('"'), 1, b" "),
        ],
    )
    def test_style(self, text: bytes, sign: int, following: int, depth: int, blanks: bytes) -> None:
        style = Style()
        style.read(text)
        assert style.between(sign, following, depth) == blanks

    def test_style_is_read_in_parts(self) -> None:
        whole, parts = Style(), Style()
        text = b'{\n "a\\"b": [1,  2], "c": {}'
        whole.read(text)
        for end in range(len(text) + 1):
            parts.read(text[:end])
        assert parts == whole


class TestPromptLookup:
    @pytest.mark.parametrize(
        ("prompt", "text", "found"),
        [
            (b"to abc dex", b'"ab', (2, b"c dex")),
            (b"ab1 ab2", b"ab", (2, b"2")),  # the latest occurrence
            (b"xyz", b"ab", None),
            (b"", b"abcab", (2, b"cab")),
            (b"ab", b"ab", None),  # nothing follows
        ],
    )
    def test_find(self, prompt: bytes, text: bytes, found: tuple[int, bytes] | None) -> None:
        assert find(prompt, text) == found

    def test_copies_though_tokens_differ(self) -> None:
        grammar = _schema(a={"type": "string"})
        context = _context(grammar, b'{"a": "12', prompt=b"x 123.45 e")
        PromptLookup().propose(context)
        assert _longest(context.tree).startswith(b"3.45")

    def test_drops_what_the_grammar_forbids(self) -> None:
        context = _context(_schema(a={"type": "integer"}), b'{"a": 12', prompt=b"x 123ab")
        PromptLookup().propose(context)
        assert _longest(context.tree) == b"3"


def _observe(drafter: Drafter, grammar: Grammar, text: bytes) -> Context:
    """Shows a drafter a text token by token, with logits that point at what came."""
    import torch

    target_context = _context(grammar, b"")
    target, state = target_context.target, target_context.tree.root_state
    tokens = [*_tokens(b"x")]
    for token in [*_tokens(text), EOS]:
        context = Context(0, list(tokens), 1, 60, target, Tree(state), 40, Sampling(), Drawn(0))
        after = target.advance(state, token)
        logits = torch.zeros(1, 1, 64)
        logits[0, 0, token] = 5.0
        drafter.observe(
            Observation(context, context.tree, [], [token], [after], Scores(logits, None), 0)
        )
        tokens.append(token)
        state = after
    return target_context


class TestLearned:
    def test_counts_repeat_what_came_in_the_same_place(self) -> None:
        drafter = GrammarCounts()
        context = _observe(drafter, PAIR, b'{"abc": 12, "d": 3}')
        drafter.propose(context)
        assert _longest(context.tree).startswith(b'{"abc":')

    def test_counts_know_items_of_a_list_apart_from_its_length(self) -> None:
        grammar = Grammar.from_json_schema(
            {"type": "array", "items": {"const": "abc"}, "maxItems": 5000}
        )
        drafter = GrammarCounts()
        text = b'["abc", "abc", "abc", "abc'
        seen = _observe(drafter, grammar, text + b'"]')
        context = _context(grammar, text)
        context.target = seen.target
        context.tree = Tree(_state_after(seen, text))
        drafter.propose(context)
        assert b'", "abc' in _longest(context.tree)

    @pytest.mark.parametrize("kind", [TokenRecycling, Trigram])
    def test_tables_repeat_what_followed(self, kind: type[Drafter]) -> None:
        drafter = kind()
        context = _observe(drafter, PAIR, b'{"abc": 12, "d": 3}')
        drafter.propose(context)
        assert len(context.tree)
        assert b'{"abc": 12, "d": 3}'.startswith(_longest(context.tree)[:4])

    @pytest.mark.parametrize("kind", [TokenRecycling, Trigram, GrammarCounts])
    def test_reset_forgets(self, kind: type[Drafter]) -> None:
        drafter = kind()
        context = _observe(drafter, PAIR, b'{"abc": 1, "d": 3}')
        drafter.reset()
        drafter.propose(context)
        assert len(context.tree) == 0


def _state_after(context: Context, text: bytes) -> Any:
    state = context.target.start()
    for token in _tokens(text):
        state = context.target.advance(state, token)
    return state


@pytest.mark.parametrize("kind", [Forced, GrammarCounts, PromptLookup, TokenRecycling, Trigram])
def test_room_is_kept_and_nothing_forbidden_is_drafted(kind: type[Drafter]) -> None:
    drafter = kind()
    _observe(drafter, PAIR, b'{"abc": 1, "d": 3}')
    context = _context(PAIR, b'{"abc": 1', room=3)
    context.tokens_left = 2
    drafter.begin(context)
    drafter.propose(context)
    assert len(context.tree) <= 3
    for node in context.tree.nodes:
        assert node.depth <= 2
        before = context.tree.state(node.parent)
        assert context.target.advance(before, node.token) == node.state
