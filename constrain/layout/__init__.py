"""Rules, and indentation that opens and closes levels, token by token."""
