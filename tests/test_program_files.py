"""Compiled programs on disk."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar, program_files
from grammars.limits import Limits
from grammars.program import Program

SCHEMA: dict[str, Any] = {
    "properties": {
        "names": {"type": "array", "items": {"enum": ["ab", "cd"]}, "uniqueItems": True},
        "size": {"type": "integer"},
    }
}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GRAMMA_CACHE", str(tmp_path))
    monkeypatch.delenv(program_files.SWITCH, raising=False)
    monkeypatch.setattr(program_files, "LEAST_STATES", 1)
    return tmp_path / "programs"


def check_equal(a: Program, b: Program) -> None:
    for field in fields(Program):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            assert x.shape == y.shape
            assert np.array_equal(x, y)
        else:
            assert x == y
            assert type(x) is type(y)


@pytest.mark.parametrize("order", ["schema", "any"])
def test_a_program_is_read_as_it_was_written(folder: Path, order: Any) -> None:
    made = Grammar.from_json_schema(SCHEMA, property_order=order)
    assert len(list(folder.iterdir())) == 1
    read = Grammar.from_json_schema(SCHEMA, property_order=order)
    check_equal(made.program, read.program)
    assert not hasattr(read, "_ir")  # the front end is not needed for masks
    text = b'{"names": ["ab"], "size": 3}'
    TokenAutomaton(
        read, Vocabulary.from_tokens([*(bytes([b]) for b in range(256)), b"<eos>"], [256])
    )
    assert not hasattr(read, "_ir")
    assert read.accepts(text)
    assert not read.accepts(b'{"names": ["ab", "ab"]}')
    assert read.explain(b'{"size": x}').offset == made.explain(b'{"size": x}').offset
    assert read == made
    assert read.ir == made.ir
    assert hash(read) == hash(made)
    assert read.sample(3) == made.sample(3)


def test_gbnf_and_regexes_are_kept(folder: Path) -> None:
    for _ in range(2):
        assert Grammar.from_gbnf('root ::= "a" root | "b"').accepts(b"aab")
        assert Grammar.from_regex("a+b").accepts(b"aab")
    assert len(list(folder.iterdir())) == 2


def test_what_is_different_has_another_name() -> None:
    sources = [
        {"a": 1},
        {"a": True},
        {"a": 1.0},
        {"a": "1"},
        {1: 1},
        {"1": 1},
        {"a": [1]},
        {"a": (1,)},
    ]
    keys = [program_files.key_of("json schema", source, Limits()) for source in sources]
    keys.append(program_files.key_of("regex", sources[0], Limits()))
    keys.append(program_files.key_of("json schema", sources[0], Limits(max_items=7)))
    assert len(set(keys)) == len(keys)
    assert None not in keys


def test_sources_with_other_objects_are_not_kept(folder: Path) -> None:
    class Text(str):
        pass

    assert program_files.key_of("json schema", {"const": Text("a")}, Limits()) is None
    assert Grammar.from_json_schema({"const": Text("a")}).accepts(b'"a"')
    assert not folder.exists()


def test_a_source_that_changes_later_does_not_change_the_grammar() -> None:
    schema = {"enum": ["a"]}
    Grammar.from_json_schema(schema)
    read = Grammar.from_json_schema(schema)
    schema["enum"].append("b")
    assert not Grammar(read.ir).accepts(b'"b"')
    assert Grammar(read.ir).accepts(b'"a"')
    assert Grammar.from_json_schema(schema).accepts(b'"b"')


@pytest.mark.parametrize("at", [0, 20, 30, 200, -1])
def test_a_damaged_file_is_written_again(folder: Path, at: int) -> None:
    made = Grammar.from_json_schema(SCHEMA)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 0x55
    for data in (bytes(damaged), whole[:at], b""):
        path.write_bytes(data)
        check_equal(Grammar.from_json_schema(SCHEMA).program, made.program)
        assert path.read_bytes() == whole


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv(program_files.SWITCH, "off")
    Grammar.from_json_schema(SCHEMA)
    assert not folder.exists()


def test_small_programs_are_not_kept(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(program_files, "LEAST_STATES", 10_000)
    Grammar.from_json_schema(SCHEMA)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("GRAMMA_CACHE", str(blocked))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert Grammar.from_json_schema(SCHEMA).accepts(b"1")
    assert [str(w.message) for w in caught if "cannot be written" in str(w.message)][1:] == []


def test_the_oldest_go(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(program_files, "MOST_BYTES", 20_000)
    monkeypatch.setattr(program_files, "_SWEEP_EVERY", 1)
    for i in range(12):
        Grammar.from_json_schema({"enum": [f"text {i}"]})
    assert 0 < sum(path.stat().st_size for path in folder.iterdir()) <= 20_000
