"""Texts while they are written: what was drawn, what may be told of it, where it ends."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from constrain.automaton import TokenAutomaton
from constrain.huggingface.stopping import begun, stop_in
from constrain.vocabulary import Vocabulary
from samplers.speculative.choices import Drawn, seeds_of
from samplers.speculative.law import Law, Sampling, law_of
from samplers.speculative.scorer import TreeScorer
from samplers.speculative.target import Constrained, FreeText, Target
from samplers.speculative.tree import ROOT, Tree

Reason: TypeAlias = Literal["stop", "length"]
NEVER: Final = -9999.0
"""Stands for minus infinity in JSON, as OpenAI has it."""


@dataclass(frozen=True)
class TokenScore:
    """A token with the logarithms of its probability and of those of the likeliest.

    They are of the model at temperature 1 among the tokens that the answer's grammar allows there.
    """

    token: int
    logprob: float
    top: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Piece:
    """More of a text.

    Attributes:
        number: which of the answers.
        text: what is new of it; may be empty.
        scores: of the new tokens, if they were asked for.
    """

    number: int
    text: str
    scores: Sequence[TokenScore] = ()


@dataclass(frozen=True)
class Ended:
    """The end of a text.

    Attributes:
        number: which of the answers.
        reason: ``"length"`` where it would have gone on, had there been more tokens.
        tokens: all that were drawn, the end included.
    """

    number: int
    reason: Reason
    tokens: Sequence[int]


@dataclass(frozen=True)
class Failed:
    """No answer comes: what an order ends with that failed."""

    error: Exception


Event: TypeAlias = Piece | Ended | Failed


@dataclass(eq=False)
class Order:
    """What is to be written.

    Attributes:
        ids: the prompt.
        automaton: of the grammar; ``None`` for free text.
        budget: tokens of each text, the end included.
        n: how many texts.
        sampling: temperature and top-p.
        seed: for the same texts again, whatever else is being written.
        stop: texts before which they end.
        top: how many likeliest tokens are told with each; ``None``: no scores at all.
        named: special tokens that are part of the text, by their names.
        tell: called with each event, in the thread that writes.
        in_words: whether the grammar allows words, which a budget cuts as it does free text.
        deadline: of ``time.monotonic``.
        cancelled: set where nobody waits for it any more.
        begun: whether it has left the queue.
    """

    ids: list[int]
    automaton: TokenAutomaton | None
    budget: int
    sampling: Sampling
    tell: Callable[[Event], None]
    n: int = 1
    seed: int | None = None
    stop: tuple[bytes, ...] = ()
    top: int | None = None
    named: frozenset[str] = frozenset()
    in_words: bool = False
    deadline: float = float("inf")
    cancelled: bool = False
    begun: bool = False

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self.deadline


@dataclass(eq=False)
class Text:
    """One text of an order.

    Attributes:
        tokens: prompt and text.
        read: how many of them the scorer holds while the prompt is read.
        scorer: keys and values of this text alone, until it joins others.
    """

    order: Order
    number: int
    vocabulary: Vocabulary
    target: Target
    tokens: list[int]
    choices: Drawn
    state: Any
    left: int
    scorer: TreeScorer | None
    data: bytearray = field(default_factory=bytearray)
    reason: Reason | None = None
    _told: int = 0
    _decoder: Any = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    _scores: list[TokenScore] = field(default_factory=list)
    _plain: Law | None = None

    # -- drawing -------------------------------------------------------------------------------

    def drafted(self, room: int) -> Tree:
        """The tokens that the grammar forces, as a chain that the model is asked about at once."""
        tree, node, state = Tree(self.state), ROOT, self.state
        automaton = self.target.automaton
        if automaton is None or room <= 0 or state == automaton.FINISHED:
            return tree
        for token in automaton.forced_tokens(state)[: min(room, self.left - 1)]:
            state = self.target.advance(state, token)
            if state is None:
                break
            added = tree.add(node, token, state, "forced", 1.0)
            assert added is not None
            node = added
        return tree

    def law(self, logits: Any) -> Law:
        """What the next token is drawn from."""
        weighting = self.target.weighting(self.state, self.left)
        law = law_of(logits, weighting, self.order.sampling)
        if self.order.top is not None:
            at_one = self.order.sampling.temperature in (0.0, 1.0)
            self._plain = law if at_one else law_of(logits, weighting, Sampling())
        return law

    def take(self, token: int, state: Any) -> None:
        """Adds a token that was drawn from :meth:`law`, and looks whether the text ends with it."""
        before, self.state = self.state, state
        self.tokens.append(token)
        self.left -= 1
        if self.target.is_finished(state):
            cut = self.order.in_words and self._was_cut(before)
            self.reason = "length" if cut else "stop"
            return
        if self.order.top is not None:
            assert self._plain is not None
            self._scores.append(_score(self._plain, token, self.order.top))
        self.data += self._bytes_of(token)
        if (at := stop_in(self.data, self.order.stop)) is not None:
            del self.data[at:]
            self.reason = "stop"
        elif self.left <= 0:
            self.reason = "length"

    def _was_cut(self, before: Any) -> bool:
        """Whether the end was taken because there was no room for anything else."""
        automaton = self.target.automaton
        return (
            automaton is not None
            and self.left <= 0
            and bool((automaton.mask(before) != automaton.mask(automaton.FINISHED)).any())
        )

    def _bytes_of(self, token: int) -> bytes:
        if token >= self.vocabulary.size:
            return b""
        data = self.vocabulary.token_bytes(token)
        if data is not None:
            return data
        name = self.vocabulary.name_of(token) if self.order.named else ""
        return name.encode() if name in self.order.named else b""

    # -- telling -------------------------------------------------------------------------------

    @property
    def written(self) -> list[int]:
        """The new tokens."""
        return self.tokens[len(self.order.ids) :]

    def tell(self) -> None:
        """Tells what is new, but for what may be the beginning of a stop text."""
        ended = self.reason is not None
        end = len(self.data) if ended else len(self.data) - begun(self.data, self.order.stop)
        text = self._decoder.decode(bytes(self.data[self._told : end]), ended)
        self._told = max(end, self._told)
        scores, self._scores = self._scores, []
        if text or scores:
            self.order.tell(Piece(self.number, text, scores))
        if self.reason is not None:
            self.order.tell(Ended(self.number, self.reason, self.written))


def texts_of(order: Order, vocabulary: Vocabulary) -> list[Text]:
    """The texts of an order, at their beginnings."""
    eos = tuple(vocabulary.eos_token_ids)
    made = []
    for number, seed in enumerate(seeds_of(order.seed, order.n)):
        target: Target = FreeText(eos) if order.automaton is None else Constrained(order.automaton)
        made.append(
            Text(
                order,
                number,
                vocabulary,
                target,
                list(order.ids),
                Drawn(seed),
                target.start(),
                order.budget,
                None,
            )
        )
    return made


def _score(law: Law, token: int, top: int) -> TokenScore:
    index = law.index(token)
    assert index is not None
    values = law.constrained
    count = min(top, len(values))
    best = np.argpartition(-values, count - 1)[:count] if count else np.zeros(0, np.int64)
    best = best[np.argsort(-values[best], kind="stable")]
    listed = [(law.token(int(i)), _finite(values[i])) for i in best]
    return TokenScore(token, _finite(values[index]), listed)


def _finite(logprob: Any) -> float:
    return max(float(logprob), NEVER)
