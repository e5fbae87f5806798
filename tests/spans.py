"""The spans of a text by definition: every pair of places, looked at one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def spans(text: str, unit: str = "chars", fold: Iterable[str] = ()) -> set[str]:
    """What ``Grammar.substring_of`` describes; with ``"case"`` in one case only, see :func:`has_span`."""
    if "space" in fold:
        if unit == "lines":
            lines = [" ".join(line.split()) for line in text.splitlines()]
            text = "\n".join(line for line in lines if line)
        else:
            text = re.sub(r"\s+", " ", text.strip())
    if "case" in fold:
        text = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    begins = [i for i in range(len(text)) if _may_begin(text, i, unit)]
    ends = [i for i in range(1, len(text) + 1) if _may_end(text, i, unit)]
    return {""} | {text[i:j] for i in begins for j in ends if i < j}


def has_span(text: str, part: str, unit: str, fold: Iterable[str]) -> bool:
    """Whether a text is one of them."""
    if "case" in fold:
        part = "".join(c.lower() if len(c.lower()) == 1 else c for c in part)
    return part in spans(text, unit, fold)


def _in_a_word(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LMN"


def _stands_alone(character: str) -> bool:
    name = unicodedata.name(character, "")
    return name.split(" ")[0] in {"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"}


def _splits(text: str, i: int) -> bool:
    """Whether a word ends, or another one begins, between two characters."""
    if i in (0, len(text)):
        return True
    a, b = text[i - 1], text[i]
    if _stands_alone(a) or _stands_alone(b) or a.isspace() or b.isspace():
        return True
    return not (_in_a_word(a) and _in_a_word(b))


def _may_begin(text: str, i: int, unit: str) -> bool:
    if unit == "words":
        attached = i > 0 and not text[i - 1].isspace() and text[i] in ",.;:!?)]}»”…、。"
        return not text[i].isspace() and _splits(text, i) and not attached
    return unit == "chars" or (text[i] != "\n" and (i == 0 or text[i - 1] == "\n"))


def _may_end(text: str, i: int, unit: str) -> bool:
    if unit == "words":
        attached = i < len(text) and not text[i].isspace() and text[i - 1] in "([{«“"
        return not text[i - 1].isspace() and _splits(text, i) and not attached
    return unit == "chars" or (text[i - 1] != "\n" and (i == len(text) or text[i] == "\n"))
