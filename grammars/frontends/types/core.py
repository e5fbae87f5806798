"""Pydantic's core schemas to JSON Schema: what is written for each kind of type.

pydantic's own JSON Schema describes types to people: it leaves out what JSON Schema has no word for,
and its formats are those of RFCs.  So the core schema, which is what validates, is read instead.
Values with texts of their own are given as expressions (``Spelling``), everything else as keywords.
"""

from __future__ import annotations

import collections.abc
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeAlias, cast
from urllib.parse import quote

from pydantic import PydanticUserError, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, SchemaError, ValidationError

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.json_schema.keywords import (
    SUBSCHEMA_LISTS,
    SUBSCHEMA_MAPS,
    SUBSCHEMAS,
    VALIDATION,
)
from grammars.frontends.json_schema.spelling import Spelling
from grammars.frontends.types import functions, numeric, scalars
from grammars.frontends.types.constraints import check_of, constrained
from grammars.frontends.types.json_text import json_in_string
from grammars.frontends.types.keys import key_schema, within_limits
from grammars.frontends.types.members import json_values, plain_value, validator_of
from grammars.frontends.types.objects import (
    Extra,
    Field,
    Schema,
    discriminator_paths,
    object_schema,
    paths_of,
    tagged,
)
from grammars.frontends.types.places import Place, Scope, Unkept, described, resolved
from grammars.ir import Expr, Literal, alt
from grammars.limits import Limits
from grammars.sources.source import KEYWORD as SOURCE_KEYWORD
from grammars.sources.source import LABELS

Core: TypeAlias = dict[str, Any]

_SCALAR: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
_ASSERTING: Final = (
    VALIDATION
    | SUBSCHEMAS
    | SUBSCHEMA_LISTS
    | SUBSCHEMA_MAPS
    | {"$ref", "format", SOURCE_KEYWORD, LABELS}
)
_UNHASHABLE: Final = frozenset(
    ["list", "dict", "set", "typed-dict", "deque", "counter", "ordered-dict", "generator"]
)
_NUMERIC: Final = frozenset(["int", "float", "decimal", "bool", "fraction", "complex"])
_WRAPPERS: Final = {
    "nullable": "schema",
    "default": "schema",
    "custom-error": "schema",
    "lax-or-strict": "lax_schema",
    "json-or-python": "json_schema",
}
_NO_JSON: Final = {
    "is-instance": "only instances of a class are valid",
    "is-subclass": "only classes are valid",
    "callable": "only callables are valid",
    "missing-sentinel": "only a missing value is valid",
    "ellipsis": "only an ellipsis is valid",
    "invalid": "nothing is valid",
}
ANOTHER_TYPE: Final = (
    "leave it out of the type, or give it a type that JSON has (str, int, list, ...)"
)


class TypeReader:
    """Reads one type.

    Attributes:
        limits: bounds on what the grammar may cost.
        spellings: texts that the schema refers to by ``format``.
        unkept: constraints that are not in the schema.
    """

    def __init__(
        self, limits: Limits, *, open_objects: bool, around: TypeReader | None = None
    ) -> None:
        self.spellings: dict[str, Spelling] = {}
        self.unkept: Unkept = Unkept() if around is None else around.unkept
        self._inside_text = around is not None
        self.limits = limits
        self._open = open_objects
        self._names: dict[Spelling, str] = {}
        self._scopes: dict[type[Any], tuple[Core, Scope]] = {}
        self._defs: Schema = {}
        self._known: dict[tuple[Any, ...], str] = {}

    def schema(self, core: Core, place: Place) -> Schema:
        """The JSON Schema of a type.

        Raises:
            GrammarError: with the path of the field, for what no grammar keeps.
        """
        out = self._read(core, place)
        return {**out, "$defs": self._defs} if self._defs else out

    # -- any schema ----------------------------------------------------------------------------

    def _read(self, core: Core, place: Place) -> Schema:
        ref = core.get("ref")
        if ref is not None and core["type"] != "definition-ref":
            return self._defined(ref, core, place)
        return self._narrowed(core, self._kind(core, place))

    def _kind(self, core: Core, place: Place) -> Schema:
        kind = core["type"]
        if kind in scalars.TYPES:
            return self.scalar(core, place)
        if place.hashable and kind in _UNHASHABLE:
            raise place.error("a set holds what can be hashed, and this value never can")
        if kind in _NO_JSON:
            raise place.error(f"has no JSON form: {_NO_JSON[kind]}; {ANOTHER_TYPE}")
        read: Callable[[Core, Place], Schema] | None = getattr(
            self, "_" + kind.replace("-", "_"), None
        )
        if read is None:
            raise place.error(f"pydantic's {kind!r} schemas have no JSON form that is known")
        return read(core, place)

    def _narrowed(self, core: Core, made: Schema) -> Schema:
        """With what people have added to the JSON Schema of this part, if it asserts something."""
        metadata = core.get("metadata") or {}
        more = [metadata.get("pydantic_js_extra"), _given_schema(core)]
        asserted = [s for s in more if isinstance(s, dict) and _ASSERTING & s.keys() and s != made]
        if not asserted:
            return made
        return {
            "allOf": [made, *({k: v for k, v in s.items() if k in _ASSERTING} for s in asserted)]
        }

    def _defined(self, ref: str, core: Core, place: Place) -> Schema:
        """A reference to the one place where a named type is described."""
        key: tuple[Any, ...] = (ref, place.hashable)
        if self._own(core) is None:  # what it means depends on where it stands
            key = (*key, place.scope, repr(sorted(place.config.items())))
        if key not in self._known:
            base = _class_name(core) or ref.rpartition(".")[2].partition(":")[0]
            name, number = base, 1
            while name in self._defs:
                number += 1
                name = f"{base} {number}"
            self._known[key] = name
            self._defs[name] = {}
            bare = {k: v for k, v in core.items() if k != "ref"}
            self._defs[name] = self._read(bare, place)
        return {"$ref": f"#/$defs/{_escaped(self._known[key])}"}

    def _definitions(self, core: Core, place: Place) -> Schema:
        place.scope.definitions.update((one["ref"], one) for one in core["definitions"])
        return self._read(core["schema"], place)

    def _definition_ref(self, core: Core, place: Place) -> Schema:
        return self._read(self.resolved(core, place), place.configured(place.scope.config))

    def resolved(self, core: Core, place: Place) -> Core:
        """The schema that a reference means, or the schema itself."""
        return resolved(core, place.scope)

    def _own(self, core: Core) -> tuple[Core, Scope] | None:
        """The schema by which a class validates wherever it stands, if it has one."""
        cls = core.get("cls")
        if core["type"] not in ("model", "dataclass") or core.get("generic_origin") or cls is None:
            return None
        if not vars(cls).get("__pydantic_complete__"):
            return None
        if cls not in self._scopes:
            whole = dict(vars(cls)["__pydantic_core_schema__"])
            scope = Scope(config=core.get("config") or {})
            own = resolved(whole, scope)
            self._scopes[cls] = (own if own["type"] == core["type"] else core, scope)
        own, scope = self._scopes[cls]
        return None if own is core else (own, scope)

    def spelled(self, kind: Any, expr: Expr) -> Schema:
        spelling = Spelling(kind, expr)
        name = self._names.setdefault(spelling, f"\0{len(self.spellings)}")
        self.spellings[name] = spelling
        return {"type": kind, "format": name}

    # -- scalars -------------------------------------------------------------------------------

    def _any(self, core: Core, place: Place) -> Schema:
        skipped = (core.get("serialization") or {}).get("schema")
        if skipped is not None:  # SkipValidation[int]: anything is valid, an int is meant
            return self._read(skipped, place)
        return dict(_SCALAR) if place.hashable else {}

    def _none(self, _core: Core, _place: Place) -> Schema:
        return {"type": "null"}

    def _bool(self, _core: Core, _place: Place) -> Schema:
        return {"type": "boolean"}

    def _int(self, core: Core, place: Place) -> Schema:
        within = numeric.exact_range(core)
        return self._number(lambda: numeric.integers(within, self.limits), place)

    def _float(self, core: Core, place: Place) -> Schema:
        allowed = core.get("allow_inf_nan", place.config.get("allow_inf_nan", True))
        within = numeric.float_range(core)
        return self._number(lambda: numeric.floats(within, self.limits, finite=not allowed), place)

    def _number(self, make: Callable[[], Expr | None], place: Place) -> Schema:
        expr = within_limits(make, place)
        return {"type": "number"} if expr is None else self.spelled("number", expr)

    def _decimal(self, core: Core, place: Place) -> Schema:
        digits = numeric.Digits(core.get("max_digits"), core.get("decimal_places"))
        within = numeric.exact_range(core)
        number = self._number(lambda: numeric.decimal_number(digits, within, self.limits), place)
        written = within_limits(lambda: numeric.decimal_text(digits, within, self.limits), place)
        assert written is not None
        return {"anyOf": [number, self.spelled("string", written)]}

    def _fraction(self, core: Core, place: Place) -> Schema:
        within = numeric.exact_range(core)
        number = self._number(lambda: numeric.fraction_number(within, self.limits), place)
        written = within_limits(lambda: numeric.fraction_text(within, self.limits), place)
        assert written is not None
        return {"anyOf": [number, self.spelled("string", written)]}

    def _complex(self, core: Core, place: Place) -> Schema:
        written = self.spelled("string", numeric.complex_text())
        if core.get("strict", place.config.get("strict")):
            return written
        return {"anyOf": [{"type": "number"}, written]}

    def scalar(self, core: Core, place: Place) -> Schema:
        if core["type"] == "str" and scalars.is_plain(core, place):
            low, high = scalars.length_of(core, place)
            out: Schema = {"type": "string"}
            if low:
                out["minLength"] = low
            return out if high is None else {**out, "maxLength": high}
        return self.spelled("string", scalars.content(core, place, self.unkept))

    def _literal(self, core: Core, place: Place) -> Schema:
        """Listed values, numbers in their own spelling."""
        values = list(json_values(core))
        words = [v for v in values if isinstance(v, bool | str | None)]
        numbers = [v for v in values if not isinstance(v, bool | str | None)]
        ways: list[Schema] = [{"enum": words}] if words else []
        if numbers:
            texts = (Literal(json.dumps(v).encode()) for v in numbers)
            ways.append(self.spelled("number", alt(*texts)))
        if not ways:
            raise place.error("none of its values can be written in JSON")
        return ways[0] if len(ways) == 1 else {"anyOf": ways}

    _enum = _literal

    # -- arrays --------------------------------------------------------------------------------

    def _list(self, core: Core, place: Place) -> Schema:
        return _sized(self._items(core, place), core, "Items")

    _deque = _list
    _generator = _list

    def _items(self, core: Core, place: Place) -> Schema:
        items = core.get("items_schema")
        out: Schema = {"type": "array"}
        return out if items is None else {**out, "items": self._read(items, place.below("[]"))}

    def _set(self, core: Core, place: Place) -> Schema:
        out = self._items(core, place.hashed())
        out.setdefault("items", dict(_SCALAR))
        if (core.get("min_length") or 0) > 1:
            self._need_one_spelling(core.get("items_schema"), place.below("[]"))
        if self._inside_text:  # nobody compares items there; pydantic drops those that are equal
            return _sized(out, core, "Items")
        return _sized({**out, "uniqueItems": True}, core, "Items")

    _frozenset = _set

    def _need_one_spelling(self, core: Core | None, place: Place) -> None:
        """Refuses items that can be equal and differ as JSON, so that a set would lose some."""
        if core is not None and self._has_one_spelling(core, place) and not self._inside_text:
            return
        raise place.error(
            "min_length above 1 of a set cannot be kept, as its items can be equal though they are "
            "written differently; use a list, or items of str, int, bool, an enum or date"
        )

    def _has_one_spelling(self, core: Core, place: Place) -> bool:
        core = self.resolved(core, place)
        kind = core["type"]
        if kind == "str":
            changed = ("strip_whitespace", "to_lower", "to_upper")
            config = place.config
            return not any(core.get(k, config.get("str_" + k)) for k in changed)
        if kind in ("nullable", "default"):
            return self._has_one_spelling(core["schema"], place)
        if kind == "union":
            choices = [
                self.resolved(c[0] if isinstance(c, tuple) else c, place) for c in core["choices"]
            ]
            kinds = [c["type"] for c in choices]
            apart = len(kinds) == len(set(kinds)) and len(_NUMERIC.intersection(kinds)) < 2
            return apart and all(self._has_one_spelling(c, place) for c in choices)
        return kind in ("int", "bool", "none", "literal", "enum", "date")

    def _tuple(self, core: Core, place: Place) -> Schema:
        items = [
            self._read(one, place.below(f"[{i}]")) for i, one in enumerate(core["items_schema"])
        ]
        at = core.get("variadic_item_index")
        if at is None:
            out: Schema = {"type": "array", "minItems": len(items), "items": False}
            return {**out, "prefixItems": items} if items else out
        before, rest, behind = items[:at], items[at], items[at + 1 :]
        if behind:
            raise place.error("a tuple with items behind those that repeat cannot be written")
        out = {"type": "array", "items": rest}
        if before:
            out |= {"prefixItems": before, "minItems": len(before)}
        low = max(core.get("min_length") or 0, len(before))
        return _sized(out, {**core, "min_length": low}, "Items")

    def _named_tuple(self, core: Core, place: Place) -> Schema:
        fields = core["fields"]
        items = [self._read(f["schema"], place.below(f".{f['name']}")) for f in fields]
        owed = [i for i, f in enumerate(fields) if f["schema"]["type"] != "default"]
        low = owed[-1] + 1 if owed else 0
        out: Schema = {"type": "array", "items": False, "minItems": low}
        return {**out, "prefixItems": items} if items else out

    def _call(self, core: Core, place: Place) -> Schema:
        """A named tuple of pydantic before 2.14; any other function is one that may refuse."""
        arguments = core["arguments_schema"]
        if arguments["type"] != "arguments" or not issubclass(_class_of(core["function"]), tuple):
            self.unkept.note(place, f"the function {described(core['function'])}")
        if arguments["type"] != "arguments":
            raise place.error("the arguments of a function have no JSON form that is known")
        fields = [
            {"name": one["name"], "schema": one["schema"]} for one in arguments["arguments_schema"]
        ]
        return self._named_tuple({"fields": fields}, place)

    # -- dictionaries --------------------------------------------------------------------------

    def _dict(self, core: Core, place: Place) -> Schema:
        out: Schema = {"type": "object"}
        values = core.get("values_schema")
        if values is not None:
            out["additionalProperties"] = self._read(values, place.below("{}"))
        keys = core.get("keys_schema")
        if keys is not None:
            named = key_schema(self, keys, place.below("{key}"))
            if named is not None:
                out["propertyNames"] = named
        if (core.get("min_length") or 0) > 1:
            one = keys is None or self._has_one_spelling(keys, place)
            if not one or self._inside_text:
                raise place.error(
                    "min_length above 1 of a dict cannot be kept, as its keys can be equal though "
                    "they are written differently; use keys of str, int, bool, an enum or date"
                )
        return _sized(out, core, "Properties")

    _ordered_dict = _dict

    def _frozendict(self, core: Core, place: Place) -> Schema:
        return self._dict(core, place)

    def _counter(self, core: Core, place: Place) -> Schema:
        return self._dict({"values_schema": {"type": "int"}, **core}, place)

    def inside(self, core: Core, place: Place) -> Core | None:
        """The schema inside one that adds nothing to texts but what is noted."""
        kind = core["type"]
        if kind in ("function-before", "function-wrap", "function-after"):
            tightened = constrained(core, place.scope)
            if tightened is not None:
                return tightened
            if functions.texts_of(core["function"]["function"]) is not None:
                return None
            self._note_function(core, place)
            return cast(Core, core.get("json_schema_input_schema") or core["schema"])
        key = _WRAPPERS.get(kind)
        return None if key is None else cast(Core, core[key])

    def _json(self, core: Core, place: Place) -> Schema:
        """JSON in a string."""
        inner = TypeReader(self.limits, open_objects=self._open, around=self)
        at = replace(place.below("(JSON)"), hashable=False)
        schema = inner.schema(core.get("schema") or {"type": "any"}, at)
        prefix = f"JSON in {place.path} {len(self.spellings)}: "
        spelling = json_in_string(schema, inner.spellings, self.limits, prefix)
        name = f"\0{len(self.spellings)}"
        self.spellings[name] = spelling
        return {"type": "string", "format": name}

    # -- choices and wrappers ------------------------------------------------------------------

    def _nullable(self, core: Core, place: Place) -> Schema:
        return {"anyOf": [self._read(core["schema"], place), {"type": "null"}]}

    def _default(self, core: Core, place: Place) -> Schema:
        return self._read(core["schema"], place)

    def _custom_error(self, core: Core, place: Place) -> Schema:
        return self._read(core["schema"], place)

    def _union(self, core: Core, place: Place) -> Schema:
        return self._either([(c[0] if isinstance(c, tuple) else c) for c in core["choices"]], place)

    def _either(self, choices: list[Core], place: Place) -> Schema:
        """The choices that have a JSON form, of which there must be one."""
        ways: list[Schema] = []
        failed: GrammarError | None = None
        for one in choices:
            try:
                ways.append(self._read(one, place))
            except LimitExceeded:
                raise
            except GrammarError as error:
                if not self._never_json(one, place):
                    raise
                failed = failed or error
        if not ways and failed is not None:
            raise failed
        return ways[0] if len(ways) == 1 else {"anyOf": ways}

    def _never_json(self, core: Core, place: Place) -> bool:
        """Whether no JSON value is ever valid, so that a union can do without this choice."""
        core = self.resolved(core, place)
        if place.hashable and core["type"] in _UNHASHABLE:
            return True
        inner = self.inside(core, place)
        if inner is not None:
            return core["type"] != "nullable" and self._never_json(inner, place)
        return core["type"] in _NO_JSON

    def _tagged_union(self, core: Core, place: Place) -> Schema:
        discriminator = core["discriminator"]
        tags: dict[int, list[Any]] = {}
        choices: dict[int, Core] = {}
        for tag, choice in core["choices"].items():
            found = self.resolved(choice, place)
            choices[id(found)] = choice
            tags.setdefault(id(found), []).append(plain_value(tag))
        if callable(discriminator):
            self.unkept.note(place, f"the discriminator {described(discriminator)}")
            return self._either(list(choices.values()), place)
        paths = list(discriminator_paths(discriminator))
        if not any(len(path) == 1 for path in paths):
            raise place.error("a discriminator inside another value cannot be written")
        ways = []
        for key, choice in choices.items():
            made = self._read(choice, place)
            names = {p[0] for p in paths if len(p) == 1}
            if not self._has_tag(self.resolved(choice, place), names):
                made = tagged(made, paths, tags[key])
            ways.append(made)
        return ways[0] if len(ways) == 1 else {"anyOf": ways}

    def _has_tag(self, core: Core, names: set[Any]) -> bool:
        """Whether a choice is a model that cannot be written without its discriminator."""
        if core["type"] != "model" or core.get("root_model"):
            return False
        fields = core["schema"].get("fields") if core["schema"]["type"] == "model-fields" else None
        one: Core | None = (fields or {}).get(next(iter(names))) if len(names) == 1 else None
        if one is None or one.get("validation_alias") is not None:
            return False
        return bool(one["schema"]["type"] == "literal")

    def _lax_or_strict(self, core: Core, place: Place) -> Schema:
        strict = core.get("strict", place.config.get("strict"))
        return self._read(core["strict_schema" if strict else "lax_schema"], place)

    def _json_or_python(self, core: Core, place: Place) -> Schema:
        return self._read(core["json_schema"], place)

    def _chain(self, core: Core, place: Place) -> Schema:
        first, *steps = core["steps"]
        for step in steps:
            step = self.resolved(step, place)
            if step["type"].startswith("function-"):
                self._note_function(step, place)
            elif step["type"] == "is-instance":
                if step["cls"] is not collections.abc.Hashable:
                    raise place.error(f"has no JSON form: {_NO_JSON['is-instance']}")
                place = place.hashed()
            elif step["type"] != "any":
                self.unkept.note(place, f"a further validation as {step['type']}")
        return self._read(first, place)

    # -- functions -----------------------------------------------------------------------------

    def _note_function(self, core: Core, place: Place) -> None:
        function = core["function"]["function"]
        if functions.is_harmless(function):
            return
        check = check_of(function)
        if check is not None:
            self.unkept.note(place, f"{check} of what is made of the text")
            return
        self.unkept.note(place, f"the validator {described(_of_predicate(function))}")

    def _function_before(self, core: Core, place: Place) -> Schema:
        known = functions.texts_of(core["function"]["function"])
        if known is not None:
            return self.spelled("string", known)
        self._note_function(core, place)
        return self._read(core.get("json_schema_input_schema") or core["schema"], place)

    _function_wrap = _function_before

    def _function_after(self, core: Core, place: Place) -> Schema:
        tightened = constrained(core, place.scope)
        if tightened is not None:
            return self._read(tightened, place)
        known = functions.texts_of(core["function"]["function"])
        if known is None:
            self._note_function(core, place)
            return self._read(core["schema"], place)
        made = self.spelled("string", known)
        inner = self.resolved(core["schema"], place)
        if inner["type"] == "str" and scalars.is_plain(inner, place):
            low, high = scalars.length_of(inner, place)
            made |= {"minLength": low} if low else {}
            made |= {} if high is None else {"maxLength": high}
        elif inner["type"] == "bytes" and (inner.get("min_length") or inner.get("max_length")):
            made |= {"minLength": inner.get("min_length") or 0}
            made |= {"maxLength": inner["max_length"]} if inner.get("max_length") else {}
        elif inner["type"] == "str":
            made = {"allOf": [made, self._read(inner, place)]}
        return made

    def _function_plain(self, core: Core, place: Place) -> Schema:
        known = functions.texts_of(core["function"]["function"])
        if known is not None:
            return self.spelled("string", known)
        self._note_function(core, place)
        inner = core.get("json_schema_input_schema")
        if inner is not None:
            return self._read(inner, place)
        given = _given_schema(core) or self._described(core)
        if given is None:
            raise place.error(
                f"has no JSON form: only {described(core['function']['function'])} knows what is "
                "valid; give its validator json_schema_input_type=, or the type WithJsonSchema(...)"
            )
        return given

    def _described(self, core: Core) -> Schema | None:
        """What ``__get_pydantic_json_schema__`` says of a type that only a function knows."""
        name = f"described {len(self._defs)}"
        template = f"#/$defs/{_escaped(name)}/$defs/{{model}}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = GenerateJsonSchema(ref_template=template).generate(cast(CoreSchema, core))
        except (PydanticUserError, KeyError):
            return None
        self._defs[name] = made
        return {"$ref": f"#/$defs/{_escaped(name)}"}

    # -- objects -------------------------------------------------------------------------------

    def _model(self, core: Core, place: Place) -> Schema:
        cls = core["cls"]
        core, inside = self._object_place(core, place)
        if core.get("custom_init"):
            self.unkept.note(place, f"the method {described(cls.__init__)}")
        hook = getattr(cls, core["post_init"], None) if core.get("post_init") else None
        if hook is not None and not getattr(hook, "__module__", "").startswith("pydantic."):
            self.unkept.note(place, f"the method {described(hook)}")
        behavior = core.get("extra_behavior") or inside.config.get("extra_fields_behavior")
        return self._fields_within(core["schema"], inside, behavior)

    def _object_place(self, core: Core, place: Place) -> tuple[Core, Place]:
        """The schema by which a class validates, and the inside of its objects."""
        cls = core["cls"]
        hashable = place.hashable
        if hashable and cls.__hash__ is None:
            raise place.error(
                f"a set holds what can be hashed, and {cls.__name__} cannot; freeze it"
            )
        own = self._own(core)
        if own is not None:
            core, scope = own
            place = place.scoped(scope)
        return core, place.configured(core.get("config") or {})

    def _fields_within(self, core: Core, place: Place, behavior: str | None) -> Schema:
        """Fields, perhaps inside validators of the whole."""
        if core["type"] in ("function-before", "function-after", "function-wrap"):
            self._note_function(core, place)
            return self._fields_within(core["schema"], place, behavior)
        if core["type"] == "model-fields":
            behavior = core.get("extra_behavior") or behavior
            fields = list(core["fields"].items())
            return self._object(fields, core, place, behavior)
        if core["type"] == "dataclass-args":
            behavior = core.get("extra_behavior") or behavior
            fields = [(f["name"], f) for f in core["fields"] if f.get("init", True)]
            return self._object(fields, core, place, behavior)
        return self._read(core, place)

    def _dataclass(self, core: Core, place: Place) -> Schema:
        core, inside = self._object_place(core, place)
        if core.get("post_init"):
            self.unkept.note(place, f"the method {described(core['cls'].__post_init__)}")
        return self._fields_within(
            core["schema"], inside, inside.config.get("extra_fields_behavior")
        )

    def _typed_dict(self, core: Core, place: Place) -> Schema:
        config = core.get("config")
        inside = place if config is None else place.configured(config)
        total = core.get("total", inside.config.get("typed_dict_total", True))
        fields = [
            (name, {**one, "required": one.get("required", total)})
            for name, one in core["fields"].items()
        ]
        behavior = core.get("extra_behavior") or inside.config.get("extra_fields_behavior")
        return self._object(fields, core, inside, behavior)

    def _object(
        self, fields: list[tuple[str, Core]], core: Core, place: Place, behavior: str | None
    ) -> Schema:
        made = []
        for name, one in fields:
            schema = self._read(one["schema"], place.below(f".{name}"))
            schema = self._narrowed({**one, "type": "field"}, schema)
            required = one.get("required", not self._has_default(one["schema"], place))
            paths = paths_of(name, one.get("validation_alias"), place)
            made.append(Field(name, paths, schema, required))
        return object_schema(made, self._extra(core, place, behavior), place)

    def _has_default(self, core: Core, place: Place) -> bool:
        """Whether a field may be left out: it has a default, which is valid if that is checked."""
        if core["type"] != "default":
            return False
        if "default" not in core or not core.get(
            "validate_default", place.config.get("validate_default")
        ):
            return True
        known = list(place.scope.definitions.values())
        whole = {"type": "definitions", "schema": core, "definitions": known} if known else core
        try:
            validator_of(whole, place.config).get_default_value()
        except (ValidationError, SchemaError):
            return False
        return True

    def _extra(self, core: Core, place: Place, behavior: str | None) -> Extra:
        if behavior == "allow":
            values, keys = core.get("extras_schema"), core.get("extras_keys_schema")
            at = place.below("{extra}")
            return Extra(
                {} if values is None else self._read(values, at),
                None if keys is None else key_schema(self, keys, at),
            )
        return Extra({}) if behavior != "forbid" and self._open else Extra()


# -- help ------------------------------------------------------------------------------------------


def _sized(schema: Schema, core: Core, what: str) -> Schema:
    low, high = core.get("min_length"), core.get("max_length")
    if low:
        schema["min" + what] = low
    if high is not None:
        schema["max" + what] = high
    return schema


def _given_schema(core: Core) -> Schema | None:
    """The schema of a ``WithJsonSchema`` on this part."""
    metadata = core.get("metadata") or {}
    for one in metadata.get("pydantic_js_annotation_functions", ()):
        owner = getattr(one, "__self__", None)
        if isinstance(owner, WithJsonSchema) and owner.json_schema is not None:
            return dict(owner.json_schema)
    return None


def _class_name(core: Core) -> str | None:
    cls = core.get("cls") or (core.get("schema") or {}).get("cls")
    return getattr(cls, "__name__", None)


def _class_of(function: Any) -> type[Any]:
    return function if isinstance(function, type) else object


def _of_predicate(function: Any) -> Any:
    """The predicate of ``annotated_types`` that a function of pydantic's checks."""
    if not getattr(function, "__module__", "").startswith("pydantic."):
        return function
    for cell in getattr(function, "__closure__", None) or ():
        inner = getattr(cell.cell_contents, "func", None)
        if callable(inner):
            return inner
    return function


def _escaped(name: str) -> str:
    return quote(name.replace("~", "~0").replace("/", "~1"))
