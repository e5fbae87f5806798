"""What a JSON text has said so far, as far as it matters later: keys and array items.

Whether a key or an item repeats an earlier one depends on the text alone, not on how the rules of a
grammar read it.  So it is tracked beside the rules, by a deterministic automaton over bytes whose
states are immutable and hash-consed: equal memories are one object, and the language is the product
of the rules' automaton and this one.

A :class:`Tracker` is a place in the text: the innermost open container (:class:`Frame`, linked to
those around it), what is being read there, and its bytes so far where they matter:

* keys, if ``distinct_keys`` is asked for: of every open object the set of its keys, decoded;
* values, if ``compare_items`` is: of every open array the set of its items, and of the item being
  read all that has been read.  Values outside arrays are never remembered, so that free text there
  stays one state.

Values are compared as JSON does: 1 is 1.0 and 10e-1 but not true, keys have no order.  They are
hash-consed too (:class:`Value`), so that comparing is comparing addresses.

Text that is not JSON is followed somehow: the rules refuse it anyway.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar

from grammars.ir import (
    REPEATED_CLOSE,
    REPEATED_COMMA,
    Expr,
    GrammarIR,
    Literal,
    Mark,
    Not,
    children,
    with_children,
)
from grammars.uniqueness.persistent import (
    Items,
    LargeSet,
    SharedLists,
    SharedSet,
    SharedSets,
    difference,
)

VALUE: Final = 0
"""A value is to come (or ``]``)."""
KEY: Final = 1
"""A key is to come (or ``}``)."""
COLON: Final = 2
"""A key has ended."""
SCALAR: Final = 3
"""In a number, ``true``, ``false`` or ``null``."""
STRING: Final = 4
"""In a string that is a value."""
ESCAPE: Final = 5
"""The same, behind a backslash."""
KEY_STRING: Final = 6
"""In a key."""
KEY_ESCAPE: Final = 7
"""The same, behind a backslash."""
DONE: Final = 8
"""A value has ended."""

_Text = TypeVar("_Text", str, bytes)
SEPARATORS: Final = {REPEATED_COMMA: 0x2C, REPEATED_CLOSE: 0x5D}
"""The byte in whose place a mark stands."""
Marks: TypeAlias = tuple[tuple[int, int], ...]
"""(offset of a separator, the symbol that stands in its place)."""

_STRUCTURE: Final = frozenset(b' \t\n\r"{}[]:,')
_SIGNS: Final = b' \t\n\r"[]{},:.+-0123456789eEtrufalsn'
"""All that JSON has outside strings."""
_PLAIN_END: Final = re.compile(rb'["\\]')
_SCALAR: Final = re.compile(rb'[^ \t\n\r"{}\[\]:,]+')
_NUMBER: Final = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]*))?(?:[eE]([-+]?[0-9]+))?")
_ESCAPED: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SETTLED: Final = re.compile(
    rb"(?:[\x00-\x5b\x5d-\xbf]|[\xc0-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}"
    rb"|[\xf0-\xff][\x80-\xbf]{3}|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}(?=[^\\]|\\[^u]|\\u[0-9a-fA-F]{4}))*",
    re.DOTALL,
)
"""Whole characters and escapes; the first half of a surrogate pair if the second is known."""

NUMBER: Final = "number"
TEXT: Final = "string"
LITERAL: Final = "literal"
ARRAY: Final = "array"
OBJECT: Final = "object"


_NOTHING: Final[SharedSet] = frozenset()


class Value:
    """A JSON value; equal values of one memory are one object.

    Attributes:
        kind: ``NUMBER``, ``TEXT``, ``LITERAL``, ``ARRAY`` or ``OBJECT``.
        content: of a number (negative, digits, exponent) without zeros at either end; the text;
            the literal's bytes; the items; or a set of (key, value).
    """

    __slots__ = ("_parts", "content", "kind")

    def __init__(self, kind: str, content: Any) -> None:
        self.kind = kind
        self.content = content
        self._parts: dict[str, Value] | None = None

    @property
    def parts(self) -> dict[str, Value]:
        """An object's values by key."""
        if self._parts is None:
            self._parts = dict(self.content)
        return self._parts


class Rivals:
    """Values that one being read must not become, sorted for questions about its beginning.

    Args:
        latest: of one memory: values and those of a kind that were found before, by kind.

    Attributes:
        values: all of them.
        texts: the strings among them, sorted.
        digits: the significant digits of the numbers, sorted.
        literals: the literals' bytes.
        objects, arrays: those.
    """

    def __init__(self, values: SharedSet, latest: dict[str, tuple[SharedSet, list[Value]]]) -> None:
        self.values = values
        self._latest = latest

    @cached_property
    def texts(self) -> list[str]:
        return sorted(v.content for v in self.values if v.kind == TEXT)

    @cached_property
    def digits(self) -> list[bytes]:
        return sorted(v.content[1] for v in self.values if v.kind == NUMBER)

    @cached_property
    def objects(self) -> list[Value]:
        return self._of_kind(OBJECT)

    @cached_property
    def arrays(self) -> list[Value]:
        return self._of_kind(ARRAY)

    def _of_kind(self, kind: str) -> list[Value]:
        """Values of a kind; mostly there is one more than when this was asked for before."""
        before, found = self._latest.get(kind, (_NOTHING, []))
        if any(True for _ in difference(before, self.values)):
            before, found = _NOTHING, []
        more = [v for v in difference(self.values, before) if v.kind == kind]
        found = [*found, *more] if more else found
        self._latest[kind] = self.values, found
        return found

    @cached_property
    def literals(self) -> list[bytes]:
        return [v.content for v in self.values if v.kind == LITERAL]

    def has_scalar(self, raw: bytes) -> bool:
        """Whether a number or literal that begins so may become one of them."""
        if any(literal.startswith(raw) for literal in self.literals):
            return True
        mantissa = re.split(rb"[eE]", raw.lstrip(b"-"), maxsplit=1)[0].replace(b".", b"")
        if mantissa and not mantissa.isdigit():
            return False
        # an exponent may yet shift the point anywhere, and zeros may follow or be cut off
        return _has_prefix(self.digits, mantissa.strip(b"0"))


class Frame:
    """An open container.

    Attributes:
        parent: the container around it.
        is_object: an object, or else an array.
        keep: values in it are remembered, as it is an array or within one.
        keys: an object's keys so far.
        seen: an array's items so far.
        items: the same in order, where the array is itself within one (``None`` elsewhere).
        members: an object's finished (key, value) pairs, where it is within an array.
        key: the key whose value is being read, where it is within an array.
        candidates: what :meth:`Memory.candidates` found.
        rivals: what :meth:`Memory.rivals` found.
        names: what :meth:`Memory.names` found.

    Parts that do not matter are empty, so that texts which differ only there share their frames.
    """

    __slots__ = (
        "candidates",
        "is_object",
        "items",
        "keep",
        "key",
        "keys",
        "members",
        "names",
        "parent",
        "rivals",
        "seen",
    )

    def __init__(
        self,
        parent: Frame | None,
        is_object: bool,
        keep: bool,
        keys: SharedSet,
        seen: SharedSet,
        items: Items | None,
        members: SharedSet,
        key: str | None,
    ) -> None:
        self.parent = parent
        self.is_object = is_object
        self.keep = keep
        self.keys = keys
        self.seen = seen
        self.items = items
        self.members = members
        self.key = key
        self.candidates: list[Value] | None = None
        self.rivals: Rivals | None = None
        self.names: list[str] | None = None


class Tracker:
    """A state: where the text is and what it remembers.

    Attributes:
        frame: the innermost open container.
        mode: what is being read (``VALUE``, ``KEY``, ...).
        raw: the bytes of the key or of a remembered scalar so far, as they stand in the text.
        value: the remembered value that has just ended.
        owner: the memory it is a state of.
        threatened: what :meth:`Memory.threatened` found.
    """

    __slots__ = ("frame", "mode", "owner", "raw", "threatened", "value")

    def __init__(
        self, owner: Memory, frame: Frame | None, mode: int, raw: bytes, value: Value | None
    ) -> None:
        self.owner = owner
        self.frame = frame
        self.mode = mode
        self.raw = raw
        self.value = value
        self.threatened: bool | None = None

    @property
    def keeps(self) -> bool:
        """Whether values read here are remembered."""
        return self.frame is not None and self.frame.keep


class Memory:
    """The automaton over texts; it owns the tables that make equal states one object.

    Args:
        distinct_keys: refuse a key that its object has already.
        compare_items: report separators behind repeated items.
        is_json: every text is JSON that was written for a schema: then keys that need not be refused differ
            by the rules.
        single: stop behind the outermost value (or in it, where it is a number or a name).
    """

    def __init__(
        self,
        distinct_keys: bool,
        compare_items: bool,
        *,
        is_json: bool = False,
        single: bool = False,
    ) -> None:
        self.distinct_keys: Final = distinct_keys
        self.is_json: Final = is_json
        self.keys_differ: Final = distinct_keys or is_json
        self.compare_items: Final = compare_items
        self._single = single
        self._sets = SharedSets()
        self._lists = SharedLists()
        self._values: dict[tuple[str, Any], Value] = {}
        self._frames: dict[tuple[Any, ...], Frame] = {}
        self._trackers: dict[tuple[Any, ...], Tracker] = {}
        self._latest: dict[str, tuple[SharedSet, list[Value]]] = {}
        self.start = self.tracker(None, VALUE)

    # -- reading -------------------------------------------------------------------------------

    def advance(self, at: Tracker, data: bytes) -> tuple[Tracker | None, Marks, int]:
        """Reads some bytes.

        Returns:
            The state after them (``None`` if a key is repeated), the marks in place of separators,
            and how many bytes were read: all, those before the quote that ends a repeated key, or
            those to the end of a single value.
        """
        mode = at.mode
        if mode in (STRING, KEY_STRING) and _PLAIN_END.search(data) is None:
            if mode == STRING and not at.keeps:
                return at, (), len(data)
            return self.tracker(at.frame, mode, at.raw + data), (), len(data)
        reader = _Reader(self, at)
        i, n = 0, len(data)
        while i < n:
            if STRING <= reader.mode <= KEY_ESCAPE:
                i = reader.string(data, i)
                if i < 0:
                    return None, tuple(reader.marks), -i - 1
            else:
                i = reader.structure(data, i)
            if self._single and reader.frame is None and reader.mode in (SCALAR, DONE):
                break
        after = self.tracker(reader.frame, reader.mode, reader.raw, reader.value)
        return after, tuple(reader.marks), i

    # -- interning -----------------------------------------------------------------------------

    def tracker(
        self, frame: Frame | None, mode: int, raw: bytes = b"", value: Value | None = None
    ) -> Tracker:
        """The one state with these parts."""
        key = (frame, mode, raw, value)
        known = self._trackers.get(key)
        if known is None:  # setdefault: another thread may have been faster
            known = self._trackers.setdefault(key, Tracker(self, *key))
        return known

    def frame(
        self,
        parent: Frame | None,
        is_object: bool,
        keys: SharedSet = _NOTHING,
        seen: SharedSet = _NOTHING,
        items: Items | None = None,
        members: SharedSet = _NOTHING,
        key: str | None = None,
    ) -> Frame:
        """The one frame with these parts."""
        outer = parent is not None and parent.keep
        if items is None and outer and not is_object:
            items = self._lists.empty
        parts = (parent, is_object, keys, seen, items, members, key)
        known = self._frames.get(parts)
        if known is None:
            keep = outer or (self.compare_items and not is_object)
            fresh = Frame(parent, is_object, keep, keys, seen, items, members, key)
            known = self._frames.setdefault(parts, fresh)
        return known

    def value(self, kind: str, content: Any) -> Value:
        """The one value with this content."""
        known = self._values.get((kind, content))
        if known is None:
            known = self._values.setdefault((kind, content), Value(kind, content))
        return known

    def scalar(self, raw: bytes) -> Value:
        """The value of a number or literal."""
        found = _NUMBER.fullmatch(raw)
        if found is None:
            return self.value(LITERAL, raw)
        sign, whole, fraction, exponent = found.groups(b"")
        return self.value(NUMBER, _normal(bool(sign), whole, fraction, exponent))

    def trim(self, keep: Iterable[Tracker]) -> None:
        """Forgets states that none of the given ones is made of; those stay what they are."""
        self._latest.clear()
        trackers = {self.start, *keep}
        frames: set[Frame] = set()
        values: set[Value] = set()
        for tracker in trackers:
            frame = tracker.frame
            while frame is not None and frame not in frames:
                frames.add(frame)
                frame = frame.parent
            if tracker.value is not None:
                values.add(tracker.value)
        for frame in frames:
            frame.rivals = frame.names = frame.candidates = None
            values.update(frame.seen, frame.items or (), (v for _, v in frame.members))
        values = _with_parts(values)
        contents = [v.content for v in values if v.kind in (ARRAY, OBJECT)]
        sets = [part for f in frames for part in (f.keys, f.seen, f.members)]
        self._sets.trim([*sets, *(c for c in contents if isinstance(c, LargeSet))])
        lists = [f.items for f in frames if f.items is not None]
        self._lists.trim([*lists, *(c for c in contents if isinstance(c, Items))])
        self._trackers = {(t.frame, t.mode, t.raw, t.value): t for t in trackers}
        self._frames = {
            (f.parent, f.is_object, f.keys, f.seen, f.items, f.members, f.key): f for f in frames
        }
        self._values = {(v.kind, v.content): v for v in values}

    def critical_bytes(self, at: Tracker) -> Iterable[int] | None:
        """Bytes after which a threatened state can still be threatened, or repeat something.

        ``None``: any byte may be one.
        """
        mode, frame = at.mode, at.frame
        if mode not in (STRING, KEY_STRING):
            return None if mode & 1 and mode != KEY else _SIGNS
        assert frame is not None, "nothing threatens the outermost value"
        if not self.keys_differ and self._may_change(frame):
            return None
        start = decode_prefix(at.raw)
        if len(start.encode("utf-8", "surrogatepass")) != len(at.raw):
            return None  # amid a character, or written with escapes
        texts = self.names(frame) if mode == KEY_STRING else self.rivals(frame).texts
        ends = (t[len(start)] for t in _with_prefix(texts, start) if len(t) > len(start))
        return {0x22, 0x5C, *(char.encode("utf-8", "surrogatepass")[0] for char in ends)}

    # -- what may still repeat -----------------------------------------------------------------

    def threatened(self, at: Tracker) -> bool:
        """Whether what is being written may yet turn out to repeat a key or an item.

        True is a suspicion, False is certain.
        """
        known = at.threatened
        if known is None:
            known = at.threatened = self._threatened(at)
        return known

    def _threatened(self, at: Tracker) -> bool:
        frame = at.frame
        if frame is None:
            return False
        if not self.keys_differ and self._may_change(frame):
            return True
        mode = at.mode
        if frame.is_object and mode in (KEY, KEY_STRING, KEY_ESCAPE):
            if mode == KEY:
                return bool(frame.keys or self.candidates(frame))
            return _has_prefix(self.names(frame), decode_prefix(at.raw))
        if mode == VALUE and not frame.is_object and self._may_close(frame):
            return True
        rivals = self.rivals(frame)
        if not rivals.values:
            return False
        if mode == DONE:
            return at.value in rivals.values
        if mode == SCALAR:
            return rivals.has_scalar(at.raw)
        if mode in (STRING, ESCAPE):
            return _has_prefix(rivals.texts, decode_prefix(at.raw))
        return True

    def after_key(self, frame: Frame, key: str) -> Frame:
        """An object once a key has ended in it."""
        keys = self._sets.added(frame.keys, key) if self.distinct_keys else frame.keys
        pending = key if frame.keep else None
        return self.frame(frame.parent, True, keys, members=frame.members, key=pending)

    def after_value(self, frame: Frame, value: Value | None) -> Frame:
        """A container once a member's value or an item has ended in it."""
        if frame.is_object:
            members = frame.members
            if value is not None and frame.key is not None:
                if not self.keys_differ:  # the last of equal keys counts
                    members = self._sets.of(m for m in members if m[0] != frame.key)
                members = self._sets.added(members, (frame.key, value))
            return self.frame(frame.parent, True, frame.keys, members=members)
        if value is None:
            return frame
        items = None if frame.items is None else self._lists.added(frame.items, value)
        return self.frame(
            frame.parent, False, seen=self._sets.added(frame.seen, value), items=items
        )

    def closed_value(self, frame: Frame) -> Value | None:
        """The value that a container is if it ends here, where such a value is known."""
        if frame.is_object:
            return self._values.get((OBJECT, frame.members))
        return self._values.get((ARRAY, frame.items))

    def candidates(self, frame: Frame) -> list[Value]:
        """Rivals that a container within an item may still become equal to, if keys differ."""
        known = frame.candidates
        if known is None:
            known = self._around(frame)
            if not frame.is_object:
                known = [v for v in known if _goes_on(frame, v)]
            else:
                if frame.members:
                    known = [v for v in known if frame.members <= v.content]
                if frame.key is not None:
                    known = [v for v in known if frame.key in v.parts]
            frame.candidates = known
        return known

    def missing(self, frame: Frame) -> Iterator[Value]:
        """Of the candidates, the parts in the place of the value that is read next."""
        return _missing(frame, self.candidates(frame))

    def _around(self, frame: Frame) -> list[Value]:
        """What the container itself must not become, of its own kind."""
        if frame.parent is None:
            return []
        rivals = self.rivals(frame.parent)
        return rivals.objects if frame.is_object else rivals.arrays

    def _may_change(self, frame: Frame) -> bool:
        """Whether an open object with rivals may become any of them, as keys may come again."""
        at: Frame | None = frame
        while at is not None and at.keep:
            if at.is_object and self._around(at):
                return True
            at = at.parent
        return False

    def _may_close(self, frame: Frame) -> bool:
        """Whether an array that ends here without a further item may equal a rival."""
        return any(v.content is frame.items for v in self._around(frame))

    def names(self, frame: Frame) -> list[str]:
        """Keys, sorted, that one being read must not become, lest something repeats."""
        known = frame.names
        if known is None:
            names = set(frame.keys)
            names.update(*[rival.parts for rival in self.candidates(frame)])
            known = frame.names = sorted(names)
        return known

    def rivals(self, frame: Frame) -> Rivals:
        """Values that the one being read in a container must not become, lest something repeats.

        For an array these are its items so far; and in every container the value that is missing
        there for the container itself, as far as it goes, to become a rival of its own.
        """
        chain: list[Frame] = []
        at: Frame | None = frame
        while at is not None and at.rivals is None:
            chain.append(at)
            at = at.parent
        for one in reversed(chain):
            missing = list(self.missing(one))
            values = frozenset((*one.seen, *missing)) if missing else one.seen
            one.rivals = Rivals(values, self._latest)
        assert frame.rivals is not None, "just set"
        return frame.rivals


class _Reader:
    """The parts of a tracker while bytes are read."""

    __slots__ = ("frame", "marks", "memory", "mode", "raw", "value")

    def __init__(self, memory: Memory, at: Tracker) -> None:
        self.memory = memory
        self.frame = at.frame
        self.mode = at.mode
        self.raw = at.raw
        self.value = at.value
        self.marks: list[tuple[int, int]] = []

    def string(self, data: bytes, i: int) -> int:
        """Reads on in a string; where to go on, or ``-1 - offset`` of a repeated key's end."""
        frame, mode = self.frame, self.mode
        kept = mode >= KEY_STRING or (frame is not None and frame.keep)
        if mode & 1:  # behind a backslash: whatever it is, it does not end the string
            if kept:
                self.raw += data[i : i + 1]
            self.mode = mode - 1
            return i + 1
        found = _PLAIN_END.search(data, i)
        if found is None:
            if kept:
                self.raw += data[i:]
            return len(data)
        end = found.start()
        if data[end] == 0x5C:
            if kept:
                self.raw += data[i : end + 1]
            self.mode = mode + 1
            return end + 1
        text = decode(self.raw + data[i:end]) if kept else ""
        self.raw = b""
        if mode == STRING:
            self.mode = DONE
            self.value = self.memory.value(TEXT, text) if kept else None
        elif not self._key(text):
            return -1 - end
        return end + 1

    def _key(self, key: str) -> bool:
        """A key has ended; False if it is repeated."""
        frame = self.frame
        assert frame is not None, "keys are read in objects"
        if self.memory.distinct_keys and key in frame.keys:
            return False
        self.mode = COLON
        self.frame = self.memory.after_key(frame, key)
        return True

    def structure(self, data: bytes, i: int) -> int:
        """Reads one sign, or the scalar that begins here; where to go on."""
        byte = data[i]
        if byte not in _STRUCTURE:
            found = _SCALAR.match(data, i)
            assert found is not None, "neither a blank nor a sign"
            if self.frame is not None and self.frame.keep:
                self.raw += found.group()
            self.mode = SCALAR
            return found.end()
        if self.mode == SCALAR:
            self._end_scalar()
        if byte == 0x22:
            self.mode = KEY_STRING if self.mode == KEY else STRING
            self.value = None
        elif byte == 0x2C:
            self._comma(i)
        elif byte == 0x3A:
            self.mode = VALUE
        elif byte == 0x7B:
            self._open(True)
        elif byte == 0x5B:
            self._open(False)
        elif byte == 0x7D:
            self._close_object()
        elif byte == 0x5D:
            self._close_array(i)
        return i + 1

    def _open(self, is_object: bool) -> None:
        self.frame = self.memory.frame(self.frame, is_object)
        self.mode = KEY if is_object else VALUE
        self.value = None

    def _end_scalar(self) -> None:
        self.mode = DONE
        if self.frame is not None and self.frame.keep:
            self.value = self.memory.scalar(self.raw)
            self.raw = b""

    def _comma(self, at: int) -> None:
        frame = self.frame
        if frame is not None and frame.is_object:
            self._member(frame)
            self.mode = KEY
        else:
            if frame is not None and self._item(frame):
                self.marks.append((at, REPEATED_COMMA))
            self.mode = VALUE

    def _item(self, frame: Frame) -> bool:
        """Adds the value that has ended to an array; whether it is there already."""
        value, self.value = self.value, None
        if value is None or self.mode != DONE:
            return False
        self.frame = self.memory.after_value(frame, value)
        return value in frame.seen

    def _member(self, frame: Frame) -> None:
        """Adds the value that has ended to an object."""
        value, self.value = self.value, None
        self.frame = self.memory.after_value(frame, value)

    def _close_object(self) -> None:
        frame = self.frame
        if frame is None or not frame.is_object:
            return
        self._member(frame)
        assert self.frame is not None, "the object is still open"
        self._leave(frame.parent, OBJECT, self.frame.members)

    def _close_array(self, at: int) -> None:
        frame = self.frame
        if frame is None or frame.is_object:
            return
        if self._item(frame):
            self.marks.append((at, REPEATED_CLOSE))
        assert self.frame is not None, "the array is still open"
        self._leave(frame.parent, ARRAY, self.frame.items)

    def _leave(self, parent: Frame | None, kind: str, content: Any) -> None:
        kept = parent is not None and parent.keep
        self.frame, self.mode = parent, DONE
        self.value = self.memory.value(kind, content) if kept else None


def decode(raw: bytes) -> str:
    """The text of a JSON string's inside; half of a surrogate pair stays what it is."""
    text = raw.decode("utf-8", "surrogateescape")
    if "\\" not in text:
        return text
    text = _ESCAPED.sub(_unescape, text)
    if _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def _unescape(found: re.Match[str]) -> str:
    what = found.group(1)
    return chr(int(what[1:], 16)) if len(what) == 5 else _SHORT.get(what, what)


def decode_prefix(raw: bytes) -> str:
    """The text of the beginning of a string, without a last character that is not settled yet."""
    found = _SETTLED.match(raw)
    assert found is not None, "the empty text matches"
    return decode(found.group())


def _normal(negative: bool, whole: bytes, fraction: bytes, exponent: bytes) -> Any:
    """(negative, digits, exponent) of a number: equal for equal numbers."""
    digits = (whole + fraction).lstrip(b"0")
    significant = digits.rstrip(b"0")
    if not significant:
        return (False, b"", 0)
    power = _integer(exponent) - len(fraction) + len(digits) - len(significant)
    return (negative, significant, power)


def _integer(text: bytes) -> int:
    """``int(text)`` of any length (Python's own stops at some thousand digits)."""
    sign = -1 if text.startswith(b"-") else 1
    digits = text.lstrip(b"+-")
    out = 0
    for i in range(0, len(digits), 1000):
        part = digits[i : i + 1000]
        out = out * 10 ** len(part) + int(part)
    return sign * out


def _has_prefix(ordered: list[_Text], start: _Text) -> bool:
    """Whether a text of a sorted list begins so."""
    at = bisect_left(ordered, start)
    return at < len(ordered) and ordered[at].startswith(start)


def _with_prefix(ordered: list[str], start: str) -> Iterator[str]:
    for i in range(bisect_left(ordered, start), len(ordered)):
        if not ordered[i].startswith(start):
            return
        yield ordered[i]


def _goes_on(frame: Frame, rival: Value) -> bool:
    """Whether what has been read of an array is the beginning of a value."""
    assert frame.items is not None, "an array that may become an item is within one"
    return rival.content.beginning(frame.items.length) is frame.items


def _missing(frame: Frame, candidates: list[Value]) -> Iterator[Value]:
    """Of values that a container may become, the parts in the place of the value that is read next."""
    if frame.is_object:
        if frame.key is not None:
            yield from [value.parts[frame.key] for value in candidates]
        return
    if not candidates:
        return
    assert frame.items is not None, "an array that may become an item is within one"
    length = frame.items.length + 1
    for value in candidates:
        longer = value.content.beginning(length)
        if longer is not None:
            yield longer.value


def _with_parts(values: set[Value]) -> set[Value]:
    """Values and all that they are made of."""
    found: set[Value] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        if value in found:
            continue
        found.add(value)
        if value.kind == ARRAY:
            stack.extend(value.content)
        elif value.kind == OBJECT:
            stack.extend(part for _, part in value.content)
    return found


def without_marks(ir: GrammarIR) -> GrammarIR:
    """The rules with every mark replaced by the byte it stands for (but not below ``Not``)."""
    done: dict[int, Expr] = {}
    for rule in ir.rules:
        stack: list[Expr] = [rule.body]
        while stack:
            node = stack[-1]
            waiting = [part for part in _parts(node) if id(part) not in done]
            if waiting:
                stack.extend(waiting)
            else:
                done[id(node)] = _without_mark(node, [done[id(part)] for part in _parts(node)])
                stack.pop()
    rules = tuple(replace(rule, body=done[id(rule.body)]) for rule in ir.rules)
    return GrammarIR(rules, ir.start, ir.notes)


def _parts(node: Expr) -> tuple[Expr, ...]:
    return () if isinstance(node, Not) else children(node)


def _without_mark(node: Expr, parts: list[Expr]) -> Expr:
    if isinstance(node, Mark):
        return Literal(bytes([SEPARATORS[node.symbol]]))
    return node if isinstance(node, Not) else with_children(node, parts)
