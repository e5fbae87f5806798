"""How tokens are written: ``model.generate`` with a processor, and streamers that are ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers.generation.streamers import BaseStreamer

from constrain.arguments import described
from constrain.automaton import TokenAutomaton
from constrain.healing import Healed
from constrain.huggingface.processor import GrammarLogitsProcessor
from constrain.huggingface.recording import Recorder
from constrain.huggingface.stopping import begun, stop_in
from constrain.vocabulary import Vocabulary

if TYPE_CHECKING:  # late: its filters need this module
    from constrain.huggingface.shortening.pruning import Pruned


class Generate(Protocol):
    """Writes token ids, EOS included, that the automaton allows.

    One that knows how likely the tokens were returns them as :class:`ScoredTokens`.  One that can go on
    with a shortened cache has an argument ``pruned``, and is given what is left of the prompt's beginning.
    """

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        automaton: TokenAutomaton,
        *,
        max_new_tokens: int,
        **generation: Any,
    ) -> list[int]: ...


class Halted(Exception):  # noqa: N818 - no error: who raises it has seen enough
    """Raised by who listens, to end the writing before the next token."""


class AnswerListener(BaseStreamer):  # type: ignore[misc]
    """A streamer that is told the bytes of the answer, too: without a thought and the prompt's end."""

    def begin_answer(self) -> None:
        """An answer begins; one that was told before is given up."""

    def answer(self, data: bytes) -> None:
        """More of the answer, never an EOS, nor what may be the beginning of a stop text."""


class _Stream(BaseStreamer):  # type: ignore[misc]
    """A streamer that is ended once.

    Attributes:
        inner: the one that is told everything.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.has_ended = False

    def put(self, value: torch.Tensor) -> None:
        self.inner.put(value)

    def end(self) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.inner.end()

    @property
    def listener(self) -> AnswerListener | None:
        """The inner one, if it wants to hear of the answer's text."""
        return listener_of(self.inner)


def listener_of(streamer: Any) -> AnswerListener | None:
    """Who wants to hear of the answer's text, of a streamer that :func:`ended` gave, too."""
    if isinstance(streamer, _Stream):
        return streamer.listener
    return streamer if isinstance(streamer, AnswerListener) else None


class Phases(BaseStreamer):  # type: ignore[misc]
    """Tokens of a prompt and of one or two texts behind it, told to who listens.

    A streamer is told the prompt once and then all tokens; an :class:`AnswerListener` the text of the
    answer as well.

    Args:
        streamer: who listens, as :func:`ended` gives it; ``None`` for nobody.
        stop: texts with which the answer ends; :class:`Halted` is raised where one is whole.
    """

    def __init__(self, streamer: Any, stop: Sequence[bytes] = ()) -> None:
        self._streamer = streamer
        self._listener = listener_of(streamer)
        self._stop = stop
        self._healed: Healed | None = None
        self._is_answer = False
        self._has_prompt = self._prompt_told = False
        self._data = bytearray()
        self._told = 0
        self.tokens: list[int] = []

    def __bool__(self) -> bool:
        return self._streamer is not None or bool(self._stop)

    def begin(self, healed: Healed, is_answer: bool) -> None:
        """What is written next."""
        self._healed, self._is_answer = healed, is_answer
        self.tokens, self._has_prompt = [], False
        self._data, self._told = bytearray(), len(healed.prefix)
        if is_answer and self._listener is not None:
            self._listener.begin_answer()

    def put(self, value: torch.Tensor) -> None:
        """The prompt of this phase, int64[1, n], then new tokens, int64[n]."""
        is_prompt = not self._has_prompt
        self._has_prompt = True
        if is_prompt:
            if not self._prompt_told and self._streamer is not None:
                self._streamer.put(value)
            self._prompt_told = True
            return
        if self._streamer is not None:
            self._streamer.put(value)
        self._written(value.flatten().tolist())

    def finish(self, tokens: list[int]) -> None:
        """All tokens of this phase, of which a ``generate`` of one's own may not have told."""
        self._written(tokens[len(self.tokens) :])
        self._tell(len(self._data))

    def end(self) -> None:
        """One phase ends, but perhaps not the whole."""

    def _written(self, tokens: list[int]) -> None:
        self.tokens += tokens
        if not self._is_answer or not (self._listener or self._stop):
            return
        assert self._healed is not None
        before = max(len(self._data) - max(map(len, self._stop), default=0), self._told)
        self._data += self._healed.automaton.vocabulary.decode(tokens)
        cut = stop_in(bytes(self._data[before:]), self._stop)
        if cut is None:
            self._tell(len(self._data) - begun(self._data, self._stop))
        else:
            self._tell(before + cut)
            raise Halted

    def _tell(self, end: int) -> None:
        """The answer up to a place, as far as it was not told before."""
        if self._is_answer and self._listener is not None and end > self._told:
            self._listener.answer(bytes(self._data[self._told : end]))
            self._told = end


@contextmanager
def ended(streamer: Any) -> Iterator[Any]:
    """The streamer, which is ended on every way out, once; ``None`` for none.

    Raises:
        TypeError: if it has no ``put`` and ``end``.
    """
    if streamer is None:
        yield None
        return
    made = _Stream(check_streamer(streamer))
    try:
        yield made
    finally:
        made.end()


def check_streamer(streamer: Any) -> Any:
    """A streamer, or ``None``.

    Raises:
        TypeError: if it has no ``put`` and ``end``.
    """
    if streamer is None:
        return None
    if not (callable(getattr(streamer, "put", None)) and callable(getattr(streamer, "end", None))):
        raise TypeError(
            "streamer must have put(token_ids) and end(), as those of transformers have, not "
            f"{described(streamer)}"
        )
    return streamer


def device_of(model: Any) -> torch.device:
    """Where a model's inputs belong."""
    return torch.device(getattr(model, "device", "cpu"))


def write(
    model: Any,
    input_ids: torch.Tensor,
    automaton: TokenAutomaton,
    *,
    max_new_tokens: int,
    pruned: Pruned | None = None,
    **generation: Any,
) -> list[int]:
    """``model.generate`` with a processor: greedy unless a temperature says otherwise.

    Args:
        pruned: what is left of the prompt's beginning, which is not read again.
    """
    if pruned is not None:
        generation["past_key_values"] = pruned.cache()
    out = _generated(
        model, input_ids, torch.ones_like(input_ids), [automaton], max_new_tokens, generation
    )
    if len(out) != 1:
        raise ValueError(f"generate wrote {len(out)} texts, but extract returns one Extraction")
    return out[0]


def write_rows(
    model: Any,
    rows: Sequence[Healed],
    max_new_tokens: int,
    is_answer: bool = True,
    *,
    generation: Mapping[str, Any],
    shared: int = 0,
    cache: Callable[[int], Any] | None = None,
) -> list[list[int]]:
    """The same for several prompts side by side, padded on the left, or behind what they share.

    Args:
        model: of ``transformers``.
        rows: prompts, each with its automaton.
        max_new_tokens: of each, EOS included.
        is_answer: what the tokens are; makes no difference here.
        generation: options of ``generate``.
        shared: how many tokens at the beginning are those of all prompts.
        cache: makes a cache of them for a number of rows; ``None``: they are read again.

    Returns:
        The new tokens of each.
    """
    length = max(len(row.prompt) for row in rows)
    pad = min(rows[0].automaton.vocabulary.eos_token_ids)
    padded, mask = [], []
    for row in rows:
        missing = length - len(row.prompt)
        padded.append([*row.prompt[:shared], *([pad] * missing), *row.prompt[shared:]])
        mask.append([1] * shared + [0] * missing + [1] * (len(row.prompt) - shared))
    at, automata = device_of(model), [row.automaton for row in rows]
    known = {} if cache is None else {"past_key_values": cache(len(rows))}
    ids, kept = torch.tensor(padded, device=at), torch.tensor(mask, device=at)
    out = _generated(model, ids, kept, automata, max_new_tokens, {**generation, **known})
    if len(out) != len(rows):
        raise ValueError(f"generate wrote {len(out)} texts for {len(rows)} prompts")
    return out


def _generated(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    automata: Sequence[TokenAutomaton],
    max_new_tokens: int,
    given: Mapping[str, Any],
) -> list[list[int]]:
    generation = dict(given)
    processor = GrammarLogitsProcessor(automata, max_new_tokens=max_new_tokens)
    temperature = generation.pop("temperature", None)
    if temperature:
        generation |= {"temperature": temperature, "do_sample": True}
        generation = {"top_k": 0, "top_p": 1.0} | generation
    generation = {"do_sample": False} | generation
    vocabulary = automata[0].vocabulary
    ends = list(vocabulary.eos_token_ids)
    recorder = Recorder(ends, _temperature(model, generation))
    with torch.no_grad():
        out = model.generate(
            input_ids,
            attention_mask=attention_mask,
            logits_processor=[processor, recorder, *generation.pop("logits_processor", ())],
            max_new_tokens=max_new_tokens,
            eos_token_id=ends,
            pad_token_id=generation.pop("pad_token_id", ends[0]),
            **generation,
        )
    length = input_ids.shape[-1]
    texts: list[list[int]] = []
    for number, row in enumerate(out.tolist()):
        text = recorder.written(row[:length], until_end(row[length:], vocabulary))
        text.failure = processor.failures.get(number)
        texts.append(text)
    return texts


def _temperature(model: Any, generation: Mapping[str, Any]) -> float:
    """What ``generate`` divides scores by: 1 where it takes the likeliest token."""
    if not generation["do_sample"]:
        return 1.0
    default = getattr(getattr(model, "generation_config", None), "temperature", None)
    return float(generation.get("temperature", default) or 1.0)


def until_end(tokens: list[int], vocabulary: Vocabulary) -> list[int]:
    """Without the padding behind the first EOS."""
    ends = set(vocabulary.eos_token_ids)
    first = next((i for i, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: first + 1]
