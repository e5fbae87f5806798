"""Grammars with an indenter as rules that wait for marks of layout (:class:`grammars.ir.Layout`).

lark's ``Indenter`` stands between lexer and parser: behind a newline it makes INDENT and DEDENT of widths,
inside brackets it drops newlines, and at the end of the text it closes the levels that are left.  Brackets
and the places of newlines are context-free, widths are not.  So rules are annotated further, beside the
obligation of the lexer, with

* the *level* of brackets: above 0 a newline is ignored text.  A rule that closes what it opens, as nearly
  all do, is the same at all levels above 0;
* the *phase*: a newline was just read and its mark is to come (``FRESH``), DEDENTs were made and more of
  them or text must come (``DEDENTED``), an INDENT was and text must come (``BEGUN``), the text has ended and
  DEDENTs may come (``END``), or none of these (``LINE``).

What rules then read is the text and the marks, which the layout puts in between.  A newline that is to count
must hold a line end, since lark takes the width from what is behind it (and fails without one).

Whether a text can be completed is decided by the rules alone.  That is right where widths can always be
mended: where the newline can be followed by another one and any blanks, and where INDENT and DEDENT are
balanced within every rule.  Both are checked, and other grammars refused.  A newline may end with more than
blanks (a comment in quotes); its width is then of all blanks in its last line, as for lark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from grammars import ir
from grammars.errors import GrammarError
from grammars.frontends.lark.annotated import Node, Symbol, Token
from grammars.frontends.lark.lexemes import Lexeme, Ways
from grammars.frontends.lark.loading import Loaded
from grammars.frontends.lark.minimization import trimmed
from grammars.frontends.lark.patterns import Mask
from grammars.frontends.lark.points import END as TEXT_END
from grammars.frontends.lark.points import Lexing
from grammars.frontends.lark.postlex import Postlex
from grammars.frontends.lark.readings import Builder, Control, Read
from grammars.frontends.lark.source import Source
from grammars.frontends.lark.threads import CLASS, Obligation, UncountableError
from grammars.ir import EPSILON, NOTHING, Expr, Layout, Mark, alt, seq
from grammars.limits import Limits

LINE: Final = 0
FRESH: Final = 1
DEDENTED: Final = 2
BEGUN: Final = 3
END: Final = 4

_MOST_LEVELS: Final = 64
"""Of brackets that are opened in one rule and closed in another."""
_DEEPEST: Final = -64
_MOST_PAIRS: Final = 1_000
"""Of obligations that are compared with each other."""

_ADVICE: Final = "write it so that any blank lines fit in, for example /(\\r?\\n[\\t ]*)+/"


class LayoutBuilder(Builder):
    """From annotated rules and an indenter to a grammar over bytes and marks."""

    def __init__(
        self,
        source: Source,
        loaded: Loaded,
        lexing: Lexing,
        limits: Limits,
        postlex: Postlex,
    ) -> None:
        super().__init__(source, loaded, lexing, limits)
        self._postlex = postlex
        brackets = dict.fromkeys(postlex.opening, 1) | dict.fromkeys(postlex.closing, -1)
        self._bracket = brackets
        nets = nets_of(self.productions, brackets)
        self._closed = {node for node, (net, low) in nets.items() if net == 0 and low == 0}
        self._begins_with_text = self._list_textual()
        self._newline_ways: dict[tuple[int, Obligation], Ways] = {}
        self._made: dict[tuple[Control, Token], dict[Control, Expr]] = {}
        (self._line_end,) = self.machine.alphabet.members(self.machine.alphabet.mask(((10, 10),)))
        self._check_balance()
        self._check_newlines()

    def _layout(self) -> Layout:
        return Layout(self._postlex.tab_length)

    def _list_textual(self) -> set[Node]:
        """The rules all of whose texts begin with a token that is text."""
        unspelled = self._postlex.unspelled
        out = set(self.productions)
        while True:
            kept = {
                node
                for node in out
                if all(
                    production
                    and (
                        production[0].terminal not in unspelled
                        if isinstance(production[0], Token)
                        else production[0] in out
                    )
                    for production in self.productions[node]
                )
            }
            if kept == out:
                return out
            out = kept

    # -- what is refused -----------------------------------------------------------------------

    def _check_balance(self) -> None:
        """Refuses grammars in which a rule does not close the levels that it opens."""
        levels = {self._postlex.indent: 1, self._postlex.dedent: -1}
        nets = nets_of(self.productions, levels)
        start = self.rules.representative[self.rules.start]
        for node, (net, _) in nets.items():
            if net is None:
                self._refuse(node[1].rstrip("*"), "has other levels of indentation open each time")
        if nets.get(start, (0, 0)) != (0, 0):
            self._refuse(start[1], "does not close the levels of indentation that it opens")

    def _refuse(self, name: str, what: str) -> None:
        where = self.source.place(name)
        raise GrammarError(
            f"rule {name} {what}; let every {self._postlex.indent} and its "
            f"{self._postlex.dedent} stand in one rule",
            line=where.line,
            column=where.column,
        )

    def _check_newlines(self) -> None:
        """Refuses newlines whose width cannot always be mended by another newline and blanks."""
        lexemes = {
            x.number: x
            for group in self.rules.groups
            for x in group.read.get(self._postlex.newline, ())
        }
        for lexeme in lexemes.values():
            what = self._fault(self._ways_of_newline(lexeme, self.machine.free))
            if what:
                definition = self.lexing.by_name[self._postlex.newline]
                where = self.source.place(definition.name, definition.pattern.raw)
                raise GrammarError(
                    f"the newline {definition.user_repr()} {what}; {_ADVICE}",
                    line=where.line,
                    column=where.column,
                )

    def _fault(self, ways: Ways) -> str:
        rows, ends = ways.rows, ways.ends
        behind = {row[self._line_end] for row in rows if self._line_end in row}
        fresh = {q for q in behind if ends[q]}  # the others are within a comment
        if not behind:
            return "cannot hold a line end"
        if not fresh:
            return "cannot end with a line end"
        blank = self._blank()
        for q in fresh:  # any number of blanks may follow, and nothing changes by them
            seen = {q}
            while True:
                if ends[q] != ends[min(fresh)]:
                    return "reads lines in different ways"
                after = rows[q].get(blank)
                if after is None:
                    return "cannot hold any number of blanks behind a line end"
                if after in seen:
                    break
                seen.add(after)
                q = after
        usual = ends[min(fresh)]
        if self._is_loose(ways) and self._is_dead_behind(usual):
            return "ends with a comment, and only another newline may follow it"
        for found in ends:
            if any(not any(self._frees(o, other) for o in usual) for other in found):
                return "forbids more behind blanks than behind other text"
        if any(self._line_end not in row for q, row in enumerate(rows) if ends[q] or q in fresh):
            return "cannot hold blank lines"
        reaching = set(fresh)
        grown = True
        while grown:
            more = {q for q, row in enumerate(rows) if reaching.intersection(row.values())}
            grown = not more <= reaching
            reaching |= more
        return "" if len(reaching) == len(rows) else "cannot always be followed by a line end"

    def _is_loose(self, ways: Ways) -> bool:
        """Whether it may end with something other than a line end and blanks."""
        return any(
            ways.ends[target] and not ways.ends[q] and c != self._line_end
            for q, row in enumerate(ways.rows)
            for c, target in row.items()
        )

    def _is_dead_behind(self, usual: Iterable[Obligation]) -> bool:
        """Whether somewhere behind a newline nothing may follow but what it goes on with itself.

        Behind a comment and a blank a newline of its own may begin, not so behind a line end: where rules
        wait for that, widths could not be mended.
        """
        for token in self.rules.behind:
            if token.terminal != self._postlex.newline:
                continue
            point = self.rules.points[token.point]
            follow = point.follow - {self._postlex.newline}
            if TEXT_END in follow or follow & self._postlex.unspelled:
                continue
            lexemes = [x for terminal in follow for x in point.read.get(terminal, ())]
            if not any(self.lexer.ways(x, o).outcomes for x in lexemes for o in usual):
                return True
        return False

    @cached_property
    def _skipped_blanks(self) -> Mask:
        """Blanks and tabs, if between tokens they are ignored text that holds nothing else; or nothing."""
        alphabet = self.machine.alphabet
        blanks = alphabet.mask(((9, 9),)) | alphabet.mask(((32, 32),))
        for group in self.rules.groups:
            for terminal, lexemes in group.read.items():
                if terminal != self._postlex.newline and any(x.first & blanks for x in lexemes):
                    return 0
            for x in group.ignored or ():
                letters = {c & CLASS for row in x.rows for c in row}
                if x.first & blanks and any(not blanks >> c & 1 for c in letters):
                    return 0
        return blanks

    def _blank(self) -> int:
        (blank,) = self.machine.alphabet.members(self.machine.alphabet.mask(((32, 32),)))
        return blank

    def _frees(self, free: Obligation, other: Obligation) -> bool:
        """Whether all that may follow under one obligation may follow under the free one.

        Ignored blanks aside: a newline that is mended has read them, and what it could go on with behind
        them (see :meth:`_is_dead_behind`).
        """
        machine = self.machine
        todo = [(free, other)]
        seen = set(todo)
        for mine, its in todo:  # grows while we iterate
            if its.following & machine.alphabet.end & ~mine.following:
                return False
            for c in machine.alphabet.members(its.following):
                left = machine.keep(its, c)
                if left is None:
                    continue
                if mine == free and self._skipped_blanks >> c & 1:
                    continue
                kept = machine.keep(mine, c)
                if kept is None or len(todo) > _MOST_PAIRS:
                    return False
                if kept != machine.free and (kept, left) not in seen:
                    seen.add((kept, left))
                    todo.append((kept, left))
        return True

    # -- controls ------------------------------------------------------------------------------

    def _entered(self, node: Node, control: Control) -> Control:
        if control.level > 1 and node in self._closed:
            control = replace(control, level=1)
        if control.phase in (FRESH, DEDENTED, BEGUN) and node in self._begins_with_text:
            control = replace(control, phase=LINE)  # see _ref
        return super()._entered(node, control)

    def _narrowed(self, control: Control, terminals: frozenset[str]) -> Control:
        if (
            terminals & self._postlex.unspelled
        ):  # what is read behind them is not among the terminals
            return control
        return super()._narrowed(control, terminals | {self._postlex.newline})

    def _ref(self, node: Node, control: Control, last: Control) -> Expr:
        made = super()._ref(node, control, last)
        if control.phase == FRESH and node in self._begins_with_text:
            return seq(Mark(ir.LINE_SAME), made)
        return made

    def _left(self, node: Node, control: Control, last: Control) -> Control:
        if control.level > 1 and node in self._closed:
            return replace(last, level=control.level)
        return last

    def _inside(self, node: Node, control: Control, last: Control) -> Control:
        return replace(last, level=1) if control.level > 1 and node in self._closed else last

    def _level_behind(self, control: Control, terminal: str) -> int | None:
        """The level of brackets behind a token; ``None`` where one is closed that was not opened."""
        level = control.level + self._bracket.get(terminal, 0)
        if level > _MOST_LEVELS:
            where = self.source.place(terminal)
            raise GrammarError(
                f"brackets are opened by {terminal} without being closed in the same rule, more than "
                f"{_MOST_LEVELS} times; let them stand in one rule",
                line=where.line,
                column=where.column,
            )
        return level if level >= 0 else None

    # -- ignored text --------------------------------------------------------------------------

    def _plain(self, control: Control) -> Control:
        """The control as far as ignored text depends on it."""
        return replace(control, phase=LINE, level=min(control.level, 1))

    def _ignored(self, control: Control) -> Sequence[Lexeme]:
        ignored = super()._ignored(control)
        if not control.level:
            return ignored
        newlines = self.rules.groups[control.group].read.get(self._postlex.newline, ())
        return [*ignored, *newlines]

    def _skipped(
        self, control: Control
    ) -> dict[tuple[Obligation, Obligation], list[tuple[Lexeme, frozenset[Obligation]]]]:
        return super()._skipped(self._plain(control))

    def _skip(self, control: Control, ends: Sequence[Obligation]) -> Expr:
        return super()._skip(self._plain(control), ends)

    # -- tokens --------------------------------------------------------------------------------

    def _read(self, control: Control, token: Token) -> Read:
        key = (control, token)
        known = self._reads.get(key)
        if known is not None:
            return known
        if token.terminal in self._postlex.unspelled:
            made = self._made[key] = self._make(control, token)
            found = Read({after: [] for after in made})
        else:
            found = self._read_text(control, token)
        self._reads[key] = found
        return found

    def _read_text(self, control: Control, token: Token) -> Read:
        found = Read()
        is_newline = token.terminal == self._postlex.newline
        level = self._level_behind(control, token.terminal)
        if control.phase == END or level is None or (is_newline and control.level):
            return found
        phase = FRESH if is_newline else LINE
        view = self.rules.behind[token]
        group = self.rules.points[token.point].group
        lexemes = self.rules.groups[control.group].read.get(token.terminal, ())
        for pending in self._after_skip(control):
            for lexeme in lexemes:
                ways = (
                    self._ways_of_newline(lexeme, pending)
                    if is_newline
                    else self.lexer.ways(lexeme, pending)
                )
                for after, outcomes in self._grouped(ways, view).items():
                    self._order.setdefault(after, len(self._order))
                    behind = Control(after, group, phase, level)
                    found.parts.setdefault(behind, []).append((pending, lexeme, outcomes))
        return found

    def _make(self, control: Control, token: Token) -> dict[Control, Expr]:
        """The controls behind INDENT or DEDENT, and the marks that lead there."""
        view = self.rules.behind[token]
        group = self.rules.points[token.point].group
        after = view.reduce(control.pending)
        self._order.setdefault(after, len(self._order))
        self._order.setdefault(self.machine.free, len(self._order))
        ended = Control(self.machine.free, group, END, control.level)
        ends = bool(control.pending.following & self.machine.alphabet.end)
        out: dict[Control, Expr] = {}
        if token.terminal == self._postlex.indent:
            if control.phase == FRESH:
                out[Control(after, group, BEGUN, control.level)] = Mark(ir.LINE_INDENT)
                if ends:
                    out[ended] = Mark(ir.END_INDENT)
            return out
        if control.phase in (FRESH, DEDENTED):
            out[Control(after, group, DEDENTED, control.level)] = Mark(ir.LINE_DEDENT)
        rest = self._tail(control)
        if rest != NOTHING:
            out[ended] = seq(rest, Mark(ir.END_DEDENT))
        return out

    def _tail(self, control: Control) -> Expr:
        """Ignored text, and marks, up to the end of the text or the levels that end with it."""
        if control.phase == END:
            return EPSILON
        if control.phase == LINE:
            return super()._tail(control)
        end = self.machine.alphabet.end
        rest = self._skip_some(control, [o for o in self._after_skip(control) if o.following & end])
        if control.phase != FRESH:
            return rest
        rest = seq(Mark(ir.LINE_SAME), rest)
        return alt(Mark(ir.END_SAME), rest) if control.pending.following & end else rest

    def _skip_some(self, control: Control, ends: Sequence[Obligation]) -> Expr:
        """Ignored text that leads to one of these obligations, at least one lexeme of it."""
        firsts: dict[Obligation, list[Expr]] = {}
        for (source, target), found in self._skipped(control).items():
            if source == control.pending:
                texts = [self._lexeme(x, source, outcomes) for x, outcomes in found]
                firsts.setdefault(target, []).extend(texts)
        return alt(
            *(
                seq(alt(*texts), self._skip(replace(control, pending=after), ends))
                for after, texts in firsts.items()
            )
        )

    def _symbol(self, symbol: Symbol, control: Control, last: Control) -> Expr:
        if not isinstance(symbol, Token):
            return super()._symbol(symbol, control, last)
        self._read(control, symbol)
        if symbol.terminal in self._postlex.unspelled:
            return self._made[control, symbol][last]
        body = super()._symbol(symbol, control, last)
        return seq(Mark(ir.LINE_SAME), body) if control.phase == FRESH else body

    def _token_text(
        self, lexeme: Lexeme, pending: Obligation, outcomes: frozenset[Obligation]
    ) -> Expr:
        if self.lexing.terminals[lexeme.terminal].name != self._postlex.newline:
            return super()._token_text(lexeme, pending, outcomes)
        key = ("newline", lexeme.number, pending, outcomes)
        return self._text_of(key, lexeme, self._ways_of_newline(lexeme, pending), outcomes)

    def _ways_of_newline(self, lexeme: Lexeme, pending: Obligation) -> Ways:
        """The ways to read a newline that hold a line end."""
        key = (lexeme.number, pending)
        known = self._newline_ways.get(key)
        if known is None:
            ways = self.lexer.ways(lexeme, pending)
            if self.machine.regions and any(x > CLASS for row in ways.rows for x in row):
                raise UncountableError(lexeme.terminal)  # written out then: see grammar.py
            known = self._newline_ways[key] = _with_class(ways, self._line_end)
        return known


def _with_class(ways: Ways, wanted: int) -> Ways:
    """Those ways in which a class of characters occurs."""
    index = {(0, False): 0}
    order = [(0, False)]
    rows: list[dict[int, int]] = []
    for q, seen in order:  # grows while we iterate
        row: dict[int, int] = {}
        for c, target in ways.rows[q].items():
            place = (target, seen or c == wanted)
            if place not in index:
                index[place] = len(order)
                order.append(place)
            row[c] = index[place]
        rows.append(row)
    return Ways(*trimmed(rows, [ways.ends[q] if seen else frozenset() for q, seen in order]))


def nets_of(
    productions: Mapping[Node, Iterable[tuple[Symbol, ...]]], steps: Mapping[str, int]
) -> dict[Node, tuple[int | None, int]]:
    """By how many levels each rule ends higher than it began, and the least level on the way.

    Args:
        productions: the rules.
        steps: by terminal, how far it goes up or down.

    Returns:
        By rule that has a text: the difference (``None`` where it is not the same for all texts), and the
        least of all differences on the way, 0 or less; at least -64, as if texts went no lower.
    """
    nets: dict[Node, int | None] = {}
    grown = True
    while grown:
        grown = False
        for node, found in productions.items():
            for production in found:
                total: int | None = 0
                for symbol in production:
                    if isinstance(symbol, Token):
                        step: int | None = steps.get(symbol.terminal, 0)
                    elif symbol in nets:
                        step = nets[symbol]
                    else:
                        break
                    total = None if total is None or step is None else total + step
                else:
                    if node not in nets:
                        nets[node], grown = total, True
                    elif nets[node] != total and nets[node] is not None:
                        nets[node], grown = None, True
    low = dict.fromkeys(nets, 0)
    grown = True
    while grown:
        grown = False
        for node in low:
            for production in productions[node]:
                at = least = 0
                for symbol in production:
                    if isinstance(symbol, Token):
                        at += steps.get(symbol.terminal, 0)
                    else:
                        if symbol not in nets:
                            break
                        least = min(least, at + low[symbol])
                        at += nets[symbol] or 0
                    least = min(least, at)
                else:
                    least = max(least, _DEEPEST)
                    if least < low[node]:
                        low[node], grown = least, True
    return {node: (net, low[node]) for node, net in nets.items()}
