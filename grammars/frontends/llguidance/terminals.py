"""Terminals of llguidance's dialect as regular expressions of the intermediate form."""

from __future__ import annotations

import re
from typing import Any, Final

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.advice import suggestion
from grammars.frontends.llguidance.parameters import TRUE
from grammars.frontends.llguidance.substrings import substring_of, words_of
from grammars.frontends.llguidance.syntax import (
    Alternatives,
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
    Schema,
    Source,
    Special,
    Structured,
    Text,
)
from grammars.frontends.types.rust_regex import rust_fullmatch_to_expr
from grammars.ir import ByteSet, Expr, Not, alt, both, chars, repeat, seq, text
from grammars.limits import Limits

_BOUNDARY: Final = re.compile(r"(?<!\\)(?:\\\\)*(\\[bB])")
_STRUCTURED: Final = ("substring_words", "substring_chars", "substring_chunks")
_UNFRAMED: Final = repeat(ByteSet(((0, 0xFE),)))
"""Bytes without the one that frames special tokens, which is in no text."""
_NO_TERMINALS: Final = {
    Special: "special tokens cannot be used in terminals; refer to them in a rule",
    Other: "other grammars cannot be used in terminals; refer to them in a rule",
    Schema: "%json cannot be used in terminals; give it a rule (a name in lower case)",
    Nested: "%lark cannot be used in terminals; give it a rule (a name in lower case)",
}


def error_at(place: Place, message: str) -> GrammarError:
    """An error with the place it is about."""
    return GrammarError(message, line=place.line, column=place.column)


class Terminals:
    """Translates the terminals of one grammar.

    Args:
        source: the grammar.
        limits: bounds on what its automata may cost.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._known: dict[str, Expr] = {}
        self._open: list[str] = []

    def named(self, name: str, place: Place) -> Expr:
        """The expression of a terminal.

        Raises:
            GrammarError: for a name that is not defined, or a terminal that refers to itself.
        """
        if name in self._known:
            return self._known[name]
        if name in self._open:
            raise error_at(
                place,
                f"circular reference in terminal {name!r}: terminals are regular; make it a rule "
                "(a name in lower case)",
            )
        definition = self._source.terminals.get(name)
        if definition is None:
            kind = "a rule, which cannot be used in a terminal" if self._is_rule(name) else ""
            raise error_at(
                place,
                f"{name!r} is {kind}"
                if kind
                else f"unknown name {name!r}: it is not defined{suggestion(name, self._names())}",
            )
        self._open.append(name)
        found = self._known[name] = self.alternatives(definition.body)
        self._open.pop()
        return found

    def _names(self) -> list[str]:
        return [*self._source.rules, *self._source.terminals]

    def _is_rule(self, name: str) -> bool:
        return name in self._source.rules

    def alternatives(self, body: Alternatives) -> Expr:
        """The union of branches; in each, the intersection of sequences."""
        out = []
        for branch in body.branches:
            if branch.condition != TRUE:
                raise error_at(body.place, "'%if' is not supported in terminals; use a rule")
            parts = [seq(*map(self.item, items)) for items in branch.sequences]
            out.append(both(*parts))
        return alt(*out)

    def item(self, item: Item) -> Expr:
        """One item.

        Raises:
            GrammarError: for what is no part of a terminal, or a pattern that is not understood.
        """
        match item:
            case Repeated(atom, low, high):
                return repeat(self.item(atom), low, high)
            case Group(body, optional):
                inner = self.alternatives(body)
                return repeat(inner, 0, 1) if optional else inner
            case Negation(inner_item):
                return both(_UNFRAMED, Not(self.item(inner_item)))
            case Name(name, place, argument):
                if argument is not None:
                    raise error_at(place, "name::param cannot be used in terminals; use a rule")
                return self.named(name, place)
            case Text(value, ignore_case, place):
                return pattern("(?i)" + re.escape(value), place) if ignore_case else text(value)
            case CharacterRange(low_character, high_character):
                return chars([(ord(low_character), ord(high_character))])
            case Pattern():
                return self._pattern(item)
            case Structured(value, place):
                return structured(value, place, self._limits)
        raise error_at(item.place, _NO_TERMINALS[type(item)])

    @staticmethod
    def _pattern(item: Pattern) -> Expr:
        for flag in "lx":
            if flag in item.flags:
                why = "patterns are Unicode" if flag == "l" else "write it without blanks"
                raise error_at(item.place, f"{flag}-flag is not supported in regexes: {why}")
        flags = "".join(dict.fromkeys(item.flags.replace("u", "")))
        return pattern(f"(?{flags})" + item.pattern if flags else item.pattern, item.place)


def pattern(written: str, place: Place) -> Expr:
    """The texts a pattern (in the syntax of Rust's ``regex``) matches in full.

    Raises:
        GrammarError: at the pattern's place, saying where in it.
    """
    edge = _BOUNDARY.search(written)
    try:
        if edge is None:
            return rust_fullmatch_to_expr(written.replace("\\/", "/"))
        raise GrammarError(f"look-around ({edge[1]}) is not part of the dialect's patterns")
    except LimitExceeded:
        raise
    except GrammarError as error:
        inside = "" if error.column is None else f", column {error.column} of the pattern"
        raise error_at(place, f"invalid regex /{written}/{inside}: {error.message}") from None


def structured(value: Any, place: Place, limits: Limits) -> Expr:
    """What ``%regex`` describes.

    Raises:
        GrammarError: for another value than an object with one known key.
    """
    if not isinstance(value, dict) or not value:
        raise error_at(place, "no fields set on %regex; known are " + ", ".join(_STRUCTURED))
    for key in value:
        if key not in _STRUCTURED:
            raise error_at(
                place, f"unknown field {key!r} of %regex; known are {', '.join(_STRUCTURED)}"
            )
    if len(value) > 1:
        raise error_at(place, f"only one field can be set on %regex, not {', '.join(value)}")
    key, given = next(iter(value.items()))
    if key == "substring_chunks":
        good = isinstance(given, list) and all(isinstance(x, str) for x in given)
    else:
        good = isinstance(given, str)
    if not good:
        wanted = "a list of strings" if key == "substring_chunks" else "a string"
        raise error_at(place, f"%regex: {key} is {wanted}, not {given!r:.40}")
    chunks = words_of(given) if key == "substring_words" else list(given)
    try:
        return substring_of(chunks, limits)
    except LimitExceeded as error:
        error.locate(line=place.line, column=place.column)
        raise
    except UnicodeEncodeError:
        raise error_at(place, "this text has half of a surrogate pair") from None
