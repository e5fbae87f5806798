"""Sixty made documents with their truth: 20 invoices, 20 e-mails, 20 notices; 30 to tune on, 30 untouched.

Everything is made here, from seeds: names, goods, sums and sentences are put together from the lists of
``extraction_invoices``, ``extraction_emails`` and ``extraction_notices``; layouts, wording, languages of
labels, currencies and the spelling of numbers, dates and times differ from document to document.

Truth is in the schema's own form.  What of it is verbatim in the text and what is a normal form (a date
written another way, a currency known by its sign, a yes or no) is known for each document:
:attr:`Document.verbatim`.

Usage: ``python benchmarks/extraction_documents.py [--split tune|held-out|all] [--json FILE]``; without
a file the documents are printed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import extraction_emails
import extraction_invoices
import extraction_notices
from extraction_spellings import numbers_in

KINDS: Final = {
    "invoice": extraction_invoices,
    "email": extraction_emails,
    "notice": extraction_notices,
}
"""Kind -> the module with its ``SCHEMA`` and ``make(number, rng) -> (text, truth)``."""

EACH: Final = 20
"""Documents of a kind."""
SPLITS: Final = ("tune", "held-out")
_SEED: Final = 2103
"""Of the documents and of the split; another one makes other documents."""


@dataclass(frozen=True)
class Document:
    """A text and what it says.

    Attributes:
        name: kind and number, ``invoice-07``.
        kind: a key of :data:`KINDS`.
        split: ``tune`` or ``held-out``.
        text: what is read.
        schema: the JSON Schema of ``truth``.
        truth: the values, in the schema's form.
        verbatim: JSON pointers of the strings that stand in the text as they are and of the numbers
            that stand in it in some spelling; all other leaves are normal forms.
    """

    name: str
    kind: str
    split: str
    text: str
    schema: dict[str, Any]
    truth: dict[str, Any]
    verbatim: frozenset[str] = field(default=frozenset())


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """JSON pointer and value of everything in a value that is neither object nor array."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            escaped = str(key).replace("~", "~0").replace("/", "~1")
            yield from leaves(inner, f"{pointer}/{escaped}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{pointer}/{i}")
    else:
        yield pointer, value


@lru_cache
def documents() -> tuple[Document, ...]:
    """All sixty, kind by kind."""
    return tuple(document for kind in KINDS for document in _of_kind(kind))


def chosen(split: str = "all", kinds: Mapping[str, Any] | None = None) -> list[Document]:
    """The documents of a split, kinds in turn, so that the first few are of all kinds.

    Args:
        split: ``tune``, ``held-out`` or ``all``.
        kinds: those wanted; by default all.
    """
    found = [
        [d for d in documents() if d.kind == kind and split in (d.split, "all")]
        for kind in (KINDS if kinds is None else kinds)
    ]
    return [document for turn in zip(*found, strict=True) for document in turn]


def _of_kind(kind: str) -> Iterator[Document]:
    tuned = set(random.Random(f"{_SEED} split {kind}").sample(range(EACH), EACH // 2))
    module = KINDS[kind]
    for number in range(EACH):
        text, truth = module.make(number, random.Random(f"{_SEED} {kind} {number}"))
        split = SPLITS[0] if number in tuned else SPLITS[1]
        name = f"{kind}-{number:02}"
        yield Document(name, kind, split, text, module.SCHEMA, truth, _verbatim(text, truth))


def _verbatim(text: str, truth: dict[str, Any]) -> frozenset[str]:
    numbers = numbers_in(text)

    def stands(value: Any) -> bool:
        if isinstance(value, str):
            return value in text
        return not isinstance(value, bool) and Decimal(str(value)) in numbers

    return frozenset(pointer for pointer, value in leaves(truth) if stands(value))


def main() -> None:
    """Prints the documents, or writes them down as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=(*SPLITS, "all"), default="all")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    found = chosen(options.split)
    if options.json:
        records = [{**vars(d), "verbatim": sorted(d.verbatim)} for d in found]
        options.json.write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n")
        return
    for document in found:
        print(f"=== {document.name} ({document.split})\n{document.text}")
        print(json.dumps(document.truth, ensure_ascii=False))
        other = sorted({pointer for pointer, _ in leaves(document.truth)} - document.verbatim)
        print("normal forms:", *other, "\n")


if __name__ == "__main__":
    main()
