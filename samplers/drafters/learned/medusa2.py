"""Medusa-2: heads and model are trained together, so that heads guess better; the model CHANGES.

Cai et al. 2024, "Medusa" (arXiv 2401.10774), section 2.2.2, with the three means that are to keep the model
what it is:

* a *combined loss*, that of the model and lambda0 times that of the heads (section 2.2.1).  Training texts
  are the model's own answers, where section 2.3.2 takes self-distillation for the model's part:
  KL(original || changed) at every place, the original being the model without its adapters;
* *differential learning rates*: the model learns with a quarter of the heads' rate, as in the authors' code;
* a *warm-up of the heads* in two stages: first the heads alone, as :class:`MedusaHeads` is trained, then
  both.

Only low-rank adapters of the model's linear maps are trained (Hu et al. 2021, "LoRA"), and merged at the
end.  What comes out is another model with its drafter.  Drafts are lossless with respect to *that* model;
how far it is from the original is measured on answers held out and kept in :attr:`Medusa2.change`.

A file holds adapters and heads, not the whole model: it is a small part of its size and names the original.
Merging is the same sum after training and after loading, so that weights are equal bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Self

import torch
from torch.nn.functional import linear

from constrain.arguments import check_model
from samplers.drafters.learned.base import Lesson
from samplers.drafters.learned.files import Base, network_of, read_file, write_file
from samplers.drafters.learned.medusa import (
    SPARSE,
    Heads,
    MedusaHeads,
    Ranks,
    backward,
    positions,
    right_of,
)
from samplers.drafters.learned.training import (
    Clock,
    Reading,
    Report,
    Step,
    Training,
    accepted,
    bar_of,
    lessons_of,
    run,
    split,
    steps_of_texts,
)
from samplers.tensor_files import TensorFileError

_FORMAT: Final = "medusa-2"
_CALLED: Final = "medusa2"
"""What is put behind the name of a changed model."""
_KEPT_ASIDE: Final = 64
"""Texts held out that the change is measured on, at most."""


class Adapter(torch.nn.Module):
    """A linear map W with a correction of low rank, W x + (scale / rank) B A x; B begins as zeros.

    Args:
        inner: W, which stays as it is and is no part of this module.
        rank: rows of A.
        scale: alpha.
    """

    def __init__(self, inner: torch.nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self._inner = (inner,)
        self._share = scale / rank
        self.active = True
        device = inner.weight.device
        self.down = torch.nn.Parameter(torch.empty(rank, inner.in_features, device=device))
        self.up = torch.nn.Parameter(torch.zeros(inner.out_features, rank, device=device))
        torch.nn.init.normal_(self.down, std=inner.in_features**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """floating[..., outer] of floating[..., inner]; of W alone where it is not ``active``."""
        y: torch.Tensor = self._inner[0](x)
        if not self.active:
            return y
        return y + self._share * linear(linear(x.float(), self.down), self.up).to(y.dtype)

    @torch.no_grad()
    def merge(self) -> torch.nn.Linear:
        """The linear map with the correction added to its weights."""
        weight = self._inner[0].weight
        weight += (self._share * (self.up @ self.down)).to(weight.dtype)
        return self._inner[0]


def adapted(model: Any, rank: int, scale: float) -> dict[str, Adapter]:
    """Puts adapters in the place of all linear maps of a model but its output embedding.

    Args:
        model: changed in place.
        rank, scale: of each, see :class:`Adapter`.

    Returns:
        The adapters, by the names of the maps.

    Raises:
        ValueError: if there is no such map.
    """
    output = model.get_output_embeddings()
    maps = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and part is not output
    }
    if not maps:
        raise ValueError(f"{type(model).__name__} has no linear maps to adapt")
    made = {name: Adapter(part, rank, scale) for name, part in maps.items()}
    _put(model, made)
    return made


def _put(model: Any, parts: Mapping[str, torch.nn.Module]) -> None:
    for name, part in parts.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, part)


@dataclass(frozen=True)
class Change:
    """How far a model is from another one, over tokens of answers.

    Attributes:
        kl: mean Kullback-Leibler divergence KL(original || changed) of the next token, nats, temperature 1.
        agreement: share of tokens before which both find the same token likeliest.
        tokens: how many were looked at.
    """

    kl: float
    agreement: float
    tokens: int


@torch.no_grad()
def change_of(original: Any, changed: Any, texts: Sequence[tuple[Sequence[int], int]]) -> Change:
    """How far a model is from the original one.

    Args:
        original, changed: causal language models with one vocabulary.
        texts: token ids, each with the number of them that are given; others are answers.

    Raises:
        ValueError: if no text has an answer.
    """
    total, same, count = 0.0, 0, 0
    for tokens, given in texts:
        places = slice(max(given - 1, 0), len(tokens) - 1)
        ids = torch.tensor([list(tokens)], device=original.device)
        p, q = (
            model(ids, use_cache=False).logits[0, places].double().log_softmax(-1)
            for model in (original, changed)
        )
        total += float(_divergence(p, q).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        count += len(p)
    if not count:
        raise ValueError("no answers to compare models on")
    return Change(total / count, same / count, count)


def _divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q), floating[N], of log-probabilities floating[N, V]; impossible tokens of p count nothing."""
    terms = log_p.exp() * (log_p - log_q)
    return torch.where(log_p > -torch.inf, terms, torch.zeros_like(terms)).sum(-1)


class _Text(NamedTuple):
    """A text and the number of its tokens that are given."""

    tokens: list[int]
    given: int


class Medusa2:
    """A model changed together with its heads.

    Attributes:
        model: the changed model, another one than was given; texts drafted for it have *its* law.
        drafter: its heads, a drafter for ``SpeculativeBackend(made.model, ...)`` alone.
        change: how far the model is from the original, on answers held out (on all, if none were);
            ``None`` if loaded.
        warm_up: report of the heads' training before the model's; empty if loaded.
        report: of the training of both; ``seconds`` in all.
    """

    name: ClassVar[str] = _CALLED

    def __init__(
        self, model: Any, drafter: MedusaHeads, base: Base, low_rank: dict[str, torch.Tensor],
        options: dict[str, Any],
    ) -> None:  # fmt: skip
        self.model = model
        self.drafter = drafter
        self.change: Change | None = None
        self.warm_up = Report()
        self.report = Report()
        self._base, self._low_rank, self._options = base, low_rank, options

    @classmethod
    def fit(
        cls,
        model: Any,
        tokenizer: Any,
        texts: Sequence[Lesson],
        *,
        heads: int = 4,
        tree: Sequence[Ranks] = SPARSE,
        training: Training | None = None,
        warm_up: float = 0.4,
        weight: float = 0.2,
        model_rate: float = 0.25,
        rank: int = 16,
        scale: float = 16.0,
    ) -> Self:
        """Trains heads and a changed copy of a model on the model's own answers.

        Args:
            model: a causal language model of ``transformers``, in ``eval`` mode; it does not change.
            tokenizer: its tokenizer; ``None`` if texts are token ids.
            texts: the model's own answers; of what is given only the last state counts.
            heads: m.
            tree: of the drafter.
            training: how long, how fast, with which seed; ``epochs`` holds for each of both stages.
            warm_up: the share of ``training.max_seconds`` in which the heads are trained alone.
            weight: lambda0, of the heads' loss beside the model's.
            model_rate: the model's learning rate, as a share of the heads'.
            rank: of the adapters.
            scale: alpha of the adapters.

        Memory: a copy of the model, and in the first stage 4 H bytes for each token.

        Raises:
            ValueError: if there is nothing to train on, or a number is out of range.
        """
        check_model(model, "Medusa2")
        options = training or Training()
        if min(rank, scale, weight, model_rate) <= 0 or not 0 < warm_up < 1:
            raise ValueError(
                "rank, scale, weight and model_rate must be positive, warm_up between 0 and 1"
            )
        clock = Clock()
        every = [_Text(*one) for one in lessons_of(tokenizer, texts)]
        changed = _copy_of(model)
        first, most = options, options.max_seconds
        if most is not None:
            first = replace(options, max_seconds=warm_up * most)
        drafter = MedusaHeads.fit(changed, None, every, heads=heads, tree=tree, training=first)
        kept, aside = split(every, options.held_out)
        report = Report()
        with bar_of(options.progress) as bar, torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            rest = None if most is None else Clock(max(most - clock.seconds, 1e-3))
            course = _Both(changed, drafter.heads, kept, aside, options.batch, weight, rank, scale)
            run(
                course.trained,
                course,
                options,
                rest or Clock(),
                bar,
                report,
                course.slower(model_rate),
            )
        low_rank = course.merged()
        made = cls(changed, drafter, Base.of(model), low_rank, {"rank": rank, "scale": scale})
        report.seconds = clock.seconds
        made.warm_up, made.report = drafter.report, report
        made.change = change_of(model, changed, (aside or every)[:_KEPT_ASIDE])
        return made

    def save(self, path: str | Path) -> None:
        """Writes adapters and heads as safetensors, with what tells the model that was changed."""
        heads = {f"heads.{name}": w for name, w in self.drafter.heads.state_dict().items()}
        write_file(path, _FORMAT, self._base, self._low_rank | heads, self._options)

    @classmethod
    def load(cls, path: str | Path, model: Any, *, tree: Sequence[Ranks] = SPARSE) -> Self:
        """Makes the changed model and its drafter of a file and the original model, which stays as it is.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is not one of these, or it is for another model.
        """
        found = read_file(path, _FORMAT, Base.of(model), called="adapters and heads")
        own = {n[6:]: w for n, w in found.weights.items() if n.startswith("heads.")}
        low_rank = {n: w for n, w in found.weights.items() if not n.startswith("heads.")}
        rank, scale = found.options.get("rank"), found.options.get("scale")
        if not isinstance(rank, int) or not isinstance(scale, int | float) or rank < 1:
            raise TensorFileError(f"{path}: adapters of rank {rank!r} and scale {scale!r}")
        changed = _copy_of(model)
        adapters: dict[str, Adapter] = {}

        def make() -> _Parts:
            adapters.update(adapted(changed, rank, float(scale)))
            return _Parts(adapters)

        network_of(make, low_rank, path)
        merged = {name: adapter.merge() for name, adapter in adapters.items()}
        if not all(bool(part.weight.isfinite().all()) for part in merged.values()):
            raise TensorFileError(f"{path}: with its adapters the model is not finite")
        _put(changed, merged)
        heads = network_of(lambda: Heads(changed, len(own) // 2), own, path)
        return cls(changed, MedusaHeads(heads, tree=tree), Base.of(model), low_rank, found.options)


def _copy_of(model: Any) -> Any:
    """A copy with a name of its own, so that its heads are refused by the original."""
    made = copy.deepcopy(model)
    made.config.name_or_path = f"{Base.of(model).name or 'model'}-{_CALLED}"
    return made


class _Parts(torch.nn.Module):
    """Adapters, and heads if they are trained with them, as one network."""

    def __init__(self, adapters: Mapping[str, Adapter], heads: Heads | None = None) -> None:
        super().__init__()
        self.adapters = torch.nn.ModuleDict({n.replace(".", "/"): a for n, a in adapters.items()})
        if heads is not None:
            self.heads = heads


class _Both:
    """What heads and adapters learn from, in batches of whole texts that the model reads anew.

    Adapters are in the model from when this is made until :meth:`merged`.
    """

    def __init__(
        self,
        model: Any,
        heads: Heads,
        kept: Sequence[_Text],
        aside: Sequence[_Text],
        batch: int,
        weight: float,
        rank: int,
        scale: float,
    ) -> None:
        self._model, self._heads, self._batch, self._weight = model, heads, batch, weight
        self._kept = [text for text in kept if _places(text)]
        self._aside = [text for text in aside if _places(text)]
        self._adapters = adapted(model, rank, scale)
        self.trained = _Parts(self._adapters, heads)

    def slower(self, rate: float) -> list[tuple[list[torch.nn.Parameter], float]]:
        """The model's parameters with their share of the learning rate."""
        return [([p for a in self._adapters.values() for p in a.parameters()], rate)]

    def merged(self) -> dict[str, torch.Tensor]:
        """Merges the adapters into the model; their weights."""
        weights = {n: w.detach() for n, w in _Parts(self._adapters).state_dict().items()}
        _put(self._model, {name: adapter.merge() for name, adapter in self._adapters.items()})
        return weights

    def __len__(self) -> int:
        return max(1, sum(map(_places, self._kept)) // self._batch)

    def steps(self) -> Iterator[Step]:
        """Batches of texts with about so many places."""
        return steps_of_texts(self._kept, _places, self._batch, self._learn)

    def acceptance(self) -> float | None:
        """Of the likeliest guess of each head, behind the changed model."""
        if not self._aside:
            return None
        right = []
        for text in self._aside:
            with torch.no_grad():
                hidden = self._read(text)[0]
            found = positions([Reading(text.tokens, text.given, hidden)], len(self._heads))
            right.append(right_of(self._heads, *found))
        return accepted(torch.cat(right))

    def _read(self, text: _Text) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states floating[n, H] and logits floating[n, V]."""
        ids = torch.tensor([text.tokens], device=self._model.device)
        out = self._model(ids, output_hidden_states=True, use_cache=False)
        return out.hidden_states[-1][0], out.logits[0]

    @torch.no_grad()
    def _original(self, text: _Text) -> torch.Tensor:
        """Log-probabilities float32[n, V] of the model without its adapters."""
        for adapter in self._adapters.values():
            adapter.active = False
        try:
            return self._read(text)[1].float().log_softmax(-1)
        finally:
            for adapter in self._adapters.values():
                adapter.active = True

    def _learn(self, batch: Sequence[_Text]) -> tuple[float, int]:
        count = sum(map(_places, batch))
        total = sum(self._add(text, _places(text) / count) for text in batch)
        return total, count

    def _add(self, text: _Text, share: float) -> float:
        """Adds the gradients of one text; its part of the loss."""
        places = slice(max(text.given - 1, 0), len(text.tokens) - 1)
        wanted = self._original(text)[places]
        with torch.enable_grad():
            hidden, logits = self._read(text)
            kl = share * _divergence(wanted, logits[places].float().log_softmax(-1)).mean()
            at, after = positions([Reading(text.tokens, text.given, hidden)], len(self._heads))
        leaf = at.detach().requires_grad_()  # from here the heads' gradient goes on into the model
        loss = backward(self._heads, leaf, after, self._weight * share)
        own = [p for a in self._adapters.values() for p in a.parameters()]
        torch.autograd.backward([kl, at], [torch.ones_like(kl), leaf.grad], inputs=own)
        return loss + float(kl.detach())


def _places(text: _Text) -> int:
    """Places that heads learn from."""
    return max(len(text.tokens) - 2 - max(text.given - 1, 0), 0)
