"""The documentation as a site: every page is in its navigation, every link leads somewhere, it builds.

What needs mkdocs is skipped without the extra ``docs``; ``tests/test_docs.py`` runs the blocks of code.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from patience import PATIENCE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
PAGES = [*(ROOT / name for name in ROOT_PAGES), *sorted(DOCS.rglob("*.md"))]
PACKAGES = ("gramma", "grammars", "constrain", "samplers")
FENCED = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\]\(\s*([^)\s]+)(?:\s+\"[^\"]*\")?\s*\)")


def prose(page: Path) -> str:
    """A page without its blocks of code; lines keep their numbers."""

    def blank(found: re.Match[str]) -> str:
        return "\n" * found[0].count("\n")

    return FENCED.sub(blank, page.read_text("utf-8"))


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().replace("`", ""))
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.*)$", prose(page), re.MULTILINE):
        name = base = slug(heading)
        number = 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    found |= set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", prose(page)))
    return frozenset(found)


def links(page: Path) -> Iterator[str]:
    text = SPAN.sub(lambda found: "`" * len(found[0]), prose(page))
    for target in LINK.findall(text):
        if not re.match(r"[a-z]+:", target):
            yield target


class _Loader(yaml.SafeLoader):
    """Reads what names Python objects as if it said nothing."""


_LOADERS: Any = _Loader
_LOADERS.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def navigation() -> list[str]:
    """The pages that ``mkdocs.yml`` lists."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Loader)
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, str):
            found.append(node)
        for child in node.values() if isinstance(node, dict) else ():
            walk(child)
        for child in node if isinstance(node, list) else ():
            walk(child)

    walk(config["nav"])
    return found


def test_the_navigation_has_every_page_once() -> None:
    made = [*ROOT_PAGES.values(), *(f"api/{package}.md" for package in PACKAGES)]
    written = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(navigation()) == sorted([*made, *written])


def test_links_lead_somewhere() -> None:
    wrong = []
    for page in PAGES:
        for link in links(page):
            target, _, anchor = link.partition("#")
            file = (page.parent / target).resolve() if target else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert not wrong


def test_links_stay_within_the_site() -> None:
    """Only what lies in ``docs/``, and some pages of the root, is part of the site."""
    wrong = []
    for page in PAGES:
        for link in links(page):
            file = (page.parent / link.partition("#")[0]).resolve()
            root_page = file.parent == ROOT and file.name in ROOT_PAGES
            if not (file.is_relative_to(DOCS) or root_page or link.startswith("#")):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert not wrong


def test_the_check_of_links_sees_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b_c` (d/e), and f\n\n## Twice\n\n## Twice\n\n[x](y.md#z) `[no](no.md)`\n"
        '```\n# no\n[no](no.md)\n```\n![p](q.svg "title") [w](https://example.org)\n'
    )
    assert anchors(page) == {"a-b_c-de-and-f", "twice", "twice-1"}
    assert list(links(page)) == ["y.md#z", "q.svg"]


def test_lists_have_a_blank_line_before_them() -> None:
    """Without one the site shows a paragraph with asterisks; nested items are indented by four."""
    wrong = []
    for page in PAGES:
        before = ""
        for number, line in enumerate(prose(page).splitlines(), 1):
            item = re.match(r"( *)(?:[*+-]|\d+\.) ", line)
            place = f"{page.relative_to(ROOT)}:{number}: {line}"
            if item and len(item[1]) % 4:
                wrong.append(place)
            if item and not item[1] and before.strip() and not re.match(r"[*+-] |\d+\. | ", before):
                wrong.append(place)
            before = line
    assert not wrong


def test_the_picture_is_what_its_script_draws() -> None:
    script = runpy.run_path(str(ROOT / "examples/grounded_picture.py"))
    assert script["picture"]() == (DOCS / "grounded.svg").read_text("utf-8")


needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs"
)


@needs_mkdocs
def test_docstrings_become_markdown() -> None:
    plain = runpy.run_path(str(DOCS / "site.py"))["plain"]
    said = "See :func:`a.b`.\n\n====  =====\none   ``x``\n      more\ntwo   y\n====  =====\n\nEnd."
    assert plain(said) == (
        "See `a.b`.\n\n|  |  |\n| --- | --- |\n| one | `x` more |\n| two | y |\n\n\nEnd."
    )
    headed = "====  ====\na     b\n====  ====\n1     2|3\n====  ===="
    assert plain(headed) == "| a | b |\n| --- | --- |\n| 1 | 2\\|3 |\n"


@pytest.mark.slow
@needs_mkdocs
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "changelog/index.html", "api/grammars/index.html"):
        assert (tmp_path / page).is_file()
    reference = (tmp_path / "api/constrain/index.html").read_text("utf-8")
    for name in ("extract", "TokenAutomaton", "GrammarLogitsProcessor"):
        assert f'id="constrain.{name}"' in reference
    assert ":func:" not in reference
    assert ":class:" not in reference
