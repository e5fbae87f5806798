"""A text seen through a vocabulary, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from constrain import TokenAutomaton, Vocabulary
from grammars import Grammar
from grammars.lint import Finding
from grammars.special_tokens import FRAME


@dataclass(frozen=True)
class Step:
    """What an automaton says before one token.

    Attributes:
        token: its text (with escapes); empty at the end of the text.
        token_id: its id; -1 at the end.
        allowed: how many tokens are allowed there.
        may_end: whether EOS is.
        forced: text that has to come there in any case.
        to_end: fewest tokens from there to the end of a text.
        allowed_here: whether this token is allowed (at the end: whether the text may end).
        begin, end: its byte offsets in the text.
    """

    token: str
    token_id: int
    allowed: int
    may_end: bool
    forced: str
    to_end: int
    allowed_here: bool
    begin: int = 0
    end: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def steps_of(grammar: Grammar, data: bytes, model: str) -> Iterator[Step]:
    """The steps of a text as a model's tokenizer cuts it, up to the first that is not allowed."""
    tokenizer = tokenizer_of(model)
    vocabulary = Vocabulary.from_huggingface(tokenizer)
    automaton = TokenAutomaton(grammar, vocabulary)
    state = automaton.start
    begin = 0
    for token_id in cut(tokenizer, vocabulary, data):
        after = automaton.advance(state, token_id)
        step = _step(automaton, state, token_id, after != automaton.DEAD, begin)
        yield step
        if not step.allowed_here:
            return
        state = after
        begin = step.end
    yield _step(automaton, state, -1, automaton.is_accepting(state), begin)


def _step(
    automaton: TokenAutomaton, state: int, token_id: int, allowed_here: bool, begin: int
) -> Step:
    vocabulary = automaton.vocabulary
    text = vocabulary.token_bytes(token_id) if token_id >= 0 else b""
    return Step(
        vocabulary.name_of(token_id) if text is None else printable(text),
        token_id,
        len(automaton.allowed_tokens(state)),
        automaton.is_accepting(state),
        printable(automaton.forced_bytes(state)),
        automaton.min_tokens_to_accept(state),
        allowed_here,
        begin,
        begin + len(text or b""),
    )


def cut(tokenizer: Any, vocabulary: Vocabulary, data: bytes) -> list[int]:
    """Token ids of a text; bytes one by one where the tokenizer changes the text."""
    ids: list[int] = tokenizer(data.decode("utf-8", "replace"), add_special_tokens=False)[
        "input_ids"
    ]
    if vocabulary.decode(ids) == data:
        return ids
    single = {vocabulary.token_bytes(i): i for i in range(vocabulary.size - 1, -1, -1)}
    missing = next((b for b in data if bytes([b]) not in single), None)
    if missing is not None:
        raise ValueError(f"the tokenizer has no token for the byte 0x{missing:02X} of the text")
    return [single[bytes([b])] for b in data]


def tokenizer_of(model: str) -> Any:
    """The tokenizer of an embedded model, a folder or a hub name."""
    from constrain.models import load_model, load_tokenizer

    try:
        return load_tokenizer(model)
    except ValueError:  # not one of the embedded ones: a folder or a hub name
        return load_model(model)[1]


def open_rules(grammar: Grammar, before: bytes) -> tuple[str, ...]:
    """The rules that are open behind a text that follows the grammar, the outermost first.

    Also where the text may end, for which :meth:`Grammar.explain` names none.
    """
    found = grammar.explain(before)
    if not found.accepted or grammar.tokens:
        return found.rule_path
    # no text in UTF-8 has the byte, so it is what cannot come there
    further = grammar.explain(before + b"\xff")
    return further.rule_path if further.offset == len(before) else ()


def printable(data: bytes) -> str:
    """Text with escapes for what cannot be seen."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def table_of(steps: list[Step]) -> Table:
    """The steps for a terminal."""
    table = Table()
    refused = not all(step.allowed_here for step in steps)
    for name in ("token", "id", "allowed", "may end", "forced", "to the end"):
        table.add_column(name, overflow="fold")
    if refused:
        table.add_column("", no_wrap=True)
    for step in steps:
        verdict = "" if step.allowed_here else "NOT ALLOWED"
        at_end = step.token_id < 0
        table.add_row(
            Text("(end)") if at_end else Text(_seen(step.token), "bold"),
            "" if at_end else str(step.token_id),
            f"{step.allowed:,}",
            "yes" if step.may_end else "",
            Text(step.forced),
            str(step.to_end),
            *([verdict] if refused else []),
        )
    return table


def _seen(token: str) -> str:
    """A token whose blanks at its ends can be seen."""
    return token if token == token.strip() else f"'{token}'"


def unwritable_findings(grammar: Grammar, model: str) -> list[Finding]:
    """Bytes that the grammar reads and that no token of a model's vocabulary has."""
    vocabulary = Vocabulary.from_huggingface(tokenizer_of(model))
    texts = (vocabulary.token_bytes(i) for i in range(vocabulary.size))
    written = {byte for text in texts if text is not None for byte in text}
    program = grammar.program
    classes = set(program.edge_class.tolist())
    read = {byte for byte in range(256) if int(program.byte_class[byte]) in classes}
    if grammar.tokens:
        read.discard(FRAME)
    missing = sorted(read - written)
    if not missing:
        return []
    listed = ", ".join(_byte_shown(byte) for byte in missing[:8]) + (
        ", ..." if len(missing) > 8 else ""
    )
    return [
        Finding(
            "unwritable",
            "warning",
            f"no token of {model} has {len(missing)} of the bytes that the grammar reads: {listed}",
            "texts with them cannot be generated; they are left out of all masks",
        )
    ]


def _byte_shown(byte: int) -> str:
    return repr(chr(byte)) if 0x20 <= byte < 0x7F else f"0x{byte:02X}"
