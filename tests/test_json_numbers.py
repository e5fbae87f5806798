"""Notations of numbers against exact decimal arithmetic."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.json_schema.assertions import Bound, Numbers
from grammars.frontends.json_schema.numbers import equal_to, number_expr, shortest_notations
from grammars.grammar import Grammar
from grammars.ir import single_rule
from grammars.limits import DEFAULT_LIMITS, Limits

_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_NORMALISED = re.compile(r"-?[1-9](\.[0-9]+)?[eE][+-]?[0-9]+")
_JSON = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)

STEPS = ("1", "2", "7", "10", "100", "0.1", "0.25", "0.001", "2.5", "0.7")


# --- what is meant -------------------------------------------------------------------------------


def within(value: Decimal, numbers: Numbers) -> bool:
    """Comparisons of decimals are exact, whatever the precision of the context."""
    low, high = numbers.low, numbers.high
    if low is not None and (value < low.value or (low.strict and value == low.value)):
        return False
    return high is None or not (value > high.value or (high.strict and value == high.value))


LARGEST = Decimal("1.7976931348623157e308")


def fits_double(text: str) -> bool:
    """The documented bounds on digits: what a reader with doubles does not make infinite."""
    before = re.split(r"[.eE]", text.lstrip("-"))[0]
    if re.fullmatch(r"-?[0-9]+", text):
        return True
    _, _, exponent = text.lower().partition("e")
    power = int(exponent) if exponent else 0
    if power == 308:
        return abs(Decimal(text)) <= LARGEST and len(before) == 1 and before != "0"
    if len(before) > 17 or power > 308 or power < -999:
        return False
    return abs(power) < 100 or power < 0 or (len(before) == 1 and before != "0")


def is_short(numbers: Numbers, text: str) -> bool:
    """The documented shortest notations."""
    if Decimal(text) == 0 and text[0] == "-":
        return False
    if numbers.step is not None and numbers.step.denominator == 1:
        return bool(re.fullmatch(r"-?[0-9]+", text))
    mantissa, _, exponent = text.lower().partition("e")
    fraction = mantissa.partition(".")[2]
    if len(fraction) > 1 and fraction.endswith("0"):
        return False
    digits = exponent.lstrip("+-")
    return not exponent or (int(digits) != 0 and (len(digits) < 3 or digits[0] != "0"))


def allows(numbers: Numbers, text: str, shortest: bool = False) -> bool:
    """The documented language: which notations there are, and which values."""
    if not _JSON.fullmatch(text):
        return False
    if numbers == Numbers():
        return True
    if not fits_double(text) or (shortest and not is_short(numbers, text)):
        return False
    if numbers.step is not None:
        written = bool(_PLAIN.fullmatch(text))
        return (
            written
            and within(Decimal(text), numbers)
            and (Fraction(text) / numbers.step).denominator == 1
        )
    written = bool(_PLAIN.fullmatch(text) or _NORMALISED.fullmatch(text))
    return written and within(Decimal(text), numbers)


def grammar_of(numbers: Numbers, shortest: bool = False) -> Grammar:
    return Grammar(single_rule(number_expr(numbers, DEFAULT_LIMITS, shortest=shortest)))


def between(
    low: str | None = None, high: str | None = None, step: str | None = None, strict: str = ""
) -> Numbers:
    """Constraints by their decimal notation; ``strict`` names the ends that are left out."""
    return Numbers(
        None if low is None else Bound(Decimal(low), "low" in strict),
        None if high is None else Bound(Decimal(high), "high" in strict),
        None if step is None else Fraction(step),
    )


def check(numbers: Numbers, texts: Sequence[str]) -> None:
    for shortest in (False, True):
        grammar = grammar_of(numbers, shortest)
        for text in texts:
            assert grammar.accepts(text) == allows(numbers, text, shortest), (text, numbers)
        if not grammar.is_empty:
            for seed in range(3):
                text = grammar.sample(seed).decode()
                assert allows(numbers, text, shortest), (text, numbers)


# --- numbers and ways to write them --------------------------------------------------------------


@st.composite
def decimals(draw: st.DrawFn, most: int = 9_999) -> Decimal:
    """Few digits at a moderate place; zero, powers of ten and neighbours."""
    digits = draw(st.one_of(st.integers(0, 12), st.integers(0, most), st.sampled_from((99, 100))))
    power = draw(st.one_of(st.just(0), st.just(-1), st.integers(-4, 4)))
    sign = "-" if digits and draw(st.booleans()) else ""
    return Decimal(f"{sign}{digits}e{power}")


def near(value: Decimal) -> st.SearchStrategy[Decimal]:
    """The value and others that differ from it in one place, or by a factor."""
    places = st.sampled_from([Decimal(1).scaleb(k) for k in range(-6, 4)])
    factor = st.sampled_from([Decimal(s) for s in ("10", "0.1", "-1", "1000000", "0.000001")])
    return st.one_of(
        st.just(value),
        places.map(lambda d: value + d),
        places.map(lambda d: value - d),
        factor.map(lambda f: value * f),
    ).map(lambda v: v if v else Decimal(0))


@st.composite
def spellings(draw: st.DrawFn, value: Decimal) -> str:
    """One way to write a value: mostly ways that are in the language."""
    value = value.normalize()
    sign = "-" if value < 0 or (value == 0 and draw(st.booleans())) else ""
    zeros = "0" * draw(st.integers(0, 3))
    kind = draw(st.sampled_from(("plain", "plain", "plain", "normalised", "other")))
    if kind == "plain" or value == 0:
        plain = format(abs(value), "f")
        point = "" if "." in plain or not zeros else "."
        return sign + plain + point + zeros
    shift = 0 if kind == "normalised" else draw(st.integers(-2, 2))
    power = value.adjusted() + shift
    mantissa = format(abs(value).scaleb(-power), "f")
    if zeros and "." not in mantissa:
        mantissa += "."
    exponent_sign = "-" if power < 0 else draw(st.sampled_from(("", "+")))
    if power == 0:
        exponent_sign = draw(st.sampled_from(("", "+", "-")))
    exponent = "0" * draw(st.integers(0, 2)) + str(abs(power))
    return f"{sign}{mantissa}{zeros}{draw(st.sampled_from('eE'))}{exponent_sign}{exponent}"


@st.composite
def texts_around(draw: st.DrawFn, values: Sequence[Decimal]) -> list[str]:
    value = st.one_of(*[near(v) for v in values], decimals())
    return draw(st.lists(value.flatmap(spellings), min_size=6, max_size=12))


@st.composite
def ranges(draw: st.DrawFn) -> tuple[Numbers, list[str]]:
    low = draw(st.none() | st.builds(Bound, decimals(), st.booleans()))
    other = near(low.value) if low is not None and draw(st.booleans()) else decimals()
    high = draw(st.none() | st.builds(Bound, other, st.booleans()))
    values = [bound.value for bound in (low, high) if bound is not None]
    return Numbers(low, high), draw(texts_around(values))


@st.composite
def stepped(draw: st.DrawFn) -> tuple[Numbers, list[str]]:
    numbers, _ = draw(ranges())
    step = draw(st.sampled_from(STEPS))
    multiple = st.integers(-60, 60).map(lambda k: k * Decimal(step))
    values = [b.value for b in (numbers.low, numbers.high) if b is not None]
    values += draw(st.lists(multiple, min_size=2, max_size=4))
    return Numbers(numbers.low, numbers.high, Fraction(step)), draw(texts_around(values))


# --- laws ----------------------------------------------------------------------------------------

ODD = ["", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x1", "1 ", " 1", "--1", "1,0", "١"]


@given(ranges())
@settings(max_examples=80, deadline=None)
def test_bounds(case: tuple[Numbers, list[str]]) -> None:
    numbers, texts = case
    check(numbers, [*texts, *ODD, "0", "-0", "-0.0", "1", "-1"])


@given(stepped())
@settings(max_examples=60, deadline=None)
def test_steps(case: tuple[Numbers, list[str]]) -> None:
    numbers, texts = case
    check(numbers, [*texts, *ODD, "0", "-0", "-0.0", "1", "-1", "1e2", "1e0"])


@given(ranges())
@settings(max_examples=60, deadline=None)
def test_empty_exactly_if_the_bounds_cross(case: tuple[Numbers, list[str]]) -> None:
    numbers, _ = case
    assert grammar_of(numbers).is_empty == numbers.is_empty


@given(st.data(), decimals())
@settings(max_examples=100, deadline=None)
def test_equal_to(data: st.DataObject, value: Decimal) -> None:
    grammar = Grammar(single_rule(equal_to(value)))
    for text in [*data.draw(texts_around([value])), *ODD, "0", "-0", "1.0"]:
        written = _PLAIN.fullmatch(text) or _NORMALISED.fullmatch(text)
        assert grammar.accepts(text) == bool(written and Decimal(text) == value), (text, value)
    assert Decimal(grammar.sample(0).decode()) == value


@given(st.integers(-(10**40), 10**40))
@example(10**28 + 1)
@example(-(10**30) - 1)
@settings(max_examples=50, deadline=None)
def test_equal_to_an_integer_of_any_size(value: int) -> None:
    grammar = Grammar(single_rule(equal_to(value)))
    assert grammar.accepts(str(value))
    assert Grammar(single_rule(shortest_notations(value))).accepts(str(value))
    assert grammar.accepts(f"{value}.00")
    assert not grammar.accepts(str(value + 1))
    assert not grammar.accepts(str(value - 1))


# --- single cases --------------------------------------------------------------------------------


def test_no_constraint_is_any_number() -> None:
    texts = ["0", "-0", "0e0", "10e5", "0.10E-07", "-12.50e+003", "1e", "1.e1", "1e309", "-1E99999"]
    texts += ["1.7976931348623157e+308", "9" * 400, f"{'9' * 400}.5e400", "1e-5000", "0e99999"]
    check(Numbers(), [*ODD, *texts])


FREE: list[Any] = [
    {"type": "number"},
    {},
    True,
    {"type": ["string", "number"], "minLength": 3},
    {"type": ["integer", "number"]},
    {"anyOf": [{"type": "integer"}, {"type": "number"}]},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "number", "title": "n"}}},
]


@pytest.mark.parametrize("schema", FREE, ids=str)
@pytest.mark.parametrize("numbers", ["shortest", "any"])
@given(st.data())
@settings(max_examples=15, deadline=None)
def test_number_without_keywords_is_a_number_of_rfc_8259(
    schema: Any, numbers: Any, data: st.DataObject
) -> None:
    grammar = _compiled(json.dumps(schema), numbers)
    text = data.draw(st.from_regex(_JSON, fullmatch=True))
    assert grammar.accepts(text)
    at = data.draw(st.integers(0, len(text)))
    other = text[:at] + data.draw(st.sampled_from("0159.eE+- x")) + text[at:]
    for changed in (other, text[:at] + text[at + 1 :]):
        if not changed[:1].strip() or "x" in changed or " " in changed:
            assert not grammar.accepts(changed)
        else:
            assert grammar.accepts(changed) == bool(_JSON.fullmatch(changed)), changed


@lru_cache
def _compiled(schema: str, numbers: Any) -> Grammar:
    return Grammar.from_json_schema(schema, numbers=numbers)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**25), 10**25))
@example(1.7976931348623157e308, 0)
@example(5e-324, 10**17)
@settings(max_examples=60, deadline=None)
def test_shortest_is_what_json_dumps_writes(value: float, whole: int) -> None:
    """Every double and every integer can be written, whatever the numeric keywords."""
    text = json.dumps(value).removeprefix("-" if value == 0 else "")
    for schema in ('{"minimum": -1e999, "type": "number"}', '{"not": {"const": 0.3}}'):
        if value != 0.3:
            assert _compiled(schema, "shortest").accepts(text)
        assert _compiled(schema, "shortest").accepts(str(whole))
    listed = Grammar.from_json_schema({"enum": [value, whole, [value]]})
    assert listed.accepts(json.dumps(value)) or value == 0
    assert listed.accepts(json.dumps([value], separators=(",", ":")))
    assert listed.accepts(str(whole))
    assert Decimal(Grammar.from_json_schema({"const": value}).sample(0).decode()) == Decimal(
        repr(value)
    )


@pytest.mark.parametrize(
    ("schema", "short", "long"),
    [
        ('{"type": "integer"}', ["0", "-7", "16"], ["16.0", "-0", "0.0", "0.0000000000000000"]),
        ('{"type": "integer", "minimum": 3}', ["3", "40"], ["3.0", "3.00"]),
        ('{"multipleOf": 4}', ["-8", "0"], ["8.0", "-0"]),
        ('{"multipleOf": 2.0, "maximum": 9}', ["8"], ["8.0"]),
        ('{"multipleOf": 0.5}', ["16", "16.0", "16.5"], ["16.50", "16.00", "-0.0"]),
        ('{"minimum": 0}', ["16", "16.0", "1e6", "1.5E+06"], ["16.00", "1e006", "1.50e6", "1e0"]),
        ('{"const": 16}', ["16"], ["16.0", "1.6e1"]),
        ('{"const": 16.0}', ["16", "16.0"], ["16.00"]),
        ('{"enum": [0.50, 1E2]}', ["0.5", "0.50", "100", "1E2"], ["0.500", "100.0", "5e-1"]),
        ('{"const": [1.0, {"a": 2.50}]}', ['[1,{"a":2.5}]', '[1.0,{"a":2.50}]'], ["[1.00,2.5]"]),
        ('{"const": -0.0}', ["0", "-0.0"], ["0.00"]),
        ('{"const": 1e-7}', ["1e-7", "1e-07", "0.0000001"], ["10e-8"]),
    ],
)
def test_shortest_spellings(schema: str, short: list[str], long: list[str]) -> None:
    shortest, anyhow = _compiled(schema, "shortest"), _compiled(schema, "any")
    for text in short:
        assert shortest.accepts(text), text
        assert anyhow.accepts(text), text
    for text in long:
        assert not shortest.accepts(text), text


def test_spelling_option_is_checked() -> None:
    with pytest.raises(ValueError, match="numbers='long'"):
        Grammar.from_json_schema({}, numbers="long")  # type: ignore[arg-type]


def test_number_is_no_string_of_the_same_digits() -> None:
    """Schemas that say the same share a rule; a number and a string do not say the same."""
    schema = {"properties": {"a": {"const": 1.5}, "b": {"const": "1.5"}, "c": {"const": 1.50}}}
    grammar = Grammar.from_json_schema(schema)
    assert grammar.accepts('{"a":1.5,"b":"1.5","c":1.5}')
    assert not grammar.accepts('{"b":1.5}')
    assert not grammar.accepts('{"a":"1.5"}')


@pytest.mark.parametrize("strict", ["", "low", "high", "low high"])
@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("0", None),
        (None, "0"),
        ("0e3", None),
        (None, "0.000"),
        ("0.0", "5"),
        ("-5", "0.0"),
        ("1e2", "1e3"),
        ("-1.50e1", "12.0"),
        ("99", "101"),
        ("0.099", "0.1"),
        ("-10", "10"),
        ("3", "3"),
        ("-0.5", "0.5"),
        ("1e-300", "1e300"),
    ],
)
def test_edges(low: str | None, high: str | None, strict: str) -> None:
    ends = [end for end in (low, high) if end is not None]
    texts = [
        text
        for end in ends
        for value in (Decimal(end), -Decimal(end))
        for text in (
            format(value, "f"),
            f"{value:f}.0" if "." not in f"{value:f}" else f"{value:f}0",
            f"{value:f}.01" if "." not in f"{value:f}" else f"{value:f}01",
        )
    ]
    texts += ["0", "-0", "0.0", "-0.0", "0.001", "-0.001", "1", "-1", "1e0", "-1e0", "1E-9"]
    texts += ["-1e-9", "1e9", "-1e9", "9.99e1", "1.00e2", "1.01e2", "1e-300", "1e-301", "1e301"]
    texts += [
        "1.00001e-300",
        "9.99e-301",
        "1e300",
        "1.0001E+300",
        "9.9999e299",
        "1e00",
        "1e308",
        "1.69e+308",
        "1.7e308",
        "1.7976931348623157e+308",
        "-1.7976931348623157E308",
        "1.7976931348623158e+308",
        "1.79769313486231570000e+308",
        "2e308",
        "1e309",
    ]
    check(between(low, high, strict=strict), texts)


@pytest.mark.parametrize("strict", ["", "low high"])
@pytest.mark.parametrize(("low", "high"), [("-0", None), (None, "-0.0"), ("-0.0", "5")])
def test_negative_zero_as_a_bound(low: str | None, high: str | None, strict: str) -> None:
    check(between(low, high, strict=strict), ["0", "-0", "0.0", "1", "-1", "1e-9", "-1e-9"])


MANY = "123456789012345678901234567890123456789"  # more digits than a decimal context keeps
LESS, MORE = str(int(MANY) - 1), str(int(MANY) + 1)


@pytest.mark.parametrize("strict", ["", "low high"])
@pytest.mark.parametrize("step", [None, "1"])
@pytest.mark.parametrize(
    "texts",
    [
        (LESS, MANY, MORE),
        tuple(f"-{text}" for text in (MORE, MANY, LESS)),
        tuple(f"{text[0]}.{text[1:]}" for text in (LESS, MANY, MORE)),
        tuple(f"-0.00{text}" for text in (MORE, MANY, LESS)),
    ],
)
def test_bounds_of_many_digits(texts: tuple[str, str, str], step: str | None, strict: str) -> None:
    scientific = [_normalised(text) for text in texts]
    check(between(low=texts[1], step=step, strict=strict), [*texts, *scientific])
    check(between(high=texts[1], step=step, strict=strict), [*texts, *scientific])


def _normalised(text: str) -> str:
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    word = "".join(map(str, digits))
    return f"{'-' * sign}{word[0]}.{word[1:]}e{exponent + len(digits) - 1}"


@pytest.mark.parametrize(
    ("numbers", "inside", "outside"),
    [
        (between(step="1"), ["5", "-5.0", "0", "-0", "100.000"], ["5.5", "5e0", "1e2", "5."]),
        (between(step="0.1"), ["0.1", "0.30", "-7", "12.9"], ["0.01", "0.15", "1e-1"]),
        (between(step="0.25"), ["0.25", "0.5", "0.500", "-0.75", "3"], ["0.2", "0.255", "0.05"]),
        (between(step="2.5"), ["2.5", "5", "7.50", "0", "-10.0"], ["2", "2.55", "1", "0.5"]),
        (between(step="0.001"), ["0.001", "12.345", "1.0000"], ["0.0001", "1e-3"]),
        (between("0.2", "0.8", "0.5"), ["0.5", "0.50"], ["0", "1", "-0.5", "0.7"]),
        (between("1", "3", "1", "low high"), ["2", "2.0"], ["1", "3", "1.0", "3.00"]),
        (between("0.1", "0.2", "1"), [], ["0", "1", "0.1"]),
    ],
)
def test_multiples(numbers: Numbers, inside: list[str], outside: list[str]) -> None:
    assert [allows(numbers, t) for t in inside + outside] == [True] * len(inside) + [False] * len(
        outside
    )
    check(numbers, inside + outside)
    assert grammar_of(numbers).is_empty == (not inside)


def test_steps_together_are_a_common_multiple() -> None:
    both = between(step="0.25") & between(step="0.1")
    assert both.step == Fraction("0.5")
    check(both, ["0.5", "0.25", "0.1", "1", "-1.5", "0"])


def test_schema_keeps_every_digit() -> None:
    """A schema given as text is read exactly: no bound passes through a float."""
    grammar = Grammar.from_json_schema('{"type": "number", "maximum": 0.10000000000000000001}')
    assert grammar.accepts("0.10000000000000000001")
    assert not grammar.accepts("0.10000000000000000002")


def test_negative_zero_in_a_schema() -> None:
    grammar = Grammar.from_json_schema('{"type": "number", "exclusiveMinimum": -0.0}')
    assert grammar.accepts("0.1")
    assert not grammar.accepts("0")
    assert not grammar.accepts("-0.1")


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("keyword", ["minimum", "exclusiveMaximum", "const"])
def test_integers_of_many_digits_in_a_schema(keyword: str, sign: str) -> None:
    """What a schema says about 33 digits holds for the last of them."""
    bound = 10**32 + 7
    grammar = Grammar.from_json_schema(f'{{"type": "integer", "{keyword}": {sign}{bound}}}')
    value = -bound if sign else bound
    expected = {
        "minimum": [False, True, True],
        "exclusiveMaximum": [True, False, False],
        "const": [False, True, False],
    }[keyword]
    assert [grammar.accepts(str(v)) for v in (value - 1, value, value + 1)] == expected


@pytest.mark.parametrize("bound", ["1e99999999999999999999", "-1e99999999999999999999"])
def test_bound_that_is_too_far_away(bound: str) -> None:
    with pytest.raises(GrammarError):
        Grammar.from_json_schema(f'{{"type": "number", "maximum": {bound}}}')


def test_step_that_needs_too_many_states() -> None:
    small = Limits(max_dfa_states=1_000)
    with pytest.raises(LimitExceeded) as caught:
        number_expr(between(step="0.0977"), small)
    assert caught.value.limit == "max_dfa_states"
    assert caught.value.value == 1_000
    assert "multipleOf" in caught.value.message


@pytest.mark.parametrize("step", ["1e400", "1e10000", "7e5000", "1e-10000"])
def test_step_that_is_far_too_large(step: str) -> None:
    with pytest.raises(GrammarError, match=r"multipleOf|more than 1,000 digits"):
        Grammar.from_json_schema(f'{{"type": "number", "multipleOf": {step}}}')
