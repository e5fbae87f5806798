"""The Dockerfile copies what is there, and all that the package is made of."""

from __future__ import annotations

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]


def copied() -> list[str]:
    """What the image gets of the repository."""
    lines = re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE)
    words = [[word for word in shlex.split(line) if not word.startswith("--")] for line in lines]
    return [source for line in words for source in line[:-1]]


def is_sent(path: str) -> bool:
    """Whether a file reaches the build: the last line of .dockerignore that says something of it counts."""
    sent = True
    for line in IGNORED:
        pattern = line.removeprefix("!").removeprefix("**/")
        if fnmatch(path, pattern) or path.startswith(f"{pattern}/"):
            sent = line.startswith("!")
    return sent


def test_what_is_copied_is_there_and_is_sent() -> None:
    sources = copied()
    assert len(sources) > 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent(source), source
    assert not is_sent(".venv")
    assert not is_sent("tests/test_docker.py")
    assert not is_sent("constrain/engine/kernels.pool-1.py311.nbi")


def test_all_packages_are_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= set(copied())
    extras = re.search(r"^ARG EXTRAS=(\w+)$", DOCKERFILE, re.MULTILINE)
    assert extras is not None
    assert extras[1] in project["project"]["optional-dependencies"]


def test_it_runs_as_a_user_without_rights() -> None:
    users = re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] != "root"
    assert DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nENTRYPOINT ")
