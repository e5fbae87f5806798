"""Keys and values dropped behind a prompt: choices against brute force, logits against masked attention."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
import transformers as tf
from pydantic import BaseModel
from test_extraction import CHAT, EOS, TOKENIZER
from test_shortening import CONTEXT, KINDS, SIZES, TEXT, attentions, model, prompt, slowly_pooled

import constrain
import samplers
from constrain import AskAgain, BudgetError, CannotPrune, Extraction, SpecKV, extract
from constrain.huggingface.automata import vocabulary_for
from constrain.huggingface.processor import GrammarLogitsProcessor
from constrain.huggingface.shortening import KeysRead, LongPrompt
from constrain.huggingface.shortening.filters import SINKS
from constrain.huggingface.shortening.pruning import Pruned, pruned
from constrain.huggingface.shortening.speckv import written_by
from samplers.backend import SpeculativeBackend
from samplers.speculative.cache import TreeCache
from samplers.speculative.scorer import Request, TreeScorer, UnsupportedModel
from samplers.speculative.tree import ROOT, Tree

CLOSE = 1e-5
TOKENS = len(CHAT(TEXT.strip())["input_ids"])


@cache
def calm(kind: str = "llama") -> Any:
    """A model whose logits are known to :data:`CLOSE`: larger weights make more of rounding."""
    torch.manual_seed(0)
    kinds: dict[str, Any] = {
        "llama": (tf.LlamaForCausalLM, tf.LlamaConfig, {}),
        "normed": (tf.Qwen3ForCausalLM, tf.Qwen3Config, {"head_dim": 8}),
    }
    make, config, more = kinds[kind]
    return make(config(**SIZES | {"initializer_range": 0.15} | more)).eval()


class Guest(BaseModel):
    paid: bool
    name: str


@dataclass(frozen=True)
class Remembered:
    """Asks another filter, and remembers what it chose; or draws at random if there is none."""

    keep: int
    inner: Any = None
    kept: list[list[torch.Tensor]] = field(default_factory=list, compare=False)
    ids: list[list[int]] = field(default_factory=list, compare=False)

    def read(self, made: Any, asked: LongPrompt) -> KeysRead:
        if self.inner is None:
            found = self._drawn(made, asked)
        else:
            found = self.inner.read(made, asked)
        self.kept.append(list(found.kept))
        self.ids.append(list(asked.ids))
        return found

    def _drawn(self, made: Any, asked: LongPrompt) -> KeysRead:
        with torch.no_grad():
            cache = made(torch.tensor([asked.ids]), use_cache=True).past_key_values
        layers = [(x.keys, x.values) for x in cache.layers]
        drawn = torch.Generator().manual_seed(len(asked.ids))
        count = min(self.keep, len(asked.document))
        kept = [
            torch.stack(
                [
                    asked.document.start
                    + torch.randperm(len(asked.document), generator=drawn)[:count].sort().values
                    for _ in range(keys.shape[1])
                ]
            )
            for keys, _ in layers
        ]
        return KeysRead(layers, kept)


def masked_logits(
    made: Any, tokens: Sequence[int], read: int, free: range, kept: Sequence[torch.Tensor]
) -> torch.Tensor:
    """The oracle: attention over all tokens, from token ``read`` on without the keys that were dropped.

    Args:
        made: a model; each of its layers is called with a mask of its own, a row for each head.
        tokens: of the prompt and of what stands behind it.
        read: how many were read while all keys were there.
        free: positions that may be dropped.
        kept: of each layer, those that were not, a row for each group of heads.

    Returns:
        Logits behind each token from ``read`` on.
    """
    count, heads = len(tokens), made.config.num_attention_heads
    least = torch.finfo(torch.float32).min
    at = torch.arange(count)
    is_free = (at >= free.start) & (at < free.stop)
    masks = []
    for layer in kept:
        each = heads // len(layer)
        hidden = torch.stack([is_free & ~torch.isin(at, layer[h // each]) for h in range(heads)])
        late = (at >= read)[None, :, None]
        unseen = (at > at[:, None]) | (late & hidden[:, None])
        masks.append(torch.zeros(1, heads, count, count).masked_fill(unseen, least))

    def own_mask(module: Any, args: Any, options: dict[str, Any]) -> Any:
        return args, options | {"attention_mask": masks[module.layer_idx]}

    hooks = [
        layer.self_attn.register_forward_pre_hook(own_mask, with_kwargs=True)
        for layer in made.model.layers
    ]
    before = made.config._attn_implementation
    made.config._attn_implementation = "eager"
    try:
        with torch.no_grad():
            out = made(torch.tensor([list(tokens)]), use_cache=False)
        logits: torch.Tensor = out.logits[0, read:]
        return logits
    finally:
        made.config._attn_implementation = before
        for hook in hooks:
            hook.remove()


def left(made: Any, given: Any, seed: int = 0) -> tuple[list[int], range, Pruned]:
    """A prompt whose document is in the middle, and what a filter leaves of it."""
    text = "".join(chr(97 + (i * i + seed) % 26) for i in range(60))
    ids = TOKENIZER(f"Say:\n{text}\nJSON:")["input_ids"]
    found, told = pruned(made, ids, text, vocabulary_for(TOKENIZER, made), given)
    assert found is not None
    assert told.lossy
    begin = len(TOKENIZER("Say:\n")["input_ids"])
    return ids, range(begin, begin + 60), found


BEHIND = [5, 9, 200, 31, 7, 7, 90]


# --- logits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "normed"])
@pytest.mark.parametrize("given", [None, SpecKV(12, lookahead=4, window=3)])
def test_a_shortened_cache_is_attention_without_the_dropped_keys(kind: str, given: Any) -> None:
    made, asked = calm(kind), Remembered(12, given)
    ids, free, found = left(made, asked)
    assert (found.kept, found.dropped) == (len(ids) - 1 - 60 + 12, 48)
    expected = masked_logits(made, ids + BEHIND, len(ids) - 1, free, asked.kept[0])
    cache, logits = found.cache(), []
    with torch.no_grad():
        for token in [ids[-1], *BEHIND]:
            logits.append(made(torch.tensor([[token]]), past_key_values=cache).logits[0, -1])
    assert torch.allclose(torch.stack(logits), expected, atol=CLOSE)
    with torch.no_grad():  # all at once, with a mask of transformers
        given_ids = torch.tensor([[ids[-1], *BEHIND]])
        together = made(given_ids, past_key_values=found.cache()).logits[0]
        plain = made(torch.tensor([ids + BEHIND])).logits[0, len(ids) - 1 :]
    assert torch.allclose(together, expected, atol=CLOSE)
    assert not torch.allclose(plain, expected, atol=1e-3), "control: the dropped keys matter"


@pytest.mark.parametrize("rows", [1, 3])
def test_trees_behind_a_shortened_cache(rows: int) -> None:
    made, asked = calm(), Remembered(9)
    ids, free, found = left(made, asked)
    backend = SpeculativeBackend(made, drafters=[])
    with backend.has_read(found):
        scorer = backend.read(ids[:-1], len(ids) + 4, rows)
    if rows > 1:
        scorer.cache.expand(rows)
    assert scorer.length(0) == len(ids) - 1
    assert backend.forwards == 0
    tree = Tree(None)
    for parent, token in ((ROOT, 5), (0, 9), (0, 11), (ROOT, 6)):
        tree.add(parent, token, None, "test", 1.0)
    # rows that went on differently, and one that went back
    ways = [BEHIND[: 2 * row] for row in range(rows)]
    scorer.score([Request([ids[-1], *way], Tree(None)) for way in ways])
    scorer.commit([[] for _ in ways])
    scorer.rollback(0, len(ids) - 1)
    pending = [[ids[-1], 3], *([17] for _ in ways[1:])]
    scores = scorer.score([Request(one, tree) for one in pending])
    for row, way in enumerate(ways):
        path = ids + ([3] if row == 0 else [*way, 17])
        for node, more in ((ROOT, []), (0, [5]), (1, [5, 9]), (2, [5, 11]), (3, [6])):
            wanted = masked_logits(made, path + more, len(ids) - 1, free, asked.kept[0])[-1]
            assert torch.allclose(scores.at(row, node), wanted, atol=CLOSE)


def test_forks_selections_and_joins_of_shortened_caches() -> None:
    made, asked = calm(), Remembered(9)
    ids, free, found = left(made, asked)
    other = some_row(made, [1, 2, 3])
    scorer = TreeScorer(made)
    scorer.fill(found.layers, len(ids) - 1)
    scorer.share(4)
    fork = scorer.fork(100)
    assert fork.cache.nbytes < found.nbytes * 100 / found.kept
    fork.join(other)
    fork.select([1, 0, 0])
    scores = fork.score([Request([4], Tree(None)), *[Request([ids[-1]], Tree(None))] * 2])
    with torch.no_grad():
        plain = made(torch.tensor([[1, 2, 3, 4]])).logits[0, -1]
    wanted = masked_logits(made, ids, len(ids) - 1, free, asked.kept[0])[-1]
    for row, expected in enumerate((plain, wanted, wanted)):
        assert torch.allclose(scores.at(row, ROOT), expected, atol=CLOSE)


def going_on(made: Any, ids: list[int], found: Pruned) -> TreeScorer:
    """A row of what is left of a prompt, with some tokens behind it."""
    scorer = TreeScorer(made)
    scorer.fill(found.layers, len(ids) - 1)
    scorer.score([Request([ids[-1], *BEHIND[:4]], Tree(None))])
    scorer.commit([[]])
    return scorer


def test_rows_go_back_within_a_prefix_behind_what_was_dropped() -> None:
    made, asked = calm(), Remembered(9)
    ids, free, found = left(made, asked)
    scorer = going_on(made, ids, found)
    scorer.share(8)
    scorer.cache.expand(2)
    scorer.rollback(1, len(ids) + 1)
    scores = scorer.score([Request([3], Tree(None))] * 2)
    for row, way in enumerate((BEHIND[:4], BEHIND[:1])):
        wanted = masked_logits(made, [*ids, *way, 3], len(ids) - 1, free, asked.kept[0])[-1]
        assert torch.allclose(scores.at(row, ROOT), wanted, atol=CLOSE)


def some_row(made: Any, ids: list[int]) -> TreeScorer:
    scorer = TreeScorer(made)
    scorer.score([Request(ids, Tree(None))])
    scorer.commit([[]])
    return scorer


def test_what_is_rewound_is_put_back() -> None:
    made, asked = calm(), Remembered(9)
    ids, free, found = left(made, asked)
    scorer = going_on(made, ids, found)
    with scorer.cache.rewound(len(ids)):
        scorer.score([Request([1, 2, 3], Tree(None))])
    scores = scorer.score([Request(BEHIND[4:5], Tree(None))])
    wanted = masked_logits(made, ids + BEHIND[:5], len(ids) - 1, free, asked.kept[0])[-1]
    assert torch.allclose(scores.at(0, ROOT), wanted, atol=CLOSE)


def test_a_row_does_not_go_back_behind_what_was_dropped() -> None:
    ids, _, found = left(model(), Remembered(9))
    cache = TreeCache(4, 1, 8)
    cache.fill(found.layers, len(ids) - 1)
    cache.rollback(0, len(ids) - 1)
    with pytest.raises(ValueError, match="were dropped in part"):
        cache.rollback(0, len(ids) - 2)
    with pytest.raises(ValueError, match="only an empty row"):
        cache.fill(found.layers, len(ids) - 1)


def test_all_kept_is_nothing_lost() -> None:
    """The way by the shortened cache, where the filter keeps everything all the same."""
    made = calm()

    @dataclass(frozen=True)
    class Everything(Remembered):
        def read(self, made: Any, asked: LongPrompt) -> KeysRead:
            object.__setattr__(self, "keep", len(asked.document))
            return self._drawn(made, asked)

    text = "".join(chr(97 + i % 26) for i in range(60))
    ids = TOKENIZER(f"Say:\n{text}\nJSON:")["input_ids"]
    found, told = pruned(made, ids, text, vocabulary_for(TOKENIZER, made), Everything(59))
    assert found is not None
    assert (found.dropped, told.kept, told.lossy, told.spans) == (0, 60, False, ((0, 60),))
    with torch.no_grad():
        plain = made(torch.tensor([ids])).logits[0, -1]
        again = made(torch.tensor([ids[-1:]]), past_key_values=found.cache()).logits[0, -1]
    assert torch.allclose(plain, again, atol=CLOSE)


# --- choices --------------------------------------------------------------------------------------


def slowly_written(draft: Any, ids: Sequence[int], count: int) -> list[int]:
    written: list[int] = []
    while len(written) < count:
        with torch.no_grad():
            token = int(draft(torch.tensor([[*ids, *written]])).logits[0, -1].argmax())
        if token == EOS:
            break
        written.append(token)
    return written


def slow_choice(made: Any, asked: LongPrompt, given: SpecKV) -> list[list[list[int]]]:
    """SpecKV, from all weights of the prompt and of what the draft writes: of each layer and group."""
    ids = list(asked.ids)
    written = slowly_written(given.draft or made, ids, given.lookahead)
    before = len(ids) - given.window
    found = []
    for layer in attentions(made, [*ids, *written]):
        each = len(layer) // made.config.num_key_value_heads
        rows = []
        for group in range(made.config.num_key_value_heads):
            scores = []
            for key in range(before):
                weights = [
                    float(layer[head, query, key])
                    for head in range(group * each, (group + 1) * each)
                    for query in range(before, len(ids) + len(written))
                ]
                one = max(weights) if given.reduction == "max" else sum(weights) / len(weights)
                scores.append(one)
            smooth = slowly_pooled(scores, given.kernel, given.pool)
            always = [i for i in asked.document if i >= before]
            able = [i for i in asked.document if i < before]
            # ties within rounding are not told apart: weights that one maximum gave are equal exactly
            best = sorted(able, key=lambda i: (-smooth[i], i))[: given.keep - len(always)]
            rows.append(sorted([*best, *always]))
        found.append(rows)
    return found


@pytest.mark.parametrize("reduction", ["max", "mean"])
@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize(("lookahead", "other"), [(0, False), (5, False), (5, True)])
def test_speckv_is_its_algorithm(reduction: Any, pool: Any, lookahead: int, other: bool) -> None:
    made, asked = model(seed=1), prompt(70, range(8, 55))
    draft = model(seed=2) if other else None
    given = SpecKV(14, draft, lookahead, 9, 7, pool, reduction)
    found = given.read(made, asked)
    assert [x.tolist() for x in found.kept] == slow_choice(made, asked, given)
    with torch.no_grad():
        cache = made(torch.tensor([asked.ids]), use_cache=True).past_key_values
    for (keys, values), layer in zip(found.layers, cache.layers, strict=True):
        assert torch.allclose(keys, layer.keys, atol=CLOSE)
        assert torch.allclose(values, layer.values, atol=CLOSE)


def test_heads_choose_for_themselves() -> None:
    found = SpecKV(14, window=9).read(model(seed=1), prompt(70, range(8, 55)))
    rows = {tuple(row) for layer in found.kept for row in layer.tolist()}
    assert len(rows) == 4 * 2


def test_the_window_stays_and_counts() -> None:
    asked = prompt(50, range(10, 48))
    given = SpecKV(14, window=9, lookahead=2)
    for layer in given.read(model(), asked).kept:
        for row in layer.tolist():
            assert row[-7:] == list(range(41, 48))
            assert len(set(row)) == 14
    only = SpecKV(7, window=9).read(model(), asked)
    assert all(row == list(range(41, 48)) for layer in only.kept for row in layer.tolist())
    with pytest.raises(ValueError, match=r"keep=6: the last 9 tokens .* 7 of them"):
        SpecKV(6, window=9).read(model(), asked)
    whole = SpecKV(38, window=100).read(model(), asked)
    assert all(row == list(asked.document) for layer in whole.kept for row in layer.tolist())


def test_what_is_written_ahead_changes_the_choice() -> None:
    made, asked = model(seed=1), prompt(70, range(8, 55))
    kept = [
        torch.stack(SpecKV(14, draft, lookahead, 9).read(made, asked).kept).tolist()
        for draft, lookahead in ((None, 0), (None, 9), (model(seed=2), 9))
    ]
    assert kept[0] != kept[1] != kept[2]


def test_the_draft_ends_before_the_end_of_text() -> None:
    made, ids = model(seed=3), list(range(20))
    whole = written_by(made, ids, 8, tf.DynamicCache())
    before = made.generation_config.eos_token_id
    try:
        made.generation_config.eos_token_id = [EOS, whole[3]]
        assert written_by(made, ids, 8, tf.DynamicCache()) == whole[: whole.index(whole[3])]
    finally:
        made.generation_config.eos_token_id = before
    assert len(whole) == 8


# --- extraction -----------------------------------------------------------------------------------


def run(wanted: Any = Guest, asked: Any = TEXT, made: Any = None, **options: Any) -> Extraction:
    options = {"max_new_tokens": 60, "tokenizer": CHAT} | options
    return extract(made or model(), options.pop("tokenizer"), asked, wanted, **options)


def slowly(asked: Remembered) -> Any:
    """A ``generate`` that computes everything anew for each token, with the oracle's masks."""

    def write(made: Any, input_ids: Any, automaton: Any, *, max_new_tokens: int, pruned: Pruned,
              **generation: Any) -> list[int]:  # fmt: skip
        ids = input_ids[0].tolist()
        processor = GrammarLogitsProcessor(automaton, max_new_tokens=max_new_tokens)
        begin = [i for i in range(len(pruned.ids)) if ids[i] != pruned.ids[i]]
        assert not begin
        document = CHAT(TEXT.strip())["input_ids"]
        at = next(i for i in range(len(ids)) if ids[i : i + len(document)] == document)
        free = range(at, at + len(document))
        written: list[int] = []
        while len(written) < max_new_tokens and EOS not in written:
            tokens = ids + written
            logits = masked_logits(made, tokens, len(pruned.ids), free, asked.kept[-1])[-1:]
            written.append(int(processor(torch.tensor([tokens]), logits)[0].argmax()))
        return written

    return write


FILTER = SpecKV(24, lookahead=4, window=6)


def test_answers_are_those_of_masked_attention() -> None:
    asked = Remembered(24, FILTER)
    wanted = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    options: dict[str, Any] = {"max_new_tokens": 12, "shorten": asked}
    expected = run(wanted, generate=slowly(asked), **options)
    found = run(wanted, **options)
    drafted = samplers.extract(model(), CHAT, TEXT, wanted, **options)
    assert found.tokens == expected.tokens
    assert drafted.tokens == expected.tokens
    assert found.value == drafted.value == json.loads(expected.text)
    assert [a.tolist() for a in asked.kept[0]] == [b.tolist() for b in asked.kept[-1]]


def test_what_is_told() -> None:
    asked = Remembered(24, FILTER)
    told = run(shorten=asked).shortened
    assert told is not None
    assert (told.by, told.tokens, told.kept) == (asked, TOKENS, 24)
    assert told.share == 24 / TOKENS
    heads = [set(row) for layer in asked.kept[0] for row in layer.tolist()]
    anywhere = sorted(set.union(*heads))
    assert len(anywhere) > 24
    # tokens are bytes and merges of ASCII here: their texts are what was kept somewhere
    said = "".join(TEXT[a:b] for a, b in told.spans)
    assert said == CHAT.decode([asked.ids[0][i] for i in anywhere])
    assert told.spans == tuple(sorted(told.spans))


@pytest.mark.parametrize("keep", [TOKENS, TOKENS + 5])
def test_a_document_that_is_not_longer_keeps_everything(keep: int) -> None:
    plain, asked = run(), Remembered(keep, SpecKV(keep))
    told = run(shorten=asked)
    assert told.tokens == plain.tokens
    assert told.token_constrained_logprobs == plain.token_constrained_logprobs
    assert not asked.kept, "the filter is not asked"
    assert told.shortened is not None
    assert (told.shortened.lossy, told.shortened.kept) == (False, TOKENS)
    assert told.shortened.spans == ((0, len(TEXT.strip())),)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_both_writers_agree(attention: str) -> None:
    torch.manual_seed(5)
    made = tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES, attn_implementation=attention)).eval()
    one = run(made=made, shorten=FILTER)
    assert one.shortened is not None
    assert one.shortened.lossy
    backend = SpeculativeBackend(made, CHAT)
    for _ in range(2):  # the second time drafters know the text
        drafted = samplers.extract(
            made, CHAT, TEXT, Guest, shorten=FILTER, backend=backend, max_new_tokens=60
        )
        assert drafted.tokens == one.tokens
        assert drafted.shortened == one.shortened
        assert drafted.token_constrained_logprobs == pytest.approx(
            one.token_constrained_logprobs, abs=1e-3
        )
    assert one.tokens != run(made=made).tokens, "control: it is lossy"
    plain = samplers.extract(made, CHAT, TEXT, Guest, backend=backend, max_new_tokens=60)
    assert plain.tokens == run(made=made).tokens, "the backend forgets what was shortened"


def test_memory_is_that_of_what_is_kept() -> None:
    backend = SpeculativeBackend(model(), CHAT, max_tree_nodes=0)
    asked = Remembered(24, FILTER)
    samplers.extract(model(), CHAT, TEXT, Guest, shorten=asked, backend=backend, max_new_tokens=60)
    assert backend.last_scorer is not None
    tokens = len(asked.ids[0]) - (TOKENS - 24) + 60
    assert backend.last_scorer.cache.nbytes == pytest.approx(
        tokens * backend.bytes_per_token, rel=0.02
    )


def test_samples_thoughts_retries_streams_and_healing() -> None:
    options: dict[str, Any] = {"shorten": FILTER, "max_new_tokens": 60}
    drawn = samplers.extract_samples(model(), CHAT, TEXT, Guest, 3, seed=1, **options)
    single = samplers.extract_samples(
        model(), CHAT, TEXT, Guest, 3, seed=1,
        backend=SpeculativeBackend(model(), CHAT, max_rows=1), **options,
    )  # fmt: skip
    assert [x.text for x in drawn] == [x.text for x in single]
    assert all(x.shortened and x.shortened.lossy for x in drawn)
    one = run(shorten=FILTER)
    stream = samplers.extract_stream(model(), CHAT, TEXT, Guest, **options)
    assert list(stream)[-1] == one.value
    thought = run(shorten=FILTER, reasoning=16)
    again = samplers.extract(model(), CHAT, TEXT, Guest, reasoning=16, **options)
    assert thought.reasoning == again.reasoning
    assert thought.tokens == again.tokens
    assert run(shorten=FILTER, retries=1, temperature=0.5).value is not None


def test_what_is_taken_off_a_prompt_was_not_read() -> None:
    asked = Remembered(24, FILTER)
    options: dict[str, Any] = {"shorten": asked, "heal": True, "max_new_tokens": 20}
    options["prompt"] = lambda text, _: f"{text}\nA number: 1"
    healed = run(int, tokenizer=TOKENIZER, **options)
    drafted = samplers.extract(model(), TOKENIZER, TEXT, int, **options)
    assert healed.prefix == b"1"
    assert asked.ids[0] == TOKENIZER(options["prompt"](TEXT, ""))["input_ids"][:-1]
    assert healed.tokens == drafted.tokens
    assert healed.text == drafted.text


def test_a_document_at_the_ends_of_a_prompt() -> None:
    """The first tokens stay whatever they are, and the last is read once more."""
    ids = TOKENIZER(TEXT.strip())["input_ids"]
    asked = Remembered(30)
    made = calm()
    found, told = pruned(made, ids, TEXT, vocabulary_for(TOKENIZER, made), asked)
    assert found is not None
    assert told.kept == SINKS + 30 + 1
    free = range(SINKS, len(ids) - 1)
    expected = masked_logits(made, ids, len(ids) - 1, free, asked.kept[0])[-1]
    with torch.no_grad():
        last = made(torch.tensor([ids[-1:]]), past_key_values=found.cache()).logits[0, -1]
    assert torch.allclose(last, expected, atol=CLOSE)


def test_the_default_model() -> None:
    try:
        made, tokenizer = constrain.load_model(dtype="float32")
    except constrain.models.ModelUnavailable as error:
        pytest.skip(str(error))

    class Order(BaseModel):
        customer: str
        boxes: int

    lines = ["Nothing arrived today, and nobody called."] * 6
    text = "\n".join([*lines, "Ann Lee ordered 12 boxes.", *lines])
    given = SpecKV(40, lookahead=16, window=16)
    options: dict[str, Any] = {"grounded": True, "max_new_tokens": 40, "shorten": given}
    found = samplers.extract(made, tokenizer, text, Order, **options)
    assert isinstance(found.value, Order)
    assert found.shortened is not None
    assert (found.shortened.kept, found.shortened.lossy) == (40, True)
    assert found.value.customer in text
    plain = extract(made, tokenizer, text, Order, **options)
    assert plain.tokens == found.tokens


# --- refusals -------------------------------------------------------------------------------------


def changed(**changes: Any) -> Any:
    @dataclass(frozen=True)
    class Wrong(Remembered):
        def read(self, made: Any, asked: LongPrompt) -> KeysRead:
            found = self._drawn(made, asked)
            kept = [changes.get("kept", lambda x: x)(x) for x in found.kept]
            layers = [changes.get("layer", lambda x: x)(x) for x in found.layers]
            return KeysRead(layers, kept)

    return Wrong(12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (changed(kept=lambda x: x.flip(1)), "at most 12 positions"),
        (changed(kept=lambda x: x - 100), "at most 12 positions"),
        (changed(kept=lambda x: x + 10_000), "at most 12 positions"),
        (changed(kept=lambda x: torch.arange(13).expand(2, -1) + 200), "at most 12 positions"),
        (changed(layer=lambda x: (x[0][:, :, :-1], x[1][:, :, :-1])), "keys and values of all"),
        (changed(layer=lambda x: (x[0][:, :1], x[1][:, :1])), "each group of heads"),
    ],
)
def test_choices_that_cannot_be(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(shorten=given)


def sliding(**options: Any) -> Any:
    return run(made=model("sliding"), shorten=FILTER, **options)


class Hidden(samplers.Drafter):
    name = "hidden"
    wants_hidden = True

    def propose(self, context: Any) -> None: ...


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SpecKV(0), ValueError, "keep=0"),
        (lambda: SpecKV(lookahead=-1), ValueError, "lookahead=-1"),
        (lambda: SpecKV(window=0), ValueError, "window=0"),
        (lambda: SpecKV(kernel=0), ValueError, "kernel=0"),
        (lambda: SpecKV(pool="sum"), ValueError, "'avg' or 'max'"),  # type: ignore[arg-type]
        (lambda: SpecKV(reduction="sum"), ValueError, "'max' or 'mean'"),  # type: ignore[arg-type]
        (lambda: SpecKV(draft="smollm2"), TypeError, "load it first"),
        (lambda: run(shorten=SpecKV), TypeError, "the type SpecKV"),
        (sliding, CannotPrune, "sliding attention.*AskAgain"),
        (lambda: run(shorten=FILTER, num_beams=2), CannotPrune, "num_beams may need a whole cache"),
        (
            lambda: run(shorten=FILTER, generate=lambda *_, **__: []),
            CannotPrune,
            "takes no pruned=.*AskAgain",
        ),
        (
            lambda: constrain.extract_many(model(), CHAT, [TEXT], Guest, shorten=FILTER),  # type: ignore[arg-type]
            CannotPrune,
            "extract_many writes texts side by side.*AskAgain",
        ),
        (
            lambda: samplers.extract(
                model(), CHAT, TEXT, Guest, shorten=FILTER,
                backend=SpeculativeBackend(model(), CHAT, drafters=[Hidden()]),
            ),
            UnsupportedModel,
            "drafters that read hidden states",
        ),
        (
            lambda: extract("m", None, TEXT, Guest, backend="http://x/v1", shorten=FILTER),
            TypeError,
            "shorten is for a model that runs here",
        ),
    ],
)  # fmt: skip
def test_refusals(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_draft_of_another_vocabulary() -> None:
    other = tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES | {"vocab_size": 330})).eval()
    with pytest.raises(ValueError, match="a draft needs the same vocabulary"):
        run(shorten=SpecKV(24, other))


def test_contexts() -> None:
    """Nobody writes beyond the context; a prompt beyond it is refused."""
    short = tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES | {"max_position_embeddings": 100})).eval()
    with pytest.raises(BudgetError, match="reads 100"):
        run(shorten=SpecKV(24, short))
    with pytest.raises(BudgetError, match=f"{CONTEXT:,}"):
        run(asked=TEXT * 6, shorten=FILTER)
    made, asked = model(seed=1), prompt(98, range(8, 55))
    short.load_state_dict(made.state_dict())
    found = SpecKV(14, lookahead=9, window=5).read(short, asked)
    two = SpecKV(14, lookahead=2, window=5).read(made, asked)
    assert [x.tolist() for x in found.kept] == [x.tolist() for x in two.kept]
    assert SpecKV(14, short, 9, 5).read(made, asked).kept[0].tolist() == two.kept[0].tolist()


def test_a_model_whose_attention_is_elsewhere_is_refused() -> None:
    torch.manual_seed(0)
    made = KINDS["llama"]().eval()
    for layer in made.model.layers:
        layer.self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    for lookahead in (0, 2):
        with pytest.raises(CannotPrune, match="cannot be read"):
            SpecKV(5, lookahead=lookahead).read(made, prompt(50, range(5, 15)))


def test_filters_are_of_one_kind() -> None:
    assert isinstance(FILTER, constrain.CacheFilter)
    assert not isinstance(FILTER, constrain.PromptFilter)
    assert not isinstance(AskAgain(), constrain.CacheFilter)
