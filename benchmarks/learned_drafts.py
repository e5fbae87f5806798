"""Learned drafters: written answers, training, and what they gain on prompts not trained on.

Three steps, each of its own (all times in processor seconds of this process, on one thread what a clock
says of a core that nobody else uses):

1. ``--write SECONDS``: the model answers made-up prompts, chats in free text
   (``benchmarks/learned_prompts.py``) in batches, half of them greedy, and extraction within a grammar
   (``examples/train_medusa.py``), and the answers go into a file.  Run again it goes on where it stopped.
2. ``--train SYSTEMS``: trains each on those answers and puts it into a folder.
3. ``--measure``: tokens per forward, milliseconds a token, acceptance by depth, time spent drafting, for
   plain decoding, the default drafters, and the default drafters with each system of the folder.  Prompts go
   one after the other through all engines, so that what else the machine does falls on all of them alike.
   Sets: ``free`` and ``extraction``; with ``--data`` also ``calls`` and ``gsm8k``, whose data is fetched.
   ``medusa2`` changes the model, so that its rows stand beside plain decoding of the changed model as well.
   With ``--side 1,4,16`` so many texts of each prompt are written side by side instead, in rows of the same
   forwards, at the temperatures given (0.7, say).

Usage: ``python benchmarks/learned_drafts.py --answers answers.jsonl --folder drafters --write 900``,
``... --train fspad,chimera --seconds 1200``, ``... --measure --limit 12 [--data] [--temperature 0,1]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from learned_prompts import Message, measured_prompts, training_prompts

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import tasks
import train_medusa

from constrain import load_model
from constrain.huggingface.extraction import automaton_for, vocabulary_for
from constrain.models import DEFAULT_MODEL, ModelUnavailable
from grammars import Grammar
from samplers import SpeculativeBackend
from samplers.drafters import (
    FSPAD,
    PPD,
    Chimera,
    HiddenTransfer,
    LearnedDrafter,
    LexicalUnits,
    Medusa2,
    MedusaHeads,
    default_drafters,
)
from samplers.drafters.learned import Evaluation, Training, evaluate
from samplers.drafters.learned.answers import Answer
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained, FreeText, Target

BATCH = 64
"""Chats that are answered side by side."""
FREE_TOKENS = 144
CONSTRAINED_TOKENS = 160
SYSTEMS: dict[str, tuple[type[LearnedDrafter] | type[Medusa2], dict[str, Any]]] = {
    "fspad": (FSPAD, {}),
    "eagle": (FSPAD, {"wide": 0, "apart": False}),
    "chimera": (Chimera, {}),
    "medusa": (MedusaHeads, {"heads": 3}),
    "medusa2": (Medusa2, {"heads": 3}),
    "ppd": (PPD, {}),
    "hidden": (HiddenTransfer, {}),
    "lexical": (LexicalUnits, {}),
}
PUBLISHED = {
    "eagle": "2.8–3.1x",
    "chimera": "~2.7x",
    "medusa": "2.2–3.6x",
    "medusa2": "2.3–3.6x",
    "fspad": "",
    "ppd": "up to 2.49x",
    "hidden": "",
    "lexical": "1.3x, not lossless",
}
"""Speed-ups as their papers or summaries of them state, for models fifty times larger on accelerators."""


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


# -- answers ---------------------------------------------------------------------------------------


def kept(path: Path) -> tuple[list[Answer], float, int]:
    """Answers of a file, the processor seconds that they took, and the batches that they are of."""
    if not path.is_file():
        return [], 0.0, 0
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    seconds = sum({line["batch"]: line["seconds"] for line in lines}.values())
    answers = [Answer(line["tokens"], line["given"]) for line in lines]
    return answers, seconds, len({line["batch"] for line in lines})


def write(path: Path, model: Any, tokenizer: Any, seconds: float, begin: int) -> None:
    """Writes answers for so long: batches of chats, and after each third one of extraction.

    Processes that begin at different batches write files that may be joined.
    """
    _, spent, done = kept(path)
    batch = begin + done
    chats = training_prompts(2560, seed=0)
    asked = [r for r in train_medusa.requests(600, seed=7) if r.schema is not None]
    with path.open("a", encoding="utf-8") as file:
        while spent < seconds:
            began = time.process_time()
            number, rest = divmod(batch, 4)
            if BATCH * (3 * number + 3) > len(chats):
                say("all prompts are answered")
                break
            if rest == 3:
                some = asked[4 * number : 4 * number + 4]
                made = _constrained(model, tokenizer, some, batch)
            else:
                at = BATCH * (3 * number + rest)
                made = _free(model, tokenizer, chats[at : at + BATCH], at)
            took = time.process_time() - began
            for answer in made:
                line = {"tokens": answer.tokens, "given": answer.given}
                file.write(json.dumps({**line, "batch": batch, "seconds": took}) + "\n")
            file.flush()
            spent, batch = spent + took, batch + 1
            count = sum(len(a.tokens) - a.given for a in made)
            say(f"batch {batch}: {count:,} tokens, {spent:.0f} s in all")


def _constrained(model: Any, tokenizer: Any, asked: Sequence[Any], seed: int) -> list[Answer]:
    """Eight answers to each request, within its grammar."""
    found = train_medusa.answered(
        SpeculativeBackend(model, tokenizer),
        train_medusa.prepared(asked, model, tokenizer),
        samples=8,
        max_new_tokens=CONSTRAINED_TOKENS,
        temperature=0.7,
        seed=seed,
    )
    return [Answer([*ids, *new], len(ids)) for each in found for ids, new in each]


def _free(model: Any, tokenizer: Any, chats: Sequence[list[Message]], seed: int) -> list[Answer]:
    """One answer to each chat, side by side; every second batch is greedy."""
    prompts = [prompt_of(tokenizer, chat) for chat in chats]
    longest, pad = max(map(len, prompts)), model.config.pad_token_id
    given = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    drawing = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 1.0}
    torch.manual_seed(seed)
    with torch.no_grad():
        out = model.generate(
            given,
            attention_mask=mask,
            max_new_tokens=FREE_TOKENS,
            pad_token_id=pad,
            **(drawing if seed // BATCH % 2 else {"do_sample": False}),
        )
    ends = set(vocabulary_for(tokenizer, model).eos_token_ids)
    made = []
    for ids, row in zip(prompts, out[:, longest:].tolist(), strict=True):
        end = next((i for i, token in enumerate(row) if token in ends), len(row) - 1)
        made.append(Answer([*ids, *row[: end + 1]], len(ids)))
    return made


def prompt_of(tokenizer: Any, chat: Sequence[Message]) -> list[int]:
    """Token ids of a chat."""
    ids = tokenizer.apply_chat_template(list(chat), add_generation_prompt=True, return_dict=True)
    return [int(token) for token in ids["input_ids"]]


# -- training --------------------------------------------------------------------------------------


def train(
    systems: Sequence[str], answers: Path, folder: Path, model: Any, seconds: float, epochs: int
) -> None:
    """Trains systems one after the other; says what became of each."""
    texts, spent, _ = kept(answers)
    tokens = sum(len(a.tokens) - a.given for a in texts)
    folder.mkdir(parents=True, exist_ok=True)
    for name in systems:
        kind, options = SYSTEMS[name]
        training = Training(epochs=epochs, batch=256, max_seconds=seconds, held_out=0.05)
        made: Any = kind.fit(model, None, texts, training=training, **options)
        made.save(folder / f"{name}.safetensors")
        report = made.report
        told = {
            "answers": len(texts),
            "tokens": tokens,
            "writing_seconds": round(spent),
            "training_seconds": round(report.seconds),
            "losses": [round(x, 3) for x in report.losses],
            "acceptance": [round(x, 3) for x in report.acceptance],
        }
        if isinstance(made, Medusa2):
            told |= {"warm_up": asdict(made.warm_up), "change": asdict(made.change)}
        (folder / f"{name}.json").write_text(json.dumps(told), "utf-8")
        say(f"{name}: {told}")


# -- measuring -------------------------------------------------------------------------------------


def asked_of(
    name: str, limit: int, model: Any, tokenizer: Any
) -> Iterator[tuple[list[int], Target, int]]:
    """Prompts of a set, with what is drawn from and the budget."""
    if name == "free":
        free = FreeText(tuple(vocabulary_for(tokenizer, model).eos_token_ids))
        for chat in measured_prompts()[:limit]:
            yield prompt_of(tokenizer, chat), free, 128
        return
    for task in tasks.load(name, limit):
        grammar = Grammar.from_json_schema(task.schema)
        automaton = automaton_for(grammar, tokenizer, model)
        needed = automaton.min_tokens_to_accept(automaton.start) + 1
        budget = max(needed, min(task.budget, 192))
        yield task.prompt_ids(tokenizer), Constrained(automaton), budget


@dataclass
class Rows:
    """What an engine did with each prompt of a set."""

    found: list[Evaluation] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """New tokens."""
        return sum(e.tokens for e in self.found)

    @property
    def tokens_per_forward(self) -> float:
        """Over all prompts."""
        return self.tokens / sum(e.forwards for e in self.found)

    @property
    def drafting(self) -> float:
        """Milliseconds a token."""
        return 1000 * sum(e.drafting_seconds for e in self.found) / self.tokens

    @property
    def ms(self) -> float:
        """Milliseconds a token, median of the prompts."""
        return median(e.ms_per_token for e in self.found)

    def depths(self) -> str:
        """Share accepted at depths one, two, ..."""
        deepest = max((len(e.depths) for e in self.found), default=0)
        shares = []
        for i in range(min(deepest, 5)):
            some = [e.depths[i] for e in self.found if len(e.depths) > i]
            asked = sum(d.asked for d in some)
            shares.append(f"{sum(d.accepted for d in some) / asked:.2f}" if asked else "")
        return " ".join(shares)


def engines_of(folder: Path, model: Any, wanted: Sequence[str]) -> dict[str, tuple[Any, list[Any]]]:
    """Model and drafters of each engine."""
    made: dict[str, tuple[Any, list[Any]]] = {
        "plain": (model, []),
        "default": (model, default_drafters()),
    }
    for name in wanted:
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            continue
        kind = SYSTEMS[name][0]
        if issubclass(kind, Medusa2):
            both = kind.load(path, model)
            target, drafters = both.model, [both.drafter, both.drafter]
            made[f"plain, {name}'s model"] = (target, [])
            made[f"default, {name}'s model"] = (target, default_drafters())
        else:
            target, drafters = model, [kind.load(path, model) for _ in range(2)]
        made[f"default + {name}"] = (target, [*default_drafters(), drafters[0]])
        made[f"{name} alone"] = (target, [drafters[1]])
    return made


def plain_of(engine: str, engines: Iterable[str]) -> str:
    """The engine that decodes an engine's own model plainly."""
    name = engine.removeprefix("default + ").removesuffix(" alone")
    name = name.removeprefix("default, ").removesuffix("'s model")
    changed = f"plain, {name}'s model"
    return changed if changed in engines and engine != changed else "plain"


def measure(options: argparse.Namespace, model: Any, tokenizer: Any) -> None:
    """Prints a table for each set."""
    clock = time.perf_counter if options.wall else time.process_time
    for name in options.set.split(","):
        if name in ("calls", "gsm8k") and not options.data:
            say(f"{name}: left out, its data is fetched only with --data")
            continue
        for temperature in map(float, options.temperature.split(",")):
            drafters = engines_of(options.folder, model, options.systems.split(","))
            engines = {
                engine: SpeculativeBackend(target, tokenizer, own, adaptive=not options.always)
                for engine, (target, own) in drafters.items()
            }
            rows = {engine: Rows() for engine in engines}
            try:
                asked = list(asked_of(name, options.limit, model, tokenizer))
            except ModelUnavailable as error:
                say(f"{name}: left out, {error}")
                break
            for number, (ids, target, budget) in enumerate(asked):
                for engine, backend in engines.items():
                    found = evaluate(
                        backend,
                        [(ids, target)],
                        max_new_tokens=budget,
                        temperature=temperature,
                        seed=number,
                        source=backend.drafters[-1].name
                        if "+" in engine or "alone" in engine
                        else None,
                        clock=clock,
                    )
                    rows[engine].found.append(found)
                said = [f"{e} {r.found[-1].tokens_per_forward:.2f}" for e, r in rows.items()]
                say(f"{name} {number + 1}/{len(asked)}: {', '.join(said)}")
            print(table(f"{name}, temperature {temperature:g}", rows), flush=True)


def side_by_side(options: argparse.Namespace, model: Any, tokenizer: Any) -> None:
    """Prints a table for each set and temperature: texts of a prompt that share forwards."""
    clock = time.perf_counter if options.wall else time.process_time
    for name in options.set.split(","):
        asked = list(asked_of(name, options.limit, model, tokenizer))
        for temperature in map(float, options.temperature.split(",")):
            lines = [
                f"\n{name}, temperature {temperature:g}: {len(asked)} prompts\n",
                "| rows | drafters | tokens | tokens per forward | tokens a second "
                "| speed, plain = 1 | speed, default = 1 | drafting, ms a token |",
                "|---:|---|---:|---:|---:|---:|---:|---:|",
            ]
            for rows in map(int, options.side.split(",")):
                speeds: dict[str, float] = {}
                for engine, each in _together(
                    options, model, tokenizer, asked, rows, temperature, clock
                ):
                    speeds[engine] = speed = each.tokens / each.seconds
                    lines.append(
                        f"| {rows} | {engine} | {each.tokens:,} | {each.tokens_per_forward:.2f} "
                        f"| {speed:.1f} | {speed / speeds['plain']:.2f} "
                        f"| {speed / speeds.get('default', speeds['plain']):.2f} "
                        f"| {each.drafting_ms_per_token:.1f} |"
                    )
                    say(lines[-1])
            print("\n".join(lines), flush=True)


def _together(
    options: argparse.Namespace,
    model: Any,
    tokenizer: Any,
    asked: Sequence[tuple[list[int], Target, int]],
    rows: int,
    temperature: float,
    clock: Callable[[], float],
) -> Iterator[tuple[str, Evaluation]]:
    """What each engine did with so many texts of each prompt; engines take turns at each prompt."""
    drafters = engines_of(options.folder, model, options.systems.split(","))
    backends = {
        engine: SpeculativeBackend(target, tokenizer, own, max_rows=rows)
        for engine, (target, own) in drafters.items()
        if not engine.endswith(" alone")
    }
    found = {engine: Evaluation() for engine in backends}
    for number, (ids, target, budget) in enumerate(asked):
        for engine, backend in backends.items():
            each, before, began = found[engine], backend.forwards, clock()
            samples = backend.generate(
                ids,
                target,
                n=rows,
                max_new_tokens=budget,
                sampling=Sampling(temperature),
                seed=number,
            )
            each.seconds += clock() - began
            each.texts += [sample.token_ids for sample in samples]
            each.forwards += backend.forwards - before
            each.drafting_seconds += sum(sample.stats.draft_seconds for sample in samples)
    yield from found.items()


def table(title: str, rows: dict[str, Rows]) -> str:
    """Markdown.  Texts are compared with those of plain decoding of an engine's own model."""
    plain, default = rows["plain"], rows["default"]
    same = {
        engine: sum(
            a.texts == b.texts
            for a, b in zip(rows[plain_of(engine, rows)].found, row.found, strict=True)
        )
        for engine, row in rows.items()
    }
    lines = [
        f"\n{title}: {len(plain.found)} prompts, {plain.tokens:,} tokens\n",
        "| drafters | published | tokens per forward | beside default | ms a token | speed, plain = 1 "
        "| speed, default = 1 | drafting, ms a token | accepted by depth | same texts "
        "| speed, plain of its own model = 1 |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for engine, row in rows.items():
        pairs = list(zip(plain.found, default.found, row.found, strict=True))
        faster = median(p.ms_per_token / r.ms_per_token for p, _, r in pairs)
        own = zip(rows[plain_of(engine, rows)].found, row.found, strict=True)
        mine = median(p.ms_per_token / r.ms_per_token for p, r in own)
        beside = median(d.ms_per_token / r.ms_per_token for _, d, r in pairs)
        gain = row.tokens_per_forward / default.tokens_per_forward - 1
        stated = PUBLISHED.get(engine.removesuffix(" alone"), "")
        lines.append(
            f"| {engine} | {stated} | {row.tokens_per_forward:.2f} | {gain:+.0%} | {row.ms:.1f} "
            f"| {faster:.2f} | {beside:.2f} | {row.drafting:.1f} | {row.depths()} "
            f"| {same[engine]} of {len(row.found)} | {mine:.2f} |"
        )
    return "\n".join(lines)


# -- the command -----------------------------------------------------------------------------------


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--answers", type=Path, default=Path("answers.jsonl"))
    parser.add_argument("--folder", type=Path, default=Path("drafters"), help="of trained drafters")
    parser.add_argument("--write", type=float, metavar="SECONDS", help="write answers for so long")
    parser.add_argument("--begin", type=int, default=0, help="the first batch of answers")
    parser.add_argument("--train", metavar="SYSTEMS", help=", ".join(SYSTEMS))
    parser.add_argument("--seconds", type=float, default=1200.0, help="of each training")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="that are measured")
    parser.add_argument("--set", default="free,extraction,calls,gsm8k")
    parser.add_argument("--data", action="store_true", help="fetch the data of calls and gsm8k")
    parser.add_argument("--temperature", default="0", help="0, or 0,1")
    parser.add_argument("--side", metavar="ROWS", help="1,4,16: texts of a prompt side by side")
    parser.add_argument("--limit", type=int, default=12, help="prompts of each set")
    parser.add_argument(
        "--always", action="store_true", help="draft at every step, whether or not that pays"
    )
    parser.add_argument("--wall", action="store_true", help="times by the wall clock")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Does what is asked for, in the order of the three steps."""
    options = parsed()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    model, tokenizer = load_model(DEFAULT_MODEL, options.dtype)
    if options.write:
        tokenizer.padding_side = "left"
        write(options.answers, model, tokenizer, options.write, options.begin)
    if options.train:
        systems = options.train.split(",")
        train(systems, options.answers, options.folder, model, options.seconds, options.epochs)
    if options.measure:
        (side_by_side if options.side else measure)(options, model, tokenizer)


if __name__ == "__main__":
    main()
