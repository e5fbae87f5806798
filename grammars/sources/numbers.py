"""Numbers that stand in a text, read as people write them.

``1,240.50``, ``1.240,50``, ``1 240,50`` and ``1'240.50`` are one number; where a text leaves open which is
meant (``1.240`` is one thousand two hundred and forty, or one and a bit), it stands for both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_SIGNS: Final = "-\u2212\u2013"
_SPACES: Final = " \u00a0\u202f\u2009"
_QUOTES: Final = "'\u2019"
_MOST_DIGITS: Final = 400
"""Digits of a run that is read as numbers; longer ones are no numbers that JSON's readers keep."""

_RUN: Final = re.compile(
    rf"(?P<grouped>\d{{1,3}}(?:[{_SPACES}{_QUOTES}]\d{{3}})+(?!\d)(?:[.,]\d+)?)"
    r"|(?P<plain>\d+(?:[.,]\d+)*)(?P<power>[eE][+-]?\d{1,3}(?![\w]))?"
    r"|(?<![\w.,])[.,](?P<part>\d+)"
)
_GROUP: Final = 3


@dataclass(frozen=True, slots=True)
class FoundNumber:
    """A number of a text.

    Attributes:
        start, end: where it stands, its sign included.
        value: the number.
        text: how JSON writes it with as many places as the text has: ``1240.50``.
    """

    start: int
    end: int
    value: Decimal
    text: str


def numbers_of(text: str) -> list[FoundNumber]:
    """All readings of all numbers of a text, in the order in which they stand.

    A number that a sign stands before is read with it and without, as the sign may be a hyphen.
    """
    out: list[FoundNumber] = []
    for run in _RUN.finditer(text):
        if run.end() - run.start() > _MOST_DIGITS:
            continue
        before = text[run.start() - 1] if run.start() else ""
        signed = before in _SIGNS and before != "" and not text[: run.start() - 1][-1:].isalnum()
        for start, end, digits in _readings(run):
            plain = _plain(digits)
            out.append(FoundNumber(start, end, Decimal(plain), plain))
            if signed and start == run.start():
                out.append(FoundNumber(start - 1, end, Decimal(f"-{plain}"), f"-{plain}"))
    return out


def _readings(run: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    """Where the numbers of a run stand, and what they are in plain digits."""
    start, end = run.span()
    if run["part"] is not None:
        yield start, end, f"0.{run['part']}"
    elif run["grouped"] is not None:
        whole, fraction = re.fullmatch(rf"([\d{_SPACES}{_QUOTES}]+)(?:[.,](\d+))?", run[0]).groups()  # type: ignore[union-attr]
        digits = "".join(c for c in whole if c.isdigit())
        yield start, end, digits if fraction is None else f"{digits}.{fraction}"
        if " " in whole:  # two columns of a table may look like one number
            for part in re.finditer(r"\d+(?:[.,]\d+)?", run[0]):
                yield start + part.start(), start + part.end(), part[0].replace(",", ".")
    elif run["power"] is not None:
        yield start, end, run["plain"].replace(",", ".") + run["power"]
    else:
        yield from _separated(start, run["plain"])


def _separated(start: int, run: str) -> Iterator[tuple[int, int, str]]:
    """The readings of digits with points and commas between them."""
    end = start + len(run)
    parts = re.split(r"[.,]", run)
    signs = [c for c in run if c in ".,"]
    if not signs:
        yield start, end, run
        return
    groups = all(len(part) == _GROUP for part in parts[1:]) and len(parts[0]) <= _GROUP
    grouped = groups and len(set(signs)) == 1 and parts[0].strip("0") != ""
    head = all(len(part) == _GROUP for part in parts[1:-1]) and len(parts[0]) <= _GROUP
    decimal = len(signs) == 1 or (head and len(set(signs[:-1])) == 1 and signs[-1] != signs[0])
    if grouped:
        yield start, end, "".join(parts)
    if decimal:
        yield start, end, f"{''.join(parts[:-1])}.{parts[-1]}"
    listed = signs == [","] and not grouped  # a list such as 3,5
    if listed or not (grouped or decimal):
        at = start
        for part in parts:
            yield at, at + len(part), part
            at += len(part) + 1


def _plain(digits: str) -> str:
    """A number as JSON writes it: ASCII digits, no zeros before it."""
    ascii_digits = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in digits)
    mantissa, mark, power = re.fullmatch(r"([\d.]+)([eE]?)(.*)", ascii_digits).groups()  # type: ignore[union-attr]
    whole, point, fraction = mantissa.partition(".")
    return f"{whole.lstrip('0') or '0'}{point}{fraction}{mark}{power}"


__all__ = ["FoundNumber", "numbers_of"]
