"""Indentation: grammars with an indenter against lark, masks against enumeration."""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import lark
import numpy as np
import pytest
from lark.indenter import Indenter, PythonIndenter

from constrain import TokenAutomaton, Vocabulary
from constrain.layout import broad
from grammars import Grammar, GrammarError
from grammars.ir import Layout, Mark, single_rule
from grammars.layout.widths import marks_of
from grammars.storage import dumps, loads

TREE = r"""
    ?start: _NL* tree
    tree: NAME _NL [_INDENT tree+ _DEDENT]
    NAME: /[a-z]+/
    _NL: /(\r?\n[\t ]*)+/
    %declare _INDENT _DEDENT
    %ignore " "
"""

SUITES = r"""
    start: (_NEWLINE | stmt)*
    ?stmt: simple | "if" expr ":" suite
    simple: expr (";" expr)* _NEWLINE
    suite: simple | _NEWLINE _INDENT stmt+ _DEDENT
    expr: NAME | STRING | "(" [expr ("," expr)*] ")" | "[" expr "]"
    NAME: /[a-z]+/
    STRING: /'[^']*'/
    COMMENT: /#[^\n]*/
    _NEWLINE: ( /\r?\n[\t ]*/ | COMMENT )+
    %ignore /[ \t]+/
    %ignore COMMENT
    %declare _INDENT _DEDENT
"""

LISTS = r"""
    start: item (_NL item)*
    item: NAME [":" _NL _INDENT item (_NL item)* _DEDENT]
    NAME: /[a-z]/
    _NL: /(\n *)+/
    %declare _INDENT _DEDENT
"""
"""Newlines between items: an inner list can only end with the text."""

DOCS = r"""
    ?start: _NL* tree
    tree: NAME _NL [_INDENT tree+ _DEDENT]
    NAME: /[a-z]+/
    COMMENT: /"[^"]*"/
    _NL: ( /\r?\n[\t ]*/ | COMMENT )+
    %declare _INDENT _DEDENT
    %ignore " "
    %ignore COMMENT
"""
"""Newlines that may end with a comment, whose blanks count."""

SPREAD = r"""
    start: open body+ close
    open: NAME ":" _NL _INDENT
    close: _DEDENT END
    body: NAME paren? _NL
    paren: left NAME? right
    left: "("
    right: ")"
    END: "."
    NAME: /[a-z]/
    _NL: /(\n[ ]*)+/
    %declare _INDENT _DEDENT
"""
"""Levels and brackets that one rule opens and another one closes."""


class TreeIndenter(Indenter):
    NL_type = "_NL"
    OPEN_PAREN_types: ClassVar = ["LPAR"]
    CLOSE_PAREN_types: ClassVar = ["RPAR"]
    INDENT_type = "_INDENT"
    DEDENT_type = "_DEDENT"
    tab_len = 8


class NarrowTabs(TreeIndenter):
    tab_len = 2


CASES: dict[str, tuple[str, type[Indenter], str]] = {
    "tree": (TREE, TreeIndenter, "a\n "),
    "tree with narrow tabs": (TREE, NarrowTabs, "a\n\t "),
    "suites": (SUITES, PythonIndenter, "a:(\n '"),
    "lists": (LISTS, TreeIndenter, "a:\n "),
    "docs": (DOCS, TreeIndenter, 'a\n "'),
    "spread": (SPREAD, TreeIndenter, "a:\n (."),
}


def reads(source: str, indenter: type[Indenter]) -> Callable[[str], bool]:
    """Lark's verdict; failed assertions and other errors of its indenter are refusals."""
    parser = lark.Lark(source, parser="lalr", postlex=indenter())

    def verdict(text: str) -> bool:
        try:
            parser.parse(text)
        except (lark.exceptions.LarkError, AssertionError, IndexError):
            return False
        return True

    return verdict


@lru_cache
def made(name: str) -> tuple[Grammar, Callable[[str], bool]]:
    source, indenter, _ = CASES[name]
    return Grammar.from_lark(source, postlex=indenter), lru_cache(None)(reads(source, indenter))


@pytest.mark.parametrize("name", CASES)
def test_short_texts_are_read_as_by_lark(name: str) -> None:
    grammar, verdict = made(name)
    letters = CASES[name][2]
    most = {3: 8, 4: 7, 6: 5}.get(len(letters), 5)
    accepted = 0
    for length in range(most):
        for letter in itertools.product(letters, repeat=length):
            text = "".join(letter)
            accepted += verdict(text)
            assert grammar.accepts(text) == verdict(text), repr(text)
    assert accepted or name in ("spread", "lists")


PIECES = {
    "tree": ["a\n", "a\n ", "a\n  ", "a\n    ", "\t", "b\n\n", "a", " ", "\n", "\r\n", "\r"],
    "suites": [
        "a\n", "if a:\n", "if b: c\n", " ", "    ", "\t", "(", ")", "[", "]", ",", "# x\n", "#  y", "'\n '",
        "\n", "\r\n", "if(a):\n  ", "a;b\n", ";", "  a\n", "    a\n",
    ],
    "docs": ["a\n", "a\n ", '\n "a b"', '" "', ' " "', '"\n "', '"', "a", " ", "\n", '"  "a\n', '\n"\n  "'],
    "lists": ["a", "b:\n", "\n", " ", "  ", "a:\n  ", "\na", "\n  b"],
    "spread": ["a:\n", " ", "a\n", "a()\n", "a(\n)\n", "."],
}  # fmt: skip


@pytest.mark.parametrize("name", PIECES)
def test_random_texts_are_read_as_by_lark(name: str) -> None:
    grammar, verdict = made(name)
    rng = random.Random(name)
    accepted = 0
    for _ in range(2_000):
        text = "".join(rng.choice(PIECES[name]) for _ in range(rng.randint(1, 9)))
        accepted += verdict(text)
        assert grammar.accepts(text) == verdict(text), repr(text)
    assert accepted > (0 if name == "spread" else 20)


def test_samples_are_read_by_lark() -> None:
    for name in CASES:
        grammar, verdict = made(name)
        texts = {grammar.sample(seed).decode() for seed in range(60)}
        assert len(texts) > 10, name
        for text in texts:
            assert grammar.accepts(text), (name, text)
            assert verdict(text), (name, text)
        least = len(grammar.sample(0, len(min(texts, key=len))))
        assert least <= len(min(texts, key=len))


def test_python_indenter_is_the_default() -> None:
    plain, given = Grammar.from_lark(SUITES), Grammar.from_lark(SUITES, postlex=PythonIndenter())
    assert plain == given
    assert plain.layout == Layout(8)
    assert Grammar.from_lark('start: "a"').layout is None
    assert Grammar.from_lark(TREE).accepts("a\n b\n c\n")


def test_basic_lexing_has_indentation_too() -> None:
    grammar = Grammar.from_lark(SUITES, lexer="basic")
    assert grammar.accepts("if a:\n  b\n  (c,\nd)\ne\n")
    assert not grammar.accepts("if a:\n  b\n c\n")


# -- masks ----------------------------------------------------------------------------------------

TOKENS: dict[str, list[bytes]] = {
    "tree": [b"a", b"\n", b" ", b"\t", b"\r", b"\na", b"\n a", b"\n  ", b"a\n", b" a", b"a\n a", b"\n\n"],
    "suites": [
        b"a", b"\n", b" ", b":", b"if", b"i", b"f", b"if a:", b"\n  ", b"\n a", b"(", b")", b"(\n", b"\na",
        b" a", b"'", b"'\n '", b"#", b"# a\n", b";", b",", b"[", b"]", b"\r", b"\t", b"a\n\nif", b")\n ",
    ],
    "docs": [
        b"a", b"\n", b" ", b'"', b"\r", b"\t", b'\n"', b'\n "', b'" "', b'"a', b' "a', b'"\n', b'"\n ',
        b'a" "a', b'"" ', b'\n" "a', b'" a', b'"\n  "a', b"\na",
    ],
    "lists": [b"a", b":", b"\n", b" ", b":\n", b":\n a", b"\n a", b"\na", b"  ", b"a\n"],
    "spread": [b"a", b":", b"\n", b" ", b"(", b")", b".", b":\n a", b"\n.", b"()\n", b"(\n", b"\n\n  a"],
}  # fmt: skip

ENDINGS: dict[str, list[bytes]] = {
    "tree": [b"", b"\n", b"a\n"],
    "docs": [b"", b"\n", b"a\n", b'"', b'"\n', b'"a\n', b'"\na\n', b'""\n', b'"a"\n'],
    "lists": [b"", b"a"],
    "spread": [a + b for a in (b"", b")\n", b"\n", b"a\n", b":\n a\n", b"a:\n a\n") for b in (b"", b".")],
}  # fmt: skip
WIDTHS = [b"", *(b"\n" + b" " * k for k in range(12))]


def suite_endings(text: bytes) -> list[bytes]:
    """What may end a text of ``SUITES``: its string, then its brackets, then its line and its suite."""
    out = [b"", b"a\n"]
    for quote in (b"", b"'"):
        inner, open_ = False, []
        for byte in text + quote:
            if byte == ord("'"):
                inner = not inner
            elif not inner and byte in b"([":
                open_.append(b")" if byte == ord("(") else b"]")
            elif not inner and byte in b")]" and open_:
                open_.pop()
        close = b"".join(reversed(open_))
        for item in (b"", b"a", b" a"):
            for rest in (b"", b":a", b" a:a"):
                out.append(quote + item + close + rest + b"\n")
    return out


def bits(row: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist())


@pytest.mark.parametrize("name", TOKENS)
def test_masks_hold_what_can_be_completed(name: str) -> None:
    """Bit by bit along random walks: a token is allowed if and only if some completion is found.

    Completions are looked for among short ones, which suffices for these grammars; a bit without any is a
    failure just like a completion without a bit.
    """
    grammar, verdict = made(name)
    tokens = TOKENS[name]
    eos = len(tokens)
    automaton = TokenAutomaton(grammar, Vocabulary.from_tokens([*tokens, None], [eos]))

    @lru_cache(None)
    def completable(text: bytes) -> bool:
        endings = suite_endings(text) if name == "suites" else ENDINGS[name]
        found = (text + w + e for w in WIDTHS for e in endings)
        more = (text + e + w + f for e in endings for w in WIDTHS for f in (b"", b"a", b"a\n"))
        return any(verdict(t.decode()) for t in itertools.chain(found, more))

    rng = random.Random(name)
    for _ in range(4):
        state, text = automaton.start, b""
        for _ in range(7):
            mask = bits(automaton.mask(state))
            expected = {t for t, piece in enumerate(tokens) if completable(text + piece)}
            expected |= {eos} if verdict(text.decode()) else set()
            assert mask == expected, (text, [(*tokens, None)[t] for t in mask ^ expected])
            check_moves(automaton, state, text, tokens, mask)
            check_budgets(automaton, state, tokens, mask)
            onward = sorted(mask - {eos})
            if not onward:
                break
            token = rng.choice(onward)
            text += tokens[token]
            state = automaton.advance(state, token)


@pytest.mark.parametrize("name", TOKENS)
def test_masks_do_not_depend_on_what_is_taken_for_wide(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rules that call others marked wide, and none of them."""
    grammar, _ = made(name)
    tokens = TOKENS[name]
    vocabulary = Vocabulary.from_tokens([*tokens, None], [len(tokens)])
    automata = []
    for least in (1, 1_000):
        monkeypatch.setattr(broad, "_MANY_BYTES", least)
        automata.append(TokenAutomaton(grammar, vocabulary))
    rng = random.Random(name)
    for _ in range(30):
        states = [automaton.start for automaton in automata]
        for _ in range(12):
            masks = [bits(a.mask(s)) for a, s in zip(automata, states, strict=True)]
            assert masks[0] == masks[1]
            onward = sorted(masks[0] - {len(tokens)})
            if not onward:
                break
            token = rng.choice(onward)
            states = [a.advance(s, token) for a, s in zip(automata, states, strict=True)]


def check_moves(
    automaton: TokenAutomaton, state: int, text: bytes, tokens: list[bytes], mask: set[int]
) -> None:
    """advance, advance_bytes, edges, walk_from and the mask say the same."""
    allowed, after = automaton.edges(state)
    assert set(allowed.tolist()) == mask - {len(tokens)}
    leads = dict(zip(allowed.tolist(), after.tolist(), strict=True))
    whole = automaton.advance_bytes(automaton.start, text)
    assert whole == state, "tokenisation does not matter"
    for token, piece in enumerate(tokens):
        reached = automaton.advance(state, token)
        assert reached == leads.get(token, automaton.DEAD)
        assert reached == automaton.advance_bytes(state, piece)
    ends, reached_there, _ = automaton.walk_from(state, 0)
    trie = automaton.trie
    found = {
        int(trie.tokens[i]): place
        for node, place in zip(ends.tolist(), reached_there.tolist(), strict=True)
        for i in range(trie.token_start[node], trie.token_start[node + 1])
    }
    assert found == leads


def check_budgets(
    automaton: TokenAutomaton, state: int, tokens: list[bytes], mask: set[int]
) -> None:
    """A budget is kept by every token of its mask, and a mask is empty only where it does not suffice."""
    needed, _ = automaton.min_tokens(state)
    assert (needed == 0) == automaton.is_accepting(state)
    for left in (1, needed, needed + 1, needed + 3, needed + 40):
        within = bits(automaton.mask(state, left))
        assert within <= mask
        assert bool(within) == (left > needed)
        for token in within - {len(tokens)}:
            assert automaton.min_tokens(automaton.advance(state, token))[0] + 2 <= left
    assert bits(automaton.mask(state, 1_000)) == mask


def test_whoever_follows_the_distance_arrives() -> None:
    grammar, verdict = made("suites")
    tokens = TOKENS["suites"]
    automaton = TokenAutomaton(grammar, Vocabulary.from_tokens([*tokens, None], [len(tokens)]))
    rng = random.Random(1)
    for _ in range(40):
        left = rng.randint(2, 12)
        state, text = automaton.start, b""
        while True:
            mask = bits(automaton.mask(state, left))
            assert mask, (text, left)
            token = rng.choice(sorted(mask))
            left -= 1
            if token == len(tokens):
                break
            text += tokens[token]
            state = automaton.advance(state, token)
        assert verdict(text.decode()), text


def test_states_are_kept_and_forgotten() -> None:
    grammar, _ = made("suites")
    tokens = TOKENS["suites"]
    automaton = TokenAutomaton(grammar, Vocabulary.from_tokens([*tokens, None], [len(tokens)]))
    kept = automaton.advance_bytes(automaton.start, b"if a:\n  if b:\n    a\n  ")
    before = automaton.mask(kept).copy()
    other = automaton.advance_bytes(automaton.start, b"if a:\n (\n")
    automaton.trim([kept])
    assert np.array_equal(automaton.mask(kept), before)
    with pytest.raises(ValueError, match="no state"):
        automaton.mask(other)
    again = pickle.loads(pickle.dumps(automaton))
    there = again.advance_bytes(again.start, b"if a:\n  if b:\n    a\n  ")
    assert np.array_equal(again.mask(there), before)
    assert again.forced_bytes(again.advance_bytes(again.start, b"if a:\n  (")) == b""


def test_what_is_forced() -> None:
    automaton = TokenAutomaton(
        Grammar.from_lark(SPREAD, postlex=TreeIndenter),
        Vocabulary.from_tokens([*TOKENS["spread"], None], [len(TOKENS["spread"])]),
    )
    state = automaton.advance_bytes(automaton.start, b"a")
    assert automaton.forced_bytes(state) == b":\n"


# -- depth ----------------------------------------------------------------------------------------


def nested(levels: int) -> str:
    return "".join(" " * i + "if a:\n" for i in range(levels)) + " " * levels + "a\n"


def test_depth_is_limited() -> None:
    grammar = Grammar.from_lark(SUITES)
    assert grammar.accepts(nested(100))
    assert not grammar.accepts(nested(101))
    assert "100 levels" in grammar.explain(nested(101)).message


@pytest.mark.parametrize("name", ["tree", "suites"])
def test_masks_near_the_deepest_level(name: str) -> None:
    """With one level at most a mask is what enumeration says of texts no deeper than that."""
    deep, _ = made(name)
    ir, _ = loads(dumps(deep.ir, deep.limits))
    object.__setattr__(ir, "layout", Layout(8, 1))
    grammar = Grammar(ir)
    suites = name == "suites"
    tokens = [b"a", b"\n", b" ", b"a\n ", *([b":", b"i", b"f", b"if a:\n"] if suites else [])]
    begin = b"if a:\n a\n" if suites else b"a\n a\n"
    automaton = TokenAutomaton(grammar, Vocabulary.from_tokens([*tokens, None], [len(tokens)]))
    endings = [b"", b"a\n", *([b":a\n", b"f a:a\n", b" a:a\n", b"a:a\n"] if suites else [])]

    @lru_cache(None)
    def completable(text: bytes) -> bool:
        return any(
            grammar.accepts(text + e + w + f)
            for e in endings
            for w in WIDTHS[:5]
            for f in (b"", b"a\n", b"a:a\n")
        )

    rng = random.Random(2)
    deepest = 0
    for turn in range(12):
        text = begin if turn % 2 else b""
        state = automaton.advance_bytes(automaton.start, text)
        for _ in range(7):
            mask = bits(automaton.mask(state)) - {len(tokens)}
            assert mask == {t for t, piece in enumerate(tokens) if completable(text + piece)}, text
            if not mask:
                break
            deepest = max(deepest, text.count(b"\n "))
            token = rng.choice(sorted(mask))
            text += tokens[token]
            state = automaton.advance(state, token)
    assert deepest > 1


# -- refusals and storage -------------------------------------------------------------------------


def test_grammars_are_saved_with_their_layout() -> None:
    grammar = Grammar.from_lark(TREE, postlex=NarrowTabs)
    again = pickle.loads(pickle.dumps(grammar))
    assert again == grammar
    assert again.layout == Layout(2)
    assert again.accepts("a\n\tb\n  c\n")
    assert not again.accepts("a\n\tb\n c\n")
    damaged = dumps(grammar.ir, grammar.limits).replace('"tab_length":2', '"tab_length":0')
    with pytest.raises(GrammarError):
        loads(damaged)


def test_explanations_speak_of_widths() -> None:
    grammar = Grammar.from_lark(SUITES)
    for text, said in (
        (
            "if a:\n    b\n  c\n",
            "the line is 2 wide, which is no level of indentation that is open (0, 4)",
        ),
        ("a\n  b\n", "unexpected indentation: the line is 2 wide, expected 0"),
        ("if a:\nb\n", "expected an indented line, wider than 0"),
        ("if a:\n    (b\n", "the text ends too early"),
    ):
        found = grammar.explain(text)
        assert not found.accepted
        assert said in found.message
    assert grammar.explain("if a:\n  b\n").accepted
    assert grammar.explain("if a:\n    b\n  c\n").offset == len("if a:\n    b\n  ")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (TREE.replace(r"/(\r?\n[\t ]*)+/", r"/\n */"), "cannot hold blank lines"),
        (TREE.replace(r"/(\r?\n[\t ]*)+/", r"/\n+/"), "any number of blanks"),
        (TREE.replace(r"/(\r?\n[\t ]*)+/", '";"'), "cannot hold a line end"),
        (TREE.replace("_NL", "_EOL"), "which this grammar does not have"),
        ('start: "a" _NL _INDENT\n_NL: /(\\n *)+/\n%declare _INDENT _DEDENT', "does not close"),
        (TREE.replace("[_INDENT tree+ _DEDENT]", "[_INDENT tree+ [_DEDENT]]"), "other levels"),
        (
            TREE.replace("%declare _INDENT _DEDENT", '_INDENT: "x"\n%declare _DEDENT'),
            "has a pattern",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(source: str, said: str) -> None:
    with pytest.raises(GrammarError, match=said.replace("(", r"\(")) as error:
        Grammar.from_lark(source)
    assert error.value.line is not None


def test_indenters_that_cannot_be_followed_are_refused() -> None:
    class Own(TreeIndenter):
        def handle_NL(self, token: lark.Token) -> list[lark.Token]:  # noqa: N802
            return [token]

    with pytest.raises(TypeError, match="overrides handle_NL"):
        Grammar.from_lark(TREE, postlex=Own)
    with pytest.raises(TypeError, match=r"must be a lark\.indenter\.Indenter"):
        Grammar.from_lark(TREE, postlex="_NL")
    with pytest.raises(GrammarError, match="an indenter needs tokens"):
        Grammar.from_lark(TREE, lexer="dynamic")
    with pytest.raises(GrammarError, match="has no pattern"):
        Grammar.from_lark('start: "a" X\n%declare X')


def test_no_layout_is_dropped_in_silence() -> None:
    grammar = Grammar.from_lark(TREE)
    for compose in (
        lambda: grammar + Grammar.literal("x"),
        lambda: grammar | Grammar.literal("x"),
        lambda: grammar.repeat(2),
        lambda: Grammar.free_text({"####": grammar}),
    ):
        with pytest.raises(GrammarError, match="indentation"):
            compose()
    with pytest.raises(GrammarError, match="each of its bytes"):
        TokenAutomaton(grammar, Vocabulary.from_tokens([b"ab\n", b"a", None], [2]))


def test_widths_and_marks() -> None:
    layout = Layout(8, 3)
    same, indent, dedent = 258, 259, 260
    assert marks_of((2, 4), 4, layout, end=False) == ((same,), (2, 4))
    assert marks_of((2, 4), 5, layout, end=False) == ((indent,), (2, 4, 5))
    assert marks_of((2, 4), 0, layout, end=False) == ((dedent, dedent), ())
    assert marks_of((2, 4), 3, layout, end=False)[0] == ()
    assert marks_of((2, 4, 6), 8, layout, end=False)[0] == ()
    assert marks_of((2, 4), 2, layout, end=True) == ((261, 263, 263), ())
    assert marks_of((), 1, layout, end=True) == ((262, 263), ())
    assert Grammar(single_rule(Mark(258))).accepts("") is False


def test_the_relaxation_allows_more() -> None:
    grammar, _ = made("tree")
    tokens = TOKENS["tree"]
    automaton = TokenAutomaton(grammar, Vocabulary.from_tokens([*tokens, None], [len(tokens)]))
    relaxed = automaton.rules_only()
    assert relaxed is not automaton
    for text in (b"", b"a\n", b"a\n a\n", b"a\n  a\n "):
        mine = automaton.mask(automaton.advance_bytes(automaton.start, text))
        more = relaxed.mask(relaxed.advance_bytes(relaxed.start, text))
        assert bits(mine) <= bits(more)
    flat = relaxed.advance_bytes(relaxed.start, b"a\n  a\n a\n")
    assert flat != relaxed.DEAD


def test_rules_of_other_grammars_and_dialects() -> None:
    source = TREE.replace("NAME _NL [", "(NAME | given) _NL [")
    with pytest.raises(GrammarError, match="indentation"):
        Grammar.from_lark(source, rules={"given": Grammar.literal("1")})
    with pytest.raises(ValueError, match="no postlex"):
        Grammar.from_lark('start: "a"', dialect="llguidance", postlex=TreeIndenter)
