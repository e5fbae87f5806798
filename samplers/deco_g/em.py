"""Baum-Welch: fitting a hidden Markov model to token sequences by expectation maximisation.

An epoch is one step of EM on all sequences.  Expected counts are added up chunk by chunk, so memory does
not grow with their number; emission counts are added token by token, so that nothing of the size
[sequences, places, V] ever exists.

Zeros are kept: a probability that is zero stays zero, pseudo-counts or not.  So whatever structure a model
starts with (an absorbing state, a state for EOS only) is still there in the end.

Source: Zhang et al. 2024, "Adaptable Logical Control for Large Language Models" (Ctrl-G), for pseudo-counts
(0.001, shared out over a row) and token dropout (0.01: a dropped token counts as not observed).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from samplers.deco_g.hmm import HMM, MISSING, Lattice, chunks_of, read, tensors_of

PSEUDOCOUNT: Final = 0.001
DROPOUT: Final = 0.01
BATCH: Final = 64


@dataclass(frozen=True)
class Epoch:
    """How far an epoch came.  Natural logarithms, divided by the number of tokens.

    Attributes:
        number: from 1.
        train: log-likelihood of the training sequences under the parameters that the epoch *began* with,
            which the step works out anyway; with dropout, of the tokens that were not dropped.
        held_out: of the held-out sequences under the parameters that it ended with; NaN without any.
    """

    number: int
    train: float
    held_out: float


@dataclass(frozen=True)
class Counts:
    """Expected counts.

    Attributes:
        initial: [H], of first states.
        transition: [H, H], of a state (row) followed by a state (column).
        emission: [H, V], of a token (column) in a state (row); dropped tokens are not in it.
        log_likelihood: of all sequences together.
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor
    log_likelihood: float


@torch.no_grad()
def expected_counts(
    hmm: HMM, sequences: Sequence[Sequence[int] | Tensor], *, batch: int = BATCH
) -> Counts:
    """Expected counts of one E-step.

    Args:
        hmm: the model.
        sequences: token ids; ``MISSING`` (-1) where a token was not observed.
        batch: sequences worked on at once.  Memory is about ``3 * batch * longest * H`` numbers beside
            the counts themselves.

    Raises:
        ValueError: for a token outside the vocabulary, or a sequence that is impossible.
    """
    given = [torch.as_tensor(ids, dtype=torch.int64, device="cpu") for ids in sequences]
    tensors_of([ids[ids != MISSING] for ids in given], hmm.vocabulary_size)
    return _count(hmm, given, chunks_of(given, batch))


@torch.no_grad()
def fit_em(
    hmm: HMM,
    sequences: Sequence[Sequence[int] | Tensor],
    *,
    epochs: int = 10,
    batch: int = BATCH,
    pseudocount: float = PSEUDOCOUNT,
    dropout: float = DROPOUT,
    prior: Tensor | None = None,
    held_out: Sequence[Sequence[int] | Tensor] = (),
    on_epoch: Callable[[Epoch, HMM], None] | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
) -> tuple[HMM, list[Epoch]]:
    """Fits a model, on the device and in the precision that it has.

    Without dropout, pseudo-counts and prior the likelihood of the training sequences never falls; with
    the latter two, that plus the logarithm of the Dirichlet prior they stand for does not.

    Args:
        hmm: where to start.
        sequences: token ids to learn from; empty ones are fine and teach nothing.
        epochs: steps in all, those of a checkpoint included.
        batch: sequences worked on at once; see :func:`expected_counts`.
        pseudocount: added to the counts of each row, shared out evenly over what is not zero in it.
        dropout: probability with which a token counts as not observed, drawn anew in each epoch.
        prior: [H, V], not negative: counts of emissions known from elsewhere, added in each epoch.  Keep
            it zero where no token may come to be emitted.
        held_out: sequences that are only measured.
        on_epoch: called after each epoch, when its checkpoint has been written.
        seed: of the dropout.
        checkpoint: a file written after each epoch; where it is there already, fitting goes on from it,
            with the same result as if it had not been interrupted.

    Returns:
        The model after the last epoch, and the history from the first.

    Raises:
        ValueError: for a token outside the vocabulary, a training sequence that is impossible under
            ``hmm``, options out of range, or a checkpoint of other sequences or options.
        OSError: if the checkpoint cannot be read or written.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout}: must be at least 0 and less than 1")
    if not (pseudocount >= 0 and math.isfinite(pseudocount)):
        raise ValueError(f"pseudocount={pseudocount}: must not be negative")
    if prior is not None and (prior.shape != hmm.emission.shape or not bool((prior >= 0).all())):
        raise ValueError(
            f"prior has the shape {tuple(prior.shape)} or is negative somewhere: it must be counts of the "
            f"shape {tuple(hmm.emission.shape)}"
        )
    given = tensors_of(sequences, hmm.vocabulary_size)
    measured = tensors_of(held_out, hmm.vocabulary_size)
    tokens, apart = sum(map(len, given)), sum(map(len, measured))
    if not tokens:
        raise ValueError("there is nothing to learn from: no sequence has a token")
    chunks = chunks_of(given, batch)
    about = {
        "kind": "checkpoint of fit_em",
        "sequences": _digest(given),
        "held_out": _digest(measured),
        "states": hmm.states,
        "vocabulary_size": hmm.vocabulary_size,
        "pseudocount": pseudocount,
        "dropout": dropout,
        "prior": None if prior is None else _digest([prior.cpu()]),
        "seed": seed,
    }
    history: list[Epoch] = []
    if checkpoint is not None and Path(checkpoint).exists():
        hmm, history = _resume(checkpoint, hmm, about)
    for number in range(len(history) + 1, epochs + 1):
        seen, observed = _drop(given, dropout, seed, number)
        counts = _count(hmm, seen, chunks)
        if prior is not None:
            counts.emission.add_(prior.to(counts.emission))
        hmm = _maximised(hmm, counts, pseudocount)
        found = float(hmm.log_likelihoods(measured, batch=batch).sum()) if apart else math.nan
        # `observed` is only zero if every token was dropped.
        train = counts.log_likelihood / max(observed, 1)
        history.append(Epoch(number, train, found / apart if apart else math.nan))
        if checkpoint is not None:
            hmm.save(checkpoint, about=about | {"history": [asdict(e) for e in history]})
        if on_epoch is not None:
            on_epoch(history[-1], hmm)
    return hmm, history


# -- one step --------------------------------------------------------------------------------------


def _count(hmm: HMM, sequences: Sequence[Tensor], chunks: Sequence[Sequence[int]]) -> Counts:
    initial = torch.zeros_like(hmm.initial)
    moves = torch.zeros_like(hmm.transition)
    emission = torch.zeros_like(hmm.emission)
    total = 0.0
    for numbers in chunks:
        lattice, parts = _chunk(hmm, sequences, numbers)
        first, between, rows, logp = parts
        initial += first
        moves += between
        # A row of tokens that were not observed comes first, if there is one.
        skipped = int((lattice.tokens[:1] == MISSING).sum())
        emission.index_add_(1, lattice.tokens[skipped:], rows[skipped:].T)
        total += logp
    return Counts(initial, moves, emission, total)


def _chunk(
    hmm: HMM, sequences: Sequence[Tensor], numbers: Sequence[int]
) -> tuple[Lattice, tuple[Tensor, Tensor, Tensor, float]]:
    chosen = [sequences[i] for i in numbers]
    impossible: list[int] = []
    # float32 is enough nearly always; where it is not, the chunk is done again in float64.
    for dtype in dict.fromkeys((hmm.dtype, torch.float64)):
        lattice = Lattice(hmm, chosen, dtype)
        logp = lattice.forward()
        impossible = logp.isinf().nonzero().flatten().tolist()
        if impossible:
            continue
        first = torch.zeros_like(lattice.initial)
        moves = torch.zeros_like(lattice.transition)
        rows = torch.zeros_like(lattice.rows)
        for step in lattice.backward():
            rows.index_add_(0, step.rows, step.posterior)
            if len(step.before):
                moves.addmm_(step.before.T, step.after)
            if step.place == 0:
                first += step.posterior.sum(0)
        if lattice.is_sound() or dtype == torch.float64:
            moves *= lattice.transition
            parts = (first.to(hmm.dtype), moves.to(hmm.dtype), rows.to(hmm.dtype))
            return lattice, (*parts, float(logp.sum()))
    raise ValueError(
        f"sequence {numbers[impossible[0]]} has probability zero under the model: nothing can be learned "
        "from it; start from a model without such zeros"
    )


def _maximised(hmm: HMM, counts: Counts, pseudocount: float) -> HMM:
    rows = [
        _normalised(counts.initial, hmm.initial, pseudocount),
        _normalised(counts.transition, hmm.transition, pseudocount),
        _normalised(counts.emission, hmm.emission, pseudocount),
    ]
    return HMM(rows[0], rows[1], rows[2], hmm.fingerprint)


def _normalised(counts: Tensor, before: Tensor, pseudocount: float) -> Tensor:
    """Rows of counts as probabilities; a row that was never needed stays as it was."""
    if pseudocount:
        allowed = before > 0
        share = pseudocount / allowed.sum(-1, keepdim=True).to(counts.dtype)
        counts = counts + allowed * share
    total = counts.sum(-1, keepdim=True)
    return torch.where(total > 0, counts / torch.where(total > 0, total, 1.0), before)


def _drop(
    sequences: Sequence[Tensor], dropout: float, seed: int, epoch: int
) -> tuple[list[Tensor], int]:
    """Sequences with some tokens replaced by ``MISSING``, and how many are left."""
    flat = torch.cat(list(sequences))
    if dropout:
        # One generator for each epoch: what is dropped does not depend on where fitting began again.
        mixed = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(mixed[:7], "big"))
        flat[torch.rand(len(flat), generator=generator) < dropout] = MISSING
    return list(torch.split(flat, [len(ids) for ids in sequences])), int((flat != MISSING).sum())


# -- checkpoints -----------------------------------------------------------------------------------


def _digest(sequences: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for ids in sequences:
        digest.update(b"%d " % len(ids))
        digest.update(ids.contiguous().numpy().data)
    return digest.hexdigest()


def _resume(path: str | Path, hmm: HMM, about: dict[str, Any]) -> tuple[HMM, list[Epoch]]:
    found, stored = read(path, device=hmm.device)
    here = json.loads(json.dumps(about))
    other = sorted(name for name in here if stored.get(name) != here[name])
    if other:
        raise ValueError(
            f"{path}: a checkpoint with another {', '.join(other)}; delete it, or name another file"
        )
    return found.to(dtype=hmm.dtype), [Epoch(**epoch) for epoch in stored["history"]]
