"""Grammars written out as text: GBNF and Lark, from any front end's rules."""

from grammars.writing.gbnf import gbnf_of
from grammars.writing.lark import lark_of

__all__ = ["gbnf_of", "lark_of"]
