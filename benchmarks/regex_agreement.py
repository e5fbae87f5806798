r"""Whether regexes mean what ``re.fullmatch`` says: random patterns, and those that people write.

Patterns of each family are made at random, from the same seed the same.  Texts for one are all short
ones over the characters it speaks of, samples of its grammar, and both cut, doubled, swapped and altered
a little, as that is where mistakes show.  References are ``re.fullmatch``; for properties (``\p{...}``)
and for look-behind of any width, as ECMA-262 has it, the package ``regex``.

A row tells of one family: patterns, texts, texts on which both agree, how many of these match, patterns
that are refused and why, texts on which they differ.

``--costs`` prints instead what each pattern that people write costs to compile.

Usage: ``python benchmarks/regex_agreement.py [--patterns 200] [--texts 60] [--seed 1] [--costs]``
"""

from __future__ import annotations

import argparse
import itertools
import random
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import regex
from reporting import say, table

from grammars import Grammar, GrammarError, LimitExceeded
from grammars.frontends.regex.ecma import ecma_search_to_expr
from grammars.frontends.regex.python import regex_to_ir
from grammars.ir import Machine, single_rule

Reference: TypeAlias = Callable[[str], bool]

# -- what people write -----------------------------------------------------------------------------

WRITTEN: Final[dict[str, tuple[str, ...]]] = {
    # PEP 621, names of projects and of normalised ones
    r"^([a-zA-Z\d]|[a-zA-Z\d][\w.-]*[a-zA-Z\d])$": ("a", "a.b-c", "Foo_1", "é1a"),
    r"(?i)^([A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])$": ("zope.interface", "A", "a-", "ſ"),
    r"^(?!.*(?:--|__|\.\.))[a-z\d](?:[\w.-]*[a-z\d])?$": ("a-b", "a--b", "a.b_c"),
    # semver.org
    r"^(?P<major>0|[1-9]\d*)\.(?P<minor>0|[1-9]\d*)\.(?P<patch>0|[1-9]\d*)"
    r"(?:-(?P<prerelease>(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+(?P<buildmetadata>[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$": (
        "1.2.3", "1.0.0-alpha.1+b.7", "01.2.3", "1.2.3-01", "1.2.3-0a",
    ),
    # e-mail
    r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$": ("a@b.c", "a.b+c@d-e.fg", "a@-b"),
    r"^(?!\.)(?!.*\.\.)[\w.+-]*[\w+-]@(?:[a-z\d](?:[a-z\d-]*[a-z\d])?\.)+[a-z]{2,}$": (
        "a@b.cd", ".a@b.cd", "a..b@c.de", "a.@b.cd", "a@b-.cd",
    ),
    # dates and times
    r"^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$": ("2024-02-30", "2024-13-01"),
    r"^(?:(?!0000)\d{4})-(?:(?:0[13578]|1[02])-31|(?:0[13-9]|1[0-2])-(?:29|30)|"
    r"(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8]))$": ("2024-04-31", "2024-01-31", "0000-01-01"),
    r"^([01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z|[+-][01]\d:[0-5]\d)?$": (
        "23:59", "24:00", "12:30:00.5+01:00",
    ),
    # passwords
    r"^(?=.*[A-Z])(?=.*\d).{8,}$": ("Abcdefg1", "abcdefg1", "A1", "Abc\ndef1"),
    r"^(?=.*?[A-Z])(?=.*?[a-z])(?=.*?[0-9])(?=.*?[#?!@$%^&*-]).{8,}$": ("Abcdef1!", "Abcdefg1"),
    r"^(?!.*(.)\s)(?=\S{6,}$).*$": ("abcdef", "ab cdef", "abcde"),
    r"(?=.{8,12}$)(?!.*password)(?=.*\d)[a-z\d]+": ("abcdefg1", "password1", "a1"),
    # comments and tags
    r"<!--(?:(?!-->).)*-->": ("<!-- a - b -->", "<!---->", "<!-- --> -->", "<!--->"),
    r"(?s)<!--(?!>|->)(?:(?!--).)*-->": ("<!--a\n-->", "<!--->", "<!-- -- -->"),
    r"/\*(?:(?!\*/).)*\*/": ("/* a * b */", "/**/", "/* */ */", "/*/"),
    r"/\*(?:[^*]|\*(?!/))*\*/": ("/***/", "/* */ */"),
    r"(?:(?!</a>).)*</a>": ("x</a>", "</a></a>", "<</a>"),
    r"<(?P<t>b|i)>(?:(?!</(?:b|i)>).)+</(?:b|i)>": ("<b>x</b>", "<b></b>", "<i>a</b>x</i>"),
    r"```(?:(?!```)[\s\S])*```": ("```a``b```", "``````", "```a````"),
    r"<think>(?:(?!</think>)[\s\S])*</think>\s*[^<]+": ("<think>a</think> b", "<think>"),
    # strings
    r'"(?:[^"\\\n]|\\.)*"': ('"a\\"b"', '"a"b"'),
    r"'(?:(?!'|\\).|\\.)*'": ("'a\\'b'", "'a'b'"),
    r'(?s)""".*?(?<!\\)(?:\\\\)*"""': ('"""a"""', '"""a\\"""'),
    r"'(?>[^'\\]+|\\.)*+'": ("'ab'", "'a\\'", "'"),
    r'"[^"]*+"': ('"a"', '"a""'),
    # places on machines and networks
    r"^(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*$": (
        "a.b-c", "a.-b", "a-.b", "-a",
    ),
    r"^(?=.{1,255}$)(?:(?!\d+\.)[a-zA-Z0-9_-]{1,63}\.?)+(?:[a-zA-Z]{2,})$": ("a.b.com", "1.com"),
    r"^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$": ("1.2.3.4", "1.2.3.4.", "256.1.1.1"),
    r"^(?:[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::\w[\w.-]{0,127})?$": ("library/ubuntu:22.04", "a__b/c--d", "a___b", "a/"),
    r"^https?://(?:[\w-]+\.)+[a-z]{2,}(?::\d{1,5})?(?:/[^\s?#]*)?(?:\?[^\s#]*)?(?:#\S*)?$": (
        "https://a.bc/d?e#f", "http://a", "https://a.bc:99999999",
    ),
    r"^(?!.*//)/?(?:[\w.-]+/)*[\w.-]*$": ("/a/b.c", "a//b", ""),
    r"^(?!(?:CON|PRN|AUX|NUL)(?:\.|$))[^<>:\"/\\|?*\x00-\x1f]*[^<>:\"/\\|?*\x00-\x1f. ]$": (
        "a.txt", "CON", "CON.txt", "CONS", "a.",
    ),
    r"\b(?:[0-9a-fA-F]{2}(?P<s>[:-]))(?:[0-9a-fA-F]{2}[:-]){4}[0-9a-fA-F]{2}\b": (
        "00:1a-2b:3c:4d:5e",
    ),
    # names
    r"(?!(?:if|else|while)\b)[a-z_]\w*": ("if", "iff", "else_", "elsewhere", "while"),
    r"^(?!(?:class|def)$)[a-z]+(?:\.(?!(?:class|def)(?!\w))[a-z]+)*$": ("a.class", "def", "define.a"),
    # numbers and words
    r"^(?!0\d)\d{1,3}(?:,\d{3})*(?:\.\d+)?$": ("1,234.5", "01", "0", "1,23"),
    r"^(?:(?=(?:\d{3})+$)\d{3}|\d{1,2}(?=(?:\d{3})*$))(?:\d{3})*$": ("1", "1234", "123456"),
    r"^M{0,4}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})(?<!^)$": ("XIV", "", "IIII"),
    r"^(a(?!bb))*b*$": ("aab", "aabb", "abab", ""),
    r"^(?:(?!\b(?:and|or)\b)\w+\s?)+$": ("candy orb", "a or b", "or"),
    r"^(?:\w+(?:(?<=[a-z])-(?=[a-z]))?)+$": ("a-b", "a-1", "1-a"),
    r"\b\w+(?<!s)\b(?: \b\w+(?<!s)\b)*": ("a bc", "as b", "a bs"),
    r"(?x) ^ (?= [^a]* a ) [a-z]{2,5} $  # has an a": ("ba", "bc", "bbbbba"),
    r"(?i)(?:select|from) (?-i:[a-z_]+)": ("SELECT a", "Select A"),
}  # fmt: skip
"""Patterns, with texts to begin from."""


# -- random patterns -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """What patterns of one kind are made of.

    Attributes:
        atoms: parts for one character or position.
        wraps: groups around a part, ``{}`` in its place.
        suffixes: quantifiers.
        alphabet: what texts are made of.
        reference: the reference for a pattern; ``None`` if it refuses the pattern.
        heads: what may stand at a pattern's beginning.
        ecma: read by the front end of ECMA-262, found anywhere.
    """

    atoms: tuple[str, ...]
    wraps: tuple[str, ...] = ("(?:{})",)
    suffixes: tuple[str, ...] = ("*", "+", "?", "{2}", "{1,3}", "*?", "+?", "??", "{2,}", "{,2}")
    alphabet: str = "ab\n"
    heads: tuple[str, ...] = ("",)
    ecma: bool = False

    def reference(self, pattern: str) -> Reference | None:
        """The reference for a pattern, unless it refuses the pattern."""
        try:
            if self.ecma:
                found = regex.compile(pattern.replace("$", r"\Z"), regex.ASCII)
                return lambda text: found.search(text, timeout=5) is not None
            if "\\p" in pattern or "\\P" in pattern:
                re.compile(_PROPERTY.sub("x", pattern))  # else: look-behind of any width
                known = regex.compile(pattern)
                return lambda text: known.fullmatch(text, timeout=5) is not None
            own = re.compile(pattern)
        except (re.error, regex.error):
            return None
        return lambda text: own.fullmatch(text) is not None

    def grammar(self, pattern: str) -> Grammar:
        """The grammar of a pattern."""
        if self.ecma:
            return Grammar(single_rule(ecma_search_to_expr(pattern, loose=True)))
        return Grammar.from_regex(pattern)


_PROPERTY: Final = re.compile(r"\\[pP](?:\{[^}]*\}|[A-Z])")
_LETTERS: Final = ("a", "b", "ab", "ba", "[ab]", "[^a]", ".", r"\n", "")
_EDGES: Final = (
    "^", "$", r"\b", r"\B", r"\A", r"\Z", "(?m:^)", "(?m:$)", r"(?a:\b)",
)  # fmt: skip
_LOOKS: Final = ("(?={})", "(?!{})", "(?<={})", "(?<!{})")

FAMILIES: Final[dict[str, Family]] = {
    "plain": Family((*_LETTERS, r"\w", r"\s", r"[\s\S]", "a|b", "(?s:.)")),
    "anchors and boundaries": Family((*_LETTERS, *_EDGES, r"\w", r"\W", " "), alphabet="a \n"),
    "look-around": Family(
        (*_LETTERS, "$", "^"), wraps=("(?:{})", *_LOOKS, *_LOOKS), suffixes=("?", "", "", "{1}")
    ),
    "look-around, repeated": Family(_LETTERS, wraps=("(?:{})", *_LOOKS)),
    "look-around and boundaries": Family(
        (*_LETTERS, *_EDGES, r"\w", " "), wraps=("(?:{})", *_LOOKS), alphabet="a \n"
    ),
    "names that are no keywords": Family(
        (*_LETTERS, r"\w"),
        wraps=(
            "(?:{})",
            r"(?!(?:{})\b)[ab]+",
            r"(?!(?:{})(?!\w))\w*",
            "(?!(?:{})$)[ab]*",
            "(?!(?!{})[ab])",
            "(?=(?:{})(?!b)).",
        ),
        alphabet="ab \n",
    ),
    "atomic, possessive": Family(
        _LETTERS,
        wraps=("(?:{})", "(?>{})", "(?>{})"),
        suffixes=("*", "+", "?", "*+", "++", "?+", "{1,2}+", "{2}+", "*?", "??", "{1,2}", "+?"),
    ),
    "atomic with look-around": Family(
        (*_LETTERS, "$", r"\b"),
        wraps=("(?:{})", "(?>{})", *_LOOKS),
        suffixes=("*", "+", "?", "*+", "++", "?+", "*?", "??", "{1,2}"),
    ),
    "flags": Family(
        ("a", "k", "[a-k]", "[^k]", ".", r"\w", r"\d", r"\s", "^", "$", r"\b", "ſ", "ß", " ", "İ"),
        wraps=("(?:{})", "(?i:{})", "(?-i:{})", "(?s:{})", "(?m:{})", "(?x:{})", "(?a:{})", "(?-x:{})",
               "(?ai-s:{})", "(?!{})", "(?={})"),
        alphabet="aAkK\u212asſSßẞiİ \n٣",
        heads=("", "(?i)", "(?s)", "(?m)", "(?x)", "(?a)", "(?ims)", "(?ia)"),
    ),
    "properties": Family(
        (r"\p{L}", r"\P{L}", r"\p{Greek}", r"\p{Script=Latin}", r"\p{scx=Deva}", r"\p{Lu}", r"\pN",
         r"[\p{Ll}_]", r"[^\p{Lu}\d]", r"\p{Emoji}", r"\p{Extended_Pictographic}", r"\p{ID_Start}",
         r"\p{Alphabetic}", r"\p{White_Space}", r"\p{^L}", r"[^\P{L}]", r"[\P{Greek}a]", "a", "."),
        wraps=("(?:{})", "(?={})", "(?!{})", "(?<={})", "(?<!{})"),
        alphabet="aAαΩ1٣ \n😀✂#ªǅ।क_µ",
        heads=("", "", "(?i)"),
    ),
    "ECMA-262, look-behind of any width": Family(
        ("a", "b", "ab", "[ab]", "[^a]", ".", r"\w", r"\b", "^", "$", "-"),
        wraps=("(?:{})", *_LOOKS),
        suffixes=("*", "+", "?", "{2}", "{1,3}", "*?", "{2,}"),
        alphabet="ab-",
        ecma=True,
    ),
}  # fmt: skip


def random_pattern(family: Family, rng: random.Random) -> str:
    """A pattern of a family."""
    return rng.choice(family.heads) + _part(family, rng, rng.randint(2, 7), _DEEPEST)


_DEEPEST: Final = 2
"""Repetitions within each other: with more ``re`` takes minutes for some short texts."""
_LONGEST: Final = 12
"""Characters of texts made for random patterns, for the same reason."""


def _part(family: Family, rng: random.Random, size: int, repeats: int) -> str:
    if size <= 1:
        return rng.choice(family.atoms)
    way = rng.random()
    if way < 0.6:
        first = rng.randint(1, size - 1)
        one, other = (_part(family, rng, n, repeats) for n in (first, size - first))
        return one + other if way < 0.4 else rng.choice(family.wraps).format(f"{one}|{other}")
    if way < 0.8 or not repeats:
        return rng.choice(family.wraps).format(_part(family, rng, size - 1, repeats))
    return f"(?:{_part(family, rng, size - 1, repeats - 1)}){rng.choice(family.suffixes)}"


# -- texts -----------------------------------------------------------------------------------------


def texts_for(
    grammar: Grammar, alphabet: str, count: int, rng: random.Random, begun: tuple[str, ...] = ()
) -> list[str]:
    """Texts in the language and near it, among them all of the shortest over an alphabet."""
    out = ["", *alphabet, *begun]
    out += ["".join(t) for t in itertools.product(alphabet, repeat=2)][: count // 4]
    near = [*begun, *_samples(grammar, rng, 80 if begun else _LONGEST)]
    while len(out) < count:
        if near and rng.random() < 0.7:
            text = rng.choice(near)
            for _ in range(rng.randint(0, 2)):
                text = mutated(text, alphabet, rng)
            out.append(text)
        else:
            out.append("".join(rng.choices(alphabet, k=rng.randint(2, 7))))
    return list(dict.fromkeys(out))[:count]


def _samples(grammar: Grammar, rng: random.Random, longest: int) -> Iterator[str]:
    if grammar.is_empty:
        return
    for _ in range(8):
        text = grammar.sample(seed=rng.randrange(1 << 30)).decode()
        if len(text) <= longest:
            yield text


def mutated(text: str, alphabet: str, rng: random.Random) -> str:
    """The text with one thing changed."""
    i = rng.randint(0, len(text))
    j = min(len(text), i + rng.randint(1, 2))
    match rng.randrange(6):
        case 0:
            return text[:i] + text[j:]
        case 1:
            return text[:i] + rng.choice(alphabet) + text[i:]
        case 2:
            return text[:i] + rng.choice(alphabet) + text[j:]
        case 3:
            return text[:i]
        case 4:
            return text[:j] + text[i:]
    return text + rng.choice((alphabet[0], "\n", text[-1:]))


# -- comparing -------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What came of the patterns of a family."""

    patterns: int = 0
    texts: int = 0
    matches: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    differences: list[tuple[str, str, bool]] = field(default_factory=list)

    def record(self, name: str) -> dict[str, Any]:
        """A row of the table."""
        refused = ", ".join(f"{n} {why}" for why, n in self.refused.most_common())
        return {
            "family": name,
            "patterns": self.patterns,
            "texts": self.texts,
            "agree": self.texts - len(self.differences),
            "of these match": self.matches,
            "refused": refused or 0,
            "differences": len(self.differences),
        }


def compare(
    outcome: Outcome,
    family: Family,
    pattern: str,
    count: int,
    rng: random.Random,
    begun: tuple[str, ...] = (),
) -> None:
    """Adds the comparison of one pattern, unless the reference refuses it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = family.reference(pattern)
        if reference is None:
            return
        outcome.patterns += 1
        try:
            grammar = family.grammar(pattern)
        except LimitExceeded as error:
            outcome.refused[f"Limits.{error.limit}"] += 1
            return
        except GrammarError as error:
            outcome.refused["repeats what may be empty, atomically"
                            if "may be empty" in error.message else error.message] += 1  # fmt: skip
            return
    alphabet = family.alphabet or "".join(sorted({*"".join(begun), "a", "\n"}))
    for text in texts_for(grammar, alphabet, count, rng, begun):
        outcome.texts += 1
        wanted = reference(text)
        outcome.matches += wanted
        if grammar.accepts(text) != wanted:
            outcome.differences.append((pattern, text, wanted))


def compare_all(patterns: int, texts: int, seed: int) -> dict[str, Outcome]:
    """All families, and the patterns that people write."""
    out: dict[str, Outcome] = {}
    for name, family in FAMILIES.items():
        say(name)
        rng = random.Random(f"{seed} {name}")
        outcome = out[name] = Outcome()
        while outcome.patterns < patterns:
            compare(outcome, family, random_pattern(family, rng), texts, rng)
    say("written")
    rng = random.Random(f"{seed} written")
    outcome = out["as people write them"] = Outcome()
    people = Family((), alphabet="")
    for pattern, begun in WRITTEN.items():
        compare(outcome, people, pattern, 4 * texts, rng, begun)
    return out


def costs() -> Iterator[dict[str, Any]]:
    """What compiling each pattern that people write takes, tables of characters being there."""
    for pattern in WRITTEN:
        Grammar(regex_to_ir(pattern))
        begun = time.process_time()
        ir = regex_to_ir(pattern)
        read = time.process_time()
        grammar = Grammar(ir)
        done = time.process_time()
        expr = ir.rules[0].body
        yield {
            "pattern": f"`{pattern}`".replace("|", "\\|"),
            "as": "automaton" if isinstance(expr, Machine) else "expression",
            "read, ms": round(1e3 * (read - begun), 1),
            "compiled, ms": round(1e3 * (done - read), 1),
            "states": grammar.program.states,
        }


def main() -> None:
    """Prints the table, and differences if there are any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--patterns", type=int, default=200, help="of each family")
    parser.add_argument("--texts", type=int, default=60, help="for each pattern")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--costs", action="store_true", help="what patterns cost, not whether they agree"
    )
    args = parser.parse_args()
    if args.costs:
        print(table([*costs()]))
        return
    outcomes = compare_all(args.patterns, args.texts, args.seed)
    print(table([outcome.record(name) for name, outcome in outcomes.items()]))
    total = sum(outcome.texts for outcome in outcomes.values())
    wrong = [d for outcome in outcomes.values() for d in outcome.differences]
    print(f"\n{total:,} texts, {len(wrong)} differences")
    for pattern, text, wanted in wrong[:50]:
        print(f"  {pattern!r} {text!r}: reference says {wanted}")


if __name__ == "__main__":
    main()
