"""Parts of the server on their own: grammars from another process, rows that join, what is streamed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import model as toy_model

from grammars import Grammar, GrammarError, Limits
from samplers.serving.bodies import ChatBody, schema_of
from samplers.serving.compiling import Compilers
from samplers.serving.constraints import Constraint, grammar_of
from samplers.serving.errors import RequestRefused
from samplers.serving.options import ServingOptions
from samplers.speculative.scorer import Request, TreeScorer
from samplers.speculative.tree import Tree

GRAMMARS = {
    "regex": Grammar.from_regex("(ab|c)+d?"),
    "rules": Grammar.from_gbnf('root ::= "a" root "b" | "c"'),
    "schema": Grammar.from_json_schema(
        {"type": "object", "properties": {"a": {"type": "integer"}}}
    ),
    "unique": Grammar.from_json_schema({"items": {"enum": [1, 2]}, "uniqueItems": True}),
    "any order": Grammar.from_json_schema(
        {"properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["a"]},
        property_order="any",
    ),
    "counted": Grammar.from_json_schema(
        {"items": {"type": "boolean"}, "contains": {"const": True}, "minContains": 2}
    ),
    "token": Grammar.token("<|call|>") + Grammar.from_regex("a+"),
    "empty": Grammar.from_regex("a(?!)"),
    "surrogates": Grammar.literal("é€😀"),
}


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_compiled_grammar_is_the_same_elsewhere(name: str) -> None:
    grammar = GRAMMARS[name]
    again = Grammar.of_compiled(grammar.compiled())
    assert again == grammar
    assert again.is_empty == grammar.is_empty
    assert again.limits == grammar.limits
    if grammar.is_empty:
        return
    for seed in range(5):
        text = grammar.sample(seed)
        assert again.sample(seed) == text
        if name != "token":
            assert again.accepts(text)
            assert again.accepts(text[:-1]) == grammar.accepts(text[:-1])


def test_a_damaged_compiled_grammar_is_refused() -> None:
    data = GRAMMARS["regex"].compiled()
    for wrong in (b"", b"x" * 20, data[:-1], data[:30] + b"\x00" + data[31:]):
        with pytest.raises((GrammarError, ValueError)):
            Grammar.of_compiled(wrong)


def constraint(regex: str) -> Constraint:
    return Constraint.of({"structured_outputs": {"regex": regex}}, "structured_outputs", 10_000)


def test_compiler_processes() -> None:
    async def run() -> None:
        compilers = Compilers(ServingOptions(max_compile_work=200_000))
        try:
            grammar = await compilers.compile(constraint("ab*"))
            assert grammar == Grammar.from_regex("ab*", limits=grammar.limits)
            for wrong in ("a(", "(" * 5_000, "(?=.*a.{14})(?=.*b.{15})(?=.*c.{16}).*"):
                with pytest.raises(RequestRefused) as caught:
                    await compilers.compile(constraint(wrong))
                assert caught.value.status == 400
                assert caught.value.param == "structured_outputs"
            assert (await compilers.compile(constraint("ab*"))) == grammar
        finally:
            await compilers.close()

    asyncio.run(run())


def test_grammars_of_strangers_read_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.lark").write_text('secret: "x"\n')
    monkeypatch.chdir(tmp_path)
    text = "%import .secret (secret)\nstart: secret"
    assert Grammar.from_lark(text, import_paths=[tmp_path]).accepts("x")

    async def run() -> None:
        compilers = Compilers(ServingOptions())
        try:
            asked = {"structured_outputs": {"lark": text}}
            with pytest.raises(RequestRefused, match="secret"):
                await compilers.compile(Constraint.of(asked, "structured_outputs", 10_000))
        finally:
            await compilers.close()

    asyncio.run(run())


def test_a_constraint_is_bounded() -> None:
    with pytest.raises(RequestRefused, match="this server takes 10,000"):
        constraint("a" * 10_001)


def test_tools_or_a_schema() -> None:
    text = Constraint.of(
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
            "format": "hermes",
            "tool_choice": "required",
            "parallel": True,
            "special": (),
            "schema": {"const": 5},
        },
        "tools",
        10_000,
    ).text
    grammar = grammar_of(text, Limits())
    assert grammar.accepts("5")
    assert grammar.accepts('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>')
    assert not grammar.accepts("6")


tokens = st.lists(st.integers(3, 47), min_size=1, max_size=12)


@given(st.lists(st.tuples(tokens, tokens), min_size=2, max_size=4), st.data())
def test_rows_that_join_are_scored_as_alone(texts: Any, data: st.DataObject) -> None:
    """Each text is read alone, joins, and goes on beside the others, some of which leave."""
    net = toy_model().double()
    joined: TreeScorer | None = None
    for first, _ in texts:
        one = TreeScorer(net, 1, 4)
        one.score([Request(first, Tree(None))])
        one.commit([[]])
        if joined is None:
            joined = one
        else:
            joined.join(one)
    assert joined is not None
    kept = data.draw(st.lists(st.sampled_from(range(len(texts))), min_size=1, unique=True))
    joined.select(kept)
    for step in range(3):
        asked = [[texts[i][1][step % len(texts[i][1])]] for i in kept]
        scores = joined.score([Request(one, Tree(None)) for one in asked])
        joined.commit([[] for _ in kept])
        for slot, i in enumerate(kept):
            rest = [texts[i][1][s % len(texts[i][1])] for s in range(step + 1)]
            with torch.no_grad():
                alone = net(torch.tensor([[*texts[i][0], *rest]])).logits[0, -1]
            assert torch.allclose(scores.at(slot, -1), alone, atol=1e-9)


def test_a_row_without_tokens_joins() -> None:
    net = toy_model().double()
    for order in ((0, 1), (1, 0)):
        scorers = [TreeScorer(net, 1, 4), TreeScorer(net, 1, 4)]
        scorers[1].score([Request([5, 6, 7], Tree(None))])
        scorers[1].commit([[]])
        first, second = (scorers[i] for i in order)
        first.join(second)
        scores = first.score([Request([9], Tree(None)), Request([9], Tree(None))])
        for slot, i in enumerate(order):
            with torch.no_grad():
                alone = net(torch.tensor([[[9], [5, 6, 7, 9]][i]])).logits[0, -1]
            assert torch.allclose(scores.at(slot, -1), alone, atol=1e-9)


def test_options_are_checked() -> None:
    for wrong in ({"max_tokens": 0}, {"max_seconds": -1}, {"api_key": ""}, {"max_n": 20}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ServingOptions(**wrong)  # type: ignore[arg-type]


def test_the_schema_of_a_body_stands_alone() -> None:
    text = str(schema_of(ChatBody, "toy"))
    assert "$ref" not in text
    assert "include_usage" in text
