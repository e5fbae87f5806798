"""Tasks that show what writing many tokens at once costs, after ParallelBench (Kang et al., 2025).

A diffusion model says of each open place what may stand there, of each by itself.  Where the right answer
is one text, as for a copy, all places can be written together.  Where several texts are right, as for a
shuffle, places depend on each other, and tokens that are written together may each be likely and together
be wrong.

Everything here is drawn by a seed from word lists of our own; scores are plain code:

* ``lines``: a waiting line and what is done with it: copy, reverse, sort, shuffle; somebody comes, leaves
  or takes another's place, at a place that is told (``insert at``) or anywhere (``insert``).
* ``sentences``: two, three or four nouns (short, medium, long) of which one sentence is to be made, in any
  order, with articles that fit.

::

    task = TASKS["lines"]
    example = next(task.examples(seed=1))
    example.prompt  # 'shuffle: ann, bob, cleo'
    example.response  # 'bob, ann, cleo'

:data:`TASKS` has these and all of ``diffusion_data.py``.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence

import diffusion_data
from diffusion_data import NAMES, Example, Score, Task

from grammars import Grammar

__all__ = ["DEPENDENT", "LINE_KINDS", "SENTENCE_KINDS", "TASKS", "answers", "distinct_grammar"]

LINE_KINDS = ("copy", "reverse", "sort", "shuffle", "insert at", "insert", "remove at", "remove",
              "replace at", "replace")  # fmt: skip
SENTENCE_KINDS = ("short", "medium", "long")
DEPENDENT = frozenset({"shuffle", "insert", "remove", "replace", *SENTENCE_KINDS})
"""Kinds with several right answers, whose tokens depend on each other."""
SHORTEST, LONGEST = 3, 5
"""Names in a line."""
NOUNS = ("apple", "boat", "cat", "dog", "egg", "fox", "goat", "hen", "island", "king", "lamp", "owl", "pig",
         "queen", "uncle", "wolf")  # fmt: skip
VERBS = ("sees", "finds", "likes", "wants")
PLACES = ("near", "behind", "under")
SENTENCE_FORMS = {"short": "NVN", "medium": "NVNPN", "long": "NPNVNPN"}
"""N: a noun with its article; V: a verb; P: a preposition."""


# -- waiting lines -----------------------------------------------------------------------------------


def _line(items: Sequence[str]) -> str:
    return ", ".join(items)


def _read_line(text: str) -> list[str] | None:
    return text.split(", ") if re.fullmatch("[a-z]+(?:, [a-z]+)*", text) else None


def _lines(r: random.Random) -> Iterator[Example]:
    while True:
        kind = r.choice(LINE_KINDS)
        *items, new = r.sample(NAMES, r.randint(SHORTEST, LONGEST) + 1)
        place = r.randrange(len(items))
        words = kind
        if kind in ("insert", "replace", "insert at", "replace at"):
            words += f" {new}"
        if kind.endswith(" at"):
            words += f" {place + 1}"
        prompt = f"{words}: {_line(items)}"
        yield Example(kind, prompt, r.choice(answers(Example(kind, prompt, ""))))


def _asked(example: Example) -> tuple[list[str], str, int]:
    """The line, the newcomer if there is one, and the place told, from 0."""
    words, _, line = example.prompt.partition(": ")
    new = next((word for word in words.split() if word in NAMES), "")
    place = re.search(r"\d+", words)
    return line.split(", "), new, int(place[0]) - 1 if place else 0


def answers(example: Example) -> list[str]:
    """All right responses to a prompt, each as likely in what a model learns from."""
    if example.kind in SENTENCE_KINDS:
        return _all_sentences(example)
    items, new, place = _asked(example)
    kind, _, told = example.kind.partition(" ")
    places = [place] if told else list(range(len(items) + (kind == "insert")))
    match kind:
        case "reverse":
            found = [items[::-1]]
        case "sort":
            found = [sorted(items)]
        case "shuffle":
            found = [list(order) for order in itertools.permutations(items)]
        case "insert":
            found = [[*items[:at], new, *items[at:]] for at in places]
        case "remove":
            found = [items[:at] + items[at + 1 :] for at in places]
        case "replace":
            found = [[*items[:at], new, *items[at + 1 :]] for at in places]
        case _:
            found = [items]
    return [_line(each) for each in found]


def _length(example: Example) -> int:
    return len(example.response.split(", "))


def _line_grammar(example: Example) -> Grammar:
    """Lines of the right length of names in the prompt."""
    items, new, _ = _asked(example)
    name = f"({'|'.join(sorted({*items, new} - {''}))})"
    return Grammar.from_regex(f"{name}(, {name}){{{_length(example) - 1}}}")


def distinct_grammar(example: Example) -> Grammar:
    """The same, and no word twice: what the places of a shuffle owe each other."""
    if example.kind in SENTENCE_KINDS:
        nouns = example.prompt.removeprefix("write: ").split(", ")
        orders = itertools.permutations(nouns)
        return Grammar.from_regex("|".join(_sentence_pattern(example.kind, o) for o in orders))
    items, new, _ = _asked(example)
    known = sorted({*items, new} - {""})
    return Grammar.from_choices(
        [_line(order) for order in itertools.permutations(known, _length(example))]
    )


def _line_score(example: Example, text: str) -> Score:
    found = _read_line(text)
    if found is None:
        return Score(False, False, False)
    items, new, _ = _asked(example)
    valid = len(found) == _length(example) and set(found) <= {*items, new}
    return Score(True, valid, valid and text in answers(example))


# -- sentences ---------------------------------------------------------------------------------------


def _with_article(noun: str, definite: bool) -> str:
    return f"{'the' if definite else 'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _sentences(r: random.Random) -> Iterator[Example]:
    while True:
        kind = r.choice(SENTENCE_KINDS)
        form = SENTENCE_FORMS[kind]
        nouns = r.sample(NOUNS, form.count("N"))
        order = iter(r.sample(nouns, len(nouns)))
        words = []
        for part in form:
            match part:
                case "N":
                    words.append(_with_article(next(order), r.random() < 0.5))
                case "V":
                    words.append(r.choice(VERBS))
                case _:
                    words.append(r.choice(PLACES))
        yield Example(kind, f"write: {_line(nouns)}", f"{' '.join(words)}.")


def _all_sentences(example: Example) -> list[str]:
    """Of the nouns in the prompt, each once."""
    nouns = example.prompt.removeprefix("write: ").split(", ")
    form = SENTENCE_FORMS[example.kind]
    found = []
    for order in itertools.permutations(nouns):
        left = iter(order)
        choices: list[Sequence[str]] = []
        for part in form:
            if part == "N":
                noun = next(left)
                choices.append([_with_article(noun, True), _with_article(noun, False)])
            else:
                choices.append(VERBS if part == "V" else PLACES)
        found += [f"{' '.join(words)}." for words in itertools.product(*choices)]
    return found


def _noun_pattern(nouns: Sequence[str]) -> str:
    """One of some nouns with an article that fits."""
    choices = [f"the ({'|'.join(nouns)})"]
    for article, vowel in (("an", True), ("a", False)):
        fitting = [each for each in nouns if (each[0] in "aeiou") == vowel]
        if fitting:
            choices.append(f"{article} ({'|'.join(fitting)})")
    return f"({'|'.join(choices)})"


def _sentence_pattern(kind: str, order: Sequence[str] | None, any_of: Sequence[str] = ()) -> str:
    """A sentence with nouns in an order, or with any of some nouns at each place."""
    left = iter(order or ())
    parts = []
    for part in SENTENCE_FORMS[kind]:
        if part == "N":
            parts.append(_noun_pattern([next(left)] if order else any_of))
        else:
            parts.append(f"({'|'.join(VERBS if part == 'V' else PLACES)})")
    return " ".join(parts) + r"\."


def _sentence_grammar(example: Example) -> Grammar:
    """Sentences of the right form of nouns in the prompt, with articles that fit."""
    nouns = example.prompt.removeprefix("write: ").split(", ")
    return Grammar.from_regex(_sentence_pattern(example.kind, None, nouns))


def _sentence_score(example: Example, text: str) -> Score:
    """Words and a full stop; a sentence of the form, with articles that fit; all nouns, each once."""
    if not re.fullmatch(r"[a-z]+( [a-z]+)*\.", text):
        return Score(False, False, False)
    nouns = example.prompt.removeprefix("write: ").split(", ")
    words = text.removesuffix(".").split(" ")
    at, used = 0, []
    for part in SENTENCE_FORMS[example.kind]:
        if part == "N":
            if at + 1 >= len(words) or words[at + 1] not in NOUNS:
                return Score(True, False, False)
            used.append(words[at + 1])
            if words[at] != "the" and f"{words[at]} {used[-1]}" != _with_article(used[-1], False):
                return Score(True, False, False)
            at += 2
        else:
            if at >= len(words) or words[at] not in (VERBS if part == "V" else PLACES):
                return Score(True, False, False)
            at += 1
    if at != len(words) or not set(used) <= set(nouns):
        return Score(True, False, False)
    return Score(True, True, sorted(used) == sorted(nouns))


# -- all of them -------------------------------------------------------------------------------------

TASKS: dict[str, Task] = {
    **diffusion_data.TASKS,
    "lines": Task(
        "lines",
        canvases=(12,),
        vocabulary=512,
        words=True,
        stream=_lines,
        grammar=_line_grammar,
        score=_line_score,
    ),
    "sentences": Task(
        "sentences",
        canvases=(24,),
        vocabulary=512,
        words=True,
        stream=_sentences,
        grammar=_sentence_grammar,
        score=_sentence_score,
    ),
}
"""The tasks by name."""
