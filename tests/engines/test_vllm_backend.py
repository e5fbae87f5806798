"""The backend in vLLM's own manager of structured outputs, against texts read from the start."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import engine_toys as toys
import numpy as np
import pytest
from engine_toys import EOS, REQUESTS, SIZE, STOP, WORDS, Reference, tokens_for
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("vllm.config", reason="make test-engines installs vLLM")

import torch
from vllm.config import StructuredOutputsConfig, VllmConfig
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_types import StructuredOutputOptions
from vllm.v1.structured_output.request import StructuredOutputRequest, get_structured_output_key

from constrain.engines import vllm_plugin
from constrain.engines.vllm_backend import GrammaBackend, GrammaGrammar
from grammars import GrammarError

vllm_plugin.register()

BACKEND = GrammaBackend(cast(Any, None), toys.tokenizer(), SIZE)
MODEL = SimpleNamespace(is_diffusion=False, skip_tokenizer_init=True, get_vocab_size=lambda: SIZE)


def asked_of(name: str) -> StructuredOutputsParams:
    """A request as vLLM holds it, whose structural tags are texts."""
    members = dict(REQUESTS[name])
    if "structural_tag" in members:
        import json

        members["structural_tag"] = json.dumps(members["structural_tag"])
    return StructuredOutputsParams(**members)


def compiled(name: str, ends: tuple[int, ...] = (EOS,)) -> GrammaGrammar:
    return BACKEND.compile_request(vllm_plugin.members_of(asked_of(name)), ends)


def mask_of(grammar: GrammaGrammar) -> list[int]:
    table = torch.full((3, WORDS), 5, dtype=torch.int32)
    grammar.fill_bitmask(table, 1)
    assert table[0].tolist() == table[2].tolist() == [5] * WORDS
    return table[1].tolist()


# -- one grammar -------------------------------------------------------------------------------------


def replay(data: st.DataObject, kind: type[GrammaGrammar]) -> None:
    name = data.draw(st.sampled_from(sorted(REQUESTS)))
    ends = data.draw(st.sampled_from([(EOS,), (EOS, STOP)]))
    grammar = kind(compiled(name, ends)._walk)
    reference = Reference(REQUESTS[name], ends)
    for _ in range(data.draw(st.integers(1, 10))):
        what = data.draw(st.sampled_from(["accept", "accept", "validate", "back", "reset"]))
        tokens = tokens_for(data.draw, reference)
        if what == "accept":
            count = reference.accept(tokens)
            expected = count == len(tokens) or reference.finished
            assert grammar.accept_tokens("r", tokens) == expected
        elif what == "validate":
            assert grammar.validate_tokens(tokens) == tokens[: reference.allowed(tokens)]
        elif what == "back":
            count = data.draw(st.integers(0, len(reference.tokens)))
            grammar.rollback(count)
            del reference.tokens[len(reference.tokens) - count :]
        else:
            grammar.reset()
            reference.tokens.clear()
        assert grammar.num_processed_tokens == len(reference.tokens)
        assert grammar.is_terminated() == reference.finished
        assert mask_of(grammar) == reference.mask().tolist()


@given(st.data())
@settings(max_examples=150)
def test_a_grammar_follows_its_tokens(data: st.DataObject) -> None:
    replay(data, GrammaGrammar)


class ForgetsTheLastRollback(GrammaGrammar):
    def rollback(self, num_tokens: int) -> None:
        super().rollback(num_tokens - 1 if num_tokens > 1 else num_tokens)


class RefusesBehindTheEnd(GrammaGrammar):
    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        return not (self.is_terminated() and tokens) and super().accept_tokens(request_id, tokens)


class ValidatesOneTooMany(GrammaGrammar):
    def validate_tokens(self, tokens: list[int]) -> list[int]:
        return tokens[: len(super().validate_tokens(tokens)) + 1]


@pytest.mark.parametrize("kind", [ForgetsTheLastRollback, RefusesBehindTheEnd, ValidatesOneTooMany])
def test_the_replay_sees_planted_errors(kind: type[GrammaGrammar]) -> None:
    @given(st.data())
    @settings(max_examples=300, phases=[Phase.generate], database=None)
    def look(data: st.DataObject) -> None:
        replay(data, kind)

    with pytest.raises(AssertionError):
        look()


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "compact"])
def test_kinds_and_texts_as_vllm_hands_them_on(name: str) -> None:
    """VLLM's own door, without the plugin's: a kind and a text."""
    kind, spec = get_structured_output_key(asked_of(name))
    grammar = BACKEND.compile_grammar(kind, spec, {EOS, STOP})
    assert mask_of(grammar) == Reference(REQUESTS[name], (EOS, STOP)).mask().tolist()
    assert set(StructuredOutputOptions) == {
        get_structured_output_key(asked_of(n))[0] for n in REQUESTS
    }


def test_what_is_no_grammar_is_an_error() -> None:
    with pytest.raises(GrammarError, match="at /regex: line 1, column 1"):
        BACKEND.compile_grammar(StructuredOutputOptions.REGEX, "(", {EOS})


def test_the_table_of_masks_allows_everything_at_first() -> None:
    table = BACKEND.allocate_token_bitmask(4)
    assert table.shape == (4, WORDS)
    assert table.dtype == torch.int32
    assert (table == -1).all()


@pytest.mark.model
def test_a_model_s_tokenizer_as_vllm_wraps_it() -> None:
    """SmolLM2's, with documents whose every token has to be allowed, and what is behind them refused."""
    from vllm.tokenizers.hf import get_cached_tokenizer

    from constrain.models.loading import load_tokenizer

    plain = load_tokenizer("smollm2")
    backend = GrammaBackend(cast(Any, None), get_cached_tokenizer(plain), len(plain))
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "number"}}}
    ends = {plain.eos_token_id}
    for text in ('{"name": "Zoë 北京", "n": 1.5}', '{ "n": -3e5 }', "{}"):
        grammar = backend.compile_request({"json": schema}, ends)
        table = backend.allocate_token_bitmask(1)
        for token in [*plain.encode(text, add_special_tokens=False), plain.eos_token_id]:
            grammar.fill_bitmask(table, 0)
            assert int(table[0, token // 32]) >> (token % 32) & 1
            assert grammar.accept_tokens("r", [token])
        assert grammar.is_terminated()
    grammar = backend.compile_request({"json": schema}, ends)
    behind = grammar.validate_tokens(plain.encode("{} {", add_special_tokens=False))
    assert plain.decode(behind).strip() == "{}"
    assert grammar.validate_tokens(plain.encode("[]", add_special_tokens=False)) == []


# -- vLLM's manager ----------------------------------------------------------------------------------


def manager(speculative: int = 0, sequences: int = 8) -> StructuredOutputManager:
    """VLLM's manager; its configuration has what it asks for."""
    config = SimpleNamespace(
        model_config=MODEL,
        scheduler_config=SimpleNamespace(max_num_seqs=sequences),
        parallel_config=SimpleNamespace(distributed_executor_backend="external_launcher"),
        structured_outputs_config=StructuredOutputsConfig(backend=cast(Any, "gramma")),
        num_speculative_tokens=speculative,
    )
    made = StructuredOutputManager(cast(Any, config))
    made.tokenizer = toys.tokenizer()
    return made


class Asking(SimpleNamespace):
    """A request as the manager sees it: what was asked for, and how it goes on."""

    use_structured_output = True

    @classmethod
    def of(cls, owner: StructuredOutputManager, name: str, number: int) -> Asking:
        params = SamplingParams(structured_outputs=asked_of(name), max_tokens=50)
        config = owner.vllm_config.structured_outputs_config
        params._validate_structured_outputs(cast(Any, MODEL), config, toys.tokenizer())
        params._all_stop_token_ids = {EOS}
        made = cls(
            request_id=f"r{number}",
            sampling_params=params,
            structured_output_request=StructuredOutputRequest.from_sampling_params(params),
            reference=Reference(REQUESTS[name]),
        )
        owner.grammar_init(cast(Any, made))
        return made


def step(data: st.DataObject, owner: StructuredOutputManager, requests: list[Asking]) -> None:
    """A step of the scheduler: drafts, masks for all, tokens that were sampled."""
    drafts: dict[str, list[int]] = {}
    for request in requests:
        draft = tokens_for(data.draw, request.reference, owner.vllm_config.num_speculative_tokens)
        drafts[request.request_id] = owner.validate_tokens(cast(Any, request), draft)
        assert drafts[request.request_id] == draft[: request.reference.allowed(draft)]
    table = owner.grammar_bitmask(
        cast(Any, {r.request_id: r for r in requests}), [r.request_id for r in requests], drafts
    )
    if not requests:
        assert table is None
        return
    assert table is not None
    stride = 1 + owner.vllm_config.num_speculative_tokens
    for number, request in enumerate(requests):
        reference, draft = request.reference, drafts[request.request_id]
        for i in range(len(draft) + 1):
            state = reference.state(draft[:i])
            row = table[number * stride + i]
            if state == reference.automaton.FINISHED:
                assert (row == -1).all()  # vLLM's own: nothing is masked behind the end
            else:
                assert row.tolist() == reference.automaton.mask(state).tolist()
        kept = draft[: data.draw(st.integers(0, len(draft)))]
        state = reference.state(kept)
        allowed = [int(t) for t in reference.automaton.allowed_tokens(state)]
        sampled = [*kept, data.draw(st.sampled_from(allowed))]
        assert owner.accept_tokens(cast(Any, request), sampled)
        reference.accept(sampled)


@pytest.mark.parametrize("speculative", [0, 3])
def test_masks_that_the_manager_makes(speculative: int) -> None:
    owner = manager(speculative)

    @given(st.data())
    @settings(max_examples=60)
    def run(data: st.DataObject) -> None:
        requests: list[Asking] = []
        for number in range(data.draw(st.integers(1, 8))):
            if len(requests) < 4 and data.draw(st.booleans()):
                name = data.draw(st.sampled_from(sorted(REQUESTS)))
                requests.append(Asking.of(owner, name, number))
            requests = [r for r in requests if not r.reference.finished]
            step(data, owner, requests)

    run()
    assert owner.backend_name == "gramma"
    assert type(owner.backend) is GrammaBackend
    owner.clear_backend()


def test_a_token_that_is_not_allowed_ends_the_request() -> None:
    owner = manager()
    request = Asking.of(owner, "choice", 0)
    assert not owner.accept_tokens(
        cast(Any, request), [toys.tokenizer().convert_tokens_to_ids("{")]
    )


def test_a_grammar_that_cannot_be_made_fails_its_request() -> None:
    owner = manager()
    request = Asking.of(owner, "choice", 0)
    request.sampling_params.structured_outputs.choice = ["A"]  # no token has a capital letter
    owner.grammar_init(cast(Any, request))
    failed = request.structured_output_request._grammar
    assert isinstance(failed, Future)
    assert isinstance(failed.exception(), GrammarError)


# -- vLLM's own doors --------------------------------------------------------------------------------


def validated(params: SamplingParams, backend: str = "gramma", **more: Any) -> SamplingParams:
    config = StructuredOutputsConfig(backend=cast(Any, backend))
    model = cast(Any, SimpleNamespace(**{**vars(MODEL), **more}))
    params._validate_structured_outputs(model, config, toys.tokenizer())
    return params


def test_a_request_is_validated_for_the_backend() -> None:
    params = validated(SamplingParams(structured_outputs=asked_of("json")))
    assert params.structured_outputs is not None
    assert params.structured_outputs._backend == "gramma"
    assert validated(copy.deepcopy(params)).structured_outputs == params.structured_outputs
    assert validated(SamplingParams()).structured_outputs is None


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (StructuredOutputsParams(regex="("), "at /regex: line 1, column 1"),
        (StructuredOutputsParams(choice=[]), "at /choice: needs a list of texts, at least one"),
        (StructuredOutputsParams(json='{"type": 3}'), "at /json/type:"),
        (StructuredOutputsParams(json_object=False), "exactly one of"),
        (StructuredOutputsParams(json={}, whitespace_pattern=" "), "at /whitespace_pattern:"),
        (StructuredOutputsParams(regex="a", disable_any_whitespace=True), "json_object only"),
    ],
    ids=["regex", "choice", "schema", "object", "blanks", "compact regex"],
)
def test_requests_that_are_refused(asked: StructuredOutputsParams, part: str) -> None:
    with pytest.raises(VLLMValidationError) as refused:
        validated(SamplingParams(structured_outputs=asked))
    assert part in str(refused.value)


def test_requests_that_the_engine_cannot_take() -> None:
    with pytest.raises(VLLMValidationError, match="whole canvas"):
        validated(SamplingParams(structured_outputs=asked_of("json")), is_diffusion=True)
    params = SamplingParams(structured_outputs=asked_of("json"))
    cast(Any, params.structured_outputs)._backend = "xgrammar"
    with pytest.raises(VLLMValidationError, match=r"the engine's backend is 'gramma'.*'xgrammar'"):
        validated(params)
    params = SamplingParams(structured_outputs=asked_of("json"))
    config = StructuredOutputsConfig(backend=cast(Any, "gramma"))
    with pytest.raises(VLLMValidationError, match="need a tokenizer"):
        params._validate_structured_outputs(cast(Any, MODEL), config, None)


def test_other_backends_are_as_they_were() -> None:
    params = validated(SamplingParams(structured_outputs=asked_of("regex")), "xgrammar")
    assert cast(Any, params.structured_outputs)._backend == "xgrammar"
    auto = validated(SamplingParams(structured_outputs=asked_of("regex")), "auto")
    assert cast(Any, auto.structured_outputs)._backend in ("xgrammar", "guidance", "outlines")
    with pytest.raises(ValueError, match="'gramma'"):
        StructuredOutputsConfig(backend=cast(Any, "grammar"))


def test_the_name_is_taken_wherever_it_is_given(cpu: None) -> None:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    given = parser.parse_args(["--structured-outputs-config.backend", "gramma"])
    assert given.structured_outputs_config.backend == "gramma"
    for config in (given.structured_outputs_config, {"backend": "gramma"}):
        whole = VllmConfig(structured_outputs_config=config)
        for one in (whole, pickle.loads(pickle.dumps(whole)), copy.deepcopy(whole)):
            assert one.structured_outputs_config.backend == "gramma"


def test_registering_twice_changes_nothing() -> None:
    before = StructuredOutputManager.grammar_init
    vllm_plugin.register()
    vllm_plugin.load()
    assert StructuredOutputManager.grammar_init is before


def test_other_insides_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def grammar_init(self: Any, request: Any, backend: Any) -> None:
        """As another version might have it."""

    monkeypatch.setattr(StructuredOutputManager, "grammar_init", grammar_init)
    monkeypatch.setattr(vllm_plugin, "NAME", "another")
    with pytest.raises(vllm_plugin.EngineMismatch, match=r"vLLM 0\.33.*how backends are made"):
        vllm_plugin.register()
    vllm_plugin.load()
    assert StructuredOutputManager.grammar_init is grammar_init
    assert np.array_equal(mask_of(compiled("json")), Reference(REQUESTS["json"]).mask())


def test_the_plugin_is_found_by_vllm() -> None:
    from vllm.plugins import load_plugins_by_group

    found = load_plugins_by_group("vllm.general_plugins")
    assert found["gramma"] is vllm_plugin.load
