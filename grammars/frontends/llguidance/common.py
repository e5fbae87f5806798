"""The terminals that ``%import common.NAME`` gives in llguidance's dialect: patterns by name."""

from __future__ import annotations

from typing import Final

_INT: Final = "[0-9]+"
_SIGN: Final = r"(\+|-)?"
_EXPONENT: Final = rf"[eE]{_SIGN}{_INT}"
_DECIMAL: Final = rf"({_INT}\.[0-9]*|\.{_INT})"
_FLOAT: Final = rf"({_DECIMAL}({_EXPONENT})?|{_INT}{_EXPONENT})"
_NUMBER: Final = rf"({_INT}|{_FLOAT})"

COMMON: Final[dict[str, str]] = {
    "DIGIT": "[0-9]",
    "HEXDIGIT": "[a-fA-F0-9]",
    "INT": _INT,
    "SIGNED_INT": _SIGN + _INT,
    "DECIMAL": _DECIMAL,
    "_EXP": _EXPONENT,
    "FLOAT": _FLOAT,
    "SIGNED_FLOAT": _SIGN + _FLOAT,
    "NUMBER": _NUMBER,
    "SIGNED_NUMBER": _SIGN + _NUMBER,
    "ESCAPED_STRING": r'"([^"\\]|\\.)*"',
    "LCASE_LETTER": "[a-z]",
    "UCASE_LETTER": "[A-Z]",
    "LETTER": "[A-Za-z]",
    "WORD": "[A-Za-z]+",
    "CNAME": "[_A-Za-z][_A-Za-z0-9]*",
    "WS_INLINE": r"[ \t]+",
    "WS": r"[ \t\f\r\n]+",
    "CR": r"\r",
    "LF": r"\n",
    "NEWLINE": r"(\r?\n)+",
    "SH_COMMENT": r"#[^\n]*",
    "CPP_COMMENT": r"//[^\n]*",
    "C_COMMENT": r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*/",
    "SQL_COMMENT": r"--[^\n]*",
}
