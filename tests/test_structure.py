"""How modules may know each other: no private names of others, no circles of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("grammars", "constrain", "samplers", "gramma")
FILES: Final = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

PUBLIC_ALL_THE_SAME: Final = {
    *("sys._getframe", "sys._current_frames", "out._getvalue"),
    *("request._true_initial_tokens", "model._get_logits_processor"),
    "torch.ops.mkldnn._is_mkldnn_bf16_supported",
}
"""Documented functions of the standard library, and of Numba's for extensions, whose names begin so; the
only way into transformers' continuous batching, and to ask torch what the processor computes in."""
OF_NAMED_TUPLES: Final = {"_replace", "_asdict", "_fields", "_make"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES: Final = {name_of(path) for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def is_ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES


def may_import(importer: str, module: str) -> bool:
    """A private module may be imported where it lies, and below."""
    parts = module.split(".")
    folders = (".".join(parts[:i]) for i, part in enumerate(parts) if is_private(part))
    return all(f"{importer}.".startswith(f"{folder}.") for folder in folders)


def private_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wanted = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in wanted:
            if f"{module}.{name}" in MODULES:
                module, name = f"{module}.{name}", ""
            if is_ours(module) and (is_private(name) or not may_import(name_of(path), module)):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {module} {name}"


def defined_in(tree: ast.Module) -> set[str]:
    """Names that a module defines: functions, classes, variables, and attributes that it sets."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__slots__" for t in node.targets
        ):
            found |= set(ast.literal_eval(node.value))
    return found


def private_reads(path: Path) -> Iterator[str]:
    """Attributes of other objects that no line of the module defines."""
    tree = tree_of(path)
    own = defined_in(tree) | OF_NAMED_TUPLES
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not is_private(node.attr) or node.attr in own:
            continue
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            continue
        if ast.unparse(node) not in PUBLIC_ALL_THE_SAME:
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"


def imports_of(path: Path) -> set[str]:
    """Modules of ours that a module imports, late ones too; those for type checkers alone left out."""
    found: set[str] = set()
    stack: list[ast.AST] = [tree_of(path)]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            stack.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES) or {module}
        stack.extend(ast.iter_child_nodes(node))
    return {module for module in found if module in MODULES}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some modules that import each other in a circle; empty if there are none."""
    done: set[str] = set()
    for root in graph:
        path: list[str] = []
        stack = [(root, iter(sorted(graph[root])))] if root not in done else []
        path = [root]
        while stack:
            module, onward = stack[-1]
            for following in onward:
                if following in path:
                    return path[path.index(following) :]
                if following not in done:
                    stack.append((following, iter(sorted(graph.get(following, ())))))
                    path.append(following)
                    break
            else:
                done.add(module)
                stack.pop()
                path.pop()
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_private_name_is_imported(package: str) -> None:
    paths = [path for path in FILES if name_of(path).split(".")[0] == package]
    assert [line for path in paths for line in private_imports(path)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_private_attribute_of_another_module_is_read(package: str) -> None:
    paths = [path for path in FILES if name_of(path).split(".")[0] == package]
    assert [line for path in paths for line in private_reads(path)] == []


@pytest.mark.parametrize("package", ["grammars", "constrain"])
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    graph = {
        name_of(path): imports_of(path) for path in FILES if name_of(path).split(".")[0] == package
    }
    assert circle(graph) == []


def test_what_is_looked_for_is_found(tmp_path: Path) -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert not may_import("samplers.x", "constrain._y")
    assert may_import("constrain.z", "constrain._y")
    tree = ast.parse("class A:\n    def __init__(self): self._own = 1\n")
    assert "_own" in defined_in(tree)
