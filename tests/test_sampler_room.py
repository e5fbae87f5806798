"""Samplers whose automaton has room for few states write what they write with room for all."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from toys import model, vocabulary

from constrain import GrammarLogitsProcessor, TokenAutomaton, UnknownStateError
from constrain.room import found, with_room
from grammars import Grammar, LimitExceeded, Limits
from samplers import (
    ARS,
    AWRS,
    CARS,
    RSFT,
    AlignedSampling,
    ASAp,
    ConstrainedMCMC,
    GrammarConstrained,
    RejectionSampling,
    SpeculativeBackend,
    SpeculativeGenerate,
)
from samplers.speculative.target import Constrained

SCHEMA: Final = {"type": "array", "items": {"enum": [1, 2, "abc", True, None]}, "uniqueItems": True}
UNIQUE: Final = Grammar.from_json_schema(SCHEMA)
OBJECTS: Final = Grammar.from_json_schema({"type": "object"})
PROMPT: Final = [0, 5, 9, 12]
BUDGET: Final = 24
FEW: Final = 12
REJECTING: Final = ("RS", "RSFT", "ARS")
EASY: Final = Grammar.from_regex(r'([^"]*"[^"]*")*[^"]*')
"""What most texts of a model are of that knows nothing of it."""
SAMPLERS: Final[dict[str, Callable[[SpeculativeBackend, TokenAutomaton], Any]]] = {
    "constrained": GrammarConstrained,
    "RS": RejectionSampling,
    "RSFT": RSFT,
    "ARS": ARS,
    "CARS": CARS,
    "ASAp": ASAp,
    "AWRS": AWRS,
    "MCMC": ConstrainedMCMC,
    "aligned": AlignedSampling,
}


def automaton(grammar: Grammar, states: int) -> TokenAutomaton:
    return TokenAutomaton(grammar, vocabulary(), Limits(max_states=states))


def texts(sampler: Any, seed: int, n: int = 3, **options: Any) -> list[tuple[list[int], Any, Any]]:
    """Tokens and log-probabilities; the latter are rounded as trees of drafts happen to be cut."""
    return [
        (
            sample.token_ids,
            pytest.approx(sample.logprob, abs=1e-4),
            pytest.approx(sample.constrained_logprob, abs=1e-4),
        )
        for sample in sampler.sample(PROMPT, n, max_new_tokens=BUDGET, seed=seed, **options)
    ]


def tokens(given: list[tuple[list[int], Any, Any]]) -> list[list[int]]:
    return [one[0] for one in given]


def made(name: str, used: TokenAutomaton) -> Any:
    """A sampler; those that learn do so from all that is scored, and drafts may want for room."""
    drafters: Any = None if name == "constrained" else []
    return SAMPLERS[name](SpeculativeBackend(model(), drafters=drafters), used)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - set(REJECTING)))
def test_texts_are_the_same(name: str, trims: list[int]) -> None:
    """Several calls, between which samplers learn."""
    few, many = (made(name, automaton(UNIQUE, states)) for states in (FEW, 1_000_000))
    for seed in range(2):
        assert tokens(texts(few, seed)) == tokens(texts(many, seed))
    assert trims
    assert max(trims) <= FEW + 3


@pytest.mark.parametrize("name", ["constrained", "AWRS"])
def test_longer_texts(name: str, trims: list[int]) -> None:
    few, many = (made(name, automaton(OBJECTS, states)) for states in (30, 1_000_000))
    assert tokens(texts(few, 0, 2)) == tokens(texts(many, 0, 2))
    assert trims


@pytest.mark.parametrize("name", SAMPLERS)
def test_others_forget_states(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another holder of the automaton has states forgotten before every 41st question."""
    grammar = EASY if name in REJECTING else UNIQUE
    used = automaton(grammar, 1_000_000)
    plain = texts(made(name, automaton(grammar, 1_000_000)), 1)
    sampler, asked = made(name, used), 0
    for method in ("advance", "mask", "allowed_tokens", "min_tokens_to_accept", "signature"):
        whole = getattr(TokenAutomaton, method)

        def ask(self: TokenAutomaton, *given: Any, whole: Any = whole) -> Any:
            nonlocal asked
            asked += 1
            if self is used and asked % 41 == 0:
                self.trim(())
            return whole(self, *given)

        monkeypatch.setattr(TokenAutomaton, method, ask)
    assert tokens(texts(sampler, 1)) == tokens(plain)


def test_what_was_learned_is_kept(tmp_path: Path, trims: list[int]) -> None:
    """A trie whose states were forgotten goes on, and is written and read with little room."""
    few, many = (made("CARS", automaton(UNIQUE, states)) for states in (FEW, 1_000_000))
    for sampler in (few, many):
        texts(sampler, 0, 6)
    few.automaton.trim(())
    assert tokens(texts(few, 1)) == tokens(texts(many, 1))
    few.save(tmp_path / "learned.safetensors", PROMPT, BUDGET)
    again = made("CARS", automaton(UNIQUE, FEW))
    again.load(tmp_path / "learned.safetensors", PROMPT, BUDGET)
    assert tokens(texts(again, 2)) == tokens(texts(many, 2))
    assert trims


def test_healed_prompts(trims: list[int]) -> None:
    few, many = (made("constrained", automaton(OBJECTS, states)) for states in (30, 1_000_000))
    prompt = [0, 5, vocabulary().texts.index(b"{")]
    drawn = [
        [
            one.token_ids
            for one in sampler.sample(prompt, 3, max_new_tokens=BUDGET, seed=3, heal=True)
        ]
        for sampler in (few, many)
    ]
    assert drawn[0] == drawn[1]
    assert trims


def test_generate_by_drafts(trims: list[int]) -> None:
    """Texts of ``generate`` with drafts, greedy, are those of the processor with room for all."""
    ids = torch.tensor([PROMPT])
    given: dict[str, Any] = {
        "attention_mask": torch.ones_like(ids), "max_new_tokens": 40, "do_sample": False,
    }  # fmt: skip
    plain = model().generate(
        ids, logits_processor=[GrammarLogitsProcessor(automaton(OBJECTS, 1_000_000), max_new_tokens=40)],
        **given,
    )  # fmt: skip
    generate = SpeculativeGenerate(automaton(OBJECTS, 30))
    written = model().generate(ids, custom_generate=generate, **given)
    assert plain.tolist() == written.tolist()
    assert trims


def test_one_automaton_in_two_threads() -> None:
    """A sampler and a processor in another thread, with room for one of them at a time."""
    used = automaton(OBJECTS, 60)
    plain = texts(made("constrained", automaton(OBJECTS, 1_000_000)), 5, 2)
    ids = torch.tensor([PROMPT])

    def write(written: TokenAutomaton) -> list[int]:
        processor = GrammarLogitsProcessor(written, max_new_tokens=BUDGET)
        out = model().generate(
            ids, attention_mask=torch.ones_like(ids), logits_processor=[processor],
            max_new_tokens=BUDGET, do_sample=False,
        )  # fmt: skip
        found: list[int] = out[0].tolist()
        return found

    wanted = write(automaton(OBJECTS, 1_000_000))
    got: list[list[int]] = []
    thread = threading.Thread(target=lambda: got.extend(write(used) for _ in range(4)))
    thread.start()
    assert tokens(texts(made("constrained", used), 5, 2)) == tokens(plain)
    thread.join()
    assert got == [wanted] * 4


# -- the parts -------------------------------------------------------------------------------------


def test_states_are_found_again() -> None:
    target = Constrained(automaton(OBJECTS, 1_000_000))
    held = target.automaton
    assert held is not None
    opened = target.advance(target.start(), vocabulary().texts.index(b"{"))
    assert opened is not None
    mask = target.weighting(opened, 9).ids
    held.trim(())
    again = target.grammar_state(opened)
    assert again != opened
    assert held.mask(again) is not None
    held.trim(())
    again_mask = target.weighting(opened, 9).ids
    assert mask is not None
    assert again_mask is not None
    assert np.array_equal(again_mask, mask)
    assert target.advance(opened, 1) is None
    assert target.advance(opened, vocabulary().texts.index(b"}")) is not None


def test_states_of_others_are_not() -> None:
    used = automaton(OBJECTS, 1_000_000)
    state = used.advance(used.start, vocabulary().texts.index(b"{"))
    used.trim(())
    with pytest.raises(UnknownStateError):
        Constrained(used).advance(state, 1)


def test_other_limits_are_raised_at_once() -> None:
    used, calls = automaton(OBJECTS, 30), 0

    def ask(state: int) -> int:
        nonlocal calls
        calls += 1
        raise LimitExceeded("max_items", 3, "this text")

    with pytest.raises(LimitExceeded, match="max_items"):
        with_room(used, used.start, lambda: (), ask)
    assert calls == 1


def test_room_for_not_even_one_text_is_an_error() -> None:
    used = automaton(OBJECTS, 1)
    with pytest.raises(LimitExceeded, match="max_states"):
        found(used, [vocabulary().texts.index(b"{"), vocabulary().texts.index(b'"')])


def test_masks_of_a_processor_that_lack_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask for which there is no room is asked for again behind a trim, and no row is given up."""
    whole = TokenAutomaton._mask
    refused: list[int] = []

    def mask(self: TokenAutomaton, state: int, left: int | None) -> Any:
        if len(refused) % 4 < 1 and self.state_count > 6:
            refused.append(self.state_count)
            raise LimitExceeded("max_states", 6, "this automaton")
        if refused and self.state_count <= 6:
            refused.append(0)
        return whole(self, state, left)

    used = automaton(OBJECTS, 1_000_000)
    processor = GrammarLogitsProcessor(used, max_new_tokens=BUDGET)
    ids = torch.tensor([PROMPT, [0, 7, 3, 20]])
    given: dict[str, Any] = {
        "attention_mask": torch.ones_like(ids), "max_new_tokens": BUDGET, "do_sample": False,
    }  # fmt: skip
    plain = model().generate(
        ids, logits_processor=[GrammarLogitsProcessor(automaton(OBJECTS, 10**6), max_new_tokens=BUDGET)],
        **given,
    )  # fmt: skip
    monkeypatch.setattr(TokenAutomaton, "_mask", mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = model().generate(ids, logits_processor=[processor], **given)
    assert refused
    assert out.tolist() == plain.tolist()
