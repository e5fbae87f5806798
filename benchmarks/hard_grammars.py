"""Grammars and texts that are hard for engines of constrained decoding, each in the forms that engines take.

A case is hard for one reason: a long count, a non-deterministic pattern, many alternatives, deep or
long or ambiguous derivations, keys or items that must not come twice.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, TypeAlias

from mask_cost import document
from schema_compile import long_enum, nested_objects, object_of

Schema: TypeAlias = dict[str, Any]

SENTENCE: Final = (
    "the quick brown fox jumps over a lazy dog while seven grey wolves sleep near old mills"
)
WORDS: Final = SENTENCE.split()


@dataclass(frozen=True)
class Source:
    """A grammar as an engine takes it.

    Attributes:
        kind: "schema", "regex", "gbnf" or "library" (a name of ``grammars.library``).
        text: the grammar, JSON for a schema.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Case:
    """A grammar and a text of its language.

    Attributes:
        name: for ``--only`` and tables.
        source: the grammar.
        write: makes the text.
        others: other sources, by engine, where it does not take the first one.
        letters: whether each letter is to be a token of its own.
        note: what is different for others.
    """

    name: str
    source: Source
    write: Callable[[], str]
    others: dict[str, Source] = field(default_factory=dict)
    letters: bool = False
    note: str = ""

    def source_of(self, engine: str) -> Source:
        """The grammar as an engine takes it."""
        return self.others.get(engine, self.source)


def schema(value: Any) -> Source:
    """A JSON schema."""
    return Source("schema", json.dumps(value))


def words(count: int, seed: int = 0) -> str:
    """So many words."""
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def names(count: int, seed: int = 0) -> list[str]:
    """Distinct names of a letter, letters and digits."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(3, 9)))] = None
    return list(found)


# -- tools -----------------------------------------------------------------------------------------


def parameter(name: str, rng: random.Random) -> tuple[Schema, Any]:
    """A parameter of a tool: its schema and a value."""
    choices = names(rng.randrange(2, 8), rng.randrange(1 << 30))
    kinds: list[tuple[Schema, Any]] = [
        ({"type": "string", "description": name}, words(rng.randrange(2, 8), rng.randrange(99))),
        ({"type": "string", "maxLength": 200}, words(5, rng.randrange(99))),
        ({"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"}, "-".join(choices[:3])),
        (
            {"type": "string", "format": "date"},
            f"20{rng.randrange(10, 30)}-0{rng.randrange(1, 9)}-17",
        ),
        ({"type": "integer", "minimum": 0, "maximum": 10**6}, rng.randrange(10**6)),
        ({"type": "number"}, round(rng.uniform(-9, 9), 3)),
        ({"type": "boolean"}, rng.random() < 0.5),
        ({"enum": choices}, rng.choice(choices)),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 20}, choices),
        ({"type": ["string", "null"]}, None),
    ]
    return rng.choice(kinds)


def tool(number: int, parameters: int = 12) -> tuple[Schema, Any]:
    """The schema of calls of a tool, and a call."""
    rng = random.Random(number)
    made = {f"{name}_{i}": parameter(name, rng) for i, name in enumerate(names(parameters, number))}
    required = [name for name in made if rng.random() < 0.6]
    arguments = object_of({name: kind for name, (kind, _) in made.items()}) | {"required": required}
    call = {
        "name": f"{names(1, number)[0]}_{number}",
        "arguments": {
            name: value
            for name, (_, value) in made.items()
            if name in required or rng.random() < 0.5
        },
    }
    return object_of({"name": {"const": call["name"]}, "arguments": arguments}), call


# -- texts -----------------------------------------------------------------------------------------


def megabytes(size: float) -> str:
    """A JSON text of about that size: a list of documents with many kinds of values."""
    rng = random.Random(0)
    parts: list[str] = []
    length = 0
    while length < size * 1e6:
        parts.append(json.dumps(document(rng), ensure_ascii=False))
        length += len(parts[-1]) + 2
    return f"[{', '.join(parts)}]"


def nested(depth: int) -> Any:
    """A value of ``nested_objects``."""
    value: Any = "deep"
    for i in range(depth):
        value = {f"inner{i}": value}
    return value


def loosely_nested(depth: int) -> Any:
    """Lists and objects within each other."""
    value: Any = 1
    for i in range(depth):
        value = [i, value] if i % 2 else {"key": value}
    return value


def mixed_case(text: str) -> str:
    """Letters in upper and lower case by chance."""
    rng = random.Random(1)
    return "".join(rng.choice((c.upper(), c.lower())) for c in text)


def gapped(places: int, count: int) -> list[list[str]]:
    """For each alternative the words that have to come one after another."""
    found = names(places * count, 7)
    return [found[i * places : (i + 1) * places] for i in range(count)]


C_TEXT: Final = r"""#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define SIZE 256

/* A table of words and how often they came. */
typedef struct entry {
    char *word;
    unsigned long count;
    struct entry *next;
} entry_t;

static entry_t *table[SIZE];

static unsigned hash(const char *word) {
    unsigned value = 5381u;
    while (*word != '\0') {
        value = (value << 5) + value ^ (unsigned char)*word++;
    }
    return value % SIZE;
}

entry_t *find(const char *word, int create) {
    unsigned place = hash(word);
    for (entry_t *e = table[place]; e != NULL; e = e->next) {
        if (strcmp(e->word, word) == 0) return e;
    }
    if (!create) return NULL;
    entry_t *made = malloc(sizeof *made);
    if (made == NULL) {
        fprintf(stderr, "out of memory at \"%s\"\n", word);
        exit(EXIT_FAILURE);
    }
    made->word = strdup(word);
    made->count = 0;
    made->next = table[place];
    return table[place] = made;
}

double mean(const double *values, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; ++i) sum += values[i]; // in order
    return n ? sum / (double)n : -1e-9;
}

int main(int argc, char **argv) {
    char line[4 * SIZE];
    int matrix[2][3] = { { 1, 2, 3 }, [1] = { -4, 0x5F, 'x' } };
    while (fgets(line, sizeof line, stdin)) {
        for (char *word = strtok(line, " \t\n"); word; word = strtok(NULL, " \t\n")) {
            find(word, 1)->count += 1;
        }
    }
    switch (argc) {
    case 1:
        break;
    case 2: case 3:
        printf("%s: %d\n", argv[1], matrix[1][argc & 1 ? 0 : 2]);
        goto end;
    default:
        do { argc -= 2; } while (argc > 0 && !(argc == 7 || argc % 3 == 0));
    }
end:
    for (unsigned i = 0; i < SIZE; i++) {
        for (const entry_t *e = table[i]; e; e = e->next) printf("%s %lu\n", e->word, e->count);
    }
    return 0;
}
"""


# -- cases -----------------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    """All of them, texts not yet made."""
    yield from _counts_and_patterns()
    yield from _many_alternatives()
    yield from _long_and_deep()
    yield from _uniqueness()
    yield from _ambiguous()


def _counts_and_patterns() -> Iterator[Case]:
    yield Case(
        "maxLength 100,000",
        schema({"type": "string", "maxLength": 100_000}),
        lambda: json.dumps(words(20_000)[:100_000]),
    )
    yield Case(
        "[ab]*a[ab]{13}",
        Source("regex", "[ab]*a[ab]{13}"),
        lambda: "".join(random.Random(0).choices("ab", k=400)) + "a" + "ab" * 6 + "b",
    )
    spelled = "".join(names(250, 3))[:1_000]
    folded = "".join(f"[{c}{c.upper()}]" for c in spelled)
    yield Case(
        "(?i) and 1,000 letters",
        Source("regex", f"(?i){spelled}"),
        lambda: mixed_case(spelled),
        {"xgrammar": Source("regex", folded)},
        note="xgrammar: [aA] for each letter",
    )
    yield Case(
        r"(?i)\w{1000}",
        Source("regex", r"(?i)\w{1000}"),
        lambda: mixed_case(spelled),
        {"xgrammar": Source("regex", r"\w{1000}")},
        note=r"xgrammar: \w{1000}, ASCII",
    )


def _many_alternatives() -> Iterator[Case]:
    yield Case(
        "128 tools",
        schema({"anyOf": [tool(i)[0] for i in range(128)]}),
        lambda: json.dumps(tool(77)[1]),
    )
    strings = long_enum(10_000)["enum"]
    yield Case(
        "enum of 10,000",
        schema({"type": "array", "items": {"enum": strings}}),
        lambda: json.dumps(random.Random(0).sample(strings, 50)),
    )
    gaps = gapped(3, 200)
    yield Case(
        "200 alternatives a.*b.*c",
        Source("regex", "|".join(".*".join(alternative) for alternative in gaps)),
        lambda: f"{gaps[77][0]} {words(100)} {gaps[77][1]} {words(100)} {gaps[77][2]}",
    )
    pairs = gapped(2, 200)
    rules = " | ".join(f'any "{a}" any "{b}" any' for a, b in pairs)
    yield Case(
        "200 alternatives any a any b any",
        Source("gbnf", f"root ::= {rules}\nany ::= [^\\x00]*\n"),
        lambda: f"{words(50)} {pairs[77][0]} {words(50)} {pairs[77][1]} {words(50)}",
    )


def _long_and_deep() -> Iterator[Case]:
    rule = 'root ::= item | item "," root\nitem ::= [0-9]+\n'
    yield Case(
        "100,000 items by right recursion",
        Source("gbnf", rule),
        lambda: ",".join(str(i % 977) for i in range(100_000)),
    )
    yield Case("200 deep, any JSON", schema({}), lambda: json.dumps(loosely_nested(200)))
    yield Case("200 deep, schema", schema(nested_objects(200)), lambda: json.dumps(nested(200)))
    yield Case("5 MB of JSON", schema({}), lambda: megabytes(5))
    yield Case(
        "2,000 undeclared keys",
        schema({"type": "object"}),
        lambda: json.dumps({name: i for i, name in enumerate(names(2_000))}),
    )
    source = resources.files("grammars.library").joinpath("c.gbnf").read_text()
    peers = Source("gbnf", source)
    yield Case(
        "C",
        Source("library", "c"),
        lambda: C_TEXT,
        {"llguidance": peers, "xgrammar": peers},
        note="others: names may be keywords",
    )


def _uniqueness() -> Iterator[Case]:
    def unique(name: str, items: Schema, write: Callable[[], str]) -> Case:
        whole = {"type": "array", "items": items, "uniqueItems": True}
        loose = schema({"type": "array", "items": items})
        others = {"llguidance": loose, "xgrammar": loose}
        return Case(name, schema(whole), write, others, note="others: without uniqueItems")

    yield unique("5,000 unique strings", {"type": "string"}, lambda: json.dumps(names(5_000)))
    yield unique(
        "300 unique integers",
        {"type": "integer"},
        lambda: json.dumps(random.Random(0).sample(range(10_000), 300)),
    )
    yield unique(
        "200 unique objects",
        object_of({"id": {"type": "integer"}, "name": {"type": "string"}}),
        lambda: json.dumps([{"id": i % 20, "name": n} for i, n in enumerate(names(200))]),
    )
    yield unique(
        "100 unique pairs of strings",
        {"type": "array", "items": {"type": "string"}},
        lambda: json.dumps([[a, b] for a in names(10) for b in names(10)]),
    )


def _ambiguous() -> Iterator[Case]:
    yield Case(
        's: s s | "a", 1,000 letters',
        Source("gbnf", 'root ::= root root | "a"\n'),
        lambda: "a" * 1_000,
        letters=True,
    )
    rules = 'root ::= x*\nx ::= [^\\x00]+ | [a-z ]+ | [^0-9]* "." | x x\n'
    yield Case("any text, ambiguous", Source("gbnf", rules), lambda: f"{words(300)}. {words(50)}.")
