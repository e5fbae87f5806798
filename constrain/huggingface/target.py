"""What is wanted of an extraction: a schema, a type or a grammar, and values of its texts."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from constrain.arguments import described
from constrain.automaton import TokenAutomaton
from constrain.describe import describe_schema
from constrain.healing import Healed
from constrain.huggingface.result import Extraction
from constrain.huggingface.stopping import stop_in, until_stop
from constrain.vocabulary import Vocabulary
from grammars.errors import GrammarError
from grammars.grammar import Grammar
from grammars.sources.source import KEYWORD


@dataclass(frozen=True)
class Target:
    """What is wanted: a grammar, how a prompt shows it, and how its texts become values.

    Attributes:
        grammar: of the texts that may be written.
        description: the schema as a prompt shows it.
        adapter: pydantic's ``TypeAdapter`` of a type; ``None`` where values are plain data.
        source: the text that values are taken from, if that is known.
        text: that of the JSON Schema; ``None`` for a type or a grammar.
        wanted: the schema or type, where values stand in a source; ``None`` where they need not.
        grounded: whether those do that are not marked.
    """

    grammar: Grammar
    description: str
    adapter: Any = None
    source: str | None = field(default=None, kw_only=True)
    text: str | None = field(default=None, kw_only=True)
    wanted: Any = field(default=None, kw_only=True)
    grounded: bool = field(default=False, kw_only=True)

    @classmethod
    def of(cls, wanted: Any, *, source: str | None = None, grounded: bool = False) -> Target:
        """The target of a JSON Schema, a Python type or a grammar, whose grammar is made once.

        Args:
            wanted: the schema, the type, or the grammar, which stays as it is.
            source: the text that values are taken from; those that the schema or type marks as verbatim
                have to stand in it.
            grounded: all strings and numbers do that are not marked as inferred.

        Raises:
            TypeError: for anything else.
            GrammarError: if schema or type cannot be used, or nothing in the source meets them.
            ValueError: if a grammar should be grounded, or there is no source.
        """
        return dataclasses.replace(cls._made(wanted, source, grounded), source=source)

    @classmethod
    def _made(cls, wanted: Any, source: str | None, grounded: bool) -> Target:
        if isinstance(wanted, Grammar):
            if grounded:
                raise ValueError(
                    "grounded=True is for schemas and types; a grammar says itself what stands in a "
                    "source (Grammar.substring_of, or source= and grounded=True where it is made)"
                )
            return cls(wanted, "(see the expected form)")
        if isinstance(wanted, str | bool | Mapping):
            text = wanted if isinstance(wanted, str) else json.dumps(wanted, ensure_ascii=False)
            if grounded or f'"{KEYWORD}"' in text:
                grammar = _possible(_grounded_schema_grammar(text, source, grounded))
                return cls(
                    grammar, describe_schema(wanted), text=text, wanted=wanted, grounded=grounded
                )
            return cls(_schema_grammar(text), describe_schema(wanted), text=text)
        _refuse_instances(wanted)
        from grammars.frontends.types import adapter_of  # late: pydantic takes long to load

        adapter = adapter_of(wanted)
        if grounded or _has_marks(adapter):
            grammar = Grammar.from_type(wanted, validators="warn", source=source, grounded=grounded)
            shown = describe_schema(wanted)
            return cls(_possible(grammar), shown, adapter, wanted=wanted, grounded=grounded)
        return cls(_type_grammar(wanted), describe_schema(wanted), adapter)

    @property
    def schema(self) -> Any:
        """The whole JSON Schema as plain data; ``None`` where there is none, as for a grammar."""
        if self.text is not None:
            return json.loads(self.text.removeprefix("\ufeff"))
        return None if self.adapter is None else _schema_of(self.adapter)

    def read(self, tokens: list[int], healed: Healed, *, stop: Sequence[bytes] = ()) -> Extraction:
        """What was written, as a value.

        Args:
            tokens: the ids behind the prompt, the end included.
            healed: the prompt and the automaton that they were written with.
            stop: texts before the first of which the text ends.

        Raises:
            pydantic.ValidationError: if a validator of the type's own refuses the value.
        """
        tokens = until_stop(tokens, healed, stop)
        data, prefix = healed.text(tokens), healed.prefix
        cut = stop_in(data, stop)
        ended = bool(tokens) and tokens[-1] in healed.automaton.vocabulary.eos_token_ids
        if cut is not None:
            data, ended = data[:cut], True
        text = data.decode("utf-8", "replace")
        complete = ended and self.grammar.accepts(data)
        vocabulary = healed.automaton.vocabulary
        return Extraction(
            self.value(text) if complete else None,
            text,
            list(tokens),
            complete=complete,
            prefix=prefix,
            source=self.source,
            pieces=tuple(vocabulary.token_bytes(token) or b"" for token in tokens),
            token_constrained_logprobs=list(getattr(tokens, "logprobs", ())),
        )

    def examples(self, given: Any) -> list[tuple[str, str]]:
        """Examples as texts and what a model should write of them.

        Args:
            given: pairs of a text and its value: plain data, an instance of the type, or, for a grammar,
                a text of it.

        Raises:
            TypeError: for what is no such pair.
            ValueError: for a value that is not of the schema, type or grammar, naming the example.
        """
        if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
            raise TypeError(f"examples is a list of pairs (text, value), not {described(given)}")
        return [
            (text, self._of_source(text, place).written(value, place))
            for place, text, value in _pairs(given)
        ]

    def _of_source(self, text: str, place: str) -> Target:
        """The same target for another text, in which the values of an example stand."""
        if self.wanted is None:
            return self
        try:
            return Target.of(self.wanted, source=text, grounded=self.grounded)
        except GrammarError as error:
            raise ValueError(f"{place}: {error}") from error

    def written(self, value: Any, place: str) -> str:
        """The text of a value, as the grammar allows it.

        Raises:
            ValueError: if it does not, naming the place.
        """
        if isinstance(value, str) and self.adapter is None and self.grammar.accepts(value):
            return value
        try:
            plain = value
            if self.adapter is not None:
                checked = self.adapter.validate_python(value)
                plain = self.adapter.dump_python(checked, mode="json", by_alias=True)
            text = json.dumps(plain, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place}: {error}") from error
        if not self.grammar.accepts(text):
            raise ValueError(
                f"{place}: {text!r:.200} is nothing that may be written: "
                f"{self.grammar.explain(text).message}"
            )
        return text

    def value(self, text: str) -> Any:
        """The value of a whole text of the grammar.

        Raises:
            pydantic.ValidationError: if a validator of the type's own refuses it.
        """
        if self.adapter:
            return self.adapter.validate_json(text)
        try:
            return json.loads(text)
        except ValueError:
            return text  # a grammar of other texts


def _pairs(given: Iterable[Any]) -> Iterator[tuple[str, str, Any]]:
    for number, pair in enumerate(given):
        place = f"examples[{number}]"
        if not isinstance(pair, Sequence) or len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(f"{place} is a pair (text, value), not {described(pair)}")
        yield place, pair[0], pair[1]


def _schema_of(adapter: Any) -> Any:
    """The JSON Schema of a type; ``None`` for those that only a grammar can be made of."""
    from pydantic.errors import PydanticUserError

    try:
        return adapter.json_schema()
    except PydanticUserError:
        return None


@lru_cache(64)
def _schema_grammar(text: str) -> Grammar:
    return Grammar.from_json_schema(text)


@lru_cache(16)
def _grounded_schema_grammar(text: str, source: str | None, grounded: bool) -> Grammar:
    return Grammar.from_json_schema(text, source=source, grounded=grounded)


def _possible(grammar: Grammar) -> Grammar:
    """The grammar, unless nothing in its source meets it.

    Raises:
        GrammarError: which says what does not.
    """
    if grammar.is_empty:
        raise GrammarError(grammar.explain("").message)
    return grammar


def _has_marks(adapter: Any) -> bool:
    """Whether some field of a type says whether its values stand in a source."""
    try:
        return f'"{KEYWORD}"' in json.dumps(adapter.json_schema())
    except Exception:  # types that pydantic knows no JSON Schema of
        return False


_KEPT_TYPES: Final = 64
_unhashable: OrderedDict[int, tuple[Any, Grammar]] = OrderedDict()


def _type_grammar(tp: Any) -> Grammar:
    """The grammar of a type, made once: for types that cannot be hashed by their identity."""
    try:
        hash(tp)
    except TypeError:
        known = _unhashable.get(id(tp))
        if known is None:
            known = _unhashable[id(tp)] = (
                tp,
                Grammar.from_type(tp, validators="warn"),
            )  # kept, so that the id stays its
            if len(_unhashable) > _KEPT_TYPES:
                _unhashable.popitem(last=False)
        return known[1]
    return _hashable_type_grammar(tp)


@lru_cache(_KEPT_TYPES)
def _hashable_type_grammar(tp: Any) -> Grammar:
    return Grammar.from_type(tp, validators="warn")


def _refuse_instances(wanted: Any) -> None:
    """A value where a type should be, or another object of this package."""
    wants = "a JSON Schema (dict, bool, JSON text), a Python type or a Grammar is needed, not "
    kind = type(wanted).__name__
    if isinstance(wanted, TokenAutomaton):
        raise TypeError(f"{wants}a TokenAutomaton; give the grammar that it was made of")
    if isinstance(wanted, type) or wanted is None:
        return
    if hasattr(wanted, "model_fields_set") or dataclasses.is_dataclass(wanted):
        raise TypeError(f"{wants}an instance of {kind}; give the type itself: {kind}")
    if isinstance(wanted, list | tuple):
        inner = getattr(wanted[0], "__name__", "...") if len(wanted) == 1 else "..."
        raise TypeError(f"{wants}{described(wanted)}; the type of a list is list[{inner}]")
    if isinstance(wanted, int | float | bytes | set | frozenset | Vocabulary):
        raise TypeError(wants + described(wanted))
