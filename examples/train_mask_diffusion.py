"""Trains a small mask-diffusion model: a transformer that fills in masks, in any order.

Usage::

    python examples/train_mask_diffusion.py --data json --out json-model --seconds 360 --threads 1
    python examples/train_mask_diffusion.py --data json schemas --out json-model --steps 2000
    python examples/train_mask_diffusion.py --data json --out json-model --resume --seconds 360

and then::

    model = AutoModelForMaskedLM.from_pretrained("json-model")
    tokenizer = AutoTokenizer.from_pretrained("json-model")
    ids = tokenizer("person: Ann Lee, 34" + tokenizer.sep_token).input_ids
    canvas = ids + [tokenizer.mask_token_id] * 48
    logits = model(torch.tensor([canvas])).logits  # of what stands at each place, not behind it

The objective is that of LLaDA (Nie et al., 2025, "Large Language Diffusion Models", equation 3), which is
the bound of Sahoo et al. (2024, "Simple and Effective Masked Diffusion Language Models") for a linear
schedule: a share t of the response is hidden, the model says what was there, and each hidden token counts
1/t.  Prompts are never hidden.  A canvas is filled up with ends of text, which are learned like any other
token, so that the model says itself where a text stops.

The network is ModernBERT's with attention from everywhere to everywhere in each layer; its positions
are rotary, so that only distances count and prompts may be of any length.  Weights are float32; autocast
to bfloat16 is the default on a GPU, and ``--dtype bfloat16`` asks for it on a CPU that multiplies in it.

With the defaults, ``--dtype bfloat16`` and one core, of greedy responses to 32 held-out prompts:

==========  ========  ======  ================  ======  ======  =======
``--data``  seconds   steps   held-out loss     parse   valid   correct
==========  ========  ======  ================  ======  ======  =======
json        360       5,948   0.102 of 64       100 %   100 %   22 %
lists       330       9,928   0.438 of 32       97 %    9 %     0 %
smiles      330       8,990   1.131 of 48       59 %    59 %    0 %
==========  ========  ======  ================  ======  ======  =======

Losses are nats a token of a canvas of so many.  That is form without content for lists and molecules:
what a prompt names is not copied after so short a run, and of records only part is.

The folder has the model, the tokenizer, ``training.json`` (what was trained on, how long, and how good it
is on texts that were held out) and ``optimizer.safetensors``, from which ``--resume`` goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from diffusion_data import Example, Task
from parallel_tasks import TASKS
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
)

PAD, MASK, EOS, SEP = "[PAD]", "[MASK]", "[EOS]", "[SEP]"
SPECIAL = (PAD, MASK, EOS, SEP)
SMALLEST_SHARE = 1e-3
"""Of hidden tokens; smaller ones would count more than float32 and patience allow."""
POSITIONS = 512
LEARNED_POSITIONS = 1152
"""Places that have an embedding of their own, with ``--positions learned``."""
WARM_UP = 0.03
"""Part of a run in which the learning rate rises."""

# -- tokenizer -------------------------------------------------------------------------------------

PIECES = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+ ?|\s"
"""Words, single digits and runs of punctuation: tokens lie within these, so that a word or a number
is written alike wherever it stands, and a model can copy it."""


def trained_tokenizer(texts: Iterable[str], size: int, words: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE with all 256 bytes and the four special tokens, which come first.

    Args:
        texts: to learn from.
        size: of the vocabulary; smaller if the texts have no more to give.
        words: whether tokens stay within words, numbers and punctuation.
    """
    tokenizer = Tokenizer(models.BPE())
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = [pre_tokenizers.Split(Regex(PIECES), "isolated")] if words else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, by_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        mask_token=MASK,
        eos_token=EOS,
        sep_token=SEP,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )


# -- model -----------------------------------------------------------------------------------------


def new_model(
    tokenizer: Any,
    *,
    hidden: int,
    layers: int,
    heads: int,
    seed: int,
    attention: str = "sdpa",
    positions: str = "rotary",
) -> Any:
    """A model without knowledge, of a class that transformers has."""
    torch.manual_seed(seed)
    if positions == "learned":
        plain = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            max_position_embeddings=LEARNED_POSITIONS,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        return AutoModelForMaskedLM.from_config(plain, attn_implementation=attention)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=POSITIONS,
        # Attention from everywhere to everywhere; texts are short, so wavelengths are, too.
        global_attn_every_n_layers=1,
        global_rope_theta=10_000.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=None,
        cls_token_id=None,
    )
    return AutoModelForMaskedLM.from_config(config, attn_implementation=attention)


# -- batches ---------------------------------------------------------------------------------------

Ids = list[int]


@dataclass(frozen=True)
class Coded:
    """An example as token ids: the prompt with its separator, the response without an end."""

    prompt: Ids
    response: Ids


@dataclass(frozen=True)
class Batch:
    """Texts side by side: prompt, separator, response, ends of text, and padding to the longest.

    Attributes:
        ids: (batch, length) tokens.
        canvas: (batch, length) whether a token is of the response or one of its ends.
        there: (batch, length) whether a token is no padding, or ``None`` if none is.
    """

    ids: torch.Tensor
    canvas: torch.Tensor
    there: torch.Tensor | None


def coded(examples: Sequence[Example], tokenizer: Any) -> list[Coded]:
    """Token ids of examples."""
    prompts = tokenizer([e.prompt for e in examples]).input_ids
    responses = tokenizer([e.response for e in examples]).input_ids
    separator = tokenizer.sep_token_id
    return [Coded([*p, separator], r) for p, r in zip(prompts, responses, strict=True)]


def batch_of(found: Sequence[tuple[Coded, int]], tokenizer: Any, device: torch.device) -> Batch:
    """Texts with the lengths of their canvases, as tensors."""
    longest = max(len(each.prompt) + canvas for each, canvas in found)
    ids = torch.full((len(found), longest), tokenizer.pad_token_id)
    canvas_at = torch.zeros_like(ids, dtype=torch.bool)
    there = torch.zeros_like(canvas_at)
    for row, (each, canvas) in enumerate(found):
        start, end = len(each.prompt), len(each.prompt) + canvas
        ends = [tokenizer.eos_token_id] * (canvas - len(each.response))
        ids[row, :end] = torch.tensor([*each.prompt, *each.response, *ends])
        canvas_at[row, start:end] = True
        there[row, :end] = True
    mask = None if bool(there.all()) else there.to(device)
    return Batch(ids.to(device), canvas_at.to(device), mask)


def mixed(streams: Sequence[Iterator[Example]], rng: random.Random) -> Iterator[Example]:
    """Of several tasks, each as often."""
    while True:
        yield next(rng.choice(streams))


def batches(
    examples: Iterator[Example],
    tokenizer: Any,
    *,
    size: int,
    canvases: Sequence[int],
    device: torch.device,
    rng: random.Random,
    at_once: int = 16,
) -> Iterator[Batch]:
    """Endless batches, each text on a canvas of a random length that it fits, its end included.

    Args:
        examples: endless.
        tokenizer: with the special tokens of this script.
        size: texts in a batch.
        canvases: lengths there are; texts too long for all of them are left out.
        device: where tensors go.
        rng: draws lengths and the order of batches.
        at_once: batches to form together.  Texts of like length share one, since padding costs time.
    """
    while True:
        found: list[tuple[Coded, int]] = []
        while len(found) < size * at_once:
            for each in coded(list(islice(examples, size * at_once)), tokenizer):
                fits = [canvas for canvas in canvases if len(each.response) < canvas]
                if fits:
                    found.append((each, rng.choice(fits)))
        found.sort(key=lambda pair: (len(pair[0].prompt) + pair[1], pair[1]))
        starts = list(range(0, len(found) - size + 1, size))
        rng.shuffle(starts)
        for start in starts:
            yield batch_of(found[start : start + size], tokenizer, device)


# -- objective -------------------------------------------------------------------------------------


def shares(count: int, generator: torch.Generator) -> torch.Tensor:
    """(count,) shares of tokens to hide, evenly over (0, 1]: one random offset for all.

    Each is uniform by itself, and together they vary less than if they were independent (Kingma et al.,
    2021, "Variational Diffusion Models").
    """
    offset = torch.rand(1, generator=generator)
    places = (torch.arange(count) / count + offset) % 1.0
    return SMALLEST_SHARE + (1 - SMALLEST_SHARE) * places


def loss_of(
    model: Any,
    batch: Batch,
    mask_id: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Nats per token of the canvas: a bound on what the responses cost, one draw of it.

    Args:
        model: to be trained.
        batch: of B texts.
        mask_id: the token that hides others.
        generator: on the CPU, of shares and of what is hidden.
        dtype: to multiply in.
    """
    device = batch.ids.device
    t = shares(len(batch.ids), generator)[:, None]
    chosen = torch.rand(batch.ids.shape, generator=generator) < t
    t, hidden = t.to(device), batch.canvas & chosen.to(device)
    with autocast(device, dtype):
        logits = model(
            input_ids=batch.ids.masked_fill(hidden, mask_id), attention_mask=batch.there
        ).logits  # (B, length, vocabulary)
    costs = cross_entropy(logits[hidden].float(), batch.ids[hidden], reduction="none")
    weights = (1 / t / batch.canvas.sum(1, keepdim=True)).expand_as(batch.ids)[hidden]
    return (costs * weights).sum() / len(batch.ids)


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[Any]:
    """Multiplication in fewer bits than weights have, where asked for."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


# -- measuring -------------------------------------------------------------------------------------


@torch.no_grad()
def held_out_loss(
    model: Any,
    examples: Sequence[Example],
    tokenizer: Any,
    *,
    canvas: int,
    draws: int = 4,
    size: int = 32,
    seed: int = 0,
) -> float:
    """Nats per token of the canvas over examples, each with several shares hidden."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    fitting = [each for each in coded(examples, tokenizer) if len(each.response) < canvas]
    found = [(each, canvas) for each in fitting for _ in range(draws)]
    found.sort(key=lambda pair: len(pair[0].prompt))
    total = 0.0
    for start in range(0, len(found), size):
        part = batch_of(found[start : start + size], tokenizer, model.device)
        total += loss_of(model, part, tokenizer.mask_token_id, generator).item() * len(part.ids)
    return total / len(found)


@torch.no_grad()
def decode(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, canvas: int, at_once: int = 1
) -> list[str]:
    """Responses by unmasking what the model is surest of, step by step (LLaDA, low-confidence remasking).

    The likeliest token at every hidden place, and of these places the surest ones, stay.  Nothing
    constrains the text; a benchmark's first baseline is just this.

    Args:
        model: that fills in masks.
        tokenizer: its tokenizer.
        prompts: answered side by side.
        canvas: tokens of each response, its ends included.
        at_once: tokens to unmask a step.

    Returns:
        The texts up to their first end.
    """
    model.eval()
    empty = coded([Example("", prompt, "") for prompt in prompts], tokenizer)
    batch = batch_of([(each, canvas) for each in empty], tokenizer, model.device)
    ids = batch.ids.masked_fill(batch.canvas, tokenizer.mask_token_id)
    never = [tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.sep_token_id]
    for _ in range(math.ceil(canvas / at_once)):
        logits = model(input_ids=ids, attention_mask=batch.there).logits.float()
        logits[..., never] = -torch.inf
        sure, guess = logits.softmax(-1).max(-1)  # (batch, length) both
        hidden = ids == tokenizer.mask_token_id
        left = int(hidden[0].sum())  # the same in every row
        at = sure.masked_fill(~hidden, -1.0).topk(min(at_once, left)).indices
        ids.scatter_(1, at, guess.gather(1, at))
    texts = []
    for row, canvas_at in zip(ids, batch.canvas, strict=True):
        written = row[canvas_at].tolist()
        end = written.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in written else canvas
        texts.append(tokenizer.decode(written[:end]))
    return texts


@dataclass(frozen=True)
class Rates:
    """Parts of greedy responses, of those to ``count`` prompts.

    ``exact`` are the very response of the example; the others as in ``diffusion_data.Score``.
    """

    count: int
    parses: float
    valid: float
    correct: float
    exact: float


def rates(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> Rates:
    """How good texts are as responses to examples."""
    found = [task.score(each, text) for each, text in zip(examples, texts, strict=True)]
    count = len(found)
    return Rates(
        count,
        sum(score.parses for score in found) / count,
        sum(score.valid for score in found) / count,
        sum(score.correct for score in found) / count,
        sum(e.response == text for e, text in zip(examples, texts, strict=True)) / count,
    )


# -- training --------------------------------------------------------------------------------------


def rate_at(progress: float) -> float:
    """The learning rate as a part of the highest: a straight rise, then half a cosine down to 0."""
    if progress < WARM_UP:
        return (progress + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1 - WARM_UP))))


def new_optimizer(model: Any, rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW; norms and biases do not decay."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=decay, fused=True)


@dataclass
class Course:
    """How training went.

    Attributes:
        steps: that were made.
        seconds: that they took.
        losses: mean loss of each hundredth of the run or so.
    """

    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


def train(
    model: Any,
    optimizer: torch.optim.Optimizer,
    source: Iterator[Batch],
    *,
    mask_id: int,
    steps: int | None = None,
    seconds: float | None = None,
    rate: float = 2e-3,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    shown: bool = True,
) -> Course:
    """Trains until the steps are made or the time is up; the learning rate ends at 0 either way.

    Args:
        model: changed in place.
        optimizer: of its parameters.
        source: of batches.
        mask_id: the token that hides others.
        steps: at most.
        seconds: at most.  With a time limit two runs are not alike to the last bit.
        rate: the highest learning rate.
        seed: of what is hidden.
        dtype: to multiply in.
        shown: whether there is a progress bar.

    Raises:
        ValueError: there is no limit at all.
    """
    if steps is None and seconds is None:
        raise ValueError("either steps or seconds must be limited")
    model.train()
    generator = torch.Generator().manual_seed(seed)
    course, recent = Course(), 0.0
    kept: list[float] = []
    began = time.perf_counter()
    columns = (
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        shown_task = bar.add_task("", total=1.0)
        for batch in source:
            course.seconds = time.perf_counter() - began
            progress = max(
                course.steps / steps if steps else 0.0, course.seconds / seconds if seconds else 0.0
            )
            if progress >= 1 or steps == 0:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate * rate_at(progress)
            loss = loss_of(model, batch, mask_id, generator, dtype)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            course.steps += 1
            kept.append(loss.item())
            recent = kept[0] if course.steps == 1 else 0.98 * recent + 0.02 * kept[-1]
            text = f"step {course.steps}, loss {recent:.3f}"
            bar.update(shown_task, completed=progress, description=text)
    chunk = max(1, len(kept) // 100)
    course.losses = [
        sum(kept[i : i + chunk]) / len(kept[i : i + chunk]) for i in range(0, len(kept), chunk)
    ]
    return course


# -- the folder ------------------------------------------------------------------------------------


def save(folder: Path, model: Any, tokenizer: Any, optimizer: Any, record: dict[str, Any]) -> None:
    """Writes everything; nothing of it is a pickle."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    names = {id(p): name for name, p in model.named_parameters()}
    state = {
        f"{names[id(parameter)]}:{key}": value.contiguous()
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }
    save_file(state, folder / "optimizer.safetensors")
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def restore(folder: Path, model: Any, optimizer: Any) -> None:
    """Gives an optimizer the state that was saved with a model."""
    state = load_file(folder / "optimizer.safetensors")
    for name, parameter in model.named_parameters():
        found = {key: state[f"{name}:{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {
            # The fused optimizer keeps all of its state where the parameters are.
            key: value.to(parameter.device)
            for key, value in found.items()
        }


# -- the command -----------------------------------------------------------------------------------


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", nargs="+", choices=sorted(TASKS), required=True, help="task or tasks"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--resume", action="store_true", help="go on from what is in the folder")
    parser.add_argument(
        "--steps", type=int, help="at most; default: 2000 unless --seconds is given"
    )
    parser.add_argument("--seconds", type=float, help="of training, at most")
    parser.add_argument("--batch", type=int, default=16, help="texts a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument(
        "--positions",
        choices=["rotary", "learned"],
        default="rotary",
        help="distances alone, for prompts of any length, or an embedding of each place",
    )
    parser.add_argument(
        "--canvas", type=int, nargs="+", help="lengths of canvases; default: those of the tasks"
    )
    parser.add_argument(
        "--vocabulary", type=int, help="size; default: the largest that a task names"
    )
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="to multiply in")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--prompts", type=int, default=32, help="held-out prompts to decode, per task"
    )
    options = parser.parse_args(arguments)
    if options.steps is None and options.seconds is None:
        options.steps = 2000
    if len({TASKS[name].words for name in options.data}) > 1:
        parser.error("these tasks want different tokenizers: " + ", ".join(options.data))
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, measures, saves."""
    options = parsed(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    default = "bfloat16" if device.type == "cuda" else "float32"
    dtype = getattr(torch, options.dtype or default)
    # On a CPU a training step with texts this short takes two thirds of the time of one with sdpa; the
    # choice is not saved with the model.
    attention = "sdpa" if device.type == "cuda" else "eager"
    tasks = [TASKS[name] for name in options.data]
    record: dict[str, Any] = {"steps": 0, "seconds": 0.0}
    if options.resume:
        record = json.loads((options.out / "training.json").read_text())
        if record["data"] != options.data:
            raise SystemExit(f"{options.out} was trained on {' '.join(record['data'])}")
        model = AutoModelForMaskedLM.from_pretrained(options.out, attn_implementation=attention)
        tokenizer = AutoTokenizer.from_pretrained(options.out)
    else:
        rng = random.Random(options.seed)
        examples = islice(mixed([t.examples(options.seed) for t in tasks], rng), 20_000)
        size = options.vocabulary or max(task.vocabulary for task in tasks)
        texts = (text for each in examples for text in (each.prompt, each.response))
        tokenizer = trained_tokenizer(texts, size, tasks[0].words)
        model = new_model(
            tokenizer,
            hidden=options.hidden,
            layers=options.layers,
            heads=options.heads,
            seed=options.seed,
            attention=attention,
            positions=options.positions,
        )
    model.to(device)
    optimizer = new_optimizer(model, options.rate, decay=0.01)
    if options.resume:
        restore(options.out, model, optimizer)
    # A run that goes on must not see the examples again that the one before saw.
    seed = options.seed + record["steps"]
    rng = random.Random(seed)
    canvases = sorted(options.canvas or {canvas for task in tasks for canvas in task.canvases})
    source = batches(
        mixed([task.examples(seed) for task in tasks], rng),
        tokenizer,
        size=options.batch,
        canvases=canvases,
        device=device,
        rng=rng,
    )
    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} parameters, {len(tokenizer)} tokens", flush=True)
    course = train(
        model,
        optimizer,
        source,
        mask_id=tokenizer.mask_token_id,
        steps=options.steps,
        seconds=options.seconds,
        rate=options.rate,
        seed=seed,
        dtype=dtype,
    )
    print(
        f"{course.steps} steps in {course.seconds:.0f} s, {course.steps / course.seconds:.2f} a second"
    )
    record = {
        "data": options.data,
        "steps": record["steps"] + course.steps,
        "seconds": record["seconds"] + course.seconds,
        "parameters": count,
        "batch": options.batch,
        "rate": options.rate,
        "dtype": str(dtype).removeprefix("torch."),
        "seed": options.seed,
        "canvases": canvases,
        "losses": course.losses,
        "held_out": {},
    }
    save(options.out, model, tokenizer, optimizer, record)  # measuring takes its time
    for task in tasks:
        record["held_out"][task.name] = measured(task, model, tokenizer, options.prompts)
    save(options.out, model, tokenizer, optimizer, record)
    print(f"saved in {options.out}")


def measured(task: Task, model: Any, tokenizer: Any, prompts: int) -> dict[str, Any]:
    """Held-out loss of a task, and greedy responses to some prompts; says so as well."""
    aside = list(islice(task.examples(seed=0, held_out=True), 256))
    canvas = task.canvases[-1]
    loss = held_out_loss(model, aside, tokenizer, canvas=canvas)
    # One prompt is one greedy response: repeated prompts, the empty one above all, say nothing new.
    asked = list({each.prompt: each for each in aside}.values())[:prompts]
    texts = decode(model, tokenizer, [each.prompt for each in asked], canvas=canvas)
    found = rates(task, asked, texts)
    print(
        f"{task.name}: held-out loss {loss:.4f} nats a token of {canvas}; of {found.count} greedy responses "
        f"{found.parses:.0%} parse, {found.valid:.0%} are valid, {found.correct:.0%} correct, "
        f"{found.exact:.0%} exact"
    )
    for each, text in list(zip(asked, texts, strict=True))[:4]:
        print(f"  {each.prompt!r} -> {text!r}")
    return {"loss": loss, "canvas": canvas, **asdict(found)}


if __name__ == "__main__":
    main()
