"""Labels of a text: what stands behind the words that name a value, on the same line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+|[^\W_]")


@dataclass(frozen=True)
class Labelled:
    """A value stands behind a label, where the source has that label.

    Attributes:
        labels: in words, each as good as the others: ``(("total",), ("amount", "due"))``.
    """

    labels: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, *labels: str) -> Labelled:
        """The labels of some names: ``amountDue``, ``amount_due`` and ``Amount due`` are one."""
        found = (tuple(word.casefold() for word in _WORDS.findall(label)) for label in labels)
        return cls(tuple(dict.fromkeys(words for words in found if words)))

    def pieces(self, text: str) -> Iterator[str]:
        """What stands behind the labels, to the ends of their lines."""
        ways = "|".join(r"[\W_]+".join(map(re.escape, words)) for words in self.labels)
        if not ways:
            return
        form = re.compile(rf"(?<!\w)(?:{ways})(?!\w)", re.IGNORECASE)
        for line in text.splitlines():
            for match in form.finditer(line):
                piece = line[match.end() :]
                if any(map(str.isalnum, piece)):
                    yield piece


__all__ = ["Labelled"]
