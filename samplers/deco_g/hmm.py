"""A hidden Markov model over tokens: likelihoods, filters, posteriors, samples, and its file.

The convention, everywhere: ``z_1 ~ initial``, ``x_t ~ emission[z_t]``, ``z_{t+1} ~ transition[z_t]``.
A model made by ``HMM.fit`` has one more property: its last state is absorbing, emits EOS ids only, and no
other state emits them.  So "the text has ended" and "the state is the last one" are the same event.

Source: Zhang et al. 2024, "Adaptable Logical Control for Large Language Models" (Ctrl-G), which distils
such a model from a language model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from constrain.vocabulary import Vocabulary
from grammars.errors import GrammaError
from samplers.tensor_files import TensorFileError, read_tensors, said, write_tensors

if TYPE_CHECKING:
    from samplers.deco_g.distil import Prompt

_FORMAT: Final = "gramma hmm 1"
_CALLED: Final = "an HMM of gramma"
_TOLERANCE: Final = {torch.float32: 1e-4, torch.float64: 1e-6}
MISSING: Final = -1
"""In place of a token that was not observed: every state gives it probability one."""


class TokenizerMismatch(GrammaError, ValueError):  # noqa: N818 - the name says it
    """A stored model was fitted with another tokenizer, or does not say with which."""


def fingerprint_of(tokenizer: Any) -> str:
    """SHA-256, in hexadecimal, over the bytes of each token of a vocabulary.

    Rows without a token do not count, so that a tokenizer and a model with padded embeddings agree; nor
    do special tokens, EOS ids among them.

    Args:
        tokenizer: a ``Vocabulary``, or a tokenizer that ``Vocabulary.from_huggingface`` reads.

    Raises:
        GrammarError: if it is of another kind, or knows no EOS id; give a ``Vocabulary`` then.
    """
    vocabulary = (
        tokenizer if isinstance(tokenizer, Vocabulary) else Vocabulary.from_huggingface(tokenizer)
    )
    digest = hashlib.sha256(b"gramma tokens 1\n")
    for i, text in enumerate(vocabulary.texts):
        if text:
            digest.update(b"%d %d " % (i, len(text)))
            digest.update(text)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False, repr=False)
class HMM:
    """Probabilities of a hidden Markov model with H states over V tokens; see the module.

    Immutable: nothing here writes to the tensors, which are kept as they are given, not copied.

    Attributes:
        initial: float32 or float64[H], of the first state.
        transition: [H, H], of the next state (column) after a state (row).
        emission: [H, V], of a token (column) in a state (row).
        fingerprint: of the tokenizer (see :func:`fingerprint_of`), or ``None`` where it is not known.

    Raises:
        ValueError: if shapes, types or devices do not fit together, a probability is negative, or a row
            does not sum to one within 1e-4 (float32) or 1e-6 (float64).
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        states = len(self.initial) if self.initial.ndim == 1 else 0
        if states == 0:
            raise ValueError(
                f"initial has the shape {tuple(self.initial.shape)}: it must be [H], H at least 1"
            )
        if self.transition.shape != (states, states):
            raise ValueError(
                f"transition has the shape {tuple(self.transition.shape)}: with {states} initial "
                f"probabilities it must be [{states}, {states}]"
            )
        if self.emission.ndim != 2 or len(self.emission) != states or not self.emission.shape[1]:
            raise ValueError(
                f"emission has the shape {tuple(self.emission.shape)}: with {states} initial "
                f"probabilities it must be [{states}, V], V at least 1"
            )
        if self.initial.dtype not in _TOLERANCE:
            raise ValueError(f"initial is of {self.initial.dtype}: use torch.float32 or float64")
        for name in ("transition", "emission"):
            tensor: Tensor = getattr(self, name)
            if tensor.dtype != self.initial.dtype or tensor.device != self.initial.device:
                raise ValueError(
                    f"{name} is of {tensor.dtype} on {tensor.device}, initial of "
                    f"{self.initial.dtype} on {self.initial.device}: they must be alike"
                )
        for name in ("initial", "transition", "emission"):
            _check_rows(name, getattr(self, name))
            object.__setattr__(self, name, getattr(self, name).detach())

    def __repr__(self) -> str:
        return (
            f"HMM({self.states} states, {self.vocabulary_size} tokens, {self.dtype}, {self.device})"
        )

    @property
    def states(self) -> int:
        """H, the number of hidden states."""
        return len(self.initial)

    @property
    def vocabulary_size(self) -> int:
        """V, the number of token ids."""
        return self.emission.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.initial.device

    @property
    def dtype(self) -> torch.dtype:
        """``torch.float32`` or ``torch.float64``."""
        return self.initial.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> HMM:
        """The same model elsewhere, or in another precision.

        Raises:
            ValueError: for a type that is not float32 or float64.
        """
        parts = (self.initial, self.transition, self.emission)
        moved = [p.to(device=device or p.device, dtype=dtype or p.dtype) for p in parts]
        return HMM(moved[0], moved[1], moved[2], self.fingerprint)

    # -- construction --------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[Prompt] | None = None,
        *,
        states: int = 128,
        **options: Any,
    ) -> HMM:
        """Distils a model from a causal language model: draws responses, clusters, runs EM.

        Args:
            model: of ``transformers``.
            tokenizer: of ``transformers``, or a ``Vocabulary`` where prompts are token ids or ``None``.
            prompts: strings, chat messages or token ids; ``None`` for text without a prompt.
            states: hidden states, the one for EOS included.
            options: of :func:`samplers.deco_g.distil.distil`, which also gives the history.

        Raises:
            ValueError: as :func:`samplers.deco_g.distil.distil` does.
        """
        from samplers.deco_g.distil import distil

        return distil(model, tokenizer, prompts, states=states, **options).hmm

    # -- likelihood ----------------------------------------------------------------------------

    def log_likelihood(self, ids: Sequence[int] | Tensor) -> float:
        """Natural logarithm of p(x_1 .. x_T); ``-inf`` if impossible; 0.0 for no token.

        Raises:
            ValueError: for a token outside the vocabulary.
        """
        return float(self.log_likelihoods([ids])[0])

    @torch.no_grad()
    def log_likelihoods(
        self, sequences: Sequence[Sequence[int] | Tensor], *, batch: int = 64
    ) -> Tensor:
        """Of many sequences of any lengths: float64[N] on the CPU.

        Args:
            sequences: token ids of each.
            batch: sequences worked on at once.

        Raises:
            ValueError: for a token outside the vocabulary.
        """
        given = tensors_of(sequences, self.vocabulary_size)
        out = torch.zeros(len(given), dtype=torch.float64)
        for rows in chunks_of(given, batch):
            chosen = [given[i] for i in rows]
            found = Lattice(self, chosen).forward()
            if self.dtype == torch.float32 and bool(found.isinf().any()):
                # Impossible, or only too small for float32 within one step.
                found = Lattice(self, chosen, torch.float64).forward()
            out[rows] = found.cpu()
        return out

    # -- filter --------------------------------------------------------------------------------

    def start(self) -> Tensor:
        """[H]: p(z_1), the vector of a filter that has seen nothing."""
        return self.initial

    @torch.no_grad()
    def observe(self, vector: Tensor, token: int) -> tuple[Tensor, float]:
        """One step of the filter.

        Args:
            vector: [H], p(z_t | x_1 .. x_{t-1}).
            token: x_t.

        Returns:
            p(z_{t+1} | x_1 .. x_t), [H], and log p(x_t | x_1 .. x_{t-1}).  Vectors are normalised, so
            long texts do not underflow.  After an impossible token (``-inf``) the vector is zero, and
            every token after it is impossible.

        Raises:
            ValueError: for a token outside the vocabulary.
        """
        if not 0 <= token < self.vocabulary_size:
            raise ValueError(
                f"token {token} is outside the model's vocabulary of {self.vocabulary_size} tokens"
            )
        column = self.emission[:, token]
        top = column.max()
        # Divided by its largest entry first: the product of two small numbers may not be one.
        joint = vector * (column / top.clamp_min(torch.finfo(self.dtype).tiny))
        scale, total = torch.stack((top, joint.sum())).tolist()
        if scale <= 0 or total < torch.finfo(self.dtype).tiny:
            return torch.zeros_like(self.initial), -math.inf
        return (joint / total) @ self.transition, math.log(scale) + math.log(total)

    def next_token(self, vector: Tensor) -> Tensor:
        """[V]: p(x_t | x_1 .. x_{t-1}) from the filter's vector; zero after an impossible token."""
        return vector @ self.emission

    @torch.no_grad()
    def posterior(self, ids: Sequence[int] | Tensor) -> Tensor:
        """[T, H]: p(z_t | x_1 .. x_T) for each t.

        Raises:
            ValueError: for a token outside the vocabulary, or a text that is impossible.
        """
        given = tensors_of([ids], self.vocabulary_size)
        out = torch.zeros(len(given[0]), self.states, dtype=self.dtype, device=self.device)
        for dtype in dict.fromkeys((self.dtype, torch.float64)):
            lattice = Lattice(self, given, dtype)
            if bool(lattice.forward().isfinite().all()):
                for step in lattice.backward():
                    out[step.place] = step.posterior[0].to(self.dtype)
                if lattice.is_sound():
                    return out
        raise ValueError("the text has probability zero, so its states have no posterior")

    # -- samples -------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, length: int, generator: torch.Generator | None = None) -> list[int]:
        """Draws x_1 .. x_length; a fitted model goes on with EOS ids once it has ended.

        Args:
            length: number of tokens.
            generator: on the model's device; the global one if ``None``.
        """
        out: list[int] = []
        states = self.initial
        for _ in range(length):
            state = int(torch.multinomial(states, 1, generator=generator))
            out.append(int(torch.multinomial(self.emission[state], 1, generator=generator)))
            states = self.transition[state]
        return out

    # -- file ----------------------------------------------------------------------------------

    def save(
        self,
        path: str | Path,
        tokenizer_fingerprint: str | None = None,
        *,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes a safetensors file; it replaces an older one only when it is whole.

        Args:
            path: of the file.
            tokenizer_fingerprint: of the tokenizer; the model's own ``fingerprint`` if ``None``.
            about: anything JSON can hold, kept with it; :func:`read` gives it back.

        Raises:
            OSError: if the file cannot be written.
        """
        header = {
            "tokenizer": tokenizer_fingerprint or self.fingerprint or "",
            "about": json.dumps(dict(about or {}), sort_keys=True),
        }
        tensors = {
            "initial": self.initial,
            "transition": self.transition,
            "emission": self.emission,
        }
        write_tensors(path, _FORMAT, tensors, header)

    @classmethod
    def load(
        cls, path: str | Path, tokenizer: Any = None, *, device: torch.device | str = "cpu"
    ) -> HMM:
        """Reads a file written by :meth:`save`.

        Args:
            path: of the file.
            tokenizer: the one it will be used with (or its ``Vocabulary``); ``None`` leaves it unchecked.
            device: where the tensors go.

        Raises:
            TokenizerMismatch: if it was fitted with another tokenizer, or does not say with which.
            TensorFileError: if the file holds something else, or is damaged.
            OSError: if it cannot be read.
        """
        return read(path, tokenizer, device=device)[0]


def read(
    path: str | Path, tokenizer: Any = None, *, device: torch.device | str = "cpu"
) -> tuple[HMM, dict[str, Any]]:
    """A stored model and what was written ``about`` it; see :meth:`HMM.load`."""
    tensors, header = read_tensors(path, _FORMAT, _CALLED, ("tokenizer", "about"), device)
    names = ("initial", "transition", "emission")
    if set(names) != set(tensors):
        raise TensorFileError(f"{path} does not hold {_CALLED}: it has {sorted(tensors)}")
    check_tokenizer(path, header.get("tokenizer") or None, tokenizer)
    initial, transition, emission = (tensors[name] for name in names)
    about = said(header, "about", path, _CALLED)
    try:
        return HMM(initial, transition, emission, header.get("tokenizer") or None), about
    except ValueError as error:
        raise TensorFileError(f"{path} does not hold {_CALLED}: {error}") from None


def check_tokenizer(path: str | Path, stored: str | None, tokenizer: Any) -> None:
    """Compares a stored fingerprint with a tokenizer's; nothing to compare with ``None``.

    Raises:
        TokenizerMismatch: if they differ, or none is stored.
    """
    if tokenizer is None:
        return
    here = fingerprint_of(tokenizer)
    if stored is None:
        raise TokenizerMismatch(
            f"{path} does not say which tokenizer it was made with; load it without one if you are "
            "sure that token ids mean the same"
        )
    if stored != here:
        raise TokenizerMismatch(
            f"{path} was made with another tokenizer (fingerprint {stored[:12]}, here {here[:12]}): "
            "its token ids mean other texts; make it anew with this tokenizer"
        )


# -- forward and backward --------------------------------------------------------------------------


def tensors_of(sequences: Iterable[Sequence[int] | Tensor], vocabulary_size: int) -> list[Tensor]:
    """int64[T] on the CPU for each sequence.

    Raises:
        ValueError: for a token outside the vocabulary.
    """
    out = [torch.as_tensor(ids, dtype=torch.int64, device="cpu") for ids in sequences]
    for number, ids in enumerate(out):
        if ids.ndim != 1:
            raise ValueError(f"sequence {number} has the shape {tuple(ids.shape)}: it must be [T]")
        outside = (ids < 0) | (ids >= vocabulary_size)
        if bool(outside.any()):
            place = int(outside.nonzero()[0])
            raise ValueError(
                f"token {int(ids[place])} at place {place} of sequence {number} is outside the model's "
                f"vocabulary of {vocabulary_size} tokens"
            )
    return out


def chunks_of(sequences: Sequence[Tensor], batch: int) -> list[list[int]]:
    """Numbers of sequences, ``batch`` at a time, those of like length together; the longest first.

    Raises:
        ValueError: if ``batch`` is not positive.
    """
    if batch < 1:
        raise ValueError(f"batch={batch}: must be at least 1")
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    return [order[i : i + batch] for i in range(0, len(order), batch)]


@dataclass(frozen=True)
class Smoothed:
    """What the backward pass knows of one place of n sequences, m of which go on behind it.

    Attributes:
        place: t, from 0.
        rows: int64[n], which row of ``Lattice.rows`` each sequence's token is.
        posterior: [n, H], p(z_t | whole sequence).
        before: [m, H], and
        after: [m, H]: p(z_t = i, z_{t+1} = j | whole sequence) of sequence s is
            ``before[s, i] * transition[i, j] * after[s, j]``.
    """

    place: int
    rows: Tensor
    posterior: Tensor
    before: Tensor
    after: Tensor


class Lattice:
    """Scaled forward and backward passes over several sequences at once.

    Sequences are sorted by length and worked on place by place; at each place only those that are that
    long take part.  So padding does not exist, rather than being masked.  Memory: T * N * H numbers for
    the forward vectors, and one row of H for each different token.

    Args:
        hmm: the model.
        sequences: int64[T] each, on the CPU; ``MISSING`` where a token was not observed.
        dtype: to compute in; the model's if ``None``.
    """

    def __init__(
        self, hmm: HMM, sequences: Sequence[Tensor], dtype: torch.dtype | None = None
    ) -> None:
        device, self.dtype = hmm.device, dtype or hmm.dtype
        self.count: Final = len(sequences)
        self.initial: Final = hmm.initial.to(self.dtype)
        self.transition: Final = hmm.transition.to(self.dtype)
        self.order: Final = sorted(range(self.count), key=lambda i: -len(sequences[i]))
        lengths = [len(sequences[i]) for i in self.order]
        flat = torch.cat([*sequences, torch.empty(0, dtype=torch.int64)]).to(device)
        tokens, inverse = torch.unique(flat, return_inverse=True)
        starts = [0]
        for ids in sequences:
            starts.append(starts[-1] + len(ids))
        first = torch.tensor([starts[i] for i in self.order], dtype=torch.int64, device=device)
        active = [0] * (lengths[0] if lengths else 0)
        for length in lengths:
            if length:
                active[length - 1] += 1
        for t in range(len(active) - 2, -1, -1):
            active[t] += active[t + 1]
        self.steps: Final = [inverse[first[:n] + t] for t, n in enumerate(active)]

        self.tokens: Final = tokens
        """int64[U]: what token each row is; ``MISSING`` can only be the first."""
        rows = hmm.emission.index_select(1, tokens.clamp_min(0)).T.to(self.dtype).contiguous()
        rows[tokens == MISSING] = 1.0
        top = rows.amax(1) if rows.numel() else rows.sum(1)
        top = torch.where(top > 0, top, 1.0)
        self.rows: Final = rows / top[:, None]
        """[U, H]: probability of the token in each state, the largest of them scaled to one."""
        self.log_top: Final = top.double().log()
        self.tiny: Final = torch.finfo(self.dtype).tiny
        self._vectors: list[Tensor] = []
        self._least: Tensor | None = None

    def forward(self) -> Tensor:
        """float64[N]: log p of each sequence, in the order given; ``-inf`` if impossible."""
        found = torch.zeros(self.count, dtype=torch.float64, device=self.rows.device)
        vector = self.initial.expand(self.count, -1)
        self._vectors = []
        for rows in self.steps:
            joint = vector[: len(rows)] * self.rows[rows]
            total = joint.sum(1)
            # Below the smallest normal number digits are lost: as good as impossible.
            total = torch.where(total < self.tiny, 0.0, total)
            filtered = joint / torch.where(total > 0, total, torch.inf)[:, None]
            found[: len(rows)] += total.double().log() + self.log_top[rows]
            self._vectors.append(filtered)
            vector = filtered @ self.transition
        out = torch.empty_like(found)
        out[self.order] = found
        return out

    def backward(self) -> Iterator[Smoothed]:
        """Last place first; after :meth:`forward`, with no sequence impossible."""
        after = self.rows.new_empty(0, self.rows.shape[1])
        for t in range(len(self.steps) - 1, -1, -1):
            rows, filtered = self.steps[t], self._vectors[t]
            ahead = torch.ones_like(filtered)
            if len(after):
                ahead[: len(after)] = after @ self.transition.T
            joint = filtered * ahead
            total = joint.sum(1)
            least = total.min()
            self._least = least if self._least is None else torch.minimum(self._least, least)
            before = filtered[: len(after)] / total[: len(after), None]
            yield Smoothed(t, rows, joint / total[:, None], before, after)
            after = self.rows[rows] * (ahead / ahead.amax(1, keepdim=True))

    def is_sound(self) -> bool:
        """Whether no number of the backward pass came so near to zero that digits were lost."""
        if self._least is None:
            return True
        # What is divided by it must not overflow either: far from the limit, not just above it.
        least, tiny = float(self._least), float(self.tiny)
        return least > math.pow(tiny, 0.75)


def _check_rows(name: str, tensor: Tensor) -> None:
    sums = tensor.sum(-1, dtype=torch.float64)
    off = (sums - 1).abs()
    # A NaN makes every comparison false, so this is put as what must hold.
    if not bool((off <= _TOLERANCE[tensor.dtype]).all()):
        row = int(off.nan_to_num(nan=math.inf).argmax())
        which = f"row {row} of {name}" if tensor.ndim > 1 else name
        raise ValueError(f"{which} sums to {float(sums.reshape(-1)[row]):.6g}: it must sum to 1")
    if float(tensor.min()) < 0:
        raise ValueError(f"{name} has a negative probability, {float(tensor.min())}")
