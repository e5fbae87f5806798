"""Extraction with a small random model: whatever it would like to write, the value is valid."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import pytest
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typing_extensions import TypedDict

import constrain
import samplers
from constrain import BudgetError, Extraction, TokenAutomaton, extract
from constrain.huggingface.extraction import DEFAULT_MAX_NEW_TOKENS, default_prompt
from grammars import Grammar, GrammarError

CONTEXT = 640
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = "Ada paid 12 for tea."


def make_tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE: the 256 bytes, a few merges, and two special tokens."""
    letters = sorted(ByteLevel.alphabet())
    assert len(letters) == 256
    merges = [('"', ":"), ("t", "r"), ("u", "e"), ("tr", "ue"), ("{", '"'), ("1", "2")]
    pieces = [*letters, *("".join(pair) for pair in merges)]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    bpe = Tokenizer(models.BPE(vocab=ids, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|pad|>"
    )
    wrapped.chat_template = template
    return wrapped


TOKENIZER = make_tokenizer()
CHAT = make_tokenizer(TEMPLATE)
EOS = cast(int, TOKENIZER.eos_token_id)


@cache
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=TOKENIZER.pad_token_id,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models lose more by sharing out their work than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def counted() -> Iterator[list[int]]:
    """The lengths of the inputs of every forward."""
    seen: list[int] = []

    def note(module: Any, arguments: Any, options: dict[str, Any]) -> None:
        ids = options.get("input_ids")
        seen.append(int((ids if ids is not None else arguments[0]).shape[-1]))

    handle = model().register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def run(wanted: Any, asked: Any = TEXT, **options: Any) -> Extraction:
    options = {"max_new_tokens": 64} | options
    return extract(model(), options.pop("tokenizer", TOKENIZER), asked, wanted, **options)


def prompt_of(asked: Any, **options: Any) -> str:
    """The prompt that the model is given, decoded."""
    seen: list[str] = []

    def write(model: Any, input_ids: torch.Tensor, automaton: Any, **rest: Any) -> list[int]:
        assert input_ids.ndim == 2
        assert input_ids.shape[0] == 1
        seen.append(TOKENIZER.decode(input_ids[0]))
        return []

    run({"type": "null"}, asked, generate=write, **options)
    return seen[0]


# --- what may be asked for ------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"paid": {"type": "boolean"}, "kind": {"enum": ["tea", "é"]}},
    "required": ["paid", "kind"],
    "additionalProperties": False,
}


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    paid: bool
    kind: Literal["tea", "coffee"]


class Row(TypedDict):
    paid: bool


@dataclass
class Point:
    x: bool
    y: Literal[1, 2]


def check(found: Extraction, grammar: Grammar) -> None:
    assert found.complete
    assert found.tokens[-1] == EOS
    assert EOS not in found.tokens[:-1]
    assert TOKENIZER.decode(found.tokens[:-1], clean_up_tokenization_spaces=False) == found.text
    assert grammar.accepts(found.text)


@pytest.mark.parametrize("temperature", [None, 1.0])
@pytest.mark.parametrize("wanted", [SCHEMA, json.dumps(SCHEMA, indent=1)], ids=["dict", "text"])
def test_schemas(wanted: Any, temperature: float | None) -> None:
    torch.manual_seed(1)
    found = run(wanted, temperature=temperature)
    check(found, Grammar.from_json_schema(SCHEMA))
    assert isinstance(found.value, dict)
    assert found.value == json.loads(found.text)
    assert set(found.value) == {"paid", "kind"}


def test_schemas_that_are_booleans() -> None:
    found = run(True, max_new_tokens=12)
    check(found, Grammar.from_json_schema(True))
    assert found.value == json.loads(found.text)
    assert run("true", max_new_tokens=12).value == found.value
    with pytest.raises(GrammarError, match="no text"):
        run(False)


# what -> (type, what its values are instances of)
TYPES: dict[str, tuple[Any, type]] = {
    "pydantic model": (Order, Order),
    "TypedDict": (Row, dict),
    "dataclass": (Point, Point),
    "Literal": (Literal["yes", "no"], str),
    "list[int]": (list[int], list),
    "tuple": (tuple[bool, Literal["a"]], tuple),
    "Optional": (Literal["x"] | None, object),
    "dict": (dict[str, bool], dict),
    "int": (int, int),
    "list of models": (list[Order], list),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TYPES)
def test_types(name: str, seed: int) -> None:
    tp, kind = TYPES[name]
    torch.manual_seed(seed)
    found = run(tp, temperature=1.5)
    check(found, Grammar.from_type(tp))
    assert isinstance(found.value, kind)
    if name == "list of models":
        assert {type(order) for order in cast(list[Any], found.value)} <= {Order}
    if name == "Literal":
        assert found.value in ("yes", "no")


def test_a_grammar() -> None:
    grammar = Grammar.from_choices(['{"a": 1}', "[2]"])
    found = run(grammar)
    check(found, grammar)
    assert found.value in ({"a": 1}, [2])


def test_a_grammar_of_texts_that_are_not_json() -> None:
    """There is no value to read, but the text is complete all the same."""
    grammar = Grammar.from_choices(["yes", "no"])
    found = run(grammar)
    check(found, grammar)
    assert found.text in ("yes", "no")


@pytest.mark.parametrize(
    ("wanted", "kind", "part"),
    [
        ('{"type": ', GrammarError, "line 1, column 9"),
        ({"type": "strin"}, GrammarError, "/type"),
        ({"items": {"$ref": "#/nowhere"}}, GrammarError, "/items/$ref"),
        (len, GrammarError, "JSON"),
    ],
    ids=str,
)
def test_what_cannot_be_used(wanted: Any, kind: type[Exception], part: str) -> None:
    with counted() as forwards, pytest.raises(kind) as caught:
        run(wanted)
    assert part in str(caught.value)
    assert forwards == []


def test_a_validator_of_the_type_may_refuse_the_value() -> None:
    class Picky(BaseModel):
        kind: Literal["tea"]

        @field_validator("kind")
        @classmethod
        def refuse(cls, value: str) -> str:
            raise ValueError("not today")

    with pytest.raises(ValidationError, match="not today"):
        run(Picky)


# --- the prompt -----------------------------------------------------------------------------------


def test_a_text_is_put_into_the_default_prompt() -> None:
    for tokenizer in (TOKENIZER, CHAT):
        prompt = prompt_of(f"  {TEXT}\n", tokenizer=tokenizer)
        assert f"Text:\n{TEXT}\n" in prompt
        assert 'JSON Schema:\n{"type": "null"}' in prompt
    (message,) = default_prompt("a {brace}", "{}")
    assert cast(dict[str, str], message)["content"].endswith("Text:\na {brace}")


def test_a_chat_template_is_used() -> None:
    prompt = prompt_of(TEXT, tokenizer=CHAT)
    assert prompt.startswith("<|user|>Extract")
    assert prompt.endswith("<|assistant|>")


def test_messages_are_taken_as_they_are() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Paid?"},
    ]
    before = copy.deepcopy(messages)
    assert prompt_of(messages, tokenizer=CHAT) == (
        "<|system|>Be brief.\n<|user|>Paid?\n<|assistant|>"
    )
    plain = prompt_of(messages, tokenizer=TOKENIZER)
    assert plain.startswith("Be brief.\n\nPaid?\n\n")
    assert "JSON Schema" not in plain
    assert prompt_of(tuple(messages), tokenizer=CHAT).endswith("<|assistant|>")
    assert messages == before


def test_a_prompt_of_ones_own() -> None:
    def as_text(text: str, schema: str) -> str:
        return f"{schema} <- {text}"

    def as_messages(text: str, schema: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{text} -> {schema}"}]

    assert prompt_of(TEXT, prompt=as_text) == '{"type": "null"} <- ' + TEXT
    expected = f'<|user|>{TEXT} -> {{"type": "null"}}\n<|assistant|>'
    assert prompt_of(TEXT, prompt=as_messages, tokenizer=CHAT) == expected


def test_the_prompt_is_told_the_schema_of_a_type() -> None:
    told: list[str] = []

    def builder(text: str, schema: str) -> str:
        told.append(schema)
        return text

    run(Order, prompt=builder)
    assert json.loads(told[0])["properties"]["kind"]["enum"] == ["tea", "coffee"]


# --- a generate of one's own ----------------------------------------------------------------------


def writes(text: str, *, end: bool = True) -> Callable[..., list[int]]:
    def write(model: Any, input_ids: Any, automaton: TokenAutomaton, **rest: Any) -> list[int]:
        ids: list[int] = TOKENIZER(text)["input_ids"]
        return [*ids, EOS] if end else ids

    return write


def test_generate_gets_model_ids_automaton_budget_and_options() -> None:
    seen: dict[str, Any] = {}

    def write(
        model: Any,
        input_ids: torch.Tensor,
        automaton: TokenAutomaton,
        *,
        max_new_tokens: int,
        **rest: Any,
    ) -> list[int]:
        seen.update(model=model, ids=input_ids, automaton=automaton, budget=max_new_tokens, **rest)
        return writes("[true]")(model, input_ids, automaton)

    with counted() as forwards:
        found = run(list[bool], generate=write, max_new_tokens=7, temperature=0.3, colour="red")
    assert forwards == []
    assert found == Extraction([True], "[true]", [*TOKENIZER("[true]")["input_ids"], EOS], True)
    assert seen["model"] is model()
    assert seen["ids"].dtype == torch.int64
    assert seen["automaton"].grammar == Grammar.from_type(list[bool])
    assert (seen["budget"], seen["temperature"], seen["colour"]) == (7, 0.3, "red")


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (writes("[true, ", end=False), "[true, "),
        (writes("[true, "), "[true, "),
        (writes("[true]", end=False), "[true]"),  # it might have gone on
        (writes("[3]"), "[3]"),
        (writes(""), ""),
        (lambda *_, **__: [], ""),
    ],
    ids=["cut off", "ended too early", "no EOS", "beside the grammar", "only EOS", "nothing"],
)
def test_unfinished_texts(write: Any, text: str) -> None:
    found = run(list[bool], generate=write)
    assert not found.complete
    assert found.value is None
    assert found.text == text


def test_half_a_character_at_the_end() -> None:
    ids = TOKENIZER('"é')["input_ids"][:-1]
    found = run({"type": "string"}, generate=lambda *_, **__: ids)
    assert (found.complete, found.value) == (False, None)
    assert found.text.startswith('"')


# --- budgets --------------------------------------------------------------------------------------


def test_a_budget_too_small_is_refused_before_any_forward() -> None:
    with counted() as forwards, pytest.raises(BudgetError, match="at least") as caught:
        run(SCHEMA, max_new_tokens=5)
    assert forwards == []
    assert caught.value.available == 5
    needed = caught.value.needed
    with pytest.raises(BudgetError):
        run(SCHEMA, max_new_tokens=needed - 1)
    for seed in range(3):
        torch.manual_seed(seed)
        found = run(SCHEMA, max_new_tokens=needed, temperature=5.0)
        check(found, Grammar.from_json_schema(SCHEMA))
        assert len(found.tokens) == needed


@pytest.mark.parametrize("budget", [8, 13, 30])
def test_a_text_is_whole_within_the_budget(budget: int) -> None:
    torch.manual_seed(budget)
    found = run({"type": "string", "maxLength": 400}, max_new_tokens=budget, temperature=2.0)
    assert found.complete
    assert len(found.tokens) <= budget


def test_prompt_and_budget_beyond_the_context() -> None:
    def short(text: str, schema: str) -> str:
        return text

    with counted() as forwards, pytest.raises(BudgetError) as caught:
        run(Row, "a" * (CONTEXT - 12), prompt=short, max_new_tokens=13)
    assert forwards == []
    assert (caught.value.needed, caught.value.available) == (CONTEXT + 1, CONTEXT)
    for part in (f"{CONTEXT - 12}", "13", f"{CONTEXT}", "shorten the text or lower max_new_tokens"):
        assert part in str(caught.value)
    with pytest.raises(BudgetError, match="context"):  # the prompt alone
        run(Row, "a" * CONTEXT, prompt=short, max_new_tokens=None)
    assert run(Row, "a" * (CONTEXT - 22), prompt=short, max_new_tokens=22).complete
    with pytest.raises(BudgetError):  # what is left is less than the shortest text
        run(Row, "a" * (CONTEXT - 2), prompt=short, max_new_tokens=None)


def test_the_default_budget_is_what_the_context_leaves() -> None:
    seen: list[int] = []

    def write(*_: Any, max_new_tokens: int, **__: Any) -> list[int]:
        seen.append(max_new_tokens)
        return []

    def short(text: str, schema: str) -> str:
        return text

    run(Row, "a" * (CONTEXT - 100), prompt=short, generate=write, max_new_tokens=None)
    assert seen == [100]
    assert DEFAULT_MAX_NEW_TOKENS == 512
    roomy = copy.deepcopy(model())
    roomy.config.max_position_embeddings = 4_096
    extract(roomy, TOKENIZER, "a" * 100, Row, prompt=short, generate=write)
    assert seen[-1] == DEFAULT_MAX_NEW_TOKENS


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_below_one(budget: int) -> None:
    with counted() as forwards, pytest.raises(ValueError, match="max_new_tokens"):
        run(Row, max_new_tokens=budget)
    assert forwards == []


# --- how tokens are chosen ------------------------------------------------------------------------


def test_greedy_without_a_temperature() -> None:
    first = run(SCHEMA)
    for seed in range(3):
        torch.manual_seed(seed)
        assert run(SCHEMA).tokens == first.tokens
        assert run(SCHEMA, temperature=0).tokens == first.tokens
        assert run(SCHEMA, temperature=0.0).tokens == first.tokens


def test_a_temperature_samples_by_the_seed() -> None:
    wanted = {"type": "string", "minLength": 8, "maxLength": 10}
    texts = []
    for seed in (0, 0, 1, 2):
        torch.manual_seed(seed)
        found = run(wanted, temperature=1.0)
        assert found.complete
        texts.append(found.text)
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_a_models_own_generation_defaults_do_not_narrow_the_choice() -> None:
    """A generation config with top_k=1 would make sampling greedy without anybody asking."""
    narrow = copy.deepcopy(model())
    narrow.generation_config.top_k = 1
    narrow.generation_config.do_sample = True
    texts = set()
    for seed in range(4):
        torch.manual_seed(seed)
        wanted = {"type": "string", "minLength": 6, "maxLength": 6}
        texts.add(extract(narrow, TOKENIZER, TEXT, wanted, max_new_tokens=64, temperature=1.0).text)
    assert len(texts) == 4


def test_options_of_generate_are_passed_on() -> None:
    found = run(SCHEMA, num_beams=3)
    check(found, Grammar.from_json_schema(SCHEMA))
    found = run(SCHEMA, do_sample=True, top_p=0.5)
    check(found, Grammar.from_json_schema(SCHEMA))


def test_logits_processors_of_ones_own() -> None:
    """One that favours "é" decides where the grammar leaves a choice."""
    letter = TOKENIZER("é")["input_ids"][0]

    def favour(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, letter] += 1e4
        return scores

    found = run(SCHEMA, logits_processor=[favour])
    assert found.value["kind"] == "é"


def test_several_eos_ids() -> None:
    """Either ends a text; both count as the end when it is read."""
    two = copy.deepcopy(model())
    other = 300
    two.generation_config.eos_token_id = [EOS, other]
    ends = set()
    for seed in range(12):
        torch.manual_seed(seed)
        found = extract(two, TOKENIZER, TEXT, SCHEMA, max_new_tokens=40, temperature=1.0)
        assert found.complete
        assert found.value == json.loads(found.text)
        assert not {EOS, other} & set(found.tokens[:-1])
        ends.add(found.tokens[-1])
    assert ends == {EOS, other}


def test_the_same_again() -> None:
    """Grammar, vocabulary and automaton are kept; nothing of one call is left for the next."""
    first = run(Order, "one text")
    run(list[int], "another text", temperature=1.0)
    assert run(Order, "one text") == first


# --- where it is found ----------------------------------------------------------------------------


def test_samplers_has_it_too() -> None:
    found = samplers.extract(model(), TOKENIZER, TEXT, Order, max_new_tokens=64)
    assert isinstance(found, samplers.Extraction)
    assert isinstance(found.value, Order)
    assert samplers.Extraction is constrain.Extraction
    assert {"extract", "Extraction"} <= set(dir(samplers)) & set(dir(constrain))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = samplers.nonsense
