"""Whether lark finds a grammar's rules LALR(1)."""

from __future__ import annotations

from grammars.frontends import _lark_api


def has_lalr_table(text: str) -> bool:
    """Whether a Lark text has an LALR(1) table without conflicts, so that each text has one tree at most.

    Args:
        text: a grammar whose terminals have no texts in common, such as ``Grammar.to_lark`` writes.
    """
    return _lark_api.has_lalr_table(text)
