"""Filling canvases with a diffusion language model, so that every text is in the grammar's language."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from constrain.automaton import TokenAutomaton
from grammars.errors import LimitExceeded
from grammars.grammar import Grammar
from samplers.diffusion.canvas import Part
from samplers.diffusion.dingo import Dingo
from samplers.diffusion.draft import Draft, Logits, Rules, Solver
from samplers.diffusion.layout import Layout, NoCompletion
from samplers.diffusion.learn2pd import BLOCK, EPOCHS, Trained, train_filter
from samplers.diffusion.lengths import choose_lengths
from samplers.diffusion.model import Frame, MaskedModel, Prompt
from samplers.diffusion.schedule import FreeDave, Schedule, Threshold
from samplers.sample import Sample, Stats

if TYPE_CHECKING:
    from samplers.diffusion.completability import Completability, OpenCanvas

OnStep: TypeAlias = Callable[[int, Sequence[int]], None]
"""Called with the number of a text and its token ids, open places as the mask token."""

BATCH: Final = 16
"""Canvases given to the model together."""


class DiffusionInfiller:
    """Fills canvases of fixed text, masks and gaps.

    Tokens are proposed by the model for all masks at once; a schedule says which are committed; the
    grammar refuses those that leave no completion with exactly the masks that are left.  So every fill
    ends valid, without a repair at the end, and a canvas without a completion raises before the first
    call of the model.

    At temperature 0 each place proposes its likeliest token; above it proposals are drawn from
    softmax(logits / temperature) (Gumbel noise), while confidence stays the model's own probability of
    the proposed token, as in LLaDA.  With a grammar the law of a fill is that of this procedure, not
    the model's own law given the grammar.

    Args:
        model: LLaDA, Dream, or any masked language model of ``transformers``; or a
            :class:`MaskedModel`.
        tokenizer: its tokenizer; ``None`` when prompts and canvases are token ids.
        grammar: what texts must satisfy: a grammar or its automaton; ``None`` for anything.
        schedule: which proposals are committed; see :mod:`samplers.diffusion.schedule`.
        temperature: of the tokens.
        block_length: places worked on together, from left to right (semi-autoregressive); ``None``
            for all at once.
        solver: ``"dingo"`` chooses all tokens of a block together, the likeliest block that the
            grammar allows; by default each place proposes its own best, which is checked.
        guidance: strength of classifier-free guidance: un + (guidance + 1)(c - un), where un sees no
            prompt; a second call of the model for each step.
        batch: canvases given to the model together.
        end_of_text: probability of EOS from which on a place, in whichever block, is taken to be the end
            of the text: everything behind it becomes EOS at once, where the grammar allows that, and the
            model is shown nothing behind an EOS any more (end-of-text prediction, Bao et al. 2025,
            section 3.3).  Cheaper on canvases longer than the text, and not quite what the model would say
            with the rest in view.  For fills with ``eos_padding``; by default nothing is cut.
        model_options: ``vocabulary``, ``mask_token_id``, ``shifted``: see :class:`MaskedModel`.

    Sources: Nie et al. 2025, "Large Language Diffusion Models" (loop); Mündler et al. 2025,
    "Constrained Decoding of Diffusion LLMs with Context-Free Grammars" (the criterion, without counts).
    """

    def __init__(
        self,
        model: object,
        tokenizer: object = None,
        grammar: Grammar | TokenAutomaton | None = None,
        *,
        schedule: Schedule | None = None,
        temperature: float = 0.0,
        block_length: int | None = None,
        solver: Literal["dingo"] | None = None,
        guidance: float = 0.0,
        batch: int = BATCH,
        end_of_text: float | None = None,
        **model_options: object,
    ) -> None:
        self.schedule: Schedule = Threshold() if schedule is None else schedule
        _check(self.schedule, temperature, block_length, solver, grammar, guidance, batch)
        if end_of_text is not None and not 0 < end_of_text <= 1:
            raise ValueError(f"end_of_text={end_of_text}: must be above 0 and at most 1")
        if isinstance(model, MaskedModel):
            self.model = model
        else:
            self.model = MaskedModel(model, tokenizer, **model_options)  # type: ignore[arg-type]
        self.temperature = temperature
        self.block_length = block_length
        self.solver = solver
        self.guidance = guidance
        self.batch = batch
        self.end_of_text = end_of_text
        self.automaton = (
            TokenAutomaton(grammar, self.model.vocabulary)
            if isinstance(grammar, Grammar)
            else grammar
        )
        self._without_bytes = np.array([not t for t in self.model.vocabulary.texts], np.bool_)
        self._solvers: dict[bool, Dingo] = {}
        self._completability = None if self.automaton is None else _completability(self.automaton)

    def fill(
        self,
        prompt: Prompt,
        canvas: Sequence[Part],
        n: int = 1,
        *,
        seed: int | None = None,
        eos_padding: bool = False,
        on_step: OnStep | None = None,
    ) -> list[Sample]:
        """Fills a canvas.

        Args:
            prompt: what stands before it: text, token ids, or nothing; or a ``Frame`` of ids around it.
            canvas: fixed text, token ids, ``None`` for one mask, ``Masks`` and ``Gap``.
            n: how many texts.
            seed: for the same texts again.
            eos_padding: whether a suffix of the canvas may become EOS.
            on_step: called after each step.  Where the automaton has no room for more states
                (``Limits.max_states``) they are forgotten, and the texts begin again.

        Returns:
            Texts with the canvas's token ids; with ``eos_padding`` those up to the first EOS.
            ``logprob`` adds what the model gave each token when it was committed;
            ``stats.rejected`` counts proposals that the grammar refused, ``stats.mask_seconds`` the
            time that took.

        Raises:
            NoCompletion: if no text of the grammar fits the canvas, before the model is called.
            LimitExceeded: if these texts alone need more than a limit allows.
        """
        try:
            return self._filled(prompt, canvas, n, seed, eos_padding, on_step)
        except LimitExceeded as error:
            if error.limit != "max_states" or self.automaton is None:
                raise
        # states that earlier texts left behind are forgotten
        self.automaton.trim(())
        self._completability = _completability(self.automaton)
        return self._filled(prompt, canvas, n, seed, eos_padding, on_step)

    def _filled(
        self,
        prompt: Prompt,
        canvas: Sequence[Part],
        n: int,
        seed: int | None,
        eos_padding: bool,
        on_step: OnStep | None,
    ) -> list[Sample]:
        """Fills a canvas, with the room for states that there is."""
        frame = self.model.frame(prompt)
        layout = Layout.of(canvas, self.model)
        began = time.perf_counter()
        opened = self._check_completable(layout, eos_padding)
        checking = time.perf_counter() - began
        lengths, forwards = choose_lengths(
            self.model, layout, frame, lambda trial: self._holds(trial, eos_padding)
        )
        mask = self.model.mask_token_id
        ids = layout.ids(lengths, mask)
        began = time.perf_counter()
        if lengths:
            opened = self._open([None if i == mask else i for i in ids], eos_padding)
        checking += time.perf_counter() - began
        drafts = self._drafts(ids, opened, n, seed, eos_padding)
        for draft in drafts:
            draft.forwards += forwards
        drafts[0].seconds += checking
        if isinstance(self.schedule, FreeDave):
            drafts = self._fill_verified(drafts, frame, self.schedule, on_step)
        else:
            self._fill(drafts, frame, on_step)
        return [self._sample(draft) for draft in drafts]

    def train_filter(
        self,
        tasks: Iterable[tuple[Prompt, Sequence[Part]]],
        *,
        block: int = BLOCK,
        eos_padding: bool = False,
        epochs: int = EPOCHS,
        seed: int = 0,
    ) -> Trained:
        """Trains a filter for :class:`Learn2PD` on canvases that this infiller fills.

        Args:
            tasks: prompts and canvases, without gaps.
            block: places of a block; fill with ``block_length`` of that.
            eos_padding: as in :meth:`fill`.
            epochs: passes over what was recorded.
            seed: of the filter's first weights.
        """
        mask = self.model.mask_token_id
        frames: dict[int, Frame] = {}

        def drafts() -> Iterator[Draft]:
            for prompt, parts in tasks:
                layout = Layout.of(parts, self.model)
                if layout.gaps:
                    raise ValueError("a filter learns from canvases without gaps; give Masks")
                canvas = self._check_completable(layout, eos_padding)
                (draft,) = self._drafts(layout.ids({}, mask), canvas, 1, 0, eos_padding)
                draft.rules = replace(draft.rules, temperature=0.0, block_length=block, end=None)
                frames.clear()
                frames[0] = self.model.frame(prompt)
                yield draft

        return train_filter(
            drafts(),
            lambda draft: self._score([draft], frames[0])[0],
            block=block,
            epochs=epochs,
            seed=seed,
        )

    # -- before the first forward ----------------------------------------------------------------

    def _open(self, parts: Sequence[Part], eos_padding: bool) -> OpenCanvas | None:
        if self._completability is None:
            return None
        return self._completability.open(parts, eos_padding=eos_padding)

    def _holds(self, parts: Sequence[Part], eos_padding: bool) -> bool:
        canvas = self._open(parts, eos_padding)
        return canvas is None or canvas.is_completable

    def _check_completable(self, layout: Layout, eos_padding: bool) -> OpenCanvas | None:
        canvas = self._open(layout.parts(), eos_padding)
        if canvas is not None and not canvas.is_completable:
            raise NoCompletion(layout.why_not(canvas, self.model.vocabulary))
        return canvas

    def _drafts(
        self,
        ids: Sequence[int],
        canvas: OpenCanvas | None,
        n: int,
        seed: int | None,
        eos_padding: bool,
    ) -> list[Draft]:
        rules = self._rules(eos_padding)
        solver = self._block_solver(eos_padding)
        return [
            Draft(ids, None if canvas is None else canvas.copy(), rules, _gumbel(source), solver)
            for source in np.random.SeedSequence(seed).spawn(n)
        ]

    def _block_solver(self, eos_padding: bool) -> Solver | None:
        """One for all fills: it remembers where tokens lead."""
        if self.solver is None:
            return None
        assert self.automaton is not None
        if eos_padding not in self._solvers:
            self._solvers[eos_padding] = Dingo(
                self.automaton, self.model.mask_token_id, eos_padding
            )
        return self._solvers[eos_padding]

    def _rules(self, eos_padding: bool) -> Rules:
        vocabulary = self.model.vocabulary
        barred = self._without_bytes.copy()
        barred[list(vocabulary.eos_token_ids)] = not eos_padding
        barred[self.model.mask_token_id] = True
        return Rules(
            barred,
            tuple(vocabulary.eos_token_ids),
            self.model.mask_token_id,
            self.temperature,
            self.block_length,
            self._completability is not None or self._truncates,
            self.end_of_text,
        )

    @property
    def _truncates(self) -> bool:
        """Whether the model is shown nothing behind a committed EOS."""
        return self.end_of_text is not None or bool(getattr(self.schedule, "truncates", False))

    # -- loops -----------------------------------------------------------------------------------

    def _fill(self, drafts: Sequence[Draft], frame: Frame, on_step: OnStep | None) -> None:
        """Steps until every draft is done."""
        waiting = [i for i, draft in enumerate(drafts) if not draft.is_done]
        while waiting:
            now = waiting[: self.batch]
            for i, logits in zip(now, self._score([drafts[i] for i in now], frame), strict=True):
                drafts[i].forwards += 1
                drafts[i].advance(logits, self.schedule)
                if on_step is not None:
                    on_step(i, drafts[i].ids)
            waiting = [i for i in waiting if not drafts[i].is_done]

    def _fill_verified(
        self,
        drafts: Sequence[Draft],
        frame: Frame,
        schedule: FreeDave,
        on_step: OnStep | None,
    ) -> list[Draft]:
        """One chain of drafted steps for each text; what a chain verified is committed."""
        done = list(drafts)
        chains = {i: [draft] for i, draft in enumerate(drafts) if not draft.is_done}
        while chains:
            room = max(1, self.batch // schedule.drafts)
            now = list(chains)[:room]
            flat = [draft for i in now for draft in chains[i] if not draft.is_done]
            scored = iter(self._score(flat, frame))
            for i in now:
                chain = chains[i]
                logits = [next(scored) for draft in chain if not draft.is_done]
                drafting = chain[-1].seconds - chain[0].seconds
                best, at = _verified(chain, logits, schedule)
                best.forwards = chain[0].forwards + 1
                best.seconds += drafting
                if not best.is_done:
                    chains[i] = _drafted(best, logits[at], schedule)
                    best = chains[i][0]
                if best.is_done:
                    done[i] = best
                    del chains[i]
                if on_step is not None:
                    on_step(i, best.ids)
        return done

    def _score(self, drafts: Sequence[Draft], frame: Frame) -> list[Logits]:
        """float32[T, V] for each draft; T may be cut behind a committed EOS."""
        groups: dict[int, list[int]] = defaultdict(list)
        for i, draft in enumerate(drafts):
            groups[self._visible(draft)].append(i)
        out: dict[int, Logits] = {}
        for length, members in groups.items():
            canvases = [drafts[i].ids[:length] for i in members]
            logits = self.model.logits([frame] * len(members), canvases)
            if self.guidance:
                blind = Frame((self.model.mask_token_id,) * len(frame.before), frame.after)
                without = self.model.logits([blind] * len(members), canvases)
                logits = without + (self.guidance + 1) * (logits - without)
            for i, row in zip(members, logits.numpy(), strict=True):
                out[i] = row
        return [out[i] for i in range(len(drafts))]

    def _visible(self, draft: Draft) -> int:
        if self._truncates:
            for i, token in enumerate(draft.ids):
                if token in draft.rules.eos:
                    return i + 1
        return len(draft.ids)

    # -- results ---------------------------------------------------------------------------------

    def _sample(self, draft: Draft) -> Sample:
        ends = [i for i, token in enumerate(draft.ids) if token in draft.rules.eos]
        ids = draft.ids[: ends[0] + 1] if ends else draft.ids
        text = self.model.vocabulary.decode(ids[: ends[0]] if ends else ids)
        places = sorted(draft.logprobs)
        return Sample(
            list(ids),
            text.decode("utf-8", "replace"),
            math.fsum(draft.logprobs.values()),
            math.fsum(draft.constrained.values()),
            stats=Stats(
                forwards=draft.forwards,
                tokens=len(places),
                mask_seconds=draft.seconds,
                rejected=draft.refused,
            ),
            token_logprobs=[draft.logprobs[i] for i in places],
            token_constrained_logprobs=[draft.constrained[i] for i in places],
        )


def _completability(automaton: TokenAutomaton) -> Completability:
    from samplers.diffusion.completability import Completability  # compiles kernels

    return Completability(automaton)


def _verified(
    chain: Sequence[Draft], logits: Sequence[Logits], schedule: Schedule
) -> tuple[Draft, int]:
    """What steps from a chain's first draft lead to, as long as the chain has the same canvases.

    And where in the chain that is.  The draft is made of these steps, each with its own logits.  A step
    may commit as much as several that were drafted, and leads past them then.
    """
    best, at = chain[0], 0
    while at + 1 < len(chain):
        after = best.copy()
        after.advance(logits[at], schedule)
        best.seconds = after.seconds
        reached = next((k for k in range(at + 1, len(chain)) if chain[k].ids == after.ids), None)
        if reached is None:
            break
        best, at = after, reached
    return best, at


def _drafted(draft: Draft, logits: Logits, schedule: FreeDave) -> list[Draft]:
    """Steps with one forward's logits; the first one is sure, the others are to be verified."""
    chain: list[Draft] = []
    while len(chain) < schedule.drafts and not draft.is_done:
        draft = draft.copy()
        draft.advance(logits, schedule)
        chain.append(draft)
    return chain


def _gumbel(source: np.random.SeedSequence) -> Callable[[tuple[int, int]], Logits]:
    generator = np.random.default_rng(source)

    def noise(shape: tuple[int, int]) -> Logits:
        uniform = generator.random(shape)
        drawn: Logits = (-np.log(-np.log(np.clip(uniform, 1e-300, 1 - 1e-16)))).astype(np.float32)
        return drawn

    return noise


def _check(
    schedule: Schedule,
    temperature: float,
    block_length: int | None,
    solver: str | None,
    grammar: object,
    guidance: float,
    batch: int,
) -> None:
    if not temperature >= 0 or math.isinf(temperature):
        raise ValueError(f"temperature={temperature}: must be a number of at least 0")
    if isinstance(schedule, FreeDave) and temperature > 0:
        raise ValueError("FreeDave verifies one fixed text: it needs temperature=0")
    if block_length is not None and block_length < 1:
        raise ValueError(f"block_length={block_length}: must be at least 1")
    if solver not in (None, "dingo"):
        raise ValueError(f"solver={solver!r}: 'dingo', or None")
    if solver is not None and grammar is None:
        raise ValueError("solver='dingo' chooses by a grammar; give one")
    if isinstance(grammar, TokenAutomaton) and grammar.is_canonical:
        raise ValueError(
            "canonical=True says which token may follow which from left to right, and a canvas is "
            "filled in any order; give an automaton without it"
        )
    if guidance < 0:
        raise ValueError(f"guidance={guidance}: must not be negative")
    if batch < 1:
        raise ValueError(f"batch={batch}: must be at least 1")
