"""Indentation that opens and closes levels: widths beside the rules, in plain Python."""
