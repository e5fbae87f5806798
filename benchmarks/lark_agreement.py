"""Agreement with lark on Lark grammars, grammar by grammar: those lark ships, and random ones.

For each grammar and each way of lexing, texts are read by lark and by ours:

* ``contextual``: by ``Lark(parser="lalr")`` where the LALR table has no conflict; where it has one,
  by a parser that follows every reading over lark's own item sets, with lark's own lexer in each
  state (:func:`every_reading`), of which lark's LALR parser may only accept a part;
* ``basic``: by ``Lark(parser="earley", lexer="basic")``;
* ``dynamic`` and ``dynamic_complete``: by ``Lark(parser="earley")`` with that lexer.

Texts are all texts over a few letters up to a length, samples of ours, and mutations of these.

    python benchmarks/lark_agreement.py --random 100 --seed 1
    python benchmarks/lark_agreement.py --file go.lark --file sql.lark --texts programs/

With ``--file`` grammars of others are read instead, mutations of the files of ``--texts`` among the texts;
those that declare ``_INDENT`` with lark's indenter for Python, behind ``_NL`` where they have that.
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import lark
from lark.common import LexerConf, ParserConf
from lark.indenter import DedentError, Indenter, PythonIndenter
from lark.lexer import BasicLexer, LexerState
from lark.load_grammar import load_grammar
from lark.parsers.lalr_analysis import LALR_Analyzer
from lark.utils import TextSlice

from grammars import Grammar, GrammarError

Reader = Callable[[str], bool]
WAYS: Final = ("contextual", "basic", "dynamic", "dynamic_complete")


_INDENTER_ERRORS: Final = (DedentError, AssertionError, IndexError)
"""What lark's indenter raises for widths, closing brackets and newlines without a line end."""


class CannotTellError(Exception):
    """lark itself fails on a text, by an error that is not about the text."""


# -- what lark reads ---------------------------------------------------------------------------


def lark_reader(source: str, start: str = "start", **options: Any) -> Reader:
    """Whether ``lark.Lark`` with these options parses a text."""
    parser = lark.Lark(source, start=start, **options)

    def reads(text: str) -> bool:
        try:
            parser.parse(text)
        except (lark.exceptions.UnexpectedInput, *_INDENTER_ERRORS):
            return False
        except RecursionError as error:
            raise CannotTellError from error
        except RuntimeError as error:
            if "multiple start symbol items" not in str(error):
                raise
            # a bug of lark: it read the text, once with what is ignored at the end and once without
        return True

    return reads


def item_sets(source: str, start: str) -> tuple[Any, Any, Any, list[str]]:
    """Lark's analysis of a grammar, with its terminals and the ignored ones; conflicts stay."""
    grammar, _ = load_grammar(source, "<grammar>", [], False)
    terminals, rules, ignored = grammar.compile([start], set())
    analysis = LALR_Analyzer(ParserConf(list(rules), {}, [start]))
    analysis.compute_lr0_states()
    analysis.compute_reads_relations()
    analysis.compute_includes_lookback()
    analysis.compute_lookaheads()
    return analysis, analysis.lr0_start_states[start], terminals, list(ignored)


def has_conflict(analysis: Any) -> bool:
    """Whether some state has two actions for one terminal."""
    return any(
        len(rules) > 1 or symbol in state.transitions
        for state in analysis.lr0_itemsets
        for symbol, rules in state.lookaheads.items()
    )


def every_reading(source: str, start: str = "start") -> Reader:
    """Whether any sequence of actions of lark's table, conflicts left open, reads a text.

    Stacks of item sets, one after another; in each the next token is what lark's own lexer for the
    terminals of the topmost one gives.
    """
    _, first, terminals, ignored = item_sets(source, start)
    (accepting,) = [t for s, t in first.transitions.items() if s.name == start]
    lexers: dict[Any, BasicLexer] = {}
    BasicLexer(LexerConf(terminals, re, ignored))  # lark checks all terminals at once

    def lexer(state: Any) -> BasicLexer:
        if state not in lexers:
            names = {s.name for s in state.transitions if s.is_term}
            names |= {s.name for s in state.lookaheads} | set(ignored)
            kept = [t for t in terminals if t.name in names]
            lexers[state] = BasicLexer(LexerConf(kept, re, ignored))
        return lexers[state]

    def token(state: Any, text: str, at: int) -> tuple[str, int] | None:
        whole = LexerState(TextSlice(text, 0, len(text)))
        whole.line_ctr.char_pos = at
        try:
            made: Any = lexer(state).next_token(whole)
        except EOFError:
            return "$END", len(text)
        except lark.exceptions.UnexpectedCharacters:
            return None
        return made.type, made.end_pos

    def reads(text: str) -> bool:
        most = 3 * len(text) + 12
        # a token is read once, where the one before was shifted, and kept while rules are reduced
        todo = [((first,), token(first, text, 0))]
        seen = set(todo)
        while todo:
            stack, read = todo.pop()
            if read is None:
                continue
            if len(seen) > 200_000:
                raise CannotTellError
            name, end = read
            for shifted, after in _after(stack, name):
                if name == "$END" and after == (first, accepting):
                    return True
                state = (after, token(after[-1], text, end) if shifted else read)
                if len(after) <= most and state not in seen:
                    seen.add(state)
                    todo.append(state)
        return False

    return reads


def _after(stack: tuple[Any, ...], name: str) -> Iterable[tuple[bool, Any]]:
    """The stacks behind each action for a terminal, and whether it was shifted."""
    top = stack[-1]
    for symbol, target in top.transitions.items():
        if symbol.is_term and symbol.name == name:
            yield True, (*stack, target)
    for symbol, rules in top.lookaheads.items():
        if symbol.name != name:
            continue
        for rule in rules:
            rest = stack[: len(stack) - len(rule.expansion)]
            target = rest[-1].transitions.get(rule.origin)
            if target is not None:
                yield False, (*rest, target)


def indenter_of(source: str) -> Indenter | None:
    """Lark's indenter for Python where a grammar declares ``_INDENT``, behind its newline."""
    if not re.search(r"^%declare\b.*\b_INDENT\b", source, re.MULTILINE):
        return None
    named = [name for name in ("_NEWLINE", "_NL") if re.search(rf"^{name}\b", source, re.MULTILINE)]
    made = PythonIndenter()
    made.NL_type = named[0]  # type: ignore[misc]
    return made


def reference(source: str, way: str, start: str = "start") -> tuple[Reader, Reader | None]:
    """What reads the same texts, and lark's LALR parser where it may only read a part of them."""
    indenter = indenter_of(source)
    if indenter is not None:  # conflicts are shifted, though ours leaves them open
        return lark_reader(source, start, parser="lalr", lexer=way, postlex=indenter), None
    if way != "contextual":
        return lark_reader(source, start, parser="earley", lexer=way), None
    if not has_conflict(item_sets(source, start)[0]):
        return lark_reader(source, start, parser="lalr"), None
    part = None
    with suppress(lark.exceptions.GrammarError):  # a conflict between two rules, which lark refuses
        part = lark_reader(source, start, parser="lalr")
    return every_reading(source, start), part


# -- random grammars and texts -----------------------------------------------------------------

_LETTERS: Final = "abc"


def random_pattern(rng: random.Random, depth: int = 2) -> str:
    """A pattern over few letters, lazy and counted repetitions and look-around included."""
    if depth == 0:
        return rng.choice(["a", "b", "c", "[ab]", "[^a]", "ab", "."])
    shape = rng.randrange(6)
    inner = random_pattern(rng, depth - 1)
    if shape == 0:
        return inner
    if shape == 1:
        return inner + random_pattern(rng, depth - 1)
    if shape == 2:
        return f"(?:{inner}|{random_pattern(rng, depth - 1)})"
    if shape == 3:
        return f"(?:{inner}|){random_pattern(rng, depth - 1)}"
    times = rng.choice(["*", "+", "?", "{2}", "{1,2}", "{0,2}", "{2,4}", "{3,}"])
    around = rng.choice([""] * 5 + ["(?!b)", "(?=a)", r"\b", "(?<=a)", "(?<!b)"])
    before = rng.choice([""] * 9 + [r"\b", "(?<=a)", "(?<!b)", "^", r"\B"])
    if rng.random() < 0.15:
        before += random_exclusion(rng)
    return f"{before}(?:{inner}){times}{rng.choice(['', '', '?'])}{around}"


def random_exclusion(rng: random.Random) -> str:
    """A negative look-ahead as in patterns of names that are no keywords, look-ahead inside it."""
    words = "|".join(random_pattern(rng, rng.choice((0, 0, 1))) for _ in range(rng.randint(1, 2)))
    ending = rng.choice(("", r"\b", r"\b", "$", "(?!b)", "(?![ab])", "(?=c)", "(?=bc)", r"(?!\w)"))
    return f"(?!(?:{words}){ending})"


def random_grammar(rng: random.Random) -> str:
    """A grammar of terminals that overlap, with conflicts more often than not."""
    names = ["A", "B", "C", "D"][: rng.randint(2, 4)]
    lines = []
    for name in names:
        priority = rng.choice(["", "", "", ".2", ".-1"])
        if rng.random() < 0.5:
            literal = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(1, 3)))
            lines.append(f'{name}{priority}: "{literal}"{rng.choice(["", "", "i"])}')
        else:
            lines.append(f"{name}{priority}: /{random_pattern(rng)}/")
    symbols = [*names, "x", '"a"', '"ab"', '"c"']
    for rule in ("start", "x"):
        branches = [
            " ".join(
                rng.choice(symbols) + rng.choice(["", "", "", "?", "*", "+", "~1..2"])
                for _ in range(rng.randint(1, 3))
            )
            for _ in range(rng.randint(1, 3))
        ]
        lines.append(f"{rule}: " + " | ".join(branches))
    lines[-1] += f" | {rng.choice(names)}"
    ignored = rng.choice(["", "", '"c"', names[-1], "/c+/", "/[ac]/"])
    if ignored:
        lines.append(f"%ignore {ignored}")
    return "\n".join(lines)


def every_text(alphabet: str, length: int) -> list[str]:
    """All texts of at most so many letters."""
    return [
        "".join(letters)
        for n in range(length + 1)
        for letters in itertools.product(alphabet, repeat=n)
    ]


def mutated(rng: random.Random, text: str) -> str:
    """A text with one letter dropped, doubled, moved or replaced by another of it."""
    if not text:
        return "a"
    i, j = rng.randrange(len(text)), rng.randrange(len(text))
    return rng.choice(
        [
            text[:i] + text[i + 1 :],
            text[:i] + text[i] + text[i:],
            text[:i] + text[j] + text[i + 1 :],
            text[:i] + text[j:] if i < j else text[:i],
        ]
    )


def texts_for(grammar: Grammar, rng: random.Random, count: int) -> list[str]:
    """Samples of ours, and as many mutated ones."""
    if grammar.is_empty:
        return []
    found = []
    for _ in range(count):
        sample = grammar.sample(seed=rng.randrange(1 << 30)).decode()[:400]
        found += [sample, mutated(rng, sample)]
    return found


# -- comparison --------------------------------------------------------------------------------


@dataclass
class Tally:
    """Counts of one grammar and one way of lexing."""

    cases: int = 0
    accepted: int = 0
    wrong: list[str] = field(default_factory=list)
    unknown: int = 0
    refused: str = ""


def compare(
    source: str, way: str, rng: random.Random, texts: Sequence[str], samples: int, start: str
) -> Tally:
    """Reads texts both ways."""
    tally = Tally()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reads, part = reference(source, way, start)
            reads("zzz")
            theirs = ""
        except CannotTellError:
            theirs = ""
        except (lark.exceptions.LarkError, AssertionError) as error:
            theirs = f"lark: {str(error).splitlines()[0]}"
        try:
            grammar = Grammar.from_lark(source, start, lexer=way)  # type: ignore[arg-type]
        except GrammarError as error:
            tally.refused = theirs or f"ours: {error.message}"
            return tally
        if theirs:
            tally.wrong.append(f"only refused by {theirs}")
            return tally
        for text in [*texts, *texts_for(grammar, rng, samples)]:
            tally.cases += 1
            ours = grammar.accepts(text)
            try:
                expected = reads(text)
                if expected != ours or (part is not None and part(text) and not ours):
                    tally.wrong.append(text)
                tally.accepted += expected
            except CannotTellError:
                tally.unknown += 1
    return tally


LALR_GRAMMARS: Final = {
    "json": (
        "start: value\n"
        "?value: object | array | ESCAPED_STRING | SIGNED_NUMBER"
        ' | "true" | "false" | "null"\n'
        'array: "[" [value ("," value)*] "]"\n'
        'object: "{" [pair ("," pair)*] "}"\n'
        'pair: ESCAPED_STRING ":" value\n'
        "%import common (ESCAPED_STRING, SIGNED_NUMBER, WS)\n"
        "%ignore WS\n"
    ),
    "arithmetic": (
        '?start: sum\n?sum: product | sum "+" product | sum "-" product\n'
        '?product: atom | product "*" atom | product "/" atom\n'
        '?atom: NUMBER | "-" atom | NAME | "(" sum ")"\n'
        "%import common (NUMBER, WS_INLINE)\n%import common.CNAME -> NAME\n%ignore WS_INLINE\n"
    ),
    "sums, ambiguous": 'start: e ";" NL\nA_WS: /\\s+/\nNL: /\\n+/\nN: /[0-9]+/\n'
    'e: e A_WS "+" A_WS e | N',
    "dangling else": (
        'start: s\ns: "if" NAME s | "if" NAME s "else" s | NAME "=" NAME\n'
        "%import common.CNAME -> NAME\n%import common.WS\n%ignore WS\n"
    ),
    "comments": (
        'start: ("a" | "/" | "*" | ESCAPED_STRING)*\n'
        "%import common (C_COMMENT, CPP_COMMENT, ESCAPED_STRING, WS)\n"
        "%ignore C_COMMENT\n%ignore CPP_COMMENT\n%ignore WS\n"
    ),
}
"""Grammars as people write them."""


def shipped() -> dict[str, tuple[str, str]]:
    """Grammars in lark's wheel and as people write them: name to text and start."""
    out = {name: (text, "start") for name, text in LALR_GRAMMARS.items()}
    from importlib.resources import files

    out["lark.lark"] = (files("lark").joinpath("grammars/lark.lark").read_text(), "start")
    common = files("lark").joinpath("grammars/common.lark").read_text()
    for name in re.findall(r"^([A-Z_]+):", common, re.MULTILINE):
        if not name.startswith("_"):
            out[f"common.{name}"] = (
                f'start: ({name} ":"?)*\n%import common.{name}\n',
                "start",
            )
    return out


def _letters(source: str) -> str:
    words = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', source))
    return "".join(dict.fromkeys(words + "a1 \n"))[:5]


def main() -> int:
    """Prints the table; the status is 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--random", type=int, default=50, help="random grammars")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=60, help="texts sampled of each grammar")
    parser.add_argument("--only", default="", help="grammars whose names contain this")
    parser.add_argument("--file", type=Path, action="append", help="a grammar, instead of these")
    parser.add_argument("--start", default="start", help="its start rule")
    parser.add_argument("--texts", type=Path, help="files in the languages of --file, by its stem")
    parser.add_argument("--mutations", type=int, default=300, help="of these texts")
    parser.add_argument("--lexer", action="append", choices=WAYS, help="for --file; else all")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    print("| grammar | lexer | cases | accepted | agree | lark cannot tell | wrong | refused |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    wrong = 0
    if options.file:
        return _files(options, rng)
    grammars = [
        (name, source, start, every_text(_letters(source), 3))
        for name, (source, start) in shipped().items()
    ]
    for name, source, start, texts in grammars:
        if options.only not in name:
            continue
        for way in WAYS:
            tally = compare(source, way, rng, texts, options.samples, start)
            wrong += len(tally.wrong)
            _row(name, way, tally)
    wrong += _random_rows(rng, options.random)
    return 1 if wrong else 0


def _files(options: argparse.Namespace, rng: random.Random) -> int:
    """Grammars of others: samples of ours, and the texts of the folder named as each, mutated."""
    wrong = 0
    for path in options.file:
        source = path.read_text("utf-8")
        folder = options.texts / path.stem if options.texts else None
        found = [x.read_text("utf-8") for x in sorted(folder.iterdir())] if folder else []
        changed = [
            _changed(rng, rng.choice(found)) for _ in range(options.mutations if found else 0)
        ]
        for way in options.lexer or WAYS:
            tally = compare(source, way, rng, [*found, *changed], options.samples, options.start)
            wrong += len(tally.wrong)
            _row(path.name, way, tally)
    return 1 if wrong else 0


def _changed(rng: random.Random, text: str) -> str:
    """A text with one word dropped, doubled, replaced by another or joined to the next."""
    words = re.findall(r"\w+|[^\w\s]|\s+", text)
    i, j = rng.randrange(len(words)), rng.randrange(len(words))
    match rng.randrange(5):
        case 0:
            del words[i]
        case 1:
            words.insert(i, words[i])
        case 2:
            words[i] = words[j]
        case 3:
            words[i] = mutated(rng, words[i])
        case _:
            words.insert(i, words[j])
    return "".join(words)


def _random_rows(rng: random.Random, count: int) -> int:
    totals = {way: Tally() for way in WAYS}
    reasons: dict[str, Counter[str]] = {way: Counter() for way in WAYS}
    texts = every_text("abcA", 4) + every_text("abc", 6)[363:700]
    for _ in range(count):
        source = random_grammar(rng)
        for way in WAYS:
            tally = compare(source, way, rng, texts, 10, "start")
            total = totals[way]
            total.cases += tally.cases
            total.accepted += tally.accepted
            total.unknown += tally.unknown
            total.wrong += tally.wrong
            if tally.wrong:
                print(f"WRONG {way} {tally.wrong[:5]}\n{source}\n", file=sys.stderr)
            if tally.refused:
                reasons[way][_gist(tally.refused)] += 1
    for way, total in totals.items():
        total.refused = "; ".join(f"{n} x {why}" for why, n in reasons[way].most_common(6))
        _row(f"{count} random", way, total)
    return sum(len(total.wrong) for total in totals.values())


def _gist(refused: str) -> str:
    """A refusal without what is particular to one grammar."""
    if refused.startswith("lark"):
        return "refused by lark too"
    return re.sub(r"\bterminal .*?uses", "a terminal uses", refused)


def _row(name: str, way: str, tally: Tally) -> None:
    agree = tally.cases - len(tally.wrong) - tally.unknown
    numbers = (tally.cases, tally.accepted, agree, tally.unknown, len(tally.wrong))
    print(f"| {name} | {way} | {' | '.join(f'{n:,}' for n in numbers)} | {tally.refused[:300]} |")
    for text in tally.wrong[:5]:
        print(f"  wrong: {text!r}", file=sys.stderr)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
