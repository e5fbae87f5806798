"""All that this package uses of the private insides of lark, and all calls of them.

lark's public face reads a grammar and parses with it; what stands between, the terminals in the
order its lexer tries them and the LALR table, has no public name.  Relied on:

* ``lark.load_grammar.GrammarBuilder(keep_all_tokens, import_paths)`` has ``load_grammar(text, name)``,
  which calls ``_define(name, is_term, tree, parameters, options)``, and ``build()``, which gives a
  grammar with
  ``rule_defs`` (name, parameters, tree, options), ``term_defs`` (name, (tree, priority)),
  ``ignore`` and ``compile(start, terminals_to_keep)``, which gives terminals, rules and ignored
  names; the trees have the kinds of node that :mod:`grammars.frontends.lark.bounds` lists;
* ``lark.load_grammar.stdlib_loader(base, path)`` reads a grammar of lark's own library; loaders are asked
  in turn, and one that raises anything but ``OSError`` ends the search;
* ``lark.load_grammar._parse_grammar(text, name)`` gives the statements of a grammar, of which
  ``term`` (name, perhaps a priority, tree), ``extend`` and ``override`` are read;
* ``lark.lexer``: ``BasicLexer(conf).scanner.terminals`` is the order in which terminals are tried,
  ``.callback`` holds an ``UnlessCallback`` (with a ``scanner``) for patterns that strings retype;
  ``TerminalDef`` has ``name``, ``pattern`` (``value``, ``flags``, ``raw``, ``min_width``,
  ``to_regexp()``) and ``user_repr()``;
* ``lark.utils.small_factors(n, 5)`` splits a long repetition into those of the rules for it;
* ``lark.parsers.lalr_analysis.LALR_Analyzer(conf, strict=True)`` has ``compute_lalr()``,
  ``lr0_itemsets`` with ``lookaheads``, and ``parse_table`` with ``states`` and ``start_states``;
* ``lark.parsers.grammar_analysis.GrammarAnalyzer(conf)`` has ``FIRST`` and ``FOLLOW``.

Tested with lark 1.3.1; the sources of 1.2.1 to 1.3.1 agree in all of this.  Since these are
insides, the next minor version may differ: the package asks for ``lark>=1.2,<1.4``.

lark checks much of its input by ``assert`` and lets errors of what it calls pass (``re.error``,
``OverflowError``, ``RecursionError``).  Whatever leaves it becomes a :class:`LarkError` here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

SUPPORTED: Final = "lark>=1.2,<1.4"

try:
    from lark import Lark, Tree, exceptions, logger
    from lark import __version__ as version
    from lark.common import LexerConf, ParserConf
    from lark.grammar import NonTerminal, Terminal
    from lark.indenter import Indenter, PythonIndenter
    from lark.lexer import BasicLexer, PatternRE, PatternStr, TerminalDef, UnlessCallback
    from lark.load_grammar import GrammarBuilder, PrepareLiterals, _parse_grammar, stdlib_loader
    from lark.parsers.grammar_analysis import GrammarAnalyzer
    from lark.parsers.lalr_analysis import LALR_Analyzer, Shift
    from lark.utils import small_factors
except ImportError as error:
    raise ImportError(
        f"this version of lark lacks what grammars of Lark are read with ({error}); "
        f"install {SUPPORTED}"
    ) from None

__all__ = [
    "BasicLexer",
    "GrammarAnalyzer",
    "Indenter",
    "LALR_Analyzer",
    "LarkError",
    "NonTerminal",
    "ParserConf",
    "PatternRE",
    "PatternStr",
    "PythonIndenter",
    "Shift",
    "Terminal",
    "TerminalDef",
    "Tree",
    "UnlessCallback",
    "basic_lexer",
    "calling",
    "compile_grammar",
    "has_lalr_table",
    "leaf_pattern",
    "load",
    "small_factors",
    "stdlib_loader",
    "terminal_trees",
    "version",
]


class LarkError(Exception):
    """Whatever lark, or what it calls, raised; the text is what it says about the grammar."""

    def __init__(self, cause: BaseException) -> None:
        if isinstance(cause, exceptions.VisitError):
            cause = cause.orig_exc  # the wrapper only says in which step it was
        super().__init__(_said(cause))
        self.cause = cause

    @property
    def is_refusal(self) -> bool:
        """Whether lark meant to refuse the grammar."""
        return isinstance(self.cause, exceptions.LarkError)

    @property
    def is_number(self) -> bool:
        """Whether a number was too large for what lark calls."""
        return isinstance(self.cause, OverflowError) or "integer string" in str(self.cause)

    @property
    def too_deep(self) -> bool:
        """Whether the grammar is nested more deeply than lark can follow."""
        return isinstance(self.cause, RecursionError)


def _said(cause: BaseException) -> str:
    """What an error says, as far as it says it to people."""
    if isinstance(cause, exceptions.LarkError | re.error | OSError):
        return str(cause) or type(cause).__name__
    if isinstance(cause, OverflowError | ValueError) and str(cause):
        return str(cause)
    return f"lark fails on it ({type(cause).__name__}: {cause})"


@contextmanager
def calling() -> Iterator[None]:
    """Turns every error inside into a :class:`LarkError`.

    Anything may come out of a reader that was not made for hostile text, so all is taken; only
    what is no error (an interrupt) passes.
    """
    try:
        yield
    except LarkError:
        raise
    except Exception as cause:
        raise LarkError(cause) from cause


def terminal_trees(text: str, extended: set[str] | None = None) -> dict[str, list[Any]]:
    """The trees of the terminals that a text defines, by name, not put into each other.

    Args:
        text: the grammar.
        extended: the names of those that it extends are added here.

    Raises:
        LarkError: where the text is refused.
    """
    parse: Any = _parse_grammar  # not typed
    out: dict[str, list[Any]] = {}
    with calling():
        for statement in parse(text, "<grammar>").children:
            inner = statement
            if statement.data in ("extend", "override"):
                (inner,) = statement.children
            if inner.data == "term":
                out.setdefault(str(inner.children[0]), []).append(inner.children[-1])
                if statement.data == "extend" and extended is not None:
                    extended.add(str(inner.children[0]))
    return out


class _Builder(GrammarBuilder):
    """Reads a grammar, some terminals put aside and others put in their place."""

    def __init__(self, import_paths: Sequence[Any], apart: Collection[str]) -> None:
        build: Any = super().__init__  # not typed
        build(False, list(import_paths))
        self._apart = apart
        self.kept: dict[str, Any] = {}

    def _define(
        self, name: Any, is_term: Any, exp: Any, params: Any = (), options: Any = None, **more: Any
    ) -> None:
        if is_term and exp is not None and name in self._apart:
            self.kept[str(name)] = exp
            (exp,) = terminal_trees(f"X: /\ue000{name}/")["X"]
        define: Any = super()._define  # not typed
        define(name, is_term, exp, params, options, **more)


def load(
    text: str,
    import_paths: Sequence[Any],
    name: str = "<grammar>",
    apart: Collection[str] = (),
) -> tuple[Any, dict[str, Any]]:
    """Lark's grammar of a text, not compiled, and the trees of terminals that were put aside.

    Args:
        text: the grammar.
        import_paths: folders, or loaders as lark calls them.
        name: of the file that the text is of, for relative imports.
        apart: terminals of the text that lark gets something else for.

    Raises:
        LarkError: where it is refused.
    """
    with calling():
        builder = _Builder(import_paths, apart)
        read: Any = builder.load_grammar  # not typed
        read(text, name)
        return builder.build(), builder.kept


def leaf_pattern(tree: Any) -> Any:
    """Lark's pattern of a text, a pattern or a range in a terminal's tree.

    Raises:
        LarkError: where it is refused.
    """
    with calling():
        whole = Tree("value", [Tree(tree.data, list(tree.children))])
        (pattern,) = PrepareLiterals().transform(whole).children[0].children
        return pattern


def compile_grammar(
    grammar: Any, start: str, kept: Iterable[str] = ()
) -> tuple[list[TerminalDef], list[Any], list[str]]:
    """Terminals, rules in plain form, and the names of the ignored terminals.

    Args:
        grammar: lark's.
        start: the rule to start from.
        kept: terminals that count though no rule uses them.

    Raises:
        LarkError: where lark refuses the grammar.
    """
    with calling():
        terminals, rules, ignored = grammar.compile([start], set(kept))
        return list(terminals), list(rules), [str(name) for name in ignored]


def basic_lexer(terminals: Sequence[TerminalDef], ignored: Sequence[str]) -> Any:
    """Lark's lexer of some terminals, its patterns compiled.

    Raises:
        LarkError: where a pattern is refused.
    """
    with calling():
        lexer = BasicLexer(LexerConf(list(terminals), re, list(ignored), skip_validation=True))
        assert lexer.scanner  # made when it is first asked for
        return lexer


def has_lalr_table(text: str) -> bool:
    """Whether a grammar is LALR(1) without conflicts, which ``strict`` has lark refuse."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with calling():
            Lark(text, parser="lalr", lexer="basic", strict=True)
    except LarkError:
        return False
    finally:
        logger.setLevel(level)
    return True
