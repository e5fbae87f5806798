"""Are confidences what they say?  The share of right values among those of like confidence.

Reads records that ``extraction.py --engine grounded --json FILE`` has written.  Values outside of arrays are
told apart from those in items: a model that does not end a list is sure of each item it repeats.

Usage: ``python benchmarks/extraction_reliability.py FILE [FILE ...] [--bins 5] [--plot FILE.svg]``
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from extraction import Record, read_records
from reporting import table

_IN_ITEM: Final = re.compile(r"/\d+(/|$)")
_SIDE: Final = 240
_MARGIN: Final = 44
_COLOURS: Final = ("#2563eb", "#d97706")


@dataclass(frozen=True)
class Judged:
    """A value's confidence, and whether it is right."""

    confidence: float
    is_right: bool


def judged(records: Sequence[Record], *, in_items: bool) -> Iterator[Judged]:
    """The values of records, of items of arrays or of all else; arrays themselves are left out."""
    for record in records:
        wrong = set(record.score.wrong_at)
        for pointer, confidence in record.answer.confidence.items():
            if _is_list(record.answer.value, pointer):
                continue
            if bool(_IN_ITEM.search(pointer)) == in_items:
                yield Judged(confidence, pointer not in wrong)


def _is_list(value: Any, pointer: str) -> bool:
    for step in pointer.split("/")[1:]:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return isinstance(value, list)


def bins(values: Sequence[Judged], count: int) -> list[dict[str, Any]]:
    """Rows of a table, by confidence."""
    rows = []
    for i in range(count):
        low, high = i / count, (i + 1) / count
        inside = [
            v for v in values if low <= v.confidence < high or (high == 1 and v.confidence == 1)
        ]
        if inside:
            rows.append(
                {
                    "confidence": f"{low:.1f} to {high:.1f}",
                    "values": len(inside),
                    "mean confidence": sum(v.confidence for v in inside) / len(inside),
                    "right": sum(v.is_right for v in inside) / len(inside),
                }
            )
    return rows


def ranked(values: Sequence[Judged]) -> float:
    """The probability that a right value is more confident than a wrong one (area under the ROC curve)."""
    right = [v.confidence for v in values if v.is_right]
    wrong = [v.confidence for v in values if not v.is_right]
    if not right or not wrong:
        return float("nan")
    better = sum((a > b) + (a == b) / 2 for a in right for b in wrong)
    return better / (len(right) * len(wrong))


def expected_error(rows: Sequence[dict[str, Any]]) -> float:
    """The mean difference of confidence and share of right values (expected calibration error)."""
    total = sum(row["values"] for row in rows)
    off = sum(row["values"] * abs(row["mean confidence"] - row["right"]) for row in rows)
    return off / total if total else float("nan")


def plot(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draws shares of right values by confidence; the diagonal is what confidences say."""
    width, height = _SIDE + 2 * _MARGIN + 120, _SIDE + 2 * _MARGIN

    def at(x: float, y: float) -> tuple[float, float]:
        return _MARGIN + _SIDE * x, _MARGIN + _SIDE * (1 - y)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#888"/>',
        f'<line x1="{_MARGIN}" y1="{_MARGIN + _SIDE}" x2="{_MARGIN + _SIDE}" y2="{_MARGIN}" '
        'stroke="#aaa" stroke-dasharray="4 4"/>',
        f'<text x="{_MARGIN}" y="{_MARGIN - 10}">share of right values</text>',
        f'<text x="{_MARGIN + _SIDE / 2 - 30}" y="{_MARGIN + _SIDE + 34}">confidence</text>',
    ]
    for tick in (0, 0.5, 1):
        x, y = at(tick, 0)
        parts.append(f'<text x="{x - 8:.0f}" y="{y + 16:.0f}">{tick}</text>')
        parts.append(f'<text x="{_MARGIN - 26}" y="{at(0, tick)[1] + 4:.0f}">{tick}</text>')
    for (name, rows), colour in zip(curves.items(), _COLOURS, strict=False):
        points = [at(row["mean confidence"], row["right"]) for row in rows]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), row in zip(points, rows, strict=True):
            radius = 2 + row["values"] ** 0.5 / 2
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}"/>')
        below = _MARGIN + 16 + 18 * list(curves).index(name)
        parts.append(f'<text x="{_MARGIN + _SIDE + 12}" y="{below}" fill="{colour}">{name}</text>')
    path.write_text("\n".join([*parts, "</svg>"]), "utf-8")


def main() -> None:
    """Prints tables, and draws a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--bins", type=int, default=5)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    records = read_records(options.files)
    curves: dict[str, list[dict[str, Any]]] = {}
    for name, in_items in (("outside of arrays", False), ("in items", True)):
        values = list(judged(records, in_items=in_items))
        curves[name] = rows = bins(values, options.bins)
        print(f"{name}: {len(values)} values, {sum(v.is_right for v in values)} right, ", end="")
        print(f"AUC {ranked(values):.2f}, expected calibration error {expected_error(rows):.2f}\n")
        print(table(rows) + "\n")
    if options.plot:
        plot(curves, options.plot)


if __name__ == "__main__":
    main()
