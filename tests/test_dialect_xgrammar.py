"""xgrammar's EBNF: what it says and refuses, and xgrammar's own verdicts."""

from __future__ import annotations

import itertools
import re

import pytest

from grammars import Grammar, GrammarError, SpecialToken, UnkeptConstraintWarning


def make(text: str, start: str = "root") -> Grammar:
    return Grammar.from_gbnf(text, start, dialect="xgrammar")


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ('root ::= "a"{2,-1} | "b"{1} "c" {0,}', ["aa", "aaaa", "b", "bcc"], ["a", ""]),
        ('root ::=\n  | "a" |\n  "b"\n  x\nx ::= ( ) | [0-9]+ # end', ["a", "b", "b7"], ["c", ""]),
        (
            r'root ::= "\x41\u0042\U0001F600\e\?\/\0" [\]\-\x1F600^]',
            ["AB😀\x1b?/\0" + c for c in "]-😀^"],
            ["A"],
        ),
        ("root ::= [^] [^a-c-] [a-]", ["\nx-", "ada"], ["aa-", "-b-"]),
        ('root ::= a.b-c\na.b-c ::= a.b-c "x" | "x"', ["x", "xxx"], [""]),
        ('root ::= Regex("\\\\d+\\\\.\\\\w") "!"', ["12.a!"], ["12!", "١.a!"]),
        ('root ::= Regex("a.B", flags="i")', ["AxB", "axb"], ["a\nb"]),
        ('root ::= Regex("a.b")', ["a\nb", "axb"], ["ab"]),
        ('root ::= Regex("a.*", json_string=true)', ["axé"], ['a"', "a\\", "a\n"]),
        (
            'root ::= "<" Substring("ab", "c", "ab") ">"',
            ["<>", "<abc>", "<cab>"],
            ["<b>", "<abab>"],
        ),
        ('root ::= w "c"\nw[lazy] ::= [ab]+ "b"', ["abc", "bbc"], ["abbc", "bc"]),
        ('root ::= [a-z]* "!"\nx[max_chars=3] ::= [é]+', ["abc!"], ["é"]),
        ('root ::= x "."\nx[ max_chars = 3 ] ::= ("é" "é")+', ["éé.", "éééé."], ["é.", "éééééé."]),
        ('root ::= "a" x\nx ::= "b" (= "c")\ny ::= "c"', ["ab"], ["abc"]),
    ],
)
def test_constructs(text: str, good: list[str], bad: list[str]) -> None:
    grammar = make(text)
    assert [t for t in good if not grammar.accepts(t)] == []
    assert [t for t in bad if grammar.accepts(t)] == []


@pytest.mark.parametrize("loop", [True, False])
def test_dispatch_against_a_search(loop: bool) -> None:
    grammar = make(
        f'root ::= TagDispatch(("ab", one), ("b", two), loop_after_dispatch={str(loop).lower()}, '
        'excludes=("cc",))\none ::= "1"\ntwo ::= "2"'
    )

    def accepts(text: str) -> bool:
        found = re.search("b", text)
        if found is None:
            return "cc" not in text
        before, after = text[: found.end()], text[found.end() :]
        if "cc" in before:
            return False
        answers = {"2"} | ({"1"} if before.endswith("ab") else set())
        if after[:1] not in answers or not after:
            return False
        return accepts(after[1:]) if loop else after[1:] == ""

    for length in range(7):
        for letters in itertools.product("abc12", repeat=length):
            text = "".join(letters)
            assert grammar.accepts(text) is accepts(text), text


def test_tokens() -> None:
    grammar = make('root ::= Token(7, 9) TokenTagDispatch((3, x), excludes=(4,))\nx ::= "y"')
    assert set(grammar.tokens) == {"[7]", "[9]", "[3]"}
    seven, three = SpecialToken("[7]"), SpecialToken("[3]")
    assert grammar.accepts([seven, "free", three, "y more"])
    assert not grammar.accepts([seven, "free", three, "z"])


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("root ::= foo", (1, 10), "'foo' is not defined"),
        ('root ::= "a" x ::= "b"', (1, 14), "begins its line"),
        ('root ::= "a"\nroot ::= "b"', (2, 1), "defined twice"),
        ('a ::= "b"', (1, 1), "no rule 'root'"),
        ('root ::= "a', (1, 10), "never closed"),
        (r'root ::= "\q"', (1, 11), "invalid escape"),
        (r"root ::= [\d]", (1, 11), "invalid escape"),
        ("root ::= [b-a]", (1, 11), "bad range"),
        ('root ::= "a"{3,2}', (1, 10), "bad bounds"),
        ('root ::= ("a"', (1, 10), "for this '\\('"),
        ("root ::= ", (1, 10), "empty text"),
        ('root[max_tokens=4] ::= "a"', (1, 1), "max_chars="),
        ('root[color=4] ::= "a"', (1, 5), "bad option"),
        ("root ::= ExcludeToken(4)", (1, 10), "list the tokens"),
        ("root ::= Token()", (1, 10), "one or more"),
        ('root ::= Regex("(")', (1, 10), "Regex"),
        ('root ::= Regex("a", flags="x")', (1, 10), "only i, s and u"),
        ('root ::= TagDispatch("a")', (1, 10), "pairs"),
        (
            'root ::= TagDispatch(("ab", x), excludes=("a",))\nx ::= "x"',
            (1, 10),
            "beginning of 'ab'",
        ),
        ('root ::= TagDispatch(("a", y))', (1, 31), "'y' is not defined"),
    ],
)
def test_refusals_say_where(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(GrammarError, match=message) as found:
        make(text)
    assert (found.value.line, found.value.column) == place


def test_other_starts_and_dialects() -> None:
    assert make('root ::= "a"\nb ::= "b"', "b").accepts("b")
    with pytest.raises(ValueError, match="dialect"):
        Grammar.from_gbnf('root ::= "a"', dialect="abnf")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be str"):
        make(7)  # type: ignore[arg-type]


def test_what_bears_on_no_text_is_said() -> None:
    with pytest.warns(UnkeptConstraintWarning, match="line 1: temperature=0.5"):
        assert make('root[temperature=0.5] ::= "a"').accepts("a")
    with pytest.warns(UnkeptConstraintWarning, match="line 2: the capture of rule 'x' does not"):
        assert make('root[lazy] ::= x\nx[capture] ::= "a"').captures("a") == ()


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "a" [b-d]{1,3} | ("x" | "")+ "a"?',
        'root ::= root "ab" | x\nx ::= "b" x "b" | "c"',
        'root ::= TagDispatch(("ab", x), loop_after_dispatch=true)\nx ::= "c" | "d" x',
        'root ::= Regex("a(b|c)*d?") [^a]',
        'root ::= x{2,3} "d"?\nx ::= ("a" | [bc]{2,}) | ""',
    ],
)
def test_texts_against_xgrammar(text: str) -> None:
    xgrammar = pytest.importorskip("xgrammar")
    testing = pytest.importorskip("xgrammar.testing")
    theirs = xgrammar.Grammar.from_ebnf(text)
    ours = make(text)
    for length in range(5):
        for letters in itertools.product("abcd", repeat=length):
            data = "".join(letters)
            assert ours.accepts(data) == testing._is_grammar_accept_string(theirs, data), data
