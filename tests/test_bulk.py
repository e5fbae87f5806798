"""Many documents: a row for each, none twice, in their order, whatever ends in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from fake_extractor import SCHEMA, Fake, value_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import wait_until
from test_servers import ADA, Script, message, script  # noqa: F401 - a fixture
from typer.testing import CliRunner

from grammars import GrammarError
from samplers import BulkError, Summary, extract_files
from samplers.bulk import extractors, store
from samplers.bulk.crews import Died, Done, Event, Ready
from samplers.bulk.dispatching import batches, dispatched
from samplers.bulk.documents import Document, source_of
from samplers.bulk.rows import Row, json_of
from samplers.cli import app

pyarrow: Final = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
TEXTS: Final = [f"{word} number {i}" for i, word in enumerate(["tea", "coffee", "é", "𝔘", ""] * 4)]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    (tmp_path / "notes").mkdir()
    return Fake(tmp_path / "notes")


def as_lines(path: Path, texts: Sequence[str | bytes]) -> Path:
    """A file of documents; bytes are lines as they are."""
    lines = [
        text if isinstance(text, bytes) else json.dumps({"id": f"n{i}", "text": text}).encode()
        for i, text in enumerate(texts)
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def as_folder(path: Path, texts: Sequence[str]) -> Path:
    path.mkdir()
    for i, text in enumerate(texts):
        inner = path / f"{i // 7}"
        inner.mkdir(exist_ok=True)
        (inner / f"{i:04}.txt").write_text(text, "utf-8")
    return path


def as_parquet(path: Path, texts: Sequence[str | None], kind: str = "string") -> Path:
    from pyarrow.parquet import write_table

    made = pyarrow.array(texts, getattr(pyarrow, kind)())
    write_table(pyarrow.table({"id": [f"n{i}" for i in range(len(texts))], "text": made}), path)
    return path


def run(source: Path, output: Path, fake: Fake, **options: Any) -> Summary:
    return extract_files(source, SCHEMA, output, extractor=fake, **options)


def rows(output: Path) -> list[dict[str, Any]]:
    lines = (output / "rows.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def untimed(output: Path) -> list[dict[str, Any]]:
    """Rows without what differs from run to run."""
    return [{**row, "seconds": 0} for row in rows(output)]


# --- input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "folder", "parquet"])
def test_a_row_for_each_document_in_their_order(kind: str, tmp_path: Path, fake: Fake) -> None:
    source = {"jsonl": as_lines, "folder": as_folder, "parquet": as_parquet}[kind](
        tmp_path / f"docs.{kind}", TEXTS
    )
    told: list[tuple[int, int]] = []
    found = run(source, tmp_path / "out", fake, batch_size=3, progress=lambda *at: told.append(at))
    assert (found.rows, found.values, found.errors, found.resumed) == (20, 20, 0, 0)
    assert found.files == (tmp_path / "out" / "rows.jsonl",)
    made = rows(tmp_path / "out")
    assert [row["value"] for row in made] == [value_of(text) for text in TEXTS]
    assert [row["row"] for row in made] == list(range(20))
    names = [f"{i // 7}/{i:04}.txt" if kind == "folder" else f"n{i}" for i in range(20)]
    assert [row["id"] for row in made] == names
    assert all(row["complete"] and row["error"] is None and row["tokens"] == 3 for row in made)
    assert told[0] == (0, 20)
    assert told[-1] == (20, 20)


def test_documents_that_cannot_be_read(tmp_path: Path, fake: Fake) -> None:
    lines = [
        "tea", b'{"text": 3}', b'{"text":', b"", b'{"id": 7, "body": "x"}', b'{"text": "\xff"}', b"[1]",
        b'{"text": "\\ud800"}', b'{"text": ' + b"[" * 100_000, b"1" * 5000, b'{"id": [1], "text": null}',
        "refused x",
        b"\xef\xbb\xbf" + b'{"text": "a\\u0000b"}', "raises x", "coffee",
    ]  # fmt: skip
    found = run(as_lines(tmp_path / "docs.jsonl", lines), tmp_path / "out", fake)
    made = rows(tmp_path / "out")
    told = {row["row"]: row["error"] for row in made if row["error"]}
    assert [row["row"] for row in made] == list(range(14))
    assert {n for n, row in enumerate(made) if row["complete"]} == {0, 11, 13}
    assert (found.values, found.errors) == (3, 11)
    assert told[1] == "line 2: 'text' is no text"
    assert told[2].startswith("line 3: no JSON, at column 9")
    assert told[3] == "line 5: no field 'text' (text_field); there are 'id', 'body'"
    assert made[3]["id"] == 7
    assert told[4] == "line 6: no UTF-8, from byte 10 of the line on"
    assert told[5].startswith("line 7: no JSON object")
    assert told[6] == "line 8: half of a surrogate pair at character 0"
    assert told[7].startswith("line 9: no JSON")
    assert told[8].startswith("line 10: no JSON")
    assert made[9]["id"] == "[1]"
    assert (told[10], told[12]) == ("ValueError: refused", "ValueError: the batch fails")


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    path = as_lines(tmp_path / "docs.jsonl", ["a", "b" * 200, "c"])
    for ending in (b"", b"\n"):
        path.write_bytes(path.read_bytes().rstrip(b"\n") + ending)
        found = list(source_of(path, "text", "id", largest=100).documents(lambda row: True))
        assert [one.text for one in found] == ["a", None, "c"]
        assert found[1].error is not None
        assert "larger than 100 bytes" in found[1].error
    assert source_of(path, "text", "id", largest=100).count() == 3


def test_files_that_cannot_be_read(tmp_path: Path, fake: Fake) -> None:
    folder = as_folder(tmp_path / "docs", ["tea", "coffee"])
    (folder / "bad.txt").write_bytes(b"ab\xff")
    (folder / "gone.txt").symlink_to(tmp_path / "absent")
    (folder / ".hidden").write_text("not read")
    (folder / os.fsdecode(b"name\xff.txt")).write_text("milk")
    run(folder, tmp_path / "out", fake)
    made = {row["id"]: row["error"] or row["value"]["first"] for row in rows(tmp_path / "out")}
    assert made == {
        "0/0000.txt": "tea",
        "0/0001.txt": "coffee",
        "bad.txt": "no UTF-8, from byte 2 on",
        "gone.txt": "no file of texts",
        "name\\xff.txt": "milk",
    }


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "dictionary"])
def test_kinds_of_columns(kind: str, tmp_path: Path, fake: Fake) -> None:
    from pyarrow.parquet import write_table

    texts = pyarrow.array(["tea", None, "tea", "coffee"])
    made = texts.dictionary_encode() if kind == "dictionary" else texts.cast(kind)
    write_table(pyarrow.table({"body": made}), tmp_path / "docs.parquet")
    run(tmp_path / "docs.parquet", tmp_path / "out", fake, text_field="body")
    assert [row["id"] for row in rows(tmp_path / "out")] == [0, 1, 2, 3]
    told = [row["error"] or row["value"]["first"] for row in rows(tmp_path / "out")]
    assert told == ["tea", "'body' is null", "tea", "coffee"]


def test_a_column_with_bytes_that_are_no_text(tmp_path: Path, fake: Fake) -> None:
    as_parquet(tmp_path / "docs.parquet", ["tea", b"\xff", None], "binary")  # type: ignore[list-item]
    assert run(tmp_path / "docs.parquet", tmp_path / "out", fake).errors == 2


def test_nothing_at_all(tmp_path: Path, fake: Fake) -> None:
    found = run(as_lines(tmp_path / "docs.jsonl", []), tmp_path / "out", fake, format="both")
    assert (found.rows, len(found.files)) == (0, 2)
    assert rows(tmp_path / "out") == []


def test_input_that_is_none(tmp_path: Path, fake: Fake) -> None:
    (tmp_path / "docs.csv").write_text("text\n")
    (tmp_path / "docs.parquet").write_text("text\n")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table({"text": [1, 2]}), tmp_path / "numbers.parquet")
    for name, words in (
        ("docs.csv", "give documents as .jsonl"),
        ("absent.jsonl", "no such file"),
        ("docs.parquet", "no Parquet file"),
        ("numbers.parquet", "has no texts, but int64"),
    ):
        with pytest.raises(BulkError, match=words):
            run(tmp_path / name, tmp_path / "out", fake)
    with pytest.raises(BulkError, match=r"no column 'body' .* there are text"):
        run(tmp_path / "numbers.parquet", tmp_path / "out", fake, text_field="body")
    with pytest.raises(BulkError, match="would be read as documents"):
        run(as_folder(tmp_path / "docs", ["a"]), tmp_path / "docs" / "out", fake)
    assert not (tmp_path / "out").exists()


def test_the_input_is_read_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    with path.open("w") as stream:
        for i in range(3000):
            stream.write(json.dumps({"text": f"{i} " + "x" * 10_000}) + "\n")
    source = source_of(path, "text", "id")
    tracemalloc.start()
    count = sum(1 for batch in batches(source.documents(lambda row: True), 8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 375
    assert peak < 2_000_000, "30 MB were read"


# --- output ---------------------------------------------------------------------------------------


def test_parquet_says_the_same(tmp_path: Path, fake: Fake) -> None:
    from pyarrow.parquet import read_table

    texts = [
        *TEXTS,
        "refused x",
        b'{"id": "\\ud800", "text": "a \\u00e9"}',
        b'{"id": 5, "text": "b"}',
    ]
    run(as_lines(tmp_path / "docs.jsonl", texts), tmp_path / "out", fake, format="both")
    table = read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    for one, other in zip(table, rows(tmp_path / "out"), strict=True):
        value = None if one["value"] is None else json.loads(one["value"])
        assert value == other["value"]
        for name in ("sources", "confidence"):
            assert json.loads(one[name]) == other[name]
        for name in ("row", "complete", "error", "seconds", "tokens"):
            assert one[name] == other[name]
    assert [row["id"] for row in table[-2:]] == ["\\ud800", "5"]
    assert [row["id"] for row in rows(tmp_path / "out")[-2:]] == ["\ud800", 5]
    assert os.stat(tmp_path / "out" / "rows.parquet").st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def test_json_of_any_value() -> None:
    for value in ("é", "\ud800", {"a": "\udc00é"}, [1.5, None]):
        text = json_of(value)
        assert text.encode()
        assert json.loads(text) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        Row(0, "a", float("inf"), complete=True).line()


def test_many_parts_are_put_together(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_TOGETHER", 4)
    run(as_lines(tmp_path / "docs.jsonl", TEXTS), tmp_path / "out", fake, batch_size=1)
    assert len(list((tmp_path / "out" / "parts").iterdir())) < 10
    assert [row["value"] for row in rows(tmp_path / "out")] == [value_of(text) for text in TEXTS]


# --- going on -------------------------------------------------------------------------------------


def test_it_goes_on_where_it_stopped(tmp_path: Path, fake: Fake) -> None:
    texts = [*TEXTS[:9], "stops here", *TEXTS[10:]]
    source, output = as_lines(tmp_path / "docs.jsonl", texts), tmp_path / "out"
    with pytest.raises(BulkError, match="it stops here"):
        run(source, output, fake, batch_size=4)
    assert not (output / "rows.jsonl").exists()
    found = run(source, output, fake, batch_size=3, format="both")
    assert (found.rows, found.resumed, found.errors) == (20, 8, 0)
    assert [row["value"] for row in rows(output)] == [value_of(text) for text in texts]
    assert [len(fake.readers(text)) for text in texts[:8]] == [1] * 8
    again = run(source, output, fake)
    assert (again.resumed, again.values) == (20, 20)
    assert [len(fake.readers(text)) for text in texts[10:]] == [1] * 10, "nothing is read again"


def test_another_run_is_told_apart(tmp_path: Path, fake: Fake) -> None:
    source, output = as_lines(tmp_path / "docs.jsonl", TEXTS), tmp_path / "out"
    run(source, output, fake)
    other = {**SCHEMA, "properties": dict(reversed(SCHEMA["properties"].items()))}
    with pytest.raises(
        BulkError, match=r"the schema has changed; to start anew give another folder"
    ):
        extract_files(source, other, output, extractor=fake)
    with pytest.raises(BulkError, match=r'"max_new_tokens": 9'):
        run(source, output, fake, max_new_tokens=9)
    moved = as_lines(tmp_path / "same.jsonl", TEXTS)
    assert run(moved, output, fake).resumed == 20, "what counts is the content"
    as_lines(source, [*TEXTS, "one more"])
    with pytest.raises(BulkError, match="the input has changed"):
        run(source, output, fake)
    (output / "manifest.json").write_text("{")
    with pytest.raises(BulkError, match="damaged"):
        run(source, output, fake)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(BulkError, match="files of something else"):
        run(source, tmp_path / "full", fake)
    assert [path.name for path in (tmp_path / "full").iterdir() if path.suffix] == ["thesis.tex"]


def test_two_runs_at_once(tmp_path: Path, fake: Fake) -> None:
    from filelock import FileLock

    source, output = as_lines(tmp_path / "docs.jsonl", TEXTS), tmp_path / "out"
    output.mkdir()
    with FileLock(output / ".lock"), pytest.raises(BulkError, match="another run is writing"):
        run(source, output, fake)
    assert run(source, output, fake).values == 20


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_wherever_it_crashes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that end at random places of reading and writing, then one that does not: all as at once."""
    folder = tmp_path_factory.mktemp("crash")
    (folder / "notes").mkdir()
    fake = Fake(folder / "notes")
    texts = data.draw(
        st.lists(st.sampled_from(["tea a", "refused b", "raises c", "é d"]), max_size=24)
    )
    texts = [f"{text} {i}" for i, text in enumerate(texts)]
    source = as_lines(folder / "docs.jsonl", texts)
    whole, output = folder / "whole", folder / "out"
    sizes = st.integers(1, 6)
    monkeypatch.setattr(store, "_TOGETHER", data.draw(st.integers(2, 5)))
    run(source, whole, fake, batch_size=data.draw(sizes))
    for _ in range(data.draw(st.integers(0, 4))):
        countdown = Countdown(data.draw(st.integers(1, 40)))
        with monkeypatch.context() as patch:
            countdown.put_into(patch)
            with contextlib.suppress(CrashError):
                run(source, output, fake, batch_size=data.draw(sizes))
        if (output / "rows.jsonl").exists():
            assert untimed(output) == untimed(whole), "it appears when it is whole"
        damage(output / "parts", data.draw(st.randoms(use_true_random=False)))
    run(source, output, fake, batch_size=data.draw(sizes))
    assert untimed(output) == untimed(whole)
    assert [row["row"] for row in rows(output)] == list(range(len(texts)))


def test_each_place_at_which_it_may_crash(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are put together on the way, and what is left of that is cleared away."""
    monkeypatch.setattr(store, "_TOGETHER", 2)
    source, whole = as_lines(tmp_path / "docs.jsonl", TEXTS[:11]), tmp_path / "whole"
    run(source, whole, fake)
    for steps in range(1, 500):
        output = tmp_path / f"out{steps}"
        countdown = Countdown(steps)
        with monkeypatch.context() as patch:
            countdown.put_into(patch)
            with contextlib.suppress(CrashError):
                run(source, output, fake, batch_size=1)
                break
        assert not (output / "rows.jsonl").exists() or untimed(output) == untimed(whole)
        run(source, output, fake, batch_size=2)
        assert untimed(output) == untimed(whole)
    assert steps > 60


FSYNC: Final = os.fsync


class CrashError(BaseException):
    """The process ends here."""


class Countdown:
    """Ends a run at one of the places at which it touches the disk."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def put_into(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "open")):
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, real: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                if real is FSYNC:  # what was written is not all on disk
                    os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                raise CrashError
            if self._left < 0 and "missing_ok" in options:  # a killed process does not clean up
                return None
            return real(*arguments, **options)

        return counted


def damage(parts: Path, rng: random.Random) -> None:
    """Now and then cuts off the last part, as a machine that loses its power may."""
    there = sorted(parts.iterdir()) if parts.exists() else []
    if there and rng.random() < 0.3:
        data = there[-1].read_bytes()
        there[-1].write_bytes(data[: rng.randrange(len(data) + 1)])


CHILD: Final = """
import sys
from pathlib import Path
from fake_extractor import SCHEMA, Fake
from samplers import extract_files

if __name__ == "__main__":
    source, output, notes, workers = sys.argv[1:]
    options = {"extractor": Fake(Path(notes), 0.1), "batch_size": 2, "workers": int(workers)}
    extract_files(source, SCHEMA, output, **options)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_is_killed(workers: int, tmp_path: Path, fake: Fake) -> None:
    program = tmp_path / "child.py"
    program.write_text(CHILD)
    source, output = as_lines(tmp_path / "docs.jsonl", TEXTS), tmp_path / "out"
    command = [sys.executable, program, source, output, fake.folder, workers]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(list(map(str, command)), env={**os.environ, "PYTHONPATH": paths})
    parts = output / "parts"

    def two_parts() -> bool:
        assert child.poll() is None
        return parts.exists() and len(list(parts.glob("rows-*"))) >= 2

    wait_until(two_parts)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (output / "rows.jsonl").exists()
    found = run(source, output, fake)
    assert 4 <= found.resumed < 20
    assert [row["value"] for row in rows(output)] == [value_of(text) for text in TEXTS]
    others = {pid for text in TEXTS for pid in fake.readers(text)} - {str(os.getpid())}
    # workers end with the process that began them
    wait_until(lambda: not any(_lives(int(pid)) for pid in others))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- workers --------------------------------------------------------------------------------------


def test_workers_that_end_in_the_middle(tmp_path: Path, fake: Fake) -> None:
    """One text that kills once, one that kills whoever reads it; the others have their values."""
    texts = [*TEXTS, "die 1 once", "tea", "die 99 always", "coffee"]
    source, output = as_lines(tmp_path / "docs.jsonl", texts), tmp_path / "out"
    found = run(source, output, fake, workers=2, batch_size=4)
    assert (found.rows, found.errors) == (24, 1)
    made = rows(output)
    assert [row["row"] for row in made] == list(range(24))
    assert made[22]["error"].startswith("WorkerDied: 3 workers ended while they had this document")
    assert [row["value"] for n, row in enumerate(made) if n != 22] == [
        value_of(text) for n, text in enumerate(texts) if n != 22
    ]
    readers = {pid for text in texts for pid in fake.readers(text)}
    assert len(set(fake.readers(texts[22]))) == 2, "and once it was behind the other one in a batch"
    assert len(readers) >= 3
    assert str(os.getpid()) not in readers


@pytest.mark.slow
def test_workers_that_cannot_begin(tmp_path: Path, fake: Fake) -> None:
    source = as_lines(tmp_path / "docs.jsonl", TEXTS)
    with pytest.raises(BulkError, match=r"workers end while they load the model: .* status 9"):
        run(source, tmp_path / "out", Fake(fake.folder, dies_loading=True), workers=2)
    with pytest.raises(BulkError, match="cannot go on: ModelUnavailable: 'no/such model'"):
        extract_files(source, SCHEMA, tmp_path / "out2", model="no/such model", workers=2)


class Shaky:
    """A crew without processes, whose workers end at random, always at some documents."""

    def __init__(self, workers: int, rng: random.Random, deadly: set[int]) -> None:
        self._rng, self._deadly = rng, deadly
        self._events: deque[tuple[int, Event]] = deque((n, Ready()) for n in range(workers))
        self.most = self._under_way = 0
        self.deaths: dict[int, int] = {}

    def give(self, worker: int, documents: Sequence[Document]) -> None:
        self._under_way += len(documents)
        self.most = max(self.most, self._under_way)
        event: Event
        if self._rng.random() < 0.1 or any(one.row in self._deadly for one in documents):
            event = Died("by chance")
            for one in documents:
                self.deaths[one.row] = self.deaths.get(one.row, 0) + 1
        else:
            event = Done([Row(one.row, one.id, complete=True) for one in documents])
        self._events.append((worker, event))
        if isinstance(event, Died):
            self._events.append((worker, Ready()))

    def next(self) -> tuple[int, Event]:
        self._rng.shuffle(self._events)  # type: ignore[arg-type]
        worker, event = self._events[0]
        if isinstance(event, Ready):  # not before the death that it follows
            for at, (other, earlier) in enumerate(self._events):
                if other == worker and isinstance(earlier, Died):
                    self._events.rotate(-at)
                    break
        worker, event = self._events.popleft()
        return worker, event

    def close(self) -> None: ...


@given(
    total=st.integers(1, 60),
    workers=st.integers(1, 4),
    size=st.integers(1, 9),
    deadly=st.sets(st.integers(0, 59), max_size=3),
    seed=st.integers(0, 1000),
    gaps=st.sets(st.integers(0, 59), max_size=9),
)
def test_none_is_lost_and_none_is_doubled(
    total: int, workers: int, size: int, deadly: set[int], seed: int, gaps: set[int]
) -> None:
    wanted = [row for row in range(total) if row not in gaps]
    read: list[int] = []

    def documents() -> Iterator[Document]:
        for row in wanted:
            read.append(row)
            yield Document(row, row, "text")

    crew = Shaky(workers, random.Random(seed), deadly)
    found: list[Row] = []
    for some in dispatched(crew, batches(documents(), size)):
        assert [one.row for one in some] == list(range(some[0].row, some[-1].row + 1))
        found += some
        assert len(read) <= len(found) + (workers + 1) * size + 1, (
            "no more are read than are under way"
        )
    assert sorted(one.row for one in found) == wanted
    failed = {one.row for one in found if not one.complete}
    assert failed >= deadly & set(wanted)
    assert all(crew.deaths[row] == 3 for row in failed)


@pytest.mark.slow
def test_ray(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two actors on a cluster of this machine: one is killed, one text kills whoever reads it."""
    pytest.importorskip("ray", reason="ray is not installed")
    here = [str(Path(__file__).parent), *sys.path]  # actors find the extractor where we do
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, here)))
    texts = [*(f"tea {i}" for i in range(30)), "die 1 once", "die 99 always"]
    source, output = as_lines(tmp_path / "docs.jsonl", texts), tmp_path / "out"
    found = run(source, output, fake, ray="local", workers=2, batch_size=3, format="both")
    assert (found.rows, found.values, found.errors) == (32, 31, 1)
    made = rows(output)
    assert [row["row"] for row in made] == list(range(32))
    assert made[31]["error"].startswith("WorkerDied: 3 workers ended")
    assert [row["value"] for row in made[:31]] == [value_of(text) for text in texts[:31]]
    assert str(os.getpid()) not in {pid for text in texts for pid in fake.readers(text)}
    again = run(source, output, fake, workers=2)
    assert again.resumed == 32, "what Ray has done, processes go on with"


# --- servers --------------------------------------------------------------------------------------

PERSON: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def test_a_server(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(extractors, "_PAUSES", (0.0, 0.0))
    source = as_lines(tmp_path / "docs.jsonl", ["Ada is 36.", "too long", "Ada, 36"])
    options: dict[str, Any] = {"backend": script.url, "model": "m", "batch_size": 1, "api_key": "k"}
    script.answers[:] = [(503, {}), ADA, (400, {"error": {"message": "too many tokens"}}), ADA]
    found = extract_files(source, PERSON, tmp_path / "out", **options)
    assert (found.values, found.errors) == (2, 1)
    made = rows(tmp_path / "out")
    assert "too many tokens" in made[1]["error"]
    assert made[0]["value"] == {"name": "Ada", "age": 36}
    assert '"k"' not in (tmp_path / "out" / "manifest.json").read_text()
    script.answers[:] = [ADA, *[(503, {})] * 9]
    with pytest.raises(BulkError, match="does not answer any more"):
        extract_files(source, PERSON, tmp_path / "out2", **options)
    script.answers[:] = [ADA, ADA]
    assert extract_files(source, PERSON, tmp_path / "out2", **options).resumed == 1


def test_empty_answers_of_a_server(script: Script, tmp_path: Path) -> None:  # noqa: F811
    source = as_lines(tmp_path / "docs.jsonl", ["Ada is 36.", "?", "Ada, 36"])
    options: dict[str, Any] = {"backend": script.url, "model": "m", "batch_size": 1}
    script.answers[:] = [message(None), message(None, "length"), ADA]
    found = extract_files(source, PERSON, tmp_path / "out", **options)
    assert (found.values, found.errors) == (1, 2)
    told = [row["error"] for row in rows(tmp_path / "out")]
    assert "no content" in told[0]
    assert "cut off" in told[1]


# --- arguments and the command --------------------------------------------------------------------


def test_arguments(tmp_path: Path, fake: Fake) -> None:
    source = as_lines(tmp_path / "docs.jsonl", TEXTS)
    for options, words in (
        ({"workers": 0}, "workers=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"format": "csv"}, "jsonl, parquet, both"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
    ):
        with pytest.raises(ValueError, match=words):
            run(source, tmp_path / "out", fake, **options)  # type: ignore[arg-type]
    with pytest.raises(GrammarError, match="type"):
        extract_files(source, {"type": "objekt"}, tmp_path / "out", extractor=fake)
    assert not (tmp_path / "out").exists()
    assert set(get_args(store.Format)) == set(store.FORMATS)


def test_a_type(tmp_path: Path, fake: Fake) -> None:
    source = as_lines(tmp_path / "docs.jsonl", TEXTS)
    assert (
        extract_files(source, dict[str, int | str], tmp_path / "out", extractor=fake).values == 20
    )


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["extract", *map(str, arguments)])


def test_what_the_command_refuses(tmp_path: Path) -> None:
    schema = tmp_path / "s.json"
    schema.write_text(json.dumps(SCHEMA))
    source = as_lines(tmp_path / "docs.jsonl", ["a"])
    for arguments, words in (
        ([], "which text?"),
        (["--input", source], "--input needs --output"),
        (["--workers", "2", source], "--workers: only with --input"),
        (
            ["--input", source, "--output", "o", "--temperature", "1", "--show"],
            "--temperature, --show",
        ),
        (["--input", source, "--output", "o", "--formats", "annotate"], "--formats"),
        (["--input", tmp_path / "absent.jsonl", "--output", tmp_path / "o"], "no such file"),
    ):
        result = command("-s", schema, *arguments)  # type: ignore[arg-type]
        assert result.exit_code == 2, result.output
        assert words in result.stderr
    schema.write_text('{"type": "objekt"}')
    result = command("-s", schema, "--input", source, "--output", tmp_path / "o")
    assert result.exit_code == 2
    assert "s.json: " in result.stderr


@pytest.mark.model
def test_the_command(tmp_path: Path) -> None:
    from constrain.models import ModelUnavailable, fetch_model

    try:
        fetch_model()
    except ModelUnavailable as error:
        pytest.skip(str(error))
    schema = tmp_path / "s.json"
    kinds = {"kind": {"enum": ["water", "power"]}, "place": {"type": "string"}}
    schema.write_text(
        json.dumps({"type": "object", "properties": kinds, "required": ["kind", "place"]})
    )
    texts: list[str | bytes] = [
        f"The {kind} will be off in {place}."
        for kind, place in (("water", "Mill Lane"), ("power", "Weir Road"), ("water", "Tan Court"))
    ]
    source = as_lines(tmp_path / "docs.jsonl", texts)
    options = ["-s", schema, "--grounded", "--max-new-tokens", "30", "--format", "both"]
    result = command(*options, "--input", source, "--output", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["values"] == 3
    made = rows(tmp_path / "out")
    for row, text in zip(made, texts, strict=True):
        begin, end = row["sources"]["/place"]
        assert row["value"]["place"] == text[begin:end]
        assert 0 < row["confidence"]["/place"] <= 1
        assert 0 < row["tokens"] <= 30
    as_lines(source, [*texts, b"no JSON"])
    result = command(*options, "--input", source, "--output", tmp_path / "out2")
    assert result.exit_code == 1
    assert "4 rows, 3 with a value, 1 with an error" in result.stderr
    assert untimed(tmp_path / "out2")[:3] == untimed(tmp_path / "out")


def test_summaries_are_plain() -> None:
    assert asdict(Summary(1, 1, 0, 0, 0.5, (Path("a"),)))["files"] == (Path("a"),)
