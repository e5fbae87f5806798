"""xgrammar's structural tags: JSON that says where free text ends and what follows.

The forms are those of xgrammar 0.2.8 (``xgrammar/structural_tag.py``) and the older one that has
``structures`` and ``triggers``, as vLLM and SGLang pass it.  ``docs/tools.md`` lists what each allows
and where it differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.advice import json_error, suggestion
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.json_schema.blanks import with_blanks
from grammars.frontends.json_schema.closing import closed
from grammars.frontends.json_schema.excluding import without_texts, without_values
from grammars.frontends.parameters import STYLES, Style, parameters
from grammars.frontends.pieces import Dispatched, Pieces, as_bytes, many, shortest, text, token
from grammars.ir import EPSILON, Expr, GrammarIR, alt, optional, seq
from grammars.limits import Limits

_MAX_COUNT: Final = 2**31 - 1
_MAX_NESTING: Final = 100


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a format stands.

    Attributes:
        pointer: JSON pointer.
        ends: the closing texts of the tag around it, which free text must not have.
        end_token: the closing special token of that tag.
        depth: how many formats there are around it.
    """

    pointer: str
    ends: tuple[str, ...] = ()
    end_token: str | int | None = None
    depth: int = 0

    def below(self, *keys: str | int) -> _Place:
        """The place of a member, some keys further down."""
        pointer = self.pointer + "".join(
            "/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys
        )
        return replace(self, pointer=pointer, depth=self.depth + 1)

    def error(self, message: str) -> GrammarError:
        """An error that names the place."""
        return GrammarError(message, pointer=self.pointer)


def structural_tag_to_ir(tag: Any, limits: Limits) -> GrammarIR:
    """The grammar of a structural tag.

    Args:
        tag: a mapping, or the JSON text of one.
        limits: bounds on what the grammar may cost.

    Raises:
        GrammarError: with the place of what is no structural tag, or cannot be kept.
    """
    if isinstance(tag, str):
        try:
            tag = json.loads(tag)
        except json.JSONDecodeError as error:
            raise json_error(tag, error, "the structural tag is not JSON") from None
        except RecursionError:
            raise GrammarError("the structural tag is nested too deeply to be read") from None
    reader = _Reader(limits)
    try:
        return reader.whole(tag)
    except RecursionError:
        raise GrammarError("the structural tag is nested too deeply to be read") from None


class _Reader:
    """Reads formats."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pieces = Pieces()
        self._known: dict[str, Expr] = {}
        self._readers: Final[dict[str, Callable[[Mapping[str, Any], _Place], Expr]]] = {
            "const_string": self._const_string,
            "json_schema": self._json_schema,
            "qwen_xml_parameter": self._json_schema,
            "any_text": self._any_text,
            "grammar": self._grammar,
            "regex": self._regex,
            "sequence": self._sequence,
            "or": self._or,
            "tag": self._tag,
            "triggered_tags": self._triggered_tags,
            "tags_with_separator": self._tags_with_separator,
            "optional": self._optional,
            "plus": self._plus,
            "star": self._star,
            "repeat": self._repeat,
            "dispatch": self._dispatch,
            "token": self._token,
            "exclude_token": self._exclude_token,
            "any_tokens": self._any_tokens,
            "token_triggered_tags": self._token_triggered_tags,
            "token_dispatch": self._token_dispatch,
        }

    def whole(self, tag: Any) -> GrammarIR:
        """The whole grammar."""
        return self._pieces.whole(self._root(tag))

    def _root(self, tag: Any) -> Expr:
        place = _Place("")
        if not isinstance(tag, Mapping):
            raise place.error("a structural tag is an object with a format")
        if tag.get("type", "structural_tag") != "structural_tag":
            raise place.error('the type of a structural tag is "structural_tag"')
        if "structures" in tag:
            return self._legacy(tag, place)
        if "format" not in tag:
            raise place.error("a structural tag needs a format (or structures and triggers)")
        return self.format(tag["format"], place.below("format"))

    def format(self, form: Any, place: _Place, default: str | None = None) -> Expr:
        """Any format; equal ones in equal surroundings are the same grammar."""
        if not isinstance(form, Mapping):
            raise place.error(f"a format is an object with a type, not {form!r:.80}")
        if place.depth > _MAX_NESTING:
            raise place.error("formats are nested too deeply")
        kind = form.get("type", default)
        reader = self._readers.get(kind) if isinstance(kind, str) else None
        if reader is None:
            known = ", ".join(self._readers)
            meant = suggestion(kind, self._readers) if isinstance(kind, str) else ""
            where = place.below("type") if "type" in form else place
            raise where.error(f"{kind!r:.80} is no type of a format{meant}; there are {known}")
        key = json.dumps([form, place.ends, place.end_token], sort_keys=False, default=repr)
        made = self._known.get(key)
        if made is None:
            try:
                made = reader(form, place)
            except GrammarError as error:
                error.locate(pointer=place.pointer)
                raise
            made = self._known[key] = self._pieces.rule(str(kind), made)
        return made

    # -- texts ---------------------------------------------------------------------------------

    def _const_string(self, form: Mapping[str, Any], place: _Place) -> Expr:
        return text(_string(form, "value", place))

    def _json_schema(self, form: Mapping[str, Any], place: _Place) -> Expr:
        schema = form.get("json_schema")
        if not isinstance(schema, bool | Mapping):
            raise place.error("json_schema needs a schema: an object, or true or false")
        legacy = form.get("type") == "qwen_xml_parameter"
        style = form.get("style", "json") if not legacy else "qwen_xml"
        if style != "json" and style not in STYLES:
            known = ", ".join(["json", *STYLES])
            raise place.error(f"{style!r:.80} is no style; there are {known}")
        any_order = _flag(form, "any_order", place)
        excludes = _strings(form, "excludes", place)
        schema = closed(without_values(schema, excludes) if excludes else schema)
        blanks = _count(form, "max_whitespace_cnt", place)
        try:
            if style != "json":
                return parameters(
                    schema,
                    _without(STYLES[style], excludes, place),
                    self._pieces,
                    any_order=any_order,
                    blanks=blanks,
                    limits=self._limits,
                )
            made = json_schema_to_ir(
                schema,
                whitespace="compact" if blanks == 0 else "flexible",
                property_order="any" if any_order else "schema",
                limits=self._limits,
            )
            made = with_blanks(made, blanks) if blanks else made
            barred = [as_bytes(t) for t in shortest(excludes)]
            return self._pieces.add(without_texts(made, barred) if barred else made)
        except GrammarError as error:
            raise _moved(error, place.below("json_schema")) from None

    def _any_text(self, form: Mapping[str, Any], place: _Place) -> Expr:
        excludes = _strings(form, "excludes", place)
        longest = _count(form, "max_chars", place)
        if self._no_tokens(form, place):
            return EPSILON
        return self._pieces.free([*excludes, *place.ends], max_length=longest)

    def _no_tokens(self, form: Mapping[str, Any], place: _Place) -> bool:
        """Whether ``max_tokens`` leaves nothing; other bounds are refused."""
        bound = _count(form, "max_tokens", place)
        if bound:
            raise place.error(
                f"max_tokens={bound} is not kept, as a grammar is about texts and not about how they are "
                "cut into tokens; use max_chars, or max_new_tokens of the processor"
            )
        return bound == 0

    def _grammar(self, form: Mapping[str, Any], place: _Place) -> Expr:
        from grammars.frontends.xgrammar_ebnf import xgrammar_ebnf_to_ir

        source = _string(form, "grammar", place)
        return self._other(
            lambda: xgrammar_ebnf_to_ir(source, limits=self._limits), place.below("grammar")
        )

    def _regex(self, form: Mapping[str, Any], place: _Place) -> Expr:
        from grammars.frontends.regex.python import regex_to_ir

        source = _string(form, "pattern", place)
        return self._other(lambda: regex_to_ir(source, self._limits), place.below("pattern"))

    def _other(self, read: Callable[[], GrammarIR], place: _Place) -> Expr:
        """A grammar of another front end, whose errors say where in its text they are."""
        try:
            return self._pieces.add(read())
        except LimitExceeded:
            raise
        except GrammarError as error:
            raise place.error(str(error)) from None

    # -- combinations --------------------------------------------------------------------------

    def _elements(self, form: Mapping[str, Any], place: _Place) -> list[Expr]:
        found = _list(form, "elements", place)
        return [self.format(x, place.below("elements", i)) for i, x in enumerate(found)]

    def _sequence(self, form: Mapping[str, Any], place: _Place) -> Expr:
        return seq(*self._elements(form, place))

    def _or(self, form: Mapping[str, Any], place: _Place) -> Expr:
        return alt(*self._elements(form, place))

    def _content(self, form: Mapping[str, Any], place: _Place) -> Expr:
        if "content" not in form:
            raise place.error("content is missing: the format of what stands there")
        return self.format(form["content"], place.below("content"))

    def _optional(self, form: Mapping[str, Any], place: _Place) -> Expr:
        return optional(self._content(form, place))

    def _plus(self, form: Mapping[str, Any], place: _Place) -> Expr:
        return many(self._content(form, place), 1)

    def _star(self, form: Mapping[str, Any], place: _Place) -> Expr:
        return many(self._content(form, place))

    def _repeat(self, form: Mapping[str, Any], place: _Place) -> Expr:
        low, high = _whole(form, "min", place), _whole(form, "max", place)
        if low < 0 or high < -1 or (high >= 0 and low > high):
            raise place.error(f"bad bounds of a repetition: min {low}, max {high} (-1: any number)")
        return many(self._content(form, place), low, None if high == -1 else high)

    # -- tags ----------------------------------------------------------------------------------

    def _tag(self, form: Mapping[str, Any], place: _Place) -> Expr:
        return seq(self._begin(form, place), self._inside(form, place))

    def _begin(self, form: Mapping[str, Any], place: _Place) -> Expr:
        begin = form.get("begin")
        if isinstance(begin, str):
            return text(begin)
        return token(self._named_token(begin, place.below("begin")))

    def _inside(self, form: Mapping[str, Any], place: _Place) -> Expr:
        """Content and end of a tag."""
        end = form.get("end")
        if isinstance(end, Mapping):
            name = self._named_token(end, place.below("end"))
            inner = replace(place, ends=(), end_token=name)
            return seq(self._content(form, inner), token(name))
        ends = [end] if isinstance(end, str) else end
        if not isinstance(ends, list) or not ends or not all(isinstance(e, str) for e in ends):
            raise place.error("end is missing: a text, a list of texts, or a token")
        closing = tuple(e for e in ends if e)
        if not closing and _is_endless(form.get("content")):
            raise place.error("the content of this tag is free text, so its end must not be empty")
        inner = replace(place, ends=closing, end_token=None)
        return seq(
            self._content(form, inner),
            alt(*(text(e) for e in dict.fromkeys(ends))),
        )

    def _tags(
        self, form: Mapping[str, Any], place: _Place
    ) -> list[tuple[Mapping[str, Any], _Place]]:
        out = []
        for i, tag in enumerate(_list(form, "tags", place)):
            at = place.below("tags", i)
            if not isinstance(tag, Mapping) or tag.get("type", "tag") != "tag":
                raise at.error("a tag is an object with begin, content and end")
            out.append((tag, at))
        return out

    def _triggered_tags(self, form: Mapping[str, Any], place: _Place) -> Expr:
        triggers = _strings(form, "triggers", place)
        if not triggers or "" in triggers:
            raise place.error("triggers needs texts, and none of them empty")
        grouped: dict[str, list[tuple[Mapping[str, Any], _Place]]] = {t: [] for t in triggers}
        for tag, at in self._tags(form, place):
            begin = tag.get("begin")
            if not isinstance(begin, str):
                raise at.error("begin must be a text here; token_triggered_tags takes tokens")
            found = [t for t in grouped if begin.startswith(t)]
            if len(found) != 1:
                several = (
                    " and ".join(map(repr, found)) or f"none of the triggers {_named(triggers)}"
                )
                raise at.error(
                    f"{begin!r} begins with {several}; it must be exactly one: change the triggers or "
                    "where the tag begins"
                )
            grouped[found[0]].append((tag, at))
        answers = [
            Dispatched(
                trigger,
                False,
                alt(
                    *(
                        seq(text(tag["begin"][len(trigger) :]), self._inside(tag, at))
                        for tag, at in tags
                    )
                ),
            )
            for trigger, tags in grouped.items()
            if tags
        ]
        unused = [t for t, tags in grouped.items() if not tags]
        excludes = [*_strings(form, "excludes", place), *place.ends, *unused]
        return self._dispatched(form, place, answers, excludes)

    def _token_triggered_tags(self, form: Mapping[str, Any], place: _Place) -> Expr:
        triggers = self._token_names(form, "trigger_tokens", place)
        if not triggers:
            raise place.error("trigger_tokens needs tokens")
        barred = self._token_names(form, "exclude_tokens", place)
        grouped: dict[str | int, list[Expr]] = {}
        for tag, at in self._tags(form, place):
            if isinstance(tag.get("begin"), str):
                raise at.error("begin must be a token here; triggered_tags takes texts")
            name = self._named_token(tag.get("begin"), at.below("begin"))
            if name not in triggers:
                raise at.error(f"{name!r} is none of the trigger_tokens")
            grouped.setdefault(name, []).append(self._inside(tag, at))
        answers = [
            Dispatched(_token_name(name), True, alt(*parts)) for name, parts in grouped.items()
        ]
        made = self._dispatched(form, place, answers, ())
        return self._without_tokens(made, place, barred, triggers)

    def _dispatched(
        self,
        form: Mapping[str, Any],
        place: _Place,
        answers: list[Dispatched],
        excludes: Any,
    ) -> Expr:
        needed, once = _flag(form, "at_least_one", place), _flag(form, "stop_after_first", place)
        whole = [seq(token(a.trigger) if a.special else text(a.trigger), a.then) for a in answers]
        first = alt(*whole)
        if needed and once:
            return first
        rest = self._pieces.dispatch(answers, excludes=excludes, once=once)
        return seq(first, rest) if needed else rest

    def _tags_with_separator(self, form: Mapping[str, Any], place: _Place) -> Expr:
        tags = alt(*(self._tag(tag, at) for tag, at in self._tags(form, place)))
        separator = text(_string(form, "separator", place))
        needed, once = _flag(form, "at_least_one", place), _flag(form, "stop_after_first", place)
        return many(tags, int(needed), 1 if once else None, separator)

    # -- dispatch ------------------------------------------------------------------------------

    def _rules(self, form: Mapping[str, Any], place: _Place) -> list[tuple[Any, Expr]]:
        out = []
        for i, rule in enumerate(_list(form, "rules", place)):
            at = place.below("rules", i)
            if not isinstance(rule, list | tuple) or len(rule) != 2:
                raise at.error("a rule is a pair: what triggers it, and the format that follows")
            bare = replace(at, ends=(), end_token=None)
            out.append((rule[0], self.format(rule[1], bare.below(1))))
        return out

    def _dispatch(self, form: Mapping[str, Any], place: _Place) -> Expr:
        excludes = _strings(form, "excludes", place)
        answers = []
        for i, (trigger, then) in enumerate(self._rules(form, place)):
            if not isinstance(trigger, str) or not trigger:
                raise place.below("rules", i, 0).error("a trigger is a text, and not an empty one")
            answers.append(Dispatched(trigger, False, then))
        return self._pieces.dispatch(
            answers, excludes=excludes, once=not _flag(form, "loop", place, True)
        )

    def _token_dispatch(self, form: Mapping[str, Any], place: _Place) -> Expr:
        barred = self._token_names(form, "exclude_tokens", place)
        rules = self._rules(form, place)
        names = [_checked_token(t, place.below("rules", i, 0)) for i, (t, _) in enumerate(rules)]
        answers = [
            Dispatched(_token_name(name), True, then)
            for name, (_, then) in zip(names, rules, strict=True)
        ]
        made = self._pieces.dispatch(answers, once=not _flag(form, "loop", place, True))
        return self._without_tokens(made, place, barred, names)

    # -- tokens --------------------------------------------------------------------------------

    def _named_token(self, form: Any, place: _Place) -> str | int:
        if not isinstance(form, Mapping) or form.get("type", "token") != "token":
            raise place.error(f"a text, or a token, is needed here, not {form!r:.80}")
        return _checked_token(form.get("token"), place)

    def _token_names(self, form: Mapping[str, Any], key: str, place: _Place) -> list[str | int]:
        found = form.get(key, [])
        if not isinstance(found, list | tuple):
            raise place.error(f"{key} is a list of tokens, not {found!r:.80}")
        return [_checked_token(t, place.below(key, i)) for i, t in enumerate(found)]

    def _token(self, form: Mapping[str, Any], place: _Place) -> Expr:
        return token(self._named_token(form, place))

    def _exclude_token(self, form: Mapping[str, Any], place: _Place) -> Expr:
        raise place.error(
            "exclude_token (one token, whichever) is not kept, as a grammar is about texts and not about "
            "how they are cut into tokens; use any_tokens, or any_text with max_chars"
        )

    def _any_tokens(self, form: Mapping[str, Any], place: _Place) -> Expr:
        barred = self._token_names(form, "exclude_tokens", place)
        if self._no_tokens(form, place):
            return EPSILON
        return self._without_tokens(self._pieces.free(), place, barred, ())

    def _without_tokens(
        self,
        made: Expr,
        place: _Place,
        barred: list[str | int],
        triggers: Any,
    ) -> Expr:
        """Free text has no special token, so excluding some says nothing; but they must be special.

        They are named, so that a vocabulary in which one is an ordinary token refuses the grammar.
        """
        found = [_token_name(t) for t in barred if t not in triggers]
        self._pieces.name_tokens(found)
        return made

    # -- the older form ------------------------------------------------------------------------

    def _legacy(self, tag: Mapping[str, Any], place: _Place) -> Expr:
        """``{"structures": [{"begin", "schema", "end"}], "triggers": [...]}``."""
        tags = []
        for i, item in enumerate(_list(tag, "structures", place)):
            at = place.below("structures", i)
            if not isinstance(item, Mapping):
                raise at.error("a structure is an object with begin, schema and end")
            schema = item.get("schema", True)
            if isinstance(schema, str):
                try:
                    schema = json.loads(schema)
                except json.JSONDecodeError as error:
                    told = json_error(schema, error, "this is not JSON")
                    raise at.below("schema").error(str(told)) from None
            content = {"type": "json_schema", "json_schema": schema}
            tags.append({"begin": item.get("begin"), "content": content, "end": item.get("end")})
        form = {"type": "triggered_tags", "triggers": tag.get("triggers"), "tags": tags}
        return self.format(form, place)


def _without(style: Style, excludes: list[str], place: _Place) -> Style:
    """A style in which strings have none of some texts."""
    if not excludes:
        return style
    if style.nested or any(t != t.strip() for t in excludes):
        raise place.error(
            "excludes cannot be kept in this style, or with blanks at an end; say it in the schema: strings "
            'with "not": {"pattern": ...}'
        )
    return replace(style, excludes=tuple(excludes))


def _moved(error: GrammarError, place: _Place) -> GrammarError:
    """An error about a schema, with the schema's own place before the one that it names."""
    if error.pointer is not None:
        error.pointer = place.pointer + error.pointer
    error.locate(pointer=place.pointer)
    return error


_ENDLESS: Final = frozenset(
    {
        "any_text",
        "any_tokens",
        "triggered_tags",
        "token_triggered_tags",
        "dispatch",
        "token_dispatch",
        "tags_with_separator",
    }
)


def _is_endless(form: Any) -> bool:
    """Whether a format goes on until something ends it, so that a tag around it needs an end."""
    if not isinstance(form, Mapping):
        return False
    kind = form.get("type")
    if kind in _ENDLESS:
        return not form.get("excludes") and not form.get("exclude_tokens")
    if kind in ("sequence", "or") and isinstance(form.get("elements"), list):
        return any(map(_is_endless, form["elements"]))
    if kind in ("optional", "plus", "star", "repeat"):
        return _is_endless(form.get("content"))
    return False


def _string(form: Mapping[str, Any], key: str, place: _Place) -> str:
    found = form.get(key)
    if not isinstance(found, str):
        raise place.error(f"{key} must be a text, not {found!r:.80}")
    return found


def _strings(form: Mapping[str, Any], key: str, place: _Place) -> list[str]:
    found = form.get(key, [])
    if not isinstance(found, list | tuple) or not all(isinstance(x, str) for x in found):
        raise place.error(f"{key} must be a list of texts, not {found!r:.80}")
    if key == "excludes" and "" in found:
        raise place.error("an excluded text is empty, so nothing would be left")
    return list(found)


def _list(form: Mapping[str, Any], key: str, place: _Place) -> list[Any]:
    found = form.get(key)
    if not isinstance(found, list | tuple) or not found:
        raise place.error(f"{key} must be a list with something in it, not {found!r:.80}")
    return list(found)


def _flag(form: Mapping[str, Any], key: str, place: _Place, default: bool = False) -> bool:
    found = form.get(key, default)
    if not isinstance(found, bool):
        raise place.error(f"{key} must be true or false, not {found!r:.80}")
    return found


def _whole(form: Mapping[str, Any], key: str, place: _Place) -> int:
    found = form.get(key)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        raise place.error(f"{key} must be a whole number, not {found!r:.80}")
    return found


def _count(form: Mapping[str, Any], key: str, place: _Place) -> int | None:
    if form.get(key) is None:
        return None
    found = _whole(form, key, place)
    if not 0 <= found <= _MAX_COUNT:
        raise place.error(f"{key} must be between 0 and {_MAX_COUNT}, not {found}")
    return found


def _checked_token(token: Any, place: _Place) -> str | int:
    if isinstance(token, bool) or not isinstance(token, str | int):
        raise place.error(f"a token is given by its name or its id, not {token!r:.80}")
    return token


def _token_name(token: str | int) -> str:
    return token if isinstance(token, str) else f"[{token}]"


def _named(texts: Iterable[str]) -> str:
    return ", ".join(map(repr, texts))
