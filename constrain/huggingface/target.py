"""What is wanted of an extraction: a schema, a type or a grammar, and values of its texts."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from constrain.arguments import described
from constrain.automaton import TokenAutomaton
from constrain.describe import describe_schema
from constrain.healing import Healed
from constrain.huggingface.result import Extraction
from constrain.huggingface.stopping import stop_in, until_stop
from constrain.vocabulary import Vocabulary
from grammars.grammar import Grammar


@dataclass(frozen=True)
class Target:
    """What is wanted: a grammar, how a prompt shows it, and how its texts become values.

    Attributes:
        grammar: of the texts that may be written.
        description: the schema as a prompt shows it.
        adapter: pydantic's ``TypeAdapter`` of a type; ``None`` where values are plain data.
    """

    grammar: Grammar
    description: str
    adapter: Any = None

    @classmethod
    def of(cls, wanted: Any) -> Target:
        """The target of a JSON Schema, a Python type or a grammar, whose grammar is made once.

        Raises:
            TypeError: for anything else.
            GrammarError: if schema or type cannot be used.
        """
        if isinstance(wanted, Grammar):
            return cls(wanted, "(see the expected form)")
        if isinstance(wanted, str | bool | Mapping):
            text = wanted if isinstance(wanted, str) else json.dumps(wanted, ensure_ascii=False)
            return cls(_schema_grammar(text), describe_schema(wanted))
        _refuse_instances(wanted)
        from pydantic import TypeAdapter

        grammar = _type_grammar(wanted)
        return cls(grammar, describe_schema(wanted), TypeAdapter(wanted))

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
        if not (ended and self.grammar.accepts(data)):
            return Extraction(None, text, tokens, complete=False, prefix=prefix)
        return Extraction(self.value(text), text, tokens, complete=True, prefix=prefix)

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
        return [(text, self._written(value, place)) for place, text, value in _pairs(given)]

    def _written(self, value: Any, place: str) -> str:
        """The text of a value, as the grammar allows it."""
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


@lru_cache(64)
def _schema_grammar(text: str) -> Grammar:
    return Grammar.from_json_schema(text)


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
