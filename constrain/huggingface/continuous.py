"""A grammar for each request of transformers' continuous batching.

Requests join and leave a batch between tokens; a plain ``LogitsProcessor`` is shown one token of each
and cannot tell them apart.  transformers has processors of its own for that, which see the requests
before each forward (``ContinuousBatchingLogitsProcessor``); here is one that keeps the automaton's
state of each.

transformers has no list of such processors that could be added to: they are made of the plain ones that
``model._get_logits_processor`` returns, by the table ``CLASSIC_TO_CB_PROCESSORS_MAP``.  So while the
manager is made that method returns one more, and the table has a row for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton, check_automaton
from constrain.bitmask import allocate_bitmask
from constrain.huggingface.processor import apply_and_keep_one, check_budget
from constrain.room import with_room
from constrain.vocabulary.huggingface import eos_ids_of
from grammars.errors import BudgetError, GrammaError

try:
    from transformers import ContinuousBatchingConfig
    from transformers.generation.continuous_batching import cb_logits_processors as _cb
except ImportError as error:
    raise ImportError(
        "continuous batching with grammars needs transformers 5.23, where requests have logits "
        "processors of their own; with an older one use GrammarLogitsProcessor and generate"
    ) from error


_CPU_TOKENS: Final = 16_384
"""Tokens of all requests that the cache has room for on a CPU, if nothing else is said."""


class _GrammarOfRequests(LogitsProcessor):  # type: ignore[misc]
    """What stands for :class:`RequestGrammars` in the list of plain processors."""

    supports_continuous_batching = True

    def __init__(self, made: RequestGrammars) -> None:
        self.made = made


@dataclass
class _Text:
    """How far a request's text was read.

    Attributes:
        length: tokens read.
        state: the automaton's state behind them.
    """

    length: int
    state: int


@dataclass
class RequestGrammars(_cb.ContinuousBatchingLogitsProcessor):  # type: ignore[misc]
    """Masks for the requests of a batch, each by the automaton that it came with (``grammar=``).

    A mask leaves tokens only after which the text, EOS included, can be completed within the request's
    own ``max_new_tokens``.  Requests without a grammar are free.

    What goes wrong in one row (a limit of its grammar) ends that request alone: its mask allows EOS, and
    :attr:`errors` says why.

    Attributes:
        errors: by request.
    """

    supported_kwargs: ClassVar[dict[str, type]] = {"grammar": TokenAutomaton}
    ignored_kwargs: ClassVar[tuple[str, ...]] = ()

    errors: dict[str, Exception] = field(default_factory=dict)
    _texts: dict[str, _Text] = field(default_factory=dict, init=False)
    _rows: list[int] = field(default_factory=list, init=False)  # of the batch, that have a grammar
    _bitmask: torch.Tensor | None = field(default=None, init=False)  # of these rows

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Fills in the defaults, of which there are none: masks are kept here."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: Sequence[Any]) -> torch.Tensor:
        """Makes the masks of the next step; returns the requests' numbers, int32[requests]."""
        states = [request.state for request in requests_with_new_token]
        automata = [state.logit_processor_kwargs.get("grammar") for state in states]
        self._rows = [row for row, automaton in enumerate(automata) if automaton is not None]
        texts: dict[str, _Text] = {}
        if self._rows:
            widest = max(automata[row].vocabulary.size for row in self._rows)
            self._bitmask = allocate_bitmask(len(self._rows), widest)
            for row, line in zip(self._rows, self._bitmask.numpy(), strict=True):
                texts[states[row].request_id] = self._masked(states[row], automata[row], line)
        self._texts = texts
        return torch.arange(len(states), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Masks the scores, floating[rows, V], of the requests that have a grammar."""
        if self._rows and self._bitmask is not None:
            at = torch.tensor(self._rows, device=scores.device)
            scores = scores.index_copy(0, at, apply_and_keep_one(scores[at], self._bitmask))
        return scores

    def _masked(self, request: Any, automaton: TokenAutomaton, line: Any) -> _Text:
        """Writes a request's mask into a row of the bitmask."""
        row = line[: -(-automaton.vocabulary.size // 32)]
        tokens = _new_tokens(request)
        text = self._texts.get(request.request_id)
        if text is None or text.length > len(tokens):  # it was set aside meanwhile
            text = _Text(0, automaton.start)
        try:
            for count in range(text.length, len(tokens)):
                text = _Text(count + 1, _after(automaton, text, tokens))
            limit = request.max_new_tokens
            left = None if limit is None else limit - len(request.generated_tokens)
            row[:], state = with_room(
                automaton, text.state, lambda: tokens, lambda known: automaton.mask(known, left)
            )
            text = _Text(text.length, state)
            if not row.any():
                raise BudgetError(
                    f"no text of the grammar ends within the {left} tokens left of the request",
                    needed=automaton.min_tokens_to_accept(text.state) + 1,
                    available=left or 0,
                )
        except GrammaError as error:
            self.errors.setdefault(request.request_id, error)
            automaton.fill_mask(automaton.FINISHED, row)
        return text


def _after(automaton: TokenAutomaton, text: _Text, tokens: Sequence[int]) -> int:
    """The state behind a text, the first of some tokens, and the next of them."""
    return with_room(
        automaton,
        text.state,
        lambda: tokens[: text.length],
        lambda state: automaton.advance(state, tokens[text.length]),
    )[0]


def _new_tokens(request: Any) -> list[int]:
    """What was generated: a request that had to make room has it at the end of its prompt."""
    moved = request._true_initial_tokens
    before: list[int] = request.initial_tokens[moved:] if moved else []
    return [*before, *request.generated_tokens]


class ContinuousBatch:
    """A running batch that requests join at any time.

    Attributes:
        manager: transformers' ``ContinuousBatchingManager``.
    """

    def __init__(self, manager: Any, grammars: RequestGrammars) -> None:
        self.manager: Final = manager
        self._grammars = grammars

    def add(
        self,
        prompt: Sequence[int],
        automaton: TokenAutomaton | None = None,
        *,
        max_new_tokens: int,
        request_id: str | None = None,
        streaming: bool = False,
        **options: Any,
    ) -> str:
        """Adds a request.

        Args:
            prompt: token ids.
            automaton: of the grammar that the new tokens follow; ``None`` for free text.
            max_new_tokens: the budget, EOS included; the text is complete within it.
            request_id: its name; by default one is made.
            streaming: whether there is a result after every token.
            **options: ``temperature``, ``top_k`` and ``top_p`` of this request, where the generation
                config has values that are not neutral.

        Returns:
            The request's name.

        Raises:
            BudgetError: if the shortest text does not fit the budget.
            RuntimeError: if the batch has ended.
        """
        check_count(max_new_tokens, "max_new_tokens")
        if automaton is not None:
            check_budget(check_automaton(automaton, "ContinuousBatch.add"), max_new_tokens)
            options |= {
                "grammar": automaton,
                "eos_token_id": list(automaton.vocabulary.eos_token_ids),
            }
        name: str | None = self.manager.add_request(
            list(prompt),
            request_id=request_id,
            max_new_tokens=max_new_tokens,
            streaming=streaming,
            **options,
        )
        if name is None:
            raise RuntimeError("the batch takes no more requests: it has ended, or is about to")
        return name

    def cancel(self, request_id: str) -> None:
        """Ends a request; there is no result of it."""
        self.manager.cancel_request(request_id)
        self._grammars.errors.pop(request_id, None)

    def result(self, timeout: float | None = None) -> Any | None:
        """The next result, of whatever request: transformers' ``GenerationOutput``.

        Args:
            timeout: seconds to wait; ``None`` for as long as it takes.

        Returns:
            The result; ``.error`` says where its grammar failed.  ``None`` if the time is over or the
            batch has ended.
        """
        found = self.manager.get_result(timeout=timeout)
        if found is not None and found.is_finished():
            failed = self._grammars.errors.pop(found.request_id, None)
            if failed is not None:
                found.error = f"{type(failed).__name__}: {failed}"
        return found


@contextmanager
def continuous_batching(
    model: Any,
    *,
    generation_config: GenerationConfig | None = None,
    continuous_batching_config: Any | None = None,
) -> Iterator[ContinuousBatch]:
    """Continuous batching with a grammar for each request.

    Example::

        with continuous_batching(model) as batch:
            names = [batch.add(ids, automaton, max_new_tokens=64) for ids, automaton in requests]
            results = [batch.result() for _ in names]  # in the order in which they end

    Args:
        model: a transformers model.
        generation_config: how tokens are drawn; the model's own by default.
        continuous_batching_config: memory and batch sizes; on a CPU by default room for the keys and
            values of 16,384 tokens of all requests together, where transformers would take four fifths of
            the machine's free memory.  Masks need each token before the next forward begins:
            asynchronous batching and CUDA graphs are switched off.

    Yields:
        The batch; it ends with the block, and so do requests that are not done.
    """
    config = continuous_batching_config or _default_config(model)
    config.per_request_processors = True
    config.use_async_batching = False
    config.use_cuda_graph = False
    grammars = RequestGrammars()
    if generation_config is None:
        generation_config = GenerationConfig.from_dict(model.generation_config.to_dict())
        generation_config.eos_token_id = list(eos_ids_of(None, model))
    with _with_grammars(model, grammars):
        manager = model.init_continuous_batching(generation_config, config)
    manager.start()
    try:
        yield ContinuousBatch(manager, grammars)
    finally:
        manager.stop(block=True, hard_stop=True)
        manager.destroy()


def _default_config(model: Any) -> Any:
    """Memory that the requests need, not all that a process beside others may find free."""
    config = ContinuousBatchingConfig()
    if model.device.type == "cpu":
        config.num_blocks = -(-_CPU_TOKENS // config.page_size)
    return config


@contextmanager
def _with_grammars(model: Any, grammars: RequestGrammars) -> Iterator[None]:
    """Has the model put one more processor into its list."""
    _cb.CLASSIC_TO_CB_PROCESSORS_MAP[_GrammarOfRequests] = lambda processor: processor.made
    own = model._get_logits_processor

    def with_ours(*args: Any, **kwargs: Any) -> LogitsProcessorList:
        return LogitsProcessorList([_GrammarOfRequests(grammars), *own(*args, **kwargs)])

    model._get_logits_processor = with_ours
    try:
        yield
    finally:
        del model._get_logits_processor


__all__ = ["ContinuousBatch", "RequestGrammars", "continuous_batching"]
