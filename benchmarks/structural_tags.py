"""Structural tags of xgrammar's own tests, read by gramma and by xgrammar.

The tests are not part of this repository.  With a checkout of xgrammar, and xgrammar installed::

    python benchmarks/structural_tags.py --tests xgrammar/tests/python

Their test functions run once, with a plugin that writes down each tag, each text and what xgrammar
makes of both; then gramma reads the same.  Where they differ, the text is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

_RECORD: Final = "STRUCTURAL_TAG_RECORD"
_FILES: Final = (
    "test_structural_tag_converter.py",
    "test_builtin_structural_tag.py",
    "test_grammar_matcher_structural_tag.py",
)


# -- the plugin --------------------------------------------------------------------------------------


def pytest_configure(config: Any) -> None:
    """Puts recorders in the place of xgrammar's functions, before tests import them."""
    if _RECORD in os.environ:
        _record_to(Path(os.environ[_RECORD]))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """How xgrammar prints a grammar is no matter here, and differs from version to version."""
    for module in {item.module for item in items}:
        if hasattr(module, "check_stag_with_grammar"):
            module.check_stag_with_grammar = lambda *_: None


def _record_to(path: Path) -> None:
    import xgrammar
    from xgrammar import testing
    from xgrammar.grammar import _get_structural_tag_str_from_args as text_of

    make, accept = xgrammar.Grammar.from_structural_tag, testing._is_grammar_accept_string
    known: dict[int, tuple[Any, str]] = {}  # with the grammar, so that its id is not used again

    def write(**row: Any) -> None:
        with path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")

    def from_structural_tag(*args: Any, **kwargs: Any) -> Any:
        try:
            made = make(*args, **kwargs)
        except Exception:
            write(tag=text_of(args, kwargs), refused=True)
            raise
        known[id(made)] = made, text_of(args, kwargs)
        write(tag=known[id(made)][1])
        return made

    def is_accepted(grammar: Any, text: str, **options: Any) -> bool:
        found = bool(accept(grammar, text, **options))
        if id(grammar) in known and options.get("require_termination", True):
            write(tag=known[id(grammar)][1], text=text, accepted=found)
        return found

    xgrammar.Grammar.from_structural_tag = staticmethod(from_structural_tag)
    testing._is_grammar_accept_string = is_accepted


def record(tests: Path) -> dict[str, list[dict[str, Any]]]:
    """What the tests ask xgrammar: rows by tag."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        here = str(Path(__file__).parent)
        environment = {**os.environ, _RECORD: str(path), "PYTHONPATH": here, "HF_HUB_OFFLINE": "1"}
        options = ["-q", "-p", Path(__file__).stem, "-p", "no:cacheprovider", "--tb=no"]
        files = [str(tests / name) for name in _FILES]
        subprocess.run(
            [sys.executable, "-m", "pytest", *options, *files],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        lines = path.read_text("utf-8").splitlines()
    out: dict[str, list[dict[str, Any]]] = {}
    for row in map(json.loads, lines):
        out.setdefault(row["tag"], []).append(row)
    return out


# -- the comparison ----------------------------------------------------------------------------------


def main() -> None:
    """Prints what differs, what is refused and why, and counts."""
    from grammars import Grammar, GrammarError

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=Path, required=True, help="xgrammar's tests/python")
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for tag, rows in record(parser.parse_args().tests).items():
        texts = {row["text"]: row["accepted"] for row in rows if "text" in row}
        refused = any("refused" in row for row in rows) and not texts
        try:
            grammar = Grammar.from_structural_tag(tag)
        except GrammarError as error:
            counts["tags refused by both" if refused else "tags refused"] += 1
            counts["texts refused"] += len(texts)
            if not refused:
                reasons[error.message[:90]] += 1
            continue
        counts["tags that xgrammar refuses" if refused else "tags"] += 1
        for text, accepted in texts.items():
            same = grammar.accepts(text) == accepted
            counts["texts that agree" if same else "texts that differ"] += 1
            if not same:
                print(f"xgrammar {accepted}, gramma {not accepted}: {text!r}\n    {tag[:300]}")
    for what, count in (*sorted(counts.items()), *reasons.most_common()):
        print(f"{count:6} {what}")


if __name__ == "__main__":
    main()
