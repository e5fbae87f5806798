"""Automata of the grammars that were asked for last, within a bound on memory."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from constrain.automaton import TokenAutomaton
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError
from samplers.serving.compiling import Compilers
from samplers.serving.constraints import Constraint
from samplers.serving.errors import RequestRefused
from samplers.serving.metrics import Metrics
from samplers.serving.options import ServingOptions


class Automata:
    """A cache of automata; equal grammars that are asked for at once are compiled once.

    What was refused is kept too, so that asking again costs nothing.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        compilers: Compilers,
        options: ServingOptions,
        metrics: Metrics,
    ) -> None:
        self._vocabulary = vocabulary
        self._compilers = compilers
        self._options = options
        self._metrics = metrics
        self._known: OrderedDict[str, TokenAutomaton | RequestRefused] = OrderedDict()
        self._pending: dict[str, asyncio.Task[TokenAutomaton]] = {}
        self._lock = threading.Lock()

    async def get(self, constraint: Constraint) -> TokenAutomaton:
        """The automaton of a constraint.

        Raises:
            RequestRefused: if there is none.
        """
        known = self._look_up(constraint.text)
        self._metrics.grammars.labels("hit" if known is not None else "miss").inc()
        if known is None:
            task = self._pending.get(constraint.text)
            if task is None:
                task = self._pending[constraint.text] = asyncio.create_task(self._make(constraint))
                task.add_done_callback(lambda done: self._made(constraint.text, done))
            return await asyncio.shield(task)
        if isinstance(known, RequestRefused):
            raise known.again()
        return known

    def _look_up(self, text: str) -> TokenAutomaton | RequestRefused | None:
        with self._lock:
            known = self._known.get(text)
            if known is not None:
                self._known.move_to_end(text)
            return known

    async def _make(self, constraint: Constraint) -> TokenAutomaton:
        with self._metrics.compile_seconds.time():
            grammar = await self._compilers.compile(constraint)
            try:
                return await asyncio.to_thread(TokenAutomaton, grammar, self._vocabulary)
            except GrammarError as error:
                raise RequestRefused(
                    f"{constraint.param}: {error}", param=constraint.param, code="invalid_grammar"
                ) from error

    def _made(self, text: str, task: asyncio.Task[TokenAutomaton]) -> None:
        del self._pending[text]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, RequestRefused):
            return  # a fault, of which whoever waits is told
        with self._lock:
            self._known[text] = task.result() if error is None else error.again()
            while len(self._known) > self._options.max_automata:
                self._known.popitem(last=False)

    async def close(self) -> None:
        """Gives up what is being compiled."""
        for task in list(self._pending.values()):
            task.cancel()
        await asyncio.gather(*self._pending.values(), return_exceptions=True)

    # -- memory --------------------------------------------------------------------------------

    def shrink(self, held: Mapping[TokenAutomaton, Iterable[int]]) -> None:
        """Forgets states and masks where all automata together have more than ``cache_bytes``.

        Args:
            held: the states that texts are in; of the thread that writes them.
        """
        with self._lock:
            kept = [one for one in self._known.values() if isinstance(one, TokenAutomaton)]
        kept += [one for one in held if not any(one is other for other in kept)]
        total = sum(one.nbytes for one in kept)
        if total > self._options.cache_bytes:
            for one in kept:
                one.trim(held.get(one, ()))
            total = sum(one.nbytes for one in kept)
        with self._lock:
            while total > self._options.cache_bytes and len(self._known) > 1:
                _, gone = self._known.popitem(last=False)
                total -= gone.nbytes if isinstance(gone, TokenAutomaton) else 0
        self._metrics.automata_bytes.set(total)

    def __len__(self) -> int:
        return len(self._known)


def states_held(pairs: Iterable[tuple[TokenAutomaton, Any]]) -> dict[TokenAutomaton, set[int]]:
    """The states by automaton."""
    held: dict[TokenAutomaton, set[int]] = {}
    for automaton, state in pairs:
        held.setdefault(automaton, set()).add(state)
    return held
