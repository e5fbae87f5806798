"""Text in, :class:`Grammar` out: front ends, one intermediate form, one compiler.

This layer needs neither torch nor transformers.
"""

from grammars.captures import Capture
from grammars.errors import (
    BudgetError,
    GrammaError,
    GrammarError,
    LexingWarning,
    LimitExceeded,
    UnkeptConstraintWarning,
    UnsupportedSchemaError,
)
from grammars.explain import Explanation
from grammars.grammar import Grammar
from grammars.limits import Limits
from grammars.sources.ties import Inferred, Labelled, Rows, Verbatim
from grammars.special_tokens import SpecialToken
from grammars.tools import tool_format_of

__all__ = [
    "BudgetError",
    "Capture",
    "Explanation",
    "GrammaError",
    "Grammar",
    "GrammarError",
    "Inferred",
    "Labelled",
    "LexingWarning",
    "LimitExceeded",
    "Limits",
    "Rows",
    "SpecialToken",
    "UnkeptConstraintWarning",
    "UnsupportedSchemaError",
    "Verbatim",
    "tool_format_of",
]
