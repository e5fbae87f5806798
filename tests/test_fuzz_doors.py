"""No public door lets another error out than the named ones, whatever is pushed through it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hostile import (
    LARK_SEEDS,
    SEEDS,
    SMALL,
    TARGETS,
    SlowCase,
    cpu_limit,
    exercise,
    make_case,
    named_only,
    open_door,
    run_case,
    saved_seeds,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grammars import BudgetError, Grammar, GrammarError, LimitExceeded, Limits
from grammars.frontends import _lark_api, _re_api
from grammars.frontends.lark.bounds import _written_out
from grammars.ir import Literal, Repeat, single_rule
from grammars.storage import dumps, loads

ROOT = Path(__file__).parent.parent

# --- random near-valid input ----------------------------------------------------------------------

EXAMPLES = {
    "regex": 40,
    "gbnf": 60,
    "lark": 40,
    "schema": 40,
    "saved": 60,
    "choices": 15,
    "file": 40,
}


@pytest.mark.parametrize("target", TARGETS)
def test_near_valid_input(target: str) -> None:
    @settings(
        max_examples=EXAMPLES[target],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def run(rng: random.Random) -> None:
        text = make_case(rng, target)
        try:
            with cpu_limit(3):
                outcome = run_case(target, text)
        except SlowCase:
            return  # what bounds work is not what is tested here
        assert outcome != "LimitExceeded without a place", text

    run()


@pytest.mark.parametrize("target", SEEDS)
def test_seeds_are_mostly_valid(target: str) -> None:
    """Otherwise what is made of them only tests the first check."""
    made = 0
    for text in SEEDS[target]:
        with named_only():
            open_door(target, text)
            made += 1
    assert made > len(SEEDS[target]) / 2


# --- damaged files --------------------------------------------------------------------------------


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.data())
def test_damaged_bytes_never_are_another_language(data: st.DataObject) -> None:
    """Flipped, cut, and doubled bytes of a saved grammar: refused, or the same grammar."""
    text = data.draw(st.sampled_from(saved_seeds()))
    raw = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "double", "drop"])):
            case "flip":
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut" if at:
                del raw[at:]
            case "double":
                raw[at:at] = raw[at : at + 20]
            case _:
                del raw[at : at + 1]
        if not raw:
            return
    try:
        ir, limits = loads(raw.decode("utf-8", "surrogateescape"))
    except GrammarError:
        return
    assert dumps(ir, limits) == text


def test_head_flips_are_not_taken_for_schemas(tmp_path: Path) -> None:
    """Every bit of the first 120 bytes: a damaged grammar in a ``.json`` file is no schema."""
    whole = saved_seeds()[1]
    grammar = Grammar(*loads(whole)[:1], limits=loads(whole)[1])
    raw = whole.encode()
    path = tmp_path / "whole.json"
    for at in range(2, 110):
        for bit in (0, 2, 5):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :])
            with named_only():
                assert Grammar.from_file(path) == grammar, raw[:at]


# --- known instances ------------------------------------------------------------------------------


def chain(count: int, step: str, last: str, sign: str = " ::= ") -> str:
    """Rules that call each other one after another."""
    rules = [f"r{i}{sign}{step.format(i + 1)}" for i in range(count)]
    return "\n".join([*rules, f"r{count}{sign}{last}"])


def nested(depth: int, key: str) -> dict[str, Any]:
    """A schema in a schema in a schema."""
    return reduce(lambda inner, _: {key: [inner] if key == "allOf" else inner}, range(depth), {})


REFUSED: dict[str, tuple[Callable[[], Any], type[GrammarError], str]] = {
    "regex, number": (
        lambda: Grammar.from_regex("a\nx{999999999999}"),
        GrammarError,
        "line 2, column 2:.*too large",
    ),
    "regex, many digits": (
        lambda: Grammar.from_regex(f"x{{{'9' * 5_000}}}"),
        GrammarError,
        "column 2:.*too large",
    ),
    "regex, counter": (
        lambda: Grammar.from_regex("ab{0,4294967294}"),
        GrammarError,
        "column 3:.*4,294,967,294.*without an upper",
    ),
    "regex, lower bound": (
        lambda: Grammar.from_regex("b{3000000000,}"),
        GrammarError,
        "column 2:.*3,000,000,000",
    ),
    "regex, brackets": (
        lambda: Grammar.from_regex("(" * 10_000 + ")" * 10_000),
        GrammarError,
        "column 10000:.*too deeply",
    ),
    "regex, states": (
        lambda: Grammar.from_regex("(a|b)*a(a|b){12}", limits=SMALL),
        LimitExceeded,
        "line 1, column 1:.*max_dfa_states",
    ),
    "gbnf, number": (
        lambda: Grammar.from_gbnf('root ::= a\na ::= "x"{999999999999}'),
        GrammarError,
        "line 2, column 10:.*999,999,999,999",
    ),
    "gbnf, counter": (
        lambda: Grammar.from_gbnf('root ::= "x"{0,4294967294}'),
        GrammarError,
        "column 13:.*without an upper",
    ),
    "gbnf, brackets": (
        lambda: Grammar.from_gbnf("root ::= " + "(" * 10_000),
        GrammarError,
        "line 1.*too deeply",
    ),
    "gbnf, states": (
        lambda: Grammar.from_gbnf('root ::= a\na ::= [ab]* "a" [ab]{12}', limits=SMALL),
        LimitExceeded,
        "line 1, column 1:.*max_dfa_states",
    ),
    "lark, terminal's number": (
        lambda: Grammar.from_lark('start: A\nA: "x"~999999999999'),
        GrammarError,
        "line 2, column 1:.*too large",
    ),
    "lark, pattern's number": (
        lambda: Grammar.from_lark("start: A\nA: /x{999999999999}/"),
        GrammarError,
        "line 2, column 1:.*too large",
    ),
    "lark, pattern's copies": (
        lambda: Grammar.from_lark("start: A\nA: /x{1,4294967294}/"),
        GrammarError,
        "line 2, column 1:.*more than can be counted",
    ),
    "lark, brackets": (
        lambda: Grammar.from_lark("start: " + "(" * 3_000 + '"a"' + ")" * 3_000),
        GrammarError,
        "column 3007:.*too deeply",
    ),
    "lark, endless template": (
        lambda: Grammar.from_lark('start: "y"\n | a{"x"}\na{t}: t a{b{t}}\nb{t}: t t'),
        LimitExceeded,
        "line 3, column 1:.*template 'a'",
    ),
    "lark, alternatives": (
        lambda: Grammar.from_lark("start: x\nx: " + '("a"|"b") ' * 40),
        LimitExceeded,
        "line 2, column 1:.*rule 'x'",
    ),
    "lark, optionals": (
        lambda: Grammar.from_lark("start: " + '"a"? ' * 40),
        LimitExceeded,
        "line 1.*alternatives of rule 'start'",
    ),
    "lark, copies": (
        lambda: Grammar.from_lark('start: ("a"|"b"|"c")~0..40'),
        LimitExceeded,
        "line 1.*alternatives of rule 'start'",
    ),
    "lark, terminals": (
        lambda: Grammar.from_lark(
            "start: A0\n" + "\n".join(f"A{i}: A{i + 1} A{i + 1}" for i in range(60)) + '\nA60: "x"'
        ),
        LimitExceeded,
        "line \\d+.*terminals of this grammar.*max_dfa_states",
    ),
    "schema, patterns": (
        lambda: Grammar.from_json_schema(
            {"patternProperties": {c: {"minimum": i} for i, c in enumerate("abcdefghij")}},
            limits=Limits(max_work=1_000_000),
        ),
        LimitExceeded,
        "max_work",
    ),
    "schema, length": (
        lambda: Grammar.from_json_schema(
            {"items": {"type": "string", "maxLength": 999_999_999_999}}
        ),
        GrammarError,
        "/items.*999,999,999,999",
    ),
    "schema, items": (
        lambda: Grammar.from_json_schema({"items": {"type": "array", "minItems": 10**12}}),
        LimitExceeded,
        "/items",
    ),
    "schema, pattern": (
        lambda: Grammar.from_json_schema(
            {"items": {"type": "string", "pattern": "^x{0,4294967294}$"}}
        ),
        GrammarError,
        "/items",
    ),
    "schema, counting": (
        lambda: Grammar.from_json_schema(
            {"items": {"contains": {"const": 1}, "minContains": 99_999}}
        ),
        LimitExceeded,
        "/items.*counting the items",
    ),
    "schema, text": (
        lambda: Grammar.from_json_schema('{"items":' * 10_000 + "{}" + "}" * 10_000),
        GrammarError,
        "too deeply",
    ),
    "schema, arrays": (
        lambda: Grammar.from_json_schema('{"const":' + "[" * 10_000 + "]" * 10_000 + "}"),
        GrammarError,
        "too deeply",
    ),
    "schema, allOf": (
        lambda: Grammar.from_json_schema(nested(3_000, "allOf")),
        GrammarError,
        "too deeply",
    ),
    "schema, not": (
        lambda: Grammar.from_json_schema(nested(1_001, "not")),
        GrammarError,
        "too deeply",
    ),
    "choices, one long": (
        lambda: Grammar.from_choices(["a" * 3_000], limits=SMALL),
        LimitExceeded,
        "rule 'root'.*max_dfa_states",
    ),
    "expression, depth": (
        lambda: Grammar(
            single_rule(reduce(lambda x, _: Repeat(x, 2, 3), range(1_100), Literal(b"a")))
        ),
        GrammarError,
        "rule 'root'.*too deeply",
    ),
    "expression, count": (
        lambda: Grammar(single_rule(Repeat(Literal(b"a"), 0, 10**30))),
        GrammarError,
        "1,000,000,000,000",
    ),
    "sample, budget": (
        lambda: Grammar.from_regex("x{1073741824}").sample(1, max_bytes=9),
        BudgetError,
        "1073741824",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_input_is_refused_with_its_place(name: str) -> None:
    call, kind, message = REFUSED[name]
    with pytest.raises(GrammarError) as caught:
        call()
    assert type(caught.value) is kind
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


WORKS: dict[str, Callable[[], Grammar]] = {
    "gbnf, 1,500 rules in a row": lambda: Grammar.from_gbnf(
        "root ::= r0\n" + chain(1_500, '"a" r{} "b"', '"c"')
    ),
    "gbnf, a row of names": lambda: Grammar.from_gbnf("root ::= r0\n" + chain(1_500, "r{}", '"c"')),
    "gbnf, rules used twice": lambda: Grammar.from_gbnf(
        "root ::= r0\n" + chain(11, "r{0} r{0}", '"c"')
    ),
    "gbnf, signs in a row": lambda: Grammar.from_gbnf('root ::= "a"' + "*?+" * 3_000),
    "regex, 300 brackets": lambda: Grammar.from_regex("(?:a" * 300 + ")" * 300),
    "regex, largest counter": lambda: Grammar.from_regex("x{2,2147483647}"),
}


@pytest.mark.parametrize("name", WORKS)
def test_large_but_plain_input_works(name: str) -> None:
    grammar = WORKS[name]()
    sample = grammar.sample(1)
    assert grammar.accepts(sample)
    assert not grammar.accepts(sample + b"!")
    assert not grammar.explain(sample[:-1] + b"!").accepted


def test_signs_in_a_row_are_one() -> None:
    """Against ``re`` with groups between the signs."""
    signs = "*+?"
    for rows in (a + b + c for a in signs for b in signs for c in signs):
        grammar = Grammar.from_gbnf(f'root ::= "a"{rows}')
        pattern = re.compile(f"(?:(?:a{rows[0]})%s)%s" % (rows[1], rows[2]))
        for count in range(4):
            assert grammar.accepts("a" * count) == bool(pattern.fullmatch("a" * count)), rows


WRONG_KINDS: dict[str, Callable[[], Any]] = {
    "regex": lambda: Grammar.from_regex(3),  # type: ignore[arg-type]
    "bytes": lambda: Grammar.from_regex(b"a"),  # type: ignore[arg-type]
    "gbnf": lambda: Grammar.from_gbnf(3),  # type: ignore[arg-type]
    "gbnf start": lambda: Grammar.from_gbnf('root ::= "a"', start=3),  # type: ignore[arg-type]
    "lark": lambda: Grammar.from_lark(None),  # type: ignore[arg-type]
    "choices": lambda: Grammar.from_choices(3),  # type: ignore[arg-type]
    "a choice": lambda: Grammar.from_choices([1]),  # type: ignore[list-item]
    "limits": lambda: Grammar.from_regex("a", limits=3),  # type: ignore[arg-type]
    "a limit": lambda: Limits(max_states="many"),  # type: ignore[arg-type]
    "text": lambda: Grammar.from_regex("a").accepts(3),  # type: ignore[arg-type]
    "explained": lambda: Grammar.from_regex("a").explain(None),  # type: ignore[arg-type]
    "seed": lambda: Grammar.from_regex("a").sample([1]),  # type: ignore[arg-type]
    "budget": lambda: Grammar.from_regex("a").sample(max_bytes="9"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG_KINDS)
def test_wrong_kinds_of_argument(name: str) -> None:
    with pytest.raises(TypeError, match=r"must be|expected|seed types"):
        WRONG_KINDS[name]()


def test_halves_of_pairs_are_saved(tmp_path: Path) -> None:
    """Names and pointers may hold what UTF-8 cannot write."""
    schema = {"properties": {"\ud800": {"type": "string"}, "\ud83d\ude00": {"minLength": 1}}}
    exercise(Grammar.from_json_schema(schema, limits=SMALL))


# --- what lark writes out -------------------------------------------------------------------------

WRITTEN_OUT = [
    'start: ("a"|"b") ("c"|"d"|) "e"?',
    'start: ("a" ["b" | "c"])~2..4',
    'start: "a"~60 | ("b" | "c" "d")~3',
    'start: ("a"|"b")~0..70',
    'start: ("a" "b"?)+ (("c"|"d")* "e")*',
    'start: [("a"|"b") "c"] ["d"] -> x\n | "e"',
    'start: t{"a"} t{u{"b"}}\nt{x}: x ("c"|x)? | u{x}\nu{y}: y y',
    *LARK_SEEDS[:1],
]


@pytest.mark.parametrize("text", WRITTEN_OUT)
def test_what_lark_writes_out_is_measured(text: str) -> None:
    """Lark itself is the reference: it never writes more than was measured, nor much less."""
    grammar, _ = _lark_api.load(text, ())
    measured = sum(_written_out(tree, 10**9) for _, params, tree, _ in grammar.rule_defs if tree)
    _, rules, _ = _lark_api.compile_grammar(grammar, "start")
    copies = 4 if "{" in text else 1  # a template is written once for each use
    written = sum(1 + len(rule.expansion) for rule in rules)
    assert written <= copies * measured
    assert measured <= 30 * written


# --- private modules ------------------------------------------------------------------------------


def test_private_modules_are_imported_in_one_file_each() -> None:
    """What a new version of ``re`` or lark breaks is then one file."""
    private = {
        "_re_api.py": re.compile(
            r"re\._(parser|compiler|constants)|sre_|from re import _|\b_sre\b"
        ),
        "_lark_api.py": re.compile(r"^\s*(import|from) lark\b", re.MULTILINE),
    }
    for package in ("grammars", "constrain", "samplers"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text("utf-8")
            for name, pattern in private.items():
                if path.name != name:
                    assert pattern.search(text) is None, f"{path} imports what {name} is for"


def test_missing_names_say_which_versions_are_supported() -> None:
    with pytest.raises(ImportError, match=re.escape(_re_api.SUPPORTED)):
        _re_api._module("re._parser", ("no_such_name",))
    with pytest.raises(ImportError, match=re.escape(_re_api.SUPPORTED)):
        _re_api._module("re._no_such_module", ())


def test_errors_keep_the_innermost_place() -> None:
    error = GrammarError("wrong", line=2, column=3)
    error.locate(line=9, column=9, rule="a")
    assert (error.line, error.column, error.rule) == (2, 3, "a")
    assert str(error) == "line 2, column 3: wrong"
    far = GrammarError("wrong")
    far.locate(rule="b")
    assert str(far) == "in rule 'b': wrong"
    far.locate(pointer="/items")
    assert str(far) == "at /items: wrong"
