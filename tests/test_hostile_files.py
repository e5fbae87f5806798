"""Files of tensors and saved grammars from strangers, damaged or made up: see ``hostile_files.py``."""

from __future__ import annotations

import copy
import errno
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hostile_files
import pytest
import torch
import toys
from hostile import cpu_limit
from hostile_files import DOORS, door
from patience import PATIENCE
from safetensors.torch import load, save

from constrain.models import ModelRefused, load_model
from grammars import Grammar, GrammarError
from samplers import tensor_files
from samplers.drafters.learned import PPD, Chimera, HiddenTransfer
from samplers.drafters.learned.chimera import ChimeraNetwork
from samplers.drafters.learned.files import Base, write_file
from samplers.drafters.learned.hidden_transfer import Transfers
from samplers.drafters.learned.short_output import load_draft
from samplers.tensor_files import AtMost, TensorFileError, read_tensors, write_tensors

HERE = Path(__file__).parent


# --- random damage, and what is made up -----------------------------------------------------------


@pytest.mark.slow
def test_random_files() -> None:
    """Every door, with 1.5 GB of address space beside what a process has and 5 s for a case."""
    done = subprocess.run(
        [sys.executable, "hostile_files.py", "--cases", "240", "--seed", "7"],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode in (0, 1), done.stderr[-2_000:]
    found = json.loads(done.stdout)
    assert found["failures"] == {}
    counts = found["counts"]
    assert counts.keys() == {"damaged refused", "damaged same", "made up refused", "made up used"}
    assert sum(counts.values()) == 240
    assert found["grown_mib"] < 300


@pytest.mark.parametrize("name", ["hmm", "answers"])
def test_every_byte_counts(name: str) -> None:
    """One bit of each byte, all of a file: refused, or the same."""
    seed = door(name).seed
    outcomes = set()
    for at in range(len(seed)):
        data = bytearray(seed)
        data[at] ^= 1 << at % 8
        outcomes.add(hostile_files.run_case(f"{name}/damaged\n{data.decode('latin-1')}"))
    assert outcomes <= {"refused", "same"}


@pytest.mark.parametrize("name", DOORS)
def test_files_of_earlier_versions_are_read(name: str) -> None:
    """They have no checksum."""
    seed = door(name).seed
    length = int.from_bytes(seed[:8], "little")
    header = json.loads(seed[8 : 8 + length])["__metadata__"]
    del header["checksum"]
    data = save(load(seed), header)
    assert hostile_files.run_case(f"{name}/damaged\n{data.decode('latin-1')}") == "same"


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**60, 2**63, 2**64 - 1])
def test_lengths_of_headers(length: int) -> None:
    for name in DOORS:
        data = length.to_bytes(8, "little") + door(name).seed[8:]
        assert hostile_files.run_case(f"{name}/damaged\n{data.decode('latin-1')}") == "refused"


def test_what_is_no_file(tmp_path: Path) -> None:
    for name in DOORS:
        with pytest.raises(FileNotFoundError):
            door(name).load(tmp_path / "nothing")
        if name != "answers":  # it reads folders, too
            with pytest.raises(ValueError, match="it is no file"):
                door(name).load(tmp_path)


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, "kind", {"x": torch.ones(3)}, {"about": "{}"})
    before = path.read_bytes()

    def half(tensors: Any, file: Path, metadata: Any) -> None:
        file.write_bytes(before[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", half)
    with pytest.raises(OSError, match="No space"):
        write_tensors(path, "kind", {"x": torch.zeros(3)}, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_was_read_does_not_depend_on_the_file(tmp_path: Path) -> None:
    """A file that is cut off under a map of it ends the process that reads on."""
    path = tmp_path / "a.safetensors"
    tensor = torch.arange(100_000)
    write_tensors(path, "kind", {"x": tensor}, {})
    found, _ = read_tensors(path, "kind", "numbers", ())
    with path.open("r+b") as stream:
        stream.truncate(0)
    assert torch.equal(found["x"], tensor)


def test_kinds_and_entries(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, "kind", {"x": torch.ones(())}, {"about": "1"})
    with pytest.raises(TensorFileError, match=r"does not hold numbers of this kind \(other\)"):
        read_tensors(path, "other", "numbers", ("about",))
    with pytest.raises(TensorFileError, match="an entry 'about'"):
        read_tensors(path, "kind", "numbers", ())
    assert read_tensors(path, "kind", "numbers", ("about",))[1] == {"about": "1"}
    write_tensors(path, "kind", {"x": torch.ones(2, dtype=torch.complex64)}, {})
    with pytest.raises(TensorFileError, match=r"x is of torch\.complex64"):
        read_tensors(path, "kind", "numbers", ())


# --- networks of a size that a file names ---------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("count", 10**4, "larger than the weights"),
        ("count", 10**9, "larger than the weights"),
        ("inner", 10**12, "larger than the weights"),
        ("groups", -1, None),
        ("heads", 10**400, None),
        ("heads", 0.5, None),
        ("ids", [1], None),
        ("model", None, None),
    ],
)
def test_options_that_ask_for_more(
    tmp_path: Path, option: str, value: Any, says: str | None
) -> None:
    network = ChimeraNetwork(toys.model(), None, count=2)
    path = tmp_path / "a.safetensors"
    options = {**network.options, option: value}
    write_file(path, Chimera.kind, network.base, network.state_dict(), options)
    with cpu_limit(5), pytest.raises(TensorFileError, match=says):
        Chimera.load(path, toys.model())


@pytest.mark.parametrize("value", [0.5, "1", [1], {}, 1e300])
def test_options_of_other_types(tmp_path: Path, value: Any) -> None:
    """What is between two layers is no layer."""
    path = tmp_path / "drafter.safetensors"
    network = Transfers(toys.model(), None, count=2)
    for option in network.options:
        options = {**network.options, option: value}
        write_file(path, HiddenTransfer.kind, network.base, network.state_dict(), options)
        with pytest.raises(TensorFileError, match=option):
            HiddenTransfer.load(path, toys.model())


def test_companions_beyond_measure(tmp_path: Path) -> None:
    network = PPD.networks(toys.model(), None, count=2)
    for option, value in (("most", 10**9), ("most", 1e9), ("count", True), ("strands", 10**12)):
        options = {**network.options, option: value}
        path = tmp_path / "a.safetensors"
        write_file(path, PPD.kind, network.base, network.state_dict(), options)
        with cpu_limit(5), pytest.raises(TensorFileError):
            PPD.load(path, toys.model())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e6])
def test_weights_that_are_none(tmp_path: Path, value: float) -> None:
    network = ChimeraNetwork(toys.model(), None, count=2)
    weights = {name: w.clone() for name, w in network.state_dict().items()}
    weights["far.weight"][3, 3] = value
    path = tmp_path / "a.safetensors"
    write_file(path, Chimera.kind, Base.of(toys.model()), weights, network.options)
    with pytest.raises(TensorFileError, match=r"far\.weight is not finite, or too large"):
        Chimera.load(path, toys.model())


def test_numbers_are_counted() -> None:
    with AtMost(100):
        torch.zeros(50)
        torch.nn.Linear(6, 5)
        with pytest.raises(ValueError, match="larger"):
            torch.empty((4, 5))
    with AtMost(9), pytest.raises(ValueError, match="larger"):
        torch.randint(3, (10,))
    torch.zeros(1_000)


# --- saved grammars -------------------------------------------------------------------------------


def _saved(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = tmp_path / "a.gramma"
    Grammar.from_json_schema({"type": "array", "items": {"enum": [1, "ab"]}}).save(path)
    data = json.loads(path.read_text("utf-8"))
    del data["checksum"]
    change(data)
    path.write_text(json.dumps(data), "utf-8")
    return path


CRAFTED: dict[str, Callable[[dict[str, Any]], object]] = {
    "a repeat without end": lambda d: d["nodes"].append(["repeat", 0, 10**400, 10**400]),
    "repeats of repeats": lambda d: d["nodes"].extend(
        ["repeat", len(d["nodes"]) + i - (i > 0), 10**9, 10**9] for i in range(50)
    ),
    "a node of itself": lambda d: d["nodes"].insert(0, ["seq", [0]]),
    "a later node": lambda d: d["nodes"].insert(0, ["seq", [5]]),
    "a node before all": lambda d: d["nodes"].append(["seq", [-1]]),
    "half a node": lambda d: d["nodes"].append(["seq", [0.5]]),
    "no number": lambda d: d["nodes"].append(["repeat", 0, math.nan, None]),
    "a limit that is none": lambda d: d["limits"].update(max_states=math.inf),
    "a limit below 0": lambda d: d["limits"].update(max_states=-5),
    "a machine in a machine": lambda d: d["nodes"].append(["machine", "[" * 100_000, [1]]),
    "a machine of many states": lambda d: d["nodes"].append(
        ["machine", "[[[0,255,99999999]]]", [1]]
    ),
    "a bag of bags": lambda d: d["nodes"].append(["bag", [["bag", 0, 1, None]], 0, 1, None, False]),
    "marked by itself, deep": lambda d: d.update(marked=_deep(900)),
    "no rules": lambda d: d.update(rules=[]),
    "a rule twice": lambda d: d["rules"].append(d["rules"][0]),
    "another start": lambda d: d.update(start="nowhere"),
}


def _deep(levels: int) -> Any:
    made: Any = None
    for _ in range(levels):
        made = {"marked": made}
    return made


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_grammars(name: str, tmp_path: Path) -> None:
    path = _saved(tmp_path, CRAFTED[name])
    with cpu_limit(5), suppress(GrammarError):
        found = Grammar.load(path)
        assert found.accepts('[1, "ab"]'), "a node that nothing uses"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "", "null", "NaN"]
)
def test_texts_that_are_no_grammars(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gramma"
    path.write_text(text)
    with cpu_limit(5), pytest.raises(GrammarError, match="not a saved grammar"):
        Grammar.load(path)


# --- folders of models ----------------------------------------------------------------------------


class _Marks:
    """Writes a file as it is read, as a pickle may."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self._path)!r}, 'w')",)


def _folder(tmp_path: Path, mark: Path, kind: str) -> Path:
    folder = tmp_path / "model"
    toys.model().save_pretrained(folder)
    weights = folder / "model.safetensors"
    config = json.loads((folder / "config.json").read_text())
    if kind == "pickled weights":
        weights.unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Marks(mark)))
    elif kind == "weights of torch":
        weights.unlink()
        torch.save(toys.model().state_dict(), folder / "pytorch_model.bin")
    elif kind == "code of its own":
        (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass A: pass\n")
        config |= {"model_type": "own", "auto_map": {}}
        for door in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"):
            config["auto_map"][door] = "own.A"
    elif kind == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "no JSON":
        (folder / "config.json").write_text("[" * 100_000)
        return folder
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "kind", ["pickled weights", "weights of torch", "code of its own", "cut", "no JSON"]
)
def test_folders_of_models(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pickle is read, no code runs, and nobody is asked on standard input."""

    def asked(*_: object) -> str:
        raise AssertionError("standard input was read")

    monkeypatch.setattr("builtins.input", asked)
    mark = tmp_path / "mark"
    folder = _folder(tmp_path, mark, kind)
    with pytest.raises(ModelRefused, match="safetensors alone, and code"):
        load_model(str(folder))
    with pytest.raises(ModelRefused, match="safetensors alone, and code"):
        load_draft(folder)
    assert not mark.exists()


def test_a_folder_that_is_whole(tmp_path: Path) -> None:
    folder = _folder(tmp_path, tmp_path / "mark", "whole")
    loaded = load_draft(folder)
    plain = copy.deepcopy(toys.model()).state_dict()
    assert all(torch.equal(w, plain[name]) for name, w in loaded.state_dict().items())
