"""What turns texts into rows: a model that runs here, or one behind a server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from grammars.errors import GrammaError
from samplers.bulk.documents import Document
from samplers.bulk.errors import BulkError
from samplers.bulk.rows import Row, told

if TYPE_CHECKING:
    from constrain.huggingface.result import Extraction

Extract: TypeAlias = "Callable[[Sequence[str]], Sequence[Extraction]]"
"""Texts -> what was extracted from each; those that failed have their ``error``."""
MakeExtract: TypeAlias = Callable[[int], Extract]
"""The number of a worker -> what it extracts with: loads a model, so it is called in the worker."""

_OF_DOCUMENTS: Final = (GrammaError, ValueError, RuntimeError, MemoryError)
"""Errors that one text may be the reason of; others are mistakes that end the run."""
_REFUSED: Final = (400, 413, 422)
"""Statuses by which a server refuses one request, as for a text that is too long."""
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a server that could not answer is asked again."""


@dataclass(frozen=True)
class Settings:
    """How values are extracted: what every worker is told.

    Attributes:
        wanted: a JSON Schema as text, or a type.
        model: an embedded model, a folder or a hub's name; at a server its name there.
        backend: the URL of a server; ``None`` for a model that runs here.
        grounded: whether values have to stand in the text.
        max_new_tokens: the budget, the end included.
        dtype: the torch type of a model that runs here.
        device: where it runs, ``cpu`` or ``cuda``.
        api_key: for the server.
    """

    wanted: Any
    model: str | None
    backend: str | None = None
    grounded: bool = False
    max_new_tokens: int | None = None
    dtype: str = "native"
    device: str = "cpu"
    api_key: str | None = field(default=None, repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``extract_many``."""
        return {
            "grounded": self.grounded,
            "max_new_tokens": self.max_new_tokens,
            "on_error": "return",
        }

    def __call__(self, worker: int) -> Extract:
        """What a worker extracts with; loads the model."""
        if self.backend is not None:
            return _OfServer(self)
        return _OfModel(self, worker)


class _OfModel:
    """A model that runs in this process, a batch side by side."""

    def __init__(self, settings: Settings, worker: int) -> None:
        from constrain.models import load_model

        assert settings.model is not None
        self._settings = settings
        self._model, self._tokenizer = load_model(settings.model, settings.dtype)
        if settings.device != "cpu":
            self._model.to(_device(settings.device, worker))

    def __call__(self, texts: Sequence[str]) -> Sequence[Extraction]:
        from samplers import extract_many

        made, wanted = self._settings, self._settings.wanted
        size = max(1, len(texts))
        return extract_many(
            self._model, self._tokenizer, texts, wanted, batch_size=size, **made.options
        )


def _device(name: str, worker: int) -> str:
    """The device of a worker: one of several that are alike."""
    import torch

    if name != "cuda":
        return name
    count = torch.cuda.device_count()
    if not count:
        raise BulkError("device='cuda': torch sees no GPU here; take device='cpu'")
    return f"cuda:{worker % count}"


class _OfServer:
    """A model behind a server, a batch of requests at once."""

    def __init__(self, settings: Settings) -> None:
        from constrain.servers.openai import OpenAIServer

        assert settings.backend is not None
        self._settings = settings
        self._server = OpenAIServer(settings.backend, settings.model, settings.api_key)

    def __call__(self, texts: Sequence[str]) -> Sequence[Extraction]:
        found = self._asked(texts)
        for pause in _PAUSES:
            failed = [number for number, one in enumerate(found) if _of_server(one.error)]
            if not failed:
                return found
            time.sleep(pause)
            for number, one in zip(failed, self._asked([texts[n] for n in failed]), strict=True):
                found[number] = one
        for one in found:
            if _of_server(one.error):
                raise BulkError(f"the server does not answer any more: {one.error}")
        return found

    def _asked(self, texts: Sequence[str]) -> list[Extraction]:
        made, wanted = self._settings, self._settings.wanted
        size = max(1, len(texts))
        return self._server.extract_many(texts, wanted, batch_size=size, **made.options)


def _of_server(error: Exception | None) -> bool:
    """Whether an error is about the server, not about the text that it was asked about."""
    from constrain.servers.transport import ServerError

    if not isinstance(error, ServerError):
        return False
    return error.answer is None and error.status not in _REFUSED


# -- rows ------------------------------------------------------------------------------------------


def rows_of(extract: Extract, documents: Sequence[Document]) -> list[Row]:
    """The rows of some documents, one each, in their order.

    Where a batch fails as a whole, its texts are tried one by one.

    Raises:
        BulkError: where no text is the reason.
    """
    rows = [Row(one.row, one.id, error=one.error or "no text") for one in documents]
    readable = [i for i, one in enumerate(documents) if one.text is not None]
    if not readable:
        return rows
    begun = time.perf_counter()
    for i, made in zip(
        readable, _extracted(extract, [documents[i] for i in readable]), strict=True
    ):
        rows[i] = made
    share = (time.perf_counter() - begun) / len(readable)
    for i in readable:
        rows[i] = replace(rows[i], seconds=round(share, 4))
    return rows


def _extracted(extract: Extract, documents: Sequence[Document]) -> list[Row]:
    try:
        found = extract([one.text for one in documents if one.text is not None])
    except BulkError:
        raise
    except _OF_DOCUMENTS as error:
        if len(documents) == 1:
            return [Row(documents[0].row, documents[0].id, error=told(error))]
        return [row for one in documents for row in _extracted(extract, [one])]
    return [_row(one, made) for one, made in zip(documents, found, strict=True)]


def _row(document: Document, found: Extraction) -> Row:
    row = Row(document.row, document.id, tokens=len(found.tokens))
    if found.error is not None:
        return replace(row, error=told(found.error))
    if not found.complete:
        why = "the text is not complete: the server stopped at its budget; raise max_new_tokens"
        return replace(row, error=why)
    made = replace(
        row,
        value=json.loads(found.text),
        complete=True,
        sources=dict(found.sources),
        confidence={at: round(one, 4) for at, one in found.confidence.items()},
    )
    try:
        made.line()
    except ValueError as error:
        return replace(row, error=told(error))
    return made
