"""Rules of other grammars within a Lark grammar.

A rule that the text refers to and another grammar describes is, to Lark, one terminal: a character that
neither the text nor any other text has.  The lexer cuts around it as around any other token, so ``%ignore``
applies on either side and not within; the other grammar takes its place afterwards, and is read without a
lexer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from grammars.composition import Rewriting, embedded
from grammars.errors import GrammarError
from grammars.ir import Chars, Expr, GrammarIR, Literal, Ref, seq
from grammars.limits import Limits

_NAME: Final = re.compile(r"_?[a-z][a-z0-9_]*")
_TEXT: Final = "text of "
_FIRST: Final = 0xFDD0
"""Code points from here to 0xFDEF are no characters and mean nothing in any text (Unicode, 23.7)."""
_LAST: Final = 0xFDEF


def lark_with_rules(
    text: str, rules: Mapping[str, GrammarIR], limits: Limits, read: Callable[[str], GrammarIR]
) -> GrammarIR:
    """A Lark grammar some of whose rules are other grammars.

    Args:
        text: the grammar; it refers to these rules and does not define them.
        rules: the other grammars, by name.
        limits: bounds on what the whole may cost.
        read: the front end.

    Raises:
        GrammarError: for a name that is no rule's, that the text defines itself, or that nothing refers to.
    """
    if not isinstance(text, str):
        raise TypeError(f"a grammar must be str, not {type(text).__name__}: {text!r:.80}")
    free = [chr(code) for code in range(_FIRST, _LAST + 1) if chr(code) not in text]
    if len(rules) > len(free):
        raise GrammarError(f"rules= gives {len(rules)} grammars; {len(free)} is the most")
    signs = dict(zip(rules, free, strict=False))
    lines = [text]
    for number, (name, sign) in enumerate(signs.items()):
        if not _NAME.fullmatch(name):
            raise GrammarError(
                f"rules= gives {name!r}, which is no name of a Lark rule: lower-case letters, digits and _"
            )
        terminal = f"_GIVEN_{number}"
        while terminal in text:
            terminal += "_"
        lines.append(f'{name}: {terminal}\n{terminal}: "{sign}"')
    replacing = _Replacing({sign.encode(): name for name, sign in signs.items()})
    host = read("\n".join(lines))
    fresh = tuple(replace(rule, body=replacing(rule.body)) for rule in host.rules)
    unused = [name for name in rules if name not in replacing.found]
    if unused:
        raise GrammarError(f"rules= gives {unused[0]!r}, which nothing refers to; take it out")
    # the rule of that name is what the lexer skips, and then the text of the other grammar
    given = {_TEXT + name: grammar for name, grammar in rules.items()}
    return replace(embedded(replace(host, rules=fresh), given, limits), lexer=host.lexer)


class _Replacing(Rewriting):
    """Expressions in which signs are references; ``found`` says which."""

    def __init__(self, names: Mapping[bytes, str]) -> None:
        super().__init__()
        self._names = names
        self._signs = re.compile(b"(" + b"|".join(map(re.escape, names)) + b")")
        self.found: set[str] = set()

    def leaf(self, node: Expr) -> Expr | None:
        """What stands for a node."""
        if isinstance(node, Chars):
            points = {ord(sign.decode()) for sign in self._names}
            if {low for low, _ in node.ranges} | {high for _, high in node.ranges} <= points:
                raise GrammarError("a Lark grammar has several of its rules= in one terminal")
        if not isinstance(node, Literal) or not self._signs.search(node.data):
            return None
        parts: list[Expr] = []
        for part in self._signs.split(node.data):
            name = self._names.get(part)
            if name is None:
                parts.append(Literal(part))
            else:
                self.found.add(name)
                parts.append(Ref(_TEXT + name))
        return seq(*parts)
