"""Makes a small draft model of a model and trains it on what the model writes.

Usage::

    python examples/align_draft.py --out draft --seconds 2400
    python examples/align_draft.py --out draft --seconds 2400 --answers kept    # goes on where it ended

and then::

    from samplers.drafters.learned.short_output import load_draft
    backend = SpeculativeBackend(model, tokenizer, [DraftModel(load_draft("draft"), tree="chain")])

The seconds are of processor time (of one core, since one thread is used), so that other programs do not
cut training short; two fifths of them are for writing, the rest for training.

1. Prompts are made up: texts with a JSON Schema of what to extract and function calls, as in
   ``train_medusa.py`` (they share no subject with ``benchmarks/tasks.py``), questions of a chat, beginnings
   of texts, and beginnings of a chat where the model writes the user's part too.
2. The model answers them, many samples side by side (``write_answers``).
3. ``aligned_draft`` trains some of the model's own layers on the answers; one prompt in ten is kept aside,
   and tells when to stop.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from train_medusa import requests

from constrain import load_model
from constrain.models import DEFAULT_MODEL
from grammars import Grammar
from samplers.drafters.learned.alignment import Alignment, aligned_draft
from samplers.drafters.learned.answers import Answer, Task, write_answers

WRITING: Final = 0.4
"""Share of the seconds for writing answers."""
CHATS: Final = [
    "Why is {} useful?", "Tell me about {}.", "I know nothing of {}. Where do I begin?",
    "Write a short poem about {}.", "Compare {} with something similar.", "Name five facts about {}.",
    "How would you explain {} to a child?", "Write a dialogue between two people about {}.",
    "What mistakes do beginners make with {}?", "Summarise the history of {}.",
]  # fmt: skip
BEGINNINGS: Final = [
    "The first thing to know about {} is", "Last year I began to take an interest in {}.",
    "# A guide to {}\n\n", "Nobody in our street had ever heard of {} until",
]  # fmt: skip
TOPICS: Final = [
    "knitting", "glaciers", "the postal service", "honey", "chess openings", "rail tunnels", "mushrooms",
    "spreadsheets", "folk songs", "house plants", "savings accounts", "lighthouses", "bread ovens",
    "the immune system", "weather balloons", "second-hand books", "tennis", "pottery", "databases",
    "school uniforms", "coral reefs", "night buses", "fermentation", "town squares", "allergies",
    "solar panels", "grammar", "electric kettles", "moths", "insurance", "stargazing", "recycling",
]  # fmt: skip


def tasks(count: int, tokenizer: Any, seed: int = 0) -> list[Task]:
    """Tasks in turn: both sides of a chat, a text with a schema, both sides, a chat or a beginning, ...

    Args:
        count: how many.
        tokenizer: with a chat template.
        seed: for the same tasks again; a longer list begins as a shorter one.
    """
    r = random.Random(seed)
    bound = iter([q for q in requests(5 * count, seed) if q.schema is not None])
    both = both_sides(tokenizer)
    made: list[Task] = []
    for number in range(count):
        if number % 2 == 0:
            made.append(both)
        elif number % 4 == 1:
            asked = next(bound)
            assert asked.schema is not None
            made.append(Task(asked.messages, Grammar.from_json_schema(asked.schema)))
        elif number % 8 == 3:
            content = r.choice(CHATS).format(r.choice(TOPICS))
            made.append(Task([{"role": "user", "content": content}]))
        else:
            made.append(Task(r.choice(BEGINNINGS).format(r.choice(TOPICS))))
    return made


def both_sides(tokenizer: Any) -> Task:
    """A chat of which the model writes the user's part as well."""
    mark = "\N{BLACK SQUARE}"
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
    )
    before, after = chat.split(mark)
    reply = tokenizer(after, add_special_tokens=False)["input_ids"]
    return Task(
        tokenizer(before, add_special_tokens=False)["input_ids"], reply=reply[1:]
    )  # its first token ends the user's turn, which the model writes


def described(made: Alignment, answers: Sequence[Answer], written: float) -> str:
    """What was done, in lines."""
    count = sum(len(a.tokens) - a.given for a in answers)
    weights = sum(p.numel() for p in made.model.parameters())
    own = weights - made.model.get_input_embeddings().weight.numel()
    shares = " ".join(f"{share:.1%}" for _, share in made.acceptance)
    return (
        f"{len(answers):,} answers of {count:,} tokens in {written:.0f} s\n"
        f"{own / 1e6:.1f} million parameters beside the input embedding; "
        f"{len(made.losses):,} steps on {made.tokens:,} tokens in {made.seconds:.0f} s\n"
        f"accepted on answers kept aside, where there is a choice: {shares}"
    )


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--seconds", type=float, default=2400, help="of processor time, in all")
    parser.add_argument(
        "--answers", type=Path, help="a folder to keep answers in, and to go on from"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--layers", default="0,1,29", help="how many, or their numbers with commas")
    parser.add_argument("--output-tokens", type=int, default=8192, help="the draft can say; 0: all")
    parser.add_argument("--loss", default="tvd++", choices=["kl", "tvd", "tvd++"])
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--prompts", type=int, default=400, help="at most")
    parser.add_argument("--samples", type=int, default=16, help="of each prompt")
    parser.add_argument("--tokens", type=int, default=160, help="of each answer, at most")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--epochs", type=int, default=20, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", dest="progress", action="store_false", help="no bars")
    options = parser.parse_args(arguments)
    numbers = [int(part) for part in options.layers.split(",")]
    options.layers = numbers if "," in options.layers else numbers[0]
    return options


def aligned(
    model: Any, tokenizer: Any, asked: Sequence[Task], options: argparse.Namespace
) -> tuple[Alignment, str]:
    """Writes answers and trains a draft on them; says what was done."""
    began = time.process_time()
    answers = write_answers(
        model,
        tokenizer,
        asked,
        samples=options.samples,
        max_new_tokens=options.tokens,
        temperature=options.temperature,
        seed=options.seed,
        folder=options.answers,
        max_seconds=WRITING * options.seconds,
        progress=options.progress,
        clock=time.process_time,
    )
    written = time.process_time() - began
    made = aligned_draft(
        model,
        tokenizer,
        answers,
        layers=options.layers,
        output_tokens=options.output_tokens or None,
        loss=options.loss,
        temperature=options.temperature,
        learning_rate=options.learning_rate,
        max_seconds=max(options.seconds - written, 1.0),
        max_epochs=options.epochs,
        seed=options.seed,
        progress=options.progress,
        clock=time.process_time,
    )
    return made, described(made, answers, written)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes answers, trains, saves."""
    options = parsed(arguments)
    torch.set_num_threads(1)
    model, tokenizer = load_model(options.model, "float32")
    asked = tasks(options.prompts, tokenizer, options.seed)
    made, told = aligned(model, tokenizer, asked, options)
    made.model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(told)
    print(f"saved as {options.out}")


if __name__ == "__main__":
    main()
