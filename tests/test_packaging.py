"""What is installed: the core without models, its version, and what the source distribution holds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from patience import PATIENCE

import gramma

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "accelerate", "gguf", "tiktoken"}


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@cache
def core_modules() -> frozenset[str]:
    """Top-level modules of what ``pip install gramma`` brings, without any extra."""
    todo = [name_of(requirement) for requirement in PROJECT["dependencies"]]
    wanted: set[str] = set()
    while todo:
        name = todo.pop()
        if name in wanted:
            continue
        wanted.add(name)
        try:
            parts = requires(name) or []
        except PackageNotFoundError:  # for another platform
            continue
        todo += [name_of(part) for part in parts if "extra ==" not in part]
    return frozenset(
        module
        for module, distributions in packages_distributions().items()
        if {name_of(distribution) for distribution in distributions} & wanted
    )


BARE = """
import sys
import sysconfig
CORE = set({core!r}) | set(sys.stdlib_module_names)
CORE |= {{"gramma", "grammars", "constrain", "samplers"}}

class Bare:
    "Hides what is installed besides the core."
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in CORE and not name.startswith("_"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Bare())
sys.path.insert(0, {root!r})
"""


def run_bare(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Python code where only the core is installed."""
    source = BARE.format(core=sorted(core_modules()), root=str(ROOT)) + code
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


# -- the core --------------------------------------------------------------------------------------


def test_the_core_has_no_heavy_parts() -> None:
    assert not HEAVY & core_modules()
    extra = {name_of(requirement) for requirement in PROJECT["optional-dependencies"]["hf"]}
    assert extra == HEAVY - {"tiktoken"}
    development = " ".join(PROJECT["optional-dependencies"]["dev"])
    assert "gramma[hf,tiktoken,docs,serve,bulk,ray]" in development


def test_grammars_and_automata_without_models() -> None:
    """Grammars of every kind, masks on numpy arrays, states: what a server in front needs."""
    done = run_bare(
        """
import numpy as np
import gramma, grammars, constrain, samplers, samplers.cli
from gramma import Grammar, TokenAutomaton, Vocabulary

made = [
    Grammar.from_regex("[ab]+"), Grammar.from_choices(["a", "b"]),
    Grammar.from_gbnf('root ::= "a" root | "b"'), Grammar.from_lark("start: /[ab]/+"),
    Grammar.from_json_schema({"enum": [{"a": 1}]}), Grammar.from_type(list[int]),
    Grammar.free_text({"#": Grammar.from_regex("a")}),
]
tokens = [bytes([b]) for b in range(256)] + [b"ab", None]
vocabulary = Vocabulary.from_tokens(tokens, [257])
for grammar in made:
    text = grammar.sample(1)
    assert grammar.explain(text).accepted
    automaton = TokenAutomaton(grammar, vocabulary)
    row = np.zeros(-(-258 // 32), np.int32)
    state = automaton.start
    for byte in text:
        automaton.fill_mask(state, row)
        assert row[byte // 32] >> byte % 32 & 1
        state = automaton.advance(state, byte)
    assert automaton.is_accepting(state) and automaton.min_tokens_to_accept(state) == 0
print("held", gramma.__version__)
"""
    )
    assert done.stdout == f"held {version('gramma')}\n", done.stderr


def test_every_name_loads_or_names_the_extra() -> None:
    done = run_bare(
        """
import json
import os
import constrain, gramma, grammars, samplers
told = {}
for package in (grammars, constrain, samplers, gramma):
    for name in package.__all__:
        try:
            getattr(package, name)
            told[package.__name__ + "." + name] = None
        except constrain.MissingExtra as error:
            told[package.__name__ + "." + name] = str(error)
print(json.dumps(told))
"""
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, str | None] = json.loads(done.stdout)
    missing = {name: said for name, said in told.items() if said is not None}
    for name, said in missing.items():
        assert "pip install 'gramma[hf]'" in said, said
        if not name.startswith("gramma."):
            assert said.startswith(f"{name} needs ")
    core = {"TokenAutomaton", "Vocabulary", "fill_masks", "Limits", "MissingExtra", "load_model"}
    core |= {"GrammarError", "LimitExceeded", "BudgetError"}
    assert {name for name in told if name not in missing} >= {
        *(f"constrain.{name}" for name in core),
        *(name for name in told if name.startswith("grammars.")),
        *(f"gramma.{name}" for name in (*core, "Grammar", "__version__")),
    }
    assert {"constrain.GrammarLogitsProcessor", "samplers.extract", "gramma.extract"} <= set(
        missing
    )


def test_the_command_without_models(tmp_path: Path) -> None:
    (tmp_path / "yes.regex").write_text("yes|no")
    (tmp_path / "text.txt").write_text("yes")
    (tmp_path / "a.json").write_text('{"enum": [1]}')
    done = run_bare(
        """
import json
import os
from typer.testing import CliRunner
from samplers.cli import app
folder = sys.argv[1]
told = []
for line in (
    "--version", "check yes.regex text.txt", "check a.json", "explain yes.regex -t maybe",
    "sample yes.regex --seed 1", "generate hello -g yes.regex", "extract -s a.json text.txt",
    "trace yes.regex text.txt", "model list", "model fetch --force",
):
    words = [f"{folder}/{w}" if "." in w else w for w in line.split()]
    result = CliRunner().invoke(app, words)
    told.append([line, result.exit_code, result.stdout, result.stderr])
print(json.dumps(told))
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    told = {line: (status, out, err) for line, status, out, err in json.loads(done.stdout)}
    assert told["--version"][:2] == (0, f"gramma {version('gramma')}\n")
    assert told["check yes.regex text.txt"] == (0, "accepted\n", "")
    assert told["check a.json"][0] == 0
    assert told["explain yes.regex -t maybe"][0] == 1
    assert told["sample yes.regex --seed 1"][1] in ("yes\n", "no\n")
    assert told["model list"][0] == 0
    for line in (
        "generate hello -g yes.regex",
        "extract -s a.json text.txt",
        "trace yes.regex text.txt",
        "model fetch --force",
    ):
        status, out, err = told[line]
        assert (status, out) == (2, ""), line
        assert "gramma[hf]" in err, line


def test_checking_loads_little(tmp_path: Path) -> None:
    """A grammar that is checked in a loop waits for none of these."""
    (tmp_path / "yes.gbnf").write_text('root ::= "yes"')
    done = run_bare(
        """
from typer.testing import CliRunner
from samplers.cli import app
assert CliRunner().invoke(app, ["check", sys.argv[1]]).exit_code == 0
print({"numba", "llvmlite", "lark", "torch", "transformers"} & set(sys.modules))
""",
        tmp_path / "yes.gbnf",
    )
    assert done.stdout == "set()\n", done.stderr


# -- the names -------------------------------------------------------------------------------------


def test_every_name_is_there() -> None:
    import constrain
    import grammars
    import samplers

    assert gramma.__version__ == version("gramma") == PROJECT["version"]
    for name in gramma.__all__:
        value = getattr(gramma, name)
        assert name == "__version__" or value is not None
        assert name in dir(gramma)
    assert gramma.Grammar is grammars.Grammar
    assert gramma.TokenAutomaton is constrain.TokenAutomaton
    assert gramma.extract is samplers.extract, "the one with drafts, as the command"
    with pytest.raises(AttributeError, match="nonsense"):
        gramma.nonsense  # noqa: B018


def test_python_m_gramma() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gramma", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
        cwd=ROOT,
    )
    assert done.stdout == f"gramma {version('gramma')}\n"


# -- distributions ---------------------------------------------------------------------------------

FOLDERS = [
    *("gramma", "grammars", "constrain", "samplers"),
    *("docs", "examples", "tests", "benchmarks", ".ci"),
]
FILES = [
    *("pyproject.toml", "constraints.txt", "Makefile", "MANIFEST.in", "mkdocs.yml"),
    *("Dockerfile", ".dockerignore"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"),
]
IGNORED = ("__pycache__", "*.nbi", "*.nbc", ".*_cache", ".hypothesis")
BUILD = "import sys; from setuptools import build_meta as b; print(b.{hook}(sys.argv[1]))"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, as a fresh clone has them."""
    # not imported here: it would take over distutils
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("needs setuptools 77")
    copied = tmp_path_factory.mktemp("source") / "gramma"
    copied.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns(*IGNORED))
    for name in FILES:
        shutil.copy(ROOT / name, copied)
    return copied


def build(hook: str, source: Path, into: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD.format(hook=hook), str(into)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return into / done.stdout.splitlines()[-1]


def test_the_source_distribution_holds_everything(copied: Path, tmp_path: Path) -> None:
    wanted = {p.relative_to(copied).as_posix() for p in copied.rglob("*") if p.is_file()}
    assert {"docs/engine.md", "tests/oracle.py", "grammars/library/c.gbnf"} <= wanted
    with tarfile.open(build("build_sdist", copied, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if "/" in name}
    assert wanted - names == set()
    assert not [name for name in names if name.endswith((".pyc", ".nbi", ".nbc"))]


def test_the_wheel_asks_for_the_core_only(copied: Path, tmp_path: Path) -> None:
    folder = build("prepare_metadata_for_build_wheel", copied, tmp_path)
    lines = (folder / "METADATA").read_text().splitlines()
    asked = [line.removeprefix("Requires-Dist: ") for line in lines if "Requires-Dist" in line]
    assert not HEAVY & {name_of(x) for x in asked if "extra ==" not in x}
    assert {name_of(x) for x in asked if "extra == 'hf'" in x.replace('"', "'")} >= {"torch"}
    top = (folder / "top_level.txt").read_text().split()
    assert sorted(top) == ["constrain", "gramma", "grammars", "samplers"]


def test_what_runs_elsewhere_names_what_is_there() -> None:
    """The jobs of ``.github/workflows`` (which are not part of a distribution)."""
    path = ROOT / ".github/workflows/ci.yml"
    if not path.exists():
        pytest.skip("no clone")
    text = path.read_text("utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert {"tests", "lint", "docs", "package"} <= set(jobs)
    for job in jobs.values():
        assert job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    named = re.findall(r"\b(?:tests|examples)/[\w./]+", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
    for target in re.findall(r"run: make (\w+)", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lowest = re.search(r"transformers>=([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert lowest is not None
    assert f'"=={lowest[1]}.' in text, "the lower end of the range"


# -- the wheel, in an environment of its own -------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("build_wheel", copied, tmp_path_factory.mktemp("wheel"))


def elsewhere() -> dict[str, str]:
    """The environment without paths that lead to these sources."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MYPYPATH")}


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel; what it depends on is taken from this one."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=PATIENCE
    )
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    install = [*pip, "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=PATIENCE, cwd=folder, env=elsewhere())
    here = sysconfig.get_path("purelib")
    there = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout.strip()
    # only now: pip must not take what is installed here for what is there
    (Path(there) / "dependencies.pth").write_text(here + "\n")
    return python


def run_fresh(python: Path, *words: str | Path, into: Path) -> str:
    done = subprocess.run(
        [python, *words],
        cwd=into,  # where no sources are
        env=elsewhere(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_what_the_packages_have(copied: Path, wheel: Path) -> None:
    packages = ("gramma", "grammars", "constrain", "samplers")
    wanted = {
        path.relative_to(copied).as_posix()
        for name in packages
        for path in (copied / name).rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.partition("/")[0] in packages}
    assert names == wanted
    assert {f"{name}/py.typed" for name in packages} <= names


@pytest.mark.slow
def test_the_source_distribution_makes_the_same_wheel(
    copied: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(build("build_sdist", copied, tmp_path)) as archive:
        archive.extractall(tmp_path / "sdist", filter="data")
    (source,) = (tmp_path / "sdist").iterdir()
    (tmp_path / "wheel").mkdir()
    again = build("build_wheel", source, tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert {
            i.filename: i.CRC for i in first.infolist() if not i.filename.endswith("RECORD")
        } == {i.filename: i.CRC for i in second.infolist() if not i.filename.endswith("RECORD")}


@pytest.mark.slow
def test_the_wheel_works_where_no_sources_are(fresh: Path, tmp_path: Path) -> None:
    found = run_fresh(fresh, "-c", "import gramma; print(gramma.__file__)", into=tmp_path)
    assert Path(found.strip()).is_relative_to(fresh.parent.parent)
    assert version("gramma") in run_fresh(fresh, "-m", "gramma", "--version", into=tmp_path)
    (tmp_path / "a.schema.json").write_text('{"type": "integer", "minimum": 3, "maximum": 5}')
    script = fresh.parent / "gramma"
    assert run_fresh(fresh, script, "check", "a.schema.json", "--text", "4", into=tmp_path) == (
        "accepted\n"
    )
    assert int(run_fresh(fresh, script, "sample", "a.schema.json", into=tmp_path)) in (3, 4, 5)
    code = "from gramma import Grammar; print(Grammar.from_library('semver').accepts('1.2.3'))"
    assert run_fresh(fresh, "-c", code, into=tmp_path) == "True\n", "files of the library"


TYPING = """
[mypy]
strict = true
[mypy-torch.*,transformers.*,numba.*,llvmlite.*,tiktoken.*,gguf.*,rich.*,typer.*]
follow_imports = skip
"""


@pytest.mark.slow
def test_type_checkers_read_the_wheel(fresh: Path, tmp_path: Path) -> None:
    """``py.typed`` is there, and public names have the types that ``typing_samples.py`` says."""
    (tmp_path / "mypy.ini").write_text(TYPING)
    shutil.copy(ROOT / "tests" / "typing_samples.py", tmp_path / "samples.py")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", fresh, "samples.py"],
        cwd=tmp_path,
        env=elsewhere(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.startswith("Success"), done.stdout + done.stderr
