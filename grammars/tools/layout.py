"""What the tool formats of all model families are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from grammars.errors import GrammarError
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.json_schema.blanks import with_blanks
from grammars.frontends.json_schema.closing import closed
from grammars.frontends.parameters import Style, parameters
from grammars.frontends.pieces import Dispatched, Pieces, blanks, many, text, token
from grammars.ir import EPSILON, Expr, alt, optional, repeat, seq
from grammars.ir import Literal as Text
from grammars.limits import Limits
from grammars.tools.definitions import Mode, Tool

Reasoning: TypeAlias = Literal["never", "always", "optional"]

_IN_NO_NAME: Final = "<>\"'`{}[]|:=\n\r\t "
"""Characters which a name that stands between markers cannot have."""
_MOST_INDENT: Final = 8


@dataclass(frozen=True)
class Layout:
    """What one grammar of tool calls is to allow.

    Attributes:
        tools: those that may be called.
        mode: whether there may, must, or must not be a call.
        reasoning: whether a section of reasoning comes first.
        special: the markers that are special tokens.
        parallel: whether there may be several calls.
        limits: bounds on what the grammar may cost.
        pieces: the rules that are made.
    """

    tools: Sequence[Tool]
    mode: Mode
    reasoning: Reasoning
    special: frozenset[str]
    parallel: bool
    limits: Limits
    pieces: Pieces

    # -- markers -------------------------------------------------------------------------------

    def mark(self, marker: str) -> Expr:
        """A marker: a special token, or its text."""
        return token(marker) if marker in self.special else text(marker)

    def at(self, marker: str, then: Expr) -> Dispatched:
        """What follows a marker in free text."""
        return Dispatched(marker, marker in self.special, then)

    def free(self, *markers: str) -> Expr:
        """Any text without some markers, be they special tokens or spelled."""
        return self.pieces.free(markers)

    def up_to(self, marker: str, *others: str) -> Expr:
        """Any text up to a marker, without others before it."""
        return seq(self.free(marker, *others), self.mark(marker))

    # -- calls ---------------------------------------------------------------------------------

    def name(self, tool: Tool) -> str:
        """A tool's name where it stands as it is.

        Raises:
            GrammarError: if a reader could not tell where it ends.
        """
        bad = next((c for c in tool.name if c in _IN_NO_NAME), None)
        if bad is not None:
            raise tool.error(f"this format cannot write a name with {bad!r} in it; rename the tool")
        return tool.name

    def arguments(self, tool: Tool, lines: bool = True) -> Expr:
        """The arguments as JSON, with line breaks in it or without."""
        try:
            ir = json_schema_to_ir(closed(tool.schema), limits=self.limits)
            return self.pieces.add(ir if lines else with_blanks(ir, 1))
        except GrammarError as error:
            raise _about(tool, error) from None

    def parameters(self, tool: Tool, style: Style) -> Expr:
        """The arguments as texts between tags."""
        try:
            return parameters(closed(tool.schema), style, self.pieces, limits=self.limits)
        except GrammarError as error:
            raise _about(tool, error) from None

    def each(self, call: Callable[[Tool], Expr]) -> Expr:
        """A call of any tool."""
        calls = [self.pieces.rule(f"call of {tool.name}", call(tool)) for tool in self.tools]
        return self.pieces.rule("call", alt(*calls)) if len(calls) > 1 else alt(*calls)

    def several(self, call: Expr, separator: Expr | str = "") -> Expr:
        """At least one call, and more where there may be."""
        between = text(separator) if isinstance(separator, str) else separator
        return many(call, 1, None if self.parallel else 1, between)

    def then_more(self, first: Expr, more: Expr) -> Expr:
        """One call, and others, each with what stands before it."""
        return seq(first, many(more)) if self.parallel else first

    def object(
        self,
        tool: Tool,
        name: str,
        arguments: str,
        *before: Expr,
        behind: Expr | None = None,
        lines: bool = True,
    ) -> Expr:
        """A call as a JSON object.

        Args:
            tool: which is called.
            name, arguments: the keys under which these stand.
            before: pairs before them.
            behind: what may follow the last pair.
            lines: whether line breaks may stand in it.
        """
        blank = gap(lines)
        pairs = [
            *before,
            seq(text(json.dumps(name) + ":"), blank, text(self._quoted(tool))),
            seq(text(json.dumps(arguments) + ":"), blank, self.arguments(tool, lines)),
        ]
        parts = [text("{"), blank, pairs[0]]
        for pair in pairs[1:]:
            parts += [text(","), blank, pair]
        parts += [] if behind is None else [behind]
        return seq(*parts, blank, text("}"))

    def call_behind(self, tool: Tool, arguments: str) -> Expr:
        """A call as a JSON object, from the value of its name on."""
        pair = seq(text(json.dumps(arguments) + ":"), gap(), self.arguments(tool))
        return seq(text(self._quoted(tool)), comma(), pair, gap(), text("}"))

    def _quoted(self, tool: Tool) -> str:
        return json.dumps(tool.name, ensure_ascii=False)

    # -- the whole -----------------------------------------------------------------------------

    def answer(self, begin: str, rest: Expr | None, *barred: str) -> Expr:
        """Text with calls behind it, or calls alone, or text alone.

        Args:
            begin: the marker with which the calls begin.
            rest: what follows it; ``None`` if there are no tools.
            barred: markers that the text must not have.
        """
        if self.mode == "none" or rest is None:
            return self.free(begin, *barred)
        if self.mode == "required":
            return seq(line_breaks(), self.mark(begin), rest)
        spelled = (begin,) if begin in self.special else ()
        excludes = [m for m in (*spelled, *barred) if begin in self.special or m != begin]
        return self.pieces.dispatch([self.at(begin, rest)], excludes=excludes, once=True)

    def reasoned(self, begin: str, end: str, answer: Expr, *, behind: int = 2) -> Expr:
        """An answer with a section of reasoning before it.

        The marker that begins the section may be missing, as it may stand at the end of the prompt.

        Args:
            begin, end: the markers around it.
            answer: what follows.
            behind: how many line breaks may stand between.
        """
        if self.reasoning == "never":
            return answer
        thought = seq(optional(seq(line_breaks(1), self.mark(begin))), self.up_to(end, begin))
        thought = seq(thought, line_breaks(behind))
        return seq(thought if self.reasoning == "always" else optional(thought), answer)

    def no_reasoning(self, models: str) -> GrammarError:
        """An error for models that do not reason."""
        return GrammarError(f"{models} has no section of reasoning; leave reasoning= out")


def gap(lines: bool = True) -> Expr:
    """Blanks of JSON: none, one, or a line break and its indentation."""
    if not lines:
        return blanks(0, 1, b" ")
    indent = repeat(Text(b" "), 0, _MOST_INDENT)
    return alt(EPSILON, Text(b" "), seq(Text(b"\n"), indent))


def comma() -> Expr:
    """A comma of JSON, with the blanks behind it."""
    return seq(text(","), gap())


def brackets(items: Expr) -> Expr:
    """A JSON list."""
    return seq(text("["), gap(), items, gap(), text("]"))


def line_breaks(most: int = 2) -> Expr:
    """No line break, or some."""
    return blanks(0, most, b"\n")


def _about(tool: Tool, error: GrammarError) -> GrammarError:
    """An error about a schema, with the tool and the schema's place before its own."""
    pointer = tool.pointer + (error.pointer or "")
    error.move_to(pointer, f"tool {tool.name!r}")
    return error
