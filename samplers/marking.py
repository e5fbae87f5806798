"""An extraction for people: the source with its values marked, and how sure the model was of each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from constrain.confidence import is_leaf
from grammars.json_places import Span, key_pointer, places

if TYPE_CHECKING:
    from rich.text import Text

    from constrain.huggingface.result import Extraction

_Label = TypeVar("_Label")


def segments(
    length: int, spans: Mapping[_Label, Sequence[Span]]
) -> Iterator[tuple[int, int, list[_Label]]]:
    """A text cut wherever a span begins or ends: (begin, end, whose spans cover it).

    Args:
        length: of the text.
        spans: of each label; they may overlap.
    """
    turns: dict[int, list[tuple[bool, _Label]]] = {}
    for label, places_of_label in spans.items():
        for begin, end in places_of_label:
            turns.setdefault(begin, []).append((True, label))
            turns.setdefault(end, []).append((False, label))
    open_spans: list[_Label] = []
    at = 0
    for place in sorted({*turns, length}):
        if place > at:
            yield at, place, list(dict.fromkeys(open_spans))
            at = place
        for begins, label in turns.get(place, ()):
            if begins:
                open_spans.append(label)
            else:
                open_spans.remove(label)


def written_values(text: str) -> Iterator[tuple[str, str | None]]:
    """A JSON text in lines with two blanks of indent, in pieces: (piece, pointer of a value or ``None``).

    Values keep the spelling that they were written in.  The bracket that closes an array has its pointer.
    A text that is no JSON is one value.
    """
    try:
        where = places(text)
    except ValueError:
        yield text, ""
        return
    yield from _pieces(json.loads(text), "", "\n", text, where)


def _pieces(
    value: Any, pointer: str, line: str, text: str, where: Mapping[str, Span]
) -> Iterator[tuple[str, str | None]]:
    begin, end = where[pointer]
    if is_leaf(text, (begin, end)):
        yield text[begin:end], pointer
        return
    is_object = isinstance(value, dict)
    inner = f"{line}  "
    before = "{" if is_object else "["
    for number, (key, item) in enumerate(value.items() if is_object else enumerate(value)):
        name = f"{json.dumps(key, ensure_ascii=False)}: " if is_object else ""
        yield f"{before if number == 0 else ','}{inner}{name}", None
        below = key_pointer(pointer, key) if is_object else f"{pointer}/{number}"
        yield from _pieces(item, below, inner, text, where)
    yield line, None
    yield ("}", None) if is_object else ("]", pointer)


def leaves_of(text: str) -> dict[str, Any]:
    """The values of a JSON text that have none in them; a text that is no JSON is one itself."""
    try:
        where = places(text)
    except ValueError:
        return {"": text}
    return {p: json.loads(text[b:e]) for p, (b, e) in where.items() if is_leaf(text, (b, e))}


NOT_THERE: Final = "not in the text"


def items_of(text: str) -> dict[str, int]:
    """How many items each array of a JSON text has that is not empty."""
    try:
        where = places(text)
    except ValueError:
        return {}
    arrays = {p for p, place in where.items() if text[place[0]] == "[" and not is_leaf(text, place)}
    counts = Counter(pointer.rpartition("/")[0] for pointer in where if pointer)
    return {pointer: counts[pointer] for pointer in where if pointer in arrays}


def can_stand(value: Any) -> bool:
    """Whether a value is of a kind that a source may have: a string that is not blank, or a number."""
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int | float) and not isinstance(value, bool)


def marked_source(found: Extraction) -> Text:
    """The source with ``[value]{pointer}`` around what was found, coloured for terminals."""
    from rich.text import Text

    source = found.source or ""
    openings: dict[int, list[tuple[int, str]]] = {}
    closings: dict[int, list[tuple[int, str]]] = {}
    for pointer, (begin, end) in found.sources.items():
        openings.setdefault(begin, []).append((-end, pointer))
        closings.setdefault(end, []).append((-begin, pointer))
    out = Text(overflow="fold")
    spans = {pointer: [span] for pointer, span in found.sources.items()}
    for begin, end, over in segments(len(source), spans):
        for _ in openings.get(begin, ()):
            out.append("[", "bold")
        out.append(source[begin:end], _COLOURS[len(over) > 1] if over else "")
        for _, pointer in sorted(closings.get(end, ())):
            out.append("]", "bold")
            out.append(f"{{{pointer or 'the value'}}}", "dim")
    return out


_COLOURS = ("bold green", "bold cyan")
"""What one value has, and what several have."""


def table_of(found: Extraction) -> Any:
    """A table of the values: where each stands, by line and column, and its confidence."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in ("value", "pointer", "stands at", "confidence"):
        table.add_column(name, overflow="fold", justify="right" if name == "confidence" else "left")
    leaves = leaves_of(found.text)
    for pointer, value in (leaves | items_of(found.text)).items():
        written = value if isinstance(value, str) else json.dumps(value)
        if pointer not in leaves:
            written = f"({value} item{'s' if value > 1 else ''})"
        confidence = found.confidence.get(pointer)
        sure = "" if confidence is None else f"{confidence:.3f}"
        where = place_of(found, pointer, value) if pointer in leaves else ""
        table.add_row(Text(written), Text(pointer), Text(where), sure)
    return table


def place_of(found: Extraction, pointer: str, value: Any) -> str:
    """Where a value stands, in words: line and column, at how many places, or that it does not.

    Nothing where that is not known, or values of this kind stand nowhere.
    """
    span = found.sources.get(pointer)
    source = found.source
    if source is None:
        return ""
    if span is None:
        return NOT_THERE if can_stand(value) else ""
    line = source.count("\n", 0, span[0]) + 1
    column = span[0] - (source.rfind("\n", 0, span[0]) + 1) + 1
    several = len(found.ambiguous.get(pointer, ()))
    return f"line {line}, column {column}" + (f" (of {several} places)" if several else "")
