"""An extraction as a page: one self-contained HTML file, the source beside the JSON.

Values and their places light up together; the page has no script and asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any, Final

from samplers.marking import NOT_THERE, leaves_of, place_of, segments, written_values

if TYPE_CHECKING:
    from constrain.huggingface.result import Extraction

_HUES: Final = 6
_OTHERS: Final = 20
"""Other places of a value that are shown."""
_UNSURE: Final = 0.5
"""A confidence below is shown so."""

_HEAD: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark;
  --fg: light-dark(#1b1f24, #e4e7eb); --bg: light-dark(#fff, #15181c); --dim: light-dark(#59636e, #9aa4af);
  --line: light-dark(#d5dae0, #343a42); --bad: light-dark(#b3261e, #ff9c94);
  --lit: light-dark(#1b1f24, #fff); }}
body {{ margin: 1.5rem auto; padding: 0 1rem; max-width: 90rem; font: 16px/1.45 system-ui, sans-serif;
  color: var(--fg); background: var(--bg); }}
h1 {{ font-size: 1.25rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1rem; margin: 0 0 .5rem; }}
main {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }}
section {{ min-width: 0; }}
pre {{ margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; padding: .75rem;
  border: 1px solid var(--line); border-radius: 6px;
  font: .9em/1.6 ui-monospace, Menlo, Consolas, monospace; }}
pre.source {{ max-height: 85vh; overflow: auto; }}
mark, .value {{ color: inherit; border-radius: 3px; text-decoration: none; scroll-margin: 6rem; }}
mark {{ background: light-dark(#e6e9ed, #3a4048); }}
.hue0 {{ background: light-dark(#cfe8ff, #143a5c); }} .hue1 {{ background: light-dark(#d5f2d0, #1d4420); }}
.hue2 {{ background: light-dark(#ffe7c2, #55390b); }} .hue3 {{ background: light-dark(#ead9fb, #40265e); }}
.hue4 {{ background: light-dark(#fbd7e4, #5a2138); }} .hue5 {{ background: light-dark(#c9f0ee, #0f4644); }}
.none {{ color: var(--bad); text-decoration: underline wavy; }}
.sure {{ color: var(--dim); font-size: .8em; margin-left: .4em; user-select: none; }}
.unsure {{ color: var(--bad); }}
.dim {{ color: var(--dim); }}
:target, a:focus-visible {{ outline: 2px solid var(--lit); outline-offset: 1px; }}
{rules}</style>
</head>
<body>
"""


def page_of(found: Extraction, name: str) -> str:
    """The page of an extraction: its source, and what was written with places and confidences.

    Args:
        found: what was extracted.
        name: of the source.
    """
    leaves = leaves_of(found.text) if found.complete else {}
    numbers = {pointer: number for number, pointer in enumerate(leaves)}
    title = f"Values of {name}"
    missing = sum(place_of(found, p, v) == NOT_THERE for p, v in leaves.items())
    said = (
        f"Values that stand in the text: {len(found.sources):,}. Strings and numbers that do not: "
        f"{missing:,}. At several places, of which one is shown: {len(found.ambiguous):,}."
        if found.complete
        else "What was written is not complete."
    )
    hint = "Numbers behind values are the model's confidence; hover over a value for its place."
    return "".join(
        (
            _HEAD.format(title=escape(title), rules="".join(_rules(found, numbers))),
            f"<h1>{escape(title)}</h1>\n",
            f'<p class="summary">{said}</p>\n<p class="dim">{hint}</p>\n<main>\n',
            '<section><h2>Text</h2><pre class="source">',
            *_source(found, numbers),
            '</pre></section>\n<section><h2>Values</h2><pre class="values">',
            *_values(found, leaves, numbers),
            "</pre></section>\n</main>\n</body>\n</html>\n",
        )
    )


def _rules(found: Extraction, numbers: dict[str, int]) -> Iterator[str]:
    """Style that lights up a value and its place together, and shows its other places."""
    for pointer in found.sources:
        n = numbers[pointer]
        lit = f"main:has(.v{n}:is(:hover, :focus)) "
        yield f"{lit}.v{n} {{ outline: 2px solid var(--lit); }}\n"
        if pointer in found.ambiguous:
            yield f"{lit}.o{n} {{ outline: 2px dashed var(--dim); }}\n"


def _source(found: Extraction, numbers: dict[str, int]) -> Iterator[str]:
    source = found.source or ""
    spans: dict[str, list[tuple[int, int]]] = {}
    first: dict[int, list[int]] = {}
    for pointer, span in found.sources.items():
        n = numbers[pointer]
        spans[f"v{n}"] = [span]
        others = [other for other in found.ambiguous.get(pointer, ()) if other != span]
        spans[f"o{n}"] = others[:_OTHERS]
        first.setdefault(span[0], []).append(n)
    names = {f"v{n}": pointer for pointer, n in numbers.items()}
    for begin, end, over in segments(len(source), spans):
        text = escape(source[begin:end])
        own = [label for label in over if label in names]
        yield from (f'<span id="s{n}"></span>' for n in first.get(begin, ()))
        if own:
            hue = f"hue{int(own[-1][1:]) % _HUES}"
            title = escape(", ".join(names[label] or "the value" for label in own))
            yield f'<mark class="{" ".join((hue, *over))}" title="{title}">{text}</mark>'
        elif over:
            yield f'<span class="{" ".join(over)}">{text}</span>'
        else:
            yield text


def _values(found: Extraction, leaves: dict[str, Any], numbers: dict[str, int]) -> Iterator[str]:
    if not found.complete:
        yield escape(found.text)
        return
    for piece, pointer in written_values(found.text):
        if pointer is None:
            yield escape(piece)
        elif pointer in leaves:
            yield _value(found, piece, pointer, leaves[pointer], numbers[pointer])
        else:
            yield piece + _sure(found, pointer, "confidence that there are so many")


def _value(found: Extraction, written: str, pointer: str, value: Any, n: int) -> str:
    where = place_of(found, pointer, value)
    title = escape(": ".join(part for part in (pointer, where) if part))
    text = escape(written)
    if pointer in found.sources:
        out = f'<a class="value hue{n % _HUES} v{n}" href="#s{n}" title="{title}">{text}</a>'
    else:
        kind = "value none" if where else "value"
        out = f'<span class="{kind}" title="{title}">{text}</span>'
    return out + _sure(found, pointer, "confidence")


def _sure(found: Extraction, pointer: str, title: str) -> str:
    confidence = found.confidence.get(pointer)
    if confidence is None:
        return ""
    kind = "sure unsure" if confidence < _UNSURE else "sure"
    return f'<span class="{kind}" title="{title}">{confidence:.2f}</span>'
