"""``extract(grounded=True)``: values that stand in the text."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from spans import spans
from test_extraction import TOKENIZER, model

import samplers
from constrain import extract, extract_many
from grammars import Grammar, GrammarError, Inferred, Verbatim

TEXT = "Ada Lee paid 1,250.50 for 12 boxes of tea."
OTHER = "Bob sold 7 cups."


class Sale(BaseModel):
    who: str
    price: float
    kind: Annotated[str, Inferred()]


class Name(BaseModel):
    who: Annotated[str, Verbatim()]
    about: str


SALE: dict[str, Any] = {
    "type": "object",
    "properties": {"who": {"type": "string", "maxLength": 20}, "count": {"type": "integer"}},
    "required": ["who", "count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("run", [extract, samplers.extract])
def test_whatever_a_model_writes_stands_in_the_text(run: Any, seed: int) -> None:
    found = run(model(), TOKENIZER, TEXT, SALE, grounded=True, temperature=1.5, max_new_tokens=90)
    assert found.complete
    assert found.value["who"] in spans(TEXT, "words", ["space"])
    assert found.value["count"] in (1, 12, 250, 50, 1250)


def test_types_and_marks() -> None:
    found = extract(model(), TOKENIZER, TEXT, Sale, grounded=True, max_new_tokens=120)
    assert found.value.price in (1250.5, 12.0)
    tied = extract(model(), TOKENIZER, TEXT, Name, max_new_tokens=120, temperature=1.5)
    assert tied.value.who in spans(TEXT, "words", ["space"])


def test_messages_and_a_source_of_their_own() -> None:
    chat = [
        {"role": "system", "content": "zzz"},
        {"role": "user", "content": [{"type": "text", "text": "Ada"}]},
        {"role": "assistant", "content": "yyy"},
        {"role": "user", "content": "Lee"},
    ]
    schema = {"type": "string", "minLength": 1}
    words = {"Ada", "Lee", "Ada Lee"}
    for seed in range(3):
        found = extract(model(), TOKENIZER, chat, schema, grounded=True, temperature=1.0 + seed)
        assert found.value in words
    given = extract(model(), TOKENIZER, chat, schema, grounded=True, source="Bob", temperature=1.0)
    assert given.value == "Bob"


def test_many_texts_are_each_their_own_source() -> None:
    first, second = extract_many(
        model(), TOKENIZER, [TEXT, OTHER], SALE, grounded=True, max_new_tokens=90
    )
    assert first.value["who"] in spans(TEXT, "words", ["space"])
    assert second.value["who"] in spans(OTHER, "words", ["space"])
    assert second.value["count"] == 7
    schema = {"type": "integer", "minimum": 9}
    with pytest.raises(GrammarError, match="no number of the source"):
        extract_many(model(), TOKENIZER, [TEXT, OTHER], schema, grounded=True)
    kept = extract_many(model(), TOKENIZER, [TEXT, OTHER], schema, grounded=True, on_error="return")
    assert kept[0].complete
    assert isinstance(kept[1].error, GrammarError)


def test_what_cannot_be_grounded() -> None:
    with pytest.raises(ValueError, match=r"Grammar\.substring_of"):
        extract(model(), TOKENIZER, TEXT, Grammar.from_choices(["a"]), grounded=True)
    with pytest.raises(GrammarError, match="#/pattern"):
        extract(model(), TOKENIZER, TEXT, {"type": "string", "pattern": "^Q"}, grounded=True)
    with pytest.raises(TypeError, match="source must be str"):
        extract(model(), TOKENIZER, TEXT, SALE, grounded=True, source=7)  # type: ignore[arg-type]
