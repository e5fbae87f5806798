"""What lies in the cache folder: whose it may be, and what becomes of damage."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE
from test_models import GGUF, MODEL, cache, index

from constrain import models
from constrain.cache import load_arrays, save_arrays
from constrain.models import checksums, conversion
from constrain.vocabulary.trie import Trie, _from_arrays
from grammars import Grammar, cache_folder, program_files

__all__ = ["cache", "index"]  # fixtures
TEXTS = [bytes([i]) for i in range(256)] + [b"ab", b"abc", b"b%d" % 7, "é".encode()]
posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners and modes")


@pytest.fixture(autouse=True)
def _told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings that are given once for a process are given once for each test."""
    monkeypatch.setattr(cache_folder, "_warned", set())


# --- whose a folder is ----------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    ("mode", "owner", "says"),
    [
        (0o755, None, None),
        (0o775, None, None),  # a group that shares a machine
        (0o777, None, "can be written by everybody"),
        (0o1777, None, "can be written by everybody"),
        (0o755, 12345, "belongs to another user"),
    ],
)
def test_whose_a_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int | None, says: str | None
) -> None:
    folder = tmp_path / "trie"
    folder.mkdir()
    folder.chmod(mode)
    if owner is not None:  # as root nobody else's folder is at hand, so that we are somebody else
        monkeypatch.setattr(os, "getuid", lambda: owner)
        whole = Path.stat

        def of_another(path: Path, **options: Any) -> os.stat_result:
            found = list(whole(path, **options))
            found[4] = owner + 1
            return os.stat_result(found)

        monkeypatch.setattr(Path, "stat", of_another)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert cache_folder.is_trusted(folder) == (says is None)
        assert cache_folder.is_trusted(folder) == (says is None)
        if owner is not None:
            assert cache_folder.is_trusted(folder, owned=False)
    assert len(seen) == (says is not None), "said once"
    if says is not None:
        assert says in str(seen[0].message)
        assert cache_folder.ENVIRONMENT_VARIABLE in str(seen[0].message)


@posix
def test_arrays_of_everybody_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "trie" / "a.npz"
    assert save_arrays(path, {"a": np.arange(3)})
    path.parent.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="written by everybody"):
        assert load_arrays(path) is None
    assert not save_arrays(path, {"a": np.arange(4)})
    path.parent.chmod(0o755)
    found = load_arrays(path)
    assert found is not None
    assert len(found["a"]) == 3, "nothing was written meanwhile"


@posix
def test_programs_of_everybody_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAMMA_CACHE", str(tmp_path))
    monkeypatch.delenv(program_files.SWITCH, raising=False)
    monkeypatch.setattr(program_files, "LEAST_STATES", 1)
    schema = {"enum": ["a", "b"]}
    Grammar.from_json_schema(schema)
    folder = tmp_path / "programs"
    (file,) = folder.iterdir()
    file.write_bytes(b"not for us")
    folder.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="written by everybody"):
        grammar = Grammar.from_json_schema(schema)
    assert grammar.accepts(b'"a"')
    assert file.read_bytes() == b"not for us"


@posix
def test_a_model_that_everybody_may_change_is_refused(index: list[str]) -> None:
    folder = models.fetch_model(MODEL)
    folder.chmod(0o777)
    with pytest.warns(RuntimeWarning), pytest.raises(PermissionError, match="chmod o-w"):
        models.fetch_model(MODEL)
    folder.chmod(0o755)
    assert models.fetch_model(MODEL) == folder
    assert len(index) == 1


# --- damage ---------------------------------------------------------------------------------------


def test_a_damaged_model_is_converted_again(
    index: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a bit is flipped, and whichever file is cut."""
    weights = random.Random(0).randbytes(999)

    def convert(gguf: Path, made: Path) -> None:
        assert gguf.read_bytes() == GGUF
        (made / "config.json").write_text("{}")
        (made / "model.safetensors").write_bytes(weights)
        (made / "tokenizer.json").write_text("{}")

    monkeypatch.setattr(conversion, "convert", convert)
    folder = models.fetch_model(MODEL)
    r = random.Random(1)
    for fetched in range(2, 12):
        data = bytearray(weights)
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        (folder / "model.safetensors").write_bytes(data)
        with pytest.warns(RuntimeWarning, match="damaged; it is fetched and converted again"):
            models.fetch_model(MODEL)
        assert (folder / "model.safetensors").read_bytes() == weights
        assert len(index) == fetched
        cache_folder._warned.clear()
    (folder / "checksums.json").write_text("{")
    with pytest.warns(RuntimeWarning, match="damaged"):
        models.fetch_model(MODEL)
    models.fetch_model(MODEL)
    assert len(index) == 12


def test_a_model_without_checksums_is_sealed(index: list[str]) -> None:
    """One that an earlier version converted is not fetched again."""
    folder = models.fetch_model(MODEL)
    (folder / checksums.NAME).unlink()
    models.fetch_model(MODEL)
    assert set(json.loads((folder / checksums.NAME).read_text())) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert len(index) == 1


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from([field.name for field in fields(Trie)]),
    at=st.integers(0, 10**6),
    value=st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 300),
)
def test_arrays_that_lead_out_of_the_trie(name: str, at: int, value: int) -> None:
    """A trie with one number changed is refused, or every walk over it stays within its arrays."""
    trie = Trie.build(TEXTS)
    arrays = {field.name: np.array(getattr(trie, field.name)) for field in fields(Trie)}
    changed = arrays[name]
    info = np.iinfo(changed.dtype)
    changed[at % len(changed)] = min(max(value, int(info.min)), int(info.max))
    made = _from_arrays(arrays, len(TEXTS))
    if made is not None:
        _walk(made)


def _walk(trie: Trie) -> None:
    """Visits all nodes and tokens as kernels do, with the depths as places of a stack."""
    node, end = 0, trie.node_count
    stack = np.zeros(trie.max_depth + 1, np.int64)
    jumps = 0
    for node in range(end):
        depth = int(trie.depth[node])
        assert node == 0 or depth >= 1
        stack[depth] = stack[max(depth - 1, 0)] + int(trie.byte[node])
        assert node < trie.skip[node] <= end
        assert 0 <= trie.suffix_class[node] <= end
        for token in trie.tokens[trie.token_start[node] : trie.token_start[node + 1]].tolist():
            assert 0 <= token < len(TEXTS)
    node = 0
    while node < end:  # by skips alone
        node, jumps = int(trie.skip[node]) if jumps else node + 1, jumps + 1
        assert jumps <= end


PROGRAM = """
import hashlib, sys
from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar
tokens = [bytes([i]) for i in range(256)] + [b"ab%d" % i for i in range(4000)] + [b"</s>"]
automaton = TokenAutomaton(Grammar.from_regex("[a-z]{3,9}[0-9]*"), Vocabulary(tokens, [4256]))
print(hashlib.sha256(automaton.mask(automaton.start).tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_a_start_with_a_damaged_cache(tmp_path: Path) -> None:
    """Another process has the same masks, says so once, and leaves the file as it should be."""
    environment = os.environ | {"GRAMMA_CACHE": str(tmp_path)}

    def started() -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return done.stdout, done.stderr

    wanted, _ = started()
    (file,) = (tmp_path / "trie").glob("*.npz")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", bytes(100)):
        file.write_bytes(damaged)
        found, said = started()
        assert found == wanted
        assert said.count("RuntimeWarning") == 1
        assert file.read_bytes() == whole
