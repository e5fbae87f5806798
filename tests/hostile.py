"""Hostile input for every public door of ``grammars``: near-valid texts, and what may come of them.

A case is a target (a kind of input) and a text, made from valid seeds by a few rounds of mutation:
spans deleted, doubled, swapped, wrapped in brackets many times; numbers made huge; escapes broken;
NULs, lone surrogates and odd characters put in.  ``run_case`` sends it through the door and through
all that a grammar can do.  Whatever is raised must be a ``GrammarError`` (with its subclasses).

``test_fuzz_doors.py`` runs a few of them; ``fuzz.py`` runs campaigns.
"""

from __future__ import annotations

import json
import random
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from constrain import TokenAutomaton, Vocabulary, allocate_bitmask
from grammars import Grammar, GrammarError, LimitExceeded, Limits
from grammars.storage import dumps

SMALL = Limits(
    max_dfa_states=2_000,
    max_program_states=20_000,
    max_expression_nodes=20_000,
    max_states=20_000,
    max_cached_masks=64,
    max_items=500,
    max_search_states=2_000,
    max_work=300_000,
    max_schema_branches=128,
)

# --- seeds ----------------------------------------------------------------------------------------

REGEX_SEEDS = [
    r"[a-z]+@[a-z]+\.(com|org)",
    r"(?i:straße|ab?c*)\d{2,4}",
    r"(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])",
    r"x{0,4294967294}",
    r"(a|b)*?c{3,}(?:d|e)++",
    r"(?>ab|a)c",
    r"[^\W\d_]{1,300}[\x00-\x1f]",
    r"^(?=a)b$|\bfoo\B",
    r"(?s:.)(?x: a b # c)",
    r"\u00e9\N{LATIN SMALL LETTER A}[\U00010000-\U0010ffff]",
    r"(a)\1(?(1)b|c)",
    r"((a{1,9}){1,9}){1,9}",
    r"",
]

GBNF_SEEDS = [
    'root ::= "a" item* [^b-d]\nitem ::= "x" | "(" item ")" | digit{2,5}\ndigit ::= [0-9]\n',
    'root ::= expr\nexpr ::= expr "+" term | term\nterm ::= [0-9]+ | "(" expr ")"\n',
    'root ::= "\\x41\\u00e9\\U0001F600" (a | b)?\na ::= b b\nb ::= c c\nc ::= "k"{0,300} .\n',
    'root ::= "{" (pair ("," pair)*)? "}" # note\npair ::= str ":" str\nstr ::= "\\"" [^"\\\\]* "\\""\n',
    'root ::= r1\nr1 ::= r2 "a" | ""\nr2 ::= r1 "b"\n',
]

LARK_SEEDS = [
    'start: item ("," item)*\nitem: NAME | NUMBER -> num | "(" start ")"\nNAME: /[a-z]+/\n'
    "NUMBER: /[0-9]+/\n%ignore /[ \\t]+/\n",
    '?start: sum\n?sum: product | sum "+" product -> add\n?product: atom ("*" atom)~0..3\n'
    'atom: INT | "-" atom\n%import common.INT\n%import common.WS\n%ignore WS\n',
    'start: list{"x", A} [b]\nlist{item, end}: item+ end | wrap{item}\nwrap{t}: "<" t ">"\n'
    'b: "b"i | "c".."f"\nA.2: "a" | "aa"\n',
    '!start: _x~2 | (A | B)? "k"\n_x: "q" | /r(?=s)/ | "s"\nA: B "1"~2..4\nB: ("x" | C)\nC: "y"+\n',
    'start: "if" NAME | NAME "=" VALUE\nNAME: /[a-z_]\\w*/\nVALUE: /"[^"\\n]*"/\n'
    "%declare X\n%extend NAME: /[0-9]+/\n",
]

SCHEMA_SEEDS = [
    '{"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":9},'
    '"age":{"type":"integer","minimum":0,"exclusiveMaximum":150}},"required":["name"],'
    '"additionalProperties":false}',
    '{"type":"array","items":{"type":"number","multipleOf":0.01},"minItems":2,"maxItems":5,'
    '"uniqueItems":true}',
    '{"$defs":{"node":{"type":"object","properties":{"next":{"$ref":"#/$defs/node"}}}},'
    '"$ref":"#/$defs/node"}',
    '{"anyOf":[{"type":"string","pattern":"^[a-z]{2,3}$"},{"enum":[1,"two",null,[3],{"a":4}]}]}',
    '{"oneOf":[{"const":true},{"type":"boolean"},{"not":{"type":"null"}}]}',
    '{"if":{"properties":{"k":{"const":"a"}}},"then":{"required":["b"]},"else":{"minProperties":2}}',
    '{"patternProperties":{"^x-":{"type":"integer"}},"propertyNames":{"maxLength":4},'
    '"dependentRequired":{"a":["b"]},"unevaluatedProperties":false}',
    '{"prefixItems":[{"type":"string","format":"date"}],"items":false,"contains":{"type":"string"},'
    '"minContains":1,"maxContains":2}',
    '{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"a":{"$id":"#x",'
    '"type":["string","null"]}},"allOf":[{"$ref":"#/definitions/a"}],"dependencies":{"q":["r"]}}',
    '{"$id":"http://e.org/s","$dynamicAnchor":"m","items":{"$dynamicRef":"#m"}}',
    '{"type":"string","format":"uri"}',
    "true",
    "false",
]

SEEDS = {"regex": REGEX_SEEDS, "gbnf": GBNF_SEEDS, "lark": LARK_SEEDS, "schema": SCHEMA_SEEDS}
TARGETS = ("regex", "gbnf", "lark", "schema", "saved", "choices", "file")

# --- mutation -------------------------------------------------------------------------------------

_FRAGMENTS = {
    "": [
        "\0", "\ud800", "\udc00", "\ud83d\ude00", "\ufeff", "é", "\u2028", "\U0010ffff", "😀", "\r",
        "\n", "\t", " ", "\\", '"', "'", "/", "#", "(", ")", "[", "]", "{", "}", "|", "*", "+", "?",
        "^", "$", ".", "-", ",", ":", "0", "999999999999", "4294967294", "2147483647", "65536",
        "-1", "1e999", "9" * 40, "9" * 5_000, "\\u", "\\uD800", "\\x", "\\U00110000", "\\0",
    ],
    "regex": [
        "{999999999999}", "{0,4294967294}", "{2,1}", "{,}", "(?i)", "(?a:", "(?P<a>", "(?P=a)",
        "(?<=a)", "(?!b)", "(?>", "++", "*+", "\\b", "\\B", "\\A", "\\Z", "\\w", "\\p{L}", "[^",
        "[]", "(?#", "(?(1)", "\\N{DASH}", "\\N{", "\\99", "(?-i:", "(?L)", "(?u)", "[a-", "&&",
    ],
    "gbnf": [
        "{999999999999}", "{0,4294967294}", "::=", "root", "<tok>", "!<[3]>", "\\xZZ", "[^]", '""',
        "(\n", "a ::= a\n", "a ::= b\n", "|", "[z-a]", "[\\]-a]",
    ],
    "lark": [
        "~999999999999", "~0..4294967294", "~3..1", "a{", "%import common.INT\n", "%import .x (A)\n",
        "%ignore A\n", "%declare B\n", "%override start: A\n", "%extend A: B\n", "-> x", "?start",
        "_A", "a{t}: a{b{t}}\nb{t}: t t\n", "/(?=a)/", "/(?<=ab)c/", "/a{999999999999}/", "/()/",
        "/[/", '"a".."z"', "A.99999999999", "(A|B)~0..30", "[[A] [A]]", "A: A\n", "/(?i)a/s", "//",
        "start: start\n", "A: B B\n", "B: C C\n", "__x",
    ],
    "schema": [
        "null", "[]", "{}", '"$ref":"#"', '{"$ref":"#/$defs/a"}', '{"$ref":"#/x/~2"}', '"type":"any"',
        '"minimum":1e400', '"multipleOf":0', '"multipleOf":1e-300', '"maxLength":999999999999',
        '"minItems":999999999999', '"pattern":"("', '"pattern":"^(a|b)*c{0,4294967294}$"',
        '"format":"regex"', '"$schema":"http://json-schema.org/draft-04/schema#"', '"enum":[]',
        '"enum":[1,1.0,"\\ud800"]', '"const":{"\\u0000":1}', '"not":{}', '"not":{"$ref":"#"}',
        '"$id":"::"', '"$anchor":"#"', '"properties":{"":{}}', '"required":["a","a"]', "NaN",
        '"uniqueItems":1', '"items":[{}]', '"additionalItems":false', '"minimum":-0.0', "1E+2",
    ],
    "saved": [
        "-1", "null", "true", "1e999", '"x"', "[]", "{}", "99999999999999999999", "0.5", "[[0,255]]",
        '["ref","nowhere"]', '["not",0]', '["repeat",0,5,2]', '["machine","[[]]",[1]]', '["and",[]]',
        '["seq",[0,0]]', '["bag",[[0,0,1,null]],0,1,null,false]', '["mark",300]', '["literal","\\u0100"]',
    ],
}  # fmt: skip

_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|\\.|\d+|\w+|\s+|::=|->|\.\.|.', re.DOTALL)
_DIGITS = re.compile(r"\d+")
_NUMBERS = ["0", "1", "999999999999", "4294967294", "2147483648", "2147483647", "300", "9" * 30]
_PAIRS = ["()", "[]", "{}", '""', "//"]


def mutate(rng: random.Random, target: str, text: str, rounds: int | None = None) -> str:
    """The text after a few random edits."""
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4]) if rounds is None else rounds):
        edit = _edit_tokens if rng.random() < 0.6 else _edit
        text = edit(rng, target, text)[:20_000]
    return text


def _edit_tokens(rng: random.Random, target: str, text: str) -> str:
    """An edit of whole tokens, which leaves more of the text valid."""
    tokens = _TOKEN.findall(text)
    places = [i for i, token in enumerate(tokens) if not token.isspace()]
    if not places:
        return _edit(rng, target, text)
    a, b = rng.choice(places), rng.choice(places)
    few = rng.choice([1, 1, 2, 3, 6])
    match rng.randint(0, 7):
        case 0:
            del tokens[a : a + few]
        case 1:
            tokens[a:a] = tokens[b : b + few]
        case 2:
            tokens[a], tokens[b] = tokens[b], tokens[a]
        case 3:
            tokens[a] = tokens[b]
        case 4:
            tokens[a : a + few] = tokens[a : a + few] * rng.choice([2, 12, 40])
        case 5:
            numbers = [i for i in places if tokens[i].isdigit()]
            if numbers:
                tokens[rng.choice(numbers)] = rng.choice(_NUMBERS)
        case 6:
            names = [i for i in places if tokens[i].isidentifier()]
            if names:
                tokens[rng.choice(names)] = tokens[rng.choice(names)]
        case _:
            pool = _FRAGMENTS.get(target, _FRAGMENTS[""])
            tokens.insert(a, rng.choice(pool))
    return "".join(tokens)


def _span(rng: random.Random, text: str) -> tuple[int, int]:
    a = rng.randint(0, len(text))
    return a, min(len(text), a + rng.choice([1, 1, 2, 5, 12, 40]))


def _edit(rng: random.Random, target: str, text: str) -> str:
    a, b = _span(rng, text)
    part = text[a:b]
    kind = rng.randint(0, 9)
    if kind == 0:
        return text[:a] + text[b:]
    if kind == 1:
        return text[:b] + part + text[b:]
    if kind == 2:
        c, d = _span(rng, text)
        (a, b), (c, d) = sorted([(a, b), (c, d)])
        if b <= c:
            return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]
        return text[:a] + text[b:]
    if kind == 3 and part:
        return (
            text[:a]
            + chr(rng.choice([ord(part[0]) ^ 1 << rng.randint(0, 6), 0, 127, 0xE9]))
            + text[a + 1 :]
        )
    if kind == 4:
        numbers = list(_DIGITS.finditer(text))
        if numbers:
            found = rng.choice(numbers)
            return text[: found.start()] + rng.choice(_NUMBERS) + text[found.end() :]
    if kind == 5:
        left, right = rng.choice(_PAIRS)
        times = rng.choice([1, 2, 30, 300, 3_000])
        return text[:a] + left * times + part + right * times + text[b:]
    if kind == 6:
        return text[:b] + part * rng.choice([2, 10, 60]) + text[b:]
    if kind == 7:
        return text[:a] if rng.random() < 0.5 else text[a:]
    pool = _FRAGMENTS.get(target, [])
    fragment = rng.choice(pool if pool and rng.random() < 0.6 else _FRAGMENTS[""])
    return text[:a] + fragment + text[rng.choice([a, b]) :]


def make_case(rng: random.Random, target: str) -> str:
    """A text for a target."""
    if target == "choices":
        words = [
            mutate(rng, "", rng.choice(["yes", "no", "", "é", "a\0b"]))
            for _ in range(rng.randint(0, 5))
        ]
        return json.dumps(words)
    if target == "file":
        kind = rng.choice(sorted(_SUFFIXES))
        return f"{kind}\n{make_case(rng, _SUFFIXES[kind])}"
    if target == "saved":
        text = _mutate_saved(rng, rng.choice(saved_seeds()))
        return mutate(rng, target, text, rng.choice([0, 1, 1, 2]))
    text = rng.choice(SEEDS[target])
    if target == "schema" and rng.random() < 0.6:
        text = _mutate_json(rng, text)
    if rng.random() < 0.2:  # two in one
        other = rng.choice(SEEDS[target])
        a, b = rng.randint(0, len(text)), rng.randint(0, len(other))
        text = text[:a] + other[b:]
    return mutate(rng, target, text, rng.choice([0, 1, 2]) if target == "schema" else None)


_SUFFIXES = {
    ".regex": "regex", ".gbnf": "gbnf", ".lark": "lark", ".json": "schema", ".gramma": "saved",
    ".schema.json": "saved", ".txt": "regex",
}  # fmt: skip


@lru_cache(maxsize=1)
def saved_seeds() -> tuple[str, ...]:
    """Saved grammars of every kind of node."""
    grammars = [
        Grammar.from_regex(r"(ab|[c-é]){2,900}x?", limits=SMALL),
        Grammar.from_gbnf(GBNF_SEEDS[1], limits=SMALL),
        Grammar.from_lark(LARK_SEEDS[0], limits=SMALL),
        Grammar.from_json_schema(
            json.loads(SCHEMA_SEEDS[0]), property_order="any", whitespace="compact", limits=SMALL
        ),
        Grammar.from_json_schema(json.loads(SCHEMA_SEEDS[1]), whitespace="compact", limits=SMALL),
        Grammar.free_text({"<c>": Grammar.from_json_schema({"enum": [1, "a"]})}, limits=SMALL),
        Grammar.literal("x", limits=SMALL) + Grammar.from_json_schema({"type": "object"}),
    ]
    return tuple(dumps(grammar.ir, grammar.limits) for grammar in grammars)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from _places(value[key], (*path, key))


def _values(rng: random.Random, old: Any) -> Any:
    pool: list[Any] = [
        None, True, -1, 0, 10**12, 2**31, 1e308, 0.5, "", "x", "\ud800", [], {}, [old], {"a": old},
        ["ref", "x"], [[0, 255]], old,
    ]  # fmt: skip
    if isinstance(old, int):
        pool += [old + 1, old - 1, old * 10**9]
    return rng.choice(pool)


def _mutate_json(rng: random.Random, text: str, keys: tuple[str, ...] = ()) -> str:
    data = json.loads(text)
    for _ in range(rng.randint(0, 2)):
        places = [p for p in _places(data) if not keys or p[0] in keys]
        if not places:
            break
        place = rng.choice(places)
        other = rng.choice(places)
        holder, source = data, data
        for key in place[:-1]:
            holder = holder[key]
        for key in other:
            source = source[key]
        old = holder[place[-1]]
        if rng.random() < 0.3:
            holder[place[-1]] = json.loads(json.dumps(source))
        elif rng.random() < 0.2 and isinstance(holder, dict):
            del holder[place[-1]]
        else:
            holder[place[-1]] = _values(rng, old)
    return json.dumps(data)


def _mutate_saved(rng: random.Random, text: str) -> str:
    """Half of them damaged as they are, half with other content and no checksum."""
    if rng.random() < 0.5:
        return text
    data = json.loads(text)
    del data["checksum"]
    keys = ("start", "rules", "nodes", "notes", "sections", "parts", "repeated", "distinct_keys")
    return _mutate_json(rng, json.dumps(data), keys if rng.random() < 0.9 else ())


# --- running --------------------------------------------------------------------------------------


class SlowCase(BaseException):
    """A case that took too long; what bounds work is not what is tested here."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raises :class:`SlowCase` when that much processor time is spent."""

    def stop(*_: object) -> None:
        raise SlowCase

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def open_door(target: str, text: str) -> Grammar:
    """The grammar of a case; errors pass."""
    doors: dict[str, Callable[[str], Grammar]] = {
        "regex": lambda x: Grammar.from_regex(x, limits=SMALL),
        "gbnf": lambda x: Grammar.from_gbnf(x, limits=SMALL),
        "lark": lambda x: Grammar.from_lark(x, limits=SMALL),
        "schema": _schema,
        "saved": lambda x: _from_bytes(".gramma", x, load=True),
        "choices": lambda x: Grammar.from_choices(json.loads(x), limits=SMALL),
        "file": lambda x: _from_bytes(*x.split("\n", 1)),
    }
    return doors[target](text)


def _schema(text: str) -> Grammar:
    rng = random.Random(len(text))
    options: dict[str, Any] = {
        "whitespace": rng.choice(["flexible", "compact"]),
        "property_order": rng.choice(["schema", "schema", "any"]),
        "formats": rng.choice(["assert", "annotate"]),
        "limits": SMALL,
    }
    if rng.random() < 0.3:
        with suppress(ValueError, RecursionError):
            return Grammar.from_json_schema(json.loads(text), **options)
    return Grammar.from_json_schema(text, **options)


def _from_bytes(suffix: str, text: str, load: bool = False) -> Grammar:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"case{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return Grammar.load(path) if load else Grammar.from_file(path, limits=SMALL)


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """All bytes, a few longer tokens, and EOS."""
    tokens: list[bytes | None] = [bytes([b]) for b in range(256)]
    return Vocabulary.from_tokens([*tokens, b"ab", b'":', b"\xc3\xa9", b"xxx", None], [260])


@contextmanager
def named_only() -> Iterator[None]:
    """Lets the errors pass that may leave a door."""
    with suppress(GrammarError):
        yield


def run_case(target: str, text: str) -> str:
    """Opens the door and does all that can be done behind it; the outcome in a word.

    Raises:
        Exception: whatever is no ``GrammarError``.
        AssertionError: where a law is broken.
    """
    try:
        grammar = open_door(target, text)
    except GrammarError as error:
        return _kind(error)
    if target == "saved":
        _check_saved(grammar, text)
    exercise(grammar)
    return "empty" if grammar.is_empty else "grammar"


def _kind(error: GrammarError) -> str:
    """The error's name, once it has a text; a limit says where it was reached."""
    assert str(error).strip(), "an error says something"
    if isinstance(error, LimitExceeded) and not error.has_place() and error.rule is None:
        return "LimitExceeded without a place"
    return type(error).__name__


def _check_saved(grammar: Grammar, text: str) -> None:
    """A damaged file with its checksum is never another language."""
    if '"checksum":"' in text:
        assert any(grammar == _seed(seed) for seed in saved_seeds()), "silently another grammar"


@lru_cache(maxsize=8)
def _seed(text: str) -> Grammar:
    return _from_bytes(".gramma", text, load=True)


def exercise(grammar: Grammar) -> None:
    """Uses everything public of a grammar once."""
    repr(grammar)
    assert hash(grammar) == hash(grammar)
    with tempfile.TemporaryDirectory() as folder:
        grammar.save(Path(folder) / "again.gramma")
        assert Grammar.load(Path(folder) / "again.gramma") == grammar
    texts: list[str | bytes] = ["", "a", b"\xff", "\ud800", "[[[{", '{"a":1,"a":2}']
    with named_only():
        sample = grammar.sample(1, max_bytes=300)
        with named_only(), suppress(UnicodeDecodeError):
            # only a str is read as a tokenizer reads it, names of special tokens as these tokens
            told = sample.decode() if grammar.tokens else sample
            assert grammar.accepts(told), f"its own sample is refused: {told!r}"
        texts += [sample, sample[:-1], sample + b"x"]
    for data in texts:
        with named_only():
            accepted = grammar.accepts(data)
            found = grammar.explain(data)
            assert found.accepted == accepted
            str(found)
    with named_only():
        _walk(TokenAutomaton(grammar, vocabulary(), limits=SMALL), texts[-1])


def _walk(automaton: TokenAutomaton, data: str | bytes) -> None:
    row = allocate_bitmask(1, vocabulary().size).numpy()[0]
    state = automaton.start
    for byte in (data if isinstance(data, bytes) else data.encode("utf-8", "replace"))[:12]:
        automaton.fill_mask(state, row)
        state = automaton.advance(state, byte)
    automaton.is_accepting(state)
    automaton.forced_bytes(automaton.start)
    automaton.min_tokens_to_accept(automaton.start)
