r"""Distils a hidden Markov model from a language model, for ``DecoG`` and ``CtrlG``.

Draws answers of the model to instructions, keeps them in a file, fits a model to them and says how
likely it finds answers that it did not learn from::

    python examples/distil_hmm.py --prompts gsm8k --seconds 60 --length 64 --states 64 \
        --corpus try.corpus.safetensors --out try.hmm.safetensors      # a trial: about two minutes

    python examples/distil_hmm.py --prompts gsm8k --length 256 --seconds 1500 --states 256 \
        --corpus gsm8k.corpus.safetensors --out gsm8k.hmm.safetensors  # for Deco-G
    python examples/distil_hmm.py --prompts none --seconds 1200 --states 256 \
        --corpus free.corpus.safetensors --out free.hmm.safetensors    # without prompts, for Ctrl-G

Each of the latter two takes its ``--seconds`` of drawing (one thread of a shared machine drew 90 to 150
tokens a second), and one or two minutes of clustering and EM; 1.2 KB of disk and of memory for each token
drawn.  A corpus that is there already is used: with ``--seconds 0`` nothing is drawn, so that another
number of states costs its fit alone; else drawing goes on where it stopped (also after an
interruption: the file is written every two minutes).

``--prompts`` names sets of ``benchmarks/deco_g_tasks.py``, with commas between, whose questions take
turns; or ``none``; or a text file with one instruction a line.  They say what is asked, nothing of a
format, and none of them is measured by ``benchmarks/deco_g.py``: of GSM8K only the test split is
at hand, so questions 0 to 999 are for distilling and the rest for measuring.  Every tenth prompt (text,
without prompts) is held out.

``--length`` should leave room to end: of SmolLM2-135M's answers to ``gsm8k`` 4 % end within 128 tokens,
17 % within 192, 29 % within 256; of those to ``judge`` and ``events`` 80 % within 128.  One model for
several sets (``--prompts judge,events``) takes what is usual in one for likely in the other: with short
answers among them, ``DecoG`` ends sums at once; so rather make one for each.

A few epochs are enough; more of them learn the training part by heart.  Emissions begin with the model's
own laws, which count as ``--prior`` draws in each state; without them tokens that were not drawn are as
good as impossible.  (From 18,000 tokens, 128 states, four epochs: held-out log-likelihood per token -5.76
with a prior of 30, -5.66 with 100, -5.63 with 300, -5.65 with 1000.)

Sources: Zhang et al. 2024, "Adaptable Logical Control for Large Language Models" (Ctrl-G); Deng, Kung
and Peng 2025, "Decoupling Task-Solving and Output Formatting in LLM Generation" (Deco-G).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from deco_g_tasks import SETS, TaskSet

from constrain.models import DEFAULT_MODEL, load_model
from samplers.deco_g.distil import Corpus, Prompt, collect, fit_corpus, head_of
from samplers.progress import bar

HELD_OUT: Final = 10
"""One prompt in so many is only measured."""
SAVE: Final = 120.0
"""Seconds between two writings of the corpus."""
_SHOWN: Final = 12


def prompts_of(names: str, block: int) -> list[Prompt] | None:
    """Chats of the sets named, or of the lines of a file; ``None`` for ``none``.

    Args:
        names: see the module.
        block: sets take turns after so many prompts: those drawn at once should be of one length.

    Raises:
        ValueError: for what is neither a set nor a file, or a file without a line.
    """
    if names == "none":
        return None
    if Path(names).is_file():
        lines = Path(names).read_text("utf-8").splitlines()
        found: list[Prompt] = [
            [{"role": "user", "content": line}] for line in lines if line.strip()
        ]
        if not found:
            raise ValueError(f"{names} has no line with an instruction")
        return found
    unknown = [name for name in names.split(",") if name not in SETS]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is neither a file nor one of {', '.join(SETS)}; give these with commas "
            "between, or none"
        )
    blocks = [_blocks(SETS[name], block) for name in names.split(",")]
    turns = itertools.zip_longest(*blocks, fillvalue=())
    return [prompt for turn in turns for some in turn for prompt in some]


def _blocks(task: TaskSet, size: int) -> list[list[Prompt]]:
    chats: list[Prompt] = [task.prompt(question, format=False) for question in task.draw(True)]
    return [chats[i : i + size] for i in range(0, len(chats), size)]


def rounds(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt] | None,
    corpus: Corpus | None,
    *,
    sequences: int,
    batch: int,
    length: int,
    seed: int,
) -> Iterator[Corpus]:
    """Corpora with ever more sequences, from one that is there; prompts are used in turn.

    Args:
        model: of ``transformers``.
        tokenizer: of ``transformers``.
        prompts: what is answered; ``None`` for texts without one.
        corpus: what there is already.
        sequences: how many there will be.
        batch: drawn at once; what is drawn depends on it.
        length: most tokens of each.
        seed: with the number of sequences there are, that of the next ones.
    """
    while (done := 0 if corpus is None else len(corpus.sequences)) < sequences:
        numbers = range(done, min(done + batch, sequences))
        asked = None if prompts is None else [prompts[i % len(prompts)] for i in numbers]
        drawn = collect(
            model,
            tokenizer,
            asked,
            count=len(numbers),
            length=length,
            held_out=0.0,
            batch=batch,
            seed=seed * 1_000_003 + done,
        )
        owners = list(numbers) if prompts is None else [i % len(prompts) for i in numbers]
        held = [owner % HELD_OUT == HELD_OUT - 1 for owner in owners]
        corpus = joined(corpus, drawn, held)
        yield corpus


def joined(before: Corpus | None, drawn: Corpus, held_out: Sequence[bool]) -> Corpus:
    """A corpus with the sequences of another behind its own.

    Raises:
        ValueError: if they are of different models.
    """
    if before is None:
        sequences, hidden, held = drawn.sequences, drawn.hidden, tuple(held_out)
    else:
        if (before.fingerprint, before.hidden.shape[1:]) != (
            drawn.fingerprint,
            drawn.hidden.shape[1:],
        ):
            raise ValueError("the corpus is of another model: name another file")
        sequences = before.sequences + drawn.sequences
        hidden = torch.cat((before.hidden, drawn.hidden))
        held = (*before.held_out, *held_out)
    return Corpus(
        sequences, hidden, held, drawn.eos_token_ids, drawn.vocabulary_size, drawn.fingerprint
    )


def draw(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt] | None, options: argparse.Namespace
) -> Corpus:
    """The corpus of the options' file, with as many more sequences as time allows.

    Raises:
        ValueError: if there are none, and none may be drawn.
    """
    file: Path = options.corpus
    corpus = Corpus.load(file, tokenizer) if file.exists() else None
    began = saved = time.monotonic()
    with bar(True, "answers", options.sequences) as advance:
        advance(0 if corpus is None else len(corpus.sequences))
        more = rounds(
            model,
            tokenizer,
            prompts,
            corpus,
            sequences=options.sequences,
            batch=options.batch,
            length=options.length,
            seed=options.seed,
        )
        while time.monotonic() - began < options.seconds:
            found = next(more, None)
            if found is None:
                break
            advance(len(found.sequences) - (0 if corpus is None else len(corpus.sequences)))
            corpus = found
            if time.monotonic() - saved > SAVE:
                corpus.save(file)
                saved = time.monotonic()
    if corpus is None:
        raise ValueError(f"{file} is not there, and --seconds 0 allows to draw nothing")
    corpus.save(file)
    return corpus


def describe(corpus: Corpus, tokenizer: Any) -> str:
    """What was drawn."""
    tokens = sum(map(len, corpus.sequences))
    held = sum(map(len, corpus.measured))
    first = corpus.sequences[0][:_SHOWN]
    return (
        f"{len(corpus.sequences):,} texts, {tokens:,} tokens ({held:,} of them held out); "
        f"{corpus.ended:.0%} of the texts end.  The first begins {tokenizer.decode(first)!r}"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", required=True, help="sets, none, or a file; see above")
    parser.add_argument("--corpus", type=Path, required=True, help="drawn texts, made or used")
    parser.add_argument("--out", type=Path, required=True, help="a safetensors file")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--dtype", default="bfloat16", help="of the model")
    parser.add_argument("--states", type=int, default=128)
    parser.add_argument("--sequences", type=int, default=6000, help="to draw, at most")
    parser.add_argument("--seconds", type=float, default=1200.0, help="of drawing, at most")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text, at most")
    parser.add_argument("--batch", type=int, default=48, help="texts drawn at once")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pseudocount", type=float, default=1.0)
    parser.add_argument("--prior", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws, fits, says how it went, saves."""
    options = _options(arguments)
    prompts = prompts_of(options.prompts, options.batch)
    if options.threads:
        torch.set_num_threads(options.threads)
    model, tokenizer = load_model(options.model, options.dtype)
    began = time.monotonic()
    corpus = draw(model, tokenizer, prompts, options)
    print(f"{describe(corpus, tokenizer)} ({time.monotonic() - began:.0f} s)")
    began = time.monotonic()
    hmm, history = fit_corpus(
        corpus,
        states=options.states,
        epochs=options.epochs,
        pseudocount=options.pseudocount,
        head=head_of(model),
        prior=options.prior,
        seed=options.seed,
        progress=True,
    )
    for epoch in history:
        print(
            f"epoch {epoch.number}: log-likelihood per token {epoch.train:.3f} (before it), "
            f"held out {epoch.held_out:.3f} (after it)"
        )
    about = {k: str(v) for k, v in vars(options).items()}
    hmm.save(options.out, about=about | {"tokens": sum(map(len, corpus.train))})
    print(f"{options.states} states in {time.monotonic() - began:.0f} s; saved as {options.out}")


if __name__ == "__main__":
    main()
