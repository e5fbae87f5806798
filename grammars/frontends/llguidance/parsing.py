"""The parser of llguidance's dialect of Lark: from text to what is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from grammars.compiling.analysis import check_count
from grammars.errors import GrammarError
from grammars.frontends.advice import json_error, suggestion
from grammars.frontends.llguidance import parameters as par
from grammars.frontends.llguidance.syntax import (
    Alternatives,
    Atom,
    Attributes,
    Branch,
    CharacterRange,
    Group,
    Item,
    Name,
    Negation,
    Nested,
    Other,
    Pattern,
    Place,
    Repeated,
    RuleDefinition,
    Schema,
    Source,
    Special,
    Structured,
    TerminalDefinition,
    Text,
    Value,
)

_ATTRIBUTES: Final = (
    "capture",
    "lazy",
    "stop",
    "suffix",
    "stop_capture",
    "max_tokens",
    "temperature",
)
_TOKENS: Final = re.compile(
    r"""
    (?P<blank>[ \t]+|(?:\#|//)[^\n]*)
    |(?P<newline>(?:\r?\n)+[ \t]*)
    |(?P<keyword>%[a-z]+)
    |(?P<string>"(?:\\(?:["\\/bfnrt]|u[a-fA-F0-9]{4}|x[a-fA-F0-9]{2})|[^"\\\x00-\x1f\x7f])*"i?)
    |(?P<regex>/(?:\\.|[^/\\])+/[imslux]*)
    |(?P<special><[^<>\s]+>)
    |(?P<other>@[a-zA-Z0-9_\-]+)
    |(?P<rule>!?[_?]?[a-z][_a-z0-9\-]*)
    |(?P<terminal>_?[A-Z][_A-Z0-9\-]*)
    |(?P<hex>0[xX][0-9a-fA-F]+)
    |(?P<number>[+-]?[0-9]+(?:\.(?!\.)[0-9]*)?(?:[eE][+-]?[0-9]+)?)
    |(?P<sign>->|::|\.\.|[:=,.(){}\[\]~|&_+*?])
    """,
    re.VERBOSE,
)
_SIGNS: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_MAX_NESTING: Final = 30
_ENDS: Final = frozenset({"|", "->", "}", ")", "]", "&", "%if"})
_STATEMENTS: Final = "%ignore, %import or %llguidance"
_OPTIONS: Final = ("no_forcing", "allow_initial_skip", "allow_invalid_utf8", "ignore_once")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    offset: int
    value: Any = None


def parse(text: str) -> Source:
    """Reads a grammar.

    Raises:
        GrammarError: with line and column, for what is no grammar of the dialect.
    """
    parser = _Parser(text)
    try:
        return parser.grammar(closing=False)
    except RecursionError:
        raise parser.error(
            "groups are nested too deeply here; give parts rules of their own"
        ) from None


class _Parser:
    """Recursive descent over tokens."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._tokens = self._read()
        self._at = 0
        self._nesting = 0

    # -- tokens -----------------------------------------------------------------------------------

    def _read(self) -> list[_Token]:
        out: list[_Token] = []
        at = 0
        while at < len(self._text):
            found = _TOKENS.match(self._text, at)
            if found is None:
                raise self._unknown(at)
            kind, text = str(found.lastgroup), found.group()
            value: Any = None
            end = found.end()
            if kind == "keyword":
                kind = "sign"
                if text in ("%json", "%regex", "%llguidance"):
                    value, end = self._json(text, end)
            if kind != "blank":
                out.append(_Token(kind, text, at, value))
            at = end
        return out

    def _unknown(self, at: int) -> GrammarError:
        here = self._text[at]
        rest = self._text[at : at + 20].split("\n", 1)[0]
        if here == '"':
            return self._error_at(
                at,
                f"bad string {rest!r}: it is never closed, or has another escape than "
                r"\" \\ \/ \b \f \n \r \t \xHH \uHHHH",
            )
        if here == "/":
            return self._error_at(at, f"bad pattern {rest!r}: it is never closed; add '/'")
        if here == "<":
            return self._error_at(
                at, f"bad special token {rest!r}: write <name> or <[7]>, without blanks"
            )
        return self._error_at(at, f"unexpected {rest!r}")

    def _json(self, keyword: str, at: int) -> tuple[Any, int]:
        blank = re.compile(r"[ \t\r\n]*").match(self._text, at)
        start = blank.end() if blank else at
        try:
            return json.JSONDecoder().raw_decode(self._text, start)
        except json.JSONDecodeError as error:
            raise self._error_at(
                min(error.pos, len(self._text)),
                json_error(self._text, error, f"{keyword} is followed by JSON").message,
            ) from None
        except (RecursionError, ValueError) as error:
            raise self._error_at(start, f"{keyword}: {error}") from None

    def _place(self, offset: int) -> Place:
        low, high = 0, len(self._lines)
        while high - low > 1:
            middle = (low + high) // 2
            if self._lines[middle] <= offset:
                low = middle
            else:
                high = middle
        return Place(low + 1, offset - self._lines[low] + 1)

    def _error_at(self, offset: int, message: str) -> GrammarError:
        place = self._place(offset)
        return GrammarError(message, line=place.line, column=place.column)

    def error(self, message: str, token: _Token | None = None) -> GrammarError:
        """An error at a token, or at the next one."""
        if token is None and self._at < len(self._tokens):
            token = self._tokens[self._at]
        return self._error_at(len(self._text) if token is None else token.offset, message)

    def _peek(self, ahead: int = 0) -> _Token | None:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else None

    def _here(self) -> Place:
        token = self._peek()
        return self._place(len(self._text) if token is None else token.offset)

    def _shown(self) -> str:
        token = self._peek()
        if token is None:
            return "the end of the text"
        return "the end of the line" if token.kind == "newline" else repr(token.text[:40])

    def _is(self, sign: str, ahead: int = 0) -> bool:
        token = self._peek(ahead)
        return token is not None and token.kind == "sign" and token.text == sign

    def _takes(self, sign: str) -> bool:
        if self._is(sign):
            self._at += 1
            return True
        return False

    def _expect(self, sign: str, where: str) -> None:
        if not self._takes(sign):
            raise self.error(f"expected {sign!r} {where}, found {self._shown()}")

    def _take(self, kind: str) -> _Token | None:
        token = self._peek()
        if token is None or token.kind != kind:
            return None
        self._at += 1
        return token

    def _need(self, kind: str, what: str) -> _Token:
        token = self._take(kind)
        if token is None:
            raise self.error(f"expected {what}, found {self._shown()}")
        return token

    # -- grammars ---------------------------------------------------------------------------------

    def grammar(self, *, closing: bool) -> Source:
        """Definitions and statements up to the end, or to the brace that closes a nested grammar."""
        out = Source()
        while True:
            while self._take("newline"):
                pass
            if self._peek() is None or (closing and self._is("}")):
                return out
            self._definition(out)
            if self._peek() is not None and not (closing and self._is("}")):
                self._need("newline", "the end of the line")

    def _definition(self, out: Source) -> None:
        token = self._peek()
        place = self._here()
        if token is not None and token.kind == "rule":
            rule = self._rule()
            self._new(rule.name, "rule", out.rules, place)
            out.rules[rule.name] = rule
        elif token is not None and token.kind == "terminal":
            terminal = self._terminal()
            self._new(terminal.name, "terminal", out.terminals, place)
            out.terminals[terminal.name] = terminal
        else:
            self._statement(out)

    def _new(
        self,
        name: str,
        what: str,
        known: Mapping[str, RuleDefinition] | Mapping[str, TerminalDefinition],
        place: Place,
    ) -> None:
        if name in known:
            raise GrammarError(
                f"{what} {name!r} is defined twice, first in line {known[name].place.line}; "
                "rename or remove one",
                line=place.line,
                column=place.column,
            )

    def _statement(self, out: Source) -> None:
        token = self._peek()
        if self._takes("%ignore"):
            out.ignored.append(self._alternatives())
        elif self._takes("%import"):
            self._import(out)
        elif self._takes("%llguidance"):
            assert token is not None
            self._options(token, out)
        elif self._is("%override"):
            raise self.error("%override is not part of the dialect; write the rule anew")
        elif self._is("%declare"):
            raise self.error(
                "%declare is not part of the dialect: nothing would read the terminal; with an "
                "indenter use the dialect of Lark itself"
            )
        else:
            raise self.error(f"expected a rule, a terminal, {_STATEMENTS}, found {self._shown()}")

    def _options(self, token: _Token, out: Source) -> None:
        if not isinstance(token.value, dict):
            raise self.error("%llguidance is followed by an object of options", token)
        for key, value in token.value.items():
            if key in _OPTIONS and not isinstance(value, bool):
                raise self.error(f"option {key!r} is true or false, not {value!r:.40}", token)
            out.options[key] = value
            out.places[key] = self._place(token.offset)

    def _import(self, out: Source) -> None:
        from grammars.frontends.llguidance.common import COMMON

        token = self._peek()
        place = self._here()
        path = ["." if self._takes(".") else ""]
        path.append(self._any_name())
        while self._takes("."):
            path.append(self._any_name())
        names: list[tuple[str, str]] = []
        if self._takes("->"):
            names.append((path.pop(), self._any_name()))
        elif self._takes("("):
            names.append((name := self._any_name(), name))
            while self._takes(","):
                names.append((name := self._any_name(), name))
            self._expect(")", "to close the list of names")
        else:
            names.append((path[-1], path.pop()))
        module = "".join(path[:1]) + ".".join(path[1:])
        for name, alias in names:
            pattern = COMMON.get(name) if module == "common" else None
            if pattern is None:
                raise self.error(
                    f"there is no {module}.{name}; the dialect imports from common only: "
                    + ", ".join(COMMON)
                    + " (dialect='lark' reads other grammars)",
                    token,
                )
            self._new(alias, "terminal", out.terminals, place)
            body = Alternatives((Branch(((Pattern(pattern, "", place),),)),), place)
            out.terminals[alias] = TerminalDefinition(alias, body, place)

    def _any_name(self) -> str:
        token = self._take("rule") or self._take("terminal")
        if token is None:
            raise self.error(f"expected a name, found {self._shown()}")
        return token.text

    # -- definitions ------------------------------------------------------------------------------

    def _rule(self) -> RuleDefinition:
        place = self._here()
        name = self._need("rule", "the name of a rule").text.lstrip("!").removeprefix("?")
        parametric = False
        if self._takes("::"):
            self._expect("_", "behind '::' where a rule with a parameter is defined")
            parametric = True
        self._no_template()
        attributes = self._attributes(name) if self._takes("[") else Attributes()
        self._expect(":", f"behind the name of rule {name!r}")
        return RuleDefinition(name, parametric, attributes, self._alternatives(), place)

    def _terminal(self) -> TerminalDefinition:
        place = self._here()
        name = self._need("terminal", "the name of a terminal").text
        self._no_template()
        self._expect(":", f"behind the name of terminal {name!r}")
        return TerminalDefinition(name, self._alternatives(), place)

    def _no_template(self) -> None:
        if self._is("{"):
            raise self.error(
                "templates are not part of the dialect; write the rule out for each use"
            )
        if self._is("."):
            raise self.error(
                "priorities are not part of the dialect: terminals that match in one place are all "
                "kept; exclude the one from the other with A & ~B"
            )

    def _attributes(self, name: str) -> Attributes:
        out = Attributes()
        while not self._is("]"):
            token = self._need("rule", "an attribute of the rule")
            self._attribute(name, token, out)
            if not self._takes(","):
                break
        self._expect("]", "to close the attributes")
        return out

    def _attribute(self, rule: str, token: _Token, out: Attributes) -> None:
        match token.text:
            case "capture":
                if self._takes("="):
                    out.capture = self._string()
                elif out.capture is None:
                    out.capture = rule
                return
            case "lazy":
                out.lazy = True
                return
        if token.text not in ("stop", "suffix", "stop_capture", "max_tokens", "temperature"):
            raise self.error(
                f"there is no attribute {token.text!r}{suggestion(token.text, _ATTRIBUTES)}; known are "
                + ", ".join(_ATTRIBUTES),
                token,
            )
        self._expect("=", f"behind {token.text!r}")
        match token.text:
            case "stop" | "suffix":
                if out.stop is not None or out.suffix is not None:
                    raise self.error("a rule has one stop= or suffix= at most", token)
                setattr(out, token.text, self._value())
            case "stop_capture":
                out.stop_capture = self._string()
            case "max_tokens":
                out.max_tokens = self._natural()
            case _:
                out.temperature = float(self._need("number", "a number").text)

    def _string(self) -> str:
        token = self._need("string", "a string")
        if token.text.endswith("i"):
            raise self.error("no flag i here", token)
        return self._decoded(token)[0]

    def _decoded(self, token: _Token) -> tuple[str, bool]:
        written = token.text
        ignore_case = written.endswith("i")
        if ignore_case:
            written = written[:-1]
        plain = re.sub(
            r"\\(?:x(..)|(.))",
            lambda found: f"\\u00{found[1]}" if found[1] else found[0],
            written,
        )
        value = json.loads(plain)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error("this string has half of a surrogate pair", token) from None
        return value, ignore_case

    def _natural(self, most: int | None = None) -> int:
        token = self._need("number", "a whole number")
        if not token.text.isdecimal() or len(token.text) > 20:
            raise self.error(f"expected a whole number, found {token.text!r}", token)
        value = int(token.text)
        if most is not None and value > most:
            raise self.error(f"{value} is too large; at most {most}", token)
        return value

    # -- expressions ------------------------------------------------------------------------------

    def _alternatives(self) -> Alternatives:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise self.error("groups are nested too deeply here; give parts rules of their own")
        place = self._here()
        branches = [self._branch()]
        while self._takes_bar():
            branches.append(self._branch())
        self._nesting -= 1
        return Alternatives(tuple(branches), place)

    def _takes_bar(self) -> bool:
        ahead = 0
        while (token := self._peek(ahead)) is not None and token.kind == "newline":
            ahead += 1
        if not self._is("|", ahead):
            return False
        self._at += ahead + 1
        return True

    def _branch(self) -> Branch:
        sequences = [self._sequence()]
        while self._takes("&"):
            sequences.append(self._sequence())
        if self._takes("->"):
            self._need("rule", "the name of an alias")
        condition: par.Condition = par.TRUE
        if self._takes("%if"):
            condition = self._condition()
        return Branch(tuple(sequences), condition)

    def _sequence(self) -> tuple[Item, ...]:
        out: list[Item] = []
        while (token := self._peek()) is not None:
            if token.kind == "newline" or (token.kind == "sign" and token.text in _ENDS):
                break
            out.append(self._item())
        return tuple(out)

    def _item(self) -> Item:
        place = self._here()
        atom = self._atom()
        opened = self._peek()
        for sign, (low, high) in _SIGNS.items():
            if self._takes(sign):
                return Repeated(atom, low, high, place)
        after = self._peek(1)
        if self._is("~") and after is not None and after.kind == "number":
            self._at += 1
            least = self._bound()
            most = self._bound() if self._takes("..") else least
            return self._repeated(atom, least, most, opened)
        if self._takes("{"):
            least = 0 if self._is(",") else self._bound()
            upper: int | None = least
            if self._takes(","):
                upper = None if self._is("}") else self._bound()
            self._expect("}", "to close the bounds")
            if upper == 0:
                raise self.error("an upper bound of 0 leaves nothing; leave the item out", opened)
            return self._repeated(atom, least, upper, opened)
        return atom

    def _bound(self) -> int:
        token = self._need("number", "a bound")
        try:
            return int(token.text)
        except ValueError:
            raise self.error(f"a bound is a whole number, not {token.text!r}", token) from None

    def _repeated(self, atom: Atom, low: int, high: int | None, token: _Token | None) -> Repeated:
        if low < 0:
            raise self.error(f"range start must be >= 0: the lower bound is {low}", token)
        if high is not None and high < low:
            raise self.error(
                f"range end must be >= start: the upper bound {high} is below {low}", token
            )
        assert token is not None
        place = self._place(token.offset)
        try:
            check_count(low, high)
        except GrammarError as error:
            error.locate(line=place.line, column=place.column)
            raise
        return Repeated(atom, low, high, place)

    def _atom(self) -> Atom:
        place = self._here()
        if self._takes("~"):
            return Negation(self._bare_atom(), place)
        return self._bare_atom()

    def _bare_atom(self) -> Atom:
        opened = self._peek()
        for start, end in ("()", "[]"):
            if self._takes(start):
                body = self._alternatives()
                if not self._takes(end):
                    raise self.error(
                        f"expected {end!r} for this {start!r}, found {self._shown()}", opened
                    )
                return Group(body, optional=start == "[")
        return self._value()

    def _value(self) -> Value:
        place = self._here()
        if (token := self._take("string")) is not None:
            value, ignore_case = self._decoded(token)
            if not self._takes(".."):
                return Text(value, ignore_case, place)
            high = self._string()
            if ignore_case:
                raise self.error("no flag i in a range of characters", token)
            return self._character_range(value, high, token)
        if (token := self._take("regex")) is not None:
            pattern, _, flags = token.text[1:].rpartition("/")
            return Pattern(pattern, flags, place)
        if (token := self._take("special")) is not None:
            return Special(token.text, place)
        if (token := self._take("other")) is not None:
            return Other(token.text[1:], place)
        token = self._peek()
        if self._takes("%json"):
            assert token is not None
            return Schema(token.value, place)
        if self._takes("%regex"):
            assert token is not None
            return Structured(token.value, place)
        if self._takes("%lark"):
            return self._nested(place)
        return self._name(place)

    def _character_range(self, low: str, high: str, token: _Token) -> CharacterRange:
        for which, value in (("start", low), ("end", high)):
            if len(value) != 1:
                raise self.error(f"range {which} must be a single character: {value!r}", token)
        if low > high:
            raise self.error(f"invalid range order: {low!r} comes after {high!r}", token)
        return CharacterRange(low, high, self._place(token.offset))

    def _nested(self, place: Place) -> Nested:
        self._expect("{", "behind %lark")
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise self.error("grammars are nested too deeply here")
        inner = self.grammar(closing=True)
        self._nesting -= 1
        self._expect("}", "to close %lark")
        return Nested(inner, place)

    def _name(self, place: Place) -> Name:
        token = self._take("rule") or self._take("terminal")
        if token is None:
            raise self.error(
                f"expected a string, a pattern, a name or a group, found {self._shown()}"
            )
        after = self._peek(1)
        bounds = after is not None and (after.kind == "number" or self._is(",", 1))
        if self._is("{") and not bounds:
            raise self.error(
                "templates are not part of the dialect; write the rule out for each use"
            )
        argument = self._argument() if self._takes("::") else None
        return Name(token.text.lstrip("!").removeprefix("?"), place, argument)

    # -- parameters -------------------------------------------------------------------------------

    def _argument(self) -> par.Argument:
        token = self._peek()
        if self._takes("_"):
            return par.Argument("same")
        if token is not None and token.kind in ("number", "hex"):
            return par.Argument("constant", self._number())
        function = self._need("rule", "an argument").text
        self._expect("(", f"behind {function!r}")
        match function:
            case "incr" | "decr":
                out = par.Argument(function, bits=self._bits())
            case "bit_and" | "bit_or":
                out = par.Argument(function.removeprefix("bit_"), self._number())
            case "set_bit":
                out = par.Argument("or", 1 << self._natural(par.BITS - 1))
            case "clear_bit":
                out = par.Argument("and", (1 << par.BITS) - 1 ^ 1 << self._natural(par.BITS - 1))
            case _:
                raise self.error(
                    f"there is no function {function!r}; known are set_bit, clear_bit, bit_and, "
                    "bit_or, incr and decr",
                    token,
                )
        self._expect(")", f"to close {function!r}")
        return out

    def _number(self) -> int:
        if (token := self._take("hex")) is not None:
            value = int(token.text, 16)
            if value >> par.BITS:
                raise self.error(f"{token.text} has more than 64 bits", token)
            return value
        return self._natural((1 << par.BITS) - 1)

    def _bits(self) -> par.Bits:
        token = self._peek()
        if self._takes("_"):
            return par.Bits()
        if not self._takes("["):
            raise self.error("expected '_' or '[start_bit:stop_bit]'")
        low = self._natural(par.BITS - 1)
        self._expect(":", "between two bits")
        high = self._natural(par.BITS)
        self._expect("]", "behind two bits")
        if high <= low:
            raise self.error(f"end bit index {high} must be > start bit index {low}", token)
        return par.Bits(low, high)

    def _condition(self) -> par.Condition:
        token = self._peek()
        name = self._need("rule", "a condition").text
        if name == "true":
            if self._takes("("):
                self._expect(")", "behind 'true('")
            return par.TRUE
        plain = name.removeprefix("bit_count_")
        known = plain in par.COMPARISONS or name in (
            *("and", "or", "not", "bit_clear", "bit_set", "is_zeros", "is_ones"),
        )
        if not known:
            raise self.error(
                f"there is no condition {name!r}; known are true, bit_clear, bit_set, is_ones, "
                "is_zeros, eq, ne, lt, le, gt, ge, bit_count_eq (and so on), and, or, not",
                token,
            )
        self._expect("(", f"behind {name!r}")
        out = self._condition_body(name, plain)
        self._expect(")", f"to close {name!r}")
        return out

    def _condition_body(self, name: str, plain: str) -> par.Condition:
        match name:
            case "and" | "or":
                left = self._condition()
                self._expect(",", "between two conditions")
                return par.Logic(name, (left, self._condition()))
            case "not":
                return par.Logic(name, (self._condition(),))
            case "bit_clear" | "bit_set":
                bit = self._natural(par.BITS - 1)
                return par.Comparison("eq", par.Bits(bit, bit + 1), int(name == "bit_set"))
            case "is_zeros" | "is_ones":
                bits = self._bits()
                return par.Comparison("eq", bits, bits.ones if name == "is_ones" else 0)
        bits = self._bits()
        self._expect(",", "between bits and a number")
        counts = plain != name
        value = self._natural(par.BITS) if counts else self._number()
        return par.Comparison(plain, bits, value, counts)
