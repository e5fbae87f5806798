"""Every block of code in README.md and docs/ runs as it is printed.

Blocks of Python of one page run in order and in one namespace, in an empty folder; a block of text right
behind one is what it prints.  Unmarked blocks
are commands, or grammars of Lark; of the commands those run that are cheap, the options of the others
are read.  A page goes into this test by being there.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from one_thread import one_thread  # noqa: F401 - a fixture
from typer.main import get_command
from typer.testing import CliRunner

import constrain
import constrain.models
import gramma
from constrain.models import ModelUnavailable
from grammars import Grammar
from samplers.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r"\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TRAINING = "examples/train_mask_diffusion.py"
LONG = {"extract", "play", "serve"}  # as long as the blocks that call it in Python; until Ctrl-C


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Blocks of a language with the number of lines before each."""
    text = page.read_text("utf-8")
    return [
        (text.count("\n", 0, found.start(3)), found[3])
        for found in FENCE.finditer(text)
        if found[2].strip() == language
    ]


def printed_after(page: Path, block: str) -> str | None:
    """The block of text right behind a block of Python, if there is one."""
    text = page.read_text("utf-8")
    found = OUTPUT.match(
        text, text.index(f"```python\n{block}```\n") + len(f"```python\n{block}```\n")
    )
    return None if found is None else found[1]


def pages() -> Iterator[Any]:
    for page in PAGES:
        code = "".join(block for _, block in blocks(page, "python"))
        if code:
            marks = [pytest.mark.model] if "load_model" in code else []
            yield pytest.param(page, id=page.name, marks=marks)


_load_once = cache(constrain.models.load_model)


def load_once(name: str = constrain.models.DEFAULT_MODEL, dtype: str = "bfloat16") -> Any:
    """What ``load_model`` gives, made once for all pages, in numbers that this machine computes in."""
    try:
        return _load_once(name, "native" if dtype == "bfloat16" else dtype)
    except ModelUnavailable as error:
        pytest.skip(str(error))


def commands() -> list[tuple[str, list[str]]]:
    """The words of every command line on a page; a backslash at its end joins lines."""
    found = []
    for page in PAGES:
        for language in ("", "sh", "bash", "console"):
            for _, block in blocks(page, language):
                lines = block.replace("\\\n", " ").splitlines()
                found += [(page.name, shlex.split(line, comments=True)) for line in lines]
    return [(name, words) for name, words in found if words]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the printed training command writes, after three steps instead of minutes."""
    (words,) = {tuple(words) for _, words in commands() if TRAINING in words}
    folder: Path = tmp_path_factory.mktemp("trained")
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import train_mask_diffusion as training
    finally:
        sys.path.remove(str(ROOT / "examples"))
    arguments = list(words[words.index(TRAINING) + 1 :])
    into = arguments.index("--out") + 1
    arguments[into] = str(folder / arguments[into])
    small = ["--steps", "3", "--prompts", "1", "--layers", "1", "--hidden", "48"]
    training.main([*arguments, *small])
    return folder


@pytest.mark.parametrize("page", list(pages()))
def test_python(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = blocks(page, "python")
    if any("json-model" in block for _, block in found):
        for made in request.getfixturevalue("trained").iterdir():
            (tmp_path / made.name).symlink_to(made)
    monkeypatch.setattr(constrain.models, "load_model", load_once)
    monkeypatch.setattr(constrain, "load_model", load_once)
    monkeypatch.setattr(gramma, "load_model", load_once)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for line, block in found:
        # the lines of the page, so that a traceback shows where it is
        capsys.readouterr()
        exec(compile("\n" * line + block, str(page), "exec", dont_inherit=True), names)
        wanted = printed_after(page, block)
        if wanted is not None:
            assert capsys.readouterr().out.rstrip() == wanted.rstrip(), f"{page}:{line}"


def test_printed_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na\n```\n\n```text\n1\n2\n```\n\n```python\nb\n```\n\nIt prints:\n\n```text\n3\n```\n"
    )
    assert [printed_after(page, block) for _, block in blocks(page, "python")] == ["1\n2\n", None]
    held = {p.name: [printed_after(p, block) for _, block in blocks(p, "python")] for p in PAGES}
    assert len([text for text in held["architecture.md"] if text is not None]) == 6


def test_fences_are_pairs() -> None:
    """A block that is never closed would not be run."""
    for page in PAGES:
        fences = re.findall(r"^ *```.*$", page.read_text("utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(FENCE.findall(page.read_text("utf-8"))), page
        known = {"```", "```python", "```sh", "```json", "```toml", "```text"}
        assert set(fences[::2]) <= known, page


@pytest.mark.model
def test_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that begin with ``gramma``: they hold, or say that something does not."""
    monkeypatch.setattr(constrain.models, "load_model", load_once)
    monkeypatch.chdir(ROOT)
    load_once()
    ran = 0
    for page, (program, *words) in commands():
        if program != "gramma":
            continue
        ran += 1
        if words[0] in LONG:
            group: Any = get_command(app)
            group.commands[words[0]].make_context(words[0], words[1:])
            continue
        result = CliRunner().invoke(app, words)
        wrong = "--text" in words  # a text that is to be explained
        assert result.exit_code in ((0, 1) if wrong else (0,)), (page, words, result.output)
    assert ran >= 7


def test_other_commands_name_files_that_are_there() -> None:
    for page, words in commands():
        if words[0] in ("python", ".venv/bin/python") and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), (page, words)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_grammars_of_lark() -> None:
    found = [block for page in PAGES for _, block in blocks(page, "") if block.startswith("start:")]
    assert found
    for block in found:
        grammar = Grammar.from_lark(block)
        assert grammar.accepts(grammar.sample(1))


def test_files_that_pages_name_are_there() -> None:
    """Links within the repository, and files in code spans."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), (page.name, target)
        for path in re.findall(r"`((?:examples|benchmarks|tests|docs)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), (page.name, path)
