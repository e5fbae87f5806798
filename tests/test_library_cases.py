"""Case tables of the library: each grammar accepts, refuses and begins what its table says."""

from __future__ import annotations

import pytest

from grammars import GrammarError, library
from grammars.cases import VERDICTS

TABLES = sorted(path.stem for path in (library.folder() / "cases").glob("*.toml"))


@pytest.mark.parametrize("name", TABLES)
def test_cases_hold(name: str) -> None:
    cases = library.entry(name).cases()
    assert cases.library == name
    failures = list(cases.failures(cases.load()))
    assert not failures, "\n".join(
        f"line {f.case.line}, {f.case.verdict} {f.case.text!r}: {f.message}" for f in failures
    )


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_cases_of_every_kind(name: str) -> None:
    cases = library.entry(name).cases()
    assert all(cases.of(verdict) for verdict in VERDICTS)
    assert len(cases.of("accept")) + len(cases.of("reject")) >= 16
