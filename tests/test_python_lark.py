"""``python.lark`` of lark's wheel, with ``PythonIndenter``: against lark's own LALR parser."""

from __future__ import annotations

import random
from functools import lru_cache
from importlib.resources import files

import lark
from lark.indenter import PythonIndenter

from grammars import Grammar

SOURCE = files("lark").joinpath("grammars/python.lark").read_text("utf-8")

TEXTS = (
    "",
    "\n\n# nothing but this\n",
    "import os, sys as system\nfrom .. import a\nfrom .b.c import (d, e as f,)\nfrom g import *\n",
    "def f(a, b: int = 1, /, *args, c=2, **kwargs) -> None:\n    '''Text.'''\n    return a + b\n",
    "class A(B, metaclass=M):\n\n    x: int = 3\n    # a comment\n\n    @property\n    def y(self):\n"
    "        pass\n\n\tz = 1\n",
    "async def f():\n    async with a as b, c:\n        await d\n    async for i in j: yield i\n",
    "if a:\n    b\nelif c: d; e\nelse:\n  f = [\n1,\n        2,\n  ]\ng()\n",
    "try:\n    x = {**a, 'b': 1, \"c\": (yield)}\nexcept (E, F) as e:\n    raise G from e\nelse:\n"
    "    pass\nfinally:\n    del x[1:2, ::3], y\n",
    "while not a is not b:\n    c = d if e else f\n    if g in h: break\n    else: continue\n",
    "for i, *j in [(1, 2)]:\n    print(f'{i!r:>{j}}', rb'\\'', '''a\n  b''', sep='')\nelse:\n    ...\n",
    "x = [a for b in c if d for e in f]\ny = {a: b for a, b in c}\nz = (lambda *a, b=1: a)(*c, d=1)\n",
    "a = b = 1 + 2j * 0x_f ** -3.e4 // ~5 % 6 @ 7 << 8 & 9 ^ 0b1 | 0o7\na @= b; a //= 2\nc := d\n",
    "with (open(a)) as b, c:\n\n    assert b, 'no'\n    global d\n    nonlocal e; f: int\n",
    "match x:\n    case [1, *_] if y:\n        z\n    case A(b=2) | None as c:\n        pass\n",
    "x = a \\\n    + b\nif x: \\\n    y\n",
    "if a:\n    if b:\n        c\n  # outside\n    d\n\n\n",
)
PIECES = (
    " ",
    "\t",
    "\n",
    "\n    ",
    "(",
    ")",
    "]",
    ":",
    ",",
    "'",
    "#",
    "\\\n",
    "else:",
    "x",
    "not ",
    '"""',
)


@lru_cache(None)
def ours() -> Grammar:
    return Grammar.from_lark(SOURCE, "file_input")


@lru_cache(None)
def theirs() -> lark.Lark:
    return lark.Lark(SOURCE, parser="lalr", start="file_input", postlex=PythonIndenter())


def lark_reads(text: str) -> bool:
    """Lark's verdict; failed assertions and other errors of its indenter are refusals."""
    try:
        theirs().parse(text)
    except (lark.exceptions.LarkError, AssertionError, IndexError):
        return False
    return True


def mutated(text: str, rng: random.Random) -> str:
    """A text with a small change, more often than not in its widths."""
    lines = text.split("\n")
    i = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines[i] = " " * rng.randint(1, 4) + lines[i]
        case 1:
            lines[i] = lines[i][rng.randint(1, 4) :]
        case 2:
            del lines[i]
        case _:
            at, cut = rng.randint(0, len(text)), rng.choice((0, 0, 1, 3))
            return text[:at] + rng.choice(PIECES) + text[at + cut :]
    return "\n".join(lines)


def check_texts() -> None:
    accepted = [lark_reads(text) for text in TEXTS]
    assert [ours().accepts(text) for text in TEXTS] == accepted
    assert sum(accepted) >= len(TEXTS) - 3


def check_mutated_texts() -> None:
    rng = random.Random(5)
    accepted = 0
    texts = [t for t in TEXTS if "match" not in t]
    for _ in range(600):
        text = mutated(rng.choice(texts), rng)
        expected = lark_reads(text)
        accepted += expected
        assert ours().accepts(text) == expected, text
    assert 100 < accepted < 500


def check_samples() -> None:
    for seed in range(5):
        text = ours().sample(seed).decode()
        if "match" not in text:
            assert lark_reads(text), text


def test_texts_are_read_as_by_lark() -> None:
    """One test, so that one process compiles the grammar, which takes seconds.

    Texts with a name ``match`` are left out of the mutated ones: lark settles that conflict by shifting,
    ours follows both readings.
    """
    check_texts()
    check_mutated_texts()
    check_samples()
