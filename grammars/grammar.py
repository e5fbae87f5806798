"""The public face of this layer: :class:`Grammar`."""

from __future__ import annotations

import hashlib
import marshal
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from grammars import composition, program_files
from grammars.captures import Capture, captures_of
from grammars.compiling.compiler import compile_ir
from grammars.compiling.utf8 import ByteMask
from grammars.errors import GrammarError, LimitExceeded
from grammars.explain import (
    Explanation,
    empty_explanation,
    explain,
    explain_outside,
    explain_surrogate,
    next_bytes,
    no_utf8,
    with_hint,
)
from grammars.files import ImportPath, Kind, dialect_of, kind_of, read_text
from grammars.frontends.notations import without_mark
from grammars.ir import GrammarIR, Layout, Rule, Substrings, walk
from grammars.ir import Literal as Text
from grammars.json_hints import Refusal, Spot, hint_of, spot_of
from grammars.json_signs import with_separators
from grammars.layout.recognize import (
    LayoutReader,
    accepts_with_layout,
    explain_with_layout,
)
from grammars.limits import DEFAULT_LIMITS, Limits
from grammars.program import Program
from grammars.recognizer import Recognizer
from grammars.sampling import Sampler, no_text
from grammars.shortest import completions, shortest_accepted
from grammars.sources.source import Source
from grammars.special_tokens import (
    FRAME,
    Part,
    SpecialToken,
    framed,
    name_of,
    read_as_tokenizer,
    read_parts,
    shown,
    until_token,
)
from grammars.storage import dumps, is_saved, loads
from grammars.substrings.units import Fold, Unit
from grammars.uniqueness.memory import Memory
from grammars.uniqueness.recognize import accepts, explain_with_memory, read
from grammars.uniqueness.sections import memory_of
from grammars.work import collector_paused, counted_work

if TYPE_CHECKING:
    from grammars.tools.definitions import ToolChoice, ToolLike

Whitespace = Literal["flexible", "compact"]
PropertyOrder = Literal["schema", "any"]
Formats = Literal["assert", "annotate"]
Numbers = Literal["shortest", "any"]
ExtraKeys = Literal["forbid", "ignore"]
Validators = Literal["refuse", "warn", "ignore"]
Dialect = Literal["lark", "llguidance"]
EbnfDialect = Literal["gbnf", "xgrammar"]
Trigger: TypeAlias = str | SpecialToken
Data: TypeAlias = str | bytes | Sequence[Part]
LarkLexer = Literal["auto", "contextual", "basic", "dynamic", "dynamic_complete"]


_COMPILING: Final = "compiling this grammar"
_WORK_A_BYTE: Final = 100
"""Units of work for each byte of a text beside those of ``max_work``."""


class Grammar:
    """A formal language of byte strings; immutable, hashable, equal by content.

    Make one with a ``from_...`` constructor; each takes ``limits=`` and raises
    :class:`~grammars.GrammarError` with the place of what is wrong, and
    :class:`~grammars.LimitExceeded` where a limit is reached.  An empty language is a grammar too:
    ``is_empty`` says so and ``explain`` why.
    """

    __slots__ = ("__dict__", "__weakref__", "_head", "_ir", "_limits", "_program", "_reader")

    def __init__(self, ir: GrammarIR, *, limits: Limits = DEFAULT_LIMITS) -> None:
        """From the intermediate form; see :mod:`grammars.ir` for writing one by hand."""
        self._ir = ir
        self._reader: Callable[[], GrammarIR] | None = None
        self._head: Final = ir
        self._limits: Final = limits
        with counted_work(limits, _COMPILING):
            self._program: Final = compile_ir(ir, limits)

    @classmethod
    def _of_source(
        cls, kind: str, source: Any, read: Callable[[Any], GrammarIR], limits: Limits
    ) -> Grammar:
        """Of a source whose program may lie on disk (:mod:`grammars.program_files`).

        Args:
            kind: which front end it is for.
            source: all that the program depends on.
            read: the front end.
            limits: bounds on what the grammar may cost.
        """
        key = program_files.key_of(kind, source, limits) if isinstance(limits, Limits) else None
        if key is None:
            return cls._read(limits, lambda: read(source))
        kept = program_files.load(key)
        if kept is None:
            made = cls._read(limits, lambda: read(source))
            program_files.keep(key, made.program, made.ir)
            return made
        copy = marshal.dumps(source)  # what the caller has may change
        restored = object.__new__(cls)
        for name, value in (
            ("_program", kept.program),
            ("_head", kept.head),
            ("_limits", limits),
            ("_reader", lambda: read(marshal.loads(copy))),
        ):
            object.__setattr__(restored, name, value)
        return restored

    # -- construction --------------------------------------------------------------------------

    @classmethod
    def from_regex(cls, pattern: str, *, limits: Limits = DEFAULT_LIMITS) -> Grammar:
        r"""Texts that ``re.fullmatch(pattern, text)`` matches.

        Args:
            pattern: in Python's syntax, look-around and inline flags included, and with properties of
                characters (``\p{Greek}``) as the package ``regex`` has them; see ``docs/regex.md``.
            limits: bounds on what the grammar may cost.

        Raises:
            GrammarError: with line and column, for what is no pattern or not regular.
        """
        from grammars.frontends.regex.python import regex_to_ir

        return cls._of_source("regex", pattern, lambda text: regex_to_ir(text, limits), limits)

    @classmethod
    def from_choices(
        cls, choices: Iterable[str | bytes], *, limits: Limits = DEFAULT_LIMITS
    ) -> Grammar:
        """Exactly the given texts."""
        from grammars.frontends.choices import choices_to_ir

        return cls._read(limits, lambda: choices_to_ir(choices))

    @classmethod
    def substring_of(
        cls,
        text: str,
        *,
        unit: Unit = "chars",
        fold: Fold | Iterable[Fold] = (),
        limits: Limits = DEFAULT_LIMITS,
    ) -> Grammar:
        """The spans of a text, and the empty text: what a model may quote of a source.

        The grammar is linear in the text (a suffix automaton): 100,000 characters take some 100 ms.

        Args:
            text: the source.
            unit: where spans begin and end: ``"chars"``: anywhere; ``"words"``: at the ends of words,
                numbers and signs (in scripts that put no blanks between words, of characters), never with a
                blank, nor with a comma or a bracket that belongs to what is not in the span; ``"lines"``: at
                the ends of lines.
            fold: what is no difference between a span and the text: ``"space"``: runs of white space
                count as, and are written as, one blank (with ``"lines"``, those with a line end as one);
                ``"case"``: letters may be in either case.
            limits: bounds on what the grammar may cost.

        Raises:
            TypeError, ValueError: for other arguments.
            GrammarError: for a text with a lone surrogate.
        """
        from grammars.frontends.substrings import substrings_to_ir

        return cls._read(limits, lambda: substrings_to_ir(text, unit, fold))

    @classmethod
    def from_gbnf(
        cls,
        text: str,
        start: str = "root",
        *,
        dialect: EbnfDialect = "gbnf",
        rules: Mapping[str, Grammar] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Grammar:
        """A grammar in llama.cpp's GBNF.

        Args:
            text: the grammar.
            start: the rule to start from.
            dialect: ``"gbnf"``, or ``"xgrammar"`` for xgrammar's EBNF (``docs/dialects.md``).
            rules: other grammars, under the names by which the text refers to them (in GBNF alone).
            limits: bounds on what the grammar may cost.

        Raises:
            GrammarError: with line and column, for text that is not of the dialect, and for a name of
                ``rules`` that the text defines itself, or does not use.
        """
        from grammars.frontends.gbnf import gbnf_to_ir
        from grammars.frontends.xgrammar_ebnf import xgrammar_ebnf_to_ir

        if dialect == "xgrammar":
            if rules:
                raise ValueError("rules= is for dialect='gbnf'; xgrammar's EBNF takes none")
            return cls._read(limits, lambda: xgrammar_ebnf_to_ir(text, start, limits))
        if dialect != "gbnf":
            raise ValueError(f"dialect={dialect!r}: must be 'gbnf' or 'xgrammar'")
        if rules:
            given = _irs_of(rules)
            return cls._read(
                limits,
                lambda: composition.embedded(gbnf_to_ir(text, start, given), given, limits),
            )
        return cls._of_source("gbnf", (text, start), lambda source: gbnf_to_ir(*source), limits)

    @classmethod
    def from_lark(
        cls,
        text: str,
        start: str = "start",
        *,
        lexer: LarkLexer = "auto",
        postlex: Any = None,
        import_paths: Iterable[ImportPath] = (),
        dialect: Dialect = "lark",
        rules: Mapping[str, Grammar] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Grammar:
        """A Lark grammar, its terminals read as lark's own lexer reads them.

        Args:
            text: the grammar.
            start: the rule to start from.
            lexer: how text is cut into tokens, in lark's words (``docs/lark.md``), kept as
                :attr:`lexer`.  ``"contextual"``: of the terminals that the parser can use in a
                place the first that matches, as ``Lark(parser="lalr")``; where its table has a
                conflict every reading stays open.  ``"basic"``: of all terminals, everywhere.
                ``"dynamic"``: every terminal that the rules allow is tried on its own, as lark's
                default (Earley) does; ``"dynamic_complete"``: shorter matches too.  ``"auto"`` is
                ``"contextual"``.
            postlex: a ``lark.indenter.Indenter`` or its class, which makes INDENT and DEDENT; by default
                Python's where the grammar declares ``_INDENT`` or ``_DEDENT`` (``docs/layout.md``).
            import_paths: folders in which ``%import`` looks for grammars (loaders as lark's
                ``FromPackageLoader`` too), before lark's own library.  Relative imports
                (``%import .words``) are also looked for in the folder of the running script, as
                ``lark.Lark`` does; those of a file, :meth:`from_file`, in the folder of the file.
            dialect: ``"lark"``, or ``"llguidance"`` (``docs/dialects.md``), which a line that begins with
                ``%llguidance`` asks for as well.
            rules: other grammars, under the names of rules that the text refers to and does not
                define (``@name`` in llguidance's dialect).  To the lexer each is one token; their texts
                are read without it, and ``%ignore`` does not apply within.
            limits: bounds on what the grammar may cost.
        """
        return cls._from_lark(
            text,
            start=start,
            lexer=lexer,
            postlex=postlex,
            import_paths=import_paths,
            dialect=dialect,
            rules=rules,
            limits=limits,
        )

    @classmethod
    def _from_lark(
        cls,
        text: str,
        *,
        path: Path | None = None,
        start: str = "start",
        lexer: LarkLexer = "auto",
        postlex: Any = None,
        import_paths: Iterable[ImportPath] = (),
        dialect: Dialect = "lark",
        rules: Mapping[str, Grammar] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Grammar:
        """With the file that it comes from, for relative imports."""
        from grammars.frontends.lark.grammar import lark_to_ir
        from grammars.frontends.llguidance import is_llguidance, llguidance_to_ir

        if dialect not in ("lark", "llguidance"):
            raise ValueError(f"dialect={dialect!r}: must be 'lark' or 'llguidance'")
        if dialect == "llguidance" or (isinstance(text, str) and is_llguidance(text)):
            if postlex is not None:
                raise ValueError("llguidance's grammars have no postlex indenter")
            parts = {name: grammar.ir for name, grammar in (rules or {}).items()}
            return cls._read(limits, lambda: llguidance_to_ir(text, start, limits, parts))
        if isinstance(import_paths, str | Path):
            raise TypeError(f"import_paths needs a list of folders, not {import_paths!r}")
        paths = tuple(import_paths)
        text = without_mark(text) if isinstance(text, str) else text

        def read(text: str) -> GrammarIR:
            return lark_to_ir(text, start, limits, paths, path, lexer, postlex)

        if rules:
            from grammars.frontends.lark_rules import lark_with_rules

            given = _irs_of(rules)
            return cls._read(limits, lambda: lark_with_rules(text, given, limits, read))
        return cls._read(limits, lambda: read(text))

    @classmethod
    def from_json_schema(
        cls,
        schema: Mapping[str, Any] | bool | str,
        *,
        whitespace: Whitespace = "flexible",
        property_order: PropertyOrder = "schema",
        formats: Formats = "assert",
        numbers: Numbers = "shortest",
        separators: tuple[str, str] | None = None,
        registry: Mapping[str, Any] | None = None,
        source: str | None = None,
        grounded: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Grammar:
        """JSON texts whose value a schema describes.

        Args:
            schema: a schema, or the JSON text of one.
            whitespace: ``"flexible"`` allows the compact form, ``json.dumps``'s default and
                ``indent=2``, with runs of blanks bounded; ``"compact"`` allows none.
            property_order: ``"schema"``: keys in the order of the schema, then others; ``"any"``.
            formats: whether known formats are asserted or annotations.
            numbers: how numbers under a numeric keyword are written, ``type: integer``, ``enum`` and
                ``const`` among them: ``"shortest"`` as writers of JSON do (``16``, ``16.5``; no
                zeros at the end of a fraction), ``"any"`` with any zeros and exponents (``16.0``).
                Without such a keyword a number is any JSON number.
            separators: ``(item_separator, key_separator)`` as ``json.dumps`` takes them, such as
                ``(", ", ": ")``: exactly these, and no other blanks, whatever ``whitespace`` says.
            registry: schemas by URI for references out of the schema; nothing is ever fetched.
            source: a text that values are taken from (``docs/grounding.md``): where a schema says
                ``"x-gramma-source": "verbatim"``, strings are spans of it and numbers stand in it.
            grounded: so are all others, where no schema says ``"x-gramma-source": "inferred"``.  Values of
                ``enum`` and ``const`` are free, and so are keys.
            limits: bounds on what the grammar may cost.

        Raises:
            UnsupportedSchemaError: for a keyword that is not constrained exactly.
        """
        from grammars.frontends.json_schema import json_schema_to_ir

        def read(given: Any, tied: Source | None = None) -> GrammarIR:
            schema, whitespace, property_order, formats, numbers, separators, *_ = given
            made = json_schema_to_ir(
                schema,
                whitespace="compact" if separators else whitespace,
                property_order=property_order,
                formats=formats,
                numbers=numbers,
                registry=registry,
                source=tied,
                limits=limits,
            )
            if separators is None:
                return made
            return with_separators(made, separators[0], separators[1], limits)

        if separators is not None:
            separators = _checked_separators(separators)
        schema = without_mark(schema) if isinstance(schema, str) else schema
        given = (schema, whitespace, property_order, formats, numbers, separators)
        if source is not None or grounded:
            return cls._grounded(limits, source, grounded, lambda tied: read(given, tied))
        if registry is not None:
            return cls._read(limits, lambda: read(given))
        return cls._of_source("json schema", given, read, limits)

    @classmethod
    def from_type(
        cls,
        tp: Any,
        *,
        extra: ExtraKeys = "forbid",
        validators: Validators = "refuse",
        source: str | None = None,
        grounded: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Grammar:
        """JSON texts of a Python type: a pydantic model, TypedDict, dataclass, ``list[int]``, ...

        pydantic validates whatever the grammar writes (``TypeAdapter(tp).validate_json``); see
        ``docs/types.md`` for what is written of each type.

        Args:
            tp: anything ``pydantic.TypeAdapter`` takes.
            extra: whether other keys than the fields may be written where pydantic would ignore
                them: ``"forbid"``, or ``"ignore"``.  With ``extra="allow"`` in the type itself they
                always may, with ``extra="forbid"`` never.
            validators: what to do about constraints that no grammar keeps, namely validators that
                are functions, and dates in the past or the future: ``"refuse"`` raises, ``"warn"``
                warns (:class:`~grammars.UnkeptConstraintWarning`) and leaves them to pydantic, which
                may then refuse a text of the grammar, ``"ignore"`` does the same without a word.
            source: a text that values are taken from (``docs/grounding.md``): strings of a field
                ``Annotated[str, Verbatim()]`` are spans of it, numbers so marked stand in it.
            grounded: so are all others that are not marked :class:`~grammars.Inferred`; members of an
                ``Enum`` or ``Literal`` are free.
            limits: bounds on what the grammar may cost.

        Raises:
            GrammarError: with the path of the field, for a constraint that is not kept, or a type
                without a JSON form.
        """
        from grammars.frontends.types import type_to_ir

        def read(tied: Source | None) -> GrammarIR:
            return type_to_ir(tp, limits, extra=extra, validators=validators, source=tied)

        if source is not None or grounded:
            return cls._grounded(limits, source, grounded, read)
        return cls._read(limits, lambda: read(None))

    @classmethod
    def from_tools(
        cls,
        tools: Iterable[ToolLike],
        *,
        format: str,
        tool_choice: ToolChoice | None = "auto",
        reasoning: bool | Literal["optional"] | None = None,
        parallel: bool = True,
        special: Collection[str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Grammar:
        """What an assistant may write that has tools: text, calls with arguments of their schemas, or both.

        Args:
            tools: as OpenAI lists them (``{"type": "function", "function": {"name",
                "parameters"}}``), as Anthropic and MCP do (``name``, ``input_schema`` or
                ``inputSchema``), pydantic models, or functions.  Objects
                that name their keys are closed: no others are written.
            format: that of the model's family, see ``docs/tools.md`` (``"hermes"``, ``"llama3"``,
                ``"harmony"``, ...); :func:`grammars.tool_format_of` reads it from a tokenizer's
                chat template.
            tool_choice: ``"auto"``: text, calls, or text and calls behind it; ``"none"``: text;
                ``"required"``: calls; the name of a tool, or ``{"type": "function", "function":
                {"name": ...}}``: calls of this one.
            reasoning: ``True``: a section of reasoning comes first, its opening marker there or in the
                prompt; ``"optional"``: or none; ``None``, ``False``: none.
            parallel: whether there may be more than one call.
            special: which markers of the format are tokens of the vocabulary, where they are not
                those of the family's own tokenizer; ``tokenizer.all_special_tokens``, or ``()`` for texts.
            limits: bounds on what the grammar may cost.

        Raises:
            GrammarError: naming the tool and the place in its schema.
            ValueError: for an unknown format or choice.
            TypeError: for something that describes no tool.
        """
        from grammars.tools.formats import tools_to_ir

        def read() -> GrammarIR:
            return tools_to_ir(tools, format, tool_choice, reasoning, parallel, special, limits)

        return cls._read(limits, read)

    @classmethod
    def from_structural_tag(
        cls, tag: Mapping[str, Any] | str, *, limits: Limits = DEFAULT_LIMITS
    ) -> Grammar:
        """Texts of a structural tag, xgrammar's JSON for answers with free text and tool calls.

        Both forms are read: ``{"type": "structural_tag", "format": {...}}`` with all its formats, and
        ``{"structures": [{"begin", "schema", "end"}], "triggers": [...]}``.  ``docs/tools.md`` says what
        each format allows and where it differs from xgrammar.

        Args:
            tag: the tag, or the JSON text of one; pydantic models of it as well.
            limits: bounds on what the grammar may cost.

        Raises:
            GrammarError: with the JSON pointer of what is malformed or cannot be kept, such as
                numbers of tokens.
        """
        from grammars.frontends.structural_tag import structural_tag_to_ir

        dump = getattr(tag, "model_dump", None)
        source = tag if dump is None else dump(mode="json", by_alias=True)
        return cls._of_source(
            "structural tag", source, lambda found: structural_tag_to_ir(found, limits), limits
        )

    @classmethod
    def from_file(cls, path: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> Grammar:
        """By suffix: ``.lark``, ``.gbnf``, ``.ebnf`` (xgrammar's), ``.regex``, ``.json`` (a JSON Schema).

        The file is UTF-8, with a byte order mark or without.  Relative imports of a Lark grammar
        are looked for in the folder of the file that has them, as ``lark.Lark.open`` does.

        Raises:
            GrammarError: for another suffix, or text that is not UTF-8.
            OSError: if the file cannot be read.
        """
        path = Path(path)
        kind = kind_of(path)
        return grammar_of(read_text(path), kind, path=path, limits=limits)

    @classmethod
    def from_library(
        cls, name: str, *, limits: Limits = DEFAULT_LIMITS, **parameters: Any
    ) -> Grammar:
        """A grammar that comes with this package, by name: ``"json"``, ``"sql"``, ``"date"``, ...

        Args:
            name: one of ``grammars.library.names()``; ``docs/library.md`` lists them.
            limits: bounds on what the grammar may cost.
            parameters: what some take, such as the names that a text may use; see
                ``grammars.library.entry(name).parameters``.

        Raises:
            GrammarError: for a name or a parameter that is not known, with those that are.
        """
        from grammars.library import building

        building.check(name, parameters)
        if building.takes_parameters(name):
            return cls._read(limits, lambda: building.made_of_parameters(name, parameters, limits))
        return cls._of_source(
            "library",
            building.recipe(name),
            lambda recipe: building.made_of_text(recipe, limits),
            limits,
        )

    @classmethod
    def literal(cls, text: str | bytes, *, limits: Limits = DEFAULT_LIMITS) -> Grammar:
        """Exactly one text.

        Raises:
            GrammarError: for a text with half of a surrogate pair.
        """
        return cls.from_choices([text], limits=limits)

    @classmethod
    def token(cls, token: str | int, *, limits: Limits = DEFAULT_LIMITS) -> Grammar:
        """A special token of the vocabulary: a symbol that no text spells.

        Args:
            token: its name as the tokenizer has it (``"<|call|>"``), or its id.
            limits: bounds on what the grammar may cost.

        Raises:
            GrammarError: for an empty name or a negative id.  A name that a vocabulary does not have is
                refused when the grammar meets that vocabulary.
        """
        name = name_of(token)
        rule = Rule("token", Text(framed(name)))
        return cls(GrammarIR((rule,), "token", tokens=(name,)), limits=limits)

    # -- algebra -------------------------------------------------------------------------------

    def __add__(self, other: Grammar) -> Grammar:
        """A text of this grammar followed by one of the other.

        Limits are those of the left operand, here and in every operation below.
        """
        if not isinstance(other, Grammar):
            return NotImplemented
        return self._composed(lambda: composition.concatenated([self.ir, other.ir], self._limits))

    def __or__(self, other: Grammar) -> Grammar:
        """A text of this grammar or of the other."""
        if not isinstance(other, Grammar):
            return NotImplemented
        return self._composed(lambda: composition.united([self.ir, other.ir], self._limits))

    def optional(self) -> Grammar:
        """A text of this grammar, or none at all."""
        return self.repeat(0, 1)

    def repeat(
        self, min: int = 0, max: int | None = None, separator: str | Grammar = ""
    ) -> Grammar:
        """Several texts of this grammar, on end.

        Args:
            min, max: how many; without ``max`` any number from ``min`` on.
            separator: what stands between neighbours.

        Raises:
            ValueError: for negative bounds, and bounds out of order.
            TypeError: for bounds and separators of other kinds.
        """
        between = separator if isinstance(separator, Grammar) else Grammar.literal(separator)
        for bound in (min, 0 if max is None else max):
            if isinstance(bound, bool) or not isinstance(bound, int):
                raise TypeError(f"bounds of a repetition are whole numbers, not {bound!r:.80}")
        if min < 0 or (max is not None and max < min):
            raise ValueError(f"bad bounds of a repetition: at least {min}, at most {max}")
        return self._composed(
            lambda: composition.repeated(self.ir, min, max, between.ir, self._limits)
        )

    def _composed(self, compose: Callable[[], GrammarIR]) -> Grammar:
        return Grammar._read(self._limits, compose)

    @classmethod
    def free_text(
        cls,
        then: Mapping[str, Grammar]
        | Mapping[SpecialToken, Grammar]
        | Mapping[Trigger, Grammar]
        | Iterable[tuple[Trigger, Grammar] | tuple[Trigger, Grammar, Trigger | Sequence[Trigger]]],
        *,
        required: bool = True,
        repeat: bool = False,
        max_length: int | None = None,
        trigger_in_answer: bool | Iterable[Trigger] = False,
        blanks: bool | None = None,
        excludes: Iterable[Trigger] = (),
        limits: Limits = DEFAULT_LIMITS,
    ) -> Grammar:
        """Anything at all up to a trigger, and a text of the trigger's grammar behind it.

        ``Grammar.free_text({"####": answer})`` is reasoning, ``####``, an answer.  With pairs, or
        triples that add a closing text, and ``repeat=True`` it is text with calls of tools in it:
        ``Grammar.free_text([("<call>", call, "</call>")], required=False, repeat=True)``.

        Free text is any text (in UTF-8) in which no trigger occurs, nor together with the trigger
        before that one's end.  So the trigger is the occurrence that ends first; of several that
        end together the longest.  Behind an answer free text begins afresh.

        The triggers come first in the call, and together with their grammars, since each decides
        what follows; all else has a name.  A mapping is enough where nothing closes an answer.

        Args:
            then: triggers with the grammar that follows each, and perhaps a text that follows that, or a
                list of texts of which one does.  Triggers and closing texts may be special tokens
                (:class:`~grammars.SpecialToken`).
            required: whether there must be a trigger; else text without any is fine as well.
            repeat: whether free text goes on behind an answer, with further triggers or none.
            max_length: how many characters one stretch of free text may have, its trigger included.
            trigger_in_answer: the trigger is the beginning of its answer (the grammar describes
                both), instead of standing before it: for all triggers, none, or those of a list.
            blanks: whether up to eight blanks (space, tab, line breaks) may stand between a trigger
                and its answer, and between an answer and its closing text.  ``None``: where the
                answer is JSON, that is, made of a JSON Schema or a type, since models put
                line breaks behind ``</think>``.  A closing text that begins with a blank says itself
                which blanks there are.
            excludes: texts that never occur in free text, nor together with the beginning of a trigger.
            limits: bounds on what the grammar may cost.

        Raises:
            GrammarError: for a trigger that is empty, given twice, never reached as another one
                or an excluded text lies within it, or longer than ``max_length``; for answers that
                compare keys or items (see ``docs/free-text.md``) where a text does not show that
                they begin; for ``blanks=True`` where there is no place for any.
            TypeError: for entries that are no such pairs or triples.
        """
        from grammars.free_text.free_text import Shape, answers_of, free_text_to_ir

        shape = Shape(required, repeat, max_length, trigger_in_answer, blanks, excludes)
        entries = then.items() if isinstance(then, Mapping) else then
        return cls._read(
            limits, lambda: free_text_to_ir(answers_of(entries, Grammar), shape, limits)
        )

    @classmethod
    def _read(cls, limits: Limits, read: Callable[[], GrammarIR]) -> Grammar:
        """What a front end reads, compiled: both within one ``max_work``."""
        with counted_work(limits, _COMPILING), collector_paused():
            return cls(read(), limits=limits)

    @classmethod
    def _grounded(
        cls,
        limits: Limits,
        source: str | None,
        grounded: bool,
        read: Callable[[Source], GrammarIR],
    ) -> Grammar:
        """What a front end reads with values tied to a source; if nothing is possible, with notes why."""
        if source is None:
            raise ValueError(
                "grounded=True says that values stand in a source text; give it as source="
            )
        made = cls._read(limits, lambda: read(Source(source, grounded)))
        if not made.is_empty:
            return made
        return cls._read(limits, lambda: read(Source(source, grounded, explains=True)))

    # -- what it says --------------------------------------------------------------------------

    @property
    def ir(self) -> GrammarIR:
        """The intermediate form."""
        try:
            return self._ir
        except AttributeError:  # the program was kept on disk: read the source now
            assert self._reader is not None
            ir = self._reader()
            object.__setattr__(self, "_ir", ir)
            return ir

    @property
    def limits(self) -> Limits:
        """The limits it was made with."""
        return self._limits

    @property
    def program(self) -> Program:
        """The compiled form."""
        return self._program

    @property
    def lexer(self) -> str | None:
        """How text is cut into tokens, for a Lark grammar: see :meth:`from_lark`; else ``None``."""
        return self._head.lexer

    @property
    def is_empty(self) -> bool:
        """Whether no text at all is in the language."""
        return self._program.is_empty

    @property
    def tokens(self) -> tuple[str, ...]:
        """The special tokens that the grammar names, each once; ids as ``[7]``."""
        return self._head.tokens

    @property
    def is_json(self) -> bool:
        """Whether every text is one JSON value, as those of a JSON Schema or a type are."""
        return self._head.json

    @property
    def layout(self) -> Layout | None:
        """How indentation is read, where it opens and closes levels; else ``None``."""
        return self._head.layout

    def accepts(self, data: Data) -> bool:
        """Whether the whole of ``data`` is in the language.

        Args:
            data: a ``str`` is read as a tokenizer reads it: as UTF-8, and where the name of a special
                token that the grammar names stands, that token is meant.  ``bytes`` are bytes and
                no special token.  A list of parts says it all: ``SpecialToken("<|call|>")``, or its
                name as a part of its own, is the token; other ``str`` and ``bytes`` are text.
        """
        raw = self._as_bytes(data)
        if raw is None:
            return False
        with self._reading(raw):
            recognizer = self._recognizer
            memory = self.memory()
            if memory is not None:
                return accepts(recognizer, memory, raw)
            layout = self.layout
            if layout is not None:
                return accepts_with_layout(LayoutReader(recognizer, layout), raw)
            state, used = recognizer.run(raw)
            return used == len(raw) and recognizer.accepting[state]

    def _as_bytes(self, data: Data) -> bytes | None:
        """What rules read, special tokens framed; ``None`` for what is no text of any grammar.

        That is text with half of a surrogate pair, which has no UTF-8 form, and where special tokens are
        named the byte that is reserved for them, or a token that is not named.
        """
        try:
            if isinstance(data, str):
                return read_as_tokenizer(data, self.tokens)
            if isinstance(data, bytes | bytearray | memoryview):
                raw = bytes(data)
                return None if self.tokens and FRAME in raw else raw
            if isinstance(data, Sequence) and not isinstance(data, str | bytes):
                return read_parts(data, self.tokens)
        except UnicodeEncodeError:
            return None
        raise TypeError(
            f"data must be str, bytes or a list of parts, not {type(data).__name__}: {data!r:.80}"
        )

    def _explain_no_text(self, data: Data, names: frozenset[str]) -> Explanation:
        """For data that :meth:`_as_bytes` gives no bytes for."""
        if isinstance(data, str):
            return explain_surrogate(self._explainer, data, names)
        if isinstance(data, bytes | bytearray | memoryview):
            before = until_token(bytes(data))
            return explain_outside(self._explainer, before, names, "the byte 0xFF is in no text")
        good: list[Part] = []
        for part in data:
            if self._as_bytes([part]) is None:
                what = f"{part!r} is no text, and no special token that this grammar names"
                break
            good.append(part)
        return explain_outside(self._explainer, self._as_bytes(good) or b"", names, what)

    def _shown_rules(self) -> frozenset[str]:
        """The rules that paths show: of a grammar that is a text those that are written there."""
        rules = [rule for rule in self.ir.rules if not rule.name.startswith("_")]
        written = [rule for rule in rules if rule.span.line is not None]
        return frozenset(rule.name for rule in written or rules)

    def _reading(self, data: bytes) -> AbstractContextManager[None]:
        """Bounds the work of reading a text, which has more of it the longer the text is."""
        return counted_work(self._limits, "reading this text", more=_WORK_A_BYTE * len(data))

    def explain(self, data: Data) -> Explanation:
        """Where ``data`` leaves the language and what was expected there.

        Args:
            data: as :meth:`accepts` takes it.  Offsets count the name of a special token as so many bytes.
        """
        raw = self._as_bytes(data)
        with self._reading(raw or b""):
            if self.is_empty:
                return empty_explanation(self.ir.notes or self._sampler.causes())
            names = self._shown_rules()
            if raw is None:
                return self._explain_no_text(data, names)
            found = self._explanation(raw, names)
        if found.accepted or self.tokens:
            return found
        hint = no_utf8(raw, found.offset)
        if not self.is_json:
            return with_hint(found, None, hint)
        spot = spot_of(raw[: found.offset])
        with suppress(LimitExceeded):  # the verdict stands without it
            hint = hint or self._hint(found, raw, spot)
        return with_hint(found, spot.pointer, hint)

    def _explanation(self, raw: bytes, names: frozenset[str]) -> Explanation:
        memory = self.memory()
        if memory is not None:
            return explain_with_memory(self._explainer, memory, raw, names)
        if self.layout is not None:
            return explain_with_layout(LayoutReader(self._explainer, self.layout), raw, names)
        return explain(self._explainer, raw, names)

    def _hint(self, found: Explanation, raw: bytes, spot: Spot) -> str:
        """What is probably wrong with a JSON text that is refused."""
        if not found.expected:
            return ""  # the message says what is repeated
        before = raw[: found.offset]
        memory = self.memory()
        with self._reading(raw):
            if memory is not None:
                state = read(self._explainer, memory, before).state
            else:
                state, _ = self._explainer.run(before)
            allowed = next_bytes(self._explainer, state)

        def complete() -> bytes | None:
            try:
                return self.complete(before)
            except LimitExceeded:
                return None

        def knows(key: str) -> bool:
            step = key.replace("~", "~0").replace("/", "~1")
            return any(f"{name}/properties/{step}" in self.ir for name in found.rule_path)

        return hint_of(
            Refusal(
                raw,
                found.offset,
                allowed.keys(),
                found.expected,
                knows,
                complete,
                grounded=any(
                    isinstance(x, Substrings) for r in self.ir.rules for x in walk(r.body)
                ),
            ),
            spot,
        )

    def captures(self, data: Data) -> tuple[Capture, ...]:
        """Named parts of an accepted text: what rules read that the grammar captures.

        llguidance's ``rule[capture]`` and ``rule[capture="name"]`` name them, and xgrammar's; grammars of
        other kinds have none.  Of several readings of a text the one is taken in which, from the left, a
        capture begins as soon as it may and ends as late as it may.  The time is near that of reading
        the text where it tells its parts apart.

        Args:
            data: as :meth:`accepts` takes it.

        Returns:
            All of them in the order in which they begin, one inside another behind it; a name comes as
            often as its rule was read.

        Raises:
            GrammarError: for a text that is not accepted, saying why.
            LimitExceeded: for ``Limits.max_work``.
        """
        if not self.accepts(data):
            raise GrammarError(f"only an accepted text has captures: {self.explain(data).message}")
        marked = self.ir.marked
        if marked is None:
            return ()
        raw = self._as_bytes(data) or b""
        with self._reading(raw):
            return captures_of(*self._capturing, raw)

    @cached_property
    def _capturing(self) -> tuple[Recognizer, GrammarIR, Recognizer | None]:
        """What reads texts with marks, and texts with cuts."""

        def recognizer(rules: GrammarIR) -> Recognizer:
            return Recognizer(compile_ir(rules, self._limits), self._limits, names_tokens=True)

        marked = self.ir.marked
        assert marked is not None, "only asked for where something is captured"
        cuts = None if marked.marked is None else recognizer(marked.marked)
        return recognizer(marked), marked, cuts

    def complete(self, data: Data) -> bytes | None:
        """A shortest accepted text that begins with what is possible of a text.

        That is its longest part that some text of the language begins with (``explain(data).offset``).

        Args:
            data: as for :meth:`accepts`.

        Returns:
            The whole text, special tokens by their names; ``None`` if none was found: some thousand
            states are searched, and none where indentation matters.  Where no key or item may come twice,
            it may be longer than others, and begin with a few bytes less than was possible.
        """
        raw = self._as_bytes(data)
        if raw is None or self.is_empty or self.layout is not None:
            return None
        with self._reading(raw):
            recognizer = self._recognizer
            memory = self.memory()
            if memory is not None:
                raw = raw[: self.explain(data).offset]
            state, used = recognizer.run(raw)
            rest = shortest_accepted(recognizer, state)
        whole = None if rest is None else raw[:used] + rest
        if whole is not None and not self.accepts(self._parts(whole)):
            others = completions(recognizer, raw[:used])
            whole = next((text for text in others if self.accepts(self._parts(text))), None)
        return shown(whole) if whole is not None and self.tokens else whole

    def _parts(self, framed: bytes) -> Data:
        """A text of the rules as :meth:`accepts` takes it."""
        if not self.tokens:
            return framed
        pieces = framed.split(bytes((FRAME,)))
        return [SpecialToken(p.decode()) if n % 2 else p for n, p in enumerate(pieces)]

    def sample(self, seed: int | None = None, max_bytes: int | None = None) -> bytes:
        """A random text of the language, the same for the same seed; special tokens by their names.

        Raises:
            GrammarError: if the language is empty.
            BudgetError: if its shortest text has more than ``max_bytes`` bytes.
        """
        if max_bytes is not None and (
            isinstance(max_bytes, bool) or not isinstance(max_bytes, int)
        ):
            raise TypeError(f"max_bytes must be a whole number or None, not {max_bytes!r:.80}")
        with counted_work(self._limits, "sampling a text", more=_WORK_A_BYTE * (max_bytes or 0)):
            if self.is_empty:
                raise no_text(self.ir.notes or self._sampler.causes())
            text = self._sampler.sample(random.Random(seed), max_bytes, self.accepts)
            return shown(text) if self.tokens else text

    def memory(self) -> Memory | None:
        """A fresh automaton for keys and items that must not repeat; ``None`` if there are none.

        The program knows nothing of it: the language is the product of both.
        """
        return memory_of(self._head)

    def compile(self, alphabet: ByteMask) -> Program:
        """The program restricted to texts over some bytes (bit b: byte b may occur)."""
        return compile_ir(self.ir, self._limits, alphabet)

    @cached_property
    def _recognizer(self) -> Recognizer:
        return Recognizer(self._program, self._limits, names_tokens=bool(self.tokens))

    @cached_property
    def _explainer(self) -> Recognizer:
        """A recognizer that keeps every rule apart, so that it can name those that are open."""
        rules = tuple(Rule(r.name, r.body, r.span, shared=True) for r in self.ir.rules)
        try:
            program = compile_ir(GrammarIR(rules, self.ir.start), self._limits)
        except LimitExceeded:
            return self._recognizer
        # a call in last place is a jump otherwise, and a jump forgets its caller
        return Recognizer(
            replace(program, call_tail=np.zeros_like(program.call_tail)),
            self._limits,
            names_tokens=bool(self.tokens),
        )

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.ir, self._limits)

    # -- identity and storage ------------------------------------------------------------------

    def to_gbnf(self, *, wider: bool = False) -> str:
        """The GBNF text of a grammar that accepts the same texts; its start rule is ``root``.

        Intersections, complements, automata and items in any order are written out as rules.

        Args:
            wider: leave out what no rules can say: that no key comes twice in an object, that the items
                of an array differ.

        Raises:
            GrammarError: for a grammar with such a constraint (unless ``wider``), with indentation, with
                bytes that are no UTF-8, or without any text.
            LimitExceeded: if rules written out would be too many.
        """
        from grammars.writing import gbnf_of

        with counted_work(self._limits, "writing this grammar"):
            return gbnf_of(self.ir, self._limits, wider=wider)

    def to_lark(self, *, wider: bool = False) -> str:
        """The Lark text of a grammar that accepts the same texts; its start rule is ``start``.

        Its terminals are single characters of classes that have none in common, so that no lexer changes
        what is accepted: lark reads it with ``parser="earley"``, and so does :meth:`from_lark`.

        Args:
            wider: as in :meth:`to_gbnf`.

        Raises:
            GrammarError: as :meth:`to_gbnf`, and for special tokens.
            LimitExceeded: as :meth:`to_gbnf`.
        """
        from grammars.writing import lark_of

        with counted_work(self._limits, "writing this grammar"):
            return lark_of(self.ir, self._limits, wider=wider)

    def save(self, path: str | Path) -> None:
        """Writes the grammar as JSON text (suffix ``.gramma`` lets ``from_file`` read it)."""
        Path(path).write_text(dumps(self.ir, self._limits), "utf-8")

    @classmethod
    def load(cls, path: str | Path, *, limits: Limits | None = None) -> Grammar:
        """Reads what :meth:`save` wrote.

        Args:
            path: the file.
            limits: bounds on what it may cost.  By default those it was saved with, as far as they are
                not above the defaults: a file from a stranger cannot ask for more.

        Raises:
            GrammarError: if the file is something else, damaged, or of another format version.
            LimitExceeded: if it needs more; pass the limits that it was made with.
        """
        try:
            text = read_text(Path(path))
        except GrammarError:
            raise GrammarError(f"{Path(path).name} is not a saved grammar") from None
        return cls._from_saved(text, limits=limits)

    def compiled(self) -> bytes:
        """Rules, limits and the compiled form, for another process of this version (:meth:`of_compiled`)."""
        rules = dumps(self.ir, self._limits).encode("utf-8", "surrogatepass")
        program: list[bytes] = []
        if not self.is_empty and program_files.can_be_written(self._program):
            program = program_files.written(self._program, self._head)
        return b"".join([len(rules).to_bytes(8, "little"), rules, *program])

    @classmethod
    def of_compiled(cls, data: bytes) -> Grammar:
        """Reads what :meth:`compiled` gave, without compiling it again where that had the compiled form.

        Raises:
            GrammarError, ValueError: if it is something else, or damaged.
        """
        end = 8 + int.from_bytes(data[:8], "little")
        ir, limits = loads(data[8:end].decode("utf-8", "surrogatepass"))
        if end >= len(data):
            return cls(ir, limits=limits)
        restored = object.__new__(cls)
        for name, value in (
            ("_program", program_files.read(data[end:]).program),
            ("_head", ir),
            ("_ir", ir),
            ("_limits", limits),
            ("_reader", None),
        ):
            object.__setattr__(restored, name, value)
        return restored

    @classmethod
    def _from_saved(cls, text: str, *, limits: Limits | None = None) -> Grammar:
        """The saved limits apply unless others are asked for, but none above its default."""
        ir, saved = loads(text)
        return cls(ir, limits=saved.at_most(DEFAULT_LIMITS) if limits is None else limits)

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of rules and limits: equal for equal grammars."""
        return hashlib.sha256(
            dumps(self.ir, self._limits).encode("utf-8", "surrogatepass")
        ).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grammar) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        if self.is_empty:
            return "Grammar(empty)"
        return f"Grammar({len(self.ir.rules)} rules, {self._program.states:,} states)"

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_head", "_ir", "_limits", "_program", "_reader") and not hasattr(self, name):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"a Grammar is immutable; {name!r} cannot be set")

    def __copy__(self) -> Grammar:
        return self

    def __deepcopy__(self, memo: Any) -> Grammar:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the text that :meth:`save` writes, and compiled again where it is read."""
        return _from_pickle, (dumps(self.ir, self._limits),)


def grammar_of(
    text: str,
    kind: Kind,
    *,
    path: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    **options: Any,
) -> Grammar:
    """The grammar that a text of a kind describes.

    Args:
        text: as :func:`read_text` gives it.
        kind: which front end reads it.
        path: where it comes from, to resolve relative imports.
        limits: bounds on what it may cost.
        options: of the constructor of that kind.

    Raises:
        GrammarError: where the text is no such grammar.
        TypeError: for options that the constructor does not take.
    """
    match kind:
        case "lark":
            return Grammar._from_lark(text, path=path, limits=limits, **options)
        case "gbnf":
            if (dialect := dialect_of(path)) is not None:
                options.setdefault("dialect", dialect)
            return Grammar.from_gbnf(text, limits=limits, **options)
        case "regex":
            return Grammar.from_regex(text.removesuffix("\n"), limits=limits, **options)
        case "json" if not is_saved(text):
            return Grammar.from_json_schema(text, limits=limits, **options)
    own = None if limits == DEFAULT_LIMITS else limits
    return Grammar._from_saved(text, limits=own, **options)


def _checked_separators(given: Sequence[str]) -> tuple[str, str]:
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 2:
        raise TypeError(f"separators needs two texts, as json.dumps takes them, not {given!r:.80}")
    item, key = given
    if not isinstance(item, str) or not isinstance(key, str):
        raise TypeError(f"separators needs two texts, as json.dumps takes them, not {given!r:.80}")
    return item, key


def _irs_of(rules: Mapping[str, Grammar]) -> dict[str, GrammarIR]:
    """The grammars that stand under names in the text of another one."""
    for name, grammar in rules.items():
        if not isinstance(name, str) or not isinstance(grammar, Grammar):
            raise TypeError(f"rules= needs grammars by name, not {name!r}: {grammar!r:.80}")
    return {name: grammar.ir for name, grammar in rules.items()}


def _from_pickle(text: str) -> Grammar:
    ir, limits = loads(text)
    return Grammar(ir, limits=limits)
