"""The backend for SGLang, through its own registry, against texts read from the start."""

from __future__ import annotations

import json
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import engine_toys as toys
import pytest
from engine_toys import EOS, REQUESTS, SIZE, STOP, WORDS, Reference, tokens_for
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("sglang.srt.constrained", reason="make test-engines installs SGLang")

import torch
from sglang.srt.arg_groups.choices import GRAMMAR_BACKEND_CHOICES
from sglang.srt.constrained import base_grammar_backend as base

from constrain.engines import sglang_backend
from constrain.engines.sglang_backend import GrammaBackend, GrammaGrammar
from grammars import GrammarError

sglang_backend.load()

KINDS = {"json": "json", "regex": "regex", "grammar": "ebnf", "structural_tag": "structural_tag"}
OPTIONS: dict[str, Any] = {
    "reasoning_parser": None,
    "constrained_json_whitespace_pattern": None,
    "constrained_json_disable_any_whitespace": False,
}


def made(**options: Any) -> GrammaBackend:
    """The backend as SGLang's registry makes it."""
    make = base.GRAMMAR_BACKEND_REGISTRY["gramma"]
    args = SimpleNamespace(**{**OPTIONS, **options})
    backend: GrammaBackend = make(args, toys.tokenizer(), SIZE, {EOS, STOP})
    return backend


PLAIN, COMPACT = made(), made(constrained_json_disable_any_whitespace=True)


def grammar_of(name: str) -> GrammaGrammar:
    members = {k: v for k, v in REQUESTS[name].items() if k != "disable_any_whitespace"}
    ((member, value),) = members.items()
    if member == "json_object":
        key = ("json", "$$ANY$$")
    else:
        key = (KINDS[member], value if isinstance(value, str) else json.dumps(value))
    backend = COMPACT if name == "compact" else PLAIN
    found, hit = backend.get_cached_or_future_value(key, False)
    assert not hit
    result = cast("Future[base.BaseGrammarObject]", found).result()
    assert isinstance(result, GrammaGrammar), result
    return cast(GrammaGrammar, result.copy())


NAMES = [name for name in sorted(REQUESTS) if name != "choice"]


def replay(data: st.DataObject, spoil: str | None = None) -> None:
    name = data.draw(st.sampled_from(NAMES))
    grammar, reference = grammar_of(name), Reference(REQUESTS[name], (EOS, STOP))
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.integers(0, 3)) == 0:
            count = data.draw(st.integers(0, len(reference.tokens)))
            grammar.rollback(count - 1 if spoil == "rollback" and count > 1 else count)
            del reference.tokens[len(reference.tokens) - count :]
        for token in tokens_for(data.draw, reference):
            finished = reference.finished
            if finished or reference.accept([token]):
                grammar.accept_token(token)
            else:
                with pytest.raises(ValueError, match=f"token {token} is not allowed"):
                    grammar.accept_token(token)
        assert grammar.is_terminated() == reference.finished
        table = grammar.allocate_vocab_mask(SIZE, 3, "cpu")
        assert table.tolist() == [[-1] * WORDS] * 3
        grammar.fill_vocab_mask(table, 1)
        whole = [-1] * WORDS
        expected = whole if reference.finished else reference.mask().tolist()
        if spoil == "rows":
            expected = expected[::-1]
        assert table.tolist() == [whole, expected, whole]


@given(st.data())
@settings(max_examples=100)
def test_a_grammar_follows_its_tokens(data: st.DataObject) -> None:
    replay(data)


@pytest.mark.parametrize("spoil", ["rollback", "rows"])
def test_the_replay_sees_planted_errors(spoil: str) -> None:
    @given(st.data())
    @settings(max_examples=300, phases=[Phase.generate], database=None)
    def look(data: st.DataObject) -> None:
        replay(data, spoil)

    with pytest.raises((AssertionError, ValueError)):
        look()


def test_masks_on_logits() -> None:
    grammar = grammar_of("regex")
    table = grammar.allocate_vocab_mask(SIZE, 2, "cpu")
    grammar.fill_vocab_mask(table, 0)
    logits = torch.zeros(2, SIZE)
    GrammaGrammar.apply_vocab_mask(logits, GrammaGrammar.move_vocab_mask(table, "cpu"))
    reference = Reference(REQUESTS["regex"], (EOS, STOP))
    assert logits[0].isfinite().nonzero().flatten().tolist() == reference.choices()
    assert logits[1].isfinite().all()
    GrammaGrammar.reset_vocab_mask(table)
    assert (table == -1).all()


def test_what_is_no_grammar_says_why() -> None:
    for key in (("regex", "("), ("json", "{"), ("ebnf", "start: x"), ("structural_tag", "{}")):
        found, _ = PLAIN.get_cached_or_future_value(key, False)
        invalid = cast("Future[Any]", found).result()
        assert isinstance(invalid, base.InvalidGrammarObject)
        assert invalid.error_message.startswith("at /")


def test_sglang_caches_nothing() -> None:
    PLAIN.set_cache(("regex", "a"), grammar_of("regex"))
    assert PLAIN.cache == {}


@pytest.mark.parametrize(
    "option", [{"reasoning_parser": "qwen3"}, {"constrained_json_whitespace_pattern": " *"}]
)
def test_options_that_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(GrammarError):
        made(**option)


def test_the_name_is_listed_once() -> None:
    sglang_backend.load()
    assert GRAMMAR_BACKEND_CHOICES.count("gramma") == 1


def test_the_plugin_is_found_by_sglang() -> None:
    from sglang.srt.plugins import load_plugins_by_group

    found, _ = load_plugins_by_group("sglang.srt.plugins")["gramma"]
    assert found is sglang_backend.load
