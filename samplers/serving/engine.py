"""The thread that owns the model and writes all texts, a step of each in turn.

In every round it reads a piece of one prompt that waits, asks the model once about all texts without a
seed together, and once about each text with one: arithmetic in a batch depends, in its last bits, on what
else is in it, and a seed is to give the same text again whatever else is being written.  So nobody waits
for another's text to end, and a long prompt holds up others by a piece at a time.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError
from samplers.serving.automata import Automata, states_held
from samplers.serving.errors import RequestRefused
from samplers.serving.metrics import Metrics
from samplers.serving.options import ServingOptions
from samplers.serving.texts import Failed, Order, Text, texts_of
from samplers.speculative.scorer import Request, Scores, TreeScorer
from samplers.speculative.tree import ROOT, Tree
from samplers.speculative.verify import next_token

MOST_TOKENS: Final = 16
"""Tokens of all rows of a forward, drafts included: on a CPU they cost little more than one."""
_SHRINK_EVERY: Final = 64
_ROOM: Final = 64
_log: Final = logging.getLogger("gramma.serving")


class Group:
    """Texts that the model is asked about together."""

    def __init__(self) -> None:
        self.texts: list[Text] = []
        self.scorer: TreeScorer | None = None

    def join(self, text: Text) -> None:
        """Takes a text whose prompt was read."""
        scorer, text.scorer = text.scorer, None
        assert scorer is not None
        if self.scorer is None:
            self.scorer = scorer
        else:
            self.scorer.join(scorer)
        self.texts.append(text)

    def drop(self, is_over: Callable[[Text], bool]) -> None:
        """Lets texts go."""
        kept = [slot for slot, text in enumerate(self.texts) if not is_over(text)]
        if len(kept) == len(self.texts):
            return
        self.texts = [self.texts[slot] for slot in kept]
        if kept and self.scorer is not None:
            self.scorer.select(kept)
        else:
            self.scorer = None

    def step(self) -> None:
        """Draws the next tokens of each text, those that follow from the grammar at once."""
        assert self.scorer is not None
        room = MOST_TOKENS // len(self.texts) - 1
        trees = [_guarded(text, lambda one: one.drafted(room)) or Tree(None) for text in self.texts]
        asked = [
            Request(text.tokens[-1:], tree) for text, tree in zip(self.texts, trees, strict=True)
        ]
        scores = self.scorer.score(asked)
        paths = []
        for slot, (text, tree) in enumerate(zip(self.texts, trees, strict=True)):
            path: list[int] = []
            if not text.order.cancelled:
                _guarded(text, partial(_verify, slot=slot, tree=tree, scores=scores, path=path))
            paths.append(path)
        self.scorer.commit(paths)
        self.drop(lambda text: text.reason is not None or text.order.cancelled)


def _verify(text: Text, slot: int, tree: Tree, scores: Scores, path: list[int]) -> None:
    """Draws along the drafts as far as they hold, and one token more; ``path`` gets what held."""
    node = ROOT
    while text.reason is None:
        law = text.law(scores.at(slot, node))
        token, child = next_token(tree, node, law, text.choices)
        state = tree.state(child) if child is not None else None
        if state is None:
            state = text.target.advance(text.state, token)
        text.take(token, state)
        if child is None:
            break
        path.append(child)
        node = child
    text.tell()


def _guarded(text: Text, work: Callable[[Text], Any]) -> Any:
    """Does something for one text; if it fails, its order fails and no other."""
    if text.order.cancelled:
        return None
    try:
        return work(text)
    except Exception as error:
        fail(text.order, error)
        return None


def fail(order: Order, error: Exception) -> None:
    """Ends an order."""
    if not order.cancelled:
        order.cancelled = True
        if not isinstance(error, RequestRefused | GrammarError):
            _log.error("an answer failed", exc_info=error)
        order.tell(Failed(error))


def _stops() -> RequestRefused:
    return RequestRefused("the server stops", status=503, code="shutting_down")


class Engine:
    """The texts that are being written, and those that wait.

    Args:
        model: a causal language model whose cache can take tokens back.
        vocabulary: of its tokenizer.
        automata: whose memory it bounds.
        options, metrics: of the server.

    Raises:
        UnsupportedModel: if the model's cache cannot take tokens back.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        automata: Automata,
        options: ServingOptions,
        metrics: Metrics,
    ) -> None:
        TreeScorer(model)  # says at once if the model will not do
        self._model = model
        self._vocabulary = vocabulary
        self._automata = automata
        self._options = options
        self._metrics = metrics
        self._inbox: deque[Order] = deque()
        self._reading: deque[list[Text]] = deque()
        self._shared = Group()
        self._alone: list[Group] = []
        self._wake = threading.Condition()
        self._closed = False
        self._rounds = 0
        self._thread = threading.Thread(target=self._run, name="gramma-engine", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def submit(self, order: Order) -> None:
        """Takes an order; its events are told in the engine's thread."""
        with self._wake:
            if not self._closed:
                self._inbox.append(order)
                self._wake.notify()
                return
        fail(order, _stops())

    def close(self) -> None:
        """Ends all orders; returns when the thread has ended."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    # -- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._awake():
            try:
                self._round()
            except Exception as error:  # of a forward: of memory, say
                self._fail_all(error)
        self._fail_all(_stops())

    def _awake(self) -> bool:
        with self._wake:
            while not (self._closed or self._inbox or self._reading or self._groups()):
                self._metrics.running.set(0)
                self._wake.wait()
            return not self._closed

    def _round(self) -> None:
        self._drop()
        self._admit()
        self._metrics.running.set(len(self._texts()))
        if self._reading:
            self._read_on()
        for group in self._groups():
            before = sum(len(text.tokens) for text in group.texts)
            texts = list(group.texts)
            group.step()
            self._metrics.forwards.inc()
            after = sum(len(text.tokens) for text in texts)
            self._metrics.generated_tokens.inc(after - before)
        self._rounds += 1
        if self._rounds % _SHRINK_EVERY == 0:
            self._shrink()

    def _groups(self) -> list[Group]:
        shared = [self._shared] if self._shared.texts else []
        return shared + [group for group in self._alone if group.texts]

    def _texts(self) -> list[Text]:
        written = [text for group in self._groups() for text in group.texts]
        return written + [text for texts in list(self._reading) for text in texts]

    def _drop(self) -> None:
        """Lets go what nobody waits for any more."""
        for order in [*self._inbox, *(text.order for text in self._texts())]:
            if order.is_late:
                fail(
                    order,
                    RequestRefused(
                        "the answer was not complete in the seconds that a request may take",
                        status=504,
                        code="request_timeout",
                    ),
                )
        with self._wake:
            self._inbox = deque(order for order in self._inbox if not order.cancelled)
        self._reading = deque(texts for texts in self._reading if not texts[0].order.cancelled)
        for group in self._groups():
            group.drop(lambda text: text.order.cancelled)
        self._alone = [group for group in self._alone if group.texts]

    def _admit(self) -> None:
        """Begins with orders, in turn, while there is room for all their texts."""
        while self._inbox:
            order = self._inbox[0]
            if len(self._texts()) + order.n > self._options.max_running:
                return
            order.begun = True
            texts = texts_of(order, self._vocabulary)
            texts[0].scorer = TreeScorer(self._model, 1, len(order.ids) + _ROOM)
            self._reading.append(texts)
            with self._wake:
                self._inbox.popleft()

    def _read_on(self) -> None:
        """Reads a piece of the prompt that waits longest; all but the last token are read so."""
        texts = self._reading.popleft()
        first = texts[0]
        scorer = first.scorer
        assert scorer is not None
        before = first.tokens[:-1]
        begin = scorer.length(0)
        piece = before[begin : begin + self._options.prefill_tokens]
        try:
            if piece:
                scorer.score([Request(piece, Tree(None))])
                scorer.commit([[]])
                self._metrics.forwards.inc()
        except Exception as error:
            fail(first.order, error)
            return
        if scorer.length(0) < len(before):
            self._reading.append(texts)
            return
        self._begin(texts, scorer)

    def _begin(self, texts: Iterable[Text], scorer: TreeScorer) -> None:
        for text in texts:
            if text.number:
                text.scorer = scorer.fork(len(text.tokens) + _ROOM)
        for text in texts:
            group = self._shared
            if text.order.seed is not None:
                group = Group()
                self._alone.append(group)
            group.join(text)

    def _shrink(self) -> None:
        pairs = [
            (text.order.automaton, text.state)
            for text in self._texts()
            if text.order.automaton is not None
        ]
        self._automata.shrink(states_held(pairs))

    def _fail_all(self, error: Exception) -> None:
        with self._wake:
            waiting, self._inbox = list(self._inbox), deque()
        for order in [*waiting, *(text.order for text in self._texts())]:
            fail(order, error)
        self._reading.clear()
        self._shared, self._alone = Group(), []
