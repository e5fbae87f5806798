"""What the playground knows: grammars of texts, verdicts, tokens, samples, findings, as values for JSON."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from constrain import TokenAutomaton, Vocabulary
from constrain.models import list_models, list_tokenizers
from grammars import BudgetError, Explanation, Grammar, GrammarError
from grammars.files import Kind, misplaced
from grammars.grammar import grammar_of
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.lint import lint_grammar
from samplers.play.grammar_store import GrammarStore
from samplers.play.outline import Node, outline
from samplers.tracing import printable, tokenizer_of

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")

MOST_TOKENS: Final = 200
"""Allowed tokens that are listed."""
MOST_SAMPLES: Final = 20
_SAMPLE_BYTES: Final = 80
"""Bytes that a sample has at most, where the shortest text is much shorter."""
_AMBIGUITY_WORK: Final = 100_000
"""Work of a search for ambiguity, a third of what ``gramma lint`` spends: some seconds."""
_MOST_NODES: Final = 2_000
"""Nodes of an outline that are shown."""

KINDS: Final[tuple[Kind, ...]] = ("lark", "gbnf", "regex", "json")


@dataclass(frozen=True)
class Made:
    """A grammar of a text, and the warnings that came with it."""

    grammar: Grammar
    warned: tuple[Warning, ...]


class _Recent(Generic[T]):
    """The last few values by key; errors are values too."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Any, T] = OrderedDict()

    def get(self, key: Any, make: Callable[[], T]) -> T:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = self._kept[key] = make()
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return made


@dataclass
class Playground:
    """Answers about grammars and texts; safe to call from several threads.

    What costs much has a lock of its own (reading grammars and texts; tokens; findings; outlines), so that
    none of it runs twice at a time, and all of it is within ``limits``.

    Attributes:
        store: the grammar's file, or its text where there is no file.
        options: of the constructors of :class:`grammars.Grammar`; those that a kind does not take are left
            out where the page changes the kind.
        model: whose tokenizer is chosen first; an embedded name, a folder or a hub name.
        limits: bounds on every call.
    """

    store: GrammarStore
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        self._reading = threading.RLock()
        self._spelling = threading.Lock()
        self._linting = threading.Lock()
        self._outlining = threading.Lock()
        self._grammars: _Recent[Made | GrammarError] = _Recent(8)
        self._automata: _Recent[TokenAutomaton] = _Recent(4)
        self._tokenizers: _Recent[tuple[Any, Vocabulary]] = _Recent(3)

    # -- answers -----------------------------------------------------------------------------------

    def start(self) -> Json:
        """What the page begins with."""
        kinds = KINDS if self.store.kind in KINDS else (*KINDS, self.store.kind)
        return {
            "name": self.store.name,
            "kind": self.store.kind,
            "kinds": list(kinds),
            "grammar": self.store.text,
            "may_write": self.store.may_write,
            "models": self._models(),
            "options": {name: _shown_option(value) for name, value in self.options.items()},
        }

    def check(self, kind: Kind, grammar: str, text: str) -> Json:
        """Whether a grammar compiles, and how far a text follows it."""
        with self._reading:
            try:
                made = self._made(kind, grammar)
            except GrammarError as error:
                return {"grammar": {"compiles": False, "error": of_error(error)}, "verdict": None}
            of = made.grammar
            facts = {"rules": len(of.ir.rules), "states": of.program.states, "empty": of.is_empty}
            about = {"compiles": True, **facts, "warnings": [str(w) for w in made.warned]}
            return {"grammar": about, "verdict": _verdict(of, text)}

    def complete(self, kind: Kind, grammar: str, text: str) -> Json:
        """A shortest text of the language that begins with the part of a text that follows the grammar."""
        with self._reading:
            made = self._made(kind, grammar).grammar
            found = made.complete(text)
        if found is None:
            return {"text": None}
        return {"text": found.decode("utf-8", "replace")}

    def tokens(self, kind: Kind, grammar: str, text: str, model: str) -> Json:
        """The tokens that are allowed behind the part of a text that follows the grammar.

        Raises:
            ValueError: for a model that is none of those that :meth:`start` names.
        """
        if model not in {known["name"] for known in self._models()}:
            raise ValueError(f"no tokenizer is called {model!r} here")
        with self._reading:
            made = self._made(kind, grammar).grammar
            offset = 0 if made.is_empty else made.explain(text).offset
        before = _bytes_of(text)[:offset]
        with self._spelling:
            tokenizer, vocabulary = self._tokenizers.get(model, lambda: _vocabulary_of(model))
            automaton = self._automata.get(
                (kind, grammar, model), lambda: TokenAutomaton(made, vocabulary)
            )
            return _allowed(automaton, _state_behind(automaton, before, tokenizer))

    def samples(self, kind: Kind, grammar: str, count: int, seed: int) -> Json:
        """Random texts, the same for the same seed.

        Args:
            kind, grammar: what they are of.
            count: how many, at most :data:`MOST_SAMPLES`.
            seed: of the first; the next ones have the next numbers.
        """
        if not 1 <= count <= MOST_SAMPLES:
            raise ValueError(f"count must be from 1 to {MOST_SAMPLES}, not {count}")
        with self._reading:
            made = self._made(kind, grammar).grammar
            texts = [_sample(made, seed + i) for i in range(count)]
        return {"seed": seed, "texts": texts}

    def lint(self, kind: Kind, grammar: str, ambiguity: bool) -> Json:
        """What the grammar says that its author may not have meant; texts that are read in two ways."""
        with self._reading:
            made = self._made(kind, grammar)
        with self._linting:
            report = lint_grammar(
                *(grammar, kind, made.grammar, made.warned),
                ambiguity=ambiguity,
                most_work=_AMBIGUITY_WORK,
            )
        found = [finding.as_dict() for finding in report.findings]
        return {
            "holds": report.holds,
            "findings": found,
            "undecided": list(report.undecided),
            "ambiguity": ambiguity and kind in ("gbnf", "lark"),
        }

    def outline(self, kind: Kind, grammar: str, text: str) -> Json:
        """Which rules read what of an accepted text, as (depth, rule, start, end), from the top."""
        with self._reading:
            made = self._made(kind, grammar).grammar
            if not made.accepts(text):
                raise GrammarError("only a text that is accepted has an outline")
        with self._outlining:
            top = outline(made, _bytes_of(text))
        places = _places(text)
        rows: list[tuple[int, str, int, int]] = []
        stack: list[tuple[int, Node]] = [(0, top)]
        while stack and len(rows) < _MOST_NODES:
            depth, node = stack.pop()
            rows.append((depth, node.rule, places[node.start], places[node.end]))
            stack += ((depth + 1, child) for child in reversed(node.children))
        return {"rows": rows, "more": sum(1 for _, node in stack for _ in node.nodes())}

    def save(self, grammar: str, force: bool) -> Json:
        """Writes the grammar back into its file."""
        self.store.save(grammar, force=force)
        return {"saved": self.store.name}

    # -- what is kept ------------------------------------------------------------------------------

    def _made(self, kind: Kind, text: str) -> Made:
        """The grammar of a text; the reading lock is held.

        Raises:
            GrammarError: where the text is none.
        """
        found = self._grammars.get((kind, text), lambda: self._make(kind, text))
        if isinstance(found, GrammarError):
            raise found
        return found

    def _make(self, kind: Kind, text: str) -> Made | GrammarError:
        given = {n: v for n, v in self.options.items() if misplaced(kind, text, [n]) is None}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                made = grammar_of(text, kind, path=self.store.path, limits=self.limits, **given)
            except GrammarError as error:
                return error.with_traceback(None)
        return Made(made, tuple(w.message for w in caught if isinstance(w.message, Warning)))

    def _models(self) -> list[Json]:
        """Tokenizers that can be chosen: the one asked for, embedded models, others that are here."""
        models = {known.name: known for known in list_models()}
        others = {known.name: known for known in list_tokenizers() if known.path is not None}
        with_model = {known.path for known in models.values() if known.path is not None}
        found: dict[str, Json] = {}
        if self.model is not None and self.model not in models:
            found[self.model] = {"name": self.model, "here": True, "about": "as asked for"}
        for name, known in (models | others).items():
            if name in models or known.path not in with_model:
                here = known.path is not None
                about = known.description + ("" if here else f"; {known.size_mb} MB to fetch")
                found[name] = {"name": name, "here": here, "about": about}
        return list(found.values())


def of_error(error: Exception) -> Json:
    """An error with its place, for JSON."""
    if isinstance(error, GrammarError):
        place = {"line": error.line, "column": error.column, "pointer": error.pointer}
        return {"message": error.message, "rule": error.rule, **place}
    if isinstance(error, OSError) and error.filename is not None:
        return {"message": f"{error.filename}: {error.strerror}"}
    return {"message": str(error)}


# -- texts -----------------------------------------------------------------------------------------


def _bytes_of(text: str) -> bytes:
    """UTF-8, as offsets count it; halves of surrogate pairs are kept."""
    return text.encode("utf-8", "surrogatepass")


def _units(text: str) -> int:
    """The length of a text as a browser counts it, in units of UTF-16."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _places(text: str) -> list[int]:
    """The browser's place of every byte offset of a text, the end included."""
    out: list[int] = []
    at = 0
    for char in text:
        out += [at] * len(_bytes_of(char))
        at += _units(char)
    return [*out, at]


def _verdict(grammar: Grammar, text: str) -> Json:
    found = grammar.explain(text)
    data = _bytes_of(text)
    good, bad = _cut(data, found.offset)
    state: Literal["accepted", "unfinished", "refused"] = "refused"
    if found.accepted:
        state = "accepted"
    elif found.offset == len(data) and not grammar.is_empty:
        state = "unfinished"
    return {
        "state": state,
        "good": _units(good),
        "bad": _units(bad),
        "byte": found.offset,
        "line": found.line,
        "column": found.column,
        "expected": list(found.expected),
        "rules": [_place_of(grammar, name) for name in found.rule_path],
        "message": _wrong(found),
    }


def _cut(data: bytes, offset: int) -> tuple[str, str]:
    """The text before the character that a byte offset is in, and that character."""
    start = offset
    while 0 < start < len(data) and data[start] & 0xC0 == 0x80:
        start -= 1
    end = start + 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return data[:start].decode("utf-8", "surrogatepass"), data[start:end].decode(
        "utf-8", "surrogatepass"
    )


def _wrong(found: Explanation) -> str:
    """What is wrong, in words; excerpt, rules and what was expected are shown on their own."""
    line = found.message.partition("\n")[0]
    wrong = line.partition("; expected ")[0] if found.expected else line
    return f"{wrong}: {found.hint}" if found.hint else wrong


def _place_of(grammar: Grammar, name: str) -> Json:
    if name not in grammar.ir:  # the dots between the outermost and the innermost rules
        return {"name": name, "line": None, "column": None, "pointer": None}
    span = grammar.ir[name].span
    return {"name": name, "line": span.line, "column": span.column, "pointer": span.pointer}


def _sample(grammar: Grammar, seed: int) -> str:
    try:
        data = grammar.sample(seed, _SAMPLE_BYTES)
    except BudgetError as error:
        data = grammar.sample(seed, 2 * error.needed)
    return data.decode("utf-8", "replace")


def _shown_option(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)


# -- tokens ----------------------------------------------------------------------------------------


def _vocabulary_of(model: str) -> tuple[Any, Vocabulary]:
    tokenizer = tokenizer_of(model)
    return tokenizer, Vocabulary.from_huggingface(tokenizer)


def _state_behind(automaton: TokenAutomaton, before: bytes, tokenizer: Any) -> int:
    """The state behind a text that follows the grammar; ``DEAD`` if no tokens write it."""
    if not automaton.grammar.tokens:
        return automaton.advance_bytes(automaton.start, before)
    state = automaton.start
    text = before.decode("utf-8", "replace")
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        state = automaton.advance(state, token)
    return state


def _allowed(automaton: TokenAutomaton, state: int) -> Json:
    vocabulary = automaton.vocabulary
    allowed = automaton.allowed_tokens(state).tolist()
    ends = automaton.is_accepting(state)
    is_live = state != automaton.DEAD
    return {
        "allowed": len(allowed),
        "of": vocabulary.size,
        "listed": [_token(automaton, i) for i in allowed[:MOST_TOKENS]],
        "may_end": ends,
        "forced": printable(automaton.forced_bytes(state)),
        "to_end": automaton.min_tokens_to_accept(state) if is_live else None,
        "spelled": is_live,
    }


def _token(automaton: TokenAutomaton, token_id: int) -> Json:
    """A token: its id, how it is shown, and the text that writes it, if any does on its own."""
    vocabulary = automaton.vocabulary
    data = vocabulary.token_bytes(token_id)
    if data is None:
        name = vocabulary.name_of(token_id)
        text = name if name in automaton.grammar.tokens else None
        return {"id": token_id, "shown": name, "text": text}
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    return {"id": token_id, "shown": printable(data), "text": text}
