"""Trains Medusa heads on a model's own samples.

Usage::

    python examples/train_medusa.py --out heads.safetensors
    python examples/train_medusa.py --small --out heads.safetensors    # a minute, to see that it works

and then::

    heads = MedusaHeads.load("heads.safetensors", model)
    backend = SpeculativeBackend(model, tokenizer, [*default_drafters(), heads])

Three steps:

1. Prompts are made up: texts with a JSON Schema of what to extract from them, function calls, and
   questions of a chat.  They share no subject with ``benchmarks/tasks.py``, so that heads can be
   measured there.
2. The model answers each of them several times at a temperature, within the grammar of the schema
   (chat answers are free), several samples side by side, with the default drafters.
3. ``MedusaHeads.train`` learns from the answers; the model stays as it is.  Every ninth prompt is
   kept aside, and each head is measured on the answers to those.

With the defaults and the embedded model, on one core: ten minutes for 500 answers of 41,000 tokens, nine
for five epochs, 2.7 GB of memory at most, a file of 4 MB; ``--small`` takes 45 seconds and 1.2 GB.  The
heads' guesses are then right for 43, 30 and 23 % of the tokens kept aside.  The loss on those is about
twice that of training, so that more epochs on so few prompts should gain little.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch.nn.functional import cross_entropy

from constrain import load_model
from constrain.huggingface.extraction import automaton_for, default_prompt, vocabulary_for
from constrain.models import DEFAULT_MODEL
from grammars import Grammar
from samplers import GrammarConstrained, Heads, MedusaHeads, SpeculativeBackend
from samplers.speculative.law import Sampling
from samplers.speculative.target import Constrained, FreeText, Target

Schema = dict[str, Any]
Ids = list[int]
Answer = tuple[Ids, Ids]
"""A prompt and what the model answered, as token ids."""
KEPT_ASIDE = 9
"""One prompt in so many is not trained on; over all kinds of prompts in turn."""

# -- made-up prompts -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What the model is asked.

    Attributes:
        messages: the chat.
        schema: of the answer; ``None`` for a free one.
    """

    messages: Sequence[dict[str, str]]
    schema: Schema | None


@dataclass(frozen=True)
class Kind:
    """A kind of value: its schema, and how one is drawn, as a text would have it."""

    schema: Schema
    draw: Callable[[random.Random], str]


def of(*values: str, longest: int = 60) -> Kind:
    """Any text; in our texts one of these."""
    schema = {"type": "string", "minLength": 1, "maxLength": longest}
    return Kind(schema, lambda r: r.choice(values))


def choice(*values: str) -> Kind:
    """One of these texts and no other."""
    return Kind({"enum": list(values)}, lambda r: r.choice(values))


def whole(low: int, high: int) -> Kind:
    """A whole number."""
    return Kind({"type": "integer", "minimum": 0}, lambda r: str(r.randint(low, high)))


def decimal(low: float, high: float) -> Kind:
    """A number with a point."""
    return Kind({"type": "number"}, lambda r: f"{r.uniform(low, high):.1f}")


def several(*values: str) -> Kind:
    """A list of texts."""
    schema = {"type": "array", "minItems": 1, "maxItems": 6, "items": of("").schema}
    return Kind(schema, lambda r: ", ".join(r.sample(values, r.randint(2, 4))))


def _day(r: random.Random) -> str:
    year, month, day = r.randint(2019, 2029), r.randint(1, 12), r.randint(1, 28)
    return r.choice([f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}"])


PERSON = of("Anneke Visser", "Tomás Herrera", "Wanjiru Kamau", "Lars Holm", "Yuki Tanabe", "Dara Quinn",
            "Ilse Baumann", "Omar Siddiqui", "Marek Novotny", "Freya Lund", "Paulo Teixeira")  # fmt: skip
TOWN = of("Utrecht", "Bergen", "Valencia", "Nairobi", "Kyoto", "Cork", "Graz", "Lahore", "Brno", "Aarhus",
          "Braga", "Tartu")  # fmt: skip
DAY = Kind({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}, _day)
CLOCK = Kind(
    {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
    lambda r: f"{r.randint(6, 22):02}:{r.randint(0, 59):02}",
)
YES = Kind({"type": "boolean"}, lambda r: r.choice(["yes", "no"]))

SUBJECTS: dict[str, dict[str, Kind]] = {
    "parcel": {
        "tracking_code": Kind(
            {"type": "string", "pattern": "^[A-Z]{3}[0-9]{7}$"},
            lambda r: f"{r.choice(['PKT', 'DRN', 'SWF'])}{r.randint(1000000, 9999999)}",
        ),
        "sender": PERSON,
        "recipient": PERSON,
        "destination": TOWN,
        "weight_kg": decimal(0.2, 30),
        "fragile": YES,
        "status": choice("in transit", "delivered", "returned", "lost"),
        "delivered_on": DAY,
    },
    "visit to the vet": {
        "pet_name": of("Biscuit", "Luna", "Pepper", "Zorro", "Miso", "Waffles"),
        "species": choice("dog", "cat", "rabbit", "parrot", "tortoise"),
        "owner": PERSON,
        "age_years": whole(1, 18),
        "weight": decimal(0.4, 45),
        "symptoms": several("limping", "no appetite", "sneezing", "itchy ears", "dull coat"),
        "treatment": of("rest for a week", "eye drops twice a day", "a new diet", "a vaccination"),
        "next_visit": DAY,
    },
    "hotel stay": {
        "guest": PERSON,
        "hotel": of("The Copper Kettle", "Hotel Aurora", "Seaview Lodge", "Pension Edelweiss"),
        "town": TOWN,
        "arrival": DAY,
        "nights": whole(1, 14),
        "room_type": choice("single", "double", "suite"),
        "breakfast": YES,
        "price_per_night": decimal(45, 320),
        "extras": several("parking", "sauna", "late check-out", "airport shuttle", "baby cot"),
    },
    "weather report": {
        "station": TOWN,
        "date": DAY,
        "temperature_celsius": decimal(-15, 38),
        "humidity_percent": whole(20, 100),
        "sky": choice("clear", "cloudy", "overcast", "foggy"),
        "wind": of("light breeze from the west", "gusts from the north-east", "calm", "storm"),
        "rain_mm": decimal(0, 60),
        "warnings": several("black ice", "flooding", "strong gusts", "heat", "thunderstorms"),
    },
    "library loan": {
        "title": of("The Tin Orchard", "Salt and Cinders", "A Year Without Maps", "Night Trains"),
        "author": PERSON,
        "borrower": PERSON,
        "copy_number": whole(1, 9000),
        "due": DAY,
        "overdue": YES,
        "fine": decimal(0, 12),
        "subjects": several("history", "gardening", "poetry", "travel", "astronomy", "chess"),
    },
    "car in the workshop": {
        "make": of("Skoda Octavia", "Toyota Yaris", "Volvo V60", "Fiat Panda", "Ford Transit"),
        "plate": of("KL 48 XZ", "B-TR 905", "41-HHV-7", "191 D 2207"),
        "owner": PERSON,
        "mileage": whole(900, 240000),
        "faults": several("worn brake pads", "oil leak", "flat battery", "broken mirror", "rust"),
        "cost_estimate": decimal(40, 2400),
        "ready_at": CLOCK,
        "warranty": YES,
    },
    "football match": {
        "home_team": of("Rovers", "Dynamo North", "FC Lindenau", "Atlético Vega"),
        "away_team": of("Harriers", "Union South", "SV Birkenfeld", "Real Costa"),
        "home_goals": whole(0, 6),
        "away_goals": whole(0, 6),
        "stadium": of("Riverside Park", "Old Quarry", "Arena West"),
        "kick_off": CLOCK,
        "spectators": whole(150, 52000),
        "scorers": several("Okoye", "Lindgren", "Pereira", "Maas", "Kovač", "Doyle"),
        "extra_time": YES,
    },
    "course": {
        "subject": of("Pottery for Beginners", "Bee Keeping", "Statistics I", "Conversational Welsh"),
        "teacher": PERSON,
        "weekday": choice("Monday", "Tuesday", "Wednesday", "Thursday", "Saturday"),
        "starts": CLOCK,
        "seats": whole(6, 40),
        "fee": decimal(0, 480),
        "level": choice("beginner", "intermediate", "advanced"),
        "materials": several("an apron", "a notebook", "a laptop", "gloves", "a pencil"),
        "online": YES,
    },
}  # fmt: skip
REMARKS = ["Please file this with the others.", "Sent from my phone.", "Sorry for the late reply.",
           "Call me if anything is unclear.", "Copies to the front desk, please."]  # fmt: skip
CHATS = ["Explain {} in three sentences.", "Write a short story about {}.", "What is {}?",
         "Give me four tips about {}.", "Write an e-mail to a friend about {}.",
         "What are the advantages and disadvantages of {}?"]  # fmt: skip
TOPICS = ["sourdough bread", "tides", "learning to swim", "public libraries", "bicycle gears",
          "a lost umbrella", "compound interest", "migrating birds", "night shifts", "volcanoes",
          "a move to another town", "train delays", "vaccines", "a garden in winter",
          "recursion in programming"]  # fmt: skip
CALL = """\
You can use these functions:
{functions}

Which call does this ask for? {wish}
Write it as a JSON object with "name" and "arguments"."""


def requests(count: int, seed: int = 0) -> list[Request]:
    """Prompts in turn: three of extraction, one function call, one of chat."""
    r = random.Random(seed)
    kinds = [_extraction, _extraction, _call, _extraction, _chat]
    return [kinds[i % len(kinds)](r) for i in range(count)]


def _extraction(r: random.Random) -> Request:
    subject = r.choice(list(SUBJECTS))
    fields = _some(r, subject)
    values = {key: kind.draw(r) for key, kind in fields.items()}
    schema = _record({key: kind.schema for key, kind in fields.items()})
    asked = default_prompt(_text(r, subject, values), json.dumps(schema))
    return Request([dict(message) for message in asked], schema)


def _call(r: random.Random) -> Request:
    subjects = r.sample(list(SUBJECTS), 2)
    names = ["record_" + subject.replace(" ", "_") for subject in subjects]
    chosen = [_some(r, subject) for subject in subjects]
    functions = [
        {"name": name, "parameters": _record({key: kind.schema for key, kind in fields.items()})}
        for name, fields in zip(names, chosen, strict=True)
    ]
    said = [f"{key.replace('_', ' ')} {kind.draw(r)}" for key, kind in chosen[0].items()]
    wish = f"Note down a {subjects[0]}: {', '.join(said)}."
    r.shuffle(functions)
    asked = CALL.format(functions="\n".join(json.dumps(f) for f in functions), wish=wish)
    calls = [
        _record({"name": {"const": f["name"]}, "arguments": f["parameters"]}) for f in functions
    ]
    return Request([{"role": "user", "content": asked}], {"anyOf": calls})


def _chat(r: random.Random) -> Request:
    asked = r.choice(CHATS).format(r.choice(TOPICS))
    return Request([{"role": "user", "content": asked}], None)


def _some(r: random.Random, subject: str) -> dict[str, Kind]:
    """Three to six fields of a subject, in any order."""
    fields = SUBJECTS[subject]
    return {key: fields[key] for key in r.sample(list(fields), r.randint(3, 6))}


def _record(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(r: random.Random, subject: str, values: dict[str, str]) -> str:
    """A form, or sentences; in an order of its own, and with something beside the point."""
    items = [(key.replace("_", " "), value) for key, value in values.items()]
    r.shuffle(items)
    if r.random() < 0.5:
        body = "\n".join(f"{key.capitalize()}: {value}" for key, value in items)
        return f"{subject.upper()}\n{body}\n{r.choice(REMARKS)}"
    told = " ".join(f"The {key} is {value}." for key, value in items)
    return f"This is about a {subject}. {told} {r.choice(REMARKS)}"


# -- samples of the model --------------------------------------------------------------------------


def prepared(asked: Sequence[Request], model: Any, tokenizer: Any) -> Iterator[tuple[Ids, Target]]:
    """Prompts as token ids, each with what its answers are drawn from."""
    free = FreeText(tuple(vocabulary_for(tokenizer, model).eos_token_ids))
    for request in asked:
        encoded = tokenizer.apply_chat_template(
            list(request.messages), add_generation_prompt=True, return_dict=True
        )
        target: Target = free
        if request.schema is not None:
            grammar = Grammar.from_json_schema(request.schema)
            target = Constrained(automaton_for(grammar, tokenizer, model))
        yield [int(token) for token in encoded["input_ids"]], target


def answered(
    backend: SpeculativeBackend,
    asked: Iterable[tuple[Ids, Target]],
    *,
    samples: int,
    max_new_tokens: int,
    temperature: float,
    seed: int = 0,
) -> Iterator[list[Answer]]:
    """The model's answers to each prompt in turn.

    Args:
        backend: the model with its drafters.
        asked: prompts, each with what its answers are drawn from.
        samples: of each prompt, side by side.
        max_new_tokens: of each.
        temperature: of the model.
        seed: for the same samples again.
    """
    for number, (ids, target) in enumerate(asked):
        options: dict[str, Any] = {"n": samples, "max_new_tokens": max_new_tokens}
        options["seed"] = 1000 * seed + number
        if target.automaton is not None:
            sampler = GrammarConstrained(backend, target.automaton)
            found = sampler.sample(ids, temperature=temperature, **options)
        else:
            found = backend.generate(ids, target, sampling=Sampling(temperature), **options)
        yield [(ids, sample.token_ids) for sample in found]


def split(found: Sequence[list[Answer]]) -> tuple[list[Answer], list[Answer]]:
    """Answers to train on, and those to measure on, which are to other prompts."""
    aside = [a for i, each in enumerate(found, 1) if i % KEPT_ASIDE == 0 for a in each]
    return [a for i, each in enumerate(found, 1) if i % KEPT_ASIDE for a in each], aside


# -- how good heads are ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """How one head does on texts it was not trained on, no grammar helping.

    Attributes:
        loss: cross-entropy, nats a token.
        first: share of the tokens that were its likeliest guess.
        among: share of the tokens that were among its four likeliest.
    """

    loss: float
    first: float
    among: float


@torch.no_grad()
def scores(heads: Heads, model: Any, answers: Sequence[Answer]) -> list[Score]:
    """Each head's score.

    Raises:
        ValueError: if no answer is long enough for all heads.
    """
    losses: list[list[float]] = [[] for _ in range(len(heads))]
    ranks: list[list[int]] = [[] for _ in range(len(heads))]
    for ids, new in answers:
        given = torch.tensor([ids + new], device=model.device)
        out = model(given, output_hidden_states=True, use_cache=False)
        for head in range(len(heads)):
            wanted = given[0, len(ids) + 1 + head :]
            hidden = out.hidden_states[-1][0, len(ids) - 1 :][: len(wanted)]
            logits = heads.one(head, hidden)
            losses[head] += cross_entropy(logits, wanted, reduction="none").tolist()
            ranks[head] += (logits > logits.gather(1, wanted[:, None])).sum(-1).tolist()
    if not losses[-1]:
        raise ValueError(f"no answer is long enough for {len(heads)} heads")
    return [
        Score(mean(loss), mean(r < 1 for r in rank), mean(r < 4 for r in rank))
        for loss, rank in zip(losses, ranks, strict=True)
    ]


def table(before: Sequence[Score], after: Sequence[Score]) -> str:
    """Scores of untrained heads and of trained ones."""
    lines = ["head | loss: untrained, trained | likeliest guess right | among the four likeliest"]
    for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
        lines.append(
            f"{number:4} | {old.loss:15.2f}, {new.loss:7.2f} | {old.first:11.0%}, {new.first:8.0%} "
            f"| {old.among:14.0%}, {new.among:7.0%}"
        )
    return "\n".join(lines)


# -- the command -----------------------------------------------------------------------------------

FULL = {"prompts": 140, "tokens": 160, "epochs": 5}
SMALL = {"prompts": 10, "tokens": 48, "epochs": 2}


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="the safetensors to write")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--dtype", default="bfloat16", help="of the model; heads are float32")
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--prompts", type=int, help=f"default: {FULL['prompts']}")
    parser.add_argument("--samples", type=int, default=4, help="of each prompt")
    parser.add_argument("--tokens", type=int, help=f"of a sample; default: {FULL['tokens']}")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--epochs", type=int, help=f"default: {FULL['epochs']}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--small", action="store_true", help="little of it, to see that it works")
    options = parser.parse_args(arguments)
    for name, value in (SMALL if options.small else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.prompts < KEPT_ASIDE:
        parser.error(
            f"--prompts {options.prompts}: at least {KEPT_ASIDE}, one of which is kept aside"
        )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Samples, trains, measures, saves."""
    options = parsed(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    model, tokenizer = load_model(options.model, options.dtype)
    began = time.perf_counter()
    found = list(
        track(
            answered(
                SpeculativeBackend(model, tokenizer),
                prepared(requests(options.prompts, options.seed), model, tokenizer),
                samples=options.samples,
                max_new_tokens=options.tokens,
                temperature=options.temperature,
                seed=options.seed,
            ),
            "answers",
            total=options.prompts,
            console=Console(stderr=True),
        )
    )
    train, aside = split(found)
    count = sum(len(new) for _, new in train)
    sampled = time.perf_counter()
    print(f"{count:,} tokens of {len(train)} answers in {sampled - began:.0f} s", flush=True)
    made = MedusaHeads.train(
        model,
        None,
        answers=train,
        heads=options.heads,
        epochs=options.epochs,
        seed=options.seed,
    )
    made.save(options.out)
    print(f"trained in {time.perf_counter() - sampled:.0f} s; loss of each epoch:", end="")
    print("".join(f" {loss:.2f}" for loss in made.losses))
    before = scores(Heads(model, options.heads), model, aside)
    print(table(before, scores(made.heads, model, aside)))
    print(f"saved as {options.out}")


if __name__ == "__main__":
    main()
