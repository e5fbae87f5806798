"""Tasks for samplers that follow the model's own law given a grammar.

Six families: string programs (``slia``), bit-vector terms (``bv4``), constituency trees of a sentence
(``cp``), molecules of a class (``smiles``), plans (``plans``) and function calls of the Berkeley Function
Calling Leaderboard (``calls``, whose data comes as a package).  ``slia``, ``bv4`` and ``cp`` are the
families of Grammar-Aligned Decoding (Park et al. 2024): the kind, not the data.  Grammars are of
:mod:`grammars.library`; those of ``cp`` are made of the sentence.  Prompts are chats in which a few tasks
have been answered already, so that a model of 135 million parameters has some chance, and short, so that
many samples can be drawn.

Whether a sample is a right answer is not what is measured with them: the question is how well samples
follow P given the grammar.  ``expected`` is one right answer, for readers.

Usage: ``python benchmarks/aligned_tasks.py [--family slia]`` shows tasks.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tasks

from grammars import Grammar, library

Turns = Sequence[tuple[str, str]]
"""(question, answer) of earlier turns."""


@dataclass(frozen=True)
class AlignedTask:
    """One prompt and the grammar of its answers.

    Attributes:
        family, name: what it is called.
        system: what the model is told first.
        turns: earlier questions with answers.
        question: the last one.
        make: makes the grammar.
        budget: tokens of the answer, EOS included.
        expected: a right answer.
    """

    family: str
    name: str
    system: str
    turns: Turns
    question: str
    make: Callable[[], Grammar] = field(compare=False)
    budget: int
    expected: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat."""
        chat = [{"role": "system", "content": self.system}]
        for question, answer in self.turns:
            chat += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        return [*chat, {"role": "user", "content": self.question}]

    def prompt_ids(self, tokenizer: Any) -> list[int]:
        """Token ids of the chat, with the tokenizer's template."""
        ids = tokenizer.apply_chat_template(
            self.messages, add_generation_prompt=True, return_dict=True
        )["input_ids"]
        return [int(i) for i in ids]


# -- string programs -------------------------------------------------------------------------------

SLIA_SYSTEM = "Write a string program in SMT-LIB. Answer with one term and nothing else."
SLIA_TURNS = (
    ('Input x. The text x with "!" behind it. "hi" gives "hi!"', '(str.++ x "!")'),
    ('Input x. The first character of x. "hello" gives "h"', "(str.at x 0)"),
    ('Input x. The text x without its first "a". "banana" gives "bnana"', '(str.replace x "a" "")'),
    ('Input x. The first 2 characters of x. "hello" gives "he"', "(str.substr x 0 2)"),
    (
        'Input x. What is in front of the first "@". "me@home" gives "me"',
        '(str.substr x 0 (str.indexof x "@" 0))',
    ),
)


def _slia(name: str, question: str, expected: str, budget: int, **parameters: Any) -> AlignedTask:
    def make() -> Grammar:
        return library.load("slia", **parameters)

    return AlignedTask("slia", name, SLIA_SYSTEM, SLIA_TURNS, question, make, budget, expected)


def slia_tasks() -> list[AlignedTask]:
    """After tasks of the SyGuS competition (PBE strings)."""
    return [
        _slia(
            "firstname",
            'Input name. What is in front of the first blank. "Nancy FreeHafer" gives "Nancy"',
            '(str.substr name 0 (str.indexof name " " 0))',
            40,
        ),
        _slia(
            "initial",
            'Input name. The first character of name with "." behind it. "Nancy" gives "N."',
            '(str.++ (str.at name 0) ".")',
            32,
            strings=[".", " "],
        ),
        _slia(
            "greeting",
            'Input name. The text name with "Hello " in front of it. "Ann" gives "Hello Ann"',
            '(str.++ "Hello " name)',
            32,
            strings=["Hello ", "!"],
        ),
        _slia(
            "phone",
            'Input name. The first 3 characters of name. "938-242-504" gives "938"',
            "(str.substr name 0 3)",
            32,
            strings=["-"],
            integers=[0, 1, 3, 4, 7],
        ),
        _slia(
            "fullname",
            'Inputs first and last. Both with a blank between them. "Ann", "Lee" gives "Ann Lee"',
            '(str.++ first (str.++ " " last))',
            40,
            variables=["first", "last"],
        ),
    ]


# -- bit vectors -----------------------------------------------------------------------------------

BV4_SYSTEM = (
    "Write a term of SMT-LIB over the bit vectors s and t. Answer with one term and nothing else."
)
BV4_TURNS = (
    ("The sum of s and t.", "(bvadd s t)"),
    ("s with all bits flipped.", "(bvnot s)"),
    ("t shifted left by 2.", "(bvshl t #x2)"),
    ("The bits of s and t together, without the lowest.", "(bvand (bvor s t) #xe)"),
    ("The negative of t minus 1.", "(bvneg (bvsub t #x1))"),
)


def _bv4(name: str, question: str, expected: str) -> AlignedTask:
    def make() -> Grammar:
        return library.load("bv4")

    return AlignedTask("bv4", name, BV4_SYSTEM, BV4_TURNS, question, make, 32, expected)


def bv4_tasks() -> list[AlignedTask]:
    """Short terms; the last is an inverse as in the SyGuS competition."""
    return [
        _bv4("clear", "The bits of s that are not in t.", "(bvand s (bvnot t))"),
        _bv4("lowest", "The lowest bit of s.", "(bvand s #x1)"),
        _bv4("agree", "The bits in which s and t are equal.", "(bvnot (bvxor s t))"),
        _bv4("double", "s shifted left by 1, plus t.", "(bvadd (bvshl s #x1) t)"),
        _bv4("inverse", "What must be added to s to get t.", "(bvsub t s)"),
    ]


# -- constituents ----------------------------------------------------------------------------------

CP_SYSTEM = "Write the constituency tree of a sentence. Answer with the tree and nothing else."
PHRASES = ("S", "NP", "VP", "PP", "ADJP", "ADVP")
TAGS = ("DT", "NN", "NNS", "NNP", "PRP", "VBZ", "VBP", "VBD", "JJ", "RB", "IN")
CP_TURNS = (
    ("Birds sing", "(S (NP (NNS Birds)) (VP (VBP sing)))"),
    ("The cat saw a mouse", "(S (NP (DT The) (NN cat)) (VP (VBD saw) (NP (DT a) (NN mouse))))"),
    ("Ann is happy", "(S (NP (NNP Ann)) (VP (VBZ is) (ADJP (JJ happy))))"),
    (
        "He lives in Rome",
        "(S (NP (PRP He)) (VP (VBZ lives) (PP (IN in) (NP (NNP Rome)))))",
    ),
)
CP_SENTENCES = {
    "intransitive": ("Dogs bark", "(S (NP (NNS Dogs)) (VP (VBP bark)))"),
    "pronoun": ("She sings", "(S (NP (PRP She)) (VP (VBZ sings)))"),
    "article": ("The dog barks", "(S (NP (DT The) (NN dog)) (VP (VBZ barks)))"),
    "predicate": ("Bob is tired", "(S (NP (NNP Bob)) (VP (VBZ is) (ADJP (JJ tired))))"),
    "object": ("Ann likes tea", "(S (NP (NNP Ann)) (VP (VBZ likes) (NP (NN tea))))"),
    "preposition": (
        "We live in Oslo",
        "(S (NP (PRP We)) (VP (VBP live) (PP (IN in) (NP (NNP Oslo)))))",
    ),
}


def constituency_grammar(sentence: str) -> str:
    """GBNF of all trees over a sentence: its words in their order, each with a tag, phrases around them.

    A phrase has one word, or several constituents.  Chains of phrases with the same words are left out,
    since they would make the trees of a sentence infinitely many.
    """
    words = sentence.split()
    count = len(words)

    def phrase(i: int, j: int) -> str:
        return f"p{i}x{j}"

    rules = [
        f'root ::= "(S " c0x{count} ")"',
        "phrase ::= " + " | ".join(f'"{name}"' for name in PHRASES),
        "tag ::= " + " | ".join(f'"{name}"' for name in TAGS),
    ]
    for i, word in enumerate(words):
        rules.append(f'w{i} ::= "(" tag " {word})"')
    for i in range(count):
        for j in range(i + 1, count + 1):
            rules.append(f'{phrase(i, j)} ::= "(" phrase " " c{i}x{j} ")"')
            # c: what is in a phrase; r: constituents, one or more.
            whole = [f"w{i}"] if j == i + 1 else []
            split = [
                f'{first} " " r{k}x{j}'
                for k in range(i + 1, j)
                for first in ([f"w{i}"] if k == i + 1 else []) + [phrase(i, k)]
            ]
            rules.append(f"c{i}x{j} ::= " + " | ".join([*whole, *split]))
            rules.append(f"r{i}x{j} ::= " + " | ".join([*whole, phrase(i, j), *split]))
    return "\n".join(rules)


def cp_tasks() -> list[AlignedTask]:
    """Six sentences of two to four words."""
    found = []
    for name, (sentence, tree) in CP_SENTENCES.items():

        def make(sentence: str = sentence) -> Grammar:
            return Grammar.from_gbnf(constituency_grammar(sentence))

        found.append(
            AlignedTask("cp", name, CP_SYSTEM, CP_TURNS, sentence, make, 48, expected=tree)
        )
    return found


# -- molecules -------------------------------------------------------------------------------------

SMILES_SYSTEM = "You write molecules as SMILES. Answer with one SMILES string and nothing else."
MOLECULES = {
    "acrylates": (
        "Write an acrylate.",
        ("C=CC(=O)OCCCC", "CC(=C)C(=O)OCCO", "C=CC(=O)OCC(C)C", "CC(=C)C(=O)OCC1=CC=CC=C1"),
    ),
    "isocyanates": (
        "Write an isocyanate.",
        ("O=C=NCCCCCCN=C=O", "CCCCN=C=O", "O=C=NC1=CC=CC=C1", "CC1=CC=C(C=C1N=C=O)N=C=O"),
    ),
    "chain_extenders": (
        "Write a chain extender for polyurethanes.",
        ("OCCO", "OCCCCO", "NCCN", "OCC(C)(C)CO", "OCCOCCO"),
    ),
    "alcohols": ("Write an alcohol.", ("CCO", "CC(C)O", "CCCCO", "OCC1=CC=CC=C1", "CC(C)(C)O")),
    "aromatics": (
        "Write a molecule with a benzene ring.",
        ("c1ccccc1O", "Cc1ccccc1", "c1ccc(cc1)C(=O)O", "CCc1ccc(Cl)cc1"),
    ),
}


def smiles_tasks() -> list[AlignedTask]:
    """Another molecule of a class of which some are given; any molecule for the last two."""
    found = []
    for name, (question, examples) in MOLECULES.items():
        grammar = name if name in library.names() else "smiles"

        def make(grammar: str = grammar) -> Grammar:
            return library.load(grammar)

        turns = [(question, example) for example in examples[:-1]]
        found.append(
            AlignedTask(
                "smiles", name, SMILES_SYSTEM, turns, question, make, 32, expected=examples[-1]
            )
        )
    return found


# -- plans -----------------------------------------------------------------------------------------

PLAN_SYSTEM = "You write plans. Answer with the actions, one a line, and nothing else."
BLOCKS_TURNS = (
    ("a and b are on the table. Goal: a is on b.", "(pick-up a)\n(stack a b)"),
    ("a is on b. Goal: both are on the table.", "(unstack a b)\n(put-down a)"),
    ("b and c are on the table. Goal: c is on b.", "(pick-up c)\n(stack c b)"),
)
GRIPPER_TURNS = (
    ("You are in kitchen, cup is in kitchen. Goal: you hold cup.", "(pick cup kitchen left)"),
    (
        "You are in hall, cup is in hall. Goal: cup is in kitchen.",
        "(pick cup hall left)\n(move hall kitchen)\n(drop cup kitchen left)",
    ),
    ("You are in kitchen. Goal: you are in hall.", "(move kitchen hall)"),
)
LOGISTICS_TURNS = (
    ("box is in van at shop. Goal: box is at shop.", "(unload-truck box van shop)"),
    ("van is at shop in rome. Goal: van is at port.", "(drive-truck van shop port rome)"),
    ("jet is at port. Goal: jet is at field.", "(fly-airplane jet port field)"),
)


def _plan(
    name: str, grammar: str, turns: Turns, question: str, expected: str, budget: int, **objects: Any
) -> AlignedTask:
    def make() -> Grammar:
        return library.load(grammar, **objects)

    return AlignedTask("plans", name, PLAN_SYSTEM, turns, question, make, budget, expected)


def plan_tasks() -> list[AlignedTask]:
    """Small problems of three domains."""
    rooms = {"balls": ["cup", "pen"], "rooms": ["kitchen", "hall"]}
    return [
        _plan(
            "blocks-stack", "blocks_world", BLOCKS_TURNS,
            "b and a are on the table. Goal: b is on a.", "(pick-up b)\n(stack b a)", 32,
            blocks=["a", "b"],
        ),
        _plan(
            "blocks-turn", "blocks_world", BLOCKS_TURNS,
            "a is on b, c is on the table. Goal: a is on c.", "(unstack a b)\n(stack a c)", 40,
        ),
        _plan(
            "gripper-hold", "gripper", GRIPPER_TURNS,
            "You are in hall, pen is in hall. Goal: you hold pen.", "(pick pen hall left)", 32,
            **rooms,
        ),
        _plan(
            "gripper-carry", "gripper", GRIPPER_TURNS,
            "You are in kitchen, pen is in kitchen. Goal: pen is in hall.",
            "(pick pen kitchen left)\n(move kitchen hall)\n(drop pen hall left)", 48, **rooms,
        ),
        _plan(
            "logistics", "logistics", LOGISTICS_TURNS,
            "box is at shop, van is at shop. Goal: box is in van.", "(load-truck box van shop)", 40,
            packages=["box"], trucks=["van"], airplanes=["jet"], airports=["port", "field"],
            locations=["shop"], cities=["rome", "oslo"],
        ),
    ]  # fmt: skip


# -- function calls --------------------------------------------------------------------------------

CALLS_SYSTEM = "You call functions. Answer with one call as JSON and nothing else."
AREA = {
    "name": "rectangle_area",
    "description": "Area of a rectangle.",
    "parameters": {
        "type": "dict",
        "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
        "required": ["width", "height"],
    },
}
CALLS_TURN = (
    tasks.CALLS_PROMPT.format(
        question="How large is a rectangle of 3 by 4?", functions=json.dumps(AREA)
    ),
    '{"name": "rectangle_area", "arguments": {"width": 3, "height": 4}}',
)
LONGEST_SCHEMA = 500
LONGEST_CALL = 90
CALLS_BUDGET = 64


def call_tasks(count: int = 5, seed: int = 0) -> list[AlignedTask]:
    """Questions with one short function whose answer is short.

    Raises:
        ModelUnavailable: if no package index gave the data.
    """
    short = [task for task in tasks.calls_tasks() if _is_short(task)]
    random.Random(seed).shuffle(short)
    return [_call(task) for task in short[:count]]


def _is_short(task: tasks.Task) -> bool:
    return (
        len(task.messages) == 1
        and "anyOf" not in task.schema
        and len(task.schema_text) <= LONGEST_SCHEMA
        and len(_expected_call(task)) <= LONGEST_CALL
    )


def _call(task: tasks.Task) -> AlignedTask:
    def make() -> Grammar:
        return Grammar.from_json_schema(task.schema)

    question = task.messages[-1]["content"]
    expected = _expected_call(task)
    return AlignedTask(
        "calls", task.name, CALLS_SYSTEM, [CALLS_TURN], question, make, CALLS_BUDGET, expected
    )


def _expected_call(task: tasks.Task) -> str:
    """The first of the answers that the data lists."""
    ((name, arguments),) = task.expected[0].items()
    given = {key: values[0] for key, values in arguments.items() if values[0] != ""}
    return json.dumps({"name": name, "arguments": given}, ensure_ascii=False)


# -- all of them -----------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[[], list[AlignedTask]]] = {
    "slia": slia_tasks,
    "bv4": bv4_tasks,
    "cp": cp_tasks,
    "smiles": smiles_tasks,
    "plans": plan_tasks,
    "calls": call_tasks,
}


def main() -> None:
    """Shows tasks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--family", choices=FAMILIES, action="append", help="default: all")
    options = parser.parse_args()
    for name in options.family or FAMILIES:
        for task in FAMILIES[name]():
            print(f"=== {task.family} {task.name}, at most {task.budget} tokens")
            for message in task.messages:
                print(f"{message['role']:>9}: {message['content']}")
            print(f" expected: {task.expected}\n    valid: {task.make().accepts(task.expected)}\n")


if __name__ == "__main__":
    main()
