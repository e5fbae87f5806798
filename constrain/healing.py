"""Token healing: the prompt's last token becomes the first thing that the grammar asks for.

A prompt that ends within a word ends in a token that the model would not have written there
(``"http:"`` before ``//``, where ``://`` is one token), and what follows is drawn from odd places of the
distribution.  Healing takes that token off the prompt and lets the text begin with its bytes instead, in
whatever tokens the model prefers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constrain import checks
from constrain.automaton import TokenAutomaton, check_automaton
from grammars.grammar import Grammar


@dataclass(frozen=True, slots=True)
class Healed:
    """A prompt without its last token, and what takes its place.

    Attributes:
        prompt: the token ids that are left.
        automaton: of texts that begin with ``prefix``, and go on as the grammar says.
        prefix: the bytes of the token that was taken off; empty where there was nothing to heal.  They stand
            at the beginning of what is generated.
    """

    prompt: list[int]
    automaton: TokenAutomaton
    prefix: bytes


def heal(prompt: Sequence[int], automaton: TokenAutomaton) -> Healed:
    """Takes a prompt's last token back into the grammar.

    There is nothing to heal where the last token is special, or no token of the vocabulary is longer and
    begins with its text: the model could not have written another one.  Costs compiling the grammar
    behind a literal, a few milliseconds and those of the grammar itself; keep the result for prompts that
    end alike.

    Args:
        prompt: token ids of the automaton's vocabulary.
        automaton: of the text that is to follow.

    Raises:
        ValueError: for an id outside the vocabulary.
        GrammarError: where the grammar compares keys or items in a place that the text does not show.
    """
    check_automaton(automaton, "heal")
    ids = [checks.integer(token, "a token id") for token in prompt]
    vocabulary = automaton.vocabulary
    text = vocabulary.token_bytes(ids[-1]) if ids else None
    if not text:
        return Healed(ids, automaton, b"")
    trie = vocabulary.trie
    node = trie.longest_token(text)[2]
    if node < 0 or int(trie.skip[node]) == node + 1:
        return Healed(ids, automaton, b"")
    grammar = Grammar.literal(text, limits=automaton.grammar.limits) + automaton.grammar
    healed = TokenAutomaton(grammar, vocabulary, automaton.limits, canonical=automaton.is_canonical)
    return Healed(ids[:-1], healed, text)
