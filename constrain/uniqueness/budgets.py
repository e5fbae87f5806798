"""Masks under a token budget where keys must not repeat: do shortest texts still hold, judged in groups.

The rules know of each token how many more its shortest text takes (:mod:`constrain.completion.tokens`).
Such a text holds unless it repeats a key.  What it writes is the same for all tokens that lead to one state
of the rules, and so is, but for few tokens, what it meets: the keys of the containers that are open.  So
one of these tokens is tried for all.  On their own are judged

* tokens that write a key up to where it equals a used one: the text would end it there;
* tokens that write a key which the text then writes again;
* tokens that begin a further key, and some of its characters, behind a comma;
* tokens with escapes in a key: these are allowed where there are some tokens to spare.

Nearly always no text has a key that is in use, and what the rules say holds.  Only JSON of schemas is
judged here, outside of items that must not repeat; of others the callers judge token by token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from constrain.arrays import Int32
from constrain.completion.bytes import HAS_COMMA, IN_STRING
from constrain.completion.tokens import NEVER, Profile
from constrain.masks.wide import pack_bits
from constrain.rules import RuleAutomaton
from constrain.uniqueness.search import Pair, Pairs, bits, in_string
from constrain.uniqueness.tokens import Risky
from constrain.vocabulary import Vocabulary
from grammars.uniqueness.memory import (
    ESCAPE,
    KEY,
    KEY_ESCAPE,
    KEY_STRING,
    Frame,
    Memory,
    Tracker,
    decode,
)

_AMPLE: Final = 64
"""Tokens to spare with which the rules' distance is good enough."""
_SPARE: Final = 12
"""The same where texts write no further key."""
_KEPT: Final = 2_048
"""Judgements, and texts that were read, that are kept."""
_LEVELS: Final = 4
"""Masks that are kept of one judgement, the latest."""
_TRIED: Final = 64
"""Tokens that are judged on their own; of more, none of the others is allowed."""
_SIGN: Final = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"([ \t\n\r]*:)?|[][{},]', re.DOTALL)
_OPENING: Final = re.compile(rb'[ \t\n\r]*"([^"\\]+)(".*)?', re.DOTALL)
_NAMED: Final = re.compile(rb'[,{][ \t\n\r]*"([^"\\]+)"?', re.DOTALL)
_LISTED: Final = re.compile(rb"\[.*,", re.DOTALL)

Needs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Keys:
    """What one or several shortest texts do with keys, each with the number of containers around it.

    Attributes:
        again: the keys that they write from their beginning on.
        rests: what is left of the keys that they are in.
        is_simple: whether nothing in one of them may repeat something else in it.
    """

    again: frozenset[tuple[int, str]]
    rests: frozenset[tuple[int, str]]
    is_simple: bool

    @cached_property
    def by_depth(self) -> dict[int, list[str]]:
        """By number of containers around them all keys, as if those that texts are in began there."""
        out: dict[int, list[str]] = {}
        for depth, key in self.again | self.rests:
            out.setdefault(depth, []).append(key)
        return out

    @cached_property
    def ends(self) -> tuple[str, ...]:
        """What ends a key that has begun, beyond its quote."""
        return tuple({rest for _, rest in self.rests} - {""})


@dataclass(frozen=True)
class _Part:
    """A text up to its end, or a beginning of one up to a comma outside strings.

    Attributes:
        keys: of it and of what follows.
        depth: containers around it where it begins.
        has_lists: whether arrays begin in it.
    """

    keys: frozenset[tuple[int, str]]
    is_simple: bool
    depth: int
    has_lists: bool


@dataclass(frozen=True, eq=False)
class _Judged:
    """By part of a profile, what is needed after its entries' tokens, and the most of it."""

    needs: tuple[Needs, ...]
    worst: int
    rows: dict[int, Int32] = field(default_factory=dict)

    def levels(self, allowed: int) -> int:
        """How many of the different needs are within what is allowed."""
        return int(np.searchsorted(self._levels, allowed, side="right"))

    @cached_property
    def _levels(self) -> Needs:
        return np.unique(np.concatenate(self.needs))


@dataclass(frozen=True, eq=False)
class KeyTokens:
    """Tokens of a vocabulary that write keys.

    Attributes:
        opening: by characters of a key, tokens that begin it and stop there.
        closing: by key, tokens that begin and end it.
        name_of: the characters that a token has of the key that it begins; missing where it begins several.
        named: tokens that begin a key and go on; from outside and from inside a string.
        listed: the same for tokens that begin a list and several items.
        escapes: tokens with a backslash.
    """

    opening: dict[bytes, list[int]]
    closing: dict[bytes, list[int]]
    name_of: dict[int, str]
    named: tuple[Int32, Int32]
    listed: tuple[Int32, Int32]
    escapes: Int32


class BudgetMasks:
    """Masks of pairs under a budget; the automaton's lock is held by the caller.

    Args:
        rules: the automaton of the rules.
        pairs: how pairs move.
        memory: the tracker.
        risky: the vocabulary's trie.
    """

    def __init__(self, rules: RuleAutomaton, pairs: Pairs, memory: Memory, risky: Risky) -> None:
        self._rules = rules
        self._pairs = pairs
        self._memory = memory
        self._risky = risky
        self._keys: dict[tuple[bytes, int], _Keys] = {}
        self._parts: dict[bytes, _Part] = {}
        self._facts: dict[int, tuple[Profile, _Keys]] = {}
        self._judged: dict[tuple[int, Frame | None, int], tuple[Profile, _Judged]] = {}

    def clear(self) -> None:
        """Forgets all, as the integers of states are about to change."""
        for table in (self._facts, self._judged):
            table.clear()

    def enough(self, state: int) -> int:
        """Tokens left from which on a budget takes nothing from a mask of the rules' state."""
        most, forms = self._rules.distances.dearest(state)
        return most + 2 + (_AMPLE if forms & HAS_COMMA else _SPARE)

    def within(self, pair: Pair, row: Int32, left: int) -> Int32 | None:
        """The tokens of a pair after which text and EOS fit into ``left - 1`` more, EOS if it fits.

        Args:
            row: the mask of the pair; it is returned itself if all fit.

        Returns:
            ``None``: the caller has to judge.  What is taken from the mask may fit all the same: a shortest
            text need not be that of the fewest tokens.
        """
        state, tracker = pair
        if left >= self.enough(state):
            return row
        if tracker.keeps or tracker.mode in (ESCAPE, KEY_ESCAPE) or b"\\" in tracker.raw:
            return None
        allowed = left - 2
        profile = self._rules.distances.profile(state)
        facts = self._facts_of(state, profile)
        judged = self._judge(pair, profile, facts)
        if judged.worst + _SPARE <= allowed:
            return row
        out = row & self._fitting(profile, judged, allowed)
        if tracker.frame is not None and tracker.frame.keys and tracker.mode in (KEY, KEY_STRING):
            escapes = key_tokens_of(self._rules.vocabulary).escapes
            out &= ~escapes | self._fitting(profile, judged, allowed - _SPARE)
        for token in self._alone(pair, facts, out):
            if not self._holds_alone(pair, token, allowed):
                out[token >> 5] &= ~(np.int32(1) << np.int32(token & 31))
        out |= row & self._rules.eos_row
        return out if out.any() else None

    def _fitting(self, profile: Profile, judged: _Judged, allowed: int) -> Int32:
        level = judged.levels(allowed)
        known = judged.rows.get(level)
        if known is None:
            known = np.zeros_like(self._rules.eos_row)
            for part, needs in zip(profile.parts, judged.needs, strict=True):
                part.fill(self._rules.pool, needs <= allowed, known)
            if len(judged.rows) >= _LEVELS:
                judged.rows.pop(next(iter(judged.rows)))
            judged.rows[level] = known
        return known

    # -- groups of tokens ----------------------------------------------------------------------

    def _judge(self, pair: Pair, profile: Profile, facts: _Keys) -> _Judged:
        state, tracker = pair
        key = state, tracker.frame, tracker.mode
        known = self._judged.get(key)
        if known is not None and known[0] is profile:
            return known[1]
        if self._is_harmless(facts, tracker):
            needs = tuple(part.written for part in profile.parts)
        else:
            needs = tuple(self._needs(pair, profile))
        worst = max((int(n[n < NEVER].max(initial=0)) for n in needs), default=0)
        if len(self._judged) >= _KEPT:
            self._judged.clear()
        judged = _Judged(needs, worst)
        self._judged[key] = profile, judged
        return judged

    def _needs(self, pair: Pair, profile: Profile) -> Iterator[Needs]:
        trie = self._rules.vocabulary.trie
        for part in profile.parts:
            states, first, inverse = part.distinct
            needs = part.written[first]
            for i, keys in enumerate(self._keys_of(states)):
                if needs[i] < NEVER and not self._is_harmless(keys, pair[1]):
                    token = part.example(trie, int(first[i]))
                    needs[i] = self._needed(pair, token, int(needs[i]))
            yield needs[inverse]

    def _needed(self, pair: Pair, token: int, written: int) -> int:
        """What is needed after a token: what the rules say, if it holds."""
        after = self._pairs.by_token(pair, token) if token >= 0 else None
        if after is None or not self._pairs.is_live(after):
            return written  # not in the mask; others may be
        if self._holds(after):
            return written
        return max(written, self._pairs.fewest(after))

    def _is_harmless(self, keys: _Keys, tracker: Tracker) -> bool:
        """Whether no text can repeat a key, whatever token leads to it."""
        if not keys.is_simple:
            return False
        frame = tracker.frame
        if frame is None:
            return True
        in_key = keys.ends and tracker.mode in (KEY, KEY_STRING)
        if in_key and any(used.endswith(keys.ends) for used in frame.keys):
            return False
        depth = _depth(frame)
        while frame is not None:
            used = frame.keys
            if used and any(key in used for key in keys.by_depth.get(depth, ())):
                return False
            frame = frame.parent
            depth -= 1
        return True

    def _facts_of(self, state: int, profile: Profile) -> _Keys:
        """What all texts behind a state's tokens do."""
        known = self._facts.get(state)
        if known is None or known[0] is not profile:
            states = np.concatenate([part.states for part in profile.parts])
            all_keys = set(self._keys_of(np.unique(states)))
            facts = _Keys(
                frozenset[tuple[int, str]]().union(*(keys.again for keys in all_keys)),
                frozenset[tuple[int, str]]().union(*(keys.rests for keys in all_keys)),
                all(keys.is_simple for keys in all_keys),
            )
            known = self._facts[state] = profile, facts
        return known[1]

    def _keys_of(self, states: Int32) -> list[_Keys]:
        """What the texts from some states do."""
        texts = self._rules.distances.texts
        found = texts.texts_of(states)
        return [
            self._read(t, f) for t, f in zip(found, texts.forms_of(states).tolist(), strict=True)
        ]

    def _read(self, text: bytes, form: int) -> _Keys:
        known = self._keys.get((text, form))
        if known is None:
            if len(self._keys) >= _KEPT:
                self._keys.clear()
            inside = form & IN_STRING and len(text)
            part = self._parts_of(b'"' + text if inside else text)
            rests = frozenset[tuple[int, str]]()
            again = part.keys
            first = _SIGN.match(b'"' + text) if inside else None
            if first is not None and first.group(2):
                rests = frozenset(((part.depth, decode(first.group(1))),))
                again = again - rests
            known = self._keys[text, form] = _Keys(again, rests, part.is_simple)
        return known

    def _parts_of(self, text: bytes) -> _Part:
        """What a text does; from each comma on that is kept, since many texts end alike."""
        begins: list[tuple[bytes, int, list[tuple[int, str]], bool]] = []
        known = self._parts.get(text)
        while known is None:
            comma, depth, keys, has_lists = _to_comma(text)
            begins.append((text, depth, keys, has_lists))
            if comma < 0:
                known = _Part(frozenset(), True, 0, False)
                break
            text = text[comma + 1 :]
            known = self._parts.get(text)
        if len(self._parts) >= _KEPT:
            self._parts.clear()
        for text, change, found, has_lists in reversed(begins):
            depth = known.depth - change
            own = frozenset((depth + at, key) for at, key in found)
            lists = has_lists or known.has_lists
            is_simple = known.is_simple and not (own & known.keys) and len(own) == len(found)
            if b"," in text and lists and self._memory.compare_items:
                is_simple = False
            known = self._parts[text] = _Part(own | known.keys, is_simple, depth, lists)
        return known

    # -- tokens on their own -------------------------------------------------------------------

    def _alone(self, pair: Pair, facts: _Keys, out: Int32) -> list[int]:
        """Tokens that fit by the groups, and that are to be judged on their own."""
        tracker = pair[1]
        tokens = key_tokens_of(self._rules.vocabulary)
        frame = tracker.frame
        inside = in_string(tracker)
        named = bits(out & tokens.named[inside])
        found = [t for t in named if self._may_repeat(tokens.name_of.get(t), facts, frame)]
        if self._memory.compare_items:
            found += bits(out & tokens.listed[inside])
        if frame is None or tracker.mode not in (KEY, KEY_STRING):
            return self._first(found, out)
        again = [key for depth, key in facts.again if depth == _depth(frame)]
        if tracker.mode == KEY:
            for key in frame.keys:
                found += tokens.opening.get(_encoded(key), ())
            for key in again:
                found += tokens.closing.get(_encoded(key), ())
        else:
            for key in frame.keys:
                found += self._writing(_encoded(key), tracker.raw)
            for key in again:
                found += self._closing(_encoded(key), tracker.raw)
        return self._first([t for t in found if out.item(t >> 5) >> (t & 31) & 1], out)

    def _may_repeat(self, name: str | None, facts: _Keys, frame: Frame | None) -> bool:
        """Whether a key that begins within a token (``None``: one of several) may be written twice."""
        if name is None:
            return True
        if any(name == key for _, key in facts.again):
            return True
        ways = [name + rest for rest in ("", *facts.ends)]
        while frame is not None:
            if any(key in frame.keys for key in ways):
                return True
            frame = frame.parent
        return False

    def _first(self, tokens: list[int], out: Int32) -> list[int]:
        """So many of them; the others are taken from the mask."""
        for token in tokens[_TRIED:]:
            out[token >> 5] &= ~(np.int32(1) << np.int32(token & 31))
        return tokens[:_TRIED]

    def _writing(self, key: bytes, raw: bytes) -> list[int]:
        """Tokens that write the rest of a key."""
        node = self._node_of(key, raw)
        return self._risky.tokens_at(node) if node > 0 else []

    def _closing(self, key: bytes, raw: bytes) -> list[int]:
        """Tokens that write the rest of a key and its quote."""
        node = self._node_of(key, raw)
        quote = self._risky.children(node).get(0x22) if node >= 0 else None
        if quote is None:
            return []
        trie = self._rules.vocabulary.trie
        found: list[int] = trie.tokens[
            trie.token_start[quote] : trie.token_start[trie.skip[quote]]
        ].tolist()
        return found

    def _node_of(self, key: bytes, raw: bytes) -> int:
        """The trie node of the rest of a key; -1 if there is none."""
        if not key.startswith(raw):
            return -1
        node = 0
        for byte in key[len(raw) :]:
            node = self._risky.children(node).get(byte, -1)
            if node < 0:
                break
        return node

    def _holds_alone(self, pair: Pair, token: int, allowed: int) -> bool:
        after = self._pairs.by_token(pair, token)
        if after is None:
            return False
        needed = self._rules.distances.texts.tokens(after[0])
        return needed + _SPARE <= allowed or (needed <= allowed and self._holds(after))

    def _holds(self, pair: Pair) -> bool:
        """Whether the rules' shortest text repeats nothing."""
        (text,) = self._rules.distances.texts.texts_of(np.array([pair[0]], np.int32))
        after, marks, _ = self._memory.advance(pair[1], text)
        return after is not None and not marks


def _depth(frame: Frame | None) -> int:
    """Containers that are open."""
    depth = 0
    while frame is not None:
        depth += 1
        frame = frame.parent
    return depth


def _to_comma(text: bytes) -> tuple[int, int, list[tuple[int, str]], bool]:
    """A beginning of a text up to a comma outside strings.

    Returns:
        The comma's place, -1 for none; how many containers open and are open still; the keys with how many
        containers are open more than at the beginning; whether arrays begin.
    """
    depth = 0
    keys: list[tuple[int, str]] = []
    has_lists = False
    for sign in _SIGN.finditer(text):
        byte = text[sign.start()]
        if byte == 0x22:
            if sign.group(2):
                keys.append((depth, decode(sign.group(1))))
        elif byte == 0x2C:
            return sign.start(), depth, keys, has_lists
        elif byte in b"[{":
            depth += 1
            has_lists |= byte == 0x5B
        else:
            depth -= 1
    return -1, depth, keys, has_lists


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


_stored: WeakKeyDictionary[Vocabulary, KeyTokens] = WeakKeyDictionary()
_stored_lock = Lock()


def key_tokens_of(vocabulary: Vocabulary) -> KeyTokens:
    """The tokens of a vocabulary that write keys, found once."""
    with _stored_lock:
        known = _stored.get(vocabulary)
        if known is None:
            known = _stored[vocabulary] = _find_key_tokens(vocabulary)
        return known


def _find_key_tokens(vocabulary: Vocabulary) -> KeyTokens:
    opening: dict[bytes, list[int]] = {}
    closing: dict[bytes, list[int]] = {}
    name_of: dict[int, str] = {}
    outside: list[int] = []
    inside: list[int] = []
    listed: tuple[list[int], list[int]] = [], []
    for token in _tokens_with(vocabulary, b"["):
        text = vocabulary.texts[token]
        if _LISTED.search(text):
            listed[0].append(token)
            if _LISTED.search(text, text.find(b'"')) and b'"' in text:
                listed[1].append(token)
    for token in _tokens_with(vocabulary, b'"'):
        text = vocabulary.texts[token]
        found = _OPENING.fullmatch(text)
        if found is not None:
            table = opening if found.group(2) is None else closing
            table.setdefault(found.group(1), []).append(token)
        names = _NAMED.findall(text)
        if names:
            if len(names) == 1 and b"\\" not in text:
                name_of[token] = names[0].decode("utf-8", "surrogateescape")
            outside.append(token)
            if b'"' in text[: text.rindex(b'"')]:
                inside.append(token)
    rows = [
        pack_bits(np.array(tokens, np.int64), vocabulary.size)
        for tokens in (outside, inside, *listed, _tokens_with(vocabulary, b"\\"))
    ]
    return KeyTokens(opening, closing, name_of, (rows[0], rows[1]), (rows[2], rows[3]), rows[4])


def _tokens_with(vocabulary: Vocabulary, byte: bytes) -> list[int]:
    """The tokens that hold a byte."""
    offset, text = vocabulary.flat
    places = np.flatnonzero(text == byte[0])
    found: list[int] = np.unique(np.searchsorted(offset, places, side="right") - 1).tolist()
    return found
