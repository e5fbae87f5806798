"""Which texts can be written in the tokens of a vocabulary at all.

Usually every byte that occurs in a token is a token itself; then a text can be spelled if and only
if all its bytes are available, and compiling the grammar over the available bytes settles the
matter: every state left is live.  Where some byte occurs only inside longer tokens (a
character-level vocabulary with a token ``Cl`` but no ``l``, a toy with eight tokens), a state is
live if and only if some number of tokens completes it, which ``constrain.completion.tokens`` decides.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from constrain.vocabulary import Vocabulary
from grammars.grammar import Grammar
from grammars.program import Program
from grammars.special_tokens import FRAME


class Spelling:
    """The program over the bytes that a vocabulary has.

    Attributes:
        program: the grammar's program restricted to bytes that occur in tokens.
        trivial: every byte of the program is a token, so every state is live.
    """

    def __init__(self, grammar: Grammar, vocabulary: Vocabulary) -> None:
        program = grammar.program
        used = used_bytes(program)
        available = np.asarray(vocabulary.bytes_in_tokens)
        self.missing = used & ~available
        if self.missing.any():
            program = grammar.compile(_as_mask(available))
            used = used_bytes(program)
        self.program = program
        alone = np.array(vocabulary.single_byte)
        # names stand in frames, which are whole tokens; a byte that is read elsewhere too counts
        alone[FRAME] |= bool(grammar.tokens)
        self.trivial = not (used & ~alone).any()

    def complaint(self) -> str:
        """Why nothing can be spelled."""
        lacking = [bytes([b]) for b in np.flatnonzero(self.missing)]
        advice = "use another tokenizer, or a grammar that allows other texts"
        if not lacking:
            return (
                "no text of this grammar can be written in tokens of this vocabulary: its bytes "
                f"occur only inside tokens that do not fit; {advice}"
            )
        shown = ", ".join(repr(b)[1:] for b in lacking[:10])
        more = f" and {len(lacking) - 10} more" if len(lacking) > 10 else ""
        return (
            "no text of this grammar can be written in tokens of this vocabulary: no token has "
            f"the byte {shown}{more}; {advice}"
        )


def used_bytes(program: Program) -> npt.NDArray[np.bool_]:
    """bool[256]: bytes that some edge of the program reads."""
    used = np.bincount(program.edge_class, minlength=program.classes) > 0
    return used[program.byte_class[:256]]


def _as_mask(flags: npt.NDArray[np.bool_]) -> int:
    return sum(1 << int(b) for b in np.flatnonzero(flags))
