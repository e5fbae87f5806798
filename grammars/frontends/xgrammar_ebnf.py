r"""xgrammar's EBNF: GBNF with other escapes, macros and options of rules.

Lines and blanks do not matter, but a rule's name begins its line.  Macros are ``Regex``, ``Substring``,
``TagDispatch``, ``Token``, ``TokenTagDispatch``; options are ``lazy``, ``max_chars``, ``capture`` and
``temperature``.  A look-ahead assertion ``(=...)`` at the end of a rule is a hint for xgrammar's masks that
says what follows anyway, and changes no text.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from grammars.captures import compared, with_marked_rules
from grammars.compiling.analysis import check_count
from grammars.errors import GrammarError, UnkeptConstraintWarning
from grammars.frontends.advice import undefined_rules
from grammars.frontends.llguidance.substrings import substring_of
from grammars.frontends.regex.lookaround import locate
from grammars.ir import (
    ANY_CHAR,
    EPSILON,
    MAX_CODE_POINT,
    NOTHING,
    Expr,
    GrammarIR,
    Literal,
    Machine,
    Not,
    Ref,
    Rule,
    Span,
    alt,
    both,
    chars,
    not_chars,
    repeat,
    seq,
    text,
)
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.special_tokens import framed, name_of

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME: Final = re.compile(r"[A-Za-z_.\-][A-Za-z0-9_.\-]*")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DEFINITION: Final = re.compile(r"[A-Za-z_.\-][A-Za-z0-9_.\-]*(?:\[[^\]\r\n]*\])?[ \t]*::=")
_OPTION: Final = re.compile(
    r"""[ \t]*([a-z_]+)[ \t]*(?:=[ \t]*(?:"([^"\\\r\n]*)"|([0-9.eE+-]+)))?[ \t]*"""
)
_OPTIONS: Final = re.compile(r"\[([^\]\r\n]*)\](?=[ \t]*::=)")
_METADATA: Final = frozenset(
    {
        "capture",
        "stop_capture",
        "capture_hidden_suffix_bytes",
        "capture_hidden_stop_bytes",
        "capture_hidden_body_rule_id",
        "capture_hidden_marker_rule_id",
    }
)
_SIGNS: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_CONTROLS: Final = {
    **{c: c for c in "\"'?\\/"},
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "b": "\b",
    "f": "\f",
    "a": "\a",
    "v": "\v",
    "0": "\0",
    "e": "\x1b",
}
_IN_CLASSES: Final = frozenset("^$\\.*+?()[]{}|/-")
_HEX: Final = re.compile(r"[0-9A-Fa-f]*")
_MACROS: Final = frozenset(
    {"Regex", "Substring", "TagDispatch", "Token", "ExcludeToken", "TokenTagDispatch"}
)
_MAX_NESTING: Final = 400
_MANY: Final = 2_000_000_000


def xgrammar_ebnf_to_ir(
    source: str, start: str = "root", limits: Limits = DEFAULT_LIMITS
) -> GrammarIR:
    """The rules of an EBNF text of xgrammar.

    Raises:
        GrammarError: with line and column, for text that is no such grammar, and for what no grammar of
            texts can keep (``max_tokens``, ``ExcludeToken``).
    """
    if not isinstance(source, str):
        raise TypeError(f"a grammar must be str, not {type(source).__name__}: {source!r:.80}")
    if not isinstance(start, str):
        raise TypeError(f"start must be the name of a rule, not {start!r:.80}")
    parser = _Parser(source, limits)
    try:
        rules = parser.rules()
    except RecursionError:
        raise parser.error(
            "groups are nested too deeply here; give parts rules of their own"
        ) from None
    missing = [name for name in parser.references if name not in parser.defined]
    if missing:
        said = undefined_rules(missing, [*parser.defined, *_MACROS])
        raise parser.error(said, parser.references[missing[0]])
    if start not in parser.defined:
        raise GrammarError(
            f"there is no rule {start!r} to start from; define it with '{start} ::= ...' or name "
            "another with start=",
            line=1,
            column=1,
        )
    made = GrammarIR(tuple(rules), start, tuple(parser.notes), tokens=tuple(parser.tokens))
    return parser.with_captures(made)


@dataclass(frozen=True, slots=True)
class _Identifier:
    """A name among the arguments of a macro."""

    name: str


class _Parser:
    """Recursive descent over the text; ``at`` is the position."""

    def __init__(self, source: str, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self.at = 0
        self.references: dict[str, int] = {}
        self.defined: dict[str, int] = {}
        self.tokens: dict[str, None] = {}
        self.notes: dict[str, None] = {}
        self._captures: dict[str, tuple[str, int]] = {}
        self._made: list[Rule] = []
        self._depth = 0

    def error(self, message: str, offset: int | None = None) -> GrammarError:
        """An error at an offset, or here."""
        at = min(self.at if offset is None else offset, len(self._source))
        line, column = locate(self._source, at)
        return GrammarError(message, line=line, column=column)

    # -- characters -----------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self._source[at : at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._source, self.at)
        if not found:
            return ""
        self.at = found.end()
        return found.group()

    def _blank(self) -> None:
        self._skip(_BLANK)

    def _takes(self, sign: str) -> bool:
        if self._source.startswith(sign, self.at):
            self.at += len(sign)
            self._blank()
            return True
        return False

    def _expect(self, sign: str, where: str) -> None:
        if not self._takes(sign):
            raise self.error(f"expected {sign!r} {where}, found {self._here()}")

    def _here(self) -> str:
        rest = self._source[self.at : self.at + 20].split("\n", 1)[0].rstrip("\r")
        return repr(rest) if rest else "the end of the text"

    # -- rules ----------------------------------------------------------------------------------

    def rules(self) -> list[Rule]:
        """All rules of the text."""
        out: list[Rule] = []
        self._blank()
        while self._peek():
            out.append(self._rule())
        return out + self._made

    def _begins_rule(self) -> bool:
        return _DEFINITION.match(self._source, self.at) is not None

    def _rule(self) -> Rule:
        offset = self.at
        if not self._begins_rule():
            raise self.error(f"expected a rule, found {self._here()}; write 'name ::= ...'")
        before = self._source[: self.at].rpartition("\n")[2]
        if before.strip():
            raise self.error("the name of a rule begins its line; end the line before it")
        name = self._skip(_NAME)
        if name in self.defined:
            line, _ = locate(self._source, self.defined[name])
            raise self.error(f"rule {name!r} is defined twice, first in line {line}", offset)
        self.defined[name] = offset
        options = self._options(name)
        self._blank()
        self._expect("::=", f"behind {name!r}")
        body = self._alternatives()
        if self._source.startswith("(=", self.at):
            self._look_ahead(name)
        if self._peek() and not self._begins_rule():
            raise self.error(f"unexpected {self._here()} in rule {name!r}")
        line, column = locate(self._source, offset)
        return Rule(name, self._with_options(body, options, name, offset), Span(line, column))

    def _look_ahead(self, name: str) -> None:
        self.at += 2
        self._blank()
        self._alternatives()
        self._expect(")", "to close the assertion")
        self.notes[
            f"the look-ahead assertion of rule {name!r} is a hint of xgrammar's: it changes no text"
        ] = None

    def _options(self, name: str) -> dict[str, str | None]:
        opened = self.at
        written = self._skip(_OPTIONS)
        out: dict[str, str | None] = {}
        for part in written[1:-1].split(",") if written else ():
            found = _OPTION.fullmatch(part)
            known = found and found[1] in {
                *_METADATA,
                "lazy",
                "max_tokens",
                "max_chars",
                "temperature",
            }
            if not found or not known or found[1] in out:
                raise self.error(
                    f"bad option {part.strip()!r} of rule {name!r}; known are lazy, max_chars=, "
                    "capture, temperature= and max_tokens=, each once",
                    opened,
                )
            out[found[1]] = found[2] if found[2] is not None else found[3]
        return out

    def _with_options(
        self, body: Expr, options: Mapping[str, str | None], name: str, offset: int
    ) -> Expr:
        if "max_tokens" in options:
            raise self.error(
                f"max_tokens={options['max_tokens']} of rule {name!r} counts tokens, which a grammar of "
                "texts does not know; use max_chars=, or max_new_tokens for the whole answer",
                offset,
            )
        if "temperature" in options:
            self._say(
                f"temperature={options['temperature']} of rule {name!r} is not applied: a grammar says "
                "what may be written, not how likely; give the sampler its temperature",
                offset,
            )
        if "capture" in options:
            self._captures[name] = (options["capture"] or name).strip('"'), offset
        if "lazy" in options:
            body = both(body, Not(seq(body, repeat(ANY_CHAR, 1))))
        if "max_chars" in options:
            count = options["max_chars"] or ""
            if not count.isdecimal() or int(count) > _MANY:
                raise self.error(f"max_chars of rule {name!r} is a number of characters", offset)
            # it ends where the characters are used up, or where it next may
            full = both(body, repeat(ANY_CHAR, int(count)))
            body = both(body, Not(seq(full, repeat(ANY_CHAR, 1))))
        return body

    def with_captures(self, made: GrammarIR) -> GrammarIR:
        """A grammar with what its rules capture; inside of lazy rules nothing is."""
        inside = compared(made) if self._captures else frozenset()
        for name in inside.intersection(self._captures):
            self._say(
                f"the capture of rule {name!r} does not come back: it is read inside of a rule that is lazy "
                "or has max_chars; capture that rule, and take its text apart with re",
                self._captures[name][1],
            )
        kept = {rule: name for rule, (name, _) in self._captures.items() if rule not in inside}
        return with_marked_rules(replace(made, notes=tuple(self.notes)), kept)

    def _say(self, said: str, offset: int) -> None:
        self.notes[said] = None
        line, _ = locate(self._source, offset)
        warnings.warn(f"line {line}: {said}", UnkeptConstraintWarning, stacklevel=2)

    # -- expressions ----------------------------------------------------------------------------

    def _alternatives(self) -> Expr:
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise self.error("groups are nested too deeply here; give parts rules of their own")
        self._takes("|")  # a leading bar begins nothing
        out = [self._sequence()]
        while self._takes("|"):
            out.append(self._sequence())
        self._depth -= 1
        return alt(*out)

    def _sequence(self) -> Expr:
        items: list[Expr] = []
        while True:
            here = self._peek()
            closing = here in ("|", ")") or self._source.startswith("(=", self.at)
            if items and (not here or closing or self._begins_rule()):
                return seq(*items)
            items.append(self._item())

    def _item(self) -> Expr:
        opened = self.at
        atom = self._atom()
        self._blank()
        for sign, (low, high) in _SIGNS.items():
            if self._takes(sign):
                return repeat(atom, low, high)
        if self._takes("{"):
            return self._repeated(atom, opened)
        return atom

    def _repeated(self, atom: Expr, opened: int) -> Expr:
        low = self._integer()
        high: int | None = low
        if self._takes(","):
            high = None if self._peek() == "}" else self._integer()
            if high == -1:
                high = None
        self._expect("}", "to close the bounds")
        if low < 0 or (high is not None and high < low):
            raise self.error(f"bad bounds: at least {low}, at most {high}", opened)
        try:
            check_count(low, high)
        except GrammarError as error:
            line, column = locate(self._source, opened)
            error.locate(line=line, column=column)
            raise
        return repeat(atom, low, high)

    def _integer(self) -> int:
        digits = self._skip(_INTEGER)
        if not digits or len(digits) > 16:
            raise self.error(f"expected a whole number, found {digits[:20] or self._here()!r}")
        self._blank()
        return int(digits)

    def _atom(self) -> Expr:
        here = self._peek()
        if here == "(":
            return self._group()
        if here == '"':
            written = self._string()
            return text(written) if written else EPSILON
        if here == "[":
            return self._class()
        offset = self.at
        name = self._skip(_NAME)
        if not name:
            raise self.error(
                f"expected a string, a class, a group or a name, found {self._here()}; "
                'write "" for the empty text'
            )
        if name in _MACROS:
            return self._macro(name, offset)
        if name in ("true", "false"):
            raise self.error(f"{name!r} is no rule", offset)
        self.references.setdefault(name, offset)
        return Ref(name)

    def _group(self) -> Expr:
        opened = self.at
        self.at += 1
        self._blank()
        if self._takes(")"):
            return EPSILON
        inner = self._alternatives()
        if not self._takes(")"):
            raise self.error(f"expected ')' for this '(', found {self._here()}; add ')'", opened)
        return inner

    # -- strings and classes --------------------------------------------------------------------

    def _string(self) -> str:
        opened = self.at
        self.at += 1
        out = []
        while self._peek() != '"':
            if self._peek() in ("", "\n", "\r"):
                raise self.error("this string is never closed; write a line break as \\n", opened)
            offset = self.at
            point = self._character(_CONTROLS)
            if 0xD800 <= point <= 0xDFFF:
                raise self.error("half of a surrogate pair is not a character", offset)
            out.append(chr(point))
        self.at += 1
        return "".join(out)

    def _class(self) -> Expr:
        opened = self.at
        self.at += 1
        negative = self._peek() == "^"
        self.at += negative
        escapes = {**_CONTROLS, **{c: c for c in _IN_CLASSES}}
        pairs: list[tuple[int, int]] = []
        while self._peek() != "]":
            if self._peek() in ("", "\n", "\r"):
                raise self.error("this class is never closed; write a line break as \\n", opened)
            offset = self.at
            low = high = self._character(escapes)
            if self._peek() == "-" and self._peek(1) not in ("]", ""):
                self.at += 1
                high = self._character(escapes)
            if high < low:
                raise self.error(
                    f"bad range {self._source[offset : self.at]!r}: its end comes before its start",
                    offset,
                )
            pairs.append((low, high))
        self.at += 1
        return not_chars(pairs) if negative else chars(pairs)

    def _character(self, escapes: Mapping[str, str]) -> int:
        offset = self.at
        here = self._peek()
        self.at += 1
        if here != "\\":
            return ord(here)
        kind = self._peek()
        self.at += 1
        if kind in escapes and kind:
            return ord(escapes[kind])
        if kind not in ("x", "u", "U"):
            raise self.error(f"invalid escape {here + kind!r}", offset)
        most = {"x": 8, "u": 4, "U": 8}[kind]
        found = _HEX.match(self._source, self.at, self.at + most)
        digits = found.group() if found else ""
        if not digits or (kind != "x" and len(digits) < most) or int(digits, 16) > MAX_CODE_POINT:
            raise self.error(f"invalid escape {self._source[offset : self.at + most]!r}", offset)
        self.at += len(digits)
        return int(digits, 16)

    # -- macros ---------------------------------------------------------------------------------

    def _macro(self, name: str, offset: int) -> Expr:
        self._blank()
        given, named = self._arguments(name)

        def refuse(message: str) -> GrammarError:
            return self.error(f"{name}: {message}", offset)

        match name:
            case "Regex":
                return self._regex(given, named, offset)
            case "Substring":
                if named or not all(isinstance(x, str) for x in given):
                    raise refuse("the arguments are strings")
                return substring_of(given, self._limits)
            case "Token":
                if named or not given or not all(_is_id(x) for x in given):
                    raise refuse("the arguments are ids of tokens, one or more")
                return alt(*map(self._special, dict.fromkeys(given)))
            case "ExcludeToken":
                raise refuse(
                    "one token of any length but some is not text; write any character but some as "
                    "[^...], or list the tokens with Token(...)"
                )
        return self._dispatch(name, given, named, refuse)

    def _special(self, token: int) -> Expr:
        name = name_of(token)
        self.tokens[name] = None
        return Literal(framed(name))

    def _arguments(self, name: str) -> tuple[list[Any], dict[str, Any]]:
        self._expect("(", f"behind {name}")
        given: list[Any] = []
        named: dict[str, Any] = {}
        if self._takes(")"):
            return given, named
        while True:
            found = re.compile(r"([A-Za-z_.\-][A-Za-z0-9_.\-]*)\s*=").match(self._source, self.at)
            if found:
                self.at = found.end()
                self._blank()
                named[found[1]] = self._argument()
            else:
                given.append(self._argument())
            if not self._takes(","):
                self._expect(")", f"to close {name}")
                return given, named

    def _argument(self) -> Any:
        here = self._peek()
        out: Any
        if here == '"':
            out = self._string()
        elif here == "(":
            return self._tuple()
        elif here.isdigit() or (here in "+-" and self._peek(1).isdigit()):
            return self._integer()
        else:
            name = self._skip(_NAME)
            if not name:
                raise self.error(
                    f"expected a string, a number, true, false, a rule or a tuple, found {self._here()}"
                )
            out = {"true": True, "false": False}.get(name, _Identifier(name))
        self._blank()
        return out

    def _tuple(self) -> tuple[Any, ...]:
        self._expect("(", "")
        out = []
        while not self._takes(")"):
            out.append(self._argument())
            if not self._takes(","):
                self._expect(")", "to close the tuple")
                break
        return tuple(out)

    def _regex(self, given: list[Any], named: dict[str, Any], offset: int) -> Expr:
        from grammars.frontends.regex.python import regex_to_ir

        flags = named.pop("flags", None)
        json_string = named.pop("json_string", False)
        good = len(given) == 1 and isinstance(given[0], str) and not named
        if not good or not isinstance(json_string, bool) or not isinstance(flags, str | None):
            raise self.error(
                'Regex: one pattern, and perhaps json_string=true and flags="..."', offset
            )
        if flags is not None and set(flags) - set("isu"):
            raise self.error(f"Regex: of flags only i, s and u are known, not {flags!r}", offset)
        pattern = given[0]
        letters = "a" if flags is not None and "s" not in flags else "as"
        if (flags and "i" in flags) or pattern.startswith("(?i)"):
            letters += "i"
            pattern = pattern.removeprefix("(?i)")
        try:
            ir = regex_to_ir(f"(?{letters})" + pattern.replace("\\/", "/"), self._limits)
        except GrammarError as error:
            raise self.error(f"Regex: {error.message}", offset) from None
        body = self._added(ir)
        if json_string:
            plain = not_chars([(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)])
            body = both(body, repeat(plain))
        return body

    def _added(self, ir: GrammarIR) -> Expr:
        if len(ir.rules) == 1:
            return ir[ir.start].body
        raise self.error("Regex: this pattern needs rules of its own; write it as rules")

    # -- dispatch -------------------------------------------------------------------------------

    def _dispatch(self, name: str, given: list[Any], named: dict[str, Any], refuse: Any) -> Expr:
        loop = named.pop("loop_after_dispatch", True)
        excludes = named.pop("excludes", ())
        by_id = name == "TokenTagDispatch"
        good = _is_id if by_id else lambda x: isinstance(x, str) and bool(x)
        if named:
            raise refuse(f"unknown argument {next(iter(named))!r}")
        if not isinstance(loop, bool):
            raise refuse("loop_after_dispatch is true or false")
        if not isinstance(excludes, tuple) or not all(map(good, excludes)):
            raise refuse("excludes is a tuple of " + ("ids" if by_id else "strings, none empty"))
        for pair in given:
            if not (isinstance(pair, tuple) and len(pair) == 2 and good(pair[0])) or not isinstance(
                pair[1], _Identifier
            ):
                raise refuse("the arguments are pairs of a trigger and the name of a rule")
            self.references.setdefault(pair[1].name, self.at)
        pairs = [(trigger, Ref(rule.name)) for trigger, rule in given]
        if by_id:
            return self._token_dispatch(pairs, excludes, loop, refuse)
        for exclude in excludes:
            for trigger, _ in pairs:
                if trigger.startswith(exclude):
                    raise refuse(f"the excluded {exclude!r} is the beginning of {trigger!r}")
        free, ends = _free_text([t for t, _ in pairs], list(excludes))
        arms = [seq(end, ref) for (_, ref), end in zip(pairs, ends, strict=True)]
        return self._loop(alt(*arms), free, loop)

    def _token_dispatch(
        self, pairs: list[tuple[int, Ref]], excludes: tuple[int, ...], loop: bool, refuse: Any
    ) -> Expr:
        for trigger, _ in pairs:
            if trigger in excludes:
                raise refuse(f"token {trigger} is a trigger and excluded")
        self.notes[
            "TokenTagDispatch: its free tokens are any text; of special tokens only triggers can be "
            "written"
        ] = None
        free = repeat(ANY_CHAR)
        arms = [seq(free, self._special(trigger), ref) for trigger, ref in pairs]
        return self._loop(alt(*arms), free, loop)

    def _loop(self, arms: Expr, free: Expr, loop: bool) -> Expr:
        if not loop:
            return alt(free, arms)
        name = f"_dispatch {len(self._made) + 1}"
        # on its own line: what follows an answer is free text again
        self._made.append(Rule(name, alt(free, seq(arms, Ref(name)))))
        return Ref(name)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _free_text(triggers: list[str], excludes: list[str]) -> tuple[Expr, list[Expr]]:
    """Text without any of the words, and for each trigger the text that ends with the first of them."""
    words = [word.encode() for word in (*triggers, *excludes)]
    nodes: list[dict[int, int]] = [{}]
    ending: list[set[int]] = [set()]
    for number, word in enumerate(words):
        at = 0
        for byte in word:
            if byte not in nodes[at]:
                nodes[at][byte] = len(nodes)
                nodes.append({})
                ending.append(set())
            at = nodes[at][byte]
        ending[at].add(number)
    back = [0] * len(nodes)
    order = list(nodes[0].values())
    table = {0: dict(nodes[0])}
    for node in order:  # grows while we iterate
        ending[node] |= ending[back[node]]
        row = dict(table[back[node]])
        for byte, target in nodes[node].items():
            back[target] = table[back[node]].get(byte, 0)
            row[byte] = target
            order.append(target)
        table[node] = row
    moves = [table[node] for node in range(len(nodes))]
    valid = repeat(ANY_CHAR)
    quiet = [not found for found in ending]
    edges = tuple(_ranges_of(row) if quiet[node] else () for node, row in enumerate(moves))
    free = both(valid, Machine(edges, tuple(quiet)))
    ends = []
    for number in range(len(triggers)):
        # where an excluded text ends too, nothing is dispatched
        accept = tuple(
            number in found and not any(x >= len(triggers) for x in found) for found in ending
        )
        ends.append(both(valid, Machine(edges, accept)) if any(accept) else NOTHING)
    return free, ends


def _ranges_of(row: Mapping[int, int]) -> tuple[tuple[int, int, int], ...]:
    """Edges for all bytes of texts in UTF-8: those of the row, and to the start otherwise."""
    out: list[tuple[int, int, int]] = []
    for byte in range(0xF5):
        target = row.get(byte, 0)
        if out and out[-1][2] == target:
            out[-1] = (out[-1][0], byte, target)
        else:
            out.append((byte, byte, target))
    return tuple(out)
