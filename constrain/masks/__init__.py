"""Masks: what states do with a vocabulary, walks that grammars share, positions inside tokens."""
