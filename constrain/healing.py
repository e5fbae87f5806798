"""Token healing: the prompt's last tokens become the first thing that the grammar asks for.

A prompt that ends within a word ends in a token that the model would not have written there
(``"http:"`` before ``//``, where ``://`` is one token), and what follows is drawn from odd places of the
distribution.  Healing takes such tokens off the prompt and lets the text begin with their bytes instead, in
whatever tokens the model prefers.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from constrain import checks
from constrain.arguments import check_count
from constrain.automaton import TokenAutomaton, check_automaton
from constrain.room import with_room
from constrain.vocabulary import Vocabulary
from grammars.grammar import Grammar

_MOST_KEPT: Final = 16
"""Beginnings whose automata are kept for each automaton, the latest."""


@dataclass(frozen=True, slots=True)
class Healed:
    """A prompt without its last tokens, and what takes their place.

    Attributes:
        prompt: the token ids that are left.
        automaton: of texts that begin with ``prefix``, and go on as the grammar says.
        prefix: the bytes of the tokens that were taken off; empty where there was nothing to heal.  They
            stand at the beginning of what is generated.
        taken: how many tokens were taken off.
    """

    prompt: list[int]
    automaton: TokenAutomaton
    prefix: bytes
    taken: int = 0

    def text(self, token_ids: Iterable[int]) -> bytes:
        """The bytes of generated tokens that the grammar is about: those behind ``prefix``.

        Args:
            token_ids: new tokens, EOS included or not; empty while they have not come so far.
        """
        return self.automaton.vocabulary.decode(token_ids)[len(self.prefix) :]


def heal(prompt: Sequence[int], automaton: TokenAutomaton, *, keep: int = 0) -> Healed:
    """Takes a prompt's last tokens back into the grammar.

    As many are taken as begin a token of the vocabulary that reaches into a text of the grammar: the
    longest such end of the prompt.  Where no token reaches across the border there is nothing to heal: the
    model could not have cut the text otherwise.  Special tokens stay, and all before them.

    Costs one walk over the vocabulary's trie for each of the last tokens that others begin with; where some
    are taken, compiling the grammar behind a literal (a few milliseconds and those of the grammar itself),
    once for all prompts that end alike, and the first masks of that automaton.

    Args:
        prompt: token ids of the automaton's vocabulary.
        automaton: of the text that is to follow.
        keep: how many tokens at the beginning stay (a model needs at least one).

    Raises:
        ValueError: for an id outside the vocabulary.
        GrammarError: where the grammar compares keys or items in a place that the text does not show.
    """
    check_automaton(automaton, "heal")
    check_count(keep, "keep", least=0)
    ids = [checks.integer(token, "a token id") for token in prompt]
    taken, text = _end_to_take(ids[keep:], automaton)
    if not taken:
        return Healed(ids, automaton, b"")
    return Healed(ids[:-taken], _automaton_behind(text, automaton), text, taken)


def healed_if(wanted: bool, ids: list[int], automaton: TokenAutomaton) -> Healed:
    """What :func:`heal` makes of a model's prompt, of which one token stays; or the prompt as it is."""
    return heal(ids, automaton, keep=1) if wanted else Healed(ids, automaton, b"")


def _end_to_take(ids: Sequence[int], automaton: TokenAutomaton) -> tuple[int, bytes]:
    """How many of the last tokens some token begins with that reaches into the grammar, and their text."""
    vocabulary, trie = automaton.vocabulary, automaton.trie
    longest = _longest_token(vocabulary)
    found, text = (0, b""), b""
    for count, token in enumerate(reversed(ids), 1):
        own = vocabulary.token_bytes(token)
        if not own or len(own) + len(text) >= longest:
            break
        text = own + text
        node = trie.longest_token(text)[2]
        if node >= 0 and _reaches(automaton, node):
            found = count, text
    return found


def _reaches(automaton: TokenAutomaton, node: int) -> bool:
    """Whether a token below a node of the trie goes on, behind it, as the grammar begins."""
    if int(automaton.trie.skip[node]) == node + 1:
        return False
    (ends, _, _), _ = with_room(
        automaton, automaton.start, lambda: (), lambda start: automaton.walk_from(start, node)
    )
    return bool((ends != node).any())


def _longest_token(vocabulary: Vocabulary) -> int:
    known = _lengths.get(vocabulary)
    if known is None:
        known = _lengths[vocabulary] = max(map(len, vocabulary.texts), default=0)
    return known


_lengths: weakref.WeakKeyDictionary[Vocabulary, int] = weakref.WeakKeyDictionary()
_known: weakref.WeakKeyDictionary[TokenAutomaton, OrderedDict[bytes, TokenAutomaton]] = (
    weakref.WeakKeyDictionary()
)
_lock: Final = threading.Lock()


def _automaton_behind(text: bytes, automaton: TokenAutomaton) -> TokenAutomaton:
    """The automaton of the same texts behind some bytes; the latest are kept."""
    with _lock:
        known = _known.setdefault(automaton, OrderedDict())
        made = known.get(text)
        if made is not None:
            known.move_to_end(text)
            return made
    grammar = Grammar.literal(text, limits=automaton.grammar.limits) + automaton.grammar
    made = TokenAutomaton(
        grammar, automaton.vocabulary, automaton.limits, canonical=automaton.is_canonical
    )
    with _lock:
        made = known.setdefault(text, made)
        if len(known) > _MOST_KEPT:
            known.popitem(last=False)
    return made
