"""Shortest texts and completions, against enumeration of all texts by length."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import bag_grammars, grammars

from grammars import Grammar
from grammars.ir import GrammarIR
from grammars.limits import DEFAULT_LIMITS
from grammars.shortest import Shortest, shortest_accepted

TEXTS = [bytes(x) for n in range(5) for x in itertools.product(b"abc", repeat=n)]


@settings(max_examples=40)
@given(st.one_of(grammars(), bag_grammars()), st.text("abc", max_size=2))
def test_completions_are_as_short_as_can_be(ir: GrammarIR, prefix: str) -> None:
    grammar = Grammar(ir)
    found = grammar.complete(prefix)
    offset = grammar.explain(prefix).offset
    begun = prefix.encode()[:offset]
    lengths = [len(t) for t in TEXTS if t.startswith(begun) and grammar.accepts(t)]
    if found is not None:
        assert found.startswith(begun)
        assert grammar.accepts(found)
        assert len(found) <= min(lengths, default=len(found))
    else:
        assert not lengths


@settings(max_examples=25)
@given(grammars())
def test_facts_about_parts(ir: GrammarIR) -> None:
    grammar = Grammar(ir)
    known = Shortest(ir, DEFAULT_LIMITS)
    body = ir[ir.start].body
    accepted = [t for t in TEXTS if grammar.accepts(t)]
    text = known.text(body)
    assert (text is None) == grammar.is_empty
    if text is not None:
        assert grammar.accepts(text)
        assert len(text) <= min(map(len, accepted), default=len(text))
    assert all(known.first(body) >> t[0] & 1 for t in accepted if t)
    if known.has_one_length(body):
        assert len({len(t) for t in accepted}) <= 1


def test_completion_of_an_object() -> None:
    grammar = Grammar.from_json_schema(
        {
            "type": "object",
            "properties": {k: {"type": "string", "minLength": 2} for k in ("name", "town", "land")},
            "required": ["name", "town", "land"],
        }
    )
    assert grammar.complete('{"name": "x') == (b'{"name": "xa","town":"aa","land":"aa"}')


def test_completion_with_special_tokens_and_without_any() -> None:
    grammar = Grammar.token("<c>") + Grammar.literal("ab")
    assert grammar.complete("<c>") == b"<c>ab"
    assert Grammar.from_json_schema(False).complete("x") is None
    assert shortest_accepted(Grammar.from_json_schema(False)._recognizer) is None


@given(
    st.sampled_from(
        (
            {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
            {"type": "array", "uniqueItems": True, "items": {"type": "integer"}},
            {"type": "object", "additionalProperties": {"type": "integer"}},
        )
    ),
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    st.integers(0, 30),
)
@settings(max_examples=60)
def test_completions_where_nothing_may_come_twice(
    schema: dict[str, object], values: list[int], cut: int
) -> None:
    """Another text is found where the shortest repeats an item or a key."""
    kind = schema["type"]
    if kind == "object":
        text = "{" + ",".join(f'"{"ab"[: v + 1]}":{v}' for v in values)
    elif schema["items"] == {"type": "string"}:
        text = "[" + ",".join(f'"{"ab" * v}"' for v in values)
    else:
        text = "[" + ",".join(map(str, values))
    text = text[:cut]
    grammar = Grammar.from_json_schema(schema)
    begun = text.encode()[: grammar.explain(text).offset]
    found = grammar.complete(text)
    assert found is not None
    assert grammar.accepts(found)
    assert found.startswith(begun[: max(len(begun) - 4, 0)])
