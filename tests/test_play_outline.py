"""Derivations of texts: every node is sound, and lark's own trees have the same rules."""

from __future__ import annotations

import pytest
from lark import Lark, Tree

from grammars import Grammar, GrammarError, LimitExceeded, Limits
from grammars.ir import GrammarIR
from samplers.play.outline import MOST_BYTES, Node, outline

LISTS = """
start: value
value: list | NUMBER | pair
list: "[" (value ("," value)*)? "]"
pair: NUMBER ":" value
NUMBER: /[0-9]+/
"""
SCHEMA = """{"type": "object", "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/n"}},
"b": {"type": "string"}}, "required": ["a"], "additionalProperties": false,
"$defs": {"n": {"type": "object", "properties": {"c": {"type": "integer"}},
"additionalProperties": false}}}"""

GRAMMARS = {
    "sum": Grammar.from_gbnf('root ::= term ("+" term)*\nterm ::= [0-9] | "(" root ")"\n'),
    "circular": Grammar.from_gbnf('root ::= root | other | "x"\nother ::= root | "y" root?\n'),
    "ambiguous": Grammar.from_gbnf('root ::= root root | "x" | ""\n'),
    "nullable": Grammar.from_gbnf('root ::= a* b{2,3} a\na ::= "x"?\nb ::= "x" | ""\n'),
    "counted": Grammar.from_gbnf('root ::= a{2,4} a*\na ::= "x" | "xx" b\nb ::= "y"+\n'),
    "palindromes": Grammar.from_gbnf('root ::= "a" root "a" | "b" root "b" | ""\n'),
    "lists": Grammar.from_lark(LISTS),
    "ignoring": Grammar.from_lark(LISTS + '%ignore " "\n'),
    "schema": Grammar.from_json_schema(SCHEMA),
}


def check_node(grammar: Grammar, data: bytes, node: Node) -> None:
    """The node's rule alone accepts its text; its children lie in it, in order."""
    own = Grammar(GrammarIR(grammar.ir.rules, node.rule))
    assert own.accepts(data[node.start : node.end]), node
    at = node.start
    for child in node.children:
        assert at <= child.start < child.end <= node.end
        at = child.end


@pytest.mark.parametrize("name", list(GRAMMARS))
def test_every_node_is_sound(name: str) -> None:
    grammar = GRAMMARS[name]
    for seed in range(12):
        data = grammar.sample(seed, 40)
        top = outline(grammar, data)
        assert (top.rule, top.start, top.end) == (grammar.ir.start, 0, len(data))
        for node in top.nodes():
            check_node(grammar, data, node)


def spans(node: Node, rules: set[str]) -> list[tuple[str, int, int]]:
    return sorted((n.rule, n.start, n.end) for n in node.nodes() if n.rule in rules)


def test_the_tree_is_larks() -> None:
    lark = Lark(LISTS, parser="lalr", propagate_positions=True, keep_all_tokens=True)
    grammar = GRAMMARS["lists"]
    several = 0
    for seed in range(40):
        data = grammar.sample(seed, 60)
        tree: Tree[object] = lark.parse(data.decode())
        theirs = sorted(
            (str(t.data), t.meta.start_pos, t.meta.end_pos) for t in tree.iter_subtrees()
        )
        assert spans(outline(grammar, data), {"start", "value", "list", "pair"}) == theirs
        several += len(theirs) > 5
    assert several > 10


def test_names_that_front_ends_make_up_are_left_out() -> None:
    grammar = GRAMMARS["schema"]
    data = b'{"a": [{"c": 1}, {}], "b": "x"}'
    rules = [node.rule for node in outline(grammar, data).nodes()]
    assert not any(rule.startswith("_") for rule in rules)
    assert rules[0] == "#"
    assert sum("n" in rule.split("/") for rule in rules) >= 2, rules


def test_deep_texts_need_no_deep_calls() -> None:
    grammar = GRAMMARS["palindromes"]
    data = b"a" * 600
    assert sum(1 for _ in outline(grammar, data).nodes()) == 300


def test_what_has_no_outline() -> None:
    grammar = GRAMMARS["sum"]
    with pytest.raises(GrammarError, match="accepted"):
        outline(grammar, b"1+")
    with pytest.raises(GrammarError, match="bytes or fewer"):
        outline(grammar, b"1" + b"+1" * MOST_BYTES)
    with pytest.raises(GrammarError, match="special tokens"):
        outline(Grammar.from_gbnf("root ::= <|call|>"), b"")
    layout = Grammar.from_lark(
        'start: "a" _NL _INDENT "b" _NL _DEDENT\n_NL: /(\\n *)+/\n%declare _INDENT _DEDENT\n'
    )
    with pytest.raises(GrammarError, match="indentation"):
        outline(layout, b"a\n b\n")
    small = Grammar.from_gbnf('root ::= "(" root ")" | "x"', limits=Limits(max_work=20_000))
    with pytest.raises(LimitExceeded, match="max_work"):
        outline(small, b"(" * 900 + b"x" + b")" * 900)
