"""Notebooks run from top to bottom, in one namespace, and are kept without outputs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import gramma
from constrain.models import ModelUnavailable

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["cells"]
    return found


def run(path: Path) -> list[Any]:
    """Runs the cells of code as Jupyter does; the value of the last expression of each."""
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] != "code":
            continue
        where = f"{path.name}, cell {number}"
        tree = ast.parse("".join(cell["source"]), where)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, where, "exec", dont_inherit=True), names)
        if isinstance(last, ast.Expr):
            code = compile(ast.Expression(last.value), where, "eval", dont_inherit=True)
            shown.append(eval(code, names))
    return shown


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["aligned-samples", "extract", "write-a-grammar"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        gramma.load_model()
    except ModelUnavailable as error:
        pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    run(path)
    assert capsys.readouterr().out, "a notebook shows something"


def test_the_runner_shows_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    sources = ["x = 20", "x += 1\n2 * x", "assert x == 0"]
    code = [{"cell_type": "code", "source": source.splitlines(True)} for source in sources]
    path.write_text(json.dumps({"cells": code[:2]}))
    assert run(path) == [42]
    path.write_text(json.dumps({"cells": code}))
    with pytest.raises(AssertionError):
        run(path)
