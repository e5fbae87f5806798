"""The model's own law over some texts, exactly: each is scored, none is drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any, Literal, TypeVar, get_args, get_origin

import torch

from constrain.arguments import described
from constrain.huggingface.automata import vocabulary_for
from constrain.huggingface.loading import loaded
from constrain.huggingface.prompts import Messages, checked_ids, is_messages, prompt_ids, templated
from constrain.huggingface.token_trie import ROOT, NodeLogits, TokenTrie, logits_in_rows
from constrain.models import context_length
from constrain.vocabulary import Vocabulary
from grammars.errors import BudgetError

_Choice = TypeVar("_Choice", bound=Hashable)


class Chances(dict[_Choice, float]):
    """Probabilities of choices, which sum to one, in the order in which the choices were given.

    Attributes:
        logprobs: natural logarithms of the model's probabilities of the choices' texts, before they are
            normalised.
    """

    def __init__(self, logprobs: dict[_Choice, float]) -> None:
        top = max(logprobs.values())
        total = math.fsum(math.exp(value - top) for value in logprobs.values())
        super().__init__({k: math.exp(value - top) / total for k, value in logprobs.items()})
        self.logprobs = logprobs

    def __repr__(self) -> str:
        shares = ", ".join(f"{choice!r}: {share:.4g}" for choice, share in self.items())
        return f"Chances({{{shares}}}, mass={self.mass:.2g})"

    @property
    def best(self) -> _Choice:
        """The likeliest choice, the first among equals."""
        return max(self, key=self.__getitem__)

    @property
    def mass(self) -> float:
        """The model's probability that it writes any of the choices at all.

        Where it is small, the model would rather say something else: another prompt may be better.
        """
        return math.fsum(math.exp(value) for value in self.logprobs.values())


def choose(
    model: Any,
    tokenizer: Any,
    prompt: str | Sequence[int] | Messages,
    choices: Iterable[_Choice],
    *,
    ends: bool = True,
    logits: NodeLogits | None = None,
) -> Chances[_Choice]:
    """The probability distribution of a model over some choices, exact: scored, not sampled.

    P(choice) is proportional to the model's probability of writing, behind the prompt, the tokens in
    which the tokenizer writes the choice, and then an end.  So it is the model's own law given that it
    writes one of them, which a grammar of the choices does not give: masks renormalise token by token,
    and favour texts that begin with a likely token whatever follows.  Other ways of cutting a choice
    into tokens are left out.  Behind a prompt of text, the tokens are those of prompt and choice written
    together, where that leaves the prompt's as they are, else those of the choice alone.  A blank
    between prompt and choice must be in one of them: behind ``"Is water wet?"`` the choice is ``" yes"``.

    The choices' tokens make a trie of which each node is scored once, many in one forward.

    Args:
        model: a causal language model of ``transformers``, or the name of one, which is loaded once.
        tokenizer: its tokenizer; ``None`` with a name.
        prompt: text, token ids or chat messages (without a chat template: their contents on end).
        choices: texts, or what has a JSON text: numbers, booleans, ``None``; or members of an enumeration,
            taken for their values.  An ``Enum`` class or a ``Literal`` may be given as it is.
        ends: whether the end counts: ``False`` asks for the probability that the model's text *begins*
            with a choice.
        logits: how the model scores a trie; plain forwards over the prompt's cache by default.

    Returns:
        A dictionary from each choice to its probability; its ``mass`` is the model's probability of all
        of them together.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if there are no choices, two have the same text, the tokenizer cannot write one, all
            have the probability zero, or (without ``ends``) one begins with another.
        BudgetError: if prompt and a choice exceed the model's context.
    """
    model, tokenizer = loaded(model, tokenizer, "choose")
    texts = _texts_of(choices)
    if not ends:
        _refuse_beginnings(texts)
    vocabulary = vocabulary_for(tokenizer, model)
    spelling = _Spelling(model, tokenizer, prompt, vocabulary)
    trie = TokenTrie()
    nodes = {choice: trie.add(spelling.tokens(text)) for choice, text in texts.items()}
    _check_context(model, len(spelling.prompt), max(len(trie.path(n)) for n in nodes.values()))
    found = _log_probabilities(
        model, spelling.prompt, trie, vocabulary.eos_token_ids if ends else (), logits
    )
    logprobs = {choice: found[node] for choice, node in nodes.items()}
    if max(logprobs.values()) == -math.inf:
        raise ValueError("the model gives each of the choices the probability zero")
    return Chances(logprobs)


# -- choices and their texts -----------------------------------------------------------------------


def _texts_of(choices: Any) -> dict[Any, str]:
    """The text of each choice."""
    given = get_args(choices) if get_origin(choices) is Literal else choices
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"choices are texts, as ['yes', 'no'], not {described(choices)}")
    out: dict[Any, str] = {}
    whose: dict[str, Any] = {}
    for choice in given:
        text = _text_of(choice)
        if text in whose or choice in out:
            raise ValueError(f"the choice {choice!r} is there twice; each must be another text")
        out[choice] = text
        whose[text] = choice
    if not out:
        raise ValueError("there is nothing to choose from: choices are empty")
    return out


def _text_of(choice: Any) -> str:
    value = choice.value if isinstance(choice, Enum) else choice
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value, allow_nan=False)
    raise TypeError(f"a choice is a text, a number, a boolean or None, not {described(choice)}")


def _refuse_beginnings(texts: dict[Any, str]) -> None:
    """Refuses a text that begins with another one: both would count the same texts of the model."""
    ordered = sorted(texts.values())
    for one, following in pairwise(ordered):
        if following.startswith(one):
            raise ValueError(
                f"{following!r} begins with {one!r}, so that with ends=False a text of the model may "
                "count for both; leave ends=True, or give choices that end, as in 'yes.'"
            )


# -- tokens ----------------------------------------------------------------------------------------


class _Spelling:
    """How a tokenizer writes texts behind a prompt."""

    def __init__(self, model: Any, tokenizer: Any, prompt: Any, vocabulary: Vocabulary) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        if is_messages(prompt) and not getattr(tokenizer, "chat_template", None):
            prompt = "".join(f"{message['content']}\n\n" for message in prompt)
        self._text: str | None = prompt if isinstance(prompt, str) else None
        if is_messages(prompt):
            ids = templated(tokenizer, prompt)
        else:
            ids = prompt_ids(tokenizer, prompt)
        self.prompt = checked_ids(model, ids)

    def tokens(self, text: str) -> list[int]:
        """The ids of a text behind the prompt.

        Raises:
            ValueError: if the tokenizer does not write it in tokens whose text it is.
        """
        data = text.encode("utf-8")
        for ids in self._ways(text):
            if self._writes(ids, data):
                return ids
        raise ValueError(
            f"the tokenizer has no tokens whose text is {text!r}; it may change or drop characters, or "
            "take some for a special token"
        )

    def _ways(self, text: str) -> Iterable[list[int]]:
        yield []
        if self._text is not None:
            together = self._encoded(self._text + text, True)
            if together[: len(self.prompt)] == self.prompt:
                yield together[len(self.prompt) :]
        yield self._encoded(text, False)
        # some tokenizers put a blank before the first word of a text, but not within it
        line = self._encoded(f"\n{text}", False)
        yield from (line[i:] for i in range(1, len(line)) if self._writes(line[i - 1 : i], b"\n"))

    def _encoded(self, text: str, special: bool) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def _writes(self, ids: Sequence[int], data: bytes) -> bool:
        pieces = [self._vocabulary.token_bytes(token) for token in ids]
        return all(pieces) and b"".join(piece or b"" for piece in pieces) == data


def _check_context(model: Any, prompt: int, longest: int) -> None:
    context = context_length(model)
    if context is not None and prompt + longest > context:
        raise BudgetError(
            f"the prompt has {prompt:,} tokens and the longest choice {longest:,}, but the model's "
            f"context holds {context:,}; shorten the prompt",
            needed=prompt + longest,
            available=context,
        )


# -- probabilities ---------------------------------------------------------------------------------


def _log_probabilities(
    model: Any,
    prompt: Sequence[int],
    trie: TokenTrie,
    eos: Sequence[int],
    logits: NodeLogits | None,
) -> list[float]:
    """Natural logarithms of the probabilities of the texts that end at nodes, the end included if any."""
    steps, stops = [0.0] * len(trie), [0.0] * len(trie)
    wanted = [
        node
        for node in range(len(trie))
        if trie.children[node] or (len(eos) > 0 and trie.is_end[node])
    ]
    for node, row in (logits or logits_in_rows)(model, prompt, trie, wanted):
        row = row if row.dtype == torch.float64 else row.float()
        total = torch.logsumexp(row, -1)
        onward = trie.children[node]
        for child, step in zip(onward.values(), (row[list(onward)] - total).tolist(), strict=True):
            steps[child] = step
        if len(eos) and trie.is_end[node]:
            stops[node] = float(torch.logsumexp(row[list(eos)], -1) - total)
    for node in range(1, len(trie)):
        steps[node] += steps[trie.parents[node]] if trie.parents[node] != ROOT else 0.0
    return [step + stop for step, stop in zip(steps, stops, strict=True)]
