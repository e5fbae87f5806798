"""Hands batches to workers; a worker that ends in the middle loses no document and doubles none."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from samplers.bulk.crews import Crew, Died, Done, Failed, Ready
from samplers.bulk.documents import Document
from samplers.bulk.errors import BulkError
from samplers.bulk.rows import Row

MOST_DEATHS: Final = 3
"""Workers that end while they have a document until it is given up, or while they load a model."""


@dataclass(frozen=True)
class Batch:
    """Documents that follow each other.

    Attributes:
        documents: one or more.
        deaths: workers that ended while they had them.
    """

    documents: Sequence[Document]
    deaths: int = 0

    def after_death(self) -> list[Batch]:
        """The same again, one by one: it may be one of them that is the reason."""
        return [Batch([one], self.deaths + 1) for one in self.documents]


def batches(documents: Iterable[Document], size: int) -> Iterator[Batch]:
    """Documents in batches, within which row follows row."""
    found: list[Document] = []
    for one in documents:
        if found and (len(found) == size or one.row != found[-1].row + 1):
            yield Batch(found)
            found = []
        found.append(one)
    if found:
        yield Batch(found)


def dispatched(crew: Crew, given: Iterator[Batch]) -> Iterator[list[Row]]:
    """The rows of each batch as they are done, in any order.

    A batch is read when a worker is free, so there are never more of them than workers, and those of workers
    that ended.  What a worker had when it ended is given to others, document by document; one that was
    there when three of them ended becomes a row that says so.

    Args:
        crew: the workers; not closed here.
        given: the batches, at least one.

    Raises:
        BulkError: if workers cannot load their model.
    """
    under_way: dict[int, Batch] = {}
    again: deque[Batch] = deque()
    idle: list[int] = []
    lost = 0
    while True:
        while idle and (batch := again.popleft() if again else next(given, None)) is not None:
            worker = idle.pop()
            under_way[worker] = batch
            crew.give(worker, batch.documents)
        if idle and not under_way:
            return
        worker, event = crew.next()
        match event:
            case Ready():
                idle.append(worker)
                lost = 0
            case Done(rows):
                del under_way[worker]
                idle.append(worker)
                yield rows
            case Failed(message):
                raise BulkError(f"a worker cannot go on: {message}")
            case Died(reason) if worker in under_way:
                for one in under_way.pop(worker).after_death():
                    if one.deaths < MOST_DEATHS:
                        again.append(one)
                    else:
                        yield [_given_up(one.documents[0], reason)]
            case Died(reason):
                lost += 1
                if lost >= MOST_DEATHS:
                    raise BulkError(
                        f"workers end while they load the model: {reason} (-9: perhaps memory was short; "
                        "take fewer workers)"
                    )


def _given_up(document: Document, reason: str) -> Row:
    why = (
        f"WorkerDied: {MOST_DEATHS} workers ended while they had this document; the last: {reason}"
    )
    return Row(document.row, document.id, error=why)
