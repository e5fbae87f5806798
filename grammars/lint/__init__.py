"""Findings about grammars that are valid and perhaps not meant."""
