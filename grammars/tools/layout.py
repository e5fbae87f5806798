"""What the tool formats of all model families are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from grammars.errors import GrammarError
from grammars.frontends import pieces
from grammars.frontends.json_schema import json_schema_to_ir
from grammars.frontends.json_schema.blanks import with_blanks
from grammars.frontends.json_schema.closing import closed
from grammars.frontends.parameters import Style, parameters_to_ir
from grammars.frontends.pieces import Dispatched, either, maybe, sequence, text
from grammars.ir import EPSILON, GrammarIR, alt, repeat, seq
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
    """

    tools: Sequence[Tool]
    mode: Mode
    reasoning: Reasoning
    special: frozenset[str]
    parallel: bool
    limits: Limits

    # -- markers -------------------------------------------------------------------------------

    def mark(self, marker: str) -> GrammarIR:
        """A marker: a special token, or its text."""
        return pieces.token(marker) if marker in self.special else text(marker)

    def at(self, marker: str, then: GrammarIR) -> Dispatched:
        """What follows a marker in free text."""
        return Dispatched(marker, marker in self.special, then)

    def free(self, *markers: str) -> GrammarIR:
        """Any text without some markers; special tokens are in none anyway."""
        return pieces.free(m for m in markers if m not in self.special)

    def up_to(self, marker: str, *others: str) -> GrammarIR:
        """Any text up to a marker, without others before it."""
        barred = [m for m in (marker, *others) if m not in self.special]
        return sequence(pieces.free(barred), self.mark(marker))

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

    def arguments(self, tool: Tool, lines: bool = True) -> GrammarIR:
        """The arguments as JSON, with line breaks in it or without."""
        try:
            ir = json_schema_to_ir(closed(tool.schema), limits=self.limits)
            return ir if lines else with_blanks(ir, 1)
        except GrammarError as error:
            raise _about(tool, error) from None

    def parameters(self, tool: Tool, style: Style) -> GrammarIR:
        """The arguments as texts between tags."""
        try:
            return parameters_to_ir(closed(tool.schema), style, limits=self.limits)
        except GrammarError as error:
            raise _about(tool, error) from None

    def each(self, call: Callable[[Tool], GrammarIR]) -> GrammarIR:
        """A call of any tool."""
        return either(*(call(tool) for tool in self.tools))

    def several(self, call: GrammarIR, separator: GrammarIR | str = "") -> GrammarIR:
        """At least one call, and more where there may be."""
        between = text(separator) if isinstance(separator, str) else separator
        return pieces.many(call, 1, None if self.parallel else 1, between)

    def then_more(self, first: GrammarIR, more: GrammarIR) -> GrammarIR:
        """One call, and others, each with what stands before it."""
        return sequence(first, pieces.many(more)) if self.parallel else first

    def object(
        self,
        tool: Tool,
        name: str,
        arguments: str,
        *before: GrammarIR,
        behind: GrammarIR | None = None,
        lines: bool = True,
    ) -> GrammarIR:
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
            sequence(text(json.dumps(name) + ":"), blank, text(self._quoted(tool))),
            sequence(text(json.dumps(arguments) + ":"), blank, self.arguments(tool, lines)),
        ]
        parts = [text("{"), blank, pairs[0]]
        for pair in pairs[1:]:
            parts += [text(","), blank, pair]
        parts += [] if behind is None else [behind]
        return sequence(*parts, blank, text("}"))

    def call_behind(self, tool: Tool, arguments: str) -> GrammarIR:
        """A call as a JSON object, from the value of its name on."""
        pair = sequence(text(json.dumps(arguments) + ":"), gap(), self.arguments(tool))
        return sequence(text(self._quoted(tool)), comma(), pair, gap(), text("}"))

    def _quoted(self, tool: Tool) -> str:
        return json.dumps(tool.name, ensure_ascii=False)

    # -- the whole -----------------------------------------------------------------------------

    def answer(self, begin: str, rest: GrammarIR | None, *barred: str) -> GrammarIR:
        """Text with calls behind it, or calls alone, or text alone.

        Args:
            begin: the marker with which the calls begin.
            rest: what follows it; ``None`` if there are no tools.
            barred: markers that the text must not have.
        """
        excluded = [m for m in barred if m not in self.special]
        if self.mode == "none" or rest is None:
            return self.free(begin, *barred)
        if self.mode == "required":
            return sequence(line_breaks(), self.mark(begin), rest)
        return pieces.dispatch([self.at(begin, rest)], excludes=excluded, once=True)

    def reasoned(self, begin: str, end: str, answer: GrammarIR, *, behind: int = 2) -> GrammarIR:
        """An answer with a section of reasoning before it.

        The marker that begins the section may be missing, as it may stand at the end of the prompt.

        Args:
            begin, end: the markers around it.
            answer: what follows.
            behind: how many line breaks may stand between.
        """
        if self.reasoning == "never":
            return answer
        thought = sequence(
            maybe(sequence(line_breaks(1), self.mark(begin))), self.up_to(end, begin)
        )
        thought = sequence(thought, line_breaks(behind))
        return sequence(thought if self.reasoning == "always" else maybe(thought), answer)

    def no_reasoning(self, models: str) -> GrammarError:
        """An error for models that do not reason."""
        return GrammarError(f"{models} has no section of reasoning; leave reasoning= out")


def gap(lines: bool = True) -> GrammarIR:
    """Blanks of JSON: none, one, or a line break and its indentation."""
    if not lines:
        return pieces.blanks(0, 1, b" ")
    indent = repeat(Text(b" "), 0, _MOST_INDENT)
    return pieces.piece(alt(EPSILON, Text(b" "), seq(Text(b"\n"), indent)), "blanks")


def comma() -> GrammarIR:
    """A comma of JSON, with the blanks behind it."""
    return sequence(text(","), gap())


def brackets(items: GrammarIR) -> GrammarIR:
    """A JSON list."""
    return sequence(text("["), gap(), items, gap(), text("]"))


def line_breaks(most: int = 2) -> GrammarIR:
    """No line break, or some."""
    return pieces.blanks(0, most, b"\n")


def _about(tool: Tool, error: GrammarError) -> GrammarError:
    """An error about a schema, with the tool and the schema's place before its own."""
    pointer = tool.pointer + (error.pointer or "")
    error.message = f"tool {tool.name!r}: {error.message}"
    error.line = error.column = None
    error.pointer = pointer
    error.args = (error._render(),)
    return error
