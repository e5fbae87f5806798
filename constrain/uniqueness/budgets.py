"""Masks under a token budget where keys must not repeat: do shortest texts still hold, judged in groups.

The rules know of each token how many more its shortest text takes (:mod:`constrain.completion.tokens`).
Such a text holds unless it repeats a key.  What it writes is the same for all tokens that lead to one state
of the rules, and so is, but for few tokens, what it meets: the keys of the containers that are open.  So
one of these tokens is tried for all.  On their own are judged

* tokens that write a key up to where it equals a used one: the text would end it there;
* tokens that write a key which the text then writes again;
* tokens that begin a further key, and some of its characters, behind a comma;
* tokens with escapes in a key.

Nearly always no text has a key that is in use, and what the rules say holds.  Only JSON of schemas is
judged here, outside of items that must not repeat; of others the callers judge token by token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
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
_KEPT: Final = 4_096
"""Judgements that are kept."""
_TRIED: Final = 64
"""Tokens that are judged on their own; of more, none of the others is allowed."""
_STRING: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"([ \t\n\r]*:)?', re.DOTALL)
_REST: Final = re.compile(rb'((?:[^"\\]|\\.)*)"([ \t\n\r]*:)?', re.DOTALL)
_OPENING: Final = re.compile(rb'[ \t\n\r]*"([^"\\]+)(".*)?', re.DOTALL)
_NAMED: Final = re.compile(rb'[,{][ \t\n\r]*"[^"]', re.DOTALL)
_LISTED: Final = re.compile(rb"\[.*,", re.DOTALL)

Needs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Keys:
    """What a shortest text does with keys.

    Attributes:
        whole: the keys that it writes from their beginning on; that which it is in, as if it began there.
        rest: what is left of the key that it is in; empty if it is in none, or that ends at once.
        is_simple: whether nothing in it may repeat something else in it.
    """

    whole: frozenset[str]
    rest: str
    is_simple: bool


@dataclass(frozen=True, eq=False)
class _Facts:
    """The same for all texts behind a state's tokens.

    Attributes:
        rests: all that are not empty.
    """

    whole: frozenset[str]
    rests: tuple[str, ...]
    is_simple: bool


@dataclass(frozen=True, eq=False)
class _Judged:
    """By part of a profile, what is needed after its entries' tokens, and the most of it."""

    needs: tuple[Needs, ...]
    worst: int


@dataclass(frozen=True, eq=False)
class KeyTokens:
    """Tokens of a vocabulary that write keys.

    Attributes:
        opening: by characters of a key, tokens that begin it and stop there.
        closing: by key, tokens that begin and end it.
        named_outside, named_inside: tokens that begin a key, or a further item, and go on; from outside and
            from inside a string.
        escapes: tokens with a backslash.
    """

    opening: dict[bytes, list[int]]
    closing: dict[bytes, list[int]]
    named_outside: Int32
    named_inside: Int32
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
        self._keys: dict[int, _Keys] = {}
        self._facts: dict[int, tuple[Profile, _Facts]] = {}
        self._judged: dict[tuple[int, Frame | None, int], tuple[Profile, _Judged]] = {}

    def clear(self) -> None:
        """Forgets all, as the integers of states are about to change."""
        for table in (self._keys, self._facts, self._judged):
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
            ``None``: the caller has to judge.
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
        for token in self._alone(pair, facts, out, allowed):
            if not self._holds_alone(pair, token, allowed):
                out[token >> 5] &= ~(np.int32(1) << np.int32(token & 31))
        out |= row & self._rules.eos_row
        return out if out.any() else None

    def _fitting(self, profile: Profile, judged: _Judged, allowed: int) -> Int32:
        out = np.zeros_like(self._rules.eos_row)
        for part, needs in zip(profile.parts, judged.needs, strict=True):
            part.fill(self._rules.pool, needs <= allowed, out)
        return out

    # -- groups of tokens ----------------------------------------------------------------------

    def _judge(self, pair: Pair, profile: Profile, facts: _Facts) -> _Judged:
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
            for i, state in enumerate(states.tolist()):
                if needs[i] < NEVER and not self._is_harmless(self._keys_of(state), pair[1]):
                    token = part.example(trie, int(first[i]))
                    needs[i] = self._needed(pair, token, int(needs[i]))
            yield needs[inverse]

    def _needed(self, pair: Pair, token: int, written: int) -> int:
        """What is needed after a token: what the rules say, if it holds."""
        after = self._pairs.by_token(pair, token)
        if after is None or not self._pairs.is_live(after):
            return written  # not in the mask; others may be
        if self._holds(after):
            return written
        return max(written, self._pairs.fewest(after))

    def _is_harmless(self, keys: _Keys | _Facts, tracker: Tracker) -> bool:
        """Whether no text can repeat a key, whatever token leads to it."""
        if not keys.is_simple:
            return False
        rests = keys.rests if isinstance(keys, _Facts) else (keys.rest,) if keys.rest else ()
        frame = tracker.frame
        in_key = frame is not None and tracker.mode in (KEY, KEY_STRING)
        if rests and in_key and any(used.endswith(rests) for used in frame.keys):
            return False
        while frame is not None:
            used = frame.keys
            if used and any(key in used for key in keys.whole):
                return False
            frame = frame.parent
        return True

    def _facts_of(self, state: int, profile: Profile) -> _Facts:
        known = self._facts.get(state)
        if known is None or known[0] is not profile:
            found = {
                int(s): self._keys_of(int(s)) for part in profile.parts for s in part.distinct[0]
            }
            whole = frozenset[str]().union(*(keys.whole for keys in found.values()))
            rests = tuple({keys.rest for keys in found.values()} - {""})
            facts = _Facts(whole, rests, all(keys.is_simple for keys in found.values()))
            known = self._facts[state] = profile, facts
        return known[1]

    def _keys_of(self, state: int) -> _Keys:
        known = self._keys.get(state)
        if known is None:
            known = self._keys[state] = self._read_keys(state)
        return known

    def _read_keys(self, state: int) -> _Keys:
        texts = self._rules.distances.texts
        form = int(texts.forms_of(np.array([state], np.int32))[0])
        text = texts.text(state)
        if text is None:
            return _NO_KEYS
        begin, rest, found = 0, "", []
        if form & IN_STRING:
            first = _REST.match(text)
            if first is None:
                return _Keys(frozenset(), "", False)
            begin = first.end()
            if first.group(2):
                rest = decode(first.group(1))
                found.append(rest)
        found += [decode(m.group(1)) for m in _STRING.finditer(text, begin) if m.group(2)]
        whole = frozenset(found)
        items = form & HAS_COMMA and self._memory.compare_items and b"[" in text
        return _Keys(whole, rest, len(whole) == len(found) and not items)

    # -- tokens on their own -------------------------------------------------------------------

    def _alone(self, pair: Pair, facts: _Facts, out: Int32, allowed: int) -> list[int]:
        """Tokens that fit by the groups, and that are to be judged on their own."""
        tracker = pair[1]
        tokens = key_tokens_of(self._rules.vocabulary)
        named = tokens.named_inside if in_string(tracker) else tokens.named_outside
        found = bits(out & named)
        frame = tracker.frame
        if frame is None or tracker.mode not in (KEY, KEY_STRING):
            return self._first(found, out)
        if frame.keys:
            found += bits(out & tokens.escapes)
        if tracker.mode == KEY:
            for key in frame.keys:
                found += tokens.opening.get(_encoded(key), ())
            for key in facts.whole:
                found += tokens.closing.get(_encoded(key), ())
        else:
            for key in (*frame.keys, *facts.whole):
                found += self._writing(_encoded(key), tracker.raw)
        return self._first([t for t in found if out.item(t >> 5) >> (t & 31) & 1], out)

    def _first(self, tokens: list[int], out: Int32) -> list[int]:
        """So many of them; the others are taken from the mask."""
        for token in tokens[_TRIED:]:
            out[token >> 5] &= ~(np.int32(1) << np.int32(token & 31))
        return tokens[:_TRIED]

    def _writing(self, key: bytes, raw: bytes) -> list[int]:
        """Tokens that write the rest of a key, and those that go on behind its quote."""
        if not key.startswith(raw):
            return []
        node = 0
        for byte in key[len(raw) :]:
            node = self._risky.children(node).get(byte, -1)
            if node < 0:
                return []
        found = self._risky.tokens_at(node) if node else []
        quote = self._risky.children(node).get(0x22)
        if quote is not None:
            trie = self._rules.vocabulary.trie
            found += trie.tokens[
                trie.token_start[quote] : trie.token_start[trie.skip[quote]]
            ].tolist()
        return found

    def _holds_alone(self, pair: Pair, token: int, allowed: int) -> bool:
        after = self._pairs.by_token(pair, token)
        if after is None:
            return False
        needed = self._rules.distances.texts.tokens(after[0])
        return needed + _SPARE <= allowed or (needed <= allowed and self._holds(after))

    def _holds(self, pair: Pair) -> bool:
        """Whether the rules' shortest text repeats nothing."""
        text = self._rules.distances.texts.text(pair[0])
        if text is None:
            return False
        after, marks, _ = self._memory.advance(pair[1], text)
        return after is not None and not marks


_NO_KEYS: Final = _Keys(frozenset(), "", True)


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
    outside: list[int] = []
    inside: list[int] = []
    for token in _tokens_with(vocabulary, b"["):
        if _LISTED.search(vocabulary.texts[token] or b""):
            outside.append(token)
            inside.append(token)
    for token in _tokens_with(vocabulary, b'"'):
        text = vocabulary.texts[token] or b""
        found = _OPENING.fullmatch(text)
        if found is not None:
            table = opening if found.group(2) is None else closing
            table.setdefault(found.group(1), []).append(token)
        if _NAMED.search(text):
            outside.append(token)
            if b'"' in text[: text.rindex(b'"')]:
                inside.append(token)
    outside_row, inside_row, escapes = (
        pack_bits(np.array(tokens, np.int64), vocabulary.size)
        for tokens in (outside, inside, _tokens_with(vocabulary, b"\\"))
    )
    return KeyTokens(opening, closing, outside_row, inside_row, escapes)


def _tokens_with(vocabulary: Vocabulary, byte: bytes) -> list[int]:
    """The tokens that hold a byte."""
    offset, text = vocabulary.flat
    places = np.flatnonzero(text == byte[0])
    found: list[int] = np.unique(np.searchsorted(offset, places, side="right") - 1).tolist()
    return found
