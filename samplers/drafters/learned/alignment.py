"""Trains a small draft model to say what its target says, on the target's own answers.

Goel et al. 2024, "Direct Alignment of Draft Model for Speculative Decoding with Chat-Fine-Tuned LLMs"
(arXiv 2403.00858), without their pretraining: the draft begins as some of the target's own layers between
its embedding and its last norm, with the rows of its output embedding for the tokens that come most.  The
input embedding stays as it is, the target's own.

Answers to the same prompt are learned from side by side: they stand behind one copy of the prompt, and a
mask lets each see the prompt and itself.  Only tokens with a choice count: where a grammar leaves one token
there is nothing to learn.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import torch

from constrain.arguments import check_count, check_model
from samplers.drafters.learned.alignment_losses import LOSSES, Loss, Pair, paired
from samplers.drafters.learned.answers import TOP, Answer, Laws, law_kept, laws_of
from samplers.drafters.learned.short_output import ShortOutput, shortened
from samplers.progress import bar
from samplers.speculative.target import Weighting

Clock: TypeAlias = Callable[[], float]
"""Seconds: ``time.monotonic``, or ``time.process_time`` where other programs take the processor."""

HELD_OUT: Final = 10
"""One prompt in so many is kept for measuring."""
_TOKENS: Final = 768
"""Of a prompt with some of its answers, learned from in one forward; at least one answer."""
_WARM_UP: Final = 20
"""Gradient steps until the learning rate is what was asked for."""
_CHECKS: Final = 12
"""Looks at the held-out answers, evenly over the time."""


@dataclass
class Alignment:
    """What became of a draft.

    Attributes:
        model: the draft, a causal language model of ``transformers`` in ``eval`` mode, as it was when it
            was accepted most.
        acceptance: (seconds, share) at each look: how often a token drawn from the draft would be accepted
            on held-out answers, positions with no choice aside; a lower bound, since the target's rarer
            tokens count as never accepted.  The first is that of the draft before training.
        losses: of each gradient step; of two kinds if ``kl_first`` was above 0.
        tokens: trained on, all passes together.
        seconds: of the clock.
    """

    model: Any
    acceptance: list[tuple[float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def best(self) -> float:
        """The acceptance of ``model`` on held-out answers."""
        return max(share for _, share in self.acceptance)


def aligned_draft(
    model: Any,
    tokenizer: Any,
    answers: Sequence[Answer],
    *,
    layers: int | Sequence[int] = 3,
    output_tokens: int | None = 8192,
    draft: Any = None,
    loss: Loss = "tvd++",
    kl_first: float = 0.5,
    temperature: float = 0.7,
    learning_rate: float = 4e-4,
    max_seconds: float = 1200.0,
    max_epochs: int = 20,
    patience: int = 4,
    seed: int = 0,
    progress: bool = False,
    clock: Clock = time.monotonic,
) -> Alignment:
    """Makes a draft model of a target and trains it on the target's answers.

    Args:
        model: the target, built as Llama is, in single or double precision.
        tokenizer: its tokenizer, whose special tokens the draft can always say; ``None`` for none.
        answers: of :func:`~samplers.drafters.learned.answers.write_answers`.  Laws that are missing are
            computed, one forward of the target for each such answer, without any grammar.
        layers: the target's layers that the draft begins with, by number, or how many: then the first
            ones but for the last of them, which is the target's last.
        output_tokens: how many tokens the draft can say, those that come most in answers and their laws;
            ``None`` for all: then the embedding is trained too, as far as the target ties it to the output.
        draft: a draft to go on with, changed in place, instead of ``layers`` and ``output_tokens``.
        loss: ``"kl"``, ``"tvd"`` or ``"tvd++"``.
        kl_first: the share of the training, 0 to 1, in which KL is the loss before that: gradients of total
            variation are in proportion to q, and vanish where a draft cut out of its target gives right
            tokens hardly any mass.
        temperature: at which the answers were drawn and the draft will draw.
        learning_rate: of AdamW; rises over the first steps, falls to zero along a cosine.
        max_seconds: of training, looks at held-out answers included.
        max_epochs: passes over the answers, if time allows.
        patience: looks at held-out answers, without a better one, after which training ends.
        seed: of the order.
        progress: whether to show a bar on standard error.
        clock: what measures ``max_seconds``.

    Returns:
        The draft as it was when it was accepted most, and how it came to that.

    Memory: beside target and draft, the gradients and AdamW's two moments of what is trained (16 bytes a
    weight, 245 MB for 15 million), and 257 bytes for each token of an answer; of logits only those of one
    forward of some 768 tokens.

    Raises:
        ValueError: if answers have fewer than two prompts, a number is out of range, the model is not built
            as Llama is, or its numbers are of half precision.
    """
    check_model(model, "aligned_draft")
    check_count(max_epochs, "max_epochs")
    check_count(patience, "patience")
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r}: must be one of {', '.join(LOSSES)}")
    if min(max_seconds, learning_rate, temperature) <= 0:
        raise ValueError(
            f"max_seconds={max_seconds}, learning_rate={learning_rate}, temperature={temperature}: "
            "must be positive"
        )
    if not 0 <= kl_first <= 1:
        raise ValueError(f"kl_first={kl_first}: must be a share, from 0 to 1")
    began = clock()
    known = [a if a.laws is not None else with_laws(model, a, temperature) for a in answers]
    train, aside = split(known)
    if draft is None:
        draft = some_layers(model, layers)
        if output_tokens is not None:
            draft = shortened(draft, frequent_tokens(model, tokenizer, train, output_tokens))
    if draft.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the draft's numbers are {draft.dtype}; load the target with float32")
    trainer = _Trainer(draft, temperature, loss, kl_first, learning_rate)
    made = Alignment(draft)
    with bar(progress, lambda: _told(made), 1000) as advance, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rng = random.Random(seed)
        trainer.run(
            made,
            list(packed(train)),
            list(packed(aside)),
            _Budget(clock, began, max_seconds, max_epochs, patience),
            rng,
            advance,
        )
    return made


def _told(made: Alignment) -> str:
    return f"accepted {made.acceptance[-1][1]:.1%}" if made.acceptance else "measuring"


# -- the draft before training ---------------------------------------------------------------------


def some_layers(model: Any, layers: int | Sequence[int]) -> Any:
    """A model of some layers of one, with weights of its own.

    Args:
        model: built of ``model.layers``, as Llama is.
        layers: their numbers from 0 in order; or how many, the last of them being the model's last.

    Raises:
        ValueError: if the model is built otherwise, or has no such layers, or no others.
    """
    every = getattr(getattr(model, "model", None), "layers", None)
    if every is None:
        raise ValueError(f"{type(model).__name__} is not built of model.layers, as Llama is")
    if isinstance(layers, int):
        chosen = [*range(layers - 1), len(every) - 1] if layers > 0 else []
    else:
        chosen = list(layers)
    if not chosen or not 0 <= min(chosen) <= max(chosen) < len(every) or len(chosen) >= len(every):
        raise ValueError(
            f"layers={layers}: the model has {len(every)}, the draft needs some of them"
        )
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(chosen)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in chosen]
    made = type(model)(config).to(model.dtype)
    own = made.state_dict()
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if not name.startswith("model.layers.") and name in own:
                own[name].copy_(weight)
        for place, number in enumerate(chosen):
            made.model.layers[place].load_state_dict(every[number].state_dict())
    made.generation_config = copy.deepcopy(model.generation_config)
    return made.eval()


def frequent_tokens(model: Any, tokenizer: Any, answers: Iterable[Answer], count: int) -> list[int]:
    """The tokens that come most in answers, by the mass that the target's laws give them.

    Special tokens come first; where answers have fewer tokens, those of the lowest ids follow, which
    vocabularies made by merging pairs have merged first.
    """
    mass: dict[int, float] = {}
    for answer in answers:
        assert answer.laws is not None
        ids = answer.laws.ids.flatten()
        some = ids >= 0
        weights = torch.zeros(int(model.config.vocab_size), dtype=torch.float64)
        weights.index_add_(0, ids[some].long(), answer.laws.probabilities.flatten()[some].double())
        for token in weights.nonzero().flatten().tolist():
            mass[token] = mass.get(token, 0.0) + float(weights[token])
    ends = model.generation_config.eos_token_id
    first = [*(ends if isinstance(ends, list) else [ends])]
    first += getattr(tokenizer, "all_special_ids", [])
    order = [*first, *sorted(mass, key=lambda token: -mass[token]), *range(model.config.vocab_size)]
    return list(dict.fromkeys(int(token) for token in order if token is not None))[:count]


# -- what is learned from --------------------------------------------------------------------------


@torch.no_grad()
def with_laws(model: Any, answer: Answer, temperature: float, top: int = TOP) -> Answer:
    """The answer with the model's laws of its tokens at a temperature, without a grammar."""
    ids = torch.tensor([answer.tokens], device=model.device)
    logits = model(ids, use_cache=False).logits[0, answer.given - 1 : -1].cpu()
    laws = laws_of([law_kept(row, Weighting(), temperature, top) for row in logits])
    return Answer(answer.tokens, answer.given, laws)


def split(answers: Sequence[Answer]) -> tuple[list[Answer], list[Answer]]:
    """Answers to learn from, and those to measure on: to one prompt in ten, and at least one.

    Of a prompt with more than a tenth of all answers, where the model wrote what it was asked as well, every
    tenth answer is kept aside instead.

    Raises:
        ValueError: if there are fewer than two prompts.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, answer in enumerate(answers):
        groups.setdefault(tuple(answer.tokens[: answer.given]), []).append(number)
    if len(groups) < 2:
        raise ValueError(
            f"answers to {len(groups)} prompts; two are needed, one of which is kept aside"
        )
    large = [g for g in groups.values() if len(g) > max(len(answers) / HELD_OUT, HELD_OUT)]
    small = [g for g in groups.values() if g not in large]
    aside = {n for g in small[min(HELD_OUT, len(small)) - 1 :: HELD_OUT] for n in g}
    aside |= {n for g in large for n in g[HELD_OUT - 1 :: HELD_OUT]}
    return (
        [a for number, a in enumerate(answers) if number not in aside],
        [a for number, a in enumerate(answers) if number in aside],
    )


@dataclass(frozen=True)
class Pack:
    """A prompt and some of its answers in one row.

    Attributes:
        tokens: int64[1, L], the prompt but its last token, then for each answer that token and all of the
            answer but its last.
        positions: int64[1, L].
        owner: int64[L], the number of the answer; -1 for the prompt.
        at: int64[n], places in the row whose next token has a choice.
        laws: the target's, of those.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    owner: torch.Tensor
    at: torch.Tensor
    laws: Laws

    def seen(self) -> torch.Tensor:
        """bool[L, L]: what each place sees, the prompt and its own answer up to itself."""
        mine = self.owner[:, None] == self.owner[None, :]
        return torch.ones_like(mine).tril() & (mine | (self.owner == -1)[None, :])


def packed(answers: Sequence[Answer]) -> Iterator[Pack]:
    """Answers of the same prompt side by side, as many as fit some 768 tokens; those with a choice."""
    groups: dict[tuple[int, ...], list[Answer]] = {}
    for answer in answers:
        groups.setdefault(tuple(answer.tokens[: answer.given]), []).append(answer)
    for prompt, mine in groups.items():
        part: list[Answer] = []
        size = len(prompt) - 1
        for answer in mine:
            own = len(answer.tokens) - answer.given
            if part and size + own > _TOKENS:
                yield from _pack(prompt, part)
                part, size = [], len(prompt) - 1
            part.append(answer)
            size += own
        yield from _pack(prompt, part)


def _pack(prompt: tuple[int, ...], answers: Sequence[Answer]) -> Iterator[Pack]:
    """One pack; none if no token had a choice."""
    tokens = list(prompt[:-1])
    positions = list(range(len(tokens)))
    owner = [-1] * len(tokens)
    choices: list[torch.Tensor] = []
    kept: list[tuple[torch.Tensor, ...]] = []
    for number, answer in enumerate(answers):
        laws = answer.laws
        assert laws is not None
        free = ~laws.whole | ((laws.ids >= 0).sum(-1) > 1)
        choices.append(len(tokens) + free.nonzero().flatten())
        kept.append((laws.ids[free], laws.probabilities[free], laws.whole[free]))
        text = answer.tokens[answer.given - 1 : -1]
        tokens += text
        positions += range(answer.given - 1, len(answer.tokens) - 1)
        owner += [number] * len(text)
    at = torch.cat(choices)
    if len(at):
        yield Pack(
            torch.tensor([tokens]),
            torch.tensor([positions]),
            torch.tensor(owner),
            at,
            Laws(*(torch.cat(parts) for parts in zip(*kept, strict=True))),
        )


# -- training --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Budget:
    """When training ends."""

    clock: Clock
    began: float
    seconds: float
    epochs: int
    patience: int

    def spent(self) -> float:
        return self.clock() - self.began

    def over(self, made: Alignment) -> bool:
        shares = [share for _, share in made.acceptance]
        best = shares.index(max(shares))
        return len(shares) - 1 - best >= self.patience


class _Trainer:
    """A draft with its optimiser."""

    def __init__(
        self, draft: Any, temperature: float, loss: str, kl_first: float, learning_rate: float
    ) -> None:
        self._draft = draft
        self._kl_first = kl_first
        self._temperature = temperature
        self._loss = LOSSES[loss]
        self._rate = learning_rate
        self._columns = self._column_of()
        embedding = draft.get_input_embeddings().weight
        tied = draft.get_output_embeddings()
        frozen = tied is None or getattr(tied, "weight", None) is not embedding
        self._trained = [p for p in draft.parameters() if not (frozen and p is embedding)]
        self._optimiser = torch.optim.AdamW(self._trained, lr=learning_rate, weight_decay=0.01)

    def _column_of(self) -> torch.Tensor:
        """int64[V + 1]: the column of each token among what the draft can say; -1 at the end for none."""
        size = int(self._draft.config.vocab_size)
        head = self._draft.lm_head
        tokens = head.tokens.cpu() if isinstance(head, ShortOutput) else torch.arange(size)
        columns = torch.full((size + 1,), -1)
        columns[tokens] = torch.arange(len(tokens))
        return columns

    def run(
        self,
        made: Alignment,
        train: list[Pack],
        aside: list[Pack],
        budget: _Budget,
        rng: random.Random,
        advance: Callable[[int], None],
    ) -> None:
        best = self._look(made, aside, budget, None)
        shown = 0
        total = budget.epochs * len(train)
        look_at = 1.0
        for step in range(total):
            if step % len(train) == 0:
                rng.shuffle(train)
            done = max(step / total, budget.spent() / budget.seconds)
            if done >= 1 or budget.over(made):
                break
            if done * _CHECKS >= look_at:
                best = self._look(made, aside, budget, best)
                look_at = math.floor(done * _CHECKS) + 1
            self._step(made, train[step % len(train)], done)
            advance(int(1000 * done) - shown)
            shown = int(1000 * done)
        best = self._look(made, aside, budget, best)
        self._draft.load_state_dict(best)
        self._draft.eval()
        made.seconds = budget.spent()

    def _step(self, made: Alignment, pack: Pack, done: float) -> None:
        rate = self._rate * min(1.0, (len(made.losses) + 1) / _WARM_UP)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))
        with torch.enable_grad():
            pair = self._pair(pack)
            if pair is None:
                return
            value = (LOSSES["kl"] if done < self._kl_first else self._loss)(pair)
            value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimiser.step()
        self._draft.zero_grad()
        made.losses.append(float(value.detach()))
        made.tokens += len(pair.p)

    @torch.no_grad()
    def _look(
        self, made: Alignment, aside: Sequence[Pack], budget: _Budget, best: Any
    ) -> dict[str, torch.Tensor]:
        """Measures, and keeps the weights if they are better than all before."""
        total = count = 0.0
        for pack in aside:
            pair = self._pair(pack)
            total += float(pair.acceptance().sum()) if pair is not None else 0.0
            count += len(pack.at)
        share = total / max(count, 1)
        before = [s for _, s in made.acceptance]
        made.acceptance.append((budget.spent(), share))
        if best is not None and share <= max(before):
            return dict(best)
        return {name: value.clone() for name, value in self._draft.state_dict().items()}

    def _pair(self, pack: Pack) -> Pair | None:
        """Both laws where there is a choice; ``None`` if the draft can say nothing at any of them."""
        device = self._draft.device
        least = torch.finfo(self._draft.dtype).min
        mask = torch.zeros(pack.seen().shape, dtype=self._draft.dtype)
        mask.masked_fill_(~pack.seen(), least)
        out = self._draft.model(
            input_ids=pack.tokens.to(device),
            attention_mask=mask[None, None].to(device),
            position_ids=pack.positions.to(device),
            use_cache=False,
        )
        at = self._columns[pack.laws.ids.long()].to(device)
        whole = pack.laws.whole.to(device)
        rows = ~whole | (at >= 0).any(-1)  # elsewhere it drafts nothing
        if not bool(rows.any()):
            return None
        hidden = out.last_hidden_state[0, pack.at.to(device)][rows]
        head = self._draft.lm_head
        logits = head.scores(hidden) if isinstance(head, ShortOutput) else head(hidden)
        p = pack.laws.probabilities.to(device)
        return paired(logits / self._temperature, at[rows], p[rows], whole[rows])
