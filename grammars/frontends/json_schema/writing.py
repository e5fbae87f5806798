"""Demands to expressions and rules.

One rule for each set of demands that some value has to meet.  What is unsatisfiable becomes the
empty language; the compiler removes what depends on it, and notes say what clashed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, Final

from grammars.errors import GrammarError, LimitExceeded
from grammars.frontends.json_schema import text as t
from grammars.frontends.json_schema.arrays import ArrayWriter
from grammars.frontends.json_schema.assertions import (
    ANYTHING,
    TYPES,
    All,
    Arrays,
    At,
    Branch,
    Demands,
    Either,
    Numbers,
    Objects,
    Strings,
    Value,
    forbids,
    identity,
    join,
    type_of,
)
from grammars.frontends.json_schema.blanks import NEW_LINE_RULE
from grammars.frontends.json_schema.branching import Brancher
from grammars.frontends.json_schema.grounding import Grounding
from grammars.frontends.json_schema.missing import Missing
from grammars.frontends.json_schema.numbers import equal_to, number_expr, shortest_notations
from grammars.frontends.json_schema.objects import KeyClass, Plan, Planner, Slot
from grammars.frontends.json_schema.plain import (
    PlainArray,
    PlainObject,
    PlainReader,
    PlainScalar,
    PlainWords,
)
from grammars.frontends.json_schema.reading import Reader
from grammars.frontends.json_schema.rows import RowWriter
from grammars.frontends.json_schema.satisfies import Judge
from grammars.frontends.json_schema.strings import ANY_TEXT, content, has_shape, shape_expr
from grammars.frontends.regex.python import NEVER_MATCHES
from grammars.frozen import replace
from grammars.ir import (
    EPSILON,
    NOTHING,
    Expr,
    GrammarIR,
    Literal,
    Member,
    Nothing,
    Ref,
    Rule,
    Seq,
    Span,
    alt,
    bag,
    both,
    optional,
    repeat,
    seq,
    walk,
)
from grammars.limits import Limits

_NO_SLASHES: Final = "; patterns are written without slashes around them"
_COMMA: Final = Literal(b",")
_COLON: Final = Literal(b":")
_UNWRITTEN: Final = Rule("", NOTHING)
_LONGEST_NAME: Final = 200
_ENDLESS: Final = 1 << 40
_ANY_VALUE: Final = "any value"
_ANYTHING: Final[dict[tuple[bool, bool, bool, str], Expr]] = {}
"""The texts of any value: whether no blanks may stand in them, whether items are compared, whether values
are tied to a source, the rule."""
_GAP: Final = optional(alt(Literal(b" "), Ref(NEW_LINE_RULE)))


class Writer:
    """Writes the grammar of one schema.

    Args:
        compared: whether separators behind repeated items are told apart (marks).
        shortest: whether numbers under keywords are written in the shortest ways only.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        compact: bool,
        any_order: bool,
        shortest: bool,
        limits: Limits,
        compared: bool,
    ) -> None:
        self._reader = reader
        self._shortest = shortest
        self._plain = PlainReader(reader)
        self._brancher = Brancher(reader, self._plain, limits)
        self._judge = Judge(self._brancher.branches, has_shape)
        self._planner = Planner(self._brancher, self._judge, limits)
        self._grounding = Grounding(reader.source, self._judge.allows)
        self._row_writer: RowWriter | None = None
        self._limits = limits
        self._any_order = any_order
        self._compact = compact
        self._compared = compared
        self._arrays = ArrayWriter(self, limits, compared=compared)
        self._distinct = False
        self._apart = False
        self._beside: set[str] = set()
        self._keys: dict[Expr, str] = {}
        self._texts: dict[Expr, Expr] = {}
        self._names: dict[Demands, str] = {}
        self._refs: dict[Demands, str | Nothing] = {}
        self._todo: list[Demands] = []
        self._place: str | None = None
        self._later: list[tuple[str, str | None, Callable[[], Expr]]] = []
        self._rules: dict[str, Rule] = {}
        self._taken: set[str] = set()
        self._notes: dict[str, None] = {}
        self._missing = Missing(self._meaningful)
        self.gap: Final = self._make_gap()
        self._comma = seq(_COMMA, self.gap)
        self._scalars: dict[str, Expr] = {}
        self._known_pairs: dict[tuple[str, Demands], Expr] = {}

    @property
    def compares(self) -> bool:
        """Whether some array that was written has items that must differ, or must not."""
        return self._arrays.compares

    def grammar(self, demands: Demands | None = None) -> GrammarIR:
        """The whole grammar, the root's rule first.

        Args:
            demands: what values have to meet; if not given, what the schema says.
        """
        root = self._meaningful(demands or (self._reader.root(),))
        start = self._name(root)
        while self._todo or self._later:
            if self._later:
                name, self._place, make = self._later.pop()
                self._rules[name] = Rule(name, self._located(make), Span(pointer=self._place))
                continue
            demands = self._todo.pop()
            name = self._names[demands]
            self._place = next((d.place for d in demands if isinstance(d, At)), None)
            self._rules[name] = _UNWRITTEN  # keeps its position among the rules
            body = self._located(partial(self._value_of, demands))
            self._missing.finish(demands, body)
            shared = name in self._beside and _has_object(body)
            self._rules[name] = Rule(name, body, Span(pointer=self._place), shared)
        for spelling in self._reader.spellings.values():
            self._rules.update((rule.name, rule) for rule in spelling.rules)
        rules = sorted(self._rules.values(), key=lambda rule: rule.name != start)
        return GrammarIR(
            tuple(rules),
            start,
            (*self._notes, *self._missing.notes(root)),
            distinct_keys=self._distinct,
            compare_items=self._compared,
            json=True,
        )

    def _located(self, make: Callable[[], Expr]) -> Expr:
        """A body; errors that do not say where they arose get the place of what is written."""
        self._missing.begin()
        try:
            return make()
        except GrammarError as error:
            error.locate(pointer=self._place)
            raise

    def _make_gap(self) -> Expr:
        """Blanks that may stand inside brackets and after separators: none, one, or a new line."""
        if self._compact:
            return EPSILON
        self._fixed(NEW_LINE_RULE, t.NEW_LINE)
        return _GAP

    # -- rules ---------------------------------------------------------------------------------

    def _name(self, demands: Demands) -> str:
        name = self._names.get(demands)
        if name is None:
            name = " & ".join(map(str, demands)) if demands else _ANY_VALUE
            if len(name) > _LONGEST_NAME:
                name = name[: _LONGEST_NAME - 3] + "..."
            name = self._names[demands] = self._free(name)
            self._todo.append(demands)
        return name

    def _free(self, name: str) -> str:
        """A name that no rule has yet."""
        known, number = name, 1
        while name in self._taken:
            number += 1
            name = f"{known} ({number})"
        self._taken.add(name)
        return name

    def ref(self, demands: Demands) -> Expr:
        """The rule for values that meet all demands."""
        known = self._refs.get(demands)
        if known is None:
            meant = self._meaningful(demands)
            known = self._refs[demands] = NOTHING if forbids(meant) else self._name(meant)
        return Ref(known) if type(known) is str else NOTHING

    def _meaningful(self, demands: Demands) -> Demands:
        """Without demands that allow anything; references followed where they say nothing else."""
        if len(demands) == 1 and type(demands[0]) is At:
            plain = self._plain.meaning(demands[0])
            if plain is not None:
                return plain
        out: list[Any] = []
        for demand in demands:
            seen: list[At] = []
            while isinstance(demand, At) and demand not in seen:
                seen.append(demand)
                meaning = self._reader.meaning(demand)
                if meaning == ANYTHING:
                    demand = ANYTHING
                elif isinstance(meaning, All) and len(meaning.items) == 1:
                    if not isinstance(meaning.items[0], At):
                        break
                    demand = meaning.items[0]
            out.append(demand)
        return join(tuple(out))

    def _fixed(self, name: str, body: Expr) -> Expr:
        """A rule that many places share; the name stands for this body alone."""
        if name not in self._rules:
            self._taken.add(name)
            self._rules[name] = Rule(name, body, shared=True)
        return Ref(name)

    def own_rule(self, what: str, body: Expr, *, shared: bool = False) -> Expr:
        """A new rule, which rule paths do not show."""
        if isinstance(body, Nothing):
            return body
        name = self._free(f"_{what} {len(self._rules)}")
        self._rules[name] = Rule(name, body, Span(pointer=self._place), shared)
        return Ref(name)

    def later(self, what: str, body: Callable[[], Expr]) -> Expr:
        """A new rule whose body is made when all that has been begun is done."""
        name = self._free(f"_{what} {len(self._rules)}")
        self._rules[name] = _UNWRITTEN
        self._later.append((name, self._place, body))
        return Ref(name)

    def _value_of(self, demands: Demands) -> Expr:
        plain = self._plainly(demands)
        if plain is not None:
            return plain
        ways = self._only_alternatives(demands)
        if ways is not None:
            refs = [self.ref((way,)) for way in ways]
            self._beside.update(x.name for x in refs if isinstance(x, Ref))
            return alt(*refs)
        branches = self._brancher.branches(demands)
        for places in self._brancher.clashes(demands):
            clash = (
                "no value meets all of this; change or take out one"
                if len(places) > 1
                else "is impossible"
            )
            self._note(places, clash + self._forbidden_keys(places))
        try:
            return self._ways(branches)
        except LimitExceeded:
            if not any(branch.objects.needs for branch in branches):
                raise
            return self._ways(self._brancher.multiplied_out(demands))

    def _forbidden_keys(self, places: Iterable[str]) -> str:
        """Keys that one of some clashing places requires and its schema does not have, as a remark."""
        for place in places:
            base, _, keyword = place.rpartition("/")
            if keyword != "required":
                continue
            schema = self._reader.documents.at(base)
            if not isinstance(schema, dict) or "patternProperties" in schema:
                continue
            known = schema.get("properties")
            missing = [
                key for key in schema["required"] if isinstance(known, dict) and key not in known
            ]
            if missing and schema.get("additionalProperties") is False:
                return f" (required and not in 'properties': {', '.join(map(repr, missing[:4]))})"
        return ""

    def _plainly(self, demands: Demands) -> Expr | None:
        """The texts of a plain schema, or of any value; ``None`` for other demands."""
        read = self._plain.read(demands)
        if type(read) is PlainScalar:
            return self._scalar(read.kind)
        if type(read) is PlainWords:
            return alt(*map(t.string_literal, read.words))
        if type(read) is PlainArray:
            return None if forbids(read.items) else self._arrays.array(Arrays(rest=read.items))
        if type(read) is not PlainObject:
            return None
        if not demands:
            return self._anything(read)
        plan = self._planner.plain(read)
        if plan is None or read.alone:
            return None if plan is None else self._plan(plan)
        return self._with_others(plan)

    def _anything(self, read: PlainObject) -> Expr:
        """The texts of any value, which most grammars have: made once, as all they name is rules."""
        for kind in ("number", "string"):  # rules of this grammar
            self._scalar(kind)
        self._fixed("string", t.STRING)  # of keys, which are free where values are tied to a source
        self._distinct = True
        tied = self._grounding.ties_string(Strings())
        key = (self._compact, self._compared, tied, self._names[()])
        known = _ANYTHING.get(key)
        if known is None:
            plan = self._planner.plain(read)
            assert plan is not None, "any value is possible"
            known = self._with_others(plan)
            if self._names[()] == _ANY_VALUE:
                _ANYTHING[key] = known
        return known

    def _with_others(self, plan: Plan) -> Expr:
        """The objects of a plan, and all values that are no objects."""
        parts = [*map(self._scalar, ("null", "boolean", "number", "string"))]
        parts += [self._arrays.array(Arrays()), self._plan(plan)]
        return alt(*parts)

    def _scalar(self, kind: str) -> Expr:
        """All values of a type, as a branch with nothing else would be written."""
        known = self._scalars.get(kind)
        if known is None or self._grounding.explains:
            numbers = Numbers()
            if kind == "integer":
                numbers = Numbers(step=Fraction(1), whole=self._plain.draft <= 4)
            named = "number" if kind == "integer" else kind
            branch = Branch(types=frozenset([named]), numbers=numbers)
            known = self._scalars[kind] = self._typed(named, branch)
        return known

    def _ways(self, branches: list[Branch]) -> Expr:
        self._apart = len(branches) > 1
        return alt(*(self._branch(branch) for branch in branches))

    def _only_alternatives(self, demands: Demands) -> Demands | None:
        """The alternatives of a schema that has nothing but ``anyOf``."""
        if len(demands) != 1 or not isinstance(demands[0], At):
            return None
        meaning = self._reader.meaning(demands[0])
        if isinstance(meaning, All) and len(meaning.items) == 1:
            only = meaning.items[0]
            if isinstance(only, Either) and all(isinstance(x, At) for x in only.items):
                return only.items
        return None

    # -- one alternative -----------------------------------------------------------------------

    def _branch(self, branch: Branch) -> Expr:
        if branch.values is not None:
            return self._values(branch)
        return alt(*(self._typed(kind, branch) for kind in TYPES if kind in branch.types))

    def _typed(self, kind: str, branch: Branch) -> Expr:
        excluded = [v.data for v in branch.excluded]
        match kind:
            case "null":
                return NOTHING if Value(None) in branch.excluded else Literal(b"null")
            case "boolean":
                words = [w for w in (True, False) if Value(w) not in branch.excluded]
                return alt(*(self._value(word) for word in words))
            case "number":
                return self._number(branch, excluded)
            case "string":
                return self._string(branch.strings, [v for v in excluded if isinstance(v, str)])
            case "array":
                self._check_size(branch, "minItems", "items", 2 * branch.arrays.low)
                return self._array(branch.arrays)
        self._check_size(branch, "minProperties", "properties", 5 * branch.objects.low)
        return self._object(branch.objects)

    def _check_size(self, branch: Branch, keyword: str, what: str, size: int) -> None:
        """Refuses what no text of a sensible length has."""
        if size > self._limits.max_expression_nodes:
            raise LimitExceeded(
                "max_expression_nodes",
                self._limits.max_expression_nodes,
                f"a shortest text of {size:,} bytes for so many {what}",
                instead="ask for fewer",
                pointer=next((s for s in branch.sources if s.endswith(f"/{keyword}")), None),
            )

    def _number(self, branch: Branch, excluded: list[Any]) -> Expr:
        numbers = branch.numbers
        if self._grounding.ties_number(numbers):
            return self._grounded_number(branch, excluded)
        others = [v for v in excluded if Value(v) in branch.excluded and _is_number(v)]
        body = number_expr(numbers, self._limits, others, shortest=self._shortest)
        if others:
            return body
        inferred = "" if numbers.source is None else "inferred "
        numbers = replace(numbers, source=None)
        if numbers.is_free:
            return self._fixed(f"{inferred}number", body)
        if numbers == Numbers(step=Fraction(1), whole=numbers.whole):
            return self._fixed(
                f"{inferred}plain integer" if numbers.whole else f"{inferred}integer", body
            )
        return body

    def _grounded_number(self, branch: Branch, excluded: list[Any]) -> Expr:
        """Numbers that stand in the source; those of no other demands share a rule."""
        others = [v for v in excluded if Value(v) in branch.excluded and _is_number(v)]
        body = self._grounding.number(branch, others)
        free = branch.numbers == Numbers() and not others
        out = self._fixed("number of the source", body) if free else self._text(body)
        if branch.types == {"number"} and self._grounding.lacks(body, self._limits):
            self._missing.lack(out, branch.sources, "no number of the source meets this")
        return out

    def _string(self, strings: Strings, excluded: list[str]) -> Expr:
        if self._grounding.ties_string(strings):
            return self._grounded_string(strings, excluded)
        inferred = "" if strings.source is None else "inferred "
        strings = replace(strings, source=None)
        if not strings.shapes and not excluded:
            if strings == Strings():
                return self._fixed(f"{inferred}string", t.STRING)
            return t.string_of_length(strings.low, strings.high)
        body = t.quoted(content(strings, excluded))
        for shape in strings.shapes:
            if (
                shape.kind == "pattern"
                and not shape.negated
                and isinstance(shape_expr(shape), Nothing)
            ):
                slashed = str(shape.text)[:1] == "/" == str(shape.text)[-1:]
                self._note([shape.place], NEVER_MATCHES + (_NO_SLASHES if slashed else ""))
        said = [f"#{s.place}" if s.place[:1] in ("", "/") else s.place for s in strings.shapes]
        if len(said) < 2 and not strings.low and strings.high is None:
            return self._text(body)
        said += ["minLength"] if strings.low else []
        said += ["maxLength"] if strings.high is not None else []
        name = " together with ".join(said)
        known = self._rules.get(name)
        if known is not None and known.body == body:
            return Ref(name)
        name = self._free(name or "other strings")
        self._rules[name] = Rule(name, body)
        return Ref(name)

    def _grounded_string(self, strings: Strings, excluded: list[str]) -> Expr:
        """Strings that stand in the source; those of the same demands share a rule."""
        body = self._grounding.string(strings, excluded)
        out = self._span(body, free=strings == Strings() and not excluded)
        if self._grounding.lacks(body, self._limits):
            places = [shape.place for shape in strings.shapes] or [self._place or ""]
            self._missing.lack(out, places, "no part of the source meets this")
        return out

    def _span(self, body: Expr, *, free: bool) -> Expr:
        if free:
            return self._fixed("span of the source", body)
        known = self._texts.get(body)
        if known is None:
            known = self._texts[body] = self.own_rule("span", body, shared=True)
        return known

    def _text(self, body: Expr) -> Expr:
        """A string's spelling; a large one is a rule of its own, which all its places share."""
        if not _is_large(body, _LARGE_TEXT):
            return body
        known = self._texts.get(body)
        if known is None:
            known = self._texts[body] = self.own_rule("text", body, shared=True)
        return known

    def _note(self, places: Iterable[str], clash: str) -> None:
        named = [str(At(place)) for place in places]
        where = " and ".join(named[:4]) or "#"
        self._notes[f"at {where}: {clash}"] = None

    # -- arrays --------------------------------------------------------------------------------

    def _array(self, arrays: Arrays) -> Expr:
        arrays = arrays.tightened()
        if arrays.rows and self._reader.source is not None:
            if self._row_writer is None:
                made = RowWriter(self, self._reader.source, self._judge.allows, self._limits)
                self._row_writer = made
            return NOTHING if arrays.is_empty else self._row_writer.array(arrays, self._place)
        if arrays.unique and not arrays.prefix:
            arrays = arrays & Arrays(high=self._cardinality(arrays.rest))
        if arrays.is_empty:
            return NOTHING
        out = self._arrays.array(arrays)
        self._missing.write(out, arrays)
        return out

    def branches(self, demands: Demands) -> list[Branch]:
        """The alternatives of demands."""
        return self._brancher.branches(demands)

    def plans(self, branch: Branch) -> list[Plan]:
        """The ways of meeting what a branch says of objects."""
        return self._planner.plans(branch.objects)

    def listed(self, branch: Branch) -> Expr:
        """The values that a branch lists."""
        return self._values(branch)

    def untied(self, kind: str, branch: Branch) -> Expr:
        """The values of a type that need not stand in a source."""
        return self._typed(kind, branch)

    def pair(self, name: str, value: Expr) -> Expr:
        """A key with its value."""
        return self._keyed(t.string_literal(name), value)

    def separators(self) -> tuple[Expr, Expr]:
        """Comma (with blanks) and closing bracket behind an item of an array."""
        return self._arrays.separators(None)

    def comma(self) -> Expr:
        """The comma between pairs, with blanks."""
        return self._comma

    def _cardinality(self, demands: Demands) -> int | None:
        """How many different values meet the demands, where it is plain."""
        found: set[Any] = set()
        for branch in self._brancher.branches(demands):
            if branch.values is not None:
                kept = [v for v in branch.values if self._judge.allows(branch, v.data)]
            elif branch.types <= {"null", "boolean"}:
                kept = [Value(v) for v in (None, False, True)]
                kept = [v for v in kept if self._judge.belongs(branch, v.data)]
            else:
                return None
            found.update(kept)
        return len(found)

    # -- objects -------------------------------------------------------------------------------

    def _object(self, objects: Objects) -> Expr:
        plans = self._planner.plans(objects)
        if len(plans) == 1 and not self._apart:
            return self._plan(plans[0])
        # objects of which several are possible are read side by side, not made one automaton, which
        # would tell apart every combination of optional keys
        return alt(*(self.own_rule("object", self._plan(plan), shared=True) for plan in plans))

    def _plan(self, plan: Plan) -> Expr:
        if plan.classes and (plan.high is None or plan.high > 1):
            self._distinct = True
        content = NOTHING if plan.high == 0 else self._content(plan)
        inside = seq(content, self.gap)
        if plan.may_be_empty:
            inside = optional(inside)
        out = seq(Literal(b"{"), self.gap, inside, Literal(b"}"))
        self._missing.write(out, plan)
        return out

    def _content(self, plan: Plan) -> Expr:
        """At least one pair."""
        counted = plan.low > 1 or plan.high is not None
        several = len(plan.slots) + len(plan.classes) > 1
        if plan.conditions:
            return self._conditional_bag(plan)
        if (self._any_order and several) or counted or _has_many_rests(plan.slots):
            return self._bag(plan)
        pairs = [(self._pair(s.name, s.demands), s.required) for s in plan.slots if s.placed]
        loose = self._loose_members(plan)
        if all(m.min == 0 and m.max is None for m in loose):
            return self._pairs(pairs, alt(*(m.item for m in loose)))
        pairs.append((bag(loose, self._comma), any(m.min for m in loose)))
        return self._pairs(pairs, NOTHING)

    def _members(self, slots: Iterable[Slot]) -> list[Member]:
        return [Member(self._pair(s.name, s.demands), int(s.required), 1) for s in slots]

    def _loose_members(self, plan: Plan) -> list[Member]:
        """Keys that have no place of their own, which come last, in any order."""
        members = self._members(s for s in plan.slots if not s.placed)
        members += [Member(self._class_pair(c), 1, None) for c in plan.classes if c.needed]
        free = [c for c in plan.classes if not c.needed]
        return members + _any_number(alt(*map(self._class_pair, free)))

    def _conditional_bag(self, plan: Plan) -> Expr:
        """Slots and classes as members of one bag, in their order."""
        members = [
            Member(self._pair(s.name, s.demands), int(s.required), 1, s.group) for s in plan.slots
        ]
        members += [Member(self._class_pair(c), 0, None) for c in plan.classes]
        loose = len(plan.classes) + sum(not s.placed for s in plan.slots)
        return bag(
            members,
            self._comma,
            ordered=not self._any_order,
            conditions=plan.conditions,
            loose=0 if self._any_order else loose,
        )

    def _bag(self, plan: Plan) -> Expr:
        low, high = max(plan.low, 1), plan.high
        if self._any_order:
            members = self._members(plan.slots)
            members += [Member(self._class_pair(c), 1, None) for c in plan.classes if c.needed]
            free = [c for c in plan.classes if not c.needed]
            members += [m for c in free for m in _any_number(self._class_pair(c))]
            return bag(members, self._comma, low, high)
        placed = self._members(s for s in plan.slots if s.placed)
        loose = self._loose_members(plan)
        if not placed or len(loose) > 1:
            return self._counted(placed, loose, low, high)
        return bag([*placed, *loose], self._comma, low, high, ordered=True)

    def _counted(
        self, placed: list[Member], loose: list[Member], low: int, high: int | None
    ) -> Expr:
        """Placed keys in their order, then others in any order, so many in all.

        What is left for the others depends on how many placed ones there are: an alternative each,
        one for all those that leave the same.
        """
        owed = sum(m.min for m in loose)
        room = sum(_ENDLESS if m.max is None else m.max for m in loose)
        shares: dict[tuple[int, int], list[int]] = {}
        for count in range(len(placed) + 1):
            most = room if high is None else min(room, high - count)
            if most >= max(low - count, owed):
                shares.setdefault((max(low - count, owed), most), []).append(count)
        ways: list[Expr] = []
        for (least, most), counts in shares.items():
            top = None if most >= room else most
            others = bag(loose, self._comma, max(least, 1), top) if most else NOTHING
            if counts[0] == 0 and not any(m.min for m in placed):
                ways.append(others)
            first, last = max(counts[0], 1), counts[-1]
            if first <= last:
                then = seq(self._comma, others)
                head = bag(placed, self._comma, first, last, ordered=True)
                ways.append(seq(head, then if least else optional(then)))
        return alt(*ways)

    def _pair(self, name: str, demands: Demands) -> Expr:
        known = self._known_pairs.get((name, demands))
        if known is None:
            known = self._keyed(t.string_literal(name), self.ref(demands))
            self._known_pairs[name, demands] = known
        return known

    def _keyed(self, key: Expr, value: Expr) -> Expr:
        """A key, a colon and a value."""
        if type(key) is Literal and type(value) is Ref and not self._compact:
            return Seq((Literal(key.data + b":"), self.gap, value))  # as below, but at once
        return seq(key, _COLON, self.gap, value)

    def _behind_comma(self, pair: Expr) -> Expr:
        if type(pair) is Seq and type(self._comma) is Seq:
            return Seq(self._comma.items + pair.items)  # as below, but at once
        return seq(self._comma, pair)

    def _class_pair(self, keys: KeyClass) -> Expr:
        """A key that has no place of its own, with its value."""
        if keys.key == ANY_TEXT:
            key = self._fixed("string", t.STRING)
        else:
            name = self._keys.get(keys.key)
            if name is None:
                name = self._keys[keys.key] = self._free(keys.label)
                self._rules[name] = Rule(name, t.quoted(keys.key), shared=True)
            key = Ref(name)
        return seq(key, _COLON, self.gap, self.ref(keys.demands))

    def _pairs(self, pairs: list[tuple[Expr, bool]], other: Expr) -> Expr:
        """At least one pair: those in order, optional ones there or not, then others.

        Which pair is the first decides where commas stand: up to the first required pair every
        pair may be it, and what follows is shared.
        """
        others = repeat(self._behind_comma(other))
        first_required = next((i for i, (_, needed) in enumerate(pairs) if needed), len(pairs))
        tail = self._after(pairs[first_required + 1 :], others)
        if first_required < len(pairs):
            ways = [seq(pairs[first_required][0], tail)]
            tail = seq(self._comma, pairs[first_required][0], tail)
        else:
            ways = [seq(other, others)]
            tail = others
        for i in range(first_required - 1, -1, -1):
            tail = self.own_rule("more", tail) if _is_large(tail) else tail
            ways.append(seq(pairs[i][0], tail))
            tail = seq(optional(self._behind_comma(pairs[i][0])), tail)
        return alt(*reversed(ways))

    def _after(self, pairs: list[tuple[Expr, bool]], others: Expr) -> Expr:
        parts = [self._behind_comma(pair) for pair, _ in pairs]
        kept = [p if needed else optional(p) for p, (_, needed) in zip(parts, pairs, strict=True)]
        return seq(*kept, others)

    # -- values --------------------------------------------------------------------------------

    def _values(self, branch: Branch) -> Expr:
        assert branch.values is not None
        kept = [v for v in branch.values if self._judge.allows(branch, v.data)]
        if not kept:
            self._note(
                branch.sources, "none of the values of enum or const meets the other keywords"
            )
        if branch.numbers.whole:  # draft 4's integers have no fraction, listed ones neither
            return alt(*(self._plain_value(v.data) for v in kept))
        return alt(*(self._value(v.data) for v in kept))

    def _plain_value(self, value: Any) -> Expr:
        if type_of(value) != "number":
            return self._value(value)
        if self._shortest:
            return shortest_notations(value, whole=True)
        return both(equal_to(value), number_expr(Numbers(whole=True), self._limits))

    def _value(self, value: Any) -> Expr:
        if value is None or isinstance(value, bool):
            return Literal({None: b"null", True: b"true", False: b"false"}[value])
        if isinstance(value, str):
            return t.string_literal(value)
        if isinstance(value, list):
            return self._list(value)
        if isinstance(value, dict):
            return self._mapping(value)
        return shortest_notations(value) if self._shortest else equal_to(value)

    def _list(self, value: list[Any]) -> Expr:
        if not value:
            return seq(Literal(b"["), self.gap, Literal(b"]"))
        parts: list[Expr] = []
        seen: set[Any] = set()
        repeated = False
        for item in value:
            if parts:
                parts += [self._arrays.separator(repeated), self.gap]
            parts.append(self._value(item))
            repeated = identity(item) in seen
            seen.add(identity(item))
        return seq(
            Literal(b"["), self.gap, *parts, self.gap, self._arrays.separator(repeated, last=True)
        )

    def _mapping(self, value: dict[str, Any]) -> Expr:
        pairs = [
            seq(t.string_literal(key), _COLON, self.gap, self._value(item))
            for key, item in value.items()
        ]
        if self._any_order and len(pairs) > 1:
            content = bag([Member(pair, 1, 1) for pair in pairs], self._comma)
        else:
            separated: list[Expr] = []
            for pair in pairs:
                separated += [self._comma, pair] if separated else [pair]
            content = seq(*separated)
        inside = seq(self.gap, content, self.gap) if pairs else self.gap
        return seq(Literal(b"{"), inside, Literal(b"}"))


def _has_object(body: Expr) -> bool:
    return any(isinstance(x, Literal) and x.data.startswith(b"{") for x in walk(body))


_MOST_RESTS: Final = 4_000
"""Characters of keys, over all sets of keys that can be left, above which a register counts them."""


def _has_many_rests(slots: Iterable[Slot]) -> bool:
    """Whether an automaton of keys in order would be much larger than the keys.

    Behind each key it tells apart which of those behind it can follow: all optional ones up to the
    next required one.  So its size grows with the square of their number.
    """
    total = waiting = 0
    for slot in reversed([slot for slot in slots if slot.placed]):
        waiting = len(slot.name) + (0 if slot.required else waiting)
        total += waiting
    return total > _MOST_RESTS


def _any_number(item: Expr) -> list[Member]:
    return [] if item == NOTHING else [Member(item, 0, None)]


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool | str) and value is not None


_LARGE_TEXT: Final = 400
"""Nodes of a pattern or format above which it is compiled once for all its places."""


def _is_large(expr: Expr, nodes: int = 8) -> bool:
    return next(islice(walk(expr), nodes, None), None) is not None
