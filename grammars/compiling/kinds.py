"""Kinds of rows in the table of a grammar's nodes (:mod:`grammars.compiling.encoding`)."""

from __future__ import annotations

from typing import Final

NOTHING: Final = 0
LITERAL: Final = 1
"""a, b: offset and length of the text."""
CHARS: Final = 2
"""a: the class; b: 1 if it is wide, 2 if it goes beyond ASCII."""
EDGE: Final = 3
"""a: the set of symbols."""
SEQ: Final = 4
ALT: Final = 5
"""a: how many children are texts: they come first, sorted."""
REPEAT: Final = 6
"""a, b: the bounds, -1 for none."""
REF: Final = 7
"""a: the rule."""
AND: Final = 8
NOT: Final = 9
MACHINE: Final = 10
"""a: states; b: whether the empty text is accepted."""
BAG: Final = 11
CALL: Final = 12
"""a: the rule, never inlined."""
EMBED: Final = 13
"""a: the automaton."""
