"""Draft, verify, commit: the loop under every sampler.

Each step, drafters guess how a row goes on; the guesses that are worth it are scored in one forward
of the model; tokens are drawn node by node from the target's law, as far as the guesses hold; what
holds stays in the cache, the rest is forgotten.  With no drafters it is plain decoding, and no
drafter changes what is drawn, only how soon; but where typical acceptance is asked for, which is lossy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import torch

from constrain.arguments import check_count, check_model, check_tokenizer, described
from constrain.huggingface.prompts import Messages, checked_ids, prompt_ids
from constrain.huggingface.shortening.pruning import Pruned
from constrain.models import context_length
from grammars.errors import BudgetError, LimitExceeded, UnknownStateError
from samplers.drafters.base import Context, Drafter, Observation
from samplers.sample import Sample, Stats
from samplers.speculative.choices import Choices, Drawn, seeds_of
from samplers.speculative.common import common_length
from samplers.speculative.companions import Attached
from samplers.speculative.law import EmptyLaw, Law, Sampling, law_of
from samplers.speculative.schedule import Schedule
from samplers.speculative.scorer import Request, Scores, TreeScorer
from samplers.speculative.shared_prefix import pays
from samplers.speculative.target import Target, Weighting
from samplers.speculative.tree import ROOT, Tree
from samplers.speculative.typical import LossyDraws, Typical, longest
from samplers.speculative.verify import next_token

DEFAULT_MAX_NEW_TOKENS: Final = 512
MAX_TREE_NODES: Final = 16
"""On a CPU up to sixteen tokens cost little more than one."""
MAX_ROWS: Final = 8
_LONG_PROMPT: Final = 1024
"""Prompts from this length on are read before anything is drafted: masks grow with their square."""

Prompt: TypeAlias = str | Sequence[int] | Messages | torch.Tensor | Mapping[str, Any]
"""Text, token ids or chat messages; see :meth:`SpeculativeBackend.encode`."""
OnTokens = Callable[[int, Sequence[int]], None]
"""(number of the sample, its new tokens): called after every step, for streaming and progress."""
Stop = Callable[[Sequence[int]], bool]
"""Prompt and text so far -> whether to stop there."""


@dataclass(frozen=True)
class Start:
    """Where a sample begins, if some of its text is drawn already.

    Attributes:
        tokens: new tokens that are drawn already; they count towards ``max_new_tokens``.
        state: the target's state behind them.
        logprobs, drawn: of each of those tokens, as ``token_logprobs`` and
            ``token_constrained_logprobs`` of :class:`~samplers.sample.Sample`.
        share: log-probability of a choice already made about the next token (that it is none of
            some tokens, say), which its ``drawn`` is to include.
    """

    tokens: Sequence[int]
    state: Any
    logprobs: Sequence[float] = ()
    drawn: Sequence[float] = ()
    share: float = 0.0


@dataclass
class _Row:
    """One text being written."""

    number: int
    tokens: list[int]
    prompt_length: int
    left: int
    target: Target
    state: Any
    choices: Choices
    stop: Stop | None = None
    stats: Stats = field(default_factory=Stats)
    logprobs: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)
    share: float = 0.0
    finished: bool = False
    stopped: bool = False

    @property
    def done(self) -> bool:
        return self.finished or self.stopped or self.left <= 0

    @property
    def new_tokens(self) -> list[int]:
        return self.tokens[self.prompt_length :]


@dataclass
class _Step:
    """What one row does in one step."""

    row: _Row
    context: Context
    drafted: Tree
    tree: Tree
    attached: Sequence[Attached] = ()
    path: list[int] = field(default_factory=list)
    emitted: list[int] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)


class SpeculativeBackend:
    """A causal language model of ``transformers`` with drafters.

    Args:
        model: the model, in ``eval`` mode, with attention ``sdpa`` or ``eager``.
        tokenizer: its tokenizer; ``None`` if prompts are token ids (texts of samples are then
            decoded by the automaton's vocabulary, or left empty).
        drafters: what guesses tokens; the default set if not given, none if empty.
        max_tree_nodes: drafted tokens of one row in one forward.
        max_kv_bytes: bound on the cache of keys and values: fewer rows side by side and smaller
            trees if need be.  What rows share of a prompt counts once.
        max_rows: samples written side by side.
        adaptive: whether trees are chosen by measured acceptance and cost (else all drafts up to
            ``max_tree_nodes`` are scored).
        acceptance: ``None`` for exact draws; :class:`~samplers.speculative.typical.Typical` takes likely
            drafts without a draw.  That is LOSSY: above temperature 0 texts no longer have the target's
            law, though they keep the grammar.  ``stats.lossy`` of samples says so, and samplers that
            need exact draws refuse such a backend.

    Attributes:
        forwards: calls of the model since it was made, however many rows took part.

    Raises:
        UnsupportedModel: if the model's cache cannot take tokens back.
        ValueError: if two drafters have one name, or two want companion positions.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        drafters: Sequence[Drafter] | None = None,
        *,
        max_tree_nodes: int = MAX_TREE_NODES,
        max_kv_bytes: int | None = None,
        max_rows: int = MAX_ROWS,
        adaptive: bool = True,
        acceptance: Typical | None = None,
    ) -> None:
        check_model(model, "SpeculativeBackend")
        if tokenizer is not None:
            check_tokenizer(tokenizer, "SpeculativeBackend")
        check_count(max_tree_nodes, "max_tree_nodes", least=0)
        check_count(max_rows, "max_rows")
        check_count(max_kv_bytes, "max_kv_bytes", optional=True)
        if not (acceptance is None or isinstance(acceptance, Typical)):
            raise TypeError(f"acceptance is None or Typical(...), not {described(acceptance)}")
        if drafters is None:
            from samplers.drafters import default_drafters

            drafters = default_drafters()
        self.model = model
        self.tokenizer = tokenizer
        self.drafters = _drafters(drafters)
        names = [d.name for d in self.drafters]
        if len(set(names)) < len(names):
            raise ValueError(f"drafters are told apart by their names, but got {names}")
        self.max_kv_bytes = max_kv_bytes
        self.max_rows = max_rows
        self.max_tree_nodes = max_tree_nodes
        self.acceptance = acceptance
        self._accompanied = _accompanied(self.drafters)
        self.schedule = self._new_schedule(adaptive)
        self._scorer()  # says at once if the model will not do
        self.last_scorer: TreeScorer | None = None
        self.forwards = 0
        self._keep_prompts = False
        self._kept: tuple[list[int], TreeScorer] | None = None
        self._pruned: tuple[list[int], TreeScorer] | None = None

    def reset(self) -> None:
        """Forgets what the drafters and the schedule have learned."""
        for drafter in self.drafters:
            drafter.reset()
        self.schedule = self._new_schedule(self.schedule.adaptive)

    def _new_schedule(self, adaptive: bool) -> Schedule:
        return Schedule(self.max_tree_nodes, self._max_companions, adaptive=adaptive)

    @property
    def _max_companions(self) -> int:
        drafter = self._accompanied
        return 0 if drafter is None or drafter.companions is None else drafter.companions.most

    # -- prompts and budgets ---------------------------------------------------------------------

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt.

        Args:
            prompt: text (tokenized with the tokenizer's defaults), chat messages (by its chat
                template), or token ids: integers, a tensor [n] or [1, n], or what a tokenizer
                returns for one text.

        Raises:
            TypeError: if it is none of these.
            ValueError: if the prompt is empty, text without a tokenizer, messages without a chat
                template, more than one, or has tokens that the model does not.
        """
        return checked_ids(self.model, prompt_ids(self.tokenizer, prompt))

    def budget(self, prompt_length: int, max_new_tokens: int | None) -> int:
        """The number of new tokens, EOS included.

        Raises:
            BudgetError: if prompt and budget exceed the model's context.
        """
        max_new_tokens = check_count(max_new_tokens, "max_new_tokens", optional=True)
        context = context_length(self.model)
        left = DEFAULT_MAX_NEW_TOKENS if context is None else context - prompt_length
        if max_new_tokens is None and left > 0:
            return min(DEFAULT_MAX_NEW_TOKENS, left)
        wanted = max_new_tokens or 1
        if context is not None and wanted > left:
            raise BudgetError(
                f"the prompt has {prompt_length:,} tokens and max_new_tokens is {wanted:,}, but the "
                f"model's context holds {context:,}; shorten the prompt or lower max_new_tokens",
                needed=prompt_length + wanted,
                available=context,
            )
        return wanted

    def shares(self, prefix: int, rows: int) -> bool:
        """Whether so many rows hold the first ``prefix`` tokens once: where that is faster, or needed.

        Needed it is where ``max_kv_bytes`` is given, so that more rows go side by side.
        """
        wanted = pays(prefix, rows) or (self.max_kv_bytes is not None and rows > 1 and prefix > 0)
        return wanted and TreeScorer(self.model).can_share

    def rows_within(self, rows: int, prefix: int, behind: int) -> int:
        """How many rows go side by side within ``max_rows`` and ``max_kv_bytes``; 0 if not even one.

        Args:
            rows: that would be used.
            prefix: tokens that all rows begin with.
            behind: tokens of each row after them.
        """
        rows = min(rows, self.max_rows)
        if self.max_kv_bytes is None:
            return rows
        room = self.max_kv_bytes // self.bytes_per_token
        if self.shares(prefix, rows):
            return max(min(rows, (room - prefix) // max(behind, 1)), 0)
        return min(rows, room // max(prefix + behind, 1))

    @property
    def bytes_per_token(self) -> int:
        """Memory of what is kept of one token in one row: keys, values, and what drafters read of it."""
        return self._scorer().bytes_per_token

    def _rows_that_fit(self, wanted: int, prefix: int, behind: int) -> int:
        """How many rows the memory allows with whole trees; makes trees smaller before it fails."""
        schedule = self.schedule
        rows = self.rows_within(
            wanted, prefix, behind + schedule.max_nodes + schedule.max_companions
        )
        if rows:
            return rows
        assert self.max_kv_bytes is not None
        each, tokens = self.bytes_per_token, prefix + behind
        room = self.max_kv_bytes // each - tokens
        if room < 0:
            raise no_room(tokens * each, self.max_kv_bytes, tokens)
        schedule.max_nodes = min(schedule.max_nodes, room)
        schedule.max_companions = min(schedule.max_companions, room - schedule.max_nodes)
        return 1

    # -- the loop --------------------------------------------------------------------------------

    def generate(
        self,
        prompt: Prompt,
        target: Target | Callable[[int], Target],
        *,
        n: int = 1,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        choices: Callable[[int], Choices] | None = None,
        on_tokens: OnTokens | None = None,
        stop: Stop | None = None,
        starts: Callable[[int], Start] | None = None,
        observers: Sequence[Callable[[Observation], None]] = (),
        on_end: Callable[[int, Any], None] | None = None,
    ) -> list[Sample]:
        """Draws texts from a target.

        Args:
            prompt: see :meth:`encode`.
            target: what is drawn from; or the target of each sample, by its number.
            n: how many texts; up to ``max_rows`` are written side by side.
            max_new_tokens: of each text, EOS included.
            sampling: temperature and top-p; by default temperature 1.
            seed: for the same texts again; sample i depends on seed and i alone.
            choices: the source of randomness of each sample, by its number, instead of a seed.
            on_tokens: called after each step of a sample with its new tokens.
            stop: asked after every token; where it says so, the text ends there.
            starts: where each sample begins, by its number; at the target's start by default.
            observers: called with everything that a step scored and drew, after the drafters.
            on_end: called with a sample's number and its last state.

        Raises:
            BudgetError: if prompt and budget exceed the model's context, or ``max_kv_bytes``.
        """
        check_count(n, "n")
        ids = self.encode(prompt)
        budget = self.budget(len(ids), max_new_tokens)
        sampling = sampling or Sampling()
        seeds = seeds_of(seed, n)
        draw = choices or (lambda i: Drawn(seeds[i]))

        def begin(number: int) -> _Row:
            own = target(number) if callable(target) else target
            if starts is None:
                start = Start((), own.start())
            else:
                start = starts(number)
            return _Row(
                number=number,
                tokens=[*ids, *start.tokens],
                prompt_length=len(ids),
                left=budget - len(start.tokens),
                target=own,
                state=start.state,
                choices=draw(number),
                stop=stop,
                logprobs=list(start.logprobs),
                drawn=list(start.drawn),
                share=start.share,
                finished=own.is_finished(start.state),
                stats=Stats(lossy=self.acceptance is not None and not sampling.greedy),
            )

        return self._run(begin, n, sampling, on_tokens, observers, on_end)

    def _run(
        self,
        begin: Callable[[int], _Row],
        n: int,
        sampling: Sampling,
        on_tokens: OnTokens | None,
        observers: Sequence[Callable[[Observation], None]],
        on_end: Callable[[int, Any], None] | None,
    ) -> list[Sample]:
        first = begin(0)
        scorer, rows_at_once = self._prepare(first, n)
        prefill = scorer.forwards  # every sample takes part in it, early or late
        active = [first]
        active += [begin(i) for i in range(1, rows_at_once)]
        for row in active:
            row.stats.forwards = prefill
            self._begin(row, active, sampling)
        waiting = iter(range(len(active), n))
        out: dict[int, Sample] = {}
        while active:
            if not any(row.done for row in active):
                for step in self._step(scorer, active, sampling, observers):
                    if on_tokens is not None:
                        on_tokens(step.row.number, step.emitted)
            for slot in reversed(range(len(active))):
                row = active[slot]
                if not row.done:
                    continue
                out[row.number] = self._sample(row)
                if on_end is not None:
                    on_end(row.number, row.state)
                number = next(waiting, None)
                if number is None:
                    del active[slot]
                    scorer.select([i for i in range(scorer.rows) if i != slot])
                else:
                    active[slot] = fresh = begin(number)
                    fresh.stats.forwards = prefill
                    shared = common_length(row.tokens, fresh.tokens)
                    scorer.rollback(slot, min(shared, len(fresh.tokens) - 1, scorer.length(slot)))
                    self._begin(fresh, active, sampling)
        return [out[i] for i in range(n)]

    def _prepare(self, row: _Row, n: int) -> tuple[TreeScorer, int]:
        """A model with the prompt but its last token in the cache, where that is not left to drafts."""
        before = row.tokens[: row.prompt_length - 1]
        behind = 1 + row.left + len(row.new_tokens)
        begun = self._begun(before)
        gone = 0 if begun is None else begun[1].cache.gone[0]
        self.schedule.max_nodes = self.max_tree_nodes
        self.schedule.max_companions = self._max_companions
        rows = self._rows_that_fit(n, len(before) - gone, behind)
        capacity = len(before) + behind + self.schedule.max_nodes + self.schedule.max_companions
        early = rows > 1 or n > 1 or row.prompt_length >= _LONG_PROMPT or self._keep_prompts
        early = early or begun is not None
        scorer = self.read(before, capacity, rows) if early else self._scorer(capacity)
        if rows > 1:
            scorer.cache.expand(rows)
        self.last_scorer = scorer
        return scorer, rows

    def _scorer(self, capacity: int = 1) -> TreeScorer:
        """One row without tokens; hidden states are kept if some drafter wants them."""
        hidden = any(d.wants_hidden for d in self.drafters)
        return TreeScorer(self.model, 1, capacity, keep_hidden=hidden)

    def read(self, before: list[int], capacity: int, rows: int = 1) -> TreeScorer:
        """A scorer of one row that has read some tokens; within :meth:`same_prompt` they are kept.

        Args:
            before: the tokens.
            capacity: tokens a row is to have room for, these included.
            rows: that will be made of it; they share these tokens where :meth:`shares` says so.
        """
        shared = self.shares(len(before), rows)
        begun = self._begun(before)
        if begun is not None:
            scorer = begun[1].fork(capacity)
            self._read_on(scorer, before[len(begun[0]) :])
        else:
            scorer = self._scorer(len(before) if shared else capacity)
            self._read_on(scorer, before)
            if shared:
                scorer.share(capacity - len(before))
            if self._keep_prompts:
                kept = scorer.fork(len(before))
                kept.share(0)  # so that forks of it copy nothing
                self._kept = before, kept
        if shared:
            scorer.share(capacity - len(before))
        else:
            scorer.cache.unshare()
        return scorer

    def _read_on(self, scorer: TreeScorer, tokens: list[int]) -> None:
        if tokens:
            scorer.score([Request(tokens, Tree(None))])
            scorer.commit([[]])
            self.forwards += 1

    def _begun(self, before: list[int]) -> tuple[list[int], TreeScorer] | None:
        """Who has read some tokens, or their beginning with some keys and values dropped."""
        if self._pruned is not None and before[: len(self._pruned[0])] == self._pruned[0]:
            return self._pruned
        return self._kept if self._kept is not None and self._kept[0] == before else None

    @contextmanager
    def has_read(self, pruned: Pruned | None) -> Iterator[None]:
        """Within, prompts that begin with tokens that were read go on with what is left of their cache.

        That is LOSSY: see ``docs/long-texts.md``.

        Args:
            pruned: what is left; ``None``: prompts are read as ever.

        Raises:
            UnsupportedModel: if the model attends by windows, or a drafter reads hidden states.
        """
        if pruned is None:
            yield
            return
        scorer = self._scorer(pruned.kept)
        scorer.fill(pruned.layers, len(pruned.ids))
        scorer.share(0)  # so that forks of it copy nothing
        outer, self._pruned = self._pruned, (pruned.ids, scorer)
        try:
            yield
        finally:
            self._pruned = outer

    @contextmanager
    def same_prompt(self) -> Iterator[None]:
        """Keeps the keys and values of the last prompt between calls of :meth:`generate` within."""
        outer, self._keep_prompts = self._keep_prompts, True
        try:
            yield
        finally:
            self._keep_prompts = outer
            if not outer:
                self._kept = None

    def _begin(self, row: _Row, active: Sequence[_Row], sampling: Sampling) -> None:
        context = self._context(active.index(row), row, Tree(row.state), sampling, None)
        for drafter in self.drafters:
            drafter.begin(context)

    def _context(
        self, slot: int, row: _Row, tree: Tree, sampling: Sampling, scorer: TreeScorer | None
    ) -> Context:
        pending = row.tokens[scorer.length(slot) :] if scorer is not None else row.tokens
        return Context(
            row=slot,
            tokens=row.tokens,
            prompt_length=row.prompt_length,
            tokens_left=row.left,
            target=row.target,
            tree=tree,
            room=_CANDIDATES * self.schedule.max_nodes,
            sampling=sampling,
            choices=row.choices,
            tokenizer=self.tokenizer,
            pending=pending,
            scorer=scorer,
            hidden=None if scorer is None else scorer.hidden(slot),
        )

    # -- one step --------------------------------------------------------------------------------

    def _step(
        self,
        scorer: TreeScorer,
        active: Sequence[_Row],
        sampling: Sampling,
        observers: Sequence[Callable[[Observation], None]],
    ) -> list[_Step]:
        began = time.perf_counter()
        asked = self._neural(len(active))
        contexts = [
            self._context(i, row, Tree(row.state), sampling, scorer) for i, row in enumerate(active)
        ]
        for row, context in zip(active, contexts, strict=True):
            before = time.perf_counter()
            self._draft(context, asked)
            row.stats.draft_seconds += time.perf_counter() - before
        drafted = [c.tree for c in contexts]
        pending = max(len(c.pending) for c in contexts)
        trees = self.schedule.choose(drafted, pending)
        steps = [
            _Step(row, context, everything, tree, attached)
            for row, context, everything, tree, attached in zip(
                active,
                contexts,
                drafted,
                trees,
                self._attach(contexts, trees, pending),
                strict=True,
            )
        ]
        scores = self._score(scorer, steps, pending)
        for slot, step in enumerate(steps):
            self._verify(slot, step, scores, sampling)
        scorer.commit([step.path for step in steps])
        for slot, step in enumerate(steps):
            self._learn(slot, step, scores, observers)
        if any(d.runs_model for d in self.drafters) and pending == 1:
            tokens = sum(len(s.emitted) for s in steps)
            self.schedule.earned(asked, tokens, time.perf_counter() - began)
        return steps

    def _neural(self, rows: int) -> str | None:
        able = [d.name for d in self.drafters if d.runs_model and not (d.one_row and rows > 1)]
        return self.schedule.wanted(able)

    def _draft(self, context: Context, asked: str | None) -> None:
        """Drafts of all drafters; those that draw come first, since they need whole families."""
        if self.schedule.max_nodes == 0:
            return
        for drafter in sorted(self.drafters, key=lambda d: not d.draws):
            if drafter.runs_model and drafter.name != asked:
                continue
            if drafter.draws:  # what is drawn is never cut: it must fit as it is
                context.room = self.schedule.max_nodes - len(context.tree)
            try:
                drafter.propose(context)
            except (LimitExceeded, UnknownStateError):
                if drafter.draws:  # leaving out what was drawn would change the law
                    raise
                # a guess that is too dear: what was drafted until then is as good as any
            if drafter.draws:
                context.room = _CANDIDATES * self.schedule.max_nodes - len(context.tree)

    def _attach(
        self, contexts: Sequence[Context], trees: Sequence[Tree], pending: int
    ) -> list[list[Attached]]:
        """The companions of each row, for the drafter that wants some."""
        drafter = self._accompanied
        if drafter is None or drafter.companions is None or self.schedule.max_nodes == 0:
            return [[] for _ in trees]
        useful = [_going_on(c, tree) for c, tree in zip(contexts, trees, strict=True)]
        gains = drafter.companion_gains()
        return self.schedule.attach(trees, useful, pending, gains, drafter.companions.strands)

    def _score(self, scorer: TreeScorer, steps: Sequence[_Step], pending: int) -> Scores:
        requests = [Request(s.context.pending, s.tree, s.attached) for s in steps]
        companions = None if self._accompanied is None else self._accompanied.companions
        began = time.perf_counter()
        scores = scorer.score(requests, companions=companions)
        self.forwards += 1
        if pending == 1:
            behind = 0 if companions is None else companions.strands
            beside = max(behind * sum(a.count for a in s.attached) for s in steps)
            size = len(steps) * (1 + max(len(s.tree) for s in steps) + beside)
            self.schedule.costs.record(size, time.perf_counter() - began)
        return scores

    def _verify(self, slot: int, step: _Step, scores: Scores, sampling: Sampling) -> None:
        row, tree = step.row, step.tree
        node: int | None = ROOT
        while node is not None and not row.done:
            if self.acceptance is not None and row.new_tokens:
                node = self._typical(slot, step, node, scores, sampling)
                if node is None:
                    break
            law = self._law(row, scores.at(slot, node), sampling)
            if self.acceptance is None:
                token, child = next_token(tree, node, law, row.choices)
            else:
                token = law.token(row.choices.pick(law.weights))
                child = tree.child(node, token)
            self._take(step, node, law, token, child)
            node = child
        self._count(step)

    def _typical(
        self, slot: int, step: _Step, node: int, scores: Scores, sampling: Sampling
    ) -> int | None:
        """Takes the longest path of typical tokens below a node.

        Returns:
            The last node of it, or the node itself; ``None`` where the text is done.
        """
        row, tree = step.row, step.tree
        assert self.acceptance is not None
        depth, laws = tree.depth(node), dict[int, Law]()

        def law_after(at: int) -> Law | None:
            state = row.state if at == node else tree.state(at)
            left = row.left - (tree.depth(at) - depth)
            if left <= 0 or row.target.is_finished(state):
                return None
            ahead = tree.tokens_to(at)[depth:]
            laws[at] = self._law_of(row, state, left, ahead, scores.at(slot, at), sampling)
            return laws[at]

        last = node
        for child in longest(tree, node, self.acceptance, law_after):
            self._take(step, last, laws[last], tree.nodes[child].token, child)
            last = child
            if row.done:
                return None
        return last

    def _take(self, step: _Step, node: int, law: Law, token: int, child: int | None) -> None:
        """Appends a token after a node; ``child`` has it, if it was drafted."""
        row, tree = step.row, step.tree
        index = law.index(token)
        assert index is not None
        row.logprobs.append(float(law.model[index]))
        row.drawn.append(float(law.constrained[index]) + row.share)
        row.share = 0.0
        row.tokens.append(token)
        row.left -= 1
        row.state = tree.state(child) if child is not None else None
        if row.state is None:
            row.state = row.target.advance(tree.state(node), token)
        row.finished = row.target.is_finished(row.state)
        step.emitted.append(token)
        step.states.append(row.state)
        row.stopped = row.stop is not None and row.stop(row.tokens)
        if child is not None:
            step.path.append(child)

    def _law(self, row: _Row, logits: torch.Tensor, sampling: Sampling) -> Law:
        return self._law_of(row, row.state, row.left, (), logits, sampling)

    def _law_of(
        self,
        row: _Row,
        state: Any,
        left: int,
        ahead: Sequence[int],
        logits: torch.Tensor,
        sampling: Sampling,
    ) -> Law:
        """The law after a row's text and some tokens more, with the target's state behind them."""
        began = time.perf_counter()
        weighting = row.target.weighting(state, left)
        row.stats.mask_seconds += time.perf_counter() - began
        if sampling.processors is None:
            return law_of(logits, weighting, sampling)
        return _processed([*row.tokens, *ahead], logits, weighting, sampling)

    def _count(self, step: _Step) -> None:
        stats = step.row.stats
        stats.forwards += 1
        stats.tokens += len(step.emitted)
        stats.drafted += len(step.tree)
        stats.accepted += len(step.path)
        accepted = set(step.path)
        for number, node in enumerate(step.tree.nodes):
            for source in node.scores:
                count = stats.count(source)
                count.drafted += 1
                count.accepted += number in accepted

    def _learn(
        self,
        slot: int,
        step: _Step,
        scores: Scores,
        observers: Sequence[Callable[[Observation], None]],
    ) -> None:
        self.schedule.record(step.drafted, step.emitted)
        context = step.context
        context.tokens = context.tokens[: len(context.tokens) - len(step.emitted)]
        seen = Observation(
            context, step.tree, step.path, step.emitted, step.states, scores, slot, step.row.number
        )
        for drafter in self.drafters:
            with suppress(
                UnknownStateError
            ):  # another thread made room: there is less to learn from
                drafter.observe(seen)
        for observer in observers:
            observer(seen)

    def _sample(self, row: _Row) -> Sample:
        return Sample(
            token_ids=row.new_tokens,
            text=self._text(row),
            logprob=math.fsum(row.logprobs),
            constrained_logprob=math.fsum(row.drawn),
            complete=row.finished,
            stats=row.stats,
            token_logprobs=row.logprobs,
            token_constrained_logprobs=row.drawn,
        )

    def _text(self, row: _Row) -> str:
        tokens = row.new_tokens
        if row.finished:
            tokens = tokens[:-1]
        automaton = row.target.automaton
        if automaton is not None:
            return automaton.vocabulary.decode(tokens).decode("utf-8", "replace")
        if self.tokenizer is None:
            return ""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def check_backend(value: Any, place: str, *, lossy: bool = False) -> SpeculativeBackend:
    """A backend.

    Args:
        value: what was given.
        place: who asks, for messages.
        lossy: whether one that accepts typical tokens will do.

    Raises:
        TypeError: if it is anything else; says how to make one.
        LossyDraws: if it accepts typical tokens, and that will not do.
    """
    if isinstance(value, SpeculativeBackend):
        if value.acceptance is not None and not lossy:
            raise LossyDraws(
                f"{place} needs exact draws, but the backend was made with acceptance="
                f"{value.acceptance}, which is lossy; make one without acceptance"
            )
        return value
    hint = "; make one: SpeculativeBackend(model, tokenizer)" if hasattr(value, "forward") else ""
    raise TypeError(f"{place} needs a SpeculativeBackend, not {described(value)}{hint}")


def no_room(needed: int, available: int, tokens: int) -> BudgetError:
    """The error that says that keys and values of one row do not fit, in bytes."""
    return BudgetError(
        f"keys and values of {tokens:,} tokens take {needed:,} bytes, but max_kv_bytes is "
        f"{available:,}; raise it, or lower max_new_tokens",
        needed=needed,
        available=available,
    )


def _drafters(given: Any) -> list[Drafter]:
    if isinstance(given, Drafter):
        raise TypeError(f"drafters is a list of drafters; give [{type(given).__name__}(...)]")
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"drafters is a list of drafters, not {described(given)}")
    for drafter in given:
        if not isinstance(drafter, Drafter):
            hint = "; make one of it: DraftModel(model)" if hasattr(drafter, "forward") else ""
            raise TypeError(f"a drafter is needed, not {described(drafter)}{hint}")
    return list(given)


def _accompanied(drafters: Sequence[Drafter]) -> Drafter | None:
    """The drafter that wants companion positions, if one does."""
    found = [drafter for drafter in drafters if drafter.companions is not None]
    if len(found) > 1:
        names = ", ".join(drafter.name for drafter in found)
        raise ValueError(f"{names}: only one drafter of a backend may want companion positions")
    return found[0] if found else None


def _going_on(context: Context, tree: Tree) -> list[int]:
    """The nodes of a tree, or ``ROOT``, after which more than one token may come."""
    nodes = [ROOT, *range(len(tree))]
    return [
        node
        for node in nodes
        if tree.depth(node) + 1 < context.tokens_left
        and tree.state(node) is not None
        and not context.target.is_finished(tree.state(node))
    ]


def _processed(
    prefix: Sequence[int], logits: torch.Tensor, weighting: Weighting, sampling: Sampling
) -> Law:
    """The law with processors, which see the weighted logits as they do in ``generate``."""
    assert sampling.processors is not None
    ids = slice(None) if weighting.ids is None else torch.from_numpy(weighting.ids)
    scores = torch.full_like(
        logits, -torch.inf, dtype=torch.promote_types(logits.dtype, torch.float32)
    )
    scores[ids] = logits[ids].to(scores.dtype)
    if weighting.log_weights is not None:
        scores[ids] += torch.from_numpy(weighting.log_weights).to(scores.dtype)
    allowed = Weighting(weighting.ids)
    out = sampling.processors(torch.tensor([list(prefix)]), scores[None])[0]
    try:
        return law_of(out, allowed, sampling)
    except EmptyLaw:
        # another processor ruled out all that the target allows: leave the choice among it
        return law_of(torch.zeros_like(scores), allowed, sampling)


_CANDIDATES: Final = 4
"""Drafts gathered for each place in a tree."""
