"""Reference parsers of notations of sciences: planning, synthesis, molecules."""

from __future__ import annotations

import random
import re
from importlib import import_module
from pathlib import Path
from typing import Final

from benchmarks.library_reference import Reader, Reference, raising

# -- PDDL, SyGuS -----------------------------------------------------------------------------------


def _pddl(_: Path | None) -> Reader:
    """The grammar of the package, without its checks of names and requirements."""
    import lark

    source = import_module("pddl.parser").GRAMMAR_FILE.read_text()
    parsers = [lark.Lark(source, parser="lalr", start=start) for start in ("domain", "problem")]

    def reads(text: str) -> bool:
        return any(raising(parser.parse, lark.exceptions.LarkError)(text) for parser in parsers)

    return reads


_PDDL_TYPED: Final = ("?x ?y - block ?z", "?x", "", "?x - (either a b) ?y - object")


def _pddl_goal(rng: random.Random, depth: int = 2) -> str:
    if depth == 0:
        return rng.choice(["(on ?x b)", "(clear ?x)", "(= ?x ?y)", "(>= (fuel ?x) 3.5)", "(p)"])
    inner = [_pddl_goal(rng, depth - 1) for _ in range(2)]
    shape = rng.choice(
        [
            "(and {} {})",
            "(or {}\n {})",
            "(not {})",
            "(imply {} {})",
            "(forall (?x - t) {})",
            "(exists (?x ?y) {})",
        ]
    )
    return shape.format(*inner)


def _pddl_effect(rng: random.Random) -> str:
    one = [
        "(on ?x ?y)",
        "(not (clear ?x))",
        "(increase (total-cost) (+ 1 (d ?x)))",
        "(assign (f) 0)",
    ]
    one += [f"(when {_pddl_goal(rng, 1)} (p))", "(forall (?z) (not (on ?z ?x)))"]
    return rng.choice([rng.choice(one), f"(and {' '.join(rng.sample(one, 3))})", "()"])


def _pddl_text(rng: random.Random) -> str:
    if rng.random() < 0.5:
        action = (
            f"(:action a-b :parameters ({rng.choice(_PDDL_TYPED)}) :precondition {_pddl_goal(rng)}\n"
            f" :effect {_pddl_effect(rng)})"
        )
        parts = [
            "(:requirements :strips :typing)",
            "(:types a b - object c)",
            "(:constants k - a)",
            f"(:predicates (on {rng.choice(_PDDL_TYPED)}) (clear ?x) (p))",
            "(:functions (fuel ?x) - number (total-cost))",
        ]
        kept = [part for part in parts if rng.random() < 0.6]
        derived = f"(:derived (p ?x) {_pddl_goal(rng)})"
        bodies = " ".join(rng.choice([action, action, derived]) for _ in range(rng.randint(0, 2)))
        return f"(define (domain d1) {' '.join(kept)}\n{bodies}) ; end"
    metric = rng.choice(["", "(:metric minimize (+ (total-cost) 2))"])
    return (
        f"(define (problem p-1)\n (:domain d) {rng.choice(['', '(:objects a b - block c)'])}\n"
        f" (:init (on a b) (not (p)) (= (fuel a) 3)) (:goal {_pddl_goal(rng)}){metric})"
    )


_PDDL_MORE: Final = (
    (r"oneof|:non-deterministic", "non-deterministic effects"),
    (r"\d\.\d+\.\d", "numbers with several points"),
    (r"[\x0b\x0c\x1c-\x1f\x85\xa0\u2000-\u3000]", "other blanks"),
    (r"[\w)-][?:]|\)[\w-]|[\w?]\s*\(\s*(?!\S)|\d[A-Za-z]|[<>=+*/]\w|\s-[\w(]", "parts that touch"),
    (r"=\s+\S+\s+\S+\s*\)", "equality as an effect"),
    (r"either\s*\)|\bobject\b", "types"),
    (r"(?<![\w:])(define|domain|problem)[\w-]|\?\s", "parts that touch"),
    (
        r"(domain|problem|:action|\()\s+(and|or|not|when|either|domain|problem|define)\b",
        "words as names",
    ),
)


def _pddl_left_out(text: str, ours: bool) -> str | None:
    if ours:
        return "either in lists of names, which the reference has not" if "either" in text else None
    return next((why for pattern, why in _PDDL_MORE if re.search(pattern, text)), None)


def _cvc5_fault(text: str) -> str:
    """What cvc5 says of a problem; empty if nothing."""
    module = import_module("cvc5")
    manager = module.TermManager()
    solver = module.Solver(manager)
    solver.setOption("sygus", "true")
    symbols = module.SymbolManager(manager)
    parser = module.InputParser(solver, symbols)
    try:
        parser.setStringInput(module.InputLanguage.SYGUS_2_1, "(set-logic ALL)" + text, "text")
        while True:
            command = parser.nextCommand()
            if command.isNull():
                return ""
            if command.getCommandName() != "check-synth":
                said = str(command.invoke(solver, symbols))
                if "error" in said:
                    return said
    except RuntimeError as error:
        return str(error) or "refused"


def _cvc5(_: Path | None) -> Reader:
    import_module("cvc5")
    return lambda text: not _cvc5_fault(text)


_SYGUS_TERMS: Final = (
    "(+ x 1)",
    "(* 2 (- y))",
    "(ite (<= x y) x 10)",
    "(let ((z 1) (w x)) (+ z w))",
    "(f x y)",
    "0",
)


def _sygus_text(rng: random.Random) -> str:
    grammar = "\n ((I Int) (B Bool))\n ((I Int (x 0 (Constant Int) (Variable Int) (+ I I)))"
    grammar += " (B Bool ((<= I I) (not B))))"
    a, b = (rng.choice(_SYGUS_TERMS) for _ in range(2))
    commands = [
        f"(constraint (= {a} {b}))",
        f"(constraint (or (> {a} 3) (forall ((k Int) (j Bool)) (=> j (= k {b})))))",
        "(define-fun g ((n Int)) Bool (= n 1))",
        "(assume (not (= x y)))",
        "(declare-var v (_ BitVec 8)) (constraint (= v #x0F)) (constraint (= ((_ extract 3 0) v) #b0101))",
        '(declare-var s String) (constraint (= s "a""b;"))',
        "(define-sort T () (Array Int Bool))",
        "(set-option :verbosity 0)",
        '(set-info :source "me")',
        "(set-feature :grammars true)",
    ]
    synth = f"(synth-fun f ((x Int) (y Int)) Int{rng.choice(['', grammar])})"
    body = " ".join(rng.sample(commands, rng.randint(0, 4)))
    return f"{synth}\n(declare-var x Int) (declare-var y Int)\n{body}\n(check-synth) ; done"


_SYGUS_MORE: Final = (
    (r"\|", "names between bars"),
    (r"\(\s*!", "attributes of terms"),
    (r"[\w)\"][\"#:(]|[)\"][\w+*/<>=.-]", "parts that touch"),
    (r"[^\x00-\x7f]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "other characters"),
    (
        r"set-(info|option|feature)|declare-(fun|const|data)|push|pop|echo|exit|reset|optimize|assert|define",
        "other commands",
    ),
    (r"\b0\d", "zeros in front"),
)


def _sygus_left_out(text: str, ours: bool) -> str | None:
    if ours:
        if "chc-constraint" in text:
            return "chc-constraint, which the reference has not"
        if re.search(r"\(\s*(;[^\n]*\n\s*)*_[\s;]", text):
            return "indices that the reference does not know"
        if re.search(r":[\w-]+;", text):
            return "comments behind keywords, which the reference misreads"
        said = _cvc5_fault(text)
        return (
            None if re.search(r"Expected|Mismatched|got `", said) else "names, sorts and theories"
        )
    return next((why for pattern, why in _SYGUS_MORE if re.search(pattern, text)), None)


# -- SMILES ----------------------------------------------------------------------------------------


def _rdkit(_: Path | None) -> Reader:
    """RDKit's parser alone: no valences, no aromaticity."""
    import_module("rdkit.RDLogger").DisableLog("rdApp.*")
    chemistry = import_module("rdkit.Chem")

    def reads(text: str) -> bool:
        try:
            return chemistry.MolFromSmiles(text, sanitize=False) is not None
        except (TypeError, UnicodeEncodeError, ValueError):
            return False

    return reads


_MOLECULES: Final = (
    "CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "C1CC2CC1CC2", "C12CC1C2",
    "c1ccc2ccccc2c1", "[NH4+].[Cl-]", "N[C@@H](C)C(=O)O", "C/C=C\\F", "[13CH4]", "C%10CCCC%10",
    "C=1CCCCC=1", "OC[C@H]1OC(O)[C@H](O)[C@@H](O)[C@@H]1O", "[O-][N+](=O)c1ccccc1", "[CH3:1][OH:2]",
    "C#N", "[Fe+2]", "c1cc[nH]c1", "*C", "[*:1]C", "F/C(Cl)=C(/Br)I", "C(C)(C)(C)C", "CC.O", "C(.O)C",
    "[se]1cccc1", "N#[N+][O-]", "[Pt@SP1](F)(Cl)(Br)I", "[2H]O[2H]", "C-C=C#C",
    "[Cu+2].[O-]S(=O)(=O)[O-]",
)  # fmt: skip


def _smiles_text(rng: random.Random) -> str:
    return rng.choice(["", ".", "C", "="]).join(
        rng.choice(_MOLECULES) for _ in range(rng.randint(1, 3))
    )


def _ring_fault(text: str) -> str | None:
    """What is wrong with the rings of a text whose atoms and branches are in order."""
    bonded: set[frozenset[int]] = set()
    rings: dict[int, tuple[int, str]] = {}
    stack: list[int] = []
    last, atoms, bond = -1, 0, ""
    for piece in re.findall(r"\[[^\]]*\]|%\d\d|Cl|Br|.", text, re.DOTALL):
        if piece in ("(", ")"):
            last = stack.pop() if piece == ")" else last
            stack += [last] if piece == "(" else []
        elif piece in "-=#$:/\\.":
            bond = piece
        elif piece[-1].isdigit():
            number = int(piece.lstrip("%"))
            if number in rings:
                other, first = rings.pop(number)
                pair = frozenset((other, last))
                if len(pair) == 1 or pair in bonded:
                    return "rings between the same atoms"
                if bond and first and bond != first:
                    return "rings whose bonds differ"
                bonded.add(pair)
            else:
                rings[number] = (last, bond)
            bond = ""
        else:
            if last >= 0 and bond != ".":
                bonded.add(frozenset((last, atoms)))
            last, atoms, bond = atoms, atoms + 1, ""
    return "rings that are not paired" if rings else None


_SMILES_MORE: Final = (
    (r"^$", "the empty text"),
    (r"\+\+|--", "deprecated charges"),
    (r"[^ -\x7e]", "other characters, which the reference passes over"),
    (r"~|->|<-|\\\\|\?|%\(|\[#|[|{]|\s", "the reference's own"),
    (
        r"\[[^\]]*(te|si|D|T|[A-Z]?[a-z]?\d{4,}|@[A-Z]+\d*|:|H\d\d)[^\]]*\]",
        "symbols and numbers that the standard has not",
    ),
    (r"[-+]\d{2,}|[-+]1[6-9]", "charges beyond 15"),
    (r"\([-=#$:/\\.]*\d|\)\d|^\(|^[-=#$:/\\]", "numbers of rings behind branches"),
)


def _smiles_left_out(text: str, ours: bool) -> str | None:
    if not ours:
        return next((why for pattern, why in _SMILES_MORE if re.search(pattern, text)), None)
    if "(." in text:
        return "dots at the beginning of branches, which the reference refuses"
    return _ring_fault(text)


REFERENCES: Final[list[tuple[str, Reference]]] = [
    ("pddl", Reference("pddl", _pddl, _pddl_text, _pddl_left_out)),
    ("sygus", Reference("cvc5", _cvc5, _sygus_text, _sygus_left_out)),
    ("opensmiles", Reference("rdkit", _rdkit, _smiles_text, _smiles_left_out)),
    ("smiles", Reference("rdkit", _rdkit, _smiles_text, _smiles_left_out, wider=True)),
]
"""Grammars and what they are compared with; a grammar may stand here more than once."""
