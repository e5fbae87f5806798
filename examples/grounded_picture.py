"""Draws docs/grounded.svg: a notice, the values that were read from it, and where each stands.

python examples/grounded_picture.py docs/grounded.svg
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

LINES = ["On 3 May 2025 the water", "will be off in Mill Lane", "from 9 to 12."]
FIELDS = [
    # name, value, the span it is, what a model may write that is not tied to the text
    ("place", '"Mill Lane"', "Mill Lane", ""),
    ("day", '"2025-05-03"', "3 May 2025", '"9000-12-12"'),
    ("kind", '"water"', "water", ""),
]
BELOW = [
    "Strings are spans of the text, numbers and dates stand in it; choices stay free.",
    "Struck out: what the same model wrote without grounding, just as valid. The mask rules it out.",
]
COLOURS = ["#c8e6c9", "#ffe0b2", "#cfe2ff"]
SIZE, LINE, CHARACTER = 16, 28, 9.64  # pixels; a character of a monospaced font is 0.6 of its size
LEFT, RIGHT, TOP = 24, 372, 74


def text(x: float, y: float, said: str, style: str = 'fill="#222"') -> str:
    size = f'textLength="{len(said) * CHARACTER:.1f}" lengthAdjust="spacingAndGlyphs"'
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" {size} {style} xml:space="preserve">{escape(said)}</text>'
    )


def mark(x: float, y: float, length: int, colour: str) -> str:
    box = f'x="{x - 3:.1f}" y="{y - 18:.1f}" width="{length * CHARACTER + 6:.1f}" height="24"'
    return f'<rect {box} rx="4" fill="{colour}"/>'


def note(y: float, said: str, x: float = LEFT) -> str:
    style = 'font-family="sans-serif" font-size="13" fill="#666"'
    return f'<text x="{x}" y="{y}" {style}>{escape(said)}</text>'


def picture() -> str:
    under, over = [], [note(36, "the text"), note(36, "extract(..., grounded=True)", RIGHT)]
    over += [text(LEFT, TOP + LINE * n, line) for n, line in enumerate(LINES)]
    colours = iter(COLOURS)
    for number, (name, value, span, invented) in enumerate(FIELDS):
        y = TOP + LINE * number
        key = f'"{name}": '
        start = RIGHT + len(key) * CHARACTER
        over += [text(RIGHT, y, key), text(start, y, value)]
        if span:
            colour = next(colours)
            line = next(n for n, said in enumerate(LINES) if span in said)
            x = LEFT + LINES[line].index(span) * CHARACTER
            under.append(mark(x, TOP + LINE * line, len(span), colour))
            under.append(mark(start, y, len(value), colour))
        if invented:
            x = start + (len(value) + 2) * CHARACTER
            over.append(text(x, y, invented, 'fill="#b33" text-decoration="line-through"'))
    over += [note(172, BELOW[0]), note(190, BELOW[1])]
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="760" height="208" viewBox="0 0 760 208"'
    head += f' font-family="ui-monospace, Menlo, Consolas, monospace" font-size="{SIZE}">'
    sheet = '<rect x=".5" y=".5" width="759" height="207" rx="8" fill="#fff" stroke="#ccc"/>'
    rule = '<path d="M348 20V150" stroke="#ddd"/>'
    return "\n".join([head, sheet, rule, *under, *over, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(), "utf-8")
