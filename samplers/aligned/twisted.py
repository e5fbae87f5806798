"""Particles under the mask, guided by what a trie knows of the future.

The mask after a prefix u leaves tokens that can be completed, likely or not.  A trie of rejection knows
more about some prefixes: how much of their mass is legal.  Both are one proposal here,

    q(a | u) = p(a | u) h(ua) / psi(u),    psi(u) = sum over the mask of p(a | u) h(ua),

with h a guess at Pr(valid | ua).  A particle's weight is the product of psi(ua) / h(ua) over its tokens,
times psi of the empty text, which is P / q whatever the guesses are: bad ones cost efficiency alone.

The trie's own bounds would be bad guesses: a prefix that it does not know has bound 1, so that its
proposals leave what is known, and the less likely they are legal the more.  Here what is not known is
guessed to be as good as what is known at the same depth, on average.

Source of the twisting: Guarniero, Johansen and Lee 2017, "The iterated auxiliary particle filter".
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any, Final

import numpy as np

from constrain.arrays import Int64
from samplers.aligned.particles import Particle, after
from samplers.aligned.trie import Node, Trie
from samplers.speculative.choices import Choices
from samplers.speculative.law import EmptyLaw, Law, Sampling, law_of
from samplers.speculative.target import Floats, Weighting

_LEAST: Final = 1e-300
"""What the grammar allows must stay possible, whatever was guessed."""


class Guesses:
    """Log h: a guess at the probability that a text that goes on so is valid.

    Args:
        trie: read once; what it learns later changes nothing.
    """

    def __init__(self, trie: Trie) -> None:
        self._ends = np.array(sorted(trie.automaton.vocabulary.eos_token_ids), np.int64)
        self._known: dict[Node, float] = {}
        self._usual: dict[int, float] = {}  # by tokens left, log of the mean over known prefixes
        levels: defaultdict[int, list[Node]] = defaultdict(list)
        for node in trie.nodes():
            levels[node.left].append(node)
        for left in sorted(levels):  # the deepest first
            values = [self._value(node) for node in levels[left]]
            self._known |= zip(levels[left], map(_log, values), strict=True)
            self._usual[left] = _log(math.fsum(values) / len(values))

    def after(self, node: Node | None, left: int, ids: Int64) -> Floats | None:
        """float64[k], of each allowed token after a prefix; ``None`` for 0 throughout.

        Args:
            node: the prefix, if the trie knew it.
            left: tokens that may follow it, EOS included.
            ids: the allowed tokens, ascending.
        """
        usual = self._usual.get(left - 1, 0.0)
        if not usual and (node is None or not node.visits):
            return None
        out = np.full(len(ids), usual)
        self._put(out, ids, self._ends, np.zeros(len(self._ends)))
        if node is not None and node.visits:
            tokens = np.fromiter(node.visits, np.int64, len(node.visits))
            self._put(out, ids, tokens, np.array([self._of(node, int(t)) for t in tokens]))
        return out

    def _put(self, out: Floats, ids: Int64, tokens: Int64, values: Floats) -> None:
        at = np.minimum(np.searchsorted(ids, tokens), len(ids) - 1)
        found = ids[at] == tokens
        out[at[found]] = values[found]

    def _of(self, node: Node, token: int) -> float:
        visit = node.visits[token]
        return _log(visit.theta) if visit.node is None else self._known.get(visit.node, 0.0)

    def _value(self, node: Node) -> float:
        """Mass of what may follow, each token times its guess."""
        met = sum(math.exp(v.logp + self._of(node, t)) for t, v in node.visits.items())
        return met + node.residual * math.exp(self._usual.get(node.left - 1, 0.0))


class Twisted:
    """The proposal of the module; nothing is learned while it is used.

    Args:
        trie: must not change meanwhile.
        sampling: the temperature.
    """

    def __init__(self, trie: Trie, sampling: Sampling) -> None:
        self.automaton = trie.automaton
        self._trie = trie
        self._sampling = sampling
        self._guesses = Guesses(trie)

    def begin(self) -> Particle:
        """The empty text."""
        return Particle((), self.automaton.start, node=self._trie.root)

    def weigh(self, particle: Particle, logits: Any, choices: Choices) -> Particle:
        """Multiplies the weight by psi."""
        left = self._trie.budget - len(particle.tokens)
        ids = self._trie.allowed_at(particle.state, particle.tokens)
        guesses = self._guesses.after(particle.node, left, ids)
        try:
            law = law_of(logits, Weighting(ids, guesses), self._sampling)
        except EmptyLaw:
            return replace(particle, state=self.automaton.DEAD, log_weight=-math.inf)
        psi = float(np.logaddexp.reduce(law.model if guesses is None else law.model + guesses))
        return replace(particle, log_weight=particle.log_weight + psi, law=law)

    def draw(self, particle: Particle, choices: Choices) -> Particle:
        """Draws a token, and divides the weight by its guess."""
        law = particle.law
        assert law is not None
        index = choices.pick(law.weights)
        token = law.token(index)
        visit = None if particle.node is None else particle.node.visits.get(token)
        return Particle(
            (*particle.tokens, token),
            after(self.automaton, particle, token),
            particle.log_weight - self._guess(particle, law, index),
            (*particle.logprobs, float(law.model[index])),
            (*particle.drawn, float(law.constrained[index])),
            None if visit is None else visit.node,
        )

    def _guess(self, particle: Particle, law: Law, index: int) -> float:
        left = self._trie.budget - len(particle.tokens)
        assert law.ids is not None
        guesses = self._guesses.after(particle.node, left, law.ids[index : index + 1])
        return 0.0 if guesses is None else float(guesses[0])


def _log(value: float) -> float:
    return math.log(max(value, _LEAST))
