"""What is said of broken grammars and refused texts: the place, the reason and the remedy."""

from __future__ import annotations

import pytest
from messages import PAGE, Example, examples, message, page

ALL = examples()


@pytest.mark.parametrize("example", ALL, ids=lambda example: example.name)
def test_place_and_remedy(example: Example) -> None:
    """Each names its place and what to do."""
    said = message(example)
    assert said.startswith(example.place), said
    for part in example.says:
        assert part in said, f"{part!r} is not in: {said}"


def test_there_are_enough() -> None:
    broken = [example for example in ALL if example.text is None]
    assert len(broken) >= 30
    assert len(ALL) - len(broken) >= 30
    assert len({example.name for example in ALL}) == len(ALL)


@pytest.mark.parametrize("example", ALL, ids=lambda example: example.name)
def test_messages_are_for_people(example: Example) -> None:
    """No insides of parsers, no lists that nobody reads."""
    said = message(example)
    for inside in ("Token(", "NonTerminal(", "Traceback", "Errno", "<class '__", "Error building"):
        assert inside not in said
    first = said.split("\n")[0]
    assert first.count(" or ") <= 4
    assert len(first) <= 700


def test_the_page_is_up_to_date() -> None:
    """``python tests/messages.py`` writes it."""
    assert PAGE.read_text(encoding="utf-8") == page()
