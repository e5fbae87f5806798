"""From the intermediate form to a :class:`~grammars.program.Program`.

Kernels do it (:mod:`grammars.compiling.kernel_compiler`), or these steps, one function each:

1. ``Analysis``: which rules are reachable, recursive, nullable, worth inlining;
2. ``RuleBuilder``: every remaining rule becomes a deterministic automaton over bytes and calls
   (intersections and complements are computed on automata; long repetitions become counters);
3. ``drop_unproductive``: calls of rules without any text disappear, so no dead end is left;
   ``lay_out_bags`` then gives every bag its states;
4. ``remove_left_recursion``: a rule that would call itself before consuming anything is rebuilt as
   "a base case, then climb";
5. ``flatten``: arrays.
"""

from __future__ import annotations

import sys
from typing import Final

from grammars.compiling.analysis import Analysis, deep_recursion
from grammars.compiling.automata import ALL_BYTES, Dfa, expand
from grammars.compiling.building import RuleBuilder
from grammars.compiling.flattening import flatten
from grammars.compiling.left_recursion import remove_left_recursion
from grammars.compiling.productivity import drop_unproductive, lay_out_bags
from grammars.compiling.utf8 import ByteMask
from grammars.ir import Expr, GrammarIR, Substrings, children
from grammars.limits import Limits
from grammars.program import Program


def compile_ir(grammar: GrammarIR, limits: Limits, alphabet: ByteMask = ALL_BYTES) -> Program:
    """Compiles a grammar, restricted to texts over the bytes of ``alphabet`` (and all marks).

    Raises:
        GrammarError: for a reference to an undefined rule, an intersection or complement of
            something recursive or of a bag, a bag's item that may be empty, or a bag that would
            begin with itself.
        LimitExceeded: where a limit is reached.
    """
    if alphabet == ALL_BYTES and ("numba" in sys.modules or _is_large(grammar)):
        # late, since Numba takes longer to load than a small grammar to compile
        from grammars.compiling.kernels import compile_by_kernels

        program = compile_by_kernels(grammar, limits)
        if program is not None:
            return program
    return compile_plainly(grammar, limits, alphabet)


_LARGE: Final = 2_000
"""Nodes that take as long to compile plainly as Numba takes to load."""


_LONG: Final = 200
"""Characters of a text whose spans take as long."""


def _is_large(grammar: GrammarIR) -> bool:
    """Whether a grammar has more nodes than that, shared ones counted once, or spans of a longer text."""
    seen: set[int] = set()
    for rule in grammar.rules:
        stack: list[Expr] = [rule.body]
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if len(seen) > _LARGE or (type(node) is Substrings and len(node.text) > _LONG):
                return True
            stack += children(node)
    return False


def compile_plainly(grammar: GrammarIR, limits: Limits, alphabet: ByteMask = ALL_BYTES) -> Program:
    """The same in plain Python: for what kernels leave to it, and to compare them with."""
    with deep_recursion():
        analysis = Analysis(grammar, limits)
        builder = RuleBuilder(analysis, limits, alphabet)
        start = builder.build_start()
        rules = builder.rules
        drop_unproductive(rules, limits)
        lay_out_bags(rules)
        remove_left_recursion(rules, limits)
        return flatten(rules, start, limits)


def regular_dfa(grammar: GrammarIR, expr: Expr, limits: Limits) -> Dfa:
    """The plain automaton (no counters, no calls) of a regular expression over a grammar's rules.

    Raises:
        GrammarError: if a recursive rule is below ``expr``.
        LimitExceeded: where a limit is reached.
    """
    products = None
    if "numba" in sys.modules:
        from grammars.compiling.kernels import conjunction

        products = conjunction(limits)
    builder = RuleBuilder(Analysis(grammar, limits), limits, ALL_BYTES, products)
    return expand(builder.regular_dfa(expr), limits.max_dfa_states)
