"""What ``mkdocs.yml`` needs besides plugins: pages that are made, and roles in docstrings.

``README.md``, ``CHANGELOG.md``, ``CONTRIBUTING.md`` and ``SECURITY.md`` stand in the root, where people look
for them, and are pages of the site too.  The pages of the API reference name what ``__all__`` of each
package lists; mkdocstrings fills in signatures and docstrings without importing anything.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from griffe import Extension
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
PACKAGES = ("gramma", "grammars", "constrain", "samplers")
TABLE_ROW = re.compile(r"^\|.*$", re.MULTILINE)
CODE = re.compile(r"`[^`]*`")
TABLE = re.compile(
    r"^( *)(=+(?: +=+)+)\n(?:(?!\n).*\n)*?\1\2(?:\n(?:.+\n)*?\1\2)?(?=\n\s*\n|\n?\Z)", re.MULTILINE
)
ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):`~?([^`]+)`")


def moved(text: str) -> str:
    """Text of a page in the root with the links of a page in ``docs``."""
    text = re.sub(r"(\]\(|src=\")docs/", r"\1", text)
    for name, page in PAGES.items():
        text = re.sub(rf"\]\({re.escape(name)}(#[^)]*)?\)", rf"]({page}\1)", text)
    return text


def exports(package: str) -> dict[str, str]:
    """The public names of a package, each with the package that defines it."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))
    homes: dict[str, str] = {}
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            homes |= {alias.name: node.module.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
    return {name: homes.get(name, package) for name in sorted(names, key=str.casefold)}


def defined_in(name: str, package: str) -> str:
    """The package under which a name has its entry: that which defines it, if it exports it."""
    home = exports(package)[name]
    return defined_in(name, home) if home != package and name in exports(home) else package


def reference(package: str) -> str:
    """The page of a package."""
    lines = [
        f"# {package}",
        "",
        f"::: {package}",
        "    options: {members: false, heading_level: 6, ",
    ]
    lines[-1] += "show_root_heading: false, show_root_toc_entry: false}"
    others = {name: defined_in(name, package) for name in exports(package)}
    links = [
        f"[`{name}`]({home}.md#{home}.{name})" for name, home in others.items() if home != package
    ]
    if links:
        lines += ["", "From other packages: " + ", ".join(links) + "."]
    for name, home in others.items():
        if home == package and not name.startswith("__"):
            lines += ["", f"::: {package}.{name}"]
    return "\n".join(lines) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made."""
    made = {page: moved((ROOT / name).read_text("utf-8")) for name, page in PAGES.items()}
    made |= {f"api/{package}.md": reference(package) for package in PACKAGES}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads links to pages of the root to where the site has them; shows ``|`` in tables as GitHub does."""
    up = "../" * page.file.src_uri.count("/")
    for name, made in PAGES.items():
        markdown = markdown.replace(f"]({up}../{name}", f"]({up}{made}")
    return TABLE_ROW.sub(
        lambda row: CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), markdown
    )


def table(found: re.Match[str]) -> str:
    """A simple table of reStructuredText as one of Markdown."""
    indent, rule, *_ = found.groups()
    columns = [(column.start(), column.end()) for column in re.finditer("=+", rule)]
    ends = [*(start for start, _ in columns[1:]), None]
    rows: list[list[str]] = []
    lines = found[0].removesuffix("\n").splitlines()
    headed = sum(set(line.strip()) <= {"=", " "} and "=" in line for line in lines) == 3
    for line in (line[len(indent) :] for line in lines):
        cells = [line[start:end].strip() for (start, _), end in zip(columns, ends, strict=True)]
        if set(line) <= {"=", " "}:
            continue
        if rows and not cells[0]:
            rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    if not headed:
        rows.insert(0, [""] * len(columns))
    rows.insert(1, ["---"] * len(columns))
    shown = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "".join(f"{indent}{row}\n" for row in shown)


def plain(docstring: str) -> str:
    """Sphinx's roles, double backquotes and tables as Markdown."""
    return ROLE.sub(r"`\1`", TABLE.sub(table, docstring)).replace("``", "`")


class Roles(Extension):
    """Rewrites docstrings before they are read."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if not obj.is_alias and obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
