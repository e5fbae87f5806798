"""Special tokens in grammars: symbols that no text spells.

A vocabulary has tokens without bytes (``<|call|>``, ``<|im_end|>``, ids without a name).  Grammars are
about bytes, so such a token stands in their rules as a byte that no UTF-8 text has, the token's name,
and that byte again.  Two things follow, and they are all that the layers below need to know:

* in a grammar that names special tokens (``GrammarIR.tokens``) the byte ``FRAME`` belongs to them
  alone: texts that callers give never have it, and parts that would read it themselves are refused,
* to a :class:`constrain.TokenAutomaton` a special token is one more token, whose text is the framed
  name (``Vocabulary.with_special_tokens``), so masks, distances and walks know nothing of it.

A grammar without special tokens has no reserved byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from grammars.errors import GrammarError
from grammars.ir import ByteSet, Expr, GrammarIR, Literal, Machine, children

FRAME: Final = 0xFF
"""The byte around the name of a special token; no text in UTF-8 has it."""
_FRAME: Final = bytes((FRAME,))
_FRAMED: Final = re.compile(rb"\xff([^\xff]*)\xff")
_BY_ID: Final = re.compile(r"\[(0|[1-9][0-9]*)\]")


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A special token as a part of a text, for :meth:`Grammar.accepts` and :meth:`Grammar.explain`.

    Attributes:
        name: as the tokenizer has it (``<|call|>``), or ``[7]`` for the token with the id 7.
    """

    name: str


Part: TypeAlias = str | bytes | SpecialToken


def name_of(token: str | int) -> str:
    """The name by which a grammar calls a token, given by its name or its id.

    Raises:
        GrammarError: for an empty name, one with half of a surrogate pair, and a negative id.
        TypeError: for anything but a text or an integer.
    """
    if isinstance(token, int) and not isinstance(token, bool):
        if token < 0:
            raise GrammarError(f"a token id is 0 or more, not {token}")
        return f"[{token}]"
    if not isinstance(token, str):
        raise TypeError(f"a special token is given by its name or its id, not {token!r:.80}")
    if not token:
        raise GrammarError("the name of a special token is empty; give it as the tokenizer has it")
    try:
        token.encode()
    except UnicodeEncodeError:
        raise GrammarError(f"the name {token!r} has half of a surrogate pair") from None
    return token


def id_of(name: str) -> int | None:
    """The id that a name such as ``[7]`` gives; ``None`` for other names."""
    found = _BY_ID.fullmatch(name)
    return int(found[1]) if found else None


def framed(name: str) -> bytes:
    """What stands for a special token in rules and in the texts that they read."""
    return _FRAME + name.encode() + _FRAME


def is_framed(data: bytes) -> bool:
    """Whether a text begins with a special token."""
    return data[:1] == _FRAME


def shown(data: bytes) -> bytes:
    """A text with the names of its special tokens in plain bytes."""
    return data.replace(_FRAME, b"")


def names_in(data: bytes) -> list[str]:
    """The special tokens of a text, in order."""
    return [name.decode() for name in _FRAMED.findall(data)]


def until_token(data: bytes) -> bytes:
    """The part of a text before its first special token."""
    return data.partition(_FRAME)[0]


def read_as_tokenizer(text: str, tokens: Sequence[str]) -> bytes:
    """A text as a tokenizer reads it: where the name of a special token stands, that token is meant.

    The longest of several names that begin in one place.
    """
    data = text.encode()
    if not tokens:
        return data
    names = sorted((re.escape(name.encode()) for name in tokens), key=len, reverse=True)
    return re.sub(b"|".join(names), lambda found: _FRAME + found[0] + _FRAME, data)


def read_parts(parts: Iterable[Part], tokens: Sequence[str]) -> bytes | None:
    """Parts of a text on end; ``None`` where a token is none of the grammar's, or a part no text.

    A ``str`` that is the name of one of the tokens is that token; any other is text, names or not.

    Raises:
        TypeError: for parts of other kinds.
        UnicodeEncodeError: for a part with half of a surrogate pair.
    """
    out = bytearray()
    for part in parts:
        if isinstance(part, SpecialToken) or (isinstance(part, str) and part in tokens):
            name = part if isinstance(part, str) else part.name
            if name not in tokens:
                return None
            out += framed(name)
        elif isinstance(part, str):
            out += part.encode()
        elif isinstance(part, bytes | bytearray | memoryview):
            data = bytes(part)
            if tokens and FRAME in data:
                return None
            out += data
        else:
            raise TypeError(
                "a part of a text is str, bytes or a SpecialToken, "
                f"not {type(part).__name__}: {part!r:.80}"
            )
    return bytes(out)


def check_free(ir: GrammarIR) -> None:
    """Refuses a grammar that reads the reserved byte itself, to stand beside special tokens.

    Raises:
        GrammarError: naming the rule.
    """
    known = {framed(name) for name in ir.tokens}
    seen: set[int] = set()
    for rule in ir.rules:
        stack = [rule.body]
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if _reads_frame(node, known):
                raise GrammarError(
                    f"rule {rule.name!r} reads the byte 0xFF, which no text in UTF-8 has; it cannot stand "
                    "in one grammar with special tokens",
                    line=rule.span.line,
                    column=rule.span.column,
                    pointer=rule.span.pointer,
                )
            stack.extend(children(node))


def _reads_frame(node: Expr, known: set[bytes]) -> bool:
    match node:
        case Literal(data):
            return _FRAME in data and any(
                part not in known for part in re.findall(rb"\xff[^\xff]*\xff?", data)
            )
        case ByteSet(ranges):
            return any(high == FRAME for _, high in ranges)
        case Machine(edges):
            return any(high == FRAME for state in edges for _, high, _ in state)
    return False
