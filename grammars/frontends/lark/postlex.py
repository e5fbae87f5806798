"""Which terminals a postlex indenter speaks of: ``lark.indenter.Indenter`` read as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from grammars.errors import GrammarError
from grammars.frontends import _lark_api
from grammars.frontends.lark.source import Source
from grammars.ir import Ranges

_INDENT: Final = "_INDENT"
_DEDENT: Final = "_DEDENT"
NEWLINES: Final = ("_NEWLINE", "_NL", "NEWLINE")
"""Names of the newline where no indenter is given, the first that the grammar has: Python's own, then others
in use."""

LAYOUT_SETS: Final[tuple[Ranges, ...]] = (((9, 9),), ((10, 10),), ((32, 32),))
"""Characters that layout tells apart: tab, line end, blank."""


@dataclass(frozen=True)
class Postlex:
    """An indenter.

    Attributes:
        newline: the terminal behind which indentation counts.
        indent, dedent: the terminals that no text spells.
        opening, closing: terminals of brackets, inside which newlines are ignored.
        tab_length: blanks that a tab stands for.
    """

    newline: str
    indent: str
    dedent: str
    opening: frozenset[str]
    closing: frozenset[str]
    tab_length: int

    @property
    def unspelled(self) -> frozenset[str]:
        """The terminals without a pattern."""
        return frozenset((self.indent, self.dedent))


def check_postlex(postlex: Any) -> Any:
    """The indenter itself, made of its class where that is given; ``None`` stays.

    Raises:
        TypeError: for anything else, and indenters with a behaviour of their own.
    """
    if postlex is None:
        return None
    indenter = _lark_api.Indenter
    if isinstance(postlex, type) and issubclass(postlex, indenter):
        postlex = postlex()
    if not isinstance(postlex, indenter):
        raise TypeError(
            "postlex must be a lark.indenter.Indenter (an instance, or its class), "
            f"not {postlex!r:.80}"
        )
    for method in ("handle_NL", "_process", "process"):
        if getattr(type(postlex), method) is not getattr(indenter, method):
            raise TypeError(
                f"{type(postlex).__name__} overrides {method}, which cannot be followed; "
                "only the attributes of an Indenter can be its own"
            )
    return postlex


def postlex_of(
    postlex: Any, source: Source, defined: Iterable[str], undefined: Iterable[str]
) -> Postlex | None:
    """What the terminals of a grammar mean to an indenter; ``None`` where there is none.

    Args:
        postlex: of :func:`check_postlex`; without one it is Python's if the grammar uses ``_INDENT`` or
            ``_DEDENT`` and declares them.
        source: for places.
        defined: the terminals with a pattern.
        undefined: the terminals that rules use and ``%declare`` names.

    Raises:
        GrammarError: for an indenter that does not fit the grammar.
    """
    known = frozenset(defined)
    if postlex is None:
        if not {_INDENT, _DEDENT}.intersection(undefined):
            return None
        python = _lark_api.PythonIndenter()
        newline = next((name for name in NEWLINES if name in known), python.NL_type)
        postlex = python
    else:
        newline = str(postlex.NL_type)
    found = Postlex(
        newline,
        str(postlex.INDENT_type),
        str(postlex.DEDENT_type),
        frozenset(map(str, postlex.OPEN_PAREN_types)),
        frozenset(map(str, postlex.CLOSE_PAREN_types)),
        int(postlex.tab_len),
    )
    if newline not in known:
        where = source.place(found.indent, found.dedent)
        raise GrammarError(
            f"indentation is read behind the terminal {newline}, which this grammar does not have; "
            "define it, for example as /(\\r?\\n[\\t ]*)+/, or pass postlex= with another NL_type",
            line=where.line,
            column=where.column,
        )
    for name in (found.indent, found.dedent):
        if name in known:
            where = source.place(name)
            raise GrammarError(
                f"terminal {name} has a pattern, but the indenter makes it; %declare it instead",
                line=where.line,
                column=where.column,
            )
    return found
