"""Tasks of constituency parsing: the trees that their grammars have, beside all trees made by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import aligned_tasks

from grammars import Grammar


def shapes(first: int, last: int) -> Iterator[str]:
    """All contents of a phrase over some words, # for a phrase's name and @ for a tag."""
    if last == first + 1:
        yield f"(@ {first})"
    for parts in cuts(first, last):
        if len(parts) > 1:
            yield from joined(parts)


def cuts(first: int, last: int) -> Iterator[list[tuple[int, int]]]:
    """All ways to cut a row of words into pieces."""
    if first == last:
        yield []
    for middle in range(first + 1, last + 1):
        for rest in cuts(middle, last):
            yield [(first, middle), *rest]


def joined(parts: list[tuple[int, int]]) -> Iterator[str]:
    if not parts:
        yield ""
        return
    (first, last), *others = parts
    heads = [f"(# {inside})" for inside in shapes(first, last)]
    if last == first + 1:
        heads.append(f"(@ {first})")
    for head in heads:
        for rest in joined(others):
            yield f"{head} {rest}".rstrip()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_trees_of_a_sentence(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one tag and one name of a phrase, the language is finite and small."""
    monkeypatch.setattr(aligned_tasks, "PHRASES", ("P",))
    monkeypatch.setattr(aligned_tasks, "TAGS", ("T",))
    words = ["uno", "due", "tre"][:count]
    grammar = Grammar.from_gbnf(aligned_tasks.constituency_grammar(" ".join(words)))
    want = set()
    for shape in shapes(0, count):
        tree = f"(S {shape})".replace("#", "P").replace("@", "T")
        for i, word in enumerate(words):
            tree = tree.replace(f" {i})", f" {word})")
        want.add(tree)
    assert len(want) == {1: 1, 2: 4, 3: 24}[count]
    for tree in want:
        assert grammar.accepts(tree)
        assert not grammar.accepts(tree[:-1])
        assert not grammar.accepts(tree.replace("uno", "due", 1))
        assert not grammar.accepts(tree.replace("(S", "(P", 1))
    drawn = {grammar.sample(seed=seed).decode() for seed in range(300)}
    assert drawn <= want
    assert len(drawn) > len(want) // 2


def test_expected_trees_are_trees_and_turns_too() -> None:
    tasks = aligned_tasks.cp_tasks()
    assert len(tasks) == 6
    for task in tasks:
        grammar = task.make()
        assert grammar.accepts(task.expected)
        assert task.question not in {question for question, _ in task.turns}
    for sentence, tree in aligned_tasks.CP_TURNS:
        grammar = Grammar.from_gbnf(aligned_tasks.constituency_grammar(sentence))
        assert grammar.accepts(tree)
        assert not grammar.accepts(tree.replace(" (", "(", 1))
