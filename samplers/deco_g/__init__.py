"""A hidden Markov model of what a language model writes, to look ahead with."""

from __future__ import annotations

from samplers.deco_g.hmm import HMM, TokenizerMismatch

__all__ = ["HMM", "TokenizerMismatch"]
