"""Tasks whose answers have a format: what ``deco_g.py`` measures on, and what is distilled for it.

* ``gsm8k``: sums in words (GSM8K's test split, of a package); reasoning, then ``The answer is 18.``
* ``judge``: a question of GSM8K with a solution that a student handed in, to be scored from 1 to 5 as
  ``{"score": 4, "reason": "..."}``.  Half of the solutions are the reference, and deserve 4 or 5; the
  others are the reference of another question, and deserve 1 or 2.  3 is never right.
* ``events``: a sentence made here from templates, whose event is to be written as
  ``purchase(bought; Ann Lee; red lamp)``: its kind, the word that tells of it, who, and what (or where
  to, or with whom).

Each question has two parts: the task, which says nothing of the format, and the format's description.

Only GSM8K's test split comes as a package, so it is parted: questions 0 to 999 are for distilling, the
319 others for measuring, in ``judge`` as well.  Sentences to be measured are none of those to learn from.

Usage: ``python benchmarks/deco_g_tasks.py [--task events]`` shows questions.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from constrain.models import fetch_data
from grammars import Grammar

LEARN: Final = 1000
"""Questions of GSM8K that are for distilling; as many sentences."""
SHORT: Final = 500
"""Characters of a question with the answer to judge, at most: prompts of these cost most."""


@dataclass(frozen=True)
class Question:
    """Something to answer.

    Attributes:
        set, name: what it is called.
        task: what is asked, without a word about the format.
        expected: a right answer: a number, ``right`` or ``wrong``, an event in its format.
    """

    set: str
    name: str
    task: str
    expected: str


@dataclass(frozen=True)
class TaskSet:
    """Questions whose answers have one format.

    Attributes:
        name: what it is called.
        format: describes the format, behind the task.
        budget: tokens of an answer, EOS included.
        make: makes the grammar of answers.
        find: the answer of a text, in the format or, as far as that can be told, not; else ``None``.
        score: of an answer found and the one expected: the share of it that is right, 0 to 1.
        draw: all questions to learn from, or all to measure.
    """

    name: str
    format: str
    budget: int
    make: Callable[[], Grammar] = field(repr=False)
    find: Callable[[str], str | None] = field(repr=False)
    score: Callable[[str, str], float] = field(repr=False)
    draw: Callable[[bool], list[Question]] = field(repr=False)

    def worth(self, text: str, question: Question) -> float:
        """The score of a text; 0 without an answer."""
        found = self.find(text)
        return 0.0 if found is None else self.score(found, question.expected)

    def prompt(self, question: Question, *, format: bool) -> list[dict[str, str]]:
        """The chat, with the format's description or without."""
        asked = f"{question.task}\n\n{self.format}" if format else question.task
        return [{"role": "user", "content": asked}]


# -- sums in words ---------------------------------------------------------------------------------

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@cache
def _sums() -> list[dict[str, Any]]:
    file = fetch_data("gsm8k") / "requests.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["doc"] for line in lines]


def _part(learn: bool) -> list[dict[str, Any]]:
    return _sums()[:LEARN] if learn else _sums()[LEARN:]


def _gsm8k(learn: bool) -> list[Question]:
    return [
        Question(
            "gsm8k",
            f"gsm8k-{doc['id']}",
            f"Solve this problem step by step.\n\n{doc['question']}",
            doc["short_answer"].replace(",", ""),
        )
        for doc in _part(learn)
    ]


def _last_number(text: str) -> str | None:
    """Behind the last "answer is", or the last of all: what graders of free text take."""
    behind = text.rpartition("The answer is ")[2]
    first, found = _NUMBER.match(behind), _NUMBER.findall(text)
    chosen = first[0] if first is not None and behind != text else (found or [None])[-1]
    return None if chosen is None else chosen.replace(",", "")


def _same_number(found: str, expected: str) -> float:
    return float(float(found) == float(expected))


def _gsm8k_grammar() -> Grammar:
    return Grammar.free_text({"The answer is ": Grammar.from_regex(r"-?[0-9]+\.")})


# -- judging ---------------------------------------------------------------------------------------

_SCORE = re.compile(r'"score"\s*:\s*"?([1-5])\b')
_DIGIT = re.compile(r"(?<![\d.,])[1-5](?![\d,]|\.\d)")


def _solution(doc: dict[str, Any]) -> str:
    """The reference without its marks."""
    text: str = re.sub(r"<<[^>]*>>", "", doc["answer"])
    return text.replace("\n#### ", "\nThe answer is ") + "."


def _judge(learn: bool) -> list[Question]:
    docs = _part(learn)
    r = random.Random(f"judge {learn}")
    out = []
    for number, doc in enumerate(docs):
        right = r.random() < 0.5
        other = docs[(number + r.randrange(1, len(docs))) % len(docs)]
        solution = _solution(doc if right else other)
        if len(doc["question"]) + len(solution) > SHORT:
            continue
        task = (
            "A student was asked a question. Score the answer from 1 (it does not answer the question at "
            "all) to 5 (it is right), and give your reason in one sentence.\n\n"
            f"Question: {doc['question']}\n\nAnswer: {solution}"
        )
        out.append(Question("judge", f"judge-{doc['id']}", task, "right" if right else "wrong"))
    return out


def _judgement(text: str) -> str | None:
    found = _SCORE.search(text)
    if found is not None:
        return found[1]
    digit = _DIGIT.search(text)
    return None if digit is None else digit[0]


def _judged(found: str, expected: str) -> float:
    return float(int(found) >= 4 if expected == "right" else int(found) <= 2)


def _judge_grammar() -> Grammar:
    return Grammar.from_regex(r'\{"score": [1-5], "reason": "[^"\\\x00-\x1f]+"\}')


# -- events ----------------------------------------------------------------------------------------

VERBS: Final = {
    "purchase": ("bought", "purchased", "ordered"),
    "sale": ("sold", "auctioned"),
    "repair": ("repaired", "fixed", "mended"),
    "travel": ("travelled", "flew", "moved", "drove"),
    "meeting": ("met", "visited", "interviewed"),
}
"""Kinds of events and the words that tell of them."""
KINDS: Final = "|".join(VERBS)
FIRST: Final = (
    "Ann",
    "Bob",
    "Cleo",
    "Dan",
    "Eva",
    "Finn",
    "Gita",
    "Hugo",
    "Iris",
    "Jon",
    "Kim",
    "Leo",
)
LAST: Final = (
    "Berg",
    "Cole",
    "Diaz",
    "Evans",
    "Fox",
    "Gray",
    "Hahn",
    "Ito",
    "Jones",
    "Khan",
    "Lee",
)
TOWNS: Final = (
    "Bergen",
    "Cork",
    "Delhi",
    "Graz",
    "Kyoto",
    "Leeds",
    "Lima",
    "Oslo",
    "Porto",
    "Tartu",
)
COLOURS: Final = ("red", "blue", "green", "black", "white", "yellow", "grey", "brown")
THINGS: Final = (
    "lamp",
    "chair",
    "desk",
    "clock",
    "shelf",
    "rug",
    "vase",
    "mirror",
    "kettle",
    "bicycle",
)
_TIMES: Final = ("after the dinner", "before the concert", "during the holidays", "last week")
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_EVENT = re.compile(rf"\b({KINDS})\(([^;()]*);([^;()]*);([^;()]*)\)")


def _sentence(r: random.Random) -> tuple[str, str]:
    """A sentence and its event."""
    kind = r.choice(list(VERBS))
    verb = r.choice(VERBS[kind])
    who, whom = (f"{r.choice(FIRST)} {last}" for last in r.sample(LAST, 2))
    here, there = r.sample(TOWNS, 2)
    what = there if kind == "travel" else whom
    said = f"to {there}" if kind == "travel" else whom
    if kind in ("purchase", "sale", "repair"):
        what = f"{r.choice(COLOURS)} {r.choice(THINGS)}"
        said = f"the {what}"
    when = r.choice((f"on {r.choice(_DAYS)}", r.choice(_TIMES)))
    where = f"from {here}" if kind == "travel" else f"in {here}"
    told = f"{who} {verb} {said} {where}"
    text = f"{when[0].upper()}{when[1:]}, {told}." if r.random() < 0.5 else f"{told} {when}."
    return text, f"{kind}({verb}; {who}; {what})"


def _drawn(r: random.Random) -> Iterator[tuple[str, str]]:
    while True:
        yield _sentence(r)


@cache
def _events(learn: bool) -> list[Question]:
    known = set() if learn else {question.task for question in _events(True)}
    out: dict[str, Question] = {}
    for text, event in _drawn(random.Random(f"events {learn}")):
        task = (
            "Which event does this sentence tell of? Say what kind it is (purchase, sale, repair, travel "
            "or meeting), which word tells of it, who did it, and what was bought, sold or repaired, "
            f"where the journey led, or who was met.\n\nSentence: {text}"
        )
        if task not in known and task not in out:
            out[task] = Question("events", f"events-{len(out)}", task, event)
        if len(out) == LEARN:
            return list(out.values())
    raise AssertionError("unreachable")


def _event(text: str) -> str | None:
    found = _EVENT.search(text)
    return None if found is None else found[0]


def _fields(event: str) -> list[str]:
    kind, _, rest = event.rstrip(")").partition("(")
    values = [kind, *rest.split(";")]
    return [re.sub(r"^(?:an?|the|to) ", "", value.strip().lower()) for value in values]


def _same_fields(found: str, expected: str) -> float:
    """The share of the four fields that are right, but for articles and capitals."""
    pairs = zip(_fields(found), _fields(expected), strict=True)
    return sum(a == b for a, b in pairs) / 4


def _events_grammar() -> Grammar:
    name = "[A-Za-z][A-Za-z '-]*"
    return Grammar.from_regex(rf"({KINDS})\([a-z]+; {name}; {name}\)")


# -- all of them -----------------------------------------------------------------------------------

SETS: Final = {
    task.name: task
    for task in (
        TaskSet(
            "gsm8k",
            'End with the sentence "The answer is N.", where N is a whole number in digits, without a '
            "unit, and write nothing behind it.",
            160,
            _gsm8k_grammar,
            _last_number,
            _same_number,
            _gsm8k,
        ),
        TaskSet(
            "judge",
            'Write JSON and nothing else, in the form {"score": N, "reason": "one sentence"}.',
            64,
            _judge_grammar,
            _judgement,
            _judged,
            _judge,
        ),
        TaskSet(
            "events",
            "Write it in the form kind(word; who; what) and nothing else, for example "
            "sale(sold; Zoe Adler; brown drum).",
            32,
            _events_grammar,
            _event,
            _same_fields,
            _events,
        ),
    )
}
"""The sets by name."""


def main() -> None:
    """Shows questions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--task", choices=SETS, action="append", help="default: all")
    parser.add_argument("--limit", type=int, default=2)
    given = parser.parse_args()
    for name in given.task or SETS:
        print(f"## {name}: {SETS[name].format}\n")
        for question in SETS[name].draw(False)[: given.limit]:
            print(f"{question.task}\n-> {question.expected}\n")


if __name__ == "__main__":
    main()
