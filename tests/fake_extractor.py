"""An extractor without a model, whose texts say what happens to them; for workers anywhere.

Texts: ``die N ...`` ends the process the first N times that it is read, ``refused ...`` has an error,
``raises ...`` makes its whole batch fail, ``stops ...`` ends the run the first time; all others have a
value.  What was read is noted in a folder that all workers share.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constrain.huggingface.result import Extraction
from samplers.bulk.errors import BulkError
from samplers.bulk.extractors import Extract

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"words": {"type": "integer"}, "first": {"type": "string"}},
    "required": ["words", "first"],
    "additionalProperties": False,
}


def value_of(text: str) -> dict[str, Any]:
    """What the extractor finds in a text."""
    words = text.split()
    return {"words": len(words), "first": words[0] if words else ""}


@dataclass(frozen=True)
class Fake:
    """Made in the worker by its number, as models are.

    Attributes:
        folder: where it notes what it reads.
        pause: seconds for a batch.
        dies_loading: whether workers end before they are ready.
    """

    folder: Path
    pause: float = 0.0
    dies_loading: bool = False

    def __call__(self, worker: int) -> Extract:
        if self.dies_loading:
            os._exit(9)
        return self.read

    def read(self, texts: Sequence[str]) -> list[Extraction]:
        time.sleep(self.pause)
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Extraction:
        self._note(text)
        command, _, _ = text.partition(" ")
        if command == "die" and self._times(text) <= int(text.split()[1]):
            os._exit(9)
        if command == "stops" and self._times(text) == 1:
            raise BulkError("it stops here")
        if command == "raises":
            raise ValueError("the batch fails")
        if command == "refused":
            return Extraction(None, "", [], complete=False, error=ValueError("refused"))
        made = json.dumps(value_of(text))
        return Extraction(value_of(text), made, [1, 2, 3], complete=True, source=text)

    def _note(self, text: str) -> None:
        with (self.folder / hashlib.sha256(text.encode()).hexdigest()).open("a") as stream:
            stream.write(f"{os.getpid()}\n")

    def _times(self, text: str) -> int:
        return len(self.readers(text))

    def readers(self, text: str) -> list[str]:
        """The processes that have read a text, once for each time."""
        path = self.folder / hashlib.sha256(text.encode()).hexdigest()
        return path.read_text().split() if path.exists() else []
