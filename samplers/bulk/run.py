"""One run over many documents: read, extract, keep, put together."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constrain.arguments import check_count
from grammars.grammar import Grammar
from samplers.bulk.crews import Alone, Crew, Processes
from samplers.bulk.dispatching import batches, dispatched
from samplers.bulk.documents import source_of
from samplers.bulk.errors import BulkError
from samplers.bulk.extractors import MakeExtract, Settings
from samplers.bulk.rows import json_of
from samplers.bulk.store import FORMATS, Format, Store, opened

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_BATCH_SIZE = 8


@dataclass(frozen=True)
class Summary:
    """What became of a run.

    Attributes:
        rows: documents of the input, which are rows of the output.
        values: rows with a value.
        errors: rows with an error.
        resumed: rows that were finished before.
        seconds: of this run.
        files: the output.
    """

    rows: int
    values: int
    errors: int
    resumed: int
    seconds: float
    files: tuple[Path, ...]


def extract_files(
    input: str | Path,
    schema_or_type: Any,
    output: str | Path,
    *,
    model: str | None = None,
    backend: str | None = None,
    api_key: str | None = None,
    grounded: bool = False,
    max_new_tokens: int | None = None,
    text_field: str = "text",
    id_field: str = "id",
    format: Format = "jsonl",
    batch_size: int = DEFAULT_BATCH_SIZE,
    workers: int = 1,
    ray: str | None = None,
    device: str = "cpu",
    dtype: str = "native",
    progress: Callable[[int, int], None] | None = None,
    extractor: MakeExtract | None = None,
) -> Summary:
    """Extracts from every document of a file or a folder, and goes on where it stopped.

    The output is a folder: ``rows.jsonl`` or ``rows.parquet`` with a row for each document in the order
    of the input, its value or why there is none; ``parts/`` with the rows as they are finished; and
    ``manifest.json``.  Called again with the same input, schema and settings after a crash, it goes on
    with the documents that have no row; workers, batches and formats may be others then.  Decoding is
    greedy.

    Args:
        input: ``.jsonl`` (an object a line), ``.parquet``, or a folder of text files.
        schema_or_type: a JSON Schema, or a type; with several processes one that can be imported there.
        output: a folder; made if there is none.
        model: an embedded model, a folder or a hub's name; with ``backend`` its name there.
        backend: the URL of an OpenAI-compatible server; ``batch_size`` requests a worker are under way.
        api_key: for the server; it is not written down.
        grounded, max_new_tokens: as :func:`extract_many` takes them.
        text_field: the field or column of the text.
        id_field: that of a document's name; where there is none, its number from 0 on.
        format: ``jsonl``, ``parquet``, or ``both``.
        batch_size: documents that a worker reads side by side, and that are kept together when done.
        workers: models side by side; with two or more, in processes of their own, so that a script
            that calls this needs ``if __name__ == "__main__":``.
        ray: ``local``, or the address of a Ray cluster whose actors the workers are.
        device: ``cpu``, or ``cuda``: a GPU for each worker.
        dtype: the torch type of a model that runs here.
        progress: called with the number of rows that are done, and that of all.
        extractor: makes what extracts, in each worker, in place of a model: the worker's number -> (texts ->
            :class:`Extraction` of each).  It is not part of what a run is known by.

    Returns:
        How many rows there are, with values and with errors.

    Raises:
        BulkError: for an input that cannot be read, a folder that has another run's rows, workers that end
            again and again, or a server that does not answer.  Finished rows are kept.
        GrammarError: if schema or type cannot be used.
        MissingExtra: if pyarrow (Parquet) or Ray is not installed.
        ModelUnavailable: if no model has this name.
        TypeError, ValueError: for arguments of other kinds.
    """
    begun = time.monotonic()
    check_count(workers, "workers")
    check_count(batch_size, "batch_size")
    if format not in FORMATS:
        raise ValueError(f"format={format!r} is none of {', '.join(FORMATS)}")
    source_path, folder = Path(input), Path(output)
    if source_path.is_dir() and folder.resolve().is_relative_to(source_path.resolve()):
        raise BulkError(f"{folder} is in {source_path}: its files would be read as documents")
    schema, wanted = checked_schema(schema_or_type, grounded)
    settings = Settings(
        wanted=wanted,
        model=model if backend is not None else model or DEFAULT_MODEL,
        backend=backend,
        grounded=bool(grounded),
        max_new_tokens=check_count(max_new_tokens, "max_new_tokens", optional=True),
        dtype=dtype,
        device=device,
        api_key=api_key,
    )
    source = source_of(source_path, text_field, id_field)
    total = source.count()
    manifest = {
        "input": {"kind": source.kind, "documents": total, "sha256": source.digest()},
        "schema": schema,
        "settings": _told(settings) | {"text_field": text_field, "id_field": id_field},
    }
    with opened(folder, manifest) as store:
        resumed = done = len(store)
        if progress is not None:
            progress(done, total)
        crew = _crew(extractor or settings, workers, ray, device != "cpu")
        documents = source.documents(lambda row: row not in store)
        for count in _kept(store, crew, batches(documents, batch_size)):
            done += count
            if progress is not None:
                progress(done, total)
        files, errors = store.finish(total, format)
    seconds = time.monotonic() - begun
    return Summary(total, total - errors, errors, resumed, seconds, tuple(files))


def _kept(
    store: Store, crew: contextlib.AbstractContextManager[Crew], given: Iterator[Any]
) -> Iterator[int]:
    """Writes rows as they are done; yields how many.  Without documents, no model is loaded."""
    first = next(given, None)
    if first is None:
        return
    with crew as workers:
        for rows in dispatched(workers, itertools.chain([first], given)):
            store.write(rows)
            yield len(rows)


@contextlib.contextmanager
def _crew(make: MakeExtract, workers: int, ray: str | None, gpu: bool) -> Iterator[Crew]:
    with contextlib.ExitStack() as stack:
        made: Crew
        if ray is not None:
            from samplers.bulk.ray_crew import RayCrew, cluster

            stack.enter_context(cluster(ray, workers))
            made = RayCrew(make, workers, gpu=gpu)
        else:
            made = Alone(make) if workers == 1 else Processes(make, workers)
        with contextlib.closing(made):
            yield made


def checked_schema(schema_or_type: Any, grounded: bool) -> tuple[Any, Any]:
    """The JSON Schema of what is wanted, and what workers are told of it.

    Raises:
        GrammarError: if schema or type cannot be used.
    """
    if isinstance(schema_or_type, str | bool | Mapping):
        text = schema_or_type if isinstance(schema_or_type, str) else json_of(schema_or_type)
        Grammar.from_json_schema(text, source="", grounded=grounded)
        return json.loads(text.removeprefix("\ufeff")), text
    from grammars.frontends.types import adapter_of

    Grammar.from_type(schema_or_type, validators="warn", source="", grounded=grounded)
    return adapter_of(schema_or_type).json_schema(), schema_or_type


def _told(settings: Settings) -> dict[str, Any]:
    """What the settings say of the rows, the schema apart."""
    names = ("model", "backend", "grounded", "max_new_tokens", "dtype")
    return {name: getattr(settings, name) for name in names}
