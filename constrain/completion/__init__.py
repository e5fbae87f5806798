"""Fewest tokens, or bytes, to the end of a text."""
