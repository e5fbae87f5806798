"""All that this package uses of the private insides of ``re``: its parser, compiler and constants.

``re`` has no public parse tree.  Relied on:

* ``re._parser.parse(pattern, flags)`` gives a ``SubPattern`` with ``.state.flags`` and
  ``.getwidth()``, whose items are pairs of a named constant and an argument (as ``sre_parse`` has
  had them since Python 3.11, where atomic groups and possessive repetitions came in);
* ``re._parser.State()`` and ``SubPattern(state, items)`` build such a tree;
* ``re._compiler.compile(tree, flags)`` makes a pattern of a tree;
* the names of :data:`NAMES` in ``re._constants``;
* ``_sre.unicode_iscased`` and ``_sre.unicode_tolower``.

The package is tested on CPython 3.11; this module was loaded and tried on 3.12.1 and 3.13.0 too.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

from grammars.frontends.nesting import deepest_bracket

SUPPORTED: Final = "CPython 3.11 to 3.13"

NAMES: Final = (
    "ANY", "ASSERT", "ASSERT_NOT", "AT", "AT_BEGINNING", "AT_BEGINNING_STRING", "AT_BOUNDARY",
    "AT_END", "AT_END_STRING", "AT_NON_BOUNDARY", "ATOMIC_GROUP", "BRANCH", "CATEGORY",
    "CATEGORY_DIGIT", "CATEGORY_SPACE", "CATEGORY_WORD", "FAILURE", "GROUPREF", "GROUPREF_EXISTS",
    "IN", "LITERAL", "MAX_REPEAT", "MAXREPEAT", "MIN_REPEAT", "NEGATE", "NOT_LITERAL",
    "POSSESSIVE_REPEAT", "RANGE", "SUBPATTERN",
)  # fmt: skip
"""What is used of ``re._constants``."""


class PatternError(Exception):
    """A pattern that ``re`` refuses, for whatever reason.

    Attributes:
        reason: in ``re``'s words where it has any.
        offset: where in the pattern, or ``None`` if ``re`` does not say.
    """

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


def _module(name: str, needed: Sequence[str]) -> ModuleType:
    """A private module that must have some names.

    Raises:
        ImportError: naming the supported range, if it lacks one.
    """
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise ImportError(_missing(name)) from None
    for attribute in needed:
        if not hasattr(module, attribute):
            raise ImportError(_missing(f"{name}.{attribute}"))
    return module


def _missing(what: str) -> str:
    return (
        f"this interpreter's re has no {what}, which regular expressions are read with; "
        f"supported are {SUPPORTED}"
    )


_parser: Any = _module("re._parser", ("parse", "State", "SubPattern"))
_compiler: Any = _module("re._compiler", ("compile",))
_sre: Any = _module("_sre", ("unicode_iscased", "unicode_tolower"))
constants: Any = _module("re._constants", NAMES)

MAX_REPEAT: Final[int] = int(constants.MAXREPEAT)
"""The bound that stands for "no upper bound"."""

_BOUNDS: Final = re.compile(r"(?:\{|~[ \t]*)\d*(?:,|[ \t]*\.\.[ \t]*)?\d*")
"""Bounds of a repetition, in a pattern or a rule of Lark."""


def parse(pattern: str, flags: int = 0) -> Any:
    """The parse tree of a pattern, checked by compiling it.

    Raises:
        PatternError: if ``re`` refuses the pattern.
        TypeError: if it is no text.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern must be str, not {type(pattern).__name__}: {pattern!r}")
    try:
        tree = _parser.parse(pattern, int(flags))
        # some mistakes are found only here (look-behind of variable width)
        _compiler.compile(tree, int(tree.state.flags))
    except re.error as error:
        raise PatternError(error.msg, error.pos) from None
    except RecursionError:
        offset, depth = deepest_bracket(pattern)
        raise PatternError(f"the pattern is nested too deeply ({depth:,} levels)", offset) from None
    except (OverflowError, ValueError, RuntimeError, MemoryError) as error:
        raise _too_large(pattern, error) from None
    return tree


def _too_large(pattern: str, error: Exception) -> PatternError:
    """A number that ``re`` cannot hold."""
    offset = longest_bounds(pattern)
    if offset is None or not isinstance(error, OverflowError | ValueError):
        return PatternError(str(error) or type(error).__name__)
    return PatternError("the repetition number is too large", offset)


def longest_bounds(text: str) -> int | None:
    """Offset of the longest bounds of a repetition, if they are long.

    ``re`` does not say which of its numbers it cannot hold.
    """
    found = max(_BOUNDS.finditer(text), key=lambda f: len(f.group()), default=None)
    return found.start() if found and len(found.group()) > 8 else None


def tree_of(items: Sequence[Any], flags: int = 0) -> Any:
    """A parse tree of some operations."""
    state = _parser.State()
    state.flags = int(flags)
    return _parser.SubPattern(state, list(items))


def compile_tree(tree: Any, flags: int) -> re.Pattern[str]:
    """The pattern object of a parse tree."""
    compiled: re.Pattern[str] = _compiler.compile(tree, int(flags))
    return compiled


def run_of(item: Any, flags: int) -> re.Pattern[str]:
    """A pattern that matches runs of what one operation matches."""
    one = tree_of([item], flags)
    return compile_tree(
        tree_of([(constants.MAX_REPEAT, (1, constants.MAXREPEAT, one))], flags), flags
    )


def is_cased(point: int) -> bool:
    """Whether a code point has another case, as ``re.IGNORECASE`` sees it."""
    return bool(_sre.unicode_iscased(point))


def to_lower(point: int) -> int:
    """The code point that ``re.IGNORECASE`` compares in its place."""
    return int(_sre.unicode_tolower(point))
