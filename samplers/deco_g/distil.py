"""Distilling a hidden Markov model from a causal language model.

Three steps: responses are drawn from the model as it is (temperature 1, nothing cut off); the hidden
states from which the model predicted each token are clustered, and each cluster is a state of the first
HMM, whose probabilities are counts; EM goes on from there.  One more state, the last, is for EOS: it is
absorbing, emits EOS ids only, and no other state emits them.

Counts of emissions know only the tokens that were drawn, a small part of a vocabulary where draws are few.
The model knows more: of the same hidden states its head makes its distributions of the next token, whose
mean over a cluster is what counts would come to with ever more draws.  So, unless ``soft=False``, a state
begins with that mean, and EM takes it as a prior.

Source: Zhang et al. 2024, "Adaptable Logical Control for Large Language Models" (Ctrl-G).  There, texts are
unconditional or answers to prompts; fitting on answers to the prompts that will be used is what Deco-G
("Decoupling Task-Solving and Output Formatting in LLM Generation", 2025) calls instruction-aware.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from constrain.vocabulary import Vocabulary
from samplers.deco_g.em import BATCH, DROPOUT, PSEUDOCOUNT, Epoch, fit_em
from samplers.deco_g.hmm import HMM, check_tokenizer, fingerprint_of
from samplers.progress import bar
from samplers.tensor_files import TensorFileError, read_tensors, said, write_tensors

Head: TypeAlias = Callable[[Tensor], Tensor]
"""Last-layer hidden states, float16[n, D] on the CPU, to logits [n, V] at the temperature of sampling."""

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]] | Sequence[int]
"""A string, chat messages (the chat template is applied), or token ids."""

PRIOR: Final = 100.0
"""How many draws in each state the model's own distributions count as."""

_FORMAT: Final = "gramma corpus 1"
_CALLED: Final = "a corpus of gramma"
_MANY_PROMPTS: Final = 10
_ROUNDS: Final = 20
_POINTS_PER_CENTROID: Final = 64
_CHUNK: Final = 4096
_HEAD_CHUNK: Final = 256
_ALIKE: Final = 0.01


@dataclass(frozen=True, eq=False)
class Corpus:
    """Responses of a language model and what it was thinking.

    Attributes:
        sequences: token ids of each response; an EOS id only as the last one.
        hidden: float16[tokens, D], on the CPU: for each token of all sequences on end, the last-layer
            hidden state from which it was predicted.
        held_out: for each sequence, whether it is only measured.
        eos_token_ids: ids that end a text.
        vocabulary_size: V.
        fingerprint: of the tokenizer, or ``None``.

    Raises:
        ValueError: if the parts do not fit together.
    """

    sequences: tuple[tuple[int, ...], ...]
    hidden: Tensor
    held_out: tuple[bool, ...]
    eos_token_ids: tuple[int, ...]
    vocabulary_size: int
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        tokens = sum(map(len, self.sequences))
        if self.hidden.ndim != 2 or len(self.hidden) != tokens:
            raise ValueError(
                f"hidden has the shape {tuple(self.hidden.shape)}: with {tokens} tokens it must be "
                f"[{tokens}, D]"
            )
        if len(self.held_out) != len(self.sequences):
            raise ValueError(
                f"held_out has {len(self.held_out)} entries for {len(self.sequences)} sequences"
            )
        ends = set(self.eos_token_ids)
        if not ends or not all(0 <= i < self.vocabulary_size for i in ends):
            raise ValueError(
                f"eos_token_ids={self.eos_token_ids}: at least one, all below {self.vocabulary_size}"
            )
        for number, ids in enumerate(self.sequences):
            if not ends.isdisjoint(ids[:-1]):
                raise ValueError(f"sequence {number} goes on behind an EOS id")

    @property
    def train(self) -> list[tuple[int, ...]]:
        """The sequences to learn from."""
        return [s for s, held in zip(self.sequences, self.held_out, strict=True) if not held]

    @property
    def measured(self) -> list[tuple[int, ...]]:
        """The sequences that are held out."""
        return [s for s, held in zip(self.sequences, self.held_out, strict=True) if held]

    @property
    def ended(self) -> float:
        """Fraction of the sequences that end with EOS rather than for want of room."""
        ends = set(self.eos_token_ids)
        whole = sum(bool(ids) and ids[-1] in ends for ids in self.sequences)
        return whole / max(len(self.sequences), 1)

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file.

        Raises:
            OSError: if it cannot be written.
        """
        tensors = {
            "tokens": torch.tensor([i for ids in self.sequences for i in ids], dtype=torch.int32),
            "lengths": torch.tensor([len(ids) for ids in self.sequences], dtype=torch.int32),
            "held_out": torch.tensor(self.held_out, dtype=torch.bool),
            "hidden": self.hidden.contiguous(),
        }
        about = {"eos_token_ids": self.eos_token_ids, "vocabulary_size": self.vocabulary_size}
        header = {
            "tokenizer": self.fingerprint or "",
            "about": json.dumps(about, sort_keys=True),
        }
        write_tensors(path, _FORMAT, tensors, header)

    @classmethod
    def load(cls, path: str | Path, tokenizer: Any = None) -> Corpus:
        """Reads a file written by :meth:`save`.

        Args:
            path: of the file.
            tokenizer: the one it will be used with; ``None`` leaves it unchecked.

        Raises:
            TokenizerMismatch: if it was drawn with another tokenizer, or does not say with which.
            TensorFileError: if the file holds something else, or is damaged.
            OSError: if it cannot be read.
        """
        tensors, header = read_tensors(path, _FORMAT, _CALLED, ("tokenizer", "about"))
        fingerprint = header.get("tokenizer") or None
        check_tokenizer(path, fingerprint, tokenizer)
        try:
            return cls._of_file(tensors, said(header, "about", path, _CALLED), fingerprint)
        except (ArithmeticError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TensorFileError(f"{path} does not hold {_CALLED}: {error}") from None

    @classmethod
    def _of_file(
        cls, tensors: dict[str, Tensor], about: dict[str, Any], fingerprint: str | None
    ) -> Corpus:
        size = int(about["vocabulary_size"])
        if any(tensors[name].ndim != 1 for name in ("tokens", "lengths", "held_out")):
            raise ValueError("its tensors have other shapes")
        tokens = tensors["tokens"]
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < size:
            raise ValueError(f"it has tokens that are none of {size}")
        pieces = torch.split(tokens, tensors["lengths"].tolist())
        return cls(
            tuple(tuple(piece.tolist()) for piece in pieces),
            tensors["hidden"],
            tuple(map(bool, tensors["held_out"].tolist())),
            tuple(map(int, about["eos_token_ids"])),
            size,
            fingerprint,
        )


@dataclass(frozen=True, eq=False)
class Distilled:
    """What distilling gives.

    Attributes:
        hmm: the model after the last epoch.
        history: how each epoch of EM went.
        corpus: what it was fitted to; save it to fit another one without drawing again.
        soft: whether emissions began with the model's own distributions.
    """

    hmm: HMM
    history: list[Epoch]
    corpus: Corpus
    soft: bool


def distil(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt] | None,
    *,
    states: int = 128,
    samples_per_prompt: int = 1,
    count: int | None = None,
    length: int = 128,
    temperature: float = 1.0,
    held_out: float = 0.1,
    sampling_batch: int = 32,
    epochs: int = 10,
    batch: int = BATCH,
    pseudocount: float = PSEUDOCOUNT,
    dropout: float = DROPOUT,
    soft: bool = True,
    prior: float = PRIOR,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    device: torch.device | str | None = None,
) -> Distilled:
    """Draws a corpus (:func:`collect`) and fits a model to it (:func:`fit_corpus`).

    Args:
        model: a causal language model of ``transformers``, where it shall run.
        tokenizer: of ``transformers``, or a ``Vocabulary`` where prompts are token ids or ``None``.
        prompts: what is answered; ``None`` for text without a prompt, then ``count`` must be given.
        states: H, the one for EOS included.
        samples_per_prompt: responses to each prompt.
        count: responses in all instead, shared out over the prompts as evenly as it goes.
        length: most tokens of a response, EOS included.
        temperature: of sampling.
        held_out: fraction of the responses that are only measured.
        sampling_batch: responses drawn at once.
        epochs: steps of EM.
        batch: sequences worked on at once in EM.
        pseudocount: for each row of counts.
        dropout: of tokens in EM.
        soft: emissions begin with the model's own distributions rather than with counts; see the module.
            Models whose head is more than a matrix (capped or scaled logits) get counts all the same.
        prior: how many draws in each state these count as in EM.
        seed: of sampling, clustering and dropout.
        checkpoint: a file for EM's state; see :func:`samplers.deco_g.em.fit_em`.
        progress: shows bars on standard error.
        device: where clustering and EM run; the model's if ``None``.

    Raises:
        ValueError: for options out of range or a prompt that cannot be read.
        GrammarError: if the tokenizer is of a kind that ``Vocabulary`` cannot read.
    """
    if states < 2:
        raise ValueError(f"states={states}: must be at least 2, one of which is for EOS")
    corpus = collect(
        model,
        tokenizer,
        prompts,
        samples_per_prompt=samples_per_prompt,
        count=count,
        length=length,
        temperature=temperature,
        held_out=held_out,
        batch=sampling_batch,
        seed=seed,
        progress=progress,
    )
    head = head_of(model, temperature) if soft else None
    hmm, history = fit_corpus(
        corpus,
        head=head,
        prior=prior,
        states=states,
        epochs=epochs,
        batch=batch,
        pseudocount=pseudocount,
        dropout=dropout,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
        device=_device(model) if device is None else device,
    )
    return Distilled(hmm, history, corpus, head is not None)


@torch.no_grad()
def collect(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt] | None,
    *,
    samples_per_prompt: int = 1,
    count: int | None = None,
    length: int = 128,
    temperature: float = 1.0,
    held_out: float = 0.1,
    batch: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> Corpus:
    """Draws responses and keeps the hidden states they were predicted from; see :func:`distil`.

    With ten prompts or more, all responses to a prompt are held out or none, so that what is measured is
    how the model does on prompts that it has not seen.  Memory: 2 * D bytes for each token.

    Raises:
        ValueError: for options out of range or a prompt that cannot be read.
        GrammarError: if the tokenizer is of a kind that ``Vocabulary`` cannot read.
    """
    for name, value in (("length", length), ("batch", batch)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature={temperature}: must be positive")
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out={held_out}: must be at least 0 and less than 1")
    vocabulary = (
        tokenizer
        if isinstance(tokenizer, Vocabulary)
        else Vocabulary.from_huggingface(tokenizer, model=model)
    )
    if prompts is None:
        if count is None:
            raise ValueError("without prompts, count must say how many texts to draw")
        starts = [_beginning(model, tokenizer, vocabulary)]
    else:
        starts = [_encode(tokenizer, prompt) for prompt in prompts]
    if not starts:
        raise ValueError("there is no prompt; prompts=None draws texts without one")
    total = len(starts) * samples_per_prompt if count is None else count
    if total < 1:
        raise ValueError(f"{total} responses: there must be at least 1")
    owners = sorted(i % len(starts) for i in range(total))

    sequences: list[tuple[int, ...]] = []
    hidden: list[Tensor] = []
    ends = vocabulary.eos_token_ids
    device = _device(model)
    cuda = [device] if device.type == "cuda" else []
    with (
        bar(progress, "responses", total) as advance,
        torch.random.fork_rng(devices=cuda),
        _as_it_is(model, length, temperature, ends),
    ):
        torch.manual_seed(seed)
        for i in range(0, total, batch):
            asked = [starts[owner] for owner in owners[i : i + batch]]
            drawn = _generate(model, asked, ends, device)
            hidden += _hidden(model, asked, drawn, device)
            sequences += drawn
            advance(len(drawn))
    return Corpus(
        tuple(sequences),
        torch.cat(hidden),
        _split(owners, len(starts), held_out, seed),
        ends,
        max(vocabulary.size, _rows(model)),
        fingerprint_of(vocabulary),
    )


def fit_corpus(
    corpus: Corpus,
    *,
    states: int = 128,
    epochs: int = 10,
    batch: int = BATCH,
    pseudocount: float = PSEUDOCOUNT,
    dropout: float = DROPOUT,
    head: Head | None = None,
    prior: float = PRIOR,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[HMM, list[Epoch]]:
    """Clusters hidden states to a first model and runs EM from there; see :func:`distil`.

    Args:
        corpus: what :func:`collect` drew.
        head: of the model that it was drawn from (:func:`head_of`); emissions begin with counts if
            ``None``, and ``prior`` means nothing.

    Raises:
        ValueError: for options out of range, or fewer tokens to learn from than states.
    """
    if not (prior >= 0 and math.isfinite(prior)):
        raise ValueError(f"prior={prior}: must not be negative")
    first = initial_hmm(
        corpus, states=states, pseudocount=pseudocount, head=head, seed=seed, device=device
    )
    with bar(progress, "epochs", epochs) as advance:
        return fit_em(
            first,
            corpus.train,
            epochs=epochs,
            batch=batch,
            pseudocount=pseudocount,
            dropout=dropout,
            prior=None if head is None or prior == 0 else prior * first.emission,
            held_out=corpus.measured,
            on_epoch=lambda epoch, _: advance(1),
            seed=seed,
            checkpoint=checkpoint,
        )


# -- the first model -------------------------------------------------------------------------------


@torch.no_grad()
def initial_hmm(
    corpus: Corpus,
    *,
    states: int,
    pseudocount: float = PSEUDOCOUNT,
    head: Head | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> HMM:
    """The model that counts give when each token's state is the cluster of its hidden state.

    Args:
        corpus: responses; those held out are not looked at.
        states: H; H - 1 clusters, and the state for EOS.
        pseudocount: for each row of counts, positive: it makes every text possible.
        head: of the model; makes emissions means of its distributions instead of counts.
        seed: of the clustering.
        device: where the model will be.

    Raises:
        ValueError: for options out of range, or fewer tokens to learn from than states.
    """
    if states < 2:
        raise ValueError(f"states={states}: must be at least 2, one of which is for EOS")
    if not pseudocount > 0:
        raise ValueError(f"pseudocount={pseudocount}: must be positive for a first model")
    device = torch.device(device)
    lengths = torch.tensor([len(ids) for ids in corpus.sequences], dtype=torch.int64)
    kept = ~torch.tensor(corpus.held_out, dtype=torch.bool).repeat_interleave(lengths)
    owner = torch.arange(len(lengths)).repeat_interleave(lengths)[kept]
    tokens = torch.tensor([i for ids in corpus.train for i in ids], dtype=torch.int64)
    ends = torch.tensor(corpus.eos_token_ids, dtype=torch.int64)
    inside = ~torch.isin(tokens, ends)
    points = corpus.hidden[kept][inside]
    if len(points) < states - 1:
        raise ValueError(
            f"{len(points)} tokens to learn from are too few for {states} states: draw more responses, "
            "or longer ones"
        )
    generator = torch.Generator().manual_seed(seed)
    centroids = kmeans(points, states - 1, generator=generator, device=device)
    which = torch.full((len(tokens),), states - 1, dtype=torch.int64)
    which[inside] = nearest(points, centroids)

    V = corpus.vocabulary_size
    begins = torch.ones(len(tokens), dtype=torch.bool)
    begins[1:] = owner[1:] != owner[:-1]
    follows = ~begins[1:]
    pairs = which[:-1][follows] * states + which[1:][follows]
    initial = _bincount(which[begins], states, device)
    transition = _bincount(pairs, states * states, device).reshape(states, states)
    if head is None:
        emission = _bincount(which * V + tokens, states * V, device).reshape(states, V)
    else:
        emission = torch.zeros(states, V, device=device)
        for some, state in zip(
            torch.split(points, _HEAD_CHUNK), torch.split(which[inside], _HEAD_CHUNK), strict=True
        ):
            logits = head(some).to(device=device, dtype=torch.float32)
            # These places went on, so what is wanted is the distribution among tokens that go on.
            logits[:, ends] = -torch.inf
            drawable = logits.shape[1]  # a model may have fewer rows than the vocabulary has tokens
            emission[:, :drawable].index_add_(0, state.to(device), logits.softmax(-1))
    emission += pseudocount / max(V - len(ends), 1)
    # What no pseudo-count may make possible: EOS from other states, anything else once it was said.
    emission[:, ends] = 0.0
    emission[-1] = 0.0
    emission[-1, ends] = _bincount(tokens, V, device)[ends] + pseudocount / len(ends)
    transition += pseudocount / states
    transition[-1] = 0.0
    transition[-1, -1] = 1.0
    initial += pseudocount / states
    parts = [p / p.sum(-1, keepdim=True) for p in (initial, transition, emission)]
    return HMM(parts[0], parts[1], parts[2], corpus.fingerprint)


def kmeans(
    points: Tensor,
    k: int,
    *,
    generator: torch.Generator,
    rounds: int = _ROUNDS,
    sample: int | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Centroids by k-means++ and Lloyd's rounds, on a subsample.

    Args:
        points: [M, D] on the CPU, M at least k.
        k: centroids.
        generator: on the CPU.
        rounds: most rounds; fewer if nothing changes any more.
        sample: points to look at; 64 for each centroid if ``None``.
        device: where to work.

    Returns:
        float32[k, D].

    Raises:
        ValueError: with fewer points than centroids.
    """
    if len(points) < k:
        raise ValueError(f"{len(points)} points are too few for {k} centroids")
    size = min(len(points), max(k, _POINTS_PER_CENTROID * k if sample is None else sample))
    chosen = torch.randperm(len(points), generator=generator)[:size]
    seen = points[chosen].to(device=device, dtype=torch.float32)
    centroids = _spread(seen, k, generator)
    before: Tensor | None = None
    for _ in range(rounds):
        which = nearest(seen, centroids).to(seen.device)
        if before is not None and torch.equal(which, before):
            break
        before = which
        sums = torch.zeros_like(centroids).index_add_(0, which, seen)
        sizes = torch.bincount(which, minlength=k)
        # A centroid that lost all its points stays where it is.
        centroids = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centroids)
    return centroids


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """int64[M] on the CPU: which centroid each point is nearest to."""
    half = centroids.square().sum(1) / 2
    out = [
        (piece.to(device=centroids.device, dtype=torch.float32) @ centroids.T - half).argmax(1)
        for piece in torch.split(points, _CHUNK)
    ]
    return torch.cat(out).cpu() if out else torch.empty(0, dtype=torch.int64)


def _spread(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++: each centroid a point, drawn with probability as its squared distance to the others."""
    draws = torch.rand(k, generator=generator, dtype=torch.float64).tolist()
    chosen = [int(draws[0] * len(points))]
    norms = points.square().sum(1)
    distance = torch.full_like(norms, torch.inf)
    for draw in draws[1:]:
        last = points[chosen[-1]]
        distance = torch.minimum(distance, (norms - 2 * (points @ last) + last.square().sum()))
        distance = distance.clamp_min(0)
        distance[chosen[-1]] = 0.0
        sums = distance.double().cumsum(0)
        total = float(sums[-1])
        # Only copies of what was chosen are left: any point will do.
        place = int(draw * len(points)) if total <= 0 else int((sums <= draw * total).sum())
        chosen.append(min(place, len(points) - 1))
    return points[chosen].clone()


def _bincount(values: Tensor, width: int, device: torch.device) -> Tensor:
    return torch.bincount(values.to(device), minlength=width).to(torch.float32)


# -- drawing ---------------------------------------------------------------------------------------


def _encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    if isinstance(prompt, str):
        if isinstance(tokenizer, Vocabulary):
            raise ValueError("a Vocabulary cannot read strings: give token ids, or a tokenizer")
        ids = tokenizer(prompt)["input_ids"]
    elif prompt and isinstance(prompt[0], Mapping):
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError("the tokenizer has no chat template: give prompts as strings")
        ids = tokenizer.apply_chat_template(
            list(prompt), add_generation_prompt=True, return_dict=True
        )["input_ids"]
    else:
        ids = prompt
    found = [int(i) for i in ids]
    if not found:
        raise ValueError("a prompt has no token; prompts=None draws texts without one")
    return found


@torch.no_grad()
def head_of(model: Any, temperature: float = 1.0) -> Head | None:
    """What makes logits of a model's last-layer hidden states; see :data:`Head`.

    Returns:
        ``None`` if the model does more than multiply them with its output embedding, as models do that
        cap or scale their logits.
    """
    matrix = model.get_output_embeddings()
    if matrix is None:
        return None
    device = _device(model)
    ids = torch.arange(min(8, int(matrix.weight.shape[0])), device=device)[None]
    hidden = model.base_model(input_ids=ids).last_hidden_state
    apart = matrix(hidden).float().softmax(-1) - model(input_ids=ids).logits.float().softmax(-1)
    if float(apart.abs().sum(-1).max()) > _ALIKE:
        return None

    def logits(hidden: Tensor) -> Tensor:
        out: Tensor = matrix(hidden.to(device=device, dtype=matrix.weight.dtype))
        return out.float() / temperature

    return logits


def _rows(model: Any) -> int:
    """Tokens that a model can draw: some have more rows than their vocabulary has tokens."""
    output = model.get_output_embeddings()
    return 0 if output is None else int(output.weight.shape[0])


def _beginning(model: Any, tokenizer: Any, vocabulary: Vocabulary) -> list[int]:
    """The BOS id; without one the first EOS id, which many models saw between texts."""
    for holder in (tokenizer, getattr(model, "config", None)):
        found = getattr(holder, "bos_token_id", None)
        if found is not None:
            return [int(found)]
    return [vocabulary.eos_token_ids[0]]


@contextmanager
def _as_it_is(model: Any, length: int, temperature: float, ends: Sequence[int]) -> Iterator[None]:
    """The model's own generation defaults (top-k, penalties, ...) out of the way.

    ``generate`` fills what a given configuration leaves open from the model's, so handing it one that
    asks for nothing would not be enough.
    """
    from transformers import GenerationConfig

    before = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=length,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
    )
    try:
        yield
    finally:
        model.generation_config = before


def _generate(
    model: Any, prompts: Sequence[Sequence[int]], ends: Sequence[int], device: torch.device
) -> list[tuple[int, ...]]:
    """One response to each prompt, the first EOS included."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), ends[0], dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    out = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device))
    final = set(ends)
    responses = []
    for drawn in out[:, width:].tolist():
        stop = next((i + 1 for i, token in enumerate(drawn) if token in final), len(drawn))
        responses.append(tuple(drawn[:stop]))
    return responses


def _hidden(
    model: Any,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    device: torch.device,
) -> list[Tensor]:
    """float16[tokens, D] for each response: the hidden states its tokens were predicted from.

    One more forward over whole texts: ``generate`` would keep those of every layer, and the head's logits
    are not needed.
    """
    texts = [[*p, *r[:-1]] for p, r in zip(prompts, responses, strict=True)]
    width = max(map(len, texts))
    ids = torch.zeros((len(texts), width), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):  # padded on the right: places are right as they are
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    found = model.base_model(
        input_ids=ids.to(device), attention_mask=mask.to(device)
    ).last_hidden_state
    limit = torch.finfo(torch.float16).max
    halves = found.float().clamp(-limit, limit).to(torch.float16).cpu()
    return [
        halves[row, len(prompt) - 1 : len(text)].clone()
        for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
    ]


def _split(owners: Sequence[int], prompts: int, fraction: float, seed: int) -> tuple[bool, ...]:
    """Which sequences are held out; whole prompts where there are many of them."""
    groups = list(owners) if prompts >= _MANY_PROMPTS else list(range(len(owners)))
    names = sorted(set(groups))
    wanted = min(max(round(fraction * len(names)), int(fraction > 0)), len(names) - 1)
    mixed = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    apart = {names[i] for i in mixed[:wanted].tolist()}
    return tuple(group in apart for group in groups)


def _device(model: Any) -> torch.device:
    return torch.device(getattr(model, "device", "cpu"))
