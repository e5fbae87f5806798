"""Deco-G and Ctrl-G: the model's law, tilted towards prefixes after which the format is likely.

With h a prefix, p the language model at the sampling temperature and q a hidden Markov model of it, the
next token is drawn from

    p~(x | h)  proportional to  p(x | h) q(format | h, x)  over the tokens x of the mask,

where q(format | h, x) is the probability that the text is completed, EOS included, within the tokens
left.  The automaton guarantees the format; q only says how likely each way to it is.  So the prompt need
not mention the format at all.

With A(z) = q(z_next | h), k the tokens left, s' the automaton's state after x and T of
:mod:`samplers.deco_g.tables`,

    q(format | h, x) = sum_z A(z) emission[z, x] T[k-1, s', z] / sum_z A(z) emission[z, x].

**What q cannot say.**  A token that q never emits after h (or does not know) counts as one that was not
observed: its factor is sum_z A(z) T[k-1, s', z], and the filter passes over it.  Where every allowed
token gets the factor zero, the mask alone decides; ``FormatGuidance.fallbacks`` counts these places.

**Pruning** (Deco-G).  Of A the largest entries are kept, as many as hold a share of its mass, and the rows
of emission and T with them.  A sharp A takes a few states and a flat one many, so that what is lost is
bounded at each token.  The filter itself is never pruned: errors do not add up.

Sources: Zhang et al. 2024, "Adaptable Logical Control for Large Language Models" (Ctrl-G), section 3, for
the law and the recursion; Deng, Kung and Peng 2025, "Decoupling Task-Solving and Output Formatting in LLM
Generation" (Deco-G, October 2025), method section, for the prompt without the format and for pruning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final

import numpy as np

from constrain.arrays import Int64
from constrain.automaton import TokenAutomaton, check_automaton
from constrain.canonical.copies import as_written
from constrain.healing import Healed
from constrain.huggingface.processor import check_budget
from grammars.errors import BudgetError
from samplers.backend import Prompt, SpeculativeBackend, check_backend
from samplers.deco_g import _kernels
from samplers.deco_g.format import NOWHERE, FormatAutomaton, Split
from samplers.deco_g.hmm import HMM, TokenizerMismatch, fingerprint_of
from samplers.deco_g.tables import Doubles, Horizon, Level, Reals, Tables
from samplers.healing import asked, without_prefixes
from samplers.options import Sampler, SamplingOptions
from samplers.progress import bar
from samplers.report import FormatGuidance, FormatReport
from samplers.sample import Sample
from samplers.speculative.law import Sampling
from samplers.speculative.target import Weighting

TOP_MASS: Final = 0.97
"""Measured beside other shares in docs/benchmarks/sampling.md."""
MAX_TABLE_BYTES: Final = 2 << 30
_DENSE: Final = 16
"""Where a part has more than one in so many tokens, sums over all tokens in a row are faster."""


@dataclass(eq=False)
class _Note:
    """What happened at one token of a text; the chain of them outlives the states."""

    before: _Note | None
    retained: float = 1.0
    states: int = 0
    fell_back: bool = False

    def back(self) -> Iterator[_Note]:
        """From here to the first one."""
        at: _Note | None = self
        while at is not None:
            yield at
            at = at.before


@dataclass(eq=False)
class State:
    """A prefix: where it is in the format, and its filter.

    Attributes:
        number: of the format's state; its number of states once the text has ended.
        filter: what gives [H], q(z_next | prefix), when it is first needed: most drafts never do.
        note: for the report.
    """

    number: int
    filter: Callable[[], Reals] | None
    note: _Note
    _vector: Reals | None = None
    _weighting: tuple[int, Weighting] | None = None

    @property
    def vector(self) -> Reals:
        """[H], q(z_next | prefix); never written to."""
        if self._vector is None:
            assert self.filter is not None
            self._vector = self.filter()
            self.filter = None  # it holds the state before
        return self._vector


@dataclass(frozen=True, eq=False)
class _Beam:
    """The hidden states that count.

    Attributes:
        kept: int64[m], ascending.
        weights: [m], their share of A, adding up to one.
        retained: what they had of A.
    """

    kept: Int64
    weights: Reals
    retained: float


class FormatTarget:
    """The law of the module, as what the backend draws from.

    Args:
        tables: of the format and the hidden Markov model.
        horizon: for the budget.
        initial: [H], q(z_1).
        top_mass: the hidden states kept at each token are the fewest that hold this share.
        top_states: at most so many; ``None`` for any number.
    """

    def __init__(
        self,
        tables: Tables,
        horizon: Horizon,
        initial: Reals,
        top_mass: float,
        top_states: int | None,
    ) -> None:
        self._format: Final = tables.format
        self.automaton: TokenAutomaton | None = tables.format.automaton
        self._tables: Final = tables
        self._horizon: Final = horizon
        self._initial: Final = initial
        self._mass = top_mass
        self._top = len(initial) if top_states is None else min(top_states, len(initial))
        vocabulary = tables.format.automaton.vocabulary
        self._eos = np.array(vocabulary.eos_token_ids, np.int64)
        self._ends = frozenset(vocabulary.eos_token_ids)
        self._buffers = np.empty((2, tables.emission.shape[1]), tables.emission.dtype)

    # -- the automaton of prefixes -------------------------------------------------------------

    def start(self) -> State:
        """Nothing is written yet."""
        return State(0, lambda: self._initial, _Note(None))

    def advance(self, state: State, token: int) -> State | None:
        """The prefix with one token more; ``None`` if the format does not allow it."""
        end = self._format.states
        if state.number == end:
            return None
        if token in self._ends:
            after = end if self._format.accepting[state.number] else NOWHERE
        else:
            after = self._format.after(state.number, token)
        if after == NOWHERE:
            return None
        return State(after, lambda: self._observe(state, token), _Note(state.note))

    def is_finished(self, state: State) -> bool:
        """Whether EOS came."""
        return state.number == self._format.states

    def grammar_state(self, state: State) -> int:
        """The automaton's state."""
        if state.number == self._format.states:
            return self._format.automaton.FINISHED
        return self._format.raw(state.number)

    def _observe(self, state: State, token: int) -> Reals:
        """A after a token: one step of the filter."""
        vector, emission = state.vector, self._tables.emission
        if token < emission.shape[1]:
            column = emission[:, token]
            top = column.max()
            if top > 0:
                # divided by its largest entry first: the product of two small numbers may not be one
                joint = vector * (column / top)
                total = joint.sum()
                if total >= np.finfo(joint.dtype).tiny:
                    vector = joint / total
        moved: Reals = vector @ self._tables.transition
        moved /= moved.sum()
        return moved

    # -- weights -------------------------------------------------------------------------------

    def weighting(self, state: State, tokens_left: int) -> Weighting:
        """Log-weights log q(format | prefix, token) of what the mask allows."""
        known = state._weighting
        if known is None or known[0] != tokens_left:
            known = state._weighting = (tokens_left, self._weigh(state, tokens_left))
        return known[1]

    def log_format(self, state: State, tokens_left: int) -> float:
        """The logarithm of q(format | prefix), all hidden states counted; ``-inf`` if it is impossible.

        Args:
            state: of the prefix.
            tokens_left: EOS included, at most the budget.
        """
        row, log = self._tables.completion(self._horizon, state.number, tokens_left)
        found = float(state.vector.astype(np.float64) @ row.astype(np.float64))
        return math.log(found) + log if found > 0 else -math.inf

    def _weigh(self, state: State, left: int) -> Weighting:
        number, f = state.number, self._format
        if left <= 0 or number == f.states:
            return Weighting(np.zeros(0, np.int64), np.zeros(0))
        level = self._horizon.levels[left - 1]
        split, targets = f.splits[f.split_of[number]], f.targets[number]
        beam = self._beam(state.vector)
        state.note.retained, state.note.states = beam.retained, len(beam.kept)
        ids, logs = split.tokens, self._ratios(split, targets, level, beam)
        alive = level.alive[targets]
        if not alive.all():
            kept = alive[split.group]
            ids, logs = ids[kept], logs[kept]
        ids = ids.astype(np.int64)
        if f.accepting[number] and left <= self._horizon.last_end:
            # an ended text is complete, whatever the hidden Markov model thinks of its end
            at = np.searchsorted(ids, self._eos)
            ids, logs = np.insert(ids, at, self._eos), np.insert(logs, at, 0.0)
        possible = np.isfinite(logs)
        state.note.fell_back = bool(len(ids)) and not possible.any()
        if state.note.fell_back:
            return Weighting(ids)
        return Weighting(ids, logs) if possible.all() else Weighting(ids[possible], logs[possible])

    def _beam(self, vector: Reals) -> _Beam:
        if self._mass >= 1 and self._top >= len(vector):
            return _Beam(np.arange(len(vector)), vector, 1.0)
        order = np.argsort(-vector, kind="stable")
        enough = 1 + int(np.searchsorted(np.cumsum(vector[order], dtype=np.float64), self._mass))
        kept = np.sort(order[: min(self._top, enough)])
        weights = vector[kept]
        total = weights.sum(dtype=np.float64)
        return _Beam(kept, weights / weights.dtype.type(total), min(1.0, float(total)))

    def _ratios(self, split: Split, targets: Int64, level: Level, beam: _Beam) -> Doubles:
        """float64[n], log q(format | prefix, token) of the tokens of a split."""
        if not len(targets):
            return np.zeros(0)
        ahead, scale = _rescaled(level, targets, beam)
        num, den = self._sums(split, beam, ahead)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = num / den
            missing = np.flatnonzero(den == 0)
            if len(missing):
                ratio[missing] = (ahead @ beam.weights)[split.group[missing]]
            logs: Doubles = np.log(ratio).astype(np.float64)
        logs += scale[split.group]
        return logs

    def _sums(self, split: Split, beam: _Beam, ahead: Reals) -> tuple[Reals, Reals]:
        """[n] each, of the tokens of a split: numerators and denominators."""
        emission = self._tables.emission
        main, rest = split.main, split.rest
        out = np.empty((2, len(split.tokens)), emission.dtype)
        if len(main.at) * _DENSE < emission.shape[1]:
            _kernels.gather(
                emission, beam.kept, beam.weights, ahead, split.tokens, split.group, out[0], out[1]
            )
            return out[0], out[1]
        rows = self._buffers
        _kernels.dense(emission, beam.kept, beam.weights, ahead[main.group[0]], rows[0], rows[1])
        known = int(np.searchsorted(main.tokens, emission.shape[1]))
        for found, row in zip(out, rows, strict=True):
            found[main.at[:known]] = row[main.tokens[:known]]
            found[main.at[known:]] = 0
        if len(rest.at):
            sums = np.empty((2, len(rest.at)), emission.dtype)
            _kernels.gather(
                emission, beam.kept, beam.weights, ahead, rest.tokens, rest.group, sums[0], sums[1]
            )
            out[:, rest.at] = sums
        return out[0], out[1]


def _rescaled(level: Level, targets: Int64, beam: _Beam) -> tuple[Reals, Doubles]:
    """T at the targets and the hidden states kept, [g, m], divided by exp of float64[g]."""
    # NOWHERE takes the last row, that of the end; its tokens are left out later
    pruned = len(beam.kept) < level.values.shape[1]
    rows = level.values[targets[:, None], beam.kept] if pruned else level.values[targets]
    top = rows.max(1, keepdims=True)
    with np.errstate(divide="ignore"):
        scale = level.logs[targets] + np.log(top[:, 0].astype(np.float64))
    return np.divide(rows, top, out=np.zeros_like(rows), where=top > 0), scale


class DecoG(Sampler):
    """Draws texts from the model's law, tilted by how likely the format is met; see the module.

    Every text is complete within the budget.  The hidden Markov model is to be one of what the model
    writes after prompts like those at hand (``HMM.fit`` with prompts).

    Tables take (budget + 1) x states of the format x H x 4 bytes, made when a budget is first asked
    for and used again for later calls: give ``max_new_tokens``, for its default is 512 or what the
    context leaves.

    Args:
        backend: the model with its drafters, which change nothing of what is drawn.
        automaton: the format over the model's vocabulary, with room for all of its states.
        hmm: of the same tokenizer.
        top_mass: the hidden states kept at each token are the fewest that hold this share of the
            probability; 1 for all.
        top_states: at most so many are kept, whatever they hold; ``None`` for any number.
        min_new_tokens: the fewest tokens of a text, EOS included.
        max_table_bytes: bound on the tables.
        progress: whether bars are shown on standard error where tables take long.
        canonical: texts are written as the tokenizer writes them, see
            :class:`~constrain.TokenAutomaton`.  The format then has a state for each token that may come
            before: for formats of few texts (``LimitExceeded`` says so for others).  A budget that is
            met in other ways of writing only is refused.

    Attributes:
        report: what the last call did, and the hidden Markov model for each of its samples.

    Raises:
        TokenizerMismatch: if the hidden Markov model was fitted with another tokenizer, or never emits
            an EOS of the automaton's.
        ValueError: if a number is out of range.
    """

    report: FormatReport

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        hmm: HMM,
        *,
        top_mass: float = TOP_MASS,
        top_states: int | None = None,
        min_new_tokens: int = 1,
        max_table_bytes: int = MAX_TABLE_BYTES,
        progress: bool = False,
        canonical: bool = False,
    ) -> None:
        if top_states is not None and top_states < 1:
            raise ValueError(f"top_states={top_states}: must be at least 1, or None for any number")
        if not 0 < top_mass <= 1:
            raise ValueError(f"top_mass={top_mass}: must be above 0 and at most 1")
        if min_new_tokens < 1:
            raise ValueError(f"min_new_tokens={min_new_tokens}: must be at least 1")
        _check_tokens(check_automaton(automaton, type(self).__name__), hmm)
        self.backend = check_backend(backend, type(self).__name__)
        self.automaton = as_written(automaton, canonical)
        self.hmm = hmm
        self.top_mass = top_mass
        self.top_states = top_states
        self.min_new_tokens = min_new_tokens
        self.max_table_bytes = max_table_bytes
        self.progress = progress
        self.report = self.new_report()
        self._tables: Tables | None = None
        self._healed: tuple[bytes, DecoG] | None = None

    def new_report(self) -> FormatReport:
        """A report of nothing yet."""
        return FormatReport(type(self).__name__)

    @property
    def nbytes(self) -> int:
        """Memory of format and tables so far, in bytes."""
        own = 0 if self._tables is None else self._tables.nbytes + self._tables.format.nbytes
        return own if self._healed is None else own + self._healed[1].nbytes

    def draw(self, prompt: Prompt, n: int, options: SamplingOptions) -> list[Sample]:
        """Draws texts; ``report.guidance`` then has one entry for each.

        Tables grow with the budget.  The temperature is that of the model's own law: the factors
        q(format | ...) are not tempered.  With ``heal=True`` tables are made for the latest beginning
        as well; the hidden Markov model knows texts without one, so that its guesses about the first
        tokens are worse.

        Raises:
            BudgetError: if no text fits the budget, or the tables ``max_table_bytes``.
            LimitExceeded: if the format has too many states.
        """
        healed = asked(self.backend, prompt, self.automaton, options.heal)
        budget = self.backend.budget(len(healed.prompt), options.max_new_tokens)
        target = self._behind(healed).target(budget)
        found: dict[int, FormatGuidance] = {}
        log_format = target.log_format(target.start(), budget)

        def ended(number: int, state: State) -> None:
            found[number] = _guidance(log_format, state)
            advance(1)

        with bar(options.progress, "samples", n) as advance:
            samples = self.backend.generate(
                healed.prompt,
                target,
                n=n,
                max_new_tokens=budget,
                sampling=Sampling(options.temperature, options.top_p),
                seed=options.seed,
                on_tokens=options.on_tokens,
                on_end=ended,
            )
        for sample in samples:
            sample.method = type(self).__name__
        self.report.guidance = [found[i] for i in range(n)]
        return without_prefixes(samples, healed)

    def _behind(self, healed: Healed) -> DecoG:
        """The sampler of texts that begin with what was taken off a prompt; the latest is kept."""
        if not healed.prefix:
            return self
        known = self._healed
        if known is None or known[0] != healed.prefix:
            made = copy(self)
            made.automaton, made._tables, made._healed = healed.automaton, None, None
            known = self._healed = healed.prefix, made
        return known[1]

    def format_probability(self, tokens: Sequence[int] = (), *, max_new_tokens: int) -> float:
        """q(format | prefix): that of completing a text, EOS included, within the tokens left.

        Under the hidden Markov model alone, and without pruning.

        Args:
            tokens: the prefix: new tokens, the prompt's not among them.
            max_new_tokens: the budget of the whole text, EOS included.

        Raises:
            BudgetError: as :meth:`sample` does.
            LimitExceeded: likewise.
        """
        return math.exp(self.log_format_probability(tokens, max_new_tokens=max_new_tokens))

    def log_format_probability(self, tokens: Sequence[int] = (), *, max_new_tokens: int) -> float:
        """The natural logarithm of :meth:`format_probability`, ``-inf`` for none."""
        target = self.target(max_new_tokens)
        state: State | None = target.start()
        for token in tokens:
            state = None if state is None else target.advance(state, token)
        if state is None:
            return -math.inf
        if target.is_finished(state):
            fits = self.min_new_tokens <= len(tokens) <= max_new_tokens
            return 0.0 if fits else -math.inf
        return target.log_format(state, max_new_tokens - len(tokens))

    def target(self, max_new_tokens: int) -> FormatTarget:
        """What is drawn from, for ``SpeculativeBackend.generate`` with the same budget.

        Raises:
            BudgetError: if no text fits, or the tables exceed ``max_table_bytes``.
            LimitExceeded: if the format has too many states.
        """
        check_budget(self.automaton, max_new_tokens)
        if self.min_new_tokens > max_new_tokens:
            raise BudgetError(
                f"min_new_tokens is {self.min_new_tokens}, but max_new_tokens is {max_new_tokens}; "
                "raise the one or lower the other",
                needed=self.min_new_tokens,
                available=max_new_tokens,
            )
        tables = self._tables_for(max_new_tokens)
        horizon = tables.within(max_new_tokens, self.min_new_tokens)
        if not horizon.levels[max_new_tokens].alive[0]:
            raise BudgetError(
                f"no text of this grammar has {self.min_new_tokens} to {max_new_tokens} tokens, EOS "
                "included; lower min_new_tokens or raise max_new_tokens",
                needed=self.min_new_tokens,
                available=max_new_tokens,
            )
        initial = self.hmm.initial.cpu().numpy()
        return FormatTarget(tables, horizon, initial, self.top_mass, self.top_states)

    def _tables_for(self, budget: int) -> Tables:
        known = self._tables
        if known is not None and (known.format.is_complete or budget <= known.format.budget):
            self._check_size(known.format.states, budget)
            return known
        found = FormatAutomaton(
            self.automaton, budget, check=lambda states: self._check_size(states, budget)
        )
        known = self._tables = Tables(found, self.hmm, progress=self.progress)
        return known

    def _check_size(self, states: int, budget: int) -> None:
        width = self.hmm.states * self.hmm.emission.element_size()
        needed = (budget + 1) * (states + 1) * width
        if needed > self.max_table_bytes:
            raise BudgetError(
                f"{budget:,} tokens x {states:,} states of the format (at least) x {self.hmm.states:,} "
                f"hidden states take tables of {needed:,} bytes, but max_table_bytes is "
                f"{self.max_table_bytes:,}; raise it, lower max_new_tokens, or simplify the format "
                "(counted repetition costs a state for each count)",
                needed=needed,
                available=self.max_table_bytes,
            )


class CtrlG(DecoG):
    """Draws texts as Ctrl-G does: the law of :class:`DecoG` with all hidden states.

    The baseline: in the paper its hidden Markov model is fitted on text written without prompts
    (``HMM.fit(model, tokenizer, None)``), and the model's prompt describes the format as well.

    Args:
        backend: the model with its drafters.
        automaton: the format over the model's vocabulary.
        hmm: of the same tokenizer.
        min_new_tokens: the fewest tokens of a text, EOS included.
        max_table_bytes: bound on the tables.
        progress: whether bars are shown on standard error where tables take long.
        canonical: as :class:`DecoG` takes it.

    Raises:
        TokenizerMismatch: as :class:`DecoG` does.
        ValueError: likewise.
    """

    def __init__(
        self,
        backend: SpeculativeBackend,
        automaton: TokenAutomaton,
        hmm: HMM,
        *,
        min_new_tokens: int = 1,
        max_table_bytes: int = MAX_TABLE_BYTES,
        progress: bool = False,
        canonical: bool = False,
    ) -> None:
        super().__init__(
            backend,
            automaton,
            hmm,
            top_mass=1.0,
            min_new_tokens=min_new_tokens,
            max_table_bytes=max_table_bytes,
            progress=progress,
            canonical=canonical,
        )


def _guidance(log_format: float, state: State) -> FormatGuidance:
    """Of a text that has ended: its last state was never weighed."""
    notes = [] if state.note.before is None else list(state.note.before.back())
    retained = [note.retained for note in notes] or [1.0]
    states = sum(note.states for note in notes) / max(len(notes), 1)
    fallbacks = sum(note.fell_back for note in notes)
    mean = math.fsum(retained) / len(retained)
    return FormatGuidance(log_format, mean, min(retained), states, fallbacks)


def _check_tokens(automaton: TokenAutomaton, hmm: HMM) -> None:
    vocabulary = automaton.vocabulary
    if hmm.fingerprint is not None and hmm.fingerprint != fingerprint_of(vocabulary):
        raise TokenizerMismatch(
            "the hidden Markov model was fitted with another tokenizer than the automaton's: fit one "
            "with this tokenizer, or use the automaton of the model that it was fitted to"
        )
    ends = [t for t in vocabulary.eos_token_ids if t < hmm.vocabulary_size]
    if not ends or not bool(hmm.emission[:, ends].sum() > 0):
        raise TokenizerMismatch(
            f"the hidden Markov model never emits an EOS id of the vocabulary "
            f"{vocabulary.eos_token_ids}, so that no text of it would be complete: fit one to this "
            "model, with its EOS ids"
        )
