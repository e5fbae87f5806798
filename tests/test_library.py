"""Grammars of the library: what they accept and what not, and what their parameters may be."""

from __future__ import annotations

from typing import Any

import pytest

from grammars import Grammar, GrammarError, LimitExceeded, Limits, library

WEATHER = {
    "weather": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "now": {"type": "object", "additionalProperties": False},
}
SLIA: dict[str, Any] = {
    "variables": ["name", "_arg_1"],
    "int_variables": ["k"],
    "strings": [" ", 'say "hi"', "a\\b\n"],
    "integers": [0, 1, -1],
}

TABLE: list[tuple[str, dict[str, Any], str, bool]] = [
    ("slia", {}, "name", True),
    ("slia", {}, '(str.++ (str.substr name 0 1) " ")', True),
    ("slia", {}, '(str.substr name 0 (str.indexof name " " 0))', True),
    ("slia", {}, '(ite (= (str.len name) 2) name (str.replace name " " name))', True),
    ("slia", {}, "(int.to.str (+ 1 (str.to.int (str.at name 2))))", True),
    ("slia", {}, "(str.++ name)", False),
    ("slia", {}, "(str.++  name name)", False),
    ("slia", {}, "(str.len name)", False),
    ("slia", {}, "(str.at name name)", False),
    ("slia", {}, "(str.at name 7)", False),
    ("slia", {}, "(str.++ name name", False),
    ("slia", {}, "other", False),
    ("slia", SLIA, "_arg_1", True),
    ("slia", SLIA, "(str.at name k)", True),
    ("slia", SLIA, "(str.at name (- 1))", True),
    ("slia", SLIA, "(str.at name -1)", False),
    ("slia", SLIA, '"say ""hi"""', True),
    ("slia", SLIA, '"say "hi""', False),
    ("slia", SLIA, '"a\\b\n"', True),
    ("bv4", {}, "s", True),
    ("bv4", {}, "#xf", True),
    ("bv4", {}, "(bvand s (bvnot (bvshl #x7 t)))", True),
    ("bv4", {}, "(bvlshr (bvneg s) (bvsub t (bvxor s (bvor t (bvadd s #x1)))))", True),
    ("bv4", {}, "(bvnot s t)", False),
    ("bv4", {}, "(bvand s)", False),
    ("bv4", {}, "#x10", False),
    ("bv4", {}, "x", False),
    ("bv4", {"variables": ["x"], "constants": []}, "(bvadd x x)", True),
    ("bv4", {"variables": ["x"], "constants": []}, "#x0", False),
    ("smiles", {}, "C", True),
    ("smiles", {}, "CCO", True),
    ("smiles", {}, "CC(=O)O", True),
    ("smiles", {}, "CC(C)(C)C", True),
    ("smiles", {}, "C#N", True),
    ("smiles", {}, "FC(F)(F)CCl", True),
    ("smiles", {}, "BrBr", True),
    ("smiles", {}, "F/C=C/F", True),
    ("smiles", {}, "C1CCCCC1", True),
    ("smiles", {}, "c1ccccc1O", True),
    ("smiles", {}, "c1ccc(cc1)O", True),
    ("smiles", {}, "Clc1ccc(cc1)c1ccc(cc1)Cl", True),
    ("smiles", {}, "c1ccc2ccccc2c1", True),
    ("smiles", {}, "C1CCC(CC1)C2CCC(CC2)C3CCCCC3", True),
    ("smiles", {}, "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", False),  # caffeine: its rings cross
    ("smiles", {}, "[NH4+].[Cl-]", True),
    ("smiles", {}, "N[C@@H](C)C(=O)O", True),
    ("smiles", {}, "c1cc[nH]c1", True),
    ("smiles", {}, "[13CH4]", True),
    ("smiles", {}, "", False),
    ("smiles", {}, "CC(", False),
    ("smiles", {}, "CC)C", False),
    ("smiles", {}, "C()C", False),
    ("smiles", {}, "C1CCCCC", False),
    ("smiles", {}, "C1CCCCC2", False),
    ("smiles", {}, "C1C2CC1C2", False),
    ("smiles", {}, "CFC", False),
    ("smiles", {}, "C==C", False),
    ("smiles", {}, "Xe", False),
    ("smiles", {}, "[CH4", False),
    ("acrylates", {}, "C=CC(=O)OCCCC", True),
    ("acrylates", {}, "CC(=C)C(=O)OCC1=CC=CC=C1", True),
    ("acrylates", {}, "C=CC(=O)OCCCCOC(=O)C=C", True),
    ("acrylates", {}, "CC(C)COC(=O)C(=C)C", True),
    ("acrylates", {}, "C=CC(=O)O", False),
    ("acrylates", {}, "CCCCO", False),
    ("isocyanates", {}, "O=C=NCCCCCCN=C=O", True),
    ("isocyanates", {}, "O=C=NC1=CC=CC(CC2=CC=C(C=C2N=C=O)CC3=CC=C(C=C3)N=C=O)=C1", True),
    ("isocyanates", {}, "O=C=Nc1ccc(cc1)Cc1ccc(cc1)N=C=O", True),
    ("isocyanates", {}, "CC1=CC=C(C=C1N=C=O)N=C=O", True),
    ("isocyanates", {}, "O=C=NCCCCBr", True),
    ("isocyanates", {}, "O=C=N", False),
    ("isocyanates", {}, "CC(N=C=O)C", False),  # neither first nor last
    ("isocyanates", {}, "BrN=C=O", False),
    ("chain_extenders", {}, "OCCCCO", True),
    ("chain_extenders", {}, "NCCO", True),
    ("chain_extenders", {}, "OCC(C)(C)CO", True),
    ("chain_extenders", {}, "OCCOC1=CC=C(OCCO)C=C1", False),  # a group within, not at the end
    ("chain_extenders", {}, "CCCC", False),
    ("blocks_world", {}, "(unstack b a)\n(put-down b)\n(pick-up a)\n(stack a b)", True),
    ("blocks_world", {"blocks": ["red", "blue"]}, "(stack red blue)", True),
    ("blocks_world", {}, "(stack a)", False),
    ("blocks_world", {}, "(stack a d)", False),
    ("blocks_world", {}, "(pick-up a)\n", False),
    ("blocks_world", {}, "", False),
    ("gripper", {}, "(pick ball1 rooma left)\n(move rooma roomb)\n(drop ball1 roomb left)", True),
    ("gripper", {"balls": ["b"]}, "(pick b rooma right)", True),
    ("gripper", {}, "(pick ball1 left rooma)", False),
    ("gripper", {}, "(move rooma)", False),
    ("logistics", {}, "(load-truck package1 truck1 office1)", True),
    ("logistics", {}, "(drive-truck truck1 office1 airport1 city1)", True),
    ("logistics", {}, "(fly-airplane plane1 airport1 airport2)", True),
    ("logistics", {}, "(fly-airplane plane1 office1 airport2)", False),
    ("logistics", {}, "(load-airplane package1 truck1 airport1)", False),
    ("function_calls", {"functions": WEATHER}, '{"name": "weather", "arguments": {"city": "Oslo"}}', True),
    ("function_calls", {"functions": WEATHER}, '{"name":"now","arguments":{}}', True),
    ("function_calls", {"functions": WEATHER}, '{"name": "now", "arguments": {"city": "Oslo"}}', False),
    ("function_calls", {"functions": WEATHER}, '{"name": "weather", "arguments": {}}', False),
    ("function_calls", {"functions": WEATHER, "whitespace": "compact"},
     '{"name": "now", "arguments": {}}', False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parameters", "text", "accepted"), TABLE)
def test_accepts(name: str, parameters: dict[str, Any], text: str, accepted: bool) -> None:
    assert library.load(name, **parameters).accepts(text) is accepted


def made() -> list[tuple[str, Grammar]]:
    unique: dict[str, tuple[str, Grammar]] = {}
    for name, parameters, _, _ in TABLE:
        key = repr((name, parameters))
        if key not in unique:
            unique[key] = (name, library.load(name, **parameters))
    return list(unique.values())


@pytest.mark.parametrize(("name", "grammar"), made())
def test_samples_are_accepted(name: str, grammar: Grammar) -> None:
    for seed in range(20):
        assert grammar.accepts(grammar.sample(seed, max_bytes=300))


def test_every_grammar_is_in_the_table() -> None:
    with_a_table_of_its_own = {path.stem for path in (library.folder() / "cases").glob("*.toml")}
    assert {name for name, *_ in TABLE} | {"c"} | with_a_table_of_its_own == set(library.names())


@pytest.mark.parametrize("name", ["acrylates", "isocyanates", "chain_extenders"])
def test_classes_are_molecules(name: str) -> None:
    grammar, molecules = library.load(name), library.load("smiles")
    for seed in range(20):
        assert molecules.accepts(grammar.sample(seed, max_bytes=100))


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(GrammarError) as caught:
        library.load("prolog")
    assert "'prolog'" in str(caught.value)
    for name in library.names():
        assert name in str(caught.value)


def test_an_unknown_parameter_lists_those_there_are() -> None:
    with pytest.raises(
        GrammarError, match=r"'bv4' has no parameter 'width'; .*variables=.*constants="
    ):
        library.load("bv4", width=8)
    with pytest.raises(GrammarError, match=r"its parameters: none"):
        library.load("smiles", rings=3)
    with pytest.raises(GrammarError, match=r"needs 'functions'"):
        library.load("function_calls")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("slia", {"variables": ["a b"]}, "'a b' is no name"),
        ("slia", {"variables": ["(x"]}, "is no name"),
        ("slia", {"variables": "name"}, "list of names"),
        ("slia", {"variables": [], "strings": []}, "string leaf"),
        ("slia", {"integers": []}, "int leaf"),
        ("bv4", {"constants": ["#x1f"]}, "#x1f"),
        ("bv4", {"variables": [3]}, "3 is no name"),
        ("gripper", {"balls": []}, "ball"),
        ("function_calls", {"functions": {}}, "at least one"),
    ],
)
def test_values_that_cannot_be(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(GrammarError, match=message):
        library.load(name, **parameters)


def test_limits_are_passed_on() -> None:
    with pytest.raises(LimitExceeded):
        library.load("smiles", limits=Limits(max_program_states=3))


def test_source_is_the_file() -> None:
    assert "bvlshr" in library.source("bv4")
    assert library.source("acrylates") == library.source("smiles")
    with pytest.raises(GrammarError, match="no file"):
        library.source("function_calls")
    with pytest.raises(GrammarError, match="no file"):
        library.source("../grammar")


@pytest.mark.parametrize("name", library.names())
def test_entries_describe_their_grammars(name: str) -> None:
    found = library.entry(name)
    assert found.name == name
    assert found.title
    assert found.reference
    assert found.left_out
    assert len(found.title) < 120
    if found.path is None:
        assert name == "function_calls"
    else:
        assert found.path.is_file()
        assert found.path.suffix == f".{found.kind}"
        assert found.source() == library.source(name)


def test_entries_of_one_file_have_titles_of_their_own() -> None:
    assert library.entry("date").title == "Dates, such as 2024-02-29"
    assert library.entry("duration").start == "duration"
    assert library.entry("semver").start == ""
    assert library.entry("python").lexer == "basic"
    assert library.entry("acrylates").title != library.entry("smiles").title
    assert library.entry("slia").parameters.startswith("variables=('name',)")
    with pytest.raises(GrammarError, match="no grammar 'prolog'"):
        library.entry("prolog")


def test_every_file_is_a_grammar_of_the_library() -> None:
    files = {
        path.name
        for path in library.folder().iterdir()
        if path.suffix in (".gbnf", ".lark", ".regex")
    }
    assert files == {found.path.name for found in library.entries() if found.path is not None}


def test_grammars_come_by_name() -> None:
    assert Grammar.from_library("date") == library.load("date")
    assert Grammar.from_library("gripper", balls=["b"]).accepts("(pick b rooma left)")
    with pytest.raises(GrammarError, match="'date' has no parameter 'year'; its parameters: none"):
        Grammar.from_library("date", year=2024)
    with pytest.raises(LimitExceeded):
        Grammar.from_library("sql", limits=Limits(max_program_states=3))


def test_cases_of_grammars_whose_texts_are_parameters_are_tests() -> None:
    with pytest.raises(GrammarError, match="no cases"):
        library.cases("slia")


def test_words_of_a_language_are_no_names() -> None:
    sql = library.load("sql")
    assert sql.accepts("SELECT first FROM fromage")
    assert not sql.accepts("SELECT first FROM from")
    assert sql.accepts('SELECT first FROM "from"')


def test_tables_may_have_a_number_of_columns() -> None:
    csv = library.load("csv", columns=2)
    assert csv.accepts('a,b\n"1,",2\n')
    assert csv.accepts(",")
    assert not any(csv.accepts(text) for text in ("", "a", "a,b,c", "a,b\n1\n"))
    table = library.load("markdown_table", columns=2)
    assert table.accepts("|a|b|\n|-|-|\n| 1 | 2 |")
    assert not any(
        table.accepts(text)
        for text in ("|a|\n|-|", "|a|b|\n|-|-|\n|1|", "|a|b|\n|-|-|\n|1|2|3|", "|a|b|\n|-|")
    )
    assert library.load("csv", columns=1).accepts("a\n\nb")
    any_columns, any_cells = library.load("csv"), library.load("markdown_table")
    for seed in range(10):
        assert any_columns.accepts(csv.sample(seed, max_bytes=40))
        assert any_cells.accepts(table.sample(seed, max_bytes=60))
    for wrong in (0, -1, True, "2"):
        with pytest.raises(GrammarError, match=r"columns: .* is no number"):
            library.load("csv", columns=wrong)
