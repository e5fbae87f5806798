"""From a request to the events of its answer: the prompt, the grammar, the budget, and the turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from constrain.automaton import TokenAutomaton
from constrain.huggingface.automata import vocabulary_for
from constrain.huggingface.calling import detected_format, special_markers, tools_prompt
from constrain.huggingface.processor import check_budget
from constrain.models import context_length
from constrain.tools import known_tools
from grammars.errors import BudgetError, GrammarError
from grammars.tools.definitions import Tool, choose
from samplers.serving.asking import Asked, as_json_schema
from samplers.serving.automata import Automata
from samplers.serving.compiling import Compilers
from samplers.serving.constraints import Constraint
from samplers.serving.engine import Engine
from samplers.serving.errors import RequestRefused, invalid
from samplers.serving.metrics import Metrics
from samplers.serving.options import ServingOptions
from samplers.serving.texts import Ended, Event, Failed, Order, Piece
from samplers.speculative.law import Sampling

_RETRY_AFTER: Final = 1


@dataclass(frozen=True)
class Tools:
    """How an answer with tools is read.

    Attributes:
        format: in which calls are written.
        allowed: the tools that may be called.
        has_format: whether an answer in words is kept to a form of its own.
        mode: whether there may, must, or must not be a call.
    """

    format: str
    allowed: list[Tool]
    has_format: bool
    mode: str


@dataclass(eq=False)
class Job:
    """A request that is being answered.

    Attributes:
        asked: what it asks for.
        prompt_tokens: tokens of the prompt.
        tools: how the answers are read; ``None`` without tools.
        began: of ``time.monotonic``.
        first_token: called with the seconds to the first event.
    """

    asked: Asked
    began: float
    loop: asyncio.AbstractEventLoop
    first_token: Callable[[float], None]
    order: Order | None = None
    prompt_tokens: int = 0
    tools: Tools | None = None
    completion_tokens: int = 0
    _events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    def tell(self, event: Event) -> None:
        """Takes an event from another thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def events(self) -> AsyncIterator[Piece | Ended]:
        """Pieces and ends, until all texts have ended.

        Raises:
            RequestRefused: if it fails.
        """
        left, is_first = self.asked.n, True
        while left:
            event = await self._events.get()
            if is_first:
                self.first_token(time.monotonic() - self.began)
            is_first = False
            if isinstance(event, Failed):
                raise _as_refusal(event.error)
            if isinstance(event, Ended):
                left -= 1
                self.completion_tokens += len(event.tokens)
            yield event

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        if self.order is not None:
            self.order.cancelled = True


class Service:
    """One model and everything that answers with it.

    Args:
        model, tokenizer: of ``transformers``.
        name: by which clients call the model.
        options: the limits.

    Attributes:
        metrics: what it counts.
        vocabulary: of the model.

    Raises:
        UnsupportedModel: if the model's cache cannot take tokens back.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, options: ServingOptions) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.options = options
        self.created: Final = int(time.time())
        self.metrics = Metrics()
        self.vocabulary = vocabulary_for(tokenizer, model)
        self._compilers = Compilers(options)
        self._automata = Automata(self.vocabulary, self._compilers, options, self.metrics)
        self._engine = Engine(model, self.vocabulary, self._automata, options, self.metrics)
        self._format = detected_format(tokenizer)
        self._jobs: set[Job] = set()
        self._draining = False

    async def start(self) -> None:
        """Begins to answer."""
        self._engine.start()
        await self._compilers.start()

    async def close(self) -> None:
        """Ends what is left."""
        self._draining = True
        await asyncio.to_thread(self._engine.close)
        await self._automata.close()
        await self._compilers.close()

    async def give_up(self) -> None:
        """Ends what is being answered, telling whoever waits."""
        await asyncio.to_thread(self._engine.close)

    def drain(self) -> None:
        """Takes no further requests."""
        self._draining = True

    @property
    def is_draining(self) -> bool:
        """Whether it takes no further requests."""
        return self._draining

    @property
    def open_requests(self) -> int:
        """Requests that are not answered yet."""
        return len(self._jobs)

    # -- requests ------------------------------------------------------------------------------

    async def begin(self, asked: Asked) -> Job:
        """Has a request answered.

        Raises:
            RequestRefused: if it cannot be, or not now.
        """
        job = self._opened(asked)
        try:
            async with asyncio.timeout_at(job.loop.time() + self.options.max_seconds):
                await self._prepare(job)
        except TimeoutError:
            self.end(job)
            raise RequestRefused(
                f"no answer was begun in {self.options.max_seconds:g} seconds",
                status=504,
                code="request_timeout",
            ) from None
        except BaseException:
            self.end(job)
            raise
        return job

    def end(self, job: Job) -> None:
        """Lets a job go, answered or not."""
        if job in self._jobs:
            self._jobs.remove(job)
            job.cancel()
            self._count_waiting()

    def _opened(self, asked: Asked) -> Job:
        if self._draining:
            raise RequestRefused(
                "the server stops; try another one, or later",
                status=503,
                code="shutting_down",
                retry_after=_RETRY_AFTER,
            )
        if self._count_waiting() >= self.options.max_waiting:
            raise RequestRefused(
                f"{self.options.max_waiting} requests wait already; try again later",
                status=429,
                code="too_many_requests",
                retry_after=_RETRY_AFTER,
            )
        first_token = self.metrics.first_token_seconds.observe
        job = Job(asked, time.monotonic(), asyncio.get_running_loop(), first_token)
        self._jobs.add(job)
        self._count_waiting()
        return job

    def _count_waiting(self) -> int:
        waiting = sum(job.order is None or not job.order.begun for job in self._jobs)
        self.metrics.waiting.set(waiting)
        return waiting

    async def _prepare(self, job: Job) -> None:
        asked = job.asked
        if asked.model != self.name:
            raise RequestRefused(
                f"there is no model {asked.model!r:.80}; this server has {self.name!r}",
                status=404,
                param="model",
                code="model_not_found",
            )
        constraint, job.tools = self._constraint(asked)
        ids = await asyncio.to_thread(self._prompt, asked, job.tools)
        budget = self._budget(asked, len(ids))
        automaton = None if constraint is None else await self._automata.get(constraint)
        if automaton is not None:
            await asyncio.to_thread(_check_fits, automaton, budget, asked.tokens_param)
        job.prompt_tokens = len(ids)
        self.metrics.prompt_tokens.inc(len(ids))
        job.order = self._order(job, ids, automaton, budget)
        self._engine.submit(job.order)

    def _order(
        self, job: Job, ids: list[int], automaton: TokenAutomaton | None, budget: int
    ) -> Order:
        asked = job.asked
        markers = () if job.tools is None else special_markers(job.tools.format, self.vocabulary)
        return Order(
            ids,
            automaton,
            budget,
            Sampling(asked.temperature, asked.top_p),
            job.tell,
            n=asked.n,
            seed=None if asked.seed is None else asked.seed % 2**64,
            stop=tuple(one.encode() for one in asked.stop),
            top=asked.top,
            named=frozenset(markers),
            in_words=job.tools is not None and not job.tools.has_format,
            deadline=job.began + self.options.max_seconds,
        )

    # -- grammars ------------------------------------------------------------------------------

    def _constraint(self, asked: Asked) -> tuple[Constraint | None, Tools | None]:
        most = self.options.max_grammar_bytes
        if not asked.tools:
            if asked.format is None:
                return None, None
            wanted = {"structured_outputs": asked.format.asked}
            return Constraint.of(wanted, asked.format.param, most), None
        mode, allowed = choose([one.tool for one in known_tools(asked.tools)], asked.tool_choice)
        if mode == "none" and asked.format is not None:
            wanted = {"structured_outputs": asked.format.asked}
            return Constraint.of(wanted, asked.format.param, most), None
        told: dict[str, Any] = {
            "tools": asked.tools,
            "format": self._format,
            "tool_choice": asked.tool_choice,
            "parallel": asked.parallel,
            "special": special_markers(self._format, self.vocabulary),
        }
        has_format = mode == "auto" and asked.format is not None
        if has_format:
            assert asked.format is not None
            told |= {
                "tool_choice": _required(asked.tool_choice),
                "schema": as_json_schema(asked.format),
            }
        return Constraint.of(told, "tools", most), Tools(self._format, allowed, has_format, mode)

    # -- prompts and budgets -------------------------------------------------------------------

    def _prompt(self, asked: Asked, tools: Tools | None) -> list[int]:
        known = known_tools(asked.tools) if tools is not None else []
        form, mode = ("json", "none") if tools is None else (tools.format, tools.mode)
        try:
            return tools_prompt(self.model, self.tokenizer, asked.messages, known, form, mode)
        except RecursionError:
            raise invalid("messages", "they are nested too deeply") from None
        except Exception as error:  # a template raises what its author chose
            raise invalid("messages", f"the model's chat template refuses them: {error}") from error

    def _budget(self, asked: Asked, prompt: int) -> int:
        """Tokens of each answer, the end included."""
        options = self.options
        context = context_length(self.model)
        room = None if context is None else context - prompt
        if options.max_prompt_tokens and prompt > options.max_prompt_tokens:
            raise _too_long(
                f"the prompt has {prompt:,} tokens; this server takes {options.max_prompt_tokens:,}"
            )
        wanted = asked.max_tokens
        if wanted is not None and wanted > options.max_tokens:
            raise invalid(asked.tokens_param, f"must be at most {options.max_tokens:,}")
        if room is not None and room < (wanted or 1):
            raise _too_long(
                f"the prompt has {prompt:,} tokens and {wanted or 1:,} are asked for, but the model's "
                f"context holds {context:,}"
            )
        if wanted is None:
            wanted = min(options.default_tokens, options.max_tokens)
            wanted = wanted if room is None else min(wanted, room)
        return wanted


def _required(choice: Any) -> Any:
    """The same choice, but for answers in words."""
    if isinstance(choice, dict) and isinstance(choice.get("allowed_tools"), dict):
        return choice | {"allowed_tools": choice["allowed_tools"] | {"mode": "required"}}
    return "required"


def _check_fits(automaton: TokenAutomaton, budget: int, param: str) -> None:
    try:
        check_budget(automaton, budget)
    except BudgetError as error:
        message = str(error).replace("max_new_tokens", param)
        raise RequestRefused(message, param=param, code="max_tokens_too_small") from None


def _too_long(message: str) -> RequestRefused:
    return RequestRefused(message, param="messages", code="context_length_exceeded")


def _as_refusal(error: Exception) -> RequestRefused:
    """What a client is told of a failure."""
    if isinstance(error, RequestRefused):
        return error
    if isinstance(error, GrammarError):  # a limit of the work for one mask
        return RequestRefused(f"the answer's grammar: {error}", code="invalid_grammar")
    return RequestRefused("the answer failed, see the server's log", status=500, code="internal")
