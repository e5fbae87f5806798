"""Toy models and vocabularies for tests of everything that meets ``transformers``."""

from __future__ import annotations

from functools import cache

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from constrain import Vocabulary

PIECES = [
    *(bytes([value]) for value in b'{}[]",: \n0123456789-.etrufalsnbcdxyz'),
    *(b'{"', b'":', b'", "', b"true", b"false", b"null", b'"a": ', b"12", b"abc", b"\xc3\xa9"),
]
TOKENS: list[bytes | None] = [None, None, None, *PIECES]
BOS, EOS, PAD = 0, 1, 2


@cache
def vocabulary() -> Vocabulary:
    """48 tokens that can write JSON of few letters; ids 0 to 2 are special."""
    return Vocabulary.from_tokens(TOKENS, [EOS])


@cache
def model(seed: int = 0, rows: int = 64, layers: int = 2) -> LlamaForCausalLM:
    """A small random Llama with more rows than the vocabulary has tokens."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    made = LlamaForCausalLM(config).eval()
    made.generation_config.eos_token_id = EOS
    made.generation_config.pad_token_id = PAD
    return made


@cache
def tiny(seed: int, rows: int, eos: int) -> LlamaForCausalLM:
    """A model so small, and in float64, that the law of its texts can be enumerated."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=eos,
        initializer_range=0.25,
    )
    return LlamaForCausalLM(config).eval().double()
