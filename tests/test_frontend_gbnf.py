"""The GBNF front end: what is accepted, and what is refused where."""

from __future__ import annotations

import pytest

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.choices import choices_to_ir
from grammars.frontends.gbnf import gbnf_to_ir
from grammars.grammar import Grammar
from grammars.ir import EPSILON, Repeat, Span, walk

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space
ws ::= | " " | "\n" [ \t]{0,20}
"""

# name -> (grammar, texts accepted, texts refused)
TABLE: dict[str, tuple[str, list[str], list[str]]] = {
    "json": (
        JSON,
        ["{}", '{"a":[1,-2.5e3,"x\\n\\u00e9é"], "b":{\n  "c":null}}', "{ }\n "],
        ["[]", "{", '{"a"}', '{"a":01}', '{"a":"\n"}'],
    ),
    "comments": ('# first\nroot ::= # body\n "a" # end\n# last', ["a"], ["#"]),
    "body on the next line": ('root ::=\n\n # note\n "a"', ["a"], [""]),
    "bar at the end of a line": ('root ::= "a" |\n# note\n "b"\n', ["a", "b"], ["ab"]),
    "lines inside a group": ('root ::= (\n"a"\n"b"\n|\n"c"\n) "d"', ["abd", "cd"], ["ab", "d"]),
    "nested groups": ('root ::= (("a" | ("b"))\n("c"))+', ["ac", "bcac"], ["", "ab"]),
    "repetition after a line inside a group": ('root ::= ("a"\n*)', ["", "aa"], ["b"]),
    "empty alternatives": ('root ::= "a" | | "b"', ["a", "", "b"], ["ab"]),
    "empty at the end": ('root ::= "a" |', ["a", ""], ["|"]),
    "empty group": ('root ::= "a" () "b"', ["ab"], ["a"]),
    "empty string": ('root ::= "" "a" ""*', ["a"], [""]),
    "carriage returns": ('root ::= "a" |\r\n  x\r\nx ::= "b"\r\n', ["a", "b"], ["\r"]),
    "only carriage returns": ('root ::= x\rx ::= "b"\r', ["b"], []),
    "tabs": ('root\t::=\t"a"\t"b"', ["ab"], []),
    "string escapes": (
        r'root ::= "\n\r\t\\\"\[\]\-\x41\u00e9\U0001F600"',
        ['\n\r\t\\"[]-Aé😀'],
        [],
    ),
    "escapes are code points": (r'root ::= "\xe9" [\xe8-\xea]', ["éè", "éê"], ["é"]),
    "line in a string": ('root ::= "a\nb"', ["a\nb"], ["ab"]),
    "hash and bar in a string": ('root ::= "#|(" [#|("]', ["#|(#", "#|(|"], []),
    "class": ("root ::= [a-cx-]", ["a", "c", "x", "-"], ["d", ""]),
    "hyphen first": ("root ::= [-a]", ["-", "a"], ["b"]),
    "negated class": ("root ::= [^a-c\\n]", ["d", "é", "😀", "^"], ["a", "\n", ""]),
    "caret inside": ("root ::= [a^]", ["a", "^"], ["b"]),
    "escaped bracket": (r"root ::= [\]\[\\]", ["]", "[", "\\"], ["a"]),
    "range of escapes": (r"root ::= [\u0391-\u03a9\U0001F600-\U0001F64F]", ["Α", "😀"], ["α"]),
    "any character": ("root ::= .", ["a", "\n", "😀"], ["", "ab"]),
    "exactly": ('root ::= "ab"{2}', ["abab"], ["ab", "ababab"]),
    "at least": ('root ::= "a"{2,}', ["aa", "aaaaa"], ["a"]),
    "between": ('root ::= [ab]{1,3}', ["a", "bab"], ["", "aaaa"]),
    "blanks in bounds": ('root ::= "a"{ 1 , 2 }', ["a", "aa"], ["", "aaa"]),
    "none": ('root ::= "a"{0} "b"{0,0}', [""], ["a", "b"]),
    "repeated repetition": ('root ::= "a"{2}{2} "b"+?', ["aaaa", "aaaab"], ["aa"]),
    "blank before the sign": ('root ::= "a" * "b" ?', ["", "aab"], ["bb"]),
    "left recursion": ('root ::= root "a" | "b"', ["b", "baa"], ["a", "ab"]),
    "hidden left recursion": ('root ::= e root "a" | "b"\ne ::= "x"?', ["b", "xba", "ba"], ["xb"]),
    "mutual recursion": ('root ::= "(" b\nb ::= root ")" | ")"', ["()", "(())"], ["(", "(()"]),
    "only recursion": ('root ::= "a" root', [], ["", "a"]),
    "names": ('root ::= a-b1 | C_d | 9\na-b1 ::= "x"\nC_d ::= "y"\n9 ::= "z"', ["x", "y", "z"], []),
    "unused rules": ('other ::= "b"\nroot ::= "a"', ["a"], ["b"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    source, yes, no = TABLE[name]
    grammar = Grammar(gbnf_to_ir(source))
    for text in yes:
        assert grammar.accepts(text), text
    for text in no:
        assert not grammar.accepts(text), text


def test_a_byte_order_mark_is_skipped() -> None:
    assert Grammar.from_gbnf('\ufeffroot ::= "a"') == Grammar.from_gbnf('root ::= "a"')
    assert Grammar.from_lark('\ufeffstart: "a"') == Grammar.from_lark('start: "a"')
    assert Grammar.from_json_schema('\ufeff{"type": "null"}').accepts("null")


@pytest.mark.parametrize(
    ("source", "line", "column", "parts"),
    [
        ('root ::= valeu\nvalue ::= "a"', 1, 10, ["'valeu' is not defined", "'value'"]),
        ('x ::= "a" |\n  y', 2, 3, ["'y' is not defined"]),
        ('rot ::= "a"', 1, 1, ["no rule 'root'", "'rot'"]),
        ("", 1, 1, ["no rule 'root'"]),
        ('root ::= "a"\nroot ::= "b"', 2, 1, ["'root' is defined twice", "line 1"]),
        ('root ::= "a', 1, 10, ["string is never closed"]),
        ('root ::= "a\nb ::= "c"\n', 1, 10, ["runs over the end of its line", "add '\"'"]),
        ("root ::= [a-z", 1, 10, ["class is never closed"]),
        ('root ::= ("a" | "b"\n', 1, 10, ["'(' is never closed"]),
        ('root ::= ("a" ]', 1, 15, ["expected ')'", "column 10"]),
        ('root ::= "a")', 1, 13, ["unexpected ')'"]),
        ("root ::= [^]", 1, 10, ["empty class"]),
        ("root ::= [a-z]]", 1, 15, ["unexpected"]),
        (r'root ::= "a\q"', 1, 12, ["unknown escape", r"\\q"]),
        (r'root ::= "\x4g"', 1, 11, ["needs 2 hexadecimal"]),
        (r"root ::= [\u12]", 1, 11, ["needs 4 hexadecimal"]),
        (r'root ::= "\U00110000"', 1, 11, ["bad escape"]),
        (r'root ::= "\ud83d\ude00"', 1, 11, ["surrogate"]),
        (r"root ::= [\ud800-\udfff]", 1, 10, ["surrogate"]),
        ('start: "a" | B', 1, 6, ["Grammar.from_lark"]),
        ('%ignore " "', 1, 1, ["Grammar.from_lark"]),
        ('{"type": "null"}', 1, 1, ["Grammar.from_json_schema"]),
        ('a = "b";', 1, 3, ["without a semicolon"]),
        ('root ::= "a", "b"', 1, 13, ["not with commas"]),
        ("root ::= [[:digit:]]+", 1, 20, ["named classes"]),
        ("root ::= [xz-a]", 1, 12, ["bad range 'z-a'"]),
        ('root ::= "a"{2,1}', 1, 13, ["'{2,1}'", "below"]),
        ('root ::= "a"{,3}', 1, 13, ["'{,3}'", "{n,m}"]),
        ('root ::= "a"{x}', 1, 13, ["'{x}'"]),
        ('root ::= "a"{1', 1, 13, ["'{1'"]),
        ('root ::= "a"{1 2}', 1, 13, ["{1 2}"]),
        ('root ::= "a"{9999999999999999999}', 1, 13, ["too large"]),
        ("root ::= * ", 1, 10, ["nothing to repeat"]),
        ('root ::= "a" | {2}', 1, 16, ["nothing to repeat"]),
        ('root = "a"', 1, 6, ["expected '::='"]),
        ('root ::= "a"\n| "b"', 2, 1, ["expected a rule", "'|'"]),
        ('root ::=\nother ::= "a"', 2, 7, ["no body"]),
        ("root ::= 'a'", 1, 10, ["double quotes"]),
        ("root ::= /a+/", 1, 10, ["regular expressions"]),
        ("root ::= <think", 1, 10, ["token", "never closed"]),
        ("root ::= <[x]> .", 1, 10, ["token", "<[7]>"]),
        ("root ::= !<[1000]>", 1, 10, ["token"]),
        ('root ::= "a" ::= "b"', 1, 14, ["unexpected"]),
        ('ro ot ::= "a"', 1, 4, ["expected '::='"]),
    ],
)
def test_errors(source: str, line: int, column: int, parts: list[str]) -> None:
    with pytest.raises(GrammarError) as caught:
        gbnf_to_ir(source)
    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)
    for part in parts:
        assert part in caught.value.message


def test_start_rule() -> None:
    source = 'root ::= "a"\nother ::= "b" root'
    assert Grammar(gbnf_to_ir(source, "other")).accepts("ba")
    with pytest.raises(GrammarError, match="start=") as caught:
        gbnf_to_ir(source, "othre")
    assert "'other'" in caught.value.message


def test_spans() -> None:
    ir = gbnf_to_ir('# note\nroot ::= x\n  x ::= "a"')
    assert [(rule.name, rule.span) for rule in ir.rules] == [
        ("root", Span(2, 1)),
        ("x", Span(3, 3)),
    ]


def test_large_bounds_are_exact() -> None:
    ir = gbnf_to_ir('root ::= [a-z]{2,100000} "."')
    assert any(isinstance(x, Repeat) and x.max == 100_000 for x in walk(ir["root"].body))
    grammar = Grammar(ir)
    assert grammar.accepts("a" * 100_000 + ".")
    assert not grammar.accepts("a" * 100_001 + ".")


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(GrammarError, match="nested too deeply") as caught:
        gbnf_to_ir("root ::= " + "(" * 20_000 + ")" * 20_000)
    assert caught.value.line == 1
    assert (caught.value.column or 0) > 100
    assert not isinstance(caught.value, LimitExceeded), "no limit would help"


# --- choices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices",
    [["yes", "no"], ["", "a"], [""], ["a", "a", b"a"], [b"\xff\x00", "é", "a.*"], ["x", "xy"]],
)
def test_choices(choices: list[str | bytes]) -> None:
    grammar = Grammar(choices_to_ir(iter(choices)))
    for member in choices:
        assert grammar.accepts(member)
        assert not grammar.accepts(member + (b"!" if isinstance(member, bytes) else "!"))  # type: ignore[operator]


def test_no_choice_is_the_empty_language() -> None:
    assert Grammar(choices_to_ir([])).is_empty
    assert choices_to_ir([""]).rules[0].body == EPSILON


def test_bad_choices() -> None:
    with pytest.raises(TypeError, match="one text"):
        choices_to_ir("yes")
    with pytest.raises(TypeError, match="int"):
        choices_to_ir([1])  # type: ignore[list-item]
    with pytest.raises(GrammarError, match="surrogate"):
        choices_to_ir(["a\ud800"])


def test_many_choices() -> None:
    members = [f"item number {i * 7919 % 10_007}" for i in range(5_000)]
    grammar = Grammar(choices_to_ir(members))
    assert all(map(grammar.accepts, members))
    assert not grammar.accepts("item number 1000000")


def test_tokens_by_name_and_by_id() -> None:
    grammar = Grammar.from_gbnf(
        "root ::= <think> thought </think> <[7]> .*\nthought ::= (!</think>)*"
    )
    assert grammar.tokens == ("<think>", "</think>", "[7]")
    assert grammar.accepts("<think>a b</think>[7]xyz")
    assert grammar.accepts("<think>a [7] b</think>[7]")
    assert not grammar.accepts("<think>a</think></think>[7]")
    assert not grammar.accepts(b"<think>a</think>[7]")


def test_all_rules_that_are_not_defined_are_named() -> None:
    for dialect in ("gbnf", "xgrammar"):
        with pytest.raises(GrammarError) as caught:
            Grammar.from_gbnf(
                'root ::= nmae "=" value | nmae | entry\nname ::= "a"\nentri ::= "b"\n',
                dialect=dialect,
            )
        assert caught.value.message == (
            "rule 'nmae' is not defined; define it with 'nmae ::= ...' (did you mean 'name'?); "
            "nor are 'value', 'entry' (did you mean 'entri'?)"
        )
        assert (caught.value.line, caught.value.column) == (1, 10)
