"""Structured outputs as requests to serving engines ask for them, and their :class:`Grammar`.

The members are those of vLLM's ``structured_outputs``: one of ``json``, ``json_object``, ``regex``,
``choice``, ``grammar`` and ``structural_tag``, beside options.  Three ways of saying more are this
package's own: ``gbnf`` and ``lark`` name a notation, ``source`` and ``grounded`` tie JSON values to a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.frontends.advice import suggestion
from grammars.frontends.json_schema.closing import closed
from grammars.grammar import Grammar
from grammars.limits import DEFAULT_LIMITS, Limits

_RULE: Final = re.compile(r"^[ \t]*[A-Za-z_][\w.-]*[ \t\r\n]*::=", re.MULTILINE)
_OPTIONS: Final = (
    "disable_any_whitespace",
    "disable_additional_properties",
    "whitespace_pattern",
    "source",
    "grounded",
)


@dataclass(frozen=True, slots=True)
class GrammarRequest:
    """One grammar that a request asks for; hashable, so that what is made of it can be kept.

    Attributes:
        kind: the member that says what is asked for, such as ``"json"`` or ``"regex"``.
        text: its value; the JSON text of one that is no string.
        compact: whether JSON is written without blanks.
        closed: whether objects that name keys have no others.
        source: the text that JSON values are taken from, if any.
        grounded: whether all of them are that are not marked otherwise.
    """

    kind: str
    text: str
    compact: bool = False
    closed: bool = False
    source: str | None = None
    grounded: bool = False

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> GrammarRequest:
        """Reads the members of ``structured_outputs``; those that are ``None`` are not given.

        Only the form is checked, which takes no time worth mentioning; :meth:`grammar` reads the rest.

        Args:
            asked: exactly one of ``json`` (a schema, or its JSON text), ``json_object`` (``True``),
                ``regex``, ``choice`` (a list of texts), ``grammar`` (EBNF or Lark), ``gbnf``, ``lark`` and
                ``structural_tag`` (a mapping, or its JSON text).  Beside ``json``, ``json_object``:
                ``disable_any_whitespace``; beside ``json``: ``disable_additional_properties``,
                ``source``, ``grounded``.

        Raises:
            GrammarError: for members that are unknown, missing, too many or of another type; ``pointer``
                names the member.
        """
        if not isinstance(asked, Mapping):
            raise GrammarError(
                f"structured outputs are asked for by an object, such as {{'regex': ...}}, not {asked!r:.80}"
            )
        given = {name: value for name, value in asked.items() if value is not None}
        _refuse_unknown(given)
        if given.get("json_object") is False:
            del given["json_object"]
        kinds = [name for name in _KINDS if name in given]
        if len(kinds) != 1:
            found = f"this has {' and '.join(kinds)}" if kinds else "this has none"
            raise GrammarError(f"exactly one of {', '.join(_KINDS)} is needed; {found}")
        kind = kinds[0]
        text = _KINDS[kind](given[kind], kind)
        if "whitespace_pattern" in given:
            raise _at(
                "whitespace_pattern",
                "blanks are not chosen by a pattern: leave it out, or set disable_any_whitespace for none",
            )
        return cls(
            kind,
            text,
            compact=_flag(given, "disable_any_whitespace", kind, ("json", "json_object")),
            closed=_flag(given, "disable_additional_properties", kind, ("json",)),
            source=_source(given, kind),
            grounded=_flag(given, "grounded", kind, ("json",)),
        )

    def grammar(self, *, limits: Limits = DEFAULT_LIMITS) -> Grammar:
        """The grammar, made anew in each call.

        Args:
            limits: bounds on what it may cost.

        Raises:
            GrammarError: for what is no such grammar, or has no text at all; ``pointer`` begins with the
                member, line and column stand in the message.
            LimitExceeded: for ``limits``.
        """
        try:
            made = self._read(limits)
        except GrammarError as error:
            _locate(error, f"/{self.kind}")
            raise
        if made.is_empty:
            raise _at(self.kind, made.explain(b"").message)
        return made

    def _read(self, limits: Limits) -> Grammar:
        match self.kind:
            case "json" | "json_object":
                return self._json(limits)
            case "regex":
                return Grammar.from_regex(self.text, limits=limits)
            case "choice":
                return Grammar.from_choices(json.loads(self.text), limits=limits)
            case "structural_tag":
                return Grammar.from_structural_tag(self.text, limits=limits)
            case "gbnf":
                return Grammar.from_gbnf(self.text, limits=limits)
            case "grammar" if is_ebnf(self.text):
                return Grammar.from_gbnf(self.text, dialect="xgrammar", limits=limits)
        return Grammar.from_lark(self.text, limits=limits)

    def _json(self, limits: Limits) -> Grammar:
        schema: Any = self.text
        if self.kind == "json_object":
            schema = {"type": "object"}
        elif self.closed:
            # a text that is no JSON is refused below, with the place of what is wrong
            with suppress(ValueError, RecursionError):
                schema = closed(json.loads(self.text))
        return Grammar.from_json_schema(
            schema,
            whitespace="compact" if self.compact else "flexible",
            source=self.source,
            grounded=self.grounded,
            limits=limits,
        )


def read_structured_outputs(
    asked: Mapping[str, Any], *, limits: Limits = DEFAULT_LIMITS
) -> Grammar:
    """The grammar that a request's ``structured_outputs`` ask for.

    Args:
        asked: as :meth:`GrammarRequest.of` takes it.
        limits: bounds on what the grammar may cost.

    Raises:
        GrammarError: with the place, below the member that it is about.
        LimitExceeded: for ``limits``.
    """
    return GrammarRequest.of(asked).grammar(limits=limits)


def is_ebnf(text: str) -> bool:
    """Whether a grammar of no named notation is EBNF (``root ::= ...``), and not Lark."""
    return _RULE.search(text) is not None


def _text(value: Any, kind: str) -> str:
    if not isinstance(value, str):
        raise _at(kind, f"needs a text, not {value!r:.80}")
    if not value.strip():
        raise _at(kind, "the text is empty; leave the member out for free text")
    return value


def _pattern(value: Any, kind: str) -> str:
    """A regular expression, in which every character counts."""
    if not isinstance(value, str):
        raise _at(kind, f"needs a text, not {value!r:.80}")
    return value


def _document(value: Any, kind: str) -> str:
    """A JSON document as text, members in their order, which is one that is kept when writing."""
    if isinstance(value, str):
        return _text(value, kind)
    dump = getattr(value, "model_dump", None)
    value = value if dump is None else dump(mode="json", by_alias=True)
    if not isinstance(value, Mapping | bool):
        raise _at(kind, f"needs an object, or the JSON text of one, not {value!r:.80}")
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise _at(kind, "is nested too deeply to be read") from None
    except (TypeError, ValueError) as error:
        raise _at(kind, f"is not JSON: {error}") from None


def _choices(value: Any, kind: str) -> str:
    if isinstance(value, str) or not isinstance(value, list | tuple) or not value:
        raise _at(kind, f"needs a list of texts, at least one, not {value!r:.80}")
    for i, choice in enumerate(value):
        if not isinstance(choice, str):
            raise _at(f"{kind}/{i}", f"a choice must be a text, not {choice!r:.80}")
    return json.dumps(list(value))


def _wanted(value: Any, kind: str) -> str:
    if value is not True:
        raise _at(kind, f"must be true or false, not {value!r:.80}")
    return ""


_KINDS: Final[dict[str, Callable[[Any, str], str]]] = {
    "json": _document,
    "json_object": _wanted,
    "regex": _pattern,
    "choice": _choices,
    "grammar": _text,
    "structural_tag": _document,
    "gbnf": _text,
    "lark": _text,
}
"""Members that say what is asked for, and what makes a text of their values."""


def _refuse_unknown(given: Mapping[str, Any]) -> None:
    known = (*_KINDS, *_OPTIONS)
    for name in given:
        if name not in known:
            meant = suggestion(name, known) if isinstance(name, str) else ""
            raise GrammarError(
                f"{name!r:.80} is no member of structured outputs{meant}; there are {', '.join(known)}"
            )


def _flag(given: Mapping[str, Any], name: str, kind: str, kinds: tuple[str, ...]) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise _at(name, f"must be true or false, not {value!r:.80}")
    if value and kind not in kinds:
        raise _at(name, f"can be said of {' and '.join(kinds)} only, and this asks for {kind}")
    return value


def _source(given: Mapping[str, Any], kind: str) -> str | None:
    value = given.get("source")
    if value is None:
        if given.get("grounded"):
            raise _at("grounded", "says that values stand in a source text; give it as source")
        return None
    if not isinstance(value, str):
        raise _at("source", f"needs a text, not {value!r:.80}")
    if kind != "json":
        raise _at("source", f"can be said of json only, and this asks for {kind}")
    return value


def _at(member: str, message: str) -> GrammarError:
    return GrammarError(message, pointer=f"/{member}")


def _locate(error: GrammarError, member: str) -> None:
    """Gives an error about a member's value its place in the request."""
    if error.line is not None:
        column = "" if error.column is None else f", column {error.column}"
        error.move_to(member, f"line {error.line}{column}")
        return
    if error.pointer is not None:
        error.pointer = member + error.pointer
    error.locate(pointer=member)
