"""Large rules that one grammar has from another: the same language, and nothing lost beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from grammars import Grammar
from grammars.compiling import fragments, kernel_compiler
from grammars.compiling.compiler import compile_plainly
from grammars.compiling.kernel_compiler import compile_by_kernels
from grammars.compiling.shelf import Shelf
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.json_schema.text import spelled
from grammars.ir import (
    GrammarIR,
    Literal,
    Not,
    Ref,
    Repeat,
    Rule,
    alt,
    both,
    chars,
    seq,
    text,
    walk,
)
from grammars.limits import DEFAULT_LIMITS
from tests.bisimulation import same_language

FORMATS = ["hostname", "ipv6", "uri"]


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf[fragments.Fragment]:
    monkeypatch.setenv("GRAMMA_PROGRAMS", "off")
    fresh: Shelf[fragments.Fragment] = Shelf(1_000_000)
    monkeypatch.setattr(fragments, "_KEPT", fresh)
    monkeypatch.setattr(fragments, "_seen", {})
    return fresh


def taken(monkeypatch: pytest.MonkeyPatch) -> list[fragments.Fragment]:
    """The fragments that are taken over from now on."""
    out: list[fragments.Fragment] = []
    original = kernel_compiler.known_fragment

    def noted(*args: object) -> fragments.Fragment | None:
        found = original(*args)  # type: ignore[arg-type]
        out.extend([found] if found is not None else [])
        return found

    monkeypatch.setattr(kernel_compiler, "known_fragment", noted)
    return out


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_taken_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"type": "object", "properties": {"a": {"type": "string", "format": name}}}
    two = {"type": "array", "items": {"type": "string", "format": name}, "minItems": 1}
    compile_by_kernels(json_schema_to_ir(one), DEFAULT_LIMITS)
    found = taken(monkeypatch)
    grammar = json_schema_to_ir(two)
    made = compile_by_kernels(grammar, DEFAULT_LIMITS)
    assert len(found) == 1
    assert made is not None
    assert same_language(made, compile_plainly(grammar, DEFAULT_LIMITS))


def test_small_rules_are_taken_over_from_the_third_time_on(
    shelf: Shelf[fragments.Fragment], monkeypatch: pytest.MonkeyPatch
) -> None:
    strings = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}}
    grammar = json_schema_to_ir({**strings, "additionalProperties": False})
    small = {rule.body for rule in grammar.rules if rule.name in ("string", "number")}
    wanted = compile_plainly(grammar, DEFAULT_LIMITS)
    found = taken(monkeypatch)
    for time in range(3):
        kept = {body for body in small if shelf.get((body, DEFAULT_LIMITS.max_dfa_states))}
        assert kept == (small if time == 2 else set())
        made = compile_by_kernels(grammar, DEFAULT_LIMITS)
        assert len(found) >= len(kept)
        assert bool(found) == bool(kept)
        assert made is not None
        assert same_language(made, wanted)


def test_a_rule_that_is_also_part_of_an_intersection(monkeypatch: pytest.MonkeyPatch) -> None:
    words = alt(*(text(f"word {i} of many") for i in range(100)))
    rules = (
        Rule(
            "root", seq(Ref("word"), Literal(b"!"), both(Ref("word"), Not(text("word 7 of many"))))
        ),
        Rule("word", words, shared=True),
    )
    grammar = GrammarIR(rules, "root")
    wanted = compile_plainly(grammar, DEFAULT_LIMITS)
    found = taken(monkeypatch)
    for expected in (0, 1):
        made = compile_by_kernels(grammar, DEFAULT_LIMITS)
        assert len(found) == expected
        assert made is not None
        assert same_language(made, wanted)


def test_counted_parts_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = Repeat(alt(chars([(97, 122)]), text("é")), 2, 4_000)
    words = alt(*(text(f"{i}:") for i in range(80)))
    body = seq(words, letters, Literal(b";"), letters)

    def grammar(end: bytes) -> GrammarIR:
        return GrammarIR(
            (Rule("root", seq(Ref("long"), Literal(end))), Rule("long", body, shared=True)), "root"
        )

    compile_by_kernels(grammar(b"."), DEFAULT_LIMITS)
    found = taken(monkeypatch)
    made = compile_by_kernels(grammar(b"!"), DEFAULT_LIMITS)
    assert [len(f.parts) for f in found] == [3]
    assert made is not None
    assert same_language(made, compile_plainly(grammar(b"!"), DEFAULT_LIMITS))
    assert (made.count_limit < 2**31 - 1).any()


def test_rules_that_refer_to_others_are_not_kept(shelf: Shelf[fragments.Fragment]) -> None:
    words = alt(*(seq(text(f"word {i} of many"), Ref("end")) for i in range(100)))
    rules = (
        Rule("root", seq(Ref("word"), Literal(b"!"))),
        Rule("word", words, shared=True),
        Rule("end", alt(Literal(b"."), Literal(b"?")), shared=True),
    )
    compile_by_kernels(GrammarIR(rules, "root"), DEFAULT_LIMITS)
    assert shelf.get((words, DEFAULT_LIMITS.max_dfa_states)) is None


def test_what_is_spelled_as_it_is_stays_the_same() -> None:
    digit = chars([(48, 57)])
    expr = seq(alt(digit, text("a\n")), Literal(b":"), digit)
    out = spelled(expr)
    assert out == seq(alt(digit, text("a\\n")), Literal(b":"), digit)
    assert sum(x is digit for x in walk(out)) == 2
    assert spelled(digit) is digit


def test_formats_of_two_schemas_accept_the_same() -> None:
    for _ in range(2):
        grammar = Grammar.from_json_schema({"type": "string", "format": "date-time"})
        assert grammar.accepts('"2024-02-29T12:00:00Z"')
        assert not grammar.accepts('"2023-02-29T12:00:00Z"')


def long_words(end: bytes) -> GrammarIR:
    """A rule of many words and a counted part, and its user."""
    words = alt(*(text(f"{i} {i * i % 97} {i * i * i % 89}") for i in range(500)))
    body = seq(words, Literal(b":"), Repeat(chars([(97, 122)]), 300, 4_000))
    return GrammarIR(
        (Rule("root", seq(Ref("long"), Literal(end))), Rule("long", body, shared=True)), "root"
    )


def test_large_rules_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAMMA_PROGRAMS", "on")
    monkeypatch.setenv("GRAMMA_CACHE", str(tmp_path))
    compile_by_kernels(long_words(b"."), DEFAULT_LIMITS)
    (kept,) = tmp_path.rglob("*.rule")
    wanted = compile_plainly(long_words(b"!"), DEFAULT_LIMITS)
    found = taken(monkeypatch)
    for damage, expected in ((b"", 1), (b"?", 1)):
        monkeypatch.setattr(fragments, "_KEPT", Shelf(1_000_000))  # as in another process
        kept.write_bytes(kept.read_bytes() + damage)
        made = compile_by_kernels(long_words(b"!"), DEFAULT_LIMITS)
        assert len(found) == expected
        assert made is not None
        assert same_language(made, wanted)
    monkeypatch.setattr(fragments, "_KEPT", Shelf(1_000_000))
    compile_by_kernels(long_words(b"!"), DEFAULT_LIMITS)
    assert len(found) == 2  # what was damaged is written again


def test_nothing_is_kept_where_that_is_turned_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAMMA_CACHE", str(tmp_path))
    compile_by_kernels(long_words(b"."), DEFAULT_LIMITS)
    assert not [*tmp_path.rglob("*.rule")]
