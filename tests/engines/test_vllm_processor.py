"""The processor in vLLM's own batch, and in the second runner's slots, against texts read from the start."""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace
from typing import Any, cast

import engine_toys as toys
import numpy as np
import pytest
from engine_toys import EOS, REQUESTS, SIZE, STOP, Reference, tokens_for
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("vllm.config", reason="make test-engines installs vLLM")

import torch
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessors
from vllm.v1.sample.logits_processor import LogitsProcessor as BatchProcessor
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    LogitsProcRequestState,
)
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as SlotProcessor
from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

from constrain.engines.automata import Automata
from constrain.engines.vllm_processor import GrammaLogitsProcessor

AUTOMATA = Automata(toys.tokenizer(), SIZE)
ROWS, LENGTH = 6, 64
CONFIG = SimpleNamespace(model_config=SimpleNamespace(get_vocab_size=lambda: SIZE))


class Processor(GrammaLogitsProcessor):
    """The processor with the small tokenizer."""

    _automata = cast(Any, AUTOMATA)


def params_of(name: str | None, ends: tuple[int, ...] = (EOS,), **more: Any) -> SamplingParams:
    extra = None if name is None else {"gramma": REQUESTS[name]}
    params = SamplingParams(extra_args=extra, **{"max_tokens": 40, **more})
    params._all_stop_token_ids = set(ends)
    Processor.validate_params(params)
    return params


class Sequence:
    """A request with its reference."""

    def __init__(self, data: st.DataObject, number: int) -> None:
        self.name = data.draw(st.sampled_from([None, *sorted(REQUESTS)]))
        self.ends = data.draw(st.sampled_from([(EOS,), (EOS, STOP)]))
        self.budget = data.draw(st.sampled_from([2, 12, 40]))
        self.params = params_of(self.name, self.ends, max_tokens=self.budget)
        self.id = f"r{number}"
        self.prompt = [5, 6, 7][: data.draw(st.integers(1, 3))]
        self.reference = Reference(REQUESTS[self.name or "json"], self.ends)
        automaton = self.reference.automaton
        self.fits = automaton.min_tokens(automaton.start)[0] < self.budget
        if self.name is not None and data.draw(st.booleans()):  # one that goes on after a break
            self.write(data)

    def allowed(self, more: list[int] | None = None) -> np.ndarray[Any, Any]:
        """bool[SIZE]: what may come next."""
        if self.name is None:
            return np.ones(SIZE, bool)
        state = self.reference.state(more or [])
        left = self.budget - len(self.reference.tokens) - len(more or []) if self.fits else None
        row = self.reference.automaton.mask(state, left)
        if not row.any():
            row = self.reference.automaton.mask(state)
        return np.unpackbits(row.view(np.uint8), bitorder="little")[:SIZE].astype(bool)

    def write(self, data: st.DataObject) -> None:
        """Samples a token."""
        choices = np.flatnonzero(self.allowed()).tolist()
        self.reference.tokens.append(data.draw(st.sampled_from(choices)))

    @property
    def done(self) -> bool:
        ended = self.name is not None and self.reference.finished
        return ended or len(self.reference.tokens) >= self.budget


def check_rows(logits: torch.Tensor, expected: list[np.ndarray[Any, Any]]) -> None:
    for row, allowed in zip(logits, expected, strict=True):
        assert torch.isfinite(row).numpy().tolist() == allowed.tolist()
        assert (row[torch.from_numpy(allowed)] == 1).all()


# -- the first runner --------------------------------------------------------------------------------


def replay_batch(data: st.DataObject, kind: type[Processor]) -> None:
    processor = kind(CONFIG, torch.device("cpu"), False)
    batch = InputBatch(
        max_num_reqs=ROWS,
        max_model_len=LENGTH,
        max_num_batched_tokens=LENGTH,
        device=torch.device("cpu"),
        vocab_size=SIZE,
        block_sizes=[16],
        max_num_blocks_per_req=[4],
        logitsprocs=LogitsProcessors([processor]),
        logitsprocs_need_output_token_ids=True,
    )
    running: dict[str, Sequence] = {}
    for number in range(data.draw(st.integers(1, 8))):
        for name in [n for n, s in running.items() if s.done or data.draw(st.integers(0, 4)) == 0]:
            batch.remove_request(name)
            del running[name]
        for i in range(data.draw(st.integers(0, ROWS - len(running)))):
            made = Sequence(data, 10 * number + i)
            running[made.id] = made
            batch.add_request(
                CachedRequestState(
                    req_id=made.id,
                    prompt_token_ids=made.prompt,
                    mm_features=[],
                    sampling_params=made.params,
                    generator=None,
                    block_ids=([0],),
                    num_computed_tokens=0,
                    output_token_ids=made.reference.tokens,
                )
            )
        batch.condense()
        if len(running) > 1 and data.draw(st.booleans()):
            one, other = data.draw(
                st.lists(st.integers(0, len(running) - 1), min_size=2, max_size=2, unique=True)
            )
            batch.swap_states(one, other)
        batch.refresh_metadata()
        if not running:
            continue
        for sequence in running.values():  # tokens that are taken back after all
            if sequence.reference.tokens and data.draw(st.integers(0, 5)) == 0:
                del sequence.reference.tokens[-data.draw(st.integers(1, 2)) :]
        dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
        logits = processor.apply(torch.ones(len(running), SIZE, dtype=dtype))
        check_rows(logits, [running[name].allowed() for name in batch.req_ids])
        for sequence in running.values():
            sequence.write(data)


@given(st.data())
@settings(max_examples=100)
def test_rows_of_a_batch_that_changes(data: st.DataObject) -> None:
    replay_batch(data, Processor)


class IgnoresMoves(Processor):
    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is not None:
            batch_update = dataclasses.replace(batch_update, moved=[])
        super().update_state(batch_update)


class KeepsTheRemoved(Processor):
    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is not None:
            before = dict(self._texts)
            super().update_state(batch_update)
            added = {index for index, *_ in batch_update.added}
            for index in added & before.keys():
                self._texts.setdefault(index, before[index])


class LooksAtLengthsAlone(Processor):
    def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        for text in self._texts.values():
            if len(text.written) < len(text.seen):
                cast(Any, text).written = text.seen
        return super().apply(logits, ctx)


@pytest.mark.parametrize("kind", [IgnoresMoves, KeepsTheRemoved, LooksAtLengthsAlone])
def test_the_replay_of_batches_sees_planted_errors(kind: type[Processor]) -> None:
    @given(st.data())
    @settings(max_examples=300, phases=[Phase.generate], database=None)
    def look(data: st.DataObject) -> None:
        replay_batch(data, kind)

    with pytest.raises(AssertionError):
        look()


# -- the second runner -------------------------------------------------------------------------------


def replay_slots(data: st.DataObject, kind: type[Processor]) -> None:
    stored = LogitsProcRequestState(
        device=torch.device("cpu"),
        max_num_reqs=ROWS,
        vocab_size=SIZE,
        all_token_ids=cast(Any, SimpleNamespace(gpu=torch.zeros(ROWS, LENGTH, dtype=torch.int32))),
        prompt_len=cast(Any, SimpleNamespace(np=np.zeros(ROWS, np.int32))),
        prefill_len=cast(Any, None),
        total_len=cast(Any, None),
    )
    processor = kind(CONFIG, stored)
    slots: dict[int, Sequence] = {}
    for number in range(data.draw(st.integers(1, 8))):
        slots = {
            slot: s for slot, s in slots.items() if not s.done and data.draw(st.integers(0, 4))
        }
        for slot in sorted(set(range(ROWS)) - slots.keys()):
            if data.draw(st.integers(0, 2)) == 0:
                made = slots[slot] = Sequence(data, 10 * number + slot)
                cast(Any, stored.prompt_len).np[slot] = len(made.prompt)
                assert processor.add_request(slot, made.params) == (made.name is not None)
        rows: list[tuple[int, int, int, int]] = []
        expected: list[np.ndarray[Any, Any] | None] = []
        drafts: dict[int, list[int]] = {}
        for slot in data.draw(st.permutations(sorted(slots))):
            sequence = slots[slot]
            tokens = [*sequence.prompt, *sequence.reference.tokens]
            table = cast(Any, stored.all_token_ids).gpu
            table[slot] = 9  # what was drafted and refused may stand behind
            table[slot, : len(tokens)] = torch.tensor(tokens)
            draft = drafts[slot] = tokens_for(data.draw, sequence.reference, 3)
            room = sequence.budget - len(sequence.reference.tokens) - 1
            del draft[max(0, room) :]
            rows.append((slot, 0, len(tokens) - 1, tokens[-1]))
            expected.append(sequence.allowed())
            good = 0 if sequence.name is None else sequence.reference.allowed(draft)
            for i, token in enumerate(draft, 1):
                rows.append((slot, i, len(tokens) - 1 + i, token))
                # rows behind a draft that is refused are of no effect
                free = sequence.name is None
                expected.append(sequence.allowed(draft[:i]) if free or i <= good else None)
        if not rows:
            continue
        logits = processor.apply(torch.ones(len(rows), SIZE), context(rows))
        for row, allowed in zip(logits, expected, strict=True):
            if allowed is not None:
                check_rows(row[None], [allowed])
            assert torch.isfinite(row).any()
        for slot, sequence in slots.items():
            for token in drafts[slot]:
                if not (data.draw(st.booleans()) and 0 <= token < SIZE):
                    break
                if not sequence.allowed()[token]:
                    break
                sequence.reference.tokens.append(token)
            if not sequence.done:
                sequence.write(data)


def context(rows: list[tuple[int, int, int, int]]) -> LogitsContext:
    slot, local, pos, token = (
        torch.tensor(part, dtype=torch.int32) for part in zip(*rows, strict=True)
    )
    batch = slot[local == 0]
    return LogitsContext(
        expanded_idx_mapping=slot,
        idx_mapping=batch,
        idx_mapping_np=batch.numpy(),
        expanded_local_pos=local,
        input_ids=token,
        pos=pos.to(torch.int64),
        seq_lens_upper_bound_np=(pos[local == 0] + 1).numpy(),
    )


@given(st.data())
@settings(max_examples=100)
def test_rows_of_slots_and_drafts(data: st.DataObject) -> None:
    replay_slots(data, Processor)


class KeepsAnEarlierRequest(Processor):
    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        before = self._texts.get(req_idx)
        added = super().add_request(req_idx, sampling_params)
        if before is not None and not added:
            self._texts[req_idx] = before
        return added


class TakesDraftsForWritten(Processor):
    def _read(self, lengths: Any) -> None:
        if not any(text.seen for text in self._texts.values()):
            super()._read(lengths)


@pytest.mark.parametrize("kind", [KeepsAnEarlierRequest, TakesDraftsForWritten])
def test_the_replay_of_slots_sees_planted_errors(kind: type[Processor]) -> None:
    @given(st.data())
    @settings(max_examples=300, phases=[Phase.generate], database=None)
    def look(data: st.DataObject) -> None:
        replay_slots(data, kind)

    with pytest.raises(AssertionError):
        look()


def test_a_prompt_that_is_read_in_parts_has_the_mask_of_the_start() -> None:
    stored = SimpleNamespace(
        all_token_ids=SimpleNamespace(gpu=torch.zeros(1, LENGTH, dtype=torch.int32)),
        prompt_len=SimpleNamespace(np=np.array([20])),
    )
    processor = Processor(CONFIG, stored)
    assert processor.add_request(0, params_of("json"))
    logits = processor.apply(torch.ones(1, SIZE), context([(0, 0, 9, 0)]))
    left = Reference(REQUESTS["json"]).mask(40)
    assert logits.isfinite().numpy()[0].tolist() == np.unpackbits(
        left.view(np.uint8), bitorder="little"
    )[:SIZE].astype(bool).tolist()  # fmt: skip


# -- requests ----------------------------------------------------------------------------------------


def test_the_class_is_a_processor_of_both_runners() -> None:
    assert issubclass(GrammaLogitsProcessor, BatchProcessor)
    assert issubclass(GrammaLogitsProcessor, SlotProcessor)
    assert not Processor(CONFIG, torch.device("cpu"), False).is_argmax_invariant()


def test_vllm_finds_the_class_by_its_name() -> None:
    from vllm.v1.sample import logits_processor as first
    from vllm.v1.worker.gpu.sample.logits_processor import loader as second

    name = "constrain.engines.vllm_processor:GrammaLogitsProcessor"
    assert first._load_logitsprocs_by_fqcns([name]) == [GrammaLogitsProcessor]
    assert second._load_v2_logitsprocs_by_fqcns([name]) == [GrammaLogitsProcessor]
    check = second.build_custom_logits_processors_params_validator([name])
    wrong = SamplingParams(extra_args={"gramma": {"regex": "("}})
    for validate in (check, lambda p: first.validate_logits_processors_parameters([name], p)):
        validate(SamplingParams())
        with pytest.raises(VLLMValidationError, match="at /regex: line 1, column 1"):
            validate(wrong)


@pytest.mark.parametrize(
    ("extra", "more", "part"),
    [
        ({"regex": "("}, {}, "extra_args['gramma']: at /regex: line 1, column 1"),
        ({"regexp": "a"}, {}, "did you mean 'regex'"),
        ("a", {}, "what is asked for is not JSON"),
        (3, {}, "asked for by an object"),
        ({"regex": "a", "max_tokens": 0}, {}, "at /max_tokens: must be a positive integer, not 0"),
        ({"regex": "a", "max_tokens": 41}, {}, "at /max_tokens: 41 is more than"),
        ({"regex": "a"}, {"min_tokens": 2}, "min_tokens cannot be combined"),
        ({"regex": "a"}, {"bad_words": ["b"]}, "bad_words cannot be combined"),
        ({"regex": "a"}, {"allowed_token_ids": [5]}, "allowed_token_ids cannot be combined"),
        ({"regex": "a"}, {"structured_outputs": StructuredOutputsParams(regex="a")}, "structured_"),
    ],
)
def test_requests_that_are_refused(extra: Any, more: dict[str, Any], part: str) -> None:
    params = SamplingParams(extra_args={"gramma": extra}, max_tokens=40, **more)
    with pytest.raises(VLLMValidationError) as refused:
        GrammaLogitsProcessor.validate_params(params)
    assert part in str(refused.value)


def test_requests_without_a_grammar_are_left_alone() -> None:
    for extra in (None, {}, {"other": 1}, {"gramma": None}):
        params = SamplingParams(extra_args=extra, min_tokens=2)
        GrammaLogitsProcessor.validate_params(params)
        assert Processor(CONFIG, SimpleNamespace()).add_request(0, params) is False
    logits = torch.ones(2, SIZE)
    assert Processor(CONFIG, torch.device("cpu")).apply(logits) is logits
    assert (logits == 1).all()


def one_row(params: SamplingParams, written: list[int]) -> list[int]:
    processor = Processor(CONFIG, torch.device("cpu"))
    processor.update_state(BatchUpdate(1, [], [(0, params, [5], written)], []))
    return np.flatnonzero(processor.apply(torch.ones(1, SIZE))[0].isfinite()).tolist()


def test_what_the_vocabulary_cannot_spell_is_ended_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    params = SamplingParams(extra_args={"gramma": {"regex": "A"}})
    params._all_stop_token_ids = {EOS, STOP}
    GrammaLogitsProcessor.validate_params(params)
    with caplog.at_level(logging.ERROR, "vllm.gramma"):
        logging.getLogger("vllm").propagate = True
        assert one_row(params, []) == [EOS, STOP]
    assert "No text of a grammar can be written" in caplog.text


def test_a_text_that_is_not_of_its_grammar_is_ended_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "vllm.gramma"):
        logging.getLogger("vllm").propagate = True
        assert one_row(params_of("choice"), [BRACE]) == [EOS]
    assert f"Token {BRACE} was written where its grammar does not allow it" in caplog.text


BRACE = int(toys.tokenizer().convert_tokens_to_ids("{"))


def test_a_budget_that_nothing_fits_is_told_and_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vllm.gramma"):
        logging.getLogger("vllm").propagate = True
        params = params_of("json", max_tokens=1)
        assert one_row(params, []) == Reference(REQUESTS["json"]).choices()
    assert "No text of a grammar fits 1 tokens" in caplog.text


def test_the_budget_of_the_grammar_is_kept() -> None:
    extra = {"gramma": {**REQUESTS["regex"], "max_tokens": 2}}
    params = SamplingParams(extra_args=extra, max_tokens=40)
    params._all_stop_token_ids = {EOS}
    ab = int(toys.tokenizer().convert_tokens_to_ids("ab"))
    assert one_row(params, [ab]) == [EOS]
    assert len(one_row(params_of("regex"), [ab])) > 1
