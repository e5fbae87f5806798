"""A hidden Markov model of what a language model writes, and decoding that looks ahead with it."""

from __future__ import annotations

from samplers.deco_g.decoder import CtrlG, DecoG
from samplers.deco_g.hmm import HMM, TokenizerMismatch

__all__ = ["CtrlG", "DecoG", "HMM", "TokenizerMismatch"]
